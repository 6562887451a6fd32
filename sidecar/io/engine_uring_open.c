/* The io_uring backend, set up and taken down: the ring, its buffer rings, what it may do. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sidecar/io/engine_impl.h"

enum {
	RING_SMALL = 256, /* entries of the buffer rings: the most that may be filled */
	RING_LARGE = 128,
};

static int ring_register(const struct uring *u, unsigned op, const void *arg, unsigned n)
{
	long rc = syscall(__NR_io_uring_register, u->ring.ring_fd, op, arg, n);

	return rc < 0 ? -errno : (int)rc;
}

/*
 * Nothing but what we do: somebody who takes over the worker cannot open files through the ring.  After this
 * no further registration is possible, so it comes last.
 */
static int ring_restrict(const struct uring *u)
{
	static const uint8_t ops[] = { IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV,
		                       IORING_OP_SEND,   IORING_OP_SENDMSG, IORING_OP_POLL_ADD,
		                       IORING_OP_ASYNC_CANCEL };
	static const uint8_t regs[] = { IORING_REGISTER_ENABLE_RINGS, IORING_UNREGISTER_RING_FDS };
	struct io_uring_restriction r[ARRAY_LEN(ops) + ARRAY_LEN(regs) + 1];
	unsigned                    n = 0;
	int                         rc;

	memset(r, 0, sizeof(r));
	for (size_t i = 0; i < ARRAY_LEN(ops); i++, n++) {
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n].sqe_op = ops[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(regs); i++, n++) {
		r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
		r[n].register_op = regs[i];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n].sqe_flags = IOSQE_BUFFER_SELECT;
	n++;
	rc = ring_register(u, IORING_REGISTER_RESTRICTIONS, r, n);
	return rc ? rc : ring_register(u, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int group_init(struct uring *u, enum buf_class cls, uint32_t count)
{
	struct uring_group    *g = &u->groups[cls];
	struct io_uring_buf_reg reg;
	void                  *p;

	g->entries = cls == BUF_SMALL ? RING_SMALL : RING_LARGE;
	g->target = g->low = count < URING_FILL_MIN ? count : URING_FILL_MIN;
	/* Not IOU_PBUF_RING_MMAP: memory mapped by the kernel was CVE-2024-0582. */
	p = mmap(NULL, g->entries * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	g->ring = p;
	memset(&reg, 0, sizeof(reg));
	reg.ring_addr = (uint64_t)(uintptr_t)p;
	reg.ring_entries = g->entries;
	reg.bgid = (uint16_t)cls;
	return ring_register(u, IORING_REGISTER_PBUF_RING, &reg, 1);
}

static int ring_open(struct uring *u, const struct engine_conf *conf)
{
	struct io_uring_params p;
	unsigned               need = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
	                IORING_FEAT_EXT_ARG | IORING_FEAT_FAST_POLL;
	int rc;

	memset(&p, 0, sizeof(p));
	p.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
	          IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
	p.cq_entries = conf->cq_entries ? conf->cq_entries : ENGINE_CQ_DEFAULT;
	rc = io_uring_queue_init_params(conf->sq_entries ? conf->sq_entries : ENGINE_SQ_DEFAULT,
	                                &u->ring, &p);
	if (rc)
		return rc;
	if ((u->ring.features & need) != need) {
		io_uring_queue_exit(&u->ring);
		return -ENOSYS;
	}
	return 0;
}

/* Both rings, seen from here. */
static void ring_map(struct uring *u)
{
	struct io_uring *r = &u->ring;

	u->sqes = r->sq.sqes;
	u->sq_khead = r->sq.khead;
	u->sq_ktail = r->sq.ktail;
	u->sq_kflags = r->sq.kflags;
	u->sq_entries = *r->sq.kring_entries;
	u->sq_mask = *r->sq.kring_mask;
	u->sq_tail = *r->sq.ktail;
	u->cqes = r->cq.cqes;
	u->cq_khead = r->cq.khead;
	u->cq_ktail = r->cq.ktail;
	u->cq_mask = *r->cq.kring_mask;
	/* Newer libraries may have left the index array out (NO_SQARRAY). */
	if (r->sq.array) {
		for (unsigned i = 0; i < u->sq_entries; i++)
			r->sq.array[i] = i;
	}
}

static void groups_unmap(struct uring *u)
{
	for (int c = 0; c < BUF_CLASSES; c++) {
		if (u->groups[c].ring)
			munmap(u->groups[c].ring, u->groups[c].entries * sizeof(struct io_uring_buf));
	}
}

static int ring_prepare(struct engine *e)
{
	struct uring *u = &e->u;
	unsigned      workers[2] = { 1, 1 };
	int           rc;

	for (int c = 0; c < BUF_CLASSES; c++) {
		rc = group_init(u, (enum buf_class)c, e->bufs->cls[c].count);
		if (rc)
			return rc;
	}
	/* The default is RLIMIT_NPROC threads; none of our operations should ever need one. */
	(void)ring_register(u, IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2);
	u->enter_fd = u->ring.ring_fd;
	if (io_uring_register_ring_fd(&u->ring) == 1) {
		u->enter_fd = u->ring.enter_ring_fd;
		u->enter_flags = IORING_ENTER_REGISTERED_RING;
	}
	u->side = calloc(u->sq_entries, sizeof(*u->side));
	if (!u->side)
		return -ENOMEM;
	return ring_restrict(u);
}

static const char *why(int rc)
{
	switch (-rc) {
	case EPERM:
	case EACCES:
		return "EPERM: seccomp profile or sysctl kernel.io_uring_disabled";
	case ENOSYS:
		return "ENOSYS: kernel older than 6.1, or seccomp profile";
	case EINVAL:
		return "EINVAL: kernel older than 6.1";
	case ENOMEM:
		return "ENOMEM: locked-memory limit (RLIMIT_MEMLOCK) of this user is used up";
	case EMFILE:
	case ENFILE:
		return "EMFILE: no descriptor free";
	default:
		return strerror(-rc);
	}
}

int uring_init(struct engine *e, const struct engine_conf *conf, char reason[ENGINE_REASON_MAX])
{
	struct uring *u = &e->u;
	const char   *step = "io_uring_setup";
	int           rc;

	memset(u, 0, sizeof(*u));
	rc = ring_open(u, conf);
	if (rc == 0) {
		ring_map(u);
		step = "io_uring_register";
		rc = ring_prepare(e);
		if (rc) {
			io_uring_queue_exit(&u->ring);
			groups_unmap(u);
			free(u->side);
		}
	}
	if (rc)
		snprintf(reason, ENGINE_REASON_MAX, "%s (%s)", why(rc), step);
	else
		reason[0] = 0;
	return rc;
}

/* The buffers in the rings go back to the pool; the kernel does not know them any more. */
static void groups_drain(struct engine *e)
{
	for (int c = 0; c < BUF_CLASSES; c++) {
		struct uring_group *g = &e->u.groups[c];

		while (g->in_ring > 0) {
			uint16_t at = (uint16_t)(g->tail - g->in_ring--);

			at &= (uint16_t)(g->entries - 1);
			buf_unref(&e->bufs->cls[c].all[g->ring->bufs[at].bid]);
		}
	}
}

void uring_fini(struct engine *e)
{
	io_uring_queue_exit(&e->u.ring);
	groups_drain(e);
	groups_unmap(&e->u);
	free(e->u.side);
}
