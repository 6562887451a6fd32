/*
 * What fuzzing found in the codecs, one test each; the targets are in tests/fuzz.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/h1.h"
#include "tests/proto/h2_peer.h"

static struct http_field fields[HTTP_FIELDS_MAX];

static int32_t parse_response(const char *text, enum http_method asked, struct http_head *h)
{
	static const struct h1_limits limits = { 8192, 1 };
	struct h1_scan                scan = { 0 };

	*h = (struct http_head){ .fields = fields, .fields_max = HTTP_FIELDS_MAX };
	return h1_parse_response(&scan, (const uint8_t *)text, (uint32_t)strlen(text), &limits, asked, h);
}

/* clang's sanitizer says so; gcc's does not look. */
Test(fuzz_findings, an_empty_string_at_no_address_is_not_computed_with)
{
	struct http_head h;
	uint8_t          out[512];

	cr_assert_eq(chars_span_value(NULL, 0), 0);
	cr_assert(chars_is_value(NULL, 0));
	cr_assert_eq(chars_span_target(NULL, 0), 0);
	cr_assert_gt(parse_response("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", HTTP_METHOD_GET, &h), 0);
	cr_assert_gt(h1_encode(out, sizeof(out), &h, H1_FRAME_LENGTH, H1_CONN_NOTHING), 0);
}

Test(fuzz_findings, framing_of_a_101_is_refused_as_that_of_every_1xx)
{
	struct http_head h;

	cr_assert_eq(parse_response("HTTP/1.1 101 S\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_METHOD_GET, &h),
	             -HTTP_E_TRANSFER_ENCODING);
	cr_assert_eq(parse_response("HTTP/1.1 101 S\r\nTransfer-Encoding: gzip\r\n\r\n", HTTP_METHOD_GET, &h),
	             -HTTP_E_TRANSFER_CODING);
	cr_assert_eq(parse_response("HTTP/1.1 101 S\r\nContent-Length: 1\r\n\r\n", HTTP_METHOD_GET, &h),
	             -HTTP_E_CONTENT_LENGTH);
	cr_assert_gt(parse_response("HTTP/1.1 101 S\r\nContent-Length: 0\r\n\r\n", HTTP_METHOD_GET, &h), 0);
	cr_assert_eq(h.body, HTTP_BODY_TUNNEL);
}

Test(fuzz_findings, framing_of_a_204_to_head_is_refused_too)
{
	struct http_head h;

	cr_assert_eq(parse_response("HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_METHOD_HEAD, &h),
	             -HTTP_E_TRANSFER_ENCODING);
	cr_assert_gt(parse_response("HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", HTTP_METHOD_HEAD, &h), 0);
}

static int32_t parse_request(const char *text, struct http_head *h)
{
	static const struct h1_limits limits = { 8192, 4096 };
	struct h1_scan                scan = { 0 };

	*h = (struct http_head){ .fields = fields, .fields_max = HTTP_FIELDS_MAX };
	return h1_parse_request(&scan, (const uint8_t *)text, (uint32_t)strlen(text), &limits, h);
}

Test(fuzz_findings, a_comma_behind_chunked_is_refused_like_one_before_it)
{
	static const char *const values[] = { "chunked,", "chunked ,", ",chunked", "chunked,,", "chunked, ,", "," };

	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct http_head h;
		char             text[200];

		snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n", values[i]);
		cr_assert_eq(parse_response(text, HTTP_METHOD_GET, &h), -HTTP_E_TRANSFER_ENCODING, "%s", values[i]);
		snprintf(text, sizeof(text), "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %s\r\n\r\n", values[i]);
		cr_assert_eq(parse_request(text, &h), -HTTP_E_TRANSFER_ENCODING, "%s", values[i]);
	}
}

Test(fuzz_findings, a_frame_beyond_the_window_is_not_told)
{
	struct peer *p = peer_new(true);
	struct raw  *r = raw_new();
	static char  zeros[16384];

	raw_preface(r);
	raw_get(r, 1, false);
	raw_give(r, p);
	p->streams[0].no_consume = true;
	for (int i = 0; i < 5; i++) /* 80 KiB into a window of 64 */
		raw_frame(r, NGHTTP2_DATA, 0, 1, zeros, sizeof(zeros));
	raw_give(r, p);
	cr_assert_leq(p->streams[0].received, peer_conf.window);
	peer_pump(p);
	cr_assert(p->streams[0].closed);
	raw_free(r);
	peer_free(p);
}

Test(fuzz_findings, whatever_ends_a_session_is_said_with_goaway_and_ends_it)
{
	struct peer *p = peer_new(true);
	struct raw  *r = raw_new();
	size_t       n = 0;

	raw_preface(r);
	raw_frame(r, NGHTTP2_HEADERS, 0, 1, "\x82", 1);
	for (int i = 0; i < 2000; i++) /* nghttp2's own limit, where it has one, comes before ours */
		raw_frame(r, NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
	raw_give(r, p);
	cr_assert_neq(p->feed_err, 0);
	peer_pump(p);
	cr_assert_not_null(sent_frame(p, NGHTTP2_GOAWAY, 0, &n));
	cr_assert(h2_over(&p->h));
	cr_assert_str_eq(h2_failure(&p->h), "flood of frames");
	raw_free(r);
	peer_free(p);
}
