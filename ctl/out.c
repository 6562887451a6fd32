#include "ctl/out.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON ---- */

static void quoted(FILE *to, const char *s)
{
	putc('"', to);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			fprintf(to, "\\u%04x", c);
		else
			putc(c, to);
	}
	putc('"', to);
}

static bool json(const struct out *o)
{
	return o->form == OUT_JSON;
}

/* The comma and the key before a member. */
static void member(struct out *o, const char *key)
{
	if (!o->first[o->depth])
		putc(',', o->to);
	o->first[o->depth] = false;
	if (key) {
		quoted(o->to, key);
		putc(':', o->to);
	}
}

static void push(struct out *o, char open)
{
	putc(open, o->to);
	o->first[++o->depth] = true;
}

static void pop(struct out *o, char close)
{
	putc(close, o->to);
	o->depth--;
}

void out_object(struct out *o, const char *key)
{
	if (!json(o))
		return;
	member(o, key);
	push(o, '{');
}

void out_object_end(struct out *o)
{
	if (json(o))
		pop(o, '}');
}

/* ---- tables ---- */

static void cell(struct out *o, const char *header, bool right, const char *text)
{
	if (json(o) || !o->in_rows || !header)
		return;
	if (header[0] == '+') {
		if (o->form != OUT_WIDE)
			return;
		header++;
	}
	if (o->col == OUT_COLS_MAX || o->rows == 0)
		return;
	o->header[o->col] = header;
	o->right[o->col] = right;
	o->cells[(o->rows - 1) * OUT_COLS_MAX + o->col] = strdup(text);
	if (++o->col > o->cols)
		o->cols = o->col;
}

