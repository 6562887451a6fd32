/* sidecar/upstream/guard.h with a real segment and two handles that stand for two workers. */
#include <criterion/criterion.h>

#include "world.h"

static struct world world;
static struct upstream *a, *b; /* the same upstream as worker 0 and worker 1 see it */

struct ticket {
	struct guard_ticket t;
	bool done;
	enum guard_answer answer;
	unsigned order; /* when it was told, 1, 2 ... */
};

static unsigned told;

static void on_done(struct guard_ticket *t, enum guard_answer answer)
{
	struct ticket *x = CONTAINER_OF(t, struct ticket, t);

	cr_assert_not(x->done, "told once");
	x->done = true;
	x->answer = answer;
	x->order = ++told;
}

static enum guard_answer ask(struct upstream *up, struct ticket *x)
{
	*x = (struct ticket){ .t.done = on_done };
	return guard_ask(up, &x->t, 0);
}

#define YAML(policy) "version: 1\nupstreams:\n  orders:\n    url: http://127.0.0.1:9\n" policy

static void begin(const char *yaml)
{
	world_init(&world, 2, ENGINE_AUTO, yaml, NULL);
	a = world_up(&world, 0, "orders");
	b = world_up(&world, 1, "orders");
	told = 0;
}

static void end(void)
{
	world_fini(&world);
}

static void ok(struct ticket *x)
{
	guard_done(&x->t, GUARD_SUCCESS, RHC_ERR_none, NS_PER_MS);
}

static void failed(struct ticket *x)
{
	guard_done(&x->t, GUARD_FAILURE, RHC_ERR_connect_refused, NS_PER_MS);
}

static uint64_t wakes_sent(unsigned worker)
{
	return atomic_load(&rhc_seg_wctr(&world.seg, worker)[RHC_WCTR_wakes_sent]);
}

TestSuite(guard, .fini = end, .timeout = 60);

#define TWO_SLOTS                                                            \
	YAML("    bulkhead: {max_concurrency: 2, acquisition_timeout: 5s}\n" \
	     "    circuit_breaker: {failure_threshold: 3, recovery_timeout: 150ms}\n")

Test(guard, a_healthy_attempt_goes_at_once)
{
	struct ticket x;

	begin(TWO_SLOTS);
	cr_assert_eq(ask(a, &x), GUARD_GO);
	cr_assert(guard_holds(&x.t));
	cr_assert_not(x.t.probe);
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, a->index), 1);
	ok(&x);
	cr_assert_not(guard_holds(&x.t));
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, a->index), 0);
	cr_assert_eq(world_counter(a, RHC_CTR_att_started), 1);
	cr_assert_eq(world_counter(a, RHC_CTR_att_finished), 1);
	cr_assert_eq(world_counter(a, RHC_CTR_att_success), 1);
}

Test(guard, slots_are_shared_by_both_workers)
{
	struct ticket x, y, z;

	begin(TWO_SLOTS);
	cr_assert_eq(ask(a, &x), GUARD_GO);
	cr_assert_eq(ask(b, &y), GUARD_GO);
	cr_assert_eq(ask(a, &z), GUARD_WAIT);
	cr_assert_not(guard_holds(&z.t));
	ok(&y); /* the other worker's release wakes us by its eventfd */
	cr_assert(rig_until(&world.rig, &z.done, 3000));
	cr_assert_eq(z.answer, GUARD_GO);
	cr_assert_gt(z.t.waited_ns, 0);
	cr_assert_geq(wakes_sent(1), 1);
	ok(&z);
	ok(&x);
}

Test(guard, the_queue_is_first_come_first_served_over_both_workers)
{
	struct ticket hold[2], q[6];

	begin(TWO_SLOTS);
	cr_assert_eq(ask(a, &hold[0]), GUARD_GO);
	cr_assert_eq(ask(b, &hold[1]), GUARD_GO);
	for (int i = 0; i < 6; i++)
		cr_assert_eq(ask(i % 2 ? a : b, &q[i]), GUARD_WAIT);
	ok(&hold[0]);
	for (unsigned i = 0; i < 6; i++) {
		cr_assert(rig_until(&world.rig, &q[i].done, 1000), "%u", i);
		cr_assert_eq(q[i].answer, GUARD_GO);
		cr_assert_eq(q[i].order, i + 1);
		ok(&q[i]);
	}
	ok(&hold[1]);
}

