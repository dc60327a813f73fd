/* The Hyper-V MSRs: identity, overlays, time, crash, reset, state. */
#include "config.h"

#include "src/synic/hyperv.h"

#include "tests/lib/cmocka-all.h"

#include <string.h>

#include "src/synic/hyperv-abi.h"

#define LINUX_ID UINT64_C(0x8100060100000000)

typedef struct World {
    PtaMemory *mem;
    PtaHyperv *hv;
    uint64_t ns;
    uint64_t tsc; /* 0: none of its own */
    unsigned resets, crashes;
    uint64_t crash[5];
    char *message;
} World;

static uint64_t clock_ns(void *opaque)
{
    return ((World *)opaque)->ns;
}

static uint64_t tsc(void *opaque, unsigned vp)
{
    (void)vp;
    return ((World *)opaque)->tsc;
}

static void on_reset(void *opaque, unsigned vp)
{
    (void)vp;
    ((World *)opaque)->resets++;
}

static void on_crash(void *opaque, unsigned vp, const uint64_t params[5], const char *message)
{
    World *w = opaque;
    assert_int_equal(vp, 1);
    w->crashes++;
    memcpy(w->crash, params, sizeof(w->crash));
    g_free(w->message);
    w->message = g_strdup(message);
}

static PtaHyperv *new_hyperv(World *w, uint64_t tsc_hz, bool own_tsc)
{
    PtaHypervParams p = {
        .memory = w->mem,
        .n_vps = 4,
        .tsc_hz = tsc_hz,
        .apic_hz = 200000000,
        .opaque = w,
        .clock_ns = clock_ns,
        .tsc = own_tsc ? tsc : NULL,
        .reset = on_reset,
        .crash = on_crash,
    };
    return pta_hyperv_new(&p);
}

static int setup(void **state)
{
    static const PtaRamRange ram = { 0, 0x10000 };
    World *w = g_new0(World, 1);
    w->mem = pta_memory_new(&ram, 1, NULL);
    w->ns = UINT64_C(5000000000);
    w->hv = new_hyperv(w, 2000000000, false);
    for (unsigned page = 0; page < 16; page++) {
        pta_memory_fill(w->mem, page * PTA_PAGE_SIZE, (uint8_t)(0xa0 + page), PTA_PAGE_SIZE);
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    World *w = *state;
    pta_hyperv_free(w->hv);
    pta_memory_free(w->mem);
    g_free(w->message);
    g_free(w);
    return 0;
}

static uint64_t rd(World *w, uint32_t msr)
{
    uint64_t v = 0;
    assert_true(pta_hyperv_msr_read(w->hv, 0, msr, &v));
    return v;
}

static void wr(World *w, uint32_t msr, uint64_t value)
{
    assert_true(pta_hyperv_msr_write(w->hv, 0, msr, value));
}

static uint8_t byte_at(World *w, uint64_t gpa)
{
    uint8_t b = 0;
    assert_int_equal(pta_memory_read(w->mem, gpa, &b, 1), PTA_MEM_OK);
    return b;
}

static void assert_page_is(World *w, uint64_t gpa, uint8_t fill)
{
    uint8_t page[4096];
    assert_int_equal(pta_memory_read(w->mem, gpa, page, sizeof(page)), PTA_MEM_OK);
    for (size_t i = 0; i < sizeof(page); i++) {
        assert_int_equal(page[i], fill);
    }
}

static void assert_is_hypercall_page(World *w, uint64_t gpa)
{
    static const uint8_t code[] = { 0x0f, 0x01, 0xc1, 0xc3 };
    uint8_t got[4];
    pta_memory_read(w->mem, gpa, got, 4);
    assert_memory_equal(got, code, 4);
}

static void identity_and_numbers(void **state)
{
    World *w = *state;
    assert_int_equal(rd(w, HV_MSR_GUEST_OS_ID), 0);
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    assert_int_equal(rd(w, HV_MSR_GUEST_OS_ID), LINUX_ID);
    assert_int_equal(rd(w, HV_MSR_TSC_FREQUENCY), 2000000000);
    assert_int_equal(rd(w, HV_MSR_APIC_FREQUENCY), 200000000);
    for (unsigned vp = 0; vp < 4; vp++) {
        uint64_t v;
        assert_true(pta_hyperv_msr_read(w->hv, vp, HV_MSR_VP_INDEX, &v));
        assert_int_equal(v, vp);
    }
    assert_int_equal(rd(w, HV_MSR_TIME_REF_COUNT), 50000000);
    w->ns += 12345;
    assert_int_equal(rd(w, HV_MSR_TIME_REF_COUNT), 50000123);
}

static void read_only_and_absent_msrs_fault(void **state)
{
    World *w = *state;
    static const uint32_t read_only[] = { HV_MSR_VP_INDEX, HV_MSR_TIME_REF_COUNT,
                                          HV_MSR_TSC_FREQUENCY, HV_MSR_APIC_FREQUENCY };
    for (size_t i = 0; i < G_N_ELEMENTS(read_only); i++) {
        assert_false(pta_hyperv_msr_write(w->hv, 0, read_only[i], 1));
    }
    /* VP_RUNTIME, EOI, ICR, TPR, SCONTROL, SIMP, SINT0, STIMER0_CONFIG, CTL + 1 */
    static const uint32_t absent[] = { 0x40000010, 0x40000070, 0x40000071, 0x40000072, 0x40000080,
                                       0x40000083, 0x40000090, 0x400000b0, 0x40000106, 0x10 };
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        uint64_t v;
        assert_false(pta_hyperv_msr_read(w->hv, 0, absent[i], &v));
        assert_false(pta_hyperv_msr_write(w->hv, 0, absent[i], 0));
    }
    assert_false(pta_hyperv_msr_write(w->hv, 0, HV_MSR_TSC_INVARIANT_CONTROL, 2));
    wr(w, HV_MSR_TSC_INVARIANT_CONTROL, 1);
    assert_int_equal(rd(w, HV_MSR_TSC_INVARIANT_CONTROL), 1);
}

