/*
 * sidecar/exchange/attempt_relay.c - an attempt on its connection: request out, response in.
 */
#include <stdio.h>
#include <string.h>

#include "sidecar/exchange/attempt_private.h"
#include "sidecar/exchange/grpc.h"
#include "sidecar/exchange/heads.h"
#include "sidecar/exchange/internal.h"
#include "sidecar/exchange/tunnel.h"

/* ---- request out ---- */

void attempt_request(struct exchange *e, struct message *m)
{
	struct failure x = { .error = RHC_ERR_overloaded, .retry_after_ns = RETRY_AFTER_NONE };
	struct http_head *h;
	bool end = e->req->body == HTTP_BODY_NONE || (e->body.complete && e->body.bytes == 0 && !e->trailers);
	int rc;

	e->up = m;
	e->up_discard = false;
	e->attempt_ns = e->progress_ns = exch_now(e);
	e->head_ns = 0;
	e->attempt_sent = 0;
	exch_goto(e, EXCH_SEND);
	rc = head_request(e, &h);
	if (rc == 0)
		rc = message_send_head(m, h, end);
	if (rc != 0) {
		snprintf(e->detail, sizeof(e->detail), "the request head cannot be sent: %s", strerror(-rc));
		attempt_failed(e, &x);
		return;
	}
	/*
	 * Slot, circuit and connection are there, so the body is welcome.  An HTTP/1.1 upstream may want to say so itself, and
	 * has EXCH_CONTINUE_NS for it; few who speak HTTP/2 ever do.
	 */
	if (m->version == HTTP_2)
		exch_continue(e);
	if (!end)
		attempt_pump(e);
	exch_arm(e);
}

bool attempt_streams(const struct exchange *e)
{
	return e->up && !e->up_discard && e->state >= EXCH_SEND && !e->body.replay && e->body.count == 0;
}

/* The upstream had everything there was: from now on it has to take this within timeout.write. */
static void begin_write(struct exchange *e, bool was_idle)
{
	if (!was_idle || e->state != EXCH_SEND)
		return;
	e->progress_ns = exch_now(e);
	exch_arm(e);
}

void attempt_send_body(struct exchange *e, struct slice data)
{
	bool idle = !attempt_unsent(e);

	e->body.bytes += data.n;
	e->body_dropped = true;
	message_send_body(e->up, data);
	message_pipe(e->down, e->up); /* what is sent now cannot be repeated anyway */
	begin_write(e, idle);
}

void attempt_pump(struct exchange *e)
{
	struct slice s;
	bool idle;

	if (!e->up || e->up_discard || e->state < EXCH_SEND || e->up->out_ended)
		return;
	idle = !attempt_unsent(e);
	while (body_next(&e->body, &s)) {
		if (!e->body.replay)
			e->body_dropped = true;
		message_send_body(e->up, s);
	}
	if (e->body.complete)
		message_send_end(e->up, e->trailers);
	begin_write(e, idle);
}

bool attempt_unsent(const struct exchange *e)
{
	return e->up && (e->up->out_unsent > 0 || !e->up->out_left);
}

static void up_on_sent(struct message *m, uint32_t n, bool all)
{
	struct exchange *e = m->owner;
	uint64_t now = exch_now(e);

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->up_discard)
		return;
	e->progress_ns = now;
	e->attempt_sent += n;
	if (e->attempt_sent > e->granted) {
		/* what a retry sends once more was granted before */
		message_consume(e->down, (uint32_t)(e->attempt_sent - e->granted));
		e->granted = e->attempt_sent;
	}
	if (all && e->state == EXCH_SEND) {
		exch_goto(e, EXCH_WAIT);
		e->phases[PHASE_SEND] += now - e->attempt_ns;
		exch_arm(e);
	} else if (e->state == EXCH_SEND && !e->body.complete && !attempt_unsent(e)) {
		exch_turn_of(e, &e->down_ns);
	}
}

/* ---- response in ---- */

