/* sidecar/exchange/reply.h: answers of our own, word by word. */
#include <string.h>

#include "fixture.h"
#include "sidecar/exchange/reply.h"
#include "sidecar/exchange/wishes.h"

static const char yaml[] = "version: 1\n"
			   "upstreams:\n"
			   "  orders: {url: 'http://orders.test:8080'}\n";

static void begin(void)
{
	call_init(yaml);
}

TestSuite(reply, .init = begin, .fini = call_fini, .timeout = 60);

#define ASK "GET / HTTP/1.1\r\nHost: orders\r\n"

static const char *answer(const char *asks, enum rhc_error err, const char *detail)
{
	struct exchange *e = request(HTTP_1_1, asks);

	e->upstream = world_up(&call.world, 0, "orders");
	wishes_take(e);
	e->state = EXCH_REPLY;
	e->error = (uint8_t)err;
	e->attempt = 2;
	snprintf(e->detail, sizeof(e->detail), "%s", detail);
	cr_assert_eq(reply_send(e), 0);
	return call.out;
}

Test(reply, a_problem_says_what_the_guide_promises)
{
	cr_assert_str_eq(answer(ASK "\r\n", RHC_ERR_connect_refused, "connection refused (10.0.0.1:80)"),
	                 "HTTP/1.1 502 Bad Gateway\r\ncontent-type: application/problem+json\r\n"
	                 "proxy-status: rhc; error=connection_refused; next-hop=\"orders\"; details=\"connect_refused; UF\"\r\n"
	                 "x-rhc-error: APIConnectionError\r\nx-request-id: id-1\r\nx-rhc-attempts: 2\r\nContent-Length: 179\r\n\r\n"
	                 "{\"type\":\"urn:rhc:error:connect_refused\",\"title\":\"Connection refused\",\"status\":502,"
	                 "\"detail\":\"connection refused (10.0.0.1:80)\",\"request_id\":\"id-1\",\"upstream\":\"orders\","
	                 "\"attempts\":2}(end)");
}

Test(reply, a_saturated_bulkhead_recommends_to_come_back)
{
	const char *got = answer(ASK "\r\n", RHC_ERR_bulkhead_timeout, "all 50 slots stayed in use");

	cr_assert(strstr(got, "HTTP/1.1 503 "));
	cr_assert(strstr(got, "retry-after: 1\r\n"));
	cr_assert(strstr(got, "x-rhc-error: PoolTimeoutError\r\n"));
	cr_assert(strstr(got, "\"title\":\"Failed to acquire connection slot within 30.0s - client is saturated\""));
	cr_assert(strstr(got, "\"retry_after_seconds\":1"));
}

Test(reply, an_open_circuit_tells_of_itself)
{
	struct exchange *e = request(HTTP_1_1, ASK "\r\n");

	e->upstream = world_up(&call.world, 0, "orders");
	e->error = RHC_ERR_circuit_open;
	e->ticket.refusal = (struct guard_refusal){ .state = RHC_BRK_OPEN, .retry_after_ms = 11001, .failures = 5,
		                                    .threshold = 5 };
	cr_assert_eq(reply_send(e), 0);
	cr_assert(strstr(call.out, "retry-after: 12\r\n"), "rounded up");
	cr_assert(strstr(call.out, "\"title\":\"Circuit breaker is OPEN - failing fast\""));
	cr_assert(strstr(call.out, "\"circuit\":{\"state\":\"open\",\"failures\":5,\"threshold\":5}"), "%s", call.out);
}

Test(reply, text_is_for_who_asks_for_it)
{
	const char *got = answer(ASK "Accept: text/plain\r\n\r\n", RHC_ERR_read_timeout, "timeout.read: late");

	cr_assert(strstr(got, "content-type: text/plain; charset=utf-8\r\n"));
	cr_assert(strstr(got, "\r\n\r\nRequest timed out - no response within 30.0s\ntimeout.read: late\n(end)"), "%s", got);
}

Test(reply, a_grpc_call_gets_a_trailers_only_answer)
{
	static const char asks[] = "POST /s/m HTTP/1.1\r\nHost: orders\r\nContent-Type: application/grpc+proto\r\n"
	                           "Transfer-Encoding: chunked\r\n\r\n";

	cr_assert_str_eq(answer(asks, RHC_ERR_read_timeout, "x"),
	                 "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 4\r\n"
	                 "grpc-message: Request timed out - no response within 30.0s\r\n"
	                 "proxy-status: rhc; error=http_response_timeout; next-hop=\"orders\"; details=\"read_timeout; UT\"\r\n"
	                 "x-rhc-error: APITimeoutError\r\nx-request-id: id-1\r\nx-rhc-attempts: 2\r\nContent-Length: 0\r\n\r\n"
	                 "(end)");
	cr_assert(strstr(answer(asks, RHC_ERR_bulkhead_queue_full, ""), "grpc-status: 14\r\n"));
	cr_assert(strstr(answer(asks, RHC_ERR_denied, ""), "grpc-status: 7\r\n"));
}

Test(reply, head_gets_the_length_without_the_body)
{
	const char *got = answer("HEAD / HTTP/1.1\r\nHost: orders\r\n\r\n", RHC_ERR_connect_refused, "x");

	cr_assert(strstr(got, "Content-Length: 1"));
	cr_assert(strstr(got, "\r\n\r\n(end)"), "%s", got);
}

Test(reply, every_error_with_a_status_has_an_answer_that_fits)
{
	char detail[EXCH_DETAIL_MAX];

	memset(detail, '"', sizeof(detail) - 1); /* the longest, all of it escaped */
	detail[sizeof(detail) - 1] = '\0';
	for (int err = RHC_ERR_none + 1; err < RHC_ERR_COUNT; err++) {
		const struct error_row *row = error_row((enum rhc_error)err);
		char status[32], id[64];

		if (row->status == 0)
			continue;
		answer(ASK "\r\n", (enum rhc_error)err, detail);
		snprintf(status, sizeof(status), "HTTP/1.1 %u ", row->status);
		snprintf(id, sizeof(id), "\"type\":\"urn:rhc:error:%s\"", row->id);
		cr_assert_eq(strncmp(call.out, status, strlen(status)), 0, "%s", call.out);
		cr_assert(strstr(call.out, id), "%s", call.out);
		cr_assert(strstr(call.out, "}(end)"), "%s", call.out);
	}
}

Test(reply, a_status_of_its_own_replaces_that_of_the_table)
{
	struct exchange *e = request(HTTP_1_1, ASK "\r\n");

	e->upstream = world_up(&call.world, 0, "orders");
	e->error = RHC_ERR_bad_request;
	e->reply_status = 413;
	cr_assert_eq(reply_send(e), 0);
	cr_assert(strstr(call.out, "HTTP/1.1 413 "));
	cr_assert(strstr(call.out, "\"status\":413"));
	cr_assert_eq(e->status, 413);
}
