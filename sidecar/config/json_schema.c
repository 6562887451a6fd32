/*
 * The table as a JSON Schema, draft 2020-12, for editors and CI.  It says what can be said of one key;
 * relations between keys are the work of config_check().
 */
#include <errno.h>
#include <string.h>

#include "sidecar/config/schema.h"
#include "sidecar/config/value.h"

/* A value may come from the environment: what it is shows only when it is loaded. */
#define FROM_ENV "{\"type\":\"string\",\"pattern\":\"\\\\$\\\\{env:\"}"

static void print_pattern(const char *pattern, FILE *out)
{
	fputs("{\"type\":\"string\",\"pattern\":", out);
	value_print_quoted(pattern, out);
	putc('}', out);
}

/* "anyOf":[a number, a text with a unit, the word for 0, a reference to the environment] */
static void print_number_type(const struct schema_key *k, const char *type, const char *pattern,
			      FILE *out)
{
	fprintf(out, "\"anyOf\":[{\"type\":\"%s\",\"minimum\":0}", type);
	if (pattern) {
		putc(',', out);
		print_pattern(pattern, out);
	}
	if (*k->zero) {
		fputs(",{\"const\":", out);
		value_print_quoted(k->zero, out);
		/* YAML 1.1 readers make a boolean of the bare word off. */
		fputs(strcmp(k->zero, "off") == 0 ? "},{\"const\":false}" : "}", out);
	}
	fputs("," FROM_ENV "]", out);
}

static void print_uint(const struct schema_key *k, FILE *out)
{
	bool zero = *k->zero || !*k->min;

	fputs("\"anyOf\":[{\"type\":\"integer\"", out);
	fprintf(out, ",\"minimum\":%s", zero ? "0" : k->min);
	if (*k->max)
		fprintf(out, ",\"maximum\":%s", k->max);
	putc('}', out);
	if (*k->zero) {
		fputs(",{\"const\":", out);
		value_print_quoted(k->zero, out);
		putc('}', out);
	}
	fputs("," FROM_ENV "]", out);
}

/* "off", "1.2" and the like: what a YAML reader makes of a bare word may be a boolean or a number. */
static void print_word(const char *word, FILE *out)
{
	value_print_quoted(word, out);
	if (strcmp(word, "on") == 0)
		fputs(",true", out);
	else if (strcmp(word, "off") == 0)
		fputs(",false", out);
	else if (word[0] >= '0' && word[0] <= '9')
		fprintf(out, ",%s", word);
}

static void print_enum(const struct schema_key *k, FILE *out)
{
	const char *comma = "";
	uint32_t i = 0;

	while (*k->min && strcmp(k->words->word[i].word, k->min) != 0)
		i++;
	fputs("\"anyOf\":[{\"enum\":[", out);
	for (; i < k->words->len; i++) {
		fputs(comma, out);
		print_word(k->words->word[i].word, out);
		comma = ",";
	}
	fputs("]}," FROM_ENV "]", out);
}

static void print_set(const struct schema_key *k, FILE *out)
{
	fputs("\"type\":[\"array\",\"null\"],\"items\":{\"anyOf\":[{\"enum\":[", out);
	for (uint32_t i = 0; i < k->words->len; i++) {
		if (i)
			putc(',', out);
		value_print_quoted(k->words->word[i].word, out);
	}
	fputs("]}," FROM_ENV "]}", out);
}

static void print_text(const struct schema_key *k, FILE *out)
{
	fputs(*k->min ? "\"type\":\"string\"" : "\"type\":[\"string\",\"null\"]", out);
	if (*k->min && k->kind == SCHEMA_STRING)
		fprintf(out, ",\"minLength\":%s", k->min);
	if (*k->max)
		fprintf(out, ",\"maxLength\":%s", k->max);
}

static void print_statuses(FILE *out)
{
	fputs("\"type\":[\"array\",\"null\"],\"items\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":100,\"maximum\":599},",
	      out);
	print_pattern("^([1-5][0-9][0-9](-[1-5][0-9][0-9])?|[1-5]xx)$", out);
	fputs("," FROM_ENV "]}", out);
}

