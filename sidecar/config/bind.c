#include "sidecar/config/bind.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/schema.h"
#include "sidecar/config/value.h"

struct binder {
	struct config *cfg;
	const struct node *root;
	const struct reporter *r;
	struct arena *arena;
	char path[SCHEMA_PATH_MAX]; /* of the group being bound, for messages */
};

static int bind_group(struct binder *b, const struct schema_group *g, char *base,
		      const struct node *n);

/* ---- messages ---- */

/* Appends a part to the path; returns the length to cut back to.  A path too long is only shown shorter. */
static size_t enter(struct binder *b, const char *part)
{
	size_t len = strlen(b->path);

	snprintf(b->path + len, sizeof(b->path) - len, "%s%s", len ? "." : "", part);
	return len;
}

static void leave(struct binder *b, size_t len)
{
	b->path[len] = '\0';
}

static int complain(const struct binder *b, const struct schema_key *k, const struct node *n,
		    const struct value_complaint *c, int err)
{
	struct place at = n->at;
	const char *hint = c->hint;

	if (err == -ENOMEM)
		return err;
	at.secret = (k->flags & SCHEMA_SECRET) != 0;
	if (strcmp(k->name, "version") == 0 && !*b->path)
		hint = "this release reads version 1";
	report(b->r, c->id, &at, hint, c->suggestion, "%s%s%s: %s", b->path, *b->path ? "." : "",
	       k->name, c->text);
	return 0;
}

static int wrong_kind(const struct binder *b, const struct schema_key *k, const struct node *n)
{
	struct value_complaint c;

	value_complain(&c, -EINVAL, "E004", "%s where %s is needed", tree_kind_name(n),
		       value_kind_name(k));
	c.hint[0] = '\0';
	if (n->kind == NODE_SCALAR && schema_is_list(k) && !tree_is_null(n))
		snprintf(c.hint, sizeof(c.hint), "write [%.100s]", n->text);
	c.suggestion = NULL;
	return complain(b, k, n, &c, -EINVAL);
}

static int record(struct binder *b, const void *field, const struct place *at)
{
	return places_add(&b->cfg->meta->places, b->arena, field, at);
}

/* ---- values ---- */

static int bind_items(struct binder *b, const struct schema_key *k, void *field,
		      const struct node *n)
{
	struct value_complaint c;
	int err = value_clear(k, n->children, b->arena, field);

	for (const struct node *item = n->child; item && !err; item = item->next) {
		if (item->kind != NODE_SCALAR || tree_is_null(item)) {
			err = wrong_kind(b, k, item);
			continue;
		}
		err = value_add(k, item->text, item->len, b->arena, field, &c);
		if (err)
			err = complain(b, k, item, &c, err);
	}
	return err;
}

/* Commas only where a sequence cannot be written comfortably; in the file they would hide a mistake. */
static int bind_list(struct binder *b, const struct schema_key *k, void *field,
		     const struct node *n)
{
	struct value_complaint c;
	int err;

	if (n->kind == NODE_SEQUENCE)
		return bind_items(b, k, field, n);
	if (n->kind != NODE_SCALAR || n->at.kind == PLACE_FILE)
		return wrong_kind(b, k, n);
	err = value_parse_commas(k, n->text, n->len, b->arena, field, &c);
	return err ? complain(b, k, n, &c, err) : 0;
}

static int bind_pairs(struct binder *b, const struct schema_key *k, void *field,
		      const struct node *n)
{
	struct value_complaint c;
	int err;

	if (n->kind != NODE_MAPPING)
		return wrong_kind(b, k, n);
	err = value_clear(k, n->children, b->arena, field);
	for (const struct node *m = n->child; m && !err; m = m->next) {
		if (m->kind != NODE_SCALAR) {
			c = (struct value_complaint){ 0 };
			err = value_complain(&c, -EINVAL, "E004", "%s where a text is needed",
					     tree_kind_name(m));
			err = complain(b, k, m, &c, err);
			continue;
		}
		err = value_add_pair(k, m->key, m->text, m->len, b->arena, field, &c);
		if (err)
			err = complain(b, k, m, &c, err);
		/* Its own place: whether the value came from the environment decides on W111. */
		else if (!m->expanded && m->at.kind == PLACE_FILE)
			err = record(b,
				     &((struct config_pairs *)field)
					      ->item[((struct config_pairs *)field)->len - 1],
				     &m->at);
	}
	return err;
}

static int bind_scalar(struct binder *b, const struct schema_key *k, void *field,
		       const struct node *n)
{
	struct value_complaint c;
	int err;

	if (n->kind != NODE_SCALAR)
		return wrong_kind(b, k, n);
	err = value_parse(k, n->text, n->len, b->arena, field, &c);
	/* The default address would collide with others, and nobody wrote it. */
	if (err && k->kind == SCHEMA_ADDRESS)
		memset(field, 0, k->size);
	return err ? complain(b, k, n, &c, err) : 0;
}

