/*
 * h1 over TLS: ALPN decides for it, and an end without close_notify is no end of a body.
 */
#include "h1_rig.h"
#include "sidecar/io/tls.h"
#include "tests/sidecar/io/tls_peer.h"

struct tls_side {
	SSL_CTX *ctx;
	SSL     *ssl;
	BIO     *in, *out;
};

static struct cert        ca, leaf;
static struct tls_policy *policy;
static const char         http_1_1[] = "\x08http/1.1";

static void keys_make(void)
{
	struct tls_options opt = { .alpn = "h2,http/1.1" };
	char               path[128], why[TLS_WHY_MAX];

	ca = cert_make("ca", NULL, NULL, -DAY, DAY);
	leaf = cert_make("up", "DNS:up.test", &ca, -DAY, DAY);
	cert_file(&ca, path);
	opt.ca_file = path;
	cr_assert_eq(tls_policy_new(&opt, &policy, why, sizeof(why)), 0, "%s", why);
}

static void keys_free(void)
{
	policy = tls_policy_free(policy);
	cert_free(&leaf);
	cert_free(&ca);
	peer_cleanup();
}

TestSuite(h1_tls, .init = keys_make, .fini = keys_free);

/* Carry bytes between the socket and OpenSSL; what it decrypts goes to r->got. */
static void carry(struct rig *r, struct tls_side *t)
{
	uint8_t tmp[16384];
	ssize_t n = recv(r->peer, tmp, sizeof(tmp), 0);
	int     rc;

	if (n > 0)
		BIO_write(t->in, tmp, (int)n);
	else if (n == 0)
		r->got_eof = true;
	ERR_clear_error();
	rc = SSL_is_init_finished(t->ssl) ? 1 : SSL_do_handshake(t->ssl);
	if (rc == 1 && (rc = SSL_read(t->ssl, tmp, sizeof(tmp))) > 0) {
		memcpy(r->got + r->n_got, tmp, (size_t)rc);
		r->n_got += (size_t)rc;
		r->got[r->n_got] = 0;
	}
	while ((rc = BIO_read(t->out, tmp, sizeof(tmp))) > 0)
		send(r->peer, tmp, (size_t)rc, MSG_NOSIGNAL);
}

static void tls_says(struct rig *r, struct tls_side *t, const char *text)
{
	cr_assert_eq(SSL_write(t->ssl, text, (int)strlen(text)), (int)strlen(text));
	carry(r, t);
}

#define TLS_UNTIL(r, t, cond)                                                                      \
	do {                                                                                       \
		for (int i_ = 0; i_ < RIG_TURNS && !(cond); i_++) {                                \
			rig_turn(r);                                                               \
			if ((r)->peer >= 0)                                                        \
				carry(r, t);                                                       \
		}                                                                                  \
		cr_assert(cond, "never: %s; log: %s", #cond, (r)->app.log);                        \
	} while (0)

static void tls_connect(struct rig *r, struct tls_side *t, bool alpn)
{
	struct sockaddr_in         at = rig_listen(r);
	struct http_client_options o = { .addr = (struct sockaddr *)&at, .addr_len = sizeof(at),
		                         .limits = &r->limits, .ev = &rig_events, .owner = r,
		                         .tls = policy, .server_name = "up.test" };

	t->ctx = peer_ctx(&leaf, 0);
	if (alpn)
		SSL_CTX_set_alpn_select_cb(t->ctx, peer_alpn, (void *)(uintptr_t)http_1_1);
	t->ssl = SSL_new(t->ctx);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	SSL_set_bio(t->ssl, t->in, t->out);
	SSL_set_accept_state(t->ssl);
	cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
	rig_turn(r);
	r->peer = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(r->peer >= 0);
	TLS_UNTIL(r, t, r->ready == 1);
}

static void tls_free(struct tls_side *t)
{
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
}

Test(h1_tls, alpn_http_1_1_or_none_means_h1)
{
	for (int alpn = 0; alpn < 2; alpn++) {
		EACH_ENGINE(r) {
			struct tls_side t;

			tls_connect(r, &t, alpn);
			cr_assert_eq(r->c->version, HTTP_1_1);
			cr_assert_eq(r->c->capacity, 1);
			for (int i = 1; i <= 2; i++) {
				r->app.n_log = 0;
				cr_assert_eq(send_request(r, "GET", "/s", HTTP_BODY_NONE, 0), 0);
				TLS_UNTIL(r, &t, peer_got(r, "GET /s HTTP/1.1\r\nHost: up\r\n\r\n"));
				peer_forget(r);
				tls_says(r, &t, "HTTP/1.1 204 No\r\n\r\n");
				TLS_UNTIL(r, &t, strcmp(r->app.log, "sent all, head 204 end") == 0);
				TLS_UNTIL(r, &t, r->capacity == i);
			}
			http_conn_drain(r->c);
			TLS_UNTIL(r, &t, r->closed == 1);
			tls_free(&t);
		}
	}
}

Test(h1_tls, only_close_notify_ends_a_body_until_close)
{
	for (int notify = 0; notify < 2; notify++) {
		EACH_ENGINE(r) {
			struct tls_side t;

			tls_connect(r, &t, true);
			cr_assert_eq(send_request(r, "GET", "/s", HTTP_BODY_NONE, 0), 0);
			TLS_UNTIL(r, &t, peer_got(r, "\r\n\r\n"));
			tls_says(r, &t, "HTTP/1.1 200 OK\r\n\r\n");
			TLS_UNTIL(r, &t, strcmp(r->app.log, "sent all, head 200") == 0);
			if (notify)
				SSL_shutdown(t.ssl);
			carry(r, &t);
			shutdown(r->peer, SHUT_WR);
			TLS_UNTIL(r, &t, r->closed == 1);
			LOG_IS(r, notify ? "sent all, head 200, end" :
			                   "sent all, head 200, error: message incomplete when the connection closed");
			tls_free(&t);
		}
	}
}
