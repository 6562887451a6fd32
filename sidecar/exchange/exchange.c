#include "sidecar/exchange/exchange.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/log.h"
#include "sidecar/exchange/access.h"
#include "sidecar/exchange/attempt.h"
#include "sidecar/exchange/grpc.h"
#include "sidecar/exchange/heads.h"
#include "sidecar/exchange/internal.h"
#include "sidecar/exchange/reply.h"
#include "sidecar/exchange/route.h"
#include "sidecar/exchange/tunnel.h"
#include "sidecar/exchange/wishes.h"

static const struct {
	const char *doing;
	uint32_t    may_go;
} states[EXCH_STATES] = {
#define STATE(name, doing, to) [EXCH_##name] = { doing, to },
#include "sidecar/exchange/exch.def"
#undef STATE
};

const char *exch_state_doing(enum exch_state s)
{
	return states[s].doing;
}

/* The only writer of e->state. */
void exch_goto(struct exchange *e, enum exch_state to)
{
	OBJ_CHECK(e, EXCHANGE_MAGIC);
	assert(states[e->state].may_go & UINT32_C(1) << to);
	e->state = (uint8_t)to;
	e->state_ns = exch_now(e);
}

/* ---- birth ---- */

void exchange_env_name(struct exchange_env *env)
{
	const uint8_t *id = rhc_seg_hdr(env->upstreams->seg)->uuid;
	int n = snprintf(env->via, sizeof(env->via), "%s-", env->config->responses.proxy_status.name);

	assert(n > 0 && (size_t)n + EXCH_VIA_DIGITS < sizeof(env->via)); /* 64 bytes, says the schema */
	for (unsigned i = 0; i < EXCH_VIA_DIGITS / 2; i++)
		snprintf(env->via + n + 2 * i, 3, "%02x", id[i]);
}

int exchange_env_init(struct exchange_env *env, uint32_t exchanges_max)
{
	exchange_env_name(env);
	return slab_init(&env->slab, "exchange", sizeof(struct exchange), exchanges_max);
}

void exchange_env_fini(struct exchange_env *env)
{
	slab_fini(&env->slab);
}

static const struct message_events down_events;
static void on_timer(struct timer *t);

void exchange_begin(const struct exchange_listener *l, struct message *m)
{
	struct exchange_env *env = l->env;
	struct exchange *e = slab_get(&env->slab);

	if (!e)
		return;
	memset(e, 0, offsetof(struct exchange, body));
	e->magic = EXCHANGE_MAGIC;
	e->env = env;
	e->listener = l;
	e->down = m;
	e->endpoint = ENDPOINT_NONE;
	e->retry_skipped = RETRY_NOT_NEEDED;
	e->grpc_status = GRPC_NONE;
	e->timer.fn = on_timer;
	e->start_ns = e->state_ns = e->down_ns = exch_now(e);
	body_init(&e->body, 0);
	attempt_init(e);
	m->ev = &down_events;
	m->owner = e;
	if (access_on(env->access))
		access_note(env->access, m->conn);
	env->in_flight++;
}

/* ---- the request ---- */

static void down_on_head(struct message *m, struct http_head *h, bool end)
{
	struct exchange *e = m->owner;
	enum rhc_error err;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	e->req = h;
	e->start_ns = exch_now(e);
	e->body.complete = end;
	err = route(e);
	wishes_request_id(e);
	if (err != RHC_ERR_none) {
		rhc_ctr_inc(e->env->counters, RHC_WCTR_req_bad);
		exch_reply(e, err);
		return;
	}
	upstream_hold(e->upstream); /* a target of the forward proxy must not go while we know it */
	upstream_count(e->upstream, RHC_CTR_req_started);
	wishes_take(e);
	body_init(&e->body, (uint32_t)e->upstream->policy->retry.max_body_bytes);
	e->body.complete = end;
	if (e->upstream->policy->limits.max_request_body && h->body == HTTP_BODY_LENGTH &&
	    h->body_len > e->upstream->policy->limits.max_request_body) {
		exch_body_too_large(e);
		return;
	}
	if (e->upgrade && attempt_cannot_upgrade(e)) {
		snprintf(e->detail, sizeof(e->detail), "%s speaks HTTP/2 alone (pool.http2: prior_knowledge)",
		         e->upstream->name);
		exch_reply(e, RHC_ERR_upgrade_failed);
		return;
	}
	attempt_begin(e);
}

