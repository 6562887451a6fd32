/* sidecar/upstream/retry.h: who is tried again, when, and how often. */
#include <criterion/criterion.h>
#include <string.h>

#include "sidecar/base/clock.h"
#include "sidecar/upstream/retry.h"

#define S  NS_PER_S
#define MS NS_PER_MS

static void add_status(struct config_statuses *set, unsigned status)
{
	set->bits[status / 64] |= UINT64_C(1) << (status % 64);
}

/* The defaults of the configuration. */
static struct config_retry rule(void)
{
	struct config_retry r = {
		.max_attempts = 3,
		.min_wait_ns = 1 * S,
		.max_wait_ns = 60 * S,
		.multiplier_milli = 2000,
		.jitter = CONFIG_JITTER_FULL,
		.retry_on = (1U << (CONFIG_FAILURE_TIMEOUT + 1)) - 1,
		.methods = 1U << CONFIG_METHOD_GET | 1U << CONFIG_METHOD_HEAD |
			   1U << CONFIG_METHOD_OPTIONS | 1U << CONFIG_METHOD_TRACE |
			   1U << CONFIG_METHOD_PUT | 1U << CONFIG_METHOD_DELETE,
		.idempotency_key = true,
		.respect_retry_after = true,
	};

	add_status(&r.statuses, 502);
	add_status(&r.statuses, 503);
	add_status(&r.statuses, 504);
	return r;
}

/* A GET whose first attempt was refused at connect. */
static struct retry_facts refused(void)
{
	return (struct retry_facts){
		.error = RHC_ERR_connect_refused,
		.method = HTTP_METHOD_GET,
		.body_kept = true,
		.attempt = 1,
		.retry_after_ns = RETRY_AFTER_NONE,
		.now_ns = 1000 * S,
	};
}

#define FACTS_AT(attempt_, kept_, ...)                                                           \
	{                                                                                        \
		.attempt = (attempt_), .body_kept = (kept_), .retry_after_ns = RETRY_AFTER_NONE, \
		.now_ns = 1000 * S, __VA_ARGS__                                                  \
	}
#define FACTS(...)      FACTS_AT(1, true, __VA_ARGS__)
#define FACTS_LOST(...) FACTS_AT(1, false, __VA_ARGS__)
#define GET_            .method = HTTP_METHOD_GET
#define POST_           .method = HTTP_METHOD_POST

