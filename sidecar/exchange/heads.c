#include "sidecar/exchange/heads.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/upstream/errors.h"

struct http_head *head_begin(struct exchange_env *env, struct head_text *text)
{
	struct http_head *h = &env->scratch;

	*h = (struct http_head){ .fields = env->scratch_fields, .fields_max = HTTP_FIELDS_MAX };
	text->p = env->scratch_text;
	text->left = sizeof(env->scratch_text);
	return h;
}

struct http_str head_printf(struct head_text *t, const char *fmt, ...)
{
	struct http_str s = { t->p, 0 };
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p, t->left, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= t->left)
		return s;
	s.n = (uint32_t)n;
	t->p += n;
	t->left -= (size_t)n;
	return s;
}

static struct http_str str_of(const char *s)
{
	return (struct http_str){ s, (uint32_t)strlen(s) };
}

/* Join two pieces that lie elsewhere; where the scratch text is too small the result is empty. */
static struct http_str join(struct head_text *t, struct http_str a, struct http_str b)
{
	struct http_str s = { t->p, 0 };

	if ((size_t)a.n + b.n > t->left)
		return s;
	memcpy(t->p, a.p, a.n);
	memcpy(t->p + a.n, b.p, b.n);
	s.n = a.n + b.n;
	t->p += s.n;
	t->left -= s.n;
	return s;
}

/* Fields of the app that we answer, replace or keep to ourselves. */
static bool is_ours(const struct http_field *f)
{
	switch (f->id) {
	case HTTP_FIELD_HOST:
	case HTTP_FIELD_CONTENT_LENGTH:
	case HTTP_FIELD_X_RHC_UPSTREAM:
	case HTTP_FIELD_X_RHC_TIMEOUT:
	case HTTP_FIELD_X_RHC_MAX_ATTEMPTS:
	case HTTP_FIELD_X_RHC_ATTEMPT:
	case HTTP_FIELD_X_RHC_DEBUG:
		return true;
	default:
		return (f->flags & HTTP_FIELD_DROP) != 0 || http_field_is_hop((enum http_field_id)f->id);
	}
}

static bool is_named(const struct http_field *f, const char *name)
{
	return name && http_str_ieq((struct http_str){ f->name, f->name_len }, str_of(name));
}

static bool is_removed(const struct http_field *f, const struct config_headers *c)
{
	for (uint32_t i = 0; i < c->remove_request.len; i++) {
		if (is_named(f, c->remove_request.item[i]))
			return true;
	}
	for (uint32_t i = 0; i < c->add_request.len; i++) {
		if (is_named(f, c->add_request.item[i].name))
			return true;
	}
	return is_named(f, c->request_id);
}

static int copy(struct http_head *h, const struct http_field *f)
{
	if (h->n_fields == h->fields_max)
		return -ENOSPC;
	h->fields[h->n_fields++] = *f;
	return 0;
}

static int add(struct http_head *h, const char *name, struct http_str value)
{
	return http_head_add(h, http_field_lookup(name, strlen(name)), str_of(name), value);
}

/* RFC 9110 §7.6.3: our token joins the list. */
static int add_via(struct exchange *e, struct http_head *h, struct head_text *t, const struct http_head *from)
{
	const struct http_field *via = http_head_find(from, HTTP_FIELD_VIA);
	const char *name = e->env->config->responses.proxy_status.name;
	const char *version = from->version == HTTP_2 ? "2" : from->version == HTTP_1_0 ? "1.0" : "1.1";
	struct http_str own = head_printf(t, "%s%s %s", via ? ", " : "", version, name);

	if (via)
		own = join(t, (struct http_str){ via->value, via->value_len }, own);
	return http_head_add(h, HTTP_FIELD_VIA, HTTP_STR("via"), own);
}

