/*
 * sidecar/exchange/access_put.h - writers for the lines of the access log: bytes, words, numbers, milliseconds.
 *
 * Bounds    Every writer asserts that there is room: what a stranger can choose has a share of the line, and the sum of
 *           all shares is checked where the line is put together.
 * Cost      No printf: a general writer cannot know that keys need no escaping.
 */
#ifndef RHC_SIDECAR_EXCHANGE_ACCESS_PUT_H
#define RHC_SIDECAR_EXCHANGE_ACCESS_PUT_H

#include <assert.h>
#include <string.h>

#include "proto/http.h"
#include "sidecar/base/json.h"
#include "sidecar/exchange/access.h"

/* Names of our own tables have at most ACCESS_WORD bytes, numbers ACCESS_NUMBER. */
enum { ACCESS_WORD = 32, ACCESS_NUMBER = 21 };

struct out {
	char *p, *end;
};

static inline void put(struct out *o, const char *s, size_t n)
{
	assert(n <= (size_t)(o->end - o->p));
	memcpy(o->p, s, n);
	o->p += n;
}

#define LIT(o, s) put(o, s, sizeof(s) - 1)

static inline void put_word(struct out *o, const char *s)
{
	put(o, s, strnlen(s, ACCESS_WORD));
}

/* Within quotes of JSON: escaped, and cut to its share. */
static inline void put_text(struct out *o, const char *s, size_t n, size_t share)
{
	assert(share <= (size_t)(o->end - o->p));
	o->p += json_escape(o->p, share, s, n < ACCESS_VALUE_MAX ? n : ACCESS_VALUE_MAX, NULL);
}

static inline void put_u64(struct out *o, uint64_t v)
{
	char b[ACCESS_NUMBER], *p = b + sizeof(b);

	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	put(o, p, (size_t)(b + sizeof(b) - p));
}

/* Milliseconds with three decimals. */
static inline void put_ms(struct out *o, uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned part = (unsigned)(us % 1000);

	if (us == 0) {
		LIT(o, "0.000");
		return;
	}
	put_u64(o, us / 1000);
	put(o, (char[]){ '.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10) }, 4);
}

/* Within quotes of a line for eyes: quotes and what is not printable become dots. */
static inline void put_clean(struct out *o, struct http_str s)
{
	uint32_t n = s.n > ACCESS_VALUE_MAX ? ACCESS_VALUE_MAX : s.n;

	assert(n <= (size_t)(o->end - o->p));
	for (uint32_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		o->p[i] = c < 0x20 || c == '"' || c >= 0x7f ? '.' : (char)c;
	}
	o->p += n;
}

#endif
