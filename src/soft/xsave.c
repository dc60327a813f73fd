/*
 * XSAVE and its family: the layout of the area, the instructions, XGETBV and XSETBV, and the extended
 * state in the canonical state (SDM vol. 1, chapter 13). VP's thread, or any while it does not run.
 *
 * x87 and SSE are the CPU's own. What else there may be (AVX and later) is bytes: nothing here computes
 * on them, these instructions copy them between guest memory and X86Cpu.xstate, where they have the
 * offsets of the standard format. So a VP that is lent by another back end keeps them.
 */
#include "config.h"

#include <string.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "src/soft/fpu.h"
#include "src/soft/opcodes.h"
#include "src/soft/soft.h"

#define X87       UINT64_C(1)
#define SSE       UINT64_C(2)
#define AVX       UINT64_C(4)
#define MPX       UINT64_C(0x18)
#define AVX512    UINT64_C(0xe0)
#define AMX       UINT64_C(0x60000)
#define COMPACTED (UINT64_C(1) << 63)

/* The area: 512 bytes of FXSAVE, the header, what else there is. */
enum {
    MXCSR_AT = 24,
    MXCSR_MASK_AT = 28,
    ST_AT = 32,
    XMM_AT = 160,
    HEADER = 512,
    XCOMP_BV = 520,
    HEADER_REST = 528, /* reserved, up to EXTENDED */
    EXTENDED = 576,
};

static void put(uint8_t *p, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        p[i] = (uint8_t)(v >> i * 8);
    }
}

static uint64_t get(const uint8_t *p, unsigned size)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < size; i++) {
        v |= (uint64_t)p[i] << i * 8;
    }
    return v;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i]) {
            return false;
        }
    }
    return true;
}

/* ---- layout ---- */

static void add_component(X86XsaveLayout *l, unsigned i, uint32_t size, uint32_t offset, bool align)
{
    if (size == 0 || offset < EXTENDED || size > PTA_X86_XSAVE_SIZE ||
        offset > PTA_X86_XSAVE_SIZE - size) {
        return; /* the canonical state has no room for it */
    }
    l->user |= UINT64_C(1) << i;
    l->aligned |= align ? UINT64_C(1) << i : 0;
    l->size[i] = (uint16_t)size;
    l->offset[i] = (uint16_t)offset;
}

void x86_xsave_layout(X86Machine *m)
{
    X86XsaveLayout *l = &m->xsave;
    *l = (X86XsaveLayout){ .user = X87 | SSE };
    for (unsigned i = 0; i < m->cpuid->n_leaves; i++) {
        const PtaCpuidLeaf *leaf = &m->cpuid->leaves[i];
        if (leaf->function == 0xd && leaf->index >= 2 && leaf->index < 63 && !(leaf->ecx & 1)) {
            add_component(l, leaf->index, leaf->eax, leaf->ebx, leaf->ecx & 2);
        }
    }
#ifdef __x86_64__
    /* The guest may see more of the host than its model. */
    unsigned eax, ebx, ecx, edx;
    for (unsigned i = 2; m->stepping && i < 63; i++) {
        if (!(l->user >> i & 1) && __get_cpuid_count(0xd, i, &eax, &ebx, &ecx, &edx) &&
            !(ecx & 1)) {
            add_component(l, i, eax, ebx, ecx & 2);
        }
    }
#endif
}

static const X86XsaveLayout *layout(const X86Cpu *c)
{
    return &c->machine->xsave;
}

/* SDM vol. 1, 13.3. */
bool x86_xcr0_valid(const X86Cpu *c, uint64_t xcr0)
{
    uint64_t avx512 = xcr0 & AVX512;
    return (xcr0 & X87) && !(xcr0 & ~layout(c)->user) && !((xcr0 & AVX) && !(xcr0 & SSE)) &&
           (avx512 == 0 || (avx512 == AVX512 && (xcr0 & AVX))) &&
           ((xcr0 & MPX) == 0 || (xcr0 & MPX) == MPX) && ((xcr0 & AMX) == 0 || (xcr0 & AMX) == AMX);
}

/* How much of component i there is in this mode: registers 8 and up are of 64-bit mode. */
static unsigned reach(const X86Cpu *c, unsigned i)
{
    if ((c->mode & X86_MODE_SIZE) != X86_MODE_64) {
        switch (i) {
        case 2: /* YMM0 to YMM7 */
            return MIN(layout(c)->size[i], 128);
        case 6: /* ZMM0 to ZMM7 */
            return MIN(layout(c)->size[i], 256);
        case 7: /* ZMM16 to ZMM31 */
            return 0;
        default:
            break;
        }
    }
    return layout(c)->size[i];
}

