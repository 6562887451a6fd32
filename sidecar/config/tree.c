#include "sidecar/config/tree.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <yaml.h>

#include "sidecar/config/arena.h"
#include "sidecar/config/config.h"

struct builder {
	yaml_parser_t parser;
	const char *text; /* what it reads */
	size_t len;
	struct arena *arena;
	const struct reporter *r;
	const struct place *base;
	struct node *root;
	struct node *stack[CONFIG_DEPTH_MAX];
	uint32_t depth;
	uint32_t nodes;
	uint32_t documents;
	/* The key whose value comes next; NULL = a key comes next when the top is a mapping. */
	const char *key;
	struct place key_at;
	bool duplicate; /* that key was there before: its value is read and dropped */
	bool have_key;
};

/* ---- nodes ---- */

struct node *tree_scalar(struct arena *a, const char *text, size_t len, const struct place *at)
{
	struct node *n = arena_alloc(a, sizeof(*n));

	if (!n)
		return NULL;
	n->kind = NODE_SCALAR;
	n->at = *at;
	n->len = len;
	n->text = arena_copy(a, text, len);
	return n->text ? n : NULL;
}

struct node *tree_mapping(struct arena *a, const struct place *at)
{
	struct node *n = arena_alloc(a, sizeof(*n));

	if (n) {
		n->kind = NODE_MAPPING;
		n->at = *at;
	}
	return n;
}

struct node *tree_member(const struct node *n, const char *key, size_t len)
{
	for (struct node *c = n->child; c; c = c->next) {
		if (c->key && strlen(c->key) == len && memcmp(c->key, key, len) == 0)
			return c;
	}
	return NULL;
}

void tree_append(struct node *parent, struct node *child)
{
	if (parent->last)
		parent->last->next = child;
	else
		parent->child = child;
	parent->last = child;
	parent->children++;
}

bool tree_is_null(const struct node *n)
{
	return n->kind == NODE_SCALAR && n->plain &&
	       (n->len == 0 || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0);
}

const char *tree_kind_name(const struct node *n)
{
	static const char *const names[] = { "a single value", "a sequence", "a mapping" };

	return tree_is_null(n) ? "nothing" : names[n->kind];
}

/* ---- building ---- */

static struct place place_of(const struct builder *b, const yaml_event_t *e)
{
	struct place at = *b->base;

	at.line = (uint32_t)e->start_mark.line + 1;
	at.column = (uint32_t)e->start_mark.column + 1;
	at.width = 1;
	if (e->end_mark.line == e->start_mark.line && e->end_mark.column > e->start_mark.column)
		at.width = (uint32_t)(e->end_mark.column - e->start_mark.column);
	/* In the environment or an argument only the name helps. */
	if (at.kind != PLACE_FILE)
		at.line = at.column = at.width = 0;
	return at;
}

static int refuse(const struct builder *b, const struct place *at, const char *what,
		  const char *hint)
{
	report(b->r, "E010", at, hint, NULL, "%s", what);
	return -EINVAL;
}

/* The value behind an anchor or a tag is clear, so reading goes on; the finding alone refuses the file. */
static void refuse_decoration(const struct builder *b, const struct place *at, const void *anchor,
			      const void *tag)
{
	if (anchor)
		refuse(b, at, "anchors (&) are not taken",
		       "write the value out, or put it below defaults");
	if (tag)
		refuse(b, at, "tags (!) are not taken", "the key decides the type");
}

/* Hangs a finished or opened node below the top of the stack. */
static int hang(struct builder *b, struct node *n)
{
	struct node *top = b->depth ? b->stack[b->depth - 1] : NULL;
	bool drop = b->duplicate;

	if (top && top->kind == NODE_MAPPING) {
		assert(b->have_key);
		n->key = b->key;
		n->key_at = b->key_at;
		b->have_key = b->duplicate = false;
	}
	if (drop)
		return 0;
	if (!top) {
		b->root = n;
		return 0;
	}
	if (top->children == TREE_CHILDREN_MAX)
		return refuse(b, &n->at, "too many members",
			      "a mapping or sequence holds at most 1024");
	tree_append(top, n);
	return 0;
}

static bool key_comes(const struct builder *b)
{
	return b->depth && b->stack[b->depth - 1]->kind == NODE_MAPPING && !b->have_key;
}

static int take_key(struct builder *b, const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;
	size_t len = e->data.scalar.length;
	struct node *first;

	b->key_at = place_of(b, e);
	if (memchr(text, '\0', len))
		return refuse(b, &b->key_at, "a key with a NUL character", NULL);
	if (strcmp(text, "<<") == 0)
		return refuse(b, &b->key_at, "merge keys (<<) are not taken",
			      "write the values out, or put them below defaults");
	b->key = arena_copy(b->arena, text, len);
	if (!b->key)
		return -ENOMEM;
	first = tree_member(b->stack[b->depth - 1], text, len);
	if (first)
		report(b->r, "E003", &b->key_at, NULL, NULL,
		       "duplicate key \"%s\": first on line %u", text,
		       (unsigned)first->key_at.line);
	b->duplicate = first != NULL;
	b->have_key = true;
	return 0;
}

