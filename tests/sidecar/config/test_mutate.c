/* Files that went wrong on their way: whatever arrives, the load ends, with a configuration or with errors. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"

#define ROUNDS   5000
#define TEXT_MAX 4096

static const char seed[] =
	"version: 1\n"
	"preset: high-latency\n"
	"workers: auto\n"
	"listeners:\n"
	"- {name: main, address: '127.0.0.1:4640', mode: auto, idle_timeout: 5m}\n"
	"- {name: sock, address: \"unix:/run/x\"}\n"
	"defaults:\n"
	"  timeout: {connect: 250ms, read: 1m30s, total: off}\n"
	"  retry: {max_attempts: 3, retry_on: [timeout, reset], statuses: [5xx, 429, 500-502]}\n"
	"  circuit_breaker: {count_statuses: [5xx, 429], failure_rate: {threshold: 20%}}\n"
	"  headers: {add_request: {x-a: '${env:HOME:-x}'}, remove_request: [x, y]}\n"
	"upstreams:\n"
	"  orders:\n"
	"    url: https://[::1]:8443/v1\n"
	"    hosts: [a, b.example]\n"
	"    listen: 127.0.0.1:4701\n"
	"    limits: {max_request_body: 10MiB}\n"
	"logging: {level: debug, access_log: {sample: 12.5%}}\n";

static uint64_t state;

/* xorshift64*: the same files in each run. */
static uint32_t next(uint32_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

static size_t insert(char *text, size_t len, size_t at, const char *what, size_t what_len)
{
	if (len + what_len > TEXT_MAX)
		return len;
	memmove(text + at + what_len, text + at, len - at);
	memcpy(text + at, what, what_len);
	return len + what_len;
}

static size_t mutate(char *text, size_t len)
{
	static const char *const pieces[] = {
		"[",   "{",    "}",      "]",         ": ",    "- ", "\n",
		"&a ", "*a",   "!!str ", "<<: ",      "---\n", "'",  "\"",
		"#",   "\t",   "${env:", "$${",       "~",     "0",  "99999999999999999999",
		"%",   "\xff", "\xc3",   "upstreams", ".",     "-",  "|\n",
		">\n", "? ",   "null"
	};
	char copy[64];
	size_t at = next((uint32_t)len + 1), n = next(sizeof(copy));
	const char *piece;

	switch (next(5)) {
	case 0:
		if (at < len)
			text[at] = (char)next(256);
		return len;
	case 1:
		n = n > len - at ? len - at : n;
		memmove(text + at, text + at + n, len - at - n);
		return len - n;
	case 2:
		n = n > len - at ? len - at : n;
		memcpy(copy, text + at, n);
		return insert(text, len, next((uint32_t)len + 1), copy, n);
	default:
		piece = pieces[next(sizeof(pieces) / sizeof(pieces[0]))];
		return insert(text, len, at, piece, strlen(piece));
	}
}

static bool load(const char *text, size_t len)
{
	static struct findings f;
	const char *env[] = { "HOME=/x", NULL };
	struct config_source src = { .environ = (char *const *)env, .len = len };
	struct config *cfg = NULL;
	char *copy = malloc(len ? len : 1); /* exactly as long: the sanitizer guards its end */
	FILE *null = fopen("/dev/null", "w");
	int err;

	memcpy(copy, text, len);
	src.text = copy;
	findings_init(&f);
	err = config_load(&cfg, &src, &f);
	cr_assert(err == 0 || err == -EINVAL, "%d for\n%.*s", err, (int)len, text);
	cr_assert_eq(err == 0, f.errors == 0, "%d with %u errors for\n%.*s", err, f.errors,
		     (int)len, text);
	findings_print(&f, FINDINGS_TEXT, null);
	findings_print(&f, FINDINGS_JSON, null);
	if (cfg)
		config_print(cfg, CONFIG_FORM_YAML, true, null);
	fclose(null);
	findings_fini(&f);
	config_free(cfg);
	free(copy);
	return err == 0;
}

Test(mutate, a_damaged_file_is_loaded_or_refused_and_nothing_else)
{
	char text[TEXT_MAX];
	size_t loaded = 0;

	state = 20261123;
	for (int round = 0; round < ROUNDS; round++) {
		size_t len = sizeof(seed) - 1;

		memcpy(text, seed, len);
		for (uint32_t i = 1 + next(2); i > 0; i--)
			len = mutate(text, len);
		loaded += load(text, len);
	}
	/* Both outcomes are really met. */
	cr_expect_gt(loaded, ROUNDS / 100, "%zu", loaded);
	cr_expect_lt(loaded, ROUNDS / 2, "%zu", loaded);
}

Test(mutate, every_prefix_of_a_file_is_loaded_or_refused)
{
	for (size_t len = 0; len < sizeof(seed); len++)
		load(seed, len);
}

Test(mutate, deep_and_wide_files_are_refused_in_time)
{
	static const char *const units[] = { "[",   "{a: ",      "- ",    "? ", "a: [",  "&a ",
					     "!x ", "[]\n---\n", "a:\n ", "'",  "- - - " };
	size_t len = 1 << 18;
	char *text = malloc(len);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t unit = strlen(units[i]);

		for (size_t at = 0; at < len; at++)
			text[at] = units[i][at % unit];
		cr_expect(!load(text, len), "%s", units[i]);
	}
	free(text);
}

Test(mutate, a_sequence_of_too_many_items_is_refused)
{
	size_t len = 0, size = 1 << 16;
	char *text = malloc(size);

	len += (size_t)snprintf(text, size, "version: 1\nforward_proxy:\n  allow: [");
	while (len < size - 16)
		len += (size_t)snprintf(text + len, size - len, "a, ");
	len += (size_t)snprintf(text + len, size - len, "a]\n");
	cr_expect(!load(text, len));
	free(text);
}
