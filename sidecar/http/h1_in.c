/*
 * sidecar/http/h1_in.c - bytes that came become the events of the message.
 *
 * h1_pump() takes one step after another until nothing more can be done: each step looks at the
 * first slice of ->rx in the state of the inbound half.  A callback within a step may release the
 * message, end the connection, or begin the next message; so a step never goes on with what it knew
 * before the callback.
 */
#include <string.h>

#include "sidecar/base/pipe.h"
#include "sidecar/http/h1_private.h"

/* --- the receive queue --- */

/* An idle connection has no queue: most are idle, and it is a quarter of what they would own. */
static void rx_give_back(struct h1_state *h)
{
	slab_put(CONTAINER_OF(h, struct http_conn, h1)->env->rx_slab, h->rx);
	h->rx = NULL;
}

bool h1_rx_push(struct h1_state *h, struct slice s)
{
	if (h->rx == NULL)
		h->rx = slab_get(CONTAINER_OF(h, struct http_conn, h1)->env->rx_slab);
	if (h->rx == NULL || h->n_rx == H1_RX_SLICES) {
		slice_drop(s);
		return false;
	}
	h->rx[h->n_rx++] = s;
	return true;
}

void h1_rx_clear(struct h1_state *h)
{
	for (unsigned i = 0; i < h->n_rx; i++)
		slice_drop(h->rx[i]);
	h->n_rx = 0;
	rx_give_back(h);
}

/* The first slice is used up; its reference was dropped or moved. */
static void rx_shift(struct h1_state *h)
{
	h->n_rx--;
	if (h->n_rx == 0)
		rx_give_back(h);
	else
		memmove(&h->rx[0], &h->rx[1], h->n_rx * sizeof(h->rx[0]));
}

static void rx_advance(struct h1_state *h, uint32_t n)
{
	struct slice *s = &h->rx[0];

	assert(n <= s->n);
	s->p += n;
	s->n -= n;
	if (s->n > 0)
		return;
	slice_drop(*s);
	rx_shift(h);
}

/*
 * n bytes of the first slice, from p on, that end where used bytes are done with; with a reference.
 */
static struct slice rx_take(struct h1_state *h, uint32_t used, uint32_t n)
{
	struct slice *s = &h->rx[0], out = { s->buf, s->p + (used - n), n };

	if (used == s->n) { /* the reference moves along */
		rx_shift(h);
		return out;
	}
	if (out.buf != NULL)
		buf_ref(out.buf);
	rx_advance(h, used);
	return out;
}

/* Large buffers are scarce below half of them; below a quarter bodies are read into small ones. */
enum { H1_LARGE_SCARCE = 32 };

/* Large buffers that are free, in sixty-fourths of all. */
static uint32_t large_left(const struct http_conn *c)
{
	const struct buf_class_state *large = &c->env->stream.bufs->cls[BUF_LARGE];

	return large->n_free * 64 / large->count;
}

/*
 * What a body may be ahead of its receiver.  When large buffers get scarce it is one read: receivers that do not read must
 * not hold all there are, or every other call of the worker waits for one.
 */
static uint32_t read_ahead(const struct http_conn *c)
{
	return large_left(c) >= H1_LARGE_SCARCE ? MESSAGE_WINDOW : 1;
}

/* --- bodies that need not be seen */

/*
 * What one pipe may take, 0: no pipe.  Never more than is left of the body: what is behind it, the next request of a
 * pipeline, has to be read.
 */
static uint32_t pipe_bytes(const struct http_conn *c)
{
	const struct h1_state *h = &c->h1;

	if (!h->piped || h->draining)
		return 0;
	if (h->store->head.body != HTTP_BODY_LENGTH)
		return PIPE_BYTES;
	if (h->body.left < H1_PIPE_LAST)
		return 0;
	return h->body.left < PIPE_BYTES ? (uint32_t)h->body.left : PIPE_BYTES;
}

