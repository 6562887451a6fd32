#include <criterion/criterion.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"
#include "sidecar/config/schema.h"

/* A value of every kind, none of them the default. */
#define RICH                                                                                            \
	"version: 1\n"                                                                                  \
	"preset: high-throughput\n"                                                                     \
	"instance: shop-1\n"                                                                            \
	"workers: 2\n"                                                                                  \
	"io: {engine: epoll}\n"                                                                         \
	"defaults: {limits: {max_request_body: 8KiB}}\n"                                                \
	"listeners:\n"                                                                                  \
	"- {name: main, address: '127.0.0.1:4640', idle_timeout: 1m1s}\n"                               \
	"- {name: sock, address: 'unix:/run/x', mode: upstream, upstream: orders}\n"                    \
	"admin: {address: null, socket_mode: '0600'}\n"                                                 \
	"upstreams:\n"                                                                                  \
	"  orders:\n"                                                                                   \
	"    url: https://orders:8443/v1\n"                                                             \
	"    hosts: [a.example, 'quo\"te', 'back\\slash', '$${env:X}', '$$5']\n"                        \
	"    listen: 127.0.0.1:4701\n"                                                                  \
	"    timeout: {read: 1234567us, total: 90s}\n"                                                  \
	"    retry: {statuses: [429, 5xx], methods: [GET], multiplier: 1.75, budget: {ratio: 12.5%}}\n" \
	"    circuit_breaker: {count_statuses: [429, 5xx], enabled: false}\n"                           \
	"    tls: {min_version: '1.3', alpn: [], server_name: größe}\n"                               \
	"    headers: {request_id: null, forwarded: rfc7239}\n"                                         \
	"  '007': {url: 'http://bond', retry: {retry_on: []}}\n"                                        \
	"logging: {level: warn, components: {dns: trace}, access_log: {sample: 0.25, exclude_paths: [/live]}}\n"

static struct findings f;

static struct config *load(const char *text)
{
	struct config *cfg = NULL;
	struct config_source src = { .path = "rhc.yaml", .text = text, .len = strlen(text) };

	findings_init(&f);
	if (config_load(&cfg, &src, &f) != 0)
		findings_print(&f, FINDINGS_TEXT, stderr);
	cr_assert(cfg);
	findings_fini(&f);
	return cfg;
}

/* Not inlined: gcc 12 at -O2 takes the text for a pointer to the local that holds it. */
static __attribute__((noinline)) char *print(const struct config *cfg, enum config_form form,
					     bool origin)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_print(cfg, form, origin, out);
	fclose(out);
	return text;
}

Test(print, the_printed_file_loads_to_the_same_values)
{
	for (int origin = 0; origin <= 1; origin++) {
		struct config *cfg = load(RICH), *again;
		char *text = print(cfg, CONFIG_FORM_YAML, origin);

		again = load(text);
		cr_expect_eq(config_hash(cfg), config_hash(again), "%s", text);
		free(text);
		config_free(cfg);
		config_free(again);
	}
}

static int expect_equal(void *arg, const char *path, const struct schema_key *k, const void *field)
{
	const void *other = schema_field(arg, path);

	cr_expect(other, "%s", path);
	cr_expect(k->kind < SCHEMA_SUB);
	(void)field;
	return 0;
}

Test(print, each_path_of_the_walk_names_its_field)
{
	struct config *cfg = load(RICH);

	schema_walk(cfg, expect_equal, cfg);
	cr_expect_eq(schema_field(cfg, "upstreams.007.url"), &cfg->upstreams[1].url);
	cr_expect_eq(schema_field(cfg, "listeners.1.name"), &cfg->listeners[1].name);
	cr_expect_null(schema_field(cfg, "upstreams.nobody.url"));
	cr_expect_null(schema_field(cfg, "upstreams"));
	cr_expect_null(schema_field(cfg, "version.x"));
	cr_expect_null(schema_field(cfg, "listeners.9.name"));
	config_free(cfg);
}

Test(print, a_secret_is_in_no_form)
{
	struct config *cfg =
		load("version: 1\nadmin: {token_file: /etc/hunter2}\nupstreams:\n"
		     "  o: {url: 'http://o', headers: {add_request: {x-key: hunter2}}}\n");

	for (int form = CONFIG_FORM_TEXT; form <= CONFIG_FORM_JSON; form++) {
		char *text = print(cfg, (enum config_form)form, true);

		cr_expect_null(strstr(text, "hunter2"), "%s", text);
		cr_expect(strstr(text, "<redacted>"));
		free(text);
	}
	config_free(cfg);
}

