#include "sidecar/base/json.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const char hex[] = "0123456789abcdef";

/* The length of the well-formed UTF-8 character at s (RFC 3629 section 4), or 0. */
static size_t utf8_len(const uint8_t *s, size_t n)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t  len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	/* No overlong forms, no surrogates, nothing beyond U+10FFFF. */
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

static size_t put_u(char *out, unsigned c)
{
	out[0] = '\\';
	out[1] = 'u';
	out[2] = hex[c >> 12 & 15];
	out[3] = hex[c >> 8 & 15];
	out[4] = hex[c >> 4 & 15];
	out[5] = hex[c & 15];
	return 6;
}

/* One character of input into at most 6 bytes; returns their number, *ret_in what was used up. */
static size_t escape_one(char out[8], const uint8_t *s, size_t n, size_t *ret_in)
{
	static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	size_t            len = utf8_len(s, n);

	*ret_in = len ? len : 1;
	if (len == 0)
		return put_u(out, 0xfffd);
	if (len > 1) {
		/* C1 controls move the cursor of some terminals. */
		if (s[0] == 0xc2 && s[1] < 0xa0)
			return put_u(out, s[1]);
		memcpy(out, s, len);
		return len;
	}
	for (const char *l = letters; *l; l += 2) {
		if (s[0] == (uint8_t)l[0]) {
			out[0] = '\\';
			out[1] = l[1];
			return 2;
		}
	}
	return put_u(out, s[0]);
}

static bool is_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* A bit per byte of w that is zero, exact up to and including the lowest one. */
static uint64_t zeros(uint64_t w)
{
	return (w - UINT64_C(0x0101010101010101)) & ~w & UINT64_C(0x8080808080808080);
}

/* Are the eight bytes all plain?  Nearly all text is, so it goes eight bytes at a time. */
static bool plain_8(uint64_t w)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t       odd = w | ((w & ones * 0x7f) + ones); /* bit 7: 0x7f and above */

	odd |= ~((w & ones * 0x7f) + ones * 0x60); /* below 0x20 */
	odd |= zeros(w ^ ones * '"') | zeros(w ^ ones * '\\');
	return (odd & ones * 0x80) == 0;
}

/* Copies eight at a time while all of them are plain; returns how many bytes. */
static size_t copy_plain(char *out, const uint8_t *s, size_t n)
{
	size_t i = 0;

	for (; n - i >= 8; i += 8) {
		uint64_t w;

		memcpy(&w, s + i, 8);
		if (!plain_8(w))
			break;
		memcpy(out + i, &w, 8);
	}
	return i;
}

size_t json_escape(char *out, size_t cap, const char *str, size_t n, size_t *ret_used)
{
	const uint8_t *s = (const uint8_t *)str;
	size_t         i = copy_plain(out, s, n < cap ? n : cap), at = i;

	while (i < n && at < cap) {
		char   one[8];
		size_t in, len;

		if (is_plain(s[i])) {
			out[at++] = (char)s[i++];
			continue;
		}
		len = escape_one(one, s + i, n - i, &in);
		if (len > cap - at)
			break;
		memcpy(out + at, one, len);
		at += len;
		i += in;
	}
	if (ret_used)
		*ret_used = i;
	return at;
}

void json_init(struct json *j, char *out, size_t cap)
{
	*j = (struct json){ .out = out, .cap = cap };
}

static void put(struct json *j, const char *s, size_t n)
{
	if (j->overflow || n > j->cap - j->n) {
		j->overflow = true;
		return;
	}
	memcpy(j->out + j->n, s, n);
	j->n += n;
}

static void put_quoted(struct json *j, const char *s, size_t n)
{
	size_t used;

	put(j, "\"", 1);
	if (j->overflow)
		return;
	j->n += json_escape(j->out + j->n, j->cap - j->n, s, n, &used);
	if (used < n)
		j->overflow = true;
	put(j, "\"", 1);
}

