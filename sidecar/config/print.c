/* The effective configuration: shown, hashed, compared. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/meta.h"
#include "sidecar/config/schema.h"
#include "sidecar/config/value.h"

#define KEY_COLUMNS   52
#define VALUE_COLUMNS 28

/* ---- origins ---- */

/* Where the value comes from; *inherited when an upstream has it from `defaults`. */
static const struct place *origin(const struct config *cfg, const void *field, bool *inherited)
{
	const struct place *at = meta_place(cfg, field);
	uintptr_t address = (uintptr_t)field;

	*inherited = false;
	for (uint32_t i = 0; !at && i < cfg->upstreams_len; i++) {
		uintptr_t policy = (uintptr_t)&cfg->upstreams[i].policy;

		if (address >= policy && address < policy + sizeof(struct config_policy)) {
			at = meta_place(cfg, (const char *)&cfg->defaults + (address - policy));
			*inherited = true;
			break;
		}
	}
	return at;
}

static const char *kind_name(const struct place *at)
{
	static const char *const names[] = { "default", "preset", "file", "env", "set" };

	return names[at ? at->kind : PLACE_DEFAULT];
}

static void print_origin(const struct config *cfg, const void *field, FILE *out)
{
	bool inherited;
	const struct place *at = origin(cfg, field, &inherited);

	fputs(kind_name(at), out);
	if (at && at->kind == PLACE_FILE)
		fprintf(out, " %s:%u:%u", cfg->meta->file, (unsigned)at->line,
			(unsigned)at->column);
	else if (at && at->name)
		fprintf(out, " %s", at->name);
	if (inherited && at)
		fputs(" (defaults)", out);
}

static void print_origin_json(const struct config *cfg, const void *field, FILE *out)
{
	bool inherited;
	const struct place *at = origin(cfg, field, &inherited);

	fprintf(out, ",\"origin\":{\"kind\":\"%s\"", kind_name(at));
	if (at && at->kind == PLACE_FILE) {
		fputs(",\"file\":", out);
		value_print_quoted(cfg->meta->file, out);
		fprintf(out, ",\"line\":%u,\"column\":%u", (unsigned)at->line,
			(unsigned)at->column);
	} else if (at && at->name) {
		fputs(",\"name\":", out);
		value_print_quoted(at->name, out);
	}
	fprintf(out, ",\"inherited\":%s}", inherited ? "true" : "false");
}

/* ---- forms ---- */

struct printer {
	const struct config *cfg;
	FILE *out;
	bool origin;
	bool first;
	char last[SCHEMA_PATH_MAX];
};

/* Prints the value padded to the column of the origin; `out` may be a pipe, so the text is made first. */
static void print_padded(const struct schema_key *k, const void *field, FILE *out)
{
	char *text = NULL;
	size_t len = 0;
	FILE *mem = open_memstream(&text, &len);

	if (!mem) {
		value_print(k, field, CONFIG_FORM_TEXT, out);
		putc(' ', out);
		return;
	}
	value_print(k, field, CONFIG_FORM_TEXT, mem);
	if (fclose(mem) == 0)
		fprintf(out, "%-*s ", VALUE_COLUMNS, text);
	free(text);
}

static int visit_text(void *arg, const char *path, const struct schema_key *k, const void *field)
{
	struct printer *p = arg;

	fprintf(p->out, "%-*s ", KEY_COLUMNS, path);
	if (p->origin) {
		print_padded(k, field, p->out);
		print_origin(p->cfg, field, p->out);
	} else {
		value_print(k, field, CONFIG_FORM_TEXT, p->out);
	}
	putc('\n', p->out);
	return 0;
}

static int visit_json(void *arg, const char *path, const struct schema_key *k, const void *field)
{
	struct printer *p = arg;

	fputs(p->first ? "\n" : ",\n", p->out);
	p->first = false;
	fputs("{\"key\":", p->out);
	value_print_quoted(path, p->out);
	fputs(",\"value\":", p->out);
	value_print(k, field, CONFIG_FORM_JSON, p->out);
	if (p->origin)
		print_origin_json(p->cfg, field, p->out);
	fprintf(p->out, ",\"apply\":\"%s\"}", k->flags & SCHEMA_RESTART ? "restart" : "reload");
	return 0;
}

/* Length of the part both paths begin with, cut behind a dot. */
static size_t common(const char *a, const char *b)
{
	size_t cut = 0;

	for (size_t i = 0; a[i] && a[i] == b[i]; i++) {
		if (a[i] == '.')
			cut = i + 1;
	}
	return cut;
}

