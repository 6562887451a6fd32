/*
 * The io_uring backend at work.  liburing sets the ring up (engine_uring_open.c); from then on the rings are read
 * and written here, because one call per turn has to submit, wait and end on time, and no helper of
 * liburing 2.3 does all three.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sidecar/io/engine_impl.h"

enum {
	FILL_LOOK = 1024, /* turns after which a ring that was never used up gets fewer */
	SUBMIT_BATCH = 64, /* queued SQEs are submitted at the latest */
	SQE_TRIES = 1000,
};

/*
 * user_data: the operation's address (48 bits at most in user space, multiple of 8), its generation in the upper
 * 16, a tag in the lower 3.  No table between completion and operation: it is one cache line less, and an
 * operation outlives its completion by contract; the generation catches who breaks it.
 */
enum tag { TAG_OP, TAG_IGNORE, TAG_RECV_SMALL, TAG_RECV_LARGE, TAG_MASK = 7 };

static uint64_t user_data(const struct engine_op *op)
{
	uint64_t tag = op->kind != OP_RECV ? TAG_OP :
	               op->cls == BUF_SMALL ? TAG_RECV_SMALL :
	                                      TAG_RECV_LARGE;

	return (uint64_t)(uintptr_t)op | (uint64_t)op->gen << 48 | tag;
}

static struct engine_op *op_of(uint64_t data)
{
	return (struct engine_op *)(uintptr_t)(data & ((UINT64_C(1) << 48) - 1) &
	                                       ~(uint64_t)TAG_MASK);
}

/* --- submitting */

static unsigned sq_queued(const struct uring *u)
{
	return u->sq_tail - __atomic_load_n(u->sq_khead, __ATOMIC_ACQUIRE);
}

/* Returns what io_uring_enter said: SQEs taken, or -errno. */
static int enter(struct engine *e, unsigned wait, unsigned flags, const void *arg, size_t size)
{
	struct uring *u = &e->u;
	long          rc;

	/* Release: the kernel must see the entries before the tail that covers them. */
	__atomic_store_n(u->sq_ktail, u->sq_tail, __ATOMIC_RELEASE);
	e->stats.enters++;
	rc = syscall(__NR_io_uring_enter, u->enter_fd, sq_queued(u), wait, flags | u->enter_flags,
	             arg, size);
	return rc < 0 ? -errno : (int)rc;
}

static struct io_uring_sqe *sqe_get(struct engine *e)
{
	struct uring        *u = &e->u;
	struct io_uring_sqe *sqe;

	if (sq_queued(u) >= SUBMIT_BATCH || sq_queued(u) >= u->sq_entries) {
		/* Bounds the latency of what is queued.  When the kernel takes nothing (no memory, completions
		 * that have no place) GETEVENTS lets it flush those. */
		int tries = 0;

		(void)enter(e, 0, 0, NULL, 0);
		while (sq_queued(u) >= u->sq_entries) {
			assert(tries++ < SQE_TRIES);
			(void)enter(e, 0, IORING_ENTER_GETEVENTS, NULL, 0);
		}
	}
	sqe = &u->sqes[u->sq_tail & u->sq_mask];
	u->sq_tail++;
	e->stats.started++;
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

static union uring_side *side_of(struct uring *u, const struct io_uring_sqe *sqe)
{
	return &u->side[sqe - u->sqes];
}

static struct io_uring_sqe *sqe_for(struct engine *e, const struct engine_op *op, uint8_t opcode)
{
	struct io_uring_sqe *sqe = sqe_get(e);

