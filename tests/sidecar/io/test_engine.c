/* Every verb, on both backends. */
#include "test_engine.h"

#include <pthread.h>

static struct seen a, b;

static void expect(struct engine_op *op, engine_cb *cb)
{
	memset(CONTAINER_OF(op, struct seen, op), 0, sizeof(struct seen));
	engine_op_init(op, cb);
}

/* --- receive and send */

BOTH_ENGINES(what_is_sent_is_received)
{
	static char  text[] = "hello, sidecar";
	struct world w;
	struct iovec iov[2] = { { text, 7 }, { text + 7, 7 } };
	uint8_t      got[64];
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	expect(&a.op, on_received);
	expect(&b.op, on_seen);
	a.into = got;
	in_verb = true;
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	engine_send(w.e, &b.op, fds[1], iov, 2);
	in_verb = false;
	turn_until(&w, &a.times, 1);
	turn_until(&w, &b.times, 1);
	cr_assert_eq(b.res, 14);
	cr_assert_eq(a.n, 14);
	cr_assert_eq(memcmp(got, text, 14), 0);
	engine_close(w.e, fds[0]);
	engine_close(w.e, fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_waiting_receive_owns_no_buffer_on_epoll_and_one_share_on_io_uring)
{
	static struct seen s[40];
	struct world       w;
	int                fds[40][2];
	uint32_t           free_now;

	world_open(&w, kind);
	for (int i = 0; i < 40; i++) {
		pair(fds[i]);
		expect(&s[i].op, on_received);
		engine_recv(w.e, &s[i].op, fds[i][0], BUF_SMALL);
	}
	turn_for(&w, 5);
	free_now = w.bufs.cls[BUF_SMALL].n_free;
	cr_assert_geq(free_now, kind == ENGINE_EPOLL ? 64 : 64 - 16);
	for (int i = 0; i < 40; i++)
		shutdown(fds[i][0], SHUT_RDWR);
	for (int i = 0; i < 40; i++) {
		turn_until(&w, &s[i].times, 1);
		cr_assert_eq(s[i].res, 0);
		engine_close(w.e, fds[i][0]);
		close(fds[i][1]);
	}
	world_close(&w);
}

enum { PATTERN = 1 << 20 };

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 31 ^ i >> 8 ^ i >> 16);
}

static void small_socket_buffers(int fd)
{
	/* With less to receive into TCP waits for its timers: 20 s for a mebibyte. */
	const struct sock_opts tiny = { .sndbuf = 16384, .rcvbuf = 32768 };

	cr_assert_eq(sock_tune(fd, &tiny), 0);
}

/* Receives until everything has come, slowly: each time some turns of nothing else. */
static void receive_pattern(struct world *w, int fd, enum buf_class cls, int idle_turns)
{
	uint8_t *got = malloc(PATTERN + BUF_LARGE_SIZE);

	expect(&a.op, on_received);
	a.into = got;
	while (a.n < PATTERN) {
		int before = a.times;

		engine_recv(w->e, &a.op, fd, cls);
		turn_until(w, &a.times, before + 1);
		cr_assert(a.res > 0, "%d", a.res);
		for (int i = 0; i < idle_turns; i++)
			engine_turn(w->e, 0);
	}
	cr_assert_eq(a.n, PATTERN);
	for (size_t i = 0; i < PATTERN; i++)
		cr_assert_eq(got[i], pattern(i), "byte %zu", i);
	free(got);
}

