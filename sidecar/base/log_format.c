/* How a line looks: the three formats of sidecar/base/log.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/json.h"
#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"

static const char *const component_names[LOG_COMPONENTS] = {
	[LOG_CORE] = "core",         [LOG_BREAKER] = "breaker", [LOG_RETRY] = "retry",
	[LOG_UPSTREAM] = "upstream", [LOG_BULKHEAD] = "bulkhead", [LOG_POOL] = "pool",
	[LOG_IO] = "io",             [LOG_CONFIG] = "config",   [LOG_ADMIN] = "admin",
	[LOG_SHM] = "shm",           [LOG_WORKER] = "worker",   [LOG_HEALTH] = "health",
	[LOG_ACCESS] = "access",     [LOG_HTTP] = "http",       [LOG_TLS] = "tls",
	[LOG_DNS] = "dns",
};

static const char *const level_names[LOG_LEVELS] = { "off", "error", "warn", "info", "debug" };

const char *log_component_name(enum log_component c)
{
	return c < LOG_COMPONENTS ? component_names[c] : "?";
}

const char *log_level_name(enum log_level l)
{
	return l < LOG_LEVELS ? level_names[l] : "?";
}

int log_component_parse(const char *name, enum log_component *ret_c)
{
	for (unsigned i = 0; i < LOG_COMPONENTS; i++) {
		if (!strcmp(name, component_names[i])) {
			*ret_c = (enum log_component)i;
			return 0;
		}
	}
	return -EINVAL;
}

int log_level_parse(const char *name, enum log_level *ret_l)
{
	for (unsigned i = 0; i < LOG_LEVELS; i++) {
		if (!strcmp(name, level_names[i])) {
			*ret_l = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* clang-format off */
#define E(name) { name, #name }
static const struct { int err; const char *name; } errno_names[] = {
	E(EPERM), E(ENOENT), E(EINTR), E(EIO), E(ENXIO), E(E2BIG), E(EBADF), E(ECHILD), E(EAGAIN), E(ENOMEM),
	E(EACCES), E(EFAULT), E(EBUSY), E(EEXIST), E(ENODEV), E(ENOTDIR), E(EISDIR), E(EINVAL), E(ENFILE),
	E(EMFILE), E(EFBIG), E(ENOSPC), E(ESPIPE), E(EROFS), E(EPIPE), E(ERANGE), E(EDEADLK), E(ENAMETOOLONG),
	E(ENOSYS), E(ELOOP), E(ETIME), E(EPROTO), E(EBADMSG), E(EOVERFLOW), E(EILSEQ), E(ENOTSOCK), E(EMSGSIZE),
	E(EPROTONOSUPPORT), E(EOPNOTSUPP), E(EAFNOSUPPORT), E(EADDRINUSE), E(EADDRNOTAVAIL), E(ENETDOWN),
	E(ENETUNREACH), E(ENETRESET), E(ECONNABORTED), E(ECONNRESET), E(ENOBUFS), E(EISCONN), E(ENOTCONN),
	E(ESHUTDOWN), E(ETIMEDOUT), E(ECONNREFUSED), E(EHOSTDOWN), E(EHOSTUNREACH), E(EALREADY),
	E(EINPROGRESS), E(ESTALE), E(EDQUOT), E(ECANCELED), E(EOWNERDEAD),
};
#undef E
/* clang-format on */

const char *log_errno_name(int err, char out[24])
{
	if (err < 0)
		err = -err;
	for (size_t i = 0; i < ARRAY_LEN(errno_names); i++) {
		if (errno_names[i].err == err)
			return errno_names[i].name;
	}
	snprintf(out, 24, "errno %d", err);
	return out;
}

/* Appends as long as all of it fits. */
struct line {
	char  *out;
	size_t cap, n;
	bool   overflow;
};

static void add(struct line *l, const char *s, size_t n)
{
	if (l->overflow || n > l->cap - l->n) {
		l->overflow = true;
		return;
	}
	memcpy(l->out + l->n, s, n);
	l->n += n;
}

static void add_text(struct line *l, const char *s)
{
	add(l, s, strlen(s));
}

/* What needs no quotes: a reader can split the line at spaces and the first '='. */
static bool is_bare(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
			return false;
	}
	return n > 0;
}

static void add_value(struct line *l, const char *s, size_t n)
{
	size_t used;

	if (is_bare(s, n)) {
		add(l, s, n);
		return;
	}
	add(l, "\"", 1);
	if (l->overflow)
		return;
	l->n += json_escape(l->out + l->n, l->cap - l->n, s, n, &used);
	if (used < n)
		l->overflow = true;
	add(l, "\"", 1);
}

/* The bytes of a string field, cut to LOG_VALUE_MAX. */
static size_t field_len(const struct log_field *f, bool *cut)
{
	size_t n = f->n == UINT32_MAX ? strnlen(f->s, LOG_VALUE_MAX + 1) : f->n;

	if (n <= LOG_VALUE_MAX)
		return n;
	*cut = true;
	n = LOG_VALUE_MAX;
	/* Not inside a character, or its half would look like a bad byte. */
	for (int back = 0; back < 3 && ((unsigned char)f->s[n] & 0xc0) == 0x80; back++)
		n--;
	return n;
}

static void json_field(struct json *j, const struct log_field *f, bool *cut)
{
	char tmp[24];

	switch ((enum log_type)f->type) {
	case LOG_T_STR:
		json_strn(j, f->key, f->s, field_len(f, cut));
		break;
	case LOG_T_U64:
		json_u64(j, f->key, f->u);
		break;
	case LOG_T_I64:
		json_i64(j, f->key, f->i);
		break;
	case LOG_T_BOOL:
		json_bool(j, f->key, f->b);
		break;
	case LOG_T_ERRNO:
		json_str(j, f->key, log_errno_name((int)f->i, tmp));
		break;
	case LOG_T_DECIMAL:
		json_decimal(j, f->key, f->u, f->decimals);
		break;
	}
}

