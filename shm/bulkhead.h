/*
 * shm/bulkhead.h - max_concurrency of one upstream, exact over all workers, first come first
 * served.
 *
 * Shape    slot word `count:16 | taken_at:22 (64 ms) | inc:16 | owner+1:10`, 0 = free.  One CAS
 *          takes the slot and names its owner; in use is counted, never stored, so it cannot drift.
 *          hint bit: "maybe free"; lazy: taking leaves it, a failed look clears it, giving back
 *          sets it. ctl `limit:20 | hw:20 | epoch:24`: indices < limit may be claimed; hw > limit
 *          = draining. head[worker] `waiters:16 | oldest ticket:48`, waitmask bit per worker with
 *          waiters.
 * Waiting  pull: a waiter publishes its worker's oldest ticket; whoever frees a slot wakes the
 *          worker with the smallest; only that one takes.  No call here blocks.
 * Wake     functions OR into *wake the workers whose eventfd the caller must write, bit = index. 
 *          The caller's own bit means: rhc_bulkhead_poll() again before sleeping.  While it has
 *          waiters a worker also polls on a 5 ms tick: that covers rhcctl, other generations and
 *          the dead.
 * Rules    look again after publishing; the reaper wakes everybody; who got a slot, who gives up
 *          and who puts a hint back passes the baton (any hint set: wake the smallest); a claim
 *          given back is a release.  Each has a counterexample without it.
 * Fair     local FIFO + global ticket; a published waiter is overtaken at most once per other
 *          worker.  A worker without a beat for RHC_STALL_MS is passed over, ownership never
 *          follows time.
 * Order    all words seq_cst: publish / look at slots against free / look at tickets; clear hint /
 *          re-read slot against free / read hint; claim / re-read ctl against change ctl / read
 *          slots.
 * Healthy  one locked operation takes; giving back is a plain store while all is calm
 *          (shm/calm.h), else a second one.  Nothing else shared is written.
 * Never    allocates, blocks, logs, reads a clock.
 */
#ifndef RHC_SHM_BULKHEAD_H
#define RHC_SHM_BULKHEAD_H

#include <assert.h>

#include "shm/calm.h"
#include "shm/counters.h"

#define RHC_STALL_MS 200 /* a worker without a beat for that long is passed over */
#define RHC_TICK_MS  5   /* poll at least so often while somebody waits here */
#define RHC_LIFO     64  /* slots remembered as freed last */

#define RHC_SLOT_OWNER(word) ((uint32_t)rhc_bits((word), 0, 10)) /* index + 1 */
#define RHC_SLOT_INC(word)   ((uint32_t)rhc_bits((word), 10, 16))
#define RHC_SLOT_HOLDER      ((UINT64_C(1) << 26) - 1) /* both */
/* How long it has been held; 64 ms steps, modulo 3.1 days. */
uint64_t rhc_slot_age_ms(uint64_t word, uint64_t now_ms);

#define RHC_CTL_LIMIT(ctl) ((uint32_t)rhc_bits((ctl), 0, 20))
#define RHC_CTL_HW(ctl)    ((uint32_t)rhc_bits((ctl), 20, 20))
#define RHC_CTL_EPOCH(ctl) ((uint32_t)rhc_bits((ctl), 40, 24))

#define RHC_HEAD_TICKET(head)  rhc_bits((head), 0, 48)
#define RHC_HEAD_WAITERS(head) ((uint32_t)rhc_bits((head), 48, 16))

/* A held slot.  word 0 = none. */
struct rhc_slot {
	uint64_t word;
	uint32_t index;
	uint32_t at; /* rhc_slot_at(cap, index) */
};

/*
 * One waiting attempt: the caller's memory, embedded in its object; untouched by the caller while
 * waiting.
 */
struct rhc_waiter {
	struct rhc_waiter *prev, *next;
	uint64_t ticket; /* 0 = not waiting */
	uint64_t since_ms;
};

/* One worker's private view of one upstream's slots.  The healthy path reads its first line. */
struct rhc_bulkhead {
	struct rhc_up *up;
	_Atomic uint64_t *slots, *hints, *ctr;
	struct rhc_worker *w;
	uint64_t owner;          /* inc:16 | index + 1:10, as in a slot word */
	uint64_t plain;          /* RHC_ORDER_MODES, or 0: this process may not use plain stores */
	uint32_t cap;
	uint32_t lifo_len;       /* stack of the slots freed last; full: the newest replaces the top */
	uint32_t lifo[RHC_LIFO]; /* at:16 | index:16 */
	uint32_t upstream;
	uint32_t home; /* share of the index range where this worker looks first, / 2^32 */
	struct rhc_waiter *first, *last; /* local FIFO */
	uint32_t waiters;
	uint64_t seen;    /* order at the last rhc_bulkhead_calm() */
	uint64_t told_ms; /* when the last "saturated" or "queue_full" event was written */
};

