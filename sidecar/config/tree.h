/*
 * sidecar/config/tree.h - a YAML document as a tree whose nodes know where they stand.
 *
 * Shape    struct node: scalar, sequence or mapping; children in the order of the file.
 * Owns     nothing; nodes and texts live in the arena.
 * Errors   findings E001 (syntax), E003 (duplicate key), E010 (refused feature, limit).
 *          tree_parse()  -EINVAL  there is no tree, -ENOMEM.
 * Limits   CONFIG_DEPTH_MAX levels, TREE_CHILDREN_MAX members of one node, TREE_NODES_MAX nodes.
 * Never    anchors, aliases, merge keys, tags or a second document: they are refused, so a small file cannot
 *          become a big tree and a value is what stands there.
 */
#pragma once

#include "sidecar/config/place.h"

#define TREE_CHILDREN_MAX 1024
#define TREE_NODES_MAX    100000

enum node_kind {
	NODE_SCALAR,
	NODE_SEQUENCE,
	NODE_MAPPING,
};

struct node {
	enum node_kind kind;
	bool plain;    /* a scalar without quotes: may be null */
	bool expanded; /* its text came from the environment through ${env:} */
	struct place at;
	struct place key_at;
	const char *key;  /* of a mapping's member */
	const char *text; /* of a scalar, a NUL behind */
	size_t len;
	struct node *child, *last, *next;
	uint32_t children;
};

struct arena;

/*
 * Parse a text.  `base` gives kind and name of the places; line and column count in the text.
 * *ret is NULL for an empty document.
 */
int tree_parse(const char *text, size_t len, const struct place *base, struct arena *a,
	       const struct reporter *r, struct node **ret);

struct node *tree_scalar(struct arena *a, const char *text, size_t len, const struct place *at);
struct node *tree_mapping(struct arena *a, const struct place *at);

/* The member of that name, or NULL. */
struct node *tree_member(const struct node *n, const char *key, size_t len);

void tree_append(struct node *parent, struct node *child);

/* null, ~ or nothing. */
bool tree_is_null(const struct node *n);

/* "a text", "a sequence", "a mapping" */
const char *tree_kind_name(const struct node *n);
