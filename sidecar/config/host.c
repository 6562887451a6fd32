/* The rules that need the machine the sidecar will run on. */
#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sidecar/base/pipe.h"
#include "sidecar/config/meta.h"

#define DESCRIPTORS_RESERVED 64 /* ring, segment, logs, admin and what libraries keep open */

static void readable(const struct config *cfg, const char *const *file, const char *key,
		     const struct reporter *r)
{
	if (*file && access(*file, R_OK) < 0)
		report(r, "E008", meta_place(cfg, file), NULL, NULL,
		       "%s: %.200s cannot be read: %s", key, *file, strerror(errno));
}

static void check_tls_files(const struct config *cfg, const struct config_tls *t,
			    const struct reporter *r)
{
	readable(cfg, &t->ca_file, "tls.ca_file", r);
	readable(cfg, &t->client_cert_file, "tls.client_cert_file", r);
	readable(cfg, &t->client_key_file, "tls.client_key_file", r);
}

static void check_files(const struct config *cfg, const struct reporter *r)
{
	readable(cfg, &cfg->admin.token_file, "admin.token_file", r);
	check_tls_files(cfg, &cfg->defaults.tls, r);
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		const struct config_tls *t = &cfg->upstreams[i].policy.tls;

		/* Inherited files are looked at once, above. */
		if (meta_place(cfg, &t->ca_file) || meta_place(cfg, &t->client_cert_file) ||
		    meta_place(cfg, &t->client_key_file))
			check_tls_files(cfg, t, r);
	}
}

static void check_descriptors(const struct config *cfg, const struct reporter *r)
{
	uint64_t need = DESCRIPTORS_RESERVED;
	struct rlimit limit;

	for (uint32_t i = 0; i < cfg->listeners_len; i++)
		need += cfg->listeners[i].max_connections + 1;
	for (uint32_t i = 0; i < cfg->upstreams_len; i++)
		need += cfg->upstreams[i].policy.pool.max_connections;
	if (cfg->io.splice == CONFIG_SPLICE_AUTO)
		need += 2 * PIPE_MAX;
	/* The hard limit counts: the soft one is raised at start. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max != RLIM_INFINITY &&
	    need > limit.rlim_max)
		report(r, "W113", NULL,
		       "raise the limit, or lower max_connections of listeners and pools", NULL,
		       "a worker may need %llu descriptors, its limit is %llu",
		       (unsigned long long)need, (unsigned long long)limit.rlim_max);
}

/* A segment on a disk works, but each page written is written to the disk as well. */
static void check_segment(const struct config *cfg, const struct reporter *r)
{
	char dir[4097];
	struct statfs fs;
	char *slash;

	snprintf(dir, sizeof(dir), "%s", cfg->shm.path);
	slash = strrchr(dir, '/');
	if (!slash)
		return;
	slash[slash == dir] = '\0';
	if (statfs(dir, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC)
		report(r, "W116", meta_place(cfg, &cfg->shm.path),
		       "e.g. an emptyDir with medium: Memory", NULL,
		       "shm.path %.200s is not on a tmpfs", cfg->shm.path);
}

/* kubelet replaces the link ..data; a file mounted by subPath stays what it was at the start of the pod. */
static void check_mount(const struct config *cfg, const struct reporter *r)
{
	char dir[4097];
	struct stat file, parent;
	char *slash;

	if (!cfg->meta->file || stat(cfg->meta->file, &file) < 0)
		return;
	snprintf(dir, sizeof(dir), "%s", cfg->meta->file);
	slash = strrchr(dir, '/');
	if (!slash)
		return;
	slash[slash == dir] = '\0';
	if (stat(dir, &parent) == 0 && parent.st_dev != file.st_dev)
		report(r, "W112", NULL, "mount the directory, not the file (no subPath)", NULL,
		       "the file is a mount of its own: changes of a ConfigMap will not be seen");
}

int config_check_host(const struct config *cfg, struct findings *f)
{
	struct reporter r = meta_reporter(cfg->meta, f);
	uint32_t errors = f->errors;

	check_files(cfg, &r);
	check_descriptors(cfg, &r);
	check_segment(cfg, &r);
	check_mount(cfg, &r);
	return f->errors > errors ? -EINVAL : 0;
}
