/*
 * tests/proto/test_h2.c - client and server codec back to back: exchanges, windows, ends.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/proto/h2_peer.h"

/* --- a server that answers with what it was asked for --- */

static void answer(struct pstream *ps, uint16_t status, uint32_t body)
{
	struct head_of r = response(status);

	add(&r, "X-Kind", "echo");
	cr_assert_eq(h2_response(&ps->peer->h, &ps->s, &r.h, false), 0);
	h2_body(&ps->peer->h, &ps->s, body);
	h2_end(&ps->peer->h, &ps->s, NULL);
}

static void answer_when_complete(struct pstream *ps, bool end)
{
	if (end)
		answer(ps, 200, 1000);
}

static void answer_at_end(struct pstream *ps)
{
	answer(ps, 200, 1000);
}

static struct peer *answering_server(void)
{
	struct peer *s = peer_new(true);

	s->on_head = answer_when_complete;
	s->on_end = answer_at_end;
	return s;
}

static struct pstream *get(struct peer *c, const char *path)
{
	struct pstream *ps = peer_stream(c);
	struct head_of  r = request("GET", path);

	cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, true), 0);
	return ps;
}

static struct pstream *post(struct peer *c, uint32_t body, const struct http_head *trailers)
{
	struct pstream *ps = peer_stream(c);
	struct head_of  r = request("POST", "/upload");

	r.h.body = HTTP_BODY_STREAM;
	cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, false), 0);
	h2_body(&c->h, &ps->s, body);
	h2_end(&c->h, &ps->s, trailers);
	return ps;
}

static void finish(struct peer *a, struct peer *b)
{
	cr_assert(!a->bad_body && !b->bad_body);
	peer_free(a);
	peer_free(b);
}

Test(h2, a_get_and_its_answer_pass_at_every_cut_of_the_bytes)
{
	for (size_t step = 1; step <= 64; step++) {
		struct peer    *c = peer_new(false), *s = answering_server();
		struct pstream *ps = get(c, "/a?b=c");

		peer_run(c, s, step);
		cr_assert_eq(s->n_streams, 1);
		cr_assert(http_str_is(s->streams[0].head.path, "/a?b=c"));
		cr_assert(http_str_is(s->streams[0].head.authority, "origin.test:8080"));
		cr_assert(http_str_is(s->streams[0].head.scheme, "http"));
		cr_assert_eq(s->streams[0].head.method, HTTP_METHOD_GET);
		cr_assert_eq(s->streams[0].head.body, HTTP_BODY_NONE);
		cr_assert(s->streams[0].head_end);
		cr_assert_eq(ps->head.status, 200);
		cr_assert_str_eq(value_of(&ps->head, "x-kind"), "echo");
		cr_assert_eq(ps->received, 1000);
		cr_assert_eq(ps->ends, 1);
		cr_assert(ps->closed && ps->why == H2_CLOSE_DONE);
		cr_assert(s->streams[0].closed && s->streams[0].why == H2_CLOSE_DONE);
		cr_assert(s->streams[0].out_end);
		finish(c, s);
	}
}

Test(h2, the_first_flight_may_be_cut_in_two_anywhere)
{
	struct peer *c = peer_new(false);
	uint8_t      flight[4096];
	size_t       n;

	get(c, "/cut");
	peer_pump(c);
	n = c->n_out;
	cr_assert(n > H2_PREFACE_LEN + 9 && n < sizeof(flight));
	memcpy(flight, c->out, n);
	for (size_t cut = 0; cut <= n; cut++) {
		struct peer *s = answering_server();

		peer_feed(s, flight, cut);
		peer_feed(s, flight + cut, n - cut);
		cr_assert_eq(s->feed_err, 0);
		cr_assert_eq(s->n_streams, 1);
		cr_assert(http_str_is(s->streams[0].head.path, "/cut"));
		peer_free(s);
	}
	peer_free(c);
}

