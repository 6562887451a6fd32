/* rhcctl: what only reads. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"

enum { BEAT_MAX_MS = 5000 }; /* who has not turned its loop for so long hangs */

static const char *const lifecycle_names[] = { "starting", "ready", "draining", "stopped" };

static uint64_t since(const struct ctl *c, uint64_t then_ms)
{
	return c->now_ms > then_ms ? c->now_ms - then_ms : 0;
}

static uint64_t gauge(const uint64_t *row, unsigned opened, unsigned closed)
{
	return row[opened] > row[closed] ? row[opened] - row[closed] : 0;
}

/* ---- status ---- */

/* What a person should know first, in a sentence each. */
static void verdict(struct ctl *c, const struct rhc_view_upstream *u)
{
	char text[32];

	if (u->breaker.b.state == RHC_BRK_OPEN)
		out_note(&c->out, "! %s: circuit open, next probe in %s (last error %s)\n", u->name,
		         out_duration(u->breaker.b.retry_at_ms > c->now_ms ? u->breaker.b.retry_at_ms - c->now_ms : 0, text),
		         rhc_error_name(u->breaker.last_error));
	else if (u->breaker.b.state == RHC_BRK_ISOLATED)
		out_note(&c->out, "! %s: isolated by hand: %s\n", u->name,
		         u->breaker.note.set && u->breaker.note.reason[0] ? u->breaker.note.reason : "no reason given");
	if (u->bulkhead.waiting)
		out_note(&c->out, "! %s: %u calls wait for a slot, the oldest for %s, all %u are in use\n", u->name,
		         u->bulkhead.waiting, out_duration(u->bulkhead.oldest_wait_ms, text), u->bulkhead.limit);
}

static void circuit_cell(struct ctl *c, const struct rhc_view_upstream *u)
{
	const struct rhc_breaker *b = &u->breaker.b;
	char text[32];

	out_text(&c->out, "circuit_breaker_state", NULL, rhc_breaker_name(b->state));
	if (b->state == RHC_BRK_CLOSED)
		out_cell(&c->out, "CIRCUIT", "closed");
	else
		out_cell(&c->out, "CIRCUIT", "%s %s",
		         b->state == RHC_BRK_OPEN     ? "OPEN" :
		         b->state == RHC_BRK_ISOLATED ? "ISOLATED" :
		                                        rhc_breaker_name(b->state),
		         out_duration(since(c, u->breaker.since_ms), text));
}

static uint32_t failures(const struct rhc_view_upstream *u)
{
	return u->breaker.b.state == RHC_BRK_CLOSED ? u->breaker.b.failures : u->breaker.trip.failures;
}

static void traffic_cells(struct ctl *c, const struct rhc_view_upstream *u)
{
	struct out *o = &c->out;
	uint64_t n[RHC_CTR_COUNT], ok, calls, answered = 0;
	struct rhc_hist_sum h;
	uint32_t first = rhc_hist_first(RHC_HIST_request);

	rhc_view_counters(&c->seg, u->index, true, n, RHC_CTR_COUNT);
	rhc_view_hist(&c->seg, u->index, RHC_HIST_request, true, &h);
	ok = n[RHC_CTR_calls_ok_first] + n[RHC_CTR_calls_ok_retried];
	calls = ok + n[RHC_CTR_calls_failed_first] + n[RHC_CTR_calls_failed_retried] + n[RHC_CTR_brk_rejected];
	for (unsigned i = RHC_CTR_req_upstream_1xx; i <= RHC_CTR_req_aborted; i++)
		answered += n[i]; /* req_finished is half of a gauge and knows no reset */
	out_count(o, "calls", "CALLS", answered);
	out_share(o, "attempt_success_ratio", "SUCCESS", n[RHC_CTR_att_success],
	          n[RHC_CTR_att_success] + n[RHC_CTR_att_failure]);
	out_share(o, "call_success_ratio", "EFF_SUCC", ok, calls);
	out_share(o, "retry_ratio", "RETRIED", n[RHC_CTR_calls_ok_retried] + n[RHC_CTR_calls_failed_retried], calls);
	out_ns(o, "p50_seconds", "P50", rhc_hist_quantile(&h, first, 500), h.count > 0);
	out_ns(o, "p95_seconds", "P95", rhc_hist_quantile(&h, first, 950), h.count > 0);
	out_ns(o, "p99_seconds", "P99", rhc_hist_quantile(&h, first, 990), h.count > 0);
	out_count(o, "connections", "CONNS",
	          gauge(n, RHC_CTR_conn_h1_opened, RHC_CTR_conn_h1_closed) +
	                  gauge(n, RHC_CTR_conn_h2_opened, RHC_CTR_conn_h2_closed));
}

