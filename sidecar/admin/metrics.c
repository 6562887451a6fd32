#include "sidecar/admin/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"

/* Bucket bounds of the exposition, in ns: edges of the histograms, so that counts are exact. */
static const uint64_t bounds[] = {
	500000,     1000000,     2500000,     5000000,     10000000,     25000000,
	50000000,   100000000,   250000000,   500000000,   1000000000,   2500000000,
	5000000000, 10000000000, 30000000000, 60000000000, 120000000000,
};

struct family {
	const char *group, *name, *labels, *help;
};

static const struct family families[] = {
#define FAMILY(group, name, labels, help) { group, name, labels, help },
#include "sidecar/admin/metrics.def"
#undef FAMILY
};

struct known { /* one upstream in use */
	struct rhc_view_upstream u;
	uint32_t index;
	uint64_t row[RHC_CTR_COUNT];
};

struct writer { /* one look at the segment for the whole exposition */
	struct admin *a;
	struct text *t;
	bool open; /* OpenMetrics */
	uint64_t now_ms;
	struct rhc_view_segment seg;
	struct known *known;
	uint32_t n;
	uint64_t wrow[RHC_WCTR_COUNT]; /* of all workers and the supervisor */
};

static bool look(struct writer *w)
{
	const struct rhc_segment *seg = w->a->seg;

	w->now_ms = clock_ns() / NS_PER_MS;
	rhc_view_segment(seg, w->a->lock_fd, &w->seg);
	rhc_view_worker_sum(seg, w->wrow, RHC_WCTR_COUNT);
	w->known = calloc(seg->hdr.max_upstreams, sizeof(*w->known));
	if (!w->known)
		return false;
	for (uint32_t i = 0; i < seg->hdr.max_upstreams; i++) {
		struct known *k = &w->known[w->n];

		if (rhc_view_upstream(seg, i, w->now_ms, &k->u) != 0)
			continue;
		k->index = i;
		rhc_view_counters(seg, i, false, k->row, RHC_CTR_COUNT);
		w->n++;
	}
	return true;
}

static void head(struct writer *w, const char *name, const char *type, const char *help)
{
	bool counter = strcmp(type, "counter") == 0;

	/* OpenMetrics names the family without the suffix, 0.0.4 with it */
	text_add(w->t, "# HELP rhc_%s%s %s\n# TYPE rhc_%s%s %s\n", name,
		 counter && !w->open ? "_total" : "", help, name,
		 counter && !w->open ? "_total" : "", type);
}

/* "upstream,2xx" with labels "source,code" becomes source="upstream",code="2xx". */
static void label_pairs(char *out, size_t cap, const char *labels, const char *values)
{
	size_t n = 0;

	out[0] = 0;
	while (*labels) {
		size_t l = strcspn(labels, ","), v = strcspn(values, ",");

		n += (size_t)snprintf(out + n, cap - n, "%s%.*s=\"%.*s\"", n ? "," : "", (int)l,
				      labels, (int)v, values);
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

/* ---- counters ---- */

/* The counters of a group, by their place in the table: looked up once for all upstreams. */
struct member {
	uint32_t index;
	uint8_t kind;
	char pairs[128];
};

enum { MEMBERS_MAX = 32 };

static uint32_t members_of(const struct family *f, uint32_t first, uint32_t count,
			   struct member m[MEMBERS_MAX])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct rhc_desc d;

		rhc_desc_make(first + i, &d);
		if (strcmp(d.group, f->group) != 0)
			continue;
		assert(n < MEMBERS_MAX);
		m[n].index = i;
		m[n].kind = d.kind;
		label_pairs(m[n++].pairs, sizeof(m->pairs), f->labels, d.label);
	}
	return n;
}

static void family_upstream(struct writer *w, const struct family *f, const struct member *m,
			    uint32_t n)
{
	for (uint32_t u = 0; u < w->n; u++) {
		for (uint32_t i = 0; i < n; i++) {
			text_add(w->t, "rhc_%s_total{upstream=\"%s\"%s%s} ", f->name,
				 w->known[u].u.name, m[i].pairs[0] ? "," : "", m[i].pairs);
			number(w->t, m[i].kind, w->known[u].row[m[i].index]);
		}
	}
}

static void family_worker(struct writer *w, const struct family *f, const struct member *m,
			  uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		text_add(w->t, "rhc_%s_total%s%s%s ", f->name, m[i].pairs[0] ? "{" : "", m[i].pairs,
			 m[i].pairs[0] ? "}" : "");
		number(w->t, m[i].kind, w->wrow[m[i].index]);
	}
}

