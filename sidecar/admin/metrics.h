/*
 * sidecar/admin/metrics.h - the segment as a Prometheus exposition.
 *
 * Shape   Text format 0.0.4, or OpenMetrics 1.0.0 where the scraper asks for it.  Everything comes
 *         from the segment; series of every upstream exist from the start, so that increase()
 *         works.
 * Names   metrics.def joins the counters' groups (shm/counters.def) with metric and label names.
 */
#ifndef RHC_SIDECAR_ADMIN_METRICS_H
#define RHC_SIDECAR_ADMIN_METRICS_H

#include "sidecar/admin/admin.h"
#include "sidecar/admin/text.h"

void metrics_write(struct admin *a, struct text *t, bool openmetrics);

#endif