static void the_hypercall_page_needs_a_guest(void **state)
{
    World *w = *state;
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    assert_int_equal(rd(w, HV_MSR_HYPERCALL), 0x3000); /* not enabled */
    assert_page_is(w, 0x3000, 0xa3);
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    assert_is_hypercall_page(w, 0x3000);
    /* A guest that takes back its name loses it. */
    wr(w, HV_MSR_GUEST_OS_ID, 0);
    assert_int_equal(rd(w, HV_MSR_HYPERCALL), 0x3000);
    assert_page_is(w, 0x3000, 0xa3);
}

static void the_page_underneath_reappears(void **state)
{
    World *w = *state;
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    wr(w, HV_MSR_HYPERCALL, 0x5001); /* it moves */
    assert_page_is(w, 0x3000, 0xa3);
    assert_is_hypercall_page(w, 0x5000);
    wr(w, HV_MSR_HYPERCALL, 0x5000);
    assert_page_is(w, 0x5000, 0xa5);
    /* Nowhere: #GP, and nothing changes. */
    wr(w, HV_MSR_HYPERCALL, 0x5001);
    assert_false(pta_hyperv_msr_write(w->hv, 0, HV_MSR_HYPERCALL, 0x10001));
    assert_int_equal(rd(w, HV_MSR_HYPERCALL), 0x5001);
    assert_is_hypercall_page(w, 0x5000);
    /* Locked until reset. */
    wr(w, HV_MSR_HYPERCALL, 0x5003);
    wr(w, HV_MSR_HYPERCALL, 0x6001);
    assert_int_equal(rd(w, HV_MSR_HYPERCALL), 0x5003);
    pta_hyperv_reset(w->hv);
    assert_page_is(w, 0x5000, 0xa5);
    assert_int_equal(rd(w, HV_MSR_HYPERCALL), 0);
}

