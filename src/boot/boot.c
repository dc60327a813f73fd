/*
 * One load: reads the files, tells what the image is, keeps the account of which guest memory is
 * taken, and writes what is the same for all boot protocols. Main thread, while no VP runs.
 */
#include "config.h"

#include "src/boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/power.h"
#include "src/boot/acpi.h"
#include "src/boot/cmdline.h"
#include "src/boot/layout.h"
#include "src/boot/loader.h"

/* No kernel image comes near it, and it fits the address space of any host. */
#define IMAGE_MAX (UINT64_C(1) * PTA_GIB)

/* ---- errors and the account of memory ---- */

bool pta_boot_refuse(const PtaBootLoader *l, GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    return pta_throw(error, PTA_ERROR_BAD_IMAGE, "%s: %s", l->name, text);
}

static const PtaBootSpan *find_taken(const PtaBootLoader *l, uint64_t gpa, uint64_t size)
{
    for (guint i = 0; i < l->taken->len; i++) {
        const PtaBootSpan *s = &g_array_index(l->taken, PtaBootSpan, i);
        if (gpa < s->gpa + s->size && s->gpa < gpa + size) {
            return s;
        }
    }
    return NULL;
}

bool pta_boot_take(PtaBootLoader *l, uint64_t gpa, uint64_t size, const char *what, GError **error)
{
    if (size == 0) {
        return true;
    }
    if (!pta_boot_map_is_ram(&l->map, gpa, size)) {
        return pta_boot_refuse(l, error,
                               "%s needs 0x%" PRIx64 " bytes at 0x%" PRIx64
                               ", where the guest has no free RAM (it has 0x%" PRIx64
                               " bytes in all)",
                               what, size, gpa, pta_memory_ram_size(l->mem));
    }
    const PtaBootSpan *other = find_taken(l, gpa, size);
    if (other) {
        return pta_boot_refuse(l, error,
                               "%s, 0x%" PRIx64 " bytes at 0x%" PRIx64 ", overlaps %s, 0x%" PRIx64
                               " bytes at 0x%" PRIx64,
                               what, size, gpa, other->what, other->size, other->gpa);
    }
    PtaBootSpan span = { gpa, size, what };
    g_array_append_val(l->taken, span);
    return true;
}

static bool check_access(const PtaBootLoader *l, PtaMemStatus status, uint64_t gpa, uint64_t len,
                         GError **error)
{
    return status == PTA_MEM_OK ||
           pta_throw(error, PTA_ERROR_GENERIC_ERROR,
                     "%s: cannot write 0x%" PRIx64 " bytes of boot data at 0x%" PRIx64 ": %s",
                     l->name, len, gpa, pta_mem_status_text(status));
}

bool pta_boot_write(PtaBootLoader *l, uint64_t gpa, const void *buf, size_t len, GError **error)
{
    return len == 0 || check_access(l, pta_memory_write(l->mem, gpa, buf, len), gpa, len, error);
}

bool pta_boot_zero(PtaBootLoader *l, uint64_t gpa, uint64_t len, GError **error)
{
    return len == 0 || check_access(l, pta_memory_fill(l->mem, gpa, 0, len), gpa, len, error);
}

bool pta_boot_place_cmdline(PtaBootLoader *l, const char *prefix, uint64_t max_len, GError **error)
{
    g_autofree char *text = g_strconcat(prefix, l->cmdline, NULL);
    size_t len = strlen(text);
    max_len = MIN(max_len, PTA_BOOT_CMDLINE_SIZE - 1);
    if (len > max_len) {
        return pta_throw(
            error, PTA_ERROR_BAD_DESCRIPTION,
            "%s: the command line has %zu bytes, but this kernel takes at most %" PRIu64, l->name,
            len, max_len);
    }
    return pta_boot_take(l, PTA_BOOT_CMDLINE, len + 1, "the command line", error) &&
           pta_boot_write(l, PTA_BOOT_CMDLINE, text, len + 1, error);
}

/* ---- the initial RAM disk ---- */

