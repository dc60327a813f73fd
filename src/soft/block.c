/*
 * The cache of decoded blocks: one per VP, keyed by guest-physical address and mode. A block keeps
 * to its page and goes on past conditional branches that are not taken; it ends at what may change
 * control flow or mode. In front of it, `jump` finds a block by linear address; branches link to
 * their targets.
 *
 * Stores: a page that code was decoded from has no write entries in any TLB, so that every store
 * there comes to x86_code_written(). Blocks that it hits die: all their instructions become
 * x86_exec_redispatch, so that links to them and even their own execution go on safely; their
 * memory comes back when the arena is flushed.
 *
 * Several VPs: each has its own cache. X86Slot.code says who has decoded code from a page, so that
 * who writes there asks them (request()) to drop it; X86Slot.writers says whose TLB is to be searched
 * for write entries before a page is decoded from for the first time.
 *
 * Thread: the VP's, except the request queue (LOCKED) and X86Slot's marks (ATOMIC).
 */
#include "config.h"

#include <string.h>

#include "src/soft/engine.h"
#include "src/soft/soft.h"

#define ARENA_SIZE (size_t)(7 * PTA_MIB / 2)
#define PAGE_BITS  (PTA_PAGE_SIZE - 1)

G_STATIC_ASSERT(offsetof(X86Cpu, code_gen) == offsetof(X86Cpu, mode) + 4);
G_STATIC_ASSERT(offsetof(X86Cpu, mode) % 8 == 0);

struct X86CodePage {
    uint64_t gpa;
    X86CodePage *next;
    X86Block *blocks;  /* that begin here */
    X86Block *crosses; /* that begin in another page and end here */
    uint64_t map;      /* per 64 bytes: some block has (or had) code there */
};

X86Block x86_no_block = { .lin = 1, .key = X86_KEY_NONE };

static unsigned block_slot(uint64_t gpa, uint32_t mode)
{
    return (unsigned)((gpa ^ gpa >> 13 ^ mode * 0x9e37u) & (X86_HASH_SIZE - 1));
}

static unsigned page_slot(uint64_t gpa)
{
    return (unsigned)(gpa >> PTA_PAGE_SHIFT ^ gpa >> 22) & (X86_PAGES_SIZE - 1);
}

/* ---- life ---- */

void x86_blocks_new(X86Cpu *c)
{
    X86BlockCache *bc = g_new0(X86BlockCache, 1);
    g_mutex_init(&bc->lock);
    bc->arena_size = ARENA_SIZE;
    bc->arena = g_malloc(bc->arena_size);
    for (unsigned i = 0; i < X86_JUMP_SIZE; i++) {
        bc->jump[i] = &x86_no_block;
    }
    x86_decoder_init(&bc->decoder, c->cpuid->features | 1);
    x86_decoder_remember(&bc->decoder);
    c->blocks = bc;
}

void x86_blocks_free(X86Cpu *c)
{
    if (!c->blocks) {
        return;
    }
    x86_blocks_flush(c);
    while (c->blocks->free_pages) {
        X86CodePage *p = c->blocks->free_pages;
        c->blocks->free_pages = p->next;
        g_free(p);
    }
    g_mutex_clear(&c->blocks->lock);
    x86_decoder_clear(&c->blocks->decoder);
    g_free(c->blocks->arena);
    g_free(c->blocks);
    c->blocks = NULL;
}

/* ---- pages ---- */

static X86CodePage *page_find(X86BlockCache *bc, uint64_t gpa)
{
    X86CodePage *p = bc->last_page;
    if (p && p->gpa == gpa) {
        return p;
    }
    for (p = bc->pages[page_slot(gpa)]; p; p = p->next) {
        if (p->gpa == gpa) {
            bc->last_page = p;
            break;
        }
    }
    return p;
}

static void page_mark(X86Cpu *c, uint64_t gpa, bool has_code)
{
    const X86Slot *s = x86_slot(c->machine, gpa);
    if (!s) {
        return; /* the slot was unmapped meanwhile */
    }
    uint64_t *word = &s->code[x86_slot_page(s, gpa)];
    if (has_code) {
        __atomic_fetch_or(word, x86_vp_bit(c), __ATOMIC_SEQ_CST);
    } else {
        __atomic_fetch_and(word, ~x86_vp_bit(c), __ATOMIC_SEQ_CST);
    }
}

