/* ACPI machine language, written term by term: see aml.h. Opcodes are those of ACPI 6.4, 20.2. */
#include "config.h"

#include "src/boot/aml.h"

#include <string.h>

#include "src/boot/loader.h"

enum {
    ZERO_OP = 0x00,
    ONE_OP = 0x01,
    NAME_OP = 0x08,
    BYTE_PREFIX = 0x0a,
    WORD_PREFIX = 0x0b,
    DWORD_PREFIX = 0x0c,
    STRING_PREFIX = 0x0d,
    QWORD_PREFIX = 0x0e,
    SCOPE_OP = 0x10,
    BUFFER_OP = 0x11,
    PACKAGE_OP = 0x12,
    METHOD_OP = 0x14,
    DUAL_NAME_PREFIX = 0x2e,
    MULTI_NAME_PREFIX = 0x2f,
    EXT_OP_PREFIX = 0x5b,
    LOCAL0_OP = 0x60,
    STORE_OP = 0x70,
    AND_OP = 0x7b,
    NOTIFY_OP = 0x86,
    IF_OP = 0xa0,
    /* behind EXT_OP_PREFIX */
    REGION_OP = 0x80,
    FIELD_OP = 0x81,
    DEVICE_OP = 0x82,
};

enum {
    METHOD_SERIALIZED = 1 << 3,
    FIELD_DWORD_ACC = 3,
    FIELD_WRITE_AS_ZEROS = 2 << 5,
    SEGMENT = 4, /* bytes of a name */
};

static void put(GByteArray *out, const void *bytes, size_t n)
{
    g_byte_array_append(out, bytes, (guint)n);
}

static void put8(GByteArray *out, uint8_t value)
{
    put(out, &value, 1);
}

static void put16(GByteArray *out, uint16_t value)
{
    uint8_t bytes[2];
    pta_put_le16(bytes, value);
    put(out, bytes, sizeof(bytes));
}

static void put32(GByteArray *out, uint32_t value)
{
    uint8_t bytes[4];
    pta_put_le32(bytes, value);
    put(out, bytes, sizeof(bytes));
}

static void put64(GByteArray *out, uint64_t value)
{
    uint8_t bytes[8];
    pta_put_le64(bytes, value);
    put(out, bytes, sizeof(bytes));
}

/* ---- names ---- */

static void put_path(GByteArray *out, const char *path)
{
    if (*path == '\\') {
        put8(out, '\\');
        path++;
    }
    g_auto(GStrv) segments = g_strsplit(path, ".", -1);
    guint n = g_strv_length(segments);
    g_assert(n >= 1 && n <= UINT8_MAX);
    if (n == 2) {
        put8(out, DUAL_NAME_PREFIX);
    } else if (n > 2) {
        put8(out, MULTI_NAME_PREFIX);
        put8(out, (uint8_t)n);
    }
    for (guint i = 0; i < n; i++) {
        size_t len = strlen(segments[i]);
        g_assert(len >= 1 && len <= SEGMENT);
        char segment[SEGMENT] = { '_', '_', '_', '_' };
        for (size_t j = 0; j < len; j++) {
            char c = segments[i][j];
            g_assert(g_ascii_isupper(c) || c == '_' || (j > 0 && g_ascii_isdigit(c)));
            segment[j] = c;
        }
        put(out, segment, SEGMENT);
    }
}

/* ---- blocks ---- */

void pta_aml_init(PtaAml *aml, GByteArray *out)
{
    *aml = (PtaAml){ .out = out };
}

static void begin(PtaAml *aml)
{
    g_assert(aml->depth < PTA_AML_MAX_DEPTH);
    aml->open[aml->depth++] = aml->out->len;
}

/* A length counts its own bytes: 1 for up to 63, else 2 to 4 of which the first says how many
 * follow (20.2.4). */
static unsigned encode_length(uint8_t bytes[4], size_t body)
{
    if (body + 1 <= 0x3f) {
        bytes[0] = (uint8_t)(body + 1);
        return 1;
    }
    unsigned n = body + 2 < 1u << 12 ? 2 : body + 3 < 1u << 20 ? 3 : 4;
    size_t length = body + n;
    g_assert(length < 1u << 28);
    bytes[0] = (uint8_t)((n - 1) << 6 | (length & 0xf));
    for (unsigned i = 1; i < n; i++) {
        bytes[i] = (uint8_t)(length >> (8 * i - 4));
    }
    return n;
}

