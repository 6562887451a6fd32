/*
 * proto/h2_private.h - what the h2 files share.
 *
 * h2.c drives the session, h2_event.c hears of it, h2_head.c makes heads of header blocks,
 * h2_send.c makes header blocks of heads.
 */
#ifndef RHC_PROTO_H2_PRIVATE_H
#define RHC_PROTO_H2_PRIVATE_H

#include <nghttp2/nghttp2.h>

#include "proto/h2.h"

/* --- h2_head.c: the header block being received --- */

/* A header block for s begins; s may be NULL (nobody's): it is decoded and dropped. */
void h2_head_begin(struct h2 *h, struct h2_stream *s, enum h2_part part);
/* One field of it, pseudo or not.  Errors are kept in h->in. */
void h2_head_field(struct h2 *h, struct http_str name, struct http_str value, bool never_indexed);
/* nghttp2 found this field malformed */
void h2_head_invalid(struct h2 *h, struct http_str name, struct http_str value);
/* The block is complete: HTTP_OK and h->in.mem.head is ready, or what is wrong with it. */
enum http_error h2_head_end(struct h2 *h, bool end);

/* --- h2.c --- */

/*
 * No more work then: what is begun is finished, because nghttp2 does not survive a failed
 * allocation.
 */
bool h2_over_memory(const struct h2 *h);
/* What hangs on a stream the session has forgotten. */
void h2_stream_forget(struct h2 *h, struct h2_stream *s);

/* --- h2_event.c --- */

int h2_callbacks_new(nghttp2_session_callbacks **ret); /* 0 or -ENOMEM */

/* --- h2_send.c --- */

enum { H2_NV_MAX = HTTP_FIELDS_MAX + 8 };

/* Trailers that wait behind a body: one block of h->mem, strings behind the array. */
struct h2_trailers {
	size_t     n;
	nghttp2_nv nv[];
};

/* The body bytes of a stream, for nghttp2_submit_*(). */
extern const nghttp2_data_provider h2_body_provider;

/* Submit what waits in s->trailers and free it. */
int h2_trailers_submit(struct h2 *h, struct h2_stream *s);
/* The response to a request the caller never saw: status, no body. */
int h2_answer(struct h2 *h, struct h2_stream *s, uint16_t status);

/* 0 or -errno of an nghttp2 error */
int h2_errno(int lib_error);

#endif
