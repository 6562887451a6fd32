/*
 * What belongs to no worker: counting, who waits longest, hints, the limit.  Every atomic without
 * an explicit order is seq_cst; why is said in shm/bulkhead.h.
 */
#include "shm/slots.h"

#include "shm/calm.h"

uint64_t rhc_slot_age_ms(uint64_t word, uint64_t now_ms)
{
	uint64_t age = (now_ms / 64 - rhc_bits(word, 26, 22)) & ((1 << 22) - 1);

	/* Taken by a worker whose clock reading is a step younger than ours. */
	return age == (1 << 22) - 1 ? 0 : age * 64;
}

static uint64_t ctl_word(uint32_t limit, uint32_t hw, uint32_t epoch)
{
	return rhc_field(limit, 0, 20) | rhc_field(hw, 20, 20) | rhc_field(epoch, 40, 24);
}

/* active:1 (bit 63) | limit:20 (bit 43) | until_ms:43 */
uint64_t rhc_limit_override_word(const struct rhc_limit_override *ovr)
{
	return ovr->active ? UINT64_C(1) << 63 | rhc_field(ovr->limit, 43, 20) |
	                             rhc_field(ovr->until_ms, 0, 43)
	                   : 0;
}

struct rhc_limit_override rhc_limit_override_of(uint64_t word)
{
	if (word >> 63 == 0)
		return (struct rhc_limit_override){ 0 };
	return (struct rhc_limit_override){ true, (uint32_t)rhc_bits(word, 43, 20),
		                            rhc_bits(word, 0, 43) };
}

/* ---- counting ---- */

uint32_t rhc_slots_held(const _Atomic uint64_t *slots, uint32_t cap, uint32_t from, uint32_t to)
{
	uint32_t held = 0;

	for (uint32_t i = from; i < to; i++)
		held += rhc_load(&slots[rhc_slot_at(cap, i)]) != 0;
	return held;
}

uint32_t rhc_bulkhead_in_use(const struct rhc_segment *seg, uint32_t upstream)
{
	struct rhc_ctl c = rhc_ctl_load(rhc_seg_up(seg, upstream), seg->hdr.slots_cap);

	return rhc_slots_held(rhc_seg_slots(seg, upstream), seg->hdr.slots_cap, 0,
	                  c.hw > c.limit ? c.hw : c.limit);
}

uint64_t rhc_bulkhead_waiters(const struct rhc_segment *seg, uint32_t upstream)
{
	uint64_t mask = rhc_load(&rhc_seg_up(seg, upstream)->waitmask);

	return seg->hdr.max_workers == 64 ? mask
					  : mask & ((UINT64_C(1) << seg->hdr.max_workers) - 1);
}

uint32_t rhc_slots_waiting(const struct rhc_segment *seg, const struct rhc_up *up)
{
	uint32_t n = 0;

	for (uint32_t w = 0; w < seg->hdr.max_workers; w++)
		n += RHC_HEAD_WAITERS(rhc_load(&up->head[w]));
	return n;
}

uint32_t rhc_bulkhead_waiting(const struct rhc_segment *seg, uint32_t upstream)
{
	return rhc_slots_waiting(seg, rhc_seg_up(seg, upstream));
}

/* ---- who waits longest; hints ---- */

static bool stalled(const struct rhc_segment *seg, uint32_t w, uint64_t now_ms)
{
	uint64_t beat =
		atomic_load_explicit(&rhc_seg_worker(seg, w)->beat_ms, memory_order_acquire);

	return beat + RHC_STALL_MS < now_ms;
}

uint64_t rhc_bulkhead_smallest(const struct rhc_segment *seg, uint32_t upstream, uint32_t self,
                               uint64_t now_ms)
{
	const struct rhc_up *up = rhc_seg_up(seg, upstream);
	uint64_t best = UINT64_MAX, bit = 0, any = UINT64_MAX, any_bit = 0;

	for (uint64_t mask = rhc_bulkhead_waiters(seg, upstream); mask; mask &= mask - 1) {
		uint32_t w = (uint32_t)__builtin_ctzll(mask);
		uint64_t ticket = RHC_HEAD_TICKET(rhc_load(&up->head[w]));

		if (ticket == 0)
			continue;
		if (ticket < any) {
			any = ticket;
			any_bit = UINT64_C(1) << w;
		}
		if (ticket < best && (w == self || !stalled(seg, w, now_ms))) {
			best = ticket;
			bit = UINT64_C(1) << w;
		}
	}
	return bit ? bit : any_bit; /* all stalled: wake the oldest, it may just be late */
}

/* A slot was freed: its hint must say so, and whoever waits longest must look. */
void rhc_bulkhead_freed(const struct rhc_segment *seg, uint32_t upstream, uint32_t index,
			uint32_t self, uint64_t now_ms, uint64_t *wake)
{
	_Atomic uint64_t *hint = &rhc_seg_hints(seg, upstream)[index / 64];
	uint64_t bit = UINT64_C(1) << index % 64;

	/* Lazy: mostly the bit is still on, and nothing shared is stored. */
	RHC_FI("slot.freed");
	if ((rhc_load(hint) & bit) == 0)
		atomic_fetch_or(hint, bit);
	RHC_FI("slot.hinted");
	if (rhc_load(&rhc_seg_up(seg, upstream)->waitmask))
		*wake |= rhc_bulkhead_smallest(seg, upstream, self, now_ms);
}

