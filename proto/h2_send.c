/*
 * proto/h2_send.c - heads become header blocks; bodies become DATA, by reference.
 *
 * Everything is checked again on its way out: a head may come from configuration or from an older
 * protocol, and a CR or NUL in it must not reach a peer that translates it (RFC 9113 §8.2.1,
 * §10.3).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/h1.h"
#include "proto/h2_private.h"

/* A header block while it is put together. */
struct block {
	nghttp2_nv nv[H2_NV_MAX];
	size_t     n;
	size_t     bytes;
	char       length[24]; /* content-length */
	char       status[3];
};

/* Then entries have been pushed out; before, nothing is. */
static bool table_is_full(const struct h2 *h)
{
	return !h->broken &&
	       nghttp2_session_get_hd_deflate_dynamic_table_size(h->session) > H2_TABLE_FULL;
}

/* Not by an initializer: that would clear the whole array for each head. */
static void block_begin(struct h2 *h, struct block *b)
{
	b->n = 0;
	b->bytes = 0;
	if (++h->heads % H2_NAME_AGAIN == 0 && table_is_full(h))
		h->named = 0;
}

int h2_errno(int lib_error)
{
	switch (lib_error) {
	case 0:
		return 0;
	case NGHTTP2_ERR_NOMEM:
		return -ENOMEM;
	case NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE:
		return -EAGAIN;
	case NGHTTP2_ERR_INVALID_ARGUMENT:
	case NGHTTP2_ERR_DATA_EXIST:
		return -EPIPE;
	default:
		return -EPROTO;
	}
}

/* --- fields --- */

/* What lives as long as the program, in lower case: not copied. */
enum {
	STATIC_NAME = NGHTTP2_NV_FLAG_NO_COPY_NAME,
	STATIC = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
};

/* flags: of nghttp2_nv.  What is not static nghttp2 copies, and writes names in lower case. */
static void put(struct block *b, struct http_str name, struct http_str value, unsigned flags)
{
	assert(b->n < H2_NV_MAX);
	b->nv[b->n++] = (nghttp2_nv){
		.name = (uint8_t *)(uintptr_t)name.p,
		.value = (uint8_t *)(uintptr_t)value.p,
		.namelen = name.n,
		.valuelen = value.n,
		.flags = (uint8_t)flags,
	};
	b->bytes += name.n + value.n;
}

static bool token_ok(struct http_str s)
{
	return s.n > 0 && chars_span((const uint8_t *)s.p, s.n, CHARS_TOKEN) == s.n;
}

static bool value_ok(struct http_str s)
{
	return chars_is_value((const uint8_t *)s.p, s.n);
}

_Static_assert(HTTP_FIELD_COUNT <= 64, "a bit for each in h2.named");

/*
 * New with each message: in the HPACK table it would only push out what comes again.  But the first one goes
 * there, because then the others need not spell out the name; again when it may have been pushed out itself.
 */
static bool is_literal_now(struct h2 *h, enum http_field_id id)
{
	uint64_t bit = UINT64_C(1) << id;
	bool     named = (h->named & bit) != 0;

	h->named |= bit;
	return named;
}

/* Not for the HPACK table (RFC 7541 §7.1.3): secrets, and values that do not come again. */
static bool is_literal(struct h2 *h, const struct http_field *f)
{
	if ((f->flags & HTTP_FIELD_SECRET) != 0)
		return true;
	switch (f->id) {
	case HTTP_FIELD_AUTHORIZATION:
	case HTTP_FIELD_PROXY_AUTHORIZATION:
	case HTTP_FIELD_IDEMPOTENCY_KEY:
		return true;
	case HTTP_FIELD_X_REQUEST_ID:
	case HTTP_FIELD_TRACEPARENT:
	case HTTP_FIELD_SERVER_TIMING:
	case HTTP_FIELD_GRPC_TIMEOUT:
		return is_literal_now(h, f->id);
	default:
		return false;
	}
}

/*
 * Connection-specific fields have no place in HTTP/2 (RFC 9113 §8.2.2); framing and Host are ours
 * to say.
 */
