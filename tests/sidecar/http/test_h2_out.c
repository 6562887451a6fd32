/*
 * tests/sidecar/http/test_h2_out.c - slices of a message, and the order of what lies in the byte
 * stream.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "sidecar/http/h2_private.h"

static struct buf_pool pool;

static void setup(void)
{
	cr_assert_eq(buf_pool_init(&pool, 64, 64), 0);
}

static void teardown(void)
{
	buf_pool_fini(&pool); /* asserts that all are back */
}

TestSuite(h2_out, .init = setup, .fini = teardown);

static struct slice piece(uint32_t n, uint64_t at)
{
	struct buf *b = buf_get(&pool, n > BUF_SMALL_SIZE ? BUF_LARGE : BUF_SMALL);

	cr_assert_not_null(b);
	for (uint32_t i = 0; i < n; i++)
		b->data[i] = (uint8_t)(at + i);
	return (struct slice){ b, b->data, n };
}

static void take_all(struct h2_slices *q, uint64_t from, uint64_t to, uint32_t step)
{
	while (from < to) {
		struct slice s = h2_slices_take(q, to - from < step ? (uint32_t)(to - from) : step);

		cr_assert(s.n > 0 && s.n <= step);
		for (uint32_t i = 0; i < s.n; i++)
			cr_assert_eq(s.p[i], (uint8_t)(from + i));
		from += s.n;
		slice_drop(s);
	}
	cr_assert_eq(from, to);
}

/* --- slices --- */

Test(h2_out, few_slices_are_kept_as_they_are)
{
	struct h2_slices q = { .n = 0 };
	struct slice     a = piece(100, 0), got;

	cr_assert(h2_slices_put(&q, &pool, a));
	got = h2_slices_take(&q, 1000);
	cr_assert_eq(got.p, a.p);
	cr_assert_eq(got.n, 100);
	slice_drop(got);
	cr_assert_eq(q.n, 0);
}

Test(h2_out, parts_of_a_slice_share_its_buffer)
{
	struct h2_slices q = { .n = 0 };

	cr_assert(h2_slices_put(&q, &pool, piece(100, 0)));
	take_all(&q, 0, 100, 7);
	cr_assert_eq(q.n, 0);
}

Test(h2_out, pieces_of_one_buffer_become_one_slice_again)
{
	struct h2_slices q = { .n = 0 };
	struct slice     a = piece(100, 0);

	for (uint32_t i = 0; i < 100; i += 10)
		cr_assert(h2_slices_put(&q, &pool, (struct slice){ buf_ref(a.buf), a.p + i, 10 }));
	cr_assert_eq(q.n, 1);
	slice_drop(a);
	take_all(&q, 0, 100, 64);
}

Test(h2_out, a_window_of_single_bytes_fits)
{
	struct h2_slices q = { .n = 0 };
	uint64_t         at = 0;

	for (; at < H2_CONN_WINDOW_MAX; at++) {
		uint8_t one = (uint8_t)at;

		cr_assert(h2_slices_put(&q, &pool, (struct slice){ NULL, &one, 1 }));
	}
	cr_assert_leq(q.n, H2_SLICES);
	take_all(&q, 0, at, 16384);
	cr_assert_eq(q.n, 0);
}

Test(h2_out, whatever_is_put_comes_out_in_order)
{
	for (unsigned seed = 1; seed < 200; seed++) {
		struct h2_slices q = { .n = 0 };
		uint64_t         in = 0, out = 0;

		srand(seed);
		for (int i = 0; i < 500; i++) {
			uint32_t n = 1 + (uint32_t)rand() % 300;

			if (rand() % 3 && in - out < 200000) {
				cr_assert(h2_slices_put(&q, &pool, piece(n, in)));
				in += n;
			} else if (in - out >= n) {
				take_all(&q, out, out + n - n % 3, 3);
				out += n - n % 3;
			}
		}
		cr_assert_eq(h2_slices_drop(&q), in - out);
	}
}

Test(h2_out, without_a_buffer_to_gather_into_it_says_no_and_keeps_nothing_of_it)
{
	struct h2_slices q = { .n = 0 };
	struct buf      *all[64];
	struct slice     s;
	int              n = 0;

	for (int i = 0; i < H2_SLICES_LOOSE; i++)
		cr_assert(h2_slices_put(&q, &pool, piece(1, 0)));
	s = piece(5, 0);
	while (n < 64 && (all[n] = buf_get(&pool, BUF_LARGE)) != NULL)
		n++;
	cr_assert_not(h2_slices_put(&q, &pool, s));
	while (n > 0)
		buf_unref(all[--n]);
	cr_assert_eq(h2_slices_drop(&q), H2_SLICES_LOOSE);
}

/* --- marks --- */

Test(h2_out, sent_bytes_are_told_to_their_message_at_every_cut)
{
	for (uint32_t step = 1; step < 400; step++) {
		struct h2_marks q = { .n = 0 };
		struct h2_msg  *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
		struct h2_sent  sent;
		uint64_t        got[2] = { 0, 0 };
		int             ends[2] = { 0, 0 };
		uint32_t        total = 0;

		for (int i = 0; i < 10; i++) {
			h2_marks_frame(&q, 9);
			h2_marks_body(&q, i % 2 ? a : b, 50);
			total += 59;
		}
		h2_marks_end(&q, a);
		h2_marks_frame(&q, 20); /* trailers of b */
		h2_marks_end(&q, b);
		h2_marks_frame(&q, 17); /* a ping */
		total += 37;
		for (uint32_t at = 0; at < total; at += step) {
			uint32_t n = total - at < step ? total - at : step;

			while (h2_marks_sent(&q, &n, &sent)) {
				got[sent.m == a] += sent.body;
				ends[sent.m == a] += sent.end;
				if (sent.end)
					cr_assert_eq(got[sent.m == a], 250);
			}
			cr_assert_eq(n, 0);
		}
		cr_assert(got[0] == 250 && got[1] == 250 && ends[0] == 1 && ends[1] == 1);
		cr_assert(q.n == 0 && q.tail == 0 && q.lead == 0 && a->marks == 0 && b->marks == 0);
		free(a);
		free(b);
	}
}

Test(h2_out, a_forgotten_message_leaves_its_bytes_in_the_count)
{
	struct h2_marks q = { .n = 0 };
	struct h2_msg  *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
	struct h2_sent  sent;
	uint32_t        n = 218, told = 0;

	h2_marks_frame(&q, 9);
	h2_marks_body(&q, a, 100);
	h2_marks_frame(&q, 9);
	h2_marks_body(&q, b, 100);
	h2_marks_forget(&q, a);
	cr_assert_eq(a->lost, 100);
	while (h2_marks_sent(&q, &n, &sent)) {
		cr_assert_neq(sent.m, a);
		told += sent.m == b ? sent.body : 0;
	}
	cr_assert_eq(told, 100);
	cr_assert_eq(n, 0);
	free(a);
	free(b);
}
