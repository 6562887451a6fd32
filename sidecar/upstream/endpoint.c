#include "sidecar/upstream/endpoint.h"

#include <assert.h>
#include <string.h>

void endpoints_init(struct endpoints *e)
{
	memset(e, 0, sizeof(*e));
}

static struct endpoint *find(struct endpoints *e, const union resolver_addr *addr)
{
	for (uint32_t i = 0; i < e->n; i++)
		if (resolver_addr_equal(&e->row[i].addr, addr))
			return &e->row[i];
	return NULL;
}

/*
 * A row nobody uses any more, or a new one.  NULL: all are still in use by connections to former
 * addresses.
 */
static struct endpoint *vacant(struct endpoints *e)
{
	for (uint32_t i = 0; i < e->n; i++)
		if (e->row[i].gone && e->row[i].conns == 0)
			return &e->row[i];
	return e->n < RESOLVER_ADDRS_MAX ? &e->row[e->n++] : NULL;
}

void endpoints_update(struct endpoints *e, const union resolver_addr *addrs, uint32_t n,
		      uint32_t generation)
{
	if (generation == e->generation && e->n > 0)
		return;
	e->generation = generation;
	for (uint32_t i = 0; i < e->n; i++)
		e->row[i].gone = true;
	/* Twice, so that no row of an address that stays is taken for a new one. */
	for (uint32_t i = 0; i < n; i++) {
		struct endpoint *row = find(e, &addrs[i]);

		if (row)
			row->gone = false;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct endpoint *row = find(e, &addrs[i]);

		if (row)
			continue;
		row = vacant(e);
		if (row)
			*row = (struct endpoint){ .addr = addrs[i] };
	}
}

static bool tried_has(uint32_t tried, uint32_t i)
{
	return (tried >> i & 1) != 0;
}

static bool healthy(const struct endpoint *row, uint64_t now_ns)
{
	return row->failed_ns == 0 || now_ns - row->failed_ns >= ENDPOINT_PENALTY_NS;
}

/* The next two healthy rows in turn; the one with less to do. */
static uint16_t better_of_two(const struct endpoints *e, uint32_t tried, uint64_t now_ns)
{
	uint16_t first = ENDPOINT_NONE;

	for (uint32_t k = 0; k < e->n; k++) {
		uint32_t i = (e->cursor + k) % e->n;
		const struct endpoint *row = &e->row[i];

		if (row->gone || tried_has(tried, i) || !healthy(row, now_ns))
			continue;
		if (first != ENDPOINT_NONE)
			return row->in_flight < e->row[first].in_flight ? (uint16_t)i : first;
		first = (uint16_t)i;
	}
	return first;
}

static uint16_t failed_longest_ago(const struct endpoints *e, uint32_t tried)
{
	uint16_t best = ENDPOINT_NONE;

	for (uint32_t i = 0; i < e->n; i++) {
		if (e->row[i].gone || tried_has(tried, i))
			continue;
		if (best == ENDPOINT_NONE || e->row[i].failed_ns < e->row[best].failed_ns)
			best = (uint16_t)i;
	}
	return best;
}

uint16_t endpoints_pick(struct endpoints *e, uint32_t tried, uint64_t now_ns)
{
	uint16_t i = better_of_two(e, tried, now_ns);

	if (i == ENDPOINT_NONE)
		i = failed_longest_ago(e, tried);
	if (i == ENDPOINT_NONE && tried != 0)
		return endpoints_pick(e, 0, now_ns);
	if (i != ENDPOINT_NONE)
		e->cursor = (i + 1U) % e->n;
	return i;
}

void endpoints_failed(struct endpoints *e, uint16_t i, uint64_t now_ns)
{
	assert(i < e->n);
	e->row[i].failures++;
	e->row[i].failed_ns = now_ns ? now_ns : 1;
}

void endpoints_ok(struct endpoints *e, uint16_t i)
{
	assert(i < e->n);
	e->row[i].failures = 0;
	e->row[i].failed_ns = 0;
}

uint32_t endpoints_left(const struct endpoints *e, uint32_t tried)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < e->n; i++)
		left += !e->row[i].gone && !tried_has(tried, i);
	return left;
}
