#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/findings.h"
#include "sidecar/config/place.h"

static struct findings f;

static char *print(enum findings_form form)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	findings_print(&f, form, out);
	fclose(out);
	return text;
}

static struct place at(uint32_t line, uint32_t column, uint32_t width)
{
	return (struct place){ .kind = PLACE_FILE, .line = line, .column = column, .width = width };
}

Test(findings, they_are_told_in_the_order_of_the_file_and_those_without_a_place_last)
{
	static const char text[] = "a: 1\nb: 2\n";
	struct reporter r = { &f, "x", text, sizeof(text) - 1 };
	struct place p[] = { at(2, 4, 1), at(1, 4, 1), at(1, 1, 1) };
	char *said;

	findings_init(&f);
	report(&r, "E001", NULL, NULL, NULL, "last");
	for (size_t i = 0; i < 3; i++)
		report(&r, "W101", &p[i], NULL, NULL, "finding %zu", 3 - i);
	said = print(FINDINGS_TEXT);
	cr_expect_str_eq(said, "x:1:1: warning: finding 1 [W101]\n    1 | a: 1\n      | ^\n"
			       "x:1:4: warning: finding 2 [W101]\n    1 | a: 1\n      |    ^\n"
			       "x:2:4: warning: finding 3 [W101]\n    2 | b: 2\n      |    ^\n"
			       "x: error: last [E001]\n"
			       "1 error, 3 warnings\n");
	free(said);
	findings_fini(&f);
}

Test(findings, beyond_the_last_that_is_held_they_are_still_counted)
{
	struct reporter r = { &f, "x", NULL, 0 };
	char *said;

	findings_init(&f);
	for (int i = 0; i < FINDINGS_MAX + 5; i++)
		report(&r, "E002", NULL, NULL, NULL, "%d", i);
	cr_expect_eq(f.len, FINDINGS_MAX);
	cr_expect_eq(f.errors, FINDINGS_MAX + 5);
	said = print(FINDINGS_TEXT);
	cr_expect(strstr(said, "(5 more not shown)\n205 errors, 0 warnings\n"));
	free(said);
	findings_fini(&f);
}

Test(findings, a_place_behind_the_text_has_no_excerpt)
{
	static const char text[] = "a: 1\n";
	struct reporter r = { &f, "x", text, sizeof(text) - 1 };
	struct place p[] = { at(1, 400, 1), at(2, 1, 1), at(9, 9, 9) };
	char *said;

	findings_init(&f);
	for (size_t i = 0; i < 3; i++)
		report(&r, "E001", &p[i], NULL, NULL, "here");
	cr_expect(f.item[0].excerpt && !f.item[1].excerpt && !f.item[2].excerpt);
	said = print(FINDINGS_TEXT);
	cr_expect(strstr(said, "x:1:400: error: here"));
	free(said);
	findings_fini(&f);
}

Test(findings, a_terminal_is_not_commanded_by_the_file)
{
	static const char text[] = "a: \x1b[2J\x7f\n";
	struct reporter r = { &f, "x", text, sizeof(text) - 1 };
	struct place p = at(1, 4, 1);
	char *said;

	findings_init(&f);
	report(&r, "E001", &p, NULL, NULL, "here");
	said = print(FINDINGS_TEXT);
	cr_expect_null(strchr(said, '\x1b'));
	cr_expect_null(strchr(said, '\x7f'));
	free(said);
	findings_fini(&f);
}

Test(findings, the_line_of_a_secret_is_not_shown)
{
	static const char text[] = "x-key: hunter2\nAuthorization: hunter2\n";
	struct reporter r = { &f, "x", text, sizeof(text) - 1 };
	struct place known = at(1, 8, 7), guessed = at(2, 16, 7);
	char *said;

	known.secret = true;
	findings_init(&f);
	report(&r, "E004", &known, NULL, NULL, "here");
	report(&r, "E001", &guessed, NULL, NULL, "there");
	for (int form = FINDINGS_TEXT; form <= FINDINGS_JSON; form++) {
		said = print((enum findings_form)form);
		cr_expect_null(strstr(said, "hunter2"));
		free(said);
	}
	findings_fini(&f);
}
