/*
 * sidecar/config/config.h - the configuration: one YAML file, checked, then only read.
 *
 * Shape    struct config and its groups are made from schema.def: field `read_ns` of struct config_timeout is
 *          key `timeout.read`.  Durations are nanoseconds (_ns), shares are basis points (_bp, 10000 = 100 %),
 *          factors are thousandths (_milli), sizes are bytes.  Strings are NULL when the value is null.
 * Owns     everything a struct config points to; config_free() gives it back.
 * Owned by the supervisor; workers inherit it copy-on-write and only read: no lock, no lookup by name.
 * Errors   of the file are findings (findings.h), all of them at once; the int tells only whether a
 *          configuration came out.
 * Limits   CONFIG_*_MAX below; the file holds at most 1 MiB, 16 levels, one document.
 * Ends when config_free().
 * Never    logs; what it has to say goes to the FILE the caller gives.
 * See      sidecar/config/README.md, schema.def.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONFIG_LISTENERS_MAX 32  /* written ones; those of upstreams.*.listen come on top */
#define CONFIG_UPSTREAMS_MAX 256 /* upstream records of the segment */
#define CONFIG_NAME_MAX      47  /* bytes of an upstream's name: its record in the segment */
#define CONFIG_FILE_MAX      (UINT32_C(1) << 20) /* a ConfigMap holds no more */
#define CONFIG_DEPTH_MAX     16
#define CONFIG_OVERRIDES_MAX 256 /* --set arguments */
#define CONFIG_STATUS_MAX    599
#define CONFIG_MEMORY_MAX    (UINT64_C(64) << 20) /* what one configuration may allocate */
#define CONFIG_HASH_TEXT     17                   /* 16 hex digits and the NUL */

#define CONFIG_NS_PER_MS UINT64_C(1000000)
#define CONFIG_NS_PER_S  UINT64_C(1000000000)

/* Milliseconds of a duration, rounded up so that a positive one stays positive. */
static inline uint64_t config_ms(uint64_t ns)
{
	return ns / CONFIG_NS_PER_MS + (ns % CONFIG_NS_PER_MS != 0);
}

/* A set of response statuses, 100..599. */
struct config_statuses {
	uint64_t bits[10];
};

static inline bool config_status_in(const struct config_statuses *set, unsigned status)
{
	return status <= CONFIG_STATUS_MAX && (set->bits[status / 64] >> (status % 64) & 1) != 0;
}

/* A set of enum values: bit n stands for value n. */
static inline bool config_set_has(uint32_t set, unsigned value)
{
	return value < 32 && (set >> value & 1) != 0;
}

struct config_strings {
	uint32_t len;
	const char *const *item;
};

struct config_pair {
	const char *name;
	const char *value;
};

struct config_pairs {
	uint32_t len;
	const struct config_pair *item;
};

/* A socket address; `text` NULL = none.  `family` is AF_INET, AF_INET6 or AF_UNIX. */
struct config_address {
	const char *text;
	int family;
	uint16_t port; /* 0 with AF_UNIX */
	socklen_t len;
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} addr;
};

/* scheme://host[:port][/path], cut into parts; without userinfo, query and fragment. */
struct config_url {
	const char *text;
	const char *host; /* lower case, an IPv6 address without its brackets */
	const char *path; /* "" or "/a/b": no slash at the end */
	uint16_t port;    /* 80 or 443 when not written */
	bool tls;
	bool port_written;
	bool literal; /* host is an IP address */
};

/* ---- enums and groups, from the table ---- */

/* clang-format off */

#define ENUM_BEGIN(tag)            enum config_##tag {
#define VALUE(tag, name, word, doc) CONFIG_##name,
#define ENUM_END(tag)              };
#include "sidecar/config/schema.def"

#define CONFIG_C_BOOL(type)     bool
#define CONFIG_C_UINT(type)     uint32_t
#define CONFIG_C_SIZE(type)     uint64_t
#define CONFIG_C_DURATION(type) uint64_t
#define CONFIG_C_PERCENT(type)  uint32_t
#define CONFIG_C_FACTOR(type)   uint32_t
#define CONFIG_C_MODE(type)     uint32_t
#define CONFIG_C_ENUM(type)     enum config_##type
#define CONFIG_C_SET(type)      uint32_t
#define CONFIG_C_STRING(type)   const char *
#define CONFIG_C_FILE(type)     const char *
#define CONFIG_C_ADDRESS(type)  struct config_address
#define CONFIG_C_URL(type)      struct config_url
#define CONFIG_C_STRINGS(type)  struct config_strings
#define CONFIG_C_PAIRS(type)    struct config_pairs
#define CONFIG_C_STATUSES(type) struct config_statuses

struct config_meta;

