/* A small HTTP/1.1 origin that acts between the turns and does what the test says. */
#ifndef RHC_TESTS_UPSTREAM_ORIGIN_H
#define RHC_TESTS_UPSTREAM_ORIGIN_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ORIGIN_CONNS_MAX = 64 };

struct origin_conn {
	int fd; /* 0: free */
	char in[4096];
	size_t n;
	unsigned requests;
	bool owes; /* a response is held back */
};

struct origin {
	int listen;
	uint16_t port;
	bool hold;            /* requests are not answered until origin_answer() */
	bool close_after;     /* FIN after a response that did not announce it */
	bool kill_on_request; /* RST for all but the first request of a connection */
	const char *reply;    /* NULL: 200 with two bytes */
	unsigned accepted, requests;
	char last[4096]; /* the last request */
	struct origin_conn conn[ORIGIN_CONNS_MAX];
};

/* Listens on ip; port 0: any. */
static inline void origin_init(struct origin *o, const char *ip, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	socklen_t len = sizeof(in);
	int one = 1;

	memset(o, 0, sizeof(*o));
	inet_pton(AF_INET, ip, &in.sin_addr);
	o->listen = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(o->listen, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	cr_assert_eq(bind(o->listen, (struct sockaddr *)&in, sizeof(in)), 0);
	cr_assert_eq(listen(o->listen, 128), 0);
	cr_assert_eq(getsockname(o->listen, (struct sockaddr *)&in, &len), 0);
	o->port = ntohs(in.sin_port);
}

static inline void origin_close(struct origin_conn *c, bool reset)
{
	struct linger now = { .l_onoff = 1 };

	if (c->fd <= 0)
		return;
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c->fd);
	memset(c, 0, sizeof(*c));
}

static inline void origin_close_all(struct origin *o, bool reset)
{
	for (int i = 0; i < ORIGIN_CONNS_MAX; i++)
		origin_close(&o->conn[i], reset);
}

static inline void origin_fini(struct origin *o)
{
	origin_close_all(o, false);
	if (o->listen >= 0)
		close(o->listen);
	o->listen = -1;
}

static inline unsigned origin_open(const struct origin *o)
{
	unsigned n = 0;

	for (int i = 0; i < ORIGIN_CONNS_MAX; i++)
		n += o->conn[i].fd > 0;
	return n;
}

static inline void origin_reply(struct origin *o, struct origin_conn *c)
{
	const char *text = o->reply ? o->reply : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

	c->owes = false;
	/* A caller that has gone away meanwhile is none of the origin's business. */
	if (send(c->fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text) ||
	    o->close_after)
		origin_close(c, false);
}

/* Answer what was held back; at most n. */
static inline void origin_answer(struct origin *o, unsigned n)
{
	for (int i = 0; i < ORIGIN_CONNS_MAX && n > 0; i++) {
		if (o->conn[i].fd > 0 && o->conn[i].owes) {
			origin_reply(o, &o->conn[i]);
			n--;
		}
	}
}

static inline void origin_read(struct origin *o, struct origin_conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->n, sizeof(c->in) - c->n - 1, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		origin_close(c, false);
		return;
	}
	c->n += (size_t)n;
	c->in[c->n] = '\0';
	if (!strstr(c->in, "\r\n\r\n"))
		return;
	memcpy(o->last, c->in, c->n + 1);
	c->n = 0;
	c->requests++;
	o->requests++;
	if (o->kill_on_request && c->requests > 1)
		origin_close(c, true);
	else if (o->hold)
		c->owes = true;
	else
		origin_reply(o, c);
}

static inline void origin_act(void *arg)
{
	struct origin *o = arg;
	int fd;

	while (o->listen >= 0 &&
	       (fd = accept4(o->listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		int i = 0;

		while (i < ORIGIN_CONNS_MAX && o->conn[i].fd > 0)
			i++;
		cr_assert_lt(i, ORIGIN_CONNS_MAX);
		o->conn[i] = (struct origin_conn){ .fd = fd };
		o->accepted++;
	}
	for (int i = 0; i < ORIGIN_CONNS_MAX; i++)
		if (o->conn[i].fd > 0)
			origin_read(o, &o->conn[i]);
}

/* A port of the loopback on which nobody listens: bound, so that nobody else takes it. */
static inline int origin_nobody(const char *ip, uint16_t port, uint16_t *ret_port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, ip, &in.sin_addr);
	cr_assert_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

#endif
