/* ${env:NAME} inside the values of a tree. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "sidecar/config/arena.h"
#include "sidecar/config/overlay.h"

struct expansion {
	char *const *environ;
	struct arena *arena;
	const struct reporter *r;
	struct node *node;
	char *out;
	size_t len;
	bool found;
};

static const char *lookup(char *const *environ, const char *name, size_t len)
{
	for (; environ && *environ; environ++) {
		if (strncmp(*environ, name, len) == 0 && (*environ)[len] == '=')
			return *environ + len + 1;
	}
	return NULL;
}

/* Twice over the text: first to measure, then to write. */
static void emit(struct expansion *x, const char *text, size_t len)
{
	if (x->out)
		memcpy(x->out + x->len, text, len);
	x->len += len;
}

static size_t name_len(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '_')
		n++;
	return n;
}

/* p is behind "${env:"; returns what follows the reference, NULL when it is not one. */
static const char *expand_reference(struct expansion *x, const char *p)
{
	size_t len = name_len(p);
	const char *value = lookup(x->environ, p, len), *otherwise = NULL;
	const char *close = strchr(p, '}');

	if (len == 0 || !close)
		return NULL;
	if (strncmp(p + len, ":-", 2) == 0)
		otherwise = p + len + 2;
	else if (p + len != close)
		return NULL;
	if (value && (*value || !otherwise))
		emit(x, value, strlen(value));
	else if (otherwise)
		emit(x, otherwise, (size_t)(close - otherwise));
	else if (!x->out)
		report(x->r, "E006", &x->node->at, "set it, or write ${env:NAME:-otherwise}", NULL,
		       "environment variable %.*s is not set", len > 80 ? 80 : (int)len, p);
	return close + 1;
}

static void expand_text(struct expansion *x, const char *p)
{
	const char *behind;

	while (*p) {
		if (strncmp(p, "$${", 3) == 0) {
			emit(x, "${", 2);
			p += 3;
			x->found = true;
		} else if (strncmp(p, "${env:", 6) == 0) {
			x->found = true;
			behind = expand_reference(x, p + 6);
			if (!behind && !x->out)
				report(x->r, "E004", &x->node->at,
				       "write ${env:NAME}, or $${ for the plain text", NULL,
				       "not a reference to the environment");
			if (!behind)
				return;
			p = behind;
			x->node->expanded = true;
		} else {
			emit(x, p++, 1);
		}
	}
}

static int expand_scalar(struct node *n, char *const *environ, struct arena *a,
			 const struct reporter *r)
{
	struct expansion x = { .environ = environ, .arena = a, .r = r, .node = n };

	if (!memchr(n->text, '$', n->len))
		return 0;
	expand_text(&x, n->text);
	if (!x.found)
		return 0;
	x.out = arena_alloc(a, x.len + 1);
	if (!x.out)
		return -ENOMEM;
	x.len = 0;
	expand_text(&x, n->text);
	n->text = x.out;
	n->len = x.len;
	return 0;
}

int overlay_expand(struct node *n, char *const *environ, struct arena *a, const struct reporter *r)
{
	int err = 0;

	/* The environment itself is not expanded again. */
	if (n->kind == NODE_SCALAR)
		return n->at.kind == PLACE_ENV ? 0 : expand_scalar(n, environ, a, r);
	for (struct node *c = n->child; c && !err; c = c->next)
		err = overlay_expand(c, environ, a, r);
	return err;
}
