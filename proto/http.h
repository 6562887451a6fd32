/*
 * proto/http.h - one HTTP message head, whatever the version on the wire.
 *
 * Shape    struct http_head: a request or response head (or a trailer section) as strings and fields.
 *          Strings are {pointer, length}, not terminated.
 * Memory   The strings point into bytes that the caller of the codec keeps (the receive buffer, or an
 *          arena); the fields array belongs to the caller too, with its capacity in fields_max.
 *          A head never owns anything and never allocates.
 * Names    h1 keeps the letter case of the wire, h2 names are lower-case by rule; compare by ->id, or
 *          with http_field_is().  An encoder for h2 writes lower-case.
 * Limits   HTTP_FIELDS_MAX fields, enforced by the codecs as HTTP_E_FIELDS_TOO_MANY.
 * RFC      9110 (semantics), 9112 (HTTP/1.1), 9113 (HTTP/2).
 */
#ifndef RHC_PROTO_HTTP_H
#define RHC_PROTO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_FIELDS_MAX = 128 };

struct http_str {
	const char *p;
	uint32_t    n;
};
#define HTTP_STR(literal) ((struct http_str){ (literal), sizeof(literal) - 1 })

enum http_version { HTTP_1_0 = 10, HTTP_1_1 = 11, HTTP_2 = 20 };

/* Methods of RFC 9110 §9 and PATCH (RFC 5789); any other token is METHOD_OTHER and kept as text. */
/* clang-format off */
#define HTTP_METHODS(X) \
	X(GET) X(HEAD) X(POST) X(PUT) X(DELETE) X(CONNECT) X(OPTIONS) X(TRACE) X(PATCH)
/* clang-format on */
enum http_method {
	HTTP_METHOD_OTHER,
#define X(name) HTTP_METHOD_##name,
	HTTP_METHODS(X)
#undef X
	HTTP_METHOD_COUNT
};

/*
 * Fields with a meaning for us.  X(ID, "name", hop): hop is true for a hop-by-hop field, which is never
 * forwarded (RFC 9110 §7.6.1), whatever Connection lists in addition.
 */
/* clang-format off */
#define HTTP_FIELD_TABLE(X) \
	X(HOST,                "host",                false) \
	X(CONNECTION,          "connection",          true)  \
	X(KEEP_ALIVE,          "keep-alive",          true)  \
	X(PROXY_CONNECTION,    "proxy-connection",    true)  \
	X(PROXY_AUTHENTICATE,  "proxy-authenticate",  true)  \
	X(PROXY_AUTHORIZATION, "proxy-authorization", true)  \
	X(TE,                  "te",                  true)  \
	X(TRAILER,             "trailer",             false) \
	X(TRANSFER_ENCODING,   "transfer-encoding",   true)  \
	X(UPGRADE,             "upgrade",             true)  \
	X(HTTP2_SETTINGS,      "http2-settings",      true)  \
	X(CONTENT_LENGTH,      "content-length",      false) \
	X(CONTENT_TYPE,        "content-type",        false) \
	X(EXPECT,              "expect",              false) \
	X(DATE,                "date",                false) \
	X(SERVER,              "server",              false) \
	X(VIA,                 "via",                 false) \
	X(FORWARDED,           "forwarded",           false) \
	X(X_FORWARDED_FOR,     "x-forwarded-for",     false) \
	X(X_FORWARDED_PROTO,   "x-forwarded-proto",   false) \
	X(X_FORWARDED_HOST,    "x-forwarded-host",    false) \
	X(RETRY_AFTER,         "retry-after",         false) \
	X(IDEMPOTENCY_KEY,     "idempotency-key",     false) \
	X(PROXY_STATUS,        "proxy-status",        false) \
	X(X_REQUEST_ID,        "x-request-id",        false) \
	X(X_RHC_UPSTREAM,      "x-rhc-upstream",      false) \
	X(X_RHC_TIMEOUT,       "x-rhc-timeout",       false) \
	X(X_RHC_MAX_ATTEMPTS,  "x-rhc-max-attempts",  false) \
	X(X_RHC_ATTEMPT,       "x-rhc-attempt",       false) \
	X(X_RHC_ATTEMPTS,      "x-rhc-attempts",      false) \
	X(X_RHC_ERROR,         "x-rhc-error",         false) \
	X(X_RHC_DEBUG,         "x-rhc-debug",         false) \
	X(SERVER_TIMING,       "server-timing",       false) \
	X(TRACEPARENT,         "traceparent",         false) \
	X(GRPC_STATUS,         "grpc-status",         false) \
	X(GRPC_MESSAGE,        "grpc-message",        false) \
	X(GRPC_TIMEOUT,        "grpc-timeout",        false) \
	X(USER_AGENT,          "user-agent",          false) \
	X(ACCEPT,              "accept",              false) \
	X(AUTHORIZATION,       "authorization",       false) \
	X(COOKIE,              "cookie",              false) \
	X(SET_COOKIE,          "set-cookie",          false) \
	X(CONTENT_ENCODING,    "content-encoding",    false) \
	X(CONTENT_RANGE,       "content-range",       false) \
	X(CACHE_CONTROL,       "cache-control",       false)
/* clang-format on */
enum http_field_id {
	HTTP_FIELD_OTHER,
#define X(ID, name, hop) HTTP_FIELD_##ID,
	HTTP_FIELD_TABLE(X)
#undef X
	HTTP_FIELD_COUNT
};

enum {
	HTTP_FIELD_DROP = 1, /* hop-by-hop or listed in Connection: not forwarded */
	HTTP_FIELD_SECRET = 2, /* never indexed by HPACK, never logged */
};