/* Bytes come in as they are and go out as they are. */
static bool may_pipe(const struct http_conn *from, const struct http_conn *to)
{
	const struct h1_state *in = &from->h1, *out = &to->h1;
	bool                   until_close = in->store != NULL && in->store->head.body == HTTP_BODY_CLOSE;

	if (h1_is_ending(from) || h1_is_ending(to) || in->in != H1_IN_BODY || in->tunnel || out->tunnel)
		return false;
	if (stream_is_tls(&from->stream) || stream_is_tls(&to->stream))
		return false;
	if (out->out_framing != H1_FRAME_LENGTH && out->out_framing != H1_FRAME_CLOSE)
		return false;
	return until_close || (in->store->head.body == HTTP_BODY_LENGTH && in->body.left >= H1_PIPE_MIN);
}

void h1_pipe(struct message *in, struct message *out)
{
	struct http_conn *c = in->conn;
	struct h1_state  *h = &c->h1;
	bool              on = out != NULL && (h->piped || may_pipe(c, out->conn));

	if (on == h->piped || c->env->stream.bufs->pipes == NULL)
		return;
	h->piped = on;
	if (!h->pumping)
		h1_want(c);
}

/* --- */

void h1_want(struct http_conn *c)
{
	struct h1_state *h = &c->h1;
	bool             want = h->n_rx < H1_RX_STOP, large = false;
	uint32_t         pipe = 0;

	if (c->closing)
		return;
	if (h->in == H1_IN_BODY) {
		pipe = pipe_bytes(c);
		/* what is in a pipe is more than a window, so they come one by one */
		want = want && (pipe ? h->unconsumed == 0 : h->unconsumed < read_ahead(c));
		/* a length that fits a small buffer is the only body known to need no more */
		large = (h->store == NULL || h->store->head.body != HTTP_BODY_LENGTH ||
		         h->body.left > BUF_SMALL_SIZE) &&
		        large_left(c) >= H1_LARGE_SCARCE / 2;
	}
	stream_pipe(&c->stream, pipe);
	if (want == h->want && large == h->large)
		return;
	h->want = want;
	h->large = large;
	stream_want(&c->stream, want, large);
}

/* --- heads --- */

static int32_t parse(struct http_conn *c, const uint8_t *p, uint32_t n)
{
	struct h1_state       *h = &c->h1;
	const struct h1_limits limits = { c->limits->head_max, c->limits->target_max };

	if (c->role == HTTP_SERVER)
		return h1_parse_request(&h->scan, p, n, &limits, &h->store->head);
	return h1_parse_response(&h->scan, p, n, &limits, (enum http_method)h->asked,
	                         &h->store->head);
}

/*
 * Look at the first slice where it was received.  The store keeps the buffer from then on.
 * > 0: a head was taken; 0: more is needed; < 0: -(enum http_error).
 */
static int32_t head_in_place(struct http_conn *c)
{
	struct h1_state *h = &c->h1;
	int32_t          r = parse(c, h->rx[0].p, h->rx[0].n);

	if (r > 0)
		h->store->buf = rx_take(h, (uint32_t)r, (uint32_t)r).buf;
	return r;
}

/*
 * A head or a trailer section in more than one slice: collect it in one place.  As above, -ENOMEM
 * beside.
 */
static int32_t collect(struct http_conn *c, struct http_head_store *s,
                       int32_t (*read)(struct http_conn *c, const uint8_t *p, uint32_t n))
{
	struct h1_state *h = &c->h1;
	uint32_t         before = s->used, room = c->limits->head_max - before;
	uint32_t         n = h->rx[0].n < room ? h->rx[0].n : room;
	int32_t          r;

	if (!h1_store_append(c, s, h->rx[0].p, n))
		return INT32_MIN;
	r = read(c, h1_store_bytes(s), s->used);
	if (r > 0)
		rx_advance(h, (uint32_t)r - before);
	else if (r == 0)
		rx_advance(h, n);
	return r;
}

void h1_message_begin(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	OBJ_INIT(&h->m, H1_MESSAGE_MAGIC);
	h->m.ops = &h1_ops;
	h->m.conn = c;
	h->m.version = HTTP_1_1;
	h->m.reused = c->served > 0;
	h->live = true;
	h->told = h->all_told = h->expects = false;
	h->tunnel = h->tunnel_asked = h->tunnel_open = false;
	h->piped = false;
	h->unconsumed = 0;
	h->interims = 0;
	c->active = 1;
	c->served++;
}

