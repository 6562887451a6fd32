#include "sidecar/exchange/body.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void body_init(struct body *b, uint32_t max_replay)
{
	/* The slices are written before they are read; a call without a body touches one cache line here. */
	b->count = 0;
	b->next = 0;
	b->next_off = 0;
	b->replay = true;
	b->complete = false;
	b->bytes = 0;
	b->kept = 0;
	b->max_replay = max_replay;
}

static void drop_first(struct body *b, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		b->kept -= b->slices[i].n;
		slice_drop(b->slices[i]);
	}
	memmove(b->slices, b->slices + n, (size_t)(b->count - n) * sizeof(b->slices[0]));
	b->count -= n;
}

void body_fini(struct body *b)
{
	drop_first(b, b->count);
	b->next = 0;
	b->next_off = 0;
}

void body_no_replay(struct body *b)
{
	if (!b->replay)
		return;
	b->replay = false;
	drop_first(b, b->next);
	b->next = 0;
}

/*
 * Room behind the last slice, if that is a buffer which we filled ourselves and nobody else holds.  A slice that was given to
 * an attempt is held by its send queue too (refs > 1) or has been sent; appending behind it is safe in
 * both cases only if next_off then says which part of it is new, so it is not done while refs > 1.
 */
static struct slice *copy_tail(struct body *b, uint32_t n)
{
	struct slice *t;

	if (b->count == 0)
		return NULL;
	t = &b->slices[b->count - 1];
	if (!t->buf || t->buf->refs != 1 || t->p != t->buf->data || t->n != t->buf->len)
		return NULL;
	if (t->buf->len == 0 || buf_cap(t->buf) - t->n < n)
		return NULL;
	return t;
}

static void append_copy(struct body *b, struct slice *t, struct slice s)
{
	if (b->next == b->count) {
		b->next = b->count - 1;
		b->next_off = t->n;
	}
	memcpy(t->buf->data + t->n, s.p, s.n);
	t->n += s.n;
	t->buf->len = t->n;
	slice_drop(s);
}

static int append_slot(struct body *b, struct buf_pool *pool, struct slice s)
{
	struct buf *copy;

	if (b->count == BODY_SLICES)
		return -ENOBUFS;
	if (s.n < BODY_COPY_BELOW && (copy = buf_get(pool, BUF_LARGE))) {
		memcpy(copy->data, s.p, s.n);
		copy->len = s.n;
		slice_drop(s);
		s = (struct slice){ copy, copy->data, s.n };
	}
	b->slices[b->count++] = s;
	return 0;
}

int body_append(struct body *b, struct buf_pool *pool, struct slice s)
{
	struct slice *t;
	uint32_t n = s.n;
	int rc;

	assert(!b->complete && n > 0);
	b->bytes += n;
	if (b->replay && b->bytes > b->max_replay)
		body_no_replay(b);
	t = n < BODY_COPY_BELOW || b->count == BODY_SLICES ? copy_tail(b, n) : NULL;
	if (t) {
		append_copy(b, t, s);
		rc = 0;
	} else {
		rc = append_slot(b, pool, s);
	}
	if (rc == 0)
		b->kept += n;
	else
		slice_drop(s);
	return rc;
}

bool body_next(struct body *b, struct slice *ret)
{
	struct slice s;

	if (b->next == b->count)
		return false;
	s = b->slices[b->next];
	s.p += b->next_off;
	s.n -= b->next_off;
	b->next_off = 0;
	if (b->replay) {
		buf_ref(s.buf);
		b->next++;
	} else {
		/* The reference moves to the attempt; nothing stays. */
		b->kept -= b->slices[0].n;
		memmove(b->slices, b->slices + 1, (size_t)(b->count - 1) * sizeof(b->slices[0]));
		b->count--;
	}
	*ret = s;
	return true;
}

void body_rewind(struct body *b)
{
	assert(b->replay);
	b->next = 0;
	b->next_off = 0;
}
