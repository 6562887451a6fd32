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

/* Into the room there is, which mostly does; else again, into room enough. */
void text_add(struct text *t, const char *fmt, ...)
{
	size_t room = t->cap - t->n;
	va_list ap, again;
	char *p;
	int n;

	if (t->failed)
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(room ? t->p + t->n : NULL, room, fmt, ap);
	if (n >= 0 && (size_t)n >= room) {
		p = text_room(t, (size_t)n + 1);
		n = p ? vsnprintf(p, (size_t)n + 1, fmt, again) : -1;
	}
	if (n >= 0)
		t->n += (size_t)n;
	va_end(again);
	va_end(ap);
}

void text_fini(struct text *t)
{
	free(t->p);
	*t = (struct text){ 0 };
}
