/*
 * tests/origin/reply.h - the script of one answer: what is sent, when, and how it ends.
 *
 * Shape    struct reply: head bytes, then pattern bytes (plain or chunked), then tail bytes, then
 *          an ending.  Filled by routes.c, played by conn.c through reply_next().
 * Pattern  byte i is i % 251, so a reader notices each lost, doubled or moved byte.
 */
#ifndef ORIGIN_REPLY_H
#define ORIGIN_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/origin/text.h"

enum reply_ending {
	END_KEEP,  /* the next request may follow */
	END_CLOSE, /* FIN */
	END_RESET, /* RST */
	END_HANG,  /* silence; the peer must give up */
};

struct reply {
	struct text head;
	size_t head_sent;
	uint64_t pattern_at, pattern_end;
	uint32_t chunk; /* bytes of a chunk; 0 is a plain body */
	struct text tail;
	size_t tail_sent;

	uint64_t wait_ms; /* before the first byte */
	bool gate;        /* until the control endpoint opens the gate, before the first byte */
	uint64_t drip_ms; /* after each byte of the pattern */
	enum reply_ending ending;
};

void reply_reset(struct reply *p);
void reply_fini(struct reply *p);

/* Writes the next bytes of the script into buf; 0 when all was given. */
size_t reply_next(struct reply *p, char *buf, size_t size);

/* A head with one line of status; further lines by text_printf(&p->head, ...), ended by reply_body. */
void reply_head(struct reply *p, unsigned status, bool close);

/* Ends the head with this body and its length.  body NULL: the length alone. */
void reply_text(struct reply *p, const char *type, const char *body, size_t len);

/* Ends the head with len bytes of the pattern. */
void reply_pattern(struct reply *p, uint64_t len);

#endif
