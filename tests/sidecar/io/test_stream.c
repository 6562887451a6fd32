#include "tests/sidecar/io/stream_rig.h"

enum { MIB = 1 << 20 };

TestSuite(stream, .timeout = 120);

/* ---- reading and writing ------------------------------------------------------------------------ */

/* a writes total bytes in random pieces, at most window ahead; the peer reads step bytes at a time. */
static void pump_out(struct rig *r, uint64_t total, uint32_t window, uint32_t step)
{
	uint64_t written = 0, got = 0;
	for (int i = 0; i < RIG_TURNS && (got < total || r->a.sent < total); i++) {
		while (written < total && stream_queued(&r->a.s) < window)
			written += write_some(r, &r->a.s, written, total - written);
		rig_turn(r);
		peer_recv(r->peer, &got, step);
		cr_assert_eq(r->a.eofs, 0);
	}
	cr_expect_eq(got, total);
	cr_expect_eq(r->a.sent, total);
	cr_expect_eq(stream_queued(&r->a.s), 0);
	cr_expect_eq(r->txq.in_use, 0, "nothing queued, no vector");
}

Test(stream, a_mebibyte_in_random_pieces_leaves_in_order)
{
	EACH_ENGINE (r) {
		srand(7);
		rig_adopt(r, 0);
		pump_out(r, MIB, 128 * 1024, 65536);
	}
}

Test(stream, a_slow_reader_gets_everything_in_order)
{
	EACH_ENGINE (r) {
		srand(11);
		rig_adopt(r, 8192);
		pump_out(r, MIB / 2, 128 * 1024, 3000);
	}
}

Test(stream, a_mebibyte_arrives_in_order_and_no_buffer_stays)
{
	EACH_ENGINE (r) {
		uint64_t sent = 0;
		rig_adopt(r, 0);
		for (int large = 0; large < 2; large++) {
			stream_want(&r->a.s, true, large == 1);
			for (int i = 0; i < RIG_TURNS && r->a.received < (uint64_t)(large + 1) * MIB; i++) {
				uint64_t left = (uint64_t)(large + 1) * MIB - sent;
				if (left > 0)
					peer_send(r->peer, &sent, left < 50000 ? (uint32_t)left : 50000);
				rig_turn(r);
			}
			cr_expect_eq(r->a.received, (uint64_t)(large + 1) * MIB);
		}
		rig_turns(r, 3);
		cr_expect_not(r->a.wrong);
		if (strcmp(engine_name(r->engine), "epoll") == 0)
			cr_expect_eq(r->bufs.cls[BUF_LARGE].n_free, RIG_LARGE);
	}
}

Test(stream, what_is_written_in_one_turn_leaves_in_one_send)
{
	EACH_ENGINE (r) {
		uint64_t got = 0;
		rig_adopt(r, 0);
		rig_turns(r, 2);
		uint64_t before = engine_stats(r->engine)->completed;
		for (int i = 0; i < 20; i++)
			write_copy(&r->a.s, (uint64_t)i * 100, 100);
		RIG_UNTIL(r, r->a.sent == 2000);
		cr_expect_eq(engine_stats(r->engine)->completed - before, 1);
		cr_expect_eq(peer_recv(r->peer, &got, 65536), 2000);
	}
}

static void stop_wanting(struct end *e)
{
	stream_want(&e->s, false, false);
}

Test(stream, what_is_not_wanted_is_held_back_and_comes_later)
{
	EACH_ENGINE (r) {
		uint64_t sent = 0;
		rig_adopt(r, 0);
		r->a.hook = stop_wanting;
		for (int i = 1; i <= 20; i++) {
			stream_want(&r->a.s, true, false);
			rig_turn(r);
			peer_send(r->peer, &sent, 1000);
			RIG_UNTIL(r, r->a.slices == (uint32_t)i);
			peer_send(r->peer, &sent, 1000);
			rig_turns(r, 3);
			cr_expect_eq(r->a.slices, (uint32_t)i, "nothing may come while not wanted");
		}
		r->a.hook = NULL;
		stream_want(&r->a.s, true, false);
		RIG_UNTIL(r, r->a.received == sent);
	}
}

Test(stream, a_receive_that_was_armed_is_held_when_no_longer_wanted)
{
	EACH_ENGINE (r) {
		uint64_t sent = 0;
		rig_adopt(r, 0);
		stream_want(&r->a.s, true, false);
		rig_turns(r, 2);
		stream_want(&r->a.s, false, false);
		peer_send(r->peer, &sent, 10);
		rig_turns(r, 5);
		cr_expect_eq(r->a.received, 0);
		stream_want(&r->a.s, true, false);
		RIG_UNTIL(r, r->a.received == 10);
	}
}

/* ---- connecting --------------------------------------------------------------------------------- */

