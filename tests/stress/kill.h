/*
 * tests/stress/kill.h - kill at every instruction: what a case is and what the harness gives it.
 *
 * A case names one public operation.  prepare() runs in the parent on a fresh segment; begin()
 * runs in the victim before it is stepped; operate() is stepped, and killed after k instructions,
 * k = 1, 2, 3, ...; check() says what is wrong after the reap, NULL if nothing is.
 */
#ifndef RHC_STRESS_KILL_H
#define RHC_STRESS_KILL_H

#include "shm/admin.h"

#define K_VICTIM 1 /* its worker index */
#define K_LIMIT  2

/* Everything that is restored before each run lives here or in the segment. */
struct world {
	struct rhc_segment seg;
	struct rhc_worker w[3];          /* 0 and 2 are the parent's, 1 the victim's */
	struct rhc_bulkhead b[3];
	struct rhc_breaker_ref brk[3];
	struct rhc_slot slot[8];         /* the parent's, of worker 0 */
	struct rhc_waiter waiter[3];
	bool waits[3];
	struct rhc_permit permit[2];
	uint64_t now;
	uint32_t up;
	int lock_fd;
	/* the victim's own */
	struct rhc_slot got;
	struct rhc_permit mine;
	struct rhc_waiter my_waiter;
	struct rhc_admin admin;
	struct rhc_change change;
	_Atomic uint64_t *toy;           /* counter and ledger of the broken variant */
};

struct kill_case {
	const char *name;
	void (*prepare)(struct world *w);
	void (*begin)(struct world *w);   /* NULL: register as worker 1 */
	void (*meanwhile)(struct world *w); /* parent, between begin and operate; may be NULL */
	void (*operate)(struct world *w);
	const char *(*check)(struct world *w); /* beyond the common checks; may be NULL */
	bool ticked;                      /* nobody reaps it alone: a 1 s tick (reconcile) belongs to it */
	bool must_fail;                   /* the broken variant: the harness must find it */
};

extern const struct kill_case kill_cases[];
extern const unsigned n_kill_cases;

/* Become worker 1 and make its handles. */
void k_register(struct world *w);

#endif
