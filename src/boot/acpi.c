/* ACPI tables: see acpi.h. Pure functions. Offsets and sections are those of ACPI 6.4. */
#include "config.h"

#include "src/boot/acpi.h"

#include <inttypes.h>
#include <string.h>

#include "devices/power.h"
#include "devices/watchdog.h"
#include "src/boot/aml.h"
#include "src/boot/layout.h"
#include "src/boot/loader.h"

#define OEM_ID       "PARTIT"
#define OEM_TABLE_ID "PARTITA "
#define CREATOR_ID   "PTA "
#define OEM_REVISION 1
#define TABLE_ALIGN  16
#define ISA_IRQS     16
#define XAPIC_MAX_ID 254  /* 255 is the broadcast */
#define MAX_VPS      4096 /* what a name C000 to CFFF can tell apart */
#define MAX_ORDINAL  999  /* what a name V000 to V999 can tell apart */

enum {
    RSDP_CHECKSUM = 8,
    RSDP_OEM_ID = 9,
    RSDP_REVISION = 15,
    RSDP_LENGTH = 20,
    RSDP_XSDT = 24,
    RSDP_EXT_CHECKSUM = 32,
    RSDP_V1_SIZE = 20,
    RSDP_SIZE = 36,

    HDR_LENGTH = 4,
    HDR_REVISION = 8,
    HDR_CHECKSUM = 9,
    HDR_OEM_ID = 10,
    HDR_OEM_TABLE_ID = 16,
    HDR_OEM_REVISION = 24,
    HDR_CREATOR_ID = 28,
    HDR_CREATOR_REVISION = 32,
    HDR_SIZE = 36,

    /* 5.2.9 */
    FADT_DSDT = 40,
    FADT_P_LVL2_LAT = 96,
    FADT_P_LVL3_LAT = 98,
    FADT_BOOT_ARCH = 109,
    FADT_FLAGS = 112,
    FADT_RESET_REG = 116,
    FADT_RESET_VALUE = 128,
    FADT_MINOR_VERSION = 131,
    FADT_X_DSDT = 140,
    FADT_SLEEP_CONTROL = 244,
    FADT_SLEEP_STATUS = 256,
    FADT_HYPERVISOR_ID = 268,
    FADT_SIZE = 276,
    FADT_REVISION = 6,
    FADT_MINOR = 4,

    /* Hardware Watchdog Timers Design Specification, "Watchdog Action Table" */
    WDAT_HEADER_LENGTH = 36, /* of what lies between the ACPI header and the entries */
    WDAT_PCI_SEGMENT = 40,
    WDAT_PCI_BUS = 42, /* bus, device, function */
    WDAT_TIMER_PERIOD = 48,
    WDAT_MAX_COUNT = 52,
    WDAT_MIN_COUNT = 56,
    WDAT_FLAGS = 60,
    WDAT_ENTRIES = 64,
    WDAT_SIZE = 68,
    WDAT_ENTRY_GAS = 4,
    WDAT_ENTRY_VALUE = 16,
    WDAT_ENTRY_MASK = 20,
    WDAT_ENTRY_SIZE = 24,
};

#define BOOT_ARCH_NO_VGA      (1u << 2)
#define BOOT_ARCH_NO_CMOS_RTC (1u << 5)

#define FADT_WBINVD           (UINT32_C(1) << 0)
#define FADT_PWR_BUTTON       (UINT32_C(1) << 4) /* no fixed-hardware power button */
#define FADT_SLP_BUTTON       (UINT32_C(1) << 5) /* no fixed-hardware sleep button */
#define FADT_RESET_REG_SUP    (UINT32_C(1) << 10)
#define FADT_HW_REDUCED       (UINT32_C(1) << 20)

#define WDAT_ENABLED          0x01

/* ---- tables and checksums ---- */

static uint8_t checksum(const uint8_t *bytes, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum = (uint8_t)(sum + bytes[i]);
    }
    return (uint8_t)-sum;
}

/* A table with its header and `size` bytes in all, zeroed behind the header. */
static GByteArray *table_new(const char *signature, uint8_t revision, size_t size)
{
    GByteArray *table = g_byte_array_new();
    g_byte_array_set_size(table, (guint)size);
    memset(table->data, 0, size);
    memcpy(table->data, signature, 4);
    table->data[HDR_REVISION] = revision;
    memcpy(table->data + HDR_OEM_ID, OEM_ID, 6);
    memcpy(table->data + HDR_OEM_TABLE_ID, OEM_TABLE_ID, 8);
    pta_put_le32(table->data + HDR_OEM_REVISION, OEM_REVISION);
    memcpy(table->data + HDR_CREATOR_ID, CREATOR_ID, 4);
    pta_put_le32(table->data + HDR_CREATOR_REVISION, OEM_REVISION);
    return table;
}

