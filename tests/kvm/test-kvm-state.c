/*
 * A VP's state under KVM: to the kernel and back, bit for bit, and to the software CPU and back; what may
 * not be is refused; timers stand still while the clock does. On any /dev/kvm: the real one, and one
 * that interprets.
 */
#include "config.h"

#include "src/kvm/kvm.h"
#include "src/partition/x86-state-check.h"

#include "tests/kvm/state-gen.h"
#include "tests/lib/cmocka-all.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define N_VPS    2
#define N_RANDOM 400
#define CLOCK_NS UINT64_C(0x123456789ab)

#define MS       UINT64_C(1000000)

/* The APIC's registers, by offset / 16. */
enum { REG_IRR = 0x20, REG_LVT_TIMER = 0x32, REG_ICOUNT = 0x38, REG_CCOUNT = 0x39, REG_DCR = 0x3e };

#define VECTOR       0x61
#define LVT_PERIODIC (1u << 17)
#define LVT_DEADLINE (2u << 17)

/* ---- machines ---- */

typedef struct Machine {
    const PtaBackendOps *ops;
    PtaBackend *be;
    PtaBackendVp *vps[N_VPS];
    PtaPlatform platform;
} Machine;

static PtaCpuidTable cpuid; /* what both back ends have */
static PtaX86Identity identity;

static void must(bool ok, GError *error)
{
    if (!ok) {
        print_error("%s\n", error ? error->message : "no error");
    }
    assert_true(ok);
}

static Machine *machine_of(const PtaBackendOps *ops, const PtaCpuidTable *table)
{
    g_autoptr(GError) error = NULL;
    Machine *m = g_new0(Machine, 1);
    m->ops = ops;
    PtaBackendParams params = { .n_vps = N_VPS, .cpuid = table, .platform = &m->platform };
    m->be = ops->create(&params, &error);
    must(m->be != NULL, error);
    for (unsigned i = 0; i < N_VPS; i++) {
        m->vps[i] = ops->vp_create(m->be, i, &error);
        must(m->vps[i] != NULL, error);
    }
    return m;
}

static Machine *machine_new(const PtaBackendOps *ops)
{
    return machine_of(ops, &cpuid);
}

static void machine_free(Machine *m)
{
    for (unsigned i = 0; i < N_VPS; i++) {
        m->ops->vp_destroy(m->vps[i]);
    }
    m->ops->destroy(m->be);
    g_free(m);
}

static void set(Machine *m, unsigned vp, const PtaX86State *state)
{
    g_autoptr(GError) error = NULL;
    must(m->ops->vp_set_state(m->vps[vp], state, &error), error);
}

static void get(Machine *m, unsigned vp, PtaX86State *state)
{
    memset(state, 0xa5, sizeof(*state));
    m->ops->vp_get_state(m->vps[vp], state);
}

static void same(const char *what, const PtaX86State *a, const PtaX86State *b)
{
    g_autofree char *diff = state_diff(a, b);
    if (diff) {
        fail_msg("%s: %s", what, diff);
    }
}

static uint32_t reg(const PtaX86State *s, unsigned index)
{
    uint32_t v;
    memcpy(&v, s->lapic.page + (size_t)index * 16, sizeof(v));
    return GUINT32_FROM_LE(v);
}

static void put_reg(PtaX86State *s, unsigned index, uint32_t value)
{
    memcpy(s->lapic.page + (size_t)index * 16, &(uint32_t){ GUINT32_TO_LE(value) }, 4);
}

static bool in_irr(const PtaX86State *s, unsigned vector)
{
    return reg(s, REG_IRR + (vector >> 5)) >> (vector & 31) & 1;
}

static bool amd(void)
{
    return strcmp(identity.vendor, "GenuineIntel") != 0;
}

/* SVM has one bit for both shadows. */
static bool is_svm(void)
{
    return g_file_test("/sys/module/kvm_amd", G_FILE_TEST_IS_DIR);
}

/* Neither VMX nor SVM: paging in long mode only, no virtual-8086 mode, and the host's TSC, whatever is set. */
static bool is_pvm(void)
{
    return g_file_test("/sys/module/kvm_pvm", G_FILE_TEST_IS_DIR);
}

static bool is_beyond_pvm(const PtaX86State *s)
{
    return is_pvm() &&
           (((s->regs.cr0 & 0x80000000) && !(s->regs.efer & 0x400)) || (s->regs.rflags & 0x20000));
}

/* ---- round trips ---- */

static void reset_state_comes_back(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend), *soft = machine_new(&pta_soft_backend);
    PtaX86State reset, s, k, k2;
    for (unsigned vp = 0; vp < N_VPS; vp++) {
        pta_x86_state_reset(&reset, vp, vp == 0);
        get(kvm, vp, &k);
        get(soft, vp, &s);
        same("reset, soft and kvm", &s, &k);
        set(kvm, vp, &reset);
        get(kvm, vp, &k2);
        same("reset, as made and as set", &k, &k2);
    }
    machine_free(kvm);
    machine_free(soft);
}

/* Both have a clock of their own for deadlines: what is derived from them differs. */
static void without_deadline_expiry(PtaX86State *s)
{
    if ((reg(s, REG_LVT_TIMER) & 3u << 17) == LVT_DEADLINE) {
        s->lapic.timer_expiry_ns = 0;
    }
}

static void random_states_come_back(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend), *soft = machine_new(&pta_soft_backend);
    Machine *other = machine_new(&pta_kvm_backend);
    const char *seed = getenv("PTA_SEED");
    StateGen g = { .seed = seed ? strtoull(seed, NULL, 0) : 1,
                   .cpuid = &cpuid,
                   .clock_ns = CLOCK_NS,
                   .narrow_sysenter = amd() };
    PtaX86State in, s, k, k2;
    kvm->ops->clock_set(kvm->be, CLOCK_NS);
    soft->ops->clock_set(soft->be, CLOCK_NS);
    other->ops->clock_set(other->be, CLOCK_NS);
    for (unsigned i = 0; i < N_RANDOM; i++) {
        g_autofree char *name = g_strdup_printf("state %u", i);
        unsigned vp = g.vp = i % N_VPS;
        state_gen(&g, &in);
        set(soft, vp, &in);
        get(soft, vp, &s);
        if (is_beyond_pvm(&s)) {
            assert_false(kvm->ops->vp_set_state(kvm->vps[vp], &s, NULL));
            continue;
        }
        set(kvm, vp, &s);
        get(kvm, vp, &k);
        set(other, vp, &k);
        get(other, vp, &k2);
        same(name, &k, &k2);
        without_deadline_expiry(&s);
        without_deadline_expiry(&k);
        same(name, &s, &k);
        set(soft, vp, &k2);
        get(soft, vp, &s);
        without_deadline_expiry(&s);
        same(name, &k, &s);
    }
    machine_free(kvm);
    machine_free(soft);
    machine_free(other);
}

