/*
 * tests/proto/test_h2_strict.c - what the HTTP/2 codec refuses: malformed messages, limits, floods.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/proto/h2_peer.h"

/* --- requests that must not reach anybody --- */

#define GOOD_PSEUDO \
	{ ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a.test" }

struct text_field {
	const char *name, *value;
};

static const struct {
	const char       *says;
	struct text_field f[8];
	bool              delivered;
} requests[] = {
	/* clang-format off */
	{ "the good one", { GOOD_PSEUDO, { "x-a", "b" } }, true },
	{ "an empty value is fine", { GOOD_PSEUDO, { "x-a", "" } }, true },
	{ "bytes above 127 in a value are fine", { GOOD_PSEUDO, { "x-a", "\xc3\xa4" } }, true },
	{ "te: trailers is allowed", { GOOD_PSEUDO, { "te", "trailers" } }, true },
	{ "Host that agrees, in other letters", { GOOD_PSEUDO, { "host", "A.Test" } }, true },
	{ "asterisk with OPTIONS", { { ":method", "OPTIONS" }, { ":scheme", "http" }, { ":path", "*" }, { ":authority", "a" } }, true },
	{ "a method of its own", { { ":method", "PURGE" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, true },
	{ "IPv6 authority", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "[::1]:80" } }, true },

	{ "CR LF in a value", { GOOD_PSEUDO, { "x-a", "b\r\nx-evil: 1" } }, false },
	{ "CR in a value", { GOOD_PSEUDO, { "x-a", "b\rc" } }, false },
	{ "LF in a value", { GOOD_PSEUDO, { "x-a", "b\nc" } }, false },
	{ "control byte in a value", { GOOD_PSEUDO, { "x-a", "b\001c" } }, false },
	{ "DEL in a value", { GOOD_PSEUDO, { "x-a", "b\177c" } }, false },
	{ "space in front of a value", { GOOD_PSEUDO, { "x-a", " b" } }, false },
	{ "tab behind a value", { GOOD_PSEUDO, { "x-a", "b\t" } }, false },
	{ "upper case in a name", { GOOD_PSEUDO, { "X-a", "b" } }, false },
	{ "space in a name", { GOOD_PSEUDO, { "x a", "b" } }, false },
	{ "colon in a name", { GOOD_PSEUDO, { "x:a", "b" } }, false },
	{ "CR LF in a name", { GOOD_PSEUDO, { "x\r\nevil", "b" } }, false },
	{ "an empty name", { GOOD_PSEUDO, { "", "b" } }, false },
	{ "a name above 127", { GOOD_PSEUDO, { "x-\xc3", "b" } }, false },

	{ "space in the method", { { ":method", "GET /x" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "CR LF in the method", { { ":method", "GET\r\n" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "an empty method", { { ":method", "" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "space in the path", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/ HTTP/1.1" }, { ":authority", "a" } }, false },
	{ "CR LF in the path", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/\r\nhost: x" }, { ":authority", "a" } }, false },
	{ "a fragment in the path", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/a#b" }, { ":authority", "a" } }, false },
	{ "an empty path", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "" }, { ":authority", "a" } }, false },
	{ "a path without slash", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "a" }, { ":authority", "a" } }, false },
	{ "an absolute path", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "http://b/" }, { ":authority", "a" } }, false },
	{ "asterisk with GET", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "*" }, { ":authority", "a" } }, false },
	{ "userinfo in the authority", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "u@a" } }, false },
	{ "CR LF in the authority", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a\r\nx: y" } }, false },
	{ "slash in the authority", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a/b" } }, false },
	{ "two hosts in the authority", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a,b" } }, false },
	{ "an empty authority", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "" } }, false },
	{ "no authority at all", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" } }, false },
	{ "CR LF in the scheme", { { ":method", "GET" }, { ":scheme", "http\r\n" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "slash in the scheme", { { ":method", "GET" }, { ":scheme", "http://b/" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "Host that differs", { GOOD_PSEUDO, { "host", "b.test" } }, false },
	{ "two Hosts", { GOOD_PSEUDO, { "host", "a.test" }, { "host", "a.test" } }, false },
	{ "Host with a path", { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { "host", "a/b" } }, false },

	{ "no method", { { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "no scheme", { { ":method", "GET" }, { ":path", "/" }, { ":authority", "a" } }, false },
	{ "no path", { { ":method", "GET" }, { ":scheme", "http" }, { ":authority", "a" } }, false },
	{ "two paths", { GOOD_PSEUDO, { ":path", "/b" } }, false },
	{ "two methods", { GOOD_PSEUDO, { ":method", "PUT" } }, false },
	{ "a status in a request", { GOOD_PSEUDO, { ":status", "200" } }, false },
	{ "an unknown pseudo field", { GOOD_PSEUDO, { ":x", "1" } }, false },
	{ "extended CONNECT was not offered", { { ":method", "CONNECT" }, { ":scheme", "http" }, { ":path", "/" }, { ":authority", "a" }, { ":protocol", "websocket" } }, false },
	{ "a pseudo field behind a regular one", { { ":method", "GET" }, { ":scheme", "http" }, { "x-a", "b" }, { ":path", "/" } }, false },

	{ "Connection", { GOOD_PSEUDO, { "connection", "close" } }, false },
	{ "Keep-Alive", { GOOD_PSEUDO, { "keep-alive", "1" } }, false },
	{ "Proxy-Connection", { GOOD_PSEUDO, { "proxy-connection", "x" } }, false },
	{ "Transfer-Encoding", { GOOD_PSEUDO, { "transfer-encoding", "chunked" } }, false },
	{ "Upgrade", { GOOD_PSEUDO, { "upgrade", "h2c" } }, false },
	{ "TE other than trailers", { GOOD_PSEUDO, { "te", "gzip" } }, false },
	{ "TE trailers and more", { GOOD_PSEUDO, { "te", "trailers, gzip" } }, false },

	{ "a Content-Length that is none", { GOOD_PSEUDO, { "content-length", "1x" } }, false },
	{ "a signed Content-Length", { GOOD_PSEUDO, { "content-length", "+0" } }, false },
	{ "an empty Content-Length", { GOOD_PSEUDO, { "content-length", "" } }, false },
	{ "two Content-Lengths", { GOOD_PSEUDO, { "content-length", "0" }, { "content-length", "0" } }, false },
	{ "a list of Content-Lengths", { GOOD_PSEUDO, { "content-length", "0, 0" } }, false },
	{ "a Content-Length beyond 64 bits", { GOOD_PSEUDO, { "content-length", "18446744073709551616" } }, false },
	{ "a Content-Length without a body", { GOOD_PSEUDO, { "content-length", "5" } }, false },
	/* clang-format on */
};

static size_t fields_of(const struct text_field *f, nghttp2_nv *out)
{
	size_t n = 0;

	for (; n < 8 && f[n].name; n++)
		out[n] = nv(f[n].name, f[n].value);
	return n;
}

Test(h2_strict, a_malformed_request_resets_its_stream_and_no_other)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct peer   *s = peer_new(true);
		struct raw    *r = raw_new();
		nghttp2_nv     f[8];
		const uint8_t *rst;

		raw_preface(r);
		raw_headers(r, 1, f, fields_of(requests[i].f, f), true);
		raw_get(r, 3, true);
		raw_give(r, s);
		peer_pump(s);
		cr_assert_eq(s->feed_err, 0, "%s", requests[i].says);
		rst = sent_frame(s, NGHTTP2_RST_STREAM, 1, NULL);
		if (requests[i].delivered) {
			cr_assert_eq(s->streams[0].heads, 1, "%s", requests[i].says);
			cr_assert_null(rst, "%s", requests[i].says);
		} else {
			cr_assert_eq(s->streams[0].heads, 0, "%s", requests[i].says);
			cr_assert_not_null(rst, "%s", requests[i].says);
			cr_assert_eq(u32_at(rst), H2_PROTOCOL_ERROR, "%s", requests[i].says);
			cr_assert(s->streams[0].closed, "%s", requests[i].says);
			cr_assert_eq(s->streams[0].why, H2_CLOSE_MALFORMED, "%s", requests[i].says);
			cr_assert_neq(s->streams[0].s.http_error, HTTP_OK);
		}
		cr_assert_eq(s->streams[1].heads, 1, "the next stream after: %s", requests[i].says);
		raw_free(r);
		peer_free(s);
	}
}

Test(h2_strict, a_zero_byte_is_refused_in_names_and_values)
{
	for (int where = 0; where < 5; where++) {
		struct peer *s = peer_new(true);
		struct raw  *r = raw_new();
		nghttp2_nv   f[] = { nv(":method", "GET"), nv(":scheme", "http"), nv(":path", "/xy"),
			             nv(":authority", "a.b"), nv("x-a", "b c") };
		char         value[8];

		snprintf(value, sizeof(value), "%s", (char *)f[where].value);
		value[1] = '\0';
		f[where].value = (uint8_t *)value;
		raw_preface(r);
		raw_headers(r, 1, f, 5, true);
		raw_give(r, s);
		peer_pump(s);
		cr_assert_eq(s->streams[0].heads, 0, "field %d", where);
		cr_assert_eq(s->streams[0].why, H2_CLOSE_MALFORMED);
		raw_free(r);
		peer_free(s);
	}
}

/* --- bodies --- */

static const struct {
	const char *says;
	const char *length;
	uint32_t    sent;
	bool        ok;
} lengths[] = {
	{ "exactly", "10", 10, true },
	{ "one short", "10", 9, false },
	{ "one too many", "10", 11, false },
	{ "none of it", "10", 0, false },
	{ "zero and nothing", "0", 0, true },
};

Test(h2_strict, a_body_has_the_length_it_promised)
{
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct peer *s = peer_new(true);
		struct raw  *r = raw_new();
		nghttp2_nv   f[] = { nv(":method", "POST"), nv(":scheme", "http"), nv(":path", "/"),
			             nv(":authority", "a"), nv("content-length", lengths[i].length) };
		uint8_t      body[16];

		for (unsigned k = 0; k < sizeof(body); k++)
			body[k] = pattern(1, k);
		raw_preface(r);
		raw_headers(r, 1, f, 5, false);
		raw_frame(r, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, body, lengths[i].sent);
		raw_give(r, s);
		peer_pump(s);
		cr_assert_eq(s->streams[0].heads, 1);
		cr_assert_eq(s->streams[0].ends, lengths[i].ok ? 1 : 0, "%s", lengths[i].says);
		cr_assert(!s->bad_body);
		if (!lengths[i].ok) {
			cr_assert_eq(s->streams[0].why, H2_CLOSE_MALFORMED, "%s", lengths[i].says);
			cr_assert_eq(s->streams[0].s.http_error, HTTP_E_LENGTH_MISMATCH, "%s: %d", lengths[i].says,
			             s->streams[0].s.http_error);
		}
		raw_free(r);
		peer_free(s);
	}
}

static const struct {
	const char       *says;
	struct text_field f[2];
	bool              ok, end;
} trailers[] = {
	{ "a harmless one", { { "x-sum", "1" } }, true, true },
	{ "without the end of the stream", { { "x-sum", "1" } }, false, false },
	{ "a pseudo field", { { ":path", "/" } }, false, true },
	{ "a status", { { ":status", "200" } }, false, true },
	{ "Content-Length", { { "content-length", "0" } }, false, true },
	{ "Host", { { "host", "b" } }, false, true },
	{ "Transfer-Encoding", { { "transfer-encoding", "chunked" } }, false, true },
	{ "CR LF in a value", { { "x-sum", "1\r\n" } }, false, true },
};

Test(h2_strict, trailers_are_as_strict_as_heads)
{
	for (size_t i = 0; i < sizeof(trailers) / sizeof(trailers[0]); i++) {
		struct peer *s = peer_new(true);
		struct raw  *r = raw_new();
		nghttp2_nv   f[8];
		size_t       n = 0;

		raw_preface(r);
		raw_get(r, 1, false);
		for (; n < 2 && trailers[i].f[n].name; n++)
			f[n] = nv(trailers[i].f[n].name, trailers[i].f[n].value);
		raw_headers(r, 1, f, n, trailers[i].end);
		raw_give(r, s);
		peer_pump(s);
		cr_assert_eq(s->streams[0].ends, trailers[i].ok ? 1 : 0, "%s", trailers[i].says);
		if (!trailers[i].ok)
			cr_assert_eq(s->streams[0].why, H2_CLOSE_MALFORMED, "%s", trailers[i].says);
		raw_free(r);
		peer_free(s);
	}
}

/* --- responses, as a client --- */

static const struct {
	const char       *says;
	struct text_field f[8];
	bool              delivered;
} responses[] = {
	{ "the good one", { { ":status", "200" }, { "x-a", "b" } }, true },
	{ "no status", { { "x-a", "b" } }, false },
	{ "two statuses", { { ":status", "200" }, { ":status", "200" } }, false },
	{ "a status of letters", { { ":status", "2oo" } }, false },
	{ "a status too long", { { ":status", "2000" } }, false },
	{ "a status too small", { { ":status", "099" } }, false },
	{ "a status of nobody's", { { ":status", "799" } }, true },
	{ "switching protocols", { { ":status", "101" } }, false },
	{ "an interim head that ends", { { ":status", "103" } }, false },
	{ "a path in a response", { { ":status", "200" }, { ":path", "/" } }, false },
	{ "Connection", { { ":status", "200" }, { "connection", "close" } }, false },
	{ "Transfer-Encoding", { { ":status", "200" }, { "transfer-encoding", "chunked" } }, false },
	{ "CR LF in a value", { { ":status", "200" }, { "x-a", "b\r\nset-cookie: c" } }, false },
	{ "a length without a body", { { ":status", "200" }, { "content-length", "1" } }, false },
	{ "two lengths", { { ":status", "200" }, { "content-length", "0" }, { "content-length", "0" } }, false },
};

Test(h2_strict, a_malformed_response_is_never_seen)
{
	for (size_t i = 0; i < sizeof(responses) / sizeof(responses[0]); i++) {
		struct peer    *c = peer_new(false);
		struct raw     *r = raw_new();
		struct pstream *ps = peer_stream(c);
		struct head_of  q = request("GET", "/");
		nghttp2_nv      f[8];

		cr_assert_eq(h2_request(&c->h, &ps->s, &q.h, true), 0);
		peer_pump(c);
		raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
		raw_headers(r, 1, f, fields_of(responses[i].f, f), true);
		raw_give(r, c);
		peer_pump(c);
		cr_assert_eq(ps->heads, responses[i].delivered ? 1 : 0, "%s", responses[i].says);
		cr_assert_eq(ps->interims, 0, "%s", responses[i].says);
		cr_assert(ps->closed, "%s", responses[i].says);
		cr_assert_eq(ps->why, responses[i].delivered ? H2_CLOSE_DONE : H2_CLOSE_MALFORMED, "%s",
		             responses[i].says);
		raw_free(r);
		peer_free(c);
	}
}

Test(h2_strict, a_server_cannot_push)
{
	struct peer *c = peer_new(false);
	struct raw  *r = raw_new();
	uint8_t      push[4] = { 0, 0, 0, 2 };

	raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
	raw_frame(r, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, push, 4);
	raw_give(r, c);
	peer_pump(c);
	cr_assert(h2_over(&c->h));
	cr_assert_eq(c->h.goaway_code, H2_PROTOCOL_ERROR);
	cr_assert_str_eq(h2_failure(&c->h), "HTTP/2 protocol error");
	raw_free(r);
	peer_free(c);
}

/* --- limits --- */

static const struct {
	const char *says;
	uint32_t    path, fields, value;
	const char *status;
} sizes[] = {
	{ "a path of exactly the limit", 8192, 0, 0, NULL },
	{ "a path one longer", 8193, 0, 0, "414" },
	{ "as many fields as fit", 1, 128, 1, NULL },
	{ "one field too many", 1, 129, 1, "431" },
	{ "a head that is too large", 1, 3, 7000, "431" },
};

Test(h2_strict, a_request_that_is_too_large_gets_an_answer)
{
	static char path[9000], value[9000];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int end = 0; end < 2; end++) {
			struct peer         *s = peer_new(true);
			struct raw          *r = raw_new();
			nghttp2_nv           f[140];
			size_t               n = 0;
			const uint8_t       *block;
			size_t               len;
			nghttp2_hd_inflater *hd;
			nghttp2_nv           got;
			int                  flags;

			memset(path, 'a', sizeof(path));
			path[0] = '/';
			path[sizes[i].path] = '\0';
			memset(value, 'a', sizeof(value));
			value[sizes[i].value] = '\0';
			f[n++] = nv(":method", "GET");
			f[n++] = nv(":scheme", "http");
			f[n++] = nv(":path", path);
			f[n++] = nv(":authority", "a");
			for (uint32_t k = 0; k < sizes[i].fields; k++)
				f[n++] = nv("x", value);
			raw_preface(r);
			raw_headers(r, 1, f, n, end);
			raw_get(r, 3, true);
			raw_give(r, s);
			peer_pump(s);
			cr_assert_eq(s->streams[0].heads, sizes[i].status ? 0 : 1, "%s", sizes[i].says);
			cr_assert_eq(s->streams[1].heads, 1);
			if (sizes[i].status) {
				block = sent_frame(s, NGHTTP2_HEADERS, 1, &len);
				cr_assert_not_null(block, "%s", sizes[i].says);
				nghttp2_hd_inflate_new(&hd);
				nghttp2_hd_inflate_hd2(hd, &got, &flags, block, len, 1);
				cr_assert(memcmp(got.value, sizes[i].status, 3) == 0, "%s", sizes[i].says);
				nghttp2_hd_inflate_del(hd);
				cr_assert_eq(sent_frame(s, NGHTTP2_RST_STREAM, 1, NULL) != NULL, !end);
				cr_assert_eq(s->streams[0].why, H2_CLOSE_LOCAL);
			}
			raw_free(r);
			peer_free(s);
		}
	}
}

Test(h2_strict, what_could_split_a_head_is_not_sent)
{
	struct peer   *c = peer_new(false);
	struct head_of good = request("GET", "/"), bad;
	char           big[40000];

	for (int i = 0; i < 11; i++) {
		struct pstream *ps = peer_stream(c);
		int             want = -EINVAL;

		bad = good;
		if (i == 0)
			add(&bad, "x-a", "b\r\nc: d");
		else if (i == 1)
			add(&bad, "x a", "b");
		else if (i == 2)
			add(&bad, "x:a", "b");
		else if (i == 3)
			add(&bad, "x", "b")->name_len = 0;
		else if (i == 4)
			bad.h.path = HTTP_STR("/ HTTP/1.1");
		else if (i == 5)
			bad.h.path = HTTP_STR("");
		else if (i == 6)
			bad.h.authority = HTTP_STR("a b");
		else if (i == 7)
			bad.h.method_text = HTTP_STR("GE T");
		else if (i == 8)
			bad.h.scheme = HTTP_STR("ht:tp");
		else if (i == 9)
			bad.h.path = (struct http_str){ "/a\0b", 4 };
		else {
			memset(big, 'b', sizeof(big));
			big[sizeof(big) - 1] = '\0';
			add(&bad, "x-a", big);
			add(&bad, "x-b", big);
			want = -E2BIG;
		}
		cr_assert_eq(h2_request(&c->h, &ps->s, &bad.h, true), want, "case %d", i);
		cr_assert(!ps->s.attached);
	}
	peer_free(c);
}

/* --- floods --- */

static void flood_ping(struct raw *r, uint32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_PING, 0, 0, "01234567", 8);
}

static void flood_settings(struct raw *r, uint32_t i)
{
	(void)i;
	raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

static void flood_priority(struct raw *r, uint32_t i)
{
	uint8_t p[5] = { 0, 0, 0, 0, 7 };

	raw_frame(r, NGHTTP2_PRIORITY, 0, 2 * i + 1, p, 5);
}

static void flood_window(struct raw *r, uint32_t i)
{
	uint8_t p[4] = { 0, 0, 0, 1 };

	(void)i;
	raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 0, p, 4);
}

static void flood_empty_data(struct raw *r, uint32_t i)
{
	if (i == 0)
		raw_get(r, 1, false);
	raw_frame(r, NGHTTP2_DATA, 0, 1, NULL, 0);
}

static void flood_padding(struct raw *r, uint32_t i)
{
	uint8_t p[4] = { 3, 0, 0, 0 };

	if (i == 0)
		raw_get(r, 1, false);
	raw_frame(r, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, p, 4);
}

static void flood_rapid_reset(struct raw *r, uint32_t i)
{
	uint8_t p[4] = { 0, 0, 0, 8 };

	raw_get(r, 2 * i + 1, true);
	raw_frame(r, NGHTTP2_RST_STREAM, 0, 2 * i + 1, p, 4);
}

static void flood_made_reset(struct raw *r, uint32_t i)
{
	uint8_t p[4] = { 0x7f, 0xff, 0xff, 0xff }; /* beyond 2^31-1 is a stream error: we have to reset */

	raw_get(r, 2 * i + 1, true);
	raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 2 * i + 1, p, 4);
}

static void flood_malformed(struct raw *r, uint32_t i)
{
	nghttp2_nv f[] = { nv(":method", "GET"), nv(":scheme", "http"), nv(":path", "x"),
		           nv(":authority", "a") };

	raw_headers(r, 2 * i + 1, f, 4, true);
}

/* A window that is opened byte by byte: we would send frames of one byte for ever. */
static void flood_dribble(struct raw *r, uint32_t i)
{
	uint8_t p[4] = { 0, 0, 0, 1 }, tiny[6] = { 0, 4, 0, 0, 0, 1 };

	if (i == 0) {
		raw_frame(r, NGHTTP2_SETTINGS, 0, 0, tiny, 6);
		raw_get(r, 1, true);
	}
	raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 1, p, 4);
}

