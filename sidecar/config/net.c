/* Addresses and urls.  Only numeric addresses: the sidecar's own sockets must not wait for a name server. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/arena.h"
#include "sidecar/config/value.h"

#define HOST_MAX 253 /* RFC 1035, section 2.3.4 */

static int shown(size_t len)
{
	return len > 80 ? 80 : (int)len;
}

static int parse_port(const char *text, size_t len, uint16_t *ret)
{
	uint32_t port = 0;

	if (len == 0 || len > 5)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (uint32_t)(text[i] - '0');
	}
	/* Not 0: each worker's socket would get a port of its own. */
	if (port == 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

static bool copy_host(char *host, size_t size, const char *text, size_t len)
{
	if (len == 0 || len >= size || memchr(text, '\0', len))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	return true;
}

static int address_unix(const char *path, size_t len, struct config_address *ret,
			struct value_complaint *c)
{
	if (len == 0 || path[0] != '/' || memchr(path, '\0', len))
		return value_complain(c, -EINVAL, "E011", "unix: needs an absolute path");
	if (len >= sizeof(ret->addr.un.sun_path))
		return value_complain(c, -ERANGE, "E011",
				      "the path of a Unix socket has at most %zu bytes",
				      sizeof(ret->addr.un.sun_path) - 1);
	ret->family = AF_UNIX;
	ret->addr.un.sun_family = AF_UNIX;
	memcpy(ret->addr.un.sun_path, path, len);
	ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	return 0;
}

static bool address_ip(const char *host, struct config_address *ret)
{
	if (inet_pton(AF_INET, host, &ret->addr.in.sin_addr) == 1) {
		ret->family = AF_INET;
		ret->addr.in.sin_family = AF_INET;
		ret->addr.in.sin_port = htons(ret->port);
		ret->len = sizeof(ret->addr.in);
		return true;
	}
	if (inet_pton(AF_INET6, host, &ret->addr.in6.sin6_addr) == 1) {
		ret->family = AF_INET6;
		ret->addr.in6.sin6_family = AF_INET6;
		ret->addr.in6.sin6_port = htons(ret->port);
		ret->len = sizeof(ret->addr.in6);
		return true;
	}
	return false;
}

static int bad_address(const char *text, size_t len, struct value_complaint *c)
{
	snprintf(c->hint, sizeof(c->hint),
		 "write 127.0.0.1:4640, [::1]:4640 or unix:/path; names are not looked up");
	return value_complain(c, -EINVAL, "E011", "\"%.*s\" is not an address", shown(len), text);
}

/* The [v6] or v4 in front of the last colon; returns the length of the host with brackets, 0 = none. */
static size_t split_port(const char *text, size_t len, uint16_t *ret_port)
{
	const char *colon = memrchr(text, ':', len);
	size_t host_len;

	if (!colon)
		return 0;
	host_len = (size_t)(colon - text);
	if (parse_port(colon + 1, len - host_len - 1, ret_port))
		return 0;
	return host_len;
}

int value_address(const char *text, size_t len, struct arena *a, struct config_address *ret,
		  struct value_complaint *c)
{
	struct config_address addr = { 0 };
	char host[INET6_ADDRSTRLEN];
	size_t host_len;
	bool v6;
	int err;

	if (len >= 5 && memcmp(text, "unix:", 5) == 0) {
		err = address_unix(text + 5, len - 5, &addr, c);
		if (err)
			return err;
	} else {
		host_len = split_port(text, len, &addr.port);
		v6 = host_len > 2 && text[0] == '[' && text[host_len - 1] == ']';
		if (!copy_host(host, sizeof(host), text + v6, v6 ? host_len - 2 : host_len) ||
		    !address_ip(host, &addr) || (addr.family == AF_INET6) != v6)
			return bad_address(text, len, c);
	}
	addr.text = arena_copy(a, text, len);
	if (!addr.text)
		return -ENOMEM;
	*ret = addr;
	return 0;
}

/* ---- urls ---- */

static int bad_url(const char *text, size_t len, const char *why, struct value_complaint *c)
{
	return value_complain(c, -EINVAL, "E004", "\"%.*s\" is not a url: %s", shown(len), text,
			      why);
}

static bool name_char(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_' ||
	       ch == '.';
}

/* Lower case; labels are not empty, a dot at the end makes the name absolute and stays. */
static bool host_name(char *host)
{
	size_t len = strlen(host), label = 0;

	for (size_t i = 0; i < len; i++) {
		if (host[i] >= 'A' && host[i] <= 'Z')
			host[i] = (char)(host[i] - 'A' + 'a');
		if (!name_char(host[i]) || (host[i] == '.' && label == 0))
			return false;
		label = host[i] == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return len > 0;
}

static bool url_host(char *host, struct config_url *url)
{
	struct in_addr v4;

	url->literal = inet_pton(AF_INET, host, &v4) == 1;
	return url->literal || host_name(host);
}

static bool path_chars(const char *path, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (path[i] <= 0x20 || path[i] == 0x7f || strchr("\"<>\\^`{|}", path[i]))
			return false;
	}
	return true;
}

/* host[:port] or [v6][:port] */
static const char *url_authority(const char *text, size_t len, char *host, size_t size,
				 struct config_url *url)
{
	const char *close = len && text[0] == '[' ? memchr(text, ']', len) : NULL;
	size_t host_len = close ? (size_t)(close - text) + 1 : len;
	const char *colon = close ? close + 1 : memchr(text, ':', len);
	struct in6_addr v6;

	if (colon && colon < text + len) {
		if (!close)
			host_len = (size_t)(colon - text);
		if (*colon != ':' || parse_port(colon + 1, len - host_len - 1, &url->port))
			return "the port must be 1 to 65535";
		url->port_written = true;
	}
	if (close) {
		if (!copy_host(host, size, text + 1, host_len - 2) ||
		    inet_pton(AF_INET6, host, &v6) != 1)
			return "the IPv6 address is not one";
		url->literal = true;
		return NULL;
	}
	if (!copy_host(host, size, text, host_len) || !url_host(host, url))
		return "the host is not a name or address";
	return NULL;
}

static int url_scheme(const char *text, size_t len, struct config_url *url,
		      struct value_complaint *c)
{
	if (len >= 8 && strncasecmp(text, "https://", 8) == 0) {
		url->tls = true;
		url->port = 443;
		return 8;
	}
	if (len >= 7 && strncasecmp(text, "http://", 7) == 0) {
		url->port = 80;
		return 7;
	}
	snprintf(c->hint, sizeof(c->hint), "http:// is plain, https:// is TLS");
	return bad_url(text, len, "it must begin with http:// or https://", c);
}

/* Who writes a password here must not find it in the message. */
static int no_userinfo(const char *rest, size_t len, struct value_complaint *c)
{
	if (!memchr(rest, '@', len))
		return 0;
	snprintf(c->hint, sizeof(c->hint),
		 "set an authorization field with headers.add_request and ${env:NAME}");
	return value_complain(c, -EINVAL, "E004", "a url with user and password is not taken");
}

int value_url(const char *text, size_t len, struct arena *a, struct config_url *ret,
	      struct value_complaint *c)
{
	struct config_url url = { 0 };
	char host[HOST_MAX + 2];
	const char *why, *rest, *slash;
	size_t rest_len, authority, path;
	int scheme;

	if (no_userinfo(text, len, c))
		return -EINVAL;
	scheme = url_scheme(text, len, &url, c);
	if (scheme < 0)
		return scheme;
	rest = text + scheme;
	rest_len = len - (size_t)scheme;
	if (memchr(rest, '?', rest_len) || memchr(rest, '#', rest_len))
		return bad_url(text, len, "query and fragment belong to the request", c);
	slash = memchr(rest, '/', rest_len);
	authority = slash ? (size_t)(slash - rest) : rest_len;
	why = url_authority(rest, authority, host, sizeof(host), &url);
	path = rest_len - authority;
	if (!why && !path_chars(rest + authority, path))
		why = "the path has characters that must be percent-encoded";
	if (why)
		return bad_url(text, len, why, c);
	while (path && rest[authority + path - 1] == '/')
		path--;
	url.text = arena_copy(a, text, len);
	url.host = arena_copy(a, host, strlen(host));
	url.path = arena_copy(a, rest + authority, path);
	if (!url.text || !url.host || !url.path)
		return -ENOMEM;
	*ret = url;
	return 0;
}
