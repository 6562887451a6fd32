/*
 * sidecar/http/h1_reply.c - what the connection answers by itself, because no exchange will.
 *
 * One short response in the form of all our own answers (RFC 9457 and RFC 9209), then FIN.  The
 * titles are literals of ours, so nothing of the request is echoed.
 */
#include <stdio.h>

#include "sidecar/http/h1_private.h"

enum { REPLY_BODY_MAX = 256, REPLY_MAX = 768 };

static void write_reply(struct http_conn *c, uint16_t status, const char *problem,
                        const char *title)
{
	char body[REPLY_BODY_MAX], out[REPLY_MAX];
	int  len, n;

	len = snprintf(body, sizeof(body),
	               "{\"type\":\"urn:rhc:error:%s\",\"title\":\"%s\",\"status\":%u}\n",
	               problem, title, status);
	assert(len > 0 && (size_t)len < sizeof(body));
	n = snprintf(out, sizeof(out),
	             "HTTP/1.1 %u %s\r\n"
	             "Content-Type: application/problem+json\r\n"
	             "Content-Length: %d\r\n"
	             "Proxy-Status: rhc; error=%s; details=\"%s; %s\"\r\n"
	             "%s"
	             "Connection: close\r\n\r\n%s",
	             status, http_reason(status), len,
	             status == 503 ? "connection_limit_reached" : "http_request_error", problem,
	             status == 503 ? "OM" : "DPE", status == 503 ? "Retry-After: 1\r\n" : "", body);
	assert(n > 0 && (size_t)n < sizeof(out));
	stream_write_copy(&c->stream, out, (uint32_t)n);
}

void h1_refuse(struct http_conn *c, uint16_t status, const char *problem, const char *title,
               enum http_error detail)
{
	if (c->ev->on_refused != NULL)
		c->ev->on_refused(c, status, detail);
	if (h1_is_ending(c)) /* the listener ended it meanwhile */
		return;
	write_reply(c, status, problem, title);
	h1_linger(c, title);
}
