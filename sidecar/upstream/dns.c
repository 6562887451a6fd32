#include "sidecar/upstream/dns.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/dns_private.h"

enum { DNS_MAGIC = 0x444e5331, TRY_TIMEOUT_MS = 2000, TRIES = 3 };

/*
 * A socket of c-ares.  Lives until both polls have come back, which may be after c-ares has closed
 * it.
 */
struct dns_sock {
	struct list_node node;
	struct dns *d;
	struct dns_channel *channel;
	int fd; /* -1: closed by c-ares */
	bool want_rd, want_wr;
	bool pinned; /* c-ares is at work on it: whoever called it frees */
	struct engine_op rd, wr;
};

/* ---- sockets ---- */

static void sock_release(struct dns_sock *s)
{
	if (s->fd >= 0 || s->pinned || engine_busy(&s->rd) || engine_busy(&s->wr))
		return;
	list_remove(&s->node);
	free(s);
}

static void sock_arm(struct dns_sock *s)
{
	struct engine *e = s->d->engine;

	if (s->fd < 0)
		return;
	if (s->want_rd && !engine_busy(&s->rd))
		engine_poll(e, &s->rd, s->fd, POLLIN);
	if (s->want_wr && !engine_busy(&s->wr))
		engine_poll(e, &s->wr, s->fd, POLLOUT);
}

static void on_ready(struct dns_sock *s, bool read, int res)
{
	struct dns *d = s->d;

	if (s->fd < 0) {
		sock_release(s);
		return;
	}
	/*
	 * Cancelled because it was not wanted for a moment: nothing to process, but perhaps wanted
	 * again.
	 */
	if (res != -ECANCELED) {
		s->pinned = true;
		ares_process_fd(s->channel->channel, read ? s->fd : ARES_SOCKET_BAD,
				read ? ARES_SOCKET_BAD : s->fd);
		s->pinned = false;
		dns_arm_timer(d);
	}
	if (s->fd < 0)
		sock_release(s);
	else
		sock_arm(s);
}

static void on_readable(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	on_ready(CONTAINER_OF(op, struct dns_sock, rd), true, res);
}

static void on_writable(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	on_ready(CONTAINER_OF(op, struct dns_sock, wr), false, res);
}

static struct dns_sock *sock_find(struct dns *d, int fd)
{
	LIST_FOREACH(n, &d->socks)
	{
		struct dns_sock *s = LIST_ENTRY(n, struct dns_sock, node);

		if (s->fd == fd)
			return s;
	}
	return NULL;
}

static void sock_close(struct dns_sock *s)
{
	engine_cancel(s->d->engine, &s->rd);
	engine_cancel(s->d->engine, &s->wr);
	engine_forget(s->d->engine, s->fd);
	s->fd = -1;
	sock_release(s);
}

static struct dns_sock *sock_new(struct dns_channel *channel, int fd)
{
	struct dns_sock *s = calloc(1, sizeof(*s));

	/*
	 * Without it the question goes unanswered and times out: the caller's answer is the same.
	 */
	if (!s)
		return NULL;
	s->d = channel->d;
	s->channel = channel;
	s->fd = fd;
	engine_op_init(&s->rd, on_readable);
	engine_op_init(&s->wr, on_writable);
	list_push_back(&s->d->socks, &s->node);
	return s;
}

static void on_state(void *arg, ares_socket_t fd, int rd, int wr)
{
	struct dns_channel *channel = arg;
	struct dns *d = channel->d;
	struct dns_sock *s = sock_find(d, fd);

	if (!rd && !wr) {
		if (s)
			sock_close(s); /* c-ares closes the descriptor after this */
		return;
	}
	if (!s)
		s = sock_new(channel, fd);
	if (!s)
		return;
	s->want_rd = rd != 0;
	s->want_wr = wr != 0;
	if (!wr)
		engine_cancel(d->engine, &s->wr);
	sock_arm(s);
}

/* ---- clock ---- */

static uint64_t next_ns(ares_channel channel)
{
	struct timeval tv, *t = channel ? ares_timeout(channel, NULL, &tv) : NULL;

	return t ? (uint64_t)t->tv_sec * NS_PER_S + (uint64_t)t->tv_usec * NS_PER_US : UINT64_MAX;
}

void dns_arm_timer(struct dns *d)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < DNS_KINDS; i++) {
		uint64_t at = next_ns(d->channel[i].channel);

		next = at < next ? at : next;
	}
	if (next == UINT64_MAX)
		timer_disarm(&d->timer);
	else
		timer_set_in(d->timers, &d->timer, next);
}

