#include "sidecar/exchange/attempt.h"

#include <stdio.h>
#include <string.h>

#include "sidecar/base/log.h"
#include "sidecar/exchange/grpc.h"
#include "sidecar/exchange/heads.h"
#include "sidecar/exchange/internal.h"
#include "sidecar/exchange/tunnel.h"

static const struct message_events up_events;
static void on_slot(struct guard_ticket *t, enum guard_answer a);
static void on_connection(struct pool_wait *w, struct message *m);
static void slot_answer(struct exchange *e, enum guard_answer a);
static void use_connection(struct exchange *e, struct message *m);
static void take_wait_times(struct exchange *e);

void attempt_init(struct exchange *e)
{
	e->ticket.done = on_slot;
	e->wait.done = on_connection;
	e->wait.ev = &up_events;
	e->wait.owner = e;
}

/* ---- guard, connection ---- */

static void ask_slot(struct exchange *e)
{
	enum guard_answer a;

	exch_goto(e, EXCH_SLOT);
	timer_disarm(&e->timer);
	a = guard_ask(e->upstream, &e->ticket, e->deadline_ns);
	if (a != GUARD_WAIT)
		slot_answer(e, a);
}

bool attempt_cannot_upgrade(const struct exchange *e)
{
	return !e->upstream->tls.any && e->upstream->policy->pool.http2 == CONFIG_HTTP2_PRIOR_KNOWLEDGE;
}

void attempt_begin(struct exchange *e)
{
	e->wait.h1 = e->upgrade;
	e->wait.raw = e->connect;
	retry_budget_first(&e->upstream->budget, exch_now(e));
	ask_slot(e);
}

void attempt_again(struct exchange *e)
{
	e->phases[PHASE_BACKOFF] += exch_now(e) - e->state_ns;
	if (e->up) { /* the discarded answer did not end in time */
		message_release(e->up);
		e->up = NULL;
	}
	e->up_discard = false;
	ask_slot(e);
}

static void on_slot(struct guard_ticket *t, enum guard_answer a)
{
	struct exchange *e = CONTAINER_OF(t, struct exchange, ticket);

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	slot_answer(e, a);
}

static void describe_open(struct exchange *e)
{
	const struct guard_refusal *r = &e->ticket.refusal;
	char last[96] = "", next[48];

	if (r->last_failure_ms != UINT64_MAX)
		snprintf(last, sizeof(last), " (last: %s, %.1fs ago)", rhc_error_name(r->last_error),
		         (double)r->last_failure_ms / 1000);
	if (r->retry_after_ms == UINT64_MAX)
		snprintf(next, sizeof(next), "no probe until it is reset");
	else
		snprintf(next, sizeof(next), "next probe in %.1fs", (double)r->retry_after_ms / 1000);
	if (r->state == RHC_BRK_ISOLATED)
		snprintf(e->detail, sizeof(e->detail), "%s was isolated by an operator; %s", e->upstream->name, next);
	else if (r->total)
		snprintf(e->detail, sizeof(e->detail), "%u of %u attempts at %s failed%s; %s", r->failures, r->total,
		         e->upstream->name, last, next);
	else
		snprintf(e->detail, sizeof(e->detail), "%s failed %u times in a row%s; %s", e->upstream->name,
		         r->failures, last, next);
}

static void slot_answer(struct exchange *e, enum guard_answer a)
{
	const struct config_bulkhead *b = &e->upstream->policy->bulkhead;
	struct message *m;

	e->phases[PHASE_QUEUE] += e->ticket.waited_ns;
	switch (a) {
	case GUARD_GO:
		e->attempt++;
		exch_goto(e, EXCH_CONNECT);
		e->wait.deadline_ns = e->deadline_ns;
		m = pool_take(e->upstream, &e->wait);
		if (m) {
			take_wait_times(e);
			use_connection(e, m);
		}
		return;
	case GUARD_OPEN:
		describe_open(e);
		exch_reply(e, RHC_ERR_circuit_open);
		return;
	case GUARD_TIMEOUT:
		snprintf(e->detail, sizeof(e->detail), "all %u slots of %s stayed in use; bulkhead.acquisition_timeout",
		         b->max_concurrency, e->upstream->name);
		exch_reply(e, RHC_ERR_bulkhead_timeout);
		return;
	case GUARD_QUEUE_FULL:
		snprintf(e->detail, sizeof(e->detail), "%u calls wait for a slot of %s already; bulkhead.max_waiting",
		         b->max_waiting, e->upstream->name);
		exch_reply(e, RHC_ERR_bulkhead_queue_full);
		return;
	case GUARD_DEADLINE:
		snprintf(e->detail, sizeof(e->detail), "it came while waiting for a slot");
		exch_reply(e, RHC_ERR_deadline_total);
		return;
	case GUARD_WAIT:
		break;
	}
	assert(false);
}