static const struct {
	const char *says;
	struct retry_facts f;
	enum retry_verdict to;
} rows[] = {
	{ "a success is not tried again", FACTS(GET_, .error = RHC_ERR_none), RETRY_NOT_NEEDED },
	{ "a refused connect is", FACTS(GET_, .error = RHC_ERR_connect_refused), RETRY_YES },
	{ "also for POST: nothing was sent", FACTS(POST_, .error = RHC_ERR_connect_refused),
	  RETRY_YES },
	{ "a lookup that timed out is", FACTS(POST_, .error = RHC_ERR_dns_timeout), RETRY_YES },
	{ "a lookup that failed is", FACTS(POST_, .error = RHC_ERR_dns_failure), RETRY_YES },
	{ "a name that does not exist is not",
	  FACTS(GET_, .error = RHC_ERR_dns_failure, .permanent = true), RETRY_ERROR },
	{ "a 502 is", FACTS(GET_, .error = RHC_ERR_status, .status = 502, .sent = true), RETRY_YES },
	{ "a 502 of a loop is not: it would run through it again",
	  FACTS(GET_, .error = RHC_ERR_status, .status = 502, .sent = true, .permanent = true), RETRY_ERROR },
	{ "a connect timeout is", FACTS(POST_, .error = RHC_ERR_connect_timeout), RETRY_YES },
	{ "a handshake that failed is", FACTS(POST_, .error = RHC_ERR_tls_failure), RETRY_YES },
	{ "a certificate is not better the next time",
	  FACTS(GET_, .error = RHC_ERR_tls_certificate), RETRY_ERROR },
	{ "an alert neither", FACTS(GET_, .error = RHC_ERR_tls_alert), RETRY_ERROR },
	{ "a GET that timed out is", FACTS(GET_, .error = RHC_ERR_read_timeout, .sent = true),
	  RETRY_YES },
	{ "a POST that timed out is not", FACTS(POST_, .error = RHC_ERR_read_timeout, .sent = true),
	  RETRY_METHOD },
	{ "a POST with a key is",
	  FACTS(POST_, .error = RHC_ERR_read_timeout, .sent = true, .idempotency_key = true),
	  RETRY_YES },
	{ "a POST of which nothing left is", FACTS(POST_, .error = RHC_ERR_write_timeout),
	  RETRY_YES },
	{ "CONNECT is never repeated",
	  FACTS(.method = HTTP_METHOD_CONNECT, .error = RHC_ERR_reset_before_headers, .sent = true),
	  RETRY_METHOD },
	{ "an unknown method neither",
	  FACTS(.method = HTTP_METHOD_OTHER, .error = RHC_ERR_reset_before_headers, .sent = true),
	  RETRY_METHOD },
	{ "a body that was not kept ends it",
	  FACTS_LOST(GET_, .error = RHC_ERR_read_timeout, .sent = true), RETRY_BODY },
	{ "a lost connection is", FACTS(GET_, .error = RHC_ERR_reset_before_headers, .sent = true),
	  RETRY_YES },
	{ "a new connection lost under POST is not",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true), RETRY_METHOD },
	{ "a stale kept connection is replayed at once, whatever the method",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .unprocessed = true,
		.reused = true),
	  RETRY_REPLAY },
	{ "but only once for free: then it is an attempt",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .unprocessed = true,
		.reused = true, .replayed = true),
	  RETRY_YES },
	{ "a kept connection that ended later was not stale: a POST may have been acted on",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .reused = true),
	  RETRY_METHOD },
	{ "... and a GET is an attempt",
	  FACTS(GET_, .error = RHC_ERR_reset_before_headers, .sent = true, .reused = true),
	  RETRY_YES },
	{ "with a byte of a response it was not stale",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .reused = true,
		.in_started = true),
	  RETRY_METHOD },
	{ "a stale connection is replayed though attempts are used up",
	  FACTS_AT(3, true, GET_, .error = RHC_ERR_reset_before_headers, .sent = true,
		   .unprocessed = true, .reused = true),
	  RETRY_REPLAY },
	{ "a stale connection with a lost body is not",
	  FACTS_LOST(GET_, .error = RHC_ERR_reset_before_headers, .sent = true, .unprocessed = true,
		     .reused = true),
	  RETRY_BODY },
	{ "REFUSED_STREAM is replayed at once, whatever the method",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .refused = true),
	  RETRY_REPLAY },
	{ "the second time it is an attempt",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .refused = true,
		.replayed = true),
	  RETRY_YES },
	{ "surely unprocessed: any method",
	  FACTS(POST_, .error = RHC_ERR_reset_before_headers, .sent = true, .unprocessed = true),
	  RETRY_YES },
	{ "503 is", FACTS(GET_, .error = RHC_ERR_status, .status = 503, .sent = true), RETRY_YES },
	{ "500 is not", FACTS(GET_, .error = RHC_ERR_status, .status = 500, .sent = true),
	  RETRY_STATUS },
	{ "401 is not", FACTS(GET_, .error = RHC_ERR_status, .status = 401, .sent = true),
	  RETRY_STATUS },
	{ "429 is not, unless listed",
	  FACTS(GET_, .error = RHC_ERR_status, .status = 429, .sent = true), RETRY_STATUS },
	{ "503 to POST is not", FACTS(POST_, .error = RHC_ERR_status, .status = 503, .sent = true),
	  RETRY_METHOD },
	{ "an open circuit is not", FACTS(GET_, .error = RHC_ERR_circuit_open),
	  RETRY_CIRCUIT_OPEN },
	{ "no slot is not", FACTS(GET_, .error = RHC_ERR_bulkhead_timeout), RETRY_REFUSAL },
	{ "a full queue is not", FACTS(GET_, .error = RHC_ERR_bulkhead_queue_full), RETRY_REFUSAL },
	{ "no connection is not", FACTS(GET_, .error = RHC_ERR_pool_timeout), RETRY_REFUSAL },
	{ "a bug is not", FACTS(GET_, .error = RHC_ERR_internal), RETRY_REFUSAL },
	{ "a total deadline is over", FACTS(GET_, .error = RHC_ERR_deadline_total, .sent = true),
	  RETRY_DEADLINE },
	{ "a broken protocol is not", FACTS(GET_, .error = RHC_ERR_protocol_error, .sent = true),
	  RETRY_ERROR },
	{ "a response cut off is not",
	  FACTS(GET_, .error = RHC_ERR_response_incomplete, .sent = true), RETRY_ERROR },
	{ "the head was sent on: too late",
	  FACTS(GET_, .error = RHC_ERR_reset_before_headers, .sent = true, .head_sent = true),
	  RETRY_HEADERS_SENT },
	{ "nobody is there any more",
	  FACTS(GET_, .error = RHC_ERR_connect_refused, .caller_gone = true), RETRY_CALLER_GONE },
	{ "the caller aborted", FACTS(GET_, .error = RHC_ERR_caller_aborted), RETRY_CALLER_GONE },
	{ "the third of three was the last",
	  FACTS_AT(3, true, GET_, .error = RHC_ERR_connect_refused), RETRY_ATTEMPTS },
	{ "the caller wishes fewer",
	  FACTS_AT(2, true, GET_, .error = RHC_ERR_connect_refused, .attempts_max = 2),
	  RETRY_ATTEMPTS },
	{ "the caller wishes none",
	  FACTS(GET_, .error = RHC_ERR_connect_refused, .attempts_max = 1), RETRY_DISABLED },
	{ "the caller cannot wish more",
	  FACTS_AT(3, true, GET_, .error = RHC_ERR_connect_refused, .attempts_max = 9),
	  RETRY_ATTEMPTS },
	{ "a worker that ends begins nothing",
	  FACTS(GET_, .error = RHC_ERR_connect_refused, .draining = true), RETRY_DRAINING },
	{ "no time left for the wait",
	  FACTS(GET_, .error = RHC_ERR_connect_refused, .deadline_ns = 1000 * S + 500 * MS),
	  RETRY_DEADLINE },
	{ "the deadline is over",
	  FACTS(GET_, .error = RHC_ERR_connect_refused, .deadline_ns = 999 * S), RETRY_DEADLINE },
	{ "a deadline that is over stops a replay as well",
	  FACTS(GET_, .error = RHC_ERR_reset_before_headers, .sent = true, .unprocessed = true,
		.reused = true, .deadline_ns = 999 * S),
	  RETRY_DEADLINE },
	{ "time enough", FACTS(GET_, .error = RHC_ERR_connect_refused, .deadline_ns = 1010 * S),
	  RETRY_YES },
};

