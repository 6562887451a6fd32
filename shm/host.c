/*
 * Records that are claimed at run time.  The protocol is in shm/host.h, its proof in shm/README.md and
 * tests/models/host.pml; every atomic here without an explicit order is seq_cst.
 */
#include "shm/host.h"

#include <errno.h>
#include <string.h>

#include "shm/breaker.h"
#include "shm/bulkhead.h"

#define ROUNDS     64 /* each lost one is somebody else's publication, or an eviction that ended */
#define TEXT_WORDS ((RHC_HOST_MAX + 1) / 8)
#define NONE       UINT32_MAX
#define BUSY       (UINT32_MAX - 1) /* it is there, and evictors keep coming: look again */

struct key { /* what is looked for, as words */
	uint64_t hash;
	uint64_t text[TEXT_WORDS];
};

static uint64_t id_word(uint32_t gen, uint32_t owner, enum rhc_up_state state)
{
	return (uint64_t)gen << 32 | rhc_field(owner, 16, 16) | rhc_field(state, 0, 16);
}

static _Atomic uint64_t *id_of(const struct rhc_segment *seg, uint32_t u)
{
	return &rhc_seg_up(seg, u)->id;
}

static bool move(const struct rhc_segment *seg, uint32_t u, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong(id_of(seg, u), &from, to);
}

static bool in_use(uint64_t id)
{
	return RHC_ID_STATE(id) == RHC_UP_USED || RHC_ID_STATE(id) == RHC_UP_LEAVING;
}

/* ---- pins ---- */

static _Atomic uint64_t *pin_of(const struct rhc_segment *seg, uint32_t u, uint32_t worker)
{
	return &rhc_seg_host(seg, u)->pin[rhc_pin_at(worker)];
}

/* Stored before id is looked at: an evictor says LEAVING before it looks at the pins. */
static void pin(const struct rhc_segment *seg, uint32_t u, uint32_t worker, uint64_t now_ms)
{
	_Atomic uint64_t *word = pin_of(seg, u, worker);
	uint64_t last = RHC_PIN_LAST_MS(atomic_load_explicit(word, memory_order_relaxed));

	RHC_FI("host.pin");
	atomic_store(word, rhc_max_u64(last, now_ms) << 1 | 1);
}

static void unpin(const struct rhc_segment *seg, uint32_t u, uint32_t worker, uint64_t now_ms)
{
	_Atomic uint64_t *word = pin_of(seg, u, worker);
	uint64_t last = RHC_PIN_LAST_MS(atomic_load_explicit(word, memory_order_relaxed));

	RHC_FI("host.unpin");
	/* Release: what the holder stored into the record is there before it may go. */
	atomic_store_explicit(word, rhc_max_u64(last, now_ms) << 1, memory_order_release);
}

/* In use as of some load with this gen?  Whoever is about to take it away is told not to. */
static bool stays(const struct rhc_segment *seg, uint32_t u, uint32_t gen)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t id = rhc_load(id_of(seg, u));

		if (RHC_ID_GEN(id) != gen || !in_use(id))
			return false;
		if (RHC_ID_STATE(id) == RHC_UP_USED)
			return true;
		RHC_FI("host.keep");
		if (move(seg, u, id, id_word(gen, 0, RHC_UP_USED)))
			return true;
	}
	return false; /* so many evictors in a row: as if it were gone, the caller looks again */
}

bool rhc_host_pin(struct rhc_worker *w, const struct rhc_host_use *use, uint64_t now_ms)
{
	pin(w->seg, use->upstream, w->index, now_ms);
	if (stays(w->seg, use->upstream, use->gen))
		return true;
	unpin(w->seg, use->upstream, w->index, 0);
	return false;
}

void rhc_host_unpin(struct rhc_worker *w, const struct rhc_host_use *use, uint64_t now_ms)
{
	unpin(w->seg, use->upstream, w->index, now_ms);
}

bool rhc_host_keep(const struct rhc_segment *seg, uint32_t u)
{
	return rhc_seg_is_host(seg, u) && stays(seg, u, RHC_ID_GEN(rhc_load(id_of(seg, u))));
}

