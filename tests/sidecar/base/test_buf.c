#include "sidecar/base/buf.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

Test(buf, an_empty_class_answers_null_and_the_other_goes_on)
{
	struct buf_pool p;
	struct buf     *b[2], *large;

	cr_assert_eq(buf_pool_init(&p, 2, 1), 0);
	b[0] = buf_get(&p, BUF_SMALL);
	b[1] = buf_get(&p, BUF_SMALL);
	cr_assert_null(buf_get(&p, BUF_SMALL));
	large = buf_get(&p, BUF_LARGE);
	cr_assert_not_null(large);
	cr_assert_eq(buf_cap(b[0]), BUF_SMALL_SIZE);
	cr_assert_eq(buf_cap(large), BUF_LARGE_SIZE);
	memset(b[0]->data, 1, BUF_SMALL_SIZE);
	memset(b[1]->data, 2, BUF_SMALL_SIZE);
	memset(large->data, 3, BUF_LARGE_SIZE);
	cr_assert_eq(b[0]->data[BUF_SMALL_SIZE - 1], 1);
	cr_assert_eq(p.cls[BUF_SMALL].n_low, 0);
	buf_unref(b[0]);
	buf_unref(b[1]);
	buf_unref(large);
	buf_unref(NULL);
	buf_pool_fini(&p);
}

Test(buf, comes_back_with_its_last_reference_and_is_the_next_to_go)
{
	struct buf_pool p;
	struct buf     *b;

	cr_assert_eq(buf_pool_init(&p, 8, 8), 0);
	b = buf_get(&p, BUF_SMALL);
	b->len = 99;
	cr_assert_eq(buf_ref(b), b);
	buf_unref(b);
	cr_assert_eq(p.cls[BUF_SMALL].n_free, 7);
	slice_drop((struct slice){ .buf = b });
	cr_assert_eq(p.cls[BUF_SMALL].n_free, 8);
	cr_assert_eq(buf_get(&p, BUF_SMALL), b);
	cr_assert_eq(b->len, 0);
	cr_assert_eq(b->refs, 1);
	buf_unref(b);
	buf_pool_fini(&p);
}

Test(buf, ids_find_the_buffer_again)
{
	struct buf_pool p;
	struct buf     *b[50];

	cr_assert_eq(buf_pool_init(&p, 50, 1), 0);
	for (int i = 0; i < 50; i++) {
		b[i] = buf_get(&p, BUF_SMALL);
		cr_assert_eq(&p.cls[BUF_SMALL].all[b[i]->id], b[i]);
	}
	for (int i = 0; i < 50; i++)
		buf_unref(b[i]);
	buf_pool_fini(&p);
}

Test(buf, ending_the_pool_with_a_buffer_out_asserts, .signal = SIGABRT)
{
	struct buf_pool p;

	buf_pool_init(&p, 2, 2);
	(void)buf_get(&p, BUF_SMALL);
	buf_pool_fini(&p);
}

Test(buf, one_unref_too_many_asserts, .signal = SIGABRT)
{
	struct buf_pool p;
	struct buf     *b;

	buf_pool_init(&p, 2, 2);
	b = buf_get(&p, BUF_SMALL);
	buf_unref(b);
	buf_unref(b);
}
