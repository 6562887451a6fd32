#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/http.h"

Test(http, every_field_of_the_table_is_found_in_any_case)
{
	for (unsigned id = 1; id < HTTP_FIELD_COUNT; id++) {
		struct http_str s = http_field_name((enum http_field_id)id);
		char            upper[64];

		for (uint32_t i = 0; i <= s.n; i++)
			upper[i] = (char)toupper((unsigned char)s.p[i]);
		cr_assert_eq(http_field_lookup(s.p, s.n), id, "%s", s.p);
		cr_assert_eq(http_field_lookup(upper, s.n), id, "%s", upper);
		cr_assert_neq(http_field_lookup(s.p, s.n - 1), id);
	}
}

Test(http, a_name_that_differs_in_one_bit_is_another_field)
{
	for (unsigned id = 1; id < HTTP_FIELD_COUNT; id++) {
		struct http_str s = http_field_name((enum http_field_id)id);

		for (uint32_t i = 0; i < s.n * 8; i++) {
			char    copy[64];
			uint8_t bit = (uint8_t)(1u << i % 8);

			memcpy(copy, s.p, s.n);
			copy[i / 8] = (char)(copy[i / 8] ^ bit);
			if (tolower((unsigned char)copy[i / 8]) == s.p[i / 8])
				continue;
			cr_assert_neq(http_field_lookup(copy, s.n), id, "%.*s", (int)s.n, copy);
		}
	}
	cr_assert_eq(http_field_lookup("", 0), HTTP_FIELD_OTHER);
	cr_assert_eq(http_field_lookup("hos", 3), HTTP_FIELD_OTHER);
}

Test(http, hop_by_hop_fields_are_those_of_rfc_9110_7_6_1)
{
	cr_assert(http_field_is_hop(HTTP_FIELD_CONNECTION));
	cr_assert(http_field_is_hop(HTTP_FIELD_TE));
	cr_assert(http_field_is_hop(HTTP_FIELD_UPGRADE));
	cr_assert(http_field_is_hop(HTTP_FIELD_PROXY_AUTHORIZATION));
	cr_assert_not(http_field_is_hop(HTTP_FIELD_HOST));
	cr_assert_not(http_field_is_hop(HTTP_FIELD_OTHER));
}

Test(http, methods_are_case_sensitive)
{
	for (unsigned m = 1; m < HTTP_METHOD_COUNT; m++) {
		const char *name = http_method_name((enum http_method)m);

		cr_assert_eq(http_method_lookup(name, strlen(name)), m);
	}
	cr_assert_eq(http_method_lookup("get", 3), HTTP_METHOD_OTHER);
	cr_assert_eq(http_method_lookup("GE", 2), HTTP_METHOD_OTHER);
	cr_assert(http_method_is_idempotent(HTTP_METHOD_PUT));
	cr_assert_not(http_method_is_idempotent(HTTP_METHOD_POST));
	cr_assert_not(http_method_is_idempotent(HTTP_METHOD_OTHER));
}

Test(http, every_error_has_a_text_and_a_status)
{
	for (unsigned e = 1; e < HTTP_ERROR_COUNT; e++) {
		cr_assert_gt(strlen(http_error_text((enum http_error)e)), 5);
		cr_assert_geq(http_error_status((enum http_error)e), 400);
	}
	cr_assert_str_eq(http_reason(431), "Request Header Fields Too Large");
	cr_assert_str_eq(http_reason(799), "");
}

Test(http, a_full_head_takes_no_further_field)
{
	struct http_field fields[2];
	struct http_head  h = { .fields = fields, .fields_max = 2 };

	cr_assert_eq(http_head_add(&h, HTTP_FIELD_VIA, HTTP_STR("Via"), HTTP_STR("1.1 a")), 0);
	cr_assert_eq(http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("X"), HTTP_STR("")), 0);
	cr_assert_eq(http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("Y"), HTTP_STR("")), -ENOSPC);
	cr_assert_eq(http_head_find(&h, HTTP_FIELD_VIA), &fields[0]);
	cr_assert_null(http_head_find(&h, HTTP_FIELD_HOST));
}

