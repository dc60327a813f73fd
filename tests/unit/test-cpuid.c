/* CPU models: which features each has, what is refused, what a guest reads. */
#include "config.h"

#include "src/partition/x86-cpuid.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/partition/x86-state.h"

#define F(name) (UINT64_C(1) << PTA_X86_FEAT_##name)
#define ALL     ((UINT64_C(1) << PTA_X86_N_FEATURES) - 1)
#define V1      (F(BASE) | F(X2APIC) | F(TSC_DEADLINE) | F(ERMS))

enum { A, B, C, D };

static PtaCpuidTable build(const char *model, PtaHypervisorKind kind, unsigned n_vps,
                           uint64_t supported)
{
    PtaCpuidParams p = {
        .model = model,
        .hypervisor = kind,
        .n_vps = n_vps,
        .tsc_hz = UINT64_C(2600000000),
        .apic_hz = UINT64_C(1000000000),
        .supported = supported,
    };
    PtaCpuidTable t;
    g_autoptr(GError) error = NULL;
    assert_true(pta_cpuid_build(&t, &p, &error));
    assert_null(error);
    return t;
}

static const uint32_t *ask(const PtaCpuidTable *t, unsigned vp, uint32_t function, uint32_t index)
{
    static uint32_t r[4];
    pta_cpuid_query(t, vp, 0, 1, function, index, r);
    return r;
}

static void text_of(char *out, const PtaCpuidTable *t, uint32_t function, int a, int b, int c)
{
    const uint32_t *r = ask(t, 0, function, 0);
    memcpy(out, &r[a], 4);
    memcpy(out + 4, &r[b], 4);
    memcpy(out + 8, &r[c], 4);
    out[12] = '\0';
}

