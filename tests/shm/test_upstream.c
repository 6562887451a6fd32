#include "fixture.h"

TestSuite(upstream, .init = fx_start, .fini = fx_stop);

static int declare(const char *name, uint32_t *ret)
{
	return rhc_upstream_declare(&fx.seg, name, &fx_policy, fx.now, ret, &fx.wake);
}

Test(upstream, is_found_by_its_name)
{
	uint32_t billing;
	char name[RHC_NAME_MAX + 1];

	cr_assert_eq(declare("billing", &billing), 0);
	cr_assert_neq(billing, fx.up);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "billing"), (int)billing);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "orders"), (int)fx.up);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "order"), -ENOENT);
	rhc_upstream_name(&fx.seg, billing, name);
	cr_assert_str_eq(name, "billing");
}

Test(upstream, declared_again_is_the_same_record_with_the_new_policy)
{
	struct rhc_policy policy = fx_policy, have;
	uint32_t again;

	policy.failure_threshold = 9;
	policy.limit = 7;
	cr_assert_eq(rhc_upstream_declare(&fx.seg, "orders", &policy, fx.now, &again, &fx.wake), 0);
	cr_assert_eq(again, fx.up);
	rhc_policy_load(rhc_seg_up(&fx.seg, fx.up), &have);
	cr_assert_eq(have.failure_threshold, 9);
	cr_assert_eq(RHC_CTL_LIMIT(rhc_seg_up(&fx.seg, fx.up)->ctl), 7);
}

Test(upstream, policy_is_read_as_it_was_stored)
{
	struct rhc_policy p = {
		.failure_threshold = 1023, .recovery_ms = 1, .recovery_max_ms = UINT32_MAX,
		.jitter_permille = 999, .half_open_max = 8, .success_threshold = 255, .lease_ms = 123456,
		.window_ms = 60000, .min_calls = 77, .failure_permille = 501, .slow_ms = 4321,
		.slow_permille = 1000, .disabled = true, .limit = 10000, .max_waiting = 100000,
		.growth_milli = 1234, .unlimited = true,
	}, q;

	memset(&q, 0x55, sizeof(q));
	rhc_policy_store(rhc_seg_up(&fx.seg, fx.up), &p);
	rhc_policy_load(rhc_seg_up(&fx.seg, fx.up), &q);
	cr_assert_eq(q.failure_threshold, p.failure_threshold);
	cr_assert_eq(q.recovery_ms, p.recovery_ms);
	cr_assert_eq(q.recovery_max_ms, p.recovery_max_ms);
	cr_assert_eq(q.growth_milli, p.growth_milli);
	cr_assert_eq(q.unlimited, p.unlimited);
	cr_assert_eq(q.jitter_permille, p.jitter_permille);
	cr_assert_eq(q.half_open_max, p.half_open_max);
	cr_assert_eq(q.success_threshold, p.success_threshold);
	cr_assert_eq(q.lease_ms, p.lease_ms);
	cr_assert_eq(q.window_ms, p.window_ms);
	cr_assert_eq(q.min_calls, p.min_calls);
	cr_assert_eq(q.failure_permille, p.failure_permille);
	cr_assert_eq(q.slow_ms, p.slow_ms);
	cr_assert_eq(q.slow_permille, p.slow_permille);
	cr_assert_eq(q.disabled, p.disabled);
	cr_assert_eq(q.limit, p.limit);
	cr_assert_eq(q.max_waiting, p.max_waiting);
}

Test(upstream, impossible_policy_words_are_read_within_bounds)
{
	struct rhc_up *up = rhc_seg_up(&fx.seg, fx.up);
	struct rhc_policy p;

	for (uint64_t word = 0;; word = UINT64_MAX) {
		for (unsigned i = 0; i < 6; i++)
			atomic_store(&up->policy[i], word);
		rhc_policy_load(up, &p);
		cr_assert(p.half_open_max >= 1 && p.half_open_max <= RHC_PROBES_MAX);
		cr_assert(p.success_threshold >= 1 && p.success_threshold <= 255);
		cr_assert(p.limit >= 1 && p.limit <= RHC_LIMIT_MAX);
		cr_assert_geq(p.lease_ms, 1000);
		if (word)
			break;
	}
}

Test(upstream, names_are_never_cut)
{
	char name[RHC_NAME_MAX + 2];
	uint32_t u;

	memset(name, 'a', sizeof(name));
	name[RHC_NAME_MAX + 1] = 0;
	cr_assert_eq(declare(name, &u), -ENAMETOOLONG);
	name[RHC_NAME_MAX] = 0;
	cr_assert_eq(declare(name, &u), 0);
	cr_assert_eq(rhc_upstream_find(&fx.seg, name), (int)u);
}

