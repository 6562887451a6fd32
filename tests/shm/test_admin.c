/* Changes by hand, what they leave in the ring, what a killed rhcctl leaves, audit and repair. */
#include "fixture.h"

static struct rhc_admin admin;
static struct rhc_breaker_ref breaker;
static struct rhc_bulkhead b;
static struct rhc_change change;

static void start(void)
{
	fx_start();
	rhc_breaker_init(&breaker, fx_worker(1), fx.up);
	rhc_bulkhead_init(&b, &fx.w[1], fx.up);
	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 1000, 4242), 0);
}

static void stop(void)
{
	rhc_admin_end(&admin);
	fx_stop();
}

TestSuite(admin, .init = start, .fini = stop);

static struct rhc_view_upstream look(void)
{
	struct rhc_view_upstream v;

	cr_assert_eq(rhc_view_upstream(&fx.seg, fx.up, fx.now, &v), 0);
	return v;
}

static enum rhc_admit ask(void)
{
	struct rhc_permit p;
	struct rhc_refused r;
	enum rhc_admit a = rhc_breaker_admit(&breaker, fx.now, &p, &r);

	rhc_breaker_record(&breaker, &p, RHC_OUTCOME_OK, 0, fx.now);
	return a;
}

static int verb(enum rhc_verb v, uint64_t until)
{
	return rhc_admin_breaker(&admin, fx.up, v, until, "INC-481 provider down", fx.now, &change);
}

Test(admin, is_one_at_a_time)
{
	struct rhc_admin second;

	cr_assert_eq(rhc_admin_begin(&second, &fx.seg, 0, 1), -EBUSY);
	rhc_admin_end(&admin);
	cr_assert_eq(rhc_admin_begin(&second, &fx.seg, 0, 1), 0);
	rhc_admin_end(&second);
}

Test(admin, needs_a_writable_segment)
{
	struct rhc_segment seg;
	struct rhc_refusal r;
	struct rhc_admin a;

	cr_assert_eq(rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r), 0);
	cr_assert_eq(rhc_admin_begin(&a, &seg, 0, 1), -EROFS);
	rhc_segment_detach(&seg);
}

Test(admin, isolate_refuses_until_closed)
{
	struct rhc_view_upstream v;

	cr_assert_eq(verb(RHC_VERB_ISOLATE, 0), 0);
	cr_assert(change.changed);
	cr_assert_eq(ask(), RHC_ADMIT_REFUSE);
	v = look();
	cr_assert_eq(v.breaker.b.state, RHC_BRK_ISOLATED);
	cr_assert(v.breaker.note.set);
	cr_assert_eq(v.breaker.note.uid, 1000);
	cr_assert_eq(v.breaker.note.pid, 4242);
	cr_assert_eq(v.breaker.note.verb, RHC_VERB_ISOLATE);
	cr_assert_str_eq(v.breaker.note.reason, "INC-481 provider down");
	fx.now += 3600000;
	cr_assert_eq(ask(), RHC_ADMIT_REFUSE);
	cr_assert_eq(verb(RHC_VERB_CLOSE, 0), 0);
	cr_assert_eq(ask(), RHC_ADMIT_PASS);
	cr_assert(!look().breaker.note.set);
}

Test(admin, isolation_with_an_end_ends_by_itself)
{
	cr_assert_eq(verb(RHC_VERB_ISOLATE, fx.now + 1000), 0);
	fx.now += 999;
	cr_assert_eq(ask(), RHC_ADMIT_REFUSE);
	fx.now += 1;
	cr_assert_eq(ask(), RHC_ADMIT_PASS);
	cr_assert_eq(look().breaker.b.state, RHC_BRK_CLOSED);
}

Test(admin, override_nobody_asks_for_ends_by_the_tick)
{
	cr_assert_eq(verb(RHC_VERB_DISABLE, fx.now + 1000), 0);
	fx.now += 2000;
	rhc_breaker_tick(&breaker, fx.now);
	cr_assert_eq(look().breaker.b.state, RHC_BRK_CLOSED);
}

