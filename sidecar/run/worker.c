#include "sidecar/run/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/h1.h"
#include "sidecar/base/log.h"
#include "sidecar/base/pipe.h"
#include "sidecar/exchange/access.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/http/env.h"
#include "sidecar/io/engine_hostile.h"
#include "sidecar/run/bus.h"
#include "sidecar/run/stats.h"

enum {
	WORKER_TARGET_MAX = 16384, /* bytes of a request target */
	WORKER_STREAMS_MAX = 100,  /* h2 streams of one downstream connection */
	WORKER_H2_WINDOW =
		65536, /* downstream stream window: what one slow upstream can make us hold */
	WORKER_CALLS_MAX = 16384,     /* calls in flight; beyond: 503 */
	WORKER_REGISTER_MS = 2000,    /* for a peer that cleans up after our predecessor */
	WORKER_DRAIN_GRACE_MS = 1000, /* after max_wait: for the aborted connections to close */
};

struct worker_listener {
	struct worker *w;
	struct engine_op accept;
	int fd;
	uint32_t n_conns;
	struct list conns;
	struct http_limits limits;
	struct exchange_listener exchange;
};

struct worker {
	const struct worker_plan *plan;
	uint32_t index, place;
	struct engine *engine;
	struct buf_pool bufs;
	struct pipe_pool pipes;
	struct timer_wheel timers;
	struct http_slabs slabs;
	struct http_env http;
	struct rng rng;
	struct rhc_worker shm;
	int reap_fd;
	struct upstreams *upstreams;
	struct exchange_env exchange;
	struct access_log access;
	struct worker_listener *listeners;
	uint32_t n_listeners;
	uint32_t n_conns;
	struct engine_op wake, control;
	int control_fd;
	struct timer second, deadline;
	struct engine_stats told; /* what was added to the counters so far */
	struct stats stats;       /* the same of the process */
	uint64_t slowest_ns;      /* turn since the last tick */
	bool draining, upstreams_drained, over;
	int exit_code;
};

void worker_wake(const int *wake_fds, uint64_t mask)
{
	uint64_t one = 1;

	for (unsigned i = 0; mask && i < RHC_WORKERS_MAX; i++) {
		if (mask >> i & 1 && wake_fds[i] >= 0 && write(wake_fds[i], &one, sizeof(one)) < 0)
			continue; /* full: it is awake; else its tick will find out */
	}
}

static volatile sig_atomic_t got_term;

static void on_term(int sig)
{
	(void)sig;
	got_term = 1;
}

