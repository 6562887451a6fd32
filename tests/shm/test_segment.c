/* Creating, adopting, refusing: each refusal is provoked. */
#include "fixture.h"

static void stop(void)
{
	fx_stop();
}

TestSuite(segment, .init = fx_dir, .fini = stop);

static void spoil(off_t at, const void *bytes, size_t len)
{
	int fd = open(fx.path, O_RDWR | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pwrite(fd, bytes, len, at), (ssize_t)len);
	close(fd);
}

static void make(void)
{
	fx_adopt();
	close(fx.lock_fd);
	fx.lock_fd = -1;
	rhc_segment_detach(&fx.seg);
}

static unsigned count_bad(void)
{
	char command[160];
	FILE *p;
	unsigned n = 0;

	snprintf(command, sizeof(command), "ls '%s' | grep -c '[.]bad-'", fx.dir);
	p = popen(command, "r");
	cr_assert_eq(fscanf(p, "%u", &n), 1);
	pclose(p);
	return n;
}

static void expect_attach(enum rhc_refuse why, const char *expected, const char *found)
{
	struct rhc_segment seg;
	struct rhc_refusal r;
	int rc = rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r);

	cr_assert_lt(rc, 0, "attached, but wanted %s", rhc_refuse_name(why));
	cr_expect_eq(r.why, why, "%s: %s", rhc_refuse_name(r.why), r.text);
	cr_expect(strncmp(r.text, fx.path, strlen(fx.path)) == 0, "no file name: %s", r.text);
	cr_expect(strstr(r.text, expected) != NULL, "no '%s': %s", expected, r.text);
	cr_expect(strstr(r.text, found) != NULL, "no '%s': %s", found, r.text);
	cr_expect_eq(r.err, -rc);
}

/* Refused by attach; set aside and made anew by the supervisor. */
static void expect_replaced(enum rhc_refuse why, const char *expected, const char *found)
{
	expect_attach(why, expected, found);
	fx_adopt();
	cr_expect(fx.seg.created);
	cr_expect_eq(fx.refusal.aside_why, why, "aside for %s", rhc_refuse_name(fx.refusal.aside_why));
	cr_expect_eq(access(fx.refusal.aside, F_OK), 0);
	cr_expect_eq(count_bad(), 1);
}

/* Refused by both, and left alone. */
static void expect_untouched(enum rhc_refuse why, const char *found)
{
	struct stat before, after;
	int rc;

	cr_assert_eq(lstat(fx.path, &before), 0);
	expect_attach(why, "expected", found);
	rc = rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal);
	cr_expect_lt(rc, 0);
	cr_expect_eq(fx.refusal.why, why, "%s", fx.refusal.text);
	cr_assert_eq(lstat(fx.path, &after), 0);
	cr_expect_eq(before.st_ino, after.st_ino);
}

Test(segment, is_created_once_and_adopted_afterwards)
{
	uint8_t uuid[16] = "first";

	memcpy(fx.opt.uuid, uuid, sizeof(uuid));
	fx_adopt();
	cr_assert(fx.seg.created);
	fx_declare(&fx_policy);
	close(fx.lock_fd);
	rhc_segment_detach(&fx.seg);
	memset(fx.opt.uuid, 7, sizeof(fx.opt.uuid));
	fx_adopt();
	cr_assert(!fx.seg.created);
	cr_assert_eq(memcmp(fx.seg.hdr.uuid, uuid, 16), 0);
	cr_assert_eq(rhc_upstream_find(&fx.seg, "orders"), (int)fx.up);
}

