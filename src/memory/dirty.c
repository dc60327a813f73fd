/*
 * The dirty log: a bitmap for each client, a bit a page, and above it one bit for each granule of
 * 2 MiB.
 *
 * Why nothing is lost. Who writes: W writes the bytes, P sets the page's bit, G looks at the
 * granule's bit and sets it if it is clear. Who takes: g clears the granule's bit, p takes and clears
 * the page's bits, R reads the bytes. P, G, g and p are sequentially consistent, so they are in one
 * order.
 *   - P before p: p takes the bit, and has acquired what P released, W: R sees the bytes.
 *   - p before P: the bit stands after the take, for the next one, if the granule's bit does, too: G
 *     comes after P, hence after p, hence after g; if it finds the granule's bit set, that was set
 *     after g cleared it, and is set still.
 * The take may have found a granule's bit that was set before a page bit of the other order; it then
 * finds no page, and that is all.
 *
 * Why the first mark is not lost: writers look at `on` with a plain load, which the host's CPU may do
 * before their bytes are visible. A client that comes sets its bit and then has every thread of the
 * process pass a barrier (membarrier(2)): who looked too early has by then made his bytes visible, to
 * a client that reads all memory once it has come. Where the host has no such call, `on` is never 0
 * and writers fence.
 *
 * Sources are fetched under the lock, and what they give goes to all clients before it is let go: so
 * no client's take can miss what another's has on its way.
 *
 * The bitmaps of a client that has gone stay until the log is freed: a writer may be on its way there.
 */
#include "config.h"

#include "src/memory/dirty.h"

#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_SOURCES 4
#define EVERYTHING  (UINT64_MAX & PTA_PAGE_MASK) /* of the size of all pages but one, never RAM */
#define NO_BARRIER  (1u << 31)                   /* in `on`: writers fence */

G_STATIC_ASSERT(PTA_DIRTY_WORDS == 8);

/* Granules with RAM in them, without a gap. */
typedef struct Span {
    uint64_t gpa;
    uint64_t last; /* byte */
    size_t first;  /* number of its first granule in the bitmaps */
} Span;

typedef struct Source {
    const PtaDirtySource *ops; /* NULL: free */
    void *opaque;
} Source;

typedef struct Log Log;

struct PtaDirtyClient {
    Log *log;
    bool used;      /* LOCKED(lock) */
    char name[32];  /* LOCKED(lock) */
    uint64_t *bits; /* ATOMIC words; the pointer: set before the client's bit in `on`, for good */
    uint64_t *granules;
    uint64_t takes, taken; /* ATOMIC; who takes writes */
};

struct Log {
    PtaDirtyLog log; /* base */
    Span *spans;     /* CONST */
    size_t n_spans;
    size_t n_granules;
    bool barrier; /* CONST: membarrier() works */
    GMutex lock;
    Source sources[MAX_SOURCES]; /* LOCKED(lock) */
    PtaDirtyClient clients[PTA_DIRTY_MAX_CLIENTS];
};

static Log *log_of(PtaDirtyLog *log)
{
    return (Log *)log;
}

static bool membarrier(int cmd)
{
    return syscall(__NR_membarrier, cmd, 0, 0) == 0;
}

/* ---- life ---- */

PtaDirtyLog *pta_dirty_log_new(const PtaDirtySpan *spans, size_t n)
{
    Log *l = g_new0(Log, 1);
    g_mutex_init(&l->lock);
    l->spans = g_new0(Span, n);
    for (size_t i = 0; i < n; i++) {
        g_assert(spans[i].size != 0 && (spans[i].gpa | spans[i].size) % PTA_PAGE_SIZE == 0);
        uint64_t gpa = spans[i].gpa & ~(PTA_DIRTY_GRANULE - 1);
        uint64_t last = (spans[i].gpa + (spans[i].size - 1)) | (PTA_DIRTY_GRANULE - 1);
        Span *s = l->n_spans > 0 ? &l->spans[l->n_spans - 1] : NULL;
        if (!s || gpa > s->last + 1) {
            s = &l->spans[l->n_spans++];
            *s = (Span){ .gpa = gpa, .last = gpa - 1, .first = l->n_granules };
        }
        l->n_granules += (last - s->last) / PTA_DIRTY_GRANULE;
        s->last = last;
    }
    for (unsigned i = 0; i < PTA_DIRTY_MAX_CLIENTS; i++) {
        l->clients[i].log = l;
    }
    l->barrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    l->log.on = l->barrier ? 0 : NO_BARRIER;
    return &l->log;
}

