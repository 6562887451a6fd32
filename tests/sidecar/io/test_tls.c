#include <errno.h>
#include <sys/stat.h>

#include "sidecar/io/tls.h"
#include "tests/sidecar/io/tls_peer.h"

static struct cert ca, leaf, other_ca;
static char        ca_pem[128], other_pem[128];

static void setup(void)
{
	ca = cert_make("Test CA", NULL, NULL, -DAY, DAY);
	other_ca = cert_make("Other CA", NULL, NULL, -DAY, DAY);
	leaf = cert_make("leaf", "DNS:a.test,DNS:*.wild.test,IP:127.0.0.1,IP:::1", &ca, -DAY, DAY);
	cert_file(&ca, ca_pem);
	cert_file(&other_ca, other_pem);
}

static void teardown(void)
{
	cert_free(&ca);
	cert_free(&leaf);
	cert_free(&other_ca);
	peer_cleanup();
}

TestSuite(tls, .init = setup, .fini = teardown, .timeout = 60);

/* ---- a client session and a server, bytes carried by hand -------------------------------------- */

struct wire {
	struct tls_session c;
	SSL               *s;
	BIO               *to_s, *from_s;
	uint8_t            out[512 * 1024];
	uint32_t           out_n;
	uint32_t           put_cap; /* room per put(), 0: no limit */
	uint32_t           room; /* left until the next refill */
	uint32_t           step; /* bytes per feed, 0: as they come */
};

static uint32_t put(void *arg, const uint8_t *p, uint32_t n)
{
	struct wire *w = arg;
	if (w->put_cap > 0 && n > w->room)
		n = w->room;
	cr_assert(w->out_n + n <= sizeof(w->out));
	memcpy(w->out + w->out_n, p, n);
	w->out_n += n;
	w->room -= w->put_cap > 0 ? n : 0;
	return n;
}

static struct tls_policy *policy(const struct tls_options *opt)
{
	char               why[TLS_WHY_MAX];
	struct tls_policy *p = NULL;
	int                rc = tls_policy_new(opt, &p, why, sizeof(why));
	cr_assert_eq(rc, 0, "%s", why);
	return p;
}

static struct wire *wire_new(struct tls_policy *p, const char *name, SSL_CTX *ctx)
{
	struct wire *w = calloc(1, sizeof(*w));
	cr_assert_eq(tls_session_init(&w->c, p, name, put, w), 0);
	w->s = SSL_new(ctx);
	w->to_s = BIO_new(BIO_s_mem());
	w->from_s = BIO_new(BIO_s_mem());
	SSL_set_bio(w->s, w->to_s, w->from_s);
	SSL_set_accept_state(w->s);
	return w;
}

