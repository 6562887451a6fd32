/* The tables of rhcctl and the words it understands. */
#include <criterion/criterion.h>
#include <string.h>

#include "ctl/ctl.h"

static const struct {
	const char *says, *text;
	bool good;
	uint64_t ms;
} durations[] = {
	{ "a bare number is seconds", "30", true, 30000 },
	{ "milliseconds are not minutes", "250ms", true, 250 },
	{ "a minute", "1m", true, 60000 },
	{ "parts add up", "1h30m", true, 5400000 },
	{ "all units in a row", "1d2h3m4s5ms", true, 93784005 },
	{ "parts of a second", "0.5s", true, 500 },
	{ "nothing is not a duration", "", false, 0 },
	{ "a word is not", "soon", false, 0 },
	{ "not a number is not", "nan", false, 0 },
	{ "infinity is not", "inf", false, 0 },
	{ "time does not run backwards", "-1s", false, 0 },
	{ "a sign is not needed", "+1s", false, 0 },
	{ "an unknown unit", "3w", false, 0 },
	{ "a unit alone", "s", false, 0 },
	{ "a unit cut short by another", "1sm", false, 0 },
	{ "a blank within", "1 s", false, 0 },
	{ "longer than any word can hold", "99999999999d", false, 0 },
};

Test(command, a_duration_is_understood_or_refused)
{
	for (size_t i = 0; i < RHC_COUNT(durations); i++) {
		uint64_t ms = 0;
		bool good = ctl_duration(durations[i].text, &ms);

		cr_expect_eq(good, durations[i].good, "%s: '%s'", durations[i].says, durations[i].text);
		cr_expect_eq(ms, durations[i].ms, "%s: '%s' gave %lu", durations[i].says, durations[i].text,
		             (unsigned long)ms);
	}
}

Test(command, commands_of_a_noun_stand_together_and_have_one_alias)
{
	for (unsigned i = 1; i < ctl_commands_n; i++) {
		const struct ctl_command *k = &ctl_commands[i];

		for (unsigned j = 0; j < i; j++) {
			if (strcmp(ctl_commands[j].noun, k->noun) != 0)
				continue;
			cr_expect_str_eq(ctl_commands[i - 1].noun, k->noun, "%s is torn apart", k->noun);
			cr_expect_eq(ctl_commands[j].alias != NULL, k->alias != NULL);
			cr_expect(strcmp(ctl_commands[j].verb, k->verb) != 0, "%s %s is there twice", k->noun, k->verb);
		}
	}
}

Test(command, every_command_and_option_has_a_help_of_one_line)
{
	for (unsigned i = 0; i < ctl_commands_n; i++)
		cr_expect(ctl_commands[i].help[0] && !strchr(ctl_commands[i].help, '\n'), "%s", ctl_commands[i].noun);
	for (int i = 0; i < CTL_OPT_COUNT; i++)
		cr_expect(ctl_options[i].help[0] && !strchr(ctl_options[i].help, '\n'), "%s", ctl_options[i].name);
}

Test(command, letters_and_names_of_options_lead_to_their_row)
{
	struct option longs[CTL_OPT_COUNT + 1];
	char shorts[3 * CTL_OPT_COUNT + 1];

	ctl_getopt(longs, shorts);
	for (int i = 0; i < CTL_OPT_COUNT; i++) {
		cr_expect_eq(ctl_option_of(longs[i].val), i);
		if (!ctl_options[i].letter)
			continue;
		cr_expect_eq(ctl_option_of(ctl_options[i].letter), i);
		cr_expect_not_null(strchr(shorts, ctl_options[i].letter));
	}
	cr_expect_eq(ctl_option_of('?'), CTL_OPT_COUNT);
	cr_expect_eq(ctl_option_of(0), CTL_OPT_COUNT);
	cr_expect_null(longs[CTL_OPT_COUNT].name);
}
