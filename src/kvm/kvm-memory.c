/*
 * Memory slots. What the partition maps and unmaps is what KVM's slots are, one for one: the layer
 * above gives differences already. MAIN, while no VP runs; the table is read under its lock by who
 * fetches the dirty log.
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

static bool add_locked(KvmPartition *m, KvmSlot *slot, GError **error)
{
    if (!(slot->flags & PTA_MAP_WRITE) && !m->caps.readonly_mem) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "the host lacks KVM_CAP_READONLY_MEM");
    }
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

bool kvm_unmap(PtaBackend *be, uint64_t gpa, uint64_t size, GError **error)
{
    KvmPartition *m = kvm_of(be);
    g_mutex_lock(&m->slots_lock);
    guint i = find(m, gpa);
    bool ok = i < m->slots->len && slot_at(m, i)->gpa == gpa && slot_at(m, i)->size == size;
    if (!ok) {
        pta_throw(error, PTA_ERROR_GENERIC_ERROR, "0x%" PRIx64 " is not mapped", gpa);
    } else {
        KvmSlot slot = *slot_at(m, i);
        if (m->dirty_logging) {
            kvm_dirty_unmap(m, &slot);
        }
        ok = set_region(m, &slot, false, 0, error);
        if (ok) {
            kvm_emulate_unmap(m, &slot);
            give_id(m, slot.id);
            g_array_remove_index(m->slots, i);
        }
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
