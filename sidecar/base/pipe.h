/*
 * sidecar/base/pipe.h - pipes that carry body bytes from socket to socket without showing them to us.
 *
 * Shape     A pipe is a struct buf of class BUF_PIPE: reference-counted like every buffer, ->len bytes are in it, and
 *           ->data must not be looked at.  Who knows only slices can pass it on, count it and drop it.
 * Owns      The pool owns the descriptors, two per pipe, opened when first needed and kept.
 * Life      pipe_get() gives an empty pipe, buf_unref() of the last reference gives it back.  One that is not empty then
 *           is closed, so bytes of one call can never be read by another.
 * Bounds    count pipes; PIPE_BYTES in each, which the kernel holds for us: PIPE_MAX of them are 16 MiB per worker and
 *           2 * PIPE_MAX descriptors.
 * Errors    pipe_get(): NULL when all are in use, when no descriptor is to be had, or when the kernel grants too few
 *           pages (fs.pipe-user-pages-soft); then it is not asked again for a while.  An answer, not an error.
 * Threads   none: one pool per worker.
 */
#ifndef RHC_SIDECAR_BASE_PIPE_H
#define RHC_SIDECAR_BASE_PIPE_H

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/base/buf.h"

enum {
	PIPE_MAX = 64, /* per worker */
	PIPE_BYTES = 256 * 1024, /* in one of them, and its size as asked for */
	PIPE_BYTES_MIN = 65536, /* a pipe that is granted less costs more than copying */
	PIPE_REFUSED_SKIP = 1024, /* calls of pipe_get() after a refusal that do not ask the kernel */
};

struct pipe {
	struct buf        buf; /* ->len: how many bytes are in it */
	struct pipe_pool *pool;
	struct pipe      *next; /* while free */
	int               rd, wr; /* -1: not open */
};

struct pipe_pool {
	struct pipe *all, *free;
	uint32_t     count, n_free, n_open;
	uint32_t     skip; /* calls that are refused without asking */
};

/* 0 or -ENOMEM.  Opens nothing. */
int  pipe_pool_init(struct pipe_pool *pool, uint32_t count);
void pipe_pool_fini(struct pipe_pool *pool); /* asserts that every pipe is back */

struct buf *pipe_get(struct pipe_pool *pool); /* refs = 1, len = 0, open; the pool may be NULL */
/* The kernel does not do what pipes are for: no pipe for a while. */
void pipe_refuse(struct pipe_pool *pool);
/* For buf_unref() alone. */
void pipe_put(struct buf *b);

static inline struct pipe *pipe_of(struct buf *b)
{
	return (struct pipe *)b; /* its first member */
}

#endif
