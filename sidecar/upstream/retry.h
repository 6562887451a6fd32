/*
 * sidecar/upstream/retry.h - try again?  A pure decision, and the waits between attempts.
 *
 * Shape    struct retry_facts says what happened, retry_next() answers: value in, value out.  No
 *          clock, no socket, no allocation; random bits are given by the caller.
 * Order    Each reason has its place, so that the recorded reason is the most telling one: first
 *          what nobody could retry (caller gone, head already sent, our own refusal), then what the
 *          policy forbids (error, status), then safety (method, body), then means (attempts,
 *          draining, deadline, budget).
 * Safety   Nothing sent or surely not processed (RFC 9113 section 8.7, RFC 9110 section 9.2.2): any
 *          method.  Else a method of retry.methods, or Idempotency-Key.  A body that was sent on
 *                   and not kept ends it.
 * Replay   A message that met a reused connection which the peer had closed already is not the
 *          upstream's fault but the pool's guess: one free replay at once, not counted as an attempt.
 * Waits    full: min_wait .. next; equal: next/2 .. next, at least min_wait; none: exactly min_wait
 *          * m^(n-1); next = min_wait * multiplier^n, at most max_wait.  Retry-After (RFC 9110
 *          section 10.2.3) is a floor, clamped to max_wait, its jitter goes upward only.
 * Budget   struct retry_budget belongs to one upstream in one worker: the segment has no word for
 *          it, so each worker allows its share (min_per_second / workers) plus `ratio` of the first
 *          attempts it sees itself.
 */
#ifndef RHC_SIDECAR_UPSTREAM_RETRY_H
#define RHC_SIDECAR_UPSTREAM_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/http.h"
#include "shm/counters.h"
#include "sidecar/config/config.h"

/*
 * X(ID, "word of logs and metrics", counter of shm/counters.def).  YES and REPLAY are counted by
 * what failed, see retry_counter().
 */
#define RETRY_COUNT_NONE UINT32_MAX
/* clang-format off */
#define RETRY_VERDICTS(X) \
	X(YES,          "retry",          RETRY_COUNT_NONE) \
	X(REPLAY,       "replay",         RETRY_COUNT_NONE) \
	X(NOT_NEEDED,   "not_needed",     RETRY_COUNT_NONE) \
	X(CALLER_GONE,  "caller_gone",    RHC_CTR_skip_caller) \
	X(HEADERS_SENT, "headers_sent",   RHC_CTR_skip_headers_sent) \
	X(CIRCUIT_OPEN, "circuit_open",   RHC_CTR_skip_circuit) \
	X(REFUSAL,      "refusal",        RHC_CTR_skip_error) \
	X(ERROR,        "error",          RHC_CTR_skip_error) \
	X(STATUS,       "status",         RHC_CTR_skip_status) \
	X(METHOD,       "method",         RHC_CTR_skip_method) \
	X(BODY,         "body_too_large", RHC_CTR_skip_body) \
	X(DISABLED,     "disabled",       RHC_CTR_skip_attempts) \
	X(ATTEMPTS,     "attempts_used",  RHC_CTR_skip_attempts) \
	X(DRAINING,     "draining",       RHC_CTR_skip_draining) \
	X(DEADLINE,     "deadline",       RHC_CTR_skip_deadline) \
	X(BUDGET,       "budget",         RHC_CTR_skip_budget)
/* clang-format on */
enum retry_verdict {
#define X(ID, word, counter) RETRY_##ID,
	RETRY_VERDICTS(X)
#undef X
		RETRY_VERDICT_COUNT
};

/* What is known when an attempt has ended. */
struct retry_facts {
	enum rhc_error
		error; /* RHC_ERR_none: it succeeded; RHC_ERR_status: a whole head came, ->status */
	uint16_t status;
	uint8_t method;   /* enum http_method */
	bool permanent;   /* asking again gives the same answer (NXDOMAIN, a loop) */
	bool sent;        /* a byte of the request may have left this process */
	bool unprocessed; /* the peer has surely not acted on it (on_error) */
	bool refused;     /* ... because it said so: REFUSED_STREAM, GOAWAY */
	bool reused;      /* the connection had carried another message before */
	bool in_started;  /* a byte of the response came */
	bool replayed;    /* the free replay of this call is used up */
	bool body_kept;   /* no body, or all of it that was sent is in the replay buffer */
	bool idempotency_key;
	bool head_sent; /* the caller has begun to receive a response */
	bool caller_gone;
	bool draining;         /* the worker ends soon */
	uint32_t attempt;      /* this one: 1, 2 ... ; replays are not counted */
	uint32_t attempts_max; /* the caller's wish (x-rhc-max-attempts), 0: none; it only lowers */
	uint64_t retry_after_ns; /* RETRY_AFTER_NONE: none was sent */
	uint64_t now_ns;
	uint64_t deadline_ns; /* of the whole call, 0: none */
	uint64_t random;
};

#define RETRY_AFTER_NONE UINT64_MAX

struct retry_decision {
	enum retry_verdict verdict;
	uint64_t wait_ns; /* with RETRY_YES: how long to hold nothing before the next attempt */
};

/* Everything but the budget. */
struct retry_decision retry_next(const struct config_retry *rule, const struct retry_facts *f);

/* The wait before attempt number attempt + 1. */
uint64_t retry_wait_ns(const struct config_retry *rule, uint32_t attempt, uint64_t retry_after_ns,
		       uint64_t random);

/*
 * Value of Retry-After: seconds or an HTTP-date (RFC 9110 sections 5.6.7, 10.2.3, the two obsolete
 * forms too), in nanoseconds from wall_ns on; a date that has passed is 0.  RETRY_AFTER_NONE for
 * what is neither.
 */
uint64_t retry_after_parse(struct http_str value, uint64_t wall_ns);

/* "retry", "method", "body_too_large" ... */
const char *retry_verdict_word(enum retry_verdict v);
/* Which counter of the upstream records it; RETRY_COUNT_NONE for NOT_NEEDED. */
uint32_t retry_counter(enum retry_verdict v, const struct retry_facts *f);

enum { RETRY_BUDGET_SLICES = 10 };

/*
 * In millionths of a retry.  First attempts put `ratio` in, which is forgotten after ttl; a retry
 * takes 1000000 out.
 */
struct retry_budget {
	uint64_t earned[RETRY_BUDGET_SLICES]; /* by first attempts, a ring over ttl */
	uint64_t slice;                       /* number of the slice that is filled now */
	uint64_t slice_ns;
	uint64_t ratio;      /* earned by one first attempt */
	uint64_t floor;      /* of the floor, at most one second's */
	uint64_t floor_rate; /* per second, this worker's share of min_per_second */
	uint64_t floor_ns;   /* filled up to here */
};

void retry_budget_init(struct retry_budget *b, const struct config_retry_budget *rule,
		       uint32_t workers, uint64_t now_ns);
void retry_budget_first(struct retry_budget *b, uint64_t now_ns); /* a first attempt was begun */
bool retry_budget_take(struct retry_budget *b,
		       uint64_t now_ns); /* charge one retry, if there is one */
/* Thousandths of a retry that are left: from 1000 on one can be made now. */
uint32_t retry_budget_left_milli(const struct retry_budget *b, uint64_t now_ns);

#endif
