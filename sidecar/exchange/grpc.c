#include "sidecar/exchange/grpc.h"

#include <string.h>

enum { TIMEOUT_DIGITS = 8 };

bool grpc_is_type(struct http_str type)
{
	static const struct http_str grpc = { "application/grpc", 16 };

	if (type.n < grpc.n || !http_str_ieq((struct http_str){ type.p, grpc.n }, grpc))
		return false;
	return type.n == grpc.n || strchr("+;- ", type.p[grpc.n]) != NULL;
}

int grpc_status_of(const struct http_head *h)
{
	const struct http_field *f = h ? http_head_find(h, HTTP_FIELD_GRPC_STATUS) : NULL;
	int code = 0;

	if (!f)
		return GRPC_NONE;
	if (f->value_len == 0 || f->value_len > 2)
		return GRPC_UNKNOWN;
	for (uint32_t i = 0; i < f->value_len; i++) {
		if (f->value[i] < '0' || f->value[i] > '9')
			return GRPC_UNKNOWN;
		code = code * 10 + (f->value[i] - '0');
	}
	return code < GRPC_CODES ? code : GRPC_UNKNOWN;
}

/* As in google.rpc.Code, which Envoy and grpc-gateway follow. */
uint16_t grpc_http_status(int code)
{
	static const uint16_t statuses[GRPC_CODES] = { 200, 499, 500, 400, 504, 404, 409, 403, 429,
		                                       400, 409, 400, 501, 500, 503, 500, 401 };

	return code >= 0 && code < GRPC_CODES ? statuses[code] : 200;
}

enum grpc_code grpc_code_of(enum rhc_error err, uint16_t status)
{
	if (error_row(err)->class == ERROR_CLASS_TIMEOUT)
		return GRPC_DEADLINE_EXCEEDED;
	switch (err) {
	case RHC_ERR_denied:
		return GRPC_PERMISSION_DENIED;
	case RHC_ERR_no_route:
		return GRPC_UNIMPLEMENTED;
	case RHC_ERR_bad_request:
		return status == 413 ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL;
	case RHC_ERR_response_body_too_large:
	case RHC_ERR_response_headers_too_large:
		return GRPC_RESOURCE_EXHAUSTED;
	case RHC_ERR_internal:
	case RHC_ERR_loop:
	case RHC_ERR_protocol_error:
	case RHC_ERR_bad_transfer_coding:
		return GRPC_INTERNAL;
	default:
		return GRPC_UNAVAILABLE; /* trying again may help */
	}
}

static uint64_t unit_ns(char c)
{
	switch (c) {
	case 'H':
		return 3600 * NS_PER_S;
	case 'M':
		return 60 * NS_PER_S;
	case 'S':
		return NS_PER_S;
	case 'm':
		return NS_PER_MS;
	case 'u':
		return NS_PER_US;
	case 'n':
		return 1;
	default:
		return 0;
	}
}

uint64_t grpc_timeout(struct http_str s)
{
	uint64_t n = 0, unit;
	uint32_t i = 0;

	for (; i < s.n && i < TIMEOUT_DIGITS && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		n = n * 10 + (uint64_t)(s.p[i] - '0');
	if (i == 0 || s.n != i + 1)
		return 0;
	unit = unit_ns(s.p[i]);
	return unit && n > GRPC_TIMEOUT_MAX_NS / unit ? GRPC_TIMEOUT_MAX_NS : n * unit;
}
