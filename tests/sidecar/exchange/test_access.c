/* sidecar/exchange/access.h: one line per call, whatever the call was. */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "sidecar/exchange/access_line.h"
#include "sidecar/upstream/errors.h"

static const char yaml[] = "version: 1\n"
			   "upstreams:\n"
			   "  orders: {url: 'http://orders.test'}\n";

static void begin(void)
{
	call_init(yaml);
}

TestSuite(access, .init = begin, .fini = call_fini, .timeout = 60);

static struct access_line plain_line(void)
{
	return (struct access_line){
		.duration_ns = 12345678,
		.overhead_ns = 999,
		.start = "2026-11-23T13:13:59.030Z",
		.now = "2026-11-23T13:13:59.042Z",
		.flags = "-",
		.peer = "127.0.0.1:80",
		.details = "via_upstream",
		.protocol = "HTTP/1.1",
		.up_protocol = "HTTP/2",
		.up_failure = "",
		.down_peer = "127.0.0.1:53122",
	};
}

static const char *line_of(const struct exchange *e, const struct access_line *l)
{
	static char out[ACCESS_LINE_MAX + 1];
	size_t n = access_json(out, e, l);

	cr_assert_leq(n, ACCESS_LINE_MAX);
	out[n] = '\0';
	return out;
}

#define FIRST "{\"ts\":\"2026-11-23T13:13:59.042Z\",\"component\":\"access\",\"start_time\":\"2026-11-23T13:13:59.030Z\","
#define LAST "\"phases\":{\"queue\":0.000,\"pool\":0.000,\"dns\":0.000,\"connect\":0.000,\"tls\":0.000,\"send\":0.001," \
	     "\"ttfb\":12.300,\"receive\":0.000,\"backoff\":0.000},\"overhead_ms\":0.000," \
	     "\"downstream_remote_address\":\"127.0.0.1:53122\",\"worker\":0}\n"

Test(access, a_call_is_one_line_of_json)
{
	struct exchange *e = request(HTTP_1_1, "GET /a?secret=1 HTTP/1.1\r\nHost: orders\r\nUser-Agent: a\"b\r\n\r\n");
	struct access_line l = plain_line();

	e->upstream = world_up(&call.world, 0, "orders");
	e->status = e->upstream_status = 200;
	e->attempt = 1;
	e->bytes_sent = 1024;
	e->phases[PHASE_SEND] = 1999;
	e->phases[PHASE_TTFB] = 12300000;
	cr_assert_str_eq(line_of(e, &l),
	                 FIRST "\"method\":\"GET\",\"path\":\"/a\",\"authority\":\"orders\",\"protocol\":\"HTTP/1.1\","
			       "\"request_id\":\"id-1\",\"user_agent\":\"a\\\"b\",\"response_code\":200,"
			       "\"response_flags\":\"-\",\"response_code_details\":\"via_upstream\",\"bytes_received\":0,"
			       "\"bytes_sent\":1024,\"duration\":12.345,\"upstream_cluster\":\"orders\","
			       "\"upstream_host\":\"127.0.0.1:80\",\"upstream_protocol\":\"HTTP/2\","
			       "\"upstream_transport_failure_reason\":null,\"upstream_status\":200,\"attempts\":1,"
			       "\"retry_reasons\":[],\"retry_skipped\":null," LAST);
}

Test(access, what_there_was_not_is_null_or_missing)
{
	struct exchange *e = request(HTTP_1_1, "GET /a HTTP/1.1\r\nHost: b\r\n\r\n");
	struct access_line l = plain_line();
	const char *text;

	l.peer[0] = '\0';
	l.up_protocol = l.down_peer = "";
	e->reason_count = 2;
	e->reasons[0] = RHC_ERR_read_timeout;
	e->reasons[1] = RHC_ERR_connect_refused;
	e->grpc_status = 14;
	text = line_of(e, &l);
	cr_assert_null(strstr(text, "user_agent"));
	cr_assert_null(strstr(text, "\"detail\""));
	cr_assert_not_null(strstr(text, "\"upstream_cluster\":null,\"upstream_host\":null,\"upstream_protocol\":null,"));
	cr_assert_not_null(strstr(text, "\"downstream_remote_address\":null,"));
	cr_assert_not_null(strstr(text, "\"grpc_status\":14,"));
	cr_assert_not_null(strstr(text, "\"retry_reasons\":[\"read_timeout\",\"connect_refused\"],"), "%s", text);
}

