#include "sidecar/run/cpus.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(cpus, a_quota_is_read_as_the_kernel_writes_it)
{
	cr_expect_eq(cpus_of_quota("max 100000\n"), 0);
	cr_expect_eq(cpus_of_quota("50000 100000\n"), 0.5);
	cr_expect_eq(cpus_of_quota("250000 100000"), 2.5);
	cr_expect_eq(cpus_of_quota("100000 0"), 0);
	cr_expect_eq(cpus_of_quota("-1 100000"), 0);
	cr_expect_eq(cpus_of_quota(""), 0);
	cr_expect_eq(cpus_of_quota("max"), 0);
}

Test(cpus, a_limit_is_in_thousandths_and_nonsense_is_none)
{
	cr_expect_eq(cpus_of_limit("1500"), 1.5);
	cr_expect_eq(cpus_of_limit("20"), 0.02);
	cr_expect_eq(cpus_of_limit("0"), 0);
	cr_expect_eq(cpus_of_limit("-5"), 0);
	cr_expect_eq(cpus_of_limit("1500m"), 0);
	cr_expect_eq(cpus_of_limit(""), 0);
	cr_expect_eq(cpus_of_limit("nan"), 0);
	cr_expect_eq(cpus_of_limit("inf"), 0);
	cr_expect_eq(cpus_of_limit(NULL), 0);
}

Test(cpus, the_environment_wins_and_there_is_always_more_than_none)
{
	unsetenv("RHC_CPU_LIMIT");
	cr_expect_gt(cpus_given(), 0);
	setenv("RHC_CPU_LIMIT", "3000", 1);
	cr_expect_eq(cpus_given(), 3);
	setenv("RHC_CPU_LIMIT", "many", 1);
	cr_expect_gt(cpus_given(), 0);
}
