/*
 * tests/sidecar/http/test_h2_conn.c - HTTP/2 connections, our client to our server over loopback,
 * on both engines.
 */
#include "tests/sidecar/http/h2_rig.h"

TestSuite(h2_conn, .timeout = 120);

static bool all_done(struct rig *r)
{
	for (uint32_t i = 0; i < r->n_ex; i++)
		if (r->ex[i].m)
			return false;
	for (uint32_t i = 0; i < r->n_sx; i++)
		if (r->sx[i].m)
			return false;
	return true;
}

/* --- exchanges --- */

Test(h2_conn, a_get_is_answered_and_the_connection_idles_without_buffers)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "GET", "/size/6", UINT64_MAX);
		RIG_UNTIL(r, all_done(r));
		cr_expect_eq(x->status, 200);
		cr_expect_eq(x->in, 6);
		cr_expect_eq(x->ends, 1);
		cr_expect(x->all);
		cr_expect_eq(r->c->active, 0);
		cr_expect_eq(r->c->served, 1);
		cr_expect_eq(r->s[0]->active, 0);
		cr_expect_eq(r->c->version, HTTP_2);
		rig_ms(r, 20);
		cr_expect_eq(r->slabs.h2_stream.in_use, 0);
		cr_expect_eq(r->slabs.head.in_use, 0);
		cr_expect_eq(r->slabs.txq.in_use, 0);
		if (strcmp(engine_name(r->engine), "epoll") == 0) {
			cr_expect_eq(r->bufs.cls[BUF_SMALL].n_free, 1024);
			cr_expect_eq(r->bufs.cls[BUF_LARGE].n_free, 1024);
		}
	}
}

Test(h2_conn, a_body_with_trailers_is_echoed)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "POST", "/echo", 0);
		x->sends_trailers = true;
		x->to_send = 1 << 20;
		ex_feed(x);
		RIG_UNTIL(r, all_done(r));
		cr_expect_eq(x->in, 1 << 20);
		cr_expect_eq(x->sent, 1 << 20);
		cr_expect_eq(x->trailers, 1);
		cr_expect_eq(r->sx[0].trailers, 1);
		cr_expect_eq(x->errors, 0);
	}
}

Test(h2_conn, a_hundred_streams_at_once_share_the_connection)
{
	EACH_ENGINE (r) {
		rig_pair(r);
		cr_expect_eq(r->c->capacity, 100);
		for (int i = 0; i < 100; i++)
			rig_ask(r, "POST", "/echo", 20000);
		cr_expect_eq(r->c->active, 100);
		RIG_UNTIL(r, all_done(r));
		for (int i = 0; i < 100; i++) {
			cr_expect_eq(r->ex[i].in, 20000);
			cr_expect_eq(r->ex[i].ends, 1);
			cr_expect_eq(r->sx[i].sent, 20000);
		}
		cr_expect_eq(r->n_s, 1);
	}
}

Test(h2_conn, what_many_streams_say_in_a_turn_leaves_in_one_send)
{
	EACH_CALM_ENGINE (r) {
		uint64_t before, sends;

		rig_pair(r);
		rig_ms(r, 20);
		before = engine_stats(r->engine)->completed;
		for (int i = 0; i < 30; i++)
			rig_ask(r, "GET", "/hold", UINT64_MAX);
		RIG_UNTIL(r, r->n_sx == 30);
		sends = engine_stats(r->engine)->completed - before;
		cr_expect_leq(sends, 4, "one send, its receive, and what was armed: %d", (int)sends);
	}
}

static void hint(struct ex *x)
{
	struct http_head h = { .status = 103 };

	cr_assert_eq(message_send_head(x->m, &h, false), 0);
	cr_assert_eq(message_send_head(x->m, &h, false), 0);
}

Test(h2_conn, interim_heads_come_through)
{
	EACH_ENGINE (r) {
		struct ex *x;

		r->on_head = hint;
		rig_pair(r);
		x = rig_ask(r, "GET", "/size/1", UINT64_MAX);
		RIG_UNTIL(r, all_done(r));
		cr_expect_eq(x->interims, 2);
		cr_expect_eq(x->heads, 1);
		cr_expect_eq(x->status, 200);
	}
}

Test(h2_conn, a_head_larger_than_a_buffer_passes_and_one_beyond_the_limit_is_answered)
{
	static char big[40000];

	EACH_ENGINE (r) {
		struct http_field f[4];
		struct http_head  h = { .fields = f, .fields_max = 4, .method = HTTP_METHOD_GET };
		struct ex        *x = &r->ex[0], *y = &r->ex[1];

		memset(big, 'x', sizeof(big));
		rig_pair(r);
		r->n_ex = 2;
		x->r = y->r = r;
		x->end_given = y->end_given = true;
		h.method_text = HTTP_STR("GET");
		h.path = HTTP_STR("/size/3");
		h.authority = HTTP_STR("localhost");
		http_head_add(&h, HTTP_FIELD_OTHER, HTTP_STR("x-big"), (struct http_str){ big, 30000 });
		x->m = http_client_message(r->c, &client_ev, x);
		cr_assert_eq(message_send_head(x->m, &h, true), 0);
		RIG_UNTIL(r, x->m == NULL);
		cr_expect_eq(x->status, 200);
		f[0].value_len = 33000;
		y->m = http_client_message(r->c, &client_ev, y);
		cr_assert_eq(message_send_head(y->m, &h, true), 0);
		RIG_UNTIL(r, y->m == NULL);
		cr_expect_eq(y->status, 431);
		cr_expect_eq(r->n_sx, 1, "the second never became a message");
		RIG_UNTIL(r, r->refused == 1);
		cr_expect_eq(r->refused_status, 431);
		f[0].value_len = 40000;
		f[1] = f[0];
		h.n_fields = 2;
		y->m = http_client_message(r->c, &client_ev, y);
		cr_expect_eq(message_send_head(y->m, &h, true), -E2BIG);
		ex_release(y);
		RIG_UNTIL(r, all_done(r));
	}
}

