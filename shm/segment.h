/*
 * shm/segment.h - the file that is the segment: create, attach, refuse, set aside, locks.
 *
 * Shape    struct rhc_segment is private to a process: mapping, descriptor and a checked copy of
 *          the header.  Only that copy is used for addressing, so nothing in the file can move a
 *          pointer.
 * Publish  the file is built complete under no name (O_TMPFILE), every byte reserved
 *          (posix_fallocate: ENOSPC here instead of SIGBUS later), then linkat()ed: it has no name
 *          or it is whole.  Its size never changes.
 * Locks    OFD write locks on bytes far beyond the file: MASTER, ADMIN and one per worker index. 
 *          The kernel drops them when the holder is gone, however it went, in whatever pid
 *          namespace.  A locking description is always its own: never the mapped one (the mapping
 *          would keep it), never one a ring knows (the ring would keep it), never inherited over
 *          fork unless closed at once.
 * SIGBUS   whoever may write the file may truncate it; a load then raises SIGBUS.  shm installs no
 *          handler.  A worker's should write one line and _exit() (its slots are taken back),
 *          rhcctl's may siglongjmp out of a read.
 * Errors   0 or -errno; attach and adopt say more in struct rhc_refusal.
 * Never    allocates, logs, reads a clock.  Touches only the segment's own path and <path>.bad-*.
 */
#ifndef RHC_SHM_SEGMENT_H
#define RHC_SHM_SEGMENT_H

#include "shm/layout.h"

#define RHC_BYTE_MASTER ((INT64_C(1) << 40) - 1) /* the supervisor */
#define RHC_BYTE_WORKER (INT64_C(1) << 40)       /* + index: alive */
#define RHC_BYTE_ADMIN  (INT64_C(1) << 41)       /* one change by hand at a time */

/* Why a file was refused; the names are what rhcctl and metrics show. */
enum rhc_refuse {
	RHC_REFUSE_NONE,
	RHC_REFUSE_ABSENT,   /* no such file, or no such directory */
	RHC_REFUSE_OPEN,     /* could not be opened: permission, too many files, ... */
	RHC_REFUSE_SYMLINK,
	RHC_REFUSE_TYPE,     /* not a regular file */
	RHC_REFUSE_OWNER,
	RHC_REFUSE_MODE,
	RHC_REFUSE_LINKS,    /* more or less than one name */
	RHC_REFUSE_FS,       /* not on tmpfs */
	RHC_REFUSE_SIZE,     /* shorter or longer than its header says, or too short for a header */
	RHC_REFUSE_MAGIC,
	RHC_REFUSE_ENDIAN,
	RHC_REFUSE_CRC,
	RHC_REFUSE_MAJOR,
	RHC_REFUSE_LAYOUT,   /* other build with the same major: read only */
	RHC_REFUSE_GEOMETRY, /* offsets do not follow from the counts */
	RHC_REFUSE_SHAPE,    /* sound, but made for fewer workers, upstreams or slots than asked for */
	RHC_REFUSE_BOOT,
	RHC_REFUSE_TIMENS,
	RHC_REFUSE_STATE,    /* retired */
	RHC_REFUSE_LOCKS,    /* this kernel or sandbox does not keep OFD locks apart */
	RHC_REFUSE_MASTER,   /* another supervisor runs on it */
	RHC_REFUSE_HELD,     /* damaged, but a worker lives on it */
	RHC_REFUSE_SPACE,    /* file system full */
	RHC_REFUSE_SYSTEM,   /* a system call failed that should not */
	RHC_REFUSE_COUNT
};

struct rhc_refusal {
	enum rhc_refuse why;
	int err;           /* errno, 0 if none */
	char text[384];    /* "<file>: <reason>: expected <x>, found <y>" */
	char aside[RHC_PATH_MAX + 32]; /* where a damaged file was put, "" if none was */
	enum rhc_refuse aside_why;     /* what was wrong with it */
};

/*
 * Aligned to a cache line by its header: static, on the stack or from aligned_alloc(), not from
 * malloc().
 */
struct rhc_segment {
	uint8_t *base;      /* NULL when detached */
	size_t size;
	int fd;             /* of the mapping; never locked, never given to a ring */
	int master_fd;      /* holds MASTER, or -1 */
	bool writable;
	bool created;       /* by this call of adopt */
	bool draining_peers; /* adopted while worker bytes were held: a predecessor drains */
	char path[RHC_PATH_MAX];
	struct rhc_hdr hdr; /* private, checked copy */
};

enum rhc_access { RHC_READ, RHC_WRITE };