Test(segment, has_mode_0600_whatever_the_umask)
{
	struct stat st;

	umask(0);
	make();
	cr_assert_eq(stat(fx.path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
}

Test(segment, reserves_every_byte)
{
	struct stat st;

	make();
	cr_assert_eq(stat(fx.path, &st), 0);
	cr_assert_geq((uint64_t)st.st_blocks * 512, (uint64_t)st.st_size);
}

Test(segment, has_one_supervisor)
{
	struct rhc_segment second;
	struct rhc_refusal r;

	fx_adopt();
	cr_assert_eq(rhc_segment_adopt(&second, &fx.opt, &r), -EBUSY);
	cr_assert_eq(r.why, RHC_REFUSE_MASTER);
	cr_assert(strstr(r.text, "another") || strstr(r.text, "supervisor"), "%s", r.text);
}

Test(segment, is_adopted_while_a_worker_of_the_predecessor_drains)
{
	fx_adopt();
	fx_worker(1);
	rhc_segment_detach(&fx.seg); /* the worker's lock is a description of its own */
	fx_adopt();
	cr_assert(!fx.seg.created);
	cr_assert(fx.seg.draining_peers);
}

Test(segment, damaged_is_not_replaced_while_a_worker_lives)
{
	fx_adopt();
	fx_worker(1);
	rhc_segment_detach(&fx.seg);
	spoil(0, "XXXX", 4);
	cr_assert_eq(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), -EBUSY);
	cr_assert_eq(fx.refusal.why, RHC_REFUSE_HELD);
	cr_assert(strstr(fx.refusal.text, "worker"), "%s", fx.refusal.text);
	rhc_abandon(&fx.w[1]);
	cr_assert_eq(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), 0);
}

Test(segment, absent_is_told)
{
	expect_attach(RHC_REFUSE_ABSENT, "expected", "nothing");
}

Test(segment, truncated_is_replaced)
{
	make();
	cr_assert_eq(truncate(fx.path, 100), 0);
	expect_replaced(RHC_REFUSE_SIZE, "4096", "100");
}

