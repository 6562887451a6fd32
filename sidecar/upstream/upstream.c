#include "sidecar/upstream/upstream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/histogram.h"
#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/pool_private.h"
#include "sidecar/upstream/upstream_private.h"

enum { AUTHORITY_MAX = 320 };

/* One name or authority.  An empty place has no upstream. */
struct upstream_host {
	uint64_t hash;
	struct upstream *up;
	const char *text; /* lower case; of the configuration */
	uint16_t port;    /* 0: any */
	bool name;        /* a name of an upstream, else an authority's host */
};

/* ---- one upstream ---- */

static void on_lookup(void *owner, enum resolver_error err, uint64_t took_ns)
{
	struct upstream *up = owner;

	(void)took_ns;
	upstream_count(up, err == RESOLVER_OK        ? RHC_CTR_dns_ok
			   : err == RESOLVER_TIMEOUT ? RHC_CTR_dns_timeout
						     : RHC_CTR_dns_fail);
}

void upstream_time(struct upstream *up, enum rhc_hist_id id, uint64_t ns)
{
	bool resting = up->resting;

	if (resting && !upstream_forward_get(up))
		return;
	rhc_hist_record(rhc_seg_hist(up->all->seg, up->all->env.worker->index, up->index, id), id,
			ns);
	if (resting)
		upstream_forward_put(up);
}

int upstream_init(struct upstream *up, struct upstreams *all, const struct config_upstream *cfg,
		  const struct config_policy *policy, const struct upstream_tls *tls,
		  uint32_t index)
{
	struct resolver_events ev = { .on_lookup = on_lookup, .owner = up };
	int rc;

	up->all = all;
	up->cfg = cfg;
	up->name = cfg->name;
	up->policy = policy;
	up->index = index;
	if (tls)
		up->tls = *tls;
	up->server_name = policy->tls.server_name && *policy->tls.server_name
				  ? policy->tls.server_name
				  : cfg->url.host;
	up->ctr = rhc_seg_ctr(all->seg, all->env.worker->index, index);
	rc = resolver_name_new(all->resolver, cfg->url.host, cfg->url.port, &policy->dns, &ev,
			       &up->dns);
	if (rc < 0)
		return rc;
	up->magic = UPSTREAM_MAGIC;
	endpoints_init(&up->endpoints);
	pool_init(up);
	guard_init(up);
	retry_budget_init(&up->budget, &policy->retry.budget, all->env.workers, upstream_now(up));
	health_init(up);
	return 0;
}

void upstream_fini(struct upstream *up)
{
	if (up->magic == 0)
		return;
	OBJ_FINI(up, UPSTREAM_MAGIC);
	health_fini(up);
	guard_fini(up);
	pool_fini(up);
	resolver_name_free(up->dns);
	up->dns = NULL;
}

bool upstream_idle(const struct upstream *up)
{
	return pool_empty(up) && health_idle(up) && up->guard.bulkhead.waiters == 0;
}

/* ---- lookup ---- */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static struct upstream_host *slot_of(struct upstreams *all, const char *text, size_t n,
				     uint16_t port, bool name)
{
	uint64_t hash = hash_sip13(&all->hash_key, text, n) ^ (uint64_t)port << 1 ^ (uint64_t)name;
	uint32_t i = (uint32_t)hash & all->hosts_mask;

	/* The table is never more than half full, so there is an empty place. */
	for (;; i = (i + 1) & all->hosts_mask) {
		struct upstream_host *h = &all->hosts[i];

		if (!h->up || (h->hash == hash && h->port == port && h->name == name &&
			       strlen(h->text) == n && memcmp(h->text, text, n) == 0)) {
			h->hash = hash;
			return h;
		}
	}
}

static void enter(struct upstreams *all, struct upstream *up, const char *text, uint16_t port,
		  bool name)
{
	struct upstream_host *h = slot_of(all, text, strlen(text), port, name);

	if (h->up)
		return; /* the first one of the file has it; the configuration's check has warned */
	h->up = up;
	h->text = text;
	h->port = port;
	h->name = name;
}

/* A host of the configuration: "orders", "orders:8443", "[::1]:80"; kept as host and port. */
static int enter_authority(struct upstreams *all, struct upstream *up, const char *authority)
{
	struct http_str host;
	uint16_t port;
	char *text;

	if (http_authority_split((struct http_str){ authority, (uint32_t)strlen(authority) }, &host,
				 &port) < 0)
		return 0; /* nobody can ask for it */
	text = strndup(host.p, host.n);
	if (!text)
		return -ENOMEM;
	for (char *c = text; *c; c++)
		*c = lower(*c);
	all->texts[all->n_texts++] = text;
	enter(all, up, text, port, false);
	return 0;
}

