#include "shm/admin.h"

#include <errno.h>
#include <string.h>

#include "shm/calm.h"
#include "shm/note.h"
#include "shm/reap.h"

#define ROUNDS 32

static const char *const verb_names[RHC_VERB_COUNT] = {
	[RHC_VERB_NONE] = "none",       [RHC_VERB_OPEN] = "open",
	[RHC_VERB_CLOSE] = "close",     [RHC_VERB_ISOLATE] = "isolate",
	[RHC_VERB_DISABLE] = "disable", [RHC_VERB_ENABLE] = "enable",
	[RHC_VERB_RESET] = "reset",     [RHC_VERB_LIMIT] = "limit",
	[RHC_VERB_LIMIT_CLEAR] = "limit_clear", [RHC_VERB_FREE] = "free",
	[RHC_VERB_REAP] = "reap",       [RHC_VERB_DRAIN] = "drain",
	[RHC_VERB_UNDRAIN] = "undrain", [RHC_VERB_RESTART] = "restart",
	[RHC_VERB_REPAIR] = "repair",
};

const char *rhc_verb_name(enum rhc_verb verb)
{
	return (unsigned)verb < RHC_VERB_COUNT ? verb_names[verb] : "unknown";
}

int rhc_admin_begin(struct rhc_admin *a, struct rhc_segment *seg, uint32_t uid, uint32_t pid)
{
	auto_close int fd = -1;
	int rc;

	if (!seg->writable)
		return -EROFS;
	fd = rhc_lock_open(seg);
	if (fd < 0)
		return fd;
	rc = rhc_lock_take(fd, RHC_BYTE_ADMIN);
	if (rc)
		return rc == -EAGAIN ? -EBUSY : rc;
	memset(a, 0, sizeof(*a));
	a->seg = seg;
	a->uid = uid;
	a->pid = pid;
	rhc_ring_writer_init(&a->ring, seg, seg->hdr.max_workers + 1, 0);
	a->fd = rhc_take_fd(&fd);
	return 0;
}

void rhc_admin_end(struct rhc_admin *a)
{
	if (a->fd >= 0)
		close(rhc_take_fd(&a->fd));
}

static uint64_t who(const struct rhc_admin *a)
{
	return (uint64_t)a->uid << 32 | a->pid;
}

/* The question, before anything is changed. */
static void ask(struct rhc_admin *a, enum rhc_event_type type, uint32_t upstream, uint64_t now_ms,
                const uint64_t arg[5], const char *reason)
{
	rhc_event_put(&a->ring, type, upstream, now_ms, arg);
	rhc_event_text(&a->ring, reason, now_ms);
}

/* The answer. */
static void answer(struct rhc_admin *a, bool done, uint32_t upstream, uint64_t word,
		   enum rhc_verb verb, uint64_t now_ms)
{
	rhc_event_put(&a->ring, done ? RHC_EV_override_done : RHC_EV_override_lost, upstream,
		      now_ms, (uint64_t[5]){ who(a), word, 0, 0, (uint64_t)verb });
}

static struct rhc_up *used(const struct rhc_admin *a, uint32_t upstream)
{
	if (upstream >= a->seg->hdr.max_upstreams ||
	    rhc_upstream_state(a->seg, upstream) != RHC_UP_USED)
		return NULL;
	if (rhc_seg_is_host(a->seg, upstream) && !rhc_host_keep(a->seg, upstream))
		return NULL;
	return rhc_seg_up(a->seg, upstream);
}

int rhc_admin_find(struct rhc_admin *a, const char *name)
{
	int u = -ENOENT;

	for (unsigned round = 0; round < ROUNDS; round++) {
		u = rhc_upstream_find(a->seg, name);
		if (u < 0 || !rhc_seg_is_host(a->seg, (uint32_t)u))
			break;
		/* Kept from now on; was it still that host then? */
		if (rhc_host_keep(a->seg, (uint32_t)u) && rhc_upstream_find(a->seg, name) == u)
			break;
		u = -ENOENT;
	}
	return u;
}

/* ---- breaker ---- */

static bool input_of(enum rhc_verb verb, enum rhc_breaker_input *ret)
{
	switch (verb) {
	case RHC_VERB_OPEN:
		*ret = RHC_BRK_IN_OPEN;
		return true;
	case RHC_VERB_RESET:
	case RHC_VERB_CLOSE:
		*ret = RHC_BRK_IN_CLOSE;
		return true;
	case RHC_VERB_ISOLATE:
		*ret = RHC_BRK_IN_ISOLATE;
		return true;
	case RHC_VERB_DISABLE:
		*ret = RHC_BRK_IN_DISABLE;
		return true;
	case RHC_VERB_ENABLE:
		*ret = RHC_BRK_IN_ENABLE;
		return true;
	default:
		return false;
	}
}

