/*
 * sidecar/io/engine.h - the I/O engine of one worker: io_uring or epoll behind one set of verbs.
 *
 * Shape       Completions.  An operation is started with a verb, belongs to the engine while it is in flight,
 *             and completes exactly once by its callback, also when it was cancelled (accept: once per
 *             connection, the last time with op->more == 0).
 * Owns        The ring or the epoll descriptor.  Operations lie in their owners; the engine holds no
 *             memory per connection.
 * Owned by    The worker.  One per process, made after fork; single-threaded.
 * Calls back  Only inside engine_turn(), never inside a verb.  A callback may start, cancel and close
 *             anything; the operation it is called for is idle already (accept with more == 1: not).
 * Results     >= 0 or -errno.  EAGAIN, EINTR, ENOBUFS, short sends, EMFILE of accept and re-arming are the
 *             engine's; nobody above ever sees them.
 * Memory      op, the iovec array and its bytes may not move or change until the completion.  An address
 *             given to engine_connect() is copied.
 * Closing     Never close a descriptor with an operation in flight: shutdown(2) it (receives complete with 0,
 *             sends with an error), cancel what has no socket to be shut down (connect, watch, poll, accept),
 *             wait for the completions, then engine_close().
 * Bounds      256 completions per turn, then timers and the rest of the worker get their turn;
 *             ENGINE_WAIT_MAX_NS is the longest wait.
 * Flags       The engine makes O_NONBLOCK right on the sockets it accepts and connects; nobody else touches it.
 * See         sidecar/io/README.md, "Engine".
 */
#ifndef RHC_SIDECAR_IO_ENGINE_H
#define RHC_SIDECAR_IO_ENGINE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "sidecar/base/buf.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/list.h"

struct engine;
struct engine_op;

enum engine_kind { ENGINE_AUTO, ENGINE_URING, ENGINE_EPOLL };

enum {
	ENGINE_IOV_MAX = 64, /* segments of one send */
	ENGINE_SQ_DEFAULT = 128,
	ENGINE_CQ_DEFAULT = 1024,
	ENGINE_TURN_MAX = 256, /* completions of one turn */
	ENGINE_REASON_MAX = 160, /* size of a reason text */
};
#define ENGINE_WAIT_MAX_NS (UINT64_C(10) * NS_PER_S)
#define ENGINE_ACCEPT_RETRY_NS (UINT64_C(100) * NS_PER_MS)

typedef void engine_cb(struct engine *e, struct engine_op *op, int res);

/*
 * One operation.  Zeroed memory is an idle operation without callback: set cb (or use
 * engine_op_init()) before the first verb.  All but cb, more and buf is the engine's.
 */
struct engine_op {
	engine_cb       *cb;
	struct list_node link; /* waiting for a buffer, for a descriptor, or done and not yet told */
	int              fd;
	int              res;
	uint16_t         gen; /* counts completions: a second one for the same start is noticed */
	uint8_t          kind; /* 0: idle */
	uint8_t          flags;
	uint8_t          cls; /* receive: enum buf_class */
	uint8_t          more; /* accept: 1 while still armed */
	uint16_t         n_iov;
	union {
		struct {
			struct buf *buf; /* receive, out: one reference, yours when res > 0; else NULL */
			uint32_t    max; /* into a pipe: no more bytes than this */
		};
		struct {
			const struct iovec *iov;
			uint32_t            total, done;
		} tx;
		uint64_t count; /* wake, out: what the eventfd held */
		short    events; /* poll, in: POLLIN or POLLOUT */
	};
};
_Static_assert(sizeof(struct engine_op) <= 64, "an operation fits a cache line");

static inline void engine_op_init(struct engine_op *op, engine_cb *cb)
{
	*op = (struct engine_op){ .cb = cb };
}

static inline bool engine_busy(const struct engine_op *op)
{
	return op->kind != 0;
}

/* Work for the end of the turn.  Zeroed memory is an idle one; set fn and arg once. */
struct engine_deferred {
	struct list_node node;
	void (*fn)(void *arg);
	void *arg;
};

struct engine_conf {
	enum engine_kind kind; /* AUTO: io_uring, else epoll; URING: io_uring or an error */
	struct buf_pool *bufs; /* receives take their buffers from here; required */
	uint32_t         sq_entries; /* 0: the default; rounded up to a power of two */
	uint32_t         cq_entries; /* 0: the default */
	uint32_t         max_fds; /* 0: RLIMIT_NOFILE, at most 2^20; epoll refuses greater descriptors with -EMFILE */
};

struct engine_stats {
	uint64_t turns; /* calls of engine_turn */
	uint64_t enters; /* io_uring_enter, or epoll_wait */
	uint64_t spliced; /* bytes received into pipes */
	uint64_t calls; /* further system calls that moved data or state: epoll, and splices */
	uint64_t started; /* SQEs, or tries of an operation */
	uint64_t completed; /* callbacks */
	uint64_t starved; /* receives that had to wait for a buffer */
	uint64_t enobufs; /* of these: told by the kernel after the fact */
	uint64_t again; /* EAGAIN, EINTR and short sends that were started again */
	uint64_t cq_overflow; /* turns that began with an overflown completion queue */
	uint64_t accept_paused; /* EMFILE and the like */
	uint64_t stale; /* completions of no operation: a bug here or in the kernel */
	uint64_t full_turns; /* turns that stopped at ENGINE_TURN_MAX */
};

