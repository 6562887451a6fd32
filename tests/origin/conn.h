/*
 * tests/origin/conn.h - the connections of the origin: read, wait, write, end.
 *
 * Shape    one epoll set; struct conn per connection; phases HEAD, BODY, WAIT, WRITE, DISCARD.
 * Limits   CONNS_MAX connections; further ones are closed at once.
 * Ends     conn_close() from any phase; the peer's close while an answer is owed counts as aborted.
 */
#ifndef ORIGIN_CONN_H
#define ORIGIN_CONN_H

#include <stdbool.h>
#include <stdint.h>

#define CONNS_MAX 4096

struct conn;

/* mortal: one of those that conns_close_mortal() ends. */
void conn_accept(int epfd, int listen_fd, bool mortal);

/* epoll said something about it. */
void conn_event(struct conn *c, uint32_t events);

/* Milliseconds until something waits no longer, or -1; and play what is due. */
int conns_next_ms(void);
void conns_due(void);

/* Resets the connections of the data port: the origin refuses from now on. */
void conns_close_mortal(void);
void conns_fini(void);

#endif
