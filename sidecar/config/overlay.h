/*
 * sidecar/config/overlay.h - what is laid over the file: the environment and --set; and ${env:NAME} inside it.
 *
 * Shape    functions on a tree (tree.h); what they set carries its own place.
 * Owns     nothing; everything lives in the arena.
 * Errors   findings E002 (unknown key or variable), E004 (not key=value), E006 (variable not set);
 *          -ENOMEM.
 * Order    overlay_environ() before overlay_set(): the later one wins.
 */
#pragma once

#include "sidecar/config/tree.h"

struct config_source;

/* RHC_DEFAULTS__TIMEOUT__READ=5s; `root` is a mapping. */
int overlay_environ(struct node *root, char *const *environ, struct arena *a,
		    const struct reporter *r);

/* defaults.timeout.read=5s */
int overlay_set(struct node *root, const char *const *set, size_t len, struct arena *a,
		const struct reporter *r);

/*
 * Replaces ${env:NAME} and ${env:NAME:-otherwise} in every value of the tree, $${ by ${.  Done after parsing,
 * so what the variable holds cannot become structure.
 */
int overlay_expand(struct node *n, char *const *environ, struct arena *a, const struct reporter *r);
