#include "sidecar/run/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/io/tls.h"
#include "sidecar/run/bus.h"
#include "sidecar/run/cpus.h"
#include "sidecar/run/segment.h"
#include "sidecar/run/supervisor_private.h"

/* ---- signals ---- */

static const int taken[] = { SIGTERM, SIGINT, SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2 };

/* One line with everything a person asks first. */
static void say_state(struct supervisor *s)
{
	char hash[CONFIG_HASH_TEXT];

	config_hash_text(s->config, hash);
	log_event(LOG_CORE, LOG_INFO, "state", LOG_U64("lifecycle", s->lifecycle),
		  LOG_BOOL("stopping", s->stopping),
		  LOG_U64("generation", s->current->plan.generation), LOG_STR("config", hash),
		  LOG_U64("workers", s->n_workers), LOG_U64("running", lifecycle_running(s)),
		  LOG_BOOL("reload_waits", s->reload_wanted), LOG_U64("admin_conns", s->n_conns),
		  LOG_STR("segment", s->seg.path));
}

static void take_signal(struct supervisor *s, uint32_t signo)
{
	switch (signo) {
	case SIGCHLD:
		watch_reap(s);
		return;
	case SIGTERM:
		log_event(LOG_CORE, LOG_INFO, "signal", LOG_STR("name", "SIGTERM"),
			  LOG_BOOL("second", s->stopping));
		if (s->stopping)
			lifecycle_stop_now(s);
		else
			lifecycle_stop(s, true);
		return;
	case SIGINT:
		log_event(LOG_CORE, LOG_INFO, "signal", LOG_STR("name", "SIGINT"));
		lifecycle_stop_now(s);
		return;
	case SIGUSR1:
		lifecycle_tell_all(s, WORKER_REOPEN);
		return;
	case SIGHUP:
		generation_reload(s);
		return;
	case SIGUSR2:
		say_state(s);
		return;
	default:
		return;
	}
}

static void on_signals(struct engine *e, struct engine_op *op, int res)
{
	struct supervisor *s = CONTAINER_OF(op, struct supervisor, signals);
	struct signalfd_siginfo info;

	if (res < 0)
		return;
	while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		take_signal(s, info.ssi_signo);
	engine_poll(e, op, s->signal_fd, POLLIN);
}

/*
 * From the first moment on: a SIGTERM that comes while we start is taken when the loop begins.
 * Workers set their own mask.
 */
