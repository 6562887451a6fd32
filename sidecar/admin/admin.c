#include "sidecar/admin/admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/admin.h"
#include "sidecar/admin/metrics.h"
#include "sidecar/admin/status.h"
#include "sidecar/admin/text.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/json.h"
#include "sidecar/base/log.h"

#define CALL_MAGIC 0x41444d43u
#define HEALTH_POLL_NS (20 * NS_PER_MS)
#define HEALTH_GRACE_NS (500 * NS_PER_MS) /* beyond the longest health.timeout */

enum answer_type { AS_TEXT, AS_JSON, AS_PROBLEM, AS_METRICS, AS_OPENMETRICS };

struct call {
	uint32_t               magic;
	struct admin_listener *l;
	struct message        *m;
	const struct http_head *req;
	struct text            text;
	size_t                 sent; /* of text, given to the message */
	uint16_t               status;
	uint8_t                type; /* enum answer_type */
	bool                   answered;
	bool                   strict; /* /health?strict */
	uint32_t               body_n; /* of the request, read away */
	uint64_t               asked_ms;
	uint64_t               give_up_ns;
	struct timer           timer;
};

int admin_init(struct admin *a)
{
	return slab_init(&a->calls, "admin_call", sizeof(struct call), ADMIN_CALLS_MAX);
}

void admin_fini(struct admin *a)
{
	slab_fini(&a->calls);
}

/* ---- answers ---- */

static const char *const type_names[] = {
	"text/plain; charset=utf-8", "application/json", "application/problem+json",
	"text/plain; version=0.0.4; charset=utf-8",
	"application/openmetrics-text; version=1.0.0; charset=utf-8",
};

static void call_end(struct call *c)
{
	struct admin *a = c->l->admin;
	struct message *m = c->m;

	timer_clear(a->http->timers, &c->timer);
	text_fini(&c->text);
	OBJ_FINI(c, CALL_MAGIC);
	slab_put(&a->calls, c);
	message_release(m);
}

/* As much as a window; more when that has left. */
static void pump(struct call *c)
{
	size_t n = c->text.n - c->sent;

	if (n > MESSAGE_WINDOW)
		n = MESSAGE_WINDOW;
	if (n == 0)
		return;
	while (n > 0) {
		struct buf *b = buf_get(c->l->admin->http->stream.bufs, BUF_LARGE);
		uint32_t piece;

		if (!b) {
			call_end(c); /* cannot happen with the supervisor's pool; ends in an error for the asker, not in a wait */
			return;
		}
		piece = n < BUF_LARGE_SIZE ? (uint32_t)n : BUF_LARGE_SIZE;
		memcpy(b->data, c->text.p + c->sent, piece);
		b->len = piece;
		c->sent += piece;
		n -= piece;
		message_send_body(c->m, (struct slice){ b, b->data, piece });
	}
	if (c->sent == c->text.n)
		message_send_end(c->m, NULL);
}

static void answer(struct call *c, uint16_t status, enum answer_type type)
{
	struct http_field fields[4];
	struct http_head h = { .fields = fields, .fields_max = 4, .version = HTTP_1_1, .keep_alive = true };
	bool is_head = c->req->method == HTTP_METHOD_HEAD;

	if (c->text.failed) {
		text_fini(&c->text);
		text_add(&c->text, "the answer is larger than %d bytes, or there is no memory for it\n", ADMIN_ANSWER_MAX);
		status = 503;
		type = AS_TEXT;
	}
	c->status = status;
	c->answered = true;
	h.status = status;
	h.body = HTTP_BODY_LENGTH;
	h.body_len = c->text.n;
	(void)http_head_add(&h, HTTP_FIELD_CONTENT_TYPE, HTTP_STR("content-type"),
	                    (struct http_str){ type_names[type], (uint32_t)strlen(type_names[type]) });
	(void)http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("cache-control"), HTTP_STR("no-store"));
	(void)http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("x-content-type-options"), HTTP_STR("nosniff"));
	if (message_send_head(c->m, &h, is_head || c->text.n == 0) != 0) {
		call_end(c);
		return;
	}
	if (is_head)
		c->sent = c->text.n;
	else
		pump(c);
}