static void wire_free(struct wire *w)
{
	tls_session_fini(&w->c);
	SSL_set_shutdown(w->s, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(w->s);
	free(w);
}

static void carry_up(struct wire *w)
{
	if (w->out_n > 0)
		BIO_write(w->to_s, w->out, (int)w->out_n);
	w->out_n = 0;
	w->room = w->put_cap;
}

/* The next bytes of the server into the window; false: there are none. */
static bool carry_down(struct wire *w, uint8_t *tmp, size_t cap)
{
	int n = BIO_read(w->from_s, tmp, (int)(w->step > 0 ? w->step : cap));
	if (n > 0)
		tls_feed(&w->c, tmp, (uint32_t)n);
	return n > 0;
}

static enum tls_step handshake(struct wire *w)
{
	uint8_t       tmp[32 * 1024];
	enum tls_step step = tls_handshake(&w->c);
	for (int i = 0; i < 20000 && (step == TLS_AGAIN || step == TLS_FULL); i++) {
		carry_up(w);
		SSL_do_handshake(w->s);
		if (step == TLS_FULL || carry_down(w, tmp, sizeof(tmp)))
			step = tls_handshake(&w->c);
	}
	carry_up(w);
	SSL_do_handshake(w->s);
	return step;
}

/* Read until the server's output and the window are empty; n bytes into out. */
static enum tls_step drain(struct wire *w, uint8_t *out, size_t cap, size_t *ret_n)
{
	uint8_t       tmp[32 * 1024];
	enum tls_step step = TLS_AGAIN;
	*ret_n = 0;
	while (step == TLS_OK || (step == TLS_AGAIN && carry_down(w, tmp, sizeof(tmp)))) {
		uint32_t n = 0;
		step = tls_read(&w->c, out + *ret_n, (uint32_t)(cap - *ret_n), &n);
		*ret_n += n;
	}
	return step;
}

/* ---- handshakes --------------------------------------------------------------------------------- */

struct handshake_row {
	const char   *says;
	const char   *san;
	const char   *name;
	long          from, to;
	bool          trusted;
	enum tls_step step;
	const char   *why;
};

#define HOST_WRONG "certificate does not match the host name"

/* clang-format off */
static const struct handshake_row handshakes[] = {
	{ "the name in the certificate",     "DNS:a.test",   "a.test",      -DAY, DAY,      true,  TLS_OK, "" },
	{ "in capitals",                     "DNS:a.test",   "A.Test",      -DAY, DAY,      true,  TLS_OK, "" },
	{ "with the last dot",               "DNS:a.test",   "a.test.",     -DAY, DAY,      true,  TLS_OK, "" },
	{ "a wildcard",                      "DNS:*.a.test", "b.a.test",    -DAY, DAY,      true,  TLS_OK, "" },
	{ "an address",                      "IP:127.0.0.1", "127.0.0.1",   -DAY, DAY,      true,  TLS_OK, "" },
	{ "an address in brackets",          "IP:::1",       "[::1]",       -DAY, DAY,      true,  TLS_OK, "" },
	{ "another name",                    "DNS:a.test",   "b.test",      -DAY, DAY,      true,  TLS_E_CERT, HOST_WRONG },
	{ "a wildcard is one label",         "DNS:*.a.test", "c.b.a.test",  -DAY, DAY,      true,  TLS_E_CERT, HOST_WRONG },
	{ "no part of a label",              "DNS:b*.a.test","bc.a.test",   -DAY, DAY,      true,  TLS_E_CERT, HOST_WRONG },
	{ "an address is no name",           "DNS:127.0.0.1","127.0.0.1",   -DAY, DAY,      true,  TLS_E_CERT,
	  "certificate does not match the IP address" },
	{ "expired",                         "DNS:a.test",   "a.test",      -2 * DAY, -DAY, true,  TLS_E_CERT,
	  "certificate has expired" },
	{ "too early",                       "DNS:a.test",   "a.test",      DAY, 2 * DAY,   true,  TLS_E_CERT,
	  "certificate is not yet valid" },
	{ "nobody we know signed it",        "DNS:a.test",   "a.test",      -DAY, DAY,      false, TLS_E_CERT,
	  "certificate is signed by an unknown CA" },
};
/* clang-format on */

static void check_handshake(const struct handshake_row *row, int version)
{
	struct cert        c = cert_make("leaf", row->san, &ca, row->from, row->to);
	SSL_CTX           *ctx = peer_ctx(&c, version);
	struct tls_policy *p =
		policy(&(struct tls_options){ .ca_file = row->trusted ? ca_pem : other_pem });
	struct wire *w = wire_new(p, row->name, ctx);
	cr_expect_eq(handshake(w), row->step, "%s", row->says);
	cr_expect_str_eq(tls_failure(&w->c), row->why, "%s: %s", row->says, tls_failure(&w->c));
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
	cert_free(&c);
}

Test(tls, a_certificate_is_checked_against_name_time_and_ca)
{
	for (size_t i = 0; i < sizeof(handshakes) / sizeof(handshakes[0]); i++) {
		check_handshake(&handshakes[i], TLS1_2_VERSION);
		check_handshake(&handshakes[i], TLS1_3_VERSION);
	}
}

Test(tls, a_self_signed_certificate_is_named_so)
{
	struct cert        self = cert_make("self", "DNS:a.test", NULL, -DAY, DAY);
	SSL_CTX           *ctx = peer_ctx(&self, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *w = wire_new(p, "a.test", ctx);
	cr_expect_eq(handshake(w), TLS_E_CERT);
	cr_expect_str_eq(tls_failure(&w->c), "certificate is self-signed");
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
	cert_free(&self);
}

Test(tls, insecure_accepts_everything_and_needs_no_name)
{
	struct cert        old = cert_make("old", "DNS:a.test", &other_ca, -2 * DAY, -DAY);
	SSL_CTX           *ctx = peer_ctx(&old, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .insecure = true });
	struct wire       *w = wire_new(p, NULL, ctx);
	cr_expect_eq(handshake(w), TLS_OK);
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
	cert_free(&old);
}

Test(tls, a_verifying_session_without_a_name_is_refused)
{
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct tls_session t;
	cr_expect_eq(tls_session_init(&t, p, NULL, put, NULL), -EINVAL);
	cr_expect_eq(tls_session_init(&t, p, "", put, NULL), -EINVAL);
	cr_expect_eq(tls_session_init(&t, p, "a b", put, NULL), -EINVAL);
	tls_policy_free(p);
}

static char seen_sni[300];

static int see_sni(SSL *s, int *alert, void *arg)
{
	(void)alert;
	(void)arg;
	const char *name = SSL_get_servername(s, TLSEXT_NAMETYPE_host_name);
	snprintf(seen_sni, sizeof(seen_sni), "%s", name != NULL ? name : "(none)");
	return SSL_TLSEXT_ERR_OK;
}

Test(tls, sni_is_the_name_but_never_an_address)
{
	static const struct {
		const char *name, *policy_name, *sni;
	} rows[] = {
		{ "a.test", NULL, "a.test" },
		{ "a.test.", NULL, "a.test" },
		{ "127.0.0.1", NULL, "(none)" },
		{ "::1", NULL, "(none)" },
		{ "10.9.8.7", "a.test", "a.test" },
	};
	SSL_CTX *ctx = peer_ctx(&leaf, 0);
	SSL_CTX_set_tlsext_servername_callback(ctx, see_sni);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem,
		                                                     .server_name = rows[i].policy_name });
		struct wire       *w = wire_new(p, rows[i].name, ctx);
		cr_expect_eq(handshake(w), TLS_OK);
		cr_expect_str_eq(seen_sni, rows[i].sni);
		wire_free(w);
		tls_policy_free(p);
	}
	SSL_CTX_free(ctx);
}

