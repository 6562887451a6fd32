/* The pure policy: each row is a sentence. */
#include "fixture.h"

#define NOW 100000

struct row {
	const char *says;
	struct rhc_breaker from;
	struct rhc_policy policy;
	struct rhc_breaker_in in;
	struct rhc_breaker to;
	enum rhc_trip trip;
};

#define CLOSED(g, f)      { .state = RHC_BRK_CLOSED, .gen = (g), .failures = (f) }
#define CLOSED_NOW(g)     { .state = RHC_BRK_CLOSED, .gen = (g), .closed_at = NOW / 128 + 1 }
#define OPEN(g, at)       { .state = RHC_BRK_OPEN, .gen = (g), .retry_at_ms = (at) }
#define HALF(g, ok, at)   { .state = RHC_BRK_HALF_OPEN, .gen = (g), .successes = (ok), .entered_ms = (at) }
#define ISOLATED(g, end)  { .state = RHC_BRK_ISOLATED, .gen = (g), .until_ms = (end) }
#define DISABLED(g, end)  { .state = RHC_BRK_DISABLED, .gen = (g), .until_ms = (end) }
#define P                 .failure_threshold = 3, .recovery_ms = 1000, .half_open_max = 1
#define IN(w, g)          { .what = RHC_BRK_IN_##w, .gen = (g), .now_ms = NOW }

