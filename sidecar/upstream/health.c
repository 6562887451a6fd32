#include "sidecar/upstream/health.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/upstream.h"
#include "sidecar/upstream/upstream_private.h"

enum {
	HEALTH_IDLE,
	HEALTH_RESOLVING,
	HEALTH_CONNECTING,
	HEALTH_ASKING,
	HEALTH_TELLING,
	HEALTH_CLOSING
};
enum { PATH_MAX_LEN = 2048, AUTHORITY_MAX = 272 };

static const struct http_conn_events conn_events;
static const struct message_events message_events;

static uint64_t took(const struct health *h)
{
	uint64_t now = clock_ns();

	return now > h->begun_ns ? now - h->begun_ns : 0;
}

/* ---- the end of a check ---- */

static void publish(struct upstream *up, const struct health_result *r, bool changed)
{
	struct upstreams *all = up->all;
	uint64_t now_ms = upstream_now(up) / NS_PER_MS, took_ms = r->took_ns / NS_PER_MS;
	uint64_t arg[5] = { r->reachable, r->error, took_ms };

	rhc_upstream_health(all->seg, up->index, r->reachable, r->error, (uint32_t)took_ms, now_ms);
	upstream_count(up, r->reachable ? RHC_CTR_health_ok : RHC_CTR_health_fail);
	if (!changed)
		return;
	rhc_event_put(&all->env.worker->ring, RHC_EV_health, up->index, now_ms, arg);
	if (r->reachable)
		log_event(LOG_HEALTH, LOG_INFO, "reachable", LOG_STR("upstream", up->name),
			  LOG_U64("took_ms", took_ms));
	else
		log_event(LOG_HEALTH, LOG_WARN, "unreachable", LOG_STR("upstream", up->name),
			  LOG_STR("error", error_row(r->error)->id), LOG_STR("reason", r->text),
			  LOG_U64("took_ms", took_ms));
}

/* Everything is let go; the connection still has to say that it is closed. */
static void let_go(struct upstream *up)
{
	struct health *h = &up->health;

	timer_clear(up->all->env.timers, &h->timer);
	resolver_cancel(&h->dns);
	if (h->msg)
		message_release(h->msg);
	h->msg = NULL;
	if (h->conn)
		http_conn_abort(h->conn);
	h->state = h->conn ? HEALTH_CLOSING : HEALTH_IDLE;
}

static void finish(struct upstream *up)
{
	struct health *h = &up->health;
	bool changed = !h->known || h->result.reachable != h->next.reachable;

	h->next.took_ns = took(h);
	h->result = h->next;
	h->known = true;
	let_go(up);
	publish(up, &h->result, changed);
	if (h->done)
		h->done(h->owner, up, &h->result);
}

static void set_failure(struct health *h, enum rhc_error error, const char *text)
{
	h->next.reachable = false;
	h->next.error = error;
	snprintf(h->next.text, sizeof(h->next.text), "%s", text);
}

/* The caller of health_check() is not called back from within it. */
static void finish_soon(struct upstream *up)
{
	struct health *h = &up->health;

	h->state = HEALTH_TELLING;
	timer_set(up->all->env.timers, &h->timer, upstream_now(up) + 1);
}

static void on_timer(struct timer *t)
{
	struct upstream *up = CONTAINER_OF(t, struct upstream, health.timer);
	struct health *h = &up->health;
	char text[64];

	if (h->state == HEALTH_CLOSING)
		return;
	if (h->state != HEALTH_TELLING) {
		enum rhc_error error = h->state == HEALTH_RESOLVING    ? RHC_ERR_dns_timeout
				       : h->state == HEALTH_CONNECTING ? RHC_ERR_connect_timeout
								       : RHC_ERR_read_timeout;

		snprintf(text, sizeof(text), "no answer within %u ms",
			 (unsigned)config_ms(up->policy->health.timeout_ns));
		set_failure(h, error, text);
	}
	finish(up);
}

/* ---- the connection ---- */

