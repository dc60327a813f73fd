/* From a description of memory to backings and ranges. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "machine"

#include "src/machine/machine-memory.h"

#include <glib/gstdio.h>
#include <inttypes.h>

#define LEGACY_SIZE PTA_MIB       /* what an x86 machine shows and hides in small pieces */
#define SMALL_HEAD  (2 * PTA_MIB) /* so that what follows begins at a (transparent) huge page */

/* ---- plan ---- */

/* The options of one backing, as the branch of its type has them. */
static void set_params(PtaBackingParams *p, const BackingConfig *c)
{
    switch (c->type) {
    case BACKING_CONFIG_TYPE_MEMFD:
        p->thp = c->memfd->thp;
        p->has_numa_node = c->memfd->has_host_numa_node;
        p->numa_node = c->memfd->host_numa_node;
        break;
    case BACKING_CONFIG_TYPE_PRIVATE:
        p->private_anonymous = true;
        p->thp = c->private->thp;
        p->has_numa_node = c->private->has_host_numa_node;
        p->numa_node = c->private->host_numa_node;
        break;
    case BACKING_CONFIG_TYPE_HUGETLB:
        p->hugepage_size = c->hugetlb->hugepage_size;
        p->has_numa_node = c->hugetlb->has_host_numa_node;
        p->numa_node = c->hugetlb->host_numa_node;
        break;
    case BACKING_CONFIG_TYPE_FILE:
        p->thp = c->file->thp;
        break;
    case BACKING_CONFIG_TYPE_FD:
        p->has_fd = true;
        p->fd = c->fd->fd;
        break;
    case BACKING_CONFIG_TYPE__MAX:
        g_assert_not_reached();
    }
}

static bool bad(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool bad(GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION, "%s", text);
}

/* sizes[i] of each backing; one of them may be the rest. */
static bool share_out(const MemoryConfig *config, uint64_t *sizes, GError **error)
{
    uint64_t sum = 0;
    size_t n = config->n_backing, rest = n;
    for (size_t i = 0; i < n; i++) {
        const BackingConfig *c = config->backing[i];
        if (!c->has_size && rest < n) {
            return bad(error,
                       "$.memory.backing[%zu].size: expected a size, for $.memory.backing[%zu] has "
                       "none and is the rest",
                       i, rest);
        }
        if (!c->has_size) {
            rest = i;
            continue;
        }
        if (c->size % PTA_PAGE_SIZE != 0) {
            return bad(error,
                       "$.memory.backing[%zu].size: expected a multiple of 4K, found %" PRIu64, i,
                       c->size);
        }
        sizes[i] = c->size;
        sum += c->size; /* at most 16 times 64G */
    }
    g_autofree char *have = pta_format_size(sum), *want = pta_format_size(config->size);
    if (rest < n && sum < config->size) {
        sizes[rest] = config->size - sum;
        return true;
    }
    if (rest < n) {
        return bad(error,
                   "$.memory.backing: the others have %s of %s; expected something left for "
                   "$.memory.backing[%zu], which is the rest",
                   have, want, rest);
    }
    return sum == config->size ||
           bad(error, "$.memory.backing: expected sizes that add up to %s, found %s", want, have);
}

/* What can be said of huge pages before the host is asked. */
static bool check_hugepages(const PtaMachineBacking *b, uint64_t start, GError **error)
{
    uint64_t page = b->params.hugepage_size;
    if (page == 0) {
        return true;
    }
    g_autofree char *text = pta_format_size(page);
    if (page != 2 * PTA_MIB && page != PTA_GIB) {
        return bad(error, "%s.hugepage-size: expected 2M or 1G, found %s", b->where, text);
    }
    if (b->params.size % page != 0) {
        g_autofree char *size = pta_format_size(b->params.size);
        return bad(error, "%s.size: expected a multiple of the huge page size %s, found %s",
                   b->where, text, size);
    }
    /* The gap begins and ends at a multiple of 1 GiB, so this holds for the guest's addresses. */
    if (start % page != 0) {
        g_autofree char *at = pta_format_size(start);
        return bad(error,
                   "%s: expected a place that is a multiple of the huge page size %s, found %s",
                   b->where, text, at);
    }
    return true;
}

