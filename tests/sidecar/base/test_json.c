#include "sidecar/base/json.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sidecar/base/obj.h"

static void problem(struct json *j)
{
	json_object(j, NULL);
	json_str(j, "title", "no \"slot\"");
	json_u64(j, "max", UINT64_MAX);
	json_i64(j, "min", INT64_MIN);
	json_i64(j, "minus", -1);
	json_decimal(j, "wait_s", 1250, 3);
	json_decimal(j, "small", 7, 3);
	json_decimal(j, "whole", 7, 0);
	json_bool(j, "retry", true);
	json_null(j, "none");
	json_str(j, "absent", NULL);
	json_array(j, "list");
	json_u64(j, NULL, 0);
	json_object(j, NULL);
	json_end(j);
	json_array(j, NULL);
	json_end(j);
	json_raw(j, NULL, "[1]", 3);
	json_end(j);
	json_bool(j, "last", false);
	json_end(j);
}

static const char problem_text[] =
	"{\"title\":\"no \\\"slot\\\"\",\"max\":18446744073709551615,\"min\":-9223372036854775808,"
	"\"minus\":-1,\"wait_s\":1.250,\"small\":0.007,\"whole\":7,\"retry\":true,\"none\":null,"
	"\"absent\":null,\"list\":[0,{},[],[1]],\"last\":false}";

Test(json, objects_arrays_and_all_kinds_of_values)
{
	char        out[1024];
	struct json j;
	int         n;

	json_init(&j, out, sizeof(out));
	problem(&j);
	n = json_finish(&j);
	cr_assert_eq(n, (int)sizeof(problem_text) - 1, "%.*s", n, out);
	cr_assert_eq(memcmp(out, problem_text, (size_t)n), 0, "%.*s", n, out);
}

/* A page that must not be touched behind each possible size. */
Test(json, every_size_of_memory_is_respected)
{
	size_t page = 4096;
	char  *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_eq(mprotect(p + page, page, PROT_NONE), 0);
	for (size_t cap = 0; cap <= sizeof(problem_text); cap++) {
		char       *out = p + page - cap;
		struct json j;

		json_init(&j, out, cap);
		problem(&j);
		if (cap < sizeof(problem_text) - 1) {
			cr_assert_eq(json_finish(&j), -ENOSPC, "%zu", cap);
			cr_assert(j.overflow);
			cr_assert_eq(memcmp(out, problem_text, j.n), 0, "only whole values: %zu", cap);
		} else {
			cr_assert_eq(json_finish(&j), (int)sizeof(problem_text) - 1);
		}
	}
}

Test(json, a_value_that_does_not_fit_is_not_there_in_part)
{
	char        out[16];
	struct json j, good;

	json_init(&j, out, sizeof(out));
	json_object(&j, NULL);
	json_u64(&j, "a", 1);
	good = j;
	json_str(&j, "b", "too long for what is left");
	cr_assert(j.overflow);
	cr_assert_eq(j.n, good.n);
	j = good;
	json_end(&j);
	cr_assert_eq(json_finish(&j), 7);
	cr_assert_eq(memcmp(out, "{\"a\":1}", 7), 0);
}

