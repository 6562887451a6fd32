/* Slots, waiters, the baton, the limit; alone, staged and with forked workers. */
#include "fixture.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

static struct rhc_bulkhead b[FX_WORKERS];
static struct rhc_slot s[16], got;

static void start_with(uint32_t limit, uint32_t max_waiting)
{
	struct rhc_policy policy = fx_policy;

	policy.limit = limit;
	policy.max_waiting = max_waiting;
	fx_declare(&policy);
}

static void start(void)
{
	fx_start();
	for (uint32_t i = 0; i < 4; i++)
		rhc_bulkhead_init(&b[i], fx_worker(i), fx.up);
	memset(s, 0, sizeof(s));
}

TestSuite(bulkhead, .init = start, .fini = fx_stop);

static enum rhc_take try_it(uint32_t w, struct rhc_slot *slot)
{
	return rhc_bulkhead_try(&b[w], fx.now, slot, &fx.wake);
}

static void release(uint32_t w, struct rhc_slot *slot)
{
	fx.wake = 0;
	rhc_bulkhead_release(&b[w], slot, fx.now, &fx.wake);
}

static enum rhc_take wait_for(uint32_t w, struct rhc_waiter *waiter)
{
	return rhc_bulkhead_wait(&b[w], waiter, fx.now, &got, &fx.wake);
}

static struct rhc_waiter *poll_it(uint32_t w)
{
	return rhc_bulkhead_poll(&b[w], fx.now, &got, &fx.wake);
}

static enum rhc_order order(void)
{
	return RHC_ORDER_MODE(atomic_load(&rhc_seg_up(&fx.seg, fx.up)->order));
}

/* Two ticks of one worker. */
static void be_calm(void)
{
	rhc_bulkhead_calm(&b[0]);
	rhc_bulkhead_calm(&b[0]);
	if (!fx.w[0].fenced)
		cr_skip_test("membarrier is not allowed here");
	cr_assert_eq(order(), RHC_ORDER_CALM);
}

Test(bulkhead, is_calm_after_a_second_in_which_nobody_waited_and_until_somebody_does)
{
	struct rhc_waiter w = { 0 };

	be_calm();
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	release(0, &s[0]);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(1, &s[1]), RHC_TAKE_GOT);
	cr_assert_eq(order(), RHC_ORDER_CALM);
	cr_assert_eq(try_it(2, &s[2]), RHC_TAKE_FULL);
	cr_assert_eq(wait_for(2, &w), RHC_TAKE_WAITING);
	cr_assert_eq(order(), RHC_ORDER_STRICT);
	rhc_bulkhead_calm(&b[1]);
	rhc_bulkhead_calm(&b[1]);
	cr_assert_eq(order(), RHC_ORDER_STRICT, "somebody waits");
	release(0, &s[0]);
	cr_assert_eq(fx.wake, 4);
	cr_assert_eq(poll_it(2), &w);
	rhc_bulkhead_calm(&b[3]);
	cr_assert_eq(order(), RHC_ORDER_STRICT, "not for a second yet");
	rhc_bulkhead_calm(&b[3]);
	cr_assert_eq(order(), RHC_ORDER_CALM);
	release(1, &s[1]);
	rhc_bulkhead_release(&b[2], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(bulkhead, search_past_a_few_held_slots_leaves_the_calm_and_past_many_ends_it)
{
	start_with(100, 0);
	be_calm();
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(try_it(0, &s[i]), RHC_TAKE_GOT);
	b[1].home = b[0].home;
	cr_assert_eq(try_it(1, &got), RHC_TAKE_GOT);
	cr_assert_eq(order(), RHC_ORDER_CALM);
	for (unsigned i = 10; i < 40; i++)
		cr_assert_eq(try_it(0, &s[i % 16]), RHC_TAKE_GOT);
	b[2].home = b[0].home;
	cr_assert_eq(try_it(2, &got), RHC_TAKE_GOT);
	cr_assert_eq(order(), RHC_ORDER_STRICT);
}

Test(bulkhead, worker_that_others_cannot_fence_makes_no_plain_store)
{
	fx.w[1].fenced = false;
	rhc_bulkhead_init(&b[1], &fx.w[1], fx.up);
	be_calm();
	rhc_bulkhead_calm(&b[1]);
	cr_assert_eq(try_it(1, &s[0]), RHC_TAKE_GOT);
	/* as after rhcctl freed it and another took it: only a compare-exchange leaves that alone */
	atomic_fetch_add(&b[1].slots[s[0].at], UINT64_C(1) << 48);
	release(1, &s[0]);
	cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 1);
}

