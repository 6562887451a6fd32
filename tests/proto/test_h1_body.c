#include <criterion/criterion.h>

#include "proto/h1.h"
#include "test_h1_guard.h"

#define S(literal) literal, sizeof(literal) - 1
#define ERR(id) -HTTP_E_##id

/* What a decoder made of its input: the body, how it ended, and how much it took. */
struct made {
	uint8_t  body[4096];
	uint32_t n, used;
	int      end; /* H1_END, H1_TRAILERS, H1_MORE, or -error */
};

static void feed(struct h1_body *b, struct made *m, const uint8_t *p, uint32_t n)
{
	while (n > 0 && (m->end == H1_MORE || m->end == H1_DATA)) {
		uint32_t used = 0, data = 0;

		m->end = h1_body_feed(b, guarded(p, n), n, &used, &data);
		cr_assert_leq(used, n);
		cr_assert_leq(data, used);
		cr_assert(m->end != H1_MORE || used == n, "everything is consumed with H1_MORE");
		cr_assert((m->end == H1_DATA) == (data > 0));
		memcpy(m->body + m->n, p + used - data, data);
		m->n += data;
		m->used += used;
		p += used;
		n -= used;
	}
	if (m->end == H1_DATA)
		m->end = h1_body_done(b) ? H1_END : H1_MORE;
}

static struct made decode(enum http_body kind, uint64_t len, const char *s, size_t n, size_t cut)
{
	struct h1_body b;
	struct made    m = { .end = H1_MORE };

	h1_body_init(&b, kind, len);
	if (h1_body_done(&b))
		m.end = H1_END;
	for (size_t at = 0; at < n; at += cut)
		feed(&b, &m, (const uint8_t *)s + at, (uint32_t)(n - at < cut ? n - at : cut));
	return m;
}

