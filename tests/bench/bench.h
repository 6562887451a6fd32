/*
 * tests/bench/bench.h - what the programs of the benchmark share: time, sockets, options, the body.
 *
 * Errors   these programs end with a message at the first surprise: a figure measured around an error is
 *          worse than none.
 */
#ifndef RHC_TESTS_BENCH_H
#define RHC_TESTS_BENCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PATTERN 64        /* period of every body */
#define BENCH_BLOCK   (1 << 20) /* bytes of pattern kept ready; a multiple of the period */

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t now_ns(void);
/* CPU time of this process alone. */
uint64_t cpu_ns(void);

/* "127.0.0.1:8080"; IPv4 alone, this is loopback. */
struct sockaddr_in address_of(const char *text);
/* Non-blocking, TCP_NODELAY; a connection may still be under way. */
int listen_on(const struct sockaddr_in *addr);
int accept_from(int listener); /* -1: nobody there */
int connect_to(const struct sockaddr_in *addr);

/* As many descriptors as the system lets us have. */
void raise_files(void);

/* The body: byte i of it is pattern_at(i). */
char pattern_at(uint64_t offset);
const char *pattern_block(void); /* BENCH_BLOCK bytes from offset 0 */

/*
 * Value of option --name VALUE or --name=VALUE, or `otherwise` when it was not given.  options_done() ends
 * the program if an argument was never asked for.
 */
const char *option(int argc, char **argv, const char *name, const char *otherwise);
uint64_t option_number(int argc, char **argv, const char *name, uint64_t otherwise);
bool option_flag(int argc, char **argv, const char *name);
void options_done(int argc, char **argv);

#endif
