/*
 * tests/fuzz/h2_target.h - one HTTP/2 session under a program: frames of a hostile peer, calls of its owner.
 *
 * Input    The first byte chooses the owner's manners, the rest is a program of steps.  A step is an opcode and its
 *          operands; frames get a length that fits, so that mutations reach what is behind it; op RAW
 *          gives bytes as they are.
 * Demands  Twice the same program, once with frames whole and once in pieces: the same events, the same output.
 *          What is told is a valid message; a stream is closed once and silent afterwards; no more
 *          body is told than the window allowed, and none sent that was not there; what is
 *          sent is frames; in the end every byte of memory is back.
 */
#ifndef RHC_TESTS_FUZZ_H2_TARGET_H
#define RHC_TESTS_FUZZ_H2_TARGET_H

#include <ctype.h>

#include "proto/h2.h"
#include "tests/fuzz/head.h"

enum { H2F_STREAMS = 48, H2F_OUT = 1 << 20, H2F_STEPS = 400, H2F_WINDOW = 65536, H2F_HEAD = 4096 };

/* How the owner behaves, bits of the first byte. */
enum { M_ANSWERS = 1, M_RESETS = 2, M_KEEPS = 4, M_DETACHES = 8, M_NO_MEMORY = 16, M_REFUSES = 32, M_ECHO_END = 64 };

struct h2f_stream {
	struct h2_stream s;
	struct fuzz_head head, trailers;
	char            *mem[2];
	bool             used, gone, ended, answered, end_given;
	uint64_t         in, unconsumed, told, sent;
	unsigned         heads;
};

struct h2f {
	struct h2         h;
	bool              server;
	uint8_t           manners;
	uint64_t          now_ms;
	uint64_t          trace, cut; /* cut: 0, or the state that chooses pieces */
	struct h2f_stream streams[H2F_STREAMS];
	unsigned          n_streams;
	bool              room, over;
	uint8_t           out[H2F_OUT]; /* since the last pump */
	size_t            n_out;
	bool              greeting; /* the client's preface comes first */
};

#define H2F_OF(sp) ((struct h2f_stream *)(void *)((char *)(sp) - offsetof(struct h2f_stream, s)))

static void h2f_note(struct h2f *f, const char *what, int32_t id, uint64_t more)
{
	if (getenv("FUZZ_TRACE"))
		fprintf(stderr, "%s %s %d %llu\n", f->cut ? "pieces:" : "whole: ", what, id, (unsigned long long)more);
	f->trace = fuzz_hash(f->trace, what, strlen(what));
	f->trace = fuzz_hash(f->trace, &id, sizeof(id));
	f->trace = fuzz_hash(f->trace, &more, sizeof(more));
}

static bool h2f_room(void *arg, bool data)
{
	struct h2f *f = arg;

	return (f->room || !data) && f->n_out < H2F_OUT / 2;
}

static void h2f_out(void *arg, const uint8_t *p, size_t n)
{
	struct h2f *f = arg;

	DEMAND(f->n_out + n <= H2F_OUT, "more output than the input can be worth: %zu", f->n_out + n);
	memcpy(f->out + f->n_out, p, n);
	f->n_out += n;
}

static void h2f_out_body(void *arg, struct h2_stream *s, uint32_t n)
{
	struct h2f        *f = arg;
	struct h2f_stream *x = H2F_OF(s);

	x->sent += n;
	DEMAND(!x->gone && x->sent <= x->told, "bytes that were not there: %llu of %llu",
	       (unsigned long long)x->sent, (unsigned long long)x->told);
	DEMAND(f->n_out + n <= H2F_OUT, "output");
	memset(f->out + f->n_out, 'b', n);
	f->n_out += n;
}

static void h2f_out_head(void *arg, struct h2_stream *s)
{
	h2f_note(arg, "out head", s->id, 0);
}

static void h2f_out_end(void *arg, struct h2_stream *s)
{
	DEMAND(H2F_OF(s)->end_given, "an end nobody gave");
	h2f_note(arg, "out end", s->id, 0);
}

static struct h2f_stream *h2f_new(struct h2f *f)
{
	struct h2f_stream *x;

