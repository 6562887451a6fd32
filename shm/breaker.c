/* The rim: atomics around rhc_breaker_next().  Orders are argued in shm/breaker.h. */
#include "shm/breaker.h"

#include <assert.h>
#include <string.h>

#include "shm/window.h"

#define ROUNDS     64 /* of a CAS loop: each lost round is somebody else's step forward */
#define LEASE_UNIT 256
#define LEASE_MASK ((UINT64_C(1) << 24) - 1)
#define HALF_OPEN_RETRY_MS 1000 /* when all probes are out: a verdict may come any moment */

static uint64_t load(const struct rhc_up *up)
{
	/* seq_cst, a plain load on x86: admit's one shared access */
	return atomic_load_explicit(&up->brk, memory_order_seq_cst);
}

void rhc_breaker_init(struct rhc_breaker_ref *b, struct rhc_worker *w, uint32_t upstream)
{
	b->w = w;
	b->up = rhc_seg_up(w->seg, upstream);
	b->upstream = upstream;
	b->ctr = rhc_seg_ctr(w->seg, w->index, upstream);
	b->win = rhc_seg_win(w->seg, upstream, 0);
	b->random =
		(w->index + 1) * UINT32_C(0x9e3779b9) ^ w->inc * UINT32_C(0x85ebca6b) ^ upstream;
	b->random |= 1; /* xorshift must not be 0 */
}

static uint32_t next_random(struct rhc_breaker_ref *b)
{
	b->random ^= b->random << 13;
	b->random ^= b->random >> 17;
	b->random ^= b->random << 5;
	return b->random;
}

/* ---- the words beside the fact ---- */

/* outage since_ms:41 (bit 23) | gen:20 (bit 3) | reopens:3 */
static uint64_t outage_word(uint64_t since_ms, uint32_t gen, uint32_t reopens)
{
	return rhc_field(since_ms, 23, 41) | rhc_field(gen, 3, 20) |
	       rhc_field(rhc_min_u64(reopens, 7), 0, 3);
}

struct rhc_outage rhc_outage_of(const struct rhc_up *up, const struct rhc_breaker *b)
{
	uint64_t word = atomic_load_explicit(&up->outage, memory_order_seq_cst);
	/* It names the generation of the OPEN it belongs to; HALF_OPEN is the one after. */
	uint32_t gen = b->state == RHC_BRK_HALF_OPEN ? b->gen - 1 : b->gen;

	if (b->state == RHC_BRK_CLOSED)
		return (struct rhc_outage){ 0 };
	if (word && rhc_bits(word, 3, 20) == rhc_bits(gen, 0, 20))
		return (struct rhc_outage){ rhc_bits(word, 23, 41),
					    (uint32_t)rhc_bits(word, 0, 3) };
	/* Its opener died between the two words: half-open since is the best that is left. */
	return (struct rhc_outage){ b->entered_ms, 0 };
}

struct rhc_trip_info rhc_trip_of(const struct rhc_up *up, uint32_t gen)
{
	uint64_t word = atomic_load_explicit(&up->trip, memory_order_seq_cst);
	uint64_t why = rhc_bits(word, 40, 4);

	if (rhc_bits(word, 44, 20) != rhc_bits(gen, 0, 20) || why >= RHC_TRIP_COUNT)
		return (struct rhc_trip_info){ 0 };
	return (struct rhc_trip_info){ (enum rhc_trip)why, (uint32_t)rhc_bits(word, 20, 20),
		                       (uint32_t)rhc_bits(word, 0, 20) };
}

static uint64_t count20(uint64_t n)
{
	return rhc_min_u64(n, (1 << 20) - 1);
}

/* In breaker's terms: what was counted when it tripped. */
static void tripped_by(const struct rhc_breaker *from, enum rhc_trip trip,
		       const struct rhc_window *w, uint64_t *failures, uint64_t *total)
{
	*failures = trip == RHC_TRIP_CONSECUTIVE ? from->failures + 1 : trip == RHC_TRIP_PROBE;
	*total = *failures;
	if (trip == RHC_TRIP_FAILURE_RATE) {
		*failures = w->fail;
		*total = w->total;
	} else if (trip == RHC_TRIP_SLOW_RATE) {
		*failures = w->slow;
		*total = w->slow_total;
	}
}