static void table_finish(GByteArray *table)
{
    pta_put_le32(table->data + HDR_LENGTH, table->len);
    table->data[HDR_CHECKSUM] = 0;
    table->data[HDR_CHECKSUM] = checksum(table->data, table->len);
}

/* Puts it behind what is there, aligned; returns its offset. */
static size_t append_table(GByteArray *all, GByteArray *table)
{
    table_finish(table);
    size_t at = pta_align_up(all->len, TABLE_ALIGN);
    guint old = all->len;
    g_byte_array_set_size(all, (guint)at);
    memset(all->data + old, 0, at - old);
    g_byte_array_append(all, table->data, table->len);
    return at;
}

/* ---- the table of devices ---- */

static const PtaPlacedDevice *find_device(const PtaAcpiParams *params, PtaPlacedKind kind)
{
    for (size_t i = 0; i < params->n_devices; i++) {
        if (params->devices[i].kind == kind) {
            return &params->devices[i];
        }
    }
    return NULL;
}

static bool check_params(const PtaAcpiParams *params, GError **error)
{
    if (params->n_vps == 0 || params->n_vps > MAX_VPS) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "ACPI: %u virtual processors, expected 1 to %d", params->n_vps, MAX_VPS);
    }
    for (size_t i = 0; i < params->n_devices; i++) {
        const PtaPlacedDevice *dev = &params->devices[i];
        if (dev->pio && (dev->base > UINT16_MAX || dev->size > UINT8_MAX)) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "ACPI: %s has 0x%" PRIx64 " ports at 0x%" PRIx64
                             ", expected at most 0xff below 0x10000",
                             dev->id, dev->size, dev->base);
        }
        if (dev->ordinal > MAX_ORDINAL) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "ACPI: %s is number %u of its kind, expected at most %d", dev->id,
                             dev->ordinal, MAX_ORDINAL);
        }
    }
    return true;
}

/* ---- MADT (5.2.12) ---- */

static void madt_add_processor(GByteArray *madt, unsigned id)
{
    if (id <= XAPIC_MAX_ID) {
        const uint8_t entry[8] = { 0, sizeof(entry), (uint8_t)id, (uint8_t)id, 1 /* enabled */ };
        g_byte_array_append(madt, entry, sizeof(entry));
        return;
    }
    uint8_t entry[16] = { 9, sizeof(entry) }; /* Processor Local x2APIC */
    pta_put_le32(entry + 4, id);
    pta_put_le32(entry + 8, 1);
    pta_put_le32(entry + 12, id);
    g_byte_array_append(madt, entry, sizeof(entry));
}

/* A kernel takes ISA interrupts for edge-triggered unless told. */
static void madt_add_override(GByteArray *madt, unsigned irq)
{
    uint8_t entry[10] = { 2, sizeof(entry), 0, (uint8_t)irq };
    pta_put_le32(entry + 4, irq);
    pta_put_le16(entry + 8, 0x0d); /* active high, level */
    g_byte_array_append(madt, entry, sizeof(entry));
}

static GByteArray *build_madt(const PtaAcpiParams *params)
{
    GByteArray *madt = table_new("APIC", 5, HDR_SIZE + 8);
    /* Flags stay 0: there is no pair of 8259s. */
    pta_put_le32(madt->data + HDR_SIZE, (uint32_t)PTA_BOOT_LAPIC);
    for (unsigned i = 0; i < params->n_vps; i++) {
        madt_add_processor(madt, i);
    }
    const PtaPlacedDevice *ioapic = find_device(params, PTA_PLACED_IOAPIC);
    if (ioapic) {
        uint8_t entry[12] = { 1, sizeof(entry), params->ioapic_id };
        pta_put_le32(entry + 4, (uint32_t)ioapic->base);
        g_byte_array_append(madt, entry, sizeof(entry)); /* GSIs from 0 */
    }
    bool overridden[ISA_IRQS] = { false };
    for (size_t i = 0; i < params->n_devices; i++) {
        const PtaPlacedDevice *dev = &params->devices[i];
        if (dev->level && dev->irq >= 0 && dev->irq < ISA_IRQS && !overridden[dev->irq]) {
            overridden[dev->irq] = true;
            madt_add_override(madt, (unsigned)dev->irq);
        }
    }
    /* LINT1 of every processor is its NMI input. */
    const uint8_t nmi[6] = { 4, sizeof(nmi), 0xff, 0, 0, 1 };
    g_byte_array_append(madt, nmi, sizeof(nmi));
    if (params->n_vps > XAPIC_MAX_ID + 1) {
        const uint8_t x2nmi[12] = { 10, sizeof(x2nmi), 0, 0, 0xff, 0xff, 0xff, 0xff, 1 };
        g_byte_array_append(madt, x2nmi, sizeof(x2nmi));
    }
    return madt;
}