	if (f->n_streams == H2F_STREAMS)
		return NULL;
	x = &f->streams[f->n_streams++];
	x->used = true;
	return x;
}

static struct h2_stream *h2f_open(void *arg)
{
	struct h2f        *f = arg;
	struct h2f_stream *x = f->manners & M_REFUSES && f->n_streams % 3 == 2 ? NULL : h2f_new(f);

	DEMAND(f->server, "a client was asked to open");
	return x ? &x->s : NULL;
}

/* Each memory has exactly the size asked for. */
static bool h2f_memory(void *arg, struct h2_stream *s, enum h2_part part, struct h2_memory *mem, uint32_t need)
{
	struct h2f        *f = arg;
	struct h2f_stream *x = H2F_OF(s);
	char              *old = mem->p, *now;

	DEMAND(need <= f->h.conf.head_max && !x->gone, "memory of %u", need);
	if (f->manners & M_NO_MEMORY && (s->id >> 1) % 3 == 1 && need > 200)
		return false;
	if (need == 0) {
		mem->head = fuzz_head(part == H2_PART_HEAD ? &x->head : &x->trailers);
		free(x->mem[part]);
		old = x->mem[part] = NULL;
		need = 1;
	}
	now = malloc(need);
	if (mem->used > 0)
		memcpy(now, old, mem->used);
	free(old);
	mem->cap = need;
	mem->p = x->mem[part] = now;
	return true;
}

static void h2f_check_fields(const struct http_head *h)
{
	for (unsigned i = 0; i < h->n_fields; i++) {
		const struct http_field *x = &h->fields[i];

		DEMAND(x->name_len > 0 && x->name[0] != ':', "a pseudo field among the fields");
		DEMAND(fuzz_clean(x->name, x->name_len) && fuzz_clean(x->value, x->value_len), "field %u", i);
		for (unsigned k = 0; k < x->name_len; k++)
			DEMAND(!isupper((unsigned char)x->name[k]), "a name in capitals");
		DEMAND(x->id == http_field_lookup(x->name, x->name_len), "id of %.*s", x->name_len, x->name);
		/* RFC 9113 §8.2.2 */
		DEMAND(x->id != HTTP_FIELD_CONNECTION && x->id != HTTP_FIELD_TRANSFER_ENCODING &&
		       x->id != HTTP_FIELD_KEEP_ALIVE && x->id != HTTP_FIELD_PROXY_CONNECTION &&
		       x->id != HTTP_FIELD_UPGRADE, "a field of connections: %.*s", x->name_len, x->name);
	}
}

static void h2f_check_head(const struct h2f *f, const struct h2f_stream *x, const struct http_head *h, bool end)
{
	h2f_check_fields(h);
	DEMAND(fuzz_clean(h->path.p, h->path.n) && fuzz_clean(h->authority.p, h->authority.n), "target");
	DEMAND((h->status == 0) == f->server, "status %u", h->status);
	if (!f->server) {
		DEMAND(h->status >= 100 && h->status != 101 && h->status <= 999, "status %u", h->status);
		DEMAND(h->status >= 200 || !end, "an interim response that ends");
		return;
	}
	DEMAND(h->method_text.n > 0 && fuzz_clean(h->method_text.p, h->method_text.n), "method");
	DEMAND(h->method == HTTP_METHOD_CONNECT || (h->path.n > 0 && (h->path.p[0] == '/' || h->path.p[0] == '*')),
	       "path %.*s", (int)h->path.n, h->path.p);
	DEMAND(!end || x->s.in_len == UINT64_MAX || x->s.in_len == 0, "an end, and a length");
}

static void h2f_answer(struct h2f *f, struct h2f_stream *x);

