/*
 * tests/bench/segment.c - rhc-segment: what the shared state costs one attempt, against what is known.
 *
 * usage: rhc-segment [--ms 100] [--rounds 5] [--dir /dev/shm]
 *
 * Method   each measurement runs in 1, 2 and 4 processes at once, all on one upstream, for some ms; the
 *          figure is CPU time of all of them / operations, so a busy machine shows little in it.  What is
 *          compared runs in the same round; the program prints medians of all rounds as one JSON object.
 * Yardsticks  a pair of atomic fetch_add on one shared word (a counter of permits); the same pair where
 *          each operation also stores one private word, as whoever holds a permit must; and a robust
 *          process-shared mutex around that word.  A bare pair in a loop has nothing to wait for but
 *          itself: any store between two locked operations costs it 40 % here.
 * slot_strict, call_window  the same as slot and call: when it is not calm (shm/calm.h), and with a
 *          failure-rate and a slow-call window.
 * Inline   every operation is, so that none pays for calls that another does not make.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/breaker.h"
#include "shm/bulkhead.h"
#include "tests/bench/bench.h"

#define PROCESSES_MAX 4
#define ROUNDS_MAX    31
#define FILLER        15 /* index of the worker that holds the slots taken beforehand */
#define SLOTS         16384
#define BATCH         64 /* operations between two looks at the stop flag */

enum what { ADD, KEPT, MUTEX, SLOT, STRICT, CALL, WINDOW, REFUSE, WHATS };

static const char *const names[WHATS] = { "fetch_add_pair", "fetch_add_kept", "robust_mutex", "slot",
					  "slot_strict", "call", "call_window", "refusal" };

struct row { /* what is measured */
	uint32_t limit, fill;
	unsigned processes;
};

/* Shared by all processes, zeroed by mmap. */
struct shared {
	alignas(64) _Atomic uint32_t ready, go, stop;
	alignas(64) _Atomic uint64_t word;
	alignas(64) pthread_mutex_t mutex;
	alignas(64) struct {
		alignas(64) uint64_t ops, ns;
	} result[PROCESSES_MAX];
};

static struct rhc_segment seg;
static struct shared *sh;
static uint32_t upstream, windowed; /* the other has a failure-rate and a slow-call window */

struct actor {
	struct rhc_worker w;
	struct rhc_bulkhead bulkhead;
	struct rhc_breaker_ref breaker, window;
	_Atomic uint64_t held; /* of op_kept() */
};

/* ---- operations ---- */

#define INLINE static inline __attribute__((always_inline))

INLINE void op_add(void)
{
	atomic_fetch_add(&sh->word, 1);
	atomic_fetch_sub(&sh->word, 1);
}

/* Each stores what it did: a permit that nobody remembers cannot be given back. */
INLINE void op_kept(_Atomic uint64_t *held)
{
	atomic_fetch_add(&sh->word, 1);
	atomic_store_explicit(&held[0], 1, memory_order_relaxed);
	atomic_fetch_sub(&sh->word, 1);
	atomic_store_explicit(&held[0], 0, memory_order_relaxed);
}

INLINE void op_mutex(void)
{
	if (pthread_mutex_lock(&sh->mutex))
		die("mutex");
	atomic_store_explicit(&sh->word, sh->word + 1, memory_order_relaxed);
	pthread_mutex_unlock(&sh->mutex);
	if (pthread_mutex_lock(&sh->mutex))
		die("mutex");
	atomic_store_explicit(&sh->word, sh->word - 1, memory_order_relaxed);
	pthread_mutex_unlock(&sh->mutex);
}

INLINE void op_slot(struct actor *a, uint64_t now)
{
	struct rhc_slot slot = { 0 };
	uint64_t wake = 0;

	if (rhc_bulkhead_try(&a->bulkhead, now, &slot, &wake) == RHC_TAKE_GOT)
		rhc_bulkhead_release(&a->bulkhead, &slot, now, &wake);
}

INLINE void op_call(struct actor *a, struct rhc_breaker_ref *breaker, uint64_t now)
{
	struct rhc_permit permit = { 0 };
	struct rhc_refused refused;

	if (rhc_breaker_admit(breaker, now, &permit, &refused) == RHC_ADMIT_REFUSE)
		die("rhc-segment: refused");
	op_slot(a, now);
	rhc_breaker_record(breaker, &permit, RHC_OUTCOME_OK, 0, now);
}

INLINE void op_refuse(struct actor *a, uint64_t now)
{
	struct rhc_slot slot = { 0 };
	uint64_t wake = 0;

	if (rhc_bulkhead_try(&a->bulkhead, now, &slot, &wake) != RHC_TAKE_FULL)
		die("rhc-segment: not full");
}

