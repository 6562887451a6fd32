/*
 * sidecar/exchange/route.h - which upstream a request is for.
 *
 * Order     1 the listener's own upstream   2 x-rhc-upstream   3 the authority (name, url host, hosts of an upstream)
 *           4 an absolute target http:// that forward_proxy.allow lets through.
 * CONNECT   host:port that forward_proxy.allow lets through, if forward_proxy.connect is allow: sets e->connect.
 * Errors    RHC_ERR_no_route, RHC_ERR_denied (forward proxy, CONNECT), RHC_ERR_loop, RHC_ERR_bad_request (CONNECT
 *           without a port), with a sentence.
 */
#ifndef RHC_SIDECAR_EXCHANGE_ROUTE_H
#define RHC_SIDECAR_EXCHANGE_ROUTE_H

#include "sidecar/exchange/exchange.h"

/* Sets e->upstream and answers RHC_ERR_none, or says why not in e->detail. */
enum rhc_error route(struct exchange *e);

#endif
