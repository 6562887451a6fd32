/*
 * sidecar/io/stream.h - a byte stream over a socket, plain or TLS, with queued writes.
 *
 * Owns        The descriptor, its engine operations, the TLS session, what is queued for sending.
 * Owned by    The connection object it is embedded in (accepted: a downstream connection;
 *             connected: an upstream connection).
 * Calls back  Only from within engine_turn(): on_open, on_data, on_eof, on_sent, on_closed below.
 *             A callback may call any function of this header on any stream, stream_close() and
 *             stream_abort() included.
 * Ends when   on_closed was called: every operation has been joined, the descriptor is closed, the
 *             memory is the owner's again.  stream_close()/stream_abort() lead there; so do no
 *             other paths: after an error the owner is told once (on_eof with an error, or on_open)
 *             and has to close.
 * Reading     One one-shot receive at a time.  It is armed while the stream "wants"
 *             (stream_want(true)); an armed receive owns no buffer.  What arrives after
 *             stream_want(false) on a receive that was armed before is kept (one buffer) and
 *             delivered when wanted again.  The peer's end is noticed also while not wanted
 *             (engine_watch): its failure as on_eof with an error, its FIN as orderly on_eof as
 *             soon as nothing is left to be read before it; never as data.
 *             With stream_pipe() it is a pipe that may come (sidecar/base/pipe.h).
 * Writing     stream_write*() queue; what is queued during a turn leaves in one send at its end (or
 *             once the send in flight has completed).  At most one send in flight.  on_sent reports
 *             progress.  When sending fails while reading is wanted, what the peer sent before is
 *             delivered first: an early response is not lost.
 * Bounds      STREAM_SEGS_MAX segments per send; the queue itself is bounded by the callers: nobody
 *             queues more than the window granted by the other side (sidecar/http/message.h).  TLS:
 *             at most STREAM_CIPHER_MAX bytes are encrypted ahead; STREAM_STARVED_MAX streams of a
 *             worker wait for buffers to decrypt into, the next one fails with STREAM_E_NO_BUFFERS.
 * TLS         Same interface.  on_open says the handshake is done and which ALPN was chosen.
 *             Plain text is delivered in buffers of the worker's pool.
 * Never       allocates after stream_init() beyond the worker's slabs and pools; an idle stream
 *             that reads owns no buffer and no send vector.
 */
#ifndef RHC_SIDECAR_IO_STREAM_H
#define RHC_SIDECAR_IO_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "sidecar/base/buf.h"
#include "sidecar/base/list.h"
#include "sidecar/io/engine.h"
#include "sidecar/io/txq.h"

struct stream;
struct tls_policy; /* sidecar/io/tls.h */
struct stream_tls;

enum {
	STREAM_SEGS_MAX = TXQ_SEGS,
	STREAM_CIPHER_MAX = 65536,
	STREAM_STARVED_MAX = 8,
};

/*
 * What went wrong, for the error table of the exchange.  The errno or TLS detail is in
 * stream_failure().
 */
enum stream_error {
	STREAM_OK,
	STREAM_E_REFUSED, /* ECONNREFUSED */
	STREAM_E_UNREACHABLE, /* EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL ... */
	STREAM_E_CONNECT, /* any other failure of connect */
	STREAM_E_RESET, /* ECONNRESET, EPIPE, ETIMEDOUT of a connected socket */
	STREAM_E_TRUNCATED, /* TLS: end without close_notify */
	STREAM_E_TLS, /* handshake or record failure */
	STREAM_E_TLS_CERT, /* verification failed: expired, wrong host, unknown CA ... */
	STREAM_E_TLS_ALERT, /* the peer sent a fatal alert */
	STREAM_E_NO_BUFFERS, /* a needed buffer or slab was not to be had */
};

struct stream_events {
	/* connect (and handshake) ended; err != STREAM_OK: only stream_close() is left to do */
	void (*on_open)(struct stream *s, enum stream_error err);
	/* takes s: bytes in arrival order; n >= 1 */
	void (*on_data)(struct stream *s, struct slice data);
	/*
	 * The peer will send no more; STREAM_OK = orderly (FIN, close_notify), else the stream is
	 * dead both ways. An error may follow an orderly end, when writing fails later.
	 */
	void (*on_eof)(struct stream *s, enum stream_error err);
	/*
	 * bytes (of those given to stream_write*, before encryption) have been accepted by the
	 * kernel
	 */
	void (*on_sent)(struct stream *s, uint32_t bytes);
	/* the only call after stream_close() or stream_abort() */
	void (*on_closed)(struct stream *s);
};

/*
 * What all streams of a worker share.  The sizes of the slabs' objects: stream_txq_size(),
 * stream_tls_size().
 */