/* All features of the host: AVX, PCID and whatever else the software CPU may lack. */
static void states_of_the_host_come_back(void **unused)
{
    (void)unused;
    for (PtaHypervisorKind kind = PTA_HYPERVISOR_HYPERV; kind <= PTA_HYPERVISOR_KVM; kind++) {
        PtaX86Identity id;
        PtaCpuidTable t;
        PtaX86State in, a, b;
        g_autoptr(GError) error = NULL;
        pta_kvm_backend.cpu_identity(kind, &id);
        PtaCpuidParams p = { .model = "host",
                             .hypervisor = kind,
                             .n_vps = N_VPS,
                             .tsc_hz = pta_kvm_backend.tsc_hz(NULL),
                             .apic_hz = 1000000000,
                             .supported = pta_kvm_backend.cpu_features(),
                             .identity = &id };
        must(pta_cpuid_build(&t, &p, &error), error);
        Machine *one = machine_of(&pta_kvm_backend, &t), *two = machine_of(&pta_kvm_backend, &t);
        StateGen g = { .seed = 2,
                       .cpuid = &t,
                       .clock_ns = CLOCK_NS,
                       .narrow_sysenter = strcmp(id.vendor, "GenuineIntel") != 0 };
        one->ops->clock_set(one->be, CLOCK_NS);
        two->ops->clock_set(two->be, CLOCK_NS);
        for (unsigned i = 0; i < N_RANDOM; i++) {
            g_autofree char *name = g_strdup_printf("%s, state %u", id.vendor, i);
            unsigned vp = g.vp = i % N_VPS;
            state_gen(&g, &in);
            if (is_beyond_pvm(&in)) {
                continue;
            }
            set(one, vp, &in);
            get(one, vp, &a);
            set(two, vp, &a);
            get(two, vp, &b);
            same(name, &a, &b);
            without_deadline_expiry(&in);
            without_deadline_expiry(&a);
            same(name, &in, &a);
        }
        machine_free(one);
        machine_free(two);
    }
}

/* By the frequency of this host's TSC. */
static void deadlines_are_converted(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    uint64_t hz = kvm->ops->tsc_hz(kvm->be);
    PtaX86State s, k;
    kvm->ops->clock_set(kvm->be, CLOCK_NS);
    pta_x86_state_reset(&s, 0, 1);
    put_reg(&s, REG_LVT_TIMER, LVT_DEADLINE | VECTOR);
    s.tsc = UINT64_C(1) << 40;
    s.msrs.tsc_deadline = s.tsc + hz * 5;
    set(kvm, 0, &s);
    get(kvm, 0, &k);
    assert_int_equal(k.msrs.tsc_deadline, s.msrs.tsc_deadline);
    assert_int_equal(k.lapic.timer_expiry_ns, CLOCK_NS + 5000 * MS);
    s.msrs.tsc_deadline = s.tsc - hz / 100;
    set(kvm, 0, &s);
    get(kvm, 0, &k);
    assert_int_equal(k.lapic.timer_expiry_ns / 1000, (CLOCK_NS - 10 * MS) / 1000);
    machine_free(kvm);
}

/* ---- hostile states ---- */

/* What the kernel makes of a state: the fields that are not kept as they were given. */
static void as_documented(PtaX86State *s, unsigned vp)
{
    PtaX86Regs *r = &s->regs;
    r->cr0 |= 1u << 4;
    r->cr8 = reg(s, 0x08) >> 4; /* the page's TPR decides */
    s->debug.dr6 |= UINT64_C(0xffff0ff0);
    s->debug.dr7 |= 0x400;
    memset(r->gdtr.reserved, 0, sizeof(r->gdtr.reserved));
    memset(r->idtr.reserved, 0, sizeof(r->idtr.reserved));
    s->events.sipi_vector = 0;
    if (!s->events.exception_pending) {
        s->events.vector = s->events.has_error_code = 0;
    }
    if (!s->events.has_error_code) {
        s->events.error_code = 0;
    }
    s->events.interrupt_shadow =
        s->events.interrupt_shadow & 2 || (is_svm() && s->events.interrupt_shadow)
            ? 2
            : s->events.interrupt_shadow;
    if (amd()) {
        s->msrs.sysenter_esp &= UINT32_MAX;
        s->msrs.sysenter_eip &= UINT32_MAX;
    }
    (void)vp;
}

static void segment_as_documented(PtaX86Segment *s, unsigned kind)
{
    enum { DATA, CODE, TASK, LDT };
    if (s->attrs & PTA_X86_SEG_UNUSABLE || !(s->attrs & 0x80)) {
        s->attrs = PTA_X86_SEG_UNUSABLE | (s->attrs & 0x60);
        return;
    }
    if (kind == CODE) {
        s->attrs &= (uint16_t) ~(1u << 13); /* L, outside long mode */
    }
    if (is_svm()) {
        s->attrs = (uint16_t)((s->attrs & 0x7fff) | (s->limit > 0xfffff ? 1u << 15 : 0));
        s->attrs |= kind == TASK ? 2 : kind == DATA ? 1 : 0;
    }
}

static void segments_as_documented(PtaX86Regs *r)
{
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        segment_as_documented(&r->seg[i], i == PTA_X86_CS ? 1 : i == PTA_X86_SS ? 3 : 0);
    }
    segment_as_documented(&r->tr, 2);
    segment_as_documented(&r->ldtr, 3);
}

/* Only registers that the APIC has, and only bits that they have; the rest is derived. */
static void lapic_as_documented(PtaX86State *s)
{
    static const uint8_t kept[] = { 0x02, 0x03, 0x08, 0x0a, 0x0d, 0x0e, 0x0f, 0x28, 0x30, 0x31,
                                    0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3e };
    PtaX86State was = *s;
    uint32_t mode = reg(s, REG_LVT_TIMER) & 3u << 17;
    memset(s->lapic.page, 0, sizeof(s->lapic.page));
    for (unsigned i = 0; i < 24; i++) {
        put_reg(s, 0x10 + i, reg(&was, 0x10 + i));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        put_reg(s, kept[i], reg(&was, kept[i]));
    }
    put_reg(s, 0x03, 0x01050014);
    bool x2 = s->msrs.apic_base & 0x400;
    put_reg(s, 0x0d, x2 ? 1 : reg(&was, 0x0d) & 0xff000000);
    put_reg(s, 0x28, reg(&was, 0x28) & 0xff);
    put_reg(s, 0x30, reg(&was, 0x30) & 0xccfff);
    put_reg(s, 0x31, reg(&was, 0x31) & (x2 ? UINT32_MAX : 0xff000000));
    uint32_t in_service = 0;
    for (unsigned i = 0; i < 256; i++) {
        in_service = reg(&was, 0x10 + i / 32) >> (i & 31) & 1 ? i & 0xf0 : in_service;
    }
    uint32_t tpr = reg(&was, 0x08);
    put_reg(s, 0x0a, (tpr & 0xf0) >= in_service ? tpr : in_service);
    bool counts = mode == 0 || mode == LVT_PERIODIC;
    uint32_t icount = counts ? reg(&was, REG_ICOUNT) : 0;
    put_reg(s, REG_ICOUNT, icount);
    if (mode != LVT_DEADLINE) {
        s->msrs.tsc_deadline = 0;
    }
    if (icount == 0) {
        s->lapic.timer_expiry_ns = 0;
    }
    static const uint8_t shifts[] = { 1, 2, 3, 4, 5, 6, 7, 0 };
    uint32_t dcr = reg(&was, REG_DCR);
    uint64_t left = s->lapic.timer_expiry_ns > CLOCK_NS ? s->lapic.timer_expiry_ns - CLOCK_NS : 0;
    put_reg(s, REG_CCOUNT, (uint32_t)(left >> shifts[(dcr & 3) | (dcr >> 1 & 4)]));
}

