/* rhcctl: command line, segment, dispatch. */
#include <errno.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"

enum { OPT_SHM = 256, OPT_INSTANCE, OPT_REASON, OPT_FOR, OPT_SINCE, OPT_TYPE, OPT_UPSTREAM, OPT_ALL, OPT_FORCE,
	OPT_TIMEOUT, OPT_LIMIT, OPT_NO_HEADERS };

static const struct option longs[] = {
	{ "output", required_argument, NULL, 'o' },
	{ "watch", optional_argument, NULL, 'w' },
	{ "follow", no_argument, NULL, 'f' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ "shm", required_argument, NULL, OPT_SHM },
	{ "instance", required_argument, NULL, OPT_INSTANCE },
	{ "reason", required_argument, NULL, OPT_REASON },
	{ "for", required_argument, NULL, OPT_FOR },
	{ "since", required_argument, NULL, OPT_SINCE },
	{ "type", required_argument, NULL, OPT_TYPE },
	{ "upstream", required_argument, NULL, OPT_UPSTREAM },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "force", no_argument, NULL, OPT_FORCE },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "max-concurrency", required_argument, NULL, OPT_LIMIT },
	{ "no-headers", no_argument, NULL, OPT_NO_HEADERS },
	{ NULL, 0, NULL, 0 },
};

static enum ctl_exit duration(const char *what, const char *text, uint64_t *ret)
{
	return ctl_duration(text, ret) ? CTL_OK : ctl_fail(CTL_USAGE, "%s: '%s' is not a duration (30s, 15m, 1h30m)", what, text);
}

static enum ctl_exit form(struct ctl *c, const char *word)
{
	if (strcmp(word, "table") == 0)
		c->form = OUT_TABLE;
	else if (strcmp(word, "wide") == 0)
		c->form = OUT_WIDE;
	else if (strcmp(word, "json") == 0)
		c->form = OUT_JSON;
	else
		return ctl_fail(CTL_USAGE, "-o is table, wide or json, not '%s'", word);
	return CTL_OK;
}

static enum ctl_exit limit(struct ctl *c, const char *text)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || end == text || *text == '-' || v < 1 || v > RHC_LIMIT_MAX)
		return ctl_fail(CTL_USAGE, "--max-concurrency is 1 to %d, not '%s'", RHC_LIMIT_MAX, text);
	c->max_concurrency = (uint32_t)v;
	c->has_limit = true;
	return CTL_OK;
}

static enum ctl_exit option(struct ctl *c, int opt, const char *arg)
{
	switch (opt) {
	case 'o':
		return form(c, arg);
	case 'w':
		c->watch_ms = 2000;
		return arg ? duration("--watch", arg, &c->watch_ms) : CTL_OK;
	case 'f':
		c->follow = true;
		return CTL_OK;
	case 'q':
		c->quiet = true;
		return CTL_OK;
	case OPT_SHM:
		c->shm = arg;
		return CTL_OK;
	case OPT_INSTANCE:
		c->instance = arg;
		return CTL_OK;
	case OPT_REASON:
		c->reason = arg;
		return CTL_OK;
	case OPT_FOR:
		return duration("--for", arg, &c->for_ms);
	case OPT_SINCE:
		return duration("--since", arg, &c->since_ms);
	case OPT_TYPE:
		c->type = arg;
		return CTL_OK;
	case OPT_UPSTREAM:
		c->upstream = arg;
		return CTL_OK;
	case OPT_ALL:
		c->all = true;
		return CTL_OK;
	case OPT_FORCE:
		c->force = true;
		return CTL_OK;
	case OPT_TIMEOUT:
		return duration("--timeout", arg, &c->timeout_ms);
	case OPT_LIMIT:
		return limit(c, arg);
	case OPT_NO_HEADERS:
		c->headers = false;
		return CTL_OK;
	default:
		return ctl_fail(CTL_USAGE, "see rhcctl help");
	}
}

/* ---- the segment ---- */

/* The file was cut short while we read it. */
static sigjmp_buf bus_jump;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(bus_jump, 1);
}

static enum ctl_exit refused(const struct rhc_refusal *r)
{
	enum ctl_exit code = r->why == RHC_REFUSE_ABSENT || r->why == RHC_REFUSE_BOOT || r->why == RHC_REFUSE_STATE ?
	                             CTL_ABSENT :
	                             CTL_DENIED;

	return ctl_fail(code, "%s", r->text);
}

static bool access_ok(const char *path)
{
	return access(path, F_OK) == 0;
}

