/*
 * sidecar/run/children.h - the worker processes as the supervisor keeps them.
 *
 * Shape    One struct child per index of the segment: unused, running, or waiting for its restart.
 *          A struct generation is what the workers of one configuration share; a reload makes the
 *          next one, and the one before lives until its last worker has drained.
 * Owns     The control channel of each child, its pid until it was waited for; the generation its
 *          configuration and TLS policies.
 */
#ifndef RHC_SIDECAR_RUN_CHILDREN_H
#define RHC_SIDECAR_RUN_CHILDREN_H

#include <stdbool.h>
#include <sys/types.h>

#include "sidecar/io/timer.h"
#include "sidecar/run/worker.h"

struct supervisor;

struct generation {
	struct list_node node;
	const struct config *config;
	struct config *owned; /* the same, when it came by a reload */
	struct upstream_tls *tls;
	struct worker_plan plan;
	uint64_t born_ns;
	uint32_t n;    /* children that belong to it */
	bool served;   /* all of its workers did, once */
	bool retiring; /* a newer one is there: no restarts */
};

struct child {
	struct supervisor *s;
	struct generation *g; /* NULL: unused */
	uint32_t index;
	uint32_t place; /* among the listening sockets */
	pid_t pid;      /* 0: not running */
	int control_fd; /* -1: none */
	uint64_t born_ns;
	uint32_t quick; /* deaths in quick succession */
	bool hang_told;
	struct timer restart;
};

/* 0 or -errno. */
int child_start(struct child *c);
/*
 * A byte for the worker.  When its channel is full (it has not read for hundreds of them), draining
 * and ending are asked for by SIGTERM instead, and what else was to be told is superfluous.
 */
void child_tell(struct child *c, char what);
void child_forget(struct child *c); /* it was waited for */

/*
 * The wait before the next start, by how long the last life was: 0 the first time, then doubling
 * from supervisor.restart_backoff_min to _max; a life longer than _max begins anew.
 */
uint64_t child_backoff_ns(struct child *c, const struct config_supervisor *rule, uint64_t now_ns);

#endif
