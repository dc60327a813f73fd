/* Guest memory: what it is built from, each refusal, visibility, device memory, attaching. */
#include "config.h"

#include "src/memory/device-memory.h"

#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/util/reader.h"

static const PtaRamRange pc[] = { { 0, 2 * PTA_MIB }, { 4 * PTA_GIB, PTA_MIB } };

static PtaMemory *build(const PtaMemoryParams *params)
{
    g_autoptr(GError) error = NULL;
    PtaMemory *mem = pta_memory_build(params, &error);
    assert_null(error);
    return mem;
}

static PtaMemory *build_pc(void)
{
    static const PtaRamRange mmio = { 3 * PTA_GIB, PTA_GIB };
    return build(&(PtaMemoryParams){
        .ram = pc, .n_ram = 2, .x86_legacy = true, .mmio = &mmio, .n_mmio = 1 });
}

static PtaBacking *vram(unsigned byte)
{
    PtaBacking *b = pta_backing_new(&(PtaBackingParams){ .name = "vram", .size = 0x20000 }, NULL);
    g_autoptr(PtaMapping) m = pta_mapping_new(b, 0, 0x20000, true, NULL);
    memset(m->host, (int)byte, 0x20000);
    return b;
}

static uint16_t load(PtaMemory *mem, uint64_t gpa)
{
    uint16_t value = 0;
    assert_int_equal(pta_memory_load_u16(mem, gpa, &value), PTA_MEM_OK);
    return value;
}

/* ---- the builder ---- */

static void expect_refusal(const PtaMemoryParams *params, int code, const char *text)
{
    g_autoptr(GError) error = NULL;
    assert_null(pta_memory_build(params, &error));
    assert_int_equal(error->code, code);
    if (!strstr(error->message, text)) {
        fail_msg("found \"%s\", expected \"%s\"", error->message, text);
    }
}

static void refusals(void **unused)
{
    static const PtaRamRange huge[] = { { 0, UINT64_C(1) << 62 },
                                        { UINT64_C(1) << 62, (UINT64_C(1) << 62) } };
    static const PtaRamRange vast = { 0, UINT64_C(1) << 60 };
    static const PtaRamRange high[] = { { 0x1000, 2 * PTA_MIB } }, low[] = { { 0, 0xff000 } };
    static const PtaRamRange mmio = { 8 * PTA_GIB, PTA_GIB };
    g_autoptr(PtaBacking) small =
        pta_backing_new(&(PtaBackingParams){ .name = "small", .size = PTA_MIB }, NULL);
    PtaMemoryBacking private = { .params = { .private_anonymous = true } };
    PtaMemoryBacking both = private, existing = { .existing = small };
    both.existing = small;
    const int bad = PTA_ERROR_BAD_DESCRIPTION;

    PtaMemoryParams p = { .ram = pc, .n_ram = 0 };
    expect_refusal(&p, bad, "0 RAM ranges");
    p = (PtaMemoryParams){ .ram = pc, .n_ram = 2, .x86_legacy = true };
    p.backings = &private;
    p.n_backings = 1;
    expect_refusal(&p, bad, "private memory cannot be used with x86 legacy support");
    g_autoptr(PtaBacking) made = pta_backing_new(
        &(PtaBackingParams){ .name = "p", .size = 3 * PTA_MIB, .private_anonymous = true }, NULL);
    PtaMemoryBacking made_before = { .existing = made };
    p.backings = &made_before; /* however it came to be */
    expect_refusal(&p, bad, "private memory cannot be used with x86 legacy support");
    p.x86_legacy = false;
    p.backings = &both;
    expect_refusal(&p, bad, "private memory cannot be used with an existing backing");
    p.backings = &existing;
    expect_refusal(&p, bad, "the existing backing has 1048576 bytes, 3145728 are needed");

    p = (PtaMemoryParams){ .ram = huge, .n_ram = 2 };
    expect_refusal(&p, bad, "ram size 9223372036854775808 is too large");
    p = (PtaMemoryParams){ .ram = &vast, .n_ram = 1 };
    p.backings = &private;
    p.n_backings = 1;
    expect_refusal(&p, PTA_ERROR_HOST, "failed to create VA mapper");

    p = (PtaMemoryParams){ .ram = pc, .n_ram = 2, .has_alias = true };
    p.alias_offset = 4 * PTA_GIB + PTA_MIB - PTA_PAGE_SIZE;
    expect_refusal(&p, bad, "not enough guest address space available for the vtl0 alias map");
    p.alias_offset = UINT64_MAX & PTA_PAGE_MASK;
    expect_refusal(&p, bad, "not enough guest address space");
    p.alias_offset = 8 * PTA_GIB;
    p.mmio = &mmio;
    p.n_mmio = 1;
    expect_refusal(&p, bad, "not enough guest address space");
    p.alias_offset = 9 * PTA_GIB; /* the end of it all: allowed */
    pta_memory_free(build(&p));

    const char *legacy = "x86 support requires RAM to start at 0 and contain at least 1MB";
    p = (PtaMemoryParams){ .ram = high, .n_ram = 1, .x86_legacy = true };
    expect_refusal(&p, bad, legacy);
    p.ram = low;
    expect_refusal(&p, bad, legacy);
    /* The alias is looked at first. */
    p.has_alias = true;
    p.alias_offset = 0x10000;
    expect_refusal(&p, bad, "not enough guest address space");
}

