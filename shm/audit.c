/* The recount: what the words say against what must be. */
#include "shm/host.h"
#include "shm/view.h"

struct audit {
	const struct rhc_segment *seg;
	enum rhc_alive alive[RHC_WORKERS_MAX];
	uint32_t inc[RHC_WORKERS_MAX];
	uint64_t now_ms;
	struct rhc_finding *out;
	uint32_t n, room, upstream;
};

static const char *const names[RHC_FIND_COUNT] = {
	[RHC_FIND_SLOT_DEAD] = "slot_of_dead_worker",
	[RHC_FIND_SLOT_OWNER] = "slot_of_impossible_owner",
	[RHC_FIND_SLOT_INC] = "slot_of_earlier_incarnation",
	[RHC_FIND_PERMIT_DEAD] = "probe_of_dead_worker",
	[RHC_FIND_PERMIT_OWNER] = "probe_of_impossible_owner",
	[RHC_FIND_PERMIT_LEASE] = "probe_beyond_its_lease",
	[RHC_FIND_WAITER_DEAD] = "ticket_of_dead_worker",
	[RHC_FIND_WAITMASK] = "waitmask_differs",
	[RHC_FIND_HINT] = "free_slot_without_hint",
	[RHC_FIND_LIMIT] = "limit_differs",
	[RHC_FIND_OVER] = "more_held_than_limit",
	[RHC_FIND_BREAKER] = "impossible_breaker_state",
	[RHC_FIND_WORKER_DEAD] = "dead_worker_not_cleaned_up",
	[RHC_FIND_HOST_CLAIM] = "host_claim_of_dead_worker",
	[RHC_FIND_HOST_PIN] = "host_use_of_dead_worker",
	[RHC_FIND_HOST_TWICE] = "two_records_of_one_host",
};

const char *rhc_finding_name(enum rhc_finding_what what)
{
	return (unsigned)what < RHC_FIND_COUNT ? names[what] : "unknown";
}

