/* Where io_uring is refused: each way of refusing ends in epoll, with a reason. */
#include "test_engine.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* From now on the system call has this result. */
static void filter(unsigned nr, uint32_t action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_LEN(code), code };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
		cr_skip_test("no seccomp here");
}

static void need_uring(void)
{
	char reason[ENGINE_REASON_MAX];

	if (engine_probe(reason) != 0)
		cr_skip_test("%s", reason);
	cr_assert_str_eq(reason, "");
}

Test(engine_probe, says_yes_where_io_uring_works)
{
	need_uring();
}

/* clang-format off */
static const struct refusal {
	const char *says;
	unsigned    nr;
	uint32_t    action;
	int         rc;
	const char *word; /* in the reason */
} refusals[] = {
	{ "setup refused, the usual way", __NR_io_uring_setup,    SECCOMP_RET_ERRNO | EPERM,      -EPERM,      "seccomp" },
	{ "setup unknown",                __NR_io_uring_setup,    SECCOMP_RET_ERRNO | ENOSYS,     -ENOSYS,     "ENOSYS" },
	{ "setup refused by a cloud",     __NR_io_uring_setup,    SECCOMP_RET_ERRNO | EOPNOTSUPP, -EOPNOTSUPP, "io_uring_setup" },
	{ "setup kills",                  __NR_io_uring_setup,    SECCOMP_RET_KILL_PROCESS,       -ENOSYS,     "SIGSYS" },
	{ "only register refused",        __NR_io_uring_register, SECCOMP_RET_ERRNO | EPERM,      -EPERM,      "io_uring_register" },
	{ "only enter refused",           __NR_io_uring_enter,    SECCOMP_RET_ERRNO | EPERM,      -EPERM,      "operation" },
	{ "enter kills",                  __NR_io_uring_enter,    SECCOMP_RET_KILL_PROCESS,       -ENOSYS,     "SIGSYS" },
};
/* clang-format on */

static void refuse(const struct refusal *r)
{
	char            reason[ENGINE_REASON_MAX];
	struct world    w;
	struct iovec    iov = { reason, 1 };
	struct seen     a = { 0 }, b = { 0 };
	int             fds[2], rc;

	need_uring();
	filter(r->nr, r->action);
	rc = engine_probe(reason);
	cr_assert_eq(rc, r->rc, "%s: %d %s", r->says, rc, reason);
	cr_assert_not_null(strstr(reason, r->word), "%s: %s", r->says, reason);
	/* What a worker does then. */
	world_open(&w, ENGINE_EPOLL);
	pair(fds);
	engine_op_init(&a.op, on_received);
	engine_op_init(&b.op, on_seen);
	engine_recv(w.e, &a.op, fds[0], BUF_SMALL);
	engine_send(w.e, &b.op, fds[1], &iov, 1);
	turn_until(&w, &a.times, 1);
	engine_close(w.e, fds[0]);
	engine_close(w.e, fds[1]);
	world_close(&w);
}

#define REFUSAL(i, name)                                                                           \
	Test(engine_probe, name, .timeout = 20)                                                    \
	{                                                                                          \
		refuse(&refusals[i]);                                                              \
	}

REFUSAL(0, a_filter_that_refuses_setup_is_named)
REFUSAL(1, a_filter_that_denies_the_call_exists_is_named)
REFUSAL(2, any_errno_will_do)
REFUSAL(3, a_filter_that_kills_costs_only_the_child)
REFUSAL(4, a_half_blocked_family_is_noticed_at_registering)
REFUSAL(5, a_half_blocked_family_is_noticed_at_the_first_byte)
REFUSAL(6, a_filter_that_kills_at_the_first_byte_costs_only_the_child)

static int open_auto(struct buf_pool *bufs, enum engine_kind kind, char *reason, struct engine **e)
{
	struct engine_conf conf = { .kind = kind, .bufs = bufs };

	cr_assert_eq(buf_pool_init(bufs, 8, 8), 0);
	return engine_new(&conf, reason, e);
}

Test(engine_new, takes_epoll_when_io_uring_is_refused_and_says_why)
{
	char            reason[ENGINE_REASON_MAX];
	struct buf_pool bufs;
	struct engine  *e;

	filter(__NR_io_uring_setup, SECCOMP_RET_ERRNO | EPERM);
	cr_assert_eq(open_auto(&bufs, ENGINE_AUTO, reason, &e), 0);
	cr_assert_str_eq(engine_name(e), "epoll");
	cr_assert_not_null(strstr(reason, "kernel.io_uring_disabled"), "%s", reason);
	engine_free(e);
}

Test(engine_new, fails_when_io_uring_is_demanded_and_refused)
{
	char            reason[ENGINE_REASON_MAX];
	struct buf_pool bufs;
	struct engine  *e;

	filter(__NR_io_uring_setup, SECCOMP_RET_ERRNO | EPERM);
	cr_assert_eq(open_auto(&bufs, ENGINE_URING, reason, &e), -EPERM);
	cr_assert_str_neq(reason, "");
}

Test(engine_new, takes_epoll_when_the_locked_memory_is_used_up)
{
	const struct rlimit none = { 0, 0 };
	char                reason[ENGINE_REASON_MAX];
	struct buf_pool     bufs;
	struct engine      *e;

	need_uring();
	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	if (geteuid() == 0)
		cr_assert_eq(setuid(65534), 0);
	cr_assert_eq(open_auto(&bufs, ENGINE_AUTO, reason, &e), 0);
	/* Kernels 5.12 to some later one charge nothing. */
	if (strcmp(engine_name(e), "epoll") == 0)
		cr_assert_not_null(strstr(reason, "ENOMEM"), "%s", reason);
	else
		cr_skip_test("this kernel does not charge rings to RLIMIT_MEMLOCK");
	engine_free(e);
}

Test(engine_new, epoll_works_without_epoll_pwait2)
{
	struct world w;
	uint64_t     from;

	filter(SYS_epoll_pwait2, SECCOMP_RET_ERRNO | EPERM);
	world_open(&w, ENGINE_EPOLL);
	from = clock_ns();
	cr_assert_eq(engine_turn(w.e, from + 5 * MS), 0);
	cr_assert_geq(clock_ns(), from + 5 * MS, "early");
	world_close(&w);
}

Test(engine_new, the_ring_can_do_nothing_but_our_verbs)
{
	struct world w;

	/* Ask the kernel itself: nothing can be registered any more. */
	world_open(&w, ENGINE_URING);
	for (int fd = 3; fd < 64; fd++) {
		char          path[32], link[64];
		ssize_t       n;
		unsigned      workers[2] = { 0, 0 };

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, link, sizeof(link) - 1);
		if (n <= 0)
			continue;
		link[n] = 0;
		if (!strstr(link, "io_uring"))
			continue;
		cr_assert_eq(syscall(__NR_io_uring_register, fd, 19, workers, 2), -1);
		cr_assert_eq(errno, EACCES);
		world_close(&w);
		return;
	}
	cr_assert_fail("no ring among the descriptors");
}
