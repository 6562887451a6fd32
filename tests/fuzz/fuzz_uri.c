/*
 * Small texts from the wire: authorities, targets, lists, addresses, Retry-After.  What is split and joined is the same again,
 * the ways to an authority agree, and printed addresses are read back.
 */
#include <ctype.h>
#include <errno.h>
#include <strings.h>

#include "sidecar/io/sock.h"
#include "sidecar/upstream/retry.h"
#include "tests/fuzz/head.h"

static struct http_str text(const char *s, size_t n)
{
	return (struct http_str){ s, (uint32_t)n };
}

/* Host and port, joined, are split into the same. */
static void check_authority(const char *s, size_t n)
{
	struct http_str host, again;
	uint16_t        port, port_again;
	char            joined[600];
	int             m;

	if (http_authority_split(text(s, n), &host, &port) != 0)
		return;
	DEMAND(host.n > 0 && host.p >= s && host.p + host.n <= s + n, "the host is elsewhere");
	DEMAND(!memchr(host.p, '[', host.n) && !memchr(host.p, ']', host.n), "brackets in %.*s", (int)host.n, host.p);
	if (host.n > 500)
		return;
	m = snprintf(joined, sizeof(joined), memchr(host.p, ':', host.n) ? "[%.*s]" : "%.*s", (int)host.n, host.p);
	if (port != 0)
		m += snprintf(joined + m, sizeof(joined) - (size_t)m, ":%u", port);
	DEMAND(http_authority_split(text(joined, (size_t)m), &again, &port_again) == 0, "%s is not read", joined);
	DEMAND(fuzz_same(host, again) && port == port_again, "%s is something else", joined);
}

/* Elements, counted by the separator, which may stand in a quoted string (RFC 9110 §5.6.1, §5.6.4). */
static void check_list(const char *s, size_t n)
{
	struct http_str rest = text(s, n), item;
	size_t          commas = 0, items = 0;

	for (size_t i = 0; i < n; i++)
		commas += s[i] == ',';
	while (http_list_next(&rest, &item)) {
		DEMAND(++items <= commas + 1, "more elements than there are");
		DEMAND(item.n == 0 || (item.p >= s && item.p + item.n <= s + n), "the element is elsewhere");
		DEMAND(!item.n || !memchr(item.p, ',', item.n) || memchr(item.p, '"', item.n), "a comma in an element");
		DEMAND(!item.n || (!strchr(" \t", item.p[0]) && !strchr(" \t", item.p[item.n - 1])) || !item.p[0] ||
		       !item.p[item.n - 1], "white space around an element");
	}
	(void)http_list_has(text(s, n), "chunked");
}

/* What stands in an absolute target is the authority, and so is what stands in Host. */
static void check_target(const char *s, size_t n)
{
	static const struct h1_limits limits = { 8192, 4096 };
	static struct fuzz_head       a, b;
	char                          request[2048];
	struct h1_scan                scan = { 0 };
	int                           m;

	if (n > 800 || memchr(s, 0, n))
		return;
	m = snprintf(request, sizeof(request), "GET http://%.*s/x HTTP/1.1\r\nHost: %.*s\r\n\r\n", (int)n, s, (int)n, s);
	if (h1_parse_request(&scan, (uint8_t *)request, (uint32_t)m, &limits, fuzz_head(&a)) == m) {
		char other[2048];

		m = snprintf(other, sizeof(other), "GET /x HTTP/1.1\r\nHost: %.*s\r\n\r\n", (int)n, s);
		scan = (struct h1_scan){ 0 };
		DEMAND(h1_parse_request(&scan, (uint8_t *)other, (uint32_t)m, &limits, fuzz_head(&b)) == m, "as Host");
		DEMAND(fuzz_same(a.h.authority, b.h.authority), "another authority");
		DEMAND(!memchr(a.h.authority.p, '@', a.h.authority.n), "user information");
	}
	m = snprintf(request, sizeof(request), "GET %.*s HTTP/1.1\r\nHost: a\r\n\r\n", (int)n, s);
	scan = (struct h1_scan){ 0 };
	if (h1_parse_request(&scan, (uint8_t *)request, (uint32_t)m, &limits, fuzz_head(&a)) > 0) {
		DEMAND(a.h.path.n > 0 && (a.h.path.p[0] == '/' || fuzz_same(a.h.path, HTTP_STR("*")) ||
		                          (a.h.path.p[0] == '?' && a.h.target == HTTP_TARGET_ABSOLUTE)), "path");
		DEMAND(!memchr(a.h.path.p, '#', a.h.path.n) && !memchr(a.h.path.p, ' ', a.h.path.n), "path");
	}
}

static void check_address(const char *s)
{
	struct sock_addr a, b;
	char             printed[SOCK_TEXT_SIZE];

	if (sock_parse(s, &a) != 0)
		return;
	DEMAND(sock_format(&a.any, a.len, printed) < SOCK_TEXT_SIZE, "length");
	DEMAND(sock_parse(printed, &b) == 0, "%s was printed as %s, which is not read", s, printed);
	DEMAND(sock_same(&a, &b), "%s became %s", s, printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s;

	if (size > 1024)
		return 0;
	s = (char *)fuzz_copy(data, size);
	check_authority(s, size);
	check_list(s, size);
	check_target(s, size);
	(void)retry_after_parse(text(s, size), UINT64_C(1790000000) * 1000000000);
	(void)http_method_lookup(s, size);
	DEMAND(http_field_lookup(s, size) == HTTP_FIELD_OTHER ||
	       http_str_ieq(http_field_name(http_field_lookup(s, size)), text(s, size)), "field");
	free(s);
	s = strndup((const char *)data, size);
	check_address(s);
	free(s);
	return 0;
}