static unsigned counter_of(enum rhc_breaker_state to)
{
	switch (to) {
	case RHC_BRK_OPEN:
		return RHC_CTR_brk_to_open;
	case RHC_BRK_ISOLATED:
		return RHC_CTR_brk_to_isolated;
	case RHC_BRK_DISABLED:
		return RHC_CTR_brk_to_disabled;
	default:
		return RHC_CTR_brk_to_closed;
	}
}

/* After the CAS: the words beside it, the count, the note. */
static void settle(struct rhc_admin *a, uint32_t upstream, const struct rhc_breaker *from,
                   const struct rhc_breaker *to, enum rhc_trip trip, enum rhc_verb verb,
                   const char *reason, uint64_t now_ms)
{
	struct rhc_up *up = rhc_seg_up(a->seg, upstream);
	bool stays = to->state == RHC_BRK_ISOLATED || to->state == RHC_BRK_DISABLED;
	struct rhc_window none = { 0 };

	rhc_breaker_note(up, from, to, trip, &none, now_ms);
	rhc_ctr_inc(rhc_seg_ctr(a->seg, rhc_row_admin(a->seg), upstream), counter_of(to->state));
	rhc_note_write(&up->note[RHC_NOTE_BREAKER], stays ? (unsigned)verb : 0, a->uid, a->pid,
		       reason, now_ms);
}

static int change_breaker(struct rhc_admin *a, uint32_t upstream, struct rhc_breaker_in *in,
                          enum rhc_verb verb, const char *reason, struct rhc_change *ret)
{
	struct rhc_up *up = rhc_seg_up(a->seg, upstream);
	uint64_t old = atomic_load(&up->brk);
	struct rhc_policy policy;

	rhc_policy_load(up, &policy);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct rhc_breaker from = rhc_breaker_unpack(old, NULL), to;
		enum rhc_trip trip;
		uint64_t word;

		in->reopens = from.state == RHC_BRK_OPEN || from.state == RHC_BRK_HALF_OPEN
		                      ? rhc_outage_of(up, &from).reopens
		                      : 0;
		to = rhc_breaker_next(from, &policy, in, &trip);
		word = rhc_breaker_pack(&to);
		*ret = (struct rhc_change){ old, word, word != old };
		if (word == old)
			return 0;
		ask(a, RHC_EV_brk_override, upstream, in->now_ms,
		    (uint64_t[5]){ who(a), old, word, in->until_ms, (uint64_t)verb }, reason);
		RHC_FI("admin.brk");
		/* seq_cst: the pair of take_probe()'s look after its permit */
		if (atomic_compare_exchange_strong(&up->brk, &old, word)) {
			RHC_FI("admin.brk.done");
			settle(a, upstream, &from, &to, trip, verb, reason, in->now_ms);
			answer(a, true, upstream, word, verb, in->now_ms);
			return 0;
		}
		answer(a, false, upstream, old, verb, in->now_ms);
	}
	return -EAGAIN;
}

int rhc_admin_breaker(struct rhc_admin *a, uint32_t upstream, enum rhc_verb verb, uint64_t until_ms,
                      const char *reason, uint64_t now_ms, struct rhc_change *ret)
{
	struct rhc_breaker_in in = { .now_ms = now_ms, .until_ms = until_ms };
	struct rhc_change limit;
	int rc;

	if (!input_of(verb, &in.what))
		return -EINVAL;
	if (until_ms &&
	    (until_ms <= now_ms || (verb != RHC_VERB_ISOLATE && verb != RHC_VERB_DISABLE)))
		return -EINVAL;
	if (used(a, upstream) == NULL)
		return -ENOENT;
	rc = change_breaker(a, upstream, &in, verb, reason, ret);
	if (rc == 0 && verb == RHC_VERB_RESET) {
		atomic_store(&rhc_seg_up(a->seg, upstream)->last_failure, 0);
		rc = rhc_admin_limit_clear(a, upstream, reason, now_ms, &limit);
		if (rc == 0)
			rc = rhc_admin_reset_counters(a, upstream, now_ms);
	}
	return rc;
}

/* ---- limit ---- */

/*
 * The override word is the fact; ctl follows it by rhc_bulkhead_reconcile(), now or by anybody's
 * tick. Killed in between: the limit changes a second later.
 */