/* clang-format off */
static const struct { const char *says, *in, *out; } escapes[] = {
	{ "plain text",                    "abc /~",               "abc /~" },
	{ "quotes and backslash",          "a\"b\\c",              "a\\\"b\\\\c" },
	{ "letters for common controls",   "\b\f\n\r\t",           "\\b\\f\\n\\r\\t" },
	{ "an escape sequence of a terminal", "\x1b[31m",          "\\u001b[31m" },
	{ "DEL",                           "\x7f",                 "\\u007f" },
	{ "a C1 control",                  "\xc2\x9b" "31m",       "\\u009b31m" },
	{ "two bytes",                     "\xc3\xa4",             "\xc3\xa4" },
	{ "three bytes",                   "\xe2\x82\xac",         "\xe2\x82\xac" },
	{ "four bytes",                    "\xf0\x9f\x98\x80",     "\xf0\x9f\x98\x80" },
	{ "a lonely continuation",         "a\x80" "b",            "a\\ufffdb" },
	{ "a cut character",               "\xe2\x82",             "\\ufffd\\ufffd" },
	{ "an overlong slash",             "\xc0\xaf",             "\\ufffd\\ufffd" },
	{ "an overlong of three",          "\xe0\x80\xaf",         "\\ufffd\\ufffd\\ufffd" },
	{ "an overlong of four",           "\xf0\x80\x80\xaf",     "\\ufffd\\ufffd\\ufffd\\ufffd" },
	{ "a surrogate",                   "\xed\xa0\x80",         "\\ufffd\\ufffd\\ufffd" },
	{ "beyond Unicode",                "\xf4\x90\x80\x80",     "\\ufffd\\ufffd\\ufffd\\ufffd" },
	{ "no lead byte at all",           "\xff\xfe",             "\\ufffd\\ufffd" },
};
/* clang-format on */

Test(json, hostile_bytes_are_escaped)
{
	for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
		char   out[64];
		size_t used, n = json_escape(out, sizeof(out), escapes[i].in, strlen(escapes[i].in), &used);

		cr_assert_eq(used, strlen(escapes[i].in));
		cr_assert_eq(n, strlen(escapes[i].out), "%s: %.*s", escapes[i].says, (int)n, out);
		cr_assert_eq(memcmp(out, escapes[i].out, n), 0, "%s: %.*s", escapes[i].says, (int)n, out);
	}
}

/* Plain text goes eight bytes at a time: no place may hide a byte that needs escaping. */
Test(json, a_byte_is_escaped_alike_wherever_it_stands)
{
	for (unsigned c = 0; c < 256; c++) {
		char   one[8], b = (char)c;
		size_t len = json_escape(one, sizeof(one), &b, 1, NULL);

		for (size_t at = 0; at < 24; at++) {
			char   in[24], out[40];
			size_t n, used;

			memset(in, 'x', sizeof(in));
			in[at] = b;
			n = json_escape(out, sizeof(out), in, sizeof(in), &used);
			cr_assert_eq(used, sizeof(in));
			cr_assert_eq(n, sizeof(in) - 1 + len, "byte %u at %zu", c, at);
			cr_assert_eq(memcmp(out + at, one, len), 0, "byte %u at %zu", c, at);
		}
	}
}

Test(json, a_zero_byte_is_escaped)
{
	char   out[16];
	size_t n = json_escape(out, sizeof(out), "a\0b", 3, NULL);

	cr_assert_eq(n, 8);
	cr_assert_eq(memcmp(out, "a\\u0000b", 8), 0);
}

/* A heap block of the exact size, so that the sanitizer sees a byte too far. */
Test(json, escaping_never_reads_or_writes_too_far)
{
	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b += 3) {
			for (size_t cap = 0; cap < 13; cap++) {
				char  *in = malloc(2), *out = malloc(cap ? cap : 1);
				size_t used;

				in[0] = (char)a;
				in[1] = (char)b;
				cr_assert_leq(json_escape(out, cap, in, 2, &used), cap);
				cr_assert_leq(used, 2);
				free(in);
				free(out);
			}
		}
	}
}

Test(json, a_key_in_an_array_asserts, .signal = SIGABRT)
{
	char        out[64];
	struct json j;

	json_init(&j, out, sizeof(out));
	json_array(&j, NULL);
	json_u64(&j, "key", 1);
}

Test(json, a_second_value_at_the_top_asserts, .signal = SIGABRT)
{
	char        out[64];
	struct json j;

	json_init(&j, out, sizeof(out));
	json_u64(&j, NULL, 1);
	json_u64(&j, NULL, 1);
}

Test(json, finishing_with_an_open_object_asserts, .signal = SIGABRT)
{
	char        out[64];
	struct json j;

	json_init(&j, out, sizeof(out));
	json_object(&j, NULL);
	json_finish(&j);
}