Test(tls, alpn_is_agreed_on_or_the_handshake_fails)
{
	static const struct {
		const char   *offer;
		const char   *server; /* wire; NULL: knows no ALPN */
		enum tls_step step;
		const char   *chosen;
	} rows[] = {
		{ "h2,http/1.1", "\x02h2\x08http/1.1", TLS_OK, "h2" },
		{ "h2,http/1.1", "\x08http/1.1", TLS_OK, "http/1.1" },
		{ "h2,http/1.1", NULL, TLS_OK, "" },
		{ NULL, "\x02h2", TLS_OK, "" },
		{ "h2", "\x08http/1.1", TLS_E_ALERT, "" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		SSL_CTX *ctx = peer_ctx(&leaf, 0);
		if (rows[i].server != NULL)
			SSL_CTX_set_alpn_select_cb(ctx, peer_alpn, (void *)(uintptr_t)rows[i].server);
		struct tls_policy *p =
			policy(&(struct tls_options){ .ca_file = ca_pem, .alpn = rows[i].offer });
		struct wire *w = wire_new(p, "a.test", ctx);
		cr_expect_eq(handshake(w), rows[i].step);
		cr_expect_str_eq(tls_alpn(&w->c), rows[i].chosen);
		if (rows[i].step == TLS_E_ALERT)
			cr_expect_str_eq(tls_failure(&w->c), "no_application_protocol");
		wire_free(w);
		tls_policy_free(p);
		SSL_CTX_free(ctx);
	}
}

Test(tls, an_old_protocol_version_is_refused)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, TLS1_2_VERSION);
	struct tls_policy *p =
		policy(&(struct tls_options){ .ca_file = ca_pem, .min_version = TLS_1_3 });
	struct wire *w = wire_new(p, "a.test", ctx);
	cr_expect_eq(handshake(w), TLS_E_ALERT);
	cr_expect_str_eq(tls_failure(&w->c), "protocol_version");
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

