/*
 * sidecar/http/h2_private.h - what the h2_*.c of this folder share; nobody else includes it.
 *
 * h2_conn.c    life: start, bytes in, the pump at the end of a turn, drain, close
 * h2_timer.c   deadlines: idle, head, ping, drain; one timer for all
 * h2_event.c   events of the codec -> messages
 * h2_msg.c     message_ops -> codec; a message's birth, errors and death
 * h2_out.c     a message's queued slices; the order of what was sent
 */
#ifndef RHC_SIDECAR_HTTP_H2_PRIVATE_H
#define RHC_SIDECAR_HTTP_H2_PRIVATE_H

#include "proto/h2.h"
#include "sidecar/base/obj.h"
#include "sidecar/http/h2_conn.h"

enum {
	H2_CONN_MAGIC = 0x4832434e,
	H2_MSG_MAGIC = 0x48324d53,

	H2_SLICES = 64, /* of a message, a power of two: 24, then gathered into whole buffers */
	H2_SLICES_LOOSE = 24,
	H2_GATHER_MAX = BUF_LARGE_SIZE / 4, /* a smaller slice pins much more than it holds */
	H2_HELD_LOOSE = 4, /* inbound slices held before small ones are gathered */
	H2_MARKS = 128, /* frames queued and not yet sent, a power of two */
	H2_MARKS_SPARE = 16, /* that DATA leaves to heads without a body; a frame adds one at most */
	H2_REPLIES_MAX = 32 * 1024, /* frames but DATA queued, beyond which nothing is read */
};
#define H2_DRAIN_NS NS_PER_S /* the round trip of a graceful end, at most */
#define H2_LINGER_NS NS_PER_S /* between FIN and RST */

/* Slices in order.  What is in them has been told to the codec and not yet put on the wire. */
struct h2_slices {
	struct slice s[H2_SLICES];
	uint8_t      first, n;
	struct buf  *gather; /* of the last slice, ours to append to; its reference */
};

/* What lies in the byte stream: `lead` bytes of frames, then `body` bytes of one message. */
struct h2_mark {
	struct h2_msg *m; /* NULL: nobody is interested (any more) */
	uint32_t       lead, body;
	bool           end; /* the message's outbound half ends here */
};

struct h2_marks {
	struct h2_mark q[H2_MARKS];
	uint32_t       first, n;
	uint32_t       tail; /* bytes of frames behind the last mark */
	uint32_t       lead; /* bytes of frames in all */
};

struct h2_msg {
	struct message          m; /* its magic is H2_MSG_MAGIC */
	struct h2_stream        s;
	struct h2_conn         *hc;
	struct http_env        *env;
	struct list_node        node;
	struct http_head_store *store, *trailers;
	struct buf             *in_gather; /* small inbound pieces for a slow receiver */
	uint32_t                in_unconsumed; /* bytes */
	uint32_t                in_held; /* slices delivered since it last had none */
	uint32_t                lost; /* outbound body bytes dropped, to be reported as sent */
	uint32_t                marks; /* that point to us */
	uint64_t                rx_at_send; /* ->rx_bytes when our head left */
	bool                    live : 1; /* the exchange has it */
	bool                    told : 1; /* on_error was called */
	bool                    closed : 1; /* the codec has forgotten it */
	bool                    over : 1; /* counted in ->n_over */
	bool                    out_lost : 1; /* the peer takes no more of the outbound half */
	bool                    out_gone : 1; /* END_STREAM lies in the byte stream */
	bool                    all_told : 1; /* on_sent with all was called */
	bool                    refused : 1; /* to be told at the end of the turn */
	struct h2_slices        out;
};

