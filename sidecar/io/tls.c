#include <assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "sidecar/io/tls.h"
#include "sidecar/io/tls_policy.h"

/* ---- sentences ------------------------------------------------------------------------------- */

struct phrase {
	int code;
	const char *text;
};

/* clang-format off */
static const struct phrase cert_phrases[] = {
	{ X509_V_ERR_CERT_HAS_EXPIRED,                    "certificate has expired" },
	{ X509_V_ERR_CERT_NOT_YET_VALID,                  "certificate is not yet valid" },
	{ X509_V_ERR_HOSTNAME_MISMATCH,                   "certificate does not match the host name" },
	{ X509_V_ERR_IP_ADDRESS_MISMATCH,                 "certificate does not match the IP address" },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,   "certificate is signed by an unknown CA" },
	{ X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,           "certificate is signed by an unknown CA" },
	{ X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,     "certificate is signed by an unknown CA" },
	{ X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,         "certificate is self-signed" },
	{ X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,           "certificate is signed by an untrusted CA" },
	{ X509_V_ERR_CERT_REVOKED,                        "certificate is revoked" },
	{ X509_V_ERR_INVALID_PURPOSE,                     "certificate is not meant for a server" },
	{ X509_V_ERR_CERT_SIGNATURE_FAILURE,              "certificate has a wrong signature" },
	{ X509_V_ERR_EE_KEY_TOO_SMALL,                    "certificate key is too small" },
	{ X509_V_ERR_CA_MD_TOO_WEAK,                      "certificate is signed with a weak digest" },
};

/* RFC 8446 section 6 and RFC 5246 section 7.2 */
static const struct phrase alerts[] = {
	{  10, "unexpected_message" },      {  20, "bad_record_mac" },
	{  22, "record_overflow" },         {  40, "handshake_failure" },
	{  42, "bad_certificate" },         {  43, "unsupported_certificate" },
	{  44, "certificate_revoked" },     {  45, "certificate_expired" },
	{  46, "certificate_unknown" },     {  47, "illegal_parameter" },
	{  48, "unknown_ca" },              {  49, "access_denied" },
	{  50, "decode_error" },            {  51, "decrypt_error" },
	{  70, "protocol_version" },        {  71, "insufficient_security" },
	{  80, "internal_error" },          {  86, "inappropriate_fallback" },
	{  90, "user_canceled" },           { 100, "no_renegotiation" },
	{ 109, "missing_extension" },       { 110, "unsupported_extension" },
	{ 112, "unrecognized_name" },       { 113, "bad_certificate_status_response" },
	{ 115, "unknown_psk_identity" },    { 116, "certificate_required" },
	{ 120, "no_application_protocol" },
};
/* clang-format on */

static const char *phrase_of(const struct phrase *table, size_t n, int code, const char *otherwise)
{
	for (size_t i = 0; i < n; i++) {
		if (table[i].code == code)
			return table[i].text;
	}
	return otherwise;
}

#define PHRASE_OF(table, code, otherwise) \
	phrase_of(table, sizeof(table) / sizeof((table)[0]), code, otherwise)

/* Who is to blame is in the oldest error: the newer ones follow from it. */
static enum tls_step fail(struct tls_session *t)
{
	unsigned long e = ERR_peek_error();
	int reason = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;
	enum tls_step step = TLS_E_PROTOCOL;
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
		long code = SSL_get_verify_result(t->ssl);
		t->failure =
			PHRASE_OF(cert_phrases, (int)code, X509_verify_cert_error_string(code));
		step = TLS_E_CERT;
	} else if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
		t->failure = PHRASE_OF(alerts, reason - SSL_AD_REASON_OFFSET, "unknown alert");
		step = TLS_E_ALERT;
	} else {
		const char *text = e != 0 ? ERR_reason_error_string(e) : NULL;
		t->failure = text != NULL ? text : "malformed record";
	}
	ERR_clear_error();
	/* What was offered may be the reason; the next connection begins from nothing. */
	if (t->offered && !t->done)
		tls_cache_drop(t->policy, t->server);
	t->dead = true;
	return step;
}

/* SSL_get_error() looks at the queue of errors.  It is nearly always empty, and looking costs less than clearing. */
static void errors_none(void)
{
	if (ERR_peek_error() != 0)
		ERR_clear_error();
}

