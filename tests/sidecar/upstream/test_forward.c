/* Records of the forward proxy, connections as an attempt wants them, and verdicts before the end. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "sidecar/upstream/upstream_private.h"
#include "world.h"

static struct world world;

static const char yaml[] = "version: 1\n"
			   "defaults: {bulkhead: {max_concurrency: 2, acquisition_timeout: 0}, "
			   "circuit_breaker: {failure_threshold: 2}}\n"
			   "upstreams:\n"
			   "  orders: {url: 'http://orders.test'}\n"
			   "forward_proxy: {enabled: true, allow: [API.test, 'db.test:5432', '*.wild.test']}\n";

static void begin(void)
{
	world_init(&world, 1, ENGINE_EPOLL, yaml, "127.0.0.1:1");
}

static void end(void)
{
	world_fini(&world);
}

TestSuite(forward, .init = begin, .fini = end, .timeout = 60);

static struct upstream *target(const char *host, uint16_t port)
{
	struct upstream *up = upstreams_forward(world.w[0].all, (struct http_str){ host, (uint32_t)strlen(host) }, port);

	cr_assert_not_null(up);
	return up;
}

static void never(struct guard_ticket *t, enum guard_answer a)
{
	(void)t;
	(void)a;
	cr_assert(false, "nobody waits here");
}

Test(forward, a_host_that_is_written_out_has_a_record_and_a_breaker)
{
	static const struct {
		const char *host;
		uint16_t    port;
		const char *record;
		bool        breaks;
	} rows[] = {
		{ "api.test", 80, "_forward:api.test", true },
		{ "Api.Test", 443, "_forward:api.test", true },
		{ "db.test", 5432, "_forward:db.test:5432", true },
		{ "db.test", 80, "_forward", false },
		{ "a.wild.test", 80, "_forward", false },
		{ "b.wild.test", 80, "_forward", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct upstream *up = target(rows[i].host, rows[i].port);

		cr_assert_str_eq(up->name, rows[i].record, "%s:%u", rows[i].host, rows[i].port);
		cr_assert_eq(up->guard.breaks, rows[i].breaks, "%s", rows[i].host);
		cr_assert_eq((int)up->index, rhc_upstream_find(&world.seg, rows[i].record));
	}
	cr_assert_eq(target("api.test", 80)->index, target("api.test", 443)->index, "one host, one circuit");
}

Test(forward, failures_open_the_circuit_of_one_host_alone)
{
	struct upstream *api = target("api.test", 80), *db = target("db.test", 5432);
	struct guard_ticket t = { .done = never };

	for (int i = 0; i < 2; i++) {
		cr_assert_eq(guard_ask(api, &t, 0), GUARD_GO);
		guard_done(&t, GUARD_FAILURE, RHC_ERR_connect_refused, 1);
	}
	cr_assert_eq(guard_ask(api, &t, 0), GUARD_OPEN);
	cr_assert_eq(guard_ask(db, &t, 0), GUARD_GO);
	guard_done(&t, GUARD_SUCCESS, RHC_ERR_none, 1);
}

Test(forward, a_settled_attempt_has_told_its_verdict_and_keeps_its_slot)
{
	struct upstream *api = target("api.test", 80);
	struct guard_ticket t[3] = { { .done = never }, { .done = never }, { .done = never } };

	cr_assert_eq(guard_ask(api, &t[0], 0), GUARD_GO);
	cr_assert_eq(guard_ask(api, &t[1], 0), GUARD_GO);
	cr_assert(guard_holds(&t[0]));
	guard_settle(&t[0], GUARD_SUCCESS, RHC_ERR_none, 1);
	cr_assert_not(guard_holds(&t[0]), "no second verdict is due");
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, api->index), 2);
	cr_assert_eq(guard_ask(api, &t[2], 0), GUARD_TIMEOUT, "the slot is taken");
	guard_cancel(&t[0]);
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, api->index), 1);
	guard_cancel(&t[0]); /* holds nothing */
	cr_assert_eq(guard_ask(api, &t[2], 0), GUARD_GO);
	guard_settle(&t[2], GUARD_FAILURE, RHC_ERR_connect_refused, 1);
	guard_settle(&t[1], GUARD_FAILURE, RHC_ERR_connect_refused, 1);
	cr_assert_eq(guard_ask(api, &t[0], 0), GUARD_OPEN, "both failures counted");
	guard_cancel(&t[1]);
	guard_cancel(&t[2]);
	cr_assert_eq(rhc_bulkhead_in_use(&world.seg, api->index), 0);
	cr_assert_eq(world_counter(api, RHC_CTR_att_started), world_counter(api, RHC_CTR_att_finished));
}

Test(forward, names_of_records_are_short_and_tell_hosts_apart)
{
	char a[RHC_NAME_MAX + 1], b[RHC_NAME_MAX + 1], host[300];

	memset(host, 'x', sizeof(host));
	for (uint32_t n = 1; n < sizeof(host); n++) {
		upstream_forward_record((struct http_str){ host, n }, a);
		cr_assert_leq(strlen(a), RHC_NAME_MAX);
		host[n - 1] = 'y';
		upstream_forward_record((struct http_str){ host, n }, b);
		host[n - 1] = 'x';
		cr_assert_str_neq(a, b, "%u", n);
	}
	upstream_forward_record(HTTP_STR("UPPER.Test"), a);
	cr_assert_str_eq(a, "_forward:upper.test");
}

Test(forward, a_configuration_knows_its_records)
{
	cr_assert(upstreams_declares(world.cfg, "orders"));
	cr_assert(upstreams_declares(world.cfg, "_forward"));
	cr_assert(upstreams_declares(world.cfg, "_forward:api.test"));
	cr_assert(upstreams_declares(world.cfg, "_forward:db.test:5432"));
	cr_assert_not(upstreams_declares(world.cfg, "_forward:db.test"));
	cr_assert_not(upstreams_declares(world.cfg, "_forward:*.wild.test"));
	cr_assert_not(upstreams_declares(world.cfg, "gone"));
}

Test(forward, an_authority_carries_the_port_unless_it_is_the_schemes)
{
	cr_assert_not(target("api.test", 80)->cfg->url.port_written);
	cr_assert(target("api.test", 8080)->cfg->url.port_written);
}
