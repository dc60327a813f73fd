/*
 * Guest memory with a virtqueue in it, whatever it holds: popping ends, what it gives lies in RAM,
 * nothing stays in use, and a queue that broke says so once.
 */
#include "device-fuzz.h"

#include "devices/virtio/queue.h"

static void on_broke(void *opaque, PtaQueue *q, const char *why)
{
    (void)q, (void)why;
    ++*(unsigned *)opaque;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PtaMemory *mem;
    if (!mem) {
        const PtaRamRange range = { 0, FUZZ_RAM };
        mem = pta_memory_new(&range, 1, NULL);
        g_assert(mem != NULL);
    }
    FuzzInput in = { data, size };
    PtaQueue q;
    const char *why;
    unsigned n_broke = 0;
    char *ram = pta_memory_range_host(mem, 0);
    pta_queue_init(&q, 0, 64, mem, on_broke, &n_broke);
    uint64_t features = (fuzz_take(&in, 1) & 3) << PTA_VIRTIO_F_INDIRECT_DESC;
    q.s.size = (uint16_t)(1u << fuzz_take(&in, 1) % 8);
    q.s.desc = fuzz_take(&in, 2) & ~UINT64_C(15);
    q.s.avail = fuzz_take(&in, 2) & ~UINT64_C(1);
    q.s.used = fuzz_take(&in, 2) & ~UINT64_C(3);
    q.s.next_avail = q.s.next_used = (uint16_t)fuzz_take(&in, 2);
    q.s.ready = 1;
    memset(ram, 0, FUZZ_RAM);
    memcpy(ram, in.data, MIN(in.size, FUZZ_RAM));
    if (pta_queue_activate(&q, features, &why)) {
        PtaChain *chain;
        /* The rings may lie in the buffers: what is pushed can make new requests. */
        for (int i = 0; i < 200 && (chain = pta_queue_pop(&q)) != NULL; i++) {
            uint64_t in_len = 0;
            for (unsigned k = 0; k < chain->n_out + chain->n_in; k++) {
                char *base = chain->iov[k].iov_base;
                size_t len = chain->iov[k].iov_len;
                g_assert(base >= ram && len <= (size_t)(ram + FUZZ_RAM - base));
                g_assert(base == ram + chain->gpa[k]);
                if (k >= chain->n_out) {
                    memset(base, i, len);
                    in_len += len;
                }
            }
            g_assert(in_len == chain->in_len);
            pta_queue_push(&q, chain, (uint32_t)in_len);
            pta_queue_wants_interrupt(&q);
            pta_queue_enable_notify(&q);
        }
    }
    g_assert(q.in_use == 0 && n_broke <= 1 && q.broken == (n_broke == 1));
    pta_queue_clear(&q);
    return 0;
}
