/*
 * tests/sidecar/http/h2_rig.h - an engine with both sides of HTTP/2 in it, and real peers as
 * children.
 *
 * EACH_ENGINE runs its block on every engine of engines.h.  The server end
 * answers by path ("/echo", "/size/N", "/hold", ...); struct ex is one message of either side with
 * what happened to it.  Bodies are a pattern, so every byte proves its place.  Every loop is
 * bounded; at the end every buffer, slab object and descriptor has to be back.
 */
#ifndef RHC_TESTS_SIDECAR_HTTP_H2_RIG_H
#define RHC_TESTS_SIDECAR_HTTP_H2_RIG_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/obj.h"
#include "sidecar/http/env.h"
#include "sidecar/http/h2_private.h"
#include "../io/engines.h"
#include "sidecar/io/sock.h"
#include "sidecar/io/tls.h"

#define RIG __attribute__((unused)) static

enum { RIG_SECONDS = 20, RIG_CONNS = 16, RIG_EX = 600, RIG_AHEAD = 64 * 1024 };

struct rig;

/* One message, as the exchange would hold it. */
struct ex {
	struct rig        *r;
	struct message    *m; /* NULL: released */
	char               path[128];
	uint16_t           status;
	uint32_t           heads, interims, ends, errors, trailers;
	enum message_error err;
	bool               unprocessed;
	bool               head_end;
	uint64_t           in, sent, held; /* held: delivered and not consumed */
	uint64_t           to_send, given;
	struct slice       kept[4096];
	uint32_t           n_kept;
	bool               keeps; /* holds what comes instead of consuming it */
	bool               echo, end_given, all, sends_trailers, no_release;
	bool               wrong;
};

struct rig {
	struct engine      *engine;
	struct buf_pool     bufs;
	struct timer_wheel  timers;
	struct http_env     env;
	struct http_slabs   slabs;
	struct http_limits  limits, server_limits;
	struct http_conn   *c; /* client */
	struct http_conn   *s[RIG_CONNS]; /* server ends, in order */
	uint32_t            n_s;
	int                 listener, port, fds;
	struct engine_op    accept_op;
	struct ex          *ex; /* client messages, in order */
	struct ex          *sx; /* server messages, in order */
	uint32_t            n_ex, n_sx;
	uint32_t            ready, closed, capacity, draining, s_closed, refused;
	uint16_t            refused_status;
	enum stream_error   closed_err;
	char                closed_text[200], s_closed_text[200];
	bool                nobody; /* the server takes no message */
	struct tls_policy  *policy;
	void (*on_head)(struct ex *x); /* server: more to do */
	void (*on_client_head)(struct ex *x);
	void (*on_draining)(struct rig *r);
	char                dir[64]; /* of files for children */
};

static struct rig *the_rig; /* Criterion forks for each test */

RIG uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 7 + (i >> 8) + (i >> 16));
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

/* --- messages --- */

static void ex_release(struct ex *x)
{
	struct message *m = x->m;

	x->m = NULL;
	for (uint32_t i = 0; i < x->n_kept; i++)
		slice_drop(x->kept[i]);
	x->n_kept = 0;
	message_release(m);
}

static void ex_feed(struct ex *x)
{
	while (x->m && !x->end_given && x->given < x->to_send && x->m->out_unsent < RIG_AHEAD) {
		struct buf *b = buf_get(&x->r->bufs, BUF_LARGE);
		uint64_t    left = x->to_send - x->given;
		uint32_t    n = left < BUF_LARGE_SIZE ? (uint32_t)left : BUF_LARGE_SIZE;

		if (!b)
			return;
		for (uint32_t i = 0; i < n; i++)
			b->data[i] = pattern(x->given + i);
		x->given += n;
		message_send_body(x->m, (struct slice){ b, b->data, n });
	}
	if (x->m && !x->end_given && !x->echo && x->given == x->to_send) {
		struct http_field f[1];
		struct http_head  t = { .fields = f, .fields_max = 1 };

		x->end_given = true;
		http_head_add(&t, HTTP_FIELD_OTHER, HTTP_STR("x-end"), HTTP_STR("yes"));
		message_send_end(x->m, x->sends_trailers ? &t : NULL);
	}
}

static void ex_maybe_release(struct ex *x)
{
	if (x->m && !x->no_release && x->m->in_ended && x->m->out_ended && x->all)
		ex_release(x);
}

RIG void ex_take_back(struct ex *x)
{
	uint64_t n = x->held;

	for (uint32_t i = 0; i < x->n_kept; i++)
		slice_drop(x->kept[i]);
	x->n_kept = 0;
	x->held = 0;
	if (x->m && n > 0)
		message_consume(x->m, (uint32_t)n);
}

