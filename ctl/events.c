/* rhcctl events: the rings of all workers, merged by time. */
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"

enum { FOLLOW_MS = 100 };

/* RFC 3339 with milliseconds. */
static void stamp(struct ctl *c, uint64_t mono_ns, char text[32])
{
	uint64_t wall = rhc_view_wall_ns(&c->seg, mono_ns);
	time_t s = (time_t)(wall / 1000000000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, 32 - n, ".%03uZ", (unsigned)(wall / 1000000 % 1000));
}

static const char *severity(enum rhc_severity s)
{
	return s == RHC_SEV_ERR ? "ERROR" : s == RHC_SEV_WARN ? "WARN" : "INFO";
}

/* The rest of them; the reason stands alone where there is nothing to say. */
static void describe_more(const struct rhc_event *ev, const char *reason, char *out, size_t cap)
{
	static const char *const life[] = { "starting", "ready", "draining", "stopped" };
	const uint64_t *a = ev->arg;

	switch (ev->type) {
	case RHC_EV_lifecycle:
		snprintf(out, cap, "%s->%s", life[a[0] & 3], life[a[1] & 3]);
		break;
	case RHC_EV_worker_hang:
		snprintf(out, cap, "pid=%u silent_ms=%u", (unsigned)a[0], (unsigned)a[1]);
		break;
	case RHC_EV_queue_full:
		snprintf(out, cap, "waiting=%u/%u", (unsigned)a[0], (unsigned)a[1]);
		break;
	case RHC_EV_config:
		snprintf(out, cap, "generation=%u hash=%016llx", (unsigned)a[0], (unsigned long long)a[1]);
		break;
	case RHC_EV_config_refused:
		snprintf(out, cap, "errors=%u", (unsigned)a[0]);
		break;
	case RHC_EV_up_added:
		snprintf(out, cap, "limit=%u", (unsigned)a[1]);
		break;
	case RHC_EV_segment_new:
		snprintf(out, cap, "bytes=%llu set_aside=%s", (unsigned long long)a[0],
			 rhc_refuse_name((enum rhc_refuse)a[1]));
		break;
	case RHC_EV_segment_adopted:
		snprintf(out, cap, "probes_taken_back=%u slots_taken_back=%u", (unsigned)a[0], (unsigned)a[1]);
		break;
	case RHC_EV_slot_freed:
	case RHC_EV_repaired:
	case RHC_EV_reset:
		snprintf(out, cap, "uid=%u pid=%u%s%s", (unsigned)(a[0] >> 32), (unsigned)a[0],
			 reason[0] ? " reason=" : "", reason);
		break;
	case RHC_EV_drain:
		snprintf(out, cap, "%s uid=%u pid=%u%s%s", a[1] ? "drain" : "undrain", (unsigned)(a[0] >> 32),
			 (unsigned)a[0], reason[0] ? " reason=" : "", reason);
		break;
	case RHC_EV_health:
		snprintf(out, cap, "%s%s%s ms=%u", a[0] ? "reachable" : "unreachable", a[0] ? "" : " error=",
			 a[0] ? "" : rhc_error_name((unsigned)a[1]), (unsigned)a[2]);
		break;
	default:
		snprintf(out, cap, "%s", reason);
		break;
	}
}

/* What the arguments of an event mean, for the ones people look for. */
static void describe(const struct rhc_event *ev, const char *reason, char *out, size_t cap)
{
	struct rhc_breaker was, now;

	switch (ev->type) {
	case RHC_EV_brk_open:
	case RHC_EV_brk_half_open:
	case RHC_EV_brk_closed:
	case RHC_EV_override_ended:
		was = rhc_breaker_unpack(ev->arg[0], NULL);
		now = rhc_breaker_unpack(ev->arg[1], NULL);
		if (ev->type == RHC_EV_brk_open)
			snprintf(out, cap, "%s->%s %s failures=%u last=%s", rhc_breaker_name(was.state),
			         rhc_breaker_name(now.state), rhc_trip_name((enum rhc_trip)ev->arg[2]),
			         (unsigned)(ev->arg[3] >> 32), rhc_error_name((unsigned)ev->arg[4]));
		else
			snprintf(out, cap, "%s->%s", rhc_breaker_name(was.state), rhc_breaker_name(now.state));
		break;
	case RHC_EV_brk_override:
	case RHC_EV_limit_override:
	case RHC_EV_override_done:
	case RHC_EV_override_lost:
		snprintf(out, cap, "%s uid=%u pid=%u%s%s", rhc_verb_name((enum rhc_verb)ev->arg[4]),
		         (unsigned)(ev->arg[0] >> 32), (unsigned)ev->arg[0], reason[0] ? " reason=" : "", reason);
		break;
	case RHC_EV_worker_start:
	case RHC_EV_worker_stop:
		snprintf(out, cap, "pid=%u", (unsigned)ev->arg[0]);
		break;
	case RHC_EV_worker_restart:
		snprintf(out, cap, "pid=%u status=%u delay_ms=%u", (unsigned)ev->arg[0], (unsigned)ev->arg[1],
		         (unsigned)ev->arg[2]);
		break;
	case RHC_EV_worker_reaped:
		snprintf(out, cap, "slots=%u probes=%u tickets=%u pid=%u", (unsigned)ev->arg[0], (unsigned)ev->arg[1],
		         (unsigned)ev->arg[2], (unsigned)ev->arg[3]);
		break;
	case RHC_EV_saturated:
		snprintf(out, cap, "in_use=%u/%u", (unsigned)ev->arg[0], (unsigned)ev->arg[1]);
		break;
	case RHC_EV_limit:
		snprintf(out, cap, "%u->%u", (unsigned)ev->arg[0], (unsigned)ev->arg[1]);
		break;
	default:
		describe_more(ev, reason, out, cap);
		break;
	}
}