void rhc_bulkhead_init(struct rhc_bulkhead *b, struct rhc_worker *w, uint32_t upstream);

enum rhc_take {
	RHC_TAKE_GOT,        /* *ret_slot is yours */
	RHC_TAKE_FULL,       /* nothing free, or others wait, or draining: rhc_bulkhead_wait() or refuse */
	RHC_TAKE_WAITING,    /* queued; poll will hand it out */
	RHC_TAKE_QUEUE_FULL, /* max_waiting reached: refuse */
};

/* At once or not at all; never overtakes a published waiter. */
rhc_inline enum rhc_take rhc_bulkhead_try(struct rhc_bulkhead *b, uint64_t now_ms,
					  struct rhc_slot *ret_slot, uint64_t *wake);

/*
 * Queue up after FULL.  GOT (a slot came free meanwhile and nobody was before us), WAITING, or
 * QUEUE_FULL. max_waiting is exact upwards: never more wait; two that arrive at once may both be
 * refused at the last place.  While draining this is the only way to a slot: an attempt that may
 * not wait calls wait and, if WAITING, cancel.
 */
enum rhc_take rhc_bulkhead_wait(struct rhc_bulkhead *b, struct rhc_waiter *waiter, uint64_t now_ms,
                                struct rhc_slot *ret_slot, uint64_t *wake);

/*
 * On a wake-up and on the tick: the first local waiter, if it is its turn and there is a slot;
 * else NULL. Call until NULL.  The waiter returned is out of the queue.
 */
struct rhc_waiter *rhc_bulkhead_poll(struct rhc_bulkhead *b, uint64_t now_ms,
				     struct rhc_slot *ret_slot, uint64_t *wake);

/* Stop waiting (timeout, caller gone).  Not waiting is fine. */
void rhc_bulkhead_cancel(struct rhc_bulkhead *b, struct rhc_waiter *waiter, uint64_t now_ms,
                         uint64_t *wake);

/* Give back; slot->word becomes 0, 0 is fine.  A slot rhcctl freed meanwhile is no error. */
rhc_inline void rhc_bulkhead_release(struct rhc_bulkhead *b, struct rhc_slot *slot,
				     uint64_t now_ms, uint64_t *wake);

/*
 * Bring ctl in line with override and configuration, end an expired override, lower hw, set the
 * hint of a free slot that lost it (an rhcctl killed within `free` is reaped by nobody).  Anyone,
 * any time: from the 1 s tick of workers and the supervisor, after a declare, after an override.
 */
void rhc_bulkhead_reconcile(const struct rhc_segment *seg, uint32_t upstream, uint64_t now_ms,
                            struct rhc_ring_writer *events, uint64_t *wake);

/* From a worker's 1 s tick: its upstream becomes calm if it has been quiet, shm/calm.h. */
void rhc_bulkhead_calm(struct rhc_bulkhead *b);

/* Override of the limit, rhc_up.limit_ovr.  until_ms 0 = no end. */
struct rhc_limit_override {
	bool active;
	uint32_t limit;
	uint64_t until_ms;
};
struct rhc_limit_override rhc_limit_override_of(uint64_t word);
uint64_t rhc_limit_override_word(const struct rhc_limit_override *ovr);

/* Counted from the words. */
uint32_t rhc_bulkhead_in_use(const struct rhc_segment *seg, uint32_t upstream);
uint32_t rhc_bulkhead_waiting(const struct rhc_segment *seg, uint32_t upstream);

/*
 * For the reaper and rhcctl.  smallest: the worker (a bit, 0 = none) that waits longest; `self`
 * (an index, or RHC_WORKERS_MAX) is never passed over.
 */
uint64_t rhc_bulkhead_smallest(const struct rhc_segment *seg, uint32_t upstream, uint32_t self,
                               uint64_t now_ms);
/* After a slot word went to 0 by another hand than its holder's: hint and wake. */
void rhc_bulkhead_freed(const struct rhc_segment *seg, uint32_t upstream, uint32_t index,
			uint32_t self, uint64_t now_ms, uint64_t *wake);
uint64_t rhc_bulkhead_waiters(const struct rhc_segment *seg, uint32_t upstream); /* mask of workers */
/* Hint on for every free slot; returns how many were off. */
uint32_t rhc_bulkhead_fix_hints(const struct rhc_segment *seg, uint32_t upstream);

/*
 * ---- the healthy path, in the caller's registers; everything else is in shm/bulkhead.c ----
 *
 * A locked operation waits for every load and store around it, so what counts here is their number:
 * addresses are read once, structs go field by field.
 */
enum rhc_take rhc_bulkhead_try_slow(struct rhc_bulkhead *b, uint64_t now_ms,
				    struct rhc_slot *ret_slot, uint64_t *wake);
/* Claimed, and ctl has changed since: may it stay?  False: it was given back. */
bool rhc_bulkhead_keep(struct rhc_bulkhead *b, uint32_t index, uint64_t word, uint64_t now_ms,
		       uint64_t *wake);
