/* Can io_uring be used here?  Asked by doing, in a child that may die of the answer. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/obj.h"
#include "sidecar/io/engine.h"

enum {
	PROBE_WAIT_MS = 1000, /* longer than any start-up should take */
	PROBE_TURNS = 16,
	PROBE_TURN_MS = 50,
	PROBE_BUFS = 8,
};

struct answer {
	int  rc;
	char reason[ENGINE_REASON_MAX];
};

struct trial {
	struct engine_op rx, tx;
	int              received, sent;
};

static void on_received(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	CONTAINER_OF(op, struct trial, rx)->received = res;
	if (res > 0)
		buf_unref(op->buf);
}

static void on_sent(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	CONTAINER_OF(op, struct trial, tx)->sent = res;
}

/* Filters may refuse single operations at run time, so one byte has to go the whole way. */
static int move_a_byte(struct engine *e)
{
	struct trial t = { .received = -ETIMEDOUT, .sent = -ETIMEDOUT };
	char         byte = 'x';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	int          fds[2], rc = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return -errno;
	engine_op_init(&t.rx, on_received);
	engine_op_init(&t.tx, on_sent);
	engine_recv(e, &t.rx, fds[0], BUF_SMALL);
	engine_send(e, &t.tx, fds[1], &iov, 1);
	for (int i = 0; i < PROBE_TURNS && rc >= 0 && engine_in_flight(e) > 0; i++)
		rc = engine_turn(e, clock_ns() + PROBE_TURN_MS * NS_PER_MS);
	if (rc < 0)
		return rc;
	if (t.sent != 1)
		return t.sent < 0 ? t.sent : -EPROTO;
	return t.received == 1 ? 0 : t.received < 0 ? t.received : -EPROTO;
}

static void child(int out)
{
	const struct rlimit no_core = { 0, 0 };
	struct buf_pool     pool;
	struct engine_conf  conf = { .kind = ENGINE_URING, .bufs = &pool };
	struct engine      *e;
	struct answer       a = { 0 };

	(void)setrlimit(RLIMIT_CORE, &no_core);
	a.rc = buf_pool_init(&pool, PROBE_BUFS, PROBE_BUFS);
	if (a.rc == 0)
		a.rc = engine_new(&conf, a.reason, &e);
	if (a.rc == 0) {
		a.rc = move_a_byte(e);
		if (a.rc)
			snprintf(a.reason, sizeof(a.reason), "an operation on io_uring failed with %s",
			         strerror(-a.rc));
	}
	_exit(write(out, &a, sizeof(a)) == (ssize_t)sizeof(a) ? 0 : 1);
}

/* What the child says, in at most PROBE_WAIT_MS; false: nothing. */
static bool hear(int in, struct answer *a)
{
	struct pollfd pfd = { .fd = in, .events = POLLIN };
	uint64_t      end = clock_ns() + PROBE_WAIT_MS * NS_PER_MS;
	int           rc;

	do {
		uint64_t now = clock_ns();

		rc = poll(&pfd, 1, now < end ? (int)((end - now) / NS_PER_MS) : 0);
	} while (rc < 0 && errno == EINTR);
	return rc == 1 && read(in, a, sizeof(*a)) == (ssize_t)sizeof(*a);
}

/* Ends the child, whatever it does; returns how it died. */
static int reap(pid_t pid, bool heard)
{
	int status = 0;

	if (!heard)
		kill(pid, SIGCONT); /* stopped by a debugger or a filter: let it end */
	for (int i = 0; i < 50 && !heard; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		poll(NULL, 0, 1);
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int explain_death(int status, char reason[ENGINE_REASON_MAX])
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		snprintf(reason, ENGINE_REASON_MAX, "SIGSYS: a seccomp filter kills who uses io_uring");
	else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		snprintf(reason, ENGINE_REASON_MAX, "the probe of io_uring died of signal %d",
		         WTERMSIG(status));
	else
		snprintf(reason, ENGINE_REASON_MAX, "the probe of io_uring did not answer");
	return -ENOSYS;
}

int engine_probe(char reason[ENGINE_REASON_MAX])
{
	struct answer a = { 0 };
	bool          heard;
	int           fds[2], status;
	pid_t         pid;

	reason[0] = 0;
	if (pipe2(fds, O_CLOEXEC) != 0) {
		snprintf(reason, ENGINE_REASON_MAX, "no pipe for the probe of io_uring");
		return -errno;
	}
	pid = fork();
	if (pid == 0)
		child(fds[1]);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		snprintf(reason, ENGINE_REASON_MAX, "no process for the probe of io_uring");
		return -EAGAIN;
	}
	heard = hear(fds[0], &a);
	close(fds[0]);
	status = reap(pid, heard);
	if (!heard)
		return explain_death(status, reason);
	a.reason[ENGINE_REASON_MAX - 1] = 0;
	memcpy(reason, a.reason, ENGINE_REASON_MAX);
	return a.rc;
}
