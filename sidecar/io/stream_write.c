#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

#include "sidecar/base/obj.h"
#include "sidecar/io/stream_private.h"

enum { SMALL_SLICE = 256 }; /* copying fewer bytes costs less than a segment */

size_t stream_txq_size(void)
{
	return sizeof(struct txq);
}

static struct txlist *wire(struct stream *s)
{
	return s->tls != NULL ? &s->tls->out : &s->tx;
}

static bool writable(const struct stream *s)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	if (s->state >= STREAM_CLOSING)
		return false;
	assert(!s->shut_wr);
	return s->err == STREAM_OK && !s->broken;
}

static void wrote(struct stream *s, uint32_t n, bool all)
{
	s->queued += n;
	if (!all)
		stream_fail(s, STREAM_E_NO_BUFFERS, 0, NULL);
	stream_kick(s);
}

void stream_write_copy(struct stream *s, const void *p, uint32_t n)
{
	if (!writable(s) || n == 0)
		return;
	uint32_t took = txlist_copy(&s->tx, stream_mem(s), p, n);
	wrote(s, took, took == n);
}

void stream_write(struct stream *s, struct slice data)
{
	if (slice_is_pipe(data)) {
		assert(s->tls == NULL);
		if (!writable(s)) {
			slice_drop(data);
			return;
		}
	} else if (data.buf == NULL || data.n <= SMALL_SLICE || !writable(s)) {
		stream_write_copy(s, data.p, data.n);
		slice_drop(data);
		return;
	}
	uint32_t n = data.n;
	bool ok = txlist_put(&s->tx, stream_mem(s), data);
	wrote(s, ok ? n : 0, ok);
}

uint8_t *stream_reserve(struct stream *s, uint32_t n)
{
	return writable(s) ? txlist_reserve(&s->tx, stream_mem(s), n) : NULL;
}

void stream_commit(struct stream *s, uint32_t n)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	txlist_commit(&s->tx, stream_mem(s), n);
	if (n > 0)
		wrote(s, n, true);
}

uint32_t stream_queued(const struct stream *s)
{
	return s->queued;
}

void stream_shutdown(struct stream *s)
{
	OBJ_CHECK(s, STREAM_MAGIC);
	s->shut_wr = true;
	stream_kick(s);
}

bool stream_all_sent(struct stream *s)
{
	if (s->broken)
		return true;
	if (engine_busy(&s->txop) || wire(s)->bytes > 0)
		return false;
	/* After a failure of TLS only its alert is of use. */
	return s->tls == NULL || s->err != STREAM_OK || (s->tx.bytes == 0 && s->tls->notified);
}

static void send_next(struct stream *s)
{
	if (engine_busy(&s->txop) || wire(s)->bytes == 0)
		return;
	struct txq *q = wire(s)->head;
	if (!q->sealed) /* else it is a pipe of which some bytes have left */
		txlist_seal(wire(s));
	if (q->pipe)
		engine_send_pipe(s->env->engine, &s->txop, s->fd, q->seg[0].buf);
	else
		engine_send(s->env->engine, &s->txop, s->fd, q->iov, q->n);
}

/*
 * Everything about sending that is due; FIN when everything has left (a close does it while
 * joining).
 */
void stream_push(struct stream *s)
{
	if (s->broken)
		return;
	if (s->tls != NULL && s->opened && s->err == STREAM_OK)
		stream_tls_encrypt(s);
	if (s->tls != NULL && s->shut_wr && s->state != STREAM_HANDSHAKE && s->tx.bytes == 0 &&
	    !s->tls->notified)
		stream_tls_notify(s);
	send_next(s);
	if (s->shut_wr && !s->fin_sent && s->state == STREAM_OPEN && stream_all_sent(s)) {
		s->fin_sent = true;
		shutdown(s->fd, SHUT_WR);
	}
}

/*
 * The socket takes no more.  The peer may have answered before it went (413 and RST): while reading
 * is wanted the receive delivers that first and then reports the end itself.
 */
void stream_send_failed(struct stream *s, int err)
{
	s->broken = true;
	s->sys_errno = err;
	if (s->state != STREAM_OPEN || !s->want || s->eof_seen)
		stream_fail(s, STREAM_E_RESET, err, NULL);
	stream_kick(s);
}

/* n bytes less are queued: what is due now, and the owner is told. */
static void progress(struct stream *s, uint32_t n)
{
	s->queued -= n;
	stream_refilled(s->env);
	if (wire(s)->bytes > 0 || s->tx.bytes > 0 || s->shut_wr)
		stream_kick(s);
	if (n > 0 && s->state == STREAM_OPEN && s->err == STREAM_OK)
		s->ev->on_sent(s, n);
}

void stream_on_sent(struct engine *e, struct engine_op *op, int res)
{
	(void)e;
	struct stream *s = CONTAINER_OF(op, struct stream, txop);
	OBJ_CHECK(s, STREAM_MAGIC);
	if (s->state == STREAM_JOINING) {
		stream_finish(s);
		return;
	}
	struct txq *q = wire(s)->head;
	if (res > 0 && q->pipe && (uint32_t)res < q->bytes) {
		txlist_sent(wire(s), (uint32_t)res);
		progress(s, (uint32_t)res);
		return;
	}
	if (res < 0 || (uint32_t)res != q->bytes) {
		stream_send_failed(s, res < 0 ? -res : EPIPE);
		return;
	}
	uint32_t n = s->tls != NULL ? q->plain : q->bytes;
	txlist_pop(wire(s), stream_mem(s));
	progress(s, n);
}
