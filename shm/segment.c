#include "shm/segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shm/counters.h"
#include "shm/file.h"

/* ---- checking a header ---- */

static int check_start(const struct rhc_hdr *h, const char *path, struct rhc_refusal *r)
{
	if (memcmp(h->magic, RHC_MAGIC, sizeof(h->magic)) != 0)
		return rhc_refuse(
			r, RHC_REFUSE_MAGIC, EINVAL,
			"%s: not a segment: expected magic 52484353484d0d0a, found %02x%02x%02x%02x"
			"%02x%02x%02x%02x",
			path, (uint8_t)h->magic[0], (uint8_t)h->magic[1], (uint8_t)h->magic[2],
			(uint8_t)h->magic[3], (uint8_t)h->magic[4], (uint8_t)h->magic[5],
			(uint8_t)h->magic[6], (uint8_t)h->magic[7]);
	if (h->endian != RHC_ENDIAN)
		return rhc_refuse(r, RHC_REFUSE_ENDIAN, EINVAL,
		                  "%s: byte order of another machine: expected %08x, found %08x", path,
		                  RHC_ENDIAN, h->endian);
	if (h->abi_major != RHC_ABI_MAJOR)
		return rhc_refuse(r, RHC_REFUSE_MAJOR, EPROTO,
		                  "%s: made by another version: expected layout %u, found %u", path,
		                  RHC_ABI_MAJOR, h->abi_major);
	return 0;
}

static int check_body(const struct rhc_hdr *h, const char *path, uint64_t size,
		      struct rhc_refusal *r)
{
	uint32_t crc = rhc_crc32c(0, h, offsetof(struct rhc_hdr, crc));

	if (h->crc != crc)
		return rhc_refuse(r, RHC_REFUSE_CRC, EINVAL,
		                  "%s: header is damaged: expected checksum %08x, found %08x", path, crc,
		                  h->crc);
	if (!rhc_layout_valid(h))
		return rhc_refuse(r, RHC_REFUSE_GEOMETRY, EINVAL,
		                  "%s: geometry does not add up: expected what %u workers, %u upstreams, %u "
		                  "slots give, found total %llu",
		                  path, h->max_workers, h->max_upstreams, h->slots_cap,
		                  (unsigned long long)h->total_size);
	if (h->total_size != size)
		return rhc_refuse(r, RHC_REFUSE_SIZE, EINVAL,
		                  "%s: wrong size: expected %llu bytes, found %llu", path,
		                  (unsigned long long)h->total_size, (unsigned long long)size);
	return 0;
}

static int check_layout(const struct rhc_hdr *h, const char *path, enum rhc_access access,
                        struct rhc_refusal *r)
{
	uint64_t own = rhc_layout_hash();

	if (access == RHC_WRITE && (h->layout_hash != own || h->abi_minor != RHC_ABI_MINOR))
		return rhc_refuse(r, RHC_REFUSE_LAYOUT, EPROTO,
		                  "%s: layout of another build, may only be read: expected %u.%u/%016llx, "
		                  "found %u.%u/%016llx",
		                  path, RHC_ABI_MAJOR, RHC_ABI_MINOR, (unsigned long long)own,
		                  h->abi_major, h->abi_minor, (unsigned long long)h->layout_hash);
	return 0;
}

static int check_epoch(const struct rhc_hdr *h, const char *path, struct rhc_refusal *r)
{
	uint8_t boot[16];
	uint64_t timens;

	rhc_file_boot(boot, &timens);
	if (memcmp(h->boot_id, boot, sizeof(boot)) != 0)
		return rhc_refuse(
			r, RHC_REFUSE_BOOT, ESTALE,
			"%s: made before the last boot: expected boot %02x%02x%02x%02x, found "
			"%02x%02x%02x%02x",
			path, boot[0], boot[1], boot[2], boot[3], h->boot_id[0], h->boot_id[1],
			h->boot_id[2], h->boot_id[3]);
	if (h->timens_ino != timens)
		return rhc_refuse(r, RHC_REFUSE_TIMENS, ESTALE,
		                  "%s: made in another time namespace: expected %llu, found %llu", path,
		                  (unsigned long long)timens, (unsigned long long)h->timens_ino);
	return 0;
}

static int check_header(const struct rhc_hdr *h, const char *path, uint64_t size,
                        enum rhc_access access, struct rhc_refusal *r)
{
	int rc = check_start(h, path, r);

