/*
 * sidecar/upstream/guard.h - may this attempt go?  breaker, slot, breaker again; and the verdict
 * afterwards.
 *
 * Shape       struct guard_ticket lies in the exchange and stands for one attempt: asking, waiting,
 *             admitted. struct guard lies in struct upstream and keeps the tickets of this worker
 *             that wait, in order.
 * Owns        Between GO and guard_done()/guard_cancel() the ticket holds a slot, and a probe if
 *             the breaker is
 *             half-open.  Both are words of the segment: if the worker dies they are taken back.
 * Calls back  guard_ticket.done, only for a ticket that was told GUARD_WAIT; never from within a
 *             function of this header, always from engine_turn() or a timer.  Exactly once, unless
 *             cancelled.
 * Order       First come first served over all workers (shm/bulkhead.h).  Whoever leaves the queue
 *             passes the baton: a slot that is free while somebody waits is somebody's wake-up.
 * Bounds      bulkhead.acquisition_timeout from guard_ask() on, the call's deadline,
 *             bulkhead.max_waiting.
 * Wakes       eventfds of the workers; a tick of the timer wheel, only while somebody of this
 *             worker waits, covers whoever has none (rhcctl, other generations).
 * Counts      attempts, waits, refusals, transitions and probes go to the worker's counters,
 *             histograms and event ring, here and in shm.  The phases of a call (ns_queue ...) are
 *             the exchange's, from ->waited_ns.
 */
#ifndef RHC_SIDECAR_UPSTREAM_GUARD_H
#define RHC_SIDECAR_UPSTREAM_GUARD_H

#include "shm/breaker.h"
#include "shm/bulkhead.h"
#include "shm/counters.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/list.h"
#include "sidecar/io/timer.h"

struct upstream;

#define GUARD_TICK_NS (UINT64_C(5) * NS_PER_MS) /* rounded up to the tick of the wheel */

enum guard_answer {
	GUARD_GO,         /* admitted: guard_done() or guard_cancel() is due */
	GUARD_WAIT,       /* ->done will be called with one of the others */
	GUARD_OPEN,       /* circuit open or isolated; ->refusal says how long */
	GUARD_TIMEOUT,    /* no slot within acquisition_timeout */
	GUARD_QUEUE_FULL, /* max_waiting wait already */
	GUARD_DEADLINE,   /* the call's deadline came while it waited */
};

/* Why the breaker said no, for the answer's detail. */
struct guard_refusal {
	uint8_t state;           /* enum rhc_breaker_state */
	uint64_t retry_after_ms; /* until the next probe; UINT64_MAX: isolated without an end */
	uint64_t open_ms;        /* since the outage began */
	uint32_t failures; /* that opened it, of so many attempts (0: they were consecutive) */
	uint32_t total;
	uint32_t threshold; /* circuit_breaker.failure_threshold */
	enum rhc_error last_error;
	uint64_t last_failure_ms; /* how long ago; UINT64_MAX: unknown */
};

struct guard_ticket {
	/* in */
	void (*done)(struct guard_ticket *t, enum guard_answer a);
	/* out */
	bool probe;                   /* admitted while half-open: it decides for everybody */
	uint64_t waited_ns;           /* for the slot */
	struct guard_refusal refusal; /* with GUARD_OPEN */
	/* the guard's */
	uint8_t state;
	bool deadline_first; /* the timer stands for the call's deadline */
	struct upstream *up;
	struct rhc_waiter waiter;
	struct timer timer;
	uint64_t asked_ns;
	struct rhc_permit permit;
	struct rhc_slot slot;
};

struct guard {
	struct rhc_bulkhead bulkhead; /* this worker's handles */
	struct rhc_breaker_ref breaker;
	bool slots;            /* bulkhead.enabled */
	struct list_node node; /* among the guards somebody waits at */
};

void guard_init(struct upstream *up);
void guard_fini(struct upstream *up); /* asserts that nobody waits */

/* t->done is set; everything else is the guard's.  deadline_ns of the call, 0: none. */
enum guard_answer guard_ask(struct upstream *up, struct guard_ticket *t, uint64_t deadline_ns);

enum guard_outcome { GUARD_SUCCESS, GUARD_FAILURE, GUARD_IGNORED };

/*
 * What an attempt that ended so says of the upstream, by circuit_breaker.count and count_statuses:
 * an error of ours, or a kind that is not listed, says nothing; a response whose status is not
 * listed is a success.
 */
enum guard_outcome guard_verdict(const struct upstream *up, enum rhc_error error, uint16_t status);

/*
 * The attempt has ended: record the verdict, release the slot, wake who is next.  error tells why
 * with GUARD_FAILURE; took_ns is the time to the response head (or to the failure), for slow calls
 * and the histogram.
 */
void guard_done(struct guard_ticket *t, enum guard_outcome outcome, enum rhc_error error,
		uint64_t took_ns);

/*
 * Given up without a verdict (caller gone, draining): stops waiting, or gives slot and probe back.
 * A ticket that holds nothing is fine.
 */
void guard_cancel(struct guard_ticket *t);

/*
 * The verdict now, the slot later: for a tunnel, whose handshake tells of the upstream and whose life does not.
 * guard_cancel() is due in the end.
 */
void guard_settle(struct guard_ticket *t, enum guard_outcome outcome, enum rhc_error error,
		  uint64_t took_ns);

bool guard_holds(const struct guard_ticket *t); /* between GO and guard_done() or guard_settle() */

struct upstreams;

/* Our eventfd fired (or a reaper asked to wake us): look again at every queue of this worker. */
void guard_wake(struct upstreams *all);

/*
 * Write the eventfds of the workers in the mask; our own bit looks at our queues at the end of the
 * turn.
 */
void guard_wake_mask(struct upstreams *all, uint64_t mask);

/*
 * Overrides and limits that have expired, for upstreams nobody calls.  From the worker's 1 s tick.
 */
void guard_second(struct upstreams *all);

#endif
