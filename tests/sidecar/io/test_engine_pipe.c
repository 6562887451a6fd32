/* Bytes that go from socket to socket through a pipe, on both backends. */
#include "test_engine.h"

#include <signal.h>

#include "sidecar/base/pipe.h"

static struct seen       in, out;
static struct pipe_pool  pipes;
static struct buf       *got;

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 31 ^ i >> 8 ^ i >> 16);
}

/* A pipe that came is kept. */
static void on_pipe(struct engine *e, struct engine_op *op, int res)
{
	on_seen(e, op, res);
	got = op->buf;
	if (res <= 0)
		cr_assert_null(got);
	else
		cr_assert_eq(got->len, (uint32_t)res);
}

static void pipe_world(struct world *w, enum engine_kind kind, uint32_t n)
{
	signal(SIGPIPE, SIG_IGN);
	world_open(w, kind);
	cr_assert_eq(pipe_pool_init(&pipes, n), 0);
	w->bufs.pipes = &pipes;
	memset(&in, 0, sizeof(in));
	memset(&out, 0, sizeof(out));
	engine_op_init(&in.op, on_pipe);
	engine_op_init(&out.op, on_seen);
}

static void pipe_world_close(struct world *w)
{
	world_close(w);
	pipe_pool_fini(&pipes);
}

