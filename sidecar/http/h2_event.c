/*
 * sidecar/http/h2_event.c - events of the codec become events of messages.
 *
 * All of this runs within h2_feed() or h2_pump(), so within engine_turn().  A handler of the
 * exchange may release any message and abort the connection: after it returned, nothing is touched
 * that could be gone.
 */
#include <assert.h>

#include "sidecar/http/h2_private.h"

/* --- output --- */

/* Replies are bounded by not reading on (H2_REPLIES_MAX), heads by the messages there may be. */
static bool ev_room(void *arg, bool data)
{
	struct h2_conn *hc = arg;

	return h2_marks_room(&hc->marks, data) &&
	       (!data || stream_queued(&hc->c->stream) < H2_QUEUE_MAX);
}

static void ev_out(void *arg, const uint8_t *p, size_t n)
{
	struct h2_conn *hc = arg;

	stream_write_copy(&hc->c->stream, p, (uint32_t)n);
	h2_marks_frame(&hc->marks, (uint32_t)n);
}

static void ev_out_body(void *arg, struct h2_stream *s, uint32_t n)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = H2_MSG(s);

	h2_marks_body(&hc->marks, m, n);
	while (n > 0) {
		struct slice part = h2_slices_take(&m->out, n);

		n -= part.n;
		stream_write(&hc->c->stream, part);
	}
}

static void ev_out_head(void *arg, struct h2_stream *s)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = H2_MSG(s);

	if (!m->m.out_left) {
		m->rx_at_send = hc->rx_bytes;
		m->m.left_ns = h2_now(hc);
	}
	m->m.out_left = true;
}

static void ev_out_end(void *arg, struct h2_stream *s)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = H2_MSG(s);

	m->out_gone = true;
	if (m->live) {
		h2_marks_end(&hc->marks, m);
		return;
	}
	/* answered, released, and the request still comes: it is not wanted (RFC 9113 §8.1) */
	if (!m->m.in_ended) {
		h2_detach(&hc->h2, s, H2_NO_ERROR);
		h2_msg_free(m);
	}
}

/* --- heads in --- */

static bool takes_streams(const struct h2_conn *hc)
{
	const struct http_conn *c = hc->c;

	/*
	 * counted until released: a stream that was reset may still have work going on for it.  One that ended well
	 * does not count for the peer either (RFC 9113 §5.1.2), who may see its end before we know that it has left;
	 * of these there are as many as the socket held back, at most the limit once more.
	 */
	return !hc->dead && !c->closing && hc->n_msgs - hc->n_over < c->limits->streams_max &&
	       hc->n_msgs < 2 * c->limits->streams_max;
}

static struct h2_stream *ev_open(void *arg)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = takes_streams(hc) ? h2_msg_new(hc) : NULL;

	return m ? &m->s : NULL;
}

static bool ev_memory(void *arg, struct h2_stream *s, enum h2_part part, struct h2_memory *mem,
                      uint32_t need)
{
	struct h2_msg *m = H2_MSG(s);

	(void)arg;
	return !m->told && h2_msg_memory(m, part, mem, need);
}

/* Nobody took it: answered here, as a message that was released at once. */
static void answer_503(struct h2_conn *hc, struct h2_msg *m)
{
	struct http_head head = { .status = 503, .body = HTTP_BODY_LENGTH };
	struct http_conn *c = hc->c;

	m->m.out_ended = true;
	if (h2_response(&hc->h2, &m->s, &head, true) < 0)
		h2_msg_free(m);
	if (c->ev->on_refused)
		c->ev->on_refused(c, 503, HTTP_OK);
}

static bool announce(struct h2_conn *hc, struct h2_msg *m)
{
	struct http_conn *c = hc->c;

	c->ev->on_message(c, &m->m);
	if (!m->m.ev) {
		answer_503(hc, m);
		return false;
	}
	h2_msg_announce(m);
	/* no more after this one (it itself may still be answered) */
	if (c->limits->requests_max > 0 && c->served >= c->limits->requests_max)
		h2_conn_drain(c);
	return true;
}

static void ev_head(void *arg, struct h2_stream *s, struct http_head *h, bool end)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = H2_MSG(s);

	m->m.in_started = true;
	if (end)
		m->m.in_ended = true;
	if (hc->dead || m->told)
		return;
	if (hc->c->role == HTTP_SERVER && !announce(hc, m))
		return;
	if (m->live)
		m->m.ev->on_head(&m->m, h, end);
}

/* --- bodies in --- */

