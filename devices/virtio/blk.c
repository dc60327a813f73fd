/*
 * virtio-blk. A request's framing is the driver's choice: header, data and status are taken from
 * the chain by position, never by descriptor. All is checked before the back end sees it.
 *
 * LOCKED(parent.lock) but for what the back end owns; requests go out and come back on the I/O
 * thread.
 */
#include "config.h"

#include "devices/virtio/blk.h"

#include <endian.h>
#include <string.h>

#include "devices/block/block.h"
#include "devices/devices.h"
#include "devices/virtio/iov.h"
#include "qmp/gen/types.h"

typedef struct BlkRequest {
    PtaBlockRequest io; /* first: done() gets it */
    struct Blk *blk;
    PtaQueue *q;
    PtaChain *chain; /* NULL: a flush of our own */
    struct iovec *iov;
    unsigned capacity;
    struct BlkRequest *next; /* spare */
} BlkRequest;

typedef struct BlkState {
    uint8_t writeback; /* 1: a write may stay in the cache until the next flush */
} BlkState;

typedef struct Blk {
    PtaVirtio parent;
    PtaBlock *block;               /* CONST */
    char serial[PTA_BLK_ID_BYTES]; /* CONST; padded with zeros, not terminated */
    BlkState state;
    bool flush_wanted; /* the cache was turned off: what is in it goes out first */
    BlkRequest *spare;
} Blk;

static const PtaStateField blk_fields[] = { PTA_STATE_U8(BlkState, writeback), {} };

static Blk *blk_of(PtaVirtio *vd)
{
    return (Blk *)vd;
}

/* ---- requests ---- */

static BlkRequest *request_take(Blk *blk, PtaQueue *q, PtaChain *chain)
{
    BlkRequest *r = blk->spare;
    if (r) {
        blk->spare = r->next;
    } else {
        r = g_new0(BlkRequest, 1);
    }
    r->blk = blk;
    r->q = q;
    r->chain = chain;
    unsigned n = chain ? chain->n_out + chain->n_in : 0;
    if (n > r->capacity) {
        r->capacity = n;
        r->iov = g_renew(struct iovec, r->iov, n);
    }
    return r;
}

static void request_give_back(Blk *blk, BlkRequest *r)
{
    r->next = blk->spare;
    blk->spare = r;
}

/* The status is the last byte that the driver gave us. All of the writable part counts as written:
 * a read that failed may have filled some of it. */
static void finish(Blk *blk, PtaQueue *q, PtaChain *chain, uint8_t status)
{
    pta_iov_from_buf(chain->iov + chain->n_out, chain->n_in, (size_t)chain->in_len - 1, &status, 1);
    pta_virtio_complete(&blk->parent, q, chain, (uint32_t)chain->in_len);
}

/* Not by PTA_GUEST_ERROR: it is the host that failed. */
static void report_failure(const Blk *blk, const PtaBlockRequest *io, int error)
{
    static PtaRatelimit limit;
    uint32_t missed;
    if (pta_ratelimit_ok(&limit, &missed)) {
        g_warning("%s: request %d at %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                  " failed: %s (%u others before)",
                  blk->parent.parent.id, (int)io->op, io->offset, io->len, g_strerror(-error),
                  missed);
    }
}

static void blk_done(PtaBlockRequest *io, int error)
{
    BlkRequest *r = (BlkRequest *)io;
    Blk *blk = r->blk;
    g_mutex_lock(&blk->parent.lock);
    if (error != 0) {
        report_failure(blk, io, error);
    }
    if (r->chain) {
        finish(blk, r->q, r->chain, error == 0 ? PTA_BLK_S_OK : PTA_BLK_S_IOERR);
    }
    request_give_back(blk, r);
    pta_virtio_end(&blk->parent);
    g_mutex_unlock(&blk->parent.lock);
}

static void submit(Blk *blk, BlkRequest *r, PtaBlockOp op, uint64_t offset, uint64_t len,
                   unsigned flags)
{
    r->io = (PtaBlockRequest){
        .op = op,
        .flags = flags,
        .offset = offset,
        .len = len,
        .iov = r->iov,
        .n_iov = r->io.n_iov,
        .done = blk_done,
    };
    pta_virtio_begin(&blk->parent);
    pta_block_submit(blk->block, &r->io);
}

