#include "sidecar/io/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UNIX_MODE = 0660 };

/* --- addresses */

int sock_parse_ip(const char *ip, uint16_t port, struct sock_addr *ret_addr)
{
	struct sock_addr a;

	memset(&a, 0, sizeof(a));
	if (inet_pton(AF_INET, ip, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
		a.len = sizeof(a.in);
	} else if (inet_pton(AF_INET6, ip, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
		a.len = sizeof(a.in6);
	} else {
		return -EINVAL;
	}
	*ret_addr = a;
	return 0;
}

static int parse_unix(const char *path, struct sock_addr *ret_addr)
{
	struct sock_addr a;
	size_t           n = strlen(path);

	memset(&a, 0, sizeof(a));
	if (n == 0 || (n == 1 && path[0] == '@'))
		return -EINVAL;
	if (n >= sizeof(a.un.sun_path))
		return -ENAMETOOLONG;
	a.un.sun_family = AF_UNIX;
	memcpy(a.un.sun_path, path, n);
	a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	if (path[0] == '@') {
		/* unix(7): an abstract name begins with 0, and its length ends it. */
		a.un.sun_path[0] = 0;
		a.len--;
	}
	*ret_addr = a;
	return 0;
}

static int parse_port(const char *s, uint16_t *ret_port)
{
	unsigned v = 0;

	if (!*s || strlen(s) > 5)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		v = v * 10 + (unsigned)(*s - '0');
	}
	if (v > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)v;
	return 0;
}

int sock_parse(const char *text, struct sock_addr *ret_addr)
{
	char        ip[INET6_ADDRSTRLEN];
	const char *colon = strrchr(text, ':'), *from = text;
	size_t      n;
	uint16_t    port;
	bool        bracket = text[0] == '[';

	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, ret_addr);
	if (!colon || parse_port(colon + 1, &port) != 0)
		return -EINVAL;
	n = (size_t)(colon - text);
	if (bracket) {
		if (n < 2 || text[n - 1] != ']')
			return -EINVAL;
		from++;
		n -= 2;
	}
	/* RFC 3986 section 3.2.2: an IPv6 address stands in brackets, nothing else does. */
	if (n == 0 || n >= sizeof(ip) || bracket != (memchr(from, ':', n) != NULL))
		return -EINVAL;
	memcpy(ip, from, n);
	ip[n] = 0;
	return sock_parse_ip(ip, port, ret_addr);
}

static int format_unix(const struct sockaddr_un *un, socklen_t len, char out[SOCK_TEXT_SIZE])
{
	size_t n = len > offsetof(struct sockaddr_un, sun_path) ?
	                   len - offsetof(struct sockaddr_un, sun_path) :
	                   0;
	const char *path = un->sun_path;

	if (n == 0) /* unix(7): the other end of a pair, or not bound */
		return snprintf(out, SOCK_TEXT_SIZE, "unix:");
	if (path[0] == 0)
		return snprintf(out, SOCK_TEXT_SIZE, "unix:@%.*s", (int)n - 1, path + 1);
	return snprintf(out, SOCK_TEXT_SIZE, "unix:%.*s", (int)strnlen(path, n), path);
}

int sock_format(const struct sockaddr *addr, socklen_t len, char out[SOCK_TEXT_SIZE])
{
	char ip[INET6_ADDRSTRLEN] = "?";

	switch (addr->sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)addr)->sin_addr, ip,
		          sizeof(ip));
		return snprintf(out, SOCK_TEXT_SIZE, "%s:%u", ip, sock_port(addr));
	case AF_INET6:
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr,
		          ip, sizeof(ip));
		return snprintf(out, SOCK_TEXT_SIZE, "[%s]:%u", ip, sock_port(addr));
	case AF_UNIX:
		return format_unix((const struct sockaddr_un *)(const void *)addr, len, out);
	default:
		return snprintf(out, SOCK_TEXT_SIZE, "?");
	}
}

bool sock_is_loopback(const struct sockaddr *addr)
{
	const struct sockaddr_in  *in = (const void *)addr;
	const struct sockaddr_in6 *in6 = (const void *)addr;

	switch (addr->sa_family) {
	case AF_INET:
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
		        in6->sin6_addr.s6_addr[12] == 127);
	default:
		return addr->sa_family == AF_UNIX;
	}
}

bool sock_same(const struct sock_addr *a, const struct sock_addr *b)
{
	return a->len == b->len && memcmp(&a->any, &b->any, a->len) == 0;
}

uint16_t sock_port(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port);
	if (addr->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)addr)->sin6_port);
	return 0;
}

