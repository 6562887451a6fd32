#include "shm/view.h"

#include <errno.h>
#include <string.h>

#include "shm/note.h"
#include "shm/window.h"

static uint64_t get(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

/* Display text of somebody else's: bounded, and nothing a terminal would obey. */
static void copy_text(char *to, const char *from, size_t size)
{
	size_t i;

	for (i = 0; i + 1 < size; i++) {
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
		if (to[i] == 0)
			return;
		if ((unsigned char)to[i] < 0x20 || to[i] == 0x7f)
			to[i] = '?';
	}
	to[i] = 0;
}

void rhc_view_segment(const struct rhc_segment *seg, int lock_fd, struct rhc_view_segment *ret)
{
	const struct rhc_hdr *h = rhc_seg_hdr(seg);
	uint32_t life = atomic_load_explicit(&h->lifecycle, memory_order_acquire);

	*ret = (struct rhc_view_segment){
		.max_workers = seg->hdr.max_workers,
		.max_upstreams = seg->hdr.max_upstreams,
		.slots_cap = seg->hdr.slots_cap,
		.ring_len = seg->hdr.ring_len,
		.abi_major = seg->hdr.abi_major,
		.abi_minor = seg->hdr.abi_minor,
		.size = seg->hdr.total_size,
		.cfg_gen = get(&h->cfg_gen),
		.cfg_hash = get(&h->cfg_hash),
		.cfg_ms = get(&h->cfg_ms),
		.lifecycle = life > RHC_LIFE_STOPPED ? RHC_LIFE_STOPPED : (enum rhc_lifecycle)life,
		.drain = get(&h->drain) != 0,
		.retired = atomic_load_explicit(&h->state, memory_order_acquire) !=
			   RHC_SEG_STATE_READY,
		.sup_pid = get(&h->sup_pid),
		.sup_start_ms = get(&h->sup_start_ms),
		.sup_beat_ms = get(&h->sup_beat_ms),
		.sup_alive = lock_fd >= 0 && rhc_lock_held(lock_fd, RHC_BYTE_MASTER) == 1,
	};
	copy_text(ret->version, h->version, sizeof(ret->version));
	copy_text(ret->engine, h->engine, sizeof(ret->engine));
	copy_text(ret->preset, h->preset, sizeof(ret->preset));
	copy_text(ret->instance, h->instance, sizeof(ret->instance));
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++)
		ret->upstreams += rhc_upstream_state(seg, u) == RHC_UP_USED;
	for (uint32_t w = 0; lock_fd >= 0 && w < seg->hdr.max_workers; w++)
		ret->workers_alive += rhc_worker_alive(seg, lock_fd, w) == RHC_ALIVE_YES;
}

/* ---- breaker ---- */

/* When it entered its state; 0 = not known. */
static uint64_t state_since(const struct rhc_breaker *b, const struct rhc_policy *policy,
                            const struct rhc_outage *outage)
{
	uint64_t open_ms;

	switch (b->state) {
	case RHC_BRK_CLOSED:
		return (uint64_t)b->closed_at * 128;
	case RHC_BRK_HALF_OPEN:
		return b->entered_ms;
	case RHC_BRK_OPEN:
		if (outage->reopens == 0 && outage->since_ms)
			return outage->since_ms;
		open_ms = rhc_breaker_open_ms(policy, outage->reopens, 0);
		return b->retry_at_ms > open_ms ? b->retry_at_ms - open_ms : 0;
	default:
		return outage->since_ms;
	}
}

static void view_probes(const struct rhc_segment *seg, const struct rhc_up *up, uint64_t now_ms,
                        struct rhc_view_breaker *ret)
{
	for (uint32_t k = 0; k < RHC_PROBES_MAX; k++) {
		uint64_t word = get(&up->permit[k]);

		if (word == 0)
			continue;
		ret->probes++;
		ret->probe[k].held = true;
		ret->probe[k].worker = RHC_PERMIT_OWNER(word) - 1;
		ret->probe[k].inc = RHC_PERMIT_INC(word);
		ret->probe[k].gen = RHC_PERMIT_GEN(word);
		ret->probe[k].lease_ms = rhc_permit_left_ms(word, now_ms);
		ret->bad |= ret->probe[k].worker >= seg->hdr.max_workers;
	}
}

