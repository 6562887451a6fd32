#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/config/suggest.h"

static unsigned distance(const char *a, const char *b)
{
	return suggest_distance(a, strlen(a), b, strlen(b));
}

Test(suggest, one_slip_is_one_step)
{
	static const struct {
		const char *says, *a, *b;
		unsigned steps;
	} rows[] = {
		{ "the same", "read", "read", 0 },
		{ "letter case is no slip", "Read", "rEAD", 0 },
		{ "a letter missing", "max_atempts", "max_attempts", 1 },
		{ "a letter too many", "reead", "read", 1 },
		{ "a wrong letter", "reat", "read", 1 },
		{ "two letters swapped", "raed", "read", 1 },
		{ "swapped at the end", "secnods", "seconds", 1 },
		{ "nothing typed", "", "read", 4 },
		{ "nothing alike", "abc", "xyz", 3 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_expect_eq(distance(rows[i].a, rows[i].b), rows[i].steps, "%s", rows[i].says);
		cr_expect_eq(distance(rows[i].b, rows[i].a), rows[i].steps, "%s, the other way",
			     rows[i].says);
	}
}

Test(suggest, the_longest_word_is_measured_and_a_longer_one_is_never_similar)
{
	char word[SUGGEST_MAX + 2];

	memset(word, 'x', sizeof(word));
	cr_expect_eq(suggest_distance(word, SUGGEST_MAX, word, SUGGEST_MAX), 0);
	cr_expect_gt(suggest_distance(word, SUGGEST_MAX + 1, word, SUGGEST_MAX + 1), SUGGEST_MAX);
}

Test(suggest, the_nearest_candidate_wins_and_a_far_one_is_not_named)
{
	struct suggest s = { 0 };

	suggest_offer(&s, "conect", 6, "count");
	suggest_offer(&s, "conect", 6, "connect");
	suggest_offer(&s, "conect", 6, "content");
	cr_expect_str_eq(s.best, "connect");
	s = (struct suggest){ 0 };
	suggest_offer(&s, "colour", 6, "retry");
	suggest_offer(&s, "x", 1, "a");
	cr_expect_null(s.best);
}
