/*
 * sidecar/http/h2_msg.c - one stream and its message.
 *
 * A message has two owners: the exchange (->live) and the codec (until ->closed).  It goes when
 * both have let go. Released with both halves ended it lives on until its bytes have left.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/http/h2_private.h"

static const struct message_ops ops;

/* --- memory of heads --- */

static struct http_head_store *store_get(struct h2_msg *m)
{
	struct http_head_store *s = slab_get(m->env->head_slab);

	if (!s)
		return NULL;
	memset(&s->head, 0, sizeof(s->head));
	s->head.fields = s->fields;
	s->head.fields_max = HTTP_FIELDS_MAX;
	s->buf = NULL;
	s->big = NULL;
	s->used = 0;
	return s;
}

static void store_put(struct h2_msg *m, struct http_head_store *s)
{
	if (!s)
		return;
	buf_unref(s->buf);
	free(s->big);
	slab_put(m->env->head_slab, s);
}

/*
 * need bytes in a buffer that is large enough, or beyond that in memory of head_max; what was there
 * is copied.
 */
static bool store_grow(struct h2_msg *m, struct http_head_store *s, struct h2_memory *mem,
                       uint32_t need)
{
	struct buf *b = NULL;
	char       *big = NULL;

	if (need > BUF_LARGE_SIZE)
		big = malloc(m->hc->c->limits->head_max);
	else
		b = buf_get(m->env->stream.bufs, need > BUF_SMALL_SIZE ? BUF_LARGE : BUF_SMALL);
	if (!b && !big)
		return false;
	if (mem->used > 0)
		memcpy(big ? big : (char *)b->data, mem->p, mem->used);
	buf_unref(s->buf);
	free(s->big);
	s->buf = b;
	s->big = big;
	mem->p = big ? big : (char *)b->data;
	mem->cap = big ? m->hc->c->limits->head_max : buf_cap(b);
	return true;
}

bool h2_msg_memory(struct h2_msg *m, enum h2_part part, struct h2_memory *mem, uint32_t need)
{
	struct http_head_store **at = part == H2_PART_HEAD ? &m->store : &m->trailers;

	if (!*at)
		*at = store_get(m);
	if (!*at)
		return false;
	if (need > 0)
		return store_grow(m, *at, mem, need);
	/* the store of an interim head before this one is used again, with its buffer */
	mem->head = &(*at)->head;
	mem->p = (*at)->big ? (*at)->big : (*at)->buf ? (char *)(*at)->buf->data : NULL;
	mem->cap = (*at)->big ? m->hc->c->limits->head_max : (*at)->buf ? buf_cap((*at)->buf) : 0;
	return true;
}

/* --- birth and death --- */

struct h2_msg *h2_msg_new(struct h2_conn *hc)
{
	struct h2_msg *m = slab_get(hc->c->env->h2_stream_slab);

	if (!m)
		return NULL;
	/* not the slices: 64 of them, and empty whatever they hold */
	memset(m, 0, offsetof(struct h2_msg, out));
	m->out.first = m->out.n = 0;
	m->out.gather = NULL;
	m->m.magic = H2_MSG_MAGIC;
	m->m.version = HTTP_2;
	m->m.ops = &ops;
	m->m.conn = hc->c;
	m->hc = hc;
	m->env = hc->c->env;
	list_push_back(&hc->msgs, &m->node);
	hc->n_msgs++;
	return m;
}

void h2_msg_announce(struct h2_msg *m)
{
	struct http_conn *c = m->hc->c;

	m->live = true;
	m->m.reused = c->served > 0;
	c->served++;
	c->active++;
}

void h2_msg_free(struct h2_msg *m)
{
	struct h2_conn *hc = m->hc;

	OBJ_CHECK(&m->m, H2_MSG_MAGIC);
	assert(!m->live);
	if (!hc->gone) {
		h2_detach(&hc->h2, &m->s, H2_CANCEL);
		h2_marks_forget(&hc->marks, m);
	}
	list_remove(&m->node);
	hc->n_msgs--;
	hc->n_over -= m->over;
	h2_slices_drop(&m->out);
	buf_unref(m->in_gather);
	store_put(m, m->store);
	store_put(m, m->trailers);
	OBJ_FINI(&m->m, H2_MSG_MAGIC);
	slab_put(m->env->h2_stream_slab, m);
	if (hc->gone && list_empty(&hc->msgs))
		h2_conn_finish(hc);
	else
		h2_conn_kick(hc);
}

/* --- errors --- */

