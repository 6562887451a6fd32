/* A worker without network: calls that ask the breaker, wait for a slot, hold it for a while and report. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/breaker.h"
#include "shm/bulkhead.h"
#include "tests/storm/hammer.h"

enum call_state { CALL_IDLE, CALL_WAITING, CALL_HOLDING };

struct call {
	enum call_state state;
	struct rhc_waiter waiter;
	struct rhc_slot slot;
	struct rhc_permit permit;
	uint64_t slot_token, probe_token;
	uint64_t next_ms; /* of the next step: idle until, hold until, give up at */
	bool patient;
};

struct hammering {
	struct hammer *h;
	struct rhc_worker w;
	struct rhc_bulkhead b;
	struct rhc_breaker_ref brk;
	struct call call[HAMMER_CALLS];
	uint64_t life, now, wake, reap_at, tokens;
	uint64_t ctl; /* of the upstream, when this turn began */
	int reap_fd;
	unsigned random;
};

static unsigned dice(struct hammering *x, unsigned below)
{
	return hammer_random(&x->random, below);
}

/* ---- the witness ---- */

static bool is_dead(const struct hammer *h, uint64_t life, uint64_t owner)
{
	return owner >= 1 && owner <= HAMMER_WORKERS && h->seen->dead_life[owner - 1] >= life;
}

static uint64_t slot_token(struct hammering *x)
{
	return (++x->tokens & 0xffffff) << 40 | (x->life & 0xffffffff) << 8 | (x->w.index + 1);
}

static bool holder_is_dead(const struct hammer *h, uint64_t token)
{
	return is_dead(h, token >> 8 & 0xffffffff, token & 0xff);
}

/* Tokens never come twice, so two equal looks mean that all of these held a slot at once.  0: no such moment seen. */
static unsigned holders_at_once(const struct hammer *h)
{
	uint64_t first[HAMMER_CAP];
	unsigned n = 0;

	for (unsigned i = 0; i < HAMMER_CAP; i++)
		first[i] = h->seen->slot[i];
	for (unsigned i = 0; i < HAMMER_CAP; i++) {
		if (h->seen->slot[i] != first[i])
			return 0;
		n += first[i] && !holder_is_dead(h, first[i]);
	}
	return n;
}

static uint64_t ctl_now(const struct hammering *x)
{
	return rhc_seg_up(&x->h->seg, x->h->upstream)->ctl;
}

/*
 * We were admitted under the value that ctl had since this turn began: then no more than its limit held a slot, we among
 * them, and until it changes nobody else is admitted beyond it, also while it drains.
 */
static void witness_count(struct hammering *x)
{
	unsigned living = holders_at_once(x->h);

	if (ctl_now(x) == x->ctl && living > RHC_CTL_LIMIT(x->ctl))
		hammer_fail(x->h, "%u calls hold a slot at once, the limit is %u", living, RHC_CTL_LIMIT(x->ctl));
}

static void witness_slot(struct hammering *x, struct call *c)
{
	uint64_t old;

	if (c->slot.index >= HAMMER_CAP) {
		hammer_fail(x->h, "slot %u was given out, there are %d", c->slot.index, HAMMER_CAP);
		return;
	}
	c->slot_token = slot_token(x);
	old = atomic_exchange(&x->h->seen->slot[c->slot.index], c->slot_token);
	if (old && !holder_is_dead(x->h, old))
		hammer_fail(x->h, "slot %u is held twice: by worker %u and by worker %u", c->slot.index,
		            (unsigned)(old & 0xff) - 1, x->w.index);
	witness_count(x);
	x->h->seen->last_got_ms = x->now;
	atomic_fetch_add(&x->h->seen->got[x->w.index], 1);
}

static void unwitness_slot(struct hammering *x, struct call *c)
{
	uint64_t mine = c->slot_token;

	if (!atomic_compare_exchange_strong(&x->h->seen->slot[c->slot.index], &mine, 0))
		hammer_fail(x->h, "slot %u of worker %u was taken by worker %u while it was held", c->slot.index, x->w.index,
		            (unsigned)(mine & 0xff) - 1);
}

static uint64_t probe_token(const struct hammering *x)
{
	return (x->now & 0xffffffff) << 32 | (x->life & 0xffffff) << 8 | (x->w.index + 1);
}

/* 256 ms is the unit of a lease. */
static bool lease_is_over(uint64_t token)
{
	return (uint32_t)hammer_now_ms() - (uint32_t)(token >> 32) + 2 >= HAMMER_LEASE_MS;
}