/* The tunnel is agreed upon: the inbound half goes on as raw bytes. */
void h1_tunnel_open(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	h1_body_init(&h->body, HTTP_BODY_TUNNEL, 0);
	h->in = H1_IN_BODY;
	h->tunnel_open = true;
	h->m.in_ended = false;
}

static void in_ended(struct http_conn *c, struct http_head *trailers)
{
	struct h1_state *h = &c->h1;

	if (h->draining) {
		h1_drained(c);
		return;
	}
	h->in = H1_IN_DONE;
	h->m.in_ended = true;
	h->m.ev->on_end(&h->m, trailers);
	/* the switch was answered before the request had ended */
	if (h->live && h->in == H1_IN_DONE && h->tunnel && !h->tunnel_open)
		h1_tunnel_open(c);
}

static void request_begin(struct http_conn *c)
{
	struct h1_state  *h = &c->h1;
	struct http_head *head = &h->store->head;
	bool              end;

	timer_disarm(&c->timer);
	h1_body_init(&h->body, (enum http_body)head->body, head->body_len);
	end = h1_body_done(&h->body);
	h1_message_begin(c);
	h->in = end ? H1_IN_DONE : H1_IN_BODY;
	h->m.in_ended = end;
	h->m.in_started = true;
	h->peer_version = head->version;
	h->asked = head->method;
	h->te_trailers = head->te_trailers;
	h->keep_alive = head->keep_alive;
	h->expects = head->expect_continue;
	c->ev->on_message(c, &h->m);
	if (h->m.ev != NULL) {
		h->m.ev->on_head(&h->m, head, end);
		return;
	}
	h->live = false;
	c->active = 0;
	h1_refuse(c, 503, "overloaded", "no room for another call", HTTP_OK);
}

/* 100, 102, 103 ...: the final one follows. */
static void interim_response(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	if (++h->interims > H1_INTERIMS_MAX) {
		h1_fail(c, MESSAGE_E_PROTOCOL, HTTP_E_STATUS);
		return;
	}
	h->m.ev->on_head(&h->m, &h->store->head, false);
	if (h->live && h->in == H1_IN_HEAD)
		h1_store_clear(h->store);
}

static void response_begin(struct http_conn *c)
{
	struct h1_state  *h = &c->h1;
	struct http_head *head = &h->store->head;
	bool              end;

	if (head->status < 200 && head->status != 101) {
		interim_response(c);
		return;
	}
	if (head->status == 101 && !h->tunnel_asked) {
		h1_fail(c, MESSAGE_E_PROTOCOL, HTTP_E_STATUS);
		return;
	}
	h->tunnel = h->tunnel_open = head->body == HTTP_BODY_TUNNEL;
	if (h->tunnel) /* what the head of the request ended goes on */
		h->m.out_ended = h->all_told = false;
	h->keep_alive = h->keep_alive && head->keep_alive && !h->tunnel;
	h1_body_init(&h->body, (enum http_body)head->body, head->body_len);
	end = h1_body_done(&h->body);
	h->in = end ? H1_IN_DONE : H1_IN_BODY;
	h->m.in_ended = end;
	if (!h->keep_alive && !c->draining) {
		c->draining = true;
		if (c->ev->on_draining != NULL)
			c->ev->on_draining(c);
	}
	if (h->live && h->in != H1_IN_DEAD)
		h->m.ev->on_head(&h->m, head, end);
}

static void head_refused(struct http_conn *c, enum http_error e)
{
	if (c->role == HTTP_SERVER)
		h1_refuse(c, http_error_status(e), "bad_request", http_error_text(e), e);
	else if (e == HTTP_E_HEAD_TOO_LARGE || e == HTTP_E_FIELDS_TOO_MANY)
		h1_fail(c, MESSAGE_E_HEAD_TOO_LARGE, e);
	else
		h1_fail(c, MESSAGE_E_PROTOCOL, e);
}

