/*
 * sidecar/http/message.h - one request and its response on one side, whatever the HTTP version.
 *
 * Shape       A message is one exchange of a request for a response on a connection: a whole h1 connection for the
 *             time of one request, or one h2 stream.  Downstream (we are the server) the request comes in and
 *             the response goes out; upstream (we are the client) the other way round.
 * Two halves  in:  on_head, on_body*, on_end           out: send_head, send_body*, send_end
 *             1xx responses: on_head / send_head with status < 200 and end == false, any number before the
 *             final one.
 * Owned by    The connection (struct message is embedded in it or in its stream slab).  The exchange holds a
 *             pointer from message creation until message_release(), which it calls exactly once.
 * Calls back  Only from within engine_turn().  Any callback may call any function of this header and may
 *             release any message.  After release no more events come, and the pointer is dead.
 * Ends when   Both halves have ended, or on_error was called (no more events follow, release is still due), or
 *             it is released early: then the connection aborts what is open (h1: the connection closes;
 *             h2: RST_STREAM) and, where both halves had ended, keeps itself for the next message.
 * Flow        Inbound body bytes are granted back by message_consume() when they have been sent on (or dropped).
 *             A connection delivers at most its window (h1: MESSAGE_WINDOW, h2: the stream window) of bytes not
 *             yet consumed, so a slow receiver stops a fast sender; what a consumer must hold is bounded
 *             by the window.  Outbound bytes are reported by on_sent when the kernel has taken them.
 *             A pipe is delivered alone and whole, however long it is: one at a time.
 *             The relay is therefore: on_body -> send_body on the other side -> on_sent there -> consume here.
 * Heads       A head passed to on_head is valid until the message is released (the connection keeps the bytes),
 *             for both the request downstream and the last response upstream; so are trailers.  A 1xx
 *             head is valid within its on_head.  A head passed to send_head is encoded before send_head returns.
 * Encoding    send_head writes method/path/authority/scheme or status/reason as given, every field that has
 *             no HTTP_FIELD_DROP, and the framing by itself from head->body and head->body_len: Content-Length,
 *             Transfer-Encoding, Connection, Host (from ->authority) in ->fields are skipped, never copied.  One
 *             exception: a response to HEAD and a 304 have no body, and there Content-Length of ->fields goes
 *             out, unless ->body is HTTP_BODY_LENGTH.  A response with ->keep_alive false closes its h1
 *             connection.  ->upgrade lets Upgrade out, ->te_trailers says TE: trailers.
 * Tunnel      With HTTP_BODY_TUNNEL in a response both halves (re)open: what was ended by the head of the request goes
 *             on as raw bytes until on_end and send_end, which are FIN.
 */
#ifndef RHC_SIDECAR_HTTP_MESSAGE_H
#define RHC_SIDECAR_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/http.h"
#include "sidecar/base/buf.h"

enum { MESSAGE_WINDOW = 4 * BUF_LARGE_SIZE };

/* Why a message or a connection failed.  The exchange maps these to its error table. */
enum message_error {
	MESSAGE_OK,
	MESSAGE_E_RESET, /* connection reset or closed by the peer; RST_STREAM */
	MESSAGE_E_EOF, /* closed in an orderly way before a response byte */
	MESSAGE_E_INCOMPLETE, /* closed within the body: short Content-Length, no last chunk, no END_STREAM */
	MESSAGE_E_PROTOCOL, /* the peer broke the protocol; ->http_error says how */
	MESSAGE_E_HEAD_TOO_LARGE,
	MESSAGE_E_REFUSED, /* h2 REFUSED_STREAM, GOAWAY below our id: surely unprocessed */
	MESSAGE_E_HTTP_1_1_REQUIRED,
	MESSAGE_E_TLS, /* a TLS alert or a bad record in mid-connection */
	MESSAGE_E_OVERLOAD, /* no buffer or slab on our side */
	MESSAGE_E_TIMEOUT, /* the connection's own: header_timeout downstream, h2 ping upstream */
};

