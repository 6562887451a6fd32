/*
 * A name server that does what the test says: one script for every question, UDP and TCP on one
 * port.
 */
#ifndef RHC_TESTS_UPSTREAM_DNS_SERVER_H
#define RHC_TESTS_UPSTREAM_DNS_SERVER_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DNS_A = 1, DNS_AAAA = 28, DNS_ADDRS_MAX = 40 };

struct dns_script {
	bool silent;
	bool silent_aaaa; /* only A is answered */
	bool truncate;    /* over UDP: TC, no answer */
	bool garbage;
	uint8_t rcode;
	uint32_t ttl;
	unsigned n4, n6;
	uint8_t first4; /* 127.0.0.first4 and on */
};

struct dns_server {
	int udp, tcp, conn;
	uint16_t port;
	char csv[32]; /* for resolver_options.servers */
	struct dns_script script;
	unsigned asked, asked_tcp;
	char name[300]; /* of the last question */
};

static inline void dns_server_init(struct dns_server *s)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);

	memset(s, 0, sizeof(*s));
	s->conn = -1;
	/* One port for both; another process may have the other half of it. */
	for (int i = 0; i < 50; i++) {
		in.sin_port = 0;
		s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		cr_assert_eq(bind(s->tcp, (struct sockaddr *)&in, sizeof(in)), 0);
		cr_assert_eq(getsockname(s->tcp, (struct sockaddr *)&in, &len), 0);
		if (bind(s->udp, (struct sockaddr *)&in, sizeof(in)) == 0)
			break;
		close(s->udp);
		close(s->tcp);
		s->udp = -1;
	}
	cr_assert_geq(s->udp, 0);
	cr_assert_eq(listen(s->tcp, 8), 0);
	s->port = ntohs(in.sin_port);
	snprintf(s->csv, sizeof(s->csv), "127.0.0.1:%u", s->port);
}

static inline void dns_server_fini(struct dns_server *s)
{
	close(s->udp);
	close(s->tcp);
	if (s->conn >= 0)
		close(s->conn);
}

static inline size_t dns_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return 2;
}

/* The end of the question section of one question; its name goes to s->name. */
static inline size_t dns_question(struct dns_server *s, const uint8_t *q, size_t n,
				  unsigned *ret_type)
{
	size_t i = 12, at = 0;

	while (i < n && q[i] != 0) {
		size_t len = q[i++];

		if (i + len >= n || at + len + 2 > sizeof(s->name))
			return 0;
		memcpy(s->name + at, q + i, len);
		at += len;
		s->name[at++] = '.';
		i += len;
	}
	s->name[at ? at - 1 : 0] = '\0';
	if (i + 5 > n)
		return 0;
	*ret_type = (unsigned)q[i + 1] << 8 | q[i + 2];
	return i + 5;
}

/* Returns the length of the answer, 0: none. */
static inline size_t dns_answer(struct dns_server *s, const uint8_t *q, size_t n, uint8_t *out,
				bool tcp)
{
	const struct dns_script *k = &s->script;
	unsigned type = 0, count;
	size_t at = n < 12 ? 0 : dns_question(s, q, n, &type);

	if (at == 0 || k->silent || (type == DNS_AAAA && k->silent_aaaa))
		return 0;
	count = type == DNS_A ? k->n4 : type == DNS_AAAA ? k->n6 : 0;
	memcpy(out, q, at);
	if (k->garbage) {
		memset(out + 2, 0xff, at - 2);
		return at;
	}
	out[2] = 0x81; /* response, recursion desired */
	out[3] = 0x80 | k->rcode;
	if (k->truncate && !tcp) {
		out[2] |= 2;
		count = 0;
	}
	if (k->rcode)
		count = 0;
	dns_put16(out + 4, 1);
	dns_put16(out + 6, count);
	dns_put16(out + 8, 0);
	dns_put16(out + 10, 0); /* no OPT of theirs */
	for (unsigned i = 0; i < count; i++) {
		at += dns_put16(out + at, 0xc00c);
		at += dns_put16(out + at, type);
		at += dns_put16(out + at, 1);
		at += dns_put16(out + at, k->ttl >> 16);
		at += dns_put16(out + at, k->ttl & 0xffff);
		at += dns_put16(out + at, type == DNS_A ? 4 : 16);
		if (type == DNS_A) {
			memcpy(out + at, (uint8_t[]){ 127, 0, 0, (uint8_t)(k->first4 + i) }, 4);
			at += 4;
		} else {
			memset(out + at, 0, 16);
			out[at] = 0xfd;
			out[at + 15] = (uint8_t)(i + 1);
			at += 16;
		}
	}
	return at;
}

static inline void dns_server_act(void *arg)
{
	struct dns_server *s = arg;
	uint8_t q[2048], a[4096];
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	ssize_t n;

	while ((n = recvfrom(s->udp, q, sizeof(q), 0, (struct sockaddr *)&from, &len)) > 0) {
		size_t m = dns_answer(s, q, (size_t)n, a, false);

		s->asked++;
		if (m > 0)
			cr_assert_eq(sendto(s->udp, a, m, 0, (struct sockaddr *)&from, len),
				     (ssize_t)m);
	}
	if (s->conn < 0)
		s->conn = accept4(s->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (s->conn >= 0 && (n = recv(s->conn, q, sizeof(q), 0)) != -1) {
		size_t i = 0;

		if (n == 0) {
			close(s->conn);
			s->conn = -1;
			return;
		}
		/* Small questions on loopback come whole, perhaps two at a time. */
		while (i + 2 <= (size_t)n) {
			size_t one = (size_t)q[i] << 8 | q[i + 1];
			size_t m = dns_answer(s, q + i + 2, one, a + 2, true);

			s->asked_tcp++;
			if (m > 0) {
				dns_put16(a, (unsigned)m);
				cr_assert_eq(send(s->conn, a, m + 2, MSG_NOSIGNAL),
					     (ssize_t)(m + 2));
			}
			i += one + 2;
		}
	}
}

#endif
