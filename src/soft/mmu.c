/*
 * The MMU: page walks, the translation caches behind the inline TLB lookup of x86-cpu.h, and every
 * memory access that the TLB does not answer: page crossings, device registers, pages with decoded
 * code, watchpoints, alignment checks. SDM vol. 3, chapter 4.
 *
 * Runs on the VP's thread. The guest's page tables are hostile and may change under a walk: each
 * entry is read once, and accessed and dirty bits are set by compare-and-swap.
 *
 * Two levels. The TLB is indexed by kind of access, so that a hit needs no check at all. Behind it
 * X86MmuCache holds translations with their rights; entries die by generation, so that flushing it
 * costs nothing, and entries of global pages survive a change of CR3. The TLB itself remembers which
 * of its sets were filled, and a flush clears only those.
 */
#include "config.h"

#include "src/soft/x86-cpu.h"

#include <string.h>

#include "src/soft/soft.h"

#define PAGE_OFFSET UINT64_C(0xfff)

enum {
    PTE_P = 1 << 0,
    PTE_W = 1 << 1,
    PTE_U = 1 << 2,
    PTE_A = 1 << 5,
    PTE_D = 1 << 6,
    PTE_PS = 1 << 7,
    PTE_G = 1 << 8,
};
#define PTE_NX (UINT64_C(1) << 63)

/* Error code of #PF (SDM vol. 3, 4.7). */
enum {
    PF_P = 1 << 0,
    PF_W = 1 << 1,
    PF_U = 1 << 2,
    PF_RSVD = 1 << 3,
    PF_I = 1 << 4,
};

/* Who accesses (SDM vol. 3, 4.6.1). */
typedef enum Privilege {
    PRIV_SUPER,    /* CPL < 3 */
    PRIV_USER,     /* CPL 3 */
    PRIV_IMPLICIT, /* descriptor tables, TSS: supervisor at any CPL, RFLAGS.AC does not help */
} Privilege;

/* Low bits of Translation.gpa. */
enum {
    TR_USER = 1 << 0,
    TR_WRITE = 1 << 1,
    TR_EXEC = 1 << 2,
    TR_DIRTY = 1 << 3,
    TR_GLOBAL = 1 << 4,
    TR_LARGE = 1 << 5,
    TR_ROM = 1 << 6, /* RAM that the guest may not write */
};

typedef struct Translation {
    uint64_t page;       /* linear, or X86_TLB_NONE */
    uint64_t generation; /* dead unless it is the cache's */
    uint64_t gpa;        /* of the page, and TR_* */
    uint8_t *host;       /* of the page; NULL: no RAM */
} Translation;

#define CACHE_BITS 12
#define CACHE_SIZE (1u << CACHE_BITS)
#define LARGE_BITS 12 /* of a hash of linear addresses that large pages map */
#define SET_WORDS  (X86_TLB_SIZE / 64)

struct X86MmuCache {
    uint64_t generation;        /* of all but global entries */
    uint64_t global_generation; /* of global entries */
    Translation entries[CACHE_SIZE];
    /* Per TLB: which sets hold anything, which hold pages that are not global, and (supervisor
     * only) user pages that RFLAGS.AC made accessible. */
    uint64_t filled[X86_N_TLBS][SET_WORDS];
    uint64_t local[X86_N_TLBS][SET_WORDS];
    uint64_t smap[SET_WORDS];
    bool any_smap;
    uint64_t large[(1u << LARGE_BITS) / 64];
    bool pdptes_stale;
    uint64_t pdpte[4];  /* PAE paging: loaded with CR3 */
    unsigned n_watched; /* pages with data breakpoints: no TLB entry may cover them */
    uint64_t watched[8];
};

/* ---- the TLB ---- */

static void tlb_drop(X86Cpu *c, unsigned t, unsigned set)
{
    X86Tlb *tlb = &c->tlbs[t];
    tlb->read[set].page = X86_TLB_NONE;
    tlb->write[set].page = X86_TLB_NONE;
    if (tlb->fetch[set].page != X86_TLB_NONE) {
        tlb->fetch[set].page = X86_TLB_NONE;
        c->code_gen++;
    }
}

/* Clears the sets named in `which`, which is emptied. */
static void tlb_drop_sets(X86Cpu *c, unsigned t, uint64_t which[SET_WORDS])
{
    for (unsigned w = 0; w < SET_WORDS; w++) {
        for (uint64_t bits = which[w]; bits; bits &= bits - 1) {
            tlb_drop(c, t, w * 64 + (unsigned)__builtin_ctzll(bits));
        }
        which[w] = 0;
    }
}