/*
 * 100, 102, 103: the app gets them as they come; the answer has not begun with them.  One 100 at most, and only if it
 * was asked for; HTTP/1.0 knows none of them (RFC 9110 §15.2).
 */
static void interim(struct exchange *e, const struct http_head *h)
{
	struct http_head *out;

	e->progress_ns = exch_now(e);
	if (h->status == 100) {
		exch_continue(e);
		return;
	}
	if (e->req->version == HTTP_1_0 || h->status == 101)
		return;
	if (head_response(e, h, &out) == 0)
		(void)message_send_head(e->down, out, false); /* losing one does no harm */
}

/* A proxy behind us says that the call runs in a circle (RFC 9209 §2.3): each repetition would run through it again. */
static bool says_loop(const struct http_head *h)
{
	static const char word[] = "proxy_loop_detected";

	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		if (f->id == HTTP_FIELD_PROXY_STATUS && memmem(f->value, f->value_len, word, sizeof(word) - 1))
			return true;
	}
	return false;
}

/* Status first, then Retry-After: what the retry decision has to know of a response. */
static struct failure answer_failure(const struct exchange *e, const struct http_head *h)
{
	const struct http_field *after = http_head_find(h, HTTP_FIELD_RETRY_AFTER);

	return (struct failure){
		.error = RHC_ERR_status,
		.status = e->verdict_status,
		.sent = true,
		.in_started = true,
		.reused = e->up->reused,
		.permanent = says_loop(h),
		.retry_after_ns = after ? retry_after_parse((struct http_str){ after->value, after->value_len },
		                                            clock_wall_ns()) :
		                          RETRY_AFTER_NONE,
	};
}

/* Read the rest of an answer that nobody gets, so that the connection stays usable. */
static void discard(struct exchange *e, bool end)
{
	e->up_discard = true;
	if (end)
		attempt_let_go(e);
}

/* true: the answer is dropped and another attempt will come. */
static bool retry_answer(struct exchange *e, const struct http_head *h, bool end)
{
	struct failure x;
	struct retry_decision d;

	if (e->verdict_status < 400)
		return false;
	x = answer_failure(e, h);
	if (x.status < 500 && !config_status_in(&e->upstream->policy->retry.statuses, x.status))
		return false;
	d = attempt_decide(e, &x);
	if (d.verdict != RETRY_YES) {
		e->retry_skipped = (uint8_t)d.verdict;
		attempt_log_retry(e, &x, &d);
		return false;
	}
	attempt_verdict(e, RHC_ERR_status, x.status);
	if (attempt_circuit_is_open(e)) { /* this failure opened it: the app gets the answer that did */
		d.verdict = RETRY_CIRCUIT_OPEN;
		e->retry_skipped = RETRY_CIRCUIT_OPEN;
		upstream_count(e->upstream, RHC_CTR_skip_circuit);
		attempt_log_retry(e, &x, &d);
		return false;
	}
	attempt_log_retry(e, &x, &d);
	discard(e, end);
	attempt_back_off(e, &d, RHC_ERR_status);
	return true;
}

/* Of a gRPC call grpc-status tells, which an answer without a body has in its head, and all others in their trailers. */
static void take_status(struct exchange *e, const struct http_head *h)
{
	int code = e->grpc ? grpc_status_of(h) : GRPC_NONE;

	if (code == GRPC_NONE)
		return;
	e->grpc_status = (int16_t)code;
	e->verdict_status = grpc_http_status(code);
}

static void answer_done(struct exchange *e)
{
	bool counts = error_counts(&e->upstream->policy->breaker, RHC_ERR_status, e->verdict_status);

	e->phases[PHASE_RECEIVE] += exch_now(e) - e->head_ns;
	attempt_verdict(e, counts ? RHC_ERR_status : RHC_ERR_none, e->verdict_status);
	if (!e->down->out_unsent)
		e->down_ns = exch_now(e);
	exch_goto(e, EXCH_FLUSH);
	attempt_let_go(e);
	body_fini(&e->body);
	exch_arm(e);
}