Test(retry, each_case_gets_its_verdict)
{
	struct config_retry r = rule();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct retry_decision d = retry_next(&r, &rows[i].f);

		cr_assert_eq(d.verdict, rows[i].to, "%s: %s", rows[i].says,
			     retry_verdict_word(d.verdict));
		cr_assert(d.verdict == RETRY_YES || d.wait_ns == 0, "%s", rows[i].says);
	}
}

Test(retry, max_attempts_of_one_never_retries_but_replays)
{
	struct config_retry r = rule();
	struct retry_facts f = refused();

	r.max_attempts = 1;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_DISABLED);
	f.error = RHC_ERR_reset_before_headers;
	f.sent = f.reused = f.unprocessed = true;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_REPLAY);
}

Test(retry, a_failure_that_is_not_in_retry_on_is_not_retried)
{
	struct config_retry r = rule();
	struct retry_facts f = refused();

	r.retry_on = 1U << CONFIG_FAILURE_TIMEOUT;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_ERROR);
	f.error = RHC_ERR_connect_timeout;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_YES);
	f.error = RHC_ERR_reset_before_headers;
	f.refused = true;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_ERROR);
	r.retry_on |= 1U << CONFIG_FAILURE_REFUSED;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_REPLAY);
}

Test(retry, a_key_counts_only_where_it_is_configured)
{
	struct config_retry r = rule();
	struct retry_facts f = refused();

	f.method = HTTP_METHOD_POST;
	f.error = RHC_ERR_read_timeout;
	f.sent = f.idempotency_key = true;
	r.idempotency_key = false;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_METHOD);
	r.methods |= 1U << CONFIG_METHOD_POST;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_YES);
}

