/*
 * sidecar/run/supervisor.h - the process that stays: sockets, segment, workers, admin and
 * telemetry.
 *
 * Owns        Every listening socket, the segment's MASTER byte, the TLS policies, the workers'
 *             control channels.
 * Loop        One engine_turn() loop on the epoll engine (the supervisor never owns a ring);
 *             signals by signalfd.
 * Never       depends on what the segment holds to do its job: children, restarts and timers are
 *             private memory.
 * Workers     A dead one is reaped (its slots, probes and tickets come back), reported and
 *             replaced: at once the first time, with doubling waits (supervisor.restart_backoff_*)
 *             when deaths follow each other.  One without a beat for supervisor.hang_timeout is
 *             killed.
 * Ends when   SIGTERM: shutdown.min_delay, then drain, then 0.  Second SIGTERM or SIGINT: at once,
 *             0.
 */
#ifndef RHC_SIDECAR_RUN_SUPERVISOR_H
#define RHC_SIDECAR_RUN_SUPERVISOR_H

#include "sidecar/run/options.h"

/* From a checked configuration to the end; returns the exit code. */
int supervisor_run(const struct options *o, const struct config *config);

#endif