/* Which VPs have decoded code from the page. */
static uint64_t page_coders(const X86Machine *m, uint64_t gpa)
{
    const X86Slot *s = x86_slot(m, gpa);
    return s ? __atomic_load_n(&s->code[x86_slot_page(s, gpa)], __ATOMIC_SEQ_CST) : 0;
}

/* Code that is written in small pieces, one after another, makes one request. */
static bool merge(X86CodeRequest *r, uint64_t gpa, uint64_t len)
{
    if (r->len == 0 || len == 0 || ((r->gpa ^ gpa) & PTA_PAGE_MASK) ||
        (gpa & PAGE_BITS) + len > PTA_PAGE_SIZE) {
        return false;
    }
    uint64_t first = MIN(r->gpa, gpa), end = MAX(r->gpa + r->len, gpa + len);
    *r = (X86CodeRequest){ .gpa = first, .len = (uint32_t)(end - first) };
    return true;
}

/* Returns the number of the request. */
static uint64_t request(X86Cpu *vp, uint64_t gpa, uint64_t len)
{
    X86BlockCache *bc = vp->blocks;
    g_mutex_lock(&bc->lock);
    if (bc->n_requests == 0 || !merge(&bc->requests[bc->n_requests - 1], gpa, len)) {
        if (bc->n_requests < X86_MAX_REQUESTS && len <= UINT32_MAX) {
            bc->requests[bc->n_requests++] = (X86CodeRequest){ .gpa = gpa, .len = (uint32_t)len };
        } else if (len == 0) {
            bc->drop_write = true;
        } else {
            bc->drop_code = true;
        }
    }
    uint64_t mine = __atomic_add_fetch(&bc->asked, 1, __ATOMIC_SEQ_CST);
    g_mutex_unlock(&bc->lock);
    x86_attend(vp, X86_ATT_FLUSH);
    return mine;
}

uint64_t x86_request_clean(X86Cpu *vp)
{
    X86BlockCache *bc = vp->blocks;
    g_mutex_lock(&bc->lock);
    bc->drop_clean = true;
    uint64_t mine = __atomic_add_fetch(&bc->asked, 1, __ATOMIC_SEQ_CST);
    g_mutex_unlock(&bc->lock);
    x86_attend(vp, X86_ATT_FLUSH);
    return mine;
}

/* The same request to all VPs in the set but one. */
static void request_from(X86Machine *m, uint64_t set, const X86Cpu *but, uint64_t gpa, uint64_t len)
{
    for (; set; set &= set - 1) {
        X86Cpu *vp = m->vps[__builtin_ctzll(set)];
        if (vp && vp != but) {
            request(vp, gpa, len);
        }
    }
}

/* What else others asked waits for x86_blocks_attend(). */
void x86_blocks_protect(X86Cpu *c)
{
    X86BlockCache *bc = c->blocks;
    g_mutex_lock(&bc->lock);
    for (unsigned i = 0; i < bc->n_requests; i++) {
        x86_tlb_protect(c, bc->requests[i].gpa);
    }
    if (bc->drop_code || bc->drop_write) {
        x86_tlb_flush(c, true);
        bc->drop_write = false;
    }
    if (bc->drop_clean) {
        x86_tlb_drop_clean(c);
        bc->drop_clean = false;
    }
    __atomic_store_n(&bc->done, bc->asked, __ATOMIC_SEQ_CST);
    g_mutex_unlock(&bc->lock);
    x86_tell_waiters(c->machine);
}

/*
 * Sees to it that no other VP writes to the page without coming to x86_code_written(). The page is
 * marked already, and a VP that fills a write entry looks at the mark afterwards: so those that
 * have an entry now are all. They are asked to give it up, and this waits until they have, or are
 * where they will before they execute another instruction.
 *
 * An entry is the only way by which a VP writes without looking at the mark, and a host pointer
 * that came from one is used before anything else takes the entry's place.
 */
static void protect_others(X86Cpu *c, uint64_t gpa)
{
    X86Machine *m = c->machine;
    const X86Slot *s = x86_slot(m, gpa);
    if (!s) {
        return;
    }
    uint64_t writers = __atomic_load_n(&s->writers[x86_slot_page(s, gpa)], __ATOMIC_SEQ_CST);
    uint64_t asked[PTA_MAX_VPS];
    uint64_t wait = 0;
    for (uint64_t left = writers & ~x86_vp_bit(c); left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctzll(left);
        if (m->vps[i] && x86_tlb_may_write(m->vps[i], gpa)) {
            asked[i] = request(m->vps[i], gpa, 0);
            wait |= UINT64_C(1) << i;
        }
    }
    for (; wait; wait &= wait - 1) {
        unsigned i = (unsigned)__builtin_ctzll(wait);
        x86_wait_request(c, m->vps[i], asked[i]);
    }
}

