/*
 * sidecar/http/conn.h - connections that carry messages: HTTP/1.1 and HTTP/2, as client and as server.
 *
 * Shape       struct http_conn holds the byte stream and the h1 state (small: an idle h1 connection is nothing else); a
 *             connection that turns out to speak h2 gets a struct h2_conn beside it.  The version is decided by ALPN
 *             (TLS), by configuration (prior knowledge), or downstream by the first bytes (the h2 preface).
 * Owns        The byte stream, the codec state, its messages and the heads' memory while a message lives.
 * Owned by    The slabs of the worker (struct http_env); the pool (upstream) or the listener (downstream) keeps
 *             the pointer until on_closed.
 * Calls back  Only from within engine_turn().
 * Ends when   on_closed was called; the pointer is dead then.  Every message has been told before (on_error)
 *             or released.
 * Idle        An idle connection holds no buffer; its receive stays armed, so its death is noticed.  An idle
 *             downstream h1 connection owns struct http_conn and nothing else.
 * Limits      struct http_limits, from the configuration.
 */
#ifndef RHC_SIDECAR_HTTP_CONN_H
#define RHC_SIDECAR_HTTP_CONN_H

#include "sidecar/base/list.h"
#include "sidecar/base/slab.h"
#include "sidecar/http/h1_state.h"
#include "sidecar/http/message.h"
#include "sidecar/io/sock.h"
#include "sidecar/io/stream.h"
#include "sidecar/io/timer.h"

struct http_limits {
	uint32_t head_max; /* bytes of one head, <= 64 KiB */
	uint32_t target_max; /* bytes of a request target, RFC 9112 §3 asks for >= 8000 */
	uint32_t streams_max; /* h2: concurrent streams we allow (server) or open (client) */
	uint32_t requests_max; /* messages per connection, 0 = unlimited */
	uint64_t header_timeout_ns; /* server: from the first byte to the whole head */
	uint64_t idle_timeout_ns; /* server: without a message; client: in the pool */
	uint64_t ping_interval_ns; /* h2 client: PING when nothing arrived for so long, 0 = off */
	uint64_t ping_timeout_ns;
	uint32_t h2_window; /* stream window; the connection's is four times that */
	/*
	 * server, h1: FIN before the whole answer has left is a caller that gave up, and its message fails.  Who closes a
	 * socket and who shuts down one half of it look the same on the wire; callers that run into their timeout
	 * are many, and a call for nobody holds a slot.  false: the answer is sent all the same.
	 */
	bool fin_aborts;
	const char *proxy_name; /* server, h1: us in the Proxy-Status of answers of its own; NULL: they have none */
};

enum { HTTP_REFUSAL_MAX = 768 };

/*
 * The answer to who gets no exchange, in the form of all our own (RFC 9457, RFC 9209), with `Connection: close`.  problem and
 * title are literals of ours: nothing of a request is echoed.  Returns its length.
 */
uint32_t http_refusal(char out[HTTP_REFUSAL_MAX], const struct http_limits *limits, uint16_t status,
                      const char *problem, const char *title);

/* What all connections of a worker share. */
struct http_env {
	struct stream_env   stream;
	struct timer_wheel *timers;
	struct slab        *conn_slab; /* struct http_conn: every connection, h1 state inside */
	struct slab        *h2_slab; /* struct h2_conn: the session of a connection that speaks h2 */
	struct slab        *h2_stream_slab; /* one per h2 stream */
	struct slab        *head_slab; /* struct http_head_store, taken while a message lives */
	struct slab        *rx_slab; /* h1: the queue of what came and was not taken yet */
};

/* A head with its memory: fields, and a linear area for heads that straddle buffers or come from HPACK. */
struct http_head_store {
	struct http_head  head;
	struct http_field fields[HTTP_FIELDS_MAX];
	struct buf       *buf; /* what the strings point into: a receive buffer or a linear one */
	char             *big; /* a head larger than BUF_LARGE_SIZE: malloc'ed, the one exception, bounded by head_max */
	uint32_t          used; /* bytes used of buf or big */
};

enum http_role { HTTP_CLIENT, HTTP_SERVER };

/* Events of a connection towards its keeper: the pool (client) or the listener (server). */
struct http_conn_events {
	/* client: connected, TLS and ALPN done, ready for messages; server: the first bytes came, ->version is known */
	void (*on_ready)(struct http_conn *c);
	/* client: a message was released and the connection can take (another) one, or its capacity changed */
	void (*on_capacity)(struct http_conn *c);
	/* client: will take no new messages (GOAWAY, Connection: close, requests_max); still has some */
	void (*on_draining)(struct http_conn *c);
	/*
	 * server: a new message; set m->ev and m->owner now (on_head follows at once), or leave m->ev NULL to have
	 * the connection answer 503 by itself.
	 */
	void (*on_message)(struct http_conn *c, struct message *m);
	/*
	 * server: the connection answered by itself, what came never became a message (or e == HTTP_OK: nobody took
	 * the message, or no memory for it: 503; too slow: 408).  It closes then.  May be NULL.
	 */
	void (*on_refused)(struct http_conn *c, uint16_t status, enum http_error e);
	/* the last event.  err and text say why, when it never became ready or broke */
	void (*on_closed)(struct http_conn *c, enum stream_error err, const char *text);
};

