/*
 * tests/sidecar/http/test_h2_peers.c - HTTP/2 with programs that others wrote: nghttpd, nghttp,
 * h2load, curl.
 *
 * Where one of them is not installed its tests are skipped.
 */
#include "tests/sidecar/http/h2_rig.h"

TestSuite(h2_peers, .timeout = 120);

static bool have(const char *program)
{
	char command[128];

	snprintf(command, sizeof(command), "command -v %s >/dev/null 2>&1", program);
	if (system(command) == 0)
		return true;
	cr_log_warn("%s is not installed", program);
	return false;
}

/* --- their server --- */

/* Files, and nghttpd that serves them. */
static pid_t nghttpd(struct rig *r, const char *options, int *ret_port)
{
	char    command[600], path[96];
	uint8_t block[4096];
	FILE   *f;
	pid_t   pid;

	*ret_port = free_port();
	pid = child_start(r, "true"); /* makes the directory */
	waitpid(pid, NULL, 0);
	snprintf(path, sizeof(path), "%s/file", r->dir);
	f = fopen(path, "wb");
	for (uint64_t at = 0; at < 3 << 20; at += sizeof(block)) {
		for (uint32_t i = 0; i < sizeof(block); i++)
			block[i] = pattern(at + i);
		fwrite(block, 1, sizeof(block), f);
	}
	fclose(f);
	snprintf(command, sizeof(command),
	         "cd %s && { test -f key || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
	         "-keyout key -out cert -subj /CN=localhost -days 2 2>/dev/null; } && exec nghttpd %s -d %s "
	         "--echo-upload -a 127.0.0.1 %d key cert",
	         r->dir, options, r->dir, *ret_port);
	pid = child_start(r, command);
	wait_for_port(*ret_port);
	return pid;
}

static bool client_done(struct rig *r)
{
	for (uint32_t i = 0; i < r->n_ex; i++)
		if (r->ex[i].m)
			return false;
	return true;
}

static void download_and_echo(struct rig *r)
{
	RIG_UNTIL(r, r->ready == 1 && r->capacity > 0);
	cr_expect_eq(r->c->version, HTTP_2);
	for (int i = 0; i < 20; i++)
		rig_ask(r, "GET", "/file", UINT64_MAX);
	for (int i = 0; i < 10; i++)
		rig_ask(r, "POST", "/echo", 100000);
	rig_ask(r, "GET", "/missing", UINT64_MAX);
	RIG_UNTIL(r, client_done(r));
	for (int i = 0; i < 20; i++) {
		cr_expect_eq(r->ex[i].status, 200);
		cr_expect_eq(r->ex[i].in, 3 << 20);
	}
	for (int i = 20; i < 30; i++)
		cr_expect_eq(r->ex[i].in, 100000);
	cr_expect_eq(r->ex[30].status, 404);
	r->ex[30].wrong = false; /* a page of theirs */
	for (uint32_t i = 0; i < r->n_ex; i++)
		cr_expect_eq(r->ex[i].errors, 0);
}

Test(h2_peers, nghttpd_serves_us_by_prior_knowledge)
{
	if (!have("nghttpd"))
		return;
	EACH_ENGINE (r) {
		int   port;
		pid_t pid = nghttpd(r, "--no-tls", &port);

		rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
		download_and_echo(r);
		child_stop(pid);
		RIG_UNTIL(r, r->closed == 1);
		child_clean(r);
	}
}

Test(h2_peers, nghttpd_serves_us_over_tls_after_alpn)
{
	if (!have("nghttpd") || !have("openssl"))
		return;
	EACH_ENGINE (r) {
		struct tls_options opt = { .insecure = true, .alpn = "h2,http/1.1" };
		char               why[TLS_WHY_MAX];
		int                port;
		pid_t              pid = nghttpd(r, "", &port);

		cr_assert_eq(tls_policy_new(&opt, &r->policy, why, sizeof(why)), 0, "%s", why);
		rig_connect(r, port, HTTP_CLIENT_AUTO);
		download_and_echo(r);
		child_stop(pid);
		RIG_UNTIL(r, r->closed == 1);
		child_clean(r);
	}
}

