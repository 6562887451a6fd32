/* sidecar/exchange/route.h: which upstream a request is for, and who is turned away. */
#include "fixture.h"
#include "sidecar/exchange/route.h"

static const char yaml[] = "version: 1\n"
			   "upstreams:\n"
			   "  orders: {url: 'http://orders.shop.svc:8080'}\n"
			   "  billing: {url: 'https://billing.example.com', hosts: ['pay.example.com']}\n"
			   "forward_proxy: {enabled: true, allow: ['api.test', '*.wild.test', 'db.test:5432'], "
			   "connect: allow}\n";

static void begin(void)
{
	call_init(yaml);
}

TestSuite(route, .init = begin, .fini = call_fini, .timeout = 60);

struct row {
	const char     *request; /* without the empty line */
	enum rhc_error  error;
	const char     *upstream;
	const char     *detail; /* a part of it */
};

static void check(const struct row *r)
{
	char text[1024];
	struct exchange *e;
	enum rhc_error err;

	snprintf(text, sizeof(text), "%s\r\n\r\n", r->request);
	e = request(HTTP_1_1, text);
	err = route(e);
	cr_assert_eq(err, r->error, "%s: %d (%s)", r->request, err, e->detail);
	if (r->upstream)
		cr_assert_str_eq(e->upstream->name, r->upstream, "%s", r->request);
	else
		cr_assert_null(e->upstream, "%s", r->request);
	if (r->detail)
		cr_assert(strstr(e->detail, r->detail), "%s: \"%s\" does not say \"%s\"", r->request, e->detail, r->detail);
}

#define H "\r\nHost: "

