#include "sidecar/run/bus.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sidecar/run/listen.h"

enum { BUS_LINE_MAX = 512 };

static char line[BUS_LINE_MAX]; /* made before, so that the handler has nothing to do but write */
static int line_len;
static struct listen_set *sockets;

static void on_bus(int sig)
{
	ssize_t n = write(STDERR_FILENO, line, (size_t)line_len);

	(void)n;
	(void)sig;
	if (sockets)
		listen_stop_data(sockets);
	_exit(EXIT_FAILURE);
}

void bus_guard(const char *who, const char *path, struct listen_set *listen)
{
	struct sigaction bus = { .sa_handler = on_bus };
	int n = snprintf(line, sizeof(line),
			 "rhc-sidecar: %s: %s: the segment was truncated while in use (SIGBUS): "
			 "ending; the next start sets it aside\n",
			 who, path);

	sockets = listen;
	line_len = n < (int)sizeof(line) ? n : (int)sizeof(line) - 1;
	sigaction(SIGBUS, &bus, NULL);
}