static X86CodePage *page_get(X86Cpu *c, uint64_t gpa)
{
    X86BlockCache *bc = c->blocks;
    X86CodePage *p = page_find(bc, gpa);
    if (p) {
        return p;
    }
    p = bc->free_pages;
    if (p) {
        bc->free_pages = p->next;
    } else {
        p = g_new(X86CodePage, 1);
    }
    X86CodePage **head = &bc->pages[page_slot(gpa)];
    *p = (X86CodePage){ .gpa = gpa, .next = *head };
    *head = p;
    bc->last_page = p;
    page_mark(c, gpa, true);
    x86_tlb_protect(c, gpa);
    if (c->machine->n_vps > 1) {
        protect_others(c, gpa);
    }
    return p;
}

static void page_drop(X86Cpu *c, X86CodePage *p)
{
    X86BlockCache *bc = c->blocks;
    X86CodePage **at = &bc->pages[page_slot(p->gpa)];
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    p->next = bc->free_pages;
    bc->free_pages = p;
    bc->last_page = NULL;
    page_mark(c, p->gpa, false);
}

bool x86_page_has_code(const X86Machine *m, uint64_t gpa)
{
    return page_coders(m, gpa) != 0;
}

/* ---- the end of blocks ---- */

static void block_kill(X86Cpu *c, X86Block *b)
{
    X86BlockCache *bc = c->blocks;
    X86Block **at = &bc->hash[block_slot(b->gpa, b->mode)];
    while (*at != b) {
        at = &(*at)->hash_next;
    }
    *at = b->hash_next;
    X86CodePage *page = page_find(bc, b->gpa & PTA_PAGE_MASK);
    for (at = &page->blocks; *at != b; at = &(*at)->page_next) {}
    *at = b->page_next;
    X86CodePage *second = NULL;
    if (b->gpa2) {
        second = page_find(bc, b->gpa2);
        for (at = &second->crosses; *at != b; at = &(*at)->cross_next) {}
        *at = b->cross_next;
    }
    b->key = X86_KEY_NONE;
    for (unsigned i = 0; i < b->n_slots; i++) {
        b->insns[i].exec = x86_exec_redispatch;
    }
    if (!page->blocks && !page->crosses) {
        page_drop(c, page);
    }
    if (second && second != page && !second->blocks && !second->crosses) {
        page_drop(c, second);
    }
    c->stats[X86_STAT_SMC]++;
}

void x86_blocks_flush(X86Cpu *c)
{
    X86BlockCache *bc = c->blocks;
    if (!bc) {
        return;
    }
    for (unsigned i = 0; i < X86_JUMP_SIZE; i++) {
        bc->jump[i] = &x86_no_block;
    }
    memset(bc->hash, 0, sizeof(bc->hash));
    for (unsigned i = 0; i < X86_PAGES_SIZE; i++) {
        while (bc->pages[i]) {
            page_drop(c, bc->pages[i]);
        }
    }
    bc->arena_used = 0;
    bc->flushes++;
}

static uint64_t granules(uint64_t first, uint64_t last)
{
    unsigned from = (first & PAGE_BITS) >> 6, to = (last & PAGE_BITS) >> 6;
    return UINT64_MAX << from & UINT64_MAX >> (63 - to);
}

/* [gpa, gpa + len) lies in one page. */
static bool page_written(X86Cpu *c, uint64_t gpa, uint64_t len)
{
    X86CodePage *p = page_find(c->blocks, gpa & PTA_PAGE_MASK);
    if (!p || !(p->map & granules(gpa, gpa + len - 1))) {
        return false;
    }
    bool hit = false;
    X86Block *next;
    for (X86Block *b = p->crosses; b; b = next) {
        next = b->cross_next;
        if (gpa < b->gpa2 + (((b->gpa & PAGE_BITS) + b->len) & PAGE_BITS)) {
            block_kill(c, b); /* p goes with its last block, but its memory stays */
            hit = true;
        }
    }
    for (X86Block *b = p->blocks; b; b = next) {
        next = b->page_next;
        if (gpa < b->gpa + b->len && b->gpa < gpa + len) {
            block_kill(c, b);
            hit = true;
        }
    }
    return hit;
}

