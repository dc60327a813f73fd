/* What all block back ends share: making one from its description, and counting. */
#include "config.h"

#include "devices/block/block.h"

#include "devices/block/file.h"
#include "devices/io.h"
#include "qmp/gen/types.h"

PtaBlock *pta_block_new(const BlockConfig *config, const char *base_dir, GMainContext *context,
                        GError **error)
{
    switch (config->type) {
    case BLOCK_CONFIG_TYPE_FILE:
        return pta_block_file_new(config->file, base_dir, context, error);
    default:
        g_assert_not_reached();
    }
}

static void block_free(void *data)
{
    PtaBlock *b = data;
    b->klass->free(b);
}

void pta_block_free(PtaBlock *b)
{
    if (b) {
        g_autoptr(GMainContext) context = b->context;
        if (context) {
            pta_io_call(context, block_free, b);
        } else {
            block_free(b);
        }
    }
}

void pta_block_submit(PtaBlock *b, PtaBlockRequest *req)
{
    req->start_ns = pta_now_ns();
    b->klass->submit(b, req);
}

void pta_block_commit(PtaBlock *b)
{
    if (b->klass->commit) {
        b->klass->commit(b);
    }
}

/* There is one writer; readers may be a little behind. */
static void count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

void pta_block_complete(PtaBlock *b, PtaBlockRequest *req, int error)
{
    PtaBlockStats *stats = &b->stats;
    count(&stats->n[req->op], 1);
    count(&stats->ns[req->op], pta_now_ns() - req->start_ns);
    if (error == 0) {
        count(&stats->bytes[req->op], req->len);
    } else {
        count(&stats->failed[req->op], 1);
    }
    req->done(req, error);
}

/* ---- inspect ---- */

typedef struct OpRef {
    const PtaBlockStats *stats;
    PtaBlockOp op;
} OpRef;

static void inspect_op(void *obj, PtaInspect *req)
{
    const OpRef *ref = obj;
    const struct {
        const char *name;
        const uint64_t *counters;
    } fields[] = {
        { "requests", ref->stats->n },
        { "bytes", ref->stats->bytes },
        { "nanoseconds", ref->stats->ns },
        { "failed", ref->stats->failed },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        pta_inspect_u64(req, fields[i].name, PTA_INSPECT_COUNTER,
                        __atomic_load_n(&fields[i].counters[ref->op], __ATOMIC_RELAXED));
    }
}

void pta_block_inspect(void *obj, PtaInspect *req)
{
    static const PtaInspectField fields[] = {
        PTA_INSPECT_OF_STR(PtaBlock, filename, "file", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U64(PtaBlock, size, "size", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U32(PtaBlock, logical_size, "logical-size", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U32(PtaBlock, physical_size, "physical-size", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_U32(PtaBlock, discard_align, "discard-align", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_BOOL(PtaBlock, read_only, "read-only", PTA_INSPECT_PLAIN),
        PTA_INSPECT_OF_BOOL(PtaBlock, direct, "direct", PTA_INSPECT_PLAIN),
        {},
    };
    static const char *const ops[PTA_BLOCK_N_OPS] = {
        [PTA_BLOCK_READ] = "stats/read",
        [PTA_BLOCK_WRITE] = "stats/write",
        [PTA_BLOCK_FLUSH] = "stats/flush",
        [PTA_BLOCK_DISCARD] = "stats/discard",
        [PTA_BLOCK_WRITE_ZEROES] = "stats/write-zeroes",
    };
    PtaBlock *b = obj;
    pta_inspect_str(req, "driver", PTA_INSPECT_PLAIN, b->driver);
    pta_inspect_str(req, "aio", PTA_INSPECT_PLAIN, b->aio);
    pta_inspect_fields(req, fields, b);
    for (unsigned op = 0; op < PTA_BLOCK_N_OPS; op++) {
        pta_inspect_child(req, ops[op], PTA_INSPECT_PLAIN, inspect_op, &(OpRef){ &b->stats, op });
    }
}