/* --- back-pressure --- */

Test(h2_conn, a_receiver_that_holds_stops_its_stream_at_the_window_and_no_other)
{
	EACH_ENGINE (r) {
		struct ex *slow, *fast;

		rig_pair(r);
		slow = rig_ask(r, "POST", "/keep", 0);
		slow->to_send = 1 << 20;
		ex_feed(slow);
		RIG_UNTIL(r, r->n_sx == 1 && r->sx[0].held >= 60000);
		rig_ms(r, 50);
		cr_expect_eq(r->sx[0].held, 64 * 1024);
		fast = rig_ask(r, "POST", "/echo", 2 << 20);
		RIG_UNTIL(r, fast->m == NULL);
		cr_expect_eq(fast->in, 2 << 20);
		cr_expect_eq(r->sx[0].held, 64 * 1024);
		/* now it takes everything */
		r->sx[0].keeps = false;
		ex_take_back(&r->sx[0]);
		RIG_UNTIL(r, r->sx[0].ends == 1);
		cr_expect_eq(r->sx[0].in, 1 << 20);
	}
}

Test(h2_conn, many_slow_streams_do_not_stall_a_fast_one)
{
	EACH_ENGINE (r) {
		struct ex *fast;

		rig_pair(r);
		for (int i = 0; i < 8; i++)
			rig_ask(r, "POST", "/keep", 200000);
		rig_ms(r, 50);
		fast = rig_ask(r, "POST", "/echo", 1 << 20);
		RIG_UNTIL(r, fast->m == NULL);
		cr_expect_eq(fast->in, 1 << 20);
	}
}

/* 1000 DATA frames of a few bytes to somebody who holds them all. */
static void crumbs(struct rig *r, struct ex *x, uint32_t n, uint32_t size)
{
	static uint8_t bytes[4096];

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < size; k++)
			bytes[k] = pattern(x->given + k);
		x->given += size;
		message_send_body(x->m, (struct slice){ NULL, bytes, size });
		rig_turn(r);
	}
}

Test(h2_conn, small_pieces_for_a_slow_receiver_do_not_pin_a_buffer_each)
{
	EACH_ENGINE (r) {
		struct ex *x;
		uint32_t   used;

		rig_pair(r);
		x = rig_ask(r, "POST", "/keep", 0);
		crumbs(r, x, 1000, 50);
		RIG_UNTIL(r, r->n_sx == 1 && r->sx[0].held == 50000);
		used = 2048 - r->bufs.cls[BUF_SMALL].n_free - r->bufs.cls[BUF_LARGE].n_free;
		cr_expect_leq(used, 40, "%u buffers for 50000 bytes", used);
		ex_take_back(&r->sx[0]);
	}
}

Test(h2_conn, a_body_given_byte_by_byte_to_a_blocked_stream_arrives)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "POST", "/keep", 0);
		x->to_send = UINT64_MAX; /* by hand */
		RIG_UNTIL(r, r->n_sx == 1);
		while (x->given < 130000) {
			static uint8_t two[2];

			two[0] = pattern(x->given);
			two[1] = pattern(x->given + 1);
			x->given += 2;
			message_send_body(x->m, (struct slice){ NULL, two, 2 });
		}
		x->to_send = x->given;
		RIG_UNTIL(r, r->sx[0].held == 65536);
		r->sx[0].keeps = false;
		ex_take_back(&r->sx[0]);
		RIG_UNTIL(r, r->sx[0].in == 130000);
	}
}

Test(h2_conn, a_peer_that_does_not_read_is_not_read_from)
{
	EACH_ENGINE (r) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)r->port),
			                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		int                fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), small = 4096;
		uint8_t            ping[17] = { 0, 0, 8, 6, 0, 0, 0, 0, 0, 'p', 'i', 'n', 'g', 'p', 'i', 'n', 'g' };
		uint8_t            settings[9] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };

		/* pings one after another, never reading; the server ends it long before memory does */
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		connect(fd, (struct sockaddr *)&a, sizeof(a));
		RIG_UNTIL(r, r->n_s == 1);
		cr_assert_eq(send(fd, h2_preface, H2_PREFACE_LEN, 0), H2_PREFACE_LEN);
		cr_assert_eq(send(fd, settings, 9, 0), 9);
		for (int i = 0; i < 20000 && r->s_closed == 0; i++) {
			(void)!send(fd, ping, sizeof(ping), MSG_NOSIGNAL);
			rig_turn(r);
		}
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_str_eq(r->s_closed_text, "flood of frames");
		close(fd);
	}
}

/* --- ends --- */

