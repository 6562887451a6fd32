#include <sys/stat.h>

#include "tests/sidecar/admin/rig.h"

/* A question without a body has none. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define T    ADMIN_TELEMETRY
#define L    ADMIN_LOOPBACK
#define S    ADMIN_SOCKET
#define GET  HTTP_METHOD_GET
#define HEAD HTTP_METHOD_HEAD
#define POST HTTP_METHOD_POST
#define PUT  HTTP_METHOD_PUT

#define LOOPBACK "admin: {mutations: loopback}\n"
#define OFF      "admin: {mutations: 'off'}\n"

static void start(void)
{
	rig_start("");
}

TestSuite(routes, .init = start, .fini = rig_stop);
TestSuite(routes_loopback, .fini = rig_stop);

static void expect(const struct question *q, unsigned status, const char *type)
{
	struct asked a;

	ask(&a, q);
	cr_expect_eq(a.status, status, "%d %s (host %s): %u %.*s", q->method, q->path,
		     q->host ? q->host : "-", a.status, (int)(a.n < 200 ? a.n : 200), a.body);
	if (type)
		cr_expect(strncmp(a.type, type, strlen(type)) == 0, "%s is %s", q->path, a.type);
	cr_expect(a.released, "%s is not released", q->path);
	if (q->method == HTTP_METHOD_HEAD)
		cr_expect_eq(a.n, 0, "HEAD has a body");
	else
		cr_expect_eq(a.length, a.n, "%s has %zu of %llu bytes", q->path, a.n,
			     (unsigned long long)a.length);
	if (a.status == 405)
		cr_expect(a.allow[0], "405 without Allow");
	asked_free(&a);
}

static const struct {
	struct question q;
	unsigned status;
	const char *type;
} rows[] = {
	/* probes and metrics are everywhere */
	{ { T, GET, "/live", "pod:4642" }, 200, "text/plain" },
	{ { L, GET, "/live", "localhost:4641" }, 200, "text/plain" },
	{ { S, GET, "/live", "admin" }, 200, "text/plain" },
	{ { T, HEAD, "/live", "pod" }, 200, "text/plain" },
	{ { T, GET, "/live?x=1", "pod" }, 200, "text/plain" },
	{ { T, GET, "/ready", "pod" }, 503, "text/plain" }, /* nobody said it is ready */
	{ { T, GET, "/startup", "pod" }, 503, "text/plain" },
	{ { T, GET, "/metrics", "pod" }, 200, "text/plain; version=0.0.4" },
	{ { T, HEAD, "/metrics", "pod" }, 200, "text/plain; version=0.0.4" },
	{ { L, GET, "/metrics", "127.0.0.1:4641" }, 200, "text/plain; version=0.0.4" },
	{ { T, GET, "/metrics", "pod", NULL, "accept",
	    "application/openmetrics-text; version=1.0.0" },
	  200,
	  "application/openmetrics-text; version=1.0.0" },
	{ { T, POST, "/live", "pod" }, 405, "application/problem+json" },
	{ { T, POST, "/metrics", "pod" }, 405, "application/problem+json" },
	{ { T, GET, "/nonsense", "pod" }, 404, "application/problem+json" },
	{ { T, GET, "/live/", "pod" }, 404, "application/problem+json" },
	{ { T, GET, "/liv", "pod" }, 404, "application/problem+json" },
	/* the rest is not on the pod's address */
	{ { T, GET, "/", "pod" }, 404, "application/problem+json" },
	{ { T, GET, "/api/v1/status", "pod" }, 404, "application/problem+json" },
	{ { T, GET, "/api/v1/events", "pod" }, 404, "application/problem+json" },
	{ { T, POST, "/drain", "pod" }, 404, "application/problem+json" },
	{ { T, POST, "/quitquitquit", "pod" }, 404, "application/problem+json" },
	{ { T, POST, "/api/v1/breakers/orders/reset", "pod" }, 404, "application/problem+json" },
	/* reading at the admin address */
	{ { L, GET, "/", "localhost" }, 200, "text/plain" },
	{ { L, GET, "/api/v1/status", "localhost" }, 200, "application/json" },
	{ { L, HEAD, "/api/v1/status", "localhost" }, 200, "application/json" },
	{ { L, GET, "/api/v1/breakers", "localhost" }, 200, "application/json" },
	{ { L, GET, "/api/v1/bulkheads", "localhost" }, 200, "application/json" },
	{ { L, GET, "/api/v1/workers", "localhost" }, 200, "application/json" },
	{ { L, GET, "/api/v1/upstreams", "localhost" }, 200, "application/json" },
	{ { L, GET, "/api/v1/upstreams/orders", "localhost" }, 200, "application/json" },
	{ { L, HEAD, "/api/v1/upstreams/orders", "localhost" }, 200, "application/json" },
	{ { L, POST, "/api/v1/upstreams/orders", "localhost" }, 405, NULL },
	{ { L, GET, "/api/v1/upstreams/nobody", "localhost" }, 404, NULL },
	{ { L, GET, "/api/v1/upstreams/", "localhost" }, 404, NULL },
	{ { L, GET, "/api/v1/upstreams/orders/x", "localhost" }, 404, NULL },
	{ { T, GET, "/api/v1/upstreams", "pod" }, 404, NULL },
	{ { T, GET, "/api/v1/upstreams/orders", "pod" }, 404, NULL },
	{ { L, GET, "/api/v1/events?limit=3&type=breaker&upstream=orders&since=60", "localhost" },
	  200,
	  "application/json" },
	{ { L, GET, "/api/v1/events?limit=0", "localhost" }, 400, "application/problem+json" },
	{ { L, GET, "/api/v1/events?limit=1001", "localhost" }, 400, "application/problem+json" },
	{ { L, GET, "/api/v1/events?limit=", "localhost" }, 400, "application/problem+json" },
	{ { L, GET, "/api/v1/events?since=-1", "localhost" }, 400, "application/problem+json" },
	{ { L, GET, "/api/v1/events?since=99999999999", "localhost" },
	  400,
	  "application/problem+json" },
	{ { L, PUT, "/api/v1/status", "localhost" }, 405, "application/problem+json" },
	{ { L, GET, "/drain", "localhost" }, 405, "application/problem+json" },
	{ { L, HEAD, "/quitquitquit", "localhost" }, 405, "application/problem+json" },
	{ { L, GET, "/api/v1/breakers/orders/reset", "localhost" },
	  405,
	  "application/problem+json" },
	{ { L, GET, "/api/v1/breakers/", "localhost" }, 404, "application/problem+json" },
	{ { L, GET, "/api/v1/breakers/orders", "localhost" }, 404, "application/problem+json" },
	/* DNS rebinding */
	{ { L, GET, "/live", "LocalHost:1" }, 200, NULL },
	{ { L, GET, "/live", "127.0.0.2:4641" }, 200, NULL },
	{ { L, GET, "/live", "[::1]:4641" }, 200, NULL },
	{ { L, GET, "/live", "10.1.2.3:4641" }, 200, NULL },
	{ { L, GET, "/live", "evil.example" }, 403, NULL },
	{ { L, GET, "/live", "127.evil.example" }, 403, NULL },
	{ { L, GET, "/live", "localhost.evil.example" }, 403, NULL },
	{ { L, GET, "/api/v1/status", "evil.example:4641" }, 403, NULL },
	{ { L, GET, "/live",
	    "127.0.0.1.evil.example.of.a.name.that.is.longer.than.an.address.can.be" },
	  403,
	  NULL },
	/* changes: by the socket alone, unless it is said otherwise */
	{ { L, POST, "/drain", "localhost", NULL, "x-rhc-admin", "1" }, 403, NULL },
	{ { L, POST, "/api/v1/breakers/orders/reset", "localhost", NULL, "x-rhc-admin", "1" },
	  403,
	  NULL },
	{ { S, POST, "/api/v1/breakers/orders/open", "admin" }, 200, "application/json" },
	{ { S, POST, "/api/v1/breakers/orders/reset", "admin", "{}" }, 200, "application/json" },
	{ { S, POST, "/api/v1/breakers/orders/isolate", "admin",
	    "{\"reason\":\"provider is down\",\"ttl_seconds\":60}" },
	  200,
	  NULL },
	{ { S, POST, "/api/v1/breakers/orders/disable", "admin", "{\"ttl_seconds\":60}" },
	  200,
	  NULL },
	{ { S, POST, "/api/v1/breakers/orders/open", "admin", "{\"ttl_seconds\":60}" }, 400, NULL },
	{ { S, POST, "/api/v1/breakers/orders/open", "admin", "{\"force\":1}" }, 400, NULL },
	{ { S, POST, "/api/v1/breakers/orders/explode", "admin" }, 404, NULL },
	{ { S, POST, "/api/v1/breakers/orders/", "admin" }, 404, NULL },
	{ { S, POST, "/api/v1/breakers//reset", "admin" }, 404, NULL },
	{ { S, POST, "/api/v1/breakers/nobody/reset", "admin" }, 404, NULL },
	{ { S, POST,
	    "/api/v1/breakers/a-name-that-is-longer-than-any-upstream-can-have-really/reset",
	    "admin" },
	  404,
	  NULL },
	{ { S, POST, "/drain", "admin" }, 200, "text/plain" },
	{ { S, POST, "/undrain", "admin" }, 200, "text/plain" },
	{ { T, POST, "/undrain", "pod" }, 404, NULL },
	{ { S, GET, "/undrain", "admin" }, 405, NULL },
	{ { S, POST, "/quitquitquit", "admin" }, 200, "text/plain" },
	{ { S, POST, "/shutdown", "admin", "some body" }, 200, "text/plain" },
	{ { S, PUT, "/drain", "admin" }, 405, NULL },
};