static void reachable_cell(struct ctl *c, const struct rhc_view_upstream *u)
{
	struct out *o = &c->out;

	if (u->health_known)
		out_flag(o, "service_reachable", NULL, u->reachable);
	else
		out_text(o, "service_reachable", NULL, NULL);
	if (!u->health_known)
		out_cell(o, "REACHABLE", "-");
	else if (u->reachable)
		out_cell(o, "REACHABLE", "yes %ums", u->health_took_ms);
	else
		out_cell(o, "REACHABLE", "no %s", rhc_error_name(u->health_error));
}

static void status_row(struct ctl *c, const struct rhc_view_upstream *u)
{
	struct out *o = &c->out;

	out_row(o);
	out_text(o, "name", "UPSTREAM", u->name);
	circuit_cell(c, u);
	out_of(o, "failures", "failure_threshold", "FAILS", failures(u), u->policy.failure_threshold);
	out_of(o, "in_use", "max_concurrency", "IN_USE", u->bulkhead.in_use, u->bulkhead.limit);
	out_count(o, "waiting", "WAIT", u->bulkhead.waiting);
	out_age(o, "oldest_wait_seconds", "OLDEST", u->bulkhead.oldest_wait_ms, u->bulkhead.waiting > 0);
	out_age(o, "oldest_held_seconds", NULL, u->bulkhead.oldest_held_ms, u->bulkhead.in_use > 0);
	traffic_cells(c, u);
	reachable_cell(c, u);
}

/* Workers alive whose last beat is old; told one by one. */
static unsigned silent_workers(struct ctl *c)
{
	struct rhc_view_worker w;
	char text[32];
	unsigned n = 0;

	for (uint32_t i = 0; i < c->seg.hdr.max_workers; i++) {
		if (rhc_view_worker(&c->seg, c->lock_fd, i, &w) != 0 || w.alive != RHC_ALIVE_YES ||
		    since(c, w.beat_ms) <= BEAT_MAX_MS)
			continue;
		out_note(&c->out, "! worker %u: its last beat is %s old\n", i,
			 out_duration(since(c, w.beat_ms), text));
		n++;
	}
	return n;
}

enum ctl_exit cmd_status(struct ctl *c)
{
	struct rhc_view_segment s;
	struct out *o = &c->out;
	char up[32], age[32], hash[20];
	enum ctl_exit rc;

	rhc_view_segment(&c->seg, c->lock_fd, &s);
	out_begin(o, "Status");
	out_text(o, "version", NULL, s.version);
	out_text(o, "instance", NULL, s.instance);
	out_text(o, "lifecycle", NULL, (unsigned)s.lifecycle < 4 ? lifecycle_names[s.lifecycle] : "unknown");
	out_flag(o, "supervisor_alive", NULL, s.sup_alive);
	out_text(o, "engine", NULL, s.engine);
	out_text(o, "preset", NULL, s.preset);
	snprintf(hash, sizeof(hash), "%016" PRIx64, s.cfg_hash);
	out_text(o, "config_hash", NULL, hash);
	out_age(o, "config_age_seconds", NULL, since(c, s.cfg_ms), s.cfg_ms != 0);
	out_age(o, "uptime_seconds", NULL, since(c, s.sup_start_ms), true);
	out_count(o, "workers_alive", NULL, s.workers_alive);
	out_note(o, "rhc-sidecar %s  %s  up %s  engine %s  preset %s  config %.7s (%s ago)  workers %u\n", s.version,
	         !s.sup_alive                ? "NO SUPERVISOR" :
	         (unsigned)s.lifecycle < 4 ? lifecycle_names[s.lifecycle] :
	                                       "unknown",
	         out_duration(since(c, s.sup_start_ms), up), s.engine, s.preset, hash,
	         out_duration(since(c, s.cfg_ms), age), s.workers_alive);
	if (since(c, s.sup_beat_ms) > BEAT_MAX_MS)
		out_note(o, "STALE: the supervisor's last beat is %s old\n", out_duration(since(c, s.sup_beat_ms), up));
	out_note(o, "\n");
	out_rows(o, "upstreams");
	rc = ctl_each(c, status_row);
	out_rows_end(o);
	out_note(o, "\n");
	(void)ctl_each(c, verdict);
	silent_workers(c);
	out_end(o);
	return rc;
}