static void print_type(const struct schema_key *k, FILE *out)
{
	switch (k->kind) {
	case SCHEMA_BOOL:
		fputs("\"anyOf\":[{\"type\":\"boolean\"}," FROM_ENV "]", out);
		break;
	case SCHEMA_UINT:
		print_uint(k, out);
		break;
	case SCHEMA_SIZE:
		print_number_type(k, "number", "^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB|TiB|kB|MB|GB)?$",
				  out);
		break;
	case SCHEMA_DURATION:
		print_number_type(k, "number",
				  "^([0-9]+(\\.[0-9]+)?|([0-9]+(\\.[0-9]+)?(d|h|m|s|ms|us|ns))+)$",
				  out);
		break;
	case SCHEMA_PERCENT:
		print_number_type(k, "number", "^[0-9]+(\\.[0-9]+)?%?$", out);
		break;
	case SCHEMA_FACTOR:
		print_number_type(k, "number", "^[0-9]+(\\.[0-9]+)?$", out);
		break;
	case SCHEMA_MODE:
		print_number_type(k, "integer", "^[0-7]{1,5}$", out);
		break;
	case SCHEMA_ENUM:
		print_enum(k, out);
		break;
	case SCHEMA_SET:
		print_set(k, out);
		break;
	case SCHEMA_URL:
		fputs("\"type\":\"string\",\"pattern\":\"^([Hh][Tt][Tt][Pp][Ss]?://|\\\\$\\\\{env:)\"",
		      out);
		break;
	case SCHEMA_STRINGS:
		fprintf(out,
			"\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"},\"maxItems\":%s",
			k->max);
		break;
	case SCHEMA_PAIRS:
		fprintf(out,
			"\"type\":[\"object\",\"null\"],\"additionalProperties\":{\"type\":[\"string\",\"number\","
			"\"boolean\",\"null\"]},\"maxProperties\":%s",
			k->max);
		break;
	case SCHEMA_STATUSES:
		print_statuses(out);
		break;
	default:
		print_text(k, out);
	}
}

static void print_member(const char *name, const char *text, FILE *out)
{
	fprintf(out, ",\"%s\":", name);
	value_print_quoted(text, out);
}

static void print_value(const struct schema_key *k, FILE *out)
{
	putc('{', out);
	print_type(k, out);
	print_member("description", k->doc, out);
	if (*k->def && strcmp(k->name, "version") != 0 && !schema_is_list(k))
		print_member("default", strcmp(k->def, "0") == 0 && *k->zero ? k->zero : k->def,
			     out);
	putc('}', out);
}

static void print_key(const struct schema_key *k, FILE *out)
{
	if (schema_is_value(k)) {
		print_value(k, out);
		return;
	}
	putc('{', out);
	if (k->kind == SCHEMA_SUB)
		fprintf(out, "\"$ref\":\"#/$defs/%s\"", k->group->tag);
	else if (k->kind == SCHEMA_LIST)
		fprintf(out,
			"\"type\":[\"array\",\"null\"],\"maxItems\":%u,\"items\":{\"$ref\":\"#/$defs/%s\"}",
			(unsigned)k->limit, k->group->tag);
	else
		fprintf(out,
			"\"type\":[\"object\",\"null\"],\"maxProperties\":%u,\"propertyNames\":{\"pattern\":"
			"\"^[a-z0-9]([a-z0-9-]{0,%d}[a-z0-9])?$\"},\"additionalProperties\":{\"$ref\":\"#/$defs/%s\"}",
			(unsigned)k->limit, CONFIG_NAME_MAX - 2, k->group->tag);
	print_member("description", k->doc, out);
	putc('}', out);
}

static void print_properties(const struct schema_group *g, const char **comma, FILE *out)
{
	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];
		size_t offset;

		if (k->kind == SCHEMA_NAME)
			continue;
		if (k->kind == SCHEMA_INLINE) {
			print_properties(k->group, comma, out);
			continue;
		}
		fprintf(out, "%s\n", *comma);
		value_print_quoted(k->name, out);
		putc(':', out);
		print_key(k->kind == SCHEMA_ALIAS ? schema_find(g, k->doc, strlen(k->doc), &offset)
						  : k,
			  out);
		*comma = ",";
	}
}

static void print_group(const struct schema_group *g, FILE *out)
{
	const char *comma = "";

	/* A group without members is written as nothing at all: null. */
	fputs(g == &schema_root ? "\"type\":\"object\"" : "\"type\":[\"object\",\"null\"]", out);
	print_member("description", g->doc, out);
	fputs(",\"additionalProperties\":false,\"properties\":{", out);
	print_properties(g, &comma, out);
	putc('}', out);
}

static void print_defs(const struct schema_group *g, const char **comma, FILE *out)
{
	for (uint32_t i = 0; i < g->len; i++) {
		const struct schema_key *k = &g->key[i];

		if (!k->group)
			continue;
		/* upstream inlines policy, which `defaults` has defined before. */
		if (k->kind != SCHEMA_INLINE) {
			print_defs(k->group, comma, out);
			fprintf(out, "%s\n\"%s\":{", *comma, k->group->tag);
			print_group(k->group, out);
			putc('}', out);
			*comma = ",";
		}
	}
}

void config_json_schema(FILE *out)
{
	const char *comma = "";

	fputs("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"rhc-sidecar configuration\",",
	      out);
	print_group(&schema_root, out);
	fputs(",\"required\":[\"version\"],\"$defs\":{", out);
	print_defs(&schema_root, &comma, out);
	fputs("}}\n", out);
}