struct rhc_segment_opt {
	const char *path;
	struct rhc_shape shape;
	uint32_t mode;          /* 0600, or 0660 for pods with an fsGroup */
	bool allow_disk;        /* a file system other than tmpfs is fine (tests) */
	bool fresh;             /* set a sound file aside as well (--state=fresh) */
	uint64_t mono_ns, wall_ns; /* now, on both clocks */
	uint8_t uuid[16];       /* random, of the caller */
};

/*
 * Supervisor: find, check and take over the segment at opt->path, or create it; hold MASTER until
 * detach.
 *   absent                                   create
 *   sound                                    take over; the caller reaps every index (rhc_reap_all)
 *   sound but for another shape, or fresh    as damaged
 *   damaged, no worker byte held             renamed to <path>.bad-<wall seconds>, one such kept;
 *   create damaged, a worker byte held              refused (HELD)
 *   wrong owner, mode, links, type           refused, never touched
 * Errors   -errno with *ret_refusal filled; -EBUSY another supervisor, -ENOSPC, -EPERM, ...
 */
int rhc_segment_adopt(struct rhc_segment *seg, const struct rhc_segment_opt *opt,
                      struct rhc_refusal *ret_refusal);

/*
 * rhcctl and tests: map an existing segment; takes no lock.  RHC_READ maps read-only and accepts
 * another minor version; RHC_WRITE wants exactly this build's layout.  root may attach to
 * anybody's segment.
 */
int rhc_segment_attach(struct rhc_segment *seg, const char *path, enum rhc_access access,
                       bool allow_disk, struct rhc_refusal *ret_refusal);

/*
 * The child after fork: drop the supervisor's lock description, keep the mapping.  The child
 * closes every other rhc_lock_open() description it inherited, too: a copy would keep what its
 * owner locked alive.  The supervisor best has no other: master_fd serves for rhc_reap() and the
 * liveness queries as well.
 */
void rhc_segment_forked(struct rhc_segment *seg);

void rhc_segment_detach(struct rhc_segment *seg);

/* Is this still the file of that name and not retired?  Long-running readers ask once a second. */
bool rhc_segment_current(const struct rhc_segment *seg);

const char *rhc_refuse_name(enum rhc_refuse why); /* "wrong_owner" */

/*
 * A description of its own for the segment's inode, O_CLOEXEC.  For locks only.
 * Errors   -errno of open; -ESTALE if the name now belongs to another file and /proc is missing.
 */
int rhc_lock_open(const struct rhc_segment *seg);
/* 0, -EAGAIN if somebody else holds the byte, or -errno. */
int rhc_lock_take(int fd, int64_t byte);
int rhc_lock_drop(int fd, int64_t byte);
/* 1 somebody else's description holds it, 0 nobody's, or -errno. */
int rhc_lock_held(int fd, int64_t byte);
/* Two descriptions must exclude each other; -ENOTSUP if they do not. */
int rhc_lock_selftest(const struct rhc_segment *seg);

/*
 * Set a display string of the header (version, engine, preset, instance), MASTER only; cut to
 * fit.
 */
void rhc_segment_say(char *field, size_t size, const char *text);

/* Addresses.  i must be below the private header's count: a bug asserts. */
struct rhc_hdr *rhc_seg_hdr(const struct rhc_segment *seg); /* the live one: only its mutable part */
const struct rhc_desc *rhc_seg_desc(const struct rhc_segment *seg, uint32_t i);
struct rhc_worker_rec *rhc_seg_worker(const struct rhc_segment *seg, uint32_t w);
struct rhc_up *rhc_seg_up(const struct rhc_segment *seg, uint32_t u);
_Atomic uint64_t *rhc_seg_slots(const struct rhc_segment *seg, uint32_t u);
_Atomic uint64_t *rhc_seg_hints(const struct rhc_segment *seg, uint32_t u);
struct rhc_win *rhc_seg_win(const struct rhc_segment *seg, uint32_t u, uint32_t w);
_Atomic uint64_t *rhc_seg_ctr(const struct rhc_segment *seg, uint32_t row, uint32_t u);
_Atomic uint64_t *rhc_seg_wctr(const struct rhc_segment *seg, uint32_t row);
struct rhc_hist *rhc_seg_hist(const struct rhc_segment *seg, uint32_t row, uint32_t u, uint32_t h);
/* The first record that is claimed at run time; max_upstreams if there is none. */
static inline uint32_t rhc_seg_hosts_from(const struct rhc_segment *seg)
{
	return seg->hdr.max_upstreams - seg->hdr.max_hosts;
}
static inline bool rhc_seg_is_host(const struct rhc_segment *seg, uint32_t u)
{
	return u >= rhc_seg_hosts_from(seg) && u < seg->hdr.max_upstreams;
}
struct rhc_host *rhc_seg_host(const struct rhc_segment *seg, uint32_t u); /* u a host's record */
struct rhc_ring *rhc_seg_ring(const struct rhc_segment *seg, uint32_t ring);

#endif