static void h2f_head(void *arg, struct h2_stream *s, struct http_head *h, bool end)
{
	struct h2f        *f = arg;
	struct h2f_stream *x = H2F_OF(s);

	DEMAND(x->used && !x->gone && !x->ended && h == &x->head.h, "a head out of order");
	DEMAND(f->server ? x->heads == 0 : h->status < 200 || x->heads == 0, "a second head");
	x->heads += f->server || h->status >= 200;
	x->ended |= end;
	h2f_check_head(f, x, h, end);
	h2f_note(f, end ? "head, end" : "head", s->id, h->status * 1000u + h->n_fields);
	f->trace = fuzz_hash(f->trace, h->path.p, h->path.n);
	for (unsigned i = 0; i < h->n_fields; i++) {
		f->trace = fuzz_hash(f->trace, h->fields[i].name, h->fields[i].name_len);
		f->trace = fuzz_hash(f->trace, h->fields[i].value, h->fields[i].value_len);
		h2f_note(f, "field", h->fields[i].flags, h->fields[i].id);
	}
	if (f->manners & M_RESETS && (s->id >> 1) % 4 == 1)
		h2_reset(&f->h, s, H2_CANCEL);
	else if (f->manners & M_ANSWERS && f->server)
		h2f_answer(f, x);
}

static void h2f_data(void *arg, struct h2_stream *s, const uint8_t *p, uint32_t n)
{
	struct h2f        *f = arg;
	struct h2f_stream *x = H2F_OF(s);

	DEMAND(!x->gone && !x->ended && x->heads == 1 && n > 0, "data out of order");
	x->in += n;
	x->unconsumed += n;
	DEMAND(x->unconsumed <= H2F_WINDOW, "more than the window");
	DEMAND(x->in == s->in_bytes, "in_bytes");
	for (uint32_t i = 0; i < n; i++) /* the same however it comes */
		x->head.h.body_len = fuzz_hash(x->head.h.body_len, p + i, 1);
	h2_consume_connection(&f->h, n);
	if (f->manners & M_KEEPS)
		return;
	x->unconsumed -= n;
	h2_consume_stream(&f->h, s, n);
}

static void h2f_end(void *arg, struct h2_stream *s, struct http_head *t)
{
	struct h2f        *f = arg;
	struct h2f_stream *x = H2F_OF(s);

	DEMAND(!x->gone && !x->ended && x->heads == 1, "an end out of order");
	DEMAND(s->in_len == UINT64_MAX || s->in_len == s->in_bytes || !f->server, "an end before its length");
	DEMAND(!t || (t == &x->trailers.h && t->n_fields > 0), "trailers");
	x->ended = true;
	if (t) {
		h2f_check_fields(t);
		for (unsigned i = 0; i < t->n_fields; i++)
			DEMAND(!h1_trailer_forbidden(t->fields[i].id), "a trailer that may not be one");
	}
	h2f_note(f, "end", s->id, s->in_bytes);
	if (f->manners & M_ECHO_END && s->out_open && !x->end_given) {
		x->end_given = true;
		h2_end(&f->h, s, t);
	}
}

static void h2f_settings(void *arg)
{
	struct h2f *f = arg;

	h2f_note(f, "settings", 0, f->server ? 0 : h2_streams_allowed(&f->h));
}

static void h2f_goaway(void *arg, uint32_t code, int32_t last_id)
{
	h2f_note(arg, "goaway", last_id, code);
}

static void h2f_pong(void *arg, uint64_t opaque)
{
	h2f_note(arg, "pong", 0, opaque);
}

static void h2f_closed(void *arg, struct h2_stream *s, enum h2_close why, uint32_t code)
{
	struct h2f_stream *x = H2F_OF(s);

	DEMAND(x->used && !x->gone && !s->attached, "closed twice");
	DEMAND(why != H2_CLOSE_MALFORMED || s->http_error != HTTP_OK, "malformed without a reason");
	DEMAND(why != H2_CLOSE_DONE || ((x->ended || s->answered) && x->heads <= 1), "done without an end");
	x->gone = true;
	h2f_note(arg, "closed", s->id, why * 100000u + code);
}

static const struct h2_events h2f_events = {
	.room = h2f_room, .out = h2f_out, .out_body = h2f_out_body, .out_head = h2f_out_head, .out_end = h2f_out_end,
	.open = h2f_open, .memory = h2f_memory, .head = h2f_head, .data = h2f_data, .end = h2f_end,
	.settings = h2f_settings, .goaway = h2f_goaway, .pong = h2f_pong, .closed = h2f_closed,
};

/* --- the owner --- */