static void send_pattern(enum engine_kind kind, bool tcp, unsigned n_iov, enum buf_class cls)
{
	static uint8_t data[PATTERN];
	struct iovec   iov[ENGINE_IOV_MAX];
	struct world   w;
	size_t         at = 0, piece = PATTERN / n_iov;
	int            fds[2];

	for (size_t i = 0; i < PATTERN; i++)
		data[i] = pattern(i);
	/* Uneven pieces, so that short writes end in the middle of some. */
	for (unsigned i = 0; i < n_iov; i++) {
		size_t len = i + 1 == n_iov ? PATTERN - at : piece - 7 + i % 13;

		iov[i] = (struct iovec){ data + at, len };
		at += len;
	}
	world_open(&w, kind);
	(tcp ? tcp_pair : pair)(fds);
	small_socket_buffers(fds[0]);
	small_socket_buffers(fds[1]);
	expect(&b.op, on_seen);
	engine_send(w.e, &b.op, fds[1], iov, n_iov);
	receive_pattern(&w, fds[0], cls, 2);
	turn_until(&w, &b.times, 1);
	cr_assert_eq(b.res, PATTERN);
	cr_assert_eq(b.times, 1);
	if (kind == ENGINE_URING)
		cr_assert_leq(engine_stats(w.e)->again, 4, "the kernel finishes short sends");
	engine_close(w.e, fds[0]);
	engine_close(w.e, fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_mebibyte_in_one_piece_keeps_its_order_through_tiny_socket_buffers)
{
	send_pattern(kind, true, 1, BUF_SMALL);
}

BOTH_ENGINES(a_mebibyte_in_64_pieces_keeps_its_order_through_tiny_socket_buffers)
{
	send_pattern(kind, true, ENGINE_IOV_MAX, BUF_LARGE);
}

BOTH_ENGINES(a_mebibyte_keeps_its_order_through_a_unix_socket)
{
	send_pattern(kind, false, 33, BUF_LARGE);
}

BOTH_ENGINES(empty_segments_do_no_harm)
{
	static char  text[] = "abc";
	struct world w;
	struct iovec iov[5] = { { text, 0 }, { text, 1 }, { NULL, 0 }, { text + 1, 2 }, { text, 0 } };
	uint8_t      got[8];
	int          fds[2];

	world_open(&w, kind);
	pair(fds);
	expect(&a.op, on_received);
	expect(&b.op, on_seen);
	a.into = got;
	engine_send(w.e, &b.op, fds[1], iov, 5);
	turn_until(&w, &b.times, 1);
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	turn_until(&w, &a.times, 1);
	cr_assert_eq(b.res, 3);
	cr_assert_eq(memcmp(got, "abc", 3), 0);
	engine_close(w.e, fds[0]);
	engine_close(w.e, fds[1]);
	world_close(&w);
}

/* --- ends of connections */

static void receive_one(struct world *w, int fd)
{
	expect(&a.op, on_received);
	engine_recv(w->e, &a.op, fd, BUF_SMALL);
	turn_until(w, &a.times, 1);
}

BOTH_ENGINES(data_comes_before_the_fin)
{
	for (int armed = 0; armed < 2; armed++) {
		struct world w;
		int          fds[2];

		world_open(&w, kind);
		tcp_pair(fds);
		expect(&a.op, on_received);
		engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
		if (armed)
			turn_for(&w, 2);
		cr_assert_eq(write(fds[1], "bye", 3), 3);
		close(fds[1]);
		turn_until(&w, &a.times, 1);
		cr_assert_eq(a.res, 3);
		receive_one(&w, fds[0]);
		cr_assert_eq(a.res, 0);
		receive_one(&w, fds[0]);
		cr_assert_eq(a.res, 0, "a FIN stays");
		engine_close(w.e, fds[0]);
		world_close(&w);
	}
}

BOTH_ENGINES(a_fin_after_a_short_read_is_noticed)
{
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(write(fds[1], "x", 1), 1);
		receive_one(&w, fds[0]);
		cr_assert_eq(a.res, 1);
	}
	expect(&a.op, on_received);
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	turn_for(&w, 2);
	shutdown(fds[1], SHUT_WR);
	turn_until(&w, &a.times, 1);
	cr_assert_eq(a.res, 0);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_reset_is_an_error_of_the_receive)
{
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	expect(&a.op, on_received);
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	turn_for(&w, 2);
	reset(fds[1]);
	turn_until(&w, &a.times, 1);
	cr_assert_eq(a.res, -ECONNRESET);
	engine_close(w.e, fds[0]);
	world_close(&w);
}

BOTH_ENGINES(a_send_to_a_reset_connection_fails_and_raises_no_signal)
{
	static char  text[] = "x";
	struct iovec iov = { text, 1 };
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	reset(fds[1]);
	expect(&b.op, on_seen);
	for (int i = 1; i <= 2; i++) {
		engine_send(w.e, &b.op, fds[0], &iov, 1);
		turn_until(&w, &b.times, i);
	}
	cr_assert_eq(b.res, -EPIPE);
	engine_close(w.e, fds[0]);
	world_close(&w);
}

