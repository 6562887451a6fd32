/*
 * A segment whose file somebody has written into: attaching refuses it or every reader copes, whatever the bytes say.
 *
 * Input    Edits of a sound file: place (3 bytes, in the region the first two bits choose), length, bytes.  The first
 *          byte says whether the checksum of the header is put right, whether the file is cut, and the form of output.
 * Demands  A refusal has a reason and a sentence; what was attached keeps to its size; every read-only command of
 *          rhcctl ends with one of its exit codes; views hold valid text.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "shm/reap.h"
#include "tests/fuzz/fuzz.h"

enum { EDITS_MAX = 64, FIX_CRC = 1, CUT = 2, JSON = 4, WIDE = 8 };

static struct {
	char     dir[64], path[128];
	uint8_t *bytes, *work; /* the sound one; what the file holds */
	size_t   n;
	struct {
		size_t at, len;
	} edits[EDITS_MAX + 1];
	unsigned n_edits;
	FILE    *null;
	int      fd;
} base;

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Stands for libc's: rhcctl audit waits before it looks again, and nobody changes this file meanwhile. */
int usleep(useconds_t us)
{
	(void)us;
	return 0;
}

static void clean_up(void)
{
	unlink(base.path);
	rmdir(base.dir);
}

/* Two upstreams, two workers, slots held, an open circuit, some events. */
static void make(void)
{
	static const struct rhc_policy policy = { .failure_threshold = 2, .recovery_ms = 1000, .half_open_max = 1,
		.success_threshold = 1, .lease_ms = 5000, .limit = 4, .max_waiting = 8 };
	struct rhc_segment_opt opt = { .path = base.path, .allow_disk = true, .mono_ns = UINT64_C(1000000000000),
		.wall_ns = UINT64_C(1790000000) * 1000000000,
		.shape = { .workers = 4, .upstreams = 2, .hosts = 2, .slots = 64, .ring_len = 64 } };
	static struct rhc_segment seg;
	static struct rhc_worker  w[2];
	struct rhc_refusal        why;
	uint64_t                  wake = 0;
	uint32_t                  up;
	struct rhc_host_wish      wish = { "_forward:a.example.com:80", "a.example.com:80", 1000 };
	struct rhc_host_use       host;
	bool                      made;

	DEMAND(rhc_segment_adopt(&seg, &opt, &why) == 0, "%s", why.text);
	rhc_upstream_declare(&seg, "orders", &policy, 1000000, &up, &wake);
	rhc_upstream_declare(&seg, "stock", &policy, 1000000, &up, &wake);
	for (uint32_t i = 0; i < 2; i++) {
		struct rhc_worker_id id = { .pid = 100 + i, .generation = 1, .version = "fuzz" };

		DEMAND(rhc_worker_register(&w[i], &seg, i, &id, 1000000, &wake) == 0, "no worker");
	}
	rhc_host_policy(&seg, &policy, 1000000, &wake);
	DEMAND(rhc_host_claim(&w[0], &wish, 1000000, &host, &made, &wake) == 0, "no host");
	base.n = seg.size;
	base.bytes = malloc(base.n);
	base.work = malloc(base.n);
	memcpy(base.bytes, seg.base, base.n);
	memcpy(base.work, seg.base, base.n);
	for (uint32_t i = 0; i < 2; i++)
		rhc_worker_unregister(&w[i], 1000001, &wake);
	rhc_segment_detach(&seg);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(base.dir, sizeof(base.dir), "%s/rhc-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	DEMAND(mkdtemp(base.dir), "no directory");
	snprintf(base.path, sizeof(base.path), "%s/s.shm", base.dir);
	atexit(clean_up);
	make();
	base.null = fopen("/dev/null", "w");
	base.fd = open(base.path, O_RDWR | O_CLOEXEC);
	DEMAND(base.null && base.fd >= 0, "no file");
	DEMAND(pwrite(base.fd, base.bytes, base.n, 0) == (ssize_t)base.n, "the sound one cannot be written");
	return 0;
}

/* A place: mostly the header and the records, sometimes anywhere. */
static size_t place(struct fuzz_tape *t)
{
	const struct rhc_hdr *h = (const struct rhc_hdr *)(const void *)base.bytes;
	uint8_t               high = tape_u8(t);
	size_t                at = (size_t)(high & 0x3f) << 16 | tape_u16(t);

	switch (high >> 6) {
	case 0:
		return at % sizeof(*h);
	case 1:
		return h->off_up + at % (h->off_win - h->off_up);
	case 2:
		return h->off_desc + at % (h->off_up - h->off_desc);
	default:
		return at % base.n;
	}
}

static void put(size_t at, const void *p, size_t len)
{
	memcpy(base.work + at, p, len);
	base.edits[base.n_edits].at = at;
	base.edits[base.n_edits++].len = len;
	DEMAND(pwrite(base.fd, base.work + at, len, (off_t)at) == (ssize_t)len, "no room: %d", errno);
}

static size_t edit(struct fuzz_tape *t, uint8_t how)
{
	const struct rhc_hdr *h = (const struct rhc_hdr *)(const void *)base.work;
	size_t                n = base.n;
	uint32_t              crc;

	base.n_edits = 0;
	if (how & CUT)
		n = place(t);
	for (unsigned i = 0; i < EDITS_MAX && t->n > 0; i++) {
		size_t         at = place(t), len = 1 + tape_u8(t) % 32;
		const uint8_t *p = tape_bytes(t, &len);

		if (len > base.n - at)
			len = base.n - at;
		if (len > 0)
			put(at, p, len);
	}
	if (how & FIX_CRC) {
		crc = rhc_crc32c(0, h, offsetof(struct rhc_hdr, crc));
		put(offsetof(struct rhc_hdr, crc), &crc, sizeof(crc));
	}
	DEMAND(n == base.n || ftruncate(base.fd, (off_t)n) == 0, "cannot be cut: %d", errno);
	return n;
}

/* The file is the sound one again: only what was changed is written, since a new file per run was most of its time. */
static void restore(size_t n)
{
	if (n < base.n)
		DEMAND(pwrite(base.fd, base.bytes + n, base.n - n, (off_t)n) == (ssize_t)(base.n - n), "no room: %d", errno);
	for (unsigned i = 0; i < base.n_edits; i++) {
		size_t at = base.edits[i].at, len = base.edits[i].len;

		memcpy(base.work + at, base.bytes + at, len);
		DEMAND(pwrite(base.fd, base.bytes + at, len, (off_t)at) == (ssize_t)len, "no room: %d", errno);
	}
}

static void run_commands(struct rhc_segment *seg, enum out_form form, unsigned which)
{
	FILE *const shown = stderr;

	for (unsigned i = which % 5; i < ctl_commands_n; i += 5) {
		struct ctl    c = { .instance = CTL_INSTANCE, .form = form, .headers = true, .lock_fd = -1, .now_ms = 1000500 };
		enum ctl_exit code;

		if (ctl_commands[i].access != CTL_READ_ONLY)
			continue;
		c.seg = *seg;
		c.out = (struct out){ .to = base.null, .form = form, .headers = true };
		if (i & 1) {
			c.args[0] = "orders";
			c.n_args = 1;
		}
		stderr = base.null; /* what rhcctl says of the file nobody reads */
		code = ctl_commands[i].fn(&c);
		stderr = shown;
		DEMAND(code == CTL_OK || code == CTL_NO || code == CTL_REFUSED || code == CTL_ABSENT || code == CTL_DENIED ||
		       code == CTL_USAGE, "%s %s: %d", ctl_commands[i].noun, ctl_commands[i].verb, code);
	}
}

/* Views that rhcctl does not show all of. */
static void look(const struct rhc_segment *seg)
{
	struct rhc_view_segment  s;
	static struct rhc_view_upstream u;
	struct rhc_view_worker   w;
	struct rhc_view_holder   held[16];
	struct rhc_finding       found[32];
	struct rhc_hist_sum      sum;
	uint64_t                 values[512];

	rhc_view_segment(seg, -1, &s);
	DEMAND(strnlen(s.version, sizeof(s.version)) < sizeof(s.version), "version is no text");
	DEMAND(strnlen(s.instance, sizeof(s.instance)) < sizeof(s.instance), "instance is no text");
	for (uint32_t i = 0; i < seg->hdr.max_upstreams; i++) {
		if (rhc_view_upstream(seg, i, 1000500, &u) != 0)
			continue;
		DEMAND(strnlen(u.name, sizeof(u.name)) < sizeof(u.name), "name is no text");
		rhc_view_holders(seg, i, 1000500, held, 16);
		rhc_view_counters(seg, i, true, values, seg->hdr.n_uctr < 512 ? seg->hdr.n_uctr : 512);
		for (uint32_t k = 0; k < seg->hdr.n_hist; k++)
			rhc_view_hist(seg, i, k, false, &sum);
	}
	for (uint32_t i = 0; i < seg->hdr.max_workers; i++)
		(void)rhc_view_worker(seg, -1, i, &w);
	DEMAND(rhc_view_audit(seg, -1, 1000500, found, 32) < 100000, "a count that cannot be");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_tape          t = { data, size };
	uint8_t                   how = tape_u8(&t);
	static struct rhc_segment seg;
	struct rhc_refusal        why = { 0 };
	size_t                    n = edit(&t, how);
	int                       r;

	r = rhc_segment_attach(&seg, base.path, RHC_READ, true, &why);
	if (r != 0) {
		DEMAND(r < 0 && why.why != RHC_REFUSE_NONE && why.text[0], "refused without a word");
		restore(n);
		return 0;
	}
	DEMAND(seg.size == n, "%zu bytes mapped of %zu", seg.size, n);
	look(&seg);
	run_commands(&seg, how & JSON ? OUT_JSON : how & WIDE ? OUT_WIDE : OUT_TABLE, how >> 4);
	rhc_segment_detach(&seg);
	restore(n);
	return 0;
}
