/*
 * shm/view.h - read-only looks at the segment, for rhcctl and the admin listener.
 *
 * Shape    plain structs in the caller's memory, every figure checked or masked.
 * Reads    stores nothing, takes no lock (but the byte query for liveness), needs no worker: it
 *          works while all of them hang and when the supervisor is dead.  PROT_READ is enough.
 * Valid    a record that cannot be is returned with ->bad counted, never asserted on; loops are
 *          bounded by the private geometry.
 */
#ifndef RHC_SHM_VIEW_H
#define RHC_SHM_VIEW_H

#include "shm/breaker.h"
#include "shm/bulkhead.h"
#include "shm/histogram.h"

/*
 * Who overrode it.  Means something only while the override is in force: it is left when one
 * expires.
 */
struct rhc_view_note {
	bool set;
	uint32_t uid, pid;
	uint64_t at_ms;
	uint8_t verb; /* enum rhc_verb, shm/admin.h */
	char reason[RHC_REASON_MAX + 1];
};

struct rhc_view_segment {
	uint32_t max_workers, max_upstreams, slots_cap, ring_len;
	uint16_t abi_major, abi_minor;
	uint64_t size;
	uint64_t cfg_gen, cfg_hash, cfg_ms;
	enum rhc_lifecycle lifecycle;
	bool drain, retired;
	uint64_t sup_pid, sup_start_ms, sup_beat_ms;
	bool sup_alive; /* MASTER byte held; only with lock_fd >= 0 */
	uint32_t upstreams, workers_alive;
	char version[32], engine[32], preset[32], instance[64];
};

struct rhc_view_breaker {
	struct rhc_breaker b;
	uint64_t word;
	uint64_t since_ms;      /* of the state; 0 = since creation */
	uint64_t open_since_ms; /* of the outage; 0 = none */
	uint32_t reopens;
	struct rhc_trip_info trip;
	uint32_t probes;        /* permits held */
	struct {
		uint32_t worker, inc, gen;
		int64_t lease_ms;
		bool held;
	} probe[RHC_PROBES_MAX];
	struct rhc_window window;
	uint64_t last_failure_ms; /* 0 = never */
	unsigned last_error;
	uint32_t last_worker;
	struct rhc_view_note note;
	bool bad;
};

struct rhc_view_holder {
	uint32_t slot, worker, inc;
	uint64_t age_ms;
	bool above_limit; /* held from before the limit was lowered */
	bool bad;         /* owner that cannot be */
};

struct rhc_view_bulkhead {
	uint32_t limit, configured, hw, in_use, waiting, max_waiting;
	bool draining;
	struct rhc_limit_override override;
	struct rhc_view_note note;
	uint32_t held_by[RHC_WORKERS_MAX], waiting_by[RHC_WORKERS_MAX];
	uint64_t ticket_of[RHC_WORKERS_MAX]; /* oldest ticket, 0 = none */
	uint64_t oldest_wait_ms;             /* of all who wait; 0 = nobody */
	uint64_t next_ticket;
	uint64_t oldest_held_ms;
	uint32_t bad;
};

struct rhc_view_upstream {
	uint32_t index;
	char name[RHC_NAME_MAX + 1];
	struct rhc_policy policy;
	struct rhc_view_breaker breaker;
	struct rhc_view_bulkhead bulkhead;
	bool health_known, reachable;
	unsigned health_error;
	uint32_t health_took_ms;
	uint64_t health_at_ms;
};

struct rhc_view_worker {
	uint32_t index, inc;
	enum rhc_alive alive; /* needs lock_fd */
	enum rhc_worker_phase phase;
	uint64_t beat_ms, loops, cfg_gen, conns, in_flight, want, restarts, pid, pidns, start_ms,
		generation;
	unsigned last_status; /* of the predecessor, a wait status */
	uint64_t last_end_ms; /* 0 = none */
	uint32_t slots;       /* held over all upstreams */
	char version[32];
};

/*
 * lock_fd: rhc_lock_open() description, or -1 to leave liveness out (alive = FREE or YES by
 * record).
 */
void rhc_view_segment(const struct rhc_segment *seg, int lock_fd, struct rhc_view_segment *ret);
/*
 * -ENOENT if the record is not in use, or was given to another host meanwhile, or is a host's and the
 * configuration has declared one of the same name since.
 */
int rhc_view_upstream(const struct rhc_segment *seg, uint32_t index, uint64_t now_ms,
                      struct rhc_view_upstream *ret);
