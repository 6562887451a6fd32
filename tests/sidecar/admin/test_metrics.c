#include "sidecar/admin/metrics.h"

#include <ctype.h>
#include <math.h>

#include "tests/sidecar/admin/rig.h"

static void start(void)
{
	rig_start("");
}

TestSuite(metrics, .init = start, .fini = rig_stop);

static const char *const exported[] = {
#define FAMILY(group, name, labels, help) group,
#include "sidecar/admin/metrics.def"
#undef FAMILY
#define TOLD(group) group,
#include "sidecar/admin/metrics.def"
#undef TOLD
};

static bool is_exported(const char *group)
{
	for (size_t i = 0; i < ARRAY_LEN(exported); i++) {
		if (strcmp(exported[i], group) == 0)
			return true;
	}
	return false;
}

Test(metrics, every_group_of_counters_has_a_family_or_is_told_elsewhere_and_no_family_is_empty)
{
	for (uint32_t i = 0; i < RHC_DESC_COUNT; i++) {
		struct rhc_desc d;

		rhc_desc_make(i, &d);
		if (i < RHC_CTR_NAMED ||
		    (i >= RHC_CTR_COUNT && i < (uint32_t)RHC_CTR_COUNT + RHC_WCTR_COUNT))
			cr_expect(is_exported(d.group),
				  "%s of shm/counters.def is not in metrics.def", d.group);
	}
	for (size_t k = 0; k < ARRAY_LEN(exported); k++) {
		bool found = false;

		for (uint32_t i = 0; i < RHC_DESC_COUNT && !found; i++) {
			struct rhc_desc d;

			rhc_desc_make(i, &d);
			found = strcmp(d.group, exported[k]) == 0;
		}
		cr_expect(found, "%s of metrics.def has no counter", exported[k]);
		for (size_t l = 0; l < k; l++)
			cr_expect_str_neq(exported[l], exported[k], "twice");
	}
}

/* ---- a strict reader of OpenMetrics 1.0.0 and of 0.0.4 ---- */

enum { FAMILIES = 256, SERIES = 131072 };

struct reader {
	bool open;
	char family[96], type[16];
	char seen[FAMILIES][96];
	unsigned n_seen;
	char *series[SERIES];
	unsigned n_series;
	bool eof;
	char bucket_of[256]; /* the series whose buckets are being read */
	double last_le, last_count;
};

static size_t name_len(const char *s)
{
	size_t n = 0;

	while (isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == ':')
		n++;
	return n && !isdigit((unsigned char)s[0]) ? n : 0;
}

/* {a="b",c="d"}: its length, 0 when it is none, SIZE_MAX when it is wrong. */
static size_t labels_len(const char *s)
{
	const char *p = s;

	if (*p != '{')
		return 0;
	do {
		size_t n = name_len(++p);

		if (!n || p[n] != '=' || p[n + 1] != '"')
			return SIZE_MAX;
		for (p += n + 2; *p && *p != '"'; p++) {
			if (*p == '\\' && !strchr("\\\"n", *++p))
				return SIZE_MAX;
		}
		if (*p++ != '"')
			return SIZE_MAX;
	} while (*p == ',');
	return *p == '}' ? (size_t)(p + 1 - s) : SIZE_MAX;
}

static void read_meta(struct reader *r, const char *line)
{
	char name[96], type[16];

	if (strcmp(line, "# EOF") == 0) {
		cr_assert(r->open);
		r->eof = true;
		return;
	}
	if (sscanf(line, "# TYPE %95s %15s", name, type) == 2) {
		cr_assert_str_eq(name, r->family, "TYPE after the HELP of another: %s", line);
		snprintf(r->type, sizeof(r->type), "%s", type);
		if (strcmp(type, "counter") == 0)
			cr_assert_eq(strlen(name) > 6 &&
					     strcmp(name + strlen(name) - 6, "_total") == 0,
				     !r->open, "%s", line);
		return;
	}
	cr_assert_eq(sscanf(line, "# HELP %95s", name), 1, "%s", line);
	for (unsigned i = 0; i < r->n_seen; i++)
		cr_assert_str_neq(r->seen[i], name,
				  "the family came before: its series are not together");
	cr_assert_lt(r->n_seen, (unsigned)FAMILIES);
	memcpy(r->seen[r->n_seen++], name, sizeof(name));
	memcpy(r->family, name, sizeof(name));
	r->type[0] = 0;
}

static const char *suffix_of(const struct reader *r, const char *name, size_t n)
{
	size_t f = strlen(r->family);

	cr_assert(n >= f && memcmp(name, r->family, f) == 0, "%.*s stands under %s", (int)n, name,
		  r->family);
	return name + f;
}

