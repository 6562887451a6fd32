/* OFD locks on bytes beyond the segment: see "Locks" in shm/segment.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "shm/file.h"

int rhc_lock_open(const struct rhc_segment *seg)
{
	int flags = (seg->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
	char proc[40];
	int fd, err;

	/* Through /proc: certainly the same inode, whatever the name means by now. */
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", seg->fd);
	fd = open(proc, flags);
	if (fd >= 0)
		return fd;
	err = errno;
	if (err != ENOENT && err != EACCES)
		return -err;
	fd = open(seg->path, flags | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (rhc_file_is(seg->fd, seg->path))
		return fd;
	close(fd);
	return -ESTALE;
}

static int lock_op(int fd, int op, short type, int64_t byte, struct flock *ret)
{
	*ret = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return fcntl(fd, op, ret) == 0 ? 0 : -errno;
}

int rhc_lock_take(int fd, int64_t byte)
{
	struct flock lock;
	int rc = lock_op(fd, F_OFD_SETLK, F_WRLCK, byte, &lock);

	return rc == -EACCES ? -EAGAIN : rc;
}

int rhc_lock_drop(int fd, int64_t byte)
{
	struct flock lock;

	return lock_op(fd, F_OFD_SETLK, F_UNLCK, byte, &lock);
}

int rhc_lock_held(int fd, int64_t byte)
{
	struct flock lock;
	int rc = lock_op(fd, F_OFD_GETLK, F_WRLCK, byte, &lock);

	return rc ? rc : lock.l_type != F_UNLCK;
}

#define TEST_BYTE (RHC_BYTE_ADMIN + 1) /* nobody else's */

/*
 * Some sandboxes emulate fcntl locks per process: then a dead worker would look alive, or two own
 * one byte.
 */
static int try_pair(int a, int b)
{
	int rc = rhc_lock_take(a, TEST_BYTE);

	if (rc)
		return rc == -EAGAIN ? 0 : rc; /* another process tests just now: it works for it */
	if (rhc_lock_take(b, TEST_BYTE) != -EAGAIN || rhc_lock_held(b, TEST_BYTE) != 1)
		return -ENOTSUP;
	rc = rhc_lock_drop(a, TEST_BYTE);
	if (rc)
		return rc;
	return rhc_lock_held(b, TEST_BYTE) == 0 ? 0 : -ENOTSUP;
}

int rhc_lock_selftest(const struct rhc_segment *seg)
{
	auto_close int a = rhc_lock_open(seg);
	auto_close int b = rhc_lock_open(seg);

	if (a < 0 || b < 0)
		return a < 0 ? a : b;
	return try_pair(a, b);
}
