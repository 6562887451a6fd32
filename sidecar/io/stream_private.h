/*
 * sidecar/io/stream_private.h - what stream*.c share; nobody else includes it.
 *
 * States   NEW -> CONNECTING -> [HANDSHAKE ->] OPEN -> CLOSING -> JOINING -> CLOSED, and from
 *          everywhere to CLOSING or JOINING.  CLOSING sends what is queued.  JOINING waits for the
 *          operations in flight.
 * Work     One deferred function per stream, stream_work(), does all that is due at the end of a
 *          turn: encrypt, send, FIN, tell a failure, deliver what was held back, arm the receive.
 *          Whatever changes something only kicks it.  on_closed comes from there or from the last
 *          completion, and always last, so a stream is still there after every other callback; only
 *          its state may have changed.
 */
#ifndef RHC_SIDECAR_IO_STREAM_PRIVATE_H
#define RHC_SIDECAR_IO_STREAM_PRIVATE_H

#include "sidecar/io/stream.h"
#include "sidecar/io/tls.h"

enum { STREAM_MAGIC = 0x5354524d };

enum stream_state {
	STREAM_NEW,
	STREAM_CONNECTING,
	STREAM_HANDSHAKE,
	STREAM_OPEN,
	STREAM_CLOSING,
	STREAM_JOINING,
	STREAM_CLOSED,
};

struct stream_tls {
	struct tls_session t;
	struct tls_policy *policy;
	const char        *server_name; /* the caller's, until the handshake begins */
	struct txlist      out; /* ciphertext */
	struct buf        *in; /* what the session's window lies in */
	bool               live; /* the session exists */
	bool               more; /* the session has not said TLS_AGAIN since the last bytes */
	bool               notified; /* close_notify has been put */
};

static inline struct txmem stream_mem(const struct stream *s)
{
	return (struct txmem){ s->env->txq_slab, s->env->bufs };
}

static inline enum buf_class stream_class(const struct stream *s)
{
	return s->rx_large ? BUF_LARGE : BUF_SMALL;
}

void stream_kick(struct stream *s);
/* Note a failure; the owner is told at the end of the turn.  The first one counts. */
void stream_fail(struct stream *s, enum stream_error err, int sys_errno, const char *why);
/* No buffer: work again when one came back. */
void stream_starve(struct stream *s);
void stream_refilled(struct stream_env *env); /* a buffer may have come back */
void stream_receive(struct stream *s); /* arm, whatever is wanted */
void stream_opened(struct stream *s); /* tell; the last step of a caller */

/*
 * The end, when no operation is in flight: calls on_closed, so it is the last thing a caller does.
 */
void stream_finish(struct stream *s);

/* stream_write.c */
void stream_push(struct stream *s); /* all about sending that is due */
bool stream_all_sent(struct stream *s);
void stream_send_failed(struct stream *s, int err); /* the socket takes no more */
void stream_on_sent(struct engine *e, struct engine_op *op, int res);

/* stream_tls.c */
int  stream_tls_new(struct stream *s, struct tls_policy *policy, const char *name); /* -ENOBUFS */
void stream_tls_free(struct stream *s);
void stream_tls_begin(struct stream *s); /* TCP is connected */
void stream_tls_handshake(struct stream *s);
void stream_tls_received(struct stream *s, struct buf *b);
void stream_tls_read(struct stream *s); /* deliver what can be decrypted while it is wanted */
void stream_tls_encrypt(struct stream *s);
void stream_tls_notify(struct stream *s); /* put close_notify */

#endif