Test(segment, empty_is_replaced)
{
	close(open(fx.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	expect_replaced(RHC_REFUSE_SIZE, "4096", "0");
}

Test(segment, short_of_its_end_is_replaced)
{
	struct stat st;
	char size[32];

	make();
	cr_assert_eq(stat(fx.path, &st), 0);
	cr_assert_eq(truncate(fx.path, st.st_size - 4096), 0);
	snprintf(size, sizeof(size), "%lld", (long long)st.st_size - 4096);
	expect_replaced(RHC_REFUSE_SIZE, "expected", size);
}

Test(segment, longer_than_it_says_is_replaced)
{
	struct stat st;

	make();
	cr_assert_eq(stat(fx.path, &st), 0);
	cr_assert_eq(truncate(fx.path, st.st_size + 4096), 0);
	expect_replaced(RHC_REFUSE_SIZE, "expected", "found");
}

Test(segment, zeroed_is_replaced)
{
	struct stat st;

	make();
	cr_assert_eq(stat(fx.path, &st), 0);
	cr_assert_eq(truncate(fx.path, 0), 0);
	cr_assert_eq(truncate(fx.path, st.st_size), 0);
	expect_replaced(RHC_REFUSE_MAGIC, "52484353484d0d0a", "0000000000000000");
}

Test(segment, random_is_replaced)
{
	uint8_t noise[8192];

	srandom(7);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)random();
	close(open(fx.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	spoil(0, noise, sizeof(noise));
	expect_replaced(RHC_REFUSE_MAGIC, "expected", "found");
}

static void respoil(size_t at, uint64_t value, size_t len, bool fix_crc)
{
	struct rhc_hdr hdr;
	int fd;

	make();
	fd = open(fx.path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(pread(fd, &hdr, sizeof(hdr), 0), (ssize_t)sizeof(hdr));
	memcpy((uint8_t *)&hdr + at, &value, len);
	if (fix_crc)
		hdr.crc = rhc_crc32c(0, &hdr, offsetof(struct rhc_hdr, crc));
	cr_assert_eq(pwrite(fd, &hdr, sizeof(hdr), 0), (ssize_t)sizeof(hdr));
	close(fd);
}

Test(segment, of_other_byte_order_is_replaced)
{
	respoil(offsetof(struct rhc_hdr, endian), 0x04030201, 4, true);
	expect_replaced(RHC_REFUSE_ENDIAN, "01020304", "04030201");
}

Test(segment, of_another_major_is_replaced)
{
	respoil(offsetof(struct rhc_hdr, abi_major), 9, 2, true);
	expect_replaced(RHC_REFUSE_MAJOR, "expected layout 2", "found 9");
}

Test(segment, with_a_wrong_checksum_is_replaced)
{
	respoil(offsetof(struct rhc_hdr, wall_base_ns), 1, 8, false);
	expect_replaced(RHC_REFUSE_CRC, "expected checksum", "found");
}

Test(segment, with_an_impossible_geometry_is_replaced)
{
	respoil(offsetof(struct rhc_hdr, off_up), 1 << 20, 8, true);
	expect_replaced(RHC_REFUSE_GEOMETRY, "expected", "found");
}

Test(segment, of_another_boot_is_replaced)
{
	respoil(offsetof(struct rhc_hdr, boot_id), 0x4242, 8, true);
	expect_replaced(RHC_REFUSE_BOOT, "expected boot", "found 4242");
}

Test(segment, of_another_time_namespace_is_replaced)
{
	respoil(offsetof(struct rhc_hdr, timens_ino), 4242, 8, true);
	expect_replaced(RHC_REFUSE_TIMENS, "expected", "found 4242");
}

Test(segment, retired_is_replaced)
{
	uint32_t retired = RHC_SEG_STATE_RETIRED;

	make();
	spoil(offsetof(struct rhc_hdr, state), &retired, sizeof(retired));
	expect_replaced(RHC_REFUSE_STATE, "expected state 1", "found 2");
}

Test(segment, of_another_build_may_be_read_but_not_written)
{
	struct rhc_segment seg;
	struct rhc_refusal r;

	respoil(offsetof(struct rhc_hdr, layout_hash), 42, 8, true);
	cr_assert_eq(rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r), 0, "%s", r.text);
	rhc_segment_detach(&seg);
	cr_assert_eq(rhc_segment_attach(&seg, fx.path, RHC_WRITE, fx.opt.allow_disk, &r), -EPROTO);
	cr_assert_eq(r.why, RHC_REFUSE_LAYOUT, "%s", r.text);
}

Test(segment, keeps_one_bad_file)
{
	for (unsigned i = 0; i < 3; i++) {
		make();
		spoil(0, "XXXX", 4);
		fx.opt.wall_ns += UINT64_C(1000000000);
		fx_adopt();
		cr_assert_eq(count_bad(), 1);
		close(fx.lock_fd);
		rhc_segment_detach(&fx.seg);
	}
}

Test(segment, too_small_for_what_is_asked_is_replaced)
{
	make();
	fx.opt.shape.slots = 5000;
	fx_adopt();
	cr_assert(fx.seg.created);
	cr_assert_eq(fx.refusal.aside_why, RHC_REFUSE_SHAPE);
	cr_assert_eq(fx.seg.hdr.slots_cap, 8192);
}

Test(segment, larger_than_what_is_asked_is_kept)
{
	make();
	fx.opt.shape.slots = 64;
	fx_adopt();
	cr_assert(!fx.seg.created);
	cr_assert_eq(fx.seg.hdr.slots_cap, 256);
}

Test(segment, sound_is_replaced_when_a_fresh_one_is_asked_for)
{
	make();
	fx.opt.fresh = true;
	fx_adopt();
	cr_assert(fx.seg.created);
	cr_assert_eq(count_bad(), 1);
}

Test(segment, symlink_is_refused_and_left_alone)
{
	cr_assert_eq(symlink("/dev/null", fx.path), 0);
	expect_untouched(RHC_REFUSE_SYMLINK, "symbolic link");
}

Test(segment, directory_is_refused_and_left_alone)
{
	cr_assert_eq(mkdir(fx.path, 0700), 0);
	expect_attach(RHC_REFUSE_TYPE, "regular file", "found");
	cr_assert_lt(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), 0);
	cr_assert_eq(fx.refusal.why, RHC_REFUSE_TYPE);
}

Test(segment, fifo_is_refused_without_waiting, .timeout = 5)
{
	cr_assert_eq(mkfifo(fx.path, 0600), 0);
	expect_untouched(RHC_REFUSE_TYPE, "found file type 010000");
}

Test(segment, with_too_many_permissions_is_refused_and_left_alone)
{
	make();
	cr_assert_eq(chmod(fx.path, 0666), 0);
	expect_untouched(RHC_REFUSE_MODE, "found 0666");
}

Test(segment, group_may_only_where_the_option_says_so)
{
	make();
	cr_assert_eq(chmod(fx.path, 0660), 0);
	cr_assert_lt(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), 0);
	cr_assert_eq(fx.refusal.why, RHC_REFUSE_MODE);
	fx.opt.mode = 0660;
	fx_adopt();
}

Test(segment, with_two_names_is_refused_and_left_alone)
{
	char other[160];

	make();
	snprintf(other, sizeof(other), "%s.also", fx.path);
	cr_assert_eq(link(fx.path, other), 0);
	expect_untouched(RHC_REFUSE_LINKS, "found 2");
}

Test(segment, of_another_owner_is_refused_and_left_alone)
{
	pid_t pid;
	int status;

	if (geteuid() != 0)
		cr_skip_test("needs root to give a file away");
	make();
	cr_assert_eq(chmod(fx.dir, 0777), 0);
	pid = fork();
	if (pid == 0) {
		if (setuid(65534))
			_exit(2);
		/* it cannot even be opened: permission, before the owner is seen */
		if (rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal) != -EACCES ||
		    fx.refusal.why != RHC_REFUSE_OPEN)
			_exit(3);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "%x", (unsigned)status);
	cr_assert_eq(chown(fx.path, 65534, 65534), 0);
	/* root may look, but a supervisor wants its own */
	cr_assert_lt(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), 0);
	cr_assert_eq(fx.refusal.why, RHC_REFUSE_OWNER, "%s", fx.refusal.text);
	cr_assert(strstr(fx.refusal.text, "65534"));
}

