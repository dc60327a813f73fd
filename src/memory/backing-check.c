/* Which options of a backing go together, and what of them this host has. */
#include "config.h"

#include "src/memory/backing-private.h"

#include <inttypes.h>
#include <stdlib.h>

static bool refuse(GError **error, const char *text)
{
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s", text);
}

/* What excludes each other whatever the host is. */
static bool check_together(const PtaBackingParams *p, GError **error)
{
    bool existing = p->has_fd || p->path;
    bool huge = p->hugepage_size != 0;
    if (p->private_anonymous && existing) {
        return refuse(error, "private memory cannot be made of a file or an existing descriptor");
    }
    if (p->private_anonymous && p->legacy) {
        return refuse(error, "private memory cannot hold the first MiB of an x86 machine: its "
                             "content would be lost when a piece of it is hidden");
    }
    if (huge && p->private_anonymous) {
        return refuse(error, "huge pages cannot be private memory");
    }
    if (huge && existing) {
        return refuse(error, "huge pages cannot be asked of a file or an existing descriptor");
    }
    if (huge && p->legacy) {
        return refuse(error, "huge pages cannot hold the first MiB of an x86 machine: its pieces "
                             "are smaller");
    }
    if (huge && p->thp) {
        return refuse(error, "huge pages cannot be transparent huge pages as well");
    }
    if (p->has_fd && p->path) {
        return refuse(error, "a backing cannot be both a file and an existing descriptor");
    }
    if (existing && p->has_numa_node) {
        return refuse(error, "the node of a file or an existing descriptor cannot be chosen");
    }
    return true;
}

static bool check_size(const PtaBackingParams *p, GError **error)
{
    if (p->size == 0 || p->size % PTA_PAGE_SIZE != 0) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "size %" PRIu64 ": expected a multiple of 4K", p->size);
    }
    if (p->size > SIZE_MAX / 2) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "size %" PRIu64 " is too large",
                         p->size);
    }
    if (p->hugepage_size == 0) {
        return true;
    }
    g_autofree char *page = pta_format_size(p->hugepage_size);
    if (p->hugepage_size != PTA_HUGEPAGE_2M && p->hugepage_size != PTA_HUGEPAGE_1G) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "huge pages of %s: expected 2M or 1G",
                         page);
    }
    if (p->size % p->hugepage_size != 0) {
        g_autofree char *size = pta_format_size(p->size);
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "size %s: expected a multiple of the huge page size %s", size, page);
    }
    return true;
}

static bool check_hugepages(const PtaBackingParams *p, const char *sysfs, GError **error)
{
    g_autofree char *dir = g_build_filename(sysfs, "kernel/mm/hugepages", NULL);
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "this host's kernel has no huge pages");
    }
    g_autofree char *pool =
        g_strdup_printf("%s/hugepages-%" PRIu64 "kB", dir, p->hugepage_size / PTA_KIB);
    if (!g_file_test(pool, G_FILE_TEST_IS_DIR)) {
        g_autofree char *page = pta_format_size(p->hugepage_size);
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "this host has no huge pages of %s", page);
    }
    return true;
}

/* "0-2,5" */
static bool list_has(const char *list, unsigned n)
{
    for (const char *at = list; g_ascii_isdigit(*at);) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (*end == '-') {
            last = strtoul(end + 1, &end, 10);
        }
        if (first <= n && n <= last) {
            return true;
        }
        at = *end == ',' ? end + 1 : end;
    }
    return false;
}

static bool check_node(const PtaBackingParams *p, const char *sysfs, GError **error)
{
    g_autofree char *path = g_build_filename(sysfs, "devices/system/node/has_memory", NULL);
    g_autofree char *list = NULL;
    if (!g_file_get_contents(path, &list, NULL, NULL)) {
        return pta_throw(error, PTA_ERROR_UNSUPPORTED, "this host's kernel has no NUMA nodes");
    }
    g_strchomp(list);
    return list_has(list, p->numa_node) ||
           pta_throw(error, PTA_ERROR_UNSUPPORTED,
                     "this host has no NUMA node %u with memory; expected one of %s", p->numa_node,
                     list);
}

bool pta_backing_params_check_at(const PtaBackingParams *params, const char *sysfs, GError **error)
{
    return check_together(params, error) && check_size(params, error) &&
           (params->hugepage_size == 0 || check_hugepages(params, sysfs, error)) &&
           (!params->has_numa_node || check_node(params, sysfs, error));
}

bool pta_backing_params_check(const PtaBackingParams *params, GError **error)
{
    return pta_backing_params_check_at(params, "/sys", error);
}

const char *pta_backing_params_type(const PtaBackingParams *params)
{
    return params->private_anonymous   ? "private"
           : params->hugepage_size > 0 ? "hugetlb"
           : params->path              ? "file"
           : params->has_fd            ? "fd"
                                       : "memfd";
}
