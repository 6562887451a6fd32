#include "sidecar/admin/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/clock.h"

/* Bucket bounds of the exposition, in ns: edges of the histograms, so that counts are exact. */
static const uint64_t bounds[] = {
	500000,     1000000,    2500000,    5000000,     10000000,    25000000,    50000000,    100000000,    250000000,
	500000000,  1000000000, 2500000000, 5000000000,  10000000000, 30000000000, 60000000000, 120000000000,
};

struct family {
	const char *group, *name, *labels, *help;
};

static const struct family families[] = {
#define FAMILY(group, name, labels, help) { group, name, labels, help },
#include "sidecar/admin/metrics.def"
#undef FAMILY
};

struct view { /* one look at the segment for the whole exposition */
	struct rhc_view_segment  seg;
	uint32_t                 n; /* upstreams in use */
	uint64_t                 now_ms;
};

struct writer {
	struct admin *a;
	struct text  *t;
	bool          open; /* OpenMetrics */
	struct view   v;
};

static const char *name_of(const struct rhc_segment *seg, uint32_t i, char out[RHC_NAME_MAX + 1])
{
	rhc_upstream_name(seg, i, out);
	return out;
}

static void head(struct writer *w, const char *name, const char *type, const char *help)
{
	bool counter = strcmp(type, "counter") == 0;

	/* OpenMetrics names the family without the suffix, 0.0.4 with it */
	text_add(w->t, "# HELP rhc_%s%s %s\n# TYPE rhc_%s%s %s\n", name, counter && !w->open ? "_total" : "", help, name,
	         counter && !w->open ? "_total" : "", type);
}

/* "upstream,2xx" with labels "source,code" becomes source="upstream",code="2xx". */
static void label_pairs(char *out, size_t cap, const char *labels, const char *values)
{
	size_t n = 0;

	out[0] = 0;
	while (*labels) {
		size_t l = strcspn(labels, ","), v = strcspn(values, ",");

		n += (size_t)snprintf(out + n, cap - n, "%s%.*s=\"%.*s\"", n ? "," : "", (int)l, labels, (int)v, values);
		if (n >= cap)
			return;
		labels += l + (labels[l] == ',');
		values += v + (values[v] == ',');
	}
}

static void number(struct text *t, uint8_t kind, uint64_t v)
{
	if (kind == RHC_KIND_NS)
		text_add(t, "%" PRIu64 ".%09" PRIu64 "\n", v / NS_PER_S, v % NS_PER_S);
	else
		text_add(t, "%" PRIu64 "\n", v);
}

static bool in_use(const struct writer *w, uint32_t u)
{
	return rhc_upstream_state(w->a->seg, u) == RHC_UP_USED;
}

/* ---- counters ---- */

static void family_upstream(struct writer *w, const struct family *f)
{
	const struct rhc_segment *seg = w->a->seg;
	uint64_t row[RHC_CTR_COUNT];
	char name[RHC_NAME_MAX + 1], pairs[128];

	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		if (!in_use(w, u))
			continue;
		rhc_view_counters(seg, u, false, row, RHC_CTR_COUNT);
		for (uint32_t i = 0; i < RHC_CTR_NAMED; i++) {
			struct rhc_desc d;

			rhc_desc_make(i, &d);
			if (strcmp(d.group, f->group) != 0)
				continue;
			label_pairs(pairs, sizeof(pairs), f->labels, d.label);
			text_add(w->t, "rhc_%s_total{upstream=\"%s\"%s%s} ", f->name, name_of(seg, u, name),
			         pairs[0] ? "," : "", pairs);
			number(w->t, d.kind, row[i]);
		}
	}
}

static void family_worker(struct writer *w, const struct family *f)
{
	uint64_t row[RHC_WCTR_COUNT];
	char pairs[128];

	rhc_view_worker_sum(w->a->seg, row, RHC_WCTR_COUNT);
	for (uint32_t i = 0; i < RHC_WCTR_COUNT; i++) {
		struct rhc_desc d;

		rhc_desc_make((uint32_t)RHC_CTR_COUNT + i, &d);
		if (strcmp(d.group, f->group) != 0)
			continue;
		label_pairs(pairs, sizeof(pairs), f->labels, d.label);
		text_add(w->t, "rhc_%s_total%s%s%s ", f->name, pairs[0] ? "{" : "", pairs, pairs[0] ? "}" : "");
		number(w->t, d.kind, row[i]);
	}
}

