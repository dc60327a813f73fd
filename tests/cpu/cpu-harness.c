#include "config.h"

#include "tests/cpu/cpu-harness.h"

#include <string.h>
#include <sys/mman.h>

#define PORT_END    0xf4
#define PORT_VECTOR 0x80

static uint64_t mmio_read(void *opaque, uint64_t gpa, unsigned size)
{
    CpuHarness *h = opaque;
    h->mmio_reads++;
    return h->mmio_value;
}

static void mmio_write(void *opaque, uint64_t gpa, unsigned size, uint64_t value)
{
    CpuHarness *h = opaque;
    h->mmio_writes++;
    h->mmio_value = value;
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}

static uint64_t ram_load(const CpuHarness *h, uint64_t gpa, unsigned size)
{
    uint64_t v = 0;
    if (gpa < h->ram_size && size <= h->ram_size - gpa) {
        memcpy(&v, h->ram + gpa, size);
    }
    return v;
}

/* The frame of the exception whose stub has run. */
static void note_exception(CpuHarness *h)
{
    unsigned size = h->bits / 8;
    uint64_t sp = h->c ? h->c->gpr[PTA_X86_RSP] : cpu_harness_load(h)->regs.gpr[PTA_X86_RSP];
    uint64_t at = h->bits == 64 ? sp : h->bits == 32 ? (uint32_t)sp : (uint16_t)sp;
    bool has_error = h->bits > 16 && (0x27d00 >> h->vector & 1);
    h->error = 0;
    if (has_error) {
        h->error = (uint32_t)ram_load(h, at, 4);
        at += size;
    }
    h->fault_rip = ram_load(h, at, size);
    h->fault_rflags = ram_load(h, at + 2 * size, size);
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    CpuHarness *h = opaque;
    if (port == PORT_END) {
        h->vector = CPU_END;
    } else if (port >= PORT_VECTOR && port < PORT_VECTOR + 32) {
        h->vector = port - PORT_VECTOR;
    } else {
        return;
    }
    h->be->ops->vp_kick(h->vp);
}

static bool no_msr_read(void *opaque, unsigned vp, uint32_t msr, uint64_t *value)
{
    return false;
}

static bool no_msr_write(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    return false;
}

static bool no_hypercall(void *opaque, unsigned vp, PtaX86Regs *regs)
{
    return false;
}

static void no_eoi(void *opaque, uint8_t vector)
{
}

static void put(CpuHarness *h, uint64_t gpa, uint64_t value, unsigned size)
{
    memcpy(h->ram + gpa, &value, size);
}

static void make_tables(CpuHarness *h)
{
    put(h, CPU_GDT + CPU_CS64, UINT64_C(0x00af9b000000ffff), 8);
    put(h, CPU_GDT + CPU_DS, UINT64_C(0x00cf93000000ffff), 8);
    put(h, CPU_GDT + CPU_CS32, UINT64_C(0x00cf9b000000ffff), 8);
    for (unsigned i = 0; i < 32; i++) {
        uint64_t stub = CPU_STUBS + i * 16;
        const uint8_t code[] = { 0xe6, (uint8_t)(PORT_VECTOR + i), 0xf4 };
        memcpy(h->ram + stub, code, sizeof(code));
        if (h->bits == 64) {
            put(h, CPU_IDT + i * 16, stub | CPU_CS64 << 16 | UINT64_C(0x8e00) << 32, 8);
            put(h, CPU_IDT + i * 16 + 8, 0, 8);
        } else if (h->bits == 32) {
            put(h, CPU_IDT + i * 8, stub | CPU_CS32 << 16 | UINT64_C(0x8e00) << 32, 8);
        } else {
            put(h, CPU_IDT + i * 4, stub, 4);
        }
    }
    if (h->bits == 64) { /* the first GiB, in pages of 2 MiB */
        put(h, CPU_PML4, CPU_PDPT | 7, 8);
        put(h, CPU_PDPT, CPU_PD | 7, 8);
        put(h, CPU_PDPT + 8, CPU_MMIO_PD | 7, 8);
        put(h, CPU_MMIO_PD + (CPU_MMIO >> 21 & 511) * 8, CPU_MMIO | 0xe7, 8);
        for (unsigned i = 0; i < 512; i++) {
            put(h, CPU_PD + i * 8, (uint64_t)i << 21 | 0x87, 8);
        }
    }
}

