/* Scatter-gather lists: sizes, copies and slices. */
#ifndef PTA_IOV_H
#define PTA_IOV_H

#include <string.h>
#include <sys/uio.h>

#include "src/util/util.h"

/* Copies up to len bytes from `offset` of the list into buf; how many there were. */
static inline size_t pta_iov_to_buf(const struct iovec *iov, unsigned n, size_t offset, void *buf,
                                    size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(iov[i].iov_len - offset, len - done);
        memcpy((char *)buf + done, (const char *)iov[i].iov_base + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

/* The other direction. */
static inline size_t pta_iov_from_buf(const struct iovec *iov, unsigned n, size_t offset,
                                      const void *buf, size_t len)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(iov[i].iov_len - offset, len - done);
        memcpy((char *)iov[i].iov_base + offset, (const char *)buf + done, part);
        done += part;
        offset = 0;
    }
    return done;
}

/* The part [offset, offset + len) of the list into `to`, which has room for n; how many it is. */
static inline unsigned pta_iov_slice(const struct iovec *iov, unsigned n, size_t offset, size_t len,
                                     struct iovec *to)
{
    unsigned used = 0;
    for (unsigned i = 0; i < n && len > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(iov[i].iov_len - offset, len);
        to[used++] = (struct iovec){ (char *)iov[i].iov_base + offset, part };
        len -= part;
        offset = 0;
    }
    return used;
}

/* Drops the first `len` bytes. */
static inline void pta_iov_advance(struct iovec **iov, unsigned *n, size_t len)
{
    while (*n > 0 && len >= (*iov)->iov_len) {
        len -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (*n > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + len;
        (*iov)->iov_len -= len;
    }
}

#endif
