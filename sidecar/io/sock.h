/*
 * sidecar/io/sock.h - sockets: addresses, options, listening.
 *
 * Shape   Plain system calls with the flags we want everywhere: CLOEXEC always.  O_NONBLOCK is the engine's.
 * Owns    nothing; descriptors are the caller's.
 * Errors  0 or -errno.
 */
#ifndef RHC_SIDECAR_IO_SOCK_H
#define RHC_SIDECAR_IO_SOCK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct sock_addr {
	union {
		struct sockaddr     any;
		struct sockaddr_in  in;
		struct sockaddr_in6 in6;
		struct sockaddr_un  un;
	};
	socklen_t len;
};

enum { SOCK_TEXT_SIZE = 128 }; /* longest text of sock_format() and its 0 */

/*
 * "127.0.0.1:4640", "[::1]:4640", "unix:/run/rhc.sock", "unix:@abstract".  Numbers only, no names.
 * -EINVAL: not such a text; -ENAMETOOLONG: path too long for a socket.
 */
int sock_parse(const char *text, struct sock_addr *ret_addr);
/* An address and a port kept apart, as they come from DNS; -EINVAL. */
int sock_parse_ip(const char *ip, uint16_t port, struct sock_addr *ret_addr);
/* The same text back; returns its length. */
int sock_format(const struct sockaddr *addr, socklen_t len, char out[SOCK_TEXT_SIZE]);

bool     sock_is_loopback(const struct sockaddr *addr); /* unix sockets are, too */
bool     sock_same(const struct sock_addr *a, const struct sock_addr *b);
uint16_t sock_port(const struct sockaddr *addr); /* 0 for unix */

/* 0 in a member leaves the system's default. */
struct sock_opts {
	bool     nodelay;
	uint32_t keepalive_idle_s; /* > 0 switches keep-alive on */
	uint32_t keepalive_interval_s;
	uint32_t keepalive_count;
	uint32_t user_timeout_ms; /* unacknowledged data: give up after */
	uint32_t notsent_lowat; /* bytes queued in the kernel that were not sent yet */
	uint32_t sndbuf, rcvbuf;
};

/* What fits the socket: on a unix socket the TCP members do nothing. */
int sock_tune(int fd, const struct sock_opts *opts);

struct sock_listen_opts {
	uint32_t backlog; /* 0: SOMAXCONN */
	bool     reuseport; /* one socket per worker on the same address */
	bool     v6only;
	uint32_t defer_accept_s; /* TCP: accept only with data */
	uint32_t mode; /* unix: permissions of the file, 0: 0660 */
};

/*
 * A listening socket; what is accepted from it has TCP_NODELAY.  Port 0 takes a free one: see sock_local().  A unix
 * socket file that nobody listens on any more is replaced; -EADDRINUSE when somebody does.
 */
int sock_listen(const struct sock_addr *addr, const struct sock_listen_opts *opts, int *ret_fd);

/* A stream socket for engine_connect(). */
int sock_open(sa_family_t family, int *ret_fd);

int sock_local(int fd, struct sock_addr *ret_addr);
int sock_peer(int fd, struct sock_addr *ret_addr);

int sock_error(int fd); /* takes the pending error: 0 or -errno */
int sock_reset_on_close(int fd); /* close will send RST and drop what is queued */

/* Raise RLIMIT_NOFILE to its hard limit; returns the soft limit then in force. */
uint64_t sock_raise_nofile(void);

#endif
