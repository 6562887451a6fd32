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

struct http_str head_number(struct head_text *t, uint32_t v)
{
	char b[10], *p = b + sizeof(b);
	struct http_str s = { t->p, 0 };

	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	s.n = (uint32_t)(b + sizeof(b) - p);
	if (s.n > t->left)
		return (struct http_str){ t->p, 0 };
	memcpy(t->p, p, s.n);
	t->p += s.n;
	t->left -= s.n;
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

static struct http_str append(struct head_text *t, struct http_str list, struct http_str element)
{
	return list.n ? join(t, join(t, list, HTTP_STR(", ")), element) : element;
}

/* Fields of the app that we answer, replace or keep to ourselves. */
static bool is_ours(const struct exchange *e, const struct http_field *f)
{
	switch (f->id) {
	case HTTP_FIELD_UPGRADE:
		return !e->upgrade;
	case HTTP_FIELD_EXPECT:
		/* who has leave already, or can get none, does not ask for it; other expectations are the upstream's */
		return (!e->expects || e->up->version == HTTP_2) &&
		       http_str_ieq((struct http_str){ f->value, f->value_len }, HTTP_STR("100-continue"));
	case HTTP_FIELD_GRPC_TIMEOUT:
		return e->grpc && e->deadline_ns;
	case HTTP_FIELD_X_FORWARDED_FOR:
		return e->upstream->policy->headers.forwarded == CONFIG_FORWARDED_X;
	case HTTP_FIELD_FORWARDED:
		return e->upstream->policy->headers.forwarded == CONFIG_FORWARDED_7239;
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

/*
 * RFC 9110 §7.6.3: we join the list, in a line of our own (§5.3) behind those that came.  So none of them is lost, however
 * many and long they are.
 */
static int add_via(struct http_head *h, struct head_text *t, const struct http_head *from, const char *name)
{
	struct http_str version = from->version == HTTP_2   ? HTTP_STR("2 ") :
	                          from->version == HTTP_1_0 ? HTTP_STR("1.0 ") :
	                                                      HTTP_STR("1.1 ");
	struct http_str own = join(t, version, str_of(name));

	return own.n ? http_head_add(h, HTTP_FIELD_VIA, HTTP_STR("via"), own) : -ENOSPC;
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

/* The app's address without its port; "" for a unix socket or a peer that is gone. */
static struct http_str peer_text(const struct exchange *e, char out[SOCK_TEXT_SIZE])
{
	struct http_str s = { out, 0 };
	struct sock_addr peer;
	uint16_t port;

	if (http_conn_peer(e->down->conn, &peer) != 0 || peer.any.sa_family == AF_UNIX)
		return s;
	s.n = (uint32_t)sock_format(&peer.any, peer.len, out);
	return http_authority_split(s, &s, &port) == 0 ? s : (struct http_str){ out, 0 };
}

/* Every element that came before ours, in order: a list may be spread over several fields (RFC 9110 §5.3). */
static struct http_str list_of(struct exchange *e, struct head_text *t, enum http_field_id id)
{
	struct http_str all = { "", 0 };

	for (unsigned i = 0; i < e->req->n_fields; i++) {
		const struct http_field *f = &e->req->fields[i];
		struct http_str v = { f->value, f->value_len };

		if (f->id != id || v.n == 0)
			continue;
		all = all.n ? join(t, join(t, all, HTTP_STR(", ")), v) : v;
	}
	return all;
}

/* What is known of the first hop is known best by whoever stood there: Host and Proto of the app are kept. */
static int add_x_forwarded(struct exchange *e, struct http_head *h, struct head_text *t, struct http_str peer)
{
	const struct http_head *req = e->req;
	struct http_str list = list_of(e, t, HTTP_FIELD_X_FORWARDED_FOR);
	int rc = 0;

	if (peer.n)
		list = append(t, list, join(t, peer, HTTP_STR("")));
	if (list.n)
		rc = http_head_add(h, HTTP_FIELD_X_FORWARDED_FOR, HTTP_STR("x-forwarded-for"), list);
	if (rc == 0 && req->authority.n && !http_head_find(req, HTTP_FIELD_X_FORWARDED_HOST))
		rc = http_head_add(h, HTTP_FIELD_X_FORWARDED_HOST, HTTP_STR("x-forwarded-host"), req->authority);
	if (rc == 0 && !http_head_find(req, HTTP_FIELD_X_FORWARDED_PROTO))
		rc = http_head_add(h, HTTP_FIELD_X_FORWARDED_PROTO, HTTP_STR("x-forwarded-proto"), HTTP_STR("http"));
	return rc;
}

/* RFC 7239 §4: an IPv6 address stands in brackets and quotes (§6); who has none is unknown (§6.2). */
static int add_rfc7239(struct exchange *e, struct http_head *h, struct head_text *t, struct http_str peer)
{
	bool v6 = peer.n && memchr(peer.p, ':', peer.n);
	struct http_str own;

	if (peer.n)
		own = head_printf(t, v6 ? "for=\"[%.*s]\"" : "for=%.*s", (int)peer.n, peer.p);
	else
		own = head_printf(t, "for=unknown");
	if (e->req->authority.n) {
		struct http_str host = head_printf(t, ";host=\"%.*s\"", (int)e->req->authority.n, e->req->authority.p);

		own.n += host.n;
	}
	own.n += head_printf(t, ";proto=http").n;
	return http_head_add(h, HTTP_FIELD_FORWARDED, HTTP_STR("forwarded"),
	                     append(t, list_of(e, t, HTTP_FIELD_FORWARDED), own));
}

static int add_forwarded(struct exchange *e, struct http_head *h, struct head_text *t)
{
	enum config_forwarded how = e->upstream->policy->headers.forwarded;
	char text[SOCK_TEXT_SIZE];
	struct http_str peer;

	if (how == CONFIG_FORWARDED_OFF)
		return 0;
	peer = peer_text(e, text);
	return how == CONFIG_FORWARDED_X ? add_x_forwarded(e, h, t, peer) : add_rfc7239(e, h, t, peer);
}

/* What is left of the caller's time, so that the upstream does not work for nobody. */
static int add_grpc_timeout(struct exchange *e, struct http_head *h, struct head_text *t)
{
	uint64_t now = engine_now(e->env->http->stream.engine);
	uint64_t left_us = e->deadline_ns > now ? (e->deadline_ns - now) / NS_PER_US : 0;
	struct http_str value;

	/* eight digits at most, so in ms beyond 99 s and in s beyond 27 h */
	if (left_us < 100000000)
		value = head_printf(t, "%uu", (unsigned)left_us);
	else if (left_us / 1000 < 100000000)
		value = head_printf(t, "%um", (unsigned)(left_us / 1000));
	else
		value = head_printf(t, "%uS", (unsigned)(left_us / 1000000 < 99999999 ? left_us / 1000000 : 99999999));
	return http_head_add(h, HTTP_FIELD_GRPC_TIMEOUT, HTTP_STR("grpc-timeout"), value);
}

/* The authority the upstream is known by: host of its url, with the port where that was written. */
static struct http_str upstream_authority(const struct exchange *e, struct head_text *t)
{
	const struct config_url *url = &e->upstream->cfg->url;
	bool v6 = url->literal && strchr(url->host, ':');
	struct http_str host;

	if (v6)
		return head_printf(t, url->port_written ? "[%s]:%u" : "[%s]", url->host, url->port);
	if (!url->port_written)
		return str_of(url->host);
	host = join(t, str_of(url->host), HTTP_STR(":"));
	host.n += head_number(t, url->port).n;
	return host;
}

static int request_fields(struct exchange *e, struct http_head *h, struct head_text *t)
{
	const struct config_headers *c = &e->upstream->policy->headers;
	const struct http_head *req = e->req;
	int rc = 0;

	for (unsigned i = 0; i < req->n_fields && rc == 0; i++) {
		const struct http_field *f = &req->fields[i];

		if (!is_ours(e, f) && !is_removed(f, c))
			rc = copy(h, f);
	}
	for (uint32_t i = 0; i < c->add_request.len && rc == 0; i++)
		rc = add(h, c->add_request.item[i].name, str_of(c->add_request.item[i].value));
	if (rc == 0 && c->request_id)
		rc = add(h, c->request_id, e->request_id);
	if (rc == 0 && e->attempt > 1)
		rc = http_head_add(h, HTTP_FIELD_X_RHC_ATTEMPT, HTTP_STR("x-rhc-attempt"),
		                   head_number(t, e->attempt));
	if (rc == 0)
		rc = add_via(h, t, req, e->env->via);
	if (rc == 0)
		rc = add_forwarded(e, h, t);
	if (rc == 0 && e->grpc && e->deadline_ns)
		rc = add_grpc_timeout(e, h, t);
	return rc;
}

/*
 * HTTP/2 may send trailers behind a body whose length it told, HTTP/1.1 only behind a last chunk (RFC 9112 §7.1.2).  So where
 * trailers were announced (RFC 9110 §6.6.2) the length gives way to them.  Others may be discarded (§6.5.1), and a length is
 * worth more to most who read it.
 */
static bool trails_length(const struct http_head *from)
{
	return from->version == HTTP_2 && from->body == HTTP_BODY_LENGTH && http_head_find(from, HTTP_FIELD_TRAILER);
}

/* The request's body on its way to e->up: trailers that are here already need no announcement. */
static bool request_needs_chunks(const struct exchange *e)
{
	const struct http_head *req = e->req;

	if (e->up->version == HTTP_2)
		return false;
	if (e->body.complete)
		return e->trailers && req->body == HTTP_BODY_LENGTH;
	return trails_length(req);
}

/* To an app of HTTP/1.1 trailers go only if it wants them. */
static bool response_needs_chunks(const struct exchange *e, const struct http_head *from)
{
	return e->req->version == HTTP_1_1 && e->req->te_trailers && trails_length(from);
}

int head_request(struct exchange *e, struct http_head **ret)
{
	const struct config_url *url = &e->upstream->cfg->url;
	const struct http_head *req = e->req;
	struct head_text t;
	struct http_head *h = head_begin(e->env, &t);

	h->method = req->method;
	h->method_text = req->method_text;
	/* also OPTIONS of an absolute target without a path: we are the last proxy before the server (RFC 9112 §3.2.4) */
	h->target = http_str_is(req->path, "*") ? HTTP_TARGET_ASTERISK : HTTP_TARGET_ORIGIN;
	h->scheme = url->tls ? HTTP_STR("https") : HTTP_STR("http");
	h->authority = upstream_authority(e, &t);
	h->path = req->path;
	if (h->path.n && h->path.p[0] == '?') /* RFC 3986 §6.2.3: an empty path is "/" */
		h->path = join(&t, HTTP_STR("/"), h->path);
	if (h->path.n && url->path[0] && h->target == HTTP_TARGET_ORIGIN)
		h->path = join(&t, str_of(url->path), h->path);
	if (!h->path.n)
		return -ENOSPC;
	h->version = HTTP_1_1;
	h->keep_alive = true;
	h->body = request_needs_chunks(e) ? HTTP_BODY_STREAM : req->body;
	h->body_len = req->body_len;
	h->te_trailers = req->te_trailers;
	h->upgrade = e->upgrade;
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
		                   head_number(t, e->attempt));
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

/* Is it a field for the app? */
static bool keeps(const struct exchange *e, const struct http_head *from, const struct http_field *f)
{
	if (f->id == HTTP_FIELD_UPGRADE)
		return from->status == 101;
	/* trailers go to who asked for them (RFC 9110 §6.5.1), so to nobody else they are announced */
	if (f->id == HTTP_FIELD_TRAILER && !e->req->te_trailers)
		return false;
	return !(f->flags & HTTP_FIELD_DROP) && !http_field_is_hop((enum http_field_id)f->id);
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
	h->body = response_needs_chunks(e, from) ? HTTP_BODY_STREAM : from->body;
	h->body_len = from->body_len;
	h->upgrade = from->status == 101;
	for (unsigned i = 0; i < from->n_fields && rc == 0; i++) {
		const struct http_field *f = &from->fields[i];

		if (!keeps(e, from, f) || f->id == HTTP_FIELD_X_RHC_ATTEMPTS || is_named(f, id_field))
			continue;
		rc = copy(h, f);
	}
	if (from->status < 200 && from->status != 101) {
		*ret = h;
		return rc;
	}
	if (rc == 0)
		rc = add_via(h, &t, from, e->env->config->responses.proxy_status.name);
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
