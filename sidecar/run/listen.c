#include "sidecar/run/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int one(const struct sock_addr *addr, bool reuseport, uint32_t mode, int *ret_fd)
{
	struct sock_listen_opts opts = { .reuseport = reuseport, .mode = mode };

	return sock_listen(addr, &opts, ret_fd);
}

static int failed(char why[LISTEN_WHY_MAX], const char *what, const char *text, int rc)
{
	snprintf(why, LISTEN_WHY_MAX, "cannot listen on %s for %s: %s", text, what, strerror(-rc));
	return rc;
}

static struct sock_addr addr_of(const struct config_address *a)
{
	struct sock_addr s = { .len = a->len };

	memcpy(&s.un, &a->addr, a->len < sizeof(s.un) ? a->len : sizeof(s.un));
	return s;
}

/* All workers' sockets of one listener.  Port 0 is decided by the first one. */
static int open_listener(struct listen_set *s, uint32_t i, const struct config_listener *l,
			 char why[LISTEN_WHY_MAX])
{
	struct sock_addr addr = addr_of(&l->address);
	bool shared = l->address.family == AF_UNIX;

	for (uint32_t w = 0; w < s->workers; w++) {
		int rc;

		if (shared && w > 0) {
			s->fd[i][w] = dup(s->fd[i][0]);
			rc = s->fd[i][w] < 0 ? -errno : 0;
		} else {
			rc = one(&addr, !shared, 0, &s->fd[i][w]);
		}
		if (rc != 0)
			return failed(why, l->name, l->address.text, rc);
		if (w == 0)
			sock_local(s->fd[i][0], &addr);
	}
	s->addr[i] = addr;
	return 0;
}

static int open_own(const struct config_address *a, const char *what, int *ret_fd,
		    char why[LISTEN_WHY_MAX])
{
	struct sock_addr addr;
	int rc;

	if (!a->text)
		return 0;
	addr = addr_of(a);
	rc = one(&addr, false, 0, ret_fd);
	return rc ? failed(why, what, a->text, rc) : 0;
}

static int open_admin_socket(struct listen_set *s, const struct config_admin *a,
			     char why[LISTEN_WHY_MAX])
{
	char text[SOCK_TEXT_SIZE];
	struct sock_addr addr;
	int rc;

	if (!a->socket)
		return 0;
	snprintf(text, sizeof(text), "unix:%s", a->socket);
	rc = sock_parse(text, &addr);
	if (rc == 0)
		rc = one(&addr, false, a->socket_mode, &s->admin_unix_fd);
	return rc ? failed(why, "admin", text, rc) : 0;
}

int listen_open_data(struct listen_set *s, const struct config *config, char why[LISTEN_WHY_MAX])
{
	int rc = 0;

	for (uint32_t i = 0; i < s->n && rc == 0; i++)
		rc = open_listener(s, i, &config->listeners[i], why);
	if (rc != 0)
		listen_close_data(s);
	return rc;
}

int listen_open(struct listen_set *s, const struct config *config, uint32_t workers,
		char why[LISTEN_WHY_MAX])
{
	int rc = 0;

	*s = (struct listen_set){ .n = config->listeners_len,
				  .workers = workers,
				  .admin_fd = -1,
				  .admin_unix_fd = -1,
				  .telemetry_fd = -1 };
	s->fd = calloc(s->n ? s->n : 1, sizeof(*s->fd));
	s->addr = calloc(s->n ? s->n : 1, sizeof(*s->addr));
	if (!s->fd || !s->addr) {
		listen_close(s);
		return failed(why, "anything", "memory", -ENOMEM);
	}
	for (uint32_t i = 0; i < s->n; i++) {
		for (uint32_t w = 0; w < RHC_WORKERS_MAX; w++)
			s->fd[i][w] = -1;
	}
	rc = listen_open_data(s, config, why);
	if (rc == 0)
		rc = open_own(&config->admin.address, "admin", &s->admin_fd, why);
	if (rc == 0)
		rc = open_admin_socket(s, &config->admin, why);
	if (rc == 0)
		rc = open_own(&config->telemetry.address, "telemetry", &s->telemetry_fd, why);
	if (rc != 0)
		listen_close(s);
	return rc;
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void listen_close_data(struct listen_set *s)
{
	for (uint32_t i = 0; s->fd && i < s->n; i++) {
		for (uint32_t w = 0; w < s->workers; w++)
			shut(&s->fd[i][w]);
	}
}

void listen_stop_data(struct listen_set *s)
{
	for (uint32_t i = 0; s->fd && i < s->n; i++) {
		for (uint32_t w = 0; w < s->workers; w++) {
			if (s->fd[i][w] >= 0)
				shutdown(s->fd[i][w], SHUT_RDWR);
		}
	}
	listen_close_data(s);
}

void listen_close(struct listen_set *s)
{
	listen_close_data(s);
	shut(&s->admin_fd);
	shut(&s->admin_unix_fd);
	shut(&s->telemetry_fd);
	free(s->fd);
	free(s->addr);
	s->fd = NULL;
	s->addr = NULL;
}
