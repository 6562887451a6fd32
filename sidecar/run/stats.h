/*
 * sidecar/run/stats.h - what a process says of itself once a second: CPU time, memory, lost log
 * lines.
 *
 * Cost   getrusage(2) and one read of /proc/self/statm.
 * Owns   nothing; struct stats is what was told before, so that the counters of an index go on over
 *        its incarnations.
 */
#ifndef RHC_SIDECAR_RUN_STATS_H
#define RHC_SIDECAR_RUN_STATS_H

#include "shm/counters.h"
#include "sidecar/base/buf.h"

struct stats {
	uint64_t cpu_ns, log_lines, log_dropped;
};

void stats_begin(
	struct stats
		*told); /* of this process, which may be a child that inherited the log's figures */
void stats_process(struct stats *told, _Atomic uint64_t *row);
void stats_buffers(const struct buf_pool *pool, _Atomic uint64_t *row);
/* A process that ends has none of what its gauges say. */
void stats_end(_Atomic uint64_t *row);

#endif
