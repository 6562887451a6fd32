#include <criterion/criterion.h>
#include <errno.h>

#include "proto/h1.h"
#include "test_h1_guard.h"

#define S(literal) HTTP_STR(literal)

static struct http_field fields[HTTP_FIELDS_MAX];
static char              text[70000];

static struct http_head request(void)
{
	return (struct http_head){ .method_text = HTTP_STR("GET"), .method = HTTP_METHOD_GET,
		                   .authority = HTTP_STR("a:1"), .path = HTTP_STR("/p?q"),
		                   .fields = fields, .fields_max = HTTP_FIELDS_MAX };
}

static struct http_head response(uint16_t status)
{
	return (struct http_head){ .status = status, .fields = fields,
		                   .fields_max = HTTP_FIELDS_MAX };
}

/* The text of a head, encoded at the very end of mapped memory. */
static const char *encoded(const struct http_head *h, enum h1_framing f, enum h1_connection c)
{
	uint32_t bound = h1_encode_bound(h);
	uint8_t *out = guard_end() - bound;
	int      n = h1_encode(out, bound, h, f, c);

	cr_assert_geq(n, 0, "%d", n);
	memcpy(text, out, (size_t)n);
	text[n] = 0;
	return text;
}

static int encode_error(const struct http_head *h)
{
	static uint8_t out[4096];

	return h1_encode(out, sizeof(out), h, H1_FRAME_NONE, H1_CONN_NOTHING);
}