Test(h2_conn, a_released_request_is_cancelled_and_the_connection_lives)
{
	EACH_ENGINE (r) {
		struct ex *x, *y;

		rig_pair(r);
		x = rig_ask(r, "POST", "/hold", 10);
		RIG_UNTIL(r, r->n_sx == 1);
		ex_release(x);
		RIG_UNTIL(r, r->sx[0].errors == 1);
		cr_expect_eq(r->sx[0].err, MESSAGE_E_RESET);
		y = rig_ask(r, "GET", "/size/10", UINT64_MAX);
		RIG_UNTIL(r, y->m == NULL);
		cr_expect_eq(y->in, 10);
		cr_expect_eq(r->c->active, 0);
	}
}

Test(h2_conn, a_body_cancelled_half_way_leaves_the_connection_window_whole)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		for (int i = 0; i < 10; i++) {
			x = rig_ask(r, "GET", "/size/10000000", UINT64_MAX);
			x->keeps = true;
			RIG_UNTIL(r, x->held >= 30000);
			ex_release(x);
		}
		x = rig_ask(r, "GET", "/size/3000000", UINT64_MAX);
		RIG_UNTIL(r, x->m == NULL);
		cr_expect_eq(x->in, 3000000);
		RIG_UNTIL(r, all_done(r));
	}
}

static void answer_early(struct ex *x)
{
	respond(x, 413, HTTP_BODY_LENGTH, 5);
	ex_feed(x);
	ex_release(x);
}

Test(h2_conn, a_whole_answer_before_the_end_of_the_request_arrives_and_the_rest_is_dropped)
{
	EACH_ENGINE (r) {
		struct ex *x;

		r->on_head = answer_early;
		rig_pair(r);
		x = rig_ask(r, "POST", "/big", 5 << 20);
		RIG_UNTIL(r, all_done(r));
		cr_expect_eq(x->status, 413);
		cr_expect_eq(x->in, 5);
		cr_expect_eq(x->ends, 1);
		cr_expect_eq(x->errors, 0);
		cr_expect_eq(x->sent, 5 << 20, "what could not be sent counts as sent");
		RIG_UNTIL(r, r->slabs.h2_stream.in_use == 0);
		cr_expect_not_null(r->c);
	}
}

static void drop(struct ex *x)
{
	ex_release(x);
}

Test(h2_conn, a_server_that_gives_up_resets_the_stream)
{
	EACH_ENGINE (r) {
		struct ex *x;

		r->on_head = drop;
		rig_pair(r);
		x = rig_ask(r, "GET", "/", UINT64_MAX);
		RIG_UNTIL(r, x->errors == 1);
		cr_expect_eq(x->err, MESSAGE_E_RESET);
		cr_expect(!x->unprocessed);
	}
}

Test(h2_conn, a_message_nobody_takes_is_answered_503)
{
	EACH_ENGINE (r) {
		struct ex *x, *y;

		r->nobody = true;
		rig_pair(r);
		x = rig_ask(r, "GET", "/", UINT64_MAX);
		y = rig_ask(r, "POST", "/", 1 << 20);
		RIG_UNTIL(r, x->m == NULL && y->m == NULL);
		cr_expect_eq(x->status, 503);
		cr_expect_eq(y->status, 503);
		cr_expect_eq(r->refused, 2);
		RIG_UNTIL(r, r->slabs.h2_stream.in_use == 0);
	}
}

Test(h2_conn, a_stream_beyond_the_limit_is_refused_unprocessed)
{
	EACH_ENGINE (r) {
		struct ex *x;

		r->server_limits.streams_max = 2;
		rig_pair(r);
		cr_expect_eq(r->c->capacity, 2);
		for (int i = 0; i < 2; i++)
			rig_ask(r, "GET", "/hold", UINT64_MAX);
		RIG_UNTIL(r, r->n_sx == 2);
		/* reset by the client, still worked on by the server: it counts */
		r->sx[0].no_release = true;
		ex_release(&r->ex[0]);
		RIG_UNTIL(r, r->sx[0].errors == 1);
		x = rig_ask(r, "GET", "/size/1", UINT64_MAX);
		RIG_UNTIL(r, x->errors == 1);
		cr_expect_eq(x->err, MESSAGE_E_REFUSED);
		cr_expect(x->unprocessed);
		ex_release(&r->sx[0]);
		x = rig_ask(r, "GET", "/size/1", UINT64_MAX);
		RIG_UNTIL(r, x->m == NULL);
		cr_expect_eq(x->status, 200);
	}
}

Test(h2_conn, an_abort_tells_every_message_once)
{
	EACH_ENGINE (r) {
		rig_pair(r);
		for (int i = 0; i < 20; i++)
			rig_ask(r, i % 2 ? "POST" : "GET", "/hold", i % 2 ? 5000 : UINT64_MAX);
		RIG_UNTIL(r, r->n_sx == 20);
		http_conn_abort(r->c);
		RIG_UNTIL(r, r->closed == 1 && r->s_closed == 1);
		for (int i = 0; i < 20; i++) {
			cr_expect_eq(r->ex[i].errors, 1);
			cr_expect_eq(r->ex[i].err, MESSAGE_E_RESET);
			cr_expect_eq(r->sx[i].errors, 1);
		}
	}
}

Test(h2_conn, a_message_kept_over_the_end_of_its_connection_can_still_be_used)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "POST", "/hold", 0);
		x->no_release = true;
		RIG_UNTIL(r, r->n_sx == 1);
		http_conn_abort(r->s[0]);
		RIG_UNTIL(r, x->errors == 1);
		rig_ms(r, 20);
		cr_expect_eq(r->closed, 0, "it waits for the release");
		ex_release(x);
		RIG_UNTIL(r, r->closed == 1);
	}
}

