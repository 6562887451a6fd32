/*
 * sidecar/upstream/health.h - is the upstream reachable?  GET health.path on a connection of its
 * own.
 *
 * Shape       struct health lies in struct upstream; at most one check at a time per worker and
 *             upstream.
 * Bypasses    slot, retry and verdict: it is advice for people, live traffic decides for the
 *             breaker (a check that succeeds while calls fail must not close anything).
 * Result      in the segment (rhc_upstream.health), for every reader; the callback has the details.
 * Bounds      health.timeout for everything: lookup, connect, TLS, head.  The body is not read.
 * When        health.interval (off by default) or on demand.  With an interval one worker does it:
 *             the one with the lowest index alive.
 */
#ifndef RHC_SIDECAR_UPSTREAM_HEALTH_H
#define RHC_SIDECAR_UPSTREAM_HEALTH_H

#include "shm/counters.h"
#include "sidecar/http/conn.h"
#include "sidecar/upstream/resolver.h"

struct upstream;

enum { HEALTH_TEXT_MAX = 120 };

struct health_result {
	bool reachable;       /* a response came, and its status is expected */
	enum rhc_error error; /* RHC_ERR_status: an unexpected one */
	uint16_t status;      /* 0: none came */
	uint64_t took_ns;
	char text[HEALTH_TEXT_MAX]; /* the guide's service_error; "" when reachable */
};

struct health {
	uint8_t state;
	uint16_t endpoint;
	bool stopped;
	struct timer timer; /* health.timeout; or at once, for an end that is known already */
	struct timer interval;
	struct resolver_wait dns;
	struct http_conn *conn;
	struct message *msg;
	struct http_limits limits;
	uint32_t tried;
	uint64_t begun_ns;
	struct health_result next;   /* of the check under way */
	struct health_result result; /* of the last one */
	bool known;                  /* there was a last one */
	void (*done)(void *owner, struct upstream *up, const struct health_result *r);
	void *owner;
};

void health_init(struct upstream *up);
void health_fini(struct upstream *up); /* asserts health_idle() */
bool health_idle(
	const struct upstream *up); /* no check is under way and its connection is closed */

/*
 * Begin a check; done (may be NULL) is called at its end.  0, or -EALREADY while one is under way.
 */
int health_check(struct upstream *up,
		 void (*done)(void *owner, struct upstream *up, const struct health_result *r),
		 void *owner);
void health_stop(struct upstream *up); /* no further checks; the one under way is aborted */

#endif
