/*
 * sidecar/base/slab.h - a fixed number of equal objects.
 *
 * Shape     One anonymous mapping, sized at init, touched only as far as objects have ever been in use at
 *           the same time.  Last in, first out: the next object is the one still in the cache.
 * Owns      The mapping.  slab_get() lends an object, slab_put() takes it back.
 * Contents  What slab_get() returns is not cleared: initialise it (OBJ_INIT).
 * Empty     slab_get() returns NULL; that is an answer (503), not an error.
 * Bugs      Giving back twice, or something that is not from here, asserts.
 * Threads   none: one per worker.
 */
#ifndef RHC_SIDECAR_BASE_SLAB_H
#define RHC_SIDECAR_BASE_SLAB_H

#include <stddef.h>
#include <stdint.h>

enum { SLAB_ALIGN = 64 }; /* objects start on cache lines */

struct slab {
	uint32_t    magic;
	uint32_t    count; /* objects in all */
	uint32_t    in_use; /* lent now */
	uint32_t    high; /* most ever lent at the same time */
	uint32_t    touched; /* objects [0, touched) have been lent at least once */
	uint32_t    free_first; /* index of the first free touched object, UINT32_MAX: none */
	uint32_t    size; /* bytes from one object to the next */
	uint64_t    refused; /* how often slab_get() said NULL */
	const char *name; /* for metrics */
	uint8_t    *memory;
	size_t      mapped; /* bytes */
	uint32_t   *next; /* per object: the next free one, or SLAB_LENT */
};

/* 0 or -ENOMEM, -EINVAL (no objects, or size 0).  The name is kept, not copied. */
int  slab_init(struct slab *s, const char *name, size_t object_size, uint32_t count);
void slab_fini(struct slab *s); /* asserts that every object is back */

void *slab_get(struct slab *s);
void  slab_put(struct slab *s, void *object); /* NULL is fine */

/* 0..count-1, the same for the same object: for tables beside the slab. */
uint32_t slab_index(const struct slab *s, const void *object);

#endif
