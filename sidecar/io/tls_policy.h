/*
 * sidecar/io/tls_policy.h - what tls*.c share; nobody else includes it.
 *
 * Cache    A row per server name, in each worker its own (the policy is copy-on-write after fork).
 *          All rows belong to one policy, so a session is only offered to who was verified under
 *          the same rules and under the same name.
 * Tickets  TLS 1.3 ones are used once (RFC 8446 appendix C.4), the newest first.  A TLS 1.2 session
 *          stays.
 */
#ifndef RHC_SIDECAR_IO_TLS_POLICY_H
#define RHC_SIDECAR_IO_TLS_POLICY_H

#include <openssl/ssl.h>

#include "sidecar/io/tls.h"

enum {
	TLS_POLICY_MAGIC = 0x544c5350,
	TLS_SESSION_MAGIC = 0x544c5353,
};

struct tls_server {
	uint32_t     gen; /* of the row: a late ticket of the row's former name is dropped */
	uint64_t     used; /* policy's tick of the last look-up */
	SSL_SESSION *ticket[TLS_TICKETS_MAX]; /* oldest first */
	uint32_t     n;
	char         name[TLS_NAME_MAX + 1];
};

struct tls_policy {
	uint32_t          magic;
	uint32_t          sessions; /* alive */
	SSL_CTX          *ctx;
	BIO_METHOD       *bio;
	bool              insecure;
	bool              resumption;
	bool              own_ca; /* ca_file, not what the system trusts */
	struct tls_counts counts;
	uint64_t          tick;
	const char       *passphrase; /* only within tls_policy_new() */
	char              server_name[TLS_NAME_MAX + 1];
	struct tls_server server[TLS_SERVERS_MAX];
};

/* A host name as it is checked and sent: no brackets, no last dot.  0 or -EINVAL. */
int  tls_name_clean(const char *name, char out[TLS_NAME_MAX + 1]);
bool tls_name_is_ip(const char *clean);

/* The row of a name, made when it is new; the least recently used one gives way. */
uint16_t tls_cache_row(struct tls_policy *p, const char *clean);
/* A session to offer; the reference is the caller's.  NULL: none. */
SSL_SESSION *tls_cache_take(struct tls_policy *p, uint16_t row);
/* Takes the reference of s when it answers true. */
bool tls_cache_put(struct tls_policy *p, uint16_t row, uint32_t gen, SSL_SESSION *s);
void tls_cache_drop(struct tls_policy *p, uint16_t row);

/* When a certificate ends, in seconds since 1970. */
uint64_t tls_ends_s(const X509 *cert);

/* tls.c: how a session reads and writes, and what it learns. */
BIO_METHOD *tls_bio_method(void);
int         tls_on_new_session(SSL *ssl, SSL_SESSION *s);

#endif
