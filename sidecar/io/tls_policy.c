#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sidecar/io/tls_policy.h"

enum { ALPN_WIRE_MAX = 256 };

static const char default_groups[] = "X25519:P-256";

/* The sentence of a failed tls_policy_new() on its way to the caller. */
struct complaint {
	char *why;
	size_t cap;
};

__attribute__((format(printf, 3, 4))) static int complain(const struct complaint *c, int err,
							  const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (c->cap > 0)
		vsnprintf(c->why, c->cap, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return err;
}

/* The reason of OpenSSL's oldest error: the root, not what followed from it. */
static const char *openssl_reason(void)
{
	unsigned long e = ERR_peek_error();
	const char *s = e != 0 ? ERR_reason_error_string(e) : NULL;
	return s != NULL ? s : "not understood";
}

/* OpenSSL names a missing file in ways of its own; errno is what a reader expects. */
static int check_file(const struct complaint *c, const char *option, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		int err = errno;
		return complain(c, -err, "%s %s: %s", option, path, strerror(err));
	}
	struct stat st;
	int rc = fstat(fd, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
	close(fd);
	return rc == 0 ? 0 : complain(c, -rc, "%s %s: %s", option, path, strerror(rc));
}

static bool dir_has_entries(const char *path)
{
	DIR *d = opendir(path);
	if (d == NULL)
		return false;
	bool found = false;
	for (struct dirent *e = readdir(d); e != NULL && !found; e = readdir(d))
		found = e->d_name[0] != '.';
	closedir(d);
	return found;
}

/* An image without ca-certificates fails here, with a sentence, and not at every handshake. */
static bool system_trusts_somebody(void)
{
	const char *file = getenv(X509_get_default_cert_file_env());
	const char *dir = getenv(X509_get_default_cert_dir_env());
	if (file == NULL)
		file = X509_get_default_cert_file();
	if (dir == NULL)
		dir = X509_get_default_cert_dir();
	return access(file, R_OK) == 0 || dir_has_entries(dir);
}

static int set_trust(struct tls_policy *p, const struct tls_options *opt, const struct complaint *c)
{
	if (opt->ca_file != NULL) {
		int rc = check_file(c, "ca_file", opt->ca_file);
		if (rc < 0)
			return rc;
		if (SSL_CTX_load_verify_file(p->ctx, opt->ca_file) != 1)
			return complain(c, -EBADMSG, "ca_file %s: no usable PEM certificate: %s",
					opt->ca_file, openssl_reason());
	} else if (!opt->insecure) {
		if (!system_trusts_somebody())
			return complain(c, -ENOENT,
					"ca_file is not set and the system has no CA "
					"certificates (package ca-certificates)");
		if (SSL_CTX_set_default_verify_paths(p->ctx) != 1)
			return complain(c, -EBADMSG, "the CA certificates of the system: %s",
					openssl_reason());
	}
	p->insecure = opt->insecure;
	p->own_ca = opt->ca_file != NULL;
	SSL_CTX_set_verify(p->ctx, opt->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	return 0;
}

uint64_t tls_ends_s(const X509 *cert)
{
	struct tm tm;
	time_t t;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
		return 0;
	t = timegm(&tm);
	return t > 0 ? (uint64_t)t : 0;
}

uint64_t tls_policy_own_expires_s(const struct tls_policy *p)
{
	const X509 *cert = SSL_CTX_get0_certificate(p->ctx);

	return cert != NULL ? tls_ends_s(cert) : 0;
}

uint64_t tls_policy_ca_expires_s(const struct tls_policy *p)
{
	STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(p->ctx));
	uint64_t first = 0;

	for (int i = 0; p->own_ca && i < sk_X509_OBJECT_num(all); i++) {
		const X509 *cert = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
		uint64_t ends = cert != NULL ? tls_ends_s(cert) : 0;

		if (ends != 0 && (first == 0 || ends < first))
			first = ends;
	}
	return first;
}

/* Without this an encrypted key would ask at the terminal. */
static int give_passphrase(char *out, int cap, int writing, void *arg)
{
	(void)writing;
	const struct tls_policy *p = arg;
	size_t n = p->passphrase != NULL ? strlen(p->passphrase) : 0;
	if (n > (size_t)cap)
		return 0;
	memcpy(out, p->passphrase != NULL ? p->passphrase : "", n);
	return (int)n;
}

static int load_key(struct tls_policy *p, const struct tls_options *opt, const struct complaint *c)
{
	p->passphrase = opt->key_passphrase;
	SSL_CTX_set_default_passwd_cb(p->ctx, give_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(p->ctx, p);
	int ok = SSL_CTX_use_PrivateKey_file(p->ctx, opt->key_file, SSL_FILETYPE_PEM);
	p->passphrase = NULL;
	unsigned long e = ERR_peek_last_error();
	bool other = ERR_GET_LIB(e) == ERR_LIB_X509 &&
		     (ERR_GET_REASON(e) == X509_R_KEY_VALUES_MISMATCH ||
		      ERR_GET_REASON(e) == X509_R_KEY_TYPE_MISMATCH);
	if (ok != 1 && !other)
		return complain(c, -EBADMSG, "key_file %s: no usable PEM key%s: %s", opt->key_file,
				opt->key_passphrase != NULL ? " with this key_passphrase" : "",
				openssl_reason());
	if (ok != 1 || SSL_CTX_check_private_key(p->ctx) != 1)
		return complain(c, -EKEYREJECTED, "key_file %s does not belong to cert_file %s",
				opt->key_file, opt->cert_file);
	return 0;
}

static int set_client_cert(struct tls_policy *p, const struct tls_options *opt,
			   const struct complaint *c)
{
	if (opt->cert_file == NULL && opt->key_file == NULL)
		return 0;
	if (opt->cert_file == NULL || opt->key_file == NULL)
		return complain(c, -EINVAL, "%s without %s",
				opt->cert_file ? "cert_file" : "key_file",
				opt->cert_file ? "key_file" : "cert_file");
	int rc = check_file(c, "cert_file", opt->cert_file);
	if (rc == 0)
		rc = check_file(c, "key_file", opt->key_file);
	if (rc < 0)
		return rc;
	if (SSL_CTX_use_certificate_chain_file(p->ctx, opt->cert_file) != 1)
		return complain(c, -EBADMSG, "cert_file %s: no usable PEM certificate: %s",
				opt->cert_file, openssl_reason());
	return load_key(p, opt, c);
}

/* "h2,http/1.1" to length-prefixed names (RFC 7301 section 3.1).  Their length, or -EINVAL. */
static int alpn_wire(const char *list, uint8_t wire[ALPN_WIRE_MAX])
{
	size_t at = 0;
	for (const char *s = list;; s++) {
		size_t n = strcspn(s, ",");
		if (n == 0 || n > 255 || at + 1 + n > ALPN_WIRE_MAX)
			return -EINVAL;
		wire[at] = (uint8_t)n;
		memcpy(wire + at + 1, s, n);
		at += 1 + n;
		s += n;
		if (*s == '\0')
			return (int)at;
	}
}

static int set_protocol(struct tls_policy *p, const struct tls_options *opt,
			const struct complaint *c)
{
	const char *groups = opt->groups != NULL ? opt->groups : default_groups;
	SSL_CTX_set_min_proto_version(p->ctx, opt->min_version == TLS_1_3 ? TLS1_3_VERSION
									  : TLS1_2_VERSION);
	/*
	 * Pinned, so that every OpenSSL behaves alike: newer ones send a second, large key share.
	 */
	if (SSL_CTX_set1_groups_list(p->ctx, groups) != 1)
		return complain(c, -EINVAL, "groups %s: a group in it is not known", groups);
	if (opt->alpn != NULL && opt->alpn[0] != '\0') {
		uint8_t wire[ALPN_WIRE_MAX];
		int n = alpn_wire(opt->alpn, wire);
		if (n < 0)
			return complain(c, n, "alpn %s: names of 1 to 255 bytes between commas",
					opt->alpn);
		if (SSL_CTX_set_alpn_protos(p->ctx, wire, (unsigned)n) != 0)
			return complain(c, -ENOMEM, "alpn %s: no memory", opt->alpn);
	}
	if (opt->server_name != NULL && tls_name_clean(opt->server_name, p->server_name) < 0)
		return complain(c, -EINVAL, "server_name %s: not a host name", opt->server_name);
	return 0;
}

static void set_modes(struct tls_policy *p, const struct tls_options *opt)
{
	SSL_CTX_set_options(p->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(p->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	p->resumption = !opt->no_resumption;
	if (p->resumption) {
		SSL_CTX_set_session_cache_mode(p->ctx,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(p->ctx, tls_on_new_session);
	} else {
		SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_OFF);
		SSL_CTX_set_options(p->ctx, SSL_OP_NO_TICKET);
	}
}

static int fill(struct tls_policy *p, const struct tls_options *opt, const struct complaint *c)
{
	p->ctx = SSL_CTX_new(TLS_client_method());
	p->bio = tls_bio_method();
	if (p->ctx == NULL || p->bio == NULL)
		return complain(c, -ENOMEM, "no memory for TLS");
	set_modes(p, opt);
	int rc = set_protocol(p, opt, c);
	if (rc == 0)
		rc = set_trust(p, opt, c);
	if (rc == 0)
		rc = set_client_cert(p, opt, c);
	return rc;
}

int tls_policy_new(const struct tls_options *opt, struct tls_policy **ret_policy, char *why,
		   size_t cap)
{
	const struct complaint c = { why, cap };
	ERR_clear_error();
	struct tls_policy *p = calloc(1, sizeof(*p));
	if (p == NULL)
		return complain(&c, -ENOMEM, "no memory for TLS");
	p->magic = TLS_POLICY_MAGIC;
	int rc = fill(p, opt, &c);
	ERR_clear_error();
	if (rc < 0)
		tls_policy_free(p);
	else
		*ret_policy = p;
	return rc;
}

struct tls_policy *tls_policy_free(struct tls_policy *p)
{
	if (p == NULL)
		return NULL;
	assert(p->magic == TLS_POLICY_MAGIC && p->sessions == 0);
	for (uint16_t i = 0; i < TLS_SERVERS_MAX; i++)
		tls_cache_drop(p, i);
	SSL_CTX_free(p->ctx);
	BIO_meth_free(p->bio);
	p->magic = 0;
	free(p);
	return NULL;
}

struct tls_counts tls_policy_counts(const struct tls_policy *p)
{
	assert(p->magic == TLS_POLICY_MAGIC);
	return p->counts;
}

int tls_name_clean(const char *name, char out[TLS_NAME_MAX + 1])
{
	size_t n = strlen(name);
	if (n >= 2 && name[0] == '[' && name[n - 1] == ']') { /* RFC 3986 section 3.2.2 */
		name++;
		n -= 2;
	} else if (n >= 2 && name[n - 1] == '.') { /* RFC 6066 section 3: without the last dot */
		n--;
	}
	if (n == 0 || n > TLS_NAME_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (name[i] <= ' ' || name[i] == 0x7f || name[i] == '/')
			return -EINVAL;
	}
	memcpy(out, name, n);
	out[n] = '\0';
	return 0;
}

bool tls_name_is_ip(const char *clean)
{
	struct in6_addr any;
	return inet_pton(AF_INET, clean, &any) == 1 || inet_pton(AF_INET6, clean, &any) == 1;
}
