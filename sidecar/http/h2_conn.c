/*
 * sidecar/http/h2_conn.c - life of a connection that speaks HTTP/2.
 *
 * Calls of messages only mark the session; h2_work(), deferred to the end of the turn, pumps all of
 * it into the byte stream at once, tells capacity and losses, decides whether to read and whether
 * the connection is over.  It is also the only place that pumps, so the codec is never entered from
 * its own events.
 */
#include "sidecar/http/h2_conn.h"

#include <assert.h>
#include <errno.h>

#include "sidecar/http/h2_private.h"
#include "sidecar/io/sock.h"

const size_t h2_conn_size = sizeof(struct h2_conn);
const size_t h2_stream_size = sizeof(struct h2_msg);

static void h2_work(void *arg);

static struct h2_conn *conn_of(struct http_conn *c)
{
	OBJ_CHECK(c->h2, H2_CONN_MAGIC);
	return c->h2;
}

void h2_conn_kick(struct h2_conn *hc)
{
	engine_defer(hc->c->env->stream.engine, &hc->work);
}

/* --- start --- */

static uint32_t clamp(uint32_t v, uint32_t min, uint32_t max)
{
	return v < min ? min : v > max ? max : v;
}

static struct h2_config config_of(struct h2_conn *hc)
{
	const struct http_limits *l = hc->c->limits;
	uint32_t                  window = clamp(l->h2_window, H2_WINDOW_MIN, H2_CONN_WINDOW_MAX);

	return (struct h2_config){
		.server = hc->c->role == HTTP_SERVER,
		.ev = &h2_conn_events,
		.arg = hc,
		.streams_max = clamp(l->streams_max, 1, H2_STREAMS_MAX),
		.window = window,
		.window_connection = window * H2_CONN_WINDOW_FACTOR,
		.head_max = clamp(l->head_max, 1, H2_HEAD_MAX),
		.target_max = l->target_max,
		.now_ms = h2_now(hc) / NS_PER_MS,
	};
}

static uint32_t capacity_of(const struct h2_conn *hc)
{
	const struct http_conn *c = hc->c;
	uint32_t                n = h2_streams_allowed(&hc->h2);
	uint64_t                left;

	if (c->draining || c->closing || hc->dead)
		return 0;
	n = n < c->limits->streams_max ? n : c->limits->streams_max;
	if (c->limits->requests_max > 0) {
		left = c->limits->requests_max;
		left = c->served < left ? left - c->served : 0;
		n = left + c->active < n ? (uint32_t)left + c->active : n;
	}
	return n;
}

/*
 * What is in the kernel can neither be cancelled nor overtaken by other streams.  HTTP/1 has nothing to overtake and does
 * without: with it a large upload costs a tenth more.
 */
static void bound_unsent(const struct http_conn *c)
{
	static const struct sock_opts opts = { .notsent_lowat = H2_CONN_NOTSENT_MAX };

	if (c->role == HTTP_CLIENT && c->stream.fd >= 0)
		(void)sock_tune(c->stream.fd, &opts); /* without it the connection still works */
}

int h2_conn_start(struct http_conn *c)
{
	struct h2_conn  *hc = slab_get(c->env->h2_slab);
	struct h2_config conf;
	int              err;

	if (!hc)
		return -ENOBUFS;
	OBJ_INIT(hc, H2_CONN_MAGIC);
	hc->c = c;
	hc->work.fn = h2_work;
	hc->work.arg = hc;
	list_init(&hc->msgs);
	conf = config_of(hc);
	err = h2_init(&hc->h2, &conf);
	if (err < 0) {
		slab_put(c->env->h2_slab, hc);
		return err;
	}
	c->h2 = hc;
	c->version = HTTP_2;
	bound_unsent(c);
	hc->rx_ns = c->idle_since_ns = h2_now(hc);
	if (c->role == HTTP_SERVER)
		hc->head_ns = hc->rx_ns;
	c->capacity = c->role == HTTP_CLIENT ? capacity_of(hc) : 0;
	h2_conn_kick(hc);
	return 0;
}

/* --- the end --- */

