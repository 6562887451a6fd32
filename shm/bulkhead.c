/*
 * A worker's side: claim, wait, release.  The proof in prose is in shm/README.md, the orders are
 * argued in shm/bulkhead.h; every atomic here without an explicit order is seq_cst.
 */
#include "shm/bulkhead.h"

#include <assert.h>
#include <string.h>

#include "shm/slots.h"

#define TOLD_MS 1000 /* events about saturation: one per second and worker */
#define CALM_LOOKS  16 /* at held slots whose hint is on, in one search, before the calm is ended */

/* ---- who waits longest, the baton ---- */

static uint64_t smallest(const struct rhc_bulkhead *b, uint64_t now_ms)
{
	return rhc_bulkhead_smallest(b->w->seg, b->upstream, b->w->index, now_ms);
}

static uint64_t me(const struct rhc_bulkhead *b)
{
	return UINT64_C(1) << b->w->index;
}

/* Bits of hint word `word` that stand for indices below limit. */
static uint64_t in_limit(uint32_t word, uint32_t limit)
{
	uint32_t first = word * 64;

	return limit >= first + 64 ? UINT64_MAX
	       : limit <= first    ? 0
				   : (UINT64_C(1) << (limit - first)) - 1;
}

static void pass_baton(struct rhc_bulkhead *b, uint64_t now_ms, uint64_t *wake)
{
	struct rhc_ctl c = rhc_ctl_load(b->up, b->cap);

	if (rhc_load(&b->up->waitmask) == 0)
		return;
	for (uint32_t word = 0; word * 64 < c.limit; word++) {
		if (rhc_load(&b->hints[word]) & in_limit(word, c.limit)) {
			*wake |= smallest(b, now_ms);
			return;
		}
	}
}

/* ---- claiming a slot ---- */

struct search {
	uint64_t word; /* to store */
	uint32_t limit, found;
	unsigned held; /* hinted slots that were not free */
	bool back;     /* a hint was put back: pass the baton */
};

static bool claim(struct rhc_bulkhead *b, uint32_t i, uint64_t word)
{
	_Atomic uint64_t *slot = &b->slots[rhc_slot_at(b->cap, i)];
	uint64_t free = 0;

	/* Relaxed look first, to spare a full slot the locked operation; the CAS decides. */
	if (atomic_load_explicit(slot, memory_order_relaxed) != 0)
		return false;
	RHC_FI("slot.claim");
	return atomic_compare_exchange_strong(slot, &free, word);
}

/* The slots this worker freed last: their lines are in its cache and in nobody else's. */
static bool claim_own(struct rhc_bulkhead *b, struct search *s)
{
	while (b->lifo_len) {
		uint32_t i = b->lifo[--b->lifo_len] & 0xffff;

		if (i < s->limit && claim(b, i, s->word)) {
			s->found = i;
			return true;
		}
	}
	return false;
}

/* It looked free and is not: clear its hint, look again, put it back if it is free by now. */
static bool put_back(struct rhc_bulkhead *b, uint32_t i)
{
	_Atomic uint64_t *hint = &b->hints[i / 64];
	uint64_t bit = UINT64_C(1) << i % 64;

	RHC_FI("hint.clear");
	atomic_fetch_and(hint, ~bit);
	RHC_FI("hint.cleared");
	rhc_calm_end(b->up); /* who gives it back from now on sees that the hint is off */
	if (rhc_load(&b->slots[rhc_slot_at(b->cap, i)]) != 0)
		return false;
	RHC_FI("hint.back");
	atomic_fetch_or(hint, bit);
	return true;
}

/* A few wrong hints cost less than the end of a calm does; and what is left on is not lost. */
static bool leave_hint(const struct rhc_bulkhead *b, struct search *s)
{
	return s->held++ < CALM_LOOKS &&
	       RHC_ORDER_MODE(rhc_load(&b->up->order)) == RHC_ORDER_CALM;
}

/* Try every hinted index among `bits` of a hint word. */
static bool claim_in(struct rhc_bulkhead *b, uint32_t word_index, uint64_t bits, struct search *s)
{
	for (; bits; bits &= bits - 1) {
		uint32_t i = word_index * 64 + (uint32_t)__builtin_ctzll(bits);

		if (claim(b, i, s->word)) {
			s->found = i;
			return true;
		}
		if (!leave_hint(b, s))
			s->back |= put_back(b, i);
	}
	return false;
}