static void problem(struct call *c, uint16_t status, const char *title, const char *detail)
{
	char *p = text_room(&c->text, 1024);
	struct json j;
	int n;

	if (p) {
		json_init(&j, p, 1024);
		json_object(&j, NULL);
		json_str(&j, "type", "about:blank");
		json_str(&j, "title", title);
		json_u64(&j, "status", status);
		json_str(&j, "detail", detail);
		json_end(&j);
		n = json_finish(&j);
		c->text.n += n > 0 ? (size_t)n : 0;
	}
	answer(c, status, AS_PROBLEM);
}

static void plain(struct call *c, uint16_t status, const char *word)
{
	text_add(&c->text, "%s\n", word);
	answer(c, status, AS_TEXT);
}

/* ---- what is asked ---- */

static enum rhc_lifecycle lifecycle(const struct admin *a)
{
	return (enum rhc_lifecycle)atomic_load(&rhc_seg_hdr(a->seg)->lifecycle);
}

static void get_live(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	if (h->live(h->arg))
		plain(c, 200, "live");
	else
		plain(c, 503, "no worker turns its loop");
}

static const char *readiness(struct admin *a)
{
	switch (lifecycle(a)) {
	case RHC_LIFE_READY:
		a->started = true;
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

	plain(c, strcmp(word, "ready") == 0 ? 200 : 503, word);
}

static void get_startup(struct call *c)
{
	const char *word = readiness(c->l->admin);

	plain(c, c->l->admin->started ? 200 : 503, c->l->admin->started ? "started" : word);
}

static void get_metrics(struct call *c)
{
	const struct http_field *accept = http_head_find(c->req, HTTP_FIELD_ACCEPT);
	bool open = c->l->admin->config->telemetry.openmetrics && accept &&
	            memmem(accept->value, accept->value_len, "application/openmetrics-text", 28) != NULL;

	metrics_write(c->l->admin, &c->text, open);
	answer(c, 200, open ? AS_OPENMETRICS : AS_METRICS);
}

static void health_answer(struct call *c)
{
	bool bad = false;

	status_health(c->l->admin, &c->text, c->asked_ms, &bad);
	answer(c, bad && c->strict ? 503 : 200, AS_JSON);
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

	for (uint32_t i = 0; i < a->config->upstreams_len; i++) {
		uint64_t t = a->config->upstreams[i].policy.health.timeout_ns;

		longest = t > longest ? t : longest;
	}
	c->asked_ms = clock_ns() / NS_PER_MS;
	c->give_up_ns = clock_ns() + longest + HEALTH_GRACE_NS;
	c->timer.fn = on_health_timer;
	a->hooks->health(a->hooks->arg);
	timer_set(a->http->timers, &c->timer, clock_ns() + HEALTH_POLL_NS);
}

static void get_status(struct call *c)
{
	status_json(c->l->admin, &c->text);
	answer(c, 200, AS_JSON);
}

static void get_page(struct call *c)
{
	if (!c->l->admin->config->admin.status_page) {
		problem(c, 404, "Not found", "admin.status_page is off");
		return;
	}
	status_text(c->l->admin, &c->text);
	answer(c, 200, AS_TEXT);
}

static void post_drain(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	h->drain(h->arg, true);
	plain(c, 200, "draining");
}

static void post_quit(struct call *c)
{
	const struct admin_hooks *h = c->l->admin->hooks;

	if (!c->l->admin->config->admin.quitquitquit) {
		problem(c, 403, "Not allowed", "admin.quitquitquit is off");
		return;
	}
	plain(c, 200, "bye");
	h->quit(h->arg);
}

/* /api/v1/breakers/NAME/VERB */
static void post_breaker(struct call *c, struct http_str rest)
{
	static const enum rhc_verb verbs[] = { RHC_VERB_OPEN,    RHC_VERB_CLOSE,  RHC_VERB_ISOLATE,
		                               RHC_VERB_DISABLE, RHC_VERB_ENABLE, RHC_VERB_RESET };
	const char *slash = memchr(rest.p, '/', rest.n);
	char name[RHC_NAME_MAX + 1];
	enum rhc_verb verb = RHC_VERB_NONE;
	struct rhc_admin ad;
	struct rhc_change change;
	int index, rc;

	if (!slash || slash - rest.p > RHC_NAME_MAX) {
		problem(c, 404, "Not found", "POST /api/v1/breakers/NAME/VERB");
		return;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(slash - rest.p), rest.p);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (http_str_is((struct http_str){ slash + 1, (uint32_t)(rest.p + rest.n - slash - 1) },
		                rhc_verb_name(verbs[i])))
			verb = verbs[i];
	}
	index = rhc_upstream_find(c->l->admin->seg, name);
	if (index < 0 || verb == RHC_VERB_NONE) {
		problem(c, 404, "Not found", index < 0 ? "no such upstream" : "verbs: open close isolate disable enable reset");
		return;
	}
	rc = rhc_admin_begin(&ad, c->l->admin->seg, (uint32_t)getuid(), (uint32_t)getpid());
	if (rc == 0) {
		rc = rhc_admin_breaker(&ad, (uint32_t)index, verb, 0, "admin listener", clock_ns() / NS_PER_MS, &change);
		rhc_admin_end(&ad);
	}
	if (rc != 0) {
		problem(c, 409, "Not changed", strerror(-rc));
		return;
	}
	get_status(c);
}

