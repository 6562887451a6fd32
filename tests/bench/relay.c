/*
 * tests/bench/relay.c - rhc-relay: the floor.
 *
 * usage: rhc-relay --listen 127.0.0.1:PORT --to 127.0.0.1:PORT [--engine epoll|io_uring] [--buffer 16384]
 *                  [--splice | --tls]
 */
#include "tests/bench/relay.h"

#include <signal.h>
#include <string.h>

int main(int argc, char **argv)
{
	const char *engine = option(argc, argv, "--engine", "epoll");
	struct relay_opt opt = {
		.from = address_of(option(argc, argv, "--listen", "127.0.0.1:8001")),
		.to = address_of(option(argc, argv, "--to", "127.0.0.1:8000")),
		.buffer = option_number(argc, argv, "--buffer", 16384),
		.splice = option_flag(argc, argv, "--splice"),
		.tls = option_flag(argc, argv, "--tls"),
	};
	bool uring = strcmp(engine, "io_uring") == 0;

	options_done(argc, argv);
	if (!opt.buffer || opt.buffer > RELAY_BUFFER_MAX)
		die("rhc-relay: --buffer is 1 to %d", RELAY_BUFFER_MAX);
	if (uring ? opt.splice || opt.tls : strcmp(engine, "epoll") != 0 || (opt.splice && opt.tls))
		die("rhc-relay: no such combination");
	raise_files();
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	if (uring)
		relay_uring(&opt);
	relay_epoll(&opt);
}