Test(guard, a_newcomer_does_not_overtake_the_queue)
{
	struct ticket hold[2], first, late;

	begin(TWO_SLOTS);
	cr_assert_eq(ask(a, &hold[0]), GUARD_GO);
	cr_assert_eq(ask(a, &hold[1]), GUARD_GO);
	cr_assert_eq(ask(a, &first), GUARD_WAIT);
	ok(&hold[0]);
	cr_assert_eq(ask(b, &late), GUARD_WAIT, "a slot is free, but somebody was first");
	cr_assert(rig_until(&world.rig, &first.done, 3000));
	cr_assert_not(late.done);
	ok(&first);
	cr_assert(rig_until(&world.rig, &late.done, 3000));
	ok(&late);
	ok(&hold[1]);
}

Test(guard, waits_end_after_acquisition_timeout)
{
	struct ticket hold, x;
	uint64_t begun;

	begin(YAML("    bulkhead: {max_concurrency: 1, acquisition_timeout: 100ms}\n"));
	cr_assert_eq(ask(a, &hold), GUARD_GO);
	rig_turn(&world.rig);
	begun = engine_now(world.rig.engine); /* the clock of the turn is the one that counts */
	cr_assert_eq(ask(b, &x), GUARD_WAIT);
	cr_assert(rig_until(&world.rig, &x.done, 3000));
	cr_assert_eq(x.answer, GUARD_TIMEOUT);
	cr_assert_geq(clock_ns() - begun, 100 * NS_PER_MS);
	cr_assert_lt(clock_ns() - begun, 1000 * NS_PER_MS);
	cr_assert_geq(x.t.waited_ns, 100 * NS_PER_MS);
	cr_assert_eq(rhc_bulkhead_waiting(&world.seg, a->index), 0);
	cr_assert_eq(world_counter(b, RHC_CTR_slot_timeout), 1);
	ok(&hold);
}

Test(guard, the_deadline_of_the_call_comes_first)
{
	struct ticket hold, x = { .t.done = on_done };

	begin(TWO_SLOTS);
	cr_assert_eq(ask(a, &hold), GUARD_GO);
	cr_assert_eq(ask(a, &x), GUARD_GO);
	ok(&x);
	cr_assert_eq(ask(b, &x), GUARD_GO);
	{
		struct ticket y = { .t.done = on_done };

		cr_assert_eq(guard_ask(a, &y.t, clock_ns() + 50 * NS_PER_MS), GUARD_WAIT);
		cr_assert(rig_until(&world.rig, &y.done, 3000));
		cr_assert_eq(y.answer, GUARD_DEADLINE);
		cr_assert_eq(world_counter(a, RHC_CTR_slot_timeout), 0);
	}
	ok(&x);
	ok(&hold);
}

Test(guard, acquisition_timeout_of_zero_refuses_at_once)
{
	struct ticket hold, x;

	begin(YAML("    bulkhead: {max_concurrency: 1, acquisition_timeout: 0}\n"));
	cr_assert_eq(ask(a, &hold), GUARD_GO);
	cr_assert_eq(ask(b, &x), GUARD_TIMEOUT);
	cr_assert_eq(rhc_bulkhead_waiting(&world.seg, a->index), 0);
	ok(&hold);
	cr_assert_eq(ask(b, &x), GUARD_GO);
	ok(&x);
}

Test(guard, a_full_queue_refuses)
{
	struct ticket hold, x, y;

	begin(YAML(
		"    bulkhead: {max_concurrency: 1, acquisition_timeout: 5s, max_waiting: 1}\n"));
	cr_assert_eq(ask(a, &hold), GUARD_GO);
	cr_assert_eq(ask(a, &x), GUARD_WAIT);
	cr_assert_eq(ask(b, &y), GUARD_QUEUE_FULL);
	ok(&hold);
	cr_assert(rig_until(&world.rig, &x.done, 3000));
	ok(&x);
}

Test(guard, who_cancels_passes_the_baton)
{
	struct ticket hold, x, y;

	begin(YAML("    bulkhead: {max_concurrency: 1, acquisition_timeout: 5s}\n"));
	cr_assert_eq(ask(a, &hold), GUARD_GO);
	cr_assert_eq(ask(a, &x), GUARD_WAIT);
	cr_assert_eq(ask(b, &y), GUARD_WAIT);
	ok(&hold); /* wakes x, which is just going away */
	cr_assert_eq(wakes_sent(0), 0);
	guard_cancel(&x.t);
	cr_assert_eq(wakes_sent(0), 1, "y is told, and need not wait for its tick");
	cr_assert(rig_until(&world.rig, &y.done, 3000));
	cr_assert_eq(y.answer, GUARD_GO);
	cr_assert_not(x.done);
	ok(&y);
	guard_cancel(&x.t); /* holds nothing: fine */
}

