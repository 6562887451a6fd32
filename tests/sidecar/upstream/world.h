/* A configuration, a segment and one or two workers of it in one process. */
#ifndef RHC_TESTS_UPSTREAM_WORLD_H
#define RHC_TESTS_UPSTREAM_WORLD_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rig.h"
#include "shm/admin.h"
#include "sidecar/base/log.h"
#include "sidecar/config/findings.h"
#include "sidecar/http/env.h"
#include "sidecar/upstream/upstream.h"

enum { WORLD_WORKERS_MAX = 2 };

struct world_worker {
	struct rhc_worker rhc;
	struct upstreams *all;
	struct rng rng;
	int fd;
	struct engine_op wake;
	bool ended;
};

struct world {
	struct rig rig;
	struct config *cfg;
	struct rhc_segment seg;
	char path[64];
	struct http_env http;
	struct http_slabs slabs;
	int wake_fds[RHC_WORKERS_MAX];
	unsigned n;
	struct world_worker w[WORLD_WORKERS_MAX];
	const char *dns_servers;
	struct upstream_tls *tls;
};

static inline uint64_t world_ms(void)
{
	return clock_ns() / NS_PER_MS;
}

static inline struct config *world_config(const char *yaml)
{
	struct config_source src = { .path = "test", .text = yaml, .len = strlen(yaml) };
	struct findings f;
	struct config *cfg = NULL;
	int rc;

	findings_init(&f);
	rc = config_load(&cfg, &src, &f);
	if (rc < 0)
		findings_print(&f, FINDINGS_TEXT, stderr);
	cr_assert_eq(rc, 0);
	findings_fini(&f);
	return cfg;
}

static inline void world_on_wake(struct engine *e, struct engine_op *op, int res)
{
	struct world_worker *w = CONTAINER_OF(op, struct world_worker, wake);

	if (res < 0 || w->ended)
		return;
	guard_wake(w->all);
	engine_wake(e, op, w->fd);
}

static inline void world_worker_init(struct world *x, unsigned i)
{
	struct world_worker *w = &x->w[i];
	struct rhc_worker_id id = { .pid = (uint64_t)getpid(), .version = "test" };
	uint64_t wake = 0;
	struct upstream_env env = {
		.engine = x->rig.engine,
		.timers = &x->rig.timers,
		.http = &x->http,
		.worker = &w->rhc,
		.wake_fds = x->wake_fds,
		.workers = x->n,
		.rng = &w->rng,
		.tls = x->tls,
		.dns_servers = x->dns_servers,
	};

	cr_assert_eq(rhc_worker_register(&w->rhc, &x->seg, i, &id, world_ms(), &wake), 0);
	rng_init_from(&w->rng, i + 1);
	cr_assert_eq(upstreams_new(x->cfg, &env, &w->all), 0);
	engine_op_init(&w->wake, world_on_wake);
	engine_wake(x->rig.engine, &w->wake, w->fd);
}

static inline void world_init(struct world *x, unsigned workers, enum engine_kind kind,
			      const char *yaml, const char *dns_servers)
{
	struct http_sizes sizes = {
		.conns = 64, .tls = 8, .h2_conns = 8, .h2_streams = 64, .messages = 64
	};
	struct rhc_segment_opt opt = {
		.shape = { .workers = 4, .upstreams = 8, .hosts = 8, .slots = 64 },
		.mode = 0600,
		.allow_disk = true,
		.mono_ns = clock_ns(),
		.wall_ns = clock_wall_ns(),
	};
	struct rhc_refusal why;
	char text[256];
	uint64_t wake = 0;

	memset(x, 0, sizeof(*x));
	x->n = workers;
	x->dns_servers = dns_servers;
	log_set_all(LOG_OFF);
	rig_init(&x->rig, kind);
	x->cfg = world_config(yaml);
	snprintf(x->path, sizeof(x->path), "/dev/shm/rhc-test-upstream-%d.shm", (int)getpid());
	unlink(x->path);
	opt.path = x->path;
	cr_assert_eq(rhc_segment_adopt(&x->seg, &opt, &why), 0, "%s", why.text);
	cr_assert_eq(upstreams_declare(x->cfg, &x->seg, world_ms(), &wake, text, sizeof(text)), 0,
		     "%s", text);
	cr_assert_eq(upstream_tls_new(x->cfg, &x->tls, text, sizeof(text)), 0, "%s", text);
	cr_assert_eq(http_env_init(&x->http, &x->slabs, &sizes, x->rig.engine, &x->rig.bufs,
				   &x->rig.timers),
		     0);
	for (unsigned i = 0; i < RHC_WORKERS_MAX; i++)
		x->wake_fds[i] = -1;
	for (unsigned i = 0; i < workers; i++)
		x->wake_fds[i] = x->w[i].fd = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < workers; i++)
		world_worker_init(x, i);
}

static inline struct upstream *world_up(struct world *x, unsigned worker, const char *name)
{
	struct upstream *up = upstreams_by_name(x->w[worker].all,
						(struct http_str){ name, (uint32_t)strlen(name) });

	cr_assert_not_null(up);
	return up;
}

static inline uint64_t world_counter(struct upstream *up, unsigned counter)
{
	return atomic_load_explicit(&up->ctr[counter], memory_order_relaxed);
}

/* Everything ends in good order, and nothing is left anywhere. */
static inline void world_fini(struct world *x)
{
	bool idle = false;
	uint64_t wake = 0;

	for (unsigned i = 0; i < x->n; i++)
		upstreams_drain(x->w[i].all);
	for (int turn = 0; turn < 2000 && !idle; turn++) {
		idle = true;
		rig_turn(&x->rig);
		for (unsigned i = 0; i < x->n; i++)
			idle = upstreams_idle(x->w[i].all) && idle;
	}
	cr_assert(idle, "something is still open");
	for (unsigned i = 0; i < x->n; i++) {
		struct world_worker *w = &x->w[i];

		w->ended = true;
		engine_cancel(x->rig.engine, &w->wake);
		upstreams_free(w->all);
		for (uint32_t u = 0; u < x->cfg->upstreams_len; u++)
			cr_assert_eq(rhc_bulkhead_in_use(&x->seg, u), 0, "a slot is left");
		rhc_worker_unregister(&w->rhc, world_ms(), &wake);
	}
	for (int turn = 0; turn < 5; turn++)
		rig_turn(&x->rig);
	for (unsigned i = 0; i < x->n; i++) {
		engine_forget(x->rig.engine, x->w[i].fd);
		close(x->w[i].fd);
	}
	http_env_fini(&x->http, &x->slabs);
	rig_fini(&x->rig);
	upstream_tls_free(x->tls, x->cfg);
	config_free(x->cfg);
	rhc_segment_detach(&x->seg);
	unlink(x->path);
}

#endif