/* Numbers and words look the same in all three formats: let the JSON writer make them. */
static void line_field(struct line *l, const struct log_field *f, bool *cut)
{
	char        tmp[64];
	struct json j;
	const char *name;

	add(l, " ", 1);
	add_text(l, f->key);
	add(l, "=", 1);
	if (f->type == LOG_T_STR) {
		add_value(l, f->s, field_len(f, cut));
	} else if (f->type == LOG_T_ERRNO) {
		name = log_errno_name((int)f->i, tmp);
		add_value(l, name, strlen(name));
	} else {
		struct log_field bare = *f;

		bare.key = NULL;
		json_init(&j, tmp, sizeof(tmp));
		json_field(&j, &bare, cut);
		add(l, tmp, (size_t)json_finish(&j));
	}
}

static bool is_there(const struct log_field *f)
{
	return f->key && (f->type != LOG_T_STR || f->s);
}

enum { CTX_FIELDS = 5 };

/* The context as fields; those that are not there have no key. */
static void ctx_fields(const struct log_ctx *ctx, struct log_field out[CTX_FIELDS])
{
	out[0] = (struct log_field)LOG_U64(ctx->conn ? "conn" : NULL, ctx->conn);
	out[1] = (struct log_field)LOG_STR("request_id", ctx->request_id);
	out[2] = (struct log_field)LOG_STR("upstream", ctx->upstream);
	out[3] = (struct log_field)LOG_STR("doing", ctx->doing);
	out[4] = (struct log_field)LOG_U64(ctx->attempt ? "attempt" : NULL, ctx->attempt);
}

static void json_fields(struct json *j, const struct log_field *f, size_t n, bool *cut)
{
	for (size_t i = 0; i < n; i++) {
		struct json good = *j;

		if (!is_there(&f[i]))
			continue;
		json_field(j, &f[i], cut);
		if (j->overflow) {
			*j = good;
			*cut = true;
		}
	}
}

static void line_fields(struct line *l, const struct log_field *f, size_t n, bool *cut)
{
	for (size_t i = 0; i < n; i++) {
		struct line good = *l;

		if (!is_there(&f[i]))
			continue;
		line_field(l, &f[i], cut);
		if (l->overflow) {
			*l = good;
			*cut = true;
		}
	}
}

struct event {
	const char             *ts, *component, *level, *name;
	const struct log_field *ctx, *fields;
	size_t                  n_ctx, n_fields;
	bool                    cut;
};

/* Room that the fields may not use: the closing mark, the brace and the newline. */
enum { LINE_TAIL = sizeof(",\"truncated\":true}\n") };

static size_t format_json(char *out, size_t cap, struct event *ev)
{
	struct json j;

	json_init(&j, out, cap - LINE_TAIL);
	json_object(&j, NULL);
	json_str(&j, "ts", ev->ts);
	json_str(&j, "level", ev->level);
	json_str(&j, "component", ev->component);
	json_str(&j, "event", ev->name);
	json_fields(&j, ev->ctx, ev->n_ctx, &ev->cut);
	json_fields(&j, ev->fields, ev->n_fields, &ev->cut);
	j.cap = cap - 1;
	if (ev->cut)
		json_bool(&j, "truncated", true);
	json_end(&j);
	out[j.n] = '\n';
	return j.n + 1;
}

static size_t format_line(char *out, size_t cap, struct event *ev, bool logfmt)
{
	struct line l = { .out = out, .cap = cap - LINE_TAIL };

	add_text(&l, logfmt ? "ts=" : "");
	add_text(&l, ev->ts);
	add_text(&l, logfmt ? " level=" : " ");
	add_text(&l, ev->level);
	/* Four- and five-letter levels in one column. */
	if (!logfmt && strlen(ev->level) == 4)
		add_text(&l, " ");
	add_text(&l, logfmt ? " component=" : " ");
	add_text(&l, ev->component);
	add_text(&l, logfmt ? " event=" : " ");
	add_text(&l, ev->name);
	line_fields(&l, ev->ctx, ev->n_ctx, &ev->cut);
	line_fields(&l, ev->fields, ev->n_fields, &ev->cut);
	l.cap = cap - 1;
	l.overflow = false;
	if (ev->cut)
		add_text(&l, " truncated=true");
	out[l.n] = '\n';
	return l.n + 1;
}

size_t log_format_line(char *out, size_t cap, enum log_format format, uint64_t wall_ns,
                       const struct log_ctx *ctx, enum log_component c, enum log_level l,
                       const char *event, const struct log_field *fields, size_t n)
{
	char             ts[CLOCK_TEXT_SIZE];
	struct log_field around[CTX_FIELDS];
	struct event     ev = {
		.ts = ts,
		.component = log_component_name(c),
		.level = log_level_name(l),
		.name = event,
		.ctx = around,
		.fields = fields,
		.n_fields = n < LOG_FIELDS_MAX ? n : LOG_FIELDS_MAX,
		.cut = n > LOG_FIELDS_MAX,
	};

	assert(cap >= LOG_LINE_MIN);
	clock_format(wall_ns, ts);
	if (ctx) {
		ctx_fields(ctx, around);
		ev.n_ctx = CTX_FIELDS;
	}
	return format == LOG_JSON ? format_json(out, cap, &ev) :
	                            format_line(out, cap, &ev, format == LOG_LOGFMT);
}