/* ---- FADT ---- */

/* A register of 8 or 32 bits as a Generic Address Structure (5.2.3.2). */
static void put_gas(uint8_t *gas, const PtaPlacedDevice *dev, uint64_t offset, uint8_t width)
{
    gas[0] = dev->pio ? PTA_AML_SYSTEM_IO : PTA_AML_SYSTEM_MEMORY;
    gas[1] = width;
    gas[2] = 0;                   /* bit offset */
    gas[3] = width == 32 ? 3 : 1; /* accessed as a whole */
    pta_put_le64(gas + 4, dev->base + offset);
}

static GByteArray *build_fadt(const PtaAcpiParams *params, uint64_t dsdt)
{
    GByteArray *fadt = table_new("FACP", FADT_REVISION, FADT_SIZE);
    uint8_t *f = fadt->data;
    uint32_t flags = FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_HW_REDUCED;
    unsigned boot_arch = BOOT_ARCH_NO_VGA;
    if (!find_device(params, PTA_PLACED_RTC_CMOS)) {
        boot_arch |= BOOT_ARCH_NO_CMOS_RTC;
    }
    const PtaPlacedDevice *power = find_device(params, PTA_PLACED_POWER);
    if (power) {
        flags |= FADT_RESET_REG_SUP;
        put_gas(f + FADT_RESET_REG, power, PTA_POWER_RESET_REG, 8);
        f[FADT_RESET_VALUE] = PTA_POWER_RESET_VALUE;
        put_gas(f + FADT_SLEEP_CONTROL, power, PTA_POWER_SLEEP_CONTROL, 8);
        put_gas(f + FADT_SLEEP_STATUS, power, PTA_POWER_SLEEP_STATUS, 8);
    }
    pta_put_le32(f + FADT_DSDT, (uint32_t)dsdt);
    pta_put_le64(f + FADT_X_DSDT, dsdt);
    /* Larger than 100 and 1000 microseconds: no C2, no C3. */
    pta_put_le16(f + FADT_P_LVL2_LAT, 0xffff);
    pta_put_le16(f + FADT_P_LVL3_LAT, 0xffff);
    pta_put_le16(f + FADT_BOOT_ARCH, (uint16_t)boot_arch);
    pta_put_le32(f + FADT_FLAGS, flags);
    f[FADT_MINOR_VERSION] = FADT_MINOR;
    memcpy(f + FADT_HYPERVISOR_ID, OEM_TABLE_ID, 8);
    return fadt;
}

/* ---- WDAT ---- */

/*
 * What a driver may ask for (action) and the access that does it (instruction). Linux makes a device
 * of the table (drivers/acpi/acpi_watchdog.c) that owns the registers, so they are not listed among
 * the board's: it could not reserve them there.
 */
static const struct {
    uint8_t action, instruction, reg;
    uint32_t value, mask;
} wdat_entries[] = {
    /* clang-format off */
    {  1 /* reload */,           2 /* write value */,     PTA_WATCHDOG_RELOAD,  1, 1 },
    {  4 /* get periods left */, 1 /* read countdown */,  PTA_WATCHDOG_LEFT,    0, 0xffff },
    {  5 /* get count */,        1,                       PTA_WATCHDOG_COUNT,   0, 0xffff },
    {  6 /* set count */,        3 /* write countdown */, PTA_WATCHDOG_COUNT,   0, 0xffff },
    {  8 /* is it running */,    0 /* read value */,      PTA_WATCHDOG_CONTROL, 1, 1 },
    {  9 /* start */,            2,                       PTA_WATCHDOG_CONTROL, 1, 1 },
    { 10 /* is it stopped */,    0,                       PTA_WATCHDOG_CONTROL, 0, 1 },
    { 11 /* stop */,             2,                       PTA_WATCHDOG_CONTROL, 0, 1 },
    { 16 /* will it reboot */,   0,                       PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_REBOOT, 1 },
    { 17 /* let it reboot */,    2,                       PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_REBOOT, 1 },
    { 18 /* will it shut down */, 0,                      PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_SHUTDOWN, 1 },
    { 19 /* let it shut down */, 2,                       PTA_WATCHDOG_EXPIRY, PTA_WATCHDOG_SHUTDOWN, 1 },
    { 32 /* has it expired */,   0,                       PTA_WATCHDOG_STATUS,  1, 1 },
    { 33 /* clear that */,       2,                       PTA_WATCHDOG_STATUS,  1, 1 },
    /* clang-format on */
};