static unsigned n_xmm(const X86Cpu *c)
{
    return (c->mode & X86_MODE_SIZE) == X86_MODE_64 ? 16 : 8;
}

/* ---- what is in use: XINUSE ---- */

static bool x87_in_use(const X86Cpu *c)
{
    const X86Fpu *f = &c->fpu;
    static const X86Fpr none[8];
    return f->cw != X87_CW_INIT || f->sw || f->tag_valid || f->fop || f->fip || f->fdp || f->fcs ||
           f->fds || memcmp(f->r, none, sizeof(none)) != 0;
}

static bool xmm_in_use(const X86Cpu *c)
{
    for (unsigned i = 0; i < 16; i++) {
        if (c->xmm[i].u64[0] || c->xmm[i].u64[1]) {
            return true;
        }
    }
    return false;
}

static uint64_t in_use(const X86Cpu *c)
{
    return (x87_in_use(c) ? X87 : 0) | (xmm_in_use(c) ? SSE : 0) |
           (c->xstate.in_use & layout(c)->user & ~(X87 | SSE));
}

/* The same where MXCSR counts as part of SSE. */
static uint64_t in_use_with_mxcsr(X86Cpu *c)
{
    x86_mxcsr_fold(c);
    return in_use(c) | (c->fpu.mxcsr != MXCSR_INIT ? SSE : 0);
}

static void init_components(X86Cpu *c, uint64_t which)
{
    if (which & X87) {
        X86Fpu *f = &c->fpu;
        memset(f->r, 0, sizeof(f->r));
        f->cw = X87_CW_INIT;
        f->sw = f->fop = f->fcs = f->fds = 0;
        f->tag_valid = 0;
        f->fip = f->fdp = 0;
    }
    if (which & SSE) {
        for (unsigned i = 0; i < n_xmm(c); i++) {
            c->xmm[i].u64[0] = c->xmm[i].u64[1] = 0;
        }
    }
    for (uint64_t left = which & layout(c)->user & ~(X87 | SSE); left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        uint8_t *at = c->xstate.area + layout(c)->offset[i];
        memset(at, 0, reach(c, i));
        if (all_zero(at, layout(c)->size[i])) {
            c->xstate.in_use &= ~(UINT64_C(1) << i);
        }
    }
}

/* ---- pieces of guest memory: all are looked at before the first is touched ---- */

typedef struct Piece {
    unsigned at; /* in the area */
    unsigned size;
    uint8_t *data;
} Piece;

typedef struct Pieces {
    X86Cpu *c;
    const X86Insn *in;
    uint64_t lin; /* of the area */
    unsigned n;
    Piece piece[70];
} Pieces;

static void add_piece(Pieces *p, unsigned at, void *data, unsigned size)
{
    if (size > 0) {
        p->piece[p->n++] = (Piece){ at, size, data };
    }
}

static void probe_all(const Pieces *p, X86Access access)
{
    for (unsigned i = 0; i < p->n; i++) {
        for (unsigned done = 0; done < p->piece[i].size; done += 64) {
            x86_probe(p->c, p->in, p->lin + p->piece[i].at + done, MIN(64, p->piece[i].size - done),
                      access);
        }
    }
}

static void store_all(const Pieces *p)
{
    probe_all(p, X86_WRITE);
    for (unsigned i = 0; i < p->n; i++) {
        const Piece *piece = &p->piece[i];
        for (unsigned done = 0; done < piece->size; done += 64) {
            x86_store_bytes(p->c, p->in, p->lin + piece->at + done, piece->data + done,
                            MIN(64, piece->size - done));
        }
    }
}

static void load_all(const Pieces *p)
{
    probe_all(p, X86_READ);
    for (unsigned i = 0; i < p->n; i++) {
        const Piece *piece = &p->piece[i];
        for (unsigned done = 0; done < piece->size; done += 64) {
            x86_load_bytes(p->c, p->in, p->lin + piece->at + done, piece->data + done,
                           MIN(64, piece->size - done));
        }
    }
}

/* ---- what all of them check ---- */

