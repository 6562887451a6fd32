/* What both backends share: the verbs, operations that wait for something, the turn. */
#include "sidecar/io/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sidecar/base/pipe.h"
#include "sidecar/io/engine_impl.h"

enum {
	DEFER_ROUNDS = 8, /* passes over what is deferred while deferred work runs */
	AFTER_ROUNDS = 4, /* deferred work and, on epoll, what it started, in turns */
	RESERVE_SHARE = 8, /* receives leave 1/8 of a class to the senders */
};

/* --- life */

static int open_uring(struct engine *e, const struct engine_conf *conf, char *reason)
{
	const struct timespec pause = { .tv_nsec = 20 * (long)NS_PER_MS };
	int                   rc = uring_init(e, conf, reason);

	/* The locked memory of a worker that has just died comes back some milliseconds later. */
	if (rc == -ENOMEM) {
		nanosleep(&pause, NULL);
		rc = uring_init(e, conf, reason);
	}
	return rc;
}

static int open_backend(struct engine *e, const struct engine_conf *conf, char *reason)
{
	int rc;

	if (conf->kind != ENGINE_EPOLL) {
		e->kind = ENGINE_URING;
		rc = open_uring(e, conf, reason);
		/* Any error, not a list of errors: filters answer as they like. */
		if (rc == 0 || conf->kind == ENGINE_URING)
			return rc;
	}
	e->kind = ENGINE_EPOLL;
	return epoll_init(e, conf);
}

int engine_new(const struct engine_conf *conf, char reason[ENGINE_REASON_MAX],
               struct engine **ret_engine)
{
	char           unread[ENGINE_REASON_MAX];
	struct engine *e = calloc(1, sizeof(*e));
	int            rc;

	if (!reason)
		reason = unread;
	reason[0] = 0;
	if (!e)
		return -ENOMEM;
	assert(conf->bufs);
	e->magic = ENGINE_MAGIC;
	e->bufs = conf->bufs;
	for (int c = 0; c < BUF_CLASSES; c++) {
		e->reserve[c] = conf->bufs->cls[c].count / RESERVE_SHARE;
		list_init(&e->starved[c]);
	}
	list_init(&e->deferred);
	list_init(&e->done);
	list_init(&e->paused);
	e->accept_retry_ns = UINT64_MAX;
	e->now_ns = clock_ns();
	rc = open_backend(e, conf, reason);
	if (rc) {
		free(e);
		return rc;
	}
	*ret_engine = e;
	return 0;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	OBJ_CHECK(e, ENGINE_MAGIC);
	assert(e->in_flight == 0);
	while (!list_empty(&e->deferred))
		list_pop_front(&e->deferred);
	if (e->hostile)
		hostile_fini(e);
	if (e->kind == ENGINE_URING)
		uring_fini(e);
	else
		epoll_fini(e);
	e->magic = 0;
	free(e);
}

const char *engine_name(const struct engine *e)
{
	return e->kind == ENGINE_URING ? "io_uring" : "epoll";
}

const struct engine_stats *engine_stats(const struct engine *e)
{
	return &e->stats;
}

uint32_t engine_in_flight(const struct engine *e)
{
	return e->in_flight;
}

struct buf_pool *engine_bufs(const struct engine *e)
{
	return e->bufs;
}

uint64_t engine_now(const struct engine *e)
{
	return e->now_ns;
}

/* --- for the backends */

void op_complete_later(struct engine *e, struct engine_op *op, int res)
{
	assert(op->kind != OP_IDLE && !(op->flags & OP_DONE));
	op->res = res;
	op->flags |= OP_DONE;
	list_push_back(&e->done, &op->link);
}

void op_starve(struct engine *e, struct engine_op *op)
{
	op->flags |= OP_STARVED;
	list_push_back(&e->starved[op->cls], &op->link);
	e->stats.starved++;
}