static void xsave_as_documented(PtaX86State *s)
{
    uint8_t *a = s->xsave.area;
    bool avx = pta_cpuid_has(&cpuid, PTA_X86_FEAT_AVX);
    size_t end = avx ? 832 : 576;
    memcpy(a + 28, "\xff\xff\0", 4);
    for (unsigned i = 0; i < 8; i++) {
        memset(a + 42 + (size_t)16 * i, 0, 6);
    }
    memset(a + 416, 0, 576 - 416);
    a[512] = avx ? 7 : 3;
    memset(a + end, 0, sizeof(s->xsave.area) - end);
}

typedef struct Hostile {
    Machine *m;
    const PtaX86State *base;
    unsigned n_refused, n_taken;
} Hostile;

static void try_value(Hostile *h, const char *path, size_t offset, const void *value, size_t size)
{
    g_autoptr(GError) error = NULL;
    PtaX86State in = *h->base, out;
    memcpy((uint8_t *)&in + offset, value, size);
    if (!h->m->ops->vp_set_state(h->m->vps[0], &in, &error)) {
        if (!g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT) && !is_beyond_pvm(&in)) {
            fail_msg("%s: refused with \"%s\"", path, error->message);
        }
        h->n_refused++;
        set(h->m, 0, h->base);
        return;
    }
    h->n_taken++;
    get(h->m, 0, &out);
    as_documented(&in, 0);
    segments_as_documented(&in.regs);
    lapic_as_documented(&in);
    xsave_as_documented(&in);
    without_deadline_expiry(&in);
    without_deadline_expiry(&out);
    same(path, &in, &out);
}

static void try_field(void *opaque, const char *path, size_t offset, size_t size)
{
    static const uint64_t values[] = { 0,
                                       1,
                                       2,
                                       3,
                                       4,
                                       0xff,
                                       0x100,
                                       0x1000,
                                       0x8000,
                                       0xffff,
                                       0x10000,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       UINT64_C(0x100000000),
                                       UINT64_C(0x800000000000),
                                       UINT64_C(0xffff800000000000),
                                       UINT64_C(0x8000000000000000),
                                       UINT64_C(0xfffffffffffff000),
                                       UINT64_MAX };
    size_t width = size > 8 ? 4 : size;
    /* Of the extended part of the FPU's area one piece says as much as all. */
    for (size_t at = 0; at < MIN(size, 1024); at += width) {
        for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
            uint64_t value = GUINT64_TO_LE(values[i]);
            if (width == 8 || values[i] >> (width * 8) == 0) {
                try_value(opaque, path, offset + at, &value, width);
            }
        }
        for (unsigned bit = 0; width <= 8 && size <= 8 && bit < width * 8; bit++) {
            uint64_t flipped = 0;
            memcpy(&flipped, (const uint8_t *)((Hostile *)opaque)->base + offset, width);
            flipped ^= GUINT64_TO_LE(UINT64_C(1) << bit);
            try_value(opaque, path, offset, &flipped, width);
        }
    }
}

static void hostile_states_are_refused(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State base;
    kvm->ops->clock_set(kvm->be, CLOCK_NS);
    get(kvm, 0, &base);
    Hostile h = { .m = kvm, .base = &base };
    state_each_field(try_field, &h);
    print_message("# %u refused, %u taken\n", h.n_refused, h.n_taken);
    assert_true(h.n_refused > 1000 && h.n_taken > 1000);
    machine_free(kvm);
}

/* ---- time ---- */

typedef struct Runner {
    Machine *m;
    PtaExit exit;
} Runner;

static gpointer run_vp(gpointer data)
{
    Runner *r = data;
    r->m->ops->vp_run(r->m->vps[0], &r->exit);
    return NULL;
}

/* VP 0 in HLT with interrupts off: timers work, and nothing is executed. */
static void run_for(Machine *m, uint64_t ns)
{
    Runner r = { .m = m };
    m->ops->clock_start(m->be);
    GThread *thread = g_thread_new("vp0", run_vp, &r);
    g_usleep(ns / 1000);
    m->ops->vp_kick(m->vps[0]);
    g_thread_join(thread);
    m->ops->clock_stop(m->be);
    assert_int_equal(r.exit.reason, PTA_EXIT_INTERRUPTED);
}

/* Until the timer's interrupt is there; a host that has much to do may let the VP wait. */
static void run_until_irq(Machine *m, uint64_t ns, PtaX86State *s)
{
    for (unsigned i = 0; i < 100; i++) {
        run_for(m, i == 0 ? ns : 20 * MS);
        get(m, 0, s);
        if (in_irr(s, VECTOR)) {
            return;
        }
    }
    fail_msg("the timer's interrupt does not come");
}

static void halted(Machine *m, PtaX86State *s)
{
    m->ops->clock_set(m->be, CLOCK_NS);
    pta_x86_state_reset(s, 0, 1);
    s->events.activity = PTA_X86_HALTED;
    s->tsc = UINT64_C(1) << 40;
    put_reg(s, 0x0f, 0x1ff); /* SVR: on */
    put_reg(s, REG_DCR, 0xb);
    put_reg(s, REG_LVT_TIMER, VECTOR);
}

