/*
 * sidecar/io/engine_impl.h - what engine.c and its two backends share; nobody else includes it.
 *
 * Shape   engine.c has what both need: starting, finishing, the lists of waiting operations, the turn.
 *         engine_uring.c and engine_epoll.c are the two ways to get things done.
 */
#ifndef RHC_SIDECAR_IO_ENGINE_IMPL_H
#define RHC_SIDECAR_IO_ENGINE_IMPL_H

#include <liburing.h>
#include <sys/epoll.h>

#include "sidecar/base/obj.h"
#include "sidecar/io/engine.h"

#define ENGINE_MAGIC UINT32_C(0xe9619e01)

enum op_kind { OP_IDLE, OP_ACCEPT, OP_CONNECT, OP_RECV, OP_SEND, OP_WATCH, OP_POLL, OP_WAKE, OP_PIPE_IN, OP_PIPE_OUT };

enum op_flag {
	OP_CANCELLED = 1, /* its owner asked for its end */
	OP_STARVED = 2, /* on ->starved: waits for a buffer */
	OP_PAUSED = 4, /* on ->paused: waits for a free descriptor */
	OP_DONE = 8, /* on ->done: has its result in ->res */
	OP_TRY = 16, /* epoll: on ->tries */
	OP_RUNNING = 32, /* epoll: accept is calling back */
	OP_DRY = 64, /* io_uring: the last receive emptied the socket, the last splice filled it; kept over the next start */
	OP_NONBLOCK = 128, /* io_uring: the descriptor is O_NONBLOCK, as splice(2) needs it; kept as well */
};

/* Buffers kept in a ring when little happens: few, so that they stay in the cache. */
enum { URING_FILL_MIN = 16 };

struct uring_group {
	struct io_uring_buf_ring *ring;
	uint32_t                  entries; /* a power of two */
	uint32_t                  in_ring; /* given to the kernel and not seen back */
	uint32_t                  target; /* how many we want there */
	uint32_t                  low; /* smallest in_ring since the last look at target */
	uint16_t                  tail;
	uint64_t                  grown; /* the turn that made target greater: once per turn */
};

/* What an SQE points to must live until it is submitted: one place per SQE. */
union uring_side {
	struct msghdr           mh;
	struct sockaddr_storage sa;
};

struct uring {
	struct io_uring           ring; /* liburing makes and unmakes it; the hot path is ours */
	int                       enter_fd;
	unsigned                  enter_flags;
	struct io_uring_sqe      *sqes;
	unsigned                 *sq_khead, *sq_ktail, *sq_kflags;
	unsigned                  sq_tail, sq_mask, sq_entries;
	struct io_uring_cqe      *cqes;
	unsigned                 *cq_khead, *cq_ktail;
	unsigned                  cq_mask;
	struct uring_group        groups[BUF_CLASSES];
	union uring_side         *side;
};

struct fdrec {
	struct engine_op *rd, *wr, *watch; /* parked */
	uint32_t          gen; /* events of an earlier owner of the number are dropped */
	uint8_t           flags; /* enum fdrec_flag */
	uint8_t           armed; /* FDREC_IN | FDREC_OUT: registered for */
	uint16_t          unused;
};

struct epoller {
	int                fd;
	bool               no_pwait2;
	uint32_t           max_fds;
	struct fdrec      *recs;
	struct list        tries; /* started, not yet tried */
	struct epoll_event events[ENGINE_TURN_MAX];
};

struct engine {
	uint32_t            magic;
	enum engine_kind    kind;
	uint64_t            now_ns;
	struct hostile     *hostile; /* NULL but in tests */
	struct buf_pool    *bufs;
	uint32_t            in_flight;
	uint32_t            reserve[BUF_CLASSES]; /* buffers that receives leave to the senders */
	struct list         deferred;
	struct list         done;
	struct list         starved[BUF_CLASSES];
	struct list         paused;
	uint64_t            accept_retry_ns; /* when ->paused is tried again */
	struct engine_stats stats;
	union {
		struct uring   u;
		struct epoller p;
	};
};

/* --- engine.c */

/* The operation is in flight from now on. */
static inline void op_start(struct engine *e, struct engine_op *op, enum op_kind kind, int fd)
{
	OBJ_CHECK(e, ENGINE_MAGIC);
	assert(op->kind == OP_IDLE && op->cb && fd >= 0);
	op->kind = (uint8_t)kind;
	op->flags &= OP_DRY | OP_NONBLOCK;
	op->more = 0;
	op->fd = fd;
	e->in_flight++;
}

/* --- engine_hostile.c, only called when e->hostile */

