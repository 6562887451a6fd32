#include "h1_rig.h"

static void get(struct rig *r)
{
	cr_assert_eq(send_request(r, "GET", "/a", HTTP_BODY_NONE, 0), 0);
}

Test(h1_client, a_request_is_sent_answered_and_the_connection_serves_again)
{
	EACH_ENGINE(r) {
		rig_connect(r);
		get(r);
		RIG_UNTIL(r, peer_got(r, "\r\n\r\n"));
		cr_assert_str_eq(r->got, "GET /a HTTP/1.1\r\nHost: up\r\n\r\n");
		peer_says(r, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
		peer_send(r, (uint8_t[]){ pattern(0), pattern(1) }, 2);
		UNTIL_LOG(r, "sent all, head 200, end");
		cr_assert_eq(r->capacity, 1);
		cr_assert_eq(r->c->active, 0);
		cr_assert_eq(r->slabs.head.in_use, 0);
		cr_assert_eq(r->slabs.rx.in_use, 0);
		get(r);
		cr_assert(r->app.m->reused);
		peer_says(r, "HTTP/1.1 204 No Content\r\n\r\n");
		UNTIL_LOG(r, "sent all, head 200, end, sent all, head 204 end");
		cr_assert_eq(r->capacity, 2);
		cr_assert_eq(r->draining, 0);
	}
}

Test(h1_client, a_response_in_pieces_is_one_response)
{
	EACH_ENGINE(r) {
		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		peer_says_slowly(r, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
		                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
		                    "0\r\nX-T: 1\r\n\r\n");
		UNTIL_LOG(r, "sent all, head 103, head 200, end, trailer X-T=1");
		cr_assert_eq(r->capacity, 1);
	}
}

Test(h1_client, interim_responses_are_told_and_bounded)
{
	EACH_ENGINE(r) {
		static char storm[1024];

		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		for (int i = 0; i <= H1_INTERIMS_MAX; i++)
			strcat(storm, "HTTP/1.1 102 Wait\r\n\r\n");
		peer_says(r, storm);
		storm[0] = 0;
		RIG_UNTIL(r, r->app.errors == 1);
		cr_assert_eq(r->app.error, MESSAGE_E_PROTOCOL);
		RIG_UNTIL(r, r->closed);
	}
}

static const struct {
	const char *what, *bytes;
	bool        reused, reset;
	const char *log;
} broken[] = {
	{ "no answer", "", false, false, "error: connection closed before a response" },
	{ "no answer, reused", "", true, false, "error: connection closed before a response unprocessed" },
	{ "reset", "", false, true, "error: connection reset" },
	{ "reset, reused", "", true, true, "error: connection reset unprocessed" },
	{ "half a head", "HTTP/1.1 200 O", true, false, "error: message incomplete when the connection closed" },
	{ "an interim only", "HTTP/1.1 100 Continue\r\n\r\n", true, false,
	  "head 100, error: message incomplete when the connection closed" },
	{ "a short body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x00", false, false,
	  "head 200, error: message incomplete when the connection closed" },
	{ "no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", false, false,
	  "head 200, error: message incomplete when the connection closed" },
	{ "reset within a body until close", "HTTP/1.1 200 OK\r\n\r\n", false, true,
	  "head 200, error: connection reset" },
	{ "malformed", "HTTP/1.1 200 OK\nA: b\n\n", false, false, "error: protocol error" },
	{ "two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, false,
	  "error: protocol error" },
	{ "a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", false, false,
	  "head 200, error: protocol error" },
	{ "a switch nobody asked for", "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false,
	  false, "error: protocol error" },
};

Test(h1_client, a_broken_answer_is_an_error_that_says_whether_it_may_be_repeated)
{
	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		EACH_ENGINE(r) {
			rig_connect(r);
			if (broken[i].reused) {
				get(r);
				rig_turns(r, 2);
				peer_says(r, "HTTP/1.1 204 No\r\n\r\n");
				RIG_UNTIL(r, r->capacity == 1);
			}
			get(r);
			RIG_UNTIL(r, strstr(r->app.log, broken[i].reused ? "end, sent all" : "sent all"));
			r->app.n_log = 0;
			r->app.log[0] = 0;
			peer_read(r);
			peer_says(r, broken[i].bytes);
			RIG_UNTIL(r, broken[i].bytes[0] == 0 || r->app.n_log > 0 || r->c->h1.n_rx > 0);
			if (broken[i].reset)
				peer_reset(r);
			else
				shutdown(r->peer, SHUT_WR);
			RIG_UNTIL(r, r->app.errors == 1);
			cr_assert_str_eq(r->app.log, broken[i].log, "%s: %s", broken[i].what, r->app.log);
			RIG_UNTIL(r, r->closed);
		}
	}
}

