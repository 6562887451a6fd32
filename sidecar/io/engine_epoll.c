/*
 * The epoll backend: edge-triggered, one record per descriptor.
 *
 * An operation is tried before anybody waits for it (the kernel's io_uring does the same); only when there is
 * nothing to be had it is parked in the descriptor's record, and only then the descriptor is registered, once
 * for its life.  Writability is registered when it is first missed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sidecar/io/engine_impl.h"

enum {
	FDS_MAX = 1 << 20,
	ACCEPT_BURST = 32, /* connections of one try, then the others have their turn */
};

enum fdrec_flag {
	FDREC_DRY = 1, /* there was nothing to read: wait for an event */
	FDREC_HUP = 2, /* the peer has hung up, or failed: reads and watches need no event */
	FDREC_FOREIGN = 4, /* somebody else reads: level-triggered, one event per request */
	FDREC_SHARED = 8, /* other processes have it as well: close(2) alone does not unregister it */
};

/* --- set-up */

int epoll_init(struct engine *e, const struct engine_conf *conf)
{
	struct epoller *p = &e->p;
	struct rlimit   lim;
	uint64_t        max = conf->max_fds;
	void           *mem;

	memset(p, 0, sizeof(*p));
	if (max == 0)
		max = getrlimit(RLIMIT_NOFILE, &lim) == 0 ? lim.rlim_max : FDS_MAX;
	p->max_fds = max < FDS_MAX ? (uint32_t)max : FDS_MAX;
	list_init(&p->tries);
	/* Touched only as far as descriptor numbers go. */
	mem = mmap(NULL, p->max_fds * sizeof(*p->recs), PROT_READ | PROT_WRITE,
	           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		return -ENOMEM;
	p->recs = mem;
	p->fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->fd < 0) {
		int rc = -errno;

		munmap(mem, p->max_fds * sizeof(*p->recs));
		return rc;
	}
	return 0;
}

void epoll_fini(struct engine *e)
{
	munmap(e->p.recs, e->p.max_fds * sizeof(*e->p.recs));
	close(e->p.fd);
}

/* NULL: the number is beyond the table, and the operation has its error. */
static struct fdrec *rec_for(struct engine *e, struct engine_op *op)
{
	if ((uint32_t)op->fd < e->p.max_fds)
		return &e->p.recs[op->fd];
	op_complete_later(e, op, -EMFILE);
	return NULL;
}

/* --- registering */

static int control(struct engine *e, int fd, struct fdrec *r, uint32_t events)
{
	struct epoll_event ev = { .events = events,
		                  .data.u64 = (uint64_t)r->gen << 32 | (uint32_t)fd };
	int                ctl = r->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int                rc;

	e->stats.calls++;
	rc = epoll_ctl(e->p.fd, ctl, fd, &ev);
	/* A foreign descriptor may have been closed, and made anew, behind our back. */
	if (rc != 0 && (errno == ENOENT || errno == EEXIST)) {
		ctl = errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
		rc = epoll_ctl(e->p.fd, ctl, fd, &ev);
	}
	return rc ? -errno : 0;
}

/* What is missed from now on will be told.  Registering reports what is already there. */
static int ensure(struct engine *e, int fd, struct fdrec *r, uint8_t want)
{
	uint8_t  armed = r->armed | want | EPOLLIN;
	uint32_t events = EPOLLRDHUP | EPOLLET;
	int      rc;

	_Static_assert((EPOLLIN | EPOLLOUT) < 256, "both fit ->armed");
	if (armed == r->armed)
		return 0;
	rc = control(e, fd, r, events | armed);
	if (rc == 0)
		r->armed = armed;
	return rc;
}

/* Level-triggered and once: its reader does not tell us when it is dry. */
static int ensure_foreign(struct engine *e, int fd, struct fdrec *r)
{
	uint32_t events = EPOLLONESHOT;
	int      rc;

	if (r->rd)
		events |= EPOLLIN;
	if (r->wr)
		events |= EPOLLOUT;
	rc = control(e, fd, r, events);
	if (rc == 0)
		r->armed = EPOLLIN;
	return rc;
}

