#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/relay.h"

#define EVENTS 256

/* One end of a relayed connection; what it reads waits in its own buffer until the peer took it. */
struct side {
	struct side *peer;
	SSL *ssl; /* upstream side, with --tls */
	int fd, pipe[2];
	uint32_t events;
	size_t off, len; /* unsent bytes in buf, or in the pipe */
	bool ended;      /* nothing more will come from here */
	bool dead;       /* freed after this turn */
	struct side *next_dead;
	char buf[];
};

static const struct relay_opt *opt;
static SSL_CTX *ctx;
static int epoll;
static struct side *graveyard;

static void watch(struct side *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };

	if (events == s->events)
		return;
	if (epoll_ctl(epoll, s->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &ev))
		die("epoll_ctl: %s", strerror(errno));
	s->events = events;
}

static struct side *side_new(int fd)
{
	struct side *s = calloc(1, sizeof(*s) + (opt->splice ? 0 : opt->buffer));

	if (!s)
		die("out of memory");
	s->fd = fd;
	s->pipe[0] = s->pipe[1] = -1;
	if (opt->splice && pipe2(s->pipe, O_NONBLOCK | O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	return s;
}

static void bury(struct side *s)
{
	if (s->dead)
		return;
	s->dead = true;
	close(s->fd);
	if (s->pipe[0] >= 0) {
		close(s->pipe[0]);
		close(s->pipe[1]);
	}
	SSL_free(s->ssl);
	s->ssl = NULL;
	s->next_dead = graveyard;
	graveyard = s;
}

static ssize_t tls_result(struct side *s, int n)
{
	int why;

	if (n > 0)
		return n;
	why = SSL_get_error(s->ssl, n);
	ERR_clear_error();
	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
	return -1;
}

static ssize_t fill(struct side *s)
{
	if (opt->splice)
		return splice(s->fd, NULL, s->pipe[1], NULL, opt->buffer,
		              SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (s->ssl)
		return tls_result(s, SSL_read(s->ssl, s->buf, (int)opt->buffer));
	return recv(s->fd, s->buf, opt->buffer, 0);
}

static ssize_t give(struct side *s)
{
	struct side *to = s->peer;

	if (opt->splice)
		return splice(s->pipe[0], NULL, to->fd, NULL, s->len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (to->ssl)
		return tls_result(to, SSL_write(to->ssl, s->buf + s->off, (int)s->len));
	return send(to->fd, s->buf + s->off, s->len, MSG_NOSIGNAL);
}

/* false: the connection is over. */
static bool empty(struct side *s)
{
	while (s->len) {
		ssize_t n = give(s);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		s->off += (size_t)n;
		s->len -= (size_t)n;
	}
	s->off = 0;
	if (s->ended)
		shutdown(s->peer->fd, SHUT_WR);
	return !s->ended || !s->peer->ended;
}

static bool move_on(struct side *s)
{
	ssize_t n;

	do {
		if (s->len || s->ended)
			break;
		n = fill(s);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return false;
		s->ended = n == 0;
		s->len = (size_t)n;
		if (!empty(s))
			return false;
	} while (s->ssl && SSL_pending(s->ssl)); /* epoll does not know of those */
	return true;
}

static uint32_t wanted(const struct side *s)
{
	bool tls_waits = s->ssl && !SSL_is_init_finished(s->ssl);

	return (s->len || s->ended ? 0 : (uint32_t)EPOLLIN) |
	       (s->peer->len && !tls_waits ? (uint32_t)EPOLLOUT : 0) |
	       (tls_waits ? (uint32_t)EPOLLIN : 0);
}

static void event(struct side *s, uint32_t events)
{
	struct side *p = s->peer;
	bool ok = true;

	if (s->dead)
		return;
	if ((events & EPOLLOUT) || (s->ssl && p->len))
		ok = empty(p);
	if (ok && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		ok = move_on(s);
	if (ok && s->ssl && p->len) /* the handshake may just have ended */
		ok = empty(p);
	if (ok && (events & EPOLLERR) && s->len)
		ok = false;
	if (!ok) {
		bury(s);
		bury(p);
		return;
	}
	watch(s, wanted(s) ? wanted(s) : EPOLLET);
	watch(p, wanted(p) ? wanted(p) : EPOLLET);
}

static void welcome(int listener)
{
	int fd;

	while ((fd = accept_from(listener)) >= 0) {
		struct side *down = side_new(fd), *up = side_new(connect_to(&opt->to));

		down->peer = up;
		up->peer = down;
		if (opt->tls) {
			up->ssl = SSL_new(ctx);
			if (!up->ssl || !SSL_set_fd(up->ssl, up->fd))
				die("TLS: no session");
			SSL_set_connect_state(up->ssl);
			SSL_do_handshake(up->ssl);
			ERR_clear_error();
		}
		watch(down, EPOLLIN);
		watch(up, EPOLLIN);
	}
}

static void sweep(void)
{
	while (graveyard) {
		struct side *s = graveyard;

		graveyard = s->next_dead;
		free(s);
	}
}

_Noreturn void relay_epoll(const struct relay_opt *how)
{
	int listener = listen_on(&how->from);
	struct epoll_event ev[EVENTS] = { { .events = EPOLLIN } };

	opt = how;
	if (how->tls) {
		ctx = SSL_CTX_new(TLS_client_method());
		if (!ctx)
			die("TLS: no context");
		SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	}
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, ev))
		die("epoll_ctl: %s", strerror(errno));
	for (;;) {
		int n = epoll_wait(epoll, ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (!ev[i].data.ptr)
				welcome(listener);
			else
				event(ev[i].data.ptr, ev[i].events);
		}
		sweep();
	}
}