/* Freed: hint, wake, remember. */
void rhc_bulkhead_freed_slow(struct rhc_bulkhead *b, uint32_t index, uint32_t at, uint64_t now_ms,
			     uint64_t *wake);

/* count:16 (bit 48) | taken_at, 64 ms:22 (bit 26) | inc:16 (bit 10) | owner+1:10 */
static inline uint64_t rhc_slot_word(struct rhc_bulkhead *b, uint64_t now_ms)
{
	return (uint64_t)++b->w->count << 48 | rhc_field(now_ms / 64, 26, 22) | b->owner;
}

/*
 * The slot this worker freed last is free, and ctl is the same before and after the claim and does
 * not drain: that is all that admission asks.  Its line is in our cache and in nobody else's.
 */
rhc_inline enum rhc_take rhc_bulkhead_try(struct rhc_bulkhead *b, uint64_t now_ms,
					  struct rhc_slot *ret_slot, uint64_t *wake)
{
	struct rhc_up *up = b->up;
	uint64_t waiting = rhc_load(&up->waitmask), ctl = rhc_load(&up->ctl), word, free = 0;
	uint32_t len = b->lifo_len, last, index;
	_Atomic uint64_t *ctr = b->ctr;

	if (rhc_unlikely(waiting || len == 0 || RHC_CTL_LIMIT(ctl) != RHC_CTL_HW(ctl)))
		return rhc_bulkhead_try_slow(b, now_ms, ret_slot, wake);
	last = b->lifo[len - 1];
	index = last & 0xffff;
	word = rhc_slot_word(b, now_ms);
	RHC_FI("slot.claim");
	if (rhc_unlikely(index >= RHC_CTL_LIMIT(ctl) ||
			 !atomic_compare_exchange_strong(&b->slots[last >> 16], &free, word)))
		return rhc_bulkhead_try_slow(b, now_ms, ret_slot, wake);
	b->lifo_len = len - 1;
	RHC_FI("slot.claimed");
	if (rhc_unlikely(rhc_load(&up->ctl) != ctl &&
			 !rhc_bulkhead_keep(b, index, word, now_ms, wake)))
		return rhc_bulkhead_try_slow(b, now_ms, ret_slot, wake);
	ret_slot->word = word;
	ret_slot->index = index;
	ret_slot->at = last >> 16;
	rhc_ctr_inc(ctr, RHC_CTR_slot_acquired);
	return RHC_TAKE_GOT;
}

static inline void rhc_slot_remember(struct rhc_bulkhead *b, uint32_t index, uint32_t at)
{
	uint32_t top = b->lifo_len < RHC_LIFO ? b->lifo_len : RHC_LIFO - 1;

	b->lifo[top] = at << 16 | index;
	b->lifo_len = top + 1;
}

rhc_inline void rhc_bulkhead_release(struct rhc_bulkhead *b, struct rhc_slot *slot,
				     uint64_t now_ms, uint64_t *wake)
{
	struct rhc_up *up = b->up;
	_Atomic uint64_t *hint = &b->hints[slot->index / 64], *ctr = b->ctr;
	uint64_t word = slot->word, order = rhc_load(&up->order);
	uint32_t index = slot->index, at = slot->at;

	slot->word = 0;
	if (rhc_unlikely(word == 0))
		return;
	/* cap is a power of two: neither is beyond it. */
	assert((word & RHC_SLOT_HOLDER) == b->owner && (index | at) < b->cap);
	rhc_ctr_inc(ctr, RHC_CTR_slot_released);
	RHC_FI("slot.release");
	if (rhc_likely((order & b->plain) == RHC_ORDER_CALM)) {
		/* In a calm nobody else frees it; release: what it stood for is over. */
		atomic_store_explicit(&b->slots[at], 0, memory_order_release);
		atomic_signal_fence(memory_order_seq_cst);
		RHC_FI("slot.freed_calm");
		/* A locked operation is a fence; the slot is free, so its hint may be on. */
		if (rhc_unlikely(rhc_load(&up->order) != order))
			atomic_fetch_or(hint, UINT64_C(1) << index % 64);
	} else if (rhc_unlikely(!atomic_compare_exchange_strong(&b->slots[at], &word, 0))) {
		return; /* rhcctl freed it: it is somebody else's by now, or free */
	}
	RHC_FI("slot.freed");
	/* Lazy: mostly the hint is still on and nobody waits, and nothing shared is stored. */
	if (rhc_unlikely((rhc_load(hint) >> index % 64 & 1) == 0 || rhc_load(&up->waitmask) ||
			 index >= RHC_CTL_LIMIT(rhc_load(&up->ctl))))
		rhc_bulkhead_freed_slow(b, index, at, now_ms, wake);
	else
		rhc_slot_remember(b, index, at);
}

#endif
