/*
 * sidecar/exchange/heads.h - the heads we send: the app's request to the upstream, the upstream's answer to the app.
 *
 * Shape     Built in env->scratch from the head that came in: fields that are hop-by-hop or ours are left out, what the
 *           configuration and the RFCs ask for is added.  Nothing is copied but values made anew.
 * RFC       9110 §7.6 (forwarding), §7.6.3 (Via), §7.2 (Host); 9209 (Proxy-Status).
 */
#ifndef RHC_SIDECAR_EXCHANGE_HEADS_H
#define RHC_SIDECAR_EXCHANGE_HEADS_H

#include "sidecar/exchange/exchange.h"

/* Text for values of the head being built; valid until the next head is begun. */
struct head_text {
	char  *p;
	size_t left;
};

/* Start a head in env->scratch. */
struct http_head *head_begin(struct exchange_env *env, struct head_text *text);

/* printf into the scratch text; an empty string when it does not fit. */
struct http_str head_printf(struct head_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct http_str head_number(struct head_text *t, uint32_t v); /* the same for "%u", at a tenth of its cost */

/* The request of the current attempt. 0 or -ENOSPC (too many fields). */
int head_request(struct exchange *e, struct http_head **ret);

/* The upstream's answer, annotated. 0 or -ENOSPC. */
int head_response(struct exchange *e, const struct http_head *from, struct http_head **ret);

/* The fields that every answer carries, ours and the upstream's: request id, attempts, timing.  0 or -ENOSPC. */
int head_annotate(struct exchange *e, struct http_head *h, struct head_text *t);

/* Is this request one that went through this sidecar before?  name: env->via, as received-by in an element of Via */
bool head_is_loop(const struct http_head *req, const char *name);

#endif
