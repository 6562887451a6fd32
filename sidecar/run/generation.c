/* Configurations and the workers that run them: the first one, reloads, restarts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/config/findings.h"
#include "sidecar/io/tls.h"
#include "sidecar/run/logging.h"
#include "sidecar/run/segment.h"
#include "sidecar/run/supervisor_private.h"

#define READY_POLL_MIN_NS (2 * NS_PER_MS)   /* between looks at workers that are starting */
#define READY_POLL_MAX_NS (100 * NS_PER_MS) /* of those that do not come */
#define RELOAD_PATIENCE_NS \
	(5 * NS_PER_S) /* for workers that are starting; one that never serves may be replaced */
#define PLACE_LOOKS    10  /* for free indices, before there is no room ... */
#define PLACE_PAUSE_US 500 /* ... and between two of them */

/* ---- which indices ---- */

/* Indices of the segment that neither we nor a predecessor's draining workers use. */
static uint64_t look_for_places(const struct supervisor *s)
{
	uint64_t free = 0;

	for (uint32_t i = 0; i < s->seg.hdr.max_workers; i++) {
		if (!s->children[i].g &&
		    rhc_worker_alive(&s->seg, s->lock_fd, i) != RHC_ALIVE_YES)
			free |= UINT64_C(1) << i;
	}
	return free;
}

/*
 * 0 if they are too few.  Who reaps a dead worker holds its byte as a living one does, for less
 * than a millisecond: so too few are looked for again before that is believed.
 */
static uint64_t free_places(const struct supervisor *s)
{
	for (unsigned look = 0; look < PLACE_LOOKS; look++) {
		uint64_t free = look_for_places(s);

		if ((uint32_t)__builtin_popcountll(free) >= s->n_workers)
			return free;
		usleep(PLACE_PAUSE_US);
	}
	return 0;
}

static bool has_room(const struct supervisor *s)
{
	return free_places(s) != 0;
}

/* One look decides: what is reaped by a peer from now on is ours all the same, see take_index(). */
static int find_places(struct supervisor *s, struct generation *g)
{
	uint64_t free = free_places(s);

	if (free == 0)
		return -EAGAIN;
	for (uint32_t place = 0; place < s->n_workers; place++, free &= free - 1) {
		uint32_t i = (uint32_t)__builtin_ctzll(free);

		s->children[i] = (struct child){ .s = s,
						 .g = g,
						 .index = i,
						 .place = place,
						 .control_fd = -1,
						 .restart = { .fn = generation_on_restart } };
	}
	g->n = s->n_workers;
	return 0;
}

/* ---- birth and end of a generation ---- */

int generation_new(struct supervisor *s, const struct config *config, struct upstream_tls *tls,
		   struct generation **ret)
{
	struct generation *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return -ENOMEM;
	g->config = config;
	g->tls = tls;
	g->born_ns = clock_ns();
	g->plan = (struct worker_plan){
		.config = config,
		.seg = &s->seg,
		.listen = &s->listen,
		.tls = tls,
		.wake_fds = s->wake_fds,
		.engine = s->engine_kind,
		.workers = s->n_workers,
		.generation = atomic_load(&rhc_seg_hdr(&s->seg)->cfg_gen),
	};
	rc = find_places(s, g);
	if (rc != 0) {
		free(g);
		return rc;
	}
	list_push_back(&s->generations, &g->node);
	*ret = g;
	return 0;
}

void generation_free(struct generation *g)
{
	list_remove(&g->node);
	upstream_tls_free(g->tls, g->config);
	config_free(g->owned);
	free(g);
}

void generation_leave(struct child *c)
{
	struct generation *g = c->g;

	c->g = NULL;
	if (--g->n == 0 && g->retiring)
		generation_free(g);
}

/* Its ended workers are not awaited any more; it is kept. */
static void forget_ended(struct supervisor *s, struct generation *g)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];

		if (c->g != g || c->pid)
			continue;
		timer_clear(&s->timers, &c->restart);
		c->g = NULL;
		g->n--;
	}
}

int generation_renew(struct supervisor *s)
{
	struct generation *old = s->current, *g;
	int rc;

	forget_ended(s, old);
	rc = generation_new(s, s->config, old->tls, &g);
	if (rc != 0)
		return rc;
	g->owned = old->owned;
	old->owned = NULL;
	old->tls = NULL;
	old->retiring = true;
	s->current = g;
	if (old->n == 0)
		generation_free(old);
	(void)generation_start(s); /* what cannot be forked now is tried again */
	timer_set_in(&s->timers, &s->ready, 0);
	return 0;
}