static void one_shot_timers_stand_still(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a, b;
    halted(kvm, &s);
    put_reg(&s, REG_ICOUNT, 1200 * MS);
    s.lapic.timer_expiry_ns = CLOCK_NS + 1000 * MS;
    set(kvm, 0, &s);
    run_for(kvm, 20 * MS);
    get(kvm, 0, &a);
    uint64_t clock = kvm->ops->clock_ns(kvm->be);
    assert_true(clock >= CLOCK_NS + 20 * MS && clock < CLOCK_NS + 500 * MS);
    assert_false(in_irr(&a, VECTOR));
    /* Give or take what a busy host makes this thread wait between clock and timer. */
    assert_in_range(a.lapic.timer_expiry_ns, CLOCK_NS + 800 * MS, CLOCK_NS + 1200 * MS);
    assert_int_equal(reg(&a, REG_ICOUNT), 1200 * MS);
    assert_int_equal(reg(&a, REG_CCOUNT), a.lapic.timer_expiry_ns - clock);
    assert_int_equal(a.events.activity, PTA_X86_HALTED);
    g_usleep(1100 * 1000);
    get(kvm, 0, &b);
    same("while the clock stands still", &a, &b);
    set(kvm, 0, &b);
    get(kvm, 0, &b);
    same("set again", &a, &b);
    run_for(kvm, 20 * MS);
    get(kvm, 0, &b);
    assert_false(in_irr(&b, VECTOR));
    run_until_irq(kvm, 1000 * MS, &b);
    assert_int_equal(reg(&b, REG_CCOUNT), 0);
    assert_int_equal(reg(&b, REG_ICOUNT), 1200 * MS);
    assert_int_equal(b.lapic.timer_expiry_ns, 0);
    machine_free(kvm);
}

/* As far as 64 bits go. */
static void far_timers_do_not_come_at_once(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    for (unsigned i = 0; i < 128; i += 127) {
        halted(kvm, &s);
        put_reg(&s, REG_ICOUNT, UINT32_MAX);
        put_reg(&s, REG_DCR, 0xa); /* by 128 */
        s.lapic.timer_expiry_ns = UINT64_MAX - i;
        set(kvm, 0, &s);
        run_for(kvm, 20 * MS);
        get(kvm, 0, &a);
        assert_false(in_irr(&a, VECTOR));
    }
    /* KVM itself takes no more than two hours of a deadline: (ticks * 1000000) has 64 bits. */
    halted(kvm, &s);
    put_reg(&s, REG_LVT_TIMER, LVT_DEADLINE | VECTOR);
    s.msrs.tsc_deadline = s.tsc + kvm->ops->tsc_hz(kvm->be) * 3600;
    set(kvm, 0, &s);
    run_for(kvm, 20 * MS);
    get(kvm, 0, &a);
    assert_false(in_irr(&a, VECTOR));
    machine_free(kvm);
}

static void expired_one_shot_timers_stay_so(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    halted(kvm, &s);
    put_reg(&s, REG_ICOUNT, 1000);
    set(kvm, 0, &s);
    for (unsigned i = 0; i < 3; i++) {
        run_for(kvm, 20 * MS);
        get(kvm, 0, &a);
        assert_false(in_irr(&a, VECTOR));
        assert_int_equal(reg(&a, REG_ICOUNT), 1000);
        assert_int_equal(a.lapic.timer_expiry_ns, 0);
        set(kvm, 0, &a);
    }
    machine_free(kvm);
}

/* The VP has come out, and then its timer expires: nobody but the kernel knows. */
static void timers_that_expire_outside_are_not_lost(void **unused)
{
    static const uint32_t modes[] = { 0, LVT_PERIODIC };
    (void)unused;
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        Machine *kvm = machine_new(&pta_kvm_backend);
        PtaX86State s, a;
        halted(kvm, &s);
        put_reg(&s, REG_LVT_TIMER, VECTOR | modes[i]);
        put_reg(&s, REG_ICOUNT, 700 * MS);
        s.lapic.timer_expiry_ns = CLOCK_NS + 600 * MS;
        set(kvm, 0, &s);
        Runner r = { .m = kvm };
        kvm->ops->clock_start(kvm->be);
        GThread *thread = g_thread_new("vp0", run_vp, &r);
        g_usleep(10 * 1000);
        kvm->ops->vp_kick(kvm->vps[0]);
        g_thread_join(thread);
        bool early = kvm->ops->clock_ns(kvm->be) < CLOCK_NS + 600 * MS;
        while (kvm->ops->clock_ns(kvm->be) < CLOCK_NS + 650 * MS) {
            g_usleep(10 * 1000);
        }
        kvm->ops->clock_stop(kvm->be);
        get(kvm, 0, &a);
        assert_true(in_irr(&a, VECTOR));
        assert_int_equal(a.events.activity, PTA_X86_HALTED);
        assert_int_equal(a.regs.rip, s.regs.rip);
        assert_true((a.lapic.timer_expiry_ns != 0) == (modes[i] == LVT_PERIODIC));
        if (!early) {
            print_message("# this host is slow: nothing was put off\n");
        }
        machine_free(kvm);
    }
}

static struct {
    PtaKvmIoctlFn *host;
    Machine *m;
    unsigned runs, eois;
} put_off;

/* VP 1 was told to leave between a guest's EOI and what the kernel does about it. */
static int eoi_put_off(int fd, unsigned long request, void *arg)
{
    KvmVp *vp = kvm_vp_of(put_off.m->vps[1]);
    if (request != KVM_RUN || fd != vp->fd) {
        return put_off.host(fd, request, arg);
    }
    if (put_off.runs++ > 0) {
        errno = EINTR;
        return -1;
    }
    vp->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
    vp->run->eoi.vector = 0x51;
    return 0;
}

static void on_eoi(void *opaque, uint8_t vector)
{
    (void)opaque;
    put_off.eois += vector == 0x51;
    put_off.m->ops->msi(put_off.m->be, 0xfee00000, 0x73); /* the line is still up */
}

/* While interrupts are held for VP 0, whose timer is being stopped. */
static void an_eoi_that_was_put_off_may_send(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    put_off.m = kvm;
    put_off.host = pta_kvm_ioctl_hook;
    put_off.runs = put_off.eois = 0;
    kvm->platform.eoi = on_eoi;
    halted(kvm, &s);
    put_reg(&s, REG_ICOUNT, 1000000 * 1000);
    s.lapic.timer_expiry_ns = CLOCK_NS + 1000 * MS;
    set(kvm, 0, &s);
    pta_x86_state_reset(&s, 1, true);
    s.events.activity = PTA_X86_HALTED;
    put_reg(&s, 0x0f, 0x1ff);
    put_reg(&s, REG_DCR, 0xb);
    put_reg(&s, REG_LVT_TIMER, VECTOR);
    put_reg(&s, REG_ICOUNT, MS);
    s.lapic.timer_expiry_ns = CLOCK_NS + MS;
    set(kvm, 1, &s);
    kvm->ops->clock_start(kvm->be);
    g_usleep(30 * 1000);
    pta_kvm_ioctl_hook = eoi_put_off;
    alarm(60);
    kvm->ops->clock_stop(kvm->be);
    alarm(0);
    pta_kvm_ioctl_hook = put_off.host;
    assert_int_equal(put_off.eois, 1);
    get(kvm, 0, &a);
    assert_true(in_irr(&a, 0x73));
    machine_free(kvm);
}

