/* Guest memory is put together from its parameters. Main thread. */
#include "config.h"

#include "src/memory/memory-private.h"

#include <inttypes.h>

static const PtaMemoryBacking *backings_of(const PtaMemoryParams *params, size_t *n)
{
    static const PtaMemoryBacking one_memfd;
    *n = params->n_backings > 0 ? params->n_backings : 1;
    return params->n_backings > 0 ? params->backings : &one_memfd;
}

static unsigned backing_of(const PtaMemoryParams *params, size_t range)
{
    return params->ram_backing ? params->ram_backing[range] : 0;
}

/* ---- what is refused before anything is made ---- */

static bool check_backings(const PtaMemoryParams *params, GError **error)
{
    size_t n;
    const PtaMemoryBacking *backings = backings_of(params, &n);
    for (size_t i = 0; i < params->n_ram; i++) {
        g_assert(backing_of(params, i) < n);
    }
    for (size_t i = 0; i < n; i++) {
        bool private = backings[i].existing ? pta_backing_is_private(backings[i].existing)
                                            : backings[i].params.private_anonymous;
        if (private && params->x86_legacy && backing_of(params, 0) == i) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "private memory cannot be used with x86 legacy support: what is "
                             "hidden would be lost");
        }
        if (backings[i].params.private_anonymous && backings[i].existing) {
            return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                             "private memory cannot be used with an existing backing");
        }
    }
    return true;
}

static bool check_size(const PtaMemoryParams *params, GError **error)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < params->n_ram; i++) {
        sum += params->ram[i].size; /* disjoint ranges: no overflow */
    }
    return sum <= SIZE_MAX / 2 || pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                                            "memory: ram size %" PRIu64 " is too large", sum);
}

static bool check_alias(const PtaMemoryParams *params, GError **error)
{
    uint64_t end = pta_range_end(params->ram[params->n_ram - 1]);
    for (size_t i = 0; i < params->n_mmio; i++) {
        end = MAX(end, pta_range_end(params->mmio[i]));
    }
    if (params->has_alias && (end > params->alias_offset || params->alias_offset + end < end ||
                              params->alias_offset % PTA_PAGE_SIZE != 0)) {
        return pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                         "not enough guest address space available for the vtl0 alias map");
    }
    return true;
}

/* ---- backings ---- */

static PtaBacking *make_backing(const PtaMemoryBacking *b, size_t i, uint64_t size, GError **error)
{
    if (b->existing) {
        if (pta_backing_size(b->existing) < size) {
            pta_throw(error, PTA_ERROR_BAD_DESCRIPTION,
                      "memory: the existing backing has %" PRIu64 " bytes, %" PRIu64 " are needed",
                      pta_backing_size(b->existing), size);
            return NULL;
        }
        return pta_backing_ref(b->existing);
    }
    g_autofree char *name = i == 0 ? g_strdup("guest-ram") : g_strdup_printf("guest-ram-%zu", i);
    PtaBackingParams params = b->params;
    params.name = params.name ? params.name : name;
    params.size = size;
    PtaBacking *backing = pta_backing_new(&params, error);
    if (!backing) {
        g_prefix_error(error, "failed to allocate memory: ");
    }
    return backing;
}

static bool make_backings(PtaMemory *mem, const PtaMemoryParams *params, GError **error)
{
    size_t n;
    const PtaMemoryBacking *backings = backings_of(params, &n);
    for (size_t i = 0; i < n; i++) {
        uint64_t size = 0;
        for (size_t r = 0; r < params->n_ram; r++) {
            size += backing_of(params, r) == i ? params->ram[r].size : 0;
        }
        PtaBacking *backing = NULL; /* one that no range uses stays so */
        if (size > 0 && !(backing = make_backing(&backings[i], i, size, error))) {
            return false;
        }
        g_ptr_array_add(mem->backings, backing);
    }
    return true;
}

/* ---- places and regions ---- */

