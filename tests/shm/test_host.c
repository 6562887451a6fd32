/* Records that are claimed at run time for hosts. */
#include "fixture.h"

enum { HOSTS = 4, TTL = 5000 };

static void start(void)
{
	fx_dir();
	fx.opt.shape.hosts = HOSTS;
	fx_adopt();
	fx_declare(&fx_policy);
	rhc_host_policy(&fx.seg, &fx_policy, fx.now, &fx.wake);
	for (uint32_t i = 0; i < 3; i++)
		fx_worker(i);
}

TestSuite(host, .init = start, .fini = fx_stop, .timeout = 60);

static int try_claim(unsigned worker, const char *text, struct rhc_host_use *ret)
{
	struct rhc_host_wish wish = { text, text, TTL };
	bool made;

	return rhc_host_claim(&fx.w[worker], &wish, fx.now, ret, &made, &fx.wake);
}

static struct rhc_host_use claim(unsigned worker, const char *text)
{
	struct rhc_host_use use;
	int rc = try_claim(worker, text, &use);

	cr_assert_eq(rc, 0, "%s: %s", text, strerror(-rc));
	return use;
}

static void rest(unsigned worker, struct rhc_host_use use)
{
	rhc_host_unpin(&fx.w[worker], &use, fx.now);
	fx.now += 10;
}

static struct rhc_host_use visit(unsigned worker, const char *text)
{
	struct rhc_host_use use = claim(worker, text);

	rest(worker, use);
	return use;
}

/* h0:80, h1:80, ... used in this order. */
static void fill(void)
{
	static const char *const names[HOSTS] = { "h0:80", "h1:80", "h2:80", "h3:80" };

	for (unsigned i = 0; i < HOSTS; i++)
		visit(i % 3, names[i]);
}

static bool there(const char *name)
{
	return rhc_upstream_find(&fx.seg, name) >= 0;
}

static void fail(unsigned worker, struct rhc_host_use use, unsigned n)
{
	struct rhc_breaker_ref brk;
	struct rhc_permit p;
	struct rhc_refused r;

	rhc_breaker_init(&brk, &fx.w[worker], use.upstream);
	for (unsigned i = 0; i < n; i++) {
		cr_assert_neq(rhc_breaker_admit(&brk, fx.now, &p, &r), RHC_ADMIT_REFUSE);
		rhc_breaker_record(&brk, &p, RHC_OUTCOME_FAIL, RHC_ERR_connect_refused, fx.now);
	}
}

Test(host, every_worker_finds_the_same_record)
{
	struct rhc_host_use a = claim(0, "a:80"), b = claim(1, "a:80"), c = claim(1, "b:80");
	struct rhc_policy policy;

	cr_assert_eq(a.upstream, b.upstream);
	cr_assert_eq(a.gen, b.gen);
	cr_assert_neq(a.upstream, c.upstream);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "a:80"), (int)a.upstream);
	rhc_policy_load(rhc_seg_up(&fx.seg, a.upstream), &policy);
	cr_assert_eq(policy.limit, fx_policy.limit);
	cr_assert_eq(policy.failure_threshold, fx_policy.failure_threshold);
	rest(0, a);
	rest(1, b);
	rest(1, c);
	fx_assert_quiet();
}

Test(host, what_it_cannot_be_called_is_refused)
{
	struct rhc_host_wish wish = { .name = "a b", .text = "a" };
	char longer[RHC_HOST_MAX + 2];
	struct rhc_host_use use;
	bool made;

	cr_assert_eq(rhc_host_claim(&fx.w[0], &wish, fx.now, &use, &made, &fx.wake), -EINVAL);
	memset(longer, 'x', sizeof(longer));
	longer[RHC_HOST_MAX + 1] = 0;
	wish = (struct rhc_host_wish){ .name = "a", .text = longer };
	cr_assert_eq(rhc_host_claim(&fx.w[0], &wish, fx.now, &use, &made, &fx.wake), -ENAMETOOLONG);
	longer[RHC_HOST_MAX] = 0;
	cr_assert_eq(rhc_host_claim(&fx.w[0], &wish, fx.now, &use, &made, &fx.wake), 0, "the longest");
	wish = (struct rhc_host_wish){ .name = longer, .text = "a" };
	cr_assert_eq(rhc_host_claim(&fx.w[0], &wish, fx.now, &use, &made, &fx.wake), -ENAMETOOLONG);
}

