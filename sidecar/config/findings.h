/*
 * sidecar/config/findings.h - what is wrong or doubtful in a configuration.
 *
 * Shape    struct findings: a bounded list, in the order of the file once printed.
 * Owns     the texts; findings_fini() gives them back.
 * Errors   adding cannot fail: beyond FINDINGS_MAX or without memory a finding is only counted, so an error is
 *          never lost from `errors`.
 * Never    logs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define FINDINGS_MAX 200

enum finding_severity {
	FINDING_WARNING,
	FINDING_ERROR,
};

struct finding {
	const char *id; /* "E002", "W101" */
	enum finding_severity severity;
	uint32_t line, column; /* 1-based; 0 = not in the file */
	uint32_t width;        /* columns underlined in the excerpt */
	char *where;           /* the file, "env RHC_…" or "--set …" */
	char *message;         /* one sentence */
	char *excerpt;         /* the line of the file, or NULL */
	char *hint;            /* what to do, or NULL */
	char *suggestion;      /* the word that was probably meant, or NULL */
};

struct findings {
	struct finding item[FINDINGS_MAX];
	uint32_t len;    /* items held */
	uint32_t errors; /* errors found, those not held included */
	uint32_t warnings;
};

enum findings_form {
	FINDINGS_TEXT,
	FINDINGS_JSON,
};

void findings_init(struct findings *f);
void findings_fini(struct findings *f);

/* Print them ordered by place; text like a compiler's, JSON one object with an array. */
void findings_print(const struct findings *f, enum findings_form form, FILE *out);
