#include "sidecar/run/segment.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/upstream.h"
#include "sidecar/base/clock.h"
#include "sidecar/base/log.h"
#include "sidecar/upstream/upstream.h"

enum { SEGMENT_EVENTS_MIN = 64, SEGMENT_UPSTREAMS_MIN = 16, SEGMENT_WORKERS_MIN = 8,
       SEGMENT_HOSTS = 32 };

static uint64_t now_ms(void)
{
	return clock_ns() / NS_PER_MS;
}

/* The directory of the default path is ours to make. */
static void make_dir(const char *path)
{
	char dir[RHC_PATH_MAX];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = 0;
		(void)mkdir(dir, 0700); /* what is wrong with it is said when the file is opened */
	}
}

static uint32_t ring_len(const struct config *config)
{
	uint32_t each = config->shm.events / 16, len = SEGMENT_EVENTS_MIN;

	while (len < each)
		len *= 2;
	return len;
}

static uint32_t room_for(uint32_t n, uint32_t least, uint32_t most)
{
	while (least < n && least < most)
		least *= 2;
	return least < most ? least : most;
}

uint32_t segment_upstreams(uint32_t configured)
{
	return room_for(2 * configured, SEGMENT_UPSTREAMS_MIN, CONFIG_UPSTREAMS_MAX);
}

/* Two generations, a third that waits for the first, and a predecessor's. */
uint32_t segment_workers(uint32_t workers)
{
	return room_for(4 * workers, SEGMENT_WORKERS_MIN, RHC_WORKERS_MAX);
}

/* For the hosts that patterns of forward_proxy.allow let through. */
static uint32_t segment_hosts(const struct config *config)
{
	if (config->forward_proxy.max_hosts)
		return config->forward_proxy.max_hosts;
	return config->forward_proxy.enabled && config->forward_proxy.allow.len ? SEGMENT_HOSTS : 0;
}

static struct rhc_segment_opt options_of(const struct options *o, const struct config *config,
					 uint32_t workers, const char *path)
{
	struct rhc_segment_opt opt = {
		.path = path,
		.shape = { .workers = config->shm.max_workers ? config->shm.max_workers
							      : segment_workers(workers),
			   .upstreams = config->shm.max_upstreams
						? config->shm.max_upstreams
						: segment_upstreams(config->upstreams_len + 1),
			   .hosts = segment_hosts(config),
			   .slots = config_slots(config),
			   .ring_len = ring_len(config) },
		.mode = 0600,
		.allow_disk = o->allow_disk,
		.fresh = o->fresh || !config->shm.adopt,
		.mono_ns = clock_ns(),
		.wall_ns = clock_wall_ns(),
	};

	if (getrandom(opt.uuid, sizeof(opt.uuid), GRND_NONBLOCK) < 0)
		memcpy(opt.uuid, &opt.mono_ns, sizeof(opt.mono_ns));
	return opt;
}

static bool default_fails(enum rhc_refuse why)
{
	return why == RHC_REFUSE_FS || why == RHC_REFUSE_ABSENT || why == RHC_REFUSE_OPEN;
}

/* *ret_aside: what was wrong with the file that was set aside, RHC_REFUSE_NONE: there was none. */
static int adopt(struct rhc_segment *seg, const struct options *o, const struct config *config,
		 uint32_t workers, enum rhc_refuse *ret_aside)
{
	char standard[RHC_PATH_MAX], instead[RHC_PATH_MAX];
	struct rhc_segment_opt opt = options_of(o, config, workers, config->shm.path);
	struct rhc_refusal refusal;
	bool is_default;
	int rc;

	snprintf(standard, sizeof(standard), "/run/rhc/%s.shm", config->instance);
	is_default = strcmp(standard, config->shm.path) == 0;
	if (is_default)
		make_dir(standard);
	rc = rhc_segment_adopt(seg, &opt, &refusal);
	if (rc != 0 && is_default && default_fails(refusal.why)) {
		snprintf(instead, sizeof(instead), "/dev/shm/rhc-%s.shm", config->instance);
		log_event(LOG_SHM, LOG_WARN, "segment_elsewhere", LOG_STR("reason", refusal.text),
			  LOG_STR("instead", instead));
		opt = options_of(o, config, workers, instead);
		rc = rhc_segment_adopt(seg, &opt, &refusal);
	}
	if (rc != 0) {
		log_event(LOG_SHM, LOG_ERROR, "segment_refused",
			  LOG_STR("why", rhc_refuse_name(refusal.why)),
			  LOG_STR("reason", refusal.text), LOG_ERRNO("error", rc));
		return rc;
	}
	*ret_aside = refusal.aside[0] ? refusal.aside_why : RHC_REFUSE_NONE;
	if (refusal.aside[0])
		log_event(LOG_SHM, LOG_WARN, "segment_set_aside",
			  LOG_STR("why", rhc_refuse_name(refusal.aside_why)),
			  LOG_STR("file", refusal.aside));
	return 0;
}

