/*
 * Unpacks the payload of a Linux bzImage on the host. The formats are those that Linux offers
 * (arch/x86/boot/compressed/Makefile), told apart by their first bytes as scripts/extract-vmlinux
 * does. The data is hostile: what is unpacked is bounded by the caller before it starts.
 */
#include "config.h"

#include "src/boot/loader.h"
#include "src/util/lazy-lib.h"

#include <bzlib.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* ---- libraries ---- */

static PTA_LAZY_FUNCTION(inflateInit2_);
static PTA_LAZY_FUNCTION(inflate);
static PTA_LAZY_FUNCTION(inflateEnd);
static PtaLazyLib zlib = { "libz.so.1", (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(inflateInit2_) },
                                                                 { PTA_LAZY_SYMBOL(inflate) },
                                                                 { PTA_LAZY_SYMBOL(inflateEnd) },
                                                                 { NULL, NULL } } };

static PTA_LAZY_FUNCTION(BZ2_bzDecompressInit);
static PTA_LAZY_FUNCTION(BZ2_bzDecompress);
static PTA_LAZY_FUNCTION(BZ2_bzDecompressEnd);
/* Debian's soname; the library's own makefile has the same. */
static PtaLazyLib bzip2 = { "libbz2.so.1.0",
                            (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(BZ2_bzDecompressInit) },
                                                     { PTA_LAZY_SYMBOL(BZ2_bzDecompress) },
                                                     { PTA_LAZY_SYMBOL(BZ2_bzDecompressEnd) },
                                                     { NULL, NULL } } };

static PTA_LAZY_FUNCTION(lzma_stream_decoder);
static PTA_LAZY_FUNCTION(lzma_alone_decoder);
static PTA_LAZY_FUNCTION(lzma_code);
static PTA_LAZY_FUNCTION(lzma_end);
static PtaLazyLib liblzma = { "liblzma.so.5",
                              (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(lzma_stream_decoder) },
                                                       { PTA_LAZY_SYMBOL(lzma_alone_decoder) },
                                                       { PTA_LAZY_SYMBOL(lzma_code) },
                                                       { PTA_LAZY_SYMBOL(lzma_end) },
                                                       { NULL, NULL } } };

static PTA_LAZY_FUNCTION(ZSTD_decompress);
static PTA_LAZY_FUNCTION(ZSTD_isError);
static PTA_LAZY_FUNCTION(ZSTD_getErrorCode);
static PtaLazyLib zstd = { "libzstd.so.1",
                           (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(ZSTD_decompress) },
                                                    { PTA_LAZY_SYMBOL(ZSTD_isError) },
                                                    { PTA_LAZY_SYMBOL(ZSTD_getErrorCode) },
                                                    { NULL, NULL } } };

static PTA_LAZY_FUNCTION(LZ4_decompress_safe);
static PtaLazyLib lz4 = { "liblz4.so.1",
                          (const PtaLazySymbol[]){ { PTA_LAZY_SYMBOL(LZ4_decompress_safe) },
                                                   { NULL, NULL } } };

/* ---- formats ---- */

/* Where unpacked bytes go, and how many are there. */
typedef struct Sink {
    uint8_t *data;
    size_t size;
    size_t used;
} Sink;

/* Each unpacks all of it; NULL, or what is wrong. A sink that is too small is wrong as well. */
typedef const char *UnpackFn(const uint8_t *data, size_t len, Sink *sink);

static const char too_long[] = "it unpacks to more than that";
static const char out_of_memory[] = "out of memory";

/* libz and libbz2 count in unsigned int. */
static unsigned piece(size_t n)
{
    return n > UINT32_C(1) << 30 ? 1u << 30 : (unsigned)n;
}

static const char *unpack_gzip(const uint8_t *data, size_t len, Sink *sink)
{
    z_stream z = { .next_in = (Bytef *)data };
    if (dl_inflateInit2_(&z, 15 + 16, ZLIB_VERSION, (int)sizeof(z)) !=
        Z_OK) { /* a window of 2^15; the gzip wrapper only */
        return out_of_memory;
    }
    size_t read = 0;
    int ret = Z_OK;
    while (ret == Z_OK) {
        z.avail_in = piece(len - read);
        z.next_out = sink->data + sink->used;
        z.avail_out = piece(sink->size - sink->used);
        unsigned in = z.avail_in, out = z.avail_out;
        ret = dl_inflate(&z, Z_NO_FLUSH);
        read += in - z.avail_in;
        sink->used += out - z.avail_out;
        if (ret == Z_OK && in == z.avail_in && out == z.avail_out) {
            ret = Z_BUF_ERROR;
        }
    }
    dl_inflateEnd(&z);
    if (ret == Z_STREAM_END) {
        return NULL;
    }
    if (ret == Z_BUF_ERROR) {
        return sink->used == sink->size ? too_long : "it ends too early";
    }
    return "it is damaged";
}

