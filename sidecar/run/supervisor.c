#include "sidecar/run/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/admin.h"
#include "sidecar/admin/admin.h"
#include "sidecar/base/log.h"
#include "sidecar/http/env.h"
#include "sidecar/io/tls.h"
#include "sidecar/run/children.h"
#include "sidecar/run/logging.h"
#include "sidecar/run/segment.h"

enum {
	SUPERVISOR_CONNS = 128, /* of admin and telemetry together */
	SUPERVISOR_BUFS = 256,
	SUPERVISOR_HEAD_MAX = 16384,
};
#define SUPERVISOR_READY_POLL_NS (2 * NS_PER_MS) /* between looks at workers that are starting */
#define SUPERVISOR_LIVE_NS (5 * NS_PER_S) /* a worker's beat younger than this means alive */
#define SUPERVISOR_KILL_GRACE_NS (5 * NS_PER_S) /* beyond shutdown.max_wait */
#define SUPERVISOR_EXIT_GRACE_NS (500 * NS_PER_MS) /* after "at once" */

struct admin_socket {
	struct supervisor    *s;
	struct admin_listener admin;
	struct engine_op      accept;
	int                   fd;
};

struct supervisor {
	const struct options *o;
	const struct config  *config; /* in force */
	struct list           generations; /* the newest last */
	struct generation    *current;
	struct rhc_segment    seg;
	struct rhc_ring_writer ring;
	int                   lock_fd;
	struct listen_set     listen;
	int                   wake_fds[RHC_WORKERS_MAX];
	enum engine_kind      engine_kind;
	uint32_t              n_workers; /* of one generation */
	struct child          children[RHC_WORKERS_MAX];

	struct engine        *engine;
	struct buf_pool       bufs;
	struct timer_wheel    timers;
	struct http_slabs     slabs;
	struct http_env       http;
	struct http_limits    limits;
	struct admin          admin;
	struct admin_hooks    hooks;
	struct admin_socket   sockets[3];
	struct engine_op      signals;
	int                   signal_fd;
	struct timer          second, ready, delay, deadline;
	enum rhc_lifecycle    lifecycle;
	uint32_t              n_conns;
	bool                  stopping; /* SIGTERM was taken */
	bool                  draining; /* workers were told */
	bool                  over;
	int                   exit_code;
};

static uint64_t now_ms(const struct supervisor *s)
{
	(void)s;
	return clock_ns() / NS_PER_MS;
}

/* ---- lifecycle ---- */

static void set_lifecycle(struct supervisor *s, enum rhc_lifecycle to)
{
	static const char *const names[] = { "starting", "ready", "draining", "stopped" };
	const uint64_t arg[5] = { s->lifecycle, to };

	if (to == s->lifecycle)
		return;
	s->lifecycle = to;
	atomic_store(&rhc_seg_hdr(&s->seg)->lifecycle, (uint32_t)to);
	rhc_event_put(&s->ring, RHC_EV_lifecycle, RHC_NO_UPSTREAM, now_ms(s), arg);
	log_event(LOG_CORE, LOG_INFO, "lifecycle", LOG_STR("state", names[to]));
}

static void wake_workers(struct supervisor *s, uint64_t mask)
{
	uint64_t one = 1;

	for (unsigned i = 0; mask && i < RHC_WORKERS_MAX; i++) {
		if (mask >> i & 1 && s->wake_fds[i] >= 0 && write(s->wake_fds[i], &one, sizeof(one)) < 0)
			continue; /* full: it is awake */
	}
}

static void tell_all(struct supervisor *s, char what)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].pid)
			child_tell(&s->children[i], what);
	}
}

static unsigned running(const struct supervisor *s)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++)
		n += s->children[i].pid != 0;
	return n;
}

static void begin_drain(struct supervisor *s)
{
	if (s->draining)
		return;
	s->draining = true;
	set_lifecycle(s, RHC_LIFE_DRAINING);
	listen_close_data(&s->listen);
	tell_all(s, WORKER_DRAIN);
	if (s->stopping)
		timer_set_in(&s->timers, &s->deadline, s->config->shutdown.max_wait_ns + SUPERVISOR_KILL_GRACE_NS);
}

static void on_delay(struct timer *t)
{
	begin_drain(CONTAINER_OF(t, struct supervisor, delay));
}