static void check_client_cert(int version, bool ours)
{
	struct cert me = cert_make("client", "DNS:client.test", &ca, -DAY, DAY);
	char        cert[128], key[128];
	cert_file(&me, cert);
	key_file(&me, "sesame", key);
	struct tls_options opt = { .ca_file = ca_pem };
	if (ours) {
		opt.cert_file = cert;
		opt.key_file = key;
		opt.key_passphrase = "sesame";
	}
	SSL_CTX *ctx = peer_ctx(&leaf, version);
	peer_want_client_cert(ctx, &ca);
	struct tls_policy *p = policy(&opt);
	struct wire       *w = wire_new(p, "a.test", ctx);
	enum tls_step      step = handshake(w);
	uint8_t            got[16];
	size_t             n;
	/* In TLS 1.3 the client is done before the server has seen its certificate. */
	if (step == TLS_OK)
		step = drain(w, got, sizeof(got), &n);
	cr_expect_eq(step, ours ? TLS_AGAIN : TLS_E_ALERT);
	cr_expect_str_eq(tls_failure(&w->c), ours                        ? ""
	                                     : version == TLS1_3_VERSION ? "certificate_required"
	                                                                 : "handshake_failure");
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
	cert_free(&me);
}

Test(tls, a_client_certificate_is_shown_when_there_is_one)
{
	check_client_cert(TLS1_2_VERSION, true);
	check_client_cert(TLS1_3_VERSION, true);
	check_client_cert(TLS1_2_VERSION, false);
	check_client_cert(TLS1_3_VERSION, false);
}

/* ---- bytes -------------------------------------------------------------------------------------- */

static void check_bytes(int version, uint32_t step, uint32_t put_cap)
{
	enum { N = 70000 };
	static uint8_t     pattern[N], got[N + 1];
	SSL_CTX           *ctx = peer_ctx(&leaf, version);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *w = wire_new(p, "a.test", ctx);
	w->step = step;
	w->put_cap = w->room = put_cap;
	for (size_t i = 0; i < N; i++)
		pattern[i] = (uint8_t)(i * 7 + i / 251);
	cr_assert_eq(handshake(w), TLS_OK);

	size_t sent = 0, back = 0, up = 0;
	while (sent < N) {
		uint32_t      n = 0;
		enum tls_step st = tls_write(&w->c, pattern + sent, (uint32_t)(N - sent), &n);
		cr_assert(st == TLS_OK || st == TLS_FULL);
		sent += st == TLS_OK ? n : 0;
		carry_up(w);
		int r = SSL_read(w->s, got + up, (int)(N - up));
		up += r > 0 ? (size_t)r : 0;
	}
	for (int r = 1; r > 0; up += r > 0 ? (size_t)r : 0)
		r = SSL_read(w->s, got + up, (int)(N - up));
	cr_assert_eq(up, N);
	cr_expect_arr_eq(got, pattern, N);

	cr_assert_eq(SSL_write(w->s, pattern, N), N);
	memset(got, 0, N);
	cr_expect_eq(drain(w, got, sizeof(got), &back), TLS_AGAIN);
	cr_expect_eq(back, N);
	cr_expect_arr_eq(got, pattern, N);
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, bytes_survive_any_split_of_the_input)
{
	static const uint32_t steps[] = { 0, 1, 2, 5, 6, 1460, 16384 };
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		check_bytes(TLS1_2_VERSION, steps[i], 0);
		check_bytes(TLS1_3_VERSION, steps[i], 0);
	}
}

Test(tls, bytes_survive_an_output_that_is_full_all_the_time)
{
	static const uint32_t caps[] = { 1, 3, 4096, 16384, 16385 };
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		check_bytes(TLS1_2_VERSION, 0, caps[i]);
		check_bytes(TLS1_3_VERSION, 0, caps[i]);
	}
}

Test(tls, close_notify_and_silence_are_told_apart)
{
	for (int told = 0; told < 2; told++) {
		SSL_CTX           *ctx = peer_ctx(&leaf, 0);
		struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
		struct wire       *w = wire_new(p, "a.test", ctx);
		uint8_t            got[16];
		size_t             n;
		cr_assert_eq(handshake(w), TLS_OK);
		SSL_write(w->s, "last", 4);
		if (told)
			SSL_shutdown(w->s);
		cr_expect_eq(drain(w, got, sizeof(got), &n), told ? TLS_EOF : TLS_AGAIN);
		cr_expect_eq(n, 4);
		cr_expect_eq(tls_closed(&w->c), told == 1);
		cr_expect_eq(tls_shutdown(&w->c), TLS_OK);
		carry_up(w);
		cr_expect_eq(SSL_read(w->s, got, sizeof(got)), 0);
		cr_expect(SSL_get_shutdown(w->s) & SSL_RECEIVED_SHUTDOWN);
		wire_free(w);
		tls_policy_free(p);
		SSL_CTX_free(ctx);
	}
}

