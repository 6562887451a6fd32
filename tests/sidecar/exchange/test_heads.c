/* sidecar/exchange/heads.h: what of a head goes on, and what we add. */
#include <errno.h>
#include <string.h>

#include "fixture.h"
#include "sidecar/exchange/heads.h"
#include "sidecar/exchange/wishes.h"

static const char yaml[] = "version: 1\n"
			   "upstreams:\n"
			   "  orders: {url: 'http://orders.test:8080/v1'}\n"
			   "  six: {url: 'http://[::1]:9', headers: {request_id: null}}\n"
			   "  added: {url: 'http://added.test', headers: {add_request: {x-env: test}, "
			   "remove_request: [x-debug]}}\n"
			   "  x: {url: 'http://x.test', headers: {forwarded: x-forwarded}}\n"
			   "  f: {url: 'http://f.test', headers: {forwarded: rfc7239}}\n";

static void begin(void)
{
	call_init(yaml);
}

TestSuite(heads, .init = begin, .fini = call_fini, .timeout = 60);

static const char *sent_to(const char *upstream, enum http_version version, const char *text)
{
	struct exchange *e = request(version, text);
	struct http_head *h;

	e->upstream = world_up(&call.world, 0, upstream);
	e->attempt = 1;
	wishes_take(e);
	cr_assert_eq(head_request(e, &h), 0);
	return head_text(h);
}

#define ID   "-000000000000" /* the segment of a test has no uuid */
#define BASE "x-request-id: id-1\r\nvia: 1.1 rhc" ID "\r\n"

Test(heads, of_a_request_are_those_of_the_app_and_ours)
{
	cr_assert_str_eq(sent_to("orders", HTTP_1_1, "GET /a?b HTTP/1.1\r\nHost: orders\r\nAccept: x\r\nCookie: c\r\n\r\n"),
	                 "GET /v1/a?b HTTP/1.1\r\nHost: orders.test:8080\r\nAccept: x\r\nCookie: c\r\n" BASE "\r\n");
	cr_assert_str_eq(sent_to("six", HTTP_1_0, "GET / HTTP/1.0\r\nHost: a\r\nVia: 1.0 a\r\n\r\n"),
	                 "GET / HTTP/1.1\r\nHost: [::1]:9\r\nVia: 1.0 a\r\nvia: 1.0 rhc" ID "\r\n\r\n");
	cr_assert_str_eq(sent_to("six", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 a, 2 b\r\nVia: 1.1 c\r\n\r\n"),
	                 "GET / HTTP/1.1\r\nHost: [::1]:9\r\nVia: 1.0 a, 2 b\r\nVia: 1.1 c\r\nvia: 1.1 rhc" ID "\r\n\r\n",
	                 "none of them is lost");
	cr_assert_str_eq(sent_to("added", HTTP_2, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Env: spoofed\r\n"
	                                          "X-Debug: 1\r\n\r\n"),
	                 "POST / HTTP/1.1\r\nHost: added.test\r\nx-env: test\r\nx-request-id: id-1\r\nvia: 2 rhc" ID "\r\n"
	                 "Content-Length: 3\r\nConnection: TE\r\nTE: trailers\r\n\r\n");
}

Test(heads, fields_that_end_here_do_not_go_on)
{
	static const char *const gone[] = {
		"Connection: close", "Keep-Alive: 3", "Proxy-Connection: x", "Proxy-Authorization: Basic eA==", "TE: gzip",
		"Upgrade: websocket", "X-Rhc-Timeout: 5s", "X-Rhc-Max-Attempts: 1", "X-Rhc-Attempt: 7", "X-Rhc-Debug: 1",
		"X-Rhc-Upstream: x", "X-Request-Id: theirs", "HTTP2-Settings: AAA",
	};
	char text[512];

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", gone[i]);
		cr_assert_str_eq(sent_to("orders", HTTP_1_1, text), "GET /v1/ HTTP/1.1\r\nHost: orders.test:8080\r\n" BASE "\r\n",
		                 "%s", gone[i]);
	}
	cr_assert_str_eq(sent_to("orders", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-A, x-b\r\nX-A: 1\r\n"
	                                             "X-B: 2\r\nX-C: 3\r\n\r\n"),
	                 "GET /v1/ HTTP/1.1\r\nHost: orders.test:8080\r\nX-C: 3\r\n" BASE "\r\n");
}

