#include "sidecar/run/stats.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"

static _Atomic uint64_t row[RHC_WCTR_COUNT];

Test(stats, a_process_tells_what_it_costs)
{
	uint64_t until = clock_ns() + 50 * NS_PER_MS, cpu;
	struct stats told;

	log_init(-1, LOG_TEXT);
	stats_begin(&told);
	while (clock_ns() < until)
		;
	log_event(LOG_CORE, LOG_INFO, "something");
	stats_process(&told, row);
	cpu = row[RHC_WCTR_cpu_ns];
	cr_expect(cpu >= 10 * NS_PER_MS && cpu < 60 * NS_PER_S, "%llu", (unsigned long long)cpu);
	cr_expect(row[RHC_WCTR_rss_bytes] > 100 * 1024 && row[RHC_WCTR_rss_bytes] < UINT64_C(1)
											    << 40);
	cr_expect_eq(row[RHC_WCTR_log_lines], 1);
	stats_process(&told, row);
	cr_expect_geq(row[RHC_WCTR_cpu_ns], cpu);
	cr_expect_lt(row[RHC_WCTR_cpu_ns], cpu + 50 * NS_PER_MS, "only what came since");
	cr_expect_eq(row[RHC_WCTR_log_lines], 1);
}

Test(stats, the_counters_of_an_index_go_on_and_the_lines_of_a_parent_are_not_counted_again)
{
	struct stats told;

	log_init(-1, LOG_TEXT);
	row[RHC_WCTR_cpu_ns] = 5 * NS_PER_S;
	row[RHC_WCTR_log_lines] = 7;
	log_event(LOG_CORE, LOG_INFO, "before_the_fork");
	stats_begin(&told);
	stats_process(&told, row);
	cr_expect_geq(row[RHC_WCTR_cpu_ns], 5 * NS_PER_S);
	cr_expect_eq(row[RHC_WCTR_log_lines], 7);
}

Test(stats, at_the_end_the_gauges_are_zero_and_the_counters_stay)
{
	for (unsigned i = 0; i < RHC_WCTR_COUNT; i++)
		row[i] = 9;
	stats_end(row);
	cr_expect_eq(row[RHC_WCTR_rss_bytes], 0);
	cr_expect_eq(row[RHC_WCTR_buffers_max], 0);
	cr_expect_eq(row[RHC_WCTR_cpu_ns], 9);
	cr_expect_eq(row[RHC_WCTR_loops], 9);
}

Test(stats, buffers_in_use_are_those_that_are_lent)
{
	struct buf_pool pool;
	struct buf *b;

	cr_assert_eq(buf_pool_init(&pool, 3, 5), 0);
	b = buf_get(&pool, BUF_LARGE);
	stats_buffers(&pool, row);
	cr_expect_eq(row[RHC_WCTR_buffers_max], 8);
	cr_expect_eq(row[RHC_WCTR_buffers_in_use], 1);
	buf_unref(b);
	stats_buffers(&pool, row);
	cr_expect_eq(row[RHC_WCTR_buffers_in_use], 0);
	buf_pool_fini(&pool);
}
