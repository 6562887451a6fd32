/* Questions to the name servers, and what comes back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/upstream/dns_private.h"

struct dns_ask {
	struct dns *d;
	dns_done *done; /* NULL: forgotten */
	void *arg;
	bool over;     /* done was called: dns_lookup() still looks */
	bool within;   /* dns_lookup() has not returned */
	bool reasoned; /* the second question was asked */
	uint16_t port;
	int family;
	char host[];
};

static enum resolver_error error_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return RESOLVER_OK;
	case ARES_ENOTFOUND:
		return RESOLVER_NXDOMAIN;
	case ARES_ENODATA:
		return RESOLVER_NODATA;
	case ARES_ESERVFAIL:
		return RESOLVER_SERVFAIL;
	case ARES_EREFUSED:
		return RESOLVER_REFUSED;
	case ARES_ENOTIMP:
		return RESOLVER_NOTIMP;
	case ARES_EFORMERR:
		return RESOLVER_FORMERR;
	case ARES_EBADNAME:
	case ARES_EBADQUERY:
	case ARES_ENONAME:
		return RESOLVER_BAD_NAME;
	case ARES_EBADRESP:
		return RESOLVER_BAD_REPLY;
	case ARES_ECONNREFUSED:
		return RESOLVER_NO_SERVER;
	case ARES_ETIMEOUT:
		return RESOLVER_TIMEOUT;
	default:
		return RESOLVER_SYSTEM;
	}
}

static uint32_t ttl_of(const struct ares_addrinfo *ai)
{
	int ttl = INT32_MAX;

	for (const struct ares_addrinfo_node *n = ai->nodes; n; n = n->ai_next)
		ttl = n->ai_ttl < ttl ? n->ai_ttl : ttl;
	for (const struct ares_addrinfo_cname *c = ai->cnames; c; c = c->next)
		ttl = c->ttl < ttl ? c->ttl : ttl;
	return ttl > 0 ? (uint32_t)ttl : 0;
}

static void collect(const struct ares_addrinfo *ai, uint16_t port, struct dns_found *f)
{
	for (const struct ares_addrinfo_node *n = ai->nodes; n && f->n < RESOLVER_ADDRS_MAX;
	     n = n->ai_next) {
		union resolver_addr *a = &f->addr[f->n];

		if (n->ai_family == AF_INET && n->ai_addrlen >= (ares_socklen_t)sizeof(a->in)) {
			memcpy(&a->in, n->ai_addr, sizeof(a->in));
			a->in.sin_port = htons(port);
			f->n++;
		} else if (n->ai_family == AF_INET6 &&
			   n->ai_addrlen >= (ares_socklen_t)sizeof(a->in6)) {
			memcpy(&a->in6, n->ai_addr, sizeof(a->in6));
			a->in6.sin6_port = htons(port);
			f->n++;
		}
	}
	f->ttl_s = ttl_of(ai);
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *ai);

static void ask(struct dns_ask *a, ares_channel channel)
{
	struct ares_addrinfo_hints hints = {
		.ai_flags = ARES_AI_NOSORT,
		.ai_family = a->family,
		.ai_socktype = SOCK_STREAM,
	};

	ares_getaddrinfo(channel, a->host, NULL, &hints, on_answer, a);
}

/* True: the question is on its way again, its answer will have the server's reason. */
static bool ask_for_reason(struct dns_ask *a, int status)
{
	ares_channel channel;

	if (status != ARES_ECONNREFUSED || a->reasoned || !a->done)
		return false;
	channel = dns_channel_of(a->d, DNS_REASON);
	a->reasoned = true;
	if (channel)
		ask(a, channel);
	return channel != NULL;
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
	struct dns_ask *a = arg;
	struct dns_found f = { .err = error_of(status) };

	(void)timeouts;
	if (ask_for_reason(a, status)) {
		if (ai)
			ares_freeaddrinfo(ai);
		return;
	}
	if (status == ARES_SUCCESS && ai)
		collect(ai, a->port, &f);
	if (ai)
		ares_freeaddrinfo(ai);
	if (f.err == RESOLVER_OK && f.n == 0)
		f.err = RESOLVER_NODATA;
	a->d->n_asks--;
	a->over = true;
	/* ares_destroy() answers everything that is open: whoever stops wants to hear nothing. */
	if (a->done && status != ARES_EDESTRUCTION)
		a->done(a->arg, &f);
	if (!a->within)
		free(a);
}

static struct dns_ask *ask_new(struct dns *d, const char *host, enum config_family family)
{
	size_t n = strlen(host) + 1;
	struct dns_ask *a = calloc(1, sizeof(*a) + n);

	if (!a)
		return NULL;
	a->d = d;
	a->family = family == CONFIG_FAMILY_IPV4   ? AF_INET
		    : family == CONFIG_FAMILY_IPV6 ? AF_INET6
						   : AF_UNSPEC;
	memcpy(a->host, host, n);
	return a;
}

struct dns_ask *dns_lookup(struct dns *d, const char *host, uint16_t port,
			   enum config_family family, bool search, dns_done *done, void *arg)
{
	ares_channel channel = dns_channel_of(d, search ? DNS_SEARCH : DNS_ABSOLUTE);
	struct dns_ask *a = channel ? ask_new(d, host, family) : NULL;

	if (!a) {
		done(arg, &(struct dns_found){ .err = RESOLVER_SYSTEM });
		return NULL;
	}
	a->done = done;
	a->arg = arg;
	a->port = port;
	a->within = true;
	d->n_asks++;
	ask(a, channel);
	a->within = false;
	if (a->over) {
		free(a);
		return NULL;
	}
	dns_arm_timer(d);
	return a;
}

void dns_forget(struct dns_ask *a)
{
	if (a)
		a->done = NULL;
}
