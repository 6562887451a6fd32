/*
 * ctl/ctl.h - rhcctl: commands over the segment, and nothing else.
 *
 * Shape    Tables of commands and options (commands.def, options.def) make the dispatch, the help and the completions.
 *          A command gets a struct ctl: its arguments, the mapped segment, the output.
 * Reads    READ_ONLY maps the segment with PROT_READ: nothing it does can disturb a worker, and it works when every
 *          worker and the supervisor hang.
 * Changes  are one CAS each under the ADMIN byte (shm/admin.h), with who and why in the event ring.
 * Output   stdout is data (table, wide or json, walked once through struct out), stderr is prose.
 * Exit     enum ctl_exit.
 */
#ifndef RHC_CTL_CTL_H
#define RHC_CTL_CTL_H

#include <getopt.h>

#include "ctl/out.h"
#include "shm/admin.h"

enum ctl_exit {
	CTL_OK = 0,
	CTL_NO = 1, /* it ran, and the answer is no */
	CTL_USAGE = 2,
	CTL_ABSENT = 3, /* no sidecar there */
	CTL_DENIED = 4, /* permission, or another layout */
	CTL_TIMEOUT = 5,
	CTL_REFUSED = 6, /* no such upstream, lost against others */
	CTL_CONFIG = 78,
};

enum ctl_access { CTL_NONE, CTL_READ_ONLY, CTL_CHANGES };

enum { CTL_ARGS_MAX = 8 };
#define CTL_INSTANCE "rhc"

struct ctl {
	/* command line */
	const char *args[CTL_ARGS_MAX]; /* after noun and verb */
	unsigned    n_args;
	const char *shm, *instance, *reason, *type, *upstream;
	const char *instead; /* the command that -h or -V means */
	uint64_t    for_ms, since_ms, watch_ms, timeout_ms;
	uint32_t    max_concurrency;
	bool        all, follow, force, has_limit, quiet;
	enum out_form form;
	bool        headers;
	/* what there is */
	struct rhc_segment seg;
	int                lock_fd;
	uint64_t           now_ms;
	struct out         out;
};

struct ctl_command {
	const char     *noun, *verb; /* verb "": the noun alone */
	const char     *alias; /* of the noun, or NULL */
	const char     *args;
	enum ctl_access access;
	enum ctl_exit (*fn)(struct ctl *c);
	const char     *help;
};

extern const struct ctl_command ctl_commands[];
extern const unsigned           ctl_commands_n;

enum ctl_opt {
#define OPTION(id, short_, long_, arg, help) CTL_OPT_##id,
#include "ctl/options.def"
#undef OPTION
	CTL_OPT_COUNT
};

struct ctl_option {
	char        letter; /* 0: none */
	const char *name, *arg, *help; /* arg NULL: none; "[X]": may be left out */
};

extern const struct ctl_option ctl_options[CTL_OPT_COUNT];

/* The table as getopt_long() wants it, and what it answers as an enum ctl_opt; CTL_OPT_COUNT: none of ours. */
void ctl_getopt(struct option longs[CTL_OPT_COUNT + 1], char shorts[3 * CTL_OPT_COUNT + 1]);
int  ctl_option_of(int id);

/* One line on stderr: "rhcctl: no upstream 'cart'".  Returns code. */
enum ctl_exit ctl_fail(enum ctl_exit code, const char *fmt, ...) RHC_PRINTF(2, 3);

uint64_t ctl_now_ms(void);

/* Index of the upstream of that name; says so and returns -1 when there is none. */
int ctl_find(struct ctl *c, const char *name);

/* Calls fn for each upstream in use, or only for args[0] when there is one. */
enum ctl_exit ctl_each(struct ctl *c, void (*fn)(struct ctl *c, const struct rhc_view_upstream *u));

/* "30s", "15m", "250ms", "1h30m", "2d", seconds; false: not a duration. */
bool ctl_duration(const char *text, uint64_t *ret_ms);

#define COMMAND(noun, verb, alias, args, access, fn, help) enum ctl_exit fn(struct ctl *c);
#include "ctl/commands.def"
#undef COMMAND

#endif