/* Sanitizers make mlock() do nothing. */
static bool anything_is_locked(void)
{
    g_autofree char *status = NULL;
    if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL)) {
        return false;
    }
    const char *locked = strstr(status, "VmLck:");
    return locked && g_ascii_strtoull(locked + strlen("VmLck:"), NULL, 10) > 0;
}

/* No descriptor left; and what pinning does if the host allows it. */
static void no_descriptors_and_pins(void **unused)
{
    struct rlimit files;
    PtaMemoryParams p = { .ram = pc, .n_ram = 2 };
    getrlimit(RLIMIT_NOFILE, &files);
    struct rlimit few = { 0, files.rlim_max };
    setrlimit(RLIMIT_NOFILE, &few);
    g_autoptr(GError) error = NULL;
    PtaMemory *mem = pta_memory_build(&p, &error);
    setrlimit(RLIMIT_NOFILE, &files);
    assert_null(mem);
    assert_non_null(strstr(error->message, "failed to allocate memory"));

    const PtaMemoryBacking pinned = { .params.pin = true };
    p.backings = &pinned;
    p.n_backings = 1;
    mem = pta_memory_build(&p, NULL);
    if (mem) { /* it depends on the host and on who we are */
        unsigned char resident[PTA_MIB / PTA_PAGE_SIZE];
        assert_int_equal(mincore(pta_memory_range_host(mem, 1), PTA_MIB, resident), 0);
        for (size_t i = 0; i < sizeof(resident) && anything_is_locked(); i++) {
            assert_true(resident[i] & 1);
        }
        pta_memory_free(mem);
    }
}

typedef struct Pieces {
    PtaRamRange range[32];
    unsigned n;
} Pieces;

static void collect(void *opaque, const PtaRegionInfo *info)
{
    Pieces *p = opaque;
    assert_string_equal(info->name, "ram");
    assert_int_equal(info->priority, 255);
    assert_true(info->mapped && info->active && info->params.writable && info->params.executable);
    p->range[p->n++] = info->range;
}

static void legacy_split(void **unused)
{
    static const uint64_t cuts[] = { 0,       0xa0000, 0xc0000, 0xc4000, 0xc8000, 0xcc000,
                                     0xd0000, 0xd4000, 0xd8000, 0xdc000, 0xe0000, 0xe4000,
                                     0xe8000, 0xec000, 0xf0000, 0x100000 };
    const unsigned n = G_N_ELEMENTS(cuts);
    for (unsigned exact = 0; exact < 2; exact++) {
        PtaRamRange ram = { 0, exact ? PTA_MIB : 2 * PTA_MIB };
        g_autoptr(PtaMemory) mem =
            build(&(PtaMemoryParams){ .ram = &ram, .n_ram = 1, .x86_legacy = true });
        Pieces p = { .n = 0 };
        pta_regions_foreach(pta_memory_regions(mem), collect, &p);
        assert_int_equal(p.n, exact ? n - 1 : n); /* no empty last piece */
        for (unsigned i = 0; i < p.n; i++) {
            assert_true(p.range[i].gpa == cuts[i]);
            assert_true(pta_range_end(p.range[i]) == (i + 1 < n ? cuts[i + 1] : ram.size));
        }
        /* One span for those who look something up. */
        struct iovec iov;
        unsigned n_iov = 1;
        assert_int_equal(pta_memory_map(mem, 0, ram.size, true, &iov, &n_iov), PTA_MEM_OK);
        assert_true(iov.iov_len == ram.size);
    }
}