static unsigned width(const char *s) /* characters, not bytes */
{
	unsigned n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_row(const struct out *o, char *const *row, const unsigned *widths)
{
	for (unsigned c = 0; c < o->cols; c++) {
		const char *s = row[c] ? row[c] : "-";
		int pad = (int)(widths[c] - width(s));

		if (o->right[c])
			fprintf(o->to, "%*s%s", pad, "", s);
		else if (c + 1 < o->cols)
			fprintf(o->to, "%s%*s", s, pad, "");
		else
			fputs(s, o->to);
		if (c + 1 < o->cols)
			fputs("  ", o->to);
	}
	putc('\n', o->to);
}

static void print_table(struct out *o)
{
	unsigned widths[OUT_COLS_MAX] = { 0 };

	if (o->cols == 0)
		return; /* rows for JSON alone: the prose says it */
	for (unsigned c = 0; c < o->cols; c++) {
		widths[c] = o->headers ? width(o->header[c]) : 0;
		for (unsigned r = 0; r < o->rows; r++) {
			const char *s = o->cells[r * OUT_COLS_MAX + c];
			unsigned n = width(s ? s : "-");

			widths[c] = n > widths[c] ? n : widths[c];
		}
	}
	if (o->headers)
		print_row(o, (char *const *)o->header, widths);
	for (unsigned r = 0; r < o->rows; r++)
		print_row(o, o->cells + r * OUT_COLS_MAX, widths);
}

static void forget_rows(struct out *o)
{
	for (unsigned i = 0; i < o->rows * OUT_COLS_MAX; i++)
		free(o->cells[i]);
	free(o->cells);
	o->cells = NULL;
	o->rows = o->cols = o->col = 0;
}

/* ---- structure ---- */

void out_begin(struct out *o, const char *kind)
{
	if (!json(o))
		return;
	o->depth = 0;
	o->first[0] = true;
	push(o, '{');
	out_text(o, "apiVersion", NULL, "rhc.dev/v1");
	out_text(o, "kind", NULL, kind);
}

void out_rows(struct out *o, const char *key)
{
	o->in_rows = true;
	if (!json(o))
		return;
	member(o, key);
	push(o, '[');
}

void out_rows_named(struct out *o, const char *key)
{
	o->in_rows = o->keyed = true;
	if (!json(o))
		return;
	member(o, key);
	push(o, '{');
}

static void close_row(struct out *o)
{
	if (json(o) && o->col)
		pop(o, '}');
}

static void open_row(struct out *o, const char *name)
{
	char **cells;

	if (json(o)) {
		close_row(o);
		member(o, name);
		push(o, '{');
		o->col = 1;
		return;
	}
	if (o->rows == OUT_ROWS_MAX)
		return;
	cells = realloc(o->cells, (size_t)(o->rows + 1) * OUT_COLS_MAX * sizeof(*cells));
	if (!cells)
		abort();
	o->cells = cells;
	memset(cells + (size_t)o->rows * OUT_COLS_MAX, 0, OUT_COLS_MAX * sizeof(*cells));
	o->rows++;
	o->col = 0;
}

void out_row(struct out *o)
{
	open_row(o, NULL);
}

void out_row_named(struct out *o, const char *name, const char *header)
{
	open_row(o, name);
	out_text(o, NULL, header, name);
}

void out_rows_end(struct out *o)
{
	if (json(o)) {
		close_row(o);
		pop(o, o->keyed ? '}' : ']');
		o->col = 0;
	} else {
		print_table(o);
		forget_rows(o);
	}
	o->in_rows = o->keyed = false;
}

void out_end(struct out *o)
{
	if (o->in_rows)
		out_rows_end(o);
	if (json(o)) {
		pop(o, '}');
		putc('\n', o->to);
	}
	fflush(o->to);
}

/* ---- cells ---- */

void out_text(struct out *o, const char *key, const char *header, const char *value)
{
	if (json(o) && key) {
		member(o, key);
		if (value)
			quoted(o->to, value);
		else
			fputs("null", o->to);
	}
	cell(o, header, false, value && *value ? value : "-");
}

void out_count(struct out *o, const char *key, const char *header, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	if (json(o) && key) {
		member(o, key);
		fputs(text, o->to);
	}
	cell(o, header, true, text);
}

void out_flag(struct out *o, const char *key, const char *header, bool value)
{
	if (json(o) && key) {
		member(o, key);
		fputs(value ? "true" : "false", o->to);
	}
	cell(o, header, false, value ? "yes" : "no");
}

const char *out_duration(uint64_t ms, char text[32])
{
	uint64_t s = ms / 1000;

	if (ms < 1000)
		snprintf(text, 32, "%" PRIu64 "ms", ms);
	else if (ms < 10000)
		snprintf(text, 32, "%.1fs", (double)ms / 1000);
	else if (s < 60)
		snprintf(text, 32, "%" PRIu64 "s", s);
	else if (s < 3600)
		snprintf(text, 32, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(text, 32, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(text, 32, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
	return text;
}

void out_age(struct out *o, const char *key, const char *header, uint64_t ms, bool known)
{
	char text[32];

	if (json(o) && key) {
		member(o, key);
		if (known)
			fprintf(o->to, "%" PRIu64 ".%03" PRIu64, ms / 1000, ms % 1000);
		else
			fputs("null", o->to);
	}
	cell(o, header, true, known ? out_duration(ms, text) : "-");
}

void out_ns(struct out *o, const char *key, const char *header, uint64_t ns, bool known)
{
	char text[32];

	if (json(o) && key) {
		member(o, key);
		if (known)
			fprintf(o->to, "%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
		else
			fputs("null", o->to);
	}
	if (!known)
		snprintf(text, sizeof(text), "-");
	else if (ns < 1000000)
		snprintf(text, sizeof(text), "%" PRIu64 "us", ns / 1000);
	else if (ns < 10000000)
		snprintf(text, sizeof(text), "%.1fms", (double)ns / 1e6);
	else
		out_duration(ns / 1000000, text);
	cell(o, header, true, text);
}

void out_share(struct out *o, const char *key, const char *header, uint64_t part, uint64_t whole)
{
	char text[24];

	if (json(o) && key) {
		member(o, key);
		if (whole)
			fprintf(o->to, "%.6f", (double)part / (double)whole);
		else
			fputs("null", o->to);
	}
	if (whole)
		snprintf(text, sizeof(text), "%.2f%%", 100.0 * (double)part / (double)whole);
	cell(o, header, true, whole ? text : "-");
}

void out_of(struct out *o, const char *key, const char *key_whole, const char *header, uint64_t part, uint64_t whole)
{
	char text[48];

	out_count(o, key, NULL, part);
	out_count(o, key_whole, NULL, whole);
	snprintf(text, sizeof(text), "%" PRIu64 "/%" PRIu64, part, whole);
	cell(o, header, true, text);
}

void out_cell(struct out *o, const char *header, const char *fmt, ...)
{
	char text[OUT_CELL_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cell(o, header, false, text);
}

void out_note(struct out *o, const char *fmt, ...)
{
	va_list ap;

	if (json(o))
		return;
	va_start(ap, fmt);
	vfprintf(o->to, fmt, ap);
	va_end(ap);
}
