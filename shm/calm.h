/*
 * shm/calm.h - calm: while nobody looks for what others give back, a slot is given back by a plain
 * store.
 *
 * Why      A release must store before it looks whether somebody waits; a locked operation says so,
 *          and costs as much as taking the slot did.  It is needed only against somebody who has just
 *          begun to look.  So that one pays: it ends the calm with membarrier(2), once, for all.
 * Shape    rhc_up.order `epoch:62 | mode:2`, all changes by CAS, each calm has an epoch of its own.
 *            STRICT   releases are locked (also where membarrier is not allowed, and 0: at first)
 *            CALM     releases are plain stores
 *            LEAVING  calm no more, but one of them may not be seen yet
 *            PINNED   STRICT for good: rhcctl took a living worker's slot, or somebody cannot fence
 * Begins   rhc_calm_begin(), each second, by a worker that saw it STRICT and unchanged a second ago
 *          while nobody waits.  So a saturated upstream pays for one fence a second.
 * Ends     rhc_calm_end(), by whoever is about to rely on seeing what was given back.
 * Rule     The looker: own store (ticket on, hint off) -> rhc_calm_end() -> look at the slot.
 *          The releaser in CALM: read order -> free the slot -> read order again, fence if it differs
 *          -> look at hint and waitmask.  One of the two sees the other's store:
 *            order differs, or was not CALM: a locked operation stands between free and look, as ever
 *            order the same: this calm lasted from the first reading to the second.  The looker found
 *            it over after that: the fence came after the second reading, so the slot was free for it.
 *            Or before that: then its store is older than this calm, and the releaser sees it.
 *          tests/models/slot.pml with CALM: every interleaving, the store buffer and kill -9 included.
 * Crash    the word alone says all; who meets LEAVING ends it.  The kernel writes out what the dead
 *          had stored, before its byte is free.
 */
#ifndef RHC_SHM_CALM_H
#define RHC_SHM_CALM_H

#include "shm/upstream.h"

enum rhc_order { RHC_ORDER_STRICT, RHC_ORDER_CALM, RHC_ORDER_LEAVING, RHC_ORDER_PINNED };
#define RHC_ORDER_MODES       UINT64_C(3)
#define RHC_ORDER_MODE(word)  ((enum rhc_order)((word) & RHC_ORDER_MODES))
#define RHC_ORDER_EPOCH(word) ((word) >> 2) /* 0: it has never been calm */

/* This process may be fenced by others from now on.  False: it must not use plain stores. */
bool rhc_calm_join(void);
/* What every joined process has stored is seen by us, and ours by them.  False: not allowed. */
bool rhc_calm_fence(void);

/* *seen: the caller's, the order of a second ago. */
void rhc_calm_begin(struct rhc_up *up, uint64_t *seen);
/* Calm no more, if it was: what was given back before is seen, who gives back later sees us. */
void rhc_calm_end(struct rhc_up *up);
/* The same, and never calm again. */
void rhc_calm_pin(struct rhc_up *up);

#endif