	if (rc == 0)
		rc = check_body(h, path, size, r);
	if (rc == 0)
		rc = check_layout(h, path, access, r);
	if (rc == 0)
		rc = check_epoch(h, path, r);
	if (rc == 0 && atomic_load_explicit(&h->state, memory_order_relaxed) != RHC_SEG_STATE_READY)
		rc = rhc_refuse(r, RHC_REFUSE_STATE, ESTALE,
				"%s: retired, a successor exists: expected state %u, found %u",
				path, RHC_SEG_STATE_READY,
				atomic_load_explicit(&h->state, memory_order_relaxed));
	return rc;
}

/* pread, not a mapping: a file cut short gives a short count, not SIGBUS. */
static int read_header(int fd, const char *path, uint64_t size, struct rhc_hdr *ret,
                       struct rhc_refusal *r)
{
	ssize_t n = pread(fd, ret, sizeof(*ret), 0);

	if (n < 0)
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%s: cannot be read: %m", path);
	if ((size_t)n < sizeof(*ret) || size < RHC_HDR_SIZE)
		return rhc_refuse(r, RHC_REFUSE_SIZE, EINVAL,
		                  "%s: too short: expected at least %d bytes, found %llu", path,
		                  RHC_HDR_SIZE, (unsigned long long)size);
	return 0;
}

static int map(struct rhc_segment *seg, struct rhc_refusal *r)
{
	int prot = seg->writable ? PROT_READ | PROT_WRITE : PROT_READ;
	void *base = mmap(NULL, seg->size, prot, MAP_SHARED | MAP_POPULATE, seg->fd, 0);

	if (base == MAP_FAILED)
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%s: cannot be mapped: %m", seg->path);
	seg->base = base;
	return 0;
}

/*
 * Open, check, copy the header; no mapping yet.  seg->fd is open even if the contents were
 * refused.
 */
static int examine(struct rhc_segment *seg, enum rhc_access access,
		   const struct rhc_file_rules *rules, struct rhc_refusal *r)
{
	uint64_t size;
	int rc = rhc_file_open(seg->path, access, rules, &seg->fd, &size, r);

	if (rc)
		return rc;
	seg->size = size;
	seg->writable = access == RHC_WRITE;
	rc = read_header(seg->fd, seg->path, size, &seg->hdr, r);
	return rc ? rc : check_header(&seg->hdr, seg->path, size, access, r);
}

static int start(struct rhc_segment *seg, const char *path, struct rhc_refusal *r)
{
	memset(seg, 0, sizeof(*seg));
	memset(r, 0, sizeof(*r));
	seg->fd = -1;
	seg->master_fd = -1;
	if (strnlen(path, RHC_PATH_MAX) >= RHC_PATH_MAX - 32)
		return rhc_refuse(r, RHC_REFUSE_OPEN, ENAMETOOLONG, "%.64s...: path too long", path);
	snprintf(seg->path, sizeof(seg->path), "%s", path);
	return 0;
}

int rhc_segment_attach(struct rhc_segment *seg, const char *path, enum rhc_access access,
                       bool allow_disk, struct rhc_refusal *ret_refusal)
{
	struct rhc_file_rules rules = { .mode = 0660, .allow_disk = allow_disk, .root_may = true };
	int rc = start(seg, path, ret_refusal);

	if (rc == 0)
		rc = examine(seg, access, &rules, ret_refusal);
	if (rc == 0)
		rc = map(seg, ret_refusal);
	if (rc)
		rhc_segment_detach(seg);
	return rc;
}

/* Offsets are multiples of a cache line by rhc_layout_valid(). */
static void *at(const struct rhc_segment *seg, uint64_t offset)
{
	return seg->base + offset;
}

/* ---- creating ---- */

static void fill_contents(struct rhc_segment *seg)
{
	for (uint32_t i = 0; i < seg->hdr.n_desc; i++)
		rhc_desc_make(i, (struct rhc_desc *)at(seg, seg->hdr.off_desc) + i);
	/* Everything else begins as zero, but the hints: every slot is free. */
	for (uint32_t u = 0; u < seg->hdr.max_upstreams; u++) {
		_Atomic uint64_t *hints = rhc_seg_hints(seg, u);

		for (uint32_t i = 0; i < seg->hdr.slots_cap / 64; i++)
			atomic_store_explicit(&hints[i], UINT64_MAX, memory_order_relaxed);
	}
	memcpy(seg->base, &seg->hdr, sizeof(seg->hdr));
}

