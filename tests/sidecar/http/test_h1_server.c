#include "h1_rig.h"

static void answer_ok(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	(void)h;
	(void)end;
	respond(m, 200, r->app.path);
}

static void answer_at_end(struct rig *r, struct message *m)
{
	(void)r;
	respond(m, 200, "done");
}

Test(h1_server, a_request_is_told_answered_and_the_connection_stays)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, peer_got(r, "\r\n\r\n/a"));
		cr_assert_str_eq(r->got, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/a");
		UNTIL_LOG(r, "head GET /a end, sent all");
		peer_forget(r);
		peer_says(r, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /a end, sent all, head GET /b end reused, sent all");
		cr_assert_eq(r->c->served, 2);
		cr_assert_eq(r->c->active, 0);
	}
}

Test(h1_server, an_idle_connection_owns_no_buffer_and_no_store)
{
	EACH_ENGINE(r) {
		uint32_t small, large;

		r->app.on_head = answer_ok;
		rig_serve(r);
		rig_turns(r, 3);
		/* what is not free belongs to the ring of the engine, not to the connection */
		small = r->bufs.cls[BUF_SMALL].n_free;
		large = r->bufs.cls[BUF_LARGE].n_free;
		peer_says(r, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /a end, sent all");
		rig_turns(r, 3);
		cr_assert_eq(r->slabs.head.in_use, 0);
		cr_assert_eq(r->slabs.rx.in_use, 0);
		cr_assert_eq(r->slabs.txq.in_use, 0);
		cr_assert_eq(r->bufs.cls[BUF_SMALL].n_free, small);
		cr_assert_eq(r->bufs.cls[BUF_LARGE].n_free, large);
		cr_assert_null(r->c->h1.store);
		cr_assert_eq(r->c->h1.n_rx, 0);
	}
}

Test(h1_server, pipelined_requests_are_answered_in_order_one_at_a_time)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n"
		             "GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
		RIG_UNTIL(r, r->closed && r->got_eof);
		cr_assert_str_eq(r->got, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/1"
		                         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/2"
		                         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n/3");
	}
}

Test(h1_server, what_is_pipelined_behind_the_last_request_does_not_reset_its_answer)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /2 HTT");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "Connection: close\r\n\r\n/1"));
		peer_says(r, "P/1.1\r\n\r\n");
		rig_turns(r, 5);
		cr_assert_eq(r->closed, 0);
		cr_assert_eq(send(r->peer, "x", 1, MSG_NOSIGNAL), 1, "no RST");
		close(r->peer);
		r->peer = -1;
		RIG_UNTIL(r, r->closed);
		LOG_IS(r, "head GET /1 end, sent all");
	}
}

Test(h1_server, a_thousand_pipelined_requests_are_bounded_and_all_answered)
{
	EACH_ENGINE(r) {
		static const char one[] = "GET /x HTTP/1.1\r\nHost: x\r\nX-Pad: 0123456789012345\r\n\r\n";
		const size_t      len = sizeof(one) - 1;
		unsigned          answers = 0;
		size_t            sent = 0;
		const char       *begun = r->got;

		r->app.on_head = answer_ok;
		rig_serve(r);
		for (int turns = 0; answers < 1000 && turns < RIG_TURNS; turns++) {
			for (ssize_t n = 1; n > 0 && sent < 1000 * len; sent += n > 0 ? (size_t)n : 0)
				n = send(r->peer, one + sent % len, len - sent % len, MSG_NOSIGNAL);
			rig_turn(r);
			peer_read(r);
			cr_assert_leq(r->c->h1.n_rx, H1_RX_STOP + 1);
			for (char *at = r->got; (at = strstr(at, "HTTP/1.1 200")) != NULL; at++) {
				answers++;
				begun = at + 1; /* not again; what is behind may be the begin of another */
			}
			r->n_got = strlen(begun);
			memmove(r->got, begun, r->n_got + 1);
			begun = r->got;
			r->app.n_log = 0;
		}
		cr_assert_eq(answers, 1000);
		cr_assert_eq(r->c->served, 1000);
	}
}