static enum ctl_exit attach(struct ctl *c, enum rhc_access how)
{
	char standard[RHC_PATH_MAX], other[RHC_PATH_MAX];
	const char *path = c->shm ? c->shm : getenv("RHC_SHM");
	struct rhc_refusal refusal;
	int rc;

	snprintf(standard, sizeof(standard), "/run/rhc/%s.shm", c->instance);
	snprintf(other, sizeof(other), "/dev/shm/rhc-%s.shm", c->instance);
	if (!path || !*path)
		path = access_ok(standard) || !access_ok(other) ? standard : other;
	rc = rhc_segment_attach(&c->seg, path, how, true, &refusal);
	if (rc != 0)
		return refused(&refusal);
	c->lock_fd = rhc_lock_open(&c->seg);
	return CTL_OK;
}

/* ---- commands ---- */

static bool is_noun(const struct ctl_command *k, const char *word)
{
	return strcmp(k->noun, word) == 0 || (k->alias && strcmp(k->alias, word) == 0);
}

static const struct ctl_command *find(char **words, int n, int *ret_used)
{
	const struct ctl_command *alone = NULL;

	for (unsigned i = 0; i < ctl_commands_n; i++) {
		const struct ctl_command *k = &ctl_commands[i];

		if (!is_noun(k, words[0]))
			continue;
		if (!*k->verb) {
			alone = k;
		} else if (n > 1 && strcmp(k->verb, words[1]) == 0) {
			*ret_used = 2;
			return k;
		}
	}
	*ret_used = 1;
	return alone;
}

static enum ctl_exit once(struct ctl *c, const struct ctl_command *k)
{
	c->now_ms = ctl_now_ms();
	c->out = (struct out){ .to = stdout, .form = c->form, .headers = c->headers };
	if (sigsetjmp(bus_jump, 1) != 0)
		return ctl_fail(CTL_DENIED, "%s was truncated while it was read", c->seg.path);
	return k->fn(c);
}

static enum ctl_exit run(struct ctl *c, const struct ctl_command *k)
{
	enum ctl_exit rc = CTL_OK;
	bool tty = isatty(STDOUT_FILENO);

	if (k->access != CTL_NONE)
		rc = attach(c, k->access == CTL_CHANGES ? RHC_WRITE : RHC_READ);
	if (rc != CTL_OK)
		return rc;
	for (;;) {
		if (c->watch_ms && tty)
			fputs("\033[H\033[2J", stdout);
		rc = once(c, k);
		if (!c->watch_ms || rc > CTL_NO || ferror(stdout))
			return rc;
		usleep((useconds_t)(c->watch_ms * 1000));
		if (!rhc_segment_current(&c->seg)) { /* a new sidecar has made a new file */
			rhc_segment_detach(&c->seg);
			close(c->lock_fd);
			rc = attach(c, RHC_READ);
			if (rc != CTL_OK)
				return rc;
		}
	}
}

int main(int argc, char **argv)
{
	static struct ctl c = { .instance = CTL_INSTANCE, .timeout_ms = 5000, .headers = true, .lock_fd = -1 };
	struct sigaction bus = { .sa_handler = on_bus };
	const struct ctl_command *k;
	int opt, used;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, "o:w::fqhV", longs, NULL)) != -1) {
		enum ctl_exit rc;

		if (opt == 'h')
			return cmd_help(&c);
		if (opt == 'V')
			return once(&c, find((char *[]){ (char *)"version" }, 1, &used));
		if (opt == '?')
			return ctl_fail(CTL_USAGE, "unknown option or missing value: '%s'", argv[optind - 1]);
		rc = option(&c, opt, optarg);
		if (rc != CTL_OK)
			return rc;
	}
	if (optind == argc)
		return ctl_fail(CTL_USAGE, "no command; see rhcctl help");
	k = find(argv + optind, argc - optind, &used);
	if (!k)
		return ctl_fail(CTL_USAGE, "no command '%s%s%s'; see rhcctl help", argv[optind],
		                optind + 1 < argc ? " " : "", optind + 1 < argc ? argv[optind + 1] : "");
	for (int i = optind + used; i < argc; i++) {
		if (c.n_args == CTL_ARGS_MAX)
			return ctl_fail(CTL_USAGE, "too many arguments");
		c.args[c.n_args++] = argv[i];
	}
	if (c.n_args && !*k->args)
		return ctl_fail(CTL_USAGE, "%s takes no argument '%s'; see rhcctl help", k->noun, c.args[0]);
	sigaction(SIGBUS, &bus, NULL);
	return run(&c, k);
}