static void set_signals(void)
{
	struct sigaction term = { .sa_handler = on_term };
	sigset_t none;

	sigaction(SIGTERM, &term, NULL);
	signal(SIGINT, SIG_IGN); /* of the terminal: the supervisor decides */
	signal(SIGHUP, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static uint64_t now_ms(const struct worker *w)
{
	return engine_now(w->engine) / NS_PER_MS;
}

/* ---- downstream connections ---- */

static void maybe_accept(struct worker_listener *l)
{
	if (!l->w->draining && l->fd >= 0 && !engine_busy(&l->accept))
		engine_accept(l->w->engine, &l->accept, l->fd);
}

static void conn_message(struct http_conn *c, struct message *m)
{
	struct worker_listener *l = c->owner;

	exchange_begin(&l->exchange, m);
}

static void conn_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	struct worker_listener *l = c->owner;

	(void)err;
	(void)text;
	list_remove(&c->node);
	l->n_conns--;
	l->w->n_conns--;
	if (c->version != 0) /* else it never said a word, and was not counted */
		rhc_ctr_inc(l->w->exchange.counters,
			    c->version == HTTP_2 ? RHC_WCTR_down_h2_closed : RHC_WCTR_down_h1_closed);
}

static void conn_ready(struct http_conn *c)
{
	struct worker_listener *l = c->owner;

	rhc_ctr_inc(l->w->exchange.counters,
		    c->version == HTTP_2 ? RHC_WCTR_down_h2_opened : RHC_WCTR_down_h1_opened);
}

static const struct http_conn_events conn_events = {
	.on_ready = conn_ready,
	.on_message = conn_message,
	.on_closed = conn_closed,
};

static void serve(struct worker_listener *l, int fd)
{
	struct worker *w = l->w;
	struct http_conn *c;

	if (http_server_open(&w->http, fd, &l->limits, &conn_events, l, &c) != 0) {
		rhc_ctr_inc(w->exchange.counters, RHC_WCTR_down_rejected_memory);
		return;
	}
	list_push_back(&l->conns, &c->node);
	l->n_conns++;
	w->n_conns++;
	if (w->draining)
		http_conn_drain(c);
}

/*
 * max_connections is reached.  Left in the backlog it would look like a hang; so it is told, in one
 * packet that a fresh socket always takes, and closed.
 */
static void refuse(struct worker_listener *l, int fd)
{
	char text[HTTP_REFUSAL_MAX];
	uint32_t n = http_refusal(text, &l->limits, 503, "overloaded",
				  "listeners.max_connections is reached");

	rhc_ctr_inc(l->w->exchange.counters, RHC_WCTR_down_rejected_limit);
	if (send(fd, text, n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		shutdown(fd, SHUT_WR);
	engine_close(l->w->engine, fd);
}

static void on_accept(struct engine *e, struct engine_op *op, int res)
{
	struct worker_listener *l = CONTAINER_OF(op, struct worker_listener, accept);

	(void)e;
	if (res >= 0 && l->n_conns >= l->exchange.config->max_connections)
		refuse(l, res);
	else if (res >= 0)
		serve(l, res);
	else if (res != -ECANCELED && res != -EINVAL)
		log_event(LOG_WORKER, LOG_WARN, "accept_failed",
			  LOG_STR("listener", l->exchange.config->name), LOG_ERRNO("error", res));
	if (!op->more && res != -EINVAL)
		maybe_accept(l);
}

/* ---- the end ---- */

/* Who has finished the handshake before we stopped listening gets served. */
static void accept_rest(struct worker_listener *l)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };

	for (unsigned i = 0; i < 4096 && poll(&p, 1, 0) == 1 && (p.revents & POLLIN); i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			break;
		serve(l, fd);
	}
}

/*
 * true: no socket is listened on any more.  A worker may not end before: an accept that dies with
 * its ring can swallow the wake-up of a connection that the next generation, on the same socket,
 * then does not see.
 */
static bool stop_listening(struct worker *w)
{
	bool done = true;

	for (uint32_t i = 0; i < w->n_listeners; i++) {
		struct worker_listener *l = &w->listeners[i];

		if (engine_busy(&l->accept)) {
			done = false;
		} else if (l->fd >= 0) {
			accept_rest(l);
			engine_close(w->engine, l->fd);
			l->fd = -1;
		}
	}
	return done;
}

static void each_conn(struct worker *w, void (*fn)(struct http_conn *))
{
	for (uint32_t i = 0; i < w->n_listeners; i++) {
		LIST_FOREACH_SAFE(n, &w->listeners[i].conns)
		fn(LIST_ENTRY(n, struct http_conn, node));
	}
}

static void begin_drain(struct worker *w)
{
	if (w->draining)
		return;
	w->draining = true;
	w->exchange.draining = true;
	rhc_worker_phase(&w->shm, RHC_PHASE_DRAINING);
	log_event(LOG_WORKER, LOG_INFO, "worker_draining", LOG_U64("worker", w->index),
		  LOG_U64("conns", w->n_conns), LOG_U64("in_flight", w->exchange.in_flight));
	for (uint32_t i = 0; i < w->n_listeners; i++)
		engine_cancel(w->engine, &w->listeners[i].accept);
	(void)stop_listening(w);
	each_conn(w, http_conn_drain);
	timer_set_in(&w->timers, &w->deadline, w->plan->config->shutdown.max_wait_ns);
}

static void on_deadline(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, deadline);

	if (w->n_conns == 0 || w->upstreams_drained) {
		w->over = true;
		return;
	}
	log_event(LOG_WORKER, LOG_WARN, "drain_incomplete", LOG_U64("worker", w->index),
		  LOG_U64("conns", w->n_conns), LOG_U64("in_flight", w->exchange.in_flight));
	each_conn(w, http_conn_abort);
	w->upstreams_drained = true;
	upstreams_drain(w->upstreams);
	timer_set_in(&w->timers, t, WORKER_DRAIN_GRACE_MS * NS_PER_MS);
}

