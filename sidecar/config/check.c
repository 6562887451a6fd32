#include "sidecar/config/check.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "shm/base.h"
#include "sidecar/config/suggest.h"

/* ---- upstreams ---- */

static void check_url(const struct config *cfg, const struct config_upstream *u,
		      const struct reporter *r)
{
	const struct place *at = meta_place(cfg, &u->url);

	if (!u->url.text) {
		/* A url that could not be read has its finding already. */
		if (!at)
			report(r, "E006", meta_place(cfg, u),
			       "e.g. url: https://orders.shop.svc:8443", NULL,
			       "upstreams.%s: url is missing", u->name);
		return;
	}
	if (u->url.port == (u->url.tls ? 80 : 443))
		report(r, "W109", at, "https:// is TLS, http:// is plain", NULL,
		       "upstreams.%s: %s to port %u", u->name, u->url.tls ? "https://" : "http://",
		       (unsigned)u->url.port);
}

/* The authorities of an upstream: its name first. */
static const char *authority(const struct config_upstream *u, uint32_t i)
{
	return i == 0 ? u->name : i <= u->hosts.len ? u->hosts.item[i - 1] : NULL;
}

static bool clash(const struct config_upstream *a, const struct config_upstream *b,
		  const char **ret)
{
	for (uint32_t i = 0; (*ret = authority(a, i)) != NULL; i++) {
		for (uint32_t j = 0; authority(b, j); j++) {
			if (strcasecmp(*ret, authority(b, j)) == 0)
				return true;
		}
	}
	return false;
}

/* A request must have one way to go. */
static void check_hosts(const struct config *cfg, const struct config_upstream *u,
			const struct reporter *r)
{
	const struct place *at = meta_place(cfg, &u->hosts);
	const char *host;

	for (const struct config_upstream *v = cfg->upstreams; v < u; v++) {
		if (clash(u, v, &host))
			report(r, "E013", at ? at : meta_place(cfg, u), NULL, NULL,
			       "upstreams.%s: host \"%s\" means upstreams.%s already", u->name,
			       host, v->name);
	}
}

static void check_upstreams(const struct config *cfg, const struct reporter *r)
{
	if (cfg->shm.max_upstreams && cfg->upstreams_len > cfg->shm.max_upstreams)
		report(r, "E005", meta_place(cfg, &cfg->shm.max_upstreams), NULL, NULL,
		       "%u upstreams are more than shm.max_upstreams (%u)",
		       (unsigned)cfg->upstreams_len, (unsigned)cfg->shm.max_upstreams);
	for (uint32_t i = 0; i < cfg->upstreams_len; i++) {
		check_url(cfg, &cfg->upstreams[i], r);
		check_hosts(cfg, &cfg->upstreams[i], r);
		check_policy(cfg, &cfg->upstreams[i], r);
	}
}

/* ---- listeners ---- */

static const char *nearest_upstream(const struct config *cfg, const char *name)
{
	struct suggest s = { 0 };

	for (uint32_t i = 0; i < cfg->upstreams_len; i++)
		suggest_offer(&s, name, strlen(name), cfg->upstreams[i].name);
	return s.best;
}

static void check_listener(const struct config *cfg, const struct config_listener *l,
			   const struct reporter *r)
{
	if (l->mode == CONFIG_LISTENER_UPSTREAM && !l->upstream)
		report(r, "E006", meta_place(cfg, &l->mode), NULL, NULL,
		       "listener %s: mode upstream needs upstream", l->name);
	if (l->upstream && l->mode != CONFIG_LISTENER_UPSTREAM)
		report(r, "W119", meta_place(cfg, &l->upstream), "add mode: upstream", NULL,
		       "listener %s: upstream has no meaning in mode %s", l->name,
		       config_listener_mode_name(l->mode));
	if (l->upstream && !config_upstream(cfg, l->upstream))
		report(r, "E007", meta_place(cfg, &l->upstream), NULL,
		       nearest_upstream(cfg, l->upstream), "listener %s: no upstream \"%s\"",
		       l->name, l->upstream);
	for (const struct config_listener *m = cfg->listeners; m < l; m++) {
		if (strcmp(m->name, l->name) == 0)
			report(r, "E003", meta_place(cfg, &l->name), NULL, NULL,
			       "two listeners are called \"%s\"", l->name);
	}
}