static void backings_and_offsets(void **unused)
{
    static const PtaRamRange ram[] = { { 0, PTA_MIB },
                                       { 2 * PTA_MIB, PTA_MIB },
                                       { 4 * PTA_GIB, 2 * PTA_MIB } };
    static const unsigned which[] = { 0, 1, 0 };
    const PtaMemoryBacking backings[] = { { .prefetch = true },
                                          { .params = { .private_anonymous = true } } };
    PtaMemoryParams params = {
        .ram = ram, .n_ram = 3, .ram_backing = which, .backings = backings, .n_backings = 2
    };
    g_autoptr(PtaMemory) mem = build(&params);
    uint64_t offset;
    PtaBacking *first = pta_memory_range_backing(mem, 0, &offset);
    assert_true(offset == 0 && pta_backing_size(first) == 3 * PTA_MIB);
    assert_ptr_equal(pta_memory_range_backing(mem, 2, &offset), first);
    assert_true(offset == PTA_MIB);
    assert_true(pta_backing_is_private(pta_memory_range_backing(mem, 1, &offset)));
    assert_true(offset == 0);
    assert_null(pta_memory_shared_backing(mem)); /* two of them */
    assert_int_equal(pta_memory_fd(mem), -1);
    assert_int_equal(pta_memory_ram_size(mem), 4 * PTA_MIB);
    unsigned char resident[PTA_MIB / PTA_PAGE_SIZE];
    assert_int_equal(mincore(pta_memory_range_host(mem, 0), PTA_MIB, resident), 0);
    for (size_t i = 0; i < sizeof(resident); i++) {
        assert_true(resident[i] & 1); /* prefetched */
    }

    /* A second manager over the first one's backing sees the same bytes. */
    assert_int_equal(pta_memory_store_u32(mem, 4 * PTA_GIB + 8, 0x12345678), PTA_MEM_OK);
    g_autoptr(PtaMemory) again = build(&(PtaMemoryParams){
        .ram = &ram[2],
        .n_ram = 1,
        .backings = &(PtaMemoryBacking){ .existing = first },
        .n_backings = 1,
    });
    assert_ptr_equal(pta_memory_shared_backing(again), first);
    assert_int_equal(pta_memory_fd(again), pta_backing_fd(first));
    const PtaMapping *m = pta_mapping_new(first, PTA_MIB, PTA_MIB, false, NULL);
    assert_int_equal(*(const uint32_t *)(const void *)(m->host + 8), 0x12345678);
    pta_mapping_unref((PtaMapping *)(uintptr_t)m);
}

/* ---- visibility ---- */

static void only_pieces_can_be_controlled(void **unused)
{
    g_autoptr(PtaMemory) mem = build_pc();
    static const PtaRamRange bad[] = { { 0xa0000, 0x10000 },  { 0xc0000, 0x8000 },
                                       { 0xc2000, 0x4000 },   { 0, PTA_MIB },
                                       { 0x100000, 0x1000 },  { 3 * PTA_GIB, 0x1000 },
                                       { UINT64_MAX, 0x1000 } };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(pta_memory_set_ram_visibility(mem, bad[i], PTA_RAM_UNMAPPED, &error));
        assert_non_null(strstr(error->message, " is not a controllable RAM range"));
        if (i == 0) {
            assert_true(g_str_has_prefix(error->message, "0xa0000-0xb0000 is not"));
        }
    }
    assert_true(pta_memory_set_ram_visibility(mem, pc[1], PTA_RAM_READ_ONLY, NULL));
}

