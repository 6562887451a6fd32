/*
 * rhc-origin - a small HTTP/1.1 origin that fails on request, for tests and for the quickstart.
 *
 * rhc-origin [--port N] [--control-port N]
 *
 * Prints "listening PORT" and "control PORT" and serves both until SIGTERM or SIGINT.  The same paths
 * work on both; mode "refuse" stops the first from listening, so ask the second then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/origin/conn.h"
#include "tests/origin/routes.h"

#define EVENTS_MAX 256
#define BACKLOG    1024

struct listener {
	int fd;
	uint16_t port;
	bool open;
};

static struct listener data = { .fd = -1 }, control = { .fd = -1 };

static int die(const char *what)
{
	fprintf(stderr, "rhc-origin: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Bound, and listening if asked: a bound socket that does not listen refuses, and keeps its port. */
static void listener_bind(struct listener *l, bool listening, int epfd)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(l->port) };
	socklen_t len = sizeof(at);
	int one = 1;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (l->fd >= 0)
		close(l->fd);
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		die("socket");
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		die("bind");
	getsockname(l->fd, (struct sockaddr *)&at, &len);
	l->port = ntohs(at.sin_port);
	l->open = listening;
	if (!listening)
		return;
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = l };
	if (listen(l->fd, BACKLOG) < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, l->fd, &e) < 0)
		die("listen");
}

static int signals_open(int epfd, void *tag)
{
	sigset_t set;
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = tag };

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0 || epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e) < 0)
		die("signalfd");
	return fd;
}

static int mode_epfd;
static bool mortal_due; /* connections to be ended once the events at hand are served */

/*
 * The mode may have changed: the data port listens or refuses, before the change is answered, so that who asked
 * for it can rely on it.
 */
void listeners_follow_mode(void)
{
	bool open = mode.kind != MODE_REFUSE;

	if (open == data.open)
		return;
	listener_bind(&data, open, mode_epfd);
	mortal_due = mortal_due || !open;
}

static void serve(int epfd, const int *stop)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int n = epoll_wait(epfd, events, EVENTS_MAX, conns_next_ms());

		for (int i = 0; i < n; i++) {
			void *tag = events[i].data.ptr;

			if (tag == stop)
				return;
			if (tag == &data || tag == &control)
				conn_accept(epfd, ((struct listener *)tag)->fd, tag == &data);
			else
				conn_event(tag, events[i].events);
		}
		conns_due();
		if (mortal_due)
			conns_close_mortal();
		mortal_due = false;
	}
}

static uint16_t port_of(const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (*end != '\0' || port > 65535) {
		fprintf(stderr, "rhc-origin: not a port: %s\n", text);
		exit(2);
	}
	return (uint16_t)port;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--port") == 0 && i + 1 < argc) {
			data.port = port_of(argv[++i]);
		} else if (strcmp(argv[i], "--control-port") == 0 && i + 1 < argc) {
			control.port = port_of(argv[++i]);
		} else {
			printf("usage: rhc-origin [--port N] [--control-port N]\n\npaths:\n");
			route_help(stdout);
			return strcmp(argv[i], "--help") == 0 ? 0 : 2;
		}
	}
	int epfd = epoll_create1(EPOLL_CLOEXEC), stop = -1;
	if (epfd < 0)
		die("epoll_create1");
	mode_epfd = epfd;
	stop = signals_open(epfd, &stop);
	listener_bind(&data, true, epfd);
	listener_bind(&control, true, epfd);
	printf("listening %u\ncontrol %u\n", data.port, control.port);
	fflush(stdout);
	serve(epfd, &stop);
	conns_fini();
	close(data.fd);
	close(control.fd);
	close(stop);
	close(epfd);
	return 0;
}
