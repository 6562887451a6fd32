/* Many connections, few buffers, small rings, and closing in every state. */
#include "test_engine.h"

#include <signal.h>

#include "sidecar/base/random.h"

/* A connection that sends back what it gets.  It may hold on to buffers. */
struct echo {
	struct engine_op rx, tx;
	struct buf      *sending;
	struct iovec     iov;
	int              fd;
	uint64_t         bytes;
	bool             closing, closed;
	bool             keeps; /* a slow peer's: buffers are kept, up to KEEP_MAX */
	struct buf      *kept[4];
	int              n_kept;
};

enum { KEEP_MAX = 4 };

static int open_echoes;

static void echo_maybe_close(struct engine *e, struct echo *c)
{
	if (c->closed || !c->closing || engine_busy(&c->rx) || engine_busy(&c->tx))
		return;
	c->closed = true;
	open_echoes--;
	engine_close(e, c->fd);
}

static void echo_close(struct engine *e, struct echo *c)
{
	if (c->closing)
		return;
	c->closing = true;
	shutdown(c->fd, SHUT_RDWR);
	echo_maybe_close(e, c);
}

static void echo_sent(struct engine *e, struct engine_op *op, int res)
{
	struct echo *c = CONTAINER_OF(op, struct echo, tx);

	buf_unref(c->sending);
	c->sending = NULL;
	if (res < 0 || c->closing) {
		echo_close(e, c);
		echo_maybe_close(e, c);
		return;
	}
	c->bytes += (uint64_t)res;
	engine_recv(e, &c->rx, c->fd, BUF_SMALL);
}

static void echo_received(struct engine *e, struct engine_op *op, int res)
{
	struct echo *c = CONTAINER_OF(op, struct echo, rx);

	if (res <= 0 || c->closing) {
		if (res > 0)
			buf_unref(op->buf);
		echo_close(e, c);
		echo_maybe_close(e, c);
		return;
	}
	if (c->keeps) {
		c->kept[c->n_kept++] = op->buf;
		if (c->n_kept < KEEP_MAX)
			engine_recv(e, &c->rx, c->fd, BUF_SMALL);
		return;
	}
	c->sending = op->buf;
	c->iov = (struct iovec){ op->buf->data, (size_t)res };
	engine_send(e, &c->tx, c->fd, &c->iov, 1);
}

static void echo_open(struct engine *e, struct echo *c, int fd)
{
	memset(c, 0, sizeof(*c));
	c->fd = fd;
	engine_op_init(&c->rx, echo_received);
	engine_op_init(&c->tx, echo_sent);
	open_echoes++;
	engine_recv(e, &c->rx, fd, BUF_SMALL);
}

enum { MANY = 64 };

static struct echo conns[MANY];
static int         peers[MANY];

static void open_all(struct world *w)
{
	for (int i = 0; i < MANY; i++) {
		int fds[2];

		tcp_pair(fds);
		peers[i] = fds[1];
		cr_assert_eq(fcntl(peers[i], F_SETFL, O_NONBLOCK), 0);
		echo_open(w->e, &conns[i], fds[0]);
	}
}

static void close_all(struct world *w)
{
	for (int i = 0; i < MANY; i++) {
		while (conns[i].n_kept)
			buf_unref(conns[i].kept[--conns[i].n_kept]);
		close(peers[i]);
		echo_close(w->e, &conns[i]);
	}
	for (int i = 0; open_echoes && i < 1000; i++)
		engine_turn(w->e, clock_ns() + 5 * MS);
	cr_assert_eq(open_echoes, 0);
}

/* Each peer sends, and reads its answers, until all have had `rounds` of them. */
static void chat(struct world *w, int rounds, size_t n, int first)
{
	static char out[4096], in[65536];
	static int  sent[MANY];
	static size_t got[MANY];
	uint64_t    end = clock_ns() + 20000 * MS;
	int         done = first;

	memset(sent, 0, sizeof(sent));
	memset(got, 0, sizeof(got));
	while (done < MANY && clock_ns() < end) {
		done = first;
		for (int i = first; i < MANY; i++) {
			ssize_t k;

			if (sent[i] < rounds && got[i] == (size_t)sent[i] * n &&
			    write(peers[i], out, n) == (ssize_t)n)
				sent[i]++;
			k = read(peers[i], in, sizeof(in));
			if (k > 0)
				got[i] += (size_t)k;
			done += got[i] == (size_t)rounds * n;
		}
		cr_assert_geq(engine_turn(w->e, clock_ns() + 1 * MS), 0);
	}
	cr_assert_eq(done, MANY, "%d of %d connections got all answers", done, MANY);
}

