/*
 * The device tree: see fdt.h. What differs between architectures is in a table of functions, so
 * that an architecture is added without touching the nodes that all have. Pure functions.
 *
 * libfdt returns negative codes; FdtOut keeps the first one, so that the code that writes nodes
 * reads as the tree does.
 */
#include "config.h"

#include "src/boot/fdt.h"

#include <inttypes.h>
#include <libfdt.h>
#include <string.h>

#include "src/boot/layout.h"

typedef struct FdtOut FdtOut;

typedef struct Arch {
    const char *compatible;
    const char *cpu_compatible;
    unsigned irq_cells;
    void (*add_interrupt_controllers)(FdtOut *f, const PtaFdtParams *params);
    /* Fills irq_cells cells. */
    void (*irq)(uint32_t *cells, const PtaPlacedDevice *dev);
} Arch;

struct FdtOut {
    const Arch *arch;
    void *blob;
    int status; /* 0, or libfdt's first error */
};

#define MAX_IRQ_CELLS 3
#define PHANDLE_INTC  1

/* Address spaces of an ISA bus: the first cell of its addresses (IEEE 1275 ISA binding). */
#define ISA_IO     1
#define ISA_IO_END 0x10000

/* A node with "ranges" has a unit address: that of its ports. */
#define ISA_NODE "isa@i0"

/* ---- libfdt with one status ---- */

static void keep(FdtOut *f, int status)
{
    if (f->status == 0 && status < 0) {
        f->status = status;
    }
}

static void node_begin(FdtOut *f, const char *name)
{
    keep(f, fdt_begin_node(f->blob, name));
}

static void node_begin_at(FdtOut *f, const char *name, uint64_t address)
{
    g_autofree char *full = g_strdup_printf("%s@%" PRIx64, name, address);
    node_begin(f, full);
}

static void node_end(FdtOut *f)
{
    keep(f, fdt_end_node(f->blob));
}

static void prop_string(FdtOut *f, const char *name, const char *value)
{
    keep(f, fdt_property_string(f->blob, name, value));
}

static void prop_u32(FdtOut *f, const char *name, uint32_t value)
{
    keep(f, fdt_property_u32(f->blob, name, value));
}

static void prop_u64(FdtOut *f, const char *name, uint64_t value)
{
    keep(f, fdt_property_u64(f->blob, name, value));
}

static void prop_flag(FdtOut *f, const char *name)
{
    keep(f, fdt_property(f->blob, name, NULL, 0));
}

static void prop_cells(FdtOut *f, const char *name, const uint32_t *cells, size_t n)
{
    fdt32_t be[8];
    g_assert(n <= G_N_ELEMENTS(be));
    for (size_t i = 0; i < n; i++) {
        be[i] = cpu_to_fdt32(cells[i]);
    }
    keep(f, fdt_property(f->blob, name, be, (int)(n * sizeof(be[0]))));
}