/*
 * Can io_uring be used here?  Forks a child that does the real thing (same flags, opcodes and sizes), so a
 * seccomp filter that kills costs only the child.  0, or -errno with a reason for the log:
 * "EPERM: seccomp profile or sysctl kernel.io_uring_disabled (io_uring_setup)"; what tells most comes first, a label
 * has room for its first words.  At most 1 s;
 * call it before there are threads or children to be reaped by others.
 */
int engine_probe(char reason[ENGINE_REASON_MAX]);

/*
 * -ENOMEM, -EMFILE, ...; with ENGINE_URING also any error of io_uring, -ENOSYS where the kernel lacks a needed
 * feature.  reason (may be NULL) tells why io_uring was not used, or "".
 */
int  engine_new(const struct engine_conf *conf, char reason[ENGINE_REASON_MAX], struct engine **ret_engine);
void engine_free(struct engine *e); /* asserts that no operation is in flight; NULL is fine */

const char                *engine_name(const struct engine *e); /* "io_uring", "epoll" */
const struct engine_stats *engine_stats(const struct engine *e);
uint32_t                   engine_in_flight(const struct engine *e); /* operations started, not completed */
struct buf_pool           *engine_bufs(const struct engine *e);

/*
 * The verbs.  All return nothing: every outcome arrives at the callback.  Starting a busy operation asserts.
 */

/* Connections of a listening socket, each with CLOEXEC; res is the new descriptor.  The end (more == 0) has
 * res < 0: -ECANCELED, or -EINVAL after shutdown(2). */
void engine_accept(struct engine *e, struct engine_op *op, int listen_fd);

/* res 0: connected.  Has no deadline: a timer of yours calls engine_cancel(). */
void engine_connect(struct engine *e, struct engine_op *op, int fd, const struct sockaddr *addr, socklen_t len);

/* One buffer of bytes: res > 0 of them at op->buf->data (op->buf->len is set as well).  res 0: the peer
 * sends no more.  Needs no buffer while it waits. */
void engine_recv(struct engine *e, struct engine_op *op, int fd, enum buf_class cls);

/*
 * The same, but what comes may come in a pipe (op->buf->cls == BUF_PIPE, sidecar/base/pipe.h): at most max of its bytes,
 * max >= 1; whatever is behind them stays in the socket.  Without a free pipe it is engine_recv().
 */
void engine_recv_pipe(struct engine *e, struct engine_op *op, int fd, enum buf_class cls, uint32_t max);

/*
 * All bytes of 1..ENGINE_IOV_MAX segments: res is their sum (at most INT_MAX, asserted; not 0), or an error, and
 * then an unknown part has left.  One send per descriptor at a time.
 */
void engine_send(struct engine *e, struct engine_op *op, int fd, const struct iovec *iov, unsigned n);

/*
 * Some of what is in a pipe: res > 0 is how many bytes have left, ->len of the pipe what is still in it.  The reference
 * stays yours, and the pipe untouched until the completion.  It counts as the one send of the descriptor.
 */
void engine_send_pipe(struct engine *e, struct engine_op *op, int fd, struct buf *pipe);

/*
 * Notice the end of a connection nobody reads from.  res 0: the peer sent FIN or hung up; -errno: the
 * connection failed.  Data does not fire it.  Once fired it would fire again at once: do not start it
 * again on this descriptor.
 */
void engine_watch(struct engine *e, struct engine_op *op, int fd);

/*
 * Readiness of a descriptor somebody else reads and writes (DNS sockets, signalfd).  events is POLLIN or POLLOUT;
 * res is what is ready, POLLERR and POLLHUP included.  One operation per direction and descriptor.  Before
 * its owner closes the descriptor: engine_cancel() and engine_forget().
 */
void engine_poll(struct engine *e, struct engine_op *op, int fd, short events);

/* An eventfd was written: res 0, and op->count is what it held (it is 0 again). */
void engine_wake(struct engine *e, struct engine_op *op, int event_fd);

/*
 * Ask for the end of an operation.  It completes in a later turn, with -ECANCELED or with what happened first:
 * both must be expected, nothing that arrived is lost.  Idle: nothing happens.  A send that was cancelled
 * leaves the socket of no further use.
 */
void engine_cancel(struct engine *e, struct engine_op *op);

/* close(2) a descriptor, with no operation in flight on it.  Every descriptor that was given to a verb
 * ends here, or in engine_forget(). */
void engine_close(struct engine *e, int fd);
/* The descriptor is about to be closed by its owner. */
void engine_forget(struct engine *e, int fd);

/*
 * Once, at the end of the running turn's dispatch, or before the next turn waits.  First come, first served;
 * what is deferred meanwhile runs in the same pass (up to a bound).  Deferring one that is queued: nothing.
 */
void engine_defer(struct engine *e, struct engine_deferred *d);
/* Take it back; not queued: nothing.  Call before its memory goes. */
void engine_undefer(struct engine_deferred *d);

/*
 * Submit, wait until something completes or deadline_ns (CLOCK_MONOTONIC; UINT64_MAX: none) is reached, call back.
 * The number of completions, or -errno when the engine itself is broken (the worker has to end).
 */
int engine_turn(struct engine *e, uint64_t deadline_ns);

/* CLOCK_MONOTONIC in nanoseconds, taken when the turn's wait ended. */
uint64_t engine_now(const struct engine *e);

#endif
