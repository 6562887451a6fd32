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
	world_init(&world, 2, ENGINE_EPOLL, yaml, "127.0.0.1:1");
}

static void end(void)
{
	world_fini(&world);
}

TestSuite(forward, .init = begin, .fini = end, .timeout = 60);

static struct upstream *ask(unsigned worker, const char *host, uint16_t port, enum rhc_error *why)
{
	return upstreams_forward(world.w[worker].all, (struct http_str){ host, (uint32_t)strlen(host) }, port, why);
}

static struct upstream *target_of(unsigned worker, const char *host, uint16_t port)
{
	enum rhc_error why;
	struct upstream *up = ask(worker, host, port, &why);

	cr_assert_not_null(up, "%s: %s", host, rhc_error_name(why));
	return up;
}

static struct upstream *target(const char *host, uint16_t port)
{
	return target_of(0, host, port);
}

static void never(struct guard_ticket *t, enum guard_answer a)
{
	(void)t;
	(void)a;
	cr_assert(false, "nobody waits here");
}

Test(forward, each_host_has_a_record_of_the_configuration_or_one_that_is_claimed)
{
	static const struct {
		const char *host;
		uint16_t    port;
		const char *record;
		bool        host_record;
	} rows[] = {
		{ "api.test", 80, "_forward:api.test", false },
		{ "Api.Test", 443, "_forward:api.test", false },
		{ "db.test", 5432, "_forward:db.test:5432", false },
		{ "db.test", 80, "_forward:db.test:80", true },
		{ "A.wild.test", 80, "_forward:a.wild.test:80", true },
		{ "a.wild.test", 81, "_forward:a.wild.test:81", true },
		{ "::1", 8080, "_forward:[::1]:8080", true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct upstream *up = target(rows[i].host, rows[i].port);

		cr_assert_str_eq(up->name, rows[i].record, "%s:%u", rows[i].host, rows[i].port);
		cr_assert_eq(up->host, rows[i].host_record, "%s", rows[i].host);
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

/* A call as the exchange makes it: the target is held from routing to the end. */
static struct upstream *call(unsigned worker, const char *host, enum guard_outcome outcome)
{
	struct upstream *up = target_of(worker, host, 80);
	struct guard_ticket t = { .done = never };

	upstream_hold(up);
	if (guard_ask(up, &t, 0) == GUARD_GO)
		guard_done(&t, outcome, outcome == GUARD_FAILURE ? RHC_ERR_connect_refused : RHC_ERR_none, 1);
	upstream_drop(up);
	return up;
}

static enum rhc_breaker_state state_of(const struct upstream *up)
{
	return rhc_breaker_peek(rhc_seg_up(&world.seg, up->index));
}

Test(forward, a_host_of_a_pattern_has_one_circuit_over_all_workers)
{
	struct upstream *a = call(0, "a.wild.test", GUARD_FAILURE), *b;

	cr_assert_eq(state_of(a), RHC_BRK_CLOSED, "one of two");
	b = call(1, "A.Wild.test", GUARD_FAILURE);
	cr_assert_eq(a->index, b->index);
	cr_assert_eq(state_of(a), RHC_BRK_OPEN);
	cr_assert_eq(state_of(call(1, "b.wild.test", GUARD_SUCCESS)), RHC_BRK_CLOSED);
}

Test(forward, a_host_of_a_pattern_has_slots_of_its_own_over_all_workers)
{
	struct guard_ticket t[3] = { { .done = never }, { .done = never }, { .done = never } };
	struct upstream *a = target_of(0, "a.wild.test", 80), *b = target_of(1, "a.wild.test", 80);

	cr_assert_eq(guard_ask(a, &t[0], 0), GUARD_GO);
	cr_assert_eq(guard_ask(b, &t[1], 0), GUARD_GO);
	cr_assert_eq(guard_ask(a, &t[2], 0), GUARD_TIMEOUT, "two of two are taken");
	cr_assert_eq(guard_ask(target("b.wild.test", 80), &t[2], 0), GUARD_GO);
	for (unsigned i = 0; i < 3; i++)
		guard_cancel(&t[i]);
}

/* Hosts h0, h1, ...: as many as there are records. */
static const char *host(unsigned i)
{
	static char text[4][32];
	static unsigned at;

	at = (at + 1) % 4;
	snprintf(text[at], sizeof(text[at]), "h%u.wild.test", i);
	return text[at];
}

static void fill_records(void)
{
	for (unsigned i = 0; i < world.seg.hdr.max_hosts; i++) {
		call(i % 2, host(i), GUARD_SUCCESS);
		usleep(2000); /* which one was used least recently is told by milliseconds */
		rig_turn(&world.rig);
	}
}

Test(forward, the_idle_host_used_least_recently_gives_way)
{
	struct upstream *first, *again;

	fill_records();
	first = call(0, host(0), GUARD_SUCCESS);
	cr_assert_geq(rhc_upstream_find(&world.seg, "_forward:h1.wild.test:80"), 0);
	call(1, "new.wild.test", GUARD_SUCCESS);
	cr_assert_lt(rhc_upstream_find(&world.seg, "_forward:h1.wild.test:80"), 0, "not h0, which was used again");
	cr_assert_eq(target_of(1, host(0), 80)->index, first->index);
	again = call(1, host(1), GUARD_FAILURE);
	cr_assert_str_eq(again->name, "_forward:h1.wild.test:80", "it comes back, in the place of h2");
	cr_assert_lt(rhc_upstream_find(&world.seg, "_forward:h2.wild.test:80"), 0);
	cr_assert_eq((int)again->index, rhc_upstream_find(&world.seg, again->name));
}

Test(forward, hosts_with_calls_failures_or_overrides_stay_and_the_next_one_is_refused)
{
	struct guard_ticket t = { .done = never };
	struct upstream *held;
	enum rhc_error why;
	struct rhc_admin admin;
	struct rhc_change change;
	uint32_t n = world.seg.hdr.max_hosts;

	held = target_of(0, host(0), 80);
	upstream_hold(held);
	cr_assert_eq(guard_ask(held, &t, 0), GUARD_GO);
	for (unsigned i = 1; i < n - 1; i++)
		call(i % 2, host(i), GUARD_FAILURE);
	cr_assert_eq(rhc_admin_begin(&admin, &world.seg, 1, 1), 0);
	cr_assert_eq(rhc_admin_limit(&admin, call(1, host(n - 1), GUARD_SUCCESS)->index, 1, 0, "", world_ms(),
	                             &change), 0);
	rhc_admin_end(&admin);
	cr_assert_null(ask(1, "new.wild.test", 80, &why));
	cr_assert_eq(why, RHC_ERR_hosts_full);
	cr_assert_not_null(ask(1, host(1), 80, &why), "those that are there go on");
	cr_assert_not_null(ask(1, "api.test", 80, &why), "and those of the configuration");
	call(1, host(1), GUARD_SUCCESS);
	cr_assert_not_null(ask(0, "new.wild.test", 80, &why), "a success: nothing of it would be missed");
	guard_done(&t, GUARD_SUCCESS, RHC_ERR_none, 1);
	upstream_drop(held);
}

Test(forward, a_failing_host_gives_way_when_nobody_called_it_for_host_ttl)
{
	enum rhc_error why;

	for (unsigned i = 0; i < world.seg.hdr.max_hosts; i++)
		call(0, host(i), GUARD_FAILURE);
	cr_assert_null(ask(1, "new.wild.test", 80, &why));
	world.cfg->forward_proxy.host_ttl_ns = 1;
	usleep(2000);
	rig_turn(&world.rig);
	cr_assert_not_null(ask(1, "new.wild.test", 80, &why));
}

Test(forward, what_ends_after_the_record_went_to_another_host_is_not_counted_there)
{
	struct upstream *old = call(0, host(0), GUARD_SUCCESS), *other;

	upstream_count(old, RHC_CTR_conn_h1_opened); /* a connection that is kept */
	cr_assert_eq(world_counter(old, RHC_CTR_conn_h1_opened), 1, "the record is still its own");
	for (unsigned i = 1; i <= world.seg.hdr.max_hosts; i++) {
		usleep(2000);
		rig_turn(&world.rig);
		call(1, host(i), GUARD_SUCCESS);
	}
	other = target_of(0, host(world.seg.hdr.max_hosts), 80);
	cr_assert_eq(other->index, old->index, "the last one came into its place");
	cr_assert_eq(world_counter(other, RHC_CTR_conn_h1_opened), 0, "it begins with nothing");
	upstream_count(old, RHC_CTR_dns_ok);
	upstream_time(old, RHC_HIST_connect, 1);
	cr_assert_eq(world_counter(other, RHC_CTR_dns_ok), 0);
	upstream_drop((upstream_hold(other), other));
	usleep(2000);
	rig_turn(&world.rig);
	call(0, host(0), GUARD_SUCCESS);
	cr_assert_neq(old->index, other->index);
	cr_assert_eq(world_counter(old, RHC_CTR_conn_h1_opened), 1, "what it has open is open in its new record");
	upstream_count(old, RHC_CTR_conn_h1_closed);
	cr_assert_eq(world_counter(old, RHC_CTR_conn_h1_closed), 1);
}

Test(forward, a_target_nobody_called_rests_after_a_second)
{
	struct upstream *up = target("a.wild.test", 80);

	cr_assert_not(up->resting);
	guard_second(world.w[0].all);
	cr_assert(up->resting);
	cr_assert_eq(target("a.wild.test", 80), up);
	cr_assert_not(up->resting);
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
	cr_assert_not(upstreams_declares(world.cfg, "_forward"));
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
