#include "tests/origin/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/origin/routes.h"
#include "tests/origin/stats.h"

#define IN_SIZE  65536
#define OUT_SIZE 65536

enum phase { HEAD, BODY, WAIT, WRITE, DISCARD, SILENT };

struct conn {
	struct conn *next, *prev;
	int fd, epfd;
	uint32_t interest;
	enum phase phase;
	bool mortal;  /* ends when the origin starts to refuse */
	bool counted; /* in stats.current */
	const struct route *route;
	unsigned gate;   /* the opening it waits for */
	int64_t wake_ms; /* 0: it waits for nothing */
	size_t in_at, in_len, out_at, out_len;
	char in[IN_SIZE], out[OUT_SIZE];
	struct request request;
	struct reply reply;
};

static struct conn *conns;
static uint32_t waiting; /* how many have wake_ms or wait at the gate */

static void conn_run(struct conn *c);

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static void wait_until(struct conn *c, int64_t wake_ms)
{
	if (!c->wake_ms && wake_ms)
		waiting++;
	if (c->wake_ms && !wake_ms)
		waiting--;
	c->wake_ms = wake_ms;
}

static void count_end(struct conn *c, bool answered)
{
	if (c->counted)
		stats_end(answered);
	c->counted = false;
}

static void conn_close(struct conn *c, bool reset)
{
	struct linger rst = { .l_onoff = 1, .l_linger = 0 };

	count_end(c, false);
	wait_until(c, 0);
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
	close(c->fd);
	stats.connections--;
	if (c->prev)
		c->prev->next = c->next;
	else
		conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	request_fini(&c->request);
	reply_fini(&c->reply);
	free(c);
}

/* EPOLLRDHUP always: a peer that goes while it is owed an answer ends its request. */
static void want(struct conn *c, uint32_t events)
{
	struct epoll_event e = { .events = events | EPOLLRDHUP, .data.ptr = c };

	if (c->interest == e.events)
		return;
	c->interest = e.events;
	epoll_ctl(c->epfd, EPOLL_CTL_MOD, c->fd, &e);
}

void conn_accept(int epfd, int listen_fd, bool mortal)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;

	if (fd < 0)
		return;
	struct conn *c = stats.connections < CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->fd = fd;
	c->epfd = epfd;
	c->mortal = mortal;
	c->next = conns;
	if (conns)
		conns->prev = c;
	conns = c;
	stats.connections++;
	stats.connections_all++;
	request_reset(&c->request);
	c->interest = EPOLLIN | EPOLLRDHUP;
	struct epoll_event e = { .events = c->interest, .data.ptr = c };
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e) < 0)
		conn_close(c, true);
}

static void begin_write(struct conn *c)
{
	c->phase = WRITE;
	c->out_at = c->out_len = 0;
}

static void begin_reply(struct conn *c)
{
	struct reply *p = &c->reply;

	reply_reset(p);
	route_reply(c->route, &c->request, p);
	if (strcmp(c->request.method, "HEAD") == 0) {
		const char *end = p->head.len ? memmem(p->head.at, p->head.len, "\r\n\r\n", 4) : NULL;

		if (end)
			p->head.len = (size_t)(end - p->head.at) + 4;
		p->pattern_end = p->tail.len = 0;
	}
	/* Who was answered before the body and waits for a 100 may never send it: start anew. */
	bool unsent = c->request.expects_continue && c->request.body != BODY_DONE && c->phase == HEAD;
	if (p->ending == END_KEEP && (!c->request.keep_alive || unsent))
		p->ending = END_CLOSE;
	c->gate = mode.gate;
	begin_write(c);
	if (p->wait_ms || p->gate) {
		c->phase = WAIT;
		wait_until(c, p->gate ? INT64_MAX : now_ms() + (int64_t)p->wait_ms);
	}
}

/* The malformed get a status and a close. */
static void begin_refusal(struct conn *c)
{
	static const char text[] = "the origin cannot read this request\n";

	stats.bad_requests++;
	reply_reset(&c->reply);
	reply_head(&c->reply, (unsigned)c->request.error_status, true);
	reply_text(&c->reply, "text/plain", text, sizeof(text) - 1);
	begin_write(c);
}

static void head_done(struct conn *c)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

	c->route = route_find(&c->request);
	if (!route_is_own(c->route)) {
		stats_begin();
		c->counted = true;
	}
	if (route_when(c->route) != WHEN_COMPLETE) {
		begin_reply(c);
		return;
	}
	if (c->request.expects_continue && c->request.body != BODY_DONE)
		(void)!write(c->fd, go_on, sizeof(go_on) - 1);
	if (c->request.body == BODY_DONE)
		begin_reply(c);
	else
		c->phase = BODY;
}

