/*
 * sidecar/io/tls.h - TLS, client role, as a codec: ciphertext in and out, plaintext between.
 *
 * Shape       struct tls_policy is one SSL_CTX and everything decided about an upstream's TLS;
 *             struct tls_session is one connection.  Neither knows sockets or the engine: stream.c
 *             joins them.
 * Owns        The policy: CA store, client key, the session cache.  The session: one SSL object,
 *             made for this connection and freed with it (SSL_clear() keeps settings of the last
 *             peer: not worth the risk).
 * Owned by    Policies: the configuration.  They are made in the supervisor before fork and shared
 *             copy-on-write; what a worker learns (tickets) stays in that worker.  Sessions:
 *             stream.c.
 * In          tls_feed() shows a window over received bytes.  It is read in place and is used up
 *             when a call answers TLS_AGAIN, so the receive buffer can go back at once.
 * Out         put() of the session's maker.  It may be called by every function that takes a
 *             session but the plain getters: reads produce output too (alerts, KeyUpdate).
 * Errors      enum tls_step; tls_failure() has the sentence.  After a TLS_E_ answer only
 *             tls_session_fini() is left to do, and sending what put() was given (the alert).
 * Limits      One record (16 KiB) per tls_write().  TLS_SERVERS_MAX names per policy and
 *             TLS_TICKETS_MAX sessions per name are remembered; the name used longest ago gives
 *             way.
 * End         An end of the transport is not told to OpenSSL: tls_closed() says whether
 *             close_notify came before it, and the owner decides (RFC 8446 section 6.1; RFC 9112
 *             section 9.8).  This is what SSL_OP_IGNORE_UNEXPECTED_EOF does in some versions, alike
 *             in all of them, and the session stays resumable.
 * Never       reads a file after tls_policy_new(); renegotiates; uses 0-RTT, compression or kTLS.
 * See         sidecar/io/README.md, "TLS".
 */
#ifndef RHC_SIDECAR_IO_TLS_H
#define RHC_SIDECAR_IO_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TLS_SERVERS_MAX = 16,
	TLS_TICKETS_MAX = 4,
	TLS_NAME_MAX = 255, /* RFC 1035 section 2.3.4 */
	TLS_RECORD_MAX = 16384, /* RFC 8446 section 5.1: plaintext of one record */
	TLS_WHY_MAX = 512, /* enough for every sentence of tls_policy_new() with a path in it */
};

enum tls_version { TLS_1_2, TLS_1_3 };

/* How to talk to one upstream.  Zeroes are the defaults, which are the strict choices. */
struct tls_options {
	bool             insecure; /* accept any certificate (verify: off) */
	bool             no_resumption; /* remember no sessions */
	enum tls_version min_version;
	const char      *ca_file; /* PEM; NULL: what the system trusts */
	const char      *server_name; /* SNI and the name to check, instead of the one of the connection */
	const char      *alpn; /* in order of preference, "h2,http/1.1"; NULL or "": none offered */
	const char      *groups; /* key exchange; NULL: "X25519:P-256" */
	const char      *cert_file; /* PEM chain shown to the upstream; NULL: none */
	const char      *key_file; /* PEM; both or none */
	const char      *key_passphrase; /* NULL: the key is not encrypted */
};

struct tls_policy;

/*
 * 0, or with a sentence in why[cap] that names the option, the file and the reason:
 *   -ENOENT -EACCES -EISDIR ...  a file cannot be opened, or the system trusts nobody at all
 *   -EBADMSG                     a file holds something else than it should; wrong passphrase
 *   -EKEYREJECTED                key and certificate do not belong together
 *   -EINVAL                      alpn, groups, server_name malformed; cert_file without key_file
 *   -ENOMEM
 */
int tls_policy_new(const struct tls_options *opt, struct tls_policy **ret_policy, char *why,
                   size_t cap);
/*
 * When the first certificate of our own chain, or of tls_options.ca_file, ends, in seconds since 1970;
 * 0: there is none.
 */
uint64_t tls_policy_own_expires_s(const struct tls_policy *p);
uint64_t tls_policy_ca_expires_s(const struct tls_policy *p);
struct tls_policy *tls_policy_free(struct tls_policy *p); /* no session may be left; returns NULL */

struct tls_counts {
	uint64_t handshakes; /* completed */
	uint64_t resumed; /* of these */
	uint64_t tickets; /* sessions remembered so far */
};
struct tls_counts tls_policy_counts(const struct tls_policy *p); /* of this process */

enum tls_step {
	TLS_OK, /* done; for reads and writes: some bytes */
	TLS_AGAIN, /* the window is used up: feed more */
	TLS_FULL, /* put() took less than everything: once there is room call again, same bytes */
	TLS_EOF, /* the peer sent close_notify */
	TLS_E_PROTOCOL,
	TLS_E_CERT,
	TLS_E_ALERT,
};

struct ssl_st;

struct tls_session {
	uint32_t           magic;
	/* the rest is private to tls.c */
	uint32_t           server_gen;
	struct ssl_st     *ssl;
	struct tls_policy *policy;
	uint32_t (*put)(void *arg, const uint8_t *p, uint32_t n);
	void              *put_arg;
	const uint8_t     *in;
	uint32_t           in_n;
	uint32_t           retry_n; /* length of the write that was answered TLS_FULL */
	uint16_t           server; /* row of the policy's session cache */
	bool               done : 1, offered : 1, dead : 1;
	bool               keep : 1; /* the record buffers, until the window is used up */
	const char        *failure;
	char               alpn[16];
};

/*
 * server_name may be NULL when the policy has one, or does not verify; it is copied.  put() takes
 * up to n bytes of ciphertext and returns how many.  0, -EINVAL (no usable name), -ENOMEM.
 */
int  tls_session_init(struct tls_session *t, struct tls_policy *policy, const char *server_name,
                      uint32_t (*put)(void *arg, const uint8_t *p, uint32_t n), void *put_arg);
void tls_session_fini(struct tls_session *t);

/* The window before must be used up. */
void tls_feed(struct tls_session *t, const void *p, uint32_t n);

/* TLS_OK: done.  The first call, with nothing fed, makes the ClientHello. */
enum tls_step tls_handshake(struct tls_session *t);
/* Only after the handshake. */
enum tls_step tls_read(struct tls_session *t, void *p, uint32_t cap, uint32_t *ret_n);
enum tls_step tls_write(struct tls_session *t, const void *p, uint32_t n, uint32_t *ret_n);
/* Put close_notify: TLS_OK or TLS_FULL. */
enum tls_step tls_shutdown(struct tls_session *t);

static inline uint32_t tls_unread(const struct tls_session *t) /* bytes left in the window */
{
	return t->in_n;
}

bool        tls_closed(const struct tls_session *t); /* close_notify was received */
const char *tls_alpn(const struct tls_session *t); /* "" when none was agreed on */
bool        tls_resumed(const struct tls_session *t);
/* When the certificate the peer showed ends, in seconds since 1970; 0: it showed none. */
uint64_t    tls_peer_expires_s(const struct tls_session *t);
const char *tls_version_name(const struct tls_session *t); /* "TLSv1.3" */
/*
 * Lower case, no full stop, static: "certificate has expired", for TLS_E_ALERT the name of the
 * alert.
 */
const char *tls_failure(const struct tls_session *t);

#endif
