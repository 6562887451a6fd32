/* sidecar/exchange/wishes.h: ids and times of strangers. */
#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/exchange/wishes.h"

static struct http_str str(const char *s)
{
	return (struct http_str){ s, (uint32_t)strlen(s) };
}

Test(wishes, a_time_is_seconds_or_milliseconds)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} rows[] = {
		{ "2s", 2 * NS_PER_S },
		{ "2", 2 * NS_PER_S },
		{ "250ms", 250 * NS_PER_MS },
		{ "1.5s", 1500 * NS_PER_MS },
		{ "1.5ms", 1500 * NS_PER_US },
		{ "0.000001", NS_PER_US },
		{ "1.s", NS_PER_S },
		{ "0", 0 },
		{ "", 0 },
		{ "s", 0 },
		{ "1m", 0 },
		{ "1 s", 0 },
		{ "-1s", 0 },
		{ "1e3", 0 },
		{ "1s2", 0 },
		{ "9999999999", 0 },
		{ "1.0000001", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(wishes_time(str(rows[i].text)), rows[i].ns, "\"%s\"", rows[i].text);
}

Test(wishes, an_id_is_kept_when_it_can_do_no_harm)
{
	char longest[EXCH_REQUEST_ID_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[EXCH_REQUEST_ID_MAX] = '\0';
	cr_assert(wishes_id_is_good(str(longest)));
	cr_assert_not(wishes_id_is_good((struct http_str){ longest, EXCH_REQUEST_ID_MAX + 1 }));
	cr_assert(wishes_id_is_good(str("4bf92f35-77b3/a.b_c~d+e=f:g@h")));
	cr_assert_not(wishes_id_is_good(str("")));
	for (int c = 0; c < 256; c++) {
		char text[3] = { 'a', (char)c, 'b' };
		bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		            (c && memchr("._~+/=:@-", c, 9) != NULL);

		cr_assert_eq(wishes_id_is_good((struct http_str){ text, 3 }), good, "character %d", c);
	}
}