Test(h2, strings_follow_when_their_memory_moves)
{
	for (uint32_t grow = 0; grow < 64; grow += 7) {
		struct peer    *c = peer_new(false), *s = peer_new(true);
		struct pstream *ps = peer_stream(c);
		struct head_of  r = request("GET", "/some/where");
		char            name[32], value[64];

		s->memory_step = grow;
		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "x-field-%d", i);
			add(&r, strdup(name), i % 2 ? strdup(name) : "");
		}
		cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, true), 0);
		peer_run(c, s, 0);
		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "x-field-%d", i);
			snprintf(value, sizeof(value), "%s", i % 2 ? name : "");
			cr_assert_str_eq(value_of(&s->streams[0].head, name), value);
			free((void *)(uintptr_t)r.f[i].name);
			if (i % 2)
				free((void *)(uintptr_t)r.f[i].value);
		}
		cr_assert(http_str_is(s->streams[0].head.path, "/some/where"));
		cr_assert(http_str_is(s->streams[0].head.authority, "origin.test:8080"));
		finish(c, s);
	}
}

Test(h2, names_are_lower_case_and_hop_by_hop_fields_stay_behind)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = peer_stream(c);
	struct head_of  r = request("GET", "/");
	struct http_head *h;

	add(&r, "X-Mixed-Case", "Stays");
	add(&r, "Connection", "close");
	add(&r, "Keep-Alive", "1");
	add(&r, "Transfer-Encoding", "chunked");
	add(&r, "Upgrade", "h2c");
	add(&r, "HTTP2-Settings", "AA");
	add(&r, "Proxy-Connection", "x");
	add(&r, "TE", "gzip");
	add(&r, "Host", "other.test");
	add(&r, "Content-Length", "77");
	add(&r, "X-Dropped", "1")->flags = HTTP_FIELD_DROP;
	r.h.te_trailers = true;
	cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, true), 0);
	peer_run(c, s, 0);
	cr_assert_eq(s->n_streams, 1);
	h = &s->streams[0].head;
	cr_assert_eq(h->n_fields, 2);
	cr_assert_str_eq(value_of(h, "x-mixed-case"), "Stays");
	cr_assert_str_eq(value_of(h, "te"), "trailers");
	cr_assert(http_head_find(h, HTTP_FIELD_TE)->flags & HTTP_FIELD_DROP);
	cr_assert_eq(s->streams[0].why, 0);
	cr_assert(h->te_trailers && h->keep_alive && h->version == HTTP_2);
	finish(c, s);
}

Test(h2, a_secret_is_never_indexed_and_stays_one)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct head_of  r = request("GET", "/");
	size_t          first, second, third;
	const struct http_head *h;

	add(&r, "x-api-key", "0123456789abcdef0123456789abcdef")->flags = HTTP_FIELD_SECRET;
	add(&r, "authorization", "Bearer 0123456789abcdef01234567");
	add(&r, "x-plain", "0123456789abcdef0123456789abcdef");
	for (int i = 0; i < 3; i++) {
		struct pstream *ps = peer_stream(c);

		cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, true), 0);
		second = i == 0 ? 0 : second;
		third = first = peer_move(c, s, 0);
		if (i == 1)
			second = first;
	}
	/* the plain one is in the table by now; the secrets still cost their bytes (Huffman: 5 to 6 bits each) */
	cr_assert_gt(third, 9 + 40);
	cr_assert_eq(third, second);
	h = &s->streams[2].head;
	cr_assert(h->fields[0].flags & HTTP_FIELD_SECRET);
	cr_assert(h->fields[1].flags & HTTP_FIELD_SECRET);
	cr_assert(!(h->fields[2].flags & HTTP_FIELD_SECRET));
	finish(c, s);
}

/* The bytes of a request whose id was never sent before, with the rest as always. */
static size_t request_with_id(struct peer *c, struct peer *s, const char *id)
{
	struct head_of  r = request("GET", "/");
	struct pstream *ps = peer_stream(c);
	size_t          n;

	add(&r, "x-request-id", id)->id = HTTP_FIELD_X_REQUEST_ID;
	cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, true), 0);
	n = peer_move(c, s, 0);
	cr_assert_str_eq(value_of(&s->streams[s->n_streams - 1].head, "x-request-id"), id);
	return n;
}