void exch_body_too_large(struct exchange *e)
{
	snprintf(e->detail, sizeof(e->detail), "request body is larger than limits.max_request_body (%llu bytes)",
	         (unsigned long long)e->upstream->policy->limits.max_request_body);
	e->reply_status = 413;
	attempt_abandon(e);
	exch_reply(e, RHC_ERR_bad_request);
}

/* After the answer is decided the rest of the request is only read away. */
static bool body_is_wanted(const struct exchange *e)
{
	return e->state < EXCH_RELAY || (e->state == EXCH_RELAY && e->up);
}

static void down_on_body(struct message *m, struct slice data)
{
	struct exchange *e = m->owner;
	uint64_t limit;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	e->down_ns = exch_now(e);
	e->expects = false; /* it did not wait any longer */
	if (!body_is_wanted(e)) {
		uint32_t n = data.n;

		slice_drop(data);
		message_pipe(m, NULL); /* what is only dropped is read more cheaply */
		message_consume(m, n);
		return;
	}
	limit = e->upstream->policy->limits.max_request_body;
	if (limit && e->body.bytes + data.n > limit && e->state < EXCH_RELAY) {
		slice_drop(data);
		exch_body_too_large(e);
		return;
	}
	if (attempt_streams(e)) {
		attempt_send_body(e, data);
		return;
	}
	if (body_append(&e->body, e->env->http->stream.bufs, data) != 0) {
		snprintf(e->detail, sizeof(e->detail), "no buffer for the request body");
		exch_fail(e, RHC_ERR_overloaded);
		return;
	}
	attempt_pump(e);
}

static void down_on_end(struct message *m, struct http_head *trailers)
{
	struct exchange *e = m->owner;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (!body_is_wanted(e))
		return;
	e->body.complete = true;
	e->trailers = trailers;
	attempt_pump(e);
}

void exch_continue(struct exchange *e)
{
	struct head_text t;
	struct http_head *h;

	if (!e->expects)
		return;
	e->expects = false;
	e->down_ns = exch_now(e);
	h = head_begin(e->env, &t);
	h->status = 100;
	h->version = HTTP_1_1;
	h->keep_alive = true;
	(void)message_send_head(e->down, h, false); /* without it the app will wait no longer than it wishes to */
}

/* ---- the answer ---- */

static void down_on_sent(struct message *m, uint32_t n, bool all)
{
	struct exchange *e = m->owner;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	e->down_ns = exch_now(e);
	e->bytes_sent += n;
	if (n && e->state == EXCH_RELAY && e->up) {
		message_consume(e->up, n);
		if (!m->out_unsent)
			exch_turn_of(e, &e->progress_ns);
	}
	if (all && (e->state == EXCH_FLUSH || e->state == EXCH_REPLY))
		exch_finish(e);
}

static void down_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct exchange *e = m->owner;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	(void)err;
	(void)unprocessed;
	e->aborted = true;
	if (e->state <= EXCH_RELAY) {
		e->error = RHC_ERR_caller_aborted;
		attempt_abandon(e);
	}
	exch_finish(e);
}

static const struct message_events down_events = {
	.on_head = down_on_head,
	.on_body = down_on_body,
	.on_end = down_on_end,
	.on_sent = down_on_sent,
	.on_error = down_on_error,
};