/* ---- addresses ---- */

struct taken {
	const struct config_address *address;
	const struct place *at;
	char who[CONFIG_NAME_MAX + 16];
};

static bool wildcard(const struct config_address *a)
{
	if (a->family == AF_INET)
		return a->addr.in.sin_addr.s_addr == htonl(INADDR_ANY);
	return a->family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->addr.in6.sin6_addr);
}

/* Whether binding both fails.  [::] takes IPv4 as well unless told otherwise, so it meets every address. */
static bool collide(const struct config_address *a, const struct config_address *b)
{
	if (a->family == AF_UNIX || b->family == AF_UNIX)
		return a->family == b->family &&
		       strcmp(a->addr.un.sun_path, b->addr.un.sun_path) == 0;
	if (a->port != b->port)
		return false;
	if (wildcard(a) || wildcard(b))
		return a->family == b->family || (wildcard(a) && a->family == AF_INET6) ||
		       (wildcard(b) && b->family == AF_INET6);
	if (a->family != b->family)
		return false;
	if (a->family == AF_INET)
		return a->addr.in.sin_addr.s_addr == b->addr.in.sin_addr.s_addr;
	return memcmp(&a->addr.in6.sin6_addr, &b->addr.in6.sin6_addr, sizeof(struct in6_addr)) == 0;
}

#define TAKEN_MAX (CONFIG_LISTENERS_MAX + CONFIG_UPSTREAMS_MAX + 2)

static uint32_t take(struct taken *t, uint32_t len, const struct config *cfg,
		     const struct config_address *address, const char *what, const char *name)
{
	if (!address->text || len == TAKEN_MAX)
		return len;
	t[len].address = address;
	t[len].at = meta_place(cfg, address);
	snprintf(t[len].who, sizeof(t[len].who), "%s%s", what, name);
	return len + 1;
}

static void check_addresses(const struct config *cfg, const struct reporter *r)
{
	struct taken t[TAKEN_MAX];
	uint32_t len = 0;

	for (uint32_t i = 0; i < cfg->meta->listeners_written; i++)
		len = take(t, len, cfg, &cfg->listeners[i].address, "listener ",
			   cfg->listeners[i].name);
	for (uint32_t i = 0; i < cfg->upstreams_len; i++)
		len = take(t, len, cfg, &cfg->upstreams[i].listen, "upstreams.",
			   cfg->upstreams[i].name);
	len = take(t, len, cfg, &cfg->admin.address, "admin", "");
	len = take(t, len, cfg, &cfg->telemetry.address, "telemetry", "");
	for (uint32_t i = 0; i < len; i++) {
		for (uint32_t j = 0; j < i; j++) {
			if (collide(t[i].address, t[j].address))
				report(r, "E011", t[i].at ? t[i].at : t[j].at, NULL, NULL,
				       "%s and %s cannot both listen on %s", t[j].who, t[i].who,
				       t[i].address->text);
		}
	}
}