Test(retry, each_verdict_has_a_word_and_a_counter)
{
	struct retry_facts f = refused();

	for (unsigned v = 0; v < RETRY_VERDICT_COUNT; v++) {
		uint32_t counter = retry_counter((enum retry_verdict)v, &f);

		cr_assert(*retry_verdict_word((enum retry_verdict)v));
		cr_assert(v == RETRY_NOT_NEEDED ? counter == RETRY_COUNT_NONE
						: counter < RHC_CTR_NAMED);
	}
	cr_assert_eq(retry_counter(RETRY_YES, &f), RHC_CTR_retry_connect);
	f.error = RHC_ERR_status;
	cr_assert_eq(retry_counter(RETRY_YES, &f), RHC_CTR_retry_status);
	f.error = RHC_ERR_read_timeout;
	f.sent = true;
	cr_assert_eq(retry_counter(RETRY_YES, &f), RHC_CTR_retry_timeout);
	f.error = RHC_ERR_reset_before_headers;
	cr_assert_eq(retry_counter(RETRY_YES, &f), RHC_CTR_retry_reset);
	cr_assert_eq(retry_counter(RETRY_REPLAY, &f), RHC_CTR_retry_stale);
	f.refused = true;
	cr_assert_eq(retry_counter(RETRY_REPLAY, &f), RHC_CTR_retry_refused_stream);
}

/* ---- waits ---- */

static const struct {
	const char *says;
	int jitter;
	uint32_t attempt;
	uint64_t random;
	uint64_t wait_ms;
} waits[] = {
	{ "none: the first wait is min_wait", CONFIG_JITTER_NONE, 1, 0, 1000 },
	{ "none: it doubles", CONFIG_JITTER_NONE, 2, 0, 2000 },
	{ "none: and doubles", CONFIG_JITTER_NONE, 5, 0, 16000 },
	{ "none: up to max_wait", CONFIG_JITTER_NONE, 7, 0, 60000 },
	{ "none: and stays there", CONFIG_JITTER_NONE, 100, 0, 60000 },
	{ "full: never below min_wait", CONFIG_JITTER_FULL, 1, 0, 1000 },
	{ "full: up to the doubled wait", CONFIG_JITTER_FULL, 1, UINT64_MAX, 2000 },
	{ "full: the middle of it", CONFIG_JITTER_FULL, 1, UINT64_MAX / 2, 1500 },
	{ "full: the second one goes up to four", CONFIG_JITTER_FULL, 2, UINT64_MAX, 4000 },
	{ "full: but may be as short as the first", CONFIG_JITTER_FULL, 2, 0, 1000 },
	{ "full: max_wait is the end", CONFIG_JITTER_FULL, 50, UINT64_MAX, 60000 },
	{ "equal: half is fixed", CONFIG_JITTER_EQUAL, 3, 0, 4000 },
	{ "equal: half is random", CONFIG_JITTER_EQUAL, 3, UINT64_MAX, 8000 },
};