Test(print, each_value_tells_where_it_comes_from)
{
	static const char *const lines[] = {
		"upstreams.orders.timeout.read",
		"file rhc.yaml:16:21",
		"upstreams.orders.timeout.connect",
		"preset high-throughput (defaults)",
		"upstreams.orders.timeout.idle",
		"default",
		"defaults.timeout.connect",
		"preset high-throughput",
		"admin.address",
		"file rhc.yaml:10:18",
		"telemetry.address",
		"default",
	};
	struct config *cfg = load(RICH);
	char *text = print(cfg, CONFIG_FORM_TEXT, true);

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i += 2) {
		char *line = strstr(text, lines[i]), *end;

		cr_assert(line, "%s", lines[i]);
		end = strchr(line, '\n');
		*end = '\0';
		cr_expect_str_eq(end - strlen(lines[i + 1]), lines[i + 1], "%s", line);
		*end = '\n';
	}
	free(text);
	config_free(cfg);
}

/* ---- JSON: a small reader, enough to know that it is well-formed ---- */

static const char *json_value(const char *p);

static const char *json_blank(const char *p)
{
	while (p && isspace((unsigned char)*p))
		p++;
	return p;
}

static const char *json_string(const char *p)
{
	if (*p++ != '"')
		return NULL;
	for (; *p != '"'; p++) {
		if ((unsigned char)*p < 0x20)
			return NULL;
		if (*p == '\\' && !strchr("\"\\/bfnrtu", *++p))
			return NULL;
	}
	return p + 1;
}

static const char *json_members(const char *p, char close)
{
	p = json_blank(p + 1);
	if (*p == close)
		return p + 1;
	for (;; p++) {
		p = json_blank(p);
		if (close == '}') {
			p = json_blank(json_string(p));
			if (!p || *p++ != ':')
				return NULL;
		}
		p = json_blank(json_value(p));
		if (!p || *p == close)
			return p ? p + 1 : NULL;
		if (*p != ',')
			return NULL;
	}
}

static const char *json_value(const char *p)
{
	char *end;

	p = json_blank(p);
	if (*p == '{' || *p == '[')
		return json_members(p, *p == '{' ? '}' : ']');
	if (*p == '"')
		return json_string(p);
	if (strncmp(p, "null", 4) == 0 || strncmp(p, "true", 4) == 0)
		return p + 4;
	if (strncmp(p, "false", 5) == 0)
		return p + 5;
	strtod(p, &end);
	return end == p ? NULL : end;
}

static void expect_json(const char *text)
{
	const char *end = json_blank(json_value(text));

	cr_expect(end && *end == '\0', "not JSON at %.60s in\n%s", end ? end : "?", text);
}

Test(print, what_is_printed_as_json_is_json)
{
	struct config *cfg = load(RICH);
	char *text = print(cfg, CONFIG_FORM_JSON, true);

	expect_json(text);
	cr_expect(strstr(text, "{\"key\":\"upstreams.orders.timeout.read\",\"value\":1.234567,"));
	cr_expect(
		strstr(text, "{\"key\":\"upstreams.orders.retry.budget.ratio\",\"value\":0.125,"));
	cr_expect(strstr(text, "{\"key\":\"defaults.limits.max_request_body\",\"value\":8192,"));
	free(text);
	config_free(cfg);
}

Test(print, the_json_schema_is_json_and_names_every_key)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	config_json_schema(out);
	fclose(out);
	expect_json(text);
	cr_expect(strstr(text, "\n\"half_open_max_calls\":"));
	cr_expect(strstr(text, "\n\"min_wait\":"), "other names as well");
	cr_expect(strstr(text, "\n\"log_components\":{\"type\""), "each group is defined");
	free(text);
}

/* ---- hash and differences ---- */

Test(print, the_hash_is_of_the_values_however_they_are_written)
{
	struct config *a =
		load("version: 1\nupstreams: {o: {url: 'http://o', timeout: {read: 60s}}}\n");
	struct config *b = load(
		"# a comment\n\nupstreams:\n  o:\n    timeout: {read: 1m}\n    url: http://o\nversion: 1\n");
	struct config *c =
		load("version: 1\nupstreams: {o: {url: 'http://o', timeout: {read: 61s}}}\n");
	char text[CONFIG_HASH_TEXT];

	cr_expect_eq(config_hash(a), config_hash(b));
	cr_expect_neq(config_hash(a), config_hash(c));
	config_hash_text(a, text);
	cr_expect_eq(strlen(text), CONFIG_HASH_TEXT - 1);
	config_free(a);
	config_free(b);
	config_free(c);
}