struct http_conn {
	uint32_t                       magic;
	uint8_t                        role; /* enum http_role */
	uint8_t                        version; /* enum http_version, 0 until known */
	bool                           ready : 1;
	bool                           draining : 1;
	bool                           closing : 1;
	bool                           gone : 1; /* the stream is closed; waits for the release of a message */
	uint8_t                        err; /* enum stream_error, of on_closed */
	const struct http_conn_events *ev;
	void                          *owner; /* pool or listener */
	struct http_env               *env;
	const struct http_limits      *limits;
	struct list_node               node; /* the keeper's: idle/busy lists */
	uint32_t                       active; /* messages not yet released */
	uint32_t                       capacity; /* client: how many messages it may carry at once now */
	uint64_t                       served; /* messages so far */
	uint64_t                       opened_ns; /* when connect began or accept returned */
	uint64_t                       ready_ns;
	uint64_t                       idle_since_ns;
	uint16_t                       endpoint; /* the keeper's: index of the address */
	uint8_t                        mode; /* enum http_client_mode */
	uint8_t                        preface; /* server: bytes of the h2 preface seen while that is open */
	struct timer                   timer; /* header, idle and ping timeouts: one at a time */
	struct stream                  stream;
	const char                    *why; /* static: why this side ended it, for on_closed */
	struct h2_conn                *h2; /* NULL: h1 */
	struct h1_state                h1; /* sidecar/http/h1_state.h: codec state and the one message */
};

/* What an idle HTTP/1.1 connection costs: this, four bytes of its slab and, on epoll, 32 of the engine. */
enum { HTTP_CONN_IDLE_MAX = 704 };
_Static_assert(sizeof(struct http_conn) <= HTTP_CONN_IDLE_MAX, "an idle connection owns this and nothing else");

enum http_client_mode {
	HTTP_CLIENT_AUTO, /* ALPN: h2 if chosen, else h1 */
	HTTP_CLIENT_H1,
	HTTP_CLIENT_H2_PRIOR,
	/*
	 * No HTTP at all: its one message is a tunnel from send_head on, which sends nothing itself (for CONNECT, RFC
	 * 9110 §9.3.6).
	 */
	HTTP_CLIENT_RAW,
};

struct http_client_options {
	const struct sockaddr *addr;
	socklen_t              addr_len;
	struct tls_policy     *tls; /* NULL: plain */
	const char            *server_name; /* kept by the caller while the connection lives */
	const struct sock_opts *sock; /* NULL: TCP_NODELAY alone */
	enum http_client_mode  mode;
	const struct http_limits      *limits; /* kept by the caller while the connection lives */
	const struct http_conn_events *ev;
	void                  *owner;
};

/* Begin to connect.  0, -ENOBUFS (slab empty), or the -errno of the socket.  No callback from within. */
int http_client_open(struct http_env *env, const struct http_client_options *o, struct http_conn **ret);

/*
 * Begin a message on a ready client connection with capacity left (asserted: active < capacity).
 * NULL when a slab is empty.
 */
struct message *http_client_message(struct http_conn *c, const struct message_events *ev, void *owner);

/* Who is at the other end.  0 or -errno; a system call, so not for every message. */
int http_conn_peer(const struct http_conn *c, struct sock_addr *ret);

/* Serve an accepted socket.  On failure the descriptor is closed.  0 or -ENOBUFS. */
int http_server_open(struct http_env *env, int fd, const struct http_limits *limits, const struct http_conn_events *ev,
                     void *owner, struct http_conn **ret);

/* No new messages (server: Connection: close / GOAWAY); closes by itself when the last one is released. */
void http_conn_drain(struct http_conn *c);
/* Close now; open messages get on_error(MESSAGE_E_RESET).  on_closed follows in a later turn. */
void http_conn_abort(struct http_conn *c);

/* --- for h1_*.c and h2_*.c --- */

/* How long after its request a kept connection may end and still have been closed before it, beside two round trips. */
#define HTTP_STALE_NS     (UINT64_C(50) * NS_PER_MS)
#define HTTP_STALE_MAX_NS NS_PER_S

/*
 * A connection that ends before a byte of the response: had the peer closed it before our request came?  Then it says so
 * within a round trip, of which connecting took one at least.  Who ends it later may have died of the request, or with it
 * half done.  Only a message that is not the first one of its connection can meet this.
 */
bool http_conn_was_stale(const struct http_conn *c, const struct message *m);

/* How long queued bytes may take to leave once the connection closes. */
#define HTTP_CLOSE_NS (UINT64_C(5) * NS_PER_S)

/* Orderly end, sending what is queued.  A connection that closes already stays as it is. */
void http_conn_close(struct http_conn *c, const char *why);
/* At once, with RST. */
void http_conn_reset(struct http_conn *c, const char *why);
/* The stream is closed and no message is left: tells on_closed and frees c. */
void http_conn_finish(struct http_conn *c);

#endif
