#include "sidecar/config/overlay.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/arena.h"
#include "sidecar/config/schema.h"

#define PREFIX     "RHC_"
#define LOG_LEVEL  "RHC_LOG" /* short for RHC_LOGGING__LEVEL */
#define PREFIX_LEN 4

/* One assignment on its way to its node. */
struct assignment {
	struct arena *arena;
	const struct reporter *r;
	struct place at;
	bool from_environ; /* letters are upper case, _ may stand for - */
	const char *value;
};

/* ---- names ---- */

/* The same name as the environment would write it. */
static bool same_environ_name(const char *a, const char *b, size_t len)
{
	if (strlen(a) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];

		if (tolower((unsigned char)x) != tolower((unsigned char)y))
			return false;
	}
	return true;
}

static struct node *find_element(const struct assignment *as, const struct node *map,
				 const char *name, size_t len)
{
	if (!as->from_environ)
		return tree_member(map, name, len);
	for (struct node *c = map->child; c; c = c->next) {
		if (c->key && same_environ_name(c->key, name, len))
			return c;
	}
	return NULL;
}

/* An element the file does not have: names are lower case, with - where the environment has _. */
static char *element_key(const struct assignment *as, const char *name, size_t len)
{
	char *key = arena_copy(as->arena, name, len);

	for (size_t i = 0; key && as->from_environ && i < len; i++)
		key[i] = key[i] == '_' ? '-' : (char)tolower((unsigned char)key[i]);
	return key;
}

/* ---- values ---- */

/* A value that begins like a YAML flow collection is one; anything else is text, as it stands. */
static int make_value(const struct assignment *as, struct node **ret)
{
	if (*as->value == '[' || *as->value == '{') {
		struct node *n = NULL;
		int err = tree_parse(as->value, strlen(as->value), &as->at, as->arena, as->r, &n);

		/* Its finding is made; the rest of the configuration is still looked at. */
		if (err || n)
			*ret = n;
		return err == -ENOMEM ? err : 0;
	}
	*ret = tree_scalar(as->arena, as->value, strlen(as->value), &as->at);
	if (*ret)
		(*ret)->plain = true;
	return *ret ? 0 : -ENOMEM;
}

/* Puts a value where `old` is, or behind the others. */
static int put(const struct assignment *as, struct node *parent, struct node *old, const char *key)
{
	struct node *n = NULL, *next;
	int err = make_value(as, &n);

	if (err || !n)
		return err;
	if (!old) {
		n->key = key;
		n->key_at = as->at;
		tree_append(parent, n);
		return 0;
	}
	next = old->next;
	key = old->key;
	*old = *n;
	old->key = key;
	old->key_at = as->at;
	old->next = next;
	return 0;
}

/* The node below which the next part of the path stands, made when it is not there. */
static int descend(const struct assignment *as, struct node *parent, struct node *old,
		   const char *key, enum node_kind kind, struct node **ret)
{
	if (old && tree_is_null(old)) {
		old->kind = kind;
	} else if (!old) {
		old = tree_mapping(as->arena, &as->at);
		if (!old)
			return -ENOMEM;
		old->kind = kind;
		old->key = key;
		old->key_at = as->at;
		tree_append(parent, old);
	}
	/* Something else stands there: the binder says so at its place, and this is not laid over. */
	*ret = old->kind == kind ? old : NULL;
	return 0;
}

/* ---- paths ---- */

static void unknown(const struct assignment *as, const struct schema_group *g, const char *part,
		    size_t len)
{
	report(as->r, "E002", &as->at, NULL, g ? schema_suggest(g, part, len) : NULL,
	       "unknown key \"%.*s\"", len > 80 ? 80 : (int)len, part);
}

static int assign_group(const struct assignment *as, const struct schema_group *g, struct node *n,
			const char *path);

/* A path that ends at a group, list or map sets all of it. */
static int assign_map(const struct assignment *as, const struct schema_key *k, struct node *map,
		      const char *path)
{
	size_t len = strcspn(path, ".");
	struct node *old = find_element(as, map, path, len), *next;
	const char *key;
	int err;

	if (len == 0 || map->children == TREE_CHILDREN_MAX) {
		unknown(as, NULL, path, len);
		return 0;
	}
	key = old ? old->key : element_key(as, path, len);
	if (!key)
		return -ENOMEM;
	if (!path[len] || k->kind == SCHEMA_PAIRS)
		return put(as, map, old, key);
	err = descend(as, map, old, key, NODE_MAPPING, &next);
	return err || !next ? err : assign_group(as, k->group, next, path + len + 1);
}

/* Elements of a sequence have numbers; the one behind the last is new. */
static int assign_list(const struct assignment *as, const struct schema_key *k, struct node *list,
		       const char *path)
{
	size_t len = strcspn(path, "."), index = 0;
	struct node *old = list->child, *next;
	int err;

	for (size_t i = 0; i < len; i++) {
		if (path[i] < '0' || path[i] > '9' || index > k->limit) {
			index = SIZE_MAX;
			break;
		}
		index = index * 10 + (size_t)(path[i] - '0');
	}
	if (len == 0 || index > list->children || index >= k->limit) {
		report(as->r, "E002", &as->at, "elements are numbered from 0", NULL,
		       "\"%.*s\" is no element of %s", len > 80 ? 80 : (int)len, path, k->name);
		return 0;
	}
	while (index-- > 0)
		old = old->next;
	if (!path[len])
		return put(as, list, old, NULL);
	err = descend(as, list, old, NULL, NODE_MAPPING, &next);
	return err || !next ? err : assign_group(as, k->group, next, path + len + 1);
}

