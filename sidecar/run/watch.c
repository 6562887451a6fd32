/* The dead and the silent: what they held is taken back, they are reported and replaced. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/admin.h"
#include "sidecar/base/log.h"
#include "sidecar/run/segment.h"
#include "sidecar/run/stats.h"
#include "sidecar/run/supervisor_private.h"

void watch_wake(struct supervisor *s, uint64_t mask)
{
	worker_wake(s->wake_fds, mask);
}

void watch_take_back(struct supervisor *s, uint32_t index)
{
	struct rhc_reaped sum = { 0 };
	uint64_t wake = 0;
	int rc = rhc_reap(&s->seg, s->lock_fd, index, supervisor_now_ms(), &sum, &wake);

	watch_wake(s, wake);
	if (rc != 0) {
		log_event(LOG_SHM, LOG_WARN, "reap_postponed", LOG_U64("worker", index),
			  LOG_ERRNO("error", rc));
	} else if (sum.record) {
		rhc_ctr_inc(s->counters, RHC_WCTR_reaps);
		log_event(LOG_SHM, LOG_WARN, "worker_reaped", LOG_U64("worker", index),
			  LOG_U64("slots", sum.slots), LOG_U64("probes", sum.probes),
			  LOG_U64("waiting", sum.waiting));
	}
}

static void count_end(struct supervisor *s, const struct child *c, int status)
{
	rhc_ctr_inc(s->counters, c->hang_told          ? RHC_WCTR_restarts_hang
				 : WIFSIGNALED(status) ? RHC_WCTR_restarts_signal
						       : RHC_WCTR_restarts_exit);
}

static void note_end(struct supervisor *s, struct child *c, pid_t pid, int status,
		     uint64_t delay_ns)
{
	struct rhc_worker_rec *rec = rhc_seg_worker(&s->seg, c->index);
	const uint64_t now = supervisor_now_ms(),
		       arg[5] = { (uint64_t)pid, (uint64_t)status, delay_ns / NS_PER_MS };

	atomic_store(&rec->last_end, rhc_field((uint64_t)status, 48, 16) | rhc_field(now, 0, 48));
	atomic_fetch_add(&rec->restarts, 1);
	count_end(s, c, status);
	rhc_event_put(&s->ring, RHC_EV_worker_restart, RHC_NO_UPSTREAM, now, arg);
	log_event(LOG_WORKER, LOG_ERROR, "worker_died", LOG_U64("worker", c->index),
		  LOG_U64("pid", pid),
		  LOG_STR("signal", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : NULL),
		  LOG_I64("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
		  LOG_U64("restart_in_ms", delay_ns / NS_PER_MS));
}

static void note_bad_end(struct supervisor *s, const struct child *c, pid_t pid, int status)
{
	if (status == 0)
		return;
	log_event(LOG_WORKER, LOG_WARN, "worker_ended_badly", LOG_U64("worker", c->index),
		  LOG_U64("pid", pid),
		  LOG_STR("signal", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : NULL),
		  LOG_I64("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1));
	/*
	 * killed: by our deadline or the system, and said above; anything else is a bug worth a bad
	 * exit code
	 */
	if (s->draining && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		s->exit_code = EXIT_FAILED;
}

static void child_ended(struct supervisor *s, struct child *c, int status)
{
	pid_t pid = c->pid;
	uint64_t delay;

	child_forget(c);
	watch_take_back(s, c->index);
	if (s->draining || c->g->retiring) {
		note_bad_end(s, c, pid, status);
		if (!s->draining) {
			generation_leave(c);
			generation_reload_if_wanted(s);
		}
		return;
	}
	delay = child_backoff_ns(c, &s->config->supervisor, clock_ns());
	note_end(s, c, pid, status, delay);
	timer_set_in(&s->timers, &c->restart, delay);
}

void watch_reap(struct supervisor *s)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];
		int status;

		if (c->pid && waitpid(c->pid, &status, WNOHANG) == c->pid)
			child_ended(s, c, status);
	}
}

/* No beat for hang_timeout: its calls are lost anyway, its slots are needed. */
static void check_hang(struct supervisor *s, struct child *c)
{
	uint64_t limit = config_ms(s->config->supervisor.hang_timeout_ns),
		 born = c->born_ns / NS_PER_MS;
	uint64_t now = supervisor_now_ms(), beat, last;

	if (!c->pid || !limit || c->hang_told)
		return;
	beat = atomic_load(&rhc_seg_worker(&s->seg, c->index)->beat_ms);
	last = beat > born ? beat : born;
	if (now < last || now - last <= limit)
		return;
	c->hang_told = true;
	rhc_event_put(&s->ring, RHC_EV_worker_hang, RHC_NO_UPSTREAM, now,
		      (const uint64_t[5]){ (uint64_t)c->pid, now - last });
	log_event(LOG_WORKER, LOG_ERROR, "worker_hangs", LOG_U64("worker", c->index),
		  LOG_U64("pid", c->pid), LOG_U64("silent_ms", now - last));
	kill(c->pid, SIGKILL);
}

static void tell_stats(struct supervisor *s)
{
	stats_process(&s->stats, s->counters);
	stats_buffers(&s->bufs, s->counters);
	rhc_ctr_set(s->counters, RHC_WCTR_scrapes, s->admin.scrapes);
}

void watch_on_second(struct timer *t)
{
	struct supervisor *s = CONTAINER_OF(t, struct supervisor, second);
	struct rhc_hdr *hdr = rhc_seg_hdr(&s->seg);

	atomic_store(&hdr->sup_beat_ms, supervisor_now_ms());
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		check_hang(s, &s->children[i]);
		if (s->children[i].g && !s->children[i].pid)
			watch_take_back(s, i);
	}
	if (atomic_load(&hdr->drain) && !s->stopping)
		lifecycle_drain(s);
	else if (s->draining)
		lifecycle_undrain(s);
	if (!rhc_segment_current(&s->seg))
		segment_lost(&s->seg);
	tell_stats(s);
	generation_reload_if_wanted(s);
	timer_set_in(&s->timers, t, NS_PER_S);
}
