/*
 * sidecar/run/cpus.h - how many CPUs we may use, for workers: auto.
 *
 * Order   $RHC_CPU_LIMIT in thousandths (Downward API, divisor 1m), else the lesser of the cgroup's
 *         quota and the affinity.
 */
#ifndef RHC_SIDECAR_RUN_CPUS_H
#define RHC_SIDECAR_RUN_CPUS_H

double cpus_given(void);
/* "max 100000", "50000 100000": CPUs of a cpu.max, 0 where it sets no limit or makes no sense. */
double cpus_of_quota(const char *text);
/* "1500" is 1.5, 0 where it makes no sense. */
double cpus_of_limit(const char *text);

#endif
