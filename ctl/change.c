/* rhcctl: what changes something.  Each is one CAS under the ADMIN byte. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"

/* Another change may be in progress: wait for it, but not for ever. */
static enum ctl_exit begin(struct ctl *c, struct rhc_admin *a)
{
	uint64_t until = ctl_now_ms() + c->timeout_ms;
	int rc;

	while ((rc = rhc_admin_begin(a, &c->seg, (uint32_t)getuid(), (uint32_t)getpid())) == -EBUSY) {
		if (ctl_now_ms() >= until)
			return ctl_fail(CTL_TIMEOUT, "another change is in progress");
		usleep(5000);
	}
	return rc ? ctl_fail(CTL_DENIED, "cannot change %s: %s", c->seg.path, strerror(-rc)) : CTL_OK;
}

/* The name is looked up with the byte held: a host's record may go to another until then. */
static enum ctl_exit begin_at(struct ctl *c, struct rhc_admin *a, const char *name, int *ret_index)
{
	enum ctl_exit rc = begin(c, a);

	if (rc != CTL_OK || !name)
		return rc;
	*ret_index = rhc_admin_find(a, name);
	if (*ret_index >= 0)
		return CTL_OK;
	rhc_admin_end(a);
	return ctl_fail(CTL_REFUSED, "no upstream '%s'", name);
}

static void breaker_done(struct ctl *c, const char *name, const struct rhc_change *x, uint64_t until_ms)
{
	struct rhc_breaker was = rhc_breaker_unpack(x->old_word, NULL), now = rhc_breaker_unpack(x->new_word, NULL);
	struct out *o = &c->out;
	char text[32];

	out_row(o);
	out_text(o, "name", NULL, name);
	out_text(o, "from", NULL, rhc_breaker_name(was.state));
	out_text(o, "to", NULL, rhc_breaker_name(now.state));
	out_flag(o, "changed", NULL, x->changed);
	out_count(o, "generation", NULL, now.gen);
	if (!c->quiet)
		out_note(o, "%s: %s -> %s%s%s%s\n", name, rhc_breaker_name(was.state), rhc_breaker_name(now.state),
		         until_ms ? " for " : "", until_ms ? out_duration(until_ms - c->now_ms, text) : "",
		         x->changed ? "" : " (no change)");
}

static enum ctl_exit breaker_one(struct ctl *c, struct rhc_admin *a, uint32_t index, enum rhc_verb verb)
{
	uint64_t until = c->for_ms ? c->now_ms + c->for_ms : 0;
	char name[RHC_NAME_MAX + 1];
	struct rhc_change x;
	int rc = rhc_admin_breaker(a, index, verb, until, c->reason, c->now_ms, &x);

	rhc_upstream_name(&c->seg, index, name);
	if (rc != 0)
		return ctl_fail(CTL_REFUSED, "%s: cannot %s: %s", name, rhc_verb_name(verb), strerror(-rc));
	breaker_done(c, name, &x, until);
	return CTL_OK;
}

static enum ctl_exit breaker(struct ctl *c, enum rhc_verb verb)
{
	struct rhc_admin a;
	enum ctl_exit rc;
	int index = -1;

	if (c->all == (c->n_args == 1) || c->n_args > 1)
		return ctl_fail(CTL_USAGE, "breaker %s needs the name of one upstream, or --all", rhc_verb_name(verb));
	if (c->for_ms && verb != RHC_VERB_ISOLATE && verb != RHC_VERB_DISABLE)
		return ctl_fail(CTL_USAGE, "--for goes with isolate and disable");
	rc = begin_at(c, &a, c->all ? NULL : c->args[0], &index);
	if (rc != CTL_OK)
		return rc;
	out_begin(&c->out, "BreakerChange");
	out_rows(&c->out, "items");
	for (uint32_t i = 0; i < c->seg.hdr.max_upstreams && rc == CTL_OK; i++) {
		if (c->all ? rhc_upstream_state(&c->seg, i) == RHC_UP_USED : (int)i == index)
			rc = breaker_one(c, &a, i, verb);
	}
	rhc_admin_end(&a);
	out_end(&c->out);
	return rc;
}

enum ctl_exit cmd_breaker_open(struct ctl *c)
{
	return breaker(c, RHC_VERB_OPEN);
}

enum ctl_exit cmd_breaker_close(struct ctl *c)
{
	return breaker(c, RHC_VERB_CLOSE);
}

enum ctl_exit cmd_breaker_isolate(struct ctl *c)
{
	return breaker(c, RHC_VERB_ISOLATE);
}

enum ctl_exit cmd_breaker_disable(struct ctl *c)
{
	return breaker(c, RHC_VERB_DISABLE);
}

enum ctl_exit cmd_breaker_enable(struct ctl *c)
{
	return breaker(c, RHC_VERB_ENABLE);
}

enum ctl_exit cmd_breaker_reset(struct ctl *c)
{
	return breaker(c, RHC_VERB_RESET);
}

static enum ctl_exit limit(struct ctl *c, bool clear)
{
	uint64_t until = c->for_ms ? c->now_ms + c->for_ms : 0;
	struct rhc_view_upstream u;
	struct rhc_change x;
	struct rhc_admin a;
	enum ctl_exit rc;
	uint32_t before;
	int index, err;

