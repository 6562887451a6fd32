/* rhc-sidecar: command line, configuration, then the supervisor. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "sidecar/base/log.h"
#include "sidecar/run/logging.h"
#include "sidecar/run/options.h"
#include "sidecar/run/supervisor.h"
#include "sidecar/run/versions.h"

/* For people: before there is a log, or instead of one. */
static int load(const struct options *o, struct config **ret, enum findings_form form, FILE *out)
{
	struct findings f;
	int rc;

	findings_init(&f);
	rc = options_load(o, ret, &f);
	if (f.len || form == FINDINGS_JSON)
		findings_print(&f, form, out);
	findings_fini(&f);
	return rc;
}

static int check(const struct options *o)
{
	struct config *config = NULL;
	int rc = load(o, &config, o->json ? FINDINGS_JSON : FINDINGS_TEXT, stdout);

	if (rc == 0 && !o->json) {
		printf("%s: configuration is valid\n", options_config(o));
		config_print_worst_case(config, stdout);
	}
	config_free(config);
	return rc;
}

static int print(const struct options *o)
{
	struct config *config = NULL;
	int rc = load(o, &config, FINDINGS_TEXT, stderr);

	if (rc == 0)
		config_print(config, o->json ? CONFIG_FORM_JSON : CONFIG_FORM_TEXT, true, stdout);
	config_free(config);
	return rc;
}

/*
 * A configuration that is refused says no form of the log: then it is prose, with the line and a
 * mark under its place.
 */
static int run(const struct options *o)
{
	struct config *config = NULL;
	struct findings f;
	int rc;

	findings_init(&f);
	rc = options_load(o, &config, &f);
	if (rc != 0) {
		findings_print(&f, FINDINGS_TEXT, stderr);
	} else {
		logging_apply(&config->logging);
		logging_findings(&f);
		log_flush();
	}
	findings_fini(&f);
	if (rc == 0)
		rc = supervisor_run(o, config);
	config_free(config);
	return rc;
}

/*
 * Whoever started us may have closed them: a socket or the segment would be opened in their place,
 * and what is meant for the log written into it.
 */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	static struct options o;
	int rc;

	fill_standard_descriptors();
	rc = options_parse(&o, argc, argv);
	if (rc != 0)
		return rc;
	switch (o.mode) {
	case MODE_HELP:
		options_help();
		return 0;
	case MODE_VERSION:
		versions_print(stdout, o.json);
		return 0;
	case MODE_SCHEMA:
		config_json_schema(stdout);
		return 0;
	case MODE_EXPLAIN:
		if (config_explain(o.explain, stdout) == 0)
			return 0;
		fprintf(stderr, "rhc-sidecar: no key '%s'\n", o.explain);
		return EXIT_USAGE;
	case MODE_CHECK:
		return check(&o);
	case MODE_PRINT:
		return print(&o);
	case MODE_RUN:
		break;
	}
	return run(&o);
}
