/*
 * tests/origin/stats.h - what the origin saw, for a test to ask.
 *
 * Shape    one struct stats per process.
 * Limits   STATS_KEYS keys are counted; further keys count as the key "other".
 */
#ifndef ORIGIN_STATS_H
#define ORIGIN_STATS_H

#include <stdint.h>

#include "tests/origin/text.h"

#define STATS_KEYS    512
#define STATS_KEY_MAX 64

struct stats_key {
	char name[STATS_KEY_MAX];
	uint64_t attempts;
};

struct stats {
	uint64_t requests;        /* heads read, but for the origin's own /stats and /control */
	uint64_t answered;        /* answers written to their end */
	uint64_t aborted;         /* the peer went away before that */
	uint64_t bad_requests;    /* refused as malformed */
	uint64_t connections_all; /* accepted ever */
	uint32_t connections;     /* open now */
	uint32_t current;         /* requests between their head and the end of the answer */
	uint32_t max;             /* the most of them at once, since the last reset */
	struct stats_key keys[STATS_KEYS];
	uint32_t keys_n;
};

extern struct stats stats;

/* Counts one attempt for a key; returns how many it has now. */
uint64_t stats_attempt(const char *key);

void stats_begin(void);
void stats_end(bool answered);

/* Everything but the open connections and current requests starts again. */
void stats_reset(void);

void stats_json(struct text *to, const char *mode);

#endif
