/*
 * tests/proto/test_h2_mem.c - the session's allocator.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>

#include "proto/h2_mem.h"

Test(h2_mem, a_freed_block_is_the_next_of_its_class)
{
	struct h2_mem m;
	void         *a, *b;

	h2_mem_init(&m);
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

	h2_mem_init(&m);
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

Test(h2_mem, resize_keeps_what_was_there)
{
	struct h2_mem m;
	char         *p;

	h2_mem_init(&m);
	p = h2_mem_resize(&m, NULL, 10);
	strcpy(p, "123456789");
	p = h2_mem_resize(&m, p, 60);
	p = h2_mem_resize(&m, p, 20000);
	cr_assert_str_eq(p, "123456789");
	h2_mem_free(&m, p);
	h2_mem_free(&m, NULL);
	h2_mem_fini(&m);
}

Test(h2_mem, zeroed_memory_is_zero)
{
	struct h2_mem m;
	uint8_t      *p;

	h2_mem_init(&m);
	p = h2_mem_alloc(&m, 64);
	memset(p, 0xff, 64);
	h2_mem_free(&m, p);
	p = h2_mem_zalloc(&m, 8, 8);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(p[i], 0);
	h2_mem_free(&m, p);
	h2_mem_fini(&m);
}

Test(h2_mem, a_product_that_wraps_ends_the_process, .signal = SIGABRT)
{
	struct h2_mem m;

	h2_mem_init(&m);
	h2_mem_zalloc(&m, SIZE_MAX / 2, 4);
}