Test(segment, on_disk_is_refused_unless_allowed)
{
	struct rhc_segment seg;
	struct rhc_refusal r;
	struct rhc_segment_opt opt = fx.opt;
	struct statfs fs;
	char path[] = "/var/tmp/rhc-test-disk.XXXXXX";

	cr_assert_geq(close(mkstemp(path)), 0);
	if (statfs(path, &fs) || fs.f_type == TMPFS_MAGIC)
		cr_skip_test("no disk here");
	unlink(path);
	opt.path = path;
	opt.allow_disk = false;
	cr_assert_lt(rhc_segment_adopt(&seg, &opt, &r), 0);
	cr_assert_eq(r.why, RHC_REFUSE_FS, "%s", r.text);
	cr_assert_neq(access(path, F_OK), 0, "a refused file has no name");
	opt.allow_disk = true;
	cr_assert_eq(rhc_segment_adopt(&seg, &opt, &r), 0, "%s", r.text);
	rhc_segment_detach(&seg);
	unlink(path);
}

Test(segment, without_room_is_refused_before_it_has_a_name)
{
	struct rhc_segment seg;
	struct rhc_refusal r;

	if (mount("rhc-test", fx.dir, "tmpfs", 0, "size=256k"))
		cr_skip_test("cannot mount a tmpfs here");
	fx.opt.shape.slots = 8192;
	cr_expect_eq(rhc_segment_adopt(&seg, &fx.opt, &r), -ENOSPC);
	cr_expect_eq(r.why, RHC_REFUSE_SPACE, "%s", r.text);
	cr_expect_neq(access(fx.path, F_OK), 0);
	umount(fx.dir);
}

Test(segment, in_no_directory_is_refused)
{
	struct rhc_segment seg;
	struct rhc_refusal r;

	fx.opt.path = "/nowhere/at/all/x.shm";
	cr_assert_eq(rhc_segment_adopt(&seg, &fx.opt, &r), -ENOENT);
	cr_assert(strstr(r.text, "/nowhere/at/all/x.shm"), "%s", r.text);
}