static void counters(struct writer *w)
{
	struct member m[MEMBERS_MAX];

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		const struct family *f = &families[i];
		uint32_t n = members_of(f, 0, RHC_CTR_NAMED, m);

		head(w, f->name, "counter", f->help);
		if (n)
			family_upstream(w, f, m, n);
		else
			family_worker(w, f, m, members_of(f, RHC_CTR_COUNT, RHC_WCTR_COUNT, m));
	}
}

static void errors(struct writer *w, const char *name, const char *help, uint32_t first)
{
	head(w, name, "counter", help);
	for (uint32_t u = 0; u < w->n; u++) {
		for (unsigned e = 1; e < RHC_ERR_COUNT; e++)
			text_add(w->t, "rhc_%s_total{upstream=\"%s\",error=\"%s\"} %" PRIu64 "\n",
				 name, w->known[u].u.name, rhc_error_name(e),
				 w->known[u].row[first + e]);
	}
}

/* ---- gauges from counters ---- */

struct pair {
	uint32_t opened, closed;
	const char *name, *label, *help;
};

static const struct pair pairs[] = {
#define GAUGE(opened, closed, name, label, help) \
	{ RHC_CTR_##opened, RHC_CTR_##closed, name, label, help },
#include "sidecar/admin/metrics.def"
#undef GAUGE
};

static void differences(struct writer *w)
{
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		if (i == 0 || strcmp(pairs[i].name, pairs[i - 1].name) != 0)
			head(w, pairs[i].name, "gauge", pairs[i].help);
		for (uint32_t u = 0; u < w->n; u++) {
			uint64_t o = w->known[u].row[pairs[i].opened],
				 c = w->known[u].row[pairs[i].closed];

			text_add(w->t, "rhc_%s{upstream=\"%s\"%s%s} %" PRIu64 "\n", pairs[i].name,
				 w->known[u].u.name, pairs[i].label[0] ? "," : "", pairs[i].label,
				 o > c ? o - c : 0);
		}
	}
}

/* ---- histograms ---- */

static void histogram(struct writer *w, enum rhc_hist_id id, const char *metric, const char *help)
{
	struct rhc_hist_sum h;
	char full[64];

	snprintf(full, sizeof(full), "%s_seconds", metric);
	head(w, full, "histogram", help);
	for (uint32_t u = 0; u < w->n; u++) {
		const char *name = w->known[u].u.name;

		rhc_view_hist(w->a->seg, w->known[u].index, id, false, &h);
		for (size_t i = 0; i < ARRAY_LEN(bounds); i++)
			text_add(w->t, "rhc_%s_bucket{upstream=\"%s\",le=\"%g\"} %" PRIu64 "\n",
				 full, name, (double)bounds[i] / 1e9,
				 rhc_hist_le(&h, rhc_hist_first(id), bounds[i]));
		text_add(w->t,
			 "rhc_%s_bucket{upstream=\"%s\",le=\"+Inf\"} %" PRIu64
			 "\nrhc_%s_sum{upstream=\"%s\"} %.9f\n"
			 "rhc_%s_count{upstream=\"%s\"} %" PRIu64 "\n",
			 full, name, h.count, full, name, (double)h.sum_ns / 1e9, full, name,
			 h.count);
	}
}

/* ---- gauges of single workers ---- */

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a + b;
}

static uint64_t largest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* A gauge each worker keeps for itself, put together; the dead have 0. */
static uint64_t of_workers(const struct writer *w, uint32_t upstream, unsigned counter,
			   uint64_t (*put)(uint64_t, uint64_t))
{
	const struct rhc_segment *seg = w->a->seg;
	uint64_t v = 0;

	for (uint32_t i = 0; i < seg->hdr.max_workers; i++)
		v = put(v, atomic_load_explicit(&rhc_seg_ctr(seg, i, upstream)[counter],
						memory_order_relaxed));
	return v;
}

/* ---- states ---- */