Test(stream, connecting_opens_and_notes_the_time)
{
	EACH_ENGINE (r) {
		uint64_t got = 0;
		rig_connect(r, NULL, NULL);
		write_copy(&r->a.s, 0, 5); /* queued before it is open */
		RIG_UNTIL(r, r->a.opens == 1);
		cr_expect_eq(r->a.open_err, STREAM_OK);
		cr_expect(stream_connected_ns(&r->a.s) > 0);
		cr_expect_not(stream_is_tls(&r->a.s));
		cr_expect_str_eq(stream_alpn(&r->a.s), "");
		RIG_UNTIL(r, r->a.sent == 5);
		cr_expect_eq(peer_recv(r->peer, &got, 100), 5);
	}
}

static void close_it(struct end *e)
{
	stream_close(&e->s);
}

Test(stream, a_refused_connection_says_so)
{
	EACH_ENGINE (r) {
		char               text[128];
		struct sockaddr_in at = rig_listen(r);
		close(r->listener);
		r->listener = -1;
		cr_assert_eq(stream_connect(&r->a.s, (struct sockaddr *)&at, sizeof(at), NULL, NULL), 0);
		RIG_UNTIL(r, r->a.opens == 1);
		cr_expect_eq(r->a.open_err, STREAM_E_REFUSED);
		cr_expect_str_eq(stream_failure(&r->a.s, text, sizeof(text)), "connection refused");
		rig_turns(r, 3);
		cr_expect_eq(r->a.opens, 1);
		cr_expect_eq(r->a.eofs, 0);
		close_it(&r->a);
		RIG_UNTIL(r, r->a.closes == 1);
	}
}

Test(stream, closing_while_connecting_ends_it)
{
	EACH_ENGINE (r) {
		/* TEST-NET-1 (RFC 5737): nobody answers */
		struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(9) };
		inet_pton(AF_INET, "192.0.2.1", &at.sin_addr);
		cr_assert_eq(stream_connect(&r->a.s, (struct sockaddr *)&at, sizeof(at), NULL, NULL), 0);
		rig_turns(r, 2);
		if (r->a.opens == 0) { /* else: no route, which is an answer */
			stream_close(&r->a.s);
			RIG_UNTIL(r, r->a.closes == 1);
			cr_expect_eq(r->a.opens, 0);
		}
	}
}

/* ---- how it ends -------------------------------------------------------------------------------- */

Test(stream, close_delivers_what_is_queued)
{
	EACH_ENGINE (r) {
		uint64_t got = 0, written = 0;
		int      rc = -EAGAIN;
		srand(5);
		rig_adopt(r, 8192);
		while (written < 300000)
			written += write_some(r, &r->a.s, written, 300000 - written);
		stream_close(&r->a.s);
		for (int i = 0; i < RIG_TURNS && (rc > 0 || rc == -EAGAIN); i++) {
			if (r->a.closes == 0)
				rig_turn(r);
			else if (rc == -EAGAIN)
				usleep(1000); /* the kernel still has some */
			rc = peer_recv(r->peer, &got, 5000);
		}
		cr_expect_eq(got, 300000);
		cr_expect_eq(rc, 0, "then FIN, not RST: %d", rc);
		RIG_UNTIL(r, r->a.closes == 1);
		cr_expect_eq(r->a.sent, 0, "on_closed is the only call after stream_close()");
	}
}

Test(stream, close_with_unread_bytes_still_ends_orderly)
{
	EACH_ENGINE (r) {
		uint64_t got = 0, sent = 0;
		int rc;
		rig_adopt(r, 8192);
		peer_send(r->peer, &sent, 10000);
		rig_turn(r);
		/* more than the peer's kernel takes: RST at close would drop the rest in ours */
		write_copy(&r->a.s, 0, 20000);
		stream_close(&r->a.s);
		RIG_UNTIL(r, r->a.closes == 1);
		for (int i = 0; i < 1000 && ((rc = peer_recv(r->peer, &got, 1000)) > 0 || rc == -EAGAIN); i++)
			usleep(rc > 0 ? 0 : 1000);
		cr_expect_eq(got, 20000);
		cr_expect_eq(rc, 0);
	}
}

Test(stream, abort_resets_even_with_bytes_queued)
{
	EACH_ENGINE (r) {
		uint64_t got = 0;
		int      rc;
		rig_adopt(r, 8192);
		stream_want(&r->a.s, true, false);
		for (uint64_t at = 0; at < 200000; at += 10000)
			write_copy(&r->a.s, at, 10000);
		rig_turns(r, 3);
		stream_abort(&r->a.s);
		RIG_UNTIL(r, r->a.closes == 1);
		while ((rc = peer_recv(r->peer, &got, 65536)) > 0)
			;
		cr_expect_eq(rc, -ECONNRESET);
		cr_expect(got < 200000);
	}
}

