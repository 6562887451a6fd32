/*
 * sidecar/config/bind.h - from a tree of YAML to struct config.
 *
 * Shape    bind_config(): the values of the tree into a configuration that holds the defaults.
 * Errors   findings E002, E003, E004, E005, E007, E011 for what cannot be bound, each with its place; the
 *          field keeps its default, so the rest can still be checked.  -ENOMEM.
 */
#pragma once

#include "sidecar/config/meta.h"
#include "sidecar/config/tree.h"

int bind_config(struct config *cfg, const struct node *root, const struct reporter *r);

/* [a-z0-9] with - between, at most CONFIG_NAME_MAX bytes. */
bool bind_valid_name(const char *name);
