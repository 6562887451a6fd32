#include "sidecar/admin/text.h"

#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/admin/admin.h"

Test(text, pieces_of_any_size_come_out_as_they_went_in)
{
	static char big[70000];
	struct text t = { 0 };
	size_t n = 0;

	memset(big, 'x', sizeof(big) - 1);
	for (size_t size = 1; size < sizeof(big); size = size * 3 + 1) {
		text_add(&t, "%.*s", (int)size, big);
		n += size;
		cr_assert_eq(t.n, n);
	}
	cr_assert_not(t.failed);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(t.p[i], 'x');
	text_fini(&t);
	cr_assert_null(t.p);
}

Test(text, a_piece_that_fills_the_room_to_the_last_byte_is_whole)
{
	for (int last = 16380; last <= 16388; last++) {
		struct text t = { 0 };

		text_add(&t, "%*d", last, 1);
		text_add(&t, "%s", "23");
		cr_assert_eq(t.n, (size_t)last + 2);
		cr_assert_eq(memcmp(t.p + t.n - 3, "123", 3), 0);
		text_fini(&t);
	}
}

Test(text, beyond_the_limit_it_has_failed_and_stays_so)
{
	struct text t = { 0 };

	cr_assert_not_null(text_room(&t, ADMIN_ANSWER_MAX / 2));
	t.n += ADMIN_ANSWER_MAX / 2;
	cr_assert_null(text_room(&t, ADMIN_ANSWER_MAX / 2 + 1));
	cr_assert(t.failed);
	text_add(&t, "more");
	cr_assert_eq(t.n, (size_t)ADMIN_ANSWER_MAX / 2);
	cr_assert_null(text_room(&t, 1));
	text_fini(&t);
}
