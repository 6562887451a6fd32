/* The engine at its worst keeps its contract. */
#include "test_engine.h"

#include <signal.h>

#include "sidecar/io/engine_hostile.h"

enum { PATTERN = 1 << 18, BUFS = 64 };

static const struct engine_hostility rough = { .seed = 1, .split = 900, .delay = 300 };

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 131 ^ i >> 8);
}

BOTH_ENGINES(bytes_keep_their_order_in_pieces_and_with_delays)
{
	static uint8_t     data[PATTERN], got[PATTERN + BUF_LARGE_SIZE];
	static struct seen rx, tx;
	struct iovec       iov = { data, PATTERN };
	struct world       w;
	int                fds[2], ones = 0;

	for (size_t i = 0; i < PATTERN; i++)
		data[i] = pattern(i);
	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &rough), 0);
	tcp_pair(fds);
	engine_op_init(&rx.op, on_received);
	engine_op_init(&tx.op, on_seen);
	rx.into = got;
	engine_send(w.e, &tx.op, fds[1], &iov, 1);
	while (rx.n < PATTERN) {
		int before = rx.times;

		engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
		turn_until(&w, &rx.times, before + 1);
		cr_assert_gt(rx.res, 0);
		ones += rx.res < 8;
	}
	turn_until(&w, &tx.times, 1);
	cr_assert_eq(tx.res, PATTERN);
	cr_assert_eq(rx.n, PATTERN);
	cr_assert_eq(memcmp(got, data, PATTERN), 0);
	cr_assert_gt(ones, 100, "it was hostile");
	engine_close(w.e, fds[0]);
	engine_close(w.e, fds[1]);
	world_close(&w);
}

/* Both sides on the engine: each byte comes back, one by one in the extreme. */
BOTH_ENGINES(everything_in_single_bytes_and_late_still_ends)
{
	static const struct engine_hostility worst = { .seed = 2, .split = 1000, .split_max = 1, .delay = 1000,
		                                       .delay_max = 3 };
	static struct seen                   rx, tx;
	static uint8_t                       got[256];
	struct iovec                         iov = { (void *)(uintptr_t)"0123456789abcdefghijklmnopqrstuvwxyz", 36 };
	struct world                         w;
	int                                  fds[2];

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &worst), 0);
	pair(fds);
	engine_op_init(&rx.op, on_received);
	engine_op_init(&tx.op, on_seen);
	rx.into = got;
	engine_send(w.e, &tx.op, fds[1], &iov, 1);
	turn_until(&w, &tx.times, 1);
	shutdown(fds[1], SHUT_WR);
	for (int i = 1; rx.res > 0 || i == 1; i++) {
		engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
		turn_until(&w, &rx.times, i);
	}
	cr_assert_eq(rx.res, 0, "the FIN comes last");
	cr_assert_eq(rx.n, 36);
	cr_assert_eq(rx.times, 37);
	cr_assert_eq(memcmp(got, iov.iov_base, 36), 0);
	engine_close(w.e, fds[0]);
	engine_close(w.e, fds[1]);
	world_close(&w);
}

BOTH_ENGINES(injected_errors_end_the_connection_for_both_sides_and_nothing_leaks)
{
	static const struct engine_hostility breaking = { .seed = 3, .split = 200, .delay = 200, .error = 100 };
	static struct seen                   rx, tx;
	static uint8_t                       data[5000];
	struct iovec                         iov = { data, sizeof(data) };
	struct world                         w;
	int                                  broken = 0;

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &breaking), 0);
	for (int i = 0; i < 300; i++) {
		int fds[2];

		tcp_pair(fds);
		memset(&rx, 0, sizeof(rx));
		memset(&tx, 0, sizeof(tx));
		engine_op_init(&rx.op, on_received);
		engine_op_init(&tx.op, on_seen);
		engine_send(w.e, &tx.op, fds[1], &iov, 1);
		while (rx.n < sizeof(data) && rx.res >= 0) {
			int before = rx.times;

			engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
			turn_until(&w, &rx.times, before + 1);
			if (rx.res == 0)
				break; /* the sender was broken */
		}
		turn_until(&w, &tx.times, 1);
		broken += rx.res <= 0 || tx.res < 0;
		engine_close(w.e, fds[0]);
		engine_close(w.e, fds[1]);
	}
	cr_assert_gt(broken, 20);
	cr_assert_lt(broken, 300);
	world_close(&w);
}

BOTH_ENGINES(a_late_completion_cannot_be_cancelled_away)
{
	static const struct engine_hostility late = { .seed = 4, .delay = 1000, .delay_max = 50 };
	static struct seen                   rx;
	struct world                         w;
	int                                  fds[2];

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &late), 0);
	pair(fds);
	cr_assert_eq(write(fds[1], "abc", 3), 3);
	engine_op_init(&rx.op, on_received);
	engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
	engine_turn(w.e, 0);
	engine_turn(w.e, 0);
	engine_cancel(w.e, &rx.op);
	turn_until(&w, &rx.times, 1);
	turn_for(&w, 5);
	cr_assert_eq(rx.times, 1);
	cr_assert_eq(rx.n, 3, "what has arrived is told");
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

