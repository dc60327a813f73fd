/*
 * Which pages VPs write to. Two ways of the kernel's:
 *
 * The dirty ring (Linux 6.1): the kernel notes each page that becomes writable in the ring of the VP,
 * which is memory that it shares with us. A fetch takes what is in the rings, has the pages protected
 * again (KVM_RESET_DIRTY_RINGS), and only then hands them out: a store that comes after that is noted
 * anew. It costs what was written, not what there is. A VP whose ring is full leaves guest code and empties
 * it itself. Kernels before 6.1 have the ring, too, but some of them stumble over a page that they write
 * to on behalf of no VP.
 *
 * A bitmap for each slot: KVM_GET_DIRTY_LOG copies it, and KVM_CLEAR_DIRTY_LOG clears and protects the
 * pages that are handed out; where the latter lacks, the former does that for the whole slot.
 *
 * The ring has to be asked for before there are VPs and keeps the kernel from having bitmaps. While nobody
 * logs it is never touched, and so takes no memory of this process (the kernel's: 64 KiB a VP).
 *
 * What the software CPU executes for KVM is in its own log.
 *
 * slots_lock guards all of it. Sinks are called under it; they take no lock.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Of a VP's ring. A VP leaves guest code after some 3,500 pages that it writes to between two fetches. */
#define RING_ENTRIES 4096

struct KvmDirty {
    size_t ring_size; /* CONST: bytes; 0: bitmaps */
    bool clears;      /* CONST: KVM_CLEAR_DIRTY_LOG */
    /* LOCKED(slots_lock): */
    PtaDirtySinkFn *sink; /* NULL: nobody logs */
    void *opaque;
    GArray *pages; /* addresses that came from a ring, and are not handed out */
    uint64_t *bitmap;
    size_t bitmap_words;
};

/* ---- life ---- */

static bool enable_ring(KvmPartition *m, GError **error)
{
    size_t size = MIN(RING_ENTRIES * sizeof(struct kvm_dirty_gfn), m->caps.dirty_ring_max);
    struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING_ACQ_REL, .args[0] = size };
    m->dirty->ring_size = size;
    return kvm_try(m->vm_fd, KVM_ENABLE_CAP, &cap, error);
}

static bool enable_clearing(KvmPartition *m, GError **error)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                  .args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE };
    m->dirty->clears = true;
    return kvm_try(m->vm_fd, KVM_ENABLE_CAP, &cap, error);
}

bool kvm_dirty_init(KvmPartition *m, GError **error)
{
    m->dirty = g_new0(KvmDirty, 1);
    m->dirty->pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    if (m->caps.dirty_ring_max != 0) {
        return enable_ring(m, error);
    }
    return !(m->caps.manual_protect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) ||
           enable_clearing(m, error);
}

void kvm_dirty_fini(KvmPartition *m)
{
    if (m->dirty) {
        g_array_free(m->dirty->pages, TRUE);
        g_free(m->dirty->bitmap);
        g_clear_pointer(&m->dirty, g_free);
    }
}

bool kvm_dirty_vp_init(KvmVp *vp, GError **error)
{
    size_t size = vp->m->dirty->ring_size;
    if (size == 0) {
        return true;
    }
    void *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vp->fd,
                      (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * PTA_PAGE_SIZE);
    if (ring == MAP_FAILED) {
        return pta_throw_errno(error, errno, "cannot map the dirty ring");
    }
    vp->ring = ring;
    return true;
}

void kvm_dirty_vp_fini(KvmVp *vp)
{
    if (vp->ring) {
        munmap(vp->ring, vp->m->dirty->ring_size);
        vp->ring = NULL;
    }
}

/* ---- the sink ---- */

/* Pages of which the first need not be the first of a word of the sink's. */
static void hand_out(KvmDirty *d, uint64_t gpa, uint64_t bits)
{
    unsigned shift = (unsigned)(gpa / PTA_PAGE_SIZE % 64);
    gpa -= shift * PTA_PAGE_SIZE;
    if (bits << shift) {
        d->sink(d->opaque, gpa, bits << shift);
    }
    if (shift != 0 && bits >> (64 - shift)) {
        d->sink(d->opaque, gpa + 64 * PTA_PAGE_SIZE, bits >> (64 - shift));
    }
}

/* Those of d->pages: what follows in the same word goes with it. */
static void hand_out_pages(KvmDirty *d)
{
    uint64_t word = 0, bits = 0;
    for (guint i = 0; i < d->pages->len; i++) {
        uint64_t page = g_array_index(d->pages, uint64_t, i) / PTA_PAGE_SIZE;
        if (page / 64 != word && bits) {
            d->sink(d->opaque, word * 64 * PTA_PAGE_SIZE, bits);
            bits = 0;
        }
        word = page / 64;
        bits |= UINT64_C(1) << page % 64;
    }
    if (bits) {
        d->sink(d->opaque, word * 64 * PTA_PAGE_SIZE, bits);
    }
}

