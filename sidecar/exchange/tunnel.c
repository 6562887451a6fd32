#include "sidecar/exchange/tunnel.h"

#include <stdio.h>

#include "sidecar/exchange/heads.h"
#include "sidecar/exchange/internal.h"

/* ---- the end ---- */

static void finish(struct exchange *e)
{
	e->phases[PHASE_RECEIVE] += exch_now(e) - e->head_ns;
	exch_finish(e);
}

static void maybe_finish(struct exchange *e)
{
	if (e->tunnel_up_done && e->tunnel_down_done)
		finish(e);
}

void tunnel_silent(struct exchange *e)
{
	snprintf(e->detail, sizeof(e->detail), "timeout.tunnel: silence for %.1fs",
	         (double)e->upstream->policy->timeout.tunnel_ns / 1e9);
	e->error = RHC_ERR_body_timeout;
	e->broken = true;
	finish(e);
}

/* ---- the app's side ---- */

static struct exchange *exchange_of(const struct message *m)
{
	struct exchange *e = m->owner;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	assert(e->state == EXCH_TUNNEL);
	return e;
}

static void down_on_body(struct message *m, struct slice data)
{
	struct exchange *e = exchange_of(m);

	e->down_ns = exch_now(e);
	e->body.bytes += data.n;
	message_send_body(e->up, data);
}

static void down_on_end(struct message *m, struct http_head *trailers)
{
	struct exchange *e = exchange_of(m);

	(void)trailers; /* bytes have none */
	e->down_ns = exch_now(e);
	message_send_end(e->up, NULL);
}

static void down_on_sent(struct message *m, uint32_t n, bool all)
{
	struct exchange *e = exchange_of(m);

	e->down_ns = exch_now(e);
	e->bytes_sent += n;
	if (n)
		message_consume(e->up, n);
	if (!all)
		return;
	e->tunnel_down_done = true;
	maybe_finish(e);
}

static void down_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct exchange *e = exchange_of(m);

	(void)err;
	(void)unprocessed;
	e->error = RHC_ERR_caller_aborted;
	e->aborted = true;
	finish(e);
}

static const struct message_events down_events = {
	.on_body = down_on_body,
	.on_end = down_on_end,
	.on_sent = down_on_sent,
	.on_error = down_on_error,
};

/* ---- the upstream's side ---- */

static void up_on_body(struct message *m, struct slice data)
{
	struct exchange *e = exchange_of(m);

	e->progress_ns = exch_now(e);
	message_send_body(e->down, data);
}

static void up_on_end(struct message *m, struct http_head *trailers)
{
	struct exchange *e = exchange_of(m);

	(void)trailers;
	e->progress_ns = exch_now(e);
	message_send_end(e->down, NULL);
}

static void up_on_sent(struct message *m, uint32_t n, bool all)
{
	struct exchange *e = exchange_of(m);

	e->progress_ns = exch_now(e);
	if (n)
		message_consume(e->down, n);
	if (!all)
		return;
	e->tunnel_up_done = true;
	maybe_finish(e);
}

static void up_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct exchange *e = exchange_of(m);

	(void)unprocessed;
	snprintf(e->detail, sizeof(e->detail), "%s", message_error_text(err));
	e->error = (uint8_t)error_of_message(err, m->http_error, true);
	e->broken = true;
	finish(e);
}

static const struct message_events up_events = {
	.on_body = up_on_body,
	.on_end = up_on_end,
	.on_sent = up_on_sent,
	.on_error = up_on_error,
};

/* ---- the beginning ---- */

/* The app said something before the tunnel was there (possible in HTTP/2 alone); it is on the way to be consumed. */
static void send_waiting(struct exchange *e)
{
	struct slice s;

	body_no_replay(&e->body);
	while (body_next(&e->body, &s))
		message_send_body(e->up, s);
	/* HTTP/1.1 ends the request with its head; what it calls the end of the tunnel is FIN */
	if (e->body.complete && e->req->version == HTTP_2)
		message_send_end(e->up, NULL);
}

static void begin(struct exchange *e, const struct http_head *h)
{
	uint64_t now = exch_now(e);

	exch_goto(e, EXCH_TUNNEL);
	e->tunnel = true;
	e->status = h->status;
	e->head_ns = e->progress_ns = e->down_ns = now;
	guard_settle(&e->ticket, GUARD_SUCCESS, RHC_ERR_none, now - e->attempt_ns);
	if (message_send_head(e->down, h, false) != 0) {
		snprintf(e->detail, sizeof(e->detail), "the response head cannot be sent");
		e->error = RHC_ERR_overloaded;
		e->broken = true;
		exch_finish(e);
		return;
	}
	e->down->ev = &down_events;
	e->up->ev = &up_events;
	send_waiting(e);
	exch_arm(e);
}

void tunnel_upgraded(struct exchange *e, struct http_head *h)
{
	struct http_head *out;

	e->upstream_status = h->status;
	e->phases[PHASE_TTFB] += exch_now(e) - (e->state == EXCH_WAIT ? e->state_ns : e->attempt_ns);
	if (head_response(e, h, &out) != 0) {
		snprintf(e->detail, sizeof(e->detail), "the response head cannot be sent");
		exch_fail(e, RHC_ERR_overloaded);
		return;
	}
	begin(e, out);
}

void tunnel_connected(struct exchange *e, struct message *m)
{
	static const struct http_head nothing = { .method = HTTP_METHOD_CONNECT };
	struct http_head *h;
	struct head_text t;

	e->up = m;
	e->attempt_ns = exch_now(e);
	h = head_begin(e->env, &t);
	h->status = 200;
	h->version = HTTP_1_1;
	h->body = HTTP_BODY_TUNNEL;
	/* Content-Length and Transfer-Encoding have no place here (RFC 9110 §9.3.6) */
	if (head_annotate(e, h, &t) != 0 || message_send_head(m, &nothing, false) != 0) {
		snprintf(e->detail, sizeof(e->detail), "the answer to CONNECT cannot be sent");
		exch_fail(e, RHC_ERR_overloaded);
		return;
	}
	begin(e, h);
}
