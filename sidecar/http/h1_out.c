/*
 * sidecar/http/h1_out.c - what the exchange sends becomes bytes of the stream.
 *
 * on_sent is told from what the stream has not yet reported: of the bytes queued, framing included,
 * at most that many can be body bytes that have not left.  So what is told has left, and when the
 * queue is empty everything is told.
 */
#include <errno.h>

#include "sidecar/http/h1_private.h"

/* --- heads --- */

static int write_head(struct http_conn *c, const struct http_head *head, enum h1_framing framing,
                      enum h1_connection conn)
{
	uint32_t bound = h1_encode_bound(head);
	uint8_t *out;
	int      n;

	if (bound > BUF_LARGE_SIZE)
		return -E2BIG;
	out = stream_reserve(&c->stream, bound);
	if (out == NULL)
		return -ENOBUFS;
	n = h1_encode(out, bound, head, framing, conn);
	stream_commit(&c->stream, n > 0 ? (uint32_t)n : 0);
	if (n < 0)
		return n;
	c->h1.m.out_left = true;
	c->h1.m.left_ns = engine_now(c->env->stream.engine);
	return 0;
}

static void head_written(struct http_conn *c, const struct http_head *head, enum h1_framing framing)
{
	struct h1_state *h = &c->h1;

	h->m.out_head = true;
	h->out_framing = (uint8_t)framing;
	h->out_left = 0;
	if (framing == H1_FRAME_LENGTH && head->body == HTTP_BODY_LENGTH)
		h->out_left = head->body_len;
}

static bool may_stay(const struct http_conn *c, const struct http_head *head,
                     enum h1_framing framing)
{
	const struct h1_state *h = &c->h1;

	if (!h->keep_alive || !head->keep_alive || c->draining || framing == H1_FRAME_CLOSE)
		return false;
	/* it will not send the body it announced, or it will: the next bytes are ambiguous */
	if (h->expects && !h->m.in_ended)
		return false;
	if (h->eof && h->n_rx == 0)
		return false;
	return c->limits->requests_max == 0 || c->served < c->limits->requests_max;
}

static int interim_response(struct http_conn *c, const struct http_head *head)
{
	int rc;

	if (c->h1.peer_version == HTTP_1_0) /* RFC 9110 §15.2 */
		return 0;
	rc = write_head(c, head, H1_FRAME_NONE, H1_CONN_NOTHING);
	if (rc == 0 && head->status == 100)
		c->h1.expects = false;
	return rc;
}

static int send_response(struct http_conn *c, const struct http_head *head)
{
	struct h1_state *h = &c->h1;
	enum h1_framing  framing = h1_response_framing(head, (enum http_method)h->asked,
	                                               (enum http_version)h->peer_version);
	enum h1_connection conn = H1_CONN_NOTHING;
	int                rc;

	if (head->body == HTTP_BODY_TUNNEL) {
		h->tunnel = true;
		h->keep_alive = false;
	} else if (!may_stay(c, head, framing)) {
		h->keep_alive = false;
		conn = H1_CONN_CLOSE;
	} else if (h->peer_version == HTTP_1_0) {
		conn = H1_CONN_KEEP_ALIVE;
	}
	rc = write_head(c, head, framing, conn);
	if (rc < 0)
		return rc;
	head_written(c, head, framing);
	if (h->tunnel && h->in == H1_IN_DONE) {
		h1_tunnel_open(c);
		h1_later(c);
	}
	return 0;
}

static int send_request(struct http_conn *c, const struct http_head *head)
{
	struct h1_state *h = &c->h1;
	enum h1_framing  framing = h1_request_framing(head);
	uint32_t         max = c->limits->requests_max;
	bool             last = c->draining || (max > 0 && c->served >= max);
	int              rc;

	assert(h->in == H1_IN_IDLE && !h->m.out_head);
	rc = write_head(c, head, framing, last ? H1_CONN_CLOSE : H1_CONN_NOTHING);
	if (rc < 0)
		return rc;
	h->keep_alive = !last;
	h->asked = head->method;
	h->tunnel_asked = head->upgrade || head->method == HTTP_METHOD_CONNECT;
	h->in = H1_IN_HEAD;
	head_written(c, head, framing);
	return 0;
}

/* The connection itself is the tunnel.  It serves nobody after this one. */
static void begin_raw(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	assert(h->in == H1_IN_IDLE && !h->m.out_head);
	h->m.out_head = true;
	h->tunnel = true;
	h->keep_alive = false;
	h1_tunnel_open(c);
	c->draining = true;
	if (c->ev->on_draining != NULL)
		c->ev->on_draining(c);
	h1_later(c);
}

/* --- the end of the outbound half --- */

/* What was sent cannot be completed: the peer must not take it for complete. */
static void cut_off(struct http_conn *c, const char *why)
{
	http_conn_reset(c, why);
}