static const struct {
	const char *what;
	enum http_body kind;
	uint64_t    len;
	const char *text;
	size_t      n;
	const char *body;
	int         end;
	uint32_t    left; /* bytes of the next message */
} rows[] = {
	/* clang-format off */
	{ "a length", HTTP_BODY_LENGTH, 5, S("helloGET"), "hello", H1_END, 3 },
	{ "a length not reached", HTTP_BODY_LENGTH, 6, S("hello"), "hello", H1_MORE, 0 },
	{ "a length of 0", HTTP_BODY_LENGTH, 0, S("GET"), "", H1_END, 3 },
	{ "no body", HTTP_BODY_NONE, 0, S("GET"), "", H1_END, 3 },
	{ "until close", HTTP_BODY_CLOSE, 0, S("hello\r\n0\r\n"), "hello\r\n0\r\n", H1_MORE, 0 },
	{ "one chunk", HTTP_BODY_STREAM, 0, S("5\r\nhello\r\n0\r\n\r\nGET"), "hello", H1_END, 3 },
	{ "chunks", HTTP_BODY_STREAM, 0, S("1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n"), "hello", H1_END, 0 },
	{ "no chunks", HTTP_BODY_STREAM, 0, S("0\r\n\r\n"), "", H1_END, 0 },
	{ "leading zeros", HTTP_BODY_STREAM, 0, S("0000000000000005\r\nhello\r\n000\r\n\r\n"), "hello", H1_END, 0 },
	{ "hex of both cases", HTTP_BODY_STREAM, 0, S("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "01234567890123456789", H1_END, 0 },
	{ "an extension", HTTP_BODY_STREAM, 0, S("5;a=b\r\nhello\r\n0;c=\"d;e\"\r\n\r\n"), "hello", H1_END, 0 },
	{ "white space before an extension", HTTP_BODY_STREAM, 0, S("5 \t;a\r\nhello\r\n0\r\n\r\n"), "hello", H1_END, 0 },
	{ "a trailer", HTTP_BODY_STREAM, 0, S("5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "hello", H1_TRAILERS, 8 },
	{ "a chunk not complete", HTTP_BODY_STREAM, 0, S("5\r\nhell"), "hell", H1_MORE, 0 },
	{ "the last chunk not complete", HTTP_BODY_STREAM, 0, S("5\r\nhello\r\n0\r\n\r"), "hello", H1_MORE, 0 },
	/* RFC 9112 7.1: what is refused */
	{ "no size", HTTP_BODY_STREAM, 0, S("\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a size with a sign", HTTP_BODY_STREAM, 0, S("+5\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a negative size", HTTP_BODY_STREAM, 0, S("-1\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a size with 0x", HTTP_BODY_STREAM, 0, S("0x5\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a size that is no hex", HTTP_BODY_STREAM, 0, S("5g\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a space before the size", HTTP_BODY_STREAM, 0, S(" 5\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a space after the size", HTTP_BODY_STREAM, 0, S("5 \r\nhello"), "", ERR(CHUNK), 0 },
	{ "two sizes", HTTP_BODY_STREAM, 0, S("5 5\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a size of 2^63", HTTP_BODY_STREAM, 0, S("8000000000000000\r\n"), "", ERR(CHUNK), 0 },
	{ "a size of 2^64 + 5", HTTP_BODY_STREAM, 0, S("10000000000000005\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a size of 17 digits", HTTP_BODY_STREAM, 0, S("00000000000000005\r\nhello"), "", ERR(CHUNK), 0 },
	{ "LF alone after the size", HTTP_BODY_STREAM, 0, S("5\nhello"), "", ERR(BARE_LF), 0 },
	{ "LF alone in the extension", HTTP_BODY_STREAM, 0, S("5;a\nhello"), "", ERR(BARE_LF), 0 },
	{ "CR alone after the size", HTTP_BODY_STREAM, 0, S("5\rhello"), "", ERR(BARE_CR), 0 },
	{ "CR alone in the extension", HTTP_BODY_STREAM, 0, S("5;a\rb\r\nhello"), "", ERR(BARE_CR), 0 },
	{ "NUL in the extension", HTTP_BODY_STREAM, 0, S("5;\0\r\nhello"), "", ERR(CHUNK), 0 },
	{ "a chunk that is too long", HTTP_BODY_STREAM, 0, S("4\r\nhello\r\n"), "hell", ERR(CHUNK), 0 },
	{ "LF alone after a chunk", HTTP_BODY_STREAM, 0, S("5\r\nhello\n0\r\n\r\n"), "hello", ERR(BARE_LF), 0 },
	{ "CR alone after a chunk", HTTP_BODY_STREAM, 0, S("5\r\nhello\r0\r\n\r\n"), "hello", ERR(BARE_CR), 0 },
	{ "LF alone after the last chunk", HTTP_BODY_STREAM, 0, S("0\r\n\n"), "", ERR(BARE_LF), 0 },
	{ "CR alone after the last chunk", HTTP_BODY_STREAM, 0, S("0\r\n\rX"), "", ERR(BARE_CR), 0 },
	/* clang-format on */
};

Test(h1_body, every_slicing_gives_the_same_body_and_the_same_end)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t cut = 1; cut <= rows[i].n; cut++) {
			struct made m = decode(rows[i].kind, rows[i].len, rows[i].text, rows[i].n, cut);

			cr_assert_eq(m.end, rows[i].end, "%s: %d in pieces of %zu", rows[i].what, m.end,
			             cut);
			cr_assert_eq(m.n, strlen(rows[i].body), "%s", rows[i].what);
			cr_assert_eq(memcmp(m.body, rows[i].body, m.n), 0, "%s", rows[i].what);
			if (m.end >= 0)
				cr_assert_eq(m.used, rows[i].n - rows[i].left, "%s in pieces of %zu: %u",
				             rows[i].what, cut, m.used);
		}
	}
}

static int extension_of(size_t n)
{
	char        text[1024] = "5;";
	struct made m;

	memset(text + 2, 'a', n - 1);
	memcpy(text + n + 1, "\r\nhello\r\n0\r\n\r\n", 14);
	m = decode(HTTP_BODY_STREAM, 0, text, n + 15, 7);
	return m.end;
}

Test(h1_body, extensions_of_a_chunk_are_bounded)
{
	/* the CR that ends it counts, the ';' does not */
	cr_assert_eq(extension_of(H1_CHUNK_EXT_MAX), H1_END);
	cr_assert_eq(extension_of(H1_CHUNK_EXT_MAX + 1), ERR(CHUNK));
}

Test(h1_body, many_chunks_each_have_the_whole_bound_of_extensions)
{
	struct h1_body b;
	struct made    m = { .end = H1_MORE };
	char           text[300] = "1;";

	memset(text + 2, 'a', 200);
	memcpy(text + 202, "\r\nx\r\n", 5);
	h1_body_init(&b, HTTP_BODY_STREAM, 0);
	for (int i = 0; i < 100; i++)
		feed(&b, &m, (const uint8_t *)text, 207);
	cr_assert_eq(m.end, H1_MORE);
	cr_assert_eq(m.n, 100);
}

Test(h1_body, a_body_may_end_with_the_connection_only_where_that_is_its_end)
{
	struct h1_body b;
	uint32_t       used, data;

	h1_body_init(&b, HTTP_BODY_LENGTH, 2);
	cr_assert_not(h1_body_eof(&b));
	cr_assert_eq(h1_body_feed(&b, (const uint8_t *)"xy", 2, &used, &data), H1_DATA);
	cr_assert(h1_body_eof(&b));
	cr_assert(h1_body_done(&b));
	h1_body_init(&b, HTTP_BODY_STREAM, 0);
	cr_assert_eq(h1_body_feed(&b, (const uint8_t *)"0\r\n\r", 4, &used, &data), H1_MORE);
	cr_assert_not(h1_body_eof(&b));
	h1_body_init(&b, HTTP_BODY_CLOSE, 0);
	cr_assert(h1_body_eof(&b));
	cr_assert_not(h1_body_done(&b));
}

Test(h1_body, a_chunk_of_the_greatest_size_is_counted_right)
{
	struct h1_body b;
	struct made    m = { .end = H1_MORE };

	h1_body_init(&b, HTTP_BODY_STREAM, 0);
	feed(&b, &m, (const uint8_t *)"7fffffffffffffff\r\nabc", 21);
	cr_assert_eq(m.n, 3);
	cr_assert_eq(b.left, UINT64_C(0x7fffffffffffffff) - 3);
}
