#include "shm/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

static const char *const refuse_names[RHC_REFUSE_COUNT] = {
	[RHC_REFUSE_NONE] = "none",           [RHC_REFUSE_ABSENT] = "absent",
	[RHC_REFUSE_OPEN] = "cannot_open",    [RHC_REFUSE_SYMLINK] = "symlink",
	[RHC_REFUSE_TYPE] = "not_a_file",     [RHC_REFUSE_OWNER] = "wrong_owner",
	[RHC_REFUSE_MODE] = "wrong_mode",     [RHC_REFUSE_LINKS] = "wrong_links",
	[RHC_REFUSE_FS] = "not_tmpfs",        [RHC_REFUSE_SIZE] = "wrong_size",
	[RHC_REFUSE_MAGIC] = "wrong_magic",   [RHC_REFUSE_ENDIAN] = "wrong_endian",
	[RHC_REFUSE_CRC] = "wrong_checksum",  [RHC_REFUSE_MAJOR] = "other_version",
	[RHC_REFUSE_LAYOUT] = "other_layout", [RHC_REFUSE_GEOMETRY] = "wrong_geometry",
	[RHC_REFUSE_SHAPE] = "other_shape",   [RHC_REFUSE_BOOT] = "other_boot",
	[RHC_REFUSE_TIMENS] = "other_timens", [RHC_REFUSE_STATE] = "retired",
	[RHC_REFUSE_LOCKS] = "no_locks",      [RHC_REFUSE_MASTER] = "other_supervisor",
	[RHC_REFUSE_HELD] = "worker_alive",   [RHC_REFUSE_SPACE] = "no_space",
	[RHC_REFUSE_SYSTEM] = "system",
};

const char *rhc_refuse_name(enum rhc_refuse why)
{
	return (unsigned)why < RHC_REFUSE_COUNT ? refuse_names[why] : "unknown";
}

int rhc_refuse(struct rhc_refusal *r, enum rhc_refuse why, int err, const char *fmt, ...)
{
	va_list ap;

	r->why = why;
	r->err = err;
	errno = err; /* for %m */
	va_start(ap, fmt);
	vsnprintf(r->text, sizeof(r->text), fmt, ap);
	va_end(ap);
	return -err;
}

static int refuse_open(const char *path, int err, struct rhc_refusal *r)
{
	switch (err) {
	case ENOENT:
		return rhc_refuse(r, RHC_REFUSE_ABSENT, err, "%s: expected a segment, found nothing", path);
	case ELOOP:
		return rhc_refuse(r, RHC_REFUSE_SYMLINK, err,
		                  "%s: expected a regular file, found a symbolic link", path);
	case EISDIR:
	case ENXIO:
		return rhc_refuse(r, RHC_REFUSE_TYPE, err, "%s: expected a regular file, found %s", path,
		                  err == EISDIR ? "a directory" : "a socket or device");
	default:
		return rhc_refuse(r, RHC_REFUSE_OPEN, err, "%s: cannot be opened: %m", path);
	}
}

static int check_owner(const char *path, const struct stat *st, const struct rhc_file_rules *rules,
                       struct rhc_refusal *r)
{
	uid_t me = geteuid();

	if (st->st_uid != me && !(rules->root_may && me == 0))
		return rhc_refuse(r, RHC_REFUSE_OWNER, EPERM, "%s: wrong owner: expected uid %u, found %u",
		                  path, me, st->st_uid);
	if (st->st_mode & 07777 & ~rules->mode)
		return rhc_refuse(r, RHC_REFUSE_MODE, EPERM,
		                  "%s: too many permissions: expected at most %04o, found %04o", path,
		                  rules->mode, st->st_mode & 07777);
	if (st->st_nlink != 1)
		return rhc_refuse(r, RHC_REFUSE_LINKS, EPERM, "%s: expected 1 name, found %lu", path,
		                  (unsigned long)st->st_nlink);
	return 0;
}

static int check_fs(int fd, const char *path, bool allow_disk, struct rhc_refusal *r)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%s: statfs: %m", path);
	if (fs.f_type != TMPFS_MAGIC && !allow_disk)
		return rhc_refuse(r, RHC_REFUSE_FS, EMEDIUMTYPE,
		                  "%s: not in memory: expected tmpfs (%08x), found file system %08lx", path,
		                  TMPFS_MAGIC, (unsigned long)fs.f_type);
	return 0;
}