Test(h1_server, a_head_in_pieces_is_one_head)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says_slowly(r, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /slow end, sent all");
	}
}

Test(h1_server, a_head_over_many_buffers_is_collected)
{
	EACH_ENGINE(r) {
		static char text[31000];
		size_t      n = (size_t)sprintf(text, "GET /big HTTP/1.1\r\nHost: x\r\n");

		while (n < 30000)
			n += (size_t)sprintf(text + n, "X-%zu: %0400d\r\n", n, 7);
		strcpy(text + n, "\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
		r->app.on_head = answer_ok;
		rig_serve(r);
		for (size_t at = 0; at < strlen(text); at += 3001) {
			peer_send(r, text + at, strlen(text) - at < 3001 ? strlen(text) - at : 3001);
			rig_turn(r);
		}
		UNTIL_LOG(r, "head GET /big end, sent all, head GET /next end reused, sent all");
	}
}

Test(h1_server, a_body_is_told_in_spans_and_the_bytes_behind_it_are_the_next_request)
{
	EACH_ENGINE(r) {
		char text[600] = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n";
		size_t n = strlen(text);

		for (size_t i = 0; i < 300; i++)
			text[n + i] = (char)pattern(i);
		strcpy(text + n + 300, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
		r->app.on_end = answer_at_end;
		rig_serve(r);
		peer_send(r, text, n + 300 + 28);
		RIG_UNTIL(r, r->app.m != NULL && strcmp(r->app.path, "/2") == 0);
		cr_assert_eq(r->app.received, 300);
		LOG_IS(r, "head POST /p, end, sent all, head GET /2 end reused");
	}
}

Test(h1_server, chunks_and_trailers_come_through_every_slicing)
{
	EACH_ENGINE(r) {
		char text[300];

		sprintf(text, "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		              "3;ext=1\r\n%c%c%c\r\n1\r\n%c\r\n0\r\nX-Sum: 7\r\ny: z\r\n\r\n",
		        1, pattern(1), pattern(2), pattern(3));
		text[strlen("POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\n")] =
			(char)pattern(0);
		r->app.on_end = answer_at_end;
		rig_serve(r);
		for (size_t i = 0; i < strlen("POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
		                              "\r\n3;ext=1\r\n123\r\n1\r\n1\r\n0\r\nX-Sum: 7\r\ny: z\r\n\r\n");
		     i++) {
			peer_send(r, text + i, 1);
			rig_turn(r);
		}
		UNTIL_LOG(r, "head POST /p, end, trailer X-Sum=7, trailer y=z, sent all");
		cr_assert_eq(r->app.received, 4);
		cr_assert_eq(r->slabs.head.in_use, 0);
		cr_assert_eq(r->slabs.rx.in_use, 0);
	}
}

static const struct {
	const char *what, *text;
	int         status;
} malformed[] = {
	{ "two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400 },
	{ "length and coding", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
	{ "no host", "GET / HTTP/1.1\r\n\r\n", 400 },
	{ "bare LF", "GET / HTTP/1.1\nHost: x\n\n", 400 },
	{ "a coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501 },
	{ "a version", "GET / HTTP/4.2\r\nHost: x\r\n\r\n", 505 },
	{ "TLS to a plain port", "\x16\x03\x01\x02", 400 },
};

Test(h1_server, a_malformed_head_is_answered_here_and_the_connection_ends)
{
	for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
		EACH_ENGINE(r) {
			char status[20];

			rig_serve(r);
			peer_says(r, malformed[i].text);
			RIG_UNTIL(r, r->got_eof);
			sprintf(status, "HTTP/1.1 %d ", malformed[i].status);
			cr_assert(peer_got(r, status), "%s: %s", malformed[i].what, r->got);
			cr_assert(peer_got(r, "Connection: close\r\n"));
			cr_assert(peer_got(r, "application/problem+json"));
			cr_assert_eq(r->closed, 0, "FIN first, then what comes is dropped for a while");
			cr_assert_eq(r->refused, malformed[i].status);
			cr_assert_neq(r->refused_error, HTTP_OK);
			LOG_IS(r, "");
			close(r->peer);
			r->peer = -1;
			RIG_UNTIL(r, r->closed);
		}
	}
}

Test(h1_server, oversize_is_414_and_431)
{
	for (int i = 0; i < 2; i++) {
		EACH_ENGINE(r) {
			static char text[40000];

			memset(text, 'a', sizeof(text) - 1);
			memcpy(text, i == 0 ? "GET /" : "GET / HTTP/1.1\r\nHost: x\r\nX: ", i == 0 ? 5 : 28);
			rig_serve(r);
			peer_send(r, text, sizeof(text) - 1);
			RIG_UNTIL(r, r->got_eof);
			cr_assert_eq(r->refused, i == 0 ? 414 : 431, "%s", r->got);
			cr_assert(peer_got(r, i == 0 ? "HTTP/1.1 414 " : "HTTP/1.1 431 "));
		}
	}
}

Test(h1_server, a_head_of_a_megabyte_is_read_off_and_its_sender_reads_431)
{
	EACH_ENGINE(r) {
		static char text[1 << 20];
		size_t      at = 0;

		memset(text, 'a', sizeof(text));
		memcpy(text, "GET / HTTP/1.1\r\nHost: x\r\nX: ", 28);
		rig_serve(r);
		for (int i = 0; i < RIG_TURNS && at < sizeof(text); i++) {
			ssize_t n = send(r->peer, text + at, sizeof(text) - at, MSG_NOSIGNAL);

			cr_assert(n > 0 || errno == EAGAIN, "no RST before all was sent");
			at += n > 0 ? (size_t)n : 0;
			rig_turn(r);
		}
		cr_assert_eq(at, sizeof(text));
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "HTTP/1.1 431 "));
	}
}

Test(h1_server, a_refusal_reaches_a_client_that_goes_on_sending)
{
	EACH_ENGINE(r) {
		static const char more[4096];

		rig_serve(r);
		peer_says(r, "BAD\r\n\r\n");
		for (int i = 0; i < 20; i++) {
			send(r->peer, more, sizeof(more), MSG_NOSIGNAL);
			rig_turn(r);
		}
		RIG_UNTIL(r, r->got_eof || r->got_reset);
		cr_assert(peer_got(r, "HTTP/1.1 400 "), "RST came before the answer");
	}
}

Test(h1_server, a_malformed_body_fails_the_message_and_is_answered_400)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
		RIG_UNTIL(r, r->got_eof);
		LOG_IS(r, "head POST /p, error: protocol error");
		cr_assert(peer_got(r, "HTTP/1.1 400 "));
	}
}

