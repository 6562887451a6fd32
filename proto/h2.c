/*
 * proto/h2.c - the session: nghttp2's callbacks become events, and the pump.
 */
#include "proto/h2.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/h2_private.h"

const char h2_preface[H2_PREFACE_LEN] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/*
 * Newer nghttp2 limit more by themselves.  Distributions back-port these calls, so the version number says nothing: a
 * weak symbol is there or not.  Both limits also hit honest peers (many cancelled calls), and the token bucket does
 * their work, so they are set out of its way.
 */
extern void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t)
	__attribute__((weak));
extern void nghttp2_option_set_glitch_rate_limit(nghttp2_option *, uint64_t, uint64_t)
	__attribute__((weak));
enum { LIB_BURST = 1000000, LIB_RATE = 100000 };

/* nghttp2 1.60 renamed these and keeps the old names. */
static ssize_t lib_recv(nghttp2_session *s, const uint8_t *p, size_t n)
{
	return nghttp2_session_mem_recv(s, p, n);
}

static ssize_t lib_send(nghttp2_session *s, const uint8_t **p)
{
	return nghttp2_session_mem_send(s, p);
}

enum {
	/* Beyond this a session fails: what streams_max streams with their heads can need, several times over. */
	MEM_BASE = 4 * 1024 * 1024,
	MEM_PER_STREAM = 8 * 1024,
	CALLBACK_OK = 0,
};

static struct h2_stream *stream_of(const struct h2 *h, int32_t id)
{
	return id > 0 ? nghttp2_session_get_stream_user_data(h->session, id) : NULL;
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
	bool large = e == HTTP_E_HEAD_TOO_LARGE || e == HTTP_E_FIELDS_TOO_MANY || e == HTTP_E_TARGET_TOO_LONG;

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

	/* an event may have detached it in the meantime, or closed the block's memory: look again */
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
static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *f, int lib_error, void *arg)
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
	if (!s->http_error)
		s->http_error = s->in_len != UINT64_MAX && s->in_bytes != s->in_len ? HTTP_E_LENGTH_MISMATCH
		                                                                    : HTTP_E_SYNTAX;
	return H2_CLOSE_MALFORMED;
}