static void ex_on_body(struct message *m, struct slice s)
{
	struct ex *x = m->owner;
	uint32_t   n = s.n;

	cr_assert_gt(n, 0);
	for (uint32_t i = 0; i < n; i++)
		x->wrong |= s.p[i] != pattern(x->in + i);
	x->in += n;
	if (x->echo) {
		message_send_body(m, s);
	} else if (x->keeps) {
		cr_assert_lt(x->n_kept, 4096);
		x->kept[x->n_kept++] = s;
		x->held += n;
	} else {
		slice_drop(s);
		message_consume(m, n);
	}
}

static void ex_on_end(struct message *m, struct http_head *t)
{
	struct ex *x = m->owner;

	x->ends++;
	cr_assert(m->in_ended);
	if (t)
		x->trailers += t->n_fields;
	if (x->echo) {
		message_send_end(m, t);
		x->end_given = true;
	}
	ex_maybe_release(x);
}

static void ex_on_sent(struct message *m, uint32_t n, bool all)
{
	struct ex *x = m->owner;

	x->sent += n;
	cr_assert(!x->all);
	x->all = all;
	if (x->echo && n > 0)
		message_consume(m, n);
	ex_feed(x);
	ex_maybe_release(x);
}

static void ex_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct ex *x = m->owner;

	x->errors++;
	x->err = err;
	x->unprocessed = unprocessed;
	if (!x->no_release)
		ex_release(x);
}

static void ex_on_head(struct message *m, struct http_head *h, bool end)
{
	struct ex *x = m->owner;

	cr_assert_eq(m->in_ended, end);
	if (h->status < 200) {
		x->interims++;
		return;
	}
	x->heads++;
	x->status = h->status;
	x->head_end = end;
	if (x->r->on_client_head)
		x->r->on_client_head(x);
	if (x->m && end)
		ex_maybe_release(x);
}

static const struct message_events client_ev = { ex_on_head, ex_on_body, ex_on_end, ex_on_sent, ex_on_error };

/* --- the server's application --- */

static void respond(struct ex *x, uint16_t status, enum http_body body, uint64_t len)
{
	struct http_field f[4];
	struct http_head  h = { .status = status, .body = body, .body_len = len, .fields = f, .fields_max = 4 };

	http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("X-Rig"), HTTP_STR("server"));
	cr_assert_eq(message_send_head(x->m, &h, false), 0);
	x->to_send = len;
}

static void sx_on_head(struct message *m, struct http_head *h, bool end)
{
	struct ex *x = m->owner;

	(void)end;
	x->heads++;
	snprintf(x->path, sizeof(x->path), "%.*s", (int)h->path.n, h->path.p);
	if (x->r->on_head)
		x->r->on_head(x);
	if (!x->m || m->out_head)
		return;
	if (strcmp(x->path, "/echo") == 0) {
		respond(x, 200, HTTP_BODY_STREAM, 0);
		x->echo = !m->in_ended;
		if (!x->echo)
			ex_feed(x);
	} else if (strncmp(x->path, "/size/", 6) == 0) {
		respond(x, 200, HTTP_BODY_LENGTH, strtoull(x->path + 6, NULL, 10));
		ex_feed(x);
	} else if (strcmp(x->path, "/keep") == 0) {
		x->keeps = true;
	} else if (strcmp(x->path, "/hold") != 0) {
		respond(x, 404, HTTP_BODY_LENGTH, 0);
		ex_feed(x);
	}
}

static const struct message_events server_ev = { sx_on_head, ex_on_body, ex_on_end, ex_on_sent, ex_on_error };

static void s_on_message(struct http_conn *c, struct message *m)
{
	struct rig *r = c->owner;
	struct ex  *x = &r->sx[r->n_sx];

	if (r->nobody)
		return;
	cr_assert_lt(r->n_sx, RIG_EX);
	r->n_sx++;
	x->r = r;
	x->m = m;
	m->ev = &server_ev;
	m->owner = x;
}

static void s_on_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	struct rig *r = c->owner;

	(void)err;
	r->s_closed++;
	snprintf(r->s_closed_text, sizeof(r->s_closed_text), "%s", text ? text : "");
	for (uint32_t i = 0; i < r->n_s; i++)
		if (r->s[i] == c)
			r->s[i] = NULL;
}

static void s_on_refused(struct http_conn *c, uint16_t status, enum http_error e)
{
	struct rig *r = c->owner;

	(void)e;
	r->refused++;
	r->refused_status = status;
}

static const struct http_conn_events server_conn_ev = {
	.on_message = s_on_message,
	.on_closed = s_on_closed,
	.on_refused = s_on_refused,
};

static void on_accepted(struct engine *e, struct engine_op *op, int res)
{
	struct rig *r = CONTAINER_OF(op, struct rig, accept_op);

	(void)e;
	if (res < 0)
		return;
	cr_assert_lt(r->n_s, RIG_CONNS);
	cr_assert_eq(http_server_open(&r->env, res, &r->server_limits, &server_conn_ev, r, &r->s[r->n_s]), 0);
	r->n_s++;
}

