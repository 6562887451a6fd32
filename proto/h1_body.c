/*
 * proto/h1_body.c - where a body begins and ends (RFC 9112 §6, §7.1).
 *
 * Body bytes are never looked at; the chunk grammar is read byte by byte, which costs nothing
 * beside them. A chunk line is 1*HEXDIG [ BWS ";" extension ] CRLF.  An extension may not hold CR
 * or LF, not even quoted: a parser that ends the line at a bare LF would find another chunk there.
 */
#include "proto/h1.h"

#include <assert.h>

#include "proto/chars.h"

enum state {
	S_DONE,
	S_LENGTH,
	S_UNTIL_CLOSE,
	S_SIZE, /* digits of the chunk size */
	S_BWS, /* white space before ';' */
	S_EXT,
	S_SIZE_LF,
	S_CHUNK,
	S_CHUNK_CR,
	S_CHUNK_LF,
	S_LAST, /* behind the last chunk: a trailer field, or CR */
	S_LAST_LF,
};

void h1_body_init(struct h1_body *b, enum http_body kind, uint64_t len)
{
	*b = (struct h1_body){ 0 };
	switch (kind) {
	case HTTP_BODY_NONE:
		b->state = S_DONE;
		return;
	case HTTP_BODY_LENGTH:
		b->state = len > 0 ? S_LENGTH : S_DONE;
		b->left = len;
		return;
	case HTTP_BODY_STREAM:
		b->state = S_SIZE;
		return;
	case HTTP_BODY_CLOSE:
	case HTTP_BODY_TUNNEL:
		b->state = S_UNTIL_CLOSE;
		return;
	}
	assert(!"a kind of body");
}

bool h1_body_done(const struct h1_body *b)
{
	return b->state == S_DONE;
}

bool h1_body_eof(const struct h1_body *b)
{
	return b->state == S_DONE || b->state == S_UNTIL_CLOSE;
}

/* As much of p[0..n) as is body; the state that follows when the part is complete. */
static uint32_t take(struct h1_body *b, uint32_t n, enum state then)
{
	uint32_t data = n;

	if (b->left <= n) {
		data = (uint32_t)b->left;
		b->state = (uint8_t)then;
	}
	b->left -= data;
	return data;
}

static int expect(struct h1_body *b, uint8_t c, uint8_t want, enum state then)
{
	if (c != want)
		return c == '\n' ? -HTTP_E_BARE_LF : want == '\n' ? -HTTP_E_BARE_CR : -HTTP_E_CHUNK;
	b->state = (uint8_t)then;
	return 0;
}

static unsigned hex(uint8_t c)
{
	return c <= '9' ? (unsigned)c - '0' : (c | 0x20u) - 'a' + 10;
}

static int size_byte(struct h1_body *b, uint8_t c)
{
	if (chars_is(c, CHARS_HEX)) {
		if (++b->digits > H1_CHUNK_DIGITS_MAX || b->left > (uint64_t)INT64_MAX >> 4)
			return -HTTP_E_CHUNK;
		b->left = b->left << 4 | hex(c);
		return 0;
	}
	if (b->digits == 0)
		return c == '\n' ? -HTTP_E_BARE_LF : -HTTP_E_CHUNK;
	if (c == ' ' || c == '\t') {
		b->state = S_BWS;
		return 0;
	}
	if (c == ';') {
		b->state = S_EXT;
		return 0;
	}
	return expect(b, c, '\r', S_SIZE_LF);
}

static int ext_byte(struct h1_body *b, uint8_t c)
{
	if (++b->ext > H1_CHUNK_EXT_MAX)
		return -HTTP_E_CHUNK;
	if (b->state == S_BWS) { /* white space is there for a ';' only */
		if (c == ';')
			b->state = S_EXT;
		else if (c != ' ' && c != '\t')
			return c == '\n' ? -HTTP_E_BARE_LF : -HTTP_E_CHUNK;
		return 0;
	}
	return chars_is(c, CHARS_VALUE) ? 0 : expect(b, c, '\r', S_SIZE_LF);
}

/* One byte that is no body.  0 or -error. */
static int control_byte(struct h1_body *b, uint8_t c)
{
	int r;

	switch (b->state) {
	case S_SIZE:
		return size_byte(b, c);
	case S_BWS:
	case S_EXT:
		return ext_byte(b, c);
	case S_SIZE_LF:
		r = expect(b, c, '\n', b->left > 0 ? S_CHUNK : S_LAST);
		b->digits = 0;
		b->ext = 0;
		return r;
	case S_CHUNK_CR:
		return expect(b, c, '\r', S_CHUNK_LF);
	case S_CHUNK_LF:
		return expect(b, c, '\n', S_SIZE);
	case S_LAST:
		return expect(b, c, '\r', S_LAST_LF);
	case S_LAST_LF:
		return expect(b, c, '\n', S_DONE);
	}
	assert(!"a state of the chunk grammar");
	return -HTTP_E_CHUNK;
}

int h1_body_feed(struct h1_body *b, const uint8_t *p, uint32_t n, uint32_t *ret_used,
                 uint32_t *ret_data)
{
	uint32_t i = 0;
	int      r = 0;

	*ret_data = 0;
	while (i < n && r == 0) {
		switch (b->state) {
		case S_DONE:
			*ret_used = i;
			return H1_END;
		case S_UNTIL_CLOSE:
			*ret_data = n - i;
			*ret_used = n;
			return H1_DATA;
		case S_LENGTH:
		case S_CHUNK:
			*ret_data = take(b, n - i, b->state == S_LENGTH ? S_DONE : S_CHUNK_CR);
			*ret_used = i + *ret_data;
			return H1_DATA;
		case S_LAST:
			if (p[i] != '\r' && p[i] != '\n') {
				*ret_used = i;
				return H1_TRAILERS;
			}
			break;
		default:
			break;
		}
		r = control_byte(b, p[i++]);
	}
	*ret_used = i;
	if (r < 0)
		return r;
	return b->state == S_DONE ? H1_END : H1_MORE;
}