static int enter_all(struct upstreams *all)
{
	int rc = 0;

	for (uint32_t i = 0; i < all->n; i++)
		enter(all, &all->up[i], all->up[i].name, 0, true);
	for (uint32_t i = 0; i < all->n && rc == 0; i++) {
		const struct config_upstream *u = all->up[i].cfg;

		for (uint32_t k = 0; k < u->hosts.len && rc == 0; k++)
			rc = enter_authority(all, &all->up[i], u->hosts.item[k]);
		if (rc == 0)
			rc = enter_authority(all, &all->up[i], u->name);
	}
	/* The host of the url last, and with its port first: two upstreams may share a host. */
	for (uint32_t i = 0; i < all->n; i++) {
		const struct config_url *url = &all->up[i].cfg->url;

		enter(all, &all->up[i], url->host, url->port, false);
		enter(all, &all->up[i], url->host, 0, false);
	}
	return rc;
}

static int make_hosts(struct upstreams *all)
{
	uint32_t texts = 0, size = 16;

	for (uint32_t i = 0; i < all->n; i++)
		texts += all->up[i].cfg->hosts.len + 1;
	while (size < 2 * (texts + 3 * all->n + 1))
		size *= 2;
	all->hash_key = (struct hash_key){ rng_u64(all->env.rng), rng_u64(all->env.rng) };
	all->texts = calloc(texts + 1, sizeof(*all->texts));
	all->hosts = calloc(size, sizeof(*all->hosts));
	all->hosts_mask = size - 1;
	return all->texts && all->hosts ? enter_all(all) : -ENOMEM;
}

struct upstream *upstreams_by_name(struct upstreams *all, struct http_str name)
{
	return slot_of(all, name.p, name.n, 0, true)->up;
}

struct upstream *upstreams_by_host(struct upstreams *all, struct http_str authority)
{
	char text[AUTHORITY_MAX];
	struct http_str host;
	struct upstream *up;
	uint16_t port;

	if (http_authority_split(authority, &host, &port) < 0 || host.n == 0 ||
	    host.n > sizeof(text))
		return NULL;
	for (uint32_t i = 0; i < host.n; i++)
		text[i] = lower(host.p[i]);
	if (host.n > 1 && text[host.n - 1] == '.')
		host.n--; /* absolute: the same host */
	up = slot_of(all, text, host.n, port, false)->up;
	return up || port == 0 ? up : slot_of(all, text, host.n, 0, false)->up;
}

/* ---- the table ---- */

static void on_look(void *arg)
{
	guard_wake(arg);
}

static void on_tick(struct timer *t)
{
	struct upstreams *all = CONTAINER_OF(t, struct upstreams, tick);

	OBJ_CHECK(all, UPSTREAMS_MAGIC);
	guard_wake(all);
	if (!list_empty(&all->waiting))
		timer_set_in(all->env.timers, t, GUARD_TICK_NS);
}

static int make_upstreams(struct upstreams *all, const struct config *cfg)
{
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		const struct config_upstream *u = &cfg->upstreams[i];
		int index = rhc_upstream_find(all->seg, u->name);
		int rc = index;

		if (index >= 0)
			rc = upstream_init(&all->up[i], all, u, &u->policy,
					   all->env.tls ? &all->env.tls[i] : NULL, (uint32_t)index);
		if (rc < 0) {
			log_event(LOG_UPSTREAM, LOG_ERROR, "upstream_failed",
				  LOG_STR("upstream", u->name), LOG_ERRNO("error", rc));
			return rc;
		}
		all->n = i + 1;
	}
	return 0;
}