void pta_dirty_log_free(PtaDirtyLog *log)
{
    if (!log) {
        return;
    }
    Log *l = log_of(log);
    g_assert((log->on & ~NO_BARRIER) == 0);
    for (unsigned i = 0; i < MAX_SOURCES; i++) {
        g_assert(!l->sources[i].ops);
    }
    for (unsigned i = 0; i < PTA_DIRTY_MAX_CLIENTS; i++) {
        g_free(l->clients[i].bits);
        g_free(l->clients[i].granules);
    }
    g_mutex_clear(&l->lock);
    g_free(l->spans);
    g_free(l);
}

/* ---- marks ---- */

static uint32_t clients_on(const Log *l)
{
    return __atomic_load_n(&l->log.on, __ATOMIC_SEQ_CST) & ~NO_BARRIER;
}

/* P and G of the comment above. */
static void set_bits(PtaDirtyClient *c, size_t granule, unsigned word, uint64_t bits)
{
    __atomic_fetch_or(&c->bits[granule * PTA_DIRTY_WORDS + word], bits, __ATOMIC_SEQ_CST);
    uint64_t *summary = &c->granules[granule / 64], bit = UINT64_C(1) << (granule % 64);
    if (!(__atomic_load_n(summary, __ATOMIC_SEQ_CST) & bit)) {
        __atomic_fetch_or(summary, bit, __ATOMIC_SEQ_CST);
    }
}

/* gpa is a multiple of 64 pages. */
static void set_word(Log *l, const Span *s, uint64_t gpa, uint64_t bits)
{
    size_t granule = s->first + (gpa - s->gpa) / PTA_DIRTY_GRANULE;
    unsigned word = (unsigned)(gpa / PTA_PAGE_SIZE / 64 % PTA_DIRTY_WORDS);
    for (uint32_t on = clients_on(l); on; on &= on - 1) {
        set_bits(&l->clients[__builtin_ctz(on)], granule, word, bits);
    }
}

/* Bits of the pages first … last of a word. */
static uint64_t word_mask(uint64_t first, uint64_t last)
{
    return UINT64_MAX << (first % 64) & UINT64_MAX >> (63 - last % 64);
}

void pta_dirty_log_mark_slow(PtaDirtyLog *log, uint64_t gpa, uint64_t len)
{
    Log *l = log_of(log);
    if (!l->barrier) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    if (len == 0 || clients_on(l) == 0) {
        return;
    }
    uint64_t end = gpa + (len - 1) < gpa ? UINT64_MAX : gpa + (len - 1);
    for (size_t i = 0; i < l->n_spans; i++) {
        const Span *s = &l->spans[i];
        if (end < s->gpa || gpa > s->last) {
            continue;
        }
        uint64_t page = MAX(gpa, s->gpa) / PTA_PAGE_SIZE, last = MIN(end, s->last) / PTA_PAGE_SIZE;
        for (; page <= last; page = (page | 63) + 1) {
            set_word(l, s, (page & ~UINT64_C(63)) * PTA_PAGE_SIZE,
                     word_mask(page, MIN(last, page | 63)));
        }
    }
}

static const Span *span_at(const Log *l, uint64_t gpa)
{
    for (size_t i = 0; i < l->n_spans; i++) {
        if (gpa >= l->spans[i].gpa && gpa <= l->spans[i].last) {
            return &l->spans[i];
        }
    }
    return NULL;
}

void pta_dirty_log_sink(void *log, uint64_t gpa, uint64_t bits)
{
    Log *l = log;
    const Span *s = span_at(l, gpa);
    if (s && bits) {
        set_word(l, s, gpa, bits);
    }
}

/* ---- sources ---- */

bool pta_dirty_log_add_source(PtaDirtyLog *log, const PtaDirtySource *source, void *opaque,
                              GError **error)
{
    Log *l = log_of(log);
    bool ok = false;
    g_mutex_lock(&l->lock);
    unsigned i = 0;
    while (i < MAX_SOURCES && l->sources[i].ops) {
        i++;
    }
    if (i == MAX_SOURCES) {
        pta_throw(error, PTA_ERROR_BAD_STATE, "memory: more than %d partitions", MAX_SOURCES);
    } else if (clients_on(l) == 0 || source->start(opaque, error)) {
        l->sources[i] = (Source){ source, opaque };
        ok = true;
    }
    g_mutex_unlock(&l->lock);
    return ok;
}

