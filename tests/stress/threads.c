/*
 * tests/stress/threads.c - stress_threads: the library with workers as threads of one process.
 *
 * ThreadSanitizer sees one process only.  Here each thread has a handle and a locking description of
 * its own, as a process would; nothing but the segment is shared.  Workers take, wait, die and come
 * back, one thread reads, one is rhcctl, one is the supervisor.  A plain main: the test library we use
 * elsewhere does not start under ThreadSanitizer.
 *
 * usage: stress_threads [--seconds 5] [--dir /dev/shm]
 * exit   0 limits held, all calls ended, nothing left behind; 1 otherwise; a data race ends it at once
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/admin.h"
#include "shm/histogram.h"
#include "shm/view.h"

#define WORKERS   4
#define LIMIT_MAX 3 /* the largest of all limits set here */
#define TURNS     2000000 /* bound of one wait */
#define EXTRA_TENTHS 200 /* of a second, at most, until enough() */
#define NAMES     5       /* hosts that are called ... */
#define HOSTS     3       /* ... and the records there are for them, of one slot each */

static struct rhc_segment seg;
static uint32_t up;
static _Atomic int in_use, over, got, stuck, broken, deaths, stop;
static _Atomic int inside[NAMES], visits, full;
static const char *const names[NAMES] = { "a:80", "b:80", "c:80", "d:80", "e:80" };

struct thread {
	struct rhc_worker w;
	struct rhc_bulkhead b;
	struct rhc_breaker_ref brk;
	uint32_t index;
	unsigned seed;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "stress_threads: %s\n", what);
	atomic_fetch_add(&broken, 1);
}

static const struct rhc_policy policy = {
	.failure_threshold = 5,
	.recovery_ms = 2,
	.half_open_max = 2,
	.success_threshold = 2,
	.lease_ms = 5000,
	.window_ms = 1600,
	.min_calls = 20,
	.failure_permille = 600,
	.limit = LIMIT_MAX,
};

/* ---- a worker ---- */

static bool chance(struct thread *t, unsigned one_in)
{
	return (unsigned)rand_r(&t->seed) % one_in == 0;
}

static void begin(struct thread *t)
{
	struct rhc_worker_id id = { .pid = 1, .version = "threads" };
	uint64_t wake = 0;
	int rc;

	/* Busy while somebody reaps the predecessor. */
	while ((rc = rhc_worker_register(&t->w, &seg, t->index, &id, now_ms(), &wake)) == -EBUSY)
		sched_yield();
	check(rc == 0, "a worker cannot register");
	rhc_bulkhead_init(&t->b, &t->w, up);
	rhc_breaker_init(&t->brk, &t->w, up);
}

/* Dies with what it holds; the next of this index begins. */
static void die(struct thread *t)
{
	atomic_fetch_add(&deaths, 1);
	rhc_abandon(&t->w);
	begin(t);
}

/* With a slot. */
static void use(struct thread *t, struct rhc_slot *slot)
{
	struct rhc_permit permit;
	struct rhc_refused refused;
	uint64_t wake = 0, now = now_ms();
	bool dies = chance(t, 500);

	if (atomic_fetch_add(&in_use, 1) + 1 > LIMIT_MAX)
		atomic_fetch_add(&over, 1);
	atomic_fetch_add(&got, 1);
	if (rhc_breaker_admit(&t->brk, now, &permit, &refused) != RHC_ADMIT_REFUSE && !dies)
		rhc_breaker_record(&t->brk, &permit,
				   chance(t, 3) ? RHC_OUTCOME_FAIL : RHC_OUTCOME_OK,
				   RHC_ERR_connect_refused, now);
	rhc_hist_record(rhc_seg_hist(&seg, t->index, up, RHC_HIST_request), RHC_HIST_request, 1000);
	atomic_fetch_sub(&in_use, 1);
	if (dies)
		die(t);
	else
		rhc_bulkhead_release(&t->b, slot, now_ms(), &wake);
}

