#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "sidecar/config/check.h"
#include "sidecar/config/value.h"

/* One rule at work on one set of policies. */
struct scope {
	const struct config *cfg;
	const struct reporter *r;
	const struct config_policy *p;
	char name[CONFIG_NAME_MAX + sizeof("upstreams.")];
	bool inherits;
};

/*
 * Whether the rule is about these policies: an upstream that wrote neither value inherited both, and
 * `defaults` has said it.  *at is where the first written one stands.
 */
static bool mine(const struct scope *s, const struct place **at, const void *a, const void *b)
{
	const struct place *x = meta_place(s->cfg, a), *y = b ? meta_place(s->cfg, b) : NULL;

	*at = x && x->kind > PLACE_PRESET ? x : y && y->kind > PLACE_PRESET ? y : NULL;
	return !s->inherits || x || y;
}

static void too_short_read(const struct scope *s)
{
	const struct config_timeout *t = &s->p->timeout;
	char read[VALUE_TEXT_MAX], connect[VALUE_TEXT_MAX];
	const struct place *at;

	if (t->read_ns >= t->connect_ns || !mine(s, &at, &t->read_ns, &t->connect_ns))
		return;
	value_duration_text(t->read_ns, read);
	value_duration_text(t->connect_ns, connect);
	report(s->r, "W101", at,
	       "a slow connect would outlast the patience for the answer; try connect: 10s, read: 30s",
	       NULL, "%s: timeout.read (%s) is shorter than timeout.connect (%s)", s->name, read,
	       connect);
}

static void retries_open_circuit(const struct scope *s)
{
	const struct config_retry *r = &s->p->retry;
	const struct config_breaker *b = &s->p->breaker;
	const struct place *at;

	if (!b->enabled || r->max_attempts <= b->failure_threshold ||
	    !mine(s, &at, &r->max_attempts, &b->failure_threshold))
		return;
	report(s->r, "W102", at,
	       "the circuit opens before one call has used its attempts; use 3 and 5", NULL,
	       "%s: retry.max_attempts (%u) is greater than circuit_breaker.failure_threshold (%u)",
	       s->name, (unsigned)r->max_attempts, (unsigned)b->failure_threshold);
}

static void never_retries(const struct scope *s)
{
	const struct config_retry *r = &s->p->retry;
	const struct place *at;

	if (r->max_attempts == 1 && mine(s, &at, &r->max_attempts, NULL))
		report(s->r, "W103", at, "the first attempt counts; use 2 or more to retry", NULL,
		       "%s: retry.max_attempts is 1: retries never happen", s->name);
}

static void total_too_short(const struct scope *s)
{
	const struct config_timeout *t = &s->p->timeout;
	char total[VALUE_TEXT_MAX], need[VALUE_TEXT_MAX];
	const struct place *at;

	if (!t->total_ns || t->total_ns >= t->connect_ns + t->read_ns)
		return;
	if (!mine(s, &at, &t->total_ns, &t->read_ns) && !mine(s, &at, &t->connect_ns, NULL))
		return;
	value_duration_text(t->total_ns, total);
	value_duration_text(t->connect_ns + t->read_ns, need);
	report(s->r, "W104", at,
	       "one slow attempt uses it up: shorten connect and read, or give it more time", NULL,
	       "%s: timeout.total (%s) is shorter than connect and read together (%s)", s->name,
	       total, need);
}

static void slot_wait_too_long(const struct scope *s)
{
	uint64_t wait = s->p->bulkhead.acquisition_timeout_ns, total = s->p->timeout.total_ns;
	char wait_text[VALUE_TEXT_MAX], total_text[VALUE_TEXT_MAX];
	const struct place *at;

	if (!total || !s->p->bulkhead.enabled || wait <= total ||
	    !mine(s, &at, &s->p->bulkhead.acquisition_timeout_ns, &s->p->timeout.total_ns))
		return;
	value_duration_text(wait, wait_text);
	value_duration_text(total, total_text);
	report(s->r, "W106", at,
	       "a call can be over before it gets a slot; the wait is cut off at timeout.total",
	       NULL, "%s: bulkhead.acquisition_timeout (%s) is longer than timeout.total (%s)",
	       s->name, wait_text, total_text);
}