static void on_timer(struct timer *t)
{
	struct dns *d = CONTAINER_OF(t, struct dns, timer);

	OBJ_CHECK(d, DNS_MAGIC);
	for (unsigned i = 0; i < DNS_KINDS; i++)
		if (d->channel[i].channel)
			ares_process_fd(d->channel[i].channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	dns_arm_timer(d);
}

/* ---- channels ---- */

static int set_servers(ares_channel channel, const char *servers)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
	"-Wdeprecated-declarations" /* since 1.24 the shorter name knows ports as well */
	return ares_set_servers_ports_csv(channel, servers);
#pragma GCC diagnostic pop
}

static int flags_of(enum dns_kind kind)
{
	switch (kind) {
	case DNS_ABSOLUTE:
		return ARES_FLAG_NOSEARCH;
	case DNS_REASON:
		return ARES_FLAG_NOSEARCH | ARES_FLAG_NOCHECKRESP;
	case DNS_SEARCH:
	case DNS_KINDS:
		break;
	}
	return 0;
}

static int open_channel(struct dns_channel *c)
{
	struct dns *d = c->d;
	struct ares_options o = { 0 };
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
		   ARES_OPT_SOCK_STATE_CB;
	char lookups[] = "b"; /* servers only: the hosts file is ours, and is read when we say */
	int rc;

	o.flags = flags_of(c->kind);
	o.timeout = d->try_timeout_ms;
	o.tries = TRIES;
	o.lookups = lookups;
	o.sock_state_cb = on_state;
	o.sock_state_cb_data = c;
	if (c->kind != DNS_SEARCH)
		mask |= ARES_OPT_DOMAINS; /* none */
#ifdef ARES_OPT_QUERY_CACHE
	mask |= ARES_OPT_QUERY_CACHE; /* none: resolver.c keeps answers, by our rules */
#endif
	rc = ares_init_options(&c->channel, &o, mask);
	if (rc == ARES_SUCCESS && d->servers) {
		rc = set_servers(c->channel, d->servers);
		if (rc != ARES_SUCCESS)
			ares_destroy(c->channel);
	}
	if (rc == ARES_SUCCESS)
		return 0;
	c->channel = NULL;
	log_event(LOG_DNS, LOG_ERROR, "resolver_failed", LOG_STR("reason", ares_strerror(rc)));
	return rc == ARES_ENOMEM ? -ENOMEM : -EIO;
}

ares_channel dns_channel_of(struct dns *d, enum dns_kind kind)
{
	struct dns_channel *c = &d->channel[kind];

	if (!c->channel && !d->stopped)
		(void)open_channel(c);
	return c->channel;
}

int dns_new(const struct resolver_options *o, struct dns **ret)
{
	struct dns *d;
	int rc;

	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -EIO;
	d = calloc(1, sizeof(*d));
	if (!d) {
		ares_library_cleanup();
		return -ENOMEM;
	}
	d->magic = DNS_MAGIC;
	d->engine = o->engine;
	d->timers = o->timers;
	d->timer.fn = on_timer;
	d->try_timeout_ms = o->try_timeout_ms ? (int)o->try_timeout_ms : TRY_TIMEOUT_MS;
	list_init(&d->socks);
	for (unsigned i = 0; i < DNS_KINDS; i++)
		d->channel[i] = (struct dns_channel){ .d = d, .kind = (enum dns_kind)i };
	d->servers = o->servers ? strdup(o->servers) : NULL;
	rc = o->servers && !d->servers ? -ENOMEM : open_channel(&d->channel[DNS_ABSOLUTE]);
	if (rc < 0) {
		dns_free(d);
		return rc;
	}
	*ret = d;
	return 0;
}

void dns_stop(struct dns *d)
{
	OBJ_CHECK(d, DNS_MAGIC);
	d->stopped = true;
	for (unsigned i = 0; i < DNS_KINDS; i++) {
		if (d->channel[i].channel)
			ares_destroy(d->channel[i].channel);
		d->channel[i].channel = NULL;
	}
	timer_clear(d->timers, &d->timer);
}

bool dns_idle(const struct dns *d)
{
	return d->n_asks == 0 && list_empty(&d->socks);
}

struct dns *dns_free(struct dns *d)
{
	if (!d)
		return NULL;
	if (!d->stopped)
		dns_stop(d);
	assert(dns_idle(d));
	d->magic = 0;
	free(d->servers);
	free(d);
	ares_library_cleanup();
	return NULL;
}
