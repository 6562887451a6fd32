/*
 * The breaker's policy, pure: no atomics, no clock, no segment.  The rim is shm/breaker.c.
 */
#include <assert.h>

#include "shm/breaker.h"

enum { REOPENS_MAX = 7 }; /* what the outage word counts to */

#define GEN_MASK    ((UINT32_C(1) << 20) - 1)
#define CLOSED_UNIT 128 /* ms */
#define CLOSED_MASK ((UINT32_C(1) << 31) - 1)
#define ARG_MASK    ((UINT64_C(1) << 41) - 1)

/*
 * state:3 | gen:20 | arg:41, arg by state
 *   CLOSED              failures:10 (bit 31) | closed_at:31 (bit 0)
 *   OPEN                retry_at_ms:41
 *   HALF_OPEN           successes:8 (bit 33) | entered, 64 ms:33
 *   ISOLATED, DISABLED  until_ms:41
 */
uint64_t rhc_breaker_pack(const struct rhc_breaker *b)
{
	uint64_t arg = 0;

	assert(b->state < RHC_BRK_STATES);
	switch (b->state) {
	case RHC_BRK_CLOSED:
		arg = rhc_field(b->failures, 31, 10) | rhc_field(b->closed_at, 0, 31);
		break;
	case RHC_BRK_OPEN:
		arg = b->retry_at_ms & ARG_MASK;
		break;
	case RHC_BRK_HALF_OPEN:
		arg = rhc_field(b->successes, 33, 8) | rhc_field(b->entered_ms / 64, 0, 33);
		break;
	default:
		arg = b->until_ms & ARG_MASK;
		break;
	}
	return rhc_field((uint64_t)b->state, 61, 3) | rhc_field(b->gen, 41, 20) | arg;
}

struct rhc_breaker rhc_breaker_unpack(uint64_t word, bool *ret_bad)
{
	uint64_t arg = word & ARG_MASK, state = rhc_bits(word, 61, 3);
	struct rhc_breaker b = { .gen = (uint32_t)rhc_bits(word, 41, 20) };

	if (ret_bad)
		*ret_bad = state >= RHC_BRK_STATES;
	b.state = state < RHC_BRK_STATES ? (enum rhc_breaker_state)state : RHC_BRK_CLOSED;
	switch (b.state) {
	case RHC_BRK_CLOSED:
		b.failures = (uint32_t)rhc_bits(arg, 31, 10);
		b.closed_at = (uint32_t)rhc_bits(arg, 0, 31);
		break;
	case RHC_BRK_OPEN:
		b.retry_at_ms = arg;
		break;
	case RHC_BRK_HALF_OPEN:
		b.successes = (uint32_t)rhc_bits(arg, 33, 8);
		b.entered_ms = rhc_bits(arg, 0, 33) * 64;
		break;
	default:
		b.until_ms = arg;
		break;
	}
	return b;
}

uint64_t rhc_breaker_open_ms(const struct rhc_policy *policy, uint32_t reopens, uint32_t random)
{
	uint64_t max = rhc_max_u64(policy->recovery_max_ms, policy->recovery_ms);
	uint64_t ms = policy->recovery_ms;

	for (uint32_t i = 0; i < reopens && i < REOPENS_MAX && ms < max; i++)
		ms = rhc_min_u64(ms * rhc_max_u64(policy->growth_milli, 1000) / 1000, max);
	/* Upwards only: recovery_timeout is a promise. */
	return ms + (ms * policy->jitter_permille / 1000) * (random & 0xffff) / 0xffff;
}

/* Every change of state begins with its other fields at 0 and the next generation. */
static struct rhc_breaker enter(struct rhc_breaker b, enum rhc_breaker_state state)
{
	return (struct rhc_breaker){ .state = state, .gen = (b.gen + 1) & GEN_MASK };
}

static struct rhc_breaker close_it(struct rhc_breaker b, uint64_t now_ms)
{
	b = enter(b, RHC_BRK_CLOSED);
	/* Rounded up: a window bucket that began before this instant is ignored. */
	b.closed_at = (uint32_t)(now_ms / CLOSED_UNIT + 1) & CLOSED_MASK;
	return b;
}

static struct rhc_breaker open_it(struct rhc_breaker b, const struct rhc_policy *policy,
                                  const struct rhc_breaker_in *in, uint32_t reopens)
{
	b = enter(b, RHC_BRK_OPEN);
	b.retry_at_ms = in->now_ms + rhc_breaker_open_ms(policy, reopens, in->random);
	return b;
}

static bool rate_reached(uint64_t bad, uint64_t total, uint32_t min_calls, uint32_t permille)
{
	return permille && total && total >= min_calls && bad * 1000 >= total * permille;
}

