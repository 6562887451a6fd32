/*
 * The same story under an engine that splits receives, delays completions and breaks connections: what is told does not
 * depend on how bytes arrive, and whatever breaks, everything comes back.
 */
#include "h1_rig.h"

enum { SEEDS = 12 };

static void answer(struct rig *r, struct message *m)
{
	struct http_head h = response_head(200, HTTP_BODY_STREAM, 0);

	cr_assert_eq(message_send_head(m, &h, false), 0);
	message_send_body(m, (struct slice){ NULL, (const uint8_t *)r->app.path,
	                                     (uint32_t)strlen(r->app.path) });
	message_send_end(m, NULL);
}

static void answer_at_end(struct rig *r, struct message *m)
{
	answer(r, m);
}

static void answer_if_ended(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	(void)h;
	if (end)
		answer(r, m);
}

static void drop_body(struct rig *r, struct message *m, struct slice s)
{
	r->app.received += s.n;
	message_consume(m, s.n);
	slice_drop(s);
}

static const char script[] =
	"GET /1 HTTP/1.1\r\nHost: x\r\nX-Long: 0123456789012345678901234567890123456789\r\n\r\n"
	"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nhello, world"
	"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	"5;x=y\r\nhello\r\nB\r\n, my world!\r\n0\r\nX-T: 1\r\n\r\n"
	"\r\nDELETE /4 HTTP/1.1\r\nHost: x\r\n\r\n"
	"POST /5 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
	"GET /6 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#define CHUNKED(close, text)                                                                       \
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" close "\r\n2\r\n" text "\r\n0\r\n\r\n"

static struct rig *hostile_rig(size_t kind, uint64_t seed, uint32_t error)
{
	const struct engine_mode mode = { .kind = kind ? ENGINE_EPOLL : ENGINE_URING, .hostile = true,
		                          .how = { .seed = seed, .split = 800, .delay = 300, .error = error } };

	return rig_new(&mode);
}

static struct rig *hostile_server(size_t kind, uint64_t seed, uint32_t error)
{
	struct rig *r = hostile_rig(kind, seed, error);

	if (r == NULL)
		return NULL;
	r->app.on_head = answer_if_ended;
	r->app.on_end = answer_at_end;
	r->app.on_body = drop_body;
	return r;
}

Test(h1_hostile, a_server_tells_and_answers_the_same_however_bytes_come)
{
	for (size_t kind = 0; kind < 2; kind++) {
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct rig *r = hostile_server(kind, seed, 0);

			if (r == NULL)
				continue;
			rig_serve(r);
			peer_says(r, script);
			RIG_UNTIL(r, r->closed && r->got_eof);
			cr_assert_str_eq(r->got, CHUNKED("", "/1") CHUNKED("", "/2") CHUNKED("", "/3")
			                         CHUNKED("", "/4") CHUNKED("", "/5")
			                         CHUNKED("Connection: close\r\n", "/6"));
			cr_assert_eq(r->app.received, 12 + 16);
			cr_assert_not_null(strstr(r->app.log, "trailer X-T=1"));
			rig_free(r);
		}
	}
}

Test(h1_hostile, a_server_whose_connections_break_gives_everything_back)
{
	for (size_t kind = 0; kind < 2; kind++) {
		for (uint64_t seed = 1; seed <= SEEDS * 4; seed++) {
			struct rig *r = hostile_server(kind, seed, 30);

			if (r == NULL)
				continue;
			rig_serve(r);
			peer_says(r, script);
			for (int i = 0; i < 300 && !r->closed; i++) {
				rig_turn(r);
				peer_read(r);
			}
			rig_free(r); /* asserts that nothing is left */
		}
	}
}

static const char answers[] =
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\n"
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n1\r\n!\r\n0\r\nT: u\r\n\r\n";

static struct rig *hostile_client(size_t kind, uint64_t seed, uint32_t error)
{
	struct rig *r = hostile_rig(kind, seed, error);

	if (r == NULL)
		return NULL;
	r->app.on_body = drop_body;
	return r;
}

Test(h1_hostile, a_client_tells_the_same_however_bytes_come)
{
	for (size_t kind = 0; kind < 2; kind++) {
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct rig *r = hostile_client(kind, seed, 0);

			if (r == NULL)
				continue;
			rig_connect(r);
			cr_assert_eq(send_request(r, "POST", "/p", HTTP_BODY_STREAM, 0), 0);
			message_send_body(r->app.m, (struct slice){ NULL, (const uint8_t *)"xyz", 3 });
			message_send_end(r->app.m, NULL);
			RIG_UNTIL(r, peer_got(r, "3\r\nxyz\r\n0\r\n\r\n"));
			RIG_UNTIL(r, strcmp(r->app.log, "sent all") == 0);
			peer_says(r, answers);
			UNTIL_LOG(r, "sent all, head 100, head 103, head 200, end, trailer T=u");
			cr_assert_eq(r->app.received, 7);
			RIG_UNTIL(r, r->capacity == 1);
			rig_free(r);
		}
	}
}

Test(h1_hostile, a_client_whose_connections_break_is_told_once)
{
	for (size_t kind = 0; kind < 2; kind++) {
		for (uint64_t seed = 1; seed <= SEEDS * 4; seed++) {
			struct rig *r = hostile_client(kind, seed, 60);
			struct sockaddr_in at;

			if (r == NULL)
				continue;
			at = rig_listen(r);
			struct http_client_options o = { .addr = (struct sockaddr *)&at,
				                         .addr_len = sizeof(at), .limits = &r->limits,
				                         .ev = &rig_events, .owner = r };
			cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
			for (int i = 0; i < 200 && !r->ready && !r->closed; i++)
				rig_turn(r);
			if (r->ready && !r->closed && !r->c->closing) {
				r->peer = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
				send_request(r, "GET", "/p", HTTP_BODY_NONE, 0);
				send(r->peer, answers, sizeof(answers) - 1, MSG_NOSIGNAL);
				for (int i = 0; i < 200 && r->app.m != NULL; i++)
					rig_turn(r);
			}
			cr_assert_leq(r->app.errors, 1);
			rig_free(r);
		}
	}
}