static void visibility_of_each_window(void **unused)
{
    g_autoptr(PtaMemory) mem = build_pc();
    Pieces p = { .n = 0 };
    uint8_t buf[32];
    pta_regions_foreach(pta_memory_regions(mem), collect, &p);
    for (unsigned i = 0; i < p.n; i++) {
        uint64_t gpa = p.range[i].gpa, end = pta_range_end(p.range[i]);
        uint16_t mark = (uint16_t)(0x1100 + i);
        assert_int_equal(pta_memory_store_u16(mem, gpa, mark), PTA_MEM_OK);
        assert_true(pta_memory_set_ram_visibility(mem, p.range[i], PTA_RAM_READ_ONLY, NULL));
        assert_int_equal(load(mem, gpa), mark);
        assert_int_equal(pta_memory_store_u16(mem, gpa, 0), PTA_MEM_READ_ONLY);
        assert_int_equal(pta_memory_write(mem, end - 16, buf, 16), PTA_MEM_READ_ONLY);
        assert_int_equal(pta_memory_fill(mem, end - 16, 0, 16), PTA_MEM_READ_ONLY);
        struct iovec iov[2];
        unsigned n = 2;
        assert_int_equal(pta_memory_map(mem, gpa, 64, true, iov, &n), PTA_MEM_READ_ONLY);
        n = 2;
        assert_int_equal(pta_memory_map(mem, gpa, 64, false, iov, &n), PTA_MEM_OK);
        const uint16_t *host = iov[0].iov_base;
        assert_true(pta_memory_set_ram_visibility(mem, p.range[i], PTA_RAM_UNMAPPED, NULL));
        uint16_t value;
        assert_int_equal(pta_memory_load_u16(mem, gpa, &value), PTA_MEM_HOLE);
        if (gpa > 0 && gpa < 4 * PTA_GIB) { /* half of it */
            assert_int_equal(pta_memory_read(mem, gpa - 16, buf, 32), PTA_MEM_HOLE);
            assert_int_equal(pta_memory_write(mem, gpa - 16, buf, 32), PTA_MEM_HOLE);
        }
        assert_int_equal(*host, mark); /* the pointer is good all the time */
        assert_true(pta_memory_set_ram_visibility(mem, p.range[i], PTA_RAM_READ_WRITE, NULL));
        assert_int_equal(load(mem, gpa), mark);
        assert_int_equal(pta_memory_store_u16(mem, gpa, 1), PTA_MEM_OK);
        assert_int_equal(*host, 1);
    }
    uint32_t value;
    assert_int_equal(pta_memory_load_u32(mem, 3 * PTA_GIB, &value), PTA_MEM_MMIO);
    assert_int_equal(pta_memory_load_u32(mem, 2 * PTA_GIB, &value), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_load_u32(mem, 5 * PTA_GIB, &value), PTA_MEM_HOLE);
}

/* ---- device memory ---- */

static const PtaRamRange vga = { 0xa0000, 0x20000 };

static void device_memory_shows_through(void **unused)
{
    g_autoptr(PtaMemory) mem = build_pc();
    g_autoptr(PtaBacking) video = vram(0x5a);
    PtaDeviceMemory *dm = pta_device_memory_new(mem, "vga", vga.size);
    assert_true(pta_device_memory_map(dm, 0, vga.size, video, 0, true, NULL));
    assert_int_equal(pta_memory_store_u16(mem, vga.gpa, 0x1234), PTA_MEM_OK);
    assert_true(pta_device_memory_map_to_guest(dm, vga.gpa, true, NULL));
    assert_int_equal(load(mem, vga.gpa), 0x1234); /* RAM is stronger */
    assert_true(pta_memory_set_ram_visibility(mem, vga, PTA_RAM_UNMAPPED, NULL));
    assert_int_equal(load(mem, vga.gpa), 0x5a5a);
    assert_int_equal(pta_memory_store_u16(mem, vga.gpa, 0x77), PTA_MEM_OK);
    struct iovec iov;
    unsigned n = 1;
    assert_int_equal(pta_memory_map(mem, vga.gpa, 16, false, &iov, &n), PTA_MEM_MMIO); /* no RAM */
    /* Read-only RAM: writes go to registers, whatever is beneath. */
    assert_true(pta_memory_set_ram_visibility(mem, vga, PTA_RAM_READ_ONLY, NULL));
    assert_int_equal(load(mem, vga.gpa), 0x1234);
    assert_int_equal(pta_memory_store_u16(mem, vga.gpa, 1), PTA_MEM_READ_ONLY);
    assert_true(pta_memory_set_ram_visibility(mem, vga, PTA_RAM_UNMAPPED, NULL));
    assert_int_equal(load(mem, vga.gpa), 0x77);
    pta_device_memory_free(dm);
    uint16_t value;
    assert_int_equal(pta_memory_load_u16(mem, vga.gpa, &value), PTA_MEM_HOLE);
}

