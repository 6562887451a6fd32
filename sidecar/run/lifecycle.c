/* Draining and ending. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/run/supervisor_private.h"

#define KILL_GRACE_NS (5 * NS_PER_S)    /* beyond shutdown.max_wait */
#define EXIT_GRACE_NS (500 * NS_PER_MS) /* after "at once" */

void lifecycle_set(struct supervisor *s, enum rhc_lifecycle to)
{
	static const char *const names[] = { "starting", "ready", "draining", "stopped" };
	const uint64_t arg[5] = { s->lifecycle, to };

	if (to == s->lifecycle)
		return;
	s->lifecycle = to;
	atomic_store(&rhc_seg_hdr(&s->seg)->lifecycle, (uint32_t)to);
	rhc_event_put(&s->ring, RHC_EV_lifecycle, RHC_NO_UPSTREAM, supervisor_now_ms(), arg);
	log_event(LOG_CORE, LOG_INFO, "lifecycle", LOG_STR("state", names[to]));
}

void lifecycle_tell_all(struct supervisor *s, char what)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].pid)
			child_tell(&s->children[i], what);
	}
}

unsigned lifecycle_running(const struct supervisor *s)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++)
		n += s->children[i].pid != 0;
	return n;
}

/* Once told, also when POST /drain came first and SIGTERM later: then only the deadline is new. */
void lifecycle_drain(struct supervisor *s)
{
	if (s->stopping && !timer_armed(&s->deadline))
		timer_set_in(&s->timers, &s->deadline,
			     s->config->shutdown.max_wait_ns + KILL_GRACE_NS);
	if (s->draining)
		return;
	s->draining = true;
	atomic_store(&rhc_seg_hdr(&s->seg)->drain, 1); /* until somebody takes it back */
	lifecycle_set(s, RHC_LIFE_DRAINING);
	listen_close_data(&s->listen);
	lifecycle_tell_all(s, WORKER_DRAIN);
}

void lifecycle_undrain(struct supervisor *s)
{
	char why[LISTEN_WHY_MAX];
	int rc;

	if (!s->draining || s->stopping)
		return;
	rc = listen_open_data(&s->listen, s->config, why);
	if (rc == 0)
		rc = generation_renew(s);
	if (rc != 0) {
		listen_close_data(&s->listen);
		if (!s->undrain_told)
			log_event(LOG_CORE, LOG_ERROR, "undrain_waits",
				  LOG_STR("reason", rc == -EAGAIN ? "no free worker index" : why),
				  LOG_STR("instead", "tried again each second"));
		s->undrain_told = true;
		return;
	}
	s->undrain_told = s->draining = false;
	lifecycle_set(s, RHC_LIFE_STARTING);
}

void lifecycle_on_delay(struct timer *t)
{
	lifecycle_drain(CONTAINER_OF(t, struct supervisor, delay));
}

/* shutdown.max_wait is long over: what is left is stuck. */
void lifecycle_on_deadline(struct timer *t)
{
	struct supervisor *s = CONTAINER_OF(t, struct supervisor, deadline);

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].pid)
			kill(s->children[i].pid, SIGKILL);
	}
	timer_set_in(&s->timers, t, EXIT_GRACE_NS);
}

void lifecycle_stop(struct supervisor *s, bool min_delay)
{
	s->stopping = true;
	if (min_delay && s->config->shutdown.min_delay_ns && !s->draining) {
		lifecycle_set(s, RHC_LIFE_DRAINING);
		timer_set_in(&s->timers, &s->delay, s->config->shutdown.min_delay_ns);
		return;
	}
	lifecycle_drain(s);
}

void lifecycle_stop_now(struct supervisor *s)
{
	s->stopping = s->draining = true;
	lifecycle_set(s, RHC_LIFE_DRAINING);
	listen_stop_data(&s->listen);
	lifecycle_tell_all(s, WORKER_EXIT);
	timer_set_in(&s->timers, &s->deadline, EXIT_GRACE_NS);
}
