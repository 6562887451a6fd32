/*
 * proto/h2_event.c - nghttp2's callbacks become events.
 *
 * A stream is looked up by its id whenever an event of ours may have detached it in between.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/h2_private.h"

enum { CALLBACK_OK = 0 };

/* Callbacks come many in a row for one stream. */
static struct h2_stream *stream_of(struct h2 *h, int32_t id)
{
	if (h->last && h->last->id == id)
		return h->last;
	if (id <= 0)
		return NULL;
	return h->last = nghttp2_session_get_stream_user_data(h->session, id);
}

/* --- floods --- */

/* The session ends here: what follows in the input is not even looked at. */
static int charge(struct h2 *h, enum h2_flood_cause cause)
{
	if (h2_flood_charge(&h->flood, cause, h->now_ms))
		return CALLBACK_OK;
	h->calm = true;
	h2_terminate(h, H2_ENHANCE_YOUR_CALM);
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int charge_frame(struct h2 *h, const nghttp2_frame_hd *hd)
{
	bool ack = (hd->flags & NGHTTP2_FLAG_ACK) != 0;

	switch (hd->type) {
	case NGHTTP2_PING:
		return ack ? CALLBACK_OK : charge(h, H2_FLOOD_PING);
	case NGHTTP2_SETTINGS:
		return ack ? CALLBACK_OK : charge(h, H2_FLOOD_SETTINGS);
	case NGHTTP2_PRIORITY:
		return charge(h, H2_FLOOD_PRIORITY);
	case NGHTTP2_WINDOW_UPDATE:
		return charge(h, H2_FLOOD_WINDOW_UPDATE);
	case NGHTTP2_RST_STREAM:
		return charge(h, H2_FLOOD_RST_RECEIVED);
	case NGHTTP2_CONTINUATION:
		return charge(h, H2_FLOOD_CONTINUATION);
	default: /* DATA: when it is known to be empty */
		return CALLBACK_OK;
	}
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct h2 *h = arg;

	(void)session;
	h->frame_data = 0;
	h->in_block = hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_CONTINUATION;
	return charge_frame(h, hd);
}

/* --- heads in --- */

static struct h2_stream *open_stream(struct h2 *h, int32_t id)
{
	struct h2_stream *s = h->conf.ev->open(h->conf.arg);

	if (!s) {
		nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, H2_REFUSED_STREAM);
		return NULL;
	}
	s->id = id;
	s->in_len = UINT64_MAX;
	s->attached = true;
	nghttp2_session_set_stream_user_data(h->session, id, s);
	return s;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s;

	(void)session;
	if (f->hd.type != NGHTTP2_HEADERS)
		return CALLBACK_OK;
	if (f->headers.cat == NGHTTP2_HCAT_REQUEST)
		s = open_stream(h, f->hd.stream_id);
	else
		s = stream_of(h, f->hd.stream_id);
	h2_head_begin(h, s, s && s->in_head ? H2_PART_TRAILERS : H2_PART_HEAD);
	return CALLBACK_OK;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
	struct http_str n = { (const char *)name, (uint32_t)name_len };
	struct http_str v = { (const char *)value, (uint32_t)value_len };

	(void)session;
	if (f->hd.type == NGHTTP2_HEADERS)
		h2_head_field(arg, n, v, (flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
	return CALLBACK_OK;
}

/* Without this callback nghttp2 would drop the field and deliver the rest. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name,
                             size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                             void *arg)
{
	struct http_str n = { (const char *)name, (uint32_t)name_len };
	struct http_str v = { (const char *)value, (uint32_t)value_len };

	(void)session;
	(void)flags;
	if (f->hd.type == NGHTTP2_HEADERS)
		h2_head_invalid(arg, n, v);
	return CALLBACK_OK;
}

/* A request that is merely too large gets an answer; anything else a reset (RFC 9113 §8.1.1). */
static void refuse_head(struct h2 *h, struct h2_stream *s, enum http_error e)
{
	bool large = e == HTTP_E_HEAD_TOO_LARGE || e == HTTP_E_FIELDS_TOO_MANY ||
	             e == HTTP_E_TARGET_TOO_LONG;

	s->http_error = (uint16_t)e;
	if (h->conf.server && large && !s->in_head && h2_answer(h, s, http_error_status(e)) == 0) {
		s->answered = true;
		return;
	}
	nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, H2_PROTOCOL_ERROR);
}

static void head_received(struct h2 *h, const nghttp2_frame *f)
{
	struct h2_stream *s = h->in.s;
	bool              end = (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
	enum http_error   e;
	struct http_head *head = h->in.mem.head;

	/*
	 * an event may have detached it in the meantime, or closed the block's memory: look again
	 */
	if (!s || s != stream_of(h, f->hd.stream_id))
		return;
	e = h2_head_end(h, end);
	h->in.s = NULL;
	if (end)
		s->in_end = true;
	if (h->in.no_memory) {
		h2_reset(h, s, h->conf.server ? H2_REFUSED_STREAM : H2_CANCEL);
	} else if (e) {
		refuse_head(h, s, e);
	} else if (h->in.part == H2_PART_TRAILERS) {
		h->conf.ev->end(h->conf.arg, s, head->n_fields > 0 ? head : NULL);
	} else {
		s->in_head = h->conf.server || head->status >= 200;
		h->conf.ev->head(h->conf.arg, s, head, end);
	}
}

/* --- the rest of the input --- */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s = stream_of(h, id);

	(void)flags;
	h->frame_data += (uint32_t)n;
	if (!s || s->answered || s->http_error || s->rst_out) {
		nghttp2_session_consume(session, id, n);
		return CALLBACK_OK;
	}
	/*
	 * Beyond the window nghttp2 has queued the reset (FLOW_CONTROL_ERROR) and tells the frame
	 * nevertheless.  65535 is allowed until the peer has seen our SETTINGS (RFC 9113 §6.9.2).
	 */
	if (s->in_held + n > (h->conf.window > UINT16_MAX ? h->conf.window : UINT16_MAX)) {
		nghttp2_session_consume_connection(session, n);
		return CALLBACK_OK;
	}
	s->in_held += (uint32_t)n;
	s->in_bytes += n;
	if (n > 0)
		h->conf.ev->data(h->conf.arg, s, p, (uint32_t)n);
	return CALLBACK_OK;
}

static int data_received(struct h2 *h, const nghttp2_frame *f)
{
	struct h2_stream *s = stream_of(h, f->hd.stream_id);

	if ((f->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return h->frame_data > 0 ? CALLBACK_OK : charge(h, H2_FLOOD_EMPTY_DATA);
	if (!s)
		return CALLBACK_OK;
	s->in_end = true;
	if (!s->answered && !s->http_error && !s->rst_out)
		h->conf.ev->end(h->conf.arg, s, NULL);
	return CALLBACK_OK;
}

static uint64_t opaque_of(const uint8_t p[8])
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s;
	bool              ack = (f->hd.flags & NGHTTP2_FLAG_ACK) != 0;

	(void)session;
	h->in_block = false;
	switch (f->hd.type) {
	case NGHTTP2_HEADERS:
		head_received(h, f);
		break;
	case NGHTTP2_DATA:
		return data_received(h, f);
	case NGHTTP2_RST_STREAM:
		s = stream_of(h, f->hd.stream_id);
		if (s)
			s->rst_in = true;
		break;
	case NGHTTP2_SETTINGS:
		if (!ack) {
			h->greeted = true;
			h->conf.ev->settings(h->conf.arg);
		}
		break;
	case NGHTTP2_PING:
		if (ack)
			h->conf.ev->pong(h->conf.arg, opaque_of(f->ping.opaque_data));
		break;
	case NGHTTP2_GOAWAY:
		h->conf.ev->goaway(h->conf.arg, f->goaway.error_code, f->goaway.last_stream_id);
		break;
	default:
		break;
	}
	return CALLBACK_OK;
}

/* nghttp2 refused a frame and has queued RST_STREAM or GOAWAY. */
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *f, int lib_error,
                            void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s = stream_of(h, f->hd.stream_id);

	(void)session;
	(void)lib_error;
	h->in_block = false;
	if (s && !s->http_error)
		s->http_error = h->in.s == s && h->in.error ? h->in.error : HTTP_E_SYNTAX;
	h->in.s = NULL;
	return CALLBACK_OK;
}

/* --- the end of a stream --- */

static enum h2_close close_reason(struct h2_stream *s, uint32_t code)
{
	bool short_or_long;

	if (!s->rst_in && (s->rst_out || s->answered))
		return H2_CLOSE_LOCAL;
	/* without a frame of its own: above the last id of GOAWAY, or the session never sent it */
	if (code == H2_REFUSED_STREAM)
		return H2_CLOSE_REFUSED;
	if (s->rst_in)
		return code == H2_HTTP_1_1_REQUIRED ? H2_CLOSE_HTTP_1_1 : H2_CLOSE_RESET;
	if (code == H2_NO_ERROR && !s->http_error)
		return H2_CLOSE_DONE;
	/* nghttp2 reset it for a fault that has no event: nearly always the length of the body */
	short_or_long = s->in_len != UINT64_MAX && s->in_bytes != s->in_len;
	if (!s->http_error)
		s->http_error = short_or_long ? HTTP_E_LENGTH_MISMATCH : HTTP_E_SYNTAX;
	return H2_CLOSE_MALFORMED;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s = stream_of(h, id);
	enum h2_close     why;

	if (!s)
		return CALLBACK_OK;
	why = close_reason(s, code);
	if (why == H2_CLOSE_DONE)
		h2_flood_credit(&h->flood, H2_FLOOD_CREDIT_DONE);
	nghttp2_session_set_stream_user_data(session, id, NULL);
	h2_stream_forget(h, s);
	h->conf.ev->closed(h->conf.arg, s, why, code);
	return CALLBACK_OK;
}

/* --- output --- */

static ssize_t body_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s = stream_of(h, id);
	size_t            n;

	(void)session;
	(void)buf;
	(void)source;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	n = s->out_ready < length ? s->out_ready : length;
	if (n == 0 && !s->out_end) {
		s->idle = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (s->out_end && n == s->out_ready) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->trailers) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (h2_trailers_submit(h, s) != 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	}
	return (ssize_t)n;
}

