/*
 * sidecar/run/logging.h - levels and format of the configuration, put in force.
 */
#ifndef RHC_SIDECAR_RUN_LOGGING_H
#define RHC_SIDECAR_RUN_LOGGING_H

#include "sidecar/config/config.h"

void logging_apply(const struct config_logging *c);

#endif
