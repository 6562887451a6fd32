#include "sidecar/upstream/pool.h"

#include <assert.h>
#include <stdio.h>

#include "sidecar/base/obj.h"
#include "sidecar/upstream/pool_private.h"

enum {
	CHOICES_MAX = 8
}; /* ready connections looked at for one to an address the call has not been to */

/* Begin a message.  NULL: a slab is empty. */
static struct message *start(struct pool_wait *w, struct pool_conn *pc)
{
	bool reused = pc->c->served > 0;
	struct message *m = http_client_message(pc->c, w->ev, w->owner);

	if (!m)
		return NULL;
	w->reused = reused;
	w->endpoint = pc->endpoint;
	w->tried |= UINT32_C(1) << pc->endpoint;
	if (reused)
		upstream_count(pc->up, RHC_CTR_conn_reused);
	pool_conn_sync(pc);
	return m;
}

static bool fits(const struct pool_wait *w, const struct pool_conn *pc)
{
	if (w->raw != pc->raw || (w->h1 && pc->version == HTTP_2))
		return false;
	return pool_conn_usable(pc) && (!w->fresh || pc->c->served == 0);
}

static bool may_dial(const struct upstream *up)
{
	return up->pool.n_conns + up->pool.n_dials < up->policy->pool.max_connections;
}

/*
 * The connection used last, for its warm window and cache; of two to different addresses the one
 * whose address has less to do; for a retry one to an address the call has not been to.
 */
static struct pool_conn *choose(struct upstream *up, const struct pool_wait *w)
{
	struct pool_conn *best = NULL, *been = NULL;
	unsigned looked = 0;

	LIST_FOREACH(n, &up->pool.avail)
	{
		struct pool_conn *pc = LIST_ENTRY(n, struct pool_conn, avail);
		const struct endpoint *row = up->endpoints.row;

		if (!fits(w, pc))
			continue;
		if (w->tried >> pc->endpoint & 1) {
			been = been ? been : pc;
		} else if (best) {
			if (pc->endpoint != best->endpoint &&
			    row[pc->endpoint].in_flight < row[best->endpoint].in_flight)
				best = pc;
			break;
		} else {
			best = pc;
			if (up->endpoints.n <= 1)
				break;
		}
		if (++looked >= CHOICES_MAX)
			break;
	}
	if (best || !been)
		return best;
	/* Another address is worth a connect, if there is one. */
	return endpoints_left(&up->endpoints, w->tried) > 0 && may_dial(up) ? NULL : been;
}

static void clear_result(struct pool_wait *w)
{
	w->error = RHC_ERR_none;
	w->dns = RESOLVER_OK;
	w->permanent = w->reused = false;
	w->endpoint = ENDPOINT_NONE;
	w->pool_ns = w->dns_ns = w->connect_ns = w->tls_ns = 0;
	w->text[0] = '\0';
}

static void on_wait_timer(struct timer *t);

static void set_wait_timer(struct pool_wait *w, uint64_t due_ns)
{
	struct timer_wheel *wheel = w->up->all->env.timers;

	if (w->deadline_ns && (due_ns == 0 || w->deadline_ns < due_ns))
		due_ns = w->deadline_ns;
	if (due_ns)
		timer_set(wheel, &w->timer, due_ns);
	else
		timer_disarm(&w->timer);
}

static void stand_on(struct pool_wait *w, struct pool_dial *d)
{
	w->dial = d;
	w->dial_ns = upstream_now(w->up);
	d->sharers++;
	set_wait_timer(w, 0); /* from here on timeout.connect bounds it */
}

/* An h2 connect that has just begun carries others as well. */
static struct pool_dial *shared_dial(struct upstream *up, const struct pool_wait *w)
{
	uint32_t room = pool_room(up);
	uint64_t young = up->policy->timeout.connect_ns / 4, now = upstream_now(up);

	if (room <= 1 || w->h1 || w->raw)
		return NULL;
	LIST_FOREACH(n, &up->pool.dials)
	{
		struct pool_dial *d = LIST_ENTRY(n, struct pool_dial, node);

		if (d->state <= DIAL_CONNECTING && !d->h1 && !d->raw && d->sharers < room &&
		    now < d->begun_ns + young)
			return d;
	}
	return NULL;
}

/* Full, and who waits first may not use what is idle: make room. */
static void evict_for(struct upstream *up, const struct pool_wait *w)
{
	struct list_node *n = list_last(&up->pool.avail);
	struct pool_conn *oldest = n ? LIST_ENTRY(n, struct pool_conn, avail) : NULL;

	if (oldest && !oldest->active && (w->fresh || !fits(w, oldest)))
		pool_conn_retire(oldest);
}

/* Connects for those who have none, as far as the limit goes. */
static void dial_for_waits(struct upstream *up)
{
	LIST_FOREACH(n, &up->pool.waits)
	{
		struct pool_wait *w = LIST_ENTRY(n, struct pool_wait, node);
		struct pool_dial *d;

		if (w->dial)
			continue;
		d = shared_dial(up, w);
		if (!d && !may_dial(up))
			evict_for(up, w);
		if (!d && may_dial(up))
			d = dial_new(up, w);
		if (!d)
			return;
		stand_on(w, d);
	}
}

static void queue(struct upstream *up, struct pool_wait *w)
{
	struct pool *p = &up->pool;

	w->timer.fn = on_wait_timer;
	set_wait_timer(w, w->since_ns + up->policy->timeout.pool_ns);
	list_push_back(&p->waits, &w->node);
	p->n_waits++;
	dial_for_waits(up);
	/*
	 * There may be room that only the turn's work may give away: somebody was waiting before.
	 */
	if (!list_empty(&p->avail))
		pool_work_later(up);
}

