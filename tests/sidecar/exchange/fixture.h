/*
 * A call without connections: the app's and the upstream's message are fakes that write down what they are told to
 * send, in the form HTTP/1.1 would have.  Everything else is real: configuration, segment, upstreams, codec.
 */
#ifndef RHC_TESTS_EXCHANGE_FIXTURE_H
#define RHC_TESTS_EXCHANGE_FIXTURE_H

#include "../upstream/world.h"
#include "proto/h1.h"
#include "sidecar/exchange/access.h"
#include "sidecar/exchange/exchange.h"

struct call {
	struct world              world;
	struct exchange_env       env;
	struct config_listener    listening;
	struct exchange_listener  listener;
	struct exchange           e;
	struct message            down, up;
	struct http_conn          conn;
	struct http_head          req;
	struct http_field         fields[HTTP_FIELDS_MAX];
	char                      text[16384]; /* the request */
	char                      out[16384]; /* what was sent down */
	uint32_t                  used;
};

static struct call call;

/* Head as h1 would send it; the result is static. */
static inline const char *head_text(const struct http_head *h)
{
	static char text[16384];
	int n = h1_encode((uint8_t *)text, sizeof(text) - 1, h,
	                  h->status ? h1_response_framing(h, HTTP_METHOD_GET, HTTP_1_1) : h1_request_framing(h),
	                  H1_CONN_NOTHING);

	cr_assert_gt(n, 0, "the head cannot be encoded: %d", n);
	text[n] = '\0';
	return text;
}

static inline int fake_head(struct message *m, const struct http_head *h, bool end)
{
	(void)m;
	call.used += (uint32_t)snprintf(call.out + call.used, sizeof(call.out) - call.used, "%s%s", head_text(h),
	                                end ? "(end)" : "");
	return 0;
}

static inline void fake_body(struct message *m, struct slice s)
{
	(void)m;
	call.used += (uint32_t)snprintf(call.out + call.used, sizeof(call.out) - call.used, "%.*s", (int)s.n,
	                                (const char *)s.p);
	slice_drop(s);
}

static inline void fake_end(struct message *m, const struct http_head *trailers)
{
	(void)m;
	(void)trailers;
	call.used += (uint32_t)snprintf(call.out + call.used, sizeof(call.out) - call.used, "(end)");
}

static inline void fake_consume(struct message *m, uint32_t n)
{
	(void)m;
	(void)n;
}

static inline void fake_release(struct message *m)
{
	(void)m;
}

static const struct message_ops fake_ops = { fake_head, fake_body, fake_end, fake_consume, fake_release, NULL };

static inline void call_init(const char *yaml)
{
	static _Atomic uint64_t counters[RHC_WCTR_COUNT];

	world_init(&call.world, 1, ENGINE_EPOLL, yaml, "127.0.0.1:1");
	call.env.config = call.world.cfg;
	call.env.upstreams = call.world.w[0].all;
	call.env.http = &call.world.http;
	call.env.rng = &call.world.w[0].rng;
	call.env.counters = counters;
	exchange_env_name(&call.env);
	call.listening = call.world.cfg->listeners[0];
	call.listener = (struct exchange_listener){ .config = &call.listening, .env = &call.env };
	call.conn.stream.fd = -1;
}

static inline void call_fini(void)
{
	world_fini(&call.world);
}

/* A new call with this request head; version HTTP_2 makes it one that came over h2. */
static inline struct exchange *request(enum http_version version, const char *text)
{
	struct h1_scan scan = { 0 };
	struct h1_limits limits = { 65536, 16384 };
	struct exchange *e = &call.e;
	int32_t n;

	snprintf(call.text, sizeof(call.text), "%s", text);
	call.req = (struct http_head){ .fields = call.fields, .fields_max = HTTP_FIELDS_MAX };
	n = h1_parse_request(&scan, (uint8_t *)call.text, (uint32_t)strlen(call.text), &limits, &call.req);
	cr_assert_gt(n, 0, "the request cannot be parsed: %d: %s", n, text);
	if (version == HTTP_2)
		call.req.te_trailers = true;
	call.req.version = (uint8_t)version;
	memset(e, 0, sizeof(*e));
	e->magic = EXCHANGE_MAGIC;
	e->env = &call.env;
	e->listener = &call.listener;
	e->req = &call.req;
	e->endpoint = ENDPOINT_NONE;
	e->retry_skipped = RETRY_NOT_NEEDED;
	e->grpc_status = -1;
	e->start_ns = engine_now(call.world.rig.engine);
	e->request_id = HTTP_STR("id-1");
	call.down = (struct message){ .ops = &fake_ops, .owner = e, .conn = &call.conn, .version = (uint8_t)version };
	call.up = (struct message){ .ops = &fake_ops, .owner = e, .conn = &call.conn, .version = HTTP_1_1 };
	e->down = &call.down;
	e->up = &call.up;
	body_init(&e->body, 65536);
	call.used = 0;
	call.out[0] = '\0';
	return e;
}

#endif