Test(h1_server, nobody_takes_the_message_means_503)
{
	EACH_ENGINE(r) {
		r->app.refuse = true;
		rig_serve(r);
		peer_says(r, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "HTTP/1.1 503 "));
		cr_assert_eq(r->refused, 503);
	}
}

Test(h1_server, no_head_store_left_means_503)
{
	EACH_ENGINE(r) {
		void *taken[4];

		for (int i = 0; i < 4; i++)
			taken[i] = slab_get(&r->slabs.head);
		rig_serve(r);
		peer_says(r, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "HTTP/1.1 503 "));
		for (int i = 0; i < 4; i++)
			slab_put(&r->slabs.head, taken[i]);
	}
}

Test(h1_server, a_client_that_half_closes_gets_its_answer)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "GET /h HTTP/1.1\r\nHost: x\r\n\r\n");
		shutdown(r->peer, SHUT_WR);
		UNTIL_LOG(r, "head GET /h end");
		rig_turns(r, 5);
		cr_assert_eq(r->closed, 0);
		respond(r->app.m, 200, "late");
		RIG_UNTIL(r, r->closed && r->got_eof);
		cr_assert(peer_got(r, "Connection: close\r\n\r\nlate"));
	}
}

/* "have" bytes of an answer of four have left when the caller sends FIN. */
static void fin_behind(struct rig *r, uint32_t have)
{
	struct http_head h = response_head(200, HTTP_BODY_LENGTH, 4);
	char             end[32];

	r->limits.fin_aborts = true;
	rig_serve(r);
	peer_says(r, "GET /h HTTP/1.1\r\nHost: x\r\n\r\n");
	UNTIL_LOG(r, "head GET /h end");
	cr_assert_eq(message_send_head(r->app.m, &h, false), 0);
	message_send_body(r->app.m, (struct slice){ NULL, (const uint8_t *)"late", have });
	snprintf(end, sizeof(end), "\r\n\r\n%.*s", (int)have, "late");
	RIG_UNTIL(r, peer_got(r, end));
	shutdown(r->peer, SHUT_WR);
	for (int i = 0; i < 20 && r->app.errors == 0; i++)
		rig_turns(r, 5);
}

