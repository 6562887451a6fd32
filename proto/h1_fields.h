/*
 * proto/h1_fields.h - the field section of an h1 message, and what it says about framing and
 * connection.
 *
 * Shape    h1_fields() for heads fills struct h1_facts as it goes; h1_trailer_fields() refuses what
 *          may not be a trailer.  h1_target() and h1_host() check what names the resource.
 * Input    Bytes from the first field line on.
 * Output   1 complete (*p moved behind the empty line), 0 more bytes needed, or -(enum http_error).
 * RFC      9112 §5, §6; 9110 §7.6.1.
 */
#ifndef RHC_PROTO_H1_FIELDS_H
#define RHC_PROTO_H1_FIELDS_H

#include "proto/http.h"

enum {
	H1_OPTIONS_MAX = 32, /* connection options of one message */
	H1_LENGTH_DIGITS_MAX = 19, /* of Content-Length, leading zeros included */
};

struct h1_facts {
	struct http_str host;
	uint64_t        length; /* of Content-Length */
	uint16_t        n_options; /* elements of Connection */
	uint8_t         n_host;
	bool            has_length;
	bool            has_coding; /* Transfer-Encoding is there */
	bool            coding_bad; /* repeated chunked, empty element */
	bool            coding_other; /* a coding we do not know */
	bool            chunked; /* the last coding is chunked */
	bool            close, keep_alive, upgrade; /* connection options */
	bool            lists_fields; /* other connection options */
	bool            upgrade_field;
	bool            upgrade_h2c;
	bool            expect_continue;
};

int h1_fields(const uint8_t **p, const uint8_t *end, struct http_head *h, struct h1_facts *facts);
int h1_trailer_fields(const uint8_t **p, const uint8_t *end, struct http_head *h);

/* Mark what Connection lists; known end-to-end fields stay, whoever lists them. */
void h1_drop_listed(struct http_head *h);

/* Sort out a request target; h->method is set.  0 or -HTTP_E_TARGET. */
int h1_target(struct http_str target, struct http_head *h);
/* uri-host [ ":" port ]; 0 or -HTTP_E_HOST. */
int h1_host(struct http_str host);

#endif
