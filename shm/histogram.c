#include "shm/histogram.h"

#include <assert.h>
#include <string.h>

/* Edges in tenths of the first one.  The last bucket has none. */
#define DECADE(x) 10 * (x), 12 * (x), 15 * (x), 20 * (x), 25 * (x), 30 * (x), 40 * (x), 50 * (x), 60 * (x), 80 * (x)
/* clang-format off */
static const uint32_t edges[RHC_HIST_BUCKETS - 1] = {
	DECADE(1), DECADE(10), DECADE(100), DECADE(1000), DECADE(10000), DECADE(100000),
	10000000, 12000000, 15000000,
};
/* clang-format on */

static const uint32_t first_of[] = {
#define HIST(name, metric, base, help) base,
#include "shm/histograms.def"
#undef HIST
};

uint32_t rhc_hist_first(enum rhc_hist_id id)
{
	assert(id < RHC_HIST_COUNT);
	return first_of[id];
}

uint64_t rhc_hist_edge(uint32_t first_ns, unsigned i)
{
	return i < RHC_HIST_BUCKETS - 1 ? (uint64_t)edges[i] * first_ns / 10 : UINT64_MAX;
}

/* The first edge that is not below: six halvings of 64, no branch to guess wrong. */
static unsigned bucket_of(uint64_t tenths)
{
	unsigned at = 0;

	for (unsigned step = 32; step; step /= 2) {
		if (at + step - 1 < RHC_HIST_BUCKETS - 1 && edges[at + step - 1] < tenths)
			at += step;
	}
	return at;
}

void rhc_hist_record(struct rhc_hist *h, enum rhc_hist_id id, uint64_t ns)
{
	uint32_t unit = rhc_hist_first(id) / 10;
	/* Rounded up: a value just above an edge belongs to the next bucket. */
	unsigned i = bucket_of(ns / unit + (ns % unit != 0));

	rhc_ctr_inc(h->bucket, i);
	rhc_ctr_add(&h->sum_ns, 0, ns);
}

void rhc_hist_read(const struct rhc_hist *h, struct rhc_hist_sum *ret)
{
	ret->count = 0;
	for (unsigned i = 0; i < RHC_HIST_BUCKETS; i++) {
		ret->bucket[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
		ret->count += ret->bucket[i];
	}
	ret->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
}

void rhc_hist_add(struct rhc_hist_sum *to, const struct rhc_hist_sum *from)
{
	for (unsigned i = 0; i < RHC_HIST_BUCKETS; i++)
		to->bucket[i] += from->bucket[i];
	to->count += from->count;
	to->sum_ns += from->sum_ns;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

void rhc_hist_sub(struct rhc_hist_sum *from, const struct rhc_hist_sum *base)
{
	from->count = 0;
	for (unsigned i = 0; i < RHC_HIST_BUCKETS; i++) {
		from->bucket[i] = less(from->bucket[i], base->bucket[i]);
		from->count += from->bucket[i];
	}
	from->sum_ns = less(from->sum_ns, base->sum_ns);
}

uint64_t rhc_hist_le(const struct rhc_hist_sum *h, uint32_t first_ns, uint64_t le_ns)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < RHC_HIST_BUCKETS && rhc_hist_edge(first_ns, i) <= le_ns; i++)
		n += h->bucket[i];
	return n;
}

uint64_t rhc_hist_quantile(const struct rhc_hist_sum *h, uint32_t first_ns, unsigned permille)
{
	uint64_t below = 0, rank;

	if (h->count == 0)
		return 0;
	/* In two parts: count * permille may not fit for a corrupt count. */
	rank = h->count / 1000 * permille + (h->count % 1000 * permille + 999) / 1000;
	rank = rhc_min_u64(rhc_max_u64(rank, 1), h->count);
	for (unsigned i = 0; i < RHC_HIST_BUCKETS; i++) {
		uint64_t low = i ? rhc_hist_edge(first_ns, i - 1) : 0;

		if (below + h->bucket[i] >= rank && i + 1 < RHC_HIST_BUCKETS) {
			double part = (double)(rank - below) / (double)h->bucket[i];

			return low + (uint64_t)(part * (double)(rhc_hist_edge(first_ns, i) - low));
		}
		if (below + h->bucket[i] >= rank)
			return low; /* beyond the last edge: at least that */
		below += h->bucket[i];
	}
	return rhc_hist_edge(first_ns, RHC_HIST_BUCKETS - 2);
}
