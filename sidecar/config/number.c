/* Numbers with units.  No locale, no sign, no exponent: what is written is what is meant. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/value_parts.h"

#define BP_PER_UNIT     10000 /* basis points in 1 */
#define MILLI_PER_UNIT  1000
#define FRACTION_DIGITS 15

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

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
	if (__builtin_mul_overflow(whole, scale, &whole) ||
	    __builtin_add_overflow(whole, fraction, ret))
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

static const struct unit *find_unit(const struct unit *unit, size_t len, const char *text,
				    size_t text_len)
{
	for (size_t i = 0; i < len; i++) {
		if (value_same(unit[i].name, text, text_len))
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
		unit = find_unit(duration_units, sizeof(duration_units) / sizeof(duration_units[0]),
				 p, len);
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
		unit = find_unit(size_units, sizeof(size_units) / sizeof(size_units[0]), p,
				 (size_t)(end - p));
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

int value_number(enum schema_kind kind, const char *text, size_t len, uint64_t *ret)
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
