/*
 * proto/http.c - the tables of proto/http.h and their lookups.
 *
 * Lookups run once per field of each message, so they are a hash and one compare.  The hash table
 * is made from the field table before main() runs; a name that is not in it costs the hash alone,
 * nearly always.
 */
#include "proto/http.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/chars.h"

struct name {
	const char *p;
	uint8_t     n;
	bool        hop;
};

static const struct name field_names[HTTP_FIELD_COUNT] = {
	[HTTP_FIELD_OTHER] = { "", 0, false },
#define X(ID, text, is_hop) [HTTP_FIELD_##ID] = { text, sizeof(text) - 1, is_hop },
	HTTP_FIELD_TABLE(X)
#undef X
};

static const struct name method_names[HTTP_METHOD_COUNT] = {
	[HTTP_METHOD_OTHER] = { "", 0, false },
#define X(text) [HTTP_METHOD_##text] = { #text, sizeof(#text) - 1, false },
	HTTP_METHODS(X)
#undef X
};

/* --- fields --- */

enum { HASH_SLOTS = 256, HASH_PROBES = 4 };
static uint8_t field_slots[HASH_SLOTS]; /* enum http_field_id, 0 = free */

/*
 * n >= 1.  | 0x20 folds letters; the factors were searched for, so that no two fields of the table
 * meet.
 */
static unsigned field_hash(const char *p, size_t n)
{
	unsigned a = (uint8_t)p[0] | 0x20u, b = (uint8_t)p[n / 2] | 0x20u;
	unsigned c = (uint8_t)p[n - 1] | 0x20u;

	return (a * 131 + b * 251 + c * 54 + (unsigned)n * 248) & (HASH_SLOTS - 1);
}

__attribute__((constructor)) static void field_slots_fill(void)
{
	for (unsigned id = 1; id < HTTP_FIELD_COUNT; id++) {
		unsigned at = field_hash(field_names[id].p, field_names[id].n), tries = 0;

		while (field_slots[(at + tries) & (HASH_SLOTS - 1)] != 0)
			tries++;
		assert(tries < HASH_PROBES);
		field_slots[(at + tries) & (HASH_SLOTS - 1)] = (uint8_t)id;
	}
}

static bool ieq(const char *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (chars_lower((uint8_t)a[i]) != chars_lower((uint8_t)b[i]))
			return false;
	return true;
}

static uint64_t load(const char *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

/*
 * known is a name of the table: lower-case letters, digits and "-".  A byte with 0x20 set is one of these when it was that
 * letter in either case, that digit or "-", or a control 0x20 below the latter; those have none of the bits 0x60.
 */
static bool same_8(const char *known, const char *p)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t       w = load(p);

	return (w | ones * 0x20) == load(known) && ((w | w << 1) & ones * 0x40) == ones * 0x40;
}

/* Eight bytes at a time, the last eight perhaps once more. */
static bool is_known(const char *known, const char *p, size_t n)
{
	size_t i = 0;

	for (; n - i >= 8; i += 8)
		if (!same_8(known + i, p + i))
			return false;
	if (n > 8)
		return i == n || same_8(known + n - 8, p + n - 8);
	for (; i < n; i++)
		if (known[i] != (char)chars_lower((uint8_t)p[i]))
			return false;
	return true;
}

enum http_field_id http_field_lookup(const char *name, size_t n)
{
	unsigned at;

	if (n == 0)
		return HTTP_FIELD_OTHER;
	at = field_hash(name, n);
	for (unsigned tries = 0; tries < HASH_PROBES; tries++) {
		unsigned id = field_slots[(at + tries) & (HASH_SLOTS - 1)];

		if (id == 0)
			return HTTP_FIELD_OTHER;
		if (field_names[id].n == n && is_known(field_names[id].p, name, n))
			return (enum http_field_id)id;
	}
	return HTTP_FIELD_OTHER;
}

struct http_str http_field_name(enum http_field_id id)
{
	assert(id < HTTP_FIELD_COUNT);
	return (struct http_str){ field_names[id].p, field_names[id].n };
}