bool head_is_loop(const struct http_head *req, const char *name)
{
	for (unsigned i = 0; i < req->n_fields; i++) {
		const struct http_field *f = &req->fields[i];
		const char *p = f->value, *end = f->value + f->value_len;

		if (f->id != HTTP_FIELD_VIA)
			continue;
		/* elements are "version received-by [comment]" */
		while (p < end) {
			const char *comma = memchr(p, ',', (size_t)(end - p));
			const char *stop = comma ? comma : end;
			const char *by = memchr(p + 1, ' ', stop > p + 1 ? (size_t)(stop - p - 1) : 0);

			if (by) {
				const char *e = ++by;

				while (e < stop && *e != ' ' && *e != '\t')
					e++;
				if ((size_t)(e - by) == strlen(name) && memcmp(by, name, (size_t)(e - by)) == 0)
					return true;
			}
			p = stop + 1;
			while (p < end && (*p == ' ' || *p == '\t'))
				p++;
		}
	}
	return false;
}

static int add_forwarded(struct exchange *e, struct http_head *h, struct head_text *t)
{
	const struct http_head *req = e->req;

	switch (e->upstream->policy->headers.forwarded) {
	case CONFIG_FORWARDED_X:
		if (req->authority.n && http_head_add(h, HTTP_FIELD_X_FORWARDED_HOST, HTTP_STR("x-forwarded-host"),
		                                      req->authority) != 0)
			return -ENOSPC;
		return http_head_add(h, HTTP_FIELD_X_FORWARDED_PROTO, HTTP_STR("x-forwarded-proto"), HTTP_STR("http"));
	case CONFIG_FORWARDED_7239:
		return http_head_add(h, HTTP_FIELD_FORWARDED, HTTP_STR("forwarded"),
		                     head_printf(t, "for=_app;host=\"%.*s\";proto=http", (int)req->authority.n,
		                                 req->authority.p));
	default:
		return 0;
	}
}

/* The authority the upstream is known by: host of its url, with the port where that was written. */
static struct http_str upstream_authority(const struct exchange *e, struct head_text *t)
{
	const struct config_url *url = &e->upstream->cfg->url;
	bool v6 = url->literal && strchr(url->host, ':');

	if (!url->port_written)
		return v6 ? head_printf(t, "[%s]", url->host) : str_of(url->host);
	return head_printf(t, v6 ? "[%s]:%u" : "%s:%u", url->host, url->port);
}

static int request_fields(struct exchange *e, struct http_head *h, struct head_text *t)
{
	const struct config_headers *c = &e->upstream->policy->headers;
	const struct http_head *req = e->req;
	int rc = 0;

	for (unsigned i = 0; i < req->n_fields && rc == 0; i++) {
		const struct http_field *f = &req->fields[i];

		if (!is_ours(f) && f->id != HTTP_FIELD_VIA && !is_removed(f, c))
			rc = copy(h, f);
	}
	for (uint32_t i = 0; i < c->add_request.len && rc == 0; i++)
		rc = add(h, c->add_request.item[i].name, str_of(c->add_request.item[i].value));
	if (rc == 0 && c->request_id)
		rc = add(h, c->request_id, e->request_id);
	if (rc == 0 && e->attempt > 1)
		rc = http_head_add(h, HTTP_FIELD_X_RHC_ATTEMPT, HTTP_STR("x-rhc-attempt"),
		                   head_printf(t, "%u", e->attempt));
	if (rc == 0)
		rc = add_via(e, h, t, req);
	if (rc == 0)
		rc = add_forwarded(e, h, t);
	return rc;
}

int head_request(struct exchange *e, struct http_head **ret)
{
	const struct config_url *url = &e->upstream->cfg->url;
	const struct http_head *req = e->req;
	struct head_text t;
	struct http_head *h = head_begin(e->env, &t);

	h->method = req->method;
	h->method_text = req->method_text;
	h->target = req->target == HTTP_TARGET_ASTERISK ? HTTP_TARGET_ASTERISK : HTTP_TARGET_ORIGIN;
	h->scheme = url->tls ? HTTP_STR("https") : HTTP_STR("http");
	h->authority = upstream_authority(e, &t);
	h->path = req->path;
	if (url->path[0] && h->target == HTTP_TARGET_ORIGIN) {
		h->path = join(&t, str_of(url->path), req->path);
		if (!h->path.n)
			return -ENOSPC;
	}
	h->version = HTTP_1_1;
	h->keep_alive = true;
	h->body = req->body;
	h->body_len = req->body_len;
	h->te_trailers = req->te_trailers;
	*ret = h;
	return request_fields(e, h, &t);
}

