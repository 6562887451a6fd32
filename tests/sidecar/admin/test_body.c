#include "sidecar/admin/body.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct {
	const char *text;
	bool good;
	const char *reason;
	uint64_t ttl;
} rows[] = {
	{ "", true, "", 0 },
	{ " \r\n\t", true, "", 0 },
	{ "{}", true, "", 0 },
	{ "{ }", true, "", 0 },
	{ "{\"reason\":\"deploy 42\"}", true, "deploy 42", 0 },
	{ " { \"ttl_seconds\" : 900 , \"reason\" : \"\\u00e9\\n\\\"x\\\\\" } ", true,
	  "\xc3\xa9\n\"x\\", 900 },
	{ "{\"ttl_seconds\":2592000}", true, "", 2592000 },
	{ "{\"reason\":\"\\u20ac\"}", true, "\xe2\x82\xac", 0 },
	{ "{\"ttl_seconds\":2592001}", false, "", 0 },
	{ "{\"ttl_seconds\":99999999999999999999}", false, "", 0 },
	{ "{\"ttl_seconds\":0}", false, "", 0 },
	{ "{\"ttl_seconds\":01}", false, "", 0 },
	{ "{\"ttl_seconds\":-1}", false, "", 0 },
	{ "{\"ttl_seconds\":1.5}", false, "", 0 },
	{ "{\"ttl_seconds\":\"1\"}", false, "", 0 },
	{ "{\"ttl_seconds\":1,\"ttl_seconds\":2}", false, "", 0 },
	{ "{\"reason\":\"a\",}", false, "", 0 },
	{ "{\"reason\":\"a\"} x", false, "", 0 },
	{ "{\"reason\":\"a\"", false, "", 0 },
	{ "{\"reason\":\"a", false, "", 0 },
	{ "{\"reason\" \"a\"}", false, "", 0 },
	{ "{\"reason\":null}", false, "", 0 },
	{ "{\"reason\":\"a\nb\"}", false, "", 0 },
	{ "{\"reason\":\"\\ud83d\\ude00\"}", false, "", 0 },
	{ "{\"reason\":\"\\u0000\"}", false, "", 0 },
	{ "{\"reason\":\"\\x\"}", false, "", 0 },
	{ "{\"reason\":\"\\", false, "", 0 },
	{ "{\"reason\":\"\\u12", false, "", 0 },
	{ "{\"force\":true}", false, "", 0 },
	{ "[]", false, "", 0 },
	{ "\"reason\"", false, "", 0 },
	{ "{{}}", false, "", 0 },
};

Test(body, what_a_change_carries_is_one_flat_object_and_nothing_else)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct body_change b;
		const char *why;
		bool good = body_parse(rows[i].text, strlen(rows[i].text), &b, &why);

		cr_expect_eq(good, rows[i].good, "%s: %s", rows[i].text, why ? why : "accepted");
		cr_expect_eq(good, why == NULL, "%s", rows[i].text);
		if (good) {
			cr_expect_str_eq(b.reason, rows[i].reason, "%s", rows[i].text);
			cr_expect_eq(b.ttl_s, rows[i].ttl, "%s", rows[i].text);
		}
	}
}

Test(body, a_reason_that_does_not_fit_is_refused_and_one_that_just_fits_is_kept)
{
	char text[RHC_REASON_MAX + 64];
	struct body_change b;
	const char *why;

	for (int n = RHC_REASON_MAX - 1; n <= RHC_REASON_MAX + 1; n++) {
		int len = snprintf(text, sizeof(text), "{\"reason\":\"%0*d\"}", n, 7);

		cr_assert_eq(body_parse(text, (size_t)len, &b, &why), n <= RHC_REASON_MAX, "%d", n);
		if (n <= RHC_REASON_MAX)
			cr_assert_eq(strlen(b.reason), (size_t)n);
	}
}

/* Each prefix of a good body, right before a page that may not be read. */
Test(body, no_byte_behind_its_end_is_read)
{
	static const char good[] = "{\"reason\":\"a\\u00e9\\\"b\",\"ttl_seconds\":12}";
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct body_change b;
	const char *why;

	cr_assert_neq(page, MAP_FAILED);
	cr_assert_eq(mprotect(page + 4096, 4096, PROT_NONE), 0);
	for (size_t n = 0; n < sizeof(good); n++) {
		char *at = page + 4096 - n;

		memcpy(at, good, n);
		cr_expect_eq(body_parse(at, n, &b, &why), n == 0 || n == sizeof(good) - 1,
			     "%zu bytes", n);
	}
}

Test(body, noise_is_refused_or_understood_but_never_more)
{
	static const char alphabet[] = "{}\":,\\u0129 reasonttl_seconds[]\n";
	char text[64];

	srand(7);
	for (unsigned i = 0; i < 200000; i++) {
		size_t n = (size_t)rand() % sizeof(text);
		struct body_change b;
		const char *why;

		for (size_t k = 0; k < n; k++)
			text[k] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
		if (body_parse(text, n, &b, &why))
			cr_assert(strlen(b.reason) <= RHC_REASON_MAX && b.ttl_s <= ADMIN_TTL_MAX);
	}
}