Test(host, texts_that_differ_in_the_last_byte_are_two_hosts)
{
	char text[RHC_HOST_MAX + 1];
	struct rhc_host_wish wish = { "a", text, TTL };
	struct rhc_host_use a, b;
	bool made;

	memset(text, 'x', RHC_HOST_MAX);
	text[RHC_HOST_MAX] = 0;
	cr_assert_eq(rhc_host_claim(&fx.w[0], &wish, fx.now, &a, &made, &fx.wake), 0);
	text[RHC_HOST_MAX - 1] = 'y';
	wish.name = "b";
	cr_assert_eq(rhc_host_claim(&fx.w[0], &wish, fx.now, &b, &made, &fx.wake), 0);
	cr_assert(made && a.upstream != b.upstream);
}

Test(host, the_one_used_least_recently_gives_way)
{
	struct rhc_host_use old = { 0 };

	fill();
	old.upstream = (uint32_t)rhc_upstream_find(&fx.seg, "h1:80");
	old.gen = RHC_ID_GEN(atomic_load(&rhc_seg_up(&fx.seg, old.upstream)->id));
	visit(2, "h0:80");
	cr_assert_eq(visit(0, "new:80").upstream, old.upstream);
	cr_assert(there("h0:80") && !there("h1:80") && there("h2:80") && there("h3:80"));
	cr_assert_not(rhc_host_pin(&fx.w[1], &old, fx.now), "what it was is over");
	fx_assert_quiet();
}

Test(host, a_record_that_gave_way_begins_with_nothing)
{
	struct rhc_host_use use;
	uint64_t row[RHC_CTR_COUNT];
	struct rhc_view_upstream view;

	use = claim(0, "old:80");
	fail(0, use, 1);
	rhc_ctr_inc(rhc_seg_ctr(&fx.seg, 0, use.upstream), RHC_CTR_req_started);
	rhc_hist_record(rhc_seg_hist(&fx.seg, 0, use.upstream, RHC_HIST_request), RHC_HIST_request, 1);
	rest(0, use);
	fx.now += TTL;
	for (unsigned i = 0; i < HOSTS; i++)
		visit(1, (const char *[]){ "a:1", "b:1", "c:1", "d:1" }[i]);
	cr_assert_not(there("old:80"));
	rhc_view_counters(&fx.seg, use.upstream, false, row, RHC_CTR_COUNT);
	for (unsigned i = 0; i < RHC_CTR_COUNT; i++)
		cr_assert_eq(row[i], 0, "counter %u", i);
	cr_assert_eq(rhc_view_upstream(&fx.seg, use.upstream, fx.now, &view), 0);
	cr_assert_eq(view.breaker.b.failures, 0);
	cr_assert_eq(view.breaker.last_failure_ms, 0);
	cr_assert_eq(view.bulkhead.limit, fx_policy.limit);
}

Test(host, one_that_is_used_held_failing_or_overridden_stays)
{
	struct rhc_host_use used = claim(0, "used:80"), slot = claim(1, "slot:80"), failed = claim(1, "failed:80"),
			    limited = claim(2, "limited:80"), none;
	struct rhc_bulkhead b;
	struct rhc_slot held;
	struct rhc_admin admin;
	struct rhc_change change;

	rhc_bulkhead_init(&b, &fx.w[1], slot.upstream);
	cr_assert_eq(rhc_bulkhead_try(&b, fx.now, &held, &fx.wake), RHC_TAKE_GOT);
	rest(1, slot);
	fail(1, failed, 1);
	rest(1, failed);
	rest(2, limited);
	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 1, 1), 0);
	cr_assert_eq(rhc_admin_limit(&admin, limited.upstream, 1, 0, "", fx.now, &change), 0);
	rhc_admin_end(&admin);
	cr_assert_eq(try_claim(2, "new:80", &none), -ENOSPC);
	cr_assert(there("used:80") && there("slot:80") && there("failed:80") && there("limited:80"));
	rhc_bulkhead_release(&b, &held, fx.now, &fx.wake);
	cr_assert_eq(claim(2, "new:80").upstream, slot.upstream);
	fx.now += TTL;
	cr_assert_eq(claim(2, "newer:80").upstream, failed.upstream, "forgotten after its time");
	cr_assert_eq(try_claim(2, "newest:80", &none), -ENOSPC, "an operator's word has no such time");
	rest(0, used);
}