static void start_later(struct supervisor *s, struct child *c, int rc)
{
	log_event(LOG_WORKER, LOG_ERROR, "worker_fork_failed", LOG_U64("worker", c->index),
		  LOG_ERRNO("error", rc),
		  LOG_U64("retry_in_ms", config_ms(s->config->supervisor.restart_backoff_max_ns)));
	timer_set_in(&s->timers, &c->restart, s->config->supervisor.restart_backoff_max_ns);
}

int generation_start(struct supervisor *s)
{
	int first = 0;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];
		int rc = c->g == s->current ? child_start(c) : 0;

		if (rc != 0 &&
		    s->engine) /* at the very start there is no loop that could try again */
			start_later(s, c, rc);
		first = first ? first : rc;
	}
	s->ready_poll_ns = READY_POLL_MIN_NS;
	return first;
}

void generation_on_restart(struct timer *t)
{
	struct child *c = CONTAINER_OF(t, struct child, restart);
	struct supervisor *s = c->s;
	int rc;

	if (s->draining)
		return;
	if (c->g->retiring) {
		generation_leave(c);
		return;
	}
	rc = child_start(c);
	if (rc != 0)
		start_later(s, c, rc);
}

/* ---- when it serves ---- */

/* The newest generation serves: those before it drain. */
static void retire_others(struct supervisor *s)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];

		if (!c->g || c->g == s->current)
			continue;
		if (c->pid)
			child_tell(c, WORKER_DRAIN);
		else if (!timer_armed(&c->restart))
			generation_leave(c);
	}
}

static bool all_serving(const struct supervisor *s)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		const struct rhc_worker_rec *rec;

		if (s->children[i].g != s->current)
			continue;
		rec = rhc_seg_worker(&s->seg, i);
		if (!s->children[i].pid || atomic_load(&rec->pid) != (uint64_t)s->children[i].pid ||
		    atomic_load(&rec->phase) != RHC_PHASE_SERVING)
			return false;
	}
	return true;
}

void generation_on_ready(struct timer *t)
{
	struct supervisor *s = CONTAINER_OF(t, struct supervisor, ready);

	if (s->draining)
		return;
	if (!all_serving(s)) {
		timer_set_in(&s->timers, t, s->ready_poll_ns);
		s->ready_poll_ns = s->ready_poll_ns * 2 < READY_POLL_MAX_NS ? s->ready_poll_ns * 2
									    : READY_POLL_MAX_NS;
		return;
	}
	s->current->served = true;
	if (s->lifecycle == RHC_LIFE_STARTING) {
		s->admin.started = true;
		lifecycle_set(s, RHC_LIFE_READY);
	}
	retire_others(s);
	generation_reload_if_wanted(s);
}

/* ---- reload ---- */

static void note_key(void *arg, const char *key, bool restart)
{
	unsigned *n = arg;

	log_event(LOG_CONFIG, restart ? LOG_WARN : LOG_INFO, "config_changed", LOG_STR("key", key),
		  LOG_STR("needs", restart ? "restart" : NULL));
	*n += restart;
}

static void refused(struct supervisor *s, const char *reason)
{
	s->admin.reload_failed = true;
	rhc_event_put(&s->ring, RHC_EV_config_refused, RHC_NO_UPSTREAM, supervisor_now_ms(),
		      (const uint64_t[5]){ 1 });
	rhc_ctr_inc(s->counters, RHC_WCTR_reload_fail);
	log_event(LOG_CONFIG, LOG_ERROR, "reload_refused", LOG_STR("reason", reason),
		  LOG_STR("instead", "the configuration in force goes on"));
}

/* Into the segment; what does not fit there leaves what was in force. */
static int declare(struct supervisor *s, const struct config *config)
{
	uint64_t wake = 0;
	int rc = segment_declare(&s->seg, config, &wake);

	if (rc != 0)
		(void)segment_declare(&s->seg, s->config,
				      &wake); /* had room before and has it now */
	watch_wake(s, wake);
	return rc;
}

/*
 * Places first, then the segment, then the processes: the last thing that can be refused comes
 * before any change.
 */
