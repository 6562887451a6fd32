#include "tests/sidecar/io/stream_rig.h"
#include "tests/sidecar/io/tls_peer.h"
#include "tests/sidecar/io/tls_server.h"

enum { MIB = 1 << 20 };

static struct cert ca, leaf;
static char        ca_pem[128];

static void setup(void)
{
	ca = cert_make("Test CA", NULL, NULL, -DAY, DAY);
	leaf = cert_make("leaf", "DNS:a.test,IP:127.0.0.1", &ca, -DAY, DAY);
	cert_file(&ca, ca_pem);
}

static void teardown(void)
{
	cert_free(&ca);
	cert_free(&leaf);
	peer_cleanup();
}

TestSuite(stream_tls, .init = setup, .fini = teardown, .timeout = 120);

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* ---- both sides ----------------------------------------------------------------------------------- */

/* One turn of both sides; the handshake goes on by itself. */
static void step(struct rig *r, struct server *v)
{
	rig_turn(r);
	server_carry(v);
	if (!SSL_is_init_finished(v->ssl))
		SSL_do_handshake(v->ssl);
	ERR_clear_error();
}

#define STEP_UNTIL(r, v, cond)                                                                     \
	do {                                                                                       \
		int steps_ = 0;                                                                    \
		while (!(cond) && steps_++ < RIG_TURNS)                                            \
			step(r, v);                                                                \
		cr_assert(cond, "never: %s", #cond);                                               \
	} while (0)

#define OPENED(r, v) STEP_UNTIL(r, v, r->a.opens == 1 && SSL_is_init_finished(v->ssl))

/* A world of one rig, one policy, one server, connected. */
#define WITH_TLS(r, v, version, ...)                                                               \
	struct tls_policy *p = policy_of(&(struct tls_options){ .ca_file = ca_pem, __VA_ARGS__ });    \
	SSL_CTX           *ctx = peer_ctx(&leaf, version);                                         \
	struct server      server_ = { 0 }, *v = &server_;                                         \
	rig_connect(r, p, "a.test");                                                               \
	server_open(v, r->peer, ctx)

/* The policy goes last: the session has to be closed before. */
#define END_TLS(r, v)                                                                              \
	do {                                                                                       \
		if (r->a.closes == 0)                                                              \
			stream_abort(&r->a.s);                                                     \
		RIG_UNTIL(r, r->a.closes == 1);                                                    \
		server_free(v);                                                                    \
		SSL_CTX_free(ctx);                                                                 \
		tls_policy_free(p);                                                                \
	} while (0)

#define EACH_VERSION(i) for (size_t i = 0; i < 2; i++)

/* ---- bytes -------------------------------------------------------------------------------------- */

static void pump(struct rig *r, struct server *v, uint64_t total)
{
	uint64_t written = 0, up = 0, down = 0;
	stream_want(&r->a.s, true, true);
	for (int i = 0; i < RIG_TURNS; i++) {
		while (written < total && stream_queued(&r->a.s) < 128 * 1024)
			written += write_some(r, &r->a.s, written, total - written);
		step(r, v);
		if (r->a.opens == 0 || !SSL_is_init_finished(v->ssl))
			continue;
		cr_assert(r->a.s.tls == NULL || r->a.eofs == 0);
		server_recv(v, &up);
		if (down < total && BIO_ctrl_pending(v->out) == 0)
			server_send(v, &down, total - down < 50000 ? (uint32_t)(total - down) : 50000);
		if (up == total && r->a.received == total && r->a.sent == total)
			break;
	}
	cr_expect_eq(up, total);
	cr_expect_eq(r->a.received, total);
	cr_expect_eq(r->a.sent, total, "plaintext bytes are reported, no more and no less");
	cr_expect_eq(stream_queued(&r->a.s), 0);
	cr_expect_eq(r->txq.in_use, 0);
}

Test(stream_tls, a_mebibyte_in_random_pieces_passes_both_ways)
{
	EACH_VERSION (i) {
		EACH_ENGINE (r) {
			srand(3);
			WITH_TLS(r, v, versions[i]);
			pump(r, v, MIB);
			cr_expect_eq(r->a.opens, 1);
			cr_expect(stream_is_tls(&r->a.s));
			END_TLS(r, v);
		}
	}
}

Test(stream_tls, ciphertext_may_arrive_byte_by_byte)
{
	EACH_VERSION (i) {
		EACH_ENGINE (r) {
			uint64_t down = 0;
			WITH_TLS(r, v, versions[i]);
			v->step = 1;
			OPENED(r, v);
			cr_expect_eq(r->a.open_err, STREAM_OK);
			stream_want(&r->a.s, true, false);
			server_send(v, &down, 1000);
			STEP_UNTIL(r, v, r->a.received == 1000);
			END_TLS(r, v);
		}
	}
}

Test(stream_tls, few_buffers_are_enough_for_a_mebibyte)
{
	EACH_CALM_ENGINE_WITH (r, 12, 12) {
		WITH_TLS(r, v, 0);
		uint64_t written = 0, up = 0, down = 0;
		stream_want(&r->a.s, true, true);
		for (int i = 0; i < RIG_TURNS && (up < MIB || r->a.received < MIB); i++) {
			if (written < MIB && stream_queued(&r->a.s) < 16384) {
				write_copy(&r->a.s, written, 4096);
				written += 4096;
			}
			step(r, v);
			server_recv(v, &up);
			if (SSL_is_init_finished(v->ssl) && down < MIB && BIO_ctrl_pending(v->out) == 0)
				server_send(v, &down, 32768);
		}
		cr_expect_eq(up, MIB);
		cr_expect_eq(r->a.received, MIB);
		END_TLS(r, v);
	}
}

Test(stream_tls, at_most_64_kib_are_encrypted_ahead_of_a_slow_reader)
{
	EACH_ENGINE_WITH (r, 64, 128) {
		WITH_TLS(r, v, 0);
		STEP_UNTIL(r, v, r->a.opens == 1);
		int      sndbuf = 8192;
		uint64_t up = 0;
		setsockopt(r->a.s.fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
		for (uint64_t at = 0; at < 1000000; at += 10000)
			write_copy(&r->a.s, at, 10000);
		rig_turns(r, 10);
		/* what is not plaintext any more: two windows of it at the most */
		cr_expect(r->a.s.tx.bytes >= 1000000 - r->a.sent - STREAM_CIPHER_MAX, "%u left, %lu sent",
		          r->a.s.tx.bytes, r->a.sent);
		stream_close(&r->a.s);
		for (int i = 0; i < RIG_TURNS && !v->ended; i++) {
			if (r->a.closes == 0)
				rig_turn(r);
			else
				usleep(100); /* the kernel still has some */
			server_carry(v);
			server_recv(v, &up);
		}
		cr_expect_eq(up, 1000000);
		cr_expect(SSL_get_shutdown(v->ssl) & SSL_RECEIVED_SHUTDOWN, "close_notify before FIN");
		END_TLS(r, v);
	}
}

/* Takes everything out of the pool. */
static uint32_t hoard(struct rig *r, struct buf **out)
{
	uint32_t n = 0;
	for (int cls = 0; cls < BUF_CLASSES; cls++) {
		for (struct buf *b; (b = buf_get(&r->bufs, (enum buf_class)cls)) != NULL;)
			out[n++] = b;
	}
	return n;
}

static void give_back(struct buf **hoarded, uint32_t n)
{
	while (n > 0)
		buf_unref(hoarded[--n]);
}

Test(stream_tls, without_buffers_encryption_waits_and_goes_on)
{
	EACH_CALM_ENGINE (r) {
		struct buf *hoarded[RIG_SMALL + RIG_LARGE];
		uint64_t    up = 0;
		WITH_TLS(r, v, 0);
		OPENED(r, v);
		write_copy(&r->a.s, 0, 3000);
		uint32_t n = hoard(r, hoarded);
		rig_turns(r, 3);
		cr_expect_eq(r->env.n_starved, 1);
		write_copy(&r->a.s, 3000, 500); /* behind the record that waits: there is room in the copy buffer */
		rig_turns(r, 3);
		cr_expect_eq(r->a.sent, 0);
		give_back(hoarded, n);
		stream_want(&r->a.s, true, false);
		STEP_UNTIL(r, v, r->a.sent == 3500);
		step(r, v);
		server_recv(v, &up);
		cr_expect_eq(up, 3500);
		cr_expect_eq(r->env.n_starved, 0);
		END_TLS(r, v);
	}
}

struct link {
	struct end    e;
	struct server v;
	int           fd;
};

static void link_open(struct rig *r, struct link *l, struct sockaddr_in *at, struct tls_policy *p, SSL_CTX *ctx)
{
	*l = (struct link){ .e.rig = r };
	stream_init(&l->e.s, &r->env, &rig_events, &l->e);
	cr_assert_eq(stream_connect(&l->e.s, (struct sockaddr *)at, sizeof(*at), p, "a.test"), 0);
	rig_turn(r);
	l->fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert(l->fd >= 0);
	peer_nodelay(l->fd);
	server_open(&l->v, l->fd, ctx);
	STEP_UNTIL(r, &l->v, l->e.opens == 1 && SSL_is_init_finished(l->v.ssl));
}

static void link_close(struct rig *r, struct link *l)
{
	if (l->e.closes == 0)
		stream_abort(&l->e.s);
	RIG_UNTIL(r, l->e.closes == 1);
	cr_expect_not(l->e.wrong);
	server_free(&l->v);
	close(l->fd);
}

/* 3000 bytes of ciphertext received, and not wanted any more. */
static void hold_ciphertext(struct rig *r, struct link *l)
{
	uint64_t down = 0;
	for (int i = 0; i < 5; i++) {
		stream_want(&l->e.s, true, true);
		step(r, &l->v);
	}
	stream_want(&l->e.s, false, true);
	server_send(&l->v, &down, 3000);
	for (int i = 0; i < 5; i++)
		step(r, &l->v);
}

/* All wait for each other's buffers, but the failure of one resolves it. */
Test(stream_tls, streams_that_wait_for_buffers_do_not_wait_for_each_other)
{
	enum { LINKS = STREAM_STARVED_MAX + 1 };
	EACH_CALM_ENGINE (r) {
		struct link        links[LINKS];
		struct buf        *hoarded[RIG_SMALL + RIG_LARGE];
		int                failed = 0, done = 0;
		SSL_CTX           *ctx = peer_ctx(&leaf, 0);
		struct tls_policy *p = policy_of(&(struct tls_options){ .ca_file = ca_pem });
		struct sockaddr_in at = rig_listen(r);
		for (int i = 0; i < LINKS; i++) {
			link_open(r, &links[i], &at, p, ctx);
			hold_ciphertext(r, &links[i]);
		}
		uint32_t n = hoard(r, hoarded);
		for (int i = 0; i < LINKS; i++) {
			stream_want(&links[i].e.s, true, true);
			rig_turns(r, 2);
		}
		cr_expect_eq(r->env.n_starved, STREAM_STARVED_MAX);
		for (int i = 0; i < LINKS; i++) {
			cr_expect_eq(links[i].e.received, 0);
			if (links[i].e.eofs == 0)
				continue;
			cr_expect_eq(links[i].e.eof_err, STREAM_E_NO_BUFFERS);
			stream_close(&links[i].e.s);
			failed++;
		}
		rig_turns(r, 5);
		for (int i = 0; i < LINKS; i++)
			done += links[i].e.received == 3000;
		cr_expect_eq(failed, 1);
		cr_expect_eq(done, STREAM_STARVED_MAX);
		cr_expect_eq(r->env.n_starved, 0);
		give_back(hoarded, n);
		for (int i = 0; i < LINKS; i++)
			link_close(r, &links[i]);
		tls_policy_free(p);
		SSL_CTX_free(ctx);
	}
}

static void stop_wanting(struct end *e)
{
	stream_want(&e->s, false, true);
}

Test(stream_tls, what_is_not_wanted_stays_encrypted)
{
	EACH_ENGINE (r) {
		uint64_t down = 0;
		WITH_TLS(r, v, 0);
		OPENED(r, v);
		r->a.hook = stop_wanting;
		server_send(v, &down, 60000);
		for (uint32_t want = 1; r->a.received < 60000; want++) {
			stream_want(&r->a.s, true, true);
			STEP_UNTIL(r, v, r->a.slices == want);
			for (int i = 0; i < 3; i++)
				step(r, v);
			cr_assert_eq(r->a.slices, want, "one slice per stream_want()");
		}
		END_TLS(r, v);
	}
}

Test(stream_tls, an_idle_stream_owns_no_buffer)
{
	EACH_ENGINE (r) {
		uint64_t down = 0, up = 0;
		WITH_TLS(r, v, 0);
		OPENED(r, v);
		stream_want(&r->a.s, true, true);
		server_send(v, &down, 100);
		write_copy(&r->a.s, 0, 100);
		STEP_UNTIL(r, v, r->a.received == 100 && r->a.sent == 100);
		step(r, v);
		server_recv(v, &up);
		cr_expect_eq(up, 100);
		cr_expect_eq(r->txq.in_use, 0);
		if (strcmp(engine_name(r->engine), "epoll") == 0) {
			cr_expect_eq(r->bufs.cls[BUF_SMALL].n_free, RIG_SMALL);
			cr_expect_eq(r->bufs.cls[BUF_LARGE].n_free, RIG_LARGE);
		}
		END_TLS(r, v);
	}
}

static uint32_t data_records;

static void count_records(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                          void *arg)
{
	(void)version;
	(void)len;
	(void)ssl;
	(void)arg;
	if (!write_p && type == SSL3_RT_HEADER && ((const uint8_t *)buf)[0] == SSL3_RT_APPLICATION_DATA)
		data_records++;
}

Test(stream_tls, a_head_and_its_body_leave_in_one_record)
{
	EACH_ENGINE (r) {
		uint64_t up = 0;
		WITH_TLS(r, v, TLS1_2_VERSION);
		STEP_UNTIL(r, v, r->a.opens == 1);
		SSL_set_msg_callback(v->ssl, count_records);
		data_records = 0;
		write_copy(&r->a.s, 0, 300);
		write_slice(r, &r->a.s, 300, 3000);
		write_slice(r, &r->a.s, 3300, 5000);
		STEP_UNTIL(r, v, r->a.sent == 8300);
		STEP_UNTIL(r, v, (server_recv(v, &up), up == 8300));
		cr_expect_eq(data_records, 1);
		END_TLS(r, v);
	}
}

/* ---- handshakes --------------------------------------------------------------------------------- */

struct failure_row {
	const char       *says;
	const char       *san;
	long              from, to;
	bool              trusted, ask_cert;
	const char       *alpn;
	enum stream_error err;
	const char       *text;
};

/* clang-format off */
static const struct failure_row failures[] = {
	{ "wrong host",  "DNS:b.test", -DAY, DAY, true, false, NULL, STREAM_E_TLS_CERT,
	  "certificate does not match the host name" },
	{ "expired",     "DNS:a.test", -2 * DAY, -DAY, true, false, NULL, STREAM_E_TLS_CERT,
	  "certificate has expired" },
	{ "unknown CA",  "DNS:a.test", -DAY, DAY, false, false, NULL, STREAM_E_TLS_CERT,
	  "certificate is signed by an unknown CA" },
	{ "no ALPN",     "DNS:a.test", -DAY, DAY, true, false, "h2", STREAM_E_TLS_ALERT,
	  "the peer sent TLS alert no_application_protocol" },
	{ "client cert", "DNS:a.test", -DAY, DAY, true, true, NULL, STREAM_E_TLS_ALERT,
	  "the peer sent TLS alert handshake_failure" },
};
/* clang-format on */

static void check_failure(struct rig *r, const struct failure_row *row)
{
	char               text[128];
	struct cert        other = cert_make("Other", NULL, NULL, -DAY, DAY);
	struct cert        c = cert_make("leaf", row->san, row->trusted ? &ca : &other, row->from, row->to);
	SSL_CTX           *ctx = peer_ctx(&c, TLS1_2_VERSION);
	struct tls_policy *p = policy_of(&(struct tls_options){ .ca_file = ca_pem, .alpn = row->alpn });
	struct server      server = { 0 }, *v = &server;
	static const char  h1[] = "\x08http/1.1";
	SSL_CTX_set_alpn_select_cb(ctx, peer_alpn, (void *)(uintptr_t)h1);
	if (row->ask_cert)
		peer_want_client_cert(ctx, &ca);
	rig_connect(r, p, "a.test");
	server_open(v, r->peer, ctx);
	STEP_UNTIL(r, v, r->a.opens == 1);
	cr_expect_eq(r->a.open_err, row->err, "%s", row->says);
	cr_expect_str_eq(stream_failure(&r->a.s, text, sizeof(text)), row->text);
	stream_close(&r->a.s);
	STEP_UNTIL(r, v, r->a.closes == 1);
	cr_expect_eq(r->a.opens, 1);
	cr_expect_eq(r->a.eofs, 0);
	END_TLS(r, v);
	cert_free(&c);
	cert_free(&other);
}

Test(stream_tls, a_failed_handshake_says_why)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		EACH_ENGINE (r)
			check_failure(r, &failures[i]);
	}
}

