/*
 * What is random here is what the two back ends must hand to one another unchanged: modes, segments as a
 * guest can load them, control and debug registers, MSRs, FPU, local APIC with timers, events. Nothing that
 * is only kept by one of them (docs/design/kvm.md lists that).
 */
#include "config.h"

#include "tests/kvm/state-gen.h"

#include <inttypes.h>
#include <string.h>

#include "src/partition/x86-state-check.h"
#include "src/partition/x86-state-table.h"

/* splitmix64 */
uint64_t state_gen_random(StateGen *g)
{
    uint64_t z = g->seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t below(StateGen *g, uint64_t n)
{
    return state_gen_random(g) % n;
}

static bool one_in(StateGen *g, unsigned n)
{
    return below(g, n) == 0;
}

static bool has(const StateGen *g, PtaX86Feature f)
{
    return pta_cpuid_has(g->cpuid, f);
}

static uint64_t canonical(StateGen *g)
{
    return (uint64_t)((int64_t)(state_gen_random(g) << 16) >> 16);
}

/* ---- registers ---- */

typedef enum Mode { REAL, PROTECTED, PAGED, PAE, V8086, COMPAT, LONG, N_MODES } Mode;

static bool is_long(Mode m)
{
    return m == LONG || m == COMPAT;
}

static void gen_control(StateGen *g, Mode m, PtaX86Regs *r)
{
    const uint64_t pe = 1, nw = 1u << 29, cd = 1u << 30, pg = UINT64_C(1) << 31;
    uint64_t r64 = state_gen_random(g);
    r->cr0 = 0x10 | (r64 & 0x5002e); /* MP EM TS NE WP AM */
    r->cr0 |= r64 & cd ? cd | (r64 >> 40 & 1 ? nw : 0) : 0;
    r->cr0 |= m != REAL ? pe : 0;
    r->cr0 |= m == PAGED || m == PAE || is_long(m) ? pg : 0;
    r->cr2 = state_gen_random(g);
    r->cr4 = state_gen_random(g) & pta_x86_cr4_known(g->cpuid) & ~(UINT64_C(1) << 17 | 1u << 5);
    r->cr4 |= m == PAE || is_long(m) ? 1u << 5 : 0;
    r->cr3 = state_gen_random(g) & ((UINT64_C(1) << g->cpuid->phys_bits) - 1) & ~UINT64_C(0xfe7);
    if (!is_long(m)) {
        r->cr3 &= UINT32_MAX;
    } else if (has(g, PTA_X86_FEAT_PCID) && one_in(g, 2)) {
        r->cr4 |= UINT64_C(1) << 17;
        r->cr3 |= below(g, 0x1000);
    }
    r->efer = state_gen_random(g) & 0x801;
    r->efer |= is_long(m) ? 0x500 : 0;
    r->efer |= !(r->cr0 & pg) && one_in(g, 3) ? 0x100 : 0;
    r->xcr0 = 1;
    if (has(g, PTA_X86_FEAT_XSAVE)) {
        static const uint8_t masks[] = { 1, 3, 7 };
        r->xcr0 = masks[below(g, has(g, PTA_X86_FEAT_AVX) ? 3 : 2)];
    }
}

/* G is there exactly if the limit needs it, as a CPU without a bit for it says. */
static PtaX86Segment sized(uint64_t base, uint32_t limit, uint16_t selector, unsigned attrs)
{
    if (limit > 0xfffff) {
        attrs |= 1u << 15;
        limit |= 0xfff;
    }
    return (PtaX86Segment){ base, limit, selector, (uint16_t)attrs };
}

static PtaX86Segment gen_data(StateGen *g, unsigned cpl)
{
    static const uint8_t types[] = { 0x1, 0x3, 0x5, 0x7, 0xb, 0xf };
    unsigned attrs = 0x90 | types[below(g, 6)] | cpl << 5 | (unsigned)below(g, 2) << 14 |
                     (unsigned)below(g, 2) << 12;
    return sized(state_gen_random(g) & UINT32_MAX, (uint32_t)state_gen_random(g),
                 (uint16_t)((state_gen_random(g) & 0xfffc) | cpl), attrs);
}

static void gen_real_segments(StateGen *g, PtaX86Regs *r, bool v8086)
{
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        uint16_t selector = (uint16_t)state_gen_random(g);
        unsigned attrs = v8086 ? 0xf3 : i == PTA_X86_CS ? 0x9b : 0x93;
        r->seg[i] = (PtaX86Segment){ (uint64_t)selector << 4, 0xffff, selector, (uint16_t)attrs };
    }
}

