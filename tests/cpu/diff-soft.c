/*
 * The differential test: the software CPU. A guest of a few pages of tables, whose kernel is one
 * IRETQ to get to the instruction, and an OUT per exception vector to get away from it.
 */
#include "config.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "src/partition/backend.h"
#include "src/soft/fpu.h"
#include "src/soft/soft.h"
#include "tests/cpu/diff.h"

/* Guest-physical layout; the kernel sees it at KERNEL. */
enum {
    PML4 = 0x1000,
    PDPT_LOW = 0x2000,
    PD_LOW = 0x3000,
    PT_DATA = 0x4000,
    PT_CODE = 0x5000,
    PDPT_HIGH = 0x6000,
    PD_HIGH = 0x7000,
    GDT = 0x8000,
    IDT = 0x9000,
    ENTRIES = 0xa000,
    TSS = 0xb000,
    STACK = 0xd000,   /* grows down from here */
    PAGE_B = 0x10000, /* the second data page lies before the first */
    PAGE_A = 0x12000,
    CODE = 0x20000,
    RAM = 0x200000,
};
#define KERNEL   UINT64_C(0xffff800000000000)
#define IRET     (ENTRIES + 32 * 16)
#define P_USER   7 /* present, writable, user */
#define P_KERNEL 3
#define P_LARGE  0x80

static struct {
    PtaBackend *be;
    PtaBackendVp *vp;
    X86Cpu *cpu;
    uint8_t *ram;
    PtaCpuidTable cpuid;
    PtaPlatform platform;
    X86Decoder decoder;
    unsigned vector; /* set by the guest's OUT */
} soft;

/* ---- the platform: a port is a vector ---- */

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    return UINT64_MAX;
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    soft.vector = port;
    soft.be->ops->vp_kick(soft.vp);
}

static bool msr_read(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    return false;
}

static bool msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    return false;
}

static bool hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    return false;
}

static void eoi(void *opaque, uint8_t vector)
{
}

/* ---- the guest ---- */

static void put64(uint64_t gpa, uint64_t v)
{
    memcpy(soft.ram + gpa, &v, 8);
}

static void make_tables(void)
{
    put64(PML4, PDPT_LOW | P_USER);
    put64(PML4 + 256 * 8, PDPT_HIGH | P_KERNEL);
    put64(PDPT_HIGH, PD_HIGH | P_KERNEL);
    put64(PD_HIGH, P_KERNEL | P_LARGE);
    put64(PDPT_LOW, PD_LOW | P_USER);
    put64(PD_LOW + (DIFF_DATA >> 21) * 8, PT_DATA | P_USER);
    put64(PD_LOW + (DIFF_CODE >> 21) * 8, PT_CODE | P_USER);
    put64(PT_DATA, PAGE_A | P_USER);
    put64(PT_DATA + 8, PAGE_B | P_USER);
    for (unsigned i = 0; i < DIFF_BATCH * DIFF_SLOT / 4096; i++) {
        put64(PT_CODE + ((DIFF_CODE >> 12 & 511) + i) * 8, (CODE + i * 4096u) | P_USER);
    }
    /* The selectors that Linux gives its processes; the kernel's are ours. */
    put64(GDT + 0x10, UINT64_C(0x00af9b000000ffff));
    put64(GDT + 0x18, UINT64_C(0x00cf93000000ffff));
    put64(GDT + 0x20, UINT64_C(0x00cffb000000ffff));
    put64(GDT + 0x28, UINT64_C(0x00cff3000000ffff));
    put64(GDT + 0x30, UINT64_C(0x00affb000000ffff));
    put64(TSS + 4, KERNEL + STACK);
    soft.ram[TSS + 102] = 0x68; /* no I/O permission bitmap */
    for (unsigned i = 0; i < 32; i++) {
        const uint64_t entry = KERNEL + ENTRIES + i * 16;
        put64(IDT + i * 16, (entry & 0xffff) | 0x10 << 16 | UINT64_C(0xee00) << 32 |
                                (entry >> 16 & 0xffff) << 48);
        put64(IDT + i * 16 + 8, entry >> 32);
        soft.ram[ENTRIES + i * 16] = 0xe6; /* OUT i, AL; JMP to itself */
        soft.ram[ENTRIES + i * 16 + 1] = (uint8_t)i;
        soft.ram[ENTRIES + i * 16 + 2] = 0xeb;
        soft.ram[ENTRIES + i * 16 + 3] = 0xfe;
    }
    soft.ram[IRET] = 0x48;
    soft.ram[IRET + 1] = 0xcf;
}

