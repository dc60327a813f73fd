/* `partita monitor` and `partita inspect`: clients of a monitor socket. Exit status: 0, 1 if the
 * server or the schema refused the command, 2 for wrong usage or no connection. MAIN. */
#include "config.h"

#include "src/commands.h"

#include "qmp/pretty.h"
#include "src/monitor-console.h"
#include "src/util/i18n.h"

#include <stdio.h>
#include <string.h>

enum { STATUS_OK, STATUS_REFUSED, STATUS_FAILED };

static int report(const GError *error)
{
    fprintf(stderr, "partita: %s\n", error->message);
    return g_error_matches(error, PTA_CLIENT_ERROR, PTA_CLIENT_ERROR_REFUSED) ? STATUS_REFUSED
                                                                              : STATUS_FAILED;
}

/* False after --help (status 0) or a complaint. *words is what is left, without argv[0]. */
static bool parse_options(char **argv, const char *parameters, const char *summary,
                          const char *description, const GOptionEntry *entries, char ***words,
                          int *status)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context = g_option_context_new(parameters);
    g_option_context_set_summary(context, summary);
    g_option_context_set_description(context, description);
    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_help_enabled(context, FALSE);
    gboolean help = FALSE;
    const GOptionEntry own[] = {
        { "help", 'h', 0, G_OPTION_ARG_NONE, &help, _("show this help"), NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_option_context_add_main_entries(context, own, NULL);
    g_autofree char *name = g_strdup_printf("partita %s", argv[0]);
    g_set_prgname(name);
    g_auto(GStrv) copy = g_strdupv(argv);
    *status = STATUS_OK;
    if (!g_option_context_parse_strv(context, &copy, &error)) {
        *status = report(error);
        return false;
    }
    if (help) {
        g_autofree char *text = g_option_context_get_help(context, TRUE, NULL);
        fputs(text, stdout);
        return false;
    }
    if (g_strv_length(copy) < 2) {
        fprintf(stderr, _("partita %s: expected the path of a monitor socket\n"), argv[0]);
        *status = STATUS_FAILED;
        return false;
    }
    *words = g_strdupv(copy + 1);
    return true;
}

static PtaClientSchema *fetch_schema(PtaClient *client)
{
    json_t *list = pta_client_call(client, "query-qmp-schema", NULL, NULL);
    PtaClientSchema *schema = list ? pta_client_schema_new(list) : NULL;
    json_decref(list);
    return schema;
}

int pta_cmd_monitor(int argc, char **argv)
{
    gboolean json = FALSE;
    const GOptionEntry entries[] = {
        { "json", 'j', 0, G_OPTION_ARG_NONE, &json, _("print JSON, one value a line"), NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_auto(GStrv) words = NULL;
    int status;
    if (!parse_options(
            argv, _("SOCKET [COMMAND [KEY=VALUE…]]"),
            _("Runs a command on a machine, or many, typed in."),
            _("Values are typed by the schema: path=/devices depth=2. Members of nested\n"
              "objects are written a.b=1, lists x,y; JSON serves for everything else."),
            entries, &words, &status)) {
        return status;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaConsole) console = pta_console_new(json);
    bool one_shot = words[1] != NULL;
    g_autoptr(PtaClient) client =
        pta_client_connect(words[0], one_shot ? NULL : pta_console_event, console, &error);
    if (!client) {
        report(error);
        return STATUS_FAILED;
    }
    g_autoptr(PtaClientSchema) schema =
        one_shot && !words[2] ? NULL : fetch_schema(client); /* no arguments, no types */
    if (one_shot) {
        return pta_console_execute(client, schema, json, (const char *const *)words + 1);
    }
    return pta_console_run(console, client, schema);
}

int pta_cmd_inspect(int argc, char **argv)
{
    gboolean json = FALSE;
    int depth = -1;
    g_autofree char *value = NULL;
    const GOptionEntry entries[] = {
        { "depth", 'd', 0, G_OPTION_ARG_INT, &depth,
          _("open at most N levels of directories; all if not given"), "N" },
        { "set", 's', 0, G_OPTION_ARG_STRING, &value, _("set the field to VALUE"), _("VALUE") },
        { "json", 'j', 0, G_OPTION_ARG_NONE, &json, _("print JSON"), NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_auto(GStrv) words = NULL;
    int status;
    if (!parse_options(argv, _("SOCKET [PATH]"), _("Prints the live device tree of a machine."),
                       NULL, entries, &words, &status)) {
        return status;
    }
    if (words[1] && words[2]) {
        fprintf(stderr, _("partita inspect: expected one path, found %s as well\n"), words[2]);
        return STATUS_FAILED;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(PtaClient) client = pta_client_connect(words[0], NULL, NULL, &error);
    if (!client) {
        report(error);
        return STATUS_FAILED;
    }
    json_t *args =
        json_pack("{s:s, s:s*}", "path", words[1] && *words[1] ? words[1] : "/", "value", value);
    if (!args) {
        fprintf(stderr, _("partita inspect: the path or value is not UTF-8\n"));
        return STATUS_FAILED;
    }
    if (depth >= 0) {
        json_object_set_new(args, "depth", json_integer(depth));
    }
    json_t *tree = pta_client_call(client, "inspect", args, &error);
    if (!tree) {
        return report(error);
    }
    if (json) {
        char *text = json_dumps(tree, JSON_ENCODE_ANY | JSON_INDENT(2));
        puts(text);
        free(text);
    } else {
        g_autofree char *text = pta_pretty(tree, true);
        fputs(text, stdout);
    }
    json_decref(tree);
    return STATUS_OK;
}
