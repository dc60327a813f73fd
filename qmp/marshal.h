/*
 * JSON to C structs and back, driven by the tables that the schema compiler writes into qmp/gen/.
 * The generated functions (machine_config_from_json() and its like) are one call of these each, so
 * that there is one parser for descriptions, command arguments, results and events.
 *
 * What comes in is hostile: unknown members, wrong types, values out of range and duplicate ids are
 * refused with the JSON path, what was expected and what was found. Any thread; no global state.
 */
#ifndef PTA_QMP_MARSHAL_H
#define PTA_QMP_MARSHAL_H

#include <jansson.h>

#include "src/util/util.h"

typedef enum PtaKind {
    PTA_KIND_BOOL,
    PTA_KIND_STR,
    PTA_KIND_U8,
    PTA_KIND_U16,
    PTA_KIND_U32,
    PTA_KIND_U64, /* from 2^63 on a negative number in JSON, whose integers are signed here */
    PTA_KIND_S64,
    PTA_KIND_NUMBER,
    PTA_KIND_SIZE, /* bytes, or a string such as "512M" */
    PTA_KIND_UUID,
    PTA_KIND_PATH, /* a string that is not empty */
    PTA_KIND_ID,   /* a letter, then letters, digits, '-', '_', '.'; unique in its list */
    PTA_KIND_ANY,
    PTA_KIND_NULL, /* in alternates only */
    PTA_KIND_ENUM,
    PTA_KIND_STRUCT,
    PTA_KIND_UNION,
    PTA_KIND_ALTERNATE,
} PtaKind;

#define PTA_ID_MAX 127 /* bytes of an id */

typedef struct PtaTypeDesc PtaTypeDesc;

typedef struct PtaMemberDesc {
    const char *name; /* in JSON */
    const char *doc;
    const PtaTypeDesc *type; /* of enum, struct, union, alternate; else NULL */
    PtaKind kind;            /* of the elements, if it is a list */
    bool list;
    bool optional;
    bool has_flag; /* `flag` is valid: has_x of an optional scalar, n_x of a list */
    bool has_default;
    bool sensitive; /* its value never appears in a message */
    size_t offset;
    size_t flag;
    int64_t min; /* of whole numbers */
    uint64_t max;
    size_t max_length; /* of strings in bytes, of lists in elements; 0 if unlimited */
    /* The default: strings in text, reals in real, all others (an enum's index too) in number. A
     * struct's is made of the defaults of its members. */
    const char *text;
    double real;
    uint64_t number;
} PtaMemberDesc;

struct PtaTypeDesc {
    const char *name;
    PtaKind kind;
    size_t size;
    const PtaMemberDesc *members; /* struct: all; union: the base, and the discriminator last */
    size_t n_members;
    const char *const *values; /* enum */
    size_t n_values;
    const PtaMemberDesc *branches; /* union, alternate: in the order of the tag's values */
    size_t n_branches;
    size_t tag; /* offset of the tag */
};

/* NULL and *error of class BAD_DESCRIPTION if json does not fit. `where` leads the message: a file's
 * name, a command's; NULL if there is nothing to say. */
void *pta_marshal_parse(const PtaTypeDesc *type, json_t *json, const char *where, GError **error);
/* A new reference. A required string that is NULL is our bug. */
json_t *pta_marshal_print(const PtaTypeDesc *type, const void *value);
void pta_marshal_free(const PtaTypeDesc *type, void *value);

/* One member of the struct at base, as results of commands are kept: print gives a new reference,
 * or NULL if it is optional and absent; clear releases what it owns. */
json_t *pta_marshal_print_member(const PtaMemberDesc *member, const void *base);
void pta_marshal_clear_member(const PtaMemberDesc *member, void *base);

const char *pta_marshal_enum_name(const PtaTypeDesc *type, unsigned value);
bool pta_marshal_enum_parse(const PtaTypeDesc *type, const char *text, unsigned *value);

/* The members of a type by name, in the base and, if tag names a branch, in that; NULL if there is
 * none. For completion. */
const PtaMemberDesc *pta_marshal_find(const PtaTypeDesc *type, const char *name);

/* Reads a file as strict JSON without duplicate members. Errors are BAD_DESCRIPTION
 * "file:line:column: reason", or HOST. A new reference. */
json_t *pta_json_load_file(const char *path, GError **error);

#endif