static void gen_segments(StateGen *g, Mode m, PtaX86Regs *r)
{
    unsigned cpl = (unsigned)below(g, 4);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        r->seg[i] = gen_data(g, cpl);
        if (i != PTA_X86_CS && i != PTA_X86_SS && one_in(g, 4)) {
            r->seg[i] = (PtaX86Segment){ .attrs = PTA_X86_SEG_UNUSABLE };
        }
    }
    r->seg[PTA_X86_SS].attrs = (uint16_t)((r->seg[PTA_X86_SS].attrs & ~0xf) | 3);
    if (m == LONG && cpl < 3 && one_in(g, 2)) {
        r->seg[PTA_X86_SS] =
            (PtaX86Segment){ .selector = (uint16_t)cpl,
                             .attrs = (uint16_t)(PTA_X86_SEG_UNUSABLE | cpl << 5) };
    }
    unsigned kind = m == LONG ? 1u << 13 : (unsigned)below(g, 2) << 14;
    r->seg[PTA_X86_CS] = sized(state_gen_random(g) & UINT32_MAX, (uint32_t)state_gen_random(g),
                               (uint16_t)((state_gen_random(g) & 0xfff8) | cpl),
                               0x90 | (one_in(g, 2) ? 0xb : 0x9) | cpl << 5 | kind);
    if (is_long(m)) {
        r->seg[PTA_X86_FS].base = canonical(g);
        r->seg[PTA_X86_GS].base = canonical(g);
    }
}

static void gen_tables(StateGen *g, Mode m, PtaX86Regs *r)
{
    uint64_t mask = is_long(m) ? UINT64_MAX : UINT32_MAX;
    r->gdtr = (PtaX86Table){ .base = canonical(g) & mask, .limit = (uint16_t)state_gen_random(g) };
    r->idtr = (PtaX86Table){ .base = canonical(g) & mask, .limit = (uint16_t)state_gen_random(g) };
    r->tr = sized(canonical(g) & mask, (uint32_t)state_gen_random(g),
                  (uint16_t)(state_gen_random(g) & 0xfff8), 0x8b);
    r->ldtr = sized(canonical(g) & mask, (uint32_t)state_gen_random(g),
                    (uint16_t)(state_gen_random(g) & 0xfff8), 0x82);
    if (one_in(g, 2)) {
        r->ldtr = (PtaX86Segment){ .attrs = PTA_X86_SEG_UNUSABLE };
    }
}

static void gen_regs(StateGen *g, PtaX86Regs *r)
{
    Mode m = (Mode)below(g, N_MODES);
    for (unsigned i = 0; i < PTA_X86_N_GPRS; i++) {
        r->gpr[i] = state_gen_random(g);
    }
    r->rip = m == LONG ? canonical(g) : state_gen_random(g) & UINT32_MAX;
    r->rflags = (state_gen_random(g) & 0x3d7fd7) | 2; /* without VM */
    gen_control(g, m, r);
    if (m == REAL || m == V8086) {
        gen_real_segments(g, r, m == V8086);
        r->rflags |= m == V8086 ? 1u << 17 | 3u << 12 : 0;
    } else {
        gen_segments(g, m, r);
    }
    gen_tables(g, m, r);
}

