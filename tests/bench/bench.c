#include "tests/bench/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define ARGS_MAX 64

static bool asked[ARGS_MAX]; /* argv entries some option() has looked at */

void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- sockets ---- */

struct sockaddr_in address_of(const char *text)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	const char *colon = strchr(text, ':');
	char host[INET_ADDRSTRLEN] = "";

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		die("not host:port: %s", text);
	memcpy(host, text, (size_t)(colon - text));
	addr.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, host, &addr.sin_addr) != 1)
		die("not an IPv4 address: %s", host);
	return addr;
}

static void no_delay(int fd)
{
	int one = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		die("TCP_NODELAY: %s", strerror(errno));
}

int listen_on(const struct sockaddr_in *addr)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) || listen(fd, 4096))
		die("listen on port %u: %s", ntohs(addr->sin_port), strerror(errno));
	return fd;
}

int accept_from(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		no_delay(fd);
	else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
		die("accept: %s", strerror(errno));
	return fd;
}

int connect_to(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	no_delay(fd);
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) && errno != EINPROGRESS)
		die("connect to port %u: %s", ntohs(addr->sin_port), strerror(errno));
	return fd;
}

void raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit: %s", strerror(errno));
}

/* ---- body ---- */

char pattern_at(uint64_t offset)
{
	static const char chars[BENCH_PATTERN + 1] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	return chars[offset % BENCH_PATTERN];
}

const char *pattern_block(void)
{
	static char block[BENCH_BLOCK];

	if (!block[0]) {
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = pattern_at(i);
	}
	return block;
}

/* ---- options ---- */

const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
	size_t len = strlen(name);

	for (int i = 1; i < argc && i < ARGS_MAX; i++) {
		if (strncmp(argv[i], name, len) != 0)
			continue;
		if (argv[i][len] == '=') {
			asked[i] = true;
			return argv[i] + len + 1;
		}
		if (!argv[i][len] && i + 1 < argc && i + 1 < ARGS_MAX) {
			asked[i] = asked[i + 1] = true;
			return argv[i + 1];
		}
	}
	return otherwise;
}

uint64_t option_number(int argc, char **argv, const char *name, uint64_t otherwise)
{
	const char *text = option(argc, argv, name, NULL);
	char *end;
	uint64_t value;

	if (!text)
		return otherwise;
	value = strtoull(text, &end, 10);
	if (end == text || *end)
		die("%s wants a number, not %s", name, text);
	return value;
}

bool option_flag(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc && i < ARGS_MAX; i++) {
		if (!asked[i] && strcmp(argv[i], name) == 0) {
			asked[i] = true;
			return true;
		}
	}
	return false;
}

void options_done(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (i >= ARGS_MAX || !asked[i])
			die("%s: unknown option %s; see tests/bench/README.md", argv[0], argv[i]);
	}
}
