/* sidecar/upstream/pool.h over HTTP/2: streams are room, one connect serves many. */
#include <arpa/inet.h>
#include <criterion/criterion.h>

#include "caller.h"
#include "world.h"

enum { CALLS = 12, STREAMS = 4 };

static struct world world;
static struct upstream *up;

/* ---- an h2 origin made of the same house ---- */

static struct http_limits server_limits = {
	.head_max = 16384,
	.target_max = 8192,
	.streams_max = STREAMS,
	.header_timeout_ns = 5 * NS_PER_S,
	.idle_timeout_ns = 60 * NS_PER_S,
	.h2_window = 65535,
};
static int listen_fd = -1;
static unsigned accepted, most, open_streams;
static bool hold;
static struct message *held[64];
static unsigned n_held;

static void reply(struct message *m)
{
	struct http_field fields[1];
	struct http_head head = { .status = 200,
				  .version = HTTP_2,
				  .body = HTTP_BODY_NONE,
				  .fields = fields,
				  .fields_max = 1 };

	open_streams--; /* as the peer counts: it may see the end before we know that it has left */
	cr_assert_eq(message_send_head(m, &head, true), 0);
}

static void server_head(struct message *m, struct http_head *h, bool end)
{
	(void)h;
	(void)end;
	open_streams++;
	most = open_streams > most ? open_streams : most;
	if (hold)
		held[n_held++] = m;
	else
		reply(m);
}

static void server_sent(struct message *m, uint32_t bytes, bool all)
{
	(void)bytes;
	if (all)
		message_release(m);
}

static void server_error(struct message *m, enum message_error err, bool unprocessed)
{
	(void)err;
	(void)unprocessed;
	open_streams -= !m->out_head;
	for (unsigned i = 0; i < n_held; i++)
		if (held[i] == m)
			held[i] = NULL;
	message_release(m);
}

static void ignore_body(struct message *m, struct slice s)
{
	(void)m;
	slice_drop(s);
}

static void ignore_end(struct message *m, struct http_head *t)
{
	(void)m;
	(void)t;
}

static const struct message_events server_events = {
	.on_head = server_head,
	.on_body = ignore_body,
	.on_end = ignore_end,
	.on_sent = server_sent,
	.on_error = server_error,
};

static struct http_conn *server_conn[16];
static unsigned n_server_conns;

static void server_message(struct http_conn *c, struct message *m)
{
	(void)c;
	m->ev = &server_events;
	m->owner = NULL;
}

static void server_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	(void)err;
	(void)text;
	for (unsigned i = 0; i < n_server_conns; i++)
		if (server_conn[i] == c)
			server_conn[i] = NULL;
}

static const struct http_conn_events server_conn_events = {
	.on_message = server_message,
	.on_closed = server_closed,
};

static void server_act(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		cr_assert_eq(http_server_open(&world.http, fd, &server_limits, &server_conn_events,
					      NULL, &server_conn[n_server_conns++]),
			     0);
		accepted++;
	}
}

static void answer_all(void)
{
	unsigned n = n_held;

	n_held = 0;
	for (unsigned i = 0; i < n; i++)
		if (held[i])
			reply(held[i]);
}

/* ---- the caller ---- */

static void take(struct call *c)
{
	caller_take(c, up);
}

static void begin(const char *policy)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	char yaml[1024];

	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listen_fd, (struct sockaddr *)&in, sizeof(in)), 0);
	cr_assert_eq(listen(listen_fd, 64), 0);
	cr_assert_eq(getsockname(listen_fd, (struct sockaddr *)&in, &len), 0);
	snprintf(yaml, sizeof(yaml),
		 "version: 1\nupstreams:\n  orders:\n    url: http://127.0.0.1:%u\n%s",
		 ntohs(in.sin_port), policy);
	world_init(&world, 1, ENGINE_EPOLL, yaml, NULL);
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ server_act, NULL };
	up = world_up(&world, 0, "orders");
}

