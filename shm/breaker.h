/*
 * shm/breaker.h - circuit breaker of one upstream, shared by every worker.
 *
 * Shape    one word `state:3 | gen:20 | arg:41` (rhc_up.brk) decides; each transition is one
 *          compare-exchange of it and adds 1 to the generation.  Words beside it (outage, trip,
 *          last failure) are valid only for the generation they name, so a lost one misleads
 *          nobody.
 * Policy   rhc_breaker_next(): pure, a value in and a value out.  The rest is a rim of atomics.
 * Writers  any worker of any process; rhcctl through shm/admin.h.
 * Healthy  admit is one load, a success stores nothing (with a window: one own word).
 * Stale    a result counts only in the generation it was admitted under.
 * Probes   half_open_max owner words with a lease; a dead owner's is taken back by the reaper, a
 *          silent owner's by whoever asks after the lease, an abandoned one at once.  None needs a
 *          verdict.
 * Windows  per-worker buckets, summed only when a failure (or a slow call) arrives.
 * Order    brk and permits seq_cst: permit CAS / re-read of brk against brk CAS / look at permits
 *          is a Dekker pair.  Window words relaxed, but seq_cst where a failure stores and then
 *          sums: of two last failures at once at least one sees both.
 * Never    allocates, blocks, logs, reads a clock.
 */
#ifndef RHC_SHM_BREAKER_H
#define RHC_SHM_BREAKER_H

#include "shm/counters.h"
#include "shm/upstream.h"

enum rhc_breaker_state {
	RHC_BRK_CLOSED,
	RHC_BRK_OPEN,
	RHC_BRK_HALF_OPEN,
	RHC_BRK_ISOLATED, /* forced open, by hand, with or without an end */
	RHC_BRK_DISABLED, /* forced closed, by hand: never trips, still counts */
	RHC_BRK_STATES
};

enum rhc_trip { /* why it opened */
		RHC_TRIP_NONE,
		RHC_TRIP_CONSECUTIVE,
		RHC_TRIP_FAILURE_RATE,
		RHC_TRIP_SLOW_RATE,
		RHC_TRIP_PROBE,
		RHC_TRIP_MANUAL,
		RHC_TRIP_COUNT
};

/* The word, unpacked. */
struct rhc_breaker {
	enum rhc_breaker_state state;
	uint32_t gen;         /* 20 bits */
	uint32_t failures;    /* CLOSED: consecutive, 10 bits */
	uint32_t closed_at;   /* CLOSED: when, in units of 128 ms, 31 bits, rounded up */
	uint64_t retry_at_ms; /* OPEN */
	uint32_t successes;   /* HALF_OPEN, 8 bits */
	uint64_t entered_ms;  /* HALF_OPEN: since when, to 64 ms */
	uint64_t until_ms;    /* ISOLATED, DISABLED: 0 = until changed by hand */
};

uint64_t rhc_breaker_pack(const struct rhc_breaker *b);
/*
 * Total: any word gives some breaker; a state that cannot be reads as CLOSED and *ret_bad is set.
 */
struct rhc_breaker rhc_breaker_unpack(uint64_t word, bool *ret_bad);

enum rhc_breaker_input {
	RHC_BRK_IN_TICK,    /* time alone: OPEN whose time is over, overrides that ended */
	RHC_BRK_IN_OK,      /* outcomes, only if in.gen is the current one */
	RHC_BRK_IN_FAIL,
	RHC_BRK_IN_SLOW,
	RHC_BRK_IN_OPEN,    /* by hand: trip now, recover as usual */
	RHC_BRK_IN_CLOSE,
	RHC_BRK_IN_ISOLATE,
	RHC_BRK_IN_DISABLE,
	RHC_BRK_IN_ENABLE,  /* ends DISABLED and ISOLATED */
};

struct rhc_window { /* sums of a window */
	uint64_t total, fail;           /* failure rate */
	uint64_t slow_total, slow;      /* slow calls */
};

struct rhc_breaker_in {
	enum rhc_breaker_input what;
	uint32_t gen;             /* outcome: the generation it was admitted under */
	uint64_t now_ms;
	uint64_t until_ms;        /* ISOLATE, DISABLE */
	uint32_t reopens;         /* of this outage so far, for the open time */
	uint32_t random;          /* any bits, for the jitter */
	struct rhc_window window; /* for FAIL and SLOW */
};

/*
 * The policy, pure: where the breaker goes.  An equal value means nothing to store.  A result of
 * another generation changes nothing.  *ret_trip says why it opened, RHC_TRIP_NONE if it did not.
 */
