/*
 * sidecar/run/logging.h - levels and format of the configuration, put in force.
 */
#ifndef RHC_SIDECAR_RUN_LOGGING_H
#define RHC_SIDECAR_RUN_LOGGING_H

#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"

void logging_apply(const struct config_logging *c);
/*
 * What was found in a configuration, one event each: once the log has begun everything goes into
 * it, in its form.
 */
void logging_findings(const struct findings *f);

#endif
