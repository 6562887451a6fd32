#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/arena.h"
#include "sidecar/config/value.h"

#define S(n)  (UINT64_C(n) * CONFIG_NS_PER_S)
#define MS(n) (UINT64_C(n) * CONFIG_NS_PER_MS)

struct row {
	const char *text;
	int err;
	uint64_t value;
};

static void expect(const char *what, int (*parse)(const char *, size_t, uint64_t *),
		   const struct row *row, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		/* A copy of exactly its length: a byte too far is seen by the sanitizer. */
		size_t text_len = strlen(row[i].text);
		char *text = malloc(text_len ? text_len : 1);
		uint64_t value = 0;
		int err;

		memcpy(text, row[i].text, text_len);
		err = parse(text, text_len, &value);
		cr_expect_eq(err, row[i].err, "%s \"%s\": %d", what, row[i].text, err);
		if (!err)
			cr_expect_eq(value, row[i].value, "%s \"%s\": %llu", what, row[i].text,
				     (unsigned long long)value);
		free(text);
	}
}

#define ROWS(array) (array), sizeof(array) / sizeof((array)[0])

Test(value, a_duration_is_seconds_or_has_units_from_long_to_short)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "30", 0, S(30) },
		{ "30.0", 0, S(30) },
		{ "0.25", 0, MS(250) },
		{ "500us", 0, 500000 },
		{ "250ms", 0, MS(250) },
		{ "1m30s", 0, S(90) },
		{ "1.5m", 0, S(90) },
		{ "2h", 0, S(7200) },
		{ "1d", 0, S(86400) },
		{ "1d2h3m4s5ms6us7ns", 0, S(93784) + MS(5) + 6007 },
		{ "0.1s", 0, MS(100) },
		{ "0.000000001", 0, 1 },
		{ "0.0000000009", 0, 0 },
		{ "0.3333333333333333333333", 0, 333333333 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "5 s", -EINVAL, 0 },
		{ "5S", -EINVAL, 0 },
		{ "5sec", -EINVAL, 0 },
		{ "30s1m", -EINVAL, 0 },
		{ "1s1s", -EINVAL, 0 },
		{ "1m30", -EINVAL, 0 },
		{ "1.s", -EINVAL, 0 },
		{ ".5s", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
		{ "+5", -EINVAL, 0 },
		{ "-5", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "5s ", -EINVAL, 0 },
		{ "213503d", 0, UINT64_C(213503) * S(86400) },
		{ "213504d", -ERANGE, 0 },
		{ "18446744074", -ERANGE, 0 },
		{ "99999999999999999999", -ERANGE, 0 },
		{ "99999999999999999999s", -ERANGE, 0 },
		{ "213503d23h59m", -ERANGE, 0 },
	};

	expect("duration", value_duration, ROWS(rows));
}

Test(value, a_size_is_bytes_or_has_one_unit)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "1B", 0, 1 },
		{ "64KiB", 0, 65536 },
		{ "1MiB", 0, 1048576 },
		{ "0.25KiB", 0, 256 },
		{ "1.5GiB", 0, UINT64_C(1610612736) },
		{ "1TiB", 0, UINT64_C(1) << 40 },
		{ "1kB", 0, 1000 },
		{ "2MB", 0, 2000000 },
		{ "1GB", 0, 1000000000 },
		{ "1K", -EINVAL, 0 },
		{ "1kib", -EINVAL, 0 },
		{ "1 KiB", -EINVAL, 0 },
		{ "KiB", -EINVAL, 0 },
		{ "1KiB1B", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "16777216TiB", -ERANGE, 0 },
	};

	expect("size", value_size, ROWS(rows));
}

Test(value, a_share_is_a_ratio_or_has_a_percent_sign)
{
	static const struct row rows[] = {
		{ "20%", 0, 2000 },     { "0.2", 0, 2000 },   { "1", 0, 10000 },
		{ "100%", 0, 10000 },   { "0.01%", 0, 1 },    { "12.5%", 0, 1250 },
		{ "0%", 0, 0 },         { "%", -EINVAL, 0 },  { "20 %", -EINVAL, 0 },
		{ "20%%", -EINVAL, 0 }, { "a%", -EINVAL, 0 }, { "", -EINVAL, 0 },
	};

	expect("percent", value_percent, ROWS(rows));
}

Test(value, the_text_of_a_duration_reads_back)
{
	static const uint64_t values[] = { 0,       1,        999,      1000,          250000,
					   MS(1),   MS(250),  S(1),     S(60),         S(90),
					   S(3600), S(86399), S(86400), S(604800) + 1, UINT64_MAX };

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char text[VALUE_TEXT_MAX];
		uint64_t back;

		value_duration_text(values[i], text);
		cr_expect_eq(value_duration(text, strlen(text), &back), 0, "%s", text);
		cr_expect_eq(back, values[i], "%s", text);
	}
}

Test(value, milliseconds_round_up_so_that_a_wait_stays_a_wait)
{
	cr_expect_eq(config_ms(0), 0);
	cr_expect_eq(config_ms(1), 1);
	cr_expect_eq(config_ms(MS(1)), 1);
	cr_expect_eq(config_ms(MS(1) + 1), 2);
	cr_expect_eq(config_ms(UINT64_MAX), UINT64_MAX / CONFIG_NS_PER_MS + 1);
}