struct rhc_breaker rhc_breaker_next(struct rhc_breaker b, const struct rhc_policy *policy,
                                    const struct rhc_breaker_in *in, enum rhc_trip *ret_trip);

/* How long an OPEN lasts after `reopens` re-opens. */
uint64_t rhc_breaker_open_ms(const struct rhc_policy *policy, uint32_t reopens, uint32_t random);

/* The own window buckets of this instant, so that a success need not look for them; private. */
struct rhc_bucket {
	uint64_t from_ms, len_ms; /* 0: none known */
	uint64_t policy[2];       /* rhc_up.policy[2], [3] it was made for */
	uint64_t epoch;           /* as in its words */
	_Atomic uint64_t *rate, *slow; /* NULL: not kept */
};

/* What one worker needs for one upstream; private. */
struct rhc_breaker_ref {
	struct rhc_worker *w;
	struct rhc_up *up;
	uint32_t upstream;
	_Atomic uint64_t *ctr;
	struct rhc_win *win;  /* [max_workers] of this upstream */
	uint32_t random;      /* state of a small generator */
	struct rhc_bucket bucket;
};

void rhc_breaker_init(struct rhc_breaker_ref *b, struct rhc_worker *w, uint32_t upstream);

enum rhc_admit { RHC_ADMIT_PASS, RHC_ADMIT_PROBE, RHC_ADMIT_REFUSE };

enum rhc_permit_kind { RHC_PERMIT_NONE, RHC_PERMIT_PASS, RHC_PERMIT_PROBE };

/* What an admitted attempt carries.  {0} = none. */
struct rhc_permit {
	uint8_t kind;  /* enum rhc_permit_kind */
	uint8_t slot;  /* index of the permit word of a probe */
	uint32_t gen;
	uint64_t word; /* the permit word */
};

enum rhc_outcome {
	RHC_OUTCOME_OK,
	RHC_OUTCOME_FAIL,
	RHC_OUTCOME_SLOW, /* succeeded, but slower than slow_ms; without a slow-call rule the same as OK */
	RHC_OUTCOME_NONE, /* no verdict: given up by the caller, refused by ourselves */
};

struct rhc_refused { /* why, for the answer */
	enum rhc_breaker_state state;
	uint64_t retry_after_ms; /* >= 1; UINT64_MAX: isolated without an end */
};

/*
 * Ask to send one attempt.  Cannot fail.
 * Whoever gets PASS or PROBE owes exactly one rhc_breaker_record() with *ret_permit.  For REFUSE
 * the permit is {0}, *ret_refused is set, and there is nothing to record.
 */
static inline enum rhc_admit rhc_breaker_admit(struct rhc_breaker_ref *b, uint64_t now_ms,
					       struct rhc_permit *ret_permit,
					       struct rhc_refused *ret_refused);

/*
 * Ask again with a permit, after waiting for a slot: still good (a probe's lease starts anew),
 * exchanged for a new one, or refused.  The old permit is used up in every case.
 */
enum rhc_admit rhc_breaker_readmit(struct rhc_breaker_ref *b, uint64_t now_ms,
                                   struct rhc_permit *permit, struct rhc_refused *ret_refused);

/*
 * Report, and give the permit back.  It is none afterwards; none is fine and does nothing.
 * error    enum rhc_error of a failure, for people; 0 otherwise.
 * Returns  true if the result counted, false if there was none to count or it was stale.
 */
static inline bool rhc_breaker_record(struct rhc_breaker_ref *b, struct rhc_permit *permit,
				      enum rhc_outcome outcome, unsigned error, uint64_t now_ms);

/* Ends an override that has expired, for upstreams nobody asks.  From any 1 s tick. */
void rhc_breaker_tick(struct rhc_breaker_ref *b, uint64_t now_ms);

/* Current state as admit would see it, without changing anything. */
enum rhc_breaker_state rhc_breaker_peek(const struct rhc_up *up);

const char *rhc_breaker_name(enum rhc_breaker_state state); /* "half_open" */
const char *rhc_trip_name(enum rhc_trip trip);              /* "failure_rate" */

/* Words beside the fact: rhc_up.outage and rhc_up.trip, made and read for one generation. */
struct rhc_outage {
	uint64_t since_ms; /* 0 = not known */
	uint32_t reopens;
};
/* Outage the breaker value b belongs to; derived from b where the word is missing. */
struct rhc_outage rhc_outage_of(const struct rhc_up *up, const struct rhc_breaker *b);
/* After a transition from -> to won by this process. */
void rhc_breaker_note(struct rhc_up *up, const struct rhc_breaker *from,
		      const struct rhc_breaker *to, enum rhc_trip trip,
		      const struct rhc_window *window, uint64_t now_ms);
