/*
 * The same library with workers as threads: ThreadSanitizer sees one process only.  A handle per
 * thread, a locking description each; no globals are shared.
 */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>

TestSuite(threads, .init = fx_start, .fini = fx_stop);

static _Atomic int in_use, over, got, stop;

struct thread {
	struct rhc_worker w;
	struct rhc_bulkhead b;
	struct rhc_breaker_ref brk;
	uint32_t index;
	int limit, failed;
};

static void use(struct thread *t, struct rhc_slot *slot, unsigned *seed)
{
	struct rhc_permit permit;
	struct rhc_refused refused;
	uint64_t wake = 0;

	if (atomic_fetch_add(&in_use, 1) + 1 > t->limit)
		atomic_fetch_add(&over, 1);
	atomic_fetch_add(&got, 1);
	if (rhc_breaker_admit(&t->brk, fx_clock_ms(), &permit, &refused) != RHC_ADMIT_REFUSE)
		rhc_breaker_record(&t->brk, &permit,
				   rand_r(seed) % 3 ? RHC_OUTCOME_OK : RHC_OUTCOME_FAIL, 1,
				   fx_clock_ms());
	rhc_hist_record(rhc_seg_hist(&fx.seg, t->index, fx.up, RHC_HIST_request), RHC_HIST_request,
			1000);
	atomic_fetch_sub(&in_use, 1);
	rhc_bulkhead_release(&t->b, slot, fx_clock_ms(), &wake);
}

static void call(struct thread *t, unsigned *seed)
{
	struct rhc_waiter waiter = { 0 };
	struct rhc_slot slot;
	uint64_t wake = 0;

	rhc_worker_beat(&t->w, fx_clock_ms());
	if (rhc_bulkhead_try(&t->b, fx_clock_ms(), &slot, &wake) == RHC_TAKE_GOT ||
	    rhc_bulkhead_wait(&t->b, &waiter, fx_clock_ms(), &slot, &wake) == RHC_TAKE_GOT) {
		use(t, &slot, seed);
		return;
	}
	for (unsigned i = 0; i < 200000; i++) {
		rhc_worker_beat(&t->w, fx_clock_ms());
		if (rhc_bulkhead_poll(&t->b, fx_clock_ms(), &slot, &wake)) {
			use(t, &slot, seed);
			return;
		}
		sched_yield();
	}
	rhc_bulkhead_cancel(&t->b, &waiter, fx_clock_ms(), &wake);
	t->failed++;
}

static void *work(void *arg)
{
	struct thread *t = arg;
	struct rhc_worker_id id = { .pid = 1 };
	unsigned seed = t->index + 1;
	uint64_t wake = 0;

	t->failed = rhc_worker_register(&t->w, &fx.seg, t->index, &id, fx_clock_ms(), &wake) != 0;
	if (t->failed)
		return NULL;
	rhc_bulkhead_init(&t->b, &t->w, fx.up);
	rhc_breaker_init(&t->brk, &t->w, fx.up);
	for (unsigned i = 0; i < 4000; i++)
		call(t, &seed);
	rhc_worker_unregister(&t->w, fx_clock_ms(), &wake);
	return NULL;
}

static void *watch(void *arg)
{
	struct rhc_view_cursor cursor;
	struct rhc_view_upstream v;
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];
	uint64_t sum[RHC_CTR_COUNT];

	(void)arg;
	rhc_view_events_begin(&fx.seg, false, &cursor);
	while (!atomic_load(&stop)) {
		rhc_view_upstream(&fx.seg, fx.up, fx_clock_ms(), &v);
		rhc_view_counters(&fx.seg, fx.up, false, sum, RHC_CTR_COUNT);
		for (unsigned i = 0; i < 100 && rhc_view_events_next(&fx.seg, &cursor, &ev, text);
		     i++)
			;
		sched_yield();
	}
	return NULL;
}

static void *tinker(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		struct rhc_admin a;
		struct rhc_change change;

		if (rhc_admin_begin(&a, &fx.seg, 1, 1) == 0) {
			uint64_t now = fx_clock_ms();

			rhc_admin_breaker(&a, fx.up, RHC_VERB_ISOLATE, now + 1, "x", now, &change);
			rhc_admin_breaker(&a, fx.up, RHC_VERB_CLOSE, 0, "x", now, &change);
			rhc_admin_end(&a);
		}
		usleep(2000);
	}
	return NULL;
}

Test(threads, workers_reader_and_rhcctl_share_one_process_without_a_race, .timeout = 120)
{
	static struct thread t[4];
	pthread_t id[4], reader, admin;
	int limit = 2;

	for (uint32_t i = 0; i < 4; i++) {
		t[i] = (struct thread){ .index = i, .limit = limit };
		cr_assert_eq(pthread_create(&id[i], NULL, work, &t[i]), 0);
	}
	cr_assert_eq(pthread_create(&reader, NULL, watch, NULL), 0);
	cr_assert_eq(pthread_create(&admin, NULL, tinker, NULL), 0);
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(id[i], NULL);
		cr_expect_eq(t[i].failed, 0);
	}
	atomic_store(&stop, 1);
	pthread_join(reader, NULL);
	pthread_join(admin, NULL);
	cr_expect_eq(atomic_load(&over), 0);
	cr_expect_eq(atomic_load(&got), 4 * 4000);
	fx.now = fx_clock_ms();
	fx_assert_quiet();
}