/* Both overlays on one page, in both orders of coming and going. */
static void overlays_may_coincide(void **state)
{
    World *w = *state;
    for (unsigned i = 0; i < 4; i++) {
        uint32_t first = i & 1 ? HV_MSR_HYPERCALL : HV_MSR_REFERENCE_TSC;
        uint32_t second = i & 1 ? HV_MSR_REFERENCE_TSC : HV_MSR_HYPERCALL;
        uint32_t leaves = i & 2 ? first : second, stays = i & 2 ? second : first;
        wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
        wr(w, first, 0x7001);
        wr(w, second, 0x7001);
        wr(w, leaves, 0);
        if (stays == HV_MSR_HYPERCALL) {
            assert_is_hypercall_page(w, 0x7000);
        } else {
            assert_int_equal(byte_at(w, 0x7018), 0); /* beyond the offset: zero */
        }
        wr(w, stays, 0);
        assert_page_is(w, 0x7000, 0xa7);
    }
}

static uint64_t page_time(World *w, uint64_t gpa, uint64_t tsc_now)
{
    uint64_t scale, offset;
    assert_int_equal(pta_memory_load_u64(w->mem, gpa + 8, &scale), PTA_MEM_OK);
    assert_int_equal(pta_memory_load_u64(w->mem, gpa + 16, &offset), PTA_MEM_OK);
    return (uint64_t)((unsigned __int128)tsc_now * scale >> 64) + offset;
}

static uint32_t sequence(World *w, uint64_t gpa)
{
    uint32_t v;
    assert_int_equal(pta_memory_load_u32(w->mem, gpa, &v), PTA_MEM_OK);
    return v;
}

static void the_tsc_page_tells_reference_time(void **state)
{
    World *w = *state;
    pta_hyperv_free(w->hv);
    w->hv = new_hyperv(w, UINT64_C(2600000000), true);
    w->tsc = UINT64_C(77777777777);
    wr(w, HV_MSR_REFERENCE_TSC, 0x9ff1); /* reserved bits are kept */
    assert_int_equal(rd(w, HV_MSR_REFERENCE_TSC), 0x9ff1);
    assert_int_not_equal(sequence(w, 0x9000), 0);
    /* A day later the page and the MSR agree to a tick. */
    for (unsigned hours = 0; hours <= 24; hours++) {
        uint64_t later_ns = (uint64_t)hours * 3600 * 1000000000;
        w->ns = UINT64_C(5000000000) + later_ns;
        uint64_t t = page_time(w, 0x9000, w->tsc + later_ns / 1000 * 2600);
        uint64_t want = rd(w, HV_MSR_TIME_REF_COUNT);
        assert_in_range(t, want - 1, want + 1);
    }
    /* The clocks went apart (another host): new numbers, new sequence. */
    uint32_t before = sequence(w, 0x9000);
    w->tsc = 1000;
    pta_hyperv_update_time(w->hv);
    assert_int_not_equal(sequence(w, 0x9000), before);
    assert_int_equal(page_time(w, 0x9000, 1000), rd(w, HV_MSR_TIME_REF_COUNT));
    wr(w, HV_MSR_REFERENCE_TSC, 0x9000);
    assert_page_is(w, 0x9000, 0xa9);
}

static void the_assist_page_is_zeroed(void **state)
{
    World *w = *state;
    assert_true(pta_hyperv_msr_write(w->hv, 2, HV_MSR_VP_ASSIST_PAGE, 0x4001));
    assert_page_is(w, 0x4000, 0);
    uint64_t v;
    assert_true(pta_hyperv_msr_read(w->hv, 2, HV_MSR_VP_ASSIST_PAGE, &v));
    assert_int_equal(v, 0x4001);
    assert_int_equal(rd(w, HV_MSR_VP_ASSIST_PAGE), 0); /* of VP 0 */
    assert_false(pta_hyperv_msr_write(w->hv, 2, HV_MSR_VP_ASSIST_PAGE, 0x4003));
    assert_false(pta_hyperv_msr_write(w->hv, 2, HV_MSR_VP_ASSIST_PAGE, 0x10001));
}

