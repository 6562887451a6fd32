#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/relay.h"

#define ENTRIES 4096
#define BATCH   256

/* One direction: one operation at a time, recv or send. */
struct way {
	struct pair *pair;
	int from, to;
	size_t off, len; /* unsent bytes */
	bool sending, ended;
	char *buf;
};

struct pair {
	struct way way[2];
	unsigned pending; /* operations in the ring */
	bool closing;
};

static struct io_uring ring;
static const struct relay_opt *opt;

static struct io_uring_sqe *sqe_get(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	if (!sqe)
		die("io_uring: no entry free");
	return sqe;
}

static void receive(struct way *w)
{
	struct io_uring_sqe *sqe = sqe_get();

	w->sending = false;
	io_uring_prep_recv(sqe, w->from, w->buf, opt->buffer, 0);
	io_uring_sqe_set_data(sqe, w);
	w->pair->pending++;
}

static void transmit(struct way *w)
{
	struct io_uring_sqe *sqe = sqe_get();

	w->sending = true;
	io_uring_prep_send(sqe, w->to, w->buf + w->off, w->len, MSG_NOSIGNAL | MSG_WAITALL);
	io_uring_sqe_set_data(sqe, w);
	w->pair->pending++;
}

static void begin(int down)
{
	struct pair *p = calloc(1, sizeof(*p) + 2 * opt->buffer);
	int up = connect_to(&opt->to);

	if (!p)
		die("out of memory");
	p->way[0] = (struct way){ .pair = p, .from = down, .to = up, .buf = (char *)(p + 1) };
	p->way[1] = (struct way){ .pair = p, .from = up, .to = down,
		                  .buf = (char *)(p + 1) + opt->buffer };
	receive(&p->way[0]);
	receive(&p->way[1]);
}

/* Both ways end together: shutdown makes what is in the ring complete. */
static void finish(struct pair *p)
{
	if (!p->closing) {
		p->closing = true;
		if (p->pending) {
			shutdown(p->way[0].from, SHUT_RDWR);
			shutdown(p->way[0].to, SHUT_RDWR);
		}
	}
	if (p->pending)
		return;
	close(p->way[0].from);
	close(p->way[0].to);
	free(p);
}

static void done(struct way *w, int res)
{
	struct pair *p = w->pair;

	p->pending--;
	if (p->closing || res < 0) {
		finish(p);
	} else if (!w->sending && res == 0) {
		w->ended = true;
		shutdown(w->to, SHUT_WR);
		if (p->way[0].ended && p->way[1].ended)
			finish(p);
	} else if (!w->sending) {
		w->off = 0;
		w->len = (size_t)res;
		transmit(w);
	} else {
		w->off += (size_t)res;
		w->len -= (size_t)res;
		if (w->len)
			transmit(w);
		else
			receive(w);
	}
}

static void set_up(void)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = 4 * ENTRIES,
	};
	int rc = io_uring_queue_init_params(ENTRIES, &ring, &params);

	if (rc)
		die("io_uring: %s", strerror(-rc));
	rc = io_uring_register_ring_fd(&ring);
	if (rc < 0)
		die("io_uring: %s", strerror(-rc));
}

static void take_in(int listener)
{
	struct io_uring_sqe *sqe = sqe_get();

	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, NULL);
}

_Noreturn void relay_uring(const struct relay_opt *how)
{
	int listener = listen_on(&how->from);

	opt = how;
	set_up();
	take_in(listener);
	for (;;) {
		struct io_uring_cqe *cqe[BATCH];
		int rc = io_uring_submit_and_wait(&ring, 1);
		unsigned n;

		if (rc < 0 && rc != -EINTR)
			die("io_uring_enter: %s", strerror(-rc));
		n = io_uring_peek_batch_cqe(&ring, cqe, BATCH);
		for (unsigned i = 0; i < n; i++) {
			struct way *w = io_uring_cqe_get_data(cqe[i]);

			if (w)
				done(w, cqe[i]->res);
			else if (cqe[i]->res >= 0)
				begin(cqe[i]->res);
			if (!w && !(cqe[i]->flags & IORING_CQE_F_MORE))
				take_in(listener);
		}
		io_uring_cq_advance(&ring, n);
	}
}