void rhc_breaker_note(struct rhc_up *up, const struct rhc_breaker *from,
		      const struct rhc_breaker *to, enum rhc_trip trip,
		      const struct rhc_window *window, uint64_t now_ms)
{
	struct rhc_outage outage = rhc_outage_of(up, from);
	uint64_t failures, total;

	if (to->state == RHC_BRK_CLOSED || to->state == RHC_BRK_HALF_OPEN)
		return; /* nothing to say: the old words name another generation */
	if (from->state == RHC_BRK_CLOSED || from->state == RHC_BRK_DISABLED ||
	    to->state == RHC_BRK_DISABLED || outage.since_ms == 0)
		outage.since_ms = now_ms;
	if (from->state == RHC_BRK_HALF_OPEN && to->state == RHC_BRK_OPEN)
		outage.reopens++;
	RHC_FI("breaker.outage");
	atomic_store(&up->outage, outage_word(outage.since_ms, to->gen, outage.reopens));
	tripped_by(from, trip, window, &failures, &total);
	RHC_FI("breaker.trip");
	atomic_store(&up->trip, rhc_field(to->gen, 44, 20) | rhc_field((uint64_t)trip, 40, 4) |
	                                rhc_field(count20(failures), 20, 20) |
	                                rhc_field(count20(total), 0, 20));
}

/* ---- transitions ---- */

static int transition_counter(enum rhc_breaker_state from, enum rhc_breaker_state to)
{
	if (from == RHC_BRK_CLOSED && to == RHC_BRK_OPEN)
		return RHC_CTR_brk_closed_open;
	if (from == RHC_BRK_OPEN && to == RHC_BRK_HALF_OPEN)
		return RHC_CTR_brk_open_half;
	if (from == RHC_BRK_HALF_OPEN && to == RHC_BRK_OPEN)
		return RHC_CTR_brk_half_open;
	if (from == RHC_BRK_HALF_OPEN && to == RHC_BRK_CLOSED)
		return RHC_CTR_brk_half_closed;
	return RHC_CTR_brk_to_closed; /* an override that ended */
}

static enum rhc_event_type transition_event(enum rhc_breaker_state from, enum rhc_breaker_state to)
{
	if (to == RHC_BRK_OPEN)
		return RHC_EV_brk_open;
	if (to == RHC_BRK_HALF_OPEN)
		return RHC_EV_brk_half_open;
	return from == RHC_BRK_HALF_OPEN ? RHC_EV_brk_closed : RHC_EV_override_ended;
}

/* After a CAS that this worker won. */
static void announce(struct rhc_breaker_ref *b, uint64_t old_word, uint64_t new_word,
                     enum rhc_trip trip, const struct rhc_breaker_in *in, unsigned error)
{
	struct rhc_breaker from = rhc_breaker_unpack(old_word, NULL);
	struct rhc_breaker to = rhc_breaker_unpack(new_word, NULL);
	uint64_t failures, total;

	if (from.gen == to.gen)
		return; /* a count, no change of state */
	rhc_breaker_note(b->up, &from, &to, trip, &in->window, in->now_ms);
	rhc_ctr_inc(b->ctr, (unsigned)transition_counter(from.state, to.state));
	tripped_by(&from, trip, &in->window, &failures, &total);
	rhc_event_put(&b->w->ring, transition_event(from.state, to.state), b->upstream, in->now_ms,
	              (uint64_t[5]){ old_word, new_word, (uint64_t)trip,
	                             count20(failures) << 32 | count20(total), error });
}

static uint32_t reopens_of(const struct rhc_breaker_ref *b, const struct rhc_breaker *brk)
{
	return brk->state == RHC_BRK_HALF_OPEN ? rhc_outage_of(b->up, brk).reopens : 0;
}

/*
 * Run one input through the policy and the word.  True if it was of the current generation at the
 * instant that counted.  *word is what was found last.
 */
static bool apply(struct rhc_breaker_ref *b, struct rhc_breaker_in *in, unsigned error)
{
	bool result = in->what != RHC_BRK_IN_TICK;
	uint64_t old = load(b->up), new;
	struct rhc_breaker brk, next;
	struct rhc_policy policy;
	enum rhc_trip trip;

	rhc_policy_load(b->up, &policy);
	in->random = policy.jitter_permille ? next_random(b) : 0;
	for (unsigned round = 0; round < ROUNDS; round++) {
		brk = rhc_breaker_unpack(old, NULL);
		if (result && brk.gen != in->gen)
			return false;
		if (brk.state == RHC_BRK_CLOSED &&
		    (in->what == RHC_BRK_IN_FAIL || in->what == RHC_BRK_IN_SLOW))
			rhc_window_sum(b->win, b->w->seg->hdr.max_workers, &policy, &brk,
				       in->now_ms, &in->window);
		in->reopens = reopens_of(b, &brk);
		next = rhc_breaker_next(brk, &policy, in, &trip);
		new = rhc_breaker_pack(&next);
		if (new == old)
			return true;
		RHC_FI("breaker.cas");
		/* seq_cst both ways: the pair of the permit CAS and of the window stores */
		if (atomic_compare_exchange_strong(&b->up->brk, &old, new)) {
			RHC_FI("breaker.changed");
			announce(b, old, new, trip, in, error);
			return true;
		}
	}
	return true; /* so many others changed it meanwhile: the breaker is well informed */
}