static void crashes_are_told_with_their_words(void **state)
{
    World *w = *state;
    static const char words[] = "Kernel panic\x1b[31m - not syncing\n\xff bye";
    pta_memory_write(w->mem, 0x8ff0, words, sizeof(words) - 1);
    assert_int_equal(rd(w, HV_MSR_CRASH_CTL), UINT64_C(3) << 62);
    for (uint32_t i = 0; i < 5; i++) {
        assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_P0 + i, 0x100 + i));
        assert_int_equal(rd(w, HV_MSR_CRASH_P0 + i), 0x100 + i);
    }
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_CTL, UINT64_C(1) << 62));
    assert_int_equal(w->crashes, 0); /* no notification asked */
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_CTL, HV_CRASH_NOTIFY));
    assert_int_equal(w->crashes, 1);
    assert_int_equal(w->crash[4], 0x104);
    assert_null(w->message);

    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_P0 + 3, 0x8ff0));
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_P0 + 4, sizeof(words) - 1));
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_CTL, UINT64_C(3) << 62));
    assert_int_equal(w->crashes, 2);
    assert_string_equal(w->message, "Kernel panic [31m - not syncing\n\xef\xbf\xbd bye");

    /* A hostile length or place is no message, or a bounded one. */
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_P0 + 4, UINT64_MAX));
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_CTL, UINT64_C(3) << 62));
    assert_true(strlen(w->message) <= 3 * 4096);
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_P0 + 3, UINT64_MAX - 5));
    assert_true(pta_hyperv_msr_write(w->hv, 1, HV_MSR_CRASH_CTL, UINT64_C(3) << 62));
    assert_int_equal(w->crashes, 4);
    assert_null(w->message);
}

static void the_reset_msr_resets(void **state)
{
    World *w = *state;
    wr(w, HV_MSR_RESET, 0);
    assert_int_equal(w->resets, 0);
    wr(w, HV_MSR_RESET, 1);
    assert_int_equal(w->resets, 1);
    assert_int_equal(rd(w, HV_MSR_RESET), 0);
}

static PtaX86Regs kernel64(void)
{
    PtaX86Regs r = { .cr0 = UINT64_C(0x80000001), .efer = 0x500 };
    r.seg[PTA_X86_CS].attrs = 0x209b;
    r.seg[PTA_X86_SS].attrs = 0x4093;
    return r;
}

static void hypercalls_are_not_known(void **state)
{
    World *w = *state;
    PtaX86Regs r = kernel64();
    r.gpr[PTA_X86_RCX] = 0x5c;
    assert_false(pta_hyperv_hypercall(w->hv, 0, &r)); /* interface off */
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    r.gpr[PTA_X86_RAX] = UINT64_MAX;
    assert_true(pta_hyperv_hypercall(w->hv, 0, &r));
    assert_int_equal(r.gpr[PTA_X86_RAX], 2);

    PtaX86Regs compat = kernel64();
    compat.seg[PTA_X86_CS].attrs = 0xc09b;
    compat.gpr[PTA_X86_RDX] = 7;
    assert_true(pta_hyperv_hypercall(w->hv, 0, &compat));
    assert_int_equal(compat.gpr[PTA_X86_RAX], 2);
    assert_int_equal(compat.gpr[PTA_X86_RDX], 0);

    PtaX86Regs user = kernel64();
    user.seg[PTA_X86_SS].attrs |= 0x60;
    assert_false(pta_hyperv_hypercall(w->hv, 0, &user));
    PtaX86Regs real = kernel64();
    real.cr0 = 0;
    assert_false(pta_hyperv_hypercall(w->hv, 0, &real));
}