uint64_t rhc_host_used_ms(const struct rhc_segment *seg, uint32_t u)
{
	uint64_t last = 0;

	for (uint32_t w = 0; w < seg->hdr.max_workers; w++)
		last = rhc_max_u64(last, RHC_PIN_LAST_MS(rhc_load(pin_of(seg, u, w))));
	return last;
}

static bool pinned(const struct rhc_segment *seg, uint32_t u)
{
	for (uint32_t w = 0; w < seg->hdr.max_workers; w++) {
		if (RHC_PIN_USED(rhc_load(pin_of(seg, u, w))))
			return true;
	}
	return false;
}

/* ---- the publication ---- */

static uint64_t pub_word(uint32_t u, uint32_t gen, uint32_t owner)
{
	return (uint64_t)gen << 32 | rhc_field(owner, 16, 16) | rhc_field(u + 1, 0, 16);
}

/* What was published is in use; its claimer may be dead or asleep. */
static void finish(const struct rhc_segment *seg, uint64_t pub)
{
	uint32_t u = (uint32_t)rhc_bits(pub, 0, 16) - 1, gen = RHC_ID_GEN(pub);

	if (!rhc_seg_is_host(seg, u))
		return; /* nothing was ever published */
	RHC_FI("host.finish");
	/* The exact word: each (record, gen) is published once, so an old pub changes nothing. */
	if (rhc_load(id_of(seg, u)) == id_word(gen, RHC_ID_OWNER(pub), RHC_UP_MAKING))
		move(seg, u, id_word(gen, RHC_ID_OWNER(pub), RHC_UP_MAKING),
		     id_word(gen, 0, RHC_UP_USED));
}

/* ---- looking ---- */

static void make_key(const char *text, struct key *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->text, text, strnlen(text, RHC_HOST_MAX));
	ret->hash = rhc_hash(RHC_HASH_SEED, text, strlen(text));
}

static bool same_text(const struct rhc_host *h, const struct key *key)
{
	/* Acquire: who sees a word of a later host sees its MAKING in id afterwards. */
	if (atomic_load_explicit(&h->hash, memory_order_acquire) != key->hash)
		return false;
	for (unsigned i = 0; i < TEXT_WORDS; i++) {
		if (atomic_load_explicit(&h->text[i], memory_order_acquire) != key->text[i])
			return false;
	}
	return true;
}

/* The host's record in use, its gen in *ret_gen; NONE, BUSY. */
static uint32_t look(const struct rhc_segment *seg, const struct key *key, uint32_t *ret_gen)
{
	for (uint32_t u = rhc_seg_hosts_from(seg); u < seg->hdr.max_upstreams; u++) {
		/*
		 * Not what we look for, or not in use, at the first load: then it is not there, for
		 * becoming it takes a publication.
		 */
		uint64_t id = rhc_load(id_of(seg, u));

		if (!in_use(id) || !same_text(rhc_seg_host(seg, u), key))
			continue;
		*ret_gen = RHC_ID_GEN(id);
		if (stays(seg, u, RHC_ID_GEN(id)))
			return u;
		id = rhc_load(id_of(seg, u));
		if (in_use(id) && RHC_ID_GEN(id) == *ret_gen)
			return BUSY;
	}
	return NONE;
}

/* ---- giving way ---- */

static bool holds_something(const struct rhc_segment *seg, uint32_t u)
{
	const struct rhc_up *up = rhc_seg_up(seg, u);
	uint64_t held = rhc_load(&up->waitmask) | rhc_load(&up->limit_ovr);

	for (uint32_t k = 0; k < RHC_PROBES_MAX; k++)
		held |= rhc_load(&up->permit[k]);
	return held || rhc_bulkhead_in_use(seg, u);
}

/* Nothing of its past would be missed. */
static bool forgettable(const struct rhc_segment *seg, uint32_t u, uint64_t ttl_ms, uint64_t now_ms)
{
	const struct rhc_up *up = rhc_seg_up(seg, u);
	struct rhc_breaker b = rhc_breaker_unpack(rhc_load(&up->brk), NULL);
	uint64_t last = rhc_max_u64(rhc_host_used_ms(seg, u), rhc_load(&rhc_seg_host(seg, u)->since_ms));
	uint64_t quiet = now_ms > last ? now_ms - last : 0;
	struct rhc_policy policy;

	if (b.state == RHC_BRK_ISOLATED || b.state == RHC_BRK_DISABLED)
		return false; /* an operator's word */
	rhc_policy_load(up, &policy);
	if (b.state == RHC_BRK_CLOSED && b.failures == 0)
		return quiet >= policy.window_ms;
	return quiet >= rhc_max_u64(ttl_ms, policy.window_ms) &&
	       (b.state != RHC_BRK_OPEN || now_ms >= b.retry_at_ms);
}

