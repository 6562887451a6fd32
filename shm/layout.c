#include "shm/layout.h"

#include <errno.h>
#include <string.h>

#include "shm/counters.h"

#ifdef RHC_FAULTS
void (*rhc_fault_hook)(const char *name);
#endif

struct field {
	const char *strct, *name;
	size_t offset, size;
};

/* clang-format off */
#define F(s, f) { #s, #f, offsetof(struct s, f), sizeof(((struct s *)0)->f) },
static const struct field fields[] = {
	F(rhc_hdr, magic) F(rhc_hdr, abi_major) F(rhc_hdr, abi_minor) F(rhc_hdr, endian)
	F(rhc_hdr, layout_hash) F(rhc_hdr, total_size) F(rhc_hdr, hdr_size) F(rhc_hdr, page_size)
	F(rhc_hdr, line_size) F(rhc_hdr, max_hosts) F(rhc_hdr, boot_id) F(rhc_hdr, timens_ino) F(rhc_hdr, uuid)
	F(rhc_hdr, mono_base_ns) F(rhc_hdr, wall_base_ns) F(rhc_hdr, max_workers)
	F(rhc_hdr, max_upstreams) F(rhc_hdr, slots_cap) F(rhc_hdr, win_buckets)
	F(rhc_hdr, hist_buckets) F(rhc_hdr, ring_len) F(rhc_hdr, n_uctr) F(rhc_hdr, n_wctr)
	F(rhc_hdr, n_hist) F(rhc_hdr, n_desc) F(rhc_hdr, off_desc) F(rhc_hdr, off_workers)
	F(rhc_hdr, off_up) F(rhc_hdr, off_slots) F(rhc_hdr, off_hints) F(rhc_hdr, off_win)
	F(rhc_hdr, off_ctr) F(rhc_hdr, off_wctr) F(rhc_hdr, off_hist) F(rhc_hdr, off_hosts) F(rhc_hdr, off_ring)
	F(rhc_hdr, crc) F(rhc_hdr, state) F(rhc_hdr, lifecycle) F(rhc_hdr, cfg_gen)
	F(rhc_hdr, cfg_hash) F(rhc_hdr, cfg_ms) F(rhc_hdr, drain) F(rhc_hdr, sup_pid)
	F(rhc_hdr, sup_start_ms) F(rhc_hdr, sup_beat_ms) F(rhc_hdr, host_pub) F(rhc_hdr, host_policy) F(rhc_hdr, version) F(rhc_hdr, engine)
	F(rhc_hdr, preset) F(rhc_hdr, instance)
	F(rhc_desc, name) F(rhc_desc, group) F(rhc_desc, label) F(rhc_desc, kind)
	F(rhc_desc, where) F(rhc_desc, index) F(rhc_desc, base)
	F(rhc_worker_rec, word) F(rhc_worker_rec, beat_ms) F(rhc_worker_rec, loops)
	F(rhc_worker_rec, cfg_gen) F(rhc_worker_rec, phase) F(rhc_worker_rec, conns)
	F(rhc_worker_rec, in_flight) F(rhc_worker_rec, want_exit) F(rhc_worker_rec, restarts)
	F(rhc_worker_rec, last_end) F(rhc_worker_rec, pid) F(rhc_worker_rec, pidns)
	F(rhc_worker_rec, start_ms) F(rhc_worker_rec, generation) F(rhc_worker_rec, version)
	F(rhc_note, seq) F(rhc_note, who) F(rhc_note, when) F(rhc_note, text)
	F(rhc_up, id) F(rhc_up, name_hash) F(rhc_up, name) F(rhc_up, brk) F(rhc_up, ctl)
	F(rhc_up, policy) F(rhc_up, waitmask) F(rhc_up, ticket) F(rhc_up, order) F(rhc_up, permit) F(rhc_up, outage)
	F(rhc_up, trip) F(rhc_up, last_failure) F(rhc_up, limit_ovr) F(rhc_up, retired_gen)
	F(rhc_up, health) F(rhc_up, note) F(rhc_up, head) F(rhc_up, since_ms)
	F(rhc_host, hash) F(rhc_host, since_ms) F(rhc_host, text) F(rhc_host, pin)
	F(rhc_win, rate) F(rhc_win, slow)
	F(rhc_hist, bucket) F(rhc_hist, sum_ns)
	F(rhc_event_rec, seq) F(rhc_event_rec, mono_ns) F(rhc_event_rec, what) F(rhc_event_rec, arg)
	F(rhc_ring, head)
	{ "rhc_hdr", "-", 0, sizeof(struct rhc_hdr) },
	{ "rhc_desc", "-", 0, sizeof(struct rhc_desc) },
	{ "rhc_worker_rec", "-", 0, sizeof(struct rhc_worker_rec) },
	{ "rhc_up", "-", 0, sizeof(struct rhc_up) },
	{ "rhc_host", "-", 0, sizeof(struct rhc_host) },
	{ "rhc_win", "-", 0, sizeof(struct rhc_win) },
	{ "rhc_hist", "-", 0, sizeof(struct rhc_hist) },
	{ "rhc_event_rec", "-", 0, sizeof(struct rhc_event_rec) },
	{ "rhc_ring", "-", 0, sizeof(struct rhc_ring) },
};
#undef F
/* clang-format on */

