/*
 * sidecar/run/bus.h - the end of a process whose segment was cut short under it.
 *
 * Why    Whoever may write the segment's file may truncate it, and then a load of mapped memory
 *        raises SIGBUS.  Nothing that is mapped can be trusted any more, and to go on without
 *        limits is not allowed: say so in one line and end.  The next start sets the file aside and
 *        makes a new one.
 * Calls  only what a signal handler may.
 * Ends   with the sockets given stopped: a worker that dies with an accept in its ring leaves the ring, and with it
 *        the listening socket, to the kernel for some milliseconds, and a successor on the same port would share its
 *        callers with it.
 */
#ifndef RHC_SIDECAR_RUN_BUS_H
#define RHC_SIDECAR_RUN_BUS_H

struct listen_set;

/*
 * who: "supervisor", "worker".  Call again when the path changes.
 * listen: what to stop, NULL for who does not own it; it must outlive the process.
 */
void bus_guard(const char *who, const char *path, struct listen_set *listen);

#endif
