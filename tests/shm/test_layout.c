#include "fixture.h"

static FILE *golden;

static void compare(void *arg, const char *strct, const char *field, size_t offset, size_t size)
{
	unsigned *line = arg;
	char want[160], have[160];

	(*line)++;
	snprintf(have, sizeof(have), "%s.%s %zu %zu\n", strct, field, offset, size);
	cr_assert_not_null(fgets(want, sizeof(want), golden), "layout.golden ends before %s", have);
	cr_expect_str_eq(have, want,
	                 "line %u: layout changed: bump RHC_ABI_MINOR or RHC_ABI_MAJOR, then the golden file",
	                 *line);
}

Test(layout, is_what_the_golden_file_says)
{
	unsigned line = 0;
	char rest[160];
	struct rhc_desc desc;

	golden = fopen(RHC_SOURCE_DIR "/tests/shm/layout.golden", "r");
	cr_assert_not_null(golden);
	rhc_layout_walk(compare, &line);
	for (uint32_t i = 0; i < RHC_DESC_COUNT; i++) {
		rhc_desc_make(i, &desc);
		compare(&line, "counter", desc.name, desc.index, desc.where);
	}
	cr_assert_null(fgets(rest, sizeof(rest), golden), "layout.golden goes on: %s", rest);
	fclose(golden);
}

Test(layout, puts_each_slot_at_a_place_of_its_own)
{
	for (uint32_t cap = 64; cap <= RHC_SLOTS_MAX; cap *= 2) {
		uint8_t *seen = calloc(cap, 1);

		for (uint32_t i = 0; i < cap; i++) {
			uint32_t at = rhc_slot_at(cap, i);

			cr_assert_lt(at, cap);
			cr_assert_eq(seen[at]++, 0);
		}
		free(seen);
	}
}

Test(layout, puts_the_first_slots_on_different_lines)
{
	for (uint32_t i = 1; i < 8; i++)
		cr_assert_neq(rhc_slot_at(1024, i) / 8, rhc_slot_at(1024, i - 1) / 8);
}

Test(layout, accepts_what_it_makes_and_nothing_else)
{
	struct rhc_shape shape = { .workers = 3, .upstreams = 5, .slots = 1000 };
	struct rhc_hdr hdr;
	uint8_t *bytes = (uint8_t *)&hdr;
	unsigned accepted = 0;

	memset(&hdr, 0, sizeof(hdr));
	cr_assert_eq(rhc_layout_fill(&hdr, &shape), 0);
	cr_assert(rhc_layout_valid(&hdr));
	cr_assert_eq(hdr.slots_cap, 1024);
	/* Each flipped bit of an offset is noticed; a count may change within its row's padding. */
	for (size_t at = offsetof(struct rhc_hdr, off_desc); at < offsetof(struct rhc_hdr, crc);
	     at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[at] ^= (uint8_t)(1 << bit);
			accepted += rhc_layout_valid(&hdr);
			bytes[at] ^= (uint8_t)(1 << bit);
		}
	}
	cr_assert_eq(accepted, 0);
}

Test(layout, refuses_shapes_beyond_the_limits)
{
	static const struct rhc_shape bad[] = {
		{ .workers = RHC_WORKERS_MAX + 1 }, { .upstreams = RHC_UPSTREAMS_MAX + 1 },
		{ .slots = RHC_SLOTS_MAX + 1 },     { .ring_len = 100 },
		{ .ring_len = 8 },                  { .ring_len = 1 << 17 },
	};
	struct rhc_hdr hdr;

	for (size_t i = 0; i < RHC_COUNT(bad); i++) {
		memset(&hdr, 0, sizeof(hdr));
		cr_expect_eq(rhc_layout_fill(&hdr, &bad[i]), -ERANGE, "row %zu", i);
	}
}

Test(layout, checksum_is_crc32c)
{
	cr_assert_eq(rhc_crc32c(0, "123456789", 9), 0xe3069283); /* RFC 3720 B.4 names the polynomial */
}

Test(layout, pairs_opened_with_closed_counters)
{
	for (unsigned i = 0; i < RHC_CTR_NAMED; i++) {
		if (rhc_uctr_kind(i) == RHC_KIND_OPENED)
			cr_expect_eq(rhc_uctr_kind(i + 1), RHC_KIND_CLOSED, "counter %u", i);
		if (rhc_uctr_kind(i) == RHC_KIND_CLOSED)
			cr_expect(i > 0 && rhc_uctr_kind(i - 1) == RHC_KIND_OPENED, "counter %u", i);
	}
	for (unsigned i = 0; i < RHC_WCTR_COUNT; i++) {
		if (rhc_wctr_kind(i) == RHC_KIND_OPENED)
			cr_expect(i + 1 < RHC_WCTR_COUNT &&
				  rhc_wctr_kind(i + 1) == RHC_KIND_CLOSED);
	}
}

Test(layout, describes_each_counter_once_and_by_a_name_that_fits)
{
	struct rhc_desc a, b;

	for (uint32_t i = 0; i < RHC_DESC_COUNT; i++) {
		rhc_desc_make(i, &a);
		cr_assert(a.name[0] && strlen(a.name) < sizeof(a.name) - 1, "%s", a.name);
		cr_assert(a.group[0] && strlen(a.group) < sizeof(a.group) - 1, "%s", a.group);
		cr_assert(rhc_desc_help(&a)[0], "%s has no help", a.name);
		for (uint32_t j = 0; j < i; j++) {
			rhc_desc_make(j, &b);
			cr_assert(strcmp(a.name, b.name) != 0 || a.where != b.where, "%s twice", a.name);
			cr_assert(strcmp(a.group, b.group) != 0 || strcmp(a.label, b.label) != 0 ||
			                  a.where != b.where,
			          "%s{%s} twice", a.group, a.label);
		}
	}
}
