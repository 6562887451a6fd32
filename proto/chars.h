/*
 * proto/chars.h - classes of bytes, and finding the first byte that is not of a class.
 *
 * Input    Bytes p[0..n) that may lie directly before an unmapped page: nothing is read behind
 *          them.
 * Output   The index of the first byte outside of the class, n when there is none.
 * Speed    16 bytes at a time with SSE2, which every x86-64 has, and 8 with plain words elsewhere.
 * RFC      9110 §5.6.2 (token), §5.5 (field-content), 9112 §3.2 with 3986 (target), 3986 §3.2.2
 *          (host).
 */
#ifndef RHC_PROTO_CHARS_H
#define RHC_PROTO_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
	CHARS_TOKEN = 1, /* tchar */
	CHARS_VALUE = 2, /* HTAB, SP, VCHAR, obs-text */
	CHARS_TARGET = 4, /* VCHAR without '#' */
	CHARS_HOST = 8, /* unreserved, '%', sub-delims without ',' */
	CHARS_DIGIT = 16,
	CHARS_HEX = 32,
	CHARS_UPPER = 64,
};

extern const uint8_t chars_class[256];

static inline bool chars_is(uint8_t c, unsigned cls)
{
	return (chars_class[c] & cls) != 0;
}

static inline uint8_t chars_lower(uint8_t c)
{
	return (uint8_t)(c | (chars_class[c] & CHARS_UPPER) >> 1); /* 64 >> 1 is 0x20 */
}

static inline size_t chars_span(const uint8_t *p, size_t n, unsigned cls)
{
	size_t i = 0;

	while (i < n && chars_is(p[i], cls))
		i++;
	return i;
}

/* The length of the prefix of field-value bytes; stops at CR, LF, NUL and other controls. */
static inline size_t chars_span_value(const uint8_t *p, size_t n)
{
	size_t i = 0;

#ifdef __SSE2__
	const __m128i last_ctl = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t');
	const __m128i del = _mm_set1_epi8(0x7f);

	for (; n - i >= 16; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
		__m128i ctl = _mm_cmpeq_epi8(_mm_min_epu8(v, last_ctl), v);
		__m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), ctl),
		                           _mm_cmpeq_epi8(v, del));
		int mask = _mm_movemask_epi8(bad);

		if (mask != 0)
			return i + (size_t)__builtin_ctz((unsigned)mask);
	}
#else
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;

	for (; n - i >= 8; i += 8) {
		uint64_t v, del;

		memcpy(&v, p + i, 8);
		del = v ^ (ones * 0x7f);
		/* a byte below 0x20 or equal to 0x7f may be there; the loop below looks closely */
		if ((((v - ones * 0x20) & ~v) | ((del - ones) & ~del)) & high)
			break;
	}
#endif
	/* i == n also where p is NULL: an empty string, to which not even 0 may be added (C17 6.5.6) */
	return i == n ? n : i + chars_span(p + i, n - i, CHARS_VALUE);
}

/*
 * 16 bytes, in no order: may every one stand in a field value?  Without SSE2 also false for some that
 * may (HTAB): look closely then.
 */
static inline bool chars_16_are_value(uint64_t a, uint64_t b)
{
#ifdef __SSE2__
	__m128i v = _mm_set_epi64x((long long)a, (long long)b);
	__m128i ctl = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
	__m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\t')), ctl),
	                           _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)));

	return _mm_movemask_epi8(bad) == 0;
#else
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
	uint64_t       c = a ^ ones * 0x7f, d = b ^ ones * 0x7f;

	return ((((a - ones * 0x20) & ~a) | ((b - ones * 0x20) & ~b) | ((c - ones) & ~c) |
	         ((d - ones) & ~d)) &
	        high) == 0;
#endif
}

/*
 * chars_span_value(p, n) == n, for a string whose end is known: the last bytes are looked at together with
 * some before them, not one by one.
 */
static inline bool chars_is_value(const uint8_t *p, size_t n)
{
	size_t   whole = n & ~(size_t)15;
	uint64_t a, b;

	if (n > 16) {
		if (chars_span_value(p, whole) != whole)
			return false;
		p += n - 16;
		n = 16;
	}
	if (n >= 8) {
		memcpy(&a, p, 8);
		memcpy(&b, p + n - 8, 8);
	} else if (n >= 4) {
		uint32_t lo, hi;

		memcpy(&lo, p, 4);
		memcpy(&hi, p + n - 4, 4);
		a = b = (uint64_t)hi << 32 | lo;
	} else {
		return chars_span(p, n, CHARS_VALUE) == n;
	}
	return chars_16_are_value(a, b) || chars_span(p, n, CHARS_VALUE) == n;
}

/* The length of the prefix of request-target bytes. */
static inline size_t chars_span_target(const uint8_t *p, size_t n)
{
	size_t i = 0;

#ifdef __SSE2__
	/* signed compare: obs-text is negative and so below */
	const __m128i sp = _mm_set1_epi8(0x20), del = _mm_set1_epi8(0x7f);
	const __m128i hash = _mm_set1_epi8('#');

	for (; n - i >= 16; i += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
		__m128i no = _mm_or_si128(_mm_cmpeq_epi8(v, del), _mm_cmpeq_epi8(v, hash));
		int     good = _mm_movemask_epi8(_mm_andnot_si128(no, _mm_cmpgt_epi8(v, sp)));

		if (good != 0xffff)
			return i + (size_t)__builtin_ctz(~(unsigned)good);
	}
#endif
	return i == n ? n : i + chars_span(p + i, n - i, CHARS_TARGET);
}

#endif