Test(h2_conn, the_end_of_the_connection_says_whether_the_request_was_seen)
{
	EACH_ENGINE (r) {
		struct ex *sent, *unsent;

		rig_pair(r);
		sent = rig_ask(r, "GET", "/hold", UINT64_MAX);
		RIG_UNTIL(r, r->n_sx == 1);
		unsent = rig_ask(r, "GET", "/hold", UINT64_MAX); /* in the session, the turn is not over */
		http_conn_abort(r->c);
		RIG_UNTIL(r, sent->errors == 1 && unsent->errors == 1);
		cr_expect(!sent->unprocessed);
		cr_expect(unsent->unprocessed);
	}
}

/* --- drain, limits, time --- */

Test(h2_conn, a_drained_server_finishes_what_it_has_and_closes)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "POST", "/echo", 0);
		x->to_send = UINT64_MAX;
		RIG_UNTIL(r, r->n_sx == 1);
		http_conn_drain(r->s[0]);
		RIG_UNTIL(r, r->draining == 1);
		cr_expect_eq(r->c->capacity, 0);
		rig_ms(r, 20);
		cr_expect_eq(r->closed + r->s_closed, 0);
		x->to_send = 100000;
		ex_feed(x);
		RIG_UNTIL(r, r->closed == 1 && r->s_closed == 1);
		cr_expect_eq(x->in, 100000);
		cr_expect_eq(x->errors, 0);
		cr_expect_eq(r->closed_err, STREAM_OK);
	}
}

Test(h2_conn, a_drained_server_loses_no_request_on_its_way)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "GET", "/size/100", UINT64_MAX); /* crosses the GOAWAY */
		http_conn_drain(r->s[0]);
		RIG_UNTIL(r, r->closed == 1 && r->s_closed == 1);
		cr_expect_eq(x->in, 100);
		cr_expect_eq(x->errors, 0);
	}
}

Test(h2_conn, a_drained_client_closes_with_its_last_message)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r);
		x = rig_ask(r, "GET", "/size/500000", UINT64_MAX);
		http_conn_drain(r->c);
		cr_expect_eq(r->c->capacity, 0);
		RIG_UNTIL(r, r->closed == 1);
		cr_expect_eq(x->in, 500000);
		RIG_UNTIL(r, r->s_closed == 1);
	}
}

Test(h2_conn, after_as_many_requests_as_allowed_the_connection_drains)
{
	EACH_ENGINE (r) {
		r->limits.requests_max = 3;
		rig_pair(r);
		for (int i = 0; i < 3; i++) {
			cr_expect_geq(r->c->capacity, 1);
			rig_ask(r, "GET", "/size/1", UINT64_MAX);
		}
		cr_expect_eq(r->c->active, r->c->capacity);
		RIG_UNTIL(r, r->closed == 1);
		cr_expect_eq(r->draining, 1);
		for (int i = 0; i < 3; i++)
			cr_expect_eq(r->ex[i].in, 1);
	}
}

Test(h2_conn, an_idle_connection_ends_after_its_time)
{
	EACH_ENGINE (r) {
		struct ex *x;

		rig_pair(r); /* which may take longer than that */
		r->server_limits.idle_timeout_ns = 50 * NS_PER_MS;
		x = rig_ask(r, "GET", "/size/10", UINT64_MAX);
		RIG_UNTIL(r, x->m == NULL && r->closed == 1 && r->s_closed == 1);
		cr_expect_eq(r->closed_err, STREAM_OK);
		cr_expect_str_eq(r->s_closed_text, "idle timeout");
		cr_expect_eq(r->draining, 1);
	}
}

Test(h2_conn, a_client_asks_a_silent_peer_and_lives_when_it_answers)
{
	EACH_ENGINE (r) {
		struct ex *x;

		r->limits.ping_interval_ns = 20 * NS_PER_MS;
		r->limits.ping_timeout_ns = 200 * NS_PER_MS;
		rig_pair(r);
		x = rig_ask(r, "GET", "/hold", UINT64_MAX);
		rig_ms(r, 300);
		cr_expect_eq(x->errors, 0);
		cr_expect_gt(r->c->h2->rx_bytes, 17 * 3, "PINGs were answered");
	}
}

/* A server that says hello and then nothing any more. */
static int mute_server(int *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t          len = sizeof(a);
	int                fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	listen(fd, 4);
	getsockname(fd, (struct sockaddr *)&a, &len);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

Test(h2_conn, a_peer_that_answers_no_ping_is_dead)
{
	EACH_ENGINE (r) {
		int        port, fd = mute_server(&port);
		struct ex *x;

		r->limits.ping_interval_ns = 20 * NS_PER_MS;
		r->limits.ping_timeout_ns = 50 * NS_PER_MS;
		rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
		RIG_UNTIL(r, r->ready == 1);
		x = rig_ask(r, "GET", "/", UINT64_MAX);
		RIG_UNTIL(r, x->errors == 1 && r->closed == 1);
		cr_expect_eq(x->err, MESSAGE_E_TIMEOUT);
		cr_expect_str_eq(r->closed_text, "no answer to a PING");
		close(fd);
	}
}

Test(h2_conn, a_head_that_does_not_become_complete_times_out)
{
	EACH_ENGINE (r) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)r->port),
			                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		int                fd = socket(AF_INET, SOCK_STREAM, 0);
		/* SETTINGS, and HEADERS without END_HEADERS */
		static const uint8_t begun[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82 };

		r->server_limits.header_timeout_ns = 50 * NS_PER_MS;
		connect(fd, (struct sockaddr *)&a, sizeof(a));
		cr_assert_eq(send(fd, h2_preface, H2_PREFACE_LEN, 0), H2_PREFACE_LEN);
		cr_assert_eq(send(fd, begun, sizeof(begun), 0), (ssize_t)sizeof(begun));
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_str_eq(r->s_closed_text, "header timeout");
		close(fd);
	}
}