static void stream_forget(struct h2 *h, struct h2_stream *s)
{
	s->attached = false;
	h2_mem_free(&h->mem, s->trailers);
	s->trailers = NULL;
	if (h->in.s == s)
		h->in.s = NULL;
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
	stream_forget(h, s);
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
	uint32_t          whole;

	(void)session;
	(void)source;
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (!h->conf.ev->room(h->conf.arg))
		return NGHTTP2_ERR_WOULDBLOCK;
	assert(f->data.padlen == 0 && s->out_ready >= length);
	whole = s->out_ready == length ? H2_FLOOD_CREDIT_FRAME : 0;
	h->conf.ev->out(h->conf.arg, head, 9);
	if (length > 0) {
		s->out_ready -= (uint32_t)length;
		h->conf.ev->out_body(h->conf.arg, s, (uint32_t)length);
		h2_flood_credit(&h->flood, (uint32_t)length / H2_FLOOD_BYTES_PER_TOKEN + whole);
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

/* --- life --- */

static int callbacks_new(nghttp2_session_callbacks **ret)
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

static int options_new(nghttp2_option **ret)
{
	nghttp2_option *o;

	if (nghttp2_option_new(&o) != 0)
		return -ENOMEM;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_max_reserved_remote_streams(o, 0);
	nghttp2_option_set_max_send_header_block_length(o, (size_t)H2_HEAD_MAX * 2);
	nghttp2_option_set_max_outbound_ack(o, H2_ACKS_MAX);
	if (nghttp2_option_set_stream_reset_rate_limit)
		nghttp2_option_set_stream_reset_rate_limit(o, LIB_BURST, LIB_RATE);
	if (nghttp2_option_set_glitch_rate_limit)
		nghttp2_option_set_glitch_rate_limit(o, LIB_BURST, LIB_RATE);
	*ret = o;
	return 0;
}

static void *mem_malloc(size_t n, void *m)
{
	return h2_mem_alloc(m, n);
}

static void mem_free(void *p, void *m)
{
	h2_mem_free(m, p);
}

static void *mem_calloc(size_t count, size_t size, void *m)
{
	return h2_mem_zalloc(m, count, size);
}

static void *mem_realloc(void *p, size_t n, void *m)
{
	return h2_mem_resize(m, p, n);
}

static int session_new(struct h2 *h)
{
	nghttp2_mem mem = { &h->mem, mem_malloc, mem_free, mem_calloc, mem_realloc };
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_option            *o = NULL;
	int                        err = callbacks_new(&cb);

	if (err == 0)
		err = options_new(&o);
	if (err == 0 && h->conf.server)
		err = h2_errno(nghttp2_session_server_new3(&h->session, cb, h, o, &mem));
	else if (err == 0)
		err = h2_errno(nghttp2_session_client_new3(&h->session, cb, h, o, &mem));
	nghttp2_option_del(o);
	nghttp2_session_callbacks_del(cb);
	return err;
}

/* Our SETTINGS, and the connection window, which SETTINGS cannot change (RFC 9113 §6.9.2). */
static int greet(struct h2 *h)
{
	const struct h2_config *c = &h->conf;
	nghttp2_settings_entry  iv[] = {
                { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->window },
                { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, c->head_max + HTTP_FIELDS_MAX * 32 },
                { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
                { c->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH,
                  c->server ? c->streams_max : 0 },
	};
	int err = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, iv, sizeof(iv) / sizeof(iv[0]));

	if (err == 0)
		err = nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
		                                            (int32_t)c->window_connection);
	return h2_errno(err);
}

int h2_init(struct h2 *h, const struct h2_config *conf)
{
	int err;

	assert(conf->head_max <= H2_HEAD_MAX && conf->streams_max <= H2_STREAMS_MAX);
	assert(conf->window >= H2_WINDOW_MIN && conf->window <= H2_WINDOW_MAX);
	memset(h, 0, sizeof(*h));
	h->conf = *conf;
	h->now_ms = conf->now_ms;
	h2_mem_init(&h->mem, MEM_BASE + (size_t)MEM_PER_STREAM * conf->streams_max);
	h2_flood_init(&h->flood, conf->now_ms);
	err = session_new(h);
	if (err == 0)
		err = greet(h);
	if (err < 0)
		h2_fini(h);
	return err;
}

void h2_fini(struct h2 *h)
{
	assert(!h->feeding && !h->pumping);
	h->broken = true;
	nghttp2_session_del(h->session);
	h->session = NULL;
	h2_mem_fini(&h->mem);
}

/* --- feed and pump --- */

static int input_failed(struct h2 *h, ssize_t lib_error)
{
	if (lib_error == NGHTTP2_ERR_NOMEM) {
		h->broken = true;
		return -ENOMEM;
	}
	/* too many replies that nobody reads */
	if (lib_error == NGHTTP2_ERR_FLOODED && !h->calm) {
		h->calm = true;
		h2_terminate(h, H2_ENHANCE_YOUR_CALM);
	}
	if (lib_error == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
		h2_terminate(h, H2_PROTOCOL_ERROR);
	return -EPROTO;
}

int h2_feed(struct h2 *h, const uint8_t *p, size_t n, uint64_t now_ms)
{
	ssize_t used;

	assert(!h->feeding && !h->pumping);
	if (h->broken || h->calm)
		return -EPROTO;
	h->now_ms = now_ms;
	h->feeding = true;
	used = lib_recv(h->session, p, n);
	h->feeding = false;
	if (used < 0)
		return input_failed(h, used);
	assert((size_t)used == n);
	return h->calm ? -EPROTO : 0;
}

int h2_pump(struct h2 *h)
{
	const uint8_t *p;
	ssize_t        n = 0;

	assert(!h->feeding && !h->pumping);
	if (h->broken)
		return -EPROTO;
	h->pumping = true;
	while (h->conf.ev->room(h->conf.arg)) {
		n = lib_send(h->session, &p);
		if (n <= 0)
			break;
		h->conf.ev->out(h->conf.arg, p, (size_t)n);
	}
	h->pumping = false;
	if (n < 0) {
		h->broken = true;
		return n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
	}
	return h->calm ? -EPROTO : 0;
}

bool h2_wants_pump(const struct h2 *h)
{
	return !h->broken && nghttp2_session_want_write(h->session) != 0;
}

bool h2_over(const struct h2 *h)
{
	return h->broken || (nghttp2_session_want_read(h->session) == 0 &&
	                     nghttp2_session_want_write(h->session) == 0);
}

uint32_t h2_backlog(const struct h2 *h)
{
	return h->broken ? 0 : (uint32_t)nghttp2_session_get_outbound_queue_size(h->session);
}

bool h2_in_head(const struct h2 *h)
{
	return h->in_block || (h->conf.server && !h->greeted);
}

/* --- calls --- */

static void reset(struct h2 *h, struct h2_stream *s, enum h2_code code)
{
	bool queued = s->rst_out || s->http_error != HTTP_OK; /* ours, or nghttp2's */

	if (!s->attached || h->broken || queued)
		return;
	s->rst_out = true;
	/* a request that has not left is cancelled, not reset: no frame will be counted */
	if (h->conf.server || s->out_head)
		h->own_resets++;
	nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, (uint32_t)code);
}

void h2_reset(struct h2 *h, struct h2_stream *s, enum h2_code code)
{
	reset(h, s, code);
}

void h2_detach(struct h2 *h, struct h2_stream *s, enum h2_code code)
{
	if (!s->attached)
		return;
	reset(h, s, code);
	if (!h->broken)
		nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
	stream_forget(h, s);
}

void h2_consume_stream(struct h2 *h, struct h2_stream *s, uint32_t n)
{
	/* after its end nobody needs the window */
	if (s->attached && !s->in_end && !h->broken)
		nghttp2_session_consume_stream(h->session, s->id, n);
}

void h2_consume_connection(struct h2 *h, uint32_t n)
{
	if (!h->broken)
		nghttp2_session_consume_connection(h->session, n);
}

void h2_ping(struct h2 *h, uint64_t opaque)
{
	uint8_t p[8];

	memcpy(p, &opaque, sizeof(p));
	if (!h->broken)
		nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, p);
}

