/*
 * sidecar/upstream/dns.h - one question to the name servers: c-ares on the engine.
 *
 * Shape       struct dns is a c-ares channel for absolute names and, once needed, one with
 *             resolv.conf's search list; their sockets are polled by the engine, their clock is one
 *             timer.
 * Used by     resolver.c alone, which keeps what is found.
 * Calls back  dns_lookup()'s done exactly once, unless forgotten: from engine_turn() or a timer, or
 *             at once from within dns_lookup() when the question never left.
 * Memory      c-ares allocates; lookups happen once per TTL, not per call.
 * Ends when   dns_stop() was called and dns_idle() says true: then every operation has come back.
 */
#ifndef RHC_SIDECAR_UPSTREAM_DNS_H
#define RHC_SIDECAR_UPSTREAM_DNS_H

#include "sidecar/upstream/resolver.h"

struct dns;
struct dns_ask;

struct dns_found {
	enum resolver_error err;
	uint32_t n;     /* > 0 with RESOLVER_OK */
	uint32_t ttl_s; /* the smallest of the chain */
	union resolver_addr addr[RESOLVER_ADDRS_MAX];
};

typedef void dns_done(void *arg, const struct dns_found *f);

int dns_new(const struct resolver_options *o, struct dns **ret);
void dns_stop(struct dns *d); /* questions in flight are forgotten */
bool dns_idle(const struct dns *d);
struct dns *dns_free(struct dns *d); /* asserts idle; returns NULL */

/* NULL when done was called already. */
struct dns_ask *dns_lookup(struct dns *d, const char *host, uint16_t port,
			   enum config_family family, bool search, dns_done *done, void *arg);
void dns_forget(struct dns_ask *a); /* done will not be called; NULL is fine */

/*
 * Names that need no server: literals, localhost (RFC 6761 section 6.3), the hosts file.  True when
 * the name is one of these; f->n may be 0 then (a literal of the family that is switched off).
 */
enum dns_local { DNS_LOCAL_NO, DNS_LOCAL_FIXED, DNS_LOCAL_HOSTS };
enum dns_local dns_local(const char *hosts_file, const char *host, uint16_t port,
			 enum config_family family, struct dns_found *f);

/* Families alternating, IPv6 first if the host has a route for it (RFC 8305 section 4). */
void dns_interleave(union resolver_addr *addr, uint32_t n);

#endif