static bool loopback(const struct config_address *a)
{
	if (a->family == AF_INET)
		return ntohl(a->addr.in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return a->family != AF_INET6 || IN6_IS_ADDR_LOOPBACK(&a->addr.in6.sin6_addr);
}

static void check_admin(const struct config *cfg, const struct reporter *r)
{
	const struct config_admin *a = &cfg->admin;
	const struct place *at = meta_place(cfg, &a->address);

	if (a->address.text && !loopback(&a->address) && a->mutations == CONFIG_MUTATIONS_LOOPBACK)
		report(r, "W114", at ? at : meta_place(cfg, &a->mutations),
		       "use mutations: socket, or an address on loopback", NULL,
		       "admin.address %s is reachable from outside and takes changes",
		       a->address.text);
}

/* ---- the rest ---- */

static bool power_of_two(uint32_t n)
{
	return n && (n & (n - 1)) == 0;
}

static void check_sizes(const struct config *cfg, const struct reporter *r)
{
	uint32_t workers_room = cfg->shm.max_workers ? cfg->shm.max_workers : RHC_WORKERS_MAX;

	if (!power_of_two(cfg->io.buffers))
		report(r, "E005", meta_place(cfg, &cfg->io.buffers), "e.g. 256", NULL,
		       "io.buffers (%u) must be a power of two", (unsigned)cfg->io.buffers);
	if (cfg->shm.max_slots && !power_of_two(cfg->shm.max_slots))
		report(r, "E005", meta_place(cfg, &cfg->shm.max_slots), "e.g. 1024, or auto", NULL,
		       "shm.max_slots (%u) must be a power of two", (unsigned)cfg->shm.max_slots);
	if (cfg->workers > workers_room)
		report(r, "E005", meta_place(cfg, &cfg->workers), NULL, NULL,
		       "workers (%u) are more than shm.max_workers (%u)", (unsigned)cfg->workers,
		       (unsigned)workers_room);
	else if (cfg->workers * 2 > workers_room)
		report(r, "W117", meta_place(cfg, &cfg->workers),
		       "set shm.max_workers to twice workers", NULL,
		       "shm.max_workers (%u) has no room for a second generation of %u workers: no reload",
		       (unsigned)workers_room, (unsigned)cfg->workers);
}

static void check_supervisor(const struct config *cfg, const struct reporter *r)
{
	const struct config_supervisor *s = &cfg->supervisor;
	const struct place *at = meta_place(cfg, &s->restart_backoff_max_ns);

	if (s->restart_backoff_max_ns < s->restart_backoff_min_ns)
		report(r, "E012", at ? at : meta_place(cfg, &s->restart_backoff_min_ns), NULL, NULL,
		       "supervisor.restart_backoff_max is less than restart_backoff_min");
}

static void check_texts(const struct config *cfg, const struct reporter *r)
{
	const struct config_strings *paths = &cfg->logging.access_log.exclude_paths;
	const char *const *name = &cfg->responses.proxy_status.name;

	/* A token for Via (RFC 9110 §7.6.3), and one for Proxy-Status (RFC 8941 §3.3.4), which begins with a letter. */
	if (!check_token(*name) || !isalpha((unsigned char)**name))
		report(r, "E004", meta_place(cfg, name), "a letter, then letters, digits and -._", NULL,
		       "responses.proxy_status.name: \"%.64s\" is not a token", *name);
	if (strspn(cfg->instance, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(cfg->instance))
		report(r, "E004", meta_place(cfg, &cfg->instance), "small letters, digits and -",
		       NULL, "instance: \"%s\" is not a name", cfg->instance);
	if (cfg->telemetry.metrics_path[0] != '/')
		report(r, "E004", meta_place(cfg, &cfg->telemetry.metrics_path), NULL, NULL,
		       "telemetry.metrics_path must begin with /");
	for (uint32_t i = 0; i < paths->len; i++) {
		if (paths->item[i][0] != '/')
			report(r, "E004", meta_place(cfg, paths), NULL, NULL,
			       "logging.access_log.exclude_paths: \"%.60s\" must begin with /",
			       paths->item[i]);
	}
}

void check_rest(const struct config *cfg, const struct reporter *r)
{
	check_upstreams(cfg, r);
	for (uint32_t i = 0; i < cfg->meta->listeners_written; i++)
		check_listener(cfg, &cfg->listeners[i], r);
	check_addresses(cfg, r);
	check_admin(cfg, r);
	check_sizes(cfg, r);
	check_supervisor(cfg, r);
	check_texts(cfg, r);
}

int config_check(const struct config *cfg, struct findings *f)
{
	struct reporter r = meta_reporter(cfg->meta, f);
	uint32_t errors = f->errors;

	check_policy(cfg, NULL, &r);
	check_rest(cfg, &r);
	return f->errors > errors ? -EINVAL : 0;
}