static int name_of(int fd, int (*get)(int, struct sockaddr *, socklen_t *), struct sock_addr *ret_addr)
{
	struct sock_addr a;

	memset(&a, 0, sizeof(a));
	a.len = sizeof(a.un) > sizeof(a.in6) ? sizeof(a.un) : sizeof(a.in6);
	if (get(fd, &a.any, &a.len) != 0)
		return -errno;
	*ret_addr = a;
	return 0;
}

static int get_local(int fd, struct sockaddr *addr, socklen_t *len)
{
	return getsockname(fd, addr, len);
}

static int get_peer(int fd, struct sockaddr *addr, socklen_t *len)
{
	return getpeername(fd, addr, len);
}

int sock_local(int fd, struct sock_addr *ret_addr)
{
	return name_of(fd, get_local, ret_addr);
}

int sock_peer(int fd, struct sock_addr *ret_addr)
{
	return name_of(fd, get_peer, ret_addr);
}

/* --- options */

static int set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

/* One option that is wanted (value != 0), unless an earlier one failed. */
static void want(int *rc, int fd, int level, int name, uint32_t value)
{
	if (*rc == 0 && value)
		*rc = set(fd, level, name, (int)value);
}

int sock_tune(int fd, const struct sock_opts *o)
{
	int rc = 0;

	want(&rc, fd, SOL_SOCKET, SO_SNDBUF, o->sndbuf);
	want(&rc, fd, SOL_SOCKET, SO_RCVBUF, o->rcvbuf);
	want(&rc, fd, SOL_SOCKET, SO_KEEPALIVE, o->keepalive_idle_s > 0);
	want(&rc, fd, IPPROTO_TCP, TCP_NODELAY, o->nodelay);
	want(&rc, fd, IPPROTO_TCP, TCP_KEEPIDLE, o->keepalive_idle_s);
	want(&rc, fd, IPPROTO_TCP, TCP_KEEPINTVL, o->keepalive_interval_s);
	want(&rc, fd, IPPROTO_TCP, TCP_KEEPCNT, o->keepalive_count);
	want(&rc, fd, IPPROTO_TCP, TCP_USER_TIMEOUT, o->user_timeout_ms);
	want(&rc, fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, o->notsent_lowat);
	/* a unix socket has no options of TCP; asking which it is would be one more call for each TCP socket */
	return rc == -EOPNOTSUPP ? 0 : rc;
}

int sock_error(int fd)
{
	int       err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

int sock_reset_on_close(int fd)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) ? -errno : 0;
}

/* --- making sockets */

int sock_open(sa_family_t family, int *ret_fd)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static bool is_path(const struct sock_addr *a)
{
	return a->any.sa_family == AF_UNIX && a->un.sun_path[0];
}

/* A socket file that nobody listens on is the rest of a dead process; anything else stays. */
static int remove_stale(const struct sock_addr *a)
{
	struct stat st;
	int         fd, rc;

	if (lstat(a->un.sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = connect(fd, &a->any, a->len) != 0 && errno == ECONNREFUSED ? 0 : -EADDRINUSE;
	close(fd);
	if (rc == 0 && unlink(a->un.sun_path) != 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

static int prepare(int fd, const struct sock_addr *a, const struct sock_listen_opts *o)
{
	int rc = 0;

	if (a->any.sa_family == AF_UNIX)
		return is_path(a) ? remove_stale(a) : 0;
	want(&rc, fd, SOL_SOCKET, SO_REUSEADDR, 1);
	want(&rc, fd, SOL_SOCKET, SO_REUSEPORT, o->reuseport);
	want(&rc, fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, o->defer_accept_s);
	/* what is accepted inherits it: two system calls less per connection */
	want(&rc, fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (rc == 0 && a->any.sa_family == AF_INET6)
		rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, o->v6only);
	return rc;
}

static int bind_listen(int fd, const struct sock_addr *a, const struct sock_listen_opts *o)
{
	int rc = prepare(fd, a, o);

	if (rc)
		return rc;
	if (bind(fd, &a->any, a->len) != 0)
		return -errno;
	/* Before listen(2): until then nobody can connect. */
	if (is_path(a) && chmod(a->un.sun_path, o->mode ? (mode_t)o->mode : UNIX_MODE) != 0)
		return -errno;
	if (listen(fd, o->backlog ? (int)o->backlog : SOMAXCONN) != 0)
		return -errno;
	return 0;
}

int sock_listen(const struct sock_addr *addr, const struct sock_listen_opts *opts, int *ret_fd)
{
	int fd = -1, rc;

	rc = sock_open(addr->any.sa_family, &fd);
	if (rc)
		return rc;
	rc = bind_listen(fd, addr, opts);
	if (rc) {
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

uint64_t sock_raise_nofile(void)
{
	struct rlimit lim;
	rlim_t        soft;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
		return 0;
	soft = lim.rlim_cur;
	lim.rlim_cur = lim.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &lim) == 0 ? lim.rlim_cur : soft;
}
