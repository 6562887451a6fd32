#include "tests/origin/request.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

void request_reset(struct request *r)
{
	r->head_len = 0;
	r->method = r->path = r->query = "";
	r->minor = 1;
	r->headers_n = 0;
	r->chunked = r->keep_alive = r->expects_continue = false;
	r->error_status = 0;
	r->body = BODY_DONE;
	r->left = r->body_len = 0;
	r->line_len = 0;
	r->body_hash = FNV_BASIS;
	r->kept.len = r->trailers.len = 0;
}

void request_fini(struct request *r)
{
	text_fini(&r->kept);
	text_fini(&r->trailers);
}

const char *request_header(const struct request *r, const char *name, size_t *len)
{
	for (size_t i = 0; i < r->headers_n; i++) {
		const struct request_header *h = &r->headers[i];

		if (h->name_len == strlen(name) && strncasecmp(h->name, name, h->name_len) == 0) {
			*len = h->value_len;
			return h->value;
		}
	}
	return NULL;
}

/* Finds "name=" in the query; the value is given undecoded. */
bool request_param(const struct request *r, const char *name, char *buf, size_t size)
{
	size_t n = strlen(name);

	for (const char *p = r->query; p && *p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL) {
		if (strncmp(p, name, n) != 0 || p[n] != '=')
			continue;
		size_t len = strcspn(p + n + 1, "&");
		if (len >= size)
			len = size - 1;
		memcpy(buf, p + n + 1, len);
		buf[len] = '\0';
		return true;
	}
	return false;
}

uint64_t request_number(const struct request *r, const char *name, uint64_t otherwise)
{
	char buf[32];

	return request_param(r, name, buf, sizeof(buf)) ? strtoull(buf, NULL, 10) : otherwise;
}

static enum request_result bad(struct request *r, int status)
{
	r->error_status = status;
	return REQUEST_BAD;
}

/* Splits "METHOD SP target SP HTTP/1.x" in place. */
static bool parse_request_line(struct request *r, char *line)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version || strncmp(version + 1, "HTTP/1.", 7) != 0 || version[9] != '\0' ||
	    (version[8] != '0' && version[8] != '1'))
		return false;
	*target++ = '\0';
	*version++ = '\0';
	r->method = line;
	r->path = target;
	r->minor = version[7] - '0';
	char *query = strchr(target, '?');
	if (query) {
		*query = '\0';
		r->query = query + 1;
	}
	return line[0] != '\0' && target[0] != '\0';
}

static bool parse_header_line(struct request *r, char *line, size_t len)
{
	char *colon = memchr(line, ':', len);

	if (!colon || colon == line || r->headers_n == REQUEST_HEADERS_MAX)
		return false;
	struct request_header *h = &r->headers[r->headers_n++];
	h->name = line;
	h->name_len = (size_t)(colon - line);
	for (size_t i = 0; i < h->name_len; i++)
		if (isspace((unsigned char)line[i]))
			return false;
	char *value = colon + 1, *end = line + len;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	h->value = value;
	h->value_len = (size_t)(end - value);
	return true;
}

static bool has_token(const struct request_header *h, const char *token)
{
	size_t n = strlen(token);

	for (size_t i = 0; i + n <= h->value_len; i++)
		if (strncasecmp(h->value + i, token, n) == 0)
			return true;
	return false;
}

static bool header_is(const struct request_header *h, const char *name)
{
	return h->name_len == strlen(name) && strncasecmp(h->name, name, h->name_len) == 0;
}

/* RFC 9112 section 6.3: which body follows.  Doubtful framing is refused. */
static enum request_result choose_body(struct request *r)
{
	unsigned lengths = 0, codings = 0;

	r->keep_alive = r->minor >= 1;
	for (size_t i = 0; i < r->headers_n; i++) {
		const struct request_header *h = &r->headers[i];

		if (header_is(h, "content-length")) {
			char *end;

			lengths++;
			errno = 0;
			r->left = strtoull(h->value, &end, 10);
			if (end != h->value + h->value_len || h->value_len == 0 || errno != 0)
				return bad(r, 400);
		} else if (header_is(h, "transfer-encoding")) {
			codings++;
			r->chunked = h->value_len == 7 && has_token(h, "chunked");
		} else if (header_is(h, "connection")) {
			r->keep_alive = r->keep_alive ? !has_token(h, "close") : has_token(h, "keep-alive");
		} else if (header_is(h, "expect")) {
			r->expects_continue = has_token(h, "100-continue");
		}
	}
	if (lengths > 1 || codings > 1 || (lengths && codings) || (codings && !r->chunked))
		return bad(r, 400);
	if (r->chunked)
		r->body = CHUNK_SIZE;
	else if (r->left > 0)
		r->body = BODY_LENGTH;
	return REQUEST_OK;
}