static void answer_much(struct pstream *ps, bool end)
{
	struct head_of o = response(200);

	(void)end;
	if (h2_response(&ps->peer->h, &ps->s, &o.h, false) == 0)
		h2_body(&ps->peer->h, &ps->s, 1 << 30);
}

static const struct {
	const char *says;
	void (*add)(struct raw *r, uint32_t i);
	uint32_t enough;
} floods[] = {
	{ "ping", flood_ping, 1001 },
	{ "settings", flood_settings, 201 },
	{ "priority", flood_priority, 2001 },
	{ "window update", flood_window, 2001 },
	{ "empty data", flood_empty_data, 1001 },
	{ "data of padding alone", flood_padding, 1001 },
	{ "rapid reset", flood_rapid_reset, 1001 },
	{ "made you reset", flood_made_reset, 1001 },
	{ "malformed requests", flood_malformed, 1001 },
	{ "a window opened byte by byte", flood_dribble, 2001 },
};

/* Streams come and go: forget those that are closed, as a connection would. */
static void forget_closed(struct peer *p)
{
	while (p->n_streams > 0 && !p->streams[p->n_streams - 1].s.attached) {
		struct pstream *ps = &p->streams[--p->n_streams];

		free(ps->mem[0]);
		free(ps->mem[1]);
		memset(ps, 0, sizeof(*ps));
	}
}