/* Over three stops. */
static bool phase_is_kept(Machine *kvm)
{
    PtaX86State s, a;
    const uint64_t period = 400 * MS;
    halted(kvm, &s);
    put_reg(&s, REG_LVT_TIMER, LVT_PERIODIC | VECTOR);
    put_reg(&s, REG_ICOUNT, (uint32_t)period);
    s.lapic.timer_expiry_ns = CLOCK_NS + 150 * MS;
    set(kvm, 0, &s);
    bool kept = true;
    for (unsigned i = 0; i < 3; i++) {
        run_until_irq(kvm, 500 * MS, &a);
        uint64_t phase = (a.lapic.timer_expiry_ns - CLOCK_NS - 150 * MS) % period;
        assert_true(a.lapic.timer_expiry_ns > kvm->ops->clock_ns(kvm->be));
        kept = kept && (phase < 40 * MS || phase > period - 40 * MS);
    }
    return kept;
}

/* A host that has much to do may let this thread wait just between clock and timer; not always. */
static void periodic_timers_keep_their_phase(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    bool kept = false;
    for (unsigned i = 0; i < 5 && !kept; i++) {
        kept = phase_is_kept(kvm);
    }
    assert_true(kept);
    machine_free(kvm);
}

static void deadlines_stand_still(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    uint64_t hz = kvm->ops->tsc_hz(kvm->be);
    PtaX86State s, a, b;
    halted(kvm, &s);
    put_reg(&s, REG_LVT_TIMER, LVT_DEADLINE | VECTOR);
    s.msrs.tsc_deadline = s.tsc + hz;
    set(kvm, 0, &s);
    run_for(kvm, 20 * MS);
    get(kvm, 0, &a);
    assert_false(in_irr(&a, VECTOR));
    assert_true(is_pvm() || a.msrs.tsc_deadline == s.msrs.tsc_deadline);
    assert_true(is_pvm() || (a.tsc > s.tsc + hz / 50 && a.tsc < s.tsc + hz / 2));
    g_usleep(1100 * 1000);
    get(kvm, 0, &b);
    same("while the clock stands still", &a, &b);
    run_for(kvm, 20 * MS);
    get(kvm, 0, &b);
    assert_false(in_irr(&b, VECTOR));
    run_until_irq(kvm, 1000 * MS, &b);
    assert_int_equal(b.msrs.tsc_deadline, 0);
    assert_int_equal(b.lapic.timer_expiry_ns, 0);
    /* One of which the time has passed, and nobody has been told: it is due. */
    halted(kvm, &s);
    put_reg(&s, REG_LVT_TIMER, LVT_DEADLINE | VECTOR);
    s.msrs.tsc_deadline = s.tsc - 1;
    set(kvm, 0, &s);
    run_until_irq(kvm, 20 * MS, &b);
    /* And none stays armed when a state without one is set. */
    s.msrs.tsc_deadline = s.tsc + hz / 50;
    set(kvm, 0, &s);
    s.msrs.tsc_deadline = 0;
    set(kvm, 0, &s);
    run_for(kvm, 60 * MS);
    get(kvm, 0, &b);
    assert_false(in_irr(&b, VECTOR));
    machine_free(kvm);
}

/* TSC_ADJUST is kept beside the TSC and does not move it. */
static void tsc_is_what_was_set(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    uint64_t hz = kvm->ops->tsc_hz(kvm->be);
    PtaX86State s, a;
    halted(kvm, &s);
    s.tsc = UINT64_C(1) << 44;
    s.msrs.tsc_adjust = UINT64_C(1) << 41;
    set(kvm, 0, &s);
    run_for(kvm, 20 * MS);
    get(kvm, 0, &a);
    assert_int_equal(a.msrs.tsc_adjust, s.msrs.tsc_adjust);
    assert_true(is_pvm() || (a.tsc > s.tsc + hz / 50 && a.tsc < s.tsc + hz));
    /* While the clock runs as well. */
    kvm->ops->clock_start(kvm->be);
    s.tsc = UINT64_C(1) << 50;
    set(kvm, 0, &s);
    uint64_t tsc = kvm->ops->vp_tsc(kvm->vps[0]);
    assert_true(is_pvm() || (tsc >= s.tsc && tsc < s.tsc + 2 * hz));
    kvm->ops->clock_stop(kvm->be);
    machine_free(kvm);
}

/* ---- what the kernel has in hand ---- */

static void what_waits_is_saved(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    halted(kvm, &s);
    set(kvm, 0, &s);
    kvm->ops->nmi(kvm->be, 0);
    kvm->ops->msi(kvm->be, 0xfee00000, 0x73);
    get(kvm, 0, &a);
    assert_int_equal(a.events.nmi_pending, 1);
    assert_true(in_irr(&a, 0x73));
    set(kvm, 0, &s);
    get(kvm, 0, &a);
    assert_int_equal(a.events.nmi_pending, 0);
    assert_false(in_irr(&a, 0x73));
    kvm->ops->nmi(kvm->be, 0);
    set(kvm, 0, &s);
    get(kvm, 0, &a);
    assert_int_equal(a.events.nmi_pending, 0);
    machine_free(kvm);
}

/* A VP that sleeps in the kernel is in no hurry to come out for it. */
static void an_nmi_does_not_wait_for_the_vp(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    halted(kvm, &s);
    s.events.activity = PTA_X86_WAIT_FOR_SIPI;
    set(kvm, 0, &s);
    Runner r = { .m = kvm };
    kvm->ops->clock_start(kvm->be);
    GThread *thread = g_thread_new("vp0", run_vp, &r);
    g_usleep(50 * 1000);
    alarm(60);
    kvm->ops->nmi(kvm->be, 0);
    alarm(0);
    g_usleep(20 * 1000);
    kvm->ops->vp_kick(kvm->vps[0]);
    g_thread_join(thread);
    kvm->ops->clock_stop(kvm->be);
    get(kvm, 0, &a);
    assert_int_equal(a.events.nmi_pending, 1);
    assert_int_equal(a.events.activity, PTA_X86_WAIT_FOR_SIPI);
    machine_free(kvm);
}

static void on_signal(int signum)
{
    (void)signum;
}

/* ---- interrupts that come while a timer is stopped or started ---- */

#define MSI_VECTOR   0x73
#define IRQFD_VECTOR 0x75

typedef struct Sender {
    Machine *m;
    int fd;
    int pin_delay, msi_delay; /* turns of a loop */
} Sender;

static gpointer send_both(gpointer data)
{
    const Sender *s = data;
    for (volatile int i = 0; i < s->pin_delay; i++) {}
    uint64_t one = 1;
    assert_true(pta_write_full(s->fd, &one, sizeof(one)));
    for (volatile int i = 0; i < s->msi_delay; i++) {}
    s->m->ops->msi(s->m->be, 0xfee00000, MSI_VECTOR);
    return NULL;
}