static void gen_debug(StateGen *g, PtaX86DebugRegs *d)
{
    for (unsigned i = 0; i < 4; i++) {
        d->dr[i] = canonical(g);
    }
    d->dr6 = UINT64_C(0xffff0ff0) | (state_gen_random(g) & 0xe00f);
    d->dr7 = 0x400 | (state_gen_random(g) & 0xffff23ff);
}

/* ---- MSRs ---- */

static uint64_t gen_types(StateGen *g, const uint8_t *types, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | types[below(g, n)];
    }
    return v;
}

static void gen_mtrrs(StateGen *g, PtaX86Mtrrs *m)
{
    static const uint8_t types[] = { 0, 1, 4, 5, 6 };
    uint64_t frame = ((UINT64_C(1) << g->cpuid->phys_bits) - 1) & ~UINT64_C(0xfff);
    m->def_type = (state_gen_random(g) & 0xc00) | types[below(g, 5)];
    for (unsigned i = 0; i < G_N_ELEMENTS(m->fixed); i++) {
        m->fixed[i] = gen_types(g, types, 5);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(m->phys_base); i++) {
        m->phys_base[i] = (state_gen_random(g) & frame) | types[below(g, 5)];
        m->phys_mask[i] = state_gen_random(g) & (frame | 0x800);
    }
}

static void gen_msrs(StateGen *g, PtaX86Msrs *m)
{
    static const uint8_t pat_types[] = { 0, 1, 4, 5, 6, 7 };
    m->star = state_gen_random(g);
    m->lstar = canonical(g);
    m->cstar = canonical(g);
    m->sfmask = state_gen_random(g) & UINT32_MAX;
    m->kernel_gs_base = canonical(g);
    m->sysenter_cs = state_gen_random(g) & UINT32_MAX;
    m->sysenter_esp = g->narrow_sysenter ? state_gen_random(g) & UINT32_MAX : canonical(g);
    m->sysenter_eip = g->narrow_sysenter ? state_gen_random(g) & UINT32_MAX : canonical(g);
    m->pat = gen_types(g, pat_types, 6);
    m->tsc_adjust = state_gen_random(g);
    m->tsc_aux = has(g, PTA_X86_FEAT_RDTSCP) ? state_gen_random(g) & UINT32_MAX : 0;
    m->misc_enable = below(g, 2);
    gen_mtrrs(g, &m->mtrrs);
}

/* ---- FPU ---- */

static void put(uint8_t *area, size_t at, uint64_t value, size_t size)
{
    memcpy(area + at, &(uint64_t){ GUINT64_TO_LE(value) }, size);
}

static void gen_xsave(StateGen *g, uint8_t *area)
{
    bool avx = has(g, PTA_X86_FEAT_AVX);
    uint64_t cw = (state_gen_random(g) & 0x1f3f) | 0x40;
    uint64_t sw = state_gen_random(g) & 0x7f7f;
    sw |= sw & ~cw & 0x3f ? 0x8080 : 0; /* an exception waits */
    put(area, 0, cw, 2);
    put(area, 2, sw, 2);
    put(area, 4, state_gen_random(g), 1);
    put(area, 6, state_gen_random(g) & 0x7ff, 2);
    put(area, 8, state_gen_random(g), 8);
    put(area, 16, state_gen_random(g), 8);
    put(area, 24, state_gen_random(g) & 0xffff, 4);
    put(area, 28, 0xffff, 4);
    for (unsigned i = 0; i < 8; i++) {
        put(area, 32 + (size_t)16 * i, state_gen_random(g), 8);
        put(area, 40 + (size_t)16 * i, state_gen_random(g), 2);
    }
    for (unsigned i = 0; i < 32; i++) {
        put(area, 160 + (size_t)8 * i, state_gen_random(g), 8);
        put(area, 576 + (size_t)8 * i, avx ? state_gen_random(g) : 0, 8);
    }
    put(area, 512, avx ? 7 : 3, 8);
}

/* ---- the local APIC ---- */

static void reg(PtaX86Lapic *l, unsigned index, uint64_t value)
{
    put(l->page, (size_t)index * 16, value, 4);
}

