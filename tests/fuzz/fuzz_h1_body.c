/*
 * Bodies: a decoder that is fed pieces tells the same bytes and ends at the same byte as one that sees everything; chunks are
 * read as a plain reading of RFC 9112 §7.1 does; trailers are read like heads; what is sent on is read back.
 */
#include <strings.h>

#include "tests/fuzz/head.h"

enum { BODY_MAX = 1 << 16 };

struct result {
	uint8_t  body[BODY_MAX];
	size_t   n; /* of the body */
	size_t   used; /* of the input */
	int      end; /* the last event, or the error */
};

static void decode(struct result *r, const uint8_t *p, size_t n, enum http_body kind, uint64_t len, uint64_t seed)
{
	struct h1_body b;

	r->n = r->used = 0;
	r->end = H1_MORE;
	h1_body_init(&b, kind, len);
	if (h1_body_done(&b))
		r->end = H1_END;
	while (r->used < n && (r->end == H1_MORE || r->end == H1_DATA)) {
		size_t   piece = seed ? fuzz_piece(&seed, n - r->used) : n - r->used;
		uint8_t *exact = fuzz_copy(p + r->used, piece);
		uint32_t used = 0, data = 0;

		r->end = h1_body_feed(&b, exact, (uint32_t)piece, &used, &data);
		if (r->end >= 0) {
			DEMAND(used <= piece && data <= used, "used %u, data %u of %zu", used, data, piece);
			DEMAND(r->end == H1_END || r->end == H1_TRAILERS || used > 0, "no progress");
			DEMAND(r->end != H1_MORE || used == piece, "more is wanted and not everything taken");
			if (r->end == H1_DATA) {
				memcpy(r->body + r->n, exact + used - data, data);
				r->n += data;
			}
			r->used += used;
		}
		free(exact);
	}
	if (r->end == H1_DATA)
		r->end = h1_body_done(&b) ? H1_END : H1_MORE;
}

/* RFC 9112 §7.1 as it is written, over the whole input: -1 malformed, 0 incomplete, 1 the last chunk came. */
static int reference(struct result *r, const uint8_t *p, size_t n)
{
	size_t at = 0;

	r->n = 0;
	for (;;) {
		uint64_t size = 0;
		size_t   digits = 0;

		for (; at < n && strchr("0123456789abcdefABCDEF", p[at]) && p[at]; at++, digits++) {
			if (digits == H1_CHUNK_DIGITS_MAX || size > INT64_MAX >> 4)
				return -1;
			size = size << 4 | (p[at] <= '9' ? p[at] - '0' : (p[at] | 32) - 'a' + 10);
		}
		if (at == n)
			return 0;
		if (digits == 0)
			return -1;
		if (strchr("; \t", p[at]) && p[at]) { /* chunk-ext, BWS before its ';' (§7.1.1) */
			size_t ext = at;

			while (at < n && (p[at] == ' ' || p[at] == '\t'))
				at++;
			if (at - ext > H1_CHUNK_EXT_MAX + 1 || (at < n && p[at] != ';'))
				return -1;
			for (; at < n && p[at] != '\r'; at++)
				if ((p[at] < ' ' && p[at] != '\t') || p[at] == 127)
					return -1;
			if (at == n) /* the first byte is not counted, the CR is */
				return at - ext > H1_CHUNK_EXT_MAX + 1 ? -1 : 0;
			if (at - ext > H1_CHUNK_EXT_MAX)
				return -1;
		}
		if (p[at] != '\r' || (at + 1 < n && p[at + 1] != '\n'))
			return -1;
		if (at + 1 >= n)
			return 0;
		at += 2;
		if (size == 0)
			return 1;
		if (n - at < size) {
			memcpy(r->body + r->n, p + at, n - at);
			r->n += n - at;
			return 0;
		}
		memcpy(r->body + r->n, p + at, size);
		r->n += size;
		at += size;
		if (at < n && p[at] != '\r')
			return -1;
		if (at + 1 < n && p[at + 1] != '\n')
			return -1;
		if (at + 2 > n)
			return 0;
		at += 2;
	}
}

