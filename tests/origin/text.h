/*
 * tests/origin/text.h - a growing text with a limit, for heads and small bodies.
 *
 * Shape    struct text: heap bytes, never above TEXT_MAX.
 * Errors   none: what does not fit is cut, and ->cut says so.
 */
#ifndef ORIGIN_TEXT_H
#define ORIGIN_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#define TEXT_MAX ((size_t)4 << 20)

struct text {
	char *at;
	size_t len;
	size_t cap;
	bool cut;
};

void text_fini(struct text *t);
void text_bytes(struct text *t, const void *from, size_t len);
void text_fill(struct text *t, char c, size_t len);
__attribute__((format(printf, 2, 3))) void text_printf(struct text *t, const char *fmt, ...);

/* A JSON string with its quotes; bytes above 0x7e become \u00XX, so the result is always valid. */
void text_json(struct text *t, const char *from, size_t len);

#endif
