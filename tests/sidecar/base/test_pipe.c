#include "sidecar/base/pipe.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int open_fds(void)
{
	int  n = 0;
	DIR *d = opendir("/proc/self/fd");

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void fill(struct buf *b, const char *text)
{
	cr_assert_eq(write(pipe_of(b)->wr, text, strlen(text)), (ssize_t)strlen(text));
	b->len = (uint32_t)strlen(text);
}

Test(pipe, opens_nothing_before_it_is_needed_and_keeps_what_it_opened)
{
	struct pipe_pool p;
	int              before = open_fds();
	struct buf      *b;

	cr_assert_eq(pipe_pool_init(&p, 8), 0);
	cr_expect_eq(open_fds(), before);
	b = pipe_get(&p);
	cr_assert_not_null(b);
	cr_expect_eq(b->cls, BUF_PIPE);
	cr_expect(slice_is_pipe((struct slice){ .buf = b }));
	cr_expect_eq(fcntl(pipe_of(b)->wr, F_GETPIPE_SZ), PIPE_BYTES);
	cr_expect_eq(open_fds(), before + 2);
	buf_unref(b);
	cr_expect_eq(pipe_get(&p), b, "the one used last is the next to go");
	cr_expect_eq(open_fds(), before + 2);
	buf_unref(b);
	pipe_pool_fini(&p);
	cr_expect_eq(open_fds(), before);
}

Test(pipe, what_is_left_in_one_is_seen_by_nobody)
{
	struct pipe_pool p;
	struct buf      *b;
	char             got[16];

	cr_assert_eq(pipe_pool_init(&p, 1), 0);
	b = pipe_get(&p);
	fill(b, "secret");
	buf_unref(b);
	cr_expect_eq(p.n_open, 0, "closed, with its bytes");
	b = pipe_get(&p);
	cr_assert_not_null(b);
	cr_expect_eq(b->len, 0);
	cr_expect_eq(read(pipe_of(b)->rd, got, sizeof(got)), -1, "it is empty");
	buf_unref(b);
	pipe_pool_fini(&p);
}

Test(pipe, there_are_no_more_than_count_and_none_in_no_pool)
{
	struct pipe_pool p;
	struct buf      *b[2];

	cr_assert_eq(pipe_pool_init(&p, 2), 0);
	b[0] = pipe_get(&p);
	b[1] = pipe_get(&p);
	cr_expect(b[0] && b[1] && b[0] != b[1]);
	cr_expect_null(pipe_get(&p));
	buf_unref(b[0]);
	buf_unref(b[1]);
	pipe_pool_fini(&p);
	cr_expect_null(pipe_get(NULL));
}

Test(pipe, without_a_descriptor_there_is_none_and_the_kernel_is_not_asked_again_at_once)
{
	struct rlimit    limit = { 3, 64 }, more = { 64, 64 };
	struct pipe_pool p;
	struct buf      *b = NULL;
	int              asked = 0;

	cr_assert_eq(pipe_pool_init(&p, 2), 0);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_null(pipe_get(&p));
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &more), 0);
	while (!b && asked++ < 2 * PIPE_REFUSED_SKIP)
		b = pipe_get(&p);
	cr_expect_eq(asked, PIPE_REFUSED_SKIP + 1);
	cr_assert_not_null(b);
	buf_unref(b);
	pipe_pool_fini(&p);
}

Test(pipe, ending_the_pool_with_a_pipe_out_asserts, .signal = SIGABRT)
{
	struct pipe_pool p;

	pipe_pool_init(&p, 2);
	(void)pipe_get(&p);
	pipe_pool_fini(&p);
}