void pta_dirty_log_remove_source(PtaDirtyLog *log, void *opaque)
{
    Log *l = log_of(log);
    g_mutex_lock(&l->lock);
    for (unsigned i = 0; i < MAX_SOURCES; i++) {
        Source *s = &l->sources[i];
        if (s->ops && s->opaque == opaque) {
            if (clients_on(l) != 0) {
                s->ops->fetch(opaque, 0, EVERYTHING);
                s->ops->stop(opaque);
            }
            *s = (Source){ 0 };
        }
    }
    g_mutex_unlock(&l->lock);
}

static void fetch_locked(Log *l, uint64_t gpa, uint64_t size)
{
    for (unsigned i = 0; i < MAX_SOURCES; i++) {
        if (l->sources[i].ops) {
            l->sources[i].ops->fetch(l->sources[i].opaque, gpa, size);
        }
    }
}

static void stop_locked(Log *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (l->sources[i].ops) {
            l->sources[i].ops->stop(l->sources[i].opaque);
        }
    }
}

static bool start_locked(Log *l, GError **error)
{
    for (unsigned i = 0; i < MAX_SOURCES; i++) {
        if (l->sources[i].ops && !l->sources[i].ops->start(l->sources[i].opaque, error)) {
            stop_locked(l, i);
            return false;
        }
    }
    return true;
}

/* ---- clients ---- */

static PtaDirtyClient *new_locked(Log *l, const char *name, GError **error)
{
    unsigned i = 0;
    while (i < PTA_DIRTY_MAX_CLIENTS && l->clients[i].used) {
        i++;
    }
    if (i == PTA_DIRTY_MAX_CLIENTS) {
        pta_throw(error, PTA_ERROR_BAD_STATE, "memory: more than %d clients of the dirty log",
                  PTA_DIRTY_MAX_CLIENTS);
        return NULL;
    }
    PtaDirtyClient *c = &l->clients[i];
    size_t words = l->n_granules * PTA_DIRTY_WORDS, summary = (l->n_granules + 63) / 64;
    if (!c->bits) {
        c->bits = g_new0(uint64_t, words);
        c->granules = g_new0(uint64_t, summary);
    }
    if (clients_on(l) != 0) {
        fetch_locked(l, 0, EVERYTHING); /* the others' */
    }
    for (size_t w = 0; w < words; w++) { /* of the one who was here before */
        __atomic_store_n(&c->bits[w], 0, __ATOMIC_RELAXED);
    }
    for (size_t w = 0; w < summary; w++) {
        __atomic_store_n(&c->granules[w], 0, __ATOMIC_RELAXED);
    }
    bool first = clients_on(l) == 0;
    __atomic_fetch_or(&l->log.on, 1u << i, __ATOMIC_SEQ_CST);
    if (first && !start_locked(l, error)) {
        __atomic_fetch_and(&l->log.on, ~(1u << i), __ATOMIC_SEQ_CST);
        return NULL;
    }
    if (l->barrier) {
        membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    }
    c->used = true;
    g_strlcpy(c->name, name, sizeof(c->name));
    __atomic_store_n(&c->takes, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&c->taken, 0, __ATOMIC_RELAXED);
    return c;
}

PtaDirtyClient *pta_dirty_client_new(PtaDirtyLog *log, const char *name, GError **error)
{
    Log *l = log_of(log);
    g_mutex_lock(&l->lock);
    PtaDirtyClient *c = new_locked(l, name, error);
    g_mutex_unlock(&l->lock);
    return c;
}

void pta_dirty_client_free(PtaDirtyClient *c)
{
    if (!c) {
        return;
    }
    Log *l = c->log;
    g_mutex_lock(&l->lock);
    uint32_t bit = 1u << (c - l->clients);
    __atomic_fetch_and(&l->log.on, ~bit, __ATOMIC_SEQ_CST);
    c->used = false;
    if (clients_on(l) == 0) {
        stop_locked(l, MAX_SOURCES);
    }
    g_mutex_unlock(&l->lock);
}

static void fetch(Log *l, uint64_t gpa, uint64_t size)
{
    g_mutex_lock(&l->lock);
    fetch_locked(l, gpa, size);
    g_mutex_unlock(&l->lock);
}

/* Takes the pages first … last of a granule that begins at page `begin`; g and p of the comment
 * above. */
