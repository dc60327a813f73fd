/* What the schema compiler writes: each function makes one file's text. Free with g_free(). */
#ifndef PTA_QMP_GEN_H
#define PTA_QMP_GEN_H

#include "qmp/schema.h"

/* C: gen-c.c */
char *gen_types_h(const Schema *schema);
char *gen_types_c(const Schema *schema);
char *gen_commands_h(const Schema *schema);
char *gen_commands_c(const Schema *schema);
char *gen_events_h(const Schema *schema);
char *gen_events_c(const Schema *schema);

/* query-qmp-schema, query-commands, and tables for completion and help: gen-introspect.c */
char *gen_introspect_h(const Schema *schema);
char *gen_introspect_c(const Schema *schema);

/* The list that may only grow: gen-lock.c */
char *gen_lock(const Schema *schema);

/* Manual pages: gen-man.c. The first is of a struct with "manual"; both are mdoc(7). */
char *gen_man_struct(const Schema *schema, const SchemaEntity *entity);
char *gen_man_qmp(const Schema *schema);

#define GEN_MADE_BY "/* Made by schemac from schema/; do not edit. */\n"

/* The head of a .c file, which includes its own header first. */
GString *gen_source_new(const Schema *schema, const char *header);
void gen_include(GString *out, const Schema *schema, const char *header);
/* Appends text as a C string constant, NULL as NULL. */
void gen_c_string(GString *out, const char *text);

#endif
