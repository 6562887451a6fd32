/*
 * sidecar/admin/status.h - the segment as JSON and as a plain table.
 */
#ifndef RHC_SIDECAR_ADMIN_STATUS_H
#define RHC_SIDECAR_ADMIN_STATUS_H

#include "sidecar/admin/admin.h"
#include "sidecar/admin/text.h"
#include "sidecar/base/json.h"

/* A document with apiVersion and kind, written into room of the text; false when there is none. */
bool status_begin(struct json *j, struct text *t, const char *kind);
void status_end(struct json *j, struct text *t);

void status_json(struct admin *a, struct text *t);
void status_upstreams(struct admin *a, struct text *t);                /* UpstreamList */
void status_upstream(struct admin *a, struct text *t, uint32_t index); /* Upstream */
void status_breakers(struct admin *a, struct text *t);                /* BreakerList */
void status_bulkheads(struct admin *a, struct text *t);               /* BulkheadList */
void status_workers(struct admin *a, struct text *t);                 /* WorkerList */
void status_breaker(struct admin *a, struct text *t, uint32_t index); /* Breaker */
void status_text(struct admin *a, struct text *t);
/*
 * The guide's health_check(), per upstream.  since_ms: results older than that are no answer to
 * this question. strict_bad is set when something is not well.
 */
void status_health(struct admin *a, struct text *t, uint64_t since_ms, bool *strict_bad);
/* Every upstream has a health result from since_ms or later. */
bool status_health_complete(struct admin *a, uint64_t since_ms);

#endif
