/*
 * tests/sidecar/io/tls_server.h - the other side of a TLS stream: OpenSSL over memory, its bytes carried to and
 * from the rig's plain socket by hand, so that a test can split, damage or withhold them.
 */
#ifndef RHC_TESTS_SIDECAR_IO_TLS_SERVER_H
#define RHC_TESTS_SIDECAR_IO_TLS_SERVER_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "tests/sidecar/io/stream_rig.h"

RIG struct tls_policy *policy_of(const struct tls_options *opt)
{
	char               why[TLS_WHY_MAX];
	struct tls_policy *p = NULL;
	cr_assert_eq(tls_policy_new(opt, &p, why, sizeof(why)), 0, "%s", why);
	return p;
}

struct server {
	SSL_CTX *ctx;
	SSL     *ssl;
	BIO     *in, *out;
	int      fd;
	uint32_t step; /* bytes per send and turn, 0: all */
	bool     ended; /* the socket said end, or died */
};

RIG void server_open(struct server *v, int fd, SSL_CTX *ctx)
{
	v->ctx = ctx;
	v->ssl = SSL_new(ctx);
	v->in = BIO_new(BIO_s_mem());
	v->out = BIO_new(BIO_s_mem());
	SSL_set_bio(v->ssl, v->in, v->out);
	SSL_set_accept_state(v->ssl);
	v->fd = fd;
	v->ended = false;
}

RIG void server_free(struct server *v)
{
	SSL_set_shutdown(v->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(v->ssl);
}

RIG void server_carry(struct server *v)
{
	uint8_t tmp[65536];
	ssize_t n = recv(v->fd, tmp, sizeof(tmp), 0);
	if (n > 0)
		BIO_write(v->in, tmp, (int)n);
	else if (n == 0 || errno != EAGAIN)
		v->ended = true;
	const char *p;
	long        have = BIO_get_mem_data(v->out, (char **)(uintptr_t)&p);
	if (have <= 0)
		return;
	size_t  cap = v->step > 0 && v->step < (size_t)have ? v->step : (size_t)have;
	ssize_t sent = send(v->fd, p, cap, MSG_NOSIGNAL);
	if (sent > 0)
		BIO_read(v->out, tmp, (int)sent > (int)sizeof(tmp) ? (int)sizeof(tmp) : (int)sent);
}

RIG void server_send(struct server *v, uint64_t *at, uint32_t n)
{
	uint8_t tmp[65536];
	for (uint32_t i = 0; i < n; i++)
		tmp[i] = pattern(*at + i);
	cr_assert_eq(SSL_write(v->ssl, tmp, (int)n), (int)n);
	*at += n;
}

RIG void server_recv(struct server *v, uint64_t *at)
{
	uint8_t tmp[16384];
	int     n;
	while ((n = SSL_read(v->ssl, tmp, sizeof(tmp))) > 0) {
		for (int i = 0; i < n; i++)
			cr_assert_eq(tmp[i], pattern(*at + (uint64_t)i));
		*at += (uint64_t)n;
	}
	ERR_clear_error();
}

#endif
