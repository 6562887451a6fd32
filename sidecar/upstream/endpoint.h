/*
 * sidecar/upstream/endpoint.h - the addresses of an upstream, and which one comes next.
 *
 * Shape    struct endpoints: up to RESOLVER_ADDRS_MAX rows, kept in step with the resolver; a row
 *          that the new answer has too keeps its history.
 * Picks    Among the healthy ones not tried yet by this attempt or call: the better of two (fewer
 *          messages in flight), found round robin, families alternating as the resolver ordered
 *          them.  Then those that failed within ENDPOINT_PENALTY, the one that failed longest ago
 *                 first.  Then, when all were tried, the same
 *          again: a second address is preferred, never required.
 * Never    decides to refuse: this is order, not health.  Refusing is the breaker's.
 */
#ifndef RHC_SIDECAR_UPSTREAM_ENDPOINT_H
#define RHC_SIDECAR_UPSTREAM_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/upstream/resolver.h"

#define ENDPOINT_PENALTY_NS \
	UINT64_C(10000000000) /* how long a failed connect makes an address the last choice */

enum { ENDPOINT_NONE = UINT16_MAX };

struct endpoint {
	union resolver_addr addr;
	uint32_t in_flight; /* messages and connects */
	uint32_t conns;     /* connections, ready or connecting */
	uint32_t failures;  /* connects that failed since the last that did not */
	uint64_t failed_ns; /* the last one, 0: none */
	bool gone;          /* no longer in the answer; the row is reused once conns == 0 */
};

struct endpoints {
	uint32_t n;          /* rows */
	uint32_t generation; /* of the resolver's set */
	uint32_t cursor;
	struct endpoint row[RESOLVER_ADDRS_MAX];
};

/* tried is a set of rows, bit i for row i: what this attempt, or the attempts before, went to. */
void endpoints_init(struct endpoints *e);
void endpoints_update(struct endpoints *e, const union resolver_addr *addrs, uint32_t n,
		      uint32_t generation);

/* ENDPOINT_NONE when there is no address at all. */
uint16_t endpoints_pick(struct endpoints *e, uint32_t tried, uint64_t now_ns);
void endpoints_failed(struct endpoints *e, uint16_t i, uint64_t now_ns);
void endpoints_ok(struct endpoints *e, uint16_t i);
/* Addresses not tried that a connect could go on with. */
uint32_t endpoints_left(const struct endpoints *e, uint32_t tried);

#endif
