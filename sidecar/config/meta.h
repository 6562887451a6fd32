/*
 * sidecar/config/meta.h - what a configuration knows of itself beside its values.
 *
 * Owns     the arena in which all of the configuration lives, struct config and this struct included.
 */
#pragma once

#include "sidecar/config/arena.h"
#include "sidecar/config/config.h"
#include "sidecar/config/place.h"

struct config_meta {
	struct arena arena;
	const char *file;
	const char *text;
	size_t len;
	uint32_t listeners_written; /* behind them come those made from upstreams */
	struct places places;
};

static inline struct reporter meta_reporter(const struct config_meta *m, struct findings *f)
{
	return (struct reporter){ f, m->file, m->text, m->len };
}

/* The place of a value; values that were inherited and defaults have none. */
static inline const struct place *meta_place(const struct config *cfg, const void *field)
{
	return places_find(&cfg->meta->places, field);
}
