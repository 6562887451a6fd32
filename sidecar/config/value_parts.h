/*
 * sidecar/config/value_parts.h - what value.c, number.c and list.c share.
 */
#pragma once

#include "sidecar/config/value.h"

/* A number of that kind (UINT .. MODE): 0, -EINVAL, -ERANGE. */
int value_number(enum schema_kind kind, const char *text, size_t len, uint64_t *ret);

/* The position of a word among those of the key. */
int value_word(const struct schema_key *k, const char *text, size_t len, uint32_t *ret,
	       struct value_complaint *c);

/* "\"x\" is not …"; secrets are not repeated. */
int value_not_a(const struct schema_key *k, const char *text, size_t len,
		struct value_complaint *c);

bool value_same(const char *word, const char *text, size_t len);

/* No control characters. */
bool value_printable(const char *text, size_t len);