static int  seen_alert;
static void see_alert(const SSL *ssl, int where, int ret)
{
	(void)ssl;
	if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
		seen_alert = ret & 0xff;
}

Test(stream_tls, the_peer_is_told_by_an_alert_why_it_was_refused)
{
	EACH_ENGINE (r) {
		WITH_TLS(r, v, 0, .server_name = "b.test");
		seen_alert = 0;
		SSL_set_info_callback(v->ssl, see_alert);
		STEP_UNTIL(r, v, r->a.opens == 1);
		stream_close(&r->a.s);
		STEP_UNTIL(r, v, r->a.closes == 1);
		step(r, v);
		cr_expect_eq(seen_alert, SSL_AD_BAD_CERTIFICATE);
		END_TLS(r, v);
	}
}

Test(stream_tls, a_client_certificate_refused_late_ends_the_stream)
{
	EACH_ENGINE (r) {
		char text[128];
		WITH_TLS(r, v, TLS1_3_VERSION);
		SSL_set_verify(v->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		stream_want(&r->a.s, true, false);
		STEP_UNTIL(r, v, r->a.eofs == 1);
		cr_expect_eq(r->a.open_err, STREAM_OK);
		cr_expect_eq(r->a.eof_err, STREAM_E_TLS_ALERT);
		cr_expect_str_eq(stream_failure(&r->a.s, text, sizeof(text)),
		                 "the peer sent TLS alert certificate_required");
		END_TLS(r, v);
	}
}

Test(stream_tls, a_peer_that_goes_away_in_the_handshake_is_a_failed_handshake)
{
	for (int reset = 0; reset < 2; reset++) {
		EACH_ENGINE (r) {
			WITH_TLS(r, v, 0);
			rig_turns(r, 3);
			if (reset)
				peer_reset(r->peer);
			else
				shutdown(r->peer, SHUT_WR);
			r->peer = reset ? -1 : r->peer;
			RIG_UNTIL(r, r->a.opens == 1);
			cr_expect_eq(r->a.open_err, reset ? STREAM_E_RESET : STREAM_E_TLS);
			END_TLS(r, v);
		}
	}
}

Test(stream_tls, closing_in_the_handshake_ends_it)
{
	for (int abort = 0; abort < 2; abort++) {
		EACH_ENGINE (r) {
			WITH_TLS(r, v, 0);
			write_copy(&r->a.s, 0, 100);
			rig_turns(r, 3);
			if (abort)
				stream_abort(&r->a.s);
			else
				stream_close(&r->a.s);
			RIG_UNTIL(r, r->a.closes == 1);
			cr_expect_eq(r->a.opens, 0);
			END_TLS(r, v);
		}
	}
}

Test(stream_tls, alpn_is_told)
{
	static const char both[] = "\x02h2\x08http/1.1";
	EACH_ENGINE (r) {
		WITH_TLS(r, v, 0, .alpn = "h2,http/1.1");
		SSL_CTX_set_alpn_select_cb(ctx, peer_alpn, (void *)(uintptr_t)both);
		STEP_UNTIL(r, v, r->a.opens == 1);
		cr_expect_str_eq(stream_alpn(&r->a.s), "h2");
		END_TLS(r, v);
	}
}

Test(stream_tls, the_second_connection_is_resumed)
{
	EACH_VERSION (i) {
		struct tls_policy *p = policy_of(&(struct tls_options){ .ca_file = ca_pem });
		SSL_CTX           *ctx = peer_ctx(&leaf, versions[i]);
		for (int n = 0; n < 2; n++) {
			EACH_ENGINE (r) {
				struct server server = { 0 }, *v = &server;
				uint64_t      down = 0;
				rig_connect(r, p, "a.test");
				server_open(v, r->peer, ctx);
				STEP_UNTIL(r, v, r->a.opens == 1);
				stream_want(&r->a.s, true, false);
				STEP_UNTIL(r, v, SSL_is_init_finished(v->ssl));
				server_send(v, &down, 10);
				STEP_UNTIL(r, v, r->a.received == 10);
				cr_expect(stream_tls_resumed(&r->a.s) || tls_policy_counts(p).handshakes == 1);
				stream_close(&r->a.s);
				STEP_UNTIL(r, v, r->a.closes == 1);
				server_free(v);
			}
		}
		cr_expect(tls_policy_counts(p).resumed >= 1);
		cr_expect_eq(tls_policy_counts(p).resumed, tls_policy_counts(p).handshakes - 1);
		SSL_CTX_free(ctx);
		tls_policy_free(p);
	}
}

/* ---- the end ------------------------------------------------------------------------------------ */

Test(stream_tls, the_end_is_orderly_only_with_close_notify)
{
	for (int notify = 0; notify < 2; notify++) {
		EACH_VERSION (i) {
			EACH_ENGINE (r) {
				uint64_t down = 0;
				WITH_TLS(r, v, versions[i]);
				STEP_UNTIL(r, v, r->a.opens == 1);
				stream_want(&r->a.s, true, false);
				STEP_UNTIL(r, v, SSL_is_init_finished(v->ssl));
				server_send(v, &down, 5000);
				if (notify)
					SSL_shutdown(v->ssl);
				STEP_UNTIL(r, v, BIO_ctrl_pending(v->out) == 0);
				shutdown(r->peer, SHUT_WR);
				STEP_UNTIL(r, v, r->a.eofs == 1);
				cr_expect_eq(r->a.eof_err, notify ? STREAM_OK : STREAM_E_TRUNCATED);
				cr_expect_eq(r->a.received, 5000);
				step(r, v);
				cr_expect_eq(r->a.eofs, 1);
				END_TLS(r, v);
			}
		}
	}
}

Test(stream_tls, shutdown_sends_close_notify_and_reading_goes_on)
{
	EACH_VERSION (i) {
		EACH_ENGINE (r) {
			uint64_t up = 0, down = 0;
			WITH_TLS(r, v, versions[i]);
			write_copy(&r->a.s, 0, 5000); /* before it is open */
			stream_shutdown(&r->a.s);
			STEP_UNTIL(r, v, v->ended);
			server_recv(v, &up);
			cr_expect_eq(up, 5000);
			cr_expect(SSL_get_shutdown(v->ssl) & SSL_RECEIVED_SHUTDOWN);
			stream_want(&r->a.s, true, false);
			server_send(v, &down, 3000);
			STEP_UNTIL(r, v, r->a.received == 3000);
			END_TLS(r, v);
		}
	}
}

Test(stream_tls, a_damaged_record_kills_the_stream)
{
	EACH_ENGINE (r) {
		static const uint8_t junk[] = { 0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
			                        13, 14, 15, 16, 17, 18, 19, 20 };
		WITH_TLS(r, v, 0);
		STEP_UNTIL(r, v, r->a.opens == 1);
		stream_want(&r->a.s, true, false);
		for (int i = 0; i < 5; i++)
			step(r, v);
		cr_assert_eq(send(r->peer, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
		STEP_UNTIL(r, v, r->a.eofs == 1);
		cr_expect_eq(r->a.eof_err, STREAM_E_TLS);
		stream_close(&r->a.s);
		STEP_UNTIL(r, v, r->a.closes == 1);
		END_TLS(r, v);
	}
}

static void abort_it(struct end *e)
{
	stream_abort(&e->s);
}

static void close_it(struct end *e)
{
	stream_close(&e->s);
}

Test(stream_tls, every_callback_may_end_the_stream)
{
	static void (*const ends[])(struct end *) = { close_it, abort_it };
	enum { ON_OPEN, ON_DATA, ON_EOF, ON_SENT, EVENTS };
	for (int event = 0; event < EVENTS; event++) {
		for (size_t how = 0; how < 2; how++) {
			EACH_ENGINE (r) {
				uint64_t down = 0;
				WITH_TLS(r, v, 0);
				if (event == ON_OPEN)
					r->a.hook = ends[how];
				STEP_UNTIL(r, v, r->a.opens == 1);
				r->a.hook = ends[how];
				if (event != ON_OPEN)
					stream_want(&r->a.s, event != ON_SENT, false);
				for (int i = 0; i < RIG_TURNS && !SSL_is_init_finished(v->ssl) && !v->ended; i++)
					step(r, v);
				if (event == ON_DATA)
					server_send(v, &down, 50000);
				if (event == ON_EOF)
					SSL_shutdown(v->ssl);
				if (event == ON_SENT)
					write_copy(&r->a.s, 0, 60000);
				STEP_UNTIL(r, v, r->a.closes == 1);
				cr_expect_eq(r->a.opens + r->a.eofs + (int)r->a.slices + (r->a.sent > 0),
				             event == ON_OPEN ? 1 : 2);
				END_TLS(r, v);
			}
		}
	}
}

Test(stream_tls, key_updates_of_the_peer_are_survived)
{
	EACH_ENGINE (r) {
		uint64_t down = 0, up = 0;
		WITH_TLS(r, v, TLS1_3_VERSION);
		stream_want(&r->a.s, true, false);
		OPENED(r, v);
		for (uint64_t i = 1; i <= 10; i++) {
			SSL_key_update(v->ssl, SSL_KEY_UPDATE_REQUESTED);
			server_send(v, &down, 100);
			write_copy(&r->a.s, (i - 1) * 100, 100);
			STEP_UNTIL(r, v, r->a.received == i * 100 && r->a.sent == i * 100);
			step(r, v);
			server_recv(v, &up);
		}
		cr_expect_eq(up, 1000);
		END_TLS(r, v);
	}
}
