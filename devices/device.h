/*
 * A device: a plain struct that starts with PtaDevice, and a const class. One owner, the machine,
 * which gives it what it needs through PtaDeviceHost and alone moves its life forward:
 *
 *     new, realize, reset, (start, quiesce)*, unrealize, free
 *
 * Threads: all class functions MAIN, except that start, quiesce, reset, save and restore of a class
 * with `may_wait` come from any thread, one call at a time. Register accesses come from VP threads, queue work runs on the
 * device's I/O thread; each device says in its file which fields its lock covers.
 */
#ifndef PTA_DEVICE_H
#define PTA_DEVICE_H

#include <jansson.h>

#include "devices/bus.h"
#include "devices/irq.h"
#include "src/memory/memory.h"
#include "src/state/state.h"
#include "src/util/inspect.h"
#include "src/util/util.h"

typedef struct PtaDevice PtaDevice;
typedef struct PtaDeviceHost PtaDeviceHost;

/* What kind of thing stands at an address: the ACPI tables, the FDT and the kernel command line are
 * rendered from the kinds (src/boot/), and from nothing else. */
typedef enum PtaPlacedKind {
    PTA_PLACED_UART16550,
    PTA_PLACED_RTC_CMOS,
    PTA_PLACED_VIRTIO_MMIO,
    PTA_PLACED_IOAPIC,
    PTA_PLACED_POWER, /* sleep and reset registers, and the generic event device's selector */
    PTA_PLACED_DEBUG_EXIT,
    PTA_PLACED_LEGACY_RESET, /* ports 0x64 and 0xcf9: for kernels told `reboot=k` or `reboot=p` */
    PTA_PLACED_WATCHDOG,     /* the registers that the ACPI table WDAT names */
    PTA_PLACED_PVPANIC,
} PtaPlacedKind;

typedef struct PtaPlacedDevice {
    PtaPlacedKind kind;
    const char *id; /* lent by the device */
    bool pio;       /* base is a port number, else a guest-physical address */
    uint64_t base;
    uint64_t size;
    int irq;          /* GSI = IOAPIC pin, -1 if none */
    bool level;       /* level-triggered, else edge; active high. Follows from the kind. */
    unsigned ordinal; /* the how manyth of its kind, from 0: COM1, COM2; V000, V001 */
} PtaPlacedDevice;

/* A write of a guest that only says "look": `value`, `size` bytes wide, to addr. */
typedef struct PtaDoorbell {
    int fd;        /* an eventfd; lent while it is on */
    uint64_t addr; /* guest-physical */
    unsigned size;
    uint64_t value;
} PtaDoorbell;

/* What a device may ask of its machine. Lent by the machine for the device's life. */
struct PtaDeviceHost {
    PtaMemory *memory;
    GMainContext *io_context; /* of the I/O thread that runs this device's queues and chardevs */
    void *opaque;
    struct PtaMmioManager *manager; /* mmio-manager.h; place and unplace are its functions */
    /* realize() only. Claims a place; what a failed realize() claimed is given back by the core, and
     * so is what an unrealized device had. For MMIO, base 0 asks for the next free 4 KiB window; for
     * a UART's ports, base 0 asks for the next free COM port with its irq; for irq, -1 asks for the
     * next free one of the range ("no more IRQs are available"). The result is in *placed and
     * *line. */
    bool (*place)(PtaDeviceHost *host, PtaDevice *dev, PtaPlacedKind kind, bool pio, uint64_t base,
                  uint64_t size, const PtaBusOps *ops, bool with_irq, int irq,
                  PtaPlacedDevice *placed, PtaIrqLine *line, GError **error);
    /* Gives back all places of the device; device.c alone calls it. */
    void (*unplace)(PtaDeviceHost *host, PtaDevice *dev);
    /* Short cuts of a back end; each may be NULL, then writes come by the bus as all others do.
     * doorbell: while it is on, such a write signals the fd, and does not come by the bus. Whoever
     * switches one on switches it off. Any thread; off takes milliseconds. Errors: HOST.
     * coalesce: the manager's (PtaBusOps.index_offset). MAIN, no VP runs. */
    bool (*doorbell)(PtaDeviceHost *host, const PtaDoorbell *bell, bool on, GError **error);
    bool (*coalesce)(PtaDeviceHost *host, bool pio, uint64_t addr, uint64_t size, bool on,
                     GError **error);
    /* The guest asked for a power transition or failed; any thread, returns at once. */
    void (*power)(PtaDeviceHost *host, int what /* PtaPowerRequest */, uint32_t code);
    /* Something that clients of the monitor are told; any thread, returns at once. May be NULL. */
    void (*report)(PtaDeviceHost *host, const char *id, int what /* PtaDeviceReport */,
                   const char *text);
    /* The partition's time in nanoseconds; it stands still while VPs are stopped, and a reset sets it
     * back. Any thread, not before realize(). */
    uint64_t (*clock_ns)(PtaDeviceHost *host);
    /* Directory that relative host paths start from. */
    const char *base_dir;
};

