/* See boot-fixture.h. */
#include "config.h"

#include "tests/lib/boot-fixture.h"

#include <bzlib.h>
#include <elf.h>
#include <lz4hc.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "devices/power.h"
#include "devices/watchdog.h"

const PtaPlacedDevice fixture_devices[] = {
    { PTA_PLACED_IOAPIC, "ioapic", false, 0xfec00000, 0x1000, -1, false, 0 },
    { PTA_PLACED_POWER, "power", true, PTA_POWER_PIO_BASE, PTA_POWER_PIO_SIZE, 9, false, 0 },
    { PTA_PLACED_RTC_CMOS, "rtc", true, 0x70, 2, 8, false, 0 },
    { PTA_PLACED_UART16550, "serial0", true, 0x3f8, 8, 4, false, 0 },
    { PTA_PLACED_UART16550, "serial1", true, 0x2f8, 8, 3, false, 1 },
    { PTA_PLACED_VIRTIO_MMIO, "disk0", false, 0xd0000000, 0x1000, 5, false, 0 },
    { PTA_PLACED_VIRTIO_MMIO, "rng0", false, 0xd0001000, 0x1000, 16, false, 1 },
    { PTA_PLACED_VIRTIO_MMIO, "net0", false, 0xd0002000, 0x1000, 6, true, 2 },
    { PTA_PLACED_DEBUG_EXIT, "exit", true, 0xf4, 4, -1, false, 0 },
    { PTA_PLACED_WATCHDOG, "wd", false, 0xd0003000, PTA_WATCHDOG_SIZE, -1, false, 0 },
};
const size_t fixture_n_devices = G_N_ELEMENTS(fixture_devices);

PtaMemory *fixture_ram(uint64_t size)
{
    const PtaRamRange range = { 0, size };
    g_autoptr(GError) error = NULL;
    PtaMemory *mem = pta_memory_new(&range, 1, &error);
    g_assert_no_error(error);
    return mem;
}

size_t fixture_elf_phdr(bool is64, size_t i)
{
    return is64 ? sizeof(Elf64_Ehdr) + i * sizeof(Elf64_Phdr)
                : sizeof(Elf32_Ehdr) + i * sizeof(Elf32_Phdr);
}

static void put_ehdr(uint8_t *p, bool is64, uint64_t entry, size_t n)
{
    static const uint8_t magic[EI_NIDENT] = { 0x7f, 'E', 'L', 'F', 0, ELFDATA2LSB, EV_CURRENT };
    if (is64) {
        Elf64_Ehdr e = { .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT };
        memcpy(e.e_ident, magic, sizeof(magic));
        e.e_ident[EI_CLASS] = ELFCLASS64;
        e.e_entry = entry;
        e.e_phoff = e.e_ehsize = sizeof(e);
        e.e_phentsize = sizeof(Elf64_Phdr);
        e.e_phnum = (Elf64_Half)n;
        memcpy(p, &e, sizeof(e));
        return;
    }
    Elf32_Ehdr e = { .e_type = ET_EXEC, .e_machine = EM_386, .e_version = EV_CURRENT };
    memcpy(e.e_ident, magic, sizeof(magic));
    e.e_ident[EI_CLASS] = ELFCLASS32;
    e.e_entry = (Elf32_Addr)entry;
    e.e_phoff = e.e_ehsize = sizeof(e);
    e.e_phentsize = sizeof(Elf32_Phdr);
    e.e_phnum = (Elf32_Half)n;
    memcpy(p, &e, sizeof(e));
}

static void put_phdr(uint8_t *p, bool is64, const FixtureSegment *s, size_t offset)
{
    if (is64) {
        Elf64_Phdr h = { .p_type = s->type, .p_offset = offset, .p_vaddr = s->vaddr };
        h.p_paddr = s->paddr;
        h.p_filesz = s->len;
        h.p_memsz = s->memsz;
        memcpy(p, &h, sizeof(h));
        return;
    }
    Elf32_Phdr h = { .p_type = s->type, .p_offset = (Elf32_Off)offset };
    h.p_vaddr = (Elf32_Addr)s->vaddr;
    h.p_paddr = (Elf32_Addr)s->paddr;
    h.p_filesz = (Elf32_Word)s->len;
    h.p_memsz = (Elf32_Word)s->memsz;
    memcpy(p, &h, sizeof(h));
}

GByteArray *fixture_elf(bool is64, uint64_t entry, const FixtureSegment *segments, size_t n)
{
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, (guint)fixture_elf_phdr(is64, n));
    memset(image->data, 0, image->len);
    put_ehdr(image->data, is64, entry, n);
    for (size_t i = 0; i < n; i++) {
        put_phdr(image->data + fixture_elf_phdr(is64, i), is64, &segments[i], image->len);
        g_byte_array_append(image, segments[i].data, (guint)segments[i].len);
    }
    return image;
}

GByteArray *fixture_pvh_note(uint64_t entry, unsigned size)
{
    uint8_t note[24] = { 0 };
    pta_put_le32(note, 4);
    pta_put_le32(note + 4, size);
    pta_put_le32(note + 8, 18);
    memcpy(note + 12, "Xen", 4);
    pta_put_le64(note + 16, entry);
    return g_byte_array_append(g_byte_array_new(), note, 16 + size);
}

