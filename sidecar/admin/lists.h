/*
 * sidecar/admin/lists.h - events of the segment as JSON.
 *
 * Shape   {"apiVersion":"rhc.dev/v1","kind":"EventList","items":[...]}, the oldest first; of more
 *         than limit the newest.
 */
#ifndef RHC_SIDECAR_ADMIN_LISTS_H
#define RHC_SIDECAR_ADMIN_LISTS_H

#include "sidecar/admin/admin.h"
#include "sidecar/admin/text.h"

enum { LISTS_EVENTS_DEFAULT = 100, LISTS_EVENTS_MAX = 1000, LISTS_WORD_MAX = 32 };

struct lists_query {
	bool has_since;
	uint64_t since_s;                /* seconds before now */
	char type[LISTS_WORD_MAX];       /* of an event, or a component; "": all */
	char upstream[RHC_NAME_MAX + 1]; /* "": all */
	uint32_t limit;                  /* 1..LISTS_EVENTS_MAX */
};

void lists_events(struct admin *a, struct text *t, const struct lists_query *q);

#endif
