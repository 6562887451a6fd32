/*
 * sidecar/config/check.h - the rules that look at more than one key.
 *
 * Shape    check_policy() for what upstreams inherit, check_rest() for everything else; config_check() (config.h)
 *          runs both.  Pure: they look at the configuration, never at the machine; that is config_check_host().
 * Errors   findings only.
 */
#pragma once

#include "sidecar/config/meta.h"

/* The policies below `defaults` (u NULL) or of one upstream.  What an upstream inherited is not said again. */
void check_policy(const struct config *cfg, const struct config_upstream *u,
		  const struct reporter *r);

void check_rest(const struct config *cfg, const struct reporter *r);

/* Is it a token (RFC 9110 §5.6.2)? */
bool check_token(const char *text);