static void batch(struct actor *a, enum what what, uint64_t now)
{
	for (int i = 0; i < BATCH; i++) {
		switch (what) {
		case ADD: op_add(); break;
		case KEPT: op_kept(&a->held); break;
		case MUTEX: op_mutex(); break;
		case SLOT: case STRICT: op_slot(a, now); break;
		case CALL: op_call(a, &a->breaker, now); break;
		case WINDOW: op_call(a, &a->window, now); break;
		default: op_refuse(a, now); break;
		}
	}
}

/* ---- processes ---- */

static void actor_init(struct actor *a, uint32_t index)
{
	struct rhc_worker_id id = { .pid = (uint64_t)getpid(), .generation = 1, .version = "bench" };
	uint64_t wake = 0, now = now_ns() / 1000000;
	int rc = rhc_worker_register(&a->w, &seg, index, &id, now, &wake);

	if (rc)
		die("rhc-segment: worker %u: %s", index, strerror(-rc));
	rhc_bulkhead_init(&a->bulkhead, &a->w, upstream);
	rhc_breaker_init(&a->breaker, &a->w, upstream);
	rhc_breaker_init(&a->window, &a->w, windowed);
}

static void actor_fini(struct actor *a)
{
	uint64_t wake = 0;

	rhc_worker_unregister(&a->w, now_ns() / 1000000, &wake);
}

/* Spread over the CPUs we may use: two processes on one CPU never meet. */
static void pin(unsigned index)
{
	cpu_set_t may, one;
	unsigned nth = 0;

	if (sched_getaffinity(0, sizeof(may), &may))
		die("sched_getaffinity: %s", strerror(errno));
	index %= (unsigned)CPU_COUNT(&may);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &may) || nth++ != index)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			die("sched_setaffinity: %s", strerror(errno));
	}
}

static _Noreturn void child(unsigned index, enum what what)
{
	static struct actor a;
	uint64_t ops = 0, from, now;

	pin(index);
	rhc_segment_forked(&seg);
	actor_init(&a, index);
	if (what == STRICT) {
		rhc_calm_end(a.bulkhead.up);
	} else { /* two ticks without anybody who waits */
		rhc_bulkhead_calm(&a.bulkhead);
		rhc_bulkhead_calm(&a.bulkhead);
	}
	now = now_ns() / 1000000;
	atomic_fetch_add(&sh->ready, 1);
	while (!atomic_load(&sh->go))
		usleep(100);
	from = cpu_ns();
	do {
		batch(&a, what, now);
		ops += BATCH;
	} while (!atomic_load_explicit(&sh->stop, memory_order_relaxed));
	sh->result[index].ns = cpu_ns() - from;
	sh->result[index].ops = ops;
	actor_fini(&a);
	_exit(0);
}

static void wait_for(const pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int status;

		if (waitpid(pids[i], &status, 0) != pids[i] || status)
			die("rhc-segment: a child ended with %d", status);
	}
}

/* ns per operation */
static double measure(const struct row *row, enum what what, uint64_t ms)
{
	pid_t pids[PROCESSES_MAX];
	uint64_t ops = 0, ns = 0;

	atomic_store(&sh->ready, 0);
	atomic_store(&sh->go, 0);
	atomic_store(&sh->stop, 0);
	for (unsigned i = 0; i < row->processes; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			die("fork: %s", strerror(errno));
		if (pids[i] == 0)
			child(i, what);
	}
	for (int tries = 0; atomic_load(&sh->ready) < row->processes; tries++) {
		if (tries > 20000)
			die("rhc-segment: the processes do not start");
		usleep(500);
	}
	atomic_store(&sh->go, 1);
	usleep((useconds_t)(ms * 1000));
	atomic_store(&sh->stop, 1);
	wait_for(pids, row->processes);
	for (unsigned i = 0; i < row->processes; i++) {
		ops += sh->result[i].ops;
		ns += sh->result[i].ns;
	}
	return (double)ns / (double)ops;
}