	sqe->opcode = opcode;
	sqe->fd = op->fd;
	sqe->user_data = user_data(op);
	return sqe;
}

void uring_accept(struct engine *e, struct engine_op *op)
{
	struct io_uring_sqe *sqe = sqe_for(e, op, IORING_OP_ACCEPT);

	sqe->ioprio = IORING_ACCEPT_MULTISHOT;
	sqe->accept_flags = SOCK_CLOEXEC;
}

void uring_connect(struct engine *e, struct engine_op *op, const struct sockaddr *addr, socklen_t len)
{
	struct io_uring_sqe *sqe = sqe_for(e, op, IORING_OP_CONNECT);
	union uring_side    *side = side_of(&e->u, sqe);

	memcpy(&side->sa, addr, len);
	sqe->addr = (uint64_t)(uintptr_t)&side->sa;
	sqe->off = len;
}

/* The rest of the send; patient: wait until the socket has room before the first attempt. */
static void submit_send(struct engine *e, struct engine_op *op, bool patient)
{
	struct send_rest     rest = send_rest(e, op);
	struct io_uring_sqe *sqe;

	if (rest.n_iov == 0) {
		sqe = sqe_for(e, op, IORING_OP_SEND);
		sqe->addr = (uint64_t)(uintptr_t)rest.p;
		sqe->len = (uint32_t)rest.n;
	} else {
		union uring_side *side;

		sqe = sqe_for(e, op, IORING_OP_SENDMSG);
		side = side_of(&e->u, sqe);
		memset(&side->mh, 0, sizeof(side->mh));
		side->mh.msg_iov = (struct iovec *)(uintptr_t)rest.iov;
		side->mh.msg_iovlen = rest.n_iov;
		sqe->addr = (uint64_t)(uintptr_t)&side->mh;
		sqe->len = 1;
	}
	sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
	sqe->ioprio = patient ? IORING_RECVSEND_POLL_FIRST : 0;
}

void uring_send(struct engine *e, struct engine_op *op)
{
	submit_send(e, op, false);
}

void uring_poll(struct engine *e, struct engine_op *op)
{
	struct io_uring_sqe *sqe = sqe_for(e, op, IORING_OP_POLL_ADD);
	/* ERR and HUP are always reported.  Data does not fire a watch. */
	uint32_t events = op->kind == OP_WATCH ? POLLRDHUP :
	                  op->kind == OP_WAKE || op->kind == OP_PIPE_IN ? POLLIN :
	                  op->kind == OP_PIPE_OUT ? POLLOUT :
	                                         (uint16_t)op->events;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	events = events << 16 | events >> 16;
#endif
	sqe->poll32_events = events;
}

void uring_cancel(struct engine *e, struct engine_op *op)
{
	struct io_uring_sqe *sqe = sqe_get(e);

	/* By user_data only: a descriptor may have a new owner when this runs. */
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->fd = -1;
	sqe->addr = user_data(op);
	sqe->user_data = TAG_IGNORE;
}

/* --- receive buffers */

/* Fill the ring up to its target, from the front of the free list: the warmest buffers first. */
static void group_fill(struct engine *e, enum buf_class cls)
{
	struct uring_group *g = &e->u.groups[cls];
	uint16_t            tail = g->tail;

	while (g->in_ring < g->target && may_take(e, cls)) {
		struct buf          *b = buf_get(e->bufs, cls);
		struct io_uring_buf *slot;

		slot = &g->ring->bufs[tail++ & (g->entries - 1)];
		slot->addr = (uint64_t)(uintptr_t)b->data;
		slot->len = buf_cap(b);
		slot->bid = b->id;
		g->in_ring++;
	}
	if (tail != g->tail) {
		g->tail = tail;
		__atomic_store_n(&g->ring->tail, tail, __ATOMIC_RELEASE);
	}
}

static void submit_recv(struct engine *e, struct engine_op *op, bool patient)
{
	struct io_uring_sqe *sqe = sqe_for(e, op, IORING_OP_RECV);

	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->buf_group = op->cls;
	sqe->ioprio = patient ? IORING_RECVSEND_POLL_FIRST : 0;
}

/* May a receive be armed into this class now?  Into an empty ring it would fail at once, data or not. */
static bool group_ready(struct engine *e, enum buf_class cls)
{
	if (e->u.groups[cls].in_ring == 0)
		group_fill(e, cls);
	return e->u.groups[cls].in_ring > 0 && list_empty(&e->starved[cls]);
}

/* Without a large buffer a small one serves as well; who waits for a large one may wait for a stranger's reader. */
static bool small_instead(struct engine *e, struct engine_op *op)
{
	if (op->cls != BUF_LARGE || may_take(e, BUF_LARGE) || !group_ready(e, BUF_SMALL))
		return false;
	op->cls = BUF_SMALL;
	return true;
}

void uring_recv(struct engine *e, struct engine_op *op)
{
	if (group_ready(e, (enum buf_class)op->cls) || small_instead(e, op))
		submit_recv(e, op, op->flags & OP_DRY);
	else
		op_starve(e, op);
}

/* Who waits for a large buffer takes a small one that came back sooner. */
static void feed_with_small(struct engine *e, struct list *starved)
{
	for (uint32_t i = e->u.groups[BUF_SMALL].in_ring; i > 0 && !list_empty(starved); i--) {
		struct engine_op *op = LIST_ENTRY(list_first(starved), struct engine_op, link);

		if (!small_instead(e, op))
			return;
		list_remove(&op->link);
		op->flags &= (uint8_t)~OP_STARVED;
		submit_recv(e, op, false);
	}
}

/*
 * Before each enter: fill the ring, then let one starved receive go per buffer.  True: there are buffers and
 * receives left (those that went may have no data), so do not wait.
 */
static bool group_turn(struct engine *e, enum buf_class cls)
{
	struct uring_group *g = &e->u.groups[cls];
	struct list        *starved = &e->starved[cls];

	if (g->in_ring < g->low)
		g->low = g->in_ring;
	if (g->in_ring < g->target)
		group_fill(e, cls);
	if (__builtin_expect(list_empty(starved), 1))
		return false;
	for (uint32_t i = g->in_ring; i > 0 && !list_empty(starved); i--) {
		struct engine_op *op = LIST_ENTRY(list_pop_front(starved), struct engine_op, link);

		op->flags &= (uint8_t)~OP_STARVED;
		submit_recv(e, op, false);
	}
	if (cls == BUF_LARGE && !list_empty(starved))
		feed_with_small(e, starved);
	return g->in_ring > 0 && !list_empty(starved);
}

/* What was never needed for a while is cold: keep fewer buffers in the ring. */
static void groups_shrink(struct engine *e)
{
	for (int c = 0; c < BUF_CLASSES; c++) {
		struct uring_group *g = &e->u.groups[c];

		if (g->low > URING_FILL_MIN / 2 && g->target > URING_FILL_MIN)
			g->target = g->target - g->low / 2 > URING_FILL_MIN ? g->target - g->low / 2 :
			                                                URING_FILL_MIN;
		g->low = g->target;
	}
}

/* --- completions */

/* Not enough buffers in the ring for one batch of receives, although the pool had some. */
static void on_enobufs(struct engine *e, struct engine_op *op)
{
	struct uring_group *g = &e->u.groups[op->cls];

	e->stats.enobufs++;
	if (may_take(e, (enum buf_class)op->cls) && g->grown != e->stats.turns) {
		g->target = g->target * 2 < g->entries ? g->target * 2 : g->entries;
		g->grown = e->stats.turns;
	}
	if (small_instead(e, op))
		submit_recv(e, op, false);
	else
		op_starve(e, op);
}

static bool is_again(int res)
{
	return res == -EAGAIN || res == -EINTR;
}

static void recv_done(struct engine *e, struct engine_op *op, int res, uint32_t flags, struct buf *b)
{
	if (res > 0) {
		assert(b);
		op->buf = b;
		b->len = (uint32_t)res;
		if (flags & IORING_CQE_F_SOCK_NONEMPTY)
			op->flags &= (uint8_t)~OP_DRY;
		else
			op->flags |= OP_DRY;
		op_complete(e, op, res);
		return;
	}
	buf_unref(b);
	if (res == -ENOBUFS || is_again(res)) {
		if (op->flags & OP_CANCELLED) {
			res = -ECANCELED;
		} else if (res == -ENOBUFS) {
			on_enobufs(e, op);
			return;
		} else {
			e->stats.again++;
			submit_recv(e, op, true);
			return;
		}
	}
	op->buf = NULL;
	op_complete(e, op, res);
}

/*
 * MSG_WAITALL ends short when the socket is shut or dead, or when the operation was cancelled.  What is missing
 * is sent again, which tells the reason; nothing else is in flight on this socket, so the order holds.
 */
static void send_done(struct engine *e, struct engine_op *op, int res)
{
	if (res > 0)
		op->tx.done += (uint32_t)res;
	assert(op->tx.done <= op->tx.total);
	if (op->tx.done == op->tx.total) {
		op_complete(e, op, (int)op->tx.total);
	} else if (res <= 0 && !is_again(res)) {
		op_complete(e, op, res ? res : -EPIPE);
	} else if (op->flags & OP_CANCELLED) {
		op_complete(e, op, -ECANCELED);
	} else {
		e->stats.again++;
		submit_send(e, op, is_again(res));
	}
}

static void accept_done(struct engine *e, struct engine_op *op, int res, uint32_t flags)
{
	bool last = !(flags & IORING_CQE_F_MORE);

	if (res >= 0) {
		/* In flight still, or again: a multishot may end by itself when the queue overflows. */
		op_accepted(e, op, res);
		if (!last)
			return;
		if (op->flags & OP_CANCELLED)
			op_complete_later(e, op, -ECANCELED);
		else
			uring_accept(e, op);
		return;
	}
	if (!last)
		return;
	if (!(op->flags & OP_CANCELLED) && accept_is_limit(res)) {
		op_pause(e, op);
	} else if (!(op->flags & OP_CANCELLED) && accept_is_noise(res)) {
		uring_accept(e, op);
	} else {
		op->more = 0;
		op_complete(e, op, op->flags & OP_CANCELLED ? -ECANCELED : res);
	}
}

static void poll_done(struct engine *e, struct engine_op *op, int res)
{
	if (is_again(res) && !(op->flags & OP_CANCELLED)) {
		uring_poll(e, op);
		return;
	}
	if (res > 0 && op->kind == OP_WATCH) {
		res = watch_result(op->fd);
	} else if (res > 0 && op->kind == OP_WAKE) {
		if (!wake_read(op)) {
			if (op->flags & OP_CANCELLED) {
				op_complete(e, op, -ECANCELED);
			} else {
				e->stats.again++;
				uring_poll(e, op);
			}
			return;
		}
		res = 0;
	}
	op_complete(e, op, res);
}

/* --- pipes: splice(2) is called here, IORING_OP_SPLICE would go to a kernel thread */

/* Waiting in splice(2) would stop the worker.  Receives and sends of the ring do not look at it. */
static bool nonblock(struct engine *e, struct engine_op *op)
{
	if (op->flags & OP_NONBLOCK)
		return true;
	e->stats.calls++;
	if (fcntl(op->fd, F_SETFL, O_NONBLOCK) != 0) {
		op_complete_later(e, op, -errno);
		return false;
	}
	op->flags |= OP_NONBLOCK;
	return true;
}

void uring_pipe_in(struct engine *e, struct engine_op *op)
{
	if (nonblock(e, op))
		uring_poll(e, op);
}

void uring_pipe_out(struct engine *e, struct engine_op *op)
{
	int n;

	if (!nonblock(e, op))
		return;
	n = op->flags & OP_DRY ? -EAGAIN : pipe_drain(e, op);
	if (n == -EAGAIN || op->buf->len > 0)
		op->flags |= OP_DRY;
	if (n == -EAGAIN)
		uring_poll(e, op);
	else
		op_complete_later(e, op, n);
}

static void pipe_in_done(struct engine *e, struct engine_op *op, int res)
{
	int n = op->flags & OP_CANCELLED ? -ECANCELED : res < 0 ? res : pipe_fill(e, op);

	if (n == -ENOBUFS) {
		op->kind = OP_RECV;
		uring_recv(e, op);
	} else if (is_again(n)) {
		e->stats.again++;
		uring_poll(e, op);
	} else {
		op_complete(e, op, n);
	}
}

static void pipe_out_done(struct engine *e, struct engine_op *op, int res)
{
	int n = op->flags & OP_CANCELLED ? -ECANCELED : res < 0 ? res : pipe_drain(e, op);

	if (is_again(n)) {
		e->stats.again++;
		uring_poll(e, op);
		return;
	}
	if (op->buf->len == 0)
		op->flags &= (uint8_t)~OP_DRY;
	op_complete(e, op, n);
}

static void connect_done(struct engine *e, struct engine_op *op, int res)
{
	if (op->flags & OP_CANCELLED && (is_again(res) || res == -EINPROGRESS))
		res = -ECANCELED;
	/* EAGAIN: a unix socket whose backlog is full (connect(2)). */
	op_complete(e, op, is_again(res) ? -ECONNREFUSED : res);
}

static void dispatch(struct engine *e, uint64_t data, int res, uint32_t flags)
{
	struct engine_op *op = op_of(data);
	unsigned          tag = data & TAG_MASK;
	struct buf       *b = NULL;

	if (tag == TAG_IGNORE)
		return;
	/* The buffer first: whatever is wrong with the rest, it must not get lost. */
	if (flags & IORING_CQE_F_BUFFER) {
		enum buf_class cls = tag == TAG_RECV_SMALL ? BUF_SMALL : BUF_LARGE;

		b = &e->bufs->cls[cls].all[flags >> IORING_CQE_BUFFER_SHIFT];
		assert(b->refs == 1);
		e->u.groups[cls].in_ring--;
	}
	if (__builtin_expect(op->gen != (uint16_t)(data >> 48) || op->kind == OP_IDLE, 0)) {
		e->stats.stale++;
		buf_unref(b);
		return;
	}
	switch ((enum op_kind)op->kind) {
	case OP_RECV:
		recv_done(e, op, res, flags, b);
		break;
	case OP_SEND:
		send_done(e, op, res);
		break;
	case OP_ACCEPT:
		accept_done(e, op, res, flags);
		break;
	case OP_CONNECT:
		connect_done(e, op, res);
		break;
	case OP_WATCH:
	case OP_POLL:
	case OP_WAKE:
		poll_done(e, op, res);
		break;
	case OP_PIPE_IN:
		pipe_in_done(e, op, res);
		break;
	case OP_PIPE_OUT:
		pipe_out_done(e, op, res);
		break;
	case OP_IDLE:
		break;
	}
}

/* --- the turn */

static int wait_some(struct engine *e, uint64_t deadline_ns)
{
	struct __kernel_timespec      ts = { 0 };
	struct io_uring_getevents_arg arg;
	uint64_t                      now;

	if (deadline_ns == 0)
		return enter(e, 0, IORING_ENTER_GETEVENTS, NULL, 0);
	now = clock_ns();
	if (deadline_ns > now) {
		ts.tv_sec = (int64_t)((deadline_ns - now) / NS_PER_S);
		ts.tv_nsec = (int64_t)((deadline_ns - now) % NS_PER_S);
	}
	memset(&arg, 0, sizeof(arg));
	arg.ts = (uint64_t)(uintptr_t)&ts;
	return enter(e, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
}

/* Each entry is copied and its place given back before its callback may make new ones. */
static int reap(struct engine *e)
{
	struct uring *u = &e->u;
	unsigned      head = *u->cq_khead;
	unsigned      n = __atomic_load_n(u->cq_ktail, __ATOMIC_ACQUIRE) - head;

	if (n > ENGINE_TURN_MAX) {
		n = ENGINE_TURN_MAX;
		e->stats.full_turns++;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct io_uring_cqe *cqe = &u->cqes[head & u->cq_mask];
		uint64_t                   data = cqe->user_data;
		int                        res = cqe->res;
		uint32_t                   flags = cqe->flags;

		if (i + 1 < n)
			__builtin_prefetch(op_of(u->cqes[(head + 1) & u->cq_mask].user_data));
		__atomic_store_n(u->cq_khead, ++head, __ATOMIC_RELEASE);
		dispatch(e, data, res, flags);
	}
	return (int)n;
}

int uring_turn(struct engine *e, uint64_t deadline_ns)
{
	bool busy = group_turn(e, BUF_SMALL);
	int  rc;

	busy |= group_turn(e, BUF_LARGE);
	rc = wait_some(e, busy ? 0 : deadline_ns);
	/* Out of time, interrupted, or no room: drain what is there and go on. */
	if (rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EBUSY && rc != -EAGAIN)
		return rc;
	if (__atomic_load_n(e->u.sq_kflags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW)
		e->stats.cq_overflow++;
	if (e->stats.turns % FILL_LOOK == 0)
		groups_shrink(e);
	e->now_ns = clock_ns();
	return reap(e);
}
