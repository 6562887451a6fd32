/*
 * Targets of the forward proxy: made when they are first asked for, a bounded number, idle ones
 * give way.  A target is this worker's; its record in the segment is everybody's and, unless it is of the
 * configuration, held by calls alone (shm/host.h): between two calls it may have gone to another host.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/host.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/upstream_private.h"

enum { HOST_MAX = 253, TEXT_MAX = HOST_MAX + 16 };
_Static_assert(TEXT_MAX <= RHC_HOST_MAX, "every host fits");

struct forward {
	struct upstream up;
	struct config_upstream
		cfg; /* the defaults' policy, copied by value: strings stay the configuration's */
	uint64_t used_ns;
	char host[HOST_MAX + 1];
	char text[TEXT_MAX]; /* host:port, what tells hosts apart in the segment; in lower case */
	char record[RHC_NAME_MAX + 1];
	struct rhc_host_use use; /* gen 0: never had one */
	uint32_t open[RHC_CTR_NAMED]; /* at OPENED counters, while it rests: how many are open here */
};

static struct forward *forward_of(struct upstream *up)
{
	return CONTAINER_OF(up, struct forward, up);
}

void upstream_forward_free(struct upstream *up)
{
	struct forward *f = forward_of(up);

	if (up->host && !up->resting)
		upstream_forward_rest(up);
	upstream_fini(up);
	free(f);
}

/* ---- its record in the segment ---- */

static uint64_t now_ms(const struct upstream *up)
{
	return upstream_now(up) / NS_PER_MS;
}

bool upstream_forward_get(struct upstream *up)
{
	return rhc_host_pin(up->all->env.worker, &forward_of(up)->use, 0);
}

void upstream_forward_put(struct upstream *up)
{
	rhc_host_unpin(up->all->env.worker, &forward_of(up)->use, 0);
}

void upstream_forward_rest(struct upstream *up)
{
	struct forward *f = forward_of(up);

	for (unsigned i = 0; i < RHC_CTR_NAMED; i++) {
		if (rhc_uctr_kind(i) == RHC_KIND_OPENED)
			f->open[i] = (uint32_t)(rhc_load(&up->ctr[i]) - rhc_load(&up->ctr[i + 1]));
	}
	rhc_host_unpin(up->all->env.worker, &f->use, now_ms(up));
	up->resting = true;
}

/* A connection that ends, a lookup that comes back: counted if the record is still this host's. */
void upstream_forward_count(struct upstream *up, unsigned counter)
{
	struct forward *f = forward_of(up);

	if (rhc_uctr_kind(counter) == RHC_KIND_OPENED)
		f->open[counter]++;
	else if (rhc_uctr_kind(counter) == RHC_KIND_CLOSED)
		f->open[counter - 1]--;
	if (!upstream_forward_get(up))
		return;
	rhc_ctr_inc(up->ctr, counter);
	upstream_forward_put(up);
}

/* Another record, or the same one begun anew: what is open here is open there. */
static void move_in(struct forward *f, struct upstreams *all, const struct rhc_host_use *use)
{
	struct upstream *up = &f->up;

	f->use = *use;
	up->index = use->upstream;
	up->ctr = rhc_seg_ctr(all->seg, all->env.worker->index, up->index);
	for (unsigned i = 0; i < RHC_CTR_NAMED; i++) {
		if (f->open[i])
			rhc_ctr_add(up->ctr, i, f->open[i]);
	}
}

static enum rhc_error claim(struct forward *f, struct upstreams *all)
{
	struct rhc_host_wish wish = { .name = f->record,
				      .text = f->text,
				      .ttl_ms = config_ms(all->cfg->forward_proxy.host_ttl_ns) };
	struct rhc_host_use use;
	uint64_t wake = 0;
	bool made;
	int rc = rhc_host_claim(all->env.worker, &wish, engine_now(all->env.engine) / NS_PER_MS,
				&use, &made, &wake);