/* Nothing left but kept upstream connections, and then not even these. */
static void drain_step(struct worker *w)
{
	if (!stop_listening(w) || w->n_conns > 0)
		return;
	if (!w->upstreams_drained) {
		w->upstreams_drained = true;
		upstreams_drain(w->upstreams);
		timer_set_in(&w->timers, &w->deadline, WORKER_DRAIN_GRACE_MS * NS_PER_MS);
	}
	if (upstreams_idle(w->upstreams))
		w->over = true;
}

/* ---- what others want ---- */

static void check_health(struct worker *w)
{
	for (uint32_t i = 0; i < w->upstreams->n; i++)
		(void)health_check(&w->upstreams->up[i], NULL, NULL);
}

static void on_control(struct engine *e, struct engine_op *op, int res)
{
	struct worker *w = CONTAINER_OF(op, struct worker, control);
	char bytes[16];
	ssize_t n;

	if (res == -ECANCELED)
		return;
	n = recv(w->control_fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		log_event(LOG_WORKER, LOG_WARN, "supervisor_gone", LOG_U64("worker", w->index));
		begin_drain(w);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] == WORKER_DRAIN)
			begin_drain(w);
		else if (bytes[i] == WORKER_EXIT)
			w->over = true;
		else if (bytes[i] == WORKER_HEALTH)
			check_health(w);
		else if (bytes[i] == WORKER_REOPEN)
			(void)access_reopen(&w->access);
	}
	engine_poll(e, op, w->control_fd, POLLIN);
}

static void on_wake(struct engine *e, struct engine_op *op, int res)
{
	struct worker *w = CONTAINER_OF(op, struct worker, wake);

	if (res < 0)
		return;
	rhc_ctr_add(w->exchange.counters, RHC_WCTR_wakes_received, op->count);
	guard_wake(w->upstreams);
	engine_wake(e, op, w->plan->wake_fds[w->index]);
}

static void tell_stats(struct worker *w)
{
	const struct engine_stats *s = engine_stats(w->engine);
	_Atomic uint64_t *c = w->exchange.counters;

	rhc_ctr_add(c, RHC_WCTR_io_submits, s->enters - w->told.enters);
	rhc_ctr_add(c, RHC_WCTR_io_sqes, s->started - w->told.started);
	rhc_ctr_add(c, RHC_WCTR_io_enobufs, s->starved - w->told.starved);
	rhc_ctr_add(c, RHC_WCTR_io_cq_overflow, s->cq_overflow - w->told.cq_overflow);
	rhc_ctr_add(c, RHC_WCTR_io_spliced, s->spliced - w->told.spliced);
	rhc_ctr_add(c, RHC_WCTR_loops, s->turns - w->told.turns);
	w->told = *s;
	stats_process(&w->stats, c);
	stats_buffers(&w->bufs, c);
	rhc_ctr_set(c, RHC_WCTR_slab_exchanges, w->exchange.in_flight);
	rhc_ctr_set(c, RHC_WCTR_loop_lag_ns, w->slowest_ns);
	w->slowest_ns = 0;
	rhc_worker_load(&w->shm, w->n_conns, w->exchange.in_flight);
}