static struct h2_msg *first_open(struct h2_conn *hc)
{
	LIST_FOREACH (n, &hc->msgs) {
		struct h2_msg *m = LIST_ENTRY(n, struct h2_msg, node);

		if (h2_msg_is_open(m))
			return m;
	}
	return NULL;
}

void h2_conn_fail(struct h2_conn *hc, enum message_error err)
{
	struct h2_msg *m;

	hc->dead = true;
	hc->c->capacity = 0;
	/* a handler may release any of them, so begin anew each time; at most streams_max */
	while ((m = first_open(hc)) != NULL) {
		bool interrupted = err == MESSAGE_E_EOF && m->m.in_started;

		h2_msg_fail(m, interrupted ? MESSAGE_E_INCOMPLETE : err, h2_msg_is_unprocessed(m));
	}
	LIST_FOREACH (n, &hc->msgs)
		h2_msg_lose_out(LIST_ENTRY(n, struct h2_msg, node));
}

/* Whatever the session still has to say (GOAWAY) goes first, as far as there is room. */
static void last_words(struct h2_conn *hc)
{
	if (!hc->h2.feeding && !hc->h2.pumping)
		(void)h2_pump(&hc->h2);
}

/*
 * GOAWAY is queued and the messages were told.  failed: RFC 9113 §5.4.1, the peer is not waited for
 * longer than it takes.
 */
static void finish(struct h2_conn *hc, const char *why, bool failed)
{
	struct http_conn *c = hc->c;

	if (c->closing || hc->lingering) /* by a handler */
		return;
	if (!failed && c->role == HTTP_CLIENT) {
		http_conn_close(c, why);
		return;
	}
	hc->lingering = true;
	hc->patient = !failed;
	if (!c->why)
		c->why = why;
	stream_shutdown(&c->stream);
	timer_set_in(c->env->timers, &c->timer, H2_LINGER_NS);
	stream_want(&c->stream, true, true);
}

/* Bytes behind the end. */
static void drop(struct h2_conn *hc, uint32_t n)
{
	hc->dropped += n;
	if (hc->lingering && hc->dropped > H2_LINGER_MAX && stream_queued(&hc->c->stream) == 0)
		http_conn_reset(hc->c, NULL);
}

void h2_conn_linger_due(struct h2_conn *hc)
{
	struct http_conn *c = hc->c;

	if (c->closing || !hc->patient || stream_queued(&c->stream) == 0) {
		http_conn_reset(c, NULL);
		return;
	}
	hc->patient = false; /* the end of an answer has not left yet */
	timer_set_in(c->env->timers, &c->timer, HTTP_CLOSE_NS);
}

void h2_conn_close(struct h2_conn *hc, enum message_error err, const char *why)
{
	if (hc->c->closing)
		return;
	h2_terminate(&hc->h2, H2_NO_ERROR);
	last_words(hc);
	if (hc->c->closing) /* by a handler */
		return;
	h2_conn_fail(hc, err);
	finish(hc, why, false);
}

/* The peer broke the protocol or flooded us, or memory is out. */
static void session_failed(struct h2_conn *hc, int err)
{
	const char *why;

	last_words(hc);
	if (hc->c->closing) /* by a handler */
		return;
	why = err == -ENOMEM ? "out of memory for HTTP/2" : h2_failure(&hc->h2);
	h2_conn_fail(hc, err == -ENOMEM ? MESSAGE_E_OVERLOAD : MESSAGE_E_PROTOCOL);
	finish(hc, why ? why : "HTTP/2 session failed", true);
}

/* Both sides have said everything: close, in order. */
static void close_when_over(struct h2_conn *hc)
{
	struct http_conn *c = hc->c;

	if (hc->dead || c->closing)
		return;
	if (c->draining && list_empty(&hc->msgs) && hc->drain_ns == 0) {
		h2_conn_close(hc, MESSAGE_E_RESET, NULL);
		return;
	}
	if (!h2_over(&hc->h2))
		return;
	/*
	 * nghttp2 ended the session by itself, for a connection error of the peer; or GOAWAY was
	 * followed by the last
	 */
	h2_conn_fail(hc, h2_failure(&hc->h2) ? MESSAGE_E_PROTOCOL : MESSAGE_E_RESET);
	finish(hc, h2_failure(&hc->h2), h2_failure(&hc->h2) != NULL);
}

