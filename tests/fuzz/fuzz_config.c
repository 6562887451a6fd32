/*
 * A configuration: findings or a configuration, never neither; printed as YAML it loads again to the same values.
 */
#include <errno.h>

#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"
#include "tests/fuzz/fuzz.h"

enum { MEMORY_MAX = 8 << 20 };

static struct config *load(const char *text, size_t n, struct findings *f, int *ret)
{
	const struct config_source src = { .text = text, .len = n, .memory_max = MEMORY_MAX };
	struct config             *c = NULL;

	findings_init(f);
	*ret = config_load(&c, &src, f);
	DEMAND((*ret == 0) == (c != NULL), "%d, and %s configuration", *ret, c ? "a" : "no");
	DEMAND(*ret == 0 || *ret == -EINVAL || *ret == -ENOMEM, "%d", *ret);
	DEMAND(*ret != -EINVAL || f->errors > 0, "refused without a word");
	DEMAND(*ret != 0 || f->errors == 0, "accepted with errors");
	return c;
}

static void check_findings(const struct findings *f)
{
	FILE *null = fopen("/dev/null", "w");

	for (uint32_t i = 0; i < f->len; i++)
		DEMAND(f->item[i].message && f->item[i].message[0] && f->item[i].id[0], "a finding without words");
	findings_print(f, FINDINGS_TEXT, null);
	findings_print(f, FINDINGS_JSON, null);
	fclose(null);
}

static void check_printed(const struct config *c)
{
	static struct findings f;
	char                  *text = NULL;
	size_t                 n = 0;
	FILE                  *out = open_memstream(&text, &n);
	struct config         *again;
	int                    r;

	config_print(c, CONFIG_FORM_YAML, false, out);
	fclose(out);
	again = load(text, n, &f, &r);
	/* add_request is secret and so printed as a word: see the target's README */
	if (!strstr(text, "<redacted>")) {
		DEMAND(r == 0 || r == -ENOMEM, "printed, and not read back: %s\n%s", f.len ? f.item[0].message : "", text);
		DEMAND(r != 0 || config_hash(c) == config_hash(again), "other values:\n%s", text);
	}
	findings_fini(&f);
	config_free(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct findings f;
	struct config         *c;
	char                  *exact;
	int                    r;

	if (size > 16384)
		return 0;
	exact = (char *)fuzz_copy(data, size);
	c = load(exact, size, &f, &r);
	free(exact);
	check_findings(&f);
	findings_fini(&f);
	if (c)
		check_printed(c);
	config_free(c);
	return 0;
}
