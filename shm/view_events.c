/* Events of all rings, merged by time. */
#include <string.h>

#include "shm/view.h"

static uint32_t rings(const struct rhc_segment *seg)
{
	return seg->hdr.max_workers + 2;
}

void rhc_view_events_begin(const struct rhc_segment *seg, bool only_new,
			   struct rhc_view_cursor *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint32_t ring = 0; ring < rings(seg); ring++) {
		uint64_t head = rhc_event_head(seg, ring), len = seg->hdr.ring_len;

		ret->next[ring] = only_new ? head : head > len ? head - len : 0;
	}
}

/* The next readable event of one ring, stepping over what is lost or void.  Bounded by the ring. */
static bool peek(const struct rhc_segment *seg, struct rhc_view_cursor *cursor, uint32_t ring,
                 struct rhc_event *ret)
{
	for (uint32_t tries = 0; tries < 2 * seg->hdr.ring_len; tries++) {
		uint64_t head = rhc_event_head(seg, ring), len = seg->hdr.ring_len;

		if (head > len && cursor->next[ring] < head - len) {
			cursor->lost += head - len - cursor->next[ring];
			cursor->next[ring] = head - len;
		}
		switch (rhc_event_read(seg, ring, cursor->next[ring], ret)) {
		case RHC_EVENT_OK:
			return true;
		case RHC_EVENT_NONE:
			return false;
		case RHC_EVENT_LOST:
			cursor->lost++;
			break;
		default:
			cursor->invalid++;
			break;
		}
		cursor->next[ring]++;
	}
	return false;
}

bool rhc_view_events_next(const struct rhc_segment *seg, struct rhc_view_cursor *cursor,
                          struct rhc_event *ret, char ret_text[RHC_REASON_MAX + 1])
{
	uint32_t best = rings(seg);
	struct rhc_event ev;

	for (uint32_t ring = 0; ring < rings(seg); ring++) {
		if (peek(seg, cursor, ring, &ev) &&
		    (best == rings(seg) || ev.mono_ns < ret->mono_ns)) {
			best = ring;
			*ret = ev;
		}
	}
	ret_text[0] = 0;
	if (best == rings(seg))
		return false;
	cursor->next[best]++;
	/* The text record is written right behind its event, by the same writer. */
	if (ret->type == RHC_EV_text) {
		rhc_event_text_of(ret, ret_text); /* its event is lost: better than nothing */
	} else if (rhc_event_read(seg, best, cursor->next[best], &ev) == RHC_EVENT_OK &&
	           ev.type == RHC_EV_text) {
		rhc_event_text_of(&ev, ret_text);
		cursor->next[best]++;
	}
	return true;
}

void rhc_view_event_upstream(const struct rhc_segment *seg, const struct rhc_event *ev,
                             char ret_name[RHC_NAME_MAX + 1])
{
	ret_name[0] = 0;
	if (ev->upstream >= seg->hdr.max_upstreams)
		return;
	if (rhc_seg_is_host(seg, ev->upstream) &&
	    ev->mono_ns / 1000000 < rhc_load(&rhc_seg_host(seg, ev->upstream)->since_ms))
		return; /* of the host that had it before */
	rhc_upstream_name(seg, ev->upstream, ret_name);
}