Test(retry, waits_grow_and_spread_as_configured)
{
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		struct config_retry r = rule();
		uint64_t got;

		r.jitter = (enum config_jitter)waits[i].jitter;
		got = retry_wait_ns(&r, waits[i].attempt, RETRY_AFTER_NONE, waits[i].random);
		cr_assert_eq((got + 1) / MS, waits[i].wait_ms, "%s: %lu", waits[i].says,
			     (unsigned long)got);
	}
}

Test(retry, the_wait_stays_between_its_limits_for_any_configuration)
{
	uint64_t random = 88172645463325252u;

	for (int i = 0; i < 20000; i++) {
		struct config_retry r = rule();
		uint64_t wait;

		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		r.min_wait_ns = random % (3600 * S);
		r.max_wait_ns = r.min_wait_ns + random / 7 % (3600 * S);
		r.multiplier_milli = 1000 + (uint32_t)(random % 9001);
		r.jitter = (enum config_jitter)(random % 3);
		wait = retry_wait_ns(&r, (uint32_t)(random >> 32) % 100 + 1, RETRY_AFTER_NONE,
				     random);
		cr_assert(wait >= r.min_wait_ns && wait <= r.max_wait_ns, "%d", i);
	}
}

Test(retry, no_wait_is_possible)
{
	struct config_retry r = rule();

	r.min_wait_ns = 0;
	cr_assert_eq(retry_wait_ns(&r, 3, RETRY_AFTER_NONE, UINT64_MAX), 0);
}

Test(retry, retry_after_is_a_floor_clamped_to_max_wait)
{
	struct config_retry r = rule();

	cr_assert_eq(retry_wait_ns(&r, 1, 20 * S, 0), 20 * S);
	cr_assert(retry_wait_ns(&r, 1, 20 * S, UINT64_MAX) >= 20 * S);
	cr_assert(retry_wait_ns(&r, 1, 20 * S, UINT64_MAX) <= 22 * S);
	cr_assert_eq(retry_wait_ns(&r, 1, 0, 0), 1 * S, "zero seconds: our own wait");
	cr_assert_eq(retry_wait_ns(&r, 1, 3600 * S, 0), 60 * S);
	cr_assert_eq(retry_wait_ns(&r, 1, 59 * S, UINT64_MAX), 60 * S, "jitter does not go beyond");
	r.respect_retry_after = false;
	cr_assert(retry_wait_ns(&r, 1, 20 * S, 0) < 2 * S);
}

Test(retry, a_wait_asked_for_beyond_the_deadline_ends_the_call)
{
	struct config_retry r = rule();
	struct retry_facts f = refused();

	f.error = RHC_ERR_status;
	f.status = 503;
	f.sent = true;
	f.retry_after_ns = 30 * S;
	f.deadline_ns = f.now_ns + 20 * S;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_DEADLINE);
	f.deadline_ns = f.now_ns + 40 * S;
	cr_assert_eq(retry_next(&r, &f).verdict, RETRY_YES);
}

/* ---- Retry-After ---- */

#define WALL (UINT64_C(784111777) * S) /* Sun, 06 Nov 1994 08:49:37 GMT */

static const struct {
	const char *value;
	uint64_t to;
} dates[] = {
	{ "120", 120 * S },
	{ "0", 0 },
	{ "007", 7 * S },
	{ "99999999999999999999999999", UINT64_C(1000000000) * S },
	{ "Sun, 06 Nov 1994 08:50:37 GMT", 60 * S },
	{ "Sunday, 06-Nov-94 08:50:37 GMT", 60 * S },
	{ "Sun Nov  6 08:50:37 1994", 60 * S },
	{ "Sun, 06 Nov 1994 08:49:37 GMT", 0 },
	{ "Sun, 06 Nov 1994 08:00:00 GMT", 0 },
	{ "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
	{ "", RETRY_AFTER_NONE },
	{ "-1", RETRY_AFTER_NONE },
	{ "1.5", RETRY_AFTER_NONE },
	{ "1 ", RETRY_AFTER_NONE },
	{ "12s", RETRY_AFTER_NONE },
	{ "soon", RETRY_AFTER_NONE },
	{ "Sun, 06 Nov 1994 08:50:37", RETRY_AFTER_NONE },
	{ "Sun, 06 Nov 1994 08:50:37 GMT and more", RETRY_AFTER_NONE },
	{ "Sun, 99 Nov 1994 08:50:37 GMT", RETRY_AFTER_NONE },
	{ "Sun, 06 Nov 1994 08:50:37 GMTxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
	  RETRY_AFTER_NONE },
};

Test(retry, retry_after_is_read_in_both_forms)
{
	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
		struct http_str v = { dates[i].value, (uint32_t)strlen(dates[i].value) };

		cr_assert_eq(retry_after_parse(v, WALL), dates[i].to, "'%s'", dates[i].value);
	}
}

