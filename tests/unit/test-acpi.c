/*
 * The ACPI tables, walked as a kernel does: signatures, lengths, checksums, and that the MADT and
 * the FADT say what the table of devices says. What the DSDT means is for iasl to judge
 * (tests/boot/test-acpi-iasl.sh); here it must at least hold together.
 */
#include "config.h"

#include "src/boot/acpi.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "devices/power.h"
#include "devices/watchdog.h"
#include "src/boot/aml.h"
#include "tests/lib/boot-fixture.h"

#define BASE UINT64_C(0xe0000)

static PtaAcpiParams default_params(void)
{
    return (PtaAcpiParams){
        .devices = fixture_devices, .n_devices = fixture_n_devices, .n_vps = 3, .ioapic_id = 3
    };
}

static GByteArray *build(const PtaAcpiParams *params)
{
    g_autoptr(GError) error = NULL;
    GByteArray *all = pta_acpi_build(params, BASE, 0x20000, &error);
    if (error) {
        fail_msg("%s", error->message);
    }
    return all;
}

static unsigned sum(const uint8_t *p, size_t n)
{
    unsigned s = 0;
    for (size_t i = 0; i < n; i++) {
        s += p[i];
    }
    return s & 0xff;
}

/* The table at a guest-physical address, checked. */
static const uint8_t *table_at(const GByteArray *all, uint64_t gpa, const char *signature)
{
    assert_true(gpa >= BASE && gpa - BASE + 36 <= all->len);
    assert_int_equal(gpa % 16, 0);
    const uint8_t *t = all->data + (gpa - BASE);
    assert_memory_equal(t, signature, 4);
    uint32_t len = pta_le32(t + 4);
    assert_true(len >= 36 && gpa - BASE + len <= all->len);
    assert_int_equal(sum(t, len), 0);
    return t;
}

static const uint8_t *find_table(const GByteArray *all, const char *signature)
{
    const uint8_t *rsdp = all->data;
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    assert_int_equal(rsdp[15], 2);
    const uint8_t *xsdt = table_at(all, pta_le64(rsdp + 24), "XSDT");
    if (strcmp(signature, "DSDT") == 0) {
        const uint8_t *fadt = find_table(all, "FACP");
        assert_int_equal(pta_le32(fadt + 40), pta_le64(fadt + 140));
        return table_at(all, pta_le64(fadt + 140), "DSDT");
    }
    for (uint32_t at = 36; at < pta_le32(xsdt + 4); at += 8) {
        uint64_t gpa = pta_le64(xsdt + at);
        if (memcmp(all->data + (gpa - BASE), signature, 4) == 0) {
            return table_at(all, gpa, signature);
        }
    }
    fail_msg("no table %s", signature);
    return NULL;
}

/* The nth entry of a type, or NULL. */
static const uint8_t *madt_entry(const uint8_t *madt, uint8_t type, unsigned n)
{
    uint32_t len = pta_le32(madt + 4);
    uint32_t at = 44;
    while (at < len) {
        assert_true(madt[at + 1] >= 2 && at + madt[at + 1] <= len);
        if (madt[at] == type && n-- == 0) {
            return madt + at;
        }
        at += madt[at + 1];
    }
    assert_int_equal(at, len);
    return NULL;
}

static void madt_lists_processors_and_ioapic(void **unused)
{
    PtaAcpiParams params = default_params();
    g_autoptr(GByteArray) all = build(&params);
    const uint8_t *madt = find_table(all, "APIC");
    assert_int_equal(pta_le32(madt + 36), 0xfee00000);
    assert_int_equal(pta_le32(madt + 40), 0); /* no 8259s */
    for (uint8_t i = 0; i < 3; i++) {
        const uint8_t *e = madt_entry(madt, 0, i);
        assert_int_equal(e[2], i);
        assert_int_equal(e[3], i);
        assert_int_equal(pta_le32(e + 4), 1);
    }
    assert_null(madt_entry(madt, 0, 3));
    const uint8_t *ioapic = madt_entry(madt, 1, 0);
    assert_int_equal(ioapic[2], 3);
    assert_int_equal(pta_le32(ioapic + 4), 0xfec00000);
    assert_int_equal(pta_le32(ioapic + 8), 0);
    /* The one level-triggered device has interrupt 6. */
    const uint8_t *override = madt_entry(madt, 2, 0);
    assert_int_equal(override[3], 6);
    assert_int_equal(pta_le32(override + 4), 6);
    assert_int_equal(pta_le16(override + 8), 0x0d);
    assert_null(madt_entry(madt, 2, 1));
    assert_int_equal(madt_entry(madt, 4, 0)[5], 1);
}