static void take_wait_times(struct exchange *e)
{
	e->endpoint = e->wait.endpoint;
	e->phases[PHASE_POOL] += e->wait.pool_ns;
	e->phases[PHASE_DNS] += e->wait.dns_ns;
	e->phases[PHASE_CONNECT] += e->wait.connect_ns;
	e->phases[PHASE_TLS] += e->wait.tls_ns;
}

/* ---- verdict and retry ---- */

struct failure {
	enum rhc_error error;
	uint16_t       status;
	bool           sent, unprocessed, refused, reused, in_started, head_sent, permanent;
	uint64_t       retry_after_ns;
};

static bool body_kept(const struct exchange *e)
{
	return e->body.replay && !e->body_dropped;
}

static struct retry_decision decide(struct exchange *e, const struct failure *x)
{
	struct retry_facts f = {
		.error = x->error,
		.status = x->status,
		.method = e->req->method,
		.permanent = x->permanent,
		.sent = x->sent,
		.unprocessed = x->unprocessed,
		.refused = x->refused,
		.reused = x->reused,
		.in_started = x->in_started,
		.replayed = e->replayed,
		.body_kept = body_kept(e),
		.idempotency_key = http_head_find(e->req, HTTP_FIELD_IDEMPOTENCY_KEY) != NULL,
		.head_sent = x->head_sent,
		.draining = e->env->draining,
		.attempt = e->attempt,
		.attempts_max = e->attempts_max,
		.retry_after_ns = x->retry_after_ns,
		.now_ns = exch_now(e),
		.deadline_ns = e->deadline_ns,
		.random = rng_u64(e->env->rng),
	};

	return upstream_retry(e->upstream, &f);
}

/* Would the next attempt only be told that the circuit is open? */
static bool circuit_is_open(const struct exchange *e)
{
	enum rhc_breaker_state s = rhc_breaker_peek(rhc_seg_up(e->env->upstreams->seg, e->upstream->index));

	return e->upstream->guard.breaks && (s == RHC_BRK_OPEN || s == RHC_BRK_ISOLATED);
}

/* Has the attempt been silent for longer than an upstream may be? */
static bool slower_than_read(const struct exchange *e)
{
	return e->attempt_ns && exch_now(e) - e->attempt_ns > e->upstream->policy->timeout.read_ns;
}

/* Took a slot, so a verdict is due. */
static void verdict(struct exchange *e, enum rhc_error err, uint16_t status)
{
	enum guard_outcome outcome = GUARD_SUCCESS;
	uint64_t end = e->head_ns ? e->head_ns : exch_now(e);

	if (!guard_holds(&e->ticket))
		return;
	e->failed = false;
	if (err == RHC_ERR_deadline_total && !slower_than_read(e))
		outcome = GUARD_IGNORED; /* the caller's haste says nothing of the upstream */
	else if (err != RHC_ERR_none && error_counts(&e->upstream->policy->breaker, err, status))
		outcome = GUARD_FAILURE;
	else if (err != RHC_ERR_none && err != RHC_ERR_status)
		outcome = GUARD_IGNORED;
	e->failed = err != RHC_ERR_none && (outcome == GUARD_FAILURE || err != RHC_ERR_status);
	guard_done(&e->ticket, outcome, err, e->attempt_ns && end > e->attempt_ns ? end - e->attempt_ns : 0);
}

static void note_reason(struct exchange *e, enum rhc_error err)
{
	if (e->reason_count < EXCH_ATTEMPTS_LOGGED)
		e->reasons[e->reason_count] = (uint8_t)err;
	if (e->reason_count < UINT8_MAX)
		e->reason_count++;
}

