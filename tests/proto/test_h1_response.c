#include <criterion/criterion.h>

#include "proto/h1.h"
#include "test_h1_guard.h"

#define S(literal) literal, sizeof(literal) - 1
#define ERR(id) -HTTP_E_##id

static const struct h1_limits limits = { .head_max = 4096, .target_max = 200 };
static struct http_field      fields[HTTP_FIELDS_MAX];
static struct http_head       head;

static int32_t parse(const void *p, size_t n, struct h1_scan *scan, enum http_method asked)
{
	head.fields = fields;
	head.fields_max = HTTP_FIELDS_MAX;
	return h1_parse_response(scan, guarded(p, n), (uint32_t)n, &limits, asked, &head);
}

/* At once, cut in two everywhere, and byte by byte: the same answer. */
static void every_split_says(const char *what, const char *s, size_t n, enum http_method asked,
                             int32_t want)
{
	struct h1_scan byte_wise = { 0 }, once = { 0 };
	int32_t        r = parse(s, n, &once, asked);

	cr_assert_eq(r, want, "%s: %d, not %d", what, r, want);
	for (size_t cut = 1; cut < n; cut++) {
		struct h1_scan scan = { 0 };

		r = parse(s, cut, &scan, asked);
		if (r == 0)
			r = parse(s, n, &scan, asked);
		cr_assert_eq(r, want, "%s: %d after a cut at %zu, not %d", what, r, cut, want);
	}
	r = 0;
	for (size_t have = 1; have <= n && r == 0; have++)
		r = parse(s, have, &byte_wise, asked);
	cr_assert_eq(r, want, "%s: %d byte by byte, not %d", what, r, want);
}

