#include "sidecar/base/log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"

#define WALL (UINT64_C(951782400042000000)) /* 2000-02-29T00:00:00.042Z */

static char out[LOG_LINE_MAX + 1];

static const char *line(enum log_format f, const struct log_ctx *ctx, const struct log_field *fields, size_t n)
{
	size_t len = log_format_line(out, LOG_LINE_MAX, f, WALL, ctx, LOG_UPSTREAM, LOG_WARN,
	                             "upstream_timeout", fields, n);

	cr_assert_eq(out[len - 1], '\n');
	cr_assert_null(memchr(out, '\n', len - 1), "one line");
	out[len - 1] = 0;
	return out;
}

static const struct log_ctx ctx = { .conn = 17, .doing = "waiting for response", .attempt = 2 };

static const struct log_field some[] = {
	LOG_U64("after_ms", 250),
	LOG_STR("peer", "10.0.0.1:80"),
	LOG_STR("absent", NULL),
	LOG_I64("delta", -3),
	LOG_BOOL("retry", true),
	LOG_ERRNO("error", -ECONNREFUSED),
	LOG_DECIMAL("took_ms", 1234, 3),
	LOG_STRN("part", "abcdef", 3),
	LOG_STR("empty", ""),
};

Test(log, a_text_line_reads_well)
{
	cr_assert_str_eq(line(LOG_TEXT, &ctx, some, ARRAY_LEN(some)),
	                 "2000-02-29T00:00:00.042Z warn  upstream upstream_timeout conn=17 "
	                 "doing=\"waiting for response\" attempt=2 after_ms=250 peer=10.0.0.1:80 delta=-3 "
	                 "retry=true error=ECONNREFUSED took_ms=1.234 part=abc empty=\"\"");
}

Test(log, a_logfmt_line_names_everything)
{
	cr_assert_str_eq(line(LOG_LOGFMT, NULL, some, 2),
	                 "ts=2000-02-29T00:00:00.042Z level=warn component=upstream "
	                 "event=upstream_timeout after_ms=250 peer=10.0.0.1:80");
}

Test(log, a_json_line_is_one_object)
{
	cr_assert_str_eq(line(LOG_JSON, &ctx, some, ARRAY_LEN(some)),
	                 "{\"ts\":\"2000-02-29T00:00:00.042Z\",\"level\":\"warn\","
	                 "\"component\":\"upstream\",\"event\":\"upstream_timeout\",\"conn\":17,"
	                 "\"doing\":\"waiting for response\",\"attempt\":2,\"after_ms\":250,"
	                 "\"peer\":\"10.0.0.1:80\",\"delta\":-3,\"retry\":true,\"error\":\"ECONNREFUSED\","
	                 "\"took_ms\":1.234,\"part\":\"abc\",\"empty\":\"\"}");
}

/* clang-format off */
static const struct { const char *says, *value, *text; } hostile[] = {
	{ "a forged line",        "x\n2000 error core stolen", "v=\"x\\n2000 error core stolen\"" },
	{ "a forged field",       "x level=error",             "v=\"x level=error\"" },
	{ "an equals sign",       "a=b",                       "v=\"a=b\"" },
	{ "a closing quote",      "x\" y=\"z",                 "v=\"x\\\" y=\\\"z\"" },
	{ "a terminal sequence",  "\x1b]0;hi\x07",             "v=\"\\u001b]0;hi\\u0007\"" },
	{ "bytes that are no text", "\xff\xfe",                "v=\"\\ufffd\\ufffd\"" },
	{ "a backslash",          "a\\b",                      "v=\"a\\\\b\"" },
	{ "a carriage return",    "a\rb",                      "v=\"a\\rb\"" },
};
/* clang-format on */

Test(log, a_hostile_value_stays_inside_its_quotes)
{
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		const struct log_field f[] = { LOG_STR("v", hostile[i].value) };
		const char            *got = line(LOG_TEXT, NULL, f, 1);

		cr_assert_str_eq(strstr(got, "v="), hostile[i].text, "%s: %s", hostile[i].says, got);
		got = line(LOG_JSON, NULL, f, 1);
		for (const char *c = got; *c; c++)
			cr_assert(*c != 0x1b && *c != '\r', "%s", hostile[i].says);
	}
}