Test(print, a_changed_secret_changes_the_hash)
{
	struct config *a = load("version: 1\ndefaults: {headers: {add_request: {x-key: a}}}\n");
	struct config *b = load("version: 1\ndefaults: {headers: {add_request: {x-key: b}}}\n");

	cr_expect_neq(config_hash(a), config_hash(b));
	config_free(a);
	config_free(b);
}

static void collect(void *arg, const char *key, bool restart)
{
	fprintf(arg, "%s%s ", key, restart ? "!" : "");
}

static void expect_diff(const char *was_text, const char *now_text, const char *expected)
{
	struct config *was = load(was_text), *now = load(now_text);
	char *text = NULL;
	size_t len, count, words = 0;
	FILE *out = open_memstream(&text, &len);

	count = config_diff(was, now, collect, out);
	fclose(out);
	for (size_t i = 0; i < len; i++)
		words += text[i] == ' ';
	cr_expect_str_eq(text, expected);
	cr_expect_eq(count, words);
	free(text);
	config_free(was);
	config_free(now);
}

#define U "version: 1\nupstreams:\n  o: {url: 'http://o'}\n"

Test(print, a_difference_is_a_key_or_a_whole_element)
{
	expect_diff(U, U, "");
	expect_diff(RICH, RICH, "");
	expect_diff(U, U "  p: {url: 'http://p'}\n  q: {url: 'http://q'}\n",
		    "upstreams.p upstreams.q ");
	expect_diff(U "  p: {url: 'http://p'}\n", U, "upstreams.p ");
	expect_diff(U, U "defaults: {timeout: {read: 40s}}\n",
		    "defaults.timeout.read upstreams.o.timeout.read ");
	expect_diff(U, U "io: {entries: 64}\nworkers: 2\n", "workers! io.entries! ");
	expect_diff(U,
		    U
		    "listeners:\n- {address: '127.0.0.1:1'}\n- {name: b, address: '127.0.0.1:2'}\n",
		    "listeners.0.address! listeners.1! ");
	expect_diff(U, U "  p: {url: 'http://p', listen: '127.0.0.1:4701'}\n", "upstreams.p! ");
	expect_diff(U, U "admin: {token_file: /a}\n", "admin.token_file ");
}

/* ---- explaining ---- */

static int explain(const char *key, char **ret)
{
	size_t len;
	FILE *out = open_memstream(ret, &len);
	int err = config_explain(key, out);

	fclose(out);
	return err;
}

static int expect_explained(void *arg, const char *path, const struct schema_key *k,
			    const void *field)
{
	char *text = NULL;

	(void)arg;
	(void)field;
	cr_expect_eq(explain(path, &text), 0, "%s", path);
	cr_expect(strstr(text, k->doc), "%s", path);
	free(text);
	return 0;
}

Test(print, every_key_is_explained)
{
	struct config *cfg = load(RICH);
	char *text = NULL;

	schema_walk(cfg, expect_explained, NULL);
	config_free(cfg);
	cr_expect_eq(explain("retry.max_attempts", &text), 0, "also as the guide says it");
	cr_expect(strstr(text, "from 1 to 100") && strstr(text, "high-latency 5"));
	cr_expect(strstr(text, "RHC_DEFAULTS__RETRY__MAX_ATTEMPTS"));
	free(text);
	cr_expect_eq(explain("retry", &text), 0);
	cr_expect(strstr(text, "defaults.retry.budget.ratio"));
	free(text);
	cr_expect_eq(explain("", &text), 0);
	cr_expect(strstr(text, "upstreams.<name>.url") && strstr(text, "shutdown.max_wait"));
	free(text);
}

Test(print, an_unknown_key_is_answered_with_the_nearest_one)
{
	char *text = NULL;

	cr_expect_eq(explain("retry.max_atempts", &text), -ENOENT);
	cr_expect(strstr(text, "did you mean \"retry.max_attempts\"?"), "%s", text);
	free(text);
	cr_expect_eq(explain("completely.unlike.anything", &text), -ENOENT);
	cr_expect_null(strstr(text, "did you mean"));
	free(text);
}

Test(print, the_table_documents_every_key)
{
	char *text = NULL, *line, *next;
	size_t keys = 0;

	cr_expect_eq(explain("", &text), 0);
	for (line = text; (next = strchr(line, '\n')); line = next + 1) {
		*next = '\0';
		cr_expect_gt(next - line, 70, "%s", line);
		keys++;
	}
	free(text);
	cr_expect_gt(keys, 140);
}