static uint64_t begin(X86Cpu *c, const X86Insn *in, bool supervisor, unsigned size,
                      X86Access access)
{
    if (!(c->cr4 & X86_CR4_OSXSAVE)) {
        x86_raise_ud(c, in);
    }
    if (c->cr0 & X86_CR0_TS) {
        x86_raise(c, in, X86_NM, -1);
    }
    if (supervisor && c->cpl != 0) {
        x86_raise_gp(c, in, 0);
    }
    const uint64_t lin = x86_ea(c, in, size, access);
    if (lin & 63) {
        x86_raise_gp(c, in, 0);
    }
    return lin;
}

static uint64_t edx_eax(const X86Cpu *c)
{
    return (uint32_t)c->gpr[PTA_X86_RAX] | c->gpr[PTA_X86_RDX] << 32;
}

/* Requested by EDX:EAX, and enabled. */
static uint64_t requested(X86Cpu *c, const X86Insn *in, bool supervisor)
{
    const uint64_t which = edx_eax(c) & (c->xcr0 | (supervisor ? c->xss : 0));
    if (G_UNLIKELY(which & ~layout(c)->user)) { /* a VP that is lent; set_state() refuses it else */
        x86_give_up(c, in, "on components of XSAVE that have no place in the state of a VP");
    }
    return which;
}

/* Where component i is in the compacted format of `all`; the end of it for i = 63. */
static unsigned compacted_offset(const X86Cpu *c, uint64_t all, unsigned i)
{
    unsigned at = EXTENDED;
    for (uint64_t left = all & ~(X87 | SSE | COMPACTED); left; left &= left - 1) {
        unsigned j = (unsigned)__builtin_ctzll(left);
        at = layout(c)->aligned >> j & 1 ? (at + 63) & ~63u : at;
        if (j >= i) {
            break;
        }
        at += layout(c)->size[j];
    }
    return at;
}

/* ---- saving ---- */

static void add_legacy(Pieces *p, uint8_t image[512], uint64_t which, bool mxcsr)
{
    X86Cpu *c = p->c;
    x86_fxsave_image(c, image, p->in->pfx & X86_PFX_REXW, n_xmm(c));
    if (which & X87) {
        add_piece(p, 0, image, MXCSR_AT);
        add_piece(p, ST_AT, image + ST_AT, XMM_AT - ST_AT);
    }
    if (mxcsr) {
        add_piece(p, MXCSR_AT, image + MXCSR_AT, 8);
    }
    if (which & SSE) {
        add_piece(p, XMM_AT, image + XMM_AT, n_xmm(c) * 16);
    }
}

static void add_extended(Pieces *p, uint64_t which, uint64_t compacted)
{
    X86Cpu *c = p->c;
    for (uint64_t left = which & ~(X87 | SSE); left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        unsigned at = compacted ? compacted_offset(c, compacted, i) : layout(c)->offset[i];
        add_piece(p, at, c->xstate.area + layout(c)->offset[i], reach(c, i));
    }
}

static void save_standard(X86Cpu *c, const X86Insn *in, bool only_in_use)
{
    uint8_t image[512] = { 0 }, header[8];
    const uint64_t lin = begin(c, in, false, EXTENDED, X86_WRITE);
    const uint64_t which = requested(c, in, false);
    const uint64_t used = in_use(c);
    Pieces p = { .c = c, .in = in, .lin = lin };
    const uint64_t written = only_in_use ? which & used : which;
    add_legacy(&p, image, written, which & (SSE | AVX));
    add_extended(&p, written, 0);
    /* Every other bit stays as it is in memory. */
    const uint64_t old = x86_load64(c, in, lin + HEADER);
    put(header, (old & ~which) | (used & which), 8);
    add_piece(&p, HEADER, header, sizeof(header));
    store_all(&p);
}

static void save_compacted(X86Cpu *c, const X86Insn *in, bool supervisor)
{
    uint8_t image[512] = { 0 }, header[16];
    const uint64_t lin = begin(c, in, supervisor, EXTENDED, X86_WRITE);
    const uint64_t which = requested(c, in, supervisor);
    const uint64_t used = in_use_with_mxcsr(c) & which;
    Pieces p = { .c = c, .in = in, .lin = lin };
    add_legacy(&p, image, used, used & SSE);
    add_extended(&p, used, which | COMPACTED);
    put(header, used, 8);
    put(header + 8, which | COMPACTED, 8);
    add_piece(&p, HEADER, header, sizeof(header));
    store_all(&p);
}