static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		sigaddset(&set, taken[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int open_signals(struct supervisor *s)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		sigaddset(&set, taken[i]);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return -errno;
	engine_op_init(&s->signals, on_signals);
	engine_poll(s->engine, &s->signals, s->signal_fd, POLLIN);
	return 0;
}

/* ---- start ---- */

/* Which engine the workers shall use.  EXIT_CONFIG when the configured one cannot be had. */
static int choose_engine(struct supervisor *s)
{
	enum config_engine want = s->config->io.engine;
	struct rhc_hdr *hdr = rhc_seg_hdr(&s->seg);
	char reason[ENGINE_REASON_MAX] = "", text[sizeof(hdr->engine)];
	int rc = want == CONFIG_ENGINE_EPOLL ? -ENOSYS : engine_probe(reason);

	s->engine_kind = rc == 0 ? want == CONFIG_ENGINE_IO_URING ? ENGINE_URING : ENGINE_AUTO
				 : ENGINE_EPOLL;
	if (rc != 0 && want == CONFIG_ENGINE_IO_URING) {
		log_event(LOG_IO, LOG_ERROR, "io_uring_unavailable", LOG_STR("reason", reason),
			  LOG_STR("hint", "io.engine: auto falls back to epoll"));
		return EXIT_CONFIG;
	}
	if (rc != 0 && want == CONFIG_ENGINE_AUTO)
		log_event(LOG_IO, LOG_WARN, "io_uring_unavailable", LOG_STR("reason", reason),
			  LOG_STR("instead", "epoll"));
	snprintf(text, sizeof(text),
		 rc == 0                      ? "io_uring"
		 : want == CONFIG_ENGINE_AUTO ? "epoll (%.20s)"
					      : "epoll",
		 reason);
	rhc_segment_say(hdr->engine, sizeof(hdr->engine), text);
	return 0;
}

static int make_wakes(struct supervisor *s)
{
	for (unsigned i = 0; i < RHC_WORKERS_MAX; i++)
		s->wake_fds[i] = -1;
	for (uint32_t i = 0; i < s->seg.hdr.max_workers; i++) {
		s->wake_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (s->wake_fds[i] < 0)
			return -errno;
	}
	return 0;
}

static int say(const char *what, const char *why, int code)
{
	log_event(LOG_CORE, LOG_ERROR, "start_failed", LOG_STR("step", what),
		  LOG_STR("reason", why));
	log_flush();
	return code;
}

/* Files and memory.  0 or an exit code. */
static int prepare(struct supervisor *s, struct upstream_tls **ret_tls)
{
	char why[TLS_WHY_MAX + 128];
	int rc;

	if (s->n_workers > s->seg.hdr.max_workers)
		return say("workers", "workers is larger than shm.max_workers", EXIT_CONFIG);
	if (listen_open(&s->listen, s->config, s->n_workers, why) != 0)
		return say("listeners", why, EXIT_FAILED);
	if (upstream_tls_new(s->config, ret_tls, why, sizeof(why)) != 0)
		return say("tls", why, EXIT_CONFIG);
	s->lock_fd = rhc_lock_open(&s->seg);
	if (s->lock_fd < 0)
		return say("segment", strerror(-s->lock_fd), EXIT_FAILED);
	if ((rc = make_wakes(s)) != 0)
		return say("eventfds", strerror(-rc), EXIT_FAILED);
	return 0;
}

static int begin(struct supervisor *s, struct upstream_tls *tls)
{
	int rc;

	rc = choose_engine(s); /* forks a child that ends before any other is there */
	if (rc != 0)
		return rc;
	if ((rc = generation_new(s, s->config, tls, &s->current)) != 0)
		return say("workers",
			   rc == -EAGAIN ? "no free worker index: a predecessor is still draining"
					 : strerror(-rc),
			   EXIT_FAILED);
	if ((rc = generation_start(s)) != 0)
		return say("workers", strerror(-rc), EXIT_FAILED);
	if ((rc = front_make_io(s)) != 0)
		return say("engine", strerror(-rc), EXIT_FAILED);
	if ((rc = open_signals(s)) != 0)
		return say("signals", strerror(-rc), EXIT_FAILED);
	if ((rc = front_open(s)) != 0)
		return say("admin", strerror(-rc), EXIT_FAILED);
	s->second.fn = watch_on_second;
	s->ready.fn = generation_on_ready;
	s->delay.fn = lifecycle_on_delay;
	s->deadline.fn = lifecycle_on_deadline;
	timer_set_in(&s->timers, &s->second, 0);
	timer_set_in(&s->timers, &s->ready, 0);
	return 0;
}

static int loop(struct supervisor *s)
{
	for (;;) {
		int rc = engine_turn(s->engine, timer_wheel_next(&s->timers));

		if (rc < 0)
			return say("engine", strerror(-rc), EXIT_FAILED);
		timer_wheel_run(&s->timers, engine_now(s->engine));
		if (s->stopping && s->draining)
			watch_reap(s);
		log_flush();
		if (s->stopping && s->draining && lifecycle_running(s) == 0)
			return s->exit_code;
	}
}

static void end(struct supervisor *s)
{
	bool socket_is_ours = s->listen.admin_unix_fd >= 0;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].pid) {
			kill(s->children[i].pid, SIGKILL);
			waitpid(s->children[i].pid, NULL, 0);
			watch_take_back(s, i);
		}
	}
	lifecycle_set(s, RHC_LIFE_STOPPED);
	stats_end(s->counters);
	rhc_segment_detach(&s->seg);
	listen_close(&s->listen);
	if (socket_is_ours) /* not another sidecar's, which refused us its address */
		unlink(s->config->admin.socket);
	while (!list_empty(&s->generations))
		generation_free(LIST_ENTRY(s->generations.head.next, struct generation, node));
	log_event(LOG_CORE, LOG_INFO, "stopped", LOG_I64("exit_code", s->exit_code));
	log_flush();
}

int supervisor_run(const struct options *o, const struct config *config)
{
	static struct supervisor supervisor; /* one per process; its tables are large */
	struct supervisor *s = &supervisor;
	struct upstream_tls *tls = NULL;
	int rc;

	block_signals();
	s->o = o;
	s->config = config;
	s->lock_fd = s->signal_fd = -1;
	s->listen = (struct listen_set){ .admin_fd = -1, .admin_unix_fd = -1, .telemetry_fd = -1 };
	s->n_workers = config_workers(config, cpus_given());
	list_init(&s->generations);
	sock_raise_nofile();
	bus_guard("supervisor", config->shm.path, &s->listen);
	rc = segment_open(&s->seg, o, config, s->n_workers);
	if (rc != 0) {
		log_flush();
		return rc;
	}
	bus_guard("supervisor", s->seg.path, &s->listen); /* it may lie elsewhere */
	rhc_ring_writer_init(&s->ring, &s->seg, s->seg.hdr.max_workers, 0);
	s->counters = rhc_seg_wctr(&s->seg, rhc_row_admin(&s->seg));
	stats_begin(&s->stats);
	rc = prepare(s, &tls);
	if (rc == 0)
		rc = begin(s, tls);
	if (rc == 0)
		rc = loop(s);
	if (!s->current)
		upstream_tls_free(tls, config); /* no generation has taken it over */
	s->exit_code = rc;
	end(s);
	return rc;
}