/* The comma and the key before a value. */
static void before(struct json *j, const char *key)
{
	uint32_t bit = UINT32_C(1) << (j->depth & (JSON_DEPTH - 1));

	if (j->depth > 0)
		assert((key == NULL) == ((j->is_array & bit) != 0));
	if (j->has_items & bit) {
		assert(j->depth > 0); /* one value at the top */
		put(j, ",", 1);
	}
	j->has_items |= bit;
	if (key) {
		put_quoted(j, key, strlen(key));
		put(j, ":", 1);
	}
}

/* A value must not be there in part: all of it or nothing. */
static inline void finish(struct json *j, size_t n, uint32_t has_items)
{
	if (__builtin_expect(!j->overflow, 1))
		return;
	j->n = n;
	j->has_items = has_items;
}

static void value(struct json *j, const char *key, const char *s, size_t n)
{
	size_t   was = j->n;
	uint32_t items = j->has_items;

	before(j, key);
	put(j, s, n);
	finish(j, was, items);
}

static void begin(struct json *j, const char *key, bool array)
{
	uint32_t bit;

	value(j, key, array ? "[" : "{", 1);
	assert(j->depth < JSON_DEPTH - 1);
	j->depth++;
	bit = UINT32_C(1) << j->depth;
	j->is_array = array ? j->is_array | bit : j->is_array & ~bit;
	j->has_items &= ~bit;
}

void json_object(struct json *j, const char *key)
{
	begin(j, key, false);
}

void json_array(struct json *j, const char *key)
{
	begin(j, key, true);
}

void json_end(struct json *j)
{
	assert(j->depth > 0);
	put(j, j->is_array & UINT32_C(1) << j->depth ? "]" : "}", 1);
	j->depth--;
}

void json_strn(struct json *j, const char *key, const char *s, size_t n)
{
	size_t   was = j->n;
	uint32_t items = j->has_items;

	before(j, key);
	put_quoted(j, s, n);
	finish(j, was, items);
}

void json_str(struct json *j, const char *key, const char *s)
{
	if (s)
		json_strn(j, key, s, strlen(s));
	else
		json_null(j, key);
}

/* Writes v from the end of b backwards, at least min digits; returns where it begins. */
static char *digits(char *end, uint64_t v, unsigned min)
{
	do {
		*--end = (char)('0' + v % 10);
		v /= 10;
		if (min)
			min--;
	} while (v || min);
	return end;
}

void json_u64(struct json *j, const char *key, uint64_t v)
{
	char b[24], *p = digits(b + sizeof(b), v, 1);

	value(j, key, p, (size_t)(b + sizeof(b) - p));
}

void json_i64(struct json *j, const char *key, int64_t v)
{
	char b[24], *p = digits(b + sizeof(b), v < 0 ? -(uint64_t)v : (uint64_t)v, 1);

	if (v < 0)
		*--p = '-';
	value(j, key, p, (size_t)(b + sizeof(b) - p));
}

void json_decimal(struct json *j, const char *key, uint64_t v, unsigned decimals)
{
	char b[48], *end = b + sizeof(b), *p;

	assert(decimals <= 19);
	p = digits(end, v, decimals + 1);
	if (decimals) {
		memmove(p - 1, p, (size_t)(end - p) - decimals);
		p--;
		end[-1 - (int)decimals] = '.';
	}
	value(j, key, p, (size_t)(end - p));
}

void json_bool(struct json *j, const char *key, bool v)
{
	value(j, key, v ? "true" : "false", v ? 4 : 5);
}

void json_null(struct json *j, const char *key)
{
	value(j, key, "null", 4);
}

void json_raw(struct json *j, const char *key, const char *s, size_t n)
{
	value(j, key, s, n);
}

int json_finish(struct json *j)
{
	assert(j->depth == 0);
	return j->overflow ? -ENOSPC : (int)j->n;
}
