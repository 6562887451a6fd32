/*
 * tests/bench/relay.h - the floor: a relay of bytes that knows no HTTP.  What it costs, every proxy costs.
 *
 * Shape    one thread; one upstream connection per downstream one; one buffer per direction.
 * Engines  epoll (read, write), epoll with splice (no copy through user memory), epoll with TLS to the
 *          upstream, io_uring (one enter per turn, recv and send of all connections in it).
 */
#ifndef RHC_TESTS_BENCH_RELAY_H
#define RHC_TESTS_BENCH_RELAY_H

#include "tests/bench/bench.h"

#define RELAY_BUFFER_MAX (256 * 1024)

struct relay_opt {
	struct sockaddr_in from, to;
	size_t buffer;
	bool splice, tls;
};

_Noreturn void relay_epoll(const struct relay_opt *opt);
_Noreturn void relay_uring(const struct relay_opt *opt);

#endif
