/*
 * sidecar/http/h1_reply.c - what the connection answers by itself, because no exchange will.
 *
 * One short response in the form of all our own answers (RFC 9457 and RFC 9209), then FIN.
 */
#include <stdio.h>

#include "sidecar/http/h1_private.h"

enum { BODY_MAX = 256, PROXY_MAX = 256 };

uint32_t http_refusal(char out[HTTP_REFUSAL_MAX], const struct http_limits *limits, uint16_t status,
                      const char *problem, const char *title)
{
	bool full = status == 503;
	char body[BODY_MAX], proxy[PROXY_MAX] = "";
	int  len, n;

	if (limits->proxy_name)
		snprintf(proxy, sizeof(proxy), "Proxy-Status: %s; error=%s; details=\"%s; %s\"\r\n",
		         limits->proxy_name, full ? "connection_limit_reached" : "http_request_error", problem,
		         full ? "OM" : "DPE");
	len = snprintf(body, sizeof(body),
	               "{\"type\":\"urn:rhc:error:%s\",\"title\":\"%s\",\"status\":%u}\n",
	               problem, title, status);
	assert(len > 0 && (size_t)len < sizeof(body));
	n = snprintf(out, HTTP_REFUSAL_MAX,
	             "HTTP/1.1 %u %s\r\n"
	             "Content-Type: application/problem+json\r\n"
	             "Content-Length: %d\r\n"
	             "%s%s"
	             "Connection: close\r\n\r\n%s",
	             status, http_reason(status), len, proxy,
	             full ? "x-rhc-error: PoolTimeoutError\r\nRetry-After: 1\r\n" : "", body);
	assert(n > 0 && n < HTTP_REFUSAL_MAX);
	return (uint32_t)n;
}

void h1_refuse(struct http_conn *c, uint16_t status, const char *problem, const char *title,
               enum http_error detail)
{
	char out[HTTP_REFUSAL_MAX];

	if (c->ev->on_refused != NULL)
		c->ev->on_refused(c, status, detail);
	if (h1_is_ending(c)) /* the listener ended it meanwhile */
		return;
	stream_write_copy(&c->stream, out, http_refusal(out, c->limits, status, problem, title));
	h1_linger(c, title);
}
