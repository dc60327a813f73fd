/*
 * A virtqueue as a device sees it (virtio 1.2, 2.6 to 2.8). The one walker of guest rings: devices
 * get chains of host iovecs that lie in RAM, and never see a descriptor.
 *
 * The guest is hostile. Each ring word is read once, into a local; whatever is not allowed breaks
 * the queue, which reports it once and is dead until the device is reset. Nothing that a guest
 * writes makes an allocation larger than the bounds below.
 *
 * Threads: LOCKED by the device's lock, in all functions.
 */
#ifndef PTA_QUEUE_H
#define PTA_QUEUE_H

#include "src/memory/memory.h"
#include "src/state/state.h"

#define PTA_QUEUE_MAX_SIZE 32768
/* Descriptors of one chain, those of its indirect table included. */
#define PTA_CHAIN_MAX_DESC 1024

typedef struct PtaQueueState {
    uint64_t desc; /* guest-physical addresses of the three areas */
    uint64_t avail;
    uint64_t used;
    uint16_t max_size;
    uint16_t size;
    uint16_t next_avail;     /* what the device looks at next; free-running */
    uint16_t next_used;      /* where it writes next; free-running */
    uint16_t signalled_used; /* next_used at the last interrupt decision */
    uint8_t signalled_valid;
    uint8_t ready;
    uint8_t reserved[4];
} PtaQueueState;

extern const PtaStateDesc pta_queue_state;

/*
 * One request. iov[0 … n_out) is what the driver sent, iov[n_out … n_out + n_in) is where it wants
 * the answer. Lent by the queue until it is pushed.
 */
typedef struct PtaChain {
    struct PtaChain *next; /* in the queue's list of spare ones */
    struct iovec *iov;
    uint64_t *gpa; /* where iov[i] is in the guest */
    unsigned capacity;
    unsigned n_out;
    unsigned n_in;
    uint64_t out_len; /* bytes */
    uint64_t in_len;
    uint16_t head;
} PtaChain;

typedef struct PtaQueue PtaQueue;
/* The queue is dead; `why` is a constant. Called with the device's lock held. */
typedef void PtaQueueBrokeFn(void *opaque, PtaQueue *q, const char *why);

struct PtaQueue {
    PtaQueueState s;
    unsigned index;         /* CONST */
    PtaMemory *mem;         /* CONST */
    PtaQueueBrokeFn *broke; /* CONST */
    void *opaque;           /* CONST */
    bool active;            /* the rings are mapped */
    bool broken;
    bool event_idx;
    bool indirect;
    unsigned in_use; /* chains popped and not pushed */
    PtaChain *spare;
    /* The rings, in host memory; valid while active. */
    const void *desc;
    const uint16_t *avail;
    uint16_t *used;
};

void pta_queue_init(PtaQueue *q, unsigned index, uint16_t max_size, PtaMemory *mem,
                    PtaQueueBrokeFn *broke, void *opaque);
void pta_queue_clear(PtaQueue *q);

/* Back to what it was after init. No chain is in use. */
void pta_queue_reset(PtaQueue *q);

/*
 * Checks the configuration in q->s and maps the rings. False and the reason (a constant): not
 * ready, size zero, not a power of two or too large, a misaligned ring, a ring outside RAM, or an
 * avail index that is further ahead than the ring is long.
 */
bool pta_queue_activate(PtaQueue *q, uint64_t features, const char **why);

/* The next request; NULL if there is none or the queue is broken. */
PtaChain *pta_queue_pop(PtaQueue *q);

/* Completes it: `written` bytes of its writable part were filled, from the start, and are marked
 * dirty. */
void pta_queue_push(PtaQueue *q, PtaChain *chain, uint32_t written);

/* The same in two steps, for an answer in several chains: the driver sees all of them with publish. */
void pta_queue_push_later(PtaQueue *q, PtaChain *chain, uint32_t written);
void pta_queue_publish(PtaQueue *q);

/* Gives it back as if it had not been popped: only the last one popped, and nothing was written. */
void pta_queue_unpop(PtaQueue *q, PtaChain *chain);

/* Whether the driver wants an interrupt for what was pushed since this was last asked. */
bool pta_queue_wants_interrupt(PtaQueue *q);

/*
 * Notifications from the driver. `enable` answers true if there is a request already, which the
 * driver may not announce again: look once more.
 */
void pta_queue_disable_notify(PtaQueue *q);
bool pta_queue_enable_notify(PtaQueue *q);

/* Breaks it on the device's behalf: a request that is malformed beyond an answer. */
void pta_queue_break(PtaQueue *q, const char *why);

/* Bit numbers of features (virtio 1.2, chapter 6). */
#define PTA_VIRTIO_F_INDIRECT_DESC 28
#define PTA_VIRTIO_F_EVENT_IDX     29
#define PTA_VIRTIO_F_VERSION_1     32

#endif