static void retried_not_counted(const struct scope *s)
{
	const struct config_retry *r = &s->p->retry;
	const struct config_breaker *b = &s->p->breaker;
	const struct place *at;
	unsigned status = 100;

	while (status <= CONFIG_STATUS_MAX && (!config_status_in(&r->statuses, status) ||
					       config_status_in(&b->count_statuses, status)))
		status++;
	if (status > CONFIG_STATUS_MAX || !b->enabled || r->max_attempts == 1 ||
	    !mine(s, &at, &r->statuses, &b->count_statuses))
		return;
	report(s->r, "W107", at,
	       "the circuit stays closed however often it comes back; list it in both or in neither",
	       NULL, "%s: status %u is in retry.statuses but not in circuit_breaker.count_statuses",
	       s->name, status);
}

static void unsafe_method(const struct scope *s)
{
	const struct config_retry *r = &s->p->retry;
	const struct place *at;
	enum config_method m = CONFIG_METHOD_POST;

	if (!config_set_has(r->methods, m))
		m = CONFIG_METHOD_PATCH;
	if (config_set_has(r->methods, m) && r->max_attempts > 1 && mine(s, &at, &r->methods, NULL))
		report(s->r, "W108", at, "leave it out: with Idempotency-Key it is repeated anyway",
		       NULL, "%s: retry.methods has %s: an order may be placed twice", s->name,
		       config_method_name(m));
}

static void no_verify(const struct scope *s)
{
	const struct place *at;

	if (!s->p->tls.verify && mine(s, &at, &s->p->tls.verify, NULL))
		report(s->r, "W110", at, "name the authority in tls.ca_file instead", NULL,
		       "%s: tls.verify is false: anybody can answer for the upstream", s->name);
}

static void short_recovery(const struct scope *s)
{
	uint64_t recovery = s->p->breaker.recovery_timeout_ns, connect = s->p->timeout.connect_ns;
	char recovery_text[VALUE_TEXT_MAX], connect_text[VALUE_TEXT_MAX];
	const struct place *at;

	if (!s->p->breaker.enabled || recovery >= connect ||
	    !mine(s, &at, &s->p->breaker.recovery_timeout_ns, &s->p->timeout.connect_ns))
		return;
	value_duration_text(recovery, recovery_text);
	value_duration_text(connect, connect_text);
	report(s->r, "W115", at,
	       "a probe that cannot connect takes longer than the rest it follows", NULL,
	       "%s: circuit_breaker.recovery_timeout (%s) is shorter than timeout.connect (%s)",
	       s->name, recovery_text, connect_text);
}

static void health_overlaps(const struct scope *s)
{
	const struct config_health *h = &s->p->health;
	const struct place *at;

	if (h->interval_ns && h->timeout_ns > h->interval_ns &&
	    mine(s, &at, &h->timeout_ns, &h->interval_ns))
		report(s->r, "W118", at, "a check that takes its time delays the next one", NULL,
		       "%s: health.timeout is longer than health.interval", s->name);
}

/* ---- least and greatest ---- */

static void ordered(const struct scope *s, const uint64_t *least, const uint64_t *greatest,
		    const char *least_key, const char *greatest_key)
{
	char least_text[VALUE_TEXT_MAX], greatest_text[VALUE_TEXT_MAX];
	const struct place *at;

	if (*greatest >= *least || !mine(s, &at, greatest, least))
		return;
	value_duration_text(*least, least_text);
	value_duration_text(*greatest, greatest_text);
	report(s->r, "E012", at, NULL, NULL, "%s: %s (%s) is less than %s (%s)", s->name,
	       greatest_key, greatest_text, least_key, least_text);
}

static void limits_in_order(const struct scope *s)
{
	const struct config_policy *p = s->p;

	ordered(s, &p->retry.min_wait_ns, &p->retry.max_wait_ns, "retry.min_wait_seconds",
		"retry.max_wait_seconds");
	ordered(s, &p->dns.ttl_min_ns, &p->dns.ttl_max_ns, "dns.ttl_min", "dns.ttl_max");
	if (p->breaker.open_backoff.multiplier_milli > 1000)
		ordered(s, &p->breaker.recovery_timeout_ns, &p->breaker.open_backoff.max_ns,
			"circuit_breaker.recovery_timeout", "circuit_breaker.open_backoff.max");
}

static void slots_fit(const struct scope *s)
{
	const uint32_t *limit = &s->p->bulkhead.max_concurrency;
	uint32_t room = s->cfg->shm.max_slots;
	const struct place *at;

	if (room && *limit > room && mine(s, &at, limit, NULL))
		report(s->r, "E005", at, "raise shm.max_slots or leave it at auto", NULL,
		       "%s: bulkhead.max_concurrency (%u) is greater than shm.max_slots (%u)",
		       s->name, (unsigned)*limit, (unsigned)room);
}