Test(tls, key_updates_are_answered_while_reading)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, TLS1_3_VERSION);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *w = wire_new(p, "a.test", ctx);
	uint8_t            got[64];
	size_t             n;
	uint32_t           took;
	cr_assert_eq(handshake(w), TLS_OK);
	for (int i = 0; i < 20; i++) {
		cr_assert_eq(SSL_key_update(w->s, SSL_KEY_UPDATE_REQUESTED), 1);
		cr_assert_eq(SSL_write(w->s, "down", 4), 4);
		cr_expect_eq(drain(w, got, sizeof(got), &n), TLS_AGAIN);
		cr_expect_eq(n, 4);
		cr_assert_eq(tls_write(&w->c, "up", 2, &took), TLS_OK);
		carry_up(w);
		cr_expect_eq(SSL_read(w->s, got, sizeof(got)), 2);
	}
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, renegotiation_is_refused_and_the_connection_lives)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, TLS1_2_VERSION);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *w = wire_new(p, "a.test", ctx);
	uint8_t            got[64];
	size_t             n;
	cr_assert_eq(handshake(w), TLS_OK);
	cr_assert_eq(SSL_renegotiate(w->s), 1);
	SSL_do_handshake(w->s);
	cr_expect_eq(drain(w, got, sizeof(got), &n), TLS_AGAIN);
	cr_expect_eq(n, 0);
	cr_expect(w->out_n > 0 && w->out[0] == SSL3_RT_ALERT);
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, what_is_not_tls_fails_with_a_sentence)
{
	static const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	SSL_CTX          *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *w = wire_new(p, "a.test", ctx);
	cr_assert_eq(tls_handshake(&w->c), TLS_AGAIN);
	tls_feed(&w->c, http, sizeof(http) - 1);
	cr_expect_eq(tls_handshake(&w->c), TLS_E_PROTOCOL);
	cr_expect(strlen(tls_failure(&w->c)) > 0);
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, a_flipped_bit_is_noticed)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *w = wire_new(p, "a.test", ctx);
	uint8_t            tmp[4096], got[64];
	size_t             drained;
	uint32_t           n = 0;
	cr_assert_eq(handshake(w), TLS_OK);
	drain(w, got, sizeof(got), &drained);
	SSL_write(w->s, "down", 4);
	int len = BIO_read(w->from_s, tmp, sizeof(tmp));
	tmp[len - 1] ^= 1;
	tls_feed(&w->c, tmp, (uint32_t)len);
	cr_expect_eq(tls_read(&w->c, got, sizeof(got), &n), TLS_E_PROTOCOL);
	cr_expect(w->out_n > 0, "an alert tells the peer");
	wire_free(w);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

/* ---- resumption --------------------------------------------------------------------------------- */

/* One connection with a byte each way, so that tickets arrive.  True: it was resumed. */
static bool connect_once(struct tls_policy *p, const char *name, SSL_CTX *ctx)
{
	struct wire *w = wire_new(p, name, ctx);
	uint8_t      got[16];
	size_t       n;
	cr_assert_eq(handshake(w), TLS_OK);
	SSL_write(w->s, "x", 1);
	drain(w, got, sizeof(got), &n);
	cr_expect_eq(n, 1);
	bool resumed = tls_resumed(&w->c);
	wire_free(w);
	return resumed;
}

Test(tls, the_second_connection_is_resumed)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	for (size_t v = 0; v < 2; v++) {
		SSL_CTX           *ctx = peer_ctx(&leaf, versions[v]);
		struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
		cr_expect_not(connect_once(p, "a.test", ctx));
		for (int i = 0; i < 10; i++)
			cr_expect(connect_once(p, "a.test", ctx), "version %zu, %d", v, i);
		struct tls_counts c = tls_policy_counts(p);
		cr_expect_eq(c.handshakes, 11);
		cr_expect_eq(c.resumed, 10);
		tls_policy_free(p);
		SSL_CTX_free(ctx);
	}
}

