/*
 * sidecar/http/h1_conn.c - the life of an h1 connection: events of its stream, timeouts, ends of
 * messages.
 */
#include "sidecar/http/h1_conn.h"

#include "sidecar/http/h1_private.h"

/* --- deferred work --- */

static void later(void *arg)
{
	struct http_conn *c = arg;

	h1_report_sent(c);
	if (!c->closing)
		h1_pump(c);
}

void h1_later(struct http_conn *c)
{
	engine_defer(c->env->stream.engine, &c->h1.later);
}

/* --- events of the stream --- */

void h1_conn_start(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	c->version = HTTP_1_1;
	h->later.fn = later;
	h->later.arg = c;
	h->want = true; /* conn.c asked already */
}

void h1_conn_data(struct http_conn *c, struct slice s)
{
	struct h1_state *h = &c->h1;

	if (h->lingering) {
		h->drained += s.n;
		slice_drop(s);
		if (h->drained > H1_LINGER_MAX && stream_queued(&c->stream) == 0)
			http_conn_reset(c, c->why);
		return;
	}
	if (h->in == H1_IN_DEAD) {
		slice_drop(s);
		return;
	}
	if (!h1_rx_push(h, s)) { /* more than one read can bring: the peer gains nothing */
		h1_fail(c, MESSAGE_E_OVERLOAD, HTTP_OK);
		return;
	}
	h1_pump(c);
}

void h1_conn_eof(struct http_conn *c, enum stream_error err)
{
	struct h1_state *h = &c->h1;

	if (h->lingering) {
		http_conn_close(c, c->why);
		return;
	}
	h->eof = true;
	h->eof_err = (uint8_t)err;
	/* nobody is left to be answered; a client may yet read what came before the reset */
	if (err != STREAM_OK && c->role == HTTP_SERVER)
		h1_rx_clear(h);
	h1_pump(c);
}

void h1_conn_sent(struct http_conn *c)
{
	h1_report_sent(c);
}

/* --- ends --- */

void h1_conn_dead(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	h->in = H1_IN_DEAD;
	h->draining = h->lingering = false;
	h1_rx_clear(h);
	if (h->live)
		return;
	h1_store_put(c, &h->store);
	h1_store_put(c, &h->trailers);
}

void h1_linger(struct http_conn *c, const char *why)
{
	struct h1_state *h = &c->h1;

	h1_conn_dead(c);
	h->lingering = true;
	h->patient = false;
	h->drained = 0;
	c->why = why;
	stream_shutdown(&c->stream);
	timer_set_in(c->env->timers, &c->timer, H1_DRAIN_NS);
	h1_want(c);
}

/* No byte left, or the peer had closed before it came: message.h. */
static bool is_unprocessed(const struct http_conn *c)
{
	const struct message *m = &c->h1.m;

	return c->role == HTTP_CLIENT && (!m->out_left || http_conn_was_stale(c, m));
}

static void tell_error(struct http_conn *c, enum message_error err, enum http_error detail)
{
	struct h1_state *h = &c->h1;

	h->told = true;
	h->m.http_error = (uint16_t)detail;
	h->m.ev->on_error(&h->m, err, is_unprocessed(c));
}

void h1_fail(struct http_conn *c, enum message_error err, enum http_error detail)
{
	struct h1_state *h = &c->h1;
	bool             tell = h->live && !h->told && !(h->m.in_ended && h->all_told);
	/* a request whose body is malformed can be answered while nothing of an answer left */
	bool answer = c->role == HTTP_SERVER && h->live && detail != HTTP_OK && !h->m.out_head;

	if (answer)
		h1_refuse(c, http_error_status(detail), "bad_request", http_error_text(detail),
		          detail);
	else
		http_conn_reset(c, err == MESSAGE_E_PROTOCOL ? http_error_text(detail) :
		                                               message_error_text(err));
	if (tell)
		tell_error(c, err, detail);
}

void h1_conn_gone(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	if (h->later.fn != NULL)
		engine_undefer(&h->later);
	h1_conn_dead(c);
	if (!h->live) {
		http_conn_finish(c);
		return;
	}
	/* the release finishes the connection, within this call or later */
	if (!h->told && !(h->m.in_ended && h->all_told))
		tell_error(c, MESSAGE_E_RESET, HTTP_OK);
}

