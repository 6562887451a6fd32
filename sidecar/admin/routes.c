/* Who may ask what, where, and how. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shm/admin.h"
#include "sidecar/admin/admin_private.h"
#include "sidecar/admin/body.h"
#include "sidecar/admin/lists.h"
#include "sidecar/admin/metrics.h"
#include "sidecar/admin/status.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"

#define HEALTH_POLL_NS  (20 * NS_PER_MS)
#define HEALTH_GRACE_NS (500 * NS_PER_MS) /* beyond the longest health.timeout */

/* ---- probes ---- */

static void get_live(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	if (h->live(h->arg))
		call_plain(c, 200, "live");
	else
		call_plain(c, 503, "no worker turns its loop");
}

static const char *readiness(const struct admin *a)
{
	switch ((enum rhc_lifecycle)atomic_load(&rhc_seg_hdr(a->seg)->lifecycle)) {
	case RHC_LIFE_READY:
		return "ready";
	case RHC_LIFE_STARTING:
		return "starting";
	default:
		return "draining";
	}
}

static void get_ready(struct call *c)
{
	const char *word = readiness(c->l->admin);

	call_plain(c, strcmp(word, "ready") == 0 ? 200 : 503, word);
}

static void get_startup(struct call *c)
{
	bool started = c->l->admin->started;

	call_plain(c, started ? 200 : 503, started ? "started" : readiness(c->l->admin));
}

static void get_metrics(struct call *c)
{
	const struct http_field *accept = http_head_find(c->req, HTTP_FIELD_ACCEPT);
	bool open = c->l->admin->config->telemetry.openmetrics && accept &&
		    memmem(accept->value, accept->value_len, "application/openmetrics-text", 28) !=
			    NULL;

	metrics_write(c->l->admin, &c->text, open);
	call_answer(c, 200, open ? AS_OPENMETRICS : AS_METRICS);
}

/* ---- health ---- */

static void health_answer(struct call *c)
{
	bool bad = false;

	status_health(c->l->admin, &c->text, c->asked_ms, &bad);
	call_answer(c, bad && c->strict ? 503 : 200, AS_JSON);
}

static void on_health_timer(struct timer *t)
{
	struct call *c = CONTAINER_OF(t, struct call, timer);
	uint64_t now = clock_ns();

	OBJ_CHECK(c, CALL_MAGIC);
	if (status_health_complete(c->l->admin, c->asked_ms) || now >= c->give_up_ns)
		health_answer(c);
	else
		timer_set(c->l->admin->http->timers, &c->timer, now + HEALTH_POLL_NS);
}

/* A worker checks every upstream; the segment tells when it has. */
static void get_health(struct call *c)
{
	struct admin *a = c->l->admin;
	uint64_t longest = 0;
	struct http_str v;

	for (uint32_t i = 0; i < a->config->upstreams_len; i++) {
		uint64_t t = a->config->upstreams[i].policy.health.timeout_ns;

		longest = t > longest ? t : longest;
	}
	c->strict = query_find(c->query, "strict", &v) && !http_str_is(v, "0") &&
		    !http_str_is(v, "false");
	c->asked_ms = clock_ns() / NS_PER_MS;
	c->give_up_ns = clock_ns() + longest + HEALTH_GRACE_NS;
	c->timer.fn = on_health_timer;
	a->hooks->health(a->hooks->arg);
	timer_set(a->http->timers, &c->timer, clock_ns() + HEALTH_POLL_NS);
}

/* ---- the segment ---- */

static void get_status(struct call *c)
{
	status_json(c->l->admin, &c->text);
	call_answer(c, 200, AS_JSON);
}

static void get_upstreams(struct call *c)
{
	status_upstreams(c->l->admin, &c->text);
	call_answer(c, 200, AS_JSON);
}

static void get_breakers(struct call *c)
{
	status_breakers(c->l->admin, &c->text);
	call_answer(c, 200, AS_JSON);
}

