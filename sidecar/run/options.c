#include "sidecar/run/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum option_id {
	O_CONFIG,
	O_SET,
	O_CHECK,
	O_PRINT,
	O_EXPLAIN,
	O_SCHEMA,
	O_STATE,
	O_DISK,
	O_OUTPUT,
	O_VERSION,
	O_HELP
};

/* clang-format off */
static const struct option_row {
	enum option_id id;
	const char    *name;
	char           letter;
	const char    *arg; /* NULL: takes none */
	const char    *help;
} rows[] = {
	{ O_CONFIG,  "config",           'c', "FILE",      "read this file (default " OPTIONS_CONFIG_DEFAULT ", or $RHC_CONFIG)" },
	{ O_SET,     "set",              's', "KEY=VALUE", "override one key; may be repeated" },
	{ O_CHECK,   "check-config",      0,  "FILE",      "check a file, say everything that is wrong with it, and end" },
	{ O_PRINT,   "print-config",      0,  NULL,        "print the effective configuration with the origin of each value" },
	{ O_EXPLAIN, "explain",           0,  "KEY",       "explain one key of the configuration" },
	{ O_SCHEMA,  "print-schema",      0,  NULL,        "print the JSON Schema of the configuration" },
	{ O_STATE,   "state",             0,  "keep|fresh", "keep breaker states and counters (default), or begin anew" },
	{ O_DISK,    "allow-disk",        0,  NULL,        "let the shared segment lie on a file system other than tmpfs" },
	{ O_OUTPUT,  "output",           'o', "text|json", "form of what the options above print" },
	{ O_VERSION, "version",          'V', NULL,        "print versions and end" },
	{ O_HELP,    "help",             'h', NULL,        "print this and end" },
};
/* clang-format on */

void options_help(void)
{
	printf("usage: rhc-sidecar [options]\n\n"
	       "A resilience sidecar for outbound HTTP calls: circuit breaker, bulkhead, retries, timeouts.\n\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char left[64];

		snprintf(left, sizeof(left), "%c%c --%s%s%s", rows[i].letter ? '-' : ' ',
			 rows[i].letter ? rows[i].letter : ' ', rows[i].name,
			 rows[i].arg ? "=" : "", rows[i].arg ? rows[i].arg : "");
		printf("  %-26s  %s\n", left, rows[i].help);
	}
	printf("\nsignals: HUP reloads the configuration, TERM drains and ends, a second TERM or INT ends at once,\n"
	       "         USR1 reopens log files\n"
	       "exit:    0 clean end, 1 failed, 2 wrong usage, 78 configuration invalid\n");
}

static int usage(const char *what, const char *which)
{
	fprintf(stderr, "rhc-sidecar: %s '%s'; see rhc-sidecar --help\n", what, which);
	return EXIT_USAGE;
}

/* value is "" for options that take none. */
static int apply(struct options *o, enum option_id id, const char *value)
{
	switch (id) {
	case O_CONFIG:
		o->config = value;
		return 0;
	case O_SET:
		if (o->set_len == CONFIG_OVERRIDES_MAX)
			return usage("too many --set, the first one too many is", value);
		o->set[o->set_len++] = value;
		return 0;
	case O_CHECK:
		o->mode = MODE_CHECK;
		o->config = value;
		return 0;
	case O_PRINT:
		o->mode = MODE_PRINT;
		return 0;
	case O_EXPLAIN:
		o->mode = MODE_EXPLAIN;
		o->explain = value;
		return 0;
	case O_SCHEMA:
		o->mode = MODE_SCHEMA;
		return 0;
	case O_STATE:
		if (strcmp(value, "keep") != 0 && strcmp(value, "fresh") != 0)
			return usage("--state is keep or fresh, not", value);
		o->fresh = strcmp(value, "fresh") == 0;
		return 0;
	case O_DISK:
		o->allow_disk = true;
		return 0;
	case O_OUTPUT:
		if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
			return usage("--output is text or json, not", value);
		o->json = strcmp(value, "json") == 0;
		return 0;
	case O_VERSION:
		o->mode = MODE_VERSION;
		return 0;
	case O_HELP:
		o->mode = MODE_HELP;
		return 0;
	}
	return EXIT_USAGE;
}

/* "--name=value", "--name value", "-n value"; *used is how many words it took. */
static const struct option_row *match(const char *word, const char **ret_value)
{
	*ret_value = NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = strlen(rows[i].name);

		if (word[0] == '-' && word[1] == '-' && strncmp(word + 2, rows[i].name, n) == 0 &&
		    (word[2 + n] == 0 || word[2 + n] == '=')) {
			*ret_value = word[2 + n] ? word + 3 + n : NULL;
			return &rows[i];
		}
		if (word[0] == '-' && rows[i].letter && word[1] == rows[i].letter && word[2] == 0)
			return &rows[i];
	}
	return NULL;
}

int options_parse(struct options *o, int argc, char **argv)
{
	memset(o, 0, sizeof(*o));
	for (int i = 1; i < argc; i++) {
		const char *value;
		const struct option_row *row = match(argv[i], &value);
		int rc;

		if (!row)
			return usage("unknown argument", argv[i]);
		if (value && !row->arg)
			return usage("this option takes no value:", argv[i]);
		if (!value && row->arg) {
			if (i + 1 == argc)
				return usage("this option needs a value:", argv[i]);
			value = argv[++i];
		}
		rc = apply(o, row->id, value ? value : "");
		if (rc != 0)
			return rc;
	}
	return 0;
}

const char *options_config(const struct options *o)
{
	const char *env = getenv("RHC_CONFIG");

	return o->config ? o->config : env && *env ? env : OPTIONS_CONFIG_DEFAULT;
}

int options_load(const struct options *o, struct config **ret, struct findings *f)
{
	const struct config_source src = {
		.path = options_config(o),
		.set = o->set,
		.set_len = o->set_len,
		.environ = environ,
	};
	int rc = config_load(ret, &src, f);

	if (rc == 0 && config_check_host(*ret, f) != 0) {
		config_free(*ret);
		rc = -1;
	}
	if (rc == 0)
		return 0;
	*ret = NULL;
	return EXIT_CONFIG;
}
