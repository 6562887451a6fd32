#include "sidecar/base/pipe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

_Static_assert(offsetof(struct pipe, buf) == 0, "pipe_of() relies on it");

static uint8_t nothing[1]; /* ->data of every pipe: an address, and no bytes */

int pipe_pool_init(struct pipe_pool *pool, uint32_t count)
{
	*pool = (struct pipe_pool){ .all = calloc(count, sizeof(*pool->all)) };
	if (!pool->all)
		return -ENOMEM;
	pool->count = pool->n_free = count;
	for (uint32_t i = count; i-- > 0;) {
		struct pipe *p = &pool->all[i];

		*p = (struct pipe){ .buf = { .data = nothing, .cls = BUF_PIPE }, .pool = pool,
			            .next = pool->free, .rd = -1, .wr = -1 };
		pool->free = p;
	}
	return 0;
}

static void shut(struct pipe *p)
{
	if (p->rd < 0)
		return;
	close(p->rd);
	close(p->wr);
	p->rd = p->wr = -1;
	p->pool->n_open--;
}

void pipe_pool_fini(struct pipe_pool *pool)
{
	assert(pool->n_free == pool->count);
	for (uint32_t i = 0; i < pool->count; i++)
		shut(&pool->all[i]);
	free(pool->all);
	*pool = (struct pipe_pool){ 0 };
}

void pipe_refuse(struct pipe_pool *pool)
{
	pool->skip = PIPE_REFUSED_SKIP;
}

/* false: no descriptor, or a pipe too small to be of use. */
static bool ready(struct pipe *p)
{
	int fd[2];

	if (p->rd >= 0)
		return true;
	if (p->pool->skip > 0) {
		p->pool->skip--;
		return false;
	}
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) != 0) {
		pipe_refuse(p->pool);
		return false;
	}
	p->rd = fd[0];
	p->wr = fd[1];
	p->pool->n_open++;
	/* Refused is fine: what it has by default is enough, unless this user has very many already. */
	(void)fcntl(p->wr, F_SETPIPE_SZ, PIPE_BYTES);
	if (fcntl(p->wr, F_GETPIPE_SZ) >= PIPE_BYTES_MIN)
		return true;
	shut(p);
	pipe_refuse(p->pool);
	return false;
}

struct buf *pipe_get(struct pipe_pool *pool)
{
	struct pipe *p = pool ? pool->free : NULL;

	if (!p || !ready(p))
		return NULL;
	assert(p->buf.refs == 0 && p->buf.len == 0);
	pool->free = p->next;
	pool->n_free--;
	p->next = NULL;
	p->buf.refs = 1;
	return &p->buf;
}

void pipe_put(struct buf *b)
{
	struct pipe *p = pipe_of(b);

	if (b->len > 0)
		shut(p);
	b->len = 0;
	p->next = p->pool->free;
	p->pool->free = p;
	p->pool->n_free++;
}