/* Fields that are new each time fill the table of HPACK. */
static void push_out(struct peer *c, struct peer *s)
{
	char value[8][500];

	for (int i = 0; i < 8; i++) {
		struct head_of  r = request("GET", "/");
		struct pstream *ps = peer_stream(c);

		memset(value[i], 'a' + i, sizeof(value[i]) - 1);
		value[i][sizeof(value[i]) - 1] = 0;
		add(&r, "x-large", value[i]);
		cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, true), 0);
		peer_move(c, s, 0);
	}
}

Test(h2, the_name_of_a_value_that_varies_is_spelled_out_once)
{
	struct peer *c = peer_new(false), *s = peer_new(true);
	size_t       named, spelled;

	request_with_id(c, s, "00000000");
	request_with_id(c, s, "11111111");
	named = request_with_id(c, s, "22222222");
	/* frame, four pseudo fields, one byte or two that say which name, length and five bytes of value */
	cr_assert_leq(named, 9 + 4 + 2 + 1 + 5);
	c->h.heads = H2_NAME_AGAIN - 1;
	cr_assert_eq(request_with_id(c, s, "11110000"), named, "nothing has been pushed out of the table");
	push_out(c, s);
	spelled = request_with_id(c, s, "11112222");
	cr_assert_gt(spelled, named + 5);
	c->h.heads = H2_NAME_AGAIN - 1;
	request_with_id(c, s, "00002222");
	cr_assert_eq(request_with_id(c, s, "22220000"), named);
	cr_assert_eq(request_with_id(c, s, "00002222"), named, "a literal, although the table knows it");
	finish(c, s);
}

Test(h2, cookie_crumbs_become_one_field)
{
	struct peer *s = peer_new(true);
	struct raw  *r = raw_new();
	nghttp2_nv   f[] = { nv(":method", "GET"), nv(":scheme", "http"), nv(":path", "/"),
		             nv(":authority", "a.test"), nv("cookie", "a=1"), nv("x-a", "b"),
		             nv("cookie", "b=2"), nv("cookie", "c=3"), nv("x-z", "y") };

	raw_preface(r);
	raw_headers(r, 1, f, sizeof(f) / sizeof(f[0]), true);
	raw_give(r, s);
	cr_assert_eq(s->streams[0].head.n_fields, 3);
	cr_assert_str_eq(value_of(&s->streams[0].head, "cookie"), "a=1; b=2; c=3");
	cr_assert_str_eq(value_of(&s->streams[0].head, "x-a"), "b");
	cr_assert_str_eq(value_of(&s->streams[0].head, "x-z"), "y");
	cr_assert(s->streams[0].head.fields[0].flags & HTTP_FIELD_SECRET);
	raw_free(r);
	peer_free(s);
}

Test(h2, host_stands_in_for_authority)
{
	struct peer *s = peer_new(true);
	struct raw  *r = raw_new();
	nghttp2_nv   f[] = { nv(":method", "GET"), nv(":scheme", "http"), nv(":path", "/"),
		             nv("host", "b.test:81") };

	raw_preface(r);
	raw_headers(r, 1, f, 4, true);
	raw_give(r, s);
	cr_assert_eq(s->streams[0].heads, 1);
	cr_assert(http_str_is(s->streams[0].head.authority, "b.test:81"));
	raw_free(r);
	peer_free(s);
}

/* --- bodies and trailers --- */

Test(h2, trailers_come_behind_the_body_both_ways)
{
	for (uint32_t body = 0; body <= 40000; body += 20000) {
		struct peer    *c = peer_new(false), *s = peer_new(true);
		struct head_of  t = { 0 }, r = response(200);
		struct pstream *ps;

		add(&t, "Grpc-Status", "0");
		add(&t, "X-Sum", "abc");
		add(&t, "Content-Length", "5");
		ps = post(c, body, &t.h);
		peer_run(c, s, 13);
		cr_assert_eq(s->streams[0].received, body);
		cr_assert_eq(s->streams[0].ends, 1);
		cr_assert_eq(s->streams[0].trailers.n_fields, 2);
		cr_assert_str_eq(value_of(&s->streams[0].trailers, "grpc-status"), "0");
		cr_assert_eq(h2_response(&s->h, &s->streams[0].s, &r.h, false), 0);
		h2_body(&s->h, &s->streams[0].s, body);
		cr_assert_eq(h2_end(&s->h, &s->streams[0].s, &t.h), 0);
		peer_run(c, s, 0);
		cr_assert_eq(ps->received, body);
		cr_assert_str_eq(value_of(&ps->trailers, "x-sum"), "abc");
		cr_assert_eq(ps->why, H2_CLOSE_DONE);
		finish(c, s);
	}
}

