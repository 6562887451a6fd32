/*
 * sidecar/run/children.h - the worker processes as the supervisor keeps them.
 *
 * Shape    One struct child per worker index: running, or waiting for its restart.
 * Owns     The control channel of each; the pid until it was waited for.
 */
#ifndef RHC_SIDECAR_RUN_CHILDREN_H
#define RHC_SIDECAR_RUN_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

#include "sidecar/io/timer.h"
#include "sidecar/run/worker.h"

struct supervisor;

struct child {
	struct supervisor *s;
	uint32_t           index;
	pid_t              pid; /* 0: not running */
	int                control_fd; /* -1: none */
	uint64_t           born_ns;
	uint32_t           quick; /* deaths in quick succession */
	bool               hang_told;
	struct timer       restart;
};

/* 0 or -errno.  keep: descriptors besides the plan's that the child shall not lose. */
int  child_start(struct child *c, const struct worker_plan *plan);
void child_tell(struct child *c, char what);

/*
 * The wait before the next start, by how long the last life was: 0 the first time, then doubling from
 * supervisor.restart_backoff_min to _max; a life longer than _max begins anew.
 */
uint64_t child_backoff_ns(struct child *c, const struct config_supervisor *rule, uint64_t now_ns);

#endif
