/*
 * sidecar/run/segment.h - the supervisor's side of the segment: find or make it, declare what the
 * configuration has.
 *
 * Path    shm.path; where that was not written and /run/rhc is no tmpfs or cannot be had,
 *         /dev/shm/rhc-<instance>.shm.
 * Errors  are log lines with file and reason; the int is an exit code.
 */
#ifndef RHC_SIDECAR_RUN_SEGMENT_H
#define RHC_SIDECAR_RUN_SEGMENT_H

#include "shm/segment.h"
#include "sidecar/run/options.h"

int segment_open(struct rhc_segment *seg, const struct options *o, const struct config *config,
		 uint32_t workers);

/*
 * The size of the segment where the configuration says auto: room for growing twofold by reloads,
 * in powers of two, so that the state survives a restart with a few more.
 */
uint32_t segment_upstreams(uint32_t configured);
uint32_t segment_workers(uint32_t workers);

/*
 * The configuration in force is this one: its upstreams are declared, those it no longer has are
 * retired (their records are used again once they are quiet).  *wake gets the workers to wake.
 */
int segment_declare(struct rhc_segment *seg, const struct config *config, uint64_t *wake);

/*
 * The file was deleted or replaced while we run: say so, once.  Workers keep their mapping and
 * their limits.
 */
void segment_lost(const struct rhc_segment *seg);

#endif
