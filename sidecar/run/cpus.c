#include "sidecar/run/cpus.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

double cpus_of_quota(const char *text)
{
	double quota, period;

	return sscanf(text, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0
		       ? quota / period
		       : 0;
}

double cpus_of_limit(const char *text)
{
	char *end;
	double n = text ? strtod(text, &end) : 0;

	return text && end != text && *end == 0 && n > 0 && n < 1e9 ? n / 1000 : 0;
}

static double quota_here(void)
{
	FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
	char line[64] = "";

	if (!f)
		return 0;
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	return cpus_of_quota(line);
}

double cpus_given(void)
{
	double limit = cpus_of_limit(getenv("RHC_CPU_LIMIT")), quota = quota_here();
	cpu_set_t set;
	double n = 1;

	if (limit > 0)
		return limit;
	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	return quota > 0 && quota < n ? quota : n;
}
