/*
 * tests/bench/load.c - rhc-load: options, the loop, the figures.
 *
 * usage: rhc-load --to 127.0.0.1:PORT [--connections 64] [--seconds 1 | --ms 1000] [--count N] [--rate N]
 *                 [--path /1024] [--post BYTES] [--expect BYTES] [--status 200] [--hosts 1] [--close]
 *                 [--gate | --hold]
 *
 * --gate     asks once on each connection, says "ready" and begins when a line comes on stdin: so what it takes
 *            to open them is not in the figures.
 * --hold     asks once on each connection, says "ready" and keeps them open until stdin ends.
 * Prints one JSON object; latencies in microseconds.
 */
#include "tests/bench/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS    256
#define GRACE_NS  (UINT64_C(10) * 1000000000) /* for answers after the end; then it is an error */
#define HOLD_MAX_S  300
#define WARM_WINDOW 64

static void make_requests(struct load *l, const char *path)
{
	l->request = calloc(l->hosts, sizeof(*l->request));
	if (!l->request)
		die("out of memory");
	for (unsigned i = 0; i < l->hosts; i++) {
		char length[64] = "";
		int n;

		if (l->post)
			snprintf(length, sizeof(length), "Content-Length: %" PRIu64 "\r\n", l->post);
		n = asprintf(&l->request[i].text,
		             "%s %s HTTP/1.1\r\nHost: h%u.bench\r\nUser-Agent: rhc-load\r\nAccept: */*\r\n"
		             "%s%s\r\n",
		             l->post ? "POST" : "GET", path, i, length,
		             l->close ? "Connection: close\r\n" : "");
		if (n < 0)
			die("out of memory");
		l->request[i].len = (size_t)n;
	}
}

static void make_connections(struct load *l)
{
	l->conn = calloc(l->conns, sizeof(*l->conn));
	if (!l->conn)
		die("out of memory");
	for (unsigned i = l->conns; i-- > 0;) {
		l->conn[i].fd = -1;
		l->conn[i].state = LOAD_FREE;
		l->conn[i].next_free = l->free;
		l->free = &l->conn[i];
	}
}

/* How long to sleep: to the next due request, else a tick that sees the end. */
static uint64_t sleep_ns(const struct load *l, uint64_t now, uint64_t end)
{
	uint64_t until = now + 50000000, due;

	if (l->rate && l->free && !l->stopping) {
		due = l->start_ns + (uint64_t)((double)l->started * 1e9 / (double)l->rate);
		if (due < until)
			until = due;
	}
	if (end < until && !l->stopping)
		until = end;
	return until > now ? until - now : 0;
}

static void turn(struct load *l, uint64_t wait)
{
	struct timespec ts = { .tv_sec = 0, .tv_nsec = (long)wait };
	struct epoll_event ev[EVENTS];
	int n = epoll_pwait2(l->epoll, ev, EVENTS, &ts, NULL);

	if (n < 0 && errno != EINTR)
		die("epoll_pwait2: %s", strerror(errno));
	for (int i = 0; i < n; i++)
		load_event(l, ev[i].data.ptr, ev[i].events);
}

/* Returns the ns it took until the last answer. */
static uint64_t run(struct load *l, uint64_t for_ns)
{
	uint64_t end, now;

	l->start_ns = now = now_ns();
	end = l->start_ns + for_ns;
	while (!l->stopping || l->busy) {
		load_start_due(l, now);
		if (l->stopping && !l->busy)
			break;
		turn(l, sleep_ns(l, now, end));
		now = now_ns();
		if (now >= end)
			l->stopping = true;
		if (now >= end + GRACE_NS)
			die("rhc-load: %u requests without an answer", l->busy);
	}
	return now_ns() - l->start_ns;
}

static double quantile_us(const struct load *l, double q)
{
	uint64_t want = (uint64_t)((double)l->answered * q), seen = 0;

	for (unsigned i = 0; i < LOAD_BUCKETS; i++) {
		seen += l->bucket[i];
		if (seen > want || (seen == l->answered && seen)) {
			unsigned shift = i / LOAD_SUB;

			if (shift == 0)
				return i / 1e3;
			return (double)((uint64_t)(i % LOAD_SUB + LOAD_SUB + 1) << (shift - 1)) / 1e3;
		}
	}
	return 0;
}

static void print(const struct load *l, uint64_t took)
{
	printf("{\"answered\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"reconnects\": %" PRIu64
	       ", \"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"rps\": %.1f, \"p50\": %.1f, \"p90\": %.1f, "
	       "\"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
	       l->answered, l->errors, l->reconnects, l->bytes + l->answered * l->post,
	       (double)took / 1e9, (double)l->answered * 1e9 / (double)took, quantile_us(l, 0.5),
	       quantile_us(l, 0.9), quantile_us(l, 0.99), quantile_us(l, 0.999), quantile_us(l, 1));
}

static void hold(void)
{
	char byte;

	printf("ready\n");
	fflush(stdout);
	alarm(HOLD_MAX_S);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

/* One request on each connection, not counted; the connections are free again afterwards. */
static void warm_up(struct load *l)
{
	uint64_t rate = l->rate, count = l->count;

	l->once = true;
	l->rate = 0;
	l->count = l->conns;
	l->window = WARM_WINDOW;
	run(l, GRACE_NS);
	l->once = l->stopping = false;
	l->rate = rate;
	l->count = count;
	l->window = UINT32_MAX;
	l->started = l->answered = l->bytes = l->reconnects = 0;
	memset(l->bucket, 0, sizeof(l->bucket));
	l->free = NULL;
	for (unsigned i = l->conns; i-- > 0;) {
		l->conn[i].next_free = l->free;
		l->free = &l->conn[i];
	}
}

static void wait_for_go(void)
{
	char byte;

	printf("ready\n");
	fflush(stdout);
	if (read(STDIN_FILENO, &byte, 1) < 0)
		die("rhc-load: stdin: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	static struct load l;
	const char *path = option(argc, argv, "--path", "/0");
	uint64_t ms = option_number(argc, argv, "--ms", 0), took;
	bool holding = option_flag(argc, argv, "--hold"), gate = option_flag(argc, argv, "--gate");

	l.addr = address_of(option(argc, argv, "--to", "127.0.0.1:4640"));
	l.conns = (unsigned)option_number(argc, argv, "--connections", 64);
	l.hosts = (unsigned)option_number(argc, argv, "--hosts", 1);
	l.post = option_number(argc, argv, "--post", 0);
	l.expect = option_number(argc, argv, "--expect", UINT64_MAX);
	l.status = option_number(argc, argv, "--status", 200);
	l.rate = option_number(argc, argv, "--rate", 0);
	l.count = option_number(argc, argv, "--count", 0);
	l.window = UINT32_MAX;
	l.close = option_flag(argc, argv, "--close");
	if (!ms)
		ms = 1000 * option_number(argc, argv, "--seconds", 1);
	options_done(argc, argv);
	if (!l.conns || !l.hosts)
		die("rhc-load: nothing to do");
	raise_files();
	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	make_requests(&l, path);
	make_connections(&l);
	if (holding || gate)
		warm_up(&l);
	if (holding) {
		hold();
		return 0;
	}
	if (gate)
		wait_for_go();
	took = run(&l, ms * 1000000);
	print(&l, took);
	return 0;
}