static bool may_go(const struct rhc_segment *seg, uint32_t u, uint64_t ttl_ms, uint64_t now_ms)
{
	return !pinned(seg, u) && !holds_something(seg, u) && forgettable(seg, u, ttl_ms, now_ms);
}

/* The one used least recently that may go and was not tried yet; NONE. */
static uint32_t least_recent(const struct rhc_segment *seg, const uint8_t *tried, uint64_t ttl_ms,
			     uint64_t now_ms)
{
	uint32_t from = rhc_seg_hosts_from(seg), best = NONE;
	uint64_t oldest = UINT64_MAX;

	for (uint32_t u = from; u < seg->hdr.max_upstreams; u++) {
		uint64_t last;

		if (tried[(u - from) / 8] >> (u - from) % 8 & 1 ||
		    RHC_ID_STATE(rhc_load(id_of(seg, u))) != RHC_UP_USED)
			continue;
		last = rhc_host_used_ms(seg, u);
		if (last < oldest && may_go(seg, u, ttl_ms, now_ms)) {
			oldest = last;
			best = u;
		}
	}
	return best;
}

/* Say that it leaves, then look: whoever comes after that takes it back. */
static bool evict(struct rhc_worker *w, uint32_t u, uint64_t ttl_ms, uint64_t now_ms)
{
	uint64_t id = rhc_load(id_of(w->seg, u)), leaving;
	uint32_t gen = RHC_ID_GEN(id);

	leaving = id_word(gen, w->index + 1, RHC_UP_LEAVING);
	RHC_FI("host.leave");
	if (RHC_ID_STATE(id) != RHC_UP_USED || !move(w->seg, u, id, leaving))
		return false;
	RHC_FI("host.leaving");
	/* ADMIN last: who takes it after this look finds LEAVING, and takes it back (rhc_host_keep). */
	if (may_go(w->seg, u, ttl_ms, now_ms) && rhc_lock_held(w->lock_fd, RHC_BYTE_ADMIN) == 0 &&
	    move(w->seg, u, leaving, id_word(gen + 1, w->index + 1, RHC_UP_MAKING)))
		return true;
	RHC_FI("host.stay");
	move(w->seg, u, leaving, id_word(gen, 0, RHC_UP_USED));
	return false;
}

static void tell(struct rhc_worker *w, enum rhc_event_type type, uint32_t u, const char *text,
		 uint64_t a, uint64_t now_ms)
{
	rhc_event_put(&w->ring, type, u, now_ms, (uint64_t[5]){ a });
	rhc_event_text(&w->ring, text, now_ms);
}

static uint32_t evict_one(struct rhc_worker *w, uint64_t ttl_ms, uint64_t now_ms)
{
	uint8_t tried[RHC_UPSTREAMS_MAX / 8] = { 0 };
	uint32_t from = rhc_seg_hosts_from(w->seg), u;

	while ((u = least_recent(w->seg, tried, ttl_ms, now_ms)) != NONE) {
		if (evict(w, u, ttl_ms, now_ms)) {
			char name[RHC_NAME_MAX + 1];

			rhc_upstream_name(w->seg, u, name); /* ours alone now, and still the old one */
			tell(w, RHC_EV_host_evicted, u, name, rhc_host_used_ms(w->seg, u), now_ms);
			return u;
		}
		tried[(u - from) / 8] |= (uint8_t)(1U << (u - from) % 8);
	}
	return NONE;
}

/* ---- making ---- */

