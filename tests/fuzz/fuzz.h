/*
 * tests/fuzz/fuzz.h - what the targets share: demands, pieces, copies.
 *
 * Shape    Each fuzz_<name>.c is one target, LLVMFuzzerTestOneInput().  With clang it is linked with libFuzzer;
 *          without, with replay.c, which runs the files it is given: so the corpora are regression
 *          tests for every compiler.
 * Demands  DEMAND(cond) aborts with the sentence of what was wrong.  A target states what must hold for every
 *          input, not only that nothing crashes.
 * Pieces   How an input is cut follows from its bytes, so one file is one run.
 */
#ifndef RHC_TESTS_FUZZ_H
#define RHC_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_USED __attribute__((unused)) static

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEMAND(cond, ...)                                                                          \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #cond);         \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* FNV-1a: of an input, to choose pieces; of what happened, to compare two runs. */
FUZZ_USED uint64_t fuzz_hash(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * UINT64_C(0x100000001b3);
	return h;
}
#define FUZZ_HASH UINT64_C(0xcbf29ce484222325)

/* xorshift64*; state must not be 0. */
FUZZ_USED uint32_t fuzz_next(uint64_t *state, uint32_t below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

/* A copy of exactly n bytes, so that the sanitizer sees a read behind it.  Free it. */
FUZZ_USED uint8_t *fuzz_copy(const uint8_t *p, size_t n)
{
	uint8_t *c = calloc(n ? n : 1, 1); /* malloc: gcc takes what an empty copy holds for read */

	if (!c)
		abort();
	if (n > 0)
		memcpy(c, p, n);
	return c;
}

/* How many bytes come next: small pieces mostly, sometimes all. */
FUZZ_USED size_t fuzz_piece(uint64_t *state, size_t left)
{
	static const uint32_t most[] = { 1, 2, 7, 40, 500, UINT32_C(1) << 20 };
	size_t                n = 1 + fuzz_next(state, most[fuzz_next(state, 6)]);

	return n < left ? n : left;
}

/* Takes the next bytes of a program: what is missing is 0. */
struct fuzz_tape {
	const uint8_t *p;
	size_t         n;
};

FUZZ_USED uint8_t tape_u8(struct fuzz_tape *t)
{
	if (t->n == 0)
		return 0;
	t->n--;
	return *t->p++;
}

FUZZ_USED uint16_t tape_u16(struct fuzz_tape *t)
{
	uint16_t high = tape_u8(t);

	return (uint16_t)(high << 8 | tape_u8(t));
}

/* At most n bytes. */
FUZZ_USED const uint8_t *tape_bytes(struct fuzz_tape *t, size_t *n)
{
	const uint8_t *p = t->p;

	if (*n > t->n)
		*n = t->n;
	t->p += *n;
	t->n -= *n;
	return p;
}

#endif
