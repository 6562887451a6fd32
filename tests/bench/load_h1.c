#include "tests/bench/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char scratch[256 * 1024];

/* ---- connections ---- */

static void watch(struct load *l, struct load_conn *c, int how, bool out)
{
	struct epoll_event ev = { .events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0),
		                  .data.ptr = c };

	if (epoll_ctl(l->epoll, how, c->fd, &ev))
		die("epoll_ctl: %s", strerror(errno));
	c->want_out = out;
}

static void open_conn(struct load *l, struct load_conn *c)
{
	c->fd = connect_to(&l->addr);
	c->used = c->last = false;
	watch(l, c, EPOLL_CTL_ADD, false);
}

static void close_conn(struct load_conn *c)
{
	close(c->fd);
	c->fd = -1;
}

static void failed(struct load *l, const char *what)
{
	if (++l->errors == 1)
		fprintf(stderr, "rhc-load: %s\n", what);
	if (l->errors > LOAD_ERRORS_MAX)
		die("rhc-load: too many errors");
}

/* ---- sending ---- */

static ssize_t send_some(struct load *l, struct load_conn *c)
{
	const struct load_request *r = &l->request[c->host];
	uint64_t at;

	if (c->sent < r->len)
		return send(c->fd, r->text + c->sent, r->len - c->sent,
		            MSG_NOSIGNAL | (l->post ? MSG_MORE : 0));
	at = c->sent - r->len;
	if (l->post - at < BENCH_BLOCK - at % BENCH_PATTERN)
		return send(c->fd, pattern_block() + at % BENCH_PATTERN, l->post - at, MSG_NOSIGNAL);
	return send(c->fd, pattern_block() + at % BENCH_PATTERN, BENCH_BLOCK - at % BENCH_PATTERN,
	            MSG_NOSIGNAL);
}

static void begin(struct load *l, struct load_conn *c, uint64_t due);

/* The connection broke under a request: the proxy may close a used one between two requests. */
static void broke(struct load *l, struct load_conn *c, const char *what)
{
	if (c->used && c->state <= LOAD_HEAD && c->head_len == 0)
		l->reconnects++;
	else
		failed(l, what);
	close_conn(c);
	l->busy--;
	begin(l, c, c->due_ns);
}

static void keep_sending(struct load *l, struct load_conn *c)
{
	uint64_t whole = l->request[c->host].len + l->post;

	while (c->sent < whole) {
		ssize_t n = send_some(l, c);

		if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
			if (!c->want_out)
				watch(l, c, EPOLL_CTL_MOD, true);
			return;
		}
		if (n < 0) {
			broke(l, c, strerror(errno));
			return;
		}
		c->sent += (uint64_t)n;
	}
	if (c->want_out)
		watch(l, c, EPOLL_CTL_MOD, false);
	if (c->state == LOAD_SENDING)
		c->state = LOAD_HEAD;
}

static void begin(struct load *l, struct load_conn *c, uint64_t due)
{
	if (c->fd < 0)
		open_conn(l, c);
	c->state = LOAD_SENDING;
	c->due_ns = due;
	c->sent = c->head_len = 0;
	l->busy++;
	keep_sending(l, c);
}

void load_start_due(struct load *l, uint64_t now)
{
	while (l->free && !l->stopping && l->busy < l->window) {
		struct load_conn *c = l->free;
		uint64_t due = now;

		if (l->rate) {
			due = l->start_ns + (uint64_t)((double)l->started * 1e9 / (double)l->rate);
			if (due > now)
				return;
		}
		l->free = c->next_free;
		c->host = (unsigned)(l->started++ % l->hosts);
		if (l->count && l->started >= l->count)
			l->stopping = true;
		begin(l, c, due);
	}
}

/* ---- answers ---- */

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < LOAD_SUB)
		return (unsigned)ns;
	shift = 63 - (unsigned)__builtin_clzll(ns) - 6;
	if (shift > 40)
		return LOAD_BUCKETS - 1;
	return (shift + 1) * LOAD_SUB + (unsigned)((ns >> shift) - LOAD_SUB);
}

static void answered(struct load *l, struct load_conn *c)
{
	uint64_t now = now_ns();

	l->bucket[bucket_of(now > c->due_ns ? now - c->due_ns : 0)]++;
	l->answered++;
	l->busy--;
	c->used = true;
	if (l->close || c->last)
		close_conn(c);
	c->state = LOAD_FREE;
	if (l->once)
		return;
	c->next_free = l->free;
	l->free = c;
}

static const char *field(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " ");
	}
	return NULL;
}

static void read_head(struct load *l, struct load_conn *c)
{
	const char *length = field(c->head, "content-length");
	const char *connection = field(c->head, "connection");
	unsigned status = (unsigned)strtoul(c->head + strcspn(c->head, " "), NULL, 10);

	if (status != l->status)
		die("rhc-load: status %u, not %u:\n%s", status, (unsigned)l->status, c->head);
	if (!length)
		die("rhc-load: an answer without Content-Length:\n%s", c->head);
	c->last = connection && strncasecmp(connection, "close", 5) == 0;
	c->body_len = strtoull(length, NULL, 10);
	if (l->expect != UINT64_MAX && c->body_len != l->expect)
		die("rhc-load: %llu bytes, not %llu", (unsigned long long)c->body_len,
		    (unsigned long long)l->expect);
	c->body_got = 0;
	c->state = LOAD_BODY;
}

static void take_body(struct load *l, struct load_conn *c, const char *data, size_t len)
{
	if (len > c->body_len - c->body_got)
		die("rhc-load: more bytes than announced");
	if (len && l->expect != UINT64_MAX &&
	    (data[0] != pattern_at(c->body_got) || data[len - 1] != pattern_at(c->body_got + len - 1)))
		die("rhc-load: the body is not the origin's, near byte %llu",
		    (unsigned long long)c->body_got);
	c->body_got += len;
	l->bytes += len;
	if (c->body_got == c->body_len)
		answered(l, c);
}

static void take(struct load *l, struct load_conn *c, const char *data, size_t len)
{
	const char *end;
	size_t had = c->head_len, room = LOAD_HEAD_MAX - 1 - had, part = len < room ? len : room;

	if (c->state == LOAD_BODY) {
		take_body(l, c, data, len);
		return;
	}
	if (c->state == LOAD_FREE)
		die("rhc-load: an answer nobody asked for");
	memcpy(c->head + had, data, part);
	c->head_len += (unsigned)part;
	c->head[c->head_len] = '\0';
	end = strstr(c->head, "\r\n\r\n");
	if (!end && part == len)
		return;
	if (!end)
		die("rhc-load: a head beyond %d bytes", LOAD_HEAD_MAX);
	part = (size_t)(end + 4 - c->head) - had;
	c->head[had + part] = '\0';
	read_head(l, c);
	take_body(l, c, data + part, len - part);
}

static void ended(struct load *l, struct load_conn *c)
{
	if (c->state != LOAD_FREE) {
		broke(l, c, "connection closed before the answer was complete");
		return;
	}
	l->reconnects++; /* between two requests: the next one opens it anew */
	close_conn(c);
}

void load_event(struct load *l, struct load_conn *c, uint32_t events)
{
	ssize_t n;

	if (c->fd < 0)
		return; /* closed by an earlier event of this turn */
	if (events & EPOLLOUT) {
		keep_sending(l, c);
		return; /* what else there is comes again: level-triggered */
	}
	n = recv(c->fd, scratch, sizeof(scratch), 0);
	if (n > 0)
		take(l, c, scratch, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		ended(l, c);
}
