/* Connections that are tunnels from the beginning (HTTP_CLIENT_RAW), and callers that end with FIN. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "h1_rig.h"

TestSuite(h1_tunnel, .timeout = 60);

static const struct http_head nothing = { .method = HTTP_METHOD_CONNECT };

/* c is a raw client whose message has begun, the peer is whoever it talks to. */
static struct message *raw(struct rig *r)
{
	struct sockaddr_in at = rig_listen(r);
	struct http_client_options o = { .addr = (struct sockaddr *)&at, .addr_len = sizeof(at), .mode = HTTP_CLIENT_RAW,
		                         .limits = &r->limits, .ev = &rig_events, .owner = r };
	struct message *m;

	cr_assert_eq(http_client_open(&r->env, &o, &r->c), 0);
	RIG_UNTIL(r, r->ready == 1);
	r->peer = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(r->peer >= 0);
	m = r->app.m = http_client_message(r->c, &app_events, r);
	cr_assert_not_null(m);
	cr_assert_eq(message_send_head(m, &nothing, false), 0);
	return m;
}

static void say(struct rig *r, struct message *m, const char *text)
{
	struct buf *b = buf_get(&r->bufs, BUF_SMALL);

	cr_assert_not_null(b);
	b->len = (uint32_t)strlen(text);
	memcpy(b->data, text, b->len);
	message_send_body(m, (struct slice){ b, b->data, b->len });
}

static void take(struct rig *r, struct message *m, struct slice s)
{
	uint32_t n = s.n;

	(void)r;
	slice_drop(s);
	message_consume(m, n);
}

Test(h1_tunnel, a_raw_connection_sends_nothing_of_its_own)
{
	EACH_ENGINE(r) {
		struct message *m = raw(r);

		cr_assert_eq(r->draining, 1, "it serves nobody else");
		rig_turns(r, 5);
		peer_read(r);
		cr_assert_eq(r->n_got, 0);
		say(r, m, "\x16\x03 not HTTP\r\n");
		RIG_UNTIL(r, peer_got(r, "not HTTP\r\n"));
		cr_assert_str_eq(r->got, "\x16\x03 not HTTP\r\n");
	}
}

Test(h1_tunnel, a_raw_connection_passes_on_what_comes_until_fin_of_both)
{
	EACH_ENGINE(r) {
		struct message *m = raw(r);

		r->app.on_body = take;
		r->app.no_release = true;
		peer_says(r, "HTTP/1.1 200 it looks like, but is bytes");
		RIG_UNTIL(r, m->in_bytes == 40);
		cr_assert_eq(r->app.errors, 0);
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, m->in_ended);
		say(r, m, "still here");
		message_send_end(m, NULL);
		RIG_UNTIL(r, r->got_eof);
		cr_assert(peer_got(r, "still here"));
		cr_assert_eq(r->app.errors, 0);
	}
}

Test(h1_tunnel, a_raw_connection_that_is_reset_tells_so)
{
	EACH_ENGINE(r) {
		raw(r);
		peer_reset(r);
		RIG_UNTIL(r, r->app.errors == 1);
		cr_assert_eq(r->app.error, MESSAGE_E_RESET);
	}
}

Test(h1_tunnel, a_caller_that_sends_fin_before_its_answer_is_gone_where_the_limits_say_so)
{
	EACH_ENGINE(r) {
		r->limits.fin_aborts = true;
		rig_serve(r);
		peer_says(r, "GET /h HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, r->app.m != NULL);
		rig_turns(r, 3);
		cr_assert_eq(r->app.errors, 0);
		shutdown(r->peer, SHUT_WR);
		RIG_UNTIL(r, r->app.errors == 1);
	}
}

Test(h1_tunnel, a_caller_that_has_every_byte_of_its_answer_may_leave_before_we_know_the_end)
{
	EACH_ENGINE(r) {
		struct http_head h = { .status = 200, .version = HTTP_1_1, .keep_alive = true, .body = HTTP_BODY_LENGTH,
			               .body_len = 4 };

		r->limits.fin_aborts = true;
		r->app.no_release = true;
		rig_serve(r);
		peer_says(r, "GET /h HTTP/1.1\r\nHost: x\r\n\r\n");
		RIG_UNTIL(r, r->app.m != NULL);
		cr_assert_eq(message_send_head(r->app.m, &h, false), 0);
		say(r, r->app.m, "some");
		RIG_UNTIL(r, peer_got(r, "\r\n\r\nsome"));
		shutdown(r->peer, SHUT_WR);
		rig_turns(r, 5);
		cr_assert_eq(r->app.errors, 0);
		message_send_end(r->app.m, NULL);
		rig_turns(r, 5);
		cr_assert_eq(r->app.errors, 0);
	}
}

Test(h1_tunnel, who_it_is_at_the_other_end_can_be_asked)
{
	EACH_ENGINE(r) {
		struct sock_addr peer, own = { .len = sizeof(own.un) };

		rig_serve(r);
		rig_turns(r, 2);
		cr_assert_eq(http_conn_peer(r->c, &peer), 0);
		cr_assert_eq(getsockname(r->peer, &own.any, &own.len), 0);
		cr_assert(sock_same(&peer, &own));
	}
}