static unsigned take_granule(PtaDirtyClient *c, size_t granule, uint64_t begin, uint64_t first,
                             uint64_t last, uint64_t out[PTA_DIRTY_WORDS])
{
    uint64_t *summary = &c->granules[granule / 64], bit = UINT64_C(1) << (granule % 64);
    if (!(__atomic_load_n(summary, __ATOMIC_SEQ_CST) & bit)) {
        return 0;
    }
    __atomic_fetch_and(summary, ~bit, __ATOMIC_SEQ_CST);
    unsigned n = 0;
    bool left = false;
    for (unsigned w = 0; w < PTA_DIRTY_WORDS; w++) {
        uint64_t *word = &c->bits[granule * PTA_DIRTY_WORDS + w];
        uint64_t from = MAX(first, begin + w * 64), to = MIN(last, begin + w * 64 + 63);
        uint64_t mask = from <= to ? word_mask(from, to) : 0;
        uint64_t old = __atomic_load_n(word, __ATOMIC_SEQ_CST);
        if (old & mask) {
            old = __atomic_fetch_and(word, ~mask, __ATOMIC_SEQ_CST);
        }
        out[w] = old & mask;
        n += (unsigned)__builtin_popcountll(out[w]);
        left |= (old & ~mask) != 0;
    }
    if (left) {
        __atomic_fetch_or(summary, bit, __ATOMIC_SEQ_CST);
    }
    return n;
}

uint64_t pta_dirty_client_take(PtaDirtyClient *c, uint64_t gpa, uint64_t size,
                               PtaDirtyGranuleFn *fn, void *opaque)
{
    Log *l = c->log;
    uint64_t total = 0;
    if (size == 0) {
        return 0;
    }
    g_assert((gpa | size) % PTA_PAGE_SIZE == 0);
    fetch(l, gpa, size);
    uint64_t end = gpa + (size - 1);
    for (size_t i = 0; i < l->n_spans; i++) {
        const Span *s = &l->spans[i];
        if (end < s->gpa || gpa > s->last) {
            continue;
        }
        uint64_t from = MAX(gpa, s->gpa), to = MIN(end, s->last);
        for (size_t k = (from - s->gpa) / PTA_DIRTY_GRANULE; k <= (to - s->gpa) / PTA_DIRTY_GRANULE;
             k++) {
            uint64_t at = s->gpa + k * PTA_DIRTY_GRANULE;
            uint64_t bits[PTA_DIRTY_WORDS];
            unsigned n = take_granule(c, s->first + k, at / PTA_PAGE_SIZE, from / PTA_PAGE_SIZE,
                                      to / PTA_PAGE_SIZE, bits);
            total += n;
            if (n > 0 && fn) {
                fn(opaque, at, bits);
            }
        }
    }
    __atomic_fetch_add(&c->takes, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->taken, total, __ATOMIC_RELAXED);
    return total;
}

void pta_dirty_client_give_back(PtaDirtyClient *c, uint64_t gpa,
                                const uint64_t bits[PTA_DIRTY_WORDS])
{
    const Span *s = span_at(c->log, gpa);
    for (unsigned w = 0; s && w < PTA_DIRTY_WORDS; w++) {
        if (bits[w]) {
            set_bits(c, s->first + (gpa - s->gpa) / PTA_DIRTY_GRANULE, w, bits[w]);
        }
    }
}

uint64_t pta_dirty_client_count(PtaDirtyClient *c)
{
    Log *l = c->log;
    fetch(l, 0, EVERYTHING);
    uint64_t n = 0;
    for (size_t w = 0; w < l->n_granules * PTA_DIRTY_WORDS; w++) {
        n += (uint64_t)__builtin_popcountll(__atomic_load_n(&c->bits[w], __ATOMIC_RELAXED));
    }
    return n;
}

bool pta_dirty_log_info(PtaDirtyLog *log, unsigned i, PtaDirtyInfo *info)
{
    Log *l = log_of(log);
    g_mutex_lock(&l->lock);
    bool used = i < PTA_DIRTY_MAX_CLIENTS && l->clients[i].used;
    if (used) {
        const PtaDirtyClient *c = &l->clients[i];
        g_strlcpy(info->name, c->name, sizeof(info->name));
        info->takes = __atomic_load_n(&c->takes, __ATOMIC_RELAXED);
        info->taken = __atomic_load_n(&c->taken, __ATOMIC_RELAXED);
    }
    g_mutex_unlock(&l->lock);
    return used;
}