/* A send that does not fit; the peer reads nothing. */
static void block_send(struct world *w, int fd)
{
	static uint8_t data[PATTERN];
	static struct iovec iov = { data, PATTERN };

	small_socket_buffers(fd);
	expect(&b.op, on_seen);
	engine_send(w->e, &b.op, fd, &iov, 1);
	turn_for(w, 5);
	cr_assert_eq(b.times, 0);
}

BOTH_ENGINES(shutdown_completes_receive_and_send)
{
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	block_send(&w, fds[0]);
	expect(&a.op, on_received);
	engine_recv(w.e, &a.op, fds[0], BUF_LARGE);
	turn_for(&w, 2);
	shutdown(fds[0], SHUT_RDWR);
	turn_until(&w, &a.times, 1);
	turn_until(&w, &b.times, 1);
	cr_assert_eq(a.res, 0);
	cr_assert_eq(b.res, -EPIPE);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_reset_ends_a_blocked_send)
{
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	block_send(&w, fds[0]);
	reset(fds[1]);
	turn_until(&w, &b.times, 1);
	cr_assert(b.res == -ECONNRESET || b.res == -EPIPE, "%d", b.res);
	engine_close(w.e, fds[0]);
	world_close(&w);
}

/* --- cancel: one completion, whatever the state */

static void cancel_and_wait(struct world *w, struct seen *s)
{
	in_verb = true;
	engine_cancel(w->e, &s->op);
	engine_cancel(w->e, &s->op);
	in_verb = false;
	turn_until(w, &s->times, 1);
	turn_for(w, 5);
	cr_assert_eq(s->times, 1);
	engine_cancel(w->e, &s->op);
	turn_for(w, 2);
	cr_assert_eq(s->times, 1, "cancelling an idle one does nothing");
}

BOTH_ENGINES(a_cancelled_receive_completes_once)
{
	for (int armed = 0; armed < 2; armed++) {
		struct world w;
		int          fds[2];

		world_open(&w, kind);
		tcp_pair(fds);
		expect(&a.op, on_received);
		engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
		if (armed)
			turn_for(&w, 2);
		cancel_and_wait(&w, &a);
		cr_assert_eq(a.res, -ECANCELED);
		/* The descriptor is as good as before. */
		cr_assert_eq(write(fds[1], "x", 1), 1);
		receive_one(&w, fds[0]);
		cr_assert_eq(a.res, 1);
		engine_close(w.e, fds[0]);
		close(fds[1]);
		world_close(&w);
	}
}

BOTH_ENGINES(a_receive_that_is_cancelled_with_data_there_loses_nothing)
{
	struct world w;
	int          fds[2];
	size_t       total = 0;

	world_open(&w, kind);
	tcp_pair(fds);
	for (int i = 0; i < 50; i++) {
		expect(&a.op, on_received);
		engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
		if (i % 2)
			engine_turn(w.e, 0);
		cr_assert_eq(write(fds[1], "y", 1), 1);
		engine_cancel(w.e, &a.op);
		turn_until(&w, &a.times, 1);
		cr_assert(a.res > 0 || a.res == -ECANCELED);
		total += a.n;
	}
	while (total < 50) {
		receive_one(&w, fds[0]);
		total += a.n;
	}
	cr_assert_eq(total, 50);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_cancelled_send_completes_once)
{
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	block_send(&w, fds[0]);
	cancel_and_wait(&w, &b);
	cr_assert_eq(b.res, -ECANCELED);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_cancelled_connect_completes_once)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 1), fill[4], fd;

	/* Nobody accepts and the queue is full: further SYNs are dropped. */
	for (int i = 0; i < 4; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], &addr.any, addr.len);
	}
	world_open(&w, kind);
	cr_assert_eq(sock_open(AF_INET, &fd), 0);
	expect(&a.op, on_seen);
	engine_connect(w.e, &a.op, fd, &addr.any, addr.len);
	turn_for(&w, 20);
	cr_assert_eq(a.times, 0);
	cancel_and_wait(&w, &a);
	cr_assert_eq(a.res, -ECANCELED);
	engine_close(w.e, fd);
	for (int i = 0; i < 4; i++)
		close(fill[i]);
	close(lfd);
	world_close(&w);
}

