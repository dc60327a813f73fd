/* Checksums and segmentation of frames; see offload.h. */
#include "config.h"

#include "devices/net/offload.h"

#include <endian.h>
#include <string.h>

#define ETH_IPV4          0x0800
#define ETH_IPV6          0x86dd
#define ETH_VLAN          0x8100
#define ETH_QINQ          0x88a8
#define IPV4_MIN          20
#define IPV6_HEADER       40
#define TCP_MIN           20
#define UDP_HEADER        8
#define IP_TCP            6
#define IP_UDP            17
#define TCP_CSUM_OFFSET   16
#define UDP_CSUM_OFFSET   6
#define TCP_FIN           0x01
#define TCP_PSH           0x08
#define TCP_CWR           0x80
#define MAX_TCP_HEADERS   (14 + 8 + 60 + 60 + 256)
#define IPV4_MF_OR_OFFSET 0x3fff

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, (uint16_t)(value >> 16));
    put16(p + 2, (uint16_t)value);
}

/* RFC 1071: the sum is the same in either byte order, so words are added as they lie in memory, eight
 * bytes at a time, and the result is turned around at the end. */
static uint32_t sum_bytes(const uint8_t *p, size_t len)
{
    uint64_t sum = 0;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        sum += word;
        sum += sum < word;
        p += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    memcpy(&rest, p, len);
    sum += rest;
    sum += sum < rest;
    sum = (sum >> 32) + (sum & UINT32_MAX);
    sum = (sum >> 32) + (sum & UINT32_MAX);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return be16toh((uint16_t)sum);
}

static uint16_t fold(uint32_t sum)
{
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)sum;
}

bool pta_offload_checksum(const PtaNetHeader *hdr, uint8_t *frame, size_t len)
{
    size_t start = le16toh(hdr->csum_start);
    size_t at = start + le16toh(hdr->csum_offset);
    if (start < PTA_NET_ETH_HEADER || at + 2 > len) {
        return false;
    }
    uint16_t csum = (uint16_t)~fold(sum_bytes(frame + start, len - start));
    put16(frame + at, csum ? csum : 0xffff); /* UDP: zero would mean that there is none */
    return true;
}

/* Where the parts of a frame begin. */
typedef struct Layout {
    size_t l3;
    size_t l4;
    size_t end; /* of the IP packet, which may be shorter than the frame */
    bool ipv6;
    bool fragment;
    uint8_t protocol;
} Layout;

/* IPv6 extension headers are not walked: such a packet has an unknown protocol here. */
static bool parse(const uint8_t *frame, size_t len, Layout *l)
{
    size_t at = 12;
    *l = (Layout){ 0 };
    for (unsigned tags = 0; tags < 2 && at + 6 <= len; tags++) {
        uint16_t type = get16(frame + at);
        if (type != ETH_VLAN && type != ETH_QINQ) {
            break;
        }
        at += 4;
    }
    if (at + 2 > len) {
        return false;
    }
    uint16_t type = get16(frame + at);
    const uint8_t *ip = frame + at + 2;
    l->l3 = at + 2;
    size_t room = len - l->l3;
    if (type == ETH_IPV4 && room >= IPV4_MIN && ip[0] >> 4 == 4) {
        size_t ihl = (size_t)(ip[0] & 15) * 4;
        if (ihl < IPV4_MIN || ihl > room) {
            return false;
        }
        l->l4 = l->l3 + ihl;
        l->end = l->l3 + get16(ip + 2);
        l->protocol = ip[9];
        l->fragment = get16(ip + 6) & IPV4_MF_OR_OFFSET;
        return true;
    }
    if (type == ETH_IPV6 && room >= IPV6_HEADER && ip[0] >> 4 == 6) {
        l->ipv6 = true;
        l->l4 = l->l3 + IPV6_HEADER;
        l->end = l->l4 + get16(ip + 4);
        l->protocol = ip[6];
        return true;
    }
    return false;
}

static uint32_t pseudo_sum(const uint8_t *frame, const Layout *l, uint8_t protocol, size_t l4_len)
{
    const uint8_t *ip = frame + l->l3;
    uint32_t sum = l->ipv6 ? sum_bytes(ip + 8, 32) : sum_bytes(ip + 12, 8);
    return sum + protocol + (uint32_t)(l4_len >> 16) + (uint32_t)(l4_len & 0xffff);
}

