/*
 * ctl/out.h - data for eyes and for programs, walked once.
 *
 * Shape    An object with fields, then at most one list of rows.  As a table the fields are left to the caller's
 *          prose (out_note), the rows become columns; as JSON both become members.
 *            out_begin(o, "BreakerList");
 *            out_rows(o, "items");
 *            out_row(o);  out_text(o, "name", "NAME", name);  out_count(o, "failures", "FAILURES", 3); ...
 *            out_end(o);
 * Cells    out_* take the JSON key and the column header; a NULL header keeps it out of tables, "+HEADER" shows it only
 *          in wide ones, a NULL key keeps it out of JSON.
 * Owns     The rows until out_end(); heap, bounded by OUT_ROWS_MAX.
 * Colour   none here: words carry the meaning.
 */
#ifndef RHC_CTL_OUT_H
#define RHC_CTL_OUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum out_form { OUT_TABLE, OUT_WIDE, OUT_JSON };
enum { OUT_COLS_MAX = 32, OUT_ROWS_MAX = 65536, OUT_CELL_MAX = 160 };

struct out {
	FILE         *to;
	enum out_form form;
	bool          headers;
	/* private */
	bool          first[4];
	unsigned      depth;
	char        **cells; /* rows * OUT_COLS_MAX */
	unsigned      rows, cols, col;
	const char   *header[OUT_COLS_MAX];
	bool          right[OUT_COLS_MAX];
	bool          in_rows, keyed;
};

void out_begin(struct out *o, const char *kind);
void out_rows(struct out *o, const char *key);
void out_row(struct out *o);
/* JSON: rows as an object by their name, each begun by out_row_named(); tables are as above. */
void out_rows_named(struct out *o, const char *key);
void out_row_named(struct out *o, const char *name, const char *header);
void out_rows_end(struct out *o);
void out_end(struct out *o);

void out_object(struct out *o, const char *key); /* JSON only: a nested object */
void out_object_end(struct out *o);

void out_text(struct out *o, const char *key, const char *header, const char *value); /* NULL: null, "-" */
void out_count(struct out *o, const char *key, const char *header, uint64_t value);
void out_flag(struct out *o, const char *key, const char *header, bool value);
/* JSON: seconds under key; table: "12s", "3d04h", "250ms".  known == false: null, "-". */
void out_age(struct out *o, const char *key, const char *header, uint64_t ms, bool known);
void out_ns(struct out *o, const char *key, const char *header, uint64_t ns, bool known);
void out_share(struct out *o, const char *key, const char *header, uint64_t part, uint64_t whole); /* 99.5% */
/* "31/50": JSON two counts, table one cell */
void out_of(struct out *o, const char *key, const char *key_whole, const char *header, uint64_t part, uint64_t whole);
/* Table cell whose text differs from the JSON value. */
void out_cell(struct out *o, const char *header, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Prose above or below a table; nothing in JSON. */
void out_note(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "250ms", "12s", "4m10s", "3h05m", "3d04h" */
const char *out_duration(uint64_t ms, char text[32]);

#endif
