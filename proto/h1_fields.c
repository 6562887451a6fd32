/* proto/h1_fields.c - see proto/h1_fields.h. */
#include "proto/h1_fields.h"

#include <assert.h>

#include "proto/chars.h"
#include "proto/h1.h"

/* A byte that ended a value before its CRLF: which mistake is it? */
static int value_error(const uint8_t *p)
{
	if (*p == '\n')
		return -HTTP_E_BARE_LF;
	return *p == '\r' ? -HTTP_E_BARE_CR : -HTTP_E_FIELD_VALUE;
}

/* A line that does not begin with a name and a colon. */
static int name_error(const uint8_t *line, const uint8_t *p)
{
	if (*p == '\n')
		return -HTTP_E_BARE_LF;
	/* RFC 9112 §5.2, and §2.2 for the first line */
	if (p == line && (*p == ' ' || *p == '\t'))
		return -HTTP_E_OBS_FOLD;
	return -HTTP_E_FIELD_NAME; /* "name :" as well, RFC 9112 §5.1 */
}

static bool is_ows(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* One line: name ":" OWS value OWS CRLF.  1, 0 or -error; *pp moves behind it on 1. */
static int field_line(const uint8_t **pp, const uint8_t *end, struct http_field *f)
{
	const uint8_t *line = *pp, *p = line, *value, *tail;

	while (p < end && chars_is(*p, CHARS_TOKEN))
		p++;
	if (p == end)
		return 0;
	if (*p != ':' || p == line)
		return name_error(line, p);
	f->name = (const char *)line;
	f->name_len = (uint16_t)(p - line);
	for (p++; p < end && is_ows(*p); p++)
		;
	value = p;
	p += chars_span_value(p, (size_t)(end - p));
	if (p == end || (*p == '\r' && end - p < 2))
		return 0;
	if (*p != '\r' || p[1] != '\n')
		return value_error(p);
	for (tail = p; tail > value && is_ows(tail[-1]); tail--)
		;
	f->value = (const char *)value;
	f->value_len = (uint32_t)(tail - value);
	f->flags = 0;
	f->id = (uint8_t)http_field_lookup(f->name, f->name_len);
	*pp = p + 2;
	return 1;
}

static int note_length(struct http_str v, struct h1_facts *facts)
{
	uint64_t len = 0;

	/*
	 * one field with one number: equal repetitions are refused as well (RFC 9112 §6.3 rule 5
	 * allows it)
	 */
	if (facts->has_length || v.n == 0 || v.n > H1_LENGTH_DIGITS_MAX)
		return -HTTP_E_CONTENT_LENGTH;
	for (uint32_t i = 0; i < v.n; i++) {
		if (!chars_is((uint8_t)v.p[i], CHARS_DIGIT))
			return -HTTP_E_CONTENT_LENGTH;
		len = len * 10 + (uint64_t)(v.p[i] - '0'); /* < 10^19 < 2^64 */
	}
	if (len > INT64_MAX)
		return -HTTP_E_CONTENT_LENGTH;
	facts->has_length = true;
	facts->length = len;
	return 0;
}

static void note_coding(struct http_str v, struct h1_facts *facts)
{
	struct http_str item;
	bool            any = false;

	facts->has_coding = true;
	/* an empty last element, which http_list_next() does not tell: "chunked," is read in two ways */
	if (v.n > 0 && v.p[v.n - 1] == ',')
		facts->coding_bad = true;
	while (http_list_next(&v, &item)) {
		any = true;
		/*
		 * chunked is applied once and last (RFC 9112 §6.1); it takes no parameters (§7.1)
		 */
		if (facts->chunked || item.n == 0)
			facts->coding_bad = true;
		if (http_str_ieq(item, HTTP_STR("chunked")))
			facts->chunked = true;
		else
			facts->coding_other = true;
	}
	if (!any)
		facts->coding_bad = true;
}

static int note_connection(struct http_str v, struct h1_facts *facts)
{
	struct http_str item;

	while (http_list_next(&v, &item)) {
		if (++facts->n_options > H1_OPTIONS_MAX)
			return -HTTP_E_FIELD_VALUE;
		if (http_str_ieq(item, HTTP_STR("keep-alive")))
			facts->keep_alive = true;
		else if (http_str_ieq(item, HTTP_STR("close")))
			facts->close = true;
		else if (http_str_ieq(item, HTTP_STR("upgrade")))
			facts->upgrade = true;
		else if (item.n > 0)
			facts->lists_fields = true;
	}
	return 0;
}

/* What a known field means for us.  0 or -error. */
static int note(struct http_head *h, struct http_field *f, struct h1_facts *facts)
{
	struct http_str v = { f->value, f->value_len };

	if (http_field_is_hop((enum http_field_id)f->id))
		f->flags |= HTTP_FIELD_DROP;
	switch (f->id) {
	case HTTP_FIELD_HOST:
		facts->host = v;
		return ++facts->n_host > 1 ? -HTTP_E_HOST : h1_host(v);
	case HTTP_FIELD_CONTENT_LENGTH:
		return note_length(v, facts);
	case HTTP_FIELD_TRANSFER_ENCODING:
		note_coding(v, facts);
		return 0;
	case HTTP_FIELD_CONNECTION:
		return note_connection(v, facts);
	case HTTP_FIELD_TE:
		h->te_trailers |= http_list_has(v, "trailers");
		return 0;
	case HTTP_FIELD_UPGRADE:
		facts->upgrade_field = true;
		facts->upgrade_h2c |= http_list_has(v, "h2c");
		return 0;
	case HTTP_FIELD_EXPECT:
		facts->expect_continue = http_str_ieq(v, HTTP_STR("100-continue"));
		return 0;
	case HTTP_FIELD_AUTHORIZATION:
	case HTTP_FIELD_PROXY_AUTHORIZATION:
	case HTTP_FIELD_COOKIE:
	case HTTP_FIELD_SET_COOKIE:
		f->flags |= HTTP_FIELD_SECRET;
		return 0;
	default:
		return 0;
	}
}

/*
 * The empty line that ends a section?  1 yes, 0 more bytes needed, -error; 2: it is a field line.
 */
static int section_end(const uint8_t **pp, const uint8_t *end)
{
	const uint8_t *p = *pp;

	if (p == end)
		return 0;
	if (*p != '\r')
		return 2;
	if (end - p < 2)
		return 0;
	if (p[1] != '\n')
		return -HTTP_E_BARE_CR;
	*pp = p + 2;
	return 1;
}

/* The next field line into the array; as field_line(). */
static int next_field(const uint8_t **p, const uint8_t *end, struct http_head *h)
{
	int r;

	if (h->n_fields == h->fields_max)
		return -HTTP_E_FIELDS_TOO_MANY;
	r = field_line(p, end, &h->fields[h->n_fields]);
	if (r == 1)
		h->n_fields++;
	return r;
}

int h1_fields(const uint8_t **p, const uint8_t *end, struct http_head *h, struct h1_facts *facts)
{
	int r;

	for (;;) {
		struct http_field *f = &h->fields[h->n_fields];

		r = section_end(p, end);
		if (r != 2)
			return r;
		r = next_field(p, end, h);
		if (r != 1)
			return r;
		if (f->id == HTTP_FIELD_OTHER)
			continue;
		r = note(h, f, facts);
		if (r < 0)
			return r;
	}
}

bool h1_trailer_forbidden(enum http_field_id id)
{
	switch (id) {
	/* framing, routing, request modifiers, authentication, content: RFC 9110 §6.5.1 */
	case HTTP_FIELD_HOST:
	case HTTP_FIELD_CONTENT_LENGTH:
	case HTTP_FIELD_CONTENT_TYPE:
	case HTTP_FIELD_CONTENT_ENCODING:
	case HTTP_FIELD_CONTENT_RANGE:
	case HTTP_FIELD_CACHE_CONTROL:
	case HTTP_FIELD_EXPECT:
	case HTTP_FIELD_TRAILER:
	case HTTP_FIELD_AUTHORIZATION:
	case HTTP_FIELD_COOKIE:
	case HTTP_FIELD_SET_COOKIE:
		return true;
	default:
		return http_field_is_hop(id);
	}
}

int h1_trailer_fields(const uint8_t **p, const uint8_t *end, struct http_head *h)
{
	int r;

	for (;;) {
		r = section_end(p, end);
		if (r != 2)
			return r;
		r = next_field(p, end, h);
		if (r != 1)
			return r;
		if (h1_trailer_forbidden((enum http_field_id)h->fields[h->n_fields - 1].id))
			return -HTTP_E_TRAILER;
	}
}

static void drop_named(struct http_head *h, struct http_str name)
{
	for (unsigned i = 0; i < h->n_fields; i++) {
		struct http_field *f = &h->fields[i];

		if (f->id == HTTP_FIELD_OTHER &&
		    http_str_ieq((struct http_str){ f->name, f->name_len }, name))
			f->flags |= HTTP_FIELD_DROP;
	}
}

void h1_drop_listed(struct http_head *h)
{
	for (unsigned i = 0; i < h->n_fields; i++) {
		struct http_str rest = { h->fields[i].value, h->fields[i].value_len }, item;

		if (h->fields[i].id != HTTP_FIELD_CONNECTION)
			continue;
		while (http_list_next(&rest, &item))
			if (item.n > 0)
				drop_named(h, item);
	}
}