Test(tls, a_session_is_offered_only_under_the_name_it_was_made_for)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	cr_expect_not(connect_once(p, "a.test", ctx));
	cr_expect_not(connect_once(p, "b.wild.test", ctx));
	cr_expect(connect_once(p, "a.test", ctx));
	cr_expect(connect_once(p, "b.wild.test", ctx));
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, a_ticket_is_used_once_in_tls_1_3)
{
	SSL_CTX *ctx = peer_ctx(&leaf, TLS1_3_VERSION);
	SSL_CTX_set_num_tickets(ctx, 1);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	cr_expect_not(connect_once(p, "a.test", ctx));
	struct wire *first = wire_new(p, "a.test", ctx);
	struct wire *second = wire_new(p, "a.test", ctx);
	cr_assert_eq(handshake(first), TLS_OK);
	cr_assert_eq(handshake(second), TLS_OK);
	cr_expect(first->c.offered);
	cr_expect_not(second->c.offered);
	cr_expect(tls_resumed(&first->c));
	cr_expect_not(tls_resumed(&second->c));
	wire_free(first);
	wire_free(second);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, what_was_offered_in_a_failed_handshake_is_not_offered_again)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, TLS1_2_VERSION);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	cr_expect_not(connect_once(p, "a.test", ctx));
	struct wire *w = wire_new(p, "a.test", ctx);
	cr_assert_eq(tls_handshake(&w->c), TLS_AGAIN);
	tls_feed(&w->c, "nonsense", 8);
	cr_assert_eq(tls_handshake(&w->c), TLS_E_PROTOCOL);
	wire_free(w);
	cr_expect_not(connect_once(p, "a.test", ctx));
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, an_expired_ticket_is_not_offered)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	for (size_t v = 0; v < 2; v++) {
		SSL_CTX *ctx = peer_ctx(&leaf, versions[v]);
		SSL_CTX_set_timeout(ctx, 1);
		struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
		cr_expect_not(connect_once(p, "a.test", ctx));
		cr_expect(tls_policy_counts(p).tickets > 0);
		sleep(2);
		struct wire *w = wire_new(p, "a.test", ctx);
		cr_expect_not(w->c.offered);
		wire_free(w);
		tls_policy_free(p);
		SSL_CTX_free(ctx);
	}
}

Test(tls, a_ticket_that_comes_late_is_not_kept_under_another_name)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, TLS1_3_VERSION);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	struct wire       *late = wire_new(p, "a.test", ctx);
	char               name[64];
	uint8_t            got[16];
	size_t             n;
	cr_assert_eq(handshake(late), TLS_OK);
	for (int i = 0; i < TLS_SERVERS_MAX; i++) {
		snprintf(name, sizeof(name), "n%d.wild.test", i);
		connect_once(p, name, ctx);
	}
	uint64_t before = tls_policy_counts(p).tickets;
	drain(late, got, sizeof(got), &n);
	cr_expect_eq(tls_policy_counts(p).tickets, before);
	wire_free(late);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, resumption_can_be_switched_off)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p =
		policy(&(struct tls_options){ .ca_file = ca_pem, .no_resumption = true });
	cr_expect_not(connect_once(p, "a.test", ctx));
	cr_expect_not(connect_once(p, "a.test", ctx));
	cr_expect_eq(tls_policy_counts(p).tickets, 0);
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, the_cache_is_bounded_and_the_oldest_name_gives_way)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	char               name[64];
	for (int i = 0; i <= TLS_SERVERS_MAX; i++) {
		snprintf(name, sizeof(name), "n%d.wild.test", i);
		cr_expect_not(connect_once(p, name, ctx));
	}
	cr_expect(connect_once(p, "n1.wild.test", ctx));
	cr_expect_not(connect_once(p, "n0.wild.test", ctx));
	tls_policy_free(p);
	SSL_CTX_free(ctx);
}

