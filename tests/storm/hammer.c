/*
 * storm_hammer [--seconds N] [--seed N] [--events N]: kill, stop and reap processes that share one segment.
 * Ends with 0 when nothing was lost, 1 with a sentence when something was, 77 when it could not run here.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#include "shm/breaker.h"
#include "shm/bulkhead.h"
#include "tests/storm/hammer.h"

#define HAMMER_END_MS 10000 /* everybody has finished what they had */

/* What it says, kills, stops, admin, failures in percent, flowing. */
static const struct hammer_phase phases[] = {
	{ "kills", 1, 0, 0, 0, true },
	{ "stops", 0, 1, 0, 0, true },
	{ "kills and stops", 2, 1, 0, 0, true },
	{ "kills, stops and a failing upstream", 3, 1, 0, 12, false },
	{ "kills, stops, failures and an operator who is killed too", 4, 1, 2, 12, false },
};

struct process {
	pid_t pid;
	uint64_t life, continue_at; /* 0: it runs */
};

struct storm {
	struct hammer h;
	struct process worker[HAMMER_WORKERS], admin;
	uint64_t lives, counters[RHC_CTR_COUNT], longest_gap_ms, looks;
	unsigned random, kills, stops, admin_kills, reaps;
	bool namespaces;
	int lock_fd;
	char dir[64], path[96];
};

uint64_t hammer_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

unsigned hammer_random(unsigned *state, unsigned below)
{
	*state = *state * 1664525u + 1013904223u;
	return (unsigned)((uint64_t)(*state >> 4) * below >> 28);
}

void hammer_fail(struct hammer *h, const char *fmt, ...)
{
	uint32_t nobody = 0;
	va_list ap;

	if (!atomic_compare_exchange_strong(&h->seen->failed, &nobody, 1))
		return;
	va_start(ap, fmt);
	vsnprintf(h->seen->failure, sizeof(h->seen->failure), fmt, ap);
	va_end(ap);
}

void hammer_wake(const struct hammer *h, uint64_t mask)
{
	const uint64_t one = 1;

	for (unsigned i = 0; i < HAMMER_WORKERS; i++) {
		if (mask >> i & 1 && write(h->wake_fds[i], &one, sizeof(one)) < 0)
			continue; /* full: it is awake */
	}
}

/* ---- processes ---- */

/* Each is pid 1 of its own namespace: whoever used a pid for anything would meet its own. */
static pid_t start(struct storm *s)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = { .flags = s->namespaces ? CLONE_NEWPID : 0, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	return (pid_t)pid;
}

static void start_worker(struct storm *s, uint32_t index)
{
	struct process *p = &s->worker[index];

	*p = (struct process){ .life = ++s->lives };
	p->pid = start(s);
	if (p->pid == 0)
		hammer_worker(&s->h, index, p->life);
	if (p->pid < 0)
		hammer_fail(&s->h, "clone: %s", strerror(errno));
}

static void start_admin(struct storm *s)
{
	s->admin = (struct process){ .pid = start(s) };
	if (s->admin.pid == 0)
		hammer_admin(&s->h);
	if (s->admin.pid < 0)
		hammer_fail(&s->h, "clone: %s", strerror(errno));
}

static void take_back(struct storm *s, uint32_t index)
{
	struct rhc_reaped reaped;
	uint64_t wake = 0;
	int rc = rhc_reap(&s->h.seg, s->lock_fd, index, hammer_now_ms(), &reaped, &wake);

	/* At waitpid the kernel has dropped its byte; -EBUSY: a peer reaps it just now. */
	if (rc != 0 && rc != -EBUSY)
		hammer_fail(&s->h, "rhc_reap(%u): %s", index, strerror(-rc));
	s->reaps += reaped.record;
	hammer_wake(&s->h, wake);
}

static void end_process(struct process *p)
{
	if (p->pid <= 0) /* never was: kill() would mean somebody else */
		return;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	p->pid = 0;
}

/* Reaped at once, or left to a peer's tick, or to its own successor. */
static void kill_worker(struct storm *s, uint32_t index)
{
	struct process *p = &s->worker[index];

	s->h.seen->dead_life[index] = p->life;
	end_process(p);
	s->kills++;
	if (hammer_random(&s->random, 3))
		take_back(s, index);
	start_worker(s, index);
}