Test(h2_strict, a_flood_ends_with_enhance_your_calm)
{
	for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
		struct peer   *s = peer_new(true);
		struct raw    *r = raw_new();
		const uint8_t *goaway = NULL;
		uint32_t       n;

		if (floods[i].add == flood_dribble)
			s->on_head = answer_much;
		raw_preface(r);
		for (n = 0; n < floods[i].enough && !goaway; n++) {
			floods[i].add(r, n);
			raw_give(r, s);
			peer_pump(s);
			goaway = sent_frame(s, NGHTTP2_GOAWAY, 0, NULL);
			s->n_out = 0;
			forget_closed(s);
		}
		cr_assert_not_null(goaway, "%s", floods[i].says);
		cr_assert_eq(u32_at(goaway + 4), H2_ENHANCE_YOUR_CALM, "%s", floods[i].says);
		cr_assert_gt(n, floods[i].enough / 3, "%s: honest bursts pass", floods[i].says);
		cr_assert(s->h.calm);
		cr_assert_str_eq(h2_failure(&s->h), "flood of frames");
		cr_assert_eq(h2_feed(&s->h, (const uint8_t *)"x", 1, 2000), -EPROTO);
		raw_free(r);
		peer_free(s);
	}
}

Test(h2_strict, a_receiver_that_updates_both_windows_for_each_small_frame_is_no_flood)
{
	struct peer   *s = peer_new(true);
	struct raw    *r = raw_new();
	struct head_of o = response(200);
	uint8_t        p[4] = { 0, 0, 0, 20 };

	raw_preface(r);
	raw_get(r, 1, true);
	raw_give(r, s);
	cr_assert_eq(h2_response(&s->h, &s->streams[0].s, &o.h, false), 0);
	for (int i = 0; i < 20000; i++) {
		h2_body(&s->h, &s->streams[0].s, 20);
		peer_pump(s);
		raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 1, p, 4);
		raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 0, p, 4);
		raw_give(r, s);
		s->n_out = 0;
	}
	cr_assert_eq(s->feed_err, 0);
	cr_assert_eq(s->streams[0].sent, 400000);
	raw_free(r);
	peer_free(s);
}