static void no_memory(struct http_conn *c)
{
	if (c->role == HTTP_SERVER && !c->h1.live)
		h1_refuse(c, 503, "overloaded", "out of buffers", HTTP_OK);
	else
		h1_fail(c, MESSAGE_E_OVERLOAD, HTTP_OK);
}

/* A head is not complete.  From its first byte on the client has header_timeout. */
static void head_waits(struct http_conn *c)
{
	if (c->role == HTTP_SERVER && c->h1.in == H1_IN_IDLE)
		timer_set_in(c->env->timers, &c->timer, c->limits->header_timeout_ns);
	c->h1.in = H1_IN_HEAD;
}

static bool step_head(struct http_conn *c)
{
	struct h1_state *h = &c->h1;
	int32_t          r;

	if (h->store == NULL && (h->store = h1_store_get(c)) == NULL) {
		no_memory(c);
		return true;
	}
	h->m.in_started = true;
	if (h->store->used == 0 && h->scan.parsed == 0) {
		r = head_in_place(c);
		if (r == 0)
			head_waits(c);
		if (r == 0 && h->n_rx == 1)
			return false;
	} else if (h->store->used == 0 && h->n_rx == 1) {
		return false; /* looked at already */
	} else {
		r = collect(c, h->store, parse);
	}
	if (r == 0)
		return true;
	h->scan = (struct h1_scan){ 0 };
	if (r == INT32_MIN)
		no_memory(c);
	else if (r < 0)
		head_refused(c, (enum http_error)-r);
	else if (c->role == HTTP_SERVER)
		request_begin(c);
	else
		response_begin(c);
	return true;
}

/* --- bodies --- */

static void body_delivered(struct http_conn *c, struct slice s)
{
	struct h1_state *h = &c->h1;

	if (h->draining) {
		h->drained += s.n;
		slice_drop(s);
		if (h->drained > H1_DRAIN_MAX)
			h1_linger(c, "the rest of a request body was too long to be read");
		return;
	}
	h->unconsumed += s.n;
	h->m.in_bytes += s.n;
	h->m.ev->on_body(&h->m, s);
}

static bool step_body(struct http_conn *c)
{
	struct h1_state *h = &c->h1;
	bool             whole = h->draining || slice_is_pipe(h->rx[0]);
	/* a pipe may have gone beyond it */
	uint32_t         left = h->unconsumed < MESSAGE_WINDOW ? MESSAGE_WINDOW - h->unconsumed : 0;
	uint32_t         window = whole ? UINT32_MAX : left;
	uint32_t         n = h->rx[0].n < window ? h->rx[0].n : window, used, data;
	uint64_t         served = c->served;
	int              r;

	if (n == 0)
		return false;
	r = h1_body_feed(&h->body, h->rx[0].p, n, &used, &data);
	if (r < 0) {
		h1_fail(c, MESSAGE_E_PROTOCOL, (enum http_error)-r);
		return true;
	}
	if (r == H1_TRAILERS)
		h->in = H1_IN_TRAILERS;
	if (data > 0)
		body_delivered(c, rx_take(h, used, data));
	else
		rx_advance(h, used);
	if (h->in == H1_IN_BODY && c->served == served && h1_body_done(&h->body))
		in_ended(c, NULL);
	return true;
}

/* --- trailers --- */

static int32_t parse_trailers(struct http_conn *c, const uint8_t *p, uint32_t n)
{
	const struct h1_limits limits = { c->limits->head_max, c->limits->target_max };

	return h1_parse_trailers(&c->h1.scan, p, n, &limits, &c->h1.trailers->head);
}

static bool step_trailers(struct http_conn *c)
{
	struct h1_state *h = &c->h1;
	int32_t          r = INT32_MIN;

	if (h->trailers == NULL)
		h->trailers = h1_store_get(c);
	if (h->trailers != NULL)
		r = collect(c, h->trailers, parse_trailers);
	if (r == 0)
		return true;
	h->scan = (struct h1_scan){ 0 };
	if (r == INT32_MIN)
		no_memory(c);
	else if (r < 0)
		h1_fail(c, MESSAGE_E_PROTOCOL, (enum http_error)-r);
	else
		in_ended(c, h->trailers->head.n_fields > 0 ? &h->trailers->head : NULL);
	return true;
}