void x86_tlb_flush(X86Cpu *c, bool global_too)
{
    struct X86MmuCache *m = c->mmu;
    c->stats[X86_STAT_TLB_FLUSH]++;
    m->generation++;
    if (global_too) {
        m->global_generation++;
        memset(m->large, 0, sizeof(m->large));
    }
    for (unsigned t = 0; t <= X86_TLB_USER; t++) {
        tlb_drop_sets(c, t, global_too ? m->filled[t] : m->local[t]);
        if (global_too) {
            memset(m->local[t], 0, sizeof(m->local[t]));
        }
    }
    if (global_too) {
        memset(m->smap, 0, sizeof(m->smap));
        m->any_smap = false;
    }
}

/* Hash bit of a linear address under a page of 1 << shift bytes. */
static unsigned large_slot(uint64_t lin, unsigned shift)
{
    uint64_t n = lin >> shift;
    return (unsigned)((n ^ n >> LARGE_BITS ^ shift * 37u) & ((1u << LARGE_BITS) - 1));
}

static bool large_test(const struct X86MmuCache *m, uint64_t lin, unsigned shift)
{
    unsigned n = large_slot(lin, shift);
    return m->large[n / 64] >> (n % 64) & 1;
}

static void large_set(struct X86MmuCache *m, uint64_t lin, unsigned shift)
{
    unsigned n = large_slot(lin, shift);
    m->large[n / 64] |= UINT64_C(1) << (n % 64);
}

void x86_tlb_flush_page(X86Cpu *c, uint64_t lin)
{
    struct X86MmuCache *m = c->mmu;
    if (large_test(m, lin, 21) || large_test(m, lin, 22) || large_test(m, lin, 30)) {
        /* The whole large page has to go, and its pieces are anywhere. */
        x86_tlb_flush(c, true);
        return;
    }
    Translation *tr = &m->entries[lin >> 12 & (CACHE_SIZE - 1)];
    if (tr->page == (lin & ~PAGE_OFFSET)) {
        tr->page = X86_TLB_NONE;
    }
    for (unsigned t = 0; t <= X86_TLB_USER; t++) {
        tlb_drop(c, t, lin >> 12 & (X86_TLB_SIZE - 1));
    }
}

void x86_tlb_protect(X86Cpu *c, uint64_t gpa)
{
    uint64_t host = (uint64_t)(uintptr_t)x86_phys_host(c, gpa & ~PAGE_OFFSET, NULL);
    for (unsigned t = 0; t <= X86_TLB_USER; t++) {
        for (unsigned w = 0; w < SET_WORDS; w++) {
            for (uint64_t bits = c->mmu->filled[t][w]; bits; bits &= bits - 1) {
                X86TlbEntry *e = &c->tlbs[t].write[w * 64 + (unsigned)__builtin_ctzll(bits)];
                if (e->page != X86_TLB_NONE && e->page + e->addend == host) {
                    e->page = X86_TLB_NONE;
                }
            }
        }
    }
}

/* The VP may be changing its entries: see protect_others() in block.c for why that does no harm. */
__attribute__((no_sanitize("thread"))) bool x86_tlb_may_write(const X86Cpu *vp, uint64_t gpa)
{
    const X86Slot *s = x86_slot(vp->machine, gpa);
    if (!s) {
        return false;
    }
    uint64_t host = (uint64_t)(uintptr_t)(s->host + ((gpa & ~PAGE_OFFSET) - s->gpa));
    for (unsigned t = 0; t <= X86_TLB_USER; t++) {
        const volatile X86TlbEntry *e = vp->tlbs[t].write;
        for (unsigned i = 0; i < X86_TLB_SIZE; i++) {
            if (e[i].page + e[i].addend == host) { /* X86_TLB_NONE makes it odd */
                return true;
            }
        }
    }
    return false;
}

/* Whether a write entry is of a page that the dirty log has as clean. One host page may be in several
 * slots: dirty in one, clean in another counts as clean. */
static bool entry_clean(const X86Machine *m, uint64_t host)
{
    for (unsigned i = 0; i < m->slots->n; i++) {
        const X86Slot *s = &m->slots->slot[i];
        uint64_t offset = host - (uint64_t)(uintptr_t)s->host;
        if (offset < s->size && !x86_page_dirty(s, s->gpa + offset)) {
            return true;
        }
    }
    return false;
}

void x86_tlb_drop_clean(X86Cpu *c)
{
    for (unsigned t = 0; t <= X86_TLB_USER; t++) {
        for (unsigned w = 0; w < SET_WORDS; w++) {
            for (uint64_t bits = c->mmu->filled[t][w]; bits; bits &= bits - 1) {
                X86TlbEntry *e = &c->tlbs[t].write[w * 64 + (unsigned)__builtin_ctzll(bits)];
                if (e->page != X86_TLB_NONE && entry_clean(c->machine, e->page + e->addend)) {
                    e->page = X86_TLB_NONE;
                }
            }
        }
    }
}