static bool next_address(struct upstream *up)
{
	struct health *h = &up->health;
	struct sock_opts sock = upstream_sock_opts(up);
	struct http_client_options o = {
		.tls = up->pool.h1_only ? up->tls.h1 : up->tls.any,
		.server_name = up->server_name,
		.sock = &sock,
		.mode = up->pool.h1_only || up->policy->pool.http2 == CONFIG_HTTP2_OFF
				? HTTP_CLIENT_H1
			: up->policy->pool.http2 == CONFIG_HTTP2_PRIOR_KNOWLEDGE
				? HTTP_CLIENT_H2_PRIOR
				: HTTP_CLIENT_AUTO,
		.limits = &h->limits,
		.ev = &conn_events,
		.owner = up,
	};
	int rc;

	if (endpoints_left(&up->endpoints, h->tried) == 0)
		return false;
	h->endpoint = endpoints_pick(&up->endpoints, h->tried, upstream_now(up));
	h->tried |= UINT32_C(1) << h->endpoint;
	o.addr = &up->endpoints.row[h->endpoint].addr.any;
	o.addr_len = resolver_addr_len(&up->endpoints.row[h->endpoint].addr);
	rc = http_client_open(up->all->env.http, &o, &h->conn);
	if (rc < 0) {
		h->conn = NULL;
		set_failure(h, rc == -ENOBUFS ? RHC_ERR_overloaded : RHC_ERR_connect_unroutable,
			    strerror(-rc));
		return false;
	}
	h->state = HEALTH_CONNECTING;
	return true;
}

static void connect_now(struct upstream *up)
{
	const union resolver_addr *addrs;
	uint32_t generation, n = resolver_addrs(up->dns, &addrs, &generation);

	endpoints_update(&up->endpoints, addrs, n, generation);
	set_failure(&up->health, RHC_ERR_dns_failure, resolver_error_text(RESOLVER_NODATA));
	if (!next_address(up))
		finish_soon(up);
}

static void on_resolved(struct resolver_wait *w, enum resolver_error err)
{
	struct upstream *up = CONTAINER_OF(w, struct upstream, health.dns);

	if (err == RESOLVER_OK) {
		connect_now(up);
		return;
	}
	set_failure(&up->health, error_of_resolver(err), resolver_error_text(err));
	finish_soon(up);
}

static void authority_of(const struct upstream *up, char *out, size_t cap)
{
	const struct config_url *url = &up->cfg->url;
	bool six = strchr(url->host, ':') != NULL;
	bool usual = url->port == (url->tls ? 443 : 80);

	if (usual)
		snprintf(out, cap, six ? "[%s]" : "%s", url->host);
	else
		snprintf(out, cap, six ? "[%s]:%u" : "%s:%u", url->host, url->port);
}

static int send_request(struct upstream *up, struct message *m)
{
	static const char agent[] = "rhc-sidecar/" RHC_VERSION " (health)";
	char path[PATH_MAX_LEN], authority[AUTHORITY_MAX];
	struct http_field fields[2];
	struct http_head head = {
		.method = HTTP_METHOD_GET,
		.method_text = HTTP_STR("GET"),
		.version = HTTP_1_1,
		.body = HTTP_BODY_NONE,
		.keep_alive = true,
		.fields = fields,
		.fields_max = 2,
	};
	int n = snprintf(path, sizeof(path), "%s%s", up->cfg->url.path ? up->cfg->url.path : "",
			 up->policy->health.path);

	if (n >= (int)sizeof(path))
		return -E2BIG;
	authority_of(up, authority, sizeof(authority));
	head.path = (struct http_str){ path, (uint32_t)n };
	head.authority = (struct http_str){ authority, (uint32_t)strlen(authority) };
	head.scheme = up->cfg->url.tls ? HTTP_STR("https") : HTTP_STR("http");
	(void)http_head_add(&head, HTTP_FIELD_USER_AGENT, http_field_name(HTTP_FIELD_USER_AGENT),
			    HTTP_STR(agent));
	(void)http_head_add(&head, HTTP_FIELD_ACCEPT, http_field_name(HTTP_FIELD_ACCEPT),
			    HTTP_STR("*/*"));
	return message_send_head(m, &head, true);
}

static void on_conn_ready(struct http_conn *c)
{
	struct upstream *up = c->owner;
	struct health *h = &up->health;
	int rc;

	if (h->state != HEALTH_CONNECTING)
		return;
	h->state = HEALTH_ASKING;
	h->msg = http_client_message(c, &message_events, up);
	rc = h->msg ? send_request(up, h->msg) : -ENOBUFS;
	if (rc < 0) {
		set_failure(h, RHC_ERR_overloaded, strerror(-rc));
		finish_soon(up);
	}
}

static void on_conn_other(struct http_conn *c)
{
	(void)c;
}

static void on_conn_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	struct upstream *up = c->owner;
	struct health *h = &up->health;

	h->conn = NULL;
	if (h->state == HEALTH_CLOSING) {
		h->state = HEALTH_IDLE;
		return;
	}
	if (h->state != HEALTH_CONNECTING)
		return; /* the message has said what there is to say */
	set_failure(h, error_of_connect(err == STREAM_OK ? STREAM_E_RESET : err),
		    text && *text ? text : "closed");
	if (!next_address(up))
		finish_soon(up);
}