BOTH_ENGINES(eight_buffers_serve_64_connections_of_which_one_never_reads)
{
	struct world w;

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	open_all(&w);
	conns[0].keeps = true;
	for (int i = 0; i < KEEP_MAX; i++) {
		cr_assert_eq(write(peers[0], "x", 1), 1);
		turn_for(&w, 3);
	}
	cr_assert_eq(conns[0].n_kept, KEEP_MAX);
	chat(&w, 20, 500, 1);
	cr_assert_geq(engine_stats(w.e)->starved, 1);
	close_all(&w);
	world_close(&w);
}

BOTH_ENGINES(without_any_buffer_receives_wait_and_do_not_spin)
{
	struct world       w;
	struct buf        *held[8];
	const struct engine_stats *st;
	uint64_t           turns;

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	for (int i = 0; i < 8; i++)
		held[i] = buf_get(&w.bufs, BUF_SMALL);
	open_all(&w);
	for (int i = 0; i < MANY; i++)
		cr_assert_eq(write(peers[i], "x", 1), 1);
	st = engine_stats(w.e);
	turns = st->turns;
	turn_for(&w, 50);
	cr_assert_lt(st->turns - turns, 10, "%lu turns", (unsigned long)(st->turns - turns));
	for (int i = 0; i < MANY; i++)
		cr_assert_eq(conns[i].bytes, 0);
	cr_assert_eq(st->enobufs, 0, "nothing was armed into an empty ring");
	/* Two come back: one above the reserve is enough for everybody, in turn. */
	buf_unref(held[0]);
	buf_unref(held[1]);
	for (int i = 0; i < 1000; i++)
		engine_turn(w.e, 0);
	for (int i = 0; i < MANY; i++)
		cr_assert_eq(conns[i].bytes, 1, "connection %d", i);
	for (int i = 2; i < 8; i++)
		buf_unref(held[i]);
	close_all(&w);
	world_close(&w);
}

BOTH_ENGINES(receives_that_keep_everything_leave_some_buffers_to_the_senders)
{
	struct world w;
	struct buf  *b;

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 16, 8);
	open_all(&w);
	for (int i = 0; i < MANY; i++) {
		conns[i].keeps = true;
		cr_assert_eq(write(peers[i], "x", 1), 1);
	}
	turn_for(&w, 20);
	cr_assert_eq(w.bufs.cls[BUF_SMALL].n_free, 16 / 8);
	b = buf_get(&w.bufs, BUF_SMALL);
	cr_assert_not_null(b);
	buf_unref(b);
	close_all(&w);
	world_close(&w);
}

/* One buffer, and it is offered to those first in line who have no use for it. */
BOTH_ENGINES(a_buffer_passes_by_the_waiting_that_have_no_data)
{
	static struct seen s[30];
	struct world       w;
	struct buf        *held[8];
	int                fds[30][2];
	uint64_t           from;

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	for (int i = 0; i < 8; i++)
		held[i] = buf_get(&w.bufs, BUF_SMALL);
	for (int i = 0; i < 30; i++) {
		pair(fds[i]);
		engine_op_init(&s[i].op, on_received);
		engine_recv(w.e, &s[i].op, fds[i][0], BUF_SMALL);
	}
	turn_for(&w, 3);
	cr_assert_eq(write(fds[29][1], "x", 1), 1);
	buf_unref(held[0]);
	buf_unref(held[1]);
	from = clock_ns();
	while (!s[29].times)
		engine_turn(w.e, from + 3000 * MS);
	cr_assert_lt(clock_ns() - from, 2000 * MS, "it waited with a buffer at hand");
	for (int i = 2; i < 8; i++)
		buf_unref(held[i]);
	for (int i = 0; i < 30; i++) {
		shutdown(fds[i][0], SHUT_RDWR);
		turn_until(&w, &s[i].times, 1);
		engine_close(w.e, fds[i][0]);
		close(fds[i][1]);
	}
	world_close(&w);
}

