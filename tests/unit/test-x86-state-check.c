/* What a saved VP state may say, whichever back end is to run it. */
#include "config.h"

#include "src/partition/x86-state-check.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#define ALL UINT64_MAX

static PtaCpuidTable table(uint64_t supported, const PtaX86Identity *identity)
{
    PtaCpuidTable t;
    PtaCpuidParams p = {
        .model = "host",
        .n_vps = 2,
        .tsc_hz = 1000000000,
        .apic_hz = 1000000000,
        .supported = supported & ((UINT64_C(1) << PTA_X86_N_FEATURES) - 1),
        .identity = identity,
    };
    assert_true(pta_cpuid_build(&t, &p, NULL));
    return t;
}

static uint64_t without(PtaX86Feature f)
{
    return ALL & ~(UINT64_C(1) << f);
}

static void reset_states_are_valid(void **unused)
{
    (void)unused;
    for (PtaX86Feature f = PTA_X86_FEAT_CX16; f < PTA_X86_N_FEATURES; f++) {
        PtaCpuidTable t = table(without(f), NULL);
        for (unsigned vp = 0; vp < 2; vp++) {
            PtaX86State s;
            pta_x86_state_reset(&s, vp, vp == 0);
            assert_true(pta_x86_state_check(&t, &s, NULL));
            assert_true(pta_x86_lapic_check(&t, vp, &s.lapic, s.msrs.apic_base, NULL));
        }
    }
}

/* One number of a valid state is another: refused, and the error says which. */
typedef struct Wrong {
    size_t offset;
    size_t size;
    uint64_t value;
    const char *name;
} Wrong;

#define WRONG(field, value, name)                                                        \
    {                                                                                    \
        offsetof(PtaX86State, field), sizeof(((PtaX86State *)0)->field), (value), (name) \
    }