static void get_bulkheads(struct call *c)
{
	status_bulkheads(c->l->admin, &c->text);
	call_answer(c, 200, AS_JSON);
}

static void get_workers(struct call *c)
{
	status_workers(c->l->admin, &c->text);
	call_answer(c, 200, AS_JSON);
}

static void copy(char *to, size_t cap, struct http_str s)
{
	size_t n = s.n < cap ? s.n : cap - 1;

	memcpy(to, s.p, n);
	to[n] = 0;
}

static void get_events(struct call *c)
{
	struct lists_query q = { .limit = LISTS_EVENTS_DEFAULT };
	struct http_str v;
	uint64_t n;

	if (query_find(c->query, "limit", &v)) {
		if (!query_number(v, LISTS_EVENTS_MAX, &n) || n == 0) {
			call_problem(c, 400, "Bad request", "limit is a number from 1 to 1000");
			return;
		}
		q.limit = (uint32_t)n;
	}
	if (query_find(c->query, "since", &v)) {
		if (!query_number(v, UINT32_MAX, &n)) {
			call_problem(c, 400, "Bad request",
				     "since is a number of seconds before now");
			return;
		}
		q.since_s = n;
		q.has_since = true;
	}
	if (query_find(c->query, "type", &v))
		copy(q.type, sizeof(q.type), v);
	if (query_find(c->query, "upstream", &v))
		copy(q.upstream, sizeof(q.upstream), v);
	lists_events(c->l->admin, &c->text, &q);
	call_answer(c, 200, AS_JSON);
}

static void get_page(struct call *c)
{
	if (!c->l->admin->config->admin.status_page) {
		call_problem(c, 404, "Not found", "admin.status_page is off");
		return;
	}
	status_text(c->l->admin, &c->text);
	call_answer(c, 200, AS_TEXT);
}

#define UPSTREAMS "/api/v1/upstreams/"

/* NAME behind UPSTREAMS.  false: it is something else. */
static bool upstream_path(struct http_str path, char name[RHC_NAME_MAX + 1])
{
	struct http_str rest;

	if (path.n <= sizeof(UPSTREAMS) - 1 ||
	    memcmp(path.p, UPSTREAMS, sizeof(UPSTREAMS) - 1) != 0)
		return false;
	rest = (struct http_str){ path.p + sizeof(UPSTREAMS) - 1,
				  path.n - (uint32_t)sizeof(UPSTREAMS) + 1 };
	if (rest.n > RHC_NAME_MAX || memchr(rest.p, '/', rest.n))
		return false;
	copy(name, RHC_NAME_MAX + 1, rest);
	return true;
}

static void get_upstream(struct call *c)
{
	char name[RHC_NAME_MAX + 1];
	int index;

	if (!upstream_path(c->path, name)) /* was looked at before */
		return;
	index = rhc_upstream_find(c->l->admin->seg, name);
	if (index < 0) {
		call_problem(c, 404, "Not found", "no such upstream");
		return;
	}
	status_upstream(c->l->admin, &c->text, (uint32_t)index);
	call_answer(c, 200, AS_JSON);
}

/* ---- changes ---- */

static void post_drain(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	log_event(LOG_ADMIN, LOG_WARN, "drain_asked");
	h->drain(h->arg);
	call_plain(c, 200, "draining");
}

static void post_undrain(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	log_event(LOG_ADMIN, LOG_WARN, "undrain_asked");
	h->undrain(h->arg);
	call_plain(c, 200, readiness(c->l->admin));
}

static void post_quit(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	if (!c->l->admin->config->admin.quitquitquit) {
		call_problem(c, 403, "Not allowed", "admin.quitquitquit is off");
		return;
	}
	log_event(LOG_ADMIN, LOG_WARN, "quit_asked");
	h->quit(h->arg);
	call_plain(c, 200, "bye");
}

#define BREAKERS "/api/v1/breakers/"

