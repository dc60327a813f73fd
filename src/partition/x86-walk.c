/* SDM vol. 3, 4.3 to 4.5: 32-bit, PAE and 4-level paging, permissions left out. Any thread. */
#include "config.h"

#include "src/partition/x86-walk.h"

#define CR0_PG   (UINT64_C(1) << 31)
#define CR4_PSE  (UINT64_C(1) << 4)
#define CR4_PAE  (UINT64_C(1) << 5)
#define EFER_LMA (UINT64_C(1) << 10)
#define PTE_P    UINT64_C(1)
#define PTE_PS   (UINT64_C(1) << 7)
#define PTE_ADDR UINT64_C(0x000ffffffffff000)

static bool walk_32(const PtaMemory *mem, const PtaX86Regs *regs, uint32_t lin, uint64_t *gpa)
{
    uint32_t pde, pte;
    if (pta_memory_load_u32(mem, (regs->cr3 & 0xfffff000) + (lin >> 22) * 4, &pde) != PTA_MEM_OK ||
        !(pde & PTE_P)) {
        return false;
    }
    if (pde & PTE_PS && regs->cr4 & CR4_PSE) {
        uint64_t high = (uint64_t)(pde >> 13 & 0xff) << 32; /* PSE-36 */
        *gpa = high | (pde & 0xffc00000) | (lin & 0x3fffff);
        return true;
    }
    if (pta_memory_load_u32(mem, (pde & 0xfffff000) + (lin >> 12 & 0x3ff) * 4, &pte) !=
            PTA_MEM_OK ||
        !(pte & PTE_P)) {
        return false;
    }
    *gpa = (pte & 0xfffff000) | (lin & 0xfff);
    return true;
}

/* PAE is the lower three levels of long mode, with a table of four entries on top. */
static bool walk_64(const PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, uint64_t *gpa)
{
    bool lma = regs->efer & EFER_LMA;
    uint64_t table = lma ? regs->cr3 & PTE_ADDR : regs->cr3 & 0xffffffe0;
    for (int level = lma ? 3 : 2; level >= 0; level--) {
        unsigned shift = 12 + 9 * (unsigned)level;
        uint64_t entry;
        if (pta_memory_load_u64(mem, table + (lin >> shift & 0x1ff) * 8, &entry) != PTA_MEM_OK ||
            !(entry & PTE_P)) {
            return false;
        }
        bool top_of_pae = !lma && level == 2;
        if (level == 0 || (entry & PTE_PS && level < 3 && !top_of_pae)) {
            uint64_t mask = (UINT64_C(1) << shift) - 1;
            *gpa = (entry & PTE_ADDR & ~mask) | (lin & mask);
            return true;
        }
        table = entry & PTE_ADDR;
    }
    return false;
}

bool pta_x86_translate(const PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, uint64_t *gpa)
{
    if (!(regs->efer & EFER_LMA)) {
        lin = (uint32_t)lin;
    }
    if (!(regs->cr0 & CR0_PG)) {
        *gpa = lin;
        return true;
    }
    return regs->cr4 & CR4_PAE ? walk_64(mem, regs, lin, gpa)
                               : walk_32(mem, regs, (uint32_t)lin, gpa);
}

size_t pta_x86_read_linear(const PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, void *buf,
                           size_t len)
{
    size_t done = 0;
    while (done < len) {
        uint64_t gpa;
        size_t n = MIN(len - done, PTA_PAGE_SIZE - (lin & ~PTA_PAGE_MASK));
        if (!pta_x86_translate(mem, regs, lin, &gpa) ||
            pta_memory_read(mem, gpa, (uint8_t *)buf + done, n) != PTA_MEM_OK) {
            break;
        }
        done += n;
        lin += n;
    }
    return done;
}

size_t pta_x86_write_linear(PtaMemory *mem, const PtaX86Regs *regs, uint64_t lin, const void *buf,
                            size_t len)
{
    size_t done = 0;
    while (done < len) {
        uint64_t gpa;
        size_t n = MIN(len - done, PTA_PAGE_SIZE - (lin & ~PTA_PAGE_MASK));
        if (!pta_x86_translate(mem, regs, lin, &gpa) ||
            pta_memory_write(mem, gpa, (const uint8_t *)buf + done, n) != PTA_MEM_OK) {
            break;
        }
        done += n;
        lin += n;
    }
    return done;
}