void pta_aml_end(PtaAml *aml)
{
    g_assert(aml->depth > 0);
    size_t at = aml->open[--aml->depth];
    size_t body = aml->out->len - at;
    uint8_t bytes[4];
    unsigned n = encode_length(bytes, body);
    g_byte_array_set_size(aml->out, (guint)(aml->out->len + n));
    memmove(aml->out->data + at + n, aml->out->data + at, body);
    memcpy(aml->out->data + at, bytes, n);
}

void pta_aml_scope(PtaAml *aml, const char *name)
{
    put8(aml->out, SCOPE_OP);
    begin(aml);
    put_path(aml->out, name);
}

void pta_aml_device(PtaAml *aml, const char *name)
{
    put8(aml->out, EXT_OP_PREFIX);
    put8(aml->out, DEVICE_OP);
    begin(aml);
    put_path(aml->out, name);
}

void pta_aml_method(PtaAml *aml, const char *name, unsigned n_args, bool serialized)
{
    g_assert(n_args <= 7);
    put8(aml->out, METHOD_OP);
    begin(aml);
    put_path(aml->out, name);
    put8(aml->out, (uint8_t)(n_args | (serialized ? METHOD_SERIALIZED : 0)));
}

void pta_aml_if(PtaAml *aml)
{
    put8(aml->out, IF_OP);
    begin(aml);
}

void pta_aml_package(PtaAml *aml, uint8_t n_elements)
{
    put8(aml->out, PACKAGE_OP);
    begin(aml);
    put8(aml->out, n_elements);
}

/* ---- data ---- */

void pta_aml_name(PtaAml *aml, const char *name)
{
    put8(aml->out, NAME_OP);
    put_path(aml->out, name);
}

