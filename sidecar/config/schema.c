#include "sidecar/config/schema.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/meta.h"
#include "sidecar/config/suggest.h"
#include "sidecar/config/value.h"

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

/* ---- the table as data ---- */

/* clang-format off */
static const struct schema_enum words_none;

#define ENUM_BEGIN(tag)             static const struct schema_word tag##_words[] = {
#define VALUE(tag, name, word, doc) { word, doc },
#define ENUM_END(tag)               }; \
	const struct schema_enum schema_words_##tag; \
	const struct schema_enum schema_words_##tag = { tag##_words, COUNT(tag##_words) };
#include "sidecar/config/schema.def"

#define ENUM_BEGIN(tag)
#define ENUM_END(tag) \
	const char *config_##tag##_name(enum config_##tag value) \
	{ \
		assert((size_t)value < COUNT(tag##_words)); \
		return tag##_words[value].word; \
	}
#include "sidecar/config/schema.def"

#define schema_words_none words_none
#define RELOAD  SCHEMA_RELOAD
#define RESTART SCHEMA_RESTART
#define SECRET  SCHEMA_SECRET
#define config_root config
#define FIELD(group_, field_) .offset = offsetof(struct config_##group_, field_), \
	.size = sizeof(((struct config_##group_ *)NULL)->field_)

#define GROUP_BEGIN(tag, doc_) \
	extern const struct schema_group schema_##tag; \
	static const char tag##_doc[] = doc_; \
	static const struct schema_key tag##_keys[] = {
#define GROUP_END(tag) }; \
	const struct schema_group schema_##tag = { \
		#tag, tag##_doc, sizeof(struct config_##tag), tag##_keys, COUNT(tag##_keys) };
#define KEY(group_, field_, key_, kind_, type_, def_, min_, max_, zero_, flags_, doc_) \
	{ .name = key_, .kind = SCHEMA_##kind_, .words = &schema_words_##type_, .def = def_, .min = min_, \
	  .max = max_, .zero = zero_, .flags = flags_, .doc = doc_, FIELD(group_, field_) },
#define SUB(group_, field_, key_, tag_, doc_) \
	{ .name = key_, .kind = SCHEMA_SUB, .doc = doc_, .group = &schema_##tag_, FIELD(group_, field_) },
#define INLINE(group_, field_, tag_) \
	{ .name = "", .kind = SCHEMA_INLINE, .group = &schema_##tag_, FIELD(group_, field_) },
#define NAME(group_, field_) { .name = "", .kind = SCHEMA_NAME, FIELD(group_, field_) },
#define LIST(group_, field_, key_, tag_, max_, doc_) \
	{ .name = key_, .kind = SCHEMA_LIST, .doc = doc_, .group = &schema_##tag_, .limit = max_, \
	  .len_offset = offsetof(struct config_##group_, field_##_len), FIELD(group_, field_) },
#define MAP(group_, field_, key_, tag_, max_, doc_) \
	{ .name = key_, .kind = SCHEMA_MAP, .doc = doc_, .group = &schema_##tag_, .limit = max_, \
	  .len_offset = offsetof(struct config_##group_, field_##_len), FIELD(group_, field_) },
#define ALIAS(group_, other_, key_) { .name = other_, .kind = SCHEMA_ALIAS, .doc = key_ },
#define ROOT_BEGIN(doc_) GROUP_BEGIN(root, doc_)
#define ROOT_END() GROUP_END(root)
#include "sidecar/config/schema.def"

#define PRESET(name_, path_, value_) { CONFIG_##name_, path_, value_ },
const struct schema_preset schema_presets[] = {
#include "sidecar/config/schema.def"
};
/* clang-format on */

const size_t schema_presets_len = COUNT(schema_presets);

/* ---- looking up ---- */

static bool same(const char *name, const char *text, size_t len)
{
	return strlen(name) == len && memcmp(name, text, len) == 0;
}

const struct schema_key *schema_find(const struct schema_group *g, const char *name, size_t len,
				     size_t *ret_offset)
{
	const struct schema_key *found;

	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];

		if (k->kind == SCHEMA_INLINE) {
			found = schema_find(k->group, name, len, ret_offset);
			if (found) {
				*ret_offset += k->offset;
				return found;
			}
		} else if (k->kind != SCHEMA_NAME && same(k->name, name, len)) {
			if (k->kind == SCHEMA_ALIAS)
				return schema_find(g, k->doc, strlen(k->doc), ret_offset);
			*ret_offset = k->offset;
			return k;
		}
	}
	return NULL;
}

const struct schema_key *schema_path(const struct schema_group *g, const char *path)
{
	const struct schema_key *k = NULL;
	bool skip = false; /* the next part is the name of an element */

	while (g && *path) {
		size_t len = strcspn(path, "."), offset;

		if (!skip) {
			k = schema_find(g, path, len, &offset);
			if (!k)
				return NULL;
			g = k->group;
			skip = k->kind == SCHEMA_MAP || k->kind == SCHEMA_LIST;
		} else {
			skip = false;
		}
		path += len + (path[len] == '.');
	}
	return *path ? NULL : k;
}

static void offer_keys(struct suggest *s, const struct schema_group *g, const char *name,
		       size_t len)
{
	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];

		if (k->kind == SCHEMA_INLINE)
			offer_keys(s, k->group, name, len);
		else if (k->kind != SCHEMA_NAME && k->kind != SCHEMA_ALIAS)
			suggest_offer(s, name, len, k->name);
	}
}

const char *schema_suggest(const struct schema_group *g, const char *name, size_t len)
{
	struct suggest s = { 0 };

	offer_keys(&s, g, name, len);
	return s.best;
}

/* How many keys of that name are exactly `depth` groups below; the path of the last one in ret. */
static unsigned homes_at(const struct schema_group *g, unsigned depth, const char *path,
			 const char *name, size_t len, char ret[SCHEMA_HOME_MAX])
{
	unsigned found = 0;

	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];
		char below[SCHEMA_HOME_MAX];

		if (k->kind == SCHEMA_INLINE) {
			found += homes_at(k->group, depth, path, name, len, ret);
		} else if (depth > 0 && k->kind == SCHEMA_SUB) {
			snprintf(below, sizeof(below), "%s%s.", path, k->name);
			found += homes_at(k->group, depth - 1, below, name, len, ret);
		} else if (depth == 0 && k->kind != SCHEMA_NAME && strlen(k->name) == len &&
			   memcmp(k->name, name, len) == 0) {
			snprintf(ret, SCHEMA_HOME_MAX, "%s%s", path, k->name);
			found++;
		}
	}
	return found;
}

enum { HOME_DEPTH_MAX = 3 };

static unsigned home_below(const struct schema_group *g, const char *path, const char *name, size_t len,
		       char ret[SCHEMA_HOME_MAX])
{
	unsigned found = 0;

	for (unsigned depth = 0; found == 0 && depth < HOME_DEPTH_MAX; depth++)
		found = homes_at(g, depth, path, name, len, ret);
	return found;
}

bool schema_home(const struct schema_group *g, const char *name, size_t len,
		 char ret[SCHEMA_HOME_MAX])
{
	unsigned found = 0;

	if (g == &schema_root)
		found = home_below(&schema_policy, "defaults.", name, len, ret);
	if (found == 0)
		found = home_below(g, "", name, len, ret);
	return found == 1;
}

const char *schema_suggest_word(const struct schema_enum *e, uint32_t first, const char *word,
				size_t len)
{
	struct suggest s = { 0 };

	for (uint32_t i = first; i < e->len; i++)
		suggest_offer(&s, word, len, e->word[i].word);
	return s.best;
}

/* ---- defaults ---- */

int schema_init(const struct schema_group *g, void *base, struct arena *a)
{
	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];
		struct value_complaint c;
		int err = 0;

		if (k->kind == SCHEMA_SUB || k->kind == SCHEMA_INLINE)
			err = schema_init(k->group, (char *)base + k->offset, a);
		else if (schema_is_value(k))
			err = value_default(k, (char *)base + k->offset, a, &c);
		/* A default that cannot be read is a bug of the table. */
		assert(!err || err == -ENOMEM);
		if (err)
			return err;
	}
	return 0;
}

/* ---- fields by path ---- */

static const void *find_named(const struct schema_key *k, const char *base, const char *name,
			      size_t len);

const void *schema_field(const struct config *cfg, const char *path)
{
	const struct schema_group *g = &schema_root;
	const char *base = (const char *)cfg;

	while (base) {
		size_t len = strcspn(path, "."), offset;
		const struct schema_key *k = schema_find(g, path, len, &offset);

		if (!k)
			return NULL;
		path += len + (path[len] == '.');
		if (schema_is_value(k))
			return *path ? NULL : base + offset;
		if (k->kind == SCHEMA_SUB) {
			base += offset;
		} else {
			len = strcspn(path, ".");
			base = find_named(k, base, path, len);
			path += len + (path[len] == '.');
		}
		g = k->group;
	}
	return NULL;
}

/* ---- walking ---- */

struct walk {
	schema_visit *visit;
	void *arg;
	uint32_t listeners; /* without those made from upstreams */
	char path[SCHEMA_PATH_MAX];
};

static int walk_group(struct walk *w, size_t at, const struct schema_group *g, const char *base);

/* Appends ".name" at `at` and returns the new length; names are bounded, so it always fits. */
static size_t append(struct walk *w, size_t at, const char *name)
{
	int n = snprintf(w->path + at, sizeof(w->path) - at, "%s%s", at ? "." : "", name);

	assert(n >= 0 && (size_t)n < sizeof(w->path) - at);
	return at + (size_t)n;
}

static const char *element_name(const struct schema_group *g, const char *element)
{
	for (uint32_t i = 0; i < g->len; i++) {
		if (g->key[i].kind == SCHEMA_NAME)
			return *(const char *const *)(const void *)(element + g->key[i].offset);
	}
	return "";
}

static const void *find_named(const struct schema_key *k, const char *base, const char *name,
			      size_t len)
{
	const char *element = *(const char *const *)(const void *)(base + k->offset);
	uint32_t count = *(const uint32_t *)(const void *)(base + k->len_offset);
	char number[12];

	for (uint32_t i = 0; i < count; i++, element += k->group->size) {
		snprintf(number, sizeof(number), "%u", (unsigned)i);
		if (same(k->kind == SCHEMA_MAP ? element_name(k->group, element) : number, name,
			 len))
			return element;
	}
	return NULL;
}

static int walk_elements(struct walk *w, size_t at, const struct schema_key *k, const char *base)
{
	const char *first = *(const char *const *)(const void *)(base + k->offset);
	uint32_t len = *(const uint32_t *)(const void *)(base + k->len_offset);
	int err = 0;

	if (k->group == &schema_listener)
		len = w->listeners;
	for (uint32_t i = 0; i < len && !err; i++) {
		const char *element = first + i * k->group->size;
		char number[12];

		snprintf(number, sizeof(number), "%u", (unsigned)i);
		err = walk_group(
			w,
			append(w, at,
			       k->kind == SCHEMA_MAP ? element_name(k->group, element) : number),
			k->group, element);
	}
	return err;
}

static int walk_key(struct walk *w, size_t at, const struct schema_key *k, const char *base)
{
	switch (k->kind) {
	case SCHEMA_NAME:
	case SCHEMA_ALIAS:
		return 0;
	case SCHEMA_INLINE:
		return walk_group(w, at, k->group, base + k->offset);
	case SCHEMA_SUB:
		return walk_group(w, append(w, at, k->name), k->group, base + k->offset);
	case SCHEMA_LIST:
	case SCHEMA_MAP:
		return walk_elements(w, append(w, at, k->name), k, base);
	default:
		append(w, at, k->name);
		return w->visit(w->arg, w->path, k, base + k->offset);
	}
}

static int walk_group(struct walk *w, size_t at, const struct schema_group *g, const char *base)
{
	int err = 0;

	for (uint32_t i = 0; i < g->len && !err; i++)
		err = walk_key(w, at, &g->key[i], base);
	return err;
}

int schema_walk(const struct config *cfg, schema_visit *visit, void *arg)
{
	struct walk w = { .visit = visit, .arg = arg, .listeners = cfg->meta->listeners_written };

	return walk_group(&w, 0, &schema_root, (const char *)cfg);
}