Test(h1_server, a_caller_that_sends_fin_before_the_last_byte_has_given_up_if_so_limited)
{
	EACH_ENGINE(r) {
		fin_behind(r, 3);
		cr_assert_eq(r->app.errors, 1);
		RIG_UNTIL(r, r->closed);
	}
}

/* The upstream may say the end later, HTTP/2 in a frame of its own. */
Test(h1_server, a_caller_that_has_the_last_byte_has_not_given_up)
{
	EACH_ENGINE(r) {
		fin_behind(r, 4);
		cr_assert_eq(r->app.errors, 0, "%s", r->app.log);
		message_send_end(r->app.m, NULL);
		RIG_UNTIL(r, r->closed && r->got_eof);
		cr_assert_eq(r->app.errors, 0);
	}
}

Test(h1_server, a_pipeline_before_the_fin_is_answered_to_its_end)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->closed && r->got_eof);
		cr_assert(peer_got(r, "\r\n\r\n/1HTTP/1.1"));
		cr_assert(peer_got(r, "\r\n\r\n/2"));
	}
}

Test(h1_server, a_client_that_goes_away_is_noticed_while_the_answer_is_awaited)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "GET /h HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /h end");
		peer_reset(r);
		UNTIL_LOG(r, "head GET /h end, error: connection reset");
		RIG_UNTIL(r, r->closed);
	}
}

Test(h1_server, a_client_that_goes_away_is_noticed_behind_a_pipeline)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "GET /h HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /h end");
		peer_reset(r);
		UNTIL_LOG(r, "head GET /h end, error: connection reset");
		RIG_UNTIL(r, r->closed);
	}
}

Test(h1_server, fin_within_a_body_is_incomplete)
{
	EACH_ENGINE(r) {
		char text[] = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n?";

		text[strlen(text) - 1] = (char)pattern(0);
		rig_serve(r);
		peer_send(r, text, sizeof(text) - 1);
		shutdown(r->peer, SHUT_WR);
		UNTIL_LOG(r, "head POST /p, error: message incomplete when the connection closed");
	}
}

Test(h1_server, fin_within_a_head_just_closes)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "GET / HT");
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->closed && r->got_eof);
		LOG_IS(r, "");
		cr_assert_eq(r->n_got, 0);
	}
}

Test(h1_server, http_1_0_closes_unless_it_asks_to_stay)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
		RIG_UNTIL(r, peer_got(r, "Connection: keep-alive\r\n\r\n/1"));
		peer_says(r, "GET /2 HTTP/1.0\r\n\r\n");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "Connection: close\r\n\r\n/2"));
	}
}

static void answer_streamed(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	struct http_head out = response_head(200, HTTP_BODY_STREAM, 0), t = { 0 };
	struct http_field f[2];

	(void)r;
	(void)h;
	(void)end;
	t.fields = f;
	t.fields_max = 2;
	http_head_add(&t, HTTP_FIELD_GRPC_STATUS, HTTP_STR("grpc-status"), HTTP_STR("0"));
	cr_assert_eq(message_send_head(m, &out, false), 0);
	message_send_body(m, (struct slice){ NULL, (const uint8_t *)"hello", 5 });
	message_send_body(m, (struct slice){ NULL, (const uint8_t *)"0123456789abcdef", 16 });
	message_send_end(m, &t);
}

