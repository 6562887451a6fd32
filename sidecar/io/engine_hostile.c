#include "sidecar/io/engine_hostile.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "sidecar/io/engine_impl.h"

enum { FDS_MAX = 4096, SPLIT_MAX = 7, DELAY_MAX = 8, LATE_MAX = 64 };

/* What draws for one descriptor, each by itself: a late receive changes nothing about the sends. */
enum draw { DRAW_RECV, DRAW_SEND, DRAW_REST, DRAWS };

/* One descriptor, from its first verb until it is forgotten. */
struct victim {
	struct buf *rest; /* received and not yet let through, from ->at on */
	uint32_t    at;
	uint32_t    who; /* the how-manieth, from 1; 0: not seen yet */
	uint16_t    due; /* the turn of its last late completion */
	uint64_t    state[DRAWS];
};

/* An accepted connection that is held back. */
struct late {
	struct engine_op *op; /* the accept; NULL: free */
	int               fd;
	uint32_t          turns;
};

struct hostile {
	struct engine_hostility how;
	struct list             delayed; /* ->n_iov is the turn they are due */
	uint16_t                turn;
	uint32_t                seen; /* descriptors */
	uint32_t                top; /* one above the greatest of them */
	struct late             late[LATE_MAX];
	struct victim           victims[FDS_MAX + 1]; /* per descriptor; the last one for all beyond */
};

int engine_make_hostile(struct engine *e, const struct engine_hostility *how)
{
	struct hostile *h = calloc(1, sizeof(*h));

	OBJ_CHECK(e, ENGINE_MAGIC);
	assert(!e->hostile && e->in_flight == 0);
	if (!h)
		return -ENOMEM;
	h->how = *how;
	if (!h->how.split_max)
		h->how.split_max = SPLIT_MAX;
	if (!h->how.delay_max)
		h->how.delay_max = DELAY_MAX;
	list_init(&h->delayed);
	e->hostile = h;
	return 0;
}

void hostile_fini(struct engine *e)
{
	for (uint32_t fd = 0; fd < e->hostile->top; fd++)
		hostile_forget(e, (int)fd);
	free(e->hostile);
}

/* --- what is drawn */

static struct victim *victim_of(struct hostile *h, int fd)
{
	uint32_t       i = (uint32_t)fd < FDS_MAX ? (uint32_t)fd : FDS_MAX;
	struct victim *v = &h->victims[i];

	if (!v->who) {
		v->who = ++h->seen;
		v->due = h->turn;
		for (unsigned d = 0; d < DRAWS; d++)
			v->state[d] = h->how.seed * DRAWS * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)v->who * DRAWS + d;
		if (h->top <= i)
			h->top = i + 1;
	}
	return v;
}

/* 0..below-1, by splitmix64. */
static uint32_t draw(struct victim *v, enum draw which, uint32_t below)
{
	uint64_t z = v->state[which] += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) % below);
}

static bool chance(struct victim *v, enum draw which, uint32_t per_mille)
{
	return draw(v, which, 1000) < per_mille;
}

static enum draw draw_of(const struct engine_op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_RECV:
		return DRAW_RECV;
	case OP_SEND:
		return DRAW_SEND;
	default:
		return DRAW_REST;
	}
}

/* --- receives in pieces */

/* The next n bytes of what is left for this descriptor, in a buffer of their own; all there is while there is none. */
static int next_piece(struct engine *e, struct engine_op *op, struct victim *v, uint32_t n)
{
	struct buf *b = v->rest, *piece = buf_get(e->bufs, (enum buf_class)b->cls);
	uint32_t    left = b->len - v->at;

	if (!piece || n >= left) {
		buf_unref(piece);
		memmove(b->data, b->data + v->at, left);
		b->len = left;
		op->buf = b;
		v->rest = NULL;
		v->at = 0;
		return (int)left;
	}
	memcpy(piece->data, b->data + v->at, n);
	piece->len = n;
	v->at += n;
	op->buf = piece;
	return (int)n;
}

bool hostile_recv(struct engine *e, struct engine_op *op)
{
	const struct engine_hostility *how = &e->hostile->how;
	struct victim                 *v = victim_of(e->hostile, op->fd);

	if (v->rest) {
		uint32_t n = chance(v, DRAW_RECV, how->split) ? 1 + draw(v, DRAW_RECV, how->split_max) : UINT32_MAX;

		op_complete_later(e, op, next_piece(e, op, v, n));
		return true;
	}
	if (!chance(v, DRAW_RECV, how->starve))
		return false;
	op_starve(e, op);
	return true;
}

void hostile_forget(struct engine *e, int fd)
{
	struct victim *v;

	if (fd < 0 || fd >= FDS_MAX)
		return;
	v = &e->hostile->victims[fd];
	buf_unref(v->rest);
	*v = (struct victim){ 0 };
}

static int split(struct engine *e, struct engine_op *op, struct victim *v, int res)
{
	if (op->kind != OP_RECV || res <= 1 || op->fd >= FDS_MAX || v->rest /* this is such a piece */ ||
	    !chance(v, DRAW_RECV, e->hostile->how.split))
		return res;
	v->rest = op->buf;
	v->at = 0;
	return next_piece(e, op, v, 1 + draw(v, DRAW_RECV, e->hostile->how.split_max));
}