static void up_on_head(struct message *m, struct http_head *h, bool end)
{
	struct exchange *e = m->owner;
	struct http_head *out;
	uint64_t now = exch_now(e);

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (h->body == HTTP_BODY_TUNNEL) { /* only after what we asked for: sidecar/http/message.h */
		tunnel_upgraded(e, h);
		return;
	}
	if (h->status < 200) {
		interim(e, h);
		return;
	}
	e->progress_ns = e->head_ns = now;
	e->upstream_status = e->verdict_status = h->status;
	if (end && h->status == 200)
		take_status(e, h);
	e->phases[PHASE_TTFB] += now - (e->state == EXCH_WAIT ? e->state_ns : e->attempt_ns);
	e->detail[0] = 0;
	e->error = RHC_ERR_none;
	if (retry_answer(e, h, end))
		return;
	body_no_replay(&e->body);
	exch_goto(e, EXCH_RELAY);
	e->status = h->status;
	if (head_response(e, h, &out) != 0 || message_send_head(e->down, out, end) != 0) {
		snprintf(e->detail, sizeof(e->detail), "the response head cannot be sent");
		exch_fail(e, RHC_ERR_overloaded);
		return;
	}
	if (end) {
		answer_done(e);
		return;
	}
	message_pipe(m, e->down);
	exch_arm(e);
}

static void up_on_body(struct message *m, struct slice data)
{
	struct exchange *e = m->owner;
	uint64_t limit;
	uint32_t n = data.n;
	bool idle;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->up_discard) {
		slice_drop(data);
		if (m->in_bytes > ATTEMPT_DISCARD_MAX)
			attempt_let_go(e);
		else
			message_consume(m, n);
		return;
	}
	e->progress_ns = exch_now(e);
	limit = e->upstream->policy->limits.max_response_body;
	if (limit && m->in_bytes > limit) {
		slice_drop(data);
		snprintf(e->detail, sizeof(e->detail), "response body is larger than limits.max_response_body");
		exch_fail(e, RHC_ERR_response_body_too_large);
		return;
	}
	idle = !e->down->out_unsent;
	message_send_body(e->down, data);
	if (idle && e->down->out_unsent)
		exch_turn_of(e, &e->down_ns);
}

static void up_on_end(struct message *m, struct http_head *trailers)
{
	struct exchange *e = m->owner;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->up_discard) {
		attempt_let_go(e);
		return;
	}
	if (trailers && e->upstream_status == 200)
		take_status(e, trailers);
	message_send_end(e->down, trailers);
	answer_done(e);
}

static void up_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct exchange *e = m->owner;
	struct failure x = {
		.error = error_of_message(err, m->http_error, e->state == EXCH_RELAY),
		.sent = m->out_left,
		.unprocessed = unprocessed,
		.refused = err == MESSAGE_E_REFUSED || err == MESSAGE_E_HTTP_1_1_REQUIRED,
		.reused = m->reused,
		.in_started = m->in_started,
		.head_sent = e->state == EXCH_RELAY,
		.retry_after_ns = RETRY_AFTER_NONE,
	};

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->up_discard) {
		attempt_let_go(e);
		return;
	}
	if (err == MESSAGE_E_HTTP_1_1_REQUIRED)
		pool_downgrade(e->upstream);
	if (err == MESSAGE_E_PROTOCOL)
		snprintf(e->detail, sizeof(e->detail), "%s: %s", message_error_text(err),
		         http_error_text((enum http_error)m->http_error));
	else
		snprintf(e->detail, sizeof(e->detail), "%s", message_error_text(err));
	attempt_failed(e, &x);
}

const struct message_events attempt_up_events = {
	.on_head = up_on_head,
	.on_body = up_on_body,
	.on_end = up_on_end,
	.on_sent = up_on_sent,
	.on_error = up_on_error,
};
