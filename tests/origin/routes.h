/*
 * tests/origin/routes.h - from a request to the script of its answer, and the origin's mode.
 *
 * Shape    one table of routes in routes.c; `rhc-origin --help` prints it.
 * Control  the mode decides before the table does; /stats and /control are never touched by it.
 */
#ifndef ORIGIN_ROUTES_H
#define ORIGIN_ROUTES_H

#include <stdbool.h>
#include <stdio.h>

#include "tests/origin/reply.h"
#include "tests/origin/request.h"

struct route;

enum mode_kind { MODE_OK, MODE_STATUS, MODE_REFUSE, MODE_HANG, MODE_RESET };

struct mode {
	enum mode_kind kind;
	unsigned status; /* MODE_STATUS */
	unsigned gate;   /* counts the openings of the gate */
};

extern struct mode mode;

const char *mode_name(void);

enum route_when { WHEN_COMPLETE, WHEN_HEAD, WHEN_NEVER_READ };

/* The route of a request; never NULL.  When it answers: after the body, at the head, or at the head
 * with the body left unread in the socket. */
const struct route *route_find(const struct request *r);
enum route_when route_when(const struct route *route);
bool route_is_own(const struct route *route); /* /stats and /control */

void route_reply(const struct route *route, const struct request *r, struct reply *p);
void route_help(FILE *to);

/* main.c: the data port listens or refuses, as the mode says now. */
void listeners_follow_mode(void);

#endif
