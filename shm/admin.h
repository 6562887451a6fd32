/*
 * shm/admin.h - what rhcctl and the admin listener change: under the ADMIN byte, one CAS each.
 *
 * Shape    struct rhc_admin is a short-lived private handle that holds the ADMIN byte on a
 *          description of its own and writes the ADMIN event ring.
 * Audit    write-ahead: event "uid U asks X: old word -> new word, reason", then the CAS, then
 *          "done" or "lost".  A killed rhcctl leaves a question without an answer, never half a
 *          change.
 * Expiry   stands in the changed word itself; whoever meets an expired override ends it, so it
 *          ends even if nobody runs.
 * Wakes    every function ORs into admin->wake the workers that should look; without their
 *          eventfds (rhcctl) their 5 ms tick does it.
 * Errors   -errno; -EBUSY another change is in progress, -EROFS mapped read-only.
 */
#ifndef RHC_SHM_ADMIN_H
#define RHC_SHM_ADMIN_H

#include "shm/host.h"
#include "shm/view.h"

enum rhc_verb {
	RHC_VERB_NONE,
	RHC_VERB_OPEN,
	RHC_VERB_CLOSE,
	RHC_VERB_ISOLATE,
	RHC_VERB_DISABLE,
	RHC_VERB_ENABLE,
	RHC_VERB_RESET,
	RHC_VERB_LIMIT,
	RHC_VERB_LIMIT_CLEAR,
	RHC_VERB_FREE,
	RHC_VERB_REAP,
	RHC_VERB_DRAIN,
	RHC_VERB_UNDRAIN,
	RHC_VERB_RESTART,
	RHC_VERB_REPAIR,
	RHC_VERB_COUNT
};
const char *rhc_verb_name(enum rhc_verb verb);

struct rhc_admin {
	struct rhc_segment *seg;
	int fd;
	uint32_t uid, pid;
	struct rhc_ring_writer ring;
	uint64_t wake;
	uint64_t turns[2]; /* slot word that is to be freed by force, its owner's loops then */
};

/* Take the ADMIN byte.  The caller may retry -EBUSY for as long as it likes. */
int rhc_admin_begin(struct rhc_admin *a, struct rhc_segment *seg, uint32_t uid, uint32_t pid);
void rhc_admin_end(struct rhc_admin *a);

/*
 * Index of the upstream of that name, or -ENOENT.  A host's record stays that host's until
 * rhc_admin_end(), which an index found before rhc_admin_begin() would not say.
 */
int rhc_admin_find(struct rhc_admin *a, const char *name);

struct rhc_change { /* of a word, for the message */
	uint64_t old_word, new_word;
	bool changed;
};

/*
 * OPEN, CLOSE, ISOLATE, DISABLE, ENABLE, RESET (close and clear the statistics and overrides).
 * until_ms for ISOLATE and DISABLE, 0 = no end.
 * Errors   -ENOENT no such upstream      -EINVAL verb or an end in the past
 *          -EAGAIN lost against others for too many rounds
 */
int rhc_admin_breaker(struct rhc_admin *a, uint32_t upstream, enum rhc_verb verb, uint64_t until_ms,
                      const char *reason, uint64_t now_ms, struct rhc_change *ret);

/* -ERANGE: 0, or more slots than the segment has. */
int rhc_admin_limit(struct rhc_admin *a, uint32_t upstream, uint32_t limit, uint64_t until_ms,
                    const char *reason, uint64_t now_ms, struct rhc_change *ret);
int rhc_admin_limit_clear(struct rhc_admin *a, uint32_t upstream, const char *reason,
			  uint64_t now_ms, struct rhc_change *ret);

/*
 * Free one slot.  -EBUSY its owner is alive, unless force; -ENOENT it is free.
 * -EAGAIN, by force only: its owner may be giving it back this instant, by a plain store that would
 * hit the next holder.  That is over for good when it has gone on for two turns of its loop: ask again,
 * with the same handle.  One that never goes on must be killed; then it is reaped.
 */
int rhc_admin_free_slot(struct rhc_admin *a, uint32_t upstream, uint32_t slot, bool force,
                        const char *reason, uint64_t now_ms, struct rhc_change *ret);

/*
 * Clean up after a dead worker.  -EBUSY alive.  force is for a worker that got SIGKILL but cannot leave
 * the kernel: its slots, permits and tickets are taken back while its byte is held; its record stays
 * LIVE until the byte is dropped.  The caller answers for the SIGKILL.
 */
int rhc_admin_reap(struct rhc_admin *a, uint32_t worker, bool force, uint64_t now_ms,
                   struct rhc_reaped *ret);

/*
 * Ask one worker (drain, exit) or, with worker = RHC_WORKERS_MAX, the whole sidecar (drain,
 * undrain).
 */
int rhc_admin_drain(struct rhc_admin *a, uint32_t worker, bool on, const char *reason,
		    uint64_t now_ms);
int rhc_admin_restart(struct rhc_admin *a, uint32_t worker, const char *reason, uint64_t now_ms);

/* Counters and histograms of one upstream begin at 0 again, for `since_reset` readers. */
int rhc_admin_reset_counters(struct rhc_admin *a, uint32_t upstream, uint64_t now_ms);

/* Put right what rhc_view_audit() finds: reaps the dead, frees impossible owners, sets hints. */
uint32_t rhc_admin_repair(struct rhc_admin *a, uint64_t now_ms);

#endif
