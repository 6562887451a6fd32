#include "sidecar/config/value.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "sidecar/config/arena.h"

#define BP_PER_UNIT    10000 /* basis points in 1 */
#define MILLI_PER_UNIT 1000
#define FRACTION_DIGITS 15

int value_complain(struct value_complaint *c, int err, const char *id, const char *format, ...)
{
	va_list ap;

	c->id = id;
	va_start(ap, format);
	vsnprintf(c->text, sizeof(c->text), format, ap);
	va_end(ap);
	return err;
}

static bool same(const char *word, const char *text, size_t len)
{
	return strlen(word) == len && memcmp(word, text, len) == 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* ---- numbers ---- */

/* The digits behind a point as a part of scale; what is finer is cut off, also behind FRACTION_DIGITS. */
static uint64_t decimal_fraction(const char **p, const char *end, uint64_t scale)
{
	uint64_t digits = 0, power = 1;
	const char *s = *p;

	for (; s < end && is_digit(*s); s++) {
		if (s - *p < FRACTION_DIGITS) {
			digits = digits * 10 + (uint64_t)(*s - '0');
			power *= 10;
		}
	}
	*p = s;
	return (uint64_t)((unsigned __int128)scale * digits / power);
}

/* Digits with an optional fraction, times scale.  No locale, no exponent, no sign.  *p moves behind them. */
static int decimal(const char **p, const char *end, uint64_t scale, uint64_t *ret)
{
	uint64_t whole = 0, fraction = 0;
	const char *s = *p;

	if (s == end || !is_digit(*s))
		return -EINVAL;
	for (; s < end && is_digit(*s); s++) {
		if (__builtin_mul_overflow(whole, UINT64_C(10), &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole))
			return -ERANGE;
	}
	if (s < end && *s == '.') {
		if (++s == end || !is_digit(*s))
			return -EINVAL;
		fraction = decimal_fraction(&s, end, scale);
	}
	*p = s;
	if (__builtin_mul_overflow(whole, scale, &whole) || __builtin_add_overflow(whole, fraction, ret))
		return -ERANGE;
	return 0;
}

struct unit {
	const char *name;
	uint64_t scale;
};

/* Longest first where one begins like another; durations from long to short. */
static const struct unit duration_units[] = {
	{ "d", 86400 * CONFIG_NS_PER_S },
	{ "h", 3600 * CONFIG_NS_PER_S },
	{ "m", 60 * CONFIG_NS_PER_S },
	{ "s", CONFIG_NS_PER_S },
	{ "ms", CONFIG_NS_PER_MS },
	{ "us", 1000 },
	{ "ns", 1 },
};

static const struct unit size_units[] = {
	{ "B", 1 },
	{ "KiB", UINT64_C(1) << 10 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "TiB", UINT64_C(1) << 40 },
	{ "kB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
};

static const struct unit *find_unit(const struct unit *unit, size_t len, const char *text, size_t text_len)
{
	for (size_t i = 0; i < len; i++) {
		if (same(unit[i].name, text, text_len))
			return &unit[i];
	}
	return NULL;
}

/* Behind a number: the letters of its unit. */
static size_t unit_len(const char *p, const char *end)
{
	const char *s = p;

	while (s < end && ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')))
		s++;
	return (size_t)(s - p);
}

int value_duration(const char *text, size_t len, uint64_t *ret_ns)
{
	const char *p = text, *end = text + len, *start;
	const struct unit *unit, *last = NULL;
	uint64_t part, sum = 0;
	int err;

	/* A bare number is seconds, as the guide writes them: connect=30.0. */
	err = decimal(&p, end, CONFIG_NS_PER_S, &part);
	if (err || p == end) {
		if (!err)
			*ret_ns = part;
		return err;
	}
	for (p = text; p < end; last = unit) {
		start = p;
		err = decimal(&p, end, 1, &part);
		if (err)
			return err;
		len = unit_len(p, end);
		unit = find_unit(duration_units, sizeof(duration_units) / sizeof(duration_units[0]), p, len);
		/* 30s1m is more likely a mistake than a minute and a half. */
		if (!unit || (last && unit <= last))
			return -EINVAL;
		err = decimal(&start, end, unit->scale, &part);
		if (err || __builtin_add_overflow(sum, part, &sum))
			return -ERANGE;
		p += len;
	}
	*ret_ns = sum;
	return 0;
}

int value_size(const char *text, size_t len, uint64_t *ret_bytes)
{
	const char *p = text, *end = text + len;
	const struct unit *unit = &size_units[0];
	uint64_t ignored;
	int err = decimal(&p, end, 1, &ignored);

	if (err)
		return err;
	if (p < end)
		unit = find_unit(size_units, sizeof(size_units) / sizeof(size_units[0]), p, (size_t)(end - p));
	if (!unit)
		return -EINVAL;
	p = text;
	return decimal(&p, end, unit->scale, ret_bytes);
}

int value_percent(const char *text, size_t len, uint64_t *ret_bp)
{
	const char *p = text, *end = text + len;
	bool percent = len > 0 && text[len - 1] == '%';
	uint64_t bp;
	int err = decimal(&p, end, percent ? BP_PER_UNIT / 100 : BP_PER_UNIT, &bp);

	if (err)
		return err;
	if (end - p != percent)
		return -EINVAL;
	*ret_bp = bp;
	return 0;
}

static int value_factor(const char *text, size_t len, uint64_t *ret_milli)
{
	const char *p = text;
	uint64_t milli;
	int err = decimal(&p, text + len, MILLI_PER_UNIT, &milli);

	if (err)
		return err;
	if (p != text + len)
		return -EINVAL;
	*ret_milli = milli;
	return 0;
}

static int value_uint(const char *text, size_t len, uint64_t *ret)
{
	uint64_t value = 0;

	if (len == 0)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(text[i]))
			return -EINVAL;
		if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
			return -ERANGE;
	}
	*ret = value;
	return 0;
}

/* Permissions are octal with or without the leading 0: nobody means decimal 660. */
static int value_mode(const char *text, size_t len, uint64_t *ret)
{
	uint64_t value = 0;

	if (len == 0 || len > 5)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '7')
			return -EINVAL;
		value = value * 8 + (uint64_t)(text[i] - '0');
	}
	*ret = value;
	return 0;
}

