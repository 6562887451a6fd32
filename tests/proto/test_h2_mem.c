/*
 * tests/proto/test_h2_mem.c - the session's allocator.
 */
#include <criterion/criterion.h>
#include <stdalign.h>
#include <string.h>

#include "proto/h2_mem.h"

Test(h2_mem, a_freed_block_is_the_next_of_its_class)
{
	struct h2_mem m;
	void         *a, *b;

	h2_mem_init(&m, 1 << 20);
	a = h2_mem_alloc(&m, 100);
	cr_assert_eq((uintptr_t)a % alignof(max_align_t), 0);
	h2_mem_free(&m, a);
	b = h2_mem_alloc(&m, 128);
	cr_assert_eq(a, b);
	cr_assert_eq(m.mallocs, 1);
	h2_mem_free(&m, b);
	h2_mem_fini(&m);
}

Test(h2_mem, every_size_can_be_written_to_its_last_byte)
{
	struct h2_mem m;
	void         *p[200];

	h2_mem_init(&m, 1 << 24);
	for (size_t i = 0; i < 200; i++) {
		p[i] = h2_mem_alloc(&m, i * 97);
		memset(p[i], (int)i, i * 97);
	}
	for (size_t i = 0; i < 200; i++) {
		for (size_t k = 0; k < i * 97; k++)
			cr_assert_eq(((uint8_t *)p[i])[k], (uint8_t)i);
		h2_mem_free(&m, p[i]);
	}
	cr_assert_leq(m.kept, H2_MEM_KEEP);
	h2_mem_fini(&m);
}

Test(h2_mem, the_limit_holds_and_freeing_makes_room)
{
	struct h2_mem m;
	void         *p[64];
	int           n = 0;

	h2_mem_init(&m, 10000);
	while (n < 64 && (p[n] = h2_mem_alloc(&m, 1000)) != NULL)
		n++;
	cr_assert_eq(n, 9);
	cr_assert_null(h2_mem_alloc(&m, 1000));
	h2_mem_free(&m, p[--n]);
	p[n] = h2_mem_alloc(&m, 900);
	cr_assert_not_null(p[n++]);
	while (n > 0)
		h2_mem_free(&m, p[--n]);
	h2_mem_fini(&m);
}

Test(h2_mem, resize_keeps_what_was_there)
{
	struct h2_mem m;
	char         *p;

	h2_mem_init(&m, 1 << 20);
	p = h2_mem_resize(&m, NULL, 10);
	strcpy(p, "123456789");
	p = h2_mem_resize(&m, p, 60);
	p = h2_mem_resize(&m, p, 20000);
	cr_assert_str_eq(p, "123456789");
	h2_mem_free(&m, p);
	h2_mem_free(&m, NULL);
	h2_mem_fini(&m);
}

Test(h2_mem, zeroed_memory_is_zero_and_products_do_not_wrap)
{
	struct h2_mem m;
	uint8_t      *p;

	h2_mem_init(&m, 1 << 20);
	p = h2_mem_alloc(&m, 64);
	memset(p, 0xff, 64);
	h2_mem_free(&m, p);
	p = h2_mem_zalloc(&m, 8, 8);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(p[i], 0);
	h2_mem_free(&m, p);
	cr_assert_null(h2_mem_zalloc(&m, SIZE_MAX / 2, 4));
	h2_mem_fini(&m);
}
