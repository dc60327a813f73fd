/*
 * Registers of virtio-mmio version 2. VP threads; under the device's lock but for notification and
 * interrupt registers, so that a VP in its interrupt handler does not wait for a queue at work.
 */
#include "config.h"

#include "devices/virtio/mmio.h"

#include <string.h>

#define VERSION_2 2u

/* The queue that QUEUE_SEL names; NULL if there is none of that number. */
static PtaQueue *selected_queue(PtaVirtio *vd)
{
    return vd->s.queue_sel < vd->vclass->n_queues ? &vd->queues[vd->s.queue_sel] : NULL;
}

static uint32_t page_read(uint64_t value, uint32_t page)
{
    return page == 0 ? (uint32_t)value : page == 1 ? (uint32_t)(value >> 32) : 0;
}

static uint32_t reg_read_locked(PtaVirtio *vd, unsigned reg)
{
    const PtaQueue *q = selected_queue(vd);
    switch (reg) {
    case PTA_VIRTIO_MMIO_MAGIC:
        return PTA_VIRTIO_MMIO_MAGIC_VALUE;
    case PTA_VIRTIO_MMIO_VERSION:
        return VERSION_2;
    case PTA_VIRTIO_MMIO_DEVICE_ID:
        return vd->vclass->device_id;
    case PTA_VIRTIO_MMIO_VENDOR_ID:
        return 0;
    case PTA_VIRTIO_MMIO_DEVICE_FEATURES:
        return page_read(vd->features, vd->s.device_features_sel);
    case PTA_VIRTIO_MMIO_QUEUE_NUM_MAX:
        return q ? q->s.max_size : 0;
    case PTA_VIRTIO_MMIO_QUEUE_READY:
        return q ? q->s.ready : 0;
    case PTA_VIRTIO_MMIO_STATUS:
        return vd->s.status;
    case PTA_VIRTIO_MMIO_SHM_LEN_LOW:
    case PTA_VIRTIO_MMIO_SHM_LEN_HIGH:
    case PTA_VIRTIO_MMIO_SHM_BASE_LOW:
    case PTA_VIRTIO_MMIO_SHM_BASE_HIGH:
        return UINT32_MAX; /* no such region: a length of -1 (4.2.2) */
    case PTA_VIRTIO_MMIO_CONFIG_GENERATION:
        return vd->s.config_generation;
    default:
        PTA_GUEST_ERROR("%s: read of register 0x%x", vd->parent.id, reg);
        return 0;
    }
}

static void set_half(uint64_t *word, bool high, uint32_t value)
{
    *word = high ? (*word & UINT32_MAX) | (uint64_t)value << 32
                 : (*word & ~(uint64_t)UINT32_MAX) | value;
}

