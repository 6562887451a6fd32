#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/base.h"
#include "sidecar/config/config.h"
#include "sidecar/config/findings.h"

#define S(n)    ((uint64_t)(n)*CONFIG_NS_PER_S)
#define MINIMAL "version: 1\nupstreams:\n  orders: {url: 'http://orders'}\n"

static struct findings f;

static struct config *load(struct config_source src)
{
	struct config *cfg = NULL;
	int err;

	findings_init(&f);
	err = config_load(&cfg, &src, &f);
	cr_expect_eq(err == 0, cfg != NULL);
	return cfg;
}

static struct config *load_text(const char *text)
{
	struct config *cfg = load((struct config_source){ .text = text, .len = strlen(text) });

	if (!cfg)
		findings_print(&f, FINDINGS_TEXT, stderr);
	cr_assert(cfg);
	return cfg;
}

static void done(struct config *cfg)
{
	cr_expect_null(config_free(cfg));
	findings_fini(&f);
}

static bool found(const char *id)
{
	for (uint32_t i = 0; i < f.len; i++) {
		if (strcmp(f.item[i].id, id) == 0)
			return true;
	}
	return false;
}

Test(load, the_built_in_defaults_are_the_numbers_of_the_guide)
{
	struct config *cfg = load_text(MINIMAL);
	const struct config_policy *p = &cfg->upstreams[0].policy;

	cr_expect_eq(f.len, 0);
	cr_expect_eq(p->timeout.connect_ns, S(10));
	cr_expect_eq(p->timeout.read_ns, S(30));
	cr_expect_eq(p->timeout.write_ns, S(30));
	cr_expect_eq(p->timeout.pool_ns, S(10));
	cr_expect_eq(p->timeout.total_ns, 0);
	cr_expect_eq(p->retry.max_attempts, 3);
	cr_expect_eq(p->retry.min_wait_ns, S(1));
	cr_expect_eq(p->retry.max_wait_ns, S(60));
	cr_expect_eq(p->retry.multiplier_milli, 2000);
	cr_expect_eq(p->retry.jitter, CONFIG_JITTER_FULL);
	cr_expect_eq(p->retry.budget.ratio_bp, 2000);
	cr_expect_eq(p->breaker.failure_threshold, 5);
	cr_expect_eq(p->breaker.recovery_timeout_ns, S(30));
	cr_expect_eq(p->bulkhead.max_concurrency, 50);
	cr_expect_eq(p->bulkhead.acquisition_timeout_ns, S(30));
	cr_expect_eq(p->health.timeout_ns, S(5));
	cr_expect_str_eq(p->health.path, "/health");
	cr_expect(config_set_has(p->retry.methods, CONFIG_METHOD_PUT));
	cr_expect(!config_set_has(p->retry.methods, CONFIG_METHOD_POST));
	for (unsigned s = 100; s < 600; s++) {
		bool gateway = s >= 502 && s <= 504;

		cr_expect_eq(config_status_in(&p->retry.statuses, s), gateway, "%u", s);
		cr_expect_eq(config_status_in(&p->breaker.count_statuses, s), gateway, "%u", s);
	}
	cr_expect_str_eq(cfg->shm.path, "/run/rhc/rhc.shm");
	cr_expect_eq(cfg->listeners_len, 1);
	cr_expect_eq(cfg->listeners[0].address.port, 4640);
	cr_expect_eq(cfg->admin.address.port, 4641);
	cr_expect_eq(cfg->telemetry.address.port, 4642);
	cr_expect_eq(cfg->telemetry.address.family, AF_INET6);
	done(cfg);
}

