/*
 * sidecar/run/options.h - the command line of rhc-sidecar.
 *
 * Shape   A table of options makes the parser and the help text.
 * Errors  A wrong option is a sentence on stderr and exit code 2.
 */
#ifndef RHC_SIDECAR_RUN_OPTIONS_H
#define RHC_SIDECAR_RUN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"

enum options_mode {
	MODE_RUN,
	MODE_CHECK,
	MODE_PRINT,
	MODE_EXPLAIN,
	MODE_SCHEMA,
	MODE_VERSION,
	MODE_HELP,
};

/* Exit codes; 0 is a clean end. */
enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONFIG = 78 /* EX_CONFIG of sysexits.h */ };

#define OPTIONS_CONFIG_DEFAULT "/etc/rhc/rhc.yaml"

struct options {
	enum options_mode mode;
	const char *config;  /* path */
	const char *explain; /* key */
	const char *set[CONFIG_OVERRIDES_MAX];
	size_t set_len;
	bool fresh;      /* --state=fresh: begin with a new segment */
	bool allow_disk; /* the segment may lie on a disk */
	bool json;       /* -o json */
};

/* 0, or EXIT_USAGE after the sentence was written. */
int options_parse(struct options *o, int argc, char **argv);
void options_help(void);

/* The file to read: the option, $RHC_CONFIG, or the default. */
const char *options_config(const struct options *o);
/*
 * Read the configuration; what is to be said of it is in f, which the caller has made.  0 or
 * EXIT_CONFIG and *ret NULL.
 */
int options_load(const struct options *o, struct config **ret, struct findings *f);

#endif
