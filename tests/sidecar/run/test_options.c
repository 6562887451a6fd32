#include "sidecar/run/options.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>

static struct options o;

/* As main() gets them; literals are not written to. */
static int parse(const char *const *words)
{
	static char *argv[16];
	int argc = 0;

	for (; words[argc]; argc++)
		argv[argc] = strdup(words[argc]);
	return options_parse(&o, argc, argv);
}

#define PARSE(...) parse((const char *const[]){ "rhc-sidecar", ##__VA_ARGS__, NULL })

static void quiet(void)
{
	cr_redirect_stderr();
	cr_redirect_stdout();
	unsetenv("RHC_CONFIG");
}

TestSuite(options, .init = quiet);

Test(options, without_any_it_runs_with_the_default_file)
{
	cr_assert_eq(PARSE(), 0);
	cr_assert(o.mode == MODE_RUN && !o.fresh && !o.allow_disk && !o.json && o.set_len == 0);
	cr_assert_str_eq(options_config(&o), OPTIONS_CONFIG_DEFAULT);
	setenv("RHC_CONFIG", "/tmp/env.yaml", 1);
	cr_assert_str_eq(options_config(&o), "/tmp/env.yaml");
	setenv("RHC_CONFIG", "", 1);
	cr_assert_str_eq(options_config(&o), OPTIONS_CONFIG_DEFAULT);
}

Test(options, a_value_stands_behind_an_equals_sign_or_in_the_next_word)
{
	cr_assert_eq(PARSE("--config=a.yaml", "--set", "workers=2", "-s", "io.engine=epoll",
			   "--state=fresh", "--allow-disk"),
		     0);
	cr_assert_str_eq(o.config, "a.yaml");
	cr_assert(o.set_len == 2 && strcmp(o.set[1], "io.engine=epoll") == 0 && o.fresh &&
		  o.allow_disk);
	setenv("RHC_CONFIG", "/tmp/env.yaml", 1);
	cr_assert_str_eq(options_config(&o), "a.yaml", "the option wins");
	cr_assert_eq(PARSE("-c", "-o"), 0, "a value may look like an option");
	cr_assert_str_eq(o.config, "-o");
	cr_assert_eq(PARSE("--set=defaults.timeout.read=3s"), 0);
	cr_assert_str_eq(o.set[0], "defaults.timeout.read=3s");
}

Test(options, modes_are_what_they_say)
{
	cr_expect(PARSE("--check-config", "x") == 0 && o.mode == MODE_CHECK &&
		  strcmp(o.config, "x") == 0);
	cr_expect(PARSE("--print-config", "-o", "json") == 0 && o.mode == MODE_PRINT && o.json);
	cr_expect(PARSE("--explain=workers") == 0 && o.mode == MODE_EXPLAIN &&
		  strcmp(o.explain, "workers") == 0);
	cr_expect(PARSE("--print-schema") == 0 && o.mode == MODE_SCHEMA);
	cr_expect(PARSE("-V") == 0 && o.mode == MODE_VERSION);
	cr_expect(PARSE("-h") == 0 && o.mode == MODE_HELP);
}

Test(options, wrong_usage_is_2)
{
	cr_expect_eq(PARSE("--nonsense"), EXIT_USAGE);
	cr_expect_eq(PARSE("--conf", "x"), EXIT_USAGE, "no abbreviations");
	cr_expect_eq(PARSE("config"), EXIT_USAGE);
	cr_expect_eq(PARSE("-x"), EXIT_USAGE);
	cr_expect_eq(PARSE("-"), EXIT_USAGE);
	cr_expect_eq(PARSE(""), EXIT_USAGE);
	cr_expect_eq(PARSE("--config"), EXIT_USAGE, "the value is missing");
	cr_expect_eq(PARSE("--help=yes"), EXIT_USAGE);
	cr_expect_eq(PARSE("--state=old"), EXIT_USAGE);
	cr_expect_eq(PARSE("-o", "yaml"), EXIT_USAGE);
}

Test(options, more_overrides_than_there_is_room_for_are_refused)
{
	static char name[] = "rhc-sidecar", option[] = "-s", value[] = "workers=1";
	static char *argv[2 * CONFIG_OVERRIDES_MAX + 4] = { name };

	for (int i = 0; i < CONFIG_OVERRIDES_MAX + 1; i++) {
		argv[1 + 2 * i] = option;
		argv[2 + 2 * i] = value;
	}
	cr_assert_eq(options_parse(&o, 1 + 2 * CONFIG_OVERRIDES_MAX, argv), 0);
	cr_assert_eq(options_parse(&o, 3 + 2 * CONFIG_OVERRIDES_MAX, argv), EXIT_USAGE);
}

Test(options, a_file_that_is_not_there_is_78_with_a_finding_and_no_configuration)
{
	struct config *config = (struct config *)&o;
	struct findings f;

	cr_assert_eq(PARSE("--config=/nonexistent/rhc.yaml"), 0);
	findings_init(&f);
	cr_assert_eq(options_load(&o, &config, &f), EXIT_CONFIG);
	cr_assert_null(config);
	cr_assert_gt(f.errors, 0u);
	findings_fini(&f);
}
