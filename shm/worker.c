#include "shm/worker.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "shm/calm.h"
#include "shm/reap.h"

static void set(_Atomic uint64_t *word, uint64_t value)
{
	atomic_store_explicit(word, value, memory_order_relaxed); /* for display */
}

/* Everything a reader may look at is there before the record says LIVE. */
static void introduce(struct rhc_worker *w, const struct rhc_worker_id *id, uint64_t now_ms)
{
	struct rhc_worker_rec *rec = w->rec;

	set(&rec->pid, id->pid);
	set(&rec->pidns, id->pidns);
	set(&rec->generation, id->generation);
	set(&rec->start_ms, now_ms);
	set(&rec->phase, RHC_PHASE_STARTING);
	set(&rec->conns, 0);
	set(&rec->in_flight, 0);
	set(&rec->loops, 0);
	rhc_segment_say(rec->version, sizeof(rec->version), id->version ? id->version : "");
	atomic_store_explicit(&rec->cfg_gen, 0, memory_order_release);
	atomic_store_explicit(&rec->beat_ms, now_ms, memory_order_release);
	atomic_store(&rec->want_exit, RHC_WANT_NOTHING);
}

int rhc_worker_register(struct rhc_worker *w, struct rhc_segment *seg, uint32_t index,
                        const struct rhc_worker_id *id, uint64_t now_ms, uint64_t *wake)
{
	auto_close int fd = -1;
	struct rhc_reaped reaped = { 0 };
	uint64_t word;
	int rc;

	if (!seg->writable)
		return -EROFS;
	if (index >= seg->hdr.max_workers)
		return -ERANGE;
	fd = rhc_lock_open(seg);
	if (fd < 0)
		return fd;
	rc = rhc_lock_take(fd, RHC_BYTE_WORKER + index);
	if (rc)
		return rc == -EAGAIN ? -EBUSY : rc;
	memset(w, 0, sizeof(*w));
	w->seg = seg;
	w->rec = rhc_seg_worker(seg, index);
	w->index = index;
	w->fenced = rhc_calm_join();
	/*
	 * A predecessor nobody reaped.  Also when its record says FREE: that costs little and
	 * hides nothing.
	 */
	if ((uint32_t)atomic_load(&w->rec->word) != RHC_WORKER_FREE)
		rhc_reap_held(seg, index, RHC_EV_worker_reaped, now_ms, &reaped, wake);
	word = atomic_load(&w->rec->word);
	w->inc = (uint32_t)(word >> 32) + 1;
	introduce(w, id, now_ms);
	RHC_FI("worker.live");
	atomic_store(&w->rec->word, (uint64_t)w->inc << 32 | RHC_WORKER_LIVE);
	rhc_ring_writer_init(&w->ring, seg, index, w->inc);
	rhc_event_put(&w->ring, RHC_EV_worker_start, RHC_NO_UPSTREAM, now_ms,
	              (uint64_t[5]){ id->pid, id->generation });
	w->lock_fd = rhc_take_fd(&fd);
	return 0;
}

void rhc_worker_unregister(struct rhc_worker *w, uint64_t now_ms, uint64_t *wake)
{
	struct rhc_reaped reaped = { 0 };

	/* Our own byte, nothing of us runs beside: leaving is reaping oneself. */
	rhc_reap_held(w->seg, w->index, RHC_EV_worker_stop, now_ms, &reaped, wake);
	rhc_abandon(w);
}

void rhc_abandon(struct rhc_worker *w)
{
	assert(w->lock_fd >= 0);
	close(w->lock_fd);
	w->lock_fd = -1;
	w->rec = NULL;
	w->seg = NULL;
}

void rhc_worker_beat(struct rhc_worker *w, uint64_t now_ms)
{
	w->loops++;
	set(&w->rec->loops, w->loops);
	/* Release: who sees the beat sees what the turn before it did. */
	atomic_store_explicit(&w->rec->beat_ms, now_ms, memory_order_release);
}

