/*
 * sidecar/upstream/upstream_private.h - making and ending one struct upstream; upstream.c,
 * forward.c, and what dial.c and health.c share.
 */
#ifndef RHC_SIDECAR_UPSTREAM_UPSTREAM_PRIVATE_H
#define RHC_SIDECAR_UPSTREAM_UPSTREAM_PRIVATE_H

#include "sidecar/upstream/upstream.h"

enum { UPSTREAM_MAGIC = 0x55505354, UPSTREAMS_MAGIC = 0x55505453 };

/* up->forward is set before.  0, -ENOMEM, -EINVAL. */
int upstream_init(struct upstream *up, struct upstreams *all, const struct config_upstream *cfg,
		  const struct config_policy *policy, const struct upstream_tls *tls,
		  uint32_t index);
void upstream_fini(struct upstream *up);
bool upstream_idle(const struct upstream *up); /* no connection, no wait, no check */

/* What pool.tcp_* say, for a connection of this upstream. */
struct sock_opts upstream_sock_opts(const struct upstream *up);

void upstream_forward_free(struct upstream *up);
/* Its record, for something that is no call: false if it went to another host; upstream_forward_put(). */
bool upstream_forward_get(struct upstream *up);
void upstream_forward_put(struct upstream *up);

/* Does it match one host alone? */
bool upstream_forward_is_host(const char *pattern);
/* The name of the record of a host (or host:port), at most RHC_NAME_MAX bytes, in lower case. */
void upstream_forward_record(struct http_str host, char out[RHC_NAME_MAX + 1]);

#endif