static void view_breaker(const struct rhc_segment *seg, uint32_t index,
			 const struct rhc_policy *policy, uint64_t now_ms,
			 struct rhc_view_breaker *ret)
{
	const struct rhc_up *up = rhc_seg_up(seg, index);
	uint64_t failure = get(&up->last_failure);
	struct rhc_outage outage;

	memset(ret, 0, sizeof(*ret));
	ret->word = get(&up->brk);
	ret->b = rhc_breaker_unpack(ret->word, &ret->bad);
	outage = rhc_outage_of(up, &ret->b);
	ret->since_ms = state_since(&ret->b, policy, &outage);
	if (ret->b.state == RHC_BRK_OPEN || ret->b.state == RHC_BRK_HALF_OPEN)
		ret->open_since_ms = outage.since_ms ? outage.since_ms : ret->since_ms;
	ret->reopens = outage.reopens;
	ret->trip =
		rhc_trip_of(up, ret->b.state == RHC_BRK_HALF_OPEN ? ret->b.gen - 1 : ret->b.gen);
	view_probes(seg, up, now_ms, ret);
	rhc_window_sum(rhc_seg_win(seg, index, 0), seg->hdr.max_workers, policy, &ret->b, now_ms,
	               &ret->window);
	ret->last_failure_ms = rhc_bits(failure, 0, 48);
	ret->last_error = (unsigned)rhc_bits(failure, 56, 8);
	ret->last_worker = (uint32_t)rhc_bits(failure, 48, 8);
	rhc_note_read(&up->note[RHC_NOTE_BREAKER], &ret->note);
}

/* ---- bulkhead ---- */

static void view_slots(const struct rhc_segment *seg, uint32_t index, uint64_t now_ms,
                       struct rhc_view_bulkhead *ret)
{
	const _Atomic uint64_t *slots = rhc_seg_slots(seg, index);

	for (uint32_t i = 0; i < seg->hdr.slots_cap; i++) {
		uint64_t word = get(&slots[i]);
		uint32_t owner = RHC_SLOT_OWNER(word);

		if (word == 0)
			continue;
		ret->in_use++;
		if (owner == 0 || owner > seg->hdr.max_workers) {
			ret->bad++;
			continue;
		}
		ret->held_by[owner - 1]++;
		ret->oldest_held_ms =
			rhc_max_u64(ret->oldest_held_ms, rhc_slot_age_ms(word, now_ms));
	}
}

static uint64_t since(uint64_t then_ms, uint64_t now_ms)
{
	return now_ms > then_ms ? now_ms - then_ms : 0;
}

static void view_bulkhead(const struct rhc_segment *seg, uint32_t index,
			  const struct rhc_policy *policy, uint64_t now_ms,
			  struct rhc_view_bulkhead *ret)
{
	const struct rhc_up *up = rhc_seg_up(seg, index);
	uint64_t ctl = get(&up->ctl);

	memset(ret, 0, sizeof(*ret));
	ret->limit = (uint32_t)rhc_min_u64(RHC_CTL_LIMIT(ctl), seg->hdr.slots_cap);
	ret->hw = (uint32_t)rhc_min_u64(RHC_CTL_HW(ctl), seg->hdr.slots_cap);
	ret->bad = RHC_CTL_LIMIT(ctl) != ret->limit || RHC_CTL_HW(ctl) != ret->hw;
	ret->draining = ret->hw > ret->limit;
	ret->configured = policy->limit;
	ret->max_waiting = policy->max_waiting;
	ret->override = rhc_limit_override_of(get(&up->limit_ovr));
	rhc_note_read(&up->note[RHC_NOTE_LIMIT], &ret->note);
	view_slots(seg, index, now_ms, ret);
	for (uint32_t w = 0; w < seg->hdr.max_workers; w++) {
		uint64_t head = get(&up->head[w]);

		ret->waiting_by[w] = RHC_HEAD_WAITERS(head);
		ret->ticket_of[w] = RHC_HEAD_TICKET(head);
		ret->waiting += ret->waiting_by[w];
		if (head)
			ret->oldest_wait_ms = rhc_max_u64(ret->oldest_wait_ms,
							  since(get(&up->since_ms[w]), now_ms));
	}
	ret->next_ticket = get(&up->ticket) + 1;
}