/* RFC 9113 §6.9: each of them opens what it has read, in both windows, and there is more to send. */
Test(h2_strict, a_receiver_with_a_small_window_is_no_flood)
{
	static const uint32_t windows[] = { 256, 512, 1024, 4096 };

	for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
		struct peer *s = peer_new(true);
		struct raw  *r = raw_new();
		uint32_t     size = windows[w];
		uint8_t      iv[6] = { 0, 4, 0, 0, (uint8_t)(size >> 8), (uint8_t)size };
		uint8_t      p[4] = { 0, 0, (uint8_t)(size >> 8), (uint8_t)size };

		s->on_head = answer_much;
		raw_preface(r);
		raw_frame(r, NGHTTP2_SETTINGS, 0, 0, iv, 6);
		raw_get(r, 1, true);
		for (int i = 0; i < 20000; i++) {
			raw_give(r, s);
			peer_pump(s);
			s->n_out = 0;
			raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 1, p, 4);
			raw_frame(r, NGHTTP2_WINDOW_UPDATE, 0, 0, p, 4);
		}
		cr_assert_eq(s->feed_err, 0, "%u", size);
		cr_assert_eq(s->streams[0].sent, 20000 * size, "%u", size);
		raw_free(r);
		peer_free(s);
	}
}

Test(h2_strict, replies_nobody_reads_end_the_session)
{
	struct peer *s = peer_new(true);
	struct raw  *r = raw_new();

	raw_preface(r);
	for (int i = 0; i < 500; i++)
		flood_ping(r, 0);
	raw_give(r, s);
	cr_assert_eq(s->feed_err, -EPROTO);
	cr_assert(s->h.calm);
	cr_assert_leq(h2_backlog(&s->h), H2_ACKS_MAX + 8);
	peer_pump(s);
	cr_assert_eq(u32_at(sent_frame(s, NGHTTP2_GOAWAY, 0, NULL) + 4), H2_ENHANCE_YOUR_CALM);
	raw_free(r);
	peer_free(s);
}