/* The highest (or with `up` the lowest) page-aligned free place of `size` bytes in [from, to). */
static bool find_free(const PtaBootLoader *l, uint64_t size, uint64_t from, uint64_t to, bool up,
                      uint64_t *gpa)
{
    bool found = false;
    for (size_t i = 0; i < l->map.n; i++) {
        const PtaBootMapEntry *e = &l->map.entry[i];
        uint64_t low = pta_align_up(MAX(from, e->gpa), PTA_PAGE_SIZE);
        uint64_t high = MIN(to, e->gpa + e->size);
        if (e->type != PTA_BOOT_MAP_RAM || low >= high || high - low < size) {
            continue;
        }
        uint64_t at = up ? low : (high - size) & PTA_PAGE_MASK;
        const PtaBootSpan *in_the_way;
        while (at >= low && at <= high - size && (in_the_way = find_taken(l, at, size))) {
            if (up) {
                at = pta_align_up(in_the_way->gpa + in_the_way->size, PTA_PAGE_SIZE);
            } else if (in_the_way->gpa >= size) {
                at = (in_the_way->gpa - size) & PTA_PAGE_MASK;
            } else {
                break;
            }
        }
        if (at < low || at > high - size || find_taken(l, at, size)) {
            continue;
        }
        *gpa = at;
        found = true;
        if (up) {
            break;
        }
    }
    return found;
}

static int open_file(const char *path, struct stat *st, GError **error)
{
    /* Not to hang on a FIFO without a writer. */
    pta_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        pta_throw_errno(error, errno, "cannot open %s", path);
        return -1;
    }
    if (fstat(fd, st) < 0) {
        pta_throw_errno(error, errno, "cannot examine %s", path);
        return -1;
    }
    if (!S_ISREG(st->st_mode)) {
        pta_throw(error, PTA_ERROR_BAD_IMAGE, "%s: is no regular file", path);
        return -1;
    }
    return g_steal_fd(&fd);
}

/* Straight into guest RAM, without a copy in between. */
static bool read_into_ram(PtaBootLoader *l, int fd, const char *path, uint64_t gpa, uint64_t size,
                          GError **error)
{
    struct iovec iov[8];
    unsigned n = G_N_ELEMENTS(iov);
    PtaMemStatus status = pta_memory_map(l->mem, gpa, size, true, iov, &n);
    if (status != PTA_MEM_OK) {
        return check_access(l, status, gpa, size, error);
    }
    for (unsigned i = 0; i < n; i++) {
        if (!pta_read_full(fd, iov[i].iov_base, iov[i].iov_len)) {
            return errno == 0 ? pta_throw(error, PTA_ERROR_HOST,
                                          "%s became shorter while it was read", path)
                              : pta_throw_errno(error, errno, "cannot read %s", path);
        }
    }
    pta_memory_mark_dirty(l->mem, gpa, size);
    return true;
}

bool pta_boot_place_initrd(PtaBootLoader *l, PtaBootInitrdPlace place, uint64_t bound,
                           GError **error)
{
    const char *path = l->params->initrd_path;
    if (!path) {
        return true;
    }
    struct stat st;
    pta_autofd int fd = open_file(path, &st, error);
    if (fd < 0) {
        return false;
    }
    uint64_t size = (uint64_t)st.st_size;
    if (size == 0) {
        return pta_throw(error, PTA_ERROR_BAD_IMAGE, "%s: is empty", path);
    }
    /* Taken in whole pages: what lies behind it in its last page is nobody else's. */
    uint64_t room = pta_align_up(size, PTA_PAGE_SIZE);
    bool up = place == PTA_BOOT_INITRD_LOW;
    uint64_t from = up ? MAX(bound, PTA_BOOT_HIGH_START) : PTA_BOOT_HIGH_START;
    uint64_t to = MIN(up ? PTA_BOOT_4G : bound, PTA_BOOT_4G);
    uint64_t gpa;
    if (!find_free(l, room, from, to, up, &gpa)) {
        return pta_throw(error, PTA_ERROR_BAD_IMAGE,
                         "%s: has 0x%" PRIx64
                         " bytes, for which the guest has no free RAM between 0x%" PRIx64
                         " and 0x%" PRIx64 " (it has 0x%" PRIx64 " bytes in all)",
                         path, size, from, to, pta_memory_ram_size(l->mem));
    }
    if (!pta_boot_take(l, gpa, room, "the initial RAM disk", error) ||
        !read_into_ram(l, fd, path, gpa, size, error) ||
        !pta_boot_zero(l, gpa + size, room - size, error)) {
        return false;
    }
    l->initrd = (PtaBootSpan){ gpa, size, "the initial RAM disk" };
    return true;
}

