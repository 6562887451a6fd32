/*
 * shm/base.h - the few macros, limits and small inlines that shm, ctl and sidecar share.
 *
 * Never    depends on anything but libc; holds no state.
 * Time     now_ms everywhere in shm is CLOCK_MONOTONIC in milliseconds, absolute (not relative to
 *          the segment).  A segment of another boot or another time namespace is refused, so the
 *          figure means the same to every process that maps it.  now_ns is the same clock in
 *          nanoseconds.
 */
#ifndef RHC_SHM_BASE_H
#define RHC_SHM_BASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#define RHC_LINE 64 /* cache line of every target we build for */

/* Hard limits of the segment.  Configuration keys may be narrower, never wider. */
#define RHC_WORKERS_MAX   64    /* one bit each in rhc_up.waitmask */
#define RHC_UPSTREAMS_MAX 1024  /* records of the segment, those claimed at run time included */
#define RHC_SLOTS_MAX     16384 /* slot words per upstream, a power of two */
#define RHC_LIMIT_MAX     10000 /* max_concurrency */
#define RHC_WAITING_MAX   65535 /* waiters of one worker at one upstream: 16 bits in its head word */
#define RHC_PROBES_MAX    8     /* half_open_max_calls */
#define RHC_NAME_MAX      47    /* bytes of an upstream name; longer is a configuration error */
#define RHC_HOST_MAX      319   /* bytes of "host:port" of a record that is claimed at run time */
#define RHC_REASON_MAX    40    /* bytes of the reason of an override; longer is cut at a UTF-8 border */
#define RHC_PATH_MAX      256   /* bytes of the path of a segment, the final 0 included */
#define RHC_WIN_BUCKETS   16    /* buckets of a failure-rate or slow-call window */

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the segment is little-endian");
_Static_assert(sizeof(void *) == 8, "64-bit only");

#define RHC_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define RHC_PRINTF(at, args) __attribute__((format(printf, at, args)))

/* auto_close int fd = -1;  closes at the end of the scope */
static inline void rhc_auto_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define auto_close __attribute__((cleanup(rhc_auto_close)))

static inline int rhc_take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* len bits of word, from bit at upwards */
static inline uint64_t rhc_bits(uint64_t word, unsigned at, unsigned len)
{
	return word >> at & ((UINT64_C(1) << len) - 1);
}

static inline uint64_t rhc_field(uint64_t value, unsigned at, unsigned len)
{
	return (value & ((UINT64_C(1) << len) - 1)) << at;
}

static inline uint64_t rhc_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t rhc_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* A word of a protocol: seq_cst, a plain load on x86. */
static inline uint64_t rhc_load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_seq_cst);
}

/* Of a healthy path: what it hands over stays in the caller's registers. */
#define rhc_inline static inline __attribute__((always_inline))

#define rhc_likely(x)   __builtin_expect(!!(x), 1)
#define rhc_unlikely(x) __builtin_expect(!!(x), 0)

/* FNV-1a, for names and the layout hash.  Not for hostile input. */
static inline uint64_t rhc_hash(uint64_t seed, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		seed = (seed ^ p[i]) * UINT64_C(0x100000001b3);
	return seed;
}
#define RHC_HASH_SEED UINT64_C(0xcbf29ce484222325)

/*
 * A named fault point stands before each store into the segment.  Compiled in only with RHC_FAULTS:
 * a test sets rhc_fault_hook and dies, stops or yields there.  Otherwise it is nothing at all.
 */
#ifdef RHC_FAULTS
extern void (*rhc_fault_hook)(const char *name);
#define RHC_FI(name)                          \
	do {                                  \
		if (rhc_fault_hook)           \
			rhc_fault_hook(name); \
	} while (0)
#else
#define RHC_FI(name) ((void)0)
#endif

#endif