/* Hint words [from, to).  Mostly they are 0 when we come here: the loop is tight for that. */
static bool claim_range(struct rhc_bulkhead *b, uint32_t from, uint32_t to, struct search *s)
{
	const _Atomic uint64_t *hints = b->hints;

	for (uint32_t at = from; at < to; at++) {
		uint64_t bits = rhc_load(&hints[at]);

		if (rhc_unlikely(bits) && claim_in(b, at, bits & in_limit(at, s->limit), s))
			return true;
	}
	return false;
}

/* From the worker's home on, once around: workers that start apart seldom meet. */
static bool claim_hinted(struct rhc_bulkhead *b, struct search *s)
{
	uint32_t home = (uint32_t)((uint64_t)b->home * s->limit >> 32), at = home / 64;
	uint64_t bits = rhc_load(&b->hints[at]) & in_limit(at, s->limit),
		 from_home = UINT64_MAX << home % 64;

	return claim_in(b, at, bits & from_home, s) ||
	       claim_range(b, at + 1, (s->limit + 63) / 64, s) || claim_range(b, 0, at, s) ||
	       claim_in(b, at, bits & ~from_home, s);
}

/* ---- admission: never above the limit of that instant ---- */

/*
 * Index i is claimed.  May it stay?  Under one ctl: below the limit, and, while draining, not one
 * too many.
 */
static bool admitted(struct rhc_bulkhead *b, uint32_t i)
{
	for (unsigned round = 0; round < RHC_ADMIT_ROUNDS; round++) {
		struct rhc_ctl c = rhc_ctl_load(b->up, b->cap);

		if (i >= c.limit)
			return false;
		if (c.hw <= c.limit)
			return true; /* all holders are below the limit, so they are not more */
		/* After the claim: of two claimers at least one counts the other. */
		if (rhc_slots_held(b->slots, b->cap, 0, c.hw) > c.limit)
			return false;
		RHC_FI("slot.counted");
		if (rhc_load(&b->up->ctl) == c.word)
			return true;
	}
	return false;
}

/* A claim given back is a release: somebody may have been refused because of it. */
static void give_back(struct rhc_bulkhead *b, uint32_t i, uint64_t word, uint64_t now_ms,
		      uint64_t *wake)
{
	uint64_t old = word, others = 0;

	RHC_FI("slot.undo");
	if (!atomic_compare_exchange_strong(&b->slots[rhc_slot_at(b->cap, i)], &old, 0))
		return;
	rhc_bulkhead_freed(b->w->seg, b->upstream, i, b->w->index, now_ms, &others);
	/*
	 * Not ourselves: we have just looked, and looking again at once would spin while it
	 * drains.
	 */
	*wake |= others & ~me(b);
}

/* Claim and be admitted.  `turn`: it is our turn in the queue, so while draining we may claim. */
static bool take(struct rhc_bulkhead *b, bool turn, uint64_t now_ms, struct rhc_slot *ret,
		 uint64_t *wake)
{
	struct rhc_ctl c = rhc_ctl_load(b->up, b->cap);
	struct search s = { .limit = c.limit };
	bool got;

	/* Draining: only who waits longest may claim, or claimers refuse each other for ever. */
	if (c.limit == 0 || (c.hw > c.limit && !turn))
		return false;
	s.word = rhc_slot_word(b, now_ms);
	got = claim_own(b, &s) || claim_hinted(b, &s);
	if (got) {
		RHC_FI("slot.claimed");
		got = admitted(b, s.found);
		if (!got)
			give_back(b, s.found, s.word, now_ms, wake);
	}
	if (s.back)
		pass_baton(b, now_ms, wake);
	if (got)
		*ret = (struct rhc_slot){ s.word, s.found, rhc_slot_at(b->cap, s.found) };
	return got;
}

/* ---- the private queue and its published head ---- */