Test(load, everything_the_guide_sets_can_be_set_by_its_name)
{
	struct config *cfg = load_text(
		"version: 1\n"
		"upstreams:\n"
		"  api:\n"
		"    base_url: https://api.example.com\n"
		"    timeout: {connect: 30.0, read: 120.0, write: 60.0, pool: 15.0}\n"
		"    retry: {max_attempts: 5, min_wait_seconds: 1.0, max_wait_seconds: 300.0}\n"
		"    circuit_breaker: {failure_threshold: 10, recovery_timeout: 120.0}\n"
		"    bulkhead: {max_concurrency: 100, acquisition_timeout: 60.0}\n"
		"logging:\n"
		"  level: info\n"
		"  components: {resilient_client: debug, circuit_breaker: debug, retry: debug,\n"
		"    httpx: warn}\n");
	const struct config_policy *p = &cfg->upstreams[0].policy;

	cr_expect_eq(f.len, 0);
	cr_expect_str_eq(cfg->upstreams[0].url.host, "api.example.com");
	cr_expect_eq(p->timeout.read_ns, S(120));
	cr_expect_eq(p->retry.max_wait_ns, S(300));
	cr_expect_eq(p->breaker.recovery_timeout_ns, S(120));
	cr_expect_eq(p->bulkhead.acquisition_timeout_ns, S(60));
	cr_expect_eq(cfg->logging.components.core, CONFIG_LEVEL_DEBUG);
	cr_expect_eq(cfg->logging.components.breaker, CONFIG_LEVEL_DEBUG);
	cr_expect_eq(cfg->logging.components.upstream, CONFIG_LEVEL_WARN);
	cr_expect_eq(cfg->logging.components.dns, CONFIG_LEVEL_INFO, "the others inherit");
	done(cfg);
}

