/*
 * What all virtio devices share: features, status, configuration space, queues, interrupts, and the
 * way of a notification from a VP to the I/O thread. The transport (mmio.h) is registers on top.
 *
 * A device fills in a PtaVirtioClass, embeds PtaVirtio as its first member, calls
 * pta_virtio_realize() at the end of its own realize(), and uses the functions below in its
 * PtaDeviceClass.
 *
 * Threads: registers VP, queues the I/O thread, both under `lock`; interrupt status under
 * `irq_lock`, a leaf but for the interrupt controller.
 */
#ifndef PTA_VIRTIO_H
#define PTA_VIRTIO_H

#include "devices/device.h"
#include "devices/irq-fd.h"
#include "devices/virtio/queue.h"

#define PTA_VIRTIO_MAX_QUEUES  32
#define PTA_VIRTIO_CONFIG_SIZE 256

/* Device status (2.1). */
#define PTA_VIRTIO_S_ACKNOWLEDGE 1u
#define PTA_VIRTIO_S_DRIVER      2u
#define PTA_VIRTIO_S_DRIVER_OK   4u
#define PTA_VIRTIO_S_FEATURES_OK 8u
#define PTA_VIRTIO_S_NEEDS_RESET 64u
#define PTA_VIRTIO_S_FAILED      128u

/* Interrupt status (4.2.2). */
#define PTA_VIRTIO_INT_QUEUE  1u
#define PTA_VIRTIO_INT_CONFIG 2u

typedef struct PtaVirtio PtaVirtio;

/* All with the lock held. */
typedef struct PtaVirtioClass {
    uint16_t device_id; /* virtio 1.2, chapter 5 */
    unsigned n_queues;
    /* The driver is ready; false and the reason breaks the device. May be NULL. */
    bool (*activate)(PtaVirtio *vd, const char **why);
    /* I/O thread: there may be requests in the queue. */
    void (*kick)(PtaVirtio *vd, PtaQueue *q);
    /* Back to power-on; no request is in flight. May be NULL. */
    void (*reset)(PtaVirtio *vd);
    /* The driver wrote to config[offset, offset + size); vd->config is unchanged. What the device
     * does not take is ignored. May be NULL: read-only. */
    void (*config_write)(PtaVirtio *vd, unsigned offset, unsigned size, uint32_t value);
    /* The device's own state, beside transport and queues; NULL if there is none. */
    const PtaStateDesc *state;
    size_t state_offset;
    /* After state was loaded. May be NULL. */
    void (*restored)(PtaVirtio *vd);
    /* Names its own fields for inspect, beside those of all. May be NULL. */
    void (*inspect)(PtaVirtio *vd, PtaInspect *req);
} PtaVirtioClass;

typedef struct PtaVirtioState {
    uint64_t offered_features;
    uint64_t driver_features;
    uint32_t device_id;
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
    uint32_t shm_sel;
    uint32_t status;
    uint32_t config_generation;
    uint32_t interrupt_status;
} PtaVirtioState;

extern const PtaStateDesc pta_virtio_state;

/* The driver's notification of a queue, without an exit of the VP. */
typedef struct PtaVirtioBell {
    PtaDoorbell bell;
    gpointer tag; /* of bell.fd, in waker */
} PtaVirtioBell;

struct PtaVirtio {
    PtaDevice parent;
    const PtaVirtioClass *vclass; /* CONST */
    uint64_t features;            /* CONST: offered */
    PtaPlacedDevice placed;       /* CONST */
    PtaIrqLine irq;               /* CONST */
    GMutex lock;
    GCond idle;                             /* in_flight fell to zero */
    PtaVirtioState s;                       /* LOCKED(lock), but interrupt_status */
    PtaQueue *queues;                       /* LOCKED(lock): vclass->n_queues of them */
    unsigned config_size;                   /* CONST */
    uint8_t config[PTA_VIRTIO_CONFIG_SIZE]; /* LOCKED(lock) */
    bool started;                           /* LOCKED(lock) */
    bool resetting;                         /* LOCKED(lock): a VP waits for requests to end */
    unsigned in_flight;                     /* LOCKED(lock): requests that the back end has */
    uint64_t n_kicks;                       /* LOCKED(lock): wake-ups of the I/O thread */
    uint64_t n_bells_rung; /* LOCKED(lock): those of them that no VP wrote to us for */
    uint64_t n_requests;   /* LOCKED(lock): chains completed */
    GMutex irq_lock;
    uint64_t n_interrupts; /* LOCKED(irq_lock) */
    PtaIrqFd *irq_fd;      /* CONST: NULL if it is not worth it here */
    GSource *waker;        /* CONST */
    int notify_fd;         /* CONST: an eventfd that wakes the I/O thread */
    unsigned kicked;       /* ATOMIC: bit n: queue n was notified */
    unsigned n_bells;      /* CONST: of queues, or 0 if the machine has no doorbells */
    PtaVirtioBell *bells;  /* CONST */
};

/* ---- for device classes ---- */

/*
 * Makes queues of the given size, and places the transport. The device has set vd->config,
 * config_size and its own fields. features: the device's own; those of the rings are added.
 */
bool pta_virtio_realize(PtaVirtio *vd, const PtaVirtioClass *vclass, uint64_t features,
                        uint16_t queue_size, GError **error);
void pta_virtio_unrealize(PtaVirtio *vd);
void pta_virtio_device_reset(PtaDevice *dev);
void pta_virtio_device_start(PtaDevice *dev);
void pta_virtio_device_quiesce(PtaDevice *dev);
json_t *pta_virtio_device_save(PtaDevice *dev);
bool pta_virtio_device_restore(PtaDevice *dev, json_t *json, GError **error);
void pta_virtio_device_inspect(PtaDevice *dev, PtaInspect *req);

/* ---- for devices; lock held ---- */

static inline bool pta_virtio_has(const PtaVirtio *vd, unsigned feature)
{
    return vd->s.driver_features >> feature & 1;
}

/* Whether requests may be worked on: the driver is ready, nothing broke, the machine runs. */
bool pta_virtio_running(const PtaVirtio *vd);

/* Takes the next request in kick(); a loop over it re-enables notifications by itself. At most as
 * many in one kick() as the queue has entries: then the I/O thread is given back first. fn answers
 * false to stop: the device will kick itself. */
typedef bool PtaVirtioRequestFn(PtaVirtio *vd, PtaQueue *q, PtaChain *chain);
void pta_virtio_for_each(PtaVirtio *vd, PtaQueue *q, PtaVirtioRequestFn *fn);

/* Completes a request, and interrupts the driver if it wants that. */
void pta_virtio_complete(PtaVirtio *vd, PtaQueue *q, PtaChain *chain, uint32_t written);

/* The same for n chains that were pushed already. */
void pta_virtio_pushed(PtaVirtio *vd, PtaQueue *q, unsigned n);

/* A request went to the back end, or came back from it. */
void pta_virtio_begin(PtaVirtio *vd);
void pta_virtio_end(PtaVirtio *vd);

/* The device changed its configuration space. */
void pta_virtio_config_changed(PtaVirtio *vd);

/* DEVICE_NEEDS_RESET and a configuration interrupt; logged. */
void pta_virtio_fail(PtaVirtio *vd, const char *why);

/* ---- for the transport ---- */

/* lock held */
void pta_virtio_set_status(PtaVirtio *vd, uint32_t status);
/* lock not held */
void pta_virtio_kick(PtaVirtio *vd, unsigned queue);
uint32_t pta_virtio_interrupt_status(PtaVirtio *vd);
void pta_virtio_interrupt_ack(PtaVirtio *vd, uint32_t bits);

#endif
