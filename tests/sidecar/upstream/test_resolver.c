/* sidecar/upstream/resolver.h against a name server that does what it is told. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "dns_server.h"
#include "rig.h"
#include "sidecar/base/log.h"
#include "sidecar/upstream/resolver.h"

#define MS NS_PER_MS
#define S  NS_PER_S

static struct rig rig;
static struct dns_server server;
static struct resolver *resolver;
static struct resolver_name *name;
static struct config_dns rule;
static char hosts[] = "/tmp/rhc-hosts-XXXXXX";
static unsigned lookups;
static enum resolver_error last_lookup;

struct waiter {
	struct resolver_wait w;
	bool done;
	enum resolver_error err;
};

static void on_done(struct resolver_wait *w, enum resolver_error err)
{
	struct waiter *x = CONTAINER_OF(w, struct waiter, w);

	cr_assert_not(x->done, "told once");
	x->done = true;
	x->err = err;
}

static void on_lookup(void *owner, enum resolver_error err, uint64_t took_ns)
{
	(void)owner;
	(void)took_ns;
	lookups++;
	last_lookup = err;
}

static void write_hosts(const char *text)
{
	int fd = open(hosts, O_WRONLY | O_TRUNC);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void setup_kind(enum engine_kind kind)
{
	struct resolver_options o = { .try_timeout_ms = 100 };
	int fd = mkstemp(hosts);

	cr_assert_geq(fd, 0);
	close(fd);
	log_set_all(LOG_OFF);
	rig_init(&rig, kind);
	dns_server_init(&server);
	rig.peer[rig.n_peers++] = (struct rig_peer){ dns_server_act, &server };
	rule = (struct config_dns){
		.ttl_min_ns = 1 * S,
		.ttl_max_ns = 300 * S,
		.negative_ttl_ns = 5 * S,
		.timeout_ns = 1 * S,
		.family = CONFIG_FAMILY_AUTO,
		.stale_if_error_ns = 300 * S,
	};
	o.engine = rig.engine;
	o.timers = &rig.timers;
	o.servers = server.csv;
	o.hosts_file = hosts;
	cr_assert_eq(resolver_new(&o, &resolver), 0);
	server.script = (struct dns_script){ .ttl = 60, .n4 = 2, .first4 = 10 };
}

static void setup(void)
{
	setup_kind(ENGINE_AUTO);
}

static void make(const char *host)
{
	struct resolver_events ev = { .on_lookup = on_lookup };

	cr_assert_eq(resolver_name_new(resolver, host, 8080, &rule, &ev, &name), 0);
}

static void teardown(void)
{
	bool idle = false;

	resolver_stop(resolver);
	for (int i = 0; i < 500 && !idle; i++) {
		rig_turn(&rig);
		idle = resolver_idle(resolver);
	}
	cr_assert(idle);
	resolver_free(resolver);
	dns_server_fini(&server);
	rig_fini(&rig);
	unlink(hosts);
}

/* Ask and wait for the answer. */
static enum resolver_error get(unsigned ms)
{
	struct waiter x = { .w.done = on_done };
	enum resolver_error err = RESOLVER_OK;

	switch (resolver_get(name, &x.w, &err)) {
	case RESOLVER_READY:
		return RESOLVER_OK;
	case RESOLVER_FAILED:
		return err;
	case RESOLVER_WAITING:
		break;
	}
	cr_assert(rig_until(&rig, &x.done, ms), "no answer in %u ms", ms);
	return x.err;
}

static uint32_t addrs(const union resolver_addr **ret)
{
	uint32_t generation;

	return resolver_addrs(name, ret, &generation);
}

TestSuite(resolver, .init = setup, .fini = teardown, .timeout = 60);