/* 5.2.6.2: without a way to say FLUSH there must be no cache that needs it. */
static bool writes_through(const Blk *blk)
{
    return pta_virtio_has(&blk->parent, PTA_BLK_F_CONFIG_WCE)
               ? !blk->state.writeback
               : !pta_virtio_has(&blk->parent, PTA_BLK_F_FLUSH);
}

/* Whether [sector, sector + len bytes) is whole blocks within the medium. */
static bool in_range(const Blk *blk, uint64_t sector, uint64_t len)
{
    uint64_t size = blk->block->size;
    uint32_t unit = blk->block->logical_size;
    return sector <= size / PTA_BLK_SECTOR && len <= size - sector * PTA_BLK_SECTOR &&
           len % unit == 0 && sector * PTA_BLK_SECTOR % unit == 0;
}

static uint8_t transfer(Blk *blk, PtaQueue *q, PtaChain *chain, bool write, uint64_t sector)
{
    uint64_t len = write ? chain->out_len - PTA_BLK_HEADER : chain->in_len - 1;
    if ((write && blk->block->read_only) || !in_range(blk, sector, len)) {
        return PTA_BLK_S_IOERR;
    }
    if (len == 0) {
        return PTA_BLK_S_OK;
    }
    BlkRequest *r = request_take(blk, q, chain);
    if (write) {
        r->io.n_iov = pta_iov_slice(chain->iov, chain->n_out, PTA_BLK_HEADER, len, r->iov);
    } else {
        r->io.n_iov = pta_iov_slice(chain->iov + chain->n_out, chain->n_in, 0, len, r->iov);
    }
    submit(blk, r, write ? PTA_BLOCK_WRITE : PTA_BLOCK_READ, sector * PTA_BLK_SECTOR, len,
           write && writes_through(blk) ? PTA_BLOCK_FUA : 0);
    return UINT8_MAX;
}

/* Discard and write zeroes: one segment, as the configuration space says. */
static uint8_t unmap(Blk *blk, PtaQueue *q, PtaChain *chain, bool zeroes)
{
    struct {
        uint64_t sector;
        uint32_t n_sectors;
        uint32_t flags;
    } seg;
    G_STATIC_ASSERT(sizeof(seg) == PTA_BLK_SEGMENT);
    if (!pta_virtio_has(&blk->parent, zeroes ? PTA_BLK_F_WRITE_ZEROES : PTA_BLK_F_DISCARD)) {
        return PTA_BLK_S_UNSUPP;
    }
    if (chain->out_len != PTA_BLK_HEADER + sizeof(seg) || blk->block->read_only) {
        return PTA_BLK_S_IOERR;
    }
    pta_iov_to_buf(chain->iov, chain->n_out, PTA_BLK_HEADER, &seg, sizeof(seg));
    uint64_t sector = le64toh(seg.sector);
    uint64_t len = (uint64_t)le32toh(seg.n_sectors) * PTA_BLK_SECTOR;
    uint32_t flags = le32toh(seg.flags);
    if (flags & ~(zeroes ? PTA_BLK_SEG_UNMAP : 0)) {
        return PTA_BLK_S_UNSUPP;
    }
    if (le32toh(seg.n_sectors) > PTA_BLK_MAX_UNMAP || !in_range(blk, sector, len)) {
        return PTA_BLK_S_IOERR;
    }
    if (len == 0) {
        return PTA_BLK_S_OK;
    }
    BlkRequest *r = request_take(blk, q, chain);
    r->io.n_iov = 0;
    submit(blk, r, zeroes ? PTA_BLOCK_WRITE_ZEROES : PTA_BLOCK_DISCARD, sector * PTA_BLK_SECTOR,
           len,
           (flags & PTA_BLK_SEG_UNMAP ? PTA_BLOCK_UNMAP : 0) |
               (writes_through(blk) ? PTA_BLOCK_FUA : 0));
    return UINT8_MAX;
}

static uint8_t get_id(Blk *blk, PtaChain *chain)
{
    size_t len = (size_t)MIN(chain->in_len - 1, sizeof(blk->serial));
    pta_iov_from_buf(chain->iov + chain->n_out, chain->n_in, 0, blk->serial, len);
    return PTA_BLK_S_OK;
}

static uint8_t flush(Blk *blk, PtaQueue *q, PtaChain *chain)
{
    BlkRequest *r = request_take(blk, q, chain);
    r->io.n_iov = 0;
    submit(blk, r, PTA_BLOCK_FLUSH, 0, 0, 0);
    return UINT8_MAX;
}