static bool is_skipped(const struct http_field *f)
{
	switch ((enum http_field_id)f->id) {
	case HTTP_FIELD_CONNECTION:
	case HTTP_FIELD_KEEP_ALIVE:
	case HTTP_FIELD_PROXY_CONNECTION:
	case HTTP_FIELD_TRANSFER_ENCODING:
	case HTTP_FIELD_UPGRADE:
	case HTTP_FIELD_HTTP2_SETTINGS:
	case HTTP_FIELD_TE:
	case HTTP_FIELD_HOST:
	case HTTP_FIELD_CONTENT_LENGTH:
		return true;
	default:
		return (f->flags & HTTP_FIELD_DROP) != 0;
	}
}

static int put_fields(struct h2 *h, struct block *b, const struct http_head *head, bool trailers)
{
	for (uint32_t i = 0; i < head->n_fields; i++) {
		const struct http_field *f = &head->fields[i];
		struct http_str          name = { f->name, f->name_len };
		struct http_str          v = { f->value, f->value_len };
		unsigned                 flags = 0;

		if (is_skipped(f) || (trailers && h1_trailer_forbidden(f->id)))
			continue;
		/* a field of the table got its id because its name is that of the table */
		if (f->id != HTTP_FIELD_OTHER) {
			name = http_field_name(f->id);
			flags = STATIC_NAME;
		} else if (!token_ok(name)) {
			return -EINVAL;
		}
		if (!value_ok(v))
			return -EINVAL;
		if (b->n == H2_NV_MAX)
			return -E2BIG;
		put(b, name, v, flags | (is_literal(h, f) ? NGHTTP2_NV_FLAG_NO_INDEX : 0));
	}
	return b->bytes > H2_HEAD_MAX ? -E2BIG : 0;
}

/* Decimal digits of v, written to the end of out. */
static struct http_str decimal(char out[24], uint64_t v)
{
	char *p = out + 24;

	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	return (struct http_str){ p, (uint32_t)(out + 24 - p) };
}

static void put_length(struct block *b, uint64_t len)
{
	put(b, HTTP_STR("content-length"), decimal(b->length, len), STATIC_NAME);
}

/* --- heads --- */

static void put_method(struct block *b, const struct http_head *h)
{
	if (h->method != HTTP_METHOD_OTHER)
		put(b, HTTP_STR(":method"),
		    (struct http_str){ http_method_name(h->method), h->method_text.n }, STATIC);
	else
		put(b, HTTP_STR(":method"), h->method_text, STATIC_NAME);
}

static int put_request(struct h2 *session, struct block *b, const struct http_head *h)
{
	bool            connect = h->method == HTTP_METHOD_CONNECT;
	struct http_str scheme = h->scheme.n > 0 ? h->scheme : HTTP_STR("http"), host;
	uint16_t        port;

	if (!token_ok(h->method_text) || !token_ok(scheme))
		return -EINVAL;
	if (h->authority.n > 0 && http_authority_split(h->authority, &host, &port) < 0)
		return -EINVAL;
	put_method(b, h);
	if (!connect) {
		if (h->path.n == 0 || (h->path.p[0] != '/' && !http_str_is(h->path, "*")) ||
		    chars_span_target((const uint8_t *)h->path.p, h->path.n) != h->path.n)
			return -EINVAL;
		put(b, HTTP_STR(":scheme"), scheme, STATIC_NAME);
		put(b, HTTP_STR(":path"), h->path, STATIC_NAME);
	}
	if (h->authority.n > 0)
		put(b, HTTP_STR(":authority"), h->authority, STATIC_NAME);
	if (h->body == HTTP_BODY_LENGTH)
		put_length(b, h->body_len);
	/* gRPC servers insist on it, and we do carry trailers (RFC 9110 §10.1.4) */
	if (h->te_trailers)
		put(b, HTTP_STR("te"), HTTP_STR("trailers"), STATIC);
	return put_fields(session, b, h, false);
}

static int put_response(struct h2 *session, struct block *b, const struct http_head *h,
                        enum http_method asked)
{
	const struct http_field *len;

	if (h->status < 100 || h->status > 999 || h->status == 101)
		return -EINVAL;
	b->status[0] = (char)('0' + h->status / 100);
	b->status[1] = (char)('0' + h->status / 10 % 10);
	b->status[2] = (char)('0' + h->status % 10);
	put(b, HTTP_STR(":status"), (struct http_str){ b->status, 3 }, STATIC_NAME);
	if (h->status >= 200 && h->status != 204) {
		if (asked == HTTP_METHOD_HEAD || h->status == 304) {
			/* of the response that GET would have had */
			len = http_head_find(h, HTTP_FIELD_CONTENT_LENGTH);
			if (len)
				put(b, HTTP_STR("content-length"),
				    (struct http_str){ len->value, len->value_len }, STATIC_NAME);
		} else if (h->body == HTTP_BODY_LENGTH) {
			put_length(b, h->body_len);
		}
	}
	return put_fields(session, b, h, false);
}