static bool local_written(X86Cpu *c, uint64_t gpa, uint64_t len)
{
    bool hit = false;
    while (len > 0) {
        uint64_t n = MIN(len, PTA_PAGE_SIZE - (gpa & PAGE_BITS));
        hit |= page_written(c, gpa, n);
        gpa += n;
        len -= n;
    }
    return hit;
}

bool x86_code_written(X86Cpu *c, uint64_t gpa, uint64_t len)
{
    bool hit = local_written(c, gpa, len);
    X86Machine *m = c->machine;
    if (m->n_vps > 1) {
        request_from(m, page_coders(m, gpa) | page_coders(m, gpa + len - 1), c, gpa, len);
    }
    return hit;
}

void x86_code_host_wrote(X86Machine *m, uint64_t gpa, uint64_t len)
{
    __atomic_thread_fence(
        __ATOMIC_SEQ_CST); /* what was written is seen before the marks are read */
    uint64_t coders = 0;
    for (uint64_t at = gpa & PTA_PAGE_MASK; at < gpa + len; at += PTA_PAGE_SIZE) {
        coders |= page_coders(m, at);
    }
    request_from(m, coders, NULL, gpa, len);
}

void x86_blocks_attend(X86Cpu *c)
{
    X86BlockCache *bc = c->blocks;
    X86CodeRequest todo[X86_MAX_REQUESTS];
    g_mutex_lock(&bc->lock);
    unsigned n = bc->n_requests;
    bool drop_code = bc->drop_code, drop_write = bc->drop_write, drop_clean = bc->drop_clean;
    uint64_t asked = bc->asked;
    memcpy(todo, bc->requests, n * sizeof(todo[0]));
    bc->n_requests = 0;
    bc->drop_code = bc->drop_write = bc->drop_clean = false;
    g_mutex_unlock(&bc->lock);
    for (unsigned i = 0; i < n && !drop_code; i++) {
        if (todo[i].len == 0) {
            x86_tlb_protect(c, todo[i].gpa);
        } else {
            local_written(c, todo[i].gpa, todo[i].len);
        }
    }
    if (drop_code) {
        x86_blocks_flush(c);
    }
    if (drop_code || drop_write) {
        x86_tlb_flush(c, true);
    }
    if (drop_clean) {
        x86_tlb_drop_clean(c);
    }
    __atomic_store_n(&bc->done, asked, __ATOMIC_SEQ_CST);
    x86_tell_waiters(c->machine);
}

/* ---- decoding ---- */

typedef struct Builder {
    X86Cpu *c;
    X86Block *b;
    uint64_t lin; /* of the block */
    unsigned off; /* next instruction, in its page */
    uint32_t mode;
    const uint8_t *page; /* host address of the page, or NULL: nothing there, reads as FF */
    X86Decoded info[X86_BLOCK_MAX];
} Builder;

static const uint8_t *code_page(X86Cpu *c, uint64_t gpa)
{
    const X86Slot *s = x86_slot(c->machine, gpa);
    return s && (s->flags & PTA_MAP_EXEC) ? s->host + ((gpa & PTA_PAGE_MASK) - s->gpa) : NULL;
}

/* Linear -> guest-physical for execution, through the fetch TLB. */
static uint64_t fetch_gpa(X86Cpu *c, uint64_t lin)
{
    X86TlbEntry *e = &c->fetch_tlb->fetch[lin >> PTA_PAGE_SHIFT & (X86_TLB_SIZE - 1)];
    if (G_LIKELY(e->page == (lin & PTA_PAGE_MASK))) {
        return lin + e->addend;
    }
    uint64_t gpa;
    const uint8_t *host;
    X86Fault fault;
    if (!x86_fetch_page(c, lin, &gpa, &host, &fault)) {
        x86_raise_fault(c, NULL, &fault);
    }
    return gpa | (lin & PAGE_BITS);
}

/* Guest code that the host or another VP may be writing at this moment: a race of the guest's, which
 * ends in its old or its new instruction, for the writer then drops what was decoded. */