static bool is_worker_group(const char *group)
{
	for (uint32_t i = 0; i < RHC_WCTR_COUNT; i++) {
		struct rhc_desc d;

		rhc_desc_make((uint32_t)RHC_CTR_COUNT + i, &d);
		if (strcmp(d.group, group) == 0)
			return true;
	}
	return false;
}

static void counters(struct writer *w)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		head(w, families[i].name, "counter", families[i].help);
		if (is_worker_group(families[i].group))
			family_worker(w, &families[i]);
		else
			family_upstream(w, &families[i]);
	}
}

static void errors(struct writer *w, const char *name, const char *help, uint32_t first)
{
	const struct rhc_segment *seg = w->a->seg;
	uint64_t row[RHC_CTR_COUNT];
	char text[RHC_NAME_MAX + 1];

	head(w, name, "counter", help);
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		if (!in_use(w, u))
			continue;
		rhc_view_counters(seg, u, false, row, RHC_CTR_COUNT);
		for (unsigned e = 1; e < RHC_ERR_COUNT; e++)
			text_add(w->t, "rhc_%s_total{upstream=\"%s\",error=\"%s\"} %" PRIu64 "\n", name,
			         name_of(seg, u, text), rhc_error_name(e), row[first + e]);
	}
}

/* ---- gauges from counters ---- */

struct pair {
	uint32_t    opened, closed;
	const char *name, *label, *help;
};

static const struct pair pairs[] = {
#define GAUGE(opened, closed, name, label, help) { RHC_CTR_##opened, RHC_CTR_##closed, name, label, help },
#include "sidecar/admin/metrics.def"
#undef GAUGE
};

static void differences(struct writer *w)
{
	const struct rhc_segment *seg = w->a->seg;
	uint64_t row[RHC_CTR_COUNT];
	char name[RHC_NAME_MAX + 1];

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (i == 0 || strcmp(pairs[i].name, pairs[i - 1].name) != 0)
			head(w, pairs[i].name, "gauge", pairs[i].help);
		for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
			uint64_t o, c;

			if (!in_use(w, u))
				continue;
			rhc_view_counters(seg, u, false, row, RHC_CTR_COUNT);
			o = row[pairs[i].opened];
			c = row[pairs[i].closed];
			text_add(w->t, "rhc_%s{upstream=\"%s\"%s%s} %" PRIu64 "\n", pairs[i].name,
			         name_of(seg, u, name), pairs[i].label[0] ? "," : "", pairs[i].label, o > c ? o - c : 0);
		}
	}
}

/* ---- histograms ---- */

static void histogram(struct writer *w, enum rhc_hist_id id, const char *metric, const char *help)
{
	const struct rhc_segment *seg = w->a->seg;
	char full[64], name[RHC_NAME_MAX + 1];
	struct rhc_hist_sum h;

	snprintf(full, sizeof(full), "%s_seconds", metric);
	head(w, full, "histogram", help);
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		if (!in_use(w, u))
			continue;
		rhc_view_hist(seg, u, id, false, &h);
		name_of(seg, u, name);
		for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
			text_add(w->t, "rhc_%s_bucket{upstream=\"%s\",le=\"%g\"} %" PRIu64 "\n", full, name,
			         (double)bounds[i] / 1e9, rhc_hist_le(&h, rhc_hist_first(id), bounds[i]));
		text_add(w->t,
		         "rhc_%s_bucket{upstream=\"%s\",le=\"+Inf\"} %" PRIu64 "\nrhc_%s_sum{upstream=\"%s\"} %.9f\n"
		         "rhc_%s_count{upstream=\"%s\"} %" PRIu64 "\n",
		         full, name, h.count, full, name, (double)h.sum_ns / 1e9, full, name, h.count);
	}
}

/* ---- states ---- */