int h2_request(struct h2 *h, struct h2_stream *s, const struct http_head *head, bool end)
{
	struct block b;
	int32_t      id;
	int          err;

	assert(!h->conf.server && s->id == 0);
	block_begin(h, &b);
	err = put_request(h, &b, head);
	if (err < 0)
		return err;
	if (h->broken)
		return -EAGAIN;
	if (h2_over_memory(h))
		return -ENOMEM;
	id = nghttp2_submit_request(h->session, NULL, b.nv, b.n, end ? NULL : &h2_body_provider, s);
	if (id < 0)
		return h2_errno(id);
	s->id = id;
	s->in_len = UINT64_MAX;
	s->method = head->method;
	s->attached = true;
	s->out_open = !end;
	s->out_end = end;
	return 0;
}

int h2_response(struct h2 *h, struct h2_stream *s, const struct http_head *head, bool end)
{
	struct block b;
	int          err;

	assert(h->conf.server && !s->out_open && !s->out_end);
	block_begin(h, &b);
	err = put_response(h, &b, head, (enum http_method)s->method);
	if (err < 0)
		return err;
	if (!s->attached || h->broken)
		return -EPIPE;
	if (h2_over_memory(h))
		return -ENOMEM;
	if (head->status < 200) {
		err = nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, b.nv, b.n,
		                             NULL);
		return h2_errno(err);
	}
	err = nghttp2_submit_response(h->session, s->id, b.nv, b.n, end ? NULL : &h2_body_provider);
	if (err)
		return h2_errno(err);
	s->out_open = !end;
	s->out_end = end;
	return 0;
}

int h2_answer(struct h2 *h, struct h2_stream *s, uint16_t status)
{
	struct http_head head = { .status = status, .body = HTTP_BODY_LENGTH };

	return h2_response(h, s, &head, true);
}

/* --- bodies --- */

void h2_body(struct h2 *h, struct h2_stream *s, uint32_t n)
{
	assert(s->out_open && !s->out_end);
	s->out_ready += n;
	if (s->attached && s->idle && n > 0) {
		s->idle = false;
		nghttp2_session_resume_data(h->session, s->id);
	}
}

static int trailers_keep(struct h2 *h, struct h2_stream *s, const struct http_head *head)
{
	struct block        b;
	struct h2_trailers *t;
	uint8_t            *p;
	int                 err;

	block_begin(h, &b);
	err = put_fields(h, &b, head, true);
	if (err < 0 || b.n == 0)
		return err;
	if (h2_over_memory(h))
		return -ENOMEM;
	t = h2_mem_alloc(&h->mem, sizeof(*t) + b.n * sizeof(t->nv[0]) + b.bytes);
	t->n = b.n;
	p = (uint8_t *)&t->nv[b.n];
	for (size_t i = 0; i < b.n; i++) {
		t->nv[i] = b.nv[i];
		if ((b.nv[i].flags & STATIC_NAME) == 0) {
			t->nv[i].name = memcpy(p, b.nv[i].name, b.nv[i].namelen);
			p += b.nv[i].namelen;
		}
		t->nv[i].value = memcpy(p, b.nv[i].value, b.nv[i].valuelen);
		p += b.nv[i].valuelen;
	}
	s->trailers = t;
	return 0;
}

int h2_trailers_submit(struct h2 *h, struct h2_stream *s)
{
	int err = nghttp2_submit_trailer(h->session, s->id, s->trailers->nv, s->trailers->n);

	h2_mem_free(&h->mem, s->trailers);
	s->trailers = NULL;
	return err;
}

int h2_end(struct h2 *h, struct h2_stream *s, const struct http_head *trailers)
{
	int err = 0;

	assert(s->out_open && !s->out_end);
	s->out_end = true;
	if (!s->attached || h->broken)
		return 0;
	if (trailers)
		err = trailers_keep(h, s, trailers);
	if (s->idle) {
		s->idle = false;
		nghttp2_session_resume_data(h->session, s->id);
	}
	return err;
}