/* RAM [start, start + size), counted without the gap, is in the last backing from its offset 0. */
static void add_parts(PtaMachineMemory *m, uint64_t start, uint64_t size)
{
    size_t backing = m->n_backings - 1;
    uint64_t low = start < PTA_X86_RAM_GAP_BASE ? MIN(size, PTA_X86_RAM_GAP_BASE - start) : 0;
    if (low > 0) {
        m->parts[m->n_parts++] = (PtaMachineRam){ { start, low }, backing, 0 };
    }
    if (size > low) {
        uint64_t gpa = PTA_X86_HIGH_RAM_BASE + (start + low - PTA_X86_RAM_GAP_BASE);
        m->parts[m->n_parts++] = (PtaMachineRam){ { gpa, size - low }, backing, low };
    }
}

static PtaMachineBacking *add_backing(PtaMachineMemory *m, const MemoryConfig *config,
                                      const char *where)
{
    PtaMachineBacking *b = &m->backings[m->n_backings++];
    b->where = g_strdup(where);
    b->name = m->n_backings == 1 ? g_strdup("guest-ram")
                                 : g_strdup_printf("guest-ram-%zu", m->n_backings - 1);
    b->params = (PtaBackingParams){ .name = b->name, .pin = config->pin };
    return b;
}

/*
 * Memory whose pieces cannot come and go by themselves does not hold the first MiB: a memfd does,
 * up to the place where the next (huge) page begins.
 */
static bool add_head(PtaMachineMemory *m, const MemoryConfig *config, const char *where,
                     const PtaBackingParams *p, uint64_t *head, GError **error)
{
    *head = p->hugepage_size ? p->hugepage_size : p->private_anonymous ? SMALL_HEAD : 0;
    if (*head == 0) {
        return true;
    }
    g_autofree char *text = pta_format_size(*head);
    if (p->size <= *head) {
        g_autofree char *size = pta_format_size(p->size);
        return bad(error,
                   "%s.size: expected more than the %s at address 0 that are in a memfd, found %s",
                   where, text, size);
    }
    PtaBackingParams *params = &add_backing(m, config, where)->params;
    params->size = *head;
    params->legacy = true;
    params->thp = p->thp || *head > SMALL_HEAD;
    params->has_numa_node = p->has_numa_node;
    params->numa_node = p->numa_node;
    add_parts(m, 0, *head);
    return true;
}

static bool plan_one(PtaMachineMemory *m, const MemoryConfig *config, const char *base_dir,
                     size_t i, uint64_t start, uint64_t size, GError **error)
{
    const BackingConfig *c = config->backing[i];
    g_autofree char *where = g_strdup_printf("$.memory.backing[%zu]", i);
    PtaMachineBacking whole = { .where = where, .params.size = size };
    set_params(&whole.params, c);
    uint64_t head = 0;
    if (!check_hugepages(&whole, start, error)) {
        return false;
    }
    if (i == 0) {
        if (size < LEGACY_SIZE) {
            return bad(error,
                       "%s.size: expected at least 1M, for the first MiB is one backing's, found "
                       "%" PRIu64,
                       where, size);
        }
        if (!add_head(m, config, where, &whole.params, &head, error)) {
            return false;
        }
    }
    PtaMachineBacking *b = add_backing(m, config, where);
    set_params(&b->params, c);
    b->params.size = size - head;
    b->params.legacy = i == 0 && head == 0;
    if (c->type == BACKING_CONFIG_TYPE_FILE) {
        b->path = pta_resolve_path(base_dir, c->file->path);
        b->params.path = b->path;
    }
    add_parts(m, start + head, size - head);
    return true;
}

