/*
 * sidecar/base/list.h - intrusive doubly linked list.
 *
 * Shape   A ring of struct list_node through a head, struct list.  An unlinked node is all zero, so a
 *         zeroed object needs no further initialisation.  All operations are O(1).
 * Owns    nothing; a node is on at most one list, linking it twice asserts.
 */
#ifndef RHC_SIDECAR_BASE_LIST_H
#define RHC_SIDECAR_BASE_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "sidecar/base/obj.h"

struct list_node {
	struct list_node *next, *prev;
};

struct list {
	struct list_node head;
};

static inline void list_init(struct list *l)
{
	l->head.next = l->head.prev = &l->head;
}

static inline bool list_empty(const struct list *l)
{
	return l->head.next == &l->head;
}

static inline bool list_linked(const struct list_node *n)
{
	return n->next != NULL;
}

static inline void list_insert_(struct list_node *n, struct list_node *prev, struct list_node *next)
{
	assert(n->next == NULL);
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}

static inline void list_push_back(struct list *l, struct list_node *n)
{
	list_insert_(n, l->head.prev, &l->head);
}

static inline void list_push_front(struct list *l, struct list_node *n)
{
	list_insert_(n, &l->head, l->head.next);
}

/* Unlinks; a node that is on no list stays as it is. */
static inline void list_remove(struct list_node *n)
{
	if (!n->next)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
}

/* The first node, or NULL. */
static inline struct list_node *list_first(const struct list *l)
{
	return list_empty(l) ? NULL : l->head.next;
}

/* The last node, or NULL. */
static inline struct list_node *list_last(const struct list *l)
{
	return list_empty(l) ? NULL : l->head.prev;
}

/* Takes the first node off, or NULL. */
static inline struct list_node *list_pop_front(struct list *l)
{
	struct list_node *n = list_first(l);

	if (n)
		list_remove(n);
	return n;
}

/* Moves everything on `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->head.next->prev = to->head.prev;
	to->head.prev->next = from->head.next;
	from->head.prev->next = &to->head;
	to->head.prev = from->head.prev;
	list_init(from);
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)

/* n walks the nodes; the current one must stay linked. */
#define LIST_FOREACH(n, list)                                                                      \
	for (struct list_node *n = (list)->head.next; n != &(list)->head; n = n->next)

/* n walks the nodes; the current one, and only it, may be unlinked. */
#define LIST_FOREACH_SAFE(n, list)                                                                 \
	for (struct list_node *n = (list)->head.next, *n##_next = n->next; n != &(list)->head;     \
	     n = n##_next, n##_next = n->next)

#endif