struct message;
struct http_conn;

struct message_events {
	/*
	 * end: no body follows, on_end will not be called.  Downstream this is the first event of a message.
	 * After head->body == HTTP_BODY_TUNNEL the body goes on until on_end, raw.
	 */
	void (*on_head)(struct message *m, struct http_head *h, bool end);
	void (*on_body)(struct message *m, struct slice data); /* takes data; n >= 1 */
	void (*on_end)(struct message *m, struct http_head *trailers); /* trailers: NULL or with n_fields > 0 */
	void (*on_sent)(struct message *m, uint32_t body_bytes, bool all); /* all: the whole out half has left */
	/*
	 * unprocessed: the peer has not acted on the request: not a byte of it left, or the peer said so, or a reused
	 * connection turned out to have been closed before the request came, see http_conn_was_stale().
	 */
	void (*on_error)(struct message *m, enum message_error err, bool unprocessed);
};

struct message_ops {
	int (*send_head)(struct message *m, const struct http_head *h, bool end);
	void (*send_body)(struct message *m, struct slice data);
	void (*send_end)(struct message *m, const struct http_head *trailers);
	void (*consume)(struct message *m, uint32_t n);
	void (*release)(struct message *m);
	/* NULL: never.  out is of the same ops, or NULL */
	void (*pipe)(struct message *in, struct message *out);
};

struct message {
	uint32_t                     magic;
	uint16_t                     http_error; /* enum http_error with MESSAGE_E_PROTOCOL */
	uint8_t                      version; /* enum http_version of the connection */
	bool                         reused : 1; /* not the first message of its connection */
	bool                         in_ended : 1; /* on_end (or on_head with end) was delivered */
	bool                         out_head : 1; /* the final head was sent */
	bool                         out_ended : 1; /* send_end (or send_head with end) was called */
	bool                         in_started : 1; /* a byte of the inbound head came */
	bool                         out_left : 1; /* a byte of the outbound half may have left this process */
	const struct message_ops    *ops;
	const struct message_events *ev;
	void                        *owner; /* the exchange; set by whoever sets ev */
	struct http_conn            *conn;
	uint32_t                     out_unsent; /* body bytes given to send_body, not yet reported */
	uint64_t                     in_bytes; /* body bytes delivered */
	uint64_t                     out_bytes; /* body bytes given to send_body */
	uint64_t                     left_ns; /* client: when the head of the request left, valid with ->out_left */
};

/*
 * 0, -ENOBUFS when the head cannot be stored now (the message fails, nothing was sent), -E2BIG when the head
 * is larger than a send buffer (BUF_LARGE_SIZE), -EINVAL when a string of it may not stand in a head.
 * A connection that is ending already says 0, and on_error comes.
 */
static inline int message_send_head(struct message *m, const struct http_head *h, bool end)
{
	return m->ops->send_head(m, h, end);
}
/* Takes data.  Not more than what the other side's window allows. */
static inline void message_send_body(struct message *m, struct slice data)
{
	m->ops->send_body(m, data);
}
/* trailers may be NULL; they are dropped where the peer or the framing does not carry them. */
static inline void message_send_end(struct message *m, const struct http_head *trailers)
{
	m->ops->send_end(m, trailers);
}
static inline void message_consume(struct message *m, uint32_t n)
{
	m->ops->consume(m, n);
}
static inline void message_release(struct message *m)
{
	m->ops->release(m);
}

/*
 * From now on all body bytes of in go to out, or are dropped: where both connections are plain HTTP/1.1 and enough is
 * left, on_body may bring pipes (sidecar/base/pipe.h), which send_body of out passes on without reading them.  out's head
 * was sent.  NULL: not any more; one pipe may yet come.  Asking is always right, and cheap.
 */
static inline void message_pipe(struct message *in, struct message *out)
{
	if (in->ops->pipe && (!out || out->ops == in->ops))
		in->ops->pipe(in, out);
}

const char *message_error_text(enum message_error err);

#endif