static const Wrong wrong[] = {
    WRONG(regs.cr0, UINT64_C(0x80000010), "CR0"), /* paging without protection */
    WRONG(regs.cr0, UINT64_C(0x20000010), "CR0"), /* NW without CD */
    WRONG(regs.cr0, UINT64_C(0x100000010), "CR0"),
    WRONG(regs.cr4, UINT64_C(1) << 13, "CR4"), /* VMXE */
    WRONG(regs.cr4, UINT64_C(1) << 17, "CR4"), /* PCIDE outside long mode */
    WRONG(regs.cr4, UINT64_C(1) << 63, "CR4"),
    WRONG(regs.cr3, UINT64_C(1) << 40, "CR3"),
    WRONG(regs.cr8, 16, "CR8"),
    WRONG(regs.efer, 0x400, "EFER"), /* LMA without LME */
    WRONG(regs.efer, 0x1000, "EFER"),
    WRONG(regs.xcr0, 0, "XCR0"),
    WRONG(regs.xcr0, 5, "XCR0"), /* AVX without SSE */
    WRONG(regs.xcr0, 0xe7, "XCR0"),
    WRONG(regs.xss, 1, "XSS"),
    WRONG(regs.rip, UINT64_C(1) << 32, "RIP"),
    WRONG(regs.rflags, 0, "RFLAGS"),
    WRONG(regs.rflags, 0xa, "RFLAGS"),
    WRONG(regs.rflags, 0x20002, "RFLAGS"), /* VM in real mode */
    WRONG(regs.rflags, UINT64_C(0x100000002), "RFLAGS"),
    WRONG(regs.seg[PTA_X86_ES].attrs, 0x100, "ES"),
    WRONG(regs.seg[PTA_X86_SS].base, UINT64_C(1) << 32, "SS"),
    WRONG(regs.seg[PTA_X86_FS].base, UINT64_C(1) << 47, "FS"),
    WRONG(regs.seg[PTA_X86_GS].base, UINT64_C(1) << 63, "GS"),
    WRONG(regs.tr.base, UINT64_C(1) << 50, "TR"),
    WRONG(regs.ldtr.attrs, 0x400, "LDTR"),
    WRONG(regs.gdtr.base, UINT64_C(1) << 48, "descriptor table"),
    WRONG(regs.idtr.base, UINT64_C(1) << 62, "descriptor table"),
    WRONG(debug.dr6, UINT64_C(1) << 32, "DR6"),
    WRONG(debug.dr7, UINT64_C(1) << 32, "DR7"),
    WRONG(msrs.lstar, UINT64_C(1) << 47, "MSR"),
    WRONG(msrs.cstar, UINT64_C(1) << 62, "MSR"),
    WRONG(msrs.kernel_gs_base, UINT64_C(1) << 48, "MSR"),
    WRONG(msrs.sysenter_esp, UINT64_C(1) << 48, "MSR"),
    WRONG(msrs.sysenter_eip, UINT64_C(1) << 48, "MSR"),
    WRONG(msrs.sysenter_cs, UINT64_C(1) << 32, "SYSENTER_CS"),
    WRONG(msrs.sfmask, UINT64_C(1) << 32, "SFMASK"),
    WRONG(msrs.tsc_aux, UINT64_C(1) << 32, "TSC_AUX"),
    WRONG(msrs.pat, 2, "PAT"),
    WRONG(msrs.pat, UINT64_C(0x0800000000000000), "PAT"),
    WRONG(msrs.spec_ctrl, 1, "SPEC_CTRL"),
    WRONG(msrs.mtrrs.def_type, 0x100, "MTRR"),
    WRONG(msrs.mtrrs.def_type, 2, "MTRR"),
    WRONG(msrs.mtrrs.fixed[10], 7, "MTRR"),
    WRONG(msrs.mtrrs.phys_base[0], 0x100, "MTRR"),
    WRONG(msrs.mtrrs.phys_base[7], UINT64_C(1) << 40, "MTRR"),
    WRONG(msrs.mtrrs.phys_mask[3], 0x400, "MTRR"),
    WRONG(events.activity, 4, "activity"),
    WRONG(events.interrupt_shadow, 4, "shadow"),
    WRONG(events.nmi_pending, 2, "event"),
    WRONG(events.nmi_blocked, 2, "event"),
    WRONG(events.smi_blocked, 2, "event"),
    WRONG(events.exception_pending, 2, "event"),
    WRONG(events.has_error_code, 2, "event"),
    WRONG(xsave.area[26], 1, "MXCSR"),
    WRONG(msrs.apic_base, 0xfee00901, "apic_base"),
    WRONG(msrs.apic_base, 0xfee00500, "apic_base"), /* x2APIC and not enabled */
    WRONG(msrs.apic_base, UINT64_C(0x100fee00900), "apic_base"),
    WRONG(lapic.page[0x20], 1, "ID"),
    WRONG(lapic.page[0x81], 1, "TPR"),
    WRONG(lapic.page[0xe0], 0, "DFR"),
    WRONG(lapic.page[0xf1], 4, "SVR"),
    WRONG(lapic.page[0x100], 1, "ISR"), /* vector 0 */
    WRONG(lapic.page[0x181], 0x80, "TMR"),
    WRONG(lapic.page[0x200], 2, "IRR"),
    WRONG(lapic.page[0x321], 0x10, "timer"), /* delivery status */
    WRONG(lapic.page[0x331], 8, "LVT"),
    WRONG(lapic.page[0x351], 0x40, "LINT"), /* remote IRR */
    WRONG(lapic.page[0x371], 4, "error"),
    WRONG(lapic.page[0x3e0], 4, "DCR"),
};

static bool check(const PtaCpuidTable *t, const PtaX86State *s, GError **error)
{
    return pta_x86_state_check(t, s, error) &&
           pta_x86_lapic_check(t, 0, &s->lapic, s->msrs.apic_base, error);
}

static void what_cannot_be_is_named(void **unused)
{
    (void)unused;
    PtaCpuidTable t = table(ALL, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        const Wrong *w = &wrong[i];
        g_autoptr(GError) error = NULL;
        PtaX86State s;
        pta_x86_state_reset(&s, 0, 1);
        memcpy((uint8_t *)&s + w->offset, &(uint64_t){ GUINT64_TO_LE(w->value) }, w->size);
        if (check(&t, &s, &error)) {
            fail_msg("%s 0x%llx is taken", w->name, (unsigned long long)w->value);
        }
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
        if (!strstr(error->message, w->name)) {
            fail_msg("\"%s\" does not name %s", error->message, w->name);
        }
    }
}

static void exceptions_have_their_error_codes(void **unused)
{
    (void)unused;
    PtaCpuidTable t = table(ALL, NULL);
    PtaX86State s;
    for (unsigned vector = 0; vector < 256; vector++) {
        pta_x86_state_reset(&s, 0, 1);
        s.events.exception_pending = 1;
        s.events.vector = (uint8_t)vector;
        assert_int_equal(check(&t, &s, NULL), vector < 32 && vector != 2);
        s.events.has_error_code = 1;
        bool has = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
        assert_int_equal(check(&t, &s, NULL), has);
    }
}