Test(h2, trailers_without_a_field_to_send_are_just_the_end)
{
	struct peer   *c = peer_new(false), *s = peer_new(true);
	struct head_of t = { 0 };

	add(&t, "Host", "x");
	post(c, 10, &t.h);
	peer_run(c, s, 0);
	cr_assert_eq(s->streams[0].ends, 1);
	cr_assert_eq(s->streams[0].trailers.n_fields, 0);
	finish(c, s);
}

Test(h2, a_body_told_in_crumbs_arrives_whole)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = peer_stream(c);
	struct head_of  r = request("PUT", "/crumbs");

	r.h.body = HTTP_BODY_LENGTH;
	r.h.body_len = 500;
	cr_assert_eq(h2_request(&c->h, &ps->s, &r.h, false), 0);
	for (int i = 0; i < 500; i++) {
		h2_body(&c->h, &ps->s, 1);
		peer_run(c, s, 0);
	}
	h2_end(&c->h, &ps->s, NULL);
	peer_run(c, s, 0);
	cr_assert_eq(s->streams[0].head.body, HTTP_BODY_LENGTH);
	cr_assert_eq(s->streams[0].head.body_len, 500);
	cr_assert_eq(s->streams[0].received, 500);
	cr_assert_eq(s->streams[0].ends, 1);
	finish(c, s);
}

Test(h2, all_that_is_told_in_a_turn_leaves_in_one_data_frame)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = peer_stream(c);
	struct head_of  r = request("PUT", "/");

	r.h.body = HTTP_BODY_STREAM;
	h2_request(&c->h, &ps->s, &r.h, false);
	peer_run(c, s, 0);
	for (int i = 0; i < 10; i++)
		h2_body(&c->h, &ps->s, 100);
	h2_end(&c->h, &ps->s, NULL);
	peer_pump(c);
	cr_assert_eq(c->n_out, 9 + 1000);
	peer_move(c, s, 0);
	cr_assert_eq(s->streams[0].ends, 1);
	finish(c, s);
}

Test(h2, interim_heads_come_before_the_final_one)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = get(c, "/hints");
	struct head_of  hints = response(103), r = response(204);

	peer_run(c, s, 0);
	hints.h.body = HTTP_BODY_NONE;
	add(&hints, "link", "</style.css>");
	cr_assert_eq(h2_response(&s->h, &s->streams[0].s, &hints.h, false), 0);
	cr_assert_eq(h2_response(&s->h, &s->streams[0].s, &hints.h, false), 0);
	peer_run(c, s, 3);
	cr_assert_eq(ps->interims, 2);
	cr_assert_eq(ps->interim_status, 103);
	cr_assert_eq(h2_response(&s->h, &s->streams[0].s, &r.h, true), 0);
	peer_run(c, s, 3);
	cr_assert_eq(ps->heads, 1);
	cr_assert_eq(ps->head.status, 204);
	cr_assert_eq(ps->head.n_fields, 0, "nothing of the interim head is left");
	cr_assert_eq(ps->head.body, HTTP_BODY_NONE);
	cr_assert_eq(ps->why, H2_CLOSE_DONE);
	finish(c, s);
}

Test(h2, an_answer_to_head_keeps_the_length_and_has_no_body)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = peer_stream(c);
	struct head_of  q = request("HEAD", "/"), r = response(200);

	h2_request(&c->h, &ps->s, &q.h, true);
	peer_run(c, s, 0);
	r.h.body = HTTP_BODY_NONE;
	add(&r, "Content-Length", "12345");
	h2_response(&s->h, &s->streams[0].s, &r.h, true);
	peer_run(c, s, 0);
	cr_assert_eq(ps->head.body, HTTP_BODY_NONE);
	cr_assert_eq(ps->head.body_len, 12345);
	cr_assert(ps->head_end);
	cr_assert_eq(ps->why, H2_CLOSE_DONE);
	finish(c, s);
}