static enum rhc_trip trips(const struct rhc_breaker *b, const struct rhc_policy *policy,
                           const struct rhc_breaker_in *in)
{
	const struct rhc_window *w = &in->window;

	if (in->what == RHC_BRK_IN_FAIL && policy->failure_threshold &&
	    b->failures >= policy->failure_threshold)
		return RHC_TRIP_CONSECUTIVE;
	if (policy->window_ms == 0)
		return RHC_TRIP_NONE;
	if (in->what == RHC_BRK_IN_FAIL &&
	    rate_reached(w->fail, w->total, policy->min_calls, policy->failure_permille))
		return RHC_TRIP_FAILURE_RATE;
	if (in->what == RHC_BRK_IN_SLOW &&
	    rate_reached(w->slow, w->slow_total, policy->min_calls, policy->slow_permille))
		return RHC_TRIP_SLOW_RATE;
	return RHC_TRIP_NONE;
}

static struct rhc_breaker closed_outcome(struct rhc_breaker b, const struct rhc_policy *policy,
                                         const struct rhc_breaker_in *in, enum rhc_trip *ret_trip)
{
	if (in->what == RHC_BRK_IN_FAIL)
		b.failures += b.failures < RHC_FAILURES_MAX;
	else
		b.failures = 0; /* a slow success is a success for the run of failures */
	*ret_trip = trips(&b, policy, in);
	return *ret_trip ? open_it(b, policy, in, 0) : b;
}

static struct rhc_breaker probe_outcome(struct rhc_breaker b, const struct rhc_policy *policy,
                                        const struct rhc_breaker_in *in, enum rhc_trip *ret_trip)
{
	bool slow = in->what == RHC_BRK_IN_SLOW && policy->slow_permille;

	if (in->what == RHC_BRK_IN_FAIL || slow) {
		*ret_trip = RHC_TRIP_PROBE;
		return open_it(b, policy, in, in->reopens + 1);
	}
	b.successes++;
	return b.successes >= policy->success_threshold ? close_it(b, in->now_ms) : b;
}

static struct rhc_breaker outcome(struct rhc_breaker b, const struct rhc_policy *policy,
                                  const struct rhc_breaker_in *in, enum rhc_trip *ret_trip)
{
	if (in->gen != b.gen || policy->disabled)
		return b; /* of another life of the breaker, or no breaker at all */
	switch (b.state) {
	case RHC_BRK_CLOSED:
		return closed_outcome(b, policy, in, ret_trip);
	case RHC_BRK_HALF_OPEN:
		return probe_outcome(b, policy, in, ret_trip);
	default:
		return b; /* OPEN and ISOLATED admit nobody, DISABLED never trips */
	}
}

static struct rhc_breaker tick(struct rhc_breaker b, uint64_t now_ms)
{
	switch (b.state) {
	case RHC_BRK_OPEN:
		if (now_ms < b.retry_at_ms)
			return b;
		b = enter(b, RHC_BRK_HALF_OPEN);
		b.entered_ms = now_ms;
		return b;
	case RHC_BRK_ISOLATED:
	case RHC_BRK_DISABLED:
		return b.until_ms && now_ms >= b.until_ms ? close_it(b, now_ms) : b;
	default:
		return b;
	}
}

static struct rhc_breaker force(struct rhc_breaker b, enum rhc_breaker_state state,
				uint64_t until_ms)
{
	b = enter(b, state);
	b.until_ms = until_ms;
	return b;
}

struct rhc_breaker rhc_breaker_next(struct rhc_breaker b, const struct rhc_policy *policy,
                                    const struct rhc_breaker_in *in, enum rhc_trip *ret_trip)
{
	*ret_trip = RHC_TRIP_NONE;
	switch (in->what) {
	case RHC_BRK_IN_TICK:
		return tick(b, in->now_ms);
	case RHC_BRK_IN_OK:
	case RHC_BRK_IN_FAIL:
	case RHC_BRK_IN_SLOW:
		return outcome(b, policy, in, ret_trip);
	case RHC_BRK_IN_OPEN:
		*ret_trip = RHC_TRIP_MANUAL;
		return open_it(b, policy, in, in->reopens);
	case RHC_BRK_IN_CLOSE:
		return close_it(b, in->now_ms);
	case RHC_BRK_IN_ISOLATE:
		*ret_trip = RHC_TRIP_MANUAL;
		return force(b, RHC_BRK_ISOLATED, in->until_ms);
	case RHC_BRK_IN_DISABLE:
		return force(b, RHC_BRK_DISABLED, in->until_ms);
	case RHC_BRK_IN_ENABLE:
		return b.state == RHC_BRK_ISOLATED || b.state == RHC_BRK_DISABLED
		               ? close_it(b, in->now_ms)
		               : b;
	}
	return b;
}

static const char *const state_names[] = { "closed", "open", "half_open", "isolated", "disabled" };
static const char *const trip_names[] = { "none",  "consecutive_failures", "failure_rate", "slow_rate",
	                                  "probe", "manual" };

const char *rhc_breaker_name(enum rhc_breaker_state state)
{
	return (unsigned)state < RHC_BRK_STATES ? state_names[state] : "unknown";
}

const char *rhc_trip_name(enum rhc_trip trip)
{
	return (unsigned)trip < RHC_TRIP_COUNT ? trip_names[trip] : "unknown";
}
