/*
 * tests/shm/fixture.h - a segment in a directory of its own, workers on it, a clock that the test
 * moves.
 *
 * fx_start() before, fx_stop() after each test; everything is in struct fx so that nothing is
 * global but fx.
 */
#ifndef RHC_TESTS_SHM_FIXTURE_H
#define RHC_TESTS_SHM_FIXTURE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/admin.h"

#define FX_WORKERS 8

static struct fx {
	char dir[64], path[128];
	struct rhc_segment seg;
	struct rhc_refusal refusal;
	struct rhc_segment_opt opt;
	struct rhc_worker w[FX_WORKERS];
	uint64_t now, wake;
	uint32_t up;
	int lock_fd;
} fx;

static const struct rhc_policy fx_policy = {
	.failure_threshold = 3,
	.recovery_ms = 1000,
	.half_open_max = 1,
	.success_threshold = 1,
	.lease_ms = 5000,
	.limit = 2,
};

static inline uint64_t fx_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline void fx_dir(void)
{
	struct statfs fs;
	bool tmpfs = statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
	             access("/dev/shm", W_OK) == 0;

	memset(&fx, 0, sizeof(fx));
	fx.seg.fd = fx.seg.master_fd = fx.lock_fd = -1;
	snprintf(fx.dir, sizeof(fx.dir), "%s/rhc-test-XXXXXX", tmpfs ? "/dev/shm" : "/tmp");
	cr_assert_not_null(mkdtemp(fx.dir));
	snprintf(fx.path, sizeof(fx.path), "%s/t.shm", fx.dir);
	fx.now = 1000000;
	fx.opt = (struct rhc_segment_opt){
		.path = fx.path,
		.shape = { .workers = FX_WORKERS, .upstreams = 4, .slots = 256, .ring_len = 64 },
		.allow_disk = !tmpfs,
		.mono_ns = fx.now * 1000000,
		.wall_ns = UINT64_C(1790000000) * 1000000000,
	};
}

static inline void fx_adopt(void)
{
	cr_assert_eq(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), 0, "%s", fx.refusal.text);
	fx.lock_fd = rhc_lock_open(&fx.seg);
	cr_assert_geq(fx.lock_fd, 0);
}

static inline void fx_declare(const struct rhc_policy *policy)
{
	cr_assert_eq(rhc_upstream_declare(&fx.seg, "orders", policy, fx.now, &fx.up, &fx.wake), 0);
}

static inline void fx_start(void)
{
	fx_dir();
	fx_adopt();
	fx_declare(&fx_policy);
}

static inline void fx_stop(void)
{
	char command[128];

	if (fx.lock_fd >= 0)
		close(fx.lock_fd);
	rhc_segment_detach(&fx.seg);
	snprintf(command, sizeof(command), "rm -rf '%s'", fx.dir);
	cr_assert_eq(system(command), 0);
}

static inline struct rhc_worker *fx_worker(uint32_t index)
{
	struct rhc_worker_id id = { .pid = 100 + index, .generation = 1, .version = "test" };
	int rc = rhc_worker_register(&fx.w[index], &fx.seg, index, &id, fx.now, &fx.wake);

	cr_assert_eq(rc, 0, "register %u: %s", index, strerror(-rc));
	return &fx.w[index];
}

/* Nothing is left behind: no slot, no permit, no ticket, every free slot hinted. */
static inline void fx_assert_quiet(void)
{
	struct rhc_finding found[8];
	uint32_t n = rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 8);

	cr_assert_eq(n, 0, "audit: %s upstream %u index %u word %llx",
	             n ? rhc_finding_name(found[0].what) : "", n ? found[0].upstream : 0,
	             n ? found[0].index : 0, n ? (unsigned long long)found[0].word : 0);
	cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 0);
	cr_assert_eq(rhc_bulkhead_waiting(&fx.seg, fx.up), 0);
	for (unsigned k = 0; k < RHC_PROBES_MAX; k++)
		cr_assert_eq(rhc_seg_up(&fx.seg, fx.up)->permit[k], 0);
}

#endif
