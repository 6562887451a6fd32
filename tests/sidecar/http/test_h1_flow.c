/*
 * Bodies larger than every buffer, both ways, and a consumer that takes its time: what is delivered
 * and not yet consumed never exceeds the window, what is reported as sent never exceeds what was
 * given, and every byte comes.
 */
#include "h1_rig.h"

enum { TOTAL = 10 << 20, PIECE = 10000 };

static uint64_t peer_at; /* bytes of the body the peer sent or read */

/* As many bytes of the pattern as the socket takes. */
static void peer_pour(struct rig *r)
{
	static uint8_t piece[65536];
	uint64_t       left = TOTAL - peer_at;
	size_t         want = left < sizeof(piece) ? (size_t)left : sizeof(piece);
	ssize_t        n;

	for (size_t i = 0; i < want; i++)
		piece[i] = pattern(peer_at + i);
	n = want > 0 ? send(r->peer, piece, want, MSG_NOSIGNAL) : 0;
	peer_at += n > 0 ? (uint64_t)n : 0;
}

static uint32_t held; /* delivered, not yet consumed */
static uint32_t most_held;

static void hold_body(struct rig *r, struct message *m, struct slice s)
{
	(void)m;
	for (uint32_t i = 0; i < s.n; i++)
		r->app.wrong |= s.p[i] != pattern(r->app.received + i);
	r->app.received += s.n;
	held += s.n;
	most_held = held > most_held ? held : most_held;
	slice_drop(s);
}

static void consume_some(struct rig *r, uint32_t n)
{
	n = n < held ? n : held;
	if (n == 0 || r->app.m == NULL)
		return;
	held -= n;
	message_consume(r->app.m, n);
}

static void pour_all(struct rig *r)
{
	for (int i = 0; i < 10 * RIG_TURNS && r->app.received < TOTAL; i++) {
		peer_pour(r);
		rig_turn(r);
		if (i % 3 == 0 && most_held > MESSAGE_WINDOW / 2)
			consume_some(r, 50000);
		cr_assert_leq(most_held, MESSAGE_WINDOW);
	}
	cr_assert_eq(r->app.received, TOTAL);
	cr_assert_gt(most_held, MESSAGE_WINDOW / 2, "the window was used");
}

static void answer_at_end(struct rig *r, struct message *m)
{
	(void)r;
	respond(m, 200, "");
}

Test(h1_flow, an_upload_of_10_mib_never_exceeds_the_window)
{
	EACH_ENGINE(r) {
		char head[100];

		peer_at = held = most_held = 0;
		r->app.on_body = hold_body;
		r->app.on_end = answer_at_end;
		rig_serve(r);
		sprintf(head, "PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", TOTAL);
		peer_says(r, head);
		pour_all(r);
		UNTIL_LOG(r, "head PUT /up, end, sent all");
	}
}

Test(h1_flow, a_download_of_10_mib_never_exceeds_the_window)
{
	EACH_ENGINE(r) {
		char head[100];

		peer_at = held = most_held = 0;
		r->app.on_body = hold_body;
		rig_connect(r);
		cr_assert_eq(send_request(r, "GET", "/d", HTTP_BODY_NONE, 0), 0);
		rig_turns(r, 2);
		sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", TOTAL);
		peer_says(r, head);
		pour_all(r);
		UNTIL_LOG(r, "sent all, head 200, end");
		RIG_UNTIL(r, r->capacity == 1);
	}
}

Test(h1_flow, who_does_not_consume_stops_the_sender)
{
	EACH_ENGINE(r) {
		uint64_t before;

		peer_at = held = most_held = 0;
		r->app.on_body = hold_body;
		rig_connect(r);
		cr_assert_eq(send_request(r, "GET", "/d", HTTP_BODY_NONE, 0), 0);
		rig_turns(r, 2);
		peer_says(r, "HTTP/1.1 200 OK\r\n\r\n");
		for (int i = 0; i < RIG_TURNS && r->app.received < MESSAGE_WINDOW; i++) {
			peer_pour(r);
			rig_turn(r);
		}
		for (int i = 0; i < 300; i++) {
			peer_pour(r);
			rig_turn(r);
		}
		cr_assert_eq(r->app.received, MESSAGE_WINDOW);
		before = peer_at;
		peer_pour(r);
		cr_assert_leq(peer_at - before, 65536, "the socket is full");
		cr_assert_leq(r->c->h1.n_rx, 2, "the window stops the reading, not the queue");
		/* what came before its end is still delivered, then the end is told */
		peer_reset(r);
		rig_turns(r, 3);
		for (int i = 0; i < 100 && r->app.errors == 0; i++) {
			consume_some(r, held);
			rig_turn(r);
		}
		cr_assert_eq(r->app.error, MESSAGE_E_RESET);
		cr_assert_geq(r->app.received, MESSAGE_WINDOW);
	}
}

/* --- out --- */

struct check {
	uint64_t at, given;
	bool     bad;
};

