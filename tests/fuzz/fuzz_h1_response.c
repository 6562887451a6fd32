/* A response head, as an answer to GET, HEAD and CONNECT: one framing, in pieces as whole, and sent on unchanged. */
#include <strings.h>

#include "tests/fuzz/head.h"

static const struct h1_limits limits = { 8192, 1 };
static const enum http_method asked[] = { HTTP_METHOD_GET, HTTP_METHOD_HEAD, HTTP_METHOD_CONNECT };

static int32_t parse_whole(struct fuzz_head *f, const uint8_t *p, size_t n, enum http_method m)
{
	struct h1_scan scan = { 0 };

	return h1_parse_response(&scan, p, (uint32_t)n, &limits, m, fuzz_head(f));
}

static void check_cut(const uint8_t *p, size_t n, int32_t r, const struct fuzz_head *whole, enum http_method m,
                      uint64_t seed)
{
	static struct fuzz_head cut;
	struct h1_scan          scan = { 0 };
	uint8_t                *keep = NULL;
	int32_t                 c = 0;

	for (size_t have = 0; have < n && c == 0;) {
		have += fuzz_piece(&seed, n - have);
		free(keep);
		keep = fuzz_copy(p, have);
		c = h1_parse_response(&scan, keep, (uint32_t)have, &limits, m, fuzz_head(&cut));
	}
	if (r > 0) {
		DEMAND(c == r, "whole %d, in pieces %d", r, c);
		fuzz_check_same(&whole->h, &cut.h);
	} else {
		DEMAND(c <= 0 && (r < 0 || c == 0), "whole %d, in pieces %d", r, c);
	}
	free(keep);
}

/* RFC 9112 §6.3, in its order. */
static enum http_body framing(const struct http_head *h, enum http_method m, bool chunked, bool any)
{
	if (h->status == 101 || (m == HTTP_METHOD_CONNECT && h->status >= 200 && h->status < 300))
		return HTTP_BODY_TUNNEL;
	if (m == HTTP_METHOD_HEAD || h->status < 200 || h->status == 204 || h->status == 304)
		return HTTP_BODY_NONE;
	return chunked ? HTTP_BODY_STREAM : any ? HTTP_BODY_LENGTH : HTTP_BODY_CLOSE;
}

static void check_accepted(const uint8_t *p, int32_t r, const struct fuzz_head *f, enum http_method m)
{
	static struct fuzz_head other;
	const struct http_head *h = &f->h;
	uint8_t                *exact = fuzz_copy(p, (size_t)r);
	bool                    chunked, any;
	uint64_t                len;

	if (m == HTTP_METHOD_CONNECT && h->status / 100 == 2) { /* §6.3 rule 2: it says nothing */
		DEMAND(h->body == HTTP_BODY_TUNNEL, "body %d", h->body);
		free(exact);
		return;
	}
	fuzz_check_framing(h, &len, &chunked, &any);
	DEMAND(!(chunked || len > 0) || (h->status >= 200 && h->status != 204), "framing of %u", h->status);
	DEMAND(h->status >= 100 && h->status <= 999, "status %u", h->status);
	DEMAND(h->body == framing(h, m, chunked, any), "body %d, status %u", h->body, h->status);
	DEMAND(h->body != HTTP_BODY_LENGTH || h->body_len == len, "length");
	DEMAND(h->body != HTTP_BODY_CLOSE || !h->keep_alive, "until close, and kept alive");
	DEMAND(parse_whole(&other, exact, (size_t)r, m) == r, "what follows the head decides about it");
	fuzz_check_same(h, &other.h);
	free(exact);
}

static void check_encoded(const struct fuzz_head *f, enum http_method m)
{
	static struct fuzz_head other;
	const struct http_head *h = &f->h;
	const uint32_t          cap = h1_encode_bound(h);
	uint8_t                *out = malloc(cap);
	int                     n = h1_encode(out, cap, h, h1_response_framing(h, m, HTTP_1_1), H1_CONN_NOTHING);

	DEMAND(n > 0, "a head that was let in is not let out: %d", n);
	if (n <= (int)limits.head_max) {
		int32_t r = parse_whole(&other, out, (size_t)n, m);

		DEMAND(r == n, "encoded, and not read back: %d of %d: %.*s", r, n, n, (const char *)out);
		DEMAND(h->status == other.h.status, "status");
		DEMAND(h->reason.n == 0 || fuzz_same(h->reason, other.h.reason), "reason");
		DEMAND(h->body == other.h.body || (h->body == HTTP_BODY_CLOSE && other.h.body == HTTP_BODY_STREAM),
		       "body %d became %d", h->body, other.h.body);
		DEMAND(h->body == HTTP_BODY_NONE || h->body_len == other.h.body_len, "length");
		fuzz_check_forwarded(h, &other.h);
	}
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fuzz_head f;
	uint64_t                seed = fuzz_hash(FUZZ_HASH, data, size) | 1;

	if (size > 2 * limits.head_max)
		return 0;
	for (unsigned i = 0; i < 3; i++) {
		int32_t r = parse_whole(&f, data, size, asked[i]);

		if (r > 0) {
			fuzz_check_strings(&f.h, data, (size_t)r);
			check_accepted(data, r, &f, asked[i]);
			check_encoded(&f, asked[i]);
		}
		check_cut(data, size, r, &f, asked[i], seed);
	}
	return 0;
}
