#include "shm/upstream.h"

#include <errno.h>
#include <string.h>

#include "shm/breaker.h"
#include "shm/bulkhead.h"

/*
 * policy[0] failure_threshold:16 | half_open_max:8 | success_threshold:8 | lease_ms:32
 * policy[1] recovery_ms:32 | recovery_max_ms:32
 * policy[2] window_ms:32 | min_calls:32
 * policy[3] slow_ms:32 | failure_permille:16 | slow_permille:16
 * policy[4] limit:20 | max_waiting:24 | jitter_permille:16
 * policy[5] disabled:1 | unlimited:1 | growth_milli:14 (bit 16)
 */
static uint64_t word_of(const struct rhc_up *up, unsigned i)
{
	/* seq_cst load, a plain one on x86: admit and record read it beside brk. */
	return atomic_load_explicit(&up->policy[i], memory_order_seq_cst);
}

static uint32_t clamp(uint64_t v, uint32_t low, uint32_t high)
{
	return v < low ? low : v > high ? high : (uint32_t)v;
}

/* Clamped here too: a damaged word must not become a shift or an index out of range. */
void rhc_policy_load(const struct rhc_up *up, struct rhc_policy *ret)
{
	uint64_t a = word_of(up, 0), b = word_of(up, 1), c = word_of(up, 2), d = word_of(up, 3);
	uint64_t e = word_of(up, 4), f = word_of(up, 5);

	ret->failure_threshold = clamp(rhc_bits(a, 0, 16), 0, RHC_FAILURES_MAX);
	ret->half_open_max = clamp(rhc_bits(a, 16, 8), 1, RHC_PROBES_MAX);
	ret->success_threshold = clamp(rhc_bits(a, 24, 8), 1, 255);
	ret->lease_ms = clamp(rhc_bits(a, 32, 32), 1000, INT32_MAX);
	ret->recovery_ms = (uint32_t)rhc_bits(b, 0, 32);
	ret->recovery_max_ms = (uint32_t)rhc_bits(b, 32, 32);
	ret->window_ms = (uint32_t)rhc_bits(c, 0, 32);
	ret->min_calls = (uint32_t)rhc_bits(c, 32, 32);
	ret->slow_ms = (uint32_t)rhc_bits(d, 0, 32);
	ret->failure_permille = clamp(rhc_bits(d, 32, 16), 0, 1000);
	ret->slow_permille = clamp(rhc_bits(d, 48, 16), 0, 1000);
	ret->limit = clamp(rhc_bits(e, 0, 20), 1, RHC_LIMIT_MAX);
	ret->max_waiting = (uint32_t)rhc_bits(e, 20, 24);
	ret->jitter_permille = clamp(rhc_bits(e, 44, 16), 0, 1000);
	ret->disabled = rhc_bits(f, 0, 1);
	ret->unlimited = rhc_bits(f, 1, 1);
	ret->growth_milli = clamp(rhc_bits(f, 16, 14), 1000, RHC_GROWTH_MAX);
}

void rhc_policy_pack(const struct rhc_policy *p, uint64_t ret_words[6])
{
	const uint64_t words[6] = {
		rhc_field(clamp(p->failure_threshold, 0, RHC_FAILURES_MAX), 0, 16) |
			rhc_field(clamp(p->half_open_max, 1, RHC_PROBES_MAX), 16, 8) |
			rhc_field(clamp(p->success_threshold, 1, 255), 24, 8) |
			rhc_field(clamp(p->lease_ms, 1000, INT32_MAX), 32, 32),
		rhc_field(p->recovery_ms, 0, 32) | rhc_field(p->recovery_max_ms, 32, 32),
		rhc_field(p->window_ms ? clamp(p->window_ms, RHC_WIN_BUCKETS, UINT32_MAX) : 0, 0,
			  32) |
			rhc_field(p->min_calls, 32, 32),
		rhc_field(p->slow_ms, 0, 32) |
			rhc_field(clamp(p->failure_permille, 0, 1000), 32, 16) |
			rhc_field(clamp(p->slow_permille, 0, 1000), 48, 16),
		rhc_field(clamp(p->limit, 1, RHC_LIMIT_MAX), 0, 20) |
			rhc_field(clamp(p->max_waiting, 0, (1 << 24) - 1), 20, 24) |
			rhc_field(clamp(p->jitter_permille, 0, 1000), 44, 16),
		rhc_field(p->disabled, 0, 1) | rhc_field(p->unlimited, 1, 1) |
			rhc_field(clamp(p->growth_milli, 1000, RHC_GROWTH_MAX), 16, 14),
	};

	memcpy(ret_words, words, sizeof(words));
}

void rhc_policy_put(_Atomic uint64_t policy[6], const uint64_t words[6])
{
	for (unsigned i = 0; i < 6; i++) {
		RHC_FI("policy.word");
		/* Only what differs: the line stays clean in every worker's cache over a reload. */
		if (rhc_load(&policy[i]) != words[i])
			atomic_store(&policy[i], words[i]);
	}
}

