#include "test_engine.h"

#include <sys/stat.h>

/* clang-format off */
static const struct {
	const char *says, *text;
	int         rc;
	const char *back; /* NULL: the same text */
} texts[] = {
	{ "IPv4",                        "127.0.0.1:4640",        0, NULL },
	{ "port 0",                      "0.0.0.0:0",             0, NULL },
	{ "the last port",               "10.1.2.3:65535",        0, NULL },
	{ "IPv6",                        "[::1]:4640",            0, NULL },
	{ "IPv6 is shortened",           "[2001:db8:0:0::1]:80",  0, "[2001:db8::1]:80" },
	{ "IPv4 in IPv6",                "[::ffff:10.0.0.1]:80",  0, NULL },
	{ "a path",                      "unix:/run/rhc.sock",    0, NULL },
	{ "an abstract name",            "unix:@rhc",             0, NULL },
	{ "a port too great",            "127.0.0.1:65536",       -EINVAL, NULL },
	{ "a very long port",            "127.0.0.1:000080",      -EINVAL, NULL },
	{ "no port",                     "127.0.0.1",             -EINVAL, NULL },
	{ "an empty port",               "127.0.0.1:",            -EINVAL, NULL },
	{ "a sign is no digit",          "127.0.0.1:+80",         -EINVAL, NULL },
	{ "a space is no digit",         "127.0.0.1: 80",         -EINVAL, NULL },
	{ "no address",                  ":80",                   -EINVAL, NULL },
	{ "a name",                      "localhost:80",          -EINVAL, NULL },
	{ "IPv6 without brackets",       "::1:80",                -EINVAL, NULL },
	{ "IPv4 in brackets",            "[127.0.0.1]:80",        -EINVAL, NULL },
	{ "an open bracket",             "[::1:80",               -EINVAL, NULL },
	{ "only a bracket",              "[:80",                  -EINVAL, NULL },
	{ "empty brackets",              "[]:80",                 -EINVAL, NULL },
	{ "nothing",                     "",                      -EINVAL, NULL },
	{ "a short IPv4",                "127.1:80",              -EINVAL, NULL },
	{ "octal",                       "0177.0.0.1:80",         -EINVAL, NULL },
	{ "an empty path",               "unix:",                 -EINVAL, NULL },
	{ "an empty abstract name",      "unix:@",                -EINVAL, NULL },
	{ "a very long address",         "[11111111111111111111111111111111111111111111111111111:1]:80", -EINVAL, NULL },
	{ "a path beyond sun_path",
	  "unix:/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678",
	  -ENAMETOOLONG, NULL },
};
/* clang-format on */

Test(sock, addresses_are_read_strictly_and_written_back)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct sock_addr a;
		char             out[SOCK_TEXT_SIZE];
		const char      *back = texts[i].back ? texts[i].back : texts[i].text;
		int              rc = sock_parse(texts[i].text, &a);

		cr_assert_eq(rc, texts[i].rc, "%s: %d", texts[i].says, rc);
		if (rc)
			continue;
		cr_assert_eq(sock_format(&a.any, a.len, out), (int)strlen(back));
		cr_assert_str_eq(out, back);
	}
}

Test(sock, the_longest_path_fits)
{
	struct sock_addr a;
	char             text[5 + 108] = "unix:/", out[SOCK_TEXT_SIZE];

	memset(text + 6, 'x', sizeof(text) - 7);
	cr_assert_eq(sock_parse(text, &a), 0);
	sock_format(&a.any, a.len, out);
	cr_assert_str_eq(out, text);
}

Test(sock, loopback_is_known)
{
	static const struct {
		const char *text;
		bool        is;
	} rows[] = {
		{ "127.0.0.1:1", true },        { "127.9.9.9:1", true }, { "128.0.0.1:1", false },
		{ "0.0.0.0:1", false },         { "[::1]:1", true },     { "[::]:1", false },
		{ "[::ffff:127.0.0.1]:1", true }, { "[::ffff:1.2.3.4]:1", false }, { "unix:@x", true },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sock_addr a;

		cr_assert_eq(sock_parse(rows[i].text, &a), 0);
		cr_assert_eq(sock_is_loopback(&a.any), rows[i].is, "%s", rows[i].text);
	}
}

Test(sock, each_worker_has_its_own_listener_on_the_same_port)
{
	struct sock_listen_opts opts = { .reuseport = true };
	struct sock_addr        a;
	int                     one, two, three;

	cr_assert_eq(sock_parse("127.0.0.1:0", &a), 0);
	cr_assert_eq(sock_listen(&a, &opts, &one), 0);
	cr_assert_eq(sock_local(one, &a), 0);
	cr_assert_neq(sock_port(&a.any), 0);
	cr_assert_eq(sock_listen(&a, &opts, &two), 0);
	opts.reuseport = false;
	cr_assert_eq(sock_listen(&a, &opts, &three), -EADDRINUSE);
	cr_assert(fcntl(one, F_GETFD) & FD_CLOEXEC);
	close(one);
	close(two);
}

