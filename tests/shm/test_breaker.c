/* The rim: words, probes, windows, generations. */
#include "fixture.h"

#include "shm/window.h"

static struct rhc_breaker_ref a, b;
static struct rhc_permit pa, pb;
static struct rhc_refused refused;

static void start(void)
{
	fx_start();
	rhc_breaker_init(&a, fx_worker(0), fx.up);
	rhc_breaker_init(&b, fx_worker(1), fx.up);
	memset(&pa, 0, sizeof(pa));
	memset(&pb, 0, sizeof(pb));
}

TestSuite(breaker, .init = start, .fini = fx_stop);

static enum rhc_breaker_state state(void)
{
	return rhc_breaker_peek(rhc_seg_up(&fx.seg, fx.up));
}

static uint64_t counter(unsigned i)
{
	uint64_t sum[RHC_CTR_COUNT];

	rhc_view_counters(&fx.seg, fx.up, false, sum, RHC_CTR_COUNT);
	return sum[i];
}

static void call(struct rhc_breaker_ref *r, enum rhc_outcome outcome)
{
	struct rhc_permit p;

	cr_assert_neq(rhc_breaker_admit(r, fx.now, &p, &refused), RHC_ADMIT_REFUSE);
	rhc_breaker_record(r, &p, outcome, RHC_ERR_connect_refused, fx.now);
}

static void trip(void)
{
	for (unsigned i = 0; i < 3; i++)
		call(i % 2 ? &a : &b, RHC_OUTCOME_FAIL);
	cr_assert_eq(state(), RHC_BRK_OPEN);
}

static void half_open(void)
{
	trip();
	fx.now += 1000;
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_PROBE);
	cr_assert_eq(state(), RHC_BRK_HALF_OPEN);
}

Test(breaker, healthy_calls_store_nothing_in_the_record)
{
	struct rhc_up before, *up = rhc_seg_up(&fx.seg, fx.up);

	memcpy(&before, up, sizeof(before));
	for (unsigned i = 0; i < 100; i++)
		call(&a, RHC_OUTCOME_OK);
	cr_assert_eq(memcmp(&before, up, sizeof(before)), 0);
}

Test(breaker, failures_of_all_workers_add_up)
{
	trip();
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
	cr_assert_eq(refused.state, RHC_BRK_OPEN);
	cr_assert_eq(refused.retry_after_ms, 1000);
	cr_assert_eq(pb.kind, 0);
	cr_assert_eq(counter(RHC_CTR_brk_closed_open), 1);
	cr_assert_eq(counter(RHC_CTR_brk_rejected), 1);
}

Test(breaker, one_success_in_between_resets)
{
	call(&a, RHC_OUTCOME_FAIL);
	call(&b, RHC_OUTCOME_FAIL);
	call(&a, RHC_OUTCOME_OK);
	call(&b, RHC_OUTCOME_FAIL);
	call(&a, RHC_OUTCOME_FAIL);
	cr_assert_eq(state(), RHC_BRK_CLOSED);
}

Test(breaker, half_open_lets_one_probe_through)
{
	half_open();
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
	cr_assert_eq(refused.state, RHC_BRK_HALF_OPEN);
	cr_assert_geq(refused.retry_after_ms, 1);
	cr_assert(rhc_breaker_record(&a, &pa, RHC_OUTCOME_OK, 0, fx.now));
	cr_assert_eq(state(), RHC_BRK_CLOSED);
	fx_assert_quiet();
	cr_assert_eq(counter(RHC_CTR_brk_probe_ok), 1);
}

Test(breaker, bad_probe_opens_again_and_the_outage_goes_on)
{
	struct rhc_view_upstream v;
	uint64_t since = fx.now;

	half_open();
	fx.now += 10;
	rhc_breaker_record(&a, &pa, RHC_OUTCOME_FAIL, RHC_ERR_read_timeout, fx.now);
	cr_assert_eq(state(), RHC_BRK_OPEN);
	cr_assert_eq(rhc_view_upstream(&fx.seg, fx.up, fx.now, &v), 0);
	cr_assert_eq(v.breaker.open_since_ms, since);
	cr_assert_eq(v.breaker.since_ms, fx.now);
	cr_assert_eq(v.breaker.reopens, 1);
	cr_assert_eq(v.breaker.trip.why, RHC_TRIP_PROBE);
	cr_assert_eq(v.breaker.last_error, RHC_ERR_read_timeout);
	cr_assert_eq(v.breaker.last_failure_ms, fx.now);
	fx.now += 1000;
	call(&b, RHC_OUTCOME_OK);
	rhc_view_upstream(&fx.seg, fx.up, fx.now, &v);
	cr_assert_eq(v.breaker.open_since_ms, 0);
}

