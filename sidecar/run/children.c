#include "sidecar/run/children.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static void close_range_(unsigned first, unsigned last)
{
	if (first <= last && syscall(SYS_close_range, first, last, 0) != 0) {
		for (unsigned fd = first; fd <= last && fd < 65536; fd++)
			close((int)fd);
	}
}

/*
 * The child keeps what it works with and nothing else: another worker's socket held here would go
 * on listening after that worker has drained, the admin sockets would outlive the supervisor.
 */
static void close_others(const struct worker_plan *plan, uint32_t place, int control_fd)
{
	int keep[8 + RHC_WORKERS_MAX + LISTEN_MAX], n = 0;
	unsigned from = 0;

	keep[n++] = STDIN_FILENO;
	keep[n++] = STDOUT_FILENO;
	keep[n++] = STDERR_FILENO;
	keep[n++] = plan->seg->fd;
	keep[n++] = plan->seg->master_fd; /* closed by rhc_segment_forked() */
	keep[n++] = control_fd;
	for (unsigned i = 0; i < RHC_WORKERS_MAX; i++)
		keep[n++] = plan->wake_fds[i];
	for (unsigned i = 0; i < plan->listen->n; i++)
		keep[n++] = plan->listen->fd[i][place];
	qsort(keep, (size_t)n, sizeof(keep[0]), compare);
	for (int i = 0; i < n; i++) {
		if (keep[i] < 0)
			continue;
		if (keep[i] > 0)
			close_range_(from, (unsigned)keep[i] - 1);
		from = (unsigned)keep[i] + 1;
	}
	close_range_(from, ~0u);
}

int child_start(struct child *c)
{
	const struct worker_plan *plan = &c->g->plan;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int err = errno;

		close(pair[0]);
		close(pair[1]);
		return -err;
	}
	if (pid == 0) {
		close_others(plan, c->place, pair[1]);
		exit(worker_run(plan, c->index, c->place, pair[1]));
	}
	close(pair[1]);
	c->pid = pid;
	c->control_fd = pair[0];
	c->born_ns = clock_ns();
	c->hang_told = false;
	return 0;
}

void child_tell(struct child *c, char what)
{
	if (c->control_fd < 0 || send(c->control_fd, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return;
	if (errno == EAGAIN && c->pid > 0 && (what == WORKER_DRAIN || what == WORKER_EXIT)) {
		kill(c->pid, SIGTERM);
	} else if (errno == EPIPE || errno == ECONNRESET) { /* it is dead: SIGCHLD comes */
		close(c->control_fd);
		c->control_fd = -1;
	}
}

void child_forget(struct child *c)
{
	c->pid = 0;
	if (c->control_fd >= 0)
		close(c->control_fd);
	c->control_fd = -1;
}

uint64_t child_backoff_ns(struct child *c, const struct config_supervisor *rule, uint64_t now_ns)
{
	uint64_t wait = rule->restart_backoff_min_ns;

	if (now_ns - c->born_ns > rule->restart_backoff_max_ns)
		c->quick = 0; /* it lived: this is another story */
	if (c->quick < UINT32_MAX)
		c->quick++;
	if (c->quick == 1)
		return 0;
	for (uint32_t i = 2; i < c->quick && wait < rule->restart_backoff_max_ns; i++)
		wait *= 2;
	return wait < rule->restart_backoff_max_ns ? wait : rule->restart_backoff_max_ns;
}