static void read_bucket(struct reader *r, const char *line, const char *labels, double v)
{
	const char *le = strstr(labels, ",le=\"");
	char key[256];
	double bound;

	cr_assert_not_null(le, "%s", line);
	snprintf(key, sizeof(key), "%.*s", (int)(le - line), line);
	bound = strncmp(le + 5, "+Inf", 4) == 0 ? INFINITY : strtod(le + 5, NULL);
	if (strcmp(key, r->bucket_of) == 0) {
		cr_assert_gt(bound, r->last_le, "%s", line);
		cr_assert_geq(v, r->last_count, "%s", line);
	}
	memcpy(r->bucket_of, key, sizeof(key));
	r->last_le = bound;
	r->last_count = v;
}

static void read_sample(struct reader *r, char *line)
{
	size_t n = name_len(line), l, s;
	const char *suffix, *value;
	char *end;
	double v;

	cr_assert(n, "no name: %s", line);
	l = labels_len(line + n);
	cr_assert_neq(l, SIZE_MAX, "bad labels: %s", line);
	cr_assert_eq(line[n + l], ' ', "%s", line);
	value = line + n + l + 1;
	v = strtod(value, &end);
	cr_assert(end != value && *end == 0, "bad value: %s", line);
	cr_assert(!isnan(v) || strcmp(value, "NaN") == 0, "NaN is written so: %s", line);
	suffix = suffix_of(r, line, n);
	s = (size_t)(line + n - suffix);
	if (strcmp(r->type, "counter") == 0) {
		cr_assert(r->open ? s == 6 && memcmp(suffix, "_total", 6) == 0 : s == 0, "%s",
			  line);
		cr_assert_geq(v, 0);
	} else if (strcmp(r->type, "histogram") == 0) {
		if (s == 7 && memcmp(suffix, "_bucket", 7) == 0)
			read_bucket(r, line, line + n, v);
		else
			cr_assert((s == 4 && memcmp(suffix, "_sum", 4) == 0) ||
					  (s == 6 && memcmp(suffix, "_count", 6) == 0),
				  "%s", line);
	} else {
		cr_assert_str_eq(r->type, "gauge", "%s", line);
		cr_assert_eq(s, 0, "%s", line);
	}
	line[n + l] = 0;
	cr_assert_lt(r->n_series, (unsigned)SERIES);
	r->series[r->n_series++] = line;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void parse(struct reader *r, struct text *t, bool open)
{
	cr_assert_not(t->failed);
	cr_assert_eq(t->p[t->n - 1], '\n');
	memset(r, 0, sizeof(*r));
	r->open = open;
	t->p[t->n - 1] = 0;
	for (char *line = t->p, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		cr_assert_not(r->eof, "something stands behind # EOF");
		if (*line == '#')
			read_meta(r, line);
		else
			read_sample(r, line);
	}
	cr_assert_eq(r->eof, open);
	qsort(r->series, r->n_series, sizeof(r->series[0]), by_text);
	for (unsigned i = 1; i < r->n_series; i++)
		cr_assert_str_neq(r->series[i - 1], r->series[i], "a series came twice");
}

static bool has(const struct reader *r, const char *series)
{
	const char *key = series;

	return bsearch(&key, r->series, r->n_series, sizeof(r->series[0]), by_text) != NULL;
}

Test(metrics, both_formats_pass_a_strict_reader)
{
	static struct reader r;

	fx_worker(0);
	for (int open = 0; open <= 1; open++) {
		struct text t = { 0 };

		metrics_write(&rig.admin, &t, open != 0);
		parse(&r, &t, open != 0);
		text_fini(&t);
	}
}

static const char *const wanted[] = {
	"rhc_requests_total{upstream=\"orders\",source=\"upstream\",code=\"2xx\"}",
	"rhc_upstream_attempts_total{upstream=\"orders\",outcome=\"success\"}",
	"rhc_retry_calls_total{upstream=\"orders\",outcome=\"successful_without_retry\"}",
	"rhc_circuit_breaker_state{upstream=\"orders\",state=\"half_open\"}",
	"rhc_circuit_breaker_transitions_total{upstream=\"orders\",from=\"closed\",to=\"open\"}",
	"rhc_bulkhead_in_use{upstream=\"orders\"}",
	"rhc_bulkhead_rejected_total{upstream=\"orders\",reason=\"queue_full\"}",
	"rhc_override_active{upstream=\"orders\",kind=\"limit\"}",
	"rhc_request_duration_seconds_bucket{upstream=\"orders\",le=\"+Inf\"}",
	"rhc_request_duration_seconds_bucket{upstream=\"orders\",le=\"0.0005\"}",
	"rhc_request_duration_seconds_bucket{upstream=\"orders\",le=\"120\"}",
	"rhc_upstream_tls_handshakes_total{upstream=\"orders\",result=\"success\",resumed=\"resumed\"}",
	"rhc_worker_restarts_total{reason=\"hang\"}",
	"rhc_worker_heartbeat_timestamp_seconds{worker=\"3\"}",
	"rhc_worker_cpu_seconds_total{worker=\"3\"}",
	"rhc_worker_resident_memory_bytes{worker=\"3\"}",
	"rhc_worker_loop_lag_seconds{worker=\"3\"}",
	"rhc_workers{state=\"serving\"}",
	"rhc_config_reloads_total{result=\"failure\"}",
	"rhc_config_last_reload_successful",
	"rhc_config_last_reload_success_timestamp_seconds",
	"rhc_log_dropped_total",
	"rhc_buffers_in_use",
	"rhc_buffers_max",
	"rhc_scrapes_total",
	"rhc_io_sqe_total",
	"rhc_shm_size_bytes",
	"process_start_time_seconds",
	"process_cpu_seconds_total",
	"process_resident_memory_bytes",
	"process_open_fds",
	"process_max_fds",
};

Test(metrics, the_series_people_know_are_there_before_anything_happened)
{
	static struct reader r;
	struct text t = { 0 };

	fx_worker(3);
	metrics_write(&rig.admin, &t, false);
	parse(&r, &t, false);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		cr_expect(has(&r, wanted[i]), "%s", wanted[i]);
	text_fini(&t);
}

Test(metrics, counters_of_all_workers_and_of_the_supervisor_are_added_up)
{
	struct text t = { 0 };

	rhc_ctr_add(rhc_seg_ctr(&fx.seg, 0, fx.up), RHC_CTR_req_upstream_2xx, 3);
	rhc_ctr_add(rhc_seg_ctr(&fx.seg, 5, fx.up), RHC_CTR_req_upstream_2xx, 4);
	rhc_ctr_add(rhc_seg_wctr(&fx.seg, 1), RHC_WCTR_cpu_ns, 1500000000);
	rhc_ctr_add(rhc_seg_wctr(&fx.seg, rhc_row_admin(&fx.seg)), RHC_WCTR_cpu_ns, 500000000);
	rhc_ctr_add(rhc_seg_ctr(&fx.seg, 0, fx.up), RHC_CTR_ns_ttfb, 1000000001);
	metrics_write(&rig.admin, &t, false);
	cr_expect(strstr(
		t.p,
		"rhc_requests_total{upstream=\"orders\",source=\"upstream\",code=\"2xx\"} 7\n"));
	cr_expect(strstr(t.p, "\nprocess_cpu_seconds_total 2\n"));
	cr_expect(strstr(
		t.p,
		"rhc_request_phase_seconds_total{upstream=\"orders\",phase=\"ttfb\"} 1.000000001\n"));
	text_fini(&t);
}

Test(metrics, a_refused_reload_shows)
{
	struct text t = { 0 };

	rig.admin.reload_failed = true;
	metrics_write(&rig.admin, &t, false);
	cr_expect(strstr(t.p, "\nrhc_config_last_reload_successful 0\n"));
	text_fini(&t);
}

Test(metrics, as_many_upstreams_as_there_can_be_fit_into_an_answer)
{
	static struct reader r;
	struct text t = { 0 };
	uint64_t began;

	close(fx.lock_fd);
	rhc_segment_detach(&fx.seg);
	fx.opt.shape.upstreams = CONFIG_UPSTREAMS_MAX;
	fx.opt.fresh = true;
	fx_adopt();
	rig.admin.lock_fd = fx.lock_fd;
	for (int i = 0; i < CONFIG_UPSTREAMS_MAX; i++) {
		char name[RHC_NAME_MAX + 1];

		memset(name, 'n', RHC_NAME_MAX);
		name[RHC_NAME_MAX] = 0;
		name[0] = (char)('a' + i / 26);
		name[1] = (char)('a' + i % 26);
		cr_assert_eq(
			rhc_upstream_declare(&fx.seg, name, &fx_policy, fx.now, &fx.up, &fx.wake),
			0);
	}
	began = clock_ns();
	metrics_write(&rig.admin, &t, true);
	fprintf(stderr, "%zu bytes in %llu ms\n", t.n,
		(unsigned long long)((clock_ns() - began) / NS_PER_MS));
	parse(&r, &t, true);
	text_fini(&t);
}