BOTH_ENGINES(a_cancelled_accept_watch_poll_and_wake_complete_once)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), efd = eventfd(0, EFD_CLOEXEC), fds[2];

	world_open(&w, kind);
	pair(fds);
	for (int which = 0; which < 4; which++) {
		for (int armed = 0; armed < 2; armed++) {
			expect(&a.op, on_seen);
			if (which == 0)
				engine_accept(w.e, &a.op, lfd);
			else if (which == 1)
				engine_watch(w.e, &a.op, fds[0]);
			else if (which == 2)
				engine_poll(w.e, &a.op, efd, POLLIN);
			else
				engine_wake(w.e, &a.op, efd);
			if (armed)
				turn_for(&w, 2);
			cancel_and_wait(&w, &a);
			cr_assert_eq(a.res, -ECANCELED, "verb %d: %d", which, a.res);
			cr_assert(!a.more);
		}
	}
	engine_close(w.e, lfd);
	engine_close(w.e, efd);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

/* --- accept and connect */

BOTH_ENGINES(connections_are_accepted_until_cancelled)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), fds[100];

	world_open(&w, kind);
	expect(&a.op, on_seen);
	engine_accept(w.e, &a.op, lfd);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(sock_open(AF_INET, &fds[i]), 0);
		cr_assert_eq(connect(fds[i], &addr.any, addr.len), 0);
	}
	turn_until(&w, &a.n_fds, 100);
	for (int i = 0; i < 100; i++) {
		cr_assert(fcntl(a.fds[i], F_GETFD) & FD_CLOEXEC);
		cr_assert_eq(!!(fcntl(a.fds[i], F_GETFL) & O_NONBLOCK), kind == ENGINE_EPOLL);
		engine_close(w.e, a.fds[i]);
		close(fds[i]);
	}
	cr_assert_eq(a.times, 0);
	cancel_and_wait(&w, &a);
	engine_close(w.e, lfd);
	world_close(&w);
}

BOTH_ENGINES(a_listener_that_is_shut_down_ends_its_accept)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0);

	world_open(&w, kind);
	expect(&a.op, on_seen);
	engine_accept(w.e, &a.op, lfd);
	turn_for(&w, 2);
	shutdown(lfd, SHUT_RDWR);
	turn_until(&w, &a.times, 1);
	cr_assert_eq(a.res, -EINVAL);
	engine_close(w.e, lfd);
	world_close(&w);
}

BOTH_ENGINES(a_listener_may_be_nonblocking_already)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), fd;
	uint64_t         turns;

	cr_assert_eq(fcntl(lfd, F_SETFL, O_NONBLOCK), 0);
	world_open(&w, kind);
	expect(&a.op, on_seen);
	engine_accept(w.e, &a.op, lfd);
	turns = engine_stats(w.e)->turns;
	turn_for(&w, 30);
	cr_assert_lt(engine_stats(w.e)->turns - turns, 10, "spins");
	cr_assert_eq(sock_open(AF_INET, &fd), 0);
	cr_assert_eq(connect(fd, &addr.any, addr.len), 0);
	turn_until(&w, &a.n_fds, 1);
	cancel_and_wait(&w, &a);
	engine_close(w.e, a.fds[0]);
	close(fd);
	engine_close(w.e, lfd);
	world_close(&w);
}

/* Leaves n descriptors free. */
static void limit_fds(int n)
{
	struct rlimit lim;
	int           next = dup(0);

	close(next);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = (rlim_t)(next + n);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

BOTH_ENGINES(at_the_descriptor_limit_accept_waits_and_goes_on)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), fds[6];

	world_open(&w, kind);
	for (int i = 0; i < 6; i++) {
		cr_assert_eq(sock_open(AF_INET, &fds[i]), 0);
		cr_assert_eq(connect(fds[i], &addr.any, addr.len), 0);
	}
	limit_fds(3);
	expect(&a.op, on_seen);
	engine_accept(w.e, &a.op, lfd);
	turn_for(&w, 20);
	cr_assert_eq(a.n_fds, 3);
	cr_assert_eq(a.times, 0);
	cr_assert_geq(engine_stats(w.e)->accept_paused, 1);
	cr_assert_lt(engine_stats(w.e)->turns, 20, "spins");
	/* One is closed: the next one comes at once, not by the timer. */
	engine_close(w.e, a.fds[0]);
	turn_for(&w, 10);
	cr_assert_eq(a.n_fds, 4);
	/* The limit goes away without a close of ours: by the timer. */
	limit_fds(64);
	turn_until(&w, &a.n_fds, 6);
	for (int i = 1; i < 6; i++)
		engine_close(w.e, a.fds[i]);
	for (int i = 0; i < 6; i++)
		close(fds[i]);
	cancel_and_wait(&w, &a);
	engine_close(w.e, lfd);
	world_close(&w);
}

