/*
 * tests/stress/kill.c - SIGKILL after each single instruction of each operation, then reap, then
 * look.
 *
 * Deterministic: the victim is forked from the same state each time and stepped with ptrace, so
 * instruction k is always the same one.  A run without a kill finds the instructions after which
 * the segment differs; after those the victim is always killed, after the others as far as the
 * time goes (--seconds; --all for every one): between two stores the segment is the same, so the
 * kill is too. Second victim: the reaper itself is killed at a random instruction, and another one
 * finishes its work.
 *
 *   stress_kill [--seconds N] [--all] [--case TEXT] [--seed N]
 *
 * Ends with 0 if nothing is wrong and the broken variant was found out, 77 where ptrace is not
 * allowed.
 */
#include "kill.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#define TOY_BYTES 16    /* of the variant that must leak */
#define STEPS_MAX 60000 /* of one operation or one reap */
#define PAIRS     6     /* kills of the reaper per case, unless --all */

static struct world world, fresh;
static uint8_t *image, *last_image;
static _Atomic int *done; /* shared with the victim: operate() has ended */
static char dir[64], path[96];
static unsigned seed = 1;
static uint64_t ignored;

struct tally {
	unsigned kills, pairs, repaired, wrong;
	char why[128];
};

static void die(const char *what)
{
	fprintf(stderr, "stress_kill: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the world ---- */

static void make_world(void)
{
	struct rhc_policy policy = { .failure_threshold = 3,
				     .recovery_ms = 1000,
				     .half_open_max = 1,
				     .success_threshold = 1,
				     .lease_ms = 5000,
				     .limit = K_LIMIT };
	struct rhc_segment_opt opt = { .path = path,
		.shape = { .workers = 3, .upstreams = 2, .hosts = 2, .slots = 64, .ring_len = 16 },
		.mono_ns = 1, .wall_ns = 1, .allow_disk = true };
	struct rhc_worker_id id = { .pid = 1 };
	struct rhc_refusal r;
	struct statfs fs;

	snprintf(dir, sizeof(dir), "%s/rhc-kill-XXXXXX",
	         statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_MAGIC ? "/dev/shm" : "/tmp");
	if (!mkdtemp(dir))
		die(dir);
	snprintf(path, sizeof(path), "%s/k.shm", dir);
	if (rhc_segment_adopt(&world.seg, &opt, &r)) {
		fprintf(stderr, "stress_kill: %s\n", r.text);
		exit(1);
	}
	world.now = 1000000;
	world.lock_fd = rhc_lock_open(&world.seg);
	if (rhc_upstream_declare(&world.seg, "first", &policy, world.now, &world.up, &ignored))
		die("declare");
	rhc_host_policy(&world.seg, &policy, world.now, &ignored);
	for (unsigned i = 0; i < 3; i += 2) {
		if (rhc_worker_register(&world.w[i], &world.seg, i, &id, world.now, &ignored))
			die("register");
		rhc_bulkhead_init(&world.b[i], &world.w[i], world.up);
		rhc_breaker_init(&world.brk[i], &world.w[i], world.up);
	}
	world.toy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	image = malloc(world.seg.size);
	last_image = malloc(world.seg.size + TOY_BYTES); /* survey() keeps both */
	memcpy(image, world.seg.base, world.seg.size);
	fresh = world;
}

static void restore(void)
{
	memcpy(world.seg.base, image, world.seg.size);
	world = fresh;
	memset((void *)world.toy, 0, 64);
	atomic_store(done, 0);
}

/* ---- victims ---- */

static pid_t start(const struct kill_case *c)
{
	int status = 0;
	pid_t pid;

	restore();
	c->prepare(&world);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		/* its own descriptions only: not the parent's workers', not MASTER's */
		close(world.w[0].lock_fd);
		close(world.w[2].lock_fd);
		if (c->begin)
			c->begin(&world);
		else
			k_register(&world);
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(77);
		raise(SIGSTOP);
		c->operate(&world);
		atomic_store(done, 1);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
		fprintf(stderr, "stress_kill: %s: victim ended before it began (%x)\n", c->name,
		        (unsigned)status);
		exit(WIFEXITED(status) && WEXITSTATUS(status) == 77 ? 77 : 1);
	}
	if (c->meanwhile)
		c->meanwhile(&world);
	return pid;
}

/* One instruction; false when the process has ended. */
static bool step(pid_t pid)
{
	int status = 0;

	if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, &status, 0) != pid)
		die("step");
	return WIFSTOPPED(status);
}