static void parts_come_before_or_after(void **unused)
{
    g_autoptr(PtaMemory) mem = build_pc();
    g_autoptr(PtaBacking) a = vram(0xaa), b = vram(0xbb);
    const uint64_t at = PTA_GIB, there = 2 * PTA_GIB;
    PtaDeviceMemory *dm = pta_device_memory_new(mem, "bar", 0x20000);
    g_autoptr(GError) error = NULL;
    uint64_t where;
    uint16_t value;
    assert_false(pta_device_memory_where(dm, &where));
    assert_true(pta_device_memory_map(dm, 0, 0x2000, a, 0, true, NULL));
    assert_true(pta_device_memory_map_to_guest(dm, at, true, NULL));
    assert_true(pta_device_memory_where(dm, &where) && where == at);
    assert_true(pta_device_memory_map(dm, 0x4000, 0x2000, b, 0x10000, false, NULL));
    assert_int_equal(load(mem, at), 0xaaaa);
    assert_int_equal(load(mem, at + 0x4000), 0xbbbb);
    assert_int_equal(pta_memory_load_u16(mem, at + 0x2000, &value), PTA_MEM_HOLE);
    assert_int_equal(pta_memory_store_u16(mem, at, 1), PTA_MEM_OK);
    assert_int_equal(pta_memory_store_u16(mem, at + 0x4000, 1), PTA_MEM_READ_ONLY);

    /* Elsewhere, and no longer here. */
    assert_true(pta_device_memory_map_to_guest(dm, there, false, NULL));
    assert_int_equal(pta_memory_load_u16(mem, at, &value), PTA_MEM_HOLE);
    assert_int_equal(load(mem, there), 1);
    assert_int_equal(pta_memory_store_u16(mem, there, 1), PTA_MEM_READ_ONLY);
    /* Onto itself, half a step on. */
    assert_true(pta_device_memory_map_to_guest(dm, there + 0x10000, true, NULL));
    assert_int_equal(load(mem, there + 0x10000), 1);

    /* What was asked for goes, and the rest stays: not the other way round. */
    assert_false(pta_device_memory_unmap(dm, 0x1000, 0x1000, &error));
    assert_non_null(strstr(error->message, "no partial unmappings allowed"));
    assert_true(pta_device_memory_unmap(dm, 0, 0x2000, NULL));
    assert_int_equal(pta_memory_load_u16(mem, there + 0x10000, &value), PTA_MEM_HOLE);
    assert_int_equal(load(mem, there + 0x14000), 0xbbbb);
    assert_true(pta_device_memory_unmap_from_guest(dm, NULL));
    assert_true(pta_device_memory_unmap_from_guest(dm, NULL));
    assert_int_equal(pta_memory_load_u16(mem, there + 0x14000, &value), PTA_MEM_HOLE);
    g_clear_error(&error);
    assert_false(pta_device_memory_map(dm, 0x5000, 0x1000, a, 0, true, &error));
    assert_non_null(strstr(error->message, "overlaps another"));
    /* Half over RAM: refused, and it is where it was. */
    assert_true(pta_device_memory_map_to_guest(dm, there, true, NULL));
    g_clear_error(&error);
    assert_false(pta_device_memory_map_to_guest(dm, 0x1f0000, true, &error));
    assert_non_null(strstr(error->message, "overlaps with existing region ram"));
    assert_true(pta_device_memory_where(dm, &where) && where == there);
    assert_int_equal(load(mem, there + 0x4000), 0xbbbb);
    pta_device_memory_free(dm);
}

/* ---- partitions ---- */

typedef struct Partition {
    unsigned calls, fail_at, n_mapped, n_unmapped;
    uint64_t lowest, highest;
} Partition;

static bool partition_map(void *opaque, uint64_t gpa, uint64_t size, void *host, unsigned flags,
                          GError **error)
{
    Partition *p = opaque;
    if (++p->calls == p->fail_at) {
        return pta_throw(error, PTA_ERROR_HOST, "told to fail");
    }
    p->n_mapped++;
    p->lowest = MIN(p->lowest, gpa);
    p->highest = MAX(p->highest, gpa + size);
    return true;
}

static bool partition_unmap(void *opaque, uint64_t gpa, uint64_t size, GError **error)
{
    ((Partition *)opaque)->n_unmapped++;
    return true;
}