static void publish(struct rhc_bulkhead *b)
{
	uint64_t ticket = b->first ? b->first->ticket : 0;

	if (b->first)
		atomic_store_explicit(&b->up->since_ms[b->w->index], b->first->since_ms,
		                      memory_order_relaxed); /* for display */
	RHC_FI("head.store");
	/*
	 * seq_cst: published before we look at the slots; a releaser frees before it looks at us.
	 */
	atomic_store(&b->up->head[b->w->index],
		     rhc_field(rhc_min_u64(b->waiters, RHC_WAITING_MAX), 48, 16) |
			     rhc_field(ticket, 0, 48));
	if (b->first == NULL) {
		RHC_FI("waitmask.clear");
		atomic_fetch_and(&b->up->waitmask, ~me(b));
	}
}

static void enqueue(struct rhc_bulkhead *b, struct rhc_waiter *waiter, uint64_t now_ms)
{
	RHC_FI("ticket.take");
	waiter->ticket = atomic_fetch_add(&b->up->ticket, 1) + 1;
	waiter->since_ms = now_ms;
	/* Who queues up is not stalled, even if it slept until this request came. */
	atomic_store_explicit(&b->w->rec->beat_ms, now_ms, memory_order_release);
	waiter->next = NULL;
	waiter->prev = b->last;
	if (b->last)
		b->last->next = waiter;
	else
		b->first = waiter;
	b->last = waiter;
	b->waiters++;
	publish(b);
	if (b->first == waiter) {
		RHC_FI("waitmask.set");
		atomic_fetch_or(&b->up->waitmask, me(b));
	}
}

static void dequeue(struct rhc_bulkhead *b, struct rhc_waiter *waiter)
{
	assert(waiter->ticket && b->waiters > 0);
	if (waiter->prev)
		waiter->prev->next = waiter->next;
	else
		b->first = waiter->next;
	if (waiter->next)
		waiter->next->prev = waiter->prev;
	else
		b->last = waiter->prev;
	waiter->prev = waiter->next = NULL;
	waiter->ticket = 0;
	b->waiters--;
	publish(b);
}

/* ---- the interface ---- */

void rhc_bulkhead_init(struct rhc_bulkhead *b, struct rhc_worker *w, uint32_t upstream)
{
	memset(b, 0, sizeof(*b));
	b->w = w;
	b->up = rhc_seg_up(w->seg, upstream);
	b->slots = rhc_seg_slots(w->seg, upstream);
	b->hints = rhc_seg_hints(w->seg, upstream);
	b->ctr = rhc_seg_ctr(w->seg, w->index, upstream);
	b->upstream = upstream;
	b->cap = w->seg->hdr.slots_cap;
	b->plain = w->fenced ? RHC_ORDER_MODES : 0;
	b->owner = rhc_field(w->inc, 10, 16) | rhc_field(w->index + 1, 0, 10);
	/* Multiples of the golden ratio lie far apart for any number of workers and any limit. */
	b->home = w->index * UINT32_C(0x9e3779b9);
}

enum rhc_take rhc_bulkhead_try_slow(struct rhc_bulkhead *b, uint64_t now_ms,
				    struct rhc_slot *ret_slot, uint64_t *wake)
{
	if (rhc_load(&b->up->waitmask))
		return RHC_TAKE_FULL; /* somebody waits: queue behind them */
	if (!take(b, false, now_ms, ret_slot, wake))
		return RHC_TAKE_FULL;
	rhc_ctr_inc(b->ctr, RHC_CTR_slot_acquired);
	return RHC_TAKE_GOT;
}

bool rhc_bulkhead_keep(struct rhc_bulkhead *b, uint32_t index, uint64_t word, uint64_t now_ms,
		       uint64_t *wake)
{
	if (admitted(b, index))
		return true;
	give_back(b, index, word, now_ms, wake);
	return false;
}

struct rhc_waiter *rhc_bulkhead_poll(struct rhc_bulkhead *b, uint64_t now_ms,
				     struct rhc_slot *ret_slot, uint64_t *wake)
{
	struct rhc_waiter *waiter = b->first;

