#include "shm/window.h"

#include <string.h>

#define EPOCH_MASK  ((UINT64_C(1) << 24) - 1)
#define COUNT_MAX   ((UINT64_C(1) << 20) - 1)
#define CLOSED_UNIT 128
#define CLOSED_MASK ((UINT64_C(1) << 31) - 1)

static uint64_t bucket_ms(const struct rhc_policy *policy)
{
	return rhc_max_u64(policy->window_ms / RHC_WIN_BUCKETS, 1);
}

static void add(_Atomic uint64_t *ring, uint64_t epoch, bool bad, bool last)
{
	_Atomic uint64_t *bucket = &ring[epoch % RHC_WIN_BUCKETS];
	uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed), total = 0, failed = 0;

	if (rhc_bits(word, 40, 24) == (epoch & EPOCH_MASK)) {
		total = rhc_bits(word, 20, 20);
		failed = rhc_bits(word, 0, 20);
	}
	if (total == COUNT_MAX) { /* a million results in one bucket: keep the ratio */
		total /= 2;
		failed /= 2;
	}
	word = rhc_field(epoch, 40, 24) | rhc_field(total + 1, 20, 20) |
	       rhc_field(failed + bad, 0, 20);
	/*
	 * One word, one writer: relaxed is enough for a good result.  A bad one is followed by a sum
	 * over all workers; with seq_cst, of two bad ones at once at least one sees both, as in a Dekker
	 * pair.
	 */
	if (last)
		atomic_store_explicit(bucket, word, memory_order_seq_cst);
	else
		atomic_store_explicit(bucket, word, memory_order_relaxed);
}

void rhc_window_add(struct rhc_win *own, const struct rhc_policy *policy, enum rhc_outcome outcome,
                    uint64_t now_ms)
{
	uint64_t epoch;
	bool bad = outcome == RHC_OUTCOME_FAIL, slow = outcome == RHC_OUTCOME_SLOW;

	if (policy->window_ms == 0)
		return;
	epoch = now_ms / bucket_ms(policy);
	if (policy->failure_permille)
		add(own->rate, epoch, bad, bad);
	if (policy->slow_permille)
		add(own->slow, epoch, slow, slow);
}

void rhc_window_aim(struct rhc_bucket *ret, const struct rhc_up *up, struct rhc_win *own,
		    uint64_t now_ms)
{
	struct rhc_bucket k = { .policy = { rhc_load(&up->policy[2]), rhc_load(&up->policy[3]) } };
	struct rhc_policy policy;
	uint64_t epoch;

	rhc_policy_load(up, &policy);
	if (policy.window_ms) {
		k.len_ms = bucket_ms(&policy);
		epoch = now_ms / k.len_ms;
		k.from_ms = epoch * k.len_ms;
		k.epoch = epoch & EPOCH_MASK;
		k.rate = policy.failure_permille ? &own->rate[epoch % RHC_WIN_BUCKETS] : NULL;
		k.slow = policy.slow_permille ? &own->slow[epoch % RHC_WIN_BUCKETS] : NULL;
	}
	*ret = k;
}

/*
 * When it closed, from 31 bits of 128 ms: the instant nearest below now + 2 units that has these
 * bits.  Exact but for one window length in 8.7 years of uptime.
 */
static uint64_t closed_ms(const struct rhc_breaker *b, uint64_t now_ms)
{
	uint64_t ahead = now_ms / CLOSED_UNIT + 2, age;

	if (b->state != RHC_BRK_CLOSED || b->closed_at == 0)
		return 0;
	age = (ahead - b->closed_at) & CLOSED_MASK;
	return age > ahead ? 0 : (ahead - age) * CLOSED_UNIT;
}

static void sum(const _Atomic uint64_t *ring, uint64_t epoch, uint64_t oldest, uint64_t *total,
                uint64_t *bad)
{
	for (unsigned i = 0; i < RHC_WIN_BUCKETS; i++) {
		uint64_t word = atomic_load_explicit(&ring[i], memory_order_seq_cst);
		uint64_t age = (epoch - rhc_bits(word, 40, 24)) & EPOCH_MASK;

		/* word 0 has no results, whatever its epoch */
		if (age >= RHC_WIN_BUCKETS || age > epoch || epoch - age < oldest)
			continue;
		*total += rhc_bits(word, 20, 20);
		*bad += rhc_bits(word, 0, 20);
	}
}

void rhc_window_sum(const struct rhc_win *rows, uint32_t workers, const struct rhc_policy *policy,
                    const struct rhc_breaker *b, uint64_t now_ms, struct rhc_window *ret)
{
	uint64_t ms = bucket_ms(policy), oldest = (closed_ms(b, now_ms) + ms - 1) / ms;

	memset(ret, 0, sizeof(*ret));
	if (policy->window_ms == 0)
		return;
	for (uint32_t w = 0; w < workers; w++) {
		if (policy->failure_permille)
			sum(rows[w].rate, now_ms / ms, oldest, &ret->total, &ret->fail);
		if (policy->slow_permille)
			sum(rows[w].slow, now_ms / ms, oldest, &ret->slow_total, &ret->slow);
	}
}
