/*
 * Segments and execution modes: descriptors, checks of segment loads and accesses, the stack that a
 * change of privilege goes to. SDM vol. 3, chapters 3 and 5. Runs on the VP's thread; all that may
 * fault comes before anything is committed.
 */
#include "config.h"

#include "src/soft/system.h"

#include <string.h>

/* ---- the mode ---- */

static uint32_t mode_of(const X86Cpu *c)
{
    uint32_t mode = 0;
    unsigned cs = c->seg[PTA_X86_CS].attrs;
    if (x86_in_long_mode(c)) {
        mode |= X86_MODE_LONG;
        if (cs & X86_ATTR_L) {
            mode |= X86_MODE_64;
        }
    }
    if (!(mode & X86_MODE_64)) {
        mode |= cs & X86_ATTR_DB ? X86_MODE_32 : X86_MODE_16;
        mode |= c->seg[PTA_X86_SS].attrs & X86_ATTR_DB ? X86_MODE_SS32 : 0;
    }
    if (x86_protected(c)) {
        mode |= x86_in_vm86(c) ? X86_MODE_VM86 : X86_MODE_PROT;
    }
    if (c->cpl == 3) {
        mode |= X86_MODE_USER;
    }
    if (c->cr0 & (X86_CR0_EM | X86_CR0_TS)) {
        mode |= X86_MODE_NO_X87 | X86_MODE_NO_SSE;
    }
    if (!(c->cr4 & X86_CR4_OSFXSR)) {
        mode |= X86_MODE_NO_SSE;
    }
    return mode;
}

void x86_mode_changed(X86Cpu *c)
{
    c->mode = mode_of(c);
    bool wide = x86_in_64bit(c);
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        c->seg_base[i] = wide && i < PTA_X86_FS ? 0 : c->seg[i].base;
    }
    c->seg_base[X86_SEG_FLAT] = 0;
    c->fetch_tlb = &c->tlbs[c->cpl == 3 ? X86_TLB_USER : X86_TLB_SUPER];
    c->tlb = c->fetch_tlb;
    if (c->cpl == 3 && (c->rflags & X86_AC) && (c->cr0 & X86_CR0_AM)) {
        c->tlb = &c->tlbs[X86_TLB_EMPTY];
    }
    if (!(c->rflags & X86_AC)) {
        x86_tlb_close_smap(c);
    }
    if (!wide) {
        c->code_gen++; /* CS's base or limit may have changed */
    }
}

void x86_set_rflags(X86Cpu *c, uint64_t value, uint64_t mask)
{
    mask &= X86_STATUS | X86_TF | X86_IF | X86_DF | X86_IOPL | X86_NT | X86_RF | X86_VM | X86_AC |
            X86_VIF | X86_VIP | X86_ID;
    uint64_t old = x86_rflags(c);
    uint64_t new = (old & ~mask) | (value & mask) | 2;
    uint64_t changed = old ^ new;
    if (mask & X86_STATUS) {
        x86_set_status(c, new);
    }
    c->rflags = new & ~(uint64_t)X86_STATUS;
    if (new &X86_TF) {
        x86_attend(c, X86_ATT_STEP);
    }
    if ((changed & X86_IF) && (new &X86_IF)) {
        x86_attend(c, X86_ATT_IRQ);
    }
    if (changed & (X86_VM | X86_AC)) {
        x86_mode_changed(c);
    }
}

void x86_check_target(X86Cpu *c, const X86Insn *in, uint64_t target)
{
    bool ok =
        x86_in_64bit(c) ? x86_canonical(target) : (uint32_t)target <= c->seg[PTA_X86_CS].limit;
    if (!ok) {
        x86_raise_gp(c, in, 0);
    }
}

/* ---- access checks ---- */

bool x86_limit_ok(const X86Seg *s, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    if ((s->attrs & (X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_DOWN)) == (X86_ATTR_S | X86_ATTR_DOWN)) {
        return offset > s->limit && last <= (s->attrs & X86_ATTR_DB ? UINT32_MAX : UINT16_MAX);
    }
    return last <= s->limit;
}