/* --- sends */

/* The peer reads what is there after each turn; how many times there was something. */
static int read_in_turns(struct world *w, int fd, uint8_t *into, size_t n, const int *sent)
{
	int    pieces = 0;
	size_t at = 0;

	for (int i = 0; i < 5000 && at < n; i++) {
		ssize_t r = recv(fd, into + at, n - at, MSG_DONTWAIT);

		if (r > 0) {
			cr_assert(at + (size_t)r == n || *sent == 0, "told before all had left");
			at += (size_t)r;
			pieces++;
		}
		engine_turn(w->e, clock_ns() + MS);
	}
	cr_assert_eq(at, n);
	return pieces;
}

BOTH_ENGINES(a_send_in_pieces_is_a_prefix_at_any_time_and_told_once_all_has_left)
{
	static const struct engine_hostility short_sends = { .seed = 5, .split = 900, .split_max = 20 };
	static uint8_t                       data[600], got[600];
	struct iovec                         iov[3] = { { data, 1 }, { data + 1, 399 }, { data + 400, 200 } };
	static struct seen                   tx;
	struct world                         w;
	int                                  fds[2];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = pattern(i);
	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &short_sends), 0);
	pair(fds);
	engine_op_init(&tx.op, on_seen);
	engine_send(w.e, &tx.op, fds[0], iov, 3);
	cr_assert_gt(read_in_turns(&w, fds[1], got, sizeof(got), &tx.times), 3, "in pieces");
	cr_assert_eq(memcmp(got, data, sizeof(data)), 0);
	turn_until(&w, &tx.times, 1);
	cr_assert_eq(tx.res, sizeof(data));
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

BOTH_ENGINES(a_send_that_is_cancelled_between_its_pieces_completes_once)
{
	static const struct engine_hostility short_sends = { .seed = 6, .split = 1000, .split_max = 1 };
	static uint8_t                       data[3000];
	struct iovec                         iov = { data, sizeof(data) };
	static struct seen                   tx;
	struct world                         w;
	int                                  fds[2];

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &short_sends), 0);
	pair(fds);
	engine_op_init(&tx.op, on_seen);
	engine_send(w.e, &tx.op, fds[0], &iov, 1);
	for (int i = 0; i < 10; i++)
		engine_turn(w.e, 0);
	cr_assert_eq(tx.times, 0);
	engine_cancel(w.e, &tx.op);
	turn_until(&w, &tx.times, 1);
	cr_assert_eq(tx.res, -ECANCELED);
	turn_for(&w, 5);
	cr_assert_eq(tx.times, 1);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

/* What the peer said before is the answer that tells why: it must not get lost with the send. */
BOTH_ENGINES(a_send_that_fails_leaves_what_was_received_in_pieces)
{
	static const struct engine_hostility pieces = { .seed = 7, .split = 1000, .split_max = 3 };
	static uint8_t                       got[64], zeros[64];
	struct iovec                         iov = { zeros, sizeof(zeros) };
	static struct seen                   rx, tx;
	struct world                         w;
	int                                  fds[2];

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &pieces), 0);
	pair(fds);
	cr_assert_eq(write(fds[1], "413 Content Too Large", 21), 21);
	engine_op_init(&rx.op, on_received);
	engine_op_init(&tx.op, on_seen);
	rx.into = got;
	engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
	turn_until(&w, &rx.times, 1);
	cr_assert_lt(rx.n, 21);
	close(fds[1]);
	engine_send(w.e, &tx.op, fds[0], &iov, 1);
	turn_until(&w, &tx.times, 1);
	cr_assert_lt(tx.res, 0);
	for (int i = 2; rx.res > 0; i++) {
		engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
		turn_until(&w, &rx.times, i);
	}
	cr_assert_eq(rx.n, 21);
	cr_assert_eq(memcmp(got, "413 Content Too Large", 21), 0);
	engine_close(w.e, fds[0]);
	world_close(&w);
}

BOTH_ENGINES(an_injected_error_of_a_send_leaves_what_was_received_in_pieces)
{
	static const struct engine_hostility pieces = { .seed = 8, .split = 1000, .split_max = 1, .error = 15 };
	struct world                         w;
	int                                  both = 0;

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &pieces), 0);
	for (int round = 0; round < 100; round++) {
		static struct seen rx, tx;
		struct iovec       iov = { (void *)(uintptr_t)"0123456789", 10 };
		int                fds[2];

		memset(&rx, 0, sizeof(rx));
		memset(&tx, 0, sizeof(tx));
		engine_op_init(&rx.op, on_received);
		engine_op_init(&tx.op, on_seen);
		pair(fds);
		cr_assert_eq(write(fds[1], "0123456789", 10), 10);
		engine_send(w.e, &tx.op, fds[0], &iov, 1);
		for (int i = 1; i == 1 || rx.res > 0; i++) {
			engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
			turn_until(&w, &rx.times, i);
			if (rx.n == 10)
				break; /* nobody closes */
		}
		turn_until(&w, &tx.times, 1);
		/* either its own receive failed, or it had all */
		cr_assert(rx.res == -ECONNRESET || rx.n == 10, "%d after %zu", rx.res, rx.n);
		both += tx.res < 0 && rx.n == 10;
		engine_close(w.e, fds[0]);
		close(fds[1]);
	}
	cr_assert_gt(both, 2, "it happened");
	world_close(&w);
}