/* --- the client's connection --- */

static void c_on_ready(struct http_conn *c)
{
	((struct rig *)c->owner)->ready++;
}

static void c_on_capacity(struct http_conn *c)
{
	((struct rig *)c->owner)->capacity++;
}

static void c_on_draining(struct http_conn *c)
{
	struct rig *r = c->owner;

	r->draining++;
	if (r->on_draining)
		r->on_draining(r);
}

static void c_on_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	struct rig *r = c->owner;

	r->closed++;
	r->closed_err = err;
	snprintf(r->closed_text, sizeof(r->closed_text), "%s", text ? text : "");
	if (r->c == c)
		r->c = NULL;
}

static const struct http_conn_events client_conn_ev = {
	.on_ready = c_on_ready,
	.on_capacity = c_on_capacity,
	.on_draining = c_on_draining,
	.on_closed = c_on_closed,
};

/* --- the rig --- */

/* NULL: this engine is not allowed here. */
RIG struct rig *rig_new(const struct engine_mode *mode)
{
	struct rig        *r = calloc(1, sizeof(*r));
	struct http_sizes  sizes = { .conns = 64, .tls = 8, .h2_conns = 32, .h2_streams = 1024, .messages = 1024 };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t          len = sizeof(a);

	r->fds = open_fds();
	cr_assert_eq(buf_pool_init(&r->bufs, 1024, 1024), 0);
	r->engine = engine_in_mode(mode, (struct engine_conf){ .bufs = &r->bufs });
	if (!r->engine) {
		buf_pool_fini(&r->bufs);
		free(r);
		return NULL;
	}
	timer_wheel_init(&r->timers, clock_ns());
	cr_assert_eq(http_env_init(&r->env, &r->slabs, &sizes, r->engine, &r->bufs, &r->timers), 0);
	r->limits = (struct http_limits){
		.head_max = 32768, .target_max = 8192, .streams_max = 100,
		.header_timeout_ns = 10 * NS_PER_S, .idle_timeout_ns = 60 * NS_PER_S,
		.h2_window = 64 * 1024,
	};
	r->server_limits = r->limits;
	r->ex = calloc(RIG_EX, sizeof(*r->ex));
	r->sx = calloc(RIG_EX, sizeof(*r->sx));
	r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(r->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(r->listener, 64), 0);
	getsockname(r->listener, (struct sockaddr *)&a, &len);
	r->port = ntohs(a.sin_port);
	engine_op_init(&r->accept_op, on_accepted);
	engine_accept(r->engine, &r->accept_op, r->listener);
	the_rig = r;
	return r;
}

RIG void rig_turn(struct rig *r)
{
	uint64_t next = timer_wheel_next(&r->timers), soon = clock_ns() + 2 * NS_PER_MS;

	engine_turn(r->engine, next < soon ? next : soon);
	timer_wheel_run(&r->timers, engine_now(r->engine));
}

