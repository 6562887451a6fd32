/*
 * shm/file.h - the file behind the segment, before and beside its contents.
 *
 * Owns     nothing; descriptors go to the caller.
 * Errors   -errno, the reason and a sentence in struct rhc_refusal.
 * Used by  shm/segment.c alone.
 */
#ifndef RHC_SHM_FILE_H
#define RHC_SHM_FILE_H

#include "shm/segment.h"

struct rhc_file_rules {
	uint32_t mode;   /* permission bits that may be set */
	bool allow_disk; /* not only tmpfs */
	bool root_may;   /* uid 0 may open what belongs to somebody else */
};

/* Fills *r and returns -err. */
int rhc_refuse(struct rhc_refusal *r, enum rhc_refuse why, int err, const char *fmt, ...)
	RHC_PRINTF(4, 5);

/* Open without following links or waiting; check type, owner, mode, links, file system. */
int rhc_file_open(const char *path, enum rhc_access access, const struct rhc_file_rules *rules,
                  int *ret_fd, uint64_t *ret_size, struct rhc_refusal *r);

/* This boot and this time namespace; zeros without /proc. */
void rhc_file_boot(uint8_t ret_boot[16], uint64_t *ret_timens);

/* Does the path name the file that fd is? */
bool rhc_file_is(int fd, const char *path);

struct rhc_file_new {
	int fd;
	char temp[RHC_PATH_MAX]; /* "" while the file has no name at all */
};

/*
 * A file of that size without a name, or with a temporary one where O_TMPFILE or /proc is
 * missing.
 */
int rhc_file_begin(struct rhc_file_new *file, const char *path, uint32_t mode, uint64_t size,
                   bool allow_disk, struct rhc_refusal *r);
/* Give it its name; -EEXIST if somebody was first.  Afterwards the descriptor is the caller's. */
int rhc_file_publish(struct rhc_file_new *file, const char *path, struct rhc_refusal *r);
void rhc_file_cancel(struct rhc_file_new *file);

/* Rename to <path>.bad-<wall_s>, remove older ones. */
int rhc_file_aside(const char *path, uint64_t wall_s, char *ret_name, size_t size);

#endif