/* ---- upstreams ---- */

static void upstream_row(struct ctl *c, const struct rhc_view_upstream *u)
{
	struct out *o = &c->out;
	uint64_t n[RHC_CTR_COUNT];

	rhc_view_counters(&c->seg, u->index, true, n, RHC_CTR_COUNT);
	out_row(o);
	out_text(o, "name", "NAME", u->name);
	circuit_cell(c, u);
	traffic_cells(c, u);
	out_count(o, "connections_idle", "IDLE", gauge(n, RHC_CTR_conn_idle_begun, RHC_CTR_conn_idle_ended));
	out_count(o, "connections_connecting", "CONNECTING",
	          gauge(n, RHC_CTR_conn_connecting_begun, RHC_CTR_conn_connecting_ended));
	out_count(o, "connects", "CONNECTS", n[RHC_CTR_connect_ok]);
	out_count(o, "connects_failed", "FAILED", n[RHC_CTR_connect_fail] + n[RHC_CTR_connect_timeout]);
	out_count(o, "tls_handshakes", "+TLS", n[RHC_CTR_tls_full] + n[RHC_CTR_tls_resumed]);
	out_count(o, "tls_resumed", "+RESUMED", n[RHC_CTR_tls_resumed]);
	out_count(o, "dns_lookups", "+DNS", n[RHC_CTR_dns_ok]);
	out_count(o, "dns_failures", "+DNS_FAILED", n[RHC_CTR_dns_fail] + n[RHC_CTR_dns_timeout]);
	out_count(o, "pool_timeouts", "+POOL_TIMEOUTS", n[RHC_CTR_pool_timeout]);
	reachable_cell(c, u);
}

enum ctl_exit cmd_upstreams(struct ctl *c)
{
	enum ctl_exit rc;

	out_begin(&c->out, "UpstreamList");
	out_rows(&c->out, "items");
	rc = ctl_each(c, upstream_row);
	out_end(&c->out);
	return rc;
}

/* ---- breakers ---- */

static void override_cells(struct ctl *c, const struct rhc_view_note *note, bool active, uint64_t until_ms)
{
	struct out *o = &c->out;
	char left[32];

	if (!active) {
		out_text(o, "override", "OVERRIDE", NULL);
		return;
	}
	out_text(o, "override", NULL, note->set ? rhc_verb_name((enum rhc_verb)note->verb) : "yes");
	out_text(o, "override_reason", NULL, note->set ? note->reason : NULL);
	out_age(o, "override_left_seconds", NULL, until_ms > c->now_ms ? until_ms - c->now_ms : 0, until_ms != 0);
	out_cell(o, "OVERRIDE", "%s%s%s%s%s", note->set ? rhc_verb_name((enum rhc_verb)note->verb) : "yes",
	         until_ms ? " for " : "", until_ms ? out_duration(until_ms > c->now_ms ? until_ms - c->now_ms : 0, left) : "",
	         note->set && note->reason[0] ? ": " : "", note->set ? note->reason : "");
}