int rhc_file_open(const char *path, enum rhc_access access, const struct rhc_file_rules *rules,
                  int *ret_fd, uint64_t *ret_size, struct rhc_refusal *r)
{
	/* O_NONBLOCK: the open of a FIFO must not wait for its other end. */
	int flags = (access == RHC_WRITE ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC |
		    O_NONBLOCK | O_NOCTTY;
	auto_close int fd = open(path, flags);
	struct stat st;
	int rc;

	if (fd < 0)
		return refuse_open(path, errno, r);
	if (fstat(fd, &st))
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%s: stat: %m", path);
	if (!S_ISREG(st.st_mode))
		return rhc_refuse(r, RHC_REFUSE_TYPE, EINVAL,
		                  "%s: expected a regular file, found file type %06o", path,
		                  st.st_mode & S_IFMT);
	rc = check_owner(path, &st, rules, r);
	if (rc == 0)
		rc = check_fs(fd, path, rules->allow_disk, r);
	if (rc)
		return rc;
	*ret_size = (uint64_t)st.st_size;
	*ret_fd = rhc_take_fd(&fd);
	return 0;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void rhc_file_boot(uint8_t ret_boot[16], uint64_t *ret_timens)
{
	auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[64] = "";
	struct stat st;
	unsigned nibbles = 0;

	memset(ret_boot, 0, 16);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0) {
		for (const char *p = text; *p && nibbles < 32; p++) {
			if (hex(*p) >= 0) {
				ret_boot[nibbles / 2] =
					(uint8_t)(ret_boot[nibbles / 2] << 4 | hex(*p));
				nibbles++;
			}
		}
	}
	*ret_timens = stat("/proc/self/ns/time", &st) == 0 ? st.st_ino : 0;
}

bool rhc_file_is(int fd, const char *path)
{
	struct stat here, there;

	return fstat(fd, &here) == 0 && lstat(path, &there) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
}

static int directory_of(const char *path, char *ret, size_t size)
{
	const char *slash = strrchr(path, '/');
	int n = slash ? snprintf(ret, size, "%.*s", slash == path ? 1 : (int)(slash - path), path)
	              : snprintf(ret, size, ".");

	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* No name at all needs O_TMPFILE here and /proc for the link later. */
static int open_unnamed(const char *dir, uint32_t mode)
{
	int fd = access("/proc/self/fd", X_OK) == 0 ? open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, mode) : -1;

	return fd >= 0 ? fd : -errno;
}

static int open_temporary(struct rhc_file_new *file, const char *path, uint32_t mode)
{
	uint64_t random[2];
	int fd;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -errno;
	if (snprintf(file->temp, sizeof(file->temp), "%s.new-%08x", path, (unsigned)random[0]) >=
	    (int)sizeof(file->temp))
		return -ENAMETOOLONG;
	fd = open(file->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	return fd >= 0 ? fd : -errno;
}

static int reserve(const struct rhc_file_new *file, const char *path, uint32_t mode, uint64_t size,
                   bool allow_disk, struct rhc_refusal *r)
{
	int rc = check_fs(file->fd, path, allow_disk, r);

	if (rc)
		return rc;
	if (fchmod(file->fd, mode)) /* umask */
		return rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%s: chmod: %m", path);
	/* Not ftruncate: tmpfs would promise more than it has and raise SIGBUS in a store. */
	rc = posix_fallocate(file->fd, 0, (off_t)size);
	if (rc)
		return rhc_refuse(r, rc == ENOSPC ? RHC_REFUSE_SPACE : RHC_REFUSE_SYSTEM, rc,
		                  "%s: no room: expected %llu free bytes: %m", path,
		                  (unsigned long long)size);
	return 0;
}

int rhc_file_begin(struct rhc_file_new *file, const char *path, uint32_t mode, uint64_t size,
                   bool allow_disk, struct rhc_refusal *r)
{
	char dir[RHC_PATH_MAX];
	int rc;

	memset(file, 0, sizeof(*file));
	file->fd = -ENAMETOOLONG;
	if (directory_of(path, dir, sizeof(dir)) == 0)
		file->fd = open_unnamed(dir, mode);
	if (file->fd < 0 && file->fd != -ENOENT)
		file->fd = open_temporary(file, path, mode);
	if (file->fd < 0)
		return rhc_refuse(r, RHC_REFUSE_OPEN, -file->fd, "%s: cannot be created: %m", path);
	rc = reserve(file, path, mode, size, allow_disk, r);
	if (rc) {
		rhc_file_cancel(file);
		close(rhc_take_fd(&file->fd));
	}
	return rc;
}

int rhc_file_publish(struct rhc_file_new *file, const char *path, struct rhc_refusal *r)
{
	char proc[40];
	int rc;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", file->fd);
	/* Both give the name at once or not at all, and never replace what is there. */
	if (file->temp[0])
		rc = renameat2(AT_FDCWD, file->temp, AT_FDCWD, path, RENAME_NOREPLACE);
	else
		rc = linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
	if (rc == 0)
		return 0;
	rc = rhc_refuse(r, RHC_REFUSE_SYSTEM, errno, "%s: cannot be given its name: %m", path);
	if (file->temp[0])
		unlink(file->temp);
	return rc;
}

void rhc_file_cancel(struct rhc_file_new *file)
{
	if (file->temp[0])
		unlink(file->temp);
}

struct dirent64 { /* of getdents64(2); opendir() would allocate */
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

/* Remove every <base>.bad-* and <base>.new-* but `keep`. */
static void sweep_names(int dirfd, const char *buf, long len, const char *base, const char *keep)
{
	size_t n = strlen(base);

	for (long at = 0; at < len;) {
		const struct dirent64 *d = (const struct dirent64 *)(const void *)(buf + at);

		if (strncmp(d->d_name, base, n) == 0 &&
		    (strncmp(d->d_name + n, ".bad-", 5) == 0 || strncmp(d->d_name + n, ".new-", 5) == 0) &&
		    strcmp(d->d_name, keep) != 0)
			unlinkat(dirfd, d->d_name, 0);
		at += d->d_reclen;
	}
}

static void sweep(const char *path, const char *keep)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	_Alignas(8) char buf[4096];
	char dir[RHC_PATH_MAX];
	auto_close int fd = -1;
	long n;

	if (directory_of(path, dir, sizeof(dir)))
		return;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Bounded: a directory of ours is small; what is left over is swept next time. */
	for (unsigned round = 0; fd >= 0 && round < 64; round++) {
		n = syscall(SYS_getdents64, fd, buf, sizeof(buf));
		if (n <= 0)
			return;
		sweep_names(fd, buf, n, base, keep);
	}
}

int rhc_file_aside(const char *path, uint64_t wall_s, char *ret_name, size_t size)
{
	const char *slash;

	snprintf(ret_name, size, "%s.bad-%llu", path, (unsigned long long)wall_s);
	if (rename(path, ret_name)) {
		ret_name[0] = 0;
		return -errno;
	}
	slash = strrchr(ret_name, '/');
	sweep(path, slash ? slash + 1 : ret_name);
	return 0;
}
