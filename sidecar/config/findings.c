#include "sidecar/config/findings.h"

#include <stdlib.h>
#include <string.h>

#include "sidecar/config/value.h"

#define EXCERPT_COLUMNS 96 /* what fits on a line behind its number */

void findings_init(struct findings *f)
{
	memset(f, 0, sizeof(*f));
}

void findings_fini(struct findings *f)
{
	for (uint32_t i = 0; i < f->len; i++) {
		free(f->item[i].where);
		free(f->item[i].message);
		free(f->item[i].excerpt);
		free(f->item[i].hint);
		free(f->item[i].suggestion);
	}
	findings_init(f);
}

/* By line and column, what is not in the file behind; the rest as found. */
static bool before(const struct finding *a, const struct finding *b)
{
	uint32_t x = a->line ? a->line : UINT32_MAX, y = b->line ? b->line : UINT32_MAX;

	return x != y ? x < y : x != UINT32_MAX && a->column < b->column;
}

static void order(const struct findings *f, uint32_t at[static FINDINGS_MAX])
{
	for (uint32_t i = 0; i < f->len; i++) {
		uint32_t j = i;

		for (; j > 0 && before(&f->item[i], &f->item[at[j - 1]]); j--)
			at[j] = at[j - 1];
		at[j] = i;
	}
}

static bool continues(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80; /* a byte inside a UTF-8 character */
}

/* Moves n characters on. */
static const char *skip(const char *p, uint32_t n)
{
	for (; n > 0 && *p; n--) {
		p++;
		while (continues(*p))
			p++;
	}
	return p;
}

static void print_excerpt(const struct finding *n, FILE *out)
{
	uint32_t column = n->column ? n->column : 1, from = 0, width;
	const char *start, *end, *under;

	/* A long line is shown around its place. */
	if (column > EXCERPT_COLUMNS - 16)
		from = column - 16;
	start = skip(n->excerpt, from);
	end = skip(start, EXCERPT_COLUMNS);
	fprintf(out, "%5u | %.*s\n      | ", (unsigned)n->line, (int)(end - start), start);
	for (uint32_t i = from + 1; i < column; i++)
		putc(' ', out);
	putc('^', out);
	under = skip(start, column - from);
	for (width = 1; width < n->width && under < end; width++) {
		putc('~', out);
		under = skip(under, 1);
	}
	if (n->suggestion)
		fprintf(out, " did you mean \"%s\"?", n->suggestion);
	putc('\n', out);
}

static void print_text(const struct finding *n, FILE *out)
{
	if (n->where)
		fputs(n->where, out);
	if (n->line)
		fprintf(out, ":%u:%u", (unsigned)n->line, (unsigned)n->column);
	fprintf(out, "%s%s: %s [%s]\n", n->where ? ": " : "",
		n->severity == FINDING_ERROR ? "error" : "warning", n->message, n->id);
	if (n->excerpt)
		print_excerpt(n, out);
	else if (n->suggestion)
		fprintf(out, "   did you mean \"%s\"?\n", n->suggestion);
	if (n->hint)
		fprintf(out, "   hint: %s\n", n->hint);
}

static void print_member(const char *name, const char *text, FILE *out)
{
	if (text) {
		fprintf(out, ",\"%s\":", name);
		value_print_quoted(text, out);
	}
}

static void print_json(const struct finding *n, FILE *out)
{
	fprintf(out, "{\"id\":\"%s\",\"severity\":\"%s\"", n->id,
		n->severity == FINDING_ERROR ? "error" : "warning");
	print_member("where", n->where, out);
	if (n->line)
		fprintf(out, ",\"line\":%u,\"column\":%u", (unsigned)n->line, (unsigned)n->column);
	print_member("message", n->message, out);
	print_member("hint", n->hint, out);
	print_member("suggestion", n->suggestion, out);
	putc('}', out);
}

static void print_counts(const struct findings *f, FILE *out)
{
	uint32_t held = f->errors + f->warnings - f->len;

	if (held)
		fprintf(out, "(%u more not shown)\n", (unsigned)held);
	fprintf(out, "%u error%s, %u warning%s\n", (unsigned)f->errors, f->errors == 1 ? "" : "s",
		(unsigned)f->warnings, f->warnings == 1 ? "" : "s");
}

void findings_print(const struct findings *f, enum findings_form form, FILE *out)
{
	uint32_t at[FINDINGS_MAX];

	order(f, at);
	if (form == FINDINGS_JSON)
		fputs("{\"findings\":[", out);
	for (uint32_t i = 0; i < f->len; i++) {
		if (form == FINDINGS_TEXT) {
			print_text(&f->item[at[i]], out);
			continue;
		}
		if (i)
			putc(',', out);
		print_json(&f->item[at[i]], out);
	}
	if (form == FINDINGS_JSON)
		fprintf(out, "],\"errors\":%u,\"warnings\":%u}\n", (unsigned)f->errors,
			(unsigned)f->warnings);
	else
		print_counts(f, out);
}