/* As x86_tlb_may_write(): an entry that is being changed may be read in part, which does no harm. */
__attribute__((no_sanitize("thread"))) bool x86_tlb_has_clean(const X86Cpu *vp)
{
    for (unsigned t = 0; t <= X86_TLB_USER; t++) {
        const volatile X86TlbEntry *e = vp->tlbs[t].write;
        for (unsigned i = 0; i < X86_TLB_SIZE; i++) {
            uint64_t page = e[i].page;
            if (page != X86_TLB_NONE && entry_clean(vp->machine, page + e[i].addend)) {
                return true;
            }
        }
    }
    return false;
}

/* RFLAGS.AC went from 1 to 0 under SMAP: what it opened must close. */
void x86_tlb_close_smap(X86Cpu *c)
{
    if (c->mmu->any_smap) {
        tlb_drop_sets(c, X86_TLB_SUPER, c->mmu->smap);
        c->mmu->any_smap = false;
    }
}

void x86_mmu_watch(X86Cpu *c, const uint64_t *pages, unsigned n)
{
    g_assert(n <= G_N_ELEMENTS(c->mmu->watched));
    c->mmu->n_watched = n;
    memcpy(c->mmu->watched, pages, n * sizeof(*pages));
    x86_tlb_flush(c, true);
}

static bool page_watched(const struct X86MmuCache *m, uint64_t page)
{
    for (unsigned i = 0; i < m->n_watched; i++) {
        if (m->watched[i] == page) {
            return true;
        }
    }
    return false;
}

void x86_mmu_init(X86Cpu *c)
{
    c->tlbs = g_new0(X86Tlb, X86_N_TLBS);
    c->mmu = g_new0(struct X86MmuCache, 1);
    for (unsigned t = 0; t < X86_N_TLBS; t++) {
        for (unsigned i = 0; i < X86_TLB_SIZE; i++) {
            tlb_drop(c, t, i);
        }
    }
    /* Zeroed entries are of no generation, hence dead: pages that are not used stay untouched. */
    c->mmu->generation = c->mmu->global_generation = 1;
    c->tlb = c->fetch_tlb = &c->tlbs[X86_TLB_SUPER];
}

void x86_mmu_free(X86Cpu *c)
{
    g_clear_pointer(&c->tlbs, g_free);
    g_clear_pointer(&c->mmu, g_free);
    c->tlb = c->fetch_tlb = NULL;
}

/* ---- physical memory ---- */

void *x86_phys_host(X86Cpu *c, uint64_t gpa, bool *writable)
{
    const X86Slot *s = x86_slot(c->machine, gpa);
    if (!s) {
        return NULL;
    }
    if (writable) {
        *writable = s->flags & PTA_MAP_WRITE;
    }
    return s->host + (gpa - s->gpa);
}

/* Any number of bytes of device registers, in naturally aligned pieces of at most 8. */
static void mmio_access(X86Cpu *c, uint64_t gpa, uint8_t *buf, unsigned size, bool write)
{
    const PtaPlatform *p = c->machine->platform;
    while (size > 0) {
        unsigned n = 8;
        while (n > size || (gpa & (n - 1)) != 0) {
            n /= 2;
        }
        uint64_t value = 0;
        if (write) {
            memcpy(&value, buf, n);
        }
        c->stats[X86_STAT_MMIO]++;
        if (!x86_lapic_mmio(c, gpa, write, n, &value)) {
            if (write) {
                p->mmio_write(p->opaque, gpa, n, value);
            } else {
                value = p->mmio_read(p->opaque, gpa, n);
            }
        }
        if (!write) {
            memcpy(buf, &value, n);
        }
        gpa += n;
        buf += n;
        size -= n;
    }
}

/* ---- page walk ---- */

bool x86_load_pdptes(X86Cpu *c, uint64_t cr3)
{
    uint64_t reserved = ~((UINT64_C(1) << c->cpuid->phys_bits) - 1) | 0x1e6;
    const uint8_t *host = x86_phys_host(c, cr3 & 0xffffffe0, NULL);
    uint64_t e[4];
    if (host) {
        for (unsigned i = 0; i < 4; i++) {
            e[i] = __atomic_load_n((const uint64_t *)host + i, __ATOMIC_RELAXED);
        }
    } else {
        memset(e, 0xff, sizeof(e)); /* nothing answers */
    }
    for (unsigned i = 0; i < 4; i++) {
        if ((e[i] & PTE_P) && (e[i] & reserved)) {
            return false;
        }
    }
    memcpy(c->mmu->pdpte, e, sizeof(e));
    c->mmu->pdptes_stale = false;
    return true;
}

void x86_pdptes_stale(X86Cpu *c)
{
    c->mmu->pdptes_stale = true;
}

static bool page_fault(const X86Cpu *c, X86Fault *fault, uint64_t lin, X86Access access,
                       Privilege priv, uint32_t error)
{
    bool says_fetch =
        (c->cr4 & X86_CR4_SMEP) || ((c->cr4 & X86_CR4_PAE) && (c->efer & X86_EFER_NXE));
    *fault = (X86Fault){
        .vector = X86_PFV,
        .has_error = true,
        .error = error | (access == X86_WRITE ? PF_W : 0) | (priv == PRIV_USER ? PF_U : 0) |
                 (access == X86_FETCH && says_fetch ? PF_I : 0),
        .cr2 = lin,
    };
    return false;
}

