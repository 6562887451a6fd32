/* What the supervisor makes of a configuration: records of the segment and TLS policies. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/host.h"
#include "sidecar/io/tls.h"
#include "sidecar/upstream/upstream_private.h"

enum { LEASE_GRACE_MS = 5000, ALPN_MAX = 64 };

static uint32_t ms32(uint64_t ns)
{
	uint64_t ms = config_ms(ns);

	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* A probe may take every wait of one attempt, and then some. */
static uint32_t lease_ms(const struct config_policy *p)
{
	const struct config_timeout *t = &p->timeout;
	uint64_t ms = config_ms(t->pool_ns) + config_ms(t->connect_ns) + config_ms(t->write_ns) +
		      config_ms(t->read_ns) + LEASE_GRACE_MS;

	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

void upstream_policy(const struct config_policy *p, struct rhc_policy *ret)
{
	const struct config_breaker *b = &p->breaker;
	bool rate = b->failure_rate.threshold_bp > 0, slow = b->slow_call.threshold_bp > 0;
	bool grows = b->open_backoff.multiplier_milli > 1000;

	*ret = (struct rhc_policy){
		.failure_threshold = b->failure_threshold,
		.recovery_ms = ms32(b->recovery_timeout_ns),
		.recovery_max_ms = ms32(grows ? b->open_backoff.max_ns : b->recovery_timeout_ns),
		.growth_milli = b->open_backoff.multiplier_milli,
		.jitter_permille = b->open_backoff.jitter_bp / 10,
		.half_open_max = b->half_open_max_calls,
		.success_threshold = b->success_threshold,
		.lease_ms = lease_ms(p),
		.window_ms = rate || slow ? ms32(b->failure_rate.window_ns) : 0,
		.min_calls = b->failure_rate.min_calls,
		.failure_permille = b->failure_rate.threshold_bp / 10,
		.slow_ms = ms32(b->slow_call.duration_ns),
		.slow_permille = b->slow_call.threshold_bp / 10,
		.disabled = !b->enabled,
		.limit = p->bulkhead.max_concurrency,
		.max_waiting = p->bulkhead.max_waiting,
		.unlimited = !p->bulkhead.enabled,
	};
}

static bool forwards(const struct config *cfg)
{
	return cfg->forward_proxy.enabled && cfg->forward_proxy.allow.len > 0;
}

static int declare(struct rhc_segment *seg, const char *name, const struct config_policy *p,
		   uint64_t now_ms, uint64_t *wake, char *why, size_t cap)
{
	struct rhc_policy policy;
	uint32_t index;
	int rc;

	upstream_policy(p, &policy);
	rc = rhc_upstream_declare(seg, name, &policy, now_ms, &index, wake);
	if (rc < 0)
		snprintf(why, cap, "upstream '%s': %s", name, strerror(-rc));
	return rc;
}

/*
 * Hosts that are written out have records like upstreams.  What only a pattern lets through, and a
 * host the segment has no room left for, gets one when it is called.
 */
static int declare_forward(const struct config *cfg, struct rhc_segment *seg, uint64_t now_ms,
			   uint64_t *wake, char *why, size_t cap)
{
	const struct config_strings *allow = &cfg->forward_proxy.allow;
	char record[RHC_NAME_MAX + 1];
	struct rhc_policy policy;
	bool claims = false;
	int rc = 0;

	upstream_policy(&cfg->defaults, &policy);
	rhc_host_policy(seg, &policy, now_ms, wake);
	for (uint32_t i = 0; i < allow->len && rc == 0; i++) {
		const char *host = allow->item[i];

		if (upstream_forward_is_host(host)) {
			upstream_forward_record((struct http_str){ host, (uint32_t)strlen(host) },
						record);
			rc = declare(seg, record, &cfg->defaults, now_ms, wake, why, cap);
		}
		claims = claims || rc == -ENOSPC || !upstream_forward_is_host(host);
		rc = rc == -ENOSPC ? 0 : rc;
	}
	if (rc != 0 || !claims || seg->hdr.max_hosts > 0)
		return rc;
	snprintf(why, cap, "forward_proxy.allow: the segment has no records for hosts");
	return -ENOSPC;
}

int upstreams_declare(const struct config *cfg, struct rhc_segment *seg, uint64_t now_ms,
		      uint64_t *wake, char *why, size_t cap)
{
	int rc = 0;

	for (uint32_t i = 0; i < cfg->upstreams_len && rc == 0; i++)
		rc = declare(seg, cfg->upstreams[i].name, &cfg->upstreams[i].policy, now_ms,
			     wake, why, cap);
	if (rc == 0 && forwards(cfg))
		rc = declare_forward(cfg, seg, now_ms, wake, why, cap);
	return rc;
}

bool upstreams_declares(const struct config *cfg, const char *name)
{
	char record[RHC_NAME_MAX + 1];

	if (config_upstream(cfg, name))
		return true;
	for (uint32_t i = 0; forwards(cfg) && i < cfg->forward_proxy.allow.len; i++) {
		const char *host = cfg->forward_proxy.allow.item[i];

		upstream_forward_record((struct http_str){ host, (uint32_t)strlen(host) }, record);
		if (upstream_forward_is_host(host) && strcmp(name, record) == 0)
			return true;
	}
	return false;
}

/* ---- TLS ---- */

static void join(const struct config_strings *list, char *out, size_t cap)
{
	size_t at = 0;

	out[0] = '\0';
	for (uint32_t i = 0; i < list->len && at < cap; i++)
		at += (size_t)snprintf(out + at, cap - at, "%s%s", i ? "," : "", list->item[i]);
}

static bool offers(const struct config_strings *list, const char *what)
{
	for (uint32_t i = 0; i < list->len; i++)
		if (strcmp(list->item[i], what) == 0)
			return true;
	return false;
}

static int policy_new(const struct config_upstream *u, const char *alpn, struct tls_policy **ret,
		      char *why, size_t cap)
{
	const struct config_tls *t = &u->policy.tls;
	struct tls_options o = {
		.insecure = !t->verify,
		.min_version = t->min_version == CONFIG_TLS_1_3 ? TLS_1_3 : TLS_1_2,
		.ca_file = t->ca_file,
		.server_name = t->server_name,
		.alpn = alpn,
		.cert_file = t->client_cert_file,
		.key_file = t->client_key_file,
	};
	char reason[TLS_WHY_MAX] = "";
	int rc = tls_policy_new(&o, ret, reason, sizeof(reason));

	if (rc < 0)
		snprintf(why, cap, "upstream '%s': %s", u->name, reason);
	return rc;
}

static int tls_of(const struct config_upstream *u, struct upstream_tls *ret, char *why, size_t cap)
{
	char alpn[ALPN_MAX];
	int rc;

	switch (u->policy.pool.http2) {
	case CONFIG_HTTP2_OFF:
		snprintf(alpn, sizeof(alpn), "http/1.1");
		break;
	case CONFIG_HTTP2_PRIOR_KNOWLEDGE:
		snprintf(alpn, sizeof(alpn), "h2");
		break;
	case CONFIG_HTTP2_AUTO:
		join(&u->policy.tls.alpn, alpn, sizeof(alpn));
		break;
	}
	rc = policy_new(u, alpn, &ret->any, why, cap);
	if (rc < 0)
		return rc;
	if (u->policy.pool.http2 == CONFIG_HTTP2_OFF || !offers(&u->policy.tls.alpn, "h2")) {
		ret->h1 = ret->any;
		return 0;
	}
	return policy_new(u, "http/1.1", &ret->h1, why, cap);
}

int upstream_tls_new(const struct config *cfg, struct upstream_tls **ret, char *why, size_t cap)
{
	struct upstream_tls *tls = calloc(cfg->upstreams_len + 1U, sizeof(*tls));
	int rc = 0;

	if (!tls) {
		snprintf(why, cap, "out of memory");
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < cfg->upstreams_len && rc == 0; i++)
		if (cfg->upstreams[i].url.tls)
			rc = tls_of(&cfg->upstreams[i], &tls[i], why, cap);
	if (rc < 0) {
		upstream_tls_free(tls, cfg);
		return rc;
	}
	*ret = tls;
	return 0;
}

struct upstream_tls *upstream_tls_free(struct upstream_tls *tls, const struct config *cfg)
{
	if (!tls)
		return NULL;
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		if (tls[i].h1 && tls[i].h1 != tls[i].any)
			tls_policy_free(tls[i].h1);
		if (tls[i].any)
			tls_policy_free(tls[i].any);
	}
	free(tls);
	return NULL;
}
