/*
 * sidecar/base/log.h - one line, one event.
 *
 * Shape     log_event(LOG_POOL, LOG_WARN, "connect_failed", LOG_STR("upstream", name), LOG_U64("after_ms", ms));
 *             text    2026-11-23T13:13:59.042Z warn  pool connect_failed upstream=cart after_ms=250
 *             json    {"ts":"2026-...","level":"warn","component":"pool","event":"connect_failed","upstream":"cart",...}
 *             logfmt  ts=2026-... level=warn component=pool event=connect_failed upstream=cart after_ms=250
 *           Event and keys are literals in snake_case; only values come from outside, and they are escaped.
 * Cost      A disabled level costs one load and a compare; its arguments are not evaluated.
 * Time      Lines are collected and leave in one write(2): at once from LOG_WARN on, else by log_flush()
 *           at the end of a turn or when LOG_BUFFER is full.
 * Bounds    LOG_LINE_MAX per line and LOG_VALUE_MAX per value; what does not fit is left out and the line
 *           says truncated=true.
 * Never     waits: what the descriptor does not take stays in the buffer, and when that is full whole lines are
 *           dropped and counted; the next one that gets through is preceded by log_lines_dropped count=N.
 *           Nobody's O_NONBLOCK is changed: a blocking descriptor is written in pieces that poll(2) promises.
 * Process   One state per process, no threads.  After fork call log_after_fork(), so that no line
 *           appears twice.
 * Secrets   No header values, no bodies, no query strings: the caller does not pass them.
 */
#ifndef RHC_SIDECAR_BASE_LOG_H
#define RHC_SIDECAR_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_component {
	LOG_CORE,
	LOG_BREAKER,
	LOG_RETRY,
	LOG_UPSTREAM,
	LOG_BULKHEAD,
	LOG_POOL,
	LOG_IO,
	LOG_CONFIG,
	LOG_ADMIN,
	LOG_SHM,
	LOG_WORKER,
	LOG_HEALTH,
	LOG_ACCESS,
	LOG_HTTP,
	LOG_TLS,
	LOG_DNS,
	LOG_COMPONENTS
};

/* Greater is more talkative; a component's level is the last one it says. */
enum log_level { LOG_OFF, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVELS };

enum log_format { LOG_TEXT, LOG_JSON, LOG_LOGFMT };

enum {
	LOG_BUFFER = 16384, /* collected before a write */
	LOG_LINE_MAX = 4096,
	LOG_LINE_MIN = 256, /* least room for log_format_line() */
	LOG_VALUE_MAX = 1024, /* of one string, before escaping */
	LOG_FIELDS_MAX = 32,
};

enum log_type { LOG_T_STR, LOG_T_U64, LOG_T_I64, LOG_T_BOOL, LOG_T_ERRNO, LOG_T_DECIMAL };

struct log_field {
	const char *key; /* NULL: left out */
	uint8_t     type; /* enum log_type */
	uint8_t     decimals;
	uint32_t    n; /* of s; UINT32_MAX: up to its 0 */
	union {
		const char *s; /* NULL: the field is left out */
		uint64_t    u;
		int64_t     i;
		bool        b;
	};
};

/* clang-format off */
#define LOG_STR(k, v)      { .key = (k), .type = LOG_T_STR, .n = UINT32_MAX, .s = (v) }
#define LOG_STRN(k, v, len) { .key = (k), .type = LOG_T_STR, .n = (uint32_t)(len), .s = (const char *)(v) }
#define LOG_U64(k, v)      { .key = (k), .type = LOG_T_U64, .u = (uint64_t)(v) }
#define LOG_I64(k, v)      { .key = (k), .type = LOG_T_I64, .i = (int64_t)(v) }
#define LOG_BOOL(k, v)     { .key = (k), .type = LOG_T_BOOL, .b = (v) }
/* an errno, positive or negative, as its name: error=ECONNREFUSED */
#define LOG_ERRNO(k, v)    { .key = (k), .type = LOG_T_ERRNO, .i = (int64_t)(v) }
/* v / 10^d, exactly: LOG_DECIMAL("took_ms", us, 3) */
#define LOG_DECIMAL(k, v, d) { .key = (k), .type = LOG_T_DECIMAL, .decimals = (d), .u = (uint64_t)(v) }
/* clang-format on */

/* Who it is about; zero and NULL members are left out.  Lives in the connection or the exchange. */
struct log_ctx {
	uint64_t    conn; /* conn=17 */
	const char *request_id; /* request_id=... */
	const char *upstream; /* upstream=cart */
	const char *doing; /* doing="waiting for response" */
	uint32_t    attempt; /* attempt=2 */
};

extern uint8_t log_levels[LOG_COMPONENTS]; /* read by log_on(); written by log_set_level() */

static inline bool log_on(enum log_component c, enum log_level l)
{
	return __builtin_expect(l <= log_levels[c], 0);
}

#define log_event_ctx(ctx_, component_, level_, event_, ...)                                       \
	do {                                                                                       \
		if (log_on(component_, level_)) {                                                  \
			const struct log_field log_f_[] = { { .key = NULL }, __VA_ARGS__ };        \
			log_emit(ctx_, component_, level_, event_, log_f_ + 1,                     \
			         sizeof(log_f_) / sizeof(log_f_[0]) - 1);                          \
		}                                                                                  \
	} while (0)

#define log_event(component_, level_, event_, ...)                                                 \
	log_event_ctx(NULL, component_, level_, event_, __VA_ARGS__)

/* Until log_init() was called: text to descriptor 2, every component at LOG_INFO. */
void log_init(int fd, enum log_format format);
void log_set_level(enum log_component c, enum log_level l);
void log_set_all(enum log_level l);
void log_after_fork(void); /* the child forgets what the parent had collected */

/* Use the macros. */
void log_emit(const struct log_ctx *ctx, enum log_component c, enum log_level l, const char *event,
              const struct log_field *fields, size_t n);

/*
 * A finished line without its newline, as the access log makes them; n < LOG_LINE_MAX, what is longer is cut.
 * It goes where log_init() says, or to a descriptor of its own (not closed here).
 */
void log_raw(const char *line, size_t n);
void log_raw_to(int fd);

void     log_flush(void);
uint64_t log_lines(void); /* lines made so far, those lost not included */
uint64_t log_dropped(void); /* lines lost because the descriptor did not take them */

const char *log_component_name(enum log_component c);
const char *log_level_name(enum log_level l);
/* -EINVAL for an unknown name; "off", "error", "warn", "info", "debug". */
int log_component_parse(const char *name, enum log_component *ret_c);
int log_level_parse(const char *name, enum log_level *ret_l);

/* "ECONNREFUSED" for an errno of either sign; "errno N" where it has no name. */
const char *log_errno_name(int err, char out[24]);

/*
 * The same line, written elsewhere: one event in the given format into out, with a newline at its end.
 * Returns its length, at most cap (>= LOG_LINE_MIN).  Used by log_emit() and by tests.
 */
size_t log_format_line(char *out, size_t cap, enum log_format format, uint64_t wall_ns,
                       const struct log_ctx *ctx, enum log_component c, enum log_level l, const char *event,
                       const struct log_field *fields, size_t n);

#endif
