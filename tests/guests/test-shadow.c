/*
 * Guests on the software CPU, through the partition, that read, write and execute in each window of a
 * PC's first megabyte while the host shows and hides RAM: shadow RAM, the hole for video memory,
 * option ROMs beneath, writes to read-only RAM.
 *
 * A guest is a few real-mode instructions with the segment of the window patched in. It ends by a
 * write to a port, which halts the partition; between guests the view changes.
 */
#include "config.h"

#include "src/memory/device-memory.h"
#include "src/partition/partition.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#define CODE      0x1000u
#define RESULT    0x1800u
#define UD        0x3000u /* handler of #UD */
#define STACK     0x8000u
#define END_PORT  0x10
#define IN_CODE   0x100u /* of a window: a function that returns what it is */
#define RAM_MARK  0x1100u
#define DEV_MARK  0x2200u
#define MMIO_READ 0x5a5au
#define WRITTEN   0x7777u
#define NO_CODE   0xdeadu
#define WAIT_US   (30 * G_USEC_PER_SEC)

typedef struct World {
    PtaMemory *mem;
    PtaPlatform platform;
    PtaPartition *p;
    unsigned halts;
    PtaBacking *video; /* what is beneath a window */
    PtaDeviceMemory *device;
    GMutex lock;
    unsigned n_reads, n_writes; /* LOCKED, as what follows: of device registers */
    uint64_t gpa, value;        /* of the last write */
} World;

/* ---- the machine ---- */

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    World *w = opaque;
    g_mutex_lock(&w->lock);
    w->n_reads++;
    g_mutex_unlock(&w->lock);
    return UINT64_C(0x5a5a5a5a5a5a5a5a);
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    World *w = opaque;
    g_mutex_lock(&w->lock);
    w->n_writes += size;
    w->gpa = gpa;
    w->value = value;
    g_mutex_unlock(&w->lock);
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    World *w = opaque;
    if (port == END_PORT) {
        pta_partition_halt(w->p, &(PtaHaltReason){ .kind = PTA_HALT_DEBUG_EXIT });
    }
}

static bool no_msr_read(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    return false;
}

static bool no_msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    return false;
}

static bool no_hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    return false;
}

static void no_eoi(void *opaque, uint8_t vector)
{
}

static void on_halt(void *opaque, const PtaHaltReason *reason)
{
    World *w = opaque;
    assert_int_equal(reason->kind, PTA_HALT_DEBUG_EXIT);
    w->halts++;
}

static World *world_new(unsigned n_vps)
{
    static const PtaRamRange ram = { 0, 2 * PTA_MIB };
    World *w = g_new0(World, 1);
    g_mutex_init(&w->lock);
    w->mem =
        pta_memory_build(&(PtaMemoryParams){ .ram = &ram, .n_ram = 1, .x86_legacy = true }, NULL);
    w->video = pta_backing_new(&(PtaBackingParams){ .name = "video", .size = 2 * PTA_MIB }, NULL);
    w->platform = (PtaPlatform){ w,           mmio_read,    mmio_write,   pio_read, pio_write,
                                 no_msr_read, no_msr_write, no_hypercall, no_eoi };
    PtaPartitionParams params = {
        .backend = &pta_soft_backend,
        .n_vps = n_vps,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .memory = w->mem,
        .platform = &w->platform,
        .on_halt = on_halt,
        .opaque = w,
    };
    g_autoptr(GError) error = NULL;
    w->p = pta_partition_new(&params, &error);
    assert_null(error);
    /* #UD: what is not there is no code. */
    static const uint8_t ud[] = { 0xb8, 0xad, 0xde, 0x2e, 0xa3, 0x04, 0x18, 0xe6, END_PORT, 0xf4 };
    assert_int_equal(pta_memory_write(w->mem, UD, ud, sizeof(ud)), PTA_MEM_OK);
    assert_int_equal(pta_memory_store_u32(w->mem, 6 * 4, UD), PTA_MEM_OK);
    return w;
}