#define GROUP_BEGIN(tag, doc)                 struct config_##tag {
#define GROUP_END(tag)                        };
#define KEY(group, field, key, kind, type, def, min, max, zero, flags, doc) CONFIG_C_##kind(type) field;
#define SUB(group, field, key, tag, doc)       struct config_##tag field;
#define NAME(group, field)                    const char *field;
#define INLINE(group, field, tag)             struct config_##tag field;
#define LIST(group, field, key, tag, max, doc) struct config_##tag *field; uint32_t field##_len;
#define MAP(group, field, key, tag, max, doc)  struct config_##tag *field; uint32_t field##_len;
#define ROOT_BEGIN(doc)                       struct config {
#define ROOT_END()                            struct config_meta *meta; };
#include "sidecar/config/schema.def"
/* clang-format on */

/*
 * What the table makes, for readers:
 *   cfg->listeners[i]   listeners_len of them; an upstream's `listen` has become one of mode upstream with the
 *                       upstream's name, so nobody else need look at upstreams[i].listen
 *   cfg->upstreams[i]   upstreams_len of them in the order of the file; .name, .url, .hosts, .policy.timeout …:
 *                       every policy already inherited from defaults
 *   cfg->shm.path       never NULL;  cfg->shm.max_slots and cfg->workers are 0 for auto, see below
 *   cfg->logging.components.*   never CONFIG_LEVEL_INHERIT
 */

/* ---- loading ---- */

struct findings;

/*
 * Where a configuration comes from.  Zero what you do not need.
 *   path        the file; NULL with `text`
 *   text, len   the file's content in memory; findings then name it `path`, or "(memory)"
 *   set         "key=value" arguments, the last one wins; at most CONFIG_OVERRIDES_MAX
 *   environ     "RHC_A__B=value" strings, NULL at the end, also what ${env:NAME} sees; NULL = no environment
 *   memory_max  bytes it may allocate; 0 = CONFIG_MEMORY_MAX
 */
struct config_source {
	const char *path;
	const char *text;
	size_t len;
	const char *const *set;
	size_t set_len;
	char *const *environ;
	uint64_t memory_max;
};

/*
 * Read, check and complete a configuration.  Findings are added to *f, warnings also on success; *ret only
 * when there was no error among them.
 * Errors  -EINVAL  the configuration has errors: see *f
 *         -ENOMEM  memory_max reached or no memory; *f may be incomplete
 */
int config_load(struct config **ret, const struct config_source *src, struct findings *f);

/* Takes NULL, returns NULL. */
struct config *config_free(struct config *cfg);

/*
 * The semantic rules alone (W1xx and the E0xx that need several keys).  config_load() calls it; 0 or -EINVAL
 * when it found errors, -ENOMEM.
 */
int config_check(const struct config *cfg, struct findings *f);

/*
 * What the rules cannot know without the machine: files that are named but unreadable (E008), descriptors
 * (W113), a segment that is not on a tmpfs (W116), a file that a ConfigMap update cannot reach (W112).
 * 0 or -EINVAL when it found errors.
 */
int config_check_host(const struct config *cfg, struct findings *f);

/* ---- asking ---- */

/* The upstream of that name, or NULL.  For start and admin; a call routes by its own table. */
const struct config_upstream *config_upstream(const struct config *cfg, const char *name);

/* How many workers: the number written, or for auto one per CPU given, 1..4. */
uint32_t config_workers(const struct config *cfg, double cpus);

/* Slots per upstream of the segment: the number written, or for auto 4 x the largest limit, a power of two. */
uint32_t config_slots(const struct config *cfg);

/* The longest one call can take with that policy: slot and pool waits, attempts, backoffs; total bounds it. */
uint64_t config_worst_case_ns(const struct config_policy *p);

/* One line per upstream: "Worst case for one call to orders: 3 × (…) + 3s backoff = 4m3s". */
void config_print_worst_case(const struct config *cfg, FILE *out);

/* The word of an enum value, e.g. config_failure_name(CONFIG_FAILURE_TIMEOUT) is "timeout". */
#define ENUM_BEGIN(tag) const char *config_##tag##_name(enum config_##tag value);
#include "sidecar/config/schema.def"

/* ---- showing ---- */

enum config_form {
	CONFIG_FORM_TEXT, /* "key   value" columns */
	CONFIG_FORM_YAML, /* a file that loads to the same values */
	CONFIG_FORM_JSON, /* one object per key: key, value, origin, apply */
};

/* The effective values; `origin` adds where each comes from.  Secrets are "<redacted>" in every form. */
void config_print(const struct config *cfg, enum config_form form, bool origin, FILE *out);

/* A hash of the effective values, the same for the same values however they were written. */
uint64_t config_hash(const struct config *cfg);
void config_hash_text(const struct config *cfg, char text[static CONFIG_HASH_TEXT]);

/*
 * What differs between two configurations, one changed key per call of `each` (a dotted path; restart true
 * when the key needs a restart of the sidecar).  Returns the number of changes.
 */
size_t config_diff(const struct config *was, const struct config *now,
		   void (*each)(void *arg, const char *key, bool restart), void *arg);

/*
 * Everything known of a key ("retry.max_attempts", "upstreams.orders.timeout.read", a group, or "" for all).
 * Errors  -ENOENT  no such key; a suggestion is printed
 */
int config_explain(const char *key, FILE *out);

/* The JSON Schema (draft 2020-12) of the file. */
void config_json_schema(FILE *out);
