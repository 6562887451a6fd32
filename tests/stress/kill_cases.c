/* One case per public operation that stores into the segment. */
#include "kill.h"

#include <stdlib.h>
#include <string.h>

static uint64_t ignored;

static void must(bool ok)
{
	if (!ok)
		abort();
}

void k_register(struct world *w)
{
	struct rhc_worker_id id = { .pid = 1 };

	must(rhc_worker_register(&w->w[1], &w->seg, K_VICTIM, &id, w->now, &ignored) == 0);
	rhc_bulkhead_init(&w->b[1], &w->w[1], w->up);
	rhc_breaker_init(&w->brk[1], &w->w[1], w->up);
}

/* ---- bulkhead ---- */

static void take(struct world *w, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		must(rhc_bulkhead_try(&w->b[0], w->now, &w->slot[i], &ignored) == RHC_TAKE_GOT);
}

static void take_one(struct world *w)
{
	take(w, 1);
}

static void take_all(struct world *w)
{
	take(w, K_LIMIT);
}

static void queue(struct world *w, unsigned i)
{
	struct rhc_slot got;

	must(rhc_bulkhead_wait(&w->b[i], &w->waiter[i], w->now, &got, &ignored) ==
	     RHC_TAKE_WAITING);
	w->waits[i] = true;
}

static void take_all_and_one_waits(struct world *w)
{
	take_all(w);
	queue(w, 2);
}

static void give_one(struct world *w)
{
	rhc_bulkhead_release(&w->b[0], &w->slot[0], w->now, &ignored);
}

/* Slots are given back by plain stores until somebody looks. */
static void calm(struct world *w)
{
	const struct rhc_up *up = rhc_seg_up(&w->seg, w->up);

	rhc_bulkhead_calm(&w->b[0]);
	rhc_bulkhead_calm(&w->b[0]);
	must(!w->w[0].fenced || RHC_ORDER_MODE(atomic_load(&up->order)) == RHC_ORDER_CALM);
}

static void calm_and_one_taken(struct world *w)
{
	take(w, 1);
	calm(w);
}

static void calm_and_all_taken(struct world *w)
{
	take(w, K_LIMIT);
	calm(w);
}

static void acquire_release(struct world *w)
{
	if (rhc_bulkhead_try(&w->b[1], w->now, &w->got, &ignored) == RHC_TAKE_GOT)
		rhc_bulkhead_release(&w->b[1], &w->got, w->now, &ignored);
}

static void begin_with_slot(struct world *w)
{
	k_register(w);
	must(rhc_bulkhead_try(&w->b[1], w->now, &w->got, &ignored) == RHC_TAKE_GOT);
}

static void release(struct world *w)
{
	rhc_bulkhead_release(&w->b[1], &w->got, w->now, &ignored);
}

/* Worker 0 holds one, the victim the other, worker 2 waits. */
static void wait_behind_victim(struct world *w)
{
	queue(w, 2);
}

/* Its tick, with a slot in hand: the calm begins, and it gives the slot back in it. */
static void calm_and_release(struct world *w)
{
	rhc_bulkhead_calm(&w->b[1]);
	rhc_bulkhead_calm(&w->b[1]);
	release(w);
}

static void wait_and_cancel(struct world *w)
{
	if (rhc_bulkhead_wait(&w->b[1], &w->my_waiter, w->now, &w->got, &ignored) ==
	    RHC_TAKE_WAITING)
		rhc_bulkhead_cancel(&w->b[1], &w->my_waiter, w->now, &ignored);
	else
		rhc_bulkhead_release(&w->b[1], &w->got, w->now, &ignored);
}

static void begin_waiting(struct world *w)
{
	k_register(w);
	must(rhc_bulkhead_wait(&w->b[1], &w->my_waiter, w->now, &w->got, &ignored) ==
	     RHC_TAKE_WAITING);
}

