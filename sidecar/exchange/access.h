/*
 * sidecar/exchange/access.h - one line per call.
 *
 * Shape     JSON (names of Istio's default JSON access log and ours beside them), text in the line order of Envoy's
 *           default, or logfmt.  Durations in milliseconds.
 * Owns      The descriptor and a buffer of ACCESS_BUFFER bytes per worker.
 * Cost      Nothing when disabled.  Else one formatting per call and one write(2) per turn.
 * Bounds    A line is at most ACCESS_LINE_MAX; longer values are cut.  What the descriptor does not take is dropped
 *           and counted, a worker never waits for a log.
 * Secrets   The path goes without its query; no header values but the user agent.
 */
#ifndef RHC_SIDECAR_EXCHANGE_ACCESS_H
#define RHC_SIDECAR_EXCHANGE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sidecar/config/config.h"
#include "sidecar/io/engine.h"

struct exchange;
struct http_conn;

enum { ACCESS_BUFFER = 65536, ACCESS_LINE_MAX = 4096, ACCESS_VALUE_MAX = 512, ACCESS_PEERS = 256 };

/* Whose connection it is: asked once, because asking is a system call. */
struct access_peer {
	const struct http_conn *conn; /* compared, never followed */
	uint64_t                opened_ns; /* the slab may have given its place to another one */
	char                    text[56];
};

struct access_log {
	int                             fd; /* -1: disabled */
	const struct config_access_log *config;
	enum config_log_format          format; /* AUTO resolved */
	bool                            pipe; /* not a regular file: may block */
	size_t                          used;
	uint64_t                        dropped;
	uint64_t                        seen; /* for the sample */
	struct engine                  *engine;
	struct engine_deferred          flush;
	struct access_peer              peers[ACCESS_PEERS];
	char                            buf[ACCESS_BUFFER];
};

/* Opens the path.  0 or -errno. */
int  access_open(struct access_log *a, const struct config_access_log *config, struct engine *engine);
void access_close(struct access_log *a);
/* The file was moved away: open the path again.  0, or -errno and the old one stays. */
int  access_reopen(struct access_log *a);
void access_flush(struct access_log *a);

static inline bool access_on(const struct access_log *a)
{
	return a && a->fd >= 0;
}

/* A call begins on c: afterwards, when the app may be gone, nobody knows its address. */
void access_note(struct access_log *a, const struct http_conn *c);
void access_write(struct access_log *a, const struct exchange *e, uint64_t now_ns);

#endif