Test(segment, with_a_path_too_long_is_refused)
{
	static char path[RHC_PATH_MAX + 10];
	struct rhc_segment seg;
	struct rhc_refusal r;

	memset(path, 'a', sizeof(path) - 1);
	fx.opt.path = path;
	cr_assert_eq(rhc_segment_adopt(&seg, &fx.opt, &r), -ENAMETOOLONG);
}

Test(segment, each_flipped_bit_of_the_header_is_refused_or_harmless)
{
	struct rhc_segment seg;
	struct rhc_refusal r;
	struct rhc_hdr hdr;
	uint8_t *bytes = (uint8_t *)&hdr;
	int fd;

	make();
	fd = open(fx.path, O_RDWR | O_CLOEXEC);
	cr_assert_eq(pread(fd, &hdr, sizeof(hdr), 0), (ssize_t)sizeof(hdr));
	for (size_t at = 0; at < offsetof(struct rhc_hdr, state) + 4; at++) {
		uint8_t flipped = bytes[at] ^ 0x10;
		int rc;

		cr_assert_eq(pwrite(fd, &flipped, 1, (off_t)at), 1);
		rc = rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r);
		if (at < offsetof(struct rhc_hdr, crc) + 4)
			cr_expect_lt(rc, 0, "byte %zu", at);
		rhc_segment_detach(&seg);
		cr_assert_eq(pwrite(fd, &bytes[at], 1, (off_t)at), 1);
	}
	close(fd);
}

Test(segment, knows_when_its_name_belongs_to_another_file)
{
	struct rhc_segment seg;
	struct rhc_refusal r;

	make();
	cr_assert_eq(rhc_segment_attach(&seg, fx.path, RHC_READ, fx.opt.allow_disk, &r), 0);
	cr_assert(rhc_segment_current(&seg));
	fx.opt.fresh = true;
	fx_adopt();
	cr_assert(!rhc_segment_current(&seg));
	rhc_segment_detach(&seg);
}

Test(segment, two_creators_at_once_make_one_file)
{
	int status, made = 0, busy = 0;
	pid_t pid[6];

	for (unsigned i = 0; i < RHC_COUNT(pid); i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			int rc = rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal);

			if (rc == 0)
				usleep(300000); /* hold MASTER while the others try */
			_exit(rc == 0 ? fx.seg.created ? 1 : 2 : rc == -EBUSY ? 3 : 4);
		}
	}
	for (unsigned i = 0; i < RHC_COUNT(pid); i++) {
		cr_assert_eq(waitpid(pid[i], &status, 0), pid[i]);
		made += WEXITSTATUS(status) == 1;
		busy += WEXITSTATUS(status) == 3;
	}
	cr_assert_eq(made, 1);
	cr_assert_eq(made + busy, 6);
}

Test(segment, forked_child_does_not_keep_the_supervisor_lock)
{
	int ready[2], status;
	char byte;
	pid_t pid;

	cr_assert_eq(pipe(ready), 0);
	fx_adopt();
	pid = fork();
	if (pid == 0) {
		rhc_segment_forked(&fx.seg);
		cr_assert_eq(write(ready[1], "x", 1), 1);
		pause();
		_exit(0);
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	rhc_segment_detach(&fx.seg);
	cr_assert_eq(rhc_segment_adopt(&fx.seg, &fx.opt, &fx.refusal), 0, "%s", fx.refusal.text);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

Test(segment, lock_self_test_passes_here)
{
	fx_adopt();
	cr_assert_eq(rhc_lock_selftest(&fx.seg), 0);
	cr_assert_eq(rhc_lock_held(fx.lock_fd, RHC_BYTE_MASTER), 1);
	cr_assert_eq(rhc_lock_held(fx.lock_fd, RHC_BYTE_ADMIN), 0);
}

Test(segment, each_refusal_has_a_name)
{
	for (unsigned i = 0; i < RHC_REFUSE_COUNT; i++)
		cr_assert_not_null(rhc_refuse_name((enum rhc_refuse)i));
}