static uint32_t highest(const uint32_t words[8])
{
    for (unsigned i = 8; i-- > 0;) {
        if (words[i]) {
            return i * 32 + 31 - (uint32_t)__builtin_clz(words[i]);
        }
    }
    return 0;
}

static void gen_vectors(StateGen *g, PtaX86Lapic *l, uint32_t tpr)
{
    uint32_t isr[8] = { 0 };
    for (unsigned i = 0; i < 8; i++) {
        uint32_t low = i == 0 ? 0xffff0000 : UINT32_MAX;
        isr[i] = (uint32_t)(state_gen_random(g) & state_gen_random(g) & state_gen_random(g)) & low;
        isr[i] = one_in(g, 3) ? isr[i] : 0;
        reg(l, 0x10 + i, isr[i]);
        reg(l, 0x18 + i, state_gen_random(g) & low);
        reg(l, 0x20 + i, one_in(g, 3) ? state_gen_random(g) & low : 0);
    }
    uint32_t in_service = highest(isr) & 0xf0;
    reg(l, 0x0a, (tpr & 0xf0) >= in_service ? tpr : in_service);
}

/* divide by 2, 4, … 128, 1: the code of DCR by its exponent */
static void gen_timer(StateGen *g, PtaX86State *s)
{
    static const uint8_t dcr[] = { 0xb, 0, 1, 2, 3, 8, 9, 0xa };
    PtaX86Lapic *l = &s->lapic;
    unsigned shift = (unsigned)below(g, 8);
    uint64_t kind = below(g, has(g, PTA_X86_FEAT_TSC_DEADLINE) ? 6 : 4);
    uint32_t lvt = (uint32_t)(state_gen_random(g) & 0x100ff);
    uint32_t icount = (uint32_t)state_gen_random(g) | 0x10000;
    reg(l, 0x3e, dcr[shift]);
    if (kind >= 4) {
        reg(l, 0x32, lvt | 2u << 17);
        /* What follows from it is the back end's to say. */
        s->msrs.tsc_deadline = kind == 4 ? 0 : s->tsc + below(g, UINT64_C(1) << 40);
        return;
    }
    reg(l, 0x32, lvt | (kind == 3 ? 1u << 17 : 0));
    if (kind != 0) {
        reg(l, 0x38, icount);
    }
    if (kind >= 2) { /* kind 1 has expired */
        uint64_t left = 1 + below(g, (uint64_t)icount << shift);
        l->timer_expiry_ns = g->clock_ns + left;
        reg(l, 0x39, left >> shift);
    }
}

static void gen_lapic(StateGen *g, PtaX86State *s)
{
    PtaX86Lapic *l = &s->lapic;
    uint64_t base = 0xfee00000 | (g->vp == 0 ? 1u << 8 : 0) | 1u << 11;
    bool x2 = has(g, PTA_X86_FEAT_X2APIC) && one_in(g, 2);
    uint32_t tpr = (uint32_t)state_gen_random(g) & 0xff;
    s->msrs.apic_base = x2 ? base | 1u << 10 : base;
    s->regs.cr8 = tpr >> 4;
    reg(l, 0x02, x2 ? g->vp : g->vp << 24);
    reg(l, 0x03, 0x01050014);
    reg(l, 0x08, tpr);
    reg(l, 0x0d, x2 ? (g->vp >> 4 << 16 | 1u << (g->vp & 15)) : state_gen_random(g) & 0xff000000);
    reg(l, 0x0e, state_gen_random(g) | 0x0fffffff);
    reg(l, 0x0f, state_gen_random(g) & 0x13ff);
    gen_vectors(g, l, tpr);
    reg(l, 0x30, state_gen_random(g) & 0xccfff);
    reg(l, 0x31, state_gen_random(g) & (x2 ? UINT32_MAX : 0xff000000));
    for (unsigned i = 0x33; i <= 0x34; i++) {
        reg(l, i, state_gen_random(g) & 0x107ff);
    }
    for (unsigned i = 0x35; i <= 0x36; i++) {
        reg(l, i, state_gen_random(g) & 0x1a7ff);
    }
    reg(l, 0x37, state_gen_random(g) & 0x100ff);
    gen_timer(g, s);
}