struct route {
	const char *method, *path;
	bool        telemetry; /* also there */
	void (*fn)(struct call *c);
};

static const struct route routes[] = {
	{ "GET", "/live", true, get_live },
	{ "GET", "/ready", true, get_ready },
	{ "GET", "/startup", true, get_startup },
	{ "GET", "/health", true, get_health },
	{ "GET", "/", false, get_page },
	{ "GET", "/api/v1/status", false, get_status },
	{ "POST", "/drain", false, post_drain },
	{ "POST", "/quitquitquit", false, post_quit },
	{ "POST", "/shutdown", false, post_quit },
};

/* RFC 9110 §4.2.3 says the asker's Host; anything else than us is a page in somebody's browser. */
static bool host_is_fine(const struct call *c)
{
	struct http_str host;
	uint16_t port;

	if (c->l->surface != ADMIN_LOOPBACK || c->req->authority.n == 0)
		return true;
	if (http_authority_split(c->req->authority, &host, &port) != 0)
		return false;
	return http_str_ieq(host, HTTP_STR("localhost")) || http_str_is(host, "::1") ||
	       (host.n > 4 && memcmp(host.p, "127.", 4) == 0);
}

static bool may_change(const struct call *c)
{
	enum config_mutations m = c->l->admin->config->admin.mutations;

	if (c->l->surface == ADMIN_SOCKET)
		return m != CONFIG_MUTATIONS_OFF;
	return c->l->surface == ADMIN_LOOPBACK && m == CONFIG_MUTATIONS_LOOPBACK;
}

/* admin.token_file, read anew each time, so that a rotated secret counts at once. */
static bool token_is_right(const struct call *c)
{
	const char *path = c->l->admin->config->admin.token_file;
	const struct http_field *f = http_head_find(c->req, HTTP_FIELD_AUTHORIZATION);
	static const char bearer[] = "Bearer ";
	char token[ADMIN_TOKEN_MAX];
	size_t n = 0, given;
	unsigned differs = 0;
	FILE *file;

	if (!path)
		return true;
	file = fopen(path, "re");
	if (file) {
		n = fread(token, 1, sizeof(token), file);
		fclose(file);
	}
	while (n > 0 && (token[n - 1] == '\n' || token[n - 1] == '\r'))
		n--;
	if (n == 0 || !f || f->value_len < sizeof(bearer) || memcmp(f->value, bearer, sizeof(bearer) - 1) != 0)
		return false;
	given = f->value_len - (sizeof(bearer) - 1);
	if (given != n)
		return false;
	for (size_t i = 0; i < n; i++) /* in the same time wherever they differ */
		differs |= (unsigned char)token[i] ^ (unsigned char)f->value[sizeof(bearer) - 1 + i];
	return differs == 0;
}

static const struct http_field *field_named(const struct http_head *h, const char *name)
{
	for (unsigned i = 0; i < h->n_fields; i++) {
		if (http_str_ieq((struct http_str){ h->fields[i].name, h->fields[i].name_len },
		                 (struct http_str){ name, (uint32_t)strlen(name) }))
			return &h->fields[i];
	}
	return NULL;
}