static void many_processors_have_x2apic_entries(void **unused)
{
    PtaAcpiParams params = default_params();
    params.n_vps = 300;
    g_autoptr(GByteArray) all = build(&params);
    const uint8_t *madt = find_table(all, "APIC");
    assert_int_equal(madt_entry(madt, 0, 254)[3], 254);
    assert_null(madt_entry(madt, 0, 255));
    assert_int_equal(pta_le32(madt_entry(madt, 9, 0) + 4), 255);
    assert_int_equal(pta_le32(madt_entry(madt, 9, 44) + 4), 299);
    assert_null(madt_entry(madt, 9, 45));
    assert_non_null(madt_entry(madt, 10, 0));
}

static void assert_register(const uint8_t *gas, uint64_t address)
{
    assert_int_equal(gas[0], 1); /* I/O ports */
    assert_int_equal(gas[1], 8);
    assert_int_equal(pta_le64(gas + 4), address);
}

static void fadt_is_hardware_reduced(void **unused)
{
    PtaAcpiParams params = default_params();
    g_autoptr(GByteArray) all = build(&params);
    const uint8_t *fadt = find_table(all, "FACP");
    assert_int_equal(pta_le32(fadt + 4), 276);
    assert_int_equal(fadt[8], 6);
    uint32_t flags = pta_le32(fadt + 112);
    assert_true(flags & 1u << 20); /* HW_REDUCED_ACPI */
    assert_true(flags & 1u << 10); /* RESET_REG_SUP */
    assert_true(flags & 1u << 4);  /* no fixed power button */
    assert_register(fadt + 116, PTA_POWER_PIO_BASE + PTA_POWER_RESET_REG);
    assert_int_equal(fadt[128], PTA_POWER_RESET_VALUE);
    assert_register(fadt + 244, PTA_POWER_PIO_BASE + PTA_POWER_SLEEP_CONTROL);
    assert_register(fadt + 256, PTA_POWER_PIO_BASE + PTA_POWER_SLEEP_STATUS);
    assert_int_equal(pta_le16(fadt + 109) & 0x23, 0); /* no ISA, no 8042, but an RTC */

    params.n_devices = 1; /* the I/O APIC alone */
    g_autoptr(GByteArray) bare = build(&params);
    fadt = find_table(bare, "FACP");
    assert_int_equal(pta_le32(fadt + 112) & 1u << 10, 0);
    assert_int_equal(pta_le16(fadt + 109) & 0x20, 0x20); /* no RTC */
}

static bool dsdt_has(const GByteArray *all, const void *bytes, size_t n)
{
    const uint8_t *dsdt = find_table(all, "DSDT");
    return memmem(dsdt, pta_le32(dsdt + 4), bytes, n) != NULL;
}

static void dsdt_names_the_devices(void **unused)
{
    PtaAcpiParams params = default_params();
    g_autoptr(GByteArray) all = build(&params);
    static const char *const names[] = { "C000", "C002", "COM1", "COM2", "RTC_", "PWRB",    "GED_",
                                         "V000", "V001", "V002", "_S5_", "BRD_", "LNRO0005" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        assert_true(dsdt_has(all, names[i], strlen(names[i])));
    }
    assert_false(dsdt_has(all, "C003", 4));
    assert_false(dsdt_has(all, "V003", 4));
    assert_false(dsdt_has(all, "VMBus", 5));
    /* Memory32Fixed of V001, and its edge-triggered interrupt 16 right behind. */
    static const uint8_t v001[] = { 0x86, 9,    0, 1, 0x00, 0x10, 0x00, 0xd0, 0, 0x10, 0,
                                    0,    0x89, 6, 0, 3,    1,    16,   0,    0, 0,    0x79 };
    assert_true(dsdt_has(all, v001, sizeof(v001)));
    params.vmbus = true;
    g_autoptr(GByteArray) with_vmbus = build(&params);
    assert_true(dsdt_has(with_vmbus, "VMBus", 6));
}