static void h2f_answer(struct h2f *f, struct h2f_stream *x)
{
	static const uint16_t statuses[] = { 200, 204, 304, 103, 503 };
	struct fuzz_head      o;
	struct http_head     *h = fuzz_head(&o);
	uint16_t              status = statuses[(x->s.id >> 1) % 5];
	bool                  end = (x->s.id >> 1) % 2;
	int                   r;

	if (x->answered || x->gone || !x->s.attached)
		return;
	h->status = status;
	h->body = end ? HTTP_BODY_NONE : HTTP_BODY_STREAM;
	http_head_add(h, HTTP_FIELD_SERVER, HTTP_STR("Server"), HTTP_STR("fuzz"));
	end = end && status >= 200;
	r = h2_response(&f->h, &x->s, h, end);
	if (r == 0 && status >= 200) {
		x->answered = true;
		x->end_given = end;
	}
	h2f_note(f, "response", x->s.id, (uint64_t)(int64_t)r);
}

static void h2f_ask(struct h2f *f, uint8_t how)
{
	static const enum http_method methods[] = { HTTP_METHOD_GET, HTTP_METHOD_POST, HTTP_METHOD_HEAD, HTTP_METHOD_CONNECT };
	struct fuzz_head              o;
	struct http_head             *h = fuzz_head(&o);
	struct h2f_stream            *x = h2f_new(f);
	bool                          end = how & 4;
	int                           r;

	if (!x)
		return;
	h->method = methods[how & 3];
	h->method_text = (struct http_str){ http_method_name(methods[how & 3]),
		                            (uint32_t)strlen(http_method_name(methods[how & 3])) };
	h->scheme = HTTP_STR("http");
	h->authority = HTTP_STR("origin.test:80");
	h->path = HTTP_STR("/path?query");
	if (h->method == HTTP_METHOD_CONNECT)
		h->target = HTTP_TARGET_AUTHORITY;
	h->body = end ? HTTP_BODY_NONE : HTTP_BODY_STREAM;
	http_head_add(h, HTTP_FIELD_AUTHORIZATION, HTTP_STR("Authorization"), HTTP_STR("secret"));
	h->fields[0].flags = HTTP_FIELD_SECRET;
	r = h2_request(&f->h, &x->s, h, end);
	x->answered = r == 0;
	x->end_given = r == 0 && end;
	if (r != 0)
		x->gone = true;
	h2f_note(f, "request", x->s.id, (uint64_t)(int64_t)r);
}

static void h2f_call(struct h2f *f, uint8_t which, struct h2f_stream *x, uint16_t n)
{
	const bool open = x && x->used && !x->gone && x->s.attached;

	switch (which % 12) {
	case 0:
		if (f->server && open)
			h2f_answer(f, x);
		else if (!f->server)
			h2f_ask(f, (uint8_t)n);
		break;
	case 1:
		if (open && x->answered && !x->end_given) {
			x->told += n;
			h2_body(&f->h, &x->s, n);
		}
		break;
	case 2:
		if (open && x->answered && !x->end_given) {
			x->end_given = true;
			h2_end(&f->h, &x->s, n & 1 ? &x->head.h : NULL);
		}
		break;
	case 3:
		if (open)
			h2_reset(&f->h, &x->s, n % 14);
		break;
	case 4:
		if (open) {
			h2_detach(&f->h, &x->s, H2_CANCEL);
			x->gone = true;
		}
		break;
	case 5:
		if (open && x->unconsumed > 0) {
			h2_consume_stream(&f->h, &x->s, (uint32_t)x->unconsumed);
			x->unconsumed = 0;
		}
		break;
	case 6:
		h2_ping(&f->h, n);
		break;
	case 7:
		if (f->server)
			h2_shutdown_notice(&f->h);
		break;
	case 8:
		h2_shutdown(&f->h);
		break;
	case 9:
		h2_terminate(&f->h, H2_NO_ERROR);
		break;
	case 10:
		f->now_ms += n;
		break;
	default:
		f->room = n & 1;
	}
}