static void every_field_is_saved(void **state)
{
    (void)state;
    size_t sum = 0;
    for (const PtaStateField *f = pta_hyperv_state.fields; f->name; sum += f++->size) {
        assert_int_equal(f->offset, sum);
    }
    assert_int_equal(sum, pta_hyperv_state.size);
}

static void state_goes_through_json_and_back(void **state)
{
    World *w = *state;
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    wr(w, HV_MSR_REFERENCE_TSC, 0x9001);
    wr(w, HV_MSR_CRASH_P0, 42);
    uint32_t seq = sequence(w, 0x9000);
    g_autofree PtaHypervState *s = g_new0(PtaHypervState, 1);
    g_autofree PtaHypervState *back = g_new0(PtaHypervState, 1);
    pta_hyperv_get_state(w->hv, s);
    json_t *json = pta_state_save(&pta_hyperv_state, s);
    g_autoptr(GError) error = NULL;
    assert_true(pta_state_load(&pta_hyperv_state, json, back, &error));
    json_decref(json);
    assert_memory_equal(s, back, sizeof(*s));

    /* Into a new one whose memory was restored: overlays are there, time is told anew. */
    pta_hyperv_free(w->hv);
    w->hv = new_hyperv(w, 2000000000, false);
    w->ns += 1000000;
    assert_true(pta_hyperv_set_state(w->hv, back, &error));
    assert_int_equal(rd(w, HV_MSR_CRASH_P0), 42);
    assert_is_hypercall_page(w, 0x3000);
    assert_int_equal(sequence(w, 0x9000), seq + 1);
    wr(w, HV_MSR_HYPERCALL, 0);
    wr(w, HV_MSR_REFERENCE_TSC, 0);
    assert_page_is(w, 0x3000, 0xa3);
    assert_page_is(w, 0x9000, 0xa9);
}

static void hostile_states_are_refused(void **state)
{
    World *w = *state;
    g_autofree PtaHypervState *good = g_new0(PtaHypervState, 1);
    g_autofree PtaHypervState *s = g_new0(PtaHypervState, 1);
    good->guest_os_id = LINUX_ID;
    for (unsigned i = 0; i < 5; i++) {
        *s = *good;
        switch (i) {
        case 0:
            s->top = 2;
            break;
        case 1:
            s->tsc_invariant_control = 2;
            break;
        case 2:
            s->overlay_msr[PTA_HYPERV_HYPERCALL] = UINT64_C(0xfffffffffffff001);
            break;
        case 3:
            s->overlay_msr[PTA_HYPERV_HYPERCALL] = 0x1001;
            s->guest_os_id = 0;
            break;
        case 4:
            s->vp_assist[63] = 2;
            break;
        }
        g_autoptr(GError) error = NULL;
        assert_false(pta_hyperv_set_state(w->hv, s, &error));
        assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_BAD_SNAPSHOT));
    }
    assert_true(pta_hyperv_set_state(w->hv, good, NULL));
}

/* ---- a back end that answers guests by itself ---- */

/* As KVM does: it writes its entry point into the page at once, and the numbers of the reference TSC page
 * when a VP runs, whoever's page that is by then. */
typedef struct Kernel {
    uint64_t os_id, hypercall, tsc;
    bool refuse;
} Kernel;
static Kernel kernel;

static bool mirror(void *opaque, unsigned vp, uint32_t msr, uint64_t value)
{
    static const uint8_t vmmcall[] = { 0x0f, 0x01, 0xd9, 0xc3 };
    World *w = opaque;
    assert_true(vp < 4);
    if (kernel.refuse && (value & 1)) {
        return false;
    }
    switch (msr) {
    case HV_MSR_GUEST_OS_ID:
        kernel.os_id = value;
        kernel.hypercall &= value ? UINT64_MAX : ~UINT64_C(1);
        return true;
    case HV_MSR_HYPERCALL:
        if (kernel.os_id != 0) {
            kernel.hypercall = value;
            if (value & 1) {
                pta_memory_write(w->mem, value & PTA_PAGE_MASK, vmmcall, sizeof(vmmcall));
            }
        }
        return true;
    case HV_MSR_REFERENCE_TSC:
        kernel.tsc = value;
        return true;
    default:
        return false;
    }
}

