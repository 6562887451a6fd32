#include "sidecar/exchange/access.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"
#include "sidecar/exchange/access_line.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/upstream/errors.h"

static void on_flush(void *arg)
{
	access_flush(arg);
}

static int open_path(const char *path)
{
	int fd;

	if (strcmp(path, "stdout") == 0)
		return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	if (strcmp(path, "stderr") == 0)
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	return fd < 0 ? -errno : fd;
}

static bool is_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

int access_open(struct access_log *a, const struct config_access_log *config, struct engine *engine)
{
	a->fd = -1;
	a->config = config;
	a->used = 0;
	a->dropped = 0;
	a->seen = 0;
	a->engine = engine;
	a->flush = (struct engine_deferred){ .fn = on_flush, .arg = a };
	a->format = config->format;
	if (!config->enabled)
		return 0;
	a->fd = open_path(config->path);
	if (a->fd < 0)
		return a->fd;
	a->pipe = !is_file(a->fd);
	if (a->format == CONFIG_FORMAT_AUTO)
		a->format = isatty(a->fd) ? CONFIG_FORMAT_TEXT : CONFIG_FORMAT_JSON;
	return 0;
}

void access_close(struct access_log *a)
{
	access_flush(a);
	engine_undefer(&a->flush);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

int access_reopen(struct access_log *a)
{
	int fd;

	if (a->fd < 0)
		return 0;
	fd = open_path(a->config->path);
	if (fd < 0)
		return fd;
	access_flush(a);
	close(a->fd);
	a->fd = fd;
	return 0;
}

/* A pipe that nobody reads must not stop a worker: ask before each write. */
static bool writable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0;
}

static size_t count_lines(const char *p, size_t n)
{
	size_t lines = 0;

	for (size_t i = 0; i < n; i++)
		lines += p[i] == '\n';
	return lines;
}

/*
 * A pipe that is writable takes PIPE_BUF bytes without blocking and in one piece (pipe(7)); more might wait, or be mixed
 * with another worker's.  A line is not longer, so whole lines go.
 */
static size_t pipe_piece(const char *p, size_t n)
{
	const char *end;

	if (n <= PIPE_BUF)
		return n;
	end = memrchr(p, '\n', PIPE_BUF);
	return end ? (size_t)(end + 1 - p) : PIPE_BUF;
}

void access_flush(struct access_log *a)
{
	size_t done = 0;

	while (a->fd >= 0 && done < a->used && (!a->pipe || writable(a->fd))) {
		size_t  n = a->used - done;
		ssize_t w = write(a->fd, a->buf + done, a->pipe ? pipe_piece(a->buf + done, n) : n);

		if (w <= 0)
			break;
		done += (size_t)w;
	}
	if (done < a->used)
		a->dropped += count_lines(a->buf + done, a->used - done);
	a->used = 0;
}

struct http_str access_path(const struct exchange *e)
{
	struct http_str path = e->req ? e->req->path : (struct http_str){ "", 0 };
	const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;

	if (query && query == path.p) /* http://host?query */
		return HTTP_STR("/");
	if (query)
		path.n = (uint32_t)(query - path.p);
	if (path.n > ACCESS_VALUE_MAX)
		path.n = ACCESS_VALUE_MAX;
	return path;
}

static bool excluded(const struct access_log *a, const struct exchange *e)
{
	const struct config_strings *x = &a->config->exclude_paths;
	struct http_str path = access_path(e);

	if (e->status < a->config->min_status)
		return true;
	for (uint32_t i = 0; i < x->len; i++) {
		if (http_str_is(path, x->item[i]))
			return true;
	}
	return false;
}

/* Every sample_bp-th of 10000, evenly spread. */
static bool sampled(struct access_log *a)
{
	uint64_t before = a->seen * a->config->sample_bp / 10000;

	a->seen++;
	return a->seen * a->config->sample_bp / 10000 != before;
}

static const char *protocol_name(unsigned version)
{
	return version == HTTP_2 ? "HTTP/2" : version == HTTP_1_0 ? "HTTP/1.0" : "HTTP/1.1";
}