/*
 * What was pumped is the preface once, and whole frames.  Of WINDOW_UPDATEs the sum is the same in the end, but not in how many
 * of them it is told: nghttp2 sends one when half a window has been consumed, however it came.  So they are no event.
 */
static void h2f_pump(struct h2f *f)
{
	size_t at = 0, told = 0;
	int    r = h2_pump(&f->h);

	f->over |= r != 0;
	if (f->greeting && f->n_out > 0) {
		DEMAND(f->n_out >= H2_PREFACE_LEN && memcmp(f->out, h2_preface, H2_PREFACE_LEN) == 0, "no preface");
		at = H2_PREFACE_LEN;
		f->greeting = false;
	}
	while (at < f->n_out) {
		const uint8_t *h = f->out + at;
		size_t         n;

		DEMAND(f->n_out - at >= 9, "a part of a frame's head");
		n = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
		DEMAND(n <= 16384 && h[3] <= 9 && n <= f->n_out - at - 9, "frame of type %u, %zu bytes", h[3], n);
		if (h[3] != 8) { /* RFC 9113 §6.9 */
			f->trace = fuzz_hash(f->trace, h, 9 + n);
			told += 9 + n;
		}
		at += 9 + n;
	}
	h2f_note(f, "pumped", r, told);
	f->n_out = 0;
}

static void h2f_feed(struct h2f *f, const uint8_t *p, size_t n)
{
	while (n > 0 && !f->over) {
		size_t   piece = f->cut ? fuzz_piece(&f->cut, n) : n;
		uint8_t *exact = fuzz_copy(p, piece);

		f->over = h2_feed(&f->h, exact, piece, f->now_ms) != 0;
		free(exact);
		p += piece;
		n -= piece;
	}
}

/* --- the peer --- */