Test(host, an_open_circuit_stays_until_its_time_is_over)
{
	struct rhc_policy policy = fx_policy;
	struct rhc_host_use none;
	static const char *const names[HOSTS] = { "a:1", "b:1", "c:1", "d:1" };

	policy.recovery_ms = policy.recovery_max_ms = 3 * TTL;
	rhc_host_policy(&fx.seg, &policy, fx.now, &fx.wake);
	for (unsigned i = 0; i < HOSTS; i++) {
		struct rhc_host_use use = claim(0, names[i]);

		fail(0, use, 3);
		cr_assert_eq(rhc_breaker_peek(rhc_seg_up(&fx.seg, use.upstream)), RHC_BRK_OPEN);
		rest(0, use);
	}
	fx.now += 2 * TTL;
	cr_assert_eq(try_claim(1, "new:80", &none), -ENOSPC);
	fx.now += TTL;
	cr_assert_eq(try_claim(1, "new:80", &none), 0);
}

Test(host, a_window_is_over_before_it_gives_way)
{
	struct rhc_policy policy = fx_policy;
	struct rhc_host_use none;

	policy.window_ms = 10000;
	policy.min_calls = 100;
	policy.failure_permille = 500;
	rhc_host_policy(&fx.seg, &policy, fx.now, &fx.wake);
	fill();
	cr_assert_eq(try_claim(0, "new:80", &none), -ENOSPC, "what failed in it would be forgotten");
	fx.now += 10000;
	cr_assert_eq(try_claim(0, "new:80", &none), 0);
}

Test(host, a_new_policy_reaches_all_and_those_to_come)
{
	struct rhc_policy policy = fx_policy;
	struct rhc_host_use a = visit(0, "a:80"), b;

	policy.limit = 7;
	rhc_host_policy(&fx.seg, &policy, fx.now, &fx.wake);
	b = visit(0, "b:80");
	cr_assert_eq(RHC_CTL_LIMIT(atomic_load(&rhc_seg_up(&fx.seg, a.upstream)->ctl)), 7);
	cr_assert_eq(RHC_CTL_LIMIT(atomic_load(&rhc_seg_up(&fx.seg, b.upstream)->ctl)), 7);
	/* A claimer that had read the old one. */
	rhc_policy_store(rhc_seg_up(&fx.seg, b.upstream), &fx_policy);
	rhc_host_tick(&fx.w[1], fx.now, &fx.wake);
	rhc_policy_load(rhc_seg_up(&fx.seg, b.upstream), &policy);
	cr_assert_eq(policy.limit, 7);
	fx_assert_quiet();
}

Test(host, an_override_of_an_idle_one_ends_by_itself)
{
	struct rhc_host_use a = visit(0, "a:80");
	struct rhc_admin admin;
	struct rhc_change change;

	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 1, 1), 0);
	cr_assert_eq(rhc_admin_limit(&admin, a.upstream, 1, fx.now + 100, "", fx.now, &change), 0);
	rhc_admin_end(&admin);
	fx.now += 200;
	rhc_host_tick(&fx.w[1], fx.now, &fx.wake);
	cr_assert_eq(RHC_CTL_LIMIT(atomic_load(&rhc_seg_up(&fx.seg, a.upstream)->ctl)), fx_policy.limit);
	cr_assert_eq(rhc_host_used_ms(&fx.seg, a.upstream) + 210, fx.now, "a tick is no use");
}

Test(host, a_dead_workers_use_is_taken_back_and_its_host_may_give_way)
{
	struct rhc_host_use use = claim(0, "a:80"), none;
	struct rhc_reaped reaped;
	struct rhc_finding found[4];

	for (unsigned i = 1; i < HOSTS; i++)
		claim(1, (const char *[]){ "", "b:1", "c:1", "d:1" }[i]);
	rhc_abandon(&fx.w[0]);
	cr_assert_eq(try_claim(1, "new:80", &none), -ENOSPC);
	cr_assert_eq(rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 4), 2);
	cr_assert_eq(found[1].what, RHC_FIND_HOST_PIN);
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 0, fx.now, &reaped, &fx.wake), 0);
	cr_assert_eq(rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 4), 0);
	cr_assert_eq(claim(1, "new:80").upstream, use.upstream);
}

