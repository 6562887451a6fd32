/*
 * The caller of the pool tests: one request without a body, from take to release.
 *
 * The response ends the call and gives the message back, unless `keep` says that the test does.  A
 * caller with a state machine of its own (test_storm) uses caller_head() and what only passes on.
 */
#ifndef RHC_TESTS_UPSTREAM_CALLER_H
#define RHC_TESTS_UPSTREAM_CALLER_H

#include <criterion/criterion.h>

#include "sidecar/http/message.h"
#include "sidecar/upstream/pool.h"

struct call {
	struct pool_wait w;
	struct message *m;
	bool got;       /* a message, at once or later */
	bool done;      /* response complete, or refused, or failed */
	bool keep;      /* do not release at the end */
	unsigned order; /* which of all calls got a message: 1, 2, ... */
	uint16_t status;
	enum message_error failed;
	bool unprocessed, reused;
};

static unsigned caller_served;

static inline void caller_end(struct call *c)
{
	c->done = true;
	if (c->keep)
		return;
	message_release(c->m);
	c->m = NULL;
}

static inline void caller_on_head(struct message *m, struct http_head *h, bool end)
{
	struct call *c = m->owner;

	c->status = h->status;
	if (end)
		caller_end(c);
}

static inline void caller_on_body(struct message *m, struct slice data)
{
	uint32_t n = data.n;

	slice_drop(data);
	message_consume(m, n);
}

static inline void caller_on_end(struct message *m, struct http_head *trailers)
{
	(void)trailers;
	caller_end(m->owner);
}

static inline void caller_on_sent(struct message *m, uint32_t bytes, bool all)
{
	(void)m;
	(void)bytes;
	(void)all;
}

static inline void caller_on_error(struct message *m, enum message_error err, bool unprocessed)
{
	struct call *c = m->owner;

	c->failed = err;
	c->unprocessed = unprocessed;
	c->reused = m->reused;
	caller_end(c);
}

static const struct message_events caller_events = {
	.on_head = caller_on_head,
	.on_body = caller_on_body,
	.on_end = caller_on_end,
	.on_sent = caller_on_sent,
	.on_error = caller_on_error,
};

/* GET /x.  `room` for the one field that a head may need; lives as long as the head. */
static inline struct http_head caller_head(struct http_field *room)
{
	return (struct http_head){
		.method = HTTP_METHOD_GET,
		.method_text = HTTP_STR("GET"),
		.scheme = HTTP_STR("http"),
		.authority = HTTP_STR("orders"),
		.path = HTTP_STR("/x"),
		.version = HTTP_1_1,
		.keep_alive = true,
		.fields = room,
		.fields_max = 1,
	};
}

static inline void caller_send(struct call *c, struct message *m)
{
	struct http_field room[1];
	struct http_head head = caller_head(room);

	c->m = m;
	c->got = true;
	c->order = ++caller_served;
	cr_assert_eq(message_send_head(m, &head, true), 0);
}

static inline void caller_on_taken(struct pool_wait *w, struct message *m)
{
	struct call *c = CONTAINER_OF(w, struct call, w);

	cr_assert_not(c->got || c->done, "told once");
	if (m)
		caller_send(c, m);
	else
		c->done = true;
}

/* True: a message at once.  `wish`: deadline_ns and fresh of the wait, the rest is ours. */
static inline bool caller_take_as(struct call *c, struct upstream *up, struct pool_wait wish)
{
	struct message *m;

	*c = (struct call){ .w = wish };
	c->w.done = caller_on_taken;
	c->w.ev = &caller_events;
	c->w.owner = c;
	m = pool_take(up, &c->w);
	if (m)
		caller_send(c, m);
	return m != NULL;
}

static inline bool caller_take(struct call *c, struct upstream *up)
{
	return caller_take_as(c, up, (struct pool_wait){ .deadline_ns = 0 });
}

#endif