/* ---- addresses and urls ---- */

static void with_arena(struct arena *a)
{
	arena_init(a, 1 << 20);
}

Test(value, an_address_is_numeric_with_a_port_or_a_unix_path)
{
	static const struct {
		const char *text;
		int family; /* 0 = refused */
		uint16_t port;
	} rows[] = {
		{ "127.0.0.1:4640", AF_INET, 4640 },
		{ "0.0.0.0:65535", AF_INET, 65535 },
		{ "[::1]:1", AF_INET6, 1 },
		{ "[::ffff:1.2.3.4]:80", AF_INET6, 80 },
		{ "unix:/run/x", AF_UNIX, 0 },
		{ "", 0, 0 },
		{ ":80", 0, 0 },
		{ "127.0.0.1", 0, 0 },
		{ "127.0.0.1:", 0, 0 },
		{ "127.0.0.1:0", 0, 0 },
		{ "127.0.0.1:65536", 0, 0 },
		{ "127.0.0.1:99999", 0, 0 },
		{ "127.0.0.1:+80", 0, 0 },
		{ "127.1:80", 0, 0 },
		{ "[127.0.0.1]:80", 0, 0 },
		{ "::1:80", 0, 0 },
		{ "[::1]", 0, 0 },
		{ "[]:80", 0, 0 },
		{ "[::1:80", 0, 0 },
		{ "localhost:80", 0, 0 },
		{ "unix:", 0, 0 },
		{ "unix:relative", 0, 0 },
	};
	struct arena a;

	with_arena(&a);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_address addr = { 0 };
		struct value_complaint c = { 0 };
		int err = value_address(rows[i].text, strlen(rows[i].text), &a, &addr, &c);

		cr_expect_eq(err == 0, rows[i].family != 0, "\"%s\": %d", rows[i].text, err);
		cr_expect_eq(addr.family, rows[i].family, "\"%s\"", rows[i].text);
		cr_expect_eq(addr.port, rows[i].port, "\"%s\"", rows[i].text);
		cr_expect_eq(addr.addr.any.sa_family, rows[i].family);
		if (err)
			cr_expect_str_eq(c.id, "E011");
	}
	arena_fini(&a);
}

Test(value, a_unix_path_fits_its_socket_address_to_the_byte)
{
	struct config_address addr;
	struct value_complaint c = { 0 };
	struct arena a;
	char text[128] = "unix:/";

	with_arena(&a);
	memset(text + 6, 'x', 107);
	cr_expect_eq(value_address(text, 5 + 107, &a, &addr, &c), 0);
	cr_expect_eq(addr.len, sizeof(struct sockaddr_un));
	cr_expect_eq(value_address(text, 5 + 108, &a, &addr, &c), -ERANGE);
	arena_fini(&a);
}

Test(value, a_url_is_cut_into_its_parts)
{
	static const struct {
		const char *text, *host, *path;
		uint16_t port;
		bool tls, literal;
	} rows[] = {
		{ "http://orders", "orders", "", 80, false, false },
		{ "https://orders", "orders", "", 443, true, false },
		{ "HTTPS://Orders.Shop:8443/V1//", "orders.shop", "/V1", 8443, true, false },
		{ "http://orders.", "orders.", "", 80, false, false },
		{ "http://10.0.0.1:81/", "10.0.0.1", "", 81, false, true },
		{ "http://[2001:DB8::1]", "2001:DB8::1", "", 80, false, true },
		{ "http://[::1]:9000/a/b", "::1", "/a/b", 9000, false, true },
		{ "http://under_score/%7e", "under_score", "/%7e", 80, false, false },
		{ "", NULL, NULL, 0, false, false },
		{ "orders", NULL, NULL, 0, false, false },
		{ "ftp://orders", NULL, NULL, 0, false, false },
		{ "http://", NULL, NULL, 0, false, false },
		{ "http:///x", NULL, NULL, 0, false, false },
		{ "http://:80", NULL, NULL, 0, false, false },
		{ "http://a:", NULL, NULL, 0, false, false },
		{ "http://a:99999", NULL, NULL, 0, false, false },
		{ "http://a:80:80", NULL, NULL, 0, false, false },
		{ "http://a b", NULL, NULL, 0, false, false },
		{ "http://.a", NULL, NULL, 0, false, false },
		{ "http://a..b", NULL, NULL, 0, false, false },
		{ "http://[::1", NULL, NULL, 0, false, false },
		{ "http://[::1]x", NULL, NULL, 0, false, false },
		{ "http://[::g]", NULL, NULL, 0, false, false },
		{ "http://a?b", NULL, NULL, 0, false, false },
		{ "http://a/#b", NULL, NULL, 0, false, false },
		{ "http://a/\"", NULL, NULL, 0, false, false },
		{ "http://u:p@a", NULL, NULL, 0, false, false },
		{ "http://\xc3\xa4", NULL, NULL, 0, false, false },
	};
	struct arena a;

	with_arena(&a);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_url u = { 0 };
		struct value_complaint c = { 0 };
		size_t len = strlen(rows[i].text);
		char *text = malloc(len ? len : 1);
		int err;

		memcpy(text, rows[i].text, len);
		err = value_url(text, len, &a, &u, &c);
		free(text);
		cr_expect_eq(err == 0, rows[i].host != NULL, "\"%s\": %d %s", rows[i].text, err,
			     c.text);
		if (err || !rows[i].host)
			continue;
		cr_expect_str_eq(u.host, rows[i].host);
		cr_expect_str_eq(u.path, rows[i].path);
		cr_expect_eq(u.port, rows[i].port, "\"%s\"", rows[i].text);
		cr_expect_eq(u.tls, rows[i].tls);
		cr_expect_eq(u.literal, rows[i].literal);
	}
	arena_fini(&a);
}