static void breaker_row(struct ctl *c, const struct rhc_view_upstream *u)
{
	const struct rhc_breaker *b = &u->breaker.b;
	struct out *o = &c->out;
	uint64_t n[RHC_CTR_COUNT];
	char text[32];

	rhc_view_counters(&c->seg, u->index, true, n, RHC_CTR_COUNT);
	out_row(o);
	out_text(o, "name", "NAME", u->name);
	out_text(o, "state", "STATE", u->breaker.bad ? "INVALID" : rhc_breaker_name(b->state));
	out_age(o, "since_seconds", "SINCE", since(c, u->breaker.since_ms), u->breaker.since_ms != 0);
	out_age(o, "outage_seconds", "OUTAGE", since(c, u->breaker.open_since_ms), u->breaker.open_since_ms != 0);
	out_count(o, "failures", "FAILURES", failures(u));
	out_count(o, "failure_threshold", "THRESHOLD", u->policy.failure_threshold);
	out_age(o, "recovery_timeout_seconds", "RECOVERY_TIMEOUT", u->policy.recovery_ms, true);
	out_age(o, "next_probe_seconds", "NEXT_PROBE", b->retry_at_ms > c->now_ms ? b->retry_at_ms - c->now_ms : 0,
	        b->state == RHC_BRK_OPEN);
	out_count(o, "probes", "PROBES", u->breaker.probes);
	out_count(o, "opened_total", "OPENED_TOTAL",
	          n[RHC_CTR_brk_closed_open] + n[RHC_CTR_brk_half_open] + n[RHC_CTR_brk_to_open]);
	out_count(o, "rejected_total", "REJECTED", n[RHC_CTR_brk_rejected]);
	out_text(o, "last_error", NULL, u->breaker.last_failure_ms ? rhc_error_name(u->breaker.last_error) : NULL);
	out_age(o, "last_failure_seconds", NULL, since(c, u->breaker.last_failure_ms), u->breaker.last_failure_ms != 0);
	if (u->breaker.last_failure_ms)
		out_cell(o, "LAST_FAILURE", "%s %s ago", rhc_error_name(u->breaker.last_error),
		         out_duration(since(c, u->breaker.last_failure_ms), text));
	else
		out_cell(o, "LAST_FAILURE", "-");
	out_count(o, "generation", "+GENERATION", b->gen);
	override_cells(c, &u->breaker.note, b->state == RHC_BRK_ISOLATED || b->state == RHC_BRK_DISABLED, b->until_ms);
}

enum ctl_exit cmd_breaker_show(struct ctl *c)
{
	enum ctl_exit rc;

	out_begin(&c->out, "BreakerList");
	out_rows(&c->out, "items");
	rc = ctl_each(c, breaker_row);
	out_end(&c->out);
	return rc;
}

/* ---- bulkheads ---- */

static void bulkhead_row(struct ctl *c, const struct rhc_view_upstream *u)
{
	const struct rhc_view_bulkhead *b = &u->bulkhead;
	struct out *o = &c->out;
	uint64_t n[RHC_CTR_COUNT];

	rhc_view_counters(&c->seg, u->index, true, n, RHC_CTR_COUNT);
	out_row(o);
	out_text(o, "name", "NAME", u->name);
	out_of(o, "in_use", "max_concurrency", "IN_USE", b->in_use, b->limit);
	out_share(o, "utilization_ratio", "UTILIZATION", b->in_use, b->limit);
	out_count(o, "configured", "CONFIGURED", b->configured);
	out_count(o, "waiting", "WAITING", b->waiting);
	out_count(o, "max_waiting", "+MAX_WAITING", b->max_waiting);
	out_age(o, "oldest_wait_seconds", "OLDEST_WAIT", b->oldest_wait_ms, b->waiting > 0);
	out_age(o, "oldest_held_seconds", "OLDEST_HELD", b->oldest_held_ms, b->in_use > 0);
	out_count(o, "acquired_total", "ACQUIRED", n[RHC_CTR_slot_acquired]);
	out_count(o, "waited_total", "WAITED", n[RHC_CTR_slot_waited]);
	out_count(o, "rejected_timeout_total", "TIMEOUTS", n[RHC_CTR_slot_timeout]);
	out_count(o, "rejected_queue_full_total", "QUEUE_FULL", n[RHC_CTR_slot_queue_full]);
	out_count(o, "reaped_total", "REAPED", n[RHC_CTR_slot_reaped]);
	override_cells(c, &b->note, b->override.active, b->override.until_ms);
}

static void holders(struct ctl *c, uint32_t index)
{
	static struct rhc_view_holder held[RHC_SLOTS_MAX];
	uint32_t n = rhc_view_holders(&c->seg, index, c->now_ms, held, RHC_SLOTS_MAX);
	struct out *o = &c->out;

	out_rows(o, "holders");
	for (uint32_t i = 0; i < n && i < RHC_SLOTS_MAX; i++) {
		out_row(o);
		out_count(o, "slot", "SLOT", held[i].slot);
		out_count(o, "worker", "WORKER", held[i].worker);
		out_age(o, "age_seconds", "AGE", held[i].age_ms, true);
		out_flag(o, "above_limit", "ABOVE_LIMIT", held[i].above_limit);
		out_flag(o, "bad", "+BAD", held[i].bad);
	}
	out_rows_end(o);
}