/* Whether the rights in `flags` (TR_*) allow it: SDM vol. 3, 4.6.1. */
static bool allowed(const X86Cpu *c, uint64_t flags, X86Access access, Privilege priv)
{
    if (access == X86_FETCH && !(flags & TR_EXEC)) {
        return false;
    }
    if (priv == PRIV_USER) {
        return (flags & TR_USER) && (access != X86_WRITE || (flags & TR_WRITE));
    }
    if (flags & TR_USER) {
        if (access == X86_FETCH) {
            return !(c->cr4 & X86_CR4_SMEP);
        }
        if ((c->cr4 & X86_CR4_SMAP) && (priv == PRIV_IMPLICIT || !(c->rflags & X86_AC))) {
            return false;
        }
    }
    return access != X86_WRITE || (flags & TR_WRITE) || !(c->cr0 & X86_CR0_WP);
}

/* One entry of a paging structure: where it is and what was read. */
typedef struct Entry {
    uint64_t gpa;
    void *host; /* NULL: no RAM there, reads as all ones */
    bool wide;  /* 8 bytes */
    bool writable;
    uint64_t value;
} Entry;

static Entry entry_read(X86Cpu *c, uint64_t gpa, bool wide)
{
    Entry e = { .gpa = gpa, .wide = wide, .value = wide ? UINT64_MAX : UINT32_MAX };
    e.host = x86_phys_host(c, gpa, &e.writable);
    if (e.host) {
        e.value = wide ? __atomic_load_n((uint64_t *)e.host, __ATOMIC_ACQUIRE)
                       : __atomic_load_n((uint32_t *)e.host, __ATOMIC_ACQUIRE);
    }
    return e;
}