static void states(struct writer *w)
{
	head(w, "circuit_breaker_state", "gauge", "1 for the state the circuit breaker is in.");
	for (uint32_t u = 0; u < w->n; u++) {
		for (unsigned s = 0; s < RHC_BRK_STATES; s++)
			text_add(w->t,
				 "rhc_circuit_breaker_state{upstream=\"%s\",state=\"%s\"} %d\n",
				 w->known[u].u.name, rhc_breaker_name((enum rhc_breaker_state)s),
				 s == w->known[u].u.breaker.b.state);
	}
	head(w, "override_active", "gauge",
	     "1 where somebody changed the limit or the breaker by hand.");
	for (uint32_t u = 0; u < w->n; u++) {
		const struct rhc_view_upstream *v = &w->known[u].u;

		text_add(w->t, "rhc_override_active{upstream=\"%s\",kind=\"breaker\"} %d\n",
			 v->name, v->breaker.b.state >= RHC_BRK_ISOLATED);
		text_add(w->t, "rhc_override_active{upstream=\"%s\",kind=\"limit\"} %d\n", v->name,
			 v->bulkhead.override.active);
	}
}

static double since_epoch(const struct rhc_segment *seg, uint64_t ms)
{
	return ms ? (double)rhc_view_wall_ns(seg, ms * NS_PER_MS) / 1e9 : 0;
}

/* clang-format off */
#define UP_GAUGES(X) \
	X("circuit_breaker_failures",                   "Consecutive failures counted now.",                 u->breaker.b.state == RHC_BRK_CLOSED ? u->breaker.b.failures : u->policy.failure_threshold) \
	X("circuit_breaker_failure_threshold",          "Consecutive failures that open the circuit.",       u->policy.failure_threshold) \
	X("circuit_breaker_last_failure_timestamp_seconds", "When an attempt failed last, 0: never.",        since_epoch(seg, u->breaker.last_failure_ms)) \
	X("circuit_breaker_opened_timestamp_seconds",   "When the outage began, 0: there is none.",          since_epoch(seg, u->breaker.open_since_ms)) \
	X("bulkhead_in_use",                            "Slots in use.",                                     u->bulkhead.in_use) \
	X("bulkhead_max_concurrency",                   "Slots there are.",                                  u->bulkhead.limit) \
	X("bulkhead_waiting",                           "Attempts that wait for a slot.",                    u->bulkhead.waiting) \
	X("bulkhead_oldest_wait_seconds",               "How long the oldest waiter has waited, 0: nobody waits.", (double)u->bulkhead.oldest_wait_ms / 1e3) \
	X("bulkhead_oldest_held_seconds",               "Age of the slot held longest.",                     (double)u->bulkhead.oldest_held_ms / 1e3) \
	X("upstream_reachable",                         "Result of the last health check, NaN: none yet.",    u->health_known ? (double)u->reachable : __builtin_nan("")) \
	X("upstream_probe_duration_seconds",            "Duration of the last health check.",                 (double)u->health_took_ms / 1e3)
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

#define X(metric_, help_, value_)                                       \
	head(w, metric_, "gauge", help_);                               \
	for (uint32_t i = 0; i < w->n; i++) {                           \
		const struct rhc_view_upstream *u = &w->known[i].u;     \
                                                                        \
		gauge(w->t, "rhc_" metric_, u->name, (double)(value_)); \
	}
	UP_GAUGES(X)
#undef X
}

/* ---- certificates, budget ---- */

static void certificate(struct writer *w, const char *upstream, const char *side, uint64_t ends_s)
{
	if (ends_s != 0)
		text_add(w->t,
			 "rhc_tls_certificate_expiry_timestamp_seconds{upstream=\"%s\",side=\"%s\"} "
			 "%" PRIu64 "\n",
			 upstream, side, ends_s);
}

/* Only what there is: a certificate nobody has does not expire. */
static void certificates(struct writer *w)
{
	const struct admin_hooks *h = w->a->hooks;

	head(w, "tls_certificate_expiry_timestamp_seconds", "gauge",
	     "When a certificate ends: the one the upstream showed, our own, the first of ca_file.");
	for (uint32_t i = 0; i < w->n; i++) {
		const char *name = w->known[i].u.name;

		certificate(w, name, "peer",
			    of_workers(w, w->known[i].index, RHC_CTR_tls_peer_expires_s, largest));
		if (!h->expires_s)
			continue;
		certificate(w, name, "client", h->expires_s(h->arg, name, false));
		certificate(w, name, "ca", h->expires_s(h->arg, name, true));
	}
}

static void budgets(struct writer *w)
{
	head(w, "retry_budget_available", "gauge", "Retries the budget allows now, of all workers.");
	for (uint32_t i = 0; i < w->n; i++)
		text_add(w->t, "rhc_retry_budget_available{upstream=\"%s\"} %.15g\n",
			 w->known[i].u.name,
			 (double)of_workers(w, w->known[i].index, RHC_CTR_retry_budget_milli, sum) /
				 1e3);
}

/* ---- workers ---- */