Test(resolver, finds_addresses_and_keeps_them)
{
	const union resolver_addr *a;
	char text[RESOLVER_ADDR_TEXT];
	unsigned asked;

	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	cr_assert_eq(addrs(&a), 2);
	cr_assert_str_eq(resolver_addr_text(&a[0], text), "127.0.0.10:8080");
	asked = server.asked;
	cr_assert_eq(asked, 2, "one A, one AAAA");
	cr_assert_str_eq(server.name, "orders.shop.svc", "two dots: absolute");
	cr_assert_eq(get(0), RESOLVER_OK);
	rig_for(&rig, 20);
	cr_assert_eq(server.asked, asked);
	cr_assert_eq(lookups, 1);
}

Test(resolver, callers_share_one_lookup)
{
	struct waiter x[3] = { { .w.done = on_done },
			       { .w.done = on_done },
			       { .w.done = on_done } };
	enum resolver_error err;

	make("orders.shop.svc");
	for (int i = 0; i < 3; i++)
		cr_assert_eq(resolver_get(name, &x[i].w, &err), RESOLVER_WAITING);
	resolver_cancel(&x[1].w);
	cr_assert(rig_until(&rig, &x[2].done, 2000));
	cr_assert(x[0].done && x[0].err == RESOLVER_OK);
	cr_assert_not(x[1].done, "cancelled");
	cr_assert_eq(lookups, 1);
}

Test(resolver, says_which_name_does_not_exist_and_remembers_it)
{
	server.script.rcode = 3;
	make("nowhere.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_NXDOMAIN);
	cr_assert_eq(get(0), RESOLVER_NXDOMAIN, "remembered");
	cr_assert_eq(lookups, 1);
	cr_assert_eq(last_lookup, RESOLVER_NXDOMAIN);
}

Test(resolver, tells_servfail_refused_and_no_address_apart)
{
	rule.negative_ttl_ns = 0;
	make("orders.shop.svc");
	server.script.rcode = 2;
	cr_assert_eq(get(3000), RESOLVER_SERVFAIL);
	server.script.rcode = 5;
	cr_assert_eq(get(3000), RESOLVER_REFUSED);
	server.script.rcode = 0;
	server.script.n4 = 0;
	cr_assert_eq(get(3000), RESOLVER_NODATA);
}

Test(resolver, a_silent_server_costs_the_timeout_and_no_more)
{
	uint64_t begun = clock_ns();

	server.script.silent = true;
	rule.timeout_ns = 300 * MS;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_TIMEOUT);
	cr_assert(clock_ns() - begun >= 290 * MS);
	cr_assert(clock_ns() - begun < 1500 * MS);
	cr_assert_eq(get(0), RESOLVER_TIMEOUT, "remembered");
}

Test(resolver, a_lost_question_is_asked_again)
{
	struct waiter x = { .w.done = on_done };
	enum resolver_error err;

	server.script.silent = true;
	make("orders.shop.svc");
	cr_assert_eq(resolver_get(name, &x.w, &err), RESOLVER_WAITING);
	rig_for(&rig, 40);
	cr_assert_gt(server.asked, 0);
	server.script.silent = false;
	cr_assert(rig_until(&rig, &x.done, 2000));
	cr_assert_eq(x.err, RESOLVER_OK);
}

Test(resolver, a_truncated_answer_is_fetched_over_tcp)
{
	const union resolver_addr *a;

	server.script.truncate = true;
	server.script.n4 = 40;
	make("orders.shop.svc");
	cr_assert_eq(get(3000), RESOLVER_OK);
	cr_assert_gt(server.asked_tcp, 0);
	cr_assert_eq(addrs(&a), RESOLVER_ADDRS_MAX, "bounded");
}

Test(resolver, garbage_is_not_an_answer)
{
	server.script.garbage = true;
	rule.timeout_ns = 600 * MS;
	make("orders.shop.svc");
	cr_assert_neq(get(3000), RESOLVER_OK);
}

