#include "sidecar/run/stats.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"

static uint64_t ns_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_usec * 1000;
}

/* Second figure of statm: resident pages.  0 where there is no /proc. */
static uint64_t resident(void)
{
	char text[128], *at;
	ssize_t n;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	(void)strtoull(text, &at, 10);
	return strtoull(at, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void stats_begin(struct stats *told)
{
	*told = (struct stats){ .log_lines = log_lines(), .log_dropped = log_dropped() };
}

void stats_process(struct stats *told, _Atomic uint64_t *row)
{
	uint64_t lines = log_lines(), dropped = log_dropped(), cpu;
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) == 0) {
		cpu = ns_of(u.ru_utime) + ns_of(u.ru_stime);
		if (cpu > told->cpu_ns)
			rhc_ctr_add(row, RHC_WCTR_cpu_ns, cpu - told->cpu_ns);
		told->cpu_ns = cpu > told->cpu_ns ? cpu : told->cpu_ns;
	}
	rhc_ctr_set(row, RHC_WCTR_rss_bytes, resident());
	rhc_ctr_add(row, RHC_WCTR_log_lines, lines - told->log_lines);
	rhc_ctr_add(row, RHC_WCTR_log_dropped, dropped - told->log_dropped);
	told->log_lines = lines;
	told->log_dropped = dropped;
}

void stats_buffers(const struct buf_pool *pool, _Atomic uint64_t *row)
{
	uint64_t all = 0, free = 0;

	for (unsigned i = 0; i < BUF_CLASSES; i++) {
		all += pool->cls[i].count;
		free += pool->cls[i].n_free;
	}
	rhc_ctr_set(row, RHC_WCTR_buffers_max, all);
	rhc_ctr_set(row, RHC_WCTR_buffers_in_use, all - free);
}

void stats_end(_Atomic uint64_t *row)
{
	for (unsigned i = 0; i < RHC_WCTR_COUNT; i++) {
		if (rhc_wctr_kind(i) == RHC_KIND_GAUGE)
			rhc_ctr_set(row, i, 0);
	}
}
