/*
 * sidecar/upstream/dns_private.h - what dns.c (channels, sockets, clock) and dns_ask.c (questions)
 * share; nobody else includes it.
 */
#ifndef RHC_SIDECAR_UPSTREAM_DNS_PRIVATE_H
#define RHC_SIDECAR_UPSTREAM_DNS_PRIVATE_H

#include <ares.h>

#include "sidecar/base/list.h"
#include "sidecar/io/engine.h"
#include "sidecar/io/timer.h"
#include "sidecar/upstream/dns.h"

/*
 * Absolute names; names that follow the search list; and asking once more for the reason: c-ares
 * before 1.19 passes over a server that says SERVFAIL or REFUSED and in the end only knows that
 * none was of use.
 */
enum dns_kind { DNS_ABSOLUTE, DNS_SEARCH, DNS_REASON, DNS_KINDS };

/* Opened when first needed. */
struct dns_channel {
	struct dns *d;
	ares_channel channel; /* NULL: not open */
	enum dns_kind kind;
};

struct dns {
	uint32_t magic;
	struct engine *engine;
	struct timer_wheel *timers;
	struct timer timer;
	struct list socks;
	uint32_t n_asks;
	bool stopped;
	char *servers;
	int try_timeout_ms;
	struct dns_channel channel[DNS_KINDS];
};

/* NULL when it cannot be had, or after dns_stop(). */
ares_channel dns_channel_of(struct dns *d, enum dns_kind kind);
/* After anything that may have moved the next deadline of c-ares. */
void dns_arm_timer(struct dns *d);

#endif