Test(bulkhead, calm_whose_end_died_halfway_is_ended_by_the_next)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);
	uint64_t word;

	be_calm();
	word = atomic_load(&up->order);
	atomic_store(&up->order, word - RHC_ORDER_CALM + RHC_ORDER_LEAVING);
	rhc_bulkhead_calm(&b[2]);
	cr_assert_eq(order(), RHC_ORDER_STRICT);
	atomic_store(&up->order, word - RHC_ORDER_CALM + RHC_ORDER_LEAVING);
	rhc_calm_end(up);
	cr_assert_eq(order(), RHC_ORDER_STRICT);
	be_calm();
	cr_assert_neq(atomic_load(&up->order), word, "each calm has an epoch of its own");
}

Test(bulkhead, gives_out_as_many_slots_as_the_limit_says)
{
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(1, &s[1]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(0, &s[2]), RHC_TAKE_FULL);
	cr_assert_eq(try_it(2, &s[2]), RHC_TAKE_FULL);
	release(0, &s[0]);
	cr_assert_eq(fx.wake, 0, "nobody waits");
	cr_assert_eq(try_it(2, &s[2]), RHC_TAKE_GOT);
	release(1, &s[1]);
	release(2, &s[2]);
	fx_assert_quiet();
}

Test(bulkhead, every_limit_up_to_the_capacity_is_exact)
{
	static struct rhc_slot slot[256];
	static const uint32_t limits[] = { 1, 2, 7, 50, 63, 64, 65, 128, 200, 256 };

	for (size_t l = 0; l < RHC_COUNT(limits); l++) {
		start_with(limits[l], 0);
		for (uint32_t w = 0; w < 4; w++) {
			for (uint32_t i = 0; i < limits[l]; i++)
				cr_assert_eq(try_it(w, &slot[i]), RHC_TAKE_GOT, "limit %u: %u", limits[l], i);
			cr_assert_eq(try_it((w + 1) % 4, &got), RHC_TAKE_FULL);
			cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), limits[l]);
			for (uint32_t i = 0; i < limits[l]; i++)
				release(w, &slot[i]);
		}
		fx_assert_quiet();
	}
}

Test(bulkhead, slot_is_given_back_once)
{
	struct rhc_slot copy;

	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	copy = s[0];
	release(0, &s[0]);
	cr_assert_eq(s[0].word, 0);
	release(0, &s[0]);
	cr_assert_eq(try_it(0, &s[1]), RHC_TAKE_GOT);
	cr_assert_eq(s[1].index, copy.index, "the last freed is taken first");
	release(0, &copy);
	cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 1, "a second release frees nothing");
	release(0, &s[1]);
	fx_assert_quiet();
}

Test(bulkhead, healthy_path_leaves_hints_and_tickets_alone)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up), before;

	memcpy(&before, up, sizeof(before));
	for (unsigned i = 0; i < 100; i++) {
		cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
		release(0, &s[0]);
	}
	cr_assert_eq(memcmp(&before, up, sizeof(before)), 0);
	cr_assert_eq(rhc_seg_hints(&fx.seg, fx.up)[0], UINT64_MAX);
}

Test(bulkhead, waiters_are_served_in_their_order_over_workers)
{
	struct rhc_waiter w[6];
	uint32_t holder = 0;

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	for (uint32_t i = 0; i < 6; i++)
		cr_assert_eq(wait_for(i % 3 + 1, &w[i]), RHC_TAKE_WAITING);
	cr_assert_eq(rhc_bulkhead_waiting(&fx.seg, fx.up), 6);
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t turn = i % 3 + 1;

		release(holder, &s[0]);
		cr_assert_eq(fx.wake, UINT64_C(1) << turn, "waiter %u", i);
		cr_assert_null(poll_it(turn % 3 + 1), "not its turn");
		cr_assert_eq(try_it(0, &s[1]), RHC_TAKE_FULL, "nobody overtakes");
		cr_assert_eq(poll_it(turn), &w[i]);
		s[0] = got;
		holder = turn;
	}
	release(holder, &s[0]);
	fx_assert_quiet();
}