static int take_scalar(struct builder *b, const yaml_event_t *e)
{
	struct place at = place_of(b, e);
	struct node *n;

	refuse_decoration(b, &at, e->data.scalar.anchor, e->data.scalar.tag);
	if (key_comes(b))
		return take_key(b, e);
	if (memchr(e->data.scalar.value, '\0', e->data.scalar.length))
		return refuse(b, &at, "a value with a NUL character", NULL);
	n = tree_scalar(b->arena, (const char *)e->data.scalar.value, e->data.scalar.length, &at);
	if (!n)
		return -ENOMEM;
	n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	return hang(b, n);
}

static int open_node(struct builder *b, const yaml_event_t *e, enum node_kind kind,
		     const void *anchor, const void *tag)
{
	struct place at = place_of(b, e);
	struct node *n;
	int err;

	if (kind == NODE_MAPPING)
		at.width = 1;
	refuse_decoration(b, &at, anchor, tag);
	if (key_comes(b))
		return refuse(b, &at, "a key must be a single word", NULL);
	if (b->depth == CONFIG_DEPTH_MAX)
		return refuse(b, &at, "nested too deeply", "at most 16 levels");
	n = tree_mapping(b->arena, &at);
	if (!n)
		return -ENOMEM;
	n->kind = kind;
	err = hang(b, n);
	b->stack[b->depth++] = n;
	return err;
}

static int close_node(struct builder *b)
{
	assert(b->depth > 0);
	b->depth--;
	return 0;
}

static int take_event(struct builder *b, const yaml_event_t *e)
{
	struct place at = place_of(b, e);

	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (b->documents++)
			return refuse(b, &at, "a second document",
				      "one file holds one configuration");
		return 0;
	case YAML_ALIAS_EVENT:
		return refuse(b, &at, "aliases (*) are not taken",
			      "write the value out, or put it below defaults");
	case YAML_SCALAR_EVENT:
		return take_scalar(b, e);
	case YAML_SEQUENCE_START_EVENT:
		return open_node(b, e, NODE_SEQUENCE, e->data.sequence_start.anchor,
				 e->data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		return open_node(b, e, NODE_MAPPING, e->data.mapping_start.anchor,
				 e->data.mapping_start.tag);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return close_node(b);
	default:
		return 0;
	}
}

/* The reader tells bytes from the start, the others lines and columns. */
static void place_of_offset(const struct builder *b, size_t offset, struct place *at)
{
	const char *line = b->text;

	at->line = 1;
	for (size_t i = 0; i < offset && i < b->len; i++) {
		if (b->text[i] == '\n') {
			at->line++;
			line = b->text + i + 1;
		}
	}
	at->column = (uint32_t)(b->text + offset - line) + 1;
}

static bool is_tab(const struct builder *b, const struct place *at)
{
	size_t i = 0;

	for (uint32_t line = 1; line < at->line && i < b->len; i++)
		line += b->text[i] == '\n';
	i += at->column - 1;
	return at->kind == PLACE_FILE && i < b->len && b->text[i] == '\t';
}

/* libyaml's own words; its marks count from 0. */
static int syntax(const struct builder *b)
{
	const yaml_parser_t *p = &b->parser;
	struct place at = *b->base;

	if (p->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (at.kind == PLACE_FILE) {
		at.line = (uint32_t)p->problem_mark.line + 1;
		at.column = (uint32_t)p->problem_mark.column + 1;
		at.width = 1;
	}
	if (p->error == YAML_READER_ERROR) {
		if (at.kind == PLACE_FILE)
			place_of_offset(b, p->problem_offset, &at);
		report(b->r, "E001", &at, "the file must be UTF-8 text", NULL, "%s", p->problem);
	} else {
		report(b->r, "E001", &at, is_tab(b, &at) ? "indent with spaces, not tabs" : NULL,
		       NULL, "%s%s%s%s",
		       p->problem ? p->problem : "not YAML", p->context ? " (" : "",
		       p->context ? p->context : "", p->context ? ")" : "");
	}
	return -EINVAL;
}

static int read_events(struct builder *b)
{
	yaml_event_t event;
	bool end = false;
	int err = 0;

	while (!err && !end) {
		if (!yaml_parser_parse(&b->parser, &event))
			return syntax(b);
		end = event.type == YAML_STREAM_END_EVENT;
		err = take_event(b, &event);
		if (!err && ++b->nodes > TREE_NODES_MAX) {
			struct place at = place_of(b, &event);

			err = refuse(b, &at, "too many values", NULL);
		}
		yaml_event_delete(&event);
	}
	return err;
}

int tree_parse(const char *text, size_t len, const struct place *base, struct arena *a,
	       const struct reporter *r, struct node **ret)
{
	struct builder b = { .arena = a, .r = r, .base = base };
	int err;

	/* libyaml takes a byte order mark for the first column of its line */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	b.text = text;
	b.len = len;
	if (!yaml_parser_initialize(&b.parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, len);
	err = read_events(&b);
	yaml_parser_delete(&b.parser);
	if (!err)
		*ret = b.root;
	return err;
}