void hostile_fini(struct engine *e);
/* True: the receive has its result already, or waits for a buffer. */
bool hostile_recv(struct engine *e, struct engine_op *op);
/* Before each try of a send, whose first segment has first bytes left: how many of them may go now; 0: all there is. */
size_t hostile_cut(struct engine *e, const struct engine_op *op, size_t first);
/* True: the connection is told later, or never. */
bool hostile_accepted(struct engine *e, struct engine_op *op, int fd);
/* The accept is about to be told its end: first the connections it has not been told. */
void hostile_accept_ends(struct engine *e, struct engine_op *op);
/* What is told instead of res; *ret_later: not now. */
int  hostile_result(struct engine *e, struct engine_op *op, int res, bool *ret_later);
void hostile_forget(struct engine *e, int fd);
/* A completion is held back: do not wait. */
bool hostile_holds(const struct engine *e);
/* Tells what was held back; *ret_more: there is more to come, do not wait. */
int  hostile_turn(struct engine *e, bool *ret_more);

/* It is over: idle, then called back. */
static inline void op_tell(struct engine *e, struct engine_op *op, int res)
{
	assert(op->kind != OP_IDLE);
	if (__builtin_expect(e->hostile != NULL, 0) && op->kind == OP_ACCEPT)
		hostile_accept_ends(e, op);
	op->kind = OP_IDLE;
	op->gen++;
	e->in_flight--;
	e->stats.completed++;
	op->cb(e, op, res);
}

static inline void op_complete(struct engine *e, struct engine_op *op, int res)
{
	bool later;

	if (__builtin_expect(e->hostile != NULL, 0)) {
		res = hostile_result(e, op, res, &later);
		if (later)
			return;
	}
	op_tell(e, op, res);
}

/* The same from within a verb: the callback waits for the turn. */
void op_complete_later(struct engine *e, struct engine_op *op, int res);
/* A connection of an accept, which stays in flight. */
static inline void op_accepted(struct engine *e, struct engine_op *op, int fd)
{
	e->stats.completed++;
	if (__builtin_expect(e->hostile != NULL, 0) && hostile_accepted(e, op, fd))
		return;
	op->cb(e, op, fd);
}

/* A receive without a buffer; is woken by engine_revive(). */
void op_starve(struct engine *e, struct engine_op *op);
/* An accept that met a limit of the process or the system. */
void op_pause(struct engine *e, struct engine_op *op);
/* Is this error of accept a limit that will pass? */
bool accept_is_limit(int res);
/* Errors of one connection that died in the queue (accept(2), "Error handling"). */
bool accept_is_noise(int res);
/* One splice(2) from the socket into a pipe, then op->buf: bytes, 0, -EAGAIN, -ENOBUFS (no pipe: receive), or -errno. */
int pipe_fill(struct engine *e, struct engine_op *op);
/* One splice(2) from op->buf into the socket: bytes, -EAGAIN or -errno. */
int pipe_drain(struct engine *e, struct engine_op *op);
/* What a watch reports, from SO_ERROR. */
int watch_result(int fd);
/* Reads the eventfd into op->count; false when there was nothing to read. */
bool wake_read(struct engine_op *op);

/* May a receive have a buffer?  The last eighth belongs to those who send. */
static inline bool may_take(const struct engine *e, enum buf_class cls)
{
	return e->bufs->cls[cls].n_free > e->reserve[cls];
}

/* The unsent rest of a send, as one segment (*ret_n == 0) or as whole segments from *ret_iov on. */
struct send_rest {
	const struct iovec *iov;
	unsigned            n_iov; /* 0: one piece */
	void               *p;
	size_t              n;
};
struct send_rest send_rest(struct engine *e, const struct engine_op *op);

/* --- the backends, named alike.  turn: submit and wait until deadline_ns (0: do not wait), dispatch. */

/* engine_uring_open.c */
int  uring_init(struct engine *e, const struct engine_conf *conf, char reason[ENGINE_REASON_MAX]);
void uring_fini(struct engine *e);
/* engine_uring.c */
void uring_accept(struct engine *e, struct engine_op *op);
void uring_connect(struct engine *e, struct engine_op *op, const struct sockaddr *addr, socklen_t len);
void uring_recv(struct engine *e, struct engine_op *op);
void uring_send(struct engine *e, struct engine_op *op);
void uring_poll(struct engine *e, struct engine_op *op); /* poll, watch and wake */
void uring_pipe_in(struct engine *e, struct engine_op *op);
void uring_pipe_out(struct engine *e, struct engine_op *op);
void uring_cancel(struct engine *e, struct engine_op *op);
int  uring_turn(struct engine *e, uint64_t deadline_ns);

int  epoll_init(struct engine *e, const struct engine_conf *conf);
void epoll_fini(struct engine *e);
void epoll_accept_start(struct engine *e, struct engine_op *op);
void epoll_connect(struct engine *e, struct engine_op *op, const struct sockaddr *addr, socklen_t len);
void epoll_recv(struct engine *e, struct engine_op *op);
void epoll_send(struct engine *e, struct engine_op *op);
void epoll_watch(struct engine *e, struct engine_op *op);
void epoll_poll(struct engine *e, struct engine_op *op); /* poll and wake */
void epoll_cancel(struct engine *e, struct engine_op *op);
void epoll_forget(struct engine *e, int fd);
int  epoll_turn(struct engine *e, uint64_t deadline_ns);
/* What was started meanwhile; returns completions. */
int epoll_run_tries(struct engine *e);

#endif