static void fill_header(struct rhc_hdr *h, const struct rhc_segment_opt *opt)
{
	rhc_file_boot(h->boot_id, &h->timens_ino);
	memcpy(h->uuid, opt->uuid, sizeof(h->uuid));
	h->mono_base_ns = opt->mono_ns;
	h->wall_base_ns = opt->wall_ns;
	h->crc = rhc_crc32c(0, h, offsetof(struct rhc_hdr, crc));
	atomic_store_explicit(&h->state, RHC_SEG_STATE_READY, memory_order_relaxed);
}

static int take_master(struct rhc_segment *seg, struct rhc_refusal *r)
{
	auto_close int fd = rhc_lock_open(seg);
	int rc;

	if (fd < 0)
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, -fd, "%s: no lock descriptor: %m", seg->path);
	rc = rhc_lock_take(fd, RHC_BYTE_MASTER);
	if (rc == -EAGAIN)
		return rhc_refuse(r, RHC_REFUSE_MASTER, EBUSY,
		                  "%s: in use: expected no other supervisor, found one", seg->path);
	if (rc)
		return rhc_refuse(r, RHC_REFUSE_LOCKS, -rc, "%s: cannot be locked: %m", seg->path);
	seg->master_fd = rhc_take_fd(&fd);
	return 0;
}

static int selftest(struct rhc_segment *seg, struct rhc_refusal *r)
{
	int rc = rhc_lock_selftest(seg);

	if (rc)
		return rhc_refuse(r, RHC_REFUSE_LOCKS, -rc,
		                  "%s: locks of open file descriptions do not work here: expected two to "
		                  "exclude each other: %m",
		                  seg->path);
	return 0;
}

/* Complete, reserved, filled, locked, and only then named.  -EEXIST: somebody else was first. */
static int create(struct rhc_segment *seg, const struct rhc_segment_opt *opt, struct rhc_refusal *r)
{
	struct rhc_file_new file;
	int rc;

	memset(&seg->hdr, 0, sizeof(seg->hdr));
	rc = rhc_layout_fill(&seg->hdr, &opt->shape);
	if (rc)
		return rhc_refuse(r, RHC_REFUSE_SHAPE, -rc,
		                  "%s: cannot be made: expected at most %d workers, %d upstreams, %d slots, "
		                  "found %u, %u, %u",
		                  seg->path, RHC_WORKERS_MAX, RHC_UPSTREAMS_MAX, RHC_SLOTS_MAX,
		                  opt->shape.workers, opt->shape.upstreams, opt->shape.slots);
	seg->size = seg->hdr.total_size;
	seg->writable = true;
	rc = rhc_file_begin(&file, seg->path, opt->mode, seg->size, opt->allow_disk, r);
	if (rc)
		return rc;
	seg->fd = file.fd;
	rc = map(seg, r);
	if (rc == 0)
		rc = selftest(seg, r);
	if (rc == 0) {
		fill_header(&seg->hdr, opt);
		fill_contents(seg);
		rc = take_master(seg, r);
	}
	if (rc == 0)
		rc = rhc_file_publish(&file, seg->path, r);
	else
		rhc_file_cancel(&file);
	seg->created = rc == 0;
	return rc;
}

/* ---- adopting ---- */

/* Records that a configuration fills. */
static uint32_t declared(const struct rhc_hdr *h)
{
	return h->max_upstreams - h->max_hosts;
}

static int check_shape(const struct rhc_segment *seg, const struct rhc_segment_opt *opt,
                       struct rhc_refusal *r)
{
	struct rhc_hdr want;

	memset(&want, 0, sizeof(want));
	if (rhc_layout_fill(&want, &opt->shape))
		return rhc_refuse(r, RHC_REFUSE_SHAPE, ERANGE, "%s: shape asked for is out of range",
		                  seg->path);
	if (seg->hdr.max_workers < want.max_workers ||
	    declared(&seg->hdr) < declared(&want) || seg->hdr.max_hosts < want.max_hosts ||
	    seg->hdr.slots_cap < want.slots_cap)
		return rhc_refuse(r, RHC_REFUSE_SHAPE, ERANGE,
		                  "%s: too small: expected %u workers, %u upstreams, %u hosts, %u slots, found "
		                  "%u, %u, %u, %u",
		                  seg->path, want.max_workers, declared(&want), want.max_hosts, want.slots_cap,
		                  seg->hdr.max_workers, declared(&seg->hdr), seg->hdr.max_hosts,
		                  seg->hdr.slots_cap);
	if (opt->fresh)
		return rhc_refuse(r, RHC_REFUSE_STATE, ECANCELED, "%s: sound, but a fresh state was asked for",
		                  seg->path);
	return 0;
}

