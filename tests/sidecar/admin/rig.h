/*
 * tests/sidecar/admin/rig.h - the admin floor over a segment of its own, asked by messages without a connection.
 *
 * ask() gives a head (and a body) to admin_message() and plays the connection: it reports what was sent, as slowly as the
 * test wants, until the message is released.  What came out is in struct asked.
 */
#ifndef RHC_TESTS_SIDECAR_ADMIN_RIG_H
#define RHC_TESTS_SIDECAR_ADMIN_RIG_H

#include "tests/shm/fixture.h"

#include "sidecar/admin/admin.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"
#include "sidecar/config/findings.h"

enum { RIG_ANSWER = 24 << 20, RIG_BUFS = 512 };

#define RIG_CONFIG     \
	"version: 1\n" \
	"upstreams: {orders: {url: \"http://127.0.0.1:9\"}, billing: {url: \"http://127.0.0.1:9\"}}\n"

struct asked {
	struct message m;
	unsigned status;
	char type[80], allow[32], challenge[32];
	char *body;
	size_t n;
	uint64_t length; /* as the head says */
	bool ended, released;
	uint32_t consumed;
};

static struct rig {
	struct config *config;
	struct buf_pool bufs;
	struct timer_wheel timers;
	struct http_env http;
	struct admin admin;
	struct admin_hooks hooks;
	unsigned drains, undrains, quits, checks;
	bool live;
} rig;

/* ---- the supervisor's side ---- */

static inline void rig_drain(void *arg)
{
	(void)arg;
	rig.drains++;
}
static inline void rig_undrain(void *arg)
{
	(void)arg;
	rig.undrains++;
}
static inline void rig_quit(void *arg)
{
	(void)arg;
	rig.quits++;
}
static inline void rig_health(void *arg)
{
	(void)arg;
	rig.checks++;
}
static inline bool rig_live(void *arg)
{
	(void)arg;
	return rig.live;
}

static inline struct config *rig_load(const char *more)
{
	static char text[4096];
	struct config_source src = { .text = text };
	struct config *config = NULL;
	struct findings f;

	src.len = (size_t)snprintf(text, sizeof(text), "%s%s", RIG_CONFIG, more);
	findings_init(&f);
	cr_assert_eq(config_load(&config, &src, &f), 0, "%s", f.len ? f.item[0].message : "");
	findings_fini(&f);
	return config;
}

static inline void rig_start(const char *more)
{
	memset(&rig, 0, sizeof(rig));
	fx_start();
	rig.config = rig_load(more);
	rig.live = true;
	cr_assert_eq(buf_pool_init(&rig.bufs, 16, RIG_BUFS), 0);
	timer_wheel_init(&rig.timers, clock_ns());
	rig.http.timers = &rig.timers;
	rig.http.stream.bufs = &rig.bufs;
	rig.hooks = (struct admin_hooks){ .drain = rig_drain,
					  .undrain = rig_undrain,
					  .quit = rig_quit,
					  .health = rig_health,
					  .live = rig_live };
	rig.admin = (struct admin){ .config = rig.config,
				    .seg = &fx.seg,
				    .lock_fd = fx.lock_fd,
				    .http = &rig.http,
				    .hooks = &rig.hooks };
	cr_assert_eq(admin_init(&rig.admin), 0);
}

static inline void rig_stop(void)
{
	admin_fini(&rig.admin); /* asserts that no call is left */
	buf_pool_fini(&rig.bufs);
	config_free(rig.config);
	fx_stop();
}

/* ---- the connection's side ---- */

static inline void rig_copy(char *to, size_t cap, const struct http_field *f)
{
	snprintf(to, cap, "%.*s", (int)f->value_len, f->value);
}

static inline int rig_send_head(struct message *m, const struct http_head *h, bool end)
{
	struct asked *a = CONTAINER_OF(m, struct asked, m);

	a->status = h->status;
	a->length = h->body_len;
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		if (f->name_len == 12 && memcmp(f->name, "content-type", 12) == 0)
			rig_copy(a->type, sizeof(a->type), f);
		if (f->name_len == 5 && memcmp(f->name, "allow", 5) == 0)
			rig_copy(a->allow, sizeof(a->allow), f);
		if (f->name_len == 16 && memcmp(f->name, "www-authenticate", 16) == 0)
			rig_copy(a->challenge, sizeof(a->challenge), f);
	}
	a->ended = end;
	return 0;
}