/* The place is kept also of what could not be bound: it was written, so it is not missing. */
static int bind_value(struct binder *b, const struct schema_key *k, void *field,
		      const struct node *n)
{
	int err;

	if (tree_is_null(n))
		err = value_set_null(k, field) ? 0 : wrong_kind(b, k, n);
	else if (schema_is_list(k))
		err = bind_list(b, k, field, n);
	else if (k->kind == SCHEMA_PAIRS)
		err = bind_pairs(b, k, field, n);
	else
		err = bind_scalar(b, k, field, n);
	return err ? err : record(b, field, &n->at);
}

/* ---- elements ---- */

bool bind_valid_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > CONFIG_NAME_MAX || name[0] == '-' || name[len - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static int check_name(const struct binder *b, const struct node *n)
{
	char hint[80];

	if (bind_valid_name(n->key))
		return 0;
	snprintf(hint, sizeof(hint), "small letters, digits and - between them, at most %d",
		 CONFIG_NAME_MAX);
	report(b->r, "E004", &n->key_at, hint, NULL, "\"%.60s\" is not a name for an upstream",
	       n->key);
	return -EINVAL;
}

/* Elements start from the defaults of their group, an upstream from the policies below `defaults`. */
static int init_element(struct binder *b, const struct schema_key *k, char *element,
			const struct node *n)
{
	int err = schema_init(k->group, element, b->arena);

	if (!err && k->group == &schema_upstream) {
		struct config_upstream *u = (struct config_upstream *)(void *)element;

		u->policy = b->cfg->defaults;
		u->name = n->key;
	}
	return err;
}

static int too_many(const struct binder *b, const struct schema_key *k, const struct node *n)
{
	report(b->r, "E005", &n->at, NULL, NULL, "too many %s: at most %u", k->name,
	       (unsigned)k->limit);
	return 0;
}

static void store_elements(const struct schema_key *k, char *base, char *elements, uint32_t len)
{
	*(char **)(void *)(base + k->offset) = elements;
	*(uint32_t *)(void *)(base + k->len_offset) = len;
}

static int bind_map(struct binder *b, const struct schema_key *k, char *base, const struct node *n)
{
	size_t cut, size = k->group->size;
	uint32_t len = 0;
	char *elements;
	int err = 0;

	if (tree_is_null(n))
		return 0;
	if (n->kind != NODE_MAPPING)
		return wrong_kind(b, k, n);
	if (n->children > k->limit)
		return too_many(b, k, n);
	elements = arena_alloc(b->arena, (n->children + 1) * size);
	if (!elements)
		return -ENOMEM;
	cut = enter(b, k->name);
	for (const struct node *c = n->child; c && !err; c = c->next) {
		char *element = elements + len * size;
		size_t inner;

		if (check_name(b, c))
			continue;
		len++;
		inner = enter(b, c->key);
		err = init_element(b, k, element, c);
		if (!err)
			err = record(b, element, &c->key_at);
		if (!err)
			err = bind_group(b, k->group, element, c);
		leave(b, inner);
	}
	leave(b, cut);
	store_elements(k, base, elements, len);
	return err;
}

/* Room for the listeners that upstreams ask for is kept behind those of the list. */
static uint32_t spare(const struct binder *b)
{
	const struct node *upstreams = tree_member(b->root, "upstreams", strlen("upstreams"));

	return upstreams ? upstreams->children : 0;
}

static int bind_sequence(struct binder *b, const struct schema_key *k, char *base,
			 const struct node *n)
{
	uint32_t len = n && n->kind == NODE_SEQUENCE ? n->children : 0, i = 0;
	size_t cut, size = k->group->size;
	char *elements;
	int err = 0;

	if (n && n->kind != NODE_SEQUENCE && !tree_is_null(n))
		return wrong_kind(b, k, n);
	if (len > k->limit)
		return too_many(b, k, n);
	elements = arena_alloc(b->arena, ((len ? len : 1) + spare(b)) * size);
	if (!elements)
		return -ENOMEM;
	cut = enter(b, k->name);
	/* None written means the built-in one. */
	store_elements(k, base, elements, len ? len : 1);
	if (!len)
		err = schema_init(k->group, elements, b->arena);
	for (const struct node *c = len ? n->child : NULL; c && !err; c = c->next, i++) {
		char number[12];
		size_t inner;

		snprintf(number, sizeof(number), "%u", (unsigned)i);
		inner = enter(b, number);
		err = init_element(b, k, elements + i * size, c);
		if (!err)
			err = bind_group(b, k->group, elements + i * size, c);
		leave(b, inner);
	}
	leave(b, cut);
	return err;
}

/* ---- presets ---- */

static int apply_preset(struct binder *b, enum config_preset preset)
{
	char *policy = (char *)&b->cfg->defaults;
	struct place at = { .kind = PLACE_PRESET, .name = config_preset_name(preset) };
	struct value_complaint c;
	int err = 0;

	for (size_t i = 0; i < schema_presets_len && !err; i++) {
		const struct schema_preset *p = &schema_presets[i];
		const char *dot = strchr(p->path, '.');
		const struct schema_key *sub, *k;
		size_t at_sub, at_key;

		if (p->preset != preset)
			continue;
		sub = schema_find(&schema_policy, p->path, (size_t)(dot - p->path), &at_sub);
		assert(sub && sub->group);
		k = schema_find(sub->group, dot + 1, strlen(dot + 1), &at_key);
		assert(k);
		err = value_parse(k, p->value, strlen(p->value), b->arena, policy + at_sub + at_key,
				  &c);
		assert(!err || err == -ENOMEM);
		if (!err)
			err = record(b, policy + at_sub + at_key, &at);
	}
	return err;
}

/* ---- groups ---- */

static void unknown_key(const struct binder *b, const struct schema_group *g, const struct node *c,
			size_t len)
{
	char home[SCHEMA_HOME_MAX] = "", hint[SCHEMA_HOME_MAX + 32];
	bool known = schema_home(g, c->key, len, home);

	snprintf(hint, sizeof(hint), "it belongs in %s", home);
	report(b->r, "E002", &c->key_at, known ? hint : NULL,
	       known ? NULL : schema_suggest(g, c->key, len), "unknown key \"%.80s\"%s%s", c->key,
	       *b->path ? " in " : "", b->path);
}

/* Members of the node that are no key of the group, and two names for one key. */
static void check_members(const struct binder *b, const struct schema_group *g,
			  const struct node *n)
{
	size_t offset;

	for (const struct node *c = n->child; c; c = c->next) {
		size_t len = strlen(c->key);
		const struct schema_key *k = schema_find(g, c->key, len, &offset);

		if (!k) {
			unknown_key(b, g, c, len);
			continue;
		}
		for (const struct node *d = n->child; d != c; d = d->next) {
			if (schema_find(g, d->key, strlen(d->key), &offset) == k)
				report(b->r, "E003", &c->key_at, NULL, NULL,
				       "\"%s\" and \"%s\" are the same key", d->key, c->key);
		}
	}
}

static const struct node *member(const struct schema_group *g, const struct node *n,
				 const struct schema_key *k)
{
	size_t offset;

	for (const struct node *c = n->child; c; c = c->next) {
		if (schema_find(g, c->key, strlen(c->key), &offset) == k)
			return c;
	}
	return NULL;
}

static int bind_sub(struct binder *b, const struct schema_key *k, char *base, const struct node *n)
{
	size_t cut = enter(b, k->name);
	int err = bind_group(b, k->group, base + k->offset, n);

	leave(b, cut);
	return err;
}

static int bind_members(struct binder *b, const struct schema_group *outer,
			const struct schema_group *g, char *base, const struct node *n);

static int bind_key(struct binder *b, const struct schema_group *outer, const struct schema_key *k,
		    char *base, const struct node *n)
{
	const struct node *m;

	if (k->kind == SCHEMA_INLINE)
		return bind_members(b, outer, k->group, base + k->offset, n);
	if (k->kind == SCHEMA_NAME || k->kind == SCHEMA_ALIAS)
		return 0;
	m = member(outer, n, k);
	if (k->kind == SCHEMA_LIST)
		return bind_sequence(b, k, base, m);
	if (!m)
		return 0;
	if (k->kind == SCHEMA_MAP)
		return bind_map(b, k, base, m);
	if (k->kind == SCHEMA_SUB)
		return bind_sub(b, k, base, m);
	return bind_value(b, k, base + k->offset, m);
}

/* In the order of the table, so that the preset comes before the defaults and these before the upstreams. */
static int bind_members(struct binder *b, const struct schema_group *outer,
			const struct schema_group *g, char *base, const struct node *n)
{
	int err = 0;

	for (uint32_t i = 0; i < g->len && !err; i++) {
		err = bind_key(b, outer, &g->key[i], base, n);
		if (!err && g == &schema_root && strcmp(g->key[i].name, "preset") == 0)
			err = apply_preset(b, b->cfg->preset);
	}
	return err;
}

static int bind_group(struct binder *b, const struct schema_group *g, char *base,
		      const struct node *n)
{
	if (tree_is_null(n))
		return 0;
	if (n->kind != NODE_MAPPING) {
		report(b->r, "E004", &n->at, NULL, NULL, "%s: %s where a group of keys is needed",
		       b->path, tree_kind_name(n));
		return 0;
	}
	check_members(b, g, n);
	return bind_members(b, g, g, base, n);
}

int bind_config(struct config *cfg, const struct node *root, const struct reporter *r)
{
	struct binder b = { .cfg = cfg, .root = root, .r = r, .arena = &cfg->meta->arena };

	return bind_group(&b, &schema_root, (char *)cfg, root);
}