Test(log, a_long_value_is_cut_at_a_character_and_the_line_says_so)
{
	static char      value[3000];
	struct log_field f[] = { LOG_STR("v", value), LOG_U64("after", 1) };

	/* Two-byte characters, shifted by one: the limit falls inside one of them. */
	value[0] = 'x';
	for (size_t i = 1; i + 1 < sizeof(value) - 1; i += 2)
		memcpy(value + i, "\xc3\xa4", 2);
	for (int fmt = LOG_TEXT; fmt <= LOG_LOGFMT; fmt++) {
		const char *got = line((enum log_format)fmt, NULL, f, 2);

		cr_assert_not_null(strstr(got, "truncated"), "%d", fmt);
		cr_assert_null(strstr(got, "ufffd"));
		cr_assert_not_null(strstr(got, "after"));
	}
}

Test(log, a_line_is_bounded_whatever_the_fields)
{
	static char      value[LOG_VALUE_MAX + 1];
	struct log_field f[40];

	memset(value, 1, LOG_VALUE_MAX); /* each becomes six bytes */
	for (size_t i = 0; i < ARRAY_LEN(f); i++)
		f[i] = (struct log_field)LOG_STR("v", value);
	for (size_t cap = LOG_LINE_MIN; cap <= LOG_LINE_MAX; cap += 37) {
		for (int fmt = LOG_TEXT; fmt <= LOG_LOGFMT; fmt++) {
			char  *exact = malloc(cap); /* the sanitizer watches its end */
			size_t n = log_format_line(exact, cap, (enum log_format)fmt, WALL, &ctx, LOG_CORE,
			                           LOG_INFO, "event", f, ARRAY_LEN(f));

			cr_assert_leq(n, cap);
			cr_assert_eq(exact[n - 1], '\n');
			cr_assert_not_null(memmem(exact, n, "truncated", 9));
			free(exact);
		}
	}
}

Test(log, names_are_read_back)
{
	enum log_component c;
	enum log_level     l;

	for (int i = 0; i < LOG_COMPONENTS; i++) {
		cr_assert_eq(log_component_parse(log_component_name((enum log_component)i), &c), 0);
		cr_assert_eq(c, (enum log_component)i);
	}
	for (int i = 0; i < LOG_LEVELS; i++) {
		cr_assert_eq(log_level_parse(log_level_name((enum log_level)i), &l), 0);
		cr_assert_eq(l, (enum log_level)i);
	}
	cr_assert_eq(log_component_parse("nonsense", &c), -EINVAL);
	cr_assert_eq(log_level_parse("", &l), -EINVAL);
}

static int reader;