Test(value, a_password_in_a_url_is_not_repeated)
{
	struct value_complaint c = { 0 };
	struct config_url u;
	struct arena a;
	const char *text = "http://user:hunter2@orders";

	with_arena(&a);
	cr_expect_eq(value_url(text, strlen(text), &a, &u, &c), -EINVAL);
	cr_expect_null(strstr(c.text, "hunter2"));
	cr_expect_null(strstr(c.hint, "hunter2"));
	arena_fini(&a);
}

/* ---- by key ---- */

static int set(const char *path, const char *text, void *field, struct arena *a)
{
	const struct schema_key *k = schema_path(&schema_policy, path);
	struct value_complaint c;

	cr_assert(k, "%s", path);
	if (schema_is_list(k))
		return value_parse_commas(k, text, strlen(text), a, field, &c);
	return value_parse(k, text, strlen(text), a, field, &c);
}

Test(value, the_borders_of_a_range_belong_to_it)
{
	struct arena a;
	uint64_t ns = 7;
	uint32_t n = 7;

	with_arena(&a);
	cr_expect_eq(set("timeout.connect", "1ms", &ns, &a), 0);
	cr_expect_eq(set("timeout.connect", "1h", &ns, &a), 0);
	cr_expect_eq(ns, S(3600));
	cr_expect_eq(set("timeout.connect", "999us", &ns, &a), -ERANGE);
	cr_expect_eq(set("timeout.connect", "1h1ns", &ns, &a), -ERANGE);
	cr_expect_eq(ns, S(3600), "a refused value changes nothing");
	cr_expect_eq(set("timeout.total", "off", &ns, &a), 0);
	cr_expect_eq(ns, 0);
	cr_expect_eq(set("timeout.total", "0", &ns, &a), 0);
	cr_expect_eq(set("timeout.connect", "off", &ns, &a), -EINVAL);
	cr_expect_eq(set("retry.max_attempts", "100", &n, &a), 0);
	cr_expect_eq(set("retry.max_attempts", "101", &n, &a), -ERANGE);
	cr_expect_eq(set("retry.max_attempts", "4294967297", &n, &a), -ERANGE);
	cr_expect_eq(set("retry.max_attempts", "3.5", &n, &a), -EINVAL);
	cr_expect_eq(n, 100);
	arena_fini(&a);
}

Test(value, statuses_are_numbers_ranges_and_classes)
{
	struct config_statuses s;
	struct arena a;

	with_arena(&a);
	cr_expect_eq(set("retry.statuses", "429, 5xx,200-202", &s, &a), 0);
	for (unsigned i = 0; i < 1000; i++)
		cr_expect_eq(config_status_in(&s, i),
			     i == 429 || (i >= 500 && i < 600) || (i >= 200 && i <= 202), "%u", i);
	cr_expect_eq(set("retry.statuses", "100-599", &s, &a), 0);
	cr_expect(config_status_in(&s, 599) && !config_status_in(&s, 600) &&
		  !config_status_in(&s, 99));
	cr_expect_eq(set("retry.statuses", "", &s, &a), 0);
	cr_expect(!config_status_in(&s, 502));
	cr_expect_eq(set("retry.statuses", "600", &s, &a), -ERANGE);
	cr_expect_eq(set("retry.statuses", "0xx", &s, &a), -ERANGE);
	cr_expect_eq(set("retry.statuses", "6xx", &s, &a), -ERANGE);
	cr_expect_eq(set("retry.statuses", "503-502", &s, &a), -ERANGE);
	cr_expect_eq(set("retry.statuses", "50", &s, &a), -EINVAL);
	cr_expect_eq(set("retry.statuses", "-503", &s, &a), -EINVAL);
	cr_expect_eq(set("retry.statuses", "502,,503", &s, &a), -EINVAL);
	arena_fini(&a);
}

Test(value, a_list_has_no_more_items_than_its_key_allows)
{
	struct config_strings s;
	struct arena a;

	with_arena(&a);
	cr_expect_eq(set("tls.alpn", "a,b,c,d", &s, &a), 0);
	cr_expect_eq(s.len, 4);
	cr_expect_eq(set("tls.alpn", "a,b,c,d,e", &s, &a), -ERANGE);
	arena_fini(&a);
}