Test(bulkhead, one_worker_serves_its_own_waiters_first_come_first_served)
{
	struct rhc_waiter w[5];

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(wait_for(0, &w[i]), RHC_TAKE_WAITING);
	for (unsigned i = 0; i < 5; i++) {
		release(0, &s[0]);
		cr_assert_eq(fx.wake, 1, "its own bit: poll again");
		cr_assert_eq(poll_it(0), &w[i]);
		s[0] = got;
	}
	release(0, &s[0]);
	fx_assert_quiet();
}

Test(bulkhead, nobody_overtakes_a_published_waiter)
{
	struct rhc_waiter w;

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(wait_for(1, &w), RHC_TAKE_WAITING);
	release(0, &s[0]);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_FULL);
	cr_assert_eq(poll_it(1), &w);
	rhc_bulkhead_release(&b[1], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(bulkhead, slot_freed_while_publishing_is_seen)
{
	struct rhc_waiter w;

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(1, &s[1]), RHC_TAKE_FULL);
	release(0, &s[0]);
	cr_assert_eq(wait_for(1, &w), RHC_TAKE_GOT);
	cr_assert_eq(w.ticket, 0);
	rhc_bulkhead_release(&b[1], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(bulkhead, who_got_a_slot_passes_the_baton)
{
	struct rhc_waiter w[2];

	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(0, &s[1]), RHC_TAKE_GOT);
	cr_assert_eq(wait_for(1, &w[0]), RHC_TAKE_WAITING);
	cr_assert_eq(wait_for(2, &w[1]), RHC_TAKE_WAITING);
	release(0, &s[0]);
	release(0, &s[1]);
	cr_assert_eq(fx.wake, 2, "both wake the oldest");
	fx.wake = 0;
	cr_assert_eq(poll_it(1), &w[0]);
	cr_assert_eq(fx.wake, 4, "which wakes the next");
	s[0] = got;
	cr_assert_eq(poll_it(2), &w[1]);
	release(1, &s[0]);
	rhc_bulkhead_release(&b[2], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(bulkhead, who_gives_up_passes_the_baton)
{
	struct rhc_waiter w[2];

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(wait_for(1, &w[0]), RHC_TAKE_WAITING);
	cr_assert_eq(wait_for(2, &w[1]), RHC_TAKE_WAITING);
	release(0, &s[0]);
	fx.wake = 0;
	rhc_bulkhead_cancel(&b[1], &w[0], fx.now, &fx.wake);
	cr_assert_eq(fx.wake, 4);
	cr_assert_eq(poll_it(2), &w[1]);
	rhc_bulkhead_cancel(&b[1], &w[0], fx.now, &fx.wake);
	rhc_bulkhead_release(&b[2], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

#ifdef RHC_FAULTS
/* What happens at which fault point, in this order, each once. */
static struct {
	const char *point;
	void (*then)(void);
} script[4];
static unsigned script_at;

static void play(const char *name)
{
	if (script[script_at].point && strcmp(name, script[script_at].point) == 0) {
		rhc_fault_hook = NULL;
		script[script_at++].then();
		rhc_fault_hook = play;
	}
}

static void at(const char *point, void (*then)(void))
{
	unsigned n = 0;

	while (script[n].point)
		n++;
	script[n].point = point;
	script[n].then = then;
	rhc_fault_hook = play;
}

static void assert_played(unsigned n)
{
	rhc_fault_hook = NULL;
	cr_assert_eq(script_at, n, "a fault point was not reached");
}

static struct rhc_waiter late;

static void free_first(void)
{
	uint64_t wake = 0;

	rhc_bulkhead_release(&b[0], &s[0], fx.now, &wake);
	cr_assert_eq(wake, 0, "nobody waits yet");
}

static void wait_in_vain(void)
{
	uint64_t wake = 0;

	cr_assert_eq(rhc_bulkhead_wait(&b[2], &late, fx.now, &got, &wake), RHC_TAKE_WAITING);
	cr_assert_eq(wake, 0);
}

/*
 * Worker 1 does not wait.  It finds the slot taken; the slot is freed; it clears the hint; worker
 * 2 publishes, finds no hint and sleeps; worker 1 puts the hint back.  Nobody else will ever wake
 * worker 2.
 */
Test(bulkhead, who_puts_a_hint_back_passes_the_baton)
{
	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	at("hint.clear", free_first);
	at("hint.cleared", wait_in_vain);
	fx.wake = 0;
	cr_assert_eq(try_it(1, &s[1]), RHC_TAKE_FULL);
	assert_played(2);
	cr_assert_eq(fx.wake, 4, "worker 2 is woken");
	cr_assert_eq(poll_it(2), &late);
	rhc_bulkhead_release(&b[2], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

static void die(void)
{
	rhc_abandon(&fx.w[1]);
	_exit(0);
}

/*
 * Killed between clearing a foreign slot's hint and looking again: the reaper sets the hints of
 * all.
 */
Test(bulkhead, hint_lost_by_a_killed_finder_is_set_by_the_reaper)
{
	struct rhc_reaped r;
	int status;
	pid_t pid;

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	rhc_abandon(&fx.w[1]);
	pid = fork();
	if (pid == 0) {
		rhc_bulkhead_init(&b[1], fx_worker(1), fx.up);
		at("hint.cleared", die);
		try_it(1, &s[1]);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	release(0, &s[0]);
	atomic_fetch_and(&rhc_seg_hints(&fx.seg, fx.up)[0], ~UINT64_C(1)); /* as if released just before */
	cr_assert_eq(try_it(2, &s[1]), RHC_TAKE_FULL, "a free slot that nobody sees");
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 1, fx.now, &r, &fx.wake), 0);
	cr_assert_eq(try_it(2, &s[1]), RHC_TAKE_GOT);
	release(2, &s[1]);
	fx_assert_quiet();
}

static void lower_to_one(void)
{
	start_with(1, 0);
}

Test(bulkhead, claim_above_a_limit_lowered_meanwhile_is_given_back)
{
	start_with(2, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(0, &s[1]), RHC_TAKE_GOT);
	release(0, s[0].index == 1 ? &s[0] : &s[1]); /* index 1 is free and last in the LIFO */
	at("slot.claimed", lower_to_one);
	cr_assert_eq(try_it(0, &s[2]), RHC_TAKE_FULL, "the limit is 1 by now");
	assert_played(1);
	cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 1);
	release(0, s[0].word ? &s[0] : &s[1]);
	rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, NULL, &fx.wake);
	fx_assert_quiet();
}

Test(bulkhead, claim_above_a_limit_that_drained_before_it_is_given_back)
{
	start_with(2, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(try_it(0, &s[1]), RHC_TAKE_GOT);
	release(0, s[0].index == 0 ? &s[0] : &s[1]);
	release(0, s[0].word ? &s[0] : &s[1]); /* index 1 is the last in the LIFO */
	at("slot.claim", lower_to_one);        /* nobody is above it: it does not even drain */
	cr_assert_eq(try_it(0, &s[2]), RHC_TAKE_GOT);
	assert_played(1);
	cr_assert_eq(s[2].index, 0, "index 1 is above the limit by now");
	release(0, &s[2]);
	fx_assert_quiet();
}

Test(bulkhead, limit_lowered_after_the_count_is_seen_before_admission)
{
	struct rhc_waiter w;

	start_with(6, 0);
	for (unsigned i = 0; i < 6; i++)
		cr_assert_eq(try_it(0, &s[i]), RHC_TAKE_GOT);
	start_with(4, 0);
	for (unsigned i = 0; i < 6; i++) {
		if (s[i].index < 3) /* three are held, one of them above the limit: it drains */
			release(0, &s[i]);
	}
	at("slot.counted", lower_to_one);
	cr_assert_eq(wait_for(1, &w), RHC_TAKE_WAITING, "three others are held and the limit is 1 by now");
	assert_played(1);
	cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 3, "the claim was given back");
	rhc_bulkhead_cancel(&b[1], &w, fx.now, &fx.wake);
	for (unsigned i = 0; i < 6; i++)
		release(0, &s[i]);
	rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, NULL, &fx.wake);
	fx_assert_quiet();
}

static void raise_to_two(void)
{
	start_with(2, 0);
}

Test(bulkhead, admission_looks_again_when_the_limit_changes_while_it_counts)
{
	struct rhc_waiter w;

	start_with(4, 0);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(try_it(0, &s[i]), RHC_TAKE_GOT);
	start_with(1, 0);
	cr_assert_eq(wait_for(1, &w), RHC_TAKE_WAITING);
	for (unsigned i = 0; i < 4; i++) {
		if (s[i].index != 3)
			release(0, &s[i]);
	}
	cr_assert_null(poll_it(1), "index 3 is still held, the limit is 1");
	at("slot.claimed", raise_to_two);
	cr_assert_eq(poll_it(1), &w, "the limit is 2 by now");
	assert_played(1);
	rhc_bulkhead_release(&b[1], &got, fx.now, &fx.wake);
	for (unsigned i = 0; i < 4; i++)
		release(0, &s[i]);
	rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, NULL, &fx.wake);
	fx_assert_quiet();
}
#endif

Test(bulkhead, queue_is_bounded_and_the_next_is_refused)
{
	struct rhc_waiter w[4];

	start_with(1, 3);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(wait_for(i, &w[i]), RHC_TAKE_WAITING);
	cr_assert_eq(wait_for(3, &w[3]), RHC_TAKE_QUEUE_FULL);
	cr_assert_eq(w[3].ticket, 0);
	cr_assert_eq(rhc_bulkhead_waiting(&fx.seg, fx.up), 3);
	rhc_bulkhead_cancel(&b[1], &w[1], fx.now, &fx.wake);
	cr_assert_eq(wait_for(3, &w[3]), RHC_TAKE_WAITING);
	rhc_bulkhead_cancel(&b[0], &w[0], fx.now, &fx.wake);
	rhc_bulkhead_cancel(&b[2], &w[2], fx.now, &fx.wake);
	rhc_bulkhead_cancel(&b[3], &w[3], fx.now, &fx.wake);
	release(0, &s[0]);
	fx_assert_quiet();
}

Test(bulkhead, stalled_worker_is_passed_over_and_comes_back)
{
	struct rhc_waiter w[2];

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(wait_for(1, &w[0]), RHC_TAKE_WAITING);
	cr_assert_eq(wait_for(2, &w[1]), RHC_TAKE_WAITING);
	fx.now += RHC_STALL_MS + 1;
	rhc_worker_beat(&fx.w[2], fx.now);
	release(0, &s[0]);
	cr_assert_eq(fx.wake, 4, "worker 1 has not beaten");
	cr_assert_eq(poll_it(2), &w[1]);
	rhc_worker_beat(&fx.w[1], fx.now);
	fx.wake = 0;
	rhc_bulkhead_release(&b[2], &got, fx.now, &fx.wake);
	cr_assert_eq(fx.wake, 2);
	cr_assert_eq(poll_it(1), &w[0]);
	rhc_bulkhead_release(&b[1], &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(bulkhead, when_all_are_stalled_the_oldest_is_woken)
{
	struct rhc_waiter w;

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(wait_for(1, &w), RHC_TAKE_WAITING);
	fx.now += 3600000;
	release(0, &s[0]);
	cr_assert_eq(fx.wake, 2);
	cr_assert_eq(poll_it(1), &w);
	rhc_bulkhead_release(&b[1], &got, fx.now, &fx.wake);
}

/* ---- the limit ---- */

Test(bulkhead, raised_limit_wakes_who_waits)
{
	struct rhc_waiter w;

	start_with(1, 0);
	cr_assert_eq(try_it(0, &s[0]), RHC_TAKE_GOT);
	cr_assert_eq(wait_for(1, &w), RHC_TAKE_WAITING);
	fx.wake = 0;
	start_with(2, 0);
	cr_assert_eq(fx.wake, 2);
	cr_assert_eq(poll_it(1), &w);
	rhc_bulkhead_release(&b[1], &got, fx.now, &fx.wake);
	release(0, &s[0]);
	fx_assert_quiet();
}

Test(bulkhead, lowered_limit_lets_in_flight_end_and_admits_nobody_above)
{
	struct rhc_waiter w;
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);

	start_with(8, 0);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(try_it(i % 2, &s[i]), RHC_TAKE_GOT);
	start_with(3, 0);
	cr_assert_eq(RHC_CTL_LIMIT(up->ctl), 3);
	cr_assert_eq(RHC_CTL_HW(up->ctl), 8);
	cr_assert_eq(wait_for(2, &w), RHC_TAKE_WAITING);
	/* low indices first: the slots below the limit become free while above they are held */
	for (uint32_t index = 0; index < 8; index++) {
		for (unsigned i = 0; i < 8; i++) {
			if (s[i].word && s[i].index == index)
				release(i % 2, &s[i]);
		}
		if (index < 5) {
			cr_assert_null(poll_it(2), "%u are still held", 7 - index);
			cr_assert_eq(try_it(3, &got), RHC_TAKE_FULL);
		} else if (index == 5) {
			cr_assert_eq(poll_it(2), &w, "two are held");
			s[8] = got;
		}
	}
	cr_assert_eq(RHC_CTL_HW(up->ctl), 3, "drained");
	release(2, &s[8]);
	fx_assert_quiet();
}

Test(bulkhead, override_of_the_limit_ends_by_its_expiry)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);
	struct rhc_limit_override ovr = { true, 5, fx.now + 1000 };

	atomic_store(&up->limit_ovr, rhc_limit_override_word(&ovr));
	rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, &fx.w[0].ring, &fx.wake);
	cr_assert_eq(RHC_CTL_LIMIT(up->ctl), 5);
	start_with(2, 0);
	cr_assert_eq(RHC_CTL_LIMIT(up->ctl), 5, "a reload does not end it");
	fx.now += 1000;
	rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, &fx.w[0].ring, &fx.wake);
	cr_assert_eq(RHC_CTL_LIMIT(up->ctl), 2);
	cr_assert_eq(RHC_CTL_HW(up->ctl), 2);
	cr_assert_eq(up->limit_ovr, 0);
}