static int begin(struct supervisor *s, struct config *config, struct upstream_tls *tls)
{
	struct generation *g;
	int rc = generation_new(s, config, tls, &g);

	if (rc != 0)
		return rc;
	rc = declare(s, config);
	if (rc != 0) {
		for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
			if (s->children[i].g == g)
				s->children[i].g = NULL;
		}
		g->tls = NULL;
		generation_free(g);
		return rc;
	}
	g->owned = config;
	g->plan.generation = atomic_load(&rhc_seg_hdr(&s->seg)->cfg_gen);
	rhc_event_put(&s->ring, RHC_EV_config, RHC_NO_UPSTREAM, supervisor_now_ms(),
		      (const uint64_t[5]){ g->plan.generation, config_hash(config) });
	s->current->retiring = true;
	s->current = g;
	s->config = s->admin.config = config;
	logging_apply(&config->logging);
	(void)generation_start(s); /* what cannot be forked now is tried again */
	timer_set_in(&s->timers, &s->ready, 0);
	return 0;
}

/* Read it and see whether it may replace the one in force.  NULL: it was said why not. */
static struct config *read_config(struct supervisor *s)
{
	struct config *config = NULL;
	struct findings f;
	unsigned restart = 0;

	findings_init(&f);
	if (options_load(s->o, &config, &f) != 0)
		refused(s, "the configuration has errors");
	logging_findings(&f);
	findings_fini(&f);
	if (!config)
		return NULL;
	config_diff(s->config, config, note_key, &restart);
	if (restart == 0)
		return config;
	config_free(config);
	refused(s, "a changed key needs a restart, see above");
	return NULL;
}

/*
 * All or nothing: what is wrong with the new configuration, or cannot be changed while running,
 * leaves the old one in force.  Breakers, slots and counters are the segment's and go on.
 */
static void reload_now(struct supervisor *s)
{
	struct config *config = read_config(s);
	struct upstream_tls *tls = NULL;
	char why[TLS_WHY_MAX + 128];
	int rc;

	if (!config)
		return;
	if (upstream_tls_new(config, &tls, why, sizeof(why)) != 0) {
		config_free(config);
		refused(s, why);
		return;
	}
	rc = begin(s, config, tls);
	if (rc != 0) {
		upstream_tls_free(tls, config);
		config_free(config);
		refused(s, rc == -ENOSPC ? "more than shm.max_upstreams or forward_proxy.max_hosts left room for: needs a restart"
					 : strerror(-rc));
		return;
	}
	s->admin.reload_failed = false;
	rhc_ctr_inc(s->counters, RHC_WCTR_reload_ok);
	log_event(LOG_CONFIG, LOG_INFO, "reloaded",
		  LOG_U64("generation", s->current->plan.generation));
}

/*
 * The current generation never served, and its places are needed: the one before, which still
 * serves, is in force again until the next one is.
 */
static void roll_back(struct supervisor *s)
{
	struct generation *bad = s->current,
			  *before = LIST_ENTRY(bad->node.prev, struct generation, node);

	log_event(LOG_CONFIG, LOG_ERROR, "rolled_back", LOG_U64("generation", bad->plan.generation),
		  LOG_STR("reason", "its workers never served"));
	bad->retiring = true;
	before->retiring = false;
	s->current = before;
	s->config = s->admin.config = before->config;
	(void)declare(s, before->config);
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];

		if (c->g != bad)
			continue;
		timer_clear(&s->timers, &c->restart);
		if (c->pid)
			child_tell(c, WORKER_EXIT);
		else
			generation_leave(c); /* bad may be gone now */
	}
}

static bool is_oldest(const struct supervisor *s)
{
	return s->generations.head.next == &s->current->node;
}

/* Is there room, or will there be? */
static bool must_wait(struct supervisor *s)
{
	if (!s->current->served && clock_ns() - s->current->born_ns < RELOAD_PATIENCE_NS)
		return true;
	if (has_room(s) || is_oldest(s))
		return false;
	if (!s->current->served)
		roll_back(s);
	return true;
}

void generation_reload_if_wanted(struct supervisor *s)
{
	if (!s->reload_wanted || s->draining || s->stopping || must_wait(s))
		return;
	s->reload_wanted = false;
	if (!has_room(s))
		refused(s,
			"no free worker index: shm.max_workers is less than twice the workers, or a sidecar before this "
			"one still drains");
	else
		reload_now(s);
}

void generation_reload(struct supervisor *s)
{
	if (s->draining || s->stopping) {
		log_event(LOG_CONFIG, LOG_INFO, "reload_ignored", LOG_STR("reason", "draining"));
		return;
	}
	if (!s->reload_wanted && must_wait(s))
		log_event(LOG_CONFIG, LOG_INFO, "reload_waits",
			  LOG_STR("reason", "workers are starting or draining"));
	s->reload_wanted = true;
	generation_reload_if_wanted(s);
}