static void h2f_frame(struct h2f *f, uint8_t type, uint8_t flags, uint32_t id, const uint8_t *p, size_t n)
{
	uint8_t bytes[9 + 65536] = { (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags,
		                     (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id };

	if (n > 0)
		memcpy(bytes + 9, p, n);
	h2f_feed(f, bytes, 9 + n);
}

static size_t h2f_literal(uint8_t *out, const char *name, size_t n, const uint8_t *value, size_t m)
{
	out[0] = 0; /* literal without indexing, new name (RFC 7541 §6.2.2) */
	out[1] = (uint8_t)n;
	memcpy(out + 2, name, n);
	out[2 + n] = (uint8_t)m;
	if (m > 0)
		memcpy(out + 3 + n, value, m);
	return 3 + n + m;
}

/* A header block of lines: a name out of a table, a value out of the program. */
static size_t h2f_block(struct fuzz_tape *t, bool server, uint8_t *out, uint8_t how)
{
	static const char *const names[] = { ":method", ":path", ":scheme", ":authority", ":status", "host", "content-length",
		"te", "cookie", "connection", "transfer-encoding", "expect", "x", "authorization", "trailer", "X-Big" };
	static const uint8_t get[] = { 0x82, 0x84, 0x86, 0x41, 0x01, 'a' }, ok[] = { 0x88 };
	size_t               n = 0;

	if (how & 0x80) { /* what must be there is there */
		n = server ? sizeof(get) : sizeof(ok);
		memcpy(out, server ? get : ok, n);
	}
	for (unsigned lines = how & 7; lines > 0; lines--) {
		uint8_t        pick = tape_u8(t);
		size_t         m = tape_u8(t) % 100;
		const uint8_t *value = tape_bytes(t, &m);

		n += h2f_literal(out + n, names[pick % 16], strlen(names[pick % 16]), value, m);
	}
	return n;
}

static void h2f_step(struct h2f *f, struct fuzz_tape *t)
{
	uint8_t        op = tape_u8(t), a, b;
	static uint8_t block[2048], zeros[16384];
	size_t         n;
	uint32_t       id;

	switch (op % 8) {
	case 0: /* a frame */
		a = tape_u8(t);
		b = tape_u8(t);
		id = tape_u8(t);
		n = tape_u8(t);
		{
			const uint8_t *p = tape_bytes(t, &n);

			for (unsigned times = 1 + (op >> 3); times > 0 && !f->over; times--)
				h2f_frame(f, a % 12, b, id, p, n);
		}
		break;
	case 1: /* HEADERS, with flags of op */
		id = tape_u8(t);
		a = tape_u8(t);
		n = h2f_block(t, f->server, block, a);
		h2f_frame(f, 1, (uint8_t)((op >> 3 & 1) | (op & 0x10 ? 0 : 4)), id, block, n);
		break;
	case 2: /* RAW */
		n = tape_u8(t);
		{
			const uint8_t *p = tape_bytes(t, &n);

			h2f_feed(f, p, n);
		}
		break;
	case 3: /* DATA */
		id = tape_u8(t);
		n = tape_u16(t) % sizeof(zeros);
		h2f_frame(f, 0, op >> 3 & 1, id, zeros, n);
		break;
	case 4: /* the owner */
		a = tape_u8(t);
		b = tape_u8(t);
		h2f_call(f, op >> 3, f->n_streams ? &f->streams[a % f->n_streams] : NULL, (uint16_t)(b << (op >> 6)));
		break;
	case 5:
		h2f_pump(f);
		break;
	case 6: /* WINDOW_UPDATE */
		id = tape_u8(t);
		n = tape_u16(t);
		h2f_frame(f, 8, 0, id, (uint8_t[]){ 0, 0, (uint8_t)(n >> 8), (uint8_t)n }, 4);
		break;
	default: /* RST_STREAM */
		id = tape_u8(t);
		h2f_frame(f, 3, 0, id, (uint8_t[]){ 0, 0, 0, (uint8_t)(op >> 3) }, 4);
	}
}

static uint64_t h2f_run(bool server, struct fuzz_tape t, uint64_t cut)
{
	static struct h2f f;
	const struct h2_config conf = { .server = server, .ev = &h2f_events, .arg = &f, .streams_max = 16,
		                        .window = H2F_WINDOW, .window_connection = 4 * H2F_WINDOW,
		                        .head_max = H2F_HEAD, .target_max = 1024, .now_ms = 1000 };

	memset(&f, 0, offsetof(struct h2f, out));
	f.n_out = 0;
	f.server = server;
	f.greeting = !server;
	f.now_ms = 1000;
	f.trace = FUZZ_HASH;
	f.cut = cut;
	f.room = true;
	f.manners = tape_u8(&t);
	DEMAND(h2_init(&f.h, &conf) == 0, "no session");
	if (server)
		h2f_feed(&f, (const uint8_t *)h2_preface, H2_PREFACE_LEN);
	h2f_frame(&f, 4, 0, 0, NULL, 0);
	for (unsigned step = 0; step < H2F_STEPS && t.n > 0 && !f.over; step++)
		h2f_step(&f, &t);
	f.room = true;
	h2f_pump(&f);
	DEMAND(!f.over || h2_over(&f.h) || h2_pump(&f.h) != 0 || h2_over(&f.h), "an error, and not over");
	for (unsigned i = 0; i < f.n_streams; i++) {
		struct h2f_stream *x = &f.streams[i];

		if (x->ended) /* of a message that is refused, more is told the later its fault is seen */
			h2f_note(&f, "body", x->s.id, x->in ^ x->head.h.body_len);
		h2_detach(&f.h, &x->s, H2_CANCEL);
		x->gone = true;
		free(x->mem[0]);
		free(x->mem[1]);
	}
	/*
	 * nghttp2 counts CONTINUATIONs, at most 8, once for each piece in which the frame's head comes: a session that
	 * it ended, our bucket not being empty, may go on when cut otherwise.
	 */
	if (f.h.calm && f.h.flood.tokens >= 100)
		f.trace = 0;
	h2_fini(&f.h);
	return f.trace;
}

static int h2f_one(bool server, const uint8_t *data, size_t size)
{
	struct fuzz_tape t = { data, size };
	uint64_t         whole, pieces;

	if (size > 4096)
		return 0;
	whole = h2f_run(server, t, 0);
	pieces = h2f_run(server, t, fuzz_hash(FUZZ_HASH, data, size) | 1);
	DEMAND(whole == pieces || whole == 0 || pieces == 0, "other events when the bytes come in pieces");
	return 0;
}

#endif