static bool map_ranges(PtaMemory *mem, const PtaMemoryParams *params, GError **error)
{
    g_autofree uint64_t *used = g_new0(uint64_t, mem->backings->len);
    for (size_t i = 0; i < params->n_ram; i++) {
        unsigned b = backing_of(params, i);
        Ram *ram = &mem->ram[i];
        ram->range = params->ram[i];
        ram->mapping = pta_mapping_new(g_ptr_array_index(mem->backings, b), used[b],
                                       ram->range.size, true, error);
        if (!ram->mapping) {
            return false;
        }
        used[b] += ram->range.size;
        mem->size += ram->range.size;
        mem->n_ram++;
    }
    return true;
}

static bool add_piece(PtaMemory *mem, const Ram *ram, PtaRamRange range, bool prefetch,
                      GError **error)
{
    RamPiece piece = { .range = range };
    piece.region = pta_region_add(mem->regions, "ram", range, PTA_RAM_PRIORITY, error);
    if (!piece.region) {
        return false;
    }
    g_array_append_val(mem->pieces, piece);
    PtaMapParams map = { .writable = true, .executable = true, .prefetch = prefetch };
    return pta_region_add_mapping(piece.region, 0, range.size, ram->mapping,
                                  range.gpa - ram->range.gpa, true, error) &&
           pta_region_map(piece.region, &map, error);
}

static bool add_pieces(PtaMemory *mem, const PtaMemoryParams *params, GError **error)
{
    size_t n;
    const PtaMemoryBacking *backings = backings_of(params, &n);
    for (size_t i = 0; i < mem->n_ram; i++) {
        g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(PtaRamRange));
        if (i > 0 || !params->x86_legacy) {
            g_array_append_val(pieces, mem->ram[i].range);
        } else if (!pta_layout_split_x86(mem->ram[0].range, pieces, error)) {
            return false;
        }
        for (guint p = 0; p < pieces->len; p++) {
            if (!add_piece(mem, &mem->ram[i], g_array_index(pieces, PtaRamRange, p),
                           backings[backing_of(params, i)].prefetch, error)) {
                return false;
            }
        }
    }
    return true;
}

static PtaDirtyLog *new_dirty_log(const PtaMemory *mem)
{
    PtaDirtySpan spans[PTA_MAX_RAM_RANGES];
    for (size_t i = 0; i < mem->n_ram; i++) {
        spans[i] = (PtaDirtySpan){ mem->ram[i].range.gpa, mem->ram[i].range.size };
    }
    return pta_dirty_log_new(spans, mem->n_ram);
}

/* ---- life ---- */

PtaMemory *pta_memory_build(const PtaMemoryParams *params, GError **error)
{
    uint64_t end, total;
    if (!pta_layout_check(params->ram, params->n_ram, &end, &total, error) ||
        !check_backings(params, error) || !check_size(params, error)) {
        return NULL;
    }
    g_autoptr(PtaMemory) mem = g_new0(PtaMemory, 1);
    mem->pieces = g_array_new(FALSE, FALSE, sizeof(RamPiece));
    mem->backings = g_ptr_array_new_with_free_func((GDestroyNotify)pta_backing_unref);
    mem->mmio = g_memdup2(params->mmio, params->n_mmio * sizeof(PtaRamRange));
    mem->n_mmio = params->n_mmio;
    mem->has_alias = params->has_alias;
    mem->alias_offset = params->alias_offset;
    mem->regions =
        pta_regions_new(&mem->view, params->has_alias ? params->alias_offset : UINT64_MAX);
    if (!make_backings(mem, params, error) || !check_alias(params, error) ||
        !map_ranges(mem, params, error) || !add_pieces(mem, params, error)) {
        return NULL;
    }
    mem->dirty = new_dirty_log(mem);
    return g_steal_pointer(&mem);
}

PtaMemory *pta_memory_new(const PtaRamRange *ranges, size_t n, GError **error)
{
    return pta_memory_build(&(PtaMemoryParams){ .ram = ranges, .n_ram = n }, error);
}

