/*
 * Targets of the forward proxy: made when they are first asked for, a bounded number, idle ones
 * give way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/base/obj.h"
#include "sidecar/upstream/upstream_private.h"

enum { HOST_MAX = 253 };

struct forward {
	struct upstream up;
	struct config_upstream
		cfg; /* the defaults' policy, copied by value: strings stay the configuration's */
	uint64_t used_ns;
	char host[HOST_MAX + 1];
	char record[RHC_NAME_MAX + 1];
};

static struct forward *forward_of(struct upstream *up)
{
	return CONTAINER_OF(up, struct forward, up);
}

void upstream_forward_free(struct upstream *up)
{
	struct forward *f = forward_of(up);

	upstream_fini(up);
	free(f);
}

static bool is(const struct upstream *up, struct http_str host, uint16_t port)
{
	const struct config_url *url = &up->cfg->url;

	return url->port == port &&
	       http_str_ieq(host, (struct http_str){ url->host, (uint32_t)strlen(url->host) });
}

/*
 * May it give way?  A call between two attempts holds nothing of it but the pointer, so a target is
 * kept for longer than any backoff after it was last asked for.
 */
static bool may_go(const struct upstreams *all, struct upstream *up)
{
	uint64_t quiet = upstream_now(up) - forward_of(up)->used_ns;

	return up->users == 0 && upstream_idle(up) &&
	       quiet > all->forward_quiet_ns + up->policy->retry.max_wait_ns;
}

/* A free place; if there is none, the one of the target that is quiet for longest. */
static int place(struct upstreams *all)
{
	int oldest = -1;

	for (int i = 0; i < UPSTREAM_FORWARD_MAX; i++) {
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

/* Of the host with this port, of the host, or of all that have none: an index, or -ENOENT. */
static int record_of(struct upstreams *all, struct forward *f, uint16_t port)
{
	char text[HOST_MAX + 16];
	bool v6 = strchr(f->host, ':') != NULL;
	int n = snprintf(text, sizeof(text), v6 ? "[%s]:%u" : "%s:%u", f->host, port);
	int index;

	upstream_forward_record((struct http_str){ text, (uint32_t)n }, f->record);
	index = rhc_upstream_find(all->seg, f->record);
	if (index >= 0)
		return index;
	upstream_forward_record((struct http_str){ f->host, (uint32_t)strlen(f->host) }, f->record);
	index = rhc_upstream_find(all->seg, f->record);
	if (index >= 0)
		return index;
	f->up.shares = true;
	snprintf(f->record, sizeof(f->record), "%s", UPSTREAM_FORWARD_NAME);
	return all->forward_index;
}

static struct upstream *make(struct upstreams *all, struct http_str host, uint16_t port)
{
	struct forward *f = calloc(1, sizeof(*f));
	int index;

	if (!f)
		return NULL;
	memcpy(f->host, host.p, host.n);
	index = record_of(all, f, port);
	f->cfg.name = f->record;
	f->cfg.url =
		(struct config_url){ .text = f->host, .host = f->host, .path = "", .port = port };
	/* what stands in Host: without the port where that is the one of the scheme (RFC 9110 section 4.2.3) */
	f->cfg.url.port_written = port != 80;
	f->cfg.url.literal = strchr(f->host, ':') != NULL;
	f->cfg.policy = all->cfg->defaults;
	f->up.forward = true;
	if (index < 0 ||
	    upstream_init(&f->up, all, &f->cfg, &f->cfg.policy, NULL, (uint32_t)index) < 0) {
		free(f);
		return NULL;
	}
	return &f->up;
}

struct upstream *upstreams_forward(struct upstreams *all, struct http_str host, uint16_t port)
{
	int at;

	if (all->forward_index < 0 || all->draining || host.n == 0 || host.n > HOST_MAX)
		return NULL;
	for (int i = 0; i < UPSTREAM_FORWARD_MAX; i++) {
		if (all->forward[i] && is(all->forward[i], host, port)) {
			forward_of(all->forward[i])->used_ns = upstream_now(all->forward[i]);
			return all->forward[i];
		}
	}
	at = place(all);
	if (at < 0)
		return NULL;
	all->forward[at] = make(all, host, port);
	if (all->forward[at])
		forward_of(all->forward[at])->used_ns = upstream_now(all->forward[at]);
	return all->forward[at];
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