void cpu_harness_reset(CpuHarness *h)
{
    PtaX86State state;
    pta_x86_state_reset(&state, 0, 1);
    PtaX86Regs *r = &state.regs;
    memset(r->gpr, 0, sizeof(r->gpr));
    r->gpr[PTA_X86_RSP] = CPU_STACK;
    r->rflags = 2;
    r->gdtr = (PtaX86Table){ .base = CPU_GDT, .limit = 0x1f };
    r->idtr = (PtaX86Table){ .base = CPU_IDT, .limit = 0xfff };
    r->cr0 = X86_CR0_ET | X86_CR0_NE;
    r->cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    r->rip = CPU_CODE;
    if (h->bits == 16) {
        for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
            uint16_t sel = i == PTA_X86_CS   ? CPU_CODE >> 4
                           : i == PTA_X86_SS ? 0
                                             : CPU_REAL_DATA >> 4;
            r->seg[i] = (PtaX86Segment){ .base = (uint64_t)sel << 4,
                                         .limit = 0xffff,
                                         .selector = sel,
                                         .attrs = i == PTA_X86_CS ? 0x9b : 0x93 };
        }
        r->rip = 0;
    } else {
        uint16_t cs = h->bits == 64 ? CPU_CS64 : CPU_CS32;
        for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
            r->seg[i] = (PtaX86Segment){ .limit = UINT32_MAX, .selector = CPU_DS, .attrs = 0xc093 };
        }
        r->seg[PTA_X86_CS] = (PtaX86Segment){
            .limit = UINT32_MAX,
            .selector = cs,
            .attrs = h->bits == 64 ? 0xa09b : 0xc09b,
        };
        r->cr0 |= X86_CR0_PE;
    }
    if (h->bits == 64) {
        r->cr0 |= X86_CR0_PG | X86_CR0_WP;
        r->cr4 |= X86_CR4_PAE;
        r->cr3 = CPU_PML4;
        r->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
    }
    g_autoptr(GError) error = NULL;
    if (!h->be->ops->vp_set_state(h->vp, &state, &error)) {
        g_error("cpu-harness: %s", error->message);
    }
}

PtaX86State *cpu_harness_load(CpuHarness *h)
{
    h->be->ops->vp_get_state(h->vp, h->state);
    return h->state;
}

void cpu_harness_store(CpuHarness *h)
{
    g_autoptr(GError) error = NULL;
    if (!h->be->ops->vp_set_state(h->vp, h->state, &error)) {
        g_error("cpu-harness: %s", error->message);
    }
}

static void make_cpuid(CpuHarness *h, const PtaBackendOps *ops)
{
    g_autoptr(GError) error = NULL;
    bool soft = ops == &pta_soft_backend;
    PtaX86Identity identity;
    PtaCpuidParams params = { .model = "x86-64-v1",
                              .n_vps = 1,
                              .tsc_hz = 1000000000,
                              .apic_hz = 1000000000,
                              .hypervisor = PTA_HYPERVISOR_NONE,
                              .supported = soft ? UINT64_MAX : ops->cpu_features() };
    if (ops->cpu_identity) {
        ops->cpu_identity(PTA_HYPERVISOR_NONE, &identity);
        params.identity = &identity;
    }
    if (!pta_cpuid_build(&h->cpuid, &params, &error)) {
        g_error("cpu-harness: %s", error->message);
    }
    if (soft) {
        h->cpuid.features = UINT64_MAX; /* all that the engine knows, whatever the models offer */
    }
}

