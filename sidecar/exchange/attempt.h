/*
 * sidecar/exchange/attempt.h - one try of a call: guard, connection, request out, response in, verdict.
 *
 * Owns      e->up, e->ticket, e->wait.
 * Ends      in exactly one of: the response went to the app (FLUSH), a retry (BACKOFF), an answer of ours (REPLY), the
 *           end of the call (DONE).  The verdict is recorded and the slot given back before any of them.
 */
#ifndef RHC_SIDECAR_EXCHANGE_ATTEMPT_H
#define RHC_SIDECAR_EXCHANGE_ATTEMPT_H

#include "sidecar/exchange/exchange.h"

/* A discarded answer is read on while the retry waits, up to here, so that its connection can be kept. */
enum { ATTEMPT_DISCARD_MAX = 65536 };

/* Would it go to an upstream that has no HTTP/1.1? */
bool attempt_cannot_upgrade(const struct exchange *e);

void attempt_init(struct exchange *e);
void attempt_begin(struct exchange *e); /* the first one */
void attempt_again(struct exchange *e); /* after the backoff */

/* Body that waits goes to the upstream as far as there is one. */
void attempt_pump(struct exchange *e);
/* Nothing is kept or waits: a slice can go straight to the upstream. */
bool attempt_streams(const struct exchange *e);
void attempt_send_body(struct exchange *e, struct slice data);
/* Bytes given to the upstream's connection that the kernel has not taken yet? */
bool attempt_unsent(const struct exchange *e);

void attempt_timeout(struct exchange *e, enum rhc_error err);
/* The app went away: give everything back without a verdict, unless the upstream was too slow already. */
void attempt_abandon(struct exchange *e);
void attempt_fini(struct exchange *e);

#endif
