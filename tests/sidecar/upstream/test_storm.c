/*
 * Guard and pool together under random callers, origins and name servers: nothing is lost, nothing
 * is left.
 */
#include <criterion/criterion.h>

#include "caller.h"
#include "dns_server.h"
#include "origin.h"
#include "world.h"

enum { CALLS = 24, STEPS = 1500, WORKERS = 2, LIMIT = 6 };

enum phase { IDLE, ASKING, TAKING, SENT };

/* One call after the other, as an exchange makes them: guard, pool, message, verdict. */
struct flow {
	enum phase phase;
	struct upstream *up;
	struct guard_ticket t;
	struct pool_wait w;
	struct message *m;
};

static struct world world;
static struct dns_server dns;
static struct origin origin[2];
static struct flow call[CALLS];
static struct rng rng;
static unsigned ended[3], in_flight, most;

static void over(struct flow *c, enum guard_outcome outcome, enum rhc_error error)
{
	if (c->m)
		message_release(c->m);
	c->m = NULL;
	cr_assert(guard_holds(&c->t));
	in_flight--;
	c->phase = IDLE;
	ended[outcome]++;
	if (outcome == GUARD_IGNORED)
		guard_cancel(&c->t);
	else
		guard_done(&c->t, outcome, error, 1000);
}

static void on_head(struct message *m, struct http_head *h, bool end)
{
	(void)h;
	if (end)
		over(m->owner, GUARD_SUCCESS, RHC_ERR_none);
}

static void on_end(struct message *m, struct http_head *trailers)
{
	(void)trailers;
	over(m->owner, GUARD_SUCCESS, RHC_ERR_none);
}

static void on_error(struct message *m, enum message_error err, bool unprocessed)
{
	(void)unprocessed;
	over(m->owner, rng_below(&rng, 4) ? GUARD_IGNORED : GUARD_FAILURE,
	     error_of_message(err, m->http_error, false));
}

static const struct message_events events = {
	.on_head = on_head,
	.on_body = caller_on_body,
	.on_end = on_end,
	.on_sent = caller_on_sent,
	.on_error = on_error,
};

static void send_it(struct flow *c, struct message *m)
{
	struct http_field room[1];
	struct http_head head = caller_head(room);

	c->m = m;
	c->phase = SENT;
	if (message_send_head(m, &head, true) < 0)
		over(c, GUARD_IGNORED, RHC_ERR_overloaded);
}

static void on_taken(struct pool_wait *w, struct message *m)
{
	struct flow *c = CONTAINER_OF(w, struct flow, w);

	cr_assert_eq(c->phase, TAKING);
	if (m)
		send_it(c, m);
	else
		over(c,
		     w->error == RHC_ERR_pool_timeout || rng_below(&rng, 4) ? GUARD_IGNORED
									    : GUARD_FAILURE,
		     w->error);
}

static void go(struct flow *c)
{
	struct message *m;

	in_flight++;
	most = in_flight > most ? in_flight : most;
	cr_assert_leq(in_flight, LIMIT, "more than max_concurrency");
	c->phase = TAKING;
	c->w = (struct pool_wait){
		.done = on_taken, .ev = &events, .owner = c, .fresh = rng_below(&rng, 8) == 0
	};
	m = pool_take(c->up, &c->w);
	if (m)
		send_it(c, m);
}

static void on_admitted(struct guard_ticket *t, enum guard_answer a)
{
	struct flow *c = CONTAINER_OF(t, struct flow, t);

	cr_assert_eq(c->phase, ASKING);
	if (a == GUARD_GO)
		go(c);
	else
		c->phase = IDLE;
}

static void begin_call(struct flow *c, unsigned i)
{
	enum guard_answer a;

	c->up = world_up(&world, i % WORKERS, "orders");
	c->t.done = on_admitted;
	c->phase = ASKING;
	a = guard_ask(c->up, &c->t,
		      rng_below(&rng, 2) ? clock_ns() + rng_below(&rng, 50) * NS_PER_MS + 1 : 0);
	if (a == GUARD_GO)
		go(c);
	else if (a != GUARD_WAIT)
		c->phase = IDLE;
}

static void abort_call(struct flow *c)
{
	switch (c->phase) {
	case IDLE:
		return;
	case ASKING:
		guard_cancel(&c->t);
		c->phase = IDLE;
		return;
	case TAKING:
		pool_cancel(&c->w);
		over(c, GUARD_IGNORED, RHC_ERR_none);
		return;
	case SENT:
		over(c, GUARD_IGNORED, RHC_ERR_none);
		return;
	}
}

