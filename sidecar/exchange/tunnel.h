/*
 * sidecar/exchange/tunnel.h - bytes both ways: after 101 (WebSocket and other upgrades), and after our 200 to CONNECT.
 *
 * Shape     The two messages of the exchange get other events: what comes on one side goes out on the other, with the
 *           same windows as bodies have, so a slow reader holds its writer back.
 * Verdict   At the handshake: the breaker hears of a success, and nothing of how the tunnel ends.  The slot is held as
 *           long as the tunnel lives.
 * Half      FIN of one side is passed on; the other direction goes on until its own.
 * Ends      when both directions have ended and left, with an error of either side, or after timeout.tunnel of silence.
 *           timeout.total and the caller's deadline end with the handshake.
 * Counts    as a call with the status of the handshake; its duration is in the access log, not in the histograms.
 */
#ifndef RHC_SIDECAR_EXCHANGE_TUNNEL_H
#define RHC_SIDECAR_EXCHANGE_TUNNEL_H

#include "sidecar/exchange/exchange.h"

/* The upstream answered 101 with this head.  e is in SEND or WAIT. */
void tunnel_upgraded(struct exchange *e, struct http_head *h);

/* The connection for a CONNECT is there.  e is in CONNECT. */
void tunnel_connected(struct exchange *e, struct message *m);

/* timeout.tunnel has passed. */
void tunnel_silent(struct exchange *e);

#endif
