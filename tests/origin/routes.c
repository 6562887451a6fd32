#include "tests/origin/routes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/origin/stats.h"

struct mode mode = { .kind = MODE_OK };

struct route {
	const char *path; /* with a last '/': a prefix, the rest is the argument */
	enum route_when when;
	bool own;
	void (*make)(const struct request *r, struct reply *p, const char *arg);
	const char *help;
};

const char *mode_name(void)
{
	static char status[16];

	switch (mode.kind) {
	case MODE_OK: return "ok";
	case MODE_REFUSE: return "refuse";
	case MODE_HANG: return "hang";
	case MODE_RESET: return "reset";
	case MODE_STATUS: break;
	}
	snprintf(status, sizeof(status), "%u", mode.status);
	return status;
}

static void hello(struct reply *p, unsigned status, const char *text)
{
	reply_head(p, status, false);
	if (status == 204 || status == 304)
		text_printf(&p->head, "\r\n");
	else
		reply_text(p, "text/plain", text, strlen(text));
}

static void make_root(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	hello(p, 200, "hello\n");
}

static unsigned status_of(const char *arg)
{
	unsigned long status = strtoul(arg, NULL, 10);

	return status >= 200 && status <= 599 ? (unsigned)status : 400;
}

static void make_status(const struct request *r, struct reply *p, const char *arg)
{
	(void)r;
	hello(p, status_of(arg), "status\n");
}

static void make_auth(const struct request *r, struct reply *p, const char *arg)
{
	static const char body[] = "{\"error\":\"who are you\"}\n";

	(void)r;
	reply_head(p, status_of(arg), false);
	text_printf(&p->head, "WWW-Authenticate: Bearer realm=\"origin\"\r\nX-Origin: untouched\r\n");
	reply_text(p, "application/json", body, sizeof(body) - 1);
}

static void make_retry_after(const struct request *r, struct reply *p, const char *arg)
{
	(void)r;
	reply_head(p, 503, false);
	text_printf(&p->head, "Retry-After: %lu\r\n", strtoul(arg, NULL, 10));
	reply_text(p, "text/plain", "later\n", 6);
}

static void make_delay(const struct request *r, struct reply *p, const char *arg)
{
	(void)r;
	p->wait_ms = strtoull(arg, NULL, 10);
	hello(p, 200, "slow\n");
}

static void make_gate(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	p->gate = true;
	hello(p, 200, "through the gate\n");
}

static void make_hang(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	p->ending = END_HANG;
}

static void make_drip(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	p->drip_ms = request_number(r, "ms", 50);
	reply_head(p, 200, false);
	reply_pattern(p, request_number(r, "n", 10));
}

static void make_bytes(const struct request *r, struct reply *p, const char *arg)
{
	(void)r;
	reply_head(p, 200, false);
	reply_pattern(p, strtoull(arg, NULL, 10));
}

static void make_chunked(const struct request *r, struct reply *p, const char *arg)
{
	uint64_t chunk = request_number(r, "chunk", 1000);

	reply_head(p, 200, false);
	text_printf(&p->head, "Transfer-Encoding: chunked\r\nTrailer: X-Checked\r\n\r\n");
	p->pattern_end = strtoull(arg, NULL, 10);
	p->chunk = chunk > 0 && chunk < UINT32_MAX ? (uint32_t)chunk : 1;
	text_printf(&p->tail, "0\r\nX-Checked: %s\r\n\r\n", arg);
}

static void make_until_close(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	reply_head(p, 200, true);
	text_printf(&p->head, "Content-Type: application/octet-stream\r\n\r\n");
	p->pattern_end = request_number(r, "n", 1000);
}

static void make_reset_before(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	p->ending = END_RESET;
}

static void make_close_before(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	p->ending = END_CLOSE;
}

/* Announces of bytes, sends at of them. */
static void cut_body(const struct request *r, struct reply *p, enum reply_ending ending)
{
	reply_head(p, 200, false);
	if (request_number(r, "chunked", 0)) {
		text_printf(&p->head, "Transfer-Encoding: chunked\r\n\r\n");
		p->chunk = 100;
	} else {
		reply_pattern(p, request_number(r, "of", 1000));
	}
	p->pattern_end = request_number(r, "at", 500);
	p->ending = ending;
}

static void make_reset_mid(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	cut_body(r, p, END_RESET);
}

