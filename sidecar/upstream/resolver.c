#include "sidecar/upstream/resolver.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/io/engine.h"
#include "sidecar/io/timer.h"
#include "sidecar/upstream/dns.h"

enum {
	RESOLVER_MAGIC = 0x52534c56,
	NAME_MAGIC = 0x52534e4d,
	NAME_MAX_LEN = 253, /* RFC 1035 section 2.3.4, as text */
	ABSOLUTE_DOTS = 2,
	HOSTS_TTL_S = 10, /* how soon a changed hosts file is noticed */
};

struct resolver {
	uint32_t magic;
	struct engine *engine;
	struct timer_wheel *timers;
	struct dns *dns;
	char *hosts_file;
	struct list names;
	bool stopped;
};

struct resolver_name {
	uint32_t magic;
	struct list_node node;
	struct resolver *r;
	const struct config_dns *rule;
	struct resolver_events ev;
	struct list waits;
	struct timer timer;  /* dns.timeout of the lookup */
	struct dns_ask *ask; /* the question in flight; may outlive its timeout */
	bool looking;        /* somebody may wait for it */
	bool fixed;          /* literal, localhost: known for ever */
	bool search;
	enum resolver_error err; /* of the last lookup */
	uint64_t err_until_ns;
	uint64_t begun_ns;
	uint64_t refresh_ns, expires_ns, stale_ns; /* of the addresses */
	uint32_t generation;
	uint32_t n;
	uint16_t port;
	union resolver_addr addr[RESOLVER_ADDRS_MAX];
	char host[NAME_MAX_LEN + 1];
};

/* ---- errors ---- */

const char *resolver_error_rcode(enum resolver_error e)
{
	static const char *const rcodes[RESOLVER_ERROR_COUNT] = {
#define X(ID, rcode, text) [RESOLVER_##ID] = rcode,
		RESOLVER_ERRORS(X)
#undef X
	};

	assert((unsigned)e < RESOLVER_ERROR_COUNT);
	return rcodes[e];
}

const char *resolver_error_text(enum resolver_error e)
{
	static const char *const texts[RESOLVER_ERROR_COUNT] = {
#define X(ID, rcode, text) [RESOLVER_##ID] = text,
		RESOLVER_ERRORS(X)
#undef X
	};

	assert((unsigned)e < RESOLVER_ERROR_COUNT);
	return texts[e];
}

bool resolver_error_permanent(enum resolver_error e)
{
	return e == RESOLVER_NXDOMAIN || e == RESOLVER_NODATA || e == RESOLVER_BAD_NAME;
}

/* ---- life ---- */

