#include "sidecar/upstream/guard.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shm/histogram.h"
#include "shm/host.h"
#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/io/engine.h"
#include "sidecar/upstream/upstream.h"

/* Of a ticket. */
enum { TICKET_IDLE, TICKET_WAITING, TICKET_ADMITTED, TICKET_SETTLED };

static uint64_t now_ms_of(const struct upstreams *all)
{
	return engine_now(all->env.engine) / NS_PER_MS;
}

/* ---- wakes ---- */

static void write_eventfd(struct upstreams *all, uint32_t worker)
{
	int fd = all->env.wake_fds ? all->env.wake_fds[worker] : -1;
	uint64_t one = 1;

	/* Full or closed: the tick of whoever waits covers it. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one))
		rhc_ctr_inc(rhc_seg_wctr(all->seg, all->env.worker->index), RHC_WCTR_wakes_sent);
}

void guard_wake_mask(struct upstreams *all, uint64_t mask)
{
	uint32_t own = all->env.worker->index;

	if (mask >> own & 1)
		engine_defer(all->env.engine, &all->look);
	mask &= ~(UINT64_C(1) << own);
	for (; mask; mask &= mask - 1)
		write_eventfd(all, (uint32_t)__builtin_ctzll(mask));
}

/* ---- who waits ---- */

static void enlist(struct upstream *up)
{
	struct upstreams *all = up->all;

	if (!list_linked(&up->guard.node))
		list_push_back(&all->waiting, &up->guard.node);
	if (!timer_armed(&all->tick))
		timer_set(all->env.timers, &all->tick, upstream_now(up) + GUARD_TICK_NS);
}

static void delist(struct upstream *up)
{
	struct upstreams *all = up->all;

	if (up->guard.bulkhead.waiters > 0)
		return;
	list_remove(&up->guard.node);
	if (list_empty(&all->waiting))
		timer_disarm(&all->tick);
}

static uint64_t waited(struct guard_ticket *t)
{
	uint64_t now = upstream_now(t->up);

	return now > t->asked_ns ? now - t->asked_ns : 0;
}

/* ---- the breaker ---- */

/* last_failure is error:8 | worker:8 | at_ms:48, for display: read whole, in one load */
static void last_failure(const struct rhc_up *rec, uint64_t now_ms, struct guard_refusal *r)
{
	uint64_t word = atomic_load_explicit(&rec->last_failure, memory_order_relaxed);
	uint64_t at_ms = rhc_bits(word, 0, 48);
	unsigned error = (unsigned)rhc_bits(word, 56, 8);

	r->last_error = error < RHC_ERR_COUNT ? (enum rhc_error)error : RHC_ERR_none;
	r->last_failure_ms = at_ms == 0 ? UINT64_MAX : now_ms > at_ms ? now_ms - at_ms : 0;
}

static void explain(struct guard_ticket *t, const struct rhc_refused *why, uint64_t now_ms)
{
	const struct rhc_up *rec = t->up->guard.breaker.up;
	bool bad = false;
	struct rhc_breaker b = rhc_breaker_unpack(atomic_load(&rec->brk), &bad);
	struct rhc_outage outage = rhc_outage_of(rec, &b);
	struct rhc_trip_info trip = rhc_trip_of(rec, b.gen);
	struct guard_refusal *r = &t->refusal;

	r->state = (uint8_t)why->state;
	r->retry_after_ms = why->retry_after_ms;
	r->open_ms = outage.since_ms && now_ms > outage.since_ms ? now_ms - outage.since_ms : 0;
	r->failures = trip.failures;
	r->total = trip.total;
	r->threshold = t->up->policy->breaker.failure_threshold;
	last_failure(rec, now_ms, r);
}

static bool refused_by_breaker(struct guard_ticket *t, bool again, uint64_t now_ms)
{
	struct rhc_breaker_ref *b = &t->up->guard.breaker;
	struct rhc_refused why = { .state = RHC_BRK_CLOSED };
	enum rhc_admit a;

	a = again ? rhc_breaker_readmit(b, now_ms, &t->permit, &why)
		  : rhc_breaker_admit(b, now_ms, &t->permit, &why);
	t->probe = a == RHC_ADMIT_PROBE;
	if (a != RHC_ADMIT_REFUSE)
		return false;
	explain(t, &why, now_ms);
	return true;
}

static void drop_permit(struct guard_ticket *t, uint64_t now_ms)
{
	rhc_breaker_record(&t->up->guard.breaker, &t->permit, RHC_OUTCOME_NONE, 0, now_ms);
	t->probe = false;
}

/* ---- asking ---- */

static enum guard_answer go(struct guard_ticket *t)
{
	t->state = TICKET_ADMITTED;
	upstream_count(t->up, RHC_CTR_att_started);
	return GUARD_GO;
}

/* The wait is over, whatever its end. */
static void end_wait(struct guard_ticket *t)
{
	t->state = TICKET_IDLE;
	t->waited_ns = waited(t);
	timer_clear(t->up->all->env.timers, &t->timer);
	upstream_time(t->up, RHC_HIST_wait, t->waited_ns);
	delist(t->up);
}

static void on_timer(struct timer *timer);

static enum guard_answer wait_for_slot(struct guard_ticket *t, uint64_t deadline_ns)
{
	struct upstreams *all = t->up->all;
	uint64_t due = t->asked_ns + t->up->policy->bulkhead.acquisition_timeout_ns;

	t->state = TICKET_WAITING;
	t->deadline_first = deadline_ns != 0 && deadline_ns < due;
	t->timer.fn = on_timer;
	timer_set(all->env.timers, &t->timer, t->deadline_first ? deadline_ns : due);
	enlist(t->up);
	return GUARD_WAIT;
}

/* acquisition_timeout 0: there was no slot, and nobody waits. */
static enum guard_answer no_wait(struct guard_ticket *t, uint64_t now_ms, uint64_t *wake)
{
	rhc_bulkhead_cancel(&t->up->guard.bulkhead, &t->waiter, now_ms, wake);
	upstream_count(t->up, RHC_CTR_slot_timeout);
	drop_permit(t, now_ms);
	return GUARD_TIMEOUT;
}

static enum guard_answer take_slot(struct guard_ticket *t, uint64_t deadline_ns, uint64_t now_ms,
				   uint64_t *wake)
{
	struct rhc_bulkhead *b = &t->up->guard.bulkhead;
	enum rhc_take took = rhc_bulkhead_try(b, now_ms, &t->slot, wake);

	if (took == RHC_TAKE_FULL)
		took = rhc_bulkhead_wait(b, &t->waiter, now_ms, &t->slot, wake);
	switch (took) {
	case RHC_TAKE_GOT:
		return go(t);
	case RHC_TAKE_WAITING:
		if (t->up->policy->bulkhead.acquisition_timeout_ns == 0)
			return no_wait(t, now_ms, wake);
		return wait_for_slot(t, deadline_ns);
	case RHC_TAKE_QUEUE_FULL:
	case RHC_TAKE_FULL:
		break;
	}
	drop_permit(t, now_ms);
	return GUARD_QUEUE_FULL;
}

enum guard_answer guard_ask(struct upstream *up, struct guard_ticket *t, uint64_t deadline_ns)
{
	uint64_t now_ms = now_ms_of(up->all), wake = 0;
	enum guard_answer a;

	assert(t->state == TICKET_IDLE && t->done != NULL);
	t->up = up;
	t->probe = false;
	t->waited_ns = 0;
	t->asked_ns = upstream_now(up);
	if (refused_by_breaker(t, false, now_ms))
		return GUARD_OPEN;
	if (!up->guard.slots)
		return go(t);
	a = take_slot(t, deadline_ns, now_ms, &wake);
	if (__builtin_expect(wake != 0, 0))
		guard_wake_mask(up->all, wake);
	return a;
}

/* ---- the end of a wait ---- */

/* A slot came: is the circuit still closed? */
static void admit_waiter(struct guard_ticket *t, uint64_t now_ms, uint64_t *wake)
{
	end_wait(t);
	if (refused_by_breaker(t, true, now_ms)) {
		rhc_bulkhead_release(&t->up->guard.bulkhead, &t->slot, now_ms, wake);
		t->done(t, GUARD_OPEN);
		return;
	}
	t->done(t, go(t));
}

static void give_up(struct guard_ticket *t, enum guard_answer a, uint64_t now_ms, uint64_t *wake)
{
	rhc_bulkhead_cancel(&t->up->guard.bulkhead, &t->waiter, now_ms, wake);
	end_wait(t);
	drop_permit(t, now_ms);
	t->done(t, a);
}

static void on_timer(struct timer *timer)
{
	struct guard_ticket *t = CONTAINER_OF(timer, struct guard_ticket, timer);
	struct upstreams *all = t->up->all;
	uint64_t wake = 0;

	assert(t->state == TICKET_WAITING);
	if (!t->deadline_first)
		upstream_count(t->up, RHC_CTR_slot_timeout);
	give_up(t, t->deadline_first ? GUARD_DEADLINE : GUARD_TIMEOUT, now_ms_of(all), &wake);
	guard_wake_mask(all, wake);
}

/*
 * The circuit opened while they waited: nobody of them can go, so nobody waits out his time.  One
 * that would be let through as a probe keeps its place: readmit decides when its slot comes.
 */
static void refuse_waiters(struct upstream *up, uint64_t now_ms, uint64_t *wake)
{
	while (up->guard.bulkhead.first) {
		struct guard_ticket *t =
			CONTAINER_OF(up->guard.bulkhead.first, struct guard_ticket, waiter);

		if (!refused_by_breaker(t, true, now_ms))
			return;
		give_up(t, GUARD_OPEN, now_ms, wake);
	}
}

static bool circuit_open(const struct upstream *up)
{
	enum rhc_breaker_state state = rhc_breaker_peek(up->guard.breaker.up);

	return state == RHC_BRK_OPEN || state == RHC_BRK_ISOLATED;
}

static void look_at(struct upstream *up, uint64_t *wake)
{
	uint64_t now_ms = now_ms_of(up->all);
	struct rhc_slot slot;
	struct rhc_waiter *w;

	if (circuit_open(up))
		refuse_waiters(up, now_ms, wake);
	while ((w = rhc_bulkhead_poll(&up->guard.bulkhead, now_ms, &slot, wake)) != NULL) {
		struct guard_ticket *t = CONTAINER_OF(w, struct guard_ticket, waiter);

		t->slot = slot;
		admit_waiter(t, now_ms, wake);
	}
}

void guard_wake(struct upstreams *all)
{
	struct list todo;
	struct list_node *n;
	uint64_t wake = 0;

	list_init(&todo);
	list_splice_back(&todo, &all->waiting);
	/* A callback may end any wait of any upstream: nodes leave either list by themselves. */
	while ((n = list_pop_front(&todo)) != NULL) {
		struct upstream *up = CONTAINER_OF(n, struct upstream, guard.node);

		list_push_back(&all->waiting, n);
		look_at(up, &wake);
		delist(up);
	}
	guard_wake_mask(all, wake);
}

/* ---- afterwards ---- */

bool guard_holds(const struct guard_ticket *t)
{
	return t->state == TICKET_ADMITTED;
}

enum guard_outcome guard_verdict(const struct upstream *up, enum rhc_error error, uint16_t status)
{
	if (error == RHC_ERR_none)
		return GUARD_SUCCESS;
	if (error_counts(&up->policy->breaker, error, status))
		return GUARD_FAILURE;
	return error == RHC_ERR_status ? GUARD_SUCCESS : GUARD_IGNORED;
}

static bool slow(const struct upstream *up, uint64_t took_ns)
{
	const struct config_breaker_slow_call *rule = &up->policy->breaker.slow_call;

	return rule->threshold_bp > 0 && took_ns >= rule->duration_ns;
}

static enum rhc_outcome count_outcome(struct upstream *up, enum guard_outcome outcome,
				      enum rhc_error error, uint64_t took_ns)
{
	if (outcome == GUARD_IGNORED) {
		upstream_count(up, RHC_CTR_att_ignored);
		return RHC_OUTCOME_NONE;
	}
	upstream_time(up, RHC_HIST_attempt, took_ns);
	if (outcome == GUARD_FAILURE) {
		upstream_count(up, RHC_CTR_att_failure);
		upstream_count(up, RHC_CTR_att_error + (unsigned)error);
		return RHC_OUTCOME_FAIL;
	}
	upstream_count(up, RHC_CTR_att_success);
	if (!slow(up, took_ns))
		return RHC_OUTCOME_OK;
	upstream_count(up, RHC_CTR_att_slow);
	return RHC_OUTCOME_SLOW;
}

static void record(struct guard_ticket *t, enum rhc_outcome outcome, enum rhc_error error,
		   uint64_t now_ms)
{
	rhc_breaker_record(&t->up->guard.breaker, &t->permit, outcome, error, now_ms);
}

static void release_slot(struct guard_ticket *t, uint64_t now_ms)
{
	uint64_t wake = 0;

	t->state = TICKET_IDLE;
	upstream_count(t->up, RHC_CTR_att_finished);
	if (t->up->guard.slots)
		rhc_bulkhead_release(&t->up->guard.bulkhead, &t->slot, now_ms, &wake);
	if (__builtin_expect(wake != 0, 0))
		guard_wake_mask(t->up->all, wake);
}

static void give_back(struct guard_ticket *t, enum rhc_outcome outcome, enum rhc_error error)
{
	uint64_t now_ms = now_ms_of(t->up->all);

	/* The verdict first: whoever gets the slot shall see what it says. */
	record(t, outcome, error, now_ms);
	release_slot(t, now_ms);
}

void guard_done(struct guard_ticket *t, enum guard_outcome outcome, enum rhc_error error,
		uint64_t took_ns)
{
	assert(t->state == TICKET_ADMITTED);
	give_back(t, count_outcome(t->up, outcome, error, took_ns), error);
}

void guard_settle(struct guard_ticket *t, enum guard_outcome outcome, enum rhc_error error,
		  uint64_t took_ns)
{
	assert(t->state == TICKET_ADMITTED);
	t->state = TICKET_SETTLED;
	record(t, count_outcome(t->up, outcome, error, took_ns), error, now_ms_of(t->up->all));
}

void guard_cancel(struct guard_ticket *t)
{
	uint64_t now_ms, wake = 0;

	if (t->state == TICKET_IDLE)
		return;
	if (t->state == TICKET_ADMITTED) {
		upstream_count(t->up, RHC_CTR_att_ignored);
		give_back(t, RHC_OUTCOME_NONE, RHC_ERR_none);
		return;
	}
	now_ms = now_ms_of(t->up->all);
	if (t->state == TICKET_SETTLED) {
		release_slot(t, now_ms);
		return;
	}
	rhc_bulkhead_cancel(&t->up->guard.bulkhead, &t->waiter, now_ms, &wake);
	end_wait(t);
	drop_permit(t, now_ms);
	guard_wake_mask(t->up->all, wake);
}

/* ---- life ---- */

void guard_init(struct upstream *up)
{
	struct guard *g = &up->guard;

	memset(g, 0, sizeof(*g));
	g->slots = up->policy->bulkhead.enabled;
	rhc_bulkhead_init(&g->bulkhead, up->all->env.worker, up->index);
	rhc_breaker_init(&g->breaker, up->all->env.worker, up->index);
}

void guard_fini(struct upstream *up)
{
	assert(up->guard.bulkhead.waiters == 0 && !list_linked(&up->guard.node));
}

static void second(struct upstream *up, uint64_t now_ms, uint64_t *wake)
{
	rhc_breaker_tick(&up->guard.breaker, now_ms);
	rhc_bulkhead_reconcile(up->all->seg, up->index, now_ms, &up->all->env.worker->ring, wake);
	rhc_ctr_set(up->ctr, RHC_CTR_retry_budget_milli,
		    retry_budget_left_milli(&up->budget, upstream_now(up)));
	if (up->guard.slots)
		rhc_bulkhead_calm(&up->guard.bulkhead);
}

void guard_second(struct upstreams *all)
{
	uint64_t now_ms = now_ms_of(all), wake = 0;

	for (uint32_t i = 0; i < all->n; i++)
		second(&all->up[i], now_ms, &wake);
	for (uint32_t i = 0; i < all->forward_max; i++) {
		struct upstream *up = all->forward[i];

		if (up && !up->host)
			second(up, now_ms, &wake);
		else if (up && !up->resting && up->users == 0)
			upstream_forward_rest(up); /* asked for, and then nobody called it */
	}
	rhc_host_tick(all->env.worker, now_ms, &wake);
	guard_wake_mask(all, wake);
}
