/*
 * sidecar/upstream/upstream.h - the configured upstreams of one worker.
 *
 * Shape       struct upstream joins what belongs to one target: its policy, its record in the
 *             segment, its addresses, connections, guard and budget.  struct upstreams is the table
 *             of a worker.
 * Owns        resolver, endpoints, pools, health checks.  Not the configuration, not the TLS
 *             policies.
 * Owned by    the worker; made after fork from the configuration and the segment, before the first
 *             request.
 * Order       TLS policies are made by the supervisor before fork (upstream_tls_new), records of
 *             the segment are declared by it (shm/upstream.h); a worker only looks them up.
 * Lookup      by name (x-rhc-upstream, listeners) and by authority (name, url host, hosts); O(1),
 *             no allocation.
 * Ends when   upstreams_drain() was called, upstreams_idle() says true, then upstreams_free().
 */
#ifndef RHC_SIDECAR_UPSTREAM_UPSTREAM_H
#define RHC_SIDECAR_UPSTREAM_UPSTREAM_H

#include "proto/http.h"
#include "shm/upstream.h"
#include "shm/worker.h"
#include "sidecar/base/random.h"
#include "sidecar/config/config.h"
#include "sidecar/http/conn.h"
#include "sidecar/upstream/endpoint.h"
#include "sidecar/upstream/errors.h"
#include "sidecar/upstream/guard.h"
#include "sidecar/upstream/health.h"
#include "sidecar/upstream/pool.h"
#include "sidecar/upstream/resolver.h"
#include "sidecar/upstream/retry.h"

struct tls_policy;

/* Targets of the forward proxy one worker knows at a time: so many, and two per record for hosts. */
enum { UPSTREAM_FORWARD_MIN = 64 };
/* One with a record of the configuration may give way after so long, and the longest backoff on top. */
#define UPSTREAM_FORWARD_QUIET_NS (UINT64_C(300) * NS_PER_S)
/*
 * Records of the forward proxy in the segment; no configured name has a _.  A host that stands in
 * forward_proxy.allow as it is has one of its own, "_forward:api.example.com", which the supervisor
 * declares.  For a host that only a pattern lets through a worker claims one of forward_proxy.max_hosts
 * records when it is called, "_forward:a.example.com:80" (shm/host.h).
 */
#define UPSTREAM_FORWARD_NAME "_forward"

/* The TLS policies of one upstream; both NULL for http://. */
struct upstream_tls {
	struct tls_policy *any; /* as configured */
	struct tls_policy *h1;  /* offers HTTP/1.1 alone; may be the same as any */
};

/* What a worker has; everything is kept by the caller. */
struct upstream_env {
	struct engine *engine;
	struct timer_wheel *timers;
	struct http_env *http;
	struct rhc_worker *worker; /* registered: index, ring, segment */
	const int *wake_fds;       /* per worker index, -1: none; RHC_WORKERS_MAX of them */
	uint32_t workers;          /* of this generation, for shares of per-second rates */
	struct rng *rng;
	const struct upstream_tls *tls; /* one per cfg->upstreams[i] */
	const char *dns_servers;        /* NULL: resolv.conf */
	const char *hosts_file;         /* NULL: /etc/hosts */
};

struct upstream {
	uint32_t magic;
	uint32_t index; /* record in the segment */
	const char *name;
	const struct config_upstream *cfg;
	const struct config_policy *policy;
	struct upstreams *all;
	struct upstream_tls tls;
	const char *server_name; /* for TLS */
	bool forward;            /* a target of the forward proxy */
	bool host;               /* its record is claimed at run time and may go to another host ... */
	bool resting;            /* ... as now, while no call holds it */
	uint32_t users;          /* calls that hold it, see upstream_hold() */
	_Atomic uint64_t *ctr;   /* counters row of this worker */
	struct resolver_name *dns;
	struct endpoints endpoints;
	struct pool pool;
	struct guard guard;
	struct retry_budget budget;
	struct health health;
};

