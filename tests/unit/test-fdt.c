/* The device tree, parsed back by libfdt. */
#include "config.h"

#include "src/boot/fdt.h"

#include "tests/lib/cmocka-all.h"

#include <libfdt.h>
#include <string.h>

#include "tests/lib/boot-fixture.h"

static const PtaRamRange ram[] = { { 0, 0x8000000 }, { UINT64_C(0x100000000), 0x4000000 } };

static PtaFdtParams default_params(void)
{
    return (PtaFdtParams){
        .arch = PTA_FDT_X86_64,
        .ram = ram,
        .n_ram = G_N_ELEMENTS(ram),
        .n_vps = 2,
        .cmdline = "console=ttyS0",
        .initrd_gpa = 0x7000000,
        .initrd_size = 0x1234,
        .devices = fixture_devices,
        .n_devices = fixture_n_devices,
    };
}

static GByteArray *build(const PtaFdtParams *params)
{
    g_autoptr(GError) error = NULL;
    GByteArray *blob = pta_fdt_build(params, 65536, &error);
    if (error) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(fdt_check_full(blob->data, blob->len), 0);
    assert_int_equal(fdt_totalsize(blob->data), blob->len);
    return blob;
}

static int node(const GByteArray *blob, const char *path)
{
    int offset = fdt_path_offset(blob->data, path);
    if (offset < 0) {
        fail_msg("no node %s: %s", path, fdt_strerror(offset));
    }
    return offset;
}

static void assert_prop(const GByteArray *blob, const char *path, const char *name,
                        const void *value, size_t size)
{
    int len;
    const void *got = fdt_getprop(blob->data, node(blob, path), name, &len);
    assert_non_null(got);
    assert_int_equal(len, size);
    assert_memory_equal(got, value, size);
}

static void assert_cells(const GByteArray *blob, const char *path, const char *name,
                         const uint32_t *cells, size_t n)
{
    fdt32_t be[8];
    for (size_t i = 0; i < n; i++) {
        be[i] = cpu_to_fdt32(cells[i]);
    }
    assert_prop(blob, path, name, be, n * 4);
}

#define ASSERT_CELLS(blob, path, name, ...)                           \
    do {                                                              \
        const uint32_t cells_[] = { __VA_ARGS__ };                    \
        assert_cells(blob, path, name, cells_, G_N_ELEMENTS(cells_)); \
    } while (0)

#define ASSERT_TEXT(blob, path, name, text) assert_prop(blob, path, name, text, strlen(text) + 1)

static void tree_says_what_the_table_says(void **unused)
{
    PtaFdtParams params = default_params();
    g_autoptr(GByteArray) blob = build(&params);
    ASSERT_TEXT(blob, "/chosen", "bootargs", "console=ttyS0");
    ASSERT_CELLS(blob, "/chosen", "linux,initrd-start", 0, 0x7000000);
    ASSERT_CELLS(blob, "/chosen", "linux,initrd-end", 0, 0x7001234);
    ASSERT_TEXT(blob, "/aliases", "serial0", "/isa@i0/serial@i3f8");
    ASSERT_CELLS(blob, "/memory@0", "reg", 0, 0, 0, 0x8000000);
    ASSERT_CELLS(blob, "/memory@100000000", "reg", 1, 0, 0, 0x4000000);
    ASSERT_CELLS(blob, "/cpus/cpu@1", "reg", 1);
    assert_true(fdt_path_offset(blob->data, "/cpus/cpu@2") < 0);
    ASSERT_CELLS(blob, "/isa@i0/serial@i3f8", "reg", 1, 0x3f8, 8);
    ASSERT_CELLS(blob, "/isa@i0/serial@i3f8", "interrupts", 4, 3);
    ASSERT_TEXT(blob, "/isa@i0/serial@i2f8", "compatible", "ns16550a");
    ASSERT_CELLS(blob, "/isa@i0/rtc@i70", "reg", 1, 0x70, 2);
    ASSERT_TEXT(blob, "/virtio_mmio@d0001000", "compatible", "virtio,mmio");
    ASSERT_CELLS(blob, "/virtio_mmio@d0001000", "reg", 0, 0xd0001000, 0, 0x1000);
    ASSERT_CELLS(blob, "/virtio_mmio@d0001000", "interrupts", 16, 3);
    ASSERT_CELLS(blob, "/virtio_mmio@d0002000", "interrupts", 6, 1);
    /* The interrupt parent is the I/O APIC. */
    int intc = fdt_node_offset_by_phandle(blob->data, 1);
    assert_int_equal(intc, node(blob, "/interrupt-controller@fec00000"));
}

/* What a kernel that numbers devices in the order of the tree sees. */
static void virtio_devices_are_sorted(void **unused)
{
    const PtaPlacedDevice devices[] = {
        { PTA_PLACED_VIRTIO_MMIO, "c", false, 0xd0002000, 0x1000, 7, false, 0 },
        { PTA_PLACED_VIRTIO_MMIO, "a", false, 0xd0000000, 0x1000, 5, false, 1 },
        { PTA_PLACED_VIRTIO_MMIO, "b", false, 0xd0001000, 0x1000, 6, false, 2 },
    };
    PtaFdtParams params = {
        .ram = ram, .n_ram = 1, .n_vps = 1, .devices = devices, .n_devices = 3
    };
    g_autoptr(GByteArray) blob = build(&params);
    int at = -1;
    unsigned seen = 0;
    while ((at = fdt_node_offset_by_compatible(blob->data, at, "virtio,mmio")) >= 0) {
        const fdt32_t *irq = fdt_getprop(blob->data, at, "interrupts", NULL);
        assert_int_equal(fdt32_to_cpu(irq[0]), 5 + seen);
        seen++;
    }
    assert_int_equal(seen, 3);
    assert_true(fdt_path_offset(blob->data, "/isa@i0") < 0);
    assert_null(fdt_getprop(blob->data, node(blob, "/chosen"), "bootargs", NULL));
    assert_null(fdt_getprop(blob->data, node(blob, "/chosen"), "linux,initrd-start", NULL));
}

static void too_small_is_refused(void **unused)
{
    PtaFdtParams params = default_params();
    g_autoptr(GByteArray) blob = build(&params);
    for (size_t max = 0; max < blob->len; max += 16) {
        g_autoptr(GError) error = NULL;
        assert_null(pta_fdt_build(&params, max, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
        assert_non_null(strstr(error->message, "device tree: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree_says_what_the_table_says),
        cmocka_unit_test(virtio_devices_are_sorted),
        cmocka_unit_test(too_small_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
