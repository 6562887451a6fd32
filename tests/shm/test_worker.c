#include "fixture.h"

TestSuite(worker, .init = fx_start, .fini = fx_stop);

static const struct rhc_worker_id id = { .pid = 7, .version = "1" };

Test(worker, is_alive_while_it_holds_its_byte)
{
	fx_worker(3);
	cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 3), RHC_ALIVE_YES);
	cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 2), RHC_ALIVE_FREE);
	rhc_abandon(&fx.w[3]);
	cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 3), RHC_ALIVE_DEAD);
}

Test(worker, index_is_taken_once)
{
	struct rhc_worker second;

	fx_worker(3);
	cr_assert_eq(rhc_worker_register(&second, &fx.seg, 3, &id, fx.now, &fx.wake), -EBUSY);
	cr_assert_eq(rhc_worker_register(&second, &fx.seg, FX_WORKERS, &id, fx.now, &fx.wake),
		     -ERANGE);
}

Test(worker, needs_a_writable_segment)
{
	struct rhc_segment seg;
	struct rhc_refusal r;
	struct rhc_worker w;

	cr_assert_eq(rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r), 0);
	cr_assert_eq(rhc_worker_register(&w, &seg, 0, &id, fx.now, &fx.wake), -EROFS);
	rhc_segment_detach(&seg);
}

Test(worker, each_incarnation_has_its_number)
{
	uint32_t inc = fx_worker(1)->inc;

	rhc_worker_unregister(&fx.w[1], fx.now, &fx.wake);
	cr_assert_eq(fx_worker(1)->inc, inc + 1);
	rhc_abandon(&fx.w[1]);
	cr_assert_eq(fx_worker(1)->inc, inc + 2);
}

Test(worker, vacant_is_the_lowest_index_nobody_holds)
{
	cr_assert_eq(rhc_worker_vacant(&fx.seg, fx.lock_fd), 0);
	fx_worker(0);
	fx_worker(1);
	cr_assert_eq(rhc_worker_vacant(&fx.seg, fx.lock_fd), 2);
	for (uint32_t i = 2; i < FX_WORKERS; i++)
		fx_worker(i);
	cr_assert_eq(rhc_worker_vacant(&fx.seg, fx.lock_fd), -EAGAIN);
}

Test(worker, of_another_index_is_not_reaped_while_it_lives)
{
	struct rhc_reaped r;

	fx_worker(1);
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 1, fx.now, &r, &fx.wake), -EBUSY);
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 2, fx.now, &r, &fx.wake), 0);
	cr_assert(!r.record);
}

Test(worker, killed_is_dead_when_waitpid_returns_and_everything_comes_back)
{
	for (unsigned round = 0; round < 30; round++) {
		struct rhc_bulkhead b;
		struct rhc_reaped r;
		struct rhc_slot slot;
		int ready[2], status;
		char byte;
		pid_t pid;

		cr_assert_eq(pipe(ready), 0);
		pid = fork();
		if (pid == 0) {
			rhc_segment_forked(&fx.seg);
			close(fx.lock_fd);
			fx_worker(4);
			rhc_bulkhead_init(&b, &fx.w[4], fx.up);
			if (rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake) != RHC_TAKE_GOT ||
			    write(ready[1], "x", 1) != 1)
				_exit(1);
			pause();
		}
		cr_assert_eq(read(ready[0], &byte, 1), 1);
		cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 4), RHC_ALIVE_YES);
		cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 1);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 4), RHC_ALIVE_DEAD);
		cr_assert_eq(
			rhc_reap_all(&fx.seg, fx.lock_fd, RHC_WORKERS_MAX, fx.now, &r, &fx.wake),
			1);
		cr_assert_eq(r.slots, 1);
		fx_assert_quiet();
		close(ready[0]);
		close(ready[1]);
	}
}

Test(worker, reap_takes_back_slots_probes_and_tickets_and_wakes_who_waits)
{
	struct rhc_worker *dead = fx_worker(1), *other = fx_worker(2);
	struct rhc_bulkhead b, ob;
	struct rhc_breaker_ref brk;
	struct rhc_permit permit;
	struct rhc_refused refused;
	struct rhc_slot slot[2], got;
	struct rhc_waiter waiter, own;
	struct rhc_reaped r;

	rhc_bulkhead_init(&b, dead, fx.up);
	rhc_bulkhead_init(&ob, other, fx.up);
	rhc_breaker_init(&brk, dead, fx.up);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot[0], &fx.wake), RHC_TAKE_GOT);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot[1], &fx.wake), RHC_TAKE_GOT);
	cr_assert_eq(rhc_bulkhead_wait(&b, &own, fx.now, &got, &fx.wake), RHC_TAKE_WAITING);
	cr_assert_eq(rhc_bulkhead_wait(&ob, &waiter, fx.now, &got, &fx.wake), RHC_TAKE_WAITING);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(rhc_breaker_admit(&brk, fx.now, &permit, &refused), RHC_ADMIT_PASS);
		rhc_breaker_record(&brk, &permit, RHC_OUTCOME_FAIL, RHC_ERR_connect_refused,
				   fx.now);
	}
	fx.now += 1000;
	cr_assert_eq(rhc_breaker_admit(&brk, fx.now, &permit, &refused), RHC_ADMIT_PROBE);
	rhc_abandon(dead);
	fx.wake = 0;
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 1, fx.now, &r, &fx.wake), 0);
	cr_assert(r.record);
	cr_assert_eq(r.slots, 2);
	cr_assert_eq(r.probes, 1);
	cr_assert_eq(r.waiting, 1);
	cr_assert(fx.wake & 4, "worker 2 is woken");
	rhc_worker_beat(other, fx.now);
	cr_assert_eq(rhc_bulkhead_poll(&ob, fx.now, &got, &fx.wake), &waiter);
	rhc_bulkhead_release(&ob, &got, fx.now, &fx.wake);
	fx_assert_quiet();
}