G_STATIC_ASSERT(PTA_WATCHDOG_COUNT_MAX == 0xffff);

static GByteArray *build_wdat(const PtaPlacedDevice *dev)
{
    const size_t n = G_N_ELEMENTS(wdat_entries);
    GByteArray *wdat = table_new("WDAT", 1, WDAT_SIZE + n * WDAT_ENTRY_SIZE);
    uint8_t *w = wdat->data;
    pta_put_le32(w + WDAT_HEADER_LENGTH, WDAT_SIZE - HDR_SIZE);
    pta_put_le16(w + WDAT_PCI_SEGMENT, 0xff); /* it is no PCI device: all of them 0xff */
    memset(w + WDAT_PCI_BUS, 0xff, 3);
    pta_put_le32(w + WDAT_TIMER_PERIOD, PTA_WATCHDOG_PERIOD_MS);
    pta_put_le32(w + WDAT_MAX_COUNT, PTA_WATCHDOG_COUNT_MAX);
    pta_put_le32(w + WDAT_MIN_COUNT, PTA_WATCHDOG_COUNT_MIN);
    w[WDAT_FLAGS] = WDAT_ENABLED;
    pta_put_le32(w + WDAT_ENTRIES, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *e = w + WDAT_SIZE + i * WDAT_ENTRY_SIZE;
        e[0] = wdat_entries[i].action;
        e[1] = wdat_entries[i].instruction;
        put_gas(e + WDAT_ENTRY_GAS, dev, wdat_entries[i].reg, 32);
        pta_put_le32(e + WDAT_ENTRY_VALUE, wdat_entries[i].value);
        pta_put_le32(e + WDAT_ENTRY_MASK, wdat_entries[i].mask);
    }
    return wdat;
}

/* ---- DSDT ---- */

static void add_processors(PtaAml *aml, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char name[5];
        g_snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        pta_aml_device(aml, name);
        pta_aml_name_string(aml, "_HID", "ACPI0007");
        pta_aml_name_int(aml, "_UID", i);
        pta_aml_end(aml);
    }
}

static void add_uart(PtaAml *aml, const PtaPlacedDevice *dev)
{
    char name[5], ddn[16];
    g_snprintf(name, sizeof(name), "COM%u", (dev->ordinal + 1) % 10);
    g_snprintf(ddn, sizeof(ddn), "COM%u", dev->ordinal + 1);
    pta_aml_device(aml, name);
    pta_aml_name(aml, "_HID");
    pta_aml_eisaid(aml, "PNP0501");
    pta_aml_name_int(aml, "_UID", dev->ordinal + 1);
    pta_aml_name_string(aml, "_DDN", ddn);
    PtaAmlResources crs;
    pta_aml_crs_begin(&crs);
    pta_aml_crs_io(&crs, (uint16_t)dev->base, (uint8_t)dev->size);
    if (dev->irq >= ISA_IRQS || (dev->irq >= 0 && dev->level)) {
        pta_aml_crs_interrupt(&crs, (uint32_t)dev->irq, dev->level);
    } else if (dev->irq >= 0) {
        pta_aml_crs_isa_irq(&crs, (unsigned)dev->irq);
    }
    pta_aml_crs_end(&crs, aml);
    pta_aml_end(aml);
}

static void add_rtc(PtaAml *aml, const PtaPlacedDevice *dev)
{
    pta_aml_device(aml, "RTC");
    pta_aml_name(aml, "_HID");
    pta_aml_eisaid(aml, "PNP0B00");
    PtaAmlResources crs;
    pta_aml_crs_begin(&crs);
    pta_aml_crs_io(&crs, (uint16_t)dev->base, (uint8_t)dev->size);
    if (dev->irq >= 0 && dev->irq < ISA_IRQS) {
        pta_aml_crs_isa_irq(&crs, (unsigned)dev->irq);
    }
    pta_aml_crs_end(&crs, aml);
    pta_aml_end(aml);
}

