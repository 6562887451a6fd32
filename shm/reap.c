/*
 * Taking back what a dead worker held.  The caller holds the OFD lock on the worker's byte, so the
 * worker cannot execute another store, nobody else reaps it, and no new worker of that index
 * exists.
 *
 * A reaper may die between any two stores: its lock goes, the record still says LIVE, the next one
 * does every step again.  Each step is a CAS of an exact word or sets a word to what it must be.
 */
#include "shm/reap.h"

#include "shm/breaker.h"
#include "shm/bulkhead.h"
#include "shm/calm.h"
#include "shm/host.h"

static uint32_t free_slots(const struct rhc_segment *seg, uint32_t u, uint32_t index)
{
	_Atomic uint64_t *slots = rhc_seg_slots(seg, u);
	uint32_t freed = 0;

	for (uint32_t at = 0; at < seg->hdr.slots_cap; at++) {
		/*
		 * seq_cst as every word of the protocol; the CAS decides: rhcctl may free it too.
		 */
		uint64_t word = atomic_load_explicit(&slots[at], memory_order_seq_cst);

		if (RHC_SLOT_OWNER(word) != index + 1)
			continue;
		RHC_FI("reap.slot");
		freed += atomic_compare_exchange_strong(&slots[at], &word, 0);
	}
	return freed;
}

static uint32_t free_permits(struct rhc_up *up, uint32_t index)
{
	uint32_t freed = 0;

	for (uint32_t k = 0; k < RHC_PROBES_MAX; k++) {
		uint64_t word = atomic_load_explicit(&up->permit[k], memory_order_seq_cst);

		if (RHC_PERMIT_OWNER(word) != index + 1)
			continue;
		RHC_FI("reap.permit");
		/* Fails if somebody took it over by its lease just now: then it is theirs. */
		freed += atomic_compare_exchange_strong(&up->permit[k], &word, 0);
	}
	return freed;
}

static uint32_t free_tickets(struct rhc_up *up, uint32_t index)
{
	uint64_t head = atomic_load_explicit(&up->head[index], memory_order_seq_cst);

	RHC_FI("reap.waitmask");
	if (atomic_load_explicit(&up->waitmask, memory_order_seq_cst) & UINT64_C(1) << index)
		atomic_fetch_and(&up->waitmask, ~(UINT64_C(1) << index));
	RHC_FI("reap.head");
	if (head)
		atomic_store(&up->head[index], 0);
	return RHC_HEAD_WAITERS(head);
}

void rhc_reap_words(struct rhc_segment *seg, uint32_t index, struct rhc_reaped *ret, uint64_t *wake)
{
	/*
	 * It may have died between clearing a hint and looking again, while another, in a calm, gave
	 * that slot back: now its store is seen by us, or the cleared hint by it.
	 */
	rhc_calm_fence();
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		struct rhc_up *up = rhc_seg_up(seg, u);
		uint32_t freed;

		if (atomic_load_explicit(&up->id, memory_order_seq_cst) == 0)
			continue; /* never used */
		freed = free_slots(seg, u, index);
		if (freed)
			rhc_ctr_add(rhc_seg_ctr(seg, index, u), RHC_CTR_slot_reaped, freed);
		ret->slots += freed;
		ret->probes += free_permits(up, index);
		/*
		 * All free slots: it may have died between clearing a foreign slot's hint and
		 * looking again.
		 */
		rhc_bulkhead_fix_hints(seg, u);
		ret->waiting += free_tickets(up, index);
		/* It may have died between freeing a slot and waking anybody. */
		*wake |= rhc_bulkhead_waiters(seg, u);
	}
}

/* What was open when it died is closed now: gauges are opened - closed.  Pairs are neighbours. */
static void close_pair(_Atomic uint64_t *row, unsigned opened)
{
	uint64_t v = atomic_load_explicit(&row[opened], memory_order_relaxed);

	if (atomic_load_explicit(&row[opened + 1], memory_order_relaxed) != v)
		rhc_ctr_set(row, opened + 1, v);
}

static void close_gauges(struct rhc_segment *seg, uint32_t index)
{
	_Atomic uint64_t *wctr = rhc_seg_wctr(seg, index);

	for (unsigned i = 0; i < RHC_WCTR_COUNT; i++) {
		if (rhc_wctr_kind(i) == RHC_KIND_OPENED)
			close_pair(wctr, i);
		else if (rhc_wctr_kind(i) == RHC_KIND_GAUGE)
			rhc_ctr_set(wctr, i, 0);
	}
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		if (atomic_load_explicit(&rhc_seg_up(seg, u)->id, memory_order_seq_cst) == 0)
			continue;
		/* A host nobody pins may be on its way to another, which begins with rows of zeros. */
		if (rhc_seg_is_host(seg, u) && !rhc_host_pin_dead(seg, u, index))
			continue;
		for (unsigned i = 0; i < RHC_CTR_NAMED; i++) {
			if (rhc_uctr_kind(i) == RHC_KIND_OPENED)
				close_pair(rhc_seg_ctr(seg, index, u), i);
			else if (rhc_uctr_kind(i) == RHC_KIND_GAUGE)
				rhc_ctr_set(rhc_seg_ctr(seg, index, u), i, 0);
		}
	}
}

void rhc_reap_held(struct rhc_segment *seg, uint32_t index, enum rhc_event_type type,
		   uint64_t now_ms, struct rhc_reaped *ret, uint64_t *wake)
{
	struct rhc_worker_rec *rec = rhc_seg_worker(seg, index);
	uint64_t word = atomic_load_explicit(&rec->word, memory_order_seq_cst);
	uint64_t pid = atomic_load_explicit(&rec->pid, memory_order_relaxed);
	struct rhc_ring_writer ring;

	ret->record = true;
	rhc_reap_words(seg, index, ret, wake);
	close_gauges(seg, index);
	rhc_host_reap(seg, index); /* after all that was done in the dead one's name */
	/* We hold its byte, so we are the one writer of its ring. */
	rhc_ring_writer_init(&ring, seg, index, (uint32_t)(word >> 32));
	rhc_event_put(&ring, type, RHC_NO_UPSTREAM, now_ms,
	              type == RHC_EV_worker_stop
	                      ? (uint64_t[5]){ pid }
	                      : (uint64_t[5]){ ret->slots, ret->probes, ret->waiting, pid });
	atomic_store_explicit(&rec->phase, RHC_PHASE_STOPPING, memory_order_relaxed);
	RHC_FI("reap.record");
	atomic_store(&rec->word, (word & ~UINT64_C(0xffffffff)) | RHC_WORKER_FREE);
}