Test(breaker, lost_outage_word_is_derived)
{
	struct rhc_view_upstream v;

	half_open();
	atomic_store(&rhc_seg_up(&fx.seg, fx.up)->outage, 0);
	rhc_view_upstream(&fx.seg, fx.up, fx.now, &v);
	cr_assert_eq(v.breaker.open_since_ms, fx.now / 64 * 64);
}

Test(breaker, abandoned_probe_gives_no_verdict_and_the_next_may_probe)
{
	half_open();
	cr_assert(!rhc_breaker_record(&a, &pa, RHC_OUTCOME_NONE, 0, fx.now));
	cr_assert_eq(state(), RHC_BRK_HALF_OPEN);
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_PROBE);
	rhc_breaker_record(&b, &pb, RHC_OUTCOME_OK, 0, fx.now);
	cr_assert_eq(counter(RHC_CTR_brk_probe_none), 1);
	fx_assert_quiet();
}

Test(breaker, silent_probe_is_taken_over_after_its_lease)
{
	struct rhc_permit late;

	half_open();
	late = pa;
	fx.now += 4999;
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
	fx.now += 300; /* leases end on multiples of 256 ms */
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_PROBE);
	cr_assert_eq(counter(RHC_CTR_brk_probe_stolen), 1);
	/* the late one's abandonment must not free the new one's permit */
	rhc_breaker_record(&a, &late, RHC_OUTCOME_NONE, 0, fx.now);
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_REFUSE);
	rhc_breaker_record(&b, &pb, RHC_OUTCOME_OK, 0, fx.now);
	cr_assert_eq(state(), RHC_BRK_CLOSED);
	fx_assert_quiet();
}

Test(breaker, probe_of_a_dead_worker_comes_back)
{
	struct rhc_reaped r;

	half_open();
	rhc_abandon(&fx.w[0]);
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 0, fx.now, &r, &fx.wake), 0);
	cr_assert_eq(r.probes, 1);
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_PROBE);
	rhc_breaker_record(&b, &pb, RHC_OUTCOME_OK, 0, fx.now);
	fx_assert_quiet();
}

Test(breaker, late_results_of_the_closed_period_neither_open_nor_close)
{
	struct rhc_permit old[2];

	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &old[0], &refused), RHC_ADMIT_PASS);
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &old[1], &refused), RHC_ADMIT_PASS);
	half_open();
	cr_assert(!rhc_breaker_record(&a, &old[0], RHC_OUTCOME_OK, 0, fx.now));
	cr_assert_eq(state(), RHC_BRK_HALF_OPEN);
	cr_assert(!rhc_breaker_record(&b, &old[1], RHC_OUTCOME_FAIL, 1, fx.now));
	cr_assert_eq(state(), RHC_BRK_HALF_OPEN);
	cr_assert_eq(counter(RHC_CTR_brk_stale), 2);
	rhc_breaker_record(&a, &pa, RHC_OUTCOME_OK, 0, fx.now);
	fx_assert_quiet();
}

Test(breaker, permit_counts_once)
{
	half_open();
	pb = pa;
	cr_assert(rhc_breaker_record(&a, &pa, RHC_OUTCOME_OK, 0, fx.now));
	cr_assert_eq(pa.kind, 0);
	cr_assert(!rhc_breaker_record(&a, &pa, RHC_OUTCOME_FAIL, 0, fx.now));
	cr_assert(!rhc_breaker_record(&a, &pb, RHC_OUTCOME_FAIL, 0, fx.now), "a copy is stale");
	cr_assert_eq(state(), RHC_BRK_CLOSED);
}

Test(breaker, readmit_keeps_renews_exchanges_or_refuses)
{
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_PASS);
	cr_assert_eq(rhc_breaker_readmit(&a, fx.now, &pa, &refused), RHC_ADMIT_PASS);
	trip();
	cr_assert_eq(rhc_breaker_readmit(&a, fx.now, &pa, &refused), RHC_ADMIT_REFUSE);
	cr_assert_eq(pa.kind, 0);
	fx.now += 1000;
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_PROBE);
	fx.now += 4000;
	cr_assert_eq(rhc_breaker_readmit(&a, fx.now, &pa, &refused), RHC_ADMIT_PROBE);
	fx.now += 4000; /* beyond the first lease, within the second */
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
	fx.now += 2000;
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_PROBE, "stolen");
	cr_assert_eq(rhc_breaker_readmit(&a, fx.now, &pa, &refused), RHC_ADMIT_REFUSE);
	rhc_breaker_record(&b, &pb, RHC_OUTCOME_OK, 0, fx.now);
	fx_assert_quiet();
}

