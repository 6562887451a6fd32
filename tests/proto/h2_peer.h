/*
 * tests/proto/h2_peer.h - one end of an HTTP/2 connection in memory, for the codec's tests.
 *
 * Shape   struct peer around struct h2: a queue of output bytes, streams with what they received. 
 *         Bodies are a pattern of stream and offset, so each byte proves its place.
 * Raw     raw_*() write frames by hand, for the frames the codec would never send.
 */
#ifndef RHC_TESTS_PROTO_H2_PEER_H
#define RHC_TESTS_PROTO_H2_PEER_H

#include <assert.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/h2.h"

enum { PEER_STREAMS = 64, PEER_OUT = 4 * 1024 * 1024, PEER_HEAD = 64 * 1024 };

struct pstream {
	struct h2_stream  s;
	struct peer      *peer;
	bool              used;
	struct http_head  head, trailers;
	struct http_field fields[HTTP_FIELDS_MAX], trailer_fields[HTTP_FIELDS_MAX];
	char             *mem[2];
	uint32_t          heads, interims, ends;
	bool              head_end;
	uint64_t          received, sent; /* body bytes */
	bool              out_end, out_head;
	bool              closed;
	enum h2_close     why;
	uint32_t          code;
	uint16_t          interim_status;
	bool              no_consume;
};

struct peer {
	struct h2       h;
	uint8_t        *out;
	size_t          n_out;
	size_t          room; /* stop the pump at so many queued bytes */
	struct pstream *streams; /* in order of their birth */
	uint32_t        n_streams;
	bool            refuse; /* new streams */
	bool            no_memory;
	uint32_t        memory_step; /* grow in steps of this, so that relocation happens */
	uint32_t        goaways, settings;
	uint32_t        goaway_code;
	int32_t         goaway_last;
	uint64_t        pong;
	int             feed_err, pump_err;
	void (*on_head)(struct pstream *p, bool end); /* answers, as a server */
	void (*on_end)(struct pstream *p);
	bool            bad_body;
};

static inline uint8_t pattern(int32_t id, uint64_t at)
{
	return (uint8_t)((uint64_t)id * 131 + at * 7 + (at >> 8));
}

static inline struct pstream *peer_stream(struct peer *p)
{
	struct pstream *s = &p->streams[p->n_streams++];

	assert(p->n_streams <= PEER_STREAMS);
	s->used = true;
	s->peer = p;
	return s;
}

#define PSTREAM(sp) ((struct pstream *)(void *)((char *)(sp) - offsetof(struct pstream, s)))

static inline bool peer_room(void *arg, bool data)
{
	struct peer *p = arg;

	return !data || p->n_out < p->room;
}

static inline void peer_out(void *arg, const uint8_t *b, size_t n)
{
	struct peer *p = arg;

	assert(p->n_out + n <= PEER_OUT);
	memcpy(p->out + p->n_out, b, n);
	p->n_out += n;
}

static inline void peer_out_body(void *arg, struct h2_stream *s, uint32_t n)
{
	struct peer    *p = arg;
	struct pstream *ps = PSTREAM(s);

	assert(p->n_out + n <= PEER_OUT);
	for (uint32_t i = 0; i < n; i++)
		p->out[p->n_out++] = pattern(s->id, ps->sent++);
}

static inline void peer_out_head(void *arg, struct h2_stream *s)
{
	(void)arg;
	PSTREAM(s)->out_head = true;
}

static inline void peer_out_end(void *arg, struct h2_stream *s)
{
	(void)arg;
	PSTREAM(s)->out_end = true;
}

static inline struct h2_stream *peer_open(void *arg)
{
	struct peer *p = arg;

	if (p->refuse || p->n_streams == PEER_STREAMS)
		return NULL;
	return &peer_stream(p)->s;
}

/* Each memory is of the exact size asked for, so that a byte too much is seen by the sanitizer. */
static inline bool peer_memory(void *arg, struct h2_stream *s, enum h2_part part,
                               struct h2_memory *mem, uint32_t need)
{
	struct peer    *p = arg;
	struct pstream *ps = PSTREAM(s);
	char           *old = mem->p;

	if (p->no_memory)
		return false;
	if (need == 0) {
		mem->head = part == H2_PART_HEAD ? &ps->head : &ps->trailers;
		mem->head->fields = part == H2_PART_HEAD ? ps->fields : ps->trailer_fields;
		mem->head->fields_max = HTTP_FIELDS_MAX;
		free(ps->mem[part]);
		ps->mem[part] = NULL;
		need = 1;
		old = NULL;
	}
	mem->cap = need + p->memory_step;
	mem->p = malloc(mem->cap);
	if (mem->used > 0)
		memcpy(mem->p, old, mem->used);
	free(old);
	ps->mem[part] = mem->p;
	return true;
}

