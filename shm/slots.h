/*
 * shm/slots.h - words of the bulkhead that belong to no worker: for shm/bulkhead.c and shm/slots.c
 * alone.
 */
#ifndef RHC_SHM_SLOTS_H
#define RHC_SHM_SLOTS_H

#include "shm/bulkhead.h"

#define RHC_ADMIT_ROUNDS 16 /* of the epoch check: each lost round is a change of the limit */

struct rhc_ctl {
	uint64_t word;
	uint32_t limit, hw, epoch;
};

/* Never beyond the array, whatever the word says. */
static inline struct rhc_ctl rhc_ctl_load(const struct rhc_up *up, uint32_t cap)
{
	uint64_t word = rhc_load(&up->ctl);

	return (struct rhc_ctl){
		.word = word,
		.limit = (uint32_t)rhc_min_u64(RHC_CTL_LIMIT(word), cap),
		.hw = (uint32_t)rhc_min_u64(RHC_CTL_HW(word), cap),
		.epoch = RHC_CTL_EPOCH(word),
	};
}

/* Held slots among the indices [from, to). */
uint32_t rhc_slots_held(const _Atomic uint64_t *slots, uint32_t cap, uint32_t from, uint32_t to);
uint32_t rhc_slots_waiting(const struct rhc_segment *seg, const struct rhc_up *up);

/* If nobody holds an index in [limit, hw) any more, the draining is over: one CAS. */
bool rhc_slots_lower_hw(const struct rhc_segment *seg, uint32_t upstream, const struct rhc_ctl *c);

#endif