/* Holders of slots, by index; returns how many there are, fills at most `room`. */
uint32_t rhc_view_holders(const struct rhc_segment *seg, uint32_t index, uint64_t now_ms,
                          struct rhc_view_holder *ret, uint32_t room);
int rhc_view_worker(const struct rhc_segment *seg, int lock_fd, uint32_t index,
                    struct rhc_view_worker *ret);

/* Sums over all rows.  since_reset subtracts the baseline.  ret[hdr.n_uctr] resp. [hdr.n_wctr]. */
void rhc_view_counters(const struct rhc_segment *seg, uint32_t upstream, bool since_reset,
                       uint64_t *ret, uint32_t n);
void rhc_view_worker_counters(const struct rhc_segment *seg, uint32_t row, uint64_t *ret,
			      uint32_t n);
void rhc_view_worker_sum(const struct rhc_segment *seg, uint64_t *ret, uint32_t n);
void rhc_view_hist(const struct rhc_segment *seg, uint32_t upstream, uint32_t hist,
		   bool since_reset, struct rhc_hist_sum *ret);
/* Description i of the segment, checked; false if it cannot be. */
bool rhc_view_desc(const struct rhc_segment *seg, uint32_t i, struct rhc_desc *ret);

/* Events of all rings merged by time. */
struct rhc_view_cursor {
	uint64_t next[RHC_WORKERS_MAX + 2]; /* per ring: number of the next event */
	uint64_t lost, invalid;             /* so far */
};
/* Begin with the oldest that is left, or with the next to come. */
void rhc_view_events_begin(const struct rhc_segment *seg, bool only_new,
			   struct rhc_view_cursor *ret);
/*
 * The next event by time, and the text that belongs to it ("" if none).  False when there is none
 * now; call again later to follow.  An event of a slow writer may come after a younger one.
 */
bool rhc_view_events_next(const struct rhc_segment *seg, struct rhc_view_cursor *cursor,
                          struct rhc_event *ret, char ret_text[RHC_REASON_MAX + 1]);
/*
 * Name of the upstream an event speaks of, "" if it speaks of none, or of a host whose record another
 * has by now.
 */
void rhc_view_event_upstream(const struct rhc_segment *seg, const struct rhc_event *ev,
                             char ret_name[RHC_NAME_MAX + 1]);
/* Nanoseconds of the wall clock for a monotonic time, by the pair the header keeps. */
uint64_t rhc_view_wall_ns(const struct rhc_segment *seg, uint64_t mono_ns);

/* What a recount finds. */
enum rhc_finding_what {
	RHC_FIND_SLOT_DEAD,      /* slot held by a dead worker: reap */
	RHC_FIND_SLOT_OWNER,     /* owner that cannot be */
	RHC_FIND_SLOT_INC,       /* owner lives, but in another incarnation */
	RHC_FIND_PERMIT_DEAD, RHC_FIND_PERMIT_OWNER, RHC_FIND_PERMIT_LEASE,
	RHC_FIND_WAITER_DEAD,    /* waitmask or head of a dead worker */
	RHC_FIND_WAITMASK,       /* bit without waiters, or waiters without a bit */
	RHC_FIND_HINT,           /* free slot without a hint: capacity nobody sees */
	RHC_FIND_LIMIT,          /* ctl differs from what override and configuration say */
	RHC_FIND_OVER,           /* more held than the limit while not draining */
	RHC_FIND_BREAKER,        /* breaker word that cannot be */
	RHC_FIND_WORKER_DEAD,    /* record LIVE, byte free */
	RHC_FIND_HOST_CLAIM,     /* host being made or evicted by a dead worker */
	RHC_FIND_HOST_PIN,       /* host used by a dead worker */
	RHC_FIND_HOST_TWICE,     /* two records of one host */
	RHC_FIND_COUNT
};
struct rhc_finding {
	enum rhc_finding_what what;
	uint32_t upstream, index; /* slot, permit or worker */
	uint32_t worker;          /* owner, if any */
	uint64_t word;
};
const char *rhc_finding_name(enum rhc_finding_what what);
/*
 * Recount slots, waiters, probes of every upstream.  While traffic runs a finding may be an
 * instant's; one that two audits report is real.  Returns how many there are, fills at most `room`.
 */
uint32_t rhc_view_audit(const struct rhc_segment *seg, int lock_fd, uint64_t now_ms,
                        struct rhc_finding *ret, uint32_t room);

#endif