/* What the engine reads and writes; on epoll its sockets are non-blocking from the start. */
static void engine_side(struct world *w, int fd)
{
	if (strcmp(engine_name(w->e), "epoll") == 0)
		cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void start_in(struct world *w, int fd, uint32_t max)
{
	in_verb = true;
	engine_recv_pipe(w->e, &in.op, fd, BUF_LARGE, max);
	in_verb = false;
}

static void start_out(struct world *w, int fd)
{
	in_verb = true;
	engine_send_pipe(w->e, &out.op, fd, got);
	in_verb = false;
}

static void say(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

BOTH_ENGINES(a_pipe_carries_no_more_than_was_asked_for)
{
	struct world w;
	int          a[2], b[2];
	char         text[16] = "";

	pipe_world(&w, kind, 4);
	tcp_pair(a);
	tcp_pair(b);
	engine_side(&w, a[0]);
	engine_side(&w, b[0]);
	start_in(&w, a[0], 5);
	turn_for(&w, 5);
	cr_assert_eq(in.times, 0);
	cr_expect_eq(pipes.n_free, 4, "who waits has no pipe");
	say(a[1], "hello, sidecar");
	turn_until(&w, &in.times, 1);
	cr_assert_eq(in.res, 5);
	cr_assert(slice_is_pipe((struct slice){ .buf = got }));
	cr_expect_eq(engine_stats(w.e)->spliced, 5);
	start_out(&w, b[0]);
	turn_until(&w, &out.times, 1);
	cr_assert_eq(out.res, 5);
	cr_expect_eq(got->len, 0);
	buf_unref(got);
	cr_assert_eq(read(b[1], text, sizeof(text)), 5);
	cr_expect_str_eq(text, "hello");
	cr_assert_eq(recv(a[0], text, sizeof(text), MSG_DONTWAIT), 9, "the rest is still in the socket");
	engine_close(w.e, a[0]);
	engine_close(w.e, b[0]);
	close(a[1]);
	close(b[1]);
	pipe_world_close(&w);
}

BOTH_ENGINES(without_a_pipe_it_is_a_receive)
{
	struct world w;
	struct buf  *taken;
	int          a[2];

	pipe_world(&w, kind, 1);
	taken = pipe_get(&pipes);
	tcp_pair(a);
	engine_side(&w, a[0]);
	engine_op_init(&in.op, on_received);
	start_in(&w, a[0], 5);
	say(a[1], "hello, sidecar");
	turn_until(&w, &in.times, 1);
	cr_expect_eq(in.res, 14);
	cr_expect_eq(engine_stats(w.e)->spliced, 0);
	buf_unref(taken);
	engine_close(w.e, a[0]);
	close(a[1]);
	pipe_world_close(&w);
}

BOTH_ENGINES(unix_sockets_have_pipes_as_well)
{
	struct world w;
	int          a[2], b[2];
	char         text[16] = "";

	pipe_world(&w, kind, 1);
	pair(a);
	pair(b);
	engine_side(&w, a[0]);
	engine_side(&w, b[0]);
	start_in(&w, a[0], 100);
	say(a[1], "over unix");
	turn_until(&w, &in.times, 1);
	cr_assert_eq(in.res, 9);
	start_out(&w, b[0]);
	turn_until(&w, &out.times, 1);
	cr_assert_eq(out.res, 9);
	buf_unref(got);
	cr_assert_eq(read(b[1], text, sizeof(text)), 9);
	cr_expect_str_eq(text, "over unix");
	engine_close(w.e, a[0]);
	engine_close(w.e, b[0]);
	close(a[1]);
	close(b[1]);
	pipe_world_close(&w);
}

BOTH_ENGINES(fin_and_reset_are_told_as_by_a_receive)
{
	struct world w;
	int          a[2];

	pipe_world(&w, kind, 1);
	tcp_pair(a);
	engine_side(&w, a[0]);
	start_in(&w, a[0], 100);
	shutdown(a[1], SHUT_WR);
	turn_until(&w, &in.times, 1);
	cr_expect_eq(in.res, 0);
	cr_expect_eq(pipes.n_free, 1);
	engine_close(w.e, a[0]);
	close(a[1]);

	tcp_pair(a);
	engine_side(&w, a[0]);
	engine_op_init(&in.op, on_pipe);
	start_in(&w, a[0], 100);
	reset(a[1]);
	turn_until(&w, &in.times, 2);
	cr_expect_eq(in.res, -ECONNRESET, "%d", in.res);
	cr_expect_eq(pipes.n_free, 1);
	engine_close(w.e, a[0]);
	pipe_world_close(&w);
}

BOTH_ENGINES(both_directions_can_be_cancelled_while_they_wait)
{
	struct world w;
	static char  block[1 << 16];
	int          a[2];
	ssize_t      n;

	pipe_world(&w, kind, 2);
	tcp_pair(a);
	engine_side(&w, a[0]);
	start_in(&w, a[0], 100);
	turn_for(&w, 5);
	engine_cancel(w.e, &in.op);
	turn_until(&w, &in.times, 1);
	cr_expect_eq(in.res, -ECANCELED);
	cr_expect_eq(pipes.n_free, 2);

	do /* nothing fits any more */
		n = send(a[0], block, sizeof(block), MSG_DONTWAIT);
	while (n > 0);
	got = pipe_get(&pipes);
	cr_assert_eq(write(pipe_of(got)->wr, "late", 4), 4);
	got->len = 4;
	start_out(&w, a[0]);
	turn_for(&w, 5);
	cr_expect_eq(out.times, 0, "there was no room");
	engine_cancel(w.e, &out.op);
	turn_until(&w, &out.times, 1);
	cr_expect_eq(out.res, -ECANCELED);
	buf_unref(got);
	cr_expect_eq(pipes.n_open, 0, "a pipe with something in it is not used again");
	engine_close(w.e, a[0]);
	close(a[1]);
	pipe_world_close(&w);
}

BOTH_ENGINES(a_peer_that_is_gone_fails_the_pipe_that_was_to_go_there)
{
	struct world w;
	int          a[2];

	pipe_world(&w, kind, 1);
	tcp_pair(a);
	engine_side(&w, a[0]);
	reset(a[1]);
	got = pipe_get(&pipes);
	cr_assert_eq(write(pipe_of(got)->wr, "late", 4), 4);
	got->len = 4;
	start_out(&w, a[0]);
	turn_until(&w, &out.times, 1);
	cr_expect(out.res == -ECONNRESET || out.res == -EPIPE, "%d", out.res);
	buf_unref(got);
	engine_close(w.e, a[0]);
	pipe_world_close(&w);
}

enum { MUCH = 4 << 20 };

/* A writer and a reader with a mind of their own; what is relayed goes on as soon as it can. */
BOTH_ENGINES(every_byte_arrives_once_and_in_its_order)
{
	static uint8_t block[100000];
	struct world   w;
	size_t         sent = 0, read_so_far = 0, relayed = 0;
	uint64_t       end = clock_ns() + 20000 * MS;
	int            a[2], b[2], ins = 0, outs = 0;

	pipe_world(&w, kind, 1);
	tcp_pair(a);
	tcp_pair(b);
	engine_side(&w, a[0]);
	engine_side(&w, b[0]);
	start_in(&w, a[0], PIPE_BYTES);
	while (read_so_far < MUCH && clock_ns() < end) {
		size_t  n = 1 + (sent * 7919 + read_so_far) % sizeof(block);
		ssize_t k;

		n = n < MUCH - sent ? n : MUCH - sent;
		for (size_t i = 0; i < n; i++)
			block[i] = pattern(sent + i);
		k = n ? send(a[1], block, n, MSG_DONTWAIT) : 0;
		sent += k > 0 ? (size_t)k : 0;
		cr_assert_geq(engine_turn(w.e, clock_ns() + MS), 0);
		if (in.times > ins) {
			ins = in.times;
			cr_assert_gt(in.res, 0, "%d", in.res);
			start_out(&w, b[0]);
		} else if (out.times > outs) {
			outs = out.times;
			cr_assert_gt(out.res, 0, "%d", out.res);
			relayed += (size_t)out.res;
			if (got->len > 0) {
				start_out(&w, b[0]);
			} else {
				buf_unref(got);
				got = NULL;
				start_in(&w, a[0], PIPE_BYTES);
			}
		}
		k = recv(b[1], block, 1 + read_so_far % sizeof(block), MSG_DONTWAIT);
		for (ssize_t i = 0; i < k; i++)
			cr_assert_eq(block[i], pattern(read_so_far + (size_t)i));
		read_so_far += k > 0 ? (size_t)k : 0;
	}
	cr_assert_eq(read_so_far, MUCH);
	cr_expect_eq(relayed, MUCH);
	cr_expect_eq(engine_stats(w.e)->spliced, MUCH);
	cr_expect_eq(pipes.n_open, 1);
	engine_cancel(w.e, &in.op);
	turn_until(&w, &in.times, ins + 1);
	engine_close(w.e, a[0]);
	engine_close(w.e, b[0]);
	close(a[1]);
	close(b[1]);
	pipe_world_close(&w);
}

BOTH_ENGINES(nothing_goes_to_a_kernel_thread)
{
	struct world w;
	int          a[2], before = count_dir("/proc/self/task");

	pipe_world(&w, kind, 1);
	tcp_pair(a);
	engine_side(&w, a[0]);
	start_in(&w, a[0], 100);
	say(a[1], "x");
	turn_until(&w, &in.times, 1);
	buf_unref(got);
	cr_expect_eq(count_dir("/proc/self/task"), before);
	engine_close(w.e, a[0]);
	close(a[1]);
	pipe_world_close(&w);
}