void rhc_policy_store(struct rhc_up *up, const struct rhc_policy *p)
{
	uint64_t words[6];

	rhc_policy_pack(p, words);
	rhc_policy_put(up->policy, words);
}

enum rhc_up_state rhc_upstream_state(const struct rhc_segment *seg, uint32_t index)
{
	uint32_t state = (uint16_t)rhc_load(&rhc_seg_up(seg, index)->id);

	if (state == RHC_UP_LEAVING)
		return RHC_UP_USED; /* until it is gone it is there */
	return state <= RHC_UP_MAKING ? (enum rhc_up_state)state : RHC_UP_FREE;
}

void rhc_upstream_name(const struct rhc_segment *seg, uint32_t index,
		       char ret_name[RHC_NAME_MAX + 1])
{
	const struct rhc_up *up = rhc_seg_up(seg, index);
	unsigned i;

	for (i = 0; i < RHC_NAME_MAX; i++) {
		char c = __atomic_load_n(&up->name[i], __ATOMIC_RELAXED);

		ret_name[i] = c;
		if (c == 0)
			break;
		if (c <= 0x20 || c == 0x7f)
			ret_name[i] = '?'; /* it goes to terminals and into metrics */
	}
	ret_name[i] = 0;
}

static uint64_t name_hash(const char *name)
{
	return rhc_hash(RHC_HASH_SEED, name, strlen(name));
}

int rhc_upstream_find(const struct rhc_segment *seg, const char *name)
{
	uint64_t hash = name_hash(name);
	char have[RHC_NAME_MAX + 1];

	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		if (rhc_upstream_state(seg, u) != RHC_UP_USED ||
		    __atomic_load_n(&rhc_seg_up(seg, u)->name_hash, __ATOMIC_RELAXED) != hash)
			continue;
		rhc_upstream_name(seg, u, have);
		if (strcmp(have, name) == 0)
			return (int)u;
	}
	return -ENOENT;
}

int rhc_upstream_check_name(const char *name)
{
	size_t len = strnlen(name, RHC_NAME_MAX + 1);

	/* Never cut: two names with one beginning would share one breaker. */
	if (len > RHC_NAME_MAX)
		return -ENAMETOOLONG;
	for (size_t i = 0; i < len; i++) {
		if (name[i] <= 0x20 || name[i] == 0x7f)
			return -EINVAL;
	}
	return len ? 0 : -EINVAL;
}

/* Has every living worker forgotten it, and does nobody hold or wait for anything? */
static bool quiescent(const struct rhc_segment *seg, uint32_t u)
{
	const struct rhc_up *up = rhc_seg_up(seg, u);
	uint64_t gone = atomic_load(&up->retired_gen);
	_Atomic uint64_t *slots = rhc_seg_slots(seg, u);

	for (uint32_t w = 0; w < seg->hdr.max_workers; w++) {
		const struct rhc_worker_rec *rec = rhc_seg_worker(seg, w);

		/* Acquire pairs with rhc_worker_adopt(): what it stored here before is visible. */
		if ((uint32_t)atomic_load(&rec->word) != RHC_WORKER_FREE &&
		    atomic_load_explicit(&rec->cfg_gen, memory_order_acquire) < gone)
			return false;
	}
	for (uint32_t at = 0; at < seg->hdr.slots_cap; at++) {
		if (atomic_load_explicit(&slots[at], memory_order_relaxed))
			return false;
	}
	for (uint32_t k = 0; k < RHC_PROBES_MAX; k++) {
		if (atomic_load_explicit(&up->permit[k], memory_order_relaxed))
			return false;
	}
	return atomic_load(&up->waitmask) == 0;
}

static int vacant(const struct rhc_segment *seg)
{
	uint32_t n = rhc_seg_hosts_from(seg);

	for (uint32_t u = 0; u < n; u++) {
		if (rhc_upstream_state(seg, u) == RHC_UP_FREE)
			return (int)u;
	}
	for (uint32_t u = 0; u < n; u++) {
		if (rhc_upstream_state(seg, u) == RHC_UP_RETIRED && quiescent(seg, u))
			return (int)u;
	}
	return -ENOSPC;
}

static void clear_words(_Atomic uint64_t *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		atomic_store_explicit(&words[i], 0, memory_order_relaxed);
}

/*
 * Nobody uses the record (FREE, or retired and quiescent), so rows of others may be cleared here.
 */
