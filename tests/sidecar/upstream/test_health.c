/* sidecar/upstream/health.h: is it reachable, and does asking leave everything else alone? */
#include <criterion/criterion.h>
#include <errno.h>

#include "dns_server.h"
#include "origin.h"
#include "world.h"

static struct world world;
static struct origin origin;
static struct upstream *up;

struct check {
	bool done;
	struct health_result r;
};

static void on_done(void *owner, struct upstream *of, const struct health_result *r)
{
	struct check *c = owner;

	cr_assert_eq(of, up);
	cr_assert_not(c->done);
	c->done = true;
	c->r = *r;
}

static void begin(const char *path, const char *policy)
{
	char yaml[1024];

	origin_init(&origin, "127.0.0.1", 0);
	snprintf(yaml, sizeof(yaml),
		 "version: 1\nupstreams:\n  orders:\n    url: http://127.0.0.1:%u%s\n%s",
		 origin.port, path, policy);
	world_init(&world, 1, ENGINE_AUTO, yaml, NULL);
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ origin_act, &origin };
	up = world_up(&world, 0, "orders");
}

static void end(void)
{
	world_fini(&world);
	origin_fini(&origin);
}

static struct rhc_view_upstream view(void)
{
	struct rhc_view_upstream v;

	cr_assert_eq(rhc_view_upstream(&world.seg, up->index, world_ms(), &v), 0);
	return v;
}

static struct health_result check(void)
{
	struct check c = { .done = false };

	cr_assert_eq(health_check(up, on_done, &c), 0);
	cr_assert_eq(health_check(up, on_done, &c), -EALREADY);
	cr_assert_not(c.done, "never from within");
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	for (int i = 0; i < 50 && !health_idle(up); i++)
		rig_turn(&world.rig);
	cr_assert(health_idle(up));
	return c.r;
}

TestSuite(health, .fini = end, .timeout = 60);

Test(health, an_expected_status_is_healthy)
{
	struct health_result r;

	begin("/base", "    health: {path: /healthz}\n");
	r = check();
	cr_assert(r.reachable);
	cr_assert_eq(r.error, RHC_ERR_none);
	cr_assert_eq(r.status, 200);
	cr_assert_str_eq(r.text, "");
	cr_assert_gt(r.took_ns, 0);
	cr_assert_eq(strncmp(origin.last, "GET /base/healthz HTTP/1.1\r\n", 28), 0, "%s",
		     origin.last);
	cr_assert(view().health_known && view().reachable);
	cr_assert_eq(world_counter(up, RHC_CTR_health_ok), 1);
	cr_assert_eq(origin.accepted, 1);
	rig_for(&world.rig, 20);
	cr_assert_eq(origin_open(&origin), 0, "its connection is its own, and closed");
}

Test(health, another_status_is_not)
{
	struct health_result r;

	begin("", "    health: {expected: [200]}\n");
	origin.reply = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
	r = check();
	cr_assert_not(r.reachable);
	cr_assert_eq(r.error, RHC_ERR_status);
	cr_assert_eq(r.status, 503);
	cr_assert_str_eq(r.text, "status 503");
	cr_assert(view().health_known && !view().reachable);
	cr_assert_eq(view().health_error, RHC_ERR_status);
	cr_assert_eq(world_counter(up, RHC_CTR_health_fail), 1);
}

Test(health, nobody_there_is_not)
{
	struct health_result r;

	begin("", "");
	origin_fini(&origin);
	r = check();
	cr_assert_not(r.reachable);
	cr_assert_eq(r.error, RHC_ERR_connect_refused);
	cr_assert_eq(r.status, 0);
	cr_assert_neq(r.text[0], '\0');
}

Test(health, silence_ends_after_health_timeout)
{
	struct health_result r;

	begin("", "    health: {timeout: 100ms}\n");
	origin.hold = true;
	r = check();
	cr_assert_not(r.reachable);
	cr_assert_eq(r.error, RHC_ERR_read_timeout);
	cr_assert_geq(r.took_ns, 90 * NS_PER_MS);
	cr_assert_lt(r.took_ns, 2000 * NS_PER_MS);
}

Test(health, a_connection_cut_off_is_not)
{
	struct health_result r;

	begin("", "");
	origin.reply = "HTTP/1.1 2";
	origin.close_after = true;
	r = check();
	cr_assert_not(r.reachable);
	cr_assert_neq(r.error, RHC_ERR_none);
}

Test(health, takes_no_slot_and_gives_no_verdict)
{
	struct guard_ticket t = { .done = (void (*)(struct guard_ticket *,
						    enum guard_answer))abort };

	begin("",
	      "    bulkhead: {max_concurrency: 1}\n    circuit_breaker: {failure_threshold: 1}\n");
	cr_assert_eq(guard_ask(up, &t, 0), GUARD_GO);
	cr_assert(check().reachable, "though every slot is taken");
	guard_done(&t, GUARD_SUCCESS, RHC_ERR_none, 1);
	origin_fini(&origin);
	for (int i = 0; i < 3; i++)
		cr_assert_not(check().reachable);
	cr_assert_eq(guard_ask(up, &t, 0), GUARD_GO, "the circuit is closed still");
	guard_cancel(&t);
}

Test(health, works_while_the_circuit_is_open_and_leaves_it_open)
{
	struct guard_ticket t = { .done = (void (*)(struct guard_ticket *,
						    enum guard_answer))abort };

	begin("", "    circuit_breaker: {failure_threshold: 1}\n");
	cr_assert_eq(guard_ask(up, &t, 0), GUARD_GO);
	guard_done(&t, GUARD_FAILURE, RHC_ERR_status, 1);
	cr_assert(check().reachable);
	cr_assert_eq(guard_ask(up, &t, 0), GUARD_OPEN);
}

Test(health, an_interval_asks_by_itself)
{
	begin("", "    health: {interval: 1s}\n");
	rig_for(&world.rig, 1100);
	cr_assert_geq(world_counter(up, RHC_CTR_health_ok), 1);
	cr_assert(up->health.known && up->health.result.reachable);
}

Test(health, stops_in_the_middle)
{
	struct check c = { .done = false };

	begin("", "");
	origin.hold = true;
	cr_assert_eq(health_check(up, on_done, &c), 0);
	rig_for(&world.rig, 20);
	health_stop(up);
	rig_for(&world.rig, 20);
	cr_assert_not(c.done);
	cr_assert(health_idle(up));
	cr_assert_eq(health_check(up, on_done, &c), -EALREADY, "stopped for good");
}