Test(admin, disabled_never_trips_but_counts)
{
	struct rhc_policy policy = fx_policy;

	policy.window_ms = 10000;
	policy.failure_permille = 1000;
	fx_declare(&policy);
	cr_assert_eq(verb(RHC_VERB_DISABLE, 0), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct rhc_permit p;
		struct rhc_refused r;

		cr_assert_eq(rhc_breaker_admit(&breaker, fx.now, &p, &r), RHC_ADMIT_PASS);
		rhc_breaker_record(&breaker, &p, RHC_OUTCOME_FAIL, 1, fx.now);
	}
	cr_assert_eq(look().breaker.b.state, RHC_BRK_DISABLED);
	cr_assert_eq(look().breaker.window.fail, 20);
	cr_assert_eq(verb(RHC_VERB_ENABLE, 0), 0);
	cr_assert_eq(look().breaker.b.state, RHC_BRK_CLOSED);
	cr_assert_eq(verb(RHC_VERB_ENABLE, 0), 0);
	cr_assert(!change.changed);
}

Test(admin, open_recovers_as_usual)
{
	cr_assert_eq(verb(RHC_VERB_OPEN, 0), 0);
	cr_assert_eq(ask(), RHC_ADMIT_REFUSE);
	cr_assert_eq(look().breaker.trip.why, RHC_TRIP_MANUAL);
	fx.now += 1000;
	cr_assert_eq(ask(), RHC_ADMIT_PROBE);
	cr_assert_eq(look().breaker.b.state, RHC_BRK_CLOSED);
}

Test(admin, a_change_drops_results_from_before_it)
{
	struct rhc_permit p;
	struct rhc_refused r;

	cr_assert_eq(rhc_breaker_admit(&breaker, fx.now, &p, &r), RHC_ADMIT_PASS);
	cr_assert_eq(verb(RHC_VERB_CLOSE, 0), 0);
	cr_assert(!rhc_breaker_record(&breaker, &p, RHC_OUTCOME_FAIL, 1, fx.now));
	cr_assert_eq(look().breaker.b.failures, 0);
}

Test(admin, refuses_what_makes_no_sense)
{
	cr_assert_eq(verb(RHC_VERB_ISOLATE, fx.now), -EINVAL);
	cr_assert_eq(verb(RHC_VERB_OPEN, fx.now + 5), -EINVAL);
	cr_assert_eq(verb(RHC_VERB_LIMIT, 0), -EINVAL);
	cr_assert_eq(rhc_admin_breaker(&admin, 3, RHC_VERB_OPEN, 0, "", fx.now, &change), -ENOENT);
	cr_assert_eq(rhc_admin_limit(&admin, fx.up, 0, 0, "", fx.now, &change), -ERANGE);
	cr_assert_eq(rhc_admin_limit(&admin, fx.up, 257, 0, "", fx.now, &change), -ERANGE);
	cr_assert_eq(rhc_admin_limit(&admin, fx.up, 5, fx.now - 1, "", fx.now, &change), -EINVAL);
	cr_assert_eq(rhc_admin_limit(&admin, 3, 5, 0, "", fx.now, &change), -ENOENT);
}

Test(admin, asks_in_the_ring_before_it_changes_and_answers_after)
{
	struct rhc_view_cursor cursor;
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];

	rhc_view_events_begin(&fx.seg, true, &cursor);
	cr_assert_eq(verb(RHC_VERB_ISOLATE, fx.now + 5000), 0);
	cr_assert(rhc_view_events_next(&fx.seg, &cursor, &ev, text));
	cr_assert_eq(ev.type, RHC_EV_brk_override);
	cr_assert_eq(ev.arg[0], UINT64_C(1000) << 32 | 4242);
	cr_assert_eq(ev.arg[1], change.old_word);
	cr_assert_eq(ev.arg[2], change.new_word);
	cr_assert_eq(ev.arg[3], fx.now + 5000);
	cr_assert_eq(ev.arg[4], RHC_VERB_ISOLATE);
	cr_assert_str_eq(text, "INC-481 provider down");
	cr_assert(rhc_view_events_next(&fx.seg, &cursor, &ev, text));
	cr_assert_eq(ev.type, RHC_EV_override_done);
}

