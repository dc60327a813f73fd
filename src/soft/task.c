/*
 * Task switches (SDM vol. 3, chapter 7): everything that can be checked in the old task is checked
 * before the first write; from the load of the new registers on, faults belong to the new task.
 */
#include "config.h"

#include "src/soft/system.h"

/* Where a TSS keeps things (SDM vol. 3, figures 7-2 and 7-10). */
typedef struct TssLayout {
    unsigned width;
    unsigned size;
    unsigned cr3; /* 0: none */
    unsigned ip, flags, gpr, segs, n_segs, ldt, trap;
} TssLayout;

static const TssLayout tss32 = { 4, 104, 28, 32, 36, 40, 72, 6, 96, 100 };
static const TssLayout tss16 = { 2, 44, 0, 14, 16, 18, 34, 4, 42, 0 };

static const TssLayout *layout(unsigned attrs)
{
    return attrs & 8 ? &tss32 : &tss16;
}

static uint64_t tss_load(X86Cpu *c, const X86Insn *in, const X86Seg *tss, unsigned at,
                         unsigned size)
{
    return x86_sys_load(c, in, tss->base + at, size);
}

static void save_old(X86Cpu *c, const X86Insn *in, X86TaskReason reason)
{
    const TssLayout *l = layout(c->tr.attrs);
    uint64_t base = c->tr.base;
    /* Faults must come before the first write: rewrite what is there. */
    x86_sys_store(c, in, base + l->ip, 1, x86_sys_load(c, in, base + l->ip, 1));
    unsigned last = l->segs + l->n_segs * l->width - 1;
    x86_sys_store(c, in, base + last, 1, x86_sys_load(c, in, base + last, 1));

    uint64_t flags = x86_rflags(c);
    if (reason == X86_TASK_IRET) {
        flags &= ~(uint64_t)X86_NT;
    }
    x86_sys_store(c, in, base + l->ip, l->width, c->rip);
    x86_sys_store(c, in, base + l->flags, l->width, flags);
    for (unsigned i = 0; i < 8; i++) {
        x86_sys_store(c, in, base + l->gpr + i * l->width, l->width, c->gpr[i]);
    }
    for (unsigned i = 0; i < l->n_segs; i++) {
        x86_sys_store(c, in, base + l->segs + i * l->width, 2, c->seg[i].selector);
    }
}

typedef struct NewTask {
    uint32_t cr3, ip, flags;
    uint32_t gpr[8];
    uint16_t sel[PTA_X86_N_SEGS];
    uint16_t ldt;
    bool trap;
} NewTask;

static NewTask read_new(X86Cpu *c, const X86Insn *in, const X86Seg *tss)
{
    const TssLayout *l = layout(tss->attrs);
    NewTask t = { 0 };
    t.cr3 = l->cr3 ? (uint32_t)tss_load(c, in, tss, l->cr3, 4) : 0;
    t.ip = (uint32_t)tss_load(c, in, tss, l->ip, l->width);
    t.flags = (uint32_t)tss_load(c, in, tss, l->flags, l->width);
    for (unsigned i = 0; i < 8; i++) {
        t.gpr[i] = (uint32_t)tss_load(c, in, tss, l->gpr + i * l->width, l->width);
        if (l->width == 2) {
            t.gpr[i] |= 0xffff0000;
        }
    }
    for (unsigned i = 0; i < l->n_segs; i++) {
        t.sel[i] = (uint16_t)tss_load(c, in, tss, l->segs + i * l->width, 2);
    }
    t.ldt = (uint16_t)tss_load(c, in, tss, l->ldt, 2);
    t.trap = l->trap && (tss_load(c, in, tss, l->trap, 2) & 1);
    return t;
}

static void load_ldt(X86Cpu *c, uint16_t selector)
{
    c->ldtr = (X86Seg){ .selector = selector, .attrs = PTA_X86_SEG_UNUSABLE };
    if (x86_null_selector(selector)) {
        return;
    }
    X86Desc d;
    if ((selector & 4) || !x86_desc_read(c, NULL, selector, &d) ||
        !x86_is_system(x86_desc_attrs(&d), X86_TYPE_LDT) || !(x86_desc_attrs(&d) & X86_ATTR_P)) {
        x86_raise(c, NULL, X86_TS, selector & ~3u);
    }
    c->ldtr = x86_desc_segment(selector, &d);
}

static X86Seg check_cs(X86Cpu *c, uint16_t selector)
{
    uint32_t error = selector & ~3u;
    unsigned rpl = selector & 3;
    X86Desc d;
    if (x86_null_selector(selector) || !x86_desc_read(c, NULL, selector, &d)) {
        x86_raise(c, NULL, X86_TS, error);
    }
    unsigned attrs = x86_desc_attrs(&d);
    unsigned dpl = x86_attrs_dpl(attrs);
    if (!x86_is_code(attrs) || (attrs & X86_ATTR_CONFORMING ? dpl > rpl : dpl != rpl)) {
        x86_raise(c, NULL, X86_TS, error);
    }
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, NULL, X86_NP, error);
    }
    x86_desc_touch(c, NULL, &d);
    return x86_desc_segment(selector, &d);
}