	if (c->n_args != 1 || (!clear && !c->has_limit))
		return ctl_fail(CTL_USAGE, clear ? "bulkhead clear needs the name of an upstream" :
		                                   "bulkhead set needs the name of an upstream and --max-concurrency N");
	rc = begin_at(c, &a, c->args[0], &index);
	if (rc != CTL_OK)
		return rc;
	if (rhc_view_upstream(&c->seg, (uint32_t)index, c->now_ms, &u) != 0) {
		rhc_admin_end(&a);
		return CTL_REFUSED;
	}
	before = u.bulkhead.limit;
	err = clear ? rhc_admin_limit_clear(&a, (uint32_t)index, c->reason, c->now_ms, &x) :
	              rhc_admin_limit(&a, (uint32_t)index, c->max_concurrency, until, c->reason, c->now_ms, &x);
	rhc_admin_end(&a);
	if (err == -ERANGE)
		return ctl_fail(CTL_REFUSED, "%s: the segment has room for 1 to %u slots", c->args[0], c->seg.hdr.slots_cap);
	if (err != 0)
		return ctl_fail(CTL_REFUSED, "%s: %s", c->args[0], strerror(-err));
	(void)rhc_view_upstream(&c->seg, (uint32_t)index, c->now_ms, &u);
	out_begin(&c->out, "LimitChange");
	out_text(&c->out, "name", NULL, u.name);
	out_count(&c->out, "from", NULL, before);
	out_count(&c->out, "to", NULL, u.bulkhead.limit);
	out_count(&c->out, "configured", NULL, u.bulkhead.configured);
	if (!c->quiet)
		out_note(&c->out, "%s: max_concurrency %u -> %u (configuration says %u)\n", u.name, before, u.bulkhead.limit,
		         u.bulkhead.configured);
	out_end(&c->out);
	return CTL_OK;
}

enum ctl_exit cmd_bulkhead_set(struct ctl *c)
{
	return limit(c, false);
}

enum ctl_exit cmd_bulkhead_clear(struct ctl *c)
{
	return limit(c, true);
}

enum ctl_exit cmd_repair(struct ctl *c)
{
	struct rhc_admin a;
	enum ctl_exit rc = begin(c, &a);
	uint32_t n;

	if (rc != CTL_OK)
		return rc;
	n = rhc_admin_repair(&a, c->now_ms);
	rhc_admin_end(&a);
	out_begin(&c->out, "Repair");
	out_count(&c->out, "repaired", NULL, n);
	out_note(&c->out, "%u repaired\n", n);
	out_end(&c->out);
	return CTL_OK;
}

enum ctl_exit cmd_reap(struct ctl *c)
{
	struct rhc_reaped sum;
	struct rhc_admin a;
	enum ctl_exit rc;
	char *end;
	unsigned long index;
	int err;

	if (c->n_args != 1)
		return ctl_fail(CTL_USAGE, "reap needs the number of a worker");
	index = strtoul(c->args[0], &end, 10);
	if (*end || end == c->args[0] || index >= c->seg.hdr.max_workers)
		return ctl_fail(CTL_REFUSED, "no worker '%s'", c->args[0]);
	rc = begin(c, &a);
	if (rc != CTL_OK)
		return rc;
	err = rhc_admin_reap(&a, (uint32_t)index, c->force, c->now_ms, &sum);
	rhc_admin_end(&a);
	if (err != 0)
		return ctl_fail(CTL_REFUSED, "worker %lu: %s", index, err == -EBUSY ? "it is alive" : strerror(-err));
	out_begin(&c->out, "Reap");
	out_count(&c->out, "slots", NULL, sum.slots);
	out_count(&c->out, "probes", NULL, sum.probes);
	out_count(&c->out, "waiting", NULL, sum.waiting);
	out_note(&c->out, "worker %lu: %u slots, %u probes, %u waiters taken back\n", index, sum.slots, sum.probes,
	         sum.waiting);
	out_end(&c->out);
	return CTL_OK;
}

static enum ctl_exit drain(struct ctl *c, bool on)
{
	struct rhc_admin a;
	enum ctl_exit rc = begin(c, &a);
	int err;

	if (rc != CTL_OK)
		return rc;
	err = rhc_admin_drain(&a, RHC_WORKERS_MAX, on, c->reason, c->now_ms);
	rhc_admin_end(&a);
	if (err != 0)
		return ctl_fail(CTL_REFUSED, "%s: %s", on ? "drain" : "undrain", strerror(-err));
	out_begin(&c->out, "Drain");
	out_flag(&c->out, "draining", NULL, on);
	if (!c->quiet)
		out_note(&c->out, on ? "asked to drain\n" : "asked to take calls again\n");
	out_end(&c->out);
	return CTL_OK;
}

enum ctl_exit cmd_drain(struct ctl *c)
{
	return drain(c, true);
}

enum ctl_exit cmd_undrain(struct ctl *c)
{
	return drain(c, false);
}

/* The checker is the sidecar's: the binary beside this one, else the one on the path. */
enum ctl_exit cmd_config_check(struct ctl *c)
{
	char self[512], beside[560];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *json = c->form == OUT_JSON ? "json" : "text";
	char *slash;

	if (c->n_args != 1)
		return ctl_fail(CTL_USAGE, "config check needs a file");
	self[n > 0 ? n : 0] = 0;
	slash = strrchr(self, '/');
	if (slash) {
		*slash = 0;
		snprintf(beside, sizeof(beside), "%s/rhc-sidecar", self);
		execl(beside, "rhc-sidecar", "--check-config", c->args[0], "-o", json, (char *)NULL);
	}
	execlp("rhc-sidecar", "rhc-sidecar", "--check-config", c->args[0], "-o", json, (char *)NULL);
	return ctl_fail(CTL_NO, "rhc-sidecar is not there to check with: %s", strerror(errno));
}
