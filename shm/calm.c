#include "shm/calm.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>

#define ROUNDS 16 /* each lost round is somebody else's step */

bool rhc_calm_join(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool rhc_calm_fence(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void rhc_calm_begin(struct rhc_up *up, uint64_t *seen)
{
	uint64_t word = rhc_load(&up->order), before = *seen, ctl = rhc_load(&up->ctl);

	*seen = word;
	if (RHC_ORDER_MODE(word) == RHC_ORDER_LEAVING)
		rhc_calm_end(up); /* who was at it died */
	/* Not while somebody waits, nor while it drains: others look then. */
	if (word != before || RHC_ORDER_MODE(word) != RHC_ORDER_STRICT ||
	    rhc_load(&up->waitmask) || rhc_bits(ctl, 0, 20) != rhc_bits(ctl, 20, 20))
		return;
	RHC_FI("order.calm");
	atomic_compare_exchange_strong(&up->order, &word,
				       (RHC_ORDER_EPOCH(word) + 1) << 2 | RHC_ORDER_CALM);
}

/* One step: where a word that is neither STRICT nor PINNED goes. */
static uint64_t calmed(uint64_t word)
{
	uint64_t epoch = word & ~RHC_ORDER_MODES;

	if (RHC_ORDER_MODE(word) == RHC_ORDER_CALM)
		return epoch | RHC_ORDER_LEAVING;
	/*
	 * After LEAVING was seen: who read CALM before stores before our fence, who reads later sees
	 * that it is over.
	 */
	return epoch | (rhc_calm_fence() ? RHC_ORDER_STRICT : RHC_ORDER_PINNED);
}

void rhc_calm_end(struct rhc_up *up)
{
	uint64_t word = rhc_load(&up->order);

	for (unsigned round = 0; round < ROUNDS && RHC_ORDER_MODE(word) != RHC_ORDER_STRICT &&
				 RHC_ORDER_MODE(word) != RHC_ORDER_PINNED;
	     round++) {
		uint64_t old = word;

		RHC_FI("order.end");
		atomic_compare_exchange_strong(&up->order, &old, calmed(word));
		word = rhc_load(&up->order);
	}
}

void rhc_calm_pin(struct rhc_up *up)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t word;

		rhc_calm_end(up);
		word = rhc_load(&up->order);
		if (RHC_ORDER_MODE(word) == RHC_ORDER_PINNED ||
		    (RHC_ORDER_MODE(word) == RHC_ORDER_STRICT &&
		     atomic_compare_exchange_strong(&up->order, &word, word | RHC_ORDER_PINNED)))
			return;
	}
}
