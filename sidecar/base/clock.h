/*
 * sidecar/base/clock.h - what time it is.
 *
 * Shape   Monotonic nanoseconds for everything that is compared; wall-clock time only to be shown.
 *         In a worker engine_now() is cheaper: the clock taken once per turn.
 */
#ifndef RHC_SIDECAR_BASE_CLOCK_H
#define RHC_SIDECAR_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

enum { CLOCK_TEXT_SIZE = 25 }; /* "2026-11-23T13:13:59.042Z" and the final 0 */

/* CLOCK_MONOTONIC: the same clock in every process of this boot. */
static inline uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* CLOCK_REALTIME in nanoseconds since 1970. */
static inline uint64_t clock_wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* RFC 3339 in UTC with milliseconds; returns the length, CLOCK_TEXT_SIZE - 1. */
int clock_format(uint64_t wall_ns, char out[CLOCK_TEXT_SIZE]);

#endif