/* A client of bytes, with a small window of TCP. */
static int raw_client(struct rig *r)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)r->port),
		                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int                fd = socket(AF_INET, SOCK_STREAM, 0), small = 4096;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

/* What a peer reads until the end; -errno of the last recv, or 0 for FIN.  The rig turns meanwhile. */
static int read_to_the_end(struct rig *r, int fd, uint8_t *out, size_t cap, size_t *n)
{
	for (;;) {
		ssize_t k = recv(fd, out + *n, cap - *n, MSG_DONTWAIT);

		if (k == 0)
			return 0;
		if (k < 0 && errno != EAGAIN)
			return -errno;
		if (k > 0)
			*n += (size_t)k;
		cr_assert_lt(*n, cap);
		rig_turn(r);
	}
}

/* Is there a GOAWAY with this code among whole frames? */
static bool has_goaway(const uint8_t *p, size_t n, uint8_t code)
{
	for (size_t at = 0; at + 9 <= n;) {
		size_t len = (size_t)p[at] << 16 | (size_t)p[at + 1] << 8 | p[at + 2];

		if (p[at + 3] == 7 && at + 17 <= n)
			return p[at + 16] == code;
		at += 9 + len;
	}
	return false;
}

/* RFC 9113 §5.4.1.  A plain close would be RST, which throws away what the peer has not read. */
Test(h2_conn, goaway_reaches_a_peer_that_goes_on_sending_after_its_error)
{
	EACH_ENGINE (r) {
		static const uint8_t begun[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 1 };
		static uint8_t       more[65536], got[65536];
		int                  fd = raw_client(r);
		size_t               n = 0, sent = 0;

		cr_assert_eq(send(fd, h2_preface, H2_PREFACE_LEN, 0), H2_PREFACE_LEN);
		cr_assert_eq(send(fd, begun, sizeof(begun), 0), (ssize_t)sizeof(begun));
		/* well within H2_LINGER_MAX, and only then is anything read */
		while (sent < 16 * sizeof(more)) {
			ssize_t k = send(fd, more, sizeof(more), MSG_NOSIGNAL | MSG_DONTWAIT);

			cr_assert(k > 0 || errno == EAGAIN, "%s", strerror(errno));
			sent += k > 0 ? (size_t)k : 0;
			rig_turn(r);
		}
		cr_assert_eq(read_to_the_end(r, fd, got, sizeof(got), &n), 0, "FIN, no RST");
		cr_expect(has_goaway(got, n, 6), "FRAME_SIZE_ERROR");
		close(fd);
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_str_eq(r->s_closed_text, "HTTP/2 frame size error");
	}
}

Test(h2_conn, a_peer_that_never_stops_sending_after_its_error_is_reset)
{
	EACH_ENGINE (r) {
		static uint8_t more[65536];
		int            fd = raw_client(r);
		uint64_t       sent = 0, since = clock_ns();
		ssize_t        k = 0;

		cr_assert_eq(send(fd, h2_preface, H2_PREFACE_LEN, 0), H2_PREFACE_LEN);
		while (k >= 0 || errno == EAGAIN) { /* zeros: DATA of stream 0 */
			k = send(fd, more, sizeof(more), MSG_NOSIGNAL | MSG_DONTWAIT);
			sent += k > 0 ? (uint64_t)k : 0;
			rig_turn(r);
			cr_assert_lt(sent, UINT64_C(256) << 20);
			cr_assert_lt(clock_ns() - since, 15 * NS_PER_S, "it is let wait");
		}
		close(fd);
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_str_eq(r->s_closed_text, "HTTP/2 protocol error");
	}
}

/* Its window is shut by an answer it does not read; GOAWAY passes the DATA that waits, and the end does not wait. */
Test(h2_conn, a_peer_that_reads_nothing_and_breaks_the_protocol_is_ended_within_a_bound)
{
	EACH_ENGINE (r) {
		static const uint8_t hello[] = { 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff,
			                         0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0 };
		static const uint8_t ask[] = { 0, 0, 21, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x41, 1, 'a', 0x04, 14,
			                       '/', 's', 'i', 'z', 'e', '/', '9', '0', '0', '0', '0', '0', '0', '0' };
		static const uint8_t bad[] = { 0, 0, 1, 6, 0, 0, 0, 0, 0, 0 };
		int                  fd = raw_client(r);
		uint64_t             since;

		cr_assert_eq(send(fd, h2_preface, H2_PREFACE_LEN, 0), H2_PREFACE_LEN);
		cr_assert_eq(send(fd, hello, sizeof(hello), 0), (ssize_t)sizeof(hello));
		cr_assert_eq(send(fd, ask, sizeof(ask), 0), (ssize_t)sizeof(ask));
		RIG_UNTIL(r, r->n_sx == 1);
		rig_ms(r, 50);
		cr_assert_eq(send(fd, bad, sizeof(bad), 0), (ssize_t)sizeof(bad));
		since = clock_ns();
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_lt(clock_ns() - since, 10 * NS_PER_S);
		cr_expect_str_eq(r->s_closed_text, "HTTP/2 frame size error");
		close(fd);
	}
}

