/*
 * One connect on behalf of waiters: lookup, then one address after the other, within
 * timeout.connect.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/io/sock.h"
#include "sidecar/io/tls.h"
#include "sidecar/upstream/pool_private.h"
#include "sidecar/upstream/upstream_private.h"

enum {
	ADDRESS_SHARES_MAX = 4, /* an address gets at least this part of what is left */
	KEEPALIVE_PROBES = 3,
};
#define ADDRESS_SHARE_MIN_NS \
	(UINT64_C(250) * NS_PER_MS) /* RFC 8305 section 8: connection attempt delay */

static void dial_next(struct pool_dial *d);

/* ---- the end ---- */

static void end(struct pool_dial *d, enum pool_dial_state state)
{
	timer_clear(d->up->all->env.timers, &d->timer);
	d->state = (uint8_t)state;
	pool_work_later(d->up);
}

static void fail(struct pool_dial *d, enum rhc_error error)
{
	d->error = error;
	end(d, DIAL_FAILED);
}

static void fail_dns(struct pool_dial *d, enum resolver_error err)
{
	d->dns_error = err;
	d->permanent = resolver_error_permanent(err);
	snprintf(d->text, sizeof(d->text), "%s (%s)", resolver_error_text(err),
		 d->up->cfg->url.host);
	fail(d, error_of_resolver(err));
}

void dial_free(struct pool_dial *d)
{
	OBJ_CHECK(d, POOL_DIAL_MAGIC);
	assert(d->state == DIAL_READY || d->state == DIAL_FAILED);
	assert(!list_linked(&d->dns.node));
	list_remove(&d->node);
	d->up->pool.n_dials--;
	upstream_count(d->up, RHC_CTR_conn_connecting_ended);
	d->magic = 0;
	slab_put(&d->up->all->dials, d);
}

/* ---- one address ---- */

static void note_failure(struct pool_dial *d, enum rhc_error error, const char *why)
{
	char addr[RESOLVER_ADDR_TEXT];

	d->error = error;
	snprintf(d->text, sizeof(d->text), "%s (%s)", why,
		 resolver_addr_text(&d->up->endpoints.row[d->endpoint].addr, addr));
	endpoints_failed(&d->up->endpoints, d->endpoint, upstream_now(d->up));
	log_event(LOG_POOL, LOG_INFO, "connect_failed", LOG_STR("upstream", d->up->name),
		  LOG_STR("address", addr), LOG_STR("error", error_row(error)->id),
		  LOG_STR("reason", why));
}

/* The connection is given up while it connects; its on_closed will find no dial. */
static void abandon(struct pool_dial *d)
{
	struct pool_conn *pc = d->conn;

	d->conn = NULL;
	if (!pc)
		return;
	pc->dial = NULL;
	pc->state = CONN_LEAVING;
	http_conn_abort(pc->c);
}

struct sock_opts upstream_sock_opts(const struct upstream *up)
{
	const struct config_pool *p = &up->policy->pool;
	uint32_t idle_s = (uint32_t)((p->tcp_keepalive_ns + NS_PER_S - 1) / NS_PER_S);

	return (struct sock_opts){
		.nodelay = true,
		.keepalive_idle_s = idle_s,
		.keepalive_interval_s = idle_s,
		.keepalive_count = idle_s > 0 ? KEEPALIVE_PROBES : 0,
		.user_timeout_ms = (uint32_t)config_ms(p->tcp_user_timeout_ns),
	};
}

static enum http_client_mode mode_of(const struct pool_dial *d)
{
	const struct upstream *up = d->up;

	if (d->raw)
		return HTTP_CLIENT_RAW;
	if (d->h1 || up->pool.h1_only || up->policy->pool.http2 == CONFIG_HTTP2_OFF)
		return HTTP_CLIENT_H1;
	return up->policy->pool.http2 == CONFIG_HTTP2_PRIOR_KNOWLEDGE ? HTTP_CLIENT_H2_PRIOR
								      : HTTP_CLIENT_AUTO;
}

static int open_conn(struct pool_dial *d, struct pool_conn *pc)
{
	struct upstream *up = d->up;
	const union resolver_addr *addr = &up->endpoints.row[d->endpoint].addr;
	struct sock_opts sock = upstream_sock_opts(up);
	struct http_client_options o = {
		.addr = &addr->any,
		.addr_len = resolver_addr_len(addr),
		.tls = d->raw                         ? NULL
		       : d->h1 || up->pool.h1_only ? up->tls.h1
						   : up->tls.any,
		.server_name = up->server_name,
		.sock = &sock,
		.mode = mode_of(d),
		.limits = &up->pool.limits,
		.ev = &pool_conn_events,
		.owner = pc,
	};

	return http_client_open(up->all->env.http, &o, &pc->c);
}

