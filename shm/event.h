/*
 * shm/event.h - what happened: a ring of 64-byte records per worker, one of the supervisor, one of
 * ADMIN.
 *
 * Writers  one per ring: the worker, the supervisor, the holder of the ADMIN byte; a reaper that
 *          holds a dead worker's byte writes that worker's ring.
 * Readers  any; they never store.  Lossy by design: the head tells how many were lost.
 * Order    writer: seq odd (relaxed), payload (release each), seq even (release), head (release).
 *          Reader: seq (acquire), payload (acquire each), seq again.  No fences: ThreadSanitizer
 *          does not model them.
 * Crash    a killed writer leaves at most one odd record, in its own ring; readers call it void.
 */
#ifndef RHC_SHM_EVENT_H
#define RHC_SHM_EVENT_H

#include "shm/segment.h"

enum rhc_event_type {
#define EVENT(name, component, severity, help) RHC_EV_##name,
#include "shm/events.def"
#undef EVENT
	RHC_EV_COUNT
};

enum rhc_severity { RHC_SEV_INFO, RHC_SEV_WARN, RHC_SEV_ERR };

#define RHC_NO_UPSTREAM UINT32_MAX

/* An event in private memory. */
struct rhc_event {
	enum rhc_event_type type;
	uint32_t upstream; /* or RHC_NO_UPSTREAM */
	uint32_t worker;   /* index; W the supervisor, W+1 ADMIN */
	uint32_t inc;
	uint64_t mono_ns;
	uint64_t arg[5];
};

struct rhc_ring_writer { /* private to the ring's one writer */
	struct rhc_ring *ring;
	uint64_t head;
	uint32_t mask;
	uint32_t worker;
	uint32_t inc;
};

/* Continue ring `ring` (worker index, W supervisor, W+1 ADMIN); a record left odd is voided. */
void rhc_ring_writer_init(struct rhc_ring_writer *rw, const struct rhc_segment *seg, uint32_t ring,
                          uint32_t inc);

/* ev->worker and ev->inc are set by the writer. */
void rhc_event_write(struct rhc_ring_writer *rw, const struct rhc_event *ev);

/* The short form. */
void rhc_event_put(struct rhc_ring_writer *rw, enum rhc_event_type type, uint32_t upstream,
                   uint64_t now_ms, const uint64_t arg[5]);

/* A follow-up record with up to RHC_REASON_MAX bytes of text; nothing for "" or NULL. */
void rhc_event_text(struct rhc_ring_writer *rw, const char *text, uint64_t now_ms);

enum rhc_event_read {
	RHC_EVENT_OK,
	RHC_EVENT_NONE,    /* not written yet */
	RHC_EVENT_LOST,    /* overwritten before or while it was read */
	RHC_EVENT_VOID,    /* its writer died in it */
	RHC_EVENT_INVALID, /* a type or an upstream that cannot be */
};

/* Event number `number` (0 = the first ever) of a ring.  *ret is set only for OK. */
enum rhc_event_read rhc_event_read(const struct rhc_segment *seg, uint32_t ring, uint64_t number,
                                   struct rhc_event *ret);

uint64_t rhc_event_head(const struct rhc_segment *seg, uint32_t ring);

/* The text of an RHC_EV_text record, cleaned of control bytes. */
void rhc_event_text_of(const struct rhc_event *ev, char ret_text[RHC_REASON_MAX + 1]);

const char *rhc_event_name(enum rhc_event_type type);      /* "brk_open" */
const char *rhc_event_component(enum rhc_event_type type); /* "breaker" */
enum rhc_severity rhc_event_severity(enum rhc_event_type type);

#endif