typedef enum PtaPowerRequest {
    PTA_POWER_OFF,
    PTA_POWER_RESET,
    PTA_POWER_HIBERNATE,
    PTA_POWER_DEBUG_EXIT,   /* code: the process's exit status */
    PTA_POWER_PANIC,        /* code: reason bits of the panic device */
    PTA_POWER_CRASH_LOADED, /* the guest has panicked and looks into it itself: it runs on */
    PTA_POWER_WATCHDOG,     /* code: 1 if the guest wants a shutdown to follow, else a reset */
    PTA_POWER_QUIT,         /* not the guest: the user typed Ctrl-A x on the console */
} PtaPowerRequest;

typedef enum PtaDeviceReport {
    PTA_REPORT_NET_CONNECTED,    /* text: the address, "unix:PATH" or "HOST:PORT" */
    PTA_REPORT_NET_DISCONNECTED, /* text: why */
    PTA_REPORT_NET_FAILED,       /* text: why */
    PTA_REPORT_NET_RX_FILTER,    /* the driver changed it */
} PtaDeviceReport;

typedef struct PtaDeviceClass {
    const char *type; /* its name in schema/machine.json: "virtio-blk" */
    size_t instance_size;
    bool may_wait; /* quiesce waits for requests in flight: not in the main thread, please */
    const PtaStateDesc *state; /* may be NULL: nothing to save, or save and restore are given */
    size_t state_offset;       /* of the state struct within the instance */
    /* config: the generated struct of the schema (DeviceConfig's branch), lent for the call.
     * Undoes itself if it fails. */
    bool (*realize)(PtaDevice *dev, const void *config, GError **error);
    void (*reset)(PtaDevice *dev);   /* own state only: no irq, no guest memory; cannot fail */
    void (*start)(PtaDevice *dev);   /* requests may be worked on from now on */
    void (*quiesce)(PtaDevice *dev); /* on return no request is in flight and none will start */
    void (*unrealize)(PtaDevice *dev);
    /* Names its fields and children (inspect.h). May be NULL. */
    void (*inspect)(PtaDevice *dev, PtaInspect *req);
    /* Quiesced. For state that a table alone cannot describe; both or neither. restore() changes
     * nothing unless it returns true, and touches no interrupt line (the controller's state has
     * them). */
    json_t *(*save)(PtaDevice *dev);
    bool (*restore)(PtaDevice *dev, json_t *json, GError **error);
    /* After `state` was loaded: what derives from it. May be NULL. */
    void (*restored)(PtaDevice *dev);
    /* Its back ends, lent, for query-chardev, ringbuf-read, query-block and so on. May be NULL. */
    struct PtaChardev *(*chardev)(PtaDevice *dev);
    struct PtaBlock *(*block)(PtaDevice *dev);
    struct PtaNet *(*net)(PtaDevice *dev);
} PtaDeviceClass;

typedef enum PtaDevicePhase {
    PTA_DEVICE_NEW,
    PTA_DEVICE_REALIZED,
    PTA_DEVICE_STARTED,
} PtaDevicePhase;

struct PtaDevice {
    const PtaDeviceClass *klass; /* CONST */
    char *id;                    /* CONST */
    PtaDeviceHost *host;         /* CONST */
    int phase;                   /* PtaDevicePhase; ATOMIC, MAIN writes; device.c alone moves it */
};

/* All device classes of this build, NULL-terminated (devices/device.c). */
extern const PtaDeviceClass *const pta_device_classes[];
const PtaDeviceClass *pta_device_class_find(const char *type);

/* Makes, realizes and resets it. NULL and *error as realize() said, prefixed by the id. */
PtaDevice *pta_device_new(const PtaDeviceClass *klass, const char *id, PtaDeviceHost *host,
                          const void *config, GError **error);
void pta_device_start(PtaDevice *dev);
void pta_device_quiesce(PtaDevice *dev);
void pta_device_reset(PtaDevice *dev); /* quiesced */
void pta_device_free(PtaDevice *dev);  /* quiesces and unrealizes */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaDevice, pta_device_free)

/* Quiesced. A new object, NULL if there is nothing to save. Restore does not ask whether the device
 * is fresh: the same call restores in place. BAD_SNAPSHOT, prefixed by the id, and no change. */
json_t *pta_device_save(PtaDevice *dev);
bool pta_device_restore(PtaDevice *dev, json_t *json, GError **error);

/* PtaInspectFn: type, phase, what the class adds, and its back ends: /chardev, /block, /net. */
void pta_device_inspect(void *dev, PtaInspect *req);

#endif