void h2_conn_free(struct http_conn *c)
{
	struct h2_conn *hc = conn_of(c);

	h2_conn_fail(hc, MESSAGE_E_RESET);
	LIST_FOREACH_SAFE (n, &hc->msgs) {
		struct h2_msg *m = LIST_ENTRY(n, struct h2_msg, node);

		h2_detach(&hc->h2, &m->s, H2_CANCEL);
		h2_marks_forget(&hc->marks, m);
		m->closed = true;
		if (!m->live)
			h2_msg_free(m);
	}
	h2_fini(&hc->h2);
	hc->gone = true;
	if (list_empty(&hc->msgs))
		h2_conn_finish(hc);
}

void h2_conn_finish(struct h2_conn *hc)
{
	struct http_conn *c = hc->c;

	assert(hc->gone && c->active == 0);
	engine_undefer(&hc->work);
	OBJ_FINI(hc, H2_CONN_MAGIC);
	slab_put(c->env->h2_slab, hc);
	c->h2 = NULL;
	http_conn_finish(c);
}

/* --- bytes --- */

static void note_head(struct h2_conn *hc)
{
	if (hc->c->role != HTTP_SERVER)
		return;
	if (!h2_in_head(&hc->h2))
		hc->head_ns = 0;
	else if (hc->head_ns == 0)
		hc->head_ns = hc->rx_ns;
}

void h2_conn_data(struct http_conn *c, struct slice s)
{
	struct h2_conn *hc = conn_of(c);
	int             err;

	if (hc->dead || c->closing) {
		slice_drop(s);
		drop(hc, s.n);
		return;
	}
	hc->rx = s.buf;
	hc->rx_ns = h2_now(hc);
	hc->rx_bytes += s.n;
	err = h2_feed(&hc->h2, s.p, s.n, hc->rx_ns / NS_PER_MS);
	hc->rx = NULL;
	slice_drop(s);
	if (hc->dead || c->closing) /* by a handler */
		return;
	if (err < 0) {
		session_failed(hc, err);
		return;
	}
	note_head(hc);
	h2_conn_kick(hc);
}

static enum message_error error_of(enum stream_error err)
{
	switch (err) {
	case STREAM_OK:
		return MESSAGE_E_EOF; /* or INCOMPLETE */
	case STREAM_E_TLS:
	case STREAM_E_TLS_ALERT:
	case STREAM_E_TLS_CERT:
		return MESSAGE_E_TLS;
	case STREAM_E_NO_BUFFERS:
		return MESSAGE_E_OVERLOAD;
	default:
		return MESSAGE_E_RESET;
	}
}

/* FIN without our consent ends it: HTTP/2 knows no half-closed connections. */
void h2_conn_eof(struct http_conn *c, enum stream_error err)
{
	struct h2_conn *hc = conn_of(c);

	if (hc->lingering && !c->closing) {
		c->err = STREAM_OK; /* how the peer takes it is no news */
		http_conn_close(c, NULL);
	}
	if (hc->dead)
		return;
	h2_conn_fail(hc, error_of(err));
	http_conn_close(c, NULL);
}

void h2_conn_sent(struct http_conn *c, uint32_t n)
{
	struct h2_conn *hc = conn_of(c);
	struct h2_sent  sent;

	while (h2_marks_sent(&hc->marks, &n, &sent)) {
		struct h2_msg *m = sent.m;

		if (!m || !m->live || m->told)
			continue;
		m->m.out_unsent -= sent.body;
		m->all_told |= sent.end;
		m->m.ev->on_sent(&m->m, sent.body, sent.end);
	}
	if (!hc->dead)
		h2_conn_kick(hc);
}

/* --- the end of a turn --- */

static struct h2_msg *first_loss(struct h2_conn *hc)
{
	LIST_FOREACH (n, &hc->msgs) {
		struct h2_msg *m = LIST_ENTRY(n, struct h2_msg, node);

		if (h2_msg_has_loss(m))
			return m;
	}
	return NULL;
}

static void tell_losses(struct h2_conn *hc)
{
	struct h2_msg *m;

	hc->losses = false;
	/* what a handler loses meanwhile is told in the next pass, so this ends */
	for (uint32_t left = hc->n_msgs; left > 0 && (m = first_loss(hc)) != NULL; left--)
		h2_msg_report_loss(m);
}