static inline void rig_send_body(struct message *m, struct slice data)
{
	struct asked *a = CONTAINER_OF(m, struct asked, m);

	cr_assert_leq(m->out_unsent + data.n, MESSAGE_WINDOW, "more than a window at once");
	cr_assert_leq(a->n + data.n, (size_t)RIG_ANSWER);
	memcpy(a->body + a->n, data.p, data.n);
	a->n += data.n;
	m->out_unsent += data.n;
	slice_drop(data);
}

static inline void rig_send_end(struct message *m, const struct http_head *trailers)
{
	(void)trailers;
	CONTAINER_OF(m, struct asked, m)->ended = true;
}

static inline void rig_consume(struct message *m, uint32_t n)
{
	CONTAINER_OF(m, struct asked, m)->consumed += n;
}

static inline void rig_release(struct message *m)
{
	CONTAINER_OF(m, struct asked, m)->released = true;
}

static const struct message_ops rig_ops = { rig_send_head, rig_send_body, rig_send_end, rig_consume,
					    rig_release, NULL };

struct question {
	enum admin_surface surface;
	enum http_method method;
	const char *path, *host, *body;
	const char *header, *value; /* one more field */
};

static struct http_field rig_fields[2];
static struct http_head rig_head;

static inline struct http_str rig_str(const char *s)
{
	return (struct http_str){ s, s ? (uint32_t)strlen(s) : 0 };
}

static inline void ask_head(struct asked *a, const struct question *q, struct admin_listener *l)
{
	memset(a, 0, sizeof(*a));
	a->body = malloc(RIG_ANSWER);
	cr_assert_not_null(a->body);
	a->m.ops = &rig_ops;
	rig_head = (struct http_head){ .fields = rig_fields,
				       .fields_max = 2,
				       .method = q->method,
				       .path = rig_str(q->path),
				       .authority = rig_str(q->host) };
	if (q->header)
		cr_assert_eq(http_head_add(&rig_head,
					   strcmp(q->header, "authorization") == 0
						   ? HTTP_FIELD_AUTHORIZATION
					   : strcmp(q->header, "accept") == 0 ? HTTP_FIELD_ACCEPT
									      : HTTP_FIELD_OTHER,
					   rig_str(q->header), rig_str(q->value)),
			     0);
	*l = (struct admin_listener){ &rig.admin, q->surface };
	admin_message(l, &a->m);
	cr_assert_not_null(a->m.ev);
	a->m.ev->on_head(&a->m, &rig_head, !q->body);
}

static inline void ask_body(struct asked *a, const char *body)
{
	size_t n = strlen(body);

	for (size_t i = 0; i < n && !a->released; i += 7) { /* in pieces */
		uint32_t piece = n - i < 7 ? (uint32_t)(n - i) : 7;

		a->m.ev->on_body(&a->m, (struct slice){ NULL, (const uint8_t *)body + i, piece });
	}
	if (!a->released)
		a->m.ev->on_end(&a->m, NULL);
}

/* Until it is released or nothing more comes. */
static inline void ask_sent(struct asked *a)
{
	for (unsigned i = 0; i < 100000 && !a->released && a->status; i++) {
		uint32_t n = a->m.out_unsent < 5000 ? a->m.out_unsent : 5000;

		a->m.out_unsent -= n;
		a->m.ev->on_sent(&a->m, n, a->ended && a->m.out_unsent == 0);
	}
}

static inline void ask(struct asked *a, const struct question *q)
{
	struct admin_listener l;

	ask_head(a, q, &l);
	if (q->body && !a->released)
		ask_body(a, q->body);
	ask_sent(a);
}

static inline void asked_free(struct asked *a)
{
	free(a->body);
	a->body = NULL;
}

static inline bool says(const struct asked *a, const char *what)
{
	return memmem(a->body, a->n, what, strlen(what)) != NULL;
}

#endif
