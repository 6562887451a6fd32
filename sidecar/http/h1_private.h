/*
 * sidecar/http/h1_private.h - what the h1_*.c of this folder share; nobody else includes it.
 *
 * h1_conn.c   life: events of the stream, timeouts, the end of messages
 * h1_in.c     bytes -> events         h1_out.c   message_ops -> bytes
 * h1_store.c  memory of heads         h1_reply.c answers of the connection itself
 */
#ifndef RHC_SIDECAR_HTTP_H1_PRIVATE_H
#define RHC_SIDECAR_HTTP_H1_PRIVATE_H

#include "sidecar/base/obj.h"
#include "sidecar/http/h1_conn.h"

enum { H1_MESSAGE_MAGIC = 0x48314d53 };

/* --- h1_in.c --- */

/* Move what waits in ->rx as far as it goes, then the end of input, then ask for more. */
void h1_pump(struct http_conn *c);
void h1_want(struct http_conn *c); /* tell the stream whether to read, and into what */
bool h1_rx_push(struct h1_state *h, struct slice s); /* takes s; false: the queue is full, s is dropped */
void h1_pipe(struct message *in, struct message *out);
void h1_rx_clear(struct h1_state *h);
void h1_tunnel_open(struct http_conn *c);
void h1_message_begin(struct http_conn *c);

/* --- h1_conn.c --- */

void h1_later(struct http_conn *c); /* report and pump at the end of the turn */
/* The message, if there is one, and the connection fail. */
void h1_fail(struct http_conn *c, enum message_error err, enum http_error detail);
void h1_release(struct message *m);
void h1_drained(struct http_conn *c); /* the rest of an unread body has been dropped */
/* FIN, then drop what comes for a while, then close. */
void h1_linger(struct http_conn *c, const char *why);
void h1_report_sent(struct http_conn *c);

/* --- h1_out.c --- */

extern const struct message_ops h1_ops;
/* Nothing can be sent any more. */
static inline bool h1_is_ending(const struct http_conn *c)
{
	return c->closing || c->h1.in == H1_IN_DEAD;
}

/* --- h1_store.c --- */

struct http_head_store *h1_store_get(struct http_conn *c); /* NULL: none left */
void h1_store_put(struct http_conn *c, struct http_head_store **store); /* NULL inside is fine */
void h1_store_clear(struct http_head_store *s); /* gives the bytes back */
/* Copy behind what is there; false: no memory.  The bytes may move. */
bool           h1_store_append(struct http_conn *c, struct http_head_store *s, const uint8_t *p,
                               uint32_t n);
const uint8_t *h1_store_bytes(const struct http_head_store *s); /* NULL: none yet */

/* --- h1_reply.c --- */

/* Answer with status and problem+json, close.  detail: HTTP_OK where no byte was malformed. */
void h1_refuse(struct http_conn *c, uint16_t status, const char *problem, const char *title,
               enum http_error detail);

#endif
