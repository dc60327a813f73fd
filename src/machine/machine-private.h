/* What the files of src/machine/ share about a machine: nobody else includes this. */
#ifndef PTA_MACHINE_PRIVATE_H
#define PTA_MACHINE_PRIVATE_H

#include "src/machine/io-thread.h"
#include "src/machine/machine.h"
#include "src/machine/units.h"
#include "src/synic/hyperv.h"

#define PTA_X86_IOAPIC_ID 0

typedef struct PtaVmObserverRef {
    const PtaVmObserver *ops;
    void *opaque;
} PtaVmObserverRef;

struct PtaVm {
    const MachineConfig *config; /* lent */
    char *base_dir;
    char *uuid;
    PtaRunState state;
    const PtaBackendOps *backend;
    PtaMemory *memory;
    PtaBus *mmio, *pio;
    PtaMmioManager *placement;
    PtaIoThread *io;
    PtaDeviceHost host;
    PtaDevice *ioapic, *power;
    GPtrArray *devices; /* of PtaDevice: the described ones, then the machine's own */
    PtaHyperv *hyperv;  /* NULL without that interface */
    PtaPlatform platform;
    PtaPartition *partition;
    PtaUnits *units;
    GArray *observers; /* of PtaVmObserverRef */
    int64_t start_time_us;
};

/* platform.c: what VPs and devices ask of the machine. */
void pta_vm_init_platform(PtaVm *vm);
void pta_vm_init_device_host(PtaVm *vm);
void pta_vm_make_hyperv(PtaVm *vm);
void pta_vm_ioapic_msi(void *opaque, uint64_t address, uint32_t data);

/* machine-build.c: boot image and registers, at construction and at each reset. */
bool pta_vm_load_kernel(PtaVm *vm, GError **error);

/* machine.c: PtaPartitionParams.on_halt. */
void pta_vm_on_halt(void *opaque, const PtaHaltReason *reason);

#endif
