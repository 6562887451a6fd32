/*
 * sidecar/upstream/upstream.h: the table of a worker, and what the supervisor makes of a
 * configuration.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "world.h"

static struct world world;

static const char yaml[] = "version: 1\n"
			   "defaults: {bulkhead: {max_concurrency: 7}}\n"
			   "upstreams:\n"
			   "  orders: {url: 'http://orders.shop.svc:8080', "
			   "hosts: [ORDERS.shop, 'api.example.com:81', '[::1]:9']}\n"
			   "  billing: {url: 'https://billing.example.com', "
			   "retry: {budget: {ratio: 0, min_per_second: 0}}}\n"
			   "  plain: {url: 'http://billing.example.com'}\n"
			   "forward_proxy: {enabled: true, allow: ['*.example.org', 'x?.test']}\n";

static void begin(void)
{
	world_init(&world, 1, ENGINE_EPOLL, yaml, "127.0.0.1:1");
}

static void end(void)
{
	world_fini(&world);
}

static const char *by_host(const char *authority)
{
	struct upstream *up = upstreams_by_host(
		world.w[0].all, (struct http_str){ authority, (uint32_t)strlen(authority) });

	return up ? up->name : "";
}

TestSuite(upstream, .init = begin, .fini = end, .timeout = 60);

Test(upstream, is_found_by_its_name)
{
	cr_assert_str_eq(world_up(&world, 0, "orders")->name, "orders");
	cr_assert_str_eq(world_up(&world, 0, "billing")->name, "billing");
	cr_assert_null(upstreams_by_name(world.w[0].all, HTTP_STR("order")));
	cr_assert_null(upstreams_by_name(world.w[0].all, HTTP_STR("orders2")));
	cr_assert_null(upstreams_by_name(world.w[0].all, HTTP_STR("")));
	cr_assert_null(upstreams_by_name(world.w[0].all, HTTP_STR("orders.shop")),
		       "a host is not a name");
	cr_assert_null(upstreams_by_name(world.w[0].all, HTTP_STR("Orders")), "names are exact");
}

Test(upstream, is_found_by_what_a_request_calls_it)
{
	static const struct {
		const char *authority, *name;
	} rows[] = {
		{ "orders", "orders" },
		{ "ORDERS", "orders" },
		{ "orders:1234", "orders" },
		{ "orders.shop", "orders" },
		{ "Orders.Shop:80", "orders" },
		{ "orders.shop.", "orders" },
		{ "orders.shop.svc:8080", "orders" },
		{ "api.example.com:81", "orders" },
		{ "api.example.com", "" },
		{ "api.example.com:82", "" },
		{ "[::1]:9", "orders" },
		{ "[::1]", "" },
		{ "billing.example.com:443", "billing" },
		{ "billing.example.com:80", "plain" },
		{ "billing.example.com", "billing" },
		{ "nobody", "" },
		{ "", "" },
		{ ":80", "" },
		{ "orders:99999", "" },
		{ "[::1", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_str_eq(by_host(rows[i].authority), rows[i].name, "%s", rows[i].authority);
}

Test(upstream, a_host_longer_than_any_is_nobodys)
{
	char text[1000];

	memset(text, 'a', sizeof(text));
	cr_assert_null(upstreams_by_host(world.w[0].all, (struct http_str){ text, sizeof(text) }));
}

Test(upstream, targets_of_the_forward_proxy_are_made_when_asked_for)
{
	struct upstreams *all = world.w[0].all;
	enum rhc_error why;
	struct upstream *up = upstreams_forward(all, HTTP_STR("a.example.org"), 80, &why);

	cr_assert_not_null(up);
	cr_assert(up->forward);
	cr_assert_str_eq(up->name, UPSTREAM_FORWARD_NAME ":a.example.org:80");
	cr_assert_eq(upstreams_forward(all, HTTP_STR("A.example.org"), 80, &why), up,
		     "the same one again");
	cr_assert_neq(upstreams_forward(all, HTTP_STR("a.example.org"), 81, &why), up);
	cr_assert_eq(up->policy->bulkhead.max_concurrency, 7);
}

static struct upstream *target(int i)
{
	char host[64];
	int n = snprintf(host, sizeof(host), "h%d.example.org", i);
	enum rhc_error why;

	return upstreams_forward(world.w[0].all, (struct http_str){ host, (uint32_t)n }, 80, &why);
}

Test(upstream, targets_of_the_forward_proxy_give_way_unless_they_are_held)
{
	struct upstream *held = target(0);
	uint32_t bound = world.w[0].all->forward_max, known = 0;

	upstream_hold(held);
	for (int i = 1; i < 3 * (int)bound; i++) {
		struct upstream *up = target(i);

		cr_assert_not_null(up, "%d", i);
		upstream_hold(up);
		upstream_drop(up);
	}
	for (uint32_t i = 0; i < bound; i++)
		known += world.w[0].all->forward[i] != NULL;
	cr_assert_eq(known, bound, "a bounded number");
	cr_assert_eq(target(0), held);
	upstream_drop(held);
}

Test(upstream, the_forward_proxy_allows_what_is_listed)
{
	static const struct {
		const char *host;
		bool allowed;
	} rows[] = {
		{ "a.example.org", true }, { "A.B.EXAMPLE.ORG", true },
		{ "example.org", false },  { "a.example.orgx", false },
		{ "x1.test", true },       { "x.test", false },
		{ "x12.test", false },     { "", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(
			upstream_forward_allowed(
				world.cfg,
				(struct http_str){ rows[i].host, (uint32_t)strlen(rows[i].host) }),
			rows[i].allowed, "%s", rows[i].host);
}

Test(upstream, a_retry_is_decided_charged_and_counted)
{
	struct upstream *up = world_up(&world, 0, "orders"), *poor = world_up(&world, 0, "billing");
	struct retry_facts f = { .error = RHC_ERR_connect_refused,
				 .method = HTTP_METHOD_GET,
				 .body_kept = true,
				 .attempt = 1,
				 .retry_after_ns = RETRY_AFTER_NONE };
	struct retry_decision d = upstream_retry(up, &f);

	cr_assert_eq(d.verdict, RETRY_YES);
	cr_assert(d.wait_ns >= NS_PER_S && d.wait_ns <= 2 * NS_PER_S);
	cr_assert_eq(world_counter(up, RHC_CTR_retry_connect), 1);
	cr_assert_eq(upstream_retry(poor, &f).verdict, RETRY_BUDGET);
	cr_assert_eq(world_counter(poor, RHC_CTR_skip_budget), 1);
	cr_assert_eq(world_counter(poor, RHC_CTR_retry_connect), 0);
	f.attempt = 3;
	cr_assert_eq(upstream_retry(up, &f).verdict, RETRY_ATTEMPTS);
	cr_assert_eq(world_counter(up, RHC_CTR_skip_attempts), 1);
	for (int i = 0; i < 100; i++) {
		f.attempt = 1;
		d = upstream_retry(up, &f);
	}
	cr_assert_eq(d.verdict, RETRY_BUDGET, "ten per second");
}

Test(upstream, only_http_has_no_tls)
{
	cr_assert_not_null(world_up(&world, 0, "billing")->tls.any);
	cr_assert_neq(world_up(&world, 0, "billing")->tls.h1,
		      world_up(&world, 0, "billing")->tls.any);
	cr_assert_null(world_up(&world, 0, "orders")->tls.any);
	cr_assert_str_eq(world_up(&world, 0, "billing")->server_name, "billing.example.com");
}

Test(policy, the_segment_learns_what_the_configuration_says)
{
	struct config *cfg = world_config(
		"version: 1\nupstreams:\n  a:\n    url: http://a.test.\n"
		"    timeout: {connect: 2s, read: 5s, write: 3s, pool: 1s}\n"
		"    circuit_breaker:\n      failure_threshold: 9\n      recovery_timeout: 12s\n"
		"      half_open_max_calls: 3\n      success_threshold: 2\n"
		"      open_backoff: {multiplier: 1.5, max: 60s, jitter: 10%}\n"
		"      failure_rate: {threshold: 50%, window: 20s, min_calls: 30}\n"
		"      slow_call: {threshold: 80%, duration: 1500ms}\n"
		"    bulkhead: {max_concurrency: 33, max_waiting: 44}\n");
	struct rhc_policy p;

	upstream_policy(&cfg->upstreams[0].policy, &p);
	cr_assert_eq(p.failure_threshold, 9);
	cr_assert_eq(p.recovery_ms, 12000);
	cr_assert_eq(p.recovery_max_ms, 60000);
	cr_assert_eq(p.growth_milli, 1500);
	cr_assert_not(p.unlimited);
	cr_assert_eq(p.jitter_permille, 100);
	cr_assert_eq(p.half_open_max, 3);
	cr_assert_eq(p.success_threshold, 2);
	cr_assert_eq(p.lease_ms, 16000, "all the waits of one attempt and five seconds");
	cr_assert_eq(p.window_ms, 20000);
	cr_assert_eq(p.min_calls, 30);
	cr_assert_eq(p.failure_permille, 500);
	cr_assert_eq(p.slow_ms, 1500);
	cr_assert_eq(p.slow_permille, 800);
	cr_assert_eq(p.limit, 33);
	cr_assert_eq(p.max_waiting, 44);
	cr_assert_not(p.disabled);
	config_free(cfg);
}

Test(policy, the_defaults_have_no_window_and_no_growth)
{
	struct config *cfg = world_config("version: 1\nupstreams:\n  a: {url: 'http://a.test.'}\n");
	struct rhc_policy p;

	upstream_policy(&cfg->upstreams[0].policy, &p);
	cr_assert_eq(p.failure_threshold, 5);
	cr_assert_eq(p.recovery_ms, 30000);
	cr_assert_eq(p.recovery_max_ms, 30000);
	cr_assert_eq(p.window_ms, 0);
	cr_assert_eq(p.limit, 50);
	config_free(cfg);
}

Test(policy, a_bad_certificate_file_is_named_with_its_upstream)
{
	struct config *cfg =
		world_config("version: 1\nupstreams:\n  a: {url: 'https://a.test.'}\n");
	struct upstream_tls *tls = NULL;
	char why[512] = "";

	cfg->upstreams[0].policy.tls.ca_file = "/nonexistent/ca.pem";
	cr_assert_eq(upstream_tls_new(cfg, &tls, why, sizeof(why)), -ENOENT);
	cr_assert(strstr(why, "upstream 'a'") != NULL, "%s", why);
	cr_assert(strstr(why, "/nonexistent/ca.pem") != NULL, "%s", why);
	config_free(cfg);
}
