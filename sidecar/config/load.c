#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sidecar/config/bind.h"
#include "sidecar/config/overlay.h"
#include "sidecar/config/schema.h"

/* ---- reading ---- */

static int unreadable(const struct reporter *r, const char *why)
{
	report(r, "E008", NULL, NULL, NULL, "cannot be read: %s", why);
	return -EINVAL;
}

/* At most CONFIG_FILE_MAX bytes and one; -EINVAL with errno for a read error. */
static ssize_t read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n = 1;

	while (len < size && n > 0) {
		n = read(fd, text + len, size - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	return n < 0 ? -EINVAL : (ssize_t)len;
}

static int read_fd(struct config_meta *m, int fd, const struct reporter *r)
{
	struct stat st;
	char *text;
	ssize_t len;

	/* Not a fifo or a device: a start must not wait for somebody to write. */
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return unreadable(r, "it is not a regular file");
	if (st.st_size > CONFIG_FILE_MAX)
		return unreadable(r, "it is larger than 1 MiB");
	text = arena_alloc(&m->arena, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	len = read_all(fd, text, (size_t)st.st_size);
	if (len < 0)
		return unreadable(r, strerror(errno));
	m->text = text;
	m->len = (size_t)len;
	return 0;
}

static int read_file(struct config_meta *m, const char *path, const struct reporter *r)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int err;

	if (fd < 0)
		return unreadable(r, strerror(errno));
	err = read_fd(m, fd, r);
	close(fd);
	return err;
}

static int read_source(struct config_meta *m, const struct config_source *src,
		       const struct reporter *r)
{
	if (src->text && src->len > CONFIG_FILE_MAX)
		return unreadable(r, "it is larger than 1 MiB");
	if (src->text) {
		m->text = arena_copy(&m->arena, src->text, src->len);
		m->len = src->len;
		return m->text ? 0 : -ENOMEM;
	}
	return src->path ? read_file(m, src->path, r) : 0;
}

/* ---- from text to tree ---- */

static int read_tree(struct config_meta *m, const struct config_source *src,
		     const struct reporter *r, struct node **ret)
{
	const struct place base = { .kind = PLACE_FILE };
	struct node *root = NULL;
	int err = m->text ? tree_parse(m->text, m->len, &base, &m->arena, r, &root) : 0;

	if (err)
		return err;
	if (!root || tree_is_null(root)) {
		root = tree_mapping(&m->arena, &base);
		if (!root)
			return -ENOMEM;
	}
	if (root->kind != NODE_MAPPING) {
		report(r, "E004", &root->at, "begin with version: 1", NULL,
		       "%s where a group of keys is needed", tree_kind_name(root));
		return -EINVAL;
	}
	err = overlay_environ(root, src->environ, &m->arena, r);
	if (!err)
		err = overlay_set(root, src->set, src->set_len, &m->arena, r);
	if (!err)
		err = overlay_expand(root, src->environ, &m->arena, r);
	if (!err)
		*ret = root;
	return err;
}

/* ---- completing ---- */

static void inherit_levels(struct config_logging *l)
{
	const struct schema_group *g = schema_path(&schema_root, "logging.components")->group;

	for (uint32_t i = 0; i < g->len; i++) {
		enum config_level *level = (void *)((char *)&l->components + g->key[i].offset);

		if (g->key[i].kind == SCHEMA_ENUM && *level == CONFIG_LEVEL_INHERIT)
			*level = l->level;
	}
}

/* An upstream's own address becomes a listener; bind_sequence() kept room for it. */
static void add_listeners(struct config *cfg)
{
	const struct config_listener *like = &cfg->listeners[0];

	cfg->meta->listeners_written = cfg->listeners_len;
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		const struct config_upstream *u = &cfg->upstreams[i];
		struct config_listener *l = &cfg->listeners[cfg->listeners_len];

		if (!u->listen.text)
			continue;
		*l = *like;
		l->name = u->name;
		l->address = u->listen;
		l->mode = CONFIG_LISTENER_UPSTREAM;
		l->upstream = u->name;
		cfg->listeners_len++;
	}
}

static int complete(struct config *cfg, const struct config_source *src, const struct reporter *r)
{
	struct arena *a = &cfg->meta->arena;
	bool file = src->path || src->text;

	places_sort(&cfg->meta->places);
	if (file && !meta_place(cfg, &cfg->version))
		report(r, "E006", NULL, "begin the file with version: 1", NULL,
		       "version is missing");
	cfg->version = 1;
	if (!cfg->shm.path)
		cfg->shm.path = arena_printf(a, "/run/rhc/%s.shm", cfg->instance);
	inherit_levels(&cfg->logging);
	/* A list that could not be bound: its finding is made, the rules still want one. */
	if (!cfg->listeners) {
		cfg->listeners = arena_alloc(a, (1 + cfg->upstreams_len) * sizeof(*cfg->listeners));
		if (!cfg->listeners || schema_init(&schema_listener, cfg->listeners, a))
			return -ENOMEM;
		cfg->listeners_len = 1;
	}
	add_listeners(cfg);
	return cfg->shm.path ? 0 : -ENOMEM;
}

/* ---- loading ---- */

/* The first allocation of the arena is the configuration itself. */
static struct config *new_config(const struct config_source *src)
{
	struct arena a;
	struct config *cfg;
	struct config_meta *m;
	const char *name = src->path ? src->path : src->text ? "(memory)" : NULL;

	arena_init(&a, src->memory_max ? src->memory_max : CONFIG_MEMORY_MAX);
	cfg = arena_alloc(&a, sizeof(*cfg));
	m = arena_alloc(&a, sizeof(*m));
	if (!cfg || !m)
		goto fail;
	m->file = name ? arena_copy(&a, name, strlen(name)) : NULL;
	if (schema_init(&schema_root, cfg, &a) || (name && !m->file))
		goto fail;
	m->arena = a;
	cfg->meta = m;
	return cfg;
fail:
	arena_fini(&a);
	return NULL;
}

static int load(struct config *cfg, const struct config_source *src, struct findings *f)
{
	struct reporter r = meta_reporter(cfg->meta, f);
	struct node *root = NULL;
	uint32_t errors = f->errors;
	int err;

	if (src->set_len > CONFIG_OVERRIDES_MAX) {
		report(&r, "E004", NULL, NULL, NULL, "more than %d --set arguments",
		       CONFIG_OVERRIDES_MAX);
		return -EINVAL;
	}
	err = read_source(cfg->meta, src, &r);
	r = meta_reporter(cfg->meta, f);
	if (!err)
		err = read_tree(cfg->meta, src, &r, &root);
	if (!err)
		err = bind_config(cfg, root, &r);
	if (!err)
		err = complete(cfg, src, &r);
	if (!err)
		err = config_check(cfg, f);
	if (!err && f->errors > errors)
		err = -EINVAL;
	return err;
}

int config_load(struct config **ret, const struct config_source *src, struct findings *f)
{
	struct config *cfg = new_config(src);
	int err;

	if (!cfg)
		return -ENOMEM;
	err = load(cfg, src, f);
	if (err)
		config_free(cfg);
	else
		*ret = cfg;
	return err;
}

struct config *config_free(struct config *cfg)
{
	struct arena a;

	if (cfg) {
		/* The struct lies in the arena it holds. */
		a = cfg->meta->arena;
		arena_fini(&a);
	}
	return NULL;
}
