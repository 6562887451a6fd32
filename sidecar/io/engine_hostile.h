/*
 * sidecar/io/engine_hostile.h - an engine that does everything it may do to those above it.
 *
 * Shape   Switched on for one engine, of either backend; then receives come in pieces of some bytes, completions
 *         are late by some turns and in another order, and connections break.  All of it is allowed by engine.h, so
 *         whoever fails here would fail one day.
 * For     tests only.  Off, it costs one predicted branch per completion.
 */
#ifndef RHC_SIDECAR_IO_ENGINE_HOSTILE_H
#define RHC_SIDECAR_IO_ENGINE_HOSTILE_H

#include <stdint.h>

struct engine;

/* How often, in 1000: 0 never, 1000 always. */
struct engine_hostility {
	uint64_t seed; /* the same seed, the same hostility */
	uint32_t split; /* receives that bring 1..split_max bytes, the rest later */
	uint32_t split_max; /* 0: 7 */
	uint32_t delay; /* completions that come 1..delay_max turns later */
	uint32_t delay_max; /* 0: 8 */
	uint32_t error; /* receives, sends and connects that fail, and their connection with them */
};

/* Before the first verb.  0 or -ENOMEM. */
int engine_make_hostile(struct engine *e, const struct engine_hostility *how);

#endif