/* shutdown.max_wait is long over: what is left is stuck. */
static void on_deadline(struct timer *t)
{
	struct supervisor *s = CONTAINER_OF(t, struct supervisor, deadline);

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].pid)
			kill(s->children[i].pid, SIGKILL);
	}
	timer_set_in(&s->timers, t, SUPERVISOR_EXIT_GRACE_NS);
}

static void stop(struct supervisor *s, bool min_delay)
{
	s->stopping = true;
	if (min_delay && s->config->shutdown.min_delay_ns) {
		set_lifecycle(s, RHC_LIFE_DRAINING);
		timer_set_in(&s->timers, &s->delay, s->config->shutdown.min_delay_ns);
		return;
	}
	s->draining = false;
	begin_drain(s);
}

static void stop_now(struct supervisor *s)
{
	s->stopping = s->draining = true;
	set_lifecycle(s, RHC_LIFE_DRAINING);
	listen_close_data(&s->listen);
	tell_all(s, WORKER_EXIT);
	timer_set_in(&s->timers, &s->deadline, SUPERVISOR_EXIT_GRACE_NS);
}

/* ---- workers ---- */

/* The last worker of a generation is gone: so is what it shared. */
static void generation_leave(struct child *c)
{
	struct generation *g = c->g;

	c->g = NULL;
	if (--g->n > 0 || !g->retiring)
		return;
	list_remove(&g->node);
	upstream_tls_free(g->tls, g->config);
	config_free(g->owned);
	free(g);
}

static void on_restart(struct timer *t)
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
	if (rc == 0)
		return;
	log_event(LOG_WORKER, LOG_ERROR, "worker_fork_failed", LOG_U64("worker", c->index), LOG_ERRNO("error", rc));
	timer_set_in(&s->timers, t, s->config->supervisor.restart_backoff_max_ns);
}

static void take_back(struct supervisor *s, uint32_t index)
{
	struct rhc_reaped sum = { 0 };
	uint64_t wake = 0;
	int rc = rhc_reap(&s->seg, s->lock_fd, index, now_ms(s), &sum, &wake);

	wake_workers(s, wake);
	if (rc != 0)
		log_event(LOG_SHM, LOG_WARN, "reap_postponed", LOG_U64("worker", index), LOG_ERRNO("error", rc));
	else if (sum.record)
		log_event(LOG_SHM, LOG_WARN, "worker_reaped", LOG_U64("worker", index), LOG_U64("slots", sum.slots),
		          LOG_U64("probes", sum.probes), LOG_U64("waiting", sum.waiting));
}

static void note_end(struct supervisor *s, struct child *c, pid_t pid, int status, uint64_t delay_ns)
{
	struct rhc_worker_rec *rec = rhc_seg_worker(&s->seg, c->index);
	const uint64_t arg[5] = { (uint64_t)pid, (uint64_t)status, delay_ns / NS_PER_MS };

	atomic_store(&rec->last_end, rhc_field((uint64_t)status, 48, 16) | rhc_field(now_ms(s), 0, 48));
	atomic_fetch_add(&rec->restarts, 1);
	rhc_event_put(&s->ring, RHC_EV_worker_restart, RHC_NO_UPSTREAM, now_ms(s), arg);
	log_event(LOG_WORKER, LOG_ERROR, "worker_died", LOG_U64("worker", c->index), LOG_U64("pid", pid),
	          LOG_STR("signal", WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : NULL),
	          LOG_I64("exit_code", WIFEXITED(status) ? WEXITSTATUS(status) : -1),
	          LOG_U64("restart_in_ms", delay_ns / NS_PER_MS));
}

static void child_ended(struct supervisor *s, struct child *c, int status)
{
	pid_t pid = c->pid;
	uint64_t delay;

	c->pid = 0;
	if (c->control_fd >= 0)
		close(c->control_fd);
	c->control_fd = -1;
	take_back(s, c->index);
	if (c->g->retiring && !s->draining) {
		if (status != 0)
			log_event(LOG_WORKER, LOG_WARN, "worker_ended_badly", LOG_U64("worker", c->index),
			          LOG_I64("status", status));
		generation_leave(c);
		return;
	}
	if (s->draining) {
		if (status != 0) {
			log_event(LOG_WORKER, LOG_WARN, "worker_ended_badly", LOG_U64("worker", c->index),
			          LOG_I64("status", status));
			s->exit_code = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? s->exit_code : EXIT_FAILED;
		}
		return;
	}
	delay = child_backoff_ns(c, &s->config->supervisor, clock_ns());
	note_end(s, c, pid, status, delay);
	timer_set_in(&s->timers, &c->restart, delay);
}