/* Two cells of address, two of size. */
static void prop_reg(FdtOut *f, uint64_t base, uint64_t size)
{
    const uint32_t cells[4] = { (uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(size >> 32),
                                (uint32_t)size };
    prop_cells(f, "reg", cells, G_N_ELEMENTS(cells));
}

static void prop_irq(FdtOut *f, const PtaPlacedDevice *dev)
{
    if (dev->irq >= 0) {
        uint32_t cells[MAX_IRQ_CELLS];
        f->arch->irq(cells, dev);
        prop_cells(f, "interrupts", cells, f->arch->irq_cells);
    }
}

/* ---- x86-64 ---- */

static void x86_add_interrupt_controllers(FdtOut *f, const PtaFdtParams *params)
{
    node_begin_at(f, "interrupt-controller", PTA_BOOT_LAPIC);
    prop_string(f, "compatible", "intel,ce4100-lapic");
    prop_reg(f, PTA_BOOT_LAPIC, PTA_PAGE_SIZE);
    node_end(f);
    for (size_t i = 0; i < params->n_devices; i++) {
        const PtaPlacedDevice *dev = &params->devices[i];
        if (dev->kind != PTA_PLACED_IOAPIC) {
            continue;
        }
        node_begin_at(f, "interrupt-controller", dev->base);
        prop_string(f, "compatible", "intel,ce4100-ioapic");
        prop_reg(f, dev->base, dev->size);
        prop_flag(f, "interrupt-controller");
        prop_u32(f, "#interrupt-cells", 2);
        prop_u32(f, "#address-cells", 0);
        if (dev->ordinal == 0) {
            prop_u32(f, "phandle", PHANDLE_INTC);
        }
        node_end(f);
    }
}

/* The second cell is an index into of_ioapic_type of Linux (arch/x86/kernel/devicetree.c). Older
 * kernels name these two entries as active low, but program the I/O APIC for active high. */
static void x86_irq(uint32_t *cells, const PtaPlacedDevice *dev)
{
    enum { LEVEL_HIGH = 1, EDGE_RISING = 3 };
    cells[0] = (uint32_t)dev->irq;
    cells[1] = dev->level ? LEVEL_HIGH : EDGE_RISING;
}

static const Arch archs[] = {
    [PTA_FDT_X86_64] = {
        .compatible = "partita,x86-64",
        .cpu_compatible = "partita,x86-64-cpu",
        .irq_cells = 2,
        .add_interrupt_controllers = x86_add_interrupt_controllers,
        .irq = x86_irq,
    },
};

/* ---- nodes that every machine has ---- */

static const PtaPlacedDevice *first_uart(const PtaFdtParams *params)
{
    for (size_t i = 0; i < params->n_devices; i++) {
        if (params->devices[i].kind == PTA_PLACED_UART16550) {
            return &params->devices[i];
        }
    }
    return NULL;
}

static char *uart_name(const PtaPlacedDevice *dev)
{
    return g_strdup_printf("serial@%s%" PRIx64, dev->pio ? "i" : "", dev->base);
}

static void add_aliases_and_chosen(FdtOut *f, const PtaFdtParams *params)
{
    const PtaPlacedDevice *uart = first_uart(params);
    if (uart) {
        g_autofree char *name = uart_name(uart);
        g_autofree char *path = g_strdup_printf("%s/%s", uart->pio ? "/" ISA_NODE : "", name);
        node_begin(f, "aliases");
        prop_string(f, "serial0", path);
        node_end(f);
    }
    node_begin(f, "chosen");
    if (params->cmdline) {
        prop_string(f, "bootargs", params->cmdline);
    }
    if (params->initrd_size > 0) {
        prop_u64(f, "linux,initrd-start", params->initrd_gpa);
        prop_u64(f, "linux,initrd-end", params->initrd_gpa + params->initrd_size);
    }
    if (uart) {
        prop_string(f, "stdout-path", "serial0");
    }
    node_end(f);
}

static void add_memory(FdtOut *f, const PtaFdtParams *params)
{
    for (size_t i = 0; i < params->n_ram; i++) {
        node_begin_at(f, "memory", params->ram[i].gpa);
        prop_string(f, "device_type", "memory");
        prop_reg(f, params->ram[i].gpa, params->ram[i].size);
        node_end(f);
    }
}

static void add_cpus(FdtOut *f, const PtaFdtParams *params)
{
    node_begin(f, "cpus");
    prop_u32(f, "#address-cells", 1);
    prop_u32(f, "#size-cells", 0);
    for (unsigned i = 0; i < params->n_vps; i++) {
        node_begin_at(f, "cpu", i);
        prop_string(f, "device_type", "cpu");
        prop_string(f, "compatible", f->arch->cpu_compatible);
        prop_u32(f, "reg", i);
        node_end(f);
    }
    node_end(f);
}

static void add_isa_device(FdtOut *f, const PtaPlacedDevice *dev)
{
    const uint32_t reg[3] = { ISA_IO, (uint32_t)dev->base, (uint32_t)dev->size };
    if (dev->kind == PTA_PLACED_UART16550) {
        g_autofree char *name = uart_name(dev);
        node_begin(f, name);
        prop_string(f, "compatible", "ns16550a");
        prop_u32(f, "clock-frequency", 1843200);
    } else {
        g_autofree char *name = g_strdup_printf("rtc@i%" PRIx64, dev->base);
        node_begin(f, name);
        prop_string(f, "compatible", "motorola,mc146818");
    }
    prop_cells(f, "reg", reg, G_N_ELEMENTS(reg));
    prop_irq(f, dev);
    node_end(f);
}

static bool is_isa(const PtaPlacedDevice *dev)
{
    return dev->pio && (dev->kind == PTA_PLACED_UART16550 || dev->kind == PTA_PLACED_RTC_CMOS);
}

static void add_isa(FdtOut *f, const PtaFdtParams *params)
{
    bool any = false;
    for (size_t i = 0; i < params->n_devices; i++) {
        any = any || is_isa(&params->devices[i]);
    }
    if (!any) {
        return;
    }
    node_begin(f, ISA_NODE);
    prop_string(f, "compatible", "isa");
    prop_u32(f, "#address-cells", 2);
    prop_u32(f, "#size-cells", 1);
    const uint32_t ranges[5] = { ISA_IO, 0, 0, 0, ISA_IO_END };
    prop_cells(f, "ranges", ranges, G_N_ELEMENTS(ranges));
    for (size_t i = 0; i < params->n_devices; i++) {
        if (is_isa(&params->devices[i])) {
            add_isa_device(f, &params->devices[i]);
        }
    }
    node_end(f);
}

static int by_base(const void *a, const void *b)
{
    const PtaPlacedDevice *x = *(const PtaPlacedDevice *const *)a;
    const PtaPlacedDevice *y = *(const PtaPlacedDevice *const *)b;
    return x->base < y->base ? -1 : x->base > y->base;
}

/* In the order of their addresses, which is the order in which kernels number them. */
static void add_virtio(FdtOut *f, const PtaFdtParams *params)
{
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    for (size_t i = 0; i < params->n_devices; i++) {
        if (params->devices[i].kind == PTA_PLACED_VIRTIO_MMIO) {
            g_ptr_array_add(sorted, (void *)&params->devices[i]);
        }
    }
    g_ptr_array_sort(sorted, by_base);
    for (guint i = 0; i < sorted->len; i++) {
        const PtaPlacedDevice *dev = sorted->pdata[i];
        node_begin_at(f, "virtio_mmio", dev->base);
        prop_string(f, "compatible", "virtio,mmio");
        prop_reg(f, dev->base, dev->size);
        prop_irq(f, dev);
        prop_flag(f, "dma-coherent");
        node_end(f);
    }
}

static void add_tree(FdtOut *f, const PtaFdtParams *params)
{
    keep(f, fdt_finish_reservemap(f->blob));
    node_begin(f, "");
    prop_string(f, "compatible", f->arch->compatible);
    prop_string(f, "model", "Partita");
    prop_u32(f, "#address-cells", 2);
    prop_u32(f, "#size-cells", 2);
    prop_u32(f, "interrupt-parent", PHANDLE_INTC);
    add_aliases_and_chosen(f, params);
    add_memory(f, params);
    add_cpus(f, params);
    f->arch->add_interrupt_controllers(f, params);
    add_isa(f, params);
    add_virtio(f, params);
    node_end(f);
    keep(f, fdt_finish(f->blob));
}

GByteArray *pta_fdt_build(const PtaFdtParams *params, size_t max, GError **error)
{
    g_assert(params->arch < G_N_ELEMENTS(archs));
    max = MIN(max, INT_MAX);
    g_autoptr(GByteArray) blob = g_byte_array_new();
    g_byte_array_set_size(blob, (guint)max);
    FdtOut f = { .arch = &archs[params->arch], .blob = blob->data };
    keep(&f, fdt_create(f.blob, (int)max));
    if (f.status == 0) {
        add_tree(&f, params);
    }
    if (f.status != 0) {
        pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                  "device tree: %zu devices in at most %zu bytes: %s", params->n_devices, max,
                  fdt_strerror(f.status));
        return NULL;
    }
    g_byte_array_set_size(blob, fdt_totalsize(blob->data));
    return g_steal_pointer(&blob);
}
