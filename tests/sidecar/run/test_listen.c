#include "sidecar/run/listen.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/config/findings.h"
#include "sidecar/run/bus.h"

static char dir[64], why[LISTEN_WHY_MAX];
static struct config *config;
static struct listen_set set;

/* The configuration knows no port 0, which the test wants for ports 1 and 2. */
static void any_port(struct config_address *a)
{
	if (a->family == AF_INET && a->port <= 2)
		a->addr.in.sin_port = 0;
}

static void load(const char *more)
{
	static char text[2048];
	struct config_source src = { .text = text };
	struct findings f;

	src.len = (size_t)snprintf(text, sizeof(text),
				   "version: 1\nupstreams: {a: {url: \"http://127.0.0.1:9\"}}\n"
				   "telemetry: {address: \"127.0.0.1:2\"}\n%s",
				   more);
	findings_init(&f);
	cr_assert_eq(config_load(&config, &src, &f), 0, "%s", f.len ? f.item[0].message : "");
	findings_fini(&f);
	any_port(&config->telemetry.address);
	for (uint32_t i = 0; i < config->listeners_len; i++)
		any_port(&config->listeners[i].address);
}

static void start(void)
{
	snprintf(dir, sizeof(dir), "/tmp/rhc-listen-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
}

static void stop(void)
{
	char command[96];

	listen_close(&set);
	config_free(config);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(listen, .init = start, .fini = stop);

static uint16_t port_of(int fd)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	cr_assert_eq(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	return ntohs(in.sin_port);
}

static bool is_open(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0;
}

static void with_sockets(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void with_sockets(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	load(text);
}

Test(listen, each_worker_has_a_socket_of_its_own_on_the_same_port)
{
	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: null}\n");
	cr_assert_eq(listen_open(&set, config, 3, why), 0, "%s", why);
	cr_assert_eq(set.n, 1);
	cr_assert(set.fd[0][0] != set.fd[0][1] && set.fd[0][1] != set.fd[0][2]);
	cr_assert_neq(port_of(set.fd[0][0]), 0);
	cr_assert_eq(port_of(set.fd[0][0]), port_of(set.fd[0][1]));
	cr_assert_eq(port_of(set.fd[0][0]), port_of(set.fd[0][2]));
	cr_assert_eq(ntohs(set.addr[0].in.sin_port), port_of(set.fd[0][0]));
	cr_assert_eq(set.fd[0][3], -1);
}

Test(listen, an_address_in_use_is_named_with_its_listener_and_nothing_stays_open)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int other = socket(AF_INET, SOCK_STREAM, 0), next;
	char port[16];

	cr_assert_eq(bind(other, (struct sockaddr *)&in, sizeof(in)), 0);
	cr_assert_eq(listen(other, 1), 0);
	snprintf(port, sizeof(port), "%u", port_of(other));
	with_sockets(
		"listeners: [{name: first, address: \"127.0.0.1:1\"}, {name: second, address: \"127.0.0.1:%s\"}]\n"
		"admin: {address: null, socket: null}\n",
		port);
	next = dup(0);
	close(next);
	cr_assert_eq(listen_open(&set, config, 2, why), -EADDRINUSE);
	cr_assert(strstr(why, port) && strstr(why, "second") && strstr(why, "in use"), "%s", why);
	cr_assert_eq(dup(0), next, "a descriptor was left open");
	close(other);
}

Test(listen, workers_share_one_socket_of_a_path_and_the_last_copy_ends_it)
{
	with_sockets(
		"listeners: [{name: m, address: \"unix:%s/data.sock\"}]\nadmin: {address: null, socket: null}\n",
		dir);
	cr_assert_eq(listen_open(&set, config, 2, why), 0, "%s", why);
	cr_assert(is_open(set.fd[0][0]) && is_open(set.fd[0][1]));
	listen_close_data(&set);
	cr_assert(set.fd[0][0] == -1 && set.fd[0][1] == -1);
	cr_assert(is_open(set.telemetry_fd), "telemetry goes on");
}

Test(listen, the_admin_socket_has_the_permissions_it_was_given_from_the_first_moment)
{
	char path[96];
	struct stat st;

	snprintf(path, sizeof(path), "%s/admin.sock", dir);
	umask(0);
	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: %s, socket_mode: \"0600\"}\n",
		path);
	cr_assert_eq(listen_open(&set, config, 1, why), 0, "%s", why);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert(S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0600, "%o", st.st_mode);
}

Test(listen, a_socket_file_nobody_listens_on_is_replaced_and_one_in_use_is_not)
{
	struct listen_set other;
	char path[96];

	snprintf(path, sizeof(path), "%s/admin.sock", dir);
	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: %s}\n",
		path);
	cr_assert_eq(listen_open(&other, config, 1, why), 0, "%s", why);
	cr_assert_eq(listen_open(&set, config, 1, why), -EADDRINUSE);
	cr_assert(strstr(why, path) && strstr(why, "admin"), "%s", why);
	listen_close(&other);
	cr_assert_eq(access(path, F_OK), 0, "the file stays behind");
	cr_assert_eq(listen_open(&set, config, 1, why), 0, "%s", why);
}

Test(listen, a_file_that_is_no_socket_is_left_alone)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof(path), "%s/precious", dir);
	f = fopen(path, "w");
	fputs("data", f);
	fclose(f);
	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: %s}\n",
		path);
	cr_assert_eq(listen_open(&set, config, 1, why), -EADDRINUSE);
	cr_assert_eq(access(path, F_OK), 0);
}

Test(listen, a_directory_that_is_not_there_is_told)
{
	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: %s/no/admin.sock}\n",
		dir);
	cr_assert_eq(listen_open(&set, config, 1, why), -ENOENT);
	cr_assert(strstr(why, "No such file"), "%s", why);
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int rc = connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0 ? 0 : -errno;

	close(fd);
	return rc;
}

/* A ring that the kernel still takes down holds a socket as this process holds it here. */
Test(listen, a_process_that_ends_by_SIGBUS_leaves_no_socket_that_listens_whoever_else_holds_it)
{
	uint16_t port;
	int status;
	pid_t pid;

	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: null}\n");
	cr_assert_eq(listen_open(&set, config, 2, why), 0, "%s", why);
	port = port_of(set.fd[0][0]);
	cr_assert_eq(connect_to(port), 0);
	pid = fork();
	if (pid == 0) {
		bus_guard("supervisor", "/dev/shm/x", &set);
		raise(SIGBUS);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE, "%#x", status);
	cr_assert_eq(connect_to(port), -ECONNREFUSED);
}

Test(listen, without_descriptors_it_fails_and_leaves_none)
{
	struct rlimit few = { 0 };

	with_sockets(
		"listeners: [{name: m, address: \"127.0.0.1:1\"}]\nadmin: {address: null, socket: null}\n");
	getrlimit(RLIMIT_NOFILE, &few);
	few.rlim_cur = (rlim_t)dup(0) + 3;
	close((int)few.rlim_cur - 3);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	cr_assert_eq(listen_open(&set, config, 8, why), -EMFILE);
	cr_assert_eq(dup(0), (int)few.rlim_cur - 3);
}
