/* The engine at its worst keeps its contract. */
#include "test_engine.h"

#include <signal.h>

#include "sidecar/io/engine_hostile.h"

enum { PATTERN = 1 << 18, BUFS = 64 };

static const struct engine_hostility rough = { .seed = 1, .split = 300, .delay = 300 };

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