static void reap_children(struct supervisor *s)
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
	uint64_t limit = config_ms(s->config->supervisor.hang_timeout_ns), born = c->born_ns / NS_PER_MS;
	uint64_t now = now_ms(s), beat, last;

	if (!c->pid || !limit || c->hang_told)
		return;
	beat = atomic_load(&rhc_seg_worker(&s->seg, c->index)->beat_ms);
	last = beat > born ? beat : born;
	if (now - last <= limit)
		return;
	c->hang_told = true;
	rhc_event_put(&s->ring, RHC_EV_worker_hang, RHC_NO_UPSTREAM, now,
	              (const uint64_t[5]){ (uint64_t)c->pid, now - last });
	log_event(LOG_WORKER, LOG_ERROR, "worker_hangs", LOG_U64("worker", c->index), LOG_U64("pid", c->pid),
	          LOG_U64("silent_ms", now - last));
	kill(c->pid, SIGKILL);
}

static void on_second(struct timer *t)
{
	struct supervisor *s = CONTAINER_OF(t, struct supervisor, second);
	struct rhc_hdr *hdr = rhc_seg_hdr(&s->seg);

	atomic_store(&hdr->sup_beat_ms, now_ms(s));
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		check_hang(s, &s->children[i]);
		if (s->children[i].g && !s->children[i].pid)
			take_back(s, i);
	}
	if (atomic_load(&hdr->drain) && !s->stopping)
		begin_drain(s);
	if (!rhc_segment_current(&s->seg))
		segment_lost(&s->seg);
	timer_set_in(&s->timers, t, NS_PER_S);
}

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
		if (atomic_load(&rec->pid) != (uint64_t)s->children[i].pid ||
		    atomic_load(&rec->phase) != RHC_PHASE_SERVING)
			return false;
	}
	return true;
}

static void on_ready(struct timer *t)
{
	struct supervisor *s = CONTAINER_OF(t, struct supervisor, ready);

	if (s->draining)
		return;
	if (!all_serving(s)) {
		timer_set_in(&s->timers, t, SUPERVISOR_READY_POLL_NS);
		return;
	}
	if (s->lifecycle == RHC_LIFE_STARTING)
		set_lifecycle(s, RHC_LIFE_READY);
	retire_others(s);
}

/* ---- generations and reload ---- */

/* Indices of the segment that neither we nor a predecessor's draining workers use; -EAGAIN: not enough. */
static int find_places(struct supervisor *s, struct generation *g)
{
	uint32_t place = 0;

	for (uint32_t i = 0; i < s->seg.hdr.max_workers && place < s->n_workers; i++) {
		struct child *c = &s->children[i];

		if (c->g || rhc_worker_alive(&s->seg, s->lock_fd, i) == RHC_ALIVE_YES)
			continue;
		*c = (struct child){ .s = s, .g = g, .index = i, .place = place++, .control_fd = -1,
			             .restart = { .fn = on_restart } };
		g->n++;
	}
	return place == s->n_workers ? 0 : -EAGAIN;
}

static void forget_places(struct supervisor *s, const struct generation *g)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].g == g)
			s->children[i].g = NULL;
	}
}

static int generation_new(struct supervisor *s, const struct config *config, struct upstream_tls *tls,
                          struct generation **ret)
{
	struct generation *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return -ENOMEM;
	g->config = config;
	g->tls = tls;
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
		forget_places(s, g);
		free(g);
		return rc;
	}
	list_push_back(&s->generations, &g->node);
	*ret = g;
	return 0;
}

static int start_children(struct supervisor *s)
{
	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];
		int rc = c->g == s->current ? child_start(c) : 0;

		if (rc != 0)
			return rc;
	}
	return 0;
}

static void note_restart_key(void *arg, const char *key, bool restart)
{
	unsigned *n = arg;

	log_event(LOG_CONFIG, restart ? LOG_WARN : LOG_INFO, "config_changed", LOG_STR("key", key),
	          LOG_STR("needs", restart ? "restart" : NULL));
	*n += restart;
}