__attribute__((no_sanitize("thread"))) static unsigned fetch_bytes(const uint8_t *page,
                                                                   unsigned off, uint8_t *buf,
                                                                   unsigned max)
{
    unsigned n = MIN(max, (unsigned)PTA_PAGE_SIZE - off);
    if (page) {
        const volatile uint8_t *from = page + off; /* no call of an instrumented memcpy */
        for (unsigned i = 0; i < n; i++) {
            buf[i] = from[i];
        }
    } else {
        memset(buf, 0xff, n);
    }
    return n;
}

/* What stands for an instruction that cannot be executed. */
static void pseudo(X86Insn *in, X86Handler *exec, unsigned off, unsigned n)
{
    *in = (X86Insn){
        .exec = exec,
        .base = X86_R_ZERO,
        .index = X86_R_ZERO,
        .off = (uint16_t)off,
        .n = (uint16_t)n,
    };
}

/* Rows that the mode forbids; NULL if it does not. */
static X86Handler *forbidden(const X86Row *row, uint32_t mode)
{
    if ((row->props & X86_P_PROT) && !(mode & X86_MODE_PROT)) {
        return x86_exec_ud;
    }
    if ((row->props & X86_P_PRIV) && (mode & (X86_MODE_USER | X86_MODE_VM86))) {
        return x86_exec_gp;
    }
    if ((row->props & X86_P_X87) && (mode & X86_MODE_NO_X87)) {
        return x86_exec_fp_gate;
    }
    if ((row->props & (X86_P_MMX | X86_P_SSE)) && (mode & X86_MODE_NO_SSE)) {
        return x86_exec_fp_gate;
    }
    return NULL;
}

static void fix_rip_relative(X86Insn *in)
{
    if (in->base != X86_R_CODE || !(in->ea & X86_EA_MEM)) {
        return;
    }
    int32_t disp;
    if (__builtin_add_overflow(in->disp, (int32_t)in->off, &disp)) {
        in->disp -= in->len;
        in->ea |= X86_EA_RIP;
    } else {
        in->disp = disp;
    }
}

static bool branch_is_near(const Builder *s, const X86Insn *in)
{
    uint64_t to = in->off + in->len + in->imm;
    return to < PTA_PAGE_SIZE && (s->mode & X86_MODE_SIZE) == X86_MODE_64;
}

/* Flags that are overwritten before anybody may see them need not be made: goes backward from
 * "all are live" at the end. */
static void select_handlers(Builder *s)
{
    uint32_t live = X86_STATUS;
    X86Select sel = { .wide = (s->mode & X86_MODE_SIZE) == X86_MODE_64 };
    for (unsigned i = s->b->n; i-- > 0;) {
        X86Insn *in = &s->b->insns[i];
        const X86Decoded *info = &s->info[i];
        const X86Row *row = &x86_rows[in->row];
        sel.flags_dead = info->writes && !(live & info->writes);
        sel.near = branch_is_near(s, in);
        sel.last = i + 1u == s->b->n;
        live = info->may_fault ? X86_STATUS : ((live & ~(uint32_t)info->writes) | info->reads);
        if (in->exec) {
            continue; /* forbidden() */
        }
        X86Handler *exec = (row->props & (X86_P_INT | X86_P_SSE)) ? x86_select(in, &sel) : NULL;
        if (info->branch && sel.wide) {
            in->aux = sel.near ? 0 : (uintptr_t)&x86_no_block;
        }
        in->exec = exec ? exec : row->exec;
    }
}

static void fuse(Builder *s)
{
    for (unsigned i = 0; i + 1u < s->b->n; i++) {
        X86Insn *in = &s->b->insns[i];
        X86Handler *exec = NULL;
        if (in[1].exec != x86_exec_gp && in[1].exec != x86_exec_ud &&
            in[1].exec != x86_exec_break) {
            exec = x86_select_fused(in, branch_is_near(s, &in[1]));
        }
        if (exec) {
            in->exec = exec;
        }
    }
}

/* What a stepper cannot do is named by its bytes. */
static void note_bytes(X86BlockCache *bc, X86DecodeStatus status, const uint8_t *bytes, unsigned n)
{
    if (G_UNLIKELY(status == X86_DECODE_UNKNOWN || status == X86_DECODE_UNKNOWN_VECTOR)) {
        bc->n_bytes = (uint8_t)MIN(n, sizeof(bc->bytes));
        memcpy(bc->bytes, bytes, bc->n_bytes);
    }
}