BOTH_ENGINES(a_paused_accept_can_be_cancelled)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), fd;

	world_open(&w, kind);
	cr_assert_eq(sock_open(AF_INET, &fd), 0);
	cr_assert_eq(connect(fd, &addr.any, addr.len), 0);
	limit_fds(0);
	expect(&a.op, on_seen);
	engine_accept(w.e, &a.op, lfd);
	turn_for(&w, 5);
	cancel_and_wait(&w, &a);
	cr_assert_eq(a.res, -ECANCELED);
	close(fd);
	engine_close(w.e, lfd);
	world_close(&w);
}

static void cancel_in_callback(struct engine *e, struct engine_op *op, int res)
{
	on_seen(e, op, res);
	engine_cancel(e, op);
}

BOTH_ENGINES(an_accept_may_be_cancelled_by_its_own_callback)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), fds[5];

	world_open(&w, kind);
	for (int i = 0; i < 5; i++) {
		cr_assert_eq(sock_open(AF_INET, &fds[i]), 0);
		cr_assert_eq(connect(fds[i], &addr.any, addr.len), 0);
	}
	expect(&a.op, cancel_in_callback);
	engine_accept(w.e, &a.op, lfd);
	turn_until(&w, &a.times, 1);
	cr_assert_eq(a.res, -ECANCELED);
	cr_assert_geq(a.n_fds, 1);
	for (int i = 0; i < a.n_fds; i++)
		engine_close(w.e, a.fds[i]);
	for (int i = 0; i < 5; i++)
		close(fds[i]);
	engine_close(w.e, lfd);
	world_close(&w);
}

BOTH_ENGINES(connect_tells_how_it_went)
{
	struct sock_addr addr, peer;
	struct world     w;
	int              lfd = listener(&addr, 0), fd;

	world_open(&w, kind);
	for (int refused = 0; refused < 2; refused++) {
		struct sock_addr copy = addr;

		cr_assert_eq(sock_open(AF_INET, &fd), 0);
		expect(&a.op, on_seen);
		in_verb = true;
		engine_connect(w.e, &a.op, fd, &copy.any, copy.len);
		in_verb = false;
		memset(&copy, 0xff, sizeof(copy)); /* the engine has its own */
		turn_until(&w, &a.times, 1);
		cr_assert_eq(a.res, refused ? -ECONNREFUSED : 0, "%d", a.res);
		if (!refused) {
			cr_assert_eq(sock_peer(fd, &peer), 0);
			cr_assert(sock_same(&peer, &addr));
			close(lfd);
		}
		engine_close(w.e, fd);
	}
	world_close(&w);
}

BOTH_ENGINES(a_unix_socket_connects_too)
{
	const struct sock_listen_opts opts = { 0 };
	struct sock_addr              addr;
	struct world                  w;
	int                           lfd, fd;

	world_open(&w, kind);
	cr_assert_eq(sock_parse("unix:@rhc-engine-test", &addr), 0);
	for (int i = 0; i < 2; i++) {
		if (i == 0)
			cr_assert_eq(sock_listen(&addr, &opts, &lfd), 0);
		cr_assert_eq(sock_open(AF_UNIX, &fd), 0);
		expect(&a.op, on_seen);
		engine_connect(w.e, &a.op, fd, &addr.any, addr.len);
		turn_until(&w, &a.times, 1);
		cr_assert_eq(a.res, i == 0 ? 0 : -ECONNREFUSED);
		engine_close(w.e, fd);
		if (i == 0)
			close(lfd);
	}
	world_close(&w);
}

/* --- watch, poll, wake */

BOTH_ENGINES(a_watch_sees_fin_and_reset_but_not_data)
{
	for (int rst = 0; rst < 2; rst++) {
		struct world w;
		int          fds[2];

		world_open(&w, kind);
		tcp_pair(fds);
		expect(&a.op, on_seen);
		engine_watch(w.e, &a.op, fds[0]);
		turn_for(&w, 2);
		cr_assert_eq(write(fds[1], "data", 4), 4);
		turn_for(&w, 10);
		cr_assert_eq(a.times, 0);
		if (rst)
			reset(fds[1]);
		else
			close(fds[1]);
		turn_until(&w, &a.times, 1);
		cr_assert_eq(a.res, rst ? -ECONNRESET : 0, "%d", a.res);
		if (!rst) {
			receive_one(&w, fds[0]);
			cr_assert_eq(a.res, 4, "what came before is still there");
		}
		engine_close(w.e, fds[0]);
		world_close(&w);
	}
}

