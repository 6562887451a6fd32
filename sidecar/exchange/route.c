#include "sidecar/exchange/route.h"

#include <stdio.h>

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

static enum rhc_error forward(struct exchange *e)
{
	const struct http_head *req = e->req;
	const struct config *config = e->env->config;
	struct http_str host;
	uint16_t port;

	if (!config->forward_proxy.enabled || !upstream_forward_allowed(config, req->authority) ||
	    http_authority_split(req->authority, &host, &port) != 0) {
		snprintf(e->detail, sizeof(e->detail), "forward_proxy.allow does not name \"%.*s\"", shown(req->authority),
		         req->authority.p);
		return RHC_ERR_denied;
	}
	e->upstream = upstreams_forward(e->env->upstreams, host, port ? port : 80);
	if (e->upstream)
		return RHC_ERR_none;
	snprintf(e->detail, sizeof(e->detail), "no room for another target of the forward proxy");
	return RHC_ERR_overloaded;
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

	if (head_is_loop(req, e->env->config->responses.proxy_status.name)) {
		snprintf(e->detail, sizeof(e->detail), "Via already names \"%s\"",
		         e->env->config->responses.proxy_status.name);
		return RHC_ERR_loop;
	}
	if (req->method == HTTP_METHOD_CONNECT) {
		snprintf(e->detail, sizeof(e->detail), "CONNECT is not allowed; call http:// and let the sidecar speak TLS");
		return RHC_ERR_denied;
	}
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