#define RIG_UNTIL(r, condition)                                                                    \
	do {                                                                                       \
		uint64_t until_ = clock_ns() + RIG_SECONDS * NS_PER_S;                             \
		while (!(condition) && clock_ns() < until_)                                        \
			rig_turn(r);                                                               \
		cr_assert(condition, "%s", #condition);                                            \
	} while (0)

RIG void rig_ms(struct rig *r, unsigned ms)
{
	uint64_t until = clock_ns() + ms * NS_PER_MS;

	while (clock_ns() < until)
		rig_turn(r);
}

static bool nobody_left(struct rig *r)
{
	return r->slabs.conn.in_use == 0 && !engine_busy(&r->accept_op);
}

/* Everything is back, or the test fails. */
RIG void rig_end(struct rig *r)
{
	if (r->c)
		http_conn_abort(r->c);
	for (uint32_t i = 0; i < r->n_s; i++)
		if (r->s[i])
			http_conn_abort(r->s[i]);
	shutdown(r->listener, SHUT_RDWR);
	engine_cancel(r->engine, &r->accept_op);
	for (uint32_t i = 0; i < RIG_EX; i++) {
		if (r->ex[i].m)
			ex_release(&r->ex[i]);
		if (r->sx[i].m)
			ex_release(&r->sx[i]);
		cr_expect(!r->ex[i].wrong, "client's message %u", i);
		cr_expect(!r->sx[i].wrong, "server's message %u", i);
	}
	RIG_UNTIL(r, nobody_left(r));
	engine_close(r->engine, r->listener);
	rig_ms(r, 5);
	tls_policy_free(r->policy);
	http_env_fini(&r->env, &r->slabs);
	engine_mode_end(r->engine);
	buf_pool_fini(&r->bufs);
	cr_expect_eq(open_fds(), r->fds);
	free(r->ex);
	free(r->sx);
	free(r);
}

#define EACH_ENGINE_OF(r, next)                                                                    \
	for (struct engine_mode mode_ = { 0 }; next(&mode_);)                                      \
		for (struct rig *r = rig_new(&mode_); r; rig_end(r), r = NULL)
#define EACH_ENGINE(r) EACH_ENGINE_OF(r, engine_mode_next)
/* Where turns or buffers are counted. */
#define EACH_CALM_ENGINE(r) EACH_ENGINE_OF(r, engine_mode_next_calm)

RIG void rig_connect(struct rig *r, int port, enum http_client_mode mode)
{
	struct sockaddr_in         a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
		                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct http_client_options o = {
		.addr = (struct sockaddr *)&a,
		.addr_len = sizeof(a),
		.tls = r->policy,
		.server_name = "localhost",
		.mode = mode,
		.limits = &r->limits,
		.ev = &client_conn_ev,
		.owner = r,
	};

	cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
}

/* Our client to our server, both ready. */
RIG void rig_pair(struct rig *r)
{
	rig_connect(r, r->port, HTTP_CLIENT_H2_PRIOR);
	RIG_UNTIL(r, r->ready == 1 && r->capacity > 0);
	RIG_UNTIL(r, r->n_s > 0 && r->s[0] && r->s[0]->version == HTTP_2);
}

/* A request; body UINT64_MAX: none. */
RIG struct ex *rig_ask(struct rig *r, const char *method, const char *path, uint64_t body)
{
	struct ex        *x = &r->ex[r->n_ex++];
	struct http_field f[2];
	struct http_head  h = { .fields = f, .fields_max = 2, .version = HTTP_1_1 };
	bool              none = body == UINT64_MAX;

	cr_assert_leq(r->n_ex, RIG_EX);
	x->r = r;
	x->m = http_client_message(r->c, &client_ev, x);
	cr_assert_not_null(x->m);
	h.method = (uint8_t)http_method_lookup(method, strlen(method));
	h.method_text = (struct http_str){ method, (uint32_t)strlen(method) };
	h.path = (struct http_str){ path, (uint32_t)strlen(path) };
	h.authority = HTTP_STR("localhost");
	h.te_trailers = true;
	h.body = none ? HTTP_BODY_NONE : HTTP_BODY_STREAM;
	http_head_add(&h, HTTP_FIELD_USER_AGENT, HTTP_STR("User-Agent"), HTTP_STR("rig"));
	cr_assert_eq(message_send_head(x->m, &h, none), 0);
	x->end_given = none;
	if (!none) {
		x->to_send = body;
		if (body > 0)
			ex_feed(x);
	}
	return x;
}

/* --- children --- */

/* Start a shell command; its output goes to <dir>/out. */
RIG pid_t child_start(struct rig *r, const char *command)
{
	char  out[96];
	pid_t pid;

	if (r->dir[0] == '\0') {
		snprintf(r->dir, sizeof(r->dir), "/tmp/rhc-h2-XXXXXX");
		cr_assert_not_null(mkdtemp(r->dir));
	}
	snprintf(out, sizeof(out), "%s/out", r->dir);
	pid = fork();
	if (pid == 0) {
		int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY, 0600);

		dup2(fd, 1);
		dup2(fd, 2);
		setpgid(0, 0);
		unsetenv("LD_PRELOAD");
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return pid;
}

RIG int child_wait(struct rig *r, pid_t pid)
{
	int      status = -1;
	uint64_t until = clock_ns() + RIG_SECONDS * NS_PER_S;

	while (clock_ns() < until) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
		rig_turn(r);
	}
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1000;
}

RIG void child_stop(pid_t pid)
{
	kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

RIG const char *child_output(struct rig *r)
{
	static char text[65536];
	char        path[96];
	ssize_t     n;
	int         fd;

	snprintf(path, sizeof(path), "%s/out", r->dir);
	fd = open(path, O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

RIG void child_clean(struct rig *r)
{
	char command[160];

	if (r->dir[0] == '\0')
		return;
	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	cr_assert_eq(system(command), 0);
	r->dir[0] = '\0';
}

/* A port nobody listens on now. */
RIG int free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t          len = sizeof(a);
	int                fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	close(fd);
	return ntohs(a.sin_port);
}

RIG void wait_for_port(int port)
{
	for (int i = 0; i < 1000; i++) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
			                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		int                fd = socket(AF_INET, SOCK_STREAM, 0);
		int                err = connect(fd, (struct sockaddr *)&a, sizeof(a));

		close(fd);
		if (err == 0)
			return;
		usleep(10000);
	}
	cr_assert(0, "nobody listens on port %d", port);
}

#endif