/* Any worker index, also of a header that cannot be believed: one query over the whole range. */
static bool workers_held(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = RHC_BYTE_WORKER,
		.l_len = RHC_WORKERS_MAX };

	/* Cannot ask = assume somebody lives: the safe side. */
	return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

static int set_aside(struct rhc_segment *seg, const struct rhc_segment_opt *opt,
		     struct rhc_refusal *r)
{
	enum rhc_refuse why = r->why;
	char found[sizeof(r->text)];

	memcpy(found, r->text, sizeof(found));
	if (workers_held(seg->master_fd))
		return rhc_refuse(r, RHC_REFUSE_HELD, EBUSY,
		                  "%.250s; cannot be replaced: expected no worker on it, found one", found);
	if (rhc_file_aside(seg->path, opt->wall_ns / 1000000000, r->aside, sizeof(r->aside)) != 0)
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%.250s; cannot be set aside: %m", found);
	r->aside_why = why;
	return 0;
}

static bool never_touch(enum rhc_refuse why)
{
	switch (why) {
	case RHC_REFUSE_OPEN:
	case RHC_REFUSE_SYMLINK:
	case RHC_REFUSE_TYPE:
	case RHC_REFUSE_OWNER:
	case RHC_REFUSE_MODE:
	case RHC_REFUSE_LINKS:
	case RHC_REFUSE_FS:
	case RHC_REFUSE_SYSTEM:
		return true;
	default:
		return false;
	}
}

/* One look at the path.  0 done, -EAGAIN look again, else refused for good. */
static int adopt_once(struct rhc_segment *seg, const struct rhc_segment_opt *opt,
		      struct rhc_refusal *r)
{
	struct rhc_file_rules rules = { .mode = opt->mode, .allow_disk = opt->allow_disk };
	int rc = examine(seg, RHC_WRITE, &rules, r), sound;

	if (rc && r->why == RHC_REFUSE_ABSENT) {
		rc = create(seg, opt, r);
		return rc == -EEXIST ? -EAGAIN : rc;
	}
	if (rc && never_touch(r->why))
		return rc;
	sound = rc ? rc : check_shape(seg, opt, r);
	if (sound != 0) {
		struct rhc_refusal found = *r;

		rc = take_master(seg, r);
		if (rc == 0)
			*r = found;
	} else {
		rc = take_master(seg, r);
	}
	if (rc)
		return rc;
	/* We may have locked a file that somebody renamed away between open and lock. */
	if (!rhc_file_is(seg->fd, seg->path))
		return -EAGAIN;
	if (sound != 0) {
		rc = set_aside(seg, opt, r);
		return rc ? rc : -EAGAIN;
	}
	rc = selftest(seg, r);
	if (rc == 0)
		rc = map(seg, r);
	seg->draining_peers = rc == 0 && workers_held(seg->master_fd);
	return rc;
}

int rhc_segment_adopt(struct rhc_segment *seg, const struct rhc_segment_opt *opt,
                      struct rhc_refusal *ret_refusal)
{
	struct rhc_segment_opt o = *opt;
	struct rhc_refusal r;
	int rc = start(seg, opt->path, ret_refusal);

	if (rc)
		return rc;
	o.mode = o.mode ? o.mode : 0600;
	/*
	 * Each further round means that another supervisor got in between; that ends after a few.
	 */
	for (unsigned round = 0; round < 8; round++) {
		memset(&r, 0, sizeof(r));
		memcpy(r.aside, ret_refusal->aside, sizeof(r.aside));
		r.aside_why = ret_refusal->aside_why;
		rc = adopt_once(seg, &o, &r);
		*ret_refusal = r;
		if (rc == 0) {
			ret_refusal->why = RHC_REFUSE_NONE;
			ret_refusal->err = 0;
			ret_refusal->text[0] = 0;
			return 0;
		}
		rhc_segment_detach(seg);
		if (rc != -EAGAIN)
			return rc;
		o.fresh = o.fresh && ret_refusal->aside[0] == 0;
	}
	return rhc_refuse(ret_refusal, RHC_REFUSE_MASTER, EBUSY,
	                  "%s: changes hands all the time: expected to settle within 8 looks", seg->path);
}

void rhc_segment_forked(struct rhc_segment *seg)
{
	if (seg->master_fd >= 0)
		close(rhc_take_fd(&seg->master_fd));
}

