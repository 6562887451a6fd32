#include "sidecar/io/stream.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sidecar/base/obj.h"
#include "sidecar/io/sock.h"
#include "sidecar/io/stream_private.h"

enum { DISCARD_ROUNDS = 16 };

static void stream_work(void *arg);
static void on_received(struct engine *e, struct engine_op *op, int res);
static void on_watched(struct engine *e, struct engine_op *op, int res);
static void on_connected(struct engine *e, struct engine_op *op, int res);

void stream_init(struct stream *s, struct stream_env *env, const struct stream_events *ev,
		 void *owner)
{
	OBJ_INIT(s, STREAM_MAGIC);
	s->env = env;
	s->ev = ev;
	s->owner = owner;
	s->fd = -1;
	engine_op_init(&s->rx, on_received);
	engine_op_init(&s->txop, stream_on_sent);
	engine_op_init(&s->watch, on_watched);
	s->work.fn = stream_work;
	s->work.arg = s;
}

void stream_kick(struct stream *s)
{
	engine_defer(s->env->engine, &s->work);
}

/* ---- buffers that are not there -------------------------------------------------------------- */

/*
 * Streams that wait hold a receive buffer each, so too many of them would wait for each other: a
 * few may, and the failure of the next one gives its buffer to them.
 */
void stream_starve(struct stream *s)
{
	struct stream_env *env = s->env;
	if (list_linked(&s->starved))
		return;
	if (env->n_starved == STREAM_STARVED_MAX) {
		stream_fail(s, STREAM_E_NO_BUFFERS, 0, NULL);
		return;
	}
	if (env->starved.head.next == NULL)
		list_init(&env->starved);
	list_push_back(&env->starved, &s->starved);
	env->n_starved++;
}

static void unstarve(struct stream *s)
{
	if (!list_linked(&s->starved))
		return;
	list_remove(&s->starved);
	s->env->n_starved--;
}

void stream_refilled(struct stream_env *env)
{
	if (env->n_starved == 0)
		return;
	struct stream *s = LIST_ENTRY(list_first(&env->starved), struct stream, starved);
	unstarve(s);
	stream_kick(s);
}

/* ---- the end --------------------------------------------------------------------------------- */

void stream_fail(struct stream *s, enum stream_error err, int sys_errno, const char *why)
{
	if (s->err != STREAM_OK)
		return;
	s->err = (uint8_t)err;
	s->sys_errno = sys_errno;
	s->why = why;
	stream_kick(s);
}

static bool idle(const struct stream *s)
{
	return !engine_busy(&s->rx) && !engine_busy(&s->txop) && !engine_busy(&s->watch);
}

/* Bytes nobody read would turn our FIN into RST, which can overtake what we sent. */
static void discard_unread(const struct stream *s)
{
	if (s->reset || s->eof_seen || s->broken)
		return;
	uint8_t sink[BUF_LARGE_SIZE];
	for (int i = 0; i < DISCARD_ROUNDS; i++) {
		if (recv(s->fd, sink, sizeof(sink), MSG_DONTWAIT) <= 0)
			break;
	}
}

static void release(struct stream *s)
{
	buf_unref(s->held);
	s->held = NULL;
	txlist_clear(&s->tx, stream_mem(s));
	stream_tls_free(s);
	unstarve(s);
}

/* Everything joined: the last words of a stream. */
void stream_finish(struct stream *s)
{
	if (!idle(s))
		return;
	engine_undefer(&s->work);
	release(s);
	if (s->fd >= 0) {
		discard_unread(s);
		engine_close(s->env->engine, s->fd);
		s->fd = -1;
	}
	s->state = STREAM_CLOSED;
	stream_refilled(s->env);
	OBJ_FINI(s, STREAM_MAGIC);
	s->ev->on_closed(s);
}

/*
 * End the operations in flight.  With reset no FIN may leave first: it would look like an orderly
 * end.  A send in flight has to end by itself or by shutdown: what a cancel leaves of it is not
 * known.  Without one the FIN comes with close(2), which saves a call.
 */
static void join(struct stream *s)
{
	struct engine *e = s->env->engine;
	bool connecting = s->state == STREAM_CONNECTING;
	s->state = STREAM_JOINING;
	unstarve(s);
	if (s->reset || connecting || !engine_busy(&s->txop)) {
		engine_cancel(e, &s->rx);
		engine_cancel(e, &s->txop);
	} else if (s->fd >= 0) {
		shutdown(s->fd, SHUT_RDWR);
	}
	engine_cancel(e, &s->watch);
	stream_kick(s);
}

void stream_close(struct stream *s)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	if (s->state >= STREAM_CLOSING)
		return;
	s->want = false;
	buf_unref(s->held);
	s->held = NULL;
	if (s->state == STREAM_NEW || s->state == STREAM_CONNECTING) {
		join(s);
		return;
	}
	if (!s->opened) /* what waits for the handshake will never be encrypted */
		txlist_clear(&s->tx, stream_mem(s));
	s->shut_wr = true;
	s->state = STREAM_CLOSING;
	stream_kick(s);
}