Test(load, set_beats_environment_beats_file_beats_preset_beats_default)
{
	static const struct {
		const char *says, *file, *env, *set;
		uint64_t seconds;
	} rows[] = {
		{ "default", "version: 1\n", NULL, NULL, 30 },
		{ "preset", "version: 1\npreset: high-latency\n", NULL, NULL, 120 },
		{ "file", "version: 1\npreset: high-latency\ndefaults: {timeout: {read: 41}}\n",
		  NULL, NULL, 41 },
		{ "environment",
		  "version: 1\npreset: high-latency\ndefaults: {timeout: {read: 41}}\n",
		  "RHC_DEFAULTS__TIMEOUT__READ=42", NULL, 42 },
		{ "set", "version: 1\npreset: high-latency\ndefaults: {timeout: {read: 41}}\n",
		  "RHC_DEFAULTS__TIMEOUT__READ=42", "defaults.timeout.read=43", 43 },
		{ "preset from the environment", "version: 1\n", "RHC_PRESET=high-latency", NULL,
		  120 },
		{ "where the file has nothing of the kind", "version: 1\ndefaults:\n",
		  "RHC_DEFAULTS__TIMEOUT__READ=44s", NULL, 44 },
		{ "a whole group", "version: 1\ndefaults: {timeout: {connect: 3}}\n", NULL,
		  "defaults.timeout={read: 45s}", 45 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *env[] = { rows[i].env, NULL };
		const char *set[] = { rows[i].set };
		struct config *cfg = load((struct config_source){ .text = rows[i].file,
								  .len = strlen(rows[i].file),
								  .environ = (char *const *)env,
								  .set = set,
								  .set_len = rows[i].set != NULL });

		cr_assert(cfg, "%s: %s", rows[i].says, f.len ? f.item[0].message : "");
		cr_expect_eq(cfg->defaults.timeout.read_ns, S(rows[i].seconds), "%s", rows[i].says);
		done(cfg);
	}
}

Test(load, an_upstream_inherits_from_defaults_and_overrides_key_by_key)
{
	struct config *cfg = load_text("version: 1\n"
				       "upstreams:\n"
				       "  a: {url: 'http://a', timeout: {connect: 2s}}\n"
				       "  b: {url: 'http://b'}\n"
				       "defaults: {timeout: {read: 45s, connect: 3s}}\n");
	const struct config_upstream *a = config_upstream(cfg, "a"), *b = config_upstream(cfg, "b");

	cr_expect_eq(a->policy.timeout.connect_ns, S(2));
	cr_expect_eq(a->policy.timeout.read_ns, S(45), "defaults may stand behind the upstreams");
	cr_expect_eq(b->policy.timeout.connect_ns, S(3));
	cr_expect_null(config_upstream(cfg, "c"));
	done(cfg);
}

Test(load, the_environment_finds_an_upstream_by_its_name_in_capitals)
{
	const char *env[] = { "RHC_UPSTREAMS__MY_API__TIMEOUT__READ=12",
			      "RHC_UPSTREAMS__NEW_ONE__URL=http://new",
			      "PATH=/bin",
			      "RHCX=1",
			      "RHC_CONFIG=/x",
			      "RHC_CPU_LIMIT=2",
			      NULL };
	const char *text = "version: 1\nupstreams:\n  my-api: {url: 'http://a'}\n";
	struct config *cfg = load((struct config_source){
		.text = text, .len = strlen(text), .environ = (char *const *)env });

	cr_assert(cfg);
	cr_expect_eq(cfg->upstreams_len, 2);
	cr_expect_eq(config_upstream(cfg, "my-api")->policy.timeout.read_ns, S(12));
	cr_expect_str_eq(config_upstream(cfg, "new-one")->url.host, "new");
	done(cfg);
}

Test(load, a_configuration_can_come_from_the_environment_alone)
{
	const char *env[] = { "RHC_UPSTREAMS__ORDERS__URL=http://orders",
			      "RHC_PRESET=high-throughput",
			      "RHC_DEFAULTS__CIRCUIT_BREAKER__COUNT_STATUSES=500,502-504",
			      "RHC_DEFAULTS__RETRY__STATUSES=[502, 503]", NULL };
	struct config *cfg = load((struct config_source){ .environ = (char *const *)env });

	cr_assert(cfg, "%s", f.len ? f.item[0].message : "");
	cr_expect_eq(f.len, 0);
	cr_expect_eq(cfg->upstreams[0].policy.bulkhead.max_concurrency, 100);
	cr_expect(config_status_in(&cfg->upstreams[0].policy.breaker.count_statuses, 500));
	cr_expect(!config_status_in(&cfg->upstreams[0].policy.retry.statuses, 504));
	done(cfg);
}

Test(load, what_a_variable_holds_cannot_become_structure)
{
	const char *env[] = { "EVIL=x\", url: \"http://evil", "BRACE={a: b}", NULL };
	const char *text =
		"version: 1\nupstreams:\n  orders:\n    url: 'http://orders'\n"
		"    tls: {server_name: '${env:EVIL}'}\n    health: {path: '/${env:BRACE}'}\n";
	struct config *cfg = load((struct config_source){
		.text = text, .len = strlen(text), .environ = (char *const *)env });

	cr_assert(cfg);
	cr_expect_str_eq(cfg->upstreams[0].url.host, "orders");
	cr_expect_str_eq(cfg->upstreams[0].policy.tls.server_name, "x\", url: \"http://evil");
	cr_expect_str_eq(cfg->upstreams[0].policy.health.path, "/{a: b}");
	done(cfg);
}

Test(load, listen_of_an_upstream_is_a_listener_like_the_first)
{
	struct config *cfg = load_text(
		"version: 1\n"
		"listeners: [{name: main, address: '127.0.0.1:4640', max_connections: 9}]\n"
		"upstreams:\n"
		"  a: {url: 'http://a', listen: '127.0.0.1:4701'}\n"
		"  b: {url: 'http://b'}\n"
		"  c: {url: 'http://c', listen: 'unix:/run/c.sock'}\n");

	cr_assert_eq(cfg->listeners_len, 3);
	cr_expect_str_eq(cfg->listeners[1].name, "a");
	cr_expect_str_eq(cfg->listeners[1].upstream, "a");
	cr_expect_eq(cfg->listeners[1].mode, CONFIG_LISTENER_UPSTREAM);
	cr_expect_eq(cfg->listeners[1].address.port, 4701);
	cr_expect_eq(cfg->listeners[1].max_connections, 9);
	cr_expect_eq(cfg->listeners[2].address.family, AF_UNIX);
	done(cfg);
}

Test(load, the_greatest_numbers_of_listeners_and_upstreams_are_taken_and_one_more_is_not)
{
	for (int over = 0; over <= 1; over++) {
		char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);
		struct config *cfg;

		fputs("version: 1\nlisteners:\n", out);
		for (int i = 0; i < CONFIG_LISTENERS_MAX + over; i++)
			fprintf(out, "- {name: l%d, address: '127.0.0.1:%d'}\n", i, 5000 + i);
		fputs("upstreams:\n", out);
		for (int i = 0; i < CONFIG_UPSTREAMS_MAX + over; i++)
			fprintf(out, "  u%d: {url: 'http://u%d', listen: '127.0.0.1:%d'}\n", i, i,
				6000 + i);
		fclose(out);
		cfg = load((struct config_source){ .text = text, .len = len });
		cr_expect_eq(cfg != NULL, !over);
		cr_expect_eq(found("E005"), over);
		if (cfg)
			cr_expect_eq(cfg->listeners_len,
				     CONFIG_LISTENERS_MAX + CONFIG_UPSTREAMS_MAX);
		done(cfg);
		free(text);
	}
}