static void timing_value(const struct exchange *e, struct head_text *t, struct http_str *ret)
{
	static const char *const names[PHASES] = { "queue", "pool", "dns", "connect", "tls",
		                                   "send", "upstream", "receive", "backoff" };
	uint64_t now = engine_now(e->env->http->stream.engine), total = now - e->start_ns, known = 0;
	struct http_str all, s;

	for (unsigned i = 0; i < PHASES; i++)
		known += e->phases[i];
	all = head_printf(t, "rhc;dur=%.3f;desc=\"overhead\"", (double)(total > known ? total - known : 0) / 1e6);
	for (unsigned i = 0; i < PHASES; i++) {
		s = head_printf(t, ", %s;dur=%.3f", names[i], (double)e->phases[i] / 1e6);
		all.n += s.n;
	}
	s = head_printf(t, ", total;dur=%.3f", (double)total / 1e6);
	all.n += s.n;
	*ret = all;
}

int head_annotate(struct exchange *e, struct http_head *h, struct head_text *t)
{
	const char *id_field = e->upstream ? e->upstream->policy->headers.request_id :
	                                     e->env->config->defaults.headers.request_id;
	enum config_server_timing timing = e->env->config->responses.server_timing;
	struct http_str value;
	int rc = 0;

	if (id_field)
		rc = add(h, id_field, e->request_id);
	if (rc == 0)
		rc = http_head_add(h, HTTP_FIELD_X_RHC_ATTEMPTS, HTTP_STR("x-rhc-attempts"),
		                   head_printf(t, "%u", e->attempt));
	if (rc == 0 && (timing == CONFIG_SERVER_TIMING_ON ||
	                (timing == CONFIG_SERVER_TIMING_ON_REQUEST && e->wants_timing))) {
		timing_value(e, t, &value);
		rc = http_head_add(h, HTTP_FIELD_SERVER_TIMING, HTTP_STR("server-timing"), value);
	}
	return rc;
}

/* The guide's names for answers that are passed on as they are. */
static const char *status_class(uint16_t status)
{
	if (status == 401 || status == 403)
		return "AuthenticationError";
	if (status >= 500)
		return "ServerError";
	return NULL;
}

int head_response(struct exchange *e, const struct http_head *from, struct http_head **ret)
{
	const char *id_field = e->upstream->policy->headers.request_id;
	const char *class = status_class(from->status);
	struct head_text t;
	struct http_head *h = head_begin(e->env, &t);
	int rc = 0;

	h->status = from->status;
	h->reason = from->reason;
	h->version = HTTP_1_1;
	h->keep_alive = true;
	h->body = from->body;
	h->body_len = from->body_len;
	for (unsigned i = 0; i < from->n_fields && rc == 0; i++) {
		const struct http_field *f = &from->fields[i];

		if (f->flags & HTTP_FIELD_DROP || http_field_is_hop((enum http_field_id)f->id) ||
		    f->id == HTTP_FIELD_VIA || f->id == HTTP_FIELD_X_RHC_ATTEMPTS || is_named(f, id_field))
			continue;
		rc = copy(h, f);
	}
	if (from->status < 200) {
		*ret = h;
		return rc;
	}
	if (rc == 0)
		rc = add_via(e, h, &t, from);
	if (rc == 0 && class)
		rc = http_head_add(h, HTTP_FIELD_X_RHC_ERROR, HTTP_STR("x-rhc-error"), str_of(class));
	if (rc == 0 && from->status >= 500 && e->attempt > 1)
		rc = http_head_add(h, HTTP_FIELD_PROXY_STATUS, HTTP_STR("proxy-status"),
		                   head_printf(&t, "%s; received-status=%u; next-hop=\"%s\"; details=\"attempts=%u; URX\"",
		                               e->env->config->responses.proxy_status.name, from->status,
		                               e->upstream->name, e->attempt));
	if (rc == 0)
		rc = head_annotate(e, h, &t);
	*ret = h;
	return rc;
}