static void make_state(PtaX86State *s)
{
    PtaX86Regs *r = &s->regs;
    pta_x86_state_reset(s, 0, 1);
    const PtaX86Segment data = { .limit = UINT32_MAX, .selector = 0x2b, .attrs = 0xc0f3 };
    r->cr0 =
        X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
    r->cr3 = PML4;
    r->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    r->efer = 0xd01; /* SCE, LME, LMA, NXE */
    r->seg[PTA_X86_CS] = (PtaX86Segment){ .limit = UINT32_MAX, .selector = 0x10, .attrs = 0xa09b };
    r->seg[PTA_X86_SS] = (PtaX86Segment){ .limit = UINT32_MAX, .selector = 0x18, .attrs = 0xc093 };
    r->seg[PTA_X86_DS] = r->seg[PTA_X86_ES] = data;
    r->seg[PTA_X86_FS] = r->seg[PTA_X86_GS] =
        (PtaX86Segment){ .limit = UINT32_MAX, .attrs = PTA_X86_SEG_UNUSABLE };
    r->tr =
        (PtaX86Segment){ .base = KERNEL + TSS, .limit = 0x67, .selector = 0x38, .attrs = 0x008b };
    r->gdtr = (PtaX86Table){ .base = KERNEL + GDT, .limit = 0x37 };
    r->idtr = (PtaX86Table){ .base = KERNEL + IDT, .limit = 0x1ff };
    r->rip = KERNEL + IRET;
    r->rflags = 2;
}

void diff_soft_start(uint64_t features)
{
    GError *error = NULL;
    PtaX86State *state = g_new0(PtaX86State, 1);
    const PtaBackendOps *ops = &pta_soft_backend;
    soft.platform = (PtaPlatform){ .mmio_read = mmio_read,
                                   .mmio_write = mmio_write,
                                   .pio_read = pio_read,
                                   .pio_write = pio_write,
                                   .msr_read = msr_read,
                                   .msr_write = msr_write,
                                   .hypercall = hypercall,
                                   .eoi = eoi };
    const PtaCpuidParams params = { .model = "x86-64-v1",
                                    .hypervisor = PTA_HYPERVISOR_NONE,
                                    .n_vps = 1,
                                    .tsc_hz = 1000000000,
                                    .apic_hz = 1000000000,
                                    .supported = ops->cpu_features() };
    if (!pta_cpuid_build(&soft.cpuid, &params, &error)) {
        g_error("%s", error->message);
    }
    soft.cpuid.features = features;
    x86_decoder_init(&soft.decoder, features);
    const PtaBackendParams be_params = { .n_vps = 1,
                                         .cpuid = &soft.cpuid,
                                         .platform = &soft.platform };
    soft.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(soft.ram != MAP_FAILED);
    make_tables();
    make_state(state);
    soft.be = ops->create(&be_params, &error);
    if (!soft.be ||
        !ops->map(soft.be, 0, RAM, soft.ram, PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC, &error) ||
        !(soft.vp = ops->vp_create(soft.be, 0, &error)) ||
        !ops->vp_set_state(soft.vp, state, &error)) {
        g_error("%s", error->message);
    }
    soft.cpu = ((X86Machine *)soft.be)->vps[0];
    g_free(state);
}