/* What the configuration no longer has is retired; its record is used again once it is quiet. */
static void retire_missing(struct rhc_segment *seg, const struct config *config, uint64_t cfg_gen)
{
	char name[RHC_NAME_MAX + 1];

	for (uint32_t i = 0; i < rhc_seg_hosts_from(seg); i++) {
		if (rhc_upstream_state(seg, i) != RHC_UP_USED)
			continue;
		rhc_upstream_name(seg, i, name);
		if (!upstreams_declares(config, name))
			(void)rhc_upstream_retire(seg, i, cfg_gen);
	}
}

int segment_declare(struct rhc_segment *seg, const struct config *config, uint64_t *wake)
{
	uint64_t gen = rhc_config_publish(seg, config_hash(config), now_ms());
	char why[128];
	int rc;

	rhc_segment_say(rhc_seg_hdr(seg)->preset, sizeof(rhc_seg_hdr(seg)->preset),
			config_preset_name(config->preset));
	retire_missing(seg, config, gen);
	rc = upstreams_declare(config, seg, now_ms(), wake, why, sizeof(why));
	if (rc != 0)
		log_event(LOG_SHM, LOG_ERROR, "upstream_refused", LOG_STR("reason", why),
			  LOG_ERRNO("error", rc));
	return rc;
}

/* Into the supervisor's ring, which it opens behind them. */
static void tell_events(const struct rhc_segment *seg, enum rhc_refuse aside,
			const struct rhc_reaped *sum)
{
	const struct rhc_hdr *hdr = rhc_seg_hdr(seg);
	struct rhc_ring_writer ring;

	rhc_ring_writer_init(&ring, seg, seg->hdr.max_workers, 0);
	if (seg->created)
		rhc_event_put(&ring, RHC_EV_segment_new, RHC_NO_UPSTREAM, now_ms(),
			      (const uint64_t[5]){ seg->size, aside });
	else
		rhc_event_put(&ring, RHC_EV_segment_adopted, RHC_NO_UPSTREAM, now_ms(),
			      (const uint64_t[5]){ sum->probes, sum->slots });
	rhc_event_put(&ring, RHC_EV_config, RHC_NO_UPSTREAM, now_ms(),
		      (const uint64_t[5]){ atomic_load(&hdr->cfg_gen), atomic_load(&hdr->cfg_hash) });
}

static int clean_and_declare(struct rhc_segment *seg, const struct config *config,
			     enum rhc_refuse aside)
{
	struct rhc_reaped sum = { 0 };
	uint64_t wake = 0;
	int fd, rc;

	fd = rhc_lock_open(seg);
	if (fd >= 0) {
		rhc_reap_all(seg, fd, RHC_WORKERS_MAX, now_ms(), &sum, &wake);
		close(fd);
	}
	rc = segment_declare(seg, config, &wake);
	if (rc != 0)
		return rc;
	log_event(LOG_SHM, LOG_INFO, seg->created ? "segment_created" : "segment_adopted",
		  LOG_STR("path", seg->path), LOG_U64("bytes", seg->size),
		  LOG_U64("slots_taken_back", sum.slots), LOG_U64("probes_taken_back", sum.probes));
	tell_events(seg, aside, &sum);
	return 0;
}

static void describe(struct rhc_segment *seg, const struct config *config)
{
	struct rhc_hdr *hdr = rhc_seg_hdr(seg);

	rhc_segment_say(hdr->version, sizeof(hdr->version), RHC_VERSION);
	rhc_segment_say(hdr->instance, sizeof(hdr->instance), config->instance);
	atomic_store(&hdr->sup_pid, (uint64_t)getpid());
	atomic_store(&hdr->sup_start_ms, now_ms());
	atomic_store(&hdr->sup_beat_ms, now_ms());
	atomic_store(&hdr->drain, 0);
	atomic_store(&hdr->lifecycle, RHC_LIFE_STARTING);
}

int segment_open(struct rhc_segment *seg, const struct options *o, const struct config *config,
		 uint32_t workers)
{
	enum rhc_refuse aside;

	if (adopt(seg, o, config, workers, &aside) != 0)
		return EXIT_FAILED;
	if (clean_and_declare(seg, config, aside) != 0) {
		rhc_segment_detach(seg);
		return EXIT_FAILED;
	}
	describe(seg, config);
	return 0;
}

void segment_lost(const struct rhc_segment *seg)
{
	static bool said;

	if (!said)
		log_event(
			LOG_SHM, LOG_ERROR, "segment_lost", LOG_STR("path", seg->path),
			LOG_STR("reason",
				"the file was deleted or replaced; limits go on, rhcctl cannot see them"));
	said = true;
}