/* ---- rounds ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void set_limit(uint32_t limit)
{
	struct rhc_policy policy = { .failure_threshold = 5, .recovery_ms = 30000, .half_open_max = 1,
		                     .success_threshold = 1, .lease_ms = 60000, .limit = limit };
	uint64_t wake = 0;
	int rc = rhc_upstream_declare(&seg, "bench", &policy, now_ns() / 1000000, &upstream, &wake);

	if (rc)
		die("rhc-segment: declare: %s", strerror(-rc));
	policy.window_ms = 30000;
	policy.min_calls = 20;
	policy.failure_permille = 500;
	policy.slow_permille = 500;
	rc = rhc_upstream_declare(&seg, "window", &policy, now_ns() / 1000000, &windowed, &wake);
	if (rc)
		die("rhc-segment: declare: %s", strerror(-rc));
}

static void fill(struct actor *a, uint32_t slots)
{
	actor_init(a, FILLER);
	for (uint32_t i = 0; i < slots; i++) {
		struct rhc_slot slot;
		uint64_t wake = 0;

		if (rhc_bulkhead_try(&a->bulkhead, now_ns() / 1000000, &slot, &wake) != RHC_TAKE_GOT)
			die("rhc-segment: full after %u", i);
	}
}

static bool measured(const struct row *row, enum what what)
{
	return row->fill == row->limit ? what <= KEPT || what == REFUSE : what != REFUSE;
}

static void run_row(const struct row *row, uint64_t ms, unsigned rounds)
{
	static struct actor filler;
	double ns[WHATS][ROUNDS_MAX], ratio[ROUNDS_MAX];

	set_limit(row->limit);
	fill(&filler, row->fill);
	for (unsigned r = 0; r < rounds; r++) {
		for (enum what what = 0; what < WHATS; what++) {
			if (measured(row, what))
				ns[what][r] = measure(row, what, ms);
		}
	}
	printf("  {\"processes\": %u, \"limit\": %u, \"taken\": %u", row->processes, row->limit,
	       row->fill);
	for (enum what what = 0; what < WHATS; what++) {
		double copy[ROUNDS_MAX];

		if (!measured(row, what))
			continue;
		for (unsigned r = 0; r < rounds; r++)
			ratio[r] = ns[what][r] / ns[ADD][r];
		memcpy(copy, ns[what], sizeof(copy));
		printf(", \"%s\": {\"ns\": %.1f, \"to_add\": %.3f", names[what], median(copy, rounds),
		       median(ratio, rounds));
		if (row->fill != row->limit) {
			for (unsigned r = 0; r < rounds; r++)
				ratio[r] = ns[what][r] / ns[MUTEX][r];
			printf(", \"to_mutex\": %.3f", median(ratio, rounds));
		}
		for (unsigned r = 0; r < rounds; r++)
			ratio[r] = ns[what][r] / ns[KEPT][r];
		printf(", \"to_kept\": %.3f}", median(ratio, rounds));
	}
	printf("}");
	actor_fini(&filler);
}

static void set_up(const char *path)
{
	static struct rhc_refusal refusal;
	struct rhc_segment_opt opt = {
		.path = path,
		.shape = { .workers = FILLER + 1, .upstreams = 4, .slots = SLOTS },
		.mode = 0600,
		.allow_disk = true,
		.mono_ns = now_ns(),
		.wall_ns = (uint64_t)time(NULL) * 1000000000,
	};
	pthread_mutexattr_t attr;

	if (rhc_segment_adopt(&seg, &opt, &refusal))
		die("rhc-segment: %s", refusal.text);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&sh->mutex, &attr);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
		{ 7, 0, 1 },     { 50, 0, 1 },     { 1000, 0, 1 }, { 10000, 0, 1 }, { 10000, 9000, 1 },
		{ 10000, 10000, 1 }, { 7, 0, 2 },  { 7, 5, 2 },    { 50, 0, 2 },    { 50, 45, 2 },
		{ 1000, 900, 2 },    { 10000, 0, 2 }, { 10000, 9990, 2 }, { 50, 0, 4 }, { 10000, 9000, 4 },
	};
	const char *dir = option(argc, argv, "--dir", "/dev/shm");
	uint64_t ms = option_number(argc, argv, "--ms", 100);
	unsigned rounds = (unsigned)option_number(argc, argv, "--rounds", 5);
	char folder[128], path[160];

	options_done(argc, argv);
	if (rounds < 1 || rounds > ROUNDS_MAX)
		die("rhc-segment: --rounds is 1 to %d", ROUNDS_MAX);
	snprintf(folder, sizeof(folder), "%s/rhc-bench-XXXXXX", dir);
	if (!mkdtemp(folder))
		die("%s: %s", folder, strerror(errno));
	snprintf(path, sizeof(path), "%s/bench.shm", folder);
	set_up(path);
	printf("[\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		run_row(&rows[i], ms, rounds);
		printf("%s\n", i + 1 < sizeof(rows) / sizeof(rows[0]) ? "," : "");
		fflush(stdout);
	}
	printf("]\n");
	rhc_segment_detach(&seg);
	unlink(path);
	rmdir(folder);
	return 0;
}
