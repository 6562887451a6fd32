#include "sidecar/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"

/* How a descriptor is kept from making us wait. */
enum sink_kind {
	SINK_FILE, /* regular files never say EAGAIN, and poll(2) always says yes */
	SINK_NONBLOCK, /* O_NONBLOCK is set: write until EAGAIN */
	SINK_PATIENT, /* may block: PIPE_BUF at a time, each after poll(2) */
};

struct sink {
	int            fd;
	enum sink_kind kind;
	size_t         n; /* collected */
	uint64_t       lines; /* taken, ever */
	uint64_t       dropped; /* lines, ever */
	uint64_t       untold; /* of them not yet reported */
	char           buf[LOG_BUFFER];
};

uint8_t log_levels[LOG_COMPONENTS] = {
	[0 ... LOG_COMPONENTS - 1] = LOG_INFO,
};

static enum log_format format = LOG_TEXT;
static struct sink     events = { .fd = STDERR_FILENO, .kind = SINK_PATIENT };
static struct sink     raw = { .fd = -1 };
static struct sink    *raw_sink = &events;

static enum sink_kind kind_of(int fd)
{
	struct stat st;
	int         flags;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return SINK_FILE;
	flags = fcntl(fd, F_GETFL);
	return flags >= 0 && flags & O_NONBLOCK ? SINK_NONBLOCK : SINK_PATIENT;
}

void log_init(int fd, enum log_format f)
{
	log_flush();
	format = f;
	events.fd = fd;
	events.kind = kind_of(fd);
}

void log_raw_to(int fd)
{
	log_flush();
	raw.fd = fd;
	raw.kind = kind_of(fd);
	raw_sink = &raw;
}

void log_set_level(enum log_component c, enum log_level l)
{
	assert(c < LOG_COMPONENTS && l < LOG_LEVELS);
	log_levels[c] = (uint8_t)l;
}

void log_set_all(enum log_level l)
{
	for (int c = 0; c < LOG_COMPONENTS; c++)
		log_set_level((enum log_component)c, l);
}

void log_after_fork(void)
{
	events.n = raw.n = 0;
	events.dropped = events.untold = raw.dropped = raw.untold = 0;
}

/* One write that does not wait; < 0 when the descriptor takes nothing now. */
static ssize_t write_some(const struct sink *s, const char *p, size_t n)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };
	ssize_t       rc;

	if (s->kind == SINK_PATIENT) {
		if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT))
			return -EAGAIN;
		/* A pipe that is writable has room for PIPE_BUF (pipe(7)). */
		n = n < PIPE_BUF ? n : PIPE_BUF;
	}
	rc = write(s->fd, p, n);
	return rc < 0 ? -errno : rc;
}

/* What is not taken stays for the next time, so a line is never torn. */
static void sink_flush(struct sink *s)
{
	size_t at = 0;
	int    interrupted = 0;

	while (at < s->n) {
		ssize_t rc = write_some(s, s->buf + at, s->n - at);

		if (rc == -EINTR && interrupted++ < 16)
			continue;
		if (rc <= 0)
			break;
		at += (size_t)rc;
	}
	s->n -= at;
	if (at && s->n)
		memmove(s->buf, s->buf + at, s->n);
}

static bool sink_room(struct sink *s, size_t n)
{
	if (n > LOG_BUFFER - s->n)
		sink_flush(s);
	return n <= LOG_BUFFER - s->n;
}

/* Lines got lost: say so before the next one. */
static void tell_dropped(void)
{
	const struct log_field f[] = { LOG_U64("count", events.untold) };
	char                   line[LOG_LINE_MIN];
	size_t                 n;

	n = log_format_line(line, sizeof(line), format, clock_wall_ns(), NULL, LOG_CORE, LOG_WARN,
	                    "log_lines_dropped", f, 1);
	if (!sink_room(&events, n))
		return;
	memcpy(events.buf + events.n, line, n);
	events.n += n;
	events.untold = 0;
}

static void drop(struct sink *s)
{
	s->dropped++;
	s->untold++;
}

void log_emit(const struct log_ctx *ctx, enum log_component c, enum log_level l, const char *event,
              const struct log_field *fields, size_t n)
{
	/* With room for any line it is made in place. */
	if (!sink_room(&events, LOG_LINE_MAX + (events.untold ? LOG_LINE_MIN : 0))) {
		drop(&events);
		return;
	}
	if (events.untold)
		tell_dropped();
	events.lines++;
	events.n += log_format_line(events.buf + events.n, LOG_LINE_MAX, format, clock_wall_ns(),
	                            ctx, c, l, event, fields, n);
	if (l <= LOG_WARN)
		sink_flush(&events);
}

void log_raw(const char *line, size_t n)
{
	struct sink *s = raw_sink;

	n = n < LOG_LINE_MAX ? n : LOG_LINE_MAX - 1;
	if (!sink_room(s, n + 1)) {
		drop(s);
		return;
	}
	s->lines++;
	memcpy(s->buf + s->n, line, n);
	s->buf[s->n + n] = '\n';
	s->n += n + 1;
}

void log_flush(void)
{
	if (events.n)
		sink_flush(&events);
	if (raw.n)
		sink_flush(&raw);
}

uint64_t log_lines(void)
{
	return events.lines + raw.lines;
}

uint64_t log_dropped(void)
{
	return events.dropped + raw.dropped;
}
