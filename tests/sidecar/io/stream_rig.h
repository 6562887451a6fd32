/*
 * tests/sidecar/io/stream_rig.h - a stream on one side, a plain non-blocking socket on the other.
 *
 * EACH_ENGINE runs its block on io_uring (where it is allowed) and on epoll, both as they are and hostile
 * (sidecar/io/engine_hostile.h), EACH_CALM_ENGINE only as they are.  rig_turn() is one turn of the
 * engine; every loop in here is bounded.  The bytes both sides send are pattern(position).
 */
#ifndef RHC_TESTS_SIDECAR_IO_STREAM_RIG_H
#define RHC_TESTS_SIDECAR_IO_STREAM_RIG_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sidecar/io/engine_hostile.h"
#include "sidecar/io/stream.h"
#include "sidecar/io/tls.h"

enum { RIG_TURNS = 5000, RIG_SMALL = 64, RIG_LARGE = 64, RIG_SLAB = 64 };

struct rig;

struct end {
	struct stream s;
	struct rig   *rig;
	int           opens, eofs, closes;
	enum stream_error open_err, eof_err;
	uint64_t      received, sent;
	uint32_t      slices;
	bool          wrong; /* a byte was not the pattern's */
	bool          large;
	void (*hook)(struct end *e); /* called at the end of every event */
};

struct rig {
	struct engine    *engine;
	struct buf_pool   bufs;
	struct slab       txq, tls;
	struct stream_env env;
	struct end        a, b;
	int               peer; /* the other side of a */
	int               listener;
	int               fds; /* open descriptors before */
};

#define RIG __attribute__((unused)) static

RIG uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 31 + i / 253 + (i >> 16));
}

RIG int rig_open_fds(void)
{
	int  n = 0;
	DIR *d = opendir("/proc/self/fd");
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
		n++;
	closedir(d);
	return n;
}

static struct end *end_of(struct stream *s)
{
	return s->owner;
}

static void hook(struct end *e)
{
	if (e->hook != NULL)
		e->hook(e);
}

static void rig_on_open(struct stream *s, enum stream_error err)
{
	struct end *e = end_of(s);
	e->opens++;
	e->open_err = err;
	hook(e);
}

static void rig_on_data(struct stream *s, struct slice data)
{
	struct end *e = end_of(s);
	cr_assert(data.n > 0);
	for (uint32_t i = 0; i < data.n; i++)
		e->wrong |= data.p[i] != pattern(e->received + i);
	e->received += data.n;
	e->slices++;
	slice_drop(data);
	hook(e);
}

static void rig_on_eof(struct stream *s, enum stream_error err)
{
	struct end *e = end_of(s);
	e->eofs++;
	e->eof_err = err;
	hook(e);
}

static void rig_on_sent(struct stream *s, uint32_t bytes)
{
	struct end *e = end_of(s);
	cr_assert(bytes > 0);
	e->sent += bytes;
	hook(e);
}

static void rig_on_closed(struct stream *s)
{
	struct end *e = end_of(s);
	e->closes++;
	memset(s, 0xdb, sizeof(*s)); /* the memory is the owner's again: nobody looks at it any more */
	e->s.owner = e;
}

static const struct stream_events rig_events = { rig_on_open, rig_on_data, rig_on_eof, rig_on_sent,
	                                         rig_on_closed };

struct rig_mode {
	enum engine_kind        kind;
	struct engine_hostility how;
};

/* Pieces and delays are allowed always; errors of the engine's making only where a test expects them. */
#define RIG_HOSTILE { .seed = 7, .split = 300, .split_max = 2000, .delay = 300, .delay_max = 4 }
static const struct rig_mode rig_modes[] = {
	{ .kind = ENGINE_URING },
	{ .kind = ENGINE_EPOLL },
	{ .kind = ENGINE_URING, .how = RIG_HOSTILE },
	{ .kind = ENGINE_EPOLL, .how = RIG_HOSTILE },
};