static X86Handler *undecoded(const X86Cpu *c, X86DecodeStatus status)
{
    bool avx = (c->cr4 & X86_CR4_OSXSAVE) && (c->xcr0 & 6) == 6;
    switch (status) {
    case X86_DECODE_TOO_LONG:
        return x86_exec_gp;
    case X86_DECODE_UNKNOWN:
        return c->machine->stepping ? x86_exec_unknown : x86_exec_ud;
    case X86_DECODE_UNKNOWN_VECTOR:
        return c->machine->stepping && avx ? x86_exec_unknown : x86_exec_ud;
    default:
        return x86_exec_ud;
    }
}

/* Reads an instruction that goes on in the next page; the block is this instruction alone. */
static X86DecodeStatus decode_crossing(Builder *s, X86Insn *in)
{
    X86Cpu *c = s->c;
    uint64_t next = (s->lin & PTA_PAGE_MASK) + PTA_PAGE_SIZE;
    if ((s->mode & X86_MODE_SIZE) != X86_MODE_64) {
        next = (uint32_t)next;
    }
    uint64_t gpa2 = fetch_gpa(c, next);
    s->b->gpa2 = gpa2;
    if (!c->machine->stepping) {
        page_get(c, gpa2);
    }
    uint8_t buf[32];
    unsigned n = fetch_bytes(s->page, s->off, buf, 15);
    n += fetch_bytes(code_page(c, gpa2), 0, buf + n, 15 - n);
    X86DecodeStatus status = x86_decode(&c->blocks->decoder, s->mode, buf, n, in, &s->info[0]);
    note_bytes(c->blocks, status, buf, n);
    return status;
}

static void end_block(Builder *s)
{
    X86Block *b = s->b;
    X86Insn *in = &b->insns[b->n];
    bool wide = (s->mode & X86_MODE_SIZE) == X86_MODE_64;
    bool near = wide && s->off < PTA_PAGE_SIZE;
    pseudo(in,
           near   ? x86_exec_jump_near
           : wide ? x86_exec_jump_far
                  : x86_exec_jump_slow,
           s->off, b->n);
    if (!near) {
        in->aux = (uintptr_t)&x86_no_block;
    }
}

static void build(Builder *s, unsigned max)
{
    X86Block *b = s->b;
    X86Cpu *c = s->c;
    bool wide = (s->mode & X86_MODE_SIZE) == X86_MODE_64;
    bool open = true; /* control may flow to what comes after */
    while (open && b->n < max && s->off < PTA_PAGE_SIZE) {
        X86Insn *in = &b->insns[b->n];
        if (G_UNLIKELY(!(s->mode & X86_MODE_ONE) && x86_debug_break_at(c, s->off))) {
            if (b->n == 0) {
                pseudo(in, x86_exec_break, s->off++, 1);
                in->len = 1;
                s->info[b->n++] = (X86Decoded){ .may_fault = true };
                open = false;
            }
            break;
        }
        uint8_t buf[16];
        unsigned n = fetch_bytes(s->page, s->off, buf, 15);
        X86DecodeStatus status =
            x86_decode(&c->blocks->decoder, s->mode, buf, n, in, &s->info[b->n]);
        if (status == X86_DECODE_MORE && n < 15) {
            if (b->n > 0) {
                break;
            }
            status = decode_crossing(s, in);
            max = 1;
        } else {
            note_bytes(c->blocks, status, buf, n);
        }
        if (status != X86_DECODE_OK) {
            pseudo(in, undecoded(c, status), s->off, b->n + 1u);
            in->len = 1; /* the byte that decides; enough for overlap with stores */
            s->info[b->n] = (X86Decoded){ .may_fault = true };
            b->n++;
            s->off++;
            open = false;
            break;
        }
        const X86Row *row = &x86_rows[in->row];
        in->off = (uint16_t)s->off;
        in->n = ++b->n;
        fix_rip_relative(in);
        in->exec = forbidden(row, s->mode);
        s->off += in->len;
        open = (!in->exec || in->exec == x86_exec_fp_gate) && !(row->props & X86_P_ENDS);
        if (s->info[b->n - 1].branch) {
            open = wide && row->handler == op_jcc;
        }
        c->stats[X86_STAT_DECODED]++;
    }
    b->len = (uint16_t)(s->off - (s->lin & PAGE_BITS));
    b->n_slots = b->n;
    if (open) { /* after the last: a jump to what follows */
        b->n_slots++;
        end_block(s);
    }
    select_handlers(s);
    if (wide && max > 1) {
        fuse(s);
    }
}

