/* What an operator could do by hand, again and again; it may be killed within any of it. */
#include <errno.h>
#include <unistd.h>

#include "tests/storm/hammer.h"

static const char why[] = "storm: an operator who cannot decide";

static void change_breaker(struct hammer *h, struct rhc_admin *a, unsigned *random, uint64_t now)
{
	static const enum rhc_verb verbs[] = { RHC_VERB_OPEN,    RHC_VERB_CLOSE,  RHC_VERB_ISOLATE,
		                               RHC_VERB_DISABLE, RHC_VERB_ENABLE, RHC_VERB_RESET };
	enum rhc_verb verb = verbs[hammer_random(random, RHC_COUNT(verbs))];
	/* An end always: a killed operator must not leave it isolated for the rest of the phase. */
	uint64_t until = verb == RHC_VERB_ISOLATE || verb == RHC_VERB_DISABLE ? now + 1 + hammer_random(random, 30) : 0;
	struct rhc_change change;
	int rc = rhc_admin_breaker(a, h->upstream, verb, until, why, now, &change);

	if (rc != 0 && rc != -EAGAIN)
		hammer_fail(h, "rhc_admin_breaker(%s): %d", rhc_verb_name(verb), rc);
}

static void change_limit(struct hammer *h, struct rhc_admin *a, unsigned *random, uint64_t now)
{
	struct rhc_change change;
	int rc;

	if (hammer_random(random, 3) == 0)
		rc = rhc_admin_limit_clear(a, h->upstream, why, now, &change);
	else
		rc = rhc_admin_limit(a, h->upstream, 1 + hammer_random(random, 2 * HAMMER_LIMIT),
		                     hammer_random(random, 2) ? now + 1 + hammer_random(random, 50) : 0, why, now, &change);
	if (rc != 0)
		hammer_fail(h, "rhc_admin_limit: %d", rc);
}

static void look(struct hammer *h, struct rhc_admin *a, unsigned *random, uint64_t now)
{
	struct rhc_finding found[32];
	struct rhc_view_upstream u;
	struct rhc_reaped reaped;

	(void)rhc_view_audit(&h->seg, a->fd, now, found, RHC_COUNT(found));
	(void)rhc_view_upstream(&h->seg, h->upstream, now, &u);
	(void)rhc_admin_reap(a, hammer_random(random, HAMMER_WORKERS), false, now, &reaped);
}

_Noreturn void hammer_admin(struct hammer *h)
{
	unsigned random = h->seed ^ (unsigned)hammer_now_ms();

	rhc_segment_forked(&h->seg);
	while (!h->seen->failed && !h->seen->stop) {
		struct rhc_admin a;
		uint64_t now = hammer_now_ms();
		int rc = rhc_admin_begin(&a, &h->seg, 0, 1);

		if (rc != 0) {
			hammer_fail(h, "the ADMIN byte is not to be had: %d", rc);
			break;
		}
		switch (hammer_random(&random, 4)) {
		case 0:
			change_limit(h, &a, &random, now);
			break;
		case 1:
			look(h, &a, &random, now);
			break;
		default:
			change_breaker(h, &a, &random, now);
			break;
		}
		rhc_admin_end(&a);
		atomic_fetch_add(&h->seen->changes, 1);
		usleep(hammer_random(&random, 4000));
	}
	_exit(h->seen->failed ? 1 : 0);
}
