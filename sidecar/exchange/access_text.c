/*
 * Lines for eyes: text in the order of Envoy's default, and logfmt.  What a stranger chose stands in quotes, with dots for
 * what could end them.
 */
#include <string.h>

#include "sidecar/exchange/access_line.h"
#include "sidecar/exchange/access_put.h"
#include "sidecar/exchange/exchange.h"

enum { TEXT_KEYS = 448, TEXT_PEER = 64, TEXT_FLAGS = 24 };
_Static_assert(TEXT_KEYS + 3 * ACCESS_VALUE_MAX + EXCH_REQUEST_ID_MAX + CLOCK_TEXT_SIZE + 3 * ACCESS_WORD + TEXT_FLAGS +
			RHC_NAME_MAX + 2 * TEXT_PEER + EXCH_DETAIL_MAX + 5 * ACCESS_NUMBER <=
		ACCESS_LINE_MAX,
	"the longest line fits");

/* A string of ours, "-" for none. */
static void put_or_dash(struct out *o, const char *s)
{
	if (s[0])
		put(o, s, strlen(s));
	else
		LIT(o, "-");
}

static struct http_str or_dash(struct http_str s)
{
	return s.n > 0 ? s : HTTP_STR("-");
}

static struct http_str method_of(const struct exchange *e)
{
	return e->req ? e->req->method_text : HTTP_STR("-");
}

static struct http_str authority_of(const struct exchange *e)
{
	return e->req ? or_dash(e->req->authority) : HTTP_STR("-");
}

static struct http_str path_of(const struct exchange *e)
{
	return e->req ? access_path(e) : HTTP_STR("-");
}

size_t access_text(char *out, const struct exchange *e, const struct access_line *l)
{
	struct out o = { out, out + ACCESS_LINE_MAX };

	LIT(&o, "[");
	put(&o, l->start, CLOCK_TEXT_SIZE - 1);
	LIT(&o, "] \"");
	put_clean(&o, method_of(e));
	LIT(&o, " ");
	put_clean(&o, path_of(e));
	LIT(&o, " ");
	put_word(&o, l->protocol);
	LIT(&o, "\" ");
	put_u64(&o, e->status);
	LIT(&o, " ");
	put(&o, l->flags, strlen(l->flags));
	LIT(&o, " ");
	put_word(&o, l->details);
	LIT(&o, " ");
	put_u64(&o, e->body.bytes);
	LIT(&o, " ");
	put_u64(&o, e->bytes_sent);
	LIT(&o, " ");
	put_ms(&o, l->duration_ns);
	LIT(&o, " ");
	put_u64(&o, e->attempt);
	LIT(&o, " \"");
	put_clean(&o, e->request_id);
	LIT(&o, "\" \"");
	put_clean(&o, authority_of(e));
	LIT(&o, "\" ");
	put_or_dash(&o, e->upstream ? e->upstream->name : "");
	LIT(&o, " ");
	put_or_dash(&o, l->peer);
	LIT(&o, "\n");
	return (size_t)(o.p - out);
}

static void put_request(struct out *o, const struct exchange *e, const struct access_line *l)
{
	LIT(o, "ts=");
	put(o, l->start, CLOCK_TEXT_SIZE - 1);
	LIT(o, " component=access method=\"");
	put_clean(o, method_of(e));
	LIT(o, "\" path=\"");
	put_clean(o, path_of(e));
	LIT(o, "\" protocol=");
	put_word(o, l->protocol);
}

static void put_outcome(struct out *o, const struct exchange *e, const struct access_line *l)
{
	LIT(o, " status=");
	put_u64(o, e->status);
	LIT(o, " flags=");
	put(o, l->flags, strlen(l->flags));
	LIT(o, " details=");
	put_word(o, l->details);
	LIT(o, " bytes_received=");
	put_u64(o, e->body.bytes);
	LIT(o, " bytes_sent=");
	put_u64(o, e->bytes_sent);
	LIT(o, " duration=");
	put_ms(o, l->duration_ns);
	LIT(o, " attempts=");
	put_u64(o, e->attempt);
}

size_t access_logfmt(char *out, const struct exchange *e, const struct access_line *l)
{
	struct out o = { out, out + ACCESS_LINE_MAX };

	put_request(&o, e, l);
	put_outcome(&o, e, l);
	LIT(&o, " request_id=\"");
	put_clean(&o, e->request_id);
	LIT(&o, "\" authority=\"");
	put_clean(&o, authority_of(e));
	LIT(&o, "\" upstream=");
	put_or_dash(&o, e->upstream ? e->upstream->name : "");
	LIT(&o, " upstream_host=");
	put_or_dash(&o, l->peer);
	LIT(&o, " upstream_protocol=");
	put_or_dash(&o, l->up_protocol);
	LIT(&o, " upstream_transport_failure_reason=\"");
	put_clean(&o, or_dash((struct http_str){ l->up_failure, (uint32_t)strlen(l->up_failure) }));
	LIT(&o, "\" downstream_remote_address=");
	put_or_dash(&o, l->down_peer);
	LIT(&o, "\n");
	return (size_t)(o.p - out);
}