Test(admin, limit_is_overridden_with_an_end_and_cleared)
{
	struct rhc_view_upstream v;

	cr_assert_eq(rhc_admin_limit(&admin, fx.up, 80, fx.now + 1000, "sale", fx.now, &change), 0);
	v = look();
	cr_assert_eq(v.bulkhead.limit, 80);
	cr_assert_eq(v.bulkhead.configured, 2);
	cr_assert(v.bulkhead.override.active);
	cr_assert_str_eq(v.bulkhead.note.reason, "sale");
	cr_assert_eq(rhc_admin_limit_clear(&admin, fx.up, "", fx.now, &change), 0);
	v = look();
	cr_assert_eq(v.bulkhead.limit, 2);
	cr_assert(!v.bulkhead.override.active);
	cr_assert(!v.bulkhead.note.set);
}

Test(admin, slot_of_a_living_worker_is_freed_only_by_force)
{
	struct rhc_slot slot;

	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	cr_assert_eq(rhc_admin_free_slot(&admin, fx.up, slot.index, false, "", fx.now, &change), -EBUSY);
	cr_assert_eq(rhc_admin_free_slot(&admin, fx.up, slot.index, true, "", fx.now, &change), 0);
	cr_assert_eq(rhc_admin_free_slot(&admin, fx.up, slot.index, true, "", fx.now, &change), -ENOENT);
	rhc_bulkhead_release(&b, &slot, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(admin, slot_of_a_living_worker_that_was_in_a_calm_is_freed_after_two_turns_of_its_loop)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);
	struct rhc_slot slot;

	rhc_bulkhead_calm(&b);
	if (RHC_ORDER_MODE(atomic_load(&up->order)) != RHC_ORDER_CALM)
		cr_skip_test("membarrier is not allowed here");
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	for (unsigned turn = 0; turn < 2; turn++) {
		cr_assert_eq(rhc_admin_free_slot(&admin, fx.up, slot.index, true, "", fx.now, &change),
			     -EAGAIN);
		cr_assert_eq(RHC_ORDER_MODE(atomic_load(&up->order)), RHC_ORDER_PINNED);
		rhc_worker_beat(b.w, fx.now);
	}
	cr_assert_eq(rhc_admin_free_slot(&admin, fx.up, slot.index, true, "", fx.now, &change), 0);
	rhc_bulkhead_release(&b, &slot, fx.now, &fx.wake);
	rhc_bulkhead_calm(&b);
	rhc_bulkhead_calm(&b);
	cr_assert_eq(RHC_ORDER_MODE(atomic_load(&up->order)), RHC_ORDER_PINNED, "for good");
	fx_assert_quiet();
}

Test(admin, slot_of_a_dead_worker_is_freed_and_the_oldest_waiter_woken)
{
	struct rhc_bulkhead other;
	struct rhc_slot slot[2], got;
	struct rhc_waiter waiter;

	rhc_bulkhead_init(&other, fx_worker(2), fx.up);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot[0], &fx.wake), RHC_TAKE_GOT);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot[1], &fx.wake), RHC_TAKE_GOT);
	cr_assert_eq(rhc_bulkhead_wait(&other, &waiter, fx.now, &got, &fx.wake), RHC_TAKE_WAITING);
	rhc_abandon(&fx.w[1]);
	cr_assert_eq(rhc_admin_free_slot(&admin, fx.up, slot[0].index, false, "", fx.now, &change), 0);
	cr_assert_eq(admin.wake, 4);
	cr_assert_eq(rhc_bulkhead_poll(&other, fx.now, &got, &fx.wake), &waiter);
}

Test(admin, reap_refuses_the_living_and_force_takes_its_words)
{
	struct rhc_reaped r;
	struct rhc_slot slot;

	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	cr_assert_eq(rhc_admin_reap(&admin, 1, false, fx.now, &r), -EBUSY);
	cr_assert_eq(rhc_admin_reap(&admin, 1, true, fx.now, &r), 0);
	cr_assert_eq(r.slots, 1);
	cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 1), RHC_ALIVE_YES);
	cr_assert_eq(rhc_admin_reap(&admin, 99, false, fx.now, &r), -ENOENT);
	fx_assert_quiet();
}