BOTH_ENGINES(a_receive_that_waits_for_a_buffer_can_be_cancelled)
{
	static struct seen s;
	struct world       w;
	struct buf        *held[16];
	int                fds[2];

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	for (int i = 0; i < 16; i++)
		held[i] = buf_get(&w.bufs, i < 8 ? BUF_LARGE : BUF_SMALL);
	pair(fds);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	engine_op_init(&s.op, on_received);
	engine_recv(w.e, &s.op, fds[0], BUF_LARGE);
	turn_for(&w, 3);
	cr_assert_eq(s.times, 0);
	engine_cancel(w.e, &s.op);
	turn_until(&w, &s.times, 1);
	cr_assert_eq(s.res, -ECANCELED);
	for (int i = 0; i < 16; i++)
		buf_unref(held[i]);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_receive_without_a_large_buffer_takes_a_small_one)
{
	static struct seen s;
	struct world       w;
	struct buf        *held[8];
	int                fds[2];

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	for (int i = 0; i < 8; i++)
		held[i] = buf_get(&w.bufs, BUF_LARGE);
	pair(fds);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	engine_op_init(&s.op, on_received);
	engine_recv(w.e, &s.op, fds[0], BUF_LARGE);
	turn_until(&w, &s.times, 1);
	cr_assert_eq(s.res, 1);
	for (int i = 0; i < 8; i++)
		buf_unref(held[i]);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_receive_that_waits_for_a_large_buffer_takes_a_small_one_that_comes_back_sooner)
{
	struct world       w;
	struct buf        *small[8], *large[8];
	static struct seen rx;
	int                fds[2];

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	for (int i = 0; i < 8; i++) {
		small[i] = buf_get(&w.bufs, BUF_SMALL);
		large[i] = buf_get(&w.bufs, BUF_LARGE);
	}
	pair(fds);
	cr_assert_eq(write(fds[1], "abc", 3), 3);
	engine_op_init(&rx.op, on_received);
	engine_recv(w.e, &rx.op, fds[0], BUF_LARGE);
	turn_for(&w, 5);
	cr_assert_eq(rx.times, 0);
	buf_unref(small[0]);
	buf_unref(small[1]); /* the first is the senders' */
	turn_until(&w, &rx.times, 1);
	cr_assert_eq(rx.n, 3);
	for (int i = 0; i < 8; i++) {
		if (i > 1)
			buf_unref(small[i]);
		buf_unref(large[i]);
	}
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(idle_connections_do_not_hide_buffers_from_busy_ones)
{
	static struct echo idle[32];
	static int         far[32];
	struct world       w;

	world_open_conf(&w, (struct engine_conf){ .kind = kind }, 8, 8);
	for (int i = 0; i < 32; i++) {
		int fds[2];

		pair(fds);
		far[i] = fds[1];
		echo_open(w.e, &idle[i], fds[0]);
	}
	turn_for(&w, 2);
	open_all(&w);
	chat(&w, 10, 100, 0);
	for (int i = 0; i < 32; i++) {
		close(far[i]);
		echo_close(w.e, &idle[i]);
	}
	close_all(&w);
	world_close(&w);
}

BOTH_ENGINES(a_completion_queue_of_8_and_a_submission_queue_of_4_are_enough)
{
	struct world w;

	world_open_conf(&w, (struct engine_conf){ .kind = kind, .sq_entries = 4, .cq_entries = 8 }, 64,
	                16);
	open_all(&w);
	chat(&w, 30, 1000, 0);
	close_all(&w);
	world_close(&w);
}

BOTH_ENGINES(accept_goes_on_after_its_completion_queue_overflowed)
{
	static struct seen s;
	struct sock_addr   addr;
	struct world       w;
	int                lfd = listener(&addr, 0), fds[100];

	world_open_conf(&w, (struct engine_conf){ .kind = kind, .sq_entries = 4, .cq_entries = 8 }, 8, 8);
	engine_op_init(&s.op, on_seen);
	engine_accept(w.e, &s.op, lfd);
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(sock_open(AF_INET, &fds[i]), 0);
		cr_assert_eq(connect(fds[i], &addr.any, addr.len), 0);
	}
	turn_until(&w, &s.n_fds, 100);
	engine_cancel(w.e, &s.op);
	turn_until(&w, &s.times, 1);
	for (int i = 0; i < 100; i++) {
		engine_close(w.e, s.fds[i]);
		close(fds[i]);
	}
	engine_close(w.e, lfd);
	world_close(&w);
}

