/*
 * shm/layout.h - what lies where in the segment.
 *
 * Shape    header (4096) | desc[] | worker[W] | up[U] | slots[U][cap] | hints[U][cap/64] |
 *          win[U][W] | ctr[W+2][U] | wctr[W+1] | hist[W+1][U] | host[H] | ring[W+2]
 *          The last H of the U upstream records are claimed at run time, shm/host.h; host[i] is
 *          what up[U - H + i] has beside the others.
 *          Row W of ctr belongs to whoever holds the ADMIN byte, row W+1 is the baseline that a
 *          reset writes; row W of wctr is the supervisor's; row W of hist is the baseline; ring W
 *          is the supervisor's, ring W+1 ADMIN's.
 * Writers  said at each struct.  Header fields above ->crc are never stored to after publish.
 * Readers  address with the private copy of the header alone (struct rhc_segment.hdr).
 * Never    a pointer, a lock or a length that is believed.  Anything added needs RHC_ABI_MINOR,
 *          anything moved RHC_ABI_MAJOR; tests/shm/layout.golden makes a forgotten one fail.
 * See      shm/README.md, "Byte map".
 */
#ifndef RHC_SHM_LAYOUT_H
#define RHC_SHM_LAYOUT_H

#include <stdalign.h>

#include "shm/base.h"

#define RHC_MAGIC      "RHCSHM\r\n" /* eight bytes; damage by text mode shows */
#define RHC_ENDIAN     UINT32_C(0x01020304)
#define RHC_ABI_MAJOR  2
#define RHC_ABI_MINOR  0
#define RHC_HDR_SIZE   4096
#define RHC_HIST_BUCKETS 64
#define RHC_RING_LEN   256 /* records of one event ring, default */

enum { /* rhc_hdr.state */
	RHC_SEG_STATE_READY = 1,
	RHC_SEG_STATE_RETIRED = 2, /* a successor exists: readers reopen */
};

struct rhc_hdr {
	char magic[8];
	uint16_t abi_major, abi_minor;
	uint32_t endian;
	uint64_t layout_hash; /* of (struct, field, offset, size) of every struct here */
	uint64_t total_size;
	uint32_t hdr_size, page_size, line_size;
	uint32_t max_hosts;   /* of max_upstreams, the last ones */
	uint8_t boot_id[16];  /* CLOCK_MONOTONIC starts anew with each boot ... */
	uint64_t timens_ino;  /* ... and differs per time namespace */
	uint8_t uuid[16];     /* of this segment */
	uint64_t mono_base_ns, wall_base_ns; /* the same instant on both clocks, at creation */
	uint32_t max_workers, max_upstreams, slots_cap, win_buckets, hist_buckets, ring_len;
	uint32_t n_uctr, n_wctr, n_hist, n_desc; /* counters per row, histograms per row, descriptions */
	uint64_t off_desc, off_workers, off_up, off_slots, off_hints, off_win, off_ctr, off_wctr;
	uint64_t off_hist, off_hosts, off_ring;
	uint32_t crc; /* CRC-32C of all bytes above */
	/* Everything below changes after publish. */
	alignas(RHC_LINE) _Atomic uint32_t state;
	_Atomic uint32_t lifecycle;  /* MASTER: enum rhc_lifecycle, for display */
	_Atomic uint64_t cfg_gen;    /* MASTER: configuration generation in force */
	_Atomic uint64_t cfg_hash;   /* MASTER: of the configuration text, for display */
	_Atomic uint64_t cfg_ms;     /* MASTER: when it came into force */
	_Atomic uint64_t drain;      /* ADMIN: 1 = the operator asks the whole sidecar to drain */
	_Atomic uint64_t sup_pid;    /* MASTER, for display */
	_Atomic uint64_t sup_start_ms;
	_Atomic uint64_t sup_beat_ms; /* MASTER, each second: rhcctl shows a dead supervisor */
	alignas(RHC_LINE) _Atomic uint64_t host_pub; /* gen:32 | owner+1:16 | upstream+1:16, shm/host.h */
	_Atomic uint64_t host_policy[6];             /* MASTER: what a host that is claimed gets */
	alignas(RHC_LINE) char version[32]; /* MASTER, for display; always ends with 0 */
	char engine[32];                    /* "io_uring", "epoll (seccomp)" */
	char preset[32];
	char instance[64];
};

enum rhc_lifecycle {
	RHC_LIFE_STARTING,
	RHC_LIFE_READY,
	RHC_LIFE_DRAINING,
	RHC_LIFE_STOPPED,
};

/*
 * Name, kind and place of one counter or histogram, so that any rhcctl of this major can show it.
 */
struct rhc_desc {
	char name[32];
	char group[48]; /* metric without "rhc_" and suffix */
	char label[32];
	uint8_t kind;   /* enum rhc_kind */
	uint8_t where;  /* enum rhc_where */
	uint16_t index; /* word in its row, or histogram in its row */
	uint32_t base;  /* histogram: first edge in ns */
	uint8_t pad[8];
};
_Static_assert(sizeof(struct rhc_desc) == 128, "two lines a description");

