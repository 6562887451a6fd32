/*
 * tests/lib/malloc_count.c - LD_PRELOAD: counts allocations of every process while a flag is set.
 *
 * The file of MALLOC_COUNT is mapped by all of them: word 0 is the flag that the test sets, word 1 the count, words 2.. the
 * return addresses of the first ones (for a readable failure).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORDS = 64 };

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t m);
extern void *__libc_realloc(void *p, size_t n);

static _Atomic uint64_t *shared;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("MALLOC_COUNT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		shared = p;
}

static void count(void *from)
{
	uint64_t n;

	if (!shared || !atomic_load_explicit(&shared[0], memory_order_relaxed))
		return;
	n = atomic_fetch_add(&shared[1], 1);
	if (n + 2 < WORDS)
		atomic_store(&shared[n + 2], (uint64_t)(uintptr_t)from);
}

void *malloc(size_t n)
{
	count(__builtin_return_address(0));
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
	count(__builtin_return_address(0));
	return __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
	count(__builtin_return_address(0));
	return __libc_realloc(p, n);
}
