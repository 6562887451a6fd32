/*
 * sidecar/http/h1_store.c - memory for heads that do not lie within one receive buffer.
 *
 * The bytes are in a small buffer first, then in a large one, then in memory of limits->head_max
 * bytes; each step copies what is there, so a head is copied three times at most.
 */
#include <stdlib.h>
#include <string.h>

#include "sidecar/http/h1_private.h"

struct http_head_store *h1_store_get(struct http_conn *c)
{
	struct http_head_store *s = slab_get(c->env->head_slab);

	if (s == NULL)
		return NULL;
	s->head.fields = s->fields;
	s->head.fields_max = HTTP_FIELDS_MAX;
	s->buf = NULL;
	s->big = NULL;
	s->used = 0;
	return s;
}

void h1_store_clear(struct http_head_store *s)
{
	buf_unref(s->buf);
	free(s->big);
	s->buf = NULL;
	s->big = NULL;
	s->used = 0;
}

void h1_store_put(struct http_conn *c, struct http_head_store **store)
{
	if (*store == NULL)
		return;
	h1_store_clear(*store);
	slab_put(c->env->head_slab, *store);
	*store = NULL;
}

const uint8_t *h1_store_bytes(const struct http_head_store *s)
{
	if (s->big != NULL)
		return (const uint8_t *)s->big;
	return s->buf != NULL ? s->buf->data : NULL;
}

/* Room for need bytes, with what is there moved into it. */
static bool grow(struct http_conn *c, struct http_head_store *s, uint32_t need)
{
	struct buf *b;

	if (need > BUF_LARGE_SIZE) {
		s->big = malloc(c->limits->head_max);
		if (s->big == NULL)
			return false;
		if (s->used > 0)
			memcpy(s->big, s->buf->data, s->used);
		buf_unref(s->buf);
		s->buf = NULL;
		return true;
	}
	b = buf_get(c->env->stream.bufs, need > BUF_SMALL_SIZE ? BUF_LARGE : BUF_SMALL);
	if (b == NULL)
		return false;
	if (s->used > 0)
		memcpy(b->data, s->buf->data, s->used);
	buf_unref(s->buf);
	s->buf = b;
	return true;
}

bool h1_store_append(struct http_conn *c, struct http_head_store *s, const uint8_t *p, uint32_t n)
{
	uint32_t need = s->used + n;
	uint32_t cap = s->big != NULL ? c->limits->head_max : s->buf != NULL ? buf_cap(s->buf) : 0;

	assert(need <= c->limits->head_max);
	if (need > cap && !grow(c, s, need))
		return false;
	if (s->big != NULL)
		memcpy(s->big + s->used, p, n);
	else
		memcpy(s->buf->data + s->used, p, n);
	s->used = need;
	return true;
}
