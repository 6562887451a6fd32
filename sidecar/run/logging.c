#include "sidecar/run/logging.h"

#include <unistd.h>

#include "sidecar/base/log.h"

static enum log_level level_of(enum config_level l)
{
	switch (l) {
	case CONFIG_LEVEL_TRACE:
	case CONFIG_LEVEL_DEBUG:
		return LOG_DEBUG;
	case CONFIG_LEVEL_WARN:
		return LOG_WARN;
	case CONFIG_LEVEL_ERROR:
		return LOG_ERROR;
	case CONFIG_LEVEL_OFF:
		return LOG_OFF;
	default:
		return LOG_INFO;
	}
}

static enum log_format format_of(enum config_log_format f)
{
	switch (f) {
	case CONFIG_FORMAT_TEXT:
		return LOG_TEXT;
	case CONFIG_FORMAT_JSON:
		return LOG_JSON;
	case CONFIG_FORMAT_LOGFMT:
		return LOG_LOGFMT;
	default:
		return isatty(STDERR_FILENO) ? LOG_TEXT : LOG_JSON;
	}
}

void logging_apply(const struct config_logging *c)
{
	const struct config_log_components *l = &c->components;
	enum config_level http = l->h1 > l->h2 ? l->h2 : l->h1; /* the more talkative of the two */
	const struct {
		enum log_component c;
		enum config_level l;
	} rows[] = {
		{ LOG_CORE, l->core }, { LOG_BREAKER, l->breaker },   { LOG_RETRY, l->retry },
		{ LOG_POOL, l->pool }, { LOG_UPSTREAM, l->upstream }, { LOG_BULKHEAD, l->bulkhead },
		{ LOG_IO, l->io },     { LOG_CONFIG, l->config },     { LOG_ADMIN, l->admin },
		{ LOG_SHM, l->shm },   { LOG_WORKER, l->worker },     { LOG_HEALTH, l->health },
		{ LOG_HTTP, http },    { LOG_TLS, l->tls },           { LOG_DNS, l->dns },
	};

	log_init(STDERR_FILENO, format_of(c->format));
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		log_set_level(rows[i].c, level_of(rows[i].l));
}

void logging_findings(const struct findings *f)
{
	for (uint32_t i = 0; i < f->len; i++) {
		const struct finding *n = &f->item[i];
		enum log_level level = n->severity == FINDING_ERROR ? LOG_ERROR : LOG_WARN;

		log_event(LOG_CONFIG, level, "config_finding", LOG_STR("id", n->id),
			  LOG_STR("where", n->where), LOG_U64("line", n->line),
			  LOG_U64("column", n->column), LOG_STR("message", n->message),
			  LOG_STR("hint", n->hint), LOG_STR("suggestion", n->suggestion));
	}
}
