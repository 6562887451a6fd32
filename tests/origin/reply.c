#include "tests/origin/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATTERN_PERIOD 251

void reply_reset(struct reply *p)
{
	struct text head = p->head, tail = p->tail;

	*p = (struct reply){ .head = head, .tail = tail };
	p->head.len = p->tail.len = 0;
}

void reply_fini(struct reply *p)
{
	text_fini(&p->head);
	text_fini(&p->tail);
}

static size_t next_text(const struct text *t, size_t *sent, char *buf, size_t size)
{
	size_t n = t->len - *sent < size ? t->len - *sent : size;

	if (n > 0)
		memcpy(buf, t->at + *sent, n);
	*sent += n;
	return n;
}

static void pattern(char *buf, uint64_t at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)((at + i) % PATTERN_PERIOD);
}

static size_t next_pattern(struct reply *p, char *buf, size_t size)
{
	uint64_t left = p->pattern_end - p->pattern_at;
	size_t start = 0, n = size;

	if (p->chunk)
		n = p->chunk < size - 16 ? p->chunk : size - 16;
	if (p->drip_ms)
		n = 1;
	if (n > left)
		n = (size_t)left;
	if (p->chunk)
		start = (size_t)snprintf(buf, size, "%zx\r\n", n);
	pattern(buf + start, p->pattern_at, n);
	p->pattern_at += n;
	if (p->chunk) {
		memcpy(buf + start + n, "\r\n", 2);
		return start + n + 2;
	}
	return n;
}

size_t reply_next(struct reply *p, char *buf, size_t size)
{
	if (p->head_sent < p->head.len)
		return next_text(&p->head, &p->head_sent, buf, size);
	if (p->pattern_at < p->pattern_end)
		return next_pattern(p, buf, size);
	return next_text(&p->tail, &p->tail_sent, buf, size);
}

static const char *reason(unsigned status)
{
	static const struct {
		unsigned status;
		const char *reason;
	} reasons[] = {
		{ 200, "OK" }, { 204, "No Content" }, { 304, "Not Modified" }, { 400, "Bad Request" },
		{ 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 413, "Content Too Large" }, { 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" }, { 500, "Internal Server Error" },
		{ 502, "Bad Gateway" }, { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Scripted";
}

void reply_head(struct reply *p, unsigned status, bool close)
{
	text_printf(&p->head, "HTTP/1.1 %u %s\r\nServer: rhc-origin\r\n", status, reason(status));
	if (close) {
		text_printf(&p->head, "Connection: close\r\n");
		p->ending = END_CLOSE;
	}
}

void reply_text(struct reply *p, const char *type, const char *body, size_t len)
{
	text_printf(&p->head, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, len);
	if (body)
		text_bytes(&p->head, body, len);
}

void reply_pattern(struct reply *p, uint64_t len)
{
	text_printf(&p->head, "Content-Type: application/octet-stream\r\nContent-Length: %" PRIu64
	            "\r\n\r\n", len);
	p->pattern_end = len;
}