static uint64_t get(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

static void find(struct audit *a, enum rhc_finding_what what, uint32_t index, uint32_t worker,
                 uint64_t word)
{
	if (a->n < a->room)
		a->out[a->n] = (struct rhc_finding){ what, a->upstream, index, worker, word };
	a->n++;
}

/* Returns whether the slot is held. */
static bool audit_slot(struct audit *a, uint32_t i, uint64_t word, bool hint,
		       const _Atomic uint64_t *slot)
{
	uint32_t owner = RHC_SLOT_OWNER(word) - 1;

	if (word == 0) {
		/* Look twice: a finder may be between clearing the hint and putting it back. */
		if (!hint && get(slot) == 0)
			find(a, RHC_FIND_HINT, i, RHC_WORKERS_MAX, 0);
		return false;
	}
	if (owner >= a->seg->hdr.max_workers)
		find(a, RHC_FIND_SLOT_OWNER, i, owner, word);
	else if (a->alive[owner] != RHC_ALIVE_YES)
		find(a, RHC_FIND_SLOT_DEAD, i, owner, word);
	else if (RHC_SLOT_INC(word) != (a->inc[owner] & 0xffff))
		find(a, RHC_FIND_SLOT_INC, i, owner, word);
	return true;
}

static void audit_bulkhead(struct audit *a, const struct rhc_up *up)
{
	const _Atomic uint64_t *slots = rhc_seg_slots(a->seg, a->upstream);
	const _Atomic uint64_t *hints = rhc_seg_hints(a->seg, a->upstream);
	uint64_t ctl = get(&up->ctl), policy_limit = rhc_bits(get(&up->policy[4]), 0, 20);
	struct rhc_limit_override ovr = rhc_limit_override_of(get(&up->limit_ovr));
	uint32_t cap = a->seg->hdr.slots_cap, held = 0;

	for (uint32_t i = 0; i < cap; i++) {
		const _Atomic uint64_t *slot = &slots[rhc_slot_at(cap, i)];
		uint64_t word = get(slot);

		held += audit_slot(a, i, word, get(&hints[i / 64]) >> i % 64 & 1, slot);
	}
	if (ovr.active && (ovr.until_ms == 0 || a->now_ms < ovr.until_ms))
		policy_limit = ovr.limit;
	if (RHC_CTL_LIMIT(ctl) != policy_limit || RHC_CTL_HW(ctl) < RHC_CTL_LIMIT(ctl) ||
	    RHC_CTL_HW(ctl) > cap)
		find(a, RHC_FIND_LIMIT, 0, RHC_WORKERS_MAX, ctl);
	else if (held > RHC_CTL_LIMIT(ctl) && RHC_CTL_HW(ctl) == RHC_CTL_LIMIT(ctl))
		find(a, RHC_FIND_OVER, held, RHC_WORKERS_MAX, ctl);
}

static void audit_breaker(struct audit *a, const struct rhc_up *up)
{
	uint64_t brk = get(&up->brk);
	bool bad;

	rhc_breaker_unpack(brk, &bad);
	if (bad)
		find(a, RHC_FIND_BREAKER, 0, RHC_WORKERS_MAX, brk);
	for (uint32_t k = 0; k < RHC_PROBES_MAX; k++) {
		uint64_t word = get(&up->permit[k]);
		uint32_t owner = RHC_PERMIT_OWNER(word) - 1;

		if (word == 0)
			continue;
		if (owner >= a->seg->hdr.max_workers)
			find(a, RHC_FIND_PERMIT_OWNER, k, owner, word);
		else if (a->alive[owner] != RHC_ALIVE_YES)
			find(a, RHC_FIND_PERMIT_DEAD, k, owner, word);
		else if (rhc_permit_left_ms(word, a->now_ms) <= 0)
			find(a, RHC_FIND_PERMIT_LEASE, k, owner, word);
	}
}

static void audit_waiters(struct audit *a, const struct rhc_up *up)
{
	uint64_t mask = get(&up->waitmask);

	for (uint32_t w = 0; w < RHC_WORKERS_MAX; w++) {
		uint64_t head = get(&up->head[w]);
		bool bit = mask >> w & 1;

		if (!bit && head == 0)
			continue;
		if (w >= a->seg->hdr.max_workers || a->alive[w] != RHC_ALIVE_YES)
			find(a, RHC_FIND_WAITER_DEAD, w, w, head);
		else if (bit != (head != 0))
			find(a, RHC_FIND_WAITMASK, w, w, head);
	}
}

static bool same_host(const struct rhc_host *a, const struct rhc_host *b)
{
	bool same = get(&a->hash) == get(&b->hash);

	for (unsigned i = 0; i < RHC_COUNT(a->text) && same; i++)
		same = get(&a->text[i]) == get(&b->text[i]);
	return same;
}

static void audit_host(struct audit *a, const struct rhc_up *up)
{
	const struct rhc_host *h = rhc_seg_host(a->seg, a->upstream);
	uint64_t id = get(&up->id);
	uint32_t owner = RHC_ID_OWNER(id) - 1;

	if (RHC_ID_OWNER(id) &&
	    (owner >= a->seg->hdr.max_workers || a->alive[owner] != RHC_ALIVE_YES))
		find(a, RHC_FIND_HOST_CLAIM, 0, owner, id);
	for (uint32_t w = 0; w < a->seg->hdr.max_workers; w++) {
		uint64_t pin = get(&h->pin[rhc_pin_at(w)]);

		if (RHC_PIN_USED(pin) && a->alive[w] != RHC_ALIVE_YES)
			find(a, RHC_FIND_HOST_PIN, w, w, pin);
	}
	for (uint32_t u = a->upstream + 1; u < a->seg->hdr.max_upstreams; u++) {
		if (rhc_upstream_state(a->seg, a->upstream) == RHC_UP_USED &&
		    rhc_upstream_state(a->seg, u) == RHC_UP_USED &&
		    same_host(h, rhc_seg_host(a->seg, u)))
			find(a, RHC_FIND_HOST_TWICE, u, RHC_WORKERS_MAX, id);
	}
}

uint32_t rhc_view_audit(const struct rhc_segment *seg, int lock_fd, uint64_t now_ms,
                        struct rhc_finding *ret, uint32_t room)
{
	struct audit a = { .seg = seg, .now_ms = now_ms, .out = ret, .room = room,
		.upstream = RHC_NO_UPSTREAM };

	for (uint32_t w = 0; w < seg->hdr.max_workers; w++) {
		uint64_t word = get(&rhc_seg_worker(seg, w)->word);

		a.alive[w] = rhc_worker_alive(seg, lock_fd, w);
		a.inc[w] = (uint32_t)(word >> 32);
		if (a.alive[w] == RHC_ALIVE_DEAD)
			find(&a, RHC_FIND_WORKER_DEAD, w, w, word);
	}
	for (a.upstream = 0; a.upstream < seg->hdr.max_upstreams; a.upstream++) {
		const struct rhc_up *up = rhc_seg_up(seg, a.upstream);

		if (rhc_seg_is_host(seg, a.upstream))
			audit_host(&a, up);
		if (rhc_upstream_state(seg, a.upstream) != RHC_UP_USED)
			continue;
		audit_bulkhead(&a, up);
		audit_breaker(&a, up);
		audit_waiters(&a, up);
	}
	return a.n;
}
