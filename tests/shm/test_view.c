/* Reading: through PROT_READ, with everything in use, and over any bytes at all. */
#include "fixture.h"

TestSuite(view, .init = fx_start, .fini = fx_stop);

Test(view, of_a_read_only_mapping_shows_holders_and_waiters)
{
	struct rhc_bulkhead b, c;
	struct rhc_slot slot[2], got;
	struct rhc_waiter waiter[3];
	struct rhc_segment seg;
	struct rhc_refusal r;
	struct rhc_view_upstream v;
	struct rhc_view_holder h[4];
	struct rhc_view_worker w;
	int fd;

	rhc_bulkhead_init(&b, fx_worker(1), fx.up);
	rhc_bulkhead_init(&c, fx_worker(2), fx.up);
	rhc_bulkhead_try(&b, fx.now, &slot[0], &fx.wake);
	rhc_bulkhead_try(&b, fx.now, &slot[1], &fx.wake);
	for (unsigned i = 0; i < 3; i++) {
		rhc_bulkhead_wait(i ? &c : &b, &waiter[i], fx.now, &got, &fx.wake);
		fx.now += 100;
	}
	cr_assert_eq(rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r), 0);
	fd = rhc_lock_open(&seg);
	cr_assert_geq(fd, 0);
	cr_assert_eq(rhc_view_upstream(&seg, fx.up, fx.now, &v), 0);
	cr_assert_str_eq(v.name, "orders");
	cr_assert_eq(v.bulkhead.limit, 2);
	cr_assert_eq(v.bulkhead.in_use, 2);
	cr_assert_eq(v.bulkhead.held_by[1], 2);
	cr_assert_eq(v.bulkhead.waiting, 3);
	cr_assert_eq(v.bulkhead.waiting_by[1], 1);
	cr_assert_eq(v.bulkhead.waiting_by[2], 2);
	cr_assert_lt(v.bulkhead.ticket_of[1], v.bulkhead.ticket_of[2]);
	cr_assert_eq(v.bulkhead.oldest_wait_ms, 300);
	cr_assert_eq(rhc_view_holders(&seg, fx.up, fx.now, h, 4), 2);
	cr_assert_eq(rhc_view_worker(&seg, fd, 1, &w), 0);
	cr_assert_eq(w.alive, RHC_ALIVE_YES);
	cr_assert_eq(w.slots, 2);
	cr_assert_eq(rhc_view_audit(&seg, fd, fx.now, NULL, 0), 0);
	cr_assert_eq(rhc_view_upstream(&seg, 3, fx.now, &v), -ENOENT);
	cr_assert_eq(rhc_view_upstream(&seg, 4000, fx.now, &v), -ENOENT);
	close(fd);
	rhc_segment_detach(&seg);
}

Test(view, counters_are_summed_over_all_rows_the_admin_row_included)
{
	uint64_t sum[RHC_CTR_COUNT], few[3];

	for (uint32_t row = 0; row <= FX_WORKERS; row++)
		rhc_ctr_add(rhc_seg_ctr(&fx.seg, row, fx.up), RHC_CTR_req_finished, row + 1);
	rhc_view_counters(&fx.seg, fx.up, false, sum, RHC_CTR_COUNT);
	cr_assert_eq(sum[RHC_CTR_req_finished], 45);
	rhc_view_counters(&fx.seg, fx.up, false, few, 3);
	cr_assert_eq(few[RHC_CTR_req_finished], 45);
	for (uint32_t row = 0; row <= FX_WORKERS; row++)
		rhc_ctr_add(rhc_seg_wctr(&fx.seg, row), RHC_WCTR_log_lines, 2);
	rhc_view_worker_sum(&fx.seg, sum, RHC_WCTR_COUNT);
	cr_assert_eq(sum[RHC_WCTR_log_lines], 18);
}

Test(view, descriptions_in_the_segment_name_every_counter)
{
	struct rhc_desc desc, own;

	cr_assert_eq(fx.seg.hdr.n_desc, RHC_DESC_COUNT);
	for (uint32_t i = 0; i < fx.seg.hdr.n_desc; i++) {
		cr_assert(rhc_view_desc(&fx.seg, i, &desc));
		rhc_desc_make(i, &own);
		cr_assert_eq(memcmp(&desc, &own, sizeof(own)), 0);
	}
}

Test(view, impossible_description_is_told)
{
	struct rhc_desc desc, *d = (struct rhc_desc *)(void *)(fx.seg.base + fx.seg.hdr.off_desc);

	d[0].index = 60000;
	cr_assert(!rhc_view_desc(&fx.seg, 0, &desc));
	d[1].where = 9;
	cr_assert(!rhc_view_desc(&fx.seg, 1, &desc));
	memset(d[2].name, 'x', sizeof(d[2].name));
	cr_assert(rhc_view_desc(&fx.seg, 2, &desc));
	cr_assert_eq(strlen(desc.name), sizeof(desc.name) - 1);
}

