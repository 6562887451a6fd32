/*
 * proto/h1_encode.c - heads, chunk heads and trailers onto the wire.
 *
 * Whoever built the head may have made a mistake, and here is the last place to notice: a value
 * with CR, LF or NUL in it would become a field or a message of its own, so every string is looked
 * at before it is copied.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/h1.h"

/* A cursor without a limit: h1_encode_bound() was checked before. */
static uint8_t *put(uint8_t *o, const void *p, size_t n)
{
	if (n > 0) /* an empty string may be NULL */
		memcpy(o, p, n);
	return o + n;
}
#define PUT(o, literal) put(o, literal, sizeof(literal) - 1)

static uint8_t *put_number(uint8_t *o, uint64_t v)
{
	uint8_t digits[20];
	size_t  at = sizeof(digits);

	do {
		digits[--at] = (uint8_t)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	return put(o, digits + at, sizeof(digits) - at);
}

static bool is_value(const char *p, size_t n)
{
	return chars_is_value((const uint8_t *)p, n);
}

static bool is_token(const char *p, size_t n)
{
	return n > 0 && chars_span((const uint8_t *)p, n, CHARS_TOKEN) == n;
}

static bool is_target(struct http_str s)
{
	return s.n > 0 && chars_span_target((const uint8_t *)s.p, s.n) == s.n;
}

/* NULL when it cannot stand there. */
static uint8_t *put_field(uint8_t *o, const struct http_field *f)
{
	/* a field of the table got its id because its name is that of the table */
	if ((f->id == HTTP_FIELD_OTHER && !is_token(f->name, f->name_len)) || !is_value(f->value, f->value_len))
		return NULL;
	o = put(o, f->name, f->name_len);
	o = PUT(o, ": ");
	o = put(o, f->value, f->value_len);
	return PUT(o, "\r\n");
}

/* --- start lines --- */

static uint8_t *put_request_line(uint8_t *o, const struct http_head *h)
{
	struct http_str target = h->target == HTTP_TARGET_AUTHORITY ? h->authority : h->path;

	if (!is_token(h->method_text.p, h->method_text.n) || !is_target(target))
		return NULL;
	if (h->target != HTTP_TARGET_ABSOLUTE && target.p[0] == '?')
		return NULL;
	o = put(o, h->method_text.p, h->method_text.n);
	o = PUT(o, " ");
	if (h->target == HTTP_TARGET_ABSOLUTE) {
		if (!is_target(h->scheme) || !is_target(h->authority))
			return NULL;
		o = put(o, h->scheme.p, h->scheme.n);
		o = PUT(o, "://");
		o = put(o, h->authority.p, h->authority.n);
	}
	/* the empty path of OPTIONS in absolute-form is what "*" was made from */
	if (h->target != HTTP_TARGET_ABSOLUTE || target.p[0] != '*')
		o = put(o, target.p, target.n);
	o = PUT(o, " HTTP/1.1\r\n");
	if (h->authority.n == 0) /* RFC 9112 §3.2: an empty Host rather than none */
		return PUT(o, "Host:\r\n");
	if (!is_target(h->authority))
		return NULL;
	o = PUT(o, "Host: ");
	o = put(o, h->authority.p, h->authority.n);
	return PUT(o, "\r\n");
}

static uint8_t *put_status_line(uint8_t *o, const struct http_head *h)
{
	const char *known = http_reason(h->status);

	if (h->status < 100 || h->status > 999 || !is_value(h->reason.p, h->reason.n))
		return NULL;
	o = PUT(o, "HTTP/1.1 ");
	o = put_number(o, h->status);
	o = PUT(o, " ");
	/* h2 has no reason phrase */
	o = h->reason.n > 0 ? put(o, h->reason.p, h->reason.n) : put(o, known, strlen(known));
	return PUT(o, "\r\n");
}

/* --- framing and connection --- */

/* Content-Length of a response without content: 1*DIGIT or nothing. */
static uint8_t *put_copied_length(uint8_t *o, const struct http_head *h)
{
	const struct http_field *f = http_head_find(h, HTTP_FIELD_CONTENT_LENGTH);

	if (f == NULL)
		return o;
	if (f->value_len == 0 || f->value_len > 20 ||
	    chars_span((const uint8_t *)f->value, f->value_len, CHARS_DIGIT) != f->value_len)
		return NULL;
	o = PUT(o, "Content-Length: ");
	o = put(o, f->value, f->value_len);
	return PUT(o, "\r\n");
}

static uint8_t *put_framing(uint8_t *o, const struct http_head *h, enum h1_framing framing)
{
	switch (framing) {
	case H1_FRAME_LENGTH:
		o = PUT(o, "Content-Length: ");
		o = put_number(o, h->body == HTTP_BODY_LENGTH ? h->body_len : 0);
		return PUT(o, "\r\n");
	case H1_FRAME_CHUNKED:
		return PUT(o, "Transfer-Encoding: chunked\r\n");
	case H1_FRAME_COPY:
		return put_copied_length(o, h);
	case H1_FRAME_NONE:
	case H1_FRAME_CLOSE:
		break;
	}
	return o;
}

static uint8_t *put_connection(uint8_t *o, const struct http_head *h, enum h1_connection conn)
{
	bool        te = h->te_trailers && h->status == 0;
	const char *sep = "Connection: ";
	const struct {
		bool        on;
		const char *text;
	} options[] = {
		{ conn == H1_CONN_CLOSE, "close" },
		{ conn == H1_CONN_KEEP_ALIVE, "keep-alive" },
		{ h->upgrade, "upgrade" },
		{ te, "TE" },
	};

	if (conn == H1_CONN_NOTHING && !h->upgrade && !te)
		return o;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (!options[i].on)
			continue;
		o = put(o, sep, strlen(sep));
		o = put(o, options[i].text, strlen(options[i].text));
		sep = ", ";
	}
	o = PUT(o, "\r\n");
	return te ? PUT(o, "TE: trailers\r\n") : o;
}

