/*
 * sidecar/http/h2_conn.h - a connection that speaks HTTP/2: many messages, one byte stream.
 *
 * Shape       struct h2_conn, beside struct http_conn, holds the codec session, the order of what
 *             was queued and the connection's deadlines; struct h2_msg is one stream and its
 *             message.
 * Owns        Its streams, their heads' memory, the queued body slices, the session.
 * Owned by    conn.c, which calls what is below; ->h2 and ->version are set by h2_conn_start().
 * Division    conn.c: connecting, ALPN and preface detection, on_ready, ->closing, the byte
 *             stream's events.  Here, once started: ->active, ->served, ->capacity, ->timer,
 *             ->idle_since_ns, stream_want(), on_capacity, on_draining, on_message, and the
 *             decision to close (http_conn_close(), http_conn_reset()).
 * Calls back  Message events and connection events, only from within engine_turn().
 * Order       All frames of a turn leave in one send: calls mark the session, a deferred pump runs
 *             at the turn's end.
 * Flow        The connection window is given back at receipt, the stream window by
 *             message_consume(): a slow receiver of one stream does not stall the others.  Held at
 *             most: streams_max x h2_window. Small DATA for a slow receiver is gathered, so that a
 *             byte does not pin a buffer.
 * Bounds      H2_QUEUE_MAX bytes of frames in the byte stream; nothing is read while replies pile
 *             up (a peer that does not read gets no work done); streams are counted until released,
 *             not until reset.
 * Ends        A session that failed, and every one of a server, says GOAWAY and FIN, and what still
 *             comes is dropped, H2_LINGER_MAX bytes or a second, before RST: a plain close would
 *             turn bytes in flight into RST, which may overtake GOAWAY and the end of an answer,
 *             or leave a peer that still sends before a window that stays shut.
 * Drain       Server: GOAWAY with the highest id, a PING, and on its return the final GOAWAY; then
 *             the connection closes with its last message.  Client: no new messages, closes with
 *             the last.
 */
#ifndef RHC_SIDECAR_HTTP_H2_CONN_H
#define RHC_SIDECAR_HTTP_H2_CONN_H

#include <stddef.h>

#include "sidecar/http/conn.h"

enum {
	H2_QUEUE_MAX = 64 * 1024, /* bytes in the byte stream beyond which the pump waits */
	H2_CONN_NOTSENT_MAX = 128 * 1024, /* bytes a client leaves to the kernel unsent */
	H2_LINGER_MAX = 2 * 1024 * 1024, /* bytes dropped behind FIN: who sends more gets RST */
	H2_CONN_WINDOW_FACTOR = 4, /* connection window in stream windows */
	H2_CONN_WINDOW_MAX = 512 * 1024, /* a stream window: bounds a message's slices */
};

extern const size_t h2_conn_size; /* of an object of env->h2_slab */
extern const size_t h2_stream_size; /* of an object of env->h2_stream_slab */

/*
 * Begin to speak HTTP/2 on an open stream.  Client: after ALPN or by prior knowledge; on 0 the
 * connection has its capacity and is ready, the caller tells on_ready.  Server: bytes given to
 * h2_conn_data() begin with the whole preface.  0, -ENOBUFS (slab empty) or -ENOMEM: nothing was
 * started, the caller closes.
 */
int h2_conn_start(struct http_conn *c);

void h2_conn_data(struct http_conn *c, struct slice s); /* takes s */
void h2_conn_eof(struct http_conn *c, enum stream_error err);
void h2_conn_sent(struct http_conn *c, uint32_t n); /* stream on_sent */

/* Client, c->active < c->capacity.  NULL when a slab is empty. */
struct message *h2_conn_message(struct http_conn *c, const struct message_events *ev, void *owner);

void h2_conn_drain(struct http_conn *c);
void h2_conn_abort(struct http_conn *c); /* RST; open messages get on_error(MESSAGE_E_RESET) */
void h2_conn_timeout(struct http_conn *c); /* c->timer fired */

/*
 * The byte stream is closed.  Messages that are open get on_error; the session goes.
 * http_conn_finish() is called from here, or with the release of the last message.
 */
void h2_conn_free(struct http_conn *c);

/*
 * Why this side ended the connection ("ping timeout", "flood of frames"), or NULL; for on_closed's
 * text.
 */
const char *h2_conn_failure(const struct http_conn *c);

#endif
