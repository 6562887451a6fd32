/*
 * The JSON line.  A general JSON writer costs ten times as much for forty members: it cannot know that the keys need no
 * escaping and that the commas are where they are.
 */
#include <assert.h>
#include <string.h>

#include "sidecar/base/json.h"
#include "sidecar/exchange/access.h"
#include "sidecar/exchange/access_line.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/upstream/errors.h"

/* The shares of a line, escapes included.  Names of our own tables have at most WORD bytes. */
enum {
	SHARE_METHOD = 64,
	SHARE_PATH = 832,
	SHARE_AUTHORITY = 384,
	SHARE_ID = EXCH_REQUEST_ID_MAX,
	SHARE_AGENT = 544,
	SHARE_DETAIL = 288,
	SHARE_NAME = 128, /* of an upstream */
	SHARE_PEER = 64,
	WORD = 32,
	NUMBER = 21,
	KEYS = 704, /* keys and punctuation */
};
_Static_assert(KEYS + SHARE_METHOD + SHARE_PATH + SHARE_AUTHORITY + SHARE_ID + SHARE_AGENT + SHARE_DETAIL +
			SHARE_NAME + SHARE_PEER + 2 * CLOCK_TEXT_SIZE + (4 + EXCH_ATTEMPTS_LOGGED) * (WORD + 3) +
			(8 + PHASES + 2) * NUMBER <=
		ACCESS_LINE_MAX,
	"the longest line fits");

struct out {
	char *p, *end;
};

static inline void put(struct out *o, const char *s, size_t n)
{
	assert(n <= (size_t)(o->end - o->p));
	memcpy(o->p, s, n);
	o->p += n;
}

#define LIT(o, s) put(o, s, sizeof(s) - 1)

static void put_word(struct out *o, const char *s)
{
	put(o, s, strnlen(s, WORD));
}

static void put_text(struct out *o, const char *s, size_t n, size_t share)
{
	assert(share <= (size_t)(o->end - o->p));
	o->p += json_escape(o->p, share, s, n < ACCESS_VALUE_MAX ? n : ACCESS_VALUE_MAX, NULL);
}

static void put_u64(struct out *o, uint64_t v)
{
	char b[NUMBER], *p = b + sizeof(b);

	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	put(o, p, (size_t)(b + sizeof(b) - p));
}

/* Milliseconds with three decimals. */
static void put_ms(struct out *o, uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned part = (unsigned)(us % 1000);

	if (us == 0) {
		LIT(o, "0.000");
		return;
	}
	put_u64(o, us / 1000);
	put(o, (char[]){ '.', (char)('0' + part / 100), (char)('0' + part / 10 % 10), (char)('0' + part % 10) }, 4);
}

static void put_request(struct out *o, const struct exchange *e, const struct access_line *l)
{
	const struct http_head *req = e->req;
	const struct http_field *agent = req ? http_head_find(req, HTTP_FIELD_USER_AGENT) : NULL;
	struct http_str path = access_path(e);

	LIT(o, "{\"ts\":\"");
	put(o, l->now, CLOCK_TEXT_SIZE - 1);
	LIT(o, "\",\"component\":\"access\",\"start_time\":\"");
	put(o, l->start, CLOCK_TEXT_SIZE - 1);
	LIT(o, "\",\"method\":\"");
	if (req)
		put_text(o, req->method_text.p, req->method_text.n, SHARE_METHOD);
	LIT(o, "\",\"path\":\"");
	put_text(o, path.p, path.n, SHARE_PATH);
	LIT(o, "\",\"authority\":\"");
	if (req)
		put_text(o, req->authority.p, req->authority.n, SHARE_AUTHORITY);
	LIT(o, "\",\"protocol\":\"");
	put_word(o, l->protocol);
	LIT(o, "\",\"request_id\":\"");
	put_text(o, e->request_id.p, e->request_id.n, SHARE_ID);
	if (agent) {
		LIT(o, "\",\"user_agent\":\"");
		put_text(o, agent->value, agent->value_len, SHARE_AGENT);
	}
}

