#include "sidecar/config/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE 16384

struct arena_chunk {
	struct arena_chunk *next;
	size_t used;
	size_t size;
	alignas(max_align_t) unsigned char byte[];
};

void arena_init(struct arena *a, uint64_t max)
{
	*a = (struct arena){ .max = max };
}

void arena_fini(struct arena *a)
{
	struct arena_chunk *next;

	for (struct arena_chunk *c = a->chunk; c; c = next) {
		next = c->next;
		free(c);
	}
	a->chunk = NULL;
}

static bool grow(struct arena *a, size_t len)
{
	size_t size = len > CHUNK_SIZE ? len : CHUNK_SIZE;
	struct arena_chunk *c = calloc(1, sizeof(*c) + size);

	if (!c)
		return false;
	c->size = size;
	c->next = a->chunk;
	a->chunk = c;
	return true;
}

void *arena_alloc(struct arena *a, size_t len)
{
	const size_t align = alignof(max_align_t);
	struct arena_chunk *c = a->chunk;
	void *p;

	if (a->failed || len > a->max - a->used)
		goto fail;
	a->used += len;
	len = (len + align - 1) / align * align;
	if (!c || c->size - c->used < len) {
		if (!grow(a, len))
			goto fail;
		c = a->chunk;
	}
	p = c->byte + c->used;
	c->used += len;
	return p;
fail:
	/* Sticky: a caller may check once behind several allocations. */
	a->failed = true;
	return NULL;
}

char *arena_copy(struct arena *a, const char *text, size_t len)
{
	char *copy = arena_alloc(a, len + 1);

	if (copy && len)
		memcpy(copy, text, len);
	return copy;
}

char *arena_printf(struct arena *a, const char *format, ...)
{
	va_list ap;
	char *text = NULL;
	int len;

	va_start(ap, format);
	len = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (len >= 0)
		text = arena_alloc(a, (size_t)len + 1);
	if (text) {
		va_start(ap, format);
		vsnprintf(text, (size_t)len + 1, format, ap);
		va_end(ap);
	}
	return text;
}