/* A queue is set up between FEATURES_OK and DRIVER_OK, and while it is not ready. */
static void queue_write_locked(PtaVirtio *vd, unsigned reg, uint32_t value)
{
    PtaQueue *q = selected_queue(vd);
    bool open = (vd->s.status & (PTA_VIRTIO_S_FEATURES_OK | PTA_VIRTIO_S_DRIVER_OK |
                                 PTA_VIRTIO_S_FAILED)) == PTA_VIRTIO_S_FEATURES_OK;
    bool unready = reg == PTA_VIRTIO_MMIO_QUEUE_READY && value == 0;
    if (unready && (!q || !q->s.ready)) {
        return; /* drivers do so after a reset, to be sure */
    }
    if (!q || !open || (q->s.ready && !unready)) {
        PTA_GUEST_ERROR("%s: write of queue register 0x%x at status 0x%x", vd->parent.id, reg,
                        vd->s.status);
        return;
    }
    switch (reg) {
    case PTA_VIRTIO_MMIO_QUEUE_NUM:
        /* What cannot be is kept as zero, which is refused when the driver says that it is done. */
        q->s.size = value <= q->s.max_size && pta_is_pow2(value) ? (uint16_t)value : 0;
        break;
    case PTA_VIRTIO_MMIO_QUEUE_READY:
        q->s.ready = value & 1;
        break;
    case PTA_VIRTIO_MMIO_QUEUE_DESC_LOW:
    case PTA_VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_half(&q->s.desc, reg == PTA_VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
        break;
    case PTA_VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case PTA_VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
        set_half(&q->s.avail, reg == PTA_VIRTIO_MMIO_QUEUE_DRIVER_HIGH, value);
        break;
    default:
        set_half(&q->s.used, reg == PTA_VIRTIO_MMIO_QUEUE_DEVICE_HIGH, value);
        break;
    }
}

static void driver_features_write_locked(PtaVirtio *vd, uint32_t value)
{
    if ((vd->s.status & (PTA_VIRTIO_S_DRIVER | PTA_VIRTIO_S_FEATURES_OK)) != PTA_VIRTIO_S_DRIVER ||
        (vd->s.driver_features_sel > 1 && value != 0)) {
        PTA_GUEST_ERROR("%s: features 0x%x of page %u at status 0x%x", vd->parent.id, value,
                        vd->s.driver_features_sel, vd->s.status);
        return;
    }
    if (vd->s.driver_features_sel <= 1) {
        set_half(&vd->s.driver_features, vd->s.driver_features_sel == 1, value);
    }
}

static void reg_write_locked(PtaVirtio *vd, unsigned reg, uint32_t value)
{
    switch (reg) {
    case PTA_VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        vd->s.device_features_sel = value;
        break;
    case PTA_VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        vd->s.driver_features_sel = value;
        break;
    case PTA_VIRTIO_MMIO_DRIVER_FEATURES:
        driver_features_write_locked(vd, value);
        break;
    case PTA_VIRTIO_MMIO_QUEUE_SEL:
        vd->s.queue_sel = value;
        break;
    case PTA_VIRTIO_MMIO_SHM_SEL:
        vd->s.shm_sel = value;
        break;
    case PTA_VIRTIO_MMIO_STATUS:
        pta_virtio_set_status(vd, value);
        break;
    case PTA_VIRTIO_MMIO_QUEUE_NUM:
    case PTA_VIRTIO_MMIO_QUEUE_READY:
    case PTA_VIRTIO_MMIO_QUEUE_DESC_LOW:
    case PTA_VIRTIO_MMIO_QUEUE_DESC_HIGH:
    case PTA_VIRTIO_MMIO_QUEUE_DRIVER_LOW:
    case PTA_VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
    case PTA_VIRTIO_MMIO_QUEUE_DEVICE_LOW:
    case PTA_VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
        queue_write_locked(vd, reg, value);
        break;
    default:
        PTA_GUEST_ERROR("%s: write of register 0x%x", vd->parent.id, reg);
        break;
    }
}

/* ---- configuration space: any width ---- */

static uint64_t config_read_locked(const PtaVirtio *vd, unsigned offset, unsigned size)
{
    uint64_t value = 0;
    if (offset < vd->config_size) {
        memcpy(&value, vd->config + offset, MIN(size, vd->config_size - offset));
    }
    return GUINT64_FROM_LE(value);
}

static void config_write_locked(PtaVirtio *vd, unsigned offset, unsigned size, uint64_t value)
{
    if (vd->vclass->config_write && size <= 4 && offset < vd->config_size &&
        size <= vd->config_size - offset && vd->s.status & PTA_VIRTIO_S_DRIVER) {
        vd->vclass->config_write(vd, offset, size, (uint32_t)value);
    } else {
        PTA_GUEST_ERROR("%s: write of %u bytes to configuration offset 0x%x", vd->parent.id, size,
                        offset);
    }
}

/* ---- the window ---- */

static bool well_formed(PtaVirtio *vd, uint64_t offset, unsigned size)
{
    if (offset >= PTA_VIRTIO_MMIO_CONFIG || (size == 4 && offset % 4 == 0)) {
        return true;
    }
    PTA_GUEST_ERROR("%s: access of %u bytes to register 0x%x", vd->parent.id, size,
                    (unsigned)offset);
    return false;
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
    PtaVirtio *vd = opaque;
    uint64_t value;
    if (!well_formed(vd, offset, size)) {
        return 0;
    }
    if (offset == PTA_VIRTIO_MMIO_INTERRUPT_STATUS) {
        return pta_virtio_interrupt_status(vd);
    }
    g_mutex_lock(&vd->lock);
    value = offset >= PTA_VIRTIO_MMIO_CONFIG
                ? config_read_locked(vd, (unsigned)offset - PTA_VIRTIO_MMIO_CONFIG, size)
                : reg_read_locked(vd, (unsigned)offset);
    g_mutex_unlock(&vd->lock);
    PTA_TRACE(PTA_TRACE_VIRTIO, "%s: read 0x%x: 0x%x", vd->parent.id, (unsigned)offset,
              (unsigned)value);
    return value;
}

static void mmio_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    PtaVirtio *vd = opaque;
    PTA_TRACE(PTA_TRACE_VIRTIO, "%s: write 0x%x: 0x%x", vd->parent.id, (unsigned)offset,
              (unsigned)value);
    if (!well_formed(vd, offset, size)) {
        return;
    }
    if (offset == PTA_VIRTIO_MMIO_QUEUE_NOTIFY) {
        /* Whether the queue is alive is asked by the I/O thread. */
        if (value < vd->vclass->n_queues) {
            pta_virtio_kick(vd, (unsigned)value);
        }
        return;
    }
    if (offset == PTA_VIRTIO_MMIO_INTERRUPT_ACK) {
        pta_virtio_interrupt_ack(vd, (uint32_t)value);
        return;
    }
    g_mutex_lock(&vd->lock);
    if (offset >= PTA_VIRTIO_MMIO_CONFIG) {
        config_write_locked(vd, (unsigned)offset - PTA_VIRTIO_MMIO_CONFIG, size, value);
    } else {
        reg_write_locked(vd, (unsigned)offset, (uint32_t)value);
    }
    g_mutex_unlock(&vd->lock);
}

const PtaBusOps pta_virtio_mmio_ops = { .read = mmio_read, .write = mmio_write };