Test(resolver, an_answer_expires_with_its_ttl_and_is_refreshed_before)
{
	const union resolver_addr *a;
	uint32_t was, is;

	server.script.ttl = 1;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	resolver_addrs(name, &a, &was);
	server.script.first4 = 20;
	rig_for(&rig, 800);
	cr_assert_eq(get(0), RESOLVER_OK, "still good: answered at once");
	cr_assert_eq(lookups, 1);
	rig_for(&rig, 100); /* the background lookup */
	cr_assert_eq(lookups, 2);
	resolver_addrs(name, &a, &is);
	cr_assert_neq(was, is);
	cr_assert_eq(ntohl(a[0].in.sin_addr.s_addr) & 0xff, 20);
	rig_for(&rig, 1100);
	cr_assert_eq(get(1000), RESOLVER_OK, "expired: looked up");
	cr_assert_eq(lookups, 3);
}

Test(resolver, ttl_max_shortens_what_the_server_says)
{
	server.script.ttl = 86400;
	rule.ttl_max_ns = 100 * MS;
	rule.ttl_min_ns = 0;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	rig_for(&rig, 150);
	cr_assert_eq(get(2000), RESOLVER_OK);
	cr_assert_eq(lookups, 2);
}

Test(resolver, ttl_min_lengthens_a_ttl_of_zero)
{
	server.script.ttl = 0;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	rig_for(&rig, 100);
	cr_assert_eq(get(0), RESOLVER_OK);
	cr_assert_eq(lookups, 1);
}

Test(resolver, the_last_good_addresses_serve_while_lookups_fail)
{
	const union resolver_addr *a;

	server.script.ttl = 0;
	rule.ttl_min_ns = 50 * MS;
	rule.timeout_ns = 300 * MS;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	server.script.silent = true;
	rig_for(&rig, 100);
	cr_assert_eq(get(2000), RESOLVER_OK, "stale, after a lookup that timed out");
	cr_assert_eq(last_lookup, RESOLVER_TIMEOUT);
	cr_assert_eq(get(0), RESOLVER_OK, "at once, while the failure is remembered");
	cr_assert_eq(addrs(&a), 2);
}

Test(resolver, stale_addresses_end_some_time)
{
	server.script.ttl = 0;
	rule.ttl_min_ns = 50 * MS;
	rule.timeout_ns = 100 * MS;
	rule.stale_if_error_ns = 0;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	server.script.silent = true;
	rig_for(&rig, 100);
	cr_assert_eq(get(2000), RESOLVER_TIMEOUT);
}

Test(resolver, a_name_that_ceased_to_exist_is_not_served_stale)
{
	const union resolver_addr *a;

	server.script.ttl = 0;
	rule.ttl_min_ns = 50 * MS;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	server.script.rcode = 3;
	rig_for(&rig, 100);
	cr_assert_eq(get(2000), RESOLVER_NXDOMAIN);
	cr_assert_eq(addrs(&a), 0);
}

Test(resolver, a_late_answer_is_not_lost)
{
	server.script.silent = true;
	rule.timeout_ns = 60 * MS;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_TIMEOUT);
	server.script.silent = false; /* the second try of the same question */
	rig_for(&rig, 400);
	cr_assert_eq(get(0), RESOLVER_OK);
}

Test(resolver, one_family_is_enough_when_the_other_is_silent)
{
	const union resolver_addr *a;

	server.script.silent_aaaa = true;
	rule.family = CONFIG_FAMILY_IPV4;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	cr_assert_eq(addrs(&a), 2);
	cr_assert_eq(server.asked, 1, "only A was asked for");
}

Test(resolver, families_alternate)
{
	const union resolver_addr *a;
	uint32_t n;

	server.script.n4 = 3;
	server.script.n6 = 2;
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	n = addrs(&a);
	cr_assert_eq(n, 5);
	for (uint32_t i = 1; i < 4; i++)
		cr_assert_neq(a[i].any.sa_family, a[i - 1].any.sa_family, "%u", i);
}

