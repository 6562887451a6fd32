/*
 * sidecar/http/h1_conn.h - a connection that speaks HTTP/1.1: one message at a time.
 *
 * Shape       The state is struct h1_state within struct http_conn.  Bytes that came wait in ->rx;
 *             h1_pump() moves them through head, body and trailers into the events of the message
 *             as far as its window allows.
 * Owned by    conn.c, which calls what is below once the version is known.
 * Server      The next request of a pipeline is looked at when the one before it was released.
 *             What is malformed is answered here (400, 408, 414, 431, 501, 503, 505 with
 *             problem+json) and never becomes a message.
 * Client      A connection serves again when both halves ended, the response said so, and nothing
 *             came behind it.
 * Half-close  A client may send FIN behind its request and still gets its answer, unless limits->fin_aborts.
 * Early end   A message released before its request body was read: the rest is read and dropped up
 *             to H1_DRAIN_MAX bytes and H1_DRAIN_NS; beyond that, and where the connection closes
 *             anyway, FIN is sent and what comes is dropped up to H1_LINGER_MAX and for as long
 *             again, so that RST does not overtake the answer.
 * Calls back  From within engine_turn().  h1_pump() is not entered twice: a callback that changes
 *             something is seen by the running one, and elsewhere it is deferred to the end of the
 *             turn.
 * Bounds      H1_RX_SLICES buffers, one head store (and one for trailers), MESSAGE_WINDOW bytes not
 *             consumed, H1_INTERIMS_MAX 1xx responses per request.
 */
#ifndef RHC_SIDECAR_HTTP_H1_CONN_H
#define RHC_SIDECAR_HTTP_H1_CONN_H

#include "sidecar/http/conn.h"

enum {
	H1_INTERIMS_MAX = 16,
	H1_DRAIN_MAX = 256 * 1024, /* of a body, so that the connection can stay */
	H1_LINGER_MAX = 2 * 1024 * 1024, /* behind FIN: who sends more gets RST */
};
enum {
	H1_PIPE_MIN = 128 * 1024, /* left of a body for pipes to pay */
	H1_PIPE_LAST = BUF_SMALL_SIZE, /* a rest below it is copied */
};
#define H1_DRAIN_NS NS_PER_S

void h1_conn_start(struct http_conn *c); /* the version is HTTP/1.x */
void h1_conn_data(struct http_conn *c, struct slice s); /* takes s */
void h1_conn_eof(struct http_conn *c, enum stream_error err);
void h1_conn_sent(struct http_conn *c);
void h1_conn_timeout(struct http_conn *c); /* c->timer fired, the connection is not closing */
void h1_conn_drain(struct http_conn *c);
/* Client, ready, no message active. */
struct message *h1_conn_message(struct http_conn *c, const struct message_events *ev, void *owner);

/* The connection begins to close: nothing more is read or written. */
void h1_conn_dead(struct http_conn *c);
/*
 * The stream is closed: tells on_error if that is due; then http_conn_finish(), now or with the
 * release.
 */
void h1_conn_gone(struct http_conn *c);

#endif