/* Sets bits; false if the entry is no longer what was read. In read-only memory nothing happens. */
static bool entry_set(X86Cpu *c, const Entry *e, uint64_t bits)
{
    if ((e->value & bits) == bits || !e->writable) {
        return true;
    }
    bool ok;
    if (e->wide) {
        uint64_t expected = e->value;
        ok = __atomic_compare_exchange_n((uint64_t *)e->host, &expected, e->value | bits, false,
                                         __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    } else {
        uint32_t expected = (uint32_t)e->value;
        ok =
            __atomic_compare_exchange_n((uint32_t *)e->host, &expected, (uint32_t)(e->value | bits),
                                        false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    if (ok && x86_dirty_on(c->machine)) {
        x86_dirty_mark(c->machine, e->gpa);
    }
    return ok;
}

/* How the current paging mode walks. */
typedef struct Geometry {
    unsigned levels;
    unsigned index_bits;
    bool wide;
    uint64_t root;
    uint64_t address;  /* bits of an entry that are an address */
    uint64_t reserved; /* in every entry */
} Geometry;

/* False: a PDPTE of PAE paging is not present. */
static bool geometry(X86Cpu *c, uint64_t lin, Geometry *g)
{
    uint64_t phys = (UINT64_C(1) << c->cpuid->phys_bits) - 1;
    if (!(c->cr4 & X86_CR4_PAE)) {
        *g = (Geometry){ 2, 10, false, c->cr3 & 0xfffff000, 0xfffff000, 0 };
        return true;
    }
    *g = (Geometry){ .index_bits = 9, .wide = true, .address = phys & ~PAGE_OFFSET };
    g->reserved = (~phys & UINT64_C(0x000fffffffffffff)) | (c->efer & X86_EFER_NXE ? 0 : PTE_NX);
    if (c->efer & X86_EFER_LMA) {
        g->levels = 4;
        g->root = c->cr3 & g->address;
        return true;
    }
    if (c->mmu->pdptes_stale && !x86_load_pdptes(c, c->cr3)) {
        return false;
    }
    uint64_t pdpte = c->mmu->pdpte[lin >> 30 & 3];
    g->levels = 2;
    g->reserved |= UINT64_C(0x7ff0000000000000);
    g->root = pdpte & g->address;
    return pdpte & PTE_P;
}

/* Whether `entry` of `level` maps a page of `1 << shift` bytes; *reserved grows by the bits that
 * must then be 0, *base is the page's address. */
static bool is_leaf(const X86Cpu *c, const Geometry *g, unsigned level, unsigned shift,
                    uint64_t entry, uint64_t *reserved, uint64_t *base)
{
    if (level == 1) {
        *base = entry & g->address;
        return true;
    }
    if (!(entry & PTE_PS)) {
        return false;
    }
    uint64_t in_page = (UINT64_C(1) << shift) - 1;
    if (!g->wide) {
        if (!(c->cr4 & X86_CR4_PSE)) {
            return false; /* the bit is ignored */
        }
        /* PSE-36: bits 13-20 are address bits 32-39, as far as the CPU has them. */
        unsigned high = MIN(c->cpuid->phys_bits, 40u) - 32;
        *base = (entry & 0xffc00000) | (entry >> 13 & ((1u << high) - 1)) << 32;
        *reserved |= (UINT64_C(1) << 22) - (UINT64_C(1) << (13 + high));
        return true;
    }
    if (level == 4 || (level == 3 && !pta_cpuid_has(c->cpuid, PTA_X86_FEAT_1GPAGES))) {
        *reserved |= PTE_PS;
        return true;
    }
    *base = entry & g->address & ~in_page;
    *reserved |= in_page & ~UINT64_C(0x1fff); /* bit 12 is PAT */
    return true;
}

/*
 * Translates one linear address. Never raises, changes nothing of the CPU. False and *fault.
 */
static bool mmu_walk(X86Cpu *c, uint64_t lin, X86Access access, Privilege priv, bool set_ad,
                     Translation *out, X86Fault *fault)
{
    if (!(c->cr0 & X86_CR0_PG)) {
        out->gpa = (lin & ~PAGE_OFFSET) | TR_USER | TR_WRITE | TR_EXEC | TR_DIRTY;
        return true;
    }
restart:;
    Geometry g;
    if (!geometry(c, lin, &g)) {
        return page_fault(c, fault, lin, access, priv, 0);
    }
    uint64_t rights = PTE_U | PTE_W;
    uint64_t table = g.root;
    bool executable = true;
    for (unsigned level = g.levels;; level--) {
        unsigned shift = 12 + (level - 1) * g.index_bits;
        uint64_t index = lin >> shift & ((1u << g.index_bits) - 1);
        Entry e = entry_read(c, table + index * (g.wide ? 8 : 4), g.wide);
        if (!(e.value & PTE_P)) {
            return page_fault(c, fault, lin, access, priv, 0);
        }
        uint64_t reserved = g.reserved;
        uint64_t base = 0;
        bool leaf = is_leaf(c, &g, level, shift, e.value, &reserved, &base);
        if (e.value & reserved) {
            return page_fault(c, fault, lin, access, priv, PF_P | PF_RSVD);
        }
        rights &= e.value;
        executable &= !(g.wide && (e.value & PTE_NX));
        if (!leaf) {
            if (set_ad && !entry_set(c, &e, PTE_A)) {
                goto restart;
            }
            table = e.value & g.address;
            continue;
        }
        uint64_t flags = (rights & PTE_U ? TR_USER : 0) | (rights & PTE_W ? TR_WRITE : 0) |
                         (executable ? TR_EXEC : 0);
        if (!allowed(c, flags, access, priv)) {
            return page_fault(c, fault, lin, access, priv, PF_P);
        }
        uint64_t bits = PTE_A | (access == X86_WRITE ? PTE_D : 0);
        if (set_ad && !entry_set(c, &e, bits)) {
            goto restart;
        }
        flags |= ((e.value | bits) & PTE_D ? TR_DIRTY : 0) | (shift > 12 ? TR_LARGE : 0) |
                 ((e.value & PTE_G) && (c->cr4 & X86_CR4_PGE) ? TR_GLOBAL : 0);
        out->gpa = base | (lin & ((UINT64_C(1) << shift) - 1) & ~PAGE_OFFSET) | flags;
        if (shift > 12 && set_ad) {
            large_set(c->mmu, lin, shift);
        }
        return true;
    }
}

/* SDM vol. 1, 3.3.7.1: the address must be a sign-extended one. */
static bool is_canonical(const X86Cpu *c, uint64_t lin)
{
    unsigned n = 64 - 48;
    return (uint64_t)((int64_t)(lin << n) >> n) == lin;
}

bool x86_walk(X86Cpu *c, uint64_t lin, X86Access access, bool user, bool set_ad, uint64_t *gpa,
              X86Fault *fault)
{
    if ((c->efer & X86_EFER_LMA) && !is_canonical(c, lin)) {
        *fault = (X86Fault){ .vector = X86_GP, .has_error = true };
        return false;
    }
    Translation tr;
    if (!mmu_walk(c, lin, access, user ? PRIV_USER : PRIV_SUPER, set_ad, &tr, fault)) {
        return false;
    }
    *gpa = (tr.gpa & ~PAGE_OFFSET) | (lin & PAGE_OFFSET);
    return true;
}

/* ---- translation with caches ---- */

static void bit_set(uint64_t *words, unsigned n)
{
    words[n / 64] |= UINT64_C(1) << (n % 64);
}

/*
 * A write entry, unless the page has code, or has to be marked dirty by its first store. With several
 * VPs, or while writes are logged, the mark for others comes first, then the entry, then the look:
 * who decodes from the page (takes its dirty bit) marks it first and then looks for entries, so at
 * least one of the two sees the other.
 */
static void tlb_fill_write(X86Cpu *c, X86TlbEntry *e, const X86TlbEntry *entry, uint64_t gpa)
{
    const X86Slot *s = x86_slot(c->machine, gpa);
    size_t page = x86_slot_page(s, gpa);
    bool logged = x86_dirty_on(c->machine);
    if (logged && !x86_page_dirty(s, gpa)) {
        return;
    }
    if (s->writers || logged) {
        *e = *entry;
        if (s->writers && !(__atomic_load_n(&s->writers[page], __ATOMIC_RELAXED) & x86_vp_bit(c))) {
            __atomic_fetch_or(&s->writers[page], x86_vp_bit(c), __ATOMIC_SEQ_CST);
        }
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(&s->code[page], __ATOMIC_SEQ_CST) != 0 ||
            (logged && !x86_page_dirty(s, gpa))) {
            e->page = X86_TLB_NONE;
        }
    } else if (__atomic_load_n(&s->code[page], __ATOMIC_RELAXED) == 0) {
        *e = *entry;
    }
}

/* What may be done to this page without looking becomes TLB entries. */
static void tlb_fill(X86Cpu *c, const Translation *tr, X86Access access, Privilege priv)
{
    struct X86MmuCache *m = c->mmu;
    c->stats[X86_STAT_TLB_FILL]++;
    if (!tr->host || priv == PRIV_IMPLICIT || c->machine->stepping ||
        (access != X86_FETCH && page_watched(m, tr->page))) {
        return;
    }
    unsigned t = priv == PRIV_USER ? X86_TLB_USER : X86_TLB_SUPER;
    unsigned set = tr->page >> 12 & (X86_TLB_SIZE - 1);
    X86TlbEntry entry = { tr->page, (uint64_t)(uintptr_t)tr->host - tr->page };
    if (access == X86_FETCH) {
        entry.addend = (tr->gpa & ~PAGE_OFFSET) - tr->page;
        c->tlbs[t].fetch[set] = entry;
    } else {
        if (allowed(c, tr->gpa, X86_READ, priv)) {
            c->tlbs[t].read[set] = entry;
        }
        if ((tr->gpa & TR_DIRTY) && !(tr->gpa & TR_ROM) && allowed(c, tr->gpa, X86_WRITE, priv)) {
            tlb_fill_write(c, &c->tlbs[t].write[set], &entry, tr->gpa & ~PAGE_OFFSET);
        }
        if (priv == PRIV_SUPER && (tr->gpa & TR_USER) && (c->cr4 & X86_CR4_SMAP)) {
            bit_set(m->smap, set);
            m->any_smap = true;
        }
    }
    bit_set(m->filled[t], set);
    if (!(tr->gpa & TR_GLOBAL)) {
        bit_set(m->local[t], set);
    }
}

static uint64_t current_generation(const struct X86MmuCache *m, const Translation *tr)
{
    return tr->gpa & TR_GLOBAL ? m->global_generation : m->generation;
}

/* False and *fault; else *out lives until the next translation. */
static bool translate(X86Cpu *c, uint64_t lin, X86Access access, Privilege priv,
                      const Translation **out, X86Fault *fault)
{
    struct X86MmuCache *m = c->mmu;
    uint64_t page = lin & ~PAGE_OFFSET;
    Translation *tr = &m->entries[page >> 12 & (CACHE_SIZE - 1)];
    *out = tr;
    if (tr->page == page && tr->generation == current_generation(m, tr) &&
        allowed(c, tr->gpa, access, priv) && (access != X86_WRITE || (tr->gpa & TR_DIRTY))) {
        tlb_fill(c, tr, access, priv);
        return true;
    }
    Translation fresh = { .page = page };
    if (!mmu_walk(c, lin, access, priv, true, &fresh, fault)) {
        if (tr->page == page) {
            tr->page = X86_TLB_NONE; /* SDM vol. 3, 4.10.4.1: a fault drops the translation */
            tlb_drop(c, X86_TLB_SUPER, page >> 12 & (X86_TLB_SIZE - 1));
            tlb_drop(c, X86_TLB_USER, page >> 12 & (X86_TLB_SIZE - 1));
        }
        return false;
    }
    uint64_t gpa = fresh.gpa & ~PAGE_OFFSET;
    bool writable = false;
    if (!x86_lapic_covers(c, gpa)) {
        fresh.host = x86_phys_host(c, gpa, &writable);
    }
    if (fresh.host && !writable) {
        fresh.gpa |= TR_ROM;
    }
    fresh.generation = current_generation(m, &fresh);
    *tr = fresh;
    tlb_fill(c, tr, access, priv);
    return true;
}

bool x86_fetch_page(X86Cpu *c, uint64_t lin, uint64_t *gpa, const uint8_t **host, X86Fault *fault)
{
    if (!(c->efer & X86_EFER_LMA)) {
        lin = (uint32_t)lin;
    } else if (!is_canonical(c, lin)) {
        *fault = (X86Fault){ .vector = X86_GP, .has_error = true };
        return false;
    }
    const Translation *tr;
    if (!translate(c, lin, X86_FETCH, c->cpl == 3 ? PRIV_USER : PRIV_SUPER, &tr, fault)) {
        return false;
    }
    *gpa = tr->gpa & ~PAGE_OFFSET;
    *host = tr->host;
    return true;
}

/* ---- accesses the slow way ---- */

/* A piece of an access within one page. */
typedef struct Piece {
    uint64_t gpa;  /* of the first byte */
    uint8_t *host; /* of the first byte; NULL: device registers */
    unsigned size;
    bool rom;
} Piece;

static void check_canonical(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size)
{
    if (!is_canonical(c, lin) || !is_canonical(c, lin + size - 1)) {
        x86_raise(c, in, in && (in->ea & X86_EA_SS) ? X86_SS : X86_GP, 0);
    }
}

/* SDM vol. 3, table 6-7. Sizes that are no power of two are made of smaller parts. */
static void check_alignment(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size)
{
    unsigned align = size == 10 ? 8 : pta_is_pow2(size) && size <= 16 ? size : 1;
    if ((lin & (align - 1)) != 0) {
        x86_raise(c, in, X86_ACV, 0);
    }
}

/* Translates all of it, at most two pages, or raises. Returns the number of pieces. */
static unsigned resolve(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, X86Access access,
                        Privilege priv, Piece piece[2])
{
    bool wide = c->efer & X86_EFER_LMA;
    if (!wide) {
        lin = (uint32_t)lin;
    } else {
        check_canonical(c, in, lin, size);
    }
    unsigned first = (unsigned)MIN(size, PTA_PAGE_SIZE - (lin & PAGE_OFFSET));
    unsigned n = 0;
    for (unsigned done = 0; done < size; n++) {
        uint64_t at = wide ? lin + done : (uint32_t)(lin + done);
        const Translation *tr;
        X86Fault fault;
        if (!translate(c, at, access, priv, &tr, &fault)) {
            x86_raise_fault(c, in, &fault);
        }
        piece[n].size = n == 0 ? first : size - first;
        piece[n].gpa = (tr->gpa & ~PAGE_OFFSET) | (at & PAGE_OFFSET);
        piece[n].host = tr->host ? tr->host + (at & PAGE_OFFSET) : NULL;
        piece[n].rom = tr->gpa & TR_ROM;
        done += piece[n].size;
    }
    if (priv == PRIV_USER && (c->rflags & X86_AC) && (c->cr0 & X86_CR0_AM)) {
        check_alignment(c, in, lin, size);
    }
    if (G_UNLIKELY(c->mmu->n_watched > 0)) {
        x86_debug_data(c, in, lin, size, access);
    }
    return n;
}

static Privilege privilege(const X86Cpu *c)
{
    return c->cpl == 3 ? PRIV_USER : PRIV_SUPER;
}

/* A power-of-two size becomes one access of the host. */
static void copy_whole(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1:
        memcpy(to, from, 1);
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    default:
        memcpy(to, from, size);
        break;
    }
}

static void load_pieces(X86Cpu *c, const Piece *piece, unsigned n, uint8_t *buf)
{
    for (unsigned i = 0; i < n; i++) {
        if (piece[i].host) {
            copy_whole(buf, piece[i].host, piece[i].size);
        } else {
            mmio_access(c, piece[i].gpa, buf, piece[i].size, false);
        }
        buf += piece[i].size;
    }
}

static void store_pieces(X86Cpu *c, const Piece *piece, unsigned n, const uint8_t *buf)
{
    for (unsigned i = 0; i < n; i++) {
        if (piece[i].host && !piece[i].rom) {
            copy_whole(piece[i].host, buf, piece[i].size);
            if (x86_dirty_on(c->machine)) {
                x86_dirty_mark(c->machine, piece[i].gpa);
            }
            /* Who marks the page and then decodes sees the bytes, or we see the mark. */
            x86_serialize(c);
            if (x86_page_has_code(c->machine, piece[i].gpa & ~PAGE_OFFSET)) {
                x86_code_written(c, piece[i].gpa, piece[i].size);
            }
        } else {
            uint8_t copy[64];
            memcpy(copy, buf, piece[i].size);
            mmio_access(c, piece[i].gpa, copy, piece[i].size, true);
        }
        buf += piece[i].size;
    }
}

static void load_as(X86Cpu *c, const X86Insn *in, uint64_t lin, void *buf, unsigned size,
                    Privilege priv)
{
    Piece piece[2];
    unsigned n = resolve(c, in, lin, size, X86_READ, priv, piece);
    load_pieces(c, piece, n, buf);
}

static void store_as(X86Cpu *c, const X86Insn *in, uint64_t lin, const void *buf, unsigned size,
                     Privilege priv)
{
    Piece piece[2];
    unsigned n = resolve(c, in, lin, size, X86_WRITE, priv, piece);
    store_pieces(c, piece, n, buf);
}

uint64_t x86_load_slow(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, bool user)
{
    uint64_t value = 0;
    load_as(c, in, lin, &value, size, user ? PRIV_USER : PRIV_SUPER);
    return value;
}

void x86_store_slow(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, uint64_t value,
                    bool user)
{
    store_as(c, in, lin, &value, size, user ? PRIV_USER : PRIV_SUPER);
}

void x86_load_bytes(X86Cpu *c, const X86Insn *in, uint64_t lin, void *buf, unsigned size)
{
    const void *p = x86_tlb_lookup(c->tlb->read, lin, size);
    if (G_LIKELY(p)) {
        memcpy(buf, p, size);
    } else {
        load_as(c, in, lin, buf, size, privilege(c));
    }
}

void x86_store_bytes(X86Cpu *c, const X86Insn *in, uint64_t lin, const void *buf, unsigned size)
{
    void *p = x86_tlb_lookup(c->tlb->write, lin, size);
    if (G_LIKELY(p)) {
        memcpy(p, buf, size);
    } else {
        store_as(c, in, lin, buf, size, privilege(c));
    }
}

void x86_probe(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, X86Access access)
{
    const X86TlbEntry *tlb = access == X86_WRITE ? c->tlb->write : c->tlb->read;
    if (x86_tlb_lookup(tlb, lin, size)) {
        return;
    }
    Piece piece[2];
    resolve(c, in, lin, size, access, privilege(c), piece);
}

/* The TLB of supervisor accesses serves unless RFLAGS.AC opened user pages in it. */
static bool implicit_may_hit(const X86Cpu *c)
{
    return !c->mmu->any_smap;
}

uint64_t x86_sys_load(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size)
{
    uint64_t value = 0;
    const void *p = x86_tlb_lookup(c->tlbs[X86_TLB_SUPER].read, lin, size);
    if (G_LIKELY(p && implicit_may_hit(c))) {
        memcpy(&value, p, size);
    } else {
        load_as(c, in, lin, &value, size, PRIV_IMPLICIT);
    }
    return value;
}

void x86_sys_store(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, uint64_t value)
{
    void *p = x86_tlb_lookup(c->tlbs[X86_TLB_SUPER].write, lin, size);
    if (G_LIKELY(p && implicit_may_hit(c))) {
        memcpy(p, &value, size);
    } else {
        store_as(c, in, lin, &value, size, PRIV_IMPLICIT);
    }
}

/* Host instructions can do it in one: naturally aligned, or, on x86, within a cache line. */
static bool atomic_on_host(uint64_t lin, unsigned size)
{
#if defined(__x86_64__)
    return (lin & (size - 1)) == 0 || (size <= 8 && (lin & 63) + size <= 64);
#else
    return (lin & (size - 1)) == 0;
#endif
}

void *x86_host_rmw(X86Cpu *c, const X86Insn *in, uint64_t lin, unsigned size, uint64_t *written)
{
    void *p = x86_tlb_lookup(c->tlb->write, lin, size);
    *written = X86_RMW_PLAIN;
    if (p) {
        return atomic_on_host(lin, size) ? p : NULL;
    }
    Piece piece[2];
    unsigned n = resolve(c, in, lin, size, X86_WRITE, privilege(c), piece);
    if (n != 1 || !piece[0].host || piece[0].rom || !atomic_on_host(lin, size)) {
        return NULL;
    }
    *written = piece[0].gpa;
    return piece[0].host;
}

void x86_rmw_done_slow(X86Cpu *c, uint64_t written, unsigned size)
{
    if (x86_dirty_on(c->machine)) {
        x86_dirty_mark(c->machine, written);
    }
    if (x86_page_has_code(c->machine, written & ~PAGE_OFFSET)) {
        x86_code_written(c, written, size);
    }
}

void *x86_host_span(X86Cpu *c, uint64_t lin, uint64_t len, X86Access access, uint64_t *n)
{
    if (c->tlb == &c->tlbs[X86_TLB_EMPTY]) {
        return NULL;
    }
    if (!(c->efer & X86_EFER_LMA)) {
        lin = (uint32_t)lin;
    } else if (!is_canonical(c, lin)) {
        return NULL;
    }
    *n = MIN(len, PTA_PAGE_SIZE - (lin & PAGE_OFFSET));
    const X86TlbEntry *tlb = access == X86_WRITE ? c->tlb->write : c->tlb->read;
    void *p = x86_tlb_lookup(tlb, lin, 1);
    if (p) {
        return p;
    }
    const Translation *tr;
    X86Fault fault;
    if (!translate(c, lin, access, privilege(c), &tr, &fault)) {
        return NULL;
    }
    return x86_tlb_lookup(tlb, lin, 1); /* filled if nothing is special about the page */
}