static bool write_last_chunk(struct http_conn *c, const struct http_head *trailers)
{
	uint32_t bound;
	uint8_t *out;
	int      n;

	/* RFC 9110 §6.5.1: only to a client that said it wants them */
	if (c->role == HTTP_SERVER && !c->h1.te_trailers)
		trailers = NULL;
	if (trailers == NULL) {
		stream_write_copy(&c->stream, "0\r\n\r\n", 5);
		return true;
	}
	bound = h1_last_chunk_bound(trailers);
	out = bound <= BUF_LARGE_SIZE ? stream_reserve(&c->stream, bound) : NULL;
	if (out == NULL)
		return false;
	n = h1_last_chunk(out, bound, trailers);
	stream_commit(&c->stream, n > 0 ? (uint32_t)n : 0);
	return n > 0;
}

static void finish_out(struct http_conn *c, const struct http_head *trailers)
{
	struct h1_state *h = &c->h1;

	if (h->tunnel) {
		stream_shutdown(&c->stream);
	} else if (h->out_framing == H1_FRAME_CHUNKED) {
		if (!write_last_chunk(c, trailers)) {
			cut_off(c, "the trailers could not be sent");
			return;
		}
	} else if (h->out_left > 0) {
		cut_off(c, "a body was shorter than its Content-Length");
		return;
	}
	h->m.out_ended = true;
	if (stream_queued(&c->stream) == 0) /* no on_sent of the stream will come */
		h1_later(c);
}

/* --- message_ops --- */

static struct http_conn *conn_of(struct message *m)
{
	OBJ_CHECK(m, H1_MESSAGE_MAGIC);
	assert(m->conn->h1.live && &m->conn->h1.m == m);
	return m->conn;
}

static int send_head(struct message *m, const struct http_head *head, bool end)
{
	struct http_conn *c = conn_of(m);
	int               rc;

	if (h1_is_ending(c))
		return 0;
	assert(!m->out_head);
	if (c->role == HTTP_CLIENT && c->mode == HTTP_CLIENT_RAW) {
		assert(!end);
		begin_raw(c);
		return 0;
	}
	if (c->role == HTTP_CLIENT)
		rc = send_request(c, head);
	else if (head->status < 200 && head->status != 101)
		return interim_response(c, head);
	else
		rc = send_response(c, head);
	if (rc < 0 || !end)
		return rc;
	/* the answer to HEAD may name a length it does not send */
	c->h1.out_left = c->role == HTTP_SERVER ? 0 : c->h1.out_left;
	finish_out(c, NULL);
	return 0;
}

static void write_chunk(struct stream *s, struct slice data)
{
	uint8_t  head[H1_CHUNK_HEAD_MAX];
	uint32_t n = h1_chunk_head(head, data.n);

	stream_write_copy(s, head, n);
	stream_write(s, data);
	stream_write_copy(s, "\r\n", 2);
}

static void send_body(struct message *m, struct slice data)
{
	struct http_conn *c = conn_of(m);
	struct h1_state  *h = &c->h1;
	enum h1_framing   framing = h->tunnel ? H1_FRAME_CLOSE : (enum h1_framing)h->out_framing;

	assert(h1_is_ending(c) || !m->out_ended);
	if (h1_is_ending(c) || data.n == 0) {
		slice_drop(data);
		return;
	}
	m->out_bytes += data.n;
	m->out_unsent += data.n;
	switch (framing) {
	case H1_FRAME_LENGTH:
		if (data.n > h->out_left) {
			slice_drop(data);
			cut_off(c, "a body was longer than its Content-Length");
			return;
		}
		h->out_left -= data.n;
		stream_write(&c->stream, data);
		return;
	case H1_FRAME_CHUNKED:
		write_chunk(&c->stream, data);
		return;
	case H1_FRAME_CLOSE:
		stream_write(&c->stream, data);
		return;
	case H1_FRAME_NONE: /* no body may be sent: it counts as sent */
	case H1_FRAME_COPY:
		slice_drop(data);
		h1_later(c);
		return;
	}
}

static void send_end(struct message *m, const struct http_head *trailers)
{
	struct http_conn *c = conn_of(m);

	if (h1_is_ending(c) || m->out_ended)
		return;
	assert(m->out_head);
	finish_out(c, trailers);
}

static void consume(struct message *m, uint32_t n)
{
	struct http_conn *c = conn_of(m);
	struct h1_state  *h = &c->h1;

	assert(n <= h->unconsumed);
	h->unconsumed -= n;
	if (h->pumping || h1_is_ending(c))
		return;
	if (h->n_rx > 0)
		h1_later(c);
	else
		h1_want(c);
}

const struct message_ops h1_ops = { send_head, send_body, send_end, consume, h1_release, h1_pipe };

void h1_report_sent(struct http_conn *c)
{
	struct h1_state *h = &c->h1;
	struct message  *m = &h->m;
	uint32_t         queued, n;
	bool             all;

	if (!h->live || h1_is_ending(c))
		return;
	queued = stream_queued(&c->stream);
	n = m->out_unsent > queued ? m->out_unsent - queued : 0;
	all = m->out_ended && queued == 0 && !h->all_told;
	if (n == 0 && !all)
		return;
	m->out_unsent -= n;
	h->all_told = h->all_told || all;
	m->ev->on_sent(m, n, all);
}