static void finish(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Up to k instructions, then SIGKILL. */
static void step_and_kill(pid_t pid, unsigned k)
{
	for (unsigned i = 0; i < k; i++) {
		if (!step(pid))
			return;
	}
	finish(pid);
}

/*
 * A run to the end: how many instructions, and after which the segment differs (event rings where
 * asked for).
 */
static unsigned survey(pid_t pid, uint8_t *changed, bool rings)
{
	size_t from = 0; /* the header too: what is published stands there */
	size_t len = (rings ? world.seg.size : world.seg.hdr.off_ring) - from;
	unsigned n = 0;

	memcpy(last_image, world.seg.base + from, len);
	memcpy(last_image + len, (void *)world.toy, TOY_BYTES);
	while (n < STEPS_MAX && step(pid)) {
		n++;
		changed[n] = memcmp(last_image, world.seg.base + from, len) != 0 ||
		             memcmp(last_image + len, (void *)world.toy, TOY_BYTES) != 0;
		if (changed[n]) {
			memcpy(last_image, world.seg.base + from, len);
			memcpy(last_image + len, (void *)world.toy, TOY_BYTES);
		}
		if (atomic_load(done))
			break;
	}
	finish(pid);
	return n;
}

/* ---- the reaper, and what must be true afterwards ---- */

static pid_t start_reaper(void)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		struct rhc_reaped r;
		uint64_t wake = 0;
		int fd = rhc_lock_open(&world.seg);

		close(world.w[0].lock_fd);
		close(world.w[2].lock_fd);
		if (fd < 0 || ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(1);
		raise(SIGSTOP);
		rhc_reap(&world.seg, fd, K_VICTIM, world.now, &r, &wake);
		atomic_store(done, 2);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return pid;
}

static unsigned reaper_length(void)
{
	pid_t pid = start_reaper();
	unsigned n = 0;

	atomic_store(done, 0);
	while (n < STEPS_MAX && step(pid)) {
		n++;
		if (atomic_load(done) == 2)
			break;
	}
	finish(pid);
	return n;
}

/* Waiters poll until there is nothing to do, as they would on their tick. */
static void deliver(void)
{
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < 3; i += 2) {
			struct rhc_slot got;

			if (world.waits[i] &&
			    rhc_bulkhead_poll(&world.b[i], world.now, &got, &ignored)) {
				world.waits[i] = false;
				rhc_bulkhead_release(&world.b[i], &got, world.now, &ignored);
			}
		}
	}
}

static const char *capacity_is_whole(void)
{
	struct rhc_slot slot[9] = { 0 };
	struct rhc_policy policy;
	unsigned n = 0;
	const char *wrong;

	rhc_policy_load(rhc_seg_up(&world.seg, world.up), &policy);
	while (n <= policy.limit &&
	       rhc_bulkhead_try(&world.b[2], world.now, &slot[n], &ignored) == RHC_TAKE_GOT)
		n++;
	wrong = n < policy.limit ? "capacity is lost" : n > policy.limit ? "above the limit" : NULL;
	while (n)
		rhc_bulkhead_release(&world.b[2], &slot[--n], world.now, &ignored);
	return wrong;
}

static const char *look(const struct kill_case *c, uint64_t wake, uint64_t waiting)
{
	struct rhc_finding found[4];
	const char *wrong = c->check ? c->check(&world) : NULL;

	if (wrong)
		return wrong;
	if (waiting & ~wake)
		return "a waiter was not woken by the reaper";
	if (c->ticked)
		rhc_bulkhead_reconcile(&world.seg, world.up, world.now, NULL, &ignored);
	deliver();
	for (unsigned i = 0; i < 8; i++)
		rhc_bulkhead_release(&world.b[0], &world.slot[i], world.now, &ignored);
	if (c->ticked)
		rhc_bulkhead_reconcile(&world.seg, world.up, world.now, NULL, &ignored);
	deliver();
	if (world.waits[0] || world.waits[2])
		return "a waiter sleeps beside a free slot";
	rhc_breaker_record(&world.brk[0], &world.permit[0], RHC_OUTCOME_NONE, 0, world.now);
	if (rhc_view_audit(&world.seg, world.lock_fd, world.now, found, 4) != 0)
		return rhc_finding_name(found[0].what);
	if (rhc_bulkhead_in_use(&world.seg, world.up) || rhc_bulkhead_waiting(&world.seg, world.up))
		return "something is left behind";
	return capacity_is_whole();
}

/* The victim is dead.  Is there something to repair?  Repair, look. */
static void judge(const struct kill_case *c, unsigned k, struct tally *t)
{
	struct rhc_finding found[4];
	struct rhc_reaped r;
	uint64_t wake = 0,
		 waiting = rhc_bulkhead_waiters(&world.seg, world.up) & ~(UINT64_C(1) << K_VICTIM);
	bool live = (uint32_t)atomic_load(&rhc_seg_worker(&world.seg, K_VICTIM)->word) !=
		    RHC_WORKER_FREE;
	uint32_t n = rhc_view_audit(&world.seg, world.lock_fd, world.now, found, 4);
	const char *wrong;

	t->repaired += n > (live ? 1u : 0u); /* the record itself is always found */
	rhc_reap(&world.seg, world.lock_fd, K_VICTIM, world.now, &r, &wake);
	wrong = look(c, wake, live ? waiting : 0);
	if (!wrong)
		return;
	if (t->wrong++ == 0)
		snprintf(t->why, sizeof(t->why), "instruction %u: %s", k, wrong);
}