static void put_upstream(struct out *o, const struct exchange *e, const struct access_line *l)
{
	if (e->upstream) {
		LIT(o, ",\"upstream_cluster\":\"");
		put_text(o, e->upstream->name, strlen(e->upstream->name), SHARE_NAME);
		LIT(o, "\",\"upstream_host\":");
	} else {
		LIT(o, ",\"upstream_cluster\":null,\"upstream_host\":");
	}
	if (l->peer[0]) {
		LIT(o, "\"");
		put_text(o, l->peer, strlen(l->peer), SHARE_PEER);
		LIT(o, "\"");
	} else {
		LIT(o, "null");
	}
	LIT(o, ",\"upstream_status\":");
	put_u64(o, e->upstream_status);
	if (e->grpc_status >= 0) {
		LIT(o, ",\"grpc_status\":");
		put_u64(o, (uint64_t)e->grpc_status);
	}
}

static void put_retries(struct out *o, const struct exchange *e)
{
	LIT(o, ",\"attempts\":");
	put_u64(o, e->attempt);
	LIT(o, ",\"retry_reasons\":[");
	for (unsigned i = 0; i < e->reason_count && i < EXCH_ATTEMPTS_LOGGED; i++) {
		if (i > 0)
			LIT(o, ",");
		LIT(o, "\"");
		put_word(o, error_row((enum rhc_error)e->reasons[i])->id);
		LIT(o, "\"");
	}
	if (e->retry_skipped == RETRY_NOT_NEEDED) {
		LIT(o, "],\"retry_skipped\":null");
		return;
	}
	LIT(o, "],\"retry_skipped\":\"");
	put_word(o, retry_verdict_word((enum retry_verdict)e->retry_skipped));
	LIT(o, "\"");
}

static void put_outcome(struct out *o, const struct exchange *e, const struct access_line *l)
{
	LIT(o, "\",\"response_code\":");
	put_u64(o, e->status);
	LIT(o, ",\"response_flags\":\"");
	put(o, l->flags, strlen(l->flags));
	LIT(o, "\",\"response_code_details\":\"");
	put_word(o, l->details);
	if (e->detail[0]) {
		LIT(o, "\",\"detail\":\"");
		put_text(o, e->detail, strlen(e->detail), SHARE_DETAIL);
	}
	LIT(o, "\",\"bytes_received\":");
	put_u64(o, e->body.bytes);
	LIT(o, ",\"bytes_sent\":");
	put_u64(o, e->bytes_sent);
	LIT(o, ",\"duration\":");
	put_ms(o, l->duration_ns);
	put_upstream(o, e, l);
	put_retries(o, e);
}

static void put_phases(struct out *o, const struct exchange *e, const struct access_line *l)
{
	/* clang-format off */
	static const struct http_str keys[PHASES] = {
		[PHASE_QUEUE]   = HTTP_STR(",\"phases\":{\"queue\":"),
		[PHASE_POOL]    = HTTP_STR(",\"pool\":"),
		[PHASE_DNS]     = HTTP_STR(",\"dns\":"),
		[PHASE_CONNECT] = HTTP_STR(",\"connect\":"),
		[PHASE_TLS]     = HTTP_STR(",\"tls\":"),
		[PHASE_SEND]    = HTTP_STR(",\"send\":"),
		[PHASE_TTFB]    = HTTP_STR(",\"ttfb\":"),
		[PHASE_RECEIVE] = HTTP_STR(",\"receive\":"),
		[PHASE_BACKOFF] = HTTP_STR(",\"backoff\":"),
	};
	/* clang-format on */

	for (unsigned i = 0; i < PHASES; i++) {
		put(o, keys[i].p, keys[i].n);
		put_ms(o, e->phases[i]);
	}
	LIT(o, "},\"overhead_ms\":");
	put_ms(o, l->overhead_ns);
	LIT(o, ",\"worker\":");
	put_u64(o, e->env->worker);
	LIT(o, "}\n");
}

size_t access_json(char *out, const struct exchange *e, const struct access_line *l)
{
	struct out o = { out, out + ACCESS_LINE_MAX };

	put_request(&o, e, l);
	put_outcome(&o, e, l);
	put_phases(&o, e, l);
	return (size_t)(o.p - out);
}