Test(bulkhead, impossible_ctl_is_bounded_by_the_array)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);
	static struct rhc_slot slot[256];
	unsigned n = 0;

	atomic_store(&up->ctl, UINT64_MAX);
	while (n < 256 && try_it(0, &slot[n]) == RHC_TAKE_GOT)
		n++;
	cr_assert_eq(n, 256);
	cr_assert_eq(try_it(0, &got), RHC_TAKE_FULL);
	atomic_store(&up->ctl, 0);
	cr_assert_eq(try_it(0, &got), RHC_TAKE_FULL, "no limit is no slot, never unlimited");
	rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, NULL, &fx.wake);
	cr_assert_eq(RHC_CTL_LIMIT(up->ctl), 2);
}

Test(bulkhead, age_of_a_slot_is_shown)
{
	struct rhc_view_holder h[2];

	cr_assert_eq(try_it(3, &s[0]), RHC_TAKE_GOT);
	fx.now += 6400;
	cr_assert_eq(rhc_view_holders(&fx.seg, fx.up, fx.now, h, 2), 1);
	cr_assert_eq(h[0].worker, 3);
	cr_assert_eq(h[0].inc, fx.w[3].inc);
	cr_assert(h[0].age_ms >= 6336 && h[0].age_ms <= 6464, "%llu", (unsigned long long)h[0].age_ms);
	cr_assert_eq(rhc_slot_age_ms(s[0].word, fx.now - 6464), 0, "a clock a step behind");
}