/* clang-format off */
static const struct row rows[] = {
	{ "a failure counts", CLOSED(4, 0), { P }, IN(FAIL, 4), CLOSED(4, 1), 0 },
	{ "one less than the threshold stays closed", CLOSED(4, 1), { P }, IN(FAIL, 4), CLOSED(4, 2), 0 },
	{ "the threshold opens", CLOSED(4, 2), { P }, IN(FAIL, 4), OPEN(5, NOW + 1000), RHC_TRIP_CONSECUTIVE },
	{ "a success resets the count", CLOSED(4, 2), { P }, IN(OK, 4), CLOSED(4, 0), 0 },
	{ "a success without failures changes nothing", CLOSED(4, 0), { P }, IN(OK, 4), CLOSED(4, 0), 0 },
	{ "a slow success resets the count of failures too", CLOSED(4, 2), { P }, IN(SLOW, 4), CLOSED(4, 0), 0 },
	{ "threshold 0 never opens", CLOSED(4, 1023), { .recovery_ms = 1 }, IN(FAIL, 4), CLOSED(4, 1023), 0 },
	{ "a late failure does not count", CLOSED(4, 2), { P }, IN(FAIL, 3), CLOSED(4, 2), 0 },
	{ "a late success does not reset", CLOSED(4, 2), { P }, IN(OK, 3), CLOSED(4, 2), 0 },
	{ "a late success does not close", HALF(6, 0, 64000), { P }, IN(OK, 4), HALF(6, 0, 64000), 0 },
	{ "a late failure does not open again", HALF(6, 0, 64000), { P }, IN(FAIL, 5), HALF(6, 0, 64000), 0 },
	{ "a switched-off breaker counts nothing", CLOSED(4, 2), { P, .disabled = true }, IN(FAIL, 4), CLOSED(4, 2), 0 },

	{ "open waits", OPEN(5, NOW + 1), { P }, IN(TICK, 0), OPEN(5, NOW + 1), 0 },
	{ "open ends at its time", OPEN(5, NOW), { P }, IN(TICK, 0), HALF(6, 0, NOW), 0 },
	{ "an outcome changes nothing while open", OPEN(5, NOW), { P }, IN(OK, 5), OPEN(5, NOW), 0 },
	{ "time alone does not close", CLOSED(5, 2), { P }, IN(TICK, 0), CLOSED(5, 2), 0 },
	{ "half-open does not end by time", HALF(6, 0, 64), { P }, IN(TICK, 0), HALF(6, 0, 64), 0 },

	{ "a good probe closes", HALF(6, 0, 64000), { P }, IN(OK, 6), CLOSED_NOW(7), 0 },
	{ "success_threshold counts probes", HALF(6, 0, 64000), { P, .success_threshold = 2 }, IN(OK, 6), HALF(6, 1, 64000), 0 },
	{ "the last of them closes", HALF(6, 1, 64000), { P, .success_threshold = 2 }, IN(OK, 6), CLOSED_NOW(7), 0 },
	{ "a bad probe opens again", HALF(6, 1, 64000), { P, .success_threshold = 2 }, IN(FAIL, 6), OPEN(7, NOW + 1000), RHC_TRIP_PROBE },
	{ "a slow probe is a good one without a slow rule", HALF(6, 0, 64000), { P }, IN(SLOW, 6), CLOSED_NOW(7), 0 },
	{ "a slow probe is a bad one with a slow rule", HALF(6, 0, 64000), { P, .slow_permille = 500 }, IN(SLOW, 6), OPEN(7, NOW + 1000), RHC_TRIP_PROBE },

	{ "without recovery_max the open time stays", HALF(6, 0, 64000), { P },
	  { .what = RHC_BRK_IN_FAIL, .gen = 6, .now_ms = NOW, .reopens = 5 }, OPEN(7, NOW + 1000), RHC_TRIP_PROBE },
	{ "the open time grows by its factor", HALF(6, 0, 64000), { P, .recovery_max_ms = 60000, .growth_milli = 1500 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 6, .now_ms = NOW, .reopens = 1 }, OPEN(7, NOW + 2250), RHC_TRIP_PROBE },
	{ "a factor of one keeps it", HALF(6, 0, 64000), { P, .recovery_max_ms = 60000, .growth_milli = 1000 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 6, .now_ms = NOW, .reopens = 1 }, OPEN(7, NOW + 1000), RHC_TRIP_PROBE },
	{ "the open time doubles", HALF(6, 0, 64000), { P, .recovery_max_ms = 60000, .growth_milli = 2000 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 6, .now_ms = NOW, .reopens = 1 }, OPEN(7, NOW + 4000), RHC_TRIP_PROBE },
	{ "up to its maximum", HALF(6, 0, 64000), { P, .recovery_max_ms = 3000, .growth_milli = 2000 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 6, .now_ms = NOW, .reopens = 7 }, OPEN(7, NOW + 3000), RHC_TRIP_PROBE },
	{ "jitter is added, never taken away", CLOSED(4, 2), { P, .jitter_permille = 500 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 4, .now_ms = NOW, .random = 0xffff }, OPEN(5, NOW + 1500), RHC_TRIP_CONSECUTIVE },

	{ "the failure rate opens", CLOSED(4, 0), { P, .window_ms = 10000, .min_calls = 10, .failure_permille = 500 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 4, .now_ms = NOW, .window = { .total = 10, .fail = 5 } }, OPEN(5, NOW + 1000), RHC_TRIP_FAILURE_RATE },
	{ "below the rate it stays", CLOSED(4, 0), { P, .window_ms = 10000, .min_calls = 10, .failure_permille = 500 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 4, .now_ms = NOW, .window = { .total = 11, .fail = 5 } }, CLOSED(4, 1), 0 },
	{ "below min_calls it stays", CLOSED(4, 0), { P, .window_ms = 10000, .min_calls = 10, .failure_permille = 500 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 4, .now_ms = NOW, .window = { .total = 9, .fail = 9 } }, CLOSED(4, 1), 0 },
	{ "without a window the sums mean nothing", CLOSED(4, 0), { P, .failure_permille = 500 },
	  { .what = RHC_BRK_IN_FAIL, .gen = 4, .now_ms = NOW, .window = { .total = 90, .fail = 90 } }, CLOSED(4, 1), 0 },
	{ "a success never trips", CLOSED(4, 0), { P, .window_ms = 10000, .min_calls = 1, .failure_permille = 1 },
	  { .what = RHC_BRK_IN_OK, .gen = 4, .now_ms = NOW, .window = { .total = 10, .fail = 5 } }, CLOSED(4, 0), 0 },
	{ "the slow-call rate opens", CLOSED(4, 0), { P, .window_ms = 10000, .min_calls = 4, .slow_permille = 750 },
	  { .what = RHC_BRK_IN_SLOW, .gen = 4, .now_ms = NOW, .window = { .slow_total = 4, .slow = 3 } }, OPEN(5, NOW + 1000), RHC_TRIP_SLOW_RATE },

	{ "isolate from closed", CLOSED(4, 2), { P }, IN(ISOLATE, 0), ISOLATED(5, 0), RHC_TRIP_MANUAL },
	{ "isolate with an end", OPEN(4, 1), { P },
	  { .what = RHC_BRK_IN_ISOLATE, .now_ms = NOW, .until_ms = NOW + 5 }, ISOLATED(5, NOW + 5), RHC_TRIP_MANUAL },
	{ "isolation without an end stays", ISOLATED(5, 0), { P }, IN(TICK, 0), ISOLATED(5, 0), 0 },
	{ "isolation before its end stays", ISOLATED(5, NOW + 1), { P }, IN(TICK, 0), ISOLATED(5, NOW + 1), 0 },
	{ "isolation ends closed", ISOLATED(5, NOW), { P }, IN(TICK, 0), CLOSED_NOW(6), 0 },
	{ "disabled never trips", DISABLED(5, 0), { .failure_threshold = 1 }, IN(FAIL, 5), DISABLED(5, 0), 0 },
	{ "disabled ends closed", DISABLED(5, NOW), { P }, IN(TICK, 0), CLOSED_NOW(6), 0 },
	{ "enable ends disabled", DISABLED(5, 0), { P }, IN(ENABLE, 0), CLOSED_NOW(6), 0 },
	{ "enable ends isolated", ISOLATED(5, 0), { P }, IN(ENABLE, 0), CLOSED_NOW(6), 0 },
	{ "enable leaves open alone", OPEN(5, NOW), { P }, IN(ENABLE, 0), OPEN(5, NOW), 0 },
	{ "close from closed begins a new generation", CLOSED(5, 2), { P }, IN(CLOSE, 0), CLOSED_NOW(6), 0 },
	{ "close from open", OPEN(5, NOW), { P }, IN(CLOSE, 0), CLOSED_NOW(6), 0 },
	{ "open by hand recovers as usual", CLOSED(5, 0), { P }, IN(OPEN, 0), OPEN(6, NOW + 1000), RHC_TRIP_MANUAL },
	{ "generations wrap", OPEN(0xfffff, NOW), { P }, IN(TICK, 0), HALF(0, 0, NOW), 0 },
};
/* clang-format on */