/* The page of the APIC is read and written for it: what arrives in between must not be lost. */
static void interrupts_are_not_lost_to_timers(void **unused)
{
    (void)unused;
    g_autoptr(GError) error = NULL;
    Machine *kvm = machine_new(&pta_kvm_backend);
    StateGen g = { .seed = 3 };
    PtaX86State s, a;
    pta_autofd int fd = eventfd(0, EFD_CLOEXEC);
    halted(kvm, &s);
    put_reg(&s, REG_ICOUNT, 4000 * MS);
    s.lapic.timer_expiry_ns = CLOCK_NS + 3900 * MS;
    if (!kvm->ops->has_cap(kvm->be, PTA_CAP_IRQFD)) {
        machine_free(kvm);
        return;
    }
    kvm->ops->route(kvm->be, 5, 0xfee00000, IRQFD_VECTOR);
    must(kvm->ops->irqfd(kvm->be, 5, fd, true, &error), error);
    for (unsigned i = 0; i < 300; i++) {
        Sender sender = { kvm, fd, (int)(state_gen_random(&g) % 50000),
                          (int)(state_gen_random(&g) % 50000) };
        kvm->ops->clock_set(kvm->be, CLOCK_NS);
        set(kvm, 0, &s);
        GThread *thread = g_thread_new("sender", send_both, &sender);
        for (unsigned j = 0; j < 20; j++) {
            kvm->ops->clock_start(kvm->be);
            kvm->ops->clock_stop(kvm->be);
        }
        g_thread_join(thread);
        for (unsigned j = 0; j < 1000; j++) { /* an irqfd works by and by */
            get(kvm, 0, &a);
            if (in_irr(&a, IRQFD_VECTOR)) {
                break;
            }
            g_usleep(1000);
        }
        if (!in_irr(&a, MSI_VECTOR) || !in_irr(&a, IRQFD_VECTOR)) {
            fail_msg("round %u: MSI %d, irqfd %d", i, in_irr(&a, MSI_VECTOR),
                     in_irr(&a, IRQFD_VECTOR));
        }
    }
    must(kvm->ops->irqfd(kvm->be, 5, fd, false, &error), error);
    machine_free(kvm);
}

/* ---- what is under way ---- */

/* KVM_RUN with a signal that waits: the kernel prepares an event's delivery, finds the signal and comes
 * back before the first instruction. */
static void almost_run(Machine *m)
{
    /* struct kvm_signal_mask, and behind it an empty sigset_t of the kernel's */
    _Alignas(8) uint8_t mask[sizeof(struct kvm_signal_mask) + 8] = { 8 };
    KvmVp *vp = kvm_vp_of(m->vps[0]);
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t usr2;
    sigaction(SIGUSR2, &action, NULL);
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &usr2, NULL);
    pthread_kill(pthread_self(), SIGUSR2);
    assert_int_equal(kvm_ioctl(vp->fd, KVM_SET_SIGNAL_MASK, mask), 0);
    vp->run->immediate_exit = 0;
    assert_int_equal(kvm_ioctl(vp->fd, KVM_RUN, NULL), -1);
    assert_int_equal(errno, EINTR);
    assert_int_equal(kvm_ioctl(vp->fd, KVM_SET_SIGNAL_MASK, NULL), 0);
    pthread_sigmask(SIG_UNBLOCK, &usr2, NULL);
}

static void what_is_under_way_goes_back(void **unused)
{
    (void)unused;
    enum { INTERRUPT, NMI, EXCEPTION, N_KINDS };
    g_autoptr(GError) error = NULL;
    Machine *kvm = machine_new(&pta_kvm_backend);
    void *ram =
        g_aligned_alloc0(1, PTA_MIB, PTA_PAGE_SIZE); /* KVM has no page tables without any */
    must(kvm->ops->map(kvm->be, 0, PTA_MIB, ram, PTA_MAP_READ | PTA_MAP_WRITE | PTA_MAP_EXEC,
                       &error),
         error);
    for (unsigned kind = 0; kind < N_KINDS; kind++) {
        PtaX86State s, a, b;
        struct kvm_vcpu_events e;
        halted(kvm, &s);
        s.events.activity = PTA_X86_RUNNING;
        s.regs.rflags = 0x202;
        s.events.nmi_pending = kind == NMI;
        s.events.exception_pending = kind == EXCEPTION;
        s.events.vector = kind == EXCEPTION ? 6 : 0;
        put_reg(&s, REG_IRR + (VECTOR >> 5), 1u << (VECTOR & 31));
        put_reg(&s, REG_IRR - 0x10 + 1, kind == EXCEPTION ? 1 : 0); /* in service as well */
        set(kvm, 0, &s);
        get(kvm, 0, &a);
        almost_run(kvm);
        assert_int_equal(kvm_ioctl(kvm_vp_of(kvm->vps[0])->fd, KVM_GET_VCPU_EVENTS, &e), 0);
        print_message("# in the kernel's hands: interrupt %u, NMI %u, exception %u %u\n",
                      e.interrupt.injected, e.nmi.injected, e.exception.injected,
                      e.exception.pending);
        get(kvm, 0, &b);
        if (kind == EXCEPTION) {
            a.regs.rflags |= 0x10000; /* RF, which a fault pushes */
        }
        same("before and after", &a, &b);
        set(kvm, 0, &b);
        assert_int_equal(kvm_ioctl(kvm_vp_of(kvm->vps[0])->fd, KVM_GET_VCPU_EVENTS, &e), 0);
        assert_int_equal(e.interrupt.injected, 0);
        assert_int_equal(e.nmi.injected, 0);
        get(kvm, 0, &b);
        same("and set", &a, &b);
    }
    must(kvm->ops->unmap(kvm->be, 0, PTA_MIB, &error), error);
    machine_free(kvm);
    g_aligned_free(ram);
}

/* What a #PF or #DB that KVM queued says is where the handler looks for it. */
static void payloads_are_delivered(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    KvmVp *vp = kvm_vp_of(kvm->vps[0]);
    PtaX86State s, a;
    pta_x86_state_reset(&s, 0, 1);
    set(kvm, 0, &s);
    struct kvm_vcpu_events e = { 0 };
    assert_int_equal(kvm_ioctl(vp->fd, KVM_GET_VCPU_EVENTS, &e), 0);
    if (e.flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
        e.exception.pending = 1;
        e.exception.nr = 14;
        e.exception.has_error_code = 1;
        e.exception.error_code = 2;
        e.exception_has_payload = 1;
        e.exception_payload = 0x12345000;
        assert_int_equal(kvm_ioctl(vp->fd, KVM_SET_VCPU_EVENTS, &e), 0);
        get(kvm, 0, &a);
        assert_int_equal(a.events.vector, 14);
        assert_int_equal(a.events.error_code, 2);
        assert_int_equal(a.regs.cr2, 0x12345000);
        e.exception.nr = 1;
        e.exception.has_error_code = 0;
        e.exception_payload = 0x4002; /* BS, B1 */
        assert_int_equal(kvm_ioctl(vp->fd, KVM_SET_VCPU_EVENTS, &e), 0);
        get(kvm, 0, &a);
        assert_int_equal(a.events.vector, 1);
        assert_int_equal(a.events.error_code, 0);
        assert_int_equal(a.debug.dr6, 0xffff4ff2);
    }
    machine_free(kvm);
}