/* NULL: this engine is not allowed here. */
RIG struct rig *rig_new(const struct rig_mode *mode, uint32_t small, uint32_t large)
{
	struct rig *r = calloc(1, sizeof(*r));
	r->fds = rig_open_fds();
	cr_assert_eq(buf_pool_init(&r->bufs, small, large), 0);
	char reason[ENGINE_REASON_MAX];
	int  rc = engine_new(&(struct engine_conf){ .kind = mode->kind, .bufs = &r->bufs }, reason,
	                      &r->engine);
	if (rc < 0) {
		cr_assert_eq(mode->kind, ENGINE_URING, "epoll: %s", reason);
		cr_log_warn("no io_uring here: %s", reason);
		buf_pool_fini(&r->bufs);
		free(r);
		return NULL;
	}
	if (mode->how.seed != 0)
		cr_assert_eq(engine_make_hostile(r->engine, &mode->how), 0);
	cr_assert_eq(slab_init(&r->txq, "txq", stream_txq_size(), RIG_SLAB), 0);
	cr_assert_eq(slab_init(&r->tls, "tls", stream_tls_size(), RIG_SLAB), 0);
	r->env = (struct stream_env){ .engine = r->engine, .bufs = &r->bufs, .txq_slab = &r->txq,
		                      .tls_slab = &r->tls };
	r->a.rig = r->b.rig = r;
	r->peer = r->listener = -1;
	stream_init(&r->a.s, &r->env, &rig_events, &r->a);
	return r;
}

RIG void rig_turn(struct rig *r)
{
	cr_assert(engine_turn(r->engine, clock_ns() + NS_PER_MS) >= 0);
}

RIG void rig_turns(struct rig *r, int n)
{
	while (n-- > 0)
		rig_turn(r);
}