static void the_first_default_is_the_highest_served(void **unused)
{
    static const struct {
        uint64_t supported;
        const char *brand;
    } cases[] = {
        { ALL, "Partita x86-64-v3" },
        { ALL & ~F(AVX2), "Partita x86-64-v2" },
        { ALL & ~F(CX16), "Partita x86-64-v1" },
        { V1, "Partita x86-64-v1" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        PtaCpuidTable t = build(NULL, PTA_HYPERVISOR_NONE, 1, cases[i].supported);
        char brand[49] = { 0 };
        for (unsigned j = 0; j < 3; j++) {
            memcpy(brand + (size_t)16 * j, ask(&t, 0, 0x80000002 + j, 0), 16);
        }
        assert_string_equal(brand, cases[i].brand);
    }
}

static void models_have_their_features_and_no_others(void **unused)
{
    static const struct {
        const char *model;
        uint32_t ecx1, ebx7, ecx80000001, edx80000001;
    } cases[] = {
        { "x86-64-v1", 1u << 21 | 1u << 24, 1u << 1 | 1u << 9, 0, 1u << 11 | 1u << 20 | 1u << 29 },
        { "x86-64-v2",
          1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 21 | 1u << 23 | 1u << 24,
          1u << 1 | 1u << 9, 1u << 0, 1u << 11 | 1u << 20 | 1u << 27 | 1u << 29 },
        { "x86-64-v3",
          1u << 0 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 21 | 1u << 22 |
              1u << 23 | 1u << 24 | 1u << 26 | 1u << 28 | 1u << 29,
          1u << 0 | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 9, 1u << 0 | 1u << 5,
          1u << 11 | 1u << 20 | 1u << 27 | 1u << 29 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        PtaCpuidTable t = build(cases[i].model, PTA_HYPERVISOR_NONE, 1, ALL);
        assert_int_equal(ask(&t, 0, 1, 0)[C], cases[i].ecx1);
        assert_int_equal(ask(&t, 0, 7, 0)[B], cases[i].ebx7);
        assert_int_equal(ask(&t, 0, 7, 1)[B], 0); /* another subleaf */
        assert_int_equal(ask(&t, 0, 0x80000001, 0)[C], cases[i].ecx80000001);
        assert_int_equal(ask(&t, 0, 0x80000001, 0)[D], cases[i].edx80000001);
    }
    PtaCpuidTable host = build("host", PTA_HYPERVISOR_NONE, 1, V1 | F(SMAP) | F(UMIP));
    assert_int_equal(host.features, V1 | F(SMAP) | F(UMIP));
    assert_int_equal(ask(&host, 0, 7, 0)[B], 1u << 1 | 1u << 9 | 1u << 20);
    assert_int_equal(ask(&host, 0, 7, 0)[C], 1u << 2);
}

/* What the x86-64 ABI promises, and CPUID's EDX of leaf 1 with it. */
static void the_baseline_is_there(void **unused)
{
    PtaCpuidTable t = build("x86-64-v1", PTA_HYPERVISOR_NONE, 1, V1);
    static const uint8_t bits[] = { 0, 4, 5, 6, 8, 9, 11, 13, 15, 16, 19, 23, 24, 25, 26 };
    for (size_t i = 0; i < sizeof(bits); i++) {
        assert_true(ask(&t, 0, 1, 0)[D] >> bits[i] & 1);
    }
    assert_int_equal(ask(&t, 0, 0x80000007, 0)[D], 1u << 8); /* invariant TSC */
    assert_true(t.phys_bits >= 40);
    assert_int_equal(ask(&t, 0, 0x80000008, 0)[A], t.phys_bits | 48u << 8);
    assert_int_equal(ask(&t, 0, 6, 0)[A], 1u << 2); /* ARAT */
}

static void errors_say_what_is_known_and_what_lacks(void **unused)
{
    PtaCpuidTable t;
    memset(&t, 0x5a, sizeof(t));
    PtaCpuidTable before = t;
    PtaCpuidParams p = { .model = "z80", .n_vps = 1, .tsc_hz = 1, .apic_hz = 1, .supported = ALL };
    g_autoptr(GError) unknown = NULL;
    assert_false(pta_cpuid_build(&t, &p, &unknown));
    assert_true(g_error_matches(unknown, PTA_ERROR, PTA_ERROR_BAD_DESCRIPTION));
    assert_non_null(strstr(unknown->message, "\"z80\""));
    assert_non_null(strstr(unknown->message, "x86-64-v3, x86-64-v2, x86-64-v1, host"));

    p.model = "x86-64-v2";
    p.supported = ALL & ~(F(POPCNT) | F(SSE42));
    g_autoptr(GError) lacks = NULL;
    assert_false(pta_cpuid_build(&t, &p, &lacks));
    assert_true(g_error_matches(lacks, PTA_ERROR, PTA_ERROR_UNSUPPORTED));
    assert_non_null(strstr(lacks->message, "lacks: popcnt, sse4.2"));
    assert_memory_equal(&t, &before, sizeof(t)); /* untouched */

    p.model = NULL;
    p.supported = F(SSE3);
    g_autoptr(GError) hopeless = NULL;
    assert_false(pta_cpuid_build(&t, &p, &hopeless));
    assert_true(g_error_matches(hopeless, PTA_ERROR, PTA_ERROR_UNSUPPORTED));
}

static void apic_ids_and_topology_are_those_of_the_vp(void **unused)
{
    PtaCpuidTable t = build("x86-64-v1", PTA_HYPERVISOR_HYPERV, 6, V1);
    for (unsigned vp = 0; vp < 6; vp++) {
        assert_int_equal(ask(&t, vp, 1, 0)[B] >> 24, vp);
        assert_int_equal(ask(&t, vp, 1, 0)[B] >> 16 & 0xff, 8);
        assert_int_equal(ask(&t, vp, 0xb, 0)[D], vp);
        assert_int_equal(ask(&t, vp, 0xb, 0)[C], 1u << 8);
        assert_int_equal(ask(&t, vp, 0xb, 1)[A], 3);
        assert_int_equal(ask(&t, vp, 0xb, 1)[B], 6);
        assert_int_equal(ask(&t, vp, 0xb, 1)[C], 2u << 8 | 1);
        assert_int_equal(ask(&t, vp, 0xb, 2)[C], 2); /* no such level */
        assert_int_equal(ask(&t, vp, 0xb, 2)[D], vp);
    }
    assert_true(ask(&t, 0, 1, 0)[D] >> 28 & 1);
    assert_int_equal(ask(&t, 0, 4, 0)[A] >> 26, 7); /* core ids */
    PtaCpuidTable one = build("x86-64-v1", PTA_HYPERVISOR_HYPERV, 1, V1);
    assert_false(ask(&one, 0, 1, 0)[D] >> 28 & 1);
}

static void caches_have_the_size_they_claim(void **unused)
{
    PtaCpuidTable t = build("x86-64-v1", PTA_HYPERVISOR_NONE, 2, V1);
    static const uint32_t kib[] = { 32, 32, 512, 16384 };
    for (unsigned i = 0; i < G_N_ELEMENTS(kib); i++) {
        const uint32_t *r = ask(&t, 0, 4, i);
        uint32_t size =
            ((r[B] >> 22) + 1) * ((r[B] >> 12 & 0x3ff) + 1) * ((r[B] & 0xfff) + 1) * (r[C] + 1);
        assert_int_equal(size, kib[i] * 1024);
    }
    assert_int_equal(ask(&t, 0, 4, 4)[A] & 0x1f, 0); /* no more of them */
}

static void frequencies_are_in_the_leaves(void **unused)
{
    PtaCpuidTable t = build("x86-64-v1", PTA_HYPERVISOR_NONE, 1, V1);
    const uint32_t *r = ask(&t, 0, 0x15, 0);
    assert_int_equal((uint64_t)r[C] * r[B] / r[A], UINT64_C(2600000000));
    assert_int_equal(r[C], 1000000000);
    assert_int_equal(ask(&t, 0, 0x16, 0)[A], 2600);
}

/* Linux computes crystal_khz * EBX / EAX in 32 bits (native_calibrate_tsc). */
static void linux_reads_any_tsc_frequency(void **unused)
{
    double worst = 0;
    for (uint64_t khz = 100000; khz < 6000000; khz += 977) {
        PtaCpuidParams p = {
            .model = "x86-64-v1",
            .n_vps = 1,
            .tsc_hz = khz * 1000,
            .apic_hz = UINT64_C(1000000000),
            .supported = V1,
        };
        PtaCpuidTable t;
        assert_true(pta_cpuid_build(&t, &p, NULL));
        const uint32_t *r = ask(&t, 0, 0x15, 0);
        uint32_t crystal_khz = r[C] / 1000;
        assert_true((uint64_t)crystal_khz * r[B] <= UINT32_MAX);
        double got = (double)crystal_khz * r[B] / r[A];
        worst = MAX(worst, (got > khz ? got - khz : khz - got) / khz);
    }
    print_message("# off by %.2g at worst\n", worst);
    assert_true(worst < 2e-4);
}

static void leaves_beyond_the_maximum_answer_as_the_last(void **unused)
{
    PtaCpuidTable t = build("x86-64-v1", PTA_HYPERVISOR_NONE, 1, V1);
    uint32_t last[4];
    memcpy(last, ask(&t, 0, 0x16, 0), sizeof(last));
    static const uint32_t beyond[] = { 0x17,       0x3fffffff, 0x40000000, 0x40000001,
                                       0x7fffffff, 0x80000009, UINT32_MAX };
    for (size_t i = 0; i < G_N_ELEMENTS(beyond); i++) {
        assert_memory_equal(ask(&t, 0, beyond[i], 0), last, sizeof(last));
    }
    static const uint32_t zero[4];
    assert_memory_equal(ask(&t, 0, 3, 0), zero, sizeof(zero)); /* within, but not there */
    PtaCpuidTable hv = build("x86-64-v1", PTA_HYPERVISOR_HYPERV, 1, V1);
    assert_memory_equal(ask(&hv, 0, 0x400000ff, 0), zero, sizeof(zero));
}

static void hypervisors_show_themselves(void **unused)
{
    char text[13];
    PtaCpuidTable hv = build("x86-64-v1", PTA_HYPERVISOR_HYPERV, 1, V1);
    assert_true(ask(&hv, 0, 1, 0)[C] >> 31);
    text_of(text, &hv, 0x40000000, B, C, D);
    assert_string_equal(text, "Microsoft Hv");
    assert_true(ask(&hv, 0, 0x40000000, 0)[A] >= 0x40000005); /* what Linux asks for */
    assert_int_equal(ask(&hv, 0, 0x40000001, 0)[A], 0x31237648);
    /* What is served, and neither SynIC (2) nor synthetic timers (3). */
    assert_int_equal(ask(&hv, 0, 0x40000003, 0)[A],
                     1u << 1 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 9 | 1u << 11 | 1u << 15);
    assert_int_equal(ask(&hv, 0, 0x40000003, 0)[D], 1u << 8 | 1u << 10);

    PtaCpuidTable kvm = build("x86-64-v1", PTA_HYPERVISOR_KVM, 1, V1);
    assert_true(ask(&kvm, 0, 1, 0)[C] >> 31);
    text_of(text, &kvm, 0x40000000, B, C, D);
    assert_string_equal(text, "KVMKVMKVM");
    assert_int_equal(ask(&kvm, 0, 0x40000001, 0)[A], 0);

    PtaCpuidTable none = build("x86-64-v1", PTA_HYPERVISOR_NONE, 1, V1);
    assert_false(ask(&none, 0, 1, 0)[C] >> 31);
    text_of(text, &none, 0, B, D, C);
    assert_string_equal(text, "GenuineIntel");
}

static void dynamic_bits_follow_the_registers(void **unused)
{
    PtaCpuidTable t = build("x86-64-v3", PTA_HYPERVISOR_NONE, 1, ALL);
    uint32_t r[4];
    pta_cpuid_query(&t, 0, UINT64_C(1) << 18, 7, 1, 0, r);
    assert_true(r[C] >> 27 & 1);
    pta_cpuid_query(&t, 0, 0, 7, 1, 0, r);
    assert_false(r[C] >> 27 & 1);
    pta_cpuid_query(&t, 0, 0, 3, 0xd, 0, r);
    assert_int_equal(r[B], 576);
    assert_int_equal(r[C], 832);
    pta_cpuid_query(&t, 0, 0, 7, 0xd, 0, r);
    assert_int_equal(r[B], 832);
    assert_int_equal(r[A], 7);
    /* Without XSAVE the CR4 bit cannot show. */
    PtaCpuidTable v1 = build("x86-64-v1", PTA_HYPERVISOR_NONE, 1, ALL);
    pta_cpuid_query(&v1, 0, UINT64_C(1) << 18, 1, 1, 0, r);
    assert_false(r[C] >> 27 & 1);
    assert_int_equal(ask(&v1, 0, 0xd, 0)[A], 0);
}

static void the_largest_table_fits(void **unused)
{
    PtaCpuidTable t = build("host", PTA_HYPERVISOR_HYPERV, 64, ALL);
    assert_true(t.n_leaves <= PTA_CPUID_MAX_LEAVES);
}

static void power_up_is_the_manuals(void **unused)
{
    g_autofree PtaX86State *s = g_new(PtaX86State, 1);
    pta_x86_state_reset(s, 3, 0);
    assert_int_equal(s->regs.rip, 0xfff0);
    assert_int_equal(s->regs.seg[PTA_X86_CS].base, UINT64_C(0xffff0000));
    assert_int_equal(s->regs.cr0, 0x60000010);
    assert_int_equal(s->regs.rflags, 2);
    assert_int_equal(s->debug.dr6, UINT64_C(0xffff0ff0));
    assert_int_equal(s->msrs.apic_base, UINT64_C(0xfee00800));
    assert_int_equal(s->msrs.pat, UINT64_C(0x0007040600070406));
    assert_int_equal(s->events.activity, PTA_X86_WAIT_FOR_SIPI);
    assert_int_equal(s->lapic.page[0x23], 3);
    assert_int_equal(s->xsave.area[24] | s->xsave.area[25] << 8, 0x1f80);
    pta_x86_state_reset(s, 0, 1);
    assert_int_equal(s->msrs.apic_base, UINT64_C(0xfee00900));
    assert_int_equal(s->events.activity, PTA_X86_RUNNING);
    /* EDX after reset is the signature that CPUID names. */
    PtaCpuidTable t = build("x86-64-v1", PTA_HYPERVISOR_NONE, 1, V1);
    assert_int_equal(s->regs.gpr[PTA_X86_RDX], ask(&t, 0, 1, 0)[A]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_default_is_the_highest_served),
        cmocka_unit_test(models_have_their_features_and_no_others),
        cmocka_unit_test(the_baseline_is_there),
        cmocka_unit_test(errors_say_what_is_known_and_what_lacks),
        cmocka_unit_test(apic_ids_and_topology_are_those_of_the_vp),
        cmocka_unit_test(caches_have_the_size_they_claim),
        cmocka_unit_test(frequencies_are_in_the_leaves),
        cmocka_unit_test(linux_reads_any_tsc_frequency),
        cmocka_unit_test(leaves_beyond_the_maximum_answer_as_the_last),
        cmocka_unit_test(hypervisors_show_themselves),
        cmocka_unit_test(dynamic_bits_follow_the_registers),
        cmocka_unit_test(the_largest_table_fits),
        cmocka_unit_test(power_up_is_the_manuals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
