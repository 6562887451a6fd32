#include <criterion/criterion.h>
#include <stdio.h>

#include "proto/h1.h"
#include "test_h1_guard.h"

#define S(literal) literal, sizeof(literal) - 1
#define ERR(id) -HTTP_E_##id
#define HOST "Host: a\r\n"

static const struct h1_limits limits = { .head_max = 8192, .target_max = 200 };
static struct http_field      fields[HTTP_FIELDS_MAX];
static struct http_head       head;

static int32_t parse(const void *p, size_t n, struct h1_scan *scan)
{
	head.fields = fields;
	head.fields_max = HTTP_FIELDS_MAX;
	return h1_parse_request(scan, guarded(p, n), (uint32_t)n, &limits, &head);
}

static int32_t parse_at_once(const char *s, size_t n)
{
	struct h1_scan scan = { 0 };

	return parse(s, n, &scan);
}

/* First cut bytes, then all; then one by one.  The answer must not depend on it. */
static void every_split_says(const char *what, const char *s, size_t n, int32_t want)
{
	struct h1_scan byte_wise = { 0 };
	int32_t        r = 0;

	for (size_t cut = 1; cut < n; cut++) {
		struct h1_scan scan = { 0 };

		r = parse(s, cut, &scan);
		if (r == 0)
			r = parse(s, n, &scan);
		cr_assert_eq(r, want, "%s: %d after a cut at %zu, not %d", what, r, cut, want);
	}
	r = 0;
	for (size_t have = 1; have <= n && r == 0; have++)
		r = parse(s, have, &byte_wise);
	cr_assert_eq(r, want, "%s: %d byte by byte, not %d", what, r, want);
}

