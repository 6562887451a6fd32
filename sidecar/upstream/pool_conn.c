/* The connections of a pool: what is counted, who leaves, what they report. */
#include <assert.h>
#include <string.h>

#include "proto/h1.h"
#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/pool_private.h"

enum { TARGET_MAX = 65535 };

/* ---- books ---- */

void pool_work_later(struct upstream *up)
{
	engine_defer(up->all->env.engine, &up->pool.work);
}

/* Bring the lists and counts in line with what the connection says of itself. */
void pool_conn_sync(struct pool_conn *pc)
{
	struct pool *p = &pc->up->pool;
	uint32_t active = pc->c->active;
	bool room = pool_conn_usable(pc);
	bool idle = pc->state == CONN_READY && active == 0;

	pc->up->endpoints.row[pc->endpoint].in_flight += active - pc->active;
	pc->active = active;
	if (room && !list_linked(&pc->avail))
		list_push_front(&p->avail, &pc->avail);
	else if (!room)
		list_remove(&pc->avail);
	if (idle == pc->idle)
		return;
	pc->idle = idle;
	p->n_idle += idle ? 1U : -1U;
	upstream_count(pc->up, idle ? RHC_CTR_conn_idle_begun : RHC_CTR_conn_idle_ended);
}

void pool_conn_ready(struct pool_conn *pc)
{
	struct pool *p = &pc->up->pool;

	pc->state = CONN_READY;
	pc->dial = NULL;
	pc->was_ready = true;
	pc->version = pc->c->version;
	p->n_conns++;
	pc->settled = pc->version != HTTP_2;
	pc->room = p->room_guess ? p->room_guess : pc->c->capacity;
	if (pc->settled && !pc->h1_asked)
		p->room_guess = 1;
	upstream_count(pc->up,
		       pc->version == HTTP_2 ? RHC_CTR_conn_h2_opened : RHC_CTR_conn_h1_opened);
	pool_conn_sync(pc);
}

/* It takes no more messages. */
static void leave(struct pool_conn *pc)
{
	if (pc->state != CONN_READY)
		return;
	pc->state = CONN_LEAVING;
	pc->up->pool.n_conns--;
	pool_conn_sync(pc);
	if (pc->up->pool.n_waits > 0)
		pool_work_later(pc->up);
}

void pool_conn_retire(struct pool_conn *pc)
{
	leave(pc);
	http_conn_drain(pc->c);
}

/* ---- events of connections ---- */

static struct pool_conn *conn_of(struct http_conn *c)
{
	struct pool_conn *pc = c->owner;

	OBJ_CHECK(pc, POOL_CONN_MAGIC);
	return pc;
}

static void on_ready(struct http_conn *c)
{
	struct pool_conn *pc = conn_of(c);

	if (!pc->dial)
		return; /* given up a moment before */
	dial_on_ready(pc->dial);
}

static void on_capacity(struct http_conn *c)
{
	struct pool_conn *pc = conn_of(c);
	struct pool *p = &pc->up->pool;

	pc->settled = true;
	if (pc->version == HTTP_2 && pc->state == CONN_READY && c->capacity > 0)
		p->room_guess = c->capacity;
	pool_conn_sync(pc);
	if (pc->state == CONN_READY &&
	    (p->n_waits > 0 || p->n_idle > pc->up->policy->pool.max_idle || p->draining ||
	     pc->up->endpoints.row[pc->endpoint].gone))
		pool_work_later(pc->up);
}

static void on_draining(struct http_conn *c)
{
	leave(conn_of(c));
}

static void on_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	struct pool_conn *pc = conn_of(c);
	struct upstream *up = pc->up;
	struct endpoint *row = &up->endpoints.row[pc->endpoint];

	leave(pc);
	row->in_flight -= pc->active;
	row->conns--;
	list_remove(&pc->node);
	if (pc->was_ready)
		upstream_count(up, pc->version == HTTP_2 ? RHC_CTR_conn_h2_closed
							 : RHC_CTR_conn_h1_closed);
	if (pc->dial)
		dial_on_closed(pc->dial, err, text);
	OBJ_FINI(pc, POOL_CONN_MAGIC);
	slab_put(&up->all->conns, pc);
}