Test(stream, abort_never_looks_like_an_orderly_end)
{
	for (int want = 0; want < 2; want++) {
		EACH_ENGINE (r) {
			uint64_t got = 0;
			rig_adopt(r, 0);
			stream_want(&r->a.s, want, false);
			rig_turns(r, 3);
			write_copy(&r->a.s, 0, 1000);
			RIG_UNTIL(r, r->a.sent == 1000);
			stream_abort(&r->a.s);
			RIG_UNTIL(r, r->a.closes == 1);
			int rc = peer_recv(r->peer, &got, 65536);
			if (rc > 0)
				rc = peer_recv(r->peer, &got, 65536);
			cr_expect_eq(rc, -ECONNRESET, "%d", rc);
		}
	}
}

Test(stream, abort_ends_a_close_that_hangs)
{
	EACH_ENGINE (r) {
		rig_adopt(r, 8192);
		for (uint64_t at = 0; at < 200000; at += 10000)
			write_copy(&r->a.s, at, 10000);
		stream_close(&r->a.s);
		rig_turns(r, 5);
		cr_expect_eq(r->a.closes, 0);
		stream_abort(&r->a.s);
		RIG_UNTIL(r, r->a.closes == 1);
	}
}

Test(stream, shutdown_sends_fin_after_the_bytes_and_reading_goes_on)
{
	EACH_ENGINE (r) {
		uint64_t got = 0, sent = 0;
		int      rc = -EAGAIN;
		rig_adopt(r, 8192);
		stream_want(&r->a.s, true, false);
		for (uint64_t at = 0; at < 100000; at += 10000)
			write_copy(&r->a.s, at, 10000);
		stream_shutdown(&r->a.s);
		for (int i = 0; i < RIG_TURNS && rc != 0; i++) {
			rig_turn(r);
			rc = peer_recv(r->peer, &got, 65536);
		}
		cr_expect_eq(got, 100000);
		cr_expect_eq(r->a.sent, 100000);
		peer_send(r->peer, &sent, 777);
		RIG_UNTIL(r, r->a.received == 777);
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->a.eofs == 1);
		cr_expect_eq(r->a.eof_err, STREAM_OK);
	}
}

Test(stream, fin_of_the_peer_is_an_orderly_end_and_writing_goes_on)
{
	EACH_ENGINE (r) {
		uint64_t got = 0, sent = 0;
		rig_adopt(r, 0);
		stream_want(&r->a.s, true, false);
		peer_send(r->peer, &sent, 5000);
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->a.eofs == 1);
		cr_expect_eq(r->a.eof_err, STREAM_OK);
		cr_expect_eq(r->a.received, 5000);
		write_copy(&r->a.s, 0, 5000);
		RIG_UNTIL(r, r->a.sent == 5000);
		cr_expect_eq(peer_recv(r->peer, &got, 65536), 5000);
		cr_expect_eq(r->a.eofs, 1);
	}
}

Test(stream, fin_is_noticed_while_not_wanted_but_not_before_the_bytes)
{
	for (int bytes = 0; bytes < 2; bytes++) {
		EACH_ENGINE (r) {
			uint64_t sent = 0;
			rig_adopt(r, 0);
			rig_turns(r, 2);
			if (bytes)
				peer_send(r->peer, &sent, 100);
			shutdown(r->peer, SHUT_WR);
			rig_turns(r, 5);
			cr_expect_eq(r->a.eofs, bytes ? 0 : 1);
			cr_expect_eq(r->a.received, 0);
			stream_want(&r->a.s, true, false);
			RIG_UNTIL(r, r->a.eofs == 1);
			cr_expect_eq(r->a.received, sent);
			cr_expect_eq(r->a.eof_err, STREAM_OK);
		}
	}
}

Test(stream, reset_is_noticed_whatever_is_going_on)
{
	enum { READING, PAUSED, PAUSED_WITH_BYTES, WRITING, WRITING_UNREAD, SHUT, CASES };
	for (int c = 0; c < CASES; c++) {
		EACH_ENGINE (r) {
			char     text[128];
			uint64_t sent = 0;
			rig_adopt(r, 8192);
			if (c == READING || c == WRITING || c == SHUT)
				stream_want(&r->a.s, true, false);
			if (c == PAUSED_WITH_BYTES)
				peer_send(r->peer, &sent, 100);
			if (c == WRITING || c == WRITING_UNREAD) {
				for (uint64_t at = 0; at < 200000; at += 10000)
					write_copy(&r->a.s, at, 10000);
			}
			if (c == SHUT)
				stream_shutdown(&r->a.s);
			rig_turns(r, 4);
			peer_reset(r->peer);
			r->peer = -1;
			RIG_UNTIL(r, r->a.eofs == 1);
			cr_expect_eq(r->a.eof_err, STREAM_E_RESET, "case %d", c);
			cr_expect_str_eq(stream_failure(&r->a.s, text, sizeof(text)),
			                 "connection reset by peer");
			rig_turns(r, 3);
			cr_expect_eq(r->a.eofs, 1, "told once");
			if (c != SHUT)
				write_copy(&r->a.s, 0, 100); /* dropped */
			stream_close(&r->a.s);
			RIG_UNTIL(r, r->a.closes == 1);
		}
	}
}