Test(routes, every_path_answers_on_its_surfaces_with_its_methods)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		expect(&rows[i].q, rows[i].status, rows[i].type);
	cr_expect_eq(rig.drains, 1);
	cr_expect_eq(rig.undrains, 1);
	cr_expect_eq(rig.quits, 2);
}

Test(routes, ready_follows_the_lifecycle_and_startup_keeps_what_it_once_was)
{
	struct rhc_hdr *hdr = rhc_seg_hdr(&fx.seg);

	atomic_store(&hdr->lifecycle, RHC_LIFE_READY);
	rig.admin.started = true;
	expect(&(struct question){ T, GET, "/ready", "pod" }, 200, NULL);
	expect(&(struct question){ T, GET, "/startup", "pod" }, 200, NULL);
	atomic_store(&hdr->lifecycle, RHC_LIFE_DRAINING);
	expect(&(struct question){ T, GET, "/ready", "pod" }, 503, NULL);
	expect(&(struct question){ T, GET, "/startup", "pod" }, 200, NULL);
	rig.live = false;
	expect(&(struct question){ T, GET, "/live", "pod" }, 503, NULL);
}

Test(routes, a_reason_is_kept_where_everybody_looks_for_it)
{
	struct asked a;

	ask(&a, &(struct question){ S, POST, "/api/v1/breakers/orders/isolate", "admin",
				    "{\"reason\":\"we \\u00fcbten\"}" });
	cr_assert_eq(a.status, 200);
	cr_assert(says(&a, "\"kind\":\"Breaker\"") && says(&a, "\"state\":\"isolated\""), "%.*s",
		  (int)a.n, a.body);
	asked_free(&a);
	ask(&a, &(struct question){ S, GET, "/api/v1/breakers", "admin" });
	cr_assert(says(&a, "\"reason\":\"we \xc3\xbc"
			   "bten\""),
		  "%.*s", (int)a.n, a.body);
	asked_free(&a);
	ask(&a, &(struct question){ S, GET, "/api/v1/events?upstream=orders&limit=2", "admin" });
	cr_assert(says(&a, "\"type\":\"override_done\""), "%.*s", (int)a.n, a.body);
	asked_free(&a);
}