bool pta_offload_is_valid(const uint8_t *frame, size_t len)
{
    Layout l;
    if (!parse(frame, len, &l) || l.fragment || l.end > len || l.end < l.l4) {
        return false;
    }
    size_t l4_len = l.end - l.l4;
    const uint8_t *l4 = frame + l.l4;
    if (l.protocol == IP_TCP ? l4_len < TCP_MIN
                             : l.protocol != IP_UDP || l4_len < UDP_HEADER ||
                                   get16(l4 + 4) != l4_len || get16(l4 + UDP_CSUM_OFFSET) == 0) {
        return false;
    }
    return fold(pseudo_sum(frame, &l, l.protocol, l4_len) + sum_bytes(l4, l4_len)) == 0xffff;
}

/* ---- segmentation ---- */

/* Linux's smallest MSS to send by is 48 (TCP_MIN_SND_MSS), and 64 KiB are the most: a driver that asks for
 * more frames than that wants our time. */
#define MAX_SEGMENTS 1400

typedef struct Cut {
    Layout l;
    size_t headers; /* of all layers: what each frame begins with */
    size_t mss;
    const uint8_t *frame;
    size_t len;
} Cut;

static bool cut_init(Cut *c, const PtaNetHeader *hdr, const uint8_t *frame, size_t len)
{
    uint8_t type = hdr->gso_type & (uint8_t)~PTA_NET_GSO_ECN;
    *c = (Cut){ .frame = frame, .len = len, .mss = le16toh(hdr->gso_size) };
    if ((type != PTA_NET_GSO_TCPV4 && type != PTA_NET_GSO_TCPV6) || c->mss == 0 ||
        !(hdr->flags & PTA_NET_HDR_NEEDS_CSUM) || !parse(frame, len, &c->l)) {
        return false;
    }
    size_t l4 = le16toh(hdr->csum_start);
    if (c->l.ipv6 != (type == PTA_NET_GSO_TCPV6) || le16toh(hdr->csum_offset) != TCP_CSUM_OFFSET ||
        l4 < c->l.l4 || l4 + TCP_MIN > len || c->l.fragment ||
        (!c->l.ipv6 && (l4 != c->l.l4 || c->l.protocol != IP_TCP))) {
        return false;
    }
    c->l.l4 = l4; /* of IPv6: behind extension headers */
    size_t tcp_len = (size_t)(frame[l4 + 12] >> 4) * 4;
    c->headers = l4 + tcp_len;
    return tcp_len >= TCP_MIN && c->headers <= len && c->headers <= MAX_TCP_HEADERS &&
           (len - c->headers) / c->mss < MAX_SEGMENTS;
}

/* Frame number i, whose payload begins at `from`. */
static size_t cut_one(const Cut *c, unsigned i, size_t from, uint8_t *out)
{
    size_t part = MIN(c->mss, c->len - c->headers - from);
    bool last = from + part == c->len - c->headers;
    uint8_t *ip = out + c->l.l3;
    uint8_t *tcp = out + c->l.l4;
    size_t l4_len = c->headers - c->l.l4 + part;
    memcpy(out, c->frame, c->headers);
    memcpy(out + c->headers, c->frame + c->headers + from, part);
    if (c->l.ipv6) {
        put16(ip + 4, (uint16_t)(c->headers + part - c->l.l3 - IPV6_HEADER));
    } else {
        put16(ip + 2, (uint16_t)(c->headers + part - c->l.l3));
        put16(ip + 4, (uint16_t)(get16(ip + 4) + i));
        put16(ip + 10, 0);
        put16(ip + 10, (uint16_t)~fold(sum_bytes(ip, c->l.l4 - c->l.l3)));
    }
    put32(tcp + 4, get32(tcp + 4) + (uint32_t)from);
    if (!last) {
        tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
    }
    if (i > 0) {
        tcp[13] &= (uint8_t)~TCP_CWR;
    }
    put16(tcp + TCP_CSUM_OFFSET, 0);
    uint32_t sum = pseudo_sum(out, &c->l, IP_TCP, l4_len) + sum_bytes(tcp, l4_len);
    put16(tcp + TCP_CSUM_OFFSET, (uint16_t)~fold(sum));
    return c->headers + part;
}

PtaOffloadResult pta_offload_segment(const PtaNetHeader *hdr, const uint8_t *frame, size_t len,
                                     unsigned *first, PtaOffloadEmit *emit, void *opaque)
{
    Cut c;
    uint8_t out[PTA_NET_MAX_FRAME];
    if (len > sizeof(out) || !cut_init(&c, hdr, frame, len)) {
        return PTA_OFFLOAD_BAD;
    }
    size_t payload = len - c.headers;
    unsigned i = 0;
    for (size_t from = 0; from < payload || i == 0; from += c.mss, i++) {
        if (i < *first) {
            continue;
        }
        size_t n = cut_one(&c, i, from, out);
        if (!emit(opaque, out, n)) {
            *first = i;
            return PTA_OFFLOAD_STOPPED;
        }
    }
    return PTA_OFFLOAD_DONE;
}