static void wait_turn(struct thread *t, struct rhc_waiter *waiter)
{
	struct rhc_slot slot;
	uint64_t wake = 0;

	for (unsigned i = 0; i < TURNS; i++) {
		rhc_worker_beat(&t->w, now_ms());
		if (rhc_bulkhead_poll(&t->b, now_ms(), &slot, &wake)) {
			use(t, &slot);
			return;
		}
		if (chance(t, 2000)) {
			rhc_bulkhead_cancel(&t->b, waiter, now_ms(), &wake);
			return;
		}
		sched_yield();
	}
	rhc_bulkhead_cancel(&t->b, waiter, now_ms(), &wake);
	atomic_fetch_add(&stuck, 1);
}

static void call(struct thread *t)
{
	struct rhc_waiter waiter = { 0 };
	struct rhc_slot slot;
	uint64_t wake = 0;

	rhc_worker_beat(&t->w, now_ms());
	if (chance(t, 20))
		rhc_bulkhead_calm(&t->b);
	if (rhc_bulkhead_try(&t->b, now_ms(), &slot, &wake) == RHC_TAKE_GOT) {
		use(t, &slot);
		return;
	}
	switch (rhc_bulkhead_wait(&t->b, &waiter, now_ms(), &slot, &wake)) {
	case RHC_TAKE_GOT:
		use(t, &slot);
		break;
	case RHC_TAKE_WAITING:
		if (chance(t, 500))
			die(t); /* with its ticket in the queue */
		else
			wait_turn(t, &waiter);
		break;
	default:
		check(false, "refused by a queue without a bound");
	}
}

/* A call to a host: claimed, one at a time, by all workers together; some die in it. */
static void visit(struct thread *t)
{
	unsigned n = (unsigned)rand_r(&t->seed) % NAMES;
	struct rhc_host_wish wish = { names[n], names[n], 0 };
	struct rhc_host_use host;
	struct rhc_bulkhead b;
	struct rhc_slot slot;
	uint64_t wake = 0;
	bool made, dies = chance(t, 300);

	if (rhc_host_claim(&t->w, &wish, now_ms(), &host, &made, &wake) != 0) {
		atomic_fetch_add(&full, 1);
		return;
	}
	rhc_bulkhead_init(&b, &t->w, host.upstream);
	rhc_ctr_inc(rhc_seg_ctr(&seg, t->index, host.upstream), RHC_CTR_req_started);
	if (rhc_bulkhead_try(&b, now_ms(), &slot, &wake) == RHC_TAKE_GOT) {
		if (atomic_fetch_add(&inside[n], 1) != 0)
			atomic_fetch_add(&over, 1);
		atomic_fetch_add(&visits, 1);
		atomic_fetch_sub(&inside[n], 1);
		if (dies) {
			die(t);
			return;
		}
		rhc_bulkhead_release(&b, &slot, now_ms(), &wake);
	}
	rhc_ctr_inc(rhc_seg_ctr(&seg, t->index, host.upstream), RHC_CTR_req_finished);
	rhc_host_unpin(&t->w, &host, now_ms());
	if (chance(t, 50))
		rhc_host_tick(&t->w, now_ms(), &wake);
}

static void *work(void *arg)
{
	struct thread *t = arg;
	uint64_t wake = 0;

	begin(t);
	while (!atomic_load(&stop)) {
		call(t);
		visit(t);
	}
	rhc_worker_unregister(&t->w, now_ms(), &wake);
	return NULL;
}

/* ---- the others ---- */