int rhc_view_upstream(const struct rhc_segment *seg, uint32_t index, uint64_t now_ms,
                      struct rhc_view_upstream *ret)
{
	const struct rhc_up *up;
	uint64_t health, id;

	if (index >= seg->hdr.max_upstreams || rhc_upstream_state(seg, index) != RHC_UP_USED)
		return -ENOENT;
	up = rhc_seg_up(seg, index);
	id = get(&up->id);
	health = get(&up->health);
	memset(ret, 0, sizeof(*ret));
	ret->index = index;
	rhc_upstream_name(seg, index, ret->name);
	rhc_policy_load(up, &ret->policy);
	view_breaker(seg, index, &ret->policy, now_ms, &ret->breaker);
	view_bulkhead(seg, index, &ret->policy, now_ms, &ret->bulkhead);
	ret->health_known = health >> 62 != 0;
	ret->reachable = health >> 62 == 2;
	ret->health_error = (unsigned)rhc_bits(health, 54, 8);
	ret->health_took_ms = (uint32_t)rhc_bits(health, 32, 22);
	ret->health_at_ms = rhc_bits(health, 0, 32) * 1000;
	if (!rhc_seg_is_host(seg, index))
		return 0;
	/* Not half of one host and half of another, nor two of one name. */
	return get(&up->id) >> 32 == id >> 32 && rhc_upstream_find(seg, ret->name) == (int)index
		       ? 0
		       : -ENOENT;
}

uint32_t rhc_view_holders(const struct rhc_segment *seg, uint32_t index, uint64_t now_ms,
                          struct rhc_view_holder *ret, uint32_t room)
{
	const _Atomic uint64_t *slots = rhc_seg_slots(seg, index);
	uint32_t limit = RHC_CTL_LIMIT(get(&rhc_seg_up(seg, index)->ctl)), n = 0;

	for (uint32_t i = 0; i < seg->hdr.slots_cap; i++) {
		uint64_t word = get(&slots[rhc_slot_at(seg->hdr.slots_cap, i)]);

		if (word == 0)
			continue;
		if (n < room)
			ret[n] = (struct rhc_view_holder){
				.slot = i,
				.worker = RHC_SLOT_OWNER(word) - 1,
				.inc = RHC_SLOT_INC(word),
				.age_ms = rhc_slot_age_ms(word, now_ms),
				.above_limit = i >= limit,
				.bad = RHC_SLOT_OWNER(word) - 1 >= seg->hdr.max_workers,
			};
		n++;
	}
	return n;
}

/* ---- workers ---- */

static uint32_t slots_of(const struct rhc_segment *seg, uint32_t worker)
{
	uint32_t n = 0;

	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		const _Atomic uint64_t *slots = rhc_seg_slots(seg, u);

		if (get(&rhc_seg_up(seg, u)->id) == 0)
			continue;
		for (uint32_t i = 0; i < seg->hdr.slots_cap; i++)
			n += RHC_SLOT_OWNER(get(&slots[i])) == worker + 1;
	}
	return n;
}

int rhc_view_worker(const struct rhc_segment *seg, int lock_fd, uint32_t index,
                    struct rhc_view_worker *ret)
{
	const struct rhc_worker_rec *rec;
	uint64_t word, phase;

	if (index >= seg->hdr.max_workers)
		return -ENOENT;
	rec = rhc_seg_worker(seg, index);
	word = get(&rec->word);
	phase = get(&rec->phase);
	*ret = (struct rhc_view_worker){
		.index = index,
		.inc = (uint32_t)(word >> 32),
		.alive = (uint32_t)word == RHC_WORKER_FREE ? RHC_ALIVE_FREE : RHC_ALIVE_YES,
		.phase = phase > RHC_PHASE_STOPPING ? RHC_PHASE_STOPPING
						    : (enum rhc_worker_phase)phase,
		.beat_ms = get(&rec->beat_ms),
		.loops = get(&rec->loops),
		.cfg_gen = get(&rec->cfg_gen),
		.conns = get(&rec->conns),
		.in_flight = get(&rec->in_flight),
		.want = get(&rec->want_exit),
		.restarts = get(&rec->restarts),
		.pid = get(&rec->pid),
		.pidns = get(&rec->pidns),
		.start_ms = get(&rec->start_ms),
		.generation = get(&rec->generation),
		.last_status = (unsigned)rhc_bits(get(&rec->last_end), 48, 16),
		.last_end_ms = rhc_bits(get(&rec->last_end), 0, 48),
		.slots = slots_of(seg, index),
	};
	if (lock_fd >= 0)
		ret->alive = rhc_worker_alive(seg, lock_fd, index);
	copy_text(ret->version, rec->version, sizeof(ret->version));
	return 0;
}