Test(worker, reap_closes_the_gauges_of_the_dead)
{
	struct rhc_worker *w = fx_worker(1);
	_Atomic uint64_t *ctr = rhc_seg_ctr(&fx.seg, 1, fx.up);
	uint64_t sum[RHC_CTR_COUNT];
	struct rhc_reaped r;

	rhc_ctr_add(ctr, RHC_CTR_conn_h1_opened, 9);
	rhc_ctr_add(ctr, RHC_CTR_conn_h1_closed, 4);
	rhc_abandon(w);
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 1, fx.now, &r, &fx.wake), 0);
	rhc_view_counters(&fx.seg, fx.up, false, sum, RHC_CTR_COUNT);
	cr_assert_eq(sum[RHC_CTR_conn_h1_opened], 9);
	cr_assert_eq(sum[RHC_CTR_conn_h1_closed], 9);
}

Test(worker, successor_cleans_up_after_a_predecessor_nobody_reaped)
{
	struct rhc_bulkhead b;
	struct rhc_slot slot;

	rhc_bulkhead_init(&b, fx_worker(1), fx.up);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	rhc_abandon(&fx.w[1]);
	fx_worker(1);
	fx_assert_quiet();
}

Test(worker, counters_are_continued_by_the_next_incarnation)
{
	uint64_t sum[RHC_CTR_COUNT];

	rhc_ctr_add(rhc_seg_ctr(&fx.seg, fx_worker(1)->index, fx.up), RHC_CTR_att_success, 5);
	rhc_abandon(&fx.w[1]);
	rhc_ctr_add(rhc_seg_ctr(&fx.seg, fx_worker(1)->index, fx.up), RHC_CTR_att_success, 2);
	rhc_view_counters(&fx.seg, fx.up, false, sum, RHC_CTR_COUNT);
	cr_assert_eq(sum[RHC_CTR_att_success], 7);
}

Test(worker, that_leaves_gives_back_what_it_held)
{
	struct rhc_bulkhead b;
	struct rhc_slot slot;

	rhc_bulkhead_init(&b, fx_worker(1), fx.up);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	rhc_worker_unregister(&fx.w[1], fx.now, &fx.wake);
	cr_assert_eq(rhc_worker_alive(&fx.seg, fx.lock_fd, 1), RHC_ALIVE_FREE);
	fx_assert_quiet();
}

Test(worker, hears_what_it_is_asked)
{
	struct rhc_worker *w = fx_worker(1);

	cr_assert_eq(rhc_worker_wanted(w), RHC_WANT_NOTHING);
	rhc_worker_ask(&fx.seg, 1, RHC_WANT_DRAIN);
	cr_assert_eq(rhc_worker_wanted(w), RHC_WANT_DRAIN);
	atomic_store(&rhc_seg_worker(&fx.seg, 1)->want_exit, 99);
	cr_assert_eq(rhc_worker_wanted(w), RHC_WANT_NOTHING, "an impossible wish is none");
}

Test(worker, hangs_but_keeps_what_it_holds)
{
	struct rhc_bulkhead b;
	struct rhc_slot slot;
	struct rhc_reaped r;

	rhc_bulkhead_init(&b, fx_worker(1), fx.up);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake), RHC_TAKE_GOT);
	fx.now += 3600000;
	cr_assert_eq(rhc_reap_all(&fx.seg, fx.lock_fd, RHC_WORKERS_MAX, fx.now, &r, &fx.wake), 0);
	cr_assert_eq(rhc_bulkhead_in_use(&fx.seg, fx.up), 1);
}

Test(worker, is_shown_as_it_is)
{
	struct rhc_view_worker v;

	rhc_worker_phase(fx_worker(2), RHC_PHASE_SERVING);
	rhc_worker_beat(&fx.w[2], fx.now + 5);
	rhc_worker_load(&fx.w[2], 3, 2);
	rhc_worker_adopt(&fx.w[2], 9);
	cr_assert_eq(rhc_view_worker(&fx.seg, fx.lock_fd, 2, &v), 0);
	cr_assert_eq(v.alive, RHC_ALIVE_YES);
	cr_assert_eq(v.phase, RHC_PHASE_SERVING);
	cr_assert_eq(v.beat_ms, fx.now + 5);
	cr_assert_eq(v.loops, 1);
	cr_assert_eq(v.conns, 3);
	cr_assert_eq(v.in_flight, 2);
	cr_assert_eq(v.cfg_gen, 9);
	cr_assert_eq(v.pid, 102);
	cr_assert_str_eq(v.version, "test");
	cr_assert_eq(rhc_view_worker(&fx.seg, fx.lock_fd, FX_WORKERS, &v), -ENOENT);
}
