/* What is known of a key: the table in words. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/schema.h"
#include "sidecar/config/suggest.h"
#include "sidecar/config/value.h"

static void print_range(const struct schema_key *k, FILE *out)
{
	if (*k->min && *k->max && k->kind < SCHEMA_ENUM)
		fprintf(out, ", from %s to %s", k->min, k->max);
	else if (*k->max && k->kind < SCHEMA_ENUM)
		fprintf(out, ", at most %s", k->max);
	else if (*k->max)
		fprintf(out, ", at most %s %s", k->max,
			schema_is_list(k) || k->kind == SCHEMA_PAIRS ? "items" : "bytes");
	if (*k->zero)
		fprintf(out, ", or %s", k->zero);
}

static void print_words(const struct schema_key *k, FILE *out)
{
	for (uint32_t i = 0; i < k->words->len; i++)
		fprintf(out, "              %-18s %s\n", k->words->word[i].word,
			k->words->word[i].doc);
}

/* The part of a path below `defaults`, from which presets and upstreams start. */
static const char *policy_path(const char *path)
{
	static const char defaults[] = "defaults.";

	return strncmp(path, defaults, sizeof(defaults) - 1) == 0 ? path + sizeof(defaults) - 1
								  : NULL;
}

static void print_presets(const char *path, FILE *out)
{
	const char *policy = policy_path(path), *comma = "  presets   ";

	for (size_t i = 0; policy && i < schema_presets_len; i++) {
		if (strcmp(schema_presets[i].path, policy) == 0) {
			fprintf(out, "%s%s %s", comma, config_preset_name(schema_presets[i].preset),
				schema_presets[i].value);
			comma = ", ";
		}
	}
	if (*comma == ',')
		putc('\n', out);
}

static void print_variable(const char *path, FILE *out)
{
	fputs("  variable  RHC_", out);
	for (; *path; path++) {
		if (*path == '.')
			fputs("__", out);
		else
			putc(*path == '-' ? '_' : toupper((unsigned char)*path), out);
	}
	putc('\n', out);
}

/* A number without a default may be 0; a text or list is null or empty. */
static const char *default_text(const struct schema_key *k)
{
	if (*k->def)
		return strcmp(k->def, "0") == 0 && *k->zero ? k->zero : k->def;
	return schema_is_list(k) ? "[]" : k->kind == SCHEMA_PAIRS ? "{}" : "null";
}

static void explain_value(const char *path, const struct schema_key *k, FILE *out)
{
	fprintf(out, "%s\n  %s\n  takes     %s", path, k->doc, value_kind_name(k));
	print_range(k, out);
	putc('\n', out);
	if (k->words->len)
		print_words(k, out);
	if (strcmp(path, "version") == 0 || k->kind == SCHEMA_URL)
		fputs("  required\n", out);
	else
		fprintf(out, "  default   %s\n", default_text(k));
	print_presets(path, out);
	if (policy_path(path))
		fprintf(out, "  override  upstreams.<name>.%s\n", policy_path(path));
	fprintf(out, "  change    %s\n",
		k->flags & SCHEMA_RESTART ? "needs a restart" : "by reload");
	if (!strchr(path, '<'))
		print_variable(path, out);
	if (k->flags & SCHEMA_SECRET)
		fputs("  secret    never printed\n", out);
}

/* One line per key below a group; `upstreams.<name>` does not repeat the policies. */
static void list_group(const char *path, const struct schema_group *g, FILE *out)
{
	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];
		char below[SCHEMA_PATH_MAX];

		if (k->kind == SCHEMA_NAME || k->kind == SCHEMA_ALIAS)
			continue;
		if (k->kind == SCHEMA_INLINE) {
			fprintf(out, "%-52s %-16s %s\n", path, "", "and every key below defaults");
			continue;
		}
		snprintf(below, sizeof(below), "%s%s%s%s", path, *path ? "." : "", k->name,
			 k->kind == SCHEMA_LIST  ? ".<number>"
			 : k->kind == SCHEMA_MAP ? ".<name>"
						 : "");
		if (k->group)
			list_group(below, k->group, out);
		else
			fprintf(out, "%-52s %-16s %s\n", below, default_text(k), k->doc);
	}
}

struct nearest {
	const char *wanted;
	unsigned distance;
	char path[SCHEMA_PATH_MAX];
};

static void offer(struct nearest *n, const char *path)
{
	unsigned d = suggest_distance(n->wanted, strlen(n->wanted), path, strlen(path));

	if (d < n->distance) {
		n->distance = d;
		snprintf(n->path, sizeof(n->path), "%s", path);
	}
}

static void offer_group(struct nearest *n, const char *path, const struct schema_group *g)
{
	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];
		char below[SCHEMA_PATH_MAX];

		if (k->kind == SCHEMA_NAME || k->kind == SCHEMA_ALIAS || k->kind == SCHEMA_INLINE)
			continue;
		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "." : "", k->name);
		offer(n, below);
		if (k->kind == SCHEMA_SUB)
			offer_group(n, below, k->group);
	}
}

static int unknown(const char *key, FILE *out)
{
	struct nearest n = { .wanted = key, .distance = (unsigned)(strlen(key) + 2) / 3 + 1 };

	offer_group(&n, "", &schema_root);
	offer_group(&n, "", &schema_policy);
	fprintf(out, "no key \"%s\"", key);
	if (*n.path)
		fprintf(out, ": did you mean \"%s\"?", n.path);
	putc('\n', out);
	return -ENOENT;
}

int config_explain(const char *key, FILE *out)
{
	const struct schema_key *k = schema_path(&schema_root, key);
	char path[SCHEMA_PATH_MAX];

	if (!*key) {
		list_group("", &schema_root, out);
		return 0;
	}
	snprintf(path, sizeof(path), "%s", key);
	if (!k) {
		/* As the guide says it: retry.max_attempts. */
		k = schema_path(&schema_policy, key);
		snprintf(path, sizeof(path), "defaults.%s", key);
	}
	if (!k || strlen(key) >= sizeof(path) - sizeof("defaults."))
		return unknown(key, out);
	if (k->group) {
		fprintf(out, "%s\n  %s\n\n", path, k->doc);
		list_group(path, k->group, out);
	} else {
		explain_value(path, k, out);
	}
	return 0;
}