static void clear_rows(const struct rhc_segment *seg, uint32_t u)
{
	const struct rhc_hdr *h = &seg->hdr;

	for (uint32_t w = 0; w < h->max_workers + 2; w++)
		clear_words(rhc_seg_ctr(seg, w, u), h->n_uctr);
	for (uint32_t w = 0; w < h->max_workers; w++)
		clear_words((_Atomic uint64_t *)rhc_seg_win(seg, u, w), sizeof(struct rhc_win) / 8);
	for (uint32_t w = 0; w < h->max_workers + 1; w++) {
		for (uint32_t i = 0; i < h->n_hist; i++)
			clear_words((_Atomic uint64_t *)rhc_seg_hist(seg, w, u, i),
			            sizeof(struct rhc_hist) / 8);
	}
}

static void clear_record(struct rhc_up *up)
{
	struct rhc_breaker b = rhc_breaker_unpack(atomic_load(&up->brk), NULL);

	/*
	 * The generation goes on, so a result of the old upstream can never count for the new
	 * one.
	 */
	b = (struct rhc_breaker){ .state = RHC_BRK_CLOSED, .gen = b.gen + 1 };
	atomic_store(&up->brk, rhc_breaker_pack(&b));
	clear_words(&up->outage, 6);
	for (unsigned i = 0; i < RHC_COUNT(up->note); i++)
		clear_words((_Atomic uint64_t *)&up->note[i], sizeof(up->note[i]) / 8);
	clear_words(up->head, RHC_WORKERS_MAX);
	atomic_store(&up->waitmask, 0);
}

void rhc_upstream_begin(struct rhc_segment *seg, uint32_t u, const char *name)
{
	struct rhc_up *up = rhc_seg_up(seg, u);

	clear_rows(seg, u);
	clear_record(up);
	rhc_bulkhead_fix_hints(seg, u);
	__atomic_store_n(&up->name_hash, name_hash(name), __ATOMIC_RELAXED);
	rhc_segment_say(up->name, sizeof(up->name), name);
}

int rhc_upstream_declare(struct rhc_segment *seg, const char *name, const struct rhc_policy *policy,
                         uint64_t now_ms, uint32_t *ret_index, uint64_t *wake)
{
	int rc = rhc_upstream_check_name(name), u;
	struct rhc_up *up;
	uint64_t id;

	if (rc)
		return rc;
	if (policy->limit < 1 || policy->limit > RHC_LIMIT_MAX ||
	    policy->limit > seg->hdr.slots_cap)
		return -ERANGE;
	u = rhc_upstream_find(seg, name);
	if (u < 0 || rhc_seg_is_host(seg, (uint32_t)u)) { /* a host of that name is not MASTER's */
		u = vacant(seg);
		if (u < 0)
			return u;
		rhc_upstream_begin(seg, (uint32_t)u, name);
	}
	up = rhc_seg_up(seg, (uint32_t)u);
	rhc_policy_store(up, policy);
	rhc_bulkhead_reconcile(seg, (uint32_t)u, now_ms, NULL, wake);
	id = atomic_load(&up->id);
	RHC_FI("upstream.used");
	/* Last: whoever sees USED sees a whole record.  Killed before, it is made again. */
	if ((uint32_t)id != RHC_UP_USED)
		atomic_store(&up->id, ((id >> 32) + 1) << 32 | RHC_UP_USED);
	*ret_index = (uint32_t)u;
	return 0;
}

int rhc_upstream_retire(struct rhc_segment *seg, uint32_t index, uint64_t cfg_gen)
{
	struct rhc_up *up;
	uint64_t id;

	if (index >= rhc_seg_hosts_from(seg) || rhc_upstream_state(seg, index) != RHC_UP_USED)
		return -ENOENT;
	up = rhc_seg_up(seg, index);
	id = atomic_load(&up->id);
	atomic_store(&up->retired_gen, cfg_gen);
	RHC_FI("upstream.retired");
	atomic_store(&up->id, (id & ~UINT64_C(0xffffffff)) | RHC_UP_RETIRED);
	return 0;
}

uint64_t rhc_config_publish(struct rhc_segment *seg, uint64_t hash, uint64_t now_ms)
{
	struct rhc_hdr *h = rhc_seg_hdr(seg);

	atomic_store_explicit(&h->cfg_hash, hash, memory_order_relaxed);
	atomic_store_explicit(&h->cfg_ms, now_ms, memory_order_relaxed);
	/* seq_cst: after every record of this configuration */
	return atomic_fetch_add(&h->cfg_gen, 1) + 1;
}

void rhc_upstream_health(struct rhc_segment *seg, uint32_t index, bool reachable, unsigned error,
                         uint32_t took_ms, uint64_t now_ms)
{
	atomic_store_explicit(&rhc_seg_up(seg, index)->health,
	                      rhc_field(reachable ? 2 : 1, 62, 2) | rhc_field(error, 54, 8) |
	                              rhc_field(rhc_min_u64(took_ms, (1 << 22) - 1), 32, 22) |
	                              rhc_field(now_ms / 1000, 0, 32),
	                      memory_order_relaxed);
}