static void assert_same(const char *says, struct rhc_breaker a, struct rhc_breaker b)
{
	cr_expect_eq(a.state, b.state, "%s: state %s", says, rhc_breaker_name(a.state));
	cr_expect_eq(a.gen, b.gen, "%s: generation %u", says, a.gen);
	cr_expect_eq(a.failures, b.failures, "%s: failures %u", says, a.failures);
	cr_expect_eq(a.closed_at, b.closed_at, "%s: closed at %u", says, a.closed_at);
	cr_expect_eq(a.retry_at_ms, b.retry_at_ms, "%s: retry at %llu", says,
	             (unsigned long long)a.retry_at_ms);
	cr_expect_eq(a.successes, b.successes, "%s: successes %u", says, a.successes);
	cr_expect_eq(a.entered_ms, b.entered_ms, "%s: entered %llu", says, (unsigned long long)a.entered_ms);
	cr_expect_eq(a.until_ms, b.until_ms, "%s: until %llu", says, (unsigned long long)a.until_ms);
}

Test(breaker_next, does_what_each_row_says)
{
	for (size_t i = 0; i < RHC_COUNT(rows); i++) {
		enum rhc_trip trip;
		struct rhc_breaker to =
			rhc_breaker_next(rows[i].from, &rows[i].policy, &rows[i].in, &trip);

		assert_same(rows[i].says, to, rows[i].to);
		cr_expect_eq(trip, rows[i].trip, "%s: trip %s", rows[i].says, rhc_trip_name(trip));
	}
}

Test(breaker_next, each_value_survives_the_word)
{
	for (size_t i = 0; i < RHC_COUNT(rows); i++) {
		struct rhc_breaker b = rows[i].to;
		bool bad = true;

		b.entered_ms &= ~UINT64_C(63); /* the word keeps 64 ms */
		assert_same(rows[i].says, rhc_breaker_unpack(rhc_breaker_pack(&b), &bad), b);
		cr_expect(!bad);
	}
}

Test(breaker_next, the_largest_values_fit_the_word)
{
	static const struct rhc_breaker values[] = {
		{ .state = RHC_BRK_CLOSED,
		  .gen = 0xfffff,
		  .failures = 1023,
		  .closed_at = 0x7fffffff },
		{ .state = RHC_BRK_OPEN, .gen = 0xfffff, .retry_at_ms = (UINT64_C(1) << 41) - 1 },
		{ .state = RHC_BRK_HALF_OPEN,
		  .gen = 0xfffff,
		  .successes = 255,
		  .entered_ms = UINT64_C(1) << 38 },
		{ .state = RHC_BRK_DISABLED, .gen = 0xfffff, .until_ms = (UINT64_C(1) << 41) - 1 },
	};

	for (size_t i = 0; i < RHC_COUNT(values); i++)
		assert_same("largest", rhc_breaker_unpack(rhc_breaker_pack(&values[i]), NULL), values[i]);
}

Test(breaker_next, an_empty_word_is_closed_and_an_impossible_state_is_told)
{
	bool bad;

	cr_assert_eq(rhc_breaker_unpack(0, &bad).state, RHC_BRK_CLOSED);
	cr_assert(!bad);
	for (uint64_t state = RHC_BRK_STATES; state < 8; state++) {
		cr_assert_eq(rhc_breaker_unpack(state << 61, &bad).state, RHC_BRK_CLOSED);
		cr_assert(bad);
	}
}

Test(breaker_next, the_open_time_never_overflows)
{
	struct rhc_policy policy = { .recovery_ms = UINT32_MAX, .recovery_max_ms = UINT32_MAX,
		.growth_milli = RHC_GROWTH_MAX, .jitter_permille = 1000 };

	cr_assert_eq(rhc_breaker_open_ms(&policy, UINT32_MAX, UINT32_MAX),
		     2 * (uint64_t)UINT32_MAX);
}
