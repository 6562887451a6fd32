/*
 * tests/sidecar/http/h1_rig.h - an h1 connection on one side, a scripted socket on the other.
 *
 * EACH_ENGINE runs its block on every engine of engines.h.  What the message tells is written down as text in app.log ("head GET / end, sent all, ..."), so that a test
 * compares sentences.  Every loop is bounded; at the end every buffer, slab object and descriptor
 * has to be back.
 */
#ifndef RHC_TESTS_SIDECAR_HTTP_H1_RIG_H
#define RHC_TESTS_SIDECAR_HTTP_H1_RIG_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sidecar/base/obj.h"
#include "sidecar/http/env.h"
#include "sidecar/http/h1_conn.h"
#include "../io/engines.h"

#define RIG __attribute__((unused)) static

enum { RIG_TURNS = 20000, RIG_BUFS = 64, RIG_TINY = 24, RIG_TEXT = 1 << 16 };

struct rig;

/* What the exchange would be. */
struct app {
	struct message *m;
	char            log[RIG_TEXT];
	size_t          n_log;
	char            path[256];
	bool            keep; /* do not consume and do not release by oneself */
	bool            no_release; /* not even when everything is done */
	bool            refuse; /* leave m->ev NULL */
	uint64_t        received, sent;
	bool            wrong;
	unsigned        errors;
	bool            unprocessed;
	enum message_error error;
	void (*on_head)(struct rig *r, struct message *m, struct http_head *h, bool end);
	void (*on_end)(struct rig *r, struct message *m);
	void (*on_sent)(struct rig *r, struct message *m, bool all);
	void (*on_body)(struct rig *r, struct message *m, struct slice s);
};

struct rig {
	struct engine     *engine;
	struct buf_pool    bufs;
	struct timer_wheel timers;
	struct http_env    env;
	struct http_slabs  slabs;
	struct http_limits limits;
	struct http_conn  *c;
	struct app         app;
	int                peer, listener, fds;
	int                ready, closed, refused, capacity, draining;
	enum http_error    refused_error;
	enum stream_error  closed_err;
	char               closed_text[200];
	char               got[RIG_TEXT]; /* what the peer read */
	size_t             n_got;
	bool               got_eof, got_reset;
};

static struct rig *the_rig; /* one per process: Criterion forks for each test */

RIG __attribute__((format(printf, 1, 2))) void note(const char *format, ...)
{
	struct app *a = &the_rig->app;
	va_list     ap;

	va_start(ap, format);
	if (a->n_log > 0)
		a->n_log += (size_t)snprintf(a->log + a->n_log, RIG_TEXT - a->n_log, ", ");
	a->n_log += (size_t)vsnprintf(a->log + a->n_log, RIG_TEXT - a->n_log, format, ap);
	va_end(ap);
	cr_assert_lt(a->n_log, RIG_TEXT);
}

RIG uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 31 + i / 253 + (i >> 16));
}

RIG int open_fds(void)
{
	int  n = 0;
	DIR *d = opendir("/proc/self/fd");

	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
		n++;
	closedir(d);
	return n;
}

/* --- the message --- */

static void maybe_release(struct message *m)
{
	struct app *a = &the_rig->app;

	if (a->keep || a->no_release || a->m != m)
		return;
	a->m = NULL;
	message_release(m);
}

static void app_on_head(struct message *m, struct http_head *h, bool end)
{
	struct app *a = &the_rig->app;

	snprintf(a->path, sizeof(a->path), "%.*s", (int)h->path.n, h->path.p);
	if (h->status == 0)
		note("head %.*s %s%s%s", (int)h->method_text.n, h->method_text.p, a->path,
		     end ? " end" : "", m->reused ? " reused" : "");
	else
		note("head %u%s%s", h->status, h->body == HTTP_BODY_TUNNEL ? " tunnel" : "",
		     end ? " end" : "");
	if (a->on_head != NULL)
		a->on_head(the_rig, m, h, end);
	else if (h->status >= 200 && end)
		maybe_release(m);
}

static void app_on_body(struct message *m, struct slice s)
{
	struct app *a = &the_rig->app;
	uint32_t    n = s.n;

	if (a->on_body != NULL) {
		a->on_body(the_rig, m, s);
		return;
	}
	cr_assert_gt(n, 0);
	for (uint32_t i = 0; i < n; i++)
		a->wrong |= s.p[i] != pattern(a->received + i);
	a->received += n;
	slice_drop(s);
	if (!a->keep)
		message_consume(m, n);
}

static void app_on_end(struct message *m, struct http_head *trailers)
{
	struct app *a = &the_rig->app;

	note("end");
	for (unsigned i = 0; trailers != NULL && i < trailers->n_fields; i++)
		note("trailer %.*s=%.*s", (int)trailers->fields[i].name_len, trailers->fields[i].name,
		     (int)trailers->fields[i].value_len, trailers->fields[i].value);
	if (a->on_end != NULL)
		a->on_end(the_rig, m);
	else if (m->conn->role == HTTP_CLIENT)
		maybe_release(m);
}