/* Linux: drivers/virtio/virtio_mmio.c matches LNRO0005. */
static void add_virtio(PtaAml *aml, const PtaPlacedDevice *dev)
{
    char name[8];
    g_snprintf(name, sizeof(name), "V%03u", dev->ordinal);
    pta_aml_device(aml, name);
    pta_aml_name_string(aml, "_HID", "LNRO0005");
    pta_aml_name_int(aml, "_UID", dev->ordinal);
    pta_aml_name_int(aml, "_CCA", 1); /* DMA is coherent */
    PtaAmlResources crs;
    pta_aml_crs_begin(&crs);
    pta_aml_crs_memory(&crs, dev->base, dev->size);
    if (dev->irq >= 0) {
        pta_aml_crs_interrupt(&crs, (uint32_t)dev->irq, dev->level);
    }
    pta_aml_crs_end(&crs, aml);
    pta_aml_end(aml);
}

/* Linux: drivers/misc/pvpanic/pvpanic-mmio.c. */
static void add_pvpanic(PtaAml *aml, const PtaPlacedDevice *dev)
{
    pta_aml_device(aml, "PEVT");
    pta_aml_name_string(aml, "_HID", "QEMU0001");
    pta_aml_name_int(aml, "_STA", 0xf);
    PtaAmlResources crs;
    pta_aml_crs_begin(&crs);
    pta_aml_crs_io(&crs, (uint16_t)dev->base, (uint8_t)dev->size);
    pta_aml_crs_end(&crs, aml);
    pta_aml_end(aml);
}

/* The power button, and the generic event device (5.6.9) whose method says that it was pressed. */
static void add_power(PtaAml *aml, const PtaPlacedDevice *dev)
{
    pta_aml_device(aml, "PWRB");
    pta_aml_name(aml, "_HID");
    pta_aml_eisaid(aml, "PNP0C0C");
    pta_aml_end(aml);
    if (dev->irq < 0) {
        return;
    }
    pta_aml_device(aml, "GED");
    pta_aml_name_string(aml, "_HID", "ACPI0013");
    PtaAmlResources crs;
    pta_aml_crs_begin(&crs);
    pta_aml_crs_interrupt(&crs, (uint32_t)dev->irq, dev->level);
    pta_aml_crs_end(&crs, aml);
    pta_aml_region_u32(aml, "EREG", dev->pio ? PTA_AML_SYSTEM_IO : PTA_AML_SYSTEM_MEMORY,
                       dev->base + PTA_POWER_GED_SELECT, "ESEL");
    pta_aml_method(aml, "_EVT", 1, true);
    pta_aml_store_to_local(aml, "ESEL", 0); /* one read: it clears what it answers */
    pta_aml_if(aml);
    pta_aml_and_local(aml, 0, PTA_POWER_GED_BUTTON);
    pta_aml_notify(aml, "PWRB", 0x80);
    pta_aml_end(aml);
    pta_aml_end(aml);
    pta_aml_end(aml);
}

/* What no driver owns but nobody else may use (PNP0C02, system board resources). */
static void add_board(PtaAml *aml, const PtaAcpiParams *params)
{
    PtaAmlResources crs;
    pta_aml_device(aml, "BRD");
    pta_aml_name(aml, "_HID");
    pta_aml_eisaid(aml, "PNP0C02");
    pta_aml_crs_begin(&crs);
    for (size_t i = 0; i < params->n_devices; i++) {
        const PtaPlacedDevice *dev = &params->devices[i];
        if (dev->kind != PTA_PLACED_POWER && dev->kind != PTA_PLACED_DEBUG_EXIT) {
            continue;
        }
        if (dev->pio) {
            pta_aml_crs_io(&crs, (uint16_t)dev->base, (uint8_t)dev->size);
        } else {
            pta_aml_crs_memory(&crs, dev->base, dev->size);
        }
    }
    pta_aml_crs_end(&crs, aml);
    pta_aml_end(aml);
}