	guard_wake_mask(all, wake);
	if (rc != 0)
		return rc == -ENOSPC ? RHC_ERR_hosts_full : RHC_ERR_overloaded;
	if (use.gen != f->use.gen || use.upstream != f->use.upstream)
		move_in(f, all, &use);
	return RHC_ERR_none;
}

/* Awake: its record is its own until the last call drops it. */
static enum rhc_error awake(struct upstream *up)
{
	struct forward *f = forward_of(up);
	enum rhc_error e;

	if (!up->resting)
		return RHC_ERR_none;
	if (!rhc_host_pin(up->all->env.worker, &f->use, now_ms(up))) {
		e = claim(f, up->all);
		if (e != RHC_ERR_none)
			return e;
		guard_init(up); /* nobody waits, nobody holds: handles of the new record */
	}
	up->resting = false;
	return RHC_ERR_none;
}

static bool is(const struct upstream *up, struct http_str host, uint16_t port)
{
	const struct config_url *url = &up->cfg->url;

	return url->port == port &&
	       http_str_ieq(host, (struct http_str){ url->host, (uint32_t)strlen(url->host) });
}

/* May it give way?  One that rests has no call; of the others a call may have the pointer alone. */
static bool may_go(const struct upstreams *all, struct upstream *up)
{
	uint64_t quiet = upstream_now(up) - forward_of(up)->used_ns;

	if (up->host)
		return up->resting && upstream_idle(up);
	return up->users == 0 && upstream_idle(up) &&
	       quiet > all->forward_quiet_ns + up->policy->retry.max_wait_ns;
}

/* A free place; if there is none, the one of the target that is quiet for longest. */
static int place(struct upstreams *all)
{
	int oldest = -1;

	for (int i = 0; i < (int)all->forward_max; i++) {
		struct upstream *up = all->forward[i];

		if (!up)
			return i;
		if (may_go(all, up) &&
		    (oldest < 0 ||
		     forward_of(up)->used_ns < forward_of(all->forward[oldest])->used_ns))
			oldest = i;
	}
	if (oldest >= 0) {
		upstream_forward_free(all->forward[oldest]);
		all->forward[oldest] = NULL;
	}
	return oldest;
}

bool upstream_forward_is_host(const char *pattern)
{
	return *pattern && !strpbrk(pattern, "*?");
}

void upstream_forward_record(struct http_str host, char out[RHC_NAME_MAX + 1])
{
	static const char prefix[] = UPSTREAM_FORWARD_NAME ":";
	size_t at = sizeof(prefix) - 1;
	uint32_t hash = 2166136261U; /* FNV-1a of a name that has to be cut, so that it stays its own */

	memcpy(out, prefix, at);
	for (uint32_t i = 0; i < host.n; i++) {
		char c = host.p[i];

		c = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
		hash = (hash ^ (uint8_t)c) * 16777619U;
		if (at < RHC_NAME_MAX)
			out[at++] = c;
	}
	out[at] = '\0';
	if (sizeof(prefix) - 1 + host.n > RHC_NAME_MAX)
		snprintf(out + RHC_NAME_MAX - 9, 10, "~%08x", hash);
}

static int declared(struct upstreams *all, struct forward *f, const char *text)
{
	int index;

	upstream_forward_record((struct http_str){ text, (uint32_t)strlen(text) }, f->record);
	index = rhc_upstream_find(all->seg, f->record);
	return index >= 0 && !rhc_seg_is_host(all->seg, (uint32_t)index) ? index : -ENOENT;
}

