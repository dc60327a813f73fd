/*
 * Writes what src/boot/ renders from the fixture's table of devices into a folder, for iasl and dtc
 * to judge: dsdt.aml, facp.aml, apic.aml, xsdt.aml, the same with a VMBus as
 * vmbus-dsdt.aml and so on, machine.dtb. Usage: dump-tables FOLDER
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "src/boot/acpi.h"
#include "src/boot/fdt.h"
#include "tests/lib/boot-fixture.h"

static void save(const char *folder, const char *name, const uint8_t *data, size_t len)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autoptr(GError) error = NULL;
    g_file_set_contents(path, (const char *)data, (gssize)len, &error);
    g_assert_no_error(error);
}

static void save_tables(const char *folder, const char *prefix, const GByteArray *all)
{
    /* The tables follow the RSDP on 16-byte boundaries. */
    size_t at = 48;
    while (at + 36 <= all->len) {
        const uint8_t *table = all->data + at;
        uint32_t len = pta_le32(table + 4);
        g_autofree char *signature = g_ascii_strdown((const char *)table, 4);
        g_autofree char *name = g_strconcat(prefix, signature, ".aml", NULL);
        save(folder, name, table, len);
        at = pta_align_up(at + len, 16);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: dump-tables FOLDER\n");
        return 2;
    }
    g_autoptr(GError) error = NULL;
    PtaAcpiParams acpi = {
        .devices = fixture_devices, .n_devices = fixture_n_devices, .n_vps = 4, .ioapic_id = 4
    };
    g_autoptr(GByteArray) tables = pta_acpi_build(&acpi, 0xe0000, 0x20000, &error);
    g_assert_no_error(error);
    save_tables(argv[1], "", tables);
    acpi.vmbus = true;
    g_autoptr(GByteArray) with_vmbus = pta_acpi_build(&acpi, 0xe0000, 0x20000, &error);
    g_assert_no_error(error);
    save_tables(argv[1], "vmbus-", with_vmbus);

    const PtaRamRange ram[] = { { 0, 0x8000000 }, { UINT64_C(0x100000000), 0x4000000 } };
    const PtaFdtParams fdt = { .ram = ram,
                               .n_ram = G_N_ELEMENTS(ram),
                               .n_vps = 4,
                               .cmdline = "console=ttyS0",
                               .initrd_gpa = 0x7000000,
                               .initrd_size = 0x1000,
                               .devices = fixture_devices,
                               .n_devices = fixture_n_devices };
    g_autoptr(GByteArray) blob = pta_fdt_build(&fdt, 65536, &error);
    g_assert_no_error(error);
    save(argv[1], "machine.dtb", blob->data, blob->len);
    return 0;
}