Test(breaker, several_probes_and_successes)
{
	struct rhc_policy policy = fx_policy;
	struct rhc_permit p[4];

	policy.half_open_max = 3;
	policy.success_threshold = 4;
	fx_declare(&policy);
	trip();
	fx.now += 1000;
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(rhc_breaker_admit(i % 2 ? &a : &b, fx.now, &p[i], &refused),
			     RHC_ADMIT_PROBE);
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &p[3], &refused), RHC_ADMIT_REFUSE);
	for (unsigned i = 0; i < 3; i++)
		cr_assert(rhc_breaker_record(i % 2 ? &a : &b, &p[i], RHC_OUTCOME_OK, 0, fx.now));
	cr_assert_eq(state(), RHC_BRK_HALF_OPEN);
	call(&a, RHC_OUTCOME_OK);
	cr_assert_eq(state(), RHC_BRK_CLOSED);
	fx_assert_quiet();
}

Test(breaker, open_time_doubles_over_an_outage_and_starts_over_after_it)
{
	struct rhc_policy policy = fx_policy;
	uint64_t want = 1000;

	policy.recovery_max_ms = 5000;
	policy.growth_milli = 2000;
	fx_declare(&policy);
	trip();
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
		cr_assert_eq(refused.retry_after_ms, want, "round %u: %llu", i,
		             (unsigned long long)refused.retry_after_ms);
		fx.now += want;
		call(&a, RHC_OUTCOME_FAIL);
		want = want * 2 > 5000 ? 5000 : want * 2;
	}
	fx.now += want;
	call(&a, RHC_OUTCOME_OK);
	trip();
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_REFUSE);
	cr_assert_eq(refused.retry_after_ms, 1000);
}

static void window_policy(void)
{
	struct rhc_policy policy = fx_policy;

	policy.failure_threshold = 0;
	policy.window_ms = 16000;
	policy.min_calls = 10;
	policy.failure_permille = 500;
	policy.slow_permille = 800;
	policy.slow_ms = 100;
	fx_declare(&policy);
}

Test(breaker, failure_rate_over_all_workers_opens)
{
	window_policy();
	for (unsigned i = 0; i < 5; i++) {
		call(&a, RHC_OUTCOME_OK);
		call(&b, RHC_OUTCOME_FAIL);
		fx.now += 100;
		cr_assert_eq(state(), i < 4 ? RHC_BRK_CLOSED : RHC_BRK_OPEN);
	}
}

Test(breaker, every_success_is_counted_in_the_window_of_its_instant)
{
	struct rhc_policy policy;
	struct rhc_window sum;
	struct rhc_breaker closed = { 0 };
	uint64_t at[200];
	unsigned seed = 7, n = 0;

	window_policy();
	rhc_policy_load(a.up, &policy);
	for (unsigned i = 0; i < RHC_COUNT(at); i++) {
		unsigned seen = 0;

		fx.now += (unsigned)rand_r(&seed) % 4 ? (unsigned)rand_r(&seed) % 300 :
							 (unsigned)rand_r(&seed) % 3000;
		call(i % 2 ? &a : &b, RHC_OUTCOME_OK);
		at[n++] = fx.now / 1000; /* its bucket */
		for (unsigned k = 0; k < n; k++)
			seen += at[k] + RHC_WIN_BUCKETS > fx.now / 1000;
		rhc_window_sum(a.win, FX_WORKERS, &policy, &closed, fx.now, &sum);
		cr_assert(sum.total == seen && sum.slow_total == seen && sum.fail == 0 && sum.slow == 0,
			  "%u: %u, not %u", i, (unsigned)sum.total, seen);
	}
	policy.slow_permille = 0; /* from now on one ring less */
	fx_declare(&policy);
	call(&a, RHC_OUTCOME_OK);
	cr_assert_eq(a.bucket.slow, NULL);
	policy.disabled = true;
	fx_declare(&policy);
	rhc_window_sum(a.win, FX_WORKERS, &policy, &closed, fx.now, &sum);
	n = (unsigned)sum.total;
	call(&a, RHC_OUTCOME_OK);
	rhc_window_sum(a.win, FX_WORKERS, &policy, &closed, fx.now, &sum);
	cr_assert_eq(sum.total, n, "switched off counts nothing");
}