/* NAME/VERB behind BREAKERS.  false: it is something else. */
static bool breaker_path(struct http_str path, char name[RHC_NAME_MAX + 1], struct http_str *verb)
{
	const char *at = path.p + sizeof(BREAKERS) - 1, *end = path.p + path.n, *slash;

	if (path.n <= sizeof(BREAKERS) - 1 || memcmp(path.p, BREAKERS, sizeof(BREAKERS) - 1) != 0)
		return false;
	slash = memchr(at, '/', (size_t)(end - at));
	if (!slash || slash == at || slash - at > RHC_NAME_MAX)
		return false;
	copy(name, RHC_NAME_MAX + 1, (struct http_str){ at, (uint32_t)(slash - at) });
	*verb = (struct http_str){ slash + 1, (uint32_t)(end - slash - 1) };
	return true;
}

static enum rhc_verb verb_of(struct http_str s)
{
	static const enum rhc_verb verbs[] = { RHC_VERB_OPEN,    RHC_VERB_CLOSE,  RHC_VERB_ISOLATE,
					       RHC_VERB_DISABLE, RHC_VERB_ENABLE, RHC_VERB_RESET };

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (http_str_is(s, rhc_verb_name(verbs[i])))
			return verbs[i];
	}
	return RHC_VERB_NONE;
}

static int change_breaker(struct admin *a, const char *name, enum rhc_verb verb,
			  const struct body_change *b)
{
	uint64_t now = clock_ns() / NS_PER_MS;
	struct rhc_change change;
	struct rhc_admin ad;
	int rc, index;

	rc = rhc_admin_begin(&ad, a->seg, (uint32_t)getuid(), (uint32_t)getpid());
	if (rc != 0)
		return rc;
	index = rhc_admin_find(&ad, name); /* with the byte held: a host's record may go to another */
	rc = index < 0 ? index
		       : rhc_admin_breaker(&ad, (uint32_t)index, verb,
					   b->ttl_s ? now + b->ttl_s * 1000 : 0,
					   b->reason[0] ? b->reason : "admin listener", now,
					   &change);
	rhc_admin_end(&ad);
	return rc;
}

/* The verbs that may end by themselves. */
static bool may_expire(enum rhc_verb v)
{
	return v == RHC_VERB_ISOLATE || v == RHC_VERB_DISABLE;
}

static void post_breaker(struct call *c)
{
	char name[RHC_NAME_MAX + 1];
	struct body_change b;
	struct http_str word;
	enum rhc_verb verb;
	const char *why;
	int index, rc;

	if (!breaker_path(c->path, name, &word)) /* was looked at before */
		return;
	verb = verb_of(word);
	index = rhc_upstream_find(c->l->admin->seg, name);
	if (index < 0 || verb == RHC_VERB_NONE) {
		call_problem(c, 404, "Not found",
			     index < 0 ? "no such upstream"
				       : "verbs: open close isolate disable enable reset");
	} else if (!body_parse(c->body, c->body_n, &b, &why)) {
		call_problem(c, 400, "Bad request", why);
	} else if (b.ttl_s && !may_expire(verb)) {
		call_problem(c, 400, "Bad request", "ttl_seconds is for isolate and disable");
	} else if ((rc = change_breaker(c->l->admin, name, verb, &b)) != 0) {
		call_problem(c, 409, "Not changed", strerror(-rc));
	} else {
		log_event(LOG_ADMIN, LOG_WARN, "breaker_changed", LOG_STR("upstream", name),
			  LOG_STR("verb", rhc_verb_name(verb)),
			  LOG_STR("reason", b.reason[0] ? b.reason : NULL),
			  LOG_U64("ttl_seconds", b.ttl_s));
		status_breaker(c->l->admin, &c->text, (uint32_t)index);
		call_answer(c, 200, AS_JSON);
	}
}

/* ---- who may ---- */