void stream_abort(struct stream *s)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	assert(s->state != STREAM_CLOSED);
	s->want = false;
	if (s->fd >= 0 && !s->reset) {
		s->reset = true;
		sock_reset_on_close(s->fd);
	}
	join(s);
}

/* ---- reading --------------------------------------------------------------------------------- */

void stream_receive(struct stream *s)
{
	if (engine_busy(&s->rx))
		return;
	if (s->pipe_max > 0 && s->tls == NULL)
		engine_recv_pipe(s->env->engine, &s->rx, s->fd, stream_class(s), s->pipe_max);
	else
		engine_recv(s->env->engine, &s->rx, s->fd, stream_class(s));
}

static bool unread(const struct stream *s)
{
	return s->held != NULL || (s->tls != NULL && s->tls->more);
}

/*
 * Receive while wanted; else keep an eye on the peer, once: a watch that fired would fire again at
 * once.
 */
static void arm(struct stream *s)
{
	if (s->state != STREAM_OPEN || s->err != STREAM_OK || s->eof_seen)
		return;
	if (s->want && !unread(s))
		stream_receive(s);
	else if (!s->want && !engine_busy(&s->rx) && !engine_busy(&s->watch) && !s->watch_fired)
		engine_watch(s->env->engine, &s->watch, s->fd);
}

void stream_pipe(struct stream *s, uint32_t max)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	s->pipe_max = max;
}

void stream_want(struct stream *s, bool want, bool large)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	if (s->state >= STREAM_CLOSING)
		return;
	s->want = want;
	s->rx_large = large;
	stream_refilled(s->env); /* who wants more has often given something back */
	if (want && !unread(s))
		arm(s);
	else if (s->state == STREAM_OPEN)
		stream_kick(s);
}

/*
 * A socket tells a reset once.  When the send in flight got to know it, whose completion may be
 * behind us in the same turn, the receive says 0 as if there had been FIN; the state does not lie.
 */
static bool was_reset(const struct stream *s)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	return engine_busy(&s->txop) && !s->fin_sent &&
	       getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_state == TCP_CLOSE;
}

/* FIN, and everything before it has been delivered. */
static void end_of_input(struct stream *s)
{
	if (s->eof_seen || s->err != STREAM_OK)
		return;
	if (!s->broken && was_reset(s)) {
		s->broken = true;
		s->sys_errno = ECONNRESET;
	}
	if (s->state == STREAM_HANDSHAKE) {
		stream_fail(s, STREAM_E_TLS, 0, "the peer closed the connection in the handshake");
	} else if (s->broken) {
		stream_fail(s, STREAM_E_RESET, s->sys_errno, NULL);
	} else if (s->tls != NULL) {
		stream_fail(s, STREAM_E_TRUNCATED, 0, NULL);
	} else {
		s->eof_seen = true;
		s->ev->on_eof(s, STREAM_OK);
	}
}

static void deliver(struct stream *s, struct buf *b)
{
	s->ev->on_data(s, (struct slice){ b, b->data, b->len });
	stream_refilled(s->env);
}

static void take(struct stream *s, struct buf *b)
{
	if (s->tls != NULL)
		stream_tls_received(s, b);
	else if (s->want)
		deliver(s, b);
	else
		s->held = b;
	if (s->want)
		arm(s);
	else if (s->state == STREAM_OPEN)
		stream_kick(s);
}

static void on_received(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	struct stream *s = CONTAINER_OF(op, struct stream, rx);
	OBJ_CHECK(s, STREAM_MAGIC);
	if (s->state >= STREAM_CLOSING || s->err != STREAM_OK) {
		if (res > 0)
			buf_unref(op->buf);
		else if (res < 0 && s->state == STREAM_CLOSING)
			stream_send_failed(s, -res);
		if (s->state == STREAM_JOINING)
			stream_finish(s);
		return;
	}
	if (res > 0)
		take(s, op->buf);
	else if (res == 0)
		end_of_input(s);
	else
		stream_fail(s, STREAM_E_RESET, -res, NULL);
}

/* FIN is next when there is nothing to read before it. */
static bool fin_is_next(const struct stream *s)
{
	uint8_t byte;
	return !unread(s) && !engine_busy(&s->rx) &&
	       recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void on_watched(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	struct stream *s = CONTAINER_OF(op, struct stream, watch);
	OBJ_CHECK(s, STREAM_MAGIC);
	s->watch_fired = true;
	if (s->state == STREAM_JOINING)
		stream_finish(s);
	else if (res < 0)
		stream_send_failed(s, -res); /* noticed here, the receive may see it as an end */
	else if (s->state == STREAM_OPEN && !s->want && fin_is_next(s))
		end_of_input(s);
}

/* Deliver what waited for being wanted. */
static void pull(struct stream *s)
{
	if (s->state != STREAM_OPEN || !s->want || s->err != STREAM_OK)
		return;
	struct buf *b = s->held;
	s->held = NULL;
	if (b != NULL)
		deliver(s, b);
	else if (s->tls != NULL)
		stream_tls_read(s);
}

/* ---- connecting ------------------------------------------------------------------------------ */

void stream_adopt(struct stream *s, int fd)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	assert(s->state == STREAM_NEW && fd >= 0);
	s->fd = fd;
	s->state = STREAM_OPEN;
	s->opened = true;
	stream_kick(s);
}

