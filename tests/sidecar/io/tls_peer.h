/*
 * tests/sidecar/io/tls_peer.h - certificates and servers for the TLS tests, made in the process.
 *
 * struct cert is a key and what was signed for it.  cert_make() signs with an issuer (NULL: itself).
 * cert_file() and key_file() write PEM into a directory of this process; peer_cleanup() removes it.
 */
#ifndef RHC_TESTS_SIDECAR_IO_TLS_PEER_H
#define RHC_TESTS_SIDECAR_IO_TLS_PEER_H

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct cert {
	EVP_PKEY *key;
	X509     *x509;
};

enum { DAY = 24 * 3600 };

__attribute__((unused)) static char peer_dir[64];
__attribute__((unused)) static int  peer_files;

__attribute__((unused)) static void peer_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	cr_assert_not_null(ext, "%s", value);
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
}

/* san: "DNS:a.test,IP:127.0.0.1", NULL: a CA.  Valid from..to seconds from now. */
__attribute__((unused)) static struct cert cert_make(const char *cn, const char *san,
                                                     const struct cert *issuer, long from, long to)
{
	static long serial = 1;
	struct cert c = { EVP_EC_gen("P-256"), X509_new() };
	X509       *by = issuer != NULL ? issuer->x509 : c.x509;
	X509_set_version(c.x509, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(c.x509), serial++);
	X509_gmtime_adj(X509_getm_notBefore(c.x509), from);
	X509_gmtime_adj(X509_getm_notAfter(c.x509), to);
	X509_set_pubkey(c.x509, c.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(c.x509), "CN", MBSTRING_ASC,
	                           (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(c.x509, X509_get_subject_name(by));
	peer_ext(c.x509, by, NID_basic_constraints, san != NULL ? "CA:FALSE" : "critical,CA:TRUE");
	if (san != NULL)
		peer_ext(c.x509, by, NID_subject_alt_name, san);
	cr_assert(X509_sign(c.x509, issuer != NULL ? issuer->key : c.key, EVP_sha256()) > 0);
	return c;
}

__attribute__((unused)) static void cert_free(struct cert *c)
{
	EVP_PKEY_free(c->key);
	X509_free(c->x509);
}

__attribute__((unused)) static FILE *peer_file(char path[128])
{
	if (peer_dir[0] == '\0') {
		strcpy(peer_dir, "/tmp/rhc-tls-XXXXXX");
		cr_assert_not_null(mkdtemp(peer_dir));
	}
	snprintf(path, 128, "%s/%d.pem", peer_dir, peer_files++);
	FILE *f = fopen(path, "w");
	cr_assert_not_null(f);
	return f;
}

__attribute__((unused)) static void cert_file(const struct cert *c, char path[128])
{
	FILE *f = peer_file(path);
	cr_assert(PEM_write_X509(f, c->x509));
	fclose(f);
}

__attribute__((unused)) static void key_file(const struct cert *c, const char *passphrase,
                                             char path[128])
{
	FILE *f = peer_file(path);
	cr_assert(PEM_write_PKCS8PrivateKey(f, c->key, passphrase != NULL ? EVP_aes_128_cbc() : NULL,
	                                    passphrase, passphrase ? (int)strlen(passphrase) : 0,
	                                    NULL, NULL));
	fclose(f);
}

__attribute__((unused)) static void peer_cleanup(void)
{
	for (int i = 0; i < peer_files; i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%d.pem", peer_dir, i);
		unlink(path);
	}
	if (peer_dir[0] != '\0')
		rmdir(peer_dir);
	peer_dir[0] = '\0';
	peer_files = 0;
}

/* Chooses the first protocol of ours (a wire list) that the client offers. */
__attribute__((unused)) static int peer_alpn(SSL *ssl, const unsigned char **out, unsigned char *n,
                                             const unsigned char *in, unsigned in_n, void *ours)
{
	(void)ssl;
	const unsigned char *list = ours;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, n, list,
	                             (unsigned)strlen((const char *)list), in,
	                             in_n) == OPENSSL_NPN_NEGOTIATED
	               ? SSL_TLSEXT_ERR_OK
	               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* version: 0 any, or TLS1_2_VERSION, TLS1_3_VERSION. */
__attribute__((unused)) static SSL_CTX *peer_ctx(const struct cert *c, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	cr_assert(SSL_CTX_use_certificate(ctx, c->x509) == 1);
	cr_assert(SSL_CTX_use_PrivateKey(ctx, c->key) == 1);
	if (version != 0) {
		SSL_CTX_set_min_proto_version(ctx, version);
		SSL_CTX_set_max_proto_version(ctx, version);
	}
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	return ctx;
}

__attribute__((unused)) static void peer_want_client_cert(SSL_CTX *ctx, const struct cert *ca)
{
	X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca->x509);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

#endif