static void poll_release(struct world *w)
{
	if (rhc_bulkhead_poll(&w->b[1], w->now, &w->got, &ignored))
		rhc_bulkhead_release(&w->b[1], &w->got, w->now, &ignored);
}

static void set_limit(struct world *w, uint32_t limit)
{
	struct rhc_up *up = rhc_seg_up(&w->seg, w->up);
	struct rhc_policy policy;

	rhc_policy_load(up, &policy);
	policy.limit = limit;
	rhc_policy_store(up, &policy);
	rhc_bulkhead_reconcile(&w->seg, w->up, w->now, NULL, &ignored);
}

/* Four held, then the limit becomes 2 again: the bulkhead drains. */
static void draining(struct world *w)
{
	set_limit(w, 4);
	take(w, 4);
	set_limit(w, K_LIMIT);
}

static void give_two_low(struct world *w)
{
	for (unsigned n = 0, i = 0; i < 4 && n < 2; i++) {
		if (w->slot[i].index < 2) {
			rhc_bulkhead_release(&w->b[0], &w->slot[i], w->now, &ignored);
			n++;
		}
	}
}

static void draining_above(struct world *w)
{
	set_limit(w, 3);
	take(w, 2);
}

static void begin_above(struct world *w)
{
	begin_with_slot(w);
	set_limit(w, K_LIMIT);
}

static void change_limits(struct world *w)
{
	set_limit(w, 5);
	set_limit(w, K_LIMIT);
}

/* ---- breaker ---- */

static void fail(struct world *w, unsigned by, unsigned n)
{
	struct rhc_permit p;
	struct rhc_refused r;

	for (unsigned i = 0; i < n; i++) {
		if (rhc_breaker_admit(&w->brk[by], w->now, &p, &r) != RHC_ADMIT_REFUSE)
			rhc_breaker_record(&w->brk[by], &p, RHC_OUTCOME_FAIL,
					   RHC_ERR_connect_refused, w->now);
	}
}

static void two_failures(struct world *w)
{
	fail(w, 0, 2);
}

static void third_failure(struct world *w)
{
	fail(w, 1, 1);
}

static void open_and_due(struct world *w)
{
	fail(w, 0, 3);
	w->now += 1000;
}

static void probe(struct world *w, enum rhc_outcome outcome)
{
	struct rhc_refused r;

	if (rhc_breaker_admit(&w->brk[1], w->now, &w->mine, &r) == RHC_ADMIT_REFUSE)
		return;
	if (rhc_breaker_readmit(&w->brk[1], w->now + 300, &w->mine, &r) != RHC_ADMIT_REFUSE)
		rhc_breaker_record(&w->brk[1], &w->mine, outcome, RHC_ERR_read_timeout,
				   w->now + 400);
}

static void probe_ok(struct world *w)
{
	probe(w, RHC_OUTCOME_OK);
}

static void probe_fail(struct world *w)
{
	probe(w, RHC_OUTCOME_FAIL);
}

static void probe_none(struct world *w)
{
	probe(w, RHC_OUTCOME_NONE);
}

static void lease_over(struct world *w)
{
	struct rhc_refused r;

	open_and_due(w);
	must(rhc_breaker_admit(&w->brk[0], w->now, &w->permit[0], &r) == RHC_ADMIT_PROBE);
	w->now += 6000;
}

static void window_on(struct world *w)
{
	struct rhc_up *up = rhc_seg_up(&w->seg, w->up);
	struct rhc_policy policy;

	rhc_policy_load(up, &policy);
	policy.window_ms = 16000;
	policy.min_calls = 2;
	policy.failure_permille = 500;
	rhc_policy_store(up, &policy);
	fail(w, 0, 1);
}