Test(load, numbers_of_workers_and_slots_follow_the_machine_and_the_limits)
{
	struct config *cfg = load_text(MINIMAL);

	cr_expect_eq(config_workers(cfg, 0.1), 1);
	cr_expect_eq(config_workers(cfg, 1.0), 1);
	cr_expect_eq(config_workers(cfg, 1.5), 2);
	cr_expect_eq(config_workers(cfg, 64.0), 4);
	cr_expect_eq(config_slots(cfg), 1024);
	done(cfg);
	cfg = load_text("version: 1\nworkers: 7\nupstreams:\n"
			"  orders: {url: 'http://o', bulkhead: {max_concurrency: 10000}}\n");
	cr_expect_eq(config_workers(cfg, 1.0), 7);
	cr_expect_eq(config_slots(cfg), 16384, "all the segment can hold");
	done(cfg);
}

Test(load, the_worst_case_is_all_waits_of_all_attempts_and_total_bounds_it)
{
	struct config *cfg = load_text(
		"version: 1\nupstreams:\n  o:\n    url: http://o\n"
		"    bulkhead: {acquisition_timeout: 1s}\n"
		"    timeout: {pool: 2s, connect: 3s, write: 4s, read: 5s}\n"
		"    retry: {max_attempts: 4, min_wait_seconds: 10s, max_wait_seconds: 25s}\n");
	struct config_policy p = cfg->upstreams[0].policy;

	cr_expect_eq(config_worst_case_ns(&p), S(4 * 15 + 10 + 20 + 25));
	p.timeout.total_ns = S(30);
	cr_expect_eq(config_worst_case_ns(&p), S(30));
	p.timeout.total_ns = 0;
	p.bulkhead.enabled = false;
	p.retry.max_attempts = 1;
	cr_expect_eq(config_worst_case_ns(&p), S(14));
	done(cfg);
}

/* The greatest value of a key, by bisection: what is loaded without an error. */
static uint32_t greatest(const char *key)
{
	uint32_t good = 1, bad = UINT32_C(1) << 20;

	while (bad - good > 1) {
		uint32_t middle = good + (bad - good) / 2;
		char text[128];
		const char *set[] = { text };
		struct config *cfg;

		snprintf(text, sizeof(text), "%s=%u", key, (unsigned)middle);
		cfg = load((struct config_source){ .set = set, .set_len = 1 });
		if (cfg)
			good = middle;
		else
			bad = middle;
		done(cfg);
	}
	return good;
}

Test(load, no_range_is_wider_than_the_segment)
{
	cr_expect_leq(greatest("shm.max_workers"), RHC_WORKERS_MAX);
	cr_expect_leq(greatest("shm.max_upstreams"), RHC_UPSTREAMS_MAX);
	cr_expect_leq(greatest("defaults.bulkhead.max_concurrency"), RHC_LIMIT_MAX);
	cr_expect_leq(greatest("defaults.bulkhead.max_waiting"), RHC_WAITING_MAX);
	cr_expect_leq(greatest("defaults.circuit_breaker.half_open_max_calls"), RHC_PROBES_MAX);
}

/* ---- the file ---- */