#define RIG_UNTIL(r, cond)                                                                         \
	do {                                                                                       \
		int turns_ = 0;                                                                    \
		while (!(cond) && turns_++ < RIG_TURNS)                                            \
			rig_turn(r);                                                               \
		cr_assert(cond, "never: %s", #cond);                                               \
	} while (0)

/* Close what is left and see that everything came back: buffers, slabs, descriptors. */
RIG void rig_free(struct rig *r)
{
	if (r->a.closes == 0)
		stream_abort(&r->a.s);
	RIG_UNTIL(r, r->a.closes == 1);
	cr_expect_eq(engine_in_flight(r->engine), 0);
	cr_expect_not(r->a.wrong);
	if (r->peer >= 0)
		close(r->peer);
	if (r->listener >= 0)
		close(r->listener);
	engine_free(r->engine);
	slab_fini(&r->txq);
	slab_fini(&r->tls);
	buf_pool_fini(&r->bufs);
	cr_expect_eq(rig_open_fds(), r->fds, "a descriptor leaked");
	free(r);
}

#define EACH_MODE(r, n_modes, small, large)                                                        \
	for (size_t k_ = 0; k_ < (n_modes); k_++)                                                  \
		for (struct rig *r = rig_new(&rig_modes[k_], small, large); r != NULL;             \
		     rig_free(r), r = NULL)
#define EACH_ENGINE_WITH(r, small, large) EACH_MODE(r, 4, small, large)
/* Where turns or buffers are counted. */
#define EACH_CALM_ENGINE(r) EACH_MODE(r, 2, RIG_SMALL, RIG_LARGE)
#define EACH_CALM_ENGINE_WITH(r, small, large) EACH_MODE(r, 2, small, large)
#define EACH_ENGINE(r) EACH_ENGINE_WITH(r, RIG_SMALL, RIG_LARGE)

/* ---- sockets ------------------------------------------------------------------------------------ */

RIG void nonblocking(int fd)
{
	cr_assert_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

RIG struct sockaddr_in rig_listen(struct rig *r)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t          len = sizeof(at);
	r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(r->listener, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(listen(r->listener, 16), 0);
	cr_assert_eq(getsockname(r->listener, (struct sockaddr *)&at, &len), 0);
	return at;
}

/* Or the second small packet waits for a delayed acknowledgement. */
RIG void peer_nodelay(int fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* a becomes an accepted stream, ->peer a client. */
RIG void rig_adopt(struct rig *r, int sndbuf)
{
	struct sockaddr_in at = rig_listen(r);
	r->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sndbuf > 0)
		setsockopt(r->peer, SOL_SOCKET, SO_RCVBUF, &sndbuf, sizeof(sndbuf));
	peer_nodelay(r->peer);
	cr_assert_eq(connect(r->peer, (struct sockaddr *)&at, sizeof(at)), 0);
	int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert(fd >= 0);
	if (sndbuf > 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
	nonblocking(r->peer);
	if (strcmp(engine_name(r->engine), "epoll") == 0)
		nonblocking(fd);
	stream_adopt(&r->a.s, fd);
}

/* a connects, ->peer is the accepted side. */
RIG void rig_connect(struct rig *r, struct tls_policy *policy, const char *name)
{
	struct sockaddr_in at = rig_listen(r);
	cr_assert_eq(stream_connect(&r->a.s, (struct sockaddr *)&at, sizeof(at), policy, name), 0);
	rig_turn(r);
	r->peer = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(r->peer >= 0);
	peer_nodelay(r->peer);
}

/* n bytes of pattern at *at, as far as the socket takes them. */
RIG void peer_send(int fd, uint64_t *at, uint32_t n)
{
	uint8_t tmp[65536];
	cr_assert(n <= sizeof(tmp));
	for (uint32_t i = 0; i < n; i++)
		tmp[i] = pattern(*at + i);
	ssize_t rc = send(fd, tmp, n, MSG_NOSIGNAL);
	*at += rc > 0 ? (uint64_t)rc : 0;
}

/* Read what is there and compare.  > 0, 0 at the end, -errno. */
RIG int peer_recv(int fd, uint64_t *at, uint32_t cap)
{
	uint8_t tmp[65536];
	ssize_t n = recv(fd, tmp, cap < sizeof(tmp) ? cap : sizeof(tmp), 0);
	for (ssize_t i = 0; i < n; i++)
		cr_assert_eq(tmp[i], pattern(*at + (uint64_t)i), "at %lu", *at + (uint64_t)i);
	*at += n > 0 ? (uint64_t)n : 0;
	return n >= 0 ? (int)n : -errno;
}

RIG void peer_reset(int fd)
{
	struct linger now = { 1, 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* ---- writing the pattern in many ways ------------------------------------------------------------ */

RIG void write_copy(struct stream *s, uint64_t at, uint32_t n)
{
	uint8_t tmp[65536];
	for (uint32_t i = 0; i < n; i++)
		tmp[i] = pattern(at + i);
	stream_write_copy(s, tmp, n);
}

RIG void write_slice(struct rig *r, struct stream *s, uint64_t at, uint32_t n)
{
	struct buf *b = buf_get(&r->bufs, n > BUF_SMALL_SIZE ? BUF_LARGE : BUF_SMALL);
	if (b == NULL) {
		write_copy(s, at, n);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		b->data[i] = pattern(at + i);
	b->len = n;
	stream_write(s, (struct slice){ b, b->data, n });
}

RIG void write_reserved(struct stream *s, uint64_t at, uint32_t n)
{
	uint8_t *p = stream_reserve(s, n);
	cr_assert_not_null(p);
	for (uint32_t i = 0; i < n; i++)
		p[i] = pattern(at + i);
	stream_commit(s, n);
}

/* A random way and size, at most left; returns the bytes written. */
RIG uint32_t write_some(struct rig *r, struct stream *s, uint64_t at, uint64_t left)
{
	static const uint32_t sizes[] = { 1, 9, 100, 256, 257, 1000, 4096, 4097, 16384 };
	uint32_t n = (uint32_t)rand() % sizes[(uint32_t)rand() % 9] + 1;
	n = n < left ? n : (uint32_t)left;
	switch (rand() % 3) {
	case 0:
		write_copy(s, at, n);
		break;
	case 1:
		write_slice(r, s, at, n);
		break;
	default:
		write_reserved(s, at, n);
	}
	return n;
}

#endif