static void on_second(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, second);
	struct rhc_reaped sum = { 0 };
	uint64_t wake = 0;

	/* a dead peer is the supervisor's business, but a dead supervisor must stop nothing */
	rhc_ctr_add(w->exchange.counters, RHC_WCTR_reaps,
		    rhc_reap_all(w->plan->seg, w->reap_fd, w->index, now_ms(w), &sum, &wake));
	guard_wake_mask(w->upstreams, wake);
	guard_second(w->upstreams);
	tell_stats(w);
	timer_set_in(&w->timers, t, NS_PER_S);
}

/* ---- birth ---- */

static int make_listeners(struct worker *w)
{
	const struct config *config = w->plan->config;

	w->n_listeners = config->listeners_len;
	w->listeners = calloc(w->n_listeners ? w->n_listeners : 1, sizeof(*w->listeners));
	if (!w->listeners)
		return -ENOMEM;
	for (uint32_t i = 0; i < w->n_listeners; i++) {
		struct worker_listener *l = &w->listeners[i];
		const struct config_listener *c = &config->listeners[i];

		l->w = w;
		l->fd = w->plan->listen->fd[i][w->place];
		list_init(&l->conns);
		engine_op_init(&l->accept, on_accept);
		l->limits = (struct http_limits){
			.head_max = c->max_header_bytes < H1_HEAD_MAX
					    ? (uint32_t)c->max_header_bytes
					    : H1_HEAD_MAX,
			.target_max = WORKER_TARGET_MAX,
			.streams_max = WORKER_STREAMS_MAX,
			.header_timeout_ns = c->header_timeout_ns,
			.idle_timeout_ns = c->idle_timeout_ns,
			.h2_window = WORKER_H2_WINDOW,
			.fin_aborts = true,
			.proxy_name = config->responses.proxy_status.enabled
					      ? config->responses.proxy_status.name
					      : NULL,
		};
		l->exchange = (struct exchange_listener){ .config = c, .env = &w->exchange };
		if (c->mode == CONFIG_LISTENER_UPSTREAM)
			l->exchange.upstream = upstreams_by_name(
				w->upstreams,
				(struct http_str){ c->upstream, (uint32_t)strlen(c->upstream) });
		maybe_accept(l);
	}
	return 0;
}

/*
 * How many of what: enough for every connection the configuration allows; memory is touched only
 * when used.
 */
static struct http_sizes sizes_of(const struct config *config)
{
	struct http_sizes s = { 0 };
	uint64_t down = 0, up = 0, streams = 0;

	for (uint32_t i = 0; i < config->listeners_len; i++)
		down += config->listeners[i].max_connections;
	for (uint32_t i = 0; i < config->upstreams_len; i++) {
		up += config->upstreams[i].policy.pool.max_connections;
		streams += config->upstreams[i].policy.pool.max_concurrent_streams;
	}
	up += config->defaults.pool.max_connections;
	s.conns = (uint32_t)(down + up);
	s.tls = (uint32_t)up;
	s.h2_conns = s.conns > 4096 ? 4096 : s.conns;
	s.h2_streams = streams + 4096 > 65536 ? 65536 : (uint32_t)streams + 4096;
	s.messages = s.conns + s.h2_streams > 65536 ? 65536 : s.conns + s.h2_streams;
	return s;
}

#ifdef RHC_FAULTS
/* Tests only: with TEST_HOSTILE_SEED everything comes and goes in pieces, late and short of buffers; nothing breaks. */
static int make_hostile(struct worker *w)
{
	const char                   *seed = getenv("TEST_HOSTILE_SEED");
	const struct engine_hostility how = { .seed = seed ? strtoull(seed, NULL, 10) + w->index : 0,
					      .split = 300, .split_max = 200, .delay = 100, .delay_max = 2,
					      .starve = 100, .in_order = true };

	return seed ? engine_make_hostile(w->engine, &how) : 0;
}
#else
static int make_hostile(struct worker *w)
{
	(void)w;
	return 0;
}
#endif