/* --- windows --- */

Test(h2, a_stream_window_is_used_to_the_byte_and_given_back_by_consume)
{
	struct h2_config conf = peer_conf;
	struct peer     *c = peer_new(false), *s;
	struct pstream  *ps;

	conf.window = 20000;
	s = peer_new_with(true, &conf);
	peer_run(c, s, 0); /* SETTINGS: the window is known */
	ps = peer_stream(c);
	struct head_of r = request("POST", "/");
	r.h.body = HTTP_BODY_STREAM;
	h2_request(&c->h, &ps->s, &r.h, false);
	peer_run(c, s, 0);
	s->streams[0].no_consume = true;
	h2_body(&c->h, &ps->s, 50000);
	peer_run(c, s, 0);
	cr_assert_eq(s->streams[0].received, 20000);
	cr_assert_eq(ps->s.out_ready, 30000);
	h2_consume_stream(&s->h, &s->streams[0].s, 20000);
	peer_run(c, s, 0);
	cr_assert_eq(s->streams[0].received, 40000);
	h2_consume_stream(&s->h, &s->streams[0].s, 20000);
	peer_run(c, s, 0);
	cr_assert_eq(s->streams[0].received, 50000);
	finish(c, s);
}

Test(h2, a_stream_nobody_consumes_does_not_stall_another)
{
	struct h2_config conf = peer_conf;
	struct peer     *c = peer_new(false), *s;
	struct pstream  *slow, *fast;

	conf.window = 65536;
	conf.window_connection = 100000;
	s = peer_new_with(true, &conf);
	slow = post(c, 200000, NULL);
	(void)slow;
	peer_move(c, s, 100); /* the head */
	s->streams[0].no_consume = true;
	peer_run(c, s, 0);
	fast = post(c, 500000, NULL);
	(void)fast;
	peer_run(c, s, 0);
	cr_assert_leq(s->streams[0].received, 65536 + 65536);
	cr_assert_eq(s->streams[1].received, 500000);
	cr_assert_eq(s->streams[1].ends, 1);
	finish(c, s);
}

Test(h2, a_full_send_queue_stops_the_pump_between_frames_and_nothing_is_lost)
{
	struct peer *c = peer_new(false), *s = peer_new(true);

	c->room = 3000;
	for (int i = 0; i < 10; i++)
		post(c, 30000, NULL);
	for (int i = 0; i < 1000 && (c->n_out > 0 || h2_wants_pump(&c->h)); i++) {
		peer_pump(c);
		cr_assert_lt(c->n_out, 3000 + 16384 + 2 * 9 + 1000);
		if (c->n_out > 0)
			peer_feed(s, c->out, c->n_out);
		c->n_out = 0;
		peer_move(s, c, 0);
	}
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(s->streams[i].received, 30000);
		cr_assert_eq(s->streams[i].ends, 1);
	}
	finish(c, s);
}

Test(h2, data_of_a_reset_stream_does_not_use_up_the_connection_window)
{
	struct h2_config conf = peer_conf;
	struct peer     *c = peer_new(false), *s;

	conf.window_connection = 65536;
	s = peer_new_with(true, &conf);
	for (int i = 0; i < 20; i++) {
		struct pstream *ps = post(c, 60000, NULL);

		peer_pump(c); /* the data is on its way when the reset happens */
		peer_feed(s, c->out, c->n_out < 400 ? c->n_out : 400);
		if (s->n_streams == (uint32_t)i + 1)
			h2_detach(&s->h, &s->streams[i].s, H2_CANCEL);
		if (c->n_out > 400)
			peer_feed(s, c->out + 400, c->n_out - 400);
		c->n_out = 0;
		peer_run(c, s, 0);
		cr_assert(ps->closed);
		cr_assert_eq(ps->why, H2_CLOSE_RESET);
		cr_assert_eq(ps->code, H2_CANCEL);
	}
	post(c, 60000, NULL);
	peer_run(c, s, 0);
	cr_assert_eq(s->streams[20].received, 60000);
	finish(c, s);
}

/* --- ends --- */

