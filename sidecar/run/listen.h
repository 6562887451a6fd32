/*
 * sidecar/run/listen.h - the listening sockets: opened once by the supervisor, kept over every
 * death of a worker.
 *
 * Shape   For each listener one SO_REUSEPORT socket per worker index, so that a worker's
 *         replacement finds the connections that were waiting; one socket each for admin and
 *         telemetry, which the supervisor serves. Unix sockets know no SO_REUSEPORT: there one
 *         socket is shared by all workers.
 * Owns    The descriptors, until listen_close().
 */
#ifndef RHC_SIDECAR_RUN_LISTEN_H
#define RHC_SIDECAR_RUN_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/base.h"
#include "sidecar/config/config.h"
#include "sidecar/io/sock.h"

enum { LISTEN_MAX = CONFIG_LISTENERS_MAX + CONFIG_UPSTREAMS_MAX, LISTEN_WHY_MAX = 256 };

struct listen_set {
	uint32_t n; /* data listeners */
	uint32_t workers;
	int (*fd)[RHC_WORKERS_MAX];                /* [n][workers] */
	struct sock_addr *addr;                    /* [n]: what was really bound */
	int admin_fd, admin_unix_fd, telemetry_fd; /* -1: none */
};

/* 0, or -errno with a sentence in why. */
int listen_open(struct listen_set *s, const struct config *config, uint32_t workers,
		char why[LISTEN_WHY_MAX]);
void listen_close(struct listen_set *s);
/* The data sockets again, after listen_close_data(): all of them or, with -errno and why, none. */
int listen_open_data(struct listen_set *s, const struct config *config, char why[LISTEN_WHY_MAX]);
/* The supervisor's copies of the data sockets: workers keep theirs and drain them. */
void listen_close_data(struct listen_set *s);
/*
 * Nobody listens on them any more, whoever holds them: a worker that ends with an accept in its
 * ring leaves the ring, and with it the listening socket, to the kernel for some milliseconds.  A
 * signal handler may call it.
 */
void listen_stop_data(struct listen_set *s);

#endif
