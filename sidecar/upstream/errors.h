/*
 * sidecar/upstream/errors.h - what each error of a call means: status, Proxy-Status, flag, class,
 * title, policy.
 *
 * Shape    A constant row per enum rhc_error (shm/errors.def), made from errors.def; and the
 *          mappings from what the floors below report to those ids.
 * Used by  the exchange for its own answers and logs, the guard for verdicts, retry.h for
 *          decisions.
 * Never    allocates.  Rows are constant; every string is static.
 * See      RFC 9209 (Proxy-Status), sidecar/upstream/README.md.
 */
#ifndef RHC_SIDECAR_UPSTREAM_ERRORS_H
#define RHC_SIDECAR_UPSTREAM_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/counters.h"
#include "sidecar/config/config.h"
#include "sidecar/http/message.h"
#include "sidecar/io/stream.h"

/* The guide's exceptions; NONE has no x-rhc-error. */
enum error_class {
	ERROR_CLASS_NONE,
	ERROR_CLASS_POOL_TIMEOUT,
	ERROR_CLASS_CONNECTION,
	ERROR_CLASS_TIMEOUT,
	ERROR_CLASSES
};

/* Whether trying again can make sense at all, and what has to be checked first. */
enum error_again {
	ERROR_AGAIN_NO,
	ERROR_AGAIN_UNSENT, /* no byte of the request was sent: any method */
	ERROR_AGAIN_SENT,   /* the upstream may have acted on it: method, key and body decide */
};

enum {
	ERROR_FAILURE_NEVER = 31
}; /* failure of a row: neither counted nor retried, whatever is configured */
enum { ERROR_TITLE_MAX = 160 };

struct error_row {
	const char
		*id; /* "circuit_open": metric label, urn:rhc:error:<id>, details of Proxy-Status */
	uint16_t status;
	uint8_t class;   /* enum error_class */
	uint8_t failure; /* enum config_failure, or ERROR_FAILURE_NEVER */
	uint8_t again;   /* enum error_again */
	uint8_t retry_after_s;
	const char *proxy_status;
	const char *flag;
	const char *title; /* may hold one %s */
};

const struct error_row *error_row(enum rhc_error id); /* never NULL: asserts on an unknown id */

const char *error_class_name(enum error_class c); /* "PoolTimeoutError"; NULL for NONE */

/* The title with the time waited for, "30.0s", where it names one.  Returns out. */
const char *error_title(enum rhc_error id, uint64_t waited_ns, char *out, size_t cap);

/* Does an attempt that ended so count against the upstream?  status only with RHC_ERR_status. */
bool error_counts(const struct config_breaker *b, enum rhc_error id, uint16_t status);

enum resolver_error; /* sidecar/upstream/resolver.h */

/* A connection that never became ready. */
enum rhc_error error_of_connect(enum stream_error err);
enum rhc_error error_of_resolver(enum resolver_error err);

/*
 * A message that failed.  head_done: its final response head had been delivered, so the failure is
 * one within the body.
 */
enum rhc_error error_of_message(enum message_error err, uint16_t http_error, bool head_done);

#endif