static const struct {
	const char   *says;
	enum h2_code  code;
	enum h2_close client_sees;
} resets[] = {
	{ "refused: unprocessed", H2_REFUSED_STREAM, H2_CLOSE_REFUSED },
	{ "cancelled", H2_CANCEL, H2_CLOSE_RESET },
	{ "failed inside", H2_INTERNAL_ERROR, H2_CLOSE_RESET },
	{ "no error, but not complete either", H2_NO_ERROR, H2_CLOSE_RESET },
	{ "wants HTTP/1.1", H2_HTTP_1_1_REQUIRED, H2_CLOSE_HTTP_1_1 },
};

Test(h2, a_reset_says_what_it_means)
{
	for (size_t i = 0; i < sizeof(resets) / sizeof(resets[0]); i++) {
		struct peer    *c = peer_new(false), *s = peer_new(true);
		struct pstream *ps = get(c, "/");

		peer_run(c, s, 0);
		h2_reset(&s->h, &s->streams[0].s, resets[i].code);
		peer_run(c, s, 0);
		cr_assert(ps->closed, "%s", resets[i].says);
		cr_assert_eq(ps->why, resets[i].client_sees, "%s", resets[i].says);
		cr_assert_eq(ps->code, resets[i].code);
		cr_assert_eq(s->streams[0].why, H2_CLOSE_LOCAL);
		cr_assert_eq(s->h.own_resets, 0);
		finish(c, s);
	}
}

Test(h2, a_server_that_cannot_take_a_stream_refuses_it)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *a = get(c, "/"), *b;

	s->refuse = true;
	peer_run(c, s, 0);
	cr_assert_eq(a->why, H2_CLOSE_REFUSED);
	s->refuse = false;
	s->no_memory = true;
	b = get(c, "/");
	peer_run(c, s, 0);
	cr_assert_eq(b->why, H2_CLOSE_REFUSED);
	cr_assert(s->streams[0].closed && s->streams[0].heads == 0);
	finish(c, s);
}

Test(h2, goaway_gives_back_what_was_not_processed_and_finishes_the_rest)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *first = get(c, "/1"), *late, *unsent;

	peer_run(c, s, 0);
	h2_shutdown(&s->h);
	late = get(c, "/2");
	peer_pump(c); /* on the wire before GOAWAY arrives */
	peer_move(s, c, 0);
	cr_assert_eq(c->goaways, 1);
	cr_assert_eq(c->goaway_code, 0);
	cr_assert_eq(c->goaway_last, 1);
	cr_assert(late->closed && late->why == H2_CLOSE_REFUSED);
	unsent = get(c, "/3");
	peer_run(c, s, 0);
	cr_assert(unsent->closed && unsent->why == H2_CLOSE_REFUSED);
	cr_assert(!unsent->out_head);
	cr_assert(!first->closed);
	answer(&s->streams[0], 200, 10);
	peer_run(c, s, 0);
	cr_assert_eq(first->why, H2_CLOSE_DONE);
	cr_assert_eq(s->n_streams, 1);
	cr_assert(h2_over(&s->h));
	finish(c, s);
}

Test(h2, a_shutdown_in_two_steps_loses_no_request)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *late;

	peer_run(c, s, 0);
	h2_shutdown_notice(&s->h);
	h2_ping(&s->h, 77);
	late = get(c, "/sent-before-the-notice-was-seen");
	peer_pump(c);
	peer_run(c, s, 0);
	cr_assert_eq(s->pong, 77);
	cr_assert_eq(c->goaways, 1);
	cr_assert_eq(c->goaway_last, INT32_MAX);
	h2_shutdown(&s->h);
	peer_run(c, s, 0);
	cr_assert_eq(c->goaways, 2);
	cr_assert_eq(c->goaway_last, late->s.id);
	cr_assert(!h2_over(&s->h) && !h2_over(&c->h));
	answer(&s->streams[0], 200, 5);
	peer_run(c, s, 0);
	cr_assert_eq(late->why, H2_CLOSE_DONE);
	cr_assert(h2_over(&s->h) && h2_over(&c->h));
	finish(c, s);
}