static void pass_time(struct rhc_breaker_ref *b, uint64_t now_ms)
{
	struct rhc_breaker_in in = { .what = RHC_BRK_IN_TICK, .now_ms = now_ms };

	apply(b, &in, 0);
}

void rhc_breaker_tick(struct rhc_breaker_ref *b, uint64_t now_ms)
{
	struct rhc_breaker brk = rhc_breaker_unpack(load(b->up), NULL);

	/* OPEN is left to the first attempt: half-open without a probe says nothing. */
	if (brk.until_ms && now_ms >= brk.until_ms)
		pass_time(b, now_ms);
}

enum rhc_breaker_state rhc_breaker_peek(const struct rhc_up *up)
{
	return rhc_breaker_unpack(load(up), NULL).state;
}

/* ---- probes ---- */

/* gen:16 (bit 48) | lease end:24 (256 ms, bit 24) | inc:14 (bit 10) | owner+1:10 */
static uint64_t permit_word(const struct rhc_breaker_ref *b, uint32_t gen, uint64_t end_ms)
{
	return rhc_field(gen, 48, 16) | rhc_field(end_ms / LEASE_UNIT + 1, 24, 24) |
	       rhc_field(b->w->inc, 10, 14) | rhc_field(b->w->index + 1, 0, 10);
}

int64_t rhc_permit_left_ms(uint64_t word, uint64_t now_ms)
{
	uint64_t diff = (rhc_bits(word, 24, 24) - now_ms / LEASE_UNIT) & LEASE_MASK;
	/* signed: 24 days ahead or behind */
	int64_t units =
		diff > LEASE_MASK / 2 ? (int64_t)diff - (int64_t)LEASE_MASK - 1 : (int64_t)diff;

	return units * LEASE_UNIT - (int64_t)(now_ms % LEASE_UNIT);
}

static void drop_permit(struct rhc_breaker_ref *b, const struct rhc_permit *permit)
{
	uint64_t word = permit->word;

	if (permit->kind != RHC_PERMIT_PROBE)
		return;
	RHC_FI("permit.release");
	/* Fails if the lease ran out and somebody took it over: then it is not ours to free. */
	atomic_compare_exchange_strong(&b->up->permit[permit->slot & (RHC_PROBES_MAX - 1)], &word,
				       0);
}

static void corrupt(struct rhc_breaker_ref *b, uint64_t word, uint64_t what, uint32_t index,
                    uint64_t now_ms)
{
	rhc_ctr_inc(b->ctr, RHC_CTR_corrupt);
	rhc_event_put(&b->w->ring, RHC_EV_corrupt, b->upstream, now_ms,
	              (uint64_t[5]){ word, what, index });
}

/* Try permit k: free, or its lease is over.  Ours afterwards? */
static bool take_permit(struct rhc_breaker_ref *b, uint32_t k, uint64_t mine, uint64_t now_ms)
{
	uint64_t word = atomic_load_explicit(&b->up->permit[k], memory_order_seq_cst);
	uint64_t old = word;

	if (word && rhc_permit_left_ms(word, now_ms) > 0)
		return false;
	if (RHC_PERMIT_OWNER(word) > b->w->seg->hdr.max_workers)
		corrupt(b, word, 3, k, now_ms); /* its lease is over: it may be taken all the same */
	RHC_FI("permit.take");
	if (!atomic_compare_exchange_strong(&b->up->permit[k], &old, mine))
		return false;
	if (word) {
		rhc_ctr_inc(b->ctr, RHC_CTR_brk_probe_stolen);
		rhc_event_put(&b->w->ring, RHC_EV_brk_lease, b->upstream, now_ms,
		              (uint64_t[5]){ word, mine, k });
	}
	return true;
}

/*
 * The instant of admission of a probe: the breaker may have moved before our CAS, and if we were stopped
 * since, somebody may have taken the permit over.  The permit last: it counts the probes.
 */
