/* sidecar/exchange/grpc.h: types, timeouts, statuses. */
#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/exchange/grpc.h"

static struct http_str str(const char *s)
{
	return (struct http_str){ s, (uint32_t)strlen(s) };
}

Test(grpc, its_content_types_are_known_and_others_are_not_taken_for_it)
{
	static const struct {
		const char *type;
		bool is;
	} rows[] = {
		{ "application/grpc", true },
		{ "application/grpc+proto", true },
		{ "application/grpc;charset=utf-8", true },
		{ "Application/GRPC", true },
		{ "application/grpc-web", true },
		{ "application/grpc-web-text+proto", true },
		{ "application/grpcx", false },
		{ "application/grp", false },
		{ "application/json", false },
		{ "text/application/grpc", false },
		{ "", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(grpc_is_type(str(rows[i].type)), rows[i].is, "%s", rows[i].type);
}

Test(grpc, a_timeout_is_up_to_eight_digits_and_a_unit)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} rows[] = {
		{ "1S", NS_PER_S },
		{ "250m", 250 * NS_PER_MS },
		{ "7u", 7 * NS_PER_US },
		{ "99999999n", 99999999 },
		{ "2M", 120 * NS_PER_S },
		{ "1H", 3600 * NS_PER_S },
		{ "99999999H", GRPC_TIMEOUT_MAX_NS },
		{ "9999999S", 9999999 * NS_PER_S },
		{ "0S", 0 },
		{ "123456789S", 0 },
		{ "S", 0 },
		{ "1", 0 },
		{ "1s", 0 },
		{ "1.5S", 0 },
		{ "-1S", 0 },
		{ " 1S", 0 },
		{ "1S ", 0 },
		{ "", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(grpc_timeout(str(rows[i].text)), rows[i].ns, "%s", rows[i].text);
}

Test(grpc, a_status_is_read_from_a_head_or_from_trailers)
{
	static const struct {
		const char *value;
		int code;
	} rows[] = {
		{ "0", 0 },   { "14", 14 }, { "16", 16 }, { "17", GRPC_UNKNOWN },   { "99", GRPC_UNKNOWN },
		{ "", GRPC_UNKNOWN }, { "x", GRPC_UNKNOWN }, { "-1", GRPC_UNKNOWN }, { "014", GRPC_UNKNOWN },
	};
	struct http_field fields[4];
	struct http_head h = { .fields = fields, .fields_max = 4 };

	cr_assert_eq(grpc_status_of(NULL), GRPC_NONE);
	cr_assert_eq(grpc_status_of(&h), GRPC_NONE);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		h.n_fields = 0;
		http_head_add(&h, HTTP_FIELD_GRPC_STATUS, HTTP_STR("grpc-status"), str(rows[i].value));
		cr_assert_eq(grpc_status_of(&h), rows[i].code, "%s", rows[i].value);
	}
}

Test(grpc, what_a_gateway_would_report_counts_like_a_gateways_status)
{
	static const uint16_t expected[GRPC_CODES] = { 200, 499, 500, 400, 504, 404, 409, 403, 429,
		                                       400, 409, 400, 501, 500, 503, 500, 401 };

	for (int i = 0; i < GRPC_CODES; i++)
		cr_assert_eq(grpc_http_status(i), expected[i], "code %d", i);
	cr_assert_eq(grpc_http_status(GRPC_NONE), 200);
	cr_assert_eq(grpc_http_status(GRPC_CODES), 200);
}

Test(grpc, each_refusal_of_ours_has_a_code)
{
	cr_assert_eq(grpc_code_of(RHC_ERR_circuit_open, 503), GRPC_UNAVAILABLE);
	cr_assert_eq(grpc_code_of(RHC_ERR_bulkhead_timeout, 503), GRPC_UNAVAILABLE);
	cr_assert_eq(grpc_code_of(RHC_ERR_connect_refused, 502), GRPC_UNAVAILABLE);
	cr_assert_eq(grpc_code_of(RHC_ERR_read_timeout, 504), GRPC_DEADLINE_EXCEEDED);
	cr_assert_eq(grpc_code_of(RHC_ERR_deadline_total, 504), GRPC_DEADLINE_EXCEEDED);
	cr_assert_eq(grpc_code_of(RHC_ERR_denied, 403), GRPC_PERMISSION_DENIED);
	cr_assert_eq(grpc_code_of(RHC_ERR_no_route, 500), GRPC_UNIMPLEMENTED);
	cr_assert_eq(grpc_code_of(RHC_ERR_bad_request, 400), GRPC_INTERNAL);
	cr_assert_eq(grpc_code_of(RHC_ERR_bad_request, 413), GRPC_RESOURCE_EXHAUSTED);
	cr_assert_eq(grpc_code_of(RHC_ERR_internal, 500), GRPC_INTERNAL);
	for (int err = RHC_ERR_none + 1; err < RHC_ERR_COUNT; err++) {
		int code = grpc_code_of((enum rhc_error)err, error_row((enum rhc_error)err)->status);

		cr_assert(code > GRPC_OK && code < GRPC_CODES, "error %d", err);
	}
}