static void stop_worker(struct storm *s, uint32_t index)
{
	struct process *p = &s->worker[index];
	/* Mostly a moment, sometimes longer than a probe's lease. */
	unsigned ms = hammer_random(&s->random, 20) ? 1 + hammer_random(&s->random, 60) : HAMMER_LEASE_MS + 300;

	if (p->continue_at || p->pid <= 0)
		return;
	kill(p->pid, SIGSTOP);
	p->continue_at = hammer_now_ms() + ms;
	s->stops++;
}

static void continue_workers(struct storm *s, uint64_t now)
{
	for (unsigned i = 0; i < HAMMER_WORKERS; i++) {
		struct process *p = &s->worker[i];

		if (!p->continue_at || now < p->continue_at || p->pid <= 0)
			continue;
		kill(p->pid, SIGCONT);
		p->continue_at = 0;
	}
}

static void one_event(struct storm *s)
{
	const struct hammer_phase *phase = &s->h.seen->phase;
	unsigned dice = hammer_random(&s->random, phase->kills + phase->stops + phase->admin);
	uint32_t index = hammer_random(&s->random, HAMMER_WORKERS);

	if (dice < phase->kills) {
		kill_worker(s, index);
	} else if (dice < phase->kills + phase->stops) {
		stop_worker(s, index);
	} else {
		end_process(&s->admin);
		s->admin_kills++;
		start_admin(s);
	}
}

/* ---- looking ---- */

static void look_at_counters(struct storm *s)
{
	uint64_t now[RHC_CTR_COUNT];

	rhc_view_counters(&s->h.seg, s->h.upstream, false, now, RHC_CTR_COUNT);
	for (unsigned i = 0; i < RHC_CTR_COUNT; i++) {
		if (now[i] < s->counters[i])
			hammer_fail(&s->h, "counter %u fell from %llu to %llu", i, (unsigned long long)s->counters[i],
			            (unsigned long long)now[i]);
	}
	memcpy(s->counters, now, sizeof(now));
	s->looks++;
}

static void look_at_flow(struct storm *s, uint64_t now)
{
	uint64_t last = s->h.seen->last_got_ms, gap = now > last ? now - last : 0;

	if (!s->h.seen->phase.flowing)
		return;
	if (gap > s->longest_gap_ms)
		s->longest_gap_ms = gap;
	if (gap > HAMMER_GAP_MS)
		hammer_fail(&s->h, "nobody got a slot for %llu ms", (unsigned long long)gap);
}

static void look_at_quiet(struct storm *s)
{
	struct rhc_finding found[8];
	struct hammer *h = &s->h;
	uint32_t n = rhc_view_audit(&h->seg, s->lock_fd, hammer_now_ms(), found, RHC_COUNT(found));
	struct rhc_up *up = rhc_seg_up(&h->seg, h->upstream);

	if (n)
		hammer_fail(h, "%u findings when all is quiet: %s, index %u, worker %u, word %llx", n,
		            rhc_finding_name(found[0].what), found[0].index, found[0].worker,
		            (unsigned long long)found[0].word);
	if (rhc_bulkhead_in_use(&h->seg, h->upstream))
		hammer_fail(h, "%u slots are leaked", rhc_bulkhead_in_use(&h->seg, h->upstream));
	if (rhc_bulkhead_waiting(&h->seg, h->upstream) || up->waitmask)
		hammer_fail(h, "somebody waits when nobody is there");
	for (unsigned k = 0; k < RHC_PROBES_MAX; k++) {
		if (up->permit[k])
			hammer_fail(h, "probe permit %u is lost", k);
	}
	if (RHC_CTL_LIMIT(up->ctl) != HAMMER_LIMIT || RHC_CTL_HW(up->ctl) != HAMMER_LIMIT)
		hammer_fail(h, "the limit is %u, the high water %u", RHC_CTL_LIMIT(up->ctl), RHC_CTL_HW(up->ctl));
}

/* ---- a phase ---- */