static void kernel_runs_vp(World *w)
{
    uint64_t gpa = kernel.tsc & PTA_PAGE_MASK;
    if (kernel.tsc & 1) {
        pta_memory_store_u32(w->mem, gpa, sequence(w, gpa) + 1);
        pta_memory_store_u64(w->mem, gpa + 8, 0x1111);
    }
}

static PtaHyperv *new_mirrored(World *w)
{
    PtaHypervParams p = {
        .memory = w->mem,
        .n_vps = 4,
        .tsc_hz = 2000000000,
        .apic_hz = 1000000000,
        .opaque = w,
        .clock_ns = clock_ns,
        .mirror = mirror,
        .hypercall_insn = { 0x66, 0xe7, 0xea },
    };
    kernel = (Kernel){ 0 };
    return pta_hyperv_new(&p);
}

static void assert_is_kernels_page(World *w, uint64_t gpa)
{
    static const uint8_t code[] = { 0x0f, 0x01, 0xd9, 0xc3, 0xcc };
    uint8_t got[5];
    pta_memory_read(w->mem, gpa, got, 5);
    assert_memory_equal(got, code, 5);
}

static void the_back_end_is_told(void **state)
{
    World *w = *state;
    pta_hyperv_free(w->hv);
    w->hv = new_mirrored(w);
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    wr(w, HV_MSR_REFERENCE_TSC, 0x9001);
    assert_int_equal(kernel.os_id, LINUX_ID);
    assert_int_equal(kernel.hypercall, 0x3001);
    assert_int_equal(kernel.tsc, 0x9001);
    assert_is_kernels_page(w, 0x3000);
    kernel_runs_vp(w);
    /* It moves: what was covered is whole again, and stays so. */
    wr(w, HV_MSR_HYPERCALL, 0x4001);
    wr(w, HV_MSR_REFERENCE_TSC, 0xa001);
    kernel_runs_vp(w);
    assert_page_is(w, 0x3000, 0xa3);
    assert_page_is(w, 0x9000, 0xa9);
    assert_is_kernels_page(w, 0x4000);
    wr(w, HV_MSR_GUEST_OS_ID, 0);
    assert_int_equal(kernel.hypercall & 1, 0);
    assert_page_is(w, 0x4000, 0xa4);
    pta_hyperv_reset(w->hv);
    kernel_runs_vp(w);
    assert_page_is(w, 0xa000, 0xaa);
    assert_int_equal(kernel.tsc & 1, 0);
    assert_int_equal(kernel.os_id, 0);
}

static void what_the_back_end_refuses_is_not(void **state)
{
    World *w = *state;
    pta_hyperv_free(w->hv);
    w->hv = new_mirrored(w);
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    kernel.refuse = true;
    assert_false(pta_hyperv_msr_write(w->hv, 0, HV_MSR_HYPERCALL, 0x3001));
    assert_false(pta_hyperv_msr_write(w->hv, 0, HV_MSR_REFERENCE_TSC, 0x9001));
    assert_int_equal(rd(w, HV_MSR_HYPERCALL) & 1, 0);
    assert_page_is(w, 0x3000, 0xa3);
    assert_page_is(w, 0x9000, 0xa9);
    /* A state with such a page as well. */
    g_autofree PtaHypervState *s = g_new0(PtaHypervState, 1);
    g_autoptr(GError) error = NULL;
    s->guest_os_id = LINUX_ID;
    s->overlay_msr[PTA_HYPERV_HYPERCALL] = 0x3001;
    assert_false(pta_hyperv_set_state(w->hv, s, &error));
    assert_true(g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST));
}