static void make_close_mid(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	cut_body(r, p, END_CLOSE);
}

static void make_hang_mid(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	cut_body(r, p, END_HANG);
}

static void json_headers(struct text *to, const struct request *r)
{
	text_printf(to, "\"headers\":[");
	for (size_t i = 0; i < r->headers_n; i++) {
		text_printf(to, i ? ",[" : "[");
		text_json(to, r->headers[i].name, r->headers[i].name_len);
		text_bytes(to, ",", 1);
		text_json(to, r->headers[i].value, r->headers[i].value_len);
		text_bytes(to, "]", 1);
	}
	text_printf(to, "]");
}

static void make_echo(const struct request *r, struct reply *p, const char *arg)
{
	struct text body = { 0 };

	(void)arg;
	text_printf(&body, "{\"method\":");
	text_json(&body, r->method, strlen(r->method));
	text_printf(&body, ",\"path\":");
	text_json(&body, r->path, strlen(r->path));
	text_printf(&body, ",\"query\":");
	text_json(&body, r->query, strlen(r->query));
	text_printf(&body, ",\"version\":\"1.%d\",", r->minor);
	json_headers(&body, r);
	text_printf(&body, ",\"body_length\":%" PRIu64 ",\"fnv1a64\":\"%016" PRIx64 "\",\"body\":",
	            r->body_len, r->body_hash);
	text_json(&body, r->kept.at, r->kept.len);
	text_printf(&body, ",\"trailers\":");
	text_json(&body, r->trailers.at, r->trailers.len);
	text_printf(&body, "}\n");
	reply_head(p, 200, false);
	reply_text(p, "application/json", body.at, body.len);
	text_fini(&body);
}

static void make_sha(const struct request *r, struct reply *p, const char *arg)
{
	char body[128];
	int n = snprintf(body, sizeof(body), "{\"bytes\":%" PRIu64 ",\"fnv1a64\":\"%016" PRIx64 "\"}\n",
	                 r->body_len, r->body_hash);

	(void)arg;
	reply_head(p, 200, false);
	reply_text(p, "application/json", body, (size_t)n);
}

static void make_early(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	hello(p, (unsigned)request_number(r, "status", 413), "early\n");
}

static void make_no_read(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	p->ending = END_HANG;
}