static int assign_below(const struct assignment *as, const struct schema_key *k, struct node *next,
			const char *path)
{
	switch (k->kind) {
	case SCHEMA_SUB:
		return assign_group(as, k->group, next, path);
	case SCHEMA_LIST:
		return assign_list(as, k, next, path);
	default:
		return assign_map(as, k, next, path);
	}
}

/* The member by the name written or by another name of the same key. */
static struct node *find_key(const struct schema_group *g, const struct node *n,
			     const struct schema_key *k)
{
	size_t offset;

	for (struct node *c = n->child; c; c = c->next) {
		if (c->key && schema_find(g, c->key, strlen(c->key), &offset) == k)
			return c;
	}
	return NULL;
}

static int assign_group(const struct assignment *as, const struct schema_group *g, struct node *n,
			const char *path)
{
	size_t len = strcspn(path, "."), offset;
	const struct schema_key *k = schema_find(g, path, len, &offset);
	bool nested = k && (!schema_is_value(k) || k->kind == SCHEMA_PAIRS);
	struct node *old, *next;
	int err;

	if (!k || (path[len] && !nested)) {
		unknown(as, k ? NULL : g, path, k ? strlen(path) : len);
		return 0;
	}
	old = find_key(g, n, k);
	if (!path[len])
		return put(as, n, old, k->name);
	err = descend(as, n, old, k->name, k->kind == SCHEMA_LIST ? NODE_SEQUENCE : NODE_MAPPING,
		      &next);
	return err || !next ? err : assign_below(as, k, next, path + len + 1);
}

/* ---- the environment ---- */

static bool starts(const char *text, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(text, with, n) == 0;
}

static bool has(const char *text, size_t len, const char *part)
{
	return memmem(text, len, part, strlen(part)) != NULL;
}

/*
 * Variables that begin with RHC_ and are not keys: what other parts of the product read, and what Kubernetes
 * sets in every pod for a Service called "rhc" or "rhc-…" (RHC_SERVICE_HOST, RHC_PORT_80_TCP_ADDR).
 */
static bool foreign(const char *name, size_t len)
{
	static const char *const known[] = { "RHC_CPU_LIMIT", "RHC_MEMORY_LIMIT", "RHC_CONFIG",
					     "RHC_SHM" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i]) == len && memcmp(known[i], name, len) == 0)
			return true;
	}
	if (has(name, len, "__"))
		return false;
	return has(name, len, "_SERVICE_HOST") || has(name, len, "_SERVICE_PORT") ||
	       has(name, len, "_PORT_") || (len >= 5 && memcmp(name + len - 5, "_PORT", 5) == 0);
}

/* RHC_DEFAULTS__TIMEOUT__READ -> defaults.timeout.read */
static char *environ_path(struct arena *a, const char *name, size_t len)
{
	char *path = arena_alloc(a, len + 1);
	size_t used = 0;

	for (size_t i = PREFIX_LEN; path && i < len; i++) {
		if (name[i] == '_' && i + 1 < len && name[i + 1] == '_') {
			path[used++] = '.';
			i++;
		} else {
			path[used++] = (char)tolower((unsigned char)name[i]);
		}
	}
	return path;
}

static int assign_variable(struct node *root, const char *variable, struct arena *a,
			   const struct reporter *r)
{
	size_t len = strcspn(variable, "=");
	struct assignment as = { .arena = a, .r = r, .from_environ = true, .at.kind = PLACE_ENV };
	char *path;

	if (!starts(variable, len, PREFIX) || !variable[len] || foreign(variable, len))
		return 0;
	as.at.name = arena_copy(a, variable, len);
	path = len == strlen(LOG_LEVEL) && starts(variable, len, LOG_LEVEL)
		       ? arena_copy(a, "logging.level", strlen("logging.level"))
		       : environ_path(a, variable, len);
	if (!as.at.name || !path)
		return -ENOMEM;
	as.value = variable + len + 1;
	return assign_group(&as, &schema_root, root, path);
}

int overlay_environ(struct node *root, char *const *environ, struct arena *a,
		    const struct reporter *r)
{
	int err = 0;

	for (; environ && *environ && !err; environ++)
		err = assign_variable(root, *environ, a, r);
	return err;
}

/* ---- --set ---- */

static int assign_argument(struct node *root, const char *argument, struct arena *a,
			   const struct reporter *r)
{
	size_t len = strcspn(argument, "=");
	struct assignment as = { .arena = a, .r = r, .at.kind = PLACE_SET };
	char *path = arena_copy(a, argument, len);

	if (!path)
		return -ENOMEM;
	as.at.name = path; /* without the value, which may be a secret */
	if (!argument[len] || len == 0) {
		report(r, "E004", &as.at, "write --set defaults.timeout.read=5s", NULL,
		       "not key=value");
		return 0;
	}
	as.value = argument + len + 1;
	return assign_group(&as, &schema_root, root, path);
}

int overlay_set(struct node *root, const char *const *set, size_t len, struct arena *a,
		const struct reporter *r)
{
	int err = 0;

	for (size_t i = 0; i < len && !err; i++)
		err = assign_argument(root, set[i], a, r);
	return err;
}
