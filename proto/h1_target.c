/*
 * proto/h1_target.c - request targets and Host (RFC 9112 §3.2).
 *
 * A target is kept as it came: nothing is decoded or normalised here, so what the upstream reads is
 * what the caller wrote.
 */
#include "proto/h1_fields.h"

int h1_host(struct http_str host)
{
	struct http_str name;
	uint16_t        port;

	return http_authority_split(host, &name, &port) < 0 ? -HTTP_E_HOST : 0;
}

/* The length of "http://" or "https://" in front, else 0. */
static uint32_t scheme_prefix(struct http_str t)
{
	if (t.n > 7 && http_str_ieq((struct http_str){ t.p, 7 }, HTTP_STR("http://")))
		return 7;
	if (t.n > 8 && http_str_ieq((struct http_str){ t.p, 8 }, HTTP_STR("https://")))
		return 8;
	return 0;
}

static int absolute_form(struct http_str t, struct http_head *h)
{
	uint32_t at = scheme_prefix(t), end;

	if (at == 0)
		return -HTTP_E_TARGET;
	for (end = at; end < t.n && t.p[end] != '/' && t.p[end] != '?'; end++)
		;
	h->target = HTTP_TARGET_ABSOLUTE;
	h->scheme = (struct http_str){ t.p, at - 3 };
	h->authority = (struct http_str){ t.p + at, end - at };
	/* user information is refused with every other byte that no host has (RFC 9110 §4.2.4) */
	if (h1_host(h->authority) < 0)
		return -HTTP_E_TARGET;
	h->path = (struct http_str){ t.p + end, t.n - end };
	if (h->path.n == 0) /* RFC 9112 §3.2.4 */
		h->path = h->method == HTTP_METHOD_OPTIONS ? HTTP_STR("*") : HTTP_STR("/");
	return 0;
}

static int authority_form(struct http_str t, struct http_head *h)
{
	struct http_str name;
	uint16_t        port;

	h->target = HTTP_TARGET_AUTHORITY;
	h->authority = t;
	h->path = (struct http_str){ "", 0 };
	/* the port is not optional (RFC 9110 §9.3.6) */
	if (http_authority_split(t, &name, &port) < 0 || port == 0)
		return -HTTP_E_TARGET;
	return 0;
}

int h1_target(struct http_str target, struct http_head *h)
{
	if (h->method == HTTP_METHOD_CONNECT)
		return authority_form(target, h);
	if (target.p[0] == '/') {
		h->target = HTTP_TARGET_ORIGIN;
		h->path = target;
		return 0;
	}
	if (target.n == 1 && target.p[0] == '*') {
		h->target = HTTP_TARGET_ASTERISK;
		h->path = target;
		return h->method == HTTP_METHOD_OPTIONS ? 0 : -HTTP_E_TARGET;
	}
	return absolute_form(target, h);
}
