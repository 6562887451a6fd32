/*
 * sidecar/config/place.h - where a value was written, and how a finding says so.
 *
 * Shape    struct place; struct places: which field was written where; struct reporter: findings with excerpts.
 * Owns     nothing: arena and findings are the caller's.
 * Errors   places_add() -ENOMEM; report() cannot fail (findings.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sidecar/config/findings.h"

enum place_kind {
	PLACE_DEFAULT,
	PLACE_PRESET,
	PLACE_FILE,
	PLACE_ENV,
	PLACE_SET,
};

struct place {
	enum place_kind kind;
	const char *name; /* the preset, the variable, the argument; NULL for default and file */
	uint32_t line, column; /* 1-based, 0 = none */
	uint32_t width;        /* columns */
	bool secret;           /* its line is not shown */
};

struct place_entry {
	const void *field;
	struct place at;
};

struct arena;

struct places {
	struct place_entry *entry;
	uint32_t len, cap;
};

int places_add(struct places *p, struct arena *a, const void *field, const struct place *at);

/* By the address of the field; call places_sort() once before the first places_find(). */
void places_sort(struct places *p);
const struct place *places_find(const struct places *p, const void *field);

struct reporter {
	struct findings *f;
	const char *file;
	const char *text; /* the file's content for excerpts, or NULL */
	size_t len;
};

/* The id's first letter is the severity.  at, hint and suggestion may be NULL. */
void report(const struct reporter *r, const char *id, const struct place *at, const char *hint,
	    const char *suggestion, const char *format, ...) __attribute__((format(printf, 6, 7)));
