/*
 * sidecar/http/h2_timer.c - deadlines of an HTTP/2 connection, all on the one timer of the
 * connection.
 *
 * idle    no message for so long: the end, in order.
 * head    server: a header block, or the preface, that does not become complete.
 * ping    client with messages: nothing came for so long, so ask; no answer: the peer is dead.  An
 * idle connection is not
 *         asked (servers count that as abuse), but at the first message after a long silence.
 * drain   server: the round trip between the two GOAWAYs.
 * The deadlines are computed from when things happened, and the timer is lazy: a change costs a few
 * compares.
 */
#include "sidecar/http/h2_private.h"


static uint64_t after(uint64_t since_ns, uint64_t delay_ns)
{
	return since_ns == 0 || delay_ns == 0 ? UINT64_MAX : since_ns + delay_ns;
}

static uint64_t idle_due(const struct h2_conn *hc)
{
	const struct http_conn *c = hc->c;

	if (c->active > 0)
		return UINT64_MAX;
	/* what was released may still be leaving: as long as the peer reads on, it is not idle */
	if (hc->n_msgs > 0 && hc->rx_ns > c->idle_since_ns)
		return after(hc->rx_ns, c->limits->idle_timeout_ns);
	return after(c->idle_since_ns, c->limits->idle_timeout_ns);
}

static uint64_t head_due(const struct h2_conn *hc)
{
	return after(hc->head_ns, hc->c->limits->header_timeout_ns);
}

static bool pings(const struct h2_conn *hc)
{
	return hc->c->role == HTTP_CLIENT && hc->c->limits->ping_interval_ns > 0;
}

static uint64_t ping_due(const struct h2_conn *hc)
{
	if (!pings(hc) || hc->ping_ns > 0 || hc->c->active == 0)
		return UINT64_MAX;
	return after(hc->rx_ns, hc->c->limits->ping_interval_ns);
}

/* Whatever came after the PING shows that the peer lives. */
static uint64_t pong_due(const struct h2_conn *hc)
{
	uint64_t since = hc->rx_ns > hc->ping_ns ? hc->rx_ns : hc->ping_ns;

	if (!pings(hc) || hc->ping_ns == 0)
		return UINT64_MAX;
	return after(since, hc->c->limits->ping_timeout_ns);
}

static uint64_t drain_due(const struct h2_conn *hc)
{
	return hc->drain_ns > 0 ? hc->drain_ns : UINT64_MAX;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void h2_timer_set(struct h2_conn *hc)
{
	struct http_conn *c = hc->c;
	uint64_t          due;

	if (c->closing || hc->dead)
		return; /* the timer bounds the close */
	due = earlier(earlier(idle_due(hc), head_due(hc)), earlier(ping_due(hc), pong_due(hc)));
	due = earlier(due, drain_due(hc));
	if (due == UINT64_MAX)
		timer_disarm(&c->timer);
	else if (c->timer.due_ns != due)
		timer_set(c->env->timers, &c->timer, due);
}

static void ping(struct h2_conn *hc, uint64_t now)
{
	hc->ping_ns = now;
	h2_ping(&hc->h2, now);
	h2_conn_kick(hc);
}

void h2_conn_timeout(struct http_conn *c)
{
	struct h2_conn *hc = c->h2;
	uint64_t        now;

	OBJ_CHECK(hc, H2_CONN_MAGIC);
	now = h2_now(hc);
	if (hc->lingering) {
		h2_conn_linger_due(hc);
		return;
	}
	if (c->closing) { /* what is queued does not leave */
		stream_abort(&c->stream);
		return;
	}
	if (hc->dead)
		return;
	if (now >= pong_due(hc)) {
		h2_conn_fail(hc, MESSAGE_E_TIMEOUT);
		http_conn_reset(c, "no answer to a PING");
		return;
	}
	if (now >= head_due(hc)) {
		h2_conn_close(hc, MESSAGE_E_TIMEOUT, "header timeout");
		return;
	}
	if (now >= idle_due(hc)) {
		h2_conn_close(hc, MESSAGE_E_RESET, "idle timeout");
		return;
	}
	if (now >= drain_due(hc))
		h2_conn_goodbye(hc);
	if (now >= ping_due(hc))
		ping(hc, now);
	h2_timer_set(hc);
}