Test(routes, a_body_beyond_the_limit_is_told_so_and_not_kept)
{
	char *big = malloc(ADMIN_BODY_MAX + 100);
	struct asked a;

	memset(big, ' ', ADMIN_BODY_MAX + 99);
	big[ADMIN_BODY_MAX + 99] = 0;
	ask(&a, &(struct question){ S, POST, "/api/v1/breakers/orders/open", "admin", big });
	cr_assert_eq(a.status, 413);
	asked_free(&a);
	big[ADMIN_BODY_MAX] = 0; /* one that fits to the last byte */
	ask(&a, &(struct question){ S, POST, "/api/v1/breakers/orders/open", "admin", big });
	cr_assert_eq(a.status, 200);
	asked_free(&a);
	free(big);
}

Test(routes, a_change_waits_for_the_end_of_its_body)
{
	struct question q = { S, POST, "/drain", "admin", "{}" };
	struct admin_listener l;
	struct asked a;

	ask_head(&a, &q, &l);
	cr_assert_eq(rig.drains, 0);
	cr_assert_eq(a.status, 0);
	ask_body(&a, q.body);
	cr_assert_eq(rig.drains, 1);
	ask_sent(&a);
	cr_assert(a.released);
	asked_free(&a);
}

Test(routes, an_asker_that_neither_sends_nor_reads_is_left)
{
	struct question reads = { T, GET, "/metrics", "pod" },
			sends = { S, POST, "/drain", "admin", "{}" };
	struct admin_listener l[2];
	struct asked a[2];

	ask_head(&a[0], &reads, &l[0]);
	ask_head(&a[1], &sends, &l[1]);
	cr_assert_not(a[0].released || a[1].released);
	timer_wheel_run(&rig.timers, clock_ns() + 19 * NS_PER_S);
	cr_assert_not(a[0].released || a[1].released);
	timer_wheel_run(&rig.timers, clock_ns() + 22 * NS_PER_S);
	cr_assert(a[0].released && a[1].released);
	cr_assert_eq(rig.drains, 0);
	asked_free(&a[0]);
	asked_free(&a[1]);
}