/* Give what the window of the other side would allow, one piece at a time. */
static void give_pieces(struct rig *r, struct check *k, int pieces)
{
	while (pieces-- > 0 && k->given < TOTAL && k->given - r->app.sent < MESSAGE_WINDOW) {
		uint32_t    n = TOTAL - k->given < PIECE ? (uint32_t)(TOTAL - k->given) : PIECE;
		struct buf *b = buf_get(&r->bufs, BUF_LARGE);

		if (b == NULL)
			return;
		for (uint32_t i = 0; i < n; i++)
			b->data[i] = pattern(k->given + i);
		b->len = n;
		k->given += n;
		message_send_body(r->app.m, (struct slice){ b, b->data, n });
		if (k->given == TOTAL)
			message_send_end(r->app.m, NULL);
		cr_assert_leq(r->app.sent, k->given);
	}
}

static void give(struct rig *r, struct check *k)
{
	give_pieces(r, k, INT32_MAX);
}

/* The peer reads a body. */
static void peer_check(struct rig *r, struct check *k, bool slow)
{
	uint8_t tmp[8192];
	ssize_t n = recv(r->peer, tmp, slow ? 3000 : sizeof(tmp), 0);

	for (ssize_t i = 0; i < n; i++)
		k->bad |= tmp[i] != pattern(k->at + (uint64_t)i);
	k->at += n > 0 ? (uint64_t)n : 0;
}

static void drink_all(struct rig *r, struct check *k)
{
	for (int i = 0; i < RIG_TURNS && k->at < TOTAL; i++) {
		if (r->app.m != NULL)
			give(r, k);
		rig_turn(r);
		for (int j = 0; j < 8; j++)
			peer_check(r, k, i % 2);
	}
	cr_assert_eq(k->at, TOTAL);
	cr_assert_not(k->bad);
}

Test(h1_flow, ten_mib_out_with_a_length_are_all_reported_as_sent)
{
	EACH_ENGINE(r) {
		struct check     k = { 0 };
		struct http_head h = response_head(200, HTTP_BODY_LENGTH, TOTAL);

		rig_serve(r);
		peer_says(r, "GET /o HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /o end");
		cr_assert_eq(message_send_head(r->app.m, &h, false), 0);
		RIG_UNTIL(r, peer_got(r, "\r\n\r\n"));
		drink_all(r, &k);
		UNTIL_LOG(r, "head GET /o end, sent all");
		cr_assert_eq(r->app.sent, TOTAL);
	}
}

Test(h1_flow, ten_mib_of_chunks_are_decoded_again)
{
	EACH_ENGINE(r) {
		static uint8_t raw[16384];
		struct check   k = { 0 };
		struct h1_body body;
		int            end = H1_MORE;

		h1_body_init(&body, HTTP_BODY_STREAM, 0);
		rig_connect(r);
		r->app.no_release = true;
		cr_assert_eq(send_request(r, "POST", "/o", HTTP_BODY_STREAM, 0), 0);
		RIG_UNTIL(r, peer_got(r, "\r\n\r\n"));
		for (int i = 0; i < RIG_TURNS && end != H1_END; i++) {
			ssize_t  n;
			uint32_t used, data;

			give(r, &k);
			rig_turn(r);
			while (end != H1_END && (n = recv(r->peer, raw, sizeof(raw), 0)) > 0) {
				for (uint32_t at = 0; at < (uint32_t)n && end != H1_END; at += used) {
					end = h1_body_feed(&body, raw + at, (uint32_t)n - at, &used, &data);
					cr_assert_geq(end, 0);
					for (uint32_t j = 0; j < data; j++)
						k.bad |= raw[at + used - data + j] != pattern(k.at + j);
					k.at += data;
				}
			}
		}
		cr_assert_eq(end, H1_END);
		cr_assert_eq(k.at, TOTAL);
		cr_assert_not(k.bad);
		UNTIL_LOG(r, "sent all");
		cr_assert_eq(r->app.sent, TOTAL);
		cr_assert_eq(r->app.m->out_unsent, 0);
	}
}

Test(h1_flow, what_is_reported_as_sent_has_left)
{
	EACH_ENGINE(r) {
		struct check     k = { 0 };
		struct http_head h = response_head(200, HTTP_BODY_LENGTH, TOTAL);
		uint64_t         kernel = 8 << 20; /* what both socket buffers hold at most */

		rig_serve(r);
		peer_says(r, "GET /o HTTP/1.1\r\nHost: x\r\n\r\n");
		UNTIL_LOG(r, "head GET /o end");
		cr_assert_eq(message_send_head(r->app.m, &h, false), 0);
		for (int i = 0; i < 3000; i++) {
			bool reads = i >= 1500; /* before that the socket fills, and the queue behind it */

			give_pieces(r, &k, 1);
			rig_turn(r);
			for (int j = 0; j < 8 && reads; j++)
				recv(r->peer, r->got, RIG_TEXT, 0);
			if (!reads)
				cr_assert_leq(r->app.sent, kernel);
			cr_assert_leq(k.given - r->app.sent, MESSAGE_WINDOW + PIECE);
			cr_assert_leq(r->app.sent + stream_queued(&r->c->stream), k.given + 200,
			              "what is queued was not told, but for a head");
		}
		r->got[0] = 0;
		cr_assert_gt(r->app.sent, kernel / 8);
	}
}