void op_xsave(X86Cpu *c, const X86Insn *in)
{
    save_standard(c, in, false);
}

/* What was not modified since the last XRSTOR is written again: allowed, and simple. */
void op_xsaveopt(X86Cpu *c, const X86Insn *in)
{
    save_standard(c, in, true);
}

void op_xsavec(X86Cpu *c, const X86Insn *in)
{
    save_compacted(c, in, false);
}

void op_xsaves(X86Cpu *c, const X86Insn *in)
{
    save_compacted(c, in, true);
}

/* ---- restoring ---- */

/* XSTATE_BV, and in *compacted XCOMP_BV or 0; or #GP. SDM vol. 1, 13.8.1 and 13.12. */
static uint64_t check_header(X86Cpu *c, const X86Insn *in, const uint8_t header[64],
                             bool supervisor, uint64_t *compacted)
{
    const uint64_t enabled = c->xcr0 | (supervisor ? c->xss : 0);
    const uint64_t present = get(header, 8), format = get(header + 8, 8);
    bool ok;
    if (format & COMPACTED) {
        ok = (supervisor || pta_cpuid_has(c->cpuid, PTA_X86_FEAT_XSAVEC)) &&
             !(format & ~COMPACTED & ~enabled) && !(present & (~format | COMPACTED)) &&
             all_zero(header + 16, 48);
    } else {
        ok = !supervisor && !(present & ~enabled) && all_zero(header + 8, 16);
    }
    if (!ok) {
        x86_raise_gp(c, in, 0);
    }
    *compacted = format & COMPACTED ? format : 0;
    return present;
}

static void restore(X86Cpu *c, const X86Insn *in, bool supervisor)
{
    uint8_t image[512] = { 0 }, header[64], extended[PTA_X86_XSAVE_SIZE];
    const uint64_t lin = begin(c, in, supervisor, EXTENDED, X86_READ);
    const uint64_t which = requested(c, in, supervisor);
    Pieces h = { .c = c, .in = in, .lin = lin };
    add_piece(&h, HEADER, header, sizeof(header));
    load_all(&h);
    uint64_t compacted;
    const uint64_t present = check_header(c, in, header, supervisor, &compacted) & which;
    /* The standard format has MXCSR whatever XSTATE_BV says, the compacted one as a part of SSE. */
    const bool mxcsr = compacted ? present & SSE : which & (SSE | AVX);

    Pieces p = { .c = c, .in = in, .lin = lin };
    if (present & X87) {
        add_piece(&p, 0, image, MXCSR_AT);
        add_piece(&p, ST_AT, image + ST_AT, XMM_AT - ST_AT);
    }
    if (mxcsr) {
        add_piece(&p, MXCSR_AT, image + MXCSR_AT, 4);
    }
    if (present & SSE) {
        add_piece(&p, XMM_AT, image + XMM_AT, n_xmm(c) * 16);
    }
    for (uint64_t left = present & ~(X87 | SSE); left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        unsigned at = compacted ? compacted_offset(c, compacted, i) : layout(c)->offset[i];
        add_piece(&p, at, extended + layout(c)->offset[i], reach(c, i));
    }
    load_all(&p);
    const uint32_t new_mxcsr = mxcsr ? (uint32_t)get(image + MXCSR_AT, 4) : MXCSR_INIT;
    if (new_mxcsr & ~MXCSR_WRITABLE) {
        x86_raise_gp(c, in, 0);
    }

    init_components(c, which & ~present);
    if (present & X87) {
        x86_fxrstor_image(c, image, in->pfx & X86_PFX_REXW, false, 0);
    }
    if (mxcsr || (compacted && (which & SSE))) {
        x86_mxcsr_set(c, new_mxcsr);
    }
    for (unsigned i = 0; (present & SSE) && i < n_xmm(c); i++) {
        memcpy(&c->xmm[i], image + XMM_AT + i * 16, 16);
    }
    for (uint64_t left = present & ~(X87 | SSE); left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        memcpy(c->xstate.area + layout(c)->offset[i], extended + layout(c)->offset[i], reach(c, i));
        c->xstate.in_use |= UINT64_C(1) << i;
    }
}

void op_xrstor(X86Cpu *c, const X86Insn *in)
{
    restore(c, in, false);
}

void op_xrstors(X86Cpu *c, const X86Insn *in)
{
    restore(c, in, true);
}

/* ---- XCR0 ---- */