Test(h1_server, a_stream_is_chunked_with_trailers_for_who_wants_them)
{
	static const struct {
		const char *request, *answer;
	} rows[] = {
		{ "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n",
		  "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n"
		  "grpc-status: 0\r\n\r\n" },
		{ "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		  "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n" },
		{ "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello0123456789abcdef" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		EACH_ENGINE(r) {
			r->app.on_head = answer_streamed;
			rig_serve(r);
			peer_says(r, rows[i].request);
			UNTIL_LOG(r, "head GET / end, sent all");
			RIG_UNTIL(r, peer_got(r, rows[i].answer));
			cr_assert_eq(r->app.sent, 21);
		}
	}
}

Test(h1_server, an_answer_to_head_has_the_length_and_no_body)
{
	EACH_ENGINE(r) {
		struct http_head h = response_head(503, HTTP_BODY_LENGTH, 77);

		rig_serve(r);
		peer_says(r, "HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head HEAD /h end");
		cr_assert_eq(message_send_head(r->app.m, &h, true), 0);
		UNTIL_LOG(r, "head HEAD /h end, sent all");
		RIG_UNTIL(r, peer_got(r, "Content-Length: 77\r\n\r\n"));
		rig_turns(r, 3);
		cr_assert_not_null(r->c, "the connection stays");
	}
}

static void answer_100_then_at_end(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	struct http_head go = response_head(100, HTTP_BODY_NONE, 0);

	(void)r;
	(void)end;
	if (h->expect_continue)
		cr_assert_eq(message_send_head(m, &go, false), 0);
}

Test(h1_server, expect_is_answered_by_the_exchange_and_the_body_follows)
{
	EACH_ENGINE(r) {
		uint8_t body[5];

		for (size_t i = 0; i < 5; i++)
			body[i] = pattern(i);
		r->app.on_head = answer_100_then_at_end;
		r->app.on_end = answer_at_end;
		rig_serve(r);
		peer_says(r, "POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
		RIG_UNTIL(r, peer_got(r, "HTTP/1.1 100 Continue\r\n\r\n"));
		peer_send(r, body, 5);
		UNTIL_LOG(r, "head POST /e, end, sent all");
		RIG_UNTIL(r, peer_got(r, "\r\n\r\ndone"));
		cr_assert_not(peer_got(r, "Connection: close"));
	}
}

Test(h1_server, a_final_answer_instead_of_100_closes)
{
	EACH_ENGINE(r) {
		uint64_t began = clock_ns();

		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
		RIG_UNTIL(r, r->got_eof);
		cr_assert_lt(clock_ns() - began, H1_DRAIN_NS, "FIN does not wait for a body");
		cr_assert(peer_got(r, "Connection: close\r\n\r\n/e"));
		close(r->peer);
		r->peer = -1;
		RIG_UNTIL(r, r->closed);
	}
}

Test(h1_server, http_1_0_gets_no_interim_response)
{
	EACH_ENGINE(r) {
		struct http_head hints = response_head(103, HTTP_BODY_NONE, 0);

		rig_serve(r);
		peer_says(r, "GET /e HTTP/1.0\r\n\r\n");
		UNTIL_LOG(r, "head GET /e end");
		cr_assert_eq(message_send_head(r->app.m, &hints, false), 0);
		respond(r->app.m, 200, "x");
		RIG_UNTIL(r, r->got_eof);
		cr_assert_not(peer_got(r, "103"));
	}
}

Test(h1_server, a_short_unread_body_is_dropped_and_the_connection_stays)
{
	EACH_ENGINE(r) {
		static uint8_t zeros[60000];

		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n");
		UNTIL_LOG(r, "head POST /e, sent all");
		peer_send(r, zeros, 30000);
		rig_turns(r, 3);
		peer_send(r, zeros, 30000);
		peer_says(r, "GET /n HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head POST /e, sent all, head GET /n end reused, sent all");
	}
}

Test(h1_server, an_unread_chunked_body_with_trailers_is_dropped_as_well)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "POST /e HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
		UNTIL_LOG(r, "head POST /e, sent all");
		peer_says(r, "3\r\nabc\r\n0\r\nX: y\r\n\r\n");
		RIG_UNTIL(r, r->c->h1.in == H1_IN_IDLE);
		cr_assert_eq(r->slabs.head.in_use, 0);
		cr_assert_eq(r->slabs.rx.in_use, 0);
		peer_says(r, "GET /n HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head POST /e, sent all, head GET /n end reused, sent all");
	}
}

static void drop_body(struct rig *r, struct message *m, struct slice s)
{
	(void)r;
	(void)m;
	slice_drop(s); /* and never consumes: the window would stop a message that is alive */
}

Test(h1_server, a_long_unread_body_ends_the_connection_behind_the_answer)
{
	EACH_ENGINE(r) {
		static uint8_t zeros[65536];
		size_t         sent = 0;

		r->app.on_head = answer_ok;
		r->app.on_body = drop_body;
		rig_serve(r);
		peer_says(r, "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
		for (int i = 0; i < RIG_TURNS && !r->closed; i++) {
			ssize_t n = send(r->peer, zeros, sizeof(zeros), MSG_NOSIGNAL);

			sent += n > 0 ? (size_t)n : 0;
			rig_turn(r);
			peer_read(r);
		}
		cr_assert(r->closed);
		cr_assert(peer_got(r, "\r\n\r\n/e"), "the answer was not lost");
		cr_assert_gt(sent, H1_DRAIN_MAX);
	}
}

Test(h1_server, an_unread_body_that_does_not_come_ends_the_connection)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "\r\n\r\n/e"));
		RIG_UNTIL(r, r->closed);
	}
}