static CpuHarness *new (const PtaBackendOps *ops, unsigned bits, uint64_t ram_size, bool stepping)
{
    g_autoptr(GError) error = NULL;
    CpuHarness *h = g_new0(CpuHarness, 1);
    h->bits = bits;
    h->ram_size = ram_size;
    h->platform = (PtaPlatform){
        .opaque = h,
        .mmio_read = mmio_read,
        .mmio_write = mmio_write,
        .pio_read = pio_read,
        .pio_write = pio_write,
        .msr_read = no_msr_read,
        .msr_write = no_msr_write,
        .hypercall = no_hypercall,
        .eoi = no_eoi,
    };
    h->state = g_new0(PtaX86State, 1);
    make_cpuid(h, ops);
    h->ram = mmap(NULL, ram_size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(h->ram != MAP_FAILED);
    make_tables(h);
    PtaBackendParams be = {
        .n_vps = 1,
        .cpuid = &h->cpuid,
        .platform = &h->platform,
        .hypervisor = PTA_HYPERVISOR_NONE,
        .stepping = stepping,
        .stepper = ops == &pta_soft_backend ? NULL : &pta_soft_backend,
    };
    h->be = ops->create(&be, &error);
    if (!h->be) {
        g_error("cpu-harness: %s", error->message);
    }
    if (!h->be->ops->map(h->be, 0, ram_size, h->ram, PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC,
                         &error)) {
        g_error("cpu-harness: %s", error->message);
    }
    h->vp = h->be->ops->vp_create(h->be, 0, &error);
    if (!h->vp) {
        g_error("cpu-harness: %s", error->message);
    }
    h->c = ops == &pta_soft_backend ? ((X86Machine *)h->be)->vps[0] : NULL;
    if (!stepping) {
        h->be->ops->clock_start(h->be);
    }
    cpu_harness_reset(h);
    return h;
}

CpuHarness *cpu_harness_new(unsigned bits, uint64_t ram_size)
{
    return new (&pta_soft_backend, bits, ram_size, false);
}

CpuHarness *cpu_harness_new_stepper(unsigned bits, uint64_t ram_size)
{
    return new (&pta_soft_backend, bits, ram_size, true);
}

CpuHarness *cpu_harness_new_on(const PtaBackendOps *ops, unsigned bits, uint64_t ram_size)
{
    return new (ops, bits, ram_size, false);
}

static void wrote(CpuHarness *h, uint64_t gpa, uint64_t len)
{
    if (h->be->ops->host_wrote) {
        h->be->ops->host_wrote(h->be, gpa, len);
    }
}

void cpu_harness_clear(CpuHarness *h)
{
    madvise(h->ram, h->ram_size, MADV_DONTNEED);
    make_tables(h);
    wrote(h, 0, h->ram_size);
    cpu_harness_reset(h);
}

void cpu_harness_free(CpuHarness *h)
{
    h->be->ops->vp_destroy(h->vp);
    h->be->ops->destroy(h->be);
    munmap(h->ram, h->ram_size);
    g_free(h->state);
    g_free(h);
}

void cpu_harness_code(CpuHarness *h, unsigned offset, const void *code, size_t len)
{
    static const uint8_t end[] = { 0xe6, PORT_END };
    memcpy(h->ram + CPU_CODE + offset, code, len);
    memcpy(h->ram + CPU_CODE + offset + len, end, sizeof(end));
    wrote(h, CPU_CODE + offset, len + sizeof(end));
    uint64_t rip = (h->bits == 16 ? 0 : CPU_CODE) + offset;
    if (h->c) {
        h->c->rip = rip;
    } else {
        cpu_harness_load(h)->regs.rip = rip;
        cpu_harness_store(h);
    }
}

int cpu_harness_run(CpuHarness *h)
{
    h->vector = CPU_STOPPED;
    h->be->ops->vp_run(h->vp, &h->exit);
    if (h->vector >= 0) {
        note_exception(h);
    }
    return h->vector;
}