static void world_free(World *w)
{
    pta_device_memory_free(w->device);
    pta_partition_free(w->p);
    pta_memory_free(w->mem);
    pta_backing_unref(w->video);
    g_mutex_clear(&w->lock);
    g_free(w);
}

static void run(World *w, const uint8_t *code, size_t len)
{
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    g_autoptr(GError) error = NULL;
    gint64 end = g_get_monotonic_time() + WAIT_US;
    unsigned before = w->halts;
    w->n_reads = w->n_writes = 0;
    assert_int_equal(pta_memory_write(w->mem, CODE, code, len), PTA_MEM_OK);
    assert_int_equal(pta_memory_fill(w->mem, RESULT, 0, 64), PTA_MEM_OK);
    pta_x86_state_reset(s, 0, true);
    s->regs.seg[PTA_X86_CS].base = 0;
    s->regs.seg[PTA_X86_CS].selector = 0;
    s->regs.rip = CODE;
    s->regs.gpr[PTA_X86_RSP] = STACK;
    assert_true(pta_partition_set_initial_regs(w->p, PTA_VTL0, s, &error));
    pta_partition_start(w->p);
    while (w->halts == before) {
        assert_true(g_get_monotonic_time() < end);
        g_main_context_iteration(NULL, FALSE);
    }
    pta_partition_stop(w->p);
    assert_true(pta_partition_clear_halt(w->p));
}

static unsigned result(World *w, unsigned i)
{
    uint16_t value;
    assert_int_equal(pta_memory_load_u16(w->mem, RESULT + 2 * i, &value), PTA_MEM_OK);
    return value;
}

/* ---- windows ---- */

typedef struct Window {
    PtaRamRange range;
    uint64_t at; /* the page of it that is used */
    unsigned i;
} Window;

/* A word, and a function, at `host`: a page. */
static void plant(uint8_t *host, unsigned mark)
{
    host[0] = (uint8_t)mark;
    host[1] = (uint8_t)(mark >> 8);
    const uint8_t function[] = { 0xb8, host[0], host[1], 0xcb }; /* mov ax, mark; retf */
    memcpy(host + IN_CODE, function, sizeof(function));
}

static uint8_t *video_host(World *w, PtaMapping **mapping, uint64_t at)
{
    *mapping = pta_mapping_new(w->video, 0, 2 * PTA_MIB, true, NULL);
    return (*mapping)->host + at;
}

/* Reads a word, writes it, reads it, calls the function: results 0 to 2. */
static void probe(World *w, const Window *win)
{
    uint8_t lo = (uint8_t)(win->at >> 4), hi = (uint8_t)(win->at >> 12);
    const uint8_t code[] = {
        0xb8, lo,       hi,                     /* mov ax, segment */
        0x8e, 0xd8,                             /* mov ds, ax */
        0xa1, 0x00,     0x00,                   /* mov ax, [0] */
        0x2e, 0xa3,     0x00, 0x18,             /* mov cs:[RESULT], ax */
        0xc7, 0x06,     0x00, 0x00, 0x77, 0x77, /* mov word [0], WRITTEN */
        0xa1, 0x00,     0x00,                   /* mov ax, [0] */
        0x2e, 0xa3,     0x02, 0x18,             /* mov cs:[RESULT + 2], ax */
        0x9a, 0x00,     0x01, lo,   hi,         /* call far segment:IN_CODE */
        0x2e, 0xa3,     0x04, 0x18,             /* mov cs:[RESULT + 4], ax */
        0xe6, END_PORT, 0xf4,                   /* out END_PORT, al; hlt */
    };
    run(w, code, sizeof(code));
}

static void set(World *w, const Window *win, PtaRamVisibility visibility)
{
    g_autoptr(GError) error = NULL;
    if (!pta_memory_set_ram_visibility(w->mem, win->range, visibility, &error)) {
        fail_msg("%s", error->message);
    }
}