static void settle(struct storm *s)
{
	struct rhc_change change;
	struct rhc_admin a;
	struct rhc_reaped sum;
	uint64_t wake = 0;

	for (unsigned i = 0; i < 64; i++) /* a killed admin's byte is free at once, a living peer's soon */
		if (rhc_admin_begin(&a, &s->h.seg, 0, 1) == 0)
			break;
	rhc_admin_limit_clear(&a, s->h.upstream, NULL, hammer_now_ms(), &change);
	rhc_admin_breaker(&a, s->h.upstream, RHC_VERB_CLOSE, 0, NULL, hammer_now_ms(), &change);
	rhc_admin_end(&a);
	rhc_reap_all(&s->h.seg, s->lock_fd, RHC_WORKERS_MAX, hammer_now_ms(), &sum, &wake);
	rhc_bulkhead_reconcile(&s->h.seg, s->h.upstream, hammer_now_ms(), NULL, &wake);
}

/* 0 it left in good order. */
static int wait_for(struct process *p, uint64_t until)
{
	int status = -ECHILD;

	if (p->pid <= 0)
		return status;
	while (waitpid(p->pid, &status, WNOHANG) == 0) {
		if (hammer_now_ms() > until) {
			end_process(p);
			return -ETIMEDOUT;
		}
		usleep(1000);
	}
	p->pid = 0;
	return status;
}

static void end_phase(struct storm *s)
{
	uint64_t until = hammer_now_ms() + HAMMER_END_MS;

	continue_workers(s, UINT64_MAX);
	s->h.seen->stop = 1;
	if (s->admin.pid && wait_for(&s->admin, until) != 0)
		hammer_fail(&s->h, "the admin did not end");
	for (unsigned i = 0; i < HAMMER_WORKERS; i++) {
		int rc = wait_for(&s->worker[i], until);

		if (rc != 0)
			hammer_fail(&s->h, "worker %u did not end in good order: %d, its calls are stranded", i, rc);
	}
	settle(s);
	look_at_counters(s);
	if (!s->h.seen->failed)
		look_at_quiet(s);
}

static void begin_phase(struct storm *s, const struct hammer_phase *phase)
{
	s->h.seen->phase = *phase;
	s->h.seen->stop = 0;
	s->h.seen->last_got_ms = hammer_now_ms();
	for (unsigned i = 0; i < HAMMER_WORKERS; i++)
		start_worker(s, i);
	if (phase->admin)
		start_admin(s);
}

static uint64_t sum(const _Atomic uint64_t *of)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < HAMMER_WORKERS; i++)
		n += of[i];
	return n;
}

static bool run_phase(struct storm *s, const struct hammer_phase *phase, uint64_t ms)
{
	struct witness *seen = s->h.seen;
	uint64_t end = hammer_now_ms() + ms, look_at = 0, got = sum(seen->got);

	begin_phase(s, phase);
	while (!seen->failed && hammer_now_ms() < end) {
		uint64_t now = hammer_now_ms();

		one_event(s);
		continue_workers(s, now);
		if (now >= look_at) {
			look_at_counters(s);
			look_at_flow(s, now);
			look_at = now + 100;
		}
		usleep(hammer_random(&s->random, 4000));
	}
	end_phase(s);
	if (!seen->failed && sum(seen->got) == got)
		hammer_fail(&s->h, "nothing got through");
	printf("%-58s %s: %u kills, %u stops, %llu slots taken, %llu after waiting (longest %llu ms), %llu gave up, "
	       "%llu refused, %llu probes, %llu changes by hand, longest gap %llu ms\n",
	       phase->name, seen->failed ? "FAILED" : "fine", s->kills, s->stops, (unsigned long long)sum(seen->got),
	       (unsigned long long)sum(seen->waited), (unsigned long long)seen->longest_wait_ms,
	       (unsigned long long)sum(seen->gave_up), (unsigned long long)sum(seen->refused),
	       (unsigned long long)sum(seen->probes), (unsigned long long)seen->changes,
	       (unsigned long long)s->longest_gap_ms);
	fflush(stdout);
	return !seen->failed;
}

/* ---- the whole ---- */

static const struct rhc_policy policy = {
	.failure_threshold = 4,
	.recovery_ms = 20,
	.recovery_max_ms = 80,
	.growth_milli = 2000,
	.jitter_permille = 100,
	.half_open_max = HAMMER_PROBES,
	.success_threshold = 2,
	.lease_ms = HAMMER_LEASE_MS,
	.window_ms = 1000,
	.min_calls = 40,
	.failure_permille = 400,
	.limit = HAMMER_LIMIT,
};