struct http_field {
	const char *name;
	const char *value; /* without surrounding white space (RFC 9110 §5.5) */
	uint32_t    value_len;
	uint16_t    name_len;
	uint8_t     id; /* enum http_field_id */
	uint8_t     flags;
};

/* How the end of the body is known.  NONE: there is none, not even an empty one. */
enum http_body {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH, /* body_len bytes, known beforehand */
	HTTP_BODY_STREAM, /* until its end is signalled: chunked, END_STREAM */
	HTTP_BODY_CLOSE, /* h1 responses only: until the connection closes */
	HTTP_BODY_TUNNEL, /* after 101 or a 2xx to CONNECT: bytes both ways, no message any more */
};

/* RFC 9112 §3.2 */
enum http_target { HTTP_TARGET_ORIGIN, HTTP_TARGET_ABSOLUTE, HTTP_TARGET_AUTHORITY, HTTP_TARGET_ASTERISK };

struct http_head {
	/* request */
	struct http_str method_text;
	struct http_str scheme; /* empty for h1 origin-form */
	struct http_str authority; /* from :authority, the target, or Host; empty for 1.0 without */
	/*
	 * path and query, starts with '/', or "*".  An absolute target whose path is empty (RFC 3986
	 * §3.3) is its query alone, from the '?' on: as "/?..." it goes out in origin-form.
	 */
	struct http_str path;
	uint8_t         method; /* enum http_method */
	uint8_t         target; /* enum http_target */
	/* response */
	uint16_t        status; /* 0 in a request */
	struct http_str reason;
	/* both */
	uint8_t  version; /* enum http_version */
	uint8_t  body; /* enum http_body */
	bool     keep_alive; /* h1: the connection may be used again after this message */
	bool     expect_continue; /* request with Expect: 100-continue */
	bool     upgrade; /* request or 101 response that names Upgrade in Connection */
	bool     te_trailers; /* the peer accepts trailers (TE: trailers; always true in h2) */
	uint64_t body_len; /* with HTTP_BODY_LENGTH */

	uint16_t           n_fields;
	uint16_t           fields_max;
	struct http_field *fields;
};

/*
 * Why a message was refused by a codec.  X(ID, http status to answer a request with, "text").  A response
 * with any of these is a protocol error of the upstream (or *_TOO_LARGE where the name says so).
 */
/* clang-format off */
#define HTTP_ERRORS(X) \
	X(SYNTAX,           400, "malformed message") \
	X(METHOD,           400, "malformed method") \
	X(TARGET,           400, "malformed request target") \
	X(VERSION,          505, "HTTP version not supported") \
	X(FIELD_NAME,       400, "malformed field name") \
	X(FIELD_VALUE,      400, "malformed field value") \
	X(OBS_FOLD,         400, "obsolete line folding") \
	X(BARE_CR,          400, "carriage return without line feed") \
	X(BARE_LF,          400, "line feed without carriage return") \
	X(HOST,             400, "missing, repeated or malformed Host") \
	X(CONTENT_LENGTH,   400, "malformed or repeated Content-Length") \
	X(TE_CL,            400, "both Transfer-Encoding and Content-Length") \
	X(TRANSFER_ENCODING, 400, "malformed or misplaced Transfer-Encoding") \
	X(TRANSFER_CODING,  501, "transfer coding not understood") \
	X(CHUNK,            400, "malformed chunk") \
	X(STATUS,           400, "malformed status line") \
	X(HEAD_TOO_LARGE,   431, "head larger than the limit") \
	X(TARGET_TOO_LONG,  414, "request target longer than the limit") \
	X(FIELDS_TOO_MANY,  431, "more fields than the limit") \
	X(TRAILER,          400, "forbidden or malformed trailer field") \
	X(PSEUDO,           400, "malformed pseudo-header field") \
	X(LENGTH_MISMATCH,  400, "body length differs from Content-Length")
/* clang-format on */
enum http_error {
	HTTP_OK,
#define X(ID, status, text) HTTP_E_##ID,
	HTTP_ERRORS(X)
#undef X
	HTTP_ERROR_COUNT
};

const char *http_error_text(enum http_error e);
uint16_t    http_error_status(enum http_error e);

/* Case-insensitive; HTTP_FIELD_OTHER for a name that is not in the table. */
enum http_field_id http_field_lookup(const char *name, size_t n);
struct http_str    http_field_name(enum http_field_id id); /* lower-case */
bool               http_field_is_hop(enum http_field_id id);
enum http_method   http_method_lookup(const char *name, size_t n);
const char        *http_method_name(enum http_method m);
const char        *http_reason(uint16_t status); /* "" for an unknown one */

/* The first field with that id, or NULL. */
const struct http_field *http_head_find(const struct http_head *h, enum http_field_id id);

/* Append a field.  0, or -ENOSPC when the array is full.  The strings must outlive the head. */
int http_head_add(struct http_head *h, enum http_field_id id, struct http_str name, struct http_str value);

bool http_str_is(struct http_str s, const char *literal); /* case-sensitive */
bool http_str_ieq(struct http_str a, struct http_str b); /* ASCII case-insensitive */

/*
 * Is token (case-insensitive) an element of the comma-separated list value?  RFC 9110 §5.6.1.
 */
bool http_list_has(struct http_str value, const char *token);
/* Take the next element off *rest, white space removed (it may be empty); false when there is none left. */
bool http_list_next(struct http_str *rest, struct http_str *ret);

/* true for GET HEAD OPTIONS TRACE PUT DELETE (RFC 9110 §9.2.2) */
bool http_method_is_idempotent(enum http_method m);

/* Split authority into host and port; IPv6 brackets removed.  0, or -EINVAL.  *port = 0 when absent. */
int http_authority_split(struct http_str authority, struct http_str *ret_host, uint16_t *ret_port);

#endif