static void dispatch(struct call *c)
{
	struct http_str path = c->req->path;
	const char *query = memchr(path.p, '?', path.n);
	bool get = c->req->method == HTTP_METHOD_GET || c->req->method == HTTP_METHOD_HEAD;
	static const char breakers[] = "/api/v1/breakers/";
	const struct route *found = NULL;

	if (query) {
		c->strict = http_str_is((struct http_str){ query + 1, (uint32_t)(path.p + path.n - query - 1) }, "strict");
		path.n = (uint32_t)(query - path.p);
	}
	if (!host_is_fine(c)) {
		problem(c, 403, "Forbidden", "Host must be a loopback name");
		return;
	}
	if (get && http_str_is(path, c->l->admin->config->telemetry.metrics_path)) {
		get_metrics(c);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		if (http_str_is(path, routes[i].path) && (routes[i].telemetry || c->l->surface != ADMIN_TELEMETRY))
			found = &routes[i];
	}
	if (found && strcmp(found->method, "GET") == 0) {
		if (get)
			found->fn(c);
		else
			problem(c, 405, "Method not allowed", "this is read with GET");
		return;
	}
	if (!found && (c->l->surface == ADMIN_TELEMETRY || path.n < sizeof(breakers) ||
	               memcmp(path.p, breakers, sizeof(breakers) - 1) != 0)) {
		problem(c, 404, "Not found", "see /live /ready /startup /health /metrics /api/v1/status");
		return;
	}
	if (c->req->method != HTTP_METHOD_POST) {
		problem(c, 405, "Method not allowed", "changes are made with POST");
		return;
	}
	if (!may_change(c)) {
		problem(c, 403, "Forbidden", "admin.mutations does not allow changes here");
		return;
	}
	if (!token_is_right(c)) {
		problem(c, 401, "Unauthorized", "send Authorization: Bearer with the token of admin.token_file");
		return;
	}
	if (c->l->surface == ADMIN_LOOPBACK && !field_named(c->req, "x-rhc-admin")) {
		problem(c, 403, "Forbidden", "send x-rhc-admin: 1");
		return;
	}
	if (found)
		found->fn(c);
	else
		post_breaker(c, (struct http_str){ path.p + sizeof(breakers) - 1,
		                                   path.n - (uint32_t)sizeof(breakers) + 1 });
}

/* ---- events of the message ---- */

static void on_head(struct message *m, struct http_head *h, bool end)
{
	struct call *c = m->owner;

	OBJ_CHECK(c, CALL_MAGIC);
	(void)end; /* no request of ours has a body that matters: it is read away below */
	c->req = h;
	dispatch(c);
}

static void on_body(struct message *m, struct slice data)
{
	struct call *c = m->owner;
	uint32_t n = data.n;

	OBJ_CHECK(c, CALL_MAGIC);
	slice_drop(data);
	c->body_n += n;
	if (c->body_n > ADMIN_BODY_MAX)
		call_end(c);
	else
		message_consume(m, n);
}

static void on_end(struct message *m, struct http_head *trailers)
{
	(void)m;
	(void)trailers;
}

static void on_sent(struct message *m, uint32_t n, bool all)
{
	struct call *c = m->owner;

	OBJ_CHECK(c, CALL_MAGIC);
	(void)n;
	if (all)
		call_end(c);
	else if (c->answered && m->out_unsent < BUF_LARGE_SIZE && c->sent < c->text.n)
		pump(c);
}

static void on_error(struct message *m, enum message_error err, bool unprocessed)
{
	(void)err;
	(void)unprocessed;
	call_end(m->owner);
}

static const struct message_events events = {
	.on_head = on_head,
	.on_body = on_body,
	.on_end = on_end,
	.on_sent = on_sent,
	.on_error = on_error,
};

void admin_message(struct admin_listener *l, struct message *m)
{
	struct call *c = slab_get(&l->admin->calls);

	if (!c)
		return; /* the connection answers 503 */
	OBJ_INIT(c, CALL_MAGIC);
	c->l = l;
	c->m = m;
	m->ev = &events;
	m->owner = c;
}
