/* sidecar/exchange/body.h: queue and replay buffer against a plain array of bytes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/exchange/body.h"

enum { POOL = 600, HELD = 64, BYTES_MAX = 1 << 20, REPLAY = 65536 };

static struct buf_pool pool;
static uint32_t seed;

static void begin(void)
{
	const char *text = getenv("TEST_SEED");

	seed = text ? (uint32_t)atol(text) : 1;
	cr_assert_eq(buf_pool_init(&pool, POOL, POOL), 0);
}

static void end(void)
{
	buf_pool_fini(&pool); /* asserts that every reference was given back */
}

TestSuite(body, .init = begin, .fini = end, .timeout = 60);

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525U + 1013904223U;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

/* Byte i of the body is this, so that every byte that is out of place shows. */
static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 131 + (i >> 8) * 7 + 3);
}

/* n bytes of the body from `at` on, somewhere within a buffer as a receive would leave them. */
static struct slice piece(uint64_t at, uint32_t n)
{
	struct buf *b = buf_get(&pool, n > BUF_SMALL_SIZE ? BUF_LARGE : BUF_SMALL);
	uint32_t off;

	cr_assert_not_null(b);
	off = rnd(buf_cap(b) - n + 1);
	for (uint32_t i = 0; i < n; i++)
		b->data[off + i] = byte_at(at + i);
	b->len = off + n;
	return (struct slice){ b, b->data + off, n };
}

static void append(struct body *b, uint32_t n)
{
	cr_assert_eq(body_append(b, &pool, piece(b->bytes, n)), 0);
}

static void check(const struct slice *s, uint64_t at)
{
	for (uint32_t i = 0; i < s->n; i++)
		cr_assert_eq(s->p[i], byte_at(at + i), "byte %llu", (unsigned long long)(at + i));
}

static uint64_t read_all(struct body *b, uint64_t at)
{
	struct slice s;

	while (body_next(b, &s)) {
		check(&s, at);
		at += s.n;
		slice_drop(s);
	}
	return at;
}

/* What a send queue holds: read later, when more has been appended behind it. */
struct held {
	struct slice s[HELD];
	uint64_t at[HELD];
	uint32_t n;
};

static void let_go(struct held *h, uint32_t n)
{
	for (; n > 0 && h->n > 0; n--) {
		uint32_t i = rnd(h->n);

		check(&h->s[i], h->at[i]);
		slice_drop(h->s[i]);
		h->n--;
		h->s[i] = h->s[h->n];
		h->at[i] = h->at[h->n];
	}
}

static uint32_t size(void)
{
	static const uint32_t sizes[] = { 1, 7, 100, 1005, 2047, 2048, 2100, 4096, 9000, 16384 };

	return rnd(3) ? 1 + rnd(sizes[rnd(sizeof(sizes) / sizeof(sizes[0]))]) : sizes[rnd(10)];
}

/* One call: bytes come, attempts take them and begin again, until the end; at most a window waits. */
static void one_life(uint32_t max_replay, uint32_t length)
{
	struct body b;
	struct held h = { .n = 0 };
	uint64_t read = 0;
	struct slice s;

	body_init(&b, max_replay);
	while (read < length) {
		uint32_t n = size();

		if (n > length - b.bytes)
			n = (uint32_t)(length - b.bytes);
		switch (rnd(8)) {
		case 0:
			if (b.replay) {
				body_rewind(&b);
				read = 0;
			}
			break;
		case 1:
			if (rnd(40) == 0)
				body_no_replay(&b);
			break;
		case 2:
		case 3:
			let_go(&h, rnd(HELD));
			break;
		case 4:
		case 5:
			if (n > 0 && b.bytes - read + n <= 65536)
				append(&b, n);
			break;
		default:
			if (h.n == HELD)
				let_go(&h, 1);
			if (body_next(&b, &s)) {
				check(&s, read);
				h.s[h.n] = s;
				h.at[h.n++] = read;
				read += s.n;
			} else {
				cr_assert_eq(read, b.bytes, "nothing may be lost");
			}
			break;
		}
		cr_assert(!b.replay || b.bytes <= max_replay);
		cr_assert(!b.replay || b.kept == b.bytes, "all of it is kept while there may be a replay");
	}
	if (b.replay) {
		body_rewind(&b);
		cr_assert_eq(read_all(&b, 0), length);
	}
	let_go(&h, HELD);
	body_fini(&b);
	body_fini(&b); /* twice is fine */
}