static void reload_refused(struct supervisor *s, const char *reason)
{
	rhc_event_put(&s->ring, RHC_EV_config_refused, RHC_NO_UPSTREAM, now_ms(s), (const uint64_t[5]){ 1 });
	rhc_ctr_inc(rhc_seg_wctr(&s->seg, s->seg.hdr.max_workers), RHC_WCTR_reload_fail);
	log_event(LOG_CONFIG, LOG_ERROR, "reload_refused", LOG_STR("reason", reason),
	          LOG_STR("instead", "the configuration in force goes on"));
}

/* The new configuration in the segment, and workers for it. */
static int begin_generation(struct supervisor *s, struct config *config, struct upstream_tls *tls)
{
	struct generation *g, *old = s->current;
	uint64_t wake = 0;
	int rc;

	rc = segment_declare(&s->seg, config, &wake);
	wake_workers(s, wake);
	if (rc == 0)
		rc = generation_new(s, config, tls, &g);
	if (rc != 0)
		return rc;
	g->owned = config;
	s->current = g;
	s->config = s->admin.config = config;
	if (old)
		old->retiring = true;
	logging_apply(&config->logging);
	rc = start_children(s);
	timer_set_in(&s->timers, &s->ready, 0);
	return rc;
}

/*
 * All or nothing: what is wrong with the new configuration, or cannot be changed while running, leaves the old one in
 * force.  Breakers, slots and counters are the segment's and go on.
 */
static void reload(struct supervisor *s)
{
	struct config *config = NULL;
	struct upstream_tls *tls = NULL;
	char why[TLS_WHY_MAX + 128];
	unsigned restart = 0;
	int rc;

	if (s->draining || s->stopping)
		return;
	if (options_load(s->o, &config, stderr) != 0) {
		reload_refused(s, "the configuration has errors, see above");
		return;
	}
	config_diff(s->config, config, note_restart_key, &restart);
	if (restart) {
		config_free(config);
		reload_refused(s, "a changed key needs a restart, see above");
		return;
	}
	if (upstream_tls_new(config, &tls, why, sizeof(why)) != 0) {
		config_free(config);
		reload_refused(s, why);
		return;
	}
	rc = begin_generation(s, config, tls);
	if (rc != 0) {
		if (s->config != config) {
			upstream_tls_free(tls, config);
			config_free(config);
		}
		reload_refused(s, rc == -EAGAIN ? "workers of the configuration before are still draining, or shm.max_workers "
		                                  "is less than twice the workers" :
		                                  strerror(-rc));
		return;
	}
	rhc_ctr_inc(rhc_seg_wctr(&s->seg, s->seg.hdr.max_workers), RHC_WCTR_reload_ok);
	log_event(LOG_CONFIG, LOG_INFO, "reloaded", LOG_U64("generation", s->current->plan.generation));
}

/* ---- signals ---- */

static void take_signal(struct supervisor *s, uint32_t signo)
{
	switch (signo) {
	case SIGCHLD:
		reap_children(s);
		return;
	case SIGTERM:
		log_event(LOG_CORE, LOG_INFO, "signal", LOG_STR("name", "SIGTERM"), LOG_BOOL("second", s->stopping));
		if (s->stopping)
			stop_now(s);
		else
			stop(s, true);
		return;
	case SIGINT:
		log_event(LOG_CORE, LOG_INFO, "signal", LOG_STR("name", "SIGINT"));
		stop_now(s);
		return;
	case SIGUSR1:
		tell_all(s, WORKER_REOPEN);
		return;
	case SIGHUP:
		reload(s);
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

static int open_signals(struct supervisor *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return -errno;
	engine_op_init(&s->signals, on_signals);
	engine_poll(s->engine, &s->signals, s->signal_fd, POLLIN);
	return 0;
}

/* ---- admin and telemetry ---- */

static void hook_drain(void *arg, bool on)
{
	if (on)
		begin_drain(arg);
}

static void hook_quit(void *arg)
{
	stop(arg, false);
}

static void hook_health(void *arg)
{
	struct supervisor *s = arg;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		if (s->children[i].pid) {
			child_tell(&s->children[i], WORKER_HEALTH);
			return;
		}
	}
}

static bool hook_live(void *arg)
{
	struct supervisor *s = arg;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		uint64_t beat;

		if (!s->children[i].pid)
			continue;
		beat = atomic_load(&rhc_seg_worker(&s->seg, i)->beat_ms);
		if (now_ms(s) - beat < SUPERVISOR_LIVE_NS / NS_PER_MS)
			return true;
	}
	return s->lifecycle == RHC_LIFE_STARTING;
}