void rhc_segment_detach(struct rhc_segment *seg)
{
	if (seg->base)
		munmap(seg->base, seg->size);
	seg->base = NULL;
	if (seg->fd >= 0)
		close(rhc_take_fd(&seg->fd));
	rhc_segment_forked(seg);
}

bool rhc_segment_current(const struct rhc_segment *seg)
{
	return rhc_file_is(seg->fd, seg->path) &&
	       atomic_load_explicit(&rhc_seg_hdr(seg)->state, memory_order_acquire) ==
	               RHC_SEG_STATE_READY;
}

void rhc_segment_say(char *field, size_t size, const char *text)
{
	size_t len = strnlen(text, size - 1);

	/* Byte by byte, atomically: readers copy while we write, and must find an end. */
	for (size_t i = 0; i < size; i++)
		__atomic_store_n(&field[i], i < len ? text[i] : 0, __ATOMIC_RELAXED);
}

/* ---- addresses: the private header only ---- */

struct rhc_hdr *rhc_seg_hdr(const struct rhc_segment *seg)
{
	return at(seg, 0);
}

const struct rhc_desc *rhc_seg_desc(const struct rhc_segment *seg, uint32_t i)
{
	assert(i < seg->hdr.n_desc);
	return (const struct rhc_desc *)at(seg, seg->hdr.off_desc) + i;
}

struct rhc_worker_rec *rhc_seg_worker(const struct rhc_segment *seg, uint32_t w)
{
	assert(w < seg->hdr.max_workers);
	return (struct rhc_worker_rec *)at(seg, seg->hdr.off_workers) + w;
}

struct rhc_up *rhc_seg_up(const struct rhc_segment *seg, uint32_t u)
{
	assert(u < seg->hdr.max_upstreams);
	return (struct rhc_up *)at(seg, seg->hdr.off_up) + u;
}

_Atomic uint64_t *rhc_seg_slots(const struct rhc_segment *seg, uint32_t u)
{
	assert(u < seg->hdr.max_upstreams);
	return (_Atomic uint64_t *)at(seg, seg->hdr.off_slots) + (size_t)u * seg->hdr.slots_cap;
}

_Atomic uint64_t *rhc_seg_hints(const struct rhc_segment *seg, uint32_t u)
{
	assert(u < seg->hdr.max_upstreams);
	return (_Atomic uint64_t *)at(seg, seg->hdr.off_hints) +
	       (size_t)u * (seg->hdr.slots_cap / 64);
}

struct rhc_win *rhc_seg_win(const struct rhc_segment *seg, uint32_t u, uint32_t w)
{
	assert(u < seg->hdr.max_upstreams && w < seg->hdr.max_workers);
	return (struct rhc_win *)at(seg, seg->hdr.off_win) + (size_t)u * seg->hdr.max_workers + w;
}

_Atomic uint64_t *rhc_seg_ctr(const struct rhc_segment *seg, uint32_t row, uint32_t u)
{
	assert(row < seg->hdr.max_workers + 2 && u < seg->hdr.max_upstreams);
	return (_Atomic uint64_t *)at(seg, seg->hdr.off_ctr +
						   ((size_t)row * seg->hdr.max_upstreams + u) *
							   rhc_ctr_row(&seg->hdr));
}

_Atomic uint64_t *rhc_seg_wctr(const struct rhc_segment *seg, uint32_t row)
{
	assert(row < seg->hdr.max_workers + 1);
	return (_Atomic uint64_t *)at(seg, seg->hdr.off_wctr + row * rhc_wctr_row(&seg->hdr));
}

struct rhc_hist *rhc_seg_hist(const struct rhc_segment *seg, uint32_t row, uint32_t u, uint32_t h)
{
	assert(row < seg->hdr.max_workers + 1 && u < seg->hdr.max_upstreams && h < seg->hdr.n_hist);
	return (struct rhc_hist *)at(seg, seg->hdr.off_hist +
	                           ((size_t)row * seg->hdr.max_upstreams + u) *
	                                   rhc_hist_row(&seg->hdr)) +
	       h;
}

struct rhc_host *rhc_seg_host(const struct rhc_segment *seg, uint32_t u)
{
	assert(rhc_seg_is_host(seg, u));
	return (struct rhc_host *)at(seg, seg->hdr.off_hosts) + (u - rhc_seg_hosts_from(seg));
}

struct rhc_ring *rhc_seg_ring(const struct rhc_segment *seg, uint32_t ring)
{
	assert(ring < seg->hdr.max_workers + 2);
	return (struct rhc_ring *)at(seg, seg->hdr.off_ring + ring * rhc_ring_size(&seg->hdr));
}
