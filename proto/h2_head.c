/*
 * proto/h2_head.c - a received header block becomes a struct http_head.
 *
 * nghttp2 has checked the order and number of pseudo fields, the letters of names,
 * connection-specific fields, TE, and the digits of Content-Length before a field arrives here (RFC
 * 9113 §8.2, §8.3).  What it lets pass and a translation to HTTP/1.1 could not bear is refused
 * here.
 */
#include <assert.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/h1.h"
#include "proto/h2_private.h"

/* A string of known length, compared without a call. */
#define IS(s, literal)                                                                             \
	((s).n == sizeof(literal) - 1 && memcmp((s).p, literal, sizeof(literal) - 1) == 0)

/* --- memory --- */

static const char *relocated(const char *p, const char *from, uint32_t used, const char *to)
{
	/* compared as numbers: p may point to static strings */
	uintptr_t at = (uintptr_t)p, base = (uintptr_t)from;

	return at >= base && at < base + used ? to + (at - base) : p;
}

/* The caller moved the strings: everything that points to them follows. */
static void relocate(struct h2 *h, const char *from, uint32_t used)
{
	struct http_head *d = h->in.mem.head;
	const char       *to = h->in.mem.p;
	struct http_str  *strs[] = { &d->method_text, &d->scheme, &d->authority,
		                     &d->path,        &d->reason, &h->in.host_value };

	for (size_t i = 0; i < sizeof(strs) / sizeof(strs[0]); i++)
		strs[i]->p = relocated(strs[i]->p, from, used, to);
	for (uint32_t i = 0; i < d->n_fields; i++) {
		d->fields[i].name = relocated(d->fields[i].name, from, used, to);
		d->fields[i].value = relocated(d->fields[i].value, from, used, to);
	}
}

/* n bytes of the head's memory, or NULL and h->in says why. */
static char *take(struct h2 *h, uint32_t n)
{
	struct h2_memory *mem = &h->in.mem;
	const char       *from = mem->p;
	char             *p;

	if (n > h->conf.head_max - mem->used) {
		h->in.error = HTTP_E_HEAD_TOO_LARGE;
		return NULL;
	}
	if (n > mem->cap - mem->used) {
		if (!h->conf.ev->memory(h->conf.arg, h->in.s, (enum h2_part)h->in.part, mem,
		                        mem->used + n)) {
			h->in.no_memory = true;
			return NULL;
		}
		assert(mem->cap - mem->used >= n);
		if (mem->p != from && mem->used > 0)
			relocate(h, from, mem->used);
	}
	p = mem->p + mem->used;
	mem->used += n;
	return p;
}

static bool copy(struct h2 *h, struct http_str from, struct http_str *to)
{
	char *p;

	*to = HTTP_STR("");
	if (from.n == 0)
		return true;
	p = take(h, from.n);
	if (!p)
		return false;
	memcpy(p, from.p, from.n);
	*to = (struct http_str){ p, from.n };
	return true;
}

/* --- begin --- */

void h2_head_begin(struct h2 *h, struct h2_stream *s, enum h2_part part)
{
	struct http_head *d;

	memset(&h->in, 0, sizeof(h->in));
	h->in.s = s;
	h->in.part = (uint8_t)part;
	if (!s)
		return;
	if (!h->conf.ev->memory(h->conf.arg, s, part, &h->in.mem, 0)) {
		h->in.no_memory = true;
		return;
	}
	assert(h->in.mem.used == 0);
	d = h->in.mem.head;
	*d = (struct http_head){ .fields = d->fields, .fields_max = d->fields_max };
	d->version = HTTP_2;
	d->keep_alive = true;
	d->te_trailers = true;
}

/* --- pseudo fields, RFC 9113 §8.3 --- */

