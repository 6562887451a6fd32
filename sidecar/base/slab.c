#include "sidecar/base/slab.h"

#include <errno.h>
#include <sys/mman.h>

#include "sidecar/base/obj.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define SLAB_MAGIC UINT32_C(0x51ab51ab)
#define SLAB_LENT  (UINT32_MAX - 1)
#define SLAB_NONE  UINT32_MAX

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

int slab_init(struct slab *s, const char *name, size_t object_size, uint32_t count)
{
	size_t size, table, bytes;
	void  *p;

	if (object_size == 0 || count == 0)
		return -EINVAL;
	if (object_size > UINT32_MAX / 2 || count >= SLAB_LENT)
		return -ENOMEM;
	size = round_up(object_size, SLAB_ALIGN);
	table = round_up(count * sizeof(*s->next), SLAB_ALIGN);
	if (__builtin_mul_overflow(size, (size_t)count, &bytes) ||
	    __builtin_add_overflow(bytes, table, &bytes))
		return -ENOMEM;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	         -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	OBJ_INIT(s, SLAB_MAGIC);
	s->name = name;
	s->count = count;
	s->size = (uint32_t)size;
	s->mapped = bytes;
	s->next = p;
	s->memory = (uint8_t *)p + table;
	s->free_first = SLAB_NONE;
	return 0;
}

void slab_fini(struct slab *s)
{
	OBJ_FINI(s, SLAB_MAGIC);
	assert(s->in_use == 0);
	ASAN_UNPOISON_MEMORY_REGION(s->next, s->mapped);
	munmap(s->next, s->mapped);
}

/* An object that was lent before, else one more of the untouched ones. */
static uint32_t pick(struct slab *s)
{
	uint32_t i = s->free_first;

	if (i != SLAB_NONE) {
		s->free_first = s->next[i];
		return i;
	}
	return s->touched < s->count ? s->touched++ : SLAB_NONE;
}

void *slab_get(struct slab *s)
{
	uint32_t i;
	uint8_t *p;

	OBJ_CHECK(s, SLAB_MAGIC);
	i = pick(s);
	if (i == SLAB_NONE) {
		s->refused++;
		return NULL;
	}
	s->next[i] = SLAB_LENT;
	if (++s->in_use > s->high)
		s->high = s->in_use;
	p = s->memory + (size_t)i * s->size;
	ASAN_UNPOISON_MEMORY_REGION(p, s->size);
	return p;
}

uint32_t slab_index(const struct slab *s, const void *object)
{
	size_t at = (size_t)((const uint8_t *)object - s->memory);

	OBJ_CHECK(s, SLAB_MAGIC);
	assert((const uint8_t *)object >= s->memory && at / s->size < s->touched &&
	       at % s->size == 0);
	return (uint32_t)(at / s->size);
}

void slab_put(struct slab *s, void *object)
{
	uint32_t i;

	if (!object)
		return;
	i = slab_index(s, object);
	assert(s->next[i] == SLAB_LENT);
	s->next[i] = s->free_first;
	s->free_first = i;
	s->in_use--;
	ASAN_POISON_MEMORY_REGION(object, s->size);
}
