/*
 * tests/origin/request.h - one HTTP/1.1 request: its head, and its body as it comes.
 *
 * Input    bytes of a connection, in any split.
 * Output   struct request; the body is counted and hashed (FNV-1a 64), its first bytes are kept.
 * Errors   REQUEST_BAD: answer with ->error_status and close.  Strict where a proxy could be caught
 *          sending nonsense: CR LF only, one Content-Length, no Content-Length beside chunked.
 * Limits   REQUEST_HEAD_MAX, REQUEST_HEADERS_MAX, REQUEST_KEEP_MAX.
 * RFC      9112 sections 2.2, 3, 5, 6, 7.
 */
#ifndef ORIGIN_REQUEST_H
#define ORIGIN_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/origin/text.h"

#define REQUEST_HEAD_MAX    (64 * 1024)
#define REQUEST_HEADERS_MAX 256
#define REQUEST_KEEP_MAX    (256 * 1024)
#define REQUEST_KEY_MAX     64

struct request_header {
	const char *name, *value;
	size_t name_len, value_len;
};

enum body_state { BODY_DONE, BODY_LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, CHUNK_TRAILER };

struct request {
	char head[REQUEST_HEAD_MAX + 1];
	size_t head_len;
	const char *method, *path, *query; /* NUL-terminated, inside head */
	int minor;
	struct request_header headers[REQUEST_HEADERS_MAX];
	size_t headers_n;
	bool chunked, keep_alive, expects_continue;
	int error_status;

	enum body_state body;
	uint64_t left;      /* of the length or of the chunk */
	char line[256];     /* chunk size line or trailer line */
	size_t line_len;
	uint64_t body_len;  /* received so far */
	uint64_t body_hash; /* FNV-1a 64 */
	struct text kept;   /* the first REQUEST_KEEP_MAX bytes */
	struct text trailers;
};

enum request_result { REQUEST_MORE, REQUEST_OK, REQUEST_BAD };

void request_reset(struct request *r);
void request_fini(struct request *r);

/* Feed bytes of the head.  *used tells how many were taken; on OK the rest belongs to the body. */
enum request_result request_feed_head(struct request *r, const char *at, size_t len, size_t *used);

/* Feed bytes of the body.  OK when it is complete; the rest belongs to the next request. */
enum request_result request_feed_body(struct request *r, const char *at, size_t len, size_t *used);

/* Value of a header, or NULL.  Not NUL-terminated; *len is set. */
const char *request_header(const struct request *r, const char *name, size_t *len);

/* Query parameter as text into buf (false when absent), or as a number with a default. */
bool request_param(const struct request *r, const char *name, char *buf, size_t size);
uint64_t request_number(const struct request *r, const char *name, uint64_t otherwise);

#endif
