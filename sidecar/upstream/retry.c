#include "sidecar/upstream/retry.h"

#include <assert.h>

#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/errors.h"

/* A random part of span: 0 .. span - 1 (0 for 0). */
static uint64_t part_of(uint64_t span, uint64_t random)
{
	return (uint64_t)((unsigned __int128)span * random >> 64);
}

/* min_wait * multiplier^n, at most max_wait. */
static uint64_t grown(const struct config_retry *rule, uint32_t n)
{
	uint64_t wait = rule->min_wait_ns;

	/* 1.0 would go round for nothing; above it the loop is over after log(max / min) steps. */
	for (; n > 0 && wait < rule->max_wait_ns && wait > 0 && rule->multiplier_milli > 1000;
	     n--) {
		unsigned __int128 next = (unsigned __int128)wait * rule->multiplier_milli / 1000;

		wait = next < rule->max_wait_ns ? (uint64_t)next : rule->max_wait_ns;
	}
	return wait < rule->max_wait_ns ? wait : rule->max_wait_ns;
}

static uint64_t spread(const struct config_retry *rule, uint32_t attempt, uint64_t random)
{
	uint64_t least = grown(rule, 0);
	uint64_t next = grown(rule, attempt);
	uint64_t wait;

	switch (rule->jitter) {
	case CONFIG_JITTER_NONE:
		return grown(rule, attempt - 1);
	case CONFIG_JITTER_EQUAL:
		wait = next / 2 + part_of(next - next / 2 + 1, random);
		return wait > least ? wait : least;
	case CONFIG_JITTER_FULL:
		break;
	}
	return least + part_of(next - least + 1, random);
}

uint64_t retry_wait_ns(const struct config_retry *rule, uint32_t attempt, uint64_t retry_after_ns,
		       uint64_t random)
{
	uint64_t wait = spread(rule, attempt ? attempt : 1, random);
	uint64_t asked = retry_after_ns;

	if (asked == RETRY_AFTER_NONE || !rule->respect_retry_after)
		return wait;
	if (asked > rule->max_wait_ns)
		return rule->max_wait_ns;
	/*
	 * Never earlier than asked for; a tenth later at most, so that not everybody comes at once.
	 */
	asked += part_of(asked / 10 + 1, random);
	if (asked > rule->max_wait_ns)
		asked = rule->max_wait_ns;
	return asked > wait ? asked : wait;
}

static bool method_repeatable(const struct config_retry *rule, const struct retry_facts *f)
{
	static const uint8_t word[HTTP_METHOD_COUNT] = {
		[HTTP_METHOD_GET] = CONFIG_METHOD_GET + 1,
		[HTTP_METHOD_HEAD] = CONFIG_METHOD_HEAD + 1,
		[HTTP_METHOD_OPTIONS] = CONFIG_METHOD_OPTIONS + 1,
		[HTTP_METHOD_TRACE] = CONFIG_METHOD_TRACE + 1,
		[HTTP_METHOD_PUT] = CONFIG_METHOD_PUT + 1,
		[HTTP_METHOD_DELETE] = CONFIG_METHOD_DELETE + 1,
		[HTTP_METHOD_POST] = CONFIG_METHOD_POST + 1,
		[HTTP_METHOD_PATCH] = CONFIG_METHOD_PATCH + 1,
	};

	assert(f->method < HTTP_METHOD_COUNT);
	if (word[f->method] && config_set_has(rule->methods, word[f->method] - 1U))
		return true;
	return f->idempotency_key && rule->idempotency_key;
}

/*
 * The upstream surely did not act on it: nothing was sent, it says so (RFC 9113 section 8.7), or a
 * kept connection turned out to have been closed already (RFC 9112 section 9.3.1).
 */
static bool stale(const struct retry_facts *f)
{
	return f->error == RHC_ERR_reset_before_headers && f->reused && f->unprocessed && !f->in_started;
}

static bool safe(const struct config_retry *rule, const struct retry_facts *f)
{
	if (f->error == RHC_ERR_status)
		return method_repeatable(rule, f);
	return !f->sent || f->unprocessed || f->refused || stale(f) || method_repeatable(rule, f);
}

/* What the policy says of this kind of failure. */
static enum retry_verdict wanted(const struct config_retry *rule, const struct retry_facts *f)
{
	const struct error_row *row = error_row(f->error);
	unsigned failure = f->refused ? (unsigned)CONFIG_FAILURE_REFUSED : row->failure;

