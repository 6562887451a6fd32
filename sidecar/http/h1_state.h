/*
 * sidecar/http/h1_state.h - what a connection needs to speak HTTP/1.1; embedded in struct http_conn.
 *
 * Shape     The one message of the connection, its two halves' codec state, and the receive queue: bytes that came
 *           and could not go on yet (a pipelined request, a body beyond the window).
 * Owns      References to receive buffers in ->rx, the head store(s) while a message lives.
 * Owned by  struct http_conn; only h1_conn.c looks inside.
 * Idle      Between messages nothing is owned: no buffer, no store.
 * Bounds    ->rx holds at most H1_RX_SLICES buffers: receiving stops before the queue is full.
 */
#ifndef RHC_SIDECAR_HTTP_H1_STATE_H
#define RHC_SIDECAR_HTTP_H1_STATE_H

#include "proto/h1.h"
#include "sidecar/http/message.h"

struct http_head_store;

/*
 * A receive that was armed when the queue became full still delivers (one plain buffer, or the records of one
 * TLS read), so the brake is pulled at H1_RX_STOP.
 */
enum { H1_RX_SLICES = 12, H1_RX_STOP = 4 };

/* The inbound half. */
enum h1_in {
	H1_IN_IDLE, /* between messages: nothing of a head came */
	H1_IN_HEAD, /* collecting a head */
	H1_IN_BODY,
	H1_IN_TRAILERS,
	H1_IN_DONE, /* ended; what comes now is of the next message */
	H1_IN_DEAD, /* an error was told: what comes is dropped */
};

struct h1_state {
	struct message          m;
	struct http_head_store *store; /* head of the live (or arriving) message */
	struct http_head_store *trailers; /* rare: a trailer section being collected */
	struct slice            rx[H1_RX_SLICES];
	struct h1_scan          scan;
	struct h1_body          body;
	uint32_t                unconsumed; /* body bytes delivered, not yet consumed */
	uint32_t                head_left; /* bytes written before the next body byte that on_sent will report */
	uint32_t                drained; /* body bytes dropped after the release */
	uint32_t                out_pending; /* bytes queued and not yet reported, framing included */
	uint64_t                out_left; /* of a Content-Length body */
	uint16_t                interims; /* 1xx responses seen for this request */
	uint8_t                 n_rx;
	uint8_t                 in; /* enum h1_in */
	uint8_t                 out_framing; /* enum h1_framing */
	uint8_t                 asked; /* enum http_method of the request */
	uint8_t                 peer_version; /* server: enum http_version of the request */
	bool                    live : 1; /* the keeper or exchange has the message */
	bool                    keep_alive : 1; /* both sides agree so far */
	bool                    te_trailers : 1; /* the requester accepts trailers */
	bool                    tunnel : 1; /* bytes both ways from now on */
	bool                    tunnel_asked : 1; /* client: Upgrade or CONNECT was sent */
	bool                    eof : 1; /* the peer sends no more */
	bool                    out_broken : 1; /* nothing can be sent any more */
	bool                    pumping : 1; /* h1_pump() is running: callbacks only mark work */
	bool                    again : 1;
	bool                    lingering : 1; /* answered and shut; reading what is left, then close */
	bool                    released : 1; /* the exchange let go, the outbound half still drains */
};

#endif