static void app_on_sent(struct message *m, uint32_t n, bool all)
{
	struct app *a = &the_rig->app;

	a->sent += n;
	if (all)
		note("sent all");
	if (a->on_sent != NULL)
		a->on_sent(the_rig, m, all);
	else if (all && m->conn->role == HTTP_SERVER)
		maybe_release(m);
}

static void app_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct app *a = &the_rig->app;

	note("error: %s%s", message_error_text(err), unprocessed ? " unprocessed" : "");
	a->errors++;
	a->error = err;
	a->unprocessed = unprocessed;
	if (a->m == m && !a->no_release) {
		a->m = NULL;
		message_release(m);
	}
}

static const struct message_events app_events = { app_on_head, app_on_body, app_on_end, app_on_sent,
	                                          app_on_error };

/* --- the keeper --- */

static void rig_on_ready(struct http_conn *c)
{
	(void)c;
	the_rig->ready++;
}

static void rig_on_capacity(struct http_conn *c)
{
	(void)c;
	the_rig->capacity++;
}

static void rig_on_draining(struct http_conn *c)
{
	(void)c;
	the_rig->draining++;
}

static void rig_on_message(struct http_conn *c, struct message *m)
{
	(void)c;
	cr_assert_null(the_rig->app.m, "one message at a time");
	if (the_rig->app.refuse)
		return;
	m->ev = &app_events;
	m->owner = the_rig;
	the_rig->app.m = m;
}

static void rig_on_refused(struct http_conn *c, uint16_t status, enum http_error e)
{
	(void)c;
	the_rig->refused = status;
	the_rig->refused_error = e;
}

static void rig_on_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	cr_assert_eq(c, the_rig->c);
	the_rig->closed++;
	the_rig->closed_err = err;
	snprintf(the_rig->closed_text, sizeof(the_rig->closed_text), "%s", text);
	the_rig->c = NULL;
}

static const struct http_conn_events rig_events = {
	.on_ready = rig_on_ready,
	.on_capacity = rig_on_capacity,
	.on_draining = rig_on_draining,
	.on_message = rig_on_message,
	.on_refused = rig_on_refused,
	.on_closed = rig_on_closed,
};

/* --- the rig --- */

/* NULL: this engine is not allowed here. */
RIG struct rig *rig_new(const struct engine_mode *mode)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->fds = open_fds();
	cr_assert_eq(buf_pool_init(&r->bufs, mode->tiny ? RIG_TINY : RIG_BUFS, mode->tiny ? RIG_TINY : RIG_BUFS), 0);
	r->engine = engine_in_mode(mode, (struct engine_conf){ .bufs = &r->bufs });
	if (r->engine == NULL) {
		buf_pool_fini(&r->bufs);
		free(r);
		return NULL;
	}
	timer_wheel_init(&r->timers, clock_ns());
	cr_assert_eq(http_env_init(&r->env, &r->slabs,
	                           &(struct http_sizes){ .conns = 4, .tls = 2, .messages = 4 }, r->engine,
	                           &r->bufs, &r->timers), 0);
	r->limits = (struct http_limits){ .head_max = 32768, .target_max = 8000, .streams_max = 1,
		                          .header_timeout_ns = 10 * NS_PER_S,
		                          .idle_timeout_ns = 10 * NS_PER_S };
	r->peer = r->listener = -1;
	the_rig = r;
	return r;
}

RIG void rig_turn(struct rig *r)
{
	cr_assert(engine_turn(r->engine, clock_ns() + NS_PER_MS) >= 0);
	timer_wheel_run(&r->timers, clock_ns());
}

RIG void rig_turns(struct rig *r, int n)
{
	while (n-- > 0)
		rig_turn(r);
}