Test(h2_conn, a_server_that_breaks_the_protocol_fails_its_messages)
{
	EACH_ENGINE (r) {
		int                  port, fd = mute_server(&port), conn;
		struct ex           *x;
		static const uint8_t bad[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 1 };

		rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
		RIG_UNTIL(r, r->ready == 1);
		x = rig_ask(r, "GET", "/", UINT64_MAX);
		conn = accept(fd, NULL, NULL);
		rig_ms(r, 10);
		cr_assert_eq(send(conn, bad, sizeof(bad), 0), (ssize_t)sizeof(bad));
		RIG_UNTIL(r, x->errors == 1 && r->closed == 1);
		cr_expect_eq(x->err, MESSAGE_E_PROTOCOL);
		cr_expect(!x->unprocessed);
		cr_expect_str_eq(r->closed_text, "HTTP/2 frame size error");
		close(conn);
		close(fd);
	}
}

Test(h2_conn, a_closed_connection_before_and_within_a_response_are_told_apart)
{
	EACH_ENGINE (r) {
		int                  port, fd = mute_server(&port), conn;
		struct ex           *before, *within;
		/* SETTINGS; :status 200 on stream 3 */
		static const uint8_t head[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 3, 0x88 };

		rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
		RIG_UNTIL(r, r->ready == 1);
		before = rig_ask(r, "GET", "/1", UINT64_MAX);
		within = rig_ask(r, "GET", "/3", UINT64_MAX);
		conn = accept(fd, NULL, NULL);
		rig_ms(r, 10);
		cr_assert_eq(send(conn, head, sizeof(head), 0), (ssize_t)sizeof(head));
		RIG_UNTIL(r, within->heads == 1);
		shutdown(conn, SHUT_WR);
		RIG_UNTIL(r, r->closed == 1);
		cr_expect_eq(before->err, MESSAGE_E_EOF);
		cr_expect_eq(within->err, MESSAGE_E_INCOMPLETE);
		cr_expect(!before->unprocessed && !within->unprocessed);
		close(conn);
		close(fd);
	}
}

/* Frames on streams 1 and 3 after SETTINGS, as a server would send them. */
static const uint8_t goaway_1[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 };
static const uint8_t rst_1_1[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 13 };
static const uint8_t rst_refused[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 7 };
static const uint8_t rst_cancel[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8 };
static const uint8_t bad_head[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 1, 5, 0, 0, 0, 3, 0x88, 0x88 };

static const struct {
	const char        *says;
	const uint8_t     *frames;
	size_t             n;
	enum message_error err;
	bool               unprocessed, draining;
} verdicts[] = {
	{ "above the last id of GOAWAY", goaway_1, sizeof(goaway_1), MESSAGE_E_REFUSED, true, true },
	{ "HTTP/1.1 required", rst_1_1, sizeof(rst_1_1), MESSAGE_E_HTTP_1_1_REQUIRED, true, false },
	{ "refused", rst_refused, sizeof(rst_refused), MESSAGE_E_REFUSED, true, false },
	{ "cancelled", rst_cancel, sizeof(rst_cancel), MESSAGE_E_RESET, false, false },
	{ "two statuses", bad_head, sizeof(bad_head), MESSAGE_E_PROTOCOL, false, false },
};

Test(h2_conn, what_the_server_says_of_one_stream_leaves_the_other_alone)
{
	for (size_t i = 0; i < ARRAY_LEN(verdicts); i++) {
		EACH_ENGINE (r) {
			int                  port, fd = mute_server(&port), conn;
			struct ex           *one, *three;
			static const uint8_t ok[] = { 0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88 };

			rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
			RIG_UNTIL(r, r->ready == 1);
			one = rig_ask(r, "GET", "/1", UINT64_MAX);
			three = rig_ask(r, "GET", "/3", UINT64_MAX);
			conn = accept(fd, NULL, NULL);
			rig_ms(r, 10);
			cr_assert_eq(send(conn, verdicts[i].frames, verdicts[i].n, 0), (ssize_t)verdicts[i].n);
			RIG_UNTIL(r, three->errors == 1);
			cr_expect_eq(three->err, verdicts[i].err, "%s", verdicts[i].says);
			cr_expect_eq(three->unprocessed, verdicts[i].unprocessed, "%s", verdicts[i].says);
			cr_expect_eq(r->draining, verdicts[i].draining, "%s", verdicts[i].says);
			cr_expect_eq(one->errors, 0, "%s", verdicts[i].says);
			cr_assert_eq(send(conn, ok, sizeof(ok), 0), (ssize_t)sizeof(ok));
			RIG_UNTIL(r, one->m == NULL);
			cr_expect_eq(one->status, 200, "%s", verdicts[i].says);
			if (verdicts[i].draining)
				RIG_UNTIL(r, r->closed == 1);
			close(conn);
			close(fd);
			RIG_UNTIL(r, r->closed == 1);
		}
	}
}

