#include "sidecar/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"

Test(random, the_same_seed_gives_the_same_numbers_and_another_others)
{
	struct rng a, b, c;

	rng_init_from(&a, 1);
	rng_init_from(&b, 1);
	rng_init_from(&c, 2);
	for (int i = 0; i < 100; i++) {
		uint64_t v = rng_u64(&a);

		cr_assert_eq(v, rng_u64(&b));
		cr_assert_neq(v, rng_u64(&c));
	}
}

Test(random, a_bound_is_kept_and_every_value_comes)
{
	struct rng r;
	int        count[10] = { 0 };

	rng_init(&r);
	cr_assert_eq(rng_below(&r, 0), 0);
	cr_assert_eq(rng_below(&r, 1), 0);
	for (int i = 0; i < 100000; i++) {
		uint64_t v = rng_below(&r, 10);
		double   u = rng_unit(&r);

		cr_assert_lt(v, 10);
		cr_assert(u >= 0 && u < 1);
		count[v]++;
	}
	for (int i = 0; i < 10; i++)
		cr_assert(count[i] > 9000 && count[i] < 11000, "%d: %d", i, count[i]);
	for (int i = 0; i < 100; i++)
		cr_assert_lt(rng_below(&r, UINT64_MAX), UINT64_MAX);
}

Test(random, a_uuid_has_its_version_variant_and_dashes)
{
	struct rng r;
	char       a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];

	rng_init(&r);
	for (int i = 0; i < 1000; i++) {
		uuid_v4(&r, a);
		uuid_v4(&r, b);
		cr_assert_eq(strlen(a), 36);
		cr_assert_str_neq(a, b);
		cr_assert_eq(a[14], '4');
		cr_assert_not_null(strchr("89ab", a[19]));
		for (int k = 0; k < 36; k++) {
			bool dash = k == 8 || k == 13 || k == 18 || k == 23;

			cr_assert(dash ? a[k] == '-' : strchr("0123456789abcdef", a[k]) != NULL);
		}
	}
}

Test(random, a_uuid_spells_out_what_the_generator_gave)
{
	struct rng r, same;
	char       uuid[UUID_TEXT_SIZE], want[UUID_TEXT_SIZE];

	rng_init_from(&r, 7);
	rng_init_from(&same, 7);
	for (int i = 0; i < 10000; i++) {
		uint64_t v[2];
		uint8_t  b[16];

		v[0] = rng_u64(&same);
		v[1] = rng_u64(&same);
		memcpy(b, v, sizeof(b));
		b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
		b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
		snprintf(want, sizeof(want),
		         "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
		         b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
		uuid_v4(&r, uuid);
		cr_assert_str_eq(uuid, want);
	}
}

Test(hash, fnv1a_gives_the_published_values)
{
	cr_assert_eq(hash_fnv1a("", 0), UINT64_C(0xcbf29ce484222325));
	cr_assert_eq(hash_fnv1a("a", 1), UINT64_C(0xaf63dc4c8601ec8c));
	cr_assert_eq(hash_fnv1a("foobar", 6), UINT64_C(0x85944171f73967e8));
}

Test(hash, siphash_depends_on_every_byte_and_on_the_key)
{
	const struct hash_key one = { 1, 2 }, two = { 1, 3 };
	uint8_t               text[40] = { 0 };
	uint64_t              seen[41 + 40];
	int                   n = 0;

	for (size_t len = 0; len <= 40; len++)
		seen[n++] = hash_sip13(&one, text, len);
	for (int i = 0; i < 40; i++) {
		text[i] = 1;
		seen[n++] = hash_sip13(&one, text, 40);
		text[i] = 0;
	}
	for (int i = 0; i < n; i++) {
		for (int k = 0; k < i; k++)
			cr_assert_neq(seen[i], seen[k]);
	}
	cr_assert_neq(hash_sip13(&two, text, 40), hash_sip13(&one, text, 40));
}

Test(clock, time_is_written_as_rfc_3339)
{
	static const struct {
		uint64_t    ns;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ UINT64_C(951782399999999999), "2000-02-28T23:59:59.999Z" },
		{ UINT64_C(951782400000000000), "2000-02-29T00:00:00.000Z" },
		{ UINT64_C(951782400042000000), "2000-02-29T00:00:00.042Z" },
		{ UINT64_C(4102444799007000000), "2099-12-31T23:59:59.007Z" },
		{ 1, "1970-01-01T00:00:00.000Z" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char out[CLOCK_TEXT_SIZE];

		cr_assert_eq(clock_format(rows[i].ns, out), CLOCK_TEXT_SIZE - 1);
		cr_assert_str_eq(out, rows[i].text);
	}
}

Test(clock, the_clock_goes_forward)
{
	uint64_t a = clock_ns(), b = clock_ns();

	cr_assert_leq(a, b);
	cr_assert_gt(clock_wall_ns(), UINT64_C(1600000000) * NS_PER_S);
}
