/*
 * sidecar/run/supervisor_private.h - what the files of the supervisor share; nobody else includes
 * it.
 *
 * Shape    supervisor.c start, signals, loop, end         lifecycle.c   draining and ending
 *          generation.c configurations and their workers  watch.c       the dead and the silent
 *          front.c      admin and telemetry connections
 */
#ifndef RHC_SIDECAR_RUN_SUPERVISOR_PRIVATE_H
#define RHC_SIDECAR_RUN_SUPERVISOR_PRIVATE_H

#include "shm/event.h"
#include "sidecar/admin/admin.h"
#include "sidecar/http/env.h"
#include "sidecar/run/children.h"
#include "sidecar/run/options.h"
#include "sidecar/run/stats.h"

struct admin_socket {
	struct supervisor *s;
	struct admin_listener admin;
	struct engine_op accept;
	int fd;
};

struct supervisor {
	const struct options *o;
	const struct config *config; /* in force */
	struct list generations;     /* the newest last */
	struct generation *current;
	struct rhc_segment seg;
	struct rhc_ring_writer ring;
	_Atomic uint64_t *counters; /* the supervisor's row of worker counters */
	struct stats stats;
	int lock_fd;
	struct listen_set listen;
	int wake_fds[RHC_WORKERS_MAX];
	enum engine_kind engine_kind;
	uint32_t n_workers; /* of one generation */
	struct child children[RHC_WORKERS_MAX];

	struct engine *engine;
	struct buf_pool bufs;
	struct timer_wheel timers;
	struct http_slabs slabs;
	struct http_env http;
	struct http_limits limits;
	struct list conns; /* of admin and telemetry, the oldest first */
	uint32_t n_conns;
	struct admin admin;
	struct admin_hooks hooks;
	struct admin_socket sockets[3];
	struct engine_op signals;
	int signal_fd;
	struct timer second, ready, delay, deadline;
	uint64_t ready_poll_ns; /* the wait before the next look at workers that start */
	enum rhc_lifecycle lifecycle;
	bool reload_wanted; /* as soon as there is room for another generation */
	bool stopping;      /* SIGTERM was taken */
	bool draining;      /* workers were told */
	bool undrain_told;  /* why it cannot be taken back yet */
	int exit_code;
};

static inline uint64_t supervisor_now_ms(void)
{
	return clock_ns() / NS_PER_MS;
}

/* ---- lifecycle.c ---- */

void lifecycle_set(struct supervisor *s, enum rhc_lifecycle to);
/*
 * Stop accepting; the workers end when they have nothing left.  The supervisor stays, unless it is
 * stopping.
 */
void lifecycle_drain(struct supervisor *s);
/*
 * After a drain that did not mean the end: the same sockets and the configuration in force, with new
 * workers.  What is in the way (an address that is taken) leaves it draining; watch_on_second() tries
 * again.
 */
void lifecycle_undrain(struct supervisor *s);
void lifecycle_stop(struct supervisor *s, bool min_delay);
void lifecycle_stop_now(struct supervisor *s);
void lifecycle_on_delay(struct timer *t);
void lifecycle_on_deadline(struct timer *t);
unsigned lifecycle_running(const struct supervisor *s);
void lifecycle_tell_all(struct supervisor *s, char what);

/* ---- generation.c ---- */

/* -ENOMEM; -EAGAIN: not enough indices of the segment are free. */
int generation_new(struct supervisor *s, const struct config *config, struct upstream_tls *tls,
		   struct generation **ret);
int generation_start(
	struct supervisor
		*s); /* all workers of the current one; -errno of the first fork that failed */
/* Workers for the configuration in force, after a drain; -EAGAIN as generation_new(). */
int generation_renew(struct supervisor *s);
void generation_leave(
	struct child *
		c); /* c belongs to none any more; frees its retired generation with the last one */
void generation_free(struct generation *g);
void generation_on_ready(struct timer *t);
void generation_on_restart(struct timer *t);
/* SIGHUP.  Waits for room, when the generations before are still starting or draining. */
void generation_reload(struct supervisor *s);
/* Now, if one waits for it. */
void generation_reload_if_wanted(struct supervisor *s);

/* ---- watch.c ---- */

void watch_reap(struct supervisor *s); /* children that have ended */
void watch_on_second(struct timer *t);
void watch_take_back(struct supervisor *s, uint32_t index); /* what a dead worker held */
void watch_wake(struct supervisor *s, uint64_t mask);

/* ---- front.c ---- */

int front_open(struct supervisor *s);    /* 0 or -ENOMEM */
int front_make_io(struct supervisor *s); /* engine, buffers, timers; 0 or -errno */

#endif
