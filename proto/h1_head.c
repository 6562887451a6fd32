/*
 * proto/h1_head.c - start lines, framing rules, and the resumable entry points of proto/h1.h.
 */
#include <assert.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/h1.h"
#include "proto/h1_fields.h"

/* --- start lines: 1 complete, 0 more, -error --- */

/* CRLF at p; what else stands there is an error of the line. */
static int line_end(const uint8_t **pp, const uint8_t *end)
{
	const uint8_t *p = *pp;

	if (p == end)
		return 0;
	if (*p == '\n')
		return -HTTP_E_BARE_LF;
	if (*p != '\r')
		return -HTTP_E_SYNTAX;
	if (end - p < 2)
		return 0;
	if (p[1] != '\n')
		return -HTTP_E_BARE_CR;
	*pp = p + 2;
	return 1;
}

/* "HTTP/1.0" or "HTTP/1.1"; another "HTTP/d.d" is 505, anything else no HTTP. */
static int version(const uint8_t **pp, const uint8_t *end, struct http_head *h)
{
	static const char http[5] = "HTTP/";
	const uint8_t    *p = *pp;
	size_t            n = (size_t)(end - p), have = n < 5 ? n : 5;

	if (memcmp(p, http, have) != 0)
		return -HTTP_E_SYNTAX;
	for (size_t i = 5; i < n && i < 8; i++)
		if (i == 6 ? p[i] != '.' : !chars_is(p[i], CHARS_DIGIT))
			return -HTTP_E_SYNTAX;
	if (n < 8)
		return 0;
	if (p[5] != '1' || p[7] > '1')
		return -HTTP_E_VERSION;
	h->version = p[7] == '1' ? HTTP_1_1 : HTTP_1_0;
	*pp = p + 8;
	return 1;
}

static int method(const uint8_t **pp, const uint8_t *end, struct http_head *h)
{
	const uint8_t *p = *pp;
	size_t         n = (size_t)(end - p), len;

	len = chars_span(p, n < H1_METHOD_MAX + 1 ? n : H1_METHOD_MAX + 1, CHARS_TOKEN);
	if (len > H1_METHOD_MAX)
		return -HTTP_E_METHOD;
	if (len == n)
		return 0;
	if (len == 0 || p[len] != ' ')
		return p[len] == '\n' ? -HTTP_E_BARE_LF : -HTTP_E_METHOD;
	h->method_text = (struct http_str){ (const char *)p, (uint32_t)len };
	h->method = (uint8_t)http_method_lookup((const char *)p, len);
	*pp = p + len + 1;
	return 1;
}

static int target(const uint8_t **pp, const uint8_t *end, uint32_t max, struct http_head *h)
{
	const uint8_t  *p = *pp;
	size_t          n = (size_t)(end - p), len;
	struct http_str t;
	int             r;

	len = chars_span_target(p, n < (size_t)max + 1 ? n : (size_t)max + 1);
	if (len > max)
		return -HTTP_E_TARGET_TOO_LONG;
	if (len == n)
		return 0;
	if (p[len] != ' ') {
		if (p[len] == '\n')
			return -HTTP_E_BARE_LF;
		return p[len] == '\r' ? -HTTP_E_SYNTAX : -HTTP_E_TARGET;
	}
	if (len == 0)
		return -HTTP_E_TARGET;
	t = (struct http_str){ (const char *)p, (uint32_t)len };
	r = h1_target(t, h);
	*pp = p + len + 1;
	return r < 0 ? r : 1;
}

/*
 * RFC 9112 §2.2: a server skips an empty line in front; one is enough for clients that sent it.
 */
static int empty_line(const uint8_t **pp, const uint8_t *end)
{
	if (*pp < end && **pp == '\n')
		return -HTTP_E_BARE_LF;
	return *pp < end && **pp == '\r' ? line_end(pp, end) : 1;
}

static int request_line(const uint8_t **p, const uint8_t *end, uint32_t target_max,
                        struct http_head *h)
{
	int r = empty_line(p, end);

	if (r == 1)
		r = method(p, end, h);
	if (r == 1)
		r = target(p, end, target_max, h);
	if (r == 1)
		r = version(p, end, h);
	return r == 1 ? line_end(p, end) : r;
}

/*
 * SP 3DIGIT [ SP reason ]; servers that leave the last SP out with an empty reason are understood.
 */
