/*
 * Who gets an interrupt message (SDM vol. 3, 10.6.2 and 10.12.10), and what it does there. Any
 * thread: nothing here but ATOMIC fields of the local APICs is touched.
 */
#include "config.h"

#define G_LOG_DOMAIN "soft"

#include "src/soft/lapic-priv.h"

typedef struct Message {
    uint32_t dest;
    bool logical;
    bool broadcast; /* the destination of this format that means everyone */
    bool level;
    uint8_t vector;
    uint8_t kind; /* X86_DELIVER_* */
} Message;

#define MSI_ADDRESS      UINT64_C(0xfee00000)
#define MSI_ADDRESS_MASK UINT64_C(0xfff00000)

static bool matches_logical(const X86Lapic *l, uint32_t dest, bool x2)
{
    uint32_t ldr = x86_get(&l->ldr);
    if (x2) {
        return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
    }
    if (dest > 0xff) {
        return false;
    }
    if (x86_get(&l->dfr) >> 28 == 0xf) {
        return ldr >> 24 & dest;
    }
    /* cluster model: cluster in the high, members in the low four bits */
    return (dest >> 4 == 0xf || ldr >> 28 == dest >> 4) && (ldr >> 24 & dest & 0xf);
}

static bool matches(const X86Lapic *l, const Message *m)
{
    uint32_t mode = x86_get(&l->mode);
    if (!(mode & X86_LAPIC_ON)) {
        return false;
    }
    bool x2 = mode & X86_LAPIC_X2;
    if (m->logical) {
        return (m->broadcast && x2) || matches_logical(l, m->dest, x2);
    }
    return m->broadcast || x86_get(&l->id) == m->dest;
}

static void deliver(X86Lapic *l, const Message *m)
{
    X86Cpu *c = l->cpu;
    PTA_TRACE(PTA_TRACE_IRQ, "vp%u: delivery mode %u vector 0x%x", c->index, m->kind, m->vector);
    switch (m->kind) {
    case X86_DELIVER_FIXED:
    case X86_DELIVER_LOWEST:
        if (x86_lapic_takes(l)) {
            x86_lapic_post(l, m->vector, m->level);
        }
        break;
    case X86_DELIVER_NMI:
        x86_notify(c, X86_ATT_NMI);
        break;
    case X86_DELIVER_INIT:
        /* What came before it has found the VP running, or was for what INIT resets. */
        __atomic_fetch_and(&c->attention, ~(uint32_t)(X86_ATT_SIPI | X86_ATT_NMI),
                           __ATOMIC_SEQ_CST);
        x86_notify(c, X86_ATT_INIT);
        break;
    case X86_DELIVER_STARTUP:
        x86_put(&l->sipi, m->vector);
        x86_notify(c, X86_ATT_SIPI);
        break;
    case X86_DELIVER_EXTINT:
        if (x86_lapic_takes(l)) {
            __atomic_store_n(&l->extint, 0x100u | m->vector, __ATOMIC_SEQ_CST);
            x86_notify(c, X86_ATT_IRQ);
        }
        break;
    default:
        break; /* SMI: there is no SMM; reserved */
    }
}

/* Among those addressed, the one that does the least urgent work; in turns if there are several. */
static void deliver_lowest(X86Machine *machine, const Message *m)
{
    X86Lapic *best = NULL;
    uint32_t first = __atomic_fetch_add(&machine->lowest_turn, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < machine->n_vps; i++) {
        X86Lapic *l = machine->vps[(first + i) % machine->n_vps]->lapic;
        if (matches(l, m) && x86_lapic_takes(l) &&
            (!best || (x86_get(&l->ppr) & 0xf0) < (x86_get(&best->ppr) & 0xf0))) {
            best = l;
        }
    }
    if (best) {
        deliver(best, m);
    }
}

static void route(X86Machine *machine, const Message *m)
{
    if (m->kind == X86_DELIVER_LOWEST) {
        deliver_lowest(machine, m);
        return;
    }
    for (unsigned i = 0; i < machine->n_vps; i++) {
        if (matches(machine->vps[i]->lapic, m)) {
            deliver(machine->vps[i]->lapic, m);
        }
    }
}

void x86_ipi_send(X86Lapic *from, uint64_t icr)
{
    X86Machine *machine = from->cpu->machine;
    bool x2 = x86_get(&from->mode) & X86_LAPIC_X2;
    uint32_t dest = x2 ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56);
    Message m = {
        .dest = dest,
        .logical = icr >> 11 & 1,
        .broadcast = dest == (x2 ? UINT32_MAX : 0xff),
        .vector = (uint8_t)icr,
        .kind = icr >> 8 & 7,
    };
    bool assert_level = icr >> 14 & 1, level_triggered = icr >> 15 & 1;
    if (m.kind == X86_DELIVER_EXTINT || (level_triggered && !assert_level)) {
        return; /* INIT level de-assert does nothing since the Pentium 4 */
    }
    switch (icr >> 18 & 3) {
    case 0:
        route(machine, &m);
        break;
    case 1:
        deliver(from, &m);
        break;
    default:
        for (unsigned i = 0; i < machine->n_vps; i++) {
            X86Lapic *l = machine->vps[i]->lapic;
            if ((x86_get(&l->mode) & X86_LAPIC_ON) && (l != from || (icr >> 18 & 3) == 2)) {
                deliver(l, &m);
            }
        }
        break;
    }
}

void x86_msi(X86Machine *machine, uint64_t address, uint32_t data)
{
    if ((address & MSI_ADDRESS_MASK) != MSI_ADDRESS) {
        PTA_GUEST_ERROR("an MSI to 0x%" G_GINT64_MODIFIER "x, where no APIC is", address);
        return;
    }
    /* Bits 12-19 and, for ids beyond 8 bits, 40-63 (as KVM's API for x2APIC has them). */
    uint32_t dest = (uint32_t)(address >> 12 & 0xff) | (uint32_t)(address >> 32 & 0xffffff00);
    Message m = {
        .dest = dest,
        .logical = address >> 2 & 1,
        .broadcast = dest == 0xff,
        .level = data >> 15 & 1,
        .vector = (uint8_t)data,
        .kind = data >> 8 & 7,
    };
    if (m.level && !(data >> 14 & 1)) {
        return; /* de-assert */
    }
    route(machine, &m);
}

bool x86_lapic_extint_pending(const X86Cpu *c)
{
    return __atomic_load_n(&c->lapic->extint, __ATOMIC_SEQ_CST) != 0;
}

uint8_t x86_lapic_extint_accept(X86Cpu *c)
{
    return (uint8_t)__atomic_exchange_n(&c->lapic->extint, 0, __ATOMIC_SEQ_CST);
}

uint8_t x86_lapic_sipi_vector(const X86Cpu *c)
{
    return (uint8_t)x86_get(&c->lapic->sipi);
}