BOTH_ENGINES(a_watch_started_after_the_fin_fires)
{
	for (int seen = 0; seen < 2; seen++) {
		struct world w;
		int          fds[2];

		world_open(&w, kind);
		tcp_pair(fds);
		if (seen) { /* a receive has met the FIN before */
			expect(&a.op, on_received);
			engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
			turn_for(&w, 2);
		}
		close(fds[1]);
		if (seen)
			turn_until(&w, &a.times, 1);
		expect(&a.op, on_seen);
		engine_watch(w.e, &a.op, fds[0]);
		turn_until(&w, &a.times, 1);
		cr_assert_eq(a.res, 0);
		engine_close(w.e, fds[0]);
		world_close(&w);
	}
}

BOTH_ENGINES(a_receive_and_a_watch_may_wait_together)
{
	struct world w;
	int          fds[2];

	world_open(&w, kind);
	tcp_pair(fds);
	expect(&a.op, on_received);
	expect(&b.op, on_seen);
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	engine_watch(w.e, &b.op, fds[0]);
	turn_for(&w, 2);
	close(fds[1]);
	turn_until(&w, &a.times, 1);
	turn_until(&w, &b.times, 1);
	cr_assert_eq(a.res, 0);
	cr_assert_eq(b.res, 0);
	engine_close(w.e, fds[0]);
	world_close(&w);
}

BOTH_ENGINES(poll_tells_readiness_and_does_not_read)
{
	struct world w;
	int          fds[2];
	char         c;

	world_open(&w, kind);
	pair(fds);
	for (int i = 0; i < 3; i++) {
		expect(&a.op, on_seen);
		expect(&b.op, on_seen);
		engine_poll(w.e, &a.op, fds[0], POLLIN);
		engine_poll(w.e, &b.op, fds[0], POLLOUT);
		turn_until(&w, &b.times, 1);
		cr_assert(b.res & POLLOUT);
		turn_for(&w, 3);
		cr_assert_eq(a.times, 0);
		cr_assert_eq(write(fds[1], "x", 1), 1);
		turn_until(&w, &a.times, 1);
		cr_assert(a.res & POLLIN);
		/* Still there, so a second poll fires at once. */
		expect(&a.op, on_seen);
		engine_poll(w.e, &a.op, fds[0], POLLIN);
		turn_until(&w, &a.times, 1);
		cr_assert_eq(read(fds[0], &c, 1), 1);
	}
	engine_forget(w.e, fds[0]);
	close(fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_polled_descriptor_number_can_be_used_again)
{
	struct world w;
	int          fds[2], first = -1;

	world_open(&w, kind);
	for (int i = 0; i < 5; i++) {
		pair(fds);
		if (i == 0)
			first = fds[0];
		cr_assert_eq(fds[0], first);
		expect(&a.op, on_seen);
		engine_poll(w.e, &a.op, fds[0], POLLIN);
		turn_for(&w, 1);
		engine_cancel(w.e, &a.op);
		engine_forget(w.e, fds[0]);
		close(fds[0]);
		close(fds[1]);
		turn_until(&w, &a.times, 1);
		/* The same number as a socket of ours. */
		pair(fds);
		cr_assert_eq(write(fds[1], "x", 1), 1);
		receive_one(&w, fds[0]);
		cr_assert_eq(a.res, 1);
		engine_close(w.e, fds[0]);
		close(fds[1]);
	}
	world_close(&w);
}

BOTH_ENGINES(a_wake_counts_and_empties_the_eventfd)
{
	static const int flags[] = { EFD_CLOEXEC, EFD_CLOEXEC | EFD_NONBLOCK };

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		struct world w;
		int          efd = eventfd(0, flags[i]);
		uint64_t     turns;

		world_open(&w, kind);
		for (int round = 1; round <= 3; round++) {
			expect(&a.op, on_seen);
			engine_wake(w.e, &a.op, efd);
			turns = engine_stats(w.e)->turns;
			turn_for(&w, 5);
			cr_assert_lt(engine_stats(w.e)->turns - turns, 5, "spins");
			cr_assert_eq(a.times, 0);
			for (int k = 0; k < round; k++)
				cr_assert_eq(eventfd_write(efd, 1), 0);
			turn_until(&w, &a.times, 1);
			cr_assert_eq(a.res, 0);
			cr_assert_eq(a.op.count, (uint64_t)round);
		}
		engine_close(w.e, efd);
		world_close(&w);
	}
}

