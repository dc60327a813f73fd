/* Errors, descriptors, sizes, time. Any thread unless util.h says otherwise. */
#include "config.h"

#include "src/util/util.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

G_DEFINE_QUARK(pta - error, pta_error)

bool pta_throw(GError **error, PtaError code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (error) {
        g_assert(*error == NULL);
        *error = g_error_new_valist(PTA_ERROR, code, format, ap);
    }
    va_end(ap);
    return false;
}

bool pta_throw_errno(GError **error, int errnum, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (error) {
        g_assert(*error == NULL);
        g_autofree char *what = g_strdup_vprintf(format, ap);
        *error = g_error_new(PTA_ERROR, PTA_ERROR_HOST, "%s: %s", what, g_strerror(errnum));
    }
    va_end(ap);
    return false;
}

void pta_close(int fd)
{
    int saved = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
}

bool pta_write_full(int fd, const void *buf, size_t len)
{
    const char *p = buf;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool pta_read_full(int fd, void *buf, size_t len)
{
    char *p = buf;
    while (len > 0) {
        ssize_t n = read(fd, p, len);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return false;
        }
        if (n == 0) {
            errno = 0;
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool pta_parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGT";
    if (!g_ascii_isdigit(*text)) {
        return false;
    }
    char *end;
    errno = 0;
    uint64_t n = g_ascii_strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    unsigned shift = 0;
    if (*end != '\0') {
        const char *s = strchr(suffixes, *end);
        if (!s || end[1] != '\0') {
            return false;
        }
        shift = 10 * (unsigned)(s - suffixes + 1);
    }
    if (shift && n > UINT64_MAX >> shift) {
        return false;
    }
    *bytes = n << shift;
    return true;
}

char *pta_format_size(uint64_t bytes)
{
    static const char *const suffixes[] = { "", "K", "M", "G", "T" };
    unsigned i = 0;
    while (bytes != 0 && bytes % 1024 == 0 && i + 1 < G_N_ELEMENTS(suffixes)) {
        bytes /= 1024;
        i++;
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT "%s", bytes, suffixes[i]);
}

char *pta_resolve_path(const char *base_dir, const char *path)
{
    return g_path_is_absolute(path) ? g_strdup(path) : g_build_filename(base_dir, path, NULL);
}

uint64_t pta_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
