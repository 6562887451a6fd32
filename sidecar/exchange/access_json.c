/*
 * The JSON line.  A general JSON writer costs ten times as much for forty members: it cannot know that the keys need no
 * escaping and that the commas are where they are.
 */
#include <string.h>

#include "sidecar/exchange/access_line.h"
#include "sidecar/exchange/access_put.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/upstream/errors.h"

/* The shares of a line, escapes included. */
enum {
	SHARE_METHOD = 64,
	SHARE_PATH = 704,
	SHARE_AUTHORITY = 320,
	SHARE_ID = EXCH_REQUEST_ID_MAX,
	SHARE_AGENT = 448,
	SHARE_DETAIL = 288,
	SHARE_NAME = 128, /* of an upstream */
	SHARE_PEER = 64,
	SHARE_REASON = 160,
	KEYS = 816, /* keys and punctuation */
};
_Static_assert(KEYS + SHARE_METHOD + SHARE_PATH + SHARE_AUTHORITY + SHARE_ID + SHARE_AGENT + SHARE_DETAIL +
			SHARE_NAME + 2 * SHARE_PEER + SHARE_REASON + 2 * CLOCK_TEXT_SIZE +
			(5 + EXCH_ATTEMPTS_LOGGED) * (ACCESS_WORD + 3) + (8 + PHASES + 2) * ACCESS_NUMBER <=
		ACCESS_LINE_MAX,
	"the longest line fits");

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

/* "" is null. */
static void put_or_null(struct out *o, const char *s, size_t share)
{
	if (!s[0]) {
		LIT(o, "null");
		return;
	}
	LIT(o, "\"");
	put_text(o, s, strlen(s), share);
	LIT(o, "\"");
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
	put_or_null(o, l->peer, SHARE_PEER);
	LIT(o, ",\"upstream_protocol\":");
	put_or_null(o, l->up_protocol, ACCESS_WORD);
	LIT(o, ",\"upstream_transport_failure_reason\":");
	put_or_null(o, l->up_failure, SHARE_REASON);
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
	LIT(o, ",\"downstream_remote_address\":");
	put_or_null(o, l->down_peer, SHARE_PEER);
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
