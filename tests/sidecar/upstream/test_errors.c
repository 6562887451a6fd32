/* sidecar/upstream/errors.h: every error has its row, every report from below its error. */
#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/upstream/errors.h"
#include "sidecar/upstream/resolver.h"

static bool is_token(const char *s)
{
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || *s == '_'))
			return false;
	return true;
}

Test(errors, every_error_of_the_segment_has_a_row_with_its_own_name)
{
	for (unsigned i = 0; i < RHC_ERR_COUNT; i++) {
		const struct error_row *row = error_row((enum rhc_error)i);

		cr_assert_str_eq(row->id, rhc_error_name(i));
		cr_assert(is_token(row->proxy_status), "%s", row->id);
		cr_assert(row->status == 0 || (row->status >= 400 && row->status < 600), "%s",
			  row->id);
		/* Whoever answers by itself has something to say. */
		cr_assert(row->status == 0 || *row->title, "%s", row->id);
		cr_assert(row->status == 0 || *row->proxy_status, "%s", row->id);
	}
}

Test(errors, a_503_of_ours_recommends_when_to_come_back)
{
	for (unsigned i = 0; i < RHC_ERR_COUNT; i++) {
		const struct error_row *row = error_row((enum rhc_error)i);

		if (row->status == 503 && i != RHC_ERR_circuit_open && i != RHC_ERR_draining)
			cr_assert_eq(row->retry_after_s, 1, "%s", row->id);
	}
}

Test(errors, refusals_of_ours_neither_count_nor_are_retried)
{
	static const enum rhc_error refusals[] = {
		RHC_ERR_circuit_open, RHC_ERR_bulkhead_timeout, RHC_ERR_bulkhead_queue_full,
		RHC_ERR_pool_timeout, RHC_ERR_draining,         RHC_ERR_overloaded,
		RHC_ERR_bad_request,  RHC_ERR_caller_aborted,
	};

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		cr_assert_eq(error_row(refusals[i])->failure, ERROR_FAILURE_NEVER);
		cr_assert_eq(error_row(refusals[i])->again, ERROR_AGAIN_NO);
	}
}

Test(errors, timeouts_answer_504_and_are_timeout_errors)
{
	static const enum rhc_error timeouts[] = { RHC_ERR_dns_timeout, RHC_ERR_connect_timeout,
						   RHC_ERR_write_timeout, RHC_ERR_read_timeout,
						   RHC_ERR_deadline_total };

	for (size_t i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
		const struct error_row *row = error_row(timeouts[i]);

		cr_assert_eq(row->status, 504, "%s", row->id);
		cr_assert_str_eq(error_class_name(row->class), "APITimeoutError", "%s", row->id);
		cr_assert_eq(strncmp(row->title, "Request timed out", 17), 0, "%s", row->id);
	}
}

Test(errors, titles_say_the_texts_of_the_guide)
{
	char out[ERROR_TITLE_MAX];

	cr_assert_str_eq(error_title(RHC_ERR_bulkhead_timeout, 30 * NS_PER_S, out, sizeof(out)),
			 "Failed to acquire connection slot within 30.0s - client is saturated");
	cr_assert_str_eq(error_title(RHC_ERR_circuit_open, 0, out, sizeof(out)),
			 "Circuit breaker is OPEN - failing fast");
	cr_assert_str_eq(error_title(RHC_ERR_read_timeout, 2500 * NS_PER_MS, out, sizeof(out)),
			 "Request timed out - no response within 2.5s");
	cr_assert_str_eq(error_title(RHC_ERR_bulkhead_timeout, 49 * NS_PER_MS, out, 48),
			 "Failed to acquire connection slot within 0.0s -");
	for (unsigned i = 0; i < RHC_ERR_COUNT; i++)
		cr_assert(strlen(error_title((enum rhc_error)i, 3600 * NS_PER_S, out,
					     sizeof(out))) < sizeof(out) - 1);
}

Test(errors, the_classes_are_those_of_the_guide)
{
	cr_assert_str_eq(error_class_name(ERROR_CLASS_POOL_TIMEOUT), "PoolTimeoutError");
	cr_assert_str_eq(error_class_name(ERROR_CLASS_CONNECTION), "APIConnectionError");
	cr_assert_null(error_class_name(ERROR_CLASS_NONE));
	cr_assert_eq(error_row(RHC_ERR_bulkhead_timeout)->class, ERROR_CLASS_POOL_TIMEOUT);
	cr_assert_eq(error_row(RHC_ERR_pool_timeout)->class, ERROR_CLASS_POOL_TIMEOUT);
	cr_assert_eq(error_row(RHC_ERR_circuit_open)->class, ERROR_CLASS_CONNECTION);
	cr_assert_eq(error_row(RHC_ERR_connect_refused)->class, ERROR_CLASS_CONNECTION);
}