Test(guard, an_attempt_given_up_gives_everything_back_without_a_verdict)
{
	struct ticket x;

	begin(TWO_SLOTS);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(ask(a, &x), GUARD_GO);
		guard_cancel(&x.t);
	}
	cr_assert_eq(rhc_breaker_peek(a->guard.breaker.up), RHC_BRK_CLOSED);
	cr_assert_eq(world_counter(a, RHC_CTR_att_ignored), 10);
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, a->index), 0);
}

static void open_circuit(struct upstream *up)
{
	struct ticket x;

	for (int i = 0; i < 3; i++) {
		cr_assert_eq(ask(up, &x), GUARD_GO);
		failed(&x);
	}
}

Test(guard, an_open_circuit_refuses_in_every_worker_and_says_why)
{
	struct ticket x;

	begin(TWO_SLOTS);
	open_circuit(a);
	cr_assert_eq(ask(b, &x), GUARD_OPEN);
	cr_assert_eq(x.t.refusal.state, RHC_BRK_OPEN);
	cr_assert(x.t.refusal.retry_after_ms >= 1 && x.t.refusal.retry_after_ms <= 160);
	cr_assert_eq(x.t.refusal.threshold, 3);
	cr_assert_eq(x.t.refusal.failures, 3);
	cr_assert_eq(x.t.refusal.last_error, RHC_ERR_connect_refused);
	cr_assert_lt(x.t.refusal.last_failure_ms, 1000);
	cr_assert_eq(world_counter(b, RHC_CTR_brk_rejected), 1);
	cr_assert_not(guard_holds(&x.t));
}

Test(guard, one_probe_goes_and_its_success_closes_for_all)
{
	struct ticket probe, x;

	begin(TWO_SLOTS);
	open_circuit(a);
	rig_for(&world.rig, 200);
	cr_assert_eq(ask(b, &probe), GUARD_GO);
	cr_assert(probe.t.probe);
	cr_assert_eq(ask(a, &x), GUARD_OPEN, "one at a time");
	cr_assert_eq(x.t.refusal.state, RHC_BRK_HALF_OPEN);
	ok(&probe);
	cr_assert_eq(ask(a, &x), GUARD_GO);
	cr_assert_not(x.t.probe);
	ok(&x);
}

Test(guard, a_probe_that_is_given_up_leaves_room_for_the_next)
{
	struct ticket probe, x;

	begin(TWO_SLOTS);
	open_circuit(a);
	rig_for(&world.rig, 200);
	cr_assert_eq(ask(b, &probe), GUARD_GO);
	guard_cancel(&probe.t);
	cr_assert_eq(ask(a, &x), GUARD_GO);
	cr_assert(x.t.probe);
	failed(&x);
	cr_assert_eq(ask(a, &x), GUARD_OPEN);
}

Test(guard, who_waits_is_told_when_the_circuit_opens_though_no_slot_comes_free)
{
	struct ticket hold[2], q[3];
	struct rhc_permit permit;
	struct rhc_refused why;
	uint64_t begun = clock_ns();

	begin(YAML("    bulkhead: {max_concurrency: 2, acquisition_timeout: 20s}\n"
		   "    circuit_breaker: {failure_threshold: 1, recovery_timeout: 20s}\n"));
	cr_assert_eq(ask(a, &hold[0]), GUARD_GO);
	cr_assert_eq(ask(b, &hold[1]), GUARD_GO);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(ask(i % 2 ? a : b, &q[i]), GUARD_WAIT);
	/* Another process records the failure that opens it. */
	cr_assert_eq(rhc_breaker_admit(&a->guard.breaker, world_ms(), &permit, &why),
		     RHC_ADMIT_PASS);
	rhc_breaker_record(&a->guard.breaker, &permit, RHC_OUTCOME_FAIL, RHC_ERR_read_timeout,
			   world_ms());
	for (int i = 0; i < 3; i++) {
		cr_assert(rig_until(&world.rig, &q[i].done, 3000), "%d", i);
		cr_assert_eq(q[i].answer, GUARD_OPEN);
		cr_assert_eq(q[i].t.refusal.state, RHC_BRK_OPEN);
	}
	cr_assert_lt(clock_ns() - begun, 5 * NS_PER_S);
	cr_assert_eq(rhc_bulkhead_waiting(&world.seg, a->index), 0);
	ok(&hold[0]);
	ok(&hold[1]);
}

Test(guard, a_slot_that_comes_while_the_circuit_opens_is_given_back)
{
	struct ticket hold[2], q[3];

	begin(YAML("    bulkhead: {max_concurrency: 2, acquisition_timeout: 20s}\n"
		   "    circuit_breaker: {failure_threshold: 1, recovery_timeout: 20s}\n"));
	cr_assert_eq(ask(a, &hold[0]), GUARD_GO);
	cr_assert_eq(ask(b, &hold[1]), GUARD_GO);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(ask(i % 2 ? a : b, &q[i]), GUARD_WAIT);
	failed(&hold[0]);
	for (int i = 0; i < 3; i++) {
		cr_assert(rig_until(&world.rig, &q[i].done, 3000), "%d", i);
		cr_assert_eq(q[i].answer, GUARD_OPEN);
	}
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, a->index), 1);
	ok(&hold[1]);
}