int resolver_new(const struct resolver_options *o, struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->magic = RESOLVER_MAGIC;
	r->engine = o->engine;
	r->timers = o->timers;
	list_init(&r->names);
	r->hosts_file = o->hosts_file ? strdup(o->hosts_file) : NULL;
	rc = o->hosts_file && !r->hosts_file ? -ENOMEM : dns_new(o, &r->dns);
	if (rc < 0) {
		free(r->hosts_file);
		free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void resolver_stop(struct resolver *r)
{
	OBJ_CHECK(r, RESOLVER_MAGIC);
	if (r->stopped)
		return;
	r->stopped = true;
	LIST_FOREACH(n, &r->names)
	{
		struct resolver_name *name = LIST_ENTRY(n, struct resolver_name, node);

		dns_forget(name->ask);
		name->ask = NULL;
		name->looking = false;
		timer_clear(r->timers, &name->timer);
		while (list_pop_front(&name->waits)) {
		}
	}
	dns_stop(r->dns);
}

bool resolver_idle(const struct resolver *r)
{
	return dns_idle(r->dns);
}

struct resolver *resolver_free(struct resolver *r)
{
	struct list_node *n;

	if (!r)
		return NULL;
	resolver_stop(r);
	while ((n = list_first(&r->names)) != NULL)
		resolver_name_free(LIST_ENTRY(n, struct resolver_name, node));
	dns_free(r->dns);
	OBJ_FINI(r, RESOLVER_MAGIC);
	free(r->hosts_file);
	free(r);
	return NULL;
}

static void on_timeout(struct timer *t);

static bool needs_search(const char *host)
{
	unsigned dots = 0;

	for (const char *p = host; *p; p++)
		dots += *p == '.';
	return dots < ABSOLUTE_DOTS && host[strlen(host) - 1] != '.';
}

int resolver_name_new(struct resolver *r, const char *host, uint16_t port,
		      const struct config_dns *dns, const struct resolver_events *ev,
		      struct resolver_name **ret)
{
	size_t n = strlen(host);
	struct resolver_name *name;

	OBJ_CHECK(r, RESOLVER_MAGIC);
	if (n == 0 || n > NAME_MAX_LEN)
		return -EINVAL;
	name = calloc(1, sizeof(*name));
	if (!name)
		return -ENOMEM;
	name->magic = NAME_MAGIC;
	name->r = r;
	name->rule = dns;
	name->port = port;
	name->timer.fn = on_timeout;
	name->search = needs_search(host);
	if (ev)
		name->ev = *ev;
	memcpy(name->host, host, n + 1);
	list_init(&name->waits);
	list_push_back(&r->names, &name->node);
	*ret = name;
	return 0;
}

void resolver_name_free(struct resolver_name *n)
{
	if (!n)
		return;
	OBJ_FINI(n, NAME_MAGIC);
	dns_forget(n->ask);
	timer_clear(n->r->timers, &n->timer);
	while (list_pop_front(&n->waits)) {
	}
	list_remove(&n->node);
	free(n);
}

/* ---- keeping answers ---- */

static bool same_set(const struct resolver_name *n, const struct dns_found *f)
{
	if (n->n != f->n)
		return false;
	for (uint32_t i = 0; i < f->n; i++) {
		uint32_t k = 0;

		while (k < n->n && !resolver_addr_equal(&n->addr[k], &f->addr[i]))
			k++;
		if (k == n->n)
			return false;
	}
	return true;
}

static void keep(struct resolver_name *n, const struct dns_found *f, uint64_t now)
{
	uint64_t ttl = (uint64_t)f->ttl_s * NS_PER_S;

	if (ttl < n->rule->ttl_min_ns)
		ttl = n->rule->ttl_min_ns;
	if (ttl > n->rule->ttl_max_ns)
		ttl = n->rule->ttl_max_ns;
	/* The order of an answer rotates from one to the next; only another set is news. */
	if (!same_set(n, f)) {
		memcpy(n->addr, f->addr, f->n * sizeof(f->addr[0]));
		n->n = f->n;
		n->generation++;
	}
	n->err = RESOLVER_OK;
	n->err_until_ns = 0;
	n->refresh_ns = now + ttl - ttl / 4;
	n->expires_ns = now + ttl;
	n->stale_ns = n->expires_ns + n->rule->stale_if_error_ns;
}

static void keep_error(struct resolver_name *n, enum resolver_error err, uint64_t now)
{
	n->err = err;
	n->err_until_ns = now + n->rule->negative_ttl_ns;
	/*
	 * The servers say that there is nothing any more: that is an answer, not a failure (RFC
	 * 8767 section 4).
	 */
	if (resolver_error_permanent(err) && n->n > 0) {
		n->n = 0;
		n->generation++;
	}
}

static bool stale_ok(const struct resolver_name *n, uint64_t now)
{
	return n->n > 0 && now < n->stale_ns;
}

/* The lookup is over for whoever waits. */
static void tell(struct resolver_name *n, uint64_t now)
{
	enum resolver_error err = stale_ok(n, now) ? RESOLVER_OK : n->err;
	struct list waits;
	struct list_node *w;

	list_init(&waits);
	list_splice_back(&waits, &n->waits);
	/* done() may cancel others of the list, and may ask for this name again: both are fine. */
	while ((w = list_pop_front(&waits)) != NULL) {
		struct resolver_wait *wait = LIST_ENTRY(w, struct resolver_wait, node);

		wait->done(wait, err);
	}
}

static void finish(struct resolver_name *n, enum resolver_error err, uint64_t now)
{
	uint64_t took = now - n->begun_ns;

	n->looking = false;
	timer_clear(n->r->timers, &n->timer);
	if (n->ev.on_lookup)
		n->ev.on_lookup(n->ev.owner, err, took);
	if (err == RESOLVER_OK)
		log_event(LOG_DNS, LOG_DEBUG, "resolved", LOG_STR("host", n->host),
			  LOG_U64("addresses", n->n), LOG_U64("took_ms", took / NS_PER_MS));
	else
		log_event(LOG_DNS, LOG_WARN, "resolve_failed", LOG_STR("host", n->host),
			  LOG_STR("error", resolver_error_text(err)),
			  LOG_STR("rcode", resolver_error_rcode(err)),
			  LOG_BOOL("stale", stale_ok(n, now)),
			  LOG_U64("took_ms", took / NS_PER_MS));
	tell(n, now);
}

static void on_found(void *arg, const struct dns_found *f)
{
	struct resolver_name *n = arg;
	uint64_t now = clock_ns();

	OBJ_CHECK(n, NAME_MAGIC);
	n->ask = NULL;
	if (f->err == RESOLVER_OK) {
		struct dns_found sorted = *f;

		dns_interleave(sorted.addr, sorted.n);
		keep(n, &sorted, now);
	} else if (n->looking) {
		keep_error(n, f->err, now);
	}
	/* A late answer is kept as well, though nobody waits for it any more. */
	if (n->looking)
		finish(n, f->err, now);
}

static void on_timeout(struct timer *t)
{
	struct resolver_name *n = CONTAINER_OF(t, struct resolver_name, timer);
	uint64_t now = clock_ns();

	OBJ_CHECK(n, NAME_MAGIC);
	keep_error(n, RESOLVER_TIMEOUT, now);
	finish(n, RESOLVER_TIMEOUT, now);
}

/* ---- asking ---- */

/* True when the name needs no server. */
static bool look_locally(struct resolver_name *n, uint64_t now)
{
	struct dns_found f;
	enum dns_local kind = dns_local(n->r->hosts_file, n->host, n->port, n->rule->family, &f);

	if (kind == DNS_LOCAL_NO)
		return false;
	f.ttl_s = HOSTS_TTL_S;
	n->fixed = kind == DNS_LOCAL_FIXED;
	if (f.n > 0)
		keep(n, &f, now);
	else
		keep_error(n, RESOLVER_NODATA, now);
	return true;
}

static void look(struct resolver_name *n, uint64_t now)
{
	struct dns_ask *ask;

	if (n->looking || n->r->stopped)
		return;
	if (look_locally(n, now))
		return;
	dns_forget(n->ask); /* one that timed out and is still on its way */
	n->ask = NULL;
	n->looking = true;
	n->begun_ns = now;
	timer_set(n->r->timers, &n->timer, now + n->rule->timeout_ns);
	ask = dns_lookup(n->r->dns, n->host, n->port, n->rule->family, n->search, on_found, n);
	if (ask)
		n->ask = ask;
}

static enum resolver_answer what_we_have(const struct resolver_name *n, uint64_t now,
					 enum resolver_error *ret_err)
{
	bool failed = n->err != RESOLVER_OK && now < n->err_until_ns;

	if (n->n > 0 && (n->fixed || now < n->expires_ns || (failed && stale_ok(n, now))))
		return RESOLVER_READY;
	if (n->r->stopped) {
		*ret_err = RESOLVER_SYSTEM;
		return RESOLVER_FAILED;
	}
	if (failed) {
		*ret_err = n->err;
		return RESOLVER_FAILED;
	}
	return RESOLVER_WAITING;
}

enum resolver_answer resolver_get(struct resolver_name *n, struct resolver_wait *w,
				  enum resolver_error *ret_err)
{
	uint64_t now = clock_ns();
	enum resolver_answer a;

	OBJ_CHECK(n, NAME_MAGIC);
	assert(!list_linked(&w->node));
	a = what_we_have(n, now, ret_err);
	if (a == RESOLVER_READY && !n->fixed && now >= n->refresh_ns && now >= n->err_until_ns)
		look(n, now); /* in the background */
	if (a != RESOLVER_WAITING)
		return a;
	look(n, now);
	if (n->looking) {
		list_push_back(&n->waits, &w->node);
		return RESOLVER_WAITING;
	}
	/*
	 * It was over at once.  negative_ttl may be 0, so the error is not remembered, only told.
	 */
	if (n->n > 0 && n->err == RESOLVER_OK)
		return RESOLVER_READY;
	if (stale_ok(n, now))
		return RESOLVER_READY;
	*ret_err = n->err != RESOLVER_OK ? n->err : RESOLVER_SYSTEM;
	return RESOLVER_FAILED;
}

void resolver_cancel(struct resolver_wait *w)
{
	list_remove(&w->node);
}

uint32_t resolver_addrs(const struct resolver_name *n, const union resolver_addr **ret,
			uint32_t *ret_generation)
{
	OBJ_CHECK(n, NAME_MAGIC);
	*ret = n->addr;
	*ret_generation = n->generation;
	return n->n;
}