void op_pause(struct engine *e, struct engine_op *op)
{
	if (list_empty(&e->paused))
		e->accept_retry_ns = e->now_ns + ENGINE_ACCEPT_RETRY_NS;
	op->flags |= OP_PAUSED;
	list_push_back(&e->paused, &op->link);
	e->stats.accept_paused++;
}

bool accept_is_limit(int res)
{
	return res == -EMFILE || res == -ENFILE || res == -ENOBUFS || res == -ENOMEM;
}

bool accept_is_noise(int res)
{
	switch (-res) {
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EAGAIN:
	case EINTR:
		return true;
	default:
		return false;
	}
}

int watch_result(int fd)
{
	int       err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		return -errno;
	return -err;
}

bool wake_read(struct engine_op *op)
{
	uint64_t count;

	if (read(op->fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return false;
	op->count = count;
	return true;
}

/* Filters and kinds of sockets that know no splice(2): the bytes are still in the socket. */
static bool is_unable(int err)
{
	return err == EINVAL || err == ENOSYS || err == EPERM || err == EACCES || err == EOPNOTSUPP;
}

int pipe_fill(struct engine *e, struct engine_op *op)
{
	struct pipe_pool *pool = e->bufs->pipes;
	struct buf       *b = pipe_get(pool);
	ssize_t           n;
	int               err;

	if (!b)
		return -ENOBUFS;
	do {
		e->stats.calls++;
		n = splice(op->fd, NULL, pipe_of(b)->wr, NULL, op->max, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		e->stats.spliced += (uint64_t)n;
		b->len = (uint32_t)n;
		op->buf = b;
		return (int)n;
	}
	err = n < 0 ? errno : 0;
	buf_unref(b);
	if (!is_unable(err))
		return -err;
	pipe_refuse(pool);
	return -ENOBUFS;
}

int pipe_drain(struct engine *e, struct engine_op *op)
{
	struct buf *b = op->buf;
	ssize_t     n;

	do {
		e->stats.calls++;
		n = splice(pipe_of(b)->rd, NULL, op->fd, NULL, b->len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	b->len -= (uint32_t)n;
	return (int)n;
}

struct send_rest send_rest(struct engine *e, const struct engine_op *op)
{
	const struct iovec *iov = op->tx.iov;
	unsigned            n = op->n_iov;
	size_t              skip = op->tx.done, cut;

	for (; skip >= iov->iov_len; iov++, n--)
		skip -= iov->iov_len;
	if (__builtin_expect(e->hostile != NULL, 0) && (cut = hostile_cut(e, op, iov->iov_len - skip)))
		return (struct send_rest){ .p = (uint8_t *)iov->iov_base + skip, .n = cut };
	if (skip || n == 1)
		return (struct send_rest){ .p = (uint8_t *)iov->iov_base + skip,
			                   .n = iov->iov_len - skip };
	return (struct send_rest){ .iov = iov, .n_iov = n };
}

/* --- verbs */

void engine_accept(struct engine *e, struct engine_op *op, int listen_fd)
{
	op_start(e, op, OP_ACCEPT, listen_fd);
	op->more = 1;
	if (e->kind == ENGINE_URING)
		uring_accept(e, op);
	else
		epoll_accept_start(e, op);
}

void engine_connect(struct engine *e, struct engine_op *op, int fd, const struct sockaddr *addr,
                    socklen_t len)
{
	assert(len <= sizeof(struct sockaddr_storage));
	op_start(e, op, OP_CONNECT, fd);
	if (e->kind == ENGINE_URING)
		uring_connect(e, op, addr, len);
	else
		epoll_connect(e, op, addr, len);
}

void engine_recv(struct engine *e, struct engine_op *op, int fd, enum buf_class cls)
{
	assert(cls < BUF_CLASSES);
	op_start(e, op, OP_RECV, fd);
	op->cls = (uint8_t)cls;
	op->buf = NULL;
	if (__builtin_expect(e->hostile != NULL, 0) && hostile_recv(e, op))
		return;
	if (e->kind == ENGINE_URING)
		uring_recv(e, op);
	else
		epoll_recv(e, op);
}

void engine_send(struct engine *e, struct engine_op *op, int fd, const struct iovec *iov, unsigned n)
{
	size_t total = 0;

	assert(n >= 1 && n <= ENGINE_IOV_MAX);
	for (unsigned i = 0; i < n; i++)
		total += iov[i].iov_len;
	assert(total >= 1 && total <= INT_MAX);
	op_start(e, op, OP_SEND, fd);
	op->n_iov = (uint16_t)n;
	op->tx.iov = iov;
	op->tx.total = (uint32_t)total;
	op->tx.done = 0;
	if (e->kind == ENGINE_URING)
		uring_send(e, op);
	else
		epoll_send(e, op);
}

void engine_recv_pipe(struct engine *e, struct engine_op *op, int fd, enum buf_class cls, uint32_t max)
{
	assert(cls < BUF_CLASSES && max >= 1);
	op_start(e, op, OP_PIPE_IN, fd);
	op->cls = (uint8_t)cls;
	op->buf = NULL;
	op->max = max;
	if (__builtin_expect(e->hostile != NULL, 0)) {
		op->kind = OP_RECV; /* what it makes of it is a receive */
		if (hostile_recv(e, op))
			return;
		op->kind = OP_PIPE_IN;
	}
	if (e->kind == ENGINE_URING)
		uring_pipe_in(e, op);
	else
		epoll_recv(e, op);
}

void engine_send_pipe(struct engine *e, struct engine_op *op, int fd, struct buf *pipe)
{
	assert(pipe->cls == BUF_PIPE && pipe->len >= 1);
	op_start(e, op, OP_PIPE_OUT, fd);
	op->buf = pipe;
	if (e->kind == ENGINE_URING)
		uring_pipe_out(e, op);
	else
		epoll_send(e, op);
}

void engine_watch(struct engine *e, struct engine_op *op, int fd)
{
	op_start(e, op, OP_WATCH, fd);
	if (e->kind == ENGINE_URING)
		uring_poll(e, op);
	else
		epoll_watch(e, op);
}

static void start_poll(struct engine *e, struct engine_op *op)
{
	if (e->kind == ENGINE_URING)
		uring_poll(e, op);
	else
		epoll_poll(e, op);
}

void engine_poll(struct engine *e, struct engine_op *op, int fd, short events)
{
	assert(events == POLLIN || events == POLLOUT);
	op_start(e, op, OP_POLL, fd);
	op->events = events;
	start_poll(e, op);
}

void engine_wake(struct engine *e, struct engine_op *op, int event_fd)
{
	op_start(e, op, OP_WAKE, event_fd);
	op->count = 0;
	start_poll(e, op);
}

void engine_cancel(struct engine *e, struct engine_op *op)
{
	if (op->kind == OP_IDLE || op->flags & (OP_CANCELLED | OP_DONE))
		return;
	op->flags |= OP_CANCELLED;
	/* Waiting on a list of ours, nobody else knows of it. */
	if (op->flags & (OP_STARVED | OP_PAUSED)) {
		list_remove(&op->link);
		op->flags &= (uint8_t)~(OP_STARVED | OP_PAUSED);
		op_complete_later(e, op, -ECANCELED);
		return;
	}
	if (e->kind == ENGINE_URING)
		uring_cancel(e, op);
	else
		epoll_cancel(e, op);
}

void engine_forget(struct engine *e, int fd)
{
	OBJ_CHECK(e, ENGINE_MAGIC);
	if (e->hostile)
		hostile_forget(e, fd);
	if (e->kind == ENGINE_EPOLL)
		epoll_forget(e, fd);
}

void engine_close(struct engine *e, int fd)
{
	engine_forget(e, fd);
	close(fd);
	/* A descriptor is free again: so may be an accept. */
	if (!list_empty(&e->paused))
		e->accept_retry_ns = 0;
}

void engine_defer(struct engine *e, struct engine_deferred *d)
{
	assert(d->fn);
	if (!list_linked(&d->node))
		list_push_back(&e->deferred, &d->node);
}

void engine_undefer(struct engine_deferred *d)
{
	list_remove(&d->node);
}

/* --- the turn */

static void run_deferred(struct engine *e)
{
	for (int round = 0; round < DEFER_ROUNDS && !list_empty(&e->deferred); round++) {
		struct list       now;
		struct list_node *n;

		/* What is deferred meanwhile is for the next round, or two could play for ever. */
		list_init(&now);
		list_splice_back(&now, &e->deferred);
		while ((n = list_pop_front(&now))) {
			struct engine_deferred *d =
				LIST_ENTRY(n, struct engine_deferred, node);

			d->fn(d->arg);
		}
	}
}

/* Tells results that were known at once; those that come up meanwhile are for the next call. */
static int run_done(struct engine *e)
{
	struct list       now;
	struct list_node *node;
	int               n = 0;

	if (list_empty(&e->done))
		return 0;
	list_init(&now);
	list_splice_back(&now, &e->done);
	while ((node = list_pop_front(&now))) {
		struct engine_op *op = LIST_ENTRY(node, struct engine_op, link);

		op->flags &= (uint8_t)~OP_DONE;
		op->more = 0;
		op_complete(e, op, op->res);
		n++;
	}
	return n;
}

/* Accepts that met a limit: again, all of them. */
static void resume_accepts(struct engine *e)
{
	struct list       now;
	struct list_node *n;

	if (e->now_ns < e->accept_retry_ns)
		return;
	e->accept_retry_ns = UINT64_MAX;
	list_init(&now);
	list_splice_back(&now, &e->paused);
	while ((n = list_pop_front(&now))) {
		struct engine_op *op = LIST_ENTRY(n, struct engine_op, link);

		op->flags &= (uint8_t)~OP_PAUSED;
		if (e->kind == ENGINE_URING)
			uring_accept(e, op);
		else
			epoll_accept_start(e, op);
	}
}

static uint64_t bounded(const struct engine *e, uint64_t deadline_ns)
{
	uint64_t longest = e->now_ns + ENGINE_WAIT_MAX_NS;

	if (deadline_ns > longest)
		deadline_ns = longest;
	if (deadline_ns > e->accept_retry_ns)
		deadline_ns = e->accept_retry_ns;
	return deadline_ns;
}

/*
 * The end of the turn.  On io_uring what was started leaves with the next turn's only system call; on epoll it is
 * tried here, and may complete and defer something else.
 */
static int after_dispatch(struct engine *e)
{
	int n = 0;

	for (int round = 0; round < AFTER_ROUNDS; round++) {
		if (!list_empty(&e->deferred))
			run_deferred(e);
		if (e->kind == ENGINE_URING || list_empty(&e->p.tries))
			break;
		n += epoll_run_tries(e);
	}
	return n;
}

int engine_turn(struct engine *e, uint64_t deadline_ns)
{
	bool held = false;
	int  n, more;

	OBJ_CHECK(e, ENGINE_MAGIC);
	e->stats.turns++;
	if (!list_empty(&e->deferred))
		run_deferred(e);
	if (e->accept_retry_ns != UINT64_MAX)
		resume_accepts(e);
	n = run_done(e);
	if (__builtin_expect(e->hostile != NULL, 0))
		n += hostile_turn(e, &held);
	deadline_ns = bounded(e, deadline_ns);
	if (n || held || !list_empty(&e->done) || !list_empty(&e->deferred))
		deadline_ns = 0;
	more = e->kind == ENGINE_URING ? uring_turn(e, deadline_ns) : epoll_turn(e, deadline_ns);
	if (more < 0)
		return more;
	n += more;
	return n + after_dispatch(e);
}