struct stream_env {
	struct engine   *engine;
	struct buf_pool *bufs;
	struct slab     *txq_slab; /* send vectors, while something is queued; TLS may take two */
	struct slab     *tls_slab; /* one per TLS stream */
	struct list      starved; /* private: zero it */
	uint32_t         n_starved;
};

size_t stream_txq_size(void);
size_t stream_tls_size(void);

struct stream {
	uint32_t                    magic;
	const struct stream_events *ev;
	void                       *owner;
	struct stream_env          *env;
	int                         fd;
	/* the rest is private to stream*.c */
	uint8_t                     state;
	uint8_t                     err; /* enum stream_error */
	bool                        want : 1, rx_large : 1, opened : 1, told : 1, eof_seen : 1,
		shut_wr : 1, fin_sent : 1, broken : 1, watch_fired : 1, reset : 1;
	int                         sys_errno;
	uint32_t                    pipe_max; /* of the next receives; 0: no pipes */
	uint32_t                    queued;
	const char                 *why; /* static; TLS failures */
	uint64_t                    connected_ns;
	struct txlist               tx; /* plaintext */
	struct stream_tls          *tls;
	struct buf                 *held; /* arrived while not wanted */
	struct engine_op            rx; /* connect, then receive */
	struct engine_op            txop;
	struct engine_op            watch;
	struct engine_deferred      work;
	struct list_node            starved;
};

void stream_init(struct stream *s, struct stream_env *env, const struct stream_events *ev,
                 void *owner);

/* Use an accepted, connected socket.  It is open at once; on_open is not called. */
void stream_adopt(struct stream *s, int fd);

/*
 * Connect to an address; with policy != NULL TLS follows, checked against server_name (which the
 * caller keeps until on_open).  on_open tells the end.  No timeout in here: the caller's timer
 * calls stream_close().  0, or -errno when not even a socket could be had (EMFILE, ENFILE, ENOBUFS:
 * no TLS slab); the stream is then as after stream_init(): nothing to be closed.  Options of the socket
 * are for the caller to set, on ->fd.
 */
int stream_connect(struct stream *s, const struct sockaddr *addr, socklen_t len,
                   struct tls_policy *policy, const char *server_name);

/* Nanoseconds at which TCP was connected (0: not yet), to split connect from TLS in the log. */
uint64_t stream_connected_ns(const struct stream *s);

/* Keep a receive armed or not.  large: expect bodies, receive into BUF_LARGE. */
void stream_want(struct stream *s, bool want, bool large);

/*
 * From the next receive that is armed on, bytes may come in pipes, at most max of each receive; 0: they come in buffers
 * again.  Of no effect with TLS.
 */
void stream_pipe(struct stream *s, uint32_t max);

/*
 * Queue a slice; takes its reference.  buf == NULL: the bytes are copied, and so are the bytes of
 * very small slices.  A pipe only without TLS.  A stream that failed or closes drops it; after stream_shutdown() it is a bug.
 */
void stream_write(struct stream *s, struct slice data);
/* Queue a copy of n bytes.  Coalesces with the bytes queued before. */
void stream_write_copy(struct stream *s, const void *p, uint32_t n);
/*
 * n contiguous bytes to write into directly (n <= BUF_LARGE_SIZE), to be followed by
 * stream_commit() with the number really used; nothing else may be called on the stream between.
 * NULL: no buffer to be had, or the stream failed or closes.
 */
uint8_t *stream_reserve(struct stream *s, uint32_t n);
void     stream_commit(struct stream *s, uint32_t n);

uint32_t stream_queued(const struct stream *s); /* bytes written but not yet reported by on_sent */

/* Send FIN (TLS: close_notify first) after everything queued has left. */
void stream_shutdown(struct stream *s);
/*
 * Orderly end: drop the read side, send what is queued (bounded by the caller's timer:
 * stream_abort()), close. What arrived already is discarded, but a peer that goes on sending gets
 * RST, which may overtake the last bytes sent: who refuses an unread request body calls
 * stream_shutdown() and reads on for a bounded time.
 */
void stream_close(struct stream *s);
/* At once: drop what is queued, RST. */
void stream_abort(struct stream *s);

/* ALPN result after on_open: "h2", "http/1.1" or "" (none, or plain). */
const char *stream_alpn(const struct stream *s);
bool        stream_is_tls(const struct stream *s);
bool        stream_tls_resumed(const struct stream *s);
uint64_t    stream_tls_peer_expires_s(const struct stream *s); /* tls_peer_expires_s() */
/* A sentence for logs and problem details: "connection refused", "certificate has expired". */
const char *stream_failure(const struct stream *s, char *out, size_t cap);

#endif
