/*
 * sidecar/exchange/exchange.h - one call's life, from the app's request to the answer it gets.
 *
 * Shape       A state machine (exch.def) between two message streams: `down` (the app's) and `up` (the attempt's, while
 *             there is one).  It holds policy and knows neither HTTP versions nor sockets.
 * Owns        The guard ticket (breaker permit and slot), the wait for a connection, the request body kept for
 *             replay, its timer, and both messages until it has released them.
 * Owned by    The worker's slab; nobody keeps a pointer but the events it is registered for.
 * Calls back  Nobody; it ends by itself.
 * Ends when   The last byte of the answer has been taken by the kernel, or the app went away.  Exactly once the
 *             slot and the permit go back, one line is written to the access log, the counters are updated.
 * Bounds      Every state has a deadline: SLOT acquisition_timeout, CONNECT timeout.pool and timeout.connect, SEND
 *             timeout.write per write, WAIT timeout.read, RELAY timeout.read per gap (upstream) and idle_timeout
 *             (an app that does not read), BACKOFF max_wait, all of them together timeout.total.  TUNNEL
 *             timeout.tunnel of silence; timeout.total ends with the handshake.
 * See         sidecar/exchange/README.md; design: breaker -> slot -> breaker -> connection -> send -> head -> relay.
 */
#ifndef RHC_SIDECAR_EXCHANGE_EXCHANGE_H
#define RHC_SIDECAR_EXCHANGE_EXCHANGE_H

#include "proto/http.h"
#include "sidecar/base/random.h"
#include "sidecar/base/slab.h"
#include "sidecar/config/config.h"
#include "sidecar/exchange/body.h"
#include "sidecar/http/conn.h"
#include "sidecar/io/timer.h"
#include "sidecar/upstream/guard.h"
#include "sidecar/upstream/pool.h"
#include "sidecar/upstream/upstream.h"

#define EXCHANGE_MAGIC 0x45584348u

enum exch_state {
#define STATE(name, doing, to) EXCH_##name,
#include "sidecar/exchange/exch.def"
#undef STATE
	EXCH_STATES
};

/* Where the time of a call went.  Their sum and `overhead` make the duration. */
enum exch_phase {
	PHASE_QUEUE, /* waiting for a slot */
	PHASE_POOL, /* waiting for a connection, without the connecting itself */
	PHASE_DNS,
	PHASE_CONNECT,
	PHASE_TLS,
	PHASE_SEND, /* until the request had left */
	PHASE_TTFB, /* until the response head */
	PHASE_RECEIVE, /* until the end of the response */
	PHASE_BACKOFF,
	PHASES
};

/* An app that waits for 100 gets it from us when the upstream has said nothing for so long (curl waits as long). */
#define EXCH_CONTINUE_NS NS_PER_S

/*
 * How requests name us in Via (RFC 9110 §7.6.3): responses.proxy_status.name, '-' and digits of the segment's uuid.  So
 * sidecars of the same name can stand behind each other, and all workers and generations of one are one.
 */
enum { EXCH_VIA_DIGITS = 12, EXCH_VIA_SIZE = 64 + 1 + EXCH_VIA_DIGITS + 1 };

enum { EXCH_REQUEST_ID_MAX = 128, EXCH_ATTEMPTS_LOGGED = 8, EXCH_DETAIL_MAX = 200 };

struct access_log;

/* What all exchanges of a worker share. */
struct exchange_env {
	const struct config   *config;
	struct upstreams      *upstreams;
	struct http_env       *http;
	struct access_log     *access;
	struct rng            *rng;
	_Atomic uint64_t      *counters; /* the worker's own row */
	uint32_t               in_flight; /* exchanges now */
	struct slab            slab;
	struct http_head       scratch; /* the head being sent; send_head encodes at once */
	struct http_field      scratch_fields[HTTP_FIELDS_MAX];
	char                   scratch_text[4096]; /* values made for it */
	char                   via[EXCH_VIA_SIZE]; /* exchange_env_name() */
	uint8_t                worker;
	bool                   draining;
};