/* Something to be in the middle of, then the end from either side, over and over. */
static void storm_one(struct world *w, struct rng *r, struct echo *c, int *peer)
{
	static char junk[60000];

	switch (rng_below(r, 8)) {
	case 0:
		(void)!write(*peer, junk, 1 + rng_below(r, 3));
		break;
	case 1: /* more than is read back: its answer gets stuck */
		(void)!write(*peer, junk, sizeof(junk));
		break;
	case 2:
		shutdown(*peer, SHUT_WR);
		break;
	case 3:
		reset(*peer);
		*peer = -1;
		break;
	case 4:
		close(*peer);
		*peer = -1;
		break;
	case 5:
		echo_close(w->e, c);
		break;
	case 6:
		engine_cancel(w->e, &c->rx);
		break;
	case 7:
		engine_cancel(w->e, &c->tx);
		break;
	}
}

static void storm(enum engine_kind kind, struct engine_conf conf, int rounds)
{
	struct world w;
	struct rng   r;
	int          fds_before = count_dir("/proc/self/fd");

	conf.kind = kind;
	signal(SIGPIPE, SIG_IGN); /* of the peers; the engine raises none */
	rng_init_from(&r, 4640);
	world_open_conf(&w, conf, 16, 16);
	for (int i = 0; i < MANY; i++) {
		conns[i].closed = true;
		peers[i] = -1;
	}
	for (int i = 0; i < rounds; i++) {
		int at = (int)rng_below(&r, MANY);

		if (conns[at].closed) {
			int fds[2];

			if (peers[at] >= 0)
				close(peers[at]);
			tcp_pair(fds);
			peers[at] = fds[1];
			cr_assert_eq(fcntl(peers[at], F_SETFL, O_NONBLOCK), 0);
			echo_open(w.e, &conns[at], fds[0]);
		} else if (peers[at] >= 0) {
			storm_one(&w, &r, &conns[at], &peers[at]);
		} else {
			echo_close(w.e, &conns[at]);
		}
		if (rng_below(&r, 3) == 0)
			cr_assert_geq(engine_turn(w.e, 0), 0);
	}
	for (int i = 0; i < MANY; i++) {
		if (peers[i] >= 0)
			close(peers[i]);
		if (!conns[i].closed)
			echo_close(w.e, &conns[i]);
	}
	for (int i = 0; open_echoes && i < 1000; i++)
		engine_turn(w.e, clock_ns() + 5 * MS);
	cr_assert_eq(open_echoes, 0);
	cr_assert_eq(count_dir("/proc/self/task"), 1, "nothing was given to a kernel thread");
	world_close(&w);
	cr_assert_leq(count_dir("/proc/self/fd"), fds_before);
}

BOTH_ENGINES(a_close_storm_leaves_nothing_behind)
{
	storm(kind, (struct engine_conf){ 0 }, 6000);
}

BOTH_ENGINES(a_close_storm_on_tiny_rings_leaves_nothing_behind)
{
	storm(kind, (struct engine_conf){ .sq_entries = 4, .cq_entries = 8 }, 3000);
}

BOTH_ENGINES(many_engines_one_after_the_other_leave_nothing_behind)
{
	int before = count_dir("/proc/self/fd");

	for (int i = 0; i < 40; i++) {
		struct world w;

		world_open(&w, kind);
		engine_turn(w.e, 0);
		world_close(&w);
	}
	cr_assert_eq(count_dir("/proc/self/fd"), before);
}