static void witness_probe(struct hammering *x, struct call *c)
{
	uint64_t old;

	c->probe_token = probe_token(x);
	old = atomic_exchange(&x->h->seen->probe[c->permit.slot], c->probe_token);
	if (old && !is_dead(x->h, old >> 8 & 0xffffff, old & 0xff) && !lease_is_over(old))
		hammer_fail(x->h, "probe permit %u is held twice: by worker %u and by worker %u", c->permit.slot,
		            (unsigned)(old & 0xff) - 1, x->w.index);
	atomic_fetch_add(&x->h->seen->probes[x->w.index], 1);
}

static void unwitness_probe(struct hammering *x, struct call *c)
{
	uint64_t mine = c->probe_token, found = mine;

	if (!mine)
		return;
	c->probe_token = 0;
	/* Stolen is fine, but only after its lease. */
	if (!atomic_compare_exchange_strong(&x->h->seen->probe[c->permit.slot], &found, 0) && !lease_is_over(mine))
		hammer_fail(x->h, "probe permit %u of worker %u was taken by worker %u before its lease ended",
		            c->permit.slot, x->w.index, (unsigned)(found & 0xff) - 1);
}

/* ---- a call ---- */

static void report(struct hammering *x, struct call *c, enum rhc_outcome outcome)
{
	unwitness_probe(x, c);
	rhc_breaker_record(&x->brk, &c->permit, outcome, RHC_ERR_connect_refused, x->now);
}

static void rest(struct hammering *x, struct call *c)
{
	c->state = CALL_IDLE;
	c->next_ms = x->now + (dice(x, 4) ? 0 : dice(x, 3));
}

static void release(struct hammering *x, struct call *c)
{
	unwitness_slot(x, c);
	rhc_bulkhead_release(&x->b, &c->slot, x->now, &x->wake);
}

/* A slot was got: ask again, then hold it. */
static void hold(struct hammering *x, struct call *c)
{
	struct rhc_refused refused;
	enum rhc_admit again;

	witness_slot(x, c);
	unwitness_probe(x, c);
	again = rhc_breaker_readmit(&x->brk, x->now, &c->permit, &refused);
	if (again == RHC_ADMIT_REFUSE) {
		release(x, c);
		rest(x, c);
		return;
	}
	if (again == RHC_ADMIT_PROBE)
		witness_probe(x, c);
	c->state = CALL_HOLDING;
	c->next_ms = x->now + (dice(x, 8) == 0 ? dice(x, 8) : dice(x, 4) ? 0 : 1);
}

static void queue(struct hammering *x, struct call *c)
{
	memset(&c->waiter, 0, sizeof(c->waiter));
	switch (rhc_bulkhead_wait(&x->b, &c->waiter, x->now, &c->slot, &x->wake)) {
	case RHC_TAKE_GOT:
		hold(x, c);
		return;
	case RHC_TAKE_WAITING:
		c->state = CALL_WAITING;
		c->patient = dice(x, 5) != 0;
		c->next_ms = x->now + (c->patient ? HAMMER_PATIENT_MS : 1 + dice(x, 20));
		return;
	default:
		report(x, c, RHC_OUTCOME_NONE);
		rest(x, c);
		return;
	}
}

static void begin(struct hammering *x, struct call *c)
{
	struct rhc_refused refused;

	if (x->h->seen->stop)
		return;
	switch (rhc_breaker_admit(&x->brk, x->now, &c->permit, &refused)) {
	case RHC_ADMIT_REFUSE:
		atomic_fetch_add(&x->h->seen->refused[x->w.index], 1);
		rest(x, c);
		return;
	case RHC_ADMIT_PROBE:
		witness_probe(x, c);
		break;
	case RHC_ADMIT_PASS:
		break;
	}
	if (rhc_bulkhead_try(&x->b, x->now, &c->slot, &x->wake) == RHC_TAKE_GOT)
		hold(x, c);
	else
		queue(x, c);
}

static void give_up(struct hammering *x, struct call *c)
{
	rhc_bulkhead_cancel(&x->b, &c->waiter, x->now, &x->wake);
	report(x, c, RHC_OUTCOME_NONE);
	atomic_fetch_add(&x->h->seen->gave_up[x->w.index], 1);
	if (c->patient && x->h->seen->phase.flowing)
		hammer_fail(x->h, "a call of worker %u waited %d ms in vain", x->w.index, HAMMER_PATIENT_MS);
	rest(x, c);
}

static void finish(struct hammering *x, struct call *c)
{
	bool fails = dice(x, 100) < x->h->seen->phase.fail_percent;

	report(x, c, fails ? RHC_OUTCOME_FAIL : dice(x, 20) ? RHC_OUTCOME_OK : RHC_OUTCOME_NONE);
	release(x, c);
	rest(x, c);
}