static void *write_later(void *arg)
{
	usleep(20000);
	eventfd_write(*(int *)arg, 1);
	return NULL;
}

BOTH_ENGINES(a_wake_ends_the_wait)
{
	struct world w;
	int          efd = eventfd(0, EFD_CLOEXEC);
	pthread_t    t;
	uint64_t     from;

	world_open(&w, kind);
	expect(&a.op, on_seen);
	engine_wake(w.e, &a.op, efd);
	engine_turn(w.e, 0);
	from = clock_ns();
	pthread_create(&t, NULL, write_later, &efd);
	engine_turn(w.e, UINT64_MAX);
	cr_assert_eq(a.times, 1);
	cr_assert_lt(clock_ns() - from, 5000 * MS);
	pthread_join(t, NULL);
	engine_close(w.e, efd);
	world_close(&w);
}

/* --- descriptor numbers that change hands */

static struct seen late;
static int         old_fd, new_fds[2];

/* Closes another descriptor whose event is in the same batch, and gets its number again. */
static void on_swap(struct engine *e, struct engine_op *op, int res)
{
	on_received(e, op, res);
	pair(new_fds);
	engine_close(e, old_fd);
	cr_assert_eq(dup2(new_fds[0], old_fd), old_fd);
	close(new_fds[0]);
	new_fds[0] = old_fd;
	engine_watch(e, &late.op, new_fds[0]);
}

BOTH_ENGINES(an_event_of_a_closed_descriptor_does_not_reach_its_successor)
{
	struct world w;
	int          one[2], two[2];

	world_open(&w, kind);
	tcp_pair(one);
	tcp_pair(two);
	old_fd = two[0];
	/* Both are known to the kernel. */
	cr_assert_eq(write(two[1], "x", 1), 1);
	expect(&a.op, on_received);
	engine_recv(w.e, &a.op, two[0], BUF_SMALL);
	turn_until(&w, &a.times, 1);
	expect(&a.op, on_received);
	engine_recv(w.e, &a.op, two[0], BUF_SMALL);
	turn_for(&w, 2);
	cancel_and_wait(&w, &a);
	expect(&a.op, on_swap);
	expect(&late.op, on_seen);
	engine_recv(w.e, &a.op, one[0], BUF_SMALL);
	turn_for(&w, 2);
	cr_assert_eq(write(one[1], "x", 1), 1);
	close(two[1]);
	turn_until(&w, &a.times, 1);
	turn_for(&w, 10);
	cr_assert_eq(late.times, 0, "%d", late.res);
	cancel_and_wait(&w, &late);
	engine_close(w.e, new_fds[0]);
	close(new_fds[1]);
	engine_close(w.e, one[0]);
	close(one[1]);
	world_close(&w);
}

/* The supervisor keeps every listener of its workers. */
BOTH_ENGINES(a_listener_that_others_keep_open_is_silent_once_closed_here)
{
	struct sock_addr addr;
	struct world     w;
	int              lfd = listener(&addr, 0), kept = dup(lfd), fd;
	uint64_t         from;

	world_open(&w, kind);
	expect(&a.op, on_seen);
	engine_accept(w.e, &a.op, lfd);
	turn_for(&w, 2);
	cancel_and_wait(&w, &a);
	engine_close(w.e, lfd);
	cr_assert_eq(sock_open(AF_INET, &fd), 0);
	cr_assert_eq(connect(fd, &addr.any, addr.len), 0);
	from = clock_ns();
	cr_assert_eq(engine_turn(w.e, from + 30 * MS), 0);
	cr_assert_geq(clock_ns() - from, 30 * MS, "woken by what is not ours any more");
	cr_assert_eq(a.n_fds, 0);
	close(fd);
	close(kept);
	world_close(&w);
}

/* --- the turn */

