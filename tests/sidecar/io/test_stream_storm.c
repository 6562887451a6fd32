/*
 * Many streams, plain and TLS, on few buffers, with everything happening at random: writes of all kinds, pauses,
 * slow peers, FIN, RST, close_notify, close and abort at any moment, and callbacks that end other streams.
 */
#include "tests/sidecar/io/stream_rig.h"
#include "tests/sidecar/io/tls_peer.h"
#include "tests/sidecar/io/tls_server.h"

enum { CONNS = 16, TURNS = 1000, WINDOW = 48 * 1024 };

static struct cert ca, leaf;
static char        ca_pem[128];

static void setup(void)
{
	ca = cert_make("Test CA", NULL, NULL, -DAY, DAY);
	leaf = cert_make("leaf", "DNS:a.test", &ca, -DAY, DAY);
	cert_file(&ca, ca_pem);
}

static void teardown(void)
{
	cert_free(&ca);
	cert_free(&leaf);
	peer_cleanup();
}

TestSuite(stream_storm, .init = setup, .fini = teardown, .timeout = 240);

struct conn {
	struct end    e;
	struct server v;
	int           fd; /* the peer */
	bool          live, tls, ended, shut, peer_shut;
	uint64_t      written, up, down;
};

static struct conn conns[CONNS];
static uint64_t    made, bytes_up, bytes_down, errors[16];

static void end_it(struct conn *c, bool abort)
{
	c->ended = true;
	if (abort)
		stream_abort(&c->e.s);
	else
		stream_close(&c->e.s);
}

/* Every callback: the stream has to be ended after an error, and now and then another one is ended. */
static void on_any(struct end *e)
{
	struct conn *c = (struct conn *)e;
	cr_assert_not(c->ended, "a callback after stream_close()");
	cr_assert(e->sent <= c->written);
	enum stream_error err = e->eofs > 0 ? e->eof_err : e->open_err;
	if (err != STREAM_OK) {
		char why[128];
		stream_failure(&e->s, why, sizeof(why));
		errors[err]++;
		cr_assert(err < STREAM_E_TLS || err == STREAM_E_NO_BUFFERS || strstr(why, "in the handshake"),
		          "%s", why);
		end_it(c, rand() % 4 == 0);
		return;
	}
	if (rand() % 300 == 0) {
		struct conn *other = &conns[rand() % CONNS];
		if (other->live && !other->ended)
			end_it(other, rand() % 2);
	}
}