/* The status, or UINT8_MAX if it is not known yet. */
static uint8_t dispatch(Blk *blk, PtaQueue *q, PtaChain *chain, uint32_t type, uint64_t sector)
{
    switch (type) {
    case PTA_BLK_T_IN:
        return transfer(blk, q, chain, false, sector);
    case PTA_BLK_T_OUT:
        return transfer(blk, q, chain, true, sector);
    case PTA_BLK_T_FLUSH:
        return flush(blk, q, chain);
    case PTA_BLK_T_GET_ID:
        return get_id(blk, chain);
    case PTA_BLK_T_DISCARD:
        return unmap(blk, q, chain, false);
    case PTA_BLK_T_WRITE_ZEROES:
        return unmap(blk, q, chain, true);
    default:
        return PTA_BLK_S_UNSUPP;
    }
}

static bool blk_request(PtaVirtio *vd, PtaQueue *q, PtaChain *chain)
{
    Blk *blk = blk_of(vd);
    struct {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    } header = { 0 };
    G_STATIC_ASSERT(sizeof(header) == PTA_BLK_HEADER);
    if (chain->out_len < sizeof(header) || chain->in_len < 1) {
        pta_queue_push(q, chain, 0);
        pta_queue_break(q, "a block request without a header or without room for its status");
        return false;
    }
    pta_iov_to_buf(chain->iov, chain->n_out, 0, &header, sizeof(header));
    uint8_t status = dispatch(blk, q, chain, le32toh(header.type), le64toh(header.sector));
    if (status != UINT8_MAX) {
        finish(blk, q, chain, status);
    }
    return true;
}

static void blk_kick(PtaVirtio *vd, PtaQueue *q)
{
    Blk *blk = blk_of(vd);
    if (blk->flush_wanted) {
        blk->flush_wanted = false;
        flush(blk, q, NULL);
    }
    pta_virtio_for_each(vd, q, blk_request);
    pta_block_commit(blk->block);
}

/* ---- configuration ---- */

static void put_le(PtaVirtio *vd, unsigned offset, unsigned size, uint64_t value)
{
    uint64_t le = htole64(value);
    memcpy(vd->config + offset, &le, size);
}

static uint64_t blk_configure(Blk *blk, uint16_t queue_size)
{
    const PtaBlock *b = blk->block;
    PtaVirtio *vd = &blk->parent;
    unsigned exponent = (unsigned)__builtin_ctz(b->physical_size / b->logical_size);
    vd->config_size = PTA_BLK_CFG_SIZE;
    put_le(vd, PTA_BLK_CFG_CAPACITY, 8, b->size / PTA_BLK_SECTOR);
    /* Header and status take two descriptors of a chain. */
    put_le(vd, PTA_BLK_CFG_SEG_MAX, 4, MAX(MIN(queue_size, PTA_CHAIN_MAX_DESC), 3) - 2);
    put_le(vd, PTA_BLK_CFG_BLK_SIZE, 4, b->logical_size);
    put_le(vd, PTA_BLK_CFG_PHYSICAL_EXP, 1, exponent);
    put_le(vd, PTA_BLK_CFG_MIN_IO_SIZE, 2, 1u << exponent);
    uint64_t features = UINT64_C(1) << PTA_BLK_F_SEG_MAX | UINT64_C(1) << PTA_BLK_F_BLK_SIZE |
                        UINT64_C(1) << PTA_BLK_F_TOPOLOGY | UINT64_C(1) << PTA_BLK_F_FLUSH |
                        UINT64_C(1) << PTA_BLK_F_CONFIG_WCE;
    if (b->read_only) {
        return features | UINT64_C(1) << PTA_BLK_F_RO;
    }
    put_le(vd, PTA_BLK_CFG_MAX_DISCARD_SECTORS, 4, PTA_BLK_MAX_UNMAP);
    put_le(vd, PTA_BLK_CFG_MAX_DISCARD_SEG, 4, 1);
    put_le(vd, PTA_BLK_CFG_DISCARD_ALIGN, 4, b->discard_align / PTA_BLK_SECTOR);
    put_le(vd, PTA_BLK_CFG_MAX_WZ_SECTORS, 4, PTA_BLK_MAX_UNMAP);
    put_le(vd, PTA_BLK_CFG_MAX_WZ_SEG, 4, 1);
    put_le(vd, PTA_BLK_CFG_WZ_MAY_UNMAP, 1, 1);
    return features | UINT64_C(1) << PTA_BLK_F_DISCARD | UINT64_C(1) << PTA_BLK_F_WRITE_ZEROES;
}