_Static_assert(sizeof(struct rhc_hdr) <= RHC_HDR_SIZE, "the header is one page");

void rhc_layout_walk(void (*each)(void *arg, const char *strct, const char *field, size_t offset,
                                  size_t size),
                     void *arg)
{
	for (size_t i = 0; i < RHC_COUNT(fields); i++)
		each(arg, fields[i].strct, fields[i].name, fields[i].offset, fields[i].size);
}

static void hash_field(void *arg, const char *strct, const char *field, size_t offset, size_t size)
{
	uint64_t *hash = arg;
	uint64_t numbers[2] = { offset, size };

	/* With the final 0, so that "a","bc" and "ab","c" differ. */
	*hash = rhc_hash(*hash, strct, strlen(strct) + 1);
	*hash = rhc_hash(*hash, field, strlen(field) + 1);
	*hash = rhc_hash(*hash, numbers, sizeof(numbers));
}

/* Same size but other order is caught too: names and offsets are in it, and each counter's name. */
uint64_t rhc_layout_hash(void)
{
	uint64_t hash = RHC_HASH_SEED;

	rhc_layout_walk(hash_field, &hash);
	for (uint32_t i = 0; i < RHC_DESC_COUNT; i++) {
		struct rhc_desc desc;

		rhc_desc_make(i, &desc);
		hash = rhc_hash(hash, desc.name, sizeof(desc.name));
		hash = rhc_hash(hash, &desc.kind, 8);
	}
	return hash;
}

/* Castagnoli polynomial, bit by bit: it runs over 300 bytes once per attach. */
uint32_t rhc_crc32c(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~crc;
}

static uint64_t put(uint64_t *at, uint64_t bytes)
{
	uint64_t here = *at;

	*at = (here + bytes + RHC_LINE - 1) & ~(uint64_t)(RHC_LINE - 1);
	return here;
}

/* Offsets follow from the counts: nothing else may set them. */
static void place(struct rhc_hdr *h)
{
	uint64_t w = h->max_workers, u = h->max_upstreams, at = RHC_HDR_SIZE;

	h->off_desc = put(&at, h->n_desc * sizeof(struct rhc_desc));
	h->off_workers = put(&at, w * sizeof(struct rhc_worker_rec));
	h->off_up = put(&at, u * sizeof(struct rhc_up));
	h->off_slots = put(&at, u * h->slots_cap * 8);
	h->off_hints = put(&at, u * (h->slots_cap / 64) * 8);
	h->off_win = put(&at, u * w * sizeof(struct rhc_win));
	h->off_ctr = put(&at, (w + 2) * u * rhc_ctr_row(h));
	h->off_wctr = put(&at, (w + 1) * rhc_wctr_row(h));
	h->off_hist = put(&at, (w + 1) * u * rhc_hist_row(h));
	h->off_hosts = put(&at, h->max_hosts * sizeof(struct rhc_host));
	h->off_ring = put(&at, (w + 2) * rhc_ring_size(h));
	h->total_size = (at + RHC_HDR_SIZE - 1) & ~(uint64_t)(RHC_HDR_SIZE - 1);
}

