/*
 * tests/bench/sink.c - rhc-sink: the origin.  GET /N answers N bytes; POST takes any body, answers 0 bytes.
 *
 * usage: rhc-sink --listen 127.0.0.1:PORT
 *
 * Shape    one thread, one epoll, answers from a block that is made once.
 * Limits   heads to 8 KiB, bodies with Content-Length only: what proxies send for what rhc-load sends.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define EVENTS   256
#define HEAD_MAX 8192

struct conn {
	int fd;
	bool want_out, closing;
	size_t in_len;
	uint64_t upload_left;
	char out[160];
	size_t out_len, out_sent;
	uint64_t body_len, body_sent;
	char in[HEAD_MAX + 1];
};

static char scratch[256 * 1024];
static int epoll;

static void watch(struct conn *c, int how, bool out)
{
	struct epoll_event ev = { .events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0),
		                  .data.ptr = c };

	if (epoll_ctl(epoll, how, c->fd, &ev))
		die("epoll_ctl: %s", strerror(errno));
	c->want_out = out;
}

static void welcome(int listener)
{
	int fd;

	while ((fd = accept_from(listener)) >= 0) {
		struct conn *c = calloc(1, sizeof(*c));

		if (!c)
			die("out of memory");
		c->fd = fd;
		watch(c, EPOLL_CTL_ADD, false);
	}
}

/* Case-insensitive; the head ends with 0. */
static const char *find_field(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	return at ? at + strlen(name) : NULL;
}

static void answer(struct conn *c)
{
	c->out_len = (size_t)snprintf(c->out, sizeof(c->out),
	                              "HTTP/1.1 200 OK\r\nServer: rhc-sink\r\n"
	                              "Content-Type: application/octet-stream\r\n"
	                              "Content-Length: %" PRIu64 "\r\n%s\r\n",
	                              c->body_len, c->closing ? "Connection: close\r\n" : "");
	c->out_sent = c->body_sent = 0;
}

/* 1 all sent, 0 the socket is full, -1 gone */
static int send_answer(struct conn *c)
{
	while (c->out_sent < c->out_len || c->body_sent < c->body_len) {
		size_t at = c->body_sent % BENCH_PATTERN, piece = BENCH_BLOCK - at;
		struct iovec iov[2];
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
		ssize_t n;

		if (piece > c->body_len - c->body_sent)
			piece = c->body_len - c->body_sent;
		iov[0] = (struct iovec){ c->out + c->out_sent, c->out_len - c->out_sent };
		iov[1] = (struct iovec){ (void *)(uintptr_t)(pattern_block() + at), piece };
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		if ((size_t)n < iov[0].iov_len) {
			c->out_sent += (size_t)n;
			continue;
		}
		c->out_sent = c->out_len;
		c->body_sent += (size_t)n - iov[0].iov_len;
	}
	c->out_len = c->out_sent = c->body_len = c->body_sent = 0;
	return 1;
}

/* -1 when the connection is done. */
static int reply(struct conn *c)
{
	int rc;

	answer(c);
	rc = send_answer(c);
	if (rc == 0)
		watch(c, EPOLL_CTL_MOD, true);
	return rc < 0 || (rc == 1 && c->closing) ? -1 : 0;
}

static int read_head(struct conn *c, size_t head_len)
{
	char *path = strchr(c->in, ' ');
	const char *length, *how;
	char kept = c->in[head_len];
	size_t more = c->in_len - head_len;

	c->in[head_len] = '\0';
	length = find_field(c->in, "\r\nContent-Length:");
	how = find_field(c->in, "\r\nConnection: ");
	c->closing = how && strncasecmp(how, "close", 5) == 0;
	c->upload_left = length ? strtoull(length, NULL, 10) : 0;
	c->body_len = path && path[1] == '/' ? strtoull(path + 2, NULL, 10) : 0;
	c->in[head_len] = kept;
	if (more > c->upload_left)
		die("rhc-sink: pipelined requests are not what this measures");
	c->upload_left -= more;
	c->in_len = 0;
	return c->upload_left ? 0 : reply(c);
}

static int take_upload(struct conn *c)
{
	ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);

	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	if (n == 0 || (uint64_t)n > c->upload_left)
		return -1;
	c->upload_left -= (uint64_t)n;
	return c->upload_left ? 0 : reply(c);
}

static int take(struct conn *c)
{
	ssize_t n;
	char *end;

	if (c->upload_left)
		return take_upload(c);
	n = recv(c->fd, c->in + c->in_len, HEAD_MAX - c->in_len, 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? 0 : -1;
	c->in_len += (size_t)n;
	c->in[c->in_len] = '\0';
	end = strstr(c->in, "\r\n\r\n");
	if (!end)
		return c->in_len == HEAD_MAX ? -1 : 0;
	return read_head(c, (size_t)(end + 4 - c->in));
}

static int more(struct conn *c)
{
	int rc = send_answer(c);

	if (rc == 1)
		watch(c, EPOLL_CTL_MOD, false);
	return rc < 0 || (rc == 1 && c->closing) ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = address_of(option(argc, argv, "--listen", "127.0.0.1:8000"));
	struct conn listener = { .fd = listen_on(&addr) };
	struct epoll_event ev[EVENTS];

	options_done(argc, argv);
	raise_files();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(&listener, EPOLL_CTL_ADD, false);
	for (;;) {
		int n = epoll_wait(epoll, ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c == &listener) {
				welcome(listener.fd);
			} else if ((c->want_out ? more(c) : take(c)) < 0) {
				close(c->fd);
				free(c);
			}
		}
	}
}