static void set_writeback(Blk *blk, uint8_t writeback)
{
    blk->state.writeback = writeback;
    blk->parent.config[PTA_BLK_CFG_WRITEBACK] = writeback;
}

static void blk_config_write(PtaVirtio *vd, unsigned offset, unsigned size, uint32_t value)
{
    Blk *blk = blk_of(vd);
    if (offset != PTA_BLK_CFG_WRITEBACK || size != 1 || value > 1 ||
        !pta_virtio_has(vd, PTA_BLK_F_CONFIG_WCE)) {
        return;
    }
    if (blk->state.writeback && !value) {
        blk->flush_wanted = true;
        pta_virtio_kick(vd, 0);
    }
    set_writeback(blk, (uint8_t)value);
}

static void blk_reset(PtaVirtio *vd)
{
    set_writeback(blk_of(vd), 1);
    blk_of(vd)->flush_wanted = false;
}

/* ---- state ---- */

static bool blk_validate(const void *state, GError **error)
{
    return ((const BlkState *)state)->writeback <= 1 ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT, "the cache mode is neither on nor off");
}

static const PtaStateDesc blk_state = {
    .name = "virtio-blk",
    .version = 1,
    .size = sizeof(BlkState),
    .fields = blk_fields,
    .validate = blk_validate,
};

static void blk_restored(PtaVirtio *vd)
{
    set_writeback(blk_of(vd), blk_of(vd)->state.writeback);
}

static void blk_inspect(PtaVirtio *vd, PtaInspect *req)
{
    const Blk *blk = blk_of(vd);
    g_autofree char *serial = g_strndup(blk->serial, sizeof(blk->serial));
    pta_inspect_str(req, "serial", PTA_INSPECT_PLAIN, serial);
    pta_inspect_bool(req, "writeback", PTA_INSPECT_PLAIN, blk->state.writeback != 0);
}

static const PtaVirtioClass blk_virtio = {
    .device_id = PTA_BLK_DEVICE_ID,
    .n_queues = 1,
    .kick = blk_kick,
    .reset = blk_reset,
    .config_write = blk_config_write,
    .state = &blk_state,
    .state_offset = offsetof(Blk, state),
    .restored = blk_restored,
    .inspect = blk_inspect,
};

/* ---- life ---- */

bool pta_virtio_blk_realize_with(PtaDevice *dev, PtaBlock *block, const char *serial,
                                 uint16_t queue_size, GError **error)
{
    Blk *blk = (Blk *)dev;
    blk->block = block;
    memcpy(blk->serial, serial, MIN(strlen(serial), sizeof(blk->serial)));
    uint64_t features = blk_configure(blk, queue_size);
    if (!pta_virtio_realize(&blk->parent, &blk_virtio, features, queue_size, error)) {
        pta_block_free(block);
        return false;
    }
    return true;
}

static bool blk_realize(PtaDevice *dev, const void *config, GError **error)
{
    const VirtioBlkConfig *cfg = config;
    if (!pta_is_pow2(cfg->queue_size)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "queue-size: expected a power of two, found %u", cfg->queue_size);
    }
    PtaBlock *block = pta_block_new(cfg->block, dev->host->base_dir, dev->host->io_context, error);
    return block && pta_virtio_blk_realize_with(dev, block, cfg->serial ? cfg->serial : dev->id,
                                                cfg->queue_size, error);
}

static void blk_unrealize(PtaDevice *dev)
{
    Blk *blk = (Blk *)dev;
    pta_virtio_unrealize(&blk->parent);
    pta_block_free(blk->block);
    while (blk->spare) {
        BlkRequest *r = blk->spare;
        blk->spare = r->next;
        g_free(r->iov);
        g_free(r);
    }
}

static PtaBlock *blk_block(PtaDevice *dev)
{
    return ((Blk *)dev)->block;
}

const PtaDeviceClass pta_virtio_blk_class = {
    .type = "virtio-blk",
    .may_wait = true,
    .instance_size = sizeof(Blk),
    .realize = blk_realize,
    .reset = pta_virtio_device_reset,
    .start = pta_virtio_device_start,
    .quiesce = pta_virtio_device_quiesce,
    .unrealize = blk_unrealize,
    .save = pta_virtio_device_save,
    .restore = pta_virtio_device_restore,
    .inspect = pta_virtio_device_inspect,
    .block = blk_block,
};