static void make_1xx(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	for (uint64_t i = 0, n = request_number(r, "n", 1); i < n && i < 100; i++)
		text_printf(&p->head, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
	hello(p, 200, "after the hints\n");
}

static void make_hop(const struct request *r, struct reply *p, const char *arg)
{
	(void)r, (void)arg;
	reply_head(p, 200, false);
	text_printf(&p->head, "Connection: X-Hop-Secret\r\nX-Hop-Secret: 1\r\nKeep-Alive: timeout=5\r\n"
	            "Proxy-Authenticate: Basic\r\nX-End: kept\r\nVia: 1.1 behind\r\n"
	            "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n");
	reply_text(p, "text/plain", "hop\n", 4);
}

static void make_huge_head(const struct request *r, struct reply *p, const char *arg)
{
	(void)arg;
	reply_head(p, 200, false);
	text_printf(&p->head, "X-Huge: ");
	text_fill(&p->head, 'h', (size_t)request_number(r, "n", 1 << 20));
	text_printf(&p->head, "\r\n");
	reply_text(p, "text/plain", "huge\n", 5);
}

/* Answers that break RFC 9112; the connection closes after them. */
/* clang-format off */
static const struct {
	const char *name, *bytes;
} raws[] = {
	{ "noise",        "\x16\x03\x01 this is not HTTP at all\r\n\r\n" },
	{ "status-line",  "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok" },
	{ "version",      "HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok" },
	{ "bare-lf",      "HTTP/1.1 200 OK\nContent-Length: 2\nX: y\rz\n\nok" },
	{ "two-lengths",  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!" },
	{ "bad-length",   "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok" },
	{ "cl-and-te",    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" },
	{ "bad-chunk",    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n" },
	{ "nul",          "HTTP/1.1 200 OK\r\nX-Nul: a\001b\r\nContent-Length: 2\r\n\r\nok" },
	{ "half-head",    "HTTP/1.1 200 OK\r\nContent-Le" },
	{ "http10",       "HTTP/1.0 200 OK\r\n\r\nold but fine" },
};
/* clang-format on */

static void make_raw(const struct request *r, struct reply *p, const char *arg)
{
	const char *bytes = raws[0].bytes;

	(void)r;
	for (size_t i = 0; i < sizeof(raws) / sizeof(raws[0]); i++)
		if (strcmp(raws[i].name, arg) == 0)
			bytes = raws[i].bytes;
	text_bytes(&p->head, bytes, strlen(bytes));
	p->ending = END_CLOSE;
}

static void make_fail_first(const struct request *r, struct reply *p, const char *arg)
{
	char key[STATS_KEY_MAX] = "", how[16] = "503";

	request_param(r, "key", key, sizeof(key));
	request_param(r, "how", how, sizeof(how));
	uint64_t attempt = key[0] ? stats_attempt(key) : 1;
	if (attempt > strtoull(arg, NULL, 10)) {
		make_echo(r, p, arg);
	} else if (strcmp(how, "reset") == 0) {
		p->ending = END_RESET;
	} else if (strcmp(how, "close") == 0) {
		p->ending = END_CLOSE;
	} else if (strcmp(how, "hang") == 0) {
		p->ending = END_HANG;
	} else {
		reply_head(p, status_of(how), false);
		if (request_number(r, "retry_after", 0))
			text_printf(&p->head, "Retry-After: %" PRIu64 "\r\n", request_number(r, "retry_after", 0));
		reply_text(p, "text/plain", "not yet\n", 8);
	}
}

static void make_stats(const struct request *r, struct reply *p, const char *arg)
{
	struct text body = { 0 };

	(void)r, (void)arg;
	stats_json(&body, mode_name());
	reply_head(p, 200, false);
	reply_text(p, "application/json", body.at, body.len);
	text_fini(&body);
}

static bool set_mode(const char *name)
{
	if (strcmp(name, "ok") == 0)
		mode.kind = MODE_OK;
	else if (strcmp(name, "refuse") == 0)
		mode.kind = MODE_REFUSE;
	else if (strcmp(name, "hang") == 0)
		mode.kind = MODE_HANG;
	else if (strcmp(name, "reset") == 0)
		mode.kind = MODE_RESET;
	else if (strspn(name, "0123456789") == 3 && name[3] == '\0')
		mode = (struct mode){ MODE_STATUS, status_of(name), mode.gate };
	else
		return false;
	return true;
}

/* "mode" comes in the query, or in a body like {"mode": "503"}. */
static bool control_word(const struct request *r, char *word, size_t size)
{
	if (request_param(r, "mode", word, size))
		return true;
	const char *at = r->kept.len ? memmem(r->kept.at, r->kept.len, "\"mode\"", 6) : NULL;
	if (!at)
		return false;
	const char *end = r->kept.at + r->kept.len;
	at += 6;
	while (at < end && strchr(": \"", *at))
		at++;
	size_t len = 0;
	while (at + len < end && !strchr("\"},", at[len]) && len < size - 1)
		len++;
	memcpy(word, at, len);
	word[len] = '\0';
	return true;
}

static void make_control(const struct request *r, struct reply *p, const char *arg)
{
	char word[16];

	if (request_number(r, "release", 0))
		mode.gate++;
	if (request_number(r, "reset", 0))
		stats_reset();
	if (control_word(r, word, sizeof(word)) && !set_mode(word))
		hello(p, 400, "mode is ok, refuse, hang, reset or a status\n");
	else
		make_stats(r, p, arg);
	listeners_follow_mode();
}

/* clang-format off */
static const struct route routes[] = {
	{ "/stats",             WHEN_COMPLETE,   true,  make_stats,        "what was seen, as JSON" },
	{ "/control",           WHEN_COMPLETE,   true,  make_control,      "POST ?mode=ok|refuse|hang|reset|STATUS, ?release=1 opens the gate, ?reset=1 clears the counts" },
	{ "/status/",           WHEN_COMPLETE,   false, make_status,       "STATUS" },
	{ "/auth/",             WHEN_COMPLETE,   false, make_auth,         "401|403, with headers that must arrive" },
	{ "/retry-after/",      WHEN_COMPLETE,   false, make_retry_after,  "SECONDS: 503 with Retry-After" },
	{ "/fail-first/",       WHEN_COMPLETE,   false, make_fail_first,   "N?key=K&how=STATUS|reset|close|hang: the first N for the key fail, then /echo" },
	{ "/delay/",            WHEN_COMPLETE,   false, make_delay,        "MS before the answer" },
	{ "/gate",              WHEN_COMPLETE,   false, make_gate,         "answers when the gate is opened" },
	{ "/hang",              WHEN_COMPLETE,   false, make_hang,         "never answers" },
	{ "/drip",              WHEN_COMPLETE,   false, make_drip,         "?n=BYTES&ms=GAP: byte by byte" },
	{ "/bytes/",            WHEN_COMPLETE,   false, make_bytes,        "N bytes of the pattern" },
	{ "/chunked/",          WHEN_COMPLETE,   false, make_chunked,      "N?chunk=SIZE: chunked, with a trailer" },
	{ "/until-close",       WHEN_COMPLETE,   false, make_until_close,  "?n=BYTES, ended by the close" },
	{ "/reset-before-head", WHEN_COMPLETE,   false, make_reset_before, "RST instead of an answer" },
	{ "/close-before-head", WHEN_COMPLETE,   false, make_close_before, "FIN instead of an answer" },
	{ "/reset-mid-body",    WHEN_COMPLETE,   false, make_reset_mid,    "?of=N&at=M[&chunked=1]: RST after M of N bytes" },
	{ "/close-mid-body",    WHEN_COMPLETE,   false, make_close_mid,    "?of=N&at=M[&chunked=1]: FIN after M of N bytes" },
	{ "/hang-mid-body",     WHEN_COMPLETE,   false, make_hang_mid,     "?of=N&at=M: silence after M of N bytes" },
	{ "/echo",              WHEN_COMPLETE,   false, make_echo,         "the request, as JSON" },
	{ "/sha",               WHEN_COMPLETE,   false, make_sha,          "length and FNV-1a 64 of the upload" },
	{ "/early-answer",      WHEN_HEAD,       false, make_early,        "?status=S: answers before the body is read" },
	{ "/no-read",           WHEN_NEVER_READ, false, make_no_read,      "never reads the body, never answers" },
	{ "/1xx",               WHEN_COMPLETE,   false, make_1xx,          "?n=N: that many 103, then 200" },
	{ "/hop",               WHEN_COMPLETE,   false, make_hop,          "hop-by-hop fields in the answer" },
	{ "/garbage",           WHEN_COMPLETE,   false, make_raw,          "bytes that are not HTTP" },
	{ "/raw/",              WHEN_COMPLETE,   false, make_raw,          "NAME of a broken answer: two-lengths, bad-chunk, bare-lf, ..." },
	{ "/huge-head",         WHEN_COMPLETE,   false, make_huge_head,    "?n=BYTES: a header field of that size" },
	{ "/",                  WHEN_COMPLETE,   false, make_root,         "anything else: 200 hello" },
};
/* clang-format on */

#define ROUTES (sizeof(routes) / sizeof(routes[0]))

const struct route *route_find(const struct request *r)
{
	for (size_t i = 0; i < ROUTES - 1; i++) {
		size_t n = strlen(routes[i].path);
		bool prefix = routes[i].path[n - 1] == '/';

		if (prefix ? strncmp(r->path, routes[i].path, n) == 0 : strcmp(r->path, routes[i].path) == 0)
			return &routes[i];
	}
	return &routes[ROUTES - 1];
}

enum route_when route_when(const struct route *route)
{
	return mode.kind == MODE_OK || route->own ? route->when : WHEN_COMPLETE;
}

bool route_is_own(const struct route *route)
{
	return route->own;
}

void route_reply(const struct route *route, const struct request *r, struct reply *p)
{
	char key[STATS_KEY_MAX];

	if (route->make != make_fail_first && request_param(r, "key", key, sizeof(key)))
		stats_attempt(key);
	if (route->own || mode.kind == MODE_OK || mode.kind == MODE_REFUSE)
		route->make(r, p, r->path + (routes[ROUTES - 1].path == route->path ? 0 : strlen(route->path)));
	else if (mode.kind == MODE_STATUS)
		hello(p, mode.status, "by mode\n");
	else
		p->ending = mode.kind == MODE_HANG ? END_HANG : END_RESET;
}

void route_help(FILE *to)
{
	for (size_t i = 0; i < ROUTES; i++)
		fprintf(to, "  %-20s %s\n", routes[i].path, routes[i].help);
}
