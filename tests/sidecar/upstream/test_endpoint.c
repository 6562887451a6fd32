/* sidecar/upstream/endpoint.h: which address comes next. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/upstream/endpoint.h"

#define NOW (1000 * NS_PER_S)

static union resolver_addr ip(unsigned last)
{
	union resolver_addr a;

	memset(&a, 0, sizeof(a));
	a.in.sin_family = AF_INET;
	a.in.sin_port = htons(80);
	a.in.sin_addr.s_addr = htonl(0x0a000000u + last);
	return a;
}

static void set(struct endpoints *e, unsigned first, unsigned n, uint32_t generation)
{
	union resolver_addr a[RESOLVER_ADDRS_MAX];

	for (unsigned i = 0; i < n; i++)
		a[i] = ip(first + i);
	endpoints_update(e, a, n, generation);
}

Test(endpoint, no_address_is_an_answer)
{
	struct endpoints e;

	endpoints_init(&e);
	cr_assert_eq(endpoints_pick(&e, 0, NOW), ENDPOINT_NONE);
	set(&e, 1, 0, 1);
	cr_assert_eq(endpoints_pick(&e, 0, NOW), ENDPOINT_NONE);
}

Test(endpoint, healthy_ones_take_turns)
{
	struct endpoints e;
	unsigned seen[3] = { 0, 0, 0 };

	endpoints_init(&e);
	set(&e, 1, 3, 1);
	for (int i = 0; i < 9; i++)
		seen[endpoints_pick(&e, 0, NOW)]++;
	cr_assert(seen[0] == 3 && seen[1] == 3 && seen[2] == 3);
}

Test(endpoint, of_two_the_one_with_less_to_do_is_taken)
{
	struct endpoints e;

	endpoints_init(&e);
	set(&e, 1, 2, 1);
	e.row[0].in_flight = 5;
	for (int i = 0; i < 4; i++)
		cr_assert_eq(endpoints_pick(&e, 0, NOW), 1);
}

Test(endpoint, one_that_failed_comes_last_for_a_while)
{
	struct endpoints e;

	endpoints_init(&e);
	set(&e, 1, 3, 1);
	endpoints_failed(&e, 1, NOW);
	for (int i = 0; i < 6; i++)
		cr_assert_neq(endpoints_pick(&e, 0, NOW + 1), 1);
	cr_assert_eq(endpoints_pick(&e, 1U << 0 | 1U << 2, NOW + 1), 1);
	endpoints_failed(&e, 0, NOW + 2);
	endpoints_failed(&e, 2, NOW + 3);
	cr_assert_eq(endpoints_pick(&e, 0, NOW + 4), 1,
		     "all failed: the one that failed longest ago");
	cr_assert_neq(endpoints_pick(&e, 0, NOW + ENDPOINT_PENALTY_NS + 10), ENDPOINT_NONE);
	endpoints_ok(&e, 2);
	cr_assert_eq(endpoints_pick(&e, 0, NOW + 5), 2);
}

Test(endpoint, a_retry_goes_somewhere_else_if_there_is_somewhere_else)
{
	struct endpoints e;

	endpoints_init(&e);
	set(&e, 1, 2, 1);
	cr_assert_eq(endpoints_left(&e, 1U << 0), 1);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(endpoints_pick(&e, 1U << 0, NOW), 1);
	endpoints_failed(&e, 1, NOW);
	cr_assert_eq(endpoints_pick(&e, 1U << 0, NOW), 1, "also one that failed before");
	cr_assert_neq(endpoints_pick(&e, 3, NOW), ENDPOINT_NONE, "all were tried: again");
}

Test(endpoint, an_address_that_stays_keeps_its_history)
{
	struct endpoints e;
	union resolver_addr next[2] = { ip(2), ip(9) };

	endpoints_init(&e);
	set(&e, 1, 2, 1);
	endpoints_failed(&e, 1, NOW);
	e.row[0].conns = 1;
	endpoints_update(&e, next, 2, 2);
	cr_assert(e.row[0].gone && !e.row[1].gone);
	cr_assert_eq(e.row[1].failures, 1);
	cr_assert_eq(e.n, 3);
	cr_assert(resolver_addr_equal(&e.row[2].addr, &next[1]));
	for (int i = 0; i < 6; i++)
		cr_assert_neq(endpoints_pick(&e, 0, NOW), 0, "gone ones are not taken");
	e.row[0].conns = 0;
	set(&e, 20, 1, 3);
	cr_assert_eq(e.n, 3);
	cr_assert(resolver_addr_equal(&e.row[0].addr, &(union resolver_addr){ .in = ip(20).in }));
}

Test(endpoint, never_more_rows_than_there_are)
{
	struct endpoints e;

	endpoints_init(&e);
	set(&e, 1, RESOLVER_ADDRS_MAX, 1);
	for (uint32_t i = 0; i < e.n; i++)
		e.row[i].conns = 1;
	set(&e, 100, RESOLVER_ADDRS_MAX, 2);
	cr_assert_eq(e.n, RESOLVER_ADDRS_MAX);
	cr_assert_eq(endpoints_left(&e, 0), 0, "until connections to the old ones are closed");
	cr_assert_eq(endpoints_pick(&e, 0, NOW), ENDPOINT_NONE);
}
