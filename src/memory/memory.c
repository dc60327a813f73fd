/*
 * Guest RAM: pieces of backings, one after another in one span of host addresses. The map is fixed
 * from construction to destruction, so accesses from any thread take no lock.
 */
#include "config.h"

#include "src/memory/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_RANGES 64

typedef struct Ram {
    PtaRamRange range;
    uint8_t *host;
    PtaBacking *backing;
} Ram;

struct PtaMemory {
    Ram ram[MAX_RANGES];        /* CONST, ascending */
    size_t n_ram;               /* CONST */
    uint64_t size;              /* CONST, bytes of all ranges */
    uint8_t *host;              /* CONST, the span, with room for alignment */
    uint64_t span;              /* CONST, its size */
    PtaDirtyLog *dirty;         /* CONST */
    PtaMemoryWriteFn *observer; /* MAIN while no one accesses */
    void *observer_opaque;
};

const char *pta_mem_status_text(PtaMemStatus status)
{
    switch (status) {
    case PTA_MEM_OK:
        return "no error";
    case PTA_MEM_WRAP:
        return "the range passes the end of the address space";
    case PTA_MEM_HOLE:
        return "no RAM there";
    case PTA_MEM_READ_ONLY:
        return "the RAM there is read-only";
    case PTA_MEM_TOO_MANY:
        return "the range is in too many pieces";
    case PTA_MEM_ALIGN:
        return "the address is not aligned";
    }
    return "unknown memory status";
}

static bool ranges_valid(const PtaRamRange *ranges, size_t n, uint64_t *total, GError **error)
{
    if (n == 0 || n > MAX_RANGES) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: %zu RAM ranges, expected 1 to %d", n, MAX_RANGES);
    }
    uint64_t sum = 0, floor = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t gpa = ranges[i].gpa, size = ranges[i].size;
        if (size == 0 || (gpa | size) % PTA_PAGE_SIZE != 0 || gpa + size < gpa) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "memory: RAM range at 0x%" PRIx64 " of 0x%" PRIx64
                             " bytes is empty, not page-aligned or passes the end",
                             gpa, size);
        }
        if (gpa < floor) {
            return pta_throw(
                error, PTA_ERROR_BAD_DESCRIPTION,
                "memory: RAM range at 0x%" PRIx64 " overlaps or precedes the one before", gpa);
        }
        floor = gpa + size;
        sum += size;
    }
    if (sum > SIZE_MAX / 2) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "memory: ram size %" PRIu64 " is too large", sum);
    }
    *total = sum;
    return true;
}

static PtaDirtyLog *new_dirty_log(const PtaRamRange *ranges, size_t n)
{
    PtaDirtySpan spans[MAX_RANGES];
    for (size_t i = 0; i < n; i++) {
        spans[i] = (PtaDirtySpan){ ranges[i].gpa, ranges[i].size };
    }
    return pta_dirty_log_new(spans, n);
}

PtaMemory *pta_memory_new(const PtaRamRange *ranges, size_t n, GError **error)
{
    uint64_t size = 0;
    if (!ranges_valid(ranges, n, &size, error)) {
        return NULL;
    }
    g_autoptr(PtaBacking) backing =
        pta_backing_new(&(PtaBackingParams){ .name = "guest-ram", .size = size }, error);
    if (!backing) {
        return NULL;
    }
    PtaRamPart parts[MAX_RANGES];
    uint64_t offset = 0;
    for (size_t i = 0; i < n; offset += ranges[i++].size) {
        parts[i] = (PtaRamPart){ ranges[i], backing, offset };
    }
    return pta_memory_new_parts(parts, n, error);
}

/* The first address from `at` on that is congruent with the offset of what is mapped there. */
static uintptr_t place(uintptr_t at, const PtaRamPart *part)
{
    uint64_t align = pta_backing_alignment(part->backing);
    return at + ((part->offset - at) & (align - 1));
}

/* A reservation, the parts in it in their order: those that follow one another in their backing do
 * so here as well. */