static void log_to_pipe(int flags)
{
	int fds[2];

	cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
	reader = fds[0];
	cr_assert_eq(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
	cr_assert_eq(fcntl(fds[1], F_SETFL, flags), 0);
	log_init(fds[1], LOG_TEXT);
}

/* What has been written so far. */
static const char *written(void)
{
	static char text[1 << 17];
	ssize_t     n = read(reader, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static int evaluated;

static uint64_t evaluate(void)
{
	return (uint64_t)++evaluated;
}

Test(log, a_disabled_level_evaluates_nothing)
{
	log_to_pipe(O_NONBLOCK);
	log_event(LOG_POOL, LOG_DEBUG, "detail", LOG_U64("n", evaluate()));
	cr_assert_eq(evaluated, 0);
	log_set_level(LOG_POOL, LOG_DEBUG);
	log_event(LOG_POOL, LOG_DEBUG, "detail", LOG_U64("n", evaluate()));
	log_event(LOG_IO, LOG_DEBUG, "detail", LOG_U64("n", evaluate()));
	cr_assert_eq(evaluated, 1);
	log_set_all(LOG_OFF);
	log_event(LOG_POOL, LOG_ERROR, "detail", LOG_U64("n", evaluate()));
	cr_assert_eq(evaluated, 1);
	log_flush();
	cr_assert_not_null(strstr(written(), " debug pool detail n=1\n"));
}

Test(log, warnings_leave_at_once_and_take_what_was_collected_along)
{
	log_to_pipe(O_NONBLOCK);
	log_event(LOG_CORE, LOG_INFO, "one");
	log_event(LOG_CORE, LOG_INFO, "two");
	cr_assert_str_eq(written(), "");
	log_event(LOG_CORE, LOG_WARN, "three");
	cr_assert_not_null(strstr(written(), "three"));
	log_event(LOG_CORE, LOG_INFO, "four");
	cr_assert_str_eq(written(), "");
	log_flush();
	cr_assert_not_null(strstr(written(), "four"));
}

/* A reader that does not read: nothing waits, lines are whole, and the loss is told. */
static void overflow(int flags)
{
	static char all[1 << 20];
	uint64_t    from = clock_ns();
	size_t      n = 0;
	int         lines = 0, last = -1;
	char       *p;

	log_to_pipe(flags);
	for (int i = 0; i < 5000; i++)
		log_event(LOG_CORE, i % 3 ? LOG_INFO : LOG_WARN, "line", LOG_I64("i", i));
	cr_assert_lt(clock_ns() - from, 10 * NS_PER_S);
	cr_assert_gt(log_dropped(), 0);
	for (int i = 0; i < 100; i++) {
		const char *t = written();

		memcpy(all + n, t, strlen(t));
		n += strlen(t);
		log_flush();
	}
	log_event(LOG_CORE, LOG_WARN, "end");
	n += (size_t)snprintf(all + n, sizeof(all) - n, "%s", written());
	cr_assert_not_null(strstr(all, "log_lines_dropped count="), "the loss is told");
	for (p = strtok(all, "\n"); p; p = strtok(NULL, "\n"), lines++) {
		int i;

		cr_assert_eq(strncmp(p, "20", 2), 0, "torn: %s", p);
		if (sscanf(p, "%*s %*s core line i=%d", &i) == 1) {
			cr_assert_gt(i, last, "in order");
			last = i;
		}
	}
	cr_assert_eq((uint64_t)lines + log_dropped(), 5000 + 2);
}

Test(log, a_full_nonblocking_pipe_loses_whole_lines_and_says_how_many, .timeout = 20)
{
	overflow(O_NONBLOCK);
}

Test(log, a_full_blocking_pipe_does_not_block, .timeout = 20)
{
	overflow(0);
}

Test(log, a_closed_pipe_does_no_harm)
{
	signal(SIGPIPE, SIG_IGN);
	log_to_pipe(O_NONBLOCK);
	close(reader);
	for (int i = 0; i < 1000; i++)
		log_event(LOG_CORE, LOG_WARN, "nobody_listens");
	cr_assert_gt(log_dropped(), 0);
}

Test(log, a_child_does_not_repeat_what_its_parent_had_collected)
{
	pid_t       pid;
	const char *text;

	log_to_pipe(O_NONBLOCK);
	log_event(LOG_CORE, LOG_INFO, "from_parent");
	pid = fork();
	if (pid == 0) {
		log_after_fork();
		log_event(LOG_CORE, LOG_INFO, "from_child");
		log_flush();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	log_flush();
	text = written();
	cr_assert_not_null(strstr(text, "from_child"));
	text = strstr(text, "from_parent");
	cr_assert_not_null(text);
	cr_assert_null(strstr(text + 1, "from_parent"));
}

Test(log, raw_lines_can_go_elsewhere)
{
	int  fds[2];
	char got[64] = "";

	log_to_pipe(O_NONBLOCK);
	log_raw("shared", 6);
	log_flush();
	cr_assert_str_eq(written(), "shared\n");
	cr_assert_eq(pipe(fds), 0);
	log_raw_to(fds[1]);
	log_raw("own", 3);
	log_event(LOG_CORE, LOG_WARN, "event");
	cr_assert_null(strstr(written(), "own"));
	log_flush();
	cr_assert_eq(read(fds[0], got, sizeof(got)), 4);
	cr_assert_str_eq(got, "own\n");
}

Test(log, an_errno_has_its_name)
{
	char tmp[24];

	cr_assert_str_eq(log_errno_name(ECONNRESET, tmp), "ECONNRESET");
	cr_assert_str_eq(log_errno_name(-EMFILE, tmp), "EMFILE");
	cr_assert_str_eq(log_errno_name(9999, tmp), "errno 9999");
}
