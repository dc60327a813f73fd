/*
 * Accesses of host code to guest memory, in the view that is published: no lock, one look-up, and what
 * is copied lies in one span but in rare cases.
 */
#include "config.h"

#include "src/memory/memory-private.h"

#include <string.h>

#include "src/util/reader.h"

const char *pta_mem_status_text(PtaMemStatus status)
{
    switch (status) {
    case PTA_MEM_OK:
        return "no error";
    case PTA_MEM_WRAP:
        return "the range passes the end of the address space";
    case PTA_MEM_HOLE:
        return "nothing is there";
    case PTA_MEM_MMIO:
        return "a device is there";
    case PTA_MEM_READ_ONLY:
        return "the memory there is read-only";
    case PTA_MEM_TOO_MANY:
        return "the range is in too many pieces";
    case PTA_MEM_ALIGN:
        return "the address is not aligned";
    }
    return "unknown memory status";
}

/* ---- look-ups, within a section of a reader ---- */

static const PtaView *view_of(const PtaMemory *mem)
{
    return __atomic_load_n(&mem->view, __ATOMIC_ACQUIRE);
}

/* The host address of gpa and, in *n, how many of `len` bytes follow it in the same span. */
static uint8_t *span_host(const PtaViewSpan *span, uint64_t gpa, uint64_t len, size_t *n)
{
    uint64_t offset = gpa - span->gpa;
    *n = (size_t)MIN(len, span->size - offset);
    return span->host + offset;
}

/* What is where no memory is. */
static PtaMemStatus astray(const PtaMemory *mem, uint64_t gpa)
{
    for (size_t i = 0; i < mem->n_mmio; i++) {
        if (gpa - mem->mmio[i].gpa < mem->mmio[i].size) {
            return PTA_MEM_MMIO;
        }
    }
    return PTA_MEM_HOLE;
}

static bool wraps(uint64_t gpa, uint64_t len)
{
    return gpa + len < gpa && gpa + len != 0;
}

static PtaMemStatus check(const PtaMemory *mem, const PtaView *view, uint64_t gpa, uint64_t len,
                          bool write)
{
    if (wraps(gpa, len)) {
        return PTA_MEM_WRAP;
    }
    while (len > 0) {
        const PtaViewSpan *span = pta_view_span(view, gpa);
        if (!span) {
            return astray(mem, gpa);
        }
        if (write && !span->writable) {
            return PTA_MEM_READ_ONLY;
        }
        size_t n;
        span_host(span, gpa, len, &n);
        gpa += n;
        len -= n;
    }
    return PTA_MEM_OK;
}

/* All of it in one span: the host address, or NULL. */
static uint8_t *at_once(const PtaView *view, uint64_t gpa, uint64_t len, bool write)
{
    const PtaViewSpan *span = pta_view_span(view, gpa);
    return G_LIKELY(span && len <= span->size - (gpa - span->gpa) && (!write || span->writable))
               ? span->host + (gpa - span->gpa)
               : NULL;
}

/* ---- copies ---- */

PtaMemStatus pta_memory_read(const PtaMemory *mem, uint64_t gpa, void *buf, size_t len)
{
    PtaReadSection section = pta_read_begin();
    const PtaView *view = view_of(mem);
    PtaMemStatus status = PTA_MEM_OK;
    const uint8_t *host = at_once(view, gpa, len, false);
    if (G_LIKELY(host)) {
        memcpy(buf, host, len);
    } else if ((status = check(mem, view, gpa, len, false)) == PTA_MEM_OK) {
        size_t n;
        for (uint8_t *p = buf; len > 0; p += n, gpa += n, len -= n) {
            host = span_host(pta_view_span(view, gpa), gpa, len, &n);
            memcpy(p, host, n);
        }
    }
    pta_read_end(section);
    return status;
}

/* Within a section. `from` or, if that is NULL, `byte` all over. */
static PtaMemStatus put(PtaMemory *mem, uint64_t gpa, const uint8_t *from, uint8_t byte, size_t len)
{
    const PtaView *view = view_of(mem);
    PtaMemStatus status = check(mem, view, gpa, len, true);
    if (status != PTA_MEM_OK) {
        return status;
    }
    for (size_t n, done = 0; done < len; done += n) {
        uint8_t *host = span_host(pta_view_span(view, gpa + done), gpa + done, len - done, &n);
        if (from) {
            memcpy(host, from + done, n);
        } else {
            memset(host, byte, n);
        }
    }
    return PTA_MEM_OK;
}