static int prepare(struct storm *s)
{
	struct rhc_segment_opt opt = {
		.path = s->path,
		.shape = { .workers = HAMMER_WORKERS, .upstreams = 2, .slots = HAMMER_CAP, .ring_len = 64 },
		.mono_ns = hammer_now_ms() * 1000000,
		.wall_ns = (uint64_t)time(NULL) * 1000000000,
	};
	struct rhc_refusal refusal;
	struct statfs fs;
	uint64_t wake = 0;

	opt.allow_disk = statfs("/dev/shm", &fs) != 0 || fs.f_type != TMPFS_MAGIC;
	snprintf(s->dir, sizeof(s->dir), "%s/rhc-storm-XXXXXX", opt.allow_disk ? "/tmp" : "/dev/shm");
	if (!mkdtemp(s->dir))
		return -errno;
	snprintf(s->path, sizeof(s->path), "%s/h.shm", s->dir);
	if (rhc_segment_adopt(&s->h.seg, &opt, &refusal) != 0) {
		fprintf(stderr, "storm_hammer: %s\n", refusal.text);
		return -EIO;
	}
	s->lock_fd = rhc_lock_open(&s->h.seg);
	s->h.seen = mmap(NULL, sizeof(*s->h.seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->lock_fd < 0 || s->h.seen == MAP_FAILED)
		return -errno;
	for (unsigned i = 0; i < HAMMER_WORKERS; i++)
		s->h.wake_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return rhc_upstream_declare(&s->h.seg, "orders", &policy, hammer_now_ms(), &s->h.upstream, &wake);
}

static void try_namespaces(struct storm *s)
{
	pid_t pid;

	s->namespaces = true;
	pid = start(s);
	if (pid == 0)
		_exit(getpid() == 1 ? 0 : 1);
	s->namespaces = pid > 0 && waitpid(pid, NULL, 0) == pid;
	printf("pid namespaces: %s\n", s->namespaces ? "each process is pid 1 of its own" : "not allowed here, one for all");
}

static int usage(void)
{
	fprintf(stderr, "usage: storm_hammer [--seconds N] [--seed N] [--events N]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static _Alignas(64) struct storm storm;
	struct storm *s = &storm;
	unsigned long seconds = 10, seed = (unsigned long)time(NULL) ^ (unsigned long)getpid(), events = 0;
	uint64_t end;
	int rc;

	for (int i = 1; i < argc; i += 2) {
		unsigned long v = i + 1 < argc ? strtoul(argv[i + 1], NULL, 0) : 0;

		if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
			seconds = v;
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			seed = v;
		else if (i + 1 < argc && strcmp(argv[i], "--events") == 0)
			events = v;
		else
			return usage();
	}
	printf("seed %lu\n", seed);
	s->random = s->h.seed = (unsigned)seed;
	rc = prepare(s);
	if (rc != 0) {
		fprintf(stderr, "storm_hammer: cannot begin: %s\n", strerror(-rc));
		return 77;
	}
	try_namespaces(s);
	end = hammer_now_ms() + seconds * 1000;
	/* Round after round until the time is over and there were events enough; a phase lasts 2 s at most. */
	for (bool good = true; good && (hammer_now_ms() < end || s->kills + s->stops + s->admin_kills < events);) {
		uint64_t each = seconds * 1000 / RHC_COUNT(phases);

		for (unsigned i = 0; good && i < RHC_COUNT(phases); i++)
			good = run_phase(s, &phases[i], each > 2000 ? 2000 : each);
	}
	for (unsigned i = 0; i < HAMMER_WORKERS; i++) {
		if (s->worker[i].pid > 0)
			end_process(&s->worker[i]);
	}
	rhc_segment_detach(&s->h.seg);
	unlink(s->path);
	rmdir(s->dir);
	if (s->h.seen->failed) {
		printf("storm_hammer: seed %lu: %s\n", seed, s->h.seen->failure);
		return 1;
	}
	printf("nothing lost in %u kills, %u stops, %u killed operators, %u reaps by the supervisor, %llu looks\n", s->kills,
	       s->stops, s->admin_kills, s->reaps, (unsigned long long)s->looks);
	return 0;
}