static const char *breaker_is_whole(struct world *w)
{
	struct rhc_permit p;
	struct rhc_refused r;
	enum rhc_admit a;
	bool bad;

	rhc_breaker_unpack(atomic_load(&rhc_seg_up(&w->seg, w->up)->brk), &bad);
	if (bad)
		return "breaker word cannot be";
	rhc_breaker_record(&w->brk[0], &w->permit[0], RHC_OUTCOME_NONE, 0, w->now);
	w->now += 10000;
	a = rhc_breaker_admit(&w->brk[2], w->now, &p, &r);
	if (a == RHC_ADMIT_REFUSE)
		return "nobody is admitted after recovery_timeout: half-open for ever";
	rhc_breaker_record(&w->brk[2], &p, RHC_OUTCOME_OK, 0, w->now);
	if (rhc_breaker_peek(rhc_seg_up(&w->seg, w->up)) != RHC_BRK_CLOSED)
		return "a good probe does not close";
	return NULL;
}

/* ---- workers, events, changes by hand, upstreams ---- */

static void nothing(struct world *w)
{
	(void)w;
}

static void register_hold_leave(struct world *w)
{
	k_register(w);
	if (rhc_bulkhead_try(&w->b[1], w->now, &w->got, &ignored) != RHC_TAKE_GOT)
		return;
	rhc_worker_unregister(&w->w[1], w->now, &ignored);
}

static void write_event(struct world *w)
{
	rhc_event_put(&w->w[1].ring, RHC_EV_retry, w->up, w->now, (uint64_t[5]){ 1, 2, 3, 4, 5 });
	rhc_event_text(&w->w[1].ring, "reason", w->now);
}

static const char *events_are_readable(struct world *w)
{
	struct rhc_view_cursor cursor;
	struct rhc_event ev;
	char text[RHC_REASON_MAX + 1];

	rhc_view_events_begin(&w->seg, false, &cursor);
	while (rhc_view_events_next(&w->seg, &cursor, &ev, text)) {
		if (ev.type == RHC_EV_retry && (ev.arg[0] != 1 || ev.arg[4] != 5))
			return "a torn event reads as whole";
	}
	return cursor.invalid > 1 ? "more than one void event" : NULL;
}

static void begin_admin(struct world *w)
{
	must(rhc_admin_begin(&w->admin, &w->seg, 1, 2) == 0);
}

static void isolate_and_reset(struct world *w)
{
	rhc_admin_breaker(&w->admin, w->up, RHC_VERB_ISOLATE, 0, "x", w->now, &w->change);
	rhc_admin_breaker(&w->admin, w->up, RHC_VERB_CLOSE, 0, "x", w->now, &w->change);
}

static void override_and_clear(struct world *w)
{
	rhc_admin_limit(&w->admin, w->up, 5, 0, "x", w->now, &w->change);
	rhc_admin_limit_clear(&w->admin, w->up, "x", w->now, &w->change);
}

static void free_slot(struct world *w)
{
	rhc_admin_free_slot(&w->admin, w->up, w->slot[0].index, true, "x", w->now, &w->change);
}

/* The first answer is "ask again": its owner, the parent, has gone on meanwhile. */
static void free_slot_in_calm(struct world *w)
{
	free_slot(w);
	rhc_worker_beat(&w->w[0], w->now);
	rhc_worker_beat(&w->w[0], w->now);
	free_slot(w);
}

/* The next rhcctl can do what the killed one did, and undo it. */
static const char *admin_goes_on(struct world *w)
{
	struct rhc_admin a;
	const char *wrong = NULL;

	if (rhc_admin_begin(&a, &w->seg, 1, 2) != 0)
		return "ADMIN is still held";
	if (rhc_admin_breaker(&a, w->up, RHC_VERB_CLOSE, 0, "", w->now, &w->change) != 0 ||
	    rhc_admin_limit_clear(&a, w->up, "", w->now, &w->change) != 0)
		wrong = "the next rhcctl cannot change it";
	rhc_admin_end(&a);
	return wrong;
}

