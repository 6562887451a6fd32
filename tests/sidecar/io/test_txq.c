#include "sidecar/io/txq.h"

#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/base/pipe.h"

static struct buf_pool bufs;
static struct slab     slab;
static struct txmem    mem;
static struct txlist   l;

static void begin(uint32_t blocks, uint32_t small, uint32_t large)
{
	cr_assert_eq(buf_pool_init(&bufs, small, large), 0);
	cr_assert_eq(slab_init(&slab, "txq", sizeof(struct txq), blocks), 0);
	mem = (struct txmem){ &slab, &bufs };
	l = (struct txlist){ 0 };
}

static void end(void)
{
	txlist_clear(&l, mem);
	slab_fini(&slab); /* these assert that everything came back */
	buf_pool_fini(&bufs);
}

static struct slice slice_of(const char *text)
{
	struct buf *b = buf_get(&bufs, BUF_SMALL);
	cr_assert_not_null(b);
	b->len = (uint32_t)strlen(text);
	memcpy(b->data, text, b->len);
	return (struct slice){ b, b->data, b->len };
}

static void expect_block(struct txq *q, const char *text)
{
	char got[256] = "";
	for (uint16_t i = 0; i < q->n; i++)
		strncat(got, q->iov[i].iov_base, q->iov[i].iov_len);
	cr_expect_str_eq(got, text);
}

Test(txq, copies_share_a_segment_until_something_comes_between)
{
	begin(2, 4, 2);
	txlist_copy(&l, mem, "he", 2);
	txlist_copy(&l, mem, "ad", 2);
	txlist_put(&l, mem, slice_of("BODY"));
	txlist_copy(&l, mem, "tail", 4);
	cr_expect_eq(l.bytes, 12);
	cr_expect_eq(bufs.cls[BUF_SMALL].n_free, 2, "one for the copies, one for the body");
	struct txq *q = txlist_seal(&l);
	cr_expect_eq(q->n, 3);
	expect_block(q, "headBODYtail");
	txlist_pop(&l, mem);
	cr_expect_eq(l.bytes, 0);
	cr_expect_eq(bufs.cls[BUF_SMALL].n_free, 4, "an empty list owns nothing");
	cr_expect_eq(slab.in_use, 0);
	end();
}

Test(txq, what_is_in_flight_is_not_touched)
{
	begin(2, 4, 2);
	txlist_copy(&l, mem, "one", 3);
	struct txq *q = txlist_seal(&l);
	txlist_copy(&l, mem, "two", 3);
	cr_expect_eq(q->iov[0].iov_len, 3);
	expect_block(q, "one");
	cr_assert_not_null(txlist_reserve(&l, mem, BUF_LARGE_SIZE));
	txlist_commit(&l, mem, 0);
	txlist_pop(&l, mem);
	expect_block(txlist_seal(&l), "two");
	end();
}

Test(txq, a_full_block_is_followed_by_another)
{
	begin(3, TXQ_SEGS + 2, 1);
	for (int i = 0; i < TXQ_SEGS + 1; i++)
		cr_assert(txlist_put(&l, mem, slice_of("x")));
	cr_expect_eq(slab.in_use, 2);
	cr_expect_eq(txlist_seal(&l)->n, TXQ_SEGS);
	txlist_pop(&l, mem);
	cr_expect_eq(txlist_seal(&l)->n, 1);
	txlist_pop(&l, mem);
	end();
}

Test(txq, without_a_block_or_a_buffer_nothing_is_kept)
{
	begin(1, 2, 1);
	struct slice a = slice_of("a"), b = slice_of("b");
	cr_expect(txlist_put(&l, mem, a));
	txlist_seal(&l);
	cr_expect_not(txlist_put(&l, mem, b), "the only block is in flight");
	cr_expect_eq(txlist_copy(&l, mem, "c", 1), 0);
	cr_expect_null(txlist_reserve(&l, mem, 1));
	cr_expect_eq(bufs.cls[BUF_SMALL].n_free, 1, "the refused slice was dropped");
	txlist_pop(&l, mem);
	end();
}

