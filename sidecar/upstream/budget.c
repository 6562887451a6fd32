/*
 * The retry budget: how many retries the first attempts of the last ttl have earned, and a floor.
 */
#include "sidecar/base/clock.h"
#include "sidecar/base/obj.h"
#include "sidecar/upstream/retry.h"

enum { TOKEN = 1000000 };

void retry_budget_init(struct retry_budget *b, const struct config_retry_budget *rule,
		       uint32_t workers, uint64_t now_ns)
{
	uint64_t rate = (uint64_t)rule->min_per_second * TOKEN / (workers ? workers : 1);

	*b = (struct retry_budget){
		.slice_ns = rule->ttl_ns / RETRY_BUDGET_SLICES + 1,
		.ratio = (uint64_t)rule->ratio_bp * (TOKEN / 10000),
		.floor_rate = rate,
		.floor_ns = now_ns,
	};
	b->slice = now_ns / b->slice_ns;
	b->floor = rate > TOKEN || rate == 0 ? rate : TOKEN;
}

static uint64_t floor_max(const struct retry_budget *b)
{
	/* A share of less than one retry per second must still be able to become one. */
	return b->floor_rate == 0 || b->floor_rate > TOKEN ? b->floor_rate : TOKEN;
}

/* Forget what is older than ttl, let the floor fill. */
static void advance(struct retry_budget *b, uint64_t now_ns)
{
	uint64_t slice = now_ns / b->slice_ns;
	uint64_t passed = now_ns - b->floor_ns;
	uint64_t came;

	for (unsigned i = 0; b->slice < slice && i < RETRY_BUDGET_SLICES; i++)
		b->earned[++b->slice % RETRY_BUDGET_SLICES] = 0;
	b->slice = slice;
	if (passed > NS_PER_S * TOKEN)
		passed = NS_PER_S * TOKEN;
	came = (uint64_t)((unsigned __int128)passed * b->floor_rate / NS_PER_S);
	if (came == 0 && b->floor_rate > 0)
		return; /* keep the fraction for the next look */
	b->floor_ns = now_ns;
	b->floor = b->floor + came < floor_max(b) ? b->floor + came : floor_max(b);
}

static uint64_t earned(const struct retry_budget *b)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < RETRY_BUDGET_SLICES; i++)
		sum += b->earned[i];
	return sum;
}

void retry_budget_first(struct retry_budget *b, uint64_t now_ns)
{
	advance(b, now_ns);
	b->earned[b->slice % RETRY_BUDGET_SLICES] += b->ratio;
}

/* Oldest first: what would be forgotten next. */
static void spend(struct retry_budget *b, uint64_t n)
{
	for (unsigned i = 1; i <= RETRY_BUDGET_SLICES && n > 0; i++) {
		uint64_t *at = &b->earned[(b->slice + i) % RETRY_BUDGET_SLICES];
		uint64_t part = *at < n ? *at : n;

		*at -= part;
		n -= part;
	}
}

bool retry_budget_take(struct retry_budget *b, uint64_t now_ns)
{
	advance(b, now_ns);
	if (b->floor >= TOKEN) {
		b->floor -= TOKEN;
		return true;
	}
	if (earned(b) + b->floor < TOKEN)
		return false;
	spend(b, TOKEN - b->floor);
	b->floor = 0;
	return true;
}

uint32_t retry_budget_left_milli(const struct retry_budget *b, uint64_t now_ns)
{
	struct retry_budget look = *b;
	uint64_t have;

	advance(&look, now_ns);
	have = (earned(&look) + look.floor) / (TOKEN / 1000);
	return have < UINT32_MAX ? (uint32_t)have : UINT32_MAX;
}
