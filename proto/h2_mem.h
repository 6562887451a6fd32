/*
 * proto/h2_mem.h - the allocator of one HTTP/2 session: free lists by size, so that its steady
 * state does not malloc.
 *
 * Shape    Blocks of 64 to 8192 bytes in powers of two, each behind a header that tells its class.
 *          Larger ones, the few a session makes at its birth, come from malloc and go back to it.
 * Memory   Freed blocks are kept up to H2_MEM_KEEP bytes in all, then go back to malloc.
 * Limits   none here: ->live is looked at by h2.c before it takes more work, never in the middle of
 *          it.
 * Errors   none: when malloc fails the process ends.  nghttp2 (1.52) frees some items twice after a
 *          failed allocation, and a worker that dies gives back what it held.
 * Never    is shared by threads.
 */
#ifndef RHC_PROTO_H2_MEM_H
#define RHC_PROTO_H2_MEM_H

#include <stddef.h>
#include <stdint.h>

enum {
	H2_MEM_CLASSES = 8, /* 64 << 0 .. 64 << 7 */
	H2_MEM_SMALLEST = 64,
	H2_MEM_KEEP = 64 * 1024,
};

struct h2_mem_block;

struct h2_mem {
	struct h2_mem_block *free[H2_MEM_CLASSES];
	size_t               kept; /* bytes on the free lists */
	size_t               live; /* bytes lent */
	uint64_t             mallocs; /* how often malloc was asked, for tests and metrics */
};

void h2_mem_init(struct h2_mem *m);
void h2_mem_fini(struct h2_mem *m); /* asserts that everything is back */
void h2_mem_trim(struct h2_mem *m); /* give back what is kept */

void *h2_mem_alloc(struct h2_mem *m, size_t n);
void *h2_mem_zalloc(struct h2_mem *m, size_t count, size_t size);
void *h2_mem_resize(struct h2_mem *m, void *p, size_t n);
void  h2_mem_free(struct h2_mem *m, void *p); /* NULL is fine */

#endif