/* The new task's own checks; its registers are in place. */
static void enter_new(X86Cpu *c, const NewTask *t, unsigned width, int64_t error)
{
    static const uint8_t data[] = { PTA_X86_ES, PTA_X86_DS, PTA_X86_FS, PTA_X86_GS };
    load_ldt(c, t->ldt);
    if (t->flags & X86_VM) {
        for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
            c->seg[i] = x86_vm86_segment(t->sel[i]);
        }
        c->cpl = 3;
    } else {
        c->seg[PTA_X86_SS] = x86_check_ss(c, NULL, t->sel[PTA_X86_SS], c->cpl, X86_TS);
        for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
            c->seg[data[i]] = x86_check_data(c, NULL, t->sel[data[i]], X86_TS);
        }
        c->seg[PTA_X86_CS] = check_cs(c, t->sel[PTA_X86_CS]);
    }
    x86_mode_changed(c);
    if (error >= 0) {
        X86Stack s = x86_stack(c, NULL);
        x86_stack_push(&s, width, (uint64_t)error);
        c->gpr[PTA_X86_RSP] = x86_stack_rsp(&s, c->gpr[PTA_X86_RSP]);
    }
    x86_check_target(c, NULL, c->rip);
}

void x86_task_switch(X86Cpu *c, const X86Insn *in, uint16_t selector, const X86Desc *d,
                     X86TaskReason reason, int64_t error)
{
    X86Seg tss = x86_desc_segment(selector, d);
    const TssLayout *l = layout(tss.attrs);
    if (tss.limit < l->size - 1) {
        x86_raise(c, in, X86_TS, selector & ~3u);
    }
    NewTask t = read_new(c, in, &tss);
    bool nested = reason == X86_TASK_CALL || reason == X86_TASK_GATE;
    if (nested) {
        /* Before anything else is written: the link may fault. */
        x86_sys_store(c, in, tss.base, 2, c->tr.selector);
    }
    save_old(c, in, reason);
    if (!nested) {
        X86Desc old;
        if (x86_desc_read(c, in, c->tr.selector, &old)) {
            x86_desc_set_busy(c, in, &old, false);
        }
    }
    if (reason != X86_TASK_IRET) {
        x86_desc_set_busy(c, in, d, true);
        tss.attrs |= 2;
    }

    /* The commit point. */
    c->tr = tss;
    c->cr0 |= X86_CR0_TS;
    if (nested) {
        t.flags |= X86_NT;
    }
    if (l->cr3 && (c->cr0 & X86_CR0_PG)) {
        bool pae = c->cr4 & X86_CR4_PAE;
        if (pae && !x86_load_pdptes(c, t.cr3)) {
            x86_raise(c, NULL, X86_TS, selector & ~3u);
        }
        c->cr3 = t.cr3;
        x86_tlb_flush(c, false);
    }
    if (c->dr7 & 0x155) {
        c->dr7 &= ~UINT64_C(0x155); /* the local enables */
        x86_debug_changed(c);
    }
    c->rip = c->fault_rip = t.ip;
    for (unsigned i = 0; i < 8; i++) {
        c->gpr[i] = t.gpr[i];
    }
    for (unsigned i = 0; i < PTA_X86_N_SEGS; i++) {
        c->seg[i] = (X86Seg){ .selector = t.sel[i], .attrs = PTA_X86_SEG_UNUSABLE };
    }
    c->cpl = t.flags & X86_VM ? 3 : t.sel[PTA_X86_CS] & 3;
    uint64_t keep = l->width == 2 ? UINT64_C(0xffff0000) : 0;
    c->rflags &= ~keep;
    x86_set_rflags(c, t.flags, UINT32_MAX & ~keep);
    x86_mode_changed(c);
    enter_new(c, &t, l->width, error);
    if (t.trap) {
        c->debug_hits |= X86_DR6_BT;
        x86_attend(c, X86_ATT_STEP);
    }
}

void x86_task_switch_selector(X86Cpu *c, const X86Insn *in, uint16_t selector, X86TaskReason reason,
                              int64_t error)
{
    unsigned vector = reason == X86_TASK_IRET ? X86_TS : X86_GP;
    uint32_t code = selector & ~3u;
    X86Desc d;
    if ((selector & 4) || x86_null_selector(selector) || !x86_desc_read(c, in, selector, &d)) {
        x86_raise(c, in, vector, code);
    }
    unsigned attrs = x86_desc_attrs(&d);
    unsigned busy = reason == X86_TASK_IRET ? 2 : 0;
    if (!x86_is_system(attrs, X86_TYPE_TSS16 | busy) &&
        !x86_is_system(attrs, X86_TYPE_TSS32 | busy)) {
        x86_raise(c, in, vector, code);
    }
    if (!(attrs & X86_ATTR_P)) {
        x86_raise(c, in, X86_NP, code);
    }
    x86_task_switch(c, in, selector, &d, reason, error);
}