Test(tls, a_server_that_forgot_its_keys_gets_a_full_handshake)
{
	SSL_CTX           *ctx = peer_ctx(&leaf, 0);
	struct tls_policy *p = policy(&(struct tls_options){ .ca_file = ca_pem });
	cr_expect_not(connect_once(p, "a.test", ctx));
	SSL_CTX *fresh = peer_ctx(&leaf, 0);
	cr_expect_not(connect_once(p, "a.test", fresh));
	cr_expect(connect_once(p, "a.test", fresh));
	tls_policy_free(p);
	SSL_CTX_free(ctx);
	SSL_CTX_free(fresh);
}

/* ---- options ------------------------------------------------------------------------------------ */

static void check_refused(const char *says, const struct tls_options *opt, int rc, const char *text)
{
	char               why[TLS_WHY_MAX] = "";
	struct tls_policy *p = NULL;
	cr_expect_eq(tls_policy_new(opt, &p, why, sizeof(why)), rc, "%s: %s", says, why);
	cr_expect_null(p);
	cr_expect(strstr(why, text) != NULL, "%s: \"%s\" should say \"%s\"", says, why, text);
}

Test(tls, a_policy_that_cannot_work_is_refused_with_a_sentence)
{
	struct cert me = cert_make("client", "DNS:client.test", &ca, -DAY, DAY);
	char        cert[128], key[128], locked[128], other_key[128], junk[128];
	cert_file(&me, cert);
	key_file(&me, NULL, key);
	key_file(&me, "sesame", locked);
	key_file(&leaf, NULL, other_key);
	FILE *f = peer_file(junk);
	fputs("not PEM\n", f);
	fclose(f);
	const struct {
		const char        *says;
		struct tls_options opt;
		int                rc;
		const char        *text;
	} rows[] = {
		{ "no such CA", { .ca_file = "/nowhere/ca.pem" }, -ENOENT, "ca_file /nowhere/ca.pem: No such file" },
		{ "a directory", { .ca_file = "/tmp" }, -EISDIR, "ca_file /tmp: Is a directory" },
		{ "a CA of junk", { .ca_file = junk }, -EBADMSG, junk },
		{ "a cert of junk", { .ca_file = ca_pem, .cert_file = junk, .key_file = key }, -EBADMSG, "cert_file" },
		{ "a key of junk", { .ca_file = ca_pem, .cert_file = cert, .key_file = junk }, -EBADMSG, "key_file" },
		{ "no such key", { .ca_file = ca_pem, .cert_file = cert, .key_file = "/nowhere/k" }, -ENOENT, "key_file /nowhere/k" },
		{ "half a pair", { .ca_file = ca_pem, .cert_file = cert }, -EINVAL, "cert_file without key_file" },
		{ "the other half", { .ca_file = ca_pem, .key_file = key }, -EINVAL, "key_file without cert_file" },
		{ "no pair", { .ca_file = ca_pem, .cert_file = cert, .key_file = other_key }, -EKEYREJECTED, "does not belong" },
		{ "locked", { .ca_file = ca_pem, .cert_file = cert, .key_file = locked }, -EBADMSG, "no usable PEM key" },
		{ "wrong word", { .ca_file = ca_pem, .cert_file = cert, .key_file = locked, .key_passphrase = "x" },
		  -EBADMSG, "with this key_passphrase" },
		{ "empty ALPN name", { .ca_file = ca_pem, .alpn = "h2,,http/1.1" }, -EINVAL, "alpn" },
		{ "ALPN ends in a comma", { .ca_file = ca_pem, .alpn = "h2," }, -EINVAL, "alpn" },
		{ "unknown group", { .ca_file = ca_pem, .groups = "X25519:nonsense" }, -EINVAL, "groups" },
		{ "a name with a space", { .ca_file = ca_pem, .server_name = "a b" }, -EINVAL, "server_name" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_refused(rows[i].says, &rows[i].opt, rows[i].rc, rows[i].text);
	cert_free(&me);
}

Test(tls, a_system_that_trusts_nobody_is_refused)
{
	setenv("SSL_CERT_FILE", "/nowhere/cert.pem", 1);
	setenv("SSL_CERT_DIR", "/nowhere", 1);
	check_refused("no CA certificates", &(struct tls_options){ 0 }, -ENOENT, "ca-certificates");
	struct tls_policy *p = policy(&(struct tls_options){ .insecure = true });
	tls_policy_free(p);
}