Test(breaker, the_bucket_is_found_without_a_look_at_the_policy_until_its_time_is_over)
{
	struct rhc_policy policy;

	window_policy();
	rhc_policy_load(a.up, &policy);
	cr_assert_not(rhc_bucket_count(&a, fx.now), "nothing is remembered yet");
	call(&a, RHC_OUTCOME_OK);
	cr_assert(rhc_bucket_count(&a, fx.now));
	cr_assert_not(rhc_bucket_count(&a, fx.now + policy.window_ms / RHC_WIN_BUCKETS));
	policy.disabled = true;
	fx_declare(&policy);
	cr_assert_not(rhc_bucket_count(&a, fx.now), "a breaker that is off counts nothing");
}

Test(breaker, failures_that_left_the_window_do_not_count)
{
	window_policy();
	for (unsigned i = 0; i < 9; i++)
		call(&a, RHC_OUTCOME_FAIL);
	fx.now += 17000;
	call(&b, RHC_OUTCOME_FAIL);
	cr_assert_eq(state(), RHC_BRK_CLOSED);
}

Test(breaker, failures_from_before_closing_do_not_count)
{
	window_policy();
	for (unsigned i = 0; i < 10; i++)
		call(&a, RHC_OUTCOME_FAIL);
	cr_assert_eq(state(), RHC_BRK_OPEN);
	fx.now += 1000;
	call(&b, RHC_OUTCOME_OK);
	cr_assert_eq(state(), RHC_BRK_CLOSED);
	fx.now += 2000;
	call(&b, RHC_OUTCOME_FAIL);
	cr_assert_eq(state(), RHC_BRK_CLOSED, "the ten old ones are still in their buckets");
	for (unsigned i = 0; i < 9; i++)
		call(&a, RHC_OUTCOME_FAIL);
	cr_assert_eq(state(), RHC_BRK_OPEN);
}

Test(breaker, slow_calls_open)
{
	struct rhc_trip_info info;

	window_policy();
	for (unsigned i = 0; i < 10; i++)
		call(i % 2 ? &a : &b, i < 2 ? RHC_OUTCOME_OK : RHC_OUTCOME_SLOW);
	cr_assert_eq(state(), RHC_BRK_OPEN);
	info = rhc_trip_of(a.up, 2);
	cr_assert_eq(info.why, RHC_TRIP_SLOW_RATE, "%s", rhc_trip_name(info.why));
	cr_assert_eq(info.failures, 8);
	cr_assert_eq(info.total, 10);
}

Test(breaker, switched_off_admits_everything_and_counts_nothing)
{
	struct rhc_policy policy = fx_policy;

	trip();
	policy.disabled = true;
	fx_declare(&policy);
	for (unsigned i = 0; i < 10; i++)
		call(&a, RHC_OUTCOME_FAIL);
	cr_assert_eq(counter(RHC_CTR_brk_closed_open), 1);
}

Test(breaker, impossible_word_is_counted_and_let_through)
{
	atomic_store(&a.up->brk, UINT64_MAX);
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_PASS);
	cr_assert_geq(counter(RHC_CTR_corrupt), 1);
}

Test(breaker, state_survives_every_process)
{
	trip();
	rhc_abandon(&fx.w[0]);
	rhc_abandon(&fx.w[1]);
	close(fx.lock_fd);
	rhc_segment_detach(&fx.seg);
	fx_adopt();
	cr_assert_eq(state(), RHC_BRK_OPEN);
}

#ifdef RHC_FAULTS
static const char *when;

static void close_meanwhile(const char *name)
{
	struct rhc_breaker word = { .state = RHC_BRK_CLOSED };

	if (strcmp(name, when) != 0)
		return;
	rhc_fault_hook = NULL;
	word.gen = rhc_breaker_unpack(atomic_load(&a.up->brk), NULL).gen + 1;
	atomic_store(&a.up->brk, rhc_breaker_pack(&word)); /* as rhcctl close does */
}