static enum http_error method_set(struct h2 *h, struct http_head *d, struct http_str v)
{
	d->method = (uint8_t)http_method_lookup(v.p, v.n);
	if (d->method != HTTP_METHOD_OTHER) {
		d->method_text = (struct http_str){ http_method_name(d->method), v.n };
		return HTTP_OK;
	}
	if (v.n == 0 || chars_span((const uint8_t *)v.p, v.n, CHARS_TOKEN) != v.n)
		return HTTP_E_METHOD;
	copy(h, v, &d->method_text);
	return HTTP_OK;
}

static enum http_error scheme_set(struct h2 *h, struct http_head *d, struct http_str v)
{
	/* only what we can route to; "http" and "https" differ in nothing but the text here */
	if (IS(v, "http"))
		d->scheme = HTTP_STR("http");
	else if (IS(v, "https"))
		d->scheme = HTTP_STR("https");
	else if (v.n == 0 || chars_span((const uint8_t *)v.p, v.n, CHARS_TOKEN) != v.n)
		return HTTP_E_PSEUDO;
	else
		copy(h, v, &d->scheme);
	return HTTP_OK;
}

static enum http_error path_set(struct h2 *h, struct http_head *d, struct http_str v)
{
	bool asterisk = IS(v, "*");

	if (v.n > h->conf.target_max)
		return HTTP_E_TARGET_TOO_LONG;
	if (v.n == 0 || (v.p[0] != '/' && !asterisk) ||
	    chars_span_target((const uint8_t *)v.p, v.n) != v.n)
		return HTTP_E_TARGET;
	d->target = asterisk ? HTTP_TARGET_ASTERISK : HTTP_TARGET_ORIGIN;
	copy(h, v, &d->path);
	return HTTP_OK;
}

/* No userinfo (RFC 9113 §8.3.1), nothing that could end a Host line. */
static bool authority_ok(struct http_str v)
{
	struct http_str host;
	uint16_t        port;

	return http_authority_split(v, &host, &port) == 0;
}

static enum http_error status_set(struct http_head *d, struct http_str v)
{
	unsigned n = 0;

	if (v.n != 3)
		return HTTP_E_STATUS;
	for (uint32_t i = 0; i < 3; i++) {
		if (!chars_is((uint8_t)v.p[i], CHARS_DIGIT))
			return HTTP_E_STATUS;
		n = n * 10 + (unsigned)(v.p[i] - '0');
	}
	/* 101 means nothing in HTTP/2 (RFC 9113 §8.6) */
	if (n < 100 || n == 101)
		return HTTP_E_STATUS;
	d->status = (uint16_t)n;
	d->reason = HTTP_STR("");
	return HTTP_OK;
}

static enum http_error pseudo(struct h2 *h, struct http_str name, struct http_str v)
{
	struct http_head *d = h->in.mem.head;

	if (h->in.part == H2_PART_TRAILERS)
		return HTTP_E_TRAILER;
	if (IS(name, ":status"))
		return h->conf.server ? HTTP_E_PSEUDO : status_set(d, v);
	if (!h->conf.server)
		return HTTP_E_PSEUDO;
	if (IS(name, ":method"))
		return method_set(h, d, v);
	if (IS(name, ":path"))
		return path_set(h, d, v);
	if (IS(name, ":scheme"))
		return scheme_set(h, d, v);
	if (IS(name, ":authority")) {
		if (!authority_ok(v))
			return HTTP_E_HOST;
		copy(h, v, &d->authority);
		return HTTP_OK;
	}
	return HTTP_E_PSEUDO;
}

/* --- regular fields --- */

static bool is_secret(enum http_field_id id, struct http_str name)
{
	return id == HTTP_FIELD_AUTHORIZATION || id == HTTP_FIELD_PROXY_AUTHORIZATION ||
	       id == HTTP_FIELD_COOKIE || (id == HTTP_FIELD_OTHER && IS(name, "set-cookie"));
}

static enum http_error length_set(struct h2_stream *s, struct http_head *d, struct http_str v)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < v.n; i++)
		if (!chars_is((uint8_t)v.p[i], CHARS_DIGIT) || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(v.p[i] - '0'), &n))
			return HTTP_E_CONTENT_LENGTH;
	if (v.n == 0 || n > INT64_MAX || s->in_len != UINT64_MAX)
		return HTTP_E_CONTENT_LENGTH;
	s->in_len = n;
	d->body_len = n;
	return HTTP_OK;
}

