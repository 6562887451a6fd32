#include "sidecar/admin/status.h"

#include <inttypes.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/json.h"

enum { STATUS_ROOM = 1 << 20 };

static const char *const lifecycle_names[] = { "starting", "ready", "draining", "stopped" };

static const char *lifecycle(const struct rhc_view_segment *s)
{
	return (unsigned)s->lifecycle < 4 ? lifecycle_names[s->lifecycle] : "unknown";
}

static uint64_t now_ms(void)
{
	return clock_ns() / NS_PER_MS;
}

bool status_begin(struct json *j, struct text *t, const char *kind)
{
	char *p = text_room(t, STATUS_ROOM);

	if (!p)
		return false;
	json_init(j, p, STATUS_ROOM);
	json_object(j, NULL);
	json_str(j, "apiVersion", "rhc.dev/v1");
	json_str(j, "kind", kind);
	return true;
}

void status_end(struct json *j, struct text *t)
{
	int n;

	json_end(j);
	n = json_finish(j);
	if (n < 0)
		t->failed = true;
	else
		t->n += (size_t)n;
}

static void seconds_ago(struct json *j, const char *key, uint64_t then_ms, uint64_t now)
{
	if (then_ms)
		json_decimal(j, key, now > then_ms ? now - then_ms : 0, 3);
	else
		json_null(j, key);
}

static void age(struct json *j, const char *key, uint64_t ms, bool known)
{
	if (known)
		json_decimal(j, key, ms, 3);
	else
		json_null(j, key);
}

static void breaker_members(struct json *j, const struct admin *a,
			    const struct rhc_view_upstream *u, uint64_t now)
{
	const struct rhc_breaker *b = &u->breaker.b;

	(void)a;
	json_str(j, "state", rhc_breaker_name(b->state));
	json_u64(j, "failures",
		 b->state == RHC_BRK_CLOSED ? b->failures : u->breaker.trip.failures);
	json_u64(j, "failure_threshold", u->policy.failure_threshold);
	seconds_ago(j, "since_seconds", u->breaker.since_ms, now);
	seconds_ago(j, "outage_seconds", u->breaker.open_since_ms, now);
	if (b->state == RHC_BRK_OPEN)
		json_decimal(j, "next_probe_seconds",
			     b->retry_at_ms > now ? b->retry_at_ms - now : 0, 3);
	else
		json_null(j, "next_probe_seconds");
	seconds_ago(j, "last_failure_seconds", u->breaker.last_failure_ms, now);
	json_str(j, "last_error",
		 u->breaker.last_failure_ms ? rhc_error_name(u->breaker.last_error) : NULL);
	json_u64(j, "generation", b->gen);
	json_str(j, "reason",
		 u->breaker.note.set && u->breaker.note.reason[0] ? u->breaker.note.reason : NULL);
}

static void bulkhead_members(struct json *j, const struct admin *a,
			    const struct rhc_view_upstream *u, uint64_t now)
{
	(void)a;
	(void)now;
	json_u64(j, "in_use", u->bulkhead.in_use);
	json_u64(j, "max_concurrency", u->bulkhead.limit);
	json_u64(j, "configured", u->bulkhead.configured);
	json_u64(j, "waiting", u->bulkhead.waiting);
	age(j, "oldest_wait_seconds", u->bulkhead.oldest_wait_ms, u->bulkhead.waiting > 0);
	age(j, "oldest_held_seconds", u->bulkhead.oldest_held_ms, u->bulkhead.in_use > 0);
	json_bool(j, "override", u->bulkhead.override.active);
}

