/*
 * tests/sidecar/io/engines.h - which engines a test runs on.
 *
 * Calm      io_uring, where it is allowed, and epoll.
 * Hostile   RHC_TEST_HOSTILE=SEED[,SEED...]: both again, hostile with each seed, instead of calm.  Benign: all is in
 *           pieces, late and short of buffers, but nothing breaks or overtakes, so a test holds unchanged.  The
 *           remainder of the seed by 4 says what is worst: pieces, delays, buffers, or a bit of each.
 * One       RHC_TEST_ENGINE=io_uring or epoll: only that one.
 * Failure   A test that ends with an engine at work says which and with what seed: both set run it again.
 */
#ifndef RHC_TESTS_SIDECAR_IO_ENGINES_H
#define RHC_TESTS_SIDECAR_IO_ENGINES_H

#include <criterion/criterion.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sidecar/io/engine.h"
#include "sidecar/io/engine_hostile.h"

#define ENGINES_USED __attribute__((unused)) static

enum { ENGINE_SEEDS_MAX = 64 };

struct engine_mode {
	unsigned                next; /* 0: the first */
	enum engine_kind        kind;
	bool                    hostile;
	bool                    tiny; /* few buffers are enough */
	struct engine_hostility how;
};

/* With a seed: what is done, and how much of it. */
ENGINES_USED struct engine_hostility benign(uint64_t seed)
{
	static const struct engine_hostility worst[4] = {
		{ .split = 850, .split_max = 3 },
		{ .split = 100, .split_max = 4000, .delay = 900, .delay_max = 5 },
		{ .split = 200, .split_max = 2000, .delay = 100, .delay_max = 2, .starve = 700 },
		{ .split = 400, .split_max = 40, .delay = 300, .delay_max = 3, .starve = 200 },
	};
	struct engine_hostility how = worst[seed % 4];

	how.seed = seed;
	how.in_order = true;
	return how;
}

/* The n-th seed of RHC_TEST_HOSTILE; false: there are no more. */
ENGINES_USED bool hostile_seed(unsigned n, uint64_t *ret_seed)
{
	const char *at = getenv("RHC_TEST_HOSTILE");
	char       *end;

	for (; at && *at; at = *end ? end + 1 : end) {
		*ret_seed = strtoull(at, &end, 10);
		cr_assert(end > at, "RHC_TEST_HOSTILE: no number: %s", at);
		if (n-- == 0)
			return true;
	}
	return false;
}

ENGINES_USED bool engines_are_hostile(void)
{
	uint64_t seed;

	return hostile_seed(0, &seed);
}

ENGINES_USED bool engine_wanted(enum engine_kind kind)
{
	const char *only = getenv("RHC_TEST_ENGINE");

	return !only || (kind == ENGINE_URING ? strcmp(only, "epoll") != 0 : strcmp(only, "io_uring") != 0);
}

/* The next one; false: these were all. */
ENGINES_USED bool engine_mode_next(struct engine_mode *m)
{
	unsigned i;
	uint64_t seed;

	for (i = m->next; i < 2 * ENGINE_SEEDS_MAX; i++) {
		m->kind = i % 2 ? ENGINE_EPOLL : ENGINE_URING;
		if (!engines_are_hostile()) {
			if (i > 1)
				return false;
		} else if (hostile_seed(i / 2, &seed)) {
			m->hostile = true;
			m->how = benign(seed);
			m->tiny = seed % 4 == 2;
		} else {
			return false;
		}
		if (engine_wanted(m->kind))
			break;
	}
	m->next = i + 1;
	return i < 2 * ENGINE_SEEDS_MAX;
}

/* Only calm ones: where turns, buffers or calls are counted. */
ENGINES_USED bool engine_mode_next_calm(struct engine_mode *m)
{
	return !engines_are_hostile() && engine_mode_next(m);
}

/* A kind for a test that has one engine only. */
ENGINES_USED struct engine_mode engine_mode_of(enum engine_kind kind)
{
	struct engine_mode m = { 0 };

	if (engines_are_hostile() && engine_mode_next(&m))
		return m;
	if (getenv("RHC_TEST_ENGINE") && engine_mode_next(&m))
		return m;
	return (struct engine_mode){ .kind = kind };
}

/* --- the failure */

static struct engine_mode at_work; /* a copy: a failed test leaves its frames */

ENGINES_USED void tell_mode(void)
{
	char text[160];
	int  n;

	if (at_work.next == 0 && !at_work.hostile)
		return;
	n = snprintf(text, sizeof(text), "it happened with RHC_TEST_ENGINE=%s", at_work.kind == ENGINE_URING ? "io_uring" : "epoll");
	if (at_work.hostile)
		n += snprintf(text + n, sizeof(text) - (size_t)n, " RHC_TEST_HOSTILE=%lu", (unsigned long)at_work.how.seed);
	text[n++] = '\n';
	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		return;
}

ENGINES_USED void tell_mode_of_abort(int sig)
{
	tell_mode();
	signal(sig, SIG_DFL);
	raise(sig);
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* The engine of this mode; NULL: io_uring is not allowed here. */
ENGINES_USED struct engine *engine_in_mode(const struct engine_mode *m, struct engine_conf conf)
{
	static bool    prepared;
	struct engine *e;
	char           reason[ENGINE_REASON_MAX];

	conf.kind = m->kind;
	if (engine_new(&conf, reason, &e) < 0) {
		cr_assert_eq(m->kind, ENGINE_URING, "epoll: %s", reason);
		cr_log_warn("no io_uring here: %s", reason);
		return NULL;
	}
	if (m->hostile)
		cr_assert_eq(engine_make_hostile(e, &m->how), 0);
	if (!prepared) {
		prepared = true;
		atexit(tell_mode);
		signal(SIGABRT, tell_mode_of_abort);
		if (__sanitizer_set_death_callback)
			__sanitizer_set_death_callback(tell_mode);
	}
	at_work = *m;
	return e;
}

ENGINES_USED void engine_mode_end(struct engine *e)
{
	at_work = (struct engine_mode){ 0 };
	engine_free(e);
}

#endif