static void conn_message(struct http_conn *c, struct message *m)
{
	struct admin_socket *a = c->owner;

	admin_message(&a->admin, m);
}

static void conn_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	struct admin_socket *a = c->owner;

	(void)err;
	(void)text;
	a->s->n_conns--;
}

static const struct http_conn_events conn_events = { .on_message = conn_message, .on_closed = conn_closed };

static void on_accept(struct engine *e, struct engine_op *op, int res)
{
	struct admin_socket *a = CONTAINER_OF(op, struct admin_socket, accept);
	struct http_conn *c;

	(void)e;
	if (res < 0)
		return;
	if (a->s->n_conns >= SUPERVISOR_CONNS)
		engine_close(a->s->engine, res);
	else if (http_server_open(&a->s->http, res, &a->s->limits, &conn_events, a, &c) == 0)
		a->s->n_conns++;
}

static void open_admin_socket(struct supervisor *s, unsigned i, int fd, enum admin_surface surface)
{
	struct admin_socket *a = &s->sockets[i];

	*a = (struct admin_socket){ .s = s, .fd = fd, .admin = { .admin = &s->admin, .surface = surface } };
	if (fd < 0)
		return;
	engine_op_init(&a->accept, on_accept);
	engine_accept(s->engine, &a->accept, fd);
}

static int open_admin(struct supervisor *s)
{
	int rc;

	s->hooks = (struct admin_hooks){ hook_drain, hook_quit, hook_health, hook_live, s };
	s->limits = (struct http_limits){
		.head_max = SUPERVISOR_HEAD_MAX,
		.target_max = 8192,
		.streams_max = 16,
		.header_timeout_ns = 10 * NS_PER_S,
		.idle_timeout_ns = 60 * NS_PER_S,
		.h2_window = 65536,
	};
	s->admin.config = s->config;
	s->admin.seg = &s->seg;
	s->admin.lock_fd = s->lock_fd;
	s->admin.http = &s->http;
	s->admin.hooks = &s->hooks;
	s->admin.start_ns = clock_ns();
	rc = admin_init(&s->admin);
	if (rc != 0)
		return rc;
	open_admin_socket(s, 0, s->listen.telemetry_fd, ADMIN_TELEMETRY);
	open_admin_socket(s, 1, s->listen.admin_fd, ADMIN_LOOPBACK);
	open_admin_socket(s, 2, s->listen.admin_unix_fd, ADMIN_SOCKET);
	return 0;
}

/* ---- start ---- */

/* CPUs we may use: what Kubernetes says, what the cgroup allows, what the affinity allows. */
static double cpus_given(void)
{
	const char *limit = getenv("RHC_CPU_LIMIT");
	cpu_set_t set;
	double n = 1, quota, period;
	FILE *f;

	if (limit && atof(limit) > 0)
		return atof(limit) / 1000; /* divisor: 1m */
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	f = fopen("/sys/fs/cgroup/cpu.max", "re");
	if (f) {
		if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0 && quota / period < n)
			n = quota / period;
		fclose(f);
	}
	return n;
}

/* Which engine the workers shall use.  EXIT_CONFIG when the configured one cannot be had. */
static int choose_engine(struct supervisor *s)
{
	enum config_engine want = s->config->io.engine;
	struct rhc_hdr *hdr = rhc_seg_hdr(&s->seg);
	char reason[ENGINE_REASON_MAX] = "", text[sizeof(hdr->engine)];
	int rc = want == CONFIG_ENGINE_EPOLL ? -ENOSYS : engine_probe(reason);

	s->engine_kind = rc == 0 ? want == CONFIG_ENGINE_IO_URING ? ENGINE_URING : ENGINE_AUTO : ENGINE_EPOLL;
	if (rc != 0 && want == CONFIG_ENGINE_IO_URING) {
		log_event(LOG_IO, LOG_ERROR, "io_uring_unavailable", LOG_STR("reason", reason),
		          LOG_STR("hint", "io.engine: auto falls back to epoll"));
		return EXIT_CONFIG;
	}
	if (rc != 0 && want == CONFIG_ENGINE_AUTO)
		log_event(LOG_IO, LOG_WARN, "io_uring_unavailable", LOG_STR("reason", reason),
		          LOG_STR("instead", "epoll"));
	snprintf(text, sizeof(text), rc == 0 ? "io_uring" : want == CONFIG_ENGINE_AUTO ? "epoll (%.20s)" : "epoll", reason);
	rhc_segment_say(hdr->engine, sizeof(hdr->engine), text);
	return 0;
}

