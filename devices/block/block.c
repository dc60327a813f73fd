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

void pta_block_complete(PtaBlock *b, PtaBlockRequest *req, int error)
{
    PtaBlockStats *stats = &b->stats;
    stats->n[req->op]++;
    stats->ns[req->op] += pta_now_ns() - req->start_ns;
    if (error == 0) {
        stats->bytes[req->op] += req->len;
    } else {
        stats->failed[req->op]++;
    }
    req->done(req, error);
}
