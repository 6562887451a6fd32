/*
 * Whole calls: the real connections, exchange, guard and pool on a hostile engine, between an app and upstreams that do what
 * the input says.
 *
 * Input    A program: bytes to send on either side, turns, half-closes, resets, further connections.  Host a is an
 *          upstream of HTTP/1.1, b one of HTTP/2.  The hash of the input is the seed of the engine's hostility.
 * Demands  When both sides are gone, everything is back: slots, permits, tickets, buffers, slab objects,
 *          operations, descriptors; the segment's audit is clean.  What the app received over HTTP/1.1 is responses, the last
 *          one perhaps cut.
 * Time     is the real one, and nothing here waits for it but a bound.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "shm/view.h"
#include "sidecar/base/log.h"
#include "sidecar/config/findings.h"
#include "sidecar/exchange/access.h"
#include "sidecar/exchange/exchange.h"
#include "sidecar/http/env.h"
#include "sidecar/io/engine_hostile.h"
#include "tests/fuzz/head.h"

enum { DOWN_MAX = 3, UP_MAX = 16, STEPS_MAX = 200, GOT_MAX = 1 << 18, TURNS_MAX = 1000000, BUFS = 128 };

static const char yaml[] = "version: 1\n"
	"listeners: [{name: main, address: '127.0.0.1:1'}]\n"
	"admin: {address: null, socket: null}\n"
	"telemetry: {address: null}\n"
	"defaults:\n"
	"  timeout: {connect: 1s, read: 1s, write: 1s, pool: 1s}\n"
	"  retry: {min_wait_seconds: 0, max_wait_seconds: 0}\n"
	"  circuit_breaker: {count: [], count_statuses: []}\n"
	"  bulkhead: {max_concurrency: 2, acquisition_timeout: 100ms}\n"
	"  limits: {max_request_body: 100KiB, max_response_body: 100KiB}\n"
	"forward_proxy: {connect: allow}\n"
	"upstreams:\n"
	"  a: {url: 'http://127.0.0.1:%u'}\n"
	"  b: {url: 'http://127.0.0.1:%u', pool: {http2: prior_knowledge}}\n";

struct peer {
	int  fd; /* -1: gone */
	bool over;
};

static struct {
	char               dir[64], path[128];
	struct rhc_segment seg;
	struct config     *config;
	int                up_fd, down_fd; /* listening */
	struct sockaddr_in down_addr;
	int                wake[RHC_WORKERS_MAX];
} all;

static struct world {
	struct buf_pool          bufs;
	struct engine           *engine;
	struct timer_wheel       timers;
	struct http_env          http;
	struct http_slabs        slabs;
	struct http_limits       limits;
	struct rng               rng;
	struct rhc_worker        worker;
	struct upstreams        *upstreams;
	struct access_log        access;
	struct exchange_env      env;
	struct exchange_listener listener;
	unsigned                 conns;
	struct peer              down[DOWN_MAX], up[UP_MAX];
	unsigned                 n_down, n_up;
	uint8_t                  got[DOWN_MAX][GOT_MAX];
	size_t                   n_got[DOWN_MAX];
	bool                     tunnels; /* an answer of the input's own may have no length we know */
} w;

int LLVMFuzzerInitialize(int *argc, char ***argv);

static void clean_up(void)
{
	unlink(all.path);
	rmdir(all.dir);
}

static int listening(struct sockaddr_in *addr)
{
	socklen_t len = sizeof(*addr);
	int       fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	DEMAND(bind(fd, (struct sockaddr *)addr, len) == 0 && listen(fd, 64) == 0, "no socket");
	getsockname(fd, (struct sockaddr *)addr, &len);
	return fd;
}