static void park(struct engine *e, struct engine_op *op, struct fdrec *r, struct engine_op **place,
                 uint8_t want)
{
	int rc;

	assert(*place == NULL); /* one operation per direction */
	*place = op;
	rc = r->flags & FDREC_FOREIGN ? ensure_foreign(e, op->fd, r) : ensure(e, op->fd, r, want);
	if (rc) {
		*place = NULL;
		op_complete_later(e, op, rc);
	}
}

static void try_later(struct engine *e, struct engine_op *op)
{
	op->flags |= OP_TRY;
	list_push_back(&e->p.tries, &op->link);
}

/* A new descriptor: whatever is left of an earlier owner who did not say goodbye is void. */
static void rec_renew(struct fdrec *r)
{
	if (r->armed || r->flags) {
		assert(!r->rd && !r->wr && !r->watch);
		*r = (struct fdrec){ .gen = r->gen + 1 };
	}
}

/* --- receive */

static void try_recv(struct engine *e, struct engine_op *op, struct fdrec *r)
{
	/* Without a large buffer a small one serves as well. */
	enum buf_class cls = op->cls == BUF_LARGE && may_take(e, BUF_LARGE) ? BUF_LARGE : BUF_SMALL;
	struct buf    *b = may_take(e, cls) ? buf_get(e->bufs, cls) : NULL;
	ssize_t        n;
	int            err;

	if (!b) {
		op_starve(e, op);
		return;
	}
	do {
		e->stats.calls++;
		n = recv(op->fd, b->data, buf_cap(b), MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		/* A short read emptied the socket: what comes later makes a new edge.  Not so for a FIN
		 * whose edge we have seen already. */
		if ((uint32_t)n < buf_cap(b) && !(r->flags & FDREC_HUP))
			r->flags |= FDREC_DRY;
		b->len = (uint32_t)n;
		op->buf = b;
		op_complete(e, op, (int)n);
		return;
	}
	err = n < 0 ? errno : 0;
	buf_unref(b);
	if (err == EAGAIN) {
		r->flags |= FDREC_DRY;
		park(e, op, r, &r->rd, EPOLLIN);
		return;
	}
	op_complete(e, op, -err);
}

static void try_pipe_in(struct engine *e, struct engine_op *op, struct fdrec *r)
{
	int n = pipe_fill(e, op);

	if (n == -ENOBUFS) {
		op->kind = OP_RECV;
		try_recv(e, op, r);
	} else if (n == -EAGAIN) {
		r->flags |= FDREC_DRY;
		park(e, op, r, &r->rd, EPOLLIN);
	} else {
		op_complete(e, op, n);
	}
}

void epoll_recv(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = rec_for(e, op);

	if (!r)
		return;
	assert(!(r->flags & FDREC_FOREIGN));
	if (r->flags & FDREC_DRY)
		park(e, op, r, &r->rd, EPOLLIN);
	else
		try_later(e, op);
}

/* --- send */

static ssize_t send_some(struct engine *e, const struct engine_op *op)
{
	struct send_rest rest = send_rest(e, op);
	struct msghdr    mh = { .msg_iov = (struct iovec *)(uintptr_t)rest.iov,
		                .msg_iovlen = rest.n_iov };

	if (rest.n_iov == 0)
		return send(op->fd, rest.p, rest.n, MSG_DONTWAIT | MSG_NOSIGNAL);
	return sendmsg(op->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void try_send(struct engine *e, struct engine_op *op, struct fdrec *r)
{
	while (op->tx.done < op->tx.total) {
		ssize_t n;

		e->stats.calls++;
		n = send_some(e, op);
		if (n >= 0) {
			op->tx.done += (uint32_t)n;
			if (__builtin_expect(e->hostile != NULL, 0) && op->tx.done < op->tx.total) {
				e->stats.again++;
				try_later(e, op); /* the peer sees the piece by itself */
				return;
			}
		} else if (errno == EAGAIN) {
			e->stats.again++;
			park(e, op, r, &r->wr, EPOLLOUT);
			return;
		} else if (errno != EINTR) {
			op_complete(e, op, -errno);
			return;
		}
	}
	op_complete(e, op, (int)op->tx.total);
}

static void try_pipe_out(struct engine *e, struct engine_op *op, struct fdrec *r)
{
	int n = pipe_drain(e, op);

	if (n == -EAGAIN) {
		e->stats.again++;
		park(e, op, r, &r->wr, EPOLLOUT);
	} else {
		op_complete(e, op, n);
	}
}

void epoll_send(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = rec_for(e, op);

	if (!r)
		return;
	assert(!r->wr && !(r->flags & FDREC_FOREIGN));
	try_later(e, op);
}

/* --- connect */

void epoll_connect(struct engine *e, struct engine_op *op, const struct sockaddr *addr, socklen_t len)
{
	struct fdrec *r = rec_for(e, op);

	if (!r)
		return;
	rec_renew(r);
	e->stats.calls += 2;
	if (fcntl(op->fd, F_SETFL, O_NONBLOCK) != 0 || connect(op->fd, addr, len) != 0) {
		if (errno == EINPROGRESS || errno == EINTR)
			park(e, op, r, &r->wr, EPOLLOUT);
		else /* EAGAIN: a unix socket whose backlog is full (connect(2)) */
			op_complete_later(e, op, errno == EAGAIN ? -ECONNREFUSED : -errno);
		return;
	}
	op_complete_later(e, op, 0);
}

/* --- accept */

void epoll_accept_start(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = rec_for(e, op);

	if (!r)
		return;
	r->flags |= FDREC_SHARED;
	if (fcntl(op->fd, F_SETFL, O_NONBLOCK) != 0)
		op_complete_later(e, op, -errno);
	else
		try_later(e, op);
}

/* One connection; false when the burst is over, with what to do next in *ret_res (0: wait for an event). */
static bool accept_one(struct engine *e, struct engine_op *op, int *ret_res)
{
	int fd = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	e->stats.calls++;
	*ret_res = fd < 0 ? -errno : 0;
	if (fd >= 0) {
		if ((uint32_t)fd < e->p.max_fds)
			rec_renew(&e->p.recs[fd]);
		op_accepted(e, op, fd);
		return !(op->flags & OP_CANCELLED);
	}
	if (*ret_res == -EAGAIN)
		*ret_res = 0;
	else if (accept_is_noise(*ret_res))
		return true;
	return false;
}

static void try_accept(struct engine *e, struct engine_op *op, struct fdrec *r)
{
	int res = 0, left = ACCEPT_BURST;

	op->flags |= OP_RUNNING;
	while (left > 0 && accept_one(e, op, &res))
		left--;
	op->flags &= (uint8_t)~OP_RUNNING;
	if (op->flags & OP_CANCELLED)
		op_complete_later(e, op, -ECANCELED);
	else if (accept_is_limit(res))
		op_pause(e, op);
	else if (res < 0)
		op_complete_later(e, op, res);
	else if (left == 0)
		try_later(e, op);
	else
		park(e, op, r, &r->rd, EPOLLIN);
}

/* --- watch, poll, wake */

void epoll_watch(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = rec_for(e, op);

	if (!r)
		return;
	assert(!(r->flags & FDREC_FOREIGN));
	if (r->flags & FDREC_HUP)
		op_complete_later(e, op, watch_result(op->fd));
	else
		park(e, op, r, &r->watch, EPOLLIN);
}

void epoll_poll(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = rec_for(e, op);

	if (!r)
		return;
	assert(r->armed == 0 || r->flags & FDREC_FOREIGN);
	r->flags |= FDREC_FOREIGN | FDREC_SHARED;
	if (op->kind == OP_POLL && op->events == POLLOUT)
		park(e, op, r, &r->wr, EPOLLOUT);
	else
		park(e, op, r, &r->rd, EPOLLIN);
}

static void foreign_done(struct engine *e, struct engine_op *op, uint32_t events)
{
	if (op->kind == OP_POLL) {
		op_complete(e, op, (int)(events & (POLLIN | POLLOUT | POLLERR | POLLHUP)));
	} else if (wake_read(op)) {
		op_complete(e, op, 0);
	} else {
		e->stats.again++;
		epoll_poll(e, op);
	}
}

static void rearm_foreign(struct engine *e, int fd, struct fdrec *r)
{
	int rc = ensure_foreign(e, fd, r);

	if (rc == 0)
		return;
	if (r->rd)
		op_complete_later(e, r->rd, rc);
	if (r->wr)
		op_complete_later(e, r->wr, rc);
	r->rd = r->wr = NULL;
}

static void foreign_event(struct engine *e, struct fdrec *r, int fd, uint32_t events)
{
	uint32_t          gen = r->gen;
	uint32_t          always = events & (EPOLLERR | EPOLLHUP);
	struct engine_op *rd = events & EPOLLIN || always ? r->rd : NULL;
	struct engine_op *wr = events & EPOLLOUT || always ? r->wr : NULL;

	/* The callback of the first may cancel the second: look again after it. */
	if (rd) {
		r->rd = NULL;
		foreign_done(e, rd, events);
	}
	if (r->gen == gen && wr && r->wr == wr) {
		r->wr = NULL;
		foreign_done(e, wr, events);
	}
	/* One event used the registration up; whoever still waits needs it anew. */
	if (r->gen == gen && (r->rd || r->wr))
		rearm_foreign(e, fd, r);
}

/* --- cancel, close */

void epoll_cancel(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = &e->p.recs[op->fd];

	if (op->flags & OP_RUNNING)
		return; /* try_accept() looks when the callback has returned */
	if (op->flags & OP_TRY) {
		op->flags &= (uint8_t)~OP_TRY;
		list_remove(&op->link);
	} else if (r->rd == op) {
		r->rd = NULL;
	} else if (r->wr == op) {
		r->wr = NULL;
	} else {
		assert(r->watch == op);
		r->watch = NULL;
	}
	op_complete_later(e, op, -ECANCELED);
}

void epoll_forget(struct engine *e, int fd)
{
	struct fdrec *r;

	if (fd < 0 || (uint32_t)fd >= e->p.max_fds)
		return;
	r = &e->p.recs[fd];
	assert(!r->rd && !r->wr && !r->watch);
	if (r->armed && r->flags & FDREC_SHARED) {
		e->stats.calls++;
		(void)epoll_ctl(e->p.fd, EPOLL_CTL_DEL, fd, NULL);
	}
	*r = (struct fdrec){ .gen = r->gen + 1 };
}

/* --- the turn */

static void try_op(struct engine *e, struct engine_op *op)
{
	struct fdrec *r = &e->p.recs[op->fd];

	e->stats.started++;
	switch ((enum op_kind)op->kind) {
	case OP_RECV:
		try_recv(e, op, r);
		break;
	case OP_SEND:
		try_send(e, op, r);
		break;
	case OP_PIPE_IN:
		try_pipe_in(e, op, r);
		break;
	case OP_PIPE_OUT:
		try_pipe_out(e, op, r);
		break;
	case OP_ACCEPT:
		try_accept(e, op, r);
		break;
	case OP_CONNECT:
		op_complete(e, op, watch_result(op->fd));
		break;
	case OP_WATCH:
		op_complete(e, op, watch_result(op->fd));
		break;
	case OP_POLL:
	case OP_WAKE:
	case OP_IDLE:
		assert(!"tried an operation that only waits");
	}
}

static void socket_event(struct engine *e, struct fdrec *r, uint32_t events)
{
	uint32_t          gen = r->gen;
	uint32_t          hup = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	struct engine_op *op;

	if (hup)
		r->flags |= FDREC_HUP;
	if (events & EPOLLIN || hup) {
		r->flags &= (uint8_t)~FDREC_DRY;
		op = r->rd;
		r->rd = NULL;
		if (op)
			try_op(e, op);
	}
	/* Each callback may have closed the descriptor. */
	if (r->gen == gen && events & (EPOLLOUT | EPOLLHUP | EPOLLERR) && r->wr) {
		op = r->wr;
		r->wr = NULL;
		/* Just connected: what the peer will say makes an edge. */
		if (op->kind == OP_CONNECT && !(events & EPOLLIN || hup))
			r->flags |= FDREC_DRY;
		try_op(e, op);
	}
	if (r->gen == gen && hup && r->watch) {
		op = r->watch;
		r->watch = NULL;
		try_op(e, op);
	}
}

static int wait_events(struct engine *e, uint64_t deadline_ns)
{
	struct epoller *p = &e->p;
	struct timespec ts = { 0 };
	uint64_t        now, left = 0;
	long            n = 0;

	if (deadline_ns > 0) {
		now = clock_ns();
		left = deadline_ns > now ? deadline_ns - now : 0;
	}
	ts.tv_sec = (time_t)(left / NS_PER_S);
	ts.tv_nsec = (long)(left % NS_PER_S);
	e->stats.enters++;
	if (!p->no_pwait2) {
		n = syscall(SYS_epoll_pwait2, p->fd, p->events, ENGINE_TURN_MAX, &ts, NULL, 0);
		/* Linux before 5.11, or a filter that does not know it. */
		if (n < 0 && (errno == ENOSYS || errno == EPERM))
			p->no_pwait2 = true;
	}
	if (p->no_pwait2)
		n = epoll_wait(p->fd, p->events, ENGINE_TURN_MAX,
		               (int)((left + NS_PER_MS - 1) / NS_PER_MS));
	return n < 0 ? -errno : (int)n;
}

/* Receives that waited for a buffer: one per buffer that is there.  True: both are left, so do not wait. */
static bool feed_starved(struct engine *e, enum buf_class cls)
{
	struct list   *starved = &e->starved[cls];
	enum buf_class from = may_take(e, cls) ? cls : BUF_SMALL; /* which serves as well */
	uint32_t       n;

	if (__builtin_expect(list_empty(starved), 1) || !may_take(e, from))
		return false;
	for (n = e->bufs->cls[from].n_free - e->reserve[from]; n > 0 && !list_empty(starved); n--) {
		struct engine_op *op = LIST_ENTRY(list_pop_front(starved), struct engine_op, link);

		op->flags &= (uint8_t)~OP_STARVED;
		try_later(e, op);
	}
	return !list_empty(starved);
}

int epoll_run_tries(struct engine *e)
{
	uint64_t          before = e->stats.completed;
	struct list       now;
	struct list_node *n;

	list_init(&now);
	list_splice_back(&now, &e->p.tries);
	while ((n = list_pop_front(&now))) {
		struct engine_op *op = LIST_ENTRY(n, struct engine_op, link);

		op->flags &= (uint8_t)~OP_TRY;
		try_op(e, op);
	}
	return (int)(e->stats.completed - before);
}

int epoll_turn(struct engine *e, uint64_t deadline_ns)
{
	uint64_t before = e->stats.completed;
	bool     busy = feed_starved(e, BUF_SMALL);
	int      n;

	busy |= feed_starved(e, BUF_LARGE);
	if (!list_empty(&e->p.tries))
		epoll_run_tries(e);
	if (busy || e->stats.completed != before || !list_empty(&e->p.tries) || !list_empty(&e->done) ||
	    !list_empty(&e->deferred) || (e->hostile && hostile_holds(e)))
		deadline_ns = 0;
	n = wait_events(e, deadline_ns);
	if (n < 0 && n != -EINTR)
		return n;
	e->now_ns = clock_ns();
	for (int i = 0; i < n; i++) {
		uint64_t      data = e->p.events[i].data.u64;
		int           fd = (int)(uint32_t)data;
		struct fdrec *r = &e->p.recs[fd];

		if (r->gen != (uint32_t)(data >> 32))
			continue; /* closed earlier in this batch */
		if (r->flags & FDREC_FOREIGN)
			foreign_event(e, r, fd, e->p.events[i].events);
		else
			socket_event(e, r, e->p.events[i].events);
	}
	if (n == ENGINE_TURN_MAX)
		e->stats.full_turns++;
	return (int)(e->stats.completed - before);
}
