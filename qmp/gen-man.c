#include "config.h"
#include "qmp/gen.h"
char *gen_man_struct(const Schema *schema, const SchemaEntity *entity)
{
    return g_strdup("");
}
char *gen_man_qmp(const Schema *schema)
{
    return g_strdup("");
}