/* From the software CPU to KVM and back: pages, what they cover, and sequences go along. */
static void state_moves_between_back_ends(void **state)
{
    World *w = *state;
    g_autofree PtaHypervState *s = g_new0(PtaHypervState, 1);
    g_autoptr(GError) error = NULL;
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    wr(w, HV_MSR_REFERENCE_TSC, 0x9001);
    uint32_t first = sequence(w, 0x9000);
    pta_hyperv_get_state(w->hv, s);
    pta_hyperv_free(w->hv);

    w->hv = new_mirrored(w);
    assert_true(pta_hyperv_set_state(w->hv, s, &error));
    assert_int_equal(kernel.hypercall, 0x3001);
    assert_int_equal(kernel.tsc, 0x9001);
    assert_is_kernels_page(w, 0x3000);
    kernel_runs_vp(w);
    kernel_runs_vp(w);
    uint32_t kernels = sequence(w, 0x9000);
    assert_true(kernels > first);
    pta_hyperv_get_state(w->hv, s);
    assert_int_equal(s->tsc_sequence, kernels);
    pta_hyperv_free(w->hv);

    w->hv = new_hyperv(w, 2000000000, false);
    assert_true(pta_hyperv_set_state(w->hv, s, &error));
    assert_is_hypercall_page(w, 0x3000);
    assert_int_equal(sequence(w, 0x9000), kernels + 1);
    assert_int_equal(page_time(w, 0x9000, w->ns * 2), rd(w, HV_MSR_TIME_REF_COUNT));
    wr(w, HV_MSR_HYPERCALL, 0);
    wr(w, HV_MSR_REFERENCE_TSC, 0);
    assert_page_is(w, 0x3000, 0xa3);
    assert_page_is(w, 0x9000, 0xa9);
}

/* A state in place of another: the back end does not write to pages that are the guest's own now. */
static void pages_of_before_are_forgotten(void **state)
{
    World *w = *state;
    g_autofree PtaHypervState *s = g_new0(PtaHypervState, 1);
    pta_hyperv_free(w->hv);
    w->hv = new_mirrored(w);
    wr(w, HV_MSR_GUEST_OS_ID, LINUX_ID);
    wr(w, HV_MSR_HYPERCALL, 0x3001);
    wr(w, HV_MSR_REFERENCE_TSC, 0x9001);
    assert_true(pta_hyperv_set_state(w->hv, s, NULL));
    pta_memory_fill(w->mem, 0x9000, 0xa9, PTA_PAGE_SIZE); /* RAM comes back with the state */
    kernel_runs_vp(w);
    assert_page_is(w, 0x9000, 0xa9);
    assert_int_equal(kernel.hypercall & 1, 0);
    assert_int_equal(kernel.os_id, 0);
}

static bool unstable(void *opaque)
{
    (void)opaque;
    return false;
}

static void a_page_of_no_use_says_so(void **state)
{
    World *w = *state;
    const PtaHypervParams p = {
        .memory = w->mem,
        .n_vps = 1,
        .tsc_hz = 2000000000,
        .apic_hz = 1000000000,
        .opaque = w,
        .clock_ns = clock_ns,
        .tsc_stable = unstable,
    };
    pta_hyperv_free(w->hv);
    w->hv = pta_hyperv_new(&p);
    wr(w, HV_MSR_REFERENCE_TSC, 0x9001);
    assert_int_equal(sequence(w, 0x9000), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(identity_and_numbers),
        T(read_only_and_absent_msrs_fault),
        T(the_hypercall_page_needs_a_guest),
        T(the_page_underneath_reappears),
        T(overlays_may_coincide),
        T(the_tsc_page_tells_reference_time),
        T(the_assist_page_is_zeroed),
        T(crashes_are_told_with_their_words),
        T(the_reset_msr_resets),
        T(hypercalls_are_not_known),
        T(every_field_is_saved),
        T(state_goes_through_json_and_back),
        T(hostile_states_are_refused),
        T(the_back_end_is_told),
        T(what_the_back_end_refuses_is_not),
        T(state_moves_between_back_ends),
        T(pages_of_before_are_forgotten),
        T(a_page_of_no_use_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
