/*
 * proto/h2_flood.c - the token bucket of one HTTP/2 connection.
 */
#include "proto/h2_flood.h"

static const uint16_t prices[H2_FLOOD_CAUSES] = {
#define X(ID, tokens) [H2_FLOOD_##ID] = tokens,
	H2_FLOOD_TABLE(X)
#undef X
};

void h2_flood_init(struct h2_flood *f, uint64_t now_ms)
{
	*f = (struct h2_flood){ .tokens = H2_FLOOD_FULL, .at_ms = now_ms };
}

void h2_flood_credit(struct h2_flood *f, uint32_t tokens)
{
	f->tokens = tokens < H2_FLOOD_FULL - f->tokens ? f->tokens + tokens : H2_FLOOD_FULL;
}

static void refill(struct h2_flood *f, uint64_t now_ms)
{
	uint64_t passed = now_ms > f->at_ms ? now_ms - f->at_ms : 0;
	uint64_t more = passed * H2_FLOOD_PER_S / 1000;

	if (passed == 0)
		return;
	/* beyond a full bucket the time is of no interest, and the product could overflow */
	if (passed >= H2_FLOOD_FULL * UINT64_C(1000) / H2_FLOOD_PER_S)
		more = H2_FLOOD_FULL;
	h2_flood_credit(f, (uint32_t)more);
	f->at_ms = now_ms;
}

bool h2_flood_charge(struct h2_flood *f, enum h2_flood_cause cause, uint64_t now_ms)
{
	refill(f, now_ms);
	if (f->tokens < prices[cause])
		return false;
	f->tokens -= prices[cause];
	return true;
}

void h2_flood_credit_data(struct h2_flood *f, uint32_t n, bool whole)
{
	uint32_t frame = H2_FLOOD_CREDIT_FRAME;

	if (!whole && n < H2_FLOOD_FRAME_BYTES)
		frame = n * H2_FLOOD_CREDIT_FRAME / H2_FLOOD_FRAME_BYTES;
	h2_flood_credit(f, n / H2_FLOOD_BYTES_PER_TOKEN + frame);
}
