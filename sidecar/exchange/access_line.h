/*
 * sidecar/exchange/access_line.h - what a line of the access log says, and its three looks.
 *
 * Shape     struct access_line holds what had to be made; everything else is read from the exchange.
 * Bounds    A line has ACCESS_LINE_MAX bytes at most: each value of a stranger has its share, escapes
 *           included, and is cut to it (in JSON never inside a character).
 * Cost      One pass, no printf: keys and punctuation are copied as they stand in the source.
 */
#ifndef RHC_SIDECAR_EXCHANGE_ACCESS_LINE_H
#define RHC_SIDECAR_EXCHANGE_ACCESS_LINE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/http.h"
#include "sidecar/base/clock.h"

struct exchange;

struct access_line {
	uint64_t    wall_ns, duration_ns, overhead_ns;
	char        start[CLOCK_TEXT_SIZE], now[CLOCK_TEXT_SIZE];
	char        flags[24];
	char        peer[64]; /* "": none */
	const char *details;
	const char *protocol;
	const char *up_protocol; /* of the last attempt's connection; "": there was none, or it is a tunnel */
	const char *up_failure; /* why that connection could not be made or was lost; "": it was not */
	const char *down_peer; /* the app's address and port; "": not known, or a unix socket */
};

/* The path without its query, at most ACCESS_VALUE_MAX bytes of it. */
struct http_str access_path(const struct exchange *e);

/* out has ACCESS_LINE_MAX bytes.  Returns the length, the newline included. */
size_t access_text(char *out, const struct exchange *e, const struct access_line *l);
size_t access_logfmt(char *out, const struct exchange *e, const struct access_line *l);
size_t access_json(char *out, const struct exchange *e, const struct access_line *l);

#endif