static void end(void)
{
	for (unsigned i = 0; i < n_server_conns; i++)
		if (server_conn[i])
			http_conn_abort(server_conn[i]);
	rig_for(&world.rig, 20);
	world_fini(&world);
	close(listen_fd);
}

/* The first connection has told how many streams it carries. */
static void warm(void)
{
	struct call c;

	take(&c);
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_eq(c.status, 200);
	rig_for(&world.rig, 10);
	cr_assert_eq(up->pool.room_guess, STREAMS);
	most = 0;
}

TestSuite(pool_h2, .fini = end, .timeout = 60);

Test(pool_h2, a_burst_on_a_cold_upstream_dials_once)
{
	struct call c[STREAMS];

	begin("    pool: {http2: prior_knowledge}\n");
	for (int i = 0; i < STREAMS; i++)
		take(&c[i]);
	cr_assert_eq(pool_counts(up).dialling, 1);
	for (int i = 0; i < STREAMS; i++) {
		cr_assert(rig_until(&world.rig, &c[i].done, 3000), "%d", i);
		cr_assert_eq(c[i].status, 200);
	}
	cr_assert_eq(accepted, 1);
	cr_assert_eq(pool_counts(up).idle, 1);
}

Test(pool_h2, who_finds_no_stream_gets_another_connection)
{
	struct call c[CALLS];

	begin("    pool: {http2: prior_knowledge}\n");
	warm();
	hold = true;
	for (int i = 0; i < CALLS; i++)
		take(&c[i]);
	rig_for(&world.rig, 200);
	cr_assert_eq(pool_counts(up).waiting, 0);
	cr_assert_eq(pool_counts(up).messages, CALLS);
	cr_assert_eq(accepted, CALLS / STREAMS);
	hold = false;
	for (int round = 0; round < 20; round++) {
		answer_all();
		rig_for(&world.rig, 5);
	}
	for (int i = 0; i < CALLS; i++)
		cr_assert_eq(c[i].status, 200, "%d", i);
}

static bool all_answered(const struct call *c)
{
	for (int i = 0; i < CALLS; i++)
		if (c[i].status != 200)
			return false;
	return true;
}

Test(pool_h2, streams_beyond_the_last_connection_wait_their_turn)
{
	struct call c[CALLS];

	begin("    pool: {http2: prior_knowledge, max_connections: 1}\n");
	warm();
	hold = true;
	for (int i = 0; i < CALLS; i++)
		take(&c[i]);
	rig_for(&world.rig, 100);
	cr_assert_eq(accepted, 1);
	cr_assert_leq(most, STREAMS);
	cr_assert_gt(pool_counts(up).waiting, 0);
	for (int round = 0; round < 500 && !all_answered(c); round++) {
		answer_all();
		rig_for(&world.rig, 5);
	}
	for (int i = 0; i < CALLS; i++)
		cr_assert_eq(c[i].status, 200, "%d", i);
	cr_assert_eq(accepted, 1);
	cr_assert_leq(most, STREAMS);
}

Test(pool_h2, one_that_goes_away_takes_no_more)
{
	struct call c, d;

	begin("    pool: {http2: prior_knowledge}\n");
	take(&c);
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	http_conn_drain(server_conn[0]);
	rig_for(&world.rig, 50);
	cr_assert_eq(pool_counts(up).ready, 0);
	take(&d);
	cr_assert(rig_until(&world.rig, &d.done, 3000));
	cr_assert_eq(d.status, 200);
	cr_assert_eq(accepted, 2);
}

Test(pool_h2, an_upstream_that_asks_for_http_1_1_gets_it)
{
	struct call c;

	begin("    pool: {http2: prior_knowledge}\n");
	take(&c);
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	pool_downgrade(up);
	rig_for(&world.rig, 50);
	cr_assert_eq(pool_counts(up).ready, 0);
	cr_assert_eq(world_counter(up, RHC_CTR_conn_h2_closed), 1);
	take(&c);
	cr_assert(rig_until(&world.rig, &c.done, 3000));
	cr_assert_eq(c.status, 200);
	cr_assert_eq(world_counter(up, RHC_CTR_conn_h1_opened), 1);
}
