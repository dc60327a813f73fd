/* A stock Linux kernel, the bzImage that tests/lib/guest-files.sh fetched into .cache/ or that
 * PTA_TEST_KERNEL names, goes through the loader. */
#include "config.h"

#include "src/boot/boot.h"

#include "tests/lib/cmocka-all.h"

#include <stdio.h>
#include <string.h>

#include "src/boot/layout.h"
#include "tests/lib/boot-fixture.h"

static char *kernel_path;

static void stock_kernel_loads(void **unused)
{
    g_autoptr(PtaMemory) mem = fixture_ram(512 * PTA_MIB);
    g_autoptr(GError) error = NULL;
    PtaX86State bsp;
    pta_x86_state_reset(&bsp, 0, 1);
    PtaBootParams params = {
        .kernel_path = kernel_path,
        .cmdline = "console=ttyS0",
        .devices = fixture_devices,
        .n_devices = fixture_n_devices,
        .n_vps = 1,
    };
    int64_t start = g_get_monotonic_time();
    bool ok = pta_boot_load(mem, &params, &bsp, &error);
    print_message("loaded in %.1f ms\n", (double)(g_get_monotonic_time() - start) / 1e3);
    if (error) {
        fail_msg("%s", error->message);
    }
    assert_true(ok);
    /* Linked at CONFIG_PHYSICAL_START, which is 16 MiB in all distributions. */
    assert_int_equal(bsp.regs.rip, 0x1000000);
    uint8_t code[16], zero[16] = { 0 };
    assert_int_equal(pta_memory_read(mem, bsp.regs.rip, code, sizeof(code)), PTA_MEM_OK);
    assert_memory_not_equal(code, zero, sizeof(code));
    /* linux_banner, in .rodata of each vmlinux. */
    static const char banner[] = "Linux version ";
    g_autofree uint8_t *kernel = g_malloc(64 * PTA_MIB);
    assert_int_equal(pta_memory_read(mem, 0x1000000, kernel, 64 * PTA_MIB), PTA_MEM_OK);
    assert_non_null(memmem(kernel, 64 * PTA_MIB, banner, strlen(banner)));
}

int main(void)
{
    const char *named = g_getenv("PTA_TEST_KERNEL"), *top = g_getenv("abs_srcdir");
    kernel_path =
        named ? g_strdup(named) : g_build_filename(top ? top : ".", ".cache/guest/vmlinuz", NULL);
    if (!g_file_test(kernel_path, G_FILE_TEST_EXISTS)) {
        puts("1..0 # SKIP there is no stock kernel (tests/lib/guest-files.sh .cache fetches one)");
        g_free(kernel_path);
        return 0;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(stock_kernel_loads) };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    g_free(kernel_path);
    return failed;
}
