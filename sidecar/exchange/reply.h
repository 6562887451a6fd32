/*
 * sidecar/exchange/reply.h - answers of our own, all from the one error table (sidecar/upstream/errors.def).
 *
 * Shape     application/problem+json (RFC 9457), text/plain where the app asks for text or the configuration says so,
 *           a Trailers-Only answer for a gRPC call.  With it Proxy-Status (RFC 9209), Retry-After, x-rhc-error,
 *           the request id and x-rhc-attempts.
 * Texts     The title begins with the guide's exact message; the detail says what happened and when.
 */
#ifndef RHC_SIDECAR_EXCHANGE_REPLY_H
#define RHC_SIDECAR_EXCHANGE_REPLY_H

#include <stddef.h>

#include "sidecar/exchange/exchange.h"

enum { REPLY_TITLE_MAX = 160 };

/* Send the answer for e->error.  The exchange is in REPLY then. -errno: it could not be queued. */
int reply_send(struct exchange *e);

/* The title of e->error with its time filled in. */
void reply_title(const struct exchange *e, char out[REPLY_TITLE_MAX]);

#endif
