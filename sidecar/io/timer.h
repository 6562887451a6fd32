/*
 * sidecar/io/timer.h - deadlines: a hierarchical wheel of 8 ms ticks.
 *
 * Shape       struct timer lies in its owner.  Eight levels of 64 slots with a bitmap each, so everything is O(1)
 *             and the next deadline is a few instructions away.  Zeroed memory is a timer without callback.
 * Calls back  Only inside timer_wheel_run(); fn gets the timer, its owner is around it (CONTAINER_OF).  A callback
 *             may set, clear and free any timer, its own included.
 * Exact       Never early; late by a tick at most, plus what the worker was doing meanwhile.
 * Lazy        Timeouts are nearly always moved or cancelled.  Moving one to a later time only writes the new
 *             time; it is put in the right slot when the old one comes up.  timer_disarm() is lazy as
 *             well: the timer will not fire, but its node stays in the wheel.
 * Ends when   timer_clear() was called, or it fired and was not set again.  A merely disarmed timer must be
 *             cleared before its memory goes.
 */
#ifndef RHC_SIDECAR_IO_TIMER_H
#define RHC_SIDECAR_IO_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/list.h"

enum { TIMER_LEVELS = 8, TIMER_SLOTS = 64 };
#define TIMER_TICK_NS (UINT64_C(8) * NS_PER_MS)

struct timer {
	struct list_node node;
	uint64_t         due_ns; /* 0: not armed */
	void (*fn)(struct timer *);
	uint32_t slot; /* where the node lies: level * TIMER_SLOTS + slot */
	uint32_t unused;
	uint64_t tick; /* the tick it lies there for */
};

struct timer_wheel {
	uint64_t    now_ns;
	uint64_t    tick; /* every tick up to here has been run */
	uint64_t    used[TIMER_LEVELS]; /* a bit per slot that may hold timers */
	uint64_t    linked; /* nodes in the wheel */
	struct list slots[TIMER_LEVELS * TIMER_SLOTS];
	struct list running; /* the slot being run */
};

void timer_wheel_init(struct timer_wheel *w, uint64_t now_ns);

/*
 * (Re)arm to fire at due_ns (CLOCK_MONOTONIC) or as soon as possible if that is over.  fn must be set.
 * Relative times: timer_set_in(), counted from the wheel's now.
 */
void timer_set(struct timer_wheel *w, struct timer *t, uint64_t due_ns);
void timer_set_in(struct timer_wheel *w, struct timer *t, uint64_t delay_ns);

void timer_clear(struct timer_wheel *w, struct timer *t); /* not set: nothing */

/* Will not fire; the cheapest way when it is soon set again. */
static inline void timer_disarm(struct timer *t)
{
	t->due_ns = 0;
}

static inline bool timer_armed(const struct timer *t)
{
	return t->due_ns != 0;
}

/* When timer_wheel_run() has something to do next, for engine_turn(); UINT64_MAX: never. */
uint64_t timer_wheel_next(const struct timer_wheel *w);

/* Fire what is due.  Returns how many fired. */
unsigned timer_wheel_run(struct timer_wheel *w, uint64_t now_ns);

#endif
