/*
 * sidecar/upstream/pool_private.h - what pool.c and dial.c share; nobody else includes it
 * (upstream.c for the sizes).
 *
 * pool_conn   one connection as the pool sees it: DIALLING (belongs to its dial), READY, LEAVING
 *             (takes no more messages, or was given up while connecting: only on_closed is still to
 *             come).
 * pool_dial   one connect on behalf of waiters: RESOLVING, CONNECTING, then READY or FAILED until
 *             the pool's work at the end of the turn has told the waiters.
 */
#ifndef RHC_SIDECAR_UPSTREAM_POOL_PRIVATE_H
#define RHC_SIDECAR_UPSTREAM_POOL_PRIVATE_H

#include "sidecar/upstream/upstream.h"

enum { POOL_CONN_MAGIC = 0x504f4f43, POOL_DIAL_MAGIC = 0x504f4f44 };

enum pool_conn_state { CONN_DIALLING, CONN_READY, CONN_LEAVING };

struct pool_conn {
	uint32_t magic;
	uint8_t state;
	bool idle;       /* counted in pool.n_idle */
	bool was_ready;  /* counted as opened */
	bool settled;    /* h2: it has told its capacity itself */
	bool raw;        /* for a tunnel: nothing else can be sent there */
	bool h1_asked;   /* would be HTTP/2 if its waiter had not wanted HTTP/1.1 */
	uint8_t version; /* enum http_version, once ready */
	uint16_t endpoint;
	uint32_t active; /* messages, as counted at the endpoint */
	uint32_t room;   /* until settled */
	struct upstream *up;
	struct pool_dial *dial; /* DIALLING */
	struct http_conn *c;
	struct list_node node;  /* pool.conns */
	struct list_node avail; /* pool.avail, while it has room */
};

enum pool_dial_state { DIAL_RESOLVING, DIAL_CONNECTING, DIAL_READY, DIAL_FAILED };

struct pool_dial {
	uint32_t magic;
	uint8_t state;
	bool permanent;
	bool h1, raw; /* as its wait wants it */
	uint16_t endpoint;
	struct list_node node;
	struct upstream *up;
	struct pool_conn *conn; /* the address under way, or the one that got ready */
	struct resolver_wait dns;
	struct timer timer; /* the address's share of the time, or all that is left */
	uint64_t begun_ns, deadline_ns;
	uint64_t dns_ns, connect_ns, tls_ns;
	uint32_t tried;   /* rows this dial went to */
	uint32_t avoid;   /* rows the call has been to before */
	uint32_t sharers; /* waits that stand on it */
	enum rhc_error error;
	enum resolver_error dns_error;
	char text[POOL_TEXT_MAX];
};

/* A connect as w wants it.  NULL: slab empty. */
struct pool_dial *dial_new(struct upstream *up, const struct pool_wait *w);
void dial_free(struct pool_dial *d); /* READY or FAILED */

extern const struct http_conn_events pool_conn_events;

/*
 * Room for one more message now.  Asked again just before each: a connection that has begun to
 * close says so only when it is closed.  Until its SETTINGS have come an h2 connection believes in
 * more streams than it may get (RFC 9113 section 6.5.2), so what the one before could carry is
 * taken for its limit.
 */
static inline bool pool_conn_usable(const struct pool_conn *pc)
{
	const struct http_conn *c = pc->c;
	uint32_t room = pc->settled || c->capacity < pc->room ? c->capacity : pc->room;

	return pc->state == CONN_READY && c->ready && !c->closing && !c->draining &&
	       c->active < room;
}

/* pool_conn.c */
void pool_work_later(struct upstream *up);
void pool_conn_sync(
	struct pool_conn *pc); /* lists and counts in line with what the connection says */
void pool_conn_ready(struct pool_conn *pc);  /* into the books */
void pool_conn_retire(struct pool_conn *pc); /* no more messages, then closed */
void pool_gone_endpoints(
	struct upstream *up); /* retire connections to addresses that are no longer in DNS */
void pool_trim(
	struct upstream *up); /* retire what is idle beyond max_idle, or all of it when draining */

/* pool.c */
void pool_work(void *arg);

/* dial.c, for the events of connections */
void dial_on_ready(struct pool_dial *d);
void dial_on_closed(struct pool_dial *d, enum stream_error err, const char *text);

/* How many messages a connection dialled now will probably carry. */
uint32_t pool_room(const struct upstream *up);

#endif