static const PtaPartitionMapOps ops = { partition_map, partition_unmap };

static void alias_is_attached_first_and_undone(void **unused)
{
    const uint64_t alias = 8 * PTA_GIB;
    PtaMemoryParams params = { .ram = pc, .n_ram = 2, .has_alias = true, .alias_offset = alias };
    g_autoptr(PtaMemory) mem = build(&params);
    for (unsigned fail_at = 1; fail_at <= 4; fail_at++) {
        Partition p = { .fail_at = fail_at, .lowest = UINT64_MAX };
        g_autoptr(GError) error = NULL;
        assert_null(pta_memory_attach(mem, &ops, &p, true, &error));
        assert_string_equal(error->message,
                            "failed to attach partition to memory manager: told to fail");
        assert_int_equal(p.n_mapped, fail_at - 1);
        assert_int_equal(p.n_unmapped, p.n_mapped);
        assert_true(p.n_mapped == 0 || (p.n_mapped <= 2 ? p.lowest >= alias : p.lowest == 0));
    }
    Partition both = { .lowest = UINT64_MAX }, plain = both;
    PtaMemoryAttachment *a = pta_memory_attach(mem, &ops, &both, true, NULL);
    PtaMemoryAttachment *b = pta_memory_attach(mem, &ops, &plain, false, NULL);
    assert_true(both.n_mapped == 4 && both.lowest == 0);
    assert_true(both.highest == alias + 4 * PTA_GIB + PTA_MIB);
    assert_true(plain.n_mapped == 2 && plain.highest == 4 * PTA_GIB + PTA_MIB);
    assert_true(pta_memory_set_ram_visibility(mem, pc[0], PTA_RAM_READ_ONLY, NULL));
    assert_true(both.n_mapped == 6 && both.n_unmapped == 2 && plain.n_mapped == 3);
    pta_memory_attachment_gone(a);
    assert_true(pta_memory_set_ram_visibility(mem, pc[0], PTA_RAM_READ_WRITE, NULL));
    assert_true(both.n_mapped == 6 && plain.n_mapped == 4);
    pta_memory_detach(b);
    assert_int_equal(plain.n_unmapped, plain.n_mapped);
    /* Nothing may be placed where its alias would be. */
    PtaDeviceMemory *dm = pta_device_memory_new(mem, "bar", 0x1000);
    assert_false(pta_device_memory_map_to_guest(dm, alias, true, NULL));
    assert_true(pta_device_memory_map_to_guest(dm, alias - 0x1000, true, NULL));
    pta_device_memory_free(dm);
}

/* Whatever the partition refuses on the way, the device's memory is where it was. */
static void refused_moves_leave_device_memory(void **unused)
{
    g_autoptr(PtaMemory) mem = build_pc();
    g_autoptr(PtaBacking) video = vram(0x33);
    Partition p = { .lowest = UINT64_MAX };
    PtaMemoryAttachment *a = pta_memory_attach(mem, &ops, &p, false, NULL);
    PtaDeviceMemory *dm = pta_device_memory_new(mem, "bar", 0x20000);
    assert_true(pta_device_memory_map(dm, 0, 0x1000, video, 0, true, NULL));
    assert_true(pta_device_memory_map(dm, 0x2000, 0x1000, video, 0, true, NULL));
    assert_true(pta_device_memory_map_to_guest(dm, PTA_GIB, true, NULL));
    for (unsigned fail_at = 1; fail_at <= 2; fail_at++) {
        g_autoptr(GError) error = NULL;
        uint64_t where;
        p.calls = 0;
        p.fail_at = fail_at;
        assert_false(pta_device_memory_map_to_guest(dm, 2 * PTA_GIB, true, &error));
        assert_string_equal(error->message, "told to fail");
        assert_true(pta_device_memory_where(dm, &where) && where == PTA_GIB);
        assert_int_equal(load(mem, PTA_GIB + 0x2000), 0x3333);
    }
    pta_device_memory_free(dm);
    pta_memory_detach(a);
    assert_int_equal(p.n_mapped, p.n_unmapped);
}

/* ---- readers while the view changes ---- */

typedef struct Race {
    PtaMemory *mem;
    int stop; /* ATOMIC */
    unsigned seen[3];
} Race;

/* Each page of the window holds one byte all over, in RAM 0x11 and in device memory 0x22: a copy has
 * either, or finds nothing, but never some of both. */
