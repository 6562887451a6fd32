/* Values made of several items: statuses, words, texts, pairs. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/arena.h"
#include "sidecar/config/value_parts.h"

#define ITEM_MAX  1024
#define FIELD_MAX 4096

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

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
		return value_not_a(k, text, len, c);
	if (!known_status(from) || !known_status(to) || to < from)
		return value_complain(c, -ERANGE, "E005",
				      "%.*s is out of range: statuses are 100 to 599", (int)len,
				      text);
	add_statuses(field, (unsigned)from, (unsigned)to);
	return 0;
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

	if (value_number(SCHEMA_UINT, k->max, strlen(k->max), &max) == 0 && len >= max)
		return value_complain(c, -ERANGE, "E005", "too many items: at most %s", k->max);
	return 0;
}

static int add_string(const struct schema_key *k, const char *text, size_t len, struct arena *a,
		      void *field, struct value_complaint *c)
{
	struct config_strings *s = field;
	char *copy;
	int err = list_is_full(k, s->len, c);

	if (err)
		return err;
	if (len == 0 || len > ITEM_MAX || !value_printable(text, len))
		return value_complain(c, -EINVAL, "E004",
				      "an item is 1 to %d bytes without control characters",
				      ITEM_MAX);
	copy = arena_copy(a, text, len);
	if (!copy)
		return -ENOMEM;
	((const char **)s->item)[s->len++] = copy; /* ours since value_clear() */
	return 0;
}

int value_add(const struct schema_key *k, const char *text, size_t len, struct arena *a,
	      void *field, struct value_complaint *c)
{
	uint32_t word;
	int err;

	*c = (struct value_complaint){ 0 };
	if (k->kind == SCHEMA_STATUSES)
		return add_status(k, text, len, field, c);
	if (k->kind == SCHEMA_STRINGS)
		return add_string(k, text, len, a, field, c);
	assert(k->kind == SCHEMA_SET);
	err = value_word(k, text, len, &word, c);
	if (!err)
		*(uint32_t *)field |= UINT32_C(1) << word;
	return err;
}

int value_add_pair(const struct schema_key *k, const char *name, const char *text, size_t len,
		   struct arena *a, void *field, struct value_complaint *c)
{
	struct config_pairs *p = field;
	struct config_pair pair = { 0 };
	int err;

	*c = (struct value_complaint){ 0 };
	err = list_is_full(k, p->len, c);
	if (err)
		return err;
	if (len > FIELD_MAX || !value_printable(text, len))
		return value_complain(c, -EINVAL, "E004",
				      "a value is at most %d bytes without control characters",
				      FIELD_MAX);
	pair.name = arena_copy(a, name, strlen(name));
	pair.value = arena_copy(a, text, len);
	if (!pair.name || !pair.value)
		return -ENOMEM;
	((struct config_pair *)p->item)[p->len++] = pair;
	return 0;
}

int value_parse_commas(const struct schema_key *k, const char *text, size_t len, struct arena *a,
		       void *field, struct value_complaint *c)
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