bool h2_msg_is_open(const struct h2_msg *m)
{
	if (!m->live || m->told)
		return false;
	/* a client that has the whole response has what it wanted */
	if (m->m.in_ended && (m->hc->c->role == HTTP_CLIENT || m->all_told))
		return false;
	return true;
}

/*
 * Nothing of it left; or it went to a connection that had been idle and from which nothing came
 * afterwards: the peer was closing it meanwhile (RFC 9110 §9.3.1 leaves the rest to ->reused and
 * the method).
 */
bool h2_msg_is_unprocessed(const struct h2_msg *m)
{
	if (!m->m.out_left)
		return true;
	return m->rx_at_send == m->hc->rx_bytes && http_conn_was_stale(m->hc->c, &m->m);
}

void h2_msg_fail(struct h2_msg *m, enum message_error err, bool unprocessed)
{
	assert(m->live && !m->told);
	m->told = true;
	m->m.ev->on_error(&m->m, err, unprocessed);
}

void h2_msg_lose_out(struct h2_msg *m)
{
	m->out_lost = true;
	m->lost += h2_slices_drop(&m->out);
	m->hc->losses = true;
	h2_conn_kick(m->hc);
}

/* Everything was given to us, and nothing of it will leave any more. */
static bool lost_all(const struct h2_msg *m)
{
	return m->out_lost && m->m.out_ended && m->marks == 0 && !m->all_told;
}

bool h2_msg_has_loss(const struct h2_msg *m)
{
	return m->live && !m->told && (m->refused || m->lost > 0 || lost_all(m));
}

void h2_msg_report_loss(struct h2_msg *m)
{
	uint32_t n = m->lost;
	bool     all = lost_all(m);

	if (m->refused) {
		h2_msg_fail(m, MESSAGE_E_REFUSED, true);
		return;
	}
	m->lost = 0;
	m->m.out_unsent -= n;
	m->all_told |= all;
	m->m.ev->on_sent(&m->m, n, all);
}

/* --- inbound body --- */

/*
 * A slice refers to the receive buffer, so the bytes are not touched.  But small DATA frames could
 * pin a buffer each, and the window counts bytes, not buffers; so when the receiver is slow they
 * are copied together.  They are only appended behind what others hold.
 */
static struct slice gathered(struct h2_msg *m, const uint8_t *p, uint32_t n)
{
	struct buf  *b = m->in_gather;
	struct slice s;

	if (!b || buf_cap(b) - b->len < n) {
		buf_unref(b);
		b = m->in_gather = buf_get(m->env->stream.bufs, BUF_LARGE);
		if (!b)
			return (struct slice){ 0 };
	}
	memcpy(b->data + b->len, p, n);
	s = (struct slice){ buf_ref(b), b->data + b->len, n };
	b->len += n;
	return s;
}

void h2_msg_deliver(struct h2_msg *m, const uint8_t *p, uint32_t n)
{
	struct slice s = { 0 };

	if (m->in_held >= H2_HELD_LOOSE && n <= H2_GATHER_MAX)
		s = gathered(m, p, n);
	if (!s.buf)
		s = (struct slice){ buf_ref(m->hc->rx), p, n };
	m->in_held++;
	m->in_unconsumed += n;
	m->m.in_bytes += n;
	m->m.ev->on_body(&m->m, s);
}

static void msg_consume(struct message *msg, uint32_t n)
{
	struct h2_msg *m = CONTAINER_OF(msg, struct h2_msg, m);

	OBJ_CHECK(msg, H2_MSG_MAGIC);
	assert(n <= m->in_unconsumed);
	m->in_unconsumed -= n;
	if (m->in_unconsumed == 0) {
		m->in_held = 0;
		buf_unref(m->in_gather);
		m->in_gather = NULL;
	}
	if (m->told || m->closed || m->hc->dead || n == 0)
		return;
	h2_consume_stream(&m->hc->h2, &m->s, n);
	h2_conn_kick(m->hc);
}

/* --- outbound --- */

static bool is_ending(const struct h2_msg *m)
{
	return m->told || m->hc->dead;
}

static int head_errno(struct h2_msg *m, int err)
{
	switch (err) {
	case -ENOMEM:
		return -ENOBUFS;
	case -EAGAIN: /* stream ids are used up: another connection takes it */
		m->refused = true;
		m->hc->losses = true;
		h2_conn_drain(m->hc->c);
		return 0;
	case -EPIPE: /* reset by the peer: on_error was called, or is about to be */
		return 0;
	default:
		return err;
	}
}

