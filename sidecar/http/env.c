#include "sidecar/http/env.h"

#include "sidecar/http/h2_conn.h"

static int one(struct slab *s, const char *name, size_t size, uint32_t count)
{
	return slab_init(s, name, size, count ? count : 1);
}

int http_env_init(struct http_env *env, struct http_slabs *slabs, const struct http_sizes *sizes,
                  struct engine *engine, struct buf_pool *bufs, struct timer_wheel *timers)
{
	/* a stream has one vector in flight and one being filled, each may go on in a second */
	const struct {
		struct slab *slab;
		const char  *name;
		size_t       size;
		uint32_t     count;
	} want[] = {
		{ &slabs->txq, "txq", stream_txq_size(), sizes->conns * 4 },
		{ &slabs->tls, "tls", stream_tls_size(), sizes->tls },
		{ &slabs->conn, "conn", sizeof(struct http_conn), sizes->conns },
		{ &slabs->h2, "h2", h2_conn_size, sizes->h2_conns },
		{ &slabs->h2_stream, "h2_stream", h2_stream_size, sizes->h2_streams },
		{ &slabs->head, "head", sizeof(struct http_head_store), sizes->messages },
		{ &slabs->rx, "rx", H1_RX_SLICES * sizeof(struct slice), sizes->conns },
	};
	unsigned done = 0;
	int rc = 0;

	for (; done < ARRAY_LEN(want) && rc == 0; done++)
		rc = one(want[done].slab, want[done].name, want[done].size, want[done].count);
	if (rc != 0) {
		for (done--; done > 0; done--)
			slab_fini(want[done - 1].slab);
		return rc;
	}
	*env = (struct http_env){
		.stream = { .engine = engine, .bufs = bufs, .txq_slab = &slabs->txq, .tls_slab = &slabs->tls },
		.timers = timers,
		.conn_slab = &slabs->conn,
		.h2_slab = &slabs->h2,
		.h2_stream_slab = &slabs->h2_stream,
		.head_slab = &slabs->head,
		.rx_slab = &slabs->rx,
	};
	return 0;
}

void http_env_fini(struct http_env *env, struct http_slabs *slabs)
{
	slab_fini(&slabs->txq);
	slab_fini(&slabs->tls);
	slab_fini(&slabs->conn);
	slab_fini(&slabs->h2);
	slab_fini(&slabs->h2_stream);
	slab_fini(&slabs->head);
	slab_fini(&slabs->rx);
	*env = (struct http_env){ 0 };
}
