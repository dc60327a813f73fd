/*
 * A debugger's bytes, on a partition of two VPs that the fuzzer runs itself: whatever was said, output
 * stays within bounds, is made of well-formed packets, and the guest is let go in the end without its
 * owner hearing of a stop.
 */
#include "config.h"

#include "src/partition/gdb-session.h"
#include "tests/lib/fake-backend.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_VPS 2

typedef struct World {
    PtaMemory *memory;
    PtaPartition *p;
    PtaPlatform platform;
    PtaGdbEnv env;
    unsigned halts, kills;
} World;

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    World *w = opaque;
    /* A VP may still have been told to leave with a breakpoint when the debugger has gone. */
    g_assert(reason->kind != PTA_HALT_DEBUG_BREAK);
    w->halts++;
}

static void on_output(void *opaque)
{
    (void)opaque;
}

static void on_go(void *opaque)
{
    (void)opaque;
}

static void on_kill(void *opaque)
{
    ((World *)opaque)->kills++;
}

static void on_reset(void *opaque, PtaGdbResetDone *done, void *data)
{
    World *w = opaque;
    g_autoptr(GError) error = NULL;
    pta_partition_stop(w->p);
    pta_partition_reset(w->p, &error);
    pta_partition_start(w->p);
    done(data, error);
}

static World *world_new(void)
{
    static const PtaRamRange ram = { 0, 0x10000 };
    World *w = g_new0(World, 1);
    w->memory = pta_memory_new(&ram, 1, NULL);
    PtaPartitionParams params = {
        .backend = &fake_backend,
        .n_vps = N_VPS,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .memory = w->memory,
        .platform = &w->platform,
        .on_halt = on_halt,
        .opaque = w,
    };
    w->p = pta_partition_new(&params, NULL);
    g_assert(w->p);
    w->env = (PtaGdbEnv){ w->p, w->memory, on_go, on_kill, on_reset, w };
    pta_partition_start(w->p);
    return w;
}

static void world_free(World *w)
{
    pta_partition_free(w->p);
    pta_memory_free(w->memory);
    g_free(w);
}

static void take_output(PtaGdbSession *s, PtaGdbReader *r)
{
    g_assert(s->out->len < 8 * PTA_GDB_PACKET_MAX);
    for (size_t at = 0; at < s->out->len;) {
        PtaGdbItem item;
        at += pta_gdb_read(r, s->out->data + at, s->out->len - at, &item);
        g_assert(item != PTA_GDB_BAD_CHECKSUM && item != PTA_GDB_TOO_LONG &&
                 item != PTA_GDB_INTERRUPT);
    }
    g_assert(r->state == PTA_GDB_READ_IDLE);
    g_byte_array_set_size(s->out, 0);
}

/* So that the mutator need not know checksums: a line that begins with ':' is sent as a packet, one
 * that begins with '!' makes a VP leave with what its next bytes say. The rest is sent as it is. */
static void vp_leaves(World *w, const uint8_t *line, size_t len)
{
    PtaExit exit = { .reason = PTA_EXIT_DEBUG };
    if (len < 3) {
        pta_partition_halt(w->p, &(PtaHaltReason){ .kind = PTA_HALT_POWER_OFF });
        return;
    }
    exit.debug.vector = line[1] % 2 ? 1 : 3;
    exit.debug.dr6 = (line[1] >> 1 & 15) | (line[1] & 0x20 ? 1u << 14 : 0);
    fake_vp_exit(pta_vp_set_get(pta_partition_vps(w->p), line[2] % N_VPS), &exit);
}

static void feed(PtaGdbSession *s, PtaGdbReader *r, const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len && s->state != PTA_GDB_ENDED;) {
        at += pta_gdb_session_feed(s, bytes + at, len - at);
        take_output(s, r);
        g_main_context_iteration(NULL, FALSE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pta_thread_init_main();
    World *w = world_new();
    g_autofree PtaGdbReader *reader = g_new0(PtaGdbReader, 1);
    PtaGdbSession *s = pta_gdb_session_new(&w->env, on_output, NULL, NULL);
    g_assert(s);
    const uint8_t *end = data + size;
    while (data < end && s->state != PTA_GDB_ENDED) {
        const uint8_t *newline = memchr(data, '\n', (size_t)(end - data));
        size_t len = newline ? (size_t)(newline - data) : (size_t)(end - data);
        if (len > 0 && *data == ':') {
            g_autoptr(GByteArray) packet = g_byte_array_new();
            pta_gdb_write(packet, data + 1, len - 1);
            feed(s, reader, packet->data, packet->len);
        } else if (len > 0 && *data == '!') {
            vp_leaves(w, data, len);
        } else {
            feed(s, reader, data, len);
        }
        data += len + (newline != NULL);
    }
    pta_gdb_session_free(s);
    while (g_main_context_iteration(NULL, FALSE)) {}
    g_assert(!pta_partition_debug_attached(w->p));
    g_assert(pta_partition_running(w->p) == (!pta_partition_halt_reason(w->p) && !w->kills));
    g_assert(w->halts <= 1 && w->kills <= 1); /* a halt that nobody clears is the last */
    world_free(w);
    return 0;
}