Test(routes, as_many_as_are_allowed_at_once_all_get_their_answer_and_the_next_one_a_refusal)
{
	static struct asked a[ADMIN_CALLS_MAX];
	static struct admin_listener l[ADMIN_CALLS_MAX];
	struct question q = { T, GET, "/metrics", "pod" };
	struct message extra = { .ops = &rig_ops };

	for (unsigned i = 0; i < ADMIN_CALLS_MAX; i++)
		ask_head(&a[i], &q, &l[i]);
	admin_message(&l[0], &extra);
	cr_assert_null(extra.ev, "one too many");
	for (unsigned i = 0; i < ADMIN_CALLS_MAX; i++) {
		ask_sent(&a[i]);
		cr_assert(a[i].released && a[i].status == 200 && a[i].n == a[i].length, "%u", i);
		asked_free(&a[i]);
	}
}

Test(routes, an_asker_that_goes_away_takes_its_call_with_it)
{
	struct question q = { T, GET, "/health", "pod" };
	struct admin_listener l;
	struct asked a;

	ask_head(&a, &q, &l);
	cr_assert_eq(rig.checks, 1);
	a.m.ev->on_error(&a.m, MESSAGE_E_RESET, false);
	cr_assert(a.released);
	timer_wheel_run(&rig.timers, clock_ns() + 60 * NS_PER_S);
	cr_assert_eq(a.status, 0);
	asked_free(&a);
}

static void health(const char *path, unsigned status, const char *text)
{
	struct question q = { T, GET, path, "pod" };
	struct admin_listener l;
	struct asked a;

	ask_head(&a, &q, &l);
	timer_wheel_run(&rig.timers, clock_ns() + 60 * NS_PER_S); /* no worker is there to answer */
	usleep(1000);
	cr_assert_eq(a.status, 0, "it waits for health.timeout by the clock");
	for (unsigned i = 0; i < 800 && a.status == 0; i++) {
		timer_wheel_run(&rig.timers, clock_ns() + 60 * NS_PER_S);
		usleep(10000);
	}
	cr_assert_eq(a.status, status, "%s", path);
	cr_assert(says(&a, text), "%.*s", (int)a.n, a.body);
	ask_sent(&a);
	asked_free(&a);
}