/* ---- texts ---- */

static void client_cert(const struct scope *s)
{
	const struct config_tls *t = &s->p->tls;
	const struct place *at;

	if (!t->client_cert_file == !t->client_key_file ||
	    !mine(s, &at, &t->client_cert_file, &t->client_key_file))
		return;
	report(s->r, "E006", at, NULL, NULL, "%s: tls.%s is set, tls.%s is missing", s->name,
	       t->client_cert_file ? "client_cert_file" : "client_key_file",
	       t->client_cert_file ? "client_key_file" : "client_cert_file");
}

static void alpn(const struct scope *s)
{
	const struct config_strings *list = &s->p->tls.alpn;
	const struct place *at;

	for (uint32_t i = 0; i < list->len; i++) {
		if (strcmp(list->item[i], "h2") != 0 && strcmp(list->item[i], "http/1.1") != 0 &&
		    mine(s, &at, list, NULL))
			report(s->r, "E004", at, "h2 and http/1.1 are spoken", NULL,
			       "%s: tls.alpn: \"%.40s\" is not a protocol of ours", s->name,
			       list->item[i]);
	}
}

static void health_path(const struct scope *s)
{
	const struct place *at;

	if (s->p->health.path[0] != '/' && mine(s, &at, &s->p->health.path, NULL))
		report(s->r, "E004", at, NULL, NULL, "%s: health.path must begin with /", s->name);
}

bool check_token(const char *text)
{
	return *text && strspn(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				     "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(text);
}

/* Fields of one connection, or that frame the message (RFC 9110, section 7.6.1): never configured by hand. */
static bool hop_by_hop(const char *name)
{
	static const char *const names[] = { "connection", "keep-alive",     "proxy-connection",
					     "te",         "trailer",        "transfer-encoding",
					     "upgrade",    "content-length", "host" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcasecmp(names[i], name) == 0)
			return true;
	}
	return false;
}

static void field_name(const struct scope *s, const struct place *at, const char *key,
		       const char *name)
{
	if (!check_token(name))
		report(s->r, "E004", at, NULL, NULL,
		       "%s: headers.%s: \"%.60s\" is not a field name", s->name, key, name);
	else if (hop_by_hop(name))
		report(s->r, "E004", at, NULL, NULL, "%s: headers.%s: %s is ours to set", s->name,
		       key, name);
}

static bool secret_name(const char *name)
{
	return strcasecmp(name, "authorization") == 0 || strcasecmp(name, "cookie") == 0 ||
	       strcasecmp(name, "proxy-authorization") == 0 || strcasecmp(name, "x-api-key") == 0;
}

static void field_names(const struct scope *s)
{
	const struct config_headers *h = &s->p->headers;
	const struct place *at;
	struct place literal;

	if (h->request_id && mine(s, &at, &h->request_id, NULL))
		field_name(s, at, "request_id", h->request_id);
	for (uint32_t i = 0; mine(s, &at, &h->remove_request, NULL) && i < h->remove_request.len;
	     i++)
		field_name(s, at, "remove_request", h->remove_request.item[i]);
	for (uint32_t i = 0; mine(s, &at, &h->add_request, NULL) && i < h->add_request.len; i++) {
		const struct config_pair *pair = &h->add_request.item[i];
		const struct place *written = meta_place(s->cfg, pair);

		if (at) {
			literal = written ? *written : *at;
			literal.secret = true;
			at = &literal;
		}
		field_name(s, at, "add_request", pair->name);
		if (written && secret_name(pair->name))
			report(s->r, "W111", at, "keep it out of the file: \"${env:NAME}\"", NULL,
			       "%s: headers.add_request: %s is written in the file", s->name,
			       pair->name);
	}
}

void check_policy(const struct config *cfg, const struct config_upstream *u,
		  const struct reporter *r)
{
	static void (*const rules[])(const struct scope *) = {
		too_short_read,     retries_open_circuit,
		never_retries,      total_too_short,
		slot_wait_too_long, retried_not_counted,
		unsafe_method,      no_verify,
		short_recovery,     health_overlaps,
		limits_in_order,    slots_fit,
		client_cert,        alpn,
		health_path,        field_names,
	};
	struct scope s = {
		.cfg = cfg, .r = r, .p = u ? &u->policy : &cfg->defaults, .inherits = u != NULL
	};

	if (u)
		snprintf(s.name, sizeof(s.name), "upstreams.%s", u->name);
	else
		snprintf(s.name, sizeof(s.name), "defaults");
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		rules[i](&s);
}