static void states(struct writer *w)
{
	const struct rhc_segment *seg = w->a->seg;
	struct rhc_view_upstream u;

	head(w, "circuit_breaker_state", "gauge", "1 for the state the circuit breaker is in.");
	for (uint32_t i = 0; i < seg->hdr.max_upstreams; i++) {
		if (rhc_view_upstream(seg, i, w->v.now_ms, &u) != 0)
			continue;
		for (unsigned s = 0; s < RHC_BRK_STATES; s++)
			text_add(w->t, "rhc_circuit_breaker_state{upstream=\"%s\",state=\"%s\"} %d\n", u.name,
			         rhc_breaker_name((enum rhc_breaker_state)s), s == u.breaker.b.state);
	}
}

static double since_epoch(const struct rhc_segment *seg, uint64_t ms)
{
	return ms ? (double)rhc_view_wall_ns(seg, ms * NS_PER_MS) / 1e9 : 0;
}

/* clang-format off */
#define UP_GAUGES(X) \
	X("circuit_breaker_failures",                   "Consecutive failures counted now.",                 u.breaker.b.state == RHC_BRK_CLOSED ? u.breaker.b.failures : u.policy.failure_threshold) \
	X("circuit_breaker_failure_threshold",          "Consecutive failures that open the circuit.",       u.policy.failure_threshold) \
	X("circuit_breaker_last_failure_timestamp_seconds", "When an attempt failed last, 0: never.",        since_epoch(seg, u.breaker.last_failure_ms)) \
	X("circuit_breaker_opened_timestamp_seconds",   "When the outage began, 0: there is none.",          since_epoch(seg, u.breaker.open_since_ms)) \
	X("bulkhead_in_use",                            "Slots in use.",                                     u.bulkhead.in_use) \
	X("bulkhead_max_concurrency",                   "Slots there are.",                                  u.bulkhead.limit) \
	X("bulkhead_waiting",                           "Attempts that wait for a slot.",                    u.bulkhead.waiting) \
	X("bulkhead_oldest_held_seconds",               "Age of the slot held longest.",                     (double)u.bulkhead.oldest_held_ms / 1e3) \
	X("override_active",                            "Somebody changed the limit or the breaker by hand.", u.bulkhead.override.active || u.breaker.b.state >= RHC_BRK_ISOLATED) \
	X("upstream_reachable",                         "Result of the last health check, NaN: none yet.",    u.health_known ? (double)u.reachable : __builtin_nan("")) \
	X("upstream_probe_duration_seconds",            "Duration of the last health check.",                 (double)u.health_took_ms / 1e3)
/* clang-format on */

/* What is not known is NaN in both formats; printf would write it small. */
static void gauge(struct text *t, const char *metric, const char *upstream, double v)
{
	if (v != v)
		text_add(t, "%s{upstream=\"%s\"} NaN\n", metric, upstream);
	else
		text_add(t, "%s{upstream=\"%s\"} %.15g\n", metric, upstream, v);
}

static void upstream_gauges(struct writer *w)
{
	const struct rhc_segment *seg = w->a->seg;
	struct rhc_view_upstream u;

#define X(metric_, help_, value_)                                                                                         \
	head(w, metric_, "gauge", help_);                                                                             \
	for (uint32_t i = 0; i < seg->hdr.max_upstreams; i++) {                                                       \
		if (rhc_view_upstream(seg, i, w->v.now_ms, &u) == 0)                                                  \
			gauge(w->t, "rhc_" metric_, u.name, (double)(value_));                                          \
	}
	UP_GAUGES(X)
#undef X
}

static void workers(struct writer *w)
{
	const struct rhc_segment *seg = w->a->seg;
	struct rhc_view_worker x;
	uint64_t restarts = 0;

	head(w, "worker_heartbeat_age_seconds", "gauge", "Time since the worker turned its loop.");
	for (uint32_t i = 0; i < seg->hdr.max_workers; i++) {
		if (rhc_view_worker(seg, w->a->lock_fd, i, &x) != 0)
			continue;
		restarts += x.restarts;
		if (x.alive == RHC_ALIVE_YES)
			text_add(w->t, "rhc_worker_heartbeat_age_seconds{worker=\"%u\"} %.3f\n", i,
			         (double)(w->v.now_ms > x.beat_ms ? w->v.now_ms - x.beat_ms : 0) / 1e3);
	}
	head(w, "workers", "gauge", "Worker processes alive.");
	text_add(w->t, "rhc_workers %u\n", w->v.seg.workers_alive);
	head(w, "worker_restarts", "counter", "Workers that died and were replaced.");
	text_add(w->t, "rhc_worker_restarts_total %" PRIu64 "\n", restarts);
}