static bool map_parts(PtaMemory *mem, const PtaRamPart *parts, size_t n, GError **error)
{
    for (size_t i = 0; i < n; i++) {
        mem->span += parts[i].range.size + pta_backing_alignment(parts[i].backing);
    }
    void *span =
        mmap(NULL, mem->span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (span == MAP_FAILED) {
        return pta_throw_errno(error, errno, "memory: failed to map %" PRIu64 " bytes", mem->span);
    }
    mem->host = span;
    uintptr_t at = (uintptr_t)span;
    for (size_t i = 0; i < n; i++) {
        at = place(at, &parts[i]);
        mem->ram[i] = (Ram){ .range = parts[i].range,
                             .host = (uint8_t *)at,
                             .backing = pta_backing_ref(parts[i].backing) };
        mem->n_ram = i + 1;
        if (!pta_backing_map(parts[i].backing, parts[i].offset, parts[i].range.size, (void *)at,
                             true, error)) {
            return false;
        }
        at += parts[i].range.size;
    }
    return true;
}

PtaMemory *pta_memory_new_parts(const PtaRamPart *parts, size_t n, GError **error)
{
    PtaRamRange ranges[MAX_RANGES];
    for (size_t i = 0; i < MIN(n, MAX_RANGES); i++) {
        ranges[i] = parts[i].range;
    }
    uint64_t size = 0;
    if (!ranges_valid(ranges, n, &size, error)) {
        return NULL;
    }
    g_autoptr(PtaMemory) mem = g_new0(PtaMemory, 1);
    mem->size = size;
    if (!map_parts(mem, parts, n, error)) {
        return NULL;
    }
    mem->dirty = new_dirty_log(ranges, n);
    return g_steal_pointer(&mem);
}

void pta_memory_free(PtaMemory *mem)
{
    if (!mem) {
        return;
    }
    if (mem->host) {
        munmap(mem->host, mem->span);
    }
    for (size_t i = 0; i < mem->n_ram; i++) {
        pta_backing_unref(mem->ram[i].backing);
    }
    pta_dirty_log_free(mem->dirty);
    g_free(mem);
}

uint64_t pta_memory_ram_size(const PtaMemory *mem)
{
    return mem->size;
}

size_t pta_memory_n_ranges(const PtaMemory *mem)
{
    return mem->n_ram;
}

PtaRamRange pta_memory_range(const PtaMemory *mem, size_t i)
{
    g_assert(i < mem->n_ram);
    return mem->ram[i].range;
}

void *pta_memory_range_host(const PtaMemory *mem, size_t i)
{
    g_assert(i < mem->n_ram);
    return mem->ram[i].host;
}

/* The range that holds gpa, or NULL. Few ranges: a scan beats a tree. */
static const Ram *ram_at(const PtaMemory *mem, uint64_t gpa)
{
    for (size_t i = 0; i < mem->n_ram; i++) {
        if (gpa - mem->ram[i].range.gpa < mem->ram[i].range.size) {
            return &mem->ram[i];
        }
    }
    return NULL;
}

/* The host address of gpa and, in *n, how many of `len` bytes follow it in the same range. */
static uint8_t *piece(const PtaMemory *mem, uint64_t gpa, uint64_t len, size_t *n)
{
    const Ram *ram = ram_at(mem, gpa);
    if (!ram) {
        return NULL;
    }
    uint64_t offset = gpa - ram->range.gpa;
    *n = (size_t)MIN(len, ram->range.size - offset);
    return ram->host + offset;
}

static PtaMemStatus check(const PtaMemory *mem, uint64_t gpa, uint64_t len)
{
    if (gpa + len < gpa && gpa + len != 0) {
        return PTA_MEM_WRAP;
    }
    while (len > 0) {
        size_t n;
        if (!piece(mem, gpa, len, &n)) {
            return PTA_MEM_HOLE;
        }
        gpa += n;
        len -= n;
    }
    return PTA_MEM_OK;
}

PtaMemStatus pta_memory_read(const PtaMemory *mem, uint64_t gpa, void *buf, size_t len)
{
    size_t n = 0;
    const uint8_t *host = piece(mem, gpa, len, &n);
    if (G_LIKELY(host && n == len)) {
        memcpy(buf, host, len);
        return PTA_MEM_OK;
    }
    PtaMemStatus status = check(mem, gpa, len);
    if (status != PTA_MEM_OK) {
        return status;
    }
    for (uint8_t *p = buf; len > 0; p += n, gpa += n, len -= n) {
        host = piece(mem, gpa, len, &n);
        memcpy(p, host, n);
    }
    return PTA_MEM_OK;
}

PtaMemStatus pta_memory_write(PtaMemory *mem, uint64_t gpa, const void *buf, size_t len)
{
    PtaMemStatus status = check(mem, gpa, len);
    if (status != PTA_MEM_OK) {
        return status;
    }
    size_t n = 0, left = len;
    uint64_t at = gpa;
    for (const uint8_t *p = buf; left > 0; p += n, at += n, left -= n) {
        uint8_t *host = piece(mem, at, left, &n);
        memcpy(host, p, n);
    }
    pta_memory_mark_dirty(mem, gpa, len);
    return PTA_MEM_OK;
}

PtaMemStatus pta_memory_fill(PtaMemory *mem, uint64_t gpa, uint8_t byte, size_t len)
{
    PtaMemStatus status = check(mem, gpa, len);
    if (status != PTA_MEM_OK) {
        return status;
    }
    size_t n = 0, left = len;
    for (uint64_t at = gpa; left > 0; at += n, left -= n) {
        uint8_t *host = piece(mem, at, left, &n);
        memset(host, byte, n);
    }
    pta_memory_mark_dirty(mem, gpa, len);
    return PTA_MEM_OK;
}

/* A naturally aligned word never crosses a range: ranges are whole pages. */
static void *word(const PtaMemory *mem, uint64_t gpa, size_t size, PtaMemStatus *status)
{
    if (gpa % size != 0) {
        *status = PTA_MEM_ALIGN;
        return NULL;
    }
    size_t n;
    void *host = piece(mem, gpa, size, &n);
    *status = host ? PTA_MEM_OK : PTA_MEM_HOLE;
    return host;
}

#define DEFINE_WORD(bits)                                                                     \
    PtaMemStatus pta_memory_load_u##bits(const PtaMemory *mem, uint64_t gpa,                  \
                                         uint##bits##_t *value)                               \
    {                                                                                         \
        PtaMemStatus status;                                                                  \
        const uint##bits##_t *host = word(mem, gpa, sizeof(*host), &status);                  \
        if (host) {                                                                           \
            *value = GUINT##bits##_FROM_LE(__atomic_load_n(host, __ATOMIC_ACQUIRE));          \
        }                                                                                     \
        return status;                                                                        \
    }                                                                                         \
    PtaMemStatus pta_memory_store_u##bits(PtaMemory *mem, uint64_t gpa, uint##bits##_t value) \
    {                                                                                         \
        PtaMemStatus status;                                                                  \
        uint##bits##_t *host = word(mem, gpa, sizeof(*host), &status);                        \
        if (host) {                                                                           \
            __atomic_store_n(host, GUINT##bits##_TO_LE(value), __ATOMIC_RELEASE);             \
            pta_memory_mark_dirty(mem, gpa, sizeof(value));                                   \
        }                                                                                     \
        return status;                                                                        \
    }
DEFINE_WORD(16)
DEFINE_WORD(32)
DEFINE_WORD(64)

PtaMemStatus pta_memory_map(PtaMemory *mem, uint64_t gpa, size_t len, bool write, struct iovec *iov,
                            unsigned *n)
{
    unsigned room = *n, used = 0;
    *n = 0;
    if (gpa + len < gpa && gpa + len != 0) {
        return PTA_MEM_WRAP;
    }
    while (len > 0) {
        size_t got;
        uint8_t *host = piece(mem, gpa, len, &got);
        if (!host) {
            return PTA_MEM_HOLE;
        }
        if (used == room) {
            return PTA_MEM_TOO_MANY;
        }
        iov[used++] = (struct iovec){ .iov_base = host, .iov_len = got };
        gpa += got;
        len -= got;
    }
    *n = used;
    return PTA_MEM_OK;
}

void pta_memory_mark_dirty(PtaMemory *mem, uint64_t gpa, uint64_t len)
{
    pta_dirty_log_mark(mem->dirty, gpa, len);
    if (mem->observer && len > 0) {
        mem->observer(mem->observer_opaque, gpa, len);
    }
}

PtaDirtyLog *pta_memory_dirty_log(PtaMemory *mem)
{
    return mem->dirty;
}

void pta_memory_set_write_observer(PtaMemory *mem, PtaMemoryWriteFn *fn, void *opaque)
{
    pta_assert_main();
    g_assert(!fn || !mem->observer);
    mem->observer = fn;
    mem->observer_opaque = opaque;
}
