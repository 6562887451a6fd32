/*
 * tests/fuzz/head.h - demands on heads that a strict parser let through.
 *
 * See   proto/README.md, "Strictness".  What is checked here is written again from the RFCs and not
 *       taken from the parser.
 */
#ifndef RHC_TESTS_FUZZ_HEAD_H
#define RHC_TESTS_FUZZ_HEAD_H

#include "proto/h1.h"
#include "tests/fuzz/fuzz.h"

struct fuzz_head {
	struct http_head  h;
	struct http_field fields[HTTP_FIELDS_MAX];
};

FUZZ_USED struct http_head *fuzz_head(struct fuzz_head *f)
{
	memset(&f->h, 0, sizeof(f->h));
	f->h.fields = f->fields;
	f->h.fields_max = HTTP_FIELDS_MAX;
	return &f->h;
}

/* No byte of it can end a line (RFC 9110 §5.5, RFC 9112 §2.2). */
FUZZ_USED bool fuzz_clean(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] == '\r' || p[i] == '\n' || p[i] == 0)
			return false;
	return true;
}

FUZZ_USED bool fuzz_same(struct http_str a, struct http_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

FUZZ_USED struct http_str fuzz_value(const struct http_field *f)
{
	return (struct http_str){ f->value, f->value_len };
}

/* Each string lies in p[0..n), is clean, and field values have no white space around them. */
FUZZ_USED void fuzz_check_strings(const struct http_head *h, const uint8_t *p, size_t n)
{
	const char          *lo = (const char *)p, *hi = lo + n;
	const struct http_str s[] = { h->method_text, h->scheme, h->authority, h->path, h->reason };

	for (unsigned i = 0; i < sizeof(s) / sizeof(s[0]); i++) {
		DEMAND(fuzz_clean(s[i].p, s[i].n), "string %u", i);
		DEMAND(s[i].n == 0 || i == 3 || (s[i].p >= lo && s[i].p + s[i].n <= hi), "string %u is elsewhere", i);
	}
	DEMAND(h->n_fields <= h->fields_max, "fields");
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		DEMAND(f->name_len > 0 && f->name >= lo && f->value + f->value_len <= hi, "field %u is elsewhere", i);
		DEMAND(fuzz_clean(f->name, f->name_len) && fuzz_clean(f->value, f->value_len), "field %u", i);
		DEMAND(!memchr(f->name, ':', f->name_len) && !memchr(f->name, ' ', f->name_len), "name %u", i);
		DEMAND(f->value_len == 0 || (!strchr(" \t", f->value[0]) && !strchr(" \t", f->value[f->value_len - 1])),
		       "white space around value %u", i);
		DEMAND(f->id == http_field_lookup(f->name, f->name_len), "id %u", i);
	}
}

/* Two heads mean the same, wherever their strings are.  drops: fields with HTTP_FIELD_DROP are compared, too. */
FUZZ_USED void fuzz_check_same(const struct http_head *a, const struct http_head *b)
{
	DEMAND(fuzz_same(a->method_text, b->method_text) && a->method == b->method, "method");
	DEMAND(fuzz_same(a->authority, b->authority), "authority");
	DEMAND(fuzz_same(a->path, b->path) && a->target == b->target, "target");
	DEMAND(a->status == b->status && fuzz_same(a->reason, b->reason), "status line");
	DEMAND(a->version == b->version && a->keep_alive == b->keep_alive, "version");
	DEMAND(a->body == b->body && a->body_len == b->body_len, "framing");
	DEMAND(a->upgrade == b->upgrade && a->expect_continue == b->expect_continue, "wishes");
	DEMAND(a->te_trailers == b->te_trailers && a->n_fields == b->n_fields, "fields");
	for (unsigned i = 0; i < a->n_fields; i++) {
		const struct http_field *x = &a->fields[i], *y = &b->fields[i];

		DEMAND(x->id == y->id && x->flags == y->flags && x->name_len == y->name_len &&
		       memcmp(x->name, y->name, x->name_len) == 0 && fuzz_same(fuzz_value(x), fuzz_value(y)),
		       "field %u", i);
	}
}

/* A decimal length as RFC 9110 §8.6 has it. */
FUZZ_USED bool fuzz_length(struct http_str s, uint64_t *ret)
{
	uint64_t v = 0;

	for (uint32_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || v > (INT64_MAX - (uint64_t)(s.p[i] - '0')) / 10)
			return false;
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	}
	*ret = v;
	return s.n > 0;
}

/*
 * Whoever reads the fields in whatever order comes to one framing: at most one Content-Length, which is a number, and
 * never together with Transfer-Encoding, which is chunked and nothing else (RFC 9112 §6.1, §6.3).
 */
FUZZ_USED void fuzz_check_framing(const struct http_head *h, uint64_t *ret_len, bool *ret_chunked, bool *ret_any)
{
	unsigned lengths = 0, codings = 0;

	*ret_len = 0;
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		if (f->name_len == 14 && strncasecmp(f->name, "content-length", 14) == 0) {
			lengths++;
			DEMAND(fuzz_length(fuzz_value(f), ret_len), "length is no number");
		}
		if (f->name_len == 17 && strncasecmp(f->name, "transfer-encoding", 17) == 0) {
			codings++;
			DEMAND(f->value_len == 7 && strncasecmp(f->value, "chunked", 7) == 0, "coding is not chunked");
		}
	}
	DEMAND(lengths <= 1 && codings <= 1 && lengths + codings <= 1, "%u lengths, %u codings", lengths, codings);
	*ret_chunked = codings == 1;
	*ret_any = lengths == 1;
}

/* What the encoder sends of the fields: the k-th field that is neither dropped nor its own. */
FUZZ_USED const struct http_field *fuzz_forwarded(const struct http_head *h, unsigned *at)
{
	for (; *at < h->n_fields; ++*at) {
		const struct http_field *f = &h->fields[*at];

		if (f->flags & HTTP_FIELD_DROP || f->id == HTTP_FIELD_HOST || f->id == HTTP_FIELD_CONTENT_LENGTH ||
		    f->id == HTTP_FIELD_TRANSFER_ENCODING || f->id == HTTP_FIELD_CONNECTION || f->id == HTTP_FIELD_TE)
			continue;
		return &h->fields[(*at)++];
	}
	return NULL;
}

/* What arrives of a head that was sent on is what was sent. */
FUZZ_USED void fuzz_check_forwarded(const struct http_head *sent, const struct http_head *got)
{
	unsigned i = 0, k = 0;

	for (;;) {
		const struct http_field *x = fuzz_forwarded(sent, &i), *y = fuzz_forwarded(got, &k);

		DEMAND(!x == !y, "a field too many or too few");
		if (!x)
			return;
		DEMAND(x->id == y->id && x->name_len == y->name_len && memcmp(x->name, y->name, x->name_len) == 0 &&
		       fuzz_same(fuzz_value(x), fuzz_value(y)), "field %u changed", i);
	}
}

#endif