enum rhc_kind { RHC_KIND_COUNTER, RHC_KIND_NS, RHC_KIND_BYTES, RHC_KIND_OPENED, RHC_KIND_CLOSED,
	RHC_KIND_GAUGE, RHC_KIND_HIST };
enum rhc_where { RHC_WHERE_UP, RHC_WHERE_UPERR, RHC_WHERE_WORKER, RHC_WHERE_HIST };

/*
 * One worker index.  Writers: the worker alone, but for want_exit and restarts (supervisor or
 * ADMIN) and for a reaper that holds the index's lock byte.
 */
struct rhc_worker_rec {
	alignas(RHC_LINE) _Atomic uint64_t word; /* inc:32 | enum rhc_worker_state */
	_Atomic uint64_t beat_ms;                /* now_ms of the last loop turn */
	_Atomic uint64_t loops;
	_Atomic uint64_t cfg_gen;                /* configuration generation it has adopted */
	_Atomic uint64_t phase;                  /* enum rhc_worker_phase, for display */
	_Atomic uint64_t conns, in_flight;       /* for display */
	_Atomic uint64_t pad0;
	alignas(RHC_LINE) _Atomic uint64_t want_exit; /* enum rhc_want, written by supervisor or ADMIN */
	_Atomic uint64_t restarts;                    /* supervisor: how often this index was replaced */
	_Atomic uint64_t last_end;                    /* supervisor: wait status:16 | now_ms:48 */
	uint64_t pad1[5];
	alignas(RHC_LINE) _Atomic uint64_t pid; /* for display only, never for liveness */
	_Atomic uint64_t pidns, start_ms, generation;
	char version[32];
	uint64_t pad2[8];
};
_Static_assert(sizeof(struct rhc_worker_rec) == 256, "a worker record is four lines");

/* Free text beside an override, written under ADMIN, seq as in an event record. */
struct rhc_note {
	alignas(RHC_LINE) _Atomic uint64_t seq;
	_Atomic uint64_t who;  /* uid:32 | pid:32 */
	_Atomic uint64_t when; /* verb:8 | at_ms:56 */
	_Atomic uint64_t text[RHC_REASON_MAX / 8];
};
_Static_assert(sizeof(struct rhc_note) == 64, "a note is one line");

/* One upstream.  A healthy request reads lines 1 and 2, writes none. */
struct rhc_up {
	/* line 0: identity, written by MASTER */
	alignas(RHC_LINE) _Atomic uint64_t id; /* gen:32 | owner+1:16 | enum rhc_up_state:16 */
	uint64_t name_hash;
	char name[RHC_NAME_MAX + 1];
	/* line 1: read by every request, written rarely */
	alignas(RHC_LINE) _Atomic uint64_t brk; /* state:3 | gen:20 | arg:41, shm/breaker.h */
	_Atomic uint64_t ctl;                   /* limit:20 | hw:20 | epoch:24, shm/bulkhead.h */
	_Atomic uint64_t policy[6];             /* MASTER, shm/upstream.h */
	/* line 2: written only when saturated */
	alignas(RHC_LINE) _Atomic uint64_t waitmask; /* bit w: worker w has waiters */
	_Atomic uint64_t ticket;                     /* fetch_add */
	_Atomic uint64_t order;                      /* epoch:62 | mode:2, shm/calm.h */
	uint64_t pad0[5];
	/* line 3: half-open permits */
	alignas(RHC_LINE) _Atomic uint64_t permit[RHC_PROBES_MAX];
	/* line 4: rare words beside the facts */
	alignas(RHC_LINE) _Atomic uint64_t outage; /* since_ms:41 | gen:20 | reopens:3, valid by gen */
	_Atomic uint64_t trip;                     /* gen:20 | reason:4 | failures:20 | total:20 */
	_Atomic uint64_t last_failure;             /* error:8 | worker:8 | at_ms:48 */
	_Atomic uint64_t limit_ovr;                /* ADMIN: active:1 | limit:20 | until_ms:43 */
	_Atomic uint64_t retired_gen;              /* MASTER: cfg_gen that no longer has it */
	_Atomic uint64_t health;                   /* reachable:2 | error:8 | took_ms:22 | at_s:32 */
	uint64_t pad1[2];
	/* lines 5, 6: who overrode the breaker, the limit */
	struct rhc_note note[2];
	/* lines 7..14: one word per worker, single writer */
	alignas(RHC_LINE) _Atomic uint64_t head[RHC_WORKERS_MAX]; /* waiters:16 | oldest ticket:48 */
	/*
	 * lines 15..22: for display, when the oldest waiter of worker w began to wait; single
	 * writer
	 */
	_Atomic uint64_t since_ms[RHC_WORKERS_MAX];
};
_Static_assert(sizeof(struct rhc_up) == 23 * RHC_LINE, "an upstream is twenty-three lines");

