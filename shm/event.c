#include "shm/event.h"

#include <string.h>

#include "shm/note.h"

static const struct {
	const char *name, *component;
	enum rhc_severity severity;
} types[] = {
#define EVENT(name, component, severity, help) { #name, #component, RHC_SEV_##severity },
#include "shm/events.def"
#undef EVENT
};

const char *rhc_event_name(enum rhc_event_type type)
{
	return (unsigned)type < RHC_EV_COUNT ? types[type].name : "unknown";
}

const char *rhc_event_component(enum rhc_event_type type)
{
	return (unsigned)type < RHC_EV_COUNT ? types[type].component : "unknown";
}

enum rhc_severity rhc_event_severity(enum rhc_event_type type)
{
	return (unsigned)type < RHC_EV_COUNT ? types[type].severity : RHC_SEV_ERR;
}

void rhc_ring_writer_init(struct rhc_ring_writer *rw, const struct rhc_segment *seg, uint32_t ring,
                          uint32_t inc)
{
	uint64_t seq, head;

	rw->ring = rhc_seg_ring(seg, ring);
	rw->mask = seg->hdr.ring_len - 1;
	rw->worker = ring;
	rw->inc = inc;
	head = atomic_load_explicit(&rw->ring->head, memory_order_acquire);
	/*
	 * The predecessor died between its last record and the head, or in a record: step over it, so
	 * that a number is never used twice.  An odd record keeps its odd seq for ever: readers call it
	 * void.
	 */
	seq = atomic_load_explicit(&rw->ring->rec[head & rw->mask].seq, memory_order_acquire);
	if (seq == 2 * head + 1 || seq == 2 * head + 2)
		atomic_store_explicit(&rw->ring->head, ++head, memory_order_release);
	rw->head = head;
}

void rhc_event_write(struct rhc_ring_writer *rw, const struct rhc_event *ev)
{
	struct rhc_event_rec *rec = &rw->ring->rec[rw->head & rw->mask];
	uint64_t upstream = ev->upstream == RHC_NO_UPSTREAM ? 0 : (uint64_t)ev->upstream + 1;

	/*
	 * Odd before, even after, each payload word release: a reader that acquires a new payload word
	 * also sees the odd seq that was stored before it, so its second look at seq differs from its
	 * first.
	 */
	RHC_FI("event.begin");
	atomic_store_explicit(&rec->seq, 2 * rw->head + 1, memory_order_relaxed);
	RHC_FI("event.odd");
	atomic_store_explicit(&rec->mono_ns, ev->mono_ns, memory_order_release);
	atomic_store_explicit(&rec->what,
	                      rhc_field(ev->type, 48, 16) | rhc_field(upstream, 32, 16) |
	                              rhc_field(rw->worker, 24, 8) | rhc_field(rw->inc, 0, 24),
	                      memory_order_release);
	for (unsigned i = 0; i < RHC_COUNT(ev->arg); i++)
		atomic_store_explicit(&rec->arg[i], ev->arg[i], memory_order_release);
	RHC_FI("event.payload");
	atomic_store_explicit(&rec->seq, 2 * rw->head + 2, memory_order_release);
	RHC_FI("event.even");
	rw->head++;
	atomic_store_explicit(&rw->ring->head, rw->head, memory_order_release);
}

void rhc_event_put(struct rhc_ring_writer *rw, enum rhc_event_type type, uint32_t upstream,
                   uint64_t now_ms, const uint64_t arg[5])
{
	struct rhc_event ev = { .type = type, .upstream = upstream, .mono_ns = now_ms * 1000000 };

	if (arg)
		memcpy(ev.arg, arg, sizeof(ev.arg));
	rhc_event_write(rw, &ev);
}

void rhc_event_text(struct rhc_ring_writer *rw, const char *text, uint64_t now_ms)
{
	uint64_t arg[RHC_REASON_MAX / 8];

	if (text == NULL || *text == 0)
		return;
	rhc_text_pack(text, arg);
	rhc_event_put(rw, RHC_EV_text, RHC_NO_UPSTREAM, now_ms, arg);
}

uint64_t rhc_event_head(const struct rhc_segment *seg, uint32_t ring)
{
	return atomic_load_explicit(&rhc_seg_ring(seg, ring)->head, memory_order_acquire);
}

static bool plausible(const struct rhc_segment *seg, const struct rhc_event *ev)
{
	return (unsigned)ev->type < RHC_EV_COUNT && ev->type != RHC_EV_none &&
	       (ev->upstream == RHC_NO_UPSTREAM || ev->upstream < seg->hdr.max_upstreams) &&
	       ev->worker < seg->hdr.max_workers + 2;
}

enum rhc_event_read rhc_event_read(const struct rhc_segment *seg, uint32_t ring, uint64_t number,
                                   struct rhc_event *ret)
{
	struct rhc_ring *r = rhc_seg_ring(seg, ring);
	const struct rhc_event_rec *rec = &r->rec[number & (seg->hdr.ring_len - 1)];
	uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
	uint64_t seq = atomic_load_explicit(&rec->seq, memory_order_acquire), what, up;
	struct rhc_event ev;

	if (number >= head)
		return RHC_EVENT_NONE;
	if (head - number > seg->hdr.ring_len)
		return RHC_EVENT_LOST;
	if (seq == 2 * number + 1)
		return RHC_EVENT_VOID; /* below the head and still odd: its writer is dead */
	if (seq != 2 * number + 2)
		return RHC_EVENT_LOST;
	ev.mono_ns = atomic_load_explicit(&rec->mono_ns, memory_order_acquire);
	what = atomic_load_explicit(&rec->what, memory_order_acquire);
	for (unsigned i = 0; i < RHC_COUNT(ev.arg); i++)
		ev.arg[i] = atomic_load_explicit(&rec->arg[i], memory_order_acquire);
	/* After the payload by its acquire loads; see rhc_event_write(). */
	if (atomic_load_explicit(&rec->seq, memory_order_relaxed) != seq)
		return RHC_EVENT_LOST;
	up = rhc_bits(what, 32, 16);
	ev.type = (enum rhc_event_type)rhc_bits(what, 48, 16);
	ev.upstream = up ? (uint32_t)up - 1 : RHC_NO_UPSTREAM;
	ev.worker = (uint32_t)rhc_bits(what, 24, 8);
	ev.inc = (uint32_t)rhc_bits(what, 0, 24);
	if (!plausible(seg, &ev))
		return RHC_EVENT_INVALID;
	*ret = ev;
	return RHC_EVENT_OK;
}

void rhc_event_text_of(const struct rhc_event *ev, char ret_text[RHC_REASON_MAX + 1])
{
	rhc_text_unpack(ev->arg, ret_text);
}