bool http_field_is_hop(enum http_field_id id)
{
	assert(id < HTTP_FIELD_COUNT);
	return field_names[id].hop;
}

/* --- methods, statuses, errors --- */

enum http_method http_method_lookup(const char *name, size_t n)
{
	for (unsigned m = 1; m < HTTP_METHOD_COUNT; m++)
		if (method_names[m].n == n && memcmp(method_names[m].p, name, n) == 0)
			return (enum http_method)m;
	return HTTP_METHOD_OTHER;
}

const char *http_method_name(enum http_method m)
{
	assert(m < HTTP_METHOD_COUNT);
	return method_names[m].p;
}

bool http_method_is_idempotent(enum http_method m)
{
	switch (m) {
	case HTTP_METHOD_GET:
	case HTTP_METHOD_HEAD:
	case HTTP_METHOD_OPTIONS:
	case HTTP_METHOD_TRACE:
	case HTTP_METHOD_PUT:
	case HTTP_METHOD_DELETE:
		return true;
	default:
		return false;
	}
}

/* The IANA registry of 2024, without the withdrawn ones. */
const char *http_reason(uint16_t status)
{
	switch (status) {
	/* clang-format off */
	case 100: return "Continue";
	case 101: return "Switching Protocols";
	case 102: return "Processing";
	case 103: return "Early Hints";
	case 200: return "OK";
	case 201: return "Created";
	case 202: return "Accepted";
	case 203: return "Non-Authoritative Information";
	case 204: return "No Content";
	case 205: return "Reset Content";
	case 206: return "Partial Content";
	case 207: return "Multi-Status";
	case 208: return "Already Reported";
	case 226: return "IM Used";
	case 300: return "Multiple Choices";
	case 301: return "Moved Permanently";
	case 302: return "Found";
	case 303: return "See Other";
	case 304: return "Not Modified";
	case 305: return "Use Proxy";
	case 307: return "Temporary Redirect";
	case 308: return "Permanent Redirect";
	case 400: return "Bad Request";
	case 401: return "Unauthorized";
	case 402: return "Payment Required";
	case 403: return "Forbidden";
	case 404: return "Not Found";
	case 405: return "Method Not Allowed";
	case 406: return "Not Acceptable";
	case 407: return "Proxy Authentication Required";
	case 408: return "Request Timeout";
	case 409: return "Conflict";
	case 410: return "Gone";
	case 411: return "Length Required";
	case 412: return "Precondition Failed";
	case 413: return "Content Too Large";
	case 414: return "URI Too Long";
	case 415: return "Unsupported Media Type";
	case 416: return "Range Not Satisfiable";
	case 417: return "Expectation Failed";
	case 421: return "Misdirected Request";
	case 422: return "Unprocessable Content";
	case 423: return "Locked";
	case 424: return "Failed Dependency";
	case 425: return "Too Early";
	case 426: return "Upgrade Required";
	case 428: return "Precondition Required";
	case 429: return "Too Many Requests";
	case 431: return "Request Header Fields Too Large";
	case 451: return "Unavailable For Legal Reasons";
	case 500: return "Internal Server Error";
	case 501: return "Not Implemented";
	case 502: return "Bad Gateway";
	case 503: return "Service Unavailable";
	case 504: return "Gateway Timeout";
	case 505: return "HTTP Version Not Supported";
	case 506: return "Variant Also Negotiates";
	case 507: return "Insufficient Storage";
	case 508: return "Loop Detected";
	case 511: return "Network Authentication Required";
	default: return "";
		/* clang-format on */
	}
}

static const struct {
	const char *text;
	uint16_t    status;
} errors[HTTP_ERROR_COUNT] = {
	[HTTP_OK] = { "no error", 200 },
#define X(ID, st, tx) [HTTP_E_##ID] = { tx, st },
	HTTP_ERRORS(X)
#undef X
};

const char *http_error_text(enum http_error e)
{
	assert(e < HTTP_ERROR_COUNT);
	return errors[e].text;
}