static void ev_data(void *arg, struct h2_stream *s, const uint8_t *p, uint32_t n)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = H2_MSG(s);

	/* at receipt, whoever it is for: a slow stream holds up nobody else */
	h2_consume_connection(&hc->h2, n);
	if (m->live && !m->told)
		h2_msg_deliver(m, p, n);
}

static void ev_end(void *arg, struct h2_stream *s, struct http_head *trailers)
{
	struct h2_msg *m = H2_MSG(s);

	(void)arg;
	m->m.in_ended = true;
	if (m->live && !m->told)
		m->m.ev->on_end(&m->m, trailers);
}

/* --- ends --- */

static void fail_malformed(struct h2_msg *m)
{
	enum http_error e = (enum http_error)m->s.http_error;
	bool            large = e == HTTP_E_HEAD_TOO_LARGE || e == HTTP_E_FIELDS_TOO_MANY;

	m->m.http_error = (uint16_t)e;
	h2_msg_fail(m, large ? MESSAGE_E_HEAD_TOO_LARGE : MESSAGE_E_PROTOCOL, !m->m.out_left);
}

static void fail_reset(struct h2_msg *m)
{
	/*
	 * the response is whole; it is only the rest of the request the peer does not want (RFC
	 * 9113 §8.1)
	 */
	if (m->hc->c->role == HTTP_CLIENT && m->m.in_ended)
		h2_msg_lose_out(m);
	else
		h2_msg_fail(m, MESSAGE_E_RESET, !m->m.out_left);
}

static void closed_live(struct h2_msg *m, enum h2_close why)
{
	switch (why) {
	case H2_CLOSE_DONE:
		break;
	case H2_CLOSE_RESET:
		fail_reset(m);
		break;
	case H2_CLOSE_REFUSED:
		h2_msg_fail(m, MESSAGE_E_REFUSED, true);
		break;
	case H2_CLOSE_HTTP_1_1:
		h2_msg_fail(m, MESSAGE_E_HTTP_1_1_REQUIRED, !m->m.in_started);
		break;
	case H2_CLOSE_MALFORMED:
		fail_malformed(m);
		break;
	case H2_CLOSE_LOCAL: /* no memory for a head or a slice */
		h2_msg_fail(m, MESSAGE_E_OVERLOAD, !m->m.out_left);
		break;
	}
}

/* A request that never became a message. */
static void closed_unseen(struct h2_conn *hc, struct h2_msg *m, enum h2_close why)
{
	struct http_conn *c = hc->c;
	enum http_error   e = (enum http_error)m->s.http_error;

	h2_msg_free(m);
	if (e != HTTP_OK && (why == H2_CLOSE_MALFORMED || why == H2_CLOSE_LOCAL) &&
	    c->ev->on_refused)
		c->ev->on_refused(c, http_error_status(e), e);
}

static void ev_closed(void *arg, struct h2_stream *s, enum h2_close why, uint32_t code)
{
	struct h2_conn *hc = arg;
	struct h2_msg  *m = H2_MSG(s);

	(void)code;
	m->closed = true;
	if (why == H2_CLOSE_DONE && m->live) {
		m->over = true;
		hc->n_over++;
	}
	if (!m->live && !m->m.in_started && hc->c->role == HTTP_SERVER)
		closed_unseen(hc, m, why);
	else if (!m->live)
		h2_msg_free(m);
	else if (!m->told)
		closed_live(m, why);
}

/* --- the connection --- */

static void ev_settings(void *arg)
{
	struct h2_conn *hc = arg;

	hc->capacity_dirty = true;
}

static void ev_goaway(void *arg, uint32_t code, int32_t last_id)
{
	struct h2_conn   *hc = arg;
	struct http_conn *c = hc->c;

	(void)code;
	(void)last_id;
	/* streams above last_id are closed as refused right after this */
	if (c->role != HTTP_CLIENT || c->draining || hc->dead)
		return;
	c->draining = true;
	c->capacity = 0;
	if (c->ev->on_draining)
		c->ev->on_draining(c);
}

static void ev_pong(void *arg, uint64_t opaque)
{
	struct h2_conn *hc = arg;

	(void)opaque; /* drain or watch: either way the peer lives and has read what was before */
	hc->ping_ns = 0;
	if (hc->drain_ns > 0)
		h2_conn_goodbye(hc);
}

const struct h2_events h2_conn_events = {
	.room = ev_room,
	.out = ev_out,
	.out_body = ev_out_body,
	.out_head = ev_out_head,
	.out_end = ev_out_end,
	.open = ev_open,
	.memory = ev_memory,
	.head = ev_head,
	.data = ev_data,
	.end = ev_end,
	.settings = ev_settings,
	.goaway = ev_goaway,
	.pong = ev_pong,
	.closed = ev_closed,
};