/* --- sends in pieces */

size_t hostile_cut(struct engine *e, const struct engine_op *op, size_t first)
{
	const struct engine_hostility *how = &e->hostile->how;
	struct victim                 *v = victim_of(e->hostile, op->fd);
	size_t                         n;

	/* Nobody is told here: the kernel itself says so for the next try. */
	if (chance(v, DRAW_SEND, how->error))
		shutdown(op->fd, SHUT_RDWR);
	if (!chance(v, DRAW_SEND, how->split))
		return 0;
	n = 1 + draw(v, DRAW_SEND, how->split_max);
	return n < first ? n : first;
}

/* --- what becomes of a completion */

/*
 * The connection is really dead afterwards, so that what follows fits.  What came before a send failed can still be
 * received: it may be the answer that says why.
 */
static int fail(struct engine *e, struct engine_op *op, struct victim *v, int res)
{
	if (res < 0 || !chance(v, draw_of(op), e->hostile->how.error))
		return res;
	switch ((enum op_kind)op->kind) {
	case OP_RECV:
	case OP_PIPE_IN:
		if (res > 0)
			buf_unref(op->buf);
		op->buf = NULL;
		buf_unref(v->rest);
		v->rest = NULL;
		res = -ECONNRESET;
		break;
	case OP_SEND:
	case OP_PIPE_OUT:
		res = -EPIPE;
		break;
	case OP_CONNECT:
		res = -ETIMEDOUT;
		break;
	case OP_WATCH:
		res = -ECONNRESET;
		break;
	default:
		return res;
	}
	shutdown(op->fd, SHUT_RDWR);
	return res;
}

/* Turns wrap; nothing is late by half of their range. */
static bool before(uint16_t a, uint16_t b)
{
	return (int16_t)(uint16_t)(a - b) < 0;
}

int hostile_result(struct engine *e, struct engine_op *op, int res, bool *ret_later)
{
	struct hostile *h = e->hostile;
	struct victim  *v = victim_of(h, op->fd);
	enum draw       which = draw_of(op);
	uint16_t        due;

	res = fail(e, op, v, res);
	res = split(e, op, v, res);
	due = chance(v, which, h->how.delay) ? (uint16_t)(h->turn + 1 + draw(v, which, h->how.delay_max)) : h->turn;
	if (h->how.in_order && before(due, v->due))
		due = v->due;
	*ret_later = due != h->turn;
	if (*ret_later) {
		v->due = due;
		op->res = res;
		op->flags |= OP_DONE;
		op->n_iov = due;
		list_push_back(&h->delayed, &op->link);
	}
	return res;
}

/* --- accepts */

static void tell_accepted(struct engine *e, struct late *l)
{
	struct engine_op *op = l->op;
	const uint8_t     more = op->more;

	l->op = NULL;
	op->more = 1; /* its end may be known already */
	op->cb(e, op, l->fd);
	op->more = more;
}

bool hostile_accepted(struct engine *e, struct engine_op *op, int fd)
{
	struct hostile *h = e->hostile;
	struct victim  *v = victim_of(h, op->fd);

	if (chance(v, DRAW_REST, h->how.error)) {
		close(fd); /* it died in the queue: noise */
		return true;
	}
	if (!chance(v, DRAW_REST, h->how.delay))
		return false;
	for (unsigned i = 0; i < LATE_MAX; i++) {
		if (h->late[i].op)
			continue;
		h->late[i] = (struct late){ op, fd, 1 + draw(v, DRAW_REST, h->how.delay_max) };
		return true;
	}
	return false;
}

void hostile_accept_ends(struct engine *e, struct engine_op *op)
{
	for (unsigned i = 0; i < LATE_MAX; i++)
		if (e->hostile->late[i].op == op)
			tell_accepted(e, &e->hostile->late[i]);
}

static int tell_late(struct engine *e, bool *ret_more)
{
	int told = 0;

	for (unsigned i = 0; i < LATE_MAX; i++) {
		struct late *l = &e->hostile->late[i];

		if (!l->op)
			continue;
		if (--l->turns > 0) {
			*ret_more = true;
			continue;
		}
		tell_accepted(e, l);
		told++;
	}
	return told;
}

/* --- the turn */

bool hostile_holds(const struct engine *e)
{
	return !list_empty(&e->hostile->delayed);
}

int hostile_turn(struct engine *e, bool *ret_more)
{
	struct list       now;
	struct list_node *n;
	int               told;

	*ret_more = false;
	e->hostile->turn++;
	told = tell_late(e, ret_more);
	list_init(&now);
	list_splice_back(&now, &e->hostile->delayed);
	while ((n = list_pop_front(&now))) {
		struct engine_op *op = LIST_ENTRY(n, struct engine_op, link);

		if (before(e->hostile->turn, op->n_iov)) {
			list_push_back(&e->hostile->delayed, n);
			continue;
		}
		op->flags &= (uint8_t)~OP_DONE;
		op_tell(e, op, op->res);
		told++;
	}
	*ret_more |= !list_empty(&e->hostile->delayed);
	return told;
}
