/*
 * shm/worker.h - registration, liveness, heartbeat and taking back what the dead held.
 *
 * Shape    struct rhc_worker is a worker's private handle.  No globals: several may live in one
 *          process.
 * Alive    holds the OFD lock on its byte.  Nothing else counts: no pid, no heartbeat, no timeout.
 * Owner    (inc, index) is written into every slot, probe and event of this incarnation.
 * Reap     under the dead worker's own byte: the lock proves death, keeps other reapers and a new
 *          worker of that index out, and vanishes if the reaper dies.  Every step may be repeated.
 * Crash    the kernel drops the byte; whoever notices first (supervisor, a peer's tick, rhcctl)
 *          reaps.
 * Beat     decides fairness (200 ms, shm/bulkhead.h) and the supervisor's kill, never ownership.
 */
#ifndef RHC_SHM_WORKER_H
#define RHC_SHM_WORKER_H

#include "shm/event.h"

enum rhc_worker_state { RHC_WORKER_FREE, RHC_WORKER_LIVE };
enum rhc_worker_phase {
	RHC_PHASE_STARTING,
	RHC_PHASE_SERVING,
	RHC_PHASE_DRAINING,
	RHC_PHASE_STOPPING
};
enum rhc_want { RHC_WANT_NOTHING, RHC_WANT_DRAIN, RHC_WANT_EXIT };

enum rhc_alive {
	RHC_ALIVE_FREE, /* nobody, nothing to clean */
	RHC_ALIVE_YES,  /* byte held */
	RHC_ALIVE_DEAD, /* byte free, record still LIVE: reap it */
};

struct rhc_worker_id { /* for display only */
	uint64_t pid, pidns, generation;
	const char *version;
};

struct rhc_worker {
	struct rhc_segment *seg;
	struct rhc_worker_rec *rec;
	int lock_fd; /* holds our byte; GETLK on it sees the others' */
	uint32_t index;
	uint32_t inc;
	uint32_t count; /* of acquisitions: makes each slot word unique */
	bool fenced;    /* others can fence it: it may give back by plain stores, shm/calm.h */
	uint64_t loops;
	struct rhc_ring_writer ring;
};

struct rhc_reaped {
	uint32_t slots, probes, waiting;
	bool record; /* the record was LIVE */
};

/*
 * Become worker `index`.  Cleans up after a predecessor nobody reaped.  *wake gets the workers to
 * wake.
 * Errors   -EBUSY  another description holds the byte      -ERANGE  no such index
 *          -EROFS  read-only mapping                       -errno   of rhc_lock_open
 */
int rhc_worker_register(struct rhc_worker *w, struct rhc_segment *seg, uint32_t index,
                        const struct rhc_worker_id *id, uint64_t now_ms, uint64_t *wake);

/* Leave in good order: everything still held is given back, the byte is dropped. */
void rhc_worker_unregister(struct rhc_worker *w, uint64_t now_ms, uint64_t *wake);

/* Tests: die without dying.  Drops the byte, cleans nothing; the handle must not be used again. */
void rhc_abandon(struct rhc_worker *w);

/* Once per loop turn. */
void rhc_worker_beat(struct rhc_worker *w, uint64_t now_ms);
void rhc_worker_phase(struct rhc_worker *w, enum rhc_worker_phase phase);
/* For display: connections and calls it has. */
void rhc_worker_load(struct rhc_worker *w, uint64_t conns, uint64_t in_flight);
void rhc_worker_adopt(struct rhc_worker *w, uint64_t cfg_gen);
enum rhc_want rhc_worker_wanted(const struct rhc_worker *w);
/* Supervisor or ADMIN: ask it to drain or exit. */
void rhc_worker_ask(const struct rhc_segment *seg, uint32_t index, enum rhc_want want);

/*
 * fd any rhc_lock_open() description.  A worker's own byte on its own lock_fd reads as free (not
 * DEAD) by fcntl: callers skip themselves.
 */
enum rhc_alive rhc_worker_alive(const struct rhc_segment *seg, int fd, uint32_t index);

/* The lowest index that nobody holds, or -EAGAIN if all are taken. */
int rhc_worker_vacant(const struct rhc_segment *seg, int fd);

/*
 * Clean up after worker `index` if it is dead.  fd a description of the caller for locks: it must
 * not hold a byte that the caller needs, since reaping takes and drops `index` on it.
 * Returns  0 cleaned, or nothing to clean      -EBUSY alive, or another reaper is at it
 */
int rhc_reap(struct rhc_segment *seg, int fd, uint32_t index, uint64_t now_ms,
             struct rhc_reaped *ret_reaped, uint64_t *wake);

/*
 * Every index but `skip` (RHC_WORKERS_MAX for none): the tick of a worker, the start of a
 * supervisor.
 */
uint32_t rhc_reap_all(struct rhc_segment *seg, int fd, uint32_t skip, uint64_t now_ms,
                      struct rhc_reaped *ret_sum, uint64_t *wake);

#endif
