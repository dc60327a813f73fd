/*
 * The dirty log of the software CPU: a bit for each page that a VP wrote to, exact.
 *
 * While writes are logged, a page has a write entry in a TLB only if its bit is set: the first store
 * after a fetch takes the slow path, writes, and marks; the next one makes the entry. The slow path is
 * also what the rest goes through that writes: LOCK (x86_rmw_done()), page walks (A and D bits).
 *
 * A fetch takes the bits, then sees to it that no VP has a write entry for a page that is clean now,
 * and only then hands them out. Why nothing is lost:
 *   - A slow store writes, then marks. Either the fetch takes the mark, and has acquired the bytes; or
 *     the mark comes later, and stands for the next one.
 *   - A VP stores its new entry, fences, and looks at the bit; the fetch takes the bit and looks at
 *     the entries: at least one of them sees the other. What the fetch finds it asks to be given up,
 *     and waits for the end of the VP's block, or until it is outside (world.c), where it will give
 *     up the entry before it comes back in. So each store by way of an entry is either visible before
 *     the bits are handed out or finds no entry.
 * dirty_start() is a fetch of which all VPs are asked: after it, each has seen that dirty_on is set.
 *
 * Threads: fetch, start, stop: any but a VP's, under dirty_lock. Marks: VP.
 */
#include "config.h"

#include "src/soft/engine.h"
#include "src/soft/soft.h"

void x86_dirty_mark(X86Machine *m, uint64_t gpa)
{
    uint64_t bit = UINT64_C(1) << (gpa >> PTA_PAGE_SHIFT & 63);
    const X86Slot *s = x86_slot(m, gpa);
    if (s) {
        __atomic_fetch_or(x86_dirty_word(s, gpa), bit, __ATOMIC_SEQ_CST);
    }
}

/* All VPs, or those that have a write entry for a clean page, give those entries up. */
static void settle(X86Machine *m, bool all)
{
    uint64_t asked[PTA_MAX_VPS];
    uint64_t wait = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < m->n_vps; i++) {
        if (m->vps[i] && (all || x86_tlb_has_clean(m->vps[i]))) {
            asked[i] = x86_request_clean(m->vps[i]);
            wait |= UINT64_C(1) << i;
        }
    }
    for (; wait; wait &= wait - 1) {
        unsigned i = (unsigned)__builtin_ctzll(wait);
        x86_wait_request_host(m, m->vps[i], asked[i]);
    }
}

/* The bits of word `at` (a multiple of 64 pages) of pages from first to last. */
static uint64_t mask(uint64_t at, uint64_t first, uint64_t last)
{
    uint64_t page = at >> PTA_PAGE_SHIFT;
    uint64_t from = MAX(first >> PTA_PAGE_SHIFT, page), to = MIN(last >> PTA_PAGE_SHIFT, page + 63);
    return UINT64_MAX << (from - page) & UINT64_MAX >> (63 - (to - page));
}

#define WORD_BYTES (64 * PTA_PAGE_SIZE)

/* Bytes first … last of the slot. Takes the bits, into `out`, or (out NULL) hands them to the sink. */
static bool take(X86Machine *m, const X86Slot *s, uint64_t first, uint64_t last, uint64_t *out)
{
    bool any = false;
    for (uint64_t at = first & ~(WORD_BYTES - 1); at <= last; at += WORD_BYTES) {
        uint64_t *word = x86_dirty_word(s, MAX(at, s->gpa));
        uint64_t bits = __atomic_load_n(word, __ATOMIC_SEQ_CST) & mask(at, first, last);
        if (bits) {
            bits &= __atomic_fetch_and(word, ~bits, __ATOMIC_SEQ_CST);
            any = true;
        }
        if (out) {
            *out++ = bits;
        } else if (bits) {
            m->sink(m->sink_opaque, at, bits);
        }
        if (at + WORD_BYTES < at) {
            break;
        }
    }
    return any;
}

static void clear_all(X86Machine *m)
{
    for (unsigned i = 0; i < m->slots->n; i++) {
        const X86Slot *s = &m->slots->slot[i];
        for (size_t w = 0; w < x86_dirty_words(s->gpa, s->size); w++) {
            __atomic_store_n(&s->dirty[w], 0, __ATOMIC_SEQ_CST);
        }
    }
}

void x86_dirty_unmap(X86Machine *m, const X86Slot *s)
{
    if (x86_dirty_on(m)) {
        take(m, s, s->gpa, s->gpa + s->size - 1, NULL);
    }
}

bool x86_dirty_start(PtaBackend *be, PtaDirtySinkFn *sink, void *opaque, GError **error)
{
    (void)error;
    X86Machine *m = (X86Machine *)be;
    g_mutex_lock(&m->dirty_lock);
    g_assert(!m->dirty_on);
    m->sink = sink;
    m->sink_opaque = opaque;
    __atomic_store_n(&m->dirty_on, 1, __ATOMIC_SEQ_CST);
    settle(m, true);
    g_mutex_unlock(&m->dirty_lock);
    return true;
}

void x86_dirty_stop(PtaBackend *be)
{
    X86Machine *m = (X86Machine *)be;
    g_mutex_lock(&m->dirty_lock);
    __atomic_store_n(&m->dirty_on, 0, __ATOMIC_SEQ_CST);
    settle(m, true); /* no VP is in the middle of a store that it marks */
    clear_all(m);
    g_mutex_unlock(&m->dirty_lock);
}

/* What there is of the slot in [gpa, gpa + size). */
static bool overlap(const X86Slot *s, uint64_t gpa, uint64_t size, uint64_t *first, uint64_t *last)
{
    uint64_t end = gpa + (size - 1);
    *first = MAX(gpa, s->gpa);
    *last = MIN(end, s->gpa + s->size - 1);
    return size > 0 && *first <= *last;
}

void x86_dirty_fetch(PtaBackend *be, uint64_t gpa, uint64_t size)
{
    X86Machine *m = (X86Machine *)be;
    uint64_t first, last;
    bool any = false;
    g_mutex_lock(&m->dirty_lock);
    g_autofree uint64_t **taken = g_new0(uint64_t *, m->slots->n + 1);
    for (unsigned i = 0; i < m->slots->n && x86_dirty_on(m); i++) {
        if (overlap(&m->slots->slot[i], gpa, size, &first, &last)) {
            taken[i] = g_new(uint64_t, x86_dirty_words(first, last - first + 1));
            any |= take(m, &m->slots->slot[i], first, last, taken[i]);
        }
    }
    if (any) {
        settle(m, false);
    }
    for (unsigned i = 0; i < m->slots->n; i++) {
        if (taken[i]) {
            overlap(&m->slots->slot[i], gpa, size, &first, &last);
            uint64_t at = first & ~(WORD_BYTES - 1);
            for (size_t w = 0; w < x86_dirty_words(first, last - first + 1) && any; w++) {
                if (taken[i][w]) {
                    m->sink(m->sink_opaque, at + w * WORD_BYTES, taken[i][w]);
                }
            }
            g_free(taken[i]);
        }
    }
    g_mutex_unlock(&m->dirty_lock);
}
