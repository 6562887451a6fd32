#include "sidecar/config/value_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "sidecar/config/arena.h"

int value_complain(struct value_complaint *c, int err, const char *id, const char *format, ...)
{
	va_list ap;

	c->id = id;
	va_start(ap, format);
	vsnprintf(c->text, sizeof(c->text), format, ap);
	va_end(ap);
	return err;
}

bool value_same(const char *word, const char *text, size_t len)
{
	return strlen(word) == len && memcmp(word, text, len) == 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

const char *value_kind_name(const struct schema_key *k)
{
	static const char *const names[] = {
		[SCHEMA_BOOL] = "true or false",
		[SCHEMA_UINT] = "a whole number",
		[SCHEMA_SIZE] = "a size like 64KiB or 1MiB, or a number of bytes",
		[SCHEMA_DURATION] = "a duration like 250ms, 30s or 1m30s, or a number of seconds",
		[SCHEMA_PERCENT] = "a share like 20% or 0.2",
		[SCHEMA_FACTOR] = "a number like 2.0",
		[SCHEMA_MODE] = "octal permissions like \"0660\"",
		[SCHEMA_ENUM] = "a word",
		[SCHEMA_SET] = "a list of words",
		[SCHEMA_STRING] = "a text",
		[SCHEMA_FILE] = "a path",
		[SCHEMA_ADDRESS] = "an address like 127.0.0.1:4640, [::1]:4640 or unix:/path",
		[SCHEMA_URL] = "a url like https://host:8443",
		[SCHEMA_STRINGS] = "a list of texts",
		[SCHEMA_PAIRS] = "a mapping of names to texts",
		[SCHEMA_STATUSES] = "a list of statuses like 503, 500-504 or 5xx",
		[SCHEMA_SUB] = "a group of keys",
		[SCHEMA_INLINE] = "",
		[SCHEMA_LIST] = "a sequence of groups",
		[SCHEMA_MAP] = "a mapping of names to groups",
		[SCHEMA_NAME] = "",
		[SCHEMA_ALIAS] = "",
	};

	return names[k->kind];
}

static const char *item_name(const struct schema_key *k)
{
	return k->kind == SCHEMA_STATUSES ? "a status like 503, 500-504 or 5xx"
					  : value_kind_name(k);
}

/* Secrets are not repeated in messages. */
int value_not_a(const struct schema_key *k, const char *text, size_t len, struct value_complaint *c)
{
	int shown = len > 60 ? 60 : (int)len;

	if (k->flags & SCHEMA_SECRET)
		return value_complain(c, -EINVAL, "E004", "this is not %s", item_name(k));
	return value_complain(c, -EINVAL, "E004", "\"%.*s\" is not %s", shown, text, item_name(k));
}

/* "must be from 1ms to 1h", with the word for 0 when there is one. */
static int out_of_range(const struct schema_key *k, const char *text, size_t len,
			struct value_complaint *c)
{
	int shown = len > 60 ? 60 : (int)len;
	bool zero = *k->zero != '\0';

	if (*k->min && *k->max)
		return value_complain(
			c, -ERANGE, "E005", "%.*s is out of range: from %s to %s%s%s%s", shown,
			text, k->min, k->max, zero ? ", or \"" : "", k->zero, zero ? "\"" : "");
	return value_complain(c, -ERANGE, "E005", "%.*s is out of range", shown, text);
}

static bool below_min(const struct schema_key *k, uint64_t value)
{
	uint64_t limit;

	if (value == 0 && *k->zero)
		return false;
	return *k->min && value_number(k->kind, k->min, strlen(k->min), &limit) == 0 &&
	       value < limit;
}

static bool above_max(const struct schema_key *k, uint64_t value)
{
	uint64_t limit;

	if (*k->max)
		return value_number(k->kind, k->max, strlen(k->max), &limit) == 0 && value > limit;
	return k->size == sizeof(uint32_t) && value > UINT32_MAX;
}

static void store_number(const struct schema_key *k, uint64_t value, void *field)
{
	if (k->size == sizeof(uint64_t))
		*(uint64_t *)field = value;
	else
		*(uint32_t *)field = (uint32_t)value;
}

static int parse_number(const struct schema_key *k, const char *text, size_t len, void *field,
			struct value_complaint *c)
{
	uint64_t value = 0;
	int err = 0;

	if (len > 1 && text[0] == '-' && is_digit(text[1]))
		return value_complain(c, -ERANGE, "E005", "%.*s is negative",
				      len > 60 ? 60 : (int)len, text);
	if (!*k->zero || !value_same(k->zero, text, len))
		err = value_number(k->kind, text, len, &value);
	if (err == -EINVAL)
		return value_not_a(k, text, len, c);
	if (err || below_min(k, value) || above_max(k, value)) {
		if (k->kind == SCHEMA_PERCENT && len && text[len - 1] != '%')
			snprintf(c->hint, sizeof(c->hint), "a bare number is a ratio: write %.*s%%",
				 len > 20 ? 20 : (int)len, text);
		return out_of_range(k, text, len, c);
	}
	store_number(k, value, field);
	return 0;
}

/* ---- words ---- */

static int parse_bool(const struct schema_key *k, const char *text, size_t len, void *field,
		      struct value_complaint *c)
{
	static const char *const yes[] = { "yes", "on", "y", "True", "TRUE", "Yes", "On", "1" };
	static const char *const no[] = { "no", "off", "n", "False", "FALSE", "No", "Off", "0" };

	if (value_same("true", text, len) || value_same("false", text, len)) {
		*(bool *)field = value_same("true", text, len);
		return 0;
	}
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (value_same(yes[i], text, len))
			c->suggestion = "true";
		else if (value_same(no[i], text, len))
			c->suggestion = "false";
	}
	return value_not_a(k, text, len, c);
}

