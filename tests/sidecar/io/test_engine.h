/* What the engine's tests share: a world with one engine, and each test on both kernels' models. */
#ifndef RHC_TESTS_SIDECAR_IO_TEST_ENGINE_H
#define RHC_TESTS_SIDECAR_IO_TEST_ENGINE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sidecar/base/obj.h"
#include "sidecar/io/engine.h"
#include "sidecar/io/sock.h"

#define MS (NS_PER_MS)

/* The test runs as io_uring/name and as epoll/name. */
#define BOTH_ENGINES(name)                                                                         \
	static void name##_on(enum engine_kind kind);                                              \
	Test(io_uring, name, .timeout = 30)                                                        \
	{                                                                                          \
		name##_on(ENGINE_URING);                                                           \
	}                                                                                          \
	Test(epoll, name, .timeout = 30)                                                           \
	{                                                                                          \
		name##_on(ENGINE_EPOLL);                                                           \
	}                                                                                          \
	static void name##_on(enum engine_kind kind)

struct world {
	struct buf_pool bufs;
	struct engine  *e;
};

static inline void world_open_conf(struct world *w, struct engine_conf conf, uint32_t small, uint32_t large)
{
	char reason[ENGINE_REASON_MAX];
	int  rc;

	cr_assert_eq(buf_pool_init(&w->bufs, small, large), 0);
	conf.bufs = &w->bufs;
	rc = engine_new(&conf, reason, &w->e);
	if (rc && conf.kind == ENGINE_URING)
		cr_skip_test("%s", reason);
	cr_assert_eq(rc, 0, "%d", rc);
}

static inline void world_open(struct world *w, enum engine_kind kind)
{
	world_open_conf(w, (struct engine_conf){ .kind = kind }, 64, 64);
}

/* Nothing in flight, every buffer back: both assert. */
static inline void world_close(struct world *w)
{
	cr_assert_eq(engine_in_flight(w->e), 0, "%u in flight", engine_in_flight(w->e));
	cr_assert_eq(engine_stats(w->e)->stale, 0);
	engine_free(w->e);
	buf_pool_fini(&w->bufs);
}

/* What happened to one operation. */
struct seen {
	struct engine_op op;
	int              times, res;
	uint8_t         *into; /* received bytes are appended here */
	size_t           n;
	int              fds[256]; /* accepted */
	int              n_fds;
	bool             more;
};

static bool in_verb; /* set around verbs: a callback now would be a bug */

static inline void on_seen(struct engine *e, struct engine_op *op, int res)
{
	struct seen *s = CONTAINER_OF(op, struct seen, op);

	(void)e;
	cr_assert(!in_verb, "called back inside a verb");
	s->more = op->more;
	if (op->more) {
		cr_assert(res >= 0 && s->n_fds < 256);
		s->fds[s->n_fds++] = res;
		return;
	}
	cr_assert(!engine_busy(op));
	s->times++;
	s->res = res;
}

static inline void on_received(struct engine *e, struct engine_op *op, int res)
{
	struct seen *s = CONTAINER_OF(op, struct seen, op);

	on_seen(e, op, res);
	if (res <= 0) {
		cr_assert_null(op->buf);
		return;
	}
	cr_assert_eq(op->buf->len, (uint32_t)res);
	cr_assert_eq(op->buf->refs, 1);
	if (s->into)
		memcpy(s->into + s->n, op->buf->data, (size_t)res);
	s->n += (size_t)res;
	buf_unref(op->buf);
}

/* Turns until *what reaches n, or 5 s have gone. */
static inline void turn_until(struct world *w, const int *what, int n)
{
	uint64_t end = clock_ns() + 5000 * MS;

	while (*what < n && clock_ns() < end)
		cr_assert_geq(engine_turn(w->e, clock_ns() + 100 * MS), 0);
	cr_assert_geq(*what, n, "%d of %d after 5 s", *what, n);
}

static inline void turn_for(struct world *w, uint64_t ms)
{
	uint64_t end = clock_ns() + ms * MS;

	do
		cr_assert_geq(engine_turn(w->e, end), 0);
	while (clock_ns() < end);
}

static inline void pair(int fds[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static inline int listener(struct sock_addr *ret_addr, uint32_t backlog)
{
	const struct sock_listen_opts opts = { .reuseport = true, .backlog = backlog };
	int                           fd;

	cr_assert_eq(sock_parse("127.0.0.1:0", ret_addr), 0);
	cr_assert_eq(sock_listen(ret_addr, &opts, &fd), 0);
	cr_assert_eq(sock_local(fd, ret_addr), 0);
	return fd;
}

/* A connected TCP pair, made with plain calls. */
static inline void tcp_pair(int fds[2])
{
	struct sock_addr a;
	int              lfd = listener(&a, 0);

	cr_assert_eq(sock_open(AF_INET, &fds[0]), 0);
	cr_assert_eq(connect(fds[0], &a.any, a.len), 0);
	fds[1] = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
	cr_assert(fds[1] >= 0);
	close(lfd);
}

/* Closing resets the connection. */
static inline void reset(int fd)
{
	cr_assert_eq(sock_reset_on_close(fd), 0);
	close(fd);
}

static inline int count_dir(const char *dir)
{
	char cmd[96];
	int  n = 0;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "ls %s | wc -l", dir);
	f = popen(cmd, "r");
	cr_assert_eq(fscanf(f, "%d", &n), 1);
	pclose(f);
	return n;
}

#endif