static void declare_and_retire(struct world *w)
{
	struct rhc_policy policy = { .limit = 3, .failure_threshold = 5 };
	uint32_t u;

	if (rhc_upstream_declare(&w->seg, "second", &policy, w->now, &u, &ignored) == 0)
		rhc_upstream_retire(&w->seg, u, rhc_config_publish(&w->seg, 1, w->now));
}

static const char *upstreams_go_on(struct world *w)
{
	struct rhc_policy policy = { .limit = 3, .failure_threshold = 5 };
	uint32_t u;
	int rc = rhc_upstream_declare(&w->seg, "second", &policy, w->now, &u, &ignored);

	/* -ENOSPC: retired, and the living workers have not heard of it yet */
	if (rc != 0 && rhc_upstream_find(&w->seg, "second") >= 0)
		return "an upstream is half made";
	if (rc == 0 && RHC_CTL_LIMIT(atomic_load(&rhc_seg_up(&w->seg, u)->ctl)) != 3)
		return "its limit is wrong";
	return rhc_upstream_find(&w->seg, "first") == (int)w->up ? NULL : "another upstream was hit";
}

/* ---- hosts ---- */

#define K_TTL 5000

/* Claims, fails as often as wished, and lets it rest. */
static struct rhc_host_use claim(struct world *w, unsigned by, const char *text, unsigned failures)
{
	struct rhc_host_wish wish = { text, text, K_TTL };
	struct rhc_host_use use;
	struct rhc_breaker_ref brk;
	struct rhc_permit p;
	struct rhc_refused r;
	bool made;

	must(rhc_host_claim(&w->w[by], &wish, w->now, &use, &made, &ignored) == 0);
	rhc_breaker_init(&brk, &w->w[by], use.upstream);
	for (unsigned i = 0; i < failures; i++) {
		must(rhc_breaker_admit(&brk, w->now, &p, &r) == RHC_ADMIT_PASS);
		rhc_breaker_record(&brk, &p, RHC_OUTCOME_FAIL, RHC_ERR_connect_refused, w->now);
	}
	return use;
}

static void rest(struct world *w, unsigned by, struct rhc_host_use use)
{
	rhc_host_unpin(&w->w[by], &use, w->now);
}

static void one_host(struct world *w)
{
	rest(w, 0, claim(w, 0, "mine:80", 2));
}

static void two_hosts(struct world *w)
{
	rest(w, 0, claim(w, 0, "old:80", 0));
	w->now += 10;
	rest(w, 2, claim(w, 2, "young:80", 0));
	w->now += 10;
}

/* One is used, one has failed: neither may give way. */
static void two_busy_hosts(struct world *w)
{
	claim(w, 0, "used:80", 0);
	rest(w, 2, claim(w, 2, "failed:80", 1));
}

/* A call to a host: claim, count, slot, verdict, rest. */
static void call_host(struct world *w)
{
	struct rhc_host_wish wish = { "mine:80", "mine:80", K_TTL };
	struct rhc_host_use use;
	struct rhc_bulkhead b;
	bool made;

	if (rhc_host_claim(&w->w[1], &wish, w->now, &use, &made, &ignored) != 0)
		return;
	rhc_bulkhead_init(&b, &w->w[1], use.upstream);
	rhc_ctr_inc(rhc_seg_ctr(&w->seg, 1, use.upstream), RHC_CTR_req_started);
	if (rhc_bulkhead_try(&b, w->now, &w->got, &ignored) == RHC_TAKE_GOT)
		rhc_bulkhead_release(&b, &w->got, w->now, &ignored);
	rhc_ctr_inc(rhc_seg_ctr(&w->seg, 1, use.upstream), RHC_CTR_req_finished);
	rhc_host_unpin(&w->w[1], &use, w->now);
}

static void tick_hosts(struct world *w)
{
	rhc_host_tick(&w->w[1], w->now, &ignored);
}