/* One listening address as the exchange sees it. */
struct exchange_listener {
	const struct config_listener *config; /* limits and mode; for an upstream's own address: the defaults */
	struct upstream              *upstream; /* everything goes there; NULL: route */
	struct exchange_env          *env;
};

struct exchange {
	uint32_t magic;
	uint8_t  state; /* enum exch_state */
	uint8_t  attempt; /* attempts begun so far; the current one's number while there is one */
	uint8_t  error; /* enum rhc_error of the answer, or of the last failure */
	uint8_t  retry_skipped; /* enum retry_verdict: why no (further) retry was made; NOT_NEEDED */
	uint8_t  reason_count;
	uint8_t  reasons[EXCH_ATTEMPTS_LOGGED]; /* what each retry was made for: enum rhc_error */
	bool     own_reply : 1; /* the answer is ours */
	bool     aborted : 1; /* the app went away */
	bool     broken : 1; /* the answer ended in the middle */
	bool     wants_timing : 1;
	bool     up_discard : 1; /* up is read to its end only to keep its connection */
	bool     replayed : 1; /* the free replay is used up */
	bool     body_dropped : 1; /* bytes were sent that a new attempt could not repeat */
	bool     failed : 1; /* the last attempt's status counts as a failure */
	bool     grpc : 1; /* the verdict is in grpc-status */
	bool     expects : 1; /* the app waits for 100 before it sends its body */
	bool     upgrade : 1; /* Upgrade is passed on: a 101 makes a tunnel */
	bool     connect : 1; /* CONNECT: a tunnel without HTTP */
	bool     tunnel : 1; /* it became one */
	bool     tunnel_up_done : 1, tunnel_down_done : 1; /* all that is to go there has left */
	uint8_t  up_version; /* enum http_version of the last attempt's connection, 0: none */
	uint16_t status; /* of the answer, 0: none yet */
	uint16_t reply_status; /* overrides the one of the error table, 0: not */
	uint16_t upstream_status; /* last one seen, 0: none */
	uint16_t verdict_status; /* what the breaker and the retry policy go by: of a gRPC call, its grpc-status as HTTP */
	int16_t  grpc_status; /* -1: none seen */
	uint16_t endpoint; /* of the last attempt */
	uint32_t attempts_max; /* the caller's wish, 0: none */

	struct exchange_env            *env;
	const struct exchange_listener *listener;
	struct upstream                *upstream; /* NULL: not routed */
	struct message                 *down;
	struct message                 *up;
	const struct http_head         *req;
	const struct http_head         *trailers; /* of the request */
	struct timer                    timer;
	struct guard_ticket             ticket;
	struct pool_wait                wait;

	uint64_t start_ns; /* the head was there */
	uint64_t deadline_ns; /* timeout.total or the caller's, 0: none */
	uint64_t state_ns; /* since when in this state */
	uint64_t attempt_ns; /* the attempt got its connection */
	uint64_t head_ns; /* the response head came */
	uint64_t progress_ns; /* last byte to or from the upstream */
	uint64_t down_ns; /* last byte to or from the app */
	uint64_t phases[PHASES];
	uint64_t bytes_sent; /* answer body to the app */
	uint64_t granted; /* request body bytes granted back to the app */
	uint64_t attempt_sent; /* request body bytes the current attempt has sent */

	struct http_str request_id;
	char            request_id_own[UUID_TEXT_SIZE];
	char            detail[EXCH_DETAIL_MAX]; /* what went wrong, for people */
	struct body     body; /* last: what the zeroing at birth leaves out */
};

/* Makes env->via of ->config and ->upstreams; also part of exchange_env_init(). */
void exchange_env_name(struct exchange_env *env);
/* 0 or -ENOMEM.  The other members of env are set by the caller before. */
int  exchange_env_init(struct exchange_env *env, uint32_t exchanges_max);
void exchange_env_fini(struct exchange_env *env);

/*
 * A message arrived on a connection of this listener: becomes an exchange.  Without memory for one, the
 * message is left alone and the connection answers 503 by itself.
 */
void exchange_begin(const struct exchange_listener *l, struct message *m);

const char *exch_state_doing(enum exch_state s);

#endif