void exch_reply(struct exchange *e, enum rhc_error err)
{
	const struct error_row *row = error_row(err);

	e->error = (uint8_t)err;
	e->own_reply = true;
	e->down_ns = exch_now(e);
	exch_goto(e, EXCH_REPLY);
	exch_arm(e);
	if (e->upstream && log_on(LOG_CORE, LOG_DEBUG)) {
		const struct log_ctx ctx = { .upstream = e->upstream->name, .attempt = e->attempt };

		log_event_ctx(&ctx, LOG_CORE, LOG_DEBUG, "call_failed",
		              LOG_STRN("request_id", e->request_id.p, e->request_id.n), LOG_STR("error", row->id),
		              LOG_STR("detail", e->detail));
	}
	if (row->status == 0 || reply_send(e) != 0) {
		e->broken = true;
		exch_finish(e);
	}
}

/* ---- the end ---- */

static unsigned answer_counter(const struct exchange *e)
{
	if (e->aborted || e->broken || e->status < 100)
		return RHC_CTR_req_aborted;
	if (e->own_reply)
		return e->status >= 500 || e->error == RHC_ERR_circuit_open ? RHC_CTR_req_sidecar_5xx :
		                                                             RHC_CTR_req_sidecar_4xx;
	return RHC_CTR_req_upstream_1xx + e->status / 100 - 1;
}

static void count_call(struct exchange *e, uint64_t now)
{
	struct upstream *up = e->upstream;
	bool ok = !e->error && !e->failed;
	uint64_t known = 0, total = now - e->start_ns;

	upstream_count(up, RHC_CTR_req_finished);
	upstream_count(up, answer_counter(e));
	if (e->error)
		rhc_ctr_inc(up->ctr, RHC_CTR_call_error + e->error);
	if (!e->aborted && e->attempt > 0)
		upstream_count(up, ok ? e->reason_count ? RHC_CTR_calls_ok_retried : RHC_CTR_calls_ok_first :
		                  e->reason_count ? RHC_CTR_calls_failed_retried :
		                                    RHC_CTR_calls_failed_first);
	for (unsigned i = 0; i < PHASES; i++) {
		known += e->phases[i];
		if (e->phases[i])
			rhc_ctr_add(up->ctr, RHC_CTR_ns_queue + i, e->phases[i]);
	}
	rhc_ctr_add(up->ctr, RHC_CTR_ns_overhead, total > known ? total - known : 0);
	rhc_ctr_add(up->ctr, RHC_CTR_bytes_request, e->body.bytes);
	rhc_ctr_add(up->ctr, RHC_CTR_bytes_response, e->bytes_sent);
	if (e->tunnel)
		return; /* how long two programs talk says nothing of how long a call takes */
	upstream_time(up, RHC_HIST_request, total);
	upstream_time(up, RHC_HIST_overhead, total > known ? total - known : 0);
}

void exch_finish(struct exchange *e)
{
	struct exchange_env *env = e->env;
	struct message *down = e->down;
	uint64_t now = exch_now(e);

	exch_goto(e, EXCH_DONE);
	timer_clear(env->http->timers, &e->timer);
	attempt_fini(e);
	if (e->aborted && !e->tunnel)
		e->status = 499; /* nginx's number for it; nobody gets to see it but the log */
	if (e->upstream)
		count_call(e, now);
	if (e->req && access_on(env->access))
		access_write(env->access, e, now);
	if (e->upstream)
		upstream_drop(e->upstream);
	body_fini(&e->body);
	env->in_flight--;
	OBJ_FINI(e, EXCHANGE_MAGIC);
	slab_put(&env->slab, e);
	message_release(down);
}

/* ---- deadlines ---- */