static int number(enum schema_kind kind, const char *text, size_t len, uint64_t *ret)
{
	switch (kind) {
	case SCHEMA_UINT:
		return value_uint(text, len, ret);
	case SCHEMA_SIZE:
		return value_size(text, len, ret);
	case SCHEMA_DURATION:
		return value_duration(text, len, ret);
	case SCHEMA_PERCENT:
		return value_percent(text, len, ret);
	case SCHEMA_FACTOR:
		return value_factor(text, len, ret);
	default:
		assert(kind == SCHEMA_MODE);
		return value_mode(text, len, ret);
	}
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
	return k->kind == SCHEMA_STATUSES ? "a status like 503, 500-504 or 5xx" : value_kind_name(k);
}

/* Secrets are not repeated in messages. */
static int not_a(const struct schema_key *k, const char *text, size_t len, struct value_complaint *c)
{
	int shown = len > 60 ? 60 : (int)len;

	if (k->flags & SCHEMA_SECRET)
		return value_complain(c, -EINVAL, "E004", "this is not %s", item_name(k));
	return value_complain(c, -EINVAL, "E004", "\"%.*s\" is not %s", shown, text, item_name(k));
}

/* "must be from 1ms to 1h", with the word for 0 when there is one. */
static int out_of_range(const struct schema_key *k, const char *text, size_t len, struct value_complaint *c)
{
	int shown = len > 60 ? 60 : (int)len;
	bool zero = *k->zero != '\0';

	if (*k->min && *k->max)
		return value_complain(c, -ERANGE, "E005", "%.*s is out of range: from %s to %s%s%s%s", shown, text,
		                      k->min, k->max, zero ? ", or \"" : "", k->zero, zero ? "\"" : "");
	return value_complain(c, -ERANGE, "E005", "%.*s is out of range", shown, text);
}

static bool below_min(const struct schema_key *k, uint64_t value)
{
	uint64_t limit;

	if (value == 0 && *k->zero)
		return false;
	return *k->min && number(k->kind, k->min, strlen(k->min), &limit) == 0 && value < limit;
}

