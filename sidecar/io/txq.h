/*
 * sidecar/io/txq.h - bytes waiting to be sent: segments in blocks of one send each.
 *
 * Shape    struct txlist is a queue of struct txq; a block is what one send carries, at most
 *          TXQ_SEGS segments.  The head may be sealed: it is in flight and is not touched until
 *          txlist_pop().  What is queued meanwhile fills the next block.
 * Owns     The blocks (of a slab), one reference per segment, and a buffer into which small things
 *          are copied one after the other.  An empty list owns nothing.
 * Copies   Segments share the copy buffer.  Bytes are only added behind its ->len, which nobody was
 *          shown yet.
 * Pipes    A slice that is a pipe has a block of its own: it is sent by splice(2), piece by piece.
 * Errors   No block or no buffer to be had: false, NULL or a short count, and nothing changed
 *          beyond it.
 */
#ifndef RHC_SIDECAR_IO_TXQ_H
#define RHC_SIDECAR_IO_TXQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sidecar/base/buf.h"
#include "sidecar/base/slab.h"

enum { TXQ_SEGS = 64 };

struct txq {
	struct txq  *next;
	uint32_t     bytes; /* in seg[first..n) */
	uint32_t     plain; /* ciphertext: bytes of plaintext that are sent with this block */
	uint16_t     first, n;
	bool         sealed;
	bool         pipe; /* its one segment is a pipe */
	struct slice seg[TXQ_SEGS];
	struct iovec iov[TXQ_SEGS];
};

/* Zeroed: empty. */
struct txlist {
	struct txq *head, *tail;
	struct buf *copy;
	uint32_t    bytes;
};

struct txmem {
	struct slab     *slab; /* of struct txq */
	struct buf_pool *bufs;
};

/* Takes the slice, also when it answers false. */
bool txlist_put(struct txlist *l, struct txmem mem, struct slice data);
/* Returns how many of n were copied. */
uint32_t txlist_copy(struct txlist *l, struct txmem mem, const void *p, uint32_t n);
/*
 * Room for n contiguous bytes, 0 < n <= BUF_LARGE_SIZE; txlist_commit() has to follow.  NULL: none.
 */
uint8_t *txlist_reserve(struct txlist *l, struct txmem mem, uint32_t n);
void     txlist_commit(struct txlist *l, struct txmem mem, uint32_t n);

/* Seal the head and return it, its iov[0..n) filled.  The list is not empty and not sealed. */
struct txq *txlist_seal(struct txlist *l);
/* The sealed head has been sent. */
void txlist_pop(struct txlist *l, struct txmem mem);

/* Some bytes of the pipe in the sealed head have been sent, not all. */
void txlist_sent(struct txlist *l, uint32_t n);

/*
 * Nothing sealed: up to cap bytes from the front without taking them; contiguous bytes are at
 * *ret_p.
 */
uint32_t txlist_peek(const struct txlist *l, const uint8_t **ret_p);
uint32_t txlist_gather(const struct txlist *l, uint8_t *out, uint32_t cap);
void     txlist_eat(struct txlist *l, struct txmem mem, uint32_t n);

/* Drop everything; no send may be in flight. */
void txlist_clear(struct txlist *l, struct txmem mem);

#endif