static int override_limit(struct rhc_admin *a, uint32_t upstream,
			  const struct rhc_limit_override *ovr, enum rhc_verb verb,
			  const char *reason, uint64_t now_ms, struct rhc_change *ret)
{
	struct rhc_up *up = used(a, upstream);
	uint64_t word = rhc_limit_override_word(ovr), old;

	if (up == NULL)
		return -ENOENT;
	old = atomic_load(&up->limit_ovr);
	for (unsigned round = 0; round < ROUNDS; round++) {
		*ret = (struct rhc_change){ old, word, word != old };
		if (word == old)
			break;
		ask(a, RHC_EV_limit_override, upstream, now_ms,
		    (uint64_t[5]){ who(a), old, word, ovr->until_ms, (uint64_t)verb }, reason);
		RHC_FI("admin.limit");
		if (atomic_compare_exchange_strong(&up->limit_ovr, &old, word)) {
			RHC_FI("admin.limit.done");
			rhc_note_write(&up->note[RHC_NOTE_LIMIT], ovr->active ? (unsigned)verb : 0,
				       a->uid, a->pid, reason, now_ms);
			answer(a, true, upstream, word, verb, now_ms);
			break;
		}
		answer(a, false, upstream, old, verb, now_ms); /* it expired at this moment */
	}
	rhc_bulkhead_reconcile(a->seg, upstream, now_ms, &a->ring, &a->wake);
	return 0;
}

int rhc_admin_limit(struct rhc_admin *a, uint32_t upstream, uint32_t limit, uint64_t until_ms,
                    const char *reason, uint64_t now_ms, struct rhc_change *ret)
{
	struct rhc_limit_override ovr = { true, limit, until_ms };

	if (limit < 1 || limit > RHC_LIMIT_MAX || limit > a->seg->hdr.slots_cap)
		return -ERANGE;
	if (until_ms && until_ms <= now_ms)
		return -EINVAL;
	return override_limit(a, upstream, &ovr, RHC_VERB_LIMIT, reason, now_ms, ret);
}

int rhc_admin_limit_clear(struct rhc_admin *a, uint32_t upstream, const char *reason,
			  uint64_t now_ms, struct rhc_change *ret)
{
	struct rhc_limit_override none = { 0 };

	return override_limit(a, upstream, &none, RHC_VERB_LIMIT_CLEAR, reason, now_ms, ret);
}

/* ---- slots and workers ---- */

static bool owner_alive(const struct rhc_admin *a, uint64_t word)
{
	uint32_t owner = RHC_SLOT_OWNER(word) - 1;

	return owner < a->seg->hdr.max_workers &&
	       rhc_worker_alive(a->seg, a->fd, owner) == RHC_ALIVE_YES;
}

/*
 * Once an upstream is pinned, all releases are compare-exchanges, but for one that read the order
 * before: its turn of the loop must end, and so must the next, whose reads may be older than they seem.
 */
static bool may_be_leaving(struct rhc_admin *a, uint32_t upstream, uint64_t word)
{
	struct rhc_up *up = rhc_seg_up(a->seg, upstream);
	uint64_t loops;

	rhc_calm_pin(up);
	if (RHC_ORDER_EPOCH(rhc_load(&up->order)) == 0)
		return false; /* it has never been calm */
	loops = rhc_load(&rhc_seg_worker(a->seg, RHC_SLOT_OWNER(word) - 1)->loops);
	if (a->turns[0] != word) {
		a->turns[0] = word;
		a->turns[1] = loops;
	}
	return loops < a->turns[1] + 2;
}

int rhc_admin_free_slot(struct rhc_admin *a, uint32_t upstream, uint32_t slot, bool force,
                        const char *reason, uint64_t now_ms, struct rhc_change *ret)
{
	_Atomic uint64_t *at;
	uint64_t word;

	if (used(a, upstream) == NULL || slot >= a->seg->hdr.slots_cap)
		return -ENOENT;
	at = &rhc_seg_slots(a->seg, upstream)[rhc_slot_at(a->seg->hdr.slots_cap, slot)];
	word = atomic_load(at);
	*ret = (struct rhc_change){ word, 0, false };
	if (word == 0)
		return -ENOENT;
	if (owner_alive(a, word)) {
		if (!force)
			return -EBUSY;
		if (may_be_leaving(a, upstream, word))
			return -EAGAIN;
	}
	ask(a, RHC_EV_slot_freed, upstream, now_ms, (uint64_t[5]){ who(a), word, slot }, reason);
	RHC_FI("admin.free");
	/*
	 * The exact word: its holder's own release, late or early, fails or wins, nothing is
	 * freed twice.
	 */
	ret->changed = atomic_compare_exchange_strong(at, &word, 0);
	if (ret->changed)
		rhc_bulkhead_freed(a->seg, upstream, slot, RHC_WORKERS_MAX, now_ms, &a->wake);
	answer(a, ret->changed, upstream, word, RHC_VERB_FREE, now_ms);
	return ret->changed ? 0 : -ENOENT;
}