Test(h2, a_notice_alone_does_not_end_an_idle_session)
{
	struct peer *c = peer_new(false), *s = peer_new(true);

	peer_run(c, s, 0);
	h2_shutdown_notice(&s->h);
	h2_ping(&s->h, 78);
	peer_pump(s);
	cr_assert(!h2_over(&s->h));
	peer_run(c, s, 0);
	h2_shutdown(&s->h);
	peer_run(c, s, 0);
	cr_assert(h2_over(&s->h));
	finish(c, s);
}

Test(h2, a_request_cancelled_before_it_left_is_never_sent)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = get(c, "/never"), *gone = get(c, "/gone");

	h2_reset(&c->h, &ps->s, H2_CANCEL);
	h2_detach(&c->h, &gone->s, H2_CANCEL);
	peer_run(c, s, 0);
	cr_assert_eq(s->n_streams, 0);
	cr_assert(ps->closed && ps->why == H2_CLOSE_LOCAL);
	cr_assert(!gone->closed);
	cr_assert_eq(c->h.own_resets, 0);
	finish(c, s);
}

Test(h2, an_answer_before_the_end_of_the_request_is_whole)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = peer_stream(c);
	struct head_of  r = request("POST", "/big");

	r.h.body = HTTP_BODY_STREAM;
	h2_request(&c->h, &ps->s, &r.h, false);
	h2_body(&c->h, &ps->s, 1000);
	peer_run(c, s, 0);
	answer(&s->streams[0], 403, 20);
	peer_run(c, s, 0);
	cr_assert(ps->s.in_end && !ps->closed);
	h2_reset(&s->h, &s->streams[0].s, H2_NO_ERROR);
	peer_run(c, s, 0);
	cr_assert(ps->closed);
	cr_assert_eq(ps->head.status, 403);
	cr_assert_eq(ps->received, 20);
	cr_assert_eq(ps->code, H2_NO_ERROR);
	finish(c, s);
}

Test(h2, the_limit_of_streams_is_the_peers)
{
	struct h2_config conf = peer_conf;
	struct peer     *c = peer_new(false), *s;

	conf.streams_max = 3;
	s = peer_new_with(true, &conf);
	cr_assert_eq(h2_streams_allowed(&c->h), 100);
	peer_run(c, s, 0);
	cr_assert_eq(h2_streams_allowed(&c->h), 3);
	cr_assert_eq(c->settings, 1);
	for (int i = 0; i < 5; i++)
		get(c, "/");
	peer_run(c, s, 0);
	cr_assert_eq(s->n_streams, 3);
	finish(c, s);
}

/* --- chance --- */

static uint32_t chance(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

static void random_server_head(struct pstream *ps, bool end)
{
	struct head_of r = response(200);

	(void)end;
	cr_assert_eq(h2_response(&ps->peer->h, &ps->s, &r.h, false), 0);
}

Test(h2, whatever_is_said_in_whatever_order_arrives)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		uint64_t       st = seed;
		struct peer   *c = peer_new(false), *s = peer_new(true);
		uint64_t       told[2][20] = { { 0 } };
		uint8_t        phase[2][20] = { { 0 } };
		struct head_of t = { 0 };

		add(&t, "x-end", "yes");
		s->on_head = random_server_head;
		c->room = s->room = 500 + chance(&st) % 40000;
		for (int i = 0; i < 20; i++) {
			struct head_of r = request("POST", "/random");

			r.h.body = HTTP_BODY_STREAM;
			h2_request(&c->h, &peer_stream(c)->s, &r.h, false);
		}
		for (int round = 0; round < 4000; round++) {
			uint32_t     i = chance(&st) % 20, who = chance(&st) % 2, n = chance(&st) % 3000;
			struct peer *p = who ? s : c;

			if (p->n_streams > i && !phase[who][i] && p->streams[i].s.out_open) {
				if (chance(&st) % 16 == 0) {
					h2_end(&p->h, &p->streams[i].s, i % 2 ? &t.h : NULL);
					phase[who][i] = 1;
				} else if (told[who][i] < 100000) {
					h2_body(&p->h, &p->streams[i].s, n);
					told[who][i] += n;
				}
			}
			if (chance(&st) % 4 == 0)
				peer_move(c, s, chance(&st) % 100);
			if (chance(&st) % 4 == 0)
				peer_move(s, c, chance(&st) % 100);
		}
		for (uint32_t i = 0; i < 40; i++) {
			struct peer *p = i < 20 ? c : s;

			peer_run(c, s, 0);
			if (!phase[i / 20][i % 20])
				h2_end(&p->h, &p->streams[i % 20].s, i % 2 ? &t.h : NULL);
		}
		peer_run(c, s, 0);
		for (uint32_t i = 0; i < 20; i++) {
			cr_assert_eq(s->streams[i].received, told[0][i]);
			cr_assert_eq(c->streams[i].received, told[1][i]);
			cr_assert_eq(s->streams[i].ends, 1);
			cr_assert_eq(c->streams[i].ends, 1);
			cr_assert_eq(c->streams[i].trailers.n_fields, i % 2);
			cr_assert_eq(c->streams[i].why, H2_CLOSE_DONE);
		}
		finish(c, s);
	}
}