/* ---- rings ---- */

static const KvmSlot *slot_by_id(const KvmPartition *m, uint32_t id)
{
    for (guint i = 0; i < m->slots->len; i++) {
        const KvmSlot *slot = &g_array_index(m->slots, KvmSlot, i);
        if (slot->id == id) {
            return slot;
        }
    }
    return NULL;
}

/* Takes what is in a ring: d->pages. */
static void collect(KvmVp *vp)
{
    KvmPartition *m = vp->m;
    uint32_t n = (uint32_t)(m->dirty->ring_size / sizeof(struct kvm_dirty_gfn));
    const KvmSlot *slot = NULL;
    for (;;) {
        struct kvm_dirty_gfn *entry = &vp->ring[vp->ring_next % n];
        if (__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY) {
            return;
        }
        if (!slot || slot->id != entry->slot) {
            slot = slot_by_id(m, entry->slot);
        }
        if (slot && entry->offset < slot->size / PTA_PAGE_SIZE) {
            uint64_t gpa = slot->gpa + entry->offset * PTA_PAGE_SIZE;
            g_array_append_val(m->dirty->pages, gpa);
        }
        __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
        vp->ring_next++;
    }
}

/* The pages collected are protected, then handed out. If the kernel does not protect them (no reason is
 * known), they are handed out again each time, until it does. */
static void settle(KvmPartition *m)
{
    KvmDirty *d = m->dirty;
    g_autoptr(GError) error = NULL;
    bool protected = kvm_try(m->vm_fd, KVM_RESET_DIRTY_RINGS, 0, &error);
    if (!protected) {
        g_warning("kvm: pages that VPs write to may be reported too often: %s", error->message);
    }
    if (d->sink) {
        hand_out_pages(d);
    }
    if (protected) {
        g_array_set_size(d->pages, 0);
    }
}

static void empty_rings(KvmPartition *m)
{
    for (unsigned i = 0; i < m->n_vps; i++) {
        if (m->vps[i] && m->vps[i]->ring) {
            collect(m->vps[i]);
        }
    }
    if (m->dirty->pages->len > 0) {
        settle(m);
    }
}

void kvm_dirty_ring_full(KvmVp *vp)
{
    KvmPartition *m = vp->m;
    g_mutex_lock(&m->slots_lock);
    collect(vp);
    settle(m);
    g_mutex_unlock(&m->slots_lock);
}

/* ---- bitmaps ---- */

static size_t words_of(const KvmSlot *slot)
{
    return (slot->size / PTA_PAGE_SIZE + 63) / 64;
}

/* d->bitmap; false: the kernel does not tell. */
static bool get_bitmap(KvmPartition *m, const KvmSlot *slot)
{
    KvmDirty *d = m->dirty;
    size_t words = words_of(slot);
    if (words > d->bitmap_words) {
        g_free(d->bitmap);
        d->bitmap = g_new(uint64_t, words);
        d->bitmap_words = words;
    }
    memset(d->bitmap, 0, words * 8);
    struct kvm_dirty_log log = { .slot = slot->id, .dirty_bitmap = d->bitmap };
    g_autoptr(GError) error = NULL;
    if (!kvm_try(m->vm_fd, KVM_GET_DIRTY_LOG, &log, &error)) {
        g_warning("kvm: which pages VPs wrote to is not known: %s", error->message);
        return false;
    }
    return true;
}

static bool clear_bitmap(KvmPartition *m, const KvmSlot *slot, size_t word, size_t words)
{
    uint64_t pages = slot->size / PTA_PAGE_SIZE;
    struct kvm_clear_dirty_log clear = {
        .slot = slot->id,
        .first_page = word * 64,
        .num_pages = (uint32_t)MIN(words * 64, pages - word * 64),
        .dirty_bitmap = m->dirty->bitmap + word,
    };
    g_autoptr(GError) error = NULL;
    if (!kvm_try(m->vm_fd, KVM_CLEAR_DIRTY_LOG, &clear, &error)) {
        g_warning("kvm: pages that VPs write to may be reported too often: %s", error->message);
        return false;
    }
    return true;
}

/* All pages first … last of a slot: the host knows no better. */
static void hand_out_all(KvmDirty *d, const KvmSlot *slot, uint64_t first, uint64_t last)
{
    for (uint64_t page = first; page <= last; page++) {
        hand_out(d, slot->gpa + page * PTA_PAGE_SIZE, 1);
    }
}

/* Pages first … last of a slot. What was set while we looked stays set: the kernel clears no more
 * than we say. */
