/*
 * The bulkhead against a plain reference over random histories: a list of holders, one FIFO of all who
 * wait, a limit.  Four handles stand for four workers; they take, wait, give up, die and come back,
 * the limit moves, rhcctl frees slots.  A worker polls only when it was woken, and wake-ups may be
 * late: one that is missing shows as an idle slot, one that is not waited for as a slot out of turn.
 */
#include "fixture.h"

enum { WORKERS = 4, CALLS = 48, STEPS = 120, SEEDS = 4000, SECONDS_MAX = 20 };

struct call {
	enum { CALL_IDLE, CALL_WAITS, CALL_HOLDS } state;
	uint32_t worker;
	bool freed; /* by rhcctl: its own release is late */
	struct rhc_waiter waiter;
	struct rhc_slot slot;
};

static struct rhc_bulkhead b[WORKERS];

static struct model {
	struct call call[CALLS];
	struct call *fifo[CALLS]; /* who waits, oldest first */
	unsigned waiting, in_use;
	uint32_t limit, max_waiting;
	unsigned seed, first_seed, step;
	uint64_t wake;
} m;

TestSuite(bulkhead_model, .init = fx_start, .fini = fx_stop);

#define SAY(cond, what) \
	cr_assert(cond, "seed %u step %u: %s (limit %u, in use %u, waiting %u)", m.first_seed, m.step, \
		  what, m.limit, m.in_use, m.waiting)

static unsigned dice(unsigned sides)
{
	return (unsigned)rand_r(&m.seed) % sides;
}

/* ---- the reference ---- */

static void dequeue(struct call *c)
{
	unsigned at = 0;

	while (m.fifo[at] != c)
		at++;
	m.waiting--;
	memmove(&m.fifo[at], &m.fifo[at + 1], (m.waiting - at) * sizeof(m.fifo[0]));
}

static void forget(struct call *c)
{
	if (c->state == CALL_WAITS)
		dequeue(c);
	if (c->state == CALL_HOLDS && !c->freed)
		m.in_use--;
	memset(c, 0, sizeof(*c));
}

static void holds(struct call *c, const struct rhc_slot *slot)
{
	c->state = CALL_HOLDS;
	c->slot = *slot;
	c->freed = false;
	m.in_use++;
	SAY(m.in_use <= m.limit, "admitted above the limit");
}

/* ---- one step ---- */

static void ask(struct call *c, uint32_t worker)
{
	bool free = m.in_use < m.limit && m.waiting == 0;
	enum rhc_take took;
	struct rhc_slot slot;

	c->worker = worker;
	took = rhc_bulkhead_try(&b[worker], fx.now, &slot, &m.wake);
	if (took == RHC_TAKE_FULL) /* as does a try while it drains, whatever is free */
		took = rhc_bulkhead_wait(&b[worker], &c->waiter, fx.now, &slot, &m.wake);
	SAY((took == RHC_TAKE_GOT) == free, "a slot was refused, or taken out of turn");
	if (took == RHC_TAKE_GOT) {
		holds(c, &slot);
	} else if (m.max_waiting && m.waiting == m.max_waiting) {
		SAY(took == RHC_TAKE_QUEUE_FULL, "the queue has no bound");
	} else {
		SAY(took == RHC_TAKE_WAITING, "the queue is refused");
		c->state = CALL_WAITS;
		m.fifo[m.waiting++] = c;
	}
}

static void end(struct call *c)
{
	if (c->state == CALL_WAITS)
		rhc_bulkhead_cancel(&b[c->worker], &c->waiter, fx.now, &m.wake);
	else
		rhc_bulkhead_release(&b[c->worker], &c->slot, fx.now, &m.wake);
	forget(c);
}

static void crash(uint32_t worker)
{
	struct rhc_reaped reaped;

	rhc_abandon(&fx.w[worker]);
	if (dice(2)) /* otherwise its successor cleans up */
		cr_assert_eq(rhc_reap(&fx.seg, fx.lock_fd, worker, fx.now, &reaped, &m.wake), 0);
	fx.wake = 0;
	rhc_bulkhead_init(&b[worker], fx_worker(worker), fx.up);
	m.wake |= fx.wake;
	for (unsigned i = 0; i < CALLS; i++)
		if (m.call[i].state != CALL_IDLE && m.call[i].worker == worker)
			forget(&m.call[i]);
}