static void kill_at(const struct kill_case *c, unsigned k, struct tally *t)
{
	step_and_kill(start(c), k);
	t->kills++;
	judge(c, k, t);
}

static void kill_pair(const struct kill_case *c, unsigned k, unsigned reaper, struct tally *t)
{
	step_and_kill(start(c), k);
	step_and_kill(start_reaper(), 1 + (unsigned)rand_r(&seed) % reaper);
	t->pairs++;
	judge(c, k, t);
}

/* ---- one case ---- */

static unsigned kill_all(const struct kill_case *c, const uint8_t *changed, unsigned n,
			 double budget, struct tally *t)
{
	double end = seconds() + budget;
	unsigned changes = 0, stride;

	for (unsigned k = 1; k <= n; k++) {
		changes += changed[k];
		if (changed[k])
			kill_at(c, k, t);
	}
	/*
	 * The rest from coarse to fine: whatever the time allows is spread over the whole
	 * operation.
	 */
	for (stride = 64; stride; stride /= 2) {
		for (unsigned k = stride; k <= n && seconds() < end; k += stride) {
			if (!changed[k] && (stride == 64 || k % (2 * stride)))
				kill_at(c, k, t);
		}
	}
	return changes;
}

static void kill_pairs(const struct kill_case *c, const uint8_t *changed, unsigned n,
		       unsigned pairs, double budget, struct tally *t)
{
	double end = seconds() + budget;
	unsigned reaper, k = 1;

	step_and_kill(start(c), n / 2);
	reaper = reaper_length();
	for (unsigned i = 0; i < pairs && (i < 2 || seconds() < end); i++) {
		/* mostly after a store of the victim: there is something to reap */
		for (unsigned tries = 0; tries < 1000; tries++) {
			k = 1 + (unsigned)rand_r(&seed) % n;
			if (changed[k] || tries % 8 == 7)
				break;
		}
		kill_pair(c, k, reaper, t);
	}
}

/* Registered before it is stepped: then there is something to reap at each kill. */
static bool victim_is_worker(const struct kill_case *c)
{
	pid_t pid = start(c);
	bool live = (uint32_t)atomic_load(&rhc_seg_worker(&world.seg, K_VICTIM)->word) ==
		    RHC_WORKER_LIVE;

	finish(pid);
	return live;
}

static bool run(const struct kill_case *c, double budget, bool all)
{
	static uint8_t changed[STEPS_MAX + 2];
	struct tally t = { 0 };
	unsigned n, changes;
	bool ok;

	memset(changed, 0, sizeof(changed));
	n = survey(start(c), changed, all || strncmp(c->name, "event", 5) == 0);
	changes = kill_all(c, changed, n, all ? 1e9 : budget, &t);
	if (victim_is_worker(c))
		kill_pairs(c, changed, n, all ? 200 : PAIRS, all ? 1e9 : budget, &t);
	ok = (t.wrong != 0) == c->must_fail && n < STEPS_MAX;
	printf("%-30s %6u instructions %3u changes %5u kills %4u pairs %4u repaired %4u wrong%s%s\n", c->name,
	       n, changes, t.kills, t.pairs, t.repaired, t.wrong,
	       ok ? c->must_fail ? "  (found out, as it must be)" : "" : "  <-- ", ok ? "" : t.why);
	fflush(stdout);
	return ok;
}

/* Tracer and victim take turns: on one processor a step needs no wake-up across processors. */
static void stay_here(void)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0 : (unsigned)cpu, &one);
	sched_setaffinity(0, sizeof(one), &one); /* only a matter of speed */
}

static void clean(void)
{
	unlink(path);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	const char *only = "";
	double budget = 25;
	bool all = false, ok = true;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--all") == 0)
			all = true;
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
			budget = atof(argv[++i]);
		else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc)
			only = argv[++i];
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = (unsigned)atoi(argv[++i]);
		else
			return fprintf(stderr, "usage: stress_kill [--seconds N] [--all] [--case TEXT] [--seed N]\n"), 2;
	}
	stay_here();
	make_world();
	atexit(clean);
	for (unsigned i = 0; i < n_kill_cases; i++) {
		if (strstr(kill_cases[i].name, only))
			ok &= run(&kill_cases[i], budget / (2.0 * n_kill_cases), all);
	}
	printf("%s\n", ok ? "0 wrong" : "WRONG: see above");
	return ok ? 0 : 1;
}