static bool power_of_two(uint32_t n, uint32_t low, uint32_t high)
{
	return n >= low && n <= high && (n & (n - 1)) == 0;
}

/* Bounds first: with them no product in place() can overflow. */
static bool counts_valid(const struct rhc_hdr *h)
{
	return h->max_workers >= 1 && h->max_workers <= RHC_WORKERS_MAX && h->max_upstreams >= 1 &&
	       h->max_upstreams <= RHC_UPSTREAMS_MAX && h->max_hosts < h->max_upstreams &&
	       power_of_two(h->slots_cap, 64, RHC_SLOTS_MAX) &&
	       power_of_two(h->ring_len, 16, 1 << 16) && h->win_buckets == RHC_WIN_BUCKETS &&
	       h->hist_buckets == RHC_HIST_BUCKETS && h->n_uctr >= 1 && h->n_uctr <= 4096 &&
	       h->n_wctr >= 1 && h->n_wctr <= 4096 && h->n_hist >= 1 && h->n_hist <= 64 &&
	       h->n_desc <= 16384;
}

static uint32_t cap_for(uint32_t slots)
{
	uint32_t cap = 64;

	while (cap < slots)
		cap *= 2;
	return cap;
}

int rhc_layout_fill(struct rhc_hdr *hdr, const struct rhc_shape *shape)
{
	uint32_t slots = shape->slots ? shape->slots : 1024;

	if (slots > RHC_SLOTS_MAX || shape->hosts > RHC_UPSTREAMS_MAX)
		return -ERANGE;
	memcpy(hdr->magic, RHC_MAGIC, sizeof(hdr->magic));
	hdr->abi_major = RHC_ABI_MAJOR;
	hdr->abi_minor = RHC_ABI_MINOR;
	hdr->endian = RHC_ENDIAN;
	hdr->layout_hash = rhc_layout_hash();
	hdr->hdr_size = RHC_HDR_SIZE;
	hdr->page_size = 4096;
	hdr->line_size = RHC_LINE;
	hdr->max_workers = shape->workers ? shape->workers : 8;
	hdr->max_hosts = shape->hosts;
	hdr->max_upstreams = (shape->upstreams ? shape->upstreams : 32) + shape->hosts;
	hdr->slots_cap = cap_for(slots);
	hdr->win_buckets = RHC_WIN_BUCKETS;
	hdr->hist_buckets = RHC_HIST_BUCKETS;
	hdr->ring_len = shape->ring_len ? shape->ring_len : RHC_RING_LEN;
	hdr->n_uctr = RHC_CTR_COUNT;
	hdr->n_wctr = RHC_WCTR_COUNT;
	hdr->n_hist = RHC_HIST_COUNT;
	hdr->n_desc = RHC_DESC_COUNT;
	if (!counts_valid(hdr))
		return -ERANGE;
	place(hdr);
	return 0;
}

bool rhc_layout_valid(const struct rhc_hdr *hdr)
{
	struct rhc_hdr own;

	if (!counts_valid(hdr) || hdr->hdr_size != RHC_HDR_SIZE || hdr->line_size != RHC_LINE)
		return false;
	memcpy(&own, hdr, sizeof(own));
	place(&own);
	return memcmp(&own, hdr, offsetof(struct rhc_hdr, crc)) == 0;
}