Test(h1_client, a_head_over_the_limit_is_told_as_that)
{
	EACH_ENGINE(r) {
		static char text[40000];

		memset(text, 'a', sizeof(text) - 1);
		memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		peer_send(r, text, sizeof(text) - 1);
		UNTIL_LOG(r, "sent all, error: head too large");
	}
}

Test(h1_client, a_body_until_close_ends_with_fin)
{
	EACH_ENGINE(r) {
		uint8_t b = pattern(0);

		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		peer_says(r, "HTTP/1.1 200 OK\r\n\r\n");
		peer_send(r, &b, 1);
		UNTIL_LOG(r, "sent all, head 200");
		cr_assert_eq(r->draining, 1, "it will not serve again");
		shutdown(r->peer, SHUT_WR);
		UNTIL_LOG(r, "sent all, head 200, end");
		RIG_UNTIL(r, r->closed);
		cr_assert_eq(r->capacity, 0);
		cr_assert_eq(r->app.received, 1);
	}
}

static const struct {
	const char *what, *answer;
} last[] = {
	{ "close", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" },
	{ "HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" },
	{ "bytes behind it", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" },
};

Test(h1_client, a_connection_that_said_it_ends_or_sent_too_much_is_not_used_again)
{
	for (size_t i = 0; i < ARRAY_LEN(last); i++) {
		EACH_ENGINE(r) {
			rig_connect(r);
			get(r);
			rig_turns(r, 2);
			peer_says(r, last[i].answer);
			UNTIL_LOG(r, "sent all, head 200 end");
			RIG_UNTIL(r, r->closed && r->got_eof);
			cr_assert_eq(r->capacity, 0, "%s", last[i].what);
			cr_assert_eq(r->app.errors, 0);
		}
	}
}

Test(h1_client, bytes_on_an_idle_connection_end_it)
{
	EACH_ENGINE(r) {
		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		peer_says(r, "HTTP/1.1 204 No\r\n\r\n");
		RIG_UNTIL(r, r->capacity == 1);
		peer_says(r, "HTTP/1.1 408 Request Timeout\r\n\r\n");
		RIG_UNTIL(r, r->closed);
		LOG_IS(r, "sent all, head 204 end");
	}
}

Test(h1_client, the_death_of_an_idle_connection_is_noticed)
{
	for (int reset = 0; reset < 2; reset++) {
		EACH_ENGINE(r) {
			rig_connect(r);
			rig_turns(r, 2);
			if (reset) {
				peer_reset(r);
			} else {
				close(r->peer);
				r->peer = -1;
			}
			RIG_UNTIL(r, r->closed);
			cr_assert_eq(r->closed_err, reset ? STREAM_E_RESET : STREAM_OK);
		}
	}
}

Test(h1_client, an_idle_connection_is_closed_in_time)
{
	EACH_ENGINE(r) {
		r->limits.idle_timeout_ns = 50 * NS_PER_MS;
		rig_connect(r);
		get(r);
		rig_turns(r, 100);
		cr_assert_eq(r->closed, 0, "a message is not idle time");
		peer_says(r, "HTTP/1.1 204 No\r\n\r\n");
		RIG_UNTIL(r, r->closed);
		cr_assert_str_eq(r->closed_text, "idle timeout");
	}
}

Test(h1_client, an_answer_may_come_before_the_request_is_complete)
{
	EACH_ENGINE(r) {
		rig_connect(r);
		r->app.no_release = true;
		cr_assert_eq(send_request(r, "POST", "/p", HTTP_BODY_LENGTH, 100), 0);
		message_send_body(r->app.m, (struct slice){ NULL, (const uint8_t *)"0123456789", 10 });
		RIG_UNTIL(r, peer_got(r, "0123456789"));
		peer_says(r, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
		UNTIL_LOG(r, "head 413 end");
		cr_assert_not(r->app.m->out_ended);
		message_release(r->app.m);
		r->app.m = NULL;
		RIG_UNTIL(r, r->closed);
		cr_assert_eq(r->capacity, 0);
	}
}

Test(h1_client, an_early_answer_survives_the_reset_behind_it)
{
	EACH_ENGINE(r) {
		static const uint8_t zeros[16384];

		rig_connect(r);
		cr_assert_eq(send_request(r, "POST", "/p", HTTP_BODY_STREAM, 0), 0);
		rig_turns(r, 2);
		peer_says(r, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
		peer_reset(r);
		for (int i = 0; i < 4 && r->app.m != NULL; i++)
			message_send_body(r->app.m, (struct slice){ NULL, zeros, 500 });
		RIG_UNTIL(r, r->closed);
		/* loopback may throw the answer away with the reset; what must not happen is a wrong one */
		cr_assert(strcmp(r->app.log, "head 503 end") == 0 ||
		          strcmp(r->app.log, "error: connection reset") == 0, "%s", r->app.log);
	}
}

Test(h1_client, a_request_body_is_chunked_or_has_its_length)
{
	EACH_ENGINE(r) {
		rig_connect(r);
		cr_assert_eq(send_request(r, "POST", "/p", HTTP_BODY_STREAM, 0), 0);
		message_send_body(r->app.m, (struct slice){ NULL, (const uint8_t *)"hello", 5 });
		message_send_end(r->app.m, NULL);
		UNTIL_LOG(r, "sent all");
		RIG_UNTIL(r, peer_got(r, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
		peer_says(r, "HTTP/1.1 204 No\r\n\r\n");
		RIG_UNTIL(r, r->capacity == 1);
		peer_forget(r);
		cr_assert_eq(send_request(r, "PUT", "/p", HTTP_BODY_LENGTH, 5), 0);
		message_send_body(r->app.m, (struct slice){ NULL, (const uint8_t *)"hello", 5 });
		message_send_end(r->app.m, NULL);
		RIG_UNTIL(r, peer_got(r, "Content-Length: 5\r\n\r\nhello"));
	}
}

Test(h1_client, the_last_of_requests_max_says_close)
{
	EACH_ENGINE(r) {
		r->limits.requests_max = 1;
		rig_connect(r);
		get(r);
		RIG_UNTIL(r, peer_got(r, "Connection: close\r\n\r\n"));
		peer_says(r, "HTTP/1.1 204 No\r\n\r\n");
		RIG_UNTIL(r, r->closed);
		cr_assert_eq(r->draining, 1);
	}
}

Test(h1_client, a_message_given_up_ends_the_connection)
{
	EACH_ENGINE(r) {
		struct message *m;

		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		m = r->app.m;
		r->app.m = NULL;
		message_release(m);
		RIG_UNTIL(r, r->closed && r->got_reset);
	}
}

Test(h1_client, a_message_released_before_it_sent_anything_leaves_the_connection_usable)
{
	EACH_ENGINE(r) {
		struct http_head  bad = { .method_text = HTTP_STR("GET"), .path = HTTP_STR("/a b"),
			                  .keep_alive = true };
		struct message   *m;

		rig_connect(r);
		m = http_client_message(r->c, &app_events, r);
		cr_assert_eq(message_send_head(m, &bad, true), -EINVAL);
		message_release(m);
		cr_assert_eq(r->capacity, 1);
		get(r);
		RIG_UNTIL(r, peer_got(r, "GET /a HTTP/1.1\r\n"));
	}
}

static void release_in_head(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	(void)h;
	(void)end;
	r->app.m = NULL;
	message_release(m);
}

Test(h1_client, a_callback_may_release_the_message_it_is_about)
{
	EACH_ENGINE(r) {
		r->app.on_head = release_in_head;
		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		peer_says(r, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345");
		RIG_UNTIL(r, r->closed);
		LOG_IS(r, "sent all, head 200");
	}
}

static void echo_body(struct rig *r, struct message *m, struct slice s)
{
	r->app.received += s.n;
	message_send_body(m, s);
	message_consume(m, s.n);
}

Test(h1_client, connect_makes_a_tunnel)
{
	EACH_ENGINE(r) {
		r->app.on_body = echo_body;
		r->app.no_release = true;
		rig_connect(r);
		cr_assert_eq(send_request(r, "CONNECT", "", HTTP_BODY_NONE, 0), 0);
		RIG_UNTIL(r, peer_got(r, "\r\n\r\n"));
		cr_assert_str_eq(r->got, "CONNECT up HTTP/1.1\r\nHost: up\r\n\r\n");
		peer_says(r, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nping");
		RIG_UNTIL(r, peer_got(r, "\r\n\r\nping"));
		LOG_IS(r, "sent all, head 200 tunnel");
		shutdown(r->peer, SHUT_WR);
		UNTIL_LOG(r, "sent all, head 200 tunnel, end");
		message_send_end(r->app.m, NULL);
		RIG_UNTIL(r, r->got_eof);
		message_release(r->app.m);
		r->app.m = NULL;
		RIG_UNTIL(r, r->closed);
	}
}

Test(h1_client, drain_lets_the_message_end)
{
	EACH_ENGINE(r) {
		rig_connect(r);
		get(r);
		rig_turns(r, 2);
		http_conn_drain(r->c);
		peer_says(r, "HTTP/1.1 204 No\r\n\r\n");
		UNTIL_LOG(r, "sent all, head 204 end");
		RIG_UNTIL(r, r->closed);
	}
}