struct rhc_trip_info {
	enum rhc_trip why;
	uint32_t failures, total;
};
struct rhc_trip_info rhc_trip_of(const struct rhc_up *up, uint32_t gen);

/* Permit word: gen:16 | lease end:24 (256 ms) | inc:14 | owner+1:10 */
#define RHC_PERMIT_OWNER(word) ((uint32_t)rhc_bits((word), 0, 10))
#define RHC_PERMIT_INC(word)   ((uint32_t)rhc_bits((word), 10, 14))
#define RHC_PERMIT_GEN(word)   ((uint32_t)rhc_bits((word), 48, 16))
/* ms until the lease ends, <= 0 if it has */
int64_t rhc_permit_left_ms(uint64_t word, uint64_t now_ms);

/* ---- the healthy path, in the caller's registers; everything else is in shm/breaker.c ---- */

enum rhc_admit rhc_breaker_admit_slow(struct rhc_breaker_ref *b, uint64_t now_ms,
				      struct rhc_permit *ret_permit,
				      struct rhc_refused *ret_refused);
bool rhc_breaker_record_slow(struct rhc_breaker_ref *b, struct rhc_permit *permit,
			     enum rhc_outcome outcome, unsigned error, uint64_t now_ms);

/* CLOSED: one load. */
rhc_inline enum rhc_admit rhc_breaker_admit(struct rhc_breaker_ref *b, uint64_t now_ms,
					    struct rhc_permit *ret_permit,
					    struct rhc_refused *ret_refused)
{
	uint64_t word = rhc_load(&b->up->brk);

	if (rhc_unlikely(word >> 61 != RHC_BRK_CLOSED))
		return rhc_breaker_admit_slow(b, now_ms, ret_permit, ret_refused);
	ret_permit->kind = RHC_PERMIT_PASS;
	ret_permit->gen = (uint32_t)rhc_bits(word, 41, 20);
	return RHC_ADMIT_PASS;
}

/*
 * One more success in a bucket `epoch:24 | total:20 | bad:20`.  False: another epoch, or it is full.
 * Relaxed: one writer, and only bad results are stored and then summed.
 */
rhc_inline bool rhc_bucket_has_room(const _Atomic uint64_t *bucket, uint64_t epoch)
{
	uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed);

	return word >> 40 == epoch && rhc_bits(word, 20, 20) < (1 << 20) - 1;
}

rhc_inline void rhc_bucket_inc(_Atomic uint64_t *bucket)
{
	uint64_t word = atomic_load_explicit(bucket, memory_order_relaxed);

	atomic_store_explicit(bucket, word + (1 << 20), memory_order_relaxed);
}

/* False: not this bucket, or not this policy any more; then rhc_breaker_record_slow() counts. */
rhc_inline bool rhc_bucket_count(struct rhc_breaker_ref *b, uint64_t now_ms)
{
	const struct rhc_bucket *k = &b->bucket;
	const _Atomic uint64_t *policy = b->up->policy;

	if (now_ms - k->from_ms >= k->len_ms || rhc_load(&policy[2]) != k->policy[0] ||
	    rhc_load(&policy[3]) != k->policy[1] || rhc_policy_is_disabled(b->up) ||
	    (k->rate && !rhc_bucket_has_room(k->rate, k->epoch)) ||
	    (k->slow && !rhc_bucket_has_room(k->slow, k->epoch)))
		return false;
	if (k->rate)
		rhc_bucket_inc(k->rate);
	if (k->slow)
		rhc_bucket_inc(k->slow);
	return true;
}

/*
 * A success while CLOSED in the generation it was admitted under, no failures in a row before it: a
 * few loads, and with a window one private word to store.
 */
rhc_inline bool rhc_breaker_record(struct rhc_breaker_ref *b, struct rhc_permit *permit,
				   enum rhc_outcome outcome, unsigned error, uint64_t now_ms)
{
	struct rhc_up *up = b->up;

	if (rhc_unlikely(outcome != RHC_OUTCOME_OK || permit->kind != RHC_PERMIT_PASS ||
			 rhc_load(&up->brk) >> 31 != (uint64_t)permit->gen << 10 ||
			 (rhc_policy_has_window(up) && !rhc_bucket_count(b, now_ms))))
		return rhc_breaker_record_slow(b, permit, outcome, error, now_ms);
	permit->kind = RHC_PERMIT_NONE;
	return true;
}

#endif