Test(h1_response, what_two_parsers_could_read_differently_is_refused)
{
	static const struct {
		const char      *rule, *rfc, *text;
		size_t           n;
		enum http_method asked;
		int32_t          error;
	} rows[] = {
		/* clang-format off */
		{ "both length and coding", "9112 6.3", S("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_GET, ERR(TE_CL) },
		{ "both, to HEAD", "9112 6.3", S("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_HEAD, ERR(TE_CL) },
		{ "two lengths", "9112 6.3", S("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"), HTTP_METHOD_GET, ERR(CONTENT_LENGTH) },
		{ "a list of lengths", "9112 6.3", S("HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n"), HTTP_METHOD_GET, ERR(CONTENT_LENGTH) },
		{ "a coding in 1.0", "9112 6.1", S("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_GET, ERR(TRANSFER_ENCODING) },
		{ "chunked twice", "9112 6.1", S("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_GET, ERR(TRANSFER_ENCODING) },
		{ "a coding unknown", "9112 7", S("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), HTTP_METHOD_GET, ERR(TRANSFER_CODING) },
		{ "a coding unknown, chunked last", "9112 7", S("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), HTTP_METHOD_GET, ERR(TRANSFER_CODING) },
		{ "a coding in 204", "9112 6.1", S("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_GET, ERR(TRANSFER_ENCODING) },
		{ "a coding in 1xx", "9112 6.1", S("HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_GET, ERR(TRANSFER_ENCODING) },
		{ "a length in 204", "9110 8.6", S("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n"), HTTP_METHOD_GET, ERR(CONTENT_LENGTH) },
		{ "obs-fold", "9112 5.2", S("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), HTTP_METHOD_GET, ERR(OBS_FOLD) },
		{ "bare LF after the status line", "9112 2.2", S("HTTP/1.1 200 OK\nA: b\r\n\r\n"), HTTP_METHOD_GET, ERR(BARE_LF) },
		{ "bare CR in the reason", "9112 2.2", S("HTTP/1.1 200 O\rK\r\n\r\n"), HTTP_METHOD_GET, ERR(BARE_CR) },
		{ "NUL in the reason", "9112 4", S("HTTP/1.1 200 O\0K\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		{ "space before the colon", "9112 5.1", S("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), HTTP_METHOD_GET, ERR(FIELD_NAME) },
		{ "a status of two digits", "9112 4", S("HTTP/1.1 20 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		{ "a status of four digits", "9112 4", S("HTTP/1.1 2000 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		{ "a status below 100", "9110 15", S("HTTP/1.1 099 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		{ "two spaces before the status", "9112 4", S("HTTP/1.1  200 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		{ "an empty line in front", "9112 2.2", S("\r\nHTTP/1.1 200 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		{ "HTTP/2", "9112 2.3", S("HTTP/2.0 200 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(VERSION) },
		{ "ICY", "9112 2.3", S("ICY 200 OK\r\n\r\n"), HTTP_METHOD_GET, ERR(STATUS) },
		/* clang-format on */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		every_split_says(rows[i].rule, rows[i].text, rows[i].n, rows[i].asked, rows[i].error);
}

Test(h1_response, the_body_follows_rfc_9112_6_3)
{
	static const struct {
		const char      *rule, *text;
		size_t           n;
		enum http_method asked;
		uint16_t         status;
		uint8_t          body;
		uint64_t         len;
		bool             keep_alive;
	} rows[] = {
		/* clang-format off */
		{ "rule 1: HEAD", S("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), HTTP_METHOD_HEAD, 200, HTTP_BODY_NONE, 9, true },
		{ "rule 1: HEAD with chunks", S("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_HEAD, 200, HTTP_BODY_NONE, 0, true },
		{ "rule 1: 304", S("HTTP/1.1 304 NM\r\nContent-Length: 9\r\n\r\n"), HTTP_METHOD_GET, 304, HTTP_BODY_NONE, 9, true },
		{ "rule 1: 204", S("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n"), HTTP_METHOD_GET, 204, HTTP_BODY_NONE, 0, true },
		{ "rule 1: 100", S("HTTP/1.1 100 Continue\r\n\r\n"), HTTP_METHOD_POST, 100, HTTP_BODY_NONE, 0, true },
		{ "101 is a tunnel", S("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), HTTP_METHOD_GET, 101, HTTP_BODY_TUNNEL, 0, true },
		{ "rule 2: 200 to CONNECT", S("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_CONNECT, 200, HTTP_BODY_TUNNEL, 0, true },
		{ "rule 2: 403 to CONNECT has a body", S("HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n"), HTTP_METHOD_CONNECT, 403, HTTP_BODY_LENGTH, 9, true },
		{ "rule 4: chunked", S("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_METHOD_GET, 200, HTTP_BODY_STREAM, 0, true },
		{ "rule 6: length", S("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), HTTP_METHOD_GET, 200, HTTP_BODY_LENGTH, 0, true },
		{ "rule 8: until close", S("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"), HTTP_METHOD_GET, 200, HTTP_BODY_CLOSE, 0, false },
		{ "1.0 closes", S("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n"), HTTP_METHOD_GET, 200, HTTP_BODY_LENGTH, 3, false },
		{ "1.0 stays when it says so", S("HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n"), HTTP_METHOD_GET, 200, HTTP_BODY_LENGTH, 3, true },
		{ "no reason", S("HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"), HTTP_METHOD_GET, 299, HTTP_BODY_LENGTH, 0, true },
		{ "no reason and no space", S("HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n"), HTTP_METHOD_GET, 999, HTTP_BODY_LENGTH, 0, true },
		/* clang-format on */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		every_split_says(rows[i].rule, rows[i].text, rows[i].n, rows[i].asked,
		                 (int32_t)rows[i].n);
		cr_assert_eq(head.status, rows[i].status, "%s", rows[i].rule);
		cr_assert_eq(head.body, rows[i].body, "%s", rows[i].rule);
		cr_assert_eq(head.body_len, rows[i].len, "%s", rows[i].rule);
		cr_assert_eq(head.keep_alive, rows[i].keep_alive, "%s", rows[i].rule);
	}
}

static int32_t trailers(const void *p, size_t n, struct h1_scan *scan)
{
	head.fields = fields;
	head.fields_max = HTTP_FIELDS_MAX;
	return h1_parse_trailers(scan, guarded(p, n), (uint32_t)n, &limits, &head);
}

Test(h1_trailers, fields_are_read_and_those_that_frame_or_route_are_refused)
{
	static const struct {
		const char *what, *text;
		size_t      n;
		int32_t     want; /* 0: all of it */
	} rows[] = {
		/* clang-format off */
		{ "two fields", S("grpc-status: 0\r\nX: y\r\n\r\n"), 0 },
		{ "none", S("\r\n"), 0 },
		{ "a length", S("Content-Length: 5\r\n\r\n"), ERR(TRAILER) },
		{ "a coding", S("Transfer-Encoding: chunked\r\n\r\n"), ERR(TRAILER) },
		{ "a host", S("Host: b\r\n\r\n"), ERR(TRAILER) },
		{ "connection", S("Connection: close\r\n\r\n"), ERR(TRAILER) },
		{ "credentials", S("X: y\r\nAuthorization: z\r\n\r\n"), ERR(TRAILER) },
		{ "obs-fold", S("X: y\r\n z\r\n\r\n"), ERR(OBS_FOLD) },
		{ "bare LF", S("X: y\n\r\n"), ERR(BARE_LF) },
		{ "bare CR", S("X: y\r\n\rZ: a\r\n\r\n"), ERR(BARE_CR) },
		/* clang-format on */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct h1_scan scan = { 0 };
		int32_t        want = rows[i].want == 0 ? (int32_t)rows[i].n : rows[i].want, r = 0;

		for (size_t have = 1; have <= rows[i].n && r == 0; have++)
			r = trailers(rows[i].text, have, &scan);
		cr_assert_eq(r, want, "%s: %d", rows[i].what, r);
		memset(&scan, 0, sizeof(scan));
		cr_assert_eq(trailers(rows[i].text, rows[i].n, &scan), want, "%s", rows[i].what);
	}
}

Test(h1_trailers, a_section_over_the_limit_is_refused)
{
	static char    text[5000];
	struct h1_scan scan = { 0 };

	memset(text, 'a', sizeof(text));
	memcpy(text, "X: ", 3);
	cr_assert_eq(trailers(text, 4095, &scan), 0);
	cr_assert_eq(trailers(text, 4096, &scan), ERR(HEAD_TOO_LARGE));
}