/* Reads once; false when there is nothing now or the connection is gone. */
static bool conn_read(struct conn *c)
{
	ssize_t n = read(c->fd, c->in, sizeof(c->in));

	if (n < 0 && errno == EAGAIN) {
		want(c, EPOLLIN);
		return false;
	}
	if (n <= 0) {
		conn_close(c, false);
		return false;
	}
	c->in_at = 0;
	c->in_len = (size_t)n;
	return true;
}

/* Consumes what was read; returns false when the connection waits or is gone. */
static bool conn_input(struct conn *c)
{
	size_t used = 0;
	enum request_result res;

	if (c->in_at == c->in_len && !conn_read(c))
		return false;
	const char *at = c->in + c->in_at;
	size_t len = c->in_len - c->in_at;
	if (c->phase == HEAD)
		res = request_feed_head(&c->request, at, len, &used);
	else
		res = request_feed_body(&c->request, at, len, &used);
	c->in_at += used;
	if (res == REQUEST_BAD) {
		begin_refusal(c);
	} else if (res == REQUEST_OK && c->phase == HEAD) {
		head_done(c);
	} else if (res == REQUEST_OK && c->phase == BODY) {
		begin_reply(c);
	} else if (res == REQUEST_OK) {
		request_reset(&c->request);
		c->phase = HEAD;
	}
	return true;
}

/* What comes after the last byte; false when the connection is gone or silent. */
static bool conn_ending(struct conn *c)
{
	switch (c->reply.ending) {
	case END_HANG:
		c->phase = SILENT;
		want(c, 0);
		return false;
	case END_RESET:
		conn_close(c, true);
		return false;
	case END_CLOSE:
		count_end(c, true);
		conn_close(c, false);
		return false;
	case END_KEEP:
		break;
	}
	count_end(c, true);
	if (c->request.body != BODY_DONE) {
		c->phase = DISCARD;
	} else {
		request_reset(&c->request);
		c->phase = HEAD;
	}
	return true;
}

static bool conn_write(struct conn *c)
{
	if (c->out_at == c->out_len) {
		c->out_at = 0;
		c->out_len = reply_next(&c->reply, c->out, sizeof(c->out));
		if (c->out_len == 0)
			return conn_ending(c);
	}
	ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
	if (n < 0 && errno == EAGAIN) {
		want(c, EPOLLOUT);
		return false;
	}
	if (n < 0) {
		conn_close(c, false);
		return false;
	}
	c->out_at += (size_t)n;
	if (c->reply.drip_ms && c->reply.pattern_at > 0 && c->out_at == c->out_len) {
		c->phase = WAIT;
		wait_until(c, now_ms() + (int64_t)c->reply.drip_ms);
	}
	return true;
}

static void conn_run(struct conn *c)
{
	for (;;) {
		switch (c->phase) {
		case WAIT:
		case SILENT:
			want(c, 0);
			return;
		case WRITE:
			if (!conn_write(c))
				return;
			break;
		default:
			if (!conn_input(c))
				return;
		}
	}
}

void conn_event(struct conn *c, uint32_t events)
{
	bool reading = c->phase == HEAD || c->phase == BODY || c->phase == DISCARD;

	if ((events & (EPOLLERR | EPOLLHUP)) || ((events & EPOLLRDHUP) && !reading))
		conn_close(c, false);
	else
		conn_run(c);
}

int conns_next_ms(void)
{
	int64_t next = INT64_MAX;

	if (waiting == 0)
		return -1;
	for (struct conn *c = conns; c; c = c->next)
		if (c->wake_ms && c->wake_ms < next)
			next = c->wake_ms;
	if (next == INT64_MAX)
		return -1;
	int64_t left = next - now_ms();
	return left <= 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

void conns_due(void)
{
	int64_t now = waiting ? now_ms() : 0;

	for (struct conn *c = conns, *next; c && waiting; c = next) {
		next = c->next;
		bool open = c->reply.gate && c->gate != mode.gate;

		if (!c->wake_ms || (c->wake_ms > now && !open))
			continue;
		wait_until(c, 0);
		c->phase = WRITE;
		conn_run(c);
	}
}

void conns_close_mortal(void)
{
	for (struct conn *c = conns, *next; c; c = next) {
		next = c->next;
		if (c->mortal)
			conn_close(c, true);
	}
}

void conns_fini(void)
{
	while (conns)
		conn_close(conns, true);
}