Test(txq, a_copy_takes_the_other_class_and_then_answers_short)
{
	static uint8_t big[BUF_LARGE_SIZE + BUF_SMALL_SIZE + 10];
	begin(2, 1, 1);
	cr_expect_eq(txlist_copy(&l, mem, big, sizeof(big)), BUF_LARGE_SIZE + BUF_SMALL_SIZE);
	cr_expect_eq(l.bytes, BUF_LARGE_SIZE + BUF_SMALL_SIZE);
	txlist_clear(&l, mem);
	struct buf *only = buf_get(&bufs, BUF_SMALL);
	cr_expect_eq(txlist_copy(&l, mem, "x", 1), 1);
	cr_expect_eq(bufs.cls[BUF_LARGE].n_free, 0);
	buf_unref(only);
	end();
}

Test(txq, reserved_room_is_contiguous_and_may_be_used_in_part)
{
	begin(2, 2, 1);
	txlist_copy(&l, mem, "head ", 5);
	uint8_t *p = txlist_reserve(&l, mem, 100);
	memcpy(p, "body", 4);
	txlist_commit(&l, mem, 4);
	cr_expect_eq(bufs.cls[BUF_SMALL].n_free, 1, "it lies behind the head");
	cr_expect_eq(l.head->n, 1);
	expect_block(txlist_seal(&l), "head body");
	txlist_pop(&l, mem);
	cr_assert_not_null(txlist_reserve(&l, mem, 10));
	txlist_commit(&l, mem, 0);
	cr_expect_eq(slab.in_use, 0, "nothing used, nothing kept");
	end();
}

Test(txq, a_failed_reserve_leaves_a_list_that_can_be_sent)
{
	begin(2, 1, 1);
	txlist_copy(&l, mem, "x", 1);
	txlist_seal(&l);
	struct buf *only = buf_get(&bufs, BUF_LARGE);
	cr_expect_null(txlist_reserve(&l, mem, BUF_LARGE_SIZE));
	txlist_pop(&l, mem);
	cr_expect_eq(slab.in_use, 0);
	txlist_copy(&l, mem, "y", 1);
	expect_block(txlist_seal(&l), "y");
	txlist_pop(&l, mem);
	buf_unref(only);
	end();
}

Test(txq, eating_crosses_segments_and_blocks)
{
	begin(3, TXQ_SEGS + 10, 1);
	const uint8_t *p;
	uint8_t        got[8];
	for (int i = 0; i < TXQ_SEGS; i++)
		txlist_put(&l, mem, slice_of("ab"));
	txlist_put(&l, mem, slice_of("cdef"));
	txlist_eat(&l, mem, 1);
	cr_expect_eq(txlist_peek(&l, &p), 1);
	cr_expect_eq(*p, 'b');
	txlist_eat(&l, mem, 2 * TXQ_SEGS - 2);
	cr_expect_eq(txlist_gather(&l, got, sizeof(got)), 5);
	cr_expect_arr_eq(got, "bcdef", 5);
	cr_expect_eq(txlist_gather(&l, got, 3), 3);
	txlist_eat(&l, mem, 3);
	cr_expect_eq(txlist_peek(&l, &p), 2);
	txlist_eat(&l, mem, 2);
	cr_expect_eq(txlist_peek(&l, &p), 0);
	cr_expect_eq(slab.in_use, 0);
	end();
}

Test(txq, a_pipe_is_a_block_of_its_own_and_leaves_piece_by_piece)
{
	struct pipe_pool pipes;
	begin(3, 4, 2);
	cr_assert_eq(pipe_pool_init(&pipes, 1), 0);
	struct buf *b = pipe_get(&pipes);
	cr_assert_not_null(b);
	txlist_copy(&l, mem, "head", 4);
	cr_assert(txlist_put(&l, mem, (struct slice){ b, b->data, 1000 }));
	txlist_copy(&l, mem, "tail", 4);
	cr_expect_eq(l.bytes, 1008);
	struct txq *q = txlist_seal(&l);
	cr_expect_not(q->pipe);
	expect_block(q, "head");
	txlist_pop(&l, mem);
	q = txlist_seal(&l);
	cr_expect(q->pipe);
	cr_expect_eq(q->n, 1);
	cr_expect_eq(q->bytes, 1000);
	txlist_sent(&l, 999);
	cr_expect_eq(q->bytes, 1);
	cr_expect_eq(l.bytes, 5);
	cr_expect_eq(pipes.n_free, 0);
	txlist_pop(&l, mem);
	cr_expect_eq(pipes.n_free, 1);
	q = txlist_seal(&l);
	expect_block(q, "tail");
	cr_expect_not(q->pipe);
	txlist_pop(&l, mem);
	end();
	pipe_pool_fini(&pipes);
}