static int make_io(struct worker *w)
{
	const struct config *config = w->plan->config;
	struct http_sizes sizes = sizes_of(config);
	struct engine_conf conf = { .kind = w->plan->engine,
				    .bufs = &w->bufs,
				    .sq_entries = config->io.entries };
	/*
	 * each call keeps the buffer of its head, so there are as many small ones as calls can be
	 */
	uint32_t small = sizes.conns > 32768 ? 32768 : sizes.conns < 512 ? 512 : sizes.conns;
	char reason[ENGINE_REASON_MAX];
	int rc;

	rc = buf_pool_init(&w->bufs, small, config->io.buffers);
	if (rc == 0 && config->io.splice == CONFIG_SPLICE_AUTO) {
		rc = pipe_pool_init(&w->pipes, PIPE_MAX);
		w->bufs.pipes = &w->pipes;
	}
	if (rc == 0)
		rc = engine_new(&conf, reason, &w->engine);
	if (rc == 0)
		rc = make_hostile(w);
	if (rc != 0)
		return rc;
	if (w->plan->engine == ENGINE_AUTO && reason[0])
		log_event(LOG_IO, LOG_WARN, "engine_fallback", LOG_U64("worker", w->index),
			  LOG_STR("reason", reason));
	timer_wheel_init(&w->timers, engine_now(w->engine));
	return http_env_init(&w->http, &w->slabs, &sizes, w->engine, &w->bufs, &w->timers);
}

static int make_upstreams(struct worker *w)
{
	const struct upstream_env env = {
		.engine = w->engine,
		.timers = &w->timers,
		.http = &w->http,
		.worker = &w->shm,
		.wake_fds = w->plan->wake_fds,
		.workers = w->plan->workers,
		.rng = &w->rng,
		.tls = w->plan->tls,
		.dns_servers = getenv("RHC_DNS_SERVERS"),
	};

	return upstreams_new(w->plan->config, &env, &w->upstreams);
}

static int make_exchange(struct worker *w)
{
	w->exchange.config = w->plan->config;
	w->exchange.upstreams = w->upstreams;
	w->exchange.http = &w->http;
	w->exchange.access = &w->access;
	w->exchange.rng = &w->rng;
	w->exchange.worker = (uint8_t)w->index;
	return exchange_env_init(&w->exchange, WORKER_CALLS_MAX);
}

/*
 * A peer's tick may be reaping our predecessor just now: it holds our byte for less than a
 * millisecond, unless it hangs.
 */
static int take_index(struct worker *w, const struct rhc_worker_id *id, uint64_t *wake)
{
	uint64_t until = clock_ns() / NS_PER_MS + WORKER_REGISTER_MS;
	int rc;

	while ((rc = rhc_worker_register(&w->shm, w->plan->seg, w->index, id,
					 clock_ns() / NS_PER_MS, wake)) == -EBUSY &&
	       clock_ns() / NS_PER_MS < until)
		usleep(200);
	return rc;
}

static int be_registered(struct worker *w)
{
	struct stat ns;
	struct rhc_worker_id id = { .pid = (uint64_t)getpid(),
				    .generation = w->plan->generation,
				    .version = RHC_VERSION };
	uint64_t wake = 0;
	int rc;

	if (stat("/proc/self/ns/pid", &ns) == 0)
		id.pidns = (uint64_t)ns.st_ino;
	rhc_segment_forked(w->plan->seg);
	w->reap_fd = rhc_lock_open(w->plan->seg);
	if (w->reap_fd < 0)
		return w->reap_fd;
	rc = take_index(w, &id, &wake);
	if (rc != 0)
		return rc;
	worker_wake(w->plan->wake_fds, wake);
	rhc_worker_adopt(&w->shm, w->plan->generation);
	return 0;
}

static int say_failed(const struct worker *w, const char *what, int rc)
{
	log_event(LOG_WORKER, LOG_ERROR, "worker_start_failed", LOG_U64("worker", w->index),
		  LOG_STR("step", what), LOG_ERRNO("error", rc));
	log_flush();
	return EXIT_FAILURE;
}