static void check_trailers(const uint8_t *p, size_t n, uint64_t seed)
{
	static const struct h1_limits limits = { 4096, 1 };
	static struct fuzz_head       f, cut;
	struct h1_scan                scan = { 0 };
	int32_t                       r = h1_parse_trailers(&scan, p, (uint32_t)n, &limits, fuzz_head(&f)), c = 0;
	uint8_t                      *keep = NULL;

	scan = (struct h1_scan){ 0 };
	for (size_t have = 0; have < n && c == 0;) {
		have += fuzz_piece(&seed, n - have);
		free(keep);
		keep = fuzz_copy(p, have);
		c = h1_parse_trailers(&scan, keep, (uint32_t)have, &limits, fuzz_head(&cut));
	}
	DEMAND(r > 0 ? c == r : c <= 0, "trailers: whole %d, in pieces %d", r, c);
	for (unsigned i = 0; r > 0 && i < f.h.n_fields; i++)
		DEMAND(!h1_trailer_forbidden(f.h.fields[i].id), "a trailer that may not be one");
	if (r > 0) {
		uint32_t cap = h1_last_chunk_bound(&f.h);
		uint8_t *out = malloc(cap);
		int      m = h1_last_chunk(out, cap, &f.h);

		DEMAND(m > 3, "trailers that were let in are not let out: %d", m);
		scan = (struct h1_scan){ 0 };
		if (m - 3 <= (int)limits.head_max)
			DEMAND(h1_parse_trailers(&scan, out + 3, (uint32_t)m - 3, &limits, fuzz_head(&cut)) == m - 3,
			       "trailers are not read back: %.*s", m, (const char *)out);
		free(out);
	}
	free(keep);
}

/* The body, framed by us, is the body. */
static void check_framed(const struct result *r, uint64_t seed)
{
	static struct result again;
	static uint8_t       framed[8 * BODY_MAX + 64];
	size_t               m = 0;

	for (size_t at = 0; at < r->n;) {
		size_t piece = fuzz_piece(&seed, r->n - at);

		m += h1_chunk_head(framed + m, (uint32_t)piece);
		memcpy(framed + m, r->body + at, piece);
		m += piece;
		memcpy(framed + m, "\r\n", 2);
		m += 2;
		at += piece;
	}
	m += (size_t)h1_last_chunk(framed + m, 16, NULL);
	decode(&again, framed, m, HTTP_BODY_STREAM, 0, seed);
	DEMAND(again.end == H1_END && again.used == m && again.n == r->n, "our own chunks: %d", again.end);
	DEMAND(memcmp(again.body, r->body, r->n) == 0, "our own chunks hold something else");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct result whole, cut, plain;
	uint64_t             seed = fuzz_hash(FUZZ_HASH, data, size) | 1, len = seed % 64;
	int                  expected;

	if (size > BODY_MAX)
		return 0;
	decode(&whole, data, size, HTTP_BODY_STREAM, 0, 0);
	decode(&cut, data, size, HTTP_BODY_STREAM, 0, seed);
	DEMAND(whole.end == cut.end && whole.n == cut.n, "whole: %d after %zu, in pieces: %d after %zu", whole.end,
	       whole.n, cut.end, cut.n);
	DEMAND(memcmp(whole.body, cut.body, whole.n) == 0, "another body");
	DEMAND(whole.end < 0 || whole.used == cut.used, "ends at %zu and at %zu", whole.used, cut.used);
	expected = reference(&plain, data, size);
	if (whole.end >= 0)
		DEMAND(plain.n == whole.n && memcmp(plain.body, whole.body, plain.n) == 0, "not the body that was sent");
	DEMAND(expected >= 0 || whole.end < 0, "malformed chunks were taken: %d", whole.end);
	DEMAND(expected <= 0 || whole.end == H1_END || whole.end == H1_TRAILERS || whole.end == H1_MORE ||
	       whole.used + 2 >= size || whole.end < 0, "the end was not seen: %d", whole.end);
	DEMAND(expected != 0 || whole.end == H1_MORE, "incomplete, and %d", whole.end);
	if (whole.end == H1_TRAILERS)
		check_trailers(data + whole.used, size - whole.used, seed);
	if (whole.end == H1_END)
		check_framed(&whole, seed);
	check_trailers(data, size, seed);
	decode(&whole, data, size, HTTP_BODY_LENGTH, len, seed);
	DEMAND(whole.n == (size < len ? size : len) && memcmp(whole.body, data, whole.n) == 0, "of a length");
	DEMAND((whole.end == H1_END) == (size >= len), "the end of a length");
	return 0;
}