static const char *unpack_bzip2(const uint8_t *data, size_t len, Sink *sink)
{
    bz_stream z = { .next_in = (char *)data };
    if (dl_BZ2_bzDecompressInit(&z, 0, 0) != BZ_OK) {
        return out_of_memory;
    }
    size_t read = 0;
    int ret = BZ_OK;
    bool stuck = false;
    while (ret == BZ_OK && !stuck) {
        z.avail_in = piece(len - read);
        z.next_out = (char *)sink->data + sink->used;
        z.avail_out = piece(sink->size - sink->used);
        unsigned in = z.avail_in, out = z.avail_out;
        ret = dl_BZ2_bzDecompress(&z);
        read += in - z.avail_in;
        sink->used += out - z.avail_out;
        stuck = ret == BZ_OK && in == z.avail_in && out == z.avail_out;
    }
    dl_BZ2_bzDecompressEnd(&z);
    if (ret == BZ_STREAM_END) {
        return NULL;
    }
    if (stuck) {
        return sink->used == sink->size ? too_long : "it ends too early";
    }
    return "it is damaged";
}

static const char *unpack_liblzma(lzma_stream *z, const uint8_t *data, size_t len, Sink *sink)
{
    z->next_in = data;
    z->avail_in = len;
    z->next_out = sink->data;
    z->avail_out = sink->size;
    lzma_ret ret = dl_lzma_code(z, LZMA_FINISH);
    if (ret == LZMA_OK) {
        ret =
            dl_lzma_code(z, LZMA_FINISH); /* the sink was full: says so, or takes the end marker */
    }
    sink->used = sink->size - z->avail_out;
    dl_lzma_end(z);
    switch (ret) {
    case LZMA_STREAM_END:
        return NULL;
    case LZMA_OK:
    case LZMA_BUF_ERROR:
        return sink->used == sink->size ? too_long : "it ends too early";
    case LZMA_MEMLIMIT_ERROR:
        return "its dictionary is larger than 256 MiB";
    case LZMA_MEM_ERROR:
        return out_of_memory;
    default:
        return "it is damaged";
    }
}

/* Linux packs with a dictionary of 32 MiB (scripts/xz_wrap.sh) or 8 (lzma -9: 64). */
#define LZMA_MEMORY (256 * PTA_MIB)

static const char *unpack_xz(const uint8_t *data, size_t len, Sink *sink)
{
    lzma_stream z = LZMA_STREAM_INIT;
    if (dl_lzma_stream_decoder(&z, LZMA_MEMORY, 0) != LZMA_OK) {
        return out_of_memory;
    }
    return unpack_liblzma(&z, data, len, sink);
}

static const char *unpack_lzma(const uint8_t *data, size_t len, Sink *sink)
{
    lzma_stream z = LZMA_STREAM_INIT;
    if (dl_lzma_alone_decoder(&z, LZMA_MEMORY) != LZMA_OK) {
        return out_of_memory;
    }
    return unpack_liblzma(&z, data, len, sink);
}

/* In one call, which needs no window of the frame's own size. */
static const char *unpack_zstd(const uint8_t *data, size_t len, Sink *sink)
{
    size_t n = dl_ZSTD_decompress(sink->data, sink->size, data, len);
    if (dl_ZSTD_isError(n)) {
        switch (dl_ZSTD_getErrorCode(n)) {
        case ZSTD_error_dstSize_tooSmall:
            return too_long;
        case ZSTD_error_srcSize_wrong:
            return "it ends too early, or something follows it";
        default:
            return "it is damaged";
        }
    }
    sink->used = n;
    return NULL;
}

#define LZ4_LEGACY_MAGIC UINT32_C(0x184c2102)
#define LZ4_LEGACY_BLOCK (8 * PTA_MIB) /* unpacked size of a full block */

/* The "legacy frame" of lz4 -l: a magic number, then blocks that start with their packed size; the
 * number may stand again between blocks (doc/lz4_Frame_format.md, Legacy frame). */