static enum http_error field_check(struct h2 *h, enum http_field_id id, struct http_str name,
                                   struct http_str v)
{
	struct http_head *d = h->in.mem.head;

	/*
	 * nghttp2 has done so; but whatever its version, what could split an HTTP/1.1 head ends
	 * here
	 */
	if (name.n == 0 || name.n > UINT16_MAX ||
	    (id == HTTP_FIELD_OTHER &&
	     chars_span((const uint8_t *)name.p, name.n, CHARS_TOKEN) != name.n))
		return HTTP_E_FIELD_NAME;
	if (!chars_is_value((const uint8_t *)v.p, v.n))
		return HTTP_E_FIELD_VALUE;
	if (d->n_fields == d->fields_max)
		return HTTP_E_FIELDS_TOO_MANY;
	if (h->in.part == H2_PART_TRAILERS)
		return h1_trailer_forbidden(id) ? HTTP_E_TRAILER : HTTP_OK;
	if (id == HTTP_FIELD_CONTENT_LENGTH)
		return length_set(h->in.s, d, v);
	if (id == HTTP_FIELD_HOST && h->conf.server && (h->in.host || !authority_ok(v)))
		return HTTP_E_HOST;
	if (id == HTTP_FIELD_EXPECT && h->conf.server)
		d->expect_continue = http_list_has(v, "100-continue");
	return HTTP_OK;
}

static void regular(struct h2 *h, struct http_str name, struct http_str v, bool never_indexed)
{
	enum http_field_id id = http_field_lookup(name.p, name.n);
	struct http_head  *d = h->in.mem.head;
	struct http_str    kept_name, kept;
	struct http_field *f;

	h->in.error = (uint8_t)field_check(h, id, name, v);
	if (h->in.error)
		return;
	if (id != HTTP_FIELD_OTHER)
		kept_name = http_field_name(id);
	else if (!copy(h, name, &kept_name))
		return;
	/*
	 * before the value is copied: that may move the memory, and only what the head points to
	 * follows
	 */
	if (http_head_add(d, id, kept_name, HTTP_STR("")) < 0)
		assert(!"fields_max was checked");
	if (!copy(h, v, &kept))
		return;
	f = &d->fields[d->n_fields - 1];
	f->value = kept.p;
	f->value_len = kept.n;
	f->flags = (uint8_t)((http_field_is_hop(id) ? HTTP_FIELD_DROP : 0) |
	                     (never_indexed || is_secret(id, name) ? HTTP_FIELD_SECRET : 0));
	if (id == HTTP_FIELD_HOST) {
		h->in.host = true;
		h->in.host_value = kept;
	}
	if (id == HTTP_FIELD_COOKIE && h->in.n_cookies < UINT8_MAX)
		h->in.n_cookies++;
}

static bool skipping(const struct h2 *h)
{
	return !h->in.s || h->in.error || h->in.no_memory;
}

void h2_head_field(struct h2 *h, struct http_str name, struct http_str value, bool never_indexed)
{
	enum http_error e;

	if (skipping(h))
		return;
	if (name.n > 0 && name.p[0] == ':') {
		e = pseudo(h, name, value);
		if (e)
			h->in.error = (uint8_t)e;
		return;
	}
	regular(h, name, value, never_indexed);
}

void h2_head_invalid(struct h2 *h, struct http_str name, struct http_str value)
{
	(void)value;
	if (skipping(h))
		return;
	for (uint32_t i = 0; i < name.n; i++) {
		uint8_t c = (uint8_t)name.p[i];

		if (!chars_is(c, CHARS_TOKEN) || chars_is(c, CHARS_UPPER)) {
			h->in.error = HTTP_E_FIELD_NAME;
			return;
		}
	}
	h->in.error = name.n == 0 ? HTTP_E_FIELD_NAME : HTTP_E_FIELD_VALUE;
}