static void traffic_json(struct json *j, const struct rhc_segment *seg, uint32_t i)
{
	uint64_t c[RHC_CTR_COUNT];
	struct rhc_hist_sum h;
	static const struct {
		const char *name;
		unsigned permille;
	} q[] = { { "p50_seconds", 500 }, { "p95_seconds", 950 }, { "p99_seconds", 990 } };

	rhc_view_counters(seg, i, false, c, RHC_CTR_COUNT);
	rhc_view_hist(seg, i, RHC_HIST_request, false, &h);
	json_object(j, "calls");
	json_u64(j, "total", c[RHC_CTR_req_finished]);
	json_u64(j, "in_flight", c[RHC_CTR_req_started] - c[RHC_CTR_req_finished]);
	json_u64(j, "successful", c[RHC_CTR_calls_ok_first] + c[RHC_CTR_calls_ok_retried]);
	json_u64(j, "failed", c[RHC_CTR_calls_failed_first] + c[RHC_CTR_calls_failed_retried]);
	json_u64(j, "rejected", c[RHC_CTR_brk_rejected]);
	for (size_t k = 0; k < ARRAY_LEN(q); k++) {
		if (h.count)
			json_decimal(j, q[k].name,
				     rhc_hist_quantile(&h, rhc_hist_first(RHC_HIST_request),
						       q[k].permille) /
					     1000,
				     6);
		else
			json_null(j, q[k].name);
	}
	json_end(j);
	json_object(j, "attempts");
	json_u64(j, "total", c[RHC_CTR_att_started]);
	json_u64(j, "success", c[RHC_CTR_att_success]);
	json_u64(j, "failure", c[RHC_CTR_att_failure]);
	json_end(j);
}

static const char *phase(enum rhc_worker_phase p)
{
	static const char *const names[] = { "starting", "serving", "draining", "stopping" };

	return (unsigned)p < 4 ? names[p] : "unknown";
}

static void workers_json(struct json *j, const char *key, struct admin *a, uint64_t now)
{
	struct rhc_view_worker w;

	json_array(j, key);
	for (uint32_t i = 0; i < a->seg->hdr.max_workers; i++) {
		if (rhc_view_worker(a->seg, a->lock_fd, i, &w) != 0 || w.alive == RHC_ALIVE_FREE)
			continue;
		json_object(j, NULL);
		json_u64(j, "id", i);
		json_u64(j, "pid", w.pid);
		json_bool(j, "alive", w.alive == RHC_ALIVE_YES);
		json_str(j, "phase", phase(w.phase));
		json_u64(j, "generation", w.generation);
		seconds_ago(j, "heartbeat_age_seconds", w.beat_ms, now);
		json_u64(j, "connections", w.conns);
		json_u64(j, "in_flight", w.in_flight);
		json_u64(j, "restarts", w.restarts);
		json_end(j);
	}
	json_end(j);
}

static void connections_json(struct json *j, const uint64_t *c)
{
	json_object(j, "connections");
	json_u64(j, "http1", c[RHC_CTR_conn_h1_opened] - c[RHC_CTR_conn_h1_closed]);
	json_u64(j, "http2", c[RHC_CTR_conn_h2_opened] - c[RHC_CTR_conn_h2_closed]);
	json_u64(j, "idle", c[RHC_CTR_conn_idle_begun] - c[RHC_CTR_conn_idle_ended]);
	json_u64(j, "connecting",
		 c[RHC_CTR_conn_connecting_begun] - c[RHC_CTR_conn_connecting_ended]);
	json_u64(j, "connects", c[RHC_CTR_connect_ok]);
	json_u64(j, "connects_failed", c[RHC_CTR_connect_fail] + c[RHC_CTR_connect_timeout]);
	json_end(j);
}

static void reachable_json(struct json *j, const struct rhc_view_upstream *u, uint64_t now)
{
	json_object(j, "health");
	if (u->health_known)
		json_bool(j, "service_reachable", u->reachable);
	else
		json_null(j, "service_reachable");
	age(j, "service_response_time", u->health_took_ms, u->health_known && u->reachable);
	json_str(j, "service_error",
		 u->health_known && !u->reachable ? rhc_error_text(u->health_error) : NULL);
	seconds_ago(j, "checked_seconds_ago", u->health_known ? u->health_at_ms : 0, now);
	json_end(j);
}

