/*
 * sidecar/exchange/internal.h - what exchange.c and attempt.c have of each other; nobody else includes it.
 */
#ifndef RHC_SIDECAR_EXCHANGE_INTERNAL_H
#define RHC_SIDECAR_EXCHANGE_INTERNAL_H

#include "sidecar/exchange/exchange.h"

static inline uint64_t exch_now(const struct exchange *e)
{
	return engine_now(e->env->http->stream.engine);
}

void exch_goto(struct exchange *e, enum exch_state to);

/* Arm the timer for the state the exchange is in. */
void exch_arm(struct exchange *e);

/*
 * From now on it is the other side we wait for: its time, e->progress_ns or e->down_ns, begins, and may be over before what
 * the timer was set to.  A side must neither be charged for the time of the other nor hide behind it.
 */
void exch_turn_of(struct exchange *e, uint64_t *since_ns);

/* Answer by ourselves; no attempt is under way. */
void exch_reply(struct exchange *e, enum rhc_error err);

/* Something is wrong on our side, in whatever state: end the attempt, answer if that is still possible. */
void exch_fail(struct exchange *e, enum rhc_error err);

void exch_body_too_large(struct exchange *e);

/* The app waits for leave to send its body, and it has it now.  Nothing happens if it does not wait. */
void exch_continue(struct exchange *e);

/* The last step; e is gone afterwards. */
void exch_finish(struct exchange *e);

#endif
