/*
 * sidecar/admin/admin_private.h - what the files of the admin floor share; nobody else includes it.
 *
 * Shape    admin.c the life of a call and its answer     routes.c who may ask what     body.c the
 *          JSON a change carries metrics.c, status.c, lists.c what is told
 */
#ifndef RHC_SIDECAR_ADMIN_ADMIN_PRIVATE_H
#define RHC_SIDECAR_ADMIN_ADMIN_PRIVATE_H

#include "sidecar/admin/admin.h"
#include "sidecar/admin/text.h"
#include "sidecar/base/obj.h"

#define CALL_MAGIC 0x41444d43u

enum answer_type { AS_TEXT, AS_JSON, AS_PROBLEM, AS_METRICS, AS_OPENMETRICS };

struct call;
typedef void call_fn(struct call *c);

struct call {
	uint32_t magic;
	struct admin_listener *l;
	struct message *m;
	const struct http_head *req;
	struct http_str path, query; /* of req */
	struct text text;
	size_t sent; /* of text, given to the message */
	bool answered, strict;
	const char *allow;  /* with 405 */
	call_fn *when_read; /* the change to be made when its body is here; NULL: none is awaited */
	uint32_t body_n;
	uint64_t asked_ms; /* /health */
	uint64_t give_up_ns;
	uint64_t stall_ns; /* when the asker has made no progress for too long */
	struct timer timer;
	char body[ADMIN_BODY_MAX];
};

void call_answer(struct call *c, uint16_t status,
		 enum answer_type type); /* with c->text; c may be gone afterwards */
void call_problem(struct call *c, uint16_t status, const char *title, const char *detail);
void call_plain(struct call *c, uint16_t status, const char *word);

/* The head is here.  true: c->when_read waits for the body; false: answered, and c may be gone. */
bool routes_dispatch(struct call *c);

/* ?name=value: the value as it stands there, n 0 where it is empty; false when it is not there. */
bool query_find(struct http_str query, const char *name, struct http_str *ret);
/* A decimal number of at most max; false otherwise. */
bool query_number(struct http_str value, uint64_t max, uint64_t *ret);

#endif