/* All there is to say of one upstream. */
static void upstream_members(struct json *j, const struct admin *a,
			     const struct rhc_view_upstream *u, uint64_t now)
{
	const struct config_upstream *config = config_upstream(a->config, u->name);
	uint64_t c[RHC_CTR_COUNT];

	json_str(j, "url", config ? config->url.text : NULL);
	json_object(j, "circuit_breaker");
	breaker_members(j, a, u, now);
	json_end(j);
	json_object(j, "bulkhead");
	bulkhead_members(j, a, u, now);
	json_end(j);
	traffic_json(j, a->seg, u->index);
	rhc_view_counters(a->seg, u->index, false, c, RHC_CTR_COUNT);
	connections_json(j, c);
	reachable_json(j, u, now);
}

/* What is said of one upstream, within its object. */
typedef void members_fn(struct json *, const struct admin *, const struct rhc_view_upstream *,
			uint64_t now);

static void each_upstream(struct admin *a, struct json *j, const char *key, members_fn *members)
{
	struct rhc_view_upstream u;
	uint64_t now = now_ms();

	json_array(j, key);
	for (uint32_t i = 0; i < a->seg->hdr.max_upstreams; i++) {
		if (rhc_view_upstream(a->seg, i, now, &u) != 0)
			continue;
		json_object(j, NULL);
		json_str(j, "name", u.name);
		members(j, a, &u, now);
		json_end(j);
	}
	json_end(j);
}

static void list(struct admin *a, struct text *t, const char *kind, members_fn *members)
{
	struct json j;

	if (!status_begin(&j, t, kind))
		return;
	each_upstream(a, &j, "items", members);
	status_end(&j, t);
}

static void one(struct admin *a, struct text *t, const char *kind, uint32_t index,
		members_fn *members)
{
	struct rhc_view_upstream u;
	uint64_t now = now_ms();
	struct json j;

	if (!status_begin(&j, t, kind))
		return;
	if (rhc_view_upstream(a->seg, index, now, &u) == 0) {
		json_str(&j, "name", u.name);
		members(&j, a, &u, now);
	}
	status_end(&j, t);
}

void status_upstreams(struct admin *a, struct text *t)
{
	list(a, t, "UpstreamList", upstream_members);
}

void status_upstream(struct admin *a, struct text *t, uint32_t index)
{
	one(a, t, "Upstream", index, upstream_members);
}

void status_json(struct admin *a, struct text *t)
{
	struct rhc_view_segment s;
	uint64_t now = now_ms();
	struct json j;

	if (!status_begin(&j, t, "Status"))
		return;
	rhc_view_segment(a->seg, a->lock_fd, &s);
	json_str(&j, "version", RHC_VERSION);
	json_str(&j, "instance", s.instance);
	json_str(&j, "lifecycle", lifecycle(&s));
	json_str(&j, "engine", s.engine);
	json_str(&j, "preset", s.preset);
	seconds_ago(&j, "uptime_seconds", s.sup_start_ms, now);
	workers_json(&j, "workers", a, now);
	each_upstream(a, &j, "upstreams", upstream_members);
	status_end(&j, t);
}

void status_breakers(struct admin *a, struct text *t)
{
	list(a, t, "BreakerList", breaker_members);
}

void status_bulkheads(struct admin *a, struct text *t)
{
	list(a, t, "BulkheadList", bulkhead_members);
}

void status_workers(struct admin *a, struct text *t)
{
	struct json j;

	if (!status_begin(&j, t, "WorkerList"))
		return;
	workers_json(&j, "items", a, now_ms());
	status_end(&j, t);
}

void status_breaker(struct admin *a, struct text *t, uint32_t index)
{
	one(a, t, "Breaker", index, breaker_members);
}