static void disturb(void)
{
	struct origin *o = &origin[rng_below(&rng, 2)];

	switch (rng_below(&rng, 10)) {
	case 0:
		origin_close(&o->conn[rng_below(&rng, ORIGIN_CONNS_MAX)], rng_below(&rng, 2));
		break;
	case 1:
		o->hold = !o->hold;
		break;
	case 2:
		o->close_after = rng_below(&rng, 4) == 0;
		break;
	case 3:
		o->kill_on_request = rng_below(&rng, 4) == 0;
		break;
	case 4:
		dns.script.n4 = 1 + (unsigned)rng_below(&rng, 3); /* the third one refuses */
		dns.script.first4 = (uint8_t)(41 + rng_below(&rng, 2));
		break;
	case 5:
		dns.script.silent = rng_below(&rng, 4) == 0;
		break;
	case 6:
		dns.script.rcode = rng_below(&rng, 6) == 0 ? 2 : 0;
		break;
	case 7:
		o->reply = rng_below(&rng, 3) ? NULL
					      : "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
						"Connection: close\r\n\r\nhello";
		break;
	default:
		origin_answer(o, (unsigned)rng_below(&rng, 4));
	}
}

static void storm(enum engine_kind kind, uint64_t seed)
{
	char yaml[1024];

	rng_init_from(&rng, seed);
	origin_init(&origin[0], "127.0.0.41", 0);
	origin_init(&origin[1], "127.0.0.42", origin[0].port);
	dns_server_init(&dns);
	dns.script = (struct dns_script){ .ttl = 0, .n4 = 2, .first4 = 41 };
	snprintf(yaml, sizeof(yaml),
		 "version: 1\nupstreams:\n  orders:\n    url: http://orders.shop.test:%u\n"
		 "    bulkhead: {max_concurrency: %d, acquisition_timeout: 40ms}\n"
		 "    circuit_breaker: {failure_threshold: 4, recovery_timeout: 20ms}\n"
		 "    pool: {max_connections: 2, max_idle: 1, max_requests_per_connection: 7}\n"
		 "    timeout: {connect: 60ms, pool: 20ms, idle: 30ms}\n"
		 "    dns: {ttl_min: 5ms, ttl_max: 1s, timeout: 30ms, negative_ttl: 5ms, "
		 "stale_if_error: 50ms}\n",
		 origin[0].port, LIMIT);
	world_init(&world, WORKERS, kind, yaml, dns.csv);
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ dns_server_act, &dns };
	for (int i = 0; i < 2; i++)
		world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ origin_act, &origin[i] };
	for (int step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rng_below(&rng, CALLS);

		if (call[i].phase == IDLE)
			begin_call(&call[i], i);
		else if (rng_below(&rng, 12) == 0)
			abort_call(&call[i]);
		if (rng_below(&rng, 3) == 0)
			disturb();
		rig_turn(&world.rig);
	}
	for (int i = 0; i < CALLS; i++)
		abort_call(&call[i]);
	cr_assert_eq(in_flight, 0);
	cr_assert_gt(ended[GUARD_SUCCESS], 50, "seed %lu: %u went through", (unsigned long)seed,
		     ended[GUARD_SUCCESS]);
	cr_assert_eq(most, LIMIT);
	for (int i = 0; i < WORKERS; i++)
		upstreams_drain(world.w[i].all);
	for (int turn = 0; turn < 500; turn++)
		rig_turn(&world.rig);
	for (int i = 0; i < WORKERS; i++) {
		struct upstream *up = world_up(&world, (unsigned)i, "orders");

		cr_assert(pool_empty(up));
		cr_assert_eq(up->pool.n_conns, 0);
		cr_assert_eq(up->pool.n_idle, 0);
		for (uint32_t k = 0; k < up->endpoints.n; k++)
			cr_assert(up->endpoints.row[k].in_flight == 0 &&
				  up->endpoints.row[k].conns == 0);
		cr_assert_eq(world_counter(up, RHC_CTR_att_started),
			     world_counter(up, RHC_CTR_att_finished));
		cr_assert_eq(world_counter(up, RHC_CTR_conn_h1_opened),
			     world_counter(up, RHC_CTR_conn_h1_closed));
		cr_assert_eq(world_counter(up, RHC_CTR_conn_idle_begun),
			     world_counter(up, RHC_CTR_conn_idle_ended));
		cr_assert_eq(world_counter(up, RHC_CTR_conn_connecting_begun),
			     world_counter(up, RHC_CTR_conn_connecting_ended));
		cr_assert_eq(world_counter(up, RHC_CTR_slot_acquired),
			     world_counter(up, RHC_CTR_slot_released));
	}
	world_fini(&world);
	dns_server_fini(&dns);
	origin_fini(&origin[0]);
	origin_fini(&origin[1]);
}

Test(storm, leaves_nothing_behind_with_io_uring_or_what_there_is, .timeout = 120)
{
	storm(ENGINE_AUTO, 1);
}

Test(storm, leaves_nothing_behind_with_epoll, .timeout = 120)
{
	storm(ENGINE_EPOLL, 2);
}

Test(storm, leaves_nothing_behind_with_another_seed, .timeout = 120)
{
	storm(ENGINE_EPOLL, clock_ns());
}