/* ---- what all protocols have in common ---- */

static bool build_cmdline(PtaBootLoader *l, GError **error)
{
    g_autoptr(PtaCmdline) line = pta_cmdline_new(PTA_BOOT_CMDLINE_SIZE - 1);
    if (!pta_cmdline_add_text(line, l->params->cmdline ? l->params->cmdline : "", error)) {
        return false;
    }
    for (size_t i = 0; l->params->mmio_cmdline && i < l->params->n_devices; i++) {
        if (l->params->devices[i].kind == PTA_PLACED_VIRTIO_MMIO &&
            !pta_cmdline_add_virtio_mmio(line, &l->params->devices[i], error)) {
            return false;
        }
    }
    l->cmdline = g_strdup(pta_cmdline_text(line));
    l->cmdline_len = strlen(l->cmdline);
    return true;
}

/* mov dx, reset register; mov al, value; out dx, al; hlt; jmp back to hlt. In real mode. */
static bool write_reset_vector(PtaBootLoader *l, GError **error)
{
    uint8_t code[PTA_BOOT_RESET_VECTOR_SIZE] = { 0xba, 0,    0,    0xb0, PTA_POWER_RESET_VALUE,
                                                 0xee, 0xf4, 0xeb, 0xfd };
    for (size_t i = 0; i < l->params->n_devices; i++) {
        const PtaPlacedDevice *dev = &l->params->devices[i];
        if (dev->kind == PTA_PLACED_POWER) {
            pta_put_le16(code + 1, (uint16_t)(dev->base + PTA_POWER_RESET_REG));
            return pta_boot_write(l, PTA_BOOT_RESET_VECTOR, code, sizeof(code), error);
        }
    }
    return pta_boot_zero(l, PTA_BOOT_RESET_VECTOR, sizeof(code), error);
}

/* The BIOS data area, the ACPI tables and the reset vector. */
static bool write_firmware_areas(PtaBootLoader *l, GError **error)
{
    uint8_t word[2];
    pta_put_le16(word, (uint16_t)(PTA_BOOT_EBDA >> 4));
    if (!pta_boot_write(l, PTA_BOOT_BDA_EBDA_SEGMENT, word, sizeof(word), error)) {
        return false;
    }
    pta_put_le16(word, (uint16_t)(PTA_BOOT_EBDA / PTA_KIB));
    if (!pta_boot_write(l, PTA_BOOT_BDA_LOW_KIB, word, sizeof(word), error) ||
        !pta_boot_zero(l, PTA_BOOT_EBDA, PTA_BOOT_LOW_END - PTA_BOOT_EBDA, error)) {
        return false;
    }
    const PtaAcpiParams params = {
        .devices = l->params->devices,
        .n_devices = l->params->n_devices,
        .n_vps = l->params->n_vps,
        .ioapic_id = l->params->ioapic_id,
        .vmbus = l->params->vmbus,
    };
    g_autoptr(GByteArray) tables =
        pta_acpi_build(&params, PTA_BOOT_ACPI, PTA_BOOT_ACPI_SIZE, error);
    if (!tables || !pta_boot_write(l, PTA_BOOT_ACPI, tables->data, tables->len, error)) {
        return false;
    }
    l->rsdp = PTA_BOOT_ACPI;
    return pta_boot_zero(l, PTA_BOOT_ACPI + tables->len, PTA_BOOT_ACPI_SIZE - tables->len, error) &&
           write_reset_vector(l, error);
}