static bool above_max(const struct schema_key *k, uint64_t value)
{
	uint64_t limit;

	if (*k->max)
		return number(k->kind, k->max, strlen(k->max), &limit) == 0 && value > limit;
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
		return value_complain(c, -ERANGE, "E005", "%.*s is negative", len > 60 ? 60 : (int)len, text);
	if (!*k->zero || !same(k->zero, text, len))
		err = number(k->kind, text, len, &value);
	if (err == -EINVAL)
		return not_a(k, text, len, c);
	if (err || below_min(k, value) || above_max(k, value)) {
		if (k->kind == SCHEMA_PERCENT && len && text[len - 1] != '%')
			snprintf(c->hint, sizeof(c->hint), "a bare number is a ratio: write %.*s%%", len > 20 ? 20 : (int)len,
			         text);
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

	if (same("true", text, len) || same("false", text, len)) {
		*(bool *)field = same("true", text, len);
		return 0;
	}
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (same(yes[i], text, len))
			c->suggestion = "true";
		else if (same(no[i], text, len))
			c->suggestion = "false";
	}
	return not_a(k, text, len, c);
}

static void list_words(const struct schema_enum *e, uint32_t first, char *text, size_t size)
{
	size_t used = (size_t)snprintf(text, size, "one of");

	for (uint32_t i = first; i < e->len && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s %s", i > first ? "," : "", e->word[i].word);
}

static int find_word(const struct schema_key *k, const char *text, size_t len, uint32_t *ret,
                     struct value_complaint *c)
{
	const struct schema_enum *e = k->words;
	uint32_t first = 0;

	/* An enum's min is its first word that may be written. */
	while (*k->min && first < e->len && strcmp(e->word[first].word, k->min) != 0)
		first++;
	for (uint32_t i = first; i < e->len; i++) {
		if (same(e->word[i].word, text, len)) {
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
	int err = find_word(k, text, len, &value, c);

	if (!err)
		memcpy(field, &value, sizeof(value)); /* enums are as wide as unsigned, see below */
	return err;
}
_Static_assert(sizeof(enum config_level) == sizeof(uint32_t), "enum fields are stored as uint32_t");

/* ---- statuses ---- */

static void add_statuses(struct config_statuses *set, unsigned from, unsigned to)
{
	for (unsigned s = from; s <= to; s++)
		set->bits[s / 64] |= UINT64_C(1) << (s % 64);
}

static int status(const char *text)
{
	if (!is_digit(text[0]) || !is_digit(text[1]) || !is_digit(text[2]))
		return -EINVAL;
	return (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
}

static bool known_status(int s)
{
	return s >= 100 && s <= CONFIG_STATUS_MAX;
}

static int add_status(const struct schema_key *k, const char *text, size_t len, void *field,
                      struct value_complaint *c)
{
	int from = -1, to = -1;

	if (len == 3 && memcmp(text + 1, "xx", 2) == 0 && is_digit(text[0])) {
		from = (text[0] - '0') * 100;
		to = from + 99;
	} else if (len == 3) {
		from = to = status(text);
	} else if (len == 7 && text[3] == '-') {
		from = status(text);
		to = status(text + 4);
	}
	if (from < 0 || to < 0)
		return not_a(k, text, len, c);
	if (!known_status(from) || !known_status(to) || to < from)
		return value_complain(c, -ERANGE, "E005", "%.*s is out of range: statuses are 100 to 599", (int)len, text);
	add_statuses(field, (unsigned)from, (unsigned)to);
	return 0;
}

/* ---- strings ---- */

static bool printable(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	}
	return true;
}

static int parse_string(const struct schema_key *k, const char *text, size_t len, struct arena *a, void *field,
                        struct value_complaint *c)
{
	uint64_t min = 0, max = UINT64_MAX;

	if (*k->min)
		value_uint(k->min, strlen(k->min), &min);
	if (*k->max)
		value_uint(k->max, strlen(k->max), &max);
	if (len < min)
		return value_complain(c, -ERANGE, "E005", "this may not be empty");
	if (len > max)
		return value_complain(c, -ERANGE, "E005", "%zu bytes are too long: at most %s", len, k->max);
	if (!printable(text, len))
		return value_complain(c, -EINVAL, "E004", "control characters are not allowed here");
	*(const char **)field = arena_copy(a, text, len);
	return *(const char **)field ? 0 : -ENOMEM;
}

int value_parse(const struct schema_key *k, const char *text, size_t len, struct arena *a, void *field,
                struct value_complaint *c)
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

/* ---- lists ---- */

int value_clear(const struct schema_key *k, uint32_t count, struct arena *a, void *field)
{
	struct config_strings *strings = field;
	struct config_pairs *pairs = field;

	memset(field, 0, k->size);
	if (k->kind == SCHEMA_STRINGS && count) {
		strings->item = arena_alloc(a, count * sizeof(*strings->item));
		return strings->item ? 0 : -ENOMEM;
	}
	if (k->kind == SCHEMA_PAIRS && count) {
		pairs->item = arena_alloc(a, count * sizeof(*pairs->item));
		return pairs->item ? 0 : -ENOMEM;
	}
	return 0;
}

/* How many items a list may have; messages and parser agree. */
static int list_is_full(const struct schema_key *k, uint32_t len, struct value_complaint *c)
{
	uint64_t max;

	if (value_uint(k->max, strlen(k->max), &max) == 0 && len >= max)
		return value_complain(c, -ERANGE, "E005", "too many items: at most %s", k->max);
	return 0;
}

static int add_string(const struct schema_key *k, const char *text, size_t len, struct arena *a, void *field,
                      struct value_complaint *c)
{
	struct config_strings *s = field;
	char *copy;
	int err = list_is_full(k, s->len, c);

	if (err)
		return err;
	if (len == 0 || len > 1024 || !printable(text, len))
		return value_complain(c, -EINVAL, "E004", "an item is 1 to 1024 bytes without control characters");
	copy = arena_copy(a, text, len);
	if (!copy)
		return -ENOMEM;
	((const char **)s->item)[s->len++] = copy; /* ours since value_clear() */
	return 0;
}

int value_add(const struct schema_key *k, const char *text, size_t len, struct arena *a, void *field,
              struct value_complaint *c)
{
	uint32_t word;
	int err;

	*c = (struct value_complaint){ 0 };
	if (k->kind == SCHEMA_STATUSES)
		return add_status(k, text, len, field, c);
	if (k->kind == SCHEMA_STRINGS)
		return add_string(k, text, len, a, field, c);
	assert(k->kind == SCHEMA_SET);
	err = find_word(k, text, len, &word, c);
	if (!err)
		*(uint32_t *)field |= UINT32_C(1) << word;
	return err;
}

int value_add_pair(const struct schema_key *k, const char *name, const char *text, size_t len, struct arena *a,
                   void *field, struct value_complaint *c)
{
	struct config_pairs *p = field;
	struct config_pair pair = { 0 };
	int err;

	*c = (struct value_complaint){ 0 };
	err = list_is_full(k, p->len, c);
	if (err)
		return err;
	if (len > 4096 || !printable(text, len))
		return value_complain(c, -EINVAL, "E004", "a value is at most 4096 bytes without control characters");
	pair.name = arena_copy(a, name, strlen(name));
	pair.value = arena_copy(a, text, len);
	if (!pair.name || !pair.value)
		return -ENOMEM;
	((struct config_pair *)p->item)[p->len++] = pair;
	return 0;
}

int value_parse_commas(const struct schema_key *k, const char *text, size_t len, struct arena *a, void *field,
                       struct value_complaint *c)
{
	const char *end = text + len, *comma, *last;
	uint32_t count = 1;
	int err;

	*c = (struct value_complaint){ 0 };
	for (size_t i = 0; i < len; i++)
		count += text[i] == ',';
	err = value_clear(k, len ? count : 0, a, field);
	for (; !err && text < end; text = comma + 1) {
		comma = memchr(text, ',', (size_t)(end - text));
		if (!comma)
			comma = end;
		for (last = comma; text < last && *text == ' ';)
			text++;
		for (; last > text && last[-1] == ' ';)
			last--;
		err = value_add(k, text, (size_t)(last - text), a, field, c);
	}
	return err;
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

int value_default(const struct schema_key *k, void *field, struct arena *a, struct value_complaint *c)
{
	uint64_t value = 0;

	switch (k->kind) {
	case SCHEMA_UINT:
	case SCHEMA_SIZE:
	case SCHEMA_DURATION:
	case SCHEMA_PERCENT:
	case SCHEMA_FACTOR:
	case SCHEMA_MODE:
		assert(number(k->kind, k->def, strlen(k->def), &value) == 0);
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
