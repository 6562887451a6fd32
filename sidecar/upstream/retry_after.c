/* Retry-After (RFC 9110 section 10.2.3): delay-seconds or an HTTP-date. */
#include <string.h>
#include <time.h>

#include "sidecar/base/clock.h"
#include "sidecar/upstream/retry.h"

enum { DATE_MAX = 40, SECONDS_MAX = 1000000000 };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static uint64_t seconds(struct http_str v)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < v.n; i++) {
		if (!is_digit(v.p[i]))
			return RETRY_AFTER_NONE;
		/* 30 years are as good as any longer wait: the caller clamps. */
		if (n < SECONDS_MAX)
			n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	return (n < SECONDS_MAX ? n : SECONDS_MAX) * NS_PER_S;
}

/* RFC 9110 section 5.6.7: IMF-fixdate, RFC 850, asctime.  The first is what everybody sends. */
static bool date(const char *text, struct tm *tm)
{
	static const char *const forms[] = {
		"%a, %d %b %Y %H:%M:%S GMT",
		"%A, %d-%b-%y %H:%M:%S GMT",
		"%a %b %e %H:%M:%S %Y",
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		const char *end;

		memset(tm, 0, sizeof(*tm));
		end = strptime(text, forms[i], tm);
		if (end && *end == '\0')
			return true;
	}
	return false;
}

/* A two-digit year more than 50 years ahead is one of the past (section 5.6.7). */
static void fix_century(struct tm *tm, time_t now)
{
	struct tm today;

	if (gmtime_r(&now, &today) && tm->tm_year > today.tm_year + 50)
		tm->tm_year -= 100;
}

uint64_t retry_after_parse(struct http_str value, uint64_t wall_ns)
{
	time_t now = (time_t)(wall_ns / NS_PER_S);
	char text[DATE_MAX];
	struct tm tm;
	time_t then;

	if (value.n == 0)
		return RETRY_AFTER_NONE;
	if (is_digit(value.p[0]))
		return seconds(value);
	if (value.n >= sizeof(text))
		return RETRY_AFTER_NONE;
	memcpy(text, value.p, value.n);
	text[value.n] = '\0';
	if (strlen(text) != value.n || !date(text, &tm))
		return RETRY_AFTER_NONE;
	fix_century(&tm, now);
	then = timegm(&tm);
	if (then <= now)
		return 0;
	if (then - now > SECONDS_MAX)
		return (uint64_t)SECONDS_MAX * NS_PER_S;
	return (uint64_t)(then - now) * NS_PER_S;
}