Test(upstream, names_have_no_blanks_or_control_bytes)
{
	static const char *const bad[] = { "", "a b", "a\tb", "a\x7f", "\x1b[0m" };
	uint32_t u;

	for (size_t i = 0; i < RHC_COUNT(bad); i++)
		cr_expect_eq(declare(bad[i], &u), -EINVAL, "%zu", i);
}

Test(upstream, limit_beyond_the_slots_is_refused)
{
	struct rhc_policy policy = fx_policy;
	uint32_t u;

	policy.limit = 257;
	cr_assert_eq(rhc_upstream_declare(&fx.seg, "x", &policy, fx.now, &u, &fx.wake), -ERANGE);
	policy.limit = 0;
	cr_assert_eq(rhc_upstream_declare(&fx.seg, "x", &policy, fx.now, &u, &fx.wake), -ERANGE);
	policy.limit = 256;
	cr_assert_eq(rhc_upstream_declare(&fx.seg, "x", &policy, fx.now, &u, &fx.wake), 0);
}

Test(upstream, records_run_out)
{
	uint32_t u;

	cr_assert_eq(declare("b", &u), 0);
	cr_assert_eq(declare("c", &u), 0);
	cr_assert_eq(declare("d", &u), 0);
	cr_assert_eq(declare("e", &u), -ENOSPC);
}

Test(upstream, retired_record_is_reused_when_every_worker_has_forgotten_it)
{
	struct rhc_worker *w = fx_worker(1);
	struct rhc_bulkhead b;
	struct rhc_slot slot;
	uint64_t sum[RHC_CTR_COUNT], gen, brk;
	uint32_t u;

	declare("b", &u);
	declare("c", &u);
	declare("d", &u);
	rhc_worker_adopt(w, rhc_config_publish(&fx.seg, 1, fx.now));
	rhc_bulkhead_init(&b, w, fx.up);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	brk = atomic_load(&rhc_seg_up(&fx.seg, fx.up)->brk);
	gen = rhc_config_publish(&fx.seg, 2, fx.now);
	cr_assert_eq(rhc_upstream_retire(&fx.seg, fx.up, gen), 0);
	cr_assert_eq(rhc_upstream_retire(&fx.seg, fx.up, gen), -ENOENT);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "orders"), -ENOENT);
	cr_assert_eq(declare("e", &u), -ENOSPC, "worker 1 still knows it");
	rhc_worker_adopt(w, gen);
	cr_assert_eq(declare("e", &u), -ENOSPC, "and holds a slot");
	rhc_bulkhead_release(&b, &slot, fx.now, &fx.wake);
	cr_assert_eq(declare("e", &u), 0);
	cr_assert_eq(u, fx.up);
	rhc_view_counters(&fx.seg, u, false, sum, RHC_CTR_COUNT);
	for (unsigned i = 0; i < RHC_CTR_COUNT; i++)
		cr_assert_eq(sum[i], 0, "counter %u of the old upstream", i);
	cr_assert_neq(atomic_load(&rhc_seg_up(&fx.seg, u)->brk), brk, "the generation goes on");
	cr_assert_eq(rhc_breaker_peek(rhc_seg_up(&fx.seg, u)), RHC_BRK_CLOSED);
}

Test(upstream, retired_record_is_reused_at_once_when_its_worker_is_dead_and_reaped)
{
	struct rhc_reaped r;
	uint32_t u;

	fx_worker(1);
	declare("b", &u);
	declare("c", &u);
	declare("d", &u);
	rhc_upstream_retire(&fx.seg, fx.up, rhc_config_publish(&fx.seg, 2, fx.now));
	rhc_abandon(&fx.w[1]);
	cr_assert_eq(declare("e", &u), -ENOSPC);
	rhc_reap_all(&fx.seg, fx.lock_fd, RHC_WORKERS_MAX, fx.now, &r, &fx.wake);
	cr_assert_eq(declare("e", &u), 0);
}

Test(upstream, same_name_after_retirement_gets_a_record_of_its_own)
{
	uint32_t u;

	fx_worker(1);
	rhc_upstream_retire(&fx.seg, fx.up, rhc_config_publish(&fx.seg, 2, fx.now));
	cr_assert_eq(declare("orders", &u), 0);
	cr_assert_neq(u, fx.up);
}

Test(upstream, health_is_shown)
{
	struct rhc_view_upstream v;

	cr_assert_eq(rhc_view_upstream(&fx.seg, fx.up, fx.now, &v), 0);
	cr_assert(!v.health_known);
	rhc_upstream_health(&fx.seg, fx.up, false, RHC_ERR_connect_refused, 6, fx.now);
	cr_assert_eq(rhc_view_upstream(&fx.seg, fx.up, fx.now, &v), 0);
	cr_assert(v.health_known && !v.reachable);
	cr_assert_eq(v.health_error, RHC_ERR_connect_refused);
	cr_assert_eq(v.health_took_ms, 6);
	cr_assert_eq(v.health_at_ms, fx.now / 1000 * 1000);
}
