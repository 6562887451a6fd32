/*
 * sidecar/run/worker.h - one worker process: an engine, the listeners' sockets, the exchanges.
 *
 * Owns        Everything of its own: engine, buffers, slabs, upstreams; made after fork, sized at
 *             start.
 * Owned by    The supervisor, which forks it (without exec: configuration and TLS contexts are
 *             shared copy-on-write) and waits for it.
 * Crash       Takes nothing with it: its slots, probes and tickets are reaped, its listening
 *             sockets are the supervisor's too and wait for its replacement.
 * Ends when   It was asked to drain (control channel, segment, SIGTERM) and nothing is left, or
 *             shutdown.max_wait is over; or the supervisor died (end of the control channel): then
 *             it drains, too.
 */
#ifndef RHC_SIDECAR_RUN_WORKER_H
#define RHC_SIDECAR_RUN_WORKER_H

#include "sidecar/io/engine.h"
#include "sidecar/run/listen.h"
#include "sidecar/upstream/upstream.h"

/* What the supervisor has prepared; inherited by fork. */
struct worker_plan {
	const struct config *config;
	struct rhc_segment *seg;
	const struct listen_set *listen;
	const struct upstream_tls *tls;
	const int *wake_fds; /* RHC_WORKERS_MAX eventfds, -1: none */
	enum engine_kind engine;
	uint32_t workers;
	uint64_t generation; /* of the configuration */
};

/* Bytes on the control channel, supervisor to worker. */
enum { WORKER_DRAIN = 'D', WORKER_EXIT = 'X', WORKER_HEALTH = 'H', WORKER_REOPEN = 'R' };

/* Write the eventfds of the workers in the mask; wake_fds as in the plan. */
void worker_wake(const int *wake_fds, uint64_t mask);

/*
 * The whole life of a worker; returns its exit code.  index is its place in the segment, place the
 * one among the listening sockets: two generations share the sockets, never an index.
 */
int worker_run(const struct worker_plan *plan, uint32_t index, uint32_t place, int control_fd);

#endif