static bool rights_ok(const X86Seg *s, X86Access access)
{
    if (s->attrs & PTA_X86_SEG_UNUSABLE) {
        return false;
    }
    switch (access) {
    case X86_WRITE:
        return x86_is_writable_data(s->attrs);
    case X86_READ:
        return x86_is_data(s->attrs) || (s->attrs & X86_ATTR_READ);
    default:
        return x86_is_code(s->attrs);
    }
}

uint64_t x86_seg_check(X86Cpu *c, const X86Insn *in, unsigned seg, uint64_t offset, unsigned size,
                       X86Access access)
{
    if (x86_in_64bit(c)) {
        return c->seg_base[seg] + offset;
    }
    const X86Seg *s = &c->seg[seg];
    if (!x86_limit_ok(s, offset, size) || ((c->mode & X86_MODE_PROT) && !rights_ok(s, access))) {
        x86_raise(c, in, seg == PTA_X86_SS ? X86_SS : X86_GP, 0);
    }
    return (uint32_t)(s->base + offset);
}

uint64_t x86_stack_mask(const X86Cpu *c)
{
    if (x86_in_64bit(c)) {
        return UINT64_MAX;
    }
    return c->mode & X86_MODE_SS32 ? UINT32_MAX : UINT16_MAX;
}

/* ---- descriptors ---- */

static bool table_of(const X86Cpu *c, uint16_t selector, uint64_t *base, uint32_t *limit)
{
    if (selector & 4) {
        *base = c->ldtr.base;
        *limit = c->ldtr.limit;
        return !(c->ldtr.attrs & PTA_X86_SEG_UNUSABLE) && (c->ldtr.attrs & X86_ATTR_P);
    }
    *base = c->gdtr.base;
    *limit = c->gdtr.limit;
    return true;
}

bool x86_desc_read(X86Cpu *c, const X86Insn *in, uint16_t selector, X86Desc *d)
{
    uint64_t base;
    uint32_t limit;
    if (!table_of(c, selector, &base, &limit) || (selector | 7u) > limit) {
        return false;
    }
    d->lin = base + (selector & ~7u);
    uint64_t raw = x86_sys_load(c, in, d->lin, 8);
    d->lo = (uint32_t)raw;
    d->hi = (uint32_t)(raw >> 32);
    return true;
}

bool x86_desc_read_high(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Desc *d,
                        uint32_t *base_high, uint32_t *zero)
{
    uint64_t base;
    uint32_t limit;
    if (!table_of(c, selector, &base, &limit) || (selector | 7u) + 8 > limit) {
        return false;
    }
    uint64_t raw = x86_sys_load(c, in, d->lin + 8, 8);
    *base_high = (uint32_t)raw;
    *zero = (uint32_t)(raw >> 32);
    return true;
}

X86Seg x86_desc_segment(uint16_t selector, const X86Desc *d)
{
    uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);
    unsigned attrs = x86_desc_attrs(d);
    if (attrs & X86_ATTR_G) {
        limit = limit << 12 | 0xfff;
    }
    return (X86Seg){
        .base = d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000),
        .limit = limit,
        .selector = selector,
        .attrs = (uint16_t)attrs,
    };
}

void x86_desc_touch(X86Cpu *c, const X86Insn *in, X86Desc *d)
{
    if (!(d->hi & X86_ATTR_ACCESSED << 8)) {
        d->hi |= X86_ATTR_ACCESSED << 8;
        x86_sys_store(c, in, d->lin + 5, 1, d->hi >> 8);
    }
}

void x86_desc_set_busy(X86Cpu *c, const X86Insn *in, const X86Desc *d, bool busy)
{
    uint8_t type = (uint8_t)x86_sys_load(c, in, d->lin + 5, 1);
    x86_sys_store(c, in, d->lin + 5, 1, busy ? type | 2 : type & ~2);
}

