/*
 * sidecar/run/bus.h - the end of a process whose segment was cut short under it.
 *
 * Why    Whoever may write the segment's file may truncate it, and then a load of mapped memory
 *        raises SIGBUS.  Nothing that is mapped can be trusted any more, and to go on without
 *        limits is not allowed: say so in one line and end.  The next start sets the file aside and
 *        makes a new one.
 * Calls  only what a signal handler may.
 */
#ifndef RHC_SIDECAR_RUN_BUS_H
#define RHC_SIDECAR_RUN_BUS_H

/* who: "supervisor", "worker".  Call again when the path changes. */
void bus_guard(const char *who, const char *path);

#endif