static int be_born(struct worker *w)
{
	int rc;

	rng_init(&w->rng);
	stats_begin(&w->stats);
	w->exchange.counters = rhc_seg_wctr(w->plan->seg, w->index);
	if ((rc = be_registered(w)) != 0)
		return say_failed(w, "register", rc);
	if ((rc = make_io(w)) != 0)
		return say_failed(w, "engine", rc);
	if ((rc = make_upstreams(w)) != 0)
		return say_failed(w, "upstreams", rc);
	if ((rc = access_open(&w->access, &w->plan->config->logging.access_log, w->engine)) != 0)
		return say_failed(w, "access_log", rc);
	if ((rc = make_exchange(w)) != 0)
		return say_failed(w, "exchange", rc);
	w->second.fn = on_second;
	w->deadline.fn = on_deadline;
	engine_op_init(&w->wake, on_wake);
	engine_op_init(&w->control, on_control);
	engine_wake(w->engine, &w->wake, w->plan->wake_fds[w->index]);
	engine_poll(w->engine, &w->control, w->control_fd, POLLIN);
	timer_set_in(&w->timers, &w->second, NS_PER_S);
	if ((rc = make_listeners(w)) != 0)
		return say_failed(w, "listeners", rc);
	rhc_worker_phase(&w->shm, RHC_PHASE_SERVING);
	log_event(LOG_WORKER, LOG_INFO, "worker_serving", LOG_U64("worker", w->index),
		  LOG_U64("pid", getpid()), LOG_STR("engine", engine_name(w->engine)));
	log_flush();
	return 0;
}

/* ---- life ---- */

/* How long others had to wait for this turn's end. */
static void note_turn(struct worker *w)
{
	uint64_t took = clock_ns() - engine_now(w->engine);

	w->slowest_ns = took > w->slowest_ns ? took : w->slowest_ns;
}

static void turn(struct worker *w)
{
	int rc;

	rc = engine_turn(w->engine, timer_wheel_next(&w->timers));
	if (rc < 0) {
		log_event(LOG_IO, LOG_ERROR, "engine_broken", LOG_ERRNO("error", rc));
		w->exit_code = EXIT_FAILURE;
		w->over = true;
		return;
	}
	timer_wheel_run(&w->timers, engine_now(w->engine));
	rhc_worker_beat(&w->shm, now_ms(w));
	if (got_term || rhc_worker_wanted(&w->shm) == RHC_WANT_DRAIN)
		begin_drain(w);
	if (rhc_worker_wanted(&w->shm) == RHC_WANT_EXIT)
		w->over = true;
	if (w->draining)
		drain_step(w);
	log_flush();
	note_turn(w);
}

/*
 * Everything that is open dies with the process; the shared words are given back in good order
 * first, so that nobody has to reap after a clean end.
 */
static int be_gone(struct worker *w)
{
	uint64_t wake = 0;

	access_close(&w->access);
	rhc_worker_phase(&w->shm, RHC_PHASE_STOPPING);
	tell_stats(w);
	log_event(LOG_WORKER, LOG_INFO, "worker_stopped", LOG_U64("worker", w->index),
		  LOG_U64("conns", w->n_conns));
	log_flush();
	stats_end(w->exchange.counters);
	rhc_worker_unregister(&w->shm, clock_ns() / NS_PER_MS, &wake);
	worker_wake(w->plan->wake_fds, wake);
	return w->exit_code;
}

int worker_run(const struct worker_plan *plan, uint32_t index, uint32_t place, int control_fd)
{
	static struct worker worker; /* one per process; its tables are large */
	struct worker *w = &worker;
	int rc;

	set_signals();
	bus_guard("worker", plan->seg->path, NULL);
	log_after_fork();
	w->plan = plan;
	w->index = index;
	w->place = place;
	w->control_fd = control_fd;
	rc = be_born(w);
	if (rc != 0)
		return rc;
	while (!w->over)
		turn(w);
	return be_gone(w);
}