Test(h2_conn, the_capacity_follows_the_peer_down_to_nothing_and_up_again)
{
	EACH_ENGINE (r) {
		int            port, fd = mute_server(&port), conn;
		static uint8_t none[] = { 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0 };

		rig_connect(r, port, HTTP_CLIENT_H2_PRIOR);
		RIG_UNTIL(r, r->ready == 1);
		cr_expect_eq(r->c->capacity, 100);
		conn = accept(fd, NULL, NULL);
		for (uint8_t n = 0; n < 9; n = (uint8_t)(n + 4)) {
			uint32_t before = r->capacity;

			none[14] = n;
			cr_assert_eq(send(conn, none, sizeof(none), 0), (ssize_t)sizeof(none));
			RIG_UNTIL(r, r->capacity > before);
			cr_expect_eq(r->c->capacity, n);
		}
		close(conn);
		close(fd);
		RIG_UNTIL(r, r->closed == 1);
	}
}

Test(h2_conn, a_narrow_pipe_carries_everything_both_ways)
{
	EACH_ENGINE (r) {
		int narrow = 4096;

		rig_pair(r);
		setsockopt(r->c->stream.fd, SOL_SOCKET, SO_SNDBUF, &narrow, sizeof(narrow));
		setsockopt(r->s[0]->stream.fd, SOL_SOCKET, SO_SNDBUF, &narrow, sizeof(narrow));
		for (int i = 0; i < 20; i++) {
			struct ex *x = rig_ask(r, "POST", "/echo", 0);

			x->sends_trailers = i % 2;
			x->to_send = 100000;
			ex_feed(x);
		}
		RIG_UNTIL(r, all_done(r));
		for (int i = 0; i < 20; i++) {
			cr_expect_eq(r->ex[i].in, 100000);
			cr_expect_eq(r->ex[i].errors, 0);
			cr_expect_eq(r->ex[i].trailers, (uint32_t)i % 2);
		}
	}
}

/* --- slabs run out --- */

Test(h2_conn, without_memory_for_a_head_a_stream_is_refused_and_the_rest_goes_on)
{
	EACH_ENGINE (r) {
		void      *taken[2048];
		uint32_t   n = 0;
		struct ex *x;

		rig_pair(r);
		while ((taken[n] = slab_get(&r->slabs.head)) != NULL)
			n++;
		x = rig_ask(r, "GET", "/size/1", UINT64_MAX);
		RIG_UNTIL(r, x->errors == 1);
		cr_expect_eq(x->err, MESSAGE_E_REFUSED);
		cr_expect(x->unprocessed);
		while (n > 0)
			slab_put(&r->slabs.head, taken[--n]);
		x = rig_ask(r, "GET", "/size/1", UINT64_MAX);
		RIG_UNTIL(r, x->m == NULL);
		cr_expect_eq(x->status, 200);
	}
}

Test(h2_conn, without_a_buffer_to_gather_into_a_stream_ends_with_overload)
{
	EACH_ENGINE (r) {
		struct buf    *taken[1024];
		static uint8_t bytes[600];
		uint32_t       n = 0;
		struct ex     *x;

		rig_pair(r);
		x = rig_ask(r, "POST", "/keep", 0);
		x->to_send = UINT64_MAX;
		RIG_UNTIL(r, r->n_sx == 1);
		rig_ms(r, 10);
		while (n < 1024 && (taken[n] = buf_get(&r->bufs, BUF_LARGE)) != NULL)
			n++;
		message_send_body(x->m, (struct slice){ NULL, bytes, sizeof(bytes) });
		while (n > 0)
			buf_unref(taken[--n]);
		RIG_UNTIL(r, x->errors == 1);
		cr_expect_eq(x->err, MESSAGE_E_OVERLOAD);
		x = rig_ask(r, "GET", "/size/1", UINT64_MAX);
		RIG_UNTIL(r, x->m == NULL);
		cr_expect_eq(x->status, 200);
	}
}

static void end_badly(struct ex *x)
{
	struct http_field f[1];
	struct http_head  t = { .fields = f, .fields_max = 1 };

	respond(x, 200, HTTP_BODY_STREAM, 0);
	http_head_add(&t, HTTP_FIELD_OTHER, HTTP_STR("x-sum"), HTTP_STR("a\r\nb"));
	x->end_given = true;
	message_send_end(x->m, &t);
}

Test(h2_conn, a_message_whose_trailers_cannot_be_sent_does_not_look_complete)
{
	EACH_ENGINE (r) {
		struct ex *x;

		r->on_head = end_badly;
		rig_pair(r);
		x = rig_ask(r, "GET", "/", UINT64_MAX);
		RIG_UNTIL(r, x->errors == 1);
		cr_expect_eq(x->ends, 0);
		cr_expect_eq(x->err, MESSAGE_E_RESET);
	}
}

static void answer_and_forget(struct ex *x)
{
	respond(x, 200, HTTP_BODY_LENGTH, 20000);
	ex_feed(x);
	ex_release(x);
}

Test(h2_conn, an_answer_nobody_takes_does_not_hold_a_connection_for_ever)
{
	EACH_ENGINE (r) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)r->port),
			                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		int                fd = socket(AF_INET, SOCK_STREAM, 0);
		/* SETTINGS with a window of 0; GET / of authority "a" */
		static const uint8_t ask[] = { 0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0,
			                       0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, 'a' };

		r->on_head = answer_and_forget;
		r->server_limits.idle_timeout_ns = 100 * NS_PER_MS;
		connect(fd, (struct sockaddr *)&a, sizeof(a));
		cr_assert_eq(send(fd, h2_preface, H2_PREFACE_LEN, 0), H2_PREFACE_LEN);
		cr_assert_eq(send(fd, ask, sizeof(ask), 0), (ssize_t)sizeof(ask));
		RIG_UNTIL(r, r->n_sx == 1);
		cr_expect_eq(r->slabs.h2_stream.in_use, 1, "it waits for the window");
		RIG_UNTIL(r, r->s_closed == 1);
		cr_expect_eq(r->slabs.h2_stream.in_use, 0);
		cr_expect_str_eq(r->s_closed_text, "idle timeout");
		close(fd);
	}
}

