/* sidecar/upstream/pool.h for upstreams with a name: several addresses, none, changing ones. */
#include <criterion/criterion.h>

#include "dns_server.h"
#include "origin.h"
#include "world.h"

static struct world world;
static struct dns_server dns;
static struct origin origin[2]; /* 127.0.0.41 and 127.0.0.42, same port */
static int nobody = -1;
static struct upstream *up;

struct call {
	struct pool_wait w;
	bool done;
	struct message *m;
};

static void on_taken(struct pool_wait *w, struct message *m)
{
	struct call *c = CONTAINER_OF(w, struct call, w);

	cr_assert_not(c->done);
	c->done = true;
	c->m = m;
}

static void on_error(struct message *m, enum message_error err, bool unprocessed)
{
	(void)m;
	(void)err;
	(void)unprocessed;
}

static const struct message_events events = { .on_error = on_error };

static bool take(struct call *c, uint32_t tried)
{
	*c = (struct call){ .w = { .done = on_taken, .ev = &events, .tried = tried } };
	c->m = pool_take(up, &c->w);
	c->done = c->m != NULL;
	return rig_until(&world.rig, &c->done, 5000) && c->m != NULL;
}

static void drop(struct call *c)
{
	message_release(c->m);
	rig_for(&world.rig, 10);
}

static void begin_at(uint16_t port, const char *policy)
{
	char yaml[1024];

	dns_server_init(&dns);
	dns.script = (struct dns_script){ .ttl = 60, .n4 = 2, .first4 = 41 };
	snprintf(yaml, sizeof(yaml),
		 "version: 1\nupstreams:\n  orders:\n    url: http://orders.shop.test:%u\n%s", port,
		 policy);
	world_init(&world, 1, ENGINE_AUTO, yaml, dns.csv);
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ dns_server_act, &dns };
	for (int i = 0; i < 2; i++)
		if (origin[i].port)
			world.rig.peer[world.rig.n_peers++] =
				(struct rig_peer){ origin_act, &origin[i] };
	up = world_up(&world, 0, "orders");
}

/* Both addresses listen. */
static void begin(const char *policy)
{
	origin_init(&origin[0], "127.0.0.41", 0);
	origin_init(&origin[1], "127.0.0.42", origin[0].port);
	begin_at(origin[0].port, policy);
}

/* Only the second one does. */
static void begin_half(const char *policy)
{
	uint16_t port;

	nobody = origin_nobody("127.0.0.41", 0, &port);
	origin_init(&origin[1], "127.0.0.42", port);
	begin_at(port, policy);
}

static void end(void)
{
	world_fini(&world);
	dns_server_fini(&dns);
	for (int i = 0; i < 2; i++)
		if (origin[i].port)
			origin_fini(&origin[i]);
	if (nobody >= 0)
		close(nobody);
}

TestSuite(pool_dns, .fini = end, .timeout = 60);

Test(pool_dns, the_next_address_is_tried_within_the_same_attempt)
{
	struct call c;

	begin_half("");
	cr_assert(take(&c, 0), "%s", c.w.text);
	cr_assert_eq(c.w.endpoint, 1);
	cr_assert_gt(c.w.dns_ns, 0);
	cr_assert_eq(world_counter(up, RHC_CTR_connect_fail), 1);
	cr_assert_eq(world_counter(up, RHC_CTR_dns_ok), 1);
	drop(&c);
	cr_assert(take(&c, 0));
	cr_assert_eq(world_counter(up, RHC_CTR_connect_fail), 1, "the one that failed comes last");
	drop(&c);
}

Test(pool_dns, when_all_addresses_fail_the_last_failure_is_told)
{
	struct call c;

	begin_half("");
	dns.script.n4 = 1;
	cr_assert_not(take(&c, 0));
	cr_assert_eq(c.w.error, RHC_ERR_connect_refused);
	cr_assert(strstr(c.w.text, "127.0.0.41:") != NULL, "%s", c.w.text);
	cr_assert_eq(c.w.tried, 1);
}

Test(pool_dns, a_retry_goes_to_the_other_address)
{
	struct call c, d;

	begin("");
	cr_assert(take(&c, 0));
	cr_assert(take(&d, c.w.tried));
	cr_assert_neq(d.w.endpoint, c.w.endpoint);
	cr_assert_eq(d.w.tried, 3);
	drop(&c);
	drop(&d);
}