static gpointer reader(gpointer data)
{
    Race *race = data;
    uint8_t buf[0x8000];
    while (!g_atomic_int_get(&race->stop)) {
        PtaMemStatus status = pta_memory_read(race->mem, vga.gpa + 0x800, buf, sizeof(buf));
        if (status == PTA_MEM_HOLE) {
            race->seen[0]++;
            continue;
        }
        assert_int_equal(status, PTA_MEM_OK);
        assert_true(buf[0] == 0x11 || buf[0] == 0x22);
        for (unsigned i = 0; i < sizeof(buf); i += 64) {
            assert_int_equal(buf[i], buf[0]);
        }
        race->seen[buf[0] == 0x11 ? 1 : 2]++;
    }
    return NULL;
}

static void readers_see_old_or_new(void **unused)
{
    g_autoptr(PtaMemory) mem = build_pc();
    g_autoptr(PtaBacking) video = vram(0x22);
    Race race[2] = { { .mem = mem }, { .mem = mem } };
    GThread *threads[2];
    pta_memory_fill(mem, vga.gpa, 0x11, vga.size);
    for (unsigned i = 0; i < 2; i++) {
        threads[i] = g_thread_new("reader", reader, &race[i]);
    }
    gint64 end = g_get_monotonic_time() + G_USEC_PER_SEC / 2;
    unsigned n = 0;
    while (g_get_monotonic_time() < end || n < 100) {
        /* Made and unmapped each time: what a reader copies from must not go under its hands. */
        PtaDeviceMemory *dm = pta_device_memory_new(mem, "vga", vga.size);
        assert_true(pta_device_memory_map(dm, 0, vga.size, video, 0, true, NULL));
        assert_true(pta_device_memory_map_to_guest(dm, vga.gpa, true, NULL));
        assert_true(pta_memory_set_ram_visibility(mem, vga, PTA_RAM_UNMAPPED, NULL));
        g_usleep(50);
        pta_device_memory_free(dm);
        g_usleep(50);
        assert_true(pta_memory_set_ram_visibility(mem, vga, PTA_RAM_READ_WRITE, NULL));
        n++;
    }
    for (unsigned i = 0; i < 2; i++) {
        g_atomic_int_set(&race[i].stop, 1);
        g_thread_join(threads[i]);
    }
    print_message("# %u changes; nothing %u, RAM %u, device %u times\n", n,
                  race[0].seen[0] + race[1].seen[0], race[0].seen[1] + race[1].seen[1],
                  race[0].seen[2] + race[1].seen[2]);
    assert_true(race[0].seen[1] + race[1].seen[1] > 0);
    assert_int_equal(load(mem, vga.gpa), 0x1111);
}

/* What a kernel without membarrier(2) makes of readers; it cannot be undone in a process. */
static bool deny_membarrier(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { G_N_ELEMENTS(code), code };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static int without_membarrier; /* exit status of the child */

static void readers_pay_without_membarrier(void **unused)
{
    assert_true(WIFEXITED(without_membarrier));
    assert_int_equal(WEXITSTATUS(without_membarrier), 0);
}

static void run_without_membarrier(void)
{
    pid_t child = fork(); /* before this process has readers */
    if (child == 0) {
        if (!deny_membarrier() || !freopen("/dev/null", "w", stdout)) {
            _exit(77);
        }
        pta_thread_init_main();
        readers_see_old_or_new(NULL); /* a failed assertion ends the process */
        _exit(pta_reader_self && pta_reader_self->fence ? 0 : 1);
    }
    waitpid(child, &without_membarrier, 0);
}

int main(void)
{
    run_without_membarrier();
    pta_thread_init_main();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusals),
        cmocka_unit_test(no_descriptors_and_pins),
        cmocka_unit_test(legacy_split),
        cmocka_unit_test(backings_and_offsets),
        cmocka_unit_test(only_pieces_can_be_controlled),
        cmocka_unit_test(visibility_of_each_window),
        cmocka_unit_test(device_memory_shows_through),
        cmocka_unit_test(parts_come_before_or_after),
        cmocka_unit_test(alias_is_attached_first_and_undone),
        cmocka_unit_test(refused_moves_leave_device_memory),
        cmocka_unit_test(readers_see_old_or_new),
        cmocka_unit_test(readers_pay_without_membarrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
