/*
 * tests/proto/test_h2_flood.c - the token bucket.
 */
#include <criterion/criterion.h>

#include "proto/h2_flood.h"

static uint32_t how_many(struct h2_flood *f, enum h2_flood_cause cause, uint64_t now_ms)
{
	uint32_t n = 0;

	while (n < 100000 && h2_flood_charge(f, cause, now_ms))
		n++;
	return n;
}

Test(h2_flood, a_burst_is_the_bucket_over_the_price)
{
	struct h2_flood f;

	h2_flood_init(&f, 5);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 5), 1000);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 5), 0);
}

Test(h2_flood, time_brings_tokens_back_at_the_rate_and_not_beyond_full)
{
	struct h2_flood f;

	h2_flood_init(&f, 0);
	how_many(&f, H2_FLOOD_PING, 0);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 1000), 100);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 1005), 0);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 1010), 1, "no millisecond is lost between looks");
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, UINT64_MAX), 1000);
}

Test(h2_flood, a_clock_that_stands_or_goes_back_gives_nothing)
{
	struct h2_flood f;

	h2_flood_init(&f, 1000);
	how_many(&f, H2_FLOOD_PING, 1000);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 500), 0);
	cr_assert_eq(how_many(&f, H2_FLOOD_PING, 1000), 0);
}

Test(h2_flood, a_frame_pays_for_both_windows_unless_the_window_cut_it_to_crumbs)
{
	static const struct {
		const char *says;
		uint32_t    bytes;
		bool        whole;
		uint32_t    updates;
	} rows[] = {
		{ "one byte and no more to send", 1, true, 2 },
		{ "one byte of many", 1, false, 0 },
		{ "crumbs", 64, false, 0 },
		{ "half of a frame", 128, false, 1 },
		{ "a window of 256", 256, false, 2 },
		{ "a window of 1 KiB", 1024, false, 2 },
		{ "a frame of 16 KiB", 16384, false, 8 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct h2_flood f;

		h2_flood_init(&f, 0);
		how_many(&f, H2_FLOOD_WINDOW_UPDATE, 0);
		h2_flood_credit_data(&f, rows[i].bytes, rows[i].whole);
		cr_assert_eq(how_many(&f, H2_FLOOD_WINDOW_UPDATE, 0), rows[i].updates, "%s", rows[i].says);
	}
}

Test(h2_flood, useful_work_pays)
{
	struct h2_flood f;

	h2_flood_init(&f, 0);
	how_many(&f, H2_FLOOD_WINDOW_UPDATE, 0);
	h2_flood_credit(&f, H2_FLOOD_CREDIT_DONE);
	cr_assert_eq(how_many(&f, H2_FLOOD_WINDOW_UPDATE, 0), 2);
	h2_flood_credit(&f, UINT32_MAX);
	cr_assert_eq(f.tokens, H2_FLOOD_FULL);
}