static struct pool_conn *conn_new(struct pool_dial *d)
{
	struct pool_conn *pc = slab_get(&d->up->all->conns);

	if (!pc)
		return NULL;
	OBJ_INIT(pc, POOL_CONN_MAGIC);
	pc->up = d->up;
	pc->dial = d;
	pc->state = CONN_DIALLING;
	pc->endpoint = d->endpoint;
	pc->raw = d->raw;
	pc->h1_asked = d->h1 || d->raw;
	return pc;
}

/* While others are left, an address that swallows packets must not take all the time. */
static void set_share(struct pool_dial *d, uint64_t now)
{
	uint32_t left = endpoints_left(&d->up->endpoints, d->tried);
	uint64_t rest = d->deadline_ns > now ? d->deadline_ns - now : 0;
	uint64_t share =
		left ? rest / (left + 1 < ADDRESS_SHARES_MAX ? left + 1 : ADDRESS_SHARES_MAX)
		     : rest;

	if (share < ADDRESS_SHARE_MIN_NS)
		share = rest < ADDRESS_SHARE_MIN_NS ? rest : ADDRESS_SHARE_MIN_NS;
	timer_set(d->up->all->env.timers, &d->timer, now + share);
}

static bool out_of_something(int rc)
{
	return rc == -ENOBUFS || rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

/* False: this address cannot even be tried, d->error says why. */
static bool try_address(struct pool_dial *d)
{
	struct upstream *up = d->up;
	struct pool_conn *pc = conn_new(d);
	int rc = pc ? open_conn(d, pc) : -ENOBUFS;

	if (rc < 0) {
		note_failure(d,
			     out_of_something(rc) ? RHC_ERR_overloaded : RHC_ERR_connect_unroutable,
			     strerror(-rc));
		if (pc) {
			pc->magic = 0;
			slab_put(&up->all->conns, pc);
		}
		return false;
	}
	d->conn = pc;
	list_push_back(&up->pool.conns, &pc->node);
	up->endpoints.row[d->endpoint].conns++;
	set_share(d, upstream_now(up));
	return true;
}

/* ---- one after the other ---- */

static void refresh_endpoints(struct upstream *up)
{
	const union resolver_addr *addrs;
	uint32_t generation, n = resolver_addrs(up->dns, &addrs, &generation);

	if (generation == up->endpoints.generation && up->endpoints.n > 0)
		return;
	endpoints_update(&up->endpoints, addrs, n, generation);
	pool_gone_endpoints(up);
}

static uint16_t pick(struct pool_dial *d)
{
	struct endpoints *e = &d->up->endpoints;
	uint64_t now = upstream_now(d->up);
	uint16_t i = endpoints_pick(e, d->tried | d->avoid, now);

	/*
	 * All that the call has not been to are used up: those it has been to, but not this dial.
	 */
	if (i != ENDPOINT_NONE && (d->tried >> i & 1))
		i = endpoints_pick(e, d->tried, now);
	return i;
}

static void dial_next(struct pool_dial *d)
{
	struct upstream *up = d->up;

	for (;;) {
		if (endpoints_left(&up->endpoints, d->tried) == 0) {
			if (d->tried == 0)
				fail_dns(d, RESOLVER_NODATA);
			else
				fail(d, d->error);
			return;
		}
		d->endpoint = pick(d);
		assert(d->endpoint != ENDPOINT_NONE);
		d->tried |= UINT32_C(1) << d->endpoint;
		if (try_address(d))
			return;
		if (d->error == RHC_ERR_overloaded) {
			fail(d, d->error);
			return;
		}
	}
}

static void go_on(struct pool_dial *d)
{
	/* Nobody waits any more: one connection would be welcome, but not a search for one. */
	if (d->up->pool.n_waits == 0)
		fail(d, d->error);
	else
		dial_next(d);
}

static bool next_may_help(enum stream_error err)
{
	switch (err) {
	case STREAM_E_REFUSED:
	case STREAM_E_UNREACHABLE:
	case STREAM_E_CONNECT:
	case STREAM_E_RESET:
		return true;
	default:
		return false;
	}
}

void dial_on_ready(struct pool_dial *d)
{
	const struct http_conn *c = d->conn->c;
	uint64_t connected = stream_connected_ns(&c->stream);

	OBJ_CHECK(d, POOL_DIAL_MAGIC);
	if (connected == 0 || connected > c->ready_ns)
		connected = c->ready_ns;
	d->connect_ns = connected - c->opened_ns;
	d->tls_ns = c->ready_ns - connected;
	upstream_count(d->up, RHC_CTR_connect_ok);
	upstream_time(d->up, RHC_HIST_connect, c->ready_ns - c->opened_ns);
	if (stream_is_tls(&c->stream)) {
		upstream_count(d->up, stream_tls_resumed(&c->stream) ? RHC_CTR_tls_resumed
								     : RHC_CTR_tls_full);
		rhc_ctr_set(d->up->ctr, RHC_CTR_tls_peer_expires_s,
			    stream_tls_peer_expires_s(&c->stream));
	}
	endpoints_ok(&d->up->endpoints, d->endpoint);
	end(d, DIAL_READY);
}

void dial_on_closed(struct pool_dial *d, enum stream_error err, const char *text)
{
	OBJ_CHECK(d, POOL_DIAL_MAGIC);
	d->conn = NULL;
	if (d->state == DIAL_READY) {
		/* It came and went within one turn. */
		d->error = RHC_ERR_reset_before_headers;
		snprintf(d->text, sizeof(d->text), "%s", text ? text : "connection closed");
		d->state = DIAL_FAILED;
		return;
	}
	upstream_count(d->up, RHC_CTR_connect_fail);
	if (err == STREAM_E_TLS || err == STREAM_E_TLS_CERT || err == STREAM_E_TLS_ALERT)
		upstream_count(d->up, RHC_CTR_tls_failed);
	note_failure(d, error_of_connect(err == STREAM_OK ? STREAM_E_RESET : err),
		     text && *text ? text : "closed");
	if (next_may_help(err))
		go_on(d);
	else
		fail(d, d->error);
}

/* ---- time and lookup ---- */

static void on_timer(struct timer *t)
{
	struct pool_dial *d = CONTAINER_OF(t, struct pool_dial, timer);

	OBJ_CHECK(d, POOL_DIAL_MAGIC);
	if (d->state == DIAL_RESOLVING) {
		resolver_cancel(&d->dns);
		d->dns_ns = clock_ns() - d->begun_ns;
		fail_dns(d, RESOLVER_TIMEOUT);
		return;
	}
	assert(d->state == DIAL_CONNECTING);
	abandon(d);
	upstream_count(d->up, RHC_CTR_connect_timeout);
	note_failure(d, RHC_ERR_connect_timeout, "connect timed out");
	if (clock_ns() >= d->deadline_ns)
		fail(d, RHC_ERR_connect_timeout);
	else
		go_on(d);
}

static void on_resolved(struct resolver_wait *w, enum resolver_error err)
{
	struct pool_dial *d = CONTAINER_OF(w, struct pool_dial, dns);

	OBJ_CHECK(d, POOL_DIAL_MAGIC);
	d->dns_ns = clock_ns() - d->begun_ns;
	if (err != RESOLVER_OK) {
		fail_dns(d, err);
		return;
	}
	refresh_endpoints(d->up);
	d->state = DIAL_CONNECTING;
	dial_next(d);
}

static void resolve(struct pool_dial *d)
{
	enum resolver_error err = RESOLVER_OK;

	d->dns.done = on_resolved;
	switch (resolver_get(d->up->dns, &d->dns, &err)) {
	case RESOLVER_READY:
		on_resolved(&d->dns, RESOLVER_OK);
		d->dns_ns = 0;
		return;
	case RESOLVER_FAILED:
		fail_dns(d, err);
		return;
	case RESOLVER_WAITING:
		return;
	}
}

struct pool_dial *dial_new(struct upstream *up, const struct pool_wait *w)
{
	struct pool_dial *d = slab_get(&up->all->dials);

	if (!d)
		return NULL;
	OBJ_INIT(d, POOL_DIAL_MAGIC);
	d->up = up;
	d->state = DIAL_RESOLVING;
	d->endpoint = ENDPOINT_NONE;
	d->avoid = w->tried;
	d->h1 = w->h1;
	d->raw = w->raw;
	d->begun_ns = clock_ns();
	d->deadline_ns = d->begun_ns + up->policy->timeout.connect_ns;
	d->timer.fn = on_timer;
	list_push_back(&up->pool.dials, &d->node);
	up->pool.n_dials++;
	upstream_count(up, RHC_CTR_conn_connecting_begun);
	timer_set(up->all->env.timers, &d->timer, d->deadline_ns);
	resolve(d);
	return d;
}