/* --- end --- */

/* Crumbs become one field (RFC 9113 §8.2.3): HTTP/1.1 and applications know only one Cookie. */
static void cookies_join(struct h2 *h)
{
	struct http_head  *d = h->in.mem.head;
	struct http_field *first = NULL;
	uint32_t           n = 0, kept = 0;
	char              *p;

	for (uint32_t i = 0; i < d->n_fields; i++)
		if (d->fields[i].id == HTTP_FIELD_COOKIE)
			n += d->fields[i].value_len + 2;
	p = take(h, n);
	if (!p)
		return;
	for (uint32_t i = 0; i < d->n_fields; i++) {
		struct http_field *f = &d->fields[i];

		if (f->id != HTTP_FIELD_COOKIE) {
			d->fields[kept++] = *f;
			continue;
		}
		memcpy(p, f->value, f->value_len);
		memcpy(p + f->value_len, "; ", 2);
		p += f->value_len + 2;
		if (!first) {
			first = &d->fields[kept++];
			*first = *f;
		}
	}
	d->n_fields = (uint16_t)kept;
	first->value = p - n;
	first->value_len = n - 2;
}

static enum http_error request_end(struct h2 *h, struct http_head *d, bool end)
{
	struct h2_stream *s = h->in.s;

	s->method = d->method;
	if (d->method == HTTP_METHOD_CONNECT)
		d->target = HTTP_TARGET_AUTHORITY;
	else if (d->path.n == 0 || d->scheme.n == 0)
		return HTTP_E_PSEUDO;
	else if (d->target == HTTP_TARGET_ASTERISK && d->method != HTTP_METHOD_OPTIONS)
		return HTTP_E_TARGET;
	/*
	 * two names for one place are a way to confuse who looks at the other one (RFC 9113 §8.3.1)
	 */
	if (h->in.host && d->authority.n > 0 && !http_str_ieq(h->in.host_value, d->authority))
		return HTTP_E_HOST;
	if (h->in.host && d->authority.n == 0)
		d->authority = h->in.host_value;
	if (s->in_len != UINT64_MAX)
		d->body = HTTP_BODY_LENGTH;
	else if (!end)
		d->body = HTTP_BODY_STREAM;
	else if (d->method == HTTP_METHOD_POST || d->method == HTTP_METHOD_PUT ||
	         d->method == HTTP_METHOD_PATCH)
		d->body = HTTP_BODY_LENGTH; /* empty; h1 should say so (RFC 9110 §8.6) */
	else
		d->body = HTTP_BODY_NONE;
	return HTTP_OK;
}

static enum http_error response_end(struct h2 *h, struct http_head *d, bool end)
{
	struct h2_stream *s = h->in.s;

	if (d->status == 0)
		return HTTP_E_STATUS;
	if (d->status < 200) {
		/*
		 * interim heads have no body, no end and no length (RFC 9113 §8.1, RFC 9110 §8.6)
		 */
		if (end || s->in_len != UINT64_MAX)
			return HTTP_E_STATUS;
		d->body = HTTP_BODY_NONE;
		return HTTP_OK;
	}
	if (s->method == HTTP_METHOD_HEAD || d->status == 204 || d->status == 304) {
		/* body_len stays: Content-Length tells of another response here */
		d->body = HTTP_BODY_NONE;
		s->in_len = UINT64_MAX;
	} else if (s->in_len != UINT64_MAX || end) {
		d->body = HTTP_BODY_LENGTH;
	} else {
		d->body = HTTP_BODY_STREAM;
	}
	return HTTP_OK;
}

enum http_error h2_head_end(struct h2 *h, bool end)
{
	struct http_head *d = h->in.mem.head;

	if (!h->in.error && h->in.n_cookies > 1)
		cookies_join(h);
	if (h->in.error || h->in.no_memory || h->in.part == H2_PART_TRAILERS)
		return (enum http_error)h->in.error;
	return h->conf.server ? request_end(h, d, end) : response_end(h, d, end);
}