static void set_limit(uint32_t limit)
{
	struct rhc_policy policy = fx_policy;

	policy.limit = m.limit = limit;
	policy.max_waiting = m.max_waiting;
	fx.wake = 0;
	fx_declare(&policy);
	m.wake |= fx.wake;
}

static void free_by_hand(struct call *c)
{
	struct rhc_change change;
	struct rhc_admin a;

	if (c->state != CALL_HOLDS || c->freed)
		return;
	cr_assert_eq(rhc_admin_begin(&a, &fx.seg, 0, 1), 0);
	while (rhc_admin_free_slot(&a, fx.up, c->slot.index, true, "x", fx.now, &change) == -EAGAIN)
		rhc_worker_beat(&fx.w[c->worker], fx.now);
	cr_assert(change.changed);
	m.wake |= a.wake;
	rhc_admin_end(&a);
	c->freed = true;
	m.in_use--;
}

static void turn(void)
{
	struct call *c = &m.call[dice(CALLS)];

	switch (dice(40)) {
	case 0:
		crash(dice(WORKERS));
		break;
	case 1:
		set_limit(dice(7) + 1);
		break;
	case 2:
		free_by_hand(c);
		break;
	case 3:
	case 4:
		rhc_bulkhead_calm(&b[dice(WORKERS)]);
		break;
	default:
		if (c->state != CALL_IDLE)
			end(c);
		else if (dice(3))
			ask(c, dice(WORKERS));
	}
}

/* ---- wake-ups ---- */

static bool poll_once(uint32_t worker)
{
	struct rhc_slot slot;
	struct rhc_waiter *w = rhc_bulkhead_poll(&b[worker], fx.now, &slot, &m.wake);

	if (w == NULL)
		return false;
	SAY(m.waiting > 0 && w == &m.fifo[0]->waiter, "not the oldest was served");
	dequeue(m.fifo[0]);
	holds((struct call *)(void *)((char *)w - offsetof(struct call, waiter)), &slot);
	return true;
}

static void deliver(void)
{
	for (unsigned rounds = 0; m.wake; rounds++) {
		uint32_t worker = (uint32_t)__builtin_ctzll(m.wake);

		SAY(rounds < 200, "wake-ups never end");
		m.wake &= m.wake - 1;
		while (poll_once(worker))
			;
	}
}

static void verify(void)
{
	SAY(rhc_bulkhead_in_use(&fx.seg, fx.up) == m.in_use, "in use differs");
	SAY(rhc_bulkhead_waiting(&fx.seg, fx.up) == m.waiting, "waiting differs");
}

static void history(unsigned seed)
{
	memset(&m, 0, sizeof(m));
	m.seed = m.first_seed = seed;
	m.max_waiting = seed % 3 == 0 ? 3 : 0;
	atomic_store(&rhc_seg_up(&fx.seg, fx.up)->order, 0); /* it may be pinned */
	set_limit(dice(7) + 1);
	for (m.step = 0; m.step < STEPS; m.step++) {
		fx.now++;
		for (uint32_t i = 0; i < WORKERS; i++)
			rhc_worker_beat(&fx.w[i], fx.now); /* none is passed over as stalled */
		turn();
		if (dice(3)) {
			deliver();
			SAY(m.in_use >= m.limit || m.waiting == 0, "a slot idles while somebody waits");
		}
		verify();
	}
	while (m.waiting)
		end(m.fifo[m.waiting - 1]);
	for (unsigned i = 0; i < CALLS; i++)
		if (m.call[i].state == CALL_HOLDS)
			end(&m.call[i]);
	fx_assert_quiet();
}

Test(bulkhead_model, does_what_a_plain_reference_does_over_random_histories, .timeout = 60)
{
	uint64_t end_ms = fx_clock_ms() + SECONDS_MAX * 1000;
	unsigned seed = 0;

	for (uint32_t i = 0; i < WORKERS; i++)
		rhc_bulkhead_init(&b[i], fx_worker(i), fx.up);
	while (++seed <= SEEDS && fx_clock_ms() < end_ms)
		history(seed);
	cr_assert_gt(seed, 100, "too slow to say anything");
}