static enum request_result parse_head(struct request *r)
{
	char *at = r->head, *end = r->head + r->head_len - 2;

	for (bool first = true; at < end; first = false) {
		char *eol = memchr(at, '\n', (size_t)(r->head + r->head_len - at));

		if (!eol || eol == at || eol[-1] != '\r')
			return bad(r, 400);
		eol[-1] = '\0';
		size_t len = (size_t)(eol - 1 - at);
		if (strlen(at) != len)
			return bad(r, 400);
		if (first ? !parse_request_line(r, at) : !parse_header_line(r, at, len))
			return bad(r, 400);
		at = eol + 1;
	}
	return choose_body(r);
}

enum request_result request_feed_head(struct request *r, const char *at, size_t len, size_t *used)
{
	for (size_t i = 0; i < len; i++) {
		if (r->head_len == 0 && (at[i] == '\r' || at[i] == '\n'))
			continue; /* RFC 9112 section 2.2: empty lines before the request line */
		if (r->head_len == REQUEST_HEAD_MAX) {
			*used = i;
			return bad(r, 431);
		}
		r->head[r->head_len++] = at[i];
		if (at[i] == '\n' && r->head_len >= 4 && memcmp(r->head + r->head_len - 4, "\r\n\r\n", 4) == 0) {
			*used = i + 1;
			return parse_head(r);
		}
	}
	*used = len;
	return REQUEST_MORE;
}

static void body_bytes(struct request *r, const char *at, size_t len)
{
	uint64_t hash = r->body_hash;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)at[i]) * FNV_PRIME;
	r->body_hash = hash;
	r->body_len += len;
	if (r->kept.len < REQUEST_KEEP_MAX)
		text_bytes(&r->kept, at, len < REQUEST_KEEP_MAX - r->kept.len ? len : REQUEST_KEEP_MAX - r->kept.len);
}

/* Collects one CR LF line of the chunked framing; false while it is not complete. */
static enum request_result body_line(struct request *r, char c)
{
	if (r->line_len == sizeof(r->line) - 1)
		return bad(r, 400);
	r->line[r->line_len++] = c;
	if (c != '\n')
		return REQUEST_MORE;
	if (r->line_len < 2 || r->line[r->line_len - 2] != '\r')
		return bad(r, 400);
	r->line_len -= 2;
	r->line[r->line_len] = '\0';
	return REQUEST_OK;
}

static enum request_result line_done(struct request *r)
{
	char *end;

	switch (r->body) {
	case CHUNK_SIZE:
		r->left = strtoull(r->line, &end, 16);
		if (end == r->line || (*end != '\0' && *end != ';'))
			return bad(r, 400);
		r->body = r->left ? CHUNK_DATA : CHUNK_TRAILER;
		break;
	case CHUNK_END:
		if (r->line_len != 0)
			return bad(r, 400);
		r->body = CHUNK_SIZE;
		break;
	default:
		if (r->line_len == 0)
			r->body = BODY_DONE;
		else
			text_printf(&r->trailers, "%s\n", r->line);
	}
	r->line_len = 0;
	return REQUEST_MORE;
}

enum request_result request_feed_body(struct request *r, const char *at, size_t len, size_t *used)
{
	size_t i = 0;
	enum request_result res = REQUEST_MORE;

	while (r->body != BODY_DONE && i < len && res != REQUEST_BAD) {
		if (r->body == BODY_LENGTH || r->body == CHUNK_DATA) {
			size_t n = len - i < r->left ? len - i : (size_t)r->left;

			body_bytes(r, at + i, n);
			i += n;
			r->left -= n;
			if (r->left == 0)
				r->body = r->body == BODY_LENGTH ? BODY_DONE : CHUNK_END;
			continue;
		}
		res = body_line(r, at[i++]);
		if (res == REQUEST_OK)
			res = line_done(r);
	}
	*used = i;
	if (res == REQUEST_BAD)
		return REQUEST_BAD;
	return r->body == BODY_DONE ? REQUEST_OK : REQUEST_MORE;
}