/* An idle connection has no record buffers, but between two records of one window they stay. */
static void keep_buffers(struct tls_session *t, bool keep)
{
	if (t->keep == keep)
		return;
	t->keep = keep;
	if (keep)
		SSL_clear_mode(t->ssl, SSL_MODE_RELEASE_BUFFERS);
	else
		SSL_set_mode(t->ssl, SSL_MODE_RELEASE_BUFFERS);
}

static enum tls_step judge(struct tls_session *t, int rc)
{
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		return TLS_AGAIN;
	case SSL_ERROR_WANT_WRITE:
		return TLS_FULL;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_EOF;
	default:
		return fail(t);
	}
}

/* ---- the BIO --------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *out, int cap)
{
	struct tls_session *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (t->in_n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	uint32_t n = t->in_n < (uint32_t)cap ? t->in_n : (uint32_t)cap;
	memcpy(out, t->in, n);
	t->in += n;
	t->in_n -= n;
	return (int)n;
}

static int bio_write(BIO *bio, const char *p, int n)
{
	struct tls_session *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	uint32_t took = t->put(t->put_arg, (const uint8_t *)p, (uint32_t)n);
	if (took == 0) {
		BIO_set_retry_write(bio);
		return -1;
	}
	return (int)took;
}

/* There is nothing to flush, and 0 means "cannot" for everything else, kTLS included. */
static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
	if (m == NULL)
		return NULL;
	BIO_meth_set_read(m, bio_read);
	BIO_meth_set_write(m, bio_write);
	BIO_meth_set_ctrl(m, bio_ctrl);
	return m;
}

/* ---- a session ------------------------------------------------------------------------------- */

/* TLS 1.3 tickets come after the handshake; verified it was, or it would not have got here. */
int tls_on_new_session(SSL *ssl, SSL_SESSION *s)
{
	struct tls_session *t = SSL_get_app_data(ssl);
	return tls_cache_put(t->policy, t->server, t->server_gen, s);
}

static int set_name(struct tls_session *t, const char *name)
{
	bool ip = tls_name_is_ip(name);
	/* RFC 6066 section 3: an address literal is no server name */
	if (!ip && SSL_set_tlsext_host_name(t->ssl, name) != 1)
		return -ENOMEM;
	if (t->policy->insecure)
		return 0;
	X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	int ok = ip ? X509_VERIFY_PARAM_set1_ip_asc(param, name)
		    : X509_VERIFY_PARAM_set1_host(param, name, 0);
	return ok == 1 ? 0 : -EINVAL;
}

static void offer_session(struct tls_session *t, const char *name)
{
	t->server = tls_cache_row(t->policy, name);
	t->server_gen = t->policy->server[t->server].gen;
	SSL_SESSION *s = t->policy->resumption ? tls_cache_take(t->policy, t->server) : NULL;
	t->offered = s != NULL && SSL_set_session(t->ssl, s) == 1;
	SSL_SESSION_free(s);
}

static int make_ssl(struct tls_session *t, const char *name)
{
	t->ssl = SSL_new(t->policy->ctx);
	BIO *bio = BIO_new(t->policy->bio);
	if (t->ssl == NULL || bio == NULL) {
		BIO_free(bio);
		return -ENOMEM;
	}
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_app_data(t->ssl, t);
	SSL_set_connect_state(t->ssl);
	int rc = name[0] != '\0' ? set_name(t, name) : 0;
	if (rc == 0)
		offer_session(t, name);
	return rc;
}

int tls_session_init(struct tls_session *t, struct tls_policy *policy, const char *server_name,
		     uint32_t (*put)(void *arg, const uint8_t *p, uint32_t n), void *put_arg)
{
	assert(policy->magic == TLS_POLICY_MAGIC);
	*t = (struct tls_session){ .policy = policy, .put = put, .put_arg = put_arg };
	char clean[TLS_NAME_MAX + 1] = "";
	const char *name = policy->server_name[0] != '\0' ? policy->server_name : server_name;
	if (name != NULL ? tls_name_clean(name, clean) < 0 : !policy->insecure)
		return -EINVAL;
	int rc = make_ssl(t, clean);
	ERR_clear_error();
	if (rc < 0) {
		SSL_free(t->ssl);
		t->ssl = NULL;
		return rc;
	}
	t->magic = TLS_SESSION_MAGIC;
	policy->sessions++;
	return 0;
}

void tls_session_fini(struct tls_session *t)
{
	assert(t->magic == TLS_SESSION_MAGIC);
	/*
	 * SSL_free() of a connection that looks unfinished marks its session as not resumable, also
	 * the copy in the cache.  Only a connection that failed deserves that.
	 */
	if (!t->dead)
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(t->ssl);
	t->ssl = NULL;
	t->policy->sessions--;
	t->magic = 0;
}

