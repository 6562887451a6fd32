/*
 * proto/h2.h - HTTP/2 as a codec: bytes in and events out, calls in and bytes out.  Both roles.
 *
 * Shape    struct h2 is one connection's session around nghttp2; struct h2_stream is embedded in
 *          the caller's stream object.  The codec holds no body: it is told how many bytes are
 *          ready (h2_body) and says when and how many of them come next on the wire (out_body), so
 *          they can leave by reference.
 * Input    h2_feed() with what arrived, cut anywhere.  A server's input begins with the client's
 *          preface. Body bytes are handed out as pointers into what was fed.
 * Output   h2_pump() appends to the caller's send queue: out() bytes to copy, out_body() the next
 *          bytes of a stream. Frames that calls caused wait in the session until then; so call it
 *          once per turn.
 * Heads    Received: names in lower case, strings copied to memory the caller gives (->memory).
 *          cookie crumbs are joined (RFC 9113 §8.2.3), Host and :authority are compared, fields
 *          that are never indexed on the wire or are credentials get HTTP_FIELD_SECRET.  Sent:
 *          copied, in lower case, without HTTP_FIELD_DROP, hop-by-hop and framing fields;
 *          HTTP_FIELD_SECRET is never indexed (RFC 7541 §7.1).
 * Flow     Windows are given back by h2_consume_stream() and h2_consume_connection() alone.
 * Strict   A malformed message (RFC 9113 §8.1.1) resets its stream with PROTOCOL_ERROR, seen as
 *          closed with H2_CLOSE_MALFORMED and the http_error.  A server answers a request beyond a
 *          limit by itself (431, 414).  PUSH_PROMISE is refused by our settings; Extended CONNECT
 *          is not offered.
 * Errors   h2_feed() and h2_pump(): 0, or -EPROTO (the session is over; h2_pump() once more sends
 *          GOAWAY), -ENOMEM.
 * Limits   head_max, target_max, streams_max, the windows, memory (looked at before each new
 *          piece of work), H2_ACKS_MAX replies not yet pumped, the token bucket of h2_flood.h,
 *          which ends the session with ENHANCE_YOUR_CALM.
 * Reentry  Every event may call every function but h2_feed(), h2_pump() and h2_fini().
 * RFC      9113, 7541, 9110 §6.5.1 (trailers), 9218 (RFC 7540 priorities are not used).
 */
#ifndef RHC_PROTO_H2_H
#define RHC_PROTO_H2_H

#include "proto/h2_flood.h"
#include "proto/h2_mem.h"
#include "proto/http.h"

struct nghttp2_session;
struct h2;
struct h2_trailers;

enum {
	H2_PREFACE_LEN = 24, /* "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" */
	H2_ACKS_MAX = 256,
	H2_HEAD_MAX = 64 * 1024, /* bytes of a head we send, and the largest head_max */
	H2_STREAMS_MAX = 1000, /* the largest streams_max */
	H2_WINDOW_MIN = 16 * 1024,
	H2_WINDOW_MAX = 16 * 1024 * 1024,
	H2_UNREAD_MAX = 64, /* h2_backlog() beyond which the peer should not be read */
	H2_NAME_AGAIN = 256, /* heads after which names of values that vary are indexed anew, when */
	H2_TABLE_FULL = 3072, /* bytes are in the table of 4096 (RFC 7541 §4.1) */
};
extern const char h2_preface[H2_PREFACE_LEN];

/* RFC 9113 §7 */
enum h2_code {
	H2_NO_ERROR = 0,
	H2_PROTOCOL_ERROR = 1,
	H2_INTERNAL_ERROR = 2,
	H2_FLOW_CONTROL_ERROR = 3,
	H2_STREAM_CLOSED = 5,
	H2_REFUSED_STREAM = 7,
	H2_CANCEL = 8,
	H2_ENHANCE_YOUR_CALM = 11,
	H2_HTTP_1_1_REQUIRED = 13,
};

/* Why a stream is over. */
enum h2_close {
	H2_CLOSE_DONE, /* both halves have ended */
	H2_CLOSE_RESET, /* RST_STREAM from the peer; code tells */
	H2_CLOSE_REFUSED, /* by code, by GOAWAY, or never sent: surely unprocessed */
	H2_CLOSE_HTTP_1_1, /* HTTP_1_1_REQUIRED */
	H2_CLOSE_MALFORMED, /* the peer's message was refused; http_error tells */
	H2_CLOSE_LOCAL, /* h2_reset(), or answered by the codec itself */
};