Test(resolver, literals_need_no_server)
{
	const union resolver_addr *a;
	char text[RESOLVER_ADDR_TEXT];

	make("192.0.2.7");
	cr_assert_eq(get(0), RESOLVER_OK);
	cr_assert_eq(addrs(&a), 1);
	cr_assert_str_eq(resolver_addr_text(&a[0], text), "192.0.2.7:8080");
	make("::1");
	cr_assert_eq(get(0), RESOLVER_OK);
	addrs(&a);
	cr_assert_str_eq(resolver_addr_text(&a[0], text), "[::1]:8080");
	rig_for(&rig, 20);
	cr_assert_eq(server.asked, 0);
}

Test(resolver, a_literal_of_a_family_that_is_off_has_no_address)
{
	rule.family = CONFIG_FAMILY_IPV6;
	make("192.0.2.7");
	cr_assert_eq(get(0), RESOLVER_NODATA);
}

Test(resolver, localhost_is_the_loopback_whatever_the_server_says)
{
	static const char *const names[] = { "localhost", "LOCALHOST", "localhost.",
					     "orders.localhost" };
	const union resolver_addr *a;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		make(names[i]);
		cr_assert_eq(get(0), RESOLVER_OK, "%s", names[i]);
		cr_assert_eq(addrs(&a), 2);
		cr_assert_eq(a[0].in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	}
	cr_assert_eq(server.asked, 0);
}

Test(resolver, the_hosts_file_comes_before_the_servers)
{
	const union resolver_addr *a;
	char text[RESOLVER_ADDR_TEXT];

	write_hosts("# comment\n127.0.0.1 localhost\n"
		    "192.0.2.1\tone.shop.svc orders.shop.SVC # x other.shop.svc\nbad\n");
	make("orders.shop.svc");
	cr_assert_eq(get(0), RESOLVER_OK);
	cr_assert_eq(addrs(&a), 1);
	cr_assert_str_eq(resolver_addr_text(&a[0], text), "192.0.2.1:8080");
	make("other.shop.svc"); /* behind a comment */
	cr_assert_eq(get(2000), RESOLVER_OK);
	addrs(&a);
	cr_assert_str_eq(resolver_addr_text(&a[0], text), "127.0.0.10:8080");
}

Test(resolver, names_that_cannot_be_are_refused)
{
	char long_name[300];

	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	cr_assert_eq(resolver_name_new(resolver, "", 80, &rule, NULL, &name), -EINVAL);
	cr_assert_eq(resolver_name_new(resolver, long_name, 80, &rule, NULL, &name), -EINVAL);
	long_name[100] = '\0'; /* a label of more than 63 */
	make(long_name);
	cr_assert_eq(get(3000), RESOLVER_BAD_NAME);
}

Test(resolver, may_end_while_it_looks)
{
	struct waiter x = { .w.done = on_done };
	enum resolver_error err = RESOLVER_OK;

	server.script.silent = true;
	make("orders.shop.svc");
	cr_assert_eq(resolver_get(name, &x.w, &err), RESOLVER_WAITING);
	rig_for(&rig, 10);
	resolver_stop(resolver);
	rig_for(&rig, 10);
	cr_assert_not(x.done);
	cr_assert_eq(resolver_get(name, &x.w, &err), RESOLVER_FAILED);
}

Test(resolver, a_name_may_end_while_it_is_looked_up)
{
	struct waiter x = { .w.done = on_done };
	enum resolver_error err;

	make("orders.shop.svc");
	cr_assert_eq(resolver_get(name, &x.w, &err), RESOLVER_WAITING);
	resolver_name_free(name);
	rig_for(&rig, 50);
	cr_assert_not(x.done);
}

static void setup_epoll(void)
{
	setup_kind(ENGINE_EPOLL);
}

TestSuite(resolver_epoll, .init = setup_epoll, .fini = teardown, .timeout = 60);

Test(resolver_epoll, finds_addresses_over_udp_and_tcp)
{
	make("orders.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	server.script.truncate = true;
	make("other.shop.svc");
	cr_assert_eq(get(2000), RESOLVER_OK);
	cr_assert_gt(server.asked_tcp, 0);
}
