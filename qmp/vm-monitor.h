/*
 * A machine's monitor: listens where its description says, runs commands on it, and makes events of
 * its transitions. Threads: MAIN.
 */
#ifndef PTA_VM_MONITOR_H
#define PTA_VM_MONITOR_H

#include "qmp/event-sink.h"
#include "src/machine/machine.h"

typedef struct PtaVmMonitor PtaVmMonitor;

/* vm is lent for the monitor's life; base_dir is what relative paths start from. Errors: HOST,
 * prefixed with the JSON path in the description; nothing is left behind. */
PtaVmMonitor *pta_vm_monitor_new(PtaVm *vm, const char *base_dir, GError **error);

/* Sends what can be sent at once, then hangs up. */
void pta_vm_monitor_free(PtaVmMonitor *monitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaVmMonitor, pta_vm_monitor_free)

PtaEventSink *pta_vm_monitor_sink(PtaVmMonitor *monitor);

#endif