enum h2_part { H2_PART_HEAD /* or an interim one */, H2_PART_TRAILERS };

/* Where a received head goes.  fields and fields_max of *head are set by the caller. */
struct h2_memory {
	struct http_head *head;
	char             *p;
	uint32_t          cap;
	uint32_t          used; /* the codec's */
};

/* One stream; zeroed before use.  All but id is the codec's. */
struct h2_stream {
	int32_t             id; /* 0: none */
	uint32_t            out_ready; /* body bytes told and not yet on the wire */
	uint32_t            in_held; /* body bytes told and not yet consumed, <= the window */
	uint64_t            in_bytes; /* body bytes received */
	uint64_t            in_len; /* Content-Length received, UINT64_MAX: none */
	struct h2_trailers *trailers; /* waiting behind the body */
	uint16_t            http_error; /* enum http_error, why the peer's message was refused */
	uint8_t             method; /* of the request: what a response means depends on it */
	bool                attached : 1; /* the session knows us */
	bool                in_head : 1; /* the final head was received */
	bool                in_end : 1;
	bool                out_open : 1; /* a body may follow: h2_body, h2_end are allowed */
	bool                out_head : 1; /* HEADERS are on the wire */
	bool                out_end : 1; /* no more body will be told */
	bool                idle : 1; /* the session waits for h2_body() */
	bool                rst_in : 1;
	bool                rst_out : 1; /* by us */
	bool                answered : 1; /* by the codec: the caller never saw the request */
};

struct h2_events {
	/*
	 * Output, from h2_pump().  room: may a frame follow now, may a DATA frame?  false ends the
	 * pump until the next call.  Other frames go before DATA, so what stops DATA alone never
	 * holds up GOAWAY.
	 */
	bool (*room)(void *arg, bool data);
	void (*out)(void *arg, const uint8_t *p, size_t n);
	void (*out_body)(void *arg, struct h2_stream *s, uint32_t n);
	/* Markers behind what was appended: the (final or interim) head; END_STREAM. */
	void (*out_head)(void *arg, struct h2_stream *s);
	void (*out_end)(void *arg, struct h2_stream *s);

	/*
	 * Input, from h2_feed().  Server: a stream object, zeroed, for a new request; NULL refuses
	 * it.
	 */
	struct h2_stream *(*open)(void *arg);
	/*
	 * Memory for a head that begins (mem->p is NULL), or at least need bytes in place of mem->p
	 * with mem->used bytes copied over; the strings are relocated by the codec.  need <=
	 * head_max.  false: none to be had, the stream is reset with REFUSED_STREAM (server) or
	 * CANCEL.
	 */
	bool (*memory)(void *arg, struct h2_stream *s, enum h2_part part, struct h2_memory *mem,
	               uint32_t need);
	/*
	 * final or 1xx head; the last one with status >= 200 or a request.  end: nothing follows.
	 */
	void (*head)(void *arg, struct h2_stream *s, struct http_head *h, bool end);
	void (*data)(void *arg, struct h2_stream *s, const uint8_t *p, uint32_t n);
	void (*end)(void *arg, struct h2_stream *s, struct http_head *trailers); /* NULL: none */
	void (*settings)(void *arg); /* came: h2_streams_allowed() may have changed */
	void (*goaway)(void *arg, uint32_t code, int32_t last_id);
	void (*pong)(void *arg, uint64_t opaque);

	/* Either.  The session has forgotten s, its memory is the caller's again. */
	void (*closed)(void *arg, struct h2_stream *s, enum h2_close why, uint32_t code);
};

struct h2_config {
	bool                    server;
	const struct h2_events *ev;
	void                   *arg;
	uint32_t                streams_max; /* advertised (server) */
	uint32_t                window; /* of a stream */
	uint32_t                window_connection;
	uint32_t                head_max;
	uint32_t                target_max;
	uint64_t                now_ms;
};