static const char *record_is_whole(struct world *w, const struct rhc_host_use *use, unsigned failures)
{
	struct rhc_up *up = rhc_seg_up(&w->seg, use->upstream);
	struct rhc_breaker b = rhc_breaker_unpack(atomic_load(&up->brk), NULL);
	struct rhc_slot slot[K_LIMIT + 1];
	uint64_t row[RHC_CTR_COUNT];
	struct rhc_bulkhead bh;
	unsigned n = 0;

	if (b.state != RHC_BRK_CLOSED || b.failures != failures)
		return "a host's failures are not what they were";
	rhc_view_counters(&w->seg, use->upstream, false, row, RHC_CTR_COUNT);
	for (unsigned i = 0; i + 1 < RHC_CTR_NAMED; i++) {
		if (rhc_uctr_kind(i) == RHC_KIND_OPENED && row[i] != row[i + 1])
			return "a gauge of a host is not 0";
	}
	rhc_bulkhead_init(&bh, &w->w[0], use->upstream);
	while (n <= K_LIMIT && rhc_bulkhead_try(&bh, w->now, &slot[n], &ignored) == RHC_TAKE_GOT)
		n++;
	for (unsigned i = 0; i < n; i++)
		rhc_bulkhead_release(&bh, &slot[i], w->now, &ignored);
	return n == K_LIMIT ? NULL : "slots of a host are not exact";
}

static const char *host_goes_on(struct world *w, unsigned failures)
{
	struct rhc_host_use a = claim(w, 0, "mine:80", 0), b = claim(w, 2, "mine:80", 0), other;
	const char *wrong = a.upstream != b.upstream || a.gen != b.gen ? "two records of one host"
								       : record_is_whole(w, &a, failures);

	/* The other record is there to be claimed, so nothing is lost. */
	w->now += 2 * K_TTL;
	other = claim(w, 2, "other:80", 0);
	if (!wrong)
		wrong = other.upstream == a.upstream ? "one record for two hosts" : record_is_whole(w, &other, 0);
	rest(w, 0, a);
	rest(w, 2, b);
	rest(w, 2, other);
	return wrong;
}

static const char *new_host_goes_on(struct world *w)
{
	return host_goes_on(w, 0);
}

static const char *old_host_goes_on(struct world *w)
{
	return host_goes_on(w, 2);
}

static const char *busy_hosts_stay(struct world *w)
{
	if (rhc_upstream_find(&w->seg, "used:80") < 0 || rhc_upstream_find(&w->seg, "failed:80") < 0)
		return "a host that is in use was evicted";
	if (rhc_upstream_find(&w->seg, "mine:80") >= 0)
		return "three hosts in two records";
	return NULL;
}

/* ---- the broken variant: a shared counter and a ledger per worker ---- */

static void counter_ledger(struct world *w)
{
	atomic_fetch_add(&w->toy[0], 1);
	atomic_fetch_add(&w->toy[1], 1);
	atomic_fetch_sub(&w->toy[1], 1);
	atomic_fetch_sub(&w->toy[0], 1);
}

/* Its reaper: subtract what the ledger says. */
static const char *counter_is_zero(struct world *w)
{
	atomic_fetch_sub(&w->toy[0], atomic_load(&w->toy[1]));
	return atomic_load(&w->toy[0]) == 0 ? NULL : "the counter leaks";
}

