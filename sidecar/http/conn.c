/*
 * sidecar/http/conn.c - the life of a connection, whatever it speaks.
 *
 * Which version it is, is known from the configuration and ALPN on the client side, and from the
 * first bytes on the server side: an h2 client begins with a preface that no h1 request begins with
 * (RFC 9113 §3.4).  While the bytes agree with it they need not be kept: they are the preface.
 */
#include "sidecar/http/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "sidecar/base/obj.h"
#include "sidecar/http/h1_conn.h"
#include "sidecar/http/h2_conn.h"

enum { CONN_MAGIC = 0x434f4e4e };
/* How long a connection that was never used is kept while draining: an accept and a request may cross. */
#define CONN_FIRST_REQUEST_NS (UINT64_C(500) * NS_PER_MS)

static const uint8_t preface[24] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static struct http_conn *conn_of(struct stream *s)
{
	struct http_conn *c = s->owner;

	OBJ_CHECK(c, CONN_MAGIC);
	return c;
}

static bool is_h2(const struct http_conn *c)
{
	return c->version == HTTP_2;
}

/* --- ends --- */

static void closing(struct http_conn *c, const char *why)
{
	c->closing = true;
	if (c->why == NULL)
		c->why = why;
	if (!is_h2(c))
		h1_conn_dead(c);
	timer_set_in(c->env->timers, &c->timer, HTTP_CLOSE_NS);
}

void http_conn_close(struct http_conn *c, const char *why)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->closing || c->gone)
		return;
	closing(c, why);
	stream_close(&c->stream);
}

void http_conn_reset(struct http_conn *c, const char *why)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->gone)
		return;
	closing(c, why);
	stream_abort(&c->stream);
}

void http_conn_finish(struct http_conn *c)
{
	char        text[160];
	const char *why = c->why;

	OBJ_CHECK(c, CONN_MAGIC);
	assert(c->gone);
	if (c->err != STREAM_OK)
		why = stream_failure(&c->stream, text, sizeof(text));
	c->ev->on_closed(c, (enum stream_error)c->err, why != NULL ? why : "closed");
	timer_clear(c->env->timers, &c->timer);
	OBJ_FINI(c, CONN_MAGIC);
	slab_put(c->env->conn_slab, c);
}

/* --- which version --- */

static void became_ready(struct http_conn *c)
{
	c->ready = true;
	c->ready_ns = engine_now(c->env->stream.engine);
	c->idle_since_ns = c->ready_ns;
}

static bool begin_h2(struct http_conn *c)
{
	if (h2_conn_start(c) < 0) {
		http_conn_close(c, "no memory for HTTP/2");
		return false;
	}
	assert(c->version == HTTP_2);
	return true;
}

/*
 * The first bytes of a client.  true: the version is known, and *s is what is to be read by it
 * (what was seen of the preface before is given to it here).
 */
static bool sniff(struct http_conn *c, struct slice *s)
{
	uint32_t seen = c->preface, left = sizeof(preface) - seen;
	uint32_t n = s->n < left ? s->n : left;
	bool     agrees = memcmp(s->p, preface + seen, n) == 0;

	if (agrees && n < left) {
		if (seen == 0)
			timer_set_in(c->env->timers, &c->timer, c->limits->header_timeout_ns);
		c->preface = (uint8_t)(seen + n);
		slice_drop(*s);
		return false;
	}
	if (agrees && !begin_h2(c)) {
		slice_drop(*s);
		return false;
	}
	if (!agrees)
		h1_conn_start(c);
	if (c->ev->on_ready != NULL)
		c->ev->on_ready(c);
	if (agrees && c->draining)
		h2_conn_drain(c);
	if (seen == 0)
		return true;
	if (is_h2(c)) {
		h2_conn_data(c, (struct slice){ NULL, preface, sizeof(preface) });
		s->p += n;
		s->n -= n;
	} else {
		h1_conn_data(c, (struct slice){ NULL, preface, seen });
	}
	return true;
}

/* --- events of the stream --- */

static void on_open(struct stream *s, enum stream_error err)
{
	struct http_conn *c = conn_of(s);
	bool              h2;

	if (err != STREAM_OK) {
		c->err = (uint8_t)err;
		http_conn_close(c, NULL);
		return;
	}
	h2 = c->mode == HTTP_CLIENT_H2_PRIOR ||
	     (c->mode == HTTP_CLIENT_AUTO && strcmp(stream_alpn(s), "h2") == 0);
	if (h2 && !begin_h2(c))
		return;
	if (!h2) {
		stream_want(s, true, false);
		h1_conn_start(c);
		c->capacity = 1;
	}
	became_ready(c);
	if (!h2)
		timer_set_in(c->env->timers, &c->timer, c->limits->idle_timeout_ns);
	c->ev->on_ready(c);
}

static void on_data(struct stream *s, struct slice data)
{
	struct http_conn *c = conn_of(s);

	if (c->version == 0 && !c->closing && !sniff(c, &data))
		return;
	if (data.n == 0 || (c->closing && !is_h2(c)))
		slice_drop(data);
	else if (is_h2(c))
		h2_conn_data(c, data);
	else
		h1_conn_data(c, data);
}