static void indent(const char *path, size_t len, FILE *out)
{
	for (size_t i = 0; i < len; i++) {
		if (path[i] == '.')
			fputs("  ", out);
	}
}

static int visit_yaml(void *arg, const char *path, const struct schema_key *k, const void *field)
{
	static const char list[] = "listeners."; /* the one sequence of groups */
	struct printer *p = arg;
	size_t at = common(p->last, path);
	const char *dot;

	for (; (dot = strchr(path + at, '.')) != NULL; at = (size_t)(dot - path) + 1) {
		indent(path, at, p->out);
		if (at == sizeof(list) - 1 && strncmp(path, list, at) == 0)
			fputs("-\n", p->out);
		else
			fprintf(p->out, "%.*s:\n", (int)(dot - path - (ptrdiff_t)at), path + at);
	}
	indent(path, at, p->out);
	fprintf(p->out, "%s: ", path + at);
	value_print(k, field, CONFIG_FORM_YAML, p->out);
	if (p->origin) {
		fputs("  # ", p->out);
		print_origin(p->cfg, field, p->out);
	}
	putc('\n', p->out);
	snprintf(p->last, sizeof(p->last), "%s", path);
	return 0;
}

void config_print(const struct config *cfg, enum config_form form, bool with_origin, FILE *out)
{
	struct printer p = { .cfg = cfg, .out = out, .origin = with_origin, .first = true };

	if (form == CONFIG_FORM_JSON)
		putc('[', out);
	schema_walk(cfg,
		    form == CONFIG_FORM_JSON   ? visit_json
		    : form == CONFIG_FORM_YAML ? visit_yaml
					       : visit_text,
		    &p);
	if (form == CONFIG_FORM_JSON)
		fputs("\n]\n", out);
}

/* ---- hash ---- */

static int visit_hash(void *arg, const char *path, const struct schema_key *k, const void *field)
{
	uint64_t *hash = arg;

	*hash = value_hash(k, field, value_hash_text(path, *hash));
	return 0;
}

uint64_t config_hash(const struct config *cfg)
{
	uint64_t hash = VALUE_HASH_START;

	schema_walk(cfg, visit_hash, &hash);
	return hash;
}

void config_hash_text(const struct config *cfg, char text[static CONFIG_HASH_TEXT])
{
	snprintf(text, CONFIG_HASH_TEXT, "%016" PRIx64, config_hash(cfg));
}

/* ---- differences ---- */

struct differ {
	const struct config *walked, *other;
	void (*each)(void *arg, const char *key, bool restart);
	void *arg;
	size_t count;
	bool removed; /* looking for what `other` does not have, differences are told already */
	char gone[SCHEMA_PATH_MAX]; /* the element last told as a whole */
};

static void tell(struct differ *d, const char *path, bool restart)
{
	d->each(d->arg, path, restart);
	d->count++;
}

/* A socket is kept by the supervisor from start to end: it comes and goes with a restart only. */
static bool has_socket(const struct config *cfg, const char *element)
{
	static const char upstreams[] = "upstreams.";
	size_t len = sizeof(upstreams) - 1;
	const struct config_upstream *u;

	if (strncmp(element, upstreams, len) != 0)
		return true;
	u = config_upstream(cfg, element + len);
	return u && u->listen.text;
}

/* An element that only one side has is one change: "upstreams.orders", "listeners.1". */
static void tell_element(struct differ *d, const char *path)
{
	const char *dot = strchr(path, '.');
	char element[SCHEMA_PATH_MAX];
	size_t len = strcspn(dot + 1, ".");

	snprintf(element, sizeof(element), "%.*s", (int)(dot + 1 + len - path), path);
	if (strcmp(element, d->gone) == 0)
		return;
	memcpy(d->gone, element, sizeof(element));
	tell(d, element, has_socket(d->walked, element));
}

static int visit_diff(void *arg, const char *path, const struct schema_key *k, const void *field)
{
	struct differ *d = arg;
	const void *was = schema_field(d->other, path);

	if (!was)
		tell_element(d, path);
	else if (!d->removed && !value_equal(k, was, field))
		tell(d, path, (k->flags & SCHEMA_RESTART) != 0);
	return 0;
}

size_t config_diff(const struct config *was, const struct config *now,
		   void (*each)(void *arg, const char *key, bool restart), void *arg)
{
	struct differ d = { .walked = now, .other = was, .each = each, .arg = arg };

	schema_walk(now, visit_diff, &d);
	d.walked = was;
	d.other = now;
	d.removed = true;
	d.gone[0] = '\0';
	schema_walk(was, visit_diff, &d);
	return d.count;
}