/* --- chance --- */

static uint32_t chance(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

Test(h2_conn, a_storm_of_requests_cancels_and_holds_leaves_nothing_behind)
{
	EACH_ENGINE (r) {
		uint64_t st = 42;

		rig_pair(r);
		while (r->n_ex < 400) {
			static const char *const paths[] = { "/echo", "/size/100000", "/size/0", "/hold", "/keep", "/none" };
			uint32_t                 i = chance(&st) % 6;

			if (r->c->active < r->c->capacity)
				rig_ask(r, i == 0 || i == 4 ? "POST" : "GET", paths[i],
				        i == 0 || i == 4 ? chance(&st) % 100000 : UINT64_MAX);
			for (uint32_t k = 0; k < 3; k++) {
				struct ex *c = &r->ex[chance(&st) % (r->n_ex + 1) % RIG_EX];
				struct ex *s = &r->sx[chance(&st) % (r->n_sx + 1) % RIG_EX];

				if (c->m && chance(&st) % 4 == 0)
					ex_release(c);
				if (s->m && chance(&st) % 8 == 0)
					ex_release(s);
			}
			if (chance(&st) % 2)
				rig_turn(r);
		}
		for (uint32_t i = 0; i < RIG_EX; i++) {
			if (r->ex[i].m)
				ex_release(&r->ex[i]);
			if (r->sx[i].m)
				ex_release(&r->sx[i]);
		}
		RIG_UNTIL(r, r->slabs.h2_stream.in_use == 0);
		cr_expect_not_null(r->c, "the connection survived: %s", r->closed_text);
		struct ex *x = rig_ask(r, "POST", "/echo", 300000);
		RIG_UNTIL(r, x->m == NULL);
		cr_expect_eq(x->in, 300000);
	}
}

Test(h2_conn, a_connection_that_ends_in_the_middle_of_a_storm_leaves_nothing_behind)
{
	for (uint64_t seed = 1; seed <= 10; seed++) {
		EACH_ENGINE (r) {
			uint64_t st = seed;
			uint32_t how;

			rig_pair(r);
			for (int i = 0; i < 60; i++) {
				uint32_t dice = chance(&st) % 3;

				rig_ask(r, dice ? "POST" : "GET", dice == 2 ? "/keep" : "/echo",
				        dice ? chance(&st) % 200000 : UINT64_MAX);
				r->ex[i].no_release = chance(&st) % 4 == 0;
				if (chance(&st) % 3 == 0)
					rig_turn(r);
			}
			how = chance(&st) % 5;
			if (how == 0)
				http_conn_abort(r->c);
			else if (how == 1)
				http_conn_abort(r->s[0]);
			else if (how == 2)
				http_conn_drain(r->s[0]);
			else if (how == 3)
				shutdown(r->c->stream.fd, SHUT_RDWR);
			else
				http_conn_drain(r->c);
			for (uint32_t i = 0; i < 30; i++) {
				struct ex *x = &r->ex[chance(&st) % 60], *y = &r->sx[chance(&st) % 60];

				rig_turn(r);
				if (x->m && chance(&st) % 2)
					ex_release(x);
				if (y->m && chance(&st) % 2)
					ex_release(y);
			}
			for (uint32_t i = 0; i < 60; i++) {
				if (r->ex[i].m)
					ex_release(&r->ex[i]);
				if (r->sx[i].m)
					ex_release(&r->sx[i]);
			}
			RIG_UNTIL(r, r->closed == 1 && r->s_closed == 1);
			cr_expect_eq(r->slabs.h2_stream.in_use, 0);
			cr_expect_eq(r->slabs.h2.in_use, 0);
			cr_expect_eq(r->slabs.head.in_use, 0);
		}
	}
}

/* The client sees the end of a stream before the server knows that its bytes have left: it may open the next one. */
Test(h2_conn, a_stream_that_ended_makes_room_though_its_last_bytes_are_not_known_to_have_left)
{
	enum { CALLS = 60 };

	for (uint64_t i = 0; i < 4; i++) {
		const struct engine_mode late = { .kind = i % 2 ? ENGINE_EPOLL : ENGINE_URING, .hostile = true,
			                          .how = { .seed = i + 1, .delay = 700, .delay_max = 20 } };
		struct rig              *r = rig_new(&late);

		if (!r)
			continue;
		r->server_limits.streams_max = 2;
		rig_pair(r);
		for (int turns = 0; turns < 20000 && r->n_sx < CALLS; turns++) {
			while (r->n_ex < CALLS && r->c->active < r->c->capacity)
				rig_ask(r, "GET", "/size/10", UINT64_MAX);
			rig_turn(r);
		}
		for (uint32_t k = 0; k < CALLS; k++) {
			RIG_UNTIL(r, r->ex[k].ends == 1 || r->ex[k].errors);
			cr_assert_eq(r->ex[k].errors, 0, "%u: %s", k, message_error_text(r->ex[k].err));
			cr_assert_eq(r->ex[k].status, 200);
		}
		rig_end(r);
	}
}
