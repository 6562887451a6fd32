/*
 * shm/histogram.h - durations in 64 log-linear buckets.
 *
 * Shape    63 edges from a first one of the histogram's own (100 us for requests), ten per decade
 *          1 1.2 1.5 2 2.5 3 4 5 6 8, then +Inf.  A value belongs to the first edge that is not
 *          below it, as in Prometheus; 5 ms, 10 ms, 25 ms ... 120 s are edges, so `le` counts are
 *          exact.
 * Writers  one per histogram; relaxed load and store.
 * Never    merge by averaging quantiles: add buckets (rhc_hist_add), then ask.
 */
#ifndef RHC_SHM_HISTOGRAM_H
#define RHC_SHM_HISTOGRAM_H

#include "shm/counters.h"

void rhc_hist_record(struct rhc_hist *h, enum rhc_hist_id id, uint64_t ns);

/* Upper edge of bucket i in ns, UINT64_MAX for the last; first = rhc_desc.base. */
uint64_t rhc_hist_edge(uint32_t first_ns, unsigned i);
uint32_t rhc_hist_first(enum rhc_hist_id id);

/* In private memory. */
struct rhc_hist_sum {
	uint64_t bucket[RHC_HIST_BUCKETS];
	uint64_t count; /* of the buckets */
	uint64_t sum_ns;
};

void rhc_hist_read(const struct rhc_hist *h, struct rhc_hist_sum *ret);
void rhc_hist_add(struct rhc_hist_sum *to, const struct rhc_hist_sum *from);
/* Saturating, for the baseline and for the difference of two looks. */
void rhc_hist_sub(struct rhc_hist_sum *from, const struct rhc_hist_sum *base);
/* Calls with a duration <= le_ns; exact if le_ns is an edge. */
uint64_t rhc_hist_le(const struct rhc_hist_sum *h, uint32_t first_ns, uint64_t le_ns);
/* Quantile in permille, linear within its bucket; 0 for no calls. */
uint64_t rhc_hist_quantile(const struct rhc_hist_sum *h, uint32_t first_ns, unsigned permille);

#endif