/* --- the end of input --- */

static enum message_error lost_error(enum stream_error err, enum message_error orderly)
{
	switch (err) {
	case STREAM_OK:
		return orderly;
	case STREAM_E_TRUNCATED:
		return orderly == MESSAGE_E_EOF ? MESSAGE_E_EOF : MESSAGE_E_INCOMPLETE;
	case STREAM_E_TLS:
	case STREAM_E_TLS_CERT:
	case STREAM_E_TLS_ALERT:
		return MESSAGE_E_TLS;
	case STREAM_E_NO_BUFFERS:
		return MESSAGE_E_OVERLOAD;
	default:
		return MESSAGE_E_RESET;
	}
}

/* FIN came where the limits take it for the end of the caller: conn.h. */
static bool gave_up(const struct http_conn *c)
{
	const struct h1_state *h = &c->h1;
	/* every byte of its length was given: the caller has what it wanted, though our side still waits for the end */
	bool whole = h->m.out_ended || (h->m.out_head && h->out_framing == H1_FRAME_LENGTH && h->out_left == 0);

	return c->role == HTTP_SERVER && c->limits->fin_aborts && h->live && !h->tunnel && !whole;
}

/* Everything that came has been looked at, and no more comes.  true: look again. */
static bool end_of_input(struct http_conn *c)
{
	struct h1_state  *h = &c->h1;
	enum stream_error err = (enum stream_error)h->eof_err;

	switch ((enum h1_in)h->in) {
	case H1_IN_IDLE:
	case H1_IN_HEAD:
		if (h->live)
			h1_fail(c, lost_error(err, h->m.in_started ? MESSAGE_E_INCOMPLETE
			                                           : MESSAGE_E_EOF), HTTP_OK);
		else
			http_conn_close(c, "closed by the peer");
		return false;
	case H1_IN_BODY:
		if (err == STREAM_OK && h1_body_eof(&h->body)) {
			in_ended(c, NULL);
			return true;
		}
		__attribute__((fallthrough));
	case H1_IN_TRAILERS:
		h1_fail(c, lost_error(err, MESSAGE_E_INCOMPLETE), HTTP_OK);
		return false;
	case H1_IN_DONE:
		/* a client that sent FIN behind its request gets its answer, unless that is taken for its end */
		if (err != STREAM_OK || gave_up(c))
			h1_fail(c, lost_error(err, MESSAGE_E_RESET), HTTP_OK);
		return false;
	case H1_IN_DEAD:
		return false;
	}
	return false;
}

/* --- all of it --- */

static bool step(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	if (h->n_rx == 0)
		return false;
	switch ((enum h1_in)h->in) {
	case H1_IN_IDLE:
		if (c->role == HTTP_SERVER)
			return step_head(c);
		/* bytes nobody asked for: they would be read as the next answer */
		h1_fail(c, MESSAGE_E_PROTOCOL, HTTP_E_SYNTAX);
		return false;
	case H1_IN_HEAD:
		return step_head(c);
	case H1_IN_BODY:
		return step_body(c);
	case H1_IN_TRAILERS:
		return step_trailers(c);
	case H1_IN_DONE:
		return false;
	case H1_IN_DEAD:
		break;
	}
	h1_rx_clear(h);
	return false;
}

/*
 * No step can be taken: is that so because no more comes?  Not while a full window or an answer is
 * waited for.
 */
static bool ended(const struct h1_state *h)
{
	return h->eof && (h->n_rx == 0 || h->in == H1_IN_HEAD);
}

void h1_pump(struct http_conn *c)
{
	struct h1_state *h = &c->h1;

	if (h->pumping)
		return;
	h->pumping = true;
	while (step(c) || (ended(h) && end_of_input(c)))
		;
	h->pumping = false;
	h1_want(c);
}
