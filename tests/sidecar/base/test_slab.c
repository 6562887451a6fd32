#include "sidecar/base/slab.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "sidecar/base/list.h"
#include "sidecar/base/obj.h"

Test(slab, an_empty_slab_answers_null_and_counts_it)
{
	struct slab s;
	void       *p[3];

	cr_assert_eq(slab_init(&s, "call", 100, 3), 0);
	for (int i = 0; i < 3; i++) {
		p[i] = slab_get(&s);
		cr_assert_not_null(p[i]);
		cr_assert_eq((uintptr_t)p[i] % SLAB_ALIGN, 0);
		memset(p[i], i, 100);
	}
	cr_assert_null(slab_get(&s));
	cr_assert_null(slab_get(&s));
	cr_assert_eq(s.refused, 2);
	cr_assert_eq(s.in_use, 3);
	slab_put(&s, p[1]);
	cr_assert_eq(slab_get(&s), p[1], "the one used last is used next");
	for (int i = 0; i < 3; i++)
		slab_put(&s, p[i]);
	cr_assert_eq(s.in_use, 0);
	cr_assert_eq(s.high, 3);
	slab_put(&s, NULL);
	slab_fini(&s);
}

Test(slab, only_what_was_in_use_together_is_touched)
{
	struct slab s;

	cr_assert_eq(slab_init(&s, "many", 4096, 100000), 0);
	for (int i = 0; i < 1000; i++)
		slab_put(&s, slab_get(&s));
	cr_assert_eq(s.touched, 1);
	slab_fini(&s);
}

Test(slab, every_object_has_its_own_index_and_memory)
{
	struct slab s;
	uint64_t   *p[200];

	cr_assert_eq(slab_init(&s, "x", sizeof(uint64_t), 200), 0);
	for (uint64_t i = 0; i < 200; i++) {
		p[i] = slab_get(&s);
		*p[i] = i;
	}
	for (uint64_t i = 0; i < 200; i++) {
		cr_assert_eq(*p[i], i);
		cr_assert_lt(slab_index(&s, p[i]), 200);
		for (uint64_t k = 0; k < i; k++)
			cr_assert_neq(slab_index(&s, p[i]), slab_index(&s, p[k]));
	}
	for (int i = 0; i < 200; i++)
		slab_put(&s, p[i]);
	slab_fini(&s);
}

Test(slab, impossible_sizes_are_refused)
{
	struct slab s;

	cr_assert_eq(slab_init(&s, "x", 0, 5), -EINVAL);
	cr_assert_eq(slab_init(&s, "x", 5, 0), -EINVAL);
	cr_assert_eq(slab_init(&s, "x", SIZE_MAX, 5), -ENOMEM);
	cr_assert_eq(slab_init(&s, "x", UINT32_MAX / 4, UINT32_MAX - 5), -ENOMEM);
}

Test(slab, giving_back_twice_asserts, .signal = SIGABRT)
{
	struct slab s;
	void       *p;

	slab_init(&s, "x", 10, 2);
	p = slab_get(&s);
	slab_put(&s, p);
	slab_put(&s, p);
}

Test(slab, giving_back_a_stranger_asserts, .signal = SIGABRT)
{
	struct slab s;
	int         stranger;

	slab_init(&s, "x", 10, 2);
	(void)slab_get(&s);
	slab_put(&s, &stranger);
}

Test(slab, giving_back_the_middle_of_an_object_asserts, .signal = SIGABRT)
{
	struct slab s;

	slab_init(&s, "x", 10, 2);
	slab_put(&s, (char *)slab_get(&s) + 1);
}

Test(slab, ending_it_with_objects_lent_asserts, .signal = SIGABRT)
{
	struct slab s;

	slab_init(&s, "x", 10, 2);
	(void)slab_get(&s);
	slab_fini(&s);
}

struct thing {
	uint32_t         magic;
	int              value;
	struct list_node node;
};

Test(obj, the_wrong_magic_asserts, .signal = SIGABRT)
{
	struct thing t;

	OBJ_INIT(&t, 0x1234);
	OBJ_CHECK(&t, 0x1234);
	OBJ_CHECK(&t, 0x1235);
}

Test(obj, a_second_end_asserts, .signal = SIGABRT)
{
	struct thing t;

	OBJ_INIT(&t, 0x1234);
	OBJ_FINI(&t, 0x1234);
	OBJ_FINI(&t, 0x1234);
}

static void expect_order(struct list *l, const char *want)
{
	char got[16] = "";
	int  n = 0;

	LIST_FOREACH (node, l)
		got[n++] = (char)('0' + LIST_ENTRY(node, struct thing, node)->value);
	cr_assert_str_eq(got, want);
}

Test(list, keeps_its_order)
{
	struct thing t[6] = { 0 };
	struct list  l, m;

	list_init(&l);
	list_init(&m);
	cr_assert(list_empty(&l));
	cr_assert_null(list_first(&l));
	cr_assert_null(list_last(&l));
	cr_assert_null(list_pop_front(&l));
	for (int i = 0; i < 6; i++) {
		t[i].value = i;
		cr_assert(!list_linked(&t[i].node));
		if (i < 3)
			list_push_back(&l, &t[i].node);
		else
			list_push_front(&m, &t[i].node);
	}
	expect_order(&l, "012");
	expect_order(&m, "543");
	list_splice_back(&l, &m);
	list_splice_back(&l, &m);
	expect_order(&l, "012543");
	cr_assert(list_empty(&m));
	list_remove(&t[2].node);
	list_remove(&t[2].node);
	cr_assert_eq(list_last(&l), &t[3].node);
	expect_order(&l, "01543");
	LIST_FOREACH_SAFE (n, &l)
		list_remove(n);
	cr_assert(list_empty(&l));
}

Test(list, linking_twice_asserts, .signal = SIGABRT)
{
	struct thing t = { 0 };
	struct list  l;

	list_init(&l);
	list_push_back(&l, &t.node);
	list_push_back(&l, &t.node);
}