Test(pool_dns, connects_take_turns_over_the_addresses)
{
	struct call c[8];

	begin("");
	for (int i = 0; i < 8; i++)
		cr_assert(take(&c[i], 0));
	rig_for(&world.rig, 10);
	cr_assert_eq(origin[0].accepted, 4);
	cr_assert_eq(origin[1].accepted, 4);
	for (int i = 0; i < 8; i++)
		drop(&c[i]);
}

Test(pool_dns, a_name_that_does_not_exist_fails_for_good)
{
	struct call c;

	begin("");
	dns.script.rcode = 3;
	cr_assert_not(take(&c, 0));
	cr_assert_eq(c.w.error, RHC_ERR_dns_failure);
	cr_assert_eq(c.w.dns, RESOLVER_NXDOMAIN);
	cr_assert(c.w.permanent);
	cr_assert_eq(c.w.endpoint, ENDPOINT_NONE);
	cr_assert(strstr(c.w.text, "orders.shop.test") != NULL, "%s", c.w.text);
	cr_assert_eq(world_counter(up, RHC_CTR_dns_fail), 1);
	cr_assert_not(take(&c, 0), "remembered");
	cr_assert_eq(world_counter(up, RHC_CTR_dns_fail), 1);
}

Test(pool_dns, a_silent_name_server_is_a_dns_timeout)
{
	struct call c;

	begin("    dns: {timeout: 100ms}\n");
	dns.script.silent = true;
	cr_assert_not(take(&c, 0));
	cr_assert_eq(c.w.error, RHC_ERR_dns_timeout);
	cr_assert_not(c.w.permanent);
	cr_assert_geq(c.w.dns_ns, 90 * NS_PER_MS);
}

Test(pool_dns, the_connect_timeout_bounds_the_lookup_as_well)
{
	struct call c;

	begin("    dns: {timeout: 5s}\n    timeout: {connect: 120ms}\n");
	dns.script.silent = true;
	cr_assert_not(take(&c, 0));
	cr_assert_eq(c.w.error, RHC_ERR_dns_timeout);
	cr_assert_lt(c.w.dns_ns, 1000 * NS_PER_MS);
}

Test(pool_dns, connections_to_an_address_that_is_gone_are_retired)
{
	struct call c, d;

	begin("    dns: {ttl_min: 0, ttl_max: 1s}\n");
	dns.script.n4 = 1;
	dns.script.ttl = 0;
	cr_assert(take(&c, 0));
	cr_assert_eq(c.w.endpoint, 0);
	dns.script.first4 = 42;
	cr_assert(take(&d, 0));
	cr_assert_eq(d.m->conn->endpoint, 0);
	rig_for(&world.rig, 10);
	cr_assert_eq(origin[1].accepted, 1);
	cr_assert(up->endpoints.row[0].gone);
	cr_assert_eq(up->pool.n_conns, 1,
		     "the old one carries its message to the end, and no other");
	drop(&c);
	drop(&d);
	cr_assert_eq(up->endpoints.row[0].conns, 0);
}

Test(pool_dns, an_address_that_swallows_packets_does_not_take_all_the_time)
{
	int fill[4];
	struct call c;
	uint64_t begun;

	begin("    timeout: {connect: 2s}\n");
	/* The first one's queue is full: it drops what comes. */
	world.rig.n_peers = 1;
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ origin_act, &origin[1] };
	listen(origin[0].listen, 0);
	for (int i = 0; i < 4; i++) {
		struct sockaddr_in in = { .sin_family = AF_INET,
					  .sin_port = htons(origin[0].port) };

		inet_pton(AF_INET, "127.0.0.41", &in.sin_addr);
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&in, sizeof(in));
	}
	begun = clock_ns();
	cr_assert(take(&c, 0), "%s", c.w.text);
	cr_assert_eq(c.w.endpoint, 1);
	cr_assert_lt(clock_ns() - begun, 1500 * NS_PER_MS);
	drop(&c);
	for (int i = 0; i < 4; i++)
		close(fill[i]);
}
