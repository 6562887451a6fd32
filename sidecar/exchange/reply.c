#include "sidecar/exchange/reply.h"

#include <errno.h>
#include <string.h>

#include "sidecar/base/json.h"
#include "sidecar/exchange/grpc.h"
#include "sidecar/exchange/heads.h"
#include "sidecar/upstream/errors.h"

enum reply_form { REPLY_PROBLEM, REPLY_TEXT, REPLY_GRPC };

static const struct http_field *find(const struct exchange *e, enum http_field_id id)
{
	return e->req ? http_head_find(e->req, id) : NULL;
}

static bool value_begins(const struct http_field *f, const char *with)
{
	size_t n = strlen(with);

	return f && f->value_len >= n && memcmp(f->value, with, n) == 0;
}

static enum reply_form form_of(const struct exchange *e)
{
	const struct http_field *type = find(e, HTTP_FIELD_CONTENT_TYPE);

	if (type && grpc_is_type((struct http_str){ type->value, type->value_len }))
		return REPLY_GRPC;
	if (!e->env->config->responses.problem_json || value_begins(find(e, HTTP_FIELD_ACCEPT), "text/plain"))
		return REPLY_TEXT;
	return REPLY_PROBLEM;
}

/* Which time the title of this error names. */
static uint64_t waited_ns(const struct exchange *e)
{
	const struct config_policy *p = e->upstream ? e->upstream->policy : &e->env->config->defaults;

	switch ((enum rhc_error)e->error) {
	case RHC_ERR_bulkhead_timeout:
		return p->bulkhead.acquisition_timeout_ns;
	case RHC_ERR_pool_timeout:
		return p->timeout.pool_ns;
	case RHC_ERR_dns_timeout:
		return p->dns.timeout_ns < p->timeout.connect_ns ? p->dns.timeout_ns : p->timeout.connect_ns;
	case RHC_ERR_connect_timeout:
		return p->timeout.connect_ns;
	case RHC_ERR_write_timeout:
		return p->timeout.write_ns;
	case RHC_ERR_deadline_total:
		return e->deadline_ns - e->start_ns;
	default:
		return p->timeout.read_ns;
	}
}

void reply_title(const struct exchange *e, char out[REPLY_TITLE_MAX])
{
	error_title((enum rhc_error)e->error, waited_ns(e), out, REPLY_TITLE_MAX);
}

/* Seconds until asking again makes sense; 0: nothing to recommend. */
static uint32_t retry_after_s(const struct exchange *e)
{
	if (e->error == RHC_ERR_circuit_open)
		return e->ticket.refusal.retry_after_ms == UINT64_MAX ?
		               0 :
		               (uint32_t)((e->ticket.refusal.retry_after_ms + 999) / 1000);
	return error_row((enum rhc_error)e->error)->retry_after_s;
}

static void problem_circuit(const struct exchange *e, struct json *j)
{
	json_object(j, "circuit");
	json_str(j, "state", rhc_breaker_name((enum rhc_breaker_state)e->ticket.refusal.state));
	json_u64(j, "failures", e->ticket.refusal.failures);
	json_u64(j, "threshold", e->ticket.refusal.threshold);
	json_end(j);
}

static int problem_body(const struct exchange *e, uint16_t status, char *out, size_t cap)
{
	const struct error_row *row = error_row((enum rhc_error)e->error);
	char title[REPLY_TITLE_MAX], type[64];
	uint32_t after = retry_after_s(e);
	struct json j;

	json_init(&j, out, cap);
	reply_title(e, title);
	snprintf(type, sizeof(type), "urn:rhc:error:%s", row->id);
	json_object(&j, NULL);
	json_str(&j, "type", type);
	json_str(&j, "title", title);
	json_u64(&j, "status", status);
	if (e->detail[0])
		json_str(&j, "detail", e->detail);
	json_strn(&j, "request_id", e->request_id.p, e->request_id.n);
	json_str(&j, "upstream", e->upstream ? e->upstream->name : NULL);
	json_u64(&j, "attempts", e->attempt);
	if (after)
		json_u64(&j, "retry_after_seconds", after);
	if (e->retry_skipped != RETRY_NOT_NEEDED)
		json_str(&j, "not_retried", retry_verdict_word((enum retry_verdict)e->retry_skipped));
	if (e->error == RHC_ERR_circuit_open)
		problem_circuit(e, &j);
	json_end(&j);
	return json_finish(&j);
}

static int text_body(const struct exchange *e, char *out, size_t cap)
{
	char title[REPLY_TITLE_MAX];
	int n;

	reply_title(e, title);
	n = snprintf(out, cap, "%s%s%s\n", title, e->detail[0] ? "\n" : "", e->detail);
	return n < 0 || (size_t)n >= cap ? -ENOSPC : n;
}

