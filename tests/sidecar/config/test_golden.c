/*
 * Every golden/<name>.yaml is loaded, and what is said about it must be golden/<name>.expect.
 *
 * Lines at the top of the file direct the load: "#! set key=value", "#! env NAME=value", "#! json" for findings as
 * JSON, "#! show prefix" to print the keys that begin so.  RHC_GOLDEN_UPDATE=1 writes the expectations anew; look
 * at the difference before keeping them.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"

#define GOLDEN     RHC_SOURCE_DIR "/tests/sidecar/config/golden"
#define DIRECTIVES 16

struct directives {
	char *set[DIRECTIVES], *env[DIRECTIVES + 1], *show[DIRECTIVES];
	size_t set_len, env_len, show_len;
	bool json;
};

static char *slurp(const char *path, size_t *ret_len)
{
	FILE *in = fopen(path, "r");
	char *text = NULL;
	size_t size = 0;
	ssize_t len;

	if (!in)
		return NULL;
	len = getdelim(&text, &size, '\0', in);
	fclose(in);
	*ret_len = len > 0 ? (size_t)len : 0;
	return text;
}

static void read_directives(struct directives *d, const char *text)
{
	for (; strncmp(text, "#! ", 3) == 0; text += strcspn(text, "\n") + 1) {
		char *line = strndup(text + 3, strcspn(text + 3, "\n"));
		char *rest = line + 4;

		if (strncmp(line, "set ", 4) == 0)
			d->set[d->set_len++] = strdup(rest);
		else if (strncmp(line, "env ", 4) == 0)
			d->env[d->env_len++] = strdup(rest);
		else if (strncmp(line, "show ", 5) == 0)
			d->show[d->show_len++] = strdup(rest + 1);
		else
			d->json = strcmp(line, "json") == 0;
		free(line);
	}
}

static void free_directives(struct directives *d)
{
	for (size_t i = 0; i < DIRECTIVES; i++) {
		free(d->set[i]);
		free(d->env[i]);
		free(d->show[i]);
	}
}

static void print_shown(const struct config *cfg, const struct directives *d, FILE *out)
{
	char *all = NULL, *line, *next;
	size_t len;
	FILE *mem = open_memstream(&all, &len);

	config_print(cfg, CONFIG_FORM_TEXT, true, mem);
	fclose(mem);
	for (line = all; (next = strchr(line, '\n')); line = next + 1) {
		for (size_t i = 0; i < d->show_len; i++) {
			if (strncmp(line, d->show[i], strlen(d->show[i])) == 0) {
				fprintf(out, "%.*s\n", (int)(next - line), line);
				break;
			}
		}
	}
	free(all);
}

/* What the load of that file says, to be freed. */
static char *say(const char *name, const char *text, size_t len)
{
	struct directives d = { 0 };
	struct findings f;
	struct config *cfg = NULL;
	struct config_source src = { .path = name, .text = text, .len = len };
	char *said = NULL;
	size_t said_len;
	FILE *out = open_memstream(&said, &said_len);
	int err;

	read_directives(&d, text);
	src.set = (const char *const *)d.set;
	src.set_len = d.set_len;
	src.environ = d.env;
	findings_init(&f);
	err = config_load(&cfg, &src, &f);
	cr_expect((err == 0) == (f.errors == 0), "%s: %d with %u errors", name, err, f.errors);
	cr_expect((err == 0) == (cfg != NULL));
	findings_print(&f, d.json ? FINDINGS_JSON : FINDINGS_TEXT, out);
	if (cfg)
		print_shown(cfg, &d, out);
	fclose(out);
	config_free(cfg);
	findings_fini(&f);
	free_directives(&d);
	return said;
}

/* A name tells what must be found: e002-… has an E002, …-good has nothing. */
static void check_name(const char *name, const char *said)
{
	char id[6] = "[";

	if (strstr(name, "-good")) {
		cr_expect(strstr(said, "0 errors, 0 warnings\n"), "%s has findings:\n%s", name,
			  said);
	} else if ((name[0] == 'e' || name[0] == 'w') && name[1] >= '0' && name[1] <= '9') {
		memcpy(id + 1, name, 4);
		id[1] = (char)(id[1] - 'a' + 'A');
		cr_expect(strstr(said, id), "%s has no %s:\n%s", name, id + 1, said);
	}
}

static void compare(const char *name)
{
	char path[512];
	size_t len, expect_len;
	char *text, *said, *expect;
	FILE *out;

	snprintf(path, sizeof(path), GOLDEN "/%s", name);
	text = slurp(path, &len);
	cr_assert(text, "%s", path);
	said = say(name, text, len);
	check_name(name, said);
	snprintf(path, sizeof(path), GOLDEN "/%.*s.expect", (int)(strlen(name) - strlen(".yaml")),
		 name);
	if (getenv("RHC_GOLDEN_UPDATE")) {
		out = fopen(path, "w");
		cr_assert(out, "%s", path);
		fputs(said, out);
		fclose(out);
	}
	expect = slurp(path, &expect_len);
	cr_expect(expect && strcmp(said, expect) == 0, "%s: said\n%s\nexpected\n%s", name, said,
		  expect ? expect : "(no .expect)");
	free(expect);
	free(said);
	free(text);
}

Test(golden, what_is_said_about_each_file_is_what_was_expected)
{
	DIR *dir = opendir(GOLDEN);
	struct dirent *e;
	size_t count = 0;

	cr_assert(dir);
	while ((e = readdir(dir))) {
		size_t len = strlen(e->d_name);

		if (len > 5 && strcmp(e->d_name + len - 5, ".yaml") == 0) {
			compare(e->d_name);
			count++;
		}
	}
	closedir(dir);
	cr_assert_geq(count, 80, "only %zu golden files", count);
}
