#include "sidecar/base/buf.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sidecar/base/pipe.h"

static const size_t class_size[BUF_CLASSES] = { BUF_SMALL_SIZE, BUF_LARGE_SIZE };

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int class_init(struct buf_pool *pool, enum buf_class cls, uint32_t count)
{
	struct buf_class_state *c = &pool->cls[cls];

	assert(count >= 1 && count <= UINT16_MAX);
	c->all = map(count * sizeof(*c->all));
	c->memory = map(count * class_size[cls]);
	if (!c->all || !c->memory)
		return -ENOMEM;
	c->count = c->n_free = c->n_low = count;
	/* From the back, so that buffer 0 is the first to be used and the end may stay untouched. */
	for (uint32_t i = count; i-- > 0;) {
		struct buf *b = &c->all[i];

		b->data = c->memory + i * class_size[cls];
		b->pool = pool;
		b->id = (uint16_t)i;
		b->cls = (uint8_t)cls;
		b->next = c->free;
		c->free = b;
	}
	return 0;
}

static void class_unmap(struct buf_class_state *c, enum buf_class cls, uint32_t count)
{
	if (c->all)
		munmap(c->all, count * sizeof(*c->all));
	if (c->memory)
		munmap(c->memory, count * class_size[cls]);
}

int buf_pool_init(struct buf_pool *pool, uint32_t n_small, uint32_t n_large)
{
	int rc;

	memset(pool, 0, sizeof(*pool));
	rc = class_init(pool, BUF_SMALL, n_small);
	if (!rc)
		rc = class_init(pool, BUF_LARGE, n_large);
	if (rc) {
		class_unmap(&pool->cls[BUF_SMALL], BUF_SMALL, n_small);
		class_unmap(&pool->cls[BUF_LARGE], BUF_LARGE, n_large);
		memset(pool, 0, sizeof(*pool));
	}
	return rc;
}

void buf_pool_fini(struct buf_pool *pool)
{
	for (int i = 0; i < BUF_CLASSES; i++) {
		assert(pool->cls[i].n_free == pool->cls[i].count);
		class_unmap(&pool->cls[i], (enum buf_class)i, pool->cls[i].count);
	}
	memset(pool, 0, sizeof(*pool));
}

struct buf *buf_get(struct buf_pool *pool, enum buf_class cls)
{
	struct buf_class_state *c = &pool->cls[cls];
	struct buf             *b = c->free;

	if (!b)
		return NULL;
	assert(b->refs == 0);
	c->free = b->next;
	if (--c->n_free < c->n_low)
		c->n_low = c->n_free;
	b->next = NULL;
	b->refs = 1;
	b->len = 0;
	return b;
}

struct buf *buf_ref(struct buf *b)
{
	assert(b->refs > 0 && b->refs < UINT32_MAX);
	b->refs++;
	return b;
}

void buf_unref(struct buf *b)
{
	struct buf_class_state *c;

	if (!b)
		return;
	assert(b->refs > 0);
	if (--b->refs)
		return;
	if (b->cls == BUF_PIPE) {
		pipe_put(b);
		return;
	}
	c = &b->pool->cls[b->cls];
	b->next = c->free;
	c->free = b;
	c->n_free++;
}
