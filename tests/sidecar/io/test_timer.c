#include "test_engine.h"

#include "sidecar/base/random.h"
#include "sidecar/io/timer.h"

#define T TIMER_TICK_NS
/* Not at the beginning of a tick. */
#define START (UINT64_C(1234567) * T + 12345)

struct alarm {
	struct timer t;
	int          fired;
	uint64_t     at; /* the wheel's now when it fired */
};

static struct timer_wheel wheel;

static void on_alarm(struct timer *t)
{
	struct alarm *a = CONTAINER_OF(t, struct alarm, t);

	cr_assert(!timer_armed(t));
	a->fired++;
	a->at = wheel.now_ns;
}

static struct alarm alarm_new(void)
{
	return (struct alarm){ .t.fn = on_alarm };
}

static void start(void)
{
	timer_wheel_init(&wheel, START);
}

Test(timer, an_empty_wheel_has_nothing_to_wait_for)
{
	start();
	cr_assert_eq(timer_wheel_next(&wheel), UINT64_MAX);
	cr_assert_eq(timer_wheel_run(&wheel, START + 100 * NS_PER_S), 0);
}

/* clang-format off */
static const struct { const char *says; uint64_t delay; } delays[] = {
	{ "at once",              0 },
	{ "a nanosecond",         1 },
	{ "just under a tick",    T - 1 },
	{ "a tick",               T },
	{ "just over a tick",     T + 1 },
	{ "the end of level 0",   63 * T },
	{ "beyond level 0",       64 * T },
	{ "two seconds",          2 * NS_PER_S },
	{ "level 2",              4096 * T + 3 },
	{ "an hour",              3600 * NS_PER_S },
	{ "a day",                86400 * NS_PER_S },
	{ "a year",               31536000 * NS_PER_S },
	{ "a century",            UINT64_C(100) * 31536000 * NS_PER_S },
};
/* clang-format on */

Test(timer, fires_never_early_and_at_most_a_tick_late_however_the_time_goes)
{
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		struct alarm a = alarm_new();
		uint64_t     due = START + delays[i].delay, now;
		int          rounds = 0;

		start();
		timer_set(&wheel, &a.t, due);
		cr_assert(timer_armed(&a.t));
		/* As the worker does: wait until next, run. */
		while (!a.fired) {
			now = timer_wheel_next(&wheel);
			cr_assert_neq(now, UINT64_MAX, "%s", delays[i].says);
			/* Just before it nothing happens. */
			timer_wheel_run(&wheel, now - 1);
			cr_assert(!a.fired, "%s: early", delays[i].says);
			timer_wheel_run(&wheel, now);
			cr_assert_leq(++rounds, TIMER_LEVELS + 1, "%s", delays[i].says);
		}
		cr_assert_geq(a.at, due, "%s: early", delays[i].says);
		cr_assert_leq(a.at, due + T, "%s: late", delays[i].says);
		cr_assert_eq(wheel.linked, 0);
		cr_assert_eq(timer_wheel_next(&wheel), UINT64_MAX);
	}
}

Test(timer, fires_when_the_time_jumps_over_it)
{
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		struct alarm a = alarm_new();

		start();
		timer_set(&wheel, &a.t, START + delays[i].delay);
		cr_assert_eq(timer_wheel_run(&wheel, START + 2 * delays[i].delay + 2 * T), 1);
		cr_assert_eq(a.fired, 1);
	}
}

Test(timer, moved_to_later_fires_only_then)
{
	struct alarm a = alarm_new();

	start();
	timer_set(&wheel, &a.t, START + 10 * T);
	timer_set(&wheel, &a.t, START + 500 * T);
	timer_wheel_run(&wheel, START + 499 * T);
	cr_assert_eq(a.fired, 0);
	timer_wheel_run(&wheel, START + 501 * T);
	cr_assert_eq(a.fired, 1);
}

Test(timer, moved_to_earlier_fires_then_and_not_again)
{
	struct alarm a = alarm_new();

	start();
	timer_set(&wheel, &a.t, START + 5000 * T);
	timer_set(&wheel, &a.t, START + 3 * T);
	cr_assert_leq(timer_wheel_next(&wheel), START + 4 * T);
	timer_wheel_run(&wheel, START + 4 * T);
	cr_assert_eq(a.fired, 1);
	timer_wheel_run(&wheel, START + 9000 * T);
	cr_assert_eq(a.fired, 1);
}

Test(timer, cleared_does_not_fire_and_leaves_the_wheel)
{
	struct alarm a = alarm_new();

	start();
	timer_set(&wheel, &a.t, START + 3 * T);
	timer_clear(&wheel, &a.t);
	timer_clear(&wheel, &a.t);
	cr_assert_eq(wheel.linked, 0);
	cr_assert_eq(timer_wheel_next(&wheel), UINT64_MAX);
	timer_wheel_run(&wheel, START + 100 * T);
	cr_assert_eq(a.fired, 0);
}