static uint32_t take_free(struct rhc_worker *w)
{
	for (uint32_t u = rhc_seg_hosts_from(w->seg); u < w->seg->hdr.max_upstreams; u++) {
		uint64_t id = rhc_load(id_of(w->seg, u));

		RHC_FI("host.take");
		if (RHC_ID_STATE(id) == RHC_UP_FREE &&
		    move(w->seg, u, id, id_word(RHC_ID_GEN(id) + 1, w->index + 1, RHC_UP_MAKING)))
			return u;
	}
	return NONE;
}

/* A reconcile of the old host that is still on its way must fail on the epoch. */
static void next_epoch(struct rhc_up *up)
{
	uint64_t ctl = rhc_load(&up->ctl);

	for (unsigned round = 0; round < ROUNDS; round++) {
		if (atomic_compare_exchange_strong(&up->ctl, &ctl, ctl + (UINT64_C(1) << 40)))
			return;
	}
}

/* The record is MAKING and ours: nobody finds it, nobody uses it. */
static void fill(struct rhc_worker *w, uint32_t u, const struct rhc_host_wish *wish,
		 const struct key *key, uint64_t now_ms, uint64_t *wake)
{
	struct rhc_host *h = rhc_seg_host(w->seg, u);
	struct rhc_up *up = rhc_seg_up(w->seg, u);
	const struct rhc_hdr *hdr = rhc_seg_hdr(w->seg);
	uint64_t policy[6];

	rhc_upstream_begin(w->seg, u, wish->name);
	atomic_store(&h->since_ms, now_ms);
	/* Release: see same_text(). */
	atomic_store_explicit(&h->hash, key->hash, memory_order_release);
	for (unsigned i = 0; i < TEXT_WORDS; i++)
		atomic_store_explicit(&h->text[i], key->text[i], memory_order_release);
	for (unsigned i = 0; i < RHC_COUNT(policy); i++)
		policy[i] = rhc_load(&hdr->host_policy[i]);
	rhc_policy_put(up->policy, policy);
	next_epoch(up);
	rhc_bulkhead_reconcile(w->seg, u, now_ms, NULL, wake);
	pin(w->seg, u, w->index, now_ms); /* before it can be found: it must not go again at once */
}

static void drop(struct rhc_worker *w, uint32_t u)
{
	uint64_t id = rhc_load(id_of(w->seg, u));

	unpin(w->seg, u, w->index, 0);
	RHC_FI("host.drop");
	move(w->seg, u, id, id_word(RHC_ID_GEN(id), 0, RHC_UP_FREE));
}

static bool publish(struct rhc_worker *w, uint32_t u, uint64_t seen)
{
	uint64_t pub = pub_word(u, RHC_ID_GEN(rhc_load(id_of(w->seg, u))), w->index + 1);

	RHC_FI("host.publish");
	if (!atomic_compare_exchange_strong(&rhc_seg_hdr(w->seg)->host_pub, &seen, pub))
		return false;
	RHC_FI("host.published");
	finish(w->seg, pub);
	return true;
}

/* ---- the interface ---- */

static int check(const struct rhc_worker *w, const struct rhc_host_wish *wish)
{
	if (strnlen(wish->text, RHC_HOST_MAX + 1) > RHC_HOST_MAX)
		return -ENAMETOOLONG;
	if (w->seg->hdr.max_hosts == 0)
		return -ENOSPC;
	return rhc_upstream_check_name(wish->name);
}

int rhc_host_claim(struct rhc_worker *w, const struct rhc_host_wish *wish, uint64_t now_ms,
                   struct rhc_host_use *ret, bool *ret_made, uint64_t *wake)
{
	uint32_t mine = NONE, gen = 0;
	int rc = check(w, wish);
	struct key key;

	if (rc)
		return rc;
	make_key(wish->text, &key);
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t pub = rhc_load(&rhc_seg_hdr(w->seg)->host_pub);
		struct rhc_host_use use;