void rhc_worker_phase(struct rhc_worker *w, enum rhc_worker_phase phase)
{
	set(&w->rec->phase, phase);
}

void rhc_worker_load(struct rhc_worker *w, uint64_t conns, uint64_t in_flight)
{
	set(&w->rec->conns, conns);
	set(&w->rec->in_flight, in_flight);
}

void rhc_worker_adopt(struct rhc_worker *w, uint64_t cfg_gen)
{
	/* Release: after it, no store of ours goes to a record that cfg_gen no longer has. */
	atomic_store_explicit(&w->rec->cfg_gen, cfg_gen, memory_order_release);
}

enum rhc_want rhc_worker_wanted(const struct rhc_worker *w)
{
	uint64_t want = atomic_load_explicit(&w->rec->want_exit, memory_order_seq_cst);

	return want > RHC_WANT_EXIT ? RHC_WANT_NOTHING : (enum rhc_want)want;
}

void rhc_worker_ask(const struct rhc_segment *seg, uint32_t index, enum rhc_want want)
{
	atomic_store(&rhc_seg_worker(seg, index)->want_exit, (uint64_t)want);
}

enum rhc_alive rhc_worker_alive(const struct rhc_segment *seg, int fd, uint32_t index)
{
	uint64_t word =
		atomic_load_explicit(&rhc_seg_worker(seg, index)->word, memory_order_seq_cst);

	/* Cannot ask = alive: nothing is taken from somebody who may live. */
	if (rhc_lock_held(fd, RHC_BYTE_WORKER + index) != 0)
		return RHC_ALIVE_YES;
	return (uint32_t)word == RHC_WORKER_FREE ? RHC_ALIVE_FREE : RHC_ALIVE_DEAD;
}

int rhc_worker_vacant(const struct rhc_segment *seg, int fd)
{
	for (uint32_t i = 0; i < seg->hdr.max_workers; i++) {
		if (rhc_lock_held(fd, RHC_BYTE_WORKER + i) == 0)
			return (int)i;
	}
	return -EAGAIN;
}

int rhc_reap(struct rhc_segment *seg, int fd, uint32_t index, uint64_t now_ms,
             struct rhc_reaped *ret_reaped, uint64_t *wake)
{
	struct rhc_worker_rec *rec = rhc_seg_worker(seg, index);
	int rc;

	memset(ret_reaped, 0, sizeof(*ret_reaped));
	if ((uint32_t)atomic_load_explicit(&rec->word, memory_order_seq_cst) == RHC_WORKER_FREE)
		return 0; /* the usual answer of a tick, without a system call */
	rc = rhc_lock_take(fd, RHC_BYTE_WORKER + index);
	if (rc)
		return rc == -EAGAIN ? -EBUSY : rc;
	/* Look again under the lock: another reaper may have been first. */
	if ((uint32_t)atomic_load(&rec->word) != RHC_WORKER_FREE)
		rhc_reap_held(seg, index, RHC_EV_worker_reaped, now_ms, ret_reaped, wake);
	return rhc_lock_drop(fd, RHC_BYTE_WORKER + index);
}

uint32_t rhc_reap_all(struct rhc_segment *seg, int fd, uint32_t skip, uint64_t now_ms,
                      struct rhc_reaped *ret_sum, uint64_t *wake)
{
	uint32_t dead = 0;

	memset(ret_sum, 0, sizeof(*ret_sum));
	for (uint32_t i = 0; i < seg->hdr.max_workers; i++) {
		struct rhc_reaped one;

		if (i == skip || rhc_reap(seg, fd, i, now_ms, &one, wake) != 0)
			continue;
		dead += one.record;
		ret_sum->slots += one.slots;
		ret_sum->probes += one.probes;
		ret_sum->waiting += one.waiting;
		ret_sum->record |= one.record;
	}
	return dead;
}
