/*
 * sidecar/admin/body.h - the JSON a change may carry: {"reason": "deploy 42", "ttl_seconds": 900}.
 *
 * Input    the whole body, at most ADMIN_BODY_MAX bytes; an empty one is {}.
 * Output   both members are optional, no other may be there.
 * Errors   a sentence in *why.
 * Limits   one flat object; RHC_REASON_MAX bytes of reason, ADMIN_TTL_MAX seconds.
 * RFC      8259; strings with escapes, \u below the surrogates.
 */
#ifndef RHC_SIDECAR_ADMIN_BODY_H
#define RHC_SIDECAR_ADMIN_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

enum { ADMIN_TTL_MAX = 30 * 86400 };

struct body_change {
	char reason[RHC_REASON_MAX + 1];
	uint64_t ttl_s; /* 0: not given */
};

bool body_parse(const char *p, size_t n, struct body_change *ret, const char **why);

#endif