	if (f->error == RHC_ERR_circuit_open)
		return RETRY_CIRCUIT_OPEN;
	if (f->error == RHC_ERR_deadline_total)
		return RETRY_DEADLINE;
	if (f->error == RHC_ERR_status && f->permanent)
		return RETRY_ERROR;
	if (f->error == RHC_ERR_status)
		return config_status_in(&rule->statuses, f->status) ? RETRY_YES : RETRY_STATUS;
	if (row->failure == ERROR_FAILURE_NEVER)
		return RETRY_REFUSAL;
	if (row->again == ERROR_AGAIN_NO || f->permanent ||
	    !config_set_has(rule->retry_on, failure))
		return RETRY_ERROR;
	return RETRY_YES;
}

static struct retry_decision no(enum retry_verdict why)
{
	return (struct retry_decision){ .verdict = why };
}

static uint32_t attempts_allowed(const struct config_retry *rule, const struct retry_facts *f)
{
	uint32_t max = rule->max_attempts;

	return f->attempts_max && f->attempts_max < max ? f->attempts_max : max;
}

struct retry_decision retry_next(const struct config_retry *rule, const struct retry_facts *f)
{
	enum retry_verdict why;
	uint64_t wait;

	if (f->error == RHC_ERR_none)
		return no(RETRY_NOT_NEEDED);
	if (f->caller_gone || f->error == RHC_ERR_caller_aborted)
		return no(RETRY_CALLER_GONE);
	if (f->head_sent)
		return no(RETRY_HEADERS_SENT);
	if (!stale(f) && (why = wanted(rule, f)) != RETRY_YES)
		return no(why);
	if (!safe(rule, f))
		return no(RETRY_METHOD);
	if (!f->body_kept)
		return no(RETRY_BODY);
	if (f->deadline_ns && f->now_ns >= f->deadline_ns)
		return no(RETRY_DEADLINE);
	if ((stale(f) || f->refused) && !f->replayed)
		return no(RETRY_REPLAY);
	/* From here on it is a retry like any other, also for a second stale connection. */
	if ((why = wanted(rule, f)) != RETRY_YES)
		return no(why);
	if (attempts_allowed(rule, f) <= 1)
		return no(RETRY_DISABLED);
	if (f->attempt >= attempts_allowed(rule, f))
		return no(RETRY_ATTEMPTS);
	if (f->draining)
		return no(RETRY_DRAINING);
	wait = retry_wait_ns(rule, f->attempt, f->retry_after_ns, f->random);
	if (f->deadline_ns && wait >= f->deadline_ns - f->now_ns)
		return no(RETRY_DEADLINE);
	return (struct retry_decision){ .verdict = RETRY_YES, .wait_ns = wait };
}

const char *retry_verdict_word(enum retry_verdict v)
{
	static const char *const words[RETRY_VERDICT_COUNT] = {
#define X(ID, word, counter) [RETRY_##ID] = word,
		RETRY_VERDICTS(X)
#undef X
	};

	assert((unsigned)v < RETRY_VERDICT_COUNT);
	return words[v];
}

static uint32_t counter_of_retry(const struct retry_facts *f)
{
	if (f->refused)
		return RHC_CTR_retry_refused_stream;
	if (f->error == RHC_ERR_status)
		return RHC_CTR_retry_status;
	switch (error_row(f->error)->failure) {
	case CONFIG_FAILURE_TIMEOUT:
		return f->sent ? RHC_CTR_retry_timeout : RHC_CTR_retry_connect;
	case CONFIG_FAILURE_CONNECT:
	case CONFIG_FAILURE_DNS:
	case CONFIG_FAILURE_TLS:
		return RHC_CTR_retry_connect;
	case CONFIG_FAILURE_RESET:
		return RHC_CTR_retry_reset;
	default:
		return RHC_CTR_retry_other;
	}
}

uint32_t retry_counter(enum retry_verdict v, const struct retry_facts *f)
{
	static const uint32_t counters[RETRY_VERDICT_COUNT] = {
#define X(ID, word, counter) [RETRY_##ID] = counter,
		RETRY_VERDICTS(X)
#undef X
	};

	assert((unsigned)v < RETRY_VERDICT_COUNT);
	if (v == RETRY_YES)
		return counter_of_retry(f);
	if (v == RETRY_REPLAY)
		return f->refused ? RHC_CTR_retry_refused_stream : RHC_CTR_retry_stale;
	return counters[v];
}