static uint32_t record_in(uint32_t state, unsigned owner)
{
	struct rhc_host_use use = visit(1, "a:80");
	_Atomic uint64_t *id = &rhc_seg_up(&fx.seg, use.upstream)->id;

	atomic_store(id, (atomic_load(id) & ~UINT64_C(0xffffffff)) | (owner + 1) << 16 | state);
	return use.upstream;
}

Test(host, what_a_dead_worker_was_about_to_evict_stays)
{
	uint32_t u = record_in(RHC_UP_LEAVING, 0);
	struct rhc_finding found[4];
	struct rhc_admin admin;

	rhc_abandon(&fx.w[0]);
	cr_assert(there("a:80"), "until it is gone it is there");
	cr_assert_eq(rhc_view_audit(&fx.seg, fx.lock_fd, fx.now, found, 4), 2);
	cr_assert_eq(found[1].what, RHC_FIND_HOST_CLAIM);
	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 1, 1), 0);
	rhc_admin_repair(&admin, fx.now);
	rhc_admin_end(&admin);
	cr_assert_eq((uint32_t)atomic_load(&rhc_seg_up(&fx.seg, u)->id), RHC_UP_USED);
	fx_assert_quiet();
}

Test(host, what_is_about_to_be_evicted_is_taken_back_by_whoever_comes)
{
	uint32_t u = record_in(RHC_UP_LEAVING, 2);

	cr_assert_eq(claim(0, "a:80").upstream, u);
	cr_assert_eq((uint32_t)atomic_load(&rhc_seg_up(&fx.seg, u)->id), RHC_UP_USED);
}

Test(host, what_was_published_by_a_killed_worker_is_finished_by_the_next)
{
	uint32_t u = record_in(RHC_UP_MAKING, 0);
	uint64_t id = atomic_load(&rhc_seg_up(&fx.seg, u)->id);

	cr_assert_not(there("a:80"));
	atomic_store(&rhc_seg_hdr(&fx.seg)->host_pub, (id >> 32) << 32 | 1 << 16 | (u + 1));
	cr_assert_eq(claim(2, "b:80").upstream, u + 1);
	cr_assert(there("a:80"));
}

Test(host, what_an_unpublished_dead_worker_made_is_free_again)
{
	uint32_t u = record_in(RHC_UP_MAKING, 0);
	struct rhc_reaped reaped;

	atomic_store(&rhc_seg_hdr(&fx.seg)->host_pub, 0);
	rhc_abandon(&fx.w[0]);
	cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, 0, fx.now, &reaped, &fx.wake), 0);
	cr_assert_eq((uint32_t)atomic_load(&rhc_seg_up(&fx.seg, u)->id), RHC_UP_FREE);
	cr_assert_eq(claim(1, "b:80").upstream, u);
}

Test(host, nothing_gives_way_while_a_change_by_hand_is_in_progress)
{
	struct rhc_host_use none;
	struct rhc_admin admin;

	fill();
	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 1, 1), 0);
	cr_assert_geq(rhc_admin_find(&admin, "h2:80"), 0);
	cr_assert_eq(try_claim(0, "new:80", &none), -ENOSPC);
	rhc_admin_end(&admin);
	cr_assert_eq(try_claim(0, "new:80", &none), 0);
	cr_assert_eq(rhc_admin_begin(&admin, &fx.seg, 1, 1), 0);
	cr_assert_eq(rhc_admin_find(&admin, "h0:80"), -ENOENT);
	cr_assert_eq(rhc_admin_find(&admin, "orders"), (int)fx.up);
	rhc_admin_end(&admin);
}

Test(host, hosts_are_not_the_configurations_to_declare_or_retire)
{
	uint32_t u = visit(0, "a:80").upstream, other;
	struct rhc_view_upstream view;

	cr_assert_eq(rhc_upstream_retire(&fx.seg, u, 2), -ENOENT);
	cr_assert_eq(rhc_upstream_declare(&fx.seg, "a:80", &fx_policy, fx.now, &other, &fx.wake), 0);
	cr_assert_neq(other, u);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "a:80"), (int)other);
	cr_assert_eq(rhc_view_upstream(&fx.seg, u, fx.now, &view), -ENOENT, "one of a name is shown");
}