static int make(struct upstreams *all)
{
	const struct upstream_env *env = &all->env;
	struct resolver_options ro = {
		.engine = env->engine,
		.timers = env->timers,
		.servers = env->dns_servers,
		.hosts_file = env->hosts_file,
	};
	uint32_t conns = env->http->conn_slab->count;
	int rc;

	/*
	 * A connect may be between two connections, and one that was given up may still be closing.
	 */
	rc = slab_init(&all->conns, "pool_conns", sizeof(struct pool_conn), conns);
	if (rc == 0)
		rc = slab_init(&all->dials, "pool_dials", sizeof(struct pool_dial), conns);
	if (rc == 0)
		rc = resolver_new(&ro, &all->resolver);
	if (rc < 0)
		return rc;
	all->up = calloc(all->cfg->upstreams_len + 1U, sizeof(*all->up));
	all->forward_max = UPSTREAM_FORWARD_MIN + 2 * all->seg->hdr.max_hosts;
	all->forward = calloc(all->forward_max, sizeof(struct upstream *));
	if (!all->up || !all->forward)
		return -ENOMEM;
	rc = make_upstreams(all, all->cfg);
	return rc < 0 ? rc : make_hosts(all);
}

int upstreams_new(const struct config *cfg, const struct upstream_env *env, struct upstreams **ret)
{
	struct upstreams *all = calloc(1, sizeof(*all));
	int rc;

	if (!all)
		return -ENOMEM;
	all->magic = UPSTREAMS_MAGIC;
	all->env = *env;
	all->cfg = cfg;
	all->seg = env->worker->seg;
	all->forward_quiet_ns = UPSTREAM_FORWARD_QUIET_NS;
	all->look.fn = on_look;
	all->look.arg = all;
	all->tick.fn = on_tick;
	list_init(&all->waiting);
	rc = make(all);
	if (rc < 0) {
		upstreams_free(all);
		return rc;
	}
	*ret = all;
	return 0;
}

static void drain(struct upstream *up)
{
	health_stop(up);
	pool_drain(up);
}

void upstreams_drain(struct upstreams *all)
{
	all->draining = true;
	for (uint32_t i = 0; i < all->n; i++)
		drain(&all->up[i]);
	for (uint32_t i = 0; i < all->forward_max; i++)
		if (all->forward[i])
			drain(all->forward[i]);
}

bool upstreams_idle(const struct upstreams *all)
{
	for (uint32_t i = 0; i < all->n; i++)
		if (!upstream_idle(&all->up[i]))
			return false;
	for (uint32_t i = 0; i < all->forward_max; i++)
		if (all->forward[i] && !upstream_idle(all->forward[i]))
			return false;
	if (!all->draining)
		return false;
	/* Lookups in flight serve nobody any more. */
	resolver_stop(all->resolver);
	return resolver_idle(all->resolver);
}

struct upstreams *upstreams_free(struct upstreams *all)
{
	if (!all)
		return NULL;
	OBJ_CHECK(all, UPSTREAMS_MAGIC);
	for (uint32_t i = 0; i < all->n; i++)
		upstream_fini(&all->up[i]);
	for (uint32_t i = 0; all->forward && i < all->forward_max; i++)
		if (all->forward[i])
			upstream_forward_free(all->forward[i]);
	resolver_free(all->resolver);
	timer_clear(all->env.timers, &all->tick);
	engine_undefer(&all->look);
	if (all->conns.magic)
		slab_fini(&all->conns);
	if (all->dials.magic)
		slab_fini(&all->dials);
	for (uint32_t i = 0; i < all->n_texts; i++)
		free(all->texts[i]);
	free(all->texts);
	free(all->hosts);
	free(all->forward);
	free(all->up);
	all->magic = 0;
	free(all);
	return NULL;
}

/* ---- retries ---- */

struct retry_decision upstream_retry(struct upstream *up, struct retry_facts *f)
{
	struct retry_decision d;
	uint32_t counter;

	f->now_ns = upstream_now(up);
	f->random = rng_u64(up->all->env.rng);
	f->draining = f->draining || up->all->draining;
	d = retry_next(&up->policy->retry, f);
	/*
	 * Charged at the decision: what is already in backoff is spent (a storm would overshoot
	 * otherwise).
	 */
	if (d.verdict == RETRY_YES && !retry_budget_take(&up->budget, f->now_ns))
		d = (struct retry_decision){ .verdict = RETRY_BUDGET };
	counter = retry_counter(d.verdict, f);
	if (counter != RETRY_COUNT_NONE)
		upstream_count(up, counter);
	if (d.verdict != RETRY_NOT_NEEDED)
		log_event(LOG_RETRY, LOG_DEBUG, "decided", LOG_STR("upstream", up->name),
			  LOG_STR("verdict", retry_verdict_word(d.verdict)),
			  LOG_STR("error", error_row(f->error)->id), LOG_U64("attempt", f->attempt),
			  LOG_U64("wait_ms", d.wait_ns / NS_PER_MS));
	return d;
}
