#include "sidecar/admin/lists.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sidecar/admin/status.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/json.h"

struct entry {
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];
};

/* RFC 3339 with milliseconds. */
static void stamp(const struct rhc_segment *seg, uint64_t mono_ns, char text[40])
{
	uint64_t wall = rhc_view_wall_ns(seg, mono_ns);
	time_t s = (time_t)(wall / NS_PER_S);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, 40 - n, ".%03uZ", (unsigned)(wall / NS_PER_MS % 1000));
}

static bool wanted(const struct rhc_segment *seg, const struct lists_query *q,
		   const struct rhc_event *ev, uint64_t now_ns)
{
	char name[RHC_NAME_MAX + 1];

	if (q->has_since && ev->mono_ns + q->since_s * NS_PER_S < now_ns)
		return false;
	if (q->type[0] && strcmp(q->type, rhc_event_name(ev->type)) != 0 &&
	    strcmp(q->type, rhc_event_component(ev->type)) != 0)
		return false;
	if (!q->upstream[0])
		return true;
	rhc_view_event_upstream(seg, ev, name);
	return strcmp(name, q->upstream) == 0;
}

/* The last q->limit of them, in a ring; returns how many there were. */
static uint64_t collect(const struct rhc_segment *seg, const struct lists_query *q,
			struct entry *ring)
{
	uint64_t most = (uint64_t)(seg->hdr.max_workers + 2) * seg->hdr.ring_len, n = 0,
		 now_ns = clock_ns();
	struct rhc_view_cursor cursor;
	struct entry e;

	rhc_view_events_begin(seg, false, &cursor);
	for (uint64_t i = 0; i < most && rhc_view_events_next(seg, &cursor, &e.ev, e.text); i++) {
		if (wanted(seg, q, &e.ev, now_ns))
			ring[n++ % q->limit] = e;
	}
	return n;
}

static void details(struct json *j, const struct rhc_event *ev)
{
	switch (ev->type) {
	case RHC_EV_brk_open:
	case RHC_EV_brk_half_open:
	case RHC_EV_brk_closed:
	case RHC_EV_override_ended:
		json_str(j, "from", rhc_breaker_name(rhc_breaker_unpack(ev->arg[0], NULL).state));
		json_str(j, "to", rhc_breaker_name(rhc_breaker_unpack(ev->arg[1], NULL).state));
		if (ev->type == RHC_EV_brk_open)
			json_str(j, "error", rhc_error_name((unsigned)ev->arg[4]));
		return;
	case RHC_EV_limit:
		json_u64(j, "from", ev->arg[0]);
		json_u64(j, "to", ev->arg[1]);
		return;
	case RHC_EV_worker_start:
	case RHC_EV_worker_stop:
	case RHC_EV_worker_restart:
	case RHC_EV_worker_hang:
		json_u64(j, "pid", ev->arg[0]);
		return;
	case RHC_EV_worker_reaped:
		json_u64(j, "slots", ev->arg[0]);
		json_u64(j, "probes", ev->arg[1]);
		return;
	case RHC_EV_saturated:
		json_u64(j, "in_use", ev->arg[0]);
		json_u64(j, "limit", ev->arg[1]);
		return;
	default:
		return;
	}
}

static void event_json(struct json *j, const struct rhc_segment *seg, const struct entry *e)
{
	static const char *const severities[] = { "info", "warn", "error" };
	const struct rhc_event *ev = &e->ev;
	char time[40], name[RHC_NAME_MAX + 1];

	stamp(seg, ev->mono_ns, time);
	rhc_view_event_upstream(seg, ev, name);
	json_object(j, NULL);
	json_str(j, "time", time);
	json_str(j, "severity", severities[rhc_event_severity(ev->type)]);
	json_str(j, "component", rhc_event_component(ev->type));
	json_str(j, "type", rhc_event_name(ev->type));
	json_str(j, "upstream", name[0] ? name : NULL);
	if (ev->worker < seg->hdr.max_workers)
		json_u64(j, "worker", ev->worker);
	else
		json_str(j, "worker", ev->worker == seg->hdr.max_workers ? "supervisor" : "admin");
	details(j, ev);
	json_str(j, "reason", e->text[0] ? e->text : NULL);
	json_end(j);
}

void lists_events(struct admin *a, struct text *t, const struct lists_query *q)
{
	struct entry *ring = calloc(q->limit, sizeof(*ring));
	uint64_t n, first;
	struct json j;

	if (!ring || !status_begin(&j, t, "EventList")) {
		t->failed = true;
		free(ring);
		return;
	}
	n = collect(a->seg, q, ring);
	first = n > q->limit ? n - q->limit : 0;
	json_array(&j, "items");
	for (uint64_t i = first; i < n; i++)
		event_json(&j, a->seg, &ring[i % q->limit]);
	json_end(&j);
	status_end(&j, t);
	free(ring);
}
