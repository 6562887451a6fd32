/*
 * shm/host.h - upstream records that workers claim at run time, one for each host.
 *
 * Shape    the last hdr.max_hosts upstream records; `id` is the fact: gen:32 | owner+1:16 | state:16.
 *          FREE -> MAKING(owner) -> USED -> LEAVING(owner) -> MAKING(owner) for another host, or back to
 *          USED.  gen grows by 1 with each MAKING, so (record, gen) names one host for ever.
 *          hdr.host_pub `gen:32 | owner+1:16 | upstream+1:16` is the publication: a host is there as of
 *          the CAS that names its MAKING record here; whoever looks next finishes it (MAKING -> USED).
 * One each A claimer reads host_pub, finishes it, looks at every record, and publishes by a CAS from what
 *          it read: if anybody published meanwhile, it looks again.  So no host ever has two records.
 * Pins     word w of rhc_host.pin, stored by worker w alone: it may use the record.  Pin, then read id
 *          again: the pair of the evictor's id -> LEAVING, then read the pins.  Whoever uses a record
 *          that is LEAVING puts it back to USED, and the evictor's last CAS fails.
 * Evicted  the one used least recently of those nobody pins, with no slot, ticket, permit or override,
 *          its breaker CLOSED without failures, or quiet for longer than ttl_ms (OPEN: and its time over).
 *          Not while somebody holds ADMIN: rhcctl works on records by index.
 * Crash    MAKING of a dead owner is freed (after finishing host_pub), LEAVING put back, pins cleared by
 *          the reaper, last of all.  What a live but stopped worker makes is in nobody's way.
 * Order    every word seq_cst but hash and text: release stores while MAKING, acquire loads between two
 *          loads of id.
 * Never    allocates, blocks, logs, reads a clock.
 */
#ifndef RHC_SHM_HOST_H
#define RHC_SHM_HOST_H

#include "shm/upstream.h"

/* A host as one worker knows it.  Good as long as it is pinned; afterwards rhc_host_pin() tells. */
struct rhc_host_use {
	uint32_t upstream;
	uint32_t gen;
};

struct rhc_host_wish {
	const char *name; /* of the record, as in rhc_upstream_declare() */
	const char *text; /* what tells hosts apart, at most RHC_HOST_MAX bytes */
	uint64_t ttl_ms;  /* failures are forgotten after so long without a call */
};

/*
 * The record of that host, made if there is none, pinned for this worker: rhc_host_unpin() is due.
 * *ret_made: it is new, its breaker CLOSED, all slots free.
 * Errors   -ENOSPC  every record is in use and none may give way
 *          -EAGAIN  the others published so often that it gave up
 *          -ENAMETOOLONG, -EINVAL  name or text
 */
int rhc_host_claim(struct rhc_worker *w, const struct rhc_host_wish *wish, uint64_t now_ms,
                   struct rhc_host_use *ret, bool *ret_made, uint64_t *wake);

/*
 * Use it again: true if it is still that host's, and then it is pinned.  now_ms 0: this is no call,
 * when it was used last stays as it is.
 */
bool rhc_host_pin(struct rhc_worker *w, const struct rhc_host_use *use, uint64_t now_ms);
void rhc_host_unpin(struct rhc_worker *w, const struct rhc_host_use *use, uint64_t now_ms);

/* MASTER: the policy of every host, those to come included. */
void rhc_host_policy(struct rhc_segment *seg, const struct rhc_policy *policy, uint64_t now_ms,
                     uint64_t *wake);

/* A worker's 1 s tick: policies, limits and overrides of all hosts, whether it uses them or not. */
void rhc_host_tick(struct rhc_worker *w, uint64_t now_ms, uint64_t *wake);

/* ADMIN, with its byte held: from now on the record does not give way.  False: no host's, or gone. */
bool rhc_host_keep(const struct rhc_segment *seg, uint32_t upstream);

/* When it was used last by anybody; 0 = not since its workers are gone. */
uint64_t rhc_host_used_ms(const struct rhc_segment *seg, uint32_t upstream);

/*
 * The reaper, with the byte of `index` held.  Pin on behalf of the dead: false if nothing of its may
 * be left there.  rhc_host_reap() comes last.
 */
bool rhc_host_pin_dead(struct rhc_segment *seg, uint32_t upstream, uint32_t index);
void rhc_host_reap(struct rhc_segment *seg, uint32_t index);

/* id and pin words. */
#define RHC_ID_GEN(id)      ((uint32_t)((id) >> 32))
#define RHC_ID_OWNER(id)    ((uint32_t)rhc_bits((id), 16, 16)) /* index + 1, 0 = none */
#define RHC_ID_STATE(id)    ((uint32_t)rhc_bits((id), 0, 16))
#define RHC_PIN_USED(pin)   ((pin) & 1)
#define RHC_PIN_LAST_MS(pin) ((pin) >> 1)

#endif