int stream_connect(struct stream *s, const struct sockaddr *addr, socklen_t len,
		   struct tls_policy *policy, const char *server_name)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	assert(s->state == STREAM_NEW);
	int fd;
	int rc = sock_open(addr->sa_family, &fd);
	if (rc < 0)
		return rc;
	if (policy != NULL && (rc = stream_tls_new(s, policy, server_name)) < 0) {
		close(fd);
		return rc;
	}
	s->fd = fd;
	s->state = STREAM_CONNECTING;
	s->rx.cb = on_connected;
	engine_connect(s->env->engine, &s->rx, fd, addr, len);
	return 0;
}

static enum stream_error connect_error(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return STREAM_E_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
	case EADDRNOTAVAIL:
		return STREAM_E_UNREACHABLE;
	default:
		return STREAM_E_CONNECT;
	}
}

void stream_opened(struct stream *s)
{
	s->opened = true;
	s->ev->on_open(s, STREAM_OK);
	if (s->state == STREAM_OPEN)
		stream_kick(s);
}

static void on_connected(struct engine *e, struct engine_op *op, int res)
{
	struct stream *s = CONTAINER_OF(op, struct stream, rx);
	OBJ_CHECK(s, STREAM_MAGIC);
	s->rx.cb = on_received;
	if (s->state == STREAM_JOINING) {
		stream_finish(s);
	} else if (res < 0) {
		stream_fail(s, connect_error(-res), -res, NULL);
	} else {
		s->connected_ns = engine_now(e);
		if (s->tls != NULL) {
			stream_tls_begin(s);
		} else {
			s->state = STREAM_OPEN;
			stream_opened(s);
		}
	}
}

uint64_t stream_connected_ns(const struct stream *s)
{
	return s->connected_ns;
}

/* ---- the end of a turn ----------------------------------------------------------------------- */

static void tell(struct stream *s)
{
	if (s->told)
		return;
	s->told = true;
	if (s->opened)
		s->ev->on_eof(s, (enum stream_error)s->err);
	else
		s->ev->on_open(s, (enum stream_error)s->err);
}

static void stream_work(void *arg)
{
	struct stream *s = arg;
	OBJ_CHECK(s, STREAM_MAGIC);
	unstarve(s);
	if (s->state == STREAM_JOINING) {
		stream_finish(s);
		return;
	}
	if (s->state >= STREAM_HANDSHAKE)
		stream_push(s);
	if (s->state == STREAM_CLOSING) {
		if (stream_all_sent(s))
			join(s);
	} else if (s->err != STREAM_OK) {
		tell(s);
	} else if (s->state == STREAM_HANDSHAKE && !engine_busy(&s->rx)) {
		stream_tls_handshake(s); /* its output had no room */
	} else {
		pull(s);
		arm(s);
	}
}

/* ---- questions ------------------------------------------------------------------------------- */

bool stream_is_tls(const struct stream *s)
{
	return s->tls != NULL;
}

const char *stream_alpn(const struct stream *s)
{
	return s->tls != NULL && s->tls->live ? tls_alpn(&s->tls->t) : "";
}

uint64_t stream_tls_peer_expires_s(const struct stream *s)
{
	return s->tls != NULL && s->tls->live ? tls_peer_expires_s(&s->tls->t) : 0;
}

bool stream_tls_resumed(const struct stream *s)
{
	return s->tls != NULL && s->tls->live && tls_resumed(&s->tls->t);
}

/* strerror() begins with a capital; our sentences do not. */
static void errno_text(int err, char *out, size_t cap)
{
	const char *text = err == EPIPE ? "connection reset by peer" : strerrordesc_np(err);
	snprintf(out, cap, "%s", text != NULL ? text : "unknown error");
	if (cap > 1)
		out[0] = (char)tolower((unsigned char)out[0]);
}

const char *stream_failure(const struct stream *s, char *out, size_t cap)
{
	const char *why = s->why != NULL ? s->why : "unknown reason";
	switch ((enum stream_error)s->err) {
	case STREAM_OK:
		snprintf(out, cap, "no error");
		break;
	case STREAM_E_TLS_ALERT:
		snprintf(out, cap, "the peer sent TLS alert %s", why);
		break;
	case STREAM_E_TLS:
	case STREAM_E_TLS_CERT:
		snprintf(out, cap, "%s", why);
		break;
	case STREAM_E_TRUNCATED:
		snprintf(out, cap, "the peer closed the connection without close_notify");
		break;
	case STREAM_E_NO_BUFFERS:
		snprintf(out, cap, "out of buffers");
		break;
	default:
		errno_text(s->sys_errno, out, cap);
	}
	return out;
}