Test(host, an_event_names_the_host_it_was_about_or_none)
{
	struct rhc_host_use use = claim(0, "old:80");
	struct rhc_event ev = { .upstream = use.upstream, .mono_ns = (fx.now + 1) * 1000000 };
	char name[RHC_NAME_MAX + 1];

	rhc_view_event_upstream(&fx.seg, &ev, name);
	cr_assert_str_eq(name, "old:80");
	rest(0, use);
	fill();
	cr_assert_not(there("old:80"));
	rhc_view_event_upstream(&fx.seg, &ev, name);
	cr_assert_str_eq(name, "");
	ev.upstream = RHC_NO_UPSTREAM;
	rhc_view_event_upstream(&fx.seg, &ev, name);
	cr_assert_str_eq(name, "");
}

Test(host, they_survive_the_processes_that_use_them)
{
	struct rhc_host_use use = claim(0, "a:80");
	struct rhc_reaped sum;

	fail(0, use, 3);
	for (unsigned i = 0; i < 3; i++)
		rhc_abandon(&fx.w[i]);
	close(fx.lock_fd);
	rhc_segment_detach(&fx.seg);
	fx_adopt();
	cr_assert_not(fx.seg.created);
	cr_assert_eq(rhc_reap_all(&fx.seg, fx.lock_fd, RHC_WORKERS_MAX, fx.now, &sum, &fx.wake), 3);
	fx_worker(1);
	cr_assert_eq(claim(1, "a:80").upstream, use.upstream);
	cr_assert_eq(rhc_breaker_peek(rhc_seg_up(&fx.seg, use.upstream)), RHC_BRK_OPEN);
}

/* ---- processes against each other ---- */

enum { PROCESSES = 4, ROUNDS = 3000, NAMES = 7 };

/*
 * More hosts than records, in several processes.  A record in use must keep its name and never hold
 * another's slot count: each user adds its word in the record of the host it asked for and looks again.
 */
static int stir(uint32_t index, _Atomic uint32_t *inside)
{
	struct rhc_worker_id id = { .pid = index };
	struct rhc_worker w;
	unsigned seed = index, full = 0;

	if (rhc_worker_register(&w, &fx.seg, index, &id, fx.now, &fx.wake))
		return 2;
	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned n = (unsigned)rand_r(&seed) % NAMES;
		char text[16], name[RHC_NAME_MAX + 1];
		struct rhc_host_wish wish = { text, text, 0 };
		struct rhc_host_use use;
		bool made;
		int rc;

		snprintf(text, sizeof(text), "host%u:80", n);
		rc = rhc_host_claim(&w, &wish, fx.now + round, &use, &made, &fx.wake);
		if (rc == -ENOSPC || rc == -EAGAIN) {
			full++;
			continue;
		}
		if (rc != 0)
			return 3;
		/* Everybody who is inside a host is inside the same record. */
		if (atomic_fetch_add(&inside[n * 64 + use.upstream], 1) > PROCESSES)
			return 4;
		for (unsigned u = 0; u < 64; u++) {
			if (u != use.upstream && atomic_load(&inside[n * 64 + u]))
				return 5;
		}
		rhc_upstream_name(&fx.seg, use.upstream, name);
		if (strcmp(name, text) != 0)
			return 6;
		atomic_fetch_sub(&inside[n * 64 + use.upstream], 1);
		rhc_host_unpin(&w, &use, fx.now + round);
	}
	rhc_worker_unregister(&w, fx.now, &fx.wake);
	return full == ROUNDS ? 7 : 0;
}

Test(host, no_host_ever_has_two_records)
{
	_Atomic uint32_t *inside = mmap(NULL, NAMES * 64 * sizeof(*inside), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[PROCESSES];

	cr_assert(fx.seg.hdr.max_upstreams <= 64);
	for (unsigned i = 0; i < 3; i++)
		rhc_worker_unregister(&fx.w[i], fx.now, &fx.wake);
	fflush(NULL);
	for (uint32_t i = 0; i < PROCESSES; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(stir(i, inside));
	}
	for (uint32_t i = 0; i < PROCESSES; i++) {
		int status;

		cr_assert_eq(waitpid(pid[i], &status, 0), pid[i]);
		cr_assert_eq(status, 0, "process %u: %x", i, (unsigned)status);
	}
	fx_assert_quiet();
}