static void start(struct rig *r, struct conn *c, struct sockaddr_in *at, struct tls_policy *p, SSL_CTX *ctx)
{
	*c = (struct conn){ .live = true, .tls = rand() % 2, .fd = -1 };
	c->e.hook = on_any;
	c->e.rig = r;
	stream_init(&c->e.s, &r->env, &rig_events, &c->e);
	cr_assert_eq(stream_connect(&c->e.s, (struct sockaddr *)at, sizeof(*at), c->tls ? p : NULL, "a.test"),
	             0);
	c->fd = -1;
	for (int i = 0; i < 50 && c->fd < 0; i++) { /* one at a time: the accepted one is this one */
		rig_turn(r);
		c->fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	cr_assert(c->fd >= 0);
	if (c->tls)
		server_open(&c->v, c->fd, ctx);
	made++;
}

static void finish(struct conn *c)
{
	cr_assert_eq(c->e.closes, 1);
	cr_assert_not(c->e.wrong);
	bytes_up += c->up;
	bytes_down += c->e.received;
	close(c->fd);
	if (c->tls)
		server_free(&c->v);
	c->live = false;
}

static void write_a_bit(struct rig *r, struct conn *c)
{
	uint32_t n = (uint32_t)rand() % (rand() % 4 ? 500 : 16000) + 1;
	if (c->ended || c->shut || stream_queued(&c->e.s) + n > WINDOW)
		return;
	int how = rand() % 3;
	if (how == 0) {
		write_copy(&c->e.s, c->written, n);
	} else if (how == 1) {
		write_slice(r, &c->e.s, c->written, n);
	} else {
		uint8_t *p = stream_reserve(&c->e.s, n);
		for (uint32_t i = 0; p != NULL && i < n; i++)
			p[i] = pattern(c->written + i);
		if (p == NULL)
			return;
		stream_commit(&c->e.s, n);
	}
	c->written += n;
}

static void peer_step(struct conn *c)
{
	uint32_t n = (uint32_t)rand() % 20000 + 1;
	if (c->tls) {
		server_carry(&c->v);
		if (!SSL_is_init_finished(c->v.ssl))
			SSL_do_handshake(c->v.ssl);
		else if (rand() % 2)
			server_recv(&c->v, &c->up);
		if (SSL_is_init_finished(c->v.ssl) && !c->peer_shut && BIO_ctrl_pending(c->v.out) == 0 &&
		    rand() % 2)
			server_send(&c->v, &c->down, n);
		ERR_clear_error();
	} else {
		if (rand() % 2)
			peer_recv(c->fd, &c->up, n);
		if (!c->peer_shut && rand() % 2)
			peer_send(c->fd, &c->down, n);
	}
}

static void peer_ends(struct conn *c)
{
	if (c->peer_shut)
		return;
	c->peer_shut = true;
	if (rand() % 3 == 0) {
		struct linger now = { 1, 0 };
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup3(null, c->fd, O_CLOEXEC); /* closes the socket, keeps the number */
		close(null);
	} else if (c->tls && rand() % 2) {
		SSL_shutdown(c->v.ssl);
	} else {
		shutdown(c->fd, SHUT_WR);
	}
	ERR_clear_error();
}

static void step_one(struct rig *r, struct conn *c)
{
	for (int i = rand() % 3; i > 0; i--)
		write_a_bit(r, c);
	if (!c->ended && rand() % 3 == 0)
		stream_want(&c->e.s, rand() % 4 != 0, rand() % 2);
	if (rand() % 8)
		peer_step(c);
	if (rand() % 400 == 0)
		peer_ends(c);
	if (rand() % 400 == 0 && !c->ended && !c->shut) {
		c->shut = true;
		stream_shutdown(&c->e.s);
	}
	if (rand() % 300 == 0 && !c->ended)
		end_it(c, rand() % 2);
	if (c->ended && c->e.closes == 0 && rand() % 200 == 0)
		stream_abort(&c->e.s);
}

static void storm(struct rig *r, struct tls_policy *p, SSL_CTX *ctx)
{
	struct sockaddr_in at = rig_listen(r);
	memset(conns, 0, sizeof(conns));
	for (int t = 0; t < TURNS; t++) {
		for (size_t i = 0; i < CONNS; i++) {
			struct conn *c = &conns[i];
			if (!c->live)
				start(r, c, &at, p, ctx);
			if (c->e.closes == 0)
				step_one(r, c);
			else
				finish(c);
		}
		cr_assert(engine_turn(r->engine, clock_ns() + NS_PER_MS / 20) >= 0);
	}
	for (size_t i = 0; i < CONNS; i++) {
		if (conns[i].live && conns[i].e.closes == 0)
			end_it(&conns[i], true);
	}
	for (size_t i = 0; i < CONNS; i++) {
		if (!conns[i].live)
			continue;
		RIG_UNTIL(r, conns[i].e.closes == 1);
		finish(&conns[i]);
	}
	cr_expect_eq(r->env.n_starved, 0);
}

/* Errors that the engine makes up look like resets; they exclude pieces, which would be lost with them. */
#define PIECES { .seed = 9, .split = 300, .split_max = 999, .delay = 300 }
#define BREAKS { .seed = 9, .delay = 300, .error = 3 }
static const struct rig_mode storm_modes[] = {
	{ .kind = ENGINE_URING },
	{ .kind = ENGINE_EPOLL },
	{ .kind = ENGINE_URING, .how = PIECES },
	{ .kind = ENGINE_EPOLL, .how = PIECES },
	{ .kind = ENGINE_URING, .how = BREAKS },
	{ .kind = ENGINE_EPOLL, .how = BREAKS },
};

static void run(size_t mode, uint32_t small, uint32_t large, unsigned seed)
{
	struct rig *r = rig_new(&storm_modes[mode], small, large);
	made = bytes_up = bytes_down = 0;
	memset(errors, 0, sizeof(errors));
	if (r == NULL)
		cr_skip_test("no io_uring here");
	SSL_CTX           *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p = policy_of(&(struct tls_options){ .ca_file = ca_pem });
	srand(seed);
	storm(r, p, ctx);
	rig_free(r);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
	cr_log_info("%lu streams, %lu up, %lu down, reset %lu, truncated %lu, no buffers %lu", made,
	            bytes_up, bytes_down, errors[STREAM_E_RESET], errors[STREAM_E_TRUNCATED],
	            errors[STREAM_E_NO_BUFFERS]);
	cr_expect(made > 3 * CONNS && bytes_up > 100000 && bytes_down > 100000);
}

Test(stream_storm, nothing_is_lost_or_leaked_on_io_uring)
{
	run(0, 400, 400, 1);
	cr_expect_eq(errors[STREAM_E_NO_BUFFERS], 0);
}

Test(stream_storm, nothing_is_lost_or_leaked_on_io_uring_with_too_few_buffers)
{
	run(0, 16, 16, 3);
}

Test(stream_storm, nothing_is_lost_or_leaked_on_hostile_io_uring)
{
	run(2, 64, 64, 5);
	run(4, 64, 64, 7);
	cr_expect(errors[STREAM_E_RESET] > 20);
}

Test(stream_storm, nothing_is_lost_or_leaked_on_epoll)
{
	run(1, 400, 400, 2);
	cr_expect_eq(errors[STREAM_E_NO_BUFFERS], 0);
}

Test(stream_storm, nothing_is_lost_or_leaked_on_epoll_with_too_few_buffers)
{
	run(1, 16, 16, 4);
}

Test(stream_storm, nothing_is_lost_or_leaked_on_hostile_epoll)
{
	run(3, 64, 64, 6);
	run(5, 64, 64, 8);
	cr_expect(errors[STREAM_E_RESET] > 20);
}