	if (waiter == NULL)
		return NULL;
	if (smallest(b, now_ms) != me(b)) {
		pass_baton(b, now_ms, wake); /* we may have been woken in somebody's stead */
		return NULL;
	}
	if (!take(b, true, now_ms, ret_slot, wake))
		return NULL;
	dequeue(b, waiter);
	pass_baton(b, now_ms, wake); /* two slots may have been freed with one wake-up */
	rhc_ctr_inc(b->ctr, RHC_CTR_slot_acquired);
	rhc_ctr_inc(b->ctr, RHC_CTR_slot_waited);
	return waiter;
}

static void tell(struct rhc_bulkhead *b, enum rhc_event_type type, uint64_t now_ms, uint64_t a,
		 uint64_t c)
{
	if (b->told_ms && now_ms < b->told_ms + TOLD_MS)
		return;
	b->told_ms = now_ms;
	rhc_event_put(&b->w->ring, type, b->upstream, now_ms, (uint64_t[5]){ a, c });
}

/* Published first, then counted: of two that take the last place at once at least one sees both. */
static bool queue_too_long(struct rhc_bulkhead *b, uint64_t now_ms)
{
	uint32_t max = (uint32_t)rhc_bits(rhc_load(&b->up->policy[4]), 20, 24), n;

	if (max == 0)
		return false;
	n = rhc_slots_waiting(b->w->seg, b->up);
	if (n <= max)
		return false;
	tell(b, RHC_EV_queue_full, now_ms, n - 1, max);
	return true;
}

enum rhc_take rhc_bulkhead_wait(struct rhc_bulkhead *b, struct rhc_waiter *waiter, uint64_t now_ms,
                                struct rhc_slot *ret_slot, uint64_t *wake)
{
	bool nobody = rhc_load(&b->up->waitmask) == 0;

	if (b->waiters >= RHC_WAITING_MAX) {
		rhc_ctr_inc(b->ctr, RHC_CTR_slot_queue_full);
		return RHC_TAKE_QUEUE_FULL;
	}
	enqueue(b, waiter, now_ms);
	/*
	 * Look again after publishing; who gives a slot back after that sees that we wait.  Not the
	 * first here: then the first has looked, and is awaited.
	 */
	if (b->first == waiter) {
		rhc_calm_end(b->up);
		if (rhc_bulkhead_poll(b, now_ms, ret_slot, wake))
			return RHC_TAKE_GOT;
	}
	if (queue_too_long(b, now_ms)) {
		dequeue(b, waiter);
		pass_baton(b, now_ms, wake);
		rhc_ctr_inc(b->ctr, RHC_CTR_slot_queue_full);
		return RHC_TAKE_QUEUE_FULL;
	}
	if (nobody)
		tell(b, RHC_EV_saturated, now_ms, rhc_bulkhead_in_use(b->w->seg, b->upstream),
		     RHC_CTL_LIMIT(rhc_load(&b->up->ctl)));
	return RHC_TAKE_WAITING;
}

void rhc_bulkhead_cancel(struct rhc_bulkhead *b, struct rhc_waiter *waiter, uint64_t now_ms,
                         uint64_t *wake)
{
	if (waiter->ticket == 0)
		return;
	dequeue(b, waiter);
	pass_baton(b, now_ms, wake); /* it may have used up a wake-up */
	rhc_ctr_inc(b->ctr, RHC_CTR_slot_cancelled);
}

void rhc_bulkhead_calm(struct rhc_bulkhead *b)
{
	if (b->w->fenced)
		rhc_calm_begin(b->up, &b->seen);
}

static void leave_above(struct rhc_bulkhead *b)
{
	struct rhc_ctl c;

	rhc_calm_end(b->up); /* of two that leave last at least one sees both gone */
	c = rhc_ctl_load(b->up, b->cap);
	if (c.hw > c.limit)
		rhc_slots_lower_hw(b->w->seg, b->upstream, &c);
}

void rhc_bulkhead_freed_slow(struct rhc_bulkhead *b, uint32_t index, uint32_t at, uint64_t now_ms,
			     uint64_t *wake)
{
	rhc_bulkhead_freed(b->w->seg, b->upstream, index, b->w->index, now_ms, wake);
	if (index < RHC_CTL_LIMIT(rhc_load(&b->up->ctl)))
		rhc_slot_remember(b, index, at);
	else
		leave_above(b); /* perhaps the last one above the limit */
}