/* A stepper's block: of one instruction, in no cache; the next one takes its place. */
static X86Block *block_once(X86Cpu *c, uint64_t lin, uint64_t gpa, uint32_t mode)
{
    X86Block *b = (X86Block *)(void *)c->blocks->arena;
    *b = (X86Block){ .lin = lin, .key = X86_KEY_NONE, .gpa = gpa, .mode = mode };
    Builder s = {
        .c = c,
        .b = b,
        .lin = lin,
        .off = lin & PAGE_BITS,
        .mode = mode,
        .page = code_page(c, gpa),
    };
    build(&s, 1);
    return b;
}

static X86Block *block_new(X86Cpu *c, uint64_t lin, uint64_t gpa, uint32_t mode)
{
    X86BlockCache *bc = c->blocks;
    size_t room = sizeof(X86Block) + (X86_BLOCK_MAX + 1) * sizeof(X86Insn);
    if (bc->arena_used + room > bc->arena_size) {
        x86_blocks_flush(c);
    }
    X86Block *b = (X86Block *)(void *)(bc->arena + bc->arena_used);
    *b = (X86Block){ .lin = lin, .key = X86_KEY_NONE, .gpa = gpa, .mode = mode };
    page_get(c, gpa & PTA_PAGE_MASK); /* before its bytes are read */
    Builder s = {
        .c = c,
        .b = b,
        .lin = lin,
        .off = lin & PAGE_BITS,
        .mode = mode,
        .page = code_page(c, gpa),
    };
    build(&s, mode & X86_MODE_ONE ? 1 : X86_BLOCK_MAX);
    bc->arena_used += (sizeof(X86Block) + b->n_slots * sizeof(X86Insn) + 15) & ~(size_t)15;

    X86Block **head = &bc->hash[block_slot(gpa, mode)];
    b->hash_next = *head;
    *head = b;
    X86CodePage *page = page_get(c, gpa & PTA_PAGE_MASK);
    b->page_next = page->blocks;
    page->blocks = b;
    page->map |= granules(gpa, MIN(gpa + b->len - 1, gpa | PAGE_BITS));
    if (b->gpa2) {
        X86CodePage *second = page_get(c, b->gpa2);
        b->cross_next = second->crosses;
        second->crosses = b;
        second->map |= granules(b->gpa2, b->gpa2 + 15);
    }
    c->stats[X86_STAT_BLOCKS]++;
    return b;
}

/* ---- looking up ---- */

const X86Insn *x86_block_find(X86Cpu *c, uint32_t extra)
{
    X86BlockCache *bc = c->blocks;
    uint64_t lin = c->rip + c->seg_base[PTA_X86_CS];
    bool wide = (c->mode & X86_MODE_SIZE) == X86_MODE_64;
    if (!wide) {
        lin = (uint32_t)lin;
    } else if ((int64_t)(lin << 16) >> 16 != (int64_t)lin) {
        x86_raise_gp(c, NULL, 0);
    }
    uint64_t gpa = fetch_gpa(c, lin);
    uint32_t mode = c->mode | extra;
    X86Block *b = bc->hash[block_slot(gpa, mode)]; /* a stepper's is empty */
    while (b && (b->gpa != gpa || b->mode != mode)) {
        b = b->hash_next;
    }
    if (b && b->gpa2 && fetch_gpa(c, (lin & PTA_PAGE_MASK) + PTA_PAGE_SIZE) != b->gpa2) {
        block_kill(c, b); /* the second page is another one now */
        b = NULL;
    }
    if (!b) {
        b = c->machine->stepping ? block_once(c, lin, gpa, mode) : block_new(c, lin, gpa, mode);
    }
    if (!wide && c->rip + b->len - 1 > c->seg[PTA_X86_CS].limit) {
        /* The limit is not part of the key: one instruction at a time near it. */
        if (b->n > 1) {
            return x86_block_find(c, X86_MODE_ONE);
        }
        x86_raise_gp(c, NULL, 0);
    }
    b->lin = lin;
    c->gpr[X86_R_CODE] = c->rip - (lin & PAGE_BITS);
    if (!b->gpa2 && !extra) {
        b->key = x86_key(c);
        bc->jump[x86_jump_slot(lin)] = b;
    }
    return b->insns;
}