static const struct {
	const char *rule, *rfc, *text;
	size_t      n;
	int32_t     error;
} refused[] = {
	/* clang-format off */
	{ "both length and coding", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR(TE_CL) },
	{ "both, other order", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), ERR(TE_CL) },
	{ "two lengths", "9112 6.3", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "the same length twice", "9112 6.3", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a list of lengths", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a length with a sign", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a negative length", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a length in hex", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "an empty length", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a length with a space in it", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 1 2\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a length of 2^63", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a length of 20 digits", "9110 8.6", S("POST / HTTP/1.1\r\n" HOST "Content-Length: 00000000000000000005\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "a coding in 1.0", "9112 6.1", S("POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "chunked twice", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "chunked in two fields", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "chunked not last", "9112 6.3", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "identity after chunked", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "no chunked at all", "9112 6.3", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "a coding unknown, chunked last", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"), ERR(TRANSFER_CODING) },
	{ "chunked with a parameter", "9112 7.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked;q=1\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "chunked misspelt", "9112 7", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "an empty coding", "9112 6.1", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "a coding after VT", "9110 5.5", S("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \vchunked\r\n\r\n"), ERR(FIELD_VALUE) },
	{ "obs-fold with a space", "9112 5.2", S("GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n"), ERR(OBS_FOLD) },
	{ "obs-fold with a tab", "9112 5.2", S("GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n"), ERR(OBS_FOLD) },
	{ "white space before the first field", "9112 2.2", S("GET / HTTP/1.1\r\n " HOST "\r\n"), ERR(OBS_FOLD) },
	{ "bare CR in a value", "9112 2.2", S("GET / HTTP/1.1\r\n" HOST "A: b\rc: d\r\n\r\n"), ERR(BARE_CR) },
	{ "bare CR at the end of the head", "9112 2.2", S("GET / HTTP/1.1\r\n" HOST "\rA: b\r\n\r\n"), ERR(BARE_CR) },
	{ "bare CR after the version", "9112 2.2", S("GET / HTTP/1.1\r" HOST "\r\n"), ERR(BARE_CR) },
	{ "bare LF after the request line", "9112 2.2", S("GET / HTTP/1.1\n" HOST "\r\n"), ERR(BARE_LF) },
	{ "bare LF after a field", "9112 2.2", S("GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n"), ERR(BARE_LF) },
	{ "bare LF ends the head", "9112 2.2", S("GET / HTTP/1.1\r\n" HOST "\n"), ERR(BARE_LF) },
	{ "bare LF in front", "9112 2.2", S("\nGET / HTTP/1.1\r\n" HOST "\r\n"), ERR(BARE_LF) },
	{ "LF in a name", "9112 2.2", S("GET / HTTP/1.1\r\n" HOST "A\nB: c\r\n\r\n"), ERR(BARE_LF) },
	{ "NUL in a value", "9110 5.5", S("GET / HTTP/1.1\r\n" HOST "A: b\0c\r\n\r\n"), ERR(FIELD_VALUE) },
	{ "NUL in a name", "9110 5.1", S("GET / HTTP/1.1\r\n" HOST "A\0: c\r\n\r\n"), ERR(FIELD_NAME) },
	{ "NUL in the target", "9112 3", S("GET /\0 HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "DEL in a value", "9110 5.5", S("GET / HTTP/1.1\r\n" HOST "A: b\x7f\r\n\r\n"), ERR(FIELD_VALUE) },
	{ "ESC in a value", "9110 5.5", S("GET / HTTP/1.1\r\n" HOST "A: \x1b[0m\r\n\r\n"), ERR(FIELD_VALUE) },
	{ "space before the colon", "9112 5.1", S("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), ERR(FIELD_NAME) },
	{ "tab before the colon", "9112 5.1", S("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"), ERR(FIELD_NAME) },
	{ "a line without a colon", "9112 5", S("GET / HTTP/1.1\r\n" HOST "novalue\r\n\r\n"), ERR(FIELD_NAME) },
	{ "a field without a name", "9110 5.1", S("GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n"), ERR(FIELD_NAME) },
	{ "a name with a separator", "9110 5.1", S("GET / HTTP/1.1\r\n" HOST "A(b): c\r\n\r\n"), ERR(FIELD_NAME) },
	{ "a name with a letter beyond ASCII", "9110 5.1", S("GET / HTTP/1.1\r\n" HOST "\xc3\xa4: c\r\n\r\n"), ERR(FIELD_NAME) },
	{ "no Host in 1.1", "9112 3.2", S("GET / HTTP/1.1\r\n\r\n"), ERR(HOST) },
	{ "two Hosts", "9112 3.2", S("GET / HTTP/1.1\r\n" HOST HOST "\r\n"), ERR(HOST) },
	{ "two Hosts in 1.0", "9112 3.2", S("GET / HTTP/1.0\r\n" HOST HOST "\r\n"), ERR(HOST) },
	{ "an empty Host", "9110 7.2", S("GET / HTTP/1.1\r\nHost:\r\n\r\n"), ERR(HOST) },
	{ "a list of Hosts", "9112 3.2", S("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), ERR(HOST) },
	{ "a Host with a path", "9110 7.2", S("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), ERR(HOST) },
	{ "a Host with a user", "9110 7.2", S("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), ERR(HOST) },
	{ "a Host with a bad port", "9110 7.2", S("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n"), ERR(HOST) },
	{ "Host differs from the target", "9112 3.2.2", S("GET http://b/ HTTP/1.1\r\n" HOST "\r\n"), ERR(HOST) },
	{ "Host's port differs from the target's", "9112 3.2.2", S("GET http://a:81/ HTTP/1.1\r\n" HOST "\r\n"), ERR(HOST) },
	{ "Host differs from a target without a path", "9112 3.2.2", S("GET http://b?x HTTP/1.1\r\n" HOST "\r\n"), ERR(HOST) },
	{ "no Host beside an absolute target", "9112 3.2", S("GET http://a/ HTTP/1.1\r\n\r\n"), ERR(HOST) },
	{ "Host differs from CONNECT", "9112 3.2.3", S("CONNECT b:443 HTTP/1.1\r\n" HOST "\r\n"), ERR(HOST) },
	{ "CONNECT without a port", "9110 9.3.6", S("CONNECT a HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "CONNECT with a path", "9112 3.2.3", S("CONNECT /x HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "CONNECT with a length", "9110 9.3.6", S("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 4\r\n\r\n"), ERR(CONTENT_LENGTH) },
	{ "CONNECT with chunks", "9110 9.3.6", S("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR(TRANSFER_ENCODING) },
	{ "an asterisk of GET", "9112 3.2.4", S("GET * HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "a target without a slash", "9112 3.2.1", S("GET a HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "a target of another scheme", "9110 4.2", S("GET file:///etc HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "a target with a user", "9110 4.2.4", S("GET http://u@a/ HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "a target without a host", "9110 4.2.1", S("GET http:///x HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "a fragment", "9112 3.2", S("GET /a#b HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "obs-text in the target", "9112 3.2", S("GET /\xff HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "two spaces before the target", "9112 3", S("GET  / HTTP/1.1\r\n" HOST "\r\n"), ERR(TARGET) },
	{ "two spaces before the version", "9112 3", S("GET /  HTTP/1.1\r\n" HOST "\r\n"), ERR(SYNTAX) },
	{ "a space after the version", "9112 3", S("GET / HTTP/1.1 \r\n" HOST "\r\n"), ERR(SYNTAX) },
	{ "a tab after the method", "9112 3", S("GET\t/ HTTP/1.1\r\n" HOST "\r\n"), ERR(METHOD) },
	{ "a space before the method", "9112 3", S(" GET / HTTP/1.1\r\n" HOST "\r\n"), ERR(METHOD) },
	{ "a method that is no token", "9110 9.1", S("G@T / HTTP/1.1\r\n" HOST "\r\n"), ERR(METHOD) },
	{ "a method of 33 bytes", "9110 9.1", S("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" HOST "\r\n"), ERR(METHOD) },
	{ "two empty lines in front", "9112 2.2", S("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"), ERR(METHOD) },
	{ "HTTP/0.9", "9112 3", S("GET /\r\n\r\n"), ERR(SYNTAX) },
	{ "HTTP/2.0", "9112 2.3", S("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ERR(TARGET) },
	{ "HTTP/1.2", "9112 2.3", S("GET / HTTP/1.2\r\n" HOST "\r\n"), ERR(VERSION) },
	{ "HTTP/3.1", "9112 2.3", S("GET / HTTP/3.1\r\n" HOST "\r\n"), ERR(VERSION) },
	{ "http/1.1", "9112 2.3", S("GET / http/1.1\r\n" HOST "\r\n"), ERR(SYNTAX) },
	{ "HTTP/1.10", "9112 2.3", S("GET / HTTP/1.10\r\n" HOST "\r\n"), ERR(SYNTAX) },
	{ "HTTP/11", "9112 2.3", S("GET / HTTP/11\r\n" HOST "\r\n"), ERR(SYNTAX) },
	{ "half a version", "9112 2.3", S("GET / HTTP\r\n\r\n"), ERR(SYNTAX) },
	{ "more than 32 connection options", "-", S("GET / HTTP/1.1\r\n" HOST "Connection: a,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,b\r\n\r\n"), ERR(FIELD_VALUE) },
	/* clang-format on */
};

Test(h1_request, what_two_parsers_could_read_differently_is_refused)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		int32_t r = parse_at_once(refused[i].text, refused[i].n);

		cr_expect_eq(r, refused[i].error, "%s (RFC %s): %d, not %d", refused[i].rule,
		             refused[i].rfc, r, refused[i].error);
	}
}

Test(h1_request, a_refusal_does_not_depend_on_how_the_bytes_were_cut)
{
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		every_split_says(refused[i].rule, refused[i].text, refused[i].n, refused[i].error);
}

static const struct {
	const char *what, *text;
	size_t      n;
	uint8_t     method, target, version, body;
	const char *authority, *path;
	uint64_t    body_len;
	bool        keep_alive, expect, upgrade, te;
	uint16_t    n_fields;
} good[] = {
	/* clang-format off */
	{ "the shortest", S("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/", 0, true, 0, 0, 0, 1 },
	{ "1.0 without Host", S("GET /x?y HTTP/1.0\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_0, HTTP_BODY_NONE, "", "/x?y", 0, false, 0, 0, 0, 0 },
	{ "1.0 that stays", S("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_0, HTTP_BODY_NONE, "", "/", 0, true, 0, 0, 0, 1 },
	{ "1.1 that closes", S("GET / HTTP/1.1\r\nhost:a\r\nconnection: x, CLOSE\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/", 0, false, 0, 0, 0, 2 },
	{ "close wins over keep-alive", S("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_0, HTTP_BODY_NONE, "", "/", 0, false, 0, 0, 0, 2 },
	{ "a length", S("POST /p HTTP/1.1\r\nHost: a:8080\r\nContent-Length:  007 \t\r\n\r\n"), HTTP_METHOD_POST, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_LENGTH, "a:8080", "/p", 7, true, 0, 0, 0, 2 },
	{ "the greatest length", S("PUT /p HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n"), HTTP_METHOD_PUT, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_LENGTH, "a", "/p", INT64_MAX, true, 0, 0, 0, 2 },
	{ "a length of 0 is a body", S("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), HTTP_METHOD_POST, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_LENGTH, "a", "/", 0, true, 0, 0, 0, 2 },
	{ "chunked, in capitals", S("POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: Chunked\r\n\r\n"), HTTP_METHOD_POST, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_STREAM, "a", "/", 0, true, 0, 0, 0, 2 },
	{ "expect", S("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n"), HTTP_METHOD_POST, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_LENGTH, "a", "/", 1, true, true, 0, 0, 3 },
	{ "1.0 expects nothing", S("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"), HTTP_METHOD_POST, HTTP_TARGET_ORIGIN, HTTP_1_0, HTTP_BODY_LENGTH, "", "/", 1, false, false, 0, 0, 2 },
	{ "upgrade", S("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/ws", 0, true, 0, true, 0, 3 },
	{ "upgrade without Connection", S("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/ws", 0, true, 0, false, 0, 2 },
	{ "h2c is not offered", S("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/", 0, true, 0, false, 0, 4 },
	{ "trailers wanted", S("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/", 0, true, 0, 0, true, 3 },
	{ "absolute", S("GET http://A.example:81/x HTTP/1.1\r\nHost: a.EXAMPLE:81\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ABSOLUTE, HTTP_1_1, HTTP_BODY_NONE, "A.example:81", "/x", 0, true, 0, 0, 0, 1 },
	{ "absolute without a path", S("GET HTTPS://a HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ABSOLUTE, HTTP_1_1, HTTP_BODY_NONE, "a", "/", 0, true, 0, 0, 0, 1 },
	{ "absolute, a query and no path", S("GET http://a?x=/1 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ABSOLUTE, HTTP_1_1, HTTP_BODY_NONE, "a", "?x=/1", 0, true, 0, 0, 0, 1 },
	{ "absolute of OPTIONS, a query and no path", S("OPTIONS http://a:8? HTTP/1.1\r\nHost: a:8\r\n\r\n"), HTTP_METHOD_OPTIONS, HTTP_TARGET_ABSOLUTE, HTTP_1_1, HTTP_BODY_NONE, "a:8", "?", 0, true, 0, 0, 0, 1 },
	{ "absolute of OPTIONS", S("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_OPTIONS, HTTP_TARGET_ABSOLUTE, HTTP_1_1, HTTP_BODY_NONE, "a", "*", 0, true, 0, 0, 0, 1 },
	{ "asterisk", S("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_OPTIONS, HTTP_TARGET_ASTERISK, HTTP_1_1, HTTP_BODY_NONE, "a", "*", 0, true, 0, 0, 0, 1 },
	{ "authority", S("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"), HTTP_METHOD_CONNECT, HTTP_TARGET_AUTHORITY, HTTP_1_1, HTTP_BODY_NONE, "[::1]:443", "", 0, true, 0, 0, 0, 1 },
	{ "authority, Host without its port", S("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_CONNECT, HTTP_TARGET_AUTHORITY, HTTP_1_1, HTTP_BODY_NONE, "a:443", "", 0, true, 0, 0, 0, 1 },
	{ "an empty line in front", S("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP_METHOD_GET, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "/", 0, true, 0, 0, 0, 1 },
	{ "a method of one's own", S("PROPFIND //a|b HTTP/1.1\r\nHost: a\r\nEmpty:\r\nObs: \xe4\xff\r\n\r\n"), HTTP_METHOD_OTHER, HTTP_TARGET_ORIGIN, HTTP_1_1, HTTP_BODY_NONE, "a", "//a|b", 0, true, 0, 0, 0, 3 },
	/* clang-format on */
};

static void check_good(size_t i, int32_t r)
{
	const char *what = good[i].what;

	cr_assert_eq(r, (int32_t)good[i].n, "%s: %d", what, r);
	cr_assert_eq(head.method, good[i].method, "%s", what);
	cr_assert_eq(head.target, good[i].target, "%s", what);
	cr_assert_eq(head.version, good[i].version, "%s", what);
	cr_assert_eq(head.body, good[i].body, "%s", what);
	cr_assert_eq(head.body_len, good[i].body_len, "%s", what);
	cr_assert(http_str_is(head.authority, good[i].authority), "%s", what);
	cr_assert(http_str_is(head.path, good[i].path), "%s", what);
	cr_assert_eq(head.keep_alive, good[i].keep_alive, "%s", what);
	cr_assert_eq(head.expect_continue, good[i].expect, "%s", what);
	cr_assert_eq(head.upgrade, good[i].upgrade, "%s", what);
	cr_assert_eq(head.te_trailers, good[i].te, "%s", what);
	cr_assert_eq(head.n_fields, good[i].n_fields, "%s", what);
	cr_assert_eq(head.status, 0);
}

Test(h1_request, what_is_well_formed_is_understood)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		check_good(i, parse_at_once(good[i].text, good[i].n));
}

Test(h1_request, every_split_is_understood_alike)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		for (size_t cut = 1; cut < good[i].n; cut++) {
			struct h1_scan scan = { 0 };

			cr_assert_eq(parse(good[i].text, cut, &scan), 0, "%s at %zu", good[i].what, cut);
			check_good(i, parse(good[i].text, good[i].n, &scan));
		}
		every_split_says(good[i].what, good[i].text, good[i].n, (int32_t)good[i].n);
	}
}

Test(h1_request, what_follows_the_head_is_left_alone)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n\n\0GARBAGE\r\r\n";

	cr_assert_eq(parse_at_once(S(text)), 27);
}

Test(h1_request, a_value_loses_its_surrounding_white_space_only)
{
	cr_assert_gt(parse_at_once(S("GET / HTTP/1.1\r\nHost: a\r\nX: \t a \t b\t \r\n\r\n")), 0);
	cr_assert_eq(fields[1].value_len, 5);
	cr_assert_eq(memcmp(fields[1].value, "a \t b", 5), 0);
	cr_assert_eq(fields[1].id, HTTP_FIELD_OTHER);
}

static bool dropped(const char *name)
{
	for (unsigned i = 0; i < head.n_fields; i++)
		if (strlen(name) == fields[i].name_len &&
		    memcmp(name, fields[i].name, fields[i].name_len) == 0)
			return fields[i].flags & HTTP_FIELD_DROP;
	cr_assert_fail("no field %s", name);
	return false;
}

Test(h1_request, connection_drops_what_it_lists_but_no_end_to_end_field_we_know)
{
	cr_assert_gt(parse_at_once(S("GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nX-End: 2\r\n"
	                             "Authorization: 3\r\nKeep-Alive: 4\r\nX-Late: 5\r\n"
	                             "Content-Length: 0\r\nConnection: x-HOP, host, authorization\r\n"
	                             "Connection: content-length, x-late\r\n\r\n")), 0);
	cr_assert(dropped("X-Hop"));
	cr_assert(dropped("X-Late"));
	cr_assert(dropped("Keep-Alive"));
	cr_assert(dropped("Connection"));
	cr_assert_not(dropped("X-End"));
	cr_assert_not(dropped("Host"));
	cr_assert_not(dropped("Authorization"));
	cr_assert_not(dropped("Content-Length"));
	cr_assert(http_head_find(&head, HTTP_FIELD_AUTHORIZATION)->flags & HTTP_FIELD_SECRET);
}

/* "GET /aaa HTTP/1.1" with a target of that many bytes */
static size_t long_target(char *out, size_t target)
{
	size_t n = (size_t)sprintf(out, "GET /");

	memset(out + n, 'a', target - 1);
	n += target - 1;
	return n + (size_t)sprintf(out + n, " HTTP/1.1\r\nHost: a\r\n\r\n");
}

Test(h1_request, a_target_of_the_limit_passes_and_one_byte_more_is_414)
{
	char   text[512];
	size_t n = long_target(text, limits.target_max);

	every_split_says("target at the limit", text, n, (int32_t)n);
	n = long_target(text, limits.target_max + 1);
	every_split_says("target over the limit", text, n, ERR(TARGET_TOO_LONG));
	cr_assert_eq(http_error_status(HTTP_E_TARGET_TOO_LONG), 414);
}

static size_t long_head(char *out, size_t total)
{
	size_t n = (size_t)sprintf(out, "GET / HTTP/1.1\r\nHost: a\r\nX: ");

	memset(out + n, 'b', total - n - 4);
	memcpy(out + total - 4, "\r\n\r\n", 4);
	return total;
}

Test(h1_request, a_head_of_the_limit_passes_and_one_byte_more_is_431)
{
	static char text[16384];
	size_t      n = long_head(text, limits.head_max);

	cr_assert_eq(parse_at_once(text, n), (int32_t)n);
	cr_assert_eq(parse_at_once(text, n - 1), 0);
	n = long_head(text, limits.head_max + 1);
	cr_assert_eq(parse_at_once(text, n), ERR(HEAD_TOO_LARGE));
	cr_assert_eq(parse_at_once(text, limits.head_max), ERR(HEAD_TOO_LARGE));
	for (size_t step = 1; step < 9000; step = step * 3 + 1) {
		struct h1_scan scan = { 0 };
		int32_t        r = 0;

		for (size_t have = step; r == 0; have = have + step < n ? have + step : n)
			r = parse(text, have, &scan);
		cr_assert_eq(r, ERR(HEAD_TOO_LARGE), "in steps of %zu: %d", step, r);
	}
	cr_assert_eq(http_error_status(HTTP_E_HEAD_TOO_LARGE), 431);
}

Test(h1_request, one_field_more_than_the_array_is_431)
{
	static char text[4096];
	size_t      n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: a\r\n");

	for (int i = 1; i < HTTP_FIELDS_MAX; i++)
		n += (size_t)sprintf(text + n, "X: %d\r\n", i);
	memcpy(text + n, "\r\n", 2);
	cr_assert_eq(parse_at_once(text, n + 2), (int32_t)n + 2);
	cr_assert_eq(head.n_fields, HTTP_FIELDS_MAX);
	memcpy(text + n, "Y:\r\n\r\n", 6);
	cr_assert_eq(parse_at_once(text, n + 6), ERR(FIELDS_TOO_MANY));
}

Test(h1_request, a_bare_lf_is_told_with_its_byte_not_with_the_end_of_the_head)
{
	static const char text[] = "GET /a-path HTTP/1.1\r\nHost: a\r\nAccept: some/thing\n";
	struct h1_scan    scan = { 0 };

	cr_assert_eq(parse(text, 40, &scan), 0);
	for (size_t have = 41; have < sizeof(text) - 1; have++)
		cr_assert_eq(parse(text, have, &scan), 0);
	cr_assert_eq(parse(S(text), &scan), ERR(BARE_LF));
}

Test(h1_request, a_slow_head_is_not_parsed_again_for_every_byte)
{
	static char    text[8192];
	size_t         n = long_head(text, 8000);
	struct h1_scan scan = { 0 };
	unsigned       parses = 0;

	for (size_t have = 1; have <= n; have++) {
		uint32_t before = scan.parsed;

		parse(text, have, &scan);
		parses += scan.parsed != before;
	}
	cr_assert_leq(parses, 14, "%u parses of %zu bytes", parses, n);
}

Test(h1_request, random_bytes_never_read_behind_the_input)
{
	static const char alphabet[] = "GET / HTTP/1.1\r\n:aA\0\t,\x80";
	uint32_t          seed = 1;

	for (int round = 0; round < 200000; round++) {
		char           text[64];
		size_t         n = 1 + seed % sizeof(text), base = (size_t)round % 28;
		struct h1_scan scan = { 0 };

		memcpy(text, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 28);
		for (size_t i = base; i < n; i++) {
			seed = seed * 1664525 + 1013904223;
			text[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
		}
		int32_t r = parse(text, n, &scan);
		cr_assert(r <= (int32_t)n && r > -HTTP_ERROR_COUNT);
		seed += 7;
	}
}
