/*
 * sidecar/io/engine_hostile.h - an engine that does everything it may do to those above it.
 *
 * Shape   Switched on for one engine, of either backend; then receives and sends go in pieces of some bytes,
 *         completions and accepted connections are late by some turns and in another order, receives wait as if
 *         there was no buffer, and connections break.  All of it is allowed by engine.h, so whoever fails here would
 *         fail one day.
 * Benign  All but ->error: what is above must behave as on a calm engine, only later.
 * Seed    What happens to a descriptor is drawn for it alone, from the seed, the how-manieth descriptor it is, and
 *         how much was drawn for its receives, its sends and the rest before: one connection's timing does not change
 *         another's hostility.
 * For     tests only.  Off, it costs one predicted branch per completion and per send.
 */
#ifndef RHC_SIDECAR_IO_ENGINE_HOSTILE_H
#define RHC_SIDECAR_IO_ENGINE_HOSTILE_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

/* How often, in 1000: 0 never, 1000 always. */
struct engine_hostility {
	uint64_t seed; /* the same seed, the same hostility */
	uint32_t split; /* receives that bring, tries of a send that take 1..split_max bytes; the rest later */
	uint32_t split_max; /* 0: 7 */
	uint32_t delay; /* completions, and connections of an accept, that come 1..delay_max turns later */
	uint32_t delay_max; /* 0: 8 */
	uint32_t starve; /* receives that wait a turn as if there was no buffer */
	bool     in_order; /* late completions of one descriptor keep their order, as a well-behaved peer's would */
	uint32_t error; /* verbs that fail, and their connection with them; sends before, amid and after their bytes */
};

/* Before the first verb.  0 or -ENOMEM. */
int engine_make_hostile(struct engine *e, const struct engine_hostility *how);

#endif