static void log_retry(const struct exchange *e, const struct failure *x, const struct retry_decision *d)
{
	const struct log_ctx ctx = { .upstream = e->upstream->name, .attempt = e->attempt };

	log_event_ctx(&ctx, LOG_RETRY, d->verdict == RETRY_YES || d->verdict == RETRY_REPLAY ? LOG_INFO : LOG_DEBUG,
	              d->verdict == RETRY_YES || d->verdict == RETRY_REPLAY ? "retry" : "no_retry",
	              LOG_STRN("request_id", e->request_id.p, e->request_id.n),
	              LOG_STR("after", rhc_error_name(x->error)), LOG_STR("verdict", retry_verdict_word(d->verdict)),
	              LOG_DECIMAL("wait_ms", d->wait_ns / 1000, 3), LOG_STR("detail", e->detail[0] ? e->detail : NULL));
}

/*
 * The next attempt: nothing is held meanwhile.  A free replay is the same attempt again, at once and on a
 * connection of its own.
 */
static void back_off(struct exchange *e, const struct retry_decision *d, enum rhc_error err)
{
	body_rewind(&e->body);
	e->attempt_ns = e->head_ns = 0;
	e->attempt_sent = 0;
	e->wait.fresh = d->verdict == RETRY_REPLAY;
	exch_goto(e, EXCH_BACKOFF);
	if (d->verdict == RETRY_REPLAY) {
		e->replayed = true;
		e->attempt--;
		attempt_again(e);
		return;
	}
	note_reason(e, err);
	timer_set_in(e->env->http->timers, &e->timer, d->wait_ns);
}

static void let_go(struct exchange *e)
{
	struct message *m = e->up;

	e->up = NULL;
	if (m)
		message_release(m);
}

/* The attempt ended without a response to pass on. */
static void failed(struct exchange *e, const struct failure *x)
{
	struct retry_decision d;
	bool in_relay = e->state == EXCH_RELAY;

	let_go(e);
	e->error = (uint8_t)x->error;
	/* a stale kept connection is no fault of the upstream: no verdict before the replay */
	verdict(e, x->reused && !x->in_started && x->unprocessed && !e->replayed ? RHC_ERR_caller_aborted : x->error, 0);
	d = decide(e, x);
	if ((d.verdict == RETRY_YES || d.verdict == RETRY_REPLAY) && circuit_is_open(e)) {
		d.verdict = RETRY_CIRCUIT_OPEN;
		upstream_count(e->upstream, RHC_CTR_skip_circuit);
	}
	log_retry(e, x, &d);
	if (d.verdict == RETRY_YES || d.verdict == RETRY_REPLAY) {
		back_off(e, &d, x->error);
		return;
	}
	e->retry_skipped = (uint8_t)d.verdict;
	if (in_relay) {
		e->broken = true;
		exch_finish(e);
		return;
	}
	exch_reply(e, x->error);
}

static void on_connection(struct pool_wait *w, struct message *m)
{
	struct exchange *e = CONTAINER_OF(w, struct exchange, wait);
	struct failure x = { .error = w->error, .permanent = w->permanent, .retry_after_ns = RETRY_AFTER_NONE };

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	take_wait_times(e);
	if (m) {
		use_connection(e, m);
		return;
	}
	snprintf(e->detail, sizeof(e->detail), "%s", w->text);
	failed(e, &x);
}

void attempt_timeout(struct exchange *e, enum rhc_error err)
{
	const struct config_timeout *t = &e->upstream->policy->timeout;
	struct failure x = { .error = err, .sent = true, .head_sent = e->state == EXCH_RELAY,
		             .retry_after_ns = RETRY_AFTER_NONE };

	switch (err) {
	case RHC_ERR_write_timeout:
		snprintf(e->detail, sizeof(e->detail), "timeout.write: %s took nothing for %.1fs", e->upstream->name,
		         (double)t->write_ns / 1e9);
		break;
	case RHC_ERR_read_timeout:
		snprintf(e->detail, sizeof(e->detail), "timeout.read: %s did not answer within %.1fs", e->upstream->name,
		         (double)t->read_ns / 1e9);
		break;
	case RHC_ERR_body_timeout:
		snprintf(e->detail, sizeof(e->detail), "timeout.read: the response of %s stalled for %.1fs",
		         e->upstream->name, (double)t->read_ns / 1e9);
		break;
	default:
		snprintf(e->detail, sizeof(e->detail), "timeout.total: %.1fs passed while %s",
		         (double)(e->deadline_ns - e->start_ns) / 1e9, exch_state_doing((enum exch_state)e->state));
		break;
	}
	failed(e, &x);
}