static int make_io(struct supervisor *s)
{
	struct engine_conf conf = { .kind = ENGINE_EPOLL, .bufs = &s->bufs };
	const struct http_sizes sizes = { .conns = SUPERVISOR_CONNS + 1, .h2_conns = 16, .h2_streams = 256,
		                          .messages = SUPERVISOR_CONNS + 256 };
	int rc = buf_pool_init(&s->bufs, SUPERVISOR_BUFS, SUPERVISOR_BUFS);

	if (rc == 0)
		rc = engine_new(&conf, NULL, &s->engine);
	if (rc != 0)
		return rc;
	timer_wheel_init(&s->timers, clock_ns());
	return http_env_init(&s->http, &s->slabs, &sizes, s->engine, &s->bufs, &s->timers);
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
	log_event(LOG_CORE, LOG_ERROR, "start_failed", LOG_STR("step", what), LOG_STR("reason", why));
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
		return say("workers", rc == -EAGAIN ? "no free worker index: a predecessor is still draining" : strerror(-rc),
		           EXIT_FAILED);
	if ((rc = start_children(s)) != 0)
		return say("workers", strerror(-rc), EXIT_FAILED);
	if ((rc = make_io(s)) != 0)
		return say("engine", strerror(-rc), EXIT_FAILED);
	if ((rc = open_signals(s)) != 0)
		return say("signals", strerror(-rc), EXIT_FAILED);
	if ((rc = open_admin(s)) != 0)
		return say("admin", strerror(-rc), EXIT_FAILED);
	s->second.fn = on_second;
	s->ready.fn = on_ready;
	s->delay.fn = on_delay;
	s->deadline.fn = on_deadline;
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
			reap_children(s);
		log_flush();
		if (s->stopping && s->draining && running(s) == 0)
			return s->exit_code;
	}
}

static void end(struct supervisor *s)
{
	if (s->seg.base) {
		set_lifecycle(s, RHC_LIFE_STOPPED);
		for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
			if (s->children[i].pid) {
				kill(s->children[i].pid, SIGKILL);
				waitpid(s->children[i].pid, NULL, 0);
				take_back(s, i);
			}
		}
		rhc_segment_detach(&s->seg);
	}
	listen_close(&s->listen);
	if (s->config->admin.socket)
		unlink(s->config->admin.socket);
	while (!list_empty(&s->generations)) {
		struct generation *g = LIST_ENTRY(list_pop_front(&s->generations), struct generation, node);

		upstream_tls_free(g->tls, g->config);
		config_free(g->owned);
		free(g);
	}
	log_event(LOG_CORE, LOG_INFO, "stopped", LOG_I64("exit_code", s->exit_code));
	log_flush();
}

int supervisor_run(const struct options *o, const struct config *config)
{
	static struct supervisor supervisor; /* one per process; its tables are large */
	struct supervisor *s = &supervisor;
	struct upstream_tls *tls = NULL;
	int rc;

	s->o = o;
	s->config = config;
	s->lock_fd = s->signal_fd = -1;
	s->listen = (struct listen_set){ .admin_fd = -1, .admin_unix_fd = -1, .telemetry_fd = -1 };
	s->n_workers = config_workers(config, cpus_given());
	list_init(&s->generations);
	logging_apply(&config->logging);
	sock_raise_nofile();
	rc = segment_open(&s->seg, o, config);
	if (rc != 0)
		return rc;
	rhc_ring_writer_init(&s->ring, &s->seg, s->seg.hdr.max_workers, 0);
	rc = prepare(s, &tls);
	if (rc == 0)
		rc = begin(s, tls);
	if (rc == 0)
		rc = loop(s);
	s->exit_code = rc;
	end(s);
	return rc;
}