static bool still_probe(const struct rhc_breaker_ref *b, const struct rhc_permit *permit)
{
	struct rhc_breaker brk = rhc_breaker_unpack(load(b->up), NULL);

	return brk.state == RHC_BRK_HALF_OPEN && brk.gen == permit->gen &&
	       rhc_load(&b->up->permit[permit->slot & (RHC_PROBES_MAX - 1)]) == permit->word;
}

/* PROBE, REFUSE (all out), or PASS for "the breaker moved on, look again". */
static enum rhc_admit take_probe(struct rhc_breaker_ref *b, uint32_t gen,
				 const struct rhc_policy *policy, uint64_t now_ms,
				 struct rhc_permit *ret)
{
	uint64_t mine = permit_word(b, gen, now_ms + policy->lease_ms);

	for (uint32_t k = 0; k < policy->half_open_max; k++) {
		if (!take_permit(b, k, mine, now_ms))
			continue;
		*ret = (struct rhc_permit){ RHC_PERMIT_PROBE, (uint8_t)k, gen, mine };
		RHC_FI("permit.taken");
		if (still_probe(b, ret))
			return RHC_ADMIT_PROBE;
		drop_permit(b, ret);
		*ret = (struct rhc_permit){ 0 };
		return RHC_ADMIT_PASS;
	}
	return RHC_ADMIT_REFUSE;
}

/* ---- admit ---- */

static enum rhc_admit refuse(struct rhc_breaker_ref *b, enum rhc_breaker_state state,
			     uint64_t after_ms, struct rhc_refused *ret)
{
	*ret = (struct rhc_refused){ state, rhc_max_u64(after_ms, 1) };
	rhc_ctr_inc(b->ctr, RHC_CTR_brk_rejected);
	return RHC_ADMIT_REFUSE;
}

static enum rhc_admit pass(uint32_t gen, struct rhc_permit *ret)
{
	*ret = (struct rhc_permit){ .kind = RHC_PERMIT_PASS, .gen = gen };
	return RHC_ADMIT_PASS;
}

/* Everything but CLOSED.  False: the breaker changed, look again. */
static bool admit_slow(struct rhc_breaker_ref *b, const struct rhc_breaker *brk, uint64_t now_ms,
                       struct rhc_permit *permit, struct rhc_refused *refused, enum rhc_admit *ret)
{
	struct rhc_policy policy;

	if (brk->until_ms && now_ms >= brk->until_ms) {
		pass_time(b, now_ms);
		return false;
	}
	rhc_policy_load(b->up, &policy);
	if (brk->state == RHC_BRK_ISOLATED) {
		*ret = refuse(b, brk->state, brk->until_ms ? brk->until_ms - now_ms : UINT64_MAX, refused);
	} else if (brk->state == RHC_BRK_DISABLED || policy.disabled) {
		*ret = pass(brk->gen, permit);
	} else if (brk->state == RHC_BRK_OPEN) {
		if (now_ms >= brk->retry_at_ms) {
			pass_time(b, now_ms);
			return false;
		}
		*ret = refuse(b, brk->state, brk->retry_at_ms - now_ms, refused);
	} else {
		*ret = take_probe(b, brk->gen, &policy, now_ms, permit);
		if (*ret == RHC_ADMIT_PASS)
			return false;
		if (*ret == RHC_ADMIT_REFUSE)
			refuse(b, brk->state, HALF_OPEN_RETRY_MS, refused);
		else
			rhc_ctr_inc(b->ctr, RHC_CTR_brk_probe_admitted);
	}
	return true;
}

enum rhc_admit rhc_breaker_admit_slow(struct rhc_breaker_ref *b, uint64_t now_ms,
				      struct rhc_permit *ret_permit,
				      struct rhc_refused *ret_refused)
{
	enum rhc_admit answer;

	*ret_permit = (struct rhc_permit){ 0 };
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t word = load(b->up);
		struct rhc_breaker brk;
		bool bad;

		if (word >> 61 == RHC_BRK_CLOSED)
			return pass((uint32_t)rhc_bits(word, 41, 20), ret_permit);
		brk = rhc_breaker_unpack(word, &bad);
		if (bad) { /* counted, not believed, not repaired: that is for rhcctl */
			corrupt(b, word, 1, 0, now_ms);
			return pass(brk.gen, ret_permit);
		}
		if (admit_slow(b, &brk, now_ms, ret_permit, ret_refused, &answer))
			return answer;
	}
	return refuse(b, RHC_BRK_HALF_OPEN, 1, ret_refused);
}

