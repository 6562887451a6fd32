/*
 * sidecar/admin/text.h - an answer under construction: text that grows on the heap, up to
 * ADMIN_ANSWER_MAX.
 *
 * Errors   Without memory or beyond the limit ->failed stays set and further text is dropped; the
 *          caller answers 503.
 */
#ifndef RHC_SIDECAR_ADMIN_TEXT_H
#define RHC_SIDECAR_ADMIN_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *p;
	size_t n, cap;
	bool failed;
};

void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for n bytes at the end, which the caller fills and adds to ->n; NULL on failure. */
char *text_room(struct text *t, size_t n);
void text_fini(struct text *t);

#endif