static void make_segment(void)
{
	struct rhc_segment_opt opt = { .path = all.path, .allow_disk = true, .mono_ns = clock_ns(),
		.wall_ns = UINT64_C(1790000000) * 1000000000,
		.shape = { .workers = 2, .upstreams = 4, .slots = 64, .ring_len = 64 } };
	struct rhc_refusal     why;
	uint64_t               wake = 0;
	char                   text[256];

	snprintf(all.dir, sizeof(all.dir), "%s/rhc-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	DEMAND(mkdtemp(all.dir), "no directory");
	snprintf(all.path, sizeof(all.path), "%s/s.shm", all.dir);
	atexit(clean_up);
	DEMAND(rhc_segment_adopt(&all.seg, &opt, &why) == 0, "%s", why.text);
	DEMAND(upstreams_declare(all.config, &all.seg, clock_ns() / NS_PER_MS, &wake, text, sizeof(text)) == 0, "%s", text);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static struct findings f;
	struct sockaddr_in     up;
	char                   text[2048];
	struct config_source   src = { .text = text };

	(void)argc;
	(void)argv;
	all.up_fd = listening(&up);
	all.down_fd = listening(&all.down_addr);
	src.len = (size_t)snprintf(text, sizeof(text), yaml, ntohs(up.sin_port), ntohs(up.sin_port));
	findings_init(&f);
	if (config_load(&all.config, &src, &f) != 0)
		findings_print(&f, FINDINGS_TEXT, stderr);
	DEMAND(all.config, "the target's own configuration");
	make_segment();
	for (unsigned i = 0; i < RHC_WORKERS_MAX; i++)
		all.wake[i] = -1;
	return 0;
}

/* --- the worker --- */

static void on_message(struct http_conn *c, struct message *m)
{
	(void)c;
	exchange_begin(&w.listener, m);
}

static void on_closed(struct http_conn *c, enum stream_error err, const char *text)
{
	(void)c;
	(void)err;
	(void)text;
	w.conns--;
}

static void on_ready(struct http_conn *c)
{
	(void)c;
}

static const struct http_conn_events conn_events = { .on_ready = on_ready, .on_message = on_message, .on_closed = on_closed };

static void start(uint64_t seed)
{
	const struct engine_hostility how = { .seed = seed, .split = 300, .split_max = 400, .delay = 200, .error = seed % 4 ? 0 : 5 };
	const struct engine_conf      ec = { .kind = ENGINE_EPOLL, .bufs = &w.bufs };
	const struct http_sizes       sizes = { .conns = 64, .h2_conns = 16, .h2_streams = 128, .messages = 192 };
	struct rhc_worker_id          id = { .pid = 1, .generation = 1, .version = "fuzz" };
	uint64_t                      wake = 0;
	struct upstream_env           ue = { .timers = &w.timers, .http = &w.http, .worker = &w.worker,
		.wake_fds = all.wake, .workers = 1, .rng = &w.rng, .dns_servers = "127.0.0.1:1", .hosts_file = "/dev/null" };
	char                          reason[ENGINE_REASON_MAX];

	memset(&w, 0, offsetof(struct world, got));
	memset(w.n_got, 0, sizeof(w.n_got));
	w.tunnels = false;
	rng_init_from(&w.rng, seed);
	DEMAND(buf_pool_init(&w.bufs, BUFS, BUFS) == 0 && engine_new(&ec, reason, &w.engine) == 0, "no engine");
	DEMAND(engine_make_hostile(w.engine, &how) == 0, "no hostility");
	timer_wheel_init(&w.timers, engine_now(w.engine));
	DEMAND(http_env_init(&w.http, &w.slabs, &sizes, w.engine, &w.bufs, &w.timers) == 0, "no slabs");
	DEMAND(rhc_worker_register(&w.worker, &all.seg, 0, &id, clock_ns() / NS_PER_MS, &wake) == 0, "not registered");
	ue.engine = w.engine;
	DEMAND(upstreams_new(all.config, &ue, &w.upstreams) == 0, "no upstreams");
	w.access.fd = -1;
	w.env = (struct exchange_env){ .config = all.config, .upstreams = w.upstreams, .http = &w.http, .access = &w.access,
		.rng = &w.rng, .counters = rhc_seg_wctr(&all.seg, 0) };
	DEMAND(exchange_env_init(&w.env, 64) == 0, "no exchanges");
	w.listener = (struct exchange_listener){ .config = &all.config->listeners[0], .env = &w.env };
	w.limits = (struct http_limits){ .head_max = 16384, .target_max = 8192, .streams_max = 8, .h2_window = 65536,
		.header_timeout_ns = 10 * NS_PER_S, .idle_timeout_ns = 10 * NS_PER_S };
}

static void turn(uint64_t wait_ns)
{
	int fd;

	DEMAND(engine_turn(w.engine, clock_ns() + wait_ns) >= 0, "the engine is broken");
	timer_wheel_run(&w.timers, engine_now(w.engine));
	while ((fd = accept4(all.up_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (w.n_up == UP_MAX)
			close(fd);
		else
			w.up[w.n_up++] = (struct peer){ .fd = fd };
	}
}

/* --- the peers --- */

static void connect_down(void)
{
	struct peer *p;
	int          fd;
	struct http_conn *c;

	if (w.n_down == DOWN_MAX)
		return;
	p = &w.down[w.n_down];
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	DEMAND(connect(p->fd, (struct sockaddr *)&all.down_addr, sizeof(all.down_addr)) == 0, "connect: %d", errno);
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	fcntl(p->fd, F_SETFL, O_NONBLOCK);
	fd = accept4(all.down_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	DEMAND(fd >= 0, "accept: %d", errno);
	w.n_down++;
	if (http_server_open(&w.http, fd, &w.limits, &conn_events, &w.listener, &c) == 0)
		w.conns++;
}

static void say(struct peer *p, const void *bytes, size_t n)
{
	if (p && p->fd >= 0 && n > 0 && send(p->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		p->over = true;
}

static void hear(void)
{
	static uint8_t rest[65536];

	for (unsigned i = 0; i < w.n_down; i++) {
		size_t  room = GOT_MAX - w.n_got[i];
		ssize_t n = 0;

		while (w.down[i].fd >= 0 && room > 0 &&
		       (n = recv(w.down[i].fd, w.got[i] + w.n_got[i], room, MSG_DONTWAIT)) > 0) {
			w.n_got[i] += (size_t)n;
			room -= (size_t)n;
		}
	}
	for (unsigned i = 0; i < w.n_up; i++)
		while (w.up[i].fd >= 0 && recv(w.up[i].fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
}

static void leave(struct peer *p, bool reset)
{
	struct linger now = { 1, 0 };

	if (!p || p->fd < 0)
		return;
	if (reset)
		setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(p->fd);
	p->fd = -1;
}

static void step(struct fuzz_tape *t)
{
	static uint8_t big[16384];
	uint8_t        op = tape_u8(t);
	struct peer   *down = w.n_down ? &w.down[(op >> 4) % w.n_down] : NULL;
	struct peer   *up = w.n_up ? &w.up[(w.n_up - 1 - (op >> 4)) % w.n_up] : NULL;
	size_t         n;
	const uint8_t *p;

	switch (op & 15) {
	case 0:
	case 1:
		n = tape_u8(t);
		p = tape_bytes(t, &n);
		say(op & 1 ? up : down, p, n);
		break;
	case 2:
	case 3:
		memset(big, 'x', sizeof(big));
		say(op & 1 ? up : down, big, (size_t)tape_u8(t) * 64);
		break;
	case 4:
		if (down && down->fd >= 0)
			shutdown(down->fd, SHUT_WR);
		break;
	case 5:
		if (up && up->fd >= 0)
			shutdown(up->fd, SHUT_WR);
		break;
	case 6:
	case 7:
		leave(op & 1 ? up : down, true);
		break;
	case 8:
		connect_down();
		break;
	case 9:
		hear();
		break;
	default:
		for (unsigned i = 0; i <= op >> 4; i++)
			turn(0);
	}
}

/* --- what must be true then --- */

/* What the app got: responses, and nothing between them. */
static void check_answers(unsigned i)
{
	static const struct h1_limits limits = { H1_HEAD_MAX, 1 };
	static struct fuzz_head       f;
	size_t                        at = 0;

	while (at < w.n_got[i]) {
		struct h1_scan scan = { 0 };
		uint32_t       left = (uint32_t)(w.n_got[i] - at), used = 0, data;
		int32_t        r = h1_parse_response(&scan, w.got[i] + at, left > H1_HEAD_MAX ? H1_HEAD_MAX : left, &limits,
		                                     HTTP_METHOD_GET, fuzz_head(&f));
		struct h1_body b;
		int            e = H1_MORE;

		DEMAND(r >= 0, "the app got %s at %zu: %.200s", http_error_text((enum http_error)-r), at, (char *)w.got[i] + at);
		if (r == 0)
			return; /* cut */
		at += (size_t)r;
		h1_body_init(&b, f.h.body, f.h.body_len);
		while (!h1_body_done(&b) && at < w.n_got[i] && e != H1_END && e != H1_TRAILERS) {
			e = h1_body_feed(&b, w.got[i] + at, (uint32_t)(w.n_got[i] - at), &used, &data);
			DEMAND(e >= 0, "the app got a bad chunk at %zu", at);
			at += used;
		}
		if (e == H1_TRAILERS) {
			scan = (struct h1_scan){ 0 };
			r = h1_parse_trailers(&scan, w.got[i] + at, (uint32_t)(w.n_got[i] - at), &limits, fuzz_head(&f));
			DEMAND(r >= 0, "the app got bad trailers");
			at = r == 0 ? w.n_got[i] : at + (size_t)r;
		}
	}
}

static void end(void)
{
	struct rhc_finding found[4];
	uint64_t           wake = 0;
	uint32_t           n;
	bool               speaks_h1 = !w.tunnels;

	hear();
	for (unsigned i = 0; i < w.n_down; i++)
		leave(&w.down[i], false);
	for (unsigned i = 0; i < w.n_up; i++)
		leave(&w.up[i], false);
	for (unsigned i = 0; i < TURNS_MAX && (w.conns > 0 || w.env.in_flight > 0); i++) {
		turn(i > 100 ? NS_PER_MS : 0);
		for (unsigned k = 0; k < w.n_up; k++)
			leave(&w.up[k], false);
		w.n_up = 0;
	}
	DEMAND(w.conns == 0 && w.env.in_flight == 0, "%u connections and %u calls are left", w.conns, w.env.in_flight);
	upstreams_drain(w.upstreams);
	for (unsigned i = 0; i < TURNS_MAX && !upstreams_idle(w.upstreams); i++) {
		turn(i > 100 ? NS_PER_MS : 0);
		for (unsigned k = 0; k < w.n_up; k++)
			leave(&w.up[k], false);
		w.n_up = 0;
	}
	DEMAND(upstreams_idle(w.upstreams), "an upstream is not idle");
	for (unsigned u = 0; u < all.config->upstreams_len; u++)
		DEMAND(rhc_bulkhead_in_use(&all.seg, u) == 0 && rhc_bulkhead_waiting(&all.seg, u) == 0, "slots of %u", u);
	n = rhc_view_audit(&all.seg, -1, clock_ns() / NS_PER_MS, found, 4);
	DEMAND(n == 0, "audit: %s", rhc_finding_name(found[0].what));
	w.upstreams = upstreams_free(w.upstreams);
	for (unsigned i = 0; i < TURNS_MAX && engine_in_flight(w.engine) > 0; i++)
		turn(0);
	exchange_env_fini(&w.env);
	rhc_worker_unregister(&w.worker, clock_ns() / NS_PER_MS, &wake);
	engine_free(w.engine);
	http_env_fini(&w.http, &w.slabs);
	buf_pool_fini(&w.bufs);
	for (unsigned i = 0; speaks_h1 && i < w.n_down; i++)
		check_answers(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_tape t = { data, size };

	if (size > 4096)
		return 0;
	start(fuzz_hash(FUZZ_HASH, data, size) | 1);
	/* answers to HEAD and CONNECT have another length, and HTTP/2 is no text */
	w.tunnels = memmem(data, size, "HEAD", 4) || memmem(data, size, "CONNECT", 7) || memmem(data, size, "PRI", 3) ||
	            memmem(data, size, "pgrade", 6);
	connect_down();
	for (unsigned i = 0; i < STEPS_MAX && t.n > 0; i++)
		step(&t);
	end();
	return 0;
}