X86Seg x86_vm86_segment(uint16_t selector)
{
    return (X86Seg){ .base = (uint32_t)selector << 4,
                     .limit = 0xffff,
                     .selector = selector,
                     .attrs = X86_ATTR_P | X86_ATTR_DPL | X86_ATTR_S | X86_ATTR_WRITE |
                              X86_ATTR_ACCESSED };
}

static X86Seg null_segment(uint16_t selector, unsigned dpl)
{
    return (X86Seg){ .selector = selector, .attrs = (uint16_t)(PTA_X86_SEG_UNUSABLE | dpl << 5) };
}

X86Seg x86_check_ss(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned cpl, unsigned vector)
{
    if (x86_null_selector(selector)) {
        /* 64-bit mode runs with a null SS, but not at CPL 3. */
        if (!x86_in_long_mode(c) || cpl == 3 || (selector & 3) != cpl) {
            x86_raise(c, in, vector, 0);
        }
        return null_segment(selector, cpl);
    }
    uint32_t error = selector & ~3u;
    X86Desc d;
    if (!x86_desc_read(c, in, selector, &d)) {
        x86_raise(c, in, vector, error);
    }
    unsigned attrs = x86_desc_attrs(&d);
    if ((selector & 3) != cpl || x86_attrs_dpl(attrs) != cpl || !x86_is_writable_data(attrs)) {
        x86_raise(c, in, vector, error);
    }
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, in, X86_SS, error);
    }
    x86_desc_touch(c, in, &d);
    return x86_desc_segment(selector, &d);
}

X86Seg x86_check_data(X86Cpu *c, const X86Insn *in, uint16_t selector, unsigned vector)
{
    if (x86_null_selector(selector)) {
        return null_segment(selector, 0);
    }
    uint32_t error = selector & ~3u;
    X86Desc d;
    if (!x86_desc_read(c, in, selector, &d)) {
        x86_raise(c, in, vector, error);
    }
    unsigned attrs = x86_desc_attrs(&d);
    bool code = x86_is_code(attrs);
    if (!(attrs & X86_ATTR_S) || (code && !(attrs & X86_ATTR_READ))) {
        x86_raise(c, in, vector, error);
    }
    if (!(code && (attrs & X86_ATTR_CONFORMING)) &&
        MAX(selector & 3u, c->cpl) > x86_attrs_dpl(attrs)) {
        x86_raise(c, in, vector, error);
    }
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, in, X86_NP, error);
    }
    x86_desc_touch(c, in, &d);
    return x86_desc_segment(selector, &d);
}

void x86_load_seg(X86Cpu *c, const X86Insn *in, unsigned seg, uint16_t selector)
{
    X86Seg *s = &c->seg[seg];
    if (!x86_protected(c)) {
        s->selector = selector; /* limit and rights stay what they are (SDM vol. 3, 9.9.2) */
        s->base = (uint32_t)selector << 4;
    } else if (x86_in_vm86(c)) {
        *s = x86_vm86_segment(selector);
    } else if (seg == PTA_X86_SS) {
        if (x86_null_selector(selector) && !x86_in_64bit(c)) {
            x86_raise_gp(c, in, 0);
        }
        *s = x86_check_ss(c, in, selector, c->cpl, X86_GP);
    } else {
        *s = x86_check_data(c, in, selector, X86_GP);
    }
    if (seg == PTA_X86_SS) {
        x86_mode_changed(c); /* the stack's width */
    } else if (!x86_in_64bit(c) || seg >= PTA_X86_FS) {
        c->seg_base[seg] = s->base;
    }
}

void x86_drop_inner_segments(X86Cpu *c)
{
    static const uint8_t data[] = { PTA_X86_ES, PTA_X86_DS, PTA_X86_FS, PTA_X86_GS };
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
        X86Seg *s = &c->seg[data[i]];
        bool conforming = x86_is_code(s->attrs) && (s->attrs & X86_ATTR_CONFORMING);
        if ((s->attrs & X86_ATTR_P) && !conforming && x86_attrs_dpl(s->attrs) < c->cpl) {
            s->selector = 0; /* the base stays: in 64-bit mode FS and GS go on with it */
            s->attrs = PTA_X86_SEG_UNUSABLE;
        }
    }
}

