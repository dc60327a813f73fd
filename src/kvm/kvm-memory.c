/*
 * Memory slots. Each change of one costs KVM a wait for all readers of the old table, and a machine's
 * RAM comes in many pieces (the chipset's 16 KiB below 1 MiB). So nothing is told to KVM before
 * there is a VP: until then pieces that continue one another in the guest and in the host become one
 * slot. From then on each piece is a slot, and a piece that is taken out of a larger slot leaves
 * what is around it.
 *
 * MAIN, while no VP runs; the table is read under its lock by who fetches the dirty log.
 */
#include "config.h"

#define G_LOG_DOMAIN "kvm"

#include "src/kvm/kvm.h"

#include <errno.h>
#include <inttypes.h>

void kvm_memory_init(KvmPartition *m)
{
    g_mutex_init(&m->slots_lock);
    m->slots = g_array_new(FALSE, FALSE, sizeof(KvmSlot));
    m->slot_ids = g_new0(uint64_t, m->caps.max_slots / 64 + 1);
}

void kvm_memory_fini(KvmPartition *m)
{
    g_array_free(m->slots, TRUE);
    g_free(m->slot_ids);
    g_mutex_clear(&m->slots_lock);
}

static KvmSlot *slot_at(KvmPartition *m, guint i)
{
    return &g_array_index(m->slots, KvmSlot, i);
}

/* The first that begins at gpa or above. */
static guint find(KvmPartition *m, uint64_t gpa)
{
    guint low = 0;
    for (guint high = m->slots->len; low < high;) {
        guint mid = low + (high - low) / 2;
        if (slot_at(m, mid)->gpa < gpa) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool take_id(KvmPartition *m, uint32_t *id, GError **error)
{
    for (unsigned word = 0; word <= m->caps.max_slots / 64; word++) {
        if (m->slot_ids[word] == UINT64_MAX) {
            continue;
        }
        unsigned bit = (unsigned)__builtin_ctzll(~m->slot_ids[word]);
        *id = word * 64 + bit;
        if (*id < m->caps.max_slots) {
            m->slot_ids[word] |= UINT64_C(1) << bit;
            return true;
        }
    }
    return pta_throw(error, PTA_ERROR_UNSUPPORTED, "KVM has no more than %u memory slots",
                     m->caps.max_slots);
}

static void give_id(KvmPartition *m, uint32_t id)
{
    m->slot_ids[id / 64] &= ~(UINT64_C(1) << (id % 64));
}

/* size 0: the slot goes. */
static bool set_region(KvmPartition *m, const KvmSlot *slot, bool log, uint64_t size,
                       GError **error)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot->id,
        .flags = (slot->flags & PTA_MAP_WRITE ? 0 : KVM_MEM_READONLY) |
                 (log ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot->gpa,
        .memory_size = size,
        .userspace_addr = (uintptr_t)slot->host,
    };
    if (kvm_ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
        return pta_throw_errno(error, errno,
                               "KVM_SET_USER_MEMORY_REGION: 0x%" PRIx64 " bytes at 0x%" PRIx64,
                               slot->size, slot->gpa);
    }
    return true;
}

/* The slot to KVM and to the software CPU. */
static bool tell(KvmPartition *m, KvmSlot *slot, GError **error)
{
    if (!take_id(m, &slot->id, error)) {
        return false;
    }
    bool log = m->dirty_logging && slot->flags & PTA_MAP_WRITE;
    if (!set_region(m, slot, log, slot->size, error)) {
        give_id(m, slot->id);
        return false;
    }
    if (!kvm_emulate_map(m, slot, error)) {
        set_region(m, slot, false, 0, NULL);
        give_id(m, slot->id);
        return false;
    }
    return true;
}

static bool untell(KvmPartition *m, const KvmSlot *slot, GError **error)
{
    if (m->dirty_logging) {
        kvm_dirty_unmap(m, slot);
    }
    if (!set_region(m, slot, false, 0, error)) {
        return false;
    }
    kvm_emulate_unmap(m, slot);
    give_id(m, slot->id);
    return true;
}

bool kvm_memory_commit(KvmPartition *m, GError **error)
{
    bool ok = true;
    g_mutex_lock(&m->slots_lock);
    for (guint i = 0; ok && !m->slots_told && i < m->slots->len; i++) {
        ok = tell(m, slot_at(m, i), error);
    }
    m->slots_told = true; /* after an error the partition is not used */
    g_mutex_unlock(&m->slots_lock);
    return ok;
}

static bool continues(const KvmSlot *a, const KvmSlot *b)
{
    return a->gpa + a->size == b->gpa && (uint8_t *)a->host + a->size == b->host &&
           a->flags == b->flags;
}

static void insert_joined(KvmPartition *m, KvmSlot slot)
{
    guint at = find(m, slot.gpa);
    if (at < m->slots->len && continues(&slot, slot_at(m, at))) {
        slot.size += slot_at(m, at)->size;
        g_array_remove_index(m->slots, at);
    }
    if (at > 0 && continues(slot_at(m, at - 1), &slot)) {
        slot_at(m, at - 1)->size += slot.size;
    } else {
        g_array_insert_val(m->slots, at, slot);
    }
}

static bool add_locked(KvmPartition *m, KvmSlot *slot, GError **error)
{
    if (!(slot->flags & PTA_MAP_WRITE) && !m->caps.readonly_mem) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "the host lacks KVM_CAP_READONLY_MEM");
    }
    if (!m->slots_told) {
        insert_joined(m, *slot);
        return true;
    }
    if (!tell(m, slot, error)) {
        return false;
    }
    g_array_insert_val(m->slots, find(m, slot->gpa), *slot);
    return true;
}

