/*
 * What a client knows about the commands of its server, from query-qmp-schema: which there are, what
 * arguments they take, and what text means as a value of a type. Read-only once made; any thread.
 */
#ifndef PTA_CLIENT_SCHEMA_H
#define PTA_CLIENT_SCHEMA_H

#include <jansson.h>

#include "src/util/util.h"

typedef struct PtaClientSchema PtaClientSchema;

/* list: what query-qmp-schema returned; lent. NULL if it is not such. */
PtaClientSchema *pta_client_schema_new(json_t *list);
void pta_client_schema_free(PtaClientSchema *schema);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PtaClientSchema, pta_client_schema_free)

bool pta_client_schema_has(const PtaClientSchema *schema, const char *command);

/* Names in natural order, to be freed with g_strfreev(). */
char **pta_client_schema_commands(const PtaClientSchema *schema);
char **pta_client_schema_events(const PtaClientSchema *schema);

/*
 * What may stand before '=' in an argument: the members of the command's arguments whose name begins
 * with prefix ("a" or "a.b"), nested ones with their whole path. A member that has members itself
 * ends in '.', any other in '='.
 */
char **pta_client_schema_keys(const PtaClientSchema *schema, const char *command,
                              const char *prefix);

/* What may stand behind it: the values of an enum, of a bool; empty where anything may. */
char **pta_client_schema_values(const PtaClientSchema *schema, const char *command,
                                const char *key);

/* "path=STR", "[depth=INT]", "[format=utf8|base64]": one for each argument. */
char **pta_client_schema_usage(const PtaClientSchema *schema, const char *command);

/*
 * Arguments from words "key=value", by the types of the schema: "a.b=1" is nested, JSON is taken
 * where a value is no scalar, "x,y" where it is a list. An object, or NULL and *error
 * (BAD_DESCRIPTION). What the schema does not know is guessed: JSON, or else a string.
 */
json_t *pta_client_schema_parse(const PtaClientSchema *schema, const char *command,
                                const char *const *words, GError **error);

#endif
