#include "sidecar/exchange/wishes.h"

#include <string.h>

#include "sidecar/exchange/grpc.h"

bool wishes_id_is_good(struct http_str id)
{
	if (id.n == 0 || id.n > EXCH_REQUEST_ID_MAX)
		return false;
	for (uint32_t i = 0; i < id.n; i++) {
		char c = id.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c && strchr("._~+/=:@-", c))))
			return false;
	}
	return true;
}

static const struct http_field *find_named(const struct http_head *h, const char *name)
{
	enum http_field_id id = http_field_lookup(name, strlen(name));
	struct http_str wanted = { name, (uint32_t)strlen(name) };

	if (id != HTTP_FIELD_OTHER)
		return http_head_find(h, id);
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		if (http_str_ieq((struct http_str){ f->name, f->name_len }, wanted))
			return f;
	}
	return NULL;
}

void wishes_request_id(struct exchange *e)
{
	const char *name = e->upstream ? e->upstream->policy->headers.request_id :
	                                 e->env->config->defaults.headers.request_id;
	const struct http_field *f = name ? find_named(e->req, name) : NULL;
	struct http_str id = f ? (struct http_str){ f->value, f->value_len } : (struct http_str){ "", 0 };

	if (wishes_id_is_good(id)) {
		e->request_id = id;
		return;
	}
	uuid_v4(e->env->rng, e->request_id_own);
	e->request_id = (struct http_str){ e->request_id_own, UUID_TEXT_SIZE - 1 };
}

uint64_t wishes_time(struct http_str s)
{
	uint64_t whole = 0, part = 0, scale = 1, unit = NS_PER_S;
	uint32_t i = 0;

	for (; i < s.n && i < 9 && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		whole = whole * 10 + (uint64_t)(s.p[i] - '0');
	if (i == 0)
		return 0;
	if (i < s.n && s.p[i] == '.') {
		for (i++; i < s.n && scale < 1000000 && s.p[i] >= '0' && s.p[i] <= '9'; i++, scale *= 10)
			part = part * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (s.n - i == 2 && s.p[i] == 'm' && s.p[i + 1] == 's')
		unit = NS_PER_MS;
	else if (!(s.n == i || (s.n - i == 1 && s.p[i] == 's')))
		return 0;
	return whole * unit + part * unit / scale;
}

static void tighten(uint64_t *total, uint64_t asked)
{
	if (asked && (!*total || asked < *total))
		*total = asked;
}

static struct http_str value_of(const struct http_field *f)
{
	return (struct http_str){ f->value, f->value_len };
}

/* One walk over the fields for all of them. */
void wishes_take(struct exchange *e)
{
	const struct config_policy *p = e->upstream->policy;
	const struct http_head *req = e->req;
	uint64_t total = p->timeout.total_ns, grpc = 0;

	for (unsigned i = 0; i < req->n_fields; i++) {
		const struct http_field *f = &req->fields[i];

		switch (f->id) {
		case HTTP_FIELD_X_RHC_TIMEOUT:
			if (p->headers.caller_timeout)
				tighten(&total, wishes_time(value_of(f)));
			break;
		case HTTP_FIELD_X_RHC_MAX_ATTEMPTS:
			if (f->value_len == 1 && f->value[0] >= '1' && f->value[0] <= '9')
				e->attempts_max = (uint32_t)(f->value[0] - '0');
			break;
		case HTTP_FIELD_X_RHC_DEBUG:
			e->wants_timing = f->value_len == 1 && f->value[0] == '1';
			break;
		case HTTP_FIELD_CONTENT_TYPE:
			e->grpc = grpc_is_type(value_of(f));
			break;
		case HTTP_FIELD_GRPC_TIMEOUT:
			grpc = grpc_timeout(value_of(f));
			break;
		default:
			break;
		}
	}
	if (e->grpc) /* part of the protocol: the caller gives up then, whatever we do */
		tighten(&total, grpc);
	e->deadline_ns = total ? e->start_ns + total : 0;
	/* RFC 9110 §10.1.1: of an HTTP/1.0 client it is ignored, and so it is without a body */
	e->expects = req->expect_continue && req->version != HTTP_1_0 && req->body != HTTP_BODY_NONE && !e->body.complete;
	/* RFC 9110 §7.8 lets us ignore Upgrade; with a body it is not clear where the tunnel begins */
	e->upgrade = req->upgrade && req->body == HTTP_BODY_NONE;
}