Test(http, a_list_has_its_elements_and_no_parts_of_them)
{
	static const struct {
		const char *value, *token;
		bool        has;
	} rows[] = {
		{ "close", "close", true },
		{ "Keep-Alive, Upgrade", "upgrade", true },
		{ " \t,, close ,", "close", true },
		{ "closed", "close", false },
		{ "not close", "close", false },
		{ "", "close", false },
		{ "a=\"x, close\", b", "close", false },
		{ "a=\"x\\\", close\", b", "b", true },
		{ "\"unended, close", "close", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_str v = { rows[i].value, (uint32_t)strlen(rows[i].value) };

		cr_assert_eq(http_list_has(v, rows[i].token), rows[i].has, "%s", rows[i].value);
	}
}

Test(http, an_authority_is_host_and_port_or_refused)
{
	static const struct {
		const char *text, *host;
		int         port; /* -1: refused */
	} rows[] = {
		{ "example.com", "example.com", 0 },
		{ "example.com:80", "example.com", 80 },
		{ "my_host:65535", "my_host", 65535 },
		{ "127.0.0.1:4640", "127.0.0.1", 4640 },
		{ "[::1]", "::1", 0 },
		{ "[2001:db8::1]:443", "2001:db8::1", 443 },
		{ "", NULL, -1 },
		{ ":80", NULL, -1 },
		{ "a:", NULL, -1 },
		{ "a:0", NULL, -1 },
		{ "a:65536", NULL, -1 },
		{ "a:+80", NULL, -1 },
		{ "a:000080", NULL, -1 },
		{ "a:80:80", NULL, -1 },
		{ "::1", NULL, -1 },
		{ "[::1", NULL, -1 },
		{ "[]", NULL, -1 },
		{ "[::1]x", NULL, -1 },
		{ "user@a", NULL, -1 },
		{ "a/b", NULL, -1 },
		{ "a,b", NULL, -1 },
		{ "a b", NULL, -1 },
		{ "a\\b", NULL, -1 },
		{ "a?", NULL, -1 },
		{ "a#", NULL, -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http_str a = { rows[i].text, (uint32_t)strlen(rows[i].text) }, host;
		uint16_t        port = 7;
		int             r = http_authority_split(a, &host, &port);

		if (rows[i].port < 0) {
			cr_assert_eq(r, -EINVAL, "%s", rows[i].text);
			cr_assert_eq(port, 7, "%s: results are set on success only", rows[i].text);
			continue;
		}
		cr_assert_eq(r, 0, "%s", rows[i].text);
		cr_assert(http_str_is(host, rows[i].host), "%s", rows[i].text);
		cr_assert_eq(port, rows[i].port);
	}
}

Test(chars, the_classes_are_those_of_the_grammar)
{
	for (int c = 0; c < 256; c++) {
		uint8_t b = (uint8_t)c;
		bool    alnum = c < 128 && isalnum(c);

		cr_assert_eq(chars_is(b, CHARS_TOKEN),
		             alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL), "%d", c);
		cr_assert_eq(chars_is(b, CHARS_VALUE), c == 9 || (c >= 32 && c != 127), "%d", c);
		cr_assert_eq(chars_is(b, CHARS_TARGET), c > 32 && c < 127 && c != '#', "%d", c);
		cr_assert_eq(chars_is(b, CHARS_HOST),
		             alnum || (c != 0 && strchr("-._~%!$&'()*+;=", c) != NULL), "%d", c);
		cr_assert_eq(chars_is(b, CHARS_DIGIT), c >= '0' && c <= '9', "%d", c);
		cr_assert_eq(chars_is(b, CHARS_HEX), c < 128 && isxdigit(c) != 0, "%d", c);
		cr_assert_eq(chars_lower(b), c < 128 ? tolower(c) : c, "%d", c);
	}
}

Test(chars, a_span_ends_at_the_first_foreign_byte_wherever_it_stands)
{
	for (int c = 0; c < 256; c++) {
		for (size_t at = 0; at < 40; at++) {
			uint8_t s[40];
			size_t  value = chars_is((uint8_t)c, CHARS_VALUE) ? 40 : at;
			size_t  target = chars_is((uint8_t)c, CHARS_TARGET) ? 40 : at;

			memset(s, 'a', sizeof(s));
			s[at] = (uint8_t)c;
			cr_assert_eq(chars_span_value(s, 40), value, "%d at %zu", c, at);
			cr_assert_eq(chars_span_target(s, 40), target, "%d at %zu", c, at);
		}
	}
}

Test(chars, a_whole_string_is_judged_like_its_bytes_at_every_length)
{
	for (int c = 0; c < 256; c++) {
		for (size_t n = 0; n <= 50; n++) {
			uint8_t s[50];

			memset(s, 'a', sizeof(s));
			cr_assert(chars_is_value(s, n));
			for (size_t at = 0; at < n; at++) {
				s[at] = (uint8_t)c;
				cr_assert_eq(chars_is_value(s, n), chars_is((uint8_t)c, CHARS_VALUE),
				             "%d at %zu of %zu", c, at, n);
				s[at] = 'a';
			}
		}
	}
}