struct crew { /* the living, by index */
	struct rhc_view_worker w[RHC_WORKERS_MAX];
	uint64_t row[RHC_WORKERS_MAX][RHC_WCTR_COUNT];
	uint32_t n;
};

static void muster(const struct writer *w, struct crew *crew)
{
	crew->n = 0;
	for (uint32_t i = 0; i < w->a->seg->hdr.max_workers; i++) {
		struct rhc_view_worker *x = &crew->w[crew->n];

		if (rhc_view_worker(w->a->seg, w->a->lock_fd, i, x) != 0 ||
		    x->alive != RHC_ALIVE_YES)
			continue;
		rhc_view_worker_counters(w->a->seg, i, crew->row[crew->n++], RHC_WCTR_COUNT);
	}
}

static double beat_of(const struct writer *w, const struct crew *crew, uint32_t i)
{
	return since_epoch(w->a->seg, crew->w[i].beat_ms);
}

static double cpu_of(const struct writer *w, const struct crew *crew, uint32_t i)
{
	(void)w;
	return (double)crew->row[i][RHC_WCTR_cpu_ns] / 1e9;
}

static double rss_of(const struct writer *w, const struct crew *crew, uint32_t i)
{
	(void)w;
	return (double)crew->row[i][RHC_WCTR_rss_bytes];
}

static double lag_of(const struct writer *w, const struct crew *crew, uint32_t i)
{
	(void)w;
	return (double)crew->row[i][RHC_WCTR_loop_lag_ns] / 1e9;
}

/* clang-format off */
static const struct worker_metric {
	const char *name, *type, *help;
	double    (*value)(const struct writer *w, const struct crew *crew, uint32_t i);
} worker_metrics[] = {
	{ "worker_heartbeat_timestamp_seconds", "gauge",   "When the worker turned its loop last.",                 beat_of },
	{ "worker_cpu_seconds",                 "counter", "CPU time of the workers of this index, ended ones included.", cpu_of },
	{ "worker_resident_memory_bytes",       "gauge",   "Resident memory of the worker.",                        rss_of },
	{ "worker_loop_lag_seconds",            "gauge",   "Longest turn of the event loop in the last second.",    lag_of },
};
/* clang-format on */

static void workers(struct writer *w)
{
	static const char *const phases[] = { "starting", "serving", "draining", "stopping" };
	static struct crew crew; /* 30 KiB; one exposition at a time */

	muster(w, &crew);
	for (size_t k = 0; k < ARRAY_LEN(worker_metrics); k++) {
		const struct worker_metric *m = &worker_metrics[k];

		head(w, m->name, m->type, m->help);
		for (uint32_t i = 0; i < crew.n; i++)
			text_add(w->t, "rhc_%s%s{worker=\"%u\"} %.15g\n", m->name,
				 m->type[0] == 'c' ? "_total" : "", crew.w[i].index,
				 m->value(w, &crew, i));
	}
	head(w, "workers", "gauge", "Worker processes alive, by what they do.");
	for (unsigned p = 0; p < ARRAY_LEN(phases); p++) {
		uint32_t n = 0;

		for (uint32_t i = 0; i < crew.n; i++)
			n += crew.w[i].phase == p;
		text_add(w->t, "rhc_workers{state=\"%s\"} %u\n", phases[p], n);
	}
}

/* Gauges that are sums over the processes. */
static void sums(struct writer *w)
{
	static const struct {
		const char *name, *help;
		uint32_t counter;
	} rows[] = {
		{ "buffers_in_use", "I/O buffers in use, of all processes.",
		  RHC_WCTR_buffers_in_use },
		{ "buffers_max", "I/O buffers there are, of all processes.", RHC_WCTR_buffers_max },
		{ "calls_in_memory", "Calls the workers hold.", RHC_WCTR_slab_exchanges },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		head(w, rows[i].name, "gauge", rows[i].help);
		text_add(w->t, "rhc_%s %" PRIu64 "\n", rows[i].name, w->wrow[rows[i].counter]);
	}
}

