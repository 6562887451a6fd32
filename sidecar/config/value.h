/*
 * sidecar/config/value.h - texts to values and back, as the key says.
 *
 * Shape    pure functions; the key decides the type, so `no`, `010`, `1e3` and `22:22` never surprise.
 * Owns     nothing; strings and lists go into the arena given.
 * Errors   -EINVAL  not a value of that kind: see *c
 *          -ERANGE  a value, but not an allowed one: see *c
 *          -ENOMEM  the arena is full
 */
#pragma once

#include "sidecar/config/schema.h"

struct arena;

#define VALUE_TEXT_MAX 40 /* a number, duration, size or share in text */

/* Why a text is not a value. */
struct value_complaint {
	const char *id; /* E004, E005, E007 or E011 */
	char text[224];
	char hint[160];         /* "" = none */
	const char *suggestion; /* a word of the table, or NULL */
};

/* The value of a key that is no list. */
int value_parse(const struct schema_key *k, const char *text, size_t len, struct arena *a,
		void *field, struct value_complaint *c);

/* A list: clear it with room for `count` items, then add them. */
int value_clear(const struct schema_key *k, uint32_t count, struct arena *a, void *field);
int value_add(const struct schema_key *k, const char *text, size_t len, struct arena *a,
	      void *field, struct value_complaint *c);

/* A list written with commas, as in the environment. */
int value_parse_commas(const struct schema_key *k, const char *text, size_t len, struct arena *a,
		       void *field, struct value_complaint *c);

/* Adds name and value to a PAIRS field that value_clear() made. */
int value_add_pair(const struct schema_key *k, const char *name, const char *text, size_t len,
		   struct arena *a, void *field, struct value_complaint *c);

/* Makes it null (lists: empty); false when the key cannot be null. */
bool value_set_null(const struct schema_key *k, void *field);

/* The built-in default; its range is not asked. */
int value_default(const struct schema_key *k, void *field, struct arena *a,
		  struct value_complaint *c);

/* "a duration like 250ms, 30s or 1m30s": what a key takes, for messages and explain. */
const char *value_kind_name(const struct schema_key *k);

/* Numbers, exported for their tests: 0, -EINVAL or -ERANGE. */
int value_duration(const char *text, size_t len, uint64_t *ret_ns);
int value_size(const char *text, size_t len, uint64_t *ret_bytes);
int value_percent(const char *text, size_t len, uint64_t *ret_bp);

/* net.c */
int value_address(const char *text, size_t len, struct arena *a, struct config_address *ret,
		  struct value_complaint *c);
int value_url(const char *text, size_t len, struct arena *a, struct config_url *ret,
	      struct value_complaint *c);

int value_complain(struct value_complaint *c, int err, const char *id, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* ---- format.c ---- */

/* The canonical text of a duration, "1m30s". */
void value_duration_text(uint64_t ns, char text[static VALUE_TEXT_MAX]);

/* Prints the value; JSON durations are seconds, shares are ratios, sizes are bytes. */
void value_print(const struct schema_key *k, const void *field, enum config_form form, FILE *out);

/* A JSON string, which is a YAML string as well. */
void value_print_quoted(const char *text, FILE *out);

/* A running FNV-1a hash over the value, secrets included. */
#define VALUE_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t value_hash(const struct schema_key *k, const void *field, uint64_t hash);
uint64_t value_hash_text(const char *text, uint64_t hash);

/* Whether the values are the same. */
bool value_equal(const struct schema_key *k, const void *a, const void *b);
