/*
 * sidecar/admin/admin.h - what operators and Kubernetes ask over HTTP: live, ready, startup,
 * health, metrics, status.
 *
 * Shape       A server of messages (sidecar/http/message.h) in the supervisor, on its epoll engine.
 *             It answers while every worker hangs, because all it reads is the segment.
 * Surfaces    telemetry (pod address): GET /live /ready /startup /health /metrics, nothing else.
 *             admin (loopback, Unix socket): these, /, /api/v1/..., and POST /quitquitquit
 *             /shutdown /drain /undrain, /api/v1/breakers/NAME/VERB.
 * Owns        Answers being sent, and checks being waited for (slab).  Not the connections.
 * Calls back  struct admin_hooks, from within engine_turn().
 * Bounds      ADMIN_CALLS_MAX requests at once (503 beyond), ADMIN_BODY_MAX bytes of request body,
 *             ADMIN_ANSWER_MAX of answer; a health check waits at most health.timeout; an asker
 *             that does not read on is left.
 * Safety      Host must be localhost or an IP address (a name could be rebound to us by a web
 *             page's DNS); changes are POST, on the admin address with x-rhc-admin: 1, with the
 *             token of admin.token_file where that is set; GET on them is 405.
 * See         sidecar/admin/README.md.
 */
#ifndef RHC_SIDECAR_ADMIN_ADMIN_H
#define RHC_SIDECAR_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/view.h"
#include "sidecar/base/slab.h"
#include "sidecar/config/config.h"
#include "sidecar/http/conn.h"

enum {
	ADMIN_CALLS_MAX = 64,
	ADMIN_BODY_MAX = 4096,
	ADMIN_ANSWER_MAX = 16 << 20, /* of 256 upstreams the metrics have 5 MiB */
	ADMIN_TOKEN_MAX = 4096,
};

enum admin_surface { ADMIN_TELEMETRY, ADMIN_LOOPBACK, ADMIN_SOCKET };

/* What admin asks of the supervisor; arg is hooks->arg. */
struct admin_hooks {
	void (*drain)(void *arg); /* stop accepting, do not end */
	void (*undrain)(void *arg); /* accept again, unless it is ending */
	void (*quit)(void *arg);  /* as SIGTERM with min_delay 0 */
	/*
	 * When our own certificate for an upstream, or the CA file it is verified with, ends: seconds
	 * since 1970; 0 = there is none.  NULL: nobody knows.
	 */
	uint64_t (*expires_s)(void *arg, const char *upstream, bool ca);
	/* Ask a worker to check every upstream; results appear in the segment. */
	void (*health)(void *arg);
	bool (*live)(void *arg); /* at least one worker turns its loop */
	void *arg;
};

struct admin {
	const struct config *config;
	struct rhc_segment *seg; /* writable: breaker verbs go through shm/admin.h */
	int lock_fd;             /* rhc_lock_open(): to see who lives */
	struct http_env *http;
	const struct admin_hooks *hooks;
	bool started;       /* /startup: it was ready once; set by the owner */
	bool reload_failed; /* the last one; set by the owner */
	struct slab calls;
	uint64_t scrapes;
};

struct admin_listener {
	struct admin *admin;
	enum admin_surface surface;
};

/* The caller has set the members above calls.  0 or -ENOMEM. */
int admin_init(struct admin *a);
void admin_fini(struct admin *a);

/* http_conn_events.on_message of an admin connection: sets m->ev and m->owner. */
void admin_message(struct admin_listener *l, struct message *m);

#endif
