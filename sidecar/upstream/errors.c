#include "sidecar/upstream/errors.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/upstream/resolver.h"

_Static_assert((int)CONFIG_FAILURE_TIMEOUT < (int)ERROR_FAILURE_NEVER,
	       "failures are bits of a set");

/* clang-format off */
#define FAILURE_DNS      CONFIG_FAILURE_DNS
#define FAILURE_CONNECT  CONFIG_FAILURE_CONNECT
#define FAILURE_TLS      CONFIG_FAILURE_TLS
#define FAILURE_RESET    CONFIG_FAILURE_RESET
#define FAILURE_PROTOCOL CONFIG_FAILURE_PROTOCOL
#define FAILURE_TIMEOUT  CONFIG_FAILURE_TIMEOUT
#define FAILURE_NEVER    ERROR_FAILURE_NEVER

static const struct error_row rows[RHC_ERR_COUNT] = {
#define UP_ERROR(id_, status_, proxy_status_, flag_, class_, failure_, again_, retry_after_, title_) \
	[RHC_ERR_##id_] = { .id = #id_, .status = status_, .class = ERROR_CLASS_##class_, \
	                    .failure = FAILURE_##failure_, .again = ERROR_AGAIN_##again_, \
	                    .retry_after_s = retry_after_, .proxy_status = proxy_status_, \
	                    .flag = flag_, .title = title_ },
#include "sidecar/upstream/errors.def"
#undef UP_ERROR
};
/* clang-format on */

const struct error_row *error_row(enum rhc_error id)
{
	assert((unsigned)id < RHC_ERR_COUNT && rows[id].id != NULL);
	return &rows[id];
}

const char *error_class_name(enum error_class c)
{
	static const char *const names[ERROR_CLASSES] = {
		[ERROR_CLASS_POOL_TIMEOUT] = "PoolTimeoutError",
		[ERROR_CLASS_CONNECTION] = "APIConnectionError",
		[ERROR_CLASS_TIMEOUT] = "APITimeoutError",
	};

	assert((unsigned)c < ERROR_CLASSES);
	return names[c];
}

/*
 * The titles are ours; %s is the only directive, so it is replaced by hand and no format is not a
 * literal.
 */
const char *error_title(enum rhc_error id, uint64_t waited_ns, char *out, size_t cap)
{
	const char *title = error_row(id)->title;
	const char *at = strstr(title, "%s");
	uint64_t tenths = (waited_ns + NS_PER_S / 20) / (NS_PER_S / 10);

	if (!at)
		snprintf(out, cap, "%s", title);
	else
		snprintf(out, cap, "%.*s%llu.%llus%s", (int)(at - title), title,
			 (unsigned long long)(tenths / 10), (unsigned long long)(tenths % 10),
			 at + 2);
	return out;
}

bool error_counts(const struct config_breaker *b, enum rhc_error id, uint16_t status)
{
	const struct error_row *row = error_row(id);

	if (id == RHC_ERR_status)
		return config_status_in(&b->count_statuses, status);
	return row->failure != ERROR_FAILURE_NEVER && config_set_has(b->count, row->failure);
}

enum rhc_error error_of_connect(enum stream_error err)
{
	switch (err) {
	case STREAM_OK:
		return RHC_ERR_none;
	case STREAM_E_REFUSED:
		return RHC_ERR_connect_refused;
	case STREAM_E_UNREACHABLE:
		return RHC_ERR_connect_unroutable;
	case STREAM_E_TLS:
	case STREAM_E_TRUNCATED: /* the peer went away in the middle of the handshake */
		return RHC_ERR_tls_failure;
	case STREAM_E_TLS_CERT:
		return RHC_ERR_tls_certificate;
	case STREAM_E_TLS_ALERT:
		return RHC_ERR_tls_alert;
	case STREAM_E_NO_BUFFERS:
		return RHC_ERR_overloaded;
	case STREAM_E_CONNECT:
	case STREAM_E_RESET:
		break;
	}
	/* Whatever else: there was no connection, and the request has not left. */
	return RHC_ERR_connect_refused;
}

enum rhc_error error_of_resolver(enum resolver_error err)
{
	switch (err) {
	case RESOLVER_OK:
		return RHC_ERR_none;
	case RESOLVER_TIMEOUT:
		return RHC_ERR_dns_timeout;
	case RESOLVER_SYSTEM:
		return RHC_ERR_overloaded;
	default:
		return RHC_ERR_dns_failure;
	}
}

static enum rhc_error of_protocol(uint16_t http_error)
{
	switch (http_error) {
	case HTTP_E_TRANSFER_CODING:
		return RHC_ERR_bad_transfer_coding;
	case HTTP_E_HEAD_TOO_LARGE:
	case HTTP_E_FIELDS_TOO_MANY:
		return RHC_ERR_response_headers_too_large;
	default:
		return RHC_ERR_protocol_error;
	}
}

enum rhc_error error_of_message(enum message_error err, uint16_t http_error, bool head_done)
{
	switch (err) {
	case MESSAGE_OK:
		return RHC_ERR_none;
	case MESSAGE_E_RESET:
	case MESSAGE_E_EOF:
	case MESSAGE_E_INCOMPLETE:
	case MESSAGE_E_REFUSED:
	case MESSAGE_E_HTTP_1_1_REQUIRED:
		return head_done ? RHC_ERR_response_incomplete : RHC_ERR_reset_before_headers;
	case MESSAGE_E_PROTOCOL:
		return of_protocol(http_error);
	case MESSAGE_E_HEAD_TOO_LARGE:
		return RHC_ERR_response_headers_too_large;
	case MESSAGE_E_TLS:
		return head_done ? RHC_ERR_response_incomplete : RHC_ERR_tls_failure;
	case MESSAGE_E_OVERLOAD:
		return RHC_ERR_overloaded;
	case MESSAGE_E_TIMEOUT: /* h2 PING went unanswered: the connection is dead */
		return head_done ? RHC_ERR_body_timeout : RHC_ERR_read_timeout;
	}
	return RHC_ERR_internal;
}
