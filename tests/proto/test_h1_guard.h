/*
 * tests/proto/test_h1_guard.h - bytes that end directly before an unmapped page, so reading behind them kills.
 */
#ifndef RHC_TEST_H1_GUARD_H
#define RHC_TEST_H1_GUARD_H

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD_SIZE = 1 << 18, GUARD_PAGE = 4096 };

static uint8_t *guard_end(void)
{
	static uint8_t *end;

	if (end == NULL) {
		uint8_t *p = mmap(NULL, GUARD_SIZE + GUARD_PAGE, PROT_READ | PROT_WRITE,
		                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || mprotect(p + GUARD_SIZE, GUARD_PAGE, PROT_NONE) != 0)
			__builtin_trap();
		end = p + GUARD_SIZE;
	}
	return end;
}

/* A copy of p[0..n) that ends at the guard page; good until the next call. */
static const uint8_t *guarded(const void *p, size_t n)
{
	uint8_t *at = guard_end() - n;

	memcpy(at, p, n);
	return at;
}

#endif