Test(retry, retry_after_is_read_within_its_length_only)
{
	cr_assert_eq(retry_after_parse((struct http_str){ "123456", 2 }, WALL), 12 * S);
	cr_assert_eq(retry_after_parse((struct http_str){ "Sun\0zzz", 7 }, WALL), RETRY_AFTER_NONE);
}

/* ---- budget ---- */

Test(retry_budget, allows_a_share_of_the_first_attempts)
{
	struct config_retry_budget c = { .ratio_bp = 2000, .min_per_second = 0, .ttl_ns = 10 * S };
	struct retry_budget b;

	retry_budget_init(&b, &c, 1, 100 * S);
	cr_assert_not(retry_budget_take(&b, 100 * S));
	for (int i = 0; i < 10; i++)
		retry_budget_first(&b, 100 * S);
	cr_assert_eq(retry_budget_left_milli(&b, 100 * S), 2000);
	cr_assert(retry_budget_take(&b, 100 * S));
	cr_assert(retry_budget_take(&b, 100 * S));
	cr_assert_not(retry_budget_take(&b, 100 * S));
	cr_assert_eq(retry_budget_left_milli(&b, 100 * S), 0);
}

Test(retry_budget, forgets_first_attempts_after_their_time)
{
	struct config_retry_budget c = { .ratio_bp = 10000, .min_per_second = 0, .ttl_ns = 10 * S };
	struct retry_budget b;

	retry_budget_init(&b, &c, 1, 100 * S);
	retry_budget_first(&b, 100 * S);
	cr_assert_eq(retry_budget_left_milli(&b, 108 * S), 1000);
	cr_assert_not(retry_budget_take(&b, 111 * S));
	retry_budget_first(&b, 1000000 * S);
	cr_assert(retry_budget_take(&b, 1000000 * S));
}

Test(retry_budget, keeps_a_floor_per_second)
{
	struct config_retry_budget c = { .ratio_bp = 0, .min_per_second = 10, .ttl_ns = 10 * S };
	struct retry_budget b;
	unsigned n = 0;

	retry_budget_init(&b, &c, 2, 100 * S); /* five of the ten are ours */
	while (retry_budget_take(&b, 100 * S))
		n++;
	cr_assert_eq(n, 5);
	cr_assert_not(retry_budget_take(&b, 100 * S + 199 * MS));
	cr_assert(retry_budget_take(&b, 100 * S + 200 * MS));
	for (n = 0; retry_budget_take(&b, 500 * S); n++) {
	}
	cr_assert_eq(n, 5, "at most one second of it is kept");
}

Test(retry_budget, a_share_below_one_per_second_still_becomes_one)
{
	struct config_retry_budget c = { .ratio_bp = 0, .min_per_second = 1, .ttl_ns = 10 * S };
	struct retry_budget b;
	uint64_t now = 100 * S;
	unsigned n = 0;

	retry_budget_init(&b, &c, 4, now);
	while (retry_budget_take(&b, now))
		n++;
	cr_assert_leq(n, 1);
	for (n = 0; now < 140 * S; now += MS)
		n += retry_budget_take(&b, now);
	cr_assert(n >= 9 && n <= 11, "%u", n);
}