void pta_memory_free(PtaMemory *mem)
{
    if (!mem) {
        return;
    }
    pta_regions_free(mem->regions);
    g_array_free(mem->pieces, TRUE);
    for (size_t i = 0; i < mem->n_ram; i++) {
        pta_mapping_unref(mem->ram[i].mapping);
    }
    g_ptr_array_free(mem->backings, TRUE);
    pta_dirty_log_free(mem->dirty);
    g_free(mem->mmio);
    g_free(mem);
}

/* ---- what it is made of ---- */

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
    return mem->ram[i].mapping->host;
}

PtaBacking *pta_memory_range_backing(const PtaMemory *mem, size_t i, uint64_t *offset)
{
    g_assert(i < mem->n_ram);
    *offset = mem->ram[i].mapping->offset;
    return mem->ram[i].mapping->backing;
}

PtaBacking *pta_memory_shared_backing(const PtaMemory *mem)
{
    PtaBacking *only = mem->backings->len == 1 ? g_ptr_array_index(mem->backings, 0) : NULL;
    return only && !pta_backing_is_private(only) ? only : NULL;
}

int pta_memory_fd(const PtaMemory *mem)
{
    const PtaBacking *shared = pta_memory_shared_backing(mem);
    return shared ? pta_backing_fd(shared) : -1;
}

/* ---- what the guest sees where ---- */

PtaRegions *pta_memory_regions(PtaMemory *mem)
{
    return mem->regions;
}

bool pta_memory_set_ram_visibility(PtaMemory *mem, PtaRamRange range, PtaRamVisibility visibility,
                                   GError **error)
{
    for (guint i = 0; i < mem->pieces->len; i++) {
        const RamPiece *piece = &g_array_index(mem->pieces, RamPiece, i);
        if (!pta_range_equal(piece->range, range)) {
            continue;
        }
        PtaMapParams map = { .writable = visibility == PTA_RAM_READ_WRITE, .executable = true };
        return visibility == PTA_RAM_UNMAPPED ? pta_region_unmap(piece->region, error)
                                              : pta_region_map(piece->region, &map, error);
    }
    return pta_throw(error, PTA_ERROR_BAD_STATE,
                     "0x%" PRIx64 "-0x%" PRIx64 " is not a controllable RAM range", range.gpa,
                     pta_range_end(range));
}

/* ---- partitions ---- */

struct PtaMemoryAttachment {
    PtaMemory *mem;
    PtaMapper *at_alias; /* NULL: not asked for */
    PtaMapper *at_zero;
};

PtaMemoryAttachment *pta_memory_attach(PtaMemory *mem, const PtaPartitionMapOps *ops, void *opaque,
                                       bool alias, GError **error)
{
    PtaMapper *at_alias = NULL;
    if (alias && mem->has_alias) {
        at_alias = pta_regions_add_partition(mem->regions, ops, opaque, mem->alias_offset, error);
        if (!at_alias) {
            g_prefix_error(error, "failed to attach partition to memory manager: ");
            return NULL;
        }
    }
    PtaMapper *at_zero = pta_regions_add_partition(mem->regions, ops, opaque, 0, error);
    if (!at_zero) {
        g_prefix_error(error, "failed to attach partition to memory manager: ");
        pta_regions_remove_mapper(mem->regions, at_alias);
        return NULL;
    }
    PtaMemoryAttachment *a = g_new(PtaMemoryAttachment, 1);
    *a = (PtaMemoryAttachment){ mem, at_alias, at_zero };
    return a;
}

void pta_memory_detach(PtaMemoryAttachment *attachment)
{
    if (attachment) {
        pta_regions_remove_mapper(attachment->mem->regions, attachment->at_zero);
        pta_regions_remove_mapper(attachment->mem->regions, attachment->at_alias);
        g_free(attachment);
    }
}

void pta_memory_attachment_gone(PtaMemoryAttachment *attachment)
{
    if (attachment->at_alias) {
        pta_mapper_gone(attachment->at_alias);
        pta_mapper_unref(attachment->at_alias);
    }
    pta_mapper_gone(attachment->at_zero);
    pta_mapper_unref(attachment->at_zero);
    g_free(attachment);
}