/* ---- forked workers hammer one limit ---- */

struct shared {
	_Atomic int in_use, over, got, gave_up;
};

static struct shared *shared;
static int wakefd[FX_WORKERS];

static void send(uint64_t wake)
{
	for (uint64_t one = 1; wake; wake &= wake - 1)
		if (write(wakefd[__builtin_ctzll(wake)], &one, 8) != 8)
			_exit(9);
}

static void use(struct rhc_bulkhead *bh, struct rhc_slot *slot, int limit, unsigned *seed)
{
	uint64_t wake = 0;

	if (atomic_fetch_add(&shared->in_use, 1) + 1 > limit)
		atomic_fetch_add(&shared->over, 1);
	atomic_fetch_add(&shared->got, 1);
	if (rand_r(seed) % 8 == 0)
		sched_yield();
	atomic_fetch_sub(&shared->in_use, 1);
	rhc_bulkhead_release(bh, slot, fx_clock_ms(), &wake);
	send(wake);
}

/* One call: at once, or wait for a wake-up or the tick. */
static void one_call(struct rhc_worker *w, struct rhc_bulkhead *bh, int limit, unsigned *seed)
{
	struct rhc_waiter waiter = { 0 };
	struct rhc_slot slot;
	uint64_t wake = 0, value, end = fx_clock_ms() + 20000;

	rhc_worker_beat(w, fx_clock_ms());
	if (rhc_bulkhead_try(bh, fx_clock_ms(), &slot, &wake) == RHC_TAKE_GOT ||
	    rhc_bulkhead_wait(bh, &waiter, fx_clock_ms(), &slot, &wake) == RHC_TAKE_GOT) {
		send(wake);
		use(bh, &slot, limit, seed);
		return;
	}
	send(wake);
	if (rand_r(seed) % 16 == 0) { /* gives up at once */
		wake = 0;
		rhc_bulkhead_cancel(bh, &waiter, fx_clock_ms(), &wake);
		send(wake);
		return;
	}
	while (fx_clock_ms() < end) {
		struct pollfd p = { wakefd[w->index], POLLIN, 0 };

		poll(&p, 1, RHC_TICK_MS);
		if (read(wakefd[w->index], &value, 8) != 8 && errno != EAGAIN)
			_exit(8);
		rhc_worker_beat(w, fx_clock_ms());
		wake = 0;
		if (rhc_bulkhead_poll(bh, fx_clock_ms(), &slot, &wake)) {
			send(wake);
			use(bh, &slot, limit, seed);
			return;
		}
		send(wake);
	}
	atomic_fetch_add(&shared->gave_up, 1);
	_exit(7);
}