uint32_t rhc_bulkhead_fix_hints(const struct rhc_segment *seg, uint32_t upstream)
{
	const _Atomic uint64_t *slots = rhc_seg_slots(seg, upstream);
	_Atomic uint64_t *hints = rhc_seg_hints(seg, upstream);
	uint32_t fixed = 0;

	for (uint32_t i = 0; i < seg->hdr.slots_cap; i++) {
		uint64_t bit = UINT64_C(1) << i % 64;

		/* Hint first: a bit that is on needs no look at the slot. */
		if ((rhc_load(&hints[i / 64]) & bit) == 0 &&
		    rhc_load(&slots[rhc_slot_at(seg->hdr.slots_cap, i)]) == 0) {
			RHC_FI("hint.fix");
			atomic_fetch_or(&hints[i / 64], bit);
			fixed++;
		}
	}
	return fixed;
}

/* ---- the limit ---- */

bool rhc_slots_lower_hw(const struct rhc_segment *seg, uint32_t upstream, const struct rhc_ctl *c)
{
	struct rhc_up *up = rhc_seg_up(seg, upstream);
	uint64_t old = c->word;

	if (rhc_slots_held(rhc_seg_slots(seg, upstream), seg->hdr.slots_cap, c->limit, c->hw))
		return false;
	RHC_FI("ctl.lower");
	return atomic_compare_exchange_strong(&up->ctl, &old,
					      ctl_word(c->limit, c->limit, c->epoch + 1));
}

/* What the limit should be; ends an override whose time is over. */
static uint32_t wanted(const struct rhc_segment *seg, uint32_t upstream, uint64_t now_ms,
                       struct rhc_ring_writer *events)
{
	struct rhc_up *up = rhc_seg_up(seg, upstream);
	uint64_t word = rhc_load(&up->limit_ovr), old = word;
	struct rhc_limit_override ovr = rhc_limit_override_of(word);
	uint64_t limit = rhc_bits(rhc_load(&up->policy[4]), 0, 20);

	if (ovr.active && ovr.until_ms && now_ms >= ovr.until_ms) {
		RHC_FI("limit.expire");
		if (atomic_compare_exchange_strong(&up->limit_ovr, &old, 0) && events)
			rhc_event_put(events, RHC_EV_override_ended, upstream, now_ms,
			              (uint64_t[5]){ word, 0 });
		ovr.active = false;
	}
	if (ovr.active)
		limit = ovr.limit;
	return (uint32_t)rhc_min_u64(rhc_max_u64(limit, 1), seg->hdr.slots_cap);
}

/* One step towards what should be; false when there is none left. */
static bool reconcile_once(const struct rhc_segment *seg, uint32_t upstream, uint64_t now_ms,
                           struct rhc_ring_writer *events, uint64_t *wake)
{
	struct rhc_up *up = rhc_seg_up(seg, upstream);
	/*
	 * ctl before override and policy: whoever changes those changes ctl afterwards, so a CAS with
	 * an outdated wish fails on the epoch.
	 */
	struct rhc_ctl c = rhc_ctl_load(up, seg->hdr.slots_cap);
	uint32_t limit = wanted(seg, upstream, now_ms, events);
	uint64_t old = c.word;

	if (RHC_CTL_LIMIT(c.word) == limit && RHC_CTL_HW(c.word) >= limit)
		return c.hw > c.limit && !rhc_slots_lower_hw(seg, upstream, &c)
			       ? false
			       : rhc_load(&up->ctl) != c.word;
	rhc_calm_end(up); /* what is given back from now on sees the new limit, or we see it free */
	RHC_FI("ctl.limit");
	if (!atomic_compare_exchange_strong(
		    &up->ctl, &old, ctl_word(limit, c.hw > limit ? c.hw : limit, c.epoch + 1)))
		return true;
	RHC_FI("ctl.changed");
	/* More room, or less to count while draining: let all look. */
	*wake |= rhc_bulkhead_waiters(seg, upstream);
	if (events)
		rhc_event_put(events, RHC_EV_limit, upstream, now_ms,
			      (uint64_t[5]){ c.limit, limit });
	return true;
}

void rhc_bulkhead_reconcile(const struct rhc_segment *seg, uint32_t upstream, uint64_t now_ms,
                            struct rhc_ring_writer *events, uint64_t *wake)
{
	for (unsigned round = 0; round < RHC_ADMIT_ROUNDS; round++) {
		if (!reconcile_once(seg, upstream, now_ms, events, wake))
			break;
	}
	if (rhc_bulkhead_fix_hints(seg, upstream))
		*wake |= rhc_bulkhead_smallest(seg, upstream, RHC_WORKERS_MAX, now_ms);
}