Test(errors, the_breaker_counts_what_the_configuration_lists)
{
	struct config_breaker b = { .count = 1U << CONFIG_FAILURE_CONNECT |
					     1U << CONFIG_FAILURE_TIMEOUT };

	b.count_statuses.bits[503 / 64] |= UINT64_C(1) << (503 % 64);
	cr_assert(error_counts(&b, RHC_ERR_connect_refused, 0));
	cr_assert(error_counts(&b, RHC_ERR_read_timeout, 0));
	cr_assert_not(error_counts(&b, RHC_ERR_dns_failure, 0));
	cr_assert_not(error_counts(&b, RHC_ERR_bulkhead_timeout, 0));
	cr_assert_not(error_counts(&b, RHC_ERR_circuit_open, 0));
	cr_assert(error_counts(&b, RHC_ERR_status, 503));
	cr_assert_not(error_counts(&b, RHC_ERR_status, 500));
	b.count = UINT32_MAX >> 1; /* whatever is listed, a refusal of ours is none of them */
	cr_assert_not(error_counts(&b, RHC_ERR_pool_timeout, 0));
}

Test(errors, a_failed_connect_names_its_kind)
{
	static const struct {
		enum stream_error from;
		enum rhc_error to;
	} rows[] = {
		{ STREAM_OK, RHC_ERR_none },
		{ STREAM_E_REFUSED, RHC_ERR_connect_refused },
		{ STREAM_E_UNREACHABLE, RHC_ERR_connect_unroutable },
		{ STREAM_E_CONNECT, RHC_ERR_connect_refused },
		{ STREAM_E_RESET, RHC_ERR_connect_refused },
		{ STREAM_E_TRUNCATED, RHC_ERR_tls_failure },
		{ STREAM_E_TLS, RHC_ERR_tls_failure },
		{ STREAM_E_TLS_CERT, RHC_ERR_tls_certificate },
		{ STREAM_E_TLS_ALERT, RHC_ERR_tls_alert },
		{ STREAM_E_NO_BUFFERS, RHC_ERR_overloaded },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(error_of_connect(rows[i].from), rows[i].to, "row %zu", i);
}

Test(errors, a_failed_message_is_told_apart_before_and_after_its_head)
{
	static const struct {
		enum message_error from;
		uint16_t http;
		bool head;
		enum rhc_error to;
	} rows[] = {
		{ MESSAGE_OK, 0, false, RHC_ERR_none },
		{ MESSAGE_E_RESET, 0, false, RHC_ERR_reset_before_headers },
		{ MESSAGE_E_RESET, 0, true, RHC_ERR_response_incomplete },
		{ MESSAGE_E_EOF, 0, false, RHC_ERR_reset_before_headers },
		{ MESSAGE_E_INCOMPLETE, 0, true, RHC_ERR_response_incomplete },
		{ MESSAGE_E_REFUSED, 0, false, RHC_ERR_reset_before_headers },
		{ MESSAGE_E_HTTP_1_1_REQUIRED, 0, false, RHC_ERR_reset_before_headers },
		{ MESSAGE_E_PROTOCOL, HTTP_E_SYNTAX, false, RHC_ERR_protocol_error },
		{ MESSAGE_E_PROTOCOL, HTTP_E_TRANSFER_CODING, false, RHC_ERR_bad_transfer_coding },
		{ MESSAGE_E_PROTOCOL, HTTP_E_HEAD_TOO_LARGE, false,
		  RHC_ERR_response_headers_too_large },
		{ MESSAGE_E_PROTOCOL, HTTP_E_FIELDS_TOO_MANY, false,
		  RHC_ERR_response_headers_too_large },
		{ MESSAGE_E_HEAD_TOO_LARGE, 0, false, RHC_ERR_response_headers_too_large },
		{ MESSAGE_E_TLS, 0, false, RHC_ERR_tls_failure },
		{ MESSAGE_E_TLS, 0, true, RHC_ERR_response_incomplete },
		{ MESSAGE_E_OVERLOAD, 0, false, RHC_ERR_overloaded },
		{ MESSAGE_E_TIMEOUT, 0, false, RHC_ERR_read_timeout },
		{ MESSAGE_E_TIMEOUT, 0, true, RHC_ERR_body_timeout },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(error_of_message(rows[i].from, rows[i].http, rows[i].head), rows[i].to,
			     "row %zu", i);
}

Test(errors, a_failed_lookup_is_a_timeout_or_a_failure)
{
	cr_assert_eq(error_of_resolver(RESOLVER_OK), RHC_ERR_none);
	cr_assert_eq(error_of_resolver(RESOLVER_TIMEOUT), RHC_ERR_dns_timeout);
	cr_assert_eq(error_of_resolver(RESOLVER_NXDOMAIN), RHC_ERR_dns_failure);
	cr_assert_eq(error_of_resolver(RESOLVER_SERVFAIL), RHC_ERR_dns_failure);
	cr_assert_eq(error_of_resolver(RESOLVER_SYSTEM), RHC_ERR_overloaded);
	cr_assert_str_eq(resolver_error_rcode(RESOLVER_NXDOMAIN), "NXDOMAIN");
	cr_assert(resolver_error_permanent(RESOLVER_NXDOMAIN));
	cr_assert_not(resolver_error_permanent(RESOLVER_SERVFAIL));
}