static int status(const uint8_t **pp, const uint8_t *end, struct http_head *h)
{
	const uint8_t *p = *pp;
	size_t         n = (size_t)(end - p), len;

	if (n > 0 && p[0] != ' ')
		return -HTTP_E_STATUS;
	for (size_t i = 1; i < n && i < 4; i++)
		if (!chars_is(p[i], CHARS_DIGIT) || p[1] == '0')
			return -HTTP_E_STATUS;
	if (n < 5)
		return 0;
	h->status = (uint16_t)((p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0'));
	p += 4;
	if (*p == ' ') {
		p++;
		len = chars_span_value(p, (size_t)(end - p));
		h->reason = (struct http_str){ (const char *)p, (uint32_t)len };
		p += len;
	}
	*pp = p;
	return 1;
}

static int status_line(const uint8_t **p, const uint8_t *end, struct http_head *h)
{
	int r = version(p, end, h);

	if (r == 1)
		r = status(p, end, h);
	if (r == 1)
		r = line_end(p, end);
	return r == -HTTP_E_SYNTAX ? -HTTP_E_STATUS : r;
}

/* --- what head and fields say together --- */

static bool same_authority(const struct http_head *h, struct http_str host)
{
	struct http_str name;
	uint16_t        port;

	if (http_str_ieq(h->authority, host))
		return true;
	/* CONNECT names a port always, Host need not */
	if (h->target != HTTP_TARGET_AUTHORITY ||
	    http_authority_split(host, &name, &port) < 0 || port != 0)
		return false;
	return h->authority.n > host.n && h->authority.p[host.n] == ':' &&
	       http_str_ieq((struct http_str){ h->authority.p, host.n }, host);
}

/* RFC 9112 §3.2: exactly one Host in 1.1, at most one in 1.0, and it agrees with the target. */
static int request_authority(struct http_head *h, const struct h1_facts *facts)
{
	if (facts->n_host == 0)
		return h->version == HTTP_1_1 ? -HTTP_E_HOST : 0;
	if (h->target == HTTP_TARGET_ORIGIN || h->target == HTTP_TARGET_ASTERISK)
		h->authority = facts->host;
	else if (!same_authority(h, facts->host))
		return -HTTP_E_HOST;
	return 0;
}

/* Transfer-Encoding is there: may it, and is it chunked alone?  0 or -error.  RFC 9112 §6.1 */
static int coding(const struct http_head *h, const struct h1_facts *facts)
{
	if (facts->has_length)
		return -HTTP_E_TE_CL;
	if (h->version == HTTP_1_0 || facts->coding_bad)
		return -HTTP_E_TRANSFER_ENCODING;
	if (!facts->coding_other)
		return 0;
	/* §6.3 rule 4: a request whose last coding is not chunked has no reliable length: 400 */
	return facts->chunked || h->status != 0 ? -HTTP_E_TRANSFER_CODING
	                                        : -HTTP_E_TRANSFER_ENCODING;
}

static void connection(struct http_head *h, const struct h1_facts *facts)
{
	bool is_1_1 = h->version == HTTP_1_1;

	h->keep_alive = !facts->close && (is_1_1 || facts->keep_alive);
	/* h2c by Upgrade is gone (RFC 9113 §3.1), and passing it on would open a hole beside us */
	h->upgrade = is_1_1 && facts->upgrade && facts->upgrade_field && !facts->upgrade_h2c;
	if (facts->lists_fields)
		h1_drop_listed(h);
}

/* RFC 9112 §6.3 for a request */
static int request_rules(struct http_head *h, const struct h1_facts *facts)
{
	int r = request_authority(h, facts);

	if (r == 0 && facts->has_coding)
		r = coding(h, facts);
	if (r < 0)
		return r;
	if (facts->has_coding) {
		h->body = HTTP_BODY_STREAM;
	} else if (facts->has_length) {
		h->body = HTTP_BODY_LENGTH;
		h->body_len = facts->length;
	}
	/* the bytes behind a CONNECT are the tunnel's: content has no meaning (RFC 9110 §9.3.6) */
	if (h->method == HTTP_METHOD_CONNECT && h->body != HTTP_BODY_NONE && h->body_len != 0)
		return -HTTP_E_CONTENT_LENGTH;
	if (h->method == HTTP_METHOD_CONNECT && h->body == HTTP_BODY_STREAM)
		return -HTTP_E_TRANSFER_ENCODING;
	h->expect_continue = h->version == HTTP_1_1 && facts->expect_continue;
	connection(h, facts);
	return 0;
}

/* A response that never has content whatever its fields say.  0 or -error */
static int bodiless(struct http_head *h, const struct h1_facts *facts)
{
	/* RFC 9112 §6.1, 9110 §8.6: never in 1xx and 204, where some would wait for a body */
	bool may_tell = h->status >= 200 && h->status != 204;

	if (!may_tell && facts->has_coding)
		return -HTTP_E_TRANSFER_ENCODING;
	if (!may_tell && facts->has_length && facts->length != 0)
		return -HTTP_E_CONTENT_LENGTH;
	h->body = h->status == 101 ? HTTP_BODY_TUNNEL : HTTP_BODY_NONE;
	h->body_len = facts->length;
	return 0;
}

/* RFC 9112 §6.3 for a response */
static int response_body(struct http_head *h, const struct h1_facts *facts, enum http_method asked)
{
	int r;

	if (asked == HTTP_METHOD_CONNECT && h->status / 100 == 2) {
		h->body = HTTP_BODY_TUNNEL; /* rule 2: length and coding are ignored */
		return 0;
	}
	if (facts->has_coding) {
		r = coding(h, facts);
		if (r < 0)
			return r;
	}
	if (asked == HTTP_METHOD_HEAD || h->status < 200 || h->status == 204 || h->status == 304)
		return bodiless(h, facts);
	if (facts->has_coding) {
		h->body = HTTP_BODY_STREAM;
	} else if (facts->has_length) {
		h->body = HTTP_BODY_LENGTH;
		h->body_len = facts->length;
	} else {
		h->body = HTTP_BODY_CLOSE; /* rule 8 */
	}
	return 0;
}

/* --- a whole head --- */

static void head_reset(struct http_head *h)
{
	struct http_field *fields = h->fields;
	uint16_t           max = h->fields_max;

	assert(fields != NULL && max > 0);
	*h = (struct http_head){ .fields = fields, .fields_max = max };
}

struct request {
	const struct h1_limits *limits;
	enum http_method        asked;
};

static int parse_request(const uint8_t **p, const uint8_t *end, const struct request *q,
                         struct http_head *h)
{
	struct h1_facts facts = { 0 };
	int             r = request_line(p, end, q->limits->target_max, h);

	if (r == 1)
		r = h1_fields(p, end, h, &facts);
	if (r == 1) {
		int rule = request_rules(h, &facts);

		return rule < 0 ? rule : 1;
	}
	return r;
}

static int parse_response(const uint8_t **p, const uint8_t *end, const struct request *q,
                          struct http_head *h)
{
	struct h1_facts facts = { 0 };
	int             r = status_line(p, end, h);

	if (r == 1)
		r = h1_fields(p, end, h, &facts);
	if (r != 1)
		return r;
	r = response_body(h, &facts, q->asked);
	if (r < 0)
		return r;
	connection(h, &facts);
	if (h->body == HTTP_BODY_CLOSE)
		h->keep_alive = false;
	return 1;
}

static int parse_trailers(const uint8_t **p, const uint8_t *end, const struct request *q,
                          struct http_head *h)
{
	(void)q;
	return h1_trailer_fields(p, end, h);
}

/* --- resuming --- */

/*
 * Has the end of the head come in p[seen..n)?  Also true for an LF that should not be there, so
 * that its error is told at once.
 */
static bool end_came(struct h1_scan *scan, const uint8_t *p, uint32_t n)
{
	uint32_t at = scan->seen;

	while (at < n) {
		const uint8_t *lf = memchr(p + at, '\n', n - at);

		if (lf == NULL)
			break;
		at = (uint32_t)(lf - p);
		if (at == 0 || lf[-1] != '\r')
			return true;
		if (n - at < 3) { /* look at this one again */
			scan->seen = at;
			return at + 1 < n && lf[1] != '\r' && lf[1] == '\n';
		}
		if (lf[1] == '\n' || (lf[1] == '\r' && lf[2] == '\n'))
			return true;
		at++;
	}
	scan->seen = n;
	return false;
}

typedef int parser(const uint8_t **p, const uint8_t *end, const struct request *q,
                   struct http_head *h);

static int32_t drive(parser *parse, struct h1_scan *scan, const uint8_t *p, uint32_t n,
                     const struct request *q, struct http_head *h)
{
	uint32_t       max = q->limits->head_max, len = n < max ? n : max;
	const uint8_t *at = p;
	int            r;

	assert(max <= H1_HEAD_MAX);
	if (scan->parsed != 0 && n < max && n / 2 < scan->parsed && !end_came(scan, p, n))
		return 0;
	head_reset(h);
	r = parse(&at, p + len, q, h);
	if (r > 0)
		return (int32_t)(at - p);
	if (r < 0)
		return r;
	scan->parsed = n;
	return n >= max ? -HTTP_E_HEAD_TOO_LARGE : 0;
}

int32_t h1_parse_request(struct h1_scan *scan, const uint8_t *p, uint32_t n,
                         const struct h1_limits *limits, struct http_head *h)
{
	struct request q = { limits, HTTP_METHOD_OTHER };

	return drive(parse_request, scan, p, n, &q, h);
}

int32_t h1_parse_response(struct h1_scan *scan, const uint8_t *p, uint32_t n,
                          const struct h1_limits *limits, enum http_method asked,
                          struct http_head *h)
{
	struct request q = { limits, asked };

	return drive(parse_response, scan, p, n, &q, h);
}

int32_t h1_parse_trailers(struct h1_scan *scan, const uint8_t *p, uint32_t n,
                          const struct h1_limits *limits, struct http_head *h)
{
	struct request q = { limits, HTTP_METHOD_OTHER };

	return drive(parse_trailers, scan, p, n, &q, h);
}
