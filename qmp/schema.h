/*
 * The schema language: files of JSON that declare types, commands and events with their
 * documentation, loaded and checked. docs/design/schema.md describes the language. The schema compiler turns the
 * model into C and manual pages; tests load it too. No thread, no global state.
 *
 * Every refusal is one error "file:line: reason".
 */
#ifndef PTA_QMP_SCHEMA_H
#define PTA_QMP_SCHEMA_H

#include <jansson.h>

#include "qmp/marshal.h"

typedef struct SchemaEntity SchemaEntity;

typedef struct SchemaPos {
    const char *file; /* interned */
    int line;
} SchemaPos;

/* A member of a struct, an argument, a branch, an enum value or a returned value. */
typedef struct SchemaMember {
    SchemaPos pos;
    char *name;
    char *c_name; /* snake_case for members, UPPER_CASE with the enum's prefix for values */
    char *doc;
    char *since;     /* NULL if as old as its entity */
    char *type_name; /* NULL for enum values */
    bool list;
    PtaKind kind;
    SchemaEntity *type; /* of enum, struct, union, alternate */
    bool optional;
    bool sensitive;
    json_t *def; /* NULL if none */
    uint64_t def_number;
    double def_real;
    char *def_text;
    bool has_min;
    bool has_max;
    int64_t min;
    uint64_t max;
    uint64_t max_length;
} SchemaMember;

typedef enum SchemaEntityKind {
    SCHEMA_STRUCT,
    SCHEMA_ENUM,
    SCHEMA_UNION,
    SCHEMA_ALTERNATE,
    SCHEMA_COMMAND,
    SCHEMA_EVENT,
} SchemaEntityKind;

typedef enum SchemaFlags {
    SCHEMA_OOB = 1 << 0,       /* never waits: may be executed out of band */
    SCHEMA_SERVER = 1 << 1,    /* answered by the monitor's server, for it concerns the session */
    SCHEMA_GENERATED = 1 << 2, /* answered by generated code: introspection */
    SCHEMA_ASYNC = 1 << 3,     /* its handler may answer later */
} SchemaFlags;

struct SchemaEntity {
    SchemaPos pos;
    SchemaEntityKind kind;
    bool implicit; /* made by the compiler: a union's tag, a command's arguments, an event's data */
    char *name;    /* of types, also their C name */
    char *c_name;  /* snake_case */
    char *doc;
    char *since;
    char *manual;       /* struct: name of the manual page that describes it, or NULL */
    json_t *example;    /* struct with a manual page: a value of it, or NULL */
    GPtrArray *members; /* SchemaMember: of a struct; the base of a union, its discriminator last */
    GPtrArray *values;  /* SchemaMember: of an enum */
    GPtrArray *branches; /* SchemaMember: of a union or alternate */
    SchemaEntity *tag;   /* of a union or alternate: the enum of its branches */
    char *data_name;     /* command, event: name of the struct of arguments or data, or NULL */
    SchemaPos data_pos;
    SchemaEntity *data;
    SchemaMember *returns; /* NULL if nothing */
    GPtrArray *errors;     /* SchemaMember: names of error classes */
    unsigned flags;
    bool visiting; /* used by passes over the graph */
    bool visited;
};

typedef struct Schema {
    GPtrArray *entities; /* owned; in the order of the files, what is implicit before its user */
    GHashTable *by_name; /* lent */
    const char *date;    /* of the manual pages; set by the user of the model */
    const char *include; /* folder of the generated headers in #include */
} Schema;

/* Loads and checks; the files make one schema. Each is opened below `dir` if that is not NULL. */
Schema *schema_load(const char *dir, const char *const *files, size_t n_files, GError **error);
void schema_free(Schema *schema);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Schema, schema_free)

SchemaEntity *schema_find(const Schema *schema, const char *name);
bool schema_is_type(const SchemaEntity *entity);
/* "struct", "enum", … */
const char *schema_kind_name(SchemaEntityKind kind);
/* bool, str, u8… as the language names it; for named types NULL. */
const char *schema_builtin_name(PtaKind kind);

/* "VirtioBlkConfig" or "qom-get" -> "virtio_blk_config", "qom_get". */
char *schema_snake(const char *name);
/* "qom-get" -> "QomGet". */
char *schema_camel(const char *name);

/* ---- JSON with line numbers (schema-json.c) ---- */

/* A value and where it stands. Items of arrays and members of objects in the order of the file. */
typedef struct SchemaNode {
    json_t *json; /* owned */
    SchemaPos pos;
    const char *key; /* if it is a member: lent by json; pos is that of the key */
    GPtrArray *items;
} SchemaNode;

/* NULL and *error "file:line: reason" if it is not strict JSON. Free with schema_node_free(). */
SchemaNode *schema_node_load(const char *dir, const char *file, GError **error);
void schema_node_free(SchemaNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SchemaNode, schema_node_free)
/* NULL if the object has no such member. */
SchemaNode *schema_node_get(const SchemaNode *node, const char *key);

/* Sets *error to "file:line: …" and returns false. */
bool schema_throw(GError **error, SchemaPos pos, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Checks that need the whole schema: names, types, defaults, recursion (schema-check.c). */
bool schema_check(Schema *schema, GError **error);

#endif
