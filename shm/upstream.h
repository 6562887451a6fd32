/*
 * shm/upstream.h - upstream records and their policy, matched by name.
 *
 * Writers  MASTER alone adds, changes and retires records.  Workers and rhcctl read.  The last
 *          hdr.max_hosts records are not MASTER's: workers claim them for hosts, shm/host.h.
 * Policy   six packed words; a reader may see some of the old and some of the new for an instant,
 *          each word is whole.  Nothing depends on two of them agreeing.
 * Reuse    a retired record is used again only when every LIVE worker has adopted a configuration
 *          newer than the removal, no slot or permit is held and nobody waits: exact quiescence,
 *          no cooling time.
 */
#ifndef RHC_SHM_UPSTREAM_H
#define RHC_SHM_UPSTREAM_H

#include "shm/worker.h"

enum rhc_up_state {
	RHC_UP_FREE,
	RHC_UP_USED,
	RHC_UP_RETIRED,
	RHC_UP_MAKING,  /* host: its owner fills it, nobody finds it */
	RHC_UP_LEAVING, /* host: in use, and its owner looks whether it may give way; reads as USED */
};

/* Zero switches a rule off.  Ranges are clamped by rhc_policy_store(). */
struct rhc_policy {
	/* breaker */
	uint32_t failure_threshold; /* consecutive failures that open it, <= RHC_FAILURES_MAX; 0 = off */
	uint32_t recovery_ms;       /* OPEN lasts this long; the first time, if recovery_max_ms is larger */
	uint32_t recovery_max_ms;   /* open time grows with the re-opens of an outage (seven count) up to here */
	uint32_t growth_milli;      /* by this factor, 1000..RHC_GROWTH_MAX; 1000 = it stays recovery_ms */
	uint32_t jitter_permille;   /* of the open time, added by the opener */
	uint32_t half_open_max;     /* probes at a time, 1..RHC_PROBES_MAX */
	uint32_t success_threshold; /* probes that must succeed, 1..255 */
	uint32_t lease_ms;          /* a probe without a verdict for that long is taken over; >= 1000 */
	/* failure rate, slow calls: over window_ms, from min_calls on */
	uint32_t window_ms;         /* 0 = no window */
	uint32_t min_calls;
	uint32_t failure_permille;  /* 0 = off */
	uint32_t slow_ms;           /* an attempt longer than this is slow; used by the caller */
	uint32_t slow_permille;     /* 0 = off */
	bool disabled;              /* configuration says: no breaker at all; admits everything, counts nothing */
	/* bulkhead */
	uint32_t limit;             /* max_concurrency of the configuration, 1..min(RHC_LIMIT_MAX, slots_cap) */
	uint32_t max_waiting;       /* waiters over all workers; 0 = no bound but RHC_WAITING_MAX per worker */
	bool unlimited;             /* configuration says: no bulkhead at all; nobody asks for a slot */
};

#define RHC_FAILURES_MAX 1023
#define RHC_GROWTH_MAX   10000

void rhc_policy_load(const struct rhc_up *up, struct rhc_policy *ret);
/* One word of it, for the healthy path. */
static inline bool rhc_policy_has_window(const struct rhc_up *up)
{
	return (uint32_t)atomic_load_explicit(&up->policy[2], memory_order_seq_cst) != 0;
}
static inline bool rhc_policy_is_disabled(const struct rhc_up *up)
{
	return atomic_load_explicit(&up->policy[5], memory_order_seq_cst) & 1;
}
void rhc_policy_store(struct rhc_up *up, const struct rhc_policy *policy);
/* As words, each of them whole: into rhc_up.policy or rhc_hdr.host_policy, what differs alone. */
void rhc_policy_pack(const struct rhc_policy *policy, uint64_t ret_words[6]);
void rhc_policy_put(_Atomic uint64_t policy[6], const uint64_t words[6]);

/*
 * MASTER: the record of that name, made if there is none; policy and limit come into force at
 * once, an override of the limit stays.  State and counters of a record that exists are kept.
 * Errors   -ENAMETOOLONG, -EINVAL  name      -ERANGE  limit beyond slots_cap
 *          -ENOSPC  no record free (retired ones are not quiescent yet)
 */
int rhc_upstream_declare(struct rhc_segment *seg, const char *name, const struct rhc_policy *policy,
                         uint64_t now_ms, uint32_t *ret_index, uint64_t *wake);

/* MASTER: retired as of configuration cfg_gen.  -ENOENT. */
int rhc_upstream_retire(struct rhc_segment *seg, uint32_t index, uint64_t cfg_gen);

/* MASTER: make cfg_gen + 1 the configuration in force; returns it. */
uint64_t rhc_config_publish(struct rhc_segment *seg, uint64_t hash, uint64_t now_ms);

/* Index of the used record of that name, or -ENOENT. */
int rhc_upstream_find(const struct rhc_segment *seg, const char *name);

enum rhc_up_state rhc_upstream_state(const struct rhc_segment *seg, uint32_t index);
/* Claimer of a host, shm/host.c: a record that nobody can find gets a name and begins with nothing. */
void rhc_upstream_begin(struct rhc_segment *seg, uint32_t index, const char *name);
int rhc_upstream_check_name(const char *name); /* 0, -ENAMETOOLONG, -EINVAL */
/* Copy of the name, always valid text. */
void rhc_upstream_name(const struct rhc_segment *seg, uint32_t index,
		       char ret_name[RHC_NAME_MAX + 1]);

/* For display: result of a health check, from anybody.  error is an enum rhc_error. */
void rhc_upstream_health(struct rhc_segment *seg, uint32_t index, bool reachable, unsigned error,
                         uint32_t took_ms, uint64_t now_ms);

#endif
