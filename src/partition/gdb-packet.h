/*
 * Framing of the GDB remote serial protocol (GDB manual, appendix E): `$payload#checksum`, the
 * acknowledgements `+` and `-`, and the interrupt byte. No sockets, no meaning. MAIN.
 */
#ifndef PTA_GDB_PACKET_H
#define PTA_GDB_PACKET_H

#include "src/util/util.h"

/* The longest payload, either way, that is announced as PacketSize. */
#define PTA_GDB_PACKET_MAX 16384u

typedef enum PtaGdbItem {
    PTA_GDB_NOTHING, /* the bytes ended within an item, or were noise */
    PTA_GDB_PACKET,  /* data[0..len), escapes resolved, NUL-terminated */
    PTA_GDB_ACK,
    PTA_GDB_NACK,
    PTA_GDB_INTERRUPT,    /* ^C */
    PTA_GDB_BAD_CHECKSUM, /* a packet whose checksum does not fit, or is none */
    PTA_GDB_TOO_LONG,     /* a packet that does not fit into the buffer */
} PtaGdbItem;

typedef enum PtaGdbReadState {
    PTA_GDB_READ_IDLE,
    PTA_GDB_READ_DATA,
    PTA_GDB_READ_ESCAPED,
    PTA_GDB_READ_SUM_HIGH,
    PTA_GDB_READ_SUM_LOW,
} PtaGdbReadState;

/* Zero-initialise. */
typedef struct PtaGdbReader {
    PtaGdbReadState state;
    bool too_long;
    uint8_t sum;  /* of the payload as it came */
    int sent_sum; /* first digit of the checksum; -1 if it is no digit */
    size_t len;
    char data[PTA_GDB_PACKET_MAX + 1];
} PtaGdbReader;

/* Takes bytes up to and with the end of one item, and says how many. */
size_t pta_gdb_read(PtaGdbReader *r, const void *bytes, size_t len, PtaGdbItem *item);

/* Appends a framed packet. */
void pta_gdb_write(GByteArray *out, const void *payload, size_t len);

/* ---- numbers in packets ---- */

/* A hexadecimal number at *text, of at least one digit, which is skipped; false if there is none or it
 * does not fit into 64 bits. */
bool pta_gdb_get_u64(const char **text, uint64_t *value);
/* n bytes from 2n hexadecimal digits; false if one is none. */
bool pta_gdb_get_bytes(const char *hex, void *bytes, size_t n);
void pta_gdb_put_bytes(GString *out, const void *bytes, size_t n);
void pta_gdb_put_u64(GString *out, uint64_t value); /* as few digits as possible */

#endif
