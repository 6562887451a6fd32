/*
 * sidecar/http/h2_out.c - queued slices of a message, and the order of what lies in the byte
 * stream.
 *
 * Slices wait as they came until there are many; then they are copied together, so that a body
 * given byte by byte takes no more buffers than its window needs.
 */
#include <assert.h>
#include <string.h>

#include "sidecar/http/h2_private.h"

_Static_assert((H2_SLICES & (H2_SLICES - 1)) == 0, "a power of two");
_Static_assert((H2_MARKS & (H2_MARKS - 1)) == 0, "a power of two");
_Static_assert(H2_SLICES_LOOSE + H2_CONN_WINDOW_MAX / BUF_LARGE_SIZE + 1 <= H2_SLICES,
               "a window fits, however it is cut");

/* --- slices --- */

static struct slice *slice_at(struct h2_slices *q, uint32_t i)
{
	return &q->s[(q->first + i) & (H2_SLICES - 1)];
}

static void push(struct h2_slices *q, struct slice s)
{
	*slice_at(q, q->n++) = s;
}

/* Copies of data behind the gathered bytes, in as many buffers as it takes.  Drops data. */
static bool gather(struct h2_slices *q, struct buf_pool *bufs, struct slice data)
{
	struct slice rest = data;

	while (rest.n > 0) {
		struct buf *b = q->gather;
		uint32_t    k;

		if (!b || b->len == buf_cap(b)) {
			b = q->n < H2_SLICES ? buf_get(bufs, BUF_LARGE) : NULL;
			if (!b)
				break;
			q->gather = b;
			push(q, (struct slice){ b, b->data, 0 });
		}
		k = buf_cap(b) - b->len;
		k = rest.n < k ? rest.n : k;
		memcpy(b->data + b->len, rest.p, k);
		b->len += k;
		slice_at(q, q->n - 1u)->n += k;
		rest.p += k;
		rest.n -= k;
	}
	slice_drop(data);
	return rest.n == 0;
}

bool h2_slices_put(struct h2_slices *q, struct buf_pool *bufs, struct slice data)
{
	struct slice *last = q->n > 0 ? slice_at(q, q->n - 1u) : NULL;

	/* pieces of one buffer, as a chunked body leaves them: one slice again */
	if (last && data.buf && last->buf == data.buf && last->p + last->n == data.p &&
	    !q->gather) {
		last->n += data.n;
		slice_drop(data);
		return true;
	}
	if (q->n < H2_SLICES_LOOSE && data.buf) {
		q->gather = NULL;
		push(q, data);
		return true;
	}
	return gather(q, bufs, data);
}

struct slice h2_slices_take(struct h2_slices *q, uint32_t n_max)
{
	struct slice *s = slice_at(q, 0), part;

	assert(q->n > 0 && n_max > 0);
	if (s->n > n_max) {
		part = (struct slice){ buf_ref(s->buf), s->p, n_max };
		s->p += n_max;
		s->n -= n_max;
		return part;
	}
	part = *s;
	if (q->gather == part.buf)
		q->gather = NULL;
	q->first = (uint8_t)((q->first + 1) & (H2_SLICES - 1));
	q->n--;
	return part;
}

uint32_t h2_slices_drop(struct h2_slices *q)
{
	uint32_t n = 0;

	while (q->n > 0) {
		struct slice s = h2_slices_take(q, UINT32_MAX);

		n += s.n;
		slice_drop(s);
	}
	return n;
}

/* --- marks --- */

static struct h2_mark *mark_at(struct h2_marks *q, uint32_t i)
{
	return &q->q[(q->first + i) & (H2_MARKS - 1)];
}

static struct h2_mark *mark_new(struct h2_marks *q, struct h2_msg *m)
{
	struct h2_mark *k = mark_at(q, q->n);

	assert(q->n < H2_MARKS);
	q->n++;
	*k = (struct h2_mark){ .m = m, .lead = q->tail };
	q->tail = 0;
	m->marks++;
	return k;
}

bool h2_marks_room(const struct h2_marks *q, bool data)
{
	return q->n + (data ? H2_MARKS_SPARE : 1) <= H2_MARKS;
}

void h2_marks_frame(struct h2_marks *q, uint32_t n)
{
	q->tail += n;
	q->lead += n;
}

void h2_marks_body(struct h2_marks *q, struct h2_msg *m, uint32_t n)
{
	mark_new(q, m)->body = n;
}

void h2_marks_end(struct h2_marks *q, struct h2_msg *m)
{
	struct h2_mark *last = q->n > 0 && q->tail == 0 ? mark_at(q, q->n - 1) : NULL;

	if (!last || last->m != m)
		last = mark_new(q, m);
	last->end = true;
}

void h2_marks_forget(struct h2_marks *q, struct h2_msg *m)
{
	for (uint32_t i = 0; i < q->n && m->marks > 0; i++) {
		struct h2_mark *k = mark_at(q, i);

		if (k->m == m) {
			k->m = NULL;
			m->lost += k->body;
			m->marks--;
		}
	}
	assert(m->marks == 0);
}

static uint32_t eat(uint32_t *from, uint32_t n)
{
	uint32_t k = *from < n ? *from : n;

	*from -= k;
	return k;
}

bool h2_marks_sent(struct h2_marks *q, uint32_t *n, struct h2_sent *ret)
{
	struct h2_mark *k = mark_at(q, 0);
	uint32_t        lead;

	if (q->n == 0) {
		lead = eat(&q->tail, *n);
		q->lead -= lead;
		*n -= lead;
		return false;
	}
	lead = eat(&k->lead, *n);
	q->lead -= lead;
	*n -= lead;
	if (k->lead > 0)
		return false;
	*ret = (struct h2_sent){ .m = k->m, .body = eat(&k->body, *n) };
	*n -= ret->body;
	if (k->body > 0)
		return ret->body > 0;
	ret->end = k->end;
	if (k->m)
		k->m->marks--;
	q->first = (q->first + 1) & (H2_MARKS - 1);
	q->n--;
	return true;
}