void tls_feed(struct tls_session *t, const void *p, uint32_t n)
{
	assert(t->magic == TLS_SESSION_MAGIC && t->in_n == 0);
	t->in = p;
	t->in_n = n;
}

static void note_done(struct tls_session *t)
{
	const unsigned char *p = NULL;
	unsigned n = 0;
	t->done = true;
	SSL_get0_alpn_selected(t->ssl, &p, &n);
	if (n <
	    sizeof(t->alpn)) { /* longer ones are none of ours: OpenSSL refuses what was not offered */
		memcpy(t->alpn, n > 0 ? p : (const unsigned char *)"", n);
		t->alpn[n] = '\0';
	}
	t->policy->counts.handshakes++;
	t->policy->counts.resumed += tls_resumed(t);
}

enum tls_step tls_handshake(struct tls_session *t)
{
	assert(t->magic == TLS_SESSION_MAGIC && !t->dead && !t->done);
	ERR_clear_error();
	int rc = SSL_do_handshake(t->ssl);
	if (rc == 1) {
		note_done(t);
		return TLS_OK;
	}
	enum tls_step step = judge(t, rc);
	assert(step != TLS_AGAIN || t->in_n == 0);
	if (step == TLS_EOF) { /* close_notify instead of a handshake (RFC 8446 section 6.1) */
		t->failure = "the peer ended the handshake";
		t->dead = true;
		return TLS_E_PROTOCOL;
	}
	return step;
}

enum tls_step tls_read(struct tls_session *t, void *p, uint32_t cap, uint32_t *ret_n)
{
	assert(t->magic == TLS_SESSION_MAGIC && t->done && !t->dead && cap > 0);
	size_t n = 0;
	keep_buffers(t, t->in_n > 0); /* only a read that finds the window used up may be the last */
	errors_none();
	int rc = SSL_read_ex(t->ssl, p, cap, &n);
	*ret_n = (uint32_t)n;
	if (rc == 1)
		return TLS_OK;
	enum tls_step step = judge(t, rc);
	assert(step != TLS_AGAIN || t->in_n == 0);
	return step;
}

enum tls_step tls_write(struct tls_session *t, const void *p, uint32_t n, uint32_t *ret_n)
{
	assert(t->magic == TLS_SESSION_MAGIC && t->done && !t->dead && n > 0);
	if (n > TLS_RECORD_MAX)
		n = TLS_RECORD_MAX;
	/* OpenSSL insists on the length of the write it could not finish. */
	if (t->retry_n != 0) {
		assert(n >= t->retry_n);
		n = t->retry_n;
	}
	size_t took = 0;
	keep_buffers(t, false);
	errors_none();
	int rc = SSL_write_ex(t->ssl, p, n, &took);
	*ret_n = (uint32_t)took;
	t->retry_n = 0;
	if (rc == 1)
		return TLS_OK;
	enum tls_step step = judge(t, rc);
	if (step == TLS_FULL)
		t->retry_n = n;
	/* Without renegotiation no write has to wait for the peer. */
	if (step == TLS_AGAIN || step == TLS_EOF)
		step = fail(t);
	return step;
}

enum tls_step tls_shutdown(struct tls_session *t)
{
	assert(t->magic == TLS_SESSION_MAGIC);
	if (!t->done || t->dead)
		return TLS_OK;
	errors_none();
	int rc = SSL_shutdown(t->ssl);
	if (rc >= 0)
		return TLS_OK;
	return judge(t, rc) == TLS_FULL ? TLS_FULL : TLS_OK;
}

bool tls_closed(const struct tls_session *t)
{
	return (SSL_get_shutdown(t->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

const char *tls_alpn(const struct tls_session *t)
{
	return t->alpn;
}

bool tls_resumed(const struct tls_session *t)
{
	return SSL_session_reused(t->ssl) == 1;
}

uint64_t tls_peer_expires_s(const struct tls_session *t)
{
	const X509 *cert = SSL_get0_peer_certificate(t->ssl);

	return cert ? tls_ends_s(cert) : 0;
}

const char *tls_version_name(const struct tls_session *t)
{
	return SSL_get_version(t->ssl);
}

const char *tls_failure(const struct tls_session *t)
{
	return t->failure != NULL ? t->failure : "";
}