static const struct http_conn_events conn_events = {
	.on_ready = on_conn_ready,
	.on_capacity = on_conn_other,
	.on_draining = on_conn_other,
	.on_closed = on_conn_closed,
};

/* ---- the answer ---- */

static void on_head(struct message *m, struct http_head *head, bool end)
{
	struct upstream *up = m->owner;
	struct health *h = &up->health;
	char text[64];

	(void)end;
	if (head->status < 200)
		return;
	h->next.status = head->status;
	if (config_status_in(&up->policy->health.expected, head->status)) {
		h->next.reachable = true;
		h->next.error = RHC_ERR_none;
		h->next.text[0] = '\0';
	} else {
		snprintf(text, sizeof(text), "status %u", head->status);
		set_failure(h, RHC_ERR_status, text);
	}
	finish(up);
}

static void on_body(struct message *m, struct slice data)
{
	uint32_t n = data.n;

	slice_drop(data);
	message_consume(m, n);
}

static void on_end(struct message *m, struct http_head *trailers)
{
	(void)m;
	(void)trailers;
}

static void on_sent(struct message *m, uint32_t body_bytes, bool all)
{
	(void)m;
	(void)body_bytes;
	(void)all;
}

static void on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct upstream *up = m->owner;

	(void)unprocessed;
	set_failure(&up->health, error_of_message(err, m->http_error, false),
		    message_error_text(err));
	finish(up);
}

static const struct message_events message_events = {
	.on_head = on_head,
	.on_body = on_body,
	.on_end = on_end,
	.on_sent = on_sent,
	.on_error = on_error,
};

/* ---- beginning ---- */

int health_check(struct upstream *up,
		 void (*done)(void *owner, struct upstream *up, const struct health_result *r),
		 void *owner)
{
	struct health *h = &up->health;
	enum resolver_error err = RESOLVER_OK;

	if (h->state != HEALTH_IDLE || h->stopped)
		return -EALREADY;
	h->done = done;
	h->owner = owner;
	h->tried = 0;
	h->begun_ns = clock_ns();
	h->next = (struct health_result){ .error = RHC_ERR_internal };
	h->state = HEALTH_RESOLVING;
	timer_set(up->all->env.timers, &h->timer, h->begun_ns + up->policy->health.timeout_ns);
	switch (resolver_get(up->dns, &h->dns, &err)) {
	case RESOLVER_READY:
		connect_now(up);
		break;
	case RESOLVER_FAILED:
		set_failure(h, error_of_resolver(err), resolver_error_text(err));
		finish_soon(up);
		break;
	case RESOLVER_WAITING:
		break;
	}
	return 0;
}

/* With an interval one worker is enough: the first one that lives and does not drain. */
static bool others_do(const struct upstreams *all)
{
	const struct rhc_worker *w = all->env.worker;

	for (uint32_t i = 0; i < w->index; i++) {
		const struct rhc_worker_rec *rec = rhc_seg_worker(all->seg, i);

		if (rhc_worker_alive(all->seg, w->lock_fd, i) == RHC_ALIVE_YES &&
		    atomic_load_explicit(&rec->phase, memory_order_relaxed) < RHC_PHASE_DRAINING)
			return true;
	}
	return false;
}

static void on_interval(struct timer *t)
{
	struct upstream *up = CONTAINER_OF(t, struct upstream, health.interval);

	timer_set_in(up->all->env.timers, t, up->policy->health.interval_ns);
	if (!others_do(up->all))
		(void)health_check(up, NULL,
				   NULL); /* -EALREADY: the last one is slow, and says so itself */
}

void health_init(struct upstream *up)
{
	struct health *h = &up->health;
	struct upstream_env *env = &up->all->env;

	memset(h, 0, sizeof(*h));
	h->limits = up->pool.limits;
	h->limits.requests_max = 0;
	h->timer.fn = on_timer;
	h->interval.fn = on_interval;
	h->dns.done = on_resolved;
	/* Spread, so that many upstreams are not all asked in the same instant. */
	if (up->policy->health.interval_ns && !up->forward)
		timer_set_in(env->timers, &h->interval,
			     rng_below(env->rng, up->policy->health.interval_ns) + 1);
}

bool health_idle(const struct upstream *up)
{
	return up->health.state == HEALTH_IDLE;
}

void health_stop(struct upstream *up)
{
	struct health *h = &up->health;

	h->stopped = true;
	timer_clear(up->all->env.timers, &h->interval);
	if (h->state != HEALTH_IDLE && h->state != HEALTH_CLOSING)
		let_go(up);
}

void health_fini(struct upstream *up)
{
	assert(health_idle(up));
	timer_clear(up->all->env.timers, &up->health.interval);
	timer_clear(up->all->env.timers, &up->health.timer);
}
