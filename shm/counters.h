/*
 * shm/counters.h - one row of counters per worker and upstream, one per worker.
 *
 * Writers  one per row: the worker; for row W of the upstream rows whoever holds ADMIN, for row W
 *          of the worker rows the supervisor.  Relaxed load and store, no lock prefix.
 * Readers  sum over all rows (shm/view.h).  A row belongs to the index and is continued by the next
 *          incarnation, so sums never fall.
 * Reset    a baseline row that ADMIN writes and readers subtract; no worker's row is touched.
 * Table    shm/counters.def, errors.def, histograms.def; the segment carries a description of each.
 */
#ifndef RHC_SHM_COUNTERS_H
#define RHC_SHM_COUNTERS_H

#include "shm/segment.h"

enum rhc_error {
#define ERROR(id, help) RHC_ERR_##id,
#include "shm/errors.def"
#undef ERROR
	RHC_ERR_COUNT
};
_Static_assert(RHC_ERR_COUNT < 256, "an error is one byte in the segment");

const char *rhc_error_name(unsigned error); /* "connect_refused"; "unknown" */
const char *rhc_error_text(unsigned error);

enum rhc_uctr { /* words of an upstream row */
#define U(name, group, label, kind, help) RHC_CTR_##name,
#include "shm/counters.def"
#undef U
	RHC_CTR_NAMED,
	RHC_CTR_call_error = RHC_CTR_NAMED,                     /* + enum rhc_error: calls that failed so */
	RHC_CTR_att_error = RHC_CTR_call_error + RHC_ERR_COUNT, /* + enum rhc_error: attempts that failed so */
	RHC_CTR_COUNT = RHC_CTR_att_error + RHC_ERR_COUNT
};

enum rhc_wctr { /* words of a worker row */
#define W(name, group, label, kind, help) RHC_WCTR_##name,
#include "shm/counters.def"
#undef W
	RHC_WCTR_COUNT
};

enum rhc_hist_id {
#define HIST(name, metric, base, help) RHC_HIST_##name,
#include "shm/histograms.def"
#undef HIST
	RHC_HIST_COUNT
};

#define RHC_DESC_COUNT ((unsigned)RHC_CTR_COUNT + (unsigned)RHC_WCTR_COUNT + (unsigned)RHC_HIST_COUNT)

/* Rows beyond the workers'. */
static inline uint32_t rhc_row_admin(const struct rhc_segment *seg)
{
	return seg->hdr.max_workers;
}

static inline uint32_t rhc_row_base(const struct rhc_segment *seg)
{
	return seg->hdr.max_workers + 1;
}

static inline void rhc_ctr_add(_Atomic uint64_t *row, unsigned counter, uint64_t n)
{
	/* Relaxed: one writer; a reader wants the value, not an order. */
	uint64_t v = atomic_load_explicit(&row[counter], memory_order_relaxed);

	atomic_store_explicit(&row[counter], v + n, memory_order_relaxed);
}

static inline void rhc_ctr_inc(_Atomic uint64_t *row, unsigned counter)
{
	rhc_ctr_add(row, counter, 1);
}

static inline void rhc_ctr_set(_Atomic uint64_t *row, unsigned counter, uint64_t value)
{
	atomic_store_explicit(&row[counter], value, memory_order_relaxed);
}

/* The table as it is written into a segment: description i, i < RHC_DESC_COUNT. */
void rhc_desc_make(uint32_t i, struct rhc_desc *ret);
/* Kind of a named counter of this build. */
enum rhc_kind rhc_uctr_kind(unsigned counter); /* < RHC_CTR_COUNT */
enum rhc_kind rhc_wctr_kind(unsigned counter); /* < RHC_WCTR_COUNT */
/* Help text of this build for a description, "" if it does not know it. */
const char *rhc_desc_help(const struct rhc_desc *desc);

#endif
