/* An engine, a wheel and turns of them for the tests of this folder. */
#ifndef RHC_TESTS_UPSTREAM_RIG_H
#define RHC_TESTS_UPSTREAM_RIG_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../io/engines.h"
#include "sidecar/base/buf.h"
#include "sidecar/base/clock.h"
#include "sidecar/io/engine.h"
#include "sidecar/io/timer.h"

enum { RIG_PEERS_MAX = 4 };

/* Somebody on the other side, who acts between the turns. */
struct rig_peer {
	void (*act)(void *arg);
	void *arg;
};

struct rig {
	struct buf_pool bufs;
	struct engine *engine;
	struct engine_mode mode;
	struct timer_wheel timers;
	struct rig_peer peer[RIG_PEERS_MAX];
	unsigned n_peers;
};

/* An engine of that kind, or the first of those asked for (engines.h). */
static inline void rig_init(struct rig *r, enum engine_kind kind)
{
	*r = (struct rig){ .mode = engine_mode_of(kind) };
	cr_assert_eq(buf_pool_init(&r->bufs, 256, r->mode.tiny ? 32 : 64), 0);
	r->engine = engine_in_mode(&r->mode, (struct engine_conf){ .bufs = &r->bufs });
	if (!r->engine) {
		buf_pool_fini(&r->bufs);
		cr_skip_test("no io_uring here");
	}
	timer_wheel_init(&r->timers, clock_ns());
}

static inline void rig_turn(struct rig *r)
{
	uint64_t next = timer_wheel_next(&r->timers), soon = clock_ns() + NS_PER_MS;

	for (unsigned i = 0; i < r->n_peers; i++)
		r->peer[i].act(r->peer[i].arg);
	cr_assert_geq(engine_turn(r->engine, next < soon ? next : soon), 0);
	timer_wheel_run(&r->timers, clock_ns());
}

/* Turn until *done, at most ms.  Returns *done. */
static inline bool rig_until(struct rig *r, const bool *done, unsigned ms)
{
	uint64_t end = clock_ns() + ms * NS_PER_MS;

	while (!*done && clock_ns() < end)
		rig_turn(r);
	return *done;
}

static inline void rig_for(struct rig *r, unsigned ms)
{
	bool never = false;

	rig_until(r, &never, ms);
}

static inline void rig_fini(struct rig *r)
{
	for (int i = 0; i < 200 && engine_in_flight(r->engine) > 0; i++)
		rig_turn(r);
	cr_assert_eq(engine_in_flight(r->engine), 0);
	engine_mode_end(r->engine);
	buf_pool_fini(&r->bufs);
}

#endif