/* --- accepts, buffers */

BOTH_ENGINES(every_connection_is_accepted_though_late_and_none_after_the_end)
{
	static const struct engine_hostility late = { .seed = 9, .delay = 700, .delay_max = 20 };
	enum { N = 40 };
	struct sock_addr   addr;
	struct world       w;
	static struct seen acc;
	int                lfd, out[N];

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &late), 0);
	lfd = listener(&addr, 64);
	engine_op_init(&acc.op, on_seen);
	engine_accept(w.e, &acc.op, lfd);
	for (int i = 0; i < N; i++) {
		cr_assert_eq(sock_open(AF_INET, &out[i]), 0);
		cr_assert_eq(connect(out[i], &addr.any, addr.len), 0);
		engine_turn(w.e, clock_ns() + MS);
		if (i == N / 2)
			turn_until(&w, &acc.n_fds, N / 4);
	}
	for (int i = 0; i < 3; i++)
		engine_turn(w.e, clock_ns() + MS);
	engine_cancel(w.e, &acc.op);
	turn_until(&w, &acc.times, 1);
	cr_assert_eq(acc.res, -ECANCELED);
	cr_assert_eq(acc.n_fds, N, "%d", acc.n_fds);
	for (int i = 0; i < N; i++) {
		close(out[i]);
		engine_close(w.e, acc.fds[i]);
	}
	engine_close(w.e, lfd);
	world_close(&w);
}

BOTH_ENGINES(receives_that_must_wait_for_a_buffer_get_it)
{
	static const struct engine_hostility hungry = { .seed = 10, .starve = 1000 };
	static struct seen                   rx;
	struct world                         w;
	int                                  fds[2];

	world_open(&w, kind);
	cr_assert_eq(engine_make_hostile(w.e, &hungry), 0);
	pair(fds);
	engine_op_init(&rx.op, on_received);
	for (int i = 1; i <= 20; i++) {
		engine_recv(w.e, &rx.op, fds[0], i % 2 ? BUF_SMALL : BUF_LARGE);
		cr_assert_eq(write(fds[1], "abc", 3), 3);
		turn_until(&w, &rx.times, i);
		cr_assert_eq(rx.n, (size_t)i * 3);
	}
	cr_assert_eq(engine_stats(w.e)->starved, 20);
	engine_close(w.e, fds[0]);
	close(fds[1]);
	world_close(&w);
}

/* One connection is slowed down; what the other draws stays the same. */
BOTH_ENGINES(the_same_seed_is_the_same_hostility_whatever_the_others_do)
{
	static const struct engine_hostility how = { .seed = 11, .split = 600, .split_max = 9 };
	int                                  sizes[2][64] = { 0 }, n[2] = { 0 };

	for (int round = 0; round < 2; round++) {
		static struct seen rx, other;
		static uint8_t     bytes[200], into[400];
		struct world       w;
		int                fds[2], more[2];

		memset(&rx, 0, sizeof(rx));
		memset(&other, 0, sizeof(other));
		rx.into = into;
		engine_op_init(&rx.op, on_received);
		engine_op_init(&other.op, on_received);
		world_open(&w, kind);
		cr_assert_eq(engine_make_hostile(w.e, &how), 0);
		pair(fds);
		pair(more);
		cr_assert_eq(write(fds[1], bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
		for (int i = 1; rx.n < sizeof(bytes); i++) {
			engine_recv(w.e, &rx.op, fds[0], BUF_SMALL);
			turn_until(&w, &rx.times, i);
			cr_assert_lt(n[round], 64);
			sizes[round][n[round]++] = rx.res;
			if (round == 1 && i < 10) {
				cr_assert_eq(write(more[1], bytes, 50), 50);
				engine_recv(w.e, &other.op, more[0], BUF_SMALL);
				turn_until(&w, &other.times, i);
			}
		}
		engine_close(w.e, fds[0]);
		engine_close(w.e, more[0]);
		close(fds[1]);
		close(more[1]);
		world_close(&w);
	}
	cr_assert_gt(n[0], 3);
	cr_assert_eq(n[0], n[1]);
	cr_assert_eq(memcmp(sizes[0], sizes[1], sizeof(sizes[0])), 0);
}