static void downstream(struct writer *w)
{
	uint64_t row[RHC_WCTR_COUNT];

	rhc_view_worker_sum(w->a->seg, row, RHC_WCTR_COUNT);
	head(w, "downstream_connections_open", "gauge", "Connections from the app.");
	text_add(w->t, "rhc_downstream_connections_open{protocol=\"http1\"} %" PRIu64 "\n",
	         row[RHC_WCTR_down_h1_opened] - row[RHC_WCTR_down_h1_closed]);
	text_add(w->t, "rhc_downstream_connections_open{protocol=\"http2\"} %" PRIu64 "\n",
	         row[RHC_WCTR_down_h2_opened] - row[RHC_WCTR_down_h2_closed]);
}

/* ---- the process ---- */

static void info(struct writer *w)
{
	static const char *const states_[] = { "starting", "ready", "draining", "stopped" };
	const struct rhc_view_segment *s = &w->v.seg;
	char hash[CONFIG_HASH_TEXT];
	const char *reason = strchr(s->engine, '(');

	config_hash_text(w->a->config, hash);
	head(w, "build_info", "gauge", "Version of this binary.");
	text_add(w->t, "rhc_build_info{version=\"%s\"} 1\n", RHC_VERSION);
	head(w, "io_engine_info", "gauge", "I/O engine of the workers, and why not io_uring.");
	text_add(w->t, "rhc_io_engine_info{engine=\"%.*s\",reason=\"%.*s\"} 1\n", (int)strcspn(s->engine, " "), s->engine,
	         reason ? (int)strcspn(reason + 1, ")") : 0, reason ? reason + 1 : "");
	head(w, "config_info", "gauge", "Configuration in force.");
	text_add(w->t, "rhc_config_info{hash=\"%s\",preset=\"%s\"} 1\n", hash, s->preset);
	head(w, "lifecycle_state", "gauge", "1 for the state the sidecar is in.");
	for (unsigned i = 0; i < 4; i++)
		text_add(w->t, "rhc_lifecycle_state{state=\"%s\"} %d\n", states_[i], i == s->lifecycle);
	head(w, "shm_size_bytes", "gauge", "Size of the shared segment.");
	text_add(w->t, "rhc_shm_size_bytes %" PRIu64 "\n", s->size);
	head(w, "scrapes", "counter", "Answers of this endpoint.");
	text_add(w->t, "rhc_scrapes_total %" PRIu64 "\n", w->a->scrapes);
	text_add(w->t,
	         "# HELP process_start_time_seconds Start of the supervisor.\n# TYPE process_start_time_seconds gauge\n"
	         "process_start_time_seconds %.3f\n",
	         since_epoch(w->a->seg, s->sup_start_ms));
}

void metrics_write(struct admin *a, struct text *t, bool openmetrics)
{
	struct writer w = { .a = a, .t = t, .open = openmetrics };

	a->scrapes++;
	w.v.now_ms = clock_ns() / NS_PER_MS;
	rhc_view_segment(a->seg, a->lock_fd, &w.v.seg);
	info(&w);
	workers(&w);
	downstream(&w);
	states(&w);
	upstream_gauges(&w);
	counters(&w);
	errors(&w, "request_errors", "Calls that failed, by cause.", RHC_CTR_call_error);
	errors(&w, "upstream_attempt_errors", "Attempts that failed, by cause.", RHC_CTR_att_error);
	differences(&w);
#define HIST(id, metric, base, help) histogram(&w, RHC_HIST_##id, #metric, help);
#include "shm/histograms.def"
#undef HIST
	if (openmetrics)
		text_add(t, "# EOF\n");
}