Test(admin, drain_is_a_wish_the_worker_reads)
{
	struct rhc_view_segment v;

	cr_assert_eq(rhc_admin_drain(&admin, 1, true, "", fx.now), 0);
	cr_assert_eq(rhc_worker_wanted(&fx.w[1]), RHC_WANT_DRAIN);
	cr_assert_eq(rhc_admin_drain(&admin, 1, false, "", fx.now), 0);
	cr_assert_eq(rhc_worker_wanted(&fx.w[1]), RHC_WANT_NOTHING);
	cr_assert_eq(rhc_admin_restart(&admin, 1, "", fx.now), 0);
	cr_assert_eq(rhc_worker_wanted(&fx.w[1]), RHC_WANT_EXIT);
	cr_assert_eq(rhc_admin_drain(&admin, RHC_WORKERS_MAX, true, "", fx.now), 0);
	rhc_view_segment(&fx.seg, fx.lock_fd, &v);
	cr_assert(v.drain);
	cr_assert_eq(v.workers_alive, 1);
	cr_assert(v.sup_alive);
	cr_assert_eq(rhc_admin_drain(&admin, FX_WORKERS, true, "", fx.now), -ENOENT);
}

Test(admin, reset_closes_clears_and_starts_counting_anew)
{
	uint64_t sum[RHC_CTR_COUNT];
	struct rhc_hist_sum h;

	rhc_ctr_add(breaker.ctr, RHC_CTR_att_success, 7);
	rhc_ctr_add(breaker.ctr, RHC_CTR_conn_h1_opened, 3);
	rhc_hist_record(rhc_seg_hist(&fx.seg, 1, fx.up, RHC_HIST_request), RHC_HIST_request,
			1000000);
	cr_assert_eq(rhc_admin_limit(&admin, fx.up, 9, 0, "", fx.now, &change), 0);
	cr_assert_eq(verb(RHC_VERB_ISOLATE, 0), 0);
	cr_assert_eq(verb(RHC_VERB_RESET, 0), 0);
	cr_assert_eq(look().breaker.b.state, RHC_BRK_CLOSED);
	cr_assert_eq(look().bulkhead.limit, 2);
	rhc_ctr_add(breaker.ctr, RHC_CTR_att_success, 2);
	rhc_view_counters(&fx.seg, fx.up, true, sum, RHC_CTR_COUNT);
	cr_assert_eq(sum[RHC_CTR_att_success], 2);
	cr_assert_eq(sum[RHC_CTR_conn_h1_opened], 3, "a gauge goes on");
	rhc_view_counters(&fx.seg, fx.up, false, sum, RHC_CTR_COUNT);
	cr_assert_eq(sum[RHC_CTR_att_success], 9, "the worker's own row is not touched");
	rhc_view_hist(&fx.seg, fx.up, RHC_HIST_request, true, &h);
	cr_assert_eq(h.count, 0);
	rhc_view_hist(&fx.seg, fx.up, RHC_HIST_request, false, &h);
	cr_assert_eq(h.count, 1);
}

#ifdef RHC_FAULTS
static const char *die_at;

static void die(const char *name)
{
	if (strcmp(name, die_at) == 0)
		_exit(0);
}

Test(admin, killed_in_the_middle_has_changed_all_or_nothing)
{
	static const struct {
		const char *point;
		bool brk, limit;
	} rows[] = {
		{ "admin.brk", false, false },      { "admin.brk.done", true, false },
		{ "breaker.outage", true, false },  { "note.odd", true, false },
		{ "admin.limit", true, false },     { "admin.limit.done", true, true },
		{ "ctl.limit", true, true },        { "ctl.changed", true, true },
	};

	rhc_admin_end(&admin);
	for (size_t i = 0; i < RHC_COUNT(rows); i++) {
		struct rhc_finding found[4];
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			struct rhc_admin a;

			if (rhc_admin_begin(&a, &fx.seg, 1, 2))
				_exit(3);
			die_at = rows[i].point;
			rhc_fault_hook = die;
			rhc_admin_breaker(&a, fx.up, RHC_VERB_ISOLATE, 0, "x", fx.now, &change);
			rhc_admin_limit(&a, fx.up, 5, 0, "x", fx.now, &change);
			_exit(1);
		}
		waitpid(pid, &status, 0);
		cr_expect_eq(status, 0, "%s was not reached", rows[i].point);
		rhc_bulkhead_reconcile(&fx.seg, fx.up, fx.now, NULL, &fx.wake); /* anybody's tick */
		cr_expect_eq(look().breaker.b.state == RHC_BRK_ISOLATED, rows[i].brk, "%s", rows[i].point);
		cr_expect_eq(look().bulkhead.limit == 5, rows[i].limit, "%s", rows[i].point);
		cr_expect_eq(rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 4), 0, "%s", rows[i].point);
		cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 0, 0), 0, "the dead one's byte is free");
		cr_assert_eq(verb(RHC_VERB_RESET, 0), 0);
		cr_assert_eq(rhc_admin_limit_clear(&admin, fx.up, "", fx.now, &change), 0);
		rhc_admin_end(&admin);
	}
	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 0, 0), 0);
}
#endif