void h2_shutdown_notice(struct h2 *h)
{
	if (!h->broken && !h->shut)
		nghttp2_submit_shutdown_notice(h->session);
}

void h2_shutdown(struct h2 *h)
{
	if (h->broken || h->shut)
		return;
	h->shut = true;
	nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
	                      nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR, NULL,
	                      0);
}

void h2_terminate(struct h2 *h, enum h2_code code)
{
	if (h->broken)
		return;
	h->shut = true;
	nghttp2_session_terminate_session(h->session, (uint32_t)code);
}

uint32_t h2_streams_allowed(const struct h2 *h)
{
	if (h->broken)
		return 0;
	return nghttp2_session_get_remote_settings(h->session,
	                                           NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

const char *h2_failure(const struct h2 *h)
{
	if (h->calm)
		return "flood of frames";
	if (!h->goaway_error)
		return h->broken ? "HTTP/2 session failed" : NULL;
	switch (h->goaway_code) {
	case NGHTTP2_PROTOCOL_ERROR:
		return "HTTP/2 protocol error";
	case NGHTTP2_FLOW_CONTROL_ERROR:
		return "HTTP/2 flow control error";
	case NGHTTP2_SETTINGS_TIMEOUT:
		return "HTTP/2 settings not acknowledged";
	case NGHTTP2_STREAM_CLOSED:
		return "HTTP/2 frame on a closed stream";
	case NGHTTP2_FRAME_SIZE_ERROR:
		return "HTTP/2 frame size error";
	case NGHTTP2_COMPRESSION_ERROR:
		return "HTTP/2 compression error";
	default:
		return "HTTP/2 error";
	}
}