/* The entry of an action; each is there once. */
static const uint8_t *wdat_entry(const uint8_t *wdat, uint8_t action)
{
    const uint8_t *found = NULL;
    for (uint32_t i = 0; i < pta_le32(wdat + 64); i++) {
        const uint8_t *e = wdat + 68 + 24 * i;
        if (e[0] == action) {
            assert_null(found);
            found = e;
        }
    }
    assert_non_null(found);
    return found;
}

static void wdat_describes_the_watchdog(void **unused)
{
    static const struct {
        uint8_t action, instruction;
        uint32_t reg, value, mask;
    } want[] = {
        { 1, 2, PTA_WATCHDOG_RELOAD, 1, 1 },     { 4, 1, PTA_WATCHDOG_LEFT, 0, 0xffff },
        { 5, 1, PTA_WATCHDOG_COUNT, 0, 0xffff }, { 6, 3, PTA_WATCHDOG_COUNT, 0, 0xffff },
        { 8, 0, PTA_WATCHDOG_CONTROL, 1, 1 },    { 9, 2, PTA_WATCHDOG_CONTROL, 1, 1 },
        { 10, 0, PTA_WATCHDOG_CONTROL, 0, 1 },   { 11, 2, PTA_WATCHDOG_CONTROL, 0, 1 },
        { 16, 0, PTA_WATCHDOG_EXPIRY, 0, 1 },    { 17, 2, PTA_WATCHDOG_EXPIRY, 0, 1 },
        { 18, 0, PTA_WATCHDOG_EXPIRY, 1, 1 },    { 19, 2, PTA_WATCHDOG_EXPIRY, 1, 1 },
        { 32, 0, PTA_WATCHDOG_STATUS, 1, 1 },    { 33, 2, PTA_WATCHDOG_STATUS, 1, 1 },
    };
    PtaAcpiParams params = default_params();
    g_autoptr(GByteArray) all = build(&params);
    const uint8_t *wdat = find_table(all, "WDAT");
    assert_int_equal(pta_le32(wdat + 36), 32);
    static const uint8_t no_pci[] = { 0xff, 0, 0xff, 0xff, 0xff, 0, 0, 0 };
    assert_memory_equal(wdat + 40, no_pci, sizeof(no_pci));
    assert_int_equal(pta_le32(wdat + 48), PTA_WATCHDOG_PERIOD_MS);
    assert_int_equal(pta_le32(wdat + 52), PTA_WATCHDOG_COUNT_MAX);
    assert_int_equal(pta_le32(wdat + 56), PTA_WATCHDOG_COUNT_MIN);
    assert_int_equal(pta_le32(wdat + 60), 1); /* enabled, runs on in sleep */
    assert_int_equal(pta_le32(wdat + 64), G_N_ELEMENTS(want));
    assert_int_equal(pta_le32(wdat + 4), 68 + 24 * G_N_ELEMENTS(want));
    for (size_t i = 0; i < G_N_ELEMENTS(want); i++) {
        const uint8_t *e = wdat_entry(wdat, want[i].action);
        assert_int_equal(e[1], want[i].instruction);
        assert_int_equal(pta_le16(e + 2), 0);
        static const uint8_t memory_dword[] = { 0, 32, 0, 3 };
        assert_memory_equal(e + 4, memory_dword, sizeof(memory_dword));
        assert_int_equal(pta_le64(e + 8), 0xd0003000 + want[i].reg);
        assert_int_equal(pta_le32(e + 16), want[i].value);
        assert_int_equal(pta_le32(e + 20), want[i].mask);
    }
    /* Its registers are not the board's: Linux could reserve them for one only. */
    static const uint8_t window[] = { 0x86, 9, 0, 1, 0x00, 0x30, 0x00, 0xd0 };
    assert_false(dsdt_has(all, window, sizeof(window)));

    params.n_devices--; /* without it, the last one */
    g_autoptr(GByteArray) bare = build(&params);
    assert_null(memmem(bare->data, bare->len, "WDAT", 4));
    const uint8_t *xsdt = bare->data + (pta_le64(bare->data + 24) - BASE);
    assert_int_equal(pta_le32(xsdt + 4), 36 + 16);
}