const nghttp2_data_provider h2_body_provider = { .read_callback = body_read };

static int send_data(nghttp2_session *session, nghttp2_frame *f, const uint8_t *head, size_t length,
                     nghttp2_data_source *source, void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s = stream_of(h, f->hd.stream_id);
	bool              whole;

	(void)session;
	(void)source;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!h->conf.ev->room(h->conf.arg, true))
		return NGHTTP2_ERR_WOULDBLOCK;
	assert(f->data.padlen == 0 && s->out_ready >= length);
	whole = s->out_ready == length;
	h->conf.ev->out(h->conf.arg, head, 9);
	if (length > 0) {
		s->out_ready -= (uint32_t)length;
		h->conf.ev->out_body(h->conf.arg, s, (uint32_t)length);
		h2_flood_credit_data(&h->flood, (uint32_t)length, whole);
	}
	return CALLBACK_OK;
}

static void sent_end(struct h2 *h, struct h2_stream *s)
{
	/* an answer before the request's end: the rest is not wanted (RFC 9113 §8.1) */
	if (s->answered && !s->in_end)
		nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, H2_NO_ERROR);
	if (!s->answered)
		h->conf.ev->out_end(h->conf.arg, s);
}

/* Not a failure of this callback even if the bucket is empty: nghttp2 still has GOAWAY to send. */
static void rst_sent(struct h2 *h)
{
	if (h->own_resets > 0)
		h->own_resets--;
	else
		(void)charge(h, H2_FLOOD_RST_CAUSED);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *f, void *arg)
{
	struct h2        *h = arg;
	struct h2_stream *s = stream_of(h, f->hd.stream_id);
	bool              end = (f->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;

	(void)session;
	switch (f->hd.type) {
	case NGHTTP2_RST_STREAM:
		rst_sent(h);
		return CALLBACK_OK;
	case NGHTTP2_GOAWAY:
		if (f->goaway.error_code != NGHTTP2_NO_ERROR) {
			h->goaway_error = true;
			h->goaway_code = f->goaway.error_code;
		}
		return CALLBACK_OK;
	case NGHTTP2_HEADERS:
		if (s) {
			s->out_head = true;
			if (!s->answered)
				h->conf.ev->out_head(h->conf.arg, s);
		}
		break;
	case NGHTTP2_DATA:
		break;
	default:
		return CALLBACK_OK;
	}
	/* out_head may have detached it */
	s = stream_of(h, f->hd.stream_id);
	if (s && end)
		sent_end(h, s);
	return CALLBACK_OK;
}

/* --- all of them --- */

int h2_callbacks_new(nghttp2_session_callbacks **ret)
{
	nghttp2_session_callbacks *cb;

	if (nghttp2_session_callbacks_new(&cb) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
	*ret = cb;
	return 0;
}