Test(stream, an_early_answer_survives_the_reset_behind_it)
{
	EACH_ENGINE (r) {
		uint64_t sent = 0;
		rig_adopt(r, 8192);
		stream_want(&r->a.s, true, false);
		rig_turns(r, 2);
		for (uint64_t at = 0; at < 200000; at += 10000)
			write_copy(&r->a.s, at, 10000);
		rig_turns(r, 3);
		peer_send(r->peer, &sent, 500);
		peer_reset(r->peer);
		r->peer = -1;
		RIG_UNTIL(r, r->a.eofs == 1);
		cr_expect_eq(r->a.received, 500);
		cr_expect_eq(r->a.eof_err, STREAM_E_RESET);
	}
}

/* ---- callbacks that end the stream --------------------------------------------------------------- */

static void abort_it(struct end *e)
{
	stream_abort(&e->s);
}

static void close_and_abort(struct end *e)
{
	stream_close(&e->s);
	stream_abort(&e->s);
	stream_close(&e->s);
}

Test(stream, every_callback_may_end_the_stream)
{
	static void (*const ends[])(struct end *) = { close_it, abort_it, close_and_abort };
	enum { ON_OPEN, ON_DATA, ON_EOF, ON_SENT, EVENTS };
	for (int event = 0; event < EVENTS; event++) {
		for (size_t how = 0; how < 3; how++) {
			EACH_ENGINE (r) {
				uint64_t sent = 0;
				if (event == ON_OPEN)
					r->a.hook = ends[how];
				rig_connect(r, NULL, NULL);
				if (event != ON_OPEN) {
					RIG_UNTIL(r, r->a.opens == 1);
					r->a.hook = ends[how];
					stream_want(&r->a.s, event != ON_SENT, false);
				}
				if (event == ON_DATA)
					peer_send(r->peer, &sent, 20000);
				if (event == ON_EOF)
					shutdown(r->peer, SHUT_WR);
				if (event == ON_SENT)
					write_copy(&r->a.s, 0, 1000);
				RIG_UNTIL(r, r->a.closes == 1);
				cr_expect_eq(r->a.opens + r->a.eofs + (int)r->a.slices + (r->a.sent > 0),
				             event == ON_OPEN ? 1 : 2);
			}
		}
	}
}

Test(stream, a_stream_that_never_had_a_socket_closes)
{
	EACH_ENGINE (r) {
		stream_close(&r->a.s);
		cr_expect_eq(r->a.closes, 0, "never from within the call");
		RIG_UNTIL(r, r->a.closes == 1);
	}
}

/* ---- limits ------------------------------------------------------------------------------------- */

Test(stream, without_buffers_writing_fails_and_says_so)
{
	EACH_ENGINE_WITH (r, 2, 2) {
		char text[64];
		rig_adopt(r, 0);
		for (int i = 0; i < 3; i++)
			write_copy(&r->a.s, (uint64_t)i * 40000, 40000);
		RIG_UNTIL(r, r->a.eofs == 1);
		cr_expect_eq(r->a.eof_err, STREAM_E_NO_BUFFERS);
		cr_expect_str_eq(stream_failure(&r->a.s, text, sizeof(text)), "out of buffers");
	}
}

Test(stream, an_idle_stream_owns_nothing)
{
	EACH_ENGINE (r) {
		uint64_t sent = 0, got = 0;
		rig_adopt(r, 0);
		stream_want(&r->a.s, true, true);
		peer_send(r->peer, &sent, 1000);
		RIG_UNTIL(r, r->a.received == 1000);
		write_copy(&r->a.s, 0, 1000);
		RIG_UNTIL(r, r->a.sent == 1000);
		peer_recv(r->peer, &got, 1000);
		rig_turns(r, 3);
		cr_expect_eq(r->txq.in_use, 0);
		cr_expect_null(r->a.s.held);
		if (strcmp(engine_name(r->engine), "epoll") == 0) { /* io_uring lends them to the kernel */
			cr_expect_eq(r->bufs.cls[BUF_SMALL].n_free, RIG_SMALL);
			cr_expect_eq(r->bufs.cls[BUF_LARGE].n_free, RIG_LARGE);
		}
	}
}