Test(body, what_goes_in_comes_out_whatever_the_order_of_calls)
{
	for (unsigned i = 0; i < 300; i++)
		one_life(REPLAY, 1 + rnd(200000));
}

Test(body, a_large_replay_is_kept_whole)
{
	for (unsigned i = 0; i < 10; i++)
		one_life(BYTES_MAX, 1 + rnd(BYTES_MAX - 1));
}

Test(body, without_a_replay_nothing_is_kept)
{
	for (unsigned i = 0; i < 50; i++)
		one_life(0, 1 + rnd(300000));
}

Test(body, pieces_of_any_one_size_fill_a_window_while_an_attempt_holds_what_was_sent)
{
	static const uint32_t sizes[] = { 1, 5, 24, 999, 1005, 2000, 2047, 2048, 2049, 2731, 4095, 8000, 8193, 16384 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct held h = { .n = 0 };
		struct body b;
		uint64_t read = 0;

		body_init(&b, REPLAY);
		while (b.bytes + sizes[i] <= REPLAY) {
			append(&b, sizes[i]);
			while (h.n < HELD && body_next(&b, &h.s[h.n])) {
				h.at[h.n] = read;
				read += h.s[h.n++].n;
			}
		}
		cr_assert(b.replay);
		body_rewind(&b);
		cr_assert_eq(read_all(&b, 0), b.bytes, "size %u", sizes[i]);
		let_go(&h, HELD);
		body_fini(&b);
	}
}

Test(body, bytes_that_wait_find_a_place_even_when_nothing_may_be_kept)
{
	struct body b;

	for (uint32_t n = 1; n < 16384; n = n * 3 / 2 + 1) {
		body_init(&b, 0);
		while (b.bytes + n <= 65536)
			append(&b, n);
		cr_assert(!b.replay);
		cr_assert_leq(b.count, BODY_SLICES);
		cr_assert_eq(read_all(&b, 0), b.bytes);
		body_fini(&b);
	}
}

Test(body, small_pieces_do_not_pin_a_buffer_each)
{
	struct body b;

	body_init(&b, REPLAY);
	for (unsigned i = 0; i < 3000; i++)
		append(&b, 3);
	cr_assert_eq(b.count, 1);
	body_fini(&b);
}

Test(body, the_first_byte_beyond_the_replay_ends_it)
{
	struct body b;
	struct slice s;

	body_init(&b, 5000);
	append(&b, 3000);
	cr_assert(body_next(&b, &s));
	slice_drop(s);
	append(&b, 2000);
	cr_assert(b.replay);
	append(&b, 1);
	cr_assert_not(b.replay);
	cr_assert_eq(b.kept, 2001, "what was sent is dropped, what waits is not");
	cr_assert_eq(read_all(&b, 3000), 5001);
	body_fini(&b);
}

Test(body, without_buffers_pieces_are_kept_as_they_came)
{
	struct buf *all[POOL];
	struct body b;
	unsigned n = 0;

	body_init(&b, REPLAY);
	while (n < POOL && (all[n] = buf_get(&pool, BUF_LARGE)))
		n++;
	for (unsigned i = 0; i < 10; i++)
		append(&b, 10);
	cr_assert_eq(b.count, 10);
	cr_assert_eq(read_all(&b, 0), 100);
	body_fini(&b);
	while (n > 0)
		buf_unref(all[--n]);
}