struct message *pool_take(struct upstream *up, struct pool_wait *w)
{
	struct pool_conn *pc;
	struct message *m;

	assert(!list_linked(&w->node) && w->done != NULL);
	w->up = up;
	w->dial = NULL;
	w->since_ns = upstream_now(up);
	clear_result(w);
	pc = up->pool.n_waits == 0 ? choose(up, w) : NULL;
	m = pc ? start(w, pc) : NULL;
	if (!m)
		queue(up, w);
	else
		w->up = NULL;
	return m;
}

/* ---- the end of a wait ---- */

static void unqueue(struct pool_wait *w)
{
	struct upstream *up = w->up;

	list_remove(&w->node);
	up->pool.n_waits--;
	timer_clear(up->all->env.timers, &w->timer);
	w->pool_ns = (w->dial ? w->dial_ns : upstream_now(up)) - w->since_ns;
	if (w->dial)
		w->dial->sharers--;
	w->dial = NULL;
	w->up = NULL;
}

void pool_cancel(struct pool_wait *w)
{
	if (w->up)
		unqueue(w);
}

static void refuse(struct pool_wait *w, enum rhc_error error)
{
	w->error = error;
	unqueue(w);
	w->done(w, NULL);
}

static void on_wait_timer(struct timer *t)
{
	struct pool_wait *w = CONTAINER_OF(t, struct pool_wait, timer);
	struct upstream *up = w->up;

	if (w->deadline_ns && clock_ns() >= w->deadline_ns) {
		snprintf(w->text, sizeof(w->text), "%s",
			 "no time left while waiting for a connection");
		refuse(w, RHC_ERR_deadline_total);
		return;
	}
	upstream_count(up, RHC_CTR_pool_timeout);
	snprintf(w->text, sizeof(w->text), "%u connections, none of them free, %u waiting",
		 up->pool.n_conns, up->pool.n_waits);
	refuse(w, RHC_ERR_pool_timeout);
}

/* Give w a message on pc.  False: there is no memory for one, which w has been told. */
static void serve(struct pool_wait *w, struct pool_conn *pc)
{
	struct message *m = start(w, pc);

	if (!m) {
		snprintf(w->text, sizeof(w->text), "%s", "out of memory for messages");
		refuse(w, RHC_ERR_overloaded);
		return;
	}
	unqueue(w);
	w->done(w, m);
}

static void take_times(struct pool_wait *w, const struct pool_dial *d)
{
	w->dns_ns = d->dns_ns;
	w->connect_ns = d->connect_ns;
	w->tls_ns = d->tls_ns;
}

/* The first wait that stands on d. */
static struct pool_wait *sharer(struct upstream *up, const struct pool_dial *d)
{
	if (d->sharers == 0)
		return NULL;
	LIST_FOREACH(n, &up->pool.waits)
	{
		struct pool_wait *w = LIST_ENTRY(n, struct pool_wait, node);

		if (w->dial == d)
			return w;
	}
	return NULL;
}

static void tell_failure(struct upstream *up, struct pool_dial *d)
{
	struct pool_wait *w;

	while ((w = sharer(up, d)) != NULL) {
		w->dns = d->dns_error;
		w->permanent = d->permanent;
		w->endpoint = d->endpoint;
		if (d->endpoint != ENDPOINT_NONE)
			w->tried |= d->tried;
		take_times(w, d);
		snprintf(w->text, sizeof(w->text), "%s", d->text);
		refuse(w, d->error);
	}
}

/*
 * It was dialled for them, so they come first; whoever finds no room waits on, for something else.
 */
static void serve_sharers(struct upstream *up, struct pool_dial *d, struct pool_conn *pc)
{
	struct pool_wait *w;

	while (pool_conn_usable(pc) && (w = sharer(up, d)) != NULL) {
		take_times(w, d);
		serve(w, pc);
	}
	while ((w = sharer(up, d)) != NULL) {
		w->dial = NULL;
		d->sharers--;
		/*
		 * Both budgets from the beginning: whatever happens to how many dials, this is the
		 * end.
		 */
		set_wait_timer(w, w->since_ns + up->policy->timeout.pool_ns +
					  up->policy->timeout.connect_ns);
	}
}

static void finish_dials(struct upstream *up)
{
	bool found = true;

	/*
	 * A caller that is told may begin another dial, or end all of them: begin anew each time.
	 */
	while (found) {
		found = false;
		LIST_FOREACH(n, &up->pool.dials)
		{
			struct pool_dial *d = LIST_ENTRY(n, struct pool_dial, node);
			struct pool_conn *pc = d->conn;

			if (d->state < DIAL_READY)
				continue;
			found = true;
			d->conn = NULL;
			if (d->state == DIAL_FAILED) {
				tell_failure(up, d);
			} else {
				pool_conn_ready(pc);
				serve_sharers(up, d, pc);
			}
			dial_free(d);
			break;
		}
	}
}

/* Room on old connections, first come first served. */
static void serve_waits(struct upstream *up)
{
	LIST_FOREACH_SAFE(n, &up->pool.waits)
	{
		struct pool_wait *w = LIST_ENTRY(n, struct pool_wait, node);
		struct pool_conn *pc;

		if (list_empty(&up->pool.avail))
			return;
		pc = choose(up, w);
		if (!pc)
			continue;
		serve(w, pc);
		/* done() may have changed the list in any way. */
		pool_work_later(up);
		return;
	}
}

/* At the end of a turn in which something changed. */
void pool_work(void *arg)
{
	struct upstream *up = arg;

	finish_dials(up);
	serve_waits(up);
	dial_for_waits(up);
	if (up->pool.n_waits == 0)
		pool_trim(up);
}