static int msg_send_head(struct message *msg, const struct http_head *h, bool end)
{
	struct h2_msg   *m = CONTAINER_OF(msg, struct h2_msg, m);
	struct http_head head = *h;
	bool             client = !is_ending(m) && m->hc->c->role == HTTP_CLIENT;
	int              err;

	OBJ_CHECK(msg, H2_MSG_MAGIC);
	assert(!msg->out_head);
	if (is_ending(m) || (m->closed && !client)) {
		err = 0;
	} else if (client) {
		if (head.scheme.n == 0)
			head.scheme = stream_is_tls(&m->hc->c->stream) ? HTTP_STR("https")
			                                               : HTTP_STR("http");
		err = h2_request(&m->hc->h2, &m->s, &head, end);
	} else {
		err = h2_response(&m->hc->h2, &m->s, &head, end);
	}
	if (err < 0)
		err = head_errno(m, err);
	if (err < 0)
		return err;
	if (h->status == 0 || h->status >= 200) {
		msg->out_head = true;
		msg->out_ended = end;
	}
	h2_conn_kick(m->hc);
	return 0;
}

/* May a body still go to the codec? */
static bool can_send(const struct h2_msg *m)
{
	return !is_ending(m) && !m->closed && !m->out_lost && m->s.out_open && !m->refused;
}

static void msg_send_body(struct message *msg, struct slice data)
{
	struct h2_msg *m = CONTAINER_OF(msg, struct h2_msg, m);
	uint32_t       n = data.n;

	OBJ_CHECK(msg, H2_MSG_MAGIC);
	assert(msg->out_head && !msg->out_ended);
	msg->out_bytes += n;
	msg->out_unsent += n;
	if (!can_send(m)) {
		slice_drop(data);
		m->lost += n;
		m->hc->losses = true;
	} else if (n == 0) {
		slice_drop(data);
	} else if (h2_slices_put(&m->out, m->env->stream.bufs, data)) {
		h2_body(&m->hc->h2, &m->s, n);
	} else {
		/* no buffer to gather into: the stream cannot go on, `closed` tells the exchange */
		h2_reset(&m->hc->h2, &m->s, H2_INTERNAL_ERROR);
	}
	h2_conn_kick(m->hc);
}

static void msg_send_end(struct message *msg, const struct http_head *trailers)
{
	struct h2_msg *m = CONTAINER_OF(msg, struct h2_msg, m);

	OBJ_CHECK(msg, H2_MSG_MAGIC);
	assert(msg->out_head && !msg->out_ended);
	msg->out_ended = true;
	if (!can_send(m))
		m->hc->losses = true;
	else if (h2_end(&m->hc->h2, &m->s, trailers) < 0)
		/* without its trailers (grpc-status) it must not look complete */
		h2_reset(&m->hc->h2, &m->s, H2_INTERNAL_ERROR);
	h2_conn_kick(m->hc);
}

/* --- release --- */

/* How an early end is told to the peer. */
static enum h2_code reset_code(const struct h2_msg *m)
{
	if (m->hc->c->role == HTTP_CLIENT)
		return H2_CANCEL;
	return m->m.out_ended ? H2_NO_ERROR : H2_INTERNAL_ERROR;
}

/*
 * Everything was given to us; what is queued still has to leave.  A server may answer before the
 * request's end.
 */
static bool may_drain(const struct h2_msg *m)
{
	return !m->told && !m->closed && !m->hc->dead && m->m.out_ended && !m->refused &&
	       (m->m.in_ended || m->hc->c->role == HTTP_SERVER);
}

static void active_less(struct h2_conn *hc)
{
	struct http_conn *c = hc->c;

	assert(c->active > 0);
	c->active--;
	if (c->active == 0)
		c->idle_since_ns = h2_now(hc);
	hc->capacity_dirty = true;
	h2_conn_kick(hc);
}

static void msg_release(struct message *msg)
{
	struct h2_msg *m = CONTAINER_OF(msg, struct h2_msg, m);

	OBJ_CHECK(msg, H2_MSG_MAGIC);
	assert(m->live);
	m->live = false;
	msg->ev = NULL;
	active_less(m->hc);
	/* unless nothing of ours is left and the peer still sends */
	if (may_drain(m) && (msg->in_ended || !m->out_gone))
		return;
	if (!m->closed && !m->hc->gone)
		h2_detach(&m->hc->h2, &m->s, reset_code(m));
	h2_msg_free(m);
}

static const struct message_ops ops = {
	.send_head = msg_send_head,
	.send_body = msg_send_body,
	.send_end = msg_send_end,
	.consume = msg_consume,
	.release = msg_release,
};