void status_text(struct admin *a, struct text *t)
{
	struct rhc_view_segment s;
	struct rhc_view_upstream u;
	uint64_t now = now_ms(), c[RHC_CTR_COUNT];

	rhc_view_segment(a->seg, a->lock_fd, &s);
	text_add(t, "rhc-sidecar %s  %s  engine %s  preset %s  workers %u\n\n", RHC_VERSION,
		 lifecycle(&s), s.engine, s.preset, s.workers_alive);
	text_add(t, "%-24s %-10s %9s %11s %6s %10s %10s\n", "UPSTREAM", "CIRCUIT", "FAILS",
		 "IN_USE", "WAIT", "CALLS", "FAILED");
	for (uint32_t i = 0; i < a->seg->hdr.max_upstreams; i++) {
		char fails[24], use[24];

		if (rhc_view_upstream(a->seg, i, now, &u) != 0)
			continue;
		rhc_view_counters(a->seg, i, false, c, RHC_CTR_COUNT);
		snprintf(fails, sizeof(fails), "%u/%u",
			 u.breaker.b.state == RHC_BRK_CLOSED ? u.breaker.b.failures
							     : u.breaker.trip.failures,
			 u.policy.failure_threshold);
		snprintf(use, sizeof(use), "%u/%u", u.bulkhead.in_use, u.bulkhead.limit);
		text_add(t, "%-24s %-10s %9s %11s %6u %10" PRIu64 " %10" PRIu64 "\n", u.name,
			 rhc_breaker_name(u.breaker.b.state), fails, use, u.bulkhead.waiting,
			 c[RHC_CTR_req_finished],
			 c[RHC_CTR_calls_failed_first] + c[RHC_CTR_calls_failed_retried]);
	}
}

/* ---- health ---- */

static bool is_target(const struct rhc_view_upstream *u)
{
	return u->name[0] != '_'; /* the forward proxy's record has no address of its own */
}

bool status_health_complete(struct admin *a, uint64_t since_ms)
{
	struct rhc_view_upstream u;

	for (uint32_t i = 0; i < a->seg->hdr.max_upstreams; i++) {
		if (rhc_view_upstream(a->seg, i, now_ms(), &u) == 0 && is_target(&u) &&
		    (!u.health_known || u.health_at_ms / 1000 < since_ms / 1000))
			return false;
	}
	return true;
}

static bool health_one(struct json *j, const struct rhc_view_upstream *u,
		       const struct config *config, uint64_t since_ms)
{
	const struct config_upstream *c = config_upstream(config, u->name);
	bool known = u->health_known && u->health_at_ms / 1000 >= since_ms / 1000;
	uint32_t in_use = u->bulkhead.in_use, limit = u->bulkhead.limit;

	json_object(j, u->name);
	json_str(j, "circuit_breaker_state",
		 c && !c->policy.breaker.enabled ? "unknown"
						 : rhc_breaker_name(u->breaker.b.state));
	if (c && c->policy.bulkhead.enabled)
		json_u64(j, "pool_available_slots", limit > in_use ? limit - in_use : 0);
	else
		json_null(j, "pool_available_slots");
	json_bool(j, "service_reachable", known && u->reachable);
	if (known && u->reachable)
		json_decimal(j, "service_response_time", u->health_took_ms, 3);
	else
		json_str(j, "service_error",
			 known ? rhc_error_text(u->health_error) : "no answer in time");
	json_end(j);
	return known && u->reachable && u->breaker.b.state == RHC_BRK_CLOSED;
}

void status_health(struct admin *a, struct text *t, uint64_t since_ms, bool *strict_bad)
{
	struct rhc_view_segment s;
	struct rhc_view_upstream u;
	bool good = true;
	struct json j;

	if (!status_begin(&j, t, "Health"))
		return;
	rhc_view_segment(a->seg, a->lock_fd, &s);
	json_bool(&j, "client_initialized", s.lifecycle == RHC_LIFE_READY);
	json_object(&j, "upstreams");
	for (uint32_t i = 0; i < a->seg->hdr.max_upstreams; i++) {
		if (rhc_view_upstream(a->seg, i, now_ms(), &u) == 0 && is_target(&u))
			good = health_one(&j, &u, a->config, since_ms) && good;
	}
	json_end(&j);
	good = good && s.lifecycle == RHC_LIFE_READY;
	json_str(&j, "status", good ? "healthy" : "degraded");
	status_end(&j, t);
	*strict_bad = !good;
}