static void on_eof(struct stream *s, enum stream_error err)
{
	struct http_conn *c = conn_of(s);

	if (c->err == STREAM_OK)
		c->err = (uint8_t)err;
	if (is_h2(c))
		h2_conn_eof(c, err);
	else if (c->closing)
		return;
	else if (c->version == 0)
		http_conn_close(c, "closed by the peer");
	else
		h1_conn_eof(c, err);
}

static void on_sent(struct stream *s, uint32_t n)
{
	struct http_conn *c = conn_of(s);

	if (is_h2(c))
		h2_conn_sent(c, n);
	else
		h1_conn_sent(c);
}

static void on_closed(struct stream *s)
{
	struct http_conn *c = conn_of(s);

	c->closing = true;
	c->gone = true;
	timer_disarm(&c->timer);
	if (!is_h2(c)) {
		h1_conn_gone(c);
		return;
	}
	if (c->why == NULL)
		c->why = h2_conn_failure(c);
	h2_conn_free(c); /* http_conn_finish() follows, now or with the last release */
}

static const struct stream_events events = { on_open, on_data, on_eof, on_sent, on_closed };

static void on_timer(struct timer *t)
{
	struct http_conn *c = CONTAINER_OF(t, struct http_conn, timer);

	OBJ_CHECK(c, CONN_MAGIC);
	if (c->gone)
		return;
	if (is_h2(c))
		h2_conn_timeout(c);
	else if (c->closing)
		stream_abort(&c->stream); /* what is queued does not leave */
	else if (c->version == 0)
		http_conn_close(c, "idle timeout");
	else
		h1_conn_timeout(c);
}

/* --- from outside --- */

static struct http_conn *conn_new(struct http_env *env, enum http_role role,
                                  const struct http_limits *limits,
                                  const struct http_conn_events *ev, void *owner)
{
	struct http_conn *c = slab_get(env->conn_slab);

	if (c == NULL)
		return NULL;
	OBJ_INIT(c, CONN_MAGIC);
	c->role = (uint8_t)role;
	c->ev = ev;
	c->owner = owner;
	c->env = env;
	c->limits = limits;
	c->opened_ns = engine_now(env->stream.engine);
	c->timer.fn = on_timer;
	stream_init(&c->stream, &env->stream, &events, c);
	return c;
}

/* What the kernel refuses only makes death show later. */
static void tune(const struct http_conn *c, const struct sock_opts *opts)
{
	static const struct sock_opts least = { .nodelay = true };

	(void)sock_tune(c->stream.fd, opts ? opts : &least);
}

int http_client_open(struct http_env *env, const struct http_client_options *o,
                     struct http_conn **ret)
{
	struct http_conn *c = conn_new(env, HTTP_CLIENT, o->limits, o->ev, o->owner);
	int               rc;

	if (c == NULL)
		return -ENOBUFS;
	c->mode = (uint8_t)o->mode;
	rc = stream_connect(&c->stream, o->addr, o->addr_len, o->tls, o->server_name);
	if (rc < 0) {
		OBJ_FINI(c, CONN_MAGIC);
		slab_put(env->conn_slab, c);
		return rc;
	}
	tune(c, o->sock);
	*ret = c;
	return 0;
}

struct message *http_client_message(struct http_conn *c, const struct message_events *ev,
                                    void *owner)
{
	OBJ_CHECK(c, CONN_MAGIC);
	assert(c->role == HTTP_CLIENT && c->ready && c->active < c->capacity);
	return is_h2(c) ? h2_conn_message(c, ev, owner) : h1_conn_message(c, ev, owner);
}

int http_server_open(struct http_env *env, int fd, const struct http_limits *limits,
                     const struct http_conn_events *ev, void *owner, struct http_conn **ret)
{
	struct http_conn *c = conn_new(env, HTTP_SERVER, limits, ev, owner);

	if (c == NULL) {
		engine_close(env->stream.engine, fd);
		return -ENOBUFS;
	}
	stream_adopt(&c->stream, fd);
	stream_want(&c->stream, true, false);
	became_ready(c);
	timer_set_in(env->timers, &c->timer, limits->idle_timeout_ns);
	*ret = c;
	return 0;
}

bool http_conn_was_stale(const struct http_conn *c, const struct message *m)
{
	uint64_t within = 2 * (c->ready_ns - c->opened_ns) + HTTP_STALE_NS;

	if (!m->reused || m->in_started)
		return false;
	if (within > HTTP_STALE_MAX_NS)
		within = HTTP_STALE_MAX_NS;
	return engine_now(c->env->stream.engine) - m->left_ns <= within;
}

int http_conn_peer(const struct http_conn *c, struct sock_addr *ret)
{
	ret->len = sizeof(ret->un);
	return getpeername(c->stream.fd, &ret->any, &ret->len) == 0 ? 0 : -errno;
}

void http_conn_drain(struct http_conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->closing || c->draining)
		return;
	c->draining = true;
	if (is_h2(c))
		h2_conn_drain(c);
	else if (c->version == 0 && c->role == HTTP_SERVER) /* its first request may be on the way: it gets its answer */
		timer_set_in(c->env->timers, &c->timer, CONN_FIRST_REQUEST_NS);
	else
		h1_conn_drain(c);
}

void http_conn_abort(struct http_conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	if (c->gone)
		return;
	if (is_h2(c))
		h2_conn_abort(c);
	else
		http_conn_reset(c, "aborted");
}