GByteArray *fixture_bzimage(const uint8_t *payload, size_t len)
{
    enum { SETUP_SECTS = 2, CODE = (SETUP_SECTS + 1) * 512, PAYLOAD = 0x40 };
    GByteArray *image = g_byte_array_new();
    g_byte_array_set_size(image, CODE + PAYLOAD);
    uint8_t *p = image->data;
    memset(p, 0, image->len);
    p[0x1f1] = SETUP_SECTS;
    pta_put_le16(p + 0x1fe, 0xaa55);
    p[0x200] = 0xeb;
    p[0x201] = 0x6a;
    memcpy(p + 0x202, "HdrS", 4);
    pta_put_le16(p + 0x206, 0x020f);
    p[0x211] = 1;
    pta_put_le32(p + 0x22c, 0x7fffffff);
    pta_put_le32(p + 0x238, 2047);
    pta_put_le32(p + 0x248, PAYLOAD);
    pta_put_le32(p + 0x24c, (uint32_t)len);
    pta_put_le64(p + 0x258, 0x1000000);
    return g_byte_array_append(image, payload, (guint)len);
}

/* ---- packers ---- */

static void pack_gzip(GByteArray *out, const uint8_t *data, size_t len)
{
    z_stream z = { .next_in = (Bytef *)data, .avail_in = (uInt)len };
    g_assert_cmpint(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
    guint at = out->len;
    g_byte_array_set_size(out, at + (guint)deflateBound(&z, (uLong)len));
    z.next_out = out->data + at;
    z.avail_out = out->len - at;
    g_assert_cmpint(deflate(&z, Z_FINISH), ==, Z_STREAM_END);
    g_byte_array_set_size(out, at + (guint)z.total_out);
    deflateEnd(&z);
}

static void pack_liblzma(GByteArray *out, lzma_stream *z, const uint8_t *data, size_t len)
{
    g_byte_array_set_size(out, (guint)(len + len / 2 + 65536));
    z->next_in = data;
    z->avail_in = len;
    z->next_out = out->data;
    z->avail_out = out->len;
    g_assert_cmpint(lzma_code(z, LZMA_FINISH), ==, LZMA_STREAM_END);
    g_byte_array_set_size(out, (guint)z->total_out);
    lzma_end(z);
}

/* With the x86 filter, as scripts/xz_wrap.sh of Linux has it. */
static void pack_xz(GByteArray *out, const uint8_t *data, size_t len)
{
    lzma_options_lzma options;
    g_assert_false(lzma_lzma_preset(&options, 1));
    lzma_filter filters[] = { { LZMA_FILTER_X86, NULL },
                              { LZMA_FILTER_LZMA2, &options },
                              { LZMA_VLI_UNKNOWN, NULL } };
    lzma_stream z = LZMA_STREAM_INIT;
    g_assert_cmpint(lzma_stream_encoder(&z, filters, LZMA_CHECK_CRC32), ==, LZMA_OK);
    pack_liblzma(out, &z, data, len);
}

static void pack_lzma(GByteArray *out, const uint8_t *data, size_t len)
{
    lzma_options_lzma options;
    g_assert_false(lzma_lzma_preset(&options, 1));
    lzma_stream z = LZMA_STREAM_INIT;
    g_assert_cmpint(lzma_alone_encoder(&z, &options), ==, LZMA_OK);
    pack_liblzma(out, &z, data, len);
}

static void pack_zstd(GByteArray *out, const uint8_t *data, size_t len)
{
    g_byte_array_set_size(out, (guint)ZSTD_compressBound(len));
    size_t n = ZSTD_compress(out->data, out->len, data, len, 1);
    g_assert_false(ZSTD_isError(n));
    g_byte_array_set_size(out, (guint)n);
}

static void pack_lz4(GByteArray *out, const uint8_t *data, size_t len)
{
    const size_t block = 8 * PTA_MIB;
    g_byte_array_append(out, (const guint8 *)"\x02\x21\x4c\x18", 4);
    for (size_t at = 0; at < len; at += block) {
        int n_in = (int)MIN(block, len - at);
        guint start = out->len;
        g_byte_array_set_size(out, start + 4 + (guint)LZ4_compressBound(n_in));
        int n = LZ4_compress_HC((const char *)data + at, (char *)out->data + start + 4, n_in,
                                LZ4_compressBound(n_in), 3);
        g_assert_cmpint(n, >, 0);
        pta_put_le32(out->data + start, (uint32_t)n);
        g_byte_array_set_size(out, start + 4 + (guint)n);
    }
}

static void pack_bzip2(GByteArray *out, const uint8_t *data, size_t len)
{
    unsigned n = (unsigned)(len + len / 100 + 600);
    g_byte_array_set_size(out, n);
    g_assert_cmpint(
        BZ2_bzBuffToBuffCompress((char *)out->data, &n, (char *)data, (unsigned)len, 9, 0, 0), ==,
        BZ_OK);
    g_byte_array_set_size(out, n);
}

GByteArray *fixture_pack(const char *format, const uint8_t *data, size_t len)
{
    static const struct {
        const char *name;
        void (*pack)(GByteArray *out, const uint8_t *data, size_t len);
    } packers[] = {
        { "gzip", pack_gzip }, { "xz", pack_xz },   { "lzma", pack_lzma },
        { "zstd", pack_zstd }, { "lz4", pack_lz4 }, { "bzip2", pack_bzip2 },
    };
    GByteArray *out = g_byte_array_new();
    for (size_t i = 0; i < G_N_ELEMENTS(packers); i++) {
        if (g_str_equal(format, packers[i].name)) {
            packers[i].pack(out, data, len);
            if (!g_str_equal(format, "gzip")) {
                uint8_t size[4];
                pta_put_le32(size, (uint32_t)len);
                g_byte_array_append(out, size, sizeof(size));
            }
            return out;
        }
    }
    g_assert_not_reached();
}