static void *reader(void *arg)
{
	static uint64_t sum[RHC_CTR_COUNT];
	static struct rhc_hist_sum hist;
	struct rhc_view_cursor cursor;
	struct rhc_view_upstream v;
	struct rhc_view_worker worker;
	struct rhc_finding found[4];
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];
	int fd = rhc_lock_open(&seg);

	(void)arg;
	rhc_view_events_begin(&seg, false, &cursor);
	while (!atomic_load(&stop)) {
		check(rhc_view_upstream(&seg, up, now_ms(), &v) == 0, "no view of the upstream");
		for (uint32_t i = 0; i < WORKERS; i++)
			rhc_view_worker(&seg, fd, i, &worker);
		rhc_view_counters(&seg, up, true, sum, RHC_CTR_COUNT);
		rhc_view_hist(&seg, up, RHC_HIST_request, true, &hist);
		for (uint32_t u = rhc_seg_hosts_from(&seg); u < seg.hdr.max_upstreams; u++)
			(void)rhc_view_upstream(&seg, u, now_ms(), &v);
		rhc_view_audit(&seg, fd, now_ms(), found, RHC_COUNT(found));
		for (int i = 0; i < 100 && rhc_view_events_next(&seg, &cursor, &ev, text); i++)
			;
		sched_yield();
	}
	close(fd);
	return NULL;
}

static void change(struct rhc_admin *a, unsigned turn)
{
	uint64_t now = now_ms();
	struct rhc_change c;
	int host = rhc_admin_find(a, names[turn % NAMES]);

	if (host >= 0)
		rhc_admin_breaker(a, (uint32_t)host, turn % 2 ? RHC_VERB_OPEN : RHC_VERB_RESET, 0, "x", now, &c);
	switch (turn % 5) {
	case 0:
		rhc_admin_breaker(a, up, RHC_VERB_ISOLATE, now + 2, "x", now, &c);
		break;
	case 1:
		rhc_admin_breaker(a, up, RHC_VERB_CLOSE, 0, "x", now, &c);
		break;
	case 2:
		rhc_admin_limit(a, up, 1, now + 3, "x", now, &c);
		break;
	case 3:
		rhc_admin_limit_clear(a, up, "x", now, &c);
		break;
	default:
		rhc_admin_reset_counters(a, up, now);
	}
}

static void *rhcctl(void *arg)
{
	(void)arg;
	for (unsigned turn = 0; !atomic_load(&stop); turn++) {
		struct rhc_admin a;

		if (rhc_admin_begin(&a, &seg, 1, 1) == 0) {
			change(&a, turn);
			rhc_admin_end(&a);
		}
		usleep(3000);
	}
	return NULL;
}

static void *supervisor(void *arg)
{
	struct rhc_reaped reaped;
	int fd = rhc_lock_open(&seg);
	uint64_t wake = 0;

	(void)arg;
	for (unsigned turn = 0; !atomic_load(&stop); turn++) {
		struct rhc_policy p = policy;
		uint32_t index;

		p.failure_threshold += turn % 2; /* a reload */
		check(rhc_upstream_declare(&seg, "orders", &p, now_ms(), &index, &wake) == 0 &&
		      index == up, "a reload lost its upstream");
		p.window_ms = 0;
		p.limit = 1;
		rhc_host_policy(&seg, &p, now_ms(), &wake);
		rhc_reap_all(&seg, fd, RHC_WORKERS_MAX, now_ms(), &reaped, &wake);
		rhc_bulkhead_reconcile(&seg, up, now_ms(), NULL, &wake);
		usleep(5000);
	}
	close(fd);
	return NULL;
}

/* ---- all of it ---- */

static void start(const char *path)
{
	static struct rhc_refusal refusal;
	struct rhc_segment_opt opt = {
		.path = path,
		.shape = { .workers = WORKERS, .upstreams = 2, .hosts = HOSTS, .slots = 64, .ring_len = 64 },
		.mode = 0600,
		.allow_disk = true,
		.mono_ns = now_ms() * 1000000,
		.wall_ns = (uint64_t)time(NULL) * 1000000000,
	};
	struct rhc_policy host = policy;
	uint64_t wake = 0;

	host.window_ms = 0;
	host.limit = 1;
	if (rhc_segment_adopt(&seg, &opt, &refusal) ||
	    rhc_upstream_declare(&seg, "orders", &policy, now_ms(), &up, &wake)) {
		fprintf(stderr, "stress_threads: %s\n", refusal.text);
		exit(1);
	}
	rhc_host_policy(&seg, &host, now_ms(), &wake);
}

