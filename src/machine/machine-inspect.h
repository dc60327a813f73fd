/*
 * The live tree of a machine:
 *   /                 name, uuid, state, …; /trace can be set
 *   /partition        back end, halt, clock; /partition/vp/N with its registers
 *   /memory           RAM
 *   /placement/N      what stands where
 *   /devices/ID       each device
 * Registers are read when they are asked for: a running VP leaves guest code for that moment.
 *
 * Threads: MAIN.
 */
#ifndef PTA_MACHINE_INSPECT_H
#define PTA_MACHINE_INSPECT_H

#include "src/machine/inspect.h"

/* vm is a PtaVm. */
void pta_vm_inspect(void *vm, PtaInspect *req);

#endif
