/*
 * A kernel image of any kind: setup header and packed payload of a bzImage, ELF headers and notes,
 * multiboot headers. It is loaded or refused with an error of the class that blames the file; and
 * what was loaded starts in guest RAM.
 */
#include "config.h"

#include "src/boot/boot.h"

#define RAM (32 * PTA_MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static PtaMemory *mem;
    if (!mem) {
        const PtaRamRange range = { 0, RAM };
        mem = pta_memory_new(&range, 1, NULL);
        g_assert(mem != NULL);
    }
    const PtaBootParams params = { .kernel_path = "fuzz", .cmdline = "quiet", .n_vps = 1 };
    g_autoptr(GError) error = NULL;
    PtaX86State bsp;
    pta_x86_state_reset(&bsp, 0, 1);
    if (pta_boot_load_image(mem, &params, data, size, &bsp, &error)) {
        g_assert(error == NULL);
        g_assert(bsp.regs.rip < RAM);
    } else {
        g_assert(error->domain == PTA_ERROR);
        /* The line that is too long for this kernel is the description's fault. */
        g_assert(error->code == PTA_ERROR_BAD_IMAGE || error->code == PTA_ERROR_BAD_DESCRIPTION);
    }
    return 0;
}