static uint8_t *ram_host(World *w, const Window *win)
{
    return (uint8_t *)pta_memory_range_host(w->mem, 0) + win->at;
}

static unsigned word_at(const uint8_t *host)
{
    return host[0] | (unsigned)host[1] << 8;
}

static void expect(World *w, unsigned read, unsigned read_back, unsigned executed)
{
    assert_int_equal(result(w, 0), read);
    assert_int_equal(result(w, 1), read_back);
    assert_int_equal(result(w, 2), executed);
}

/* The write went to registers, and nowhere else. */
static void expect_register_write(World *w, const Window *win)
{
    assert_int_equal(w->n_writes, 2);
    assert_true(w->gpa == win->at && w->value == WRITTEN);
}

static void without_device(World *w, const Window *win)
{
    unsigned mark = RAM_MARK + win->i;
    plant(ram_host(w, win), mark);
    probe(w, win);
    expect(w, mark, WRITTEN, mark);
    assert_int_equal(w->n_reads + w->n_writes, 0);

    plant(ram_host(w, win), mark);
    set(w, win, PTA_RAM_READ_ONLY);
    probe(w, win);
    expect(w, mark, mark, mark);
    expect_register_write(w, win);
    assert_int_equal(w->n_reads, 0);
    assert_int_equal(word_at(ram_host(w, win)), mark);

    set(w, win, PTA_RAM_UNMAPPED);
    probe(w, win);
    expect(w, MMIO_READ, MMIO_READ, NO_CODE);
    expect_register_write(w, win);
    assert_int_equal(w->n_reads, 2);
    assert_int_equal(word_at(ram_host(w, win)), mark);
}

static void with_device(World *w, const Window *win)
{
    unsigned mark = RAM_MARK + win->i, beneath = DEV_MARK + win->i;
    g_autoptr(PtaMapping) mapping = NULL;
    uint8_t *device = video_host(w, &mapping, win->at);
    plant(device, beneath);
    w->device = pta_device_memory_new(w->mem, "beneath", win->range.size);
    assert_true(
        pta_device_memory_map(w->device, 0, win->range.size, w->video, win->range.gpa, true, NULL));
    assert_true(pta_device_memory_map_to_guest(w->device, win->range.gpa, true, NULL));
    probe(w, win);
    expect(w, beneath, WRITTEN, beneath);
    assert_int_equal(w->n_reads + w->n_writes, 0);
    assert_int_equal(word_at(device), WRITTEN);

    /* RAM that may be read hides it, and writes reach neither. */
    set(w, win, PTA_RAM_READ_ONLY);
    probe(w, win);
    expect(w, mark, mark, mark);
    expect_register_write(w, win);
    assert_int_equal(word_at(device), WRITTEN);

    /* A ROM beneath. */
    plant(device, beneath);
    set(w, win, PTA_RAM_UNMAPPED);
    assert_true(pta_device_memory_map_to_guest(w->device, win->range.gpa, false, NULL));
    probe(w, win);
    expect(w, beneath, beneath, beneath);
    expect_register_write(w, win);

    set(w, win, PTA_RAM_READ_WRITE);
    probe(w, win);
    expect(w, mark, WRITTEN, mark);
    assert_int_equal(word_at(device), beneath);
    g_clear_pointer(&w->device, pta_device_memory_free);
    probe(w, win);
    expect(w, WRITTEN, WRITTEN, mark);
}

/* Video memory, 12 windows of 16 KiB, and one of 64 KiB; the first page of each, and the last. */
static unsigned windows(Window *win)
{
    unsigned n = 0;
    for (uint64_t gpa = 0xa0000; gpa < 0x100000;) {
        uint64_t size = gpa < 0xc0000 ? 0x20000 : gpa < 0xf0000 ? 0x4000 : 0x10000;
        for (unsigned last = 0; last < 2; last++, n++) {
            win[n] = (Window){ { gpa, size }, last ? gpa + size - PTA_PAGE_SIZE : gpa, n };
        }
        gpa += size;
    }
    return n;
}