static void plan_ranges(PtaMachineMemory *m, uint64_t size)
{
    uint64_t low = MIN(size, PTA_X86_RAM_GAP_BASE);
    m->ranges[m->n_ranges++] = (PtaRamRange){ 0, low };
    if (size > low) {
        m->ranges[m->n_ranges++] = (PtaRamRange){ PTA_X86_HIGH_RAM_BASE, size - low };
    }
}

PtaMachineMemory *pta_machine_memory_plan(const MemoryConfig *config, const char *base_dir,
                                          GError **error)
{
    if (config->size % PTA_PAGE_SIZE != 0) {
        bad(error, "$.memory.size: expected a multiple of 4K, found %" PRIu64, config->size);
        return NULL;
    }
    g_autoptr(PtaMachineMemory) m = g_new0(PtaMachineMemory, 1);
    m->prefault = config->prefault;
    plan_ranges(m, config->size);
    if (config->n_backing == 0) {
        PtaBackingParams *p = &add_backing(m, config, "$.memory")->params;
        p->size = config->size;
        p->legacy = true;
        add_parts(m, 0, config->size);
        return g_steal_pointer(&m);
    }
    uint64_t sizes[PTA_MACHINE_BACKINGS] = { 0 }, start = 0;
    g_assert(config->n_backing < PTA_MACHINE_BACKINGS); /* as the schema has it */
    if (!share_out(config, sizes, error)) {
        return NULL;
    }
    for (size_t i = 0; i < config->n_backing; start += sizes[i++]) {
        if (!plan_one(m, config, base_dir, i, start, sizes[i], error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&m);
}

void pta_machine_memory_free(PtaMachineMemory *m)
{
    for (size_t i = 0; m && i < m->n_backings; i++) {
        PtaMachineBacking *b = &m->backings[i];
        if (b->backing && pta_backing_made_file(b->backing) && !m->keep_files) {
            g_unlink(b->path);
        }
        pta_backing_unref(b->backing);
        g_free(b->where);
        g_free(b->name);
        g_free(b->path);
    }
    g_free(m);
}

/* ---- the host ---- */

bool pta_machine_memory_check(const PtaMachineMemory *m, GError **error)
{
    for (size_t i = 0; i < m->n_backings; i++) {
        if (!pta_backing_params_check(&m->backings[i].params, error)) {
            g_prefix_error(error, "%s: ", m->backings[i].where);
            return false;
        }
    }
    return true;
}

bool pta_machine_memory_make(PtaMachineMemory *m, GError **error)
{
    for (size_t i = 0; i < m->n_backings; i++) {
        PtaMachineBacking *b = &m->backings[i];
        b->backing = pta_backing_new(&b->params, error);
        if (!b->backing) {
            g_prefix_error(error, "%s: ", b->where);
            return false;
        }
    }
    return true;
}

static const PtaRamRange x86_mmio = { PTA_X86_RAM_GAP_BASE,
                                      PTA_X86_HIGH_RAM_BASE - PTA_X86_RAM_GAP_BASE };

PtaMemory *pta_machine_memory_build(const PtaMachineMemory *ram, GError **error)
{
    PtaRamRange ranges[G_N_ELEMENTS(ram->parts)];
    unsigned which[G_N_ELEMENTS(ram->parts)];
    PtaMemoryBacking backings[G_N_ELEMENTS(ram->backings)] = { 0 };
    for (size_t i = 0; i < ram->n_parts; i++) {
        ranges[i] = ram->parts[i].range;
        which[i] = (unsigned)ram->parts[i].backing;
    }
    for (size_t i = 0; i < ram->n_backings; i++) {
        backings[i].existing = ram->backings[i].backing;
    }
    const PtaMemoryParams params = {
        .ram = ranges,
        .n_ram = ram->n_parts,
        .ram_backing = which,
        .backings = backings,
        .n_backings = ram->n_backings,
        .mmio = &x86_mmio,
        .n_mmio = 1,
        .x86_legacy = true,
    };
    return pta_memory_build(&params, error);
}

void pta_machine_memory_prefault(const PtaMachineMemory *m, PtaMemory *mem)
{
    if (!m->prefault) {
        return;
    }
    uint64_t begin = pta_now_ns();
    g_autofree char *size = pta_format_size(pta_memory_ram_size(mem));
    for (size_t i = 0; i < pta_memory_n_ranges(mem); i++) {
        g_autoptr(GError) error = NULL;
        if (!pta_backing_prefault(pta_memory_range_host(mem, i), pta_memory_range(mem, i).size,
                                  &error)) {
            g_warning("prefault: %s; the guest starts without", error->message);
            return;
        }
    }
    g_message("all pages of %s are there after %.3f s", size, (double)(pta_now_ns() - begin) / 1e9);
}

/* ---- inspect ---- */

typedef struct BackingRef {
    const PtaMachineMemoryRef *of;
    size_t index;
} BackingRef;

/* Of what only mappings tell about: those of the guest's RAM. */
static uint64_t resident(const BackingRef *ref)
{
    const PtaMachineMemory *m = ref->of->ram;
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->n_parts; i++) {
        struct iovec iov[8];
        unsigned n = G_N_ELEMENTS(iov);
        if (m->parts[i].backing != ref->index ||
            pta_memory_map(ref->of->mem, m->parts[i].range.gpa, m->parts[i].range.size, false, iov,
                           &n) != PTA_MEM_OK) {
            continue;
        }
        while (n-- > 0) {
            bytes += pta_backing_resident(iov[n].iov_base, iov[n].iov_len);
        }
    }
    return bytes;
}

static void inspect_backing(void *obj, PtaInspect *req)
{
    const BackingRef *ref = obj;
    const PtaMachineBacking *b = &ref->of->ram->backings[ref->index];
    pta_inspect_str(req, "type", PTA_INSPECT_SAFE, pta_backing_type(b->backing));
    pta_inspect_u64(req, "size", PTA_INSPECT_HEX | PTA_INSPECT_SAFE, pta_backing_size(b->backing));
    pta_inspect_u64(req, "page-size", PTA_INSPECT_PLAIN, pta_backing_page_size(b->backing));
    if (!pta_backing_is_private(b->backing)) {
        pta_inspect_s64(req, "descriptor", PTA_INSPECT_PLAIN, pta_backing_fd(b->backing));
        pta_inspect_bool(req, "owned", PTA_INSPECT_PLAIN, pta_backing_is_owned(b->backing));
    }
    if (b->path) {
        pta_inspect_str(req, "path", PTA_INSPECT_PLAIN, b->path);
    }
    pta_inspect_bool(req, "thp", PTA_INSPECT_PLAIN, b->params.thp);
    pta_inspect_bool(req, "pinned", PTA_INSPECT_PLAIN, b->params.pin);
    if (b->params.has_numa_node) {
        pta_inspect_u64(req, "host-numa-node", PTA_INSPECT_PLAIN, b->params.numa_node);
    }
    if (pta_inspect_wants(req, "resident-bytes", PTA_INSPECT_PLAIN)) {
        uint64_t bytes;
        if (!pta_backing_allocated(b->backing, &bytes)) {
            bytes = resident(ref);
        }
        pta_inspect_u64(req, "resident-bytes", PTA_INSPECT_PLAIN, bytes);
    }
}

void pta_machine_memory_inspect(const PtaMachineMemoryRef *ref, PtaInspect *req)
{
    for (size_t i = 0; i < ref->ram->n_backings; i++) {
        char name[32];
        g_snprintf(name, sizeof(name), "backing/%zu", i);
        pta_inspect_child(req, name, PTA_INSPECT_SAFE, inspect_backing, &(BackingRef){ ref, i });
    }
}