void op_xgetbv(X86Cpu *c, const X86Insn *in)
{
    if (!(c->cr4 & X86_CR4_OSXSAVE)) {
        x86_raise_ud(c, in);
    }
    const uint32_t which = (uint32_t)c->gpr[PTA_X86_RCX];
    if (which > 1 || (which == 1 && !pta_cpuid_has(c->cpuid, PTA_X86_FEAT_XGETBV1))) {
        x86_raise_gp(c, in, 0);
    }
    const uint64_t value = which == 0 ? c->xcr0 : c->xcr0 & in_use_with_mxcsr(c);
    c->gpr[PTA_X86_RAX] = (uint32_t)value;
    c->gpr[PTA_X86_RDX] = value >> 32;
}

void op_xsetbv(X86Cpu *c, const X86Insn *in)
{
    if (!(c->cr4 & X86_CR4_OSXSAVE)) {
        x86_raise_ud(c, in);
    }
    const uint64_t value = edx_eax(c);
    if (c->cpl != 0 || (uint32_t)c->gpr[PTA_X86_RCX] != 0 || !x86_xcr0_valid(c, value)) {
        x86_raise_gp(c, in, 0);
    }
    c->xcr0 = value;
}

/* ---- the canonical state ---- */

/*
 * What was set comes back bit for bit as long as it stays what it is, reserved bytes and XSTATE_BV
 * included: so a component of ours is written only if its registers differ from what they were
 * loaded from. Without XSAVE in the model XSTATE_BV says nothing, with it nothing of x87 and SSE: those
 * are always there.
 */
void x86_fpu_get(X86Cpu *c, PtaX86Xsave *area)
{
    static const struct {
        uint16_t at, end;
        uint64_t component;
    } parts[] = { { 0, MXCSR_AT, X87 }, { ST_AT, XMM_AT, X87 }, { XMM_AT, 416, SSE } };
    uint8_t image[512] = { 0 };
    x86_fxsave_image(c, image, true, 16);
    memcpy(area->area, c->xstate.area, sizeof(area->area));
    uint64_t present = get(area->area + HEADER, 8);
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); i++) {
        const unsigned at = parts[i].at, size = parts[i].end - at;
        if (memcmp(image + at, c->xstate.image + at, size) != 0) {
            memcpy(area->area + at, image + at, size);
            present |= parts[i].component;
        }
    }
    put(area->area + MXCSR_AT, c->fpu.mxcsr, 4);
    const uint64_t ours = layout(c)->user & ~(X87 | SSE);
    put(area->area + HEADER, (present & ~ours) | (c->xstate.in_use & ours), 8);
}

static bool check_area(const X86Cpu *c, const uint8_t *area, GError **error)
{
    const uint32_t mxcsr = (uint32_t)get(area + MXCSR_AT, 4);
    if (mxcsr & ~MXCSR_WRITABLE) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "FPU state: MXCSR is 0x%x, which has reserved bits", mxcsr);
    }
    if (!pta_cpuid_has(c->cpuid, PTA_X86_FEAT_XSAVE) || c->machine->stepping) {
        return true;
    }
    const uint64_t present = get(area + HEADER, 8);
    if (present & ~layout(c)->user) {
        return pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                         "FPU state: XSTATE_BV cannot be 0x%" G_GINT64_MODIFIER "x", present);
    }
    return all_zero(area + XCOMP_BV, EXTENDED - XCOMP_BV) ||
           pta_throw(error, PTA_ERROR_BAD_SNAPSHOT,
                     "FPU state: the header of XSAVE has reserved bits");
}

bool x86_fpu_set(X86Cpu *c, const PtaX86Xsave *area, GError **error)
{
    if (!check_area(c, area->area, error)) {
        return false;
    }
    x86_fxrstor_image(c, area->area, true, true, 16);
    memcpy(c->xstate.area, area->area, sizeof(c->xstate.area));
    const uint64_t ours = layout(c)->user & ~(X87 | SSE);
    c->xstate.in_use = get(area->area + HEADER, 8) & ours;
    for (uint64_t left = ours & ~c->xstate.in_use; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        if (!all_zero(c->xstate.area + layout(c)->offset[i], layout(c)->size[i])) {
            memset(c->xstate.area + layout(c)->offset[i], 0, layout(c)->size[i]);
        }
    }
    memset(c->xstate.image, 0, sizeof(c->xstate.image));
    x86_fxsave_image(c, c->xstate.image, true, 16);
    return true;
}
