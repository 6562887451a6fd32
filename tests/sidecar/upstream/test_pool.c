/* sidecar/upstream/pool.h over loopback listeners. */
#include <criterion/criterion.h>
#include <netinet/tcp.h>

#include "caller.h"
#include "dns_server.h"
#include "origin.h"
#include "world.h"

#define MS NS_PER_MS

static struct world world;
static struct origin origin;
static struct upstream *up;

static bool take(struct call *c)
{
	return caller_take(c, up);
}

static void begin(const char *policy)
{
	char yaml[1024];

	origin_init(&origin, "127.0.0.1", 0);
	snprintf(yaml, sizeof(yaml),
		 "version: 1\nupstreams:\n  orders:\n    url: http://127.0.0.1:%u\n%s", origin.port,
		 policy);
	world_init(&world, 1, ENGINE_AUTO, yaml, NULL);
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ origin_act, &origin };
	up = world_up(&world, 0, "orders");
}

static void end(void)
{
	world_fini(&world);
	origin_fini(&origin);
}

TestSuite(pool, .fini = end, .timeout = 60);

static void run(struct call *c)
{
	take(c);
	cr_assert(rig_until(&world.rig, &c->done, 3000));
	cr_assert_eq(c->status, 200, "%s", c->w.text);
}

Test(pool, a_connection_is_made_and_used_again)
{
	struct call c;

	begin("");
	cr_assert_not(take(&c));
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_eq(c.status, 200);
	cr_assert_not(c.w.reused);
	cr_assert_gt(c.w.connect_ns, 0);
	cr_assert_eq(c.w.endpoint, 0);
	for (int i = 0; i < 5; i++) {
		cr_assert(take(&c), "at once");
		cr_assert(c.w.reused);
		cr_assert(rig_until(&world.rig, &c.done, 3000));
		cr_assert_eq(c.status, 200);
	}
	cr_assert_eq(origin.accepted, 1);
	cr_assert_eq(world_counter(up, RHC_CTR_conn_reused), 5);
	cr_assert_eq(world_counter(up, RHC_CTR_connect_ok), 1);
	cr_assert_eq(pool_counts(up).idle, 1);
	cr_assert_eq(pool_counts(up).messages, 0);
}

/* The option of the one connection there is. */
static int tcp_option(const struct call *c, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof(v);

	cr_assert_eq(getsockopt(c->m->conn->stream.fd, level, name, &v, &len), 0);
	return v;
}

static void hold_one(struct call *c)
{
	origin.hold = true;
	take(c);
	cr_assert(rig_until(&world.rig, &c->got, 3000));
}

static void let_go(struct call *c)
{
	origin.hold = false;
	rig_for(&world.rig, 20);
	origin_answer(&origin, 0);
	cr_assert(rig_until(&world.rig, &c->done, 3000));
}

Test(pool, a_connection_has_the_tcp_options_of_the_configuration)
{
	struct call c;

	begin("    pool: {tcp_keepalive: 17s, tcp_user_timeout: 23s}\n");
	hold_one(&c);
	cr_assert_eq(tcp_option(&c, IPPROTO_TCP, TCP_NODELAY), 1);
	cr_assert_eq(tcp_option(&c, SOL_SOCKET, SO_KEEPALIVE), 1);
	cr_assert_eq(tcp_option(&c, IPPROTO_TCP, TCP_KEEPIDLE), 17);
	cr_assert_eq(tcp_option(&c, IPPROTO_TCP, TCP_KEEPINTVL), 17);
	cr_assert_eq(tcp_option(&c, IPPROTO_TCP, TCP_USER_TIMEOUT), 23000);
	let_go(&c);
}