/* --- the end of a message --- */

static void idle(struct http_conn *c)
{
	c->h1.in = H1_IN_IDLE;
	c->idle_since_ns = engine_now(c->env->stream.engine);
	timer_set_in(c->env->timers, &c->timer, c->limits->idle_timeout_ns);
}

static void client_released(struct http_conn *c, bool ended)
{
	struct h1_state *h = &c->h1;

	if (!ended && h->in != H1_IN_IDLE) {
		http_conn_reset(c, "a message was given up");
		return;
	}
	if (c->draining || h->eof || h->n_rx > 0 || (ended && !h->keep_alive)) {
		http_conn_close(c, h->n_rx > 0 ? "bytes behind a response" : "the last response");
		return;
	}
	idle(c);
	c->ev->on_capacity(c);
}

/* The answer is out and the request was read to its end. */
static void server_next(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	if (!h->keep_alive || c->draining) {
		if (h->n_rx > 0) /* a pipeline goes on behind it */
			h1_linger(c, "the last answer was sent");
		else
			http_conn_close(c, "the last answer was sent");
		return;
	}
	idle(c);
	if (h->pumping)
		return;
	if (h->n_rx > 0 || h->eof)
		h1_later(c);
	else
		h1_want(c);
}

void h1_drained(struct http_conn *c)
{
	c->h1.draining = false;
	h1_store_put(c, &c->h1.trailers);
	server_next(c);
}

static void server_released(struct http_conn *c, bool in, bool out)
{
	struct h1_state *h = &c->h1;

	if (!out || h->tunnel) {
		/* what left of an answer must not look complete */
		if (h->m.out_head && !(in && out))
			http_conn_reset(c, "an answer was given up");
		else
			http_conn_close(c, "a message was given up");
		return;
	}
	if (in) {
		server_next(c);
		return;
	}
	if (!h->keep_alive || h->in != H1_IN_BODY) {
		h1_linger(c, "answered before the request was read");
		return;
	}
	h->draining = true;
	h->drained = 0;
	timer_set_in(c->env->timers, &c->timer, H1_DRAIN_NS);
	h1_later(c);
}

void h1_release(struct message *m)
{
	struct http_conn *c = m->conn;
	struct h1_state  *h = &c->h1;

	OBJ_FINI(m, H1_MESSAGE_MAGIC);
	assert(h->live && &h->m == m);
	h->live = false;
	h->unconsumed = 0;
	c->active = 0;
	h1_store_put(c, &h->store);
	h1_store_put(c, &h->trailers);
	if (c->gone)
		http_conn_finish(c);
	else if (h->in == H1_IN_DEAD)
		return;
	else if (c->role == HTTP_CLIENT)
		client_released(c, m->in_ended && m->out_ended);
	else
		server_released(c, m->in_ended, m->out_ended);
}

struct message *h1_conn_message(struct http_conn *c, const struct message_events *ev, void *owner)
{
	struct h1_state *h = &c->h1;

	assert(h->in == H1_IN_IDLE && !h->live);
	timer_disarm(&c->timer);
	h1_message_begin(c);
	h->m.ev = ev;
	h->m.owner = owner;
	h->keep_alive = true;
	return &h->m;
}

/* --- asked from outside --- */

void h1_conn_drain(struct http_conn *c)
{
	if (!c->h1.live && c->h1.in == H1_IN_IDLE && c->h1.n_rx == 0)
		http_conn_close(c, "drained");
}

void h1_conn_timeout(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	if (h->lingering) {
		/*
		 * RST: behind a plain close our window stays shut, and a peer that is still sending
		 * would probe it until the kernel forgets the socket, a minute later
		 */
		if (h->patient || stream_queued(&c->stream) == 0) {
			http_conn_reset(c, c->why);
			return;
		}
		h->patient = true; /* the answer has not left yet */
		timer_set_in(c->env->timers, &c->timer, HTTP_CLOSE_NS);
	} else if (h->draining) {
		h1_linger(c, "the rest of a request body was too slow to be read");
	} else if (h->in == H1_IN_HEAD && c->role == HTTP_SERVER) {
		h1_refuse(c, 408, "request_timeout", "the request head did not come in time",
		          HTTP_OK);
	} else if (h->in == H1_IN_IDLE && !h->live) {
		http_conn_close(c, "idle timeout");
	}
}
