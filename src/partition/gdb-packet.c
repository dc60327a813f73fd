/* Framing of the GDB remote serial protocol. MAIN. */
#include "config.h"

#include "src/partition/gdb-packet.h"

#include <string.h>

static void begin_packet(PtaGdbReader *r)
{
    r->state = PTA_GDB_READ_DATA;
    r->too_long = false;
    r->sum = 0;
    r->len = 0;
}

static void add_byte(PtaGdbReader *r, uint8_t byte)
{
    if (r->len == PTA_GDB_PACKET_MAX) {
        r->too_long = true;
    } else {
        r->data[r->len++] = (char)byte;
    }
}

static PtaGdbItem end_packet(PtaGdbReader *r, int digit)
{
    r->state = PTA_GDB_READ_IDLE;
    r->data[r->len] = '\0';
    if (digit < 0 || r->sent_sum < 0 || (r->sent_sum << 4 | digit) != r->sum) {
        return PTA_GDB_BAD_CHECKSUM;
    }
    return r->too_long ? PTA_GDB_TOO_LONG : PTA_GDB_PACKET;
}

/* Outside of a packet anything but these four is noise. */
static PtaGdbItem idle_byte(PtaGdbReader *r, uint8_t byte)
{
    switch (byte) {
    case '$':
        begin_packet(r);
        return PTA_GDB_NOTHING;
    case '+':
        return PTA_GDB_ACK;
    case '-':
        return PTA_GDB_NACK;
    case 0x03:
        return PTA_GDB_INTERRUPT;
    default:
        return PTA_GDB_NOTHING;
    }
}

/* `$` and `#` never stand for themselves in a payload: where a packet was cut short, the next one's
 * `$` begins it. */
static void data_byte(PtaGdbReader *r, uint8_t byte)
{
    if (byte == '$') {
        begin_packet(r);
    } else if (byte == '#') {
        r->state = PTA_GDB_READ_SUM_HIGH;
    } else {
        r->sum += byte;
        if (r->state == PTA_GDB_READ_ESCAPED) {
            r->state = PTA_GDB_READ_DATA;
            add_byte(r, byte ^ 0x20);
        } else if (byte == '}') {
            r->state = PTA_GDB_READ_ESCAPED;
        } else {
            add_byte(r, byte);
        }
    }
}

size_t pta_gdb_read(PtaGdbReader *r, const void *bytes, size_t len, PtaGdbItem *item)
{
    const uint8_t *at = bytes;
    *item = PTA_GDB_NOTHING;
    size_t done = 0;
    while (done < len && *item == PTA_GDB_NOTHING) {
        uint8_t byte = at[done++];
        switch (r->state) {
        case PTA_GDB_READ_IDLE:
            *item = idle_byte(r, byte);
            break;
        case PTA_GDB_READ_DATA:
        case PTA_GDB_READ_ESCAPED:
            data_byte(r, byte);
            break;
        case PTA_GDB_READ_SUM_HIGH:
            r->sent_sum = g_ascii_xdigit_value((char)byte);
            r->state = PTA_GDB_READ_SUM_LOW;
            break;
        case PTA_GDB_READ_SUM_LOW:
            *item = end_packet(r, g_ascii_xdigit_value((char)byte));
            break;
        }
    }
    return done;
}

void pta_gdb_write(GByteArray *out, const void *payload, size_t len)
{
    const uint8_t *at = payload;
    uint8_t sum = 0;
    g_byte_array_append(out, (const uint8_t *)"$", 1);
    for (size_t i = 0; i < len; i++) {
        uint8_t byte[2] = { '}', at[i] ^ 0x20 };
        if (at[i] == '$' || at[i] == '#' || at[i] == '}' || at[i] == '*') {
            sum += byte[0] + byte[1];
            g_byte_array_append(out, byte, 2);
        } else {
            sum += at[i];
            g_byte_array_append(out, &at[i], 1);
        }
    }
    char end[4];
    g_snprintf(end, sizeof(end), "#%02x", sum);
    g_byte_array_append(out, (const uint8_t *)end, 3);
}

/* ---- numbers in packets ---- */

bool pta_gdb_get_u64(const char **text, uint64_t *value)
{
    const char *at = *text;
    uint64_t v = 0;
    for (; g_ascii_isxdigit(*at); at++) {
        if (v >> 60) {
            return false;
        }
        v = v << 4 | (unsigned)g_ascii_xdigit_value(*at);
    }
    if (at == *text) {
        return false;
    }
    *text = at;
    *value = v;
    return true;
}

bool pta_gdb_get_bytes(const char *hex, void *bytes, size_t n)
{
    uint8_t *to = bytes;
    for (size_t i = 0; i < n; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]);
        int low = high < 0 ? -1 : g_ascii_xdigit_value(hex[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void pta_gdb_put_bytes(GString *out, const void *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = bytes;
    for (size_t i = 0; i < n; i++) {
        g_string_append_c(out, digits[at[i] >> 4]);
        g_string_append_c(out, digits[at[i] & 15]);
    }
}

void pta_gdb_put_u64(GString *out, uint64_t value)
{
    g_string_append_printf(out, "%" G_GINT64_MODIFIER "x", value);
}
