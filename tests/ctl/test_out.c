/* One walk, three forms. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/out.h"

static void walk(struct out *o)
{
	out_begin(o, "FruitList");
	out_text(o, "season", NULL, "summer");
	out_note(o, "Fruit\n");
	out_rows(o, "items");
	out_row(o);
	out_text(o, "name", "NAME", "apple");
	out_count(o, "count", "COUNT", 12);
	out_of(o, "ripe", "all", "RIPE", 3, 12);
	out_share(o, "ratio", "SHARE", 3, 12);
	out_age(o, "age_seconds", "+AGE", 3723000, true);
	out_flag(o, "sweet", NULL, true);
	out_row(o);
	out_text(o, "name", "NAME", "p\"\\\n\x01är");
	out_count(o, "count", "COUNT", 0);
	out_of(o, "ripe", "all", "RIPE", 0, 0);
	out_share(o, "ratio", "SHARE", 0, 0);
	out_age(o, "age_seconds", "+AGE", 0, false);
	out_flag(o, "sweet", NULL, false);
	out_end(o);
}

static void expect(enum out_form form, bool headers, const char *wanted)
{
	char *text = NULL;
	size_t len = 0;
	struct out o = { .to = open_memstream(&text, &len), .form = form, .headers = headers };

	walk(&o);
	fclose(o.to);
	cr_expect_str_eq(text, wanted, "got:\n%s", text);
	free(text);
}

Test(out, a_table_is_aligned_numbers_to_the_right)
{
	expect(OUT_TABLE, true,
	       "Fruit\n"
	       "NAME     COUNT  RIPE   SHARE\n"
	       "apple       12  3/12  25.00%\n"
	       "p\"\\\n\x01är      0   0/0       -\n");
}

Test(out, a_wide_table_has_more_columns)
{
	expect(OUT_WIDE, false,
	       "Fruit\n"
	       "apple    12  3/12  25.00%  1h02m\n"
	       "p\"\\\n\x01är   0   0/0       -      -\n");
}

Test(out, json_has_every_member_escapes_and_null_for_what_is_not_known)
{
	expect(OUT_JSON, true,
	       "{\"apiVersion\":\"rhc.dev/v1\",\"kind\":\"FruitList\",\"season\":\"summer\",\"items\":["
	       "{\"name\":\"apple\",\"count\":12,\"ripe\":3,\"all\":12,\"ratio\":0.250000,\"age_seconds\":3723.000,"
	       "\"sweet\":true},"
	       "{\"name\":\"p\\\"\\\\\\u000a\\u0001är\",\"count\":0,\"ripe\":0,\"all\":0,\"ratio\":null,"
	       "\"age_seconds\":null,\"sweet\":false}]}\n");
}

Test(out, rows_without_columns_print_nothing)
{
	char *text = NULL;
	size_t len = 0;
	struct out o = { .to = open_memstream(&text, &len), .form = OUT_TABLE, .headers = true };

	out_begin(&o, "Change");
	out_rows(&o, "items");
	out_row(&o);
	out_text(&o, "name", NULL, "apple");
	out_end(&o);
	fclose(o.to);
	cr_expect_str_eq(text, "");
	free(text);
}

static const struct {
	enum out_form form;
	const char *text;
} named[] = {
	{ OUT_JSON, "{\"apiVersion\":\"rhc.dev/v1\",\"kind\":\"Basket\",\"fruits\":{\"apple\":{\"count\":1},\"pear\":{\"count\":2}},"
	            "\"full\":true}\n" },
	{ OUT_TABLE, "NAME   COUNT\napple      1\npear       2\n" },
};

Test(out, named_rows_are_an_object_by_name_and_the_same_table)
{
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		char *text = NULL;
		size_t len = 0;
		struct out o = { .to = open_memstream(&text, &len), .form = named[i].form, .headers = true };

		out_begin(&o, "Basket");
		out_rows_named(&o, "fruits");
		out_row_named(&o, "apple", "NAME");
		out_count(&o, "count", "COUNT", 1);
		out_row_named(&o, "pear", "NAME");
		out_count(&o, "count", "COUNT", 2);
		out_rows_end(&o);
		out_flag(&o, "full", NULL, true);
		out_end(&o);
		fclose(o.to);
		cr_expect_str_eq(text, named[i].text, "got:\n%s", text);
		free(text);
	}
}

static const struct {
	uint64_t ms;
	const char *text;
} ages[] = { { 0, "0ms" },	 { 999, "999ms" },	  { 1000, "1.0s" },	 { 9999, "10.0s" },    { 10000, "10s" },
	     { 59999, "59s" },	 { 60000, "1m00s" },	  { 3599000, "59m59s" }, { 3600000, "1h00m" }, { 86400000, "1d00h" },
	     { 273600000, "3d04h" } };

Test(out, an_age_is_short)
{
	char text[32];

	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++)
		cr_expect_str_eq(out_duration(ages[i].ms, text), ages[i].text, "%lu", (unsigned long)ages[i].ms);
}