static inline void peer_head(void *arg, struct h2_stream *s, struct http_head *h, bool end)
{
	struct peer    *p = arg;
	struct pstream *ps = PSTREAM(s);

	assert(h == &ps->head);
	if (h->status > 0 && h->status < 200) {
		ps->interims++;
		ps->interim_status = h->status;
		return;
	}
	ps->heads++;
	ps->head_end = end;
	if (p->on_head)
		p->on_head(ps, end);
}

static inline void peer_data(void *arg, struct h2_stream *s, const uint8_t *b, uint32_t n)
{
	struct peer    *p = arg;
	struct pstream *ps = PSTREAM(s);

	for (uint32_t i = 0; i < n; i++)
		if (b[i] != pattern(s->id, ps->received + i))
			p->bad_body = true;
	ps->received += n;
	h2_consume_connection(&p->h, n);
	if (!ps->no_consume)
		h2_consume_stream(&p->h, s, n);
}

static inline void peer_end(void *arg, struct h2_stream *s, struct http_head *trailers)
{
	struct peer *p = arg;

	PSTREAM(s)->ends++;
	assert(!trailers || trailers->n_fields > 0);
	if (p->on_end)
		p->on_end(PSTREAM(s));
}

static inline void peer_settings(void *arg)
{
	((struct peer *)arg)->settings++;
}

static inline void peer_goaway(void *arg, uint32_t code, int32_t last_id)
{
	struct peer *p = arg;

	p->goaways++;
	p->goaway_code = code;
	p->goaway_last = last_id;
}

static inline void peer_pong(void *arg, uint64_t opaque)
{
	((struct peer *)arg)->pong = opaque;
}

static inline void peer_closed(void *arg, struct h2_stream *s, enum h2_close why, uint32_t code)
{
	struct pstream *ps = PSTREAM(s);

	(void)arg;
	assert(!ps->closed && !s->attached);
	ps->closed = true;
	ps->why = why;
	ps->code = code;
}

static const struct h2_events peer_events = {
	.room = peer_room,
	.out = peer_out,
	.out_body = peer_out_body,
	.out_head = peer_out_head,
	.out_end = peer_out_end,
	.open = peer_open,
	.memory = peer_memory,
	.head = peer_head,
	.data = peer_data,
	.end = peer_end,
	.settings = peer_settings,
	.goaway = peer_goaway,
	.pong = peer_pong,
	.closed = peer_closed,
};

static inline struct peer *peer_new_with(bool server, const struct h2_config *base)
{
	struct peer     *p = calloc(1, sizeof(*p));
	struct h2_config c = *base;

	p->out = malloc(PEER_OUT);
	p->streams = calloc(PEER_STREAMS, sizeof(*p->streams));
	p->room = SIZE_MAX;
	c.server = server;
	c.ev = &peer_events;
	c.arg = p;
	assert(h2_init(&p->h, &c) == 0);
	return p;
}

static const struct h2_config peer_conf = {
	.streams_max = 100,
	.window = 65536,
	.window_connection = 4 * 65536,
	.head_max = 16384,
	.target_max = 8192,
	.now_ms = 1000,
};

static inline struct peer *peer_new(bool server)
{
	return peer_new_with(server, &peer_conf);
}

static inline void peer_free(struct peer *p)
{
	for (uint32_t i = 0; i < p->n_streams; i++) {
		h2_detach(&p->h, &p->streams[i].s, H2_CANCEL);
		free(p->streams[i].mem[0]);
		free(p->streams[i].mem[1]);
	}
	h2_fini(&p->h);
	free(p->streams);
	free(p->out);
	free(p);
}

/* Feed a heap copy of exactly that size: reading behind it is caught. */
static inline int peer_feed(struct peer *p, const uint8_t *b, size_t n)
{
	uint8_t *copy = malloc(n);
	int      err;

	memcpy(copy, b, n);
	err = h2_feed(&p->h, copy, n, p->h.now_ms);
	free(copy);
	if (err)
		p->feed_err = err;
	return err;
}

static inline void peer_pump(struct peer *p)
{
	int err = h2_pump(&p->h);

	if (err)
		p->pump_err = err;
}

/* Everything `from` has for `to`, in pieces of step bytes (0: whole).  The number of bytes moved. */
static inline size_t peer_move(struct peer *from, struct peer *to, size_t step)
{
	size_t n;

	peer_pump(from);
	n = from->n_out;
	for (size_t at = 0; at < n && !to->feed_err;) {
		size_t k = step == 0 || n - at < step ? n - at : step;

		peer_feed(to, from->out + at, k);
		at += k;
	}
	from->n_out = 0;
	return n;
}

static inline void peer_run(struct peer *a, struct peer *b, size_t step)
{
	for (int i = 0; i < 10000; i++)
		if (peer_move(a, b, step) + peer_move(b, a, step) == 0)
			return;
	assert(!"they talk for ever");
}

