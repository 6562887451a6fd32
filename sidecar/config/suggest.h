/*
 * sidecar/config/suggest.h - which word was probably meant.
 *
 * Shape    pure functions.
 * Limits   words longer than SUGGEST_MAX are never similar.
 */
#pragma once

#include <stddef.h>

#define SUGGEST_MAX 48

/* Damerau-Levenshtein distance (optimal string alignment), letter case not counted. */
unsigned suggest_distance(const char *a, size_t a_len, const char *b, size_t b_len);

/* Remembers the nearest candidate so far; zero it, offer each candidate, read ->best. */
struct suggest {
	const char *best;
	unsigned distance;
};

void suggest_offer(struct suggest *s, const char *word, size_t len, const char *candidate);
