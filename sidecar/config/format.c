/* Values to texts.  What is printed as YAML loads to the same value. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "sidecar/config/value.h"

void value_duration_text(uint64_t ns, char text[static VALUE_TEXT_MAX])
{
	static const struct {
		const char *name;
		uint64_t ns;
		/* clang-format off */
	} units[] = {
		{ "d", 86400 * CONFIG_NS_PER_S }, { "h", 3600 * CONFIG_NS_PER_S }, { "m", 60 * CONFIG_NS_PER_S },
		{ "s", CONFIG_NS_PER_S }, { "ms", CONFIG_NS_PER_MS }, { "us", 1000 }, { "ns", 1 },
	};
	/* clang-format on */
	size_t used = 0;

	if (ns == 0)
		used = (size_t)snprintf(text, VALUE_TEXT_MAX, "0");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (ns >= units[i].ns) {
			used += (size_t)snprintf(text + used, VALUE_TEXT_MAX - used,
						 "%" PRIu64 "%s", ns / units[i].ns, units[i].name);
			ns %= units[i].ns;
		}
	}
	assert(used < VALUE_TEXT_MAX);
}

static void size_text(uint64_t bytes, char text[static VALUE_TEXT_MAX])
{
	static const char *const names[] = { "", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	for (; bytes && bytes % 1024 == 0 && i < 4; i++)
		bytes /= 1024;
	snprintf(text, VALUE_TEXT_MAX, "%" PRIu64 "%s", bytes, names[i]);
}

/* value / unit without the zeros at the end, one digit at least when `point`. */
static void fraction_text(uint64_t value, uint64_t unit, int digits, bool point,
			  char text[static VALUE_TEXT_MAX])
{
	int len = snprintf(text, VALUE_TEXT_MAX, "%" PRIu64 ".%0*" PRIu64, value / unit, digits,
			   value % unit);

	while (len > 0 && text[len - 1] == '0' && (!point || text[len - 2] != '.'))
		text[--len] = '\0';
	if (len > 0 && text[len - 1] == '.')
		text[len - 1] = '\0';
}

static uint64_t load_number(const struct schema_key *k, const void *field)
{
	return k->size == sizeof(uint64_t) ? *(const uint64_t *)field : *(const uint32_t *)field;
}

static void print_number(const struct schema_key *k, const void *field, enum config_form form,
			 FILE *out)
{
	uint64_t value = load_number(k, field);
	char text[VALUE_TEXT_MAX];

	if (k->kind == SCHEMA_MODE)
		snprintf(text, sizeof(text), form == CONFIG_FORM_TEXT ? "%04o" : "\"%04o\"",
			 (unsigned)value);
	else if (value == 0 && *k->zero)
		snprintf(text, sizeof(text), form == CONFIG_FORM_JSON ? "\"%s\"" : "%s", k->zero);
	else if (k->kind == SCHEMA_DURATION && form == CONFIG_FORM_JSON)
		fraction_text(value, CONFIG_NS_PER_S, 9, false, text);
	else if (k->kind == SCHEMA_DURATION)
		value_duration_text(value, text);
	else if (k->kind == SCHEMA_SIZE && form != CONFIG_FORM_JSON)
		size_text(value, text);
	else if (k->kind == SCHEMA_PERCENT && form == CONFIG_FORM_JSON)
		fraction_text(value, 10000, 4, false, text);
	else if (k->kind == SCHEMA_PERCENT)
		fraction_text(value, 100, 2, false, text);
	else if (k->kind == SCHEMA_FACTOR)
		fraction_text(value, 1000, 3, true, text);
	else
		snprintf(text, sizeof(text), "%" PRIu64, value);
	fputs(text, out);
	if (k->kind == SCHEMA_PERCENT && form != CONFIG_FORM_JSON && (value || !*k->zero))
		putc('%', out);
}

void value_print_quoted(const char *text, FILE *out)
{
	putc('"', out);
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '"' || *p == '\\')
			fprintf(out, "\\%c", *p);
		else if (*p == '\n')
			fputs("\\n", out);
		else if (*p == '\t')
			fputs("\\t", out);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(out, "\\u%04x", *p);
		else
			putc(*p, out);
	}
	putc('"', out);
}

