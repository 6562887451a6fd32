#include "sidecar/io/engine_hostile.h"

#include <errno.h>
#include <stdlib.h>

#include "sidecar/base/random.h"
#include "sidecar/io/engine_impl.h"

enum { FDS_MAX = 4096, SPLIT_MAX = 7, DELAY_MAX = 8 };

/* Bytes that have been received and not yet been let through. */
struct rest {
	struct buf *buf;
	uint32_t    at;
};

struct hostile {
	struct engine_hostility how;
	struct rng              rng;
	struct list             delayed; /* ->n_iov counts down the turns */
	struct rest             rests[FDS_MAX]; /* per descriptor */
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
	rng_init_from(&h->rng, how->seed);
	list_init(&h->delayed);
	e->hostile = h;
	return 0;
}

void hostile_fini(struct engine *e)
{
	for (int fd = 0; fd < FDS_MAX; fd++)
		hostile_forget(e, fd);
	free(e->hostile);
}

static bool chance(struct hostile *h, uint32_t per_mille)
{
	return rng_below(&h->rng, 1000) < per_mille;
}

/* --- receives in pieces */

/* The next piece of what is left for this descriptor, in a buffer of its own while there are any. */
static int next_piece(struct engine *e, struct engine_op *op, struct rest *r)
{
	struct hostile *h = e->hostile;
	struct buf     *b = r->buf, *piece = buf_get(e->bufs, (enum buf_class)b->cls);
	uint32_t        left = b->len - r->at;
	uint32_t        n = 1 + (uint32_t)rng_below(&h->rng, h->how.split_max);

	if (!piece || n >= left) {
		buf_unref(piece);
		memmove(b->data, b->data + r->at, left);
		b->len = left;
		op->buf = b;
		*r = (struct rest){ 0 };
		return (int)left;
	}
	memcpy(piece->data, b->data + r->at, n);
	piece->len = n;
	r->at += n;
	op->buf = piece;
	return (int)n;
}

bool hostile_recv(struct engine *e, struct engine_op *op)
{
	struct rest *r = op->fd < FDS_MAX ? &e->hostile->rests[op->fd] : NULL;

	if (!r || !r->buf)
		return false;
	op_complete_later(e, op, next_piece(e, op, r));
	return true;
}

void hostile_forget(struct engine *e, int fd)
{
	if (fd >= 0 && fd < FDS_MAX) {
		buf_unref(e->hostile->rests[fd].buf);
		e->hostile->rests[fd] = (struct rest){ 0 };
	}
}

/* --- what becomes of a completion */

static int split(struct engine *e, struct engine_op *op, int res)
{
	struct hostile *h = e->hostile;
	struct rest    *r;

	if (op->kind != OP_RECV || res <= 1 || op->fd >= FDS_MAX || !chance(h, h->how.split))
		return res;
	r = &h->rests[op->fd];
	if (r->buf) /* this is such a piece */
		return res;
	*r = (struct rest){ .buf = op->buf };
	return next_piece(e, op, r);
}

/* The connection is really dead afterwards, so that what follows fits. */
static int fail(struct engine *e, struct engine_op *op, int res)
{
	struct hostile *h = e->hostile;

	if (res < 0 || !chance(h, h->how.error))
		return res;
	switch ((enum op_kind)op->kind) {
	case OP_RECV:
		if (res > 0)
			buf_unref(op->buf);
		op->buf = NULL;
		res = -ECONNRESET;
		break;
	case OP_SEND:
		res = -EPIPE;
		break;
	case OP_CONNECT:
		res = -ETIMEDOUT;
		break;
	default:
		return res;
	}
	hostile_forget(e, op->fd);
	shutdown(op->fd, SHUT_RDWR);
	return res;
}

int hostile_result(struct engine *e, struct engine_op *op, int res, bool *ret_later)
{
	struct hostile *h = e->hostile;

	res = fail(e, op, res);
	res = split(e, op, res);
	*ret_later = chance(h, h->how.delay);
	if (*ret_later) {
		op->res = res;
		op->flags |= OP_DONE;
		op->n_iov = (uint16_t)(1 + rng_below(&h->rng, h->how.delay_max));
		list_push_back(&h->delayed, &op->link);
	}
	return res;
}

int hostile_turn(struct engine *e, bool *ret_more)
{
	struct list       now;
	struct list_node *n;
	int               told = 0;

	list_init(&now);
	list_splice_back(&now, &e->hostile->delayed);
	while ((n = list_pop_front(&now))) {
		struct engine_op *op = LIST_ENTRY(n, struct engine_op, link);

		if (--op->n_iov > 0) {
			list_push_back(&e->hostile->delayed, n);
			continue;
		}
		op->flags &= (uint8_t)~OP_DONE;
		op_tell(e, op, op->res);
		told++;
	}
	*ret_more = !list_empty(&e->hostile->delayed);
	return told;
}
