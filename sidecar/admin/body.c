#include "sidecar/admin/body.h"

#include <string.h>

struct cursor {
	const char *p, *end;
	const char *why;
};

static bool fail(struct cursor *c, const char *why)
{
	c->why = c->why ? c->why : why;
	return false;
}

static void blanks(struct cursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
		c->p++;
}

static bool take(struct cursor *c, char what)
{
	blanks(c);
	if (c->p == c->end || *c->p != what)
		return false;
	c->p++;
	return true;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* \uXXXX as UTF-8; 0: none.  Half of a surrogate pair stands for nothing and is refused. */
static unsigned unicode(struct cursor *c, char out[3])
{
	unsigned v = 0;

	if (c->end - c->p < 4)
		return 0;
	for (unsigned i = 0; i < 4; i++) {
		int h = hex(*c->p++);

		if (h < 0)
			return 0;
		v = v << 4 | (unsigned)h;
	}
	if (v == 0 || (v >= 0xd800 && v < 0xe000))
		return 0;
	if (v < 0x80) {
		out[0] = (char)v;
		return 1;
	}
	if (v < 0x800) {
		out[0] = (char)(0xc0 | v >> 6);
		out[1] = (char)(0x80 | (v & 0x3f));
		return 2;
	}
	out[0] = (char)(0xe0 | v >> 12);
	out[1] = (char)(0x80 | (v >> 6 & 0x3f));
	out[2] = (char)(0x80 | (v & 0x3f));
	return 3;
}

/* What stands behind a backslash; how many bytes it makes, 0: it may not stand there. */
static unsigned escape(struct cursor *c, char out[3])
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at;

	if (c->p == c->end)
		return 0;
	if (*c->p == 'u') {
		c->p++;
		return unicode(c, out);
	}
	at = *c->p ? strchr(from, *c->p) : NULL;
	c->p++;
	if (!at)
		return 0;
	out[0] = to[at - from];
	return 1;
}

/*
 * Into out[cap], with its 0.  What is longer is refused, not cut: a reason is kept as it was given.
 */
static bool string(struct cursor *c, char *out, size_t cap)
{
	size_t n = 0;

	if (!take(c, '"'))
		return fail(c, "a string is expected");
	while (c->p < c->end && *c->p != '"') {
		char piece[3] = { *c->p++ };
		unsigned len = 1;

		if ((unsigned char)piece[0] < 0x20)
			return fail(c, "a control character stands in a string");
		if (piece[0] == '\\')
			len = escape(c, piece);
		if (len == 0)
			return fail(c, "an escape of a string makes no sense");
		if (n + len >= cap)
			return fail(c, "a string is too long");
		memcpy(out + n, piece, len);
		n += len;
	}
	out[n] = 0;
	return take(c, '"') ? true : fail(c, "a string has no end");
}

static bool seconds(struct cursor *c, uint64_t *ret)
{
	const char *first;
	uint64_t v = 0;

	blanks(c);
	first = c->p;
	for (; c->p < c->end && *c->p >= '0' && *c->p <= '9' && v <= ADMIN_TTL_MAX; c->p++)
		v = v * 10 + (uint64_t)(*c->p - '0');
	if (c->p == first || v == 0 || v > ADMIN_TTL_MAX || (*first == '0'))
		return fail(c, "ttl_seconds is a whole number from 1 to 2592000");
	*ret = v;
	return true;
}

static bool member(struct cursor *c, struct body_change *ret, unsigned *seen)
{
	char name[16];
	unsigned bit;

	if (!string(c, name, sizeof(name)))
		return fail(c, "a member is expected");
	bit = strcmp(name, "reason") == 0 ? 1 : strcmp(name, "ttl_seconds") == 0 ? 2 : 0;
	if (!bit)
		return fail(c, "members are reason and ttl_seconds");
	if (*seen & bit)
		return fail(c, "a member is there twice");
	*seen |= bit;
	if (!take(c, ':'))
		return fail(c, "a colon is expected");
	return bit == 1 ? string(c, ret->reason, sizeof(ret->reason)) : seconds(c, &ret->ttl_s);
}

static bool object(struct cursor *c, struct body_change *ret)
{
	unsigned seen = 0;

	if (!take(c, '{'))
		return fail(c, "an object is expected");
	if (take(c, '}'))
		return true;
	do {
		if (!member(c, ret, &seen))
			return false;
	} while (take(c, ','));
	return take(c, '}') ? true : fail(c, "a comma or the end of the object is expected");
}

bool body_parse(const char *p, size_t n, struct body_change *ret, const char **why)
{
	struct cursor c = { .p = p, .end = p + n };
	bool good;

	*ret = (struct body_change){ 0 };
	*why = NULL;
	blanks(&c);
	if (c.p == c.end)
		return true;
	good = object(&c, ret);
	blanks(&c);
	if (good && c.p != c.end)
		good = fail(&c, "something stands behind the object");
	*why = c.why;
	return good;
}
