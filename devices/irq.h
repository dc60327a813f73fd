/*
 * One interrupt line, from a device to the interrupt controller. A device holds it by value and
 * never knows what is at the other end. Any thread.
 */
#ifndef PTA_IRQ_H
#define PTA_IRQ_H

#include "src/util/util.h"

typedef struct PtaIrqFds PtaIrqFds; /* irq-fd.h */

typedef struct PtaIrqLine {
    void (*set)(void *opaque, unsigned pin, bool level);
    void *opaque;
    unsigned pin;
    PtaIrqFds *fds; /* for eventfds that raise it; NULL: this machine has none */
} PtaIrqLine;

static inline void pta_irq_set(const PtaIrqLine *line, bool level)
{
    if (line->set) {
        line->set(line->opaque, line->pin, level);
    }
}

/* An edge. */
static inline void pta_irq_pulse(const PtaIrqLine *line)
{
    pta_irq_set(line, true);
    pta_irq_set(line, false);
}

#endif