static const char *unpack_lz4(const uint8_t *data, size_t len, Sink *sink)
{
    size_t at = 4;
    while (at < len) {
        if (len - at < 4) {
            return "a block's size is cut off";
        }
        uint32_t packed = pta_le32(data + at);
        at += 4;
        if (packed == LZ4_LEGACY_MAGIC) {
            continue;
        }
        if (packed > LZ4_COMPRESSBOUND(LZ4_LEGACY_BLOCK)) {
            return "a block is larger than the format allows";
        }
        if (packed > len - at) {
            return "it ends too early";
        }
        size_t room = MIN(sink->size - sink->used, LZ4_LEGACY_BLOCK);
        int n = dl_LZ4_decompress_safe((const char *)data + at, (char *)sink->data + sink->used,
                                       (int)packed, (int)room);
        if (n < 0) {
            return "a block is damaged or unpacks to more than that";
        }
        sink->used += (size_t)n;
        at += packed;
    }
    return NULL;
}

static const char *unpack_none(const uint8_t *data, size_t len, Sink *sink)
{
    if (len > sink->size) {
        return too_long;
    }
    memcpy(sink->data, data, len);
    sink->used = len;
    return NULL;
}

typedef struct Format {
    const char *name;
    const char *magic;
    size_t magic_len;
    UnpackFn *unpack; /* NULL: known, not supported */
    PtaLazyLib *lib;  /* NULL: none is needed */
    bool size_inside; /* the word with the size is a part of the format */
} Format;

static const Format formats[] = {
    { "gzip", "\x1f\x8b", 2, unpack_gzip, &zlib, true },
    { "xz",
      "\xfd"
      "7zXZ\0",
      6, unpack_xz, &liblzma },
    { "lzma", "\x5d\0\0", 3, unpack_lzma, &liblzma },
    { "zstd", "\x28\xb5\x2f\xfd", 4, unpack_zstd, &zstd },
    { "lz4", "\x02\x21\x4c\x18", 4, unpack_lz4, &lz4 },
    { "bzip2", "BZh", 3, unpack_bzip2, &bzip2 },
    { "lzo",
      "\x89"
      "LZO",
      4, NULL },
    { "uncompressed",
      "\x7f"
      "ELF",
      4, unpack_none },
};

static const Format *format_find(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (len >= formats[i].magic_len &&
            memcmp(data, formats[i].magic, formats[i].magic_len) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

const char *pta_boot_compression_name(const uint8_t *data, size_t len)
{
    const Format *format = format_find(data, len);
    return format ? format->name : NULL;
}

bool pta_boot_decompress(const PtaBootLoader *l, const uint8_t *data, size_t len, uint64_t max,
                         uint8_t **out, size_t *out_len, GError **error)
{
    const Format *format = format_find(data, len);
    if (!format || len < 8) {
        return pta_boot_refuse(l, error,
                               "the payload of %zu bytes starts with %02x %02x %02x %02x, expected "
                               "gzip, xz, lzma, zstd, lz4 or bzip2 data",
                               len, len > 0 ? data[0] : 0, len > 1 ? data[1] : 0,
                               len > 2 ? data[2] : 0, len > 3 ? data[3] : 0);
    }
    if (!format->unpack) {
        return pta_boot_refuse(l, error,
                               "the payload is packed by %s, expected gzip, xz, lzma, zstd, lz4 or "
                               "bzip2",
                               format->name);
    }
    if (format->lib && !pta_lazy_lib_load(format->lib, error)) {
        g_prefix_error(error, "%s: the payload is packed by %s: ", l->name, format->name);
        return false;
    }
    uint32_t size = pta_le32(data + len - 4);
    if (size == 0 || size > max) {
        return pta_boot_refuse(l, error,
                               "the %s payload says that it unpacks to %" PRIu32
                               " bytes, expected 1 to %" PRIu64 " (the guest's RAM)",
                               format->name, size, max);
    }
    Sink sink = { .data = malloc(size), .size = size };
    if (!sink.data) {
        return pta_throw(error, PTA_ERROR_HOST, "%s: no memory to unpack %" PRIu32 " bytes",
                         l->name, size);
    }
    const char *wrong = format->unpack(data, format->size_inside ? len : len - 4, &sink);
    if (!wrong && sink.used != size) {
        wrong = "it unpacks to less than that";
    }
    if (wrong) {
        free(sink.data);
        return pta_boot_refuse(l, error,
                               "the %s payload of %zu bytes, which should unpack to %" PRIu32
                               ", cannot be used: %s",
                               format->name, len, size, wrong);
    }
    *out = sink.data;
    *out_len = size;
    return true;
}
