/*
 * proto/h2_mem.c - free lists by size behind nghttp2's allocator.
 */
#include "proto/h2_mem.h"

#include <assert.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/* In front of what the caller gets; keeps its alignment. */
struct h2_mem_block {
	alignas(max_align_t) struct h2_mem_block *next; /* while free */
	uint32_t size; /* usable bytes */
	uint32_t cls; /* H2_MEM_CLASSES: from malloc and back to it */
};

static uint32_t class_of(size_t n)
{
	uint32_t bits;

	if (n <= H2_MEM_SMALLEST)
		return 0;
	bits = 64 - (uint32_t)__builtin_clzll((n - 1) / H2_MEM_SMALLEST);
	return bits < H2_MEM_CLASSES ? bits : H2_MEM_CLASSES;
}

void h2_mem_init(struct h2_mem *m)
{
	*m = (struct h2_mem){ .live = 0 };
}

void h2_mem_trim(struct h2_mem *m)
{
	for (uint32_t cls = 0; cls < H2_MEM_CLASSES; cls++) {
		while (m->free[cls]) {
			struct h2_mem_block *b = m->free[cls];

			m->free[cls] = b->next;
			m->kept -= b->size;
			free(b);
		}
	}
}

void h2_mem_fini(struct h2_mem *m)
{
	assert(m->live == 0);
	h2_mem_trim(m);
	assert(m->kept == 0);
}

static struct h2_mem_block *block_new(struct h2_mem *m, uint32_t cls, size_t n)
{
	size_t               size = cls < H2_MEM_CLASSES ? (size_t)H2_MEM_SMALLEST << cls : n;
	struct h2_mem_block *b;

	assert(size <= UINT32_MAX - sizeof(*b));
	b = malloc(sizeof(*b) + size);
	if (!b)
		abort(); /* see the header: an error could not be survived */
	m->mallocs++;
	b->size = (uint32_t)size;
	b->cls = cls;
	return b;
}

void *h2_mem_alloc(struct h2_mem *m, size_t n)
{
	uint32_t             cls = class_of(n);
	struct h2_mem_block *b = cls < H2_MEM_CLASSES ? m->free[cls] : NULL;

	if (b) {
		m->free[cls] = b->next;
		m->kept -= b->size;
	} else {
		b = block_new(m, cls, n);
	}
	b->next = NULL;
	m->live += b->size;
	return b + 1;
}

void *h2_mem_zalloc(struct h2_mem *m, size_t count, size_t size)
{
	size_t n;
	void  *p;

	if (__builtin_mul_overflow(count, size, &n))
		abort();
	p = h2_mem_alloc(m, n);
	memset(p, 0, n);
	return p;
}

void h2_mem_free(struct h2_mem *m, void *p)
{
	struct h2_mem_block *b;

	if (!p)
		return;
	b = (struct h2_mem_block *)p - 1;
	assert(m->live >= b->size);
	m->live -= b->size;
	if (b->cls == H2_MEM_CLASSES || m->kept + b->size > H2_MEM_KEEP) {
		free(b);
		return;
	}
	b->next = m->free[b->cls];
	m->free[b->cls] = b;
	m->kept += b->size;
}

void *h2_mem_resize(struct h2_mem *m, void *p, size_t n)
{
	struct h2_mem_block *b;
	void                *q;

	if (!p)
		return h2_mem_alloc(m, n);
	b = (struct h2_mem_block *)p - 1;
	if (n <= b->size)
		return p;
	q = h2_mem_alloc(m, n);
	memcpy(q, p, b->size);
	h2_mem_free(m, p);
	return q;
}