bool kvm_map(PtaBackend *be, uint64_t gpa, uint64_t size, void *host, unsigned flags,
             GError **error)
{
    KvmPartition *m = kvm_of(be);
    g_assert(size != 0 && ((gpa | size | (uintptr_t)host) & ~PTA_PAGE_MASK) == 0 &&
             gpa + size > gpa);
    KvmSlot slot = { .gpa = gpa, .size = size, .host = host, .flags = flags };
    g_mutex_lock(&m->slots_lock);
    bool ok = add_locked(m, &slot, error);
    g_mutex_unlock(&m->slots_lock);
    return ok;
}

/* [gpa, gpa + size) of a slot, which stays as it is. */
static KvmSlot part(const KvmSlot *slot, uint64_t gpa, uint64_t size)
{
    return (KvmSlot){
        .gpa = gpa,
        .size = size,
        .host = (uint8_t *)slot->host + (gpa - slot->gpa),
        .flags = slot->flags,
    };
}

/* Adds slots that were part of one; if one of them fails, none of them is there. */
static bool add_parts(KvmPartition *m, KvmSlot *parts, unsigned n, GError **error)
{
    for (unsigned i = 0; i < n; i++) {
        if (!add_locked(m, &parts[i], error)) {
            while (i-- > 0) {
                untell(m, &parts[i], NULL);
                g_array_remove_index(m->slots, find(m, parts[i].gpa));
            }
            return false;
        }
    }
    return true;
}

static bool remove_locked(KvmPartition *m, guint i, uint64_t gpa, uint64_t size, GError **error)
{
    KvmSlot whole = *slot_at(m, i), around[2];
    unsigned n = 0;
    if (gpa > whole.gpa) {
        around[n++] = part(&whole, whole.gpa, gpa - whole.gpa);
    }
    if (gpa + size < whole.gpa + whole.size) {
        around[n++] = part(&whole, gpa + size, whole.gpa + whole.size - (gpa + size));
    }
    if (m->slots_told && !untell(m, &whole, error)) {
        return false;
    }
    g_array_remove_index(m->slots, i);
    if (add_parts(m, around, n, error)) {
        return true;
    }
    if (!add_locked(m, &whole, NULL)) {
        g_warning("kvm: 0x%" PRIx64 " bytes of memory at 0x%" PRIx64 " are lost", whole.size,
                  whole.gpa);
    }
    return false;
}

bool kvm_unmap(PtaBackend *be, uint64_t gpa, uint64_t size, GError **error)
{
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->slots_lock);
    guint i = find(m, gpa);
    if ((i == m->slots->len || slot_at(m, i)->gpa > gpa) && i > 0) {
        i--; /* it may begin within the one before */
    }
    const KvmSlot *slot = i < m->slots->len ? slot_at(m, i) : NULL;
    bool ok = slot && gpa >= slot->gpa && gpa - slot->gpa < slot->size &&
              size <= slot->size - (gpa - slot->gpa);
    if (ok) {
        ok = remove_locked(m, i, gpa, size, error);
    } else {
        pta_throw(error, PTA_ERROR_GENERIC_ERROR, "0x%" PRIx64 " is not mapped", gpa);
    }
    g_mutex_unlock(&m->slots_lock);
    return ok;
}

bool kvm_memory_log(KvmPartition *m, bool on, GError **error)
{
    g_mutex_lock(&m->slots_lock);
    bool ok = true;
    guint i = 0;
    for (; ok && i < m->slots->len; i++) {
        const KvmSlot *slot = slot_at(m, i);
        if (slot->flags & PTA_MAP_WRITE) {
            ok = set_region(m, slot, on, slot->size, error);
        }
    }
    if (ok) {
        m->dirty_logging = on;
    } else {
        for (guint back = 0; back + 1 < i; back++) {
            const KvmSlot *slot = slot_at(m, back);
            if (slot->flags & PTA_MAP_WRITE) {
                set_region(m, slot, !on, slot->size, NULL);
            }
        }
    }
    g_mutex_unlock(&m->slots_lock);
    return ok;
}
