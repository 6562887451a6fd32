/* rhcctl: command line, segment, dispatch. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"

enum { WATCH_MS = 2000, WATCH_MIN_MS = 100, WATCH_MAX_MS = 3600000 };
#define FOR_MAX_MS (UINT64_C(10) * 365 * 86400 * 1000) /* an end must fit into its word */

static enum ctl_exit duration(const char *what, const char *text, uint64_t *ret)
{
	return ctl_duration(text, ret) ? CTL_OK : ctl_fail(CTL_USAGE, "%s: '%s' is not a duration (30s, 15m, 1h30m)", what, text);
}

static enum ctl_exit end_after(struct ctl *c, const char *text)
{
	enum ctl_exit rc = duration("--for", text, &c->for_ms);

	if (rc == CTL_OK && (c->for_ms == 0 || c->for_ms > FOR_MAX_MS))
		return ctl_fail(CTL_USAGE, "--for is 1ms to 3650d, not '%s'", text);
	return rc;
}

static enum ctl_exit watch(struct ctl *c, const char *text)
{
	enum ctl_exit rc;

	c->watch_ms = WATCH_MS;
	rc = text ? duration("--watch", text, &c->watch_ms) : CTL_OK;
	if (rc == CTL_OK && (c->watch_ms < WATCH_MIN_MS || c->watch_ms > WATCH_MAX_MS))
		return ctl_fail(CTL_USAGE, "--watch is 100ms to 1h, not '%s'", text);
	return rc;
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
	case CTL_OPT_OUTPUT:
		return form(c, arg);
	case CTL_OPT_WATCH:
		return watch(c, arg);
	case CTL_OPT_FOLLOW:
		c->follow = true;
		return CTL_OK;
	case CTL_OPT_QUIET:
		c->quiet = true;
		return CTL_OK;
	case CTL_OPT_SHM:
		c->shm = arg;
		return CTL_OK;
	case CTL_OPT_INSTANCE:
		c->instance = arg;
		return CTL_OK;
	case CTL_OPT_REASON:
		c->reason = arg;
		if (strlen(arg) > RHC_REASON_MAX)
			fprintf(stderr, "rhcctl: --reason: only the first %d bytes are kept\n", RHC_REASON_MAX);
		return CTL_OK;
	case CTL_OPT_FOR:
		return end_after(c, arg);
	case CTL_OPT_SINCE:
		return duration("--since", arg, &c->since_ms);
	case CTL_OPT_TYPE:
		c->type = arg;
		return CTL_OK;
	case CTL_OPT_UPSTREAM:
		c->upstream = arg;
		return CTL_OK;
	case CTL_OPT_ALL:
		c->all = true;
		return CTL_OK;
	case CTL_OPT_FORCE:
		c->force = true;
		return CTL_OK;
	case CTL_OPT_TIMEOUT:
		return duration("--timeout", arg, &c->timeout_ms);
	case CTL_OPT_LIMIT:
		return limit(c, arg);
	case CTL_OPT_NO_HEADERS:
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
	return k->fn(c);
}

/* A new sidecar has made a new file: look at that from now on. */
static enum ctl_exit keep_up(struct ctl *c)
{
	if (rhc_segment_current(&c->seg))
		return CTL_OK;
	rhc_segment_detach(&c->seg);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
	return attach(c, RHC_READ);
}

static enum ctl_exit again_and_again(struct ctl *c, const struct ctl_command *k)
{
	bool tty = isatty(STDOUT_FILENO);
	enum ctl_exit rc = CTL_OK;

	while (rc <= CTL_NO && !ferror(stdout)) {
		if (tty)
			fputs("\033[H\033[2J", stdout);
		rc = once(c, k);
		if (rc > CTL_NO)
			break;
		usleep((useconds_t)(c->watch_ms * 1000));
		if (k->access != CTL_NONE)
			rc = keep_up(c);
	}
	return rc;
}

static enum ctl_exit run(struct ctl *c, const struct ctl_command *k)
{
	enum ctl_exit rc = CTL_OK;