struct h2_conn {
	uint32_t               magic;
	struct http_conn      *c;
	struct h2              h2;
	struct engine_deferred work;
	struct list            msgs;
	uint32_t               n_msgs; /* with those that were released and still drain */
	uint32_t               n_over; /* of these: both halves ended well, and what was sent has not all left */
	uint32_t               dropped; /* bytes behind the end */
	struct buf            *rx; /* of what is being fed */
	uint64_t               rx_bytes;
	uint64_t               rx_ns; /* when something last came */
	uint64_t               head_ns; /* an incomplete head since, 0: none */
	uint64_t               ping_ns; /* a PING is unanswered since, 0: none */
	uint64_t               drain_ns; /* server: the final GOAWAY is sent at the latest */
	bool                   want : 1, large : 1;
	bool                   dead : 1; /* the session takes no more calls but h2_detach() */
	bool                   lingering : 1; /* dead, FIN follows what is queued; what comes is dropped */
	bool                   patient : 1; /* lingering may be prolonged once, for what is queued */
	bool                   gone : 1; /* the byte stream is closed and the session freed */
	bool                   drained : 1; /* the final GOAWAY was asked for */
	bool                   losses : 1; /* a message has something to report */
	bool                   capacity_dirty : 1;
	struct h2_marks        marks;
};

#define H2_MSG(stream) CONTAINER_OF(stream, struct h2_msg, s)

extern const struct h2_events h2_conn_events;

/* --- h2_conn.c --- */

void h2_conn_kick(struct h2_conn *hc); /* pump at the end of the turn */
/* Tell every message that cares, and take no more. */
void h2_conn_fail(struct h2_conn *hc, enum message_error err);
/* GOAWAY, what is queued, FIN.  Messages that are open get err. */
void h2_conn_close(struct h2_conn *hc, enum message_error err, const char *why);
/* The timer of a connection that lingers. */
void h2_conn_linger_due(struct h2_conn *hc);
void h2_conn_goodbye(struct h2_conn *hc); /* final GOAWAY; closes with the last message */
void h2_conn_finish(struct h2_conn *hc); /* gone, and the last message was released */

static inline uint64_t h2_now(const struct h2_conn *hc)
{
	return engine_now(hc->c->env->stream.engine);
}

/* --- h2_timer.c --- */

void h2_timer_set(struct h2_conn *hc);

/* --- h2_msg.c --- */

struct h2_msg *h2_msg_new(struct h2_conn *hc); /* NULL: slab empty */
void           h2_msg_free(struct h2_msg *m);
/* The exchange has it now (->m.ev is set). */
void h2_msg_announce(struct h2_msg *m);
void h2_msg_fail(struct h2_msg *m, enum message_error err, bool unprocessed);
/* The connection ends: does this message care? */
bool h2_msg_is_open(const struct h2_msg *m);
bool h2_msg_is_unprocessed(const struct h2_msg *m);
/* What could not be sent counts as sent: the relay goes on and drops it. */
bool h2_msg_has_loss(const struct h2_msg *m);
void h2_msg_report_loss(struct h2_msg *m);
void h2_msg_lose_out(struct h2_msg *m);
bool h2_msg_memory(struct h2_msg *m, enum h2_part part, struct h2_memory *mem, uint32_t need);
void h2_msg_deliver(struct h2_msg *m, const uint8_t *p, uint32_t n);

/* --- h2_out.c --- */

/* Takes data.  false: no room and no buffer. */
bool         h2_slices_put(struct h2_slices *q, struct buf_pool *bufs, struct slice data);
struct slice h2_slices_take(struct h2_slices *q, uint32_t n_max); /* the first, or n_max of it */
uint32_t     h2_slices_drop(struct h2_slices *q); /* all; how many bytes that were */

bool h2_marks_room(const struct h2_marks *q, bool data); /* for a frame, for a DATA frame */
void h2_marks_frame(struct h2_marks *q, uint32_t n);
void h2_marks_body(struct h2_marks *q, struct h2_msg *m, uint32_t n);
void h2_marks_end(struct h2_marks *q, struct h2_msg *m);
void h2_marks_forget(struct h2_marks *q, struct h2_msg *m); /* its unsent bytes are lost */
/*
 * Up to *n sent bytes are taken off the front: what they say to one message.  false: nothing (more)
 * to say.
 */
struct h2_sent {
	struct h2_msg *m; /* may be NULL */
	uint32_t       body;
	bool           end;
};
bool h2_marks_sent(struct h2_marks *q, uint32_t *n, struct h2_sent *ret);

#endif
