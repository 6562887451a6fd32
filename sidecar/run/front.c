/* The connections of admin and telemetry, and what they may ask of the supervisor. */
#include <errno.h>

#include "sidecar/base/log.h"
#include "sidecar/io/tls.h"
#include "sidecar/run/supervisor_private.h"

enum {
	FRONT_CONNS =
		128, /* of admin and telemetry together; a newer one makes the oldest give way */
	FRONT_CONNS_HARD = 160, /* closed unseen beyond */
	FRONT_HEAD_MAX = 16384,
	FRONT_TARGET_MAX = 8192,
	FRONT_STREAMS_MAX = 16,
	/*
	 * a window of MESSAGE_WINDOW for each answer there can be, and one to read with for each
	 * connection
	 */
	FRONT_BUFS_LARGE =
		ADMIN_CALLS_MAX * (MESSAGE_WINDOW / BUF_LARGE_SIZE + 1) + FRONT_CONNS_HARD,
	FRONT_BUFS_SMALL = 2 * FRONT_CONNS_HARD,
};
#define FRONT_LIVE_NS (5 * NS_PER_S) /* a worker's beat younger than this means alive */

/* ---- what admin asks ---- */

static void hook_drain(void *arg)
{
	lifecycle_drain(arg);
}

static void hook_undrain(void *arg)
{
	struct supervisor *s = arg;

	atomic_store(&rhc_seg_hdr(&s->seg)->drain, 0);
	lifecycle_undrain(s);
}

static uint64_t hook_expires_s(void *arg, const char *upstream, bool ca)
{
	const struct supervisor *s = arg;

	const struct config_upstream *u = config_upstream(s->config, upstream);
	const struct tls_policy *p = NULL;

	if (u && u->url.tls)
		p = s->current->tls[u - s->config->upstreams].any;
	if (!p)
		return 0;
	return ca ? tls_policy_ca_expires_s(p) : tls_policy_own_expires_s(p);
}

static void hook_quit(void *arg)
{
	lifecycle_stop(arg, false);
}

/* The worker that turned its loop last: the others may be stuck, or about to end. */
static void hook_health(void *arg)
{
	struct supervisor *s = arg;
	struct child *best = NULL;
	uint64_t best_beat = 0;

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		struct child *c = &s->children[i];
		uint64_t beat;

		if (!c->pid || c->g->retiring)
			continue;
		beat = atomic_load(&rhc_seg_worker(&s->seg, i)->beat_ms);
		if (!best || beat > best_beat) {
			best = c;
			best_beat = beat;
		}
	}
	if (best)
		child_tell(best, WORKER_HEALTH);
}

/* While draining there need not be a worker: being drained is no reason to be restarted. */
static bool hook_live(void *arg)
{
	struct supervisor *s = arg;
	uint64_t now = supervisor_now_ms();

	for (uint32_t i = 0; i < RHC_WORKERS_MAX; i++) {
		uint64_t beat;

		if (!s->children[i].pid)
			continue;
		beat = atomic_load(&rhc_seg_worker(&s->seg, i)->beat_ms);
		if (now < beat + FRONT_LIVE_NS / NS_PER_MS)
			return true;
	}
	return s->lifecycle == RHC_LIFE_STARTING || s->draining;
}

/* ---- connections ---- */

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
	list_remove(&c->node);
	a->s->n_conns--;
}

static const struct http_conn_events conn_events = { .on_message = conn_message,
						     .on_closed = conn_closed };

/* Connections that are only held must not keep a probe out. */
static void make_room(struct supervisor *s)
{
	unsigned n = s->n_conns >= FRONT_CONNS ? s->n_conns - FRONT_CONNS + 1 : 0;

	LIST_FOREACH_SAFE(node, &s->conns)
	{
		if (n-- == 0)
			return;
		http_conn_drain(LIST_ENTRY(node, struct http_conn, node));
	}
}

static void on_accept(struct engine *e, struct engine_op *op, int res)
{
	struct admin_socket *a = CONTAINER_OF(op, struct admin_socket, accept);
	struct supervisor *s = a->s;
	struct http_conn *c;

	if (res < 0)
		return;
	make_room(s);
	if (s->n_conns >= FRONT_CONNS_HARD) {
		engine_close(e, res);
	} else if (http_server_open(&s->http, res, &s->limits, &conn_events, a, &c) == 0) {
		list_push_back(&s->conns, &c->node);
		s->n_conns++;
	}
}

static void open_socket(struct supervisor *s, unsigned i, int fd, enum admin_surface surface)
{
	struct admin_socket *a = &s->sockets[i];

	*a = (struct admin_socket){ .s = s,
				    .fd = fd,
				    .admin = { .admin = &s->admin, .surface = surface } };
	if (fd < 0)
		return;
	engine_op_init(&a->accept, on_accept);
	engine_accept(s->engine, &a->accept, fd);
}

int front_open(struct supervisor *s)
{
	int rc;

	s->hooks = (struct admin_hooks){ .drain = hook_drain,
					.undrain = hook_undrain,
					.expires_s = hook_expires_s,
					.quit = hook_quit,
					.health = hook_health,
					.live = hook_live,
					.arg = s };
	s->limits = (struct http_limits){
		.head_max = FRONT_HEAD_MAX,
		.target_max = FRONT_TARGET_MAX,
		.streams_max = FRONT_STREAMS_MAX,
		.header_timeout_ns = 10 * NS_PER_S,
		.idle_timeout_ns = 60 * NS_PER_S,
		.h2_window = 65536,
		.proxy_name = "rhc", /* outlives configurations */
	};
	s->admin.config = s->config;
	s->admin.seg = &s->seg;
	s->admin.lock_fd = s->lock_fd;
	s->admin.http = &s->http;
	s->admin.hooks = &s->hooks;
	s->admin.scrapes = atomic_load(&s->counters[RHC_WCTR_scrapes]);
	rc = admin_init(&s->admin);
	if (rc != 0)
		return rc;
	open_socket(s, 0, s->listen.telemetry_fd, ADMIN_TELEMETRY);
	open_socket(s, 1, s->listen.admin_fd, ADMIN_LOOPBACK);
	open_socket(s, 2, s->listen.admin_unix_fd, ADMIN_SOCKET);
	return 0;
}

int front_make_io(struct supervisor *s)
{
	struct engine_conf conf = { .kind = ENGINE_EPOLL, .bufs = &s->bufs };
	const struct http_sizes sizes = { .conns = FRONT_CONNS_HARD,
					  .h2_conns = 16,
					  .h2_streams = 256,
					  .messages = FRONT_CONNS_HARD + 256 };
	int rc = buf_pool_init(&s->bufs, FRONT_BUFS_SMALL, FRONT_BUFS_LARGE);

	list_init(&s->conns);
	if (rc == 0)
		rc = engine_new(&conf, NULL, &s->engine);
	if (rc != 0)
		return rc;
	timer_wheel_init(&s->timers, clock_ns());
	return http_env_init(&s->http, &s->slabs, &sizes, s->engine, &s->bufs, &s->timers);
}
