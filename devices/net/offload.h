/*
 * What a network card does for its driver when the back end cannot: fills in a checksum, cuts a large
 * TCP segment into frames, checks what has come. Frames are hostile: nothing in them is believed.
 * Pure functions.
 */
#ifndef PTA_OFFLOAD_H
#define PTA_OFFLOAD_H

#include "devices/net/net.h"

/* virtio 1.2, 5.1.6. Little-endian, as in the guest's memory. */
typedef struct PtaNetHeader {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers;
} PtaNetHeader;
G_STATIC_ASSERT(sizeof(PtaNetHeader) == PTA_NET_HEADER);

#define PTA_NET_HDR_NEEDS_CSUM 1
#define PTA_NET_HDR_DATA_VALID 2
#define PTA_NET_GSO_NONE       0
#define PTA_NET_GSO_TCPV4      1
#define PTA_NET_GSO_UDP        3
#define PTA_NET_GSO_TCPV6      4
#define PTA_NET_GSO_ECN        0x80

/* Fills in the checksum that the header asks for. False: the header lies. */
bool pta_offload_checksum(const PtaNetHeader *hdr, uint8_t *frame, size_t len);

/* Cuts a TCP segment. emit() answers false to stop; `first` leaves out that many frames, so that one
 * that was stopped can go on. */
typedef bool PtaOffloadEmit(void *opaque, const uint8_t *frame, size_t len);
typedef enum PtaOffloadResult {
    PTA_OFFLOAD_DONE,
    PTA_OFFLOAD_STOPPED, /* *first is how many frames have been */
    PTA_OFFLOAD_BAD,     /* no frame was made: it is no TCP segment, or the header lies */
} PtaOffloadResult;
PtaOffloadResult pta_offload_segment(const PtaNetHeader *hdr, const uint8_t *frame, size_t len,
                                     unsigned *first, PtaOffloadEmit *emit, void *opaque);

/* Whether it is TCP or UDP, whole, and its checksum is right. */
bool pta_offload_is_valid(const uint8_t *frame, size_t len);

#endif