Test(view, text_of_the_segment_is_clean_and_ends)
{
	struct rhc_view_segment v;
	struct rhc_hdr *h = rhc_seg_hdr(&fx.seg);
	char name[RHC_NAME_MAX + 1];

	rhc_segment_say(h->version, sizeof(h->version), "0.1.0\x1b[2J");
	memset(h->engine, 'x', sizeof(h->engine));
	rhc_view_segment(&fx.seg, -1, &v);
	cr_assert_str_eq(v.version, "0.1.0?[2J");
	cr_assert_eq(strlen(v.engine), sizeof(v.engine) - 1);
	memset(rhc_seg_up(&fx.seg, fx.up)->name, '\a', RHC_NAME_MAX + 1);
	rhc_upstream_name(&fx.seg, fx.up, name);
	cr_assert_eq(strspn(name, "?"), RHC_NAME_MAX);
}

Test(view, wall_time_follows_the_pair_in_the_header)
{
	cr_assert_eq(rhc_view_wall_ns(&fx.seg, fx.seg.hdr.mono_base_ns + 5),
		     fx.seg.hdr.wall_base_ns + 5);
	cr_assert_eq(rhc_view_wall_ns(&fx.seg, fx.seg.hdr.mono_base_ns - 5),
		     fx.seg.hdr.wall_base_ns - 5);
}

static void read_everything(const struct rhc_segment *seg, int fd)
{
	static struct rhc_view_holder holders[64];
	struct rhc_view_cursor cursor;
	struct rhc_view_upstream up;
	struct rhc_view_segment vs;
	struct rhc_view_worker w;
	struct rhc_finding found[16];
	struct rhc_hist_sum h;
	struct rhc_desc desc;
	struct rhc_event ev;
	uint64_t sum[RHC_CTR_COUNT];
	char text[RHC_REASON_MAX + 1];

	rhc_view_segment(seg, fd, &vs);
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		rhc_view_upstream(seg, u, fx.now, &up);
		rhc_view_holders(seg, u, fx.now, holders, 64);
		rhc_view_counters(seg, u, true, sum, RHC_CTR_COUNT);
		rhc_view_hist(seg, u, 0, true, &h);
		rhc_hist_quantile(&h, 1000, 990);
	}
	for (uint32_t i = 0; i < seg->hdr.max_workers; i++)
		rhc_view_worker(seg, fd, i, &w);
	for (uint32_t i = 0; i < seg->hdr.n_desc; i++)
		rhc_view_desc(seg, i, &desc);
	rhc_view_audit(seg, fd, fx.now, found, 16);
	rhc_view_events_begin(seg, false, &cursor);
	for (unsigned i = 0; i < 10000 && rhc_view_events_next(seg, &cursor, &ev, text); i++)
		cr_assert_leq(strlen(text), RHC_REASON_MAX);
}

/*
 * Any bytes behind a sound header: every reader ends, reads inside, and the worker's calls do
 * too.
 */
Test(view, random_contents_crash_nobody, .timeout = 60)
{
	size_t from = RHC_HDR_SIZE, len = fx.seg.size - from;
	struct rhc_bulkhead b;
	struct rhc_breaker_ref brk;

	rhc_bulkhead_init(&b, fx_worker(1), fx.up);
	rhc_breaker_init(&brk, &fx.w[1], fx.up);
	for (unsigned seed = 1; seed <= 12; seed++) {
		uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15);
		struct rhc_slot slot = { 0 };
		struct rhc_waiter waiter = { 0 };
		struct rhc_permit permit;
		struct rhc_refused refused;
		struct rhc_reaped r;
		struct rhc_admin a;

		for (size_t i = 0; i + 8 <= len; i += 8) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/* mostly plausible: small numbers, all ones, noise */
			*(uint64_t *)(void *)(fx.seg.base + from + i) = x % 3 == 0 ? x % 16
			                                                : x % 3 == 1 && x % 7 == 0
			                                                        ? UINT64_MAX
			                                                        : x;
		}
		read_everything(&fx.seg, fx.lock_fd);
		if (rhc_breaker_admit(&brk, fx.now, &permit, &refused) != RHC_ADMIT_REFUSE)
			rhc_breaker_record(&brk, &permit, RHC_OUTCOME_FAIL, 3, fx.now);
		if (rhc_bulkhead_try(&b, fx.now, &slot, &fx.wake) == RHC_TAKE_FULL &&
		    rhc_bulkhead_wait(&b, &waiter, fx.now, &slot, &fx.wake) == RHC_TAKE_WAITING)
			rhc_bulkhead_cancel(&b, &waiter, fx.now, &fx.wake);
		rhc_bulkhead_release(&b, &slot, fx.now, &fx.wake);
		rhc_reap_all(&fx.seg, fx.lock_fd, 1, fx.now, &r, &fx.wake);
		cr_assert_eq(rhc_admin_begin(&a, &fx.seg, 0, 0), 0);
		rhc_admin_repair(&a, fx.now);
		rhc_admin_end(&a);
		read_everything(&fx.seg, fx.lock_fd);
	}
}