/* Linux: drivers/hv/vmbus_drv.c. */
static void add_vmbus(PtaAml *aml)
{
    pta_aml_device(aml, "VMBS");
    pta_aml_name_string(aml, "_HID", "VMBus");
    pta_aml_name_int(aml, "_UID", 0);
    pta_aml_name_string(aml, "_DDN", "VMBUS");
    pta_aml_name_int(aml, "_STA", 0xf);
    pta_aml_end(aml);
}

static GByteArray *build_dsdt(const PtaAcpiParams *params)
{
    GByteArray *dsdt = table_new("DSDT", 2, HDR_SIZE);
    PtaAml aml;
    pta_aml_init(&aml, dsdt);
    const PtaPlacedDevice *power = find_device(params, PTA_PLACED_POWER);
    if (power) {
        pta_aml_name(&aml, "_S5");
        pta_aml_package(&aml, 4);
        pta_aml_int(&aml, PTA_POWER_S5_TYPE);
        pta_aml_int(&aml, PTA_POWER_S5_TYPE);
        pta_aml_int(&aml, 0);
        pta_aml_int(&aml, 0);
        pta_aml_end(&aml);
    }
    pta_aml_scope(&aml, "_SB");
    add_processors(&aml, params->n_vps);
    for (size_t i = 0; i < params->n_devices; i++) {
        const PtaPlacedDevice *dev = &params->devices[i];
        switch (dev->kind) {
        case PTA_PLACED_UART16550:
            add_uart(&aml, dev);
            break;
        case PTA_PLACED_RTC_CMOS:
            add_rtc(&aml, dev);
            break;
        case PTA_PLACED_VIRTIO_MMIO:
            add_virtio(&aml, dev);
            break;
        case PTA_PLACED_POWER:
            add_power(&aml, dev);
            break;
        case PTA_PLACED_PVPANIC:
            add_pvpanic(&aml, dev);
            break;
        default: /* in the MADT, the FADT or the WDAT, or found by nobody */
            break;
        }
    }
    add_board(&aml, params);
    if (params->vmbus) {
        add_vmbus(&aml);
    }
    pta_aml_end(&aml);
    return dsdt;
}

/* ---- all of it ---- */

static void write_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + RSDP_OEM_ID, OEM_ID, 6);
    rsdp[RSDP_REVISION] = 2;
    pta_put_le32(rsdp + RSDP_LENGTH, RSDP_SIZE);
    pta_put_le64(rsdp + RSDP_XSDT, xsdt);
    rsdp[RSDP_CHECKSUM] = checksum(rsdp, RSDP_V1_SIZE);
    rsdp[RSDP_EXT_CHECKSUM] = checksum(rsdp, RSDP_SIZE);
}

GByteArray *pta_acpi_build(const PtaAcpiParams *params, uint64_t base, size_t max, GError **error)
{
    if (!check_params(params, error)) {
        return NULL;
    }
    g_autoptr(GByteArray) all = g_byte_array_new();
    g_byte_array_set_size(all, RSDP_SIZE);
    memset(all->data, 0, RSDP_SIZE);
    g_autoptr(GByteArray) dsdt = build_dsdt(params);
    uint64_t dsdt_gpa = base + append_table(all, dsdt);
    g_autoptr(GByteArray) fadt = build_fadt(params, dsdt_gpa);
    uint64_t fadt_gpa = base + append_table(all, fadt);
    g_autoptr(GByteArray) madt = build_madt(params);
    uint64_t madt_gpa = base + append_table(all, madt);
    const PtaPlacedDevice *watchdog = find_device(params, PTA_PLACED_WATCHDOG);
    g_autoptr(GByteArray) xsdt = table_new("XSDT", 1, HDR_SIZE + (watchdog ? 24 : 16));
    pta_put_le64(xsdt->data + HDR_SIZE, fadt_gpa);
    pta_put_le64(xsdt->data + HDR_SIZE + 8, madt_gpa);
    if (watchdog) {
        g_autoptr(GByteArray) wdat = build_wdat(watchdog);
        pta_put_le64(xsdt->data + HDR_SIZE + 16, base + append_table(all, wdat));
    }
    uint64_t xsdt_gpa = base + append_table(all, xsdt);
    write_rsdp(all->data, xsdt_gpa);
    if (all->len > max) {
        pta_throw(
            error, PTA_ERROR_BAD_DESCRIPTION,
            "ACPI: the tables of %u processors and %zu devices take %u bytes, expected at most "
            "%zu",
            params->n_vps, params->n_devices, all->len, max);
        return NULL;
    }
    return g_steal_pointer(&all);
}
