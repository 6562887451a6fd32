/*
 * sidecar/base/json.h - writes JSON into memory of the caller.
 *
 * Shape    A cursor.  Members of an object have a key, elements of an array have key NULL; commas and
 *          quotes come by themselves.
 * Owns     nothing, allocates nothing.
 * Escapes  RFC 8259 section 7.  Bytes that are not UTF-8 become U+FFFD, so the output is always valid.
 * Bounds   What does not fit is not written, not even in part, and ->overflow stays set.  To go back to the
 *          last good place, keep a copy of the struct and restore it.
 *          JSON_DEPTH levels of nesting; more asserts.
 *
 *     struct json j;
 *     json_init(&j, out, sizeof(out));
 *     json_object(&j, NULL);
 *     json_str(&j, "title", "no slot");
 *     json_u64(&j, "waited_ms", 250);
 *     json_end(&j);
 *     len = json_finish(&j);
 */
#ifndef RHC_SIDECAR_BASE_JSON_H
#define RHC_SIDECAR_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_DEPTH = 32 };

struct json {
	char    *out;
	size_t   cap;
	size_t   n;
	bool     overflow;
	uint8_t  depth;
	uint32_t is_array; /* a bit per level */
	uint32_t has_items; /* a bit per level */
};

void json_init(struct json *j, char *out, size_t cap);

void json_object(struct json *j, const char *key); /* begins; json_end() ends */
void json_array(struct json *j, const char *key);
void json_end(struct json *j);

void json_str(struct json *j, const char *key, const char *s); /* NULL: null */
void json_strn(struct json *j, const char *key, const char *s, size_t n);
void json_u64(struct json *j, const char *key, uint64_t v);
void json_i64(struct json *j, const char *key, int64_t v);
/* v / 10^decimals, written exactly: json_decimal(j, "wait_s", 1250, 3) is 1.250 */
void json_decimal(struct json *j, const char *key, uint64_t v, unsigned decimals);
void json_bool(struct json *j, const char *key, bool v);
void json_null(struct json *j, const char *key);
void json_raw(struct json *j, const char *key, const char *s, size_t n); /* a value made elsewhere */

/* The length, not 0-terminated; -ENOSPC after an overflow.  Asserts that every level was ended. */
int json_finish(struct json *j);

/*
 * Only the escaping: the inside of a string.  Returns the bytes written, never a part of an escape or of
 * a character; *ret_used (may be NULL) is how much of s they stand for.
 */
size_t json_escape(char *out, size_t cap, const char *s, size_t n, size_t *ret_used);

#endif