Test(route, follows_the_field_the_authority_and_the_absolute_target)
{
	static const struct row rows[] = {
		{ "GET / HTTP/1.1" H "orders", RHC_ERR_none, "orders", NULL },
		{ "GET / HTTP/1.1" H "ORDERS.shop.svc:8080", RHC_ERR_none, "orders", NULL },
		{ "GET / HTTP/1.1" H "pay.example.com", RHC_ERR_none, "billing", NULL },
		{ "GET / HTTP/1.1" H "x\r\nx-rhc-upstream: billing", RHC_ERR_none, "billing", NULL },
		{ "GET / HTTP/1.1" H "orders\r\nx-rhc-upstream: billing", RHC_ERR_none, "billing", NULL },
		{ "GET http://orders/ HTTP/1.1" H "orders", RHC_ERR_none, "orders", NULL },
		{ "GET https://billing.example.com/ HTTP/1.1" H "billing.example.com", RHC_ERR_none, "billing", NULL },
		{ "GET http://api.test/ HTTP/1.1" H "api.test", RHC_ERR_none, "_forward:api.test", NULL },
		{ "GET http://API.test:81/ HTTP/1.1" H "API.test:81", RHC_ERR_none, "_forward:api.test", NULL },
		{ "GET http://a.wild.test/ HTTP/1.1" H "a.wild.test", RHC_ERR_none, "_forward:a.wild.test:80", NULL },
		{ "GET http://db.test:5432/ HTTP/1.1" H "db.test:5432", RHC_ERR_none, "_forward:db.test:5432", NULL },
		{ "OPTIONS * HTTP/1.1" H "orders", RHC_ERR_none, "orders", NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(&rows[i]);
}

Test(route, says_why_there_is_none)
{
	static const struct row rows[] = {
		{ "GET / HTTP/1.1" H "nobody", RHC_ERR_no_route, NULL, "authority \"nobody\"" },
		{ "GET / HTTP/1.1" H "x\r\nx-rhc-upstream: nope", RHC_ERR_no_route, NULL, "x-rhc-upstream \"nope\"" },
		{ "GET / HTTP/1.1" H "api.test", RHC_ERR_no_route, NULL, "api.test" },
		{ "GET http://other.test/ HTTP/1.1" H "other.test", RHC_ERR_denied, NULL, "forward_proxy.allow" },
		{ "GET http://db.test/ HTTP/1.1" H "db.test", RHC_ERR_denied, NULL, "forward_proxy.allow" },
		{ "GET https://api.test/ HTTP/1.1" H "api.test", RHC_ERR_denied, NULL, "https://" },
		{ "GET / HTTP/1.1" H "orders\r\nVia: 1.1 rhc-000000000000", RHC_ERR_loop, NULL, "Via" },
		{ "GET / HTTP/1.1" H "orders\r\nVia: 1.0 a\r\nVia: 2 b, 1.1 rhc-000000000000 (us)", RHC_ERR_loop, NULL, "Via" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check(&rows[i]);
}

Test(route, a_via_that_is_only_like_ours_is_no_loop)
{
	static const char *const vias[] = { "1.1 rhc", "1.1 rhc-000000000001", "1.1 rhc-0000000000000", "1.1 x (rhc-000000000000)",
	                                     "1.1 a.rhc-000000000000", "rhc-000000000000", "", ",", "1.1", "1.1 ", " , 1.1 RHC-000000000000X" };
	char text[256];

	for (size_t i = 0; i < sizeof(vias) / sizeof(vias[0]); i++) {
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: orders\r\nVia: %s\r\n\r\n", vias[i]);
		cr_assert_eq(route(request(HTTP_1_1, text)), RHC_ERR_none, "\"%s\"", vias[i]);
	}
}

Test(route, connect_wants_host_and_port_that_are_allowed)
{
	static const struct row rows[] = {
		{ "CONNECT api.test:443 HTTP/1.1" H "api.test:443", RHC_ERR_none, "_forward:api.test", NULL },
		{ "CONNECT db.test:5432 HTTP/1.1" H "db.test:5432", RHC_ERR_none, "_forward:db.test:5432", NULL },
		{ "CONNECT db.test:5433 HTTP/1.1" H "db.test:5433", RHC_ERR_denied, NULL, "forward_proxy.allow" },
		{ "CONNECT orders.shop.svc:8080 HTTP/1.1" H "orders.shop.svc:8080", RHC_ERR_denied, NULL, "forward_proxy.allow" },
		{ "CONNECT api.test:443 HTTP/1.1" H "api.test:443\r\nVia: 1.1 rhc-000000000000", RHC_ERR_loop, NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		check(&rows[i]);
		cr_assert_eq(call.e.connect, rows[i].error == RHC_ERR_none);
	}
}

Test(route, connect_needs_the_policy_and_a_listener_that_forwards)
{
	static const char text[] = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n";

	call.listening.mode = CONFIG_LISTENER_ROUTE;
	cr_assert_eq(route(request(HTTP_1_1, text)), RHC_ERR_denied);
	call.listening.mode = CONFIG_LISTENER_FORWARD;
	cr_assert_eq(route(request(HTTP_1_1, text)), RHC_ERR_none);
	call.listener.upstream = world_up(&call.world, 0, "orders");
	cr_assert_eq(route(request(HTTP_1_1, text)), RHC_ERR_denied);
	call.listener.upstream = NULL;
	call.world.cfg->forward_proxy.connect = CONFIG_CONNECT_DENY;
	cr_assert_eq(route(request(HTTP_1_1, text)), RHC_ERR_denied);
}

Test(route, a_listener_knows_its_mode)
{
	call.listening.mode = CONFIG_LISTENER_ROUTE;
	check(&(struct row){ "GET http://api.test/ HTTP/1.1" H "api.test", RHC_ERR_no_route, NULL, NULL });
	check(&(struct row){ "GET http://orders/ HTTP/1.1" H "orders", RHC_ERR_none, "orders", NULL });
	call.listening.mode = CONFIG_LISTENER_FORWARD;
	check(&(struct row){ "GET / HTTP/1.1" H "orders", RHC_ERR_no_route, NULL, NULL });
	check(&(struct row){ "GET http://orders/ HTTP/1.1" H "orders", RHC_ERR_none, "orders", NULL });
	call.listener.upstream = world_up(&call.world, 0, "billing");
	check(&(struct row){ "GET / HTTP/1.1" H "whatever", RHC_ERR_none, "billing", NULL });
}
