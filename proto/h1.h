/*
 * proto/h1.h - HTTP/1.1 on the wire: heads, framing and bodies, without I/O.
 *
 * Shape    Three parsers over contiguous bytes (request, response, trailer section), one body
 *          decoder that is fed pieces, one encoder.  Nothing here allocates, copies a body, reads a
 *          clock or writes a log.
 * Input    Bytes the caller keeps.  struct http_head points into them, so they must stay as long as
 *          the head.  A parser never reads behind p + n.
 * Output   Parsers return the bytes consumed (> 0), 0 for "need more", or -(enum http_error).
 * Resume   A parser that wants more is called again with the same bytes and some behind them (the
 *          address may have changed) and the same struct h1_scan.  It looks at new bytes for the
 *          end of the head and parses again when that is there, or when the input has doubled:
 *          linear for any slicing.  An error is told then, or as soon as the bytes are over a
 *          limit; never later than the end of the head.
 * Strict   What two parsers could read differently is refused, never repaired.  The list with its
 *          sections of the RFCs is in proto/README.md, "Strictness"; one test stands for each.
 * Errors   enum http_error; http_error_status() is the answer to a client.
 * Limits   struct h1_limits per head; H1_CHUNK_EXT_MAX, H1_CHUNK_DIGITS_MAX; HTTP_FIELDS_MAX.
 * RFC      9112, and 9110 for what fields mean.
 */
#ifndef RHC_PROTO_H1_H
#define RHC_PROTO_H1_H

#include "proto/http.h"

enum {
	H1_HEAD_MAX = 65536, /* head_max may not be more: name_len is 16 bits wide */
	H1_METHOD_MAX = 32, /* bytes of a method */
	H1_CHUNK_EXT_MAX = 256, /* bytes of the extensions of one chunk */
	H1_CHUNK_DIGITS_MAX = 16, /* of a chunk size, leading zeros included */
	H1_CHUNK_HEAD_MAX = 20, /* what h1_chunk_head() writes at most */
	H1_FRAMING_MAX = 160, /* what the encoder adds to start line and fields at most */
};

struct h1_limits {
	uint32_t head_max; /* bytes of a whole head or trailer section, <= H1_HEAD_MAX */
	uint32_t target_max; /* bytes of a request target */
};

/* How far a head that is not complete has been looked at.  Zero it before each new head. */
struct h1_scan {
	uint32_t seen; /* bytes searched for the end of the head */
	uint32_t parsed; /* bytes that were there at the last parse */
};

/*
 * Before each call h->fields and h->fields_max must be set; everything else is written.
 *
 * A request: ->authority is Host or that of the target (which must agree, RFC 9112 §3.2.2), ->body
 * is NONE, LENGTH or STREAM.  One empty line in front is skipped (RFC 9112 §2.2).
 *
 * A response: ->body follows RFC 9112 §6.3 for the method of the request it answers.  With
 * HTTP_BODY_NONE after HEAD or in a 304, ->body_len is what Content-Length says, for what it is
 * worth.
 *
 * Trailers: only ->fields; framing and routing fields in it are refused (RFC 9110 §6.5.1).
 */
int32_t h1_parse_request(struct h1_scan *scan, const uint8_t *p, uint32_t n,
                         const struct h1_limits *limits, struct http_head *h);
int32_t h1_parse_response(struct h1_scan *scan, const uint8_t *p, uint32_t n,
                          const struct h1_limits *limits, enum http_method asked,
                          struct http_head *h);
int32_t h1_parse_trailers(struct h1_scan *scan, const uint8_t *p, uint32_t n,
                          const struct h1_limits *limits, struct http_head *h);

/* --- bodies in --- */

struct h1_body {
	uint64_t left; /* of the length or of the chunk */
	uint16_t ext; /* bytes of extensions of this chunk so far */
	uint8_t  state;
	uint8_t  digits; /* of the chunk size so far */
};

enum h1_event {
	H1_MORE, /* everything was consumed, and there is more to come */
	H1_DATA, /* *ret_data of the consumed bytes, at its end, are body */
	H1_END, /* the body is complete; what was not consumed belongs to the next message */
	H1_TRAILERS, /* a trailer field follows: give the rest to h1_parse_trailers() */
};

void h1_body_init(struct h1_body *b, enum http_body kind, uint64_t len);
/*
 * Look at p[0..n), n >= 1.  *ret_used bytes are done with; with H1_DATA the last *ret_data of them
 * are body. An enum h1_event, or -HTTP_E_CHUNK / -HTTP_E_BARE_LF / -HTTP_E_BARE_CR.
 */
int h1_body_feed(struct h1_body *b, const uint8_t *p, uint32_t n, uint32_t *ret_used,
                 uint32_t *ret_data);
/*
 * The sender closed: may the body end here?  true for HTTP_BODY_CLOSE, TUNNEL, and complete ones.
 */
bool h1_body_eof(const struct h1_body *b);
/* true when no byte is missing (a body of length 0 from the start) */
bool h1_body_done(const struct h1_body *b);

/* --- out --- */

/* How a body is framed on the wire. */
enum h1_framing {
	H1_FRAME_NONE, /* nothing is said: a request without a body, 1xx, 204, a tunnel */
	H1_FRAME_LENGTH, /* Content-Length: head->body_len; 0 with HTTP_BODY_NONE */
	H1_FRAME_CHUNKED,
	H1_FRAME_CLOSE, /* a response to HTTP/1.0 without a length */
	H1_FRAME_COPY, /* response to HEAD, or 304: Content-Length of ->fields, if it is there */
};

enum h1_connection { H1_CONN_NOTHING, H1_CONN_CLOSE, H1_CONN_KEEP_ALIVE };

/* For a request: from ->body.  TUNNEL (CONNECT) is framed as NONE. */
enum h1_framing h1_request_framing(const struct http_head *h);
/* For a response to a request with that method and version; 1.0 knows no chunks. */
enum h1_framing h1_response_framing(const struct http_head *h, enum http_method asked,
                                    enum http_version peer);

/* An upper bound of what h1_encode() writes. */
uint32_t h1_encode_bound(const struct http_head *h);
/*
 * Write a head: a request when ->status is 0.  Fields with HTTP_FIELD_DROP are left out, and so are
 * Host, Content-Length, Transfer-Encoding, Connection and TE, which are written from ->authority,
 * the framing, conn and ->te_trailers.  With ->upgrade, Upgrade is written (DROP or not) and
 * Connection names it.
 *
 * The number of bytes; -E2BIG when cap < h1_encode_bound(); -EINVAL for a method, target, reason,
 * name or value that cannot stand there (CR, LF, NUL, ...): nothing of it may be sent then.
 */
int h1_encode(uint8_t *out, uint32_t cap, const struct http_head *h, enum h1_framing framing,
              enum h1_connection conn);

/*
 * "1a2b\r\n" into out (H1_CHUNK_HEAD_MAX bytes); the bytes written.  n > 0: 0 would end the body.
 */
uint32_t h1_chunk_head(uint8_t *out, uint32_t n);
/*
 * "0\r\n", the trailer fields (t may be NULL), "\r\n".  Bytes, -E2BIG or -EINVAL as above.  Fields
 * that may not be trailers (RFC 9110 §6.5.1) are left out.
 */
int h1_last_chunk(uint8_t *out, uint32_t cap, const struct http_head *t);
uint32_t h1_last_chunk_bound(const struct http_head *t);

/* Is it a field that may not stand in a trailer section? */
bool h1_trailer_forbidden(enum http_field_id id);

#endif
