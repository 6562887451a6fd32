/*
 * shm/window.h - rolling windows of results: 16 buckets per worker and upstream, one word each.
 *
 * Shape    epoch:24 | total:20 | bad:20; a bucket of a new epoch overwrites the old one in one
 *          store.
 * Writers  the worker.  Readers sum over all workers, and only when a failure or slow call arrives.
 * Closing  clears nothing: buckets that began before the breaker closed are ignored.
 * Crash    a dead worker's buckets are true history and expire by their epoch.
 */
#ifndef RHC_SHM_WINDOW_H
#define RHC_SHM_WINDOW_H

#include "shm/breaker.h"

/* Count one result in the own buckets.  Which rows are kept depends on the policy. */
void rhc_window_add(struct rhc_win *own, const struct rhc_policy *policy, enum rhc_outcome outcome,
                    uint64_t now_ms);

/* The buckets of now_ms under the policy words in force. */
void rhc_window_aim(struct rhc_bucket *ret, const struct rhc_up *up, struct rhc_win *own,
		    uint64_t now_ms);

/* Sum over `workers` rows, ignoring what began before b closed. */
void rhc_window_sum(const struct rhc_win *rows, uint32_t workers, const struct rhc_policy *policy,
                    const struct rhc_breaker *b, uint64_t now_ms, struct rhc_window *ret);

#endif