/* ---- counters and histograms ---- */

static void add_row(const _Atomic uint64_t *row, uint64_t *ret, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		ret[i] += atomic_load_explicit(&row[i], memory_order_relaxed);
}

void rhc_view_counters(const struct rhc_segment *seg, uint32_t upstream, bool since_reset,
                       uint64_t *ret, uint32_t n)
{
	const _Atomic uint64_t *base = rhc_seg_ctr(seg, rhc_row_base(seg), upstream);

	memset(ret, 0, n * sizeof(*ret));
	n = (uint32_t)rhc_min_u64(n, seg->hdr.n_uctr);
	for (uint32_t row = 0; row <= rhc_row_admin(seg); row++)
		add_row(rhc_seg_ctr(seg, row, upstream), ret, n);
	for (uint32_t i = 0; since_reset && i < n; i++) {
		uint64_t b = atomic_load_explicit(&base[i], memory_order_relaxed);

		ret[i] = ret[i] > b ? ret[i] - b : 0;
	}
}

void rhc_view_worker_counters(const struct rhc_segment *seg, uint32_t row, uint64_t *ret,
			      uint32_t n)
{
	memset(ret, 0, n * sizeof(*ret));
	add_row(rhc_seg_wctr(seg, row), ret, (uint32_t)rhc_min_u64(n, seg->hdr.n_wctr));
}

void rhc_view_worker_sum(const struct rhc_segment *seg, uint64_t *ret, uint32_t n)
{
	memset(ret, 0, n * sizeof(*ret));
	for (uint32_t row = 0; row <= seg->hdr.max_workers; row++)
		add_row(rhc_seg_wctr(seg, row), ret, (uint32_t)rhc_min_u64(n, seg->hdr.n_wctr));
}

void rhc_view_hist(const struct rhc_segment *seg, uint32_t upstream, uint32_t hist,
		   bool since_reset, struct rhc_hist_sum *ret)
{
	struct rhc_hist_sum one;

	memset(ret, 0, sizeof(*ret));
	for (uint32_t w = 0; w < seg->hdr.max_workers; w++) {
		rhc_hist_read(rhc_seg_hist(seg, w, upstream, hist), &one);
		rhc_hist_add(ret, &one);
	}
	if (since_reset) {
		rhc_hist_read(rhc_seg_hist(seg, seg->hdr.max_workers, upstream, hist), &one);
		rhc_hist_sub(ret, &one);
	}
}

bool rhc_view_desc(const struct rhc_segment *seg, uint32_t i, struct rhc_desc *ret)
{
	const struct rhc_desc *desc = rhc_seg_desc(seg, i);

	memcpy(ret, desc, sizeof(*ret));
	copy_text(ret->name, desc->name, sizeof(ret->name));
	copy_text(ret->group, desc->group, sizeof(ret->group));
	copy_text(ret->label, desc->label, sizeof(ret->label));
	if (ret->kind > RHC_KIND_HIST || ret->name[0] == 0)
		return false;
	switch (ret->where) {
	case RHC_WHERE_UP:
	case RHC_WHERE_UPERR:
		return ret->index < seg->hdr.n_uctr;
	case RHC_WHERE_WORKER:
		return ret->index < seg->hdr.n_wctr;
	case RHC_WHERE_HIST:
		return ret->index < seg->hdr.n_hist && ret->base >= 10;
	default:
		return false;
	}
}

uint64_t rhc_view_wall_ns(const struct rhc_segment *seg, uint64_t mono_ns)
{
	return seg->hdr.wall_base_ns + (mono_ns - seg->hdr.mono_base_ns);
}