/* A busy machine may need longer to do anything worth looking at. */
static bool enough(void)
{
	return atomic_load(&got) > 100 && atomic_load(&visits) > 100 && atomic_load(&full) > 0;
}

static void run(unsigned seconds)
{
	static struct thread t[WORKERS];
	void *(*const others[])(void *) = { reader, rhcctl, supervisor };
	pthread_t id[WORKERS + RHC_COUNT(others)];
	unsigned n = 0;

	for (uint32_t i = 0; i < WORKERS; i++) {
		t[i].index = i;
		t[i].seed = i + 1;
		check(pthread_create(&id[n++], NULL, work, &t[i]) == 0, "no thread");
	}
	for (unsigned i = 0; i < RHC_COUNT(others); i++)
		check(pthread_create(&id[n++], NULL, others[i], NULL) == 0, "no thread");
	sleep(seconds);
	for (unsigned i = 0; i < EXTRA_TENTHS && !enough(); i++)
		usleep(100000);
	atomic_store(&stop, 1);
	while (n)
		pthread_join(id[--n], NULL);
}

static void finish(void)
{
	struct rhc_finding found[4];
	struct rhc_reaped reaped;
	uint64_t wake = 0, now = now_ms();
	int fd = rhc_lock_open(&seg);
	uint32_t n;

	rhc_reap_all(&seg, fd, RHC_WORKERS_MAX, now, &reaped, &wake);
	/* An override that ended after the last who would have noticed was gone. */
	rhc_bulkhead_reconcile(&seg, up, now, NULL, &wake);
	n = rhc_view_audit(&seg, fd, now, found, RHC_COUNT(found));
	check(n == 0, "the audit complains");
	for (uint32_t i = 0; i < n && i < RHC_COUNT(found); i++)
		fprintf(stderr, "stress_threads: %s, upstream %u, index %u, worker %u\n",
			rhc_finding_name(found[i].what), found[i].upstream, found[i].index, found[i].worker);
	check(rhc_bulkhead_in_use(&seg, up) == 0, "slots are left");
	check(rhc_bulkhead_waiting(&seg, up) == 0, "tickets are left");
	check(atomic_load(&over) == 0, "above the limit");
	check(atomic_load(&stuck) == 0, "a waiter was forgotten");
	check(enough(), "hardly anything ran");
	for (uint32_t u = rhc_seg_hosts_from(&seg); u < seg.hdr.max_upstreams; u++)
		check(rhc_bulkhead_in_use(&seg, u) == 0, "slots of a host are left");
	close(fd);
}

int main(int argc, char **argv)
{
	const char *dir = "/dev/shm";
	unsigned seconds = 5;
	char folder[128], path[160];

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
			seconds = (unsigned)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc)
			dir = argv[++i];
		else
			return fprintf(stderr, "usage: stress_threads [--seconds 5] [--dir DIR]\n"), 2;
	}
	snprintf(folder, sizeof(folder), "%s/rhc-threads-XXXXXX", dir);
	if (!mkdtemp(folder))
		return perror(folder), 1;
	snprintf(path, sizeof(path), "%s/t.shm", folder);
	start(path);
	run(seconds);
	finish();
	printf("%d calls, %d of hosts, %d refused, %d deaths, %d wrong\n", atomic_load(&got),
	       atomic_load(&visits), atomic_load(&full), atomic_load(&deaths), atomic_load(&broken));
	rhc_segment_detach(&seg);
	unlink(path);
	rmdir(folder);
	return atomic_load(&broken) != 0;
}