/* When the current state has lasted too long; UINT64_MAX: somebody else watches over it. */
static uint64_t state_due(const struct exchange *e)
{
	const struct config_timeout *t = e->upstream ? &e->upstream->policy->timeout : NULL;
	uint64_t idle = e->listener->config->idle_timeout_ns;

	switch ((enum exch_state)e->state) {
	case EXCH_SEND:
		if (attempt_unsent(e))
			return e->progress_ns + t->write_ns;
		if (e->expects)
			return e->attempt_ns + EXCH_CONTINUE_NS;
		/* everything the app gave has been sent: it is the app that is slow */
		return e->body.complete ? e->progress_ns + t->read_ns : e->down_ns + idle;
	case EXCH_WAIT:
		return e->progress_ns + t->read_ns;
	case EXCH_RELAY:
		return e->down->out_unsent ? e->down_ns + idle : e->progress_ns + t->read_ns;
	case EXCH_TUNNEL:
		return (e->down_ns > e->progress_ns ? e->down_ns : e->progress_ns) + t->tunnel_ns;
	case EXCH_REPLY:
	case EXCH_FLUSH:
		return e->down_ns + idle;
	default:
		return UINT64_MAX;
	}
}

void exch_arm(struct exchange *e)
{
	uint64_t due = state_due(e);

	if (e->state == EXCH_BACKOFF)
		return; /* armed by the retry */
	if (e->deadline_ns && e->deadline_ns < due && e->state >= EXCH_SEND && e->state <= EXCH_RELAY)
		due = e->deadline_ns;
	if (due != UINT64_MAX)
		timer_set(e->env->http->timers, &e->timer, due);
	else
		timer_disarm(&e->timer);
}

void exch_turn_of(struct exchange *e, uint64_t *since_ns)
{
	uint64_t due;

	*since_ns = exch_now(e);
	if (e->state != EXCH_SEND && e->state != EXCH_RELAY)
		return;
	due = state_due(e);
	if (due < e->timer.due_ns)
		exch_arm(e);
}

static void app_is_slow(struct exchange *e)
{
	if (e->state == EXCH_SEND) {
		snprintf(e->detail, sizeof(e->detail), "the request body stalled");
		e->reply_status = 408;
		attempt_abandon(e);
		exch_reply(e, RHC_ERR_bad_request);
		return;
	}
	e->aborted = true;
	if (e->state == EXCH_RELAY) {
		e->error = RHC_ERR_caller_aborted;
		attempt_abandon(e);
	}
	exch_finish(e);
}

static void too_late(struct exchange *e, uint64_t now)
{
	bool total = e->deadline_ns && now >= e->deadline_ns && e->state >= EXCH_SEND && e->state <= EXCH_RELAY;

	if (total) {
		attempt_timeout(e, RHC_ERR_deadline_total);
		return;
	}
	switch ((enum exch_state)e->state) {
	case EXCH_SEND:
		if (attempt_unsent(e)) {
			attempt_timeout(e, RHC_ERR_write_timeout);
		} else if (e->expects) {
			exch_continue(e);
			exch_arm(e);
		} else if (e->body.complete) {
			attempt_timeout(e, RHC_ERR_read_timeout);
		} else {
			app_is_slow(e);
		}
		return;
	case EXCH_TUNNEL:
		tunnel_silent(e);
		return;
	case EXCH_WAIT:
		attempt_timeout(e, RHC_ERR_read_timeout);
		return;
	case EXCH_RELAY:
		if (e->down->out_unsent)
			app_is_slow(e);
		else
			attempt_timeout(e, RHC_ERR_body_timeout);
		return;
	default:
		app_is_slow(e);
		return;
	}
}

static void on_timer(struct timer *t)
{
	struct exchange *e = CONTAINER_OF(t, struct exchange, timer);
	uint64_t now = exch_now(e), due;

	OBJ_CHECK(e, EXCHANGE_MAGIC);
	if (e->state == EXCH_BACKOFF) {
		attempt_again(e);
		return;
	}
	due = state_due(e);
	if (e->deadline_ns && e->deadline_ns < due && e->state <= EXCH_RELAY)
		due = e->deadline_ns;
	if (due > now)
		exch_arm(e); /* there was progress since it was set */
	else
		too_late(e, now);
}