Test(guard, without_a_bulkhead_nobody_waits)
{
	struct ticket x[20];

	begin(YAML("    bulkhead: {enabled: false, max_concurrency: 1}\n"));
	for (int i = 0; i < 20; i++)
		cr_assert_eq(ask(i % 2 ? a : b, &x[i]), GUARD_GO);
	for (int i = 0; i < 20; i++)
		ok(&x[i]);
}

Test(guard, without_a_breaker_nothing_is_refused)
{
	struct ticket x;

	begin(YAML("    circuit_breaker: {enabled: false, failure_threshold: 1}\n"));
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(ask(a, &x), GUARD_GO);
		failed(&x);
	}
	cr_assert_eq(world_counter(a, RHC_CTR_att_failure), 10);
}

Test(guard, the_verdict_follows_the_configuration)
{
	begin(TWO_SLOTS);
	cr_assert_eq(guard_verdict(a, RHC_ERR_none, 0), GUARD_SUCCESS);
	cr_assert_eq(guard_verdict(a, RHC_ERR_status, 503), GUARD_FAILURE);
	cr_assert_eq(guard_verdict(a, RHC_ERR_status, 500), GUARD_SUCCESS);
	cr_assert_eq(guard_verdict(a, RHC_ERR_status, 401), GUARD_SUCCESS);
	cr_assert_eq(guard_verdict(a, RHC_ERR_read_timeout, 0), GUARD_FAILURE);
	cr_assert_eq(guard_verdict(a, RHC_ERR_pool_timeout, 0), GUARD_IGNORED);
	cr_assert_eq(guard_verdict(a, RHC_ERR_caller_aborted, 0), GUARD_IGNORED);
}

static void ask_again(struct guard_ticket *t, enum guard_answer answer)
{
	struct ticket *x = CONTAINER_OF(t, struct ticket, t);

	/*
	 * As an exchange does: its attempt is over within the callback, and the next one asks at
	 * once.
	 */
	cr_assert_eq(answer, GUARD_GO);
	x->order++;
	guard_done(t, GUARD_SUCCESS, RHC_ERR_none, 1);
	if (x->order < 50) {
		if (guard_ask(t->up, t, 0) == GUARD_GO)
			ask_again(t, GUARD_GO);
	} else {
		x->done = true;
	}
}

Test(guard, callbacks_may_ask_again_at_once)
{
	struct ticket hold, q[4];
	unsigned left = 4;

	begin(YAML("    bulkhead: {max_concurrency: 1, acquisition_timeout: 10s}\n"));
	cr_assert_eq(ask(a, &hold), GUARD_GO);
	for (int i = 0; i < 4; i++) {
		q[i] = (struct ticket){ .t.done = ask_again };
		cr_assert_eq(guard_ask(i % 2 ? a : b, &q[i].t, 0), GUARD_WAIT);
	}
	ok(&hold);
	for (int i = 0; i < 2000 && left > 0; i++) {
		rig_turn(&world.rig);
		left = 0;
		for (int k = 0; k < 4; k++)
			left += !q[k].done;
	}
	cr_assert_eq(left, 0);
}

Test(guard, a_dead_workers_slot_comes_back_to_who_waits)
{
	struct ticket hold, x;
	uint64_t wake = 0;
	struct rhc_reaped reaped;

	begin(YAML("    bulkhead: {max_concurrency: 1, acquisition_timeout: 10s}\n"));
	cr_assert_eq(ask(b, &hold), GUARD_GO);
	cr_assert_eq(ask(a, &x), GUARD_WAIT);
	rhc_abandon(&world.w[1].rhc);
	cr_assert_eq(rhc_reap(&world.seg, world.w[0].rhc.lock_fd, 1, world_ms(), &reaped, &wake),
		     0);
	cr_assert_eq(reaped.slots, 1);
	guard_wake_mask(world.w[0].all, wake);
	cr_assert(rig_until(&world.rig, &x.done, 3000));
	cr_assert_eq(x.answer, GUARD_GO);
	ok(&x);
	/* The handle of the dead is not used again; it registers anew so that the world can end. */
	hold.t.state = 0;
	cr_assert_eq(rhc_worker_register(&world.w[1].rhc, &world.seg, 1,
					 &(struct rhc_worker_id){ .pid = 1, .version = "again" },
					 world_ms(), &wake),
		     0);
}
