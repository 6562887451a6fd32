/* Questions to a loaded configuration. */
#include <inttypes.h>
#include <string.h>

#include "shm/base.h"
#include "sidecar/config/meta.h"
#include "sidecar/config/schema.h"
#include "sidecar/config/value.h"

#define WORKERS_AUTO_MAX 4
#define SLOTS_MIN        1024 /* with 4 x the limit: an override may raise it without a new segment */

/* The ranges of schema.def are those of the segment or narrower. */
_Static_assert(CONFIG_NAME_MAX == RHC_NAME_MAX, "an upstream's name fits its record");
_Static_assert(CONFIG_UPSTREAMS_MAX <= RHC_UPSTREAMS_MAX, "a record for each upstream");
_Static_assert(RHC_LIMIT_MAX <= RHC_SLOTS_MAX, "a slot for each attempt of the greatest limit");

const struct config_upstream *config_upstream(const struct config *cfg, const char *name)
{
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		if (strcmp(cfg->upstreams[i].name, name) == 0)
			return &cfg->upstreams[i];
	}
	return NULL;
}

uint32_t config_workers(const struct config *cfg, double cpus)
{
	uint32_t n = 1, room = cfg->shm.max_workers ? cfg->shm.max_workers : RHC_WORKERS_MAX;

	if (cfg->workers)
		return cfg->workers;
	while (n < WORKERS_AUTO_MAX && (double)n < cpus && (n + 1) * 2 <= room)
		n++;
	return n;
}

uint32_t config_slots(const struct config *cfg)
{
	uint32_t limit = cfg->defaults.bulkhead.max_concurrency, slots = SLOTS_MIN;

	if (cfg->shm.max_slots)
		return cfg->shm.max_slots;
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		if (cfg->upstreams[i].policy.bulkhead.max_concurrency > limit)
			limit = cfg->upstreams[i].policy.bulkhead.max_concurrency;
	}
	while (slots < limit * 4 && slots < RHC_SLOTS_MAX)
		slots *= 2;
	return slots;
}

/* ---- worst case ---- */

/* The greatest waits before the retries; Retry-After is another matter, see config_print_worst_case(). */
static uint64_t backoff_ns(const struct config_retry *r)
{
	uint64_t sum = 0, wait = r->min_wait_ns;

	for (uint32_t i = 1; i < r->max_attempts; i++) {
		if (wait > r->max_wait_ns)
			wait = r->max_wait_ns;
		sum += wait;
		/* Ranges keep this far from 2^64: an hour times ten. */
		wait = wait / 1000 * r->multiplier_milli + wait % 1000 * r->multiplier_milli / 1000;
	}
	return sum;
}

static uint64_t attempt_ns(const struct config_policy *p)
{
	const struct config_timeout *t = &p->timeout;
	uint64_t slot = p->bulkhead.enabled ? p->bulkhead.acquisition_timeout_ns : 0;

	return slot + t->pool_ns + t->connect_ns + t->write_ns + t->read_ns;
}

uint64_t config_worst_case_ns(const struct config_policy *p)
{
	uint64_t ns = p->retry.max_attempts * attempt_ns(p) + backoff_ns(&p->retry);

	return p->timeout.total_ns && ns > p->timeout.total_ns ? p->timeout.total_ns : ns;
}

static void print_step(const char *name, uint64_t ns, FILE *out)
{
	char text[VALUE_TEXT_MAX];

	value_duration_text(ns, text);
	fprintf(out, "%s%s", name, text);
}

static void print_worst_case(const struct config_upstream *u, FILE *out)
{
	const struct config_policy *p = &u->policy;

	fprintf(out, "Worst case for one call to %s: %u × (", u->name,
		(unsigned)p->retry.max_attempts);
	if (p->bulkhead.enabled)
		print_step("slot ", p->bulkhead.acquisition_timeout_ns, out);
	print_step(p->bulkhead.enabled ? " + pool " : "pool ", p->timeout.pool_ns, out);
	print_step(" + connect ", p->timeout.connect_ns, out);
	print_step(" + write ", p->timeout.write_ns, out);
	print_step(" + read ", p->timeout.read_ns, out);
	putc(')', out);
	if (p->retry.max_attempts > 1)
		print_step(" + backoff ", backoff_ns(&p->retry), out);
	if (p->timeout.total_ns)
		print_step(", at most ", p->timeout.total_ns, out);
	print_step(" = ", config_worst_case_ns(p), out);
	if (p->retry.max_attempts > 1 && p->retry.respect_retry_after && !p->timeout.total_ns)
		print_step("; Retry-After can make each wait ", p->retry.max_wait_ns, out);
	putc('\n', out);
}

void config_print_worst_case(const struct config *cfg, FILE *out)
{
	for (uint32_t i = 0; i < cfg->upstreams_len; i++)
		print_worst_case(&cfg->upstreams[i], out);
}