static void what_cannot_be_described_is_refused(void **unused)
{
    PtaAcpiParams params = default_params();
    g_autoptr(GError) error = NULL;
    assert_null(pta_acpi_build(&params, BASE, 500, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
    assert_non_null(strstr(error->message, "expected at most 500"));
    g_clear_error(&error);
    params.n_vps = 0;
    assert_null(pta_acpi_build(&params, BASE, 0x20000, &error));
    assert_non_null(strstr(error->message, "0 virtual processors"));
    g_clear_error(&error);
    const PtaPlacedDevice port = { PTA_PLACED_UART16550, "u", true, 0x10000, 8, 4, false, 0 };
    params = (PtaAcpiParams){ .devices = &port, .n_devices = 1, .n_vps = 1 };
    assert_null(pta_acpi_build(&params, BASE, 0x20000, &error));
    assert_non_null(strstr(error->message, "expected at most 0xff below 0x10000"));
    g_clear_error(&error);
    const PtaPlacedDevice late = {
        PTA_PLACED_VIRTIO_MMIO, "v", false, 0xd0000000, 0x1000, 5, false, 1000
    };
    params.devices = &late;
    assert_null(pta_acpi_build(&params, BASE, 0x20000, &error));
    assert_non_null(strstr(error->message, "number 1000 of its kind"));
}

/* Each size of a block's length, at its borders (ACPI 6.4, 20.2.4). */
static void block_lengths_are_encoded(void **unused)
{
    static const struct {
        size_t body; /* of the string, its NUL included */
        uint8_t bytes[4];
        unsigned n;
    } cases[] = {
        /* If (string): the length counts itself, the prefix byte and the string. */
        { 61, { 0x3f }, 1 },
        { 62, { 0x41, 0x04 }, 2 },
        { 0xffc, { 0x4f, 0xff }, 2 },
        { 0xffd, { 0x81, 0x00, 0x01 }, 3 },
        { 0xffffb, { 0x8f, 0xff, 0xff }, 3 },
        { 0xffffc, { 0xc1, 0x00, 0x00, 0x01 }, 4 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autofree char *text = g_strnfill(cases[i].body - 1, 'x');
        PtaAml aml;
        pta_aml_init(&aml, out);
        pta_aml_if(&aml);
        pta_aml_string(&aml, text);
        pta_aml_end(&aml);
        assert_int_equal(out->data[0], 0xa0);
        assert_memory_equal(out->data + 1, cases[i].bytes, cases[i].n);
        assert_int_equal(out->data[1 + cases[i].n], 0x0d);
        assert_int_equal(out->len, 1 + cases[i].n + 1 + cases[i].body);
    }
}

static void integers_and_ids_are_encoded(void **unused)
{
    static const struct {
        uint64_t value;
        uint8_t bytes[9];
        unsigned n;
    } cases[] = {
        { 0, { 0x00 }, 1 },
        { 1, { 0x01 }, 1 },
        { 2, { 0x0a, 2 }, 2 },
        { 0xff, { 0x0a, 0xff }, 2 },
        { 0x100, { 0x0b, 0, 1 }, 3 },
        { 0xffff, { 0x0b, 0xff, 0xff }, 3 },
        { 0x10000, { 0x0c, 0, 0, 1, 0 }, 5 },
        { UINT64_C(1) << 32, { 0x0e, 0, 0, 0, 0, 1, 0, 0, 0 }, 9 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        PtaAml aml;
        pta_aml_init(&aml, out);
        pta_aml_int(&aml, cases[i].value);
        assert_int_equal(out->len, cases[i].n);
        assert_memory_equal(out->data, cases[i].bytes, cases[i].n);
    }
    g_autoptr(GByteArray) out = g_byte_array_new();
    PtaAml aml;
    pta_aml_init(&aml, out);
    pta_aml_eisaid(&aml, "PNP0501");
    static const uint8_t pnp0501[] = { 0x0c, 0x41, 0xd0, 0x05, 0x01 };
    assert_memory_equal(out->data, pnp0501, sizeof(pnp0501));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(madt_lists_processors_and_ioapic),
        cmocka_unit_test(many_processors_have_x2apic_entries),
        cmocka_unit_test(fadt_is_hardware_reduced),
        cmocka_unit_test(dsdt_names_the_devices),
        cmocka_unit_test(wdat_describes_the_watchdog),
        cmocka_unit_test(what_cannot_be_described_is_refused),
        cmocka_unit_test(block_lengths_are_encoded),
        cmocka_unit_test(integers_and_ids_are_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