/* A probe that still is one: from now on its lease counts anew. */
static bool renew(struct rhc_breaker_ref *b, struct rhc_permit *permit, uint64_t now_ms)
{
	uint64_t old = permit->word, new;
	struct rhc_policy policy;

	rhc_policy_load(b->up, &policy);
	new = permit_word(b, permit->gen, now_ms + policy.lease_ms);
	RHC_FI("permit.renew");
	if (!atomic_compare_exchange_strong(&b->up->permit[permit->slot & (RHC_PROBES_MAX - 1)],
					    &old, new))
		return false;
	permit->word = new;
	return true;
}

enum rhc_admit rhc_breaker_readmit(struct rhc_breaker_ref *b, uint64_t now_ms,
                                   struct rhc_permit *permit, struct rhc_refused *ret_refused)
{
	struct rhc_breaker brk = rhc_breaker_unpack(load(b->up), NULL);
	struct rhc_permit old = *permit;

	assert(old.kind == RHC_PERMIT_PASS || old.kind == RHC_PERMIT_PROBE);
	if (old.kind == RHC_PERMIT_PASS && old.gen == brk.gen && brk.state == RHC_BRK_CLOSED)
		return RHC_ADMIT_PASS;
	if (old.kind == RHC_PERMIT_PROBE && renew(b, permit, now_ms)) {
		/* Look after the renewal: the same pair as in take_probe(). */
		RHC_FI("permit.renewed");
		if (still_probe(b, permit))
			return RHC_ADMIT_PROBE;
		drop_permit(b, permit);
	}
	return rhc_breaker_admit(b, now_ms, permit, ret_refused);
}

/* ---- record ---- */

static void count_probe(struct rhc_breaker_ref *b, enum rhc_outcome outcome)
{
	rhc_ctr_inc(b->ctr, outcome == RHC_OUTCOME_NONE   ? RHC_CTR_brk_probe_none
	                    : outcome == RHC_OUTCOME_FAIL ? RHC_CTR_brk_probe_fail
	                                                  : RHC_CTR_brk_probe_ok);
}

static bool verdict(struct rhc_breaker_ref *b, const struct rhc_permit *permit,
		    enum rhc_outcome outcome, unsigned error, uint64_t now_ms)
{
	uint64_t word = load(b->up);
	struct rhc_breaker brk = rhc_breaker_unpack(word, NULL);
	struct rhc_breaker_in in = { .gen = permit->gen, .now_ms = now_ms };
	struct rhc_policy policy;

	if (brk.gen != permit->gen)
		return false;
	rhc_policy_load(b->up, &policy);
	if (policy.disabled)
		return true;
	if (outcome == RHC_OUTCOME_FAIL)
		atomic_store(&b->up->last_failure, rhc_field(error, 56, 8) |
		                                           rhc_field(b->w->index, 48, 8) |
		                                           rhc_field(now_ms, 0, 48));
	if (brk.state != RHC_BRK_HALF_OPEN && policy.window_ms) {
		rhc_window_add(&b->win[b->w->index], &policy, outcome, now_ms);
		rhc_window_aim(&b->bucket, b->up, &b->win[b->w->index], now_ms);
	}
	if (brk.state == RHC_BRK_CLOSED && outcome == RHC_OUTCOME_OK && brk.failures == 0)
		return true; /* nothing shared is stored */
	in.what = outcome == RHC_OUTCOME_FAIL   ? RHC_BRK_IN_FAIL
	          : outcome == RHC_OUTCOME_SLOW ? RHC_BRK_IN_SLOW
	                                        : RHC_BRK_IN_OK;
	return apply(b, &in, error);
}

bool rhc_breaker_record_slow(struct rhc_breaker_ref *b, struct rhc_permit *permit,
			     enum rhc_outcome outcome, unsigned error, uint64_t now_ms)
{
	struct rhc_permit old = *permit;
	bool counted = false;

	*permit = (struct rhc_permit){ 0 };
	if (old.kind == RHC_PERMIT_NONE)
		return false;
	if (outcome != RHC_OUTCOME_NONE) {
		counted = verdict(b, &old, outcome, error, now_ms);
		if (!counted)
			rhc_ctr_inc(b->ctr, RHC_CTR_brk_stale);
	}
	if (old.kind == RHC_PERMIT_PROBE) {
		count_probe(b, outcome);
		/* After the verdict: a probe given back first could admit one probe too many. */
		drop_permit(b, &old);
	}
	return counted;
}