int rhc_admin_reap(struct rhc_admin *a, uint32_t worker, bool force, uint64_t now_ms,
                   struct rhc_reaped *ret)
{
	int rc;

	if (worker >= a->seg->hdr.max_workers)
		return -ENOENT;
	rc = rhc_reap(a->seg, a->fd, worker, now_ms, ret, &a->wake);
	if (rc != -EBUSY || !force)
		return rc;
	/*
	 * It got SIGKILL and never returns to user mode, but the kernel cannot finish it: its words
	 * are freed; its record stays LIVE, its ring stays its own, until the byte is dropped.
	 */
	ask(a, RHC_EV_drain, RHC_NO_UPSTREAM, now_ms, (uint64_t[5]){ who(a), 1, worker }, "reap --force");
	memset(ret, 0, sizeof(*ret));
	rhc_reap_words(a->seg, worker, ret, &a->wake);
	return 0;
}

int rhc_admin_drain(struct rhc_admin *a, uint32_t worker, bool on, const char *reason,
		    uint64_t now_ms)
{
	if (worker > RHC_WORKERS_MAX ||
	    (worker < RHC_WORKERS_MAX && worker >= a->seg->hdr.max_workers))
		return -ENOENT;
	ask(a, RHC_EV_drain, RHC_NO_UPSTREAM, now_ms, (uint64_t[5]){ who(a), on, worker }, reason);
	if (worker == RHC_WORKERS_MAX)
		atomic_store(&rhc_seg_hdr(a->seg)->drain, on);
	else
		rhc_worker_ask(a->seg, worker, on ? RHC_WANT_DRAIN : RHC_WANT_NOTHING);
	return 0;
}

int rhc_admin_restart(struct rhc_admin *a, uint32_t worker, const char *reason, uint64_t now_ms)
{
	if (worker >= a->seg->hdr.max_workers)
		return -ENOENT;
	ask(a, RHC_EV_drain, RHC_NO_UPSTREAM, now_ms,
	    (uint64_t[5]){ who(a), RHC_WANT_EXIT, worker }, reason);
	rhc_worker_ask(a->seg, worker, RHC_WANT_EXIT);
	return 0;
}

/* ---- counters ---- */

int rhc_admin_reset_counters(struct rhc_admin *a, uint32_t upstream, uint64_t now_ms)
{
	const struct rhc_segment *seg = a->seg;
	uint64_t sums[RHC_CTR_COUNT];

	if (used(a, upstream) == NULL)
		return -ENOENT;
	rhc_event_put(&a->ring, RHC_EV_reset, upstream, now_ms, (uint64_t[5]){ who(a) });
	rhc_view_counters(seg, upstream, false, sums, RHC_CTR_COUNT);
	/* Gauges go on: halves are left alone, or the difference would lie. */
	for (unsigned i = 0; i < RHC_CTR_COUNT; i++) {
		enum rhc_kind kind = rhc_uctr_kind(i);

		if (kind != RHC_KIND_OPENED && kind != RHC_KIND_CLOSED && kind != RHC_KIND_GAUGE)
			rhc_ctr_set(rhc_seg_ctr(seg, rhc_row_base(seg), upstream), i, sums[i]);
	}
	for (unsigned h = 0; h < RHC_HIST_COUNT; h++) {
		struct rhc_hist *base = rhc_seg_hist(seg, seg->hdr.max_workers, upstream, h);
		struct rhc_hist_sum sum;

		rhc_view_hist(seg, upstream, h, false, &sum);
		for (unsigned i = 0; i < RHC_HIST_BUCKETS; i++)
			rhc_ctr_set(base->bucket, i, sum.bucket[i]);
		rhc_ctr_set(&base->sum_ns, 0, sum.sum_ns);
	}
	return 0;
}

/* ---- repair ---- */