void exch_fail(struct exchange *e, enum rhc_error err)
{
	attempt_abandon(e);
	if (e->state < EXCH_RELAY) {
		exch_reply(e, err);
		return;
	}
	e->error = (uint8_t)err;
	e->broken = true;
	exch_finish(e);
}

void attempt_abandon(struct exchange *e)
{
	/* the app lost patience with an upstream that had been silent longer than it may be: that is its failure */
	bool slow = e->up && !e->up_discard && (e->state == EXCH_SEND || e->state == EXCH_WAIT) &&
	            slower_than_read(e);

	if (!e->upstream)
		return;
	let_go(e);
	pool_cancel(&e->wait);
	if (slow)
		verdict(e, RHC_ERR_read_timeout, 0);
	else
		guard_cancel(&e->ticket);
}

void attempt_fini(struct exchange *e)
{
	let_go(e);
	if (!e->upstream)
		return;
	pool_cancel(&e->wait);
	guard_cancel(&e->ticket);
}

/* ---- request out ---- */

static void send_request(struct exchange *e, struct message *m)
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
		failed(e, &x);
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

static void use_connection(struct exchange *e, struct message *m)
{
	if (e->connect)
		tunnel_connected(e, m);
	else
		send_request(e, m);
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
	if (e->req->version == HTTP_1_0)
		return;
	if (head_response(e, h, &out) == 0)
		(void)message_send_head(e->down, out, false); /* losing one does no harm */
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
		let_go(e);
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
	d = decide(e, &x);
	if (d.verdict != RETRY_YES) {
		e->retry_skipped = (uint8_t)d.verdict;
		log_retry(e, &x, &d);
		return false;
	}
	verdict(e, RHC_ERR_status, x.status);
	if (circuit_is_open(e)) { /* this failure opened it: the app gets the answer that did */
		d.verdict = RETRY_CIRCUIT_OPEN;
		e->retry_skipped = RETRY_CIRCUIT_OPEN;
		upstream_count(e->upstream, RHC_CTR_skip_circuit);
		log_retry(e, &x, &d);
		return false;
	}
	log_retry(e, &x, &d);
	discard(e, end);
	back_off(e, &d, RHC_ERR_status);
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
	verdict(e, counts ? RHC_ERR_status : RHC_ERR_none, e->verdict_status);
	exch_goto(e, EXCH_FLUSH);
	let_go(e);
	body_fini(&e->body);
	exch_arm(e);
}

static void up_on_head(struct message *m, struct http_head *h, bool end)
{
	struct exchange *e = m->owner;
	struct http_head *out;
	uint64_t now = exch_now(e);

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (h->status == 101) {
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
	if (end)
		answer_done(e);
	else
		exch_arm(e);
}

static void up_on_body(struct message *m, struct slice data)
{
	struct exchange *e = m->owner;
	uint64_t limit;
	uint32_t n = data.n;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->up_discard) {
		slice_drop(data);
		if (m->in_bytes > ATTEMPT_DISCARD_MAX)
			let_go(e);
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
	message_send_body(e->down, data);
}

static void up_on_end(struct message *m, struct http_head *trailers)
{
	struct exchange *e = m->owner;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->up_discard) {
		let_go(e);
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
		let_go(e);
		return;
	}
	if (err == MESSAGE_E_HTTP_1_1_REQUIRED)
		pool_downgrade(e->upstream);
	if (err == MESSAGE_E_PROTOCOL)
		snprintf(e->detail, sizeof(e->detail), "%s: %s", message_error_text(err),
		         http_error_text((enum http_error)m->http_error));
	else
		snprintf(e->detail, sizeof(e->detail), "%s", message_error_text(err));
	failed(e, &x);
}

static const struct message_events up_events = {
	.on_head = up_on_head,
	.on_body = up_on_body,
	.on_end = up_on_end,
	.on_sent = up_on_sent,
	.on_error = up_on_error,
};
