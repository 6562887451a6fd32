#include "sidecar/base/random.h"

#include <endian.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "sidecar/base/clock.h"

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

static uint64_t splitmix(uint64_t *x)
{
	uint64_t z = *x += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

void rng_init_from(struct rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		r->s[i] = splitmix(&seed);
}

void rng_init(struct rng *r)
{
	ssize_t n = getrandom(r->s, sizeof(r->s), GRND_NONBLOCK);

	/* All zero would stay zero for ever. */
	if (n == (ssize_t)sizeof(r->s) && (r->s[0] | r->s[1] | r->s[2] | r->s[3]) != 0)
		return;
	rng_init_from(r, clock_ns() ^ clock_wall_ns() << 20 ^ (uint64_t)getpid() << 44);
}

uint64_t rng_u64(struct rng *r)
{
	uint64_t *s = r->s;
	uint64_t  out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return out;
}

/* Lemire's multiplication: the high half is the number, a small low half would be biased. */
uint64_t rng_below(struct rng *r, uint64_t bound)
{
	unsigned __int128 m;

	if (bound == 0)
		return 0;
	do {
		m = (unsigned __int128)rng_u64(r) * bound;
	} while ((uint64_t)m < -bound % bound);
	return (uint64_t)(m >> 64);
}

double rng_unit(struct rng *r)
{
	return (double)(rng_u64(r) >> 11) * 0x1.0p-53;
}

/* Eight digits in lower case of four bytes, the first byte and its high half first; all digits at once. */
static void hex_8(const uint8_t b[4], char out[8])
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t       v = (uint64_t)b[0] | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 32 |
	             (uint64_t)b[3] << 48;

	v = (v >> 4 & UINT64_C(0x000f000f000f000f)) | (v << 8 & UINT64_C(0x0f000f000f000f00));
	/* 10 and more reach bit 4 with 6 added, and "a" is 39 behind the digit after "9" */
	v += ones * '0' + (((v + ones * 6) >> 4) & ones) * ('a' - '0' - 10);
	v = htole64(v);
	memcpy(out, &v, 8);
}

void uuid_v4(struct rng *r, char out[UUID_TEXT_SIZE])
{
	uint64_t v[2] = { rng_u64(r), rng_u64(r) };
	uint8_t  b[16];
	char     hex[32];

	memcpy(b, v, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant 10 */
	for (int i = 0; i < 4; i++)
		hex_8(b + i * 4, hex + i * 8);
	memcpy(out, hex, 8);
	memcpy(out + 9, hex + 8, 4);
	memcpy(out + 14, hex + 12, 4);
	memcpy(out + 19, hex + 16, 4);
	memcpy(out + 24, hex + 20, 12);
	out[8] = out[13] = out[18] = out[23] = '-';
	out[36] = 0;
}

uint64_t hash_fnv1a(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t       h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

/* Up to 8 bytes, little-endian. */
static uint64_t load_le(const uint8_t *p, size_t n)
{
	uint64_t x = 0;

	for (size_t i = 0; i < n; i++)
		x |= (uint64_t)p[i] << 8 * i;
	return x;
}

static void sip_word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
}

uint64_t hash_sip13(const struct hash_key *key, const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t       v[4] = {
		key->k0 ^ UINT64_C(0x736f6d6570736575),
		key->k1 ^ UINT64_C(0x646f72616e646f6d),
		key->k0 ^ UINT64_C(0x6c7967656e657261),
		key->k1 ^ UINT64_C(0x7465646279746573),
	};
	size_t left = n;

	for (; left >= 8; left -= 8, p += 8)
		sip_word(v, load_le(p, 8));
	sip_word(v, load_le(p, left) | (uint64_t)n << 56);
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
