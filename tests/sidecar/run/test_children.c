#include "sidecar/run/children.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sidecar/base/clock.h"

static const struct config_supervisor rule = {
	.restart_backoff_min_ns = 100 * NS_PER_MS,
	.restart_backoff_max_ns = 30 * NS_PER_S,
};

Test(children,
     the_first_death_is_answered_at_once_and_those_that_follow_with_doubling_waits_up_to_the_limit)
{
	static const uint64_t want_ms[] = { 0,    100,  200,   400,   800,   1600,
					    3200, 6400, 12800, 25600, 30000, 30000 };
	struct child c = { .born_ns = 1000 };

	for (size_t i = 0; i < sizeof(want_ms) / sizeof(want_ms[0]); i++)
		cr_expect_eq(child_backoff_ns(&c, &rule, 2000), want_ms[i] * NS_PER_MS, "death %zu",
			     i + 1);
}

Test(children, a_life_longer_than_the_longest_wait_begins_anew)
{
	struct child c = { .born_ns = 0, .quick = 7 };

	cr_expect_eq(child_backoff_ns(&c, &rule, 30 * NS_PER_S), 6400 * NS_PER_MS, "not longer");
	cr_expect_eq(child_backoff_ns(&c, &rule, 30 * NS_PER_S + 1), 0);
	cr_expect_eq(child_backoff_ns(&c, &rule, 1), 100 * NS_PER_MS);
}

Test(children, waits_do_not_overflow_after_very_many_deaths)
{
	struct child c = { .quick = UINT32_MAX - 2 };

	cr_expect_eq(child_backoff_ns(&c, &rule, 1), 30 * NS_PER_S);
	cr_expect_eq(child_backoff_ns(&c, &rule, 1), 30 * NS_PER_S);
	cr_expect_eq(child_backoff_ns(&c, &rule, 1), 30 * NS_PER_S,
		     "the count does not begin anew");
}

static void pair(int fd[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
}

Test(children, what_is_told_arrives)
{
	struct child c = { .pid = getpid() };
	int fd[2];
	char got;

	pair(fd);
	c.control_fd = fd[0];
	child_tell(&c, WORKER_HEALTH);
	cr_assert_eq(read(fd[1], &got, 1), 1);
	cr_assert_eq(got, WORKER_HEALTH);
	child_forget(&c);
	cr_assert(c.pid == 0 && c.control_fd == -1);
	cr_assert_eq(read(fd[1], &got, 1), 0, "the worker sees the end");
	close(fd[1]);
	child_tell(&c, WORKER_DRAIN); /* nobody is there */
}

Test(children, who_has_closed_its_end_is_told_nothing_more)
{
	struct child c = { .pid = getpid() };
	int fd[2];

	pair(fd);
	c.control_fd = fd[0];
	close(fd[1]);
	child_tell(&c, WORKER_HEALTH);
	cr_assert_eq(c.control_fd, -1);
}

static void fill(struct child *c)
{
	for (int i = 0; i < 100000; i++)
		child_tell(c, WORKER_HEALTH);
	cr_assert(send(c->control_fd, "x", 1, MSG_DONTWAIT) < 0 && errno == EAGAIN,
		  "the channel is not full");
}

Test(children, a_worker_that_does_not_read_is_asked_to_drain_by_a_signal_and_otherwise_left_alone,
     .timeout = 20)
{
	struct child c = { 0 };
	int fd[2], status;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pair(fd);
	c.control_fd = fd[0];
	c.pid = fork();
	if (c.pid == 0) {
		static const struct timespec soon = { .tv_sec = 10 };

		_exit(sigtimedwait(&set, NULL, &soon) == SIGTERM ? 7 : 1);
	}
	fill(&c);
	cr_assert_eq(waitpid(c.pid, &status, WNOHANG), 0, "a health check is not worth a signal");
	child_tell(&c, WORKER_DRAIN);
	cr_assert_eq(waitpid(c.pid, &status, 0), c.pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	child_forget(&c);
	close(fd[1]);
}