Test(heads, upgrade_goes_on_when_it_is_one)
{
	cr_assert_str_eq(sent_to("orders", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-a\r\nX-A: 1\r\n"
	                                             "Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"),
	                 "GET /v1/ HTTP/1.1\r\nHost: orders.test:8080\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n" BASE
	                 "Connection: upgrade\r\n\r\n");
	cr_assert(call.e.upgrade);
	cr_assert_not(strstr(sent_to("orders", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
	                     "pgrade"));
	cr_assert_not(strstr(sent_to("orders", HTTP_1_1, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
	                                                 "Upgrade: websocket\r\nContent-Length: 2\r\n\r\n"),
	                     "pgrade"));
}

Test(heads, an_expectation_goes_to_who_may_fulfil_it)
{
	static const char with[] = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
	static const char other[] = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: other\r\n\r\n";
	struct exchange *e;
	struct http_head *h;

	cr_assert(strstr(sent_to("orders", HTTP_1_1, with), "Expect: 100-continue"));
	cr_assert(call.e.expects);
	call.e.expects = false; /* it has leave, or did not wait: a second attempt does not ask */
	e = &call.e;
	cr_assert_eq(head_request(e, &h), 0);
	cr_assert_not(strstr(head_text(h), "Expect"));
	call.e.expects = true;
	call.up.version = HTTP_2;
	cr_assert_eq(head_request(e, &h), 0);
	cr_assert_not(strstr(head_text(h), "Expect"), "we answer it ourselves");
	cr_assert(strstr(sent_to("orders", HTTP_1_1, other), "Expect: other"));
	cr_assert_not(strstr(sent_to("orders", HTTP_1_0, "PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n"
	                                                 "Expect: 100-continue\r\n\r\n"), "Expect"));
	cr_assert_not(strstr(sent_to("orders", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"),
	                     "Expect"));
}

Test(heads, the_caller_is_named_as_configured)
{
	/* a peer without an address, as on a unix socket; with one: end to end */
	cr_assert(strstr(sent_to("x", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a:1\r\n\r\n"),
	                 "x-forwarded-host: a:1\r\nx-forwarded-proto: http\r\n"));
	cr_assert(strstr(sent_to("x", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: "
	                                        "2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n\r\n"),
	                 "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n" BASE "x-forwarded-for: 1.1.1.1, 2.2.2.2\r\n\r\n"));
	cr_assert(strstr(sent_to("f", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=1.1.1.1\r\n\r\n"),
	                 "forwarded: for=1.1.1.1, for=unknown;host=\"a\";proto=http\r\n"));
	cr_assert_not(strcasestr(sent_to("orders", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "forwarded"));
}

Test(heads, a_grpc_deadline_is_what_is_left_of_it)
{
	static const struct {
		const char *timeout;
		uint64_t    least, most;
		char        unit;
	} rows[] = {
		{ "5S", 4000000, 5000000, 'u' }, { "250m", 200000, 250000, 'u' }, { "1H", 3599000, 3600000, 'm' },
		{ "27H", (27 * 3600 - 100) * 1000, 27 * 3600 * 1000, 'm' },
		{ "99999999H", 365 * 86400 - 100, 365 * 86400, 'S' },
	};
	char text[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *found;
		char *unit;
		unsigned long long value;

		snprintf(text, sizeof(text), "POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n"
		         "grpc-timeout: %s\r\nTransfer-Encoding: chunked\r\n\r\n", rows[i].timeout);
		found = strstr(sent_to("orders", HTTP_2, text), "grpc-timeout: ");
		cr_assert_not_null(found);
		value = strtoull(found + 14, &unit, 10);
		cr_assert_eq(*unit, rows[i].unit, "%s: %s", rows[i].timeout, found);
		cr_assert(value >= rows[i].least && value <= rows[i].most, "%s: %s", rows[i].timeout, found);
		cr_assert_null(strstr(found + 14, "grpc-timeout"), "one of them");
	}
	cr_assert(strstr(sent_to("orders", HTTP_1_1, "GET / HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 5S\r\n\r\n"),
	                 "grpc-timeout: 5S"), "what is not gRPC is not touched");
	cr_assert_eq(call.e.deadline_ns, 0);
}

/* ---- answers ---- */

static const char *answered(enum http_version version, const char *asks, const char *answer)
{
	static char copy[4096];
	static struct http_field fields[HTTP_FIELDS_MAX];
	struct exchange *e = request(version, asks);
	struct http_head h = { .fields = fields, .fields_max = HTTP_FIELDS_MAX }, *out;
	struct h1_scan scan = { 0 };
	struct h1_limits limits = { 65536, 16384 };

	e->upstream = world_up(&call.world, 0, "orders");
	e->attempt = 1;
	snprintf(copy, sizeof(copy), "%s", answer);
	cr_assert_gt(h1_parse_response(&scan, (uint8_t *)copy, (uint32_t)strlen(copy), &limits, HTTP_METHOD_GET, &h), 0);
	cr_assert_eq(head_response(e, &h, &out), 0);
	return head_text(out);
}

#define ASK "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define ASK_TE "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
#define OURS "via: 1.1 rhc\r\nx-request-id: id-1\r\nx-rhc-attempts: 1\r\n"

Test(heads, of_an_answer_are_the_upstreams_and_ours)
{
	cr_assert_str_eq(answered(HTTP_1_1, ASK, "HTTP/1.1 200 Fine\r\nContent-Length: 3\r\nServer: s\r\nKeep-Alive: 1\r\n"
	                                         "Connection: x-a\r\nX-A: 1\r\nUpgrade: y\r\nX-Request-Id: theirs\r\n\r\n"),
	                 "HTTP/1.1 200 Fine\r\nServer: s\r\n" OURS "Content-Length: 3\r\n\r\n");
	cr_assert(strstr(answered(HTTP_1_1, ASK, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
	                 "x-rhc-error: AuthenticationError\r\n"));
	cr_assert(strstr(answered(HTTP_1_1, ASK, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "x-rhc-error: ServerError\r\n"));
}

/* RFC 9112 §3.2.4, RFC 3986 §6.2.3 */
Test(heads, an_absolute_target_without_a_path_gets_the_one_it_means)
{
	static const struct {
		const char *upstream, *asks, *line;
	} rows[] = {
		{ "six", "GET http://a HTTP/1.1", "GET / HTTP/1.1" },
		{ "six", "GET http://a?x=1 HTTP/1.1", "GET /?x=1 HTTP/1.1" },
		{ "orders", "GET http://a?x=1 HTTP/1.1", "GET /v1/?x=1 HTTP/1.1" },
		{ "six", "OPTIONS http://a HTTP/1.1", "OPTIONS * HTTP/1.1" },
		{ "orders", "OPTIONS http://a HTTP/1.1", "OPTIONS * HTTP/1.1" },
		{ "orders", "OPTIONS http://a?x HTTP/1.1", "OPTIONS /v1/?x HTTP/1.1" },
		{ "orders", "OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1" },
	};
	char text[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *sent;

		snprintf(text, sizeof(text), "%s\r\nHost: a\r\n\r\n", rows[i].asks);
		sent = sent_to(rows[i].upstream, HTTP_1_1, text);
		cr_assert(strncmp(sent, rows[i].line, strlen(rows[i].line)) == 0 && sent[strlen(rows[i].line)] == '\r',
		          "%s: %s", rows[i].asks, sent);
	}
}

/* RFC 9112 §7.1.2: HTTP/1.1 has room for trailers behind the last chunk alone. */
Test(heads, the_length_of_a_request_of_http_2_gives_way_to_trailers)
{
	static const char plain[] = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
	static const char announced[] = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTrailer: x-sum\r\n\r\n";
	static struct http_head trailers;
	struct http_head *h;

	cr_assert(strstr(sent_to("orders", HTTP_2, announced), "Transfer-Encoding: chunked\r\n"));
	cr_assert_not(strstr(sent_to("orders", HTTP_2, announced), "Content-Length"));
	cr_assert(strstr(sent_to("orders", HTTP_2, plain), "Content-Length: 3\r\n"));
	cr_assert(strstr(sent_to("orders", HTTP_1_1, announced), "Content-Length: 3\r\n"), "HTTP/1.1 cannot send both");
	sent_to("orders", HTTP_2, announced);
	call.up.version = HTTP_2;
	cr_assert_eq(head_request(&call.e, &h), 0);
	cr_assert_eq(h->body, HTTP_BODY_LENGTH, "HTTP/2 has room for both");
	call.up.version = HTTP_1_1;
	call.e.body.complete = true; /* a second attempt knows what came */
	cr_assert_eq(head_request(&call.e, &h), 0);
	cr_assert_eq(h->body, HTTP_BODY_LENGTH);
	sent_to("orders", HTTP_2, plain);
	call.e.body.complete = true;
	call.e.trailers = &trailers;
	cr_assert_eq(head_request(&call.e, &h), 0);
	cr_assert_eq(h->body, HTTP_BODY_STREAM);
}

static enum http_body answer_body(enum http_version version, const char *asks, enum http_version from, const char *trailer)
{
	static struct http_field fields[HTTP_FIELDS_MAX];
	struct exchange *e = request(version, asks);
	struct http_head h = { .fields = fields, .fields_max = HTTP_FIELDS_MAX, .status = 200, .version = (uint8_t)from,
		               .body = HTTP_BODY_LENGTH, .body_len = 3 }, *out;

	e->upstream = world_up(&call.world, 0, "orders");
	e->attempt = 1;
	if (trailer)
		http_head_add(&h, HTTP_FIELD_TRAILER, HTTP_STR("trailer"), (struct http_str){ trailer, (uint32_t)strlen(trailer) });
	cr_assert_eq(head_response(e, &h, &out), 0);
	return (enum http_body)out->body;
}

/* RFC 9110 §6.5.1, §6.6.2 */
Test(heads, the_length_of_an_answer_of_http_2_gives_way_to_trailers_that_are_announced_and_wanted)
{
	cr_assert_eq(answer_body(HTTP_1_1, ASK_TE, HTTP_2, "x-sum"), HTTP_BODY_STREAM);
	cr_assert_eq(answer_body(HTTP_1_1, ASK_TE, HTTP_2, NULL), HTTP_BODY_LENGTH, "not announced");
	cr_assert_eq(answer_body(HTTP_1_1, ASK, HTTP_2, "x-sum"), HTTP_BODY_LENGTH, "not wanted");
	cr_assert_eq(answer_body(HTTP_1_0, ASK_TE, HTTP_2, "x-sum"), HTTP_BODY_LENGTH, "1.0 knows no chunks");
	cr_assert_eq(answer_body(HTTP_2, ASK_TE, HTTP_2, "x-sum"), HTTP_BODY_LENGTH, "HTTP/2 has room for both");
	cr_assert_eq(answer_body(HTTP_1_1, ASK_TE, HTTP_1_1, "x-sum"), HTTP_BODY_LENGTH, "HTTP/1.1 cannot send both");
}

Test(heads, trailers_are_announced_to_who_takes_them)
{
	static const char with[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";

	cr_assert_not(strstr(answered(HTTP_1_1, ASK, with), "Trailer"));
	cr_assert(strstr(answered(HTTP_1_1, ASK_TE, with), "Trailer: x-sum"));
	cr_assert(strstr(answered(HTTP_2, ASK, with), "Trailer: x-sum"));
}

Test(heads, a_switch_of_protocols_names_the_protocol)
{
	cr_assert_str_eq(answered(HTTP_1_1, ASK, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: w\r\n\r\n"),
	                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: w\r\n" OURS "Connection: upgrade\r\n\r\n");
}

Test(heads, interim_answers_are_passed_on_as_they_are)
{
	cr_assert_str_eq(answered(HTTP_1_1, ASK, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
	                 "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

Test(heads, too_many_fields_are_an_error_and_no_overflow)
{
	char text[8192] = "GET / HTTP/1.1\r\nHost: a\r\n";
	struct exchange *e;
	struct http_head *h;

	for (unsigned i = 0; i < HTTP_FIELDS_MAX - 1; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "x-%u: 1\r\n", i);
	strcat(text, "\r\n");
	e = request(HTTP_1_1, text);
	e->upstream = world_up(&call.world, 0, "x");
	wishes_take(e);
	cr_assert_eq(head_request(e, &h), -ENOSPC);
}
