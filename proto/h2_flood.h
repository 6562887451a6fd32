/*
 * proto/h2_flood.h - how much needless work a peer may cause on one HTTP/2 connection.
 *
 * Shape    A token bucket.  Frames that cost us and give nothing take tokens, time and useful work
 *          (DATA sent, exchanges completed) bring them back.  Pure: the time is given.
 * Output   h2_flood_charge() is false when the bucket is empty: the connection ends with
 *          ENHANCE_YOUR_CALM.
 * Limits   H2_FLOOD_FULL tokens at most, H2_FLOOD_PER_S more each second.
 *          Frames of unknown type are skipped by nghttp2 without a word and cost no more than the
 *          bytes they are.
 * RFC      9113 §10.5 (denial of service); CVE-2019-9511..9518, CVE-2023-44487 (rapid reset),
 *          CVE-2024-27316 and others (CONTINUATION), CVE-2025-8671 (MadeYouReset: resets that we
 *          are made to send).
 */
#ifndef RHC_PROTO_H2_FLOOD_H
#define RHC_PROTO_H2_FLOOD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * X(ID, tokens): with the bucket full and no credit, FULL/tokens at once and PER_S/tokens in a
 * second.
 */
/* clang-format off */
#define H2_FLOOD_TABLE(X) \
	X(PING,          10) \
	X(SETTINGS,      50) \
	X(PRIORITY,       5) \
	X(WINDOW_UPDATE,  5) \
	X(EMPTY_DATA,    10) \
	X(RST_RECEIVED,  10) \
	X(RST_CAUSED,    10) /* also a stream we had to refuse */ \
	X(CONTINUATION,  20)
/* clang-format on */
enum h2_flood_cause {
#define X(ID, tokens) H2_FLOOD_##ID,
	H2_FLOOD_TABLE(X)
#undef X
	H2_FLOOD_CAUSES
};

enum {
	H2_FLOOD_FULL = 10000,
	H2_FLOOD_PER_S = 1000,
	/*
	 * A receiver of much data sends WINDOW_UPDATE, and gRPC's bandwidth estimation PING, in
	 * proportion to the bytes it gets, and simple ones send WINDOW_UPDATE twice for each frame.
	 * So bytes pay, and a frame pays for an update of both windows when it carried all there
	 * was.  One cut off by the window does so from FRAME_BYTES on, and a smaller one for its
	 * part, or windows of one byte (CVE-2019-9511) would pay for themselves.  A completed
	 * exchange pays for what it needs; one that was reset pays nothing, so rapid resets have no
	 * income.
	 */
	H2_FLOOD_BYTES_PER_TOKEN = 512,
	H2_FLOOD_CREDIT_FRAME = 10,
	H2_FLOOD_FRAME_BYTES = 256,
	H2_FLOOD_CREDIT_DONE = 10,
};

struct h2_flood {
	uint32_t tokens;
	uint64_t at_ms; /* refilled up to here */
};

void h2_flood_init(struct h2_flood *f, uint64_t now_ms);
bool h2_flood_charge(struct h2_flood *f, enum h2_flood_cause cause, uint64_t now_ms);
void h2_flood_credit(struct h2_flood *f, uint32_t tokens);
/* A DATA frame of n bytes was sent; whole: there was no more to send. */
void h2_flood_credit_data(struct h2_flood *f, uint32_t n, bool whole);

#endif