Test(timer, disarmed_does_not_fire_and_can_be_set_again)
{
	struct alarm a = alarm_new();

	start();
	timer_set(&wheel, &a.t, START + 3 * T);
	timer_disarm(&a.t);
	timer_wheel_run(&wheel, START + 2 * T);
	timer_set(&wheel, &a.t, START + 6 * T);
	timer_wheel_run(&wheel, START + 5 * T);
	cr_assert_eq(a.fired, 0);
	timer_wheel_run(&wheel, START + 7 * T);
	cr_assert_eq(a.fired, 1);
	/* And disarmed for good it leaves by itself. */
	timer_set(&wheel, &a.t, START + 20 * T);
	timer_disarm(&a.t);
	timer_wheel_run(&wheel, START + 30 * T);
	cr_assert_eq(a.fired, 1);
	cr_assert_eq(wheel.linked, 0);
}

struct killer {
	struct timer  t;
	struct alarm *victims[4];
};

static void on_kill(struct timer *t)
{
	struct killer *k = CONTAINER_OF(t, struct killer, t);

	for (int i = 0; i < 4; i++) {
		if (!k->victims[i])
			continue;
		timer_clear(&wheel, &k->victims[i]->t);
		free(k->victims[i]); /* the sanitizer watches */
	}
}

Test(timer, a_callback_may_clear_and_free_others_of_the_same_tick)
{
	struct killer k = { .t.fn = on_kill };

	start();
	timer_set(&wheel, &k.t, START + 3 * T);
	for (int i = 0; i < 4; i++) {
		k.victims[i] = malloc(sizeof(struct alarm));
		*k.victims[i] = alarm_new();
		timer_set(&wheel, &k.victims[i]->t, START + (i < 2 ? 3 : 200) * T);
	}
	cr_assert_eq(timer_wheel_run(&wheel, START + 1000 * T), 1);
	cr_assert_eq(wheel.linked, 0);
}

static void on_again(struct timer *t)
{
	struct alarm *a = CONTAINER_OF(t, struct alarm, t);

	a->fired++;
	timer_set_in(&wheel, t, 10 * T);
}

Test(timer, a_callback_may_set_itself_again)
{
	struct alarm a = { .t.fn = on_again };

	start();
	timer_set_in(&wheel, &a.t, 10 * T);
	for (uint64_t now = START; now < START + 1100 * T; now += T / 2)
		timer_wheel_run(&wheel, now);
	/* Each round ends on the tick after, and the next is counted from there. */
	cr_assert(a.fired >= 98 && a.fired <= 110, "%d", a.fired);
	timer_clear(&wheel, &a.t);
	/* A long jump makes up for nothing: it fires once and is set from now on. */
	a.fired = 0;
	timer_set_in(&wheel, &a.t, 10 * T);
	timer_wheel_run(&wheel, START + 100000 * T);
	cr_assert_eq(a.fired, 1);
	timer_clear(&wheel, &a.t);
}

Test(timer, a_thousand_timers_behave_like_a_sorted_list)
{
	static struct alarm all[1000];
	static uint64_t     due[1000];
	struct rng          r;
	uint64_t            now = START;

	start();
	rng_init_from(&r, 7);
	for (int i = 0; i < 1000; i++)
		all[i] = alarm_new();
	for (int step = 0; step < 20000; step++) {
		int      i = (int)rng_below(&r, 1000);
		uint64_t span = T << rng_below(&r, 16);

		switch (rng_below(&r, 4)) {
		case 0:
		case 1:
			due[i] = now + rng_below(&r, span);
			timer_set(&wheel, &all[i].t, due[i]);
			break;
		case 2:
			due[i] = 0;
			if (rng_below(&r, 2))
				timer_clear(&wheel, &all[i].t);
			else
				timer_disarm(&all[i].t);
			break;
		default:
			now += rng_below(&r, rng_below(&r, 50) ? 3 * T : 5000 * T);
			timer_wheel_run(&wheel, now);
			for (int k = 0; k < 1000; k++) {
				if (all[k].fired) {
					cr_assert_eq(all[k].fired, 1);
					cr_assert(due[k] && due[k] <= now, "%d: early", k);
					due[k] = 0;
					all[k].fired = 0;
				}
				cr_assert(!due[k] || due[k] + T > now, "%d: late", k);
			}
			/* The wait never oversleeps the next one. */
			for (int k = 0; k < 1000; k++)
				cr_assert(!due[k] || timer_wheel_next(&wheel) <= due[k] + T);
		}
	}
	for (int i = 0; i < 1000; i++)
		timer_clear(&wheel, &all[i].t);
	cr_assert_eq(wheel.linked, 0);
	cr_assert_eq(timer_wheel_next(&wheel), UINT64_MAX);
}

BOTH_ENGINES(the_engine_waits_until_the_next_timer)
{
	struct world w;
	struct alarm a = alarm_new();
	uint64_t     due;
	int          turns = 0;

	world_open(&w, kind);
	timer_wheel_init(&wheel, clock_ns());
	due = clock_ns() + 50 * MS;
	timer_set(&wheel, &a.t, due);
	while (!a.fired) {
		engine_turn(w.e, timer_wheel_next(&wheel));
		timer_wheel_run(&wheel, engine_now(w.e));
		turns++;
	}
	cr_assert_geq(clock_ns(), due);
	cr_assert_leq(turns, 4);
	world_close(&w);
}
