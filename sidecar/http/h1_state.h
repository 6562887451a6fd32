/*
 * sidecar/http/h1_state.h - what a connection needs to speak HTTP/1.1; embedded in struct
 * http_conn.
 *
 * Shape     The one message of the connection, its two halves' codec state, and the receive queue:
 *           bytes that came and could not go on yet (a pipelined request, a body beyond the
 *           window).
 * Owns      References to receive buffers in ->rx, the head store(s) while a message lives.
 * Owned by  struct http_conn; only h1_conn.c looks inside.
 * Idle      Between messages nothing is owned: no buffer, no store, no queue.
 * Bounds    ->rx holds at most H1_RX_SLICES buffers: receiving stops before the queue is full.
 */
#ifndef RHC_SIDECAR_HTTP_H1_STATE_H
#define RHC_SIDECAR_HTTP_H1_STATE_H

#include "proto/h1.h"
#include "sidecar/http/message.h"
#include "sidecar/io/engine.h"

struct http_head_store;

/*
 * One buffer may come after the brake was pulled, and TLS may deliver the records it has decrypted
 * already.
 */
enum { H1_RX_SLICES = 10, H1_RX_STOP = 4 };

/* The inbound half. */
enum h1_in {
	H1_IN_IDLE, /* between messages; client: no request was sent yet */
	H1_IN_HEAD, /* server: a byte of a head came; client: a response is awaited */
	H1_IN_BODY,
	H1_IN_TRAILERS,
	H1_IN_DONE, /* ended; what comes now is of the next message */
	H1_IN_DEAD, /* the connection ends: what comes is dropped */
};

struct h1_state {
	struct message          m;
	struct http_head_store *store; /* head of the live (or arriving) message */
	struct http_head_store *trailers; /* rare: a trailer section */
	struct slice           *rx; /* of ->rx_slab: H1_RX_SLICES of them while there are any, else NULL */
	struct h1_scan          scan;
	struct h1_body          body;
	uint64_t                out_left; /* of a Content-Length body */
	struct engine_deferred  later; /* h1_pump() and reports at the end of the turn */
	uint32_t                unconsumed; /* body bytes delivered, not yet consumed */
	uint32_t                drained; /* bytes dropped after the release */
	uint16_t                interims; /* 1xx responses seen for this request */
	uint8_t                 n_rx;
	uint8_t                 in; /* enum h1_in */
	uint8_t                 out_framing; /* enum h1_framing */
	uint8_t                 asked; /* enum http_method of the request */
	uint8_t                 peer_version; /* server: enum http_version of the request */
	uint8_t                 eof_err; /* enum stream_error */
	bool                    live : 1; /* the message is not yet released */
	bool                    told : 1; /* on_error was called */
	bool                    all_told : 1; /* on_sent with all was called */
	bool                    keep_alive : 1; /* both sides agree so far */
	bool                    te_trailers : 1; /* server: the client accepts trailers */
	bool                    expects : 1; /* server: waits for 100 and has not got it */
	bool                    tunnel : 1; /* bytes both ways from now on */
	bool                    tunnel_open : 1; /* the inbound half has become the tunnel's */
	bool                    tunnel_asked : 1; /* client: Upgrade or CONNECT was sent */
	bool                    eof : 1; /* the peer sends no more */
	bool                    pumping : 1; /* h1_pump() runs and will see every change */
	bool                    draining : 1; /* released; the rest of the body is dropped */
	bool                    lingering : 1; /* FIN sent; reading what is left, then close */
	bool                    patient : 1; /* lingering was prolonged once */
	bool                    piped : 1; /* body bytes may come in pipes */
	bool                    want : 1, large : 1; /* what stream_want() was told */
};

#endif
