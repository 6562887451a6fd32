#include "shm/counters.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name, *text;
} errors[] = {
#define ERROR(id, help) { #id, help },
#include "shm/errors.def"
#undef ERROR
};

const char *rhc_error_name(unsigned error)
{
	return error < RHC_ERR_COUNT ? errors[error].name : "unknown";
}

const char *rhc_error_text(unsigned error)
{
	return error < RHC_ERR_COUNT ? errors[error].text : "unknown error";
}

struct row {
	const char *name, *group, *label, *help;
	uint8_t kind;
};

static const struct row up_rows[] = {
#define U(name, group, label, kind, help) { #name, #group, label, help, RHC_KIND_##kind },
#include "shm/counters.def"
#undef U
};

static const struct row worker_rows[] = {
#define W(name, group, label, kind, help) { #name, #group, label, help, RHC_KIND_##kind },
#include "shm/counters.def"
#undef W
};

static const struct {
	struct row row;
	uint32_t base;
} hist_rows[] = {
#define HIST(name, metric, base, help) { { #name, #metric, "", help, RHC_KIND_HIST }, base },
#include "shm/histograms.def"
#undef HIST
};

enum rhc_kind rhc_uctr_kind(unsigned counter)
{
	assert(counter < RHC_CTR_COUNT);
	return counter < RHC_CTR_NAMED ? (enum rhc_kind)up_rows[counter].kind : RHC_KIND_COUNTER;
}

enum rhc_kind rhc_wctr_kind(unsigned counter)
{
	assert(counter < RHC_WCTR_COUNT);
	return (enum rhc_kind)worker_rows[counter].kind;
}

static void describe(struct rhc_desc *desc, const struct row *row, enum rhc_where where,
		     uint32_t index)
{
	snprintf(desc->name, sizeof(desc->name), "%s", row->name);
	snprintf(desc->group, sizeof(desc->group), "%s", row->group);
	snprintf(desc->label, sizeof(desc->label), "%s", row->label);
	desc->kind = row->kind;
	desc->where = (uint8_t)where;
	desc->index = (uint16_t)index;
}

static void describe_error(struct rhc_desc *desc, const char *what, const char *group,
			   unsigned error, uint32_t index)
{
	snprintf(desc->name, sizeof(desc->name), "%s_%.24s", what, errors[error].name);
	snprintf(desc->group, sizeof(desc->group), "%s", group);
	snprintf(desc->label, sizeof(desc->label), "%s", errors[error].name);
	desc->kind = RHC_KIND_COUNTER;
	desc->where = RHC_WHERE_UPERR;
	desc->index = (uint16_t)index;
}

void rhc_desc_make(uint32_t i, struct rhc_desc *ret)
{
	assert(i < RHC_DESC_COUNT);
	memset(ret, 0, sizeof(*ret));
	if (i < RHC_CTR_NAMED) {
		describe(ret, &up_rows[i], RHC_WHERE_UP, i);
	} else if (i < RHC_CTR_att_error) {
		describe_error(ret, "call", "request_errors", i - RHC_CTR_call_error, i);
	} else if (i < RHC_CTR_COUNT) {
		describe_error(ret, "att", "upstream_attempt_errors", i - RHC_CTR_att_error, i);
	} else if (i < RHC_CTR_COUNT + RHC_WCTR_COUNT) {
		describe(ret, &worker_rows[i - RHC_CTR_COUNT], RHC_WHERE_WORKER, i - RHC_CTR_COUNT);
	} else {
		i -= RHC_CTR_COUNT + RHC_WCTR_COUNT;
		describe(ret, &hist_rows[i].row, RHC_WHERE_HIST, i);
		ret->base = hist_rows[i].base;
	}
}

static const char *help_in(const struct row *rows, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].name, name) == 0)
			return rows[i].help;
	}
	return "";
}

const char *rhc_desc_help(const struct rhc_desc *desc)
{
	switch (desc->where) {
	case RHC_WHERE_UP:
		return help_in(up_rows, RHC_COUNT(up_rows), desc->name);
	case RHC_WHERE_UPERR:
		return "By error; its text is in the error table.";
	case RHC_WHERE_WORKER:
		return help_in(worker_rows, RHC_COUNT(worker_rows), desc->name);
	case RHC_WHERE_HIST:
		for (size_t i = 0; i < RHC_COUNT(hist_rows); i++) {
			if (strcmp(hist_rows[i].row.name, desc->name) == 0)
				return hist_rows[i].row.help;
		}
		return "";
	default:
		return "";
	}
}