static void every_window(unsigned n_vps)
{
    World *w = world_new(n_vps);
    Window win[32];
    unsigned n = windows(win);
    assert_int_equal(n, 2 * 14);
    for (unsigned i = 0; i < n; i++) {
        without_device(w, &win[i]);
        with_device(w, &win[i]);
    }
    world_free(w);
}

static void every_window_one_vp(void **unused)
{
    every_window(1);
}

static void every_window_two_vps(void **unused)
{
    every_window(2);
}

/* One string instruction from a window that may only be read into one that may be written. */
static void a_string_crosses_windows(void **unused)
{
    World *w = world_new(1);
    const Window from = { { 0xc8000, 0x4000 }, 0xc8000, 0 };
    const uint8_t code[] = {
        0xb8, 0x00,     0xc8,             /* mov ax, 0xc800 */
        0x8e, 0xc0,                       /* mov es, ax */
        0xbf, 0xf8,     0x3f,             /* mov di, 0x3ff8 */
        0xb9, 0x10,     0x00,             /* mov cx, 16 */
        0xb0, 0x33,     0xfc, 0xf3, 0xaa, /* mov al, 0x33; cld; rep stosb */
        0xe6, END_PORT, 0xf4,
    };
    uint8_t bytes[16];
    set(w, &from, PTA_RAM_READ_ONLY);
    run(w, code, sizeof(code));
    assert_int_equal(w->n_writes, 8);
    assert_true(w->gpa == 0xcbfff);
    assert_int_equal(pta_memory_read(w->mem, 0xcbff8, bytes, 16), PTA_MEM_OK);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(bytes[i], i < 8 ? 0 : 0x33);
    }
    world_free(w);
}

/* LOCK INC, PUSH and an exchange: read-modify-write of RAM that may only be read. */
static void read_modify_write(void **unused)
{
    World *w = world_new(1);
    const Window win = { { 0xd0000, 0x4000 }, 0xd0000, 0 };
    const uint8_t code[] = {
        0xb8, 0x00,     0xd0, 0x8e, 0xd8, /* mov ax, 0xd000; mov ds, ax */
        0xf0, 0xff,     0x06, 0x00, 0x00, /* lock inc word [0] */
        0xb9, 0x34,     0x12,             /* mov cx, 0x1234 */
        0x87, 0x0e,     0x00, 0x00,       /* xchg cx, [0] */
        0x2e, 0x89,     0x0e, 0x00, 0x18, /* mov cs:[RESULT], cx */
        0xa1, 0x00,     0x00,             /* mov ax, [0] */
        0x2e, 0xa3,     0x02, 0x18,       /* mov cs:[RESULT + 2], ax */
        0xe6, END_PORT, 0xf4,
    };
    assert_int_equal(pta_memory_store_u16(w->mem, win.at, 0x41), PTA_MEM_OK);
    set(w, &win, PTA_RAM_READ_ONLY);
    run(w, code, sizeof(code));
    assert_int_equal(result(w, 0), 0x41);
    assert_int_equal(result(w, 1), 0x41);
    assert_int_equal(w->n_writes, 4);
    assert_true(w->gpa == win.at && w->value == 0x1234);
    set(w, &win, PTA_RAM_READ_WRITE);
    run(w, code, sizeof(code));
    assert_int_equal(result(w, 0), 0x42);
    assert_int_equal(result(w, 1), 0x1234);
    world_free(w);
}

int main(void)
{
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_window_one_vp),
        cmocka_unit_test(every_window_two_vps),
        cmocka_unit_test(a_string_crosses_windows),
        cmocka_unit_test(read_modify_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