Test(h1_server, an_answer_given_up_is_cut_off_and_looks_like_that)
{
	EACH_ENGINE(r) {
		struct http_head h = response_head(200, HTTP_BODY_STREAM, 0);
		struct message  *m;

		rig_serve(r);
		peer_says(r, "GET /e HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /e end");
		m = r->app.m;
		cr_assert_eq(message_send_head(m, &h, false), 0);
		message_send_body(m, (struct slice){ NULL, (const uint8_t *)"hello", 5 });
		RIG_UNTIL(r, peer_got(r, "5\r\nhello\r\n"));
		r->app.m = NULL;
		message_release(m);
		RIG_UNTIL(r, r->got_reset);
		cr_assert_not(r->got_eof, "no orderly end");
	}
}

Test(h1_server, a_body_that_does_not_fit_its_length_is_cut_off)
{
	static const struct {
		uint64_t    len;
		const char *body;
	} rows[] = { { 9, "short" }, { 3, "long!" } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		EACH_ENGINE(r) {
			struct http_head h = response_head(200, HTTP_BODY_LENGTH, rows[i].len);

			rig_serve(r);
			peer_says(r, "GET /e HTTP/1.1\r\nHost: x\r\n\r\n");
			UNTIL_LOG(r, "head GET /e end");
			cr_assert_eq(message_send_head(r->app.m, &h, false), 0);
			message_send_body(r->app.m, (struct slice){ NULL, (const uint8_t *)rows[i].body, 5 });
			message_send_end(r->app.m, NULL);
			RIG_UNTIL(r, r->got_reset && r->closed);
			LOG_IS(r, "head GET /e end, error: connection reset");
		}
	}
}

Test(h1_server, a_head_that_cannot_be_sent_is_refused_and_nothing_left)
{
	EACH_ENGINE(r) {
		struct http_head  h = response_head(200, HTTP_BODY_NONE, 0);
		struct http_field f[1];
		static char       huge[20000];

		rig_serve(r);
		peer_says(r, "GET /e HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /e end");
		h.fields = f;
		h.fields_max = 1;
		http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("X"), HTTP_STR("a\r\nEvil: b"));
		cr_assert_eq(message_send_head(r->app.m, &h, true), -EINVAL);
		memset(huge, 'a', sizeof(huge));
		f[0].value = huge;
		f[0].value_len = sizeof(huge);
		cr_assert_eq(message_send_head(r->app.m, &h, true), -E2BIG);
		respond(r->app.m, 500, "sorry");
		RIG_UNTIL(r, peer_got(r, "sorry"));
		cr_assert_str_eq(r->got, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nsorry");
	}
}