/* Bytes that need six each in all that a stranger can choose, and all numbers as long as they get. */
Test(access, the_longest_line_fits_and_is_whole)
{
	struct exchange *e = request(HTTP_1_1, "GET / HTTP/1.1\r\nHost: b\r\nUser-Agent: x\r\n\r\n");
	struct access_line l = plain_line();
	static char bad[4096];
	const char *text;

	memset(bad, 0xff, sizeof(bad));
	call.req.method_text = call.req.path = call.req.authority = (struct http_str){ bad, sizeof(bad) };
	call.req.fields[1].value = bad;
	call.req.fields[1].value_len = sizeof(bad);
	e->request_id = (struct http_str){ bad, EXCH_REQUEST_ID_MAX };
	memset(e->detail, 0xff, sizeof(e->detail) - 1);
	memset(l.flags, 'F', sizeof(l.flags) - 1);
	memset(l.peer, '9', sizeof(l.peer) - 1);
	l.down_peer = l.peer;
	l.up_failure = e->detail;
	l.details = "a_word_that_is_longer_than_any_of_ours_is_or_will_be";
	l.duration_ns = l.overhead_ns = e->bytes_sent = e->body.bytes = UINT64_MAX;
	memset(e->phases, 0xff, sizeof(e->phases));
	e->upstream = world_up(&call.world, 0, "orders");
	e->status = e->upstream_status = UINT16_MAX;
	e->attempt = UINT8_MAX;
	e->reason_count = UINT8_MAX;
	e->grpc_status = 16;
	memset(e->reasons, RHC_ERR_bulkhead_queue_full, sizeof(e->reasons));
	text = line_of(e, &l);
	cr_assert_geq(strlen(text), 3000, "nothing was cut too early");
	cr_assert_str_eq(text + strlen(text) - 3 - strlen("\"worker\":0") + 1, "\"worker\":0}\n");
	for (int logfmt = 0; logfmt < 2; logfmt++) {
		static char out[ACCESS_LINE_MAX];
		size_t n = logfmt ? access_logfmt(out, e, &l) : access_text(out, e, &l);

		cr_assert_geq(n, 3 * ACCESS_VALUE_MAX, "nothing was cut too early");
		cr_assert_eq(out[n - 1], '\n');
	}
}

static struct exchange *failed_call(struct access_line *l)
{
	struct exchange *e = request(HTTP_1_1, "POST /a?secret=1 HTTP/1.1\r\nHost: orders\r\nContent-Length: 0\r\n\r\n");

	*l = plain_line();
	e->upstream = world_up(&call.world, 0, "orders");
	e->status = 502;
	e->attempt = 3;
	e->bytes_sent = 214;
	strcpy(l->flags, "UF,URX");
	l->details = "connect_refused";
	l->up_protocol = "";
	l->up_failure = "connection refused (127.0.0.1:80) \"now\"";
	return e;
}

Test(access, a_line_of_text_has_the_order_of_envoy)
{
	char out[ACCESS_LINE_MAX + 1];
	struct access_line l;
	struct exchange *e = failed_call(&l);

	out[access_text(out, e, &l)] = '\0';
	cr_assert_str_eq(out, "[2026-11-23T13:13:59.030Z] \"POST /a HTTP/1.1\" 502 UF,URX connect_refused 0 214 12.345 3 "
			      "\"id-1\" \"orders\" orders 127.0.0.1:80\n");
	call.req.path = HTTP_STR("/a\"b\x7f\n");
	e->upstream = NULL;
	l.peer[0] = '\0';
	out[access_text(out, e, &l)] = '\0';
	cr_assert_str_eq(out, "[2026-11-23T13:13:59.030Z] \"POST /a.b.. HTTP/1.1\" 502 UF,URX connect_refused 0 214 12.345 3 "
			      "\"id-1\" \"orders\" - -\n");
}

Test(access, a_line_of_logfmt_names_every_value)
{
	char out[ACCESS_LINE_MAX + 1];
	struct access_line l;
	struct exchange *e = failed_call(&l);

	out[access_logfmt(out, e, &l)] = '\0';
	cr_assert_str_eq(out, "ts=2026-11-23T13:13:59.030Z component=access method=\"POST\" path=\"/a\" protocol=HTTP/1.1 "
			      "status=502 flags=UF,URX details=connect_refused bytes_received=0 bytes_sent=214 "
			      "duration=12.345 attempts=3 request_id=\"id-1\" authority=\"orders\" upstream=orders "
			      "upstream_host=127.0.0.1:80 upstream_protocol=- "
			      "upstream_transport_failure_reason=\"connection refused (127.0.0.1:80) .now.\" "
			      "downstream_remote_address=127.0.0.1:53122\n");
}

/* A pipe of several workers mixes what is longer than PIPE_BUF: lines go whole. */
Test(access, a_pipe_gets_whole_lines)
{
	struct exchange *e = request(HTTP_1_1, "GET /a HTTP/1.1\r\nHost: orders\r\n\r\n");
	struct config_access_log config = { .enabled = true, .format = CONFIG_FORMAT_JSON, .sample_bp = 10000 };
	static struct access_log log;
	static char got[ACCESS_BUFFER];
	char path[64];
	int p[2];
	ssize_t n;

	cr_assert_eq(pipe2(p, O_DIRECT | O_CLOEXEC), 0); /* each write(2) stays a packet */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p[1]);
	config.path = path;
	cr_assert_eq(access_open(&log, &config, call.world.rig.engine), 0);
	cr_assert_eq(fcntl(log.fd, F_SETFL, O_WRONLY | O_DIRECT), 0);
	for (int i = 0; i < 20; i++)
		access_write(&log, e, e->start_ns);
	access_flush(&log);
	cr_assert_eq(log.dropped, 0);
	for (int lines = 0; lines < 20;) {
		n = read(p[0], got, sizeof(got));
		cr_assert_gt(n, 0);
		cr_assert_leq(n, PIPE_BUF);
		cr_assert_eq(got[0], '{');
		cr_assert_eq(got[n - 1], '\n');
		for (ssize_t i = 0; i < n; i++)
			lines += got[i] == '\n';
	}
	access_close(&log);
	close(p[0]);
	close(p[1]);
}
