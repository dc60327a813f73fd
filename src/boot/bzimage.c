/*
 * A Linux bzImage (Documentation/x86/boot.rst): its compressed payload is a vmlinux, unpacked here
 * and loaded where it was linked to, so that neither the real-mode code nor the decompressor of the
 * image runs in the guest. Address randomisation by the decompressor is thereby left out; the
 * relocations that follow the vmlinux in the payload are for it alone and not needed.
 */
#include "config.h"

#include "src/boot/loader.h"

#include <inttypes.h>
#include <stdlib.h>

/* Offsets in the file. */
enum {
    HDR_START = 0x1f1,
    HDR_SETUP_SECTS = 0x1f1,
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP_LEN = 0x201,
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_LOADFLAGS = 0x211,
    HDR_PAYLOAD_OFFSET = 0x248,
    HDR_PAYLOAD_LENGTH = 0x24c,
    HDR_MIN_END = 0x268, /* behind handover_offset, the last field of version 2.11 */
    HDR_MAX_END = 0x290, /* room for it in boot_params, up to edd_mbr_sig_buffer */
};

enum {
    SECTOR = 512,
    LOADED_HIGH = 1 << 0,
};

bool pta_boot_is_bzimage(const uint8_t *image, size_t len)
{
    return len >= HDR_VERSION + 2 && pta_le16(image + HDR_BOOT_FLAG) == 0xaa55 &&
           memcmp(image + HDR_MAGIC, "HdrS", 4) == 0;
}

/* Finds the payload, and the end of the setup header. */
static bool read_header(const PtaBootLoader *l, const uint8_t *image, size_t len,
                        size_t *header_end, const uint8_t **payload, size_t *payload_len,
                        GError **error)
{
    if (len < HDR_MIN_END) {
        return pta_boot_refuse(l, error, "ends after %zu bytes, within the setup header", len);
    }
    uint16_t version = pta_le16(image + HDR_VERSION);
    if (version < 0x020c) {
        return pta_boot_refuse(l, error,
                               "has boot protocol %u.%02u, expected 2.12 or later (Linux 3.8)",
                               version >> 8, version & 0xff);
    }
    if (!(image[HDR_LOADFLAGS] & LOADED_HIGH)) {
        return pta_boot_refuse(l, error, "is a zImage (loadflags 0x%02x), expected a bzImage",
                               image[HDR_LOADFLAGS]);
    }
    /* The jump at the start of the code tells where the header ends (boot.rst, "Details of header
     * fields", jump). */
    *header_end = HDR_MAGIC + (size_t)image[HDR_JUMP_LEN];
    if (*header_end < HDR_MIN_END || *header_end > HDR_MAX_END || *header_end > len) {
        return pta_boot_refuse(l, error,
                               "has a setup header that ends at 0x%zx, expected 0x%x to 0x%x",
                               *header_end, HDR_MIN_END, HDR_MAX_END);
    }
    uint64_t sects = image[HDR_SETUP_SECTS] ? image[HDR_SETUP_SECTS] : 4;
    uint64_t code = (sects + 1) * SECTOR;
    uint64_t offset = code + pta_le32(image + HDR_PAYLOAD_OFFSET);
    uint64_t size = pta_le32(image + HDR_PAYLOAD_LENGTH);
    if (offset > len || size > len - offset) {
        return pta_boot_refuse(l, error,
                               "has a payload of 0x%" PRIx64 " bytes at 0x%" PRIx64
                               ", but ends at 0x%zx: is it truncated?",
                               size, offset, len);
    }
    *payload = image + offset;
    *payload_len = size;
    return true;
}

bool pta_boot_bzimage(PtaBootLoader *l, const uint8_t *image, size_t len, GError **error)
{
    size_t header_end = 0, payload_len = 0, vmlinux_len = 0;
    const uint8_t *payload = NULL;
    uint8_t *vmlinux = NULL;
    if (!read_header(l, image, len, &header_end, &payload, &payload_len, error) ||
        !pta_boot_decompress(l, payload, payload_len, pta_memory_ram_size(l->mem), &vmlinux,
                             &vmlinux_len, error)) {
        return false;
    }
    PtaBootElf elf;
    bool ok = pta_boot_elf_parse(l, "payload", vmlinux, vmlinux_len, &elf, error) &&
              pta_boot_elf_load(l, &elf, vmlinux, error);
    free(vmlinux);
    return ok && pta_boot_linux64(l, &elf, image + HDR_START, header_end - HDR_START, error);
}
