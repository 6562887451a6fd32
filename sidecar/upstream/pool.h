/*
 * sidecar/upstream/pool.h - the connections of one upstream in one worker, and who waits for one.
 *
 * Shape       struct pool lies in struct upstream.  Connections with room stand in one list, the
 *             one used last in front: an h1 connection while it is idle, an h2 connection while it
 *             has streams left.  A connect under way is a struct pool_dial: lookup, then one
 *             address after the other.
 * Owns        The connections, from http_client_open() to on_closed.
 * Takes       pool_take() answers at once when there is room on a ready connection (no allocation,
 *             no system call); else the caller waits, first come first served, and is called back.
 *             Who waits gets whichever comes first: room on an old connection, or the new one that
 *             was dialled for it.
 * Calls back  pool_wait.done: never from within a function of this header; always from
 *             engine_turn() or a timer.
 * Waits       Without a connect under way: timeout.pool, then pool_timeout.  With one: it ends
 *             within timeout.connect (lookup, TCP and TLS over all addresses) and says how:
 *             connect_timeout, connect_refused, tls_certificate, dns_failure ...  The call's
 *             deadline bounds both (deadline_total).
 * Addresses   A connect that fails goes on with the next address while time is left; while others
 *             are left an address gets only a share of it, so one that swallows packets does not
 *             take it all.
 * Dial rate   As many connects as waiters need: one each for h1; h2 connections count with their
 *             streams, so a burst on a cold h2 upstream dials once, not fifty times.
 * Limits      max_connections (ready and connecting), max_idle, and by the connection itself: idle
 *             timeout, max_requests_per_connection, streams.
 * Stale       A connection may die of old age while a request is on its way: message->reused, no
 *             byte of a response. The caller may then take again with wait->fresh, which dials
 *             instead of guessing again.
 * Ends when   pool_drain() and the last message was released; pool_fini() asserts that nothing is
 *             left.
 */
#ifndef RHC_SIDECAR_UPSTREAM_POOL_H
#define RHC_SIDECAR_UPSTREAM_POOL_H

#include "shm/counters.h"
#include "sidecar/http/conn.h"
#include "sidecar/upstream/resolver.h"

struct upstream;

enum { POOL_TEXT_MAX = 120 };

struct pool_wait {
	/* in */
	void (*done)(struct pool_wait *w, struct message *m); /* m == NULL: ->error says why */
	const struct message_events *ev;                      /* of the message to come */
	void *owner;
	uint32_t tried;       /* endpoints this call has used before; the chosen one is added */
	bool fresh;           /* do not use a kept connection */
	bool h1;              /* HTTP/1.1 only: Upgrade has no meaning in HTTP/2 */
	bool raw;             /* a tunnel to the address, without TLS or HTTP (CONNECT) */
	uint64_t deadline_ns; /* of the call, 0: none */
	/* out, with either answer */
	enum rhc_error error;    /* RHC_ERR_none with a message */
	enum resolver_error dns; /* with dns_failure, dns_timeout */
	bool permanent;          /* the same would happen again: NXDOMAIN, no such certificate */
	bool reused;             /* a kept connection */
	uint16_t endpoint;       /* row, ENDPOINT_NONE when it did not come to that */
	uint64_t pool_ns;        /* waited without a connect of our own */
	uint64_t dns_ns, connect_ns, tls_ns; /* of the connect that was waited for */
	char text[POOL_TEXT_MAX]; /* "connection refused (10.0.4.7:443)"; "" with a message */
	/* the pool's */
	struct list_node node;
	struct timer timer;
	struct upstream *up; /* NULL: not waiting */
	struct pool_dial *dial;
	uint64_t since_ns;
	uint64_t dial_ns; /* when it got its dial */
};

struct pool {
	struct list avail; /* struct pool_conn with room, last used first */
	struct list conns; /* every struct pool_conn of this pool */
	struct list dials;
	struct list waits; /* first come first */
	uint32_t n_conns;  /* ready and not draining */
	uint32_t n_dials;
	uint32_t n_idle; /* ready without a message */
	uint32_t n_waits;
	uint32_t room_guess; /* messages a new connection will carry; 0: not known yet */
	bool h1_only;        /* the upstream asked for HTTP/1.1 */
	bool draining;
	struct http_limits limits;
	struct engine_deferred work;
};

void pool_init(struct upstream *up);
void pool_fini(struct upstream *up); /* asserts that it is empty */

/*
 * A message on a ready connection, or NULL: w->done will be called.  w must be zeroed but for its
 * `in` part, or have been used before; it must stay where it is until then.
 */
struct message *pool_take(struct upstream *up, struct pool_wait *w);

/* Wait no longer; no call comes.  A wait that is over is fine. */
void pool_cancel(struct pool_wait *w);

/* The upstream answered HTTP_1_1_REQUIRED (RFC 9113 section 7): new connections speak HTTP/1.1. */
void pool_downgrade(struct upstream *up);

/*
 * No new connections are kept: idle ones close now, busy ones with their last message, waiters are
 * still served.
 */
void pool_drain(struct upstream *up);
bool pool_empty(const struct upstream *up); /* no connection, dial or wait is left */

struct pool_counts {
	uint32_t ready, idle, dialling, waiting, messages;
};
struct pool_counts pool_counts(const struct upstream *up);

#endif
