/*
 * A request head: however it is cut, it means the same; what is let through has one framing; what is sent on is read back
 * as what it was.
 */
#include <strings.h>

#include "tests/fuzz/head.h"

static const struct h1_limits limits[] = { { H1_HEAD_MAX, 8192 }, { 256, 64 }, { 4096, 4096 } };

static int32_t parse(struct fuzz_head *f, struct h1_scan *scan, const uint8_t *p, size_t n, const struct h1_limits *l)
{
	return h1_parse_request(scan, p, (uint32_t)n, l, fuzz_head(f));
}

static int32_t parse_whole(struct fuzz_head *f, const uint8_t *p, size_t n, const struct h1_limits *l)
{
	struct h1_scan scan = { 0 };

	return parse(f, &scan, p, n, l);
}

/* The last result, and what was read with it; the address changes with each piece. */
static int32_t parse_cut(struct fuzz_head *f, uint8_t **keep, const uint8_t *p, size_t n, uint64_t seed,
                         const struct h1_limits *l)
{
	struct h1_scan scan = { 0 };
	int32_t        r = 0;

	*keep = NULL;
	for (size_t have = 0; have < n && r == 0;) {
		have += fuzz_piece(&seed, n - have);
		free(*keep);
		*keep = fuzz_copy(p, have);
		r = parse(f, &scan, *keep, have, l);
	}
	return r;
}

static void check_cut(const uint8_t *p, size_t n, int32_t r, const struct fuzz_head *whole, uint64_t seed,
                      const struct h1_limits *l)
{
	static struct fuzz_head cut;
	uint8_t                *keep;
	int32_t                 c = parse_cut(&cut, &keep, p, n, seed, l);

	if (r > 0) {
		DEMAND(c == r, "whole %d, in pieces %d", r, c);
		fuzz_check_same(&whole->h, &cut.h);
	} else {
		DEMAND(r < 0 || c == 0, "whole: more; in pieces: %d", c);
		DEMAND(c <= 0, "whole: %s; in pieces it is a request", http_error_text((enum http_error)-r));
	}
	free(keep);
}

static void check_accepted(const uint8_t *p, int32_t r, const struct fuzz_head *f, const struct h1_limits *l)
{
	static struct fuzz_head other;
	const struct http_head *h = &f->h;
	uint8_t                *exact = fuzz_copy(p, (size_t)r);
	bool                    chunked, any;
	uint64_t                len;

	DEMAND((uint32_t)r <= l->head_max, "over the limit");
	fuzz_check_framing(h, &len, &chunked, &any);
	DEMAND(h->body == (chunked ? HTTP_BODY_STREAM : any ? HTTP_BODY_LENGTH : HTTP_BODY_NONE) ||
	       (any && len == 0 && h->body == HTTP_BODY_NONE), "body %d", h->body);
	DEMAND(h->body != HTTP_BODY_LENGTH || h->body_len == len, "length");
	DEMAND(!(chunked && h->version == HTTP_1_0), "chunks in 1.0");
	DEMAND(parse_whole(&other, exact, (size_t)r, l) == r, "what follows the head decides about it");
	fuzz_check_same(h, &other.h);
	DEMAND(parse_whole(&other, exact, (size_t)r - 1, l) <= 0, "complete without its last byte");
	free(exact);
}

static void check_encoded(const struct fuzz_head *f)
{
	static struct fuzz_head other;
	const struct http_head *h = &f->h;
	const uint32_t          cap = h1_encode_bound(h);
	uint8_t                *out = malloc(cap);
	int                     n = h1_encode(out, cap, h, h1_request_framing(h), H1_CONN_NOTHING);
	int32_t                 r;

	DEMAND(n > 0, "a head that was let in is not let out: %d", n);
	r = parse_whole(&other, out, (size_t)n, &limits[0]);
	if (h->version == HTTP_1_0 && h->authority.n == 0) { /* 1.1 wants a Host, and 1.0 had none */
		DEMAND(r <= 0 || other.h.authority.n == 0, "a Host from nowhere");
	} else if (n <= H1_HEAD_MAX && other.h.n_fields < HTTP_FIELDS_MAX && r != -HTTP_E_TARGET_TOO_LONG) {
		DEMAND(r == n, "encoded, and not read back: %d of %d: %.*s", r, n, n, (const char *)out);
		DEMAND(fuzz_same(h->method_text, other.h.method_text) && fuzz_same(h->path, other.h.path), "start line");
		DEMAND(fuzz_same(h->authority, other.h.authority), "authority");
		DEMAND(h->body == other.h.body && h->body_len == other.h.body_len, "framing");
		fuzz_check_forwarded(h, &other.h);
	}
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_head f;
	uint64_t                seed = fuzz_hash(FUZZ_HASH, data, size) | 1;

	if (size > H1_HEAD_MAX + 1024)
		return 0;
	for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		int32_t r = parse_whole(&f, data, size, &limits[i]);

		if (r > 0) {
			fuzz_check_strings(&f.h, data, (size_t)r);
			check_accepted(data, r, &f, &limits[i]);
			check_encoded(&f);
		}
		check_cut(data, size, r, &f, seed + i * 2, &limits[i]);
	}
	return 0;
}
