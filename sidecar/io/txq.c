#include "sidecar/io/txq.h"

#include <assert.h>
#include <string.h>

static void release(struct txq *q, struct txmem mem)
{
	for (uint16_t i = q->first; i < q->n; i++)
		slice_drop(q->seg[i]);
	slab_put(mem.slab, q);
}

static struct txq *begin(struct txlist *l, struct txmem mem)
{
	struct txq *q = slab_get(mem.slab);
	if (q == NULL)
		return NULL;
	q->next = NULL;
	q->bytes = q->plain = 0;
	q->first = q->n = 0;
	q->sealed = q->pipe = false;
	if (l->tail != NULL)
		l->tail->next = q;
	else
		l->head = q;
	l->tail = q;
	return q;
}

/* The block to add to: unsealed, with a free segment. */
static struct txq *room(struct txlist *l, struct txmem mem)
{
	struct txq *q = l->tail;
	if (q != NULL && !q->sealed && !q->pipe && q->n < TXQ_SEGS)
		return q;
	return begin(l, mem);
}

static void drop_copy(struct txlist *l)
{
	buf_unref(l->copy);
	l->copy = NULL;
}

static void drop_head(struct txlist *l, struct txmem mem)
{
	struct txq *q = l->head;
	l->head = q->next;
	if (l->head == NULL) {
		l->tail = NULL;
		drop_copy(l);
	}
	release(q, mem);
}

static void add(struct txlist *l, struct txq *q, struct slice data)
{
	q->seg[q->n++] = data;
	q->bytes += data.n;
	l->bytes += data.n;
}

bool txlist_put(struct txlist *l, struct txmem mem, struct slice data)
{
	bool pipe = slice_is_pipe(data);
	struct txq *q = data.n == 0 ? NULL : pipe ? begin(l, mem) : room(l, mem);
	if (q == NULL) {
		slice_drop(data);
		return data.n == 0;
	}
	q->pipe = pipe;
	add(l, q, data);
	return true;
}

static uint32_t copy_room(const struct txlist *l)
{
	return l->copy != NULL ? buf_cap(l->copy) - l->copy->len : 0;
}

/* A new copy buffer: small is enough for heads and frames; the other class when there is none. */
static bool renew_copy(struct txlist *l, struct txmem mem, uint32_t n, bool contiguous)
{
	enum buf_class cls = n > BUF_SMALL_SIZE ? BUF_LARGE : BUF_SMALL;
	struct buf *b = buf_get(mem.bufs, cls);
	if (b == NULL && (cls == BUF_SMALL || !contiguous))
		b = buf_get(mem.bufs, cls == BUF_SMALL ? BUF_LARGE : BUF_SMALL);
	if (b == NULL)
		return false;
	buf_unref(l->copy);
	l->copy = b;
	return true;
}

/*
 * The next n bytes of the copy buffer have been filled: they belong to the block's last segment, or
 * a new one.
 */
static void add_copied(struct txlist *l, struct txq *q, uint32_t n)
{
	struct buf *b = l->copy;
	uint8_t *p = b->data + b->len;
	struct slice *last = q->n > q->first ? &q->seg[q->n - 1] : NULL;
	b->len += n;
	if (last != NULL && last->buf == b && last->p + last->n == p) {
		last->n += n;
		q->bytes += n;
		l->bytes += n;
	} else {
		add(l, q, (struct slice){ buf_ref(b), p, n });
	}
}

uint32_t txlist_copy(struct txlist *l, struct txmem mem, const void *p, uint32_t n)
{
	uint32_t done = 0;
	while (done < n) {
		struct txq *q = room(l, mem);
		if (q == NULL || (copy_room(l) == 0 && !renew_copy(l, mem, n - done, false)))
			break;
		uint32_t m = copy_room(l) < n - done ? copy_room(l) : n - done;
		memcpy(l->copy->data + l->copy->len, (const uint8_t *)p + done, m);
		add_copied(l, q, m);
		done += m;
	}
	if (l->bytes == 0)
		txlist_clear(l, mem);
	return done;
}

uint8_t *txlist_reserve(struct txlist *l, struct txmem mem, uint32_t n)
{
	assert(n > 0 && n <= BUF_LARGE_SIZE);
	struct txq *q = room(l, mem);
	if (q == NULL || (copy_room(l) < n && !renew_copy(l, mem, n, true))) {
		if (l->bytes == 0)
			txlist_clear(l, mem);
		return NULL;
	}
	return l->copy->data + l->copy->len;
}

void txlist_commit(struct txlist *l, struct txmem mem, uint32_t n)
{
	assert(n <= copy_room(l) && l->tail != NULL && !l->tail->sealed);
	if (n > 0)
		add_copied(l, l->tail, n);
	else if (l->bytes == 0)
		txlist_clear(l, mem);
}

struct txq *txlist_seal(struct txlist *l)
{
	struct txq *q = l->head;
	assert(q != NULL && !q->sealed && q->bytes > 0 && q->first == 0);
	q->sealed = true;
	for (uint16_t i = 0; i < q->n; i++) {
		q->iov[i].iov_base = (void *)(uintptr_t)q->seg[i].p;
		q->iov[i].iov_len = q->seg[i].n;
	}
	return q;
}

void txlist_pop(struct txlist *l, struct txmem mem)
{
	assert(l->head != NULL && l->head->sealed);
	l->bytes -= l->head->bytes;
	drop_head(l, mem);
	if (l->bytes == 0) /* a block may have been begun and got nothing */
		txlist_clear(l, mem);
}

void txlist_sent(struct txlist *l, uint32_t n)
{
	struct txq *q = l->head;
	assert(q != NULL && q->sealed && q->pipe && n < q->bytes);
	q->seg[0].n -= n;
	q->bytes -= n;
	l->bytes -= n;
}

uint32_t txlist_peek(const struct txlist *l, const uint8_t **ret_p)
{
	const struct txq *q = l->head;
	if (q == NULL || q->first == q->n)
		return 0;
	*ret_p = q->seg[q->first].p;
	return q->seg[q->first].n;
}

uint32_t txlist_gather(const struct txlist *l, uint8_t *out, uint32_t cap)
{
	uint32_t n = 0;
	for (const struct txq *q = l->head; q != NULL; q = q->next) {
		for (uint16_t i = q->first; i < q->n && n < cap; i++) {
			uint32_t m = q->seg[i].n < cap - n ? q->seg[i].n : cap - n;
			memcpy(out + n, q->seg[i].p, m);
			n += m;
		}
	}
	return n;
}

void txlist_eat(struct txlist *l, struct txmem mem, uint32_t n)
{
	assert(n <= l->bytes);
	l->bytes -= n;
	while (n > 0) {
		struct txq *q = l->head;
		struct slice *s = &q->seg[q->first];
		uint32_t m = s->n < n ? s->n : n;
		s->p += m;
		s->n -= m;
		q->bytes -= m;
		n -= m;
		if (s->n == 0) {
			slice_drop(*s);
			q->first++;
		}
		/*
		 * A used up block goes, also when it could still be added to: empty lists own
		 * nothing.
		 */
		if (q->first == q->n)
			drop_head(l, mem);
	}
}

void txlist_clear(struct txlist *l, struct txmem mem)
{
	while (l->head != NULL)
		drop_head(l, mem);
	drop_copy(l);
	l->bytes = 0;
}