Test(breaker, permit_taken_when_the_breaker_has_moved_on_is_given_back)
{
	static const char *const points[] = { "permit.take", "permit.taken" };

	for (size_t i = 0; i < RHC_COUNT(points); i++) {
		trip();
		fx.now += 1000;
		when = points[i];
		rhc_fault_hook = close_meanwhile;
		cr_expect_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_PASS, "%s", points[i]);
		rhc_fault_hook = NULL;
		rhc_breaker_record(&a, &pa, RHC_OUTCOME_OK, 0, fx.now);
		fx_assert_quiet();
	}
}

/* b takes a's permit over, as after a stop longer than its lease. */
static void steal_meanwhile(const char *name)
{
	if (strcmp(name, when) != 0)
		return;
	rhc_fault_hook = NULL;
	fx.now += 6000;
	cr_assert_eq(rhc_breaker_admit(&b, fx.now, &pb, &refused), RHC_ADMIT_PROBE);
}

Test(breaker, prober_whose_permit_was_taken_over_before_it_looked_again_is_none)
{
	uint64_t then;

	trip();
	fx.now += 1000;
	when = "permit.taken";
	rhc_fault_hook = steal_meanwhile;
	then = fx.now;
	cr_expect_eq(rhc_breaker_admit(&a, then, &pa, &refused), RHC_ADMIT_REFUSE);
	rhc_breaker_record(&b, &pb, RHC_OUTCOME_NONE, 0, fx.now);
	cr_assert_eq(rhc_breaker_admit(&a, fx.now, &pa, &refused), RHC_ADMIT_PROBE);
	when = "permit.renewed";
	rhc_fault_hook = steal_meanwhile;
	then = fx.now;
	cr_expect_eq(rhc_breaker_readmit(&a, then, &pa, &refused), RHC_ADMIT_REFUSE);
	cr_assert_null(rhc_fault_hook, "a fault point was not reached");
	rhc_breaker_record(&b, &pb, RHC_OUTCOME_OK, 0, fx.now);
	cr_assert_eq(state(), RHC_BRK_CLOSED);
	fx_assert_quiet();
}

Test(breaker, verdict_that_loses_against_a_change_by_hand_is_dropped)
{
	half_open();
	when = "breaker.cas";
	rhc_fault_hook = close_meanwhile;
	cr_assert(!rhc_breaker_record(&a, &pa, RHC_OUTCOME_FAIL, 1, fx.now));
	cr_assert_eq(state(), RHC_BRK_CLOSED);
	fx_assert_quiet();
}
#endif

/* ---- against a plain reference, over random histories ---- */

struct ref {
	enum rhc_breaker_state state;
	uint32_t failures, successes, epoch;
	uint64_t retry_at;
	uint32_t out[2]; /* probes out: epoch+1 of the holder, 0 free */
};

static bool ref_admit(struct ref *r, uint64_t now, bool *ret_probe, unsigned *ret_slot)
{
	*ret_probe = false;
	if (r->state == RHC_BRK_OPEN && now >= r->retry_at) {
		r->state = RHC_BRK_HALF_OPEN;
		r->epoch++;
		r->successes = 0;
	}
	if (r->state == RHC_BRK_CLOSED)
		return true;
	if (r->state == RHC_BRK_OPEN)
		return false;
	for (unsigned k = 0; k < 2; k++) {
		if (r->out[k] == 0) {
			r->out[k] = r->epoch + 1;
			*ret_probe = true;
			*ret_slot = k;
			return true;
		}
	}
	return false;
}

static void ref_open(struct ref *r, uint64_t now)
{
	r->state = RHC_BRK_OPEN;
	r->epoch++;
	r->retry_at = now + 1000;
}

static void ref_record(struct ref *r, uint32_t epoch, bool ok, uint64_t now)
{
	if (epoch != r->epoch)
		return;
	if (r->state == RHC_BRK_CLOSED && ok) {
		r->failures = 0;
	} else if (r->state == RHC_BRK_CLOSED) {
		if (++r->failures >= 3)
			ref_open(r, now);
	} else if (r->state == RHC_BRK_HALF_OPEN && !ok) {
		ref_open(r, now);
	} else if (r->state == RHC_BRK_HALF_OPEN && ++r->successes >= 3) {
		r->state = RHC_BRK_CLOSED;
		r->epoch++;
		r->failures = 0;
	}
}

struct flight {
	struct rhc_permit permit;
	struct rhc_breaker_ref *by;
	uint32_t epoch;
	unsigned slot;
	bool flies, probe;
};

