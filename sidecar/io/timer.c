#include "sidecar/io/timer.h"

#include "sidecar/base/obj.h"

enum { SLOT_BITS = 6 };

void timer_wheel_init(struct timer_wheel *w, uint64_t now_ns)
{
	memset(w, 0, sizeof(*w));
	w->now_ns = now_ns;
	w->tick = now_ns / TIMER_TICK_NS;
	for (size_t i = 0; i < ARRAY_LEN(w->slots); i++)
		list_init(&w->slots[i]);
	list_init(&w->running);
}

/* The first tick at which due_ns is over: rounded up, so that nothing fires early. */
static uint64_t tick_of(const struct timer_wheel *w, uint64_t due_ns)
{
	uint64_t tick = due_ns / TIMER_TICK_NS + (due_ns % TIMER_TICK_NS != 0);

	return tick > w->tick ? tick : w->tick + 1;
}

/*
 * The level is where tick and the wheel's own tick differ first, in groups of 6 bits.  So all timers of
 * a level share the groups above with the wheel and lie ahead of its slot there: no level wraps, and each
 * timer of a lower level is due before those of a higher one.
 */
static void place(struct timer_wheel *w, struct timer *t, uint64_t tick)
{
	unsigned level = (63 - (unsigned)__builtin_clzll((w->tick ^ tick) | 1)) / SLOT_BITS;
	unsigned slot;

	if (level >= TIMER_LEVELS) {
		/* Beyond 71,000 years: the last slot there is, and lazily again from there. */
		level = TIMER_LEVELS - 1;
		tick = w->tick | ((UINT64_C(1) << (TIMER_LEVELS * SLOT_BITS)) - 1);
	}
	slot = tick >> (level * SLOT_BITS) & (TIMER_SLOTS - 1);
	t->tick = tick;
	t->slot = level * TIMER_SLOTS + slot;
	w->used[level] |= UINT64_C(1) << slot;
	w->linked++;
	list_push_back(&w->slots[t->slot], &t->node);
}

static void unlink_timer(struct timer_wheel *w, struct timer *t)
{
	unsigned level = t->slot / TIMER_SLOTS, slot = t->slot % TIMER_SLOTS;

	if (!list_linked(&t->node))
		return;
	list_remove(&t->node);
	w->linked--;
	if (list_empty(&w->slots[t->slot]))
		w->used[level] &= ~(UINT64_C(1) << slot);
}

void timer_set(struct timer_wheel *w, struct timer *t, uint64_t due_ns)
{
	uint64_t tick = tick_of(w, due_ns);

	assert(t->fn);
	t->due_ns = due_ns ? due_ns : 1;
	/* Later than where it lies: it is moved when that comes up. */
	if (list_linked(&t->node)) {
		if (t->tick <= tick)
			return;
		unlink_timer(w, t);
	}
	place(w, t, tick);
}

void timer_set_in(struct timer_wheel *w, struct timer *t, uint64_t delay_ns)
{
	uint64_t due;

	if (__builtin_add_overflow(w->now_ns, delay_ns, &due))
		due = UINT64_MAX;
	timer_set(w, t, due);
}

void timer_clear(struct timer_wheel *w, struct timer *t)
{
	t->due_ns = 0;
	unlink_timer(w, t);
}

/* The first slot that has something to do: its tick, and where it is.  UINT64_MAX: none. */
static uint64_t next_slot(const struct timer_wheel *w, unsigned *ret_level, unsigned *ret_slot)
{
	for (unsigned level = 0; level < TIMER_LEVELS; level++) {
		unsigned shift = level * SLOT_BITS, slot;
		uint64_t above = ~((UINT64_C(1) << (shift + SLOT_BITS)) - 1);

		if (!w->used[level])
			continue;
		slot = (unsigned)__builtin_ctzll(w->used[level]);
		*ret_level = level;
		*ret_slot = slot;
		return (w->tick & above) | (uint64_t)slot << shift;
	}
	return UINT64_MAX;
}

uint64_t timer_wheel_next(const struct timer_wheel *w)
{
	unsigned level, slot;
	uint64_t tick;

	tick = next_slot(w, &level, &slot);
	return tick > UINT64_MAX / TIMER_TICK_NS ? UINT64_MAX : tick * TIMER_TICK_NS;
}

/* Fires, or goes to a finer slot, or (lazily moved) to a later one, or (disarmed) nowhere. */
static bool run_one(struct timer_wheel *w, struct timer *t)
{
	if (!timer_armed(t))
		return false;
	if (t->due_ns > w->tick * TIMER_TICK_NS) {
		place(w, t, tick_of(w, t->due_ns));
		return false;
	}
	t->due_ns = 0;
	t->fn(t);
	return true;
}

/* The slot's timers leave it before any callback runs; those cleared meanwhile leave ->running. */
static unsigned run_slot(struct timer_wheel *w, unsigned level, unsigned slot)
{
	struct list_node *n;
	unsigned          fired = 0;

	list_splice_back(&w->running, &w->slots[level * TIMER_SLOTS + slot]);
	w->used[level] &= ~(UINT64_C(1) << slot);
	while ((n = list_pop_front(&w->running))) {
		w->linked--;
		fired += run_one(w, LIST_ENTRY(n, struct timer, node));
	}
	return fired;
}

unsigned timer_wheel_run(struct timer_wheel *w, uint64_t now_ns)
{
	uint64_t now_tick = now_ns / TIMER_TICK_NS;
	unsigned fired = 0, level, slot;

	assert(list_empty(&w->running)); /* not from a callback */
	if (now_ns > w->now_ns)
		w->now_ns = now_ns;
	for (;;) {
		uint64_t tick = next_slot(w, &level, &slot);

		if (tick > now_tick)
			break;
		w->tick = tick;
		fired += run_slot(w, level, slot);
	}
	if (now_tick > w->tick)
		w->tick = now_tick;
	return fired;
}