void diff_soft_stop(void)
{
    soft.be->ops->vp_destroy(soft.vp);
    soft.be->ops->destroy(soft.be);
    munmap(soft.ram, RAM);
}

const X86Decoder *diff_decoder(void)
{
    return &soft.decoder;
}

/* ---- a vector ---- */

static uint8_t *arena(void)
{
    return soft.ram + PAGE_A + 4096 - 512; /* its second half is at PAGE_B */
}

static void run_one(const DiffVector *v, DiffOutcome *out)
{
    X86Cpu *c = soft.cpu;
    PtaExit exit;
    /* Interrupts stay off: IF is not part of the test, and nothing is there to interrupt. */
    const uint64_t frame[5] = { v->in.rip, v->compat ? 0x23 : 0x33, v->in.rflags,
                                v->in.gpr[PTA_X86_RSP], 0x2b };
    memcpy(soft.ram + STACK - 256, frame, sizeof(frame));
    memcpy(arena(), v->in.arena, 512);
    memcpy(soft.ram + PAGE_B, v->in.arena + 512, 512);
    memcpy(soft.ram + PAGE_B + 4096 - DIFF_EDGE_LEN, v->in.edge, DIFF_EDGE_LEN);
    memcpy(c->gpr, v->in.gpr, sizeof(v->in.gpr));
    c->gpr[PTA_X86_RSP] = KERNEL + STACK - 256;
    c->rip = KERNEL + IRET;
    x86_fxrstor_image(c, v->in.fx, true, true, 16);
    soft.vector = UINT_MAX;
    do {
        soft.be->ops->vp_run(soft.vp, &exit);
    } while (exit.reason == PTA_EXIT_INTERRUPTED && soft.vector == UINT_MAX);
    if (exit.reason != PTA_EXIT_INTERRUPTED) {
        g_error("the software CPU ended with reason %d at %" PRIx64 " (%s)", exit.reason, c->rip,
                exit.reason == PTA_EXIT_INTERNAL_ERROR ? exit.error.text : "");
    }
    uint64_t top[6];
    const uint64_t rsp = c->gpr[PTA_X86_RSP];
    const bool has_error = rsp == KERNEL + STACK - 48;
    memcpy(top, soft.ram + STACK - 48, sizeof(top));
    out->vector = soft.vector;
    out->error = has_error ? (uint32_t)top[0] : 0;
    out->cr2 = soft.vector == X86_PFV ? c->cr2 : 0;
    memcpy(out->state.gpr, c->gpr, sizeof(out->state.gpr));
    out->state.rip = top[1];
    out->state.rflags = top[3];
    out->state.gpr[PTA_X86_RSP] = top[4];
    if (soft.vector == X86_BP) { /* what stands behind every vector */
        out->vector = DIFF_NO_FAULT;
        out->state.rip--;
    }
    memset(out->state.fx, 0, 512);
    x86_fxsave_image(c, out->state.fx, true, 16);
    memcpy(out->state.arena, arena(), 512);
    memcpy(out->state.arena + 512, soft.ram + PAGE_B, 512);
    memcpy(out->state.edge, soft.ram + PAGE_B + 4096 - DIFF_EDGE_LEN, DIFF_EDGE_LEN);
}

void diff_soft_run(const DiffVector *v, DiffOutcome *out, unsigned n)
{
    memset(soft.ram + CODE, 0xcc, (size_t)DIFF_BATCH * DIFF_SLOT);
    for (unsigned i = 0; i < n; i++) {
        memcpy(soft.ram + CODE + (v[i].in.rip - DIFF_CODE), v[i].code, v[i].len);
    }
    soft.be->ops->host_wrote(soft.be, CODE, (uint64_t)DIFF_BATCH * DIFF_SLOT);
    for (unsigned i = 0; i < n; i++) {
        run_one(&v[i], &out[i]);
    }
}
