#include "tests/origin/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct stats stats;

static struct stats_key *find_key(const char *name)
{
	for (uint32_t i = 0; i < stats.keys_n; i++)
		if (strcmp(stats.keys[i].name, name) == 0)
			return &stats.keys[i];
	return NULL;
}

uint64_t stats_attempt(const char *key)
{
	struct stats_key *k = find_key(key);

	if (!k && stats.keys_n == STATS_KEYS - 1)
		key = "other";
	if (!k)
		k = find_key(key);
	if (!k) {
		k = &stats.keys[stats.keys_n++];
		snprintf(k->name, sizeof(k->name), "%s", key);
		k->attempts = 0;
	}
	return ++k->attempts;
}

void stats_begin(void)
{
	stats.requests++;
	if (++stats.current > stats.max)
		stats.max = stats.current;
}

void stats_end(bool answered)
{
	stats.current--;
	if (answered)
		stats.answered++;
	else
		stats.aborted++;
}

void stats_reset(void)
{
	uint32_t connections = stats.connections, current = stats.current;

	memset(&stats, 0, sizeof(stats));
	stats.connections = connections;
	stats.current = stats.max = current;
}

void stats_json(struct text *to, const char *mode)
{
	text_printf(to, "{\"mode\":\"%s\",\"requests\":%" PRIu64 ",\"answered\":%" PRIu64, mode,
	            stats.requests, stats.answered);
	text_printf(to, ",\"aborted\":%" PRIu64 ",\"bad_requests\":%" PRIu64, stats.aborted,
	            stats.bad_requests);
	text_printf(to, ",\"current\":%u,\"max\":%u,\"connections\":%u,\"connections_all\":%" PRIu64,
	            stats.current, stats.max, stats.connections, stats.connections_all);
	text_printf(to, ",\"keys\":{");
	for (uint32_t i = 0; i < stats.keys_n; i++) {
		if (i > 0)
			text_bytes(to, ",", 1);
		text_json(to, stats.keys[i].name, strlen(stats.keys[i].name));
		text_printf(to, ":%" PRIu64, stats.keys[i].attempts);
	}
	text_printf(to, "}}\n");
}
