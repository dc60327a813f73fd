/*
 * What inspect shows of memory beyond its map: how much of it the host has given, what the process
 * itself uses, and the dirty log. Counting takes milliseconds for each GiB, so a job does it.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "src/machine/machine-private.h"
#include "src/util/inspect.h"

typedef struct Usage {
    PtaMemory *mem;
    bool has_resident, has_process;
    uint64_t resident;            /* bytes of guest RAM that the host has pages for */
    uint64_t rss, guest_rss, pss; /* of this process */
    PtaInspectDeferred *deferred;
} Usage;

/* Pages that are in memory, whoever touched them. */
static bool count_resident(const PtaMemory *mem, const int *cancel, uint64_t *bytes)
{
    enum { CHUNK = 65536 }; /* pages */
    g_autofree unsigned char *vec = g_malloc(CHUNK);
    *bytes = 0;
    for (size_t i = 0; i < pta_memory_n_ranges(mem); i++) {
        uint8_t *host = pta_memory_range_host(mem, i);
        uint64_t left = pta_memory_range(mem, i).size;
        while (left > 0) {
            uint64_t n = MIN(left, CHUNK * PTA_PAGE_SIZE);
            if (g_atomic_int_get(cancel) || mincore(host, n, vec) < 0) {
                return false;
            }
            for (uint64_t k = 0; k < n / PTA_PAGE_SIZE; k++) {
                *bytes += vec[k] & 1 ? PTA_PAGE_SIZE : 0;
            }
            host += n;
            left -= n;
        }
    }
    return true;
}

/* Whether a mapping that begins there holds guest RAM. */
static bool in_guest(const PtaMemory *mem, uint64_t start)
{
    for (size_t i = 0; i < pta_memory_n_ranges(mem); i++) {
        uint64_t host = (uintptr_t)pta_memory_range_host(mem, i);
        if (start - host < pta_memory_range(mem, i).size) {
            return true;
        }
    }
    return false;
}

static bool read_process(Usage *u, const int *cancel)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    if (!f) {
        return false;
    }
    char line[512];
    bool guest = false;
    while (fgets(line, sizeof(line), f) && !g_atomic_int_get(cancel)) {
        unsigned long start, end;
        unsigned long long kib;
        if (sscanf(line, "Rss: %llu kB", &kib) == 1) {
            *(guest ? &u->guest_rss : &u->rss) += kib * PTA_KIB;
        } else if (sscanf(line, "Pss: %llu kB", &kib) == 1) {
            u->pss += guest ? 0 : kib * PTA_KIB;
        } else if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
            guest = in_guest(u->mem, start);
        }
    }
    fclose(f);
    return true;
}

static void usage_work(void *data, const int *cancel)
{
    Usage *u = data;
    u->has_resident = count_resident(u->mem, cancel, &u->resident);
    u->has_process = read_process(u, cancel);
}

static void inspect_usage(void *obj, PtaInspect *req)
{
    const Usage *u = obj;
    if (u->has_resident) {
        pta_inspect_u64(req, "guest-resident", PTA_INSPECT_SAFE, u->resident);
    }
    if (u->has_process) {
        pta_inspect_u64(req, "guest-mapped", PTA_INSPECT_SAFE, u->guest_rss);
        pta_inspect_u64(req, "vmm-resident", PTA_INSPECT_SAFE, u->rss);
        pta_inspect_u64(req, "vmm-proportional", PTA_INSPECT_SAFE, u->pss);
    }
}

static void usage_done(void *data)
{
    Usage *u = data;
    pta_inspect_deferred_answer(u->deferred, inspect_usage, u);
    g_free(u);
}

static const PtaJobClass usage_job = { "memory-usage", usage_work, usage_done };

/* ---- the dirty log ---- */

static void inspect_client(void *obj, PtaInspect *req)
{
    const PtaDirtyInfo *info = obj;
    pta_inspect_str(req, "name", PTA_INSPECT_SAFE, info->name);
    pta_inspect_u64(req, "takes", PTA_INSPECT_SAFE | PTA_INSPECT_COUNTER, info->takes);
    pta_inspect_u64(req, "pages-taken", PTA_INSPECT_SAFE | PTA_INSPECT_COUNTER, info->taken);
}

static void get_watch(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    pta_inspect_bool(req, "", PTA_INSPECT_SAFE, vm->dirty_watch != NULL);
}

static bool set_watch(void *obj, const char *text, GError **error)
{
    PtaVm *vm = obj;
    bool on;
    if (!pta_inspect_parse_bool(text, &on, error)) {
        return false;
    }
    if (on && !vm->dirty_watch) {
        vm->dirty_watch = pta_dirty_client_new(pta_memory_dirty_log(vm->memory), "inspect", error);
        return vm->dirty_watch != NULL;
    }
    if (!on) {
        g_clear_pointer(&vm->dirty_watch, pta_dirty_client_free);
    }
    return true;
}

static void inspect_dirty(void *obj, PtaInspect *req)
{
    PtaVm *vm = obj;
    PtaDirtyLog *log = pta_memory_dirty_log(vm->memory);
    pta_inspect_mutable(req, "watch", PTA_INSPECT_SAFE, get_watch, set_watch, vm);
    if (vm->dirty_watch) {
        pta_inspect_u64(req, "pages", PTA_INSPECT_SAFE, pta_dirty_client_count(vm->dirty_watch));
    }
    for (unsigned i = 0; i < PTA_DIRTY_MAX_CLIENTS; i++) {
        PtaDirtyInfo info;
        if (pta_dirty_log_info(log, i, &info)) {
            char name[24];
            g_snprintf(name, sizeof(name), "clients/%u", i);
            pta_inspect_child(req, name, PTA_INSPECT_SAFE, inspect_client, &info);
        }
    }
}

void pta_vm_inspect_memory_stats(PtaVm *vm, PtaInspect *req)
{
    pta_inspect_child(req, "dirty", PTA_INSPECT_SAFE, inspect_dirty, vm);
    PtaInspectDeferred *deferred = pta_inspect_defer(req, "stats", PTA_INSPECT_SAFE);
    if (!deferred) {
        return;
    }
    Usage *u = g_new0(Usage, 1);
    u->mem = vm->memory;
    u->deferred = deferred;
    if (!pta_jobs_start(vm->jobs, &usage_job, u, NULL)) {
        pta_inspect_deferred_drop(deferred);
        g_free(u);
    }
}
