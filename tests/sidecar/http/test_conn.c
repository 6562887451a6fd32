#include "h1_rig.h"

static void answer_ok(struct rig *r, struct message *m, struct http_head *h, bool end)
{
	(void)r;
	(void)h;
	(void)end;
	respond(m, 200, "ok");
}

Test(conn, requests_that_begin_like_the_preface_are_still_h1)
{
	static const struct {
		const char *text, *log;
	} rows[] = {
		{ "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "head PUT / end, sent all" },
		{ "PRIME / HTTP/1.1\r\nHost: x\r\n\r\n", "head PRIME / end, sent all" },
		{ "PRI /* HTTP/1.1\r\nHost: x\r\n\r\n", "head PRI /* end, sent all" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (int slowly = 0; slowly < 2; slowly++) {
			EACH_ENGINE(r) {
				r->app.on_head = answer_ok;
				rig_serve(r);
				if (slowly)
					peer_says_slowly(r, rows[i].text);
				else
					peer_says(r, rows[i].text);
				UNTIL_LOG(r, rows[i].log);
				cr_assert_eq(r->c->version, HTTP_1_1);
			}
		}
	}
}

Test(conn, a_preface_with_a_mistake_is_a_malformed_request)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		peer_says_slowly(r, "PRI * HTTP/2.0\r\n\r\nSX");
		RIG_UNTIL(r, r->got_eof);
		cr_assert_eq(r->refused, 400);
	}
}

Test(conn, the_preface_makes_it_h2_however_it_is_cut)
{
	for (int slowly = 0; slowly < 2; slowly++) {
		EACH_ENGINE(r) {
			/* the preface and an empty SETTINGS frame */
			static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

			r->limits.streams_max = 10;
			r->limits.h2_window = 65535;
			rig_serve(r);
			for (size_t i = 0; i < sizeof(hello); i += slowly ? 1 : sizeof(hello)) {
				peer_send(r, hello + i, slowly ? 1 : sizeof(hello));
				rig_turn(r);
			}
			RIG_UNTIL(r, r->n_got >= 9);
			cr_assert_eq(r->c->version, HTTP_2);
			cr_assert_eq(r->got[3], 4, "SETTINGS come back first");
		}
	}
}

Test(conn, half_a_preface_is_not_waited_for_longer_than_a_head)
{
	EACH_ENGINE(r) {
		r->limits.header_timeout_ns = 50 * NS_PER_MS;
		rig_serve(r);
		peer_says(r, "PRI * HTT");
		RIG_UNTIL(r, r->closed);
	}
}

Test(conn, fin_before_a_byte_closes)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->closed && r->got_eof);
		cr_assert_eq(r->closed_err, STREAM_OK);
	}
}

Test(conn, a_refused_connect_is_told_with_its_reason)
{
	EACH_ENGINE(r) {
		struct sockaddr_in at = rig_listen(r);
		struct http_client_options o = { .addr = (struct sockaddr *)&at, .addr_len = sizeof(at),
			                         .limits = &r->limits, .ev = &rig_events, .owner = r };

		close(r->listener);
		r->listener = -1;
		cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
		RIG_UNTIL(r, r->closed);
		cr_assert_eq(r->ready, 0);
		cr_assert_eq(r->closed_err, STREAM_E_REFUSED);
		cr_assert_str_eq(r->closed_text, "connection refused");
	}
}

Test(conn, abort_while_connecting_ends_with_on_closed)
{
	EACH_ENGINE(r) {
		struct sockaddr_in at = rig_listen(r);
		struct http_client_options o = { .addr = (struct sockaddr *)&at, .addr_len = sizeof(at),
			                         .limits = &r->limits, .ev = &rig_events, .owner = r };

		cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
		http_conn_abort(r->c);
		cr_assert_eq(r->closed, 0, "no callback from within");
		RIG_UNTIL(r, r->closed);
	}
}

Test(conn, an_empty_slab_is_an_answer)
{
	EACH_ENGINE(r) {
		struct sockaddr_in at = rig_listen(r);
		struct http_client_options o = { .addr = (struct sockaddr *)&at, .addr_len = sizeof(at),
			                         .limits = &r->limits, .ev = &rig_events, .owner = r };
		void *taken[4];
		int   fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		for (int i = 0; i < 4; i++)
			taken[i] = slab_get(&r->slabs.conn);
		cr_assert_eq(http_client_open(&r->env, &o, &r->c), -ENOBUFS);
		cr_assert_eq(http_server_open(&r->env, fd, &r->limits, &rig_events, r, &r->c), -ENOBUFS);
		for (int i = 0; i < 4; i++)
			slab_put(&r->slabs.conn, taken[i]);
		cr_assert_null(r->c);
	}
}

Test(conn, drain_before_the_first_byte_closes)
{
	EACH_ENGINE(r) {
		rig_serve(r);
		http_conn_drain(r->c);
		http_conn_drain(r->c);
		RIG_UNTIL(r, r->closed && r->got_eof);
	}
}

Test(conn, an_answer_that_cannot_leave_does_not_keep_the_connection)
{
	EACH_ENGINE(r) {
		struct http_head h = response_head(200, HTTP_BODY_CLOSE, 0);

		r->app.no_release = true;
		rig_serve(r);
		peer_says(r, "GET / HTTP/1.0\r\n\r\n");
		UNTIL_LOG(r, "head GET / end");
		cr_assert_eq(message_send_head(r->app.m, &h, false), 0);
		for (int i = 0; i < 4000 && stream_queued(&r->c->stream) < 200000; i++) {
			struct buf *b = buf_get(&r->bufs, BUF_LARGE);

			if (b != NULL)
				message_send_body(r->app.m, (struct slice){ b, b->data, BUF_LARGE_SIZE });
			rig_turn(r);
		}
		message_send_end(r->app.m, NULL);
		message_release(r->app.m);
		r->app.m = NULL;
		/* HTTP_CLOSE_NS, with a peer that reads nothing */
		for (int i = 0; i < RIG_TURNS && !r->closed; i++)
			rig_turn(r);
		cr_assert(r->closed);
	}
}

Test(message, every_error_has_a_text)
{
	for (int e = MESSAGE_OK; e <= MESSAGE_E_TIMEOUT; e++)
		cr_assert_gt(strlen(message_error_text((enum message_error)e)), 4);
}
