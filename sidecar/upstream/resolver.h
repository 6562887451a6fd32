/*
 * sidecar/upstream/resolver.h - host names to addresses: c-ares on the engine, never a blocking
 * call.
 *
 * Shape       struct resolver is one c-ares channel of a worker; struct resolver_name is one host
 *             that is kept resolved: its addresses, their expiry, the lookup in flight, who waits
 *             for it.
 * Owns        the channel, its sockets' engine operations, one timer.
 * Owned by    the upstreams of the worker; one name per upstream, made at start.
 * Calls back  resolver_wait.done, only from within engine_turn(), exactly once per wait not
 *             cancelled.
 * Freshness   Answers live for their TTL within [ttl_min, ttl_max].  An answer older than three
 *             quarters of that is refreshed in the background when it is used; an expired one is
 *             looked up again and the caller waits, unless stale_if_error still covers it: then the
 *             last good addresses are given when the lookup fails.  Failures are remembered for
 *             negative_ttl.
 * No network  IP literals; localhost and names below it (RFC 6761 section 6.3); names of the hosts
 *             file.
 * Search      Names with two dots or more, or one at the end, are absolute; the rest follow
 *             resolv.conf's search
 *             list.  (ndots:5 in pods would ask five wrong names first.)
 * Bounds      RESOLVER_ADDRS_MAX addresses; a lookup ends within dns.timeout whatever the servers
 *             do; any number of waits, each in its owner's memory.
 * Ends when   resolver_stop(), then resolver_idle(), then resolver_free().
 */
#ifndef RHC_SIDECAR_UPSTREAM_RESOLVER_H
#define RHC_SIDECAR_UPSTREAM_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "sidecar/base/list.h"
#include "sidecar/config/config.h"

struct engine;
struct timer_wheel;

enum { RESOLVER_ADDRS_MAX = 32 };

union resolver_addr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* X(ID, "rcode of RFC 9209 section 2.3.2", "text") */
/* clang-format off */
#define RESOLVER_ERRORS(X) \
	X(OK,        "",         "no error") \
	X(NXDOMAIN,  "NXDOMAIN", "no such name") \
	X(NODATA,    "NOERROR",  "the name has no address") \
	X(SERVFAIL,  "SERVFAIL", "the name server failed") \
	X(REFUSED,   "REFUSED",  "the name server refused to answer") \
	X(NOTIMP,    "NOTIMP",   "the name server does not know this kind of question") \
	X(FORMERR,   "FORMERR",  "the name server did not understand the question") \
	X(BAD_NAME,  "",         "not a name that can be looked up") \
	X(BAD_REPLY, "",         "the name server's answer is malformed") \
	X(NO_SERVER, "",         "no name server can be reached") \
	X(TIMEOUT,   "",         "no answer in time") \
	X(SYSTEM,    "",         "out of memory or descriptors")
/* clang-format on */
enum resolver_error {
#define X(ID, rcode, text) RESOLVER_##ID,
	RESOLVER_ERRORS(X)
#undef X
		RESOLVER_ERROR_COUNT
};

const char *resolver_error_rcode(enum resolver_error e); /* "" where the server gave none */
const char *resolver_error_text(enum resolver_error e);
/* The name itself is wrong: the next try will say the same. */
bool resolver_error_permanent(enum resolver_error e);

struct resolver_options {
	struct engine *engine;
	struct timer_wheel *timers;
	const char *servers;     /* "127.0.0.1:5353,..."; NULL: resolv.conf */
	const char *hosts_file;  /* NULL: /etc/hosts */
	uint32_t try_timeout_ms; /* first try of one server; 0: 2000 */
};

struct resolver;
struct resolver_name;

/* 0, -ENOMEM, or -EIO when c-ares cannot be set up at all (text in its log line). */
int resolver_new(const struct resolver_options *o, struct resolver **ret);
void resolver_stop(
	struct resolver *r); /* no further lookups: waits are dropped, gets answer FAILED */
bool resolver_idle(const struct resolver *r); /* after stop, some turns later: no socket is open */
struct resolver *
resolver_free(struct resolver *r); /* asserts idle; frees its names; NULL is fine; returns NULL */

/* Counts of the worker, for the upstream's counters row. */
struct resolver_events {
	void (*on_lookup)(void *owner, enum resolver_error err, uint64_t took_ns);
	void *owner;
};

/*
 * host is copied; dns is kept by the caller.  0, -ENOMEM, -EINVAL (longer than 253 bytes, or
 * empty).
 */
int resolver_name_new(struct resolver *r, const char *host, uint16_t port,
		      const struct config_dns *dns, const struct resolver_events *ev,
		      struct resolver_name **ret);
void resolver_name_free(struct resolver_name *n); /* NULL is fine */

struct resolver_wait {
	struct list_node node; /* linked while waiting */
	/* err == RESOLVER_OK: resolver_addrs() has some */
	void (*done)(struct resolver_wait *w, enum resolver_error err);
};

enum resolver_answer {
	RESOLVER_READY,   /* addresses are there now */
	RESOLVER_FAILED,  /* a remembered failure, *ret_err */
	RESOLVER_WAITING, /* w->done will be called */
};

/* Addresses for a connect that begins now. */
enum resolver_answer resolver_get(struct resolver_name *n, struct resolver_wait *w,
				  enum resolver_error *ret_err);
void resolver_cancel(struct resolver_wait *w); /* no call; a wait that is over is fine */

/*
 * The addresses known now, at most RESOLVER_ADDRS_MAX, families alternating (RFC 8305 section 4).
 * Their number; *ret_generation changes whenever the set does.
 */
uint32_t resolver_addrs(const struct resolver_name *n, const union resolver_addr **ret,
			uint32_t *ret_generation);

static inline socklen_t resolver_addr_len(const union resolver_addr *a)
{
	return a->any.sa_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in);
}
bool resolver_addr_equal(const union resolver_addr *a, const union resolver_addr *b);
/* "10.0.4.7:443", "[::1]:80"; returns out. */
enum { RESOLVER_ADDR_TEXT = 56 };
const char *resolver_addr_text(const union resolver_addr *a, char out[RESOLVER_ADDR_TEXT]);

#endif
