/*
 * Guest-visible state, declared as a field table beside a padding-free struct, and its form in
 * JSON: integers as hex strings ("0x1f"; json_int_t is signed), bytes as base64. The same tables
 * serve save, restore and in-place restore.
 *
 * Input is hostile: a value is loaded into a copy, range-checked by its width, validated by the
 * owner, and only then committed.
 */
#ifndef PTA_STATE_H
#define PTA_STATE_H

#include <jansson.h>

#include "src/util/util.h"

typedef enum PtaStateType {
    PTA_STATE_UINT,   /* unsigned integer of `size` bytes */
    PTA_STATE_BYTES,  /* `size` bytes */
    PTA_STATE_STRUCT, /* one `sub` */
    PTA_STATE_ARRAY,  /* `count` elements, each a `sub` */
    PTA_STATE_UINTS,  /* `count` unsigned integers of size / count bytes */
} PtaStateType;

typedef struct PtaStateDesc PtaStateDesc;

typedef struct PtaStateField {
    const char *name;
    PtaStateType type;
    size_t offset;
    size_t size; /* of the whole field */
    size_t count;
    const PtaStateDesc *sub;
} PtaStateField;

struct PtaStateDesc {
    const char *name;
    unsigned version;
    size_t size;
    const PtaStateField *fields; /* ends with {} ; declared in order, without holes */
    /* May be NULL. False and *error (BAD_SNAPSHOT) if the combination cannot be. */
    bool (*validate)(const void *state, GError **error);
};

/* clang-format off */
#define PTA_STATE_CHECKED_(s, f, ctype) \
    (sizeof(struct { _Static_assert(__builtin_types_compatible_p(__typeof__(((s *)0)->f), ctype), \
                                    "type of the field differs from the table"); int i_; }) * 0)
#define PTA_STATE_UINT_(s, f, ctype) \
    { #f, PTA_STATE_UINT, offsetof(s, f) + PTA_STATE_CHECKED_(s, f, ctype), sizeof(((s *)0)->f), 1, \
      NULL }
#define PTA_STATE_U8(s, f)  PTA_STATE_UINT_(s, f, uint8_t)
#define PTA_STATE_U16(s, f) PTA_STATE_UINT_(s, f, uint16_t)
#define PTA_STATE_U32(s, f) PTA_STATE_UINT_(s, f, uint32_t)
#define PTA_STATE_U64(s, f) PTA_STATE_UINT_(s, f, uint64_t)
#define PTA_STATE_BLOB(s, f) \
    { #f, PTA_STATE_BYTES, offsetof(s, f), sizeof(((s *)0)->f), 1, NULL }
#define PTA_STATE_UINT_ARRAY(s, f) \
    { #f, PTA_STATE_UINTS, offsetof(s, f), sizeof(((s *)0)->f), G_N_ELEMENTS(((s *)0)->f), NULL }
#define PTA_STATE_SUB(s, f, desc) \
    { #f, PTA_STATE_STRUCT, offsetof(s, f), sizeof(((s *)0)->f), 1, (desc) }
#define PTA_STATE_SUB_ARRAY(s, f, desc) \
    { #f, PTA_STATE_ARRAY, offsetof(s, f), sizeof(((s *)0)->f), G_N_ELEMENTS(((s *)0)->f), (desc) }
/* clang-format on */

/* {"version": 1, "fields": {…}}; new reference. */
json_t *pta_state_save(const PtaStateDesc *desc, const void *state);

/* Loads and validates into *state, which is untouched unless true is returned. Unknown, missing and
 * out-of-range fields, and versions newer than ours, are refused (BAD_SNAPSHOT, with the path). */
bool pta_state_load(const PtaStateDesc *desc, json_t *json, void *state, GError **error);

#endif