/*
 * DNS rebinding: a web page may have its own name resolve to us, but then its name stands in Host.
 * An IP address in Host means that nobody was asked.  RFC 6761 §6.3 keeps localhost here.
 */
static bool host_is_fine(const struct call *c)
{
	char text[INET6_ADDRSTRLEN];
	struct http_str host;
	unsigned char ip[16];
	uint16_t port;

	if (c->l->surface != ADMIN_LOOPBACK || c->req->authority.n == 0)
		return true;
	if (http_authority_split(c->req->authority, &host, &port) != 0)
		return false;
	if (http_str_ieq(host, HTTP_STR("localhost")))
		return true;
	if (host.n >= sizeof(text))
		return false;
	copy(text, sizeof(text), host);
	return inet_pton(AF_INET, text, ip) == 1 || inet_pton(AF_INET6, text, ip) == 1;
}

static bool may_change(const struct call *c)
{
	enum config_mutations m = c->l->admin->config->admin.mutations;

	if (c->l->surface == ADMIN_SOCKET)
		return m != CONFIG_MUTATIONS_OFF;
	return c->l->surface == ADMIN_LOOPBACK && m == CONFIG_MUTATIONS_LOOPBACK;
}

/*
 * admin.token_file, read anew each time, so that a rotated secret counts at once.  0: there is none
 * to be had.
 */
static size_t read_token(const char *path, char token[ADMIN_TOKEN_MAX])
{
	FILE *file = fopen(path, "re");
	size_t n = 0;

	if (file) {
		n = fread(token, 1, ADMIN_TOKEN_MAX, file);
		fclose(file);
	}
	while (n > 0 && (token[n - 1] == '\n' || token[n - 1] == '\r'))
		n--;
	return n;
}

static bool token_is_right(const struct call *c)
{
	const char *path = c->l->admin->config->admin.token_file;
	const struct http_field *f = http_head_find(c->req, HTTP_FIELD_AUTHORIZATION);
	static const char bearer[] = "Bearer ";
	char token[ADMIN_TOKEN_MAX];
	unsigned differs = 0;
	size_t n;

	if (!path)
		return true;
	n = read_token(path, token);
	if (n == 0 || !f || f->value_len != n + sizeof(bearer) - 1 ||
	    memcmp(f->value, bearer, sizeof(bearer) - 1) != 0)
		return false;
	for (size_t i = 0; i < n; i++) /* in the same time wherever they differ */
		differs |=
			(unsigned char)token[i] ^ (unsigned char)f->value[sizeof(bearer) - 1 + i];
	return differs == 0;
}

static bool has_admin_header(const struct http_head *h)
{
	for (unsigned i = 0; i < h->n_fields; i++) {
		if (http_str_ieq((struct http_str){ h->fields[i].name, h->fields[i].name_len },
				 HTTP_STR("x-rhc-admin")))
			return http_str_is(
				(struct http_str){ h->fields[i].value, h->fields[i].value_len },
				"1");
	}
	return false;
}

/* ---- dispatch ---- */

/* clang-format off */
static const struct route {
	const char *method, *path;
	bool        telemetry; /* also there */
	call_fn    *fn;
} routes[] = {
	{ "GET",  "/live",             true,  get_live },
	{ "GET",  "/ready",            true,  get_ready },
	{ "GET",  "/startup",          true,  get_startup },
	{ "GET",  "/health",           true,  get_health },
	{ "GET",  "/",                 false, get_page },
	{ "GET",  "/api/v1/status",    false, get_status },
	{ "GET",  "/api/v1/upstreams", false, get_upstreams },
	{ "GET",  "/api/v1/breakers",  false, get_breakers },
	{ "GET",  "/api/v1/bulkheads", false, get_bulkheads },
	{ "GET",  "/api/v1/workers",   false, get_workers },
	{ "GET",  "/api/v1/events",    false, get_events },
	{ "POST", "/drain",            false, post_drain },
	{ "POST", "/undrain",          false, post_undrain },
	{ "POST", "/quitquitquit",     false, post_quit },
	{ "POST", "/shutdown",         false, post_quit },
};
/* clang-format on */

