/*
 * sidecar/base/random.h - random numbers of one worker: jitter, request ids, hash seeds.
 *
 * Shape   xoshiro256**, seeded from the kernel.  Not for secrets: TLS has its own.
 * Fork    Seed after the fork, or two workers make the same ids.
 */
#ifndef RHC_SIDECAR_BASE_RANDOM_H
#define RHC_SIDECAR_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

enum { UUID_TEXT_SIZE = 37 }; /* 36 characters and the final 0 */

struct rng {
	uint64_t s[4];
};

void     rng_init(struct rng *r); /* from getrandom(2), or from clock and pid where that fails */
void     rng_init_from(struct rng *r, uint64_t seed); /* the same sequence for the same seed */
uint64_t rng_u64(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t bound); /* 0..bound-1, unbiased; 0 for bound 0 */
double   rng_unit(struct rng *r); /* [0, 1) */

/* A version 4 UUID (RFC 9562 section 5.4) in lower case. */
void uuid_v4(struct rng *r, char out[UUID_TEXT_SIZE]);

/* FNV-1a, 64 bit: for tables whose keys are our own (names in the configuration). */
uint64_t hash_fnv1a(const void *p, size_t n);

/* SipHash-1-3 with a random key: for tables whose keys a stranger chooses (hosts, paths). */
struct hash_key {
	uint64_t k0, k1;
};
uint64_t hash_sip13(const struct hash_key *key, const void *p, size_t n);

#endif