const struct http_conn_events pool_conn_events = {
	.on_ready = on_ready,
	.on_capacity = on_capacity,
	.on_draining = on_draining,
	.on_closed = on_closed,
};

void pool_gone_endpoints(struct upstream *up)
{
	LIST_FOREACH_SAFE(n, &up->pool.conns)
	{
		struct pool_conn *pc = LIST_ENTRY(n, struct pool_conn, node);

		if (pc->state == CONN_READY && up->endpoints.row[pc->endpoint].gone)
			pool_conn_retire(pc);
	}
}

void pool_trim(struct upstream *up)
{
	struct pool *p = &up->pool;

	LIST_FOREACH_SAFE(n, &p->conns)
	{
		struct pool_conn *pc = LIST_ENTRY(n, struct pool_conn, node);

		if (pc->state == CONN_READY &&
		    (p->draining || up->endpoints.row[pc->endpoint].gone))
			pool_conn_retire(pc);
	}
	while (p->n_idle > up->policy->pool.max_idle && p->n_waits == 0) {
		struct pool_conn *oldest = NULL;

		LIST_FOREACH(n, &p->avail)
		{
			struct pool_conn *pc = LIST_ENTRY(n, struct pool_conn, avail);

			if (pc->idle)
				oldest = pc;
		}
		if (!oldest)
			return;
		pool_conn_retire(oldest);
	}
}

/* ---- life ---- */

uint32_t pool_room(const struct upstream *up)
{
	const struct config_pool *rule = &up->policy->pool;
	bool h2 = rule->http2 == CONFIG_HTTP2_PRIOR_KNOWLEDGE ||
		  (rule->http2 == CONFIG_HTTP2_AUTO && up->tls.any != NULL);

	if (!h2 || up->pool.h1_only)
		return 1;
	return up->pool.room_guess ? up->pool.room_guess : rule->max_concurrent_streams;
}

static void set_limits(struct http_limits *l, const struct config_policy *policy)
{
	uint64_t head = policy->limits.max_response_header_bytes;

	*l = (struct http_limits){
		.head_max = head < H1_HEAD_MAX ? (uint32_t)head : H1_HEAD_MAX,
		.target_max = TARGET_MAX,
		.streams_max = policy->pool.max_concurrent_streams,
		.requests_max = policy->pool.max_requests_per_connection,
		.idle_timeout_ns = policy->timeout.idle_ns,
		.ping_interval_ns = policy->pool.http2_ping.interval_ns,
		.ping_timeout_ns = policy->pool.http2_ping.timeout_ns,
		.h2_window = MESSAGE_WINDOW,
	};
}

void pool_init(struct upstream *up)
{
	struct pool *p = &up->pool;

	memset(p, 0, sizeof(*p));
	list_init(&p->avail);
	list_init(&p->conns);
	list_init(&p->dials);
	list_init(&p->waits);
	set_limits(&p->limits, up->policy);
	p->work.fn = pool_work;
	p->work.arg = up;
}

bool pool_empty(const struct upstream *up)
{
	const struct pool *p = &up->pool;

	return list_empty(&p->conns) && list_empty(&p->dials) && list_empty(&p->waits);
}

void pool_fini(struct upstream *up)
{
	assert(pool_empty(up));
	engine_undefer(&up->pool.work);
}

void pool_drain(struct upstream *up)
{
	up->pool.draining = true;
	pool_trim(up);
}

void pool_downgrade(struct upstream *up)
{
	if (up->pool.h1_only)
		return;
	up->pool.h1_only = true;
	log_event(LOG_POOL, LOG_WARN, "http_1_1_required", LOG_STR("upstream", up->name));
	LIST_FOREACH_SAFE(n, &up->pool.conns)
	{
		struct pool_conn *pc = LIST_ENTRY(n, struct pool_conn, node);

		if (pc->state == CONN_READY && pc->version == HTTP_2)
			pool_conn_retire(pc);
	}
}

struct pool_counts pool_counts(const struct upstream *up)
{
	const struct pool *p = &up->pool;
	struct pool_counts c = {
		.ready = p->n_conns,
		.idle = p->n_idle,
		.dialling = p->n_dials,
		.waiting = p->n_waits,
	};

	LIST_FOREACH(n, &p->conns)
	c.messages += LIST_ENTRY(n, struct pool_conn, node)->active;
	return c;
}