/* --- fields --- */

static bool written_by_us(uint8_t id)
{
	return id == HTTP_FIELD_HOST || id == HTTP_FIELD_CONTENT_LENGTH ||
	       id == HTTP_FIELD_TRANSFER_ENCODING || id == HTTP_FIELD_CONNECTION ||
	       id == HTTP_FIELD_TE;
}

static bool goes_out(const struct http_head *h, const struct http_field *f)
{
	if (f->id == HTTP_FIELD_UPGRADE)
		return h->upgrade;
	return !(f->flags & HTTP_FIELD_DROP) && !written_by_us(f->id);
}

static uint8_t *put_fields(uint8_t *o, const struct http_head *h)
{
	for (unsigned i = 0; i < h->n_fields && o != NULL; i++)
		if (goes_out(h, &h->fields[i]))
			o = put_field(o, &h->fields[i]);
	return o;
}

static uint32_t fields_bound(const struct http_head *h)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < h->n_fields; i++)
		n += h->fields[i].name_len + h->fields[i].value_len + 4;
	return n;
}

/* --- heads --- */

uint32_t h1_encode_bound(const struct http_head *h)
{
	return H1_FRAMING_MAX + h->method_text.n + h->scheme.n + 2 * h->authority.n + h->path.n +
	       h->reason.n + fields_bound(h);
}

enum h1_framing h1_request_framing(const struct http_head *h)
{
	switch (h->body) {
	case HTTP_BODY_LENGTH:
		return H1_FRAME_LENGTH;
	case HTTP_BODY_STREAM:
		return H1_FRAME_CHUNKED;
	default:
		return H1_FRAME_NONE;
	}
}

enum h1_framing h1_response_framing(const struct http_head *h, enum http_method asked,
                                    enum http_version peer)
{
	if (h->body == HTTP_BODY_TUNNEL || h->status < 200 || h->status == 204)
		return H1_FRAME_NONE;
	/*
	 * what the answer to GET would say; our own answers know their length, others have it as a
	 * field
	 */
	if (asked == HTTP_METHOD_HEAD || h->status == 304)
		return h->body == HTTP_BODY_LENGTH ? H1_FRAME_LENGTH : H1_FRAME_COPY;
	switch (h->body) {
	case HTTP_BODY_NONE: /* nothing follows, and without a word of it the client would wait */
	case HTTP_BODY_LENGTH:
		return H1_FRAME_LENGTH;
	default:
		return peer == HTTP_1_0 ? H1_FRAME_CLOSE : H1_FRAME_CHUNKED;
	}
}

int h1_encode(uint8_t *out, uint32_t cap, const struct http_head *h, enum h1_framing framing,
              enum h1_connection conn)
{
	uint8_t *o = out;

	if (cap < h1_encode_bound(h))
		return -E2BIG;
	o = h->status == 0 ? put_request_line(o, h) : put_status_line(o, h);
	if (o != NULL)
		o = put_fields(o, h);
	if (o != NULL)
		o = put_framing(o, h, framing);
	if (o == NULL)
		return -EINVAL;
	o = put_connection(o, h, conn);
	o = PUT(o, "\r\n");
	assert(o <= out + cap);
	return (int)(o - out);
}

/* --- chunks --- */

uint32_t h1_chunk_head(uint8_t *out, uint32_t n)
{
	static const char digits[16] = "0123456789abcdef";
	uint32_t          at = 0;
	int               shift = 28;

	assert(n > 0);
	while (shift > 0 && n >> shift == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		out[at++] = (uint8_t)digits[n >> shift & 15];
	out[at++] = '\r';
	out[at++] = '\n';
	return at;
}

uint32_t h1_last_chunk_bound(const struct http_head *t)
{
	return 5 + (t != NULL ? fields_bound(t) : 0);
}

int h1_last_chunk(uint8_t *out, uint32_t cap, const struct http_head *t)
{
	uint8_t *o = out;

	if (cap < h1_last_chunk_bound(t))
		return -E2BIG;
	o = PUT(o, "0\r\n");
	for (unsigned i = 0; t != NULL && i < t->n_fields; i++) {
		const struct http_field *f = &t->fields[i];

		if ((f->flags & HTTP_FIELD_DROP) || h1_trailer_forbidden((enum http_field_id)f->id))
			continue;
		o = put_field(o, f);
		if (o == NULL)
			return -EINVAL;
	}
	o = PUT(o, "\r\n");
	return (int)(o - out);
}
