#include "sidecar/config/place.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/arena.h"

#define EXCERPT_MAX 512 /* bytes of a line that are kept */

int places_add(struct places *p, struct arena *a, const void *field, const struct place *at)
{
	struct place_entry *more;

	if (p->len == p->cap) {
		uint32_t cap = p->cap ? p->cap * 2 : 64;

		more = arena_alloc(a, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		if (p->len)
			memcpy(more, p->entry, p->len * sizeof(*more));
		p->entry = more;
		p->cap = cap;
	}
	p->entry[p->len++] = (struct place_entry){ field, *at };
	return 0;
}

static int by_field(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)((const struct place_entry *)a)->field;
	uintptr_t y = (uintptr_t)((const struct place_entry *)b)->field;

	return (x > y) - (x < y);
}

void places_sort(struct places *p)
{
	if (p->len)
		qsort(p->entry, p->len, sizeof(*p->entry), by_field);
}

const struct place *places_find(const struct places *p, const void *field)
{
	const struct place_entry key = { .field = field };
	const struct place_entry *found;

	if (!p->len)
		return NULL;
	found = bsearch(&key, p->entry, p->len, sizeof(*p->entry), by_field);
	return found ? &found->at : NULL;
}

/* ---- findings ---- */

static char *copy_or_null(const char *text)
{
	return text && *text ? strdup(text) : NULL;
}

/* A syntax error may stand in the line of a secret before any key is known: these lines are not shown. */
static bool looks_secret(const char *line)
{
	static const char *const words[] = { "authorization", "cookie",  "token",  "secret",
					     "password",      "api-key", "api_key" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasestr(line, words[i]))
			return true;
	}
	return false;
}

/* Line `line` of the file; without what a terminal would act on. */
static char *excerpt(const struct reporter *r, uint32_t line)
{
	const char *p = r->text, *end = r->text ? r->text + r->len : NULL, *newline;
	char *copy;
	size_t len;

	for (; p && line > 1; line--) {
		p = memchr(p, '\n', (size_t)(end - p));
		p = p && p + 1 <= end ? p + 1 : NULL;
	}
	if (!p || p == end)
		return NULL;
	newline = memchr(p, '\n', (size_t)(end - p));
	len = (size_t)((newline ? newline : end) - p);
	copy = strndup(p, len > EXCERPT_MAX ? EXCERPT_MAX : len);
	for (char *c = copy; c && *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	}
	if (copy && looks_secret(copy)) {
		free(copy);
		return NULL;
	}
	return copy;
}

static char *where(const struct reporter *r, const struct place *at)
{
	char *text = NULL;

	if (at && (at->kind == PLACE_ENV || at->kind == PLACE_SET)) {
		if (asprintf(&text, "%s %s", at->kind == PLACE_ENV ? "env" : "--set", at->name) < 0)
			return NULL;
		return text;
	}
	return copy_or_null(r->file);
}

void report(const struct reporter *r, const char *id, const struct place *at, const char *hint,
	    const char *suggestion, const char *format, ...)
{
	bool error = id[0] == 'E';
	struct finding *n;
	va_list ap;

	assert(error || id[0] == 'W');
	r->f->errors += error;
	r->f->warnings += !error;
	if (r->f->len == FINDINGS_MAX)
		return;
	n = &r->f->item[r->f->len];
	*n = (struct finding){ .id = id, .severity = error ? FINDING_ERROR : FINDING_WARNING };
	va_start(ap, format);
	if (vasprintf(&n->message, format, ap) < 0)
		n->message = NULL;
	va_end(ap);
	if (!n->message)
		return; /* no memory: it stays counted */
	n->where = where(r, at);
	n->hint = copy_or_null(hint);
	n->suggestion = copy_or_null(suggestion);
	if (at && at->kind == PLACE_FILE) {
		n->line = at->line;
		n->column = at->column;
		n->width = at->width;
		n->excerpt = at->line && !at->secret ? excerpt(r, at->line) : NULL;
	}
	r->f->len++;
}
