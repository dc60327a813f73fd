/*
 * Split virtqueues. Descriptors come from the table or from one indirect table; both end in
 * chain_add(), which knows no ring format, so that a packed ring needs its own pop and push only.
 */
#include "config.h"

#include "devices/virtio/queue.h"

#include <endian.h>
#include <string.h>

#define DESC_F_NEXT          1
#define DESC_F_WRITE         2
#define DESC_F_INDIRECT      4

#define AVAIL_F_NO_INTERRUPT 1
#define USED_F_NO_NOTIFY     1

#define DESC_SIZE            16
/* Rings as arrays of 16-bit words: flags, idx, ring[size], event. */
#define RING_FLAGS 0
#define RING_IDX   1
#define RING_ENTRY 2
#define USED_WORDS 4 /* of a used element: id and len, 32 bits each */

#define MAX_PIECES \
    8 /* iovecs that one descriptor may fall into: RAM has no more ranges than that */

typedef struct Desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
} Desc;

/* ---- ring words: each in one access, little-endian ---- */

/* Between a store of ours and a load of the driver's word. ThreadSanitizer does not know fences, and
 * GCC says so; the words on both sides are atomics, so that it misses nothing. */
static void full_fence(void)
{
#if defined(PTA_TSAN) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(PTA_TSAN) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

static uint16_t ring_load(const uint16_t *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static uint16_t ring_load_acquire(const uint16_t *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static void ring_store(PtaQueue *q, uint16_t *p, uint16_t value)
{
    __atomic_store_n(p, htole16(value), __ATOMIC_RELEASE);
    pta_memory_mark_dirty(q->mem, q->s.used + (uint64_t)((char *)p - (char *)q->used), sizeof(*p));
}

static const uint16_t *used_event(const PtaQueue *q)
{
    return q->avail + RING_ENTRY + q->s.size;
}

static uint16_t *avail_event(const PtaQueue *q)
{
    return q->used + RING_ENTRY + (size_t)USED_WORDS * q->s.size;
}

static Desc desc_load(const void *table, uint16_t i)
{
    const char *p = (const char *)table + (size_t)DESC_SIZE * i;
    return (Desc){
        .addr = le64toh(__atomic_load_n((const uint64_t *)(const void *)p, __ATOMIC_RELAXED)),
        .len = le32toh(__atomic_load_n((const uint32_t *)(const void *)(p + 8), __ATOMIC_RELAXED)),
        .flags = ring_load((const uint16_t *)(const void *)(p + 12)),
        .next = ring_load((const uint16_t *)(const void *)(p + 14)),
    };
}

/* ---- life ---- */

void pta_queue_init(PtaQueue *q, unsigned index, uint16_t max_size, PtaMemory *mem,
                    PtaQueueBrokeFn *broke, void *opaque)
{
    g_assert(pta_is_pow2(max_size) && max_size <= PTA_QUEUE_MAX_SIZE);
    memset(q, 0, sizeof(*q));
    q->index = index;
    q->mem = mem;
    q->broke = broke;
    q->opaque = opaque;
    q->s.max_size = max_size;
    q->s.size = max_size;
}

void pta_queue_clear(PtaQueue *q)
{
    while (q->spare) {
        PtaChain *chain = q->spare;
        q->spare = chain->next;
        g_free(chain->iov);
        g_free(chain->gpa);
        g_free(chain);
    }
}

void pta_queue_reset(PtaQueue *q)
{
    g_assert(q->in_use == 0);
    q->s = (PtaQueueState){ .max_size = q->s.max_size, .size = q->s.max_size };
    q->active = false;
    q->broken = false;
    q->desc = NULL;
    q->avail = NULL;
    q->used = NULL;
}

static void *ring_map(const PtaQueue *q, uint64_t gpa, size_t len, bool write)
{
    struct iovec iov;
    unsigned n = 1;
    return pta_memory_map(q->mem, gpa, len, write, &iov, &n) == PTA_MEM_OK ? iov.iov_base : NULL;
}

bool pta_queue_activate(PtaQueue *q, uint64_t features, const char **why)
{
    const PtaQueueState *s = &q->s;
    if (!s->ready) {
        *why = "the queue is not ready";
        return false;
    }
    if (!pta_is_pow2(s->size) || s->size > s->max_size) {
        *why = "the queue's size is zero, no power of two, or too large";
        return false;
    }
    if (s->desc % DESC_SIZE != 0 || s->avail % 2 != 0 || s->used % 4 != 0) {
        *why = "a ring is not aligned";
        return false;
    }
    size_t ring_bytes = 2 * ((size_t)RING_ENTRY + s->size + 1);
    size_t used_bytes = 2 * ((size_t)RING_ENTRY + (size_t)USED_WORDS * s->size + 1);
    const void *desc = ring_map(q, s->desc, (size_t)DESC_SIZE * s->size, false);
    const uint16_t *avail = ring_map(q, s->avail, ring_bytes, false);
    uint16_t *used = ring_map(q, s->used, used_bytes, true);
    if (!desc || !avail || !used) {
        *why = "a ring is outside RAM";
        return false;
    }
    if ((uint16_t)(ring_load_acquire(avail + RING_IDX) - s->next_avail) > s->size) {
        *why = "the avail index is further ahead than the queue is long";
        return false;
    }
    q->desc = desc;
    q->avail = avail;
    q->used = used;
    q->event_idx = features >> PTA_VIRTIO_F_EVENT_IDX & 1;
    q->indirect = features >> PTA_VIRTIO_F_INDIRECT_DESC & 1;
    q->active = true;
    q->broken = false;
    return true;
}

void pta_queue_break(PtaQueue *q, const char *why)
{
    if (!q->broken) {
        q->broken = true;
        q->broke(q->opaque, q, why);
    }
}

/* ---- chains ---- */

static PtaChain *chain_take(PtaQueue *q)
{
    PtaChain *chain = q->spare;
    if (chain) {
        q->spare = chain->next;
    } else {
        chain = g_new0(PtaChain, 1);
    }
    chain->n_out = 0;
    chain->n_in = 0;
    chain->out_len = 0;
    chain->in_len = 0;
    q->in_use++;
    return chain;
}

static void chain_give_back(PtaQueue *q, PtaChain *chain)
{
    chain->next = q->spare;
    q->spare = chain;
    q->in_use--;
}

static void chain_reserve(PtaChain *chain, unsigned n)
{
    if (n > chain->capacity) {
        chain->capacity = MAX(n, 2 * chain->capacity);
        chain->iov = g_renew(struct iovec, chain->iov, chain->capacity);
        chain->gpa = g_renew(uint64_t, chain->gpa, chain->capacity);
    }
}

/* Adds one buffer. Returns what is wrong with it, or NULL. */
static const char *chain_add(PtaQueue *q, PtaChain *chain, const Desc *d)
{
    bool write = d->flags & DESC_F_WRITE;
    unsigned used = chain->n_out + chain->n_in;
    unsigned n = MAX_PIECES;
    if (d->len == 0) {
        return "a buffer of no bytes";
    }
    if (!write && chain->n_in > 0) {
        return "a readable buffer after a writable one";
    }
    chain_reserve(chain, used + MAX_PIECES);
    if (pta_memory_map(q->mem, d->addr, d->len, write, chain->iov + used, &n) != PTA_MEM_OK) {
        return "a buffer outside RAM";
    }
    uint64_t gpa = d->addr;
    for (unsigned i = used; i < used + n; i++) {
        chain->gpa[i] = gpa;
        gpa += chain->iov[i].iov_len;
    }
    if (write) {
        chain->n_in += n;
        chain->in_len += d->len;
    } else {
        chain->n_out += n;
        chain->out_len += d->len;
    }
    if (chain->in_len + chain->out_len > UINT32_MAX) {
        return "a chain of more than four gigabytes";
    }
    return NULL;
}

/* 2.7.5.3: a table of descriptors elsewhere in RAM, which need not be aligned. */
static const char *walk_indirect(PtaQueue *q, PtaChain *chain, const Desc *table, unsigned *n_desc)
{
    if (!q->indirect) {
        return "an indirect descriptor that was not negotiated";
    }
    if (table->flags & DESC_F_NEXT) {
        return "an indirect descriptor with a successor";
    }
    if (table->len == 0 || table->len % DESC_SIZE != 0) {
        return "an indirect table of a size that cannot be";
    }
    uint32_t n = table->len / DESC_SIZE;
    uint32_t i = 0;
    Desc d;
    do {
        uint8_t raw[DESC_SIZE];
        if (i >= n) {
            return "an indirect chain that leaves its table";
        }
        if (++*n_desc > PTA_CHAIN_MAX_DESC) {
            return "a chain that is too long, or a loop";
        }
        if (table->addr > UINT64_MAX - (uint64_t)i * DESC_SIZE ||
            pta_memory_read(q->mem, table->addr + (uint64_t)i * DESC_SIZE, raw, sizeof(raw)) !=
                PTA_MEM_OK) {
            return "an indirect table outside RAM";
        }
        memcpy(&d, raw, sizeof(d));
        d = (Desc){ le64toh(d.addr), le32toh(d.len), le16toh(d.flags), le16toh(d.next) };
        if (d.flags & DESC_F_INDIRECT) {
            return "an indirect descriptor in an indirect table";
        }
        const char *why = chain_add(q, chain, &d);
        if (why) {
            return why;
        }
        i = d.next;
    } while (d.flags & DESC_F_NEXT);
    return NULL;
}

static const char *walk(PtaQueue *q, PtaChain *chain)
{
    uint16_t i = chain->head;
    unsigned n_desc = 0;
    unsigned n_ring = 0;
    Desc d;
    do {
        if (i >= q->s.size) {
            return "a descriptor's index is outside the table";
        }
        d = desc_load(q->desc, i);
        n_desc += !(d.flags & DESC_F_INDIRECT); /* those of its table count */
        if (++n_ring > q->s.size || n_desc > PTA_CHAIN_MAX_DESC) {
            return "a chain that is too long, or a loop";
        }
        const char *why = d.flags & DESC_F_INDIRECT ? walk_indirect(q, chain, &d, &n_desc)
                                                    : chain_add(q, chain, &d);
        if (why) {
            return why;
        }
        i = d.next;
    } while (d.flags & DESC_F_NEXT);
    return NULL;
}

PtaChain *pta_queue_pop(PtaQueue *q)
{
    if (!q->active || q->broken) {
        return NULL;
    }
    uint16_t available = (uint16_t)(ring_load_acquire(q->avail + RING_IDX) - q->s.next_avail);
    if (available == 0) {
        return NULL;
    }
    if (available > q->s.size) {
        pta_queue_break(q, "the avail index is further ahead than the queue is long");
        return NULL;
    }
    if (q->in_use >= q->s.size) {
        pta_queue_break(q, "more requests at once than the queue has entries");
        return NULL;
    }
    PtaChain *chain = chain_take(q);
    chain->head = ring_load(q->avail + RING_ENTRY + (q->s.next_avail & (q->s.size - 1)));
    const char *why = walk(q, chain);
    if (why) {
        chain_give_back(q, chain);
        pta_queue_break(q, why);
        return NULL;
    }
    q->s.next_avail++;
    return chain;
}

void pta_queue_unpop(PtaQueue *q, PtaChain *chain)
{
    q->s.next_avail--;
    chain_give_back(q, chain);
}

/* ---- completion ---- */

static void chain_mark_dirty(PtaQueue *q, const PtaChain *chain, uint64_t written)
{
    for (unsigned i = chain->n_out; i < chain->n_out + chain->n_in && written > 0; i++) {
        uint64_t part = MIN(written, chain->iov[i].iov_len);
        pta_memory_mark_dirty(q->mem, chain->gpa[i], part);
        written -= part;
    }
}

void pta_queue_push_later(PtaQueue *q, PtaChain *chain, uint32_t written)
{
    g_assert(written <= chain->in_len);
    chain_mark_dirty(q, chain, written);
    if (q->active && !q->broken) {
        size_t at = RING_ENTRY + (size_t)USED_WORDS * (q->s.next_used & (q->s.size - 1));
        uint32_t *element = (uint32_t *)(void *)(q->used + at);
        __atomic_store_n(element, htole32(chain->head), __ATOMIC_RELAXED);
        __atomic_store_n(element + 1, htole32(written), __ATOMIC_RELAXED);
        pta_memory_mark_dirty(q->mem, q->s.used + 2 * at, 2 * USED_WORDS);
        q->s.next_used++;
    }
    chain_give_back(q, chain);
}

void pta_queue_publish(PtaQueue *q)
{
    if (q->active && !q->broken) {
        ring_store(q, q->used + RING_IDX, q->s.next_used); /* releases the elements */
    }
}

void pta_queue_push(PtaQueue *q, PtaChain *chain, uint32_t written)
{
    pta_queue_push_later(q, chain, written);
    pta_queue_publish(q);
}

/* 2.7.7.2: whether `event` lies in the window (old, new], on wrapping counters. */
static bool need_event(uint16_t event, uint16_t new, uint16_t old)
{
    return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

bool pta_queue_wants_interrupt(PtaQueue *q)
{
    if (!q->active || q->broken) {
        return false;
    }
    uint16_t old = q->s.signalled_used;
    uint16_t new = q->s.next_used;
    bool valid = q->s.signalled_valid;
    q->s.signalled_used = new;
    q->s.signalled_valid = 1;
    if (valid && new == old) {
        return false; /* nothing was pushed */
    }
    /* The used index must be visible before we read what the driver wants to hear of. */
    full_fence();
    if (!q->event_idx) {
        return !(ring_load(q->avail + RING_FLAGS) & AVAIL_F_NO_INTERRUPT);
    }
    return !valid || need_event(ring_load(used_event(q)), new, old);
}

void pta_queue_disable_notify(PtaQueue *q)
{
    /* With EVENT_IDX an avail_event that lags behind says the same. */
    if (q->active && !q->broken && !q->event_idx) {
        ring_store(q, q->used + RING_FLAGS, USED_F_NO_NOTIFY);
    }
}

bool pta_queue_enable_notify(PtaQueue *q)
{
    if (!q->active || q->broken) {
        return false;
    }
    if (q->event_idx) {
        ring_store(q, avail_event(q), q->s.next_avail);
    } else {
        ring_store(q, q->used + RING_FLAGS, 0);
    }
    full_fence();
    return ring_load_acquire(q->avail + RING_IDX) != q->s.next_avail;
}

/* ---- state ---- */

static const PtaStateField queue_fields[] = {
    PTA_STATE_U64(PtaQueueState, desc),           PTA_STATE_U64(PtaQueueState, avail),
    PTA_STATE_U64(PtaQueueState, used),           PTA_STATE_U16(PtaQueueState, max_size),
    PTA_STATE_U16(PtaQueueState, size),           PTA_STATE_U16(PtaQueueState, next_avail),
    PTA_STATE_U16(PtaQueueState, next_used),      PTA_STATE_U16(PtaQueueState, signalled_used),
    PTA_STATE_U8(PtaQueueState, signalled_valid), PTA_STATE_U8(PtaQueueState, ready),
    PTA_STATE_BLOB(PtaQueueState, reserved),      {},
};

static bool queue_validate(const void *state, GError **error)
{
    static const uint8_t zero[sizeof(((PtaQueueState *)0)->reserved)];
    const PtaQueueState *s = state;
    return (s->ready <= 1 && s->signalled_valid <= 1 &&
            memcmp(s->reserved, zero, sizeof(zero)) == 0 &&
            (s->size == 0 || (pta_is_pow2(s->size) && s->size <= s->max_size)) &&
            (uint16_t)(s->next_avail - s->next_used) <= s->size) ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "the size or the indices cannot be");
}

const PtaStateDesc pta_queue_state = {
    .name = "queue",
    .version = 1,
    .size = sizeof(PtaQueueState),
    .fields = queue_fields,
    .validate = queue_validate,
};