struct h2 {
	struct nghttp2_session *session;
	struct h2_config        conf;
	struct h2_mem           mem;
	size_t                  mem_max; /* live bytes beyond which no more work is taken */
	struct h2_flood         flood;
	uint64_t                now_ms;
	struct {
		struct h2_stream *s; /* whose header block is being received; NULL: nobody's */
		struct h2_memory  mem;
		uint8_t           part; /* enum h2_part */
		uint8_t           error; /* enum http_error: the rest of the block is skipped */
		bool              no_memory;
		bool              host; /* a Host field was seen */
		struct http_str   host_value;
		uint8_t           n_cookies;
	} in;
	struct h2_stream *last; /* looked up last; NULL when it was forgotten */
	uint64_t named; /* 1 << enum http_field_id: its name is in the table of what we send, probably */
	uint32_t heads; /* sent, to renew `named` */
	uint32_t frame_data; /* payload of the DATA frame being received */
	bool     in_block; /* a header block has begun and not ended */
	bool     greeted; /* the peer's first SETTINGS came */
	uint32_t own_resets; /* RST_STREAM of ours not yet on the wire: not charged */
	uint32_t goaway_code; /* of the GOAWAY we sent for an error */
	bool     goaway_error; /* we ended the session for an error of the peer */
	bool     calm; /* ... because of a flood */
	bool     shut; /* h2_shutdown() or h2_terminate() was called */
	bool     broken; /* no call into the session any more */
	bool     feeding : 1, pumping : 1;
};

/*
 * Preface (client), SETTINGS and the connection's WINDOW_UPDATE wait for h2_pump().  0 or -ENOMEM.
 */
int  h2_init(struct h2 *h, const struct h2_config *conf);
void h2_fini(struct h2 *h); /* not from an event; every stream was closed or detached */

/* Input.  0, or -EPROTO, -ENOMEM. */
int h2_feed(struct h2 *h, const uint8_t *p, size_t n, uint64_t now_ms);
/* Output until nothing is left or ->room says no.  0, or -EPROTO, -ENOMEM. */
int h2_pump(struct h2 *h);

bool h2_wants_pump(const struct h2 *h);
/* Neither reads nor writes any more: close the transport when everything has left. */
bool h2_over(const struct h2 *h);
/* Frames waiting in the session: a peer that makes us reply and does not read makes it grow. */
uint32_t h2_backlog(const struct h2 *h);
/* A header block or the preface is incomplete: the header timeout runs. */
bool h2_in_head(const struct h2 *h);

/*
 * Client: a request on a new stream.  end: no body.  0, or -E2BIG (more than H2_HEAD_MAX), -EINVAL
 * (a byte in it that must not be sent), -EAGAIN (stream ids are used up), -ENOMEM.  After GOAWAY it
 * is closed as H2_CLOSE_REFUSED.
 */
int h2_request(struct h2 *h, struct h2_stream *s, const struct http_head *head, bool end);
/*
 * Server: an interim (status < 200) or the final response.  Errors as above, -EPIPE: the stream is
 * closed.
 */
int h2_response(struct h2 *h, struct h2_stream *s, const struct http_head *head, bool end);

void h2_body(struct h2 *h, struct h2_stream *s, uint32_t n); /* n more body bytes are ready */
/*
 * No more body.  trailers (may be NULL) are copied.  0, or -E2BIG, -EINVAL, -ENOMEM: ended without
 * trailers.
 */
int h2_end(struct h2 *h, struct h2_stream *s, const struct http_head *trailers);
/* RST_STREAM.  `closed` follows from h2_pump(), unless the stream is closed or detached. */
void h2_reset(struct h2 *h, struct h2_stream *s, enum h2_code code);
/*
 * The caller forgets the stream: no event of it follows, and its memory is free on return.  What is
 * still open is reset with code.
 */
void h2_detach(struct h2 *h, struct h2_stream *s, enum h2_code code);

void h2_consume_stream(struct h2 *h, struct h2_stream *s, uint32_t n);
void h2_consume_connection(struct h2 *h, uint32_t n);

void h2_ping(struct h2 *h, uint64_t opaque);
/*
 * Server: announce the end (GOAWAY with the highest id); h2_shutdown() a round trip later makes it
 * final.
 */
void h2_shutdown_notice(struct h2 *h);
/* GOAWAY(NO_ERROR) with the last stream that came; those that are open go on. */
void h2_shutdown(struct h2 *h);
/* GOAWAY with code, and nothing more. */
void h2_terminate(struct h2 *h, enum h2_code code);

/* Client: how many streams the peer allows at once; 100 until its SETTINGS come.  May be 0. */
uint32_t h2_streams_allowed(const struct h2 *h);
/* Why the session ended, for logs: "flood", "protocol error", ... or NULL. */
const char *h2_failure(const struct h2 *h);

#endif
