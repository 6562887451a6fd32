#include "sidecar/base/clock.h"

#include <string.h>

static void put2(char *p, int v)
{
	p[0] = (char)('0' + v / 10 % 10);
	p[1] = (char)('0' + v % 10);
}

static void put_seconds(char out[CLOCK_TEXT_SIZE], time_t s)
{
	struct tm tm;

	gmtime_r(&s, &tm);
	memcpy(out, "0000-00-00T00:00:00.000Z", CLOCK_TEXT_SIZE);
	put2(out, (tm.tm_year + 1900) / 100);
	put2(out + 2, (tm.tm_year + 1900) % 100);
	put2(out + 5, tm.tm_mon + 1);
	put2(out + 8, tm.tm_mday);
	put2(out + 11, tm.tm_hour);
	put2(out + 14, tm.tm_min);
	put2(out + 17, tm.tm_sec);
}

int clock_format(uint64_t wall_ns, char out[CLOCK_TEXT_SIZE])
{
	/* Most lines of a second share everything but the milliseconds. */
	static time_t cached_s = -1;
	static char   cached[CLOCK_TEXT_SIZE];
	time_t        s = (time_t)(wall_ns / NS_PER_S);
	int           ms = (int)(wall_ns % NS_PER_S / NS_PER_MS);

	if (s != cached_s) {
		put_seconds(cached, s);
		cached_s = s;
	}
	memcpy(out, cached, CLOCK_TEXT_SIZE);
	out[20] = (char)('0' + ms / 100);
	put2(out + 21, ms % 100);
	return CLOCK_TEXT_SIZE - 1;
}