static void served(struct hammering *x, struct call *c)
{
	uint64_t took = x->now - c->waiter.since_ms, longest = x->h->seen->longest_wait_ms;

	while (took > longest && !atomic_compare_exchange_weak(&x->h->seen->longest_wait_ms, &longest, took))
		;
	atomic_fetch_add(&x->h->seen->waited[x->w.index], 1);
	hold(x, c);
}

/* ---- the loop ---- */

static void serve_waiters(struct hammering *x)
{
	struct rhc_slot slot;
	struct rhc_waiter *waiter;

	while ((waiter = rhc_bulkhead_poll(&x->b, x->now, &slot, &x->wake)) != NULL) {
		struct call *c = (struct call *)(void *)((char *)waiter - offsetof(struct call, waiter));

		c->slot = slot;
		served(x, c);
	}
}

static void step(struct hammering *x, struct call *c)
{
	if (c->next_ms > x->now)
		return;
	switch (c->state) {
	case CALL_IDLE:
		begin(x, c);
		return;
	case CALL_WAITING:
		give_up(x, c);
		return;
	case CALL_HOLDING:
		finish(x, c);
		return;
	}
}

static bool busy(const struct hammering *x)
{
	for (unsigned i = 0; i < HAMMER_CALLS; i++) {
		if (x->call[i].state != CALL_IDLE)
			return true;
	}
	return false;
}

static void tick(struct hammering *x)
{
	struct rhc_reaped sum;

	if (x->now < x->reap_at)
		return;
	x->reap_at = x->now + HAMMER_REAP_MS;
	rhc_reap_all(&x->h->seg, x->reap_fd, x->w.index, x->now, &sum, &x->wake);
	rhc_breaker_tick(&x->brk, x->now);
	rhc_bulkhead_reconcile(&x->h->seg, x->h->upstream, x->now, &x->w.ring, &x->wake);
	rhc_bulkhead_calm(&x->b);
}

static void turn(struct hammering *x)
{
	struct pollfd woken = { .fd = x->h->wake_fds[x->w.index], .events = POLLIN };
	uint64_t drained;

	x->now = hammer_now_ms();
	x->ctl = ctl_now(x);
	rhc_worker_beat(&x->w, x->now);
	serve_waiters(x);
	for (unsigned i = 0; i < HAMMER_CALLS; i++)
		step(x, &x->call[i]);
	tick(x);
	/* Our own bit means: look again before sleeping. */
	if (x->wake >> x->w.index & 1)
		serve_waiters(x);
	hammer_wake(x->h, x->wake & ~(UINT64_C(1) << x->w.index));
	x->wake = 0;
	/* Mostly without sleeping: races need processes that run at once, and are switched anywhere. */
	if (poll(&woken, 1, dice(x, 8) == 0) == 1 && read(woken.fd, &drained, sizeof(drained)) < 0)
		hammer_fail(x->h, "eventfd of worker %u cannot be read", x->w.index);
}

/* A peer may be cleaning up after our predecessor just now, and may itself be stopped in it. */
static int be_registered(struct hammering *x, uint32_t index)
{
	struct rhc_worker_id id = { .pid = (uint64_t)getpid(), .version = "storm" };
	uint64_t until = hammer_now_ms() + HAMMER_PATIENT_MS;
	int rc;

	while ((rc = rhc_worker_register(&x->w, &x->h->seg, index, &id, hammer_now_ms(), &x->wake)) == -EBUSY &&
	       hammer_now_ms() < until)
		usleep(500);
	return rc;
}

_Noreturn void hammer_worker(struct hammer *h, uint32_t index, uint64_t life)
{
	static struct hammering hammering;
	struct hammering *x = &hammering;
	int rc;

	x->h = h;
	x->life = life;
	x->random = h->seed ^ (unsigned)life * 2654435761u ^ index;
	x->now = hammer_now_ms();
	rhc_segment_forked(&h->seg);
	rc = be_registered(x, index);
	x->reap_fd = rhc_lock_open(&h->seg);
	if (rc != 0 || x->reap_fd < 0) {
		hammer_fail(h, "worker %u cannot register: %s", index, strerror(rc ? -rc : -x->reap_fd));
		_exit(1);
	}
	rhc_bulkhead_init(&x->b, &x->w, h->upstream);
	rhc_breaker_init(&x->brk, &x->w, h->upstream);
	while (!h->seen->failed && !(h->seen->stop && !busy(x)))
		turn(x);
	rhc_worker_unregister(&x->w, hammer_now_ms(), &x->wake);
	hammer_wake(h, x->wake);
	_exit(h->seen->failed ? 1 : 0);
}
