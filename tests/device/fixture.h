/*
 * A machine without processors: buses, placement, RAM, an I/O context that runs when the test says
 * so (or on a thread), interrupt lines that count, and a driver for virtqueues that can lie.
 */
#ifndef PTA_TEST_FIXTURE_H
#define PTA_TEST_FIXTURE_H

#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "devices/device.h"
#include "devices/mmio-manager.h"
#include "devices/virtio/mmio.h"

#define FIX_RAM       UINT64_C(0x400000)
#define FIX_MMIO_BASE UINT64_C(0xd0000000)
#define FIX_N_IRQS    64

typedef struct Fixture {
    PtaBus *mmio;
    PtaBus *pio;
    PtaMmioManager *manager;
    PtaMemory *memory;
    PtaDeviceHost host;
    GMainContext *context;
    GMainLoop *loop; /* if a thread runs the context */
    GThread *thread;
    int irq[FIX_N_IRQS];   /* ATOMIC: level */
    int edges[FIX_N_IRQS]; /* ATOMIC: rises */
    int n_power;           /* ATOMIC */
    uint64_t clock_ns;     /* ATOMIC: the partition's time, which the test moves */
    int power_what;
    uint32_t power_code;
    GArray *bells;  /* of PtaDoorbell: what is on, if fix_with_bells() */
    int bell_fails; /* the how manyth doorbell from now on is refused; 0: none */
    char *dir;      /* a temporary folder */
    int n_dirty;    /* ATOMIC: host writes to guest memory */
    uint64_t dirty_last;
} Fixture;

void fix_new(Fixture *f);
void fix_free(Fixture *f);
/* An I/O thread instead of fix_run(). */
void fix_start_thread(Fixture *f);
void fix_stop_thread(Fixture *f);
/* Runs what is due in the context. */
void fix_run(Fixture *f);
/* Runs it until *what is at least n, for ten seconds at most. */
void fix_run_until(Fixture *f, const int *what, int n);
char *fix_path(const Fixture *f, const char *name); /* in the folder; new */

/* Doorbells, as a back end with ioeventfds has them; before the device is made. */
void fix_with_bells(Fixture *f);
/* A guest's write of four bytes: rings the doorbell that it fits, else goes by the bus. */
void fix_guest_w32(Fixture *f, uint64_t addr, uint32_t value);
/* File descriptors of the process. */
unsigned fix_n_fds(void);

uint32_t fix_r32(Fixture *f, uint64_t addr);
void fix_w32(Fixture *f, uint64_t addr, uint32_t value);
uint8_t fix_in(Fixture *f, uint16_t port);
void fix_out(Fixture *f, uint16_t port, uint8_t value);

/* A driver of one queue of a virtio-mmio device. */
typedef struct Driver {
    Fixture *f;
    uint64_t base; /* of the registers */
    unsigned queue;
    uint16_t size;
    uint64_t desc;
    uint64_t avail;
    uint64_t used;
    uint16_t avail_idx;
    uint16_t used_idx; /* seen */
} Driver;

#define DRV_RINGS  UINT64_C(0x100000) /* where the rings are */
#define DRV_DATA   UINT64_C(0x200000)

#define D_NEXT     1
#define D_WRITE    2
#define D_INDIRECT 4

#define R(name)    PTA_VIRTIO_MMIO_##name

/* Up to DRIVER_OK, with all of the features offered but those in `without`. */
void drv_start(Driver *d, Fixture *f, uint64_t base, uint16_t size, uint64_t without);
void drv_negotiate(Driver *d, Fixture *f, uint64_t base, uint64_t without);
void drv_setup_queue(Driver *d, unsigned queue, uint16_t size);
void drv_desc(Driver *d, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next);
void drv_desc_at(Driver *d, uint64_t table, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
                 uint16_t next);
void drv_offer(Driver *d, uint16_t head);
void drv_set_avail_idx(Driver *d, uint16_t idx);
void drv_kick(Driver *d);
/* Runs the context until one more is used; its id and length. */
uint32_t drv_wait(Driver *d, uint32_t *len);
uint16_t drv_used_idx(const Driver *d);
bool drv_needs_reset(const Driver *d);

#endif
