/*
 * sidecar/run/versions.h - what this binary is made of.
 */
#ifndef RHC_SIDECAR_RUN_VERSIONS_H
#define RHC_SIDECAR_RUN_VERSIONS_H

#include <stdbool.h>
#include <stdio.h>

void versions_print(FILE *out, bool json);

#endif
