#include "sidecar/exchange/route.h"

#include <stdio.h>
#include <string.h>

#include "sidecar/exchange/heads.h"

/* Cut what a stranger sent to something a sentence can hold. */
enum { SHOWN = 80 };

static int shown(struct http_str s)
{
	return (int)(s.n > SHOWN ? SHOWN : s.n);
}

static enum rhc_error no_route(struct exchange *e, const char *what, struct http_str value)
{
	snprintf(e->detail, sizeof(e->detail), "no upstream is configured for %s \"%.*s\"", what, shown(value), value.p);
	return RHC_ERR_no_route;
}

/* A pattern of forward_proxy.allow may name a port ("db.example.com:5432") or not, and then means every port. */
static bool allowed(const struct exchange *e, struct http_str host)
{
	const struct config *config = e->env->config;

	return config->forward_proxy.enabled && (upstream_forward_allowed(config, host) ||
	                                         upstream_forward_allowed(config, e->req->authority));
}

static enum rhc_error not_allowed(struct exchange *e)
{
	snprintf(e->detail, sizeof(e->detail), "forward_proxy.allow does not name \"%.*s\"", shown(e->req->authority),
	         e->req->authority.p);
	return RHC_ERR_denied;
}

static enum rhc_error target(struct exchange *e, struct http_str host, uint16_t port)
{
	enum rhc_error why;

	e->upstream = upstreams_forward(e->env->upstreams, host, port, &why);
	if (e->upstream)
		return RHC_ERR_none;
	if (why == RHC_ERR_hosts_full)
		snprintf(e->detail, sizeof(e->detail),
		         "all %u records of forward_proxy.max_hosts belong to hosts with calls, failures or overrides",
		         e->env->upstreams->seg->hdr.max_hosts);
	else
		snprintf(e->detail, sizeof(e->detail), "no room for another target of the forward proxy");
	return why;
}

static enum rhc_error forward(struct exchange *e)
{
	const struct http_head *req = e->req;
	struct http_str host;
	uint16_t port;

	if (http_authority_split(req->authority, &host, &port) != 0 || !allowed(e, host))
		return not_allowed(e);
	if (!http_str_ieq(req->scheme, HTTP_STR("http"))) {
		/* sent in the clear it would not be what was asked for */
		snprintf(e->detail, sizeof(e->detail), "\"%.*s\" needs an upstream with a url of https://",
		         shown(req->authority), req->authority.p);
		return RHC_ERR_denied;
	}
	return target(e, host, port ? port : 80);
}

/* Does the tunnel lead to where the calls of this upstream go?  Then its slots and its circuit stand for both. */
static bool same_place(const struct upstream *up, struct http_str host, uint16_t port)
{
	const struct config_url *url = &up->cfg->url;

	return url->port == port && http_str_ieq(host, (struct http_str){ url->host, (uint32_t)strlen(url->host) });
}

/* RFC 9110 §9.3.6: the target is host and port, and nothing is assumed of either. */
static enum rhc_error tunnel(struct exchange *e)
{
	const struct http_head *req = e->req;
	enum config_listener_mode mode = e->listener->config->mode;
	struct http_str host;
	struct upstream *up;
	uint16_t port;

	if (e->env->config->forward_proxy.connect != CONFIG_CONNECT_ALLOW || e->listener->upstream ||
	    mode == CONFIG_LISTENER_ROUTE) {
		snprintf(e->detail, sizeof(e->detail),
		         "forward_proxy.connect is deny; call http:// and let the sidecar speak TLS");
		return RHC_ERR_denied;
	}
	if (http_authority_split(req->authority, &host, &port) != 0 || host.n == 0 || port == 0 ||
	    (req->version != HTTP_2 && req->body != HTTP_BODY_NONE)) {
		snprintf(e->detail, sizeof(e->detail), "CONNECT wants host:port and no content");
		return RHC_ERR_bad_request;
	}
	if (!allowed(e, host))
		return not_allowed(e);
	e->connect = true;
	up = upstreams_by_host(e->env->upstreams, req->authority);
	if (up && same_place(up, host, port)) {
		e->upstream = up;
		return RHC_ERR_none;
	}
	return target(e, host, port);
}

static enum rhc_error by_name(struct exchange *e, const struct http_field *f)
{
	struct http_str name = { f->value, f->value_len };

	e->upstream = upstreams_by_name(e->env->upstreams, name);
	return e->upstream ? RHC_ERR_none : no_route(e, "x-rhc-upstream", name);
}

enum rhc_error route(struct exchange *e)
{
	const struct http_head *req = e->req;
	const struct http_field *wanted = http_head_find(req, HTTP_FIELD_X_RHC_UPSTREAM);
	enum config_listener_mode mode = e->listener->config->mode;

	if (head_is_loop(req, e->env->via)) {
		snprintf(e->detail, sizeof(e->detail), "Via already names \"%s\", which is this sidecar", e->env->via);
		return RHC_ERR_loop;
	}
	if (req->method == HTTP_METHOD_CONNECT)
		return tunnel(e);
	if (e->listener->upstream) {
		e->upstream = e->listener->upstream;
		return RHC_ERR_none;
	}
	if (wanted)
		return by_name(e, wanted);
	e->upstream = mode == CONFIG_LISTENER_FORWARD && req->target != HTTP_TARGET_ABSOLUTE ?
	                      NULL :
	                      upstreams_by_host(e->env->upstreams, req->authority);
	if (e->upstream)
		return RHC_ERR_none;
	if (req->target == HTTP_TARGET_ABSOLUTE && mode != CONFIG_LISTENER_ROUTE)
		return forward(e);
	return no_route(e, "authority", req->authority);
}
