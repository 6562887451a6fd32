/*
 * sidecar/exchange/body.h - the request body between the app and the attempts: queue and replay buffer in one.
 *
 * Shape     Slices in order of arrival.  [0, next) have been given to the attempt in flight, [next, count) wait for one.
 *           While ->replay is true everything is kept, so a new attempt starts again at 0 (body_rewind).
 * Owns      One reference per slice kept here.
 * Bounds    Small pieces are copied together, and from half of BODY_SLICES on all pieces are, so that a body sent byte
 *           by byte does not pin a receive buffer per byte, and what waits (one window, 64 KiB) always has a place.
 *           Kept for replay: at most max_replay bytes; the first byte beyond ends the replay (->replay = false), and
 *           what was sent is dropped.  A replay larger than BODY_SLICES hold gets a larger table (malloc, the one
 *           exception; at most BODY_SLICES_MAX); without memory for it the replay ends as well.
 * Copies    are appended behind what the send queue of an attempt still holds: those bytes are never touched.
 * Errors    body_append: -ENOBUFS when there is no place; the slice is dropped.
 */
#ifndef RHC_SIDECAR_EXCHANGE_BODY_H
#define RHC_SIDECAR_EXCHANGE_BODY_H

#include <stdbool.h>
#include <stdint.h>

#include "sidecar/base/buf.h"

enum { BODY_SLICES = 24, BODY_SLICES_MAX = 4096, BODY_COPY_BELOW = 2048 };

struct body {
	struct slice *slices; /* ->own, or a larger table */
	uint16_t     cap;
	uint16_t     count;
	uint16_t     next; /* first slice not yet given to the attempt */
	uint32_t     next_off; /* always 0 but after a partial copy-append into a slice already sent */
	bool         tail_own; /* the last slice is a copy of ours, with room behind it perhaps */
	bool         replay;
	bool         complete; /* the end of the body has been appended */
	uint64_t     bytes; /* appended so far */
	uint32_t     kept; /* bytes held in slices */
	uint32_t     max_replay;
	struct slice own[BODY_SLICES];
};

void body_init(struct body *b, uint32_t max_replay);
void body_fini(struct body *b); /* drops everything */

/* Takes s. 0 or -ENOBUFS. */
int body_append(struct body *b, struct buf_pool *pool, struct slice s);

/* The next bytes for the attempt, with a reference of their own; false when there are none. */
bool body_next(struct body *b, struct slice *ret);

/* Begin again.  Only while ->replay. */
void body_rewind(struct body *b);

/* No attempt will come after this one: drop what is kept only for replay. */
void body_no_replay(struct body *b);

#endif
