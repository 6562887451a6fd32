#include "sidecar/admin/admin.h"

#include <stdio.h>
#include <string.h>

#include "sidecar/admin/admin_private.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/json.h"

#define STALL_NS \
	(20 * NS_PER_S) /* an asker that neither sends its body nor reads its answer is left */

#define LATE_NS NS_PER_S /* a timer so late means that we were busy: the asker had no chance */

int admin_init(struct admin *a)
{
	return slab_init(&a->calls, "admin_call", sizeof(struct call), ADMIN_CALLS_MAX);
}

void admin_fini(struct admin *a)
{
	slab_fini(&a->calls);
}

/* ---- answers ---- */

static const char *const type_names[] = {
	"text/plain; charset=utf-8",
	"application/json",
	"application/problem+json",
	"text/plain; version=0.0.4; charset=utf-8",
	"application/openmetrics-text; version=1.0.0; charset=utf-8",
};

static void call_end(struct call *c)
{
	struct admin *a = c->l->admin;
	struct message *m = c->m;

	timer_clear(a->http->timers, &c->timer);
	text_fini(&c->text);
	OBJ_FINI(c, CALL_MAGIC);
	slab_put(&a->calls, c);
	message_release(m);
}

static void watch(struct call *c);

static void on_stall(struct timer *t)
{
	struct call *c = CONTAINER_OF(t, struct call, timer);

	OBJ_CHECK(c, CALL_MAGIC);
	if (clock_ns() > c->stall_ns + LATE_NS)
		watch(c);
	else
		call_end(c);
}

static void watch(struct call *c)
{
	c->timer.fn = on_stall;
	c->stall_ns = clock_ns() + STALL_NS;
	timer_set_in(c->l->admin->http->timers, &c->timer, STALL_NS);
}

/* As much as a window; more when that has left. */
static void pump(struct call *c)
{
	size_t n = c->text.n - c->sent;

	if (n > MESSAGE_WINDOW)
		n = MESSAGE_WINDOW;
	while (n > 0) {
		struct buf *b = buf_get(c->l->admin->http->stream.bufs, BUF_LARGE);
		uint32_t piece = n < BUF_LARGE_SIZE ? (uint32_t)n : BUF_LARGE_SIZE;

		if (!b) { /* the pool has a window for each call, so this is a bug elsewhere; the asker learns at once */
			call_end(c);
			return;
		}
		memcpy(b->data, c->text.p + c->sent, piece);
		b->len = piece;
		c->sent += piece;
		n -= piece;
		message_send_body(c->m, (struct slice){ b, b->data, piece });
	}
	if (c->sent == c->text.n)
		message_send_end(c->m, NULL);
}

static void add(struct http_head *h, enum http_field_id id, const char *name, const char *value)
{
	(void)http_head_add(h, id, (struct http_str){ name, (uint32_t)strlen(name) },
			    (struct http_str){ value, (uint32_t)strlen(value) });
}

void call_answer(struct call *c, uint16_t status, enum answer_type type)
{
	struct http_field fields[6];
	struct http_head h = {
		.fields = fields, .fields_max = 6, .version = HTTP_1_1, .keep_alive = true
	};
	bool is_head = c->req->method == HTTP_METHOD_HEAD;

	if (c->text.failed) {
		text_fini(&c->text);
		text_add(&c->text,
			 "the answer is larger than %d bytes, or there is no memory for it\n",
			 ADMIN_ANSWER_MAX);
		status = 503;
		type = AS_TEXT;
	}
	c->answered = true;
	c->when_read = NULL;
	h.status = status;
	h.body = HTTP_BODY_LENGTH;
	h.body_len = c->text.n;
	add(&h, HTTP_FIELD_CONTENT_TYPE, "content-type", type_names[type]);
	add(&h, HTTP_FIELD_OTHER, "cache-control", "no-store");
	add(&h, HTTP_FIELD_OTHER, "x-content-type-options", "nosniff");
	if (status == 405 && c->allow) /* RFC 9110 §15.5.6 */
		add(&h, HTTP_FIELD_OTHER, "allow", c->allow);
	if (status == 401) /* RFC 9110 §15.5.2 */
		add(&h, HTTP_FIELD_OTHER, "www-authenticate", "Bearer");
	watch(c);
	if (message_send_head(c->m, &h, is_head || c->text.n == 0) != 0)
		call_end(c);
	else if (is_head)
		c->sent = c->text.n;
	else
		pump(c);
}

void call_problem(struct call *c, uint16_t status, const char *title, const char *detail)
{
	char *p = text_room(&c->text, 1024);
	struct json j;
	int n;

	if (p) {
		json_init(&j, p, 1024);
		json_object(&j, NULL);
		json_str(&j, "type", "about:blank");
		json_str(&j, "title", title);
		json_u64(&j, "status", status);
		json_str(&j, "detail", detail);
		json_end(&j);
		n = json_finish(&j);
		c->text.n += n > 0 ? (size_t)n : 0;
	}
	call_answer(c, status, AS_PROBLEM);
}

void call_plain(struct call *c, uint16_t status, const char *word)
{
	text_add(&c->text, "%s\n", word);
	call_answer(c, status, AS_TEXT);
}

/* ---- events of the message ---- */

_Static_assert(ADMIN_BODY_MAX == 4096, "the text of 413 says so");

static void on_head(struct message *m, struct http_head *h, bool end)
{
	struct call *c = m->owner;

	OBJ_CHECK(c, CALL_MAGIC);
	c->req = h;
	watch(c);
	if (routes_dispatch(c) && end)
		c->when_read(c);
}

static void on_body(struct message *m, struct slice data)
{
	struct call *c = m->owner;
	uint32_t n = data.n, room = sizeof(c->body) - c->body_n;

	OBJ_CHECK(c, CALL_MAGIC);
	if (c->when_read && n <= room) {
		memcpy(c->body + c->body_n, data.p, n);
		c->body_n += n;
	}
	slice_drop(data);
	if (c->when_read && n > room)
		call_problem(c, 413, "Content too large",
			     "the body of a change has at most 4096 bytes");
	else
		message_consume(m, n); /* of no use: read away, as long as the answer takes */
}

static void on_end(struct message *m, struct http_head *trailers)
{
	struct call *c = m->owner;

	(void)trailers;
	OBJ_CHECK(c, CALL_MAGIC);
	if (c->when_read)
		c->when_read(c);
}

static void on_sent(struct message *m, uint32_t n, bool all)
{
	struct call *c = m->owner;

	OBJ_CHECK(c, CALL_MAGIC);
	(void)n;
	if (all) {
		call_end(c);
		return;
	}
	watch(c);
	if (c->answered && m->out_unsent < BUF_LARGE_SIZE && c->sent < c->text.n)
		pump(c);
}

static void on_error(struct message *m, enum message_error err, bool unprocessed)
{
	(void)err;
	(void)unprocessed;
	call_end(m->owner);
}

static const struct message_events events = {
	.on_head = on_head,
	.on_body = on_body,
	.on_end = on_end,
	.on_sent = on_sent,
	.on_error = on_error,
};

void admin_message(struct admin_listener *l, struct message *m)
{
	struct call *c = slab_get(&l->admin->calls);

	if (!c)
		return; /* the connection answers 503 */
	OBJ_INIT(c, CALL_MAGIC);
	c->l = l;
	c->m = m;
	m->ev = &events;
	m->owner = c;
}