static void the_model_decides(void **unused)
{
    (void)unused;
    static const struct {
        PtaX86Feature feature;
        uint64_t cr4;
    } bits[] = {
        { PTA_X86_FEAT_UMIP, 1u << 11 },  { PTA_X86_FEAT_FSGSBASE, 1u << 16 },
        { PTA_X86_FEAT_XSAVE, 1u << 18 }, { PTA_X86_FEAT_SMEP, 1u << 20 },
        { PTA_X86_FEAT_SMAP, 1u << 21 },
    };
    PtaX86State s;
    PtaCpuidTable all = table(ALL, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bits); i++) {
        PtaCpuidTable t = table(without(bits[i].feature), NULL);
        pta_x86_state_reset(&s, 0, 1);
        s.regs.cr4 = bits[i].cr4;
        assert_true(check(&all, &s, NULL));
        assert_false(check(&t, &s, NULL));
    }
    PtaCpuidTable no_avx = table(without(PTA_X86_FEAT_AVX), NULL);
    pta_x86_state_reset(&s, 0, 1);
    s.regs.xcr0 = 7;
    assert_true(check(&all, &s, NULL));
    assert_false(check(&no_avx, &s, NULL));
    s.regs.xcr0 = 3;
    assert_true(check(&no_avx, &s, NULL));

    PtaCpuidTable xapic = table(without(PTA_X86_FEAT_X2APIC), NULL);
    pta_x86_state_reset(&s, 0, 1);
    s.msrs.apic_base |= 0x400;
    assert_true(check(&all, &s, NULL));
    assert_false(check(&xapic, &s, NULL));

    PtaCpuidTable no_deadline = table(without(PTA_X86_FEAT_TSC_DEADLINE), NULL);
    pta_x86_state_reset(&s, 0, 1);
    s.lapic.page[0x322] = 5; /* masked, deadline */
    assert_true(check(&all, &s, NULL));
    assert_false(check(&no_deadline, &s, NULL));

    const PtaX86Identity speculates = { .vendor = "GenuineIntel", .leaf7_edx = 1u << 26 };
    PtaCpuidTable guarded = table(ALL, &speculates);
    pta_x86_state_reset(&s, 0, 1);
    s.msrs.spec_ctrl = 1;
    assert_true(check(&guarded, &s, NULL));
    assert_false(check(&all, &s, NULL));

    const PtaX86Identity narrow = { .vendor = "GenuineIntel", .phys_bits = 36 };
    PtaCpuidTable t36 = table(ALL, &narrow);
    pta_x86_state_reset(&s, 0, 1);
    s.regs.cr3 = UINT64_C(1) << 37;
    assert_true(check(&all, &s, NULL));
    assert_false(check(&t36, &s, NULL));
}

static void long_mode_is_consistent(void **unused)
{
    (void)unused;
    PtaCpuidTable t = table(ALL, NULL);
    PtaX86State good, s;
    pta_x86_state_reset(&good, 0, 1);
    good.regs.cr0 = 0x80000011;
    good.regs.cr4 = 0x20;
    good.regs.efer = 0x500;
    good.regs.rip = UINT64_C(0xffffffff80000000);
    good.regs.seg[PTA_X86_CS] =
        (PtaX86Segment){ .limit = UINT32_MAX, .selector = 8, .attrs = 0xa09b };
    assert_true(check(&t, &good, NULL));
    s = good;
    s.regs.cr4 = 0; /* no PAE */
    assert_false(check(&t, &s, NULL));
    s = good;
    s.regs.efer = 0x100; /* not active, and it should be */
    assert_false(check(&t, &s, NULL));
    s = good;
    s.regs.rip = UINT64_C(0x800000000000);
    assert_false(check(&t, &s, NULL));
    s = good;
    s.regs.seg[PTA_X86_CS].attrs |= 0x4000; /* D with L */
    assert_false(check(&t, &s, NULL));
    s = good;
    s.regs.rflags |= 0x20000; /* VM */
    assert_false(check(&t, &s, NULL));
    s = good;
    s.regs.cr4 |= 1u << 17; /* PCIDs */
    assert_true(check(&t, &s, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reset_states_are_valid),
        cmocka_unit_test(what_cannot_be_is_named),
        cmocka_unit_test(exceptions_have_their_error_codes),
        cmocka_unit_test(the_model_decides),
        cmocka_unit_test(long_mode_is_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