static uint32_t audit(enum rhc_finding_what what)
{
	struct rhc_finding found[64];
	uint32_t n = rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 64), hits = 0;

	for (uint32_t i = 0; i < n && i < 64; i++)
		hits += found[i].what == what;
	return hits;
}

Test(admin, audit_finds_each_kind_of_damage_and_repair_mends_it)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);
	_Atomic uint64_t *slots = rhc_seg_slots(&fx.seg, fx.up);
	struct rhc_slot slot;

	fx_worker(2);
	rhc_abandon(&fx.w[2]);
	cr_assert_eq(audit(RHC_FIND_WORKER_DEAD), 1);
	atomic_store(&slots[0], 3);                                   /* owner 2, dead */
	atomic_store(&slots[8], 900);                                 /* no such owner */
	atomic_store(&slots[16], rhc_field(7, 10, 16) | 2);           /* owner 1, another incarnation */
	atomic_store(&up->permit[0], 3);
	atomic_store(&up->permit[1], 900);
	atomic_store(&up->head[2], UINT64_C(1) << 48 | 5);
	atomic_store(&up->head[20], 5);
	atomic_fetch_or(&up->waitmask, UINT64_C(1) << 40);
	atomic_store(&rhc_seg_hints(&fx.seg, fx.up)[1], ~UINT64_C(3));
	atomic_store(&up->brk, UINT64_C(7) << 61);
	atomic_store(&up->ctl, UINT64_C(5) << 20 | 9);
	cr_expect_eq(audit(RHC_FIND_SLOT_DEAD), 1);
	cr_expect_eq(audit(RHC_FIND_SLOT_OWNER), 1);
	cr_expect_eq(audit(RHC_FIND_SLOT_INC), 1);
	cr_expect_eq(audit(RHC_FIND_PERMIT_DEAD), 1);
	cr_expect_eq(audit(RHC_FIND_PERMIT_OWNER), 1);
	cr_expect_eq(audit(RHC_FIND_WAITER_DEAD), 3);
	cr_expect_eq(audit(RHC_FIND_HINT), 2);
	cr_expect_eq(audit(RHC_FIND_BREAKER), 1);
	cr_expect_eq(audit(RHC_FIND_LIMIT), 1);
	cr_assert_gt(rhc_admin_repair(&admin, fx.now), 9);
	cr_assert_eq(rhc_admin_repair(&admin, fx.now), 0);
	fx_assert_quiet();
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	rhc_bulkhead_release(&b, &slot, fx.now, &fx.wake);
}

Test(admin, audit_of_a_sound_segment_in_use_finds_nothing)
{
	struct rhc_bulkhead other;
	struct rhc_slot slot[2], got;
	struct rhc_waiter waiter;
	struct rhc_finding found[4];

	rhc_bulkhead_init(&other, fx_worker(2), fx.up);
	rhc_bulkhead_try(&b, fx.now, &slot[0], &fx.wake);
	rhc_bulkhead_try(&b, fx.now, &slot[1], &fx.wake);
	rhc_bulkhead_wait(&other, &waiter, fx.now, &got, &fx.wake);
	cr_assert_eq(rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 4), 0);
}

Test(admin, each_verb_and_finding_has_a_name)
{
	for (unsigned i = 0; i < RHC_VERB_COUNT; i++)
		cr_assert_not_null(rhc_verb_name((enum rhc_verb)i), "%u", i);
	for (unsigned i = 0; i < RHC_FIND_COUNT; i++)
		cr_assert_not_null(rhc_finding_name((enum rhc_finding_what)i), "%u", i);
}
