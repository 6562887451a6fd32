#include "fixture.h"

TestSuite(histogram, .init = fx_start, .fini = fx_stop);

static struct rhc_hist *hist(uint32_t w)
{
	return rhc_seg_hist(&fx.seg, w, fx.up, RHC_HIST_request);
}

static uint64_t record(uint64_t ns)
{
	struct rhc_hist_sum h;
	unsigned i;

	rhc_hist_record(hist(0), RHC_HIST_request, ns);
	rhc_hist_read(hist(0), &h);
	for (i = 0; i < RHC_HIST_BUCKETS; i++) {
		if (h.bucket[i])
			break;
	}
	atomic_store(&hist(0)->bucket[i], 0);
	return i;
}

Test(histogram, puts_each_value_below_the_first_edge_that_is_not_smaller)
{
	uint32_t first = rhc_hist_first(RHC_HIST_request);

	for (unsigned i = 0; i < RHC_HIST_BUCKETS - 1; i++) {
		uint64_t edge = rhc_hist_edge(first, i);

		cr_expect_eq(record(edge), i, "edge %u", i);
		cr_expect_eq(record(edge + 1), i + 1, "above edge %u", i);
		cr_expect_eq(record(edge - 1), i, "below edge %u", i);
	}
	cr_expect_eq(record(0), 0);
	cr_expect_eq(record(UINT64_MAX), RHC_HIST_BUCKETS - 1);
}

Test(histogram, has_every_prometheus_bound_as_an_edge)
{
	static const double bounds[] = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
		                         0.5,    1,     2.5,    5,     10,   30,    60,   120 };
	uint32_t first = rhc_hist_first(RHC_HIST_request);

	for (size_t b = 0; b < RHC_COUNT(bounds); b++) {
		uint64_t ns = (uint64_t)(bounds[b] * 1e9 + 0.5);
		bool found = false;

		for (unsigned i = 0; i < RHC_HIST_BUCKETS - 1; i++)
			found |= rhc_hist_edge(first, i) == ns;
		cr_expect(found, "%f", bounds[b]);
	}
}

Test(histogram, edges_rise_by_at_most_a_half)
{
	for (unsigned id = 0; id < RHC_HIST_COUNT; id++) {
		uint32_t first = rhc_hist_first((enum rhc_hist_id)id);

		cr_assert_eq(first % 10, 0);
		for (unsigned i = 1; i < RHC_HIST_BUCKETS - 1; i++) {
			cr_assert_gt(rhc_hist_edge(first, i), rhc_hist_edge(first, i - 1));
			cr_assert_leq(rhc_hist_edge(first, i) * 2, rhc_hist_edge(first, i - 1) * 3);
		}
	}
}

Test(histogram, quantiles_lie_within_their_bucket)
{
	uint32_t first = rhc_hist_first(RHC_HIST_request);
	struct rhc_hist_sum h;

	for (uint64_t ms = 1; ms <= 1000; ms++)
		rhc_hist_record(hist(ms % 3 ? 0 : 1), RHC_HIST_request, ms * 1000000);
	rhc_view_hist(&fx.seg, fx.up, RHC_HIST_request, false, &h);
	cr_assert_eq(h.count, 1000);
	cr_assert_eq(h.sum_ns, UINT64_C(500500) * 1000000);
	cr_expect(llabs((long long)rhc_hist_quantile(&h, first, 500) - 500000000) < 5000000);
	cr_expect(llabs((long long)rhc_hist_quantile(&h, first, 990) - 990000000) < 15000000);
	cr_expect_eq(rhc_hist_quantile(&h, first, 1000), UINT64_C(1000000000));
	cr_expect_eq(rhc_hist_le(&h, first, UINT64_C(250000000)), 250);
	cr_expect_eq(rhc_hist_le(&h, first, UINT64_MAX), 1000);
}

Test(histogram, empty_has_no_quantile_and_the_last_bucket_says_at_least)
{
	uint32_t first = rhc_hist_first(RHC_HIST_request);
	struct rhc_hist_sum h = { 0 };

	cr_assert_eq(rhc_hist_quantile(&h, first, 990), 0);
	h.bucket[RHC_HIST_BUCKETS - 1] = h.count = 5;
	cr_assert_eq(rhc_hist_quantile(&h, first, 500), rhc_hist_edge(first, RHC_HIST_BUCKETS - 2));
}

Test(histogram, a_difference_never_falls_below_zero)
{
	struct rhc_hist_sum a = { .bucket = { 1, 5 }, .count = 6, .sum_ns = 10 };
	struct rhc_hist_sum b = { .bucket = { 2, 3 }, .count = 5, .sum_ns = 20 };

	rhc_hist_sub(&a, &b);
	cr_assert_eq(a.bucket[0], 0);
	cr_assert_eq(a.bucket[1], 2);
	cr_assert_eq(a.count, 2);
	cr_assert_eq(a.sum_ns, 0);
}