BOTH_ENGINES(a_turn_ends_at_its_deadline)
{
	struct world w;

	world_open(&w, kind);
	for (uint64_t ms = 0; ms <= 20; ms += 5) {
		uint64_t from = clock_ns();

		cr_assert_eq(engine_turn(w.e, from + ms * MS), 0);
		cr_assert_geq(clock_ns(), from + ms * MS, "early");
		cr_assert_lt(clock_ns(), from + ms * MS + 200 * MS);
		cr_assert_geq(engine_now(w.e), from + ms * MS);
	}
	world_close(&w);
}

static void on_quick(struct engine *e, struct engine_op *op, int res)
{
	on_seen(e, op, res);
}

/* A completion that was due together with a submission must not double the wait. */
BOTH_ENGINES(a_deadline_holds_also_when_something_was_submitted)
{
	struct world w;
	int          fds[2];
	uint64_t     from;

	world_open(&w, kind);
	pair(fds);
	expect(&a.op, on_quick);
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	from = clock_ns();
	engine_turn(w.e, from + 100 * MS);
	cr_assert_lt(clock_ns() - from, 180 * MS);
	cancel_and_wait(&w, &a);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

static char                  order[64];
static struct engine        *order_engine;
static struct engine_deferred nested;

static void note(void *arg)
{
	strcat(order, arg);
}

static void note_and_defer(void *arg)
{
	strcat(order, arg);
	engine_defer(order_engine, &nested);
}

BOTH_ENGINES(deferred_work_runs_once_in_order_at_the_end_of_the_turn)
{
	static char            A[] = "a", B[] = "b", C[] = "c", N[] = "n";
	struct engine_deferred da = { .fn = note_and_defer, .arg = A }, db = { .fn = note, .arg = B },
			       dc = { .fn = note, .arg = C };
	struct world w;

	nested = (struct engine_deferred){ .fn = note, .arg = N };
	world_open(&w, kind);
	order_engine = w.e;
	order[0] = 0;
	engine_defer(w.e, &da);
	engine_defer(w.e, &db);
	engine_defer(w.e, &dc);
	engine_defer(w.e, &da);
	engine_undefer(&db);
	engine_undefer(&db);
	cr_assert_str_eq(order, "");
	engine_turn(w.e, 0);
	cr_assert_str_eq(order, "acn");
	engine_turn(w.e, 0);
	cr_assert_str_eq(order, "acn");
	world_close(&w);
}

static int again_count;

static void again(void *arg)
{
	again_count++;
	engine_defer(order_engine, arg);
}

BOTH_ENGINES(work_that_defers_itself_for_ever_does_not_stop_the_turn)
{
	struct engine_deferred d = { .fn = again };
	struct world           w;
	uint64_t               from = clock_ns();

	world_open(&w, kind);
	order_engine = w.e;
	again_count = 0;
	d.arg = &d;
	engine_defer(w.e, &d);
	engine_turn(w.e, from + 2000 * MS);
	cr_assert_geq(again_count, 1);
	cr_assert_lt(clock_ns() - from, 1000 * MS, "and it does not wait with work to do");
	engine_undefer(&d);
	world_close(&w);
}

static struct iovec          reply = { order, 1 };
static struct engine_deferred flush;
static int                   reply_fd;

static void do_flush(void *arg)
{
	engine_send(order_engine, arg, reply_fd, &reply, 1);
}

static void on_request(struct engine *e, struct engine_op *op, int res)
{
	on_received(e, op, res);
	engine_defer(e, &flush);
}

/* recv -> callback -> deferred send: what one request costs. */
BOTH_ENGINES(a_request_and_its_answer_take_few_system_calls)
{
	struct world               w;
	int                        fds[2];
	char                       c;
	struct engine_stats        before;
	const struct engine_stats *now;

	world_open(&w, kind);
	tcp_pair(fds);
	order_engine = w.e;
	reply_fd = fds[0];
	expect(&a.op, on_request);
	expect(&b.op, on_seen);
	flush = (struct engine_deferred){ .fn = do_flush, .arg = &b.op };
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	turn_for(&w, 2);
	before = *engine_stats(w.e);
	for (int i = 1; i <= 100; i++) {
		cr_assert_eq(write(fds[1], "q", 1), 1);
		turn_until(&w, &a.times, i);
		engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
		turn_until(&w, &b.times, i);
		cr_assert_eq(read(fds[1], &c, 1), 1);
	}
	now = engine_stats(w.e);
	cr_assert_leq(now->enters - before.enters, 210);
	cr_assert_leq(now->calls - before.calls, 210);
	a.times = 0;
	cancel_and_wait(&w, &a);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}
