#include "sidecar/admin/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "sidecar/admin/admin.h"

char *text_room(struct text *t, size_t n)
{
	size_t cap = t->cap ? t->cap : 16384;
	char *p;

	if (t->failed)
		return NULL;
	while (cap - t->n < n)
		cap *= 2;
	if (cap > ADMIN_ANSWER_MAX) {
		t->failed = true;
		return NULL;
	}
	if (cap != t->cap) {
		p = realloc(t->p, cap);
		if (!p) {
			t->failed = true;
			return NULL;
		}
		t->p = p;
		t->cap = cap;
	}
	return t->p + t->n;
}

void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap, again;
	char *p;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	p = n < 0 ? NULL : text_room(t, (size_t)n + 1);
	if (p) {
		vsnprintf(p, (size_t)n + 1, fmt, again);
		t->n += (size_t)n;
	}
	va_end(again);
	va_end(ap);
}

void text_fini(struct text *t)
{
	free(t->p);
	*t = (struct text){ 0 };
}
