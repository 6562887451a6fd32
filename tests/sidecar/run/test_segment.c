#include "sidecar/run/segment.h"

#include <criterion/criterion.h>

#include "shm/upstream.h"
#include "sidecar/base/log.h"
#include "sidecar/config/findings.h"
#include "tests/shm/fixture.h"

static struct config *config;
static struct options o;

static struct config *load(const char *upstreams)
{
	static char text[2048];
	struct config_source src = { .text = text };
	struct config *c = NULL;
	struct findings f;

	src.len = (size_t)snprintf(text, sizeof(text),
				   "version: 1\nshm: {path: \"%s\"}\nupstreams: {%s}\n", fx.path,
				   upstreams);
	findings_init(&f);
	cr_assert_eq(config_load(&c, &src, &f), 0, "%s", f.len ? f.item[0].message : "");
	findings_fini(&f);
	return c;
}

static void start(void)
{
	fx_dir();
	log_set_all(LOG_OFF);
	o = (struct options){ .allow_disk = fx.opt.allow_disk };
	config = load("a: {url: \"http://h:1\"}, b: {url: \"http://h:2\"}");
}

static void stop(void)
{
	config_free(config);
	fx_stop();
}

TestSuite(run_segment, .init = start, .fini = stop);

Test(run_segment, its_size_follows_the_configuration_in_powers_of_two)
{
	static const struct {
		uint32_t n, upstreams;
	} rows[] = { { 0, 16 },  { 1, 16 },    { 8, 16 },    { 9, 32 },   { 16, 32 },
		     { 17, 64 }, { 100, 256 }, { 200, 256 }, { 256, 256 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(segment_upstreams(rows[i].n), rows[i].upstreams, "%u", rows[i].n);
	cr_expect_eq(segment_workers(1), 8);
	cr_expect_eq(segment_workers(2), 8);
	cr_expect_eq(segment_workers(3), 16);
	cr_expect_eq(segment_workers(16), 64);
	cr_expect_eq(segment_workers(32), 64, "two generations of the most workers there can be");
}

Test(run_segment, what_the_configuration_has_is_declared_and_found_again)
{
	struct rhc_segment again;

	cr_assert_eq(segment_open(&fx.seg, &o, config, 2), 0);
	cr_assert(fx.seg.created && fx.seg.hdr.max_upstreams == 16 && fx.seg.hdr.max_workers == 8);
	cr_assert(rhc_upstream_find(&fx.seg, "a") >= 0 && rhc_upstream_find(&fx.seg, "b") >= 0);
	cr_assert_eq(segment_open(&again, &o, config, 2), EXIT_FAILED, "a second sidecar");
	rhc_segment_detach(&fx.seg);
	cr_assert_eq(segment_open(&fx.seg, &o, config, 2), 0);
	cr_assert_not(fx.seg.created);
}

Test(run_segment, a_few_more_upstreams_keep_the_state_over_a_restart)
{
	cr_assert_eq(segment_open(&fx.seg, &o, config, 2), 0);
	rhc_segment_detach(&fx.seg);
	config_free(config);
	config = load(
		"a: {url: \"http://h:1\"}, b: {url: \"http://h:2\"}, c: {url: \"http://h:2\"}, d: {url: \"http://h:2\"}, "
		"e: {url: \"http://h:2\"}, f: {url: \"http://h:2\"}");
	cr_assert_eq(segment_open(&fx.seg, &o, config, 2), 0);
	cr_assert_not(fx.seg.created);
}

Test(run_segment, an_upstream_that_left_is_retired_and_one_that_came_is_there)
{
	struct config *next = load("b: {url: \"http://h:2\"}, c: {url: \"http://h:3\"}");
	uint64_t wake = 0;

	cr_assert_eq(segment_open(&fx.seg, &o, config, 2), 0);
	cr_assert_eq(segment_declare(&fx.seg, next, &wake), 0);
	cr_assert(rhc_upstream_find(&fx.seg, "c") >= 0 && rhc_upstream_find(&fx.seg, "b") >= 0);
	cr_assert(rhc_upstream_find(&fx.seg, "a") < 0);
	cr_assert_eq(segment_declare(&fx.seg, config, &wake), 0, "and back");
	cr_assert(rhc_upstream_find(&fx.seg, "a") >= 0 && rhc_upstream_find(&fx.seg, "c") < 0);
	config_free(next);
}

Test(run_segment, more_upstreams_than_it_has_room_for_are_refused)
{
	char many[2048] = "";
	struct config *next;
	uint64_t wake = 0;

	for (int i = 0, n = 0; i < 20; i++)
		n += snprintf(many + n, sizeof(many) - (size_t)n, "%su%d: {url: \"http://h:2\"}",
			      i ? ", " : "", i);
	next = load(many);
	cr_assert_eq(segment_open(&fx.seg, &o, config, 2), 0);
	cr_assert_eq(segment_declare(&fx.seg, next, &wake), -ENOSPC);
	cr_assert_eq(segment_declare(&fx.seg, config, &wake), 0, "what was in force fits again");
	cr_assert(rhc_upstream_find(&fx.seg, "a") >= 0);
	config_free(next);
}