static void a_step_keeps_what_arrives(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    KvmVp *vp = kvm_vp_of(kvm->vps[0]);
    g_autoptr(GError) error = NULL;
    PtaX86State s, before, after, end;
    halted(kvm, &s);
    s.events.activity = PTA_X86_RUNNING;
    s.regs.xcr0 = 1;
    put_reg(&s, REG_ICOUNT, 1000 * MS);
    s.lapic.timer_expiry_ns = CLOCK_NS + 900 * MS;
    set(kvm, 0, &s);
    kvm_vp_get_step(vp, &before);
    get(kvm, 0, &end);
    before.lapic = end.lapic; /* not part of a step */
    before.msrs.tsc_deadline = end.msrs.tsc_deadline;
    after = before;
    kvm->ops->msi(kvm->be, 0xfee00000, 0x73);
    kvm->ops->nmi(kvm->be, 0);
    after.regs.gpr[PTA_X86_RAX] = 0x1122;
    after.regs.rip += 3;
    after.regs.cr2 = 0x5000;
    after.debug.dr[1] = 0x7000;
    after.msrs.kernel_gs_base = 0x9000;
    after.xsave.area[160] = 0x77;
    after.events.interrupt_shadow = 2;
    after.events.exception_pending = 1;
    after.events.vector = 6;
    must(kvm_vp_set_step(vp, &before, &after, &error), error);
    get(kvm, 0, &end);
    assert_true(in_irr(&end, 0x73));
    assert_int_equal(end.events.nmi_pending, 1);
    put_reg(&end, REG_IRR + 3, 0);
    end.events.nmi_pending = 0;
    /* A step has the area as the kernel has it, which is more than the model's. */
    assert_int_equal(end.xsave.area[160], 0x77);
    end.regs.xcr0 = after.regs.xcr0;
    end.xsave = after.xsave;
    same("a step", &after, &end);
    /* HLT, and the exception is gone. */
    before = after;
    after.events.exception_pending = after.events.vector = after.events.interrupt_shadow = 0;
    after.events.activity = PTA_X86_HALTED;
    after.regs.cr8 = 5;
    must(kvm_vp_set_step(vp, &before, &after, &error), error);
    get(kvm, 0, &end);
    assert_int_equal(end.events.activity, PTA_X86_HALTED);
    assert_int_equal(end.events.exception_pending, 0);
    assert_int_equal(end.regs.cr8, 5);
    assert_int_equal(reg(&end, 0x08), 0x50);
    assert_true(in_irr(&end, 0x73));
    /* What cannot be is refused here too: by KVM. */
    after.regs.cr4 = UINT64_MAX;
    assert_false(kvm_vp_set_step(vp, &before, &after, &error));
    if (!strstr(error->message, "SREGS")) {
        fail_msg("refused with \"%s\"", error->message);
    }
    machine_free(kvm);
}

/* ---- a host that fails ---- */

static PtaKvmIoctlFn *host_ioctl;
static unsigned fail_at, n_ioctls; /* the fail_at'th ioctl fails; none if 0 */
static unsigned long failed_request;
static unsigned n_warnings;

static int failing_ioctl(int fd, unsigned long request, void *arg)
{
    if (++n_ioctls == fail_at) {
        failed_request = request;
        errno = EIO;
        return -1;
    }
    return host_ioctl(fd, request, arg);
}

static void count_warning(const gchar *domain, GLogLevelFlags level, const gchar *text,
                          gpointer data)
{
    (void)domain, (void)level, (void)data;
    assert_non_null(strstr(text, "KVM_"));
    n_warnings++;
}

static void failing_ioctls_are_told(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    pta_x86_state_reset(&s, 0, 1);
    s.msrs.apic_base |= 0x400; /* x2APIC: more to ask */
    put_reg(&s, 0x02, 0);
    host_ioctl = pta_kvm_ioctl_hook;
    pta_kvm_ioctl_hook = failing_ioctl;
    for (fail_at = 1;; fail_at++) {
        g_autoptr(GError) error = NULL;
        n_ioctls = 0;
        bool ok = kvm->ops->vp_set_state(kvm->vps[0], &s, &error);
        if (n_ioctls < fail_at) {
            must(ok, error);
            break;
        }
        if (failed_request != KVM_CHECK_EXTENSION) {
            assert_false(ok);
            assert_non_null(strstr(error->message, "KVM_"));
        }
    }
    assert_true(fail_at > 10);
    GLogLevelFlags fatal = g_log_set_always_fatal(G_LOG_FATAL_MASK);
    guint handler = g_log_set_handler("kvm", G_LOG_LEVEL_WARNING, count_warning, NULL);
    for (fail_at = 1;; fail_at++) {
        n_ioctls = n_warnings = 0;
        get(kvm, 0, &a);
        if (n_ioctls < fail_at) {
            break;
        }
        assert_int_equal(n_warnings, failed_request == KVM_CHECK_EXTENSION ? 0 : 1);
    }
    g_log_remove_handler("kvm", handler);
    g_log_set_always_fatal(fatal);
    pta_kvm_ioctl_hook = host_ioctl;
    assert_true(fail_at > 8);
    machine_free(kvm);
}

/* As a debugger does it, while devices go on. */
static void a_register_is_changed(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a, b;
    halted(kvm, &s);
    put_reg(&s, REG_ICOUNT, 1000 * MS);
    s.lapic.timer_expiry_ns = CLOCK_NS + 900 * MS;
    set(kvm, 0, &s);
    get(kvm, 0, &a);
    kvm->ops->msi(kvm->be, 0xfee00000, MSI_VECTOR);
    a.regs.gpr[PTA_X86_RAX] = 0x1234;
    set(kvm, 0, &a);
    get(kvm, 0, &b);
    assert_true(in_irr(&b, MSI_VECTOR));
    assert_int_equal(b.regs.gpr[PTA_X86_RAX], 0x1234);
    put_reg(&b, REG_IRR + MSI_VECTOR / 32, 0);
    same("but for that", &a, &b);
    /* A state of before is a state of before. */
    set(kvm, 0, &s);
    get(kvm, 0, &b);
    assert_false(in_irr(&b, MSI_VECTOR));
    /* An INIT resets the APIC, and what is set is set all the same. */
    kvm->ops->msi(kvm->be, 0xfee00000, 0x500);
    set(kvm, 0, &b);
    get(kvm, 0, &a);
    same("after an INIT", &b, &a);
    machine_free(kvm);
}

/* RIP is behind the instruction in the canonical state, and at it in the kernel, which does not show
 * its exception. */
