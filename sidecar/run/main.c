/* rhc-sidecar: command line, configuration, then the supervisor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/findings.h"
#include "sidecar/run/options.h"
#include "sidecar/run/supervisor.h"
#include "sidecar/run/versions.h"

extern char **environ;

static const char *config_path(const struct options *o)
{
	const char *env = getenv("RHC_CONFIG");

	return o->config ? o->config : env && *env ? env : OPTIONS_CONFIG_DEFAULT;
}

/* Load, say what is to be said; 0 or EXIT_CONFIG. */
static int load(const struct options *o, struct config **ret, FILE *out)
{
	struct config_source src = {
		.path = config_path(o),
		.set = o->set,
		.set_len = o->set_len,
		.environ = environ,
	};
	struct findings f;
	int rc;

	findings_init(&f);
	rc = config_load(ret, &src, &f);
	if (rc == 0)
		rc = config_check_host(*ret, &f);
	findings_print(&f, o->json && o->mode == MODE_CHECK ? FINDINGS_JSON : FINDINGS_TEXT, out);
	findings_fini(&f);
	return rc == 0 ? 0 : EXIT_CONFIG;
}

static int check(const struct options *o)
{
	struct config *config = NULL;
	int rc = load(o, &config, stdout);

	if (rc == 0 && !o->json) {
		printf("%s: configuration is valid\n", config_path(o));
		config_print_worst_case(config, stdout);
	}
	config_free(config);
	return rc;
}

static int print(const struct options *o)
{
	struct config *config = NULL;
	int rc = load(o, &config, stderr);

	if (rc == 0)
		config_print(config, o->json ? CONFIG_FORM_JSON : CONFIG_FORM_TEXT, true, stdout);
	config_free(config);
	return rc;
}

static int run(const struct options *o)
{
	struct config *config = NULL;
	int rc = load(o, &config, stderr);

	if (rc == 0)
		rc = supervisor_run(o, config);
	config_free(config);
	return rc;
}

int main(int argc, char **argv)
{
	static struct options o;
	int rc = options_parse(&o, argc, argv);

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
