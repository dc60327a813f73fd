/*
 * Interrupt lines that are raised by an eventfd: one signal is one edge. Where the back end takes
 * eventfds (irqfd) and the pin leads somewhere as an edge, the kernel sends the interrupt and nobody
 * wakes up; at all other times the eventfd is watched on the I/O thread and pulses the pin, so that
 * an edge on a masked pin waits in the interrupt controller, as any other does.
 *
 * A signal is never lost: what is in the eventfd when it goes from one to the other is in its
 * counter. Before a state is saved, pta_irq_fd_stop() makes sure that whatever was signalled is in
 * the local APIC or in the interrupt controller.
 *
 * Threads: new, free, start, stop: one call at a time for one eventfd, any thread; signal, route and
 * the eventfd itself: any thread.
 */
#ifndef PTA_IRQ_FD_H
#define PTA_IRQ_FD_H

#include "devices/irq.h"

typedef struct PtaIrqFd PtaIrqFd;

typedef struct PtaIrqFdsParams {
    unsigned n_pins;
    GMainContext *context; /* lent: where eventfds are watched */
    void (*set)(void *opaque, unsigned pin, bool level);
    void *set_opaque;
    /* The back end sends what the pin's route says each time fd is signalled. On return from `off`
     * all that was signalled before has been sent. NULL: it cannot. */
    bool (*bind)(void *opaque, unsigned pin, int fd, bool on, GError **error);
    void *bind_opaque;
} PtaIrqFdsParams;

PtaIrqFds *pta_irq_fds_new(const PtaIrqFdsParams *params);
void pta_irq_fds_free(PtaIrqFds *fds); /* each of them was freed */

/* Whether the back end takes them: then they are worth their while to a device that could as well
 * call pta_irq_set(). */
bool pta_irq_fds_direct(const PtaIrqFds *fds);

/* The pin is unmasked and edge-triggered, or is no longer. When it begins, the back end has the
 * route already; when it ends, it still has. */
void pta_irq_fds_route(PtaIrqFds *fds, unsigned pin, bool direct);

/* Signals by pta_irq_fd_signal() on that pin so far. */
uint64_t pta_irq_fds_signalled(PtaIrqFds *fds, unsigned pin);

/* Of a line that the placement gave (PtaDeviceHost.place); stopped. Errors: HOST. */
PtaIrqFd *pta_irq_fd_new(const PtaIrqLine *line, GError **error);
void pta_irq_fd_free(PtaIrqFd *fd);     /* stopped */
int pta_irq_fd_get(const PtaIrqFd *fd); /* lent; nonblocking */

void pta_irq_fd_start(PtaIrqFd *fd);
/* Nobody signals any more. */
void pta_irq_fd_stop(PtaIrqFd *fd);

/* False: the back end does not have it just now, and pta_irq_set() is the shorter way. */
bool pta_irq_fd_signal(PtaIrqFd *fd);

#endif