/* --- heads --- */

struct head_of {
	struct http_head  h;
	struct http_field f[HTTP_FIELDS_MAX];
};

static inline struct http_str str(const char *s)
{
	return (struct http_str){ s, (uint32_t)strlen(s) };
}

static inline struct http_field *add(struct head_of *o, const char *name, const char *value)
{
	o->h.fields = o->f;
	o->h.fields_max = HTTP_FIELDS_MAX;
	assert(http_head_add(&o->h, http_field_lookup(name, strlen(name)), str(name), str(value)) == 0);
	return &o->f[o->h.n_fields - 1];
}

static inline struct head_of request(const char *method, const char *path)
{
	struct head_of o = { .h = { .version = HTTP_1_1 } };

	o.h.method = (uint8_t)http_method_lookup(method, strlen(method));
	o.h.method_text = str(method);
	o.h.scheme = HTTP_STR("http");
	o.h.authority = HTTP_STR("origin.test:8080");
	o.h.path = str(path);
	return o;
}

static inline struct head_of response(uint16_t status)
{
	struct head_of o = { .h = { .version = HTTP_1_1, .status = status } };

	o.h.body = HTTP_BODY_STREAM;
	return o;
}

static inline const char *value_of(const struct http_head *h, const char *name)
{
	static char text[70000];

	for (uint32_t i = 0; i < h->n_fields; i++) {
		const struct http_field *f = &h->fields[i];

		if (f->name_len == strlen(name) && memcmp(f->name, name, f->name_len) == 0) {
			memcpy(text, f->value, f->value_len);
			text[f->value_len] = '\0';
			return text;
		}
	}
	return NULL;
}

/* --- frames by hand --- */

struct raw {
	uint8_t              b[512 * 1024];
	size_t               n;
	nghttp2_hd_deflater *hd;
};

static inline struct raw *raw_new(void)
{
	struct raw *r = calloc(1, sizeof(*r));

	nghttp2_hd_deflate_new(&r->hd, 4096);
	return r;
}

static inline void raw_free(struct raw *r)
{
	nghttp2_hd_deflate_del(r->hd);
	free(r);
}

static inline void raw_bytes(struct raw *r, const void *p, size_t n)
{
	assert(r->n + n <= sizeof(r->b));
	memcpy(r->b + r->n, p, n);
	r->n += n;
}

static inline void raw_frame(struct raw *r, uint8_t type, uint8_t flags, uint32_t id,
                             const void *payload, size_t n)
{
	uint8_t h[9] = { (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, type, flags,
		         (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id };

	raw_bytes(r, h, sizeof(h));
	if (n > 0)
		raw_bytes(r, payload, n);
}

static inline void raw_preface(struct raw *r)
{
	raw_bytes(r, h2_preface, H2_PREFACE_LEN);
	raw_frame(r, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

static inline nghttp2_nv nv(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
		             strlen(value), NGHTTP2_NV_FLAG_NONE };
}

/* HEADERS without a check of what is in it. */
static inline void raw_headers(struct raw *r, uint32_t id, const nghttp2_nv *fields, size_t n,
                               bool end)
{
	static uint8_t block[256 * 1024];
	ssize_t        len = nghttp2_hd_deflate_hd(r->hd, block, sizeof(block), fields, n);

	assert(len >= 0 && len <= 16384);
	raw_frame(r, NGHTTP2_HEADERS, (uint8_t)(NGHTTP2_FLAG_END_HEADERS | (end ? NGHTTP2_FLAG_END_STREAM : 0)),
	          id, block, (size_t)len);
}

static inline void raw_get(struct raw *r, uint32_t id, bool end)
{
	nghttp2_nv f[] = { nv(":method", "GET"), nv(":scheme", "http"), nv(":path", "/"),
		           nv(":authority", "a.test") };

	raw_headers(r, id, f, 4, end);
}

static inline void raw_give(struct raw *r, struct peer *p)
{
	if (r->n > 0 && !p->feed_err)
		peer_feed(p, r->b, r->n);
	r->n = 0;
}

/* What p sent: the payload of the last frame of that type on that stream, or NULL. */
static inline const uint8_t *sent_frame(const struct peer *p, uint8_t type, uint32_t id, size_t *ret_n)
{
	const uint8_t *found = NULL;

	for (size_t at = 0; at + 9 <= p->n_out;) {
		const uint8_t *f = p->out + at;
		size_t         n = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
		uint32_t       fid = (uint32_t)f[5] << 24 | (uint32_t)f[6] << 16 | (uint32_t)f[7] << 8 | f[8];

		if (f[3] == type && fid == id) {
			found = f + 9;
			if (ret_n)
				*ret_n = n;
		}
		at += 9 + n;
	}
	return found;
}

static inline uint32_t u32_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
