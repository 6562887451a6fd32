/*
 * sidecar/base/obj.h - magic numbers: is this pointer what we think it is?
 *
 * Shape   The first field of each long-lived object is `uint32_t magic`, set at birth, cleared at death.
 * Errors  A wrong magic is a bug and asserts, in release builds too.
 */
#ifndef RHC_SIDECAR_BASE_OBJ_H
#define RHC_SIDECAR_BASE_OBJ_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef NDEBUG
#error "asserts stay on: a bug stops the worker, and its slots are taken back"
#endif

/* Zeroes the object and gives it its magic. */
#define OBJ_INIT(o, magic_)                                                                        \
	do {                                                                                       \
		memset((o), 0, sizeof(*(o)));                                                      \
		(o)->magic = (magic_);                                                             \
	} while (0)

/* The object exists and is of this kind. */
#define OBJ_CHECK(o, magic_) assert((o) != NULL && (o)->magic == (magic_))

/* Ends the object's life; a second end asserts. */
#define OBJ_FINI(o, magic_)                                                                        \
	do {                                                                                       \
		OBJ_CHECK(o, magic_);                                                              \
		(o)->magic = 0;                                                                    \
	} while (0)

/* The object around an embedded member. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