/* In YAML "${" begins a reference to the environment, "$${" is the plain text. */
static void print_yaml_string(const char *text, FILE *out)
{
	const char *dollar;

	putc('"', out);
	for (; (dollar = strstr(text, "${")) != NULL; text = dollar + 2) {
		for (; text < dollar; text++)
			fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
		fputs("$${", out);
	}
	for (; *text; text++)
		fprintf(out, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
	putc('"', out);
}

static void print_string(const char *text, enum config_form form, FILE *out)
{
	if (!text)
		fputs("null", out);
	else if (form == CONFIG_FORM_JSON)
		value_print_quoted(text, out);
	else if (form == CONFIG_FORM_YAML)
		print_yaml_string(text, out);
	else
		fputs(text, out);
}

static void print_set(const struct schema_key *k, uint32_t set, enum config_form form, FILE *out)
{
	const char *quote = form == CONFIG_FORM_TEXT ? "" : "\"", *comma = "";

	putc('[', out);
	for (uint32_t i = 0; i < k->words->len; i++) {
		if (config_set_has(set, i)) {
			fprintf(out, "%s%s%s%s", comma, quote, k->words->word[i].word, quote);
			comma = ", ";
		}
	}
	putc(']', out);
}

/* Runs of three and more become a range. */
static void print_statuses(const struct config_statuses *set, enum config_form form, FILE *out)
{
	const char *quote = form == CONFIG_FORM_JSON ? "\"" : "", *comma = "";
	unsigned end;

	putc('[', out);
	for (unsigned s = 100; s <= CONFIG_STATUS_MAX; s = end + 1) {
		end = s;
		if (!config_status_in(set, s))
			continue;
		while (config_status_in(set, end + 1))
			end++;
		if (end < s + 2)
			end = s;
		if (end > s)
			fprintf(out, "%s%s%u-%u%s", comma, quote, s, end, quote);
		else
			fprintf(out, "%s%s%u%s", comma, quote, s, quote);
		comma = ", ";
	}
	putc(']', out);
}

static void print_strings(const struct config_strings *s, enum config_form form, FILE *out)
{
	putc('[', out);
	for (uint32_t i = 0; i < s->len; i++) {
		if (i)
			fputs(", ", out);
		print_string(s->item[i], form, out);
	}
	putc(']', out);
}

/* Values of fields may be secrets: names alone, in every form. */
static void print_pairs(const struct config_pairs *p, FILE *out)
{
	putc('{', out);
	for (uint32_t i = 0; i < p->len; i++) {
		if (i)
			fputs(", ", out);
		value_print_quoted(p->item[i].name, out);
		fputs(": \"<redacted>\"", out);
	}
	putc('}', out);
}

static void print_secret(const struct schema_key *k, const void *field, enum config_form form,
			 FILE *out)
{
	if (k->kind == SCHEMA_PAIRS)
		print_pairs(field, out);
	else if (*(const char *const *)field)
		print_string("<redacted>", form, out);
	else
		fputs("null", out);
}

void value_print(const struct schema_key *k, const void *field, enum config_form form, FILE *out)
{
	uint32_t word;

	if (k->flags & SCHEMA_SECRET) {
		print_secret(k, field, form, out);
		return;
	}
	switch (k->kind) {
	case SCHEMA_BOOL:
		fputs(*(const bool *)field ? "true" : "false", out);
		break;
	case SCHEMA_ENUM:
		memcpy(&word, field, sizeof(word));
		fprintf(out, form == CONFIG_FORM_TEXT ? "%s" : "\"%s\"", k->words->word[word].word);
		break;
	case SCHEMA_SET:
		print_set(k, *(const uint32_t *)field, form, out);
		break;
	case SCHEMA_STRING:
	case SCHEMA_FILE:
		print_string(*(const char *const *)field, form, out);
		break;
	case SCHEMA_ADDRESS:
		print_string(((const struct config_address *)field)->text, form, out);
		break;
	case SCHEMA_URL:
		print_string(((const struct config_url *)field)->text, form, out);
		break;
	case SCHEMA_STRINGS:
		print_strings(field, form, out);
		break;
	case SCHEMA_PAIRS:
		print_pairs(field, out);
		break;
	case SCHEMA_STATUSES:
		print_statuses(field, form, out);
		break;
	default:
		print_number(k, field, form, out);
	}
}

/* ---- comparing ---- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_strings(const struct config_strings *a, const struct config_strings *b)
{
	if (a->len != b->len)
		return false;
	for (uint32_t i = 0; i < a->len; i++) {
		if (strcmp(a->item[i], b->item[i]) != 0)
			return false;
	}
	return true;
}

static bool same_pairs(const struct config_pairs *a, const struct config_pairs *b)
{
	if (a->len != b->len)
		return false;
	for (uint32_t i = 0; i < a->len; i++) {
		if (strcmp(a->item[i].name, b->item[i].name) != 0 ||
		    strcmp(a->item[i].value, b->item[i].value) != 0)
			return false;
	}
	return true;
}

bool value_equal(const struct schema_key *k, const void *a, const void *b)
{
	switch (k->kind) {
	case SCHEMA_STRING:
	case SCHEMA_FILE:
		return same_text(*(const char *const *)a, *(const char *const *)b);
	case SCHEMA_ADDRESS:
		return same_text(((const struct config_address *)a)->text,
				 ((const struct config_address *)b)->text);
	case SCHEMA_URL:
		return same_text(((const struct config_url *)a)->text,
				 ((const struct config_url *)b)->text);
	case SCHEMA_STRINGS:
		return same_strings(a, b);
	case SCHEMA_PAIRS:
		return same_pairs(a, b);
	default:
		return memcmp(a, b, k->size) == 0;
	}
}

/* ---- hashing ---- */

static uint64_t hash_bytes(const void *data, size_t len, uint64_t hash)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* The NUL is hashed as well, so "ab","c" and "a","bc" differ; null and "" differ, too. */
uint64_t value_hash_text(const char *text, uint64_t hash)
{
	return text ? hash_bytes(text, strlen(text) + 1, hash) : hash_bytes("\xff", 1, hash);
}

static uint64_t hash_strings(const struct config_strings *s, uint64_t hash)
{
	for (uint32_t i = 0; i < s->len; i++)
		hash = value_hash_text(s->item[i], hash);
	return hash;
}

static uint64_t hash_pairs(const struct config_pairs *p, uint64_t hash)
{
	for (uint32_t i = 0; i < p->len; i++)
		hash = value_hash_text(p->item[i].value, value_hash_text(p->item[i].name, hash));
	return hash;
}

uint64_t value_hash(const struct schema_key *k, const void *field, uint64_t hash)
{
	switch (k->kind) {
	case SCHEMA_STRING:
	case SCHEMA_FILE:
		return value_hash_text(*(const char *const *)field, hash);
	case SCHEMA_ADDRESS:
		return value_hash_text(((const struct config_address *)field)->text, hash);
	case SCHEMA_URL:
		return value_hash_text(((const struct config_url *)field)->text, hash);
	case SCHEMA_STRINGS:
		return hash_strings(field, hash);
	case SCHEMA_PAIRS:
		return hash_pairs(field, hash);
	default:
		return hash_bytes(field, k->size, hash);
	}
}