static void tell_capacity(struct h2_conn *hc)
{
	struct http_conn *c = hc->c;
	uint32_t          now = capacity_of(hc);

	hc->capacity_dirty = false;
	if (c->role != HTTP_CLIENT || c->draining)
		return;
	c->capacity = now;
	if (c->limits->requests_max > 0 && c->served >= c->limits->requests_max) {
		h2_conn_drain(c);
		if (c->ev->on_draining)
			c->ev->on_draining(c);
		return;
	}
	if (c->ev->on_capacity)
		c->ev->on_capacity(c);
}

/*
 * A peer that makes us reply and does not read gets no more work done.  DATA does not count: its
 * amount is the peer's own window, and two ends that both wait for the other to read would wait for
 * ever.
 */
static void update_want(struct h2_conn *hc)
{
	bool blocked = stream_queued(&hc->c->stream) >= H2_QUEUE_MAX;
	bool piled = blocked && h2_backlog(&hc->h2) > H2_UNREAD_MAX;
	bool want = hc->marks.lead < H2_REPLIES_MAX && !piled;
	bool large = hc->c->active > 0;

	if (want == hc->want && large == hc->large)
		return;
	hc->want = want;
	hc->large = large;
	stream_want(&hc->c->stream, want, large);
}

static void h2_work(void *arg)
{
	struct h2_conn *hc = arg;
	int             err;

	OBJ_CHECK(hc, H2_CONN_MAGIC);
	if (hc->losses)
		tell_losses(hc);
	if (hc->dead || hc->c->closing)
		return;
	if (hc->capacity_dirty)
		tell_capacity(hc);
	if (hc->dead || hc->c->closing)
		return;
	err = h2_pump(&hc->h2);
	if (hc->dead || hc->c->closing)
		return;
	if (err < 0) {
		session_failed(hc, err);
		return;
	}
	update_want(hc);
	close_when_over(hc);
	h2_timer_set(hc);
}

/* --- messages, drain, abort --- */

struct message *h2_conn_message(struct http_conn *c, const struct message_events *ev, void *owner)
{
	struct h2_conn *hc = conn_of(c);
	struct h2_msg  *m;

	assert(c->role == HTTP_CLIENT && c->active < c->capacity && !hc->dead);
	m = h2_msg_new(hc);
	if (!m)
		return NULL;
	m->m.ev = ev;
	m->m.owner = owner;
	h2_msg_announce(m);
	if (c->limits->requests_max > 0) {
		c->capacity = capacity_of(hc);
		hc->capacity_dirty = true;
	}
	h2_conn_kick(hc);
	return &m->m;
}

void h2_conn_goodbye(struct h2_conn *hc)
{
	hc->drain_ns = 0;
	if (hc->drained || hc->dead)
		return;
	hc->drained = true;
	h2_shutdown(&hc->h2);
	h2_conn_kick(hc);
}

/*
 * RFC 9113 §6.8: a server first says that it is going, and a round trip later, when what was under
 * way has arrived, which stream was the last.
 */
void h2_conn_drain(struct http_conn *c)
{
	struct h2_conn *hc = conn_of(c);

	if (hc->dead || (c->role == HTTP_SERVER && (hc->drain_ns > 0 || hc->drained)))
		return;
	c->draining = true;
	c->capacity = 0;
	if (c->role == HTTP_SERVER) {
		hc->drain_ns = h2_now(hc) + H2_DRAIN_NS;
		h2_shutdown_notice(&hc->h2);
		h2_ping(&hc->h2, hc->drain_ns);
	}
	h2_conn_kick(hc);
}

void h2_conn_abort(struct http_conn *c)
{
	struct h2_conn *hc = conn_of(c);

	if (hc->dead && c->closing) {
		http_conn_reset(c, NULL);
		return;
	}
	h2_conn_fail(hc, MESSAGE_E_RESET);
	http_conn_reset(c, NULL);
}

const char *h2_conn_failure(const struct http_conn *c)
{
	return c->h2 ? h2_failure(&c->h2->h2) : NULL;
}