	if (c->watch_ms && k->access != CTL_READ_ONLY)
		return ctl_fail(CTL_USAGE, "--watch goes with what only reads");
	if (k->access != CTL_NONE)
		rc = attach(c, k->access == CTL_CHANGES ? RHC_WRITE : RHC_READ);
	if (rc != CTL_OK)
		return rc;
	/* From here on the file may be cut short under us at any load. */
	if (sigsetjmp(bus_jump, 1) != 0)
		return ctl_fail(CTL_DENIED, "%s was truncated while it was read", c->seg.path);
	/* Before anything is written: stdout stays empty when the answer is an error. */
	if (strcmp(k->args, "[NAME]") == 0 && c->n_args > 1)
		return ctl_fail(CTL_USAGE, "at most one upstream can be named");
	if (strcmp(k->args, "[NAME]") == 0 && c->n_args == 1 && ctl_find(c, c->args[0]) < 0)
		return CTL_REFUSED;
	return c->watch_ms ? again_and_again(c, k) : once(c, k);
}

static int no_command(int argc, char **argv, int at)
{
	return ctl_fail(CTL_USAGE, "no command '%s%s%s'; see rhcctl help", argv[at], at + 1 < argc ? " " : "",
	                at + 1 < argc ? argv[at + 1] : "");
}

/*
 * A caller may have closed them.  Then the segment would be opened as 1, and the answer written
 * into it.  They are opened the wrong way round: who writes there is told that nobody listens.
 */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* What did not reach its reader was not said. */
static enum ctl_exit written(enum ctl_exit rc)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return rc;
	return ctl_fail(rc == CTL_OK ? CTL_NO : rc, "cannot write the answer: %s", strerror(errno));
}

/* The options of the command line, wherever they stand.  CTL_OK, or an exit code. */
static enum ctl_exit options(struct ctl *c, int argc, char **argv)
{
	static struct option longs[CTL_OPT_COUNT + 1];
	static char shorts[3 * CTL_OPT_COUNT + 1];
	int id;

	ctl_getopt(longs, shorts);
	opterr = 0;
	while ((id = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		enum ctl_exit rc = CTL_USAGE;
		int opt = ctl_option_of(id);

		if (opt == CTL_OPT_COUNT)
			return ctl_fail(CTL_USAGE, "unknown option or missing value: '%s'", argv[optind - 1]);
		if (opt == CTL_OPT_HELP || opt == CTL_OPT_VERSION) {
			c->instead = opt == CTL_OPT_HELP ? "help" : "version";
			continue;
		}
		rc = option(c, opt, optarg);
		if (rc != CTL_OK)
			return rc;
	}
	return CTL_OK;
}

int main(int argc, char **argv)
{
	static struct ctl c = { .instance = CTL_INSTANCE, .timeout_ms = 5000, .headers = true, .lock_fd = -1 };
	struct sigaction bus = { .sa_handler = on_bus };
	const struct ctl_command *k;
	enum ctl_exit rc;
	int used;

	fill_standard_descriptors();
	rc = options(&c, argc, argv);
	if (rc != CTL_OK)
		return rc;
	if (c.instead) {
		if (optind < argc)
			c.args[c.n_args++] = argv[optind];
		return written(once(&c, find((char *[]){ (char *)c.instead }, 1, &used)));
	}
	if (optind == argc)
		return ctl_fail(CTL_USAGE, "no command; see rhcctl help");
	k = find(argv + optind, argc - optind, &used);
	if (!k)
		return no_command(argc, argv, optind);
	for (int i = optind + used; i < argc; i++) {
		if (c.n_args == CTL_ARGS_MAX)
			return ctl_fail(CTL_USAGE, "too many arguments");
		c.args[c.n_args++] = argv[i];
	}
	if (c.n_args && !*k->args)
		return ctl_fail(CTL_USAGE, "%s takes no argument '%s'; see rhcctl help", k->noun, c.args[0]);
	sigaction(SIGBUS, &bus, NULL);
	return written(run(&c, k));
}