/* The record of the configuration: of the host with this port, or of the host; -ENOENT. */
static int record_of(struct upstreams *all, struct forward *f, uint16_t port)
{
	bool v6 = strchr(f->host, ':') != NULL;
	int index;

	snprintf(f->text, sizeof(f->text), v6 ? "[%s]:%u" : "%s:%u", f->host, port);
	for (char *c = f->text; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
	index = declared(all, f, f->text);
	return index >= 0 ? index : declared(all, f, f->host);
}

/* Its place in the segment. */
static enum rhc_error settle(struct upstreams *all, struct forward *f, uint16_t port,
			     uint32_t *ret_index)
{
	int index = record_of(all, f, port);
	enum rhc_error e;

	if (index >= 0) {
		*ret_index = (uint32_t)index;
		return RHC_ERR_none;
	}
	upstream_forward_record((struct http_str){ f->text, (uint32_t)strlen(f->text) }, f->record);
	e = claim(f, all);
	f->up.host = e == RHC_ERR_none;
	*ret_index = f->use.upstream;
	return e;
}

static struct upstream *make(struct upstreams *all, struct http_str host, uint16_t port,
			     enum rhc_error *ret_why)
{
	struct forward *f = calloc(1, sizeof(*f));
	uint32_t index;

	*ret_why = RHC_ERR_overloaded;
	if (!f)
		return NULL;
	memcpy(f->host, host.p, host.n);
	*ret_why = settle(all, f, port, &index);
	f->cfg.name = f->record;
	f->cfg.url =
		(struct config_url){ .text = f->host, .host = f->host, .path = "", .port = port };
	/* what stands in Host: without the port where that is the one of the scheme (RFC 9110 section 4.2.3) */
	f->cfg.url.port_written = port != 80;
	f->cfg.url.literal = strchr(f->host, ':') != NULL;
	f->cfg.policy = all->cfg->defaults;
	f->up.forward = true;
	if (*ret_why == RHC_ERR_none &&
	    upstream_init(&f->up, all, &f->cfg, &f->cfg.policy, NULL, index) < 0) {
		if (f->up.host)
			rhc_host_unpin(all->env.worker, &f->use, 0);
		*ret_why = RHC_ERR_overloaded;
	}
	if (*ret_why != RHC_ERR_none) {
		free(f);
		return NULL;
	}
	return &f->up;
}

static struct upstream *known(struct upstreams *all, struct http_str host, uint16_t port)
{
	for (uint32_t i = 0; i < all->forward_max; i++) {
		if (all->forward[i] && is(all->forward[i], host, port))
			return all->forward[i];
	}
	return NULL;
}

struct upstream *upstreams_forward(struct upstreams *all, struct http_str host, uint16_t port,
				   enum rhc_error *ret_why)
{
	struct upstream *up;
	int at;

	*ret_why = RHC_ERR_overloaded;
	if (all->draining || host.n == 0 || host.n > HOST_MAX)
		return NULL;
	up = known(all, host, port);
	if (up) {
		*ret_why = awake(up);
	} else {
		at = place(all);
		if (at < 0)
			return NULL;
		up = all->forward[at] = make(all, host, port, ret_why);
	}
	if (!up || *ret_why != RHC_ERR_none)
		return NULL;
	forward_of(up)->used_ns = upstream_now(up);
	return up;
}

/*
 * '*' any run of characters, '?' any one; letter case does not matter.  Linear: one place to come
 * back to.
 */
static bool glob(const char *pattern, struct http_str text)
{
	const char *star = NULL;
	uint32_t i = 0, back = 0;

	while (i < text.n) {
		char c = text.p[i], p = *pattern;

		c = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
		p = p >= 'A' && p <= 'Z' ? (char)(p + 32) : p;
		if (p == '*') {
			star = pattern++;
			back = i;
		} else if (p != '\0' && (p == '?' || p == c)) {
			pattern++;
			i++;
		} else if (star) {
			pattern = star + 1;
			i = ++back;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool upstream_forward_allowed(const struct config *cfg, struct http_str host)
{
	if (!cfg->forward_proxy.enabled)
		return false;
	for (uint32_t i = 0; i < cfg->forward_proxy.allow.len; i++)
		if (glob(cfg->forward_proxy.allow.item[i], host))
			return true;
	return false;
}