/* ---- stacks ---- */

void x86_tss_stack(X86Cpu *c, const X86Insn *in, unsigned dpl, uint16_t *ss, uint64_t *rsp)
{
    uint32_t error = c->tr.selector & ~3u;
    bool wide = x86_in_long_mode(c);
    bool small = !wide && !(c->tr.attrs & 8); /* a 16-bit TSS */
    unsigned at = small ? 2 + dpl * 4 : 4 + dpl * 8;
    unsigned size = small ? 4 : wide ? 8 : 6;
    if ((c->tr.attrs & PTA_X86_SEG_UNUSABLE) || at + size - 1 > c->tr.limit) {
        x86_raise(c, in, X86_TS, error);
    }
    if (wide) {
        *rsp = x86_sys_load(c, in, c->tr.base + at, 8);
        *ss = (uint16_t)dpl;
        return;
    }
    unsigned width = small ? 2 : 4;
    *rsp = x86_sys_load(c, in, c->tr.base + at, width);
    *ss = (uint16_t)x86_sys_load(c, in, c->tr.base + at + width, 2);
}

uint64_t x86_tss_ist(X86Cpu *c, unsigned ist)
{
    unsigned at = 28 + ist * 8;
    if ((c->tr.attrs & PTA_X86_SEG_UNUSABLE) || at + 7 > c->tr.limit) {
        x86_raise(c, NULL, X86_TS, c->tr.selector & ~3u);
    }
    return x86_sys_load(c, NULL, c->tr.base + at, 8);
}

X86Stack x86_stack(X86Cpu *c, const X86Insn *in)
{
    return (X86Stack){
        .c = c,
        .in = in,
        .seg = c->seg[PTA_X86_SS],
        .sp = c->gpr[PTA_X86_RSP],
        .mask = x86_stack_mask(c),
        .user = c->cpl == 3,
        .flat = x86_in_64bit(c),
    };
}

static uint64_t stack_linear(const X86Stack *s, uint64_t sp, unsigned size)
{
    sp &= s->mask;
    bool ok = s->flat ? x86_canonical(sp) && x86_canonical(sp + size - 1)
                      : x86_limit_ok(&s->seg, sp, size);
    if (!ok) {
        x86_raise(s->c, s->in, X86_SS, s->error);
    }
    return s->flat ? sp : (uint32_t)(s->seg.base + sp);
}

void x86_stack_push(X86Stack *s, unsigned size, uint64_t value)
{
    uint64_t sp = s->sp - size;
    uint64_t lin = stack_linear(s, sp, size);
    X86Tlb *tlb = &s->c->tlbs[s->user ? X86_TLB_USER : X86_TLB_SUPER];
    void *p = s->user ? NULL : x86_tlb_lookup(tlb->write, lin, size);
    if (p) {
        memcpy(p, &value, size);
    } else {
        x86_store_slow(s->c, s->in, lin, size, value, s->user);
    }
    s->sp = sp;
}

uint64_t x86_stack_pop(X86Stack *s, unsigned size)
{
    uint64_t lin = stack_linear(s, s->sp, size);
    X86Tlb *tlb = &s->c->tlbs[s->user ? X86_TLB_USER : X86_TLB_SUPER];
    const void *p = s->user ? NULL : x86_tlb_lookup(tlb->read, lin, size);
    uint64_t value = 0;
    if (p) {
        memcpy(&value, p, size);
    } else {
        value = x86_load_slow(s->c, s->in, lin, size, s->user);
    }
    s->sp += size;
    return value;
}

uint64_t x86_stack_rsp(const X86Stack *s, uint64_t old)
{
    return (old & ~s->mask) | (s->sp & s->mask);
}