Test(h2_strict, an_endless_header_block_is_cut_off)
{
	struct peer *s = peer_new(true);
	struct raw  *r = raw_new();
	int          i;

	raw_preface(r);
	raw_frame(r, NGHTTP2_HEADERS, 0, 1, "\x82\x86\x84", 3);
	for (i = 0; i < 600 && !s->feed_err && !h2_over(&s->h); i++) {
		raw_frame(r, NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
		raw_give(r, s);
		cr_assert(h2_in_head(&s->h) || i > 0);
		peer_pump(s);
	}
	cr_assert_lt(i, 510);
	cr_assert_eq(s->n_streams == 0 || s->streams[0].heads == 0, true);
	raw_free(r);
	peer_free(s);
}

Test(h2_strict, a_header_bomb_stays_within_the_limit)
{
	struct peer *s = peer_new(true);
	struct raw  *r = raw_new();
	static char  big[4000];
	uint8_t      refs[4096];

	memset(big, 'b', sizeof(big) - 1);
	{
		nghttp2_nv f[] = { nv(":method", "GET"), nv(":scheme", "http"), nv(":path", "/"),
			           nv(":authority", "a"), nv("x", big) };

		raw_preface(r);
		raw_headers(r, 1, f, 5, true);
		raw_give(r, s);
	}
	/* 4096 references to that entry of the table: 16 MB when expanded */
	memset(refs, 0xbe, sizeof(refs));
	memcpy(refs, "\x82\x86\x84\x41\x01" "a", 6);
	raw_frame(r, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 3, refs, sizeof(refs));
	raw_give(r, s);
	peer_pump(s);
	cr_assert_eq(s->streams[1].heads, 0);
	cr_assert_leq(s->h.mem.live, 1024 * 1024);
	raw_free(r);
	peer_free(s);
}

/* --- the session itself --- */

Test(h2_strict, a_wrong_preface_is_an_error_at_once)
{
	static const char hello[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	struct peer      *s = peer_new(true);

	cr_assert(h2_in_head(&s->h));
	cr_assert_eq(peer_feed(s, (const uint8_t *)hello, sizeof(hello) - 1), -EPROTO);
	peer_free(s);
}

Test(h2_strict, a_window_that_was_exceeded_ends_the_connection_or_the_stream)
{
	struct h2_config conf = peer_conf;
	struct peer     *s;
	struct raw      *r = raw_new();
	static uint8_t   body[16384];

	conf.window_connection = 65535;
	s = peer_new_with(true, &conf);
	raw_preface(r);
	raw_get(r, 1, false);
	raw_give(r, s);
	s->streams[0].no_consume = true;
	for (int i = 0; i < 6; i++)
		raw_frame(r, NGHTTP2_DATA, 0, 1, body, sizeof(body));
	raw_give(r, s);
	peer_pump(s);
	cr_assert(sent_frame(s, NGHTTP2_RST_STREAM, 1, NULL) || h2_over(&s->h));
	cr_assert_leq(s->streams[0].received, 65536 + 16384);
	raw_free(r);
	peer_free(s);
}

Test(h2_strict, any_byte_flipped_never_crashes_it)
{
	struct peer *c = peer_new(false);
	static uint8_t flight[8192];
	size_t       n;

	for (int i = 0; i < 3; i++) {
		struct pstream *ps = peer_stream(c);
		struct head_of  r = request("POST", "/flip");

		r.h.body = HTTP_BODY_STREAM;
		add(&r, "x-a", "some value");
		h2_request(&c->h, &ps->s, &r.h, false);
		h2_body(&c->h, &ps->s, 100);
		h2_end(&c->h, &ps->s, NULL);
	}
	peer_pump(c);
	n = c->n_out;
	cr_assert_lt(n, sizeof(flight));
	for (size_t at = 0; at < n; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct peer *s = peer_new(true);

			memcpy(flight, c->out, n);
			flight[at] ^= (uint8_t)(1u << bit);
			peer_feed(s, flight, n);
			peer_pump(s);
			for (uint32_t i = 0; i < s->n_streams; i++)
				if (s->streams[i].heads > 0)
					cr_assert(s->streams[i].head.path.p[0] == '/' ||
					          http_str_is(s->streams[i].head.path, "*") ||
					          s->streams[i].head.method == HTTP_METHOD_CONNECT);
			peer_free(s);
		}
	}
	peer_free(c);
}
