/*
 * tests/storm/hammer.h - processes that hammer one segment while they are killed, stopped and reaped.
 *
 * Shape    hammer.c is the supervisor: it makes the segment, starts workers and an admin, each in a pid namespace
 *          of its own where that is allowed (so each is pid 1), kills, stops and reaps them, and looks.
 *          hammer_worker.c is a worker without network: calls that ask the breaker, wait for a slot, hold it and
 *          report.  hammer_admin.c changes breaker and limit by hand, again and again.
 * Witness  struct witness is memory outside the segment in which holders write who they are.  What the segment says
 *          is never used to check the segment.
 * Life     each start of a worker has a number, its life.  A life is marked dead before its SIGKILL is sent, so a
 *          witness left behind by it is told from one of somebody who lives.
 * Fails    by hammer_fail(): the first sentence stays, everybody ends soon after.
 */
#ifndef RHC_TESTS_STORM_HAMMER_H
#define RHC_TESTS_STORM_HAMMER_H

#include <sys/types.h>

#include "shm/admin.h"

enum {
	HAMMER_WORKERS = 6,
	HAMMER_CALLS = 6,       /* of one worker at once */
	HAMMER_CAP = 64,        /* slots the segment has room for */
	HAMMER_LIMIT = 7,       /* configured */
	HAMMER_PROBES = 2,
	HAMMER_LEASE_MS = 1000,
	HAMMER_REAP_MS = 100,   /* how often a worker looks for dead peers */
	HAMMER_PATIENT_MS = 8000, /* the patient wait so long: none may ever be let down */
	HAMMER_GAP_MS = 1500,   /* no slot taken by anybody for so long means that somebody blocks the others */
};

struct hammer_phase {
	const char *name;
	unsigned kills, stops, admin; /* weights of what the supervisor does */
	unsigned fail_percent;        /* of the calls */
	bool flowing;                 /* calls must flow all the time, nobody patient may be refused */
};

struct witness {
	_Atomic uint64_t slot[HAMMER_CAP];        /* count:24 | life:32 | index+1:8, 0 = nobody */
	_Atomic uint64_t probe[RHC_PROBES_MAX];   /* taken_ms:32 | life:24 | index+1:8 */
	_Atomic uint64_t dead_life[HAMMER_WORKERS]; /* this one and all before it were killed */
	_Atomic uint64_t got[HAMMER_WORKERS], waited[HAMMER_WORKERS], gave_up[HAMMER_WORKERS];
	_Atomic uint64_t refused[HAMMER_WORKERS], probes[HAMMER_WORKERS];
	_Atomic uint64_t changes;                 /* of the admin */
	_Atomic uint64_t longest_wait_ms;
	_Atomic uint64_t last_got_ms;
	_Atomic uint32_t stop;                    /* finish what you have and leave */
	_Atomic uint32_t failed;
	char failure[512];
	struct hammer_phase phase;
};

struct hammer { /* what every process has, from fork */
	struct rhc_segment seg;
	struct witness *seen;
	uint32_t upstream;
	int wake_fds[HAMMER_WORKERS];
	unsigned seed;
};

uint64_t hammer_now_ms(void);
unsigned hammer_random(unsigned *state, unsigned below);
void hammer_fail(struct hammer *h, const char *fmt, ...) RHC_PRINTF(2, 3);
void hammer_wake(const struct hammer *h, uint64_t mask);

/* Never return; the exit code is 0 unless something was wrong. */
_Noreturn void hammer_worker(struct hammer *h, uint32_t index, uint64_t life);
_Noreturn void hammer_admin(struct hammer *h);

#endif
