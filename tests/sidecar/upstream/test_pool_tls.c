/* sidecar/upstream/pool.h over TLS: what a handshake costs, and how its failures are told. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "caller.h"
#include "world.h"

enum { PEERS = 8 };

static struct world world;
static struct upstream *up;
static SSL_CTX *ctx;
static int listen_fd = -1;
static unsigned accepted;
static bool hang_up; /* instead of a handshake */
static bool mute;    /* no byte of a handshake */
static char ca_file[] = "/tmp/rhc-ca-XXXXXX";

static struct peer {
	int fd; /* 0: free */
	SSL *ssl;
	bool shaken;
	char in[2048];
	size_t n;
} peer[PEERS];

/* A certificate that is its own authority, for 127.0.0.1. */
static X509 *certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509V3_CTX v3;
	X509_EXTENSION *ext;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
				   0);
	X509_set_issuer_name(x, name);
	X509_set_pubkey(x, key);
	X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, "IP:127.0.0.1");
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	ext = X509V3_EXT_conf_nid(NULL, &v3, NID_basic_constraints, "critical,CA:TRUE");
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	cr_assert_gt(X509_sign(x, key, EVP_sha256()), 0);
	return x;
}

static void make_server(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = certificate(key);
	FILE *f = fdopen(mkstemp(ca_file), "w");

	PEM_write_X509(f, cert);
	fclose(f);
	ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate(ctx, cert);
	SSL_CTX_use_PrivateKey(ctx, key);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void drop_peer(struct peer *p)
{
	if (p->ssl)
		SSL_free(p->ssl);
	close(p->fd);
	*p = (struct peer){ .fd = 0 };
}

static void talk(struct peer *p)
{
	static const char answer[] =
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	int n;

	ERR_clear_error();
	if (!p->shaken && SSL_accept(p->ssl) != 1) {
		if (SSL_get_error(p->ssl, -1) != SSL_ERROR_WANT_READ)
			drop_peer(p);
		return;
	}
	p->shaken = true;
	n = SSL_read(p->ssl, p->in + p->n, (int)(sizeof(p->in) - p->n - 1));
	if (n <= 0) {
		if (SSL_get_error(p->ssl, n) != SSL_ERROR_WANT_READ)
			drop_peer(p);
		return;
	}
	p->n += (size_t)n;
	p->in[p->n] = '\0';
	if (!strstr(p->in, "\r\n\r\n"))
		return;
	cr_assert_eq(SSL_write(p->ssl, answer, sizeof(answer) - 1), (int)sizeof(answer) - 1);
	SSL_shutdown(p->ssl);
	drop_peer(p);
}

static void server_act(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		int i = 0;

		accepted++;
		if (hang_up) {
			close(fd);
			continue;
		}
		while (i < PEERS && peer[i].fd)
			i++;
		cr_assert_lt(i, PEERS);
		peer[i] = (struct peer){ .fd = fd, .ssl = SSL_new(ctx) };
		SSL_set_fd(peer[i].ssl, fd);
	}
	for (int i = 0; i < PEERS; i++)
		if (peer[i].fd && !mute)
			talk(&peer[i]);
}

/* ---- the caller ---- */

static struct call run(void)
{
	static struct call c;

	cr_assert_not(caller_take(&c, up));
	cr_assert(rig_until(&world.rig, &c.done, 5000));
	rig_for(&world.rig, 20);
	return c;
}

static void begin(bool trusted, const char *policy)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	char yaml[1024];

	make_server();
	listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listen_fd, (struct sockaddr *)&in, sizeof(in)), 0);
	cr_assert_eq(listen(listen_fd, 16), 0);
	cr_assert_eq(getsockname(listen_fd, (struct sockaddr *)&in, &len), 0);
	snprintf(yaml, sizeof(yaml),
		 "version: 1\nupstreams:\n  orders:\n    url: https://127.0.0.1:%u\n%s%s%s%s",
		 ntohs(in.sin_port), trusted ? "    tls: {ca_file: " : "", trusted ? ca_file : "",
		 trusted ? "}\n" : "", policy);
	world_init(&world, 1, ENGINE_AUTO, yaml, NULL);
	world.rig.peer[world.rig.n_peers++] = (struct rig_peer){ server_act, NULL };
	up = world_up(&world, 0, "orders");
}

static void end(void)
{
	world_fini(&world);
	for (int i = 0; i < PEERS; i++)
		if (peer[i].fd)
			drop_peer(&peer[i]);
	close(listen_fd);
	SSL_CTX_free(ctx);
	unlink(ca_file);
}

TestSuite(pool_tls, .fini = end, .timeout = 60);

Test(pool_tls, a_handshake_is_timed_and_the_next_one_resumes_it)
{
	struct call c;

	begin(true, "");
	c = run();
	cr_assert_eq(c.status, 200, "%s", c.w.text);
	cr_assert_gt(c.w.tls_ns, 0);
	cr_assert_eq(world_counter(up, RHC_CTR_tls_full), 1);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(run().status, 200);
	cr_assert_eq(world_counter(up, RHC_CTR_tls_full) + world_counter(up, RHC_CTR_tls_resumed),
		     4);
	cr_assert_geq(world_counter(up, RHC_CTR_tls_resumed), 1);
}

Test(pool_tls, a_certificate_nobody_vouches_for_is_told_and_tried_once)
{
	struct call c;

	begin(false, "");
	c = run();
	cr_assert_eq(c.status, 0);
	cr_assert_eq(c.w.error, RHC_ERR_tls_certificate, "%s: %s", error_row(c.w.error)->id,
		     c.w.text);
	cr_assert(strstr(c.w.text, "certificate") != NULL, "%s", c.w.text);
	cr_assert_eq(accepted, 1);
	cr_assert_eq(world_counter(up, RHC_CTR_tls_failed), 1);
}

Test(pool_tls, verify_false_takes_any_certificate)
{
	begin(false, "    tls: {verify: false}\n");
	cr_assert_eq(run().status, 200);
}

Test(pool_tls, a_peer_that_hangs_up_in_the_handshake_is_a_failed_connect)
{
	struct call c;

	begin(true, "");
	hang_up = true;
	c = run();
	cr_assert(c.w.error == RHC_ERR_tls_failure || c.w.error == RHC_ERR_connect_refused, "%s",
		  error_row(c.w.error)->id);
	cr_assert_neq(error_row(c.w.error)->again, ERROR_AGAIN_NO);
}

Test(pool_tls, a_handshake_that_is_never_answered_is_a_connect_timeout)
{
	struct call c;

	begin(true, "    timeout: {connect: 150ms}\n");
	mute = true;
	c = run();
	cr_assert_eq(c.w.error, RHC_ERR_connect_timeout);
	cr_assert_eq(accepted, 1);
}
