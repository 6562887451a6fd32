/*
 * tests/bench/load.h - the load generator: requests in a closed loop or at a fixed rate.
 *
 * Shape    one thread, one epoll, many keep-alive HTTP/1.1 connections with one request each at a time.
 * Closed   each connection asks again as soon as it was answered.
 * Open     request k is due at start + k / rate and its latency counts from then, whether or not a
 *          connection was free: a proxy that stalls is charged for every request that had to wait.
 * Checks   status, length and samples of the body of each answer.
 */
#ifndef RHC_TESTS_BENCH_LOAD_H
#define RHC_TESTS_BENCH_LOAD_H

#include "tests/bench/bench.h"

#define LOAD_HEAD_MAX   8192
#define LOAD_ERRORS_MAX 100 /* more end the run */
#define LOAD_SUB        64  /* histogram: buckets per power of two, 1.6 % wide */
#define LOAD_BUCKETS    (LOAD_SUB * 42)

enum load_state { LOAD_CLOSED, LOAD_FREE, LOAD_SENDING, LOAD_HEAD, LOAD_BODY };

struct load_conn {
	int fd;
	enum load_state state;
	bool want_out;       /* EPOLLOUT is asked for */
	bool used;           /* it has answered before: the proxy may close it at any time */
	bool last;           /* the answer said Connection: close */
	unsigned head_len;
	unsigned host;       /* next request text */
	uint64_t due_ns;     /* latency counts from here */
	uint64_t sent;       /* of the request text and body */
	uint64_t body_len, body_got;
	struct load_conn *next_free;
	char head[LOAD_HEAD_MAX];
};

struct load_request {
	char *text;
	size_t len;
};

struct load {
	/* what to do */
	struct sockaddr_in addr;
	struct load_request *request; /* one per host name */
	unsigned hosts;
	uint64_t post, expect, status, rate, count;
	bool close; /* one request per connection, then a new one */
	bool once;  /* one request per connection, then it stays open, silent */
	unsigned window; /* requests in flight at most */
	/* how it stands */
	int epoll;
	struct load_conn *conn, *free;
	unsigned conns, busy;
	bool stopping;
	uint64_t started, start_ns;
	uint64_t answered, errors, reconnects, bytes;
	uint64_t bucket[LOAD_BUCKETS];
};

/* Give connections something to do: all free ones, or as many as are due. */
void load_start_due(struct load *l, uint64_t now);
/* Something happened on the connection. */
void load_event(struct load *l, struct load_conn *c, uint32_t events);

#endif