/* ---- events ---- */

static void gen_events(StateGen *g, PtaX86Events *e)
{
    static const uint8_t vectors[] = { 0, 1, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19 };
    static const uint8_t activities[] = { PTA_X86_RUNNING, PTA_X86_RUNNING, PTA_X86_HALTED,
                                          PTA_X86_WAIT_FOR_SIPI, PTA_X86_SHUTDOWN };
    e->activity = activities[below(g, G_N_ELEMENTS(activities))];
    e->interrupt_shadow = one_in(g, 4) ? 2 : 0;
    e->nmi_pending = one_in(g, 4);
    e->nmi_blocked = one_in(g, 4);
    if (e->activity == PTA_X86_RUNNING && one_in(g, 3)) {
        e->exception_pending = 1;
        e->vector = vectors[below(g, G_N_ELEMENTS(vectors))];
        e->has_error_code = UINT32_C(0x227d00) >> e->vector & 1;
        e->error_code = e->has_error_code ? (uint32_t)state_gen_random(g) & 0xffff : 0;
    }
}

void state_gen(StateGen *g, PtaX86State *s)
{
    memset(s, 0, sizeof(*s));
    s->tsc = state_gen_random(g) >> 2;
    gen_regs(g, &s->regs);
    gen_debug(g, &s->debug);
    gen_msrs(g, &s->msrs);
    gen_xsave(g, s->xsave.area);
    gen_lapic(g, s);
    gen_events(g, &s->events);
}

/* ---- fields ---- */

static void walk(const PtaStateDesc *desc, const char *prefix, size_t base, StateFieldFn *fn,
                 void *opaque)
{
    for (const PtaStateField *f = desc->fields; f->name; f++) {
        for (size_t i = 0; i < f->count; i++) {
            size_t size = f->size / f->count, at = base + f->offset + i * size;
            g_autofree char *path = f->count > 1 ? g_strdup_printf("%s%s[%zu]", prefix, f->name, i)
                                                 : g_strdup_printf("%s%s", prefix, f->name);
            if (f->sub) {
                g_autofree char *inner = g_strdup_printf("%s.", path);
                walk(f->sub, inner, at, fn, opaque);
            } else {
                fn(opaque, path, at, size);
            }
        }
    }
}

void state_each_field(StateFieldFn *fn, void *opaque)
{
    walk(&pta_x86_state_desc, "", 0, fn, opaque);
}

typedef struct Diff {
    const uint8_t *a, *b;
    GString *text;
} Diff;

static void diff_field(void *opaque, const char *path, size_t offset, size_t size)
{
    Diff *d = opaque;
    size_t step = size > 8 ? 4 : size;
    for (size_t at = 0; at < size; at += step) {
        uint64_t a = 0, b = 0;
        memcpy(&a, d->a + offset + at, step);
        memcpy(&b, d->b + offset + at, step);
        if (a != b && d->text->len < 1000) {
            g_string_append_printf(d->text, "%s", path);
            if (step != size) {
                g_string_append_printf(d->text, "+0x%zx", at);
            }
            g_string_append_printf(d->text, ": 0x%" PRIx64 " and 0x%" PRIx64 "; ",
                                   GUINT64_FROM_LE(a), GUINT64_FROM_LE(b));
        }
    }
}

char *state_diff(const PtaX86State *a, const PtaX86State *b)
{
    Diff d = { (const uint8_t *)a, (const uint8_t *)b, g_string_new(NULL) };
    state_each_field(diff_field, &d);
    if (d.text->len == 0 && memcmp(a, b, sizeof(*a)) != 0) {
        g_string_append(d.text, "something without a name");
    }
    char *text = g_string_free(d.text, FALSE);
    if (text[0] == '\0') {
        g_clear_pointer(&text, g_free);
    }
    return text;
}