enum ctl_exit cmd_bulkhead_show(struct ctl *c)
{
	enum ctl_exit rc;

	out_begin(&c->out, "BulkheadList");
	out_rows(&c->out, "items");
	rc = ctl_each(c, bulkhead_row);
	out_rows_end(&c->out);
	if (rc == CTL_OK && c->n_args == 1) {
		out_note(&c->out, "\n");
		holders(c, (uint32_t)rhc_upstream_find(&c->seg, c->args[0]));
	}
	out_end(&c->out);
	return rc;
}

/* ---- overrides, workers ---- */

static unsigned overridden;

static void one_override(struct ctl *c, const char *name, const char *kind, const char *what,
                         const struct rhc_view_note *note, uint64_t until_ms)
{
	struct out *o = &c->out;
	char who[32];

	overridden++;
	out_row(o);
	out_text(o, "upstream", "UPSTREAM", name);
	out_text(o, "kind", "KIND", kind);
	out_text(o, "value", "VALUE", what);
	snprintf(who, sizeof(who), "uid %u pid %u", note->uid, note->pid);
	out_text(o, "by", "BY", note->set ? who : NULL);
	out_age(o, "age_seconds", "AGE", since(c, note->at_ms), note->set);
	out_age(o, "left_seconds", "LEFT", until_ms > c->now_ms ? until_ms - c->now_ms : 0, until_ms != 0);
	out_text(o, "reason", "REASON", note->set ? note->reason : NULL);
}

static void overrides_of(struct ctl *c, const struct rhc_view_upstream *u)
{
	const struct rhc_breaker *b = &u->breaker.b;
	char what[48];

	if (b->state == RHC_BRK_ISOLATED || b->state == RHC_BRK_DISABLED)
		one_override(c, u->name, "breaker", rhc_breaker_name(b->state), &u->breaker.note, b->until_ms);
	if (u->bulkhead.override.active) {
		snprintf(what, sizeof(what), "%u (configured %u)", u->bulkhead.limit, u->bulkhead.configured);
		one_override(c, u->name, "limit", what, &u->bulkhead.note, u->bulkhead.override.until_ms);
	}
}

enum ctl_exit cmd_overrides(struct ctl *c)
{
	enum ctl_exit rc;

	out_begin(&c->out, "OverrideList");
	out_rows(&c->out, "items");
	overridden = 0;
	rc = ctl_each(c, overrides_of);
	out_rows_end(&c->out);
	if (rc == CTL_OK && overridden == 0)
		out_note(&c->out, "nothing was changed by hand\n");
	out_end(&c->out);
	return rc;
}

enum ctl_exit cmd_workers(struct ctl *c)
{
	static const char *const phases[] = { "starting", "serving", "draining", "stopping" };
	struct out *o = &c->out;
	struct rhc_view_worker w;
	char end[48];

	out_begin(o, "WorkerList");
	out_rows(o, "items");
	for (uint32_t i = 0; i < c->seg.hdr.max_workers; i++) {
		if (rhc_view_worker(&c->seg, c->lock_fd, i, &w) != 0 || (w.alive == RHC_ALIVE_FREE && !w.restarts))
			continue;
		out_row(o);
		out_count(o, "id", "ID", i);
		out_count(o, "pid", "PID", w.pid);
		out_text(o, "state", "STATE",
		         w.alive == RHC_ALIVE_DEAD  ? "dead" :
		         w.alive == RHC_ALIVE_FREE  ? "gone" :
		         (unsigned)w.phase < 4      ? phases[w.phase] :
		                                      "unknown");
		out_age(o, "heartbeat_age_seconds", "HEARTBEAT", since(c, w.beat_ms), w.alive != RHC_ALIVE_FREE);
		out_age(o, "uptime_seconds", "UP", since(c, w.start_ms), w.alive == RHC_ALIVE_YES);
		out_count(o, "connections", "CONNS", w.conns);
		out_count(o, "in_flight", "IN_FLIGHT", w.in_flight);
		out_count(o, "slots", "SLOTS", w.slots);
		out_count(o, "restarts", "RESTARTS", w.restarts);
		if (w.last_end_ms)
			snprintf(end, sizeof(end), w.last_status & 0x7f ? "signal %u" : "exit %u",
			         w.last_status & 0x7f ? w.last_status & 0x7f : w.last_status >> 8 & 0xff);
		out_text(o, "last_end", "LAST_END", w.last_end_ms ? end : NULL);
		out_text(o, "version", "+VERSION", w.version);
		out_count(o, "incarnation", "+INC", w.inc);
	}
	out_end(o);
	return CTL_OK;
}