static void hammer(int limit, bool killing)
{
	pid_t pid[5];
	unsigned killed = 0;

	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < FX_WORKERS; i++) {
		wakefd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (i < 4)
			rhc_abandon(&fx.w[i]);
	}
	start_with((uint32_t)limit, 0);
	for (unsigned p = 0; p < RHC_COUNT(pid); p++) {
		pid[p] = fork();
		if (pid[p] == 0) {
			struct rhc_bulkhead bh;
			struct rhc_worker *w;
			unsigned seed = p + 1;

			rhc_segment_forked(&fx.seg);
			fx.now = fx_clock_ms();
			w = fx_worker(p);
			rhc_bulkhead_init(&bh, w, fx.up);
			for (unsigned i = 0; killing ? true : i < 3000; i++) {
				if (i % 16 == 0)
					rhc_bulkhead_calm(&bh);
				one_call(w, &bh, limit, &seed);
			}
			fx.wake = 0;
			rhc_worker_unregister(w, fx_clock_ms(), &fx.wake);
			send(fx.wake);
			_exit(0);
		}
	}
	for (; killing && killed < RHC_COUNT(pid); killed++) {
		struct rhc_reaped r;
		uint64_t wake = 0;
		int before = atomic_load(&shared->got);

		usleep(60000);
		kill(pid[killed], SIGKILL);
		waitpid(pid[killed], NULL, 0);
		rhc_reap_all(&fx.seg, fx.lock_fd, RHC_WORKERS_MAX, fx_clock_ms(), &r, &wake);
		send(wake);
		usleep(60000);
		if (killed + 1 < RHC_COUNT(pid))
			cr_expect_gt(atomic_load(&shared->got), before, "work stopped after kill %u", killed);
	}
	for (unsigned p = 0; !killing && p < RHC_COUNT(pid); p++) {
		int status;

		waitpid(pid[p], &status, 0);
		cr_expect_eq(status, 0, "limit %d worker %u: %x", limit, p, (unsigned)status);
	}
	if (!killing) {
		cr_expect_eq(atomic_load(&shared->over), 0, "limit %d: %d above it", limit,
		             atomic_load(&shared->over));
		cr_expect_gt(atomic_load(&shared->got), 5 * 2000);
	}
	fx.now = fx_clock_ms();
	fx_assert_quiet();
}

Test(bulkhead, five_processes_never_pass_limit_1, .timeout = 60)
{
	hammer(1, false);
}

Test(bulkhead, five_processes_never_pass_limit_2, .timeout = 60)
{
	hammer(2, false);
}

Test(bulkhead, five_processes_never_pass_limit_7, .timeout = 60)
{
	hammer(7, false);
}

Test(bulkhead, five_processes_never_pass_limit_50, .timeout = 60)
{
	hammer(50, false);
}

Test(bulkhead, killed_workers_leave_nothing_and_stop_nobody, .timeout = 60)
{
	hammer(2, true);
}
