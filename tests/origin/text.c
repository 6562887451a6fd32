#include "tests/origin/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_fini(struct text *t)
{
	free(t->at);
	*t = (struct text){ 0 };
}

/* Room for len more bytes; returns how many fit. */
static size_t text_room(struct text *t, size_t len)
{
	if (len > TEXT_MAX - t->len) {
		len = TEXT_MAX - t->len;
		t->cut = true;
	}
	if (t->len + len > t->cap) {
		size_t cap = t->cap ? t->cap : 1024;

		while (cap < t->len + len)
			cap *= 2;
		char *at = realloc(t->at, cap);
		if (!at)
			abort();
		t->at = at;
		t->cap = cap;
	}
	return len;
}

void text_bytes(struct text *t, const void *from, size_t len)
{
	len = text_room(t, len);
	if (len > 0)
		memcpy(t->at + t->len, from, len);
	t->len += len;
}

void text_fill(struct text *t, char c, size_t len)
{
	len = text_room(t, len);
	if (len > 0)
		memset(t->at + t->len, c, len);
	t->len += len;
}

void text_printf(struct text *t, const char *fmt, ...)
{
	char line[2048];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof(line)) {
		n = sizeof(line) - 1;
		t->cut = true;
	}
	text_bytes(t, line, (size_t)n);
}

void text_json(struct text *t, const char *from, size_t len)
{
	text_bytes(t, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)from[i];

		if (c == '"' || c == '\\')
			text_printf(t, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			text_printf(t, "\\u%04x", c);
		else
			text_bytes(t, &from[i], 1);
	}
	text_bytes(t, "\"", 1);
}
