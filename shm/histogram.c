#include "shm/histogram.h"

#include <assert.h>
#include <string.h>

/* Edges in tenths of the first one, each as EDGE(tenths, k).  The last bucket has none. */
/* clang-format off */
#define DECADE(EDGE, x, k) \
	EDGE(10 * (x), k) EDGE(12 * (x), k) EDGE(15 * (x), k) EDGE(20 * (x), k) EDGE(25 * (x), k) \
	EDGE(30 * (x), k) EDGE(40 * (x), k) EDGE(50 * (x), k) EDGE(60 * (x), k) EDGE(80 * (x), k)
#define EDGES(EDGE, k) \
	DECADE(EDGE, 1, k) DECADE(EDGE, 10, k) DECADE(EDGE, 100, k) DECADE(EDGE, 1000, k) \
	DECADE(EDGE, 10000, k) DECADE(EDGE, 100000, k) \
	EDGE(10000000, k) EDGE(12000000, k) EDGE(15000000, k)
/* clang-format on */

#define OCTAVES 24 /* all edges are below 2^24 */
#define DENSITY 4  /* an octave has no more of them: each is at least 1.2 times the one before */

#define EDGE(tenths, k) tenths,
/* Beyond the last there are DENSITY that nothing exceeds, so that no look needs a bound. */
static const uint64_t edges[RHC_HIST_BUCKETS - 1 + DENSITY] = {
	EDGES(EDGE, 0) UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX
};

#define BELOW(tenths, k) +((tenths) < 1 << (k))
#define AT(k) EDGES(BELOW, k)
static const uint8_t edges_below[OCTAVES + 1] = { /* how many edges are below 2^k */
	AT(0),  AT(1),  AT(2),  AT(3),  AT(4),  AT(5),  AT(6),  AT(7),  AT(8),
	AT(9),  AT(10), AT(11), AT(12), AT(13), AT(14), AT(15), AT(16), AT(17),
	AT(18), AT(19), AT(20), AT(21), AT(22), AT(23), AT(24),
};

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

/*
 * The first edge that is not below: those of lower octaves are, those of higher ones are not, and of
 * its own octave four looks that do not wait for each other; no branch to guess wrong.
 */
static unsigned bucket_of(uint64_t tenths)
{
	unsigned octave = 63 - (unsigned)__builtin_clzll(tenths | 1);
	unsigned from = edges_below[octave < OCTAVES ? octave : OCTAVES], at = from;

	for (unsigned i = 0; i < DENSITY; i++)
		at += edges[from + i] < tenths;
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