static void answer_101(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	struct http_head  out = response_head(101, HTTP_BODY_TUNNEL, 0);
	struct http_field f[1];

	(void)r;
	(void)end;
	cr_assert(h->upgrade);
	out.fields = f;
	out.fields_max = 1;
	out.upgrade = true;
	http_head_add(&out, HTTP_FIELD_UPGRADE, HTTP_STR("Upgrade"), HTTP_STR("echo"));
	cr_assert_eq(message_send_head(m, &out, false), 0);
}

static void echo_body(struct rig *r, struct message *m, struct slice s)
{
	r->app.received += s.n;
	message_send_body(m, s);
	message_consume(m, s.n);
}

static void echo_end(struct rig *r, struct message *m)
{
	(void)r;
	message_send_end(m, NULL);
}

Test(h1_server, after_101_the_bytes_are_a_tunnel_both_ways)
{
	EACH_ENGINE(r) {
		r->app.on_head = answer_101;
		r->app.on_body = echo_body;
		r->app.on_end = echo_end;
		rig_serve(r);
		peer_says(r, "GET /t HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly");
		RIG_UNTIL(r, peer_got(r, "\r\n\r\nearly"));
		cr_assert(peer_got(r, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n"));
		peer_says(r, " GET / HTTP/1.1\r\n\r\n");
		RIG_UNTIL(r, peer_got(r, "early GET / HTTP/1.1\r\n\r\n"));
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->got_eof && r->closed);
		LOG_IS(r, "head GET /t end, end, sent all");
	}
}

Test(h1_server, a_connection_that_says_nothing_is_closed)
{
	EACH_ENGINE(r) {
		r->limits.idle_timeout_ns = 50 * NS_PER_MS;
		rig_serve(r);
		RIG_UNTIL(r, r->closed && r->got_eof);
		cr_assert_str_eq(r->closed_text, "idle timeout");
		cr_assert_eq(r->n_got, 0);
	}
}

Test(h1_server, a_head_that_does_not_come_in_time_is_408)
{
	EACH_ENGINE(r) {
		r->limits.header_timeout_ns = 60 * NS_PER_MS;
		rig_serve(r);
		peer_says_slowly(r, "GET / HTTP/1.1\r\nHo");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "HTTP/1.1 408 "));
		cr_assert_eq(r->refused, 408);
		LOG_IS(r, "");
	}
}

Test(h1_server, drain_closes_an_idle_connection_and_lets_a_busy_one_answer)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "GET /d HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /d end");
		http_conn_drain(r->c);
		rig_turns(r, 3);
		cr_assert_eq(r->closed, 0);
		respond(r->app.m, 200, "bye");
		RIG_UNTIL(r, r->got_eof && r->closed);
		cr_assert(peer_got(r, "Connection: close\r\n\r\nbye"));
	}
	EACH_ENGINE(r) {
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /d HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /d end, sent all");
		http_conn_drain(r->c);
		RIG_UNTIL(r, r->got_eof && r->closed);
	}
}

Test(h1_server, the_last_of_requests_max_closes)
{
	EACH_ENGINE(r) {
		r->limits.requests_max = 2;
		r->app.on_head = answer_ok;
		rig_serve(r);
		peer_says(r, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, peer_got(r, "\r\n\r\n/1"));
		cr_assert_not(peer_got(r, "close"));
		peer_says(r, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "Connection: close\r\n\r\n/2"));
	}
}

Test(h1_server, abort_tells_the_message_and_then_the_keeper)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says(r, "GET /d HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /d end");
		http_conn_abort(r->c);
		LOG_IS(r, "head GET /d end");
		RIG_UNTIL(r, r->closed);
		LOG_IS(r, "head GET /d end, error: connection reset");
		RIG_UNTIL(r, r->got_reset);
	}
}

Test(h1_server, a_connection_lives_until_its_failed_message_is_released)
{
	EACH_ENGINE(r) {
		struct message *m;

		r->app.no_release = true;
		rig_serve(r);
		peer_says(r, "GET /d HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /d end");
		peer_reset(r);
		UNTIL_LOG(r, "head GET /d end, error: connection reset");
		rig_turns(r, 5);
		cr_assert_eq(r->closed, 0);
		m = r->app.m;
		r->app.m = NULL;
		message_release(m);
		cr_assert_eq(r->closed, 1);
	}
}