static int grpc_fields(const struct exchange *e, struct http_head *h, struct head_text *t)
{
	uint16_t status = e->reply_status ? e->reply_status : error_row((enum rhc_error)e->error)->status;
	int code = grpc_code_of((enum rhc_error)e->error, status);
	char title[REPLY_TITLE_MAX];

	reply_title(e, title); /* plain ASCII without '%', so it needs no percent-encoding */
	if (http_head_add(h, HTTP_FIELD_CONTENT_TYPE, HTTP_STR("content-type"), HTTP_STR("application/grpc")) != 0 ||
	    http_head_add(h, HTTP_FIELD_GRPC_STATUS, HTTP_STR("grpc-status"), head_printf(t, "%d", code)) != 0)
		return -ENOSPC;
	return http_head_add(h, HTTP_FIELD_GRPC_MESSAGE, HTTP_STR("grpc-message"), head_printf(t, "%s", title));
}

/* RFC 9209 §2: error and next-hop; our id and the log's flag in details. */
static struct http_str proxy_status(const struct exchange *e, struct head_text *t)
{
	const struct config_proxy_status *c = &e->env->config->responses.proxy_status;
	const struct error_row *row = error_row((enum rhc_error)e->error);
	struct http_str all = head_printf(t, "%s; error=%s", c->name, row->proxy_status), s;

	if (e->upstream) {
		s = head_printf(t, "; next-hop=\"%s\"", e->upstream->name);
		all.n += s.n;
	}
	if (c->details) {
		s = head_printf(t, "; details=\"%s; %s\"", row->id, row->flag);
		all.n += s.n;
	}
	return all;
}

static int reply_fields(struct exchange *e, struct http_head *h, struct head_text *t)
{
	const struct error_row *row = error_row((enum rhc_error)e->error);
	const char *class = error_class_name((enum error_class)row->class);
	uint32_t after = retry_after_s(e);
	int rc = 0;

	if (after)
		rc = http_head_add(h, HTTP_FIELD_RETRY_AFTER, HTTP_STR("retry-after"), head_printf(t, "%u", after));
	if (rc == 0 && e->env->config->responses.proxy_status.enabled && row->proxy_status[0])
		rc = http_head_add(h, HTTP_FIELD_PROXY_STATUS, HTTP_STR("proxy-status"), proxy_status(e, t));
	if (rc == 0 && class)
		rc = http_head_add(h, HTTP_FIELD_X_RHC_ERROR, HTTP_STR("x-rhc-error"),
		                   (struct http_str){ class, (uint32_t)strlen(class) });
	if (rc == 0)
		rc = head_annotate(e, h, t);
	return rc;
}

static int send_with_body(struct exchange *e, struct http_head *h, struct buf *body, bool is_head)
{
	int rc;

	h->body = HTTP_BODY_LENGTH;
	h->body_len = body->len;
	rc = message_send_head(e->down, h, is_head);
	if (rc == 0 && !is_head) {
		message_send_body(e->down, (struct slice){ body, body->data, body->len });
		message_send_end(e->down, NULL);
		return 0;
	}
	buf_unref(body);
	return rc;
}

int reply_send(struct exchange *e)
{
	const struct error_row *row = error_row((enum rhc_error)e->error);
	enum reply_form form = form_of(e);
	struct head_text t;
	struct http_head *h = head_begin(e->env, &t);
	struct buf *body;
	int n;

	h->version = HTTP_1_1;
	h->status = form == REPLY_GRPC ? 200 : e->reply_status ? e->reply_status : row->status;
	h->keep_alive = e->error != RHC_ERR_draining;
	e->status = h->status;
	if (form == REPLY_GRPC) {
		if (grpc_fields(e, h, &t) != 0 || reply_fields(e, h, &t) != 0)
			return -ENOSPC;
		h->body = HTTP_BODY_NONE;
		return message_send_head(e->down, h, true);
	}
	body = buf_get(e->env->http->stream.bufs, BUF_SMALL);
	if (!body)
		return -ENOBUFS;
	n = form == REPLY_TEXT ? text_body(e, (char *)body->data, buf_cap(body)) :
	                         problem_body(e, h->status, (char *)body->data, buf_cap(body));
	if (n < 0 || http_head_add(h, HTTP_FIELD_CONTENT_TYPE, HTTP_STR("content-type"),
	                           form == REPLY_TEXT ? HTTP_STR("text/plain; charset=utf-8") :
	                                                HTTP_STR("application/problem+json")) != 0 ||
	    reply_fields(e, h, &t) != 0) {
		buf_unref(body);
		return -ENOSPC;
	}
	body->len = (uint32_t)n;
	return send_with_body(e, h, body, e->req && e->req->method == HTTP_METHOD_HEAD);
}