static void int3_is_met_again(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    KvmVp *vp = kvm_vp_of(kvm->vps[0]);
    PtaX86State s, a;
    pta_x86_state_reset(&s, 0, 1);
    for (unsigned vector = 3; vector <= 4; vector++) {
        for (unsigned debugged = 0; debugged < 2; debugged++) {
            vp->debug = (PtaGuestDebug){ .enabled = debugged, .sw_breakpoints = debugged };
            s.events.exception_pending = 1;
            s.events.vector = (uint8_t)vector;
            s.regs.rip = 0x7c01;
            set(kvm, 0, &s);
            get(kvm, 0, &a);
            assert_int_equal(a.regs.rip, 0x7c00);
            assert_int_equal(a.events.exception_pending, 0);
        }
    }
    vp->debug = (PtaGuestDebug){ 0 };
    machine_free(kvm);
}

static void init_and_sipi_belong_to_their_state(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    pta_x86_state_reset(&s, 1, 0);
    s.events.activity = PTA_X86_RUNNING;
    s.regs.gpr[PTA_X86_RBX] = 0x1234;
    put_reg(&s, 0x0f, 0x1ff);
    set(kvm, 1, &s);
    kvm->ops->msi(kvm->be, 0xfee01000, 0x500); /* INIT to APIC 1 */
    get(kvm, 1, &a);
    assert_int_equal(a.events.activity, PTA_X86_WAIT_FOR_SIPI);
    assert_int_equal(a.regs.gpr[PTA_X86_RBX], 0);
    kvm->ops->msi(kvm->be, 0xfee01000, 0x609); /* and a start-up at 9000H */
    get(kvm, 1, &a);
    assert_int_equal(a.events.activity, PTA_X86_RUNNING);
    assert_int_equal(a.regs.seg[PTA_X86_CS].base, 0x9000);
    /* What waits when a state is set does not change it. */
    kvm->ops->msi(kvm->be, 0xfee01000, 0x500);
    set(kvm, 1, &s);
    get(kvm, 1, &a);
    assert_int_equal(a.events.activity, PTA_X86_RUNNING);
    assert_int_equal(a.regs.gpr[PTA_X86_RBX], 0x1234);
    machine_free(kvm);
}

static void a_shut_down_vp_stays_so(void **unused)
{
    (void)unused;
    Machine *kvm = machine_new(&pta_kvm_backend);
    PtaX86State s, a;
    PtaExit exit;
    pta_x86_state_reset(&s, 0, 1);
    s.events.activity = PTA_X86_SHUTDOWN;
    set(kvm, 0, &s);
    kvm->ops->vp_run(kvm->vps[0], &exit);
    assert_int_equal(exit.reason, PTA_EXIT_SHUTDOWN);
    get(kvm, 0, &a);
    assert_int_equal(a.events.activity, PTA_X86_SHUTDOWN);
    s.events.activity = PTA_X86_RUNNING;
    set(kvm, 0, &s);
    get(kvm, 0, &a);
    assert_int_equal(a.events.activity, PTA_X86_RUNNING);
    machine_free(kvm);
}

/* ---- the CPU ---- */

static void model_says_what_it_is(void **unused)
{
    (void)unused;
    uint64_t features = pta_kvm_backend.cpu_features();
    assert_true(features & UINT64_C(1) << PTA_X86_FEAT_BASE);
    for (PtaHypervisorKind kind = PTA_HYPERVISOR_HYPERV; kind <= PTA_HYPERVISOR_NONE; kind++) {
        PtaX86Identity id;
        PtaCpuidTable t;
        g_autoptr(GError) error = NULL;
        pta_kvm_backend.cpu_identity(kind, &id);
        PtaCpuidParams p = { .hypervisor = kind,
                             .n_vps = N_VPS,
                             .tsc_hz = 1000000000,
                             .apic_hz = 1000000000,
                             .supported = features,
                             .identity = &id };
        must(pta_cpuid_build(&t, &p, &error), error);
        assert_int_equal(strlen(id.vendor), 12);
        assert_true(id.signature >> 8 & 0xf);
        assert_in_range(t.phys_bits, 32, 40);
        if (kind != PTA_HYPERVISOR_HYPERV) {
            assert_string_equal(id.vendor, "GenuineIntel"); /* leaf 15H counts */
        }
        print_message("# %d: %s %#x, %u bits, speculation %#x %#x, features %#" PRIx64 "\n", kind,
                      id.vendor, id.signature, t.phys_bits, id.leaf7_edx, id.leaf8_8_ebx,
                      t.features);
    }
}

int main(void)
{
    g_autoptr(GError) error = NULL;
    if (!pta_kvm_backend.probe(&error)) {
        printf("1..0 # SKIP %s\n", error->message);
        return 0;
    }
    pta_thread_init_main();
    uint64_t supported = pta_kvm_backend.cpu_features() & pta_soft_backend.cpu_features();
    pta_kvm_backend.cpu_identity(PTA_HYPERVISOR_HYPERV, &identity);
    PtaCpuidParams params = { .n_vps = N_VPS,
                              .tsc_hz = pta_kvm_backend.tsc_hz(NULL),
                              .apic_hz = 1000000000,
                              .supported = supported,
                              .identity = &identity };
    if (!pta_cpuid_build(&cpuid, &params, &error)) {
        g_printerr("%s\n", error->message);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_says_what_it_is),
        cmocka_unit_test(reset_state_comes_back),
        cmocka_unit_test(random_states_come_back),
        cmocka_unit_test(states_of_the_host_come_back),
        cmocka_unit_test(hostile_states_are_refused),
        cmocka_unit_test(deadlines_are_converted),
        cmocka_unit_test(one_shot_timers_stand_still),
        cmocka_unit_test(far_timers_do_not_come_at_once),
        cmocka_unit_test(expired_one_shot_timers_stay_so),
        cmocka_unit_test(timers_that_expire_outside_are_not_lost),
        cmocka_unit_test(an_eoi_that_was_put_off_may_send),
        cmocka_unit_test(periodic_timers_keep_their_phase),
        cmocka_unit_test(deadlines_stand_still),
        cmocka_unit_test(tsc_is_what_was_set),
        cmocka_unit_test(what_waits_is_saved),
        cmocka_unit_test(an_nmi_does_not_wait_for_the_vp),
        cmocka_unit_test(interrupts_are_not_lost_to_timers),
        cmocka_unit_test(what_is_under_way_goes_back),
        cmocka_unit_test(payloads_are_delivered),
        cmocka_unit_test(a_step_keeps_what_arrives),
        cmocka_unit_test(failing_ioctls_are_told),
        cmocka_unit_test(a_register_is_changed),
        cmocka_unit_test(int3_is_met_again),
        cmocka_unit_test(init_and_sipi_belong_to_their_state),
        cmocka_unit_test(a_shut_down_vp_stays_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