struct upstreams {
	uint32_t magic;
	struct upstream_env env;
	const struct config *cfg;
	struct rhc_segment *seg;
	struct resolver *resolver;
	struct slab conns, dials; /* struct pool_conn, struct pool_dial */
	bool draining;
	struct list waiting;         /* guards somebody waits at */
	struct timer tick;           /* only while there are some */
	struct engine_deferred look; /* our own bit of a wake mask */
	struct hash_key hash_key;
	uint32_t n;
	struct upstream *up;       /* in the order of the configuration */
	struct upstream **forward; /* forward_max, NULL: free */
	uint32_t forward_max;
	uint64_t forward_quiet_ns;
	uint32_t hosts_mask;
	struct upstream_host *hosts; /* hash of names and authorities */
	char **texts;                /* the hosts of the configuration in lower case */
	uint32_t n_texts;
};

/*
 * Supervisor: the TLS policies of a configuration, one per upstream in its order.  0, or -errno
 * with a sentence that names the upstream in why[cap].
 */
int upstream_tls_new(const struct config *cfg, struct upstream_tls **ret, char *why, size_t cap);
struct upstream_tls *upstream_tls_free(struct upstream_tls *tls,
				       const struct config *cfg); /* NULL is fine */

/* 0, -ENOMEM, -ENOENT (an upstream has no record in the segment), or what resolver_new() says. */
int upstreams_new(const struct config *cfg, const struct upstream_env *env, struct upstreams **ret);
void upstreams_drain(struct upstreams *all); /* idle connections close, health checks stop */
/*
 * After upstreams_drain() and the last call: nothing is open any more.  The first to ask ends the
 * resolver.
 */
bool upstreams_idle(const struct upstreams *all);
struct upstreams *
upstreams_free(struct upstreams *all); /* asserts idle; NULL is fine; returns NULL */

struct upstream *upstreams_by_name(struct upstreams *all, struct http_str name);
/*
 * authority as in a request: host, host:port, [v6]:port; letter case does not matter.  NULL: none.
 */
struct upstream *upstreams_by_host(struct upstreams *all, struct http_str authority);
/*
 * A target of the forward proxy: plain HTTP to host:port under the default policy, its record in the
 * segment its own until upstream_drop() or the next guard_second().  Whether it is allowed
 * (forward_proxy.allow) is the caller's question: upstream_forward_allowed().  NULL: *ret_why is
 * RHC_ERR_hosts_full (no record in the segment may give way) or RHC_ERR_overloaded.
 */
struct upstream *upstreams_forward(struct upstreams *all, struct http_str host, uint16_t port,
				   enum rhc_error *ret_why);
/* A target of the forward proxy whose record may go to another host now. */
void upstream_forward_rest(struct upstream *up);
/*
 * A call holds its upstream as long as it lasts.  For configured ones it changes nothing; a target of
 * the forward proxy, and its record in the segment, do not give way meanwhile.
 */
static inline void upstream_hold(struct upstream *up)
{
	up->users++;
}
static inline void upstream_drop(struct upstream *up)
{
	if (--up->users == 0 && up->host)
		upstream_forward_rest(up);
}
bool upstream_forward_allowed(const struct config *cfg, struct http_str host);

/* Does this configuration have a record of that name, be it an upstream's or of the forward proxy? */
bool upstreams_declares(const struct config *cfg, const char *name);

/* What the segment has to know of a policy. */
void upstream_policy(const struct config_policy *p, struct rhc_policy *ret);
/*
 * Supervisor: declare every upstream of the configuration (and the forward proxy's record, if it is
 * on).  *wake gets the workers to wake.  0, or -errno of rhc_upstream_declare() with the upstream's
 *       name in why[cap].
 */
int upstreams_declare(const struct config *cfg, struct rhc_segment *seg, uint64_t now_ms,
		      uint64_t *wake, char *why, size_t cap);

/* Try again?  retry_next(), the upstream's budget, its counters and the debug line, in one. */
struct retry_decision upstream_retry(struct upstream *up, struct retry_facts *f);

void upstream_forward_count(struct upstream *up, unsigned counter);
/* Counters and histograms of this worker's row.  A connection may end while no call holds a target. */
static inline void upstream_count(struct upstream *up, unsigned counter)
{
	if (__builtin_expect(up->resting, 0))
		upstream_forward_count(up, counter);
	else
		rhc_ctr_inc(up->ctr, counter);
}
void upstream_time(struct upstream *up, enum rhc_hist_id id, uint64_t ns);

static inline uint64_t upstream_now(const struct upstream *up)
{
	return engine_now(up->all->env.engine);
}

#endif
