/*
 * The live tree of a machine:
 *   /                 name, uuid, state, …; /trace can be set
 *   /partition        power state, halt, topology, clock; /partition/clear-halt can be set
 *   /partition/vp/N   run state, exits, registers
 *   /memory           RAM and what backs it
 *   /synic            the Hyper-V interface, if there is one
 *   /placement/N      what stands where
 *   /units/NAME       state units: run state, what they depend on
 *   /devices/ID       each device, its queues, its back ends
 * and what others add: /monitor.
 * Registers are read when they are asked for: a running VP leaves guest code for that moment.
 *
 * Threads: MAIN.
 */
#ifndef PTA_MACHINE_INSPECT_H
#define PTA_MACHINE_INSPECT_H

#include "src/util/inspect.h"

struct PtaVm;

/* PtaInspectFn of a PtaVm. */
void pta_vm_inspect(void *vm, PtaInspect *req);

/* One more child of the root. The name is copied, obj lent until it is removed. */
void pta_vm_add_inspect(struct PtaVm *vm, const char *name, PtaInspectFn *fn, void *obj);
void pta_vm_remove_inspect(struct PtaVm *vm, const char *name);

#endif
