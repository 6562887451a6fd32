/* Names and addresses that need no name server, and addresses as such. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "shm/base.h"
#include "sidecar/upstream/dns.h"

enum { HOSTS_LINES_MAX = 10000, HOSTS_LINE_MAX = 1024 };

static bool allowed(enum config_family family, int af)
{
	return family == CONFIG_FAMILY_AUTO || (family == CONFIG_FAMILY_IPV4) == (af == AF_INET);
}

static bool parse_ip(const char *text, uint16_t port, union resolver_addr *a)
{
	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons(port);
		return true;
	}
	if (inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons(port);
		return true;
	}
	return false;
}

static void add(struct dns_found *f, const char *ip, uint16_t port, enum config_family family)
{
	if (f->n < RESOLVER_ADDRS_MAX && parse_ip(ip, port, &f->addr[f->n]) &&
	    allowed(family, f->addr[f->n].any.sa_family))
		f->n++;
}

/*
 * RFC 6761 section 6.3: localhost and everything below it is the loopback, whatever a server would
 * say.
 */
static bool is_localhost(const char *host)
{
	static const char name[] = "localhost";
	size_t n = strlen(host), k = sizeof(name) - 1;

	if (n > 0 && host[n - 1] == '.')
		n--;
	if (n < k || strncasecmp(host + n - k, name, k) != 0)
		return false;
	return n == k || host[n - k - 1] == '.';
}

/* One line of hosts(5): address, names; '#' begins a comment. */
static bool line_has(char *line, const char *host, char **ret_ip)
{
	char *save = NULL, *ip, *name;

	line[strcspn(line, "#\n")] = '\0';
	ip = strtok_r(line, " \t\r", &save);
	while (ip && (name = strtok_r(NULL, " \t\r", &save)) != NULL) {
		if (strcasecmp(name, host) == 0) {
			*ret_ip = ip;
			return true;
		}
	}
	return false;
}

static bool from_hosts(const char *path, const char *host, uint16_t port, enum config_family family,
		       struct dns_found *f)
{
	char line[HOSTS_LINE_MAX], name[256], *ip;
	FILE *file = fopen(path ? path : "/etc/hosts", "re");
	size_t n = strlen(host);
	bool found = false;

	if (!file || n == 0 || n >= sizeof(name)) {
		if (file)
			fclose(file);
		return false;
	}
	memcpy(name, host, n + 1);
	if (name[n - 1] == '.')
		name[n - 1] = '\0';
	for (int i = 0; i < HOSTS_LINES_MAX && fgets(line, sizeof(line), file); i++) {
		if (line_has(line, name, &ip)) {
			add(f, ip, port, family);
			found = found || f->n > 0;
		}
	}
	fclose(file);
	return found;
}

enum dns_local dns_local(const char *hosts_file, const char *host, uint16_t port,
			 enum config_family family, struct dns_found *f)
{
	union resolver_addr a;

	memset(f, 0, sizeof(*f));
	if (parse_ip(host, port, &a)) {
		add(f, host, port, family);
		return DNS_LOCAL_FIXED;
	}
	if (is_localhost(host)) {
		/* IPv4 first: more local servers listen there alone than the other way round. */
		add(f, "127.0.0.1", port, family);
		add(f, "::1", port, family);
		return DNS_LOCAL_FIXED;
	}
	if (!from_hosts(hosts_file, host, port, family, f))
		return DNS_LOCAL_NO;
	dns_interleave(f->addr, f->n);
	return DNS_LOCAL_HOSTS;
}

/* connect(2) of a datagram socket sends nothing: it asks the routing table. */
static bool has_route(const union resolver_addr *a)
{
	auto_close int fd = socket(a->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, &a->any, resolver_addr_len(a)) == 0;
}

static int rank(sa_family_t family, bool six_first)
{
	return (family == AF_INET6) == six_first ? 0 : 1;
}

void dns_interleave(union resolver_addr *addr, uint32_t n)
{
	union resolver_addr by[2][RESOLVER_ADDRS_MAX];
	uint32_t count[2] = { 0, 0 }, at = 0;
	bool six_first = false;

	for (uint32_t i = 0; i < n && !six_first; i++)
		six_first = addr[i].any.sa_family == AF_INET6 && has_route(&addr[i]);
	for (uint32_t i = 0; i < n; i++) {
		int r = rank(addr[i].any.sa_family, six_first);

		by[r][count[r]++] = addr[i];
	}
	for (uint32_t k = 0; at < n; k++) {
		if (k < count[0])
			addr[at++] = by[0][k];
		if (k < count[1])
			addr[at++] = by[1][k];
	}
}

bool resolver_addr_equal(const union resolver_addr *a, const union resolver_addr *b)
{
	if (a->any.sa_family != b->any.sa_family)
		return false;
	if (a->any.sa_family == AF_INET)
		return a->in.sin_port == b->in.sin_port &&
		       a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return a->in6.sin6_port == b->in6.sin6_port &&
	       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
}

/* Written by hand: it is in each line of the access log. */
static char *put_u16(char *p, unsigned v)
{
	char digits[5];
	unsigned n = 0;

	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	while (n)
		*p++ = digits[--n];
	return p;
}

static void put_v4(const struct sockaddr_in *in, char *p)
{
	const uint8_t *b = (const uint8_t *)&in->sin_addr;

	for (unsigned i = 0; i < 4; i++) {
		p = put_u16(p, b[i]);
		*p++ = i < 3 ? '.' : ':';
	}
	*put_u16(p, ntohs(in->sin_port)) = 0;
}

const char *resolver_addr_text(const union resolver_addr *a, char out[RESOLVER_ADDR_TEXT])
{
	char ip[INET6_ADDRSTRLEN] = "?";

	if (a->any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, ip, sizeof(ip));
		snprintf(out, RESOLVER_ADDR_TEXT, "[%s]:%u", ip, ntohs(a->in6.sin6_port));
	} else {
		put_v4(&a->in, out);
	}
	return out;
}