Test(h2, the_steady_state_does_not_malloc)
{
	struct peer *c = peer_new(false), *s = answering_server();
	uint64_t     before = 0;

	for (int i = 0; i < 60; i++) {
		get(c, "/again");
		peer_run(c, s, 0);
		if (i == 10)
			before = c->h.mem.mallocs + s->h.mem.mallocs;
	}
	cr_assert_eq(c->h.mem.mallocs + s->h.mem.mallocs, before);
	finish(c, s);
}

Test(h2, a_session_without_memory_is_an_error_and_nothing_leaks)
{
	struct peer *s = peer_new(true);
	struct raw  *r = raw_new();

	raw_preface(r);
	raw_give(r, s);
	s->h.mem_max = 0;
	raw_get(r, 1, true);
	raw_give(r, s);
	cr_assert_eq(s->feed_err, -ENOMEM);
	cr_assert_eq(h2_pump(&s->h), 0);
	cr_assert_eq(u32_at(sent_frame(s, NGHTTP2_GOAWAY, 0, NULL) + 4), H2_ENHANCE_YOUR_CALM);
	cr_assert(h2_over(&s->h));
	raw_free(r);
	peer_free(s);
}

/* An exchange with trailers on sessions that may use so much more memory.  true: it worked. */
static bool exchange_within(size_t client_more, size_t server_more)
{
	struct peer    *c = peer_new(false), *s = peer_new(true);
	struct pstream *ps = peer_stream(c);
	struct head_of  q = request("POST", "/"), a = response(200), t = { 0 };
	bool            done;

	peer_run(c, s, 0);
	c->h.mem_max = c->h.mem.live + client_more;
	s->h.mem_max = s->h.mem.live + server_more;
	add(&t, "x-end", "yes");
	q.h.body = HTTP_BODY_STREAM;
	if (h2_request(&c->h, &ps->s, &q.h, false) == 0) {
		h2_body(&c->h, &ps->s, 5000);
		(void)h2_end(&c->h, &ps->s, &t.h);
	}
	for (int i = 0; i < 20; i++) {
		peer_pump(c);
		if (c->n_out > 0 && !s->feed_err)
			peer_feed(s, c->out, c->n_out);
		c->n_out = 0;
		if (s->n_streams > 0 && s->streams[0].heads == 1 && !s->streams[0].s.out_open &&
		    !s->streams[0].s.out_end &&
		    h2_response(&s->h, &s->streams[0].s, &a.h, false) == 0) {
			h2_body(&s->h, &s->streams[0].s, 100);
			(void)h2_end(&s->h, &s->streams[0].s, &t.h);
		}
		peer_pump(s);
		if (s->n_out > 0 && !c->feed_err)
			peer_feed(c, s->out, s->n_out);
		s->n_out = 0;
	}
	done = ps->closed && ps->why == H2_CLOSE_DONE && ps->trailers.n_fields == 1 && ps->received == 100;
	peer_free(c);
	peer_free(s);
	return done;
}

Test(h2, wherever_the_limit_of_memory_strikes_nothing_leaks_and_nothing_crashes)
{
	cr_assert(exchange_within(1 << 20, 1 << 20));
	cr_assert(!exchange_within(1 << 20, 0));
	for (size_t more = 0; more < 6000; more += 48) {
		exchange_within(more, 1 << 20);
		exchange_within(1 << 20, more);
	}
}