static const struct route metrics_route = { "GET", NULL, true, get_metrics };
static const struct route breaker_route = { "POST", NULL, false, post_breaker };
static const struct route upstream_route = { "GET", NULL, false, get_upstream };

static const struct route *find_route(const struct call *c)
{
	bool telemetry = c->l->surface == ADMIN_TELEMETRY;
	char name[RHC_NAME_MAX + 1];
	struct http_str verb;

	if (http_str_is(c->path, c->l->admin->config->telemetry.metrics_path))
		return &metrics_route;
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		if (http_str_is(c->path, routes[i].path) && (routes[i].telemetry || !telemetry))
			return &routes[i];
	}
	if (telemetry)
		return NULL;
	if (upstream_path(c->path, name))
		return &upstream_route;
	return breaker_path(c->path, name, &verb) ? &breaker_route : NULL;
}

bool query_find(struct http_str query, const char *name, struct http_str *ret)
{
	size_t n = strlen(name);

	while (query.n > 0) {
		const char *end = memchr(query.p, '&', query.n);
		uint32_t len = end ? (uint32_t)(end - query.p) : query.n;

		if (len >= n && memcmp(query.p, name, n) == 0 && (len == n || query.p[n] == '=')) {
			*ret = (struct http_str){ query.p + (len == n ? n : n + 1),
						  len == n ? 0 : len - (uint32_t)n - 1 };
			return true;
		}
		len += len < query.n; /* the & */
		query.p += len;
		query.n -= len;
	}
	return false;
}

bool query_number(struct http_str value, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (value.n == 0 || value.n > 10)
		return false;
	for (uint32_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(value.p[i] - '0');
	}
	*ret = v;
	return v <= max;
}

static void split_path(struct call *c)
{
	const char *mark = memchr(c->req->path.p, '?', c->req->path.n);

	c->path = c->req->path;
	if (!mark)
		return;
	c->query = (struct http_str){ mark + 1, (uint32_t)(c->path.p + c->path.n - mark - 1) };
	c->path.n = (uint32_t)(mark - c->path.p);
}

/* A change: whether it may be made is told before its body is read. */
static bool dispatch_change(struct call *c, const struct route *r)
{
	if (!may_change(c)) {
		call_problem(c, 403, "Forbidden", "admin.mutations does not allow changes here");
	} else if (!token_is_right(c)) {
		call_problem(c, 401, "Unauthorized",
			     "send Authorization: Bearer with the token of admin.token_file");
	} else if (c->l->surface == ADMIN_LOOPBACK && !has_admin_header(c->req)) {
		call_problem(c, 403, "Forbidden", "send x-rhc-admin: 1");
	} else {
		c->when_read = r->fn;
		return true;
	}
	return false;
}

bool routes_dispatch(struct call *c)
{
	bool get = c->req->method == HTTP_METHOD_GET || c->req->method == HTTP_METHOD_HEAD;
	const struct route *r;
	bool reads;

	split_path(c);
	if (!host_is_fine(c)) {
		call_problem(c, 403, "Forbidden", "Host must be localhost or an IP address");
		return false;
	}
	r = find_route(c);
	if (!r) {
		call_problem(
			c, 404, "Not found",
			"see /live /ready /startup /health /metrics, and on the admin address /api/v1/status");
		return false;
	}
	reads = strcmp(r->method, "GET") == 0;
	if (reads ? !get : c->req->method != HTTP_METHOD_POST) {
		c->allow = reads ? "GET, HEAD" : "POST";
		call_problem(c, 405, "Method not allowed",
			     reads ? "this is read with GET" : "changes are made with POST");
		return false;
	}
	if (!reads)
		return dispatch_change(c, r);
	r->fn(c);
	return false;
}