static bool wanted(struct ctl *c, const struct rhc_event *ev, const char *name)
{
	if (c->since_ms && ev->mono_ns / 1000000 + c->since_ms < c->now_ms)
		return false;
	if (c->upstream && strcmp(name, c->upstream) != 0)
		return false;
	return !c->type || strcmp(rhc_event_component(ev->type), c->type) == 0 ||
	       strcmp(rhc_event_name(ev->type), c->type) == 0;
}

static bool known_type(const char *type)
{
	for (unsigned i = 0; i < RHC_EV_COUNT; i++) {
		if (strcmp(rhc_event_name((enum rhc_event_type)i), type) == 0 ||
		    strcmp(rhc_event_component((enum rhc_event_type)i), type) == 0)
			return true;
	}
	return false;
}

static void print_event(struct ctl *c, const struct rhc_event *ev, const char *reason)
{
	char time[32], name[RHC_NAME_MAX + 1], what[160];
	static const char *const severities[] = { "info", "warn", "error" }; /* as /api/v1/events */
	uint32_t workers = c->seg.hdr.max_workers;
	struct out *o = &c->out;

	rhc_view_event_upstream(&c->seg, ev, name);
	if (!wanted(c, ev, name))
		return;
	stamp(c, ev->mono_ns, time);
	describe(ev, reason, what, sizeof(what));
	if (o->form != OUT_JSON) { /* a stream: no table can be laid out before its end */
		fprintf(o->to, "%s %-5s %-8s %-16s %-20s %s\n", time, severity(rhc_event_severity(ev->type)),
		        rhc_event_component(ev->type), rhc_event_name(ev->type), name[0] ? name : "-", what);
		return;
	}
	out_begin(o, "Event");
	out_text(o, "time", NULL, time);
	out_text(o, "severity", NULL, severities[rhc_event_severity(ev->type)]);
	out_text(o, "component", NULL, rhc_event_component(ev->type));
	out_text(o, "type", NULL, rhc_event_name(ev->type));
	out_text(o, "upstream", NULL, name[0] ? name : NULL);
	if (ev->worker < workers)
		out_count(o, "worker", NULL, ev->worker);
	else
		out_text(o, "worker", NULL, ev->worker == workers ? "supervisor" : "admin");
	out_text(o, "message", NULL, what);
	out_text(o, "reason", NULL, reason[0] ? reason : NULL);
	out_end(o);
}

enum ctl_exit cmd_events(struct ctl *c)
{
	struct rhc_view_cursor cursor;
	struct rhc_event ev;
	char reason[RHC_REASON_MAX + 1];
	uint64_t until = c->timeout_ms && c->follow && c->for_ms ? ctl_now_ms() + c->for_ms : UINT64_MAX;

	if (c->type && !known_type(c->type))
		return ctl_fail(CTL_USAGE, "--type: there are no events of type '%s'", c->type);
	if (c->upstream && ctl_find(c, c->upstream) < 0)
		return CTL_REFUSED;
	rhc_view_events_begin(&c->seg, c->follow && !c->since_ms, &cursor);
	for (;;) {
		while (rhc_view_events_next(&c->seg, &cursor, &ev, reason))
			print_event(c, &ev, reason);
		fflush(c->out.to);
		if (!c->follow || ctl_now_ms() >= until || ferror(c->out.to))
			break;
		if (!rhc_segment_current(&c->seg))
			return ctl_fail(CTL_ABSENT, "%s is gone or was replaced", c->seg.path);
		usleep(FOLLOW_MS * 1000);
	}
	if (cursor.lost && !c->quiet)
		fprintf(stderr, "rhcctl: %llu older events were overwritten\n", (unsigned long long)cursor.lost);
	return CTL_OK;
}