Test(h2_peers, trailers_of_nghttpd_arrive_and_small_windows_work)
{
	if (!have("nghttpd"))
		return;
	EACH_ENGINE (r) {
		int        port;
		pid_t      pid = nghttpd(r, "--no-tls --trailer 'x-end: yes' -w 10 -W 12 -m 5", &port);
		struct ex *x;

		r->limits.h2_window = 20000;
		rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
		RIG_UNTIL(r, r->ready == 1 && r->capacity > 0);
		cr_expect_eq(r->c->capacity, 5);
		x = rig_ask(r, "POST", "/echo", 500000);
		RIG_UNTIL(r, client_done(r));
		cr_expect_eq(x->in, 500000);
		cr_expect_eq(x->trailers, 1);
		child_stop(pid);
		RIG_UNTIL(r, r->closed == 1);
		child_clean(r);
	}
}

/* --- their clients --- */

/* A shell command that finds our server at $PORT; its exit status. */
static int run(struct rig *r, const char *what)
{
	char command[400];

	snprintf(command, sizeof(command), "PORT=%d; %s", r->port, what);
	return child_wait(r, child_start(r, command));
}

Test(h2_peers, curl_talks_to_our_server)
{
	if (!have("curl"))
		return;
	EACH_ENGINE (r) {
		cr_expect_eq(run(r,
		                 "curl -sS -m 10 --http2-prior-knowledge -o /dev/null "
		                 "-w '%{http_version} %{http_code} %{size_download}' http://127.0.0.1:$PORT/size/5000000"),
		             0);
		cr_expect_str_eq(child_output(r), "2 200 5000000", "%s", child_output(r));
		/* the file of the upload is of zeros, which are no pattern: only its length counts here */
		cr_expect_eq(run(r,
		                 "head -c 1000000 /dev/zero | curl -sS -m 10 --http2-prior-knowledge -T - "
		                 "-o /dev/null -w '%{http_code} %{size_download}' http://127.0.0.1:$PORT/echo"),
		             0);
		cr_expect_str_eq(child_output(r), "200 1000000", "%s", child_output(r));
		r->sx[1].wrong = false;
		cr_expect_eq(run(r,
		                 "curl -sS -m 10 --http2-prior-knowledge -o /dev/null -w '%{http_code}' "
		                 "-X HEAD -I http://127.0.0.1:$PORT/size/0"),
		             0);
		cr_expect_str_eq(child_output(r), "200", "%s", child_output(r));
		child_clean(r);
	}
}

Test(h2_peers, nghttp_asks_for_many_things_at_once)
{
	if (!have("nghttp"))
		return;
	EACH_ENGINE (r) {
		cr_expect_eq(run(r, "nghttp -n -t 10 -m 50 -w 14 http://127.0.0.1:$PORT/size/20000"), 0, "%s",
		             child_output(r));
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_eq(r->n_sx, 50);
		for (uint32_t i = 0; i < r->n_sx; i++) {
			cr_expect_eq(r->sx[i].errors, 0);
			cr_expect_eq(r->sx[i].sent, 20000);
		}
		child_clean(r);
	}
}

Test(h2_peers, h2load_gets_what_it_asks_for)
{
	if (!have("h2load"))
		return;
	EACH_ENGINE (r) {
		cr_expect_eq(run(r, "h2load -c 4 -m 20 -n 500 http://127.0.0.1:$PORT/size/1000"), 0);
		cr_expect_not_null(strstr(child_output(r), "500 succeeded, 0 failed, 0 errored"), "%s",
		                   child_output(r));
		RIG_UNTIL(r, r->s_closed == 4);
		child_clean(r);
	}
}
