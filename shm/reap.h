/*
 * shm/reap.h - the steps of a reap, for those who hold the index's byte.
 *
 * Used by  shm/worker.c (register, unregister, rhc_reap) and shm/admin.c (reap --force) alone.
 */
#ifndef RHC_SHM_REAP_H
#define RHC_SHM_REAP_H

#include "shm/worker.h"

/* Steps 1 to 3 and 6: slots, permits, hints, tickets; every waiter is to be woken.  Idempotent. */
void rhc_reap_words(struct rhc_segment *seg, uint32_t index, struct rhc_reaped *ret,
		    uint64_t *wake);

/* All steps, record FREE at the end.  type: RHC_EV_worker_reaped or RHC_EV_worker_stop. */
void rhc_reap_held(struct rhc_segment *seg, uint32_t index, enum rhc_event_type type,
		   uint64_t now_ms, struct rhc_reaped *ret, uint64_t *wake);

#endif
