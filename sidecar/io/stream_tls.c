#include <assert.h>
#include <errno.h>

#include "sidecar/io/stream_private.h"

/*
 * Records gather small segments: one record, one packet for a head and the first bytes of its body.
 */
enum {
	GATHER_BELOW = 4096,   /* segments of this size go as they are */
	RECORD_OVERHEAD = 512, /* header, tag, padding; alerts and a KeyUpdate in between */
};

size_t stream_tls_size(void)
{
	return sizeof(struct stream_tls);
}

int stream_tls_new(struct stream *s, struct tls_policy *policy, const char *server_name)
{
	struct stream_tls *x = slab_get(s->env->tls_slab);
	if (x == NULL)
		return -ENOBUFS;
	*x = (struct stream_tls){ .policy = policy, .server_name = server_name };
	s->tls = x;
	return 0;
}

void stream_tls_free(struct stream *s)
{
	struct stream_tls *x = s->tls;
	if (x == NULL)
		return;
	buf_unref(x->in);
	txlist_clear(&x->out, stream_mem(s));
	if (x->live)
		tls_session_fini(&x->t);
	slab_put(s->env->tls_slab, x);
	s->tls = NULL;
}

static uint32_t put(void *arg, const uint8_t *p, uint32_t n)
{
	struct stream *s = arg;
	return txlist_copy(&s->tls->out, stream_mem(s), p, n);
}

static void fail(struct stream *s, enum tls_step step)
{
	enum stream_error err = step == TLS_E_CERT    ? STREAM_E_TLS_CERT
				: step == TLS_E_ALERT ? STREAM_E_TLS_ALERT
						      : STREAM_E_TLS;
	stream_fail(s, err, 0, tls_failure(&s->tls->t));
}

/* The receive buffer goes back as soon as the window in it is used up. */
static void release_in(struct stream_tls *x)
{
	if (x->in == NULL || tls_unread(&x->t) > 0)
		return;
	buf_unref(x->in);
	x->in = NULL;
}

void stream_tls_begin(struct stream *s)
{
	struct stream_tls *x = s->tls;
	s->state = STREAM_HANDSHAKE;
	int rc = tls_session_init(&x->t, x->policy, x->server_name, put, s);
	x->server_name = NULL;
	if (rc == 0) {
		x->live = true;
		stream_tls_handshake(s);
	} else {
		stream_fail(s, STREAM_E_TLS, 0,
			    rc == -EINVAL ? "no usable server name" : "no memory for TLS");
	}
}

/*
 * There is output, also from reading (an alert, a KeyUpdate), and no completion will come to take
 * care of it.
 */
static void kick_output(struct stream *s)
{
	if (s->tls->out.bytes > 0 && !engine_busy(&s->txop))
		stream_kick(s);
}

void stream_tls_handshake(struct stream *s)
{
	struct stream_tls *x = s->tls;
	enum tls_step step = tls_handshake(&x->t);
	release_in(x);
	kick_output(s);
	switch (step) {
	case TLS_OK:
		x->more = true; /* tickets and data may have come along */
		s->state = STREAM_OPEN;
		stream_opened(s);
		break;
	case TLS_AGAIN:
		stream_receive(s);
		break;
	case TLS_FULL:
		stream_starve(s);
		break;
	default:
		fail(s, step);
	}
}

void stream_tls_received(struct stream *s, struct buf *b)
{
	struct stream_tls *x = s->tls;
	assert(x->in == NULL);
	x->in = b;
	tls_feed(&x->t, b->data, b->len);
	x->more = true;
	if (s->state == STREAM_HANDSHAKE)
		stream_tls_handshake(s);
	else
		stream_tls_read(s);
}

/* Fill a buffer with plaintext; TLS_OK: it is full. */
static enum tls_step fill(struct stream_tls *x, struct buf *b)
{
	enum tls_step step;
	do {
		uint32_t n = 0;
		step = tls_read(&x->t, b->data + b->len, buf_cap(b) - b->len, &n);
		b->len += n;
	} while (step == TLS_OK && b->len < buf_cap(b));
	return step;
}

static struct buf *plain_buf(struct stream *s)
{
	struct buf *b = buf_get(s->env->bufs, stream_class(s));
	return b != NULL ? b : buf_get(s->env->bufs, s->rx_large ? BUF_SMALL : BUF_LARGE);
}

static void deliver(struct stream *s, struct buf *b)
{
	if (b->len > 0)
		s->ev->on_data(s, (struct slice){ b, b->data, b->len });
	else
		buf_unref(b);
	stream_refilled(s->env);
}

/* What the last read said besides bytes, after these have been delivered. */
static void act_on(struct stream *s, enum tls_step step)
{
	if (s->state != STREAM_OPEN || s->err != STREAM_OK)
		return;
	if (step == TLS_EOF) {
		s->eof_seen = true;
		s->ev->on_eof(s, STREAM_OK);
	} else if (step == TLS_FULL) {
		stream_starve(s);
	} else if (step != TLS_OK && step != TLS_AGAIN) {
		fail(s, step);
	}
}

void stream_tls_read(struct stream *s)
{
	struct stream_tls *x = s->tls;
	while (s->state == STREAM_OPEN && s->want && x->more && !s->eof_seen &&
	       s->err == STREAM_OK) {
		struct buf *b = plain_buf(s);
		if (b == NULL) {
			stream_starve(s);
			return;
		}
		enum tls_step step = fill(x, b);
		x->more = step == TLS_OK || step == TLS_FULL;
		release_in(x);
		deliver(s, b);
		act_on(s, step);
		if (step == TLS_FULL)
			break;
	}
	kick_output(s);
}

/*
 * One record from the front of the queue.  A large segment is encrypted where it lies; small ones
 * are gathered, with what follows when it fits the same record.  A write that was cut short must be
 * repeated with the same bytes, whatever was queued since.
 */
static enum tls_step write_record(struct stream *s, uint32_t *ret_n)
{
	struct tls_session *t = &s->tls->t;
	const uint8_t *p = NULL;
	uint32_t first = txlist_peek(&s->tx, &p);
	uint32_t n = t->retry_n;
	if (n == 0 && first >= GATHER_BELOW)
		n = first < TLS_RECORD_MAX ? first : TLS_RECORD_MAX;
	else if (n == 0)
		n = s->tx.bytes <= TLS_RECORD_MAX ? s->tx.bytes : GATHER_BELOW;
	if (n <= first)
		return tls_write(t, p, n, ret_n);
	uint8_t gathered[TLS_RECORD_MAX];
	n = txlist_gather(&s->tx, gathered, n);
	return tls_write(t, gathered, n, ret_n);
}

void stream_tls_encrypt(struct stream *s)
{
	struct stream_tls *x = s->tls;
	while (s->tx.bytes > 0 &&
	       x->out.bytes + TLS_RECORD_MAX + RECORD_OVERHEAD <= STREAM_CIPHER_MAX) {
		uint32_t n = 0;
		enum tls_step step = write_record(s, &n);
		if (step == TLS_FULL) {
			stream_starve(s);
			return;
		}
		if (step != TLS_OK) {
			fail(s, step);
			return;
		}
		txlist_eat(&s->tx, stream_mem(s), n);
		x->out.tail->plain += n;
	}
}

void stream_tls_notify(struct stream *s)
{
	struct stream_tls *x = s->tls;
	if (!x->live || s->err != STREAM_OK || tls_shutdown(&x->t) == TLS_OK)
		x->notified = true;
	else
		stream_starve(s);
}