bool pta_boot_write_tables(PtaMemory *mem, const PtaBootParams *params, GError **error)
{
    g_assert(!params->mmio_cmdline);
    PtaBootLoader l = { .mem = mem, .params = params, .name = params->kernel_path };
    return write_firmware_areas(&l, error);
}

static bool load_by_content(PtaBootLoader *l, const uint8_t *image, size_t len, GError **error)
{
    if (pta_boot_is_bzimage(image, len)) {
        return pta_boot_bzimage(l, image, len, error);
    }
    gssize header = pta_boot_find_multiboot(image, len);
    if (header >= 0) {
        return pta_boot_multiboot(l, image, len, (size_t)header, error);
    }
    if (!pta_boot_is_elf(image, len)) {
        return pta_boot_refuse(l, error,
                               "is no kernel image that is known: expected a Linux bzImage, an ELF "
                               "file, or a multiboot header in the first 8 KiB");
    }
    PtaBootElf elf;
    if (!pta_boot_elf_parse(l, "ELF image", image, len, &elf, error)) {
        return false;
    }
    if (!elf.has_pvh && !elf.is64) {
        return pta_boot_refuse(
            l, error, "is a 32-bit ELF file with neither a multiboot header nor a PVH note");
    }
    if (!pta_boot_elf_load(l, &elf, image, error)) {
        return false;
    }
    return elf.has_pvh ? pta_boot_pvh(l, &elf, error) : pta_boot_linux64(l, &elf, NULL, 0, error);
}

static void loader_clear(PtaBootLoader *l)
{
    g_clear_pointer(&l->taken, g_array_unref);
    g_clear_pointer(&l->cmdline, g_free);
}

bool pta_boot_load_image(PtaMemory *mem, const PtaBootParams *params, const uint8_t *image,
                         size_t len, PtaX86State *bsp, GError **error)
{
    PtaBootLoader l = {
        .mem = mem,
        .params = params,
        .bsp = bsp,
        .name = params->kernel_path,
        .taken = g_array_new(FALSE, FALSE, sizeof(PtaBootSpan)),
    };
    bool ok = pta_boot_map_init(&l.map, mem, error) && build_cmdline(&l, error) &&
              write_firmware_areas(&l, error) && load_by_content(&l, image, len, error);
    loader_clear(&l);
    return ok;
}

/* The whole file in memory; free(). */
static uint8_t *read_image(const char *path, size_t *len, GError **error)
{
    struct stat st;
    pta_autofd int fd = open_file(path, &st, error);
    if (fd < 0) {
        return NULL;
    }
    if (st.st_size == 0 || (uint64_t)st.st_size > IMAGE_MAX) {
        pta_throw(error, PTA_ERROR_BAD_IMAGE, "%s: has %" PRId64 " bytes, expected 1 to %" PRIu64,
                  path, (int64_t)st.st_size, IMAGE_MAX);
        return NULL;
    }
    uint8_t *image = malloc((size_t)st.st_size);
    if (!image) {
        pta_throw(error, PTA_ERROR_HOST, "%s: no memory for its %" PRId64 " bytes", path,
                  (int64_t)st.st_size);
        return NULL;
    }
    if (!pta_read_full(fd, image, (size_t)st.st_size)) {
        if (errno == 0) {
            pta_throw(error, PTA_ERROR_HOST, "%s became shorter while it was read", path);
        } else {
            pta_throw_errno(error, errno, "cannot read %s", path);
        }
        free(image);
        return NULL;
    }
    *len = (size_t)st.st_size;
    return image;
}

bool pta_boot_load(PtaMemory *mem, const PtaBootParams *params, PtaX86State *bsp, GError **error)
{
    size_t len;
    uint8_t *image = read_image(params->kernel_path, &len, error);
    if (!image) {
        return false;
    }
    bool ok = pta_boot_load_image(mem, params, image, len, bsp, error);
    free(image);
    return ok;
}