Test(pool, tcp_options_that_are_off_stay_off)
{
	struct call c;

	begin("    pool: {tcp_keepalive: off, tcp_user_timeout: off}\n");
	hold_one(&c);
	cr_assert_eq(tcp_option(&c, IPPROTO_TCP, TCP_NODELAY), 1);
	cr_assert_eq(tcp_option(&c, SOL_SOCKET, SO_KEEPALIVE), 0);
	cr_assert_eq(tcp_option(&c, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
	let_go(&c);
}

Test(pool, the_connection_used_last_is_used_next)
{
	struct call c[3], d;
	struct http_conn *last;

	begin("");
	origin.hold = true;
	for (int i = 0; i < 3; i++)
		take(&c[i]);
	for (int i = 0; i < 3; i++)
		cr_assert(rig_until(&world.rig, &c[i].got, 3000));
	rig_for(&world.rig, 20);
	cr_assert_eq(origin.accepted, 3);
	origin.hold = false;
	origin_answer(&origin, 2);
	rig_for(&world.rig, 20);
	last = NULL;
	for (int i = 0; i < 3; i++)
		if (!c[i].done)
			last = c[i].m->conn;
	origin_answer(&origin, 1);
	rig_for(&world.rig, 20);
	cr_assert_eq(pool_counts(up).idle, 3);
	cr_assert(take(&d));
	cr_assert_eq(d.m->conn, last);
	cr_assert(rig_until(&world.rig, &d.done, 3000));
}

Test(pool, max_connections_bounds_and_waiters_are_served_in_order)
{
	struct call c[8];

	begin("    pool: {max_connections: 2}\n");
	origin.hold = true;
	caller_served = 0;
	for (int i = 0; i < 8; i++)
		cr_assert_not(take(&c[i]));
	rig_for(&world.rig, 50);
	cr_assert_eq(pool_counts(up).ready, 2);
	cr_assert_eq(pool_counts(up).waiting, 6);
	cr_assert(c[0].got && c[1].got && !c[2].got);
	origin.hold = false;
	origin_answer(&origin, 2);
	for (unsigned i = 0; i < 8; i++)
		cr_assert(rig_until(&world.rig, &c[i].done, 3000));
	for (unsigned i = 2; i < 8; i++)
		cr_assert_eq(c[i].order, i + 1, "%u came as %u", i, c[i].order);
	cr_assert_eq(origin.accepted, 2);
	cr_assert(c[7].w.reused);
	cr_assert_gt(c[7].w.pool_ns, 0);
}

Test(pool, waiting_too_long_is_a_pool_timeout)
{
	struct call hold, c;
	uint64_t begun;

	begin("    pool: {max_connections: 1}\n    timeout: {pool: 100ms}\n");
	origin.hold = true;
	take(&hold);
	cr_assert(rig_until(&world.rig, &hold.got, 3000));
	begun = engine_now(world.rig.engine);
	cr_assert_not(take(&c));
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_not(c.got);
	cr_assert_eq(c.w.error, RHC_ERR_pool_timeout);
	cr_assert(clock_ns() - begun >= 90 * MS && clock_ns() - begun < 1000 * MS);
	cr_assert_geq(c.w.pool_ns, 90 * MS);
	cr_assert_eq(world_counter(up, RHC_CTR_pool_timeout), 1);
	rig_for(&world.rig, 10);
	origin_answer(&origin, 1);
	cr_assert(rig_until(&world.rig, &hold.done, 3000));
}

Test(pool, the_deadline_of_the_call_ends_a_wait)
{
	struct call hold, c;

	begin("    pool: {max_connections: 1}\n");
	origin.hold = true;
	take(&hold);
	cr_assert(rig_until(&world.rig, &hold.got, 3000));
	cr_assert_not(caller_take_as(
		&c, up, (struct pool_wait){ .deadline_ns = clock_ns() + 60 * MS }));
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_eq(c.w.error, RHC_ERR_deadline_total);
	message_release(hold.m);
	rig_for(&world.rig, 20);
}

Test(pool, who_cancels_is_not_called)
{
	struct call hold, c, d;

	begin("    pool: {max_connections: 1}\n");
	origin.hold = true;
	take(&hold);
	cr_assert(rig_until(&world.rig, &hold.got, 3000));
	take(&c);
	take(&d);
	pool_cancel(&c.w);
	pool_cancel(&c.w);
	rig_for(&world.rig, 10);
	origin.hold = false;
	origin_answer(&origin, 1);
	cr_assert(rig_until(&world.rig, &d.done, 3000));
	cr_assert_not(c.got || c.done);
}

Test(pool, a_dial_of_one_who_left_serves_the_next)
{
	struct call c, d;

	begin("");
	take(&c);
	pool_cancel(&c.w);
	rig_for(&world.rig, 30);
	cr_assert_eq(pool_counts(up).idle, 1);
	cr_assert(take(&d));
	cr_assert_not(d.w.reused, "it has carried nothing yet");
	cr_assert(rig_until(&world.rig, &d.done, 3000));
	cr_assert_eq(origin.accepted, 1);
}

Test(pool, no_more_than_max_idle_are_kept)
{
	struct call c[5];

	begin("    pool: {max_idle: 2}\n");
	origin.hold = true;
	for (int i = 0; i < 5; i++)
		take(&c[i]);
	rig_for(&world.rig, 50);
	origin_answer(&origin, 5);
	for (int i = 0; i < 5; i++)
		cr_assert(rig_until(&world.rig, &c[i].done, 3000));
	rig_for(&world.rig, 50);
	cr_assert_eq(pool_counts(up).idle, 2);
	cr_assert_eq(origin_open(&origin), 2);
}

Test(pool, idle_connections_end_after_timeout_idle)
{
	struct call c;

	begin("    timeout: {idle: 60ms}\n");
	run(&c);
	cr_assert_eq(pool_counts(up).idle, 1);
	rig_for(&world.rig, 150);
	cr_assert_eq(pool_counts(up).idle, 0);
	cr_assert_eq(origin_open(&origin), 0);
	run(&c);
	cr_assert_not(c.w.reused);
}

Test(pool, a_connection_carries_no_more_than_its_requests)
{
	struct call c;

	begin("    pool: {max_requests_per_connection: 2}\n");
	for (int i = 0; i < 6; i++)
		run(&c);
	cr_assert_eq(origin.accepted, 3);
}

Test(pool, an_idle_connection_that_dies_is_noticed)
{
	struct call c;

	begin("");
	run(&c);
	origin_close_all(&origin, false);
	rig_for(&world.rig, 30);
	cr_assert_eq(pool_counts(up).ready, 0);
	run(&c);
	cr_assert_not(c.w.reused);
	cr_assert_eq(origin.accepted, 2);
}

Test(pool, a_stale_connection_is_reported_and_a_fresh_one_can_be_had)
{
	struct call c, d;

	begin("");
	run(&c);
	origin.kill_on_request = true; /* it dies just when the request arrives */
	cr_assert(take(&c));
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_neq(c.failed, MESSAGE_OK);
	cr_assert(c.reused && c.w.reused);
	cr_assert_not(caller_take_as(&d, up, (struct pool_wait){ .fresh = true }));
	cr_assert(rig_until(&world.rig, &d.done, 3000));
	cr_assert_eq(d.status, 200);
	cr_assert_not(d.w.reused);
}

Test(pool, fresh_makes_room_where_everything_is_idle)
{
	struct call c, d;

	begin("    pool: {max_connections: 1}\n");
	run(&c);
	cr_assert_not(caller_take_as(&d, up, (struct pool_wait){ .fresh = true }));
	cr_assert(rig_until(&world.rig, &d.done, 3000));
	cr_assert_eq(d.status, 200);
	cr_assert_not(d.w.reused);
	cr_assert_eq(origin.accepted, 2);
}

Test(pool, a_refused_connect_says_so)
{
	struct call c;

	begin("");
	origin_fini(&origin);
	take(&c);
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_eq(c.w.error, RHC_ERR_connect_refused);
	cr_assert(strstr(c.w.text, "127.0.0.1:") != NULL, "%s", c.w.text);
	cr_assert_eq(world_counter(up, RHC_CTR_connect_fail), 1);
	cr_assert_eq(pool_counts(up).dialling, 0);
	cr_assert_eq(up->endpoints.row[0].failures, 1);
}

Test(pool, a_connect_that_is_never_answered_times_out)
{
	struct call c;
	uint64_t begun;
	int fill[600], n = 0;

	begin("    timeout: {connect: 150ms}\n");
	/* A listener whose queue is full drops what comes. */
	origin_close_all(&origin, false);
	listen(origin.listen, 0);
	world.rig.n_peers = 0;
	for (; n < 4; n++) {
		struct sockaddr_in in = { .sin_family = AF_INET,
					  .sin_port = htons(origin.port),
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

		fill[n] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[n], (struct sockaddr *)&in, sizeof(in));
	}
	begun = engine_now(world.rig.engine);
	take(&c);
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_eq(c.w.error, RHC_ERR_connect_timeout, "%s", c.w.text);
	cr_assert(clock_ns() - begun >= 140 * MS && clock_ns() - begun < 1500 * MS);
	cr_assert_eq(world_counter(up, RHC_CTR_connect_timeout), 1);
	while (n-- > 0)
		close(fill[n]);
}

Test(pool, an_answer_that_closes_ends_the_connection_and_not_the_pool)
{
	struct call c;

	begin("");
	origin.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
	for (int i = 0; i < 4; i++)
		run(&c);
	cr_assert_eq(origin.accepted, 4);
	rig_for(&world.rig, 20);
	cr_assert_eq(pool_counts(up).ready, 0);
}

Test(pool, a_message_released_early_closes_its_connection)
{
	struct call c, d;

	begin("");
	origin.hold = true;
	take(&c);
	cr_assert(rig_until(&world.rig, &c.got, 3000));
	rig_for(&world.rig, 10);
	message_release(c.m);
	origin.hold = false;
	rig_for(&world.rig, 20);
	cr_assert_eq(pool_counts(up).ready, 0);
	run(&d);
	cr_assert_eq(origin.accepted, 2);
}

Test(pool, draining_closes_idle_ones_now_and_busy_ones_later)
{
	struct call c, d;

	begin("");
	origin.hold = true;
	take(&c);
	take(&d);
	cr_assert(rig_until(&world.rig, &c.got, 3000));
	cr_assert(rig_until(&world.rig, &d.got, 3000));
	rig_for(&world.rig, 10);
	origin_answer(&origin, 1);
	rig_for(&world.rig, 20);
	cr_assert_eq(pool_counts(up).idle, 1);
	pool_drain(up);
	rig_for(&world.rig, 30);
	cr_assert_eq(origin_open(&origin), 1);
	cr_assert_not(pool_empty(up));
	origin_answer(&origin, 1);
	rig_for(&world.rig, 30);
	cr_assert(c.done && d.done);
	cr_assert(pool_empty(up));
}

Test(pool, gauges_return_to_nothing)
{
	static const unsigned pairs[][2] = {
		{ RHC_CTR_conn_h1_opened, RHC_CTR_conn_h1_closed },
		{ RHC_CTR_conn_idle_begun, RHC_CTR_conn_idle_ended },
		{ RHC_CTR_conn_connecting_begun, RHC_CTR_conn_connecting_ended },
	};
	struct call c[10];

	begin("    pool: {max_connections: 3}\n");
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 10; i++)
			take(&c[i]);
		for (int i = 0; i < 10; i++)
			cr_assert(rig_until(&world.rig, &c[i].done, 3000));
	}
	pool_drain(up);
	rig_for(&world.rig, 50);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		cr_assert_gt(world_counter(up, pairs[i][0]), 0);
		cr_assert_eq(world_counter(up, pairs[i][0]), world_counter(up, pairs[i][1]), "%zu",
			     i);
	}
	cr_assert_eq(up->endpoints.row[0].in_flight, 0);
	cr_assert_eq(up->endpoints.row[0].conns, 0);
}
