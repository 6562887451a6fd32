#include "sidecar/exchange/body.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void body_init(struct body *b, uint32_t max_replay)
{
	/* The slices are written before they are read; a call without a body touches one cache line here. */
	b->slices = b->own;
	b->cap = BODY_SLICES;
	b->count = 0;
	b->next = 0;
	b->next_off = 0;
	b->tail_own = false;
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
	if (b->slices != b->own)
		free(b->slices);
	b->slices = b->own;
	b->cap = BODY_SLICES;
}

void body_no_replay(struct body *b)
{
	if (!b->replay)
		return;
	b->replay = false;
	drop_first(b, b->next);
	b->next = 0;
}

/* The last slice, if it is a copy of ours with room for n bytes. */
static struct slice *copy_tail(struct body *b, uint32_t n)
{
	struct slice *t;

	if (b->count == 0 || !b->tail_own)
		return NULL;
	t = &b->slices[b->count - 1];
	return buf_cap(t->buf) - t->buf->len >= n ? t : NULL;
}

static void append_copy(struct body *b, struct slice *t, struct slice s)
{
	if (b->next == b->count) { /* all of it was sent, so from here on it is new */
		b->next = b->count - 1;
		b->next_off = t->n;
	}
	memcpy(t->buf->data + t->buf->len, s.p, s.n);
	t->n += s.n;
	t->buf->len += s.n;
	slice_drop(s);
}

static bool grow(struct body *b)
{
	uint16_t cap = b->cap < BODY_SLICES_MAX / 2 ? b->cap * 2 : BODY_SLICES_MAX;
	struct slice *more = cap > b->cap ? malloc(cap * sizeof(*more)) : NULL;

	if (!more)
		return false;
	memcpy(more, b->slices, b->count * sizeof(*more));
	if (b->slices != b->own)
		free(b->slices);
	b->slices = more;
	b->cap = cap;
	return true;
}

/* Every place is taken: by bytes that wait, and those are few, or by a replay. */
static bool make_room(struct body *b)
{
	if (b->replay && grow(b))
		return true;
	body_no_replay(b);
	return b->count < b->cap;
}

static int append_slot(struct body *b, struct buf_pool *pool, struct slice s, bool copies)
{
	struct buf *copy;

	if (b->count == b->cap && !make_room(b))
		return -ENOBUFS;
	b->tail_own = false;
	if (copies && s.n <= BUF_LARGE_SIZE && (copy = buf_get(pool, BUF_LARGE))) {
		memcpy(copy->data, s.p, s.n);
		copy->len = s.n;
		slice_drop(s);
		s = (struct slice){ copy, copy->data, s.n };
		b->tail_own = true;
	}
	b->slices[b->count++] = s;
	return 0;
}

int body_append(struct body *b, struct buf_pool *pool, struct slice s)
{
	uint32_t n = s.n;
	bool copies = n < BODY_COPY_BELOW || b->count >= BODY_SLICES / 2;
	struct slice *t;
	int rc = 0;

	assert(!b->complete && n > 0);
	b->bytes += n;
	if (b->replay && b->bytes > b->max_replay)
		body_no_replay(b);
	t = copies ? copy_tail(b, n) : NULL;
	if (t)
		append_copy(b, t, s);
	else
		rc = append_slot(b, pool, s, copies);
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
