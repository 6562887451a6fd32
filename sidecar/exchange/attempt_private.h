/*
 * sidecar/exchange/attempt_private.h - what attempt.c (guard, verdict, retry) and attempt_relay.c (request and response)
 * have of each other; nobody else includes it.
 */
#ifndef RHC_SIDECAR_EXCHANGE_ATTEMPT_PRIVATE_H
#define RHC_SIDECAR_EXCHANGE_ATTEMPT_PRIVATE_H

#include "sidecar/exchange/attempt.h"
#include "sidecar/upstream/retry.h"

/* What the retry decision has to know of an attempt that failed. */
struct failure {
	enum rhc_error error;
	uint16_t       status;
	bool           sent, unprocessed, refused, reused, in_started, head_sent, permanent;
	uint64_t       retry_after_ns;
};

/* ---- attempt.c ---- */

struct retry_decision attempt_decide(struct exchange *e, const struct failure *x);
/* Would the next attempt only be told that the circuit is open? */
bool attempt_circuit_is_open(const struct exchange *e);
/* Tell the breaker and give the slot back; once per attempt, later calls do nothing. */
void attempt_verdict(struct exchange *e, enum rhc_error err, uint16_t status);
void attempt_log_retry(const struct exchange *e, const struct failure *x, const struct retry_decision *d);
/* To BACKOFF; a free replay goes on at once. */
void attempt_back_off(struct exchange *e, const struct retry_decision *d, enum rhc_error err);
/* Release e->up, if there is one. */
void attempt_let_go(struct exchange *e);
/* It ended without a response to pass on: retry, or answer. */
void attempt_failed(struct exchange *e, const struct failure *x);

/* ---- attempt_relay.c ---- */

extern const struct message_events attempt_up_events;
/* The request goes out on m.  e is in CONNECT. */
void attempt_request(struct exchange *e, struct message *m);

#endif
