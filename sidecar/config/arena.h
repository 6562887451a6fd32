/*
 * sidecar/config/arena.h - memory that is given back all at once.
 *
 * Shape    struct arena: a list of chunks, the newest first.
 * Owns     every chunk; arena_fini() gives them back.
 * Errors   NULL when the limit is reached or malloc fails; `failed` remembers it.
 * Limits   `max` bytes asked for, so a hostile file cannot make the sidecar grow.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunk;
	uint64_t used;
	uint64_t max;
	bool failed;
};

void arena_init(struct arena *a, uint64_t max);
void arena_fini(struct arena *a);

/* `len` zero bytes, aligned for any type. */
void *arena_alloc(struct arena *a, size_t len);

/* A copy of len bytes with a NUL behind. */
char *arena_copy(struct arena *a, const char *text, size_t len);

char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