void pta_aml_int(PtaAml *aml, uint64_t value)
{
    if (value <= 1) {
        put8(aml->out, value == 0 ? ZERO_OP : ONE_OP);
    } else if (value <= UINT8_MAX) {
        put8(aml->out, BYTE_PREFIX);
        put8(aml->out, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        put8(aml->out, WORD_PREFIX);
        put16(aml->out, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        put8(aml->out, DWORD_PREFIX);
        put32(aml->out, (uint32_t)value);
    } else {
        put8(aml->out, QWORD_PREFIX);
        put64(aml->out, value);
    }
}

void pta_aml_string(PtaAml *aml, const char *text)
{
    put8(aml->out, STRING_PREFIX);
    put(aml->out, text, strlen(text) + 1);
}

/* Three letters of 5 bits and four hexadecimal digits, the most significant byte first (19.6.37). */
void pta_aml_eisaid(PtaAml *aml, const char *id)
{
    g_assert(strlen(id) == 7);
    uint32_t value = 0;
    for (unsigned i = 0; i < 3; i++) {
        g_assert(g_ascii_isupper(id[i]));
        value = value << 5 | (uint32_t)(id[i] - 0x40);
    }
    for (unsigned i = 3; i < 7; i++) {
        g_assert(g_ascii_isxdigit(id[i]));
        value = value << 4 | (uint32_t)g_ascii_xdigit_value(id[i]);
    }
    put8(aml->out, DWORD_PREFIX);
    put32(aml->out, GUINT32_SWAP_LE_BE(value));
}

void pta_aml_name_int(PtaAml *aml, const char *name, uint64_t value)
{
    pta_aml_name(aml, name);
    pta_aml_int(aml, value);
}

void pta_aml_name_string(PtaAml *aml, const char *name, const char *text)
{
    pta_aml_name(aml, name);
    pta_aml_string(aml, text);
}

void pta_aml_region_u32(PtaAml *aml, const char *region, PtaAmlSpace space, uint64_t base,
                        const char *field)
{
    put8(aml->out, EXT_OP_PREFIX);
    put8(aml->out, REGION_OP);
    put_path(aml->out, region);
    put8(aml->out, (uint8_t)space);
    pta_aml_int(aml, base);
    pta_aml_int(aml, 4);

    put8(aml->out, EXT_OP_PREFIX);
    put8(aml->out, FIELD_OP);
    begin(aml);
    put_path(aml->out, region);
    put8(aml->out, FIELD_DWORD_ACC | FIELD_WRITE_AS_ZEROS);
    put_path(aml->out, field);
    put8(aml->out, 32); /* bits, coded as a length */
    pta_aml_end(aml);
}

/* ---- statements ---- */

void pta_aml_store_to_local(PtaAml *aml, const char *source, unsigned local)
{
    g_assert(local <= 7);
    put8(aml->out, STORE_OP);
    put_path(aml->out, source);
    put8(aml->out, (uint8_t)(LOCAL0_OP + local));
}

void pta_aml_and_local(PtaAml *aml, unsigned local, uint64_t mask)
{
    g_assert(local <= 7);
    put8(aml->out, AND_OP);
    put8(aml->out, (uint8_t)(LOCAL0_OP + local));
    pta_aml_int(aml, mask);
    put8(aml->out, ZERO_OP); /* no target */
}

void pta_aml_notify(PtaAml *aml, const char *object, uint8_t value)
{
    put8(aml->out, NOTIFY_OP);
    put_path(aml->out, object);
    pta_aml_int(aml, value);
}

/* ---- resource templates (ACPI 6.4, 6.4) ---- */

void pta_aml_crs_begin(PtaAmlResources *crs)
{
    crs->bytes = g_byte_array_new();
}

void pta_aml_crs_io(PtaAmlResources *crs, uint16_t base, uint8_t size)
{
    put8(crs->bytes, 0x47); /* I/O port descriptor, 7 bytes */
    put8(crs->bytes, 1);    /* decodes 16 bits */
    put16(crs->bytes, base);
    put16(crs->bytes, base);
    put8(crs->bytes, 1); /* alignment */
    put8(crs->bytes, size);
}

void pta_aml_crs_memory(PtaAmlResources *crs, uint64_t base, uint64_t size)
{
    if (base <= UINT32_MAX && size <= UINT32_MAX) {
        put8(crs->bytes, 0x86); /* 32-bit fixed memory range */
        put16(crs->bytes, 9);
        put8(crs->bytes, 1); /* read-write */
        put32(crs->bytes, (uint32_t)base);
        put32(crs->bytes, (uint32_t)size);
        return;
    }
    put8(crs->bytes, 0x8a); /* QWord address space */
    put16(crs->bytes, 43);
    put8(crs->bytes, 0);    /* memory */
    put8(crs->bytes, 0x0d); /* consumer, minimum and maximum fixed */
    put8(crs->bytes, 1);    /* read-write, not cacheable */
    put64(crs->bytes, 0);   /* granularity */
    put64(crs->bytes, base);
    put64(crs->bytes, base + size - 1);
    put64(crs->bytes, 0); /* translation */
    put64(crs->bytes, size);
}

void pta_aml_crs_isa_irq(PtaAmlResources *crs, unsigned irq)
{
    g_assert(irq < 16);
    put8(crs->bytes, 0x22); /* IRQ descriptor, 2 bytes */
    put16(crs->bytes, (uint16_t)(1u << irq));
}

void pta_aml_crs_interrupt(PtaAmlResources *crs, uint32_t gsi, bool level)
{
    put8(crs->bytes, 0x89); /* extended interrupt descriptor */
    put16(crs->bytes, 6);
    put8(crs->bytes, level ? 0x01 : 0x03); /* consumer; edge */
    put8(crs->bytes, 1);
    put32(crs->bytes, gsi);
}

void pta_aml_crs_end(PtaAmlResources *crs, PtaAml *aml)
{
    put8(crs->bytes, 0x79); /* end tag */
    put8(crs->bytes, 0);    /* no checksum */
    pta_aml_name(aml, "_CRS");
    put8(aml->out, BUFFER_OP);
    begin(aml);
    pta_aml_int(aml, crs->bytes->len);
    put(aml->out, crs->bytes->data, crs->bytes->len);
    pta_aml_end(aml);
    g_clear_pointer(&crs->bytes, g_byte_array_unref);
}
