/*
 * sidecar/http/env.h - makes the struct http_env of a process: the slabs, sized once.
 *
 * Owns    The slabs.  Their memory is reserved here and touched only as far as it is used.
 * Errors  -ENOMEM.
 */
#ifndef RHC_SIDECAR_HTTP_ENV_H
#define RHC_SIDECAR_HTTP_ENV_H

#include "sidecar/http/conn.h"

struct http_sizes {
	uint32_t conns; /* connections of both sides */
	uint32_t tls; /* of these, with TLS */
	uint32_t h2_conns; /* of these, with HTTP/2 */
	uint32_t h2_streams; /* over all of them */
	uint32_t messages; /* messages at once, both sides */
};

struct http_slabs {
	struct slab txq, tls, conn, h2, h2_stream, head, rx;
};

/* Zeroes count as one.  On error nothing is left behind. */
int  http_env_init(struct http_env *env, struct http_slabs *slabs, const struct http_sizes *sizes,
                   struct engine *engine, struct buf_pool *bufs, struct timer_wheel *timers);
void http_env_fini(struct http_env *env, struct http_slabs *slabs); /* asserts that everything is back */

#endif
