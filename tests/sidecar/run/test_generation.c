#include "sidecar/run/supervisor_private.h"

#include <criterion/criterion.h>
#include <pthread.h>

#include "tests/shm/fixture.h"

static struct supervisor s;
static _Atomic bool end;
static _Atomic bool holds;

static void start(void)
{
	fx_start();
	memset(&s, 0, sizeof(s));
	s.seg = fx.seg;
	s.lock_fd = fx.lock_fd;
	s.n_workers = FX_WORKERS;
	list_init(&s.generations);
}

TestSuite(run_generation, .init = start, .fini = fx_stop);

static int begin(void)
{
	struct generation *g = NULL;
	int rc = generation_new(&s, NULL, NULL, &g);

	if (rc != 0)
		return rc;
	cr_assert_eq(g->n, s.n_workers);
	for (uint32_t i = 0; i < s.n_workers; i++)
		cr_assert(s.children[i].g == g && s.children[i].index == i &&
			  s.children[i].place == i);
	memset(s.children, 0, sizeof(s.children));
	generation_free(g);
	return 0;
}

/* As a peer that reaps: the byte of a dead worker, for an instant. */
static void *reaps_now_and_then(void *arg)
{
	int fd = rhc_lock_open(&fx.seg);

	(void)arg;
	while (!end) {
		if (rhc_lock_take(fd, RHC_BYTE_WORKER + 3) == 0) {
			holds = true;
			usleep(1000);
			holds = false;
			rhc_lock_drop(fd, RHC_BYTE_WORKER + 3);
		}
		usleep(100);
	}
	close(fd);
	return NULL;
}

Test(run_generation, a_peer_that_reaps_meanwhile_neither_takes_a_place_nor_hides_one)
{
	unsigned got = 0;
	pthread_t peer;

	cr_assert_eq(pthread_create(&peer, NULL, reaps_now_and_then, NULL), 0);
	for (unsigned i = 0; i < 50; i++) {
		int rc;

		while (!holds)
			usleep(20);
		rc = begin();
		/* only a peer that the kernel stops within its reap looks like one that lives */
		cr_assert(rc == 0 || rc == -EAGAIN);
		got += rc == 0;
	}
	end = true;
	pthread_join(peer, NULL);
	cr_assert_gt(got, 25);
}

Test(run_generation, a_place_whose_worker_lives_is_none)
{
	int fd = rhc_lock_open(&fx.seg);

	cr_assert_eq(rhc_lock_take(fd, RHC_BYTE_WORKER + 3), 0);
	cr_assert_eq(begin(), -EAGAIN);
	cr_assert_eq(rhc_lock_drop(fd, RHC_BYTE_WORKER + 3), 0);
	close(fd);
	cr_assert_eq(begin(), 0);
}