uint16_t http_error_status(enum http_error e)
{
	assert(e < HTTP_ERROR_COUNT);
	return errors[e].status;
}

/* --- heads --- */

const struct http_field *http_head_find(const struct http_head *h, enum http_field_id id)
{
	for (unsigned i = 0; i < h->n_fields; i++)
		if (h->fields[i].id == id)
			return &h->fields[i];
	return NULL;
}

int http_head_add(struct http_head *h, enum http_field_id id, struct http_str name,
                  struct http_str value)
{
	struct http_field *f;

	if (h->n_fields == h->fields_max)
		return -ENOSPC;
	assert(name.n > 0 && name.n <= UINT16_MAX);
	f = &h->fields[h->n_fields++];
	f->name = name.p;
	f->name_len = (uint16_t)name.n;
	f->value = value.p;
	f->value_len = value.n;
	f->id = (uint8_t)id;
	f->flags = 0;
	return 0;
}

/* --- strings --- */

bool http_str_is(struct http_str s, const char *literal)
{
	size_t n = strlen(literal);

	return s.n == n && (n == 0 || memcmp(s.p, literal, n) == 0);
}

bool http_str_ieq(struct http_str a, struct http_str b)
{
	return a.n == b.n && ieq(a.p, b.p, a.n);
}

static bool is_ows(char c)
{
	return c == ' ' || c == '\t';
}

bool http_list_next(struct http_str *rest, struct http_str *ret)
{
	const char *p = rest->p, *end = rest->p + rest->n, *comma;
	bool        quoted = false;

	if (rest->n == 0)
		return false;
	/* a comma within a quoted string divides nothing (RFC 9110 §5.6.4) */
	for (comma = p; comma < end && (quoted || *comma != ','); comma++) {
		if (*comma == '"')
			quoted = !quoted;
		else if (quoted && *comma == '\\' && comma + 1 < end)
			comma++;
	}
	rest->n = comma < end ? (uint32_t)(end - comma) - 1 : 0;
	rest->p = comma < end ? comma + 1 : end;
	while (p < comma && is_ows(*p))
		p++;
	while (comma > p && is_ows(comma[-1]))
		comma--;
	*ret = (struct http_str){ p, (uint32_t)(comma - p) };
	return true;
}

bool http_list_has(struct http_str value, const char *token)
{
	struct http_str want = { token, (uint32_t)strlen(token) }, item;

	while (http_list_next(&value, &item))
		if (http_str_ieq(item, want))
			return true;
	return false;
}

/* Digits of a port, 1..65535.  -EINVAL for anything else. */
static int port_parse(const char *p, size_t n, uint16_t *ret)
{
	unsigned v = 0;

	if (n == 0 || n > 5)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -EINVAL;
		v = v * 10 + (unsigned)(p[i] - '0');
	}
	if (v == 0 || v > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)v;
	return 0;
}

/* The host within an authority: its end, or 0 when it is malformed. */
static uint32_t host_end(struct http_str a)
{
	uint32_t i = 0;

	if (a.n == 0)
		return 0;
	if (a.p[0] != '[') {
		while (i < a.n && chars_is((uint8_t)a.p[i], CHARS_HOST))
			i++;
		return i;
	}
	for (i = 1; i < a.n && a.p[i] != ']'; i++)
		if (!chars_is((uint8_t)a.p[i], CHARS_HOST) && a.p[i] != ':')
			return 0;
	return i < a.n && i > 1 ? i + 1 : 0;
}

int http_authority_split(struct http_str authority, struct http_str *ret_host, uint16_t *ret_port)
{
	uint32_t end = host_end(authority);
	uint16_t port = 0;

	if (end == 0)
		return -EINVAL;
	if (end < authority.n) {
		if (authority.p[end] != ':' ||
		    port_parse(authority.p + end + 1, authority.n - end - 1, &port) < 0)
			return -EINVAL;
	}
	*ret_port = port;
	*ret_host = authority.p[0] == '[' ? (struct http_str){ authority.p + 1, end - 2 }
	                                  : (struct http_str){ authority.p, end };
	return 0;
}