Test(h1_encode, a_request_is_written_as_given)
{
	struct http_head h = request();

	http_head_add(&h, HTTP_FIELD_ACCEPT, S("Accept"), S("*/*"));
	cr_assert_str_eq(encoded(&h, h1_request_framing(&h), H1_CONN_NOTHING),
	                 "GET /p?q HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n\r\n");
	h.target = HTTP_TARGET_ABSOLUTE;
	h.scheme = S("http");
	cr_assert_str_eq(encoded(&h, H1_FRAME_CHUNKED, H1_CONN_CLOSE),
	                 "GET http://a:1/p?q HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n"
	                 "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
	h.path = S("?q");
	cr_assert_str_eq(encoded(&h, H1_FRAME_NONE, H1_CONN_NOTHING),
	                 "GET http://a:1?q HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n\r\n");
	h.target = HTTP_TARGET_ORIGIN;
	cr_assert_eq(encode_error(&h), -EINVAL, "a path begins with a slash");
	h.target = HTTP_TARGET_ABSOLUTE;
	h.path = S("*");
	h.n_fields = 0;
	cr_assert_str_eq(encoded(&h, H1_FRAME_NONE, H1_CONN_NOTHING),
	                 "GET http://a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
	h.target = HTTP_TARGET_AUTHORITY;
	cr_assert_str_eq(encoded(&h, H1_FRAME_NONE, H1_CONN_NOTHING),
	                 "GET a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
}

Test(h1_encode, framing_and_connection_are_ours_alone)
{
	struct http_head h = request();

	http_head_add(&h, HTTP_FIELD_HOST, S("Host"), S("evil"));
	http_head_add(&h, HTTP_FIELD_CONTENT_LENGTH, S("Content-Length"), S("77"));
	http_head_add(&h, HTTP_FIELD_TRANSFER_ENCODING, S("Transfer-Encoding"), S("gzip"));
	http_head_add(&h, HTTP_FIELD_CONNECTION, S("Connection"), S("x"));
	http_head_add(&h, HTTP_FIELD_TE, S("TE"), S("gzip"));
	http_head_add(&h, HTTP_FIELD_UPGRADE, S("Upgrade"), S("websocket"));
	http_head_add(&h, HTTP_FIELD_OTHER, S("X-Drop"), S("1"));
	fields[6].flags = HTTP_FIELD_DROP;
	h.body = HTTP_BODY_LENGTH;
	h.body_len = UINT64_MAX;
	cr_assert_str_eq(encoded(&h, h1_request_framing(&h), H1_CONN_NOTHING),
	                 "GET /p?q HTTP/1.1\r\nHost: a:1\r\nContent-Length: 18446744073709551615\r\n\r\n");
	h.body = HTTP_BODY_NONE;
	h.upgrade = true;
	h.te_trailers = true;
	fields[5].flags = HTTP_FIELD_DROP;
	cr_assert_str_eq(encoded(&h, h1_request_framing(&h), H1_CONN_KEEP_ALIVE),
	                 "GET /p?q HTTP/1.1\r\nHost: a:1\r\nUpgrade: websocket\r\n"
	                 "Connection: keep-alive, upgrade, TE\r\nTE: trailers\r\n\r\n");
}

Test(h1_encode, a_response_is_framed_for_the_request_it_answers)
{
	static const struct {
		const char       *what;
		uint16_t          status;
		uint8_t           body;
		enum http_method  asked;
		enum http_version peer;
		enum h1_framing   framing;
	} rows[] = {
		/* clang-format off */
		{ "a length",            200, HTTP_BODY_LENGTH, HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_LENGTH },
		{ "nothing is length 0", 200, HTTP_BODY_NONE,   HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_LENGTH },
		{ "a stream",            200, HTTP_BODY_STREAM, HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_CHUNKED },
		{ "until close",         200, HTTP_BODY_CLOSE,  HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_CHUNKED },
		{ "a stream to 1.0",     200, HTTP_BODY_STREAM, HTTP_METHOD_GET,     HTTP_1_0, H1_FRAME_CLOSE },
		{ "HEAD",                200, HTTP_BODY_NONE,   HTTP_METHOD_HEAD,    HTTP_1_1, H1_FRAME_COPY },
		{ "HEAD, our own",       503, HTTP_BODY_LENGTH, HTTP_METHOD_HEAD,    HTTP_1_1, H1_FRAME_LENGTH },
		{ "304",                 304, HTTP_BODY_NONE,   HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_COPY },
		{ "204",                 204, HTTP_BODY_NONE,   HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_NONE },
		{ "103",                 103, HTTP_BODY_NONE,   HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_NONE },
		{ "101",                 101, HTTP_BODY_TUNNEL, HTTP_METHOD_GET,     HTTP_1_1, H1_FRAME_NONE },
		{ "a tunnel",            200, HTTP_BODY_TUNNEL, HTTP_METHOD_CONNECT, HTTP_1_1, H1_FRAME_NONE },
		/* clang-format on */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_head h = response(rows[i].status);

		h.body = rows[i].body;
		cr_assert_eq(h1_response_framing(&h, rows[i].asked, rows[i].peer), rows[i].framing, "%s",
		             rows[i].what);
	}
}

Test(h1_encode, a_response_to_head_keeps_the_length_it_was_given)
{
	struct http_head h = response(200);

	h.reason = S("Fine");
	http_head_add(&h, HTTP_FIELD_CONTENT_LENGTH, S("content-length"), S("42"));
	cr_assert_str_eq(encoded(&h, H1_FRAME_COPY, H1_CONN_NOTHING),
	                 "HTTP/1.1 200 Fine\r\nContent-Length: 42\r\n\r\n");
	h.reason = S("");
	fields[0].value_len = 0;
	cr_assert_eq(h1_encode((uint8_t *)text, sizeof(text), &h, H1_FRAME_COPY, H1_CONN_NOTHING),
	             -EINVAL);
	h.n_fields = 0;
	cr_assert_str_eq(encoded(&h, H1_FRAME_COPY, H1_CONN_CLOSE),
	                 "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

Test(h1_encode, nothing_that_could_become_a_line_of_its_own_is_sent)
{
	static const char bad[] = { '\r', '\n', 0, 0x1b, 0x7f };

	for (size_t i = 0; i < sizeof(bad); i++) {
		char             s[] = { 'a', bad[i], 'b' };
		struct http_str  evil = { s, 3 };
		struct http_head h = request();

		h.method_text = evil;
		cr_assert_eq(encode_error(&h), -EINVAL, "method, %d", bad[i]);
		h = request();
		h.path = evil;
		cr_assert_eq(encode_error(&h), -EINVAL, "path, %d", bad[i]);
		h = request();
		h.authority = evil;
		cr_assert_eq(encode_error(&h), -EINVAL, "authority, %d", bad[i]);
		h = request();
		h.target = HTTP_TARGET_ABSOLUTE;
		h.scheme = evil;
		cr_assert_eq(encode_error(&h), -EINVAL, "scheme, %d", bad[i]);
		h = request();
		http_head_add(&h, HTTP_FIELD_OTHER, S("X"), evil);
		cr_assert_eq(encode_error(&h), -EINVAL, "value, %d", bad[i]);
		cr_assert_eq(h1_last_chunk((uint8_t *)text, sizeof(text), &h), -EINVAL);
		h = request();
		http_head_add(&h, HTTP_FIELD_OTHER, evil, S("x"));
		cr_assert_eq(encode_error(&h), -EINVAL, "name, %d", bad[i]);
		h = response(200);
		h.reason = evil;
		cr_assert_eq(encode_error(&h), -EINVAL, "reason, %d", bad[i]);
	}
	struct http_head h = request();
	h.path = S("/a b");
	cr_assert_eq(encode_error(&h), -EINVAL, "a space in the target");
	h = request();
	http_head_add(&h, HTTP_FIELD_OTHER, S("X:"), S("x"));
	cr_assert_eq(encode_error(&h), -EINVAL, "a colon in the name");
	h = response(99);
	cr_assert_eq(encode_error(&h), -EINVAL, "a status of two digits");
}

Test(h1_encode, a_buffer_below_the_bound_is_refused)
{
	struct http_head h = request();
	uint8_t          out[400];

	cr_assert_eq(h1_encode(out, h1_encode_bound(&h) - 1, &h, H1_FRAME_NONE, H1_CONN_NOTHING),
	             -E2BIG);
	cr_assert_eq(h1_last_chunk(out, 4, NULL), -E2BIG);
}

Test(h1_encode, chunks_of_every_size_are_decoded_again)
{
	for (uint32_t n = 1; n != 0 && n < 0x80000000; n = n * 2 + (n % 3)) {
		uint8_t        out[H1_CHUNK_HEAD_MAX];
		uint32_t       len = h1_chunk_head(out, n), used, data;
		struct h1_body b;

		h1_body_init(&b, HTTP_BODY_STREAM, 0);
		cr_assert_eq(h1_body_feed(&b, out, len, &used, &data), H1_MORE);
		cr_assert_eq(b.left, n);
	}
}

Test(h1_encode, trailers_leave_out_what_may_not_be_one)
{
	struct http_head h = response(0);
	int              n;

	http_head_add(&h, HTTP_FIELD_GRPC_STATUS, S("grpc-status"), S("0"));
	http_head_add(&h, HTTP_FIELD_CONTENT_LENGTH, S("content-length"), S("5"));
	http_head_add(&h, HTTP_FIELD_OTHER, S("x"), S("y"));
	fields[2].flags = HTTP_FIELD_DROP;
	n = h1_last_chunk((uint8_t *)text, sizeof(text), &h);
	text[n] = 0;
	cr_assert_str_eq(text, "0\r\ngrpc-status: 0\r\n\r\n");
	n = h1_last_chunk((uint8_t *)text, sizeof(text), NULL);
	text[n] = 0;
	cr_assert_str_eq(text, "0\r\n\r\n");
}

/* --- random heads out and in again --- */

static uint32_t seed = 42;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static struct http_str random_text(const char *alphabet, uint32_t min, uint32_t max, char **at)
{
	struct http_str s = { *at, min + rnd(max - min + 1) };

	for (uint32_t i = 0; i < s.n; i++)
		*(*at)++ = alphabet[rnd((uint32_t)strlen(alphabet))];
	return s;
}

static void random_fields(struct http_head *h, char **at)
{
	for (uint32_t n = rnd(20); n > 0; n--) {
		struct http_str name = random_text("abcXYZ019-_!~", 1, 20, at), value;

		*(*at)++ = 'v'; /* no white space at the ends: it would be cut off */
		value = random_text("ab, \t;=\"\xe4\xff", 0, 60, at);
		value.p--;
		value.n++;
		*(*at)++ = 'v';
		value.n++;
		http_head_add(h, http_field_lookup(name.p, name.n), name, value);
	}
}

Test(h1_encode, random_heads_come_back_as_they_went_out)
{
	static struct http_field got_fields[HTTP_FIELDS_MAX];
	static char              memory[8192];
	struct h1_limits         limits = { H1_HEAD_MAX, 8000 };

	for (int round = 0; round < 5000; round++) {
		char            *at = memory;
		struct http_head h = request(), got = { .fields = got_fields,
			                                .fields_max = HTTP_FIELDS_MAX };
		struct h1_scan   scan = { 0 };
		size_t           n;

		h.method_text = random_text("ABCxyz-", 1, 32, &at);
		*at++ = '/';
		h.path = random_text("ab/?&=%20", 0, 300, &at);
		h.path.p--;
		h.path.n++;
		h.authority = random_text("abc.-", 1, 30, &at);
		h.body = (uint8_t)rnd(3);
		h.body_len = h.body == HTTP_BODY_LENGTH ? (uint64_t)rnd(1u << 31) << 31 : 0;
		random_fields(&h, &at);
		encoded(&h, h1_request_framing(&h), rnd(2) ? H1_CONN_CLOSE : H1_CONN_NOTHING);
		n = strlen(text);
		cr_assert_eq(h1_parse_request(&scan, guarded(text, n), (uint32_t)n, &limits, &got),
		             (int)n, "%s", text);
		cr_assert(http_str_is(got.path, "/") == (h.path.n == 1));
		cr_assert_eq(got.path.n, h.path.n);
		cr_assert_eq(memcmp(got.path.p, h.path.p, h.path.n), 0);
		cr_assert(http_str_ieq(got.authority, h.authority));
		cr_assert_eq(got.body, h.body);
		cr_assert_eq(got.body_len, h.body_len);
		for (unsigned i = 0; i < h.n_fields; i++) {
			const struct http_field *a = &h.fields[i], *b = &got.fields[i + 1];

			cr_assert_eq(a->name_len, b->name_len);
			cr_assert_eq(memcmp(a->name, b->name, a->name_len), 0);
			cr_assert_eq(a->value_len, b->value_len);
			cr_assert_eq(memcmp(a->value, b->value, a->value_len), 0);
		}
	}
}