Test(sock, what_is_accepted_sends_at_once)
{
	const struct sock_listen_opts opts = { 0 };
	struct sock_addr              a;
	int                           l, out, in, on = 0;
	socklen_t                     len = sizeof(on);

	cr_assert_eq(sock_parse("127.0.0.1:0", &a), 0);
	cr_assert_eq(sock_listen(&a, &opts, &l), 0);
	cr_assert_eq(sock_local(l, &a), 0);
	cr_assert_eq(sock_open(AF_INET, &out), 0);
	cr_assert_eq(connect(out, &a.any, a.len), 0);
	in = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(in, 0);
	cr_assert_eq(getsockopt(in, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	cr_assert_neq(on, 0);
	close(in);
	close(out);
	close(l);
}

Test(sock, ipv6_listens_where_there_is_ipv6)
{
	const struct sock_listen_opts opts = { .reuseport = true, .v6only = true };
	struct sock_addr              a;
	int                           fd, rc;

	cr_assert_eq(sock_parse("[::1]:0", &a), 0);
	rc = sock_listen(&a, &opts, &fd);
	if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL)
		cr_skip_test("no IPv6 here");
	cr_assert_eq(rc, 0);
	cr_assert_eq(sock_local(fd, &a), 0);
	cr_assert_eq(a.any.sa_family, AF_INET6);
	close(fd);
}

static void unix_path(struct sock_addr *a, char *path, size_t cap)
{
	char text[64];

	snprintf(path, cap, "/tmp/rhc-test-sock-%d", getpid());
	unlink(path);
	snprintf(text, sizeof(text), "unix:%s", path);
	cr_assert_eq(sock_parse(text, a), 0);
}

Test(sock, a_stale_socket_file_is_replaced_but_a_live_one_is_not)
{
	const struct sock_listen_opts opts = { 0 };
	struct sock_addr              a;
	struct stat                   st;
	char                          path[48];
	int                           one, two;

	unix_path(&a, path, sizeof(path));
	cr_assert_eq(sock_listen(&a, &opts, &one), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0660);
	cr_assert_eq(sock_listen(&a, &opts, &two), -EADDRINUSE);
	close(one);
	cr_assert_eq(sock_listen(&a, &opts, &two), 0, "the file is still there, its owner is not");
	close(two);
	unlink(path);
}

Test(sock, a_file_that_is_no_socket_is_not_touched)
{
	const struct sock_listen_opts opts = { 0 };
	struct sock_addr              a;
	char                          path[48];
	int                           fd;

	unix_path(&a, path, sizeof(path));
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	cr_assert(fd >= 0);
	close(fd);
	cr_assert_eq(sock_listen(&a, &opts, &fd), -EADDRINUSE);
	cr_assert_eq(access(path, F_OK), 0);
	unlink(path);
}

static int get(int fd, int level, int name)
{
	int       v = -1;
	socklen_t len = sizeof(v);

	cr_assert_eq(getsockopt(fd, level, name, &v, &len), 0);
	return v;
}

Test(sock, options_are_set_on_tcp_and_ignored_on_unix)
{
	const struct sock_opts o = { .nodelay = true,
		                     .keepalive_idle_s = 61,
		                     .keepalive_interval_s = 7,
		                     .keepalive_count = 3,
		                     .user_timeout_ms = 12345,
		                     .notsent_lowat = 131072 };
	const struct sock_opts none = { 0 };
	int                    fd, fds[2];

	cr_assert_eq(sock_open(AF_INET, &fd), 0);
	cr_assert_eq(sock_tune(fd, &none), 0);
	cr_assert_eq(get(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	cr_assert_eq(sock_tune(fd, &o), 0);
	cr_assert_eq(get(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	cr_assert_eq(get(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	cr_assert_eq(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 61);
	cr_assert_eq(get(fd, IPPROTO_TCP, TCP_KEEPINTVL), 7);
	cr_assert_eq(get(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
	cr_assert_eq(get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
	cr_assert_eq(get(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 131072);
	close(fd);
	pair(fds);
	cr_assert_eq(sock_tune(fds[0], &o), 0);
	close(fds[0]);
	close(fds[1]);
	cr_assert_eq(sock_tune(-1, &o), -EBADF);
}

Test(sock, reset_on_close_resets)
{
	int  fds[2];
	char c;

	tcp_pair(fds);
	reset(fds[1]);
	cr_assert_eq(read(fds[0], &c, 1), -1);
	cr_assert_eq(errno, ECONNRESET);
	close(fds[0]);
}

Test(sock, the_descriptor_limit_is_raised_to_the_hard_one)
{
	struct rlimit lim;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = 100;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
	cr_assert_eq(sock_raise_nofile(), lim.rlim_max);
}
