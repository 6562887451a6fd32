#include "fixture.h"

TestSuite(event, .init = fx_start, .fini = fx_stop);

static void put(struct rhc_ring_writer *rw, uint64_t n)
{
	rhc_event_put(rw, RHC_EV_retry, 1, 1000 + n,
		      (uint64_t[5]){ n, n + 1, n + 2, n + 3, n + 4 });
}

Test(event, is_read_as_it_was_written)
{
	struct rhc_worker *w = fx_worker(2);
	uint64_t head = rhc_event_head(&fx.seg, 2);
	struct rhc_event ev;

	put(&w->ring, 7);
	cr_assert_eq(rhc_event_read(&fx.seg, 2, head, &ev), RHC_EVENT_OK);
	cr_assert_eq(ev.type, RHC_EV_retry);
	cr_assert_eq(ev.upstream, 1);
	cr_assert_eq(ev.worker, 2);
	cr_assert_eq(ev.inc, w->inc);
	cr_assert_eq(ev.mono_ns, UINT64_C(1007000000));
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(ev.arg[i], 7 + i);
	cr_assert_eq(rhc_event_read(&fx.seg, 2, head + 1, &ev), RHC_EVENT_NONE);
}

Test(event, overwritten_is_told)
{
	struct rhc_worker *w = fx_worker(0);
	uint64_t first = rhc_event_head(&fx.seg, 0);
	struct rhc_event ev;

	for (uint64_t n = 0; n < 200; n++)
		put(&w->ring, n);
	cr_assert_eq(rhc_event_read(&fx.seg, 0, first, &ev), RHC_EVENT_LOST);
	cr_assert_eq(rhc_event_read(&fx.seg, 0, first + 200 - 64, &ev), RHC_EVENT_OK);
	cr_assert_eq(ev.arg[0], 200 - 64);
	cr_assert_eq(rhc_event_read(&fx.seg, 0, first + 200 - 65, &ev), RHC_EVENT_LOST);
}

#ifdef RHC_FAULTS
static const char *die_at;

static void die(const char *name)
{
	if (strcmp(name, die_at) == 0)
		_exit(0);
}

static void write_and_die_at(const char *point)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rhc_ring_writer rw;

		rhc_ring_writer_init(&rw, &fx.seg, 5, 1);
		die_at = point;
		rhc_fault_hook = die;
		put(&rw, 50);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0, "did not reach %s", point);
}

Test(event, of_a_writer_that_died_is_void_and_the_ring_goes_on)
{
	static const char *const points[] = { "event.begin", "event.odd", "event.payload", "event.even" };

	for (size_t i = 0; i < RHC_COUNT(points); i++) {
		struct rhc_ring_writer rw;
		struct rhc_event ev;
		uint64_t head = rhc_event_head(&fx.seg, 5);
		enum rhc_event_read first;

		write_and_die_at(points[i]);
		rhc_ring_writer_init(&rw, &fx.seg, 5, 2);
		put(&rw, 60);
		first = rhc_event_read(&fx.seg, 5, head, &ev);
		if (i == 0) { /* nothing was written: the number is used by the next */
			cr_expect_eq(first, RHC_EVENT_OK);
			cr_expect_eq(ev.arg[0], 60);
			continue;
		}
		cr_expect_eq(first, i == 3 ? RHC_EVENT_OK : RHC_EVENT_VOID, "%s: %d", points[i], first);
		cr_expect_eq(rhc_event_read(&fx.seg, 5, head + 1, &ev), RHC_EVENT_OK, "%s", points[i]);
		cr_expect_eq(ev.arg[0], 60);
	}
}
#endif

Test(event, impossible_record_is_told)
{
	struct rhc_worker *w = fx_worker(0);
	uint64_t head = rhc_event_head(&fx.seg, 0);
	struct rhc_event_rec *rec = &rhc_seg_ring(&fx.seg, 0)->rec[head & 63];
	struct rhc_event ev;

	put(&w->ring, 1);
	atomic_store(&rec->what, rhc_field(RHC_EV_COUNT, 48, 16));
	cr_assert_eq(rhc_event_read(&fx.seg, 0, head, &ev), RHC_EVENT_INVALID);
	atomic_store(&rec->what, rhc_field(RHC_EV_retry, 48, 16) | rhc_field(60000, 32, 16));
	cr_assert_eq(rhc_event_read(&fx.seg, 0, head, &ev), RHC_EVENT_INVALID);
}