/* The connection itself failed, not what was said over it. */
static bool is_transport(enum rhc_error err)
{
	switch (err) {
	case RHC_ERR_dns_timeout:
	case RHC_ERR_dns_failure:
	case RHC_ERR_connect_refused:
	case RHC_ERR_connect_timeout:
	case RHC_ERR_connect_unroutable:
	case RHC_ERR_tls_failure:
	case RHC_ERR_tls_certificate:
	case RHC_ERR_tls_alert:
	case RHC_ERR_reset_before_headers:
	case RHC_ERR_response_incomplete:
		return true;
	default:
		return false;
	}
}

/* ---- who calls ---- */

static struct access_peer *peer_slot(struct access_log *a, const struct http_conn *c)
{
	return &a->peers[(uintptr_t)c / sizeof(*c) % ACCESS_PEERS];
}

static void peer_ask(struct access_peer *p, const struct http_conn *c)
{
	char text[SOCK_TEXT_SIZE];
	struct sock_addr peer;

	p->conn = c;
	p->opened_ns = c->opened_ns;
	p->text[0] = 0;
	if (http_conn_peer(c, &peer) != 0 || peer.any.sa_family == AF_UNIX)
		return;
	sock_format(&peer.any, peer.len, text);
	if (strlen(text) < sizeof(p->text))
		memcpy(p->text, text, strlen(text) + 1);
}

/* Asked once per connection, as long as no other one takes its place. */
static const char *peer_text(struct access_log *a, const struct http_conn *c)
{
	struct access_peer *p = peer_slot(a, c);

	if (p->conn != c || p->opened_ns != c->opened_ns)
		peer_ask(p, c);
	return p->text;
}

void access_note(struct access_log *a, const struct http_conn *c)
{
	(void)peer_text(a, c);
}

/* The flag of the error, URX when retries did not help, "-" for neither. */
static void flags_of(const struct exchange *e, const struct error_row *row, char out[24])
{
	bool   urx = e->reason_count && (e->error || e->upstream_status >= 500);
	size_t n = strnlen(row->flag, 16);

	memcpy(out, row->flag, n);
	if (n && urx)
		out[n++] = ',';
	if (urx) {
		memcpy(out + n, "URX", 3);
		n += 3;
	}
	if (n == 0)
		out[n++] = '-';
	out[n] = 0;
}

static void line_fill(struct access_line *l, struct access_log *a, const struct exchange *e, uint64_t now_ns)
{
	const struct error_row *row = error_row((enum rhc_error)e->error);
	uint64_t known = 0;

	for (unsigned i = 0; i < PHASES; i++)
		known += e->phases[i];
	l->wall_ns = clock_wall_ns();
	l->duration_ns = now_ns - e->start_ns;
	l->overhead_ns = l->duration_ns > known ? l->duration_ns - known : 0;
	clock_format(l->wall_ns, l->now);
	clock_format(l->wall_ns - l->duration_ns, l->start);
	flags_of(e, row, l->flags);
	l->details = e->error ? row->id : "via_upstream";
	l->protocol = e->req ? protocol_name(e->req->version) : "-";
	l->up_protocol = e->up_version ? protocol_name(e->up_version) : "";
	l->up_failure = is_transport((enum rhc_error)e->error) ? e->detail : "";
	l->down_peer = peer_text(a, e->down->conn);
	l->peer[0] = 0;
	if (e->upstream && e->endpoint < e->upstream->endpoints.n)
		resolver_addr_text(&e->upstream->endpoints.row[e->endpoint].addr, l->peer);
}

void access_write(struct access_log *a, const struct exchange *e, uint64_t now_ns)
{
	struct access_line l;
	size_t n;

	if (excluded(a, e) || !sampled(a))
		return;
	if (sizeof(a->buf) - a->used < ACCESS_LINE_MAX)
		access_flush(a);
	line_fill(&l, a, e, now_ns);
	if (a->format == CONFIG_FORMAT_JSON)
		n = access_json(a->buf + a->used, e, &l);
	else if (a->format == CONFIG_FORMAT_LOGFMT)
		n = access_logfmt(a->buf + a->used, e, &l);
	else
		n = access_text(a->buf + a->used, e, &l);
	a->used += n;
	engine_defer(a->engine, &a->flush);
}
