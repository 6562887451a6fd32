/*
 * sidecar/exchange/grpc.h - what of gRPC over HTTP/2 concerns a proxy: deadline and status.
 *
 * Status    A gRPC answer is 200 in HTTP, whatever happened; grpc-status in the trailers, or in the head of an answer
 *           without a body (Trailers-Only), tells.  For verdict and retry it stands for the HTTP status that gRPC's
 *           own mapping gives it, so circuit_breaker.count_statuses and retry.statuses speak of both:
 *           UNAVAILABLE is 503 and DEADLINE_EXCEEDED 504, which count by default; INTERNAL, UNKNOWN and DATA_LOSS
 *           are 500, which does not.
 * Ours      Refusals of ours are Trailers-Only answers: reply.c.
 */
#ifndef RHC_SIDECAR_EXCHANGE_GRPC_H
#define RHC_SIDECAR_EXCHANGE_GRPC_H

#include "proto/http.h"
#include "sidecar/base/clock.h"
#include "sidecar/upstream/errors.h"

enum grpc_code {
	GRPC_NONE = -1,
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_CODES = 17,
};

/* Is this Content-Type gRPC's?  application/grpc, with +proto and the like; gRPC-Web as well. */
bool grpc_is_type(struct http_str type);

/* grpc-status of a head or a trailer section; GRPC_NONE when there is none, GRPC_UNKNOWN for nonsense. */
int grpc_status_of(const struct http_head *h);

/* The HTTP status that stands for it. */
uint16_t grpc_http_status(int code);

/* The code of an answer of ours. */
enum grpc_code grpc_code_of(enum rhc_error err, uint16_t status);

/* grpc-timeout: up to 8 digits and a unit (H M S m u n), in ns, at most GRPC_TIMEOUT_MAX_NS; 0: not such a value. */
#define GRPC_TIMEOUT_MAX_NS (UINT64_C(365) * 86400 * NS_PER_S)
uint64_t grpc_timeout(struct http_str s);

#endif