Test(load, a_file_that_cannot_be_read_is_one_error)
{
	char dir[] = "/tmp/rhc-config-XXXXXX", fifo[64];

	cr_assert(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	cr_assert_eq(mkfifo(fifo, 0600), 0);
	cr_expect_null(load((struct config_source){ .path = "/nonexistent/rhc.yaml" }));
	cr_expect(found("E008") && f.errors == 1);
	findings_fini(&f);
	cr_expect_null(load((struct config_source){ .path = dir }));
	cr_expect(found("E008"));
	findings_fini(&f);
	cr_expect_null(load((struct config_source){ .path = fifo }),
		       "and nobody waits for a writer");
	cr_expect(found("E008"));
	findings_fini(&f);
	unlink(fifo);
	rmdir(dir);
}

Test(load, a_file_of_one_mebibyte_is_taken_and_one_byte_more_is_not)
{
	size_t len = CONFIG_FILE_MAX;
	char *text = malloc(len + 1);
	struct config *cfg;

	memset(text, '\n', len + 1);
	memcpy(text, MINIMAL, strlen(MINIMAL));
	cfg = load((struct config_source){ .text = text, .len = len });
	cr_expect(cfg);
	done(cfg);
	cfg = load((struct config_source){ .text = text, .len = len + 1 });
	cr_expect_null(cfg);
	cr_expect(found("E008"));
	done(cfg);
	free(text);
}

Test(load, the_examples_load_without_a_finding)
{
	static const char *const names[] = { "minimal",           "default",
					     "high-latency",      "high-throughput",
					     "several-upstreams", "tls-client-certificate" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[512];
		struct config *cfg;

		snprintf(path, sizeof(path), RHC_SOURCE_DIR "/deploy/examples/%s.yaml", names[i]);
		cfg = load((struct config_source){ .path = path });
		cr_expect(cfg, "%s", path);
		cr_expect_eq(f.len, 0, "%s: %s", path, f.len ? f.item[0].message : "");
		done(cfg);
	}
}

Test(load, the_rules_of_the_machine_tell_what_is_missing_on_it)
{
	struct config *cfg = load_text(
		"version: 1\nadmin: {token_file: /nonexistent/token}\n"
		"shm: {path: /usr/rhc.shm}\n"
		"upstreams:\n  o: {url: 'https://o', tls: {ca_file: /nonexistent/ca.pem},\n"
		"    pool: {max_connections: 10000}}\n");

	cr_expect_eq(config_check_host(cfg, &f), -EINVAL);
	cr_expect_eq(f.errors, 2);
	cr_expect(found("E008"));
	done(cfg);
	cfg = load_text(MINIMAL);
	cr_expect_eq(config_check_host(cfg, &f), 0);
	done(cfg);
}

/* ---- without memory ---- */

#define RICH                                                                                                         \
	"version: 1\npreset: high-latency\nlisteners: [{name: a, address: '127.0.0.1:4640'}]\n"                      \
	"defaults: {headers: {add_request: {x-a: '${env:A:-b}'}, remove_request: [x, y]}}\n"                         \
	"upstreams:\n  orders: {url: 'http://orders', hosts: [a, b], listen: 'unix:/x', retry: {statuses: [5xx]}}\n" \
	"  billing: {url: 'http://b', timeout: {raed: 5}, circuit_breaker: {count_statuses: [5xx]}}\n"

Test(load, wherever_memory_ends_the_load_ends_cleanly)
{
	const char *env[] = { "RHC_UPSTREAMS__ORDERS__TIMEOUT__READ=150s", "A=1", NULL };
	const char *set[] = { "upstreams.c.url=http://c", "defaults.retry.methods=[GET]" };
	bool whole = false;
	uint64_t max;
	int err = 0;

	/* Each allocation is the one that fails for some limit; steps are smaller than the smallest of them. */
	for (max = 1; !whole && max < 200000; max += max < 9000 ? 3 : 17) {
		struct config_source src = { .text = RICH,
					     .len = strlen(RICH),
					     .environ = (char *const *)env,
					     .set = set,
					     .set_len = 2,
					     .memory_max = max };
		struct config *cfg = NULL;

		findings_init(&f);
		err = config_load(&cfg, &src, &f);
		cr_assert_null(cfg);
		cr_assert(err == -ENOMEM || err == -EINVAL, "%d at %llu", err,
			  (unsigned long long)max);
		whole = err == -EINVAL;
		findings_fini(&f);
	}
	cr_expect(whole, "with enough memory the misspelt key is found: %d at %llu", err,
		  (unsigned long long)max);
}

Test(load, more_arguments_than_allowed_are_refused)
{
	static const char *set[CONFIG_OVERRIDES_MAX + 1];
	struct config *cfg;

	for (size_t i = 0; i < CONFIG_OVERRIDES_MAX + 1; i++)
		set[i] = "workers=2";
	cfg = load((struct config_source){ .text = MINIMAL,
					   .len = strlen(MINIMAL),
					   .set = set,
					   .set_len = CONFIG_OVERRIDES_MAX });
	cr_expect(cfg);
	done(cfg);
	cfg = load((struct config_source){ .text = MINIMAL,
					   .len = strlen(MINIMAL),
					   .set = set,
					   .set_len = CONFIG_OVERRIDES_MAX + 1 });
	cr_expect_null(cfg);
	done(cfg);
}