/* Words of an index whose owner is gone, whatever its record says; under its byte. */
static bool repair_worker(struct rhc_admin *a, uint32_t worker, uint64_t now_ms)
{
	struct rhc_reaped reaped = { 0 };
	uint64_t bit = UINT64_C(1) << worker % 64;

	if (worker >= a->seg->hdr.max_workers) { /* an index this segment does not have */
		for (uint32_t u = 0; u < a->seg->hdr.max_upstreams; u++) {
			atomic_fetch_and(&rhc_seg_up(a->seg, u)->waitmask, ~bit);
			atomic_store(&rhc_seg_up(a->seg, u)->head[worker % 64], 0);
		}
		return true;
	}
	if (rhc_lock_take(a->fd, RHC_BYTE_WORKER + worker))
		return false;
	if ((uint32_t)atomic_load(&rhc_seg_worker(a->seg, worker)->word) != RHC_WORKER_FREE)
		rhc_reap_held(a->seg, worker, RHC_EV_worker_reaped, now_ms, &reaped, &a->wake);
	else {
		rhc_reap_words(a->seg, worker, &reaped, &a->wake);
		rhc_host_reap(a->seg, worker);
	}
	return rhc_lock_drop(a->fd, RHC_BYTE_WORKER + worker) == 0;
}

static bool repair_slot(struct rhc_admin *a, const struct rhc_finding *f, uint64_t now_ms)
{
	_Atomic uint64_t *slot =
		&rhc_seg_slots(a->seg, f->upstream)[rhc_slot_at(a->seg->hdr.slots_cap, f->index)];
	uint64_t word = f->word;

	if (f->what == RHC_FIND_SLOT_INC &&
	    RHC_SLOT_INC(word) ==
		    (atomic_load(&rhc_seg_worker(a->seg, f->worker)->word) >> 32 & 0xffff))
		return false; /* it has registered meanwhile: its own */
	if (!atomic_compare_exchange_strong(slot, &word, 0))
		return false;
	rhc_bulkhead_freed(a->seg, f->upstream, f->index, RHC_WORKERS_MAX, now_ms, &a->wake);
	return true;
}

static bool repair_breaker(struct rhc_admin *a, const struct rhc_finding *f)
{
	struct rhc_breaker b = rhc_breaker_unpack(f->word, NULL);
	uint64_t old = f->word;

	b = (struct rhc_breaker){ .state = RHC_BRK_CLOSED, .gen = b.gen + 1 };
	return atomic_compare_exchange_strong(&rhc_seg_up(a->seg, f->upstream)->brk, &old,
	                                      rhc_breaker_pack(&b));
}

static bool repair_one(struct rhc_admin *a, const struct rhc_finding *f, uint64_t now_ms)
{
	uint64_t word = f->word;

	switch (f->what) {
	case RHC_FIND_SLOT_DEAD:
	case RHC_FIND_PERMIT_DEAD:
	case RHC_FIND_WAITER_DEAD:
	case RHC_FIND_WORKER_DEAD:
	case RHC_FIND_HOST_CLAIM:
	case RHC_FIND_HOST_PIN:
		return repair_worker(a, f->worker, now_ms);
	case RHC_FIND_SLOT_OWNER:
	case RHC_FIND_SLOT_INC:
		return repair_slot(a, f, now_ms);
	case RHC_FIND_PERMIT_OWNER:
		return atomic_compare_exchange_strong(
			&rhc_seg_up(a->seg, f->upstream)->permit[f->index & (RHC_PROBES_MAX - 1)],
			&word, 0);
	case RHC_FIND_HINT:
		rhc_bulkhead_fix_hints(a->seg, f->upstream);
		a->wake |= rhc_bulkhead_waiters(a->seg, f->upstream);
		return true;
	case RHC_FIND_LIMIT:
		rhc_bulkhead_reconcile(a->seg, f->upstream, now_ms, &a->ring, &a->wake);
		return true;
	case RHC_FIND_BREAKER:
		return repair_breaker(a, f);
	default:
		return false; /* a lease ends by itself; a live worker's own words are left to it */
	}
}

uint32_t rhc_admin_repair(struct rhc_admin *a, uint64_t now_ms)
{
	struct rhc_finding found[64];
	uint32_t repaired = 0, n = RHC_COUNT(found);

	/* More than fit: repairing some makes room to see others. */
	for (unsigned round = 0; round < ROUNDS && n >= RHC_COUNT(found); round++) {
		n = rhc_view_audit(a->seg, a->fd, now_ms, found, RHC_COUNT(found));
		for (uint32_t i = 0; i < n && i < RHC_COUNT(found); i++) {
			if (!repair_one(a, &found[i], now_ms))
				continue;
			repaired++;
			rhc_event_put(&a->ring, RHC_EV_repaired, found[i].upstream, now_ms,
			              (uint64_t[5]){ who(a), found[i].word, found[i].index });
		}
	}
	return repaired;
}