/*
 * What a record that is claimed for a host has beside it.  hash, since_ms and text are written by
 * the claimer before anybody can find it; word w of pin by worker w alone.
 */
struct rhc_host {
	alignas(RHC_LINE) _Atomic uint64_t hash;
	_Atomic uint64_t since_ms; /* when it was claimed */
	uint64_t pad0[6];
	_Atomic uint64_t text[(RHC_HOST_MAX + 1) / 8]; /* "host:port" */
	alignas(RHC_LINE) _Atomic uint64_t pin[RHC_WORKERS_MAX]; /* last used, ms:63 | in use:1; at rhc_pin_at(w) */
};
_Static_assert(sizeof(struct rhc_host) == 14 * RHC_LINE, "a host is fourteen lines");

/* Neighbouring workers on different lines: each stores its word twice per call. */
static inline uint32_t rhc_pin_at(uint32_t worker)
{
	return worker % 8 * 8 + worker / 8;
}

/* Window buckets of one worker at one upstream, single writer.  epoch:24 | total:20 | bad:20 */
struct rhc_win {
	alignas(RHC_LINE) _Atomic uint64_t rate[RHC_WIN_BUCKETS];
	_Atomic uint64_t slow[RHC_WIN_BUCKETS];
};

/* Single writer.  No count: it is the sum of the buckets, so that both always agree. */
struct rhc_hist {
	alignas(RHC_LINE) _Atomic uint64_t bucket[RHC_HIST_BUCKETS];
	_Atomic uint64_t sum_ns;
	uint64_t pad[7];
};
_Static_assert(sizeof(struct rhc_hist) == 576, "a histogram is nine lines");

/* One event; seq odd while it is written.  Single writer per ring. */
struct rhc_event_rec {
	alignas(RHC_LINE) _Atomic uint64_t seq;
	_Atomic uint64_t mono_ns;
	_Atomic uint64_t what; /* type:16 | upstream+1:16 | worker:8 | inc:24 */
	_Atomic uint64_t arg[5];
};
_Static_assert(sizeof(struct rhc_event_rec) == 64, "an event is one line");

struct rhc_ring {
	alignas(RHC_LINE) _Atomic uint64_t head; /* events ever written */
	uint64_t pad[7];
	struct rhc_event_rec rec[]; /* hdr.ring_len, a power of two */
};

/* What a segment is made for; 0 = default. */
struct rhc_shape {
	uint32_t workers;   /* indices, 1..64; at least twice the worker count, for reloads */
	uint32_t upstreams; /* records declared by the configuration */
	uint32_t hosts;     /* records beside them that are claimed at run time; 0 = none */
	uint32_t slots;     /* largest limit that will ever be needed; rounded up to a power of two >= 64 */
	uint32_t ring_len;  /* events per ring, a power of two, default RHC_RING_LEN */
};

/*
 * Fill the geometry of *hdr (sizes, counts, offsets, hash, magic, version) for this shape.
 * Errors   -ERANGE  a figure of the shape is out of its limits.
 */
int rhc_layout_fill(struct rhc_hdr *hdr, const struct rhc_shape *shape);

/*
 * True if the geometry is what rhc_layout_fill() makes of its own counts: aligned, in range,
 * disjoint.
 */
bool rhc_layout_valid(const struct rhc_hdr *hdr);

/* Over every (struct, field, offset, size) and every table; any difference changes it. */
uint64_t rhc_layout_hash(void);

/* Walk the same list: the golden file of the tests is made from it. */
void rhc_layout_walk(void (*each)(void *arg, const char *strct, const char *field, size_t offset,
                                  size_t size),
                     void *arg);

uint32_t rhc_crc32c(uint32_t crc, const void *data, size_t len);

/* Bytes of one row, by the header's own counts. */
static inline size_t rhc_ctr_row(const struct rhc_hdr *h)
{
	return ((size_t)h->n_uctr * 8 + RHC_LINE - 1) & ~(size_t)(RHC_LINE - 1);
}

static inline size_t rhc_wctr_row(const struct rhc_hdr *h)
{
	return ((size_t)h->n_wctr * 8 + RHC_LINE - 1) & ~(size_t)(RHC_LINE - 1);
}

static inline size_t rhc_hist_row(const struct rhc_hdr *h)
{
	return (size_t)h->n_hist * sizeof(struct rhc_hist);
}

static inline size_t rhc_ring_size(const struct rhc_hdr *h)
{
	return sizeof(struct rhc_ring) + (size_t)h->ring_len * sizeof(struct rhc_event_rec);
}

/*
 * Where the word of slot i lies in its upstream's array: neighbours are put on different cache
 * lines, so a small limit does not make all workers fight for one line.
 */
static inline uint32_t rhc_slot_at(uint32_t cap, uint32_t i)
{
	uint32_t lines = cap / 8; /* a power of two: no division */

	return (i & (lines - 1)) * 8 + (i >> __builtin_ctz(lines) & 7);
}

#endif
