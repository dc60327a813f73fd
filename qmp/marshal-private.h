/*
 * Fields of structs whose types only the tables know. By memcpy: the compiler may assume that a
 * DeviceConfig ** is never reached through a void **.
 */
#ifndef PTA_QMP_MARSHAL_PRIVATE_H
#define PTA_QMP_MARSHAL_PRIVATE_H

#include "qmp/marshal.h"

#include <string.h>

static inline void *load_ptr(const void *field)
{
    void *p;
    memcpy(&p, field, sizeof p);
    return p;
}

static inline void store_ptr(void *field, void *p)
{
    memcpy(field, &p, sizeof p);
}

static inline size_t kind_size(PtaKind kind)
{
    switch (kind) {
    case PTA_KIND_BOOL:
        return sizeof(bool);
    case PTA_KIND_U8:
        return 1;
    case PTA_KIND_U16:
        return 2;
    case PTA_KIND_U32:
        return 4;
    case PTA_KIND_U64:
    case PTA_KIND_S64:
    case PTA_KIND_SIZE:
        return 8;
    case PTA_KIND_NUMBER:
        return sizeof(double);
    case PTA_KIND_ENUM:
        return sizeof(unsigned);
    case PTA_KIND_NULL:
        return 0;
    case PTA_KIND_STR:
    case PTA_KIND_UUID:
    case PTA_KIND_PATH:
    case PTA_KIND_ID:
    case PTA_KIND_ANY:
    case PTA_KIND_STRUCT:
    case PTA_KIND_UNION:
    case PTA_KIND_ALTERNATE:
        break;
    }
    return sizeof(void *);
}

static inline uint64_t load_number(PtaKind kind, const void *field)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    switch (kind_size(kind)) {
    case 1:
        memcpy(&u8, field, sizeof u8);
        return u8;
    case 2:
        memcpy(&u16, field, sizeof u16);
        return u16;
    case 4:
        memcpy(&u32, field, sizeof u32);
        return u32;
    default:
        memcpy(&u64, field, sizeof u64);
        return u64;
    }
}

static inline void store_number(PtaKind kind, void *field, uint64_t n)
{
    uint8_t u8 = (uint8_t)n;
    uint16_t u16 = (uint16_t)n;
    uint32_t u32 = (uint32_t)n;
    switch (kind_size(kind)) {
    case 1:
        memcpy(field, &u8, sizeof u8);
        break;
    case 2:
        memcpy(field, &u16, sizeof u16);
        break;
    case 4:
        memcpy(field, &u32, sizeof u32);
        break;
    default:
        memcpy(field, &n, sizeof n);
        break;
    }
}

static inline bool is_string_kind(PtaKind kind)
{
    return kind == PTA_KIND_STR || kind == PTA_KIND_UUID || kind == PTA_KIND_PATH ||
           kind == PTA_KIND_ID;
}

#endif