static void fetch_slot(KvmPartition *m, const KvmSlot *slot, uint64_t first, uint64_t last)
{
    KvmDirty *d = m->dirty;
    if (!get_bitmap(m, slot)) {
        hand_out_all(d, slot, first, last);
        return;
    }
    size_t begin = 0, end = words_of(slot);
    if (d->clears) { /* else all of them are clear now */
        begin = first / 64;
        end = last / 64 + 1;
        d->bitmap[begin] &= UINT64_MAX << first % 64;
        d->bitmap[end - 1] &= UINT64_MAX >> (63 - last % 64);
    }
    while (begin < end && d->bitmap[begin] == 0) {
        begin++;
    }
    while (end > begin && d->bitmap[end - 1] == 0) {
        end--;
    }
    if (d->clears && begin < end) {
        clear_bitmap(m, slot, begin, end - begin);
    }
    for (size_t w = begin; w < end; w++) {
        hand_out(d, slot->gpa + w * 64 * PTA_PAGE_SIZE, d->bitmap[w]);
    }
}

static void fetch_slots(KvmPartition *m, uint64_t gpa, uint64_t size)
{
    uint64_t end = gpa + (size - 1);
    for (guint i = 0; i < m->slots->len; i++) {
        const KvmSlot *slot = &g_array_index(m->slots, KvmSlot, i);
        uint64_t last = slot->gpa + (slot->size - 1);
        if (slot->flags & PTA_MAP_WRITE && gpa <= last && end >= slot->gpa) {
            uint64_t from = MAX(gpa, slot->gpa) - slot->gpa, to = MIN(end, last) - slot->gpa;
            fetch_slot(m, slot, from / PTA_PAGE_SIZE, to / PTA_PAGE_SIZE);
        }
    }
}

/* ---- the contract ---- */

static void stop_locked(KvmPartition *m)
{
    KvmDirty *d = m->dirty;
    d->sink = NULL;
    if (d->ring_size != 0) {
        empty_rings(m);
        g_array_free(d->pages, TRUE);
        d->pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
        for (unsigned i = 0; i < m->n_vps; i++) {
            if (m->vps[i] && m->vps[i]->ring) {
                madvise(m->vps[i]->ring, d->ring_size, MADV_DONTNEED);
            }
        }
    }
    g_clear_pointer(&d->bitmap, g_free);
    d->bitmap_words = 0;
}

bool kvm_dirty_start(PtaBackend *be, PtaDirtySinkFn *sink, void *opaque, GError **error)
{
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->slots_lock);
    g_assert(!m->dirty->sink);
    m->dirty->sink = sink; /* rings may be full at once */
    m->dirty->opaque = opaque;
    g_mutex_unlock(&m->slots_lock);
    bool ok = kvm_memory_log(m, true, error);
    if (ok && !kvm_emulate_dirty_start(m, sink, opaque, error)) {
        kvm_memory_log(m, false, NULL);
        ok = false;
    }
    if (!ok) {
        g_mutex_lock(&m->slots_lock);
        stop_locked(m);
        g_mutex_unlock(&m->slots_lock);
    }
    return ok;
}

void kvm_dirty_fetch(PtaBackend *be, uint64_t gpa, uint64_t size)
{
    KvmPartition *m = kvm_of(be);
    if (size == 0) {
        return;
    }
    if (m->caps.page_log) {
        kvm_vps_come_out(m);
    }
    g_mutex_lock(&m->slots_lock);
    bool on = m->dirty->sink != NULL;
    if (on && m->dirty->ring_size != 0) {
        empty_rings(m);
    } else if (on) {
        fetch_slots(m, gpa, size);
    }
    g_mutex_unlock(&m->slots_lock);
    if (on) {
        kvm_emulate_dirty_fetch(m, gpa, size);
    }
}

void kvm_dirty_stop(PtaBackend *be)
{
    KvmPartition *m = kvm_of(be);
    g_autoptr(GError) error = NULL;
    kvm_emulate_dirty_stop(m);
    if (!kvm_memory_log(m, false, &error)) {
        g_warning("kvm: VPs stay slow: %s", error->message);
    }
    g_mutex_lock(&m->slots_lock);
    stop_locked(m);
    g_mutex_unlock(&m->slots_lock);
}

void kvm_dirty_unmap(KvmPartition *m, const KvmSlot *slot)
{
    KvmDirty *d = m->dirty;
    if (!d->sink || !(slot->flags & PTA_MAP_WRITE)) {
        return;
    }
    if (d->ring_size != 0) {
        empty_rings(m);
    } else {
        fetch_slot(m, slot, 0, slot->size / PTA_PAGE_SIZE - 1);
    }
}
