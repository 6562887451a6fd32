#include "sidecar/config/suggest.h"

#include <string.h>

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* ASCII only: names of keys are. */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

unsigned suggest_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	/* Three rows are enough: a swap looks two rows back. */
	unsigned row[3][SUGGEST_MAX + 1];
	unsigned *before = row[0], *last = row[1], *now = row[2], *spare;

	if (a_len > SUGGEST_MAX || b_len > SUGGEST_MAX)
		return SUGGEST_MAX + 1;
	memset(row, 0, sizeof(row));
	for (size_t j = 0; j <= b_len; j++)
		last[j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			char x = lower(a[i - 1]), y = lower(b[j - 1]);

			now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y &&
			    before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
		spare = before;
		before = last;
		last = now;
		now = spare;
	}
	return last[b_len];
}

void suggest_offer(struct suggest *s, const char *word, size_t len, const char *candidate)
{
	size_t c_len = strlen(candidate);
	unsigned d = suggest_distance(word, len, candidate, c_len);
	/* A third of the letters may be wrong; a word of one or two letters must be nearly right. */
	unsigned allowed = (unsigned)((len > c_len ? len : c_len) + 2) / 3;

	if (d > allowed || d >= c_len || (s->best && d >= s->distance))
		return;
	s->best = candidate;
	s->distance = d;
}
