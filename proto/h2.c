/*
 * proto/h2.c - the session: its life, the pump, and the calls.
 */
#include "proto/h2.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/h2_private.h"

const char h2_preface[H2_PREFACE_LEN] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/*
 * Newer nghttp2 limit more by themselves.  Distributions back-port these calls, so the version
 * number says nothing: a weak symbol is there or not.  Both limits also hit honest peers (many
 * cancelled calls), and the token bucket does their work, so they are set out of its way.
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
	/*
	 * Beyond this no more work is taken: what streams_max streams with their heads can need,
	 * several times over.
	 */
	MEM_BASE = 4 * 1024 * 1024,
	MEM_PER_STREAM = 8 * 1024,
};

/* --- life --- */

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
	int                        err = h2_callbacks_new(&cb);

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
	int err = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, iv,
	                                  sizeof(iv) / sizeof(iv[0]));

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
	h2_mem_init(&h->mem);
	h->mem_max = MEM_BASE + (size_t)MEM_PER_STREAM * conf->streams_max;
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

bool h2_over_memory(const struct h2 *h)
{
	return h->mem.live > h->mem_max;
}

static int input_failed(struct h2 *h, ssize_t lib_error)
{
	if (lib_error == NGHTTP2_ERR_NOMEM) {
		h->broken = true;
		return -ENOMEM;
	}
	if (lib_error == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
		h2_terminate(h, H2_PROTOCOL_ERROR);
	} else if (!h->calm) {
		/*
		 * too many replies that nobody reads, or (where it has been patched, without a name
		 * in every header) too many CONTINUATIONs
		 */
		h->calm = true;
		h2_terminate(h, H2_ENHANCE_YOUR_CALM);
	}
	return -EPROTO;
}

int h2_feed(struct h2 *h, const uint8_t *p, size_t n, uint64_t now_ms)
{
	ssize_t used;

	assert(!h->feeding && !h->pumping);
	if (h->broken || h->calm)
		return -EPROTO;
	h->now_ms = now_ms;
	if (h2_over_memory(h)) {
		h2_terminate(h, H2_ENHANCE_YOUR_CALM);
		return -ENOMEM;
	}
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
	while (h->conf.ev->room(h->conf.arg, false)) {
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

void h2_stream_forget(struct h2 *h, struct h2_stream *s)
{
	s->attached = false;
	h2_mem_free(&h->mem, s->trailers);
	s->trailers = NULL;
	if (h->in.s == s)
		h->in.s = NULL;
	if (h->last == s)
		h->last = NULL;
}

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
	h2_stream_forget(h, s);
}

void h2_consume_stream(struct h2 *h, struct h2_stream *s, uint32_t n)
{
	s->in_held -= n < s->in_held ? n : s->in_held;
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
	                      nghttp2_session_get_last_proc_stream_id(h->session),
	                      NGHTTP2_NO_ERROR, NULL, 0);
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