#define RIG_UNTIL(r, cond)                                                                         \
	do {                                                                                       \
		int turns_ = 0;                                                                    \
		while (!(cond) && turns_++ < RIG_TURNS) {                                          \
			rig_turn(r);                                                               \
			peer_read(r);                                                              \
		}                                                                                  \
		cr_assert(cond, "never: %s; log: %s; got: %s", #cond, (r)->app.log, (r)->got);     \
	} while (0)

/* --- the peer --- */

RIG void peer_read(struct rig *r)
{
	ssize_t n;

	if (r->peer < 0 || r->got_eof || r->got_reset || r->n_got + 1 >= RIG_TEXT)
		return;
	n = recv(r->peer, r->got + r->n_got, RIG_TEXT - 1 - r->n_got, 0);
	if (n == 0)
		r->got_eof = true;
	else if (n < 0 && errno != EAGAIN)
		r->got_reset = true;
	r->n_got += n > 0 ? (size_t)n : 0;
	r->got[r->n_got] = 0;
}

RIG void peer_send(struct rig *r, const void *p, size_t n)
{
	cr_assert_eq(send(r->peer, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

RIG void peer_says(struct rig *r, const char *text)
{
	peer_send(r, text, strlen(text));
}

/* Byte by byte, each in a turn of its own. */
RIG void peer_says_slowly(struct rig *r, const char *text)
{
	for (; *text != 0; text++) {
		peer_send(r, text, 1);
		rig_turn(r);
	}
}

RIG void peer_reset(struct rig *r)
{
	struct linger now = { 1, 0 };

	setsockopt(r->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(r->peer);
	r->peer = -1;
}

RIG bool peer_got(struct rig *r, const char *text)
{
	return strstr(r->got, text) != NULL;
}

RIG void peer_forget(struct rig *r)
{
	r->n_got = 0;
	r->got[0] = 0;
}

#define LOG_IS(r, text) cr_assert_str_eq((r)->app.log, text)
#define UNTIL_LOG(r, text) RIG_UNTIL(r, strcmp((r)->app.log, text) == 0)

/* --- the two roles --- */

RIG struct sockaddr_in rig_listen(struct rig *r)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t          len = sizeof(at);

	r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(r->listener, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(listen(r->listener, 16), 0);
	cr_assert_eq(getsockname(r->listener, (struct sockaddr *)&at, &len), 0);
	return at;
}

RIG void nonblocking(int fd)
{
	cr_assert_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* c serves, the peer is a client. */
RIG void rig_serve(struct rig *r)
{
	struct sockaddr_in at = rig_listen(r);
	int                fd;

	r->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(r->peer, (struct sockaddr *)&at, sizeof(at)), 0);
	setsockopt(r->peer, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert(fd >= 0);
	nonblocking(r->peer);
	if (strcmp(engine_name(r->engine), "epoll") == 0)
		nonblocking(fd);
	cr_assert_eq(http_server_open(&r->env, fd, &r->limits, &rig_events, r, &r->c), 0);
}

/* c is a client, the peer serves. */
RIG void rig_connect(struct rig *r)
{
	struct sockaddr_in         at = rig_listen(r);
	struct http_client_options o = { .addr = (struct sockaddr *)&at, .addr_len = sizeof(at),
		                         .limits = &r->limits, .ev = &rig_events, .owner = r };

	cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
	RIG_UNTIL(r, r->ready == 1);
	r->peer = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(r->peer >= 0);
	setsockopt(r->peer, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

/* Close what is left and see that everything came back: buffers, slabs, descriptors. */
RIG void rig_free(struct rig *r)
{
	if (r->app.m != NULL) {
		struct message *m = r->app.m;

		r->app.m = NULL;
		message_release(m);
	}
	if (r->c != NULL)
		http_conn_abort(r->c);
	if (r->closed == 0 && r->c != NULL)
		RIG_UNTIL(r, r->closed == 1);
	cr_expect_leq(r->closed, 1);
	cr_expect_not(r->app.wrong);
	cr_expect_eq(engine_in_flight(r->engine), 0);
	if (r->peer >= 0)
		close(r->peer);
	if (r->listener >= 0)
		close(r->listener);
	engine_mode_end(r->engine);
	http_env_fini(&r->env, &r->slabs);
	buf_pool_fini(&r->bufs);
	cr_expect_eq(open_fds(), r->fds, "a descriptor leaked");
	free(r);
	the_rig = NULL;
}

#define EACH_ENGINE_OF(r, next)                                                                    \
	for (struct engine_mode mode_ = { 0 }; next(&mode_);)                                      \
		for (struct rig *r = rig_new(&mode_); r != NULL; rig_free(r), r = NULL)
#define EACH_ENGINE(r) EACH_ENGINE_OF(r, engine_mode_next)
/* Where turns or buffers are counted. */
#define EACH_CALM_ENGINE(r) EACH_ENGINE_OF(r, engine_mode_next_calm)

/* --- sending --- */

RIG int send_request(struct rig *r, const char *method, const char *path, enum http_body body,
                     uint64_t len)
{
	struct http_head h = { .method_text = { method, (uint32_t)strlen(method) },
		               .method = (uint8_t)http_method_lookup(method, strlen(method)),
		               .authority = HTTP_STR("up"), .path = { path, (uint32_t)strlen(path) },
		               .keep_alive = true, .body = (uint8_t)body, .body_len = len };

	if (h.method == HTTP_METHOD_CONNECT)
		h.target = HTTP_TARGET_AUTHORITY;
	r->app.m = http_client_message(r->c, &app_events, r);
	cr_assert_not_null(r->app.m);
	return message_send_head(r->app.m, &h, body == HTTP_BODY_NONE || (body == HTTP_BODY_LENGTH && len == 0));
}

RIG struct http_head response_head(uint16_t status, enum http_body body, uint64_t len)
{
	return (struct http_head){ .status = status, .keep_alive = true, .body = (uint8_t)body,
		                   .body_len = len };
}

/* A response with that text as its body. */
RIG void respond(struct message *m, uint16_t status, const char *text)
{
	uint32_t         n = (uint32_t)strlen(text);
	struct http_head h = response_head(status, HTTP_BODY_LENGTH, n);

	cr_assert_eq(message_send_head(m, &h, n == 0), 0);
	if (n == 0)
		return;
	message_send_body(m, (struct slice){ NULL, (const uint8_t *)text, n });
	message_send_end(m, NULL);
}

#endif