Test(event, reader_never_sees_a_torn_record, .timeout = 20)
{
	pid_t pid;
	unsigned ok = 0;
	uint64_t until = fx_clock_ms() + 700;

	pid = fork();
	if (pid == 0) {
		struct rhc_ring_writer rw;

		rhc_ring_writer_init(&rw, &fx.seg, 5, 1);
		for (uint64_t n = 0; fx_clock_ms() < until + 200; n++)
			put(&rw, n);
		_exit(0);
	}
	while (fx_clock_ms() < until) {
		struct rhc_event ev;
		uint64_t head = rhc_event_head(&fx.seg, 5), at = head > 60 ? head - 60 : 0;

		if (rhc_event_read(&fx.seg, 5, at, &ev) != RHC_EVENT_OK)
			continue;
		ok++;
		for (unsigned i = 0; i < 5; i++)
			cr_assert_eq(ev.arg[i], ev.arg[0] + i, "torn");
		cr_assert_eq(ev.mono_ns, (1000 + ev.arg[0]) * 1000000, "torn");
	}
	waitpid(pid, NULL, 0);
	cr_assert_gt(ok, 0);
}

Test(event, text_is_cut_before_a_character_and_cleaned)
{
	struct rhc_worker *w = fx_worker(0);
	uint64_t head = rhc_event_head(&fx.seg, 0);
	char text[RHC_REASON_MAX + 1];
	struct rhc_event ev;

	rhc_event_text(&w->ring, "", 1);
	rhc_event_text(&w->ring, NULL, 1);
	cr_assert_eq(rhc_event_head(&fx.seg, 0), head);
	/* 39 bytes, then a character of two */
	rhc_event_text(&w->ring, "123456789012345678901234567890123456789\xc3\xa4", 1);
	cr_assert_eq(rhc_event_read(&fx.seg, 0, head, &ev), RHC_EVENT_OK);
	rhc_event_text_of(&ev, text);
	cr_assert_str_eq(text, "123456789012345678901234567890123456789");
	rhc_event_text(&w->ring, "a\x1b[31mb", 1);
	cr_assert_eq(rhc_event_read(&fx.seg, 0, head + 1, &ev), RHC_EVENT_OK);
	rhc_event_text_of(&ev, text);
	cr_assert_str_eq(text, "a?[31mb");
}

Test(event, each_type_has_name_component_and_severity)
{
	for (unsigned i = 0; i < RHC_EV_COUNT; i++) {
		cr_assert_neq(strcmp(rhc_event_name((enum rhc_event_type)i), "unknown"), 0);
		cr_assert_neq(strcmp(rhc_event_component((enum rhc_event_type)i), "unknown"), 0);
		cr_assert_leq(rhc_event_severity((enum rhc_event_type)i), RHC_SEV_ERR);
	}
}

Test(event, rings_are_merged_by_time_with_their_texts)
{
	struct rhc_worker *a = fx_worker(0), *b = fx_worker(1);
	struct rhc_view_cursor cursor;
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];
	uint64_t last = 0;
	unsigned n = 0;

	rhc_view_events_begin(&fx.seg, true, &cursor);
	for (uint64_t i = 0; i < 20; i++) {
		put(i % 3 ? &a->ring : &b->ring, i);
		if (i == 7)
			rhc_event_text(&a->ring, "why", 1007);
	}
	while (rhc_view_events_next(&fx.seg, &cursor, &ev, text)) {
		cr_assert_geq(ev.mono_ns, last);
		cr_assert_eq(ev.arg[0], n);
		cr_assert_str_eq(text, n == 7 ? "why" : "");
		last = ev.mono_ns;
		n++;
	}
	cr_assert_eq(n, 20);
	cr_assert_eq(cursor.lost, 0);
	put(&b->ring, 99);
	cr_assert(rhc_view_events_next(&fx.seg, &cursor, &ev, text));
	cr_assert_eq(ev.arg[0], 99);
}

Test(event, a_reader_left_behind_is_told_how_many_it_lost)
{
	struct rhc_worker *a = fx_worker(0);
	struct rhc_view_cursor cursor;
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];

	rhc_view_events_begin(&fx.seg, true, &cursor);
	for (uint64_t i = 0; i < 100; i++)
		put(&a->ring, i);
	cr_assert(rhc_view_events_next(&fx.seg, &cursor, &ev, text));
	cr_assert_eq(ev.arg[0], 36);
	cr_assert_eq(cursor.lost, 36);
}