static void one_history(unsigned seed)
{
	struct ref r = { .state = RHC_BRK_CLOSED };
	struct flight f[6] = { 0 };
	unsigned state_seed = seed;

	for (unsigned step = 0; step < 120; step++) {
		struct flight *x = &f[(unsigned)rand_r(&state_seed) % RHC_COUNT(f)];
		bool ok = rand_r(&state_seed) % 3 != 0, none = rand_r(&state_seed) % 8 == 0;

		fx.now += (unsigned)rand_r(&state_seed) % 400;
		if (!x->flies) {
			enum rhc_admit got;

			x->by = rand_r(&state_seed) % 2 ? &a : &b;
			x->flies = ref_admit(&r, fx.now, &x->probe, &x->slot);
			x->epoch = r.epoch;
			got = rhc_breaker_admit(x->by, fx.now, &x->permit, &refused);
			cr_assert_eq(got, !x->flies   ? RHC_ADMIT_REFUSE
			                  : x->probe ? RHC_ADMIT_PROBE
			                             : RHC_ADMIT_PASS,
			             "seed %u step %u: %d", seed, step, got);
		} else {
			if (!none)
				ref_record(&r, x->epoch, ok, fx.now);
			if (x->probe)
				r.out[x->slot] = 0;
			rhc_breaker_record(x->by, &x->permit,
			                   none ? RHC_OUTCOME_NONE
			                   : ok ? RHC_OUTCOME_OK
			                        : RHC_OUTCOME_FAIL,
			                   1, fx.now);
			x->flies = false;
		}
		cr_assert_eq(state(), r.state, "seed %u step %u: %s, reference %s", seed, step,
		             rhc_breaker_name(state()), rhc_breaker_name(r.state));
	}
	for (unsigned i = 0; i < RHC_COUNT(f); i++)
		rhc_breaker_record(f[i].by, &f[i].permit, RHC_OUTCOME_NONE, 0, fx.now);
}

Test(breaker, does_what_a_plain_reference_does_over_random_histories)
{
	struct rhc_policy policy = fx_policy;

	policy.half_open_max = 2;
	policy.success_threshold = 3;
	policy.lease_ms = 3600000;
	fx_declare(&policy);
	for (unsigned seed = 1; seed <= 4000; seed++) {
		struct rhc_breaker fresh = rhc_breaker_unpack(atomic_load(&a.up->brk), NULL);

		fresh = (struct rhc_breaker){ .state = RHC_BRK_CLOSED, .gen = fresh.gen + 1 };
		atomic_store(&a.up->brk, rhc_breaker_pack(&fresh));
		one_history(seed);
	}
	fx_assert_quiet();
}

/* Forked workers fail and succeed at random: never more than half_open_max probes at a time. */
Test(breaker, never_has_more_probes_than_allowed_over_processes, .timeout = 30)
{
	_Atomic int *shared =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rhc_policy policy = fx_policy;
	pid_t pid[4];

	policy.half_open_max = 2;
	policy.success_threshold = 3;
	policy.recovery_ms = 1;
	policy.lease_ms = 3600000;
	fx_declare(&policy);
	for (unsigned p = 0; p < 4; p++) {
		pid[p] = fork();
		if (pid[p] == 0) {
			struct rhc_breaker_ref r;
			unsigned seed = p + 1;
			uint64_t end = fx_clock_ms() + 400;

			rhc_segment_forked(&fx.seg);
			rhc_breaker_init(&r, fx_worker(p + 2), fx.up);
			while (fx_clock_ms() < end) {
				enum rhc_admit got =
					rhc_breaker_admit(&r, fx_clock_ms(), &pa, &refused);

				if (got == RHC_ADMIT_PROBE) {
					int now = atomic_fetch_add(&shared[0], 1) + 1;

					if (now > 2)
						atomic_store(&shared[1], now);
					atomic_fetch_add(&shared[2], 1);
					atomic_fetch_sub(&shared[0], 1);
				}
				rhc_breaker_record(&r, &pa,
						   rand_r(&seed) % 2 ? RHC_OUTCOME_OK
								     : RHC_OUTCOME_FAIL,
						   1, fx_clock_ms());
			}
			_exit(0);
		}
	}
	for (unsigned p = 0; p < 4; p++)
		waitpid(pid[p], NULL, 0);
	cr_assert_eq(atomic_load(&shared[1]), 0, "%d probes at once", atomic_load(&shared[1]));
	cr_assert_gt(atomic_load(&shared[2]), 10);
}