static void downstream(struct writer *w)
{
	const uint64_t *row = w->wrow;

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
	const struct rhc_view_segment *s = &w->seg;
	char hash[CONFIG_HASH_TEXT];
	const char *reason = strchr(s->engine, '(');

	config_hash_text(w->a->config, hash);
	head(w, "build_info", "gauge", "Version of this binary.");
	text_add(w->t, "rhc_build_info{version=\"%s\"} 1\n", RHC_VERSION);
	head(w, "io_engine_info", "gauge", "I/O engine of the workers, and why not io_uring.");
	text_add(w->t, "rhc_io_engine_info{engine=\"%.*s\",reason=\"%.*s\"} 1\n",
		 (int)strcspn(s->engine, " "), s->engine,
		 reason ? (int)strcspn(reason + 1, ")") : 0, reason ? reason + 1 : "");
	head(w, "config_info", "gauge", "Configuration in force.");
	text_add(w->t, "rhc_config_info{hash=\"%s\",preset=\"%s\"} 1\n", hash, s->preset);
	head(w, "lifecycle_state", "gauge", "1 for the state the sidecar is in.");
	for (unsigned i = 0; i < 4; i++)
		text_add(w->t, "rhc_lifecycle_state{state=\"%s\"} %d\n", states_[i],
			 i == s->lifecycle);
	head(w, "shm_size_bytes", "gauge", "Size of the shared segment.");
	text_add(w->t, "rhc_shm_size_bytes %" PRIu64 "\n", s->size);
	head(w, "config_last_reload_successful", "gauge", "1 unless the last reload was refused.");
	text_add(w->t, "rhc_config_last_reload_successful %d\n", !w->a->reload_failed);
	head(w, "config_last_reload_success_timestamp_seconds", "gauge",
	     "Since when this configuration is in force.");
	text_add(w->t, "rhc_config_last_reload_success_timestamp_seconds %.3f\n",
		 since_epoch(w->a->seg, s->cfg_ms));
}

/*
 * Open descriptors of a process; where the kernel does not count them (before 6.2) they are counted
 * here.
 */
static uint64_t descriptors(uint64_t pid)
{
	char path[48];
	struct stat st;
	uint64_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/fd", pid);
	if (stat(path, &st) == 0 && st.st_size > 0)
		return (uint64_t)st.st_size;
	d = opendir(path);
	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/*
 * The names every process has at Prometheus, without rhc_; sums of the supervisor and its workers.
 */
static void standard(struct writer *w, const char *name, const char *type, const char *help,
		     double v)
{
	bool counter = type[0] == 'c';

	text_add(w->t, "# HELP process_%s%s %s\n# TYPE process_%s%s %s\nprocess_%s%s %.15g\n", name,
		 counter && !w->open ? "_total" : "", help, name,
		 counter && !w->open ? "_total" : "", type, name, counter ? "_total" : "", v);
}

static void process(struct writer *w)
{
	struct rhc_view_worker x;
	struct rlimit limit;
	uint64_t fds = descriptors((uint64_t)getpid()), n = 1;

	for (uint32_t i = 0; i < w->a->seg->hdr.max_workers; i++) {
		if (rhc_view_worker(w->a->seg, w->a->lock_fd, i, &x) != 0 ||
		    x.alive != RHC_ALIVE_YES)
			continue;
		fds += descriptors(x.pid);
		n++;
	}
	standard(w, "start_time_seconds", "gauge", "Start of the supervisor.",
		 since_epoch(w->a->seg, w->seg.sup_start_ms));
	standard(w, "cpu_seconds", "counter", "CPU time of supervisor and workers.",
		 (double)w->wrow[RHC_WCTR_cpu_ns] / 1e9);
	standard(w, "resident_memory_bytes", "gauge",
		 "Resident memory of supervisor and workers; what they share counts for each.",
		 (double)w->wrow[RHC_WCTR_rss_bytes]);
	standard(w, "open_fds", "gauge", "Open descriptors of supervisor and workers.",
		 (double)fds);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		standard(w, "max_fds", "gauge", "Descriptors supervisor and workers may open.",
			 (double)limit.rlim_cur * (double)n);
}

void metrics_write(struct admin *a, struct text *t, bool openmetrics)
{
	struct writer w = { .a = a, .t = t, .open = openmetrics };

	a->scrapes++;
	if (!look(&w)) {
		t->failed = true;
		return;
	}
	info(&w);
	process(&w);
	workers(&w);
	sums(&w);
	downstream(&w);
	states(&w);
	upstream_gauges(&w);
	certificates(&w);
	budgets(&w);
	counters(&w);
	errors(&w, "request_errors", "Calls that failed, by cause.", RHC_CTR_call_error);
	errors(&w, "upstream_attempt_errors", "Attempts that failed, by cause.", RHC_CTR_att_error);
	differences(&w);
#define HIST(id, metric, base, help) histogram(&w, RHC_HIST_##id, #metric, help);
#include "shm/histograms.def"
#undef HIST
	if (openmetrics)
		text_add(t, "# EOF\n");
	free(w.known);
}
