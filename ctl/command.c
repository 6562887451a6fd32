/* The table of commands, and what they share. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl/ctl.h"

const struct ctl_command ctl_commands[] = {
#define COMMAND(noun, verb, alias, args, access, fn, help) { noun, verb, alias, args, access, fn, help },
#include "ctl/commands.def"
#undef COMMAND
};
const unsigned ctl_commands_n = RHC_COUNT(ctl_commands);

const struct ctl_option ctl_options[CTL_OPT_COUNT] = {
#define OPTION(id, short_, long_, arg, help) { short_, long_, arg, help },
#include "ctl/options.def"
#undef OPTION
};

enum { LONG_FIRST = 256 }; /* beyond every letter */

static int takes(const struct ctl_option *o)
{
	return !o->arg ? no_argument : o->arg[0] == '[' ? optional_argument : required_argument;
}

void ctl_getopt(struct option longs[CTL_OPT_COUNT + 1], char shorts[3 * CTL_OPT_COUNT + 1])
{
	for (int i = 0; i < CTL_OPT_COUNT; i++) {
		const struct ctl_option *o = &ctl_options[i];

		longs[i] = (struct option){ o->name, takes(o), NULL, LONG_FIRST + i };
		if (!o->letter)
			continue;
		*shorts++ = o->letter;
		for (int n = takes(o); n > 0; n--) /* ":" a value, "::" perhaps */
			*shorts++ = ':';
	}
	longs[CTL_OPT_COUNT] = (struct option){ 0 };
	*shorts = 0;
}

int ctl_option_of(int id)
{
	if (id >= LONG_FIRST)
		return id - LONG_FIRST;
	for (int i = 0; i < CTL_OPT_COUNT; i++) {
		if (id && ctl_options[i].letter == id)
			return i;
	}
	return CTL_OPT_COUNT;
}

enum ctl_exit ctl_fail(enum ctl_exit code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("rhcctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	putc('\n', stderr);
	return code;
}

uint64_t ctl_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int ctl_find(struct ctl *c, const char *name)
{
	int index = rhc_upstream_find(&c->seg, name);

	if (index < 0)
		ctl_fail(CTL_REFUSED, "no upstream '%s'", name);
	return index;
}

enum ctl_exit ctl_each(struct ctl *c, void (*fn)(struct ctl *c, const struct rhc_view_upstream *u))
{
	static struct rhc_view_upstream u; /* large: the windows are in it */
	int only = -1;

	if (c->n_args == 1 && (only = ctl_find(c, c->args[0])) < 0)
		return CTL_REFUSED;
	for (uint32_t i = 0; i < c->seg.hdr.max_upstreams; i++) {
		if ((only >= 0 && (int)i != only) || rhc_view_upstream(&c->seg, i, c->now_ms, &u) != 0)
			continue;
		if (only < 0 && u.name[0] == '_' && u.policy.limit == 0)
			continue;
		fn(c, &u);
	}
	return CTL_OK;
}

bool ctl_duration(const char *text, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		double      ms;
	} units[] = { { "ms", 1 }, { "s", 1e3 }, { "m", 6e4 }, { "h", 3.6e6 }, { "d", 8.64e7 } };
	double total = 0;

	if (!*text)
		return false;
	while (*text) {
		char *end;
		double v;
		size_t i;

		if (*text < '0' || *text > '9') /* strtod would take signs, nan, inf */
			return false;
		v = strtod(text, &end);
		if (end == text)
			return false;
		if (!*end) {
			total += v * 1e3; /* a bare number is seconds */
			break;
		}
		for (i = 0; i < RHC_COUNT(units); i++) {
			size_t n = strlen(units[i].unit);

			if (strncmp(end, units[i].unit, n) == 0 && (end[n] == 0 || (end[n] >= '0' && end[n] <= '9')))
				break;
		}
		if (i == RHC_COUNT(units))
			return false;
		total += v * units[i].ms;
		text = end + strlen(units[i].unit);
	}
	if (total > 1e13)
		return false;
	*ret_ms = (uint64_t)total;
	return true;
}

enum ctl_exit cmd_version(struct ctl *c)
{
	out_begin(&c->out, "Version");
	out_text(&c->out, "version", NULL, RHC_VERSION);
	out_count(&c->out, "segment_major", NULL, RHC_ABI_MAJOR);
	out_count(&c->out, "segment_minor", NULL, RHC_ABI_MINOR);
	out_note(&c->out, "rhcctl %s (segment %d.%d)\n", RHC_VERSION, RHC_ABI_MAJOR, RHC_ABI_MINOR);
	out_end(&c->out);
	return CTL_OK;
}

static bool is_noun(const struct ctl_command *k, const char *word)
{
	return strcmp(k->noun, word) == 0 || (k->alias && strcmp(k->alias, word) == 0);
}

/* Of all commands, or of one noun; returns how many there were. */
static unsigned help_commands(const char *noun)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ctl_commands_n; i++) {
		const struct ctl_command *k = &ctl_commands[i];
		char left[64];

		if (noun && !is_noun(k, noun))
			continue;
		if (n++ == 0)
			printf("usage: rhcctl %s [VERB] [ARGUMENTS] [OPTIONS]\n\n%s", noun ? noun : "NOUN",
			       noun ? "" : "Reads and changes a running rhc-sidecar through its shared segment.\n\n");
		snprintf(left, sizeof(left), "%s%s%s%s%s", k->noun, *k->verb ? " " : "", k->verb,
			 *k->args ? " " : "", k->args);
		printf("  %-30s %s\n", left, k->help);
		if (noun && k->alias)
			printf("  %-30s short: %s\n", "", k->alias);
	}
	return n;
}

static void help_options(void)
{
	printf("\noptions:\n");
	for (int i = 0; i < CTL_OPT_COUNT; i++) {
		const struct ctl_option *o = &ctl_options[i];
		char left[64];

		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
		         o->letter ? ", " : "  ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-30s %s\n", left, o->help);
	}
}

enum ctl_exit cmd_help(struct ctl *c)
{
	if (c->n_args > 1)
		return ctl_fail(CTL_USAGE, "help takes one noun at most");
	if (help_commands(c->n_args ? c->args[0] : NULL) == 0)
		return ctl_fail(CTL_USAGE, "no command '%s'; see rhcctl help", c->args[0]);
	help_options();
	printf("\nexit: 0 done, 1 the answer is no, 2 wrong usage, 3 no sidecar there, 4 no permission or another layout,\n"
	       "      5 timed out, 6 refused, 78 configuration invalid\n");
	return CTL_OK;
}