Test(routes, health_is_answered_within_its_bound_also_when_no_worker_is_there, .timeout = 30)
{
	struct config *config = rig.config;

	rig.config = rig_load("defaults: {health: {timeout: 100ms}}\n");
	rig.admin.config = rig.config;
	config_free(config);
	health("/health", 200, "no answer in time");
	health("/health?strict", 503, "\"status\":\"degraded\"");
	health("/health?strict=0", 200, "degraded");
}

Test(routes_loopback, a_change_over_tcp_needs_the_header_that_no_web_page_can_send)
{
	rig_start(LOOPBACK);
	expect(&(struct question){ L, POST, "/drain", "localhost" }, 403, NULL);
	expect(&(struct question){ L, POST, "/drain", "localhost", NULL, "x-rhc-admin", "0" }, 403,
	       NULL);
	expect(&(struct question){ L, POST, "/drain", "localhost", NULL, "X-RHC-Admin", "1" }, 200,
	       NULL);
	expect(&(struct question){ S, POST, "/drain", "admin" }, 200, NULL);
	cr_expect_eq(rig.drains, 2);
}

Test(routes_loopback, mutations_off_is_off_on_every_surface)
{
	rig_start(OFF);
	expect(&(struct question){ L, POST, "/drain", "localhost", NULL, "x-rhc-admin", "1" }, 403,
	       NULL);
	expect(&(struct question){ S, POST, "/drain", "admin" }, 403, NULL);
	expect(&(struct question){ S, POST, "/api/v1/breakers/orders/open", "admin" }, 403, NULL);
	cr_expect_eq(rig.drains, 0);
}

Test(routes_loopback, what_is_switched_off_says_which_key_did_it)
{
	struct asked a;

	rig_start("admin: {status_page: false, quitquitquit: false}\n");
	ask(&a, &(struct question){ S, GET, "/", "admin" });
	cr_expect(a.status == 404 && says(&a, "admin.status_page"));
	asked_free(&a);
	ask(&a, &(struct question){ S, POST, "/quitquitquit", "admin" });
	cr_expect(a.status == 403 && says(&a, "admin.quitquitquit") && rig.quits == 0);
	asked_free(&a);
}

Test(routes_loopback, a_token_is_asked_for_and_read_anew_each_time)
{
	struct question q = { S, POST, "/drain", "admin", NULL, "authorization", "Bearer sesame" };
	char more[256], path[160];
	struct asked a;
	FILE *f;

	rig_start("");
	snprintf(path, sizeof(path), "%s/token", fx.dir);
	snprintf(more, sizeof(more), "admin: {token_file: %s}\n", path);
	config_free(rig.config);
	rig.admin.config = rig.config = rig_load(more);
	expect(&q, 401, NULL); /* no such file: nobody may */
	f = fopen(path, "w");
	fputs("sesame\n", f);
	fclose(f);
	expect(&q, 200, NULL);
	q.value = "Bearer sesam";
	expect(&q, 401, NULL);
	q.value = "Bearer sesame2";
	expect(&q, 401, NULL);
	q.value = "Basic sesame";
	expect(&q, 401, NULL);
	q.value = "bearer";
	expect(&q, 401, NULL);
	q.header = NULL;
	ask(&a, &q);
	cr_expect(a.status == 401 && a.challenge[0], "401 without WWW-Authenticate");
	asked_free(&a);
	f = fopen(path, "w"); /* empty: a token nobody has */
	fclose(f);
	q.header = "authorization";
	q.value = "Bearer ";
	expect(&q, 401, NULL);
	f = fopen(path, "w");
	fputs("new", f);
	fclose(f);
	q.value = "Bearer new";
	expect(&q, 200, NULL);
	expect(&(struct question){ S, GET, "/api/v1/status", "admin" }, 200, NULL);
}