/* ---- health, audit ---- */

static bool health_row(struct ctl *c, const struct rhc_view_upstream *u)
{
	struct out *o = &c->out;
	bool good = u->breaker.b.state == RHC_BRK_CLOSED || u->breaker.b.state == RHC_BRK_DISABLED;
	const struct rhc_view_bulkhead *b = &u->bulkhead;

	out_row_named(o, u->name, "UPSTREAM");
	out_text(o, "circuit_breaker_state", "CIRCUIT",
		 u->policy.disabled ? "unknown" : rhc_breaker_name(u->breaker.b.state));
	if (u->policy.unlimited)
		out_text(o, "pool_available_slots", "AVAILABLE_SLOTS", NULL);
	else
		out_count(o, "pool_available_slots", "AVAILABLE_SLOTS",
			  b->limit > b->in_use ? b->limit - b->in_use : 0);
	reachable_cell(c, u);
	out_age(o, "service_response_time", NULL, u->health_took_ms, u->health_known && u->reachable);
	out_text(o, "service_error", NULL, u->health_known && !u->reachable ? rhc_error_text(u->health_error) : NULL);
	out_age(o, "checked_seconds_ago", "CHECKED", since(c, u->health_at_ms), u->health_known);
	return good && (!u->health_known || u->reachable);
}

static bool all_good;

static void health_each(struct ctl *c, const struct rhc_view_upstream *u)
{
	if (u->name[0] != '_')
		all_good = health_row(c, u) && all_good;
}

enum ctl_exit cmd_health(struct ctl *c)
{
	struct rhc_view_segment s;
	struct out *o = &c->out;

	rhc_view_segment(&c->seg, c->lock_fd, &s);
	all_good = s.sup_alive && s.lifecycle == RHC_LIFE_READY && s.workers_alive > 0;
	out_begin(o, "Health");
	out_flag(o, "client_initialized", NULL, all_good);
	out_rows_named(o, "upstreams");
	(void)ctl_each(c, health_each);
	out_rows_end(o);
	all_good = silent_workers(c) == 0 && since(c, s.sup_beat_ms) <= BEAT_MAX_MS && all_good;
	out_text(o, "status", NULL, all_good ? "healthy" : "degraded");
	out_note(o, "\n%s\n", all_good ? "healthy" : "degraded");
	out_end(o);
	return all_good ? CTL_OK : CTL_NO;
}

enum ctl_exit cmd_audit(struct ctl *c)
{
	static struct rhc_finding found[1024];
	struct out *o = &c->out;
	uint32_t n = rhc_view_audit(&c->seg, c->lock_fd, c->now_ms, found, RHC_COUNT(found));
	char name[RHC_NAME_MAX + 1];

	if (n > 0) { /* what traffic does in an instant is gone in the next look */
		usleep(200000);
		n = rhc_view_audit(&c->seg, c->lock_fd, ctl_now_ms(), found, RHC_COUNT(found));
	}
	out_begin(o, "Audit");
	out_count(o, "findings", NULL, n);
	out_rows(o, "items");
	for (uint32_t i = 0; i < n && i < RHC_COUNT(found); i++) {
		out_row(o);
		out_text(o, "finding", "FINDING", rhc_finding_name(found[i].what));
		if (found[i].upstream < c->seg.hdr.max_upstreams)
			rhc_upstream_name(&c->seg, found[i].upstream, name);
		else
			name[0] = 0;
		out_text(o, "upstream", "UPSTREAM", name[0] ? name : NULL);
		out_count(o, "index", "INDEX", found[i].index);
		out_count(o, "worker", "WORKER", found[i].worker);
	}
	out_rows_end(o);
	out_note(o, n ? "%u findings; rhcctl repair puts them right\n" : "every slot, waiter and probe is accounted for\n", n);
	out_end(o);
	return n ? CTL_NO : CTL_OK;
}
