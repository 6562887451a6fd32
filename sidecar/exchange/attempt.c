#include "sidecar/exchange/attempt.h"

#include <stdio.h>
#include <string.h>

#include "sidecar/base/log.h"
#include "sidecar/exchange/attempt_private.h"
#include "sidecar/exchange/internal.h"
#include "sidecar/exchange/tunnel.h"

static void on_slot(struct guard_ticket *t, enum guard_answer a);
static void on_connection(struct pool_wait *w, struct message *m);
static void slot_answer(struct exchange *e, enum guard_answer a);
static void use_connection(struct exchange *e, struct message *m);
static void take_wait_times(struct exchange *e);

void attempt_init(struct exchange *e)
{
	e->ticket.done = on_slot;
	e->wait.done = on_connection;
	e->wait.ev = &attempt_up_events;
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
	e->up_version = 0;
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

static bool body_kept(const struct exchange *e)
{
	return e->body.replay && !e->body_dropped;
}

struct retry_decision attempt_decide(struct exchange *e, const struct failure *x)
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
bool attempt_circuit_is_open(const struct exchange *e)
{
	enum rhc_breaker_state s = rhc_breaker_peek(rhc_seg_up(e->env->upstreams->seg, e->upstream->index));

	return s == RHC_BRK_OPEN || s == RHC_BRK_ISOLATED;
}

/* Has the attempt been silent for longer than an upstream may be? */
static bool slower_than_read(const struct exchange *e)
{
	return e->attempt_ns && exch_now(e) - e->attempt_ns > e->upstream->policy->timeout.read_ns;
}

/* Took a slot, so a verdict is due. */
void attempt_verdict(struct exchange *e, enum rhc_error err, uint16_t status)
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

void attempt_log_retry(const struct exchange *e, const struct failure *x, const struct retry_decision *d)
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
void attempt_back_off(struct exchange *e, const struct retry_decision *d, enum rhc_error err)
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

void attempt_let_go(struct exchange *e)
{
	struct message *m = e->up;

	e->up = NULL;
	if (m)
		message_release(m);
}

/* The attempt ended without a response to pass on. */
void attempt_failed(struct exchange *e, const struct failure *x)
{
	struct retry_decision d;
	bool in_relay = e->state == EXCH_RELAY;

	attempt_let_go(e);
	e->error = (uint8_t)x->error;
	/* a stale kept connection is no fault of the upstream: no verdict before the replay */
	attempt_verdict(e, x->reused && !x->in_started && x->unprocessed && !e->replayed ? RHC_ERR_caller_aborted : x->error, 0);
	d = attempt_decide(e, x);
	if ((d.verdict == RETRY_YES || d.verdict == RETRY_REPLAY) && attempt_circuit_is_open(e)) {
		d.verdict = RETRY_CIRCUIT_OPEN;
		upstream_count(e->upstream, RHC_CTR_skip_circuit);
	}
	attempt_log_retry(e, x, &d);
	if (d.verdict == RETRY_YES || d.verdict == RETRY_REPLAY) {
		attempt_back_off(e, &d, x->error);
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
	attempt_failed(e, &x);
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
	attempt_failed(e, &x);
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
	attempt_let_go(e);
	pool_cancel(&e->wait);
	if (slow)
		attempt_verdict(e, RHC_ERR_read_timeout, 0);
	else
		guard_cancel(&e->ticket);
}

void attempt_fini(struct exchange *e)
{
	attempt_let_go(e);
	if (!e->upstream)
		return;
	pool_cancel(&e->wait);
	guard_cancel(&e->ticket);
}

/* ---- the connection is there ---- */

static void use_connection(struct exchange *e, struct message *m)
{
	e->up_version = e->connect ? 0 : m->version;
	if (e->connect)
		tunnel_connected(e, m);
	else
		attempt_request(e, m);
}
