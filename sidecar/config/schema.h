/*
 * sidecar/config/schema.h - the table of keys as data, for everything that walks over it.
 *
 * Shape    struct schema_group: its keys in the order of schema.def; a key that is a group points to it.
 * Owns     nothing; constant.
 * Limits   the tree of groups is not recursive and at most SCHEMA_DEPTH deep.
 */
#pragma once

#include "sidecar/config/config.h"

#define SCHEMA_DEPTH    8
#define SCHEMA_PATH_MAX 256 /* bytes of a dotted path, the NUL included */

enum schema_kind {
	SCHEMA_BOOL,
	SCHEMA_UINT,
	SCHEMA_SIZE,
	SCHEMA_DURATION,
	SCHEMA_PERCENT,
	SCHEMA_FACTOR,
	SCHEMA_MODE,
	SCHEMA_ENUM,
	SCHEMA_SET,
	SCHEMA_STRING,
	SCHEMA_FILE,
	SCHEMA_ADDRESS,
	SCHEMA_URL,
	SCHEMA_STRINGS,
	SCHEMA_PAIRS,
	SCHEMA_STATUSES,
	SCHEMA_SUB, /* from here on: no values */
	SCHEMA_INLINE,
	SCHEMA_LIST,
	SCHEMA_MAP,
	SCHEMA_NAME,
	SCHEMA_ALIAS,
};

#define SCHEMA_RELOAD  0u
#define SCHEMA_RESTART 1u
#define SCHEMA_SECRET  2u

struct schema_word {
	const char *word;
	const char *doc;
};

struct schema_enum {
	const struct schema_word *word;
	uint32_t len;
};

struct schema_group;

struct schema_key {
	const char *name;
	enum schema_kind kind;
	const struct schema_enum *words; /* of ENUM and SET */
	const char *def, *min, *max;
	const char *zero; /* the word for 0 */
	uint32_t flags;
	const char *doc;                  /* of an ALIAS: the key it stands for */
	size_t offset, size;              /* the field in the struct of the group */
	const struct schema_group *group; /* of SUB, INLINE, LIST and MAP */
	size_t len_offset;                /* of LIST and MAP: the number of elements */
	uint32_t limit;
};

struct schema_group {
	const char *tag;
	const char *doc;
	size_t size;
	const struct schema_key *key;
	uint32_t len;
};

struct schema_preset {
	enum config_preset preset;
	const char *path; /* below defaults */
	const char *value;
};

extern const struct schema_group schema_root, schema_policy, schema_upstream, schema_listener;
extern const struct schema_enum schema_words_preset, schema_words_failure, schema_words_method;
extern const struct schema_preset schema_presets[];
extern const size_t schema_presets_len;

static inline bool schema_is_value(const struct schema_key *k)
{
	return k->kind < SCHEMA_SUB;
}

/* Values made of several items, written as a sequence or with commas. */
static inline bool schema_is_list(const struct schema_key *k)
{
	return k->kind == SCHEMA_SET || k->kind == SCHEMA_STRINGS || k->kind == SCHEMA_STATUSES;
}

/*
 * The key of that name in the group, aliases and inlined groups included; NULL when there is none.
 * *ret_offset is where its field is in the struct of `g`.
 */
const struct schema_key *schema_find(const struct schema_group *g, const char *name, size_t len,
				     size_t *ret_offset);

/* The key below `g` that a dotted path means (names of MAP and LIST elements skipped), or NULL. */
const struct schema_key *schema_path(const struct schema_group *g, const char *path);

/* The field of a configuration at a path as schema_walk() names it, or NULL. */
const void *schema_field(const struct config *cfg, const char *path);

/* Fills a struct with the built-in defaults. */
struct arena;
int schema_init(const struct schema_group *g, void *base, struct arena *a);

/* The key, or the word from `first` on, that is nearest to a misspelt one, or NULL. */
const char *schema_suggest(const struct schema_group *g, const char *name, size_t len);
/*
 * Where a key that stands in the wrong place belongs: the nearest place below `g`, else below the
 * policies.  Its dotted path from `g` in ret; false when there is no such place, or more than one.
 */
enum { SCHEMA_HOME_MAX = 96 };
bool schema_home(const struct schema_group *g, const char *name, size_t len,
		 char ret[SCHEMA_HOME_MAX]);
const char *schema_suggest_word(const struct schema_enum *e, uint32_t first, const char *word,
				size_t len);

/*
 * Visits every value of a configuration: path, its key, its field.  Lists are counted from 0, listeners made
 * from upstreams are left out.  Stops when the visitor returns other than 0, and returns that.
 */
typedef int schema_visit(void *arg, const char *path, const struct schema_key *k,
			 const void *field);
int schema_walk(const struct config *cfg, schema_visit *visit, void *arg);