PtaMemStatus pta_memory_write(PtaMemory *mem, uint64_t gpa, const void *buf, size_t len)
{
    PtaReadSection section = pta_read_begin();
    PtaMemStatus status = PTA_MEM_OK;
    uint8_t *host = at_once(view_of(mem), gpa, len, true);
    if (G_LIKELY(host)) {
        memcpy(host, buf, len);
    } else if (len > 0) {
        status = put(mem, gpa, buf, 0, len);
    }
    pta_read_end(section);
    if (status == PTA_MEM_OK) {
        pta_memory_mark_dirty(mem, gpa, len);
    }
    return status;
}

PtaMemStatus pta_memory_fill(PtaMemory *mem, uint64_t gpa, uint8_t byte, size_t len)
{
    PtaReadSection section = pta_read_begin();
    PtaMemStatus status = put(mem, gpa, NULL, byte, len);
    pta_read_end(section);
    if (status == PTA_MEM_OK) {
        pta_memory_mark_dirty(mem, gpa, len);
    }
    return status;
}

/* ---- words ---- */

/* A naturally aligned word never crosses a span: spans are whole pages. */
static inline void *word(const PtaMemory *mem, uint64_t gpa, size_t size, bool write,
                         PtaMemStatus *status)
{
    if ((gpa & (size - 1)) != 0) {
        *status = PTA_MEM_ALIGN;
        return NULL;
    }
    const PtaViewSpan *span = pta_view_span(view_of(mem), gpa);
    if (G_LIKELY(span && (!write || span->writable))) {
        *status = PTA_MEM_OK;
        return span->host + (gpa - span->gpa);
    }
    *status = span ? PTA_MEM_READ_ONLY : astray(mem, gpa);
    return NULL;
}

#define DEFINE_WORD(bits)                                                                     \
    PtaMemStatus pta_memory_load_u##bits(const PtaMemory *mem, uint64_t gpa,                  \
                                         uint##bits##_t *value)                               \
    {                                                                                         \
        PtaReadSection section = pta_read_begin();                                            \
        PtaMemStatus status;                                                                  \
        const uint##bits##_t *host = word(mem, gpa, sizeof(*host), false, &status);           \
        if (host) {                                                                           \
            *value = GUINT##bits##_FROM_LE(__atomic_load_n(host, __ATOMIC_ACQUIRE));          \
        }                                                                                     \
        pta_read_end(section);                                                                \
        return status;                                                                        \
    }                                                                                         \
    PtaMemStatus pta_memory_store_u##bits(PtaMemory *mem, uint64_t gpa, uint##bits##_t value) \
    {                                                                                         \
        PtaReadSection section = pta_read_begin();                                            \
        PtaMemStatus status;                                                                  \
        uint##bits##_t *host = word(mem, gpa, sizeof(*host), true, &status);                  \
        if (host) {                                                                           \
            __atomic_store_n(host, GUINT##bits##_TO_LE(value), __ATOMIC_RELEASE);             \
        }                                                                                     \
        pta_read_end(section);                                                                \
        if (host) {                                                                           \
            pta_memory_mark_dirty(mem, gpa, sizeof(value));                                   \
        }                                                                                     \
        return status;                                                                        \
    }
DEFINE_WORD(16)
DEFINE_WORD(32)
DEFINE_WORD(64)

/* ---- for devices ---- */

PtaMemStatus pta_memory_map(PtaMemory *mem, uint64_t gpa, size_t len, bool write, struct iovec *iov,
                            unsigned *n)
{
    unsigned room = *n, used = 0;
    *n = 0;
    if (wraps(gpa, len)) {
        return PTA_MEM_WRAP;
    }
    PtaReadSection section = pta_read_begin();
    const PtaView *view = view_of(mem);
    PtaMemStatus status = PTA_MEM_OK;
    while (len > 0) {
        const PtaViewSpan *span = pta_view_span(view, gpa);
        if (!span || !span->ram) {
            status = span ? PTA_MEM_MMIO : astray(mem, gpa);
        } else if (write && !span->writable) {
            status = PTA_MEM_READ_ONLY;
        } else if (used == room) {
            status = PTA_MEM_TOO_MANY;
        }
        if (status != PTA_MEM_OK) {
            break;
        }
        size_t got;
        uint8_t *host = span_host(span, gpa, len, &got);
        iov[used++] = (struct iovec){ .iov_base = host, .iov_len = got };
        gpa += got;
        len -= got;
    }
    pta_read_end(section);
    if (status == PTA_MEM_OK) {
        *n = used;
    }
    return status;
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
