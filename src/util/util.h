/*
 * What every file of Partita may use: errors, file descriptors that close themselves, threads'
 * identity, logging and tracing. Nothing here knows what a machine is.
 */
#ifndef PTA_UTIL_H
#define PTA_UTIL_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/util/tsan.h"

/* ---- errors ---- */

/*
 * One domain. The codes are the error classes of the monitor (schema/common.json, ErrorClass), in
 * the same order: QEMU's first, so that its clients see the names they know.
 */
typedef enum PtaError {
    PTA_ERROR_GENERIC_ERROR,
    PTA_ERROR_COMMAND_NOT_FOUND,
    PTA_ERROR_DEVICE_NOT_ACTIVE,
    PTA_ERROR_DEVICE_NOT_FOUND,
    PTA_ERROR_KVM_MISSING_CAP,
    /* Ours: reported to QMP clients as GenericError. */
    PTA_ERROR_BAD_DESCRIPTION, /* the machine description or a command's argument is wrong */
    PTA_ERROR_BAD_IMAGE,       /* a kernel or disk image cannot be used */
    PTA_ERROR_BAD_SNAPSHOT,    /* a saved state does not fit or is damaged */
    PTA_ERROR_BAD_STATE,       /* not in this run state */
    PTA_ERROR_HOST,            /* the host refused: a system call failed */
    PTA_ERROR_UNSUPPORTED,     /* this build, back end or host cannot do it */
} PtaError;

GQuark pta_error_quark(void);
#define PTA_ERROR pta_error_quark()

/* Sets *error and returns false, so that a failing function can end with `return pta_throw(…)`. */
bool pta_throw(GError **error, PtaError code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The same for a failed system call: class HOST, and ": strerror(errnum)" is appended. */
bool pta_throw_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* ---- file descriptors ---- */

/* Closes fd if it is not -1; keeps errno. */
void pta_close(int fd);

static inline void pta_autofd_clear(int *fd)
{
    if (*fd >= 0) {
        pta_close(*fd);
    }
}

/* `pta_autofd int fd = open(…)`: closed at the end of the scope unless taken with g_steal_fd(). */
#define pta_autofd __attribute__((cleanup(pta_autofd_clear)))

#if !GLIB_CHECK_VERSION(2, 70, 0)
#error "GLib 2.70 or later is needed (g_steal_fd)"
#endif

/* Writes or reads all of it, continuing over EINTR and short counts; false and errno if it failed
 * (pta_read_full: errno 0 means that the end came too early). */
bool pta_write_full(int fd, const void *buf, size_t len);
bool pta_read_full(int fd, void *buf, size_t len);

/* ---- threads (STYLE: "who may touch what") ---- */

/* Called once by the main thread before it makes others. */
void pta_thread_init_main(void);
bool pta_in_main(void);

/* A false claim about the thread is our bug. */
#define pta_assert_main() g_assert(pta_in_main())

/*
 * Runs fn(data) in the main thread, in the order of the calls, from its main loop; never waits. Any
 * thread. A main loop that a posted function iterates goes on with the calls behind it. What is
 * posted after the last turn of the main loop is never called.
 */
typedef void PtaMainFn(void *data);
void pta_main_call(PtaMainFn *fn, void *data);
/* Runs fn(data) in the main thread, from its main loop, when one of these signals has come; once for
 * those that come together. For the rest of the process's life: one call. MAIN. HOST. */
bool pta_on_signals(const int *signums, size_t n, PtaMainFn *fn, void *data, GError **error);

/* ---- numbers ---- */

#define PTA_KIB        UINT64_C(1024)
#define PTA_MIB        (UINT64_C(1024) * PTA_KIB)
#define PTA_GIB        (UINT64_C(1024) * PTA_MIB)

#define PTA_PAGE_SHIFT 12
#define PTA_PAGE_SIZE  UINT64_C(4096)
#define PTA_PAGE_MASK  (~(PTA_PAGE_SIZE - 1))

/* "512M", "1G", "4096" (bytes) -> bytes. Suffixes K M G T, binary. False if it is none of these or
 * does not fit. */
bool pta_parse_size(const char *text, uint64_t *bytes);

/* 536870912 -> "512M"; exact: the largest suffix that divides it. Free with g_free. */
char *pta_format_size(uint64_t bytes);

static inline bool pta_is_pow2(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static inline uint64_t pta_align_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* ---- host paths ---- */

/* path, or base_dir/path if it is relative. Free with g_free. */
char *pta_resolve_path(const char *base_dir, const char *path);

/* ---- time ---- */

/* CLOCK_MONOTONIC in nanoseconds. Any thread. */
uint64_t pta_now_ns(void);

/* ---- logging that a guest cannot flood ---- */

/*
 * A bucket for one kind of message: at most `burst` at once and then one a second; what was
 * swallowed is counted in the next line. Zero-initialise. LOCKED by its own lock: any thread.
 */
typedef struct PtaRatelimit {
    GMutex lock;
    uint64_t last_ns;
    uint32_t tokens_used;
    uint32_t missed;
} PtaRatelimit;

/* True if the line may be printed; *missed is what was swallowed since. */
bool pta_ratelimit_ok(PtaRatelimit *limit, uint32_t *missed);

/* The guest did something wrong: one g_info line, rate-limited per place. */
#define PTA_GUEST_ERROR(...)                                         \
    do {                                                             \
        static PtaRatelimit limit_;                                  \
        uint32_t missed_;                                            \
        if (pta_ratelimit_ok(&limit_, &missed_)) {                   \
            pta_guest_error_log(G_LOG_DOMAIN, missed_, __VA_ARGS__); \
        }                                                            \
    } while (0)
void pta_guest_error_log(const char *domain, uint32_t missed, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* ---- tracing: one branch when off ---- */

typedef enum PtaTraceCategory {
    PTA_TRACE_MMIO = 1 << 0,
    PTA_TRACE_PIO = 1 << 1,
    PTA_TRACE_VIRTIO = 1 << 2,
    PTA_TRACE_IRQ = 1 << 3,
    PTA_TRACE_MSR = 1 << 4,
    PTA_TRACE_CPU = 1 << 5,
    PTA_TRACE_MONITOR = 1 << 6,
    PTA_TRACE_BLOCK = 1 << 7,
} PtaTraceCategory;

extern unsigned pta_trace_mask; /* trace.c; ATOMIC. PTA_TRACE=mmio,irq in the environment */
void pta_trace_init(void);
/* "mmio,irq", as in the environment; "" is none. Any time, MAIN. Free with g_free. */
char *pta_trace_text(void);
bool pta_trace_set(const char *text, GError **error);
void pta_trace_emit(const char *category, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define PTA_TRACE(cat, ...)                                                           \
    do {                                                                              \
        if (G_UNLIKELY(__atomic_load_n(&pta_trace_mask, __ATOMIC_RELAXED) & (cat))) { \
            pta_trace_emit(#cat, __VA_ARGS__);                                        \
        }                                                                             \
    } while (0)

#endif