/* clang-format off */
const struct kill_case kill_cases[] = {
	{ "acquire, release",             nothing,                NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "acquire beside a holder",      take_one,               NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "acquire, full",                take_all,               NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "acquire, others wait",         take_all_and_one_waits, NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "release, one waits",           take_one,               begin_with_slot, wait_behind_victim, release,       NULL, false, false },
	{ "wait, cancel",                 take_all,               NULL,            NULL,          wait_and_cancel,    NULL, false, false },
	{ "wait, cancel, others wait",    take_all_and_one_waits, NULL,            NULL,          wait_and_cancel,    NULL, false, false },
	{ "wait, got at once",            take_one,               NULL,            NULL,          wait_and_cancel,    NULL, false, false },
	{ "woken, got, release",          take_all,               begin_waiting,   give_one,      poll_release,       NULL, false, false },
	{ "draining, claim given back",   draining,               begin_waiting,   give_two_low,  poll_release,       NULL, true, false },
	{ "draining, last above leaves",  draining_above,         begin_above,     NULL,          release,            NULL, true, false },
	{ "limit up and down",            take_one,               NULL,            NULL,          change_limits,      NULL, true, false },
	{ "calm, acquire, release",       calm,                   NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "calm, acquire beside a holder", calm_and_one_taken,    NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "calm, acquire, full",          calm_and_all_taken,     NULL,            NULL,          acquire_release,    NULL, false, false },
	{ "calm, wait, cancel",           calm_and_all_taken,     NULL,            NULL,          wait_and_cancel,    NULL, false, false },
	{ "calm, wait, got at once",      calm_and_one_taken,     NULL,            NULL,          wait_and_cancel,    NULL, false, false },
	{ "calm begins, release",         nothing,                begin_with_slot, NULL,          calm_and_release,   NULL, false, false },
	{ "calm, limit up and down",      calm_and_one_taken,     NULL,            NULL,          change_limits,      NULL, true, false },
	{ "calm, rhcctl free",            calm_and_all_taken,     begin_admin,     NULL,          free_slot_in_calm,  admin_goes_on, true, false },
	{ "failure counted, opens",       two_failures,           NULL,            NULL,          third_failure,      breaker_is_whole, false, false },
	{ "failure rate opens",           window_on,              NULL,            NULL,          third_failure,      breaker_is_whole, false, false },
	{ "probe succeeds",               open_and_due,           NULL,            NULL,          probe_ok,           breaker_is_whole, false, false },
	{ "probe fails",                  open_and_due,           NULL,            NULL,          probe_fail,         breaker_is_whole, false, false },
	{ "probe abandoned",              open_and_due,           NULL,            NULL,          probe_none,         breaker_is_whole, false, false },
	{ "probe taken over by lease",    lease_over,             NULL,            NULL,          probe_ok,           breaker_is_whole, false, false },
	{ "register, hold, leave",        nothing,                nothing,         NULL,          register_hold_leave, NULL, false, false },
	{ "event with text",              nothing,                NULL,            NULL,          write_event,        events_are_readable, false, false },
	{ "rhcctl isolate, close",        nothing,                begin_admin,     NULL,          isolate_and_reset,  admin_goes_on, true, false },
	{ "rhcctl limit, clear",          take_one,               begin_admin,     NULL,          override_and_clear, admin_goes_on, true, false },
	{ "rhcctl free, one waits",       take_all_and_one_waits, begin_admin,     NULL,          free_slot,          admin_goes_on, true, false },
	{ "declare, retire",              nothing,                nothing,         NULL,          declare_and_retire, upstreams_go_on, true, false },
	{ "host claimed, used",           nothing,                NULL,            NULL,          call_host,          new_host_goes_on, false, false },
	{ "host found, used",             one_host,               NULL,            NULL,          call_host,          old_host_goes_on, false, false },
	{ "host claimed, another goes",   two_hosts,              NULL,            NULL,          call_host,          new_host_goes_on, false, false },
	{ "host refused, none may go",    two_busy_hosts,         NULL,            NULL,          call_host,          busy_hosts_stay, false, false },
	{ "tick over hosts",              one_host,               NULL,            NULL,          tick_hosts,         old_host_goes_on, false, false },
	{ "BROKEN: counter and ledger",   nothing,                NULL,            NULL,          counter_ledger,     counter_is_zero, false, true },
};
/* clang-format on */
const unsigned n_kill_cases = RHC_COUNT(kill_cases);