		finish(w->seg, pub); /* before we look: it may be what we look for */
		use.upstream = look(w->seg, &key, &gen);
		use.gen = gen;
		if (use.upstream == BUSY)
			continue;
		if (use.upstream != NONE) {
			if (!rhc_host_pin(w, &use, now_ms))
				continue;
			if (mine != NONE)
				drop(w, mine);
			*ret = use;
			*ret_made = false;
			return 0;
		}
		if (mine == NONE) {
			mine = take_free(w);
			if (mine == NONE)
				mine = evict_one(w, wish->ttl_ms, now_ms);
			if (mine == NONE)
				return -ENOSPC;
			fill(w, mine, wish, &key, now_ms, wake);
			continue; /* that took a while: look again */
		}
		if (!publish(w, mine, pub))
			continue;
		*ret = (struct rhc_host_use){ mine, RHC_ID_GEN(rhc_load(id_of(w->seg, mine))) };
		*ret_made = true;
		tell(w, RHC_EV_host_claimed, mine, wish->name, 0, now_ms);
		return 0;
	}
	if (mine != NONE)
		drop(w, mine);
	return -EAGAIN;
}

static void follow(struct rhc_segment *seg, uint32_t u)
{
	const struct rhc_hdr *hdr = rhc_seg_hdr(seg);
	uint64_t policy[6];

	for (unsigned i = 0; i < RHC_COUNT(policy); i++)
		policy[i] = rhc_load(&hdr->host_policy[i]);
	rhc_policy_put(rhc_seg_up(seg, u)->policy, policy);
}

/*
 * Into records that are just made or leave, too: every host has the same policy.  A claimer that read
 * the old one stores it after us; the next tick of any worker puts that right.
 */
void rhc_host_policy(struct rhc_segment *seg, const struct rhc_policy *policy, uint64_t now_ms,
                     uint64_t *wake)
{
	uint64_t words[6];

	rhc_policy_pack(policy, words);
	rhc_policy_put(rhc_seg_hdr(seg)->host_policy, words);
	for (uint32_t u = rhc_seg_hosts_from(seg); u < seg->hdr.max_upstreams; u++) {
		if (rhc_upstream_state(seg, u) != RHC_UP_USED)
			continue;
		follow(seg, u);
		rhc_bulkhead_reconcile(seg, u, now_ms, NULL, wake);
	}
}

void rhc_host_tick(struct rhc_worker *w, uint64_t now_ms, uint64_t *wake)
{
	for (uint32_t u = rhc_seg_hosts_from(w->seg); u < w->seg->hdr.max_upstreams; u++) {
		uint64_t id = rhc_load(id_of(w->seg, u));
		struct rhc_host_use use = { u, RHC_ID_GEN(id) };
		bool had = RHC_PIN_USED(rhc_load(pin_of(w->seg, u, w->index)));
		struct rhc_breaker_ref brk;

		if (RHC_ID_STATE(id) != RHC_UP_USED || (!had && !rhc_host_pin(w, &use, 0)))
			continue;
		follow(w->seg, u);
		rhc_breaker_init(&brk, w, u);
		rhc_breaker_tick(&brk, now_ms);
		rhc_bulkhead_reconcile(w->seg, u, now_ms, &w->ring, wake);
		if (!had)
			rhc_host_unpin(w, &use, 0);
	}
}

/* ---- taking back ---- */

bool rhc_host_pin_dead(struct rhc_segment *seg, uint32_t u, uint32_t index)
{
	uint64_t id;

	pin(seg, u, index, 0);
	id = rhc_load(id_of(seg, u));
	/* MAKING: its owner has cleared the rows or will; FREE: they were cleared, or are before use. */
	return in_use(id) && stays(seg, u, RHC_ID_GEN(id));
}

void rhc_host_reap(struct rhc_segment *seg, uint32_t index)
{
	finish(seg, rhc_load(&rhc_seg_hdr(seg)->host_pub));
	for (uint32_t u = rhc_seg_hosts_from(seg); u < seg->hdr.max_upstreams; u++) {
		uint64_t id = rhc_load(id_of(seg, u));
		uint32_t gen = RHC_ID_GEN(id);

		RHC_FI("reap.host");
		if (RHC_ID_OWNER(id) == index + 1 && RHC_ID_STATE(id) == RHC_UP_MAKING)
			move(seg, u, id, id_word(gen, 0, RHC_UP_FREE));
		if (RHC_ID_OWNER(id) == index + 1 && RHC_ID_STATE(id) == RHC_UP_LEAVING)
			move(seg, u, id, id_word(gen, 0, RHC_UP_USED));
		if (RHC_PIN_USED(rhc_load(pin_of(seg, u, index))))
			unpin(seg, u, index, 0);
	}
}
