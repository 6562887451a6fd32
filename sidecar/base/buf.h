/*
 * sidecar/base/buf.h - reference-counted byte buffers of one worker.
 *
 * Shape     A pool has two classes of equal buffers: BUF_SMALL (4 KiB: heads, frames) and BUF_LARGE
 *           (16 KiB: bodies, TLS).  struct buf is the descriptor, its bytes lie elsewhere.
 * Owns      The pool owns all memory, mapped once at init; nothing is allocated afterwards.
 * Life      A buffer is free, or has refs >= 1.  Whoever holds a reference may read; only the one that
 *           received it may write, and only while refs == 1.  buf_unref() of the last one gives it back:
 *           to the front of the class's free list (last in, first out: it is still in the cache).
 * Slices    struct slice is a value: some bytes and, when ->buf is set, one reference to what holds them.
 *           Passing a slice to a function that "takes" it moves the reference.
 * Empty     buf_get() returns NULL when the class is empty; that is an answer, not an error.  Nobody is told
 *           when one comes back: whoever waits is looked for by those who give (stream_refilled()).
 * Threads   none: one pool per worker.
 */
#ifndef RHC_SIDECAR_BASE_BUF_H
#define RHC_SIDECAR_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* BUF_PIPE is no class of a pool: its bytes are in a pipe, where we do not see them (sidecar/base/pipe.h). */
enum buf_class { BUF_SMALL, BUF_LARGE, BUF_CLASSES, BUF_PIPE = BUF_CLASSES };
enum { BUF_SMALL_SIZE = 4096, BUF_LARGE_SIZE = 16384 };

struct buf_pool;
struct pipe_pool;

struct buf {
	uint8_t         *data;
	struct buf_pool *pool;
	struct buf      *next; /* while free */
	uint32_t         refs;
	uint32_t         len; /* filled part, for whoever fills it step by step */
	uint16_t         id; /* index in its class: the provided-buffer id */
	uint8_t          cls; /* enum buf_class */
};

struct slice {
	struct buf    *buf; /* NULL: static memory, or bytes whose owner is known otherwise */
	const uint8_t *p;
	uint32_t       n;
};

struct buf_class_state {
	struct buf *all; /* count descriptors */
	uint8_t    *memory;
	struct buf *free;
	uint32_t    count;
	uint32_t    n_free; /* on the free list */
	uint32_t    n_low; /* smallest n_free ever: how close to the edge we came */
};

struct buf_pool {
	struct buf_class_state cls[BUF_CLASSES];
	struct pipe_pool *pipes; /* the worker's; NULL: none */
};

/* 0 or -ENOMEM.  Counts are per class, 1..65535. */
int  buf_pool_init(struct buf_pool *pool, uint32_t n_small, uint32_t n_large);
void buf_pool_fini(struct buf_pool *pool); /* asserts that every buffer is back */

struct buf *buf_get(struct buf_pool *pool, enum buf_class cls); /* refs = 1, len = 0; NULL when empty */
struct buf *buf_ref(struct buf *b);
void        buf_unref(struct buf *b); /* NULL is fine */

static inline uint32_t buf_cap(const struct buf *b)
{
	return b->cls == BUF_SMALL ? BUF_SMALL_SIZE : BUF_LARGE_SIZE;
}

/* Bytes that cannot be looked at, split or copied. */
static inline bool slice_is_pipe(struct slice s)
{
	return s.buf && s.buf->cls == BUF_PIPE;
}

static inline void slice_drop(struct slice s)
{
	buf_unref(s.buf);
}

#endif
