/*
 * sidecar/exchange/wishes.h - what a request asks of us by its fields: its id, its time, its attempts.
 *
 * Rule      A caller can tighten what the configuration says, never widen it.
 * Secrets   A request id goes into logs and heads, so it is kept only when it is short and of harmless letters.
 */
#ifndef RHC_SIDECAR_EXCHANGE_WISHES_H
#define RHC_SIDECAR_EXCHANGE_WISHES_H

#include "sidecar/exchange/exchange.h"

/* e->request_id: the caller's, if it may be kept, else a new one.  e->upstream may be NULL. */
void wishes_request_id(struct exchange *e);

/* Deadline, attempts, timing, Expect, Upgrade, gRPC.  e->upstream is set. */
void wishes_take(struct exchange *e);

/* May it be kept as a request id? */
bool wishes_id_is_good(struct http_str id);

/* "2s", "250ms", "1.5" or seconds, in ns; 0: not a time. */
uint64_t wishes_time(struct http_str s);

#endif