static void list_words(const struct schema_enum *e, uint32_t first, char *text, size_t size)
{
	size_t used = (size_t)snprintf(text, size, "one of");

	for (uint32_t i = first; i < e->len && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s %s", i > first ? "," : "",
					 e->word[i].word);
}

int value_word(const struct schema_key *k, const char *text, size_t len, uint32_t *ret,
	       struct value_complaint *c)
{
	const struct schema_enum *e = k->words;
	uint32_t first = 0;

	/* An enum's min is its first word that may be written. */
	while (*k->min && first < e->len && strcmp(e->word[first].word, k->min) != 0)
		first++;
	for (uint32_t i = first; i < e->len; i++) {
		if (value_same(e->word[i].word, text, len)) {
			*ret = i;
			return 0;
		}
	}
	c->suggestion = schema_suggest_word(e, first, text, len);
	list_words(e, first, c->hint, sizeof(c->hint));
	return value_complain(c, -EINVAL, e == &schema_words_preset ? "E007" : "E004",
			      "unknown value \"%.*s\"", len > 60 ? 60 : (int)len, text);
}

static int parse_enum(const struct schema_key *k, const char *text, size_t len, void *field,
		      struct value_complaint *c)
{
	uint32_t value;
	int err = value_word(k, text, len, &value, c);

	if (!err)
		memcpy(field, &value, sizeof(value)); /* enums are as wide as unsigned, see below */
	return err;
}
_Static_assert(sizeof(enum config_level) == sizeof(uint32_t), "enum fields are stored as uint32_t");

/* ---- strings ---- */

bool value_printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	}
	return true;
}

static int parse_string(const struct schema_key *k, const char *text, size_t len, struct arena *a,
			void *field, struct value_complaint *c)
{
	uint64_t min = 0, max = UINT64_MAX;

	if (*k->min)
		value_number(SCHEMA_UINT, k->min, strlen(k->min), &min);
	if (*k->max)
		value_number(SCHEMA_UINT, k->max, strlen(k->max), &max);
	if (len < min)
		return value_complain(c, -ERANGE, "E005", "this may not be empty");
	if (len > max)
		return value_complain(c, -ERANGE, "E005", "%zu bytes are too long: at most %s", len,
				      k->max);
	if (!value_printable(text, len))
		return value_complain(c, -EINVAL, "E004",
				      "control characters are not allowed here");
	*(const char **)field = arena_copy(a, text, len);
	return *(const char **)field ? 0 : -ENOMEM;
}

int value_parse(const struct schema_key *k, const char *text, size_t len, struct arena *a,
		void *field, struct value_complaint *c)
{
	*c = (struct value_complaint){ 0 };
	switch (k->kind) {
	case SCHEMA_BOOL:
		return parse_bool(k, text, len, field, c);
	case SCHEMA_ENUM:
		return parse_enum(k, text, len, field, c);
	case SCHEMA_STRING:
	case SCHEMA_FILE:
		return parse_string(k, text, len, a, field, c);
	case SCHEMA_ADDRESS:
		return value_address(text, len, a, field, c);
	case SCHEMA_URL:
		return value_url(text, len, a, field, c);
	default:
		return parse_number(k, text, len, field, c);
	}
}

/* ---- null and default ---- */

bool value_set_null(const struct schema_key *k, void *field)
{
	switch (k->kind) {
	case SCHEMA_STRING:
	case SCHEMA_FILE:
	case SCHEMA_ADDRESS:
		if (*k->min)
			return false;
		break;
	case SCHEMA_SET:
	case SCHEMA_STRINGS:
	case SCHEMA_PAIRS:
	case SCHEMA_STATUSES:
		break;
	default:
		return false;
	}
	memset(field, 0, k->size);
	return true;
}

int value_default(const struct schema_key *k, void *field, struct arena *a,
		  struct value_complaint *c)
{
	uint64_t value = 0;

	switch (k->kind) {
	case SCHEMA_UINT:
	case SCHEMA_SIZE:
	case SCHEMA_DURATION:
	case SCHEMA_PERCENT:
	case SCHEMA_FACTOR:
	case SCHEMA_MODE:
		assert(value_number(k->kind, k->def, strlen(k->def), &value) == 0);
		store_number(k, value, field);
		return 0;
	case SCHEMA_STRING:
	case SCHEMA_FILE:
	case SCHEMA_ADDRESS:
	case SCHEMA_URL:
	case SCHEMA_PAIRS:
		if (!*k->def) {
			memset(field, 0, k->size);
			return 0;
		}
		return value_parse(k, k->def, strlen(k->def), a, field, c);
	case SCHEMA_SET:
	case SCHEMA_STRINGS:
	case SCHEMA_STATUSES:
		return value_parse_commas(k, k->def, strlen(k->def), a, field, c);
	default:
		return value_parse(k, k->def, strlen(k->def), a, field, c);
	}
}
