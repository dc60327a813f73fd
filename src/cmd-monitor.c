/* `partita monitor`, and what it shares with `partita inspect`: clients of a monitor socket. MAIN. */
#include "config.h"

#include "src/cmd-client.h"

#include "src/commands.h"
#include "src/monitor-console.h"
#include "src/util/i18n.h"

#include <stdio.h>
#include <string.h>

int pta_client_report(const GError *error)
{
    fprintf(stderr, "partita: %s\n", error->message);
    return g_error_matches(error, PTA_CLIENT_ERROR, PTA_CLIENT_ERROR_REFUSED)
               ? PTA_CLIENT_STATUS_REFUSED
               : PTA_CLIENT_STATUS_FAILED;
}

bool pta_client_options(char **argv, const char *parameters, const char *summary,
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
    *status = PTA_CLIENT_STATUS_OK;
    if (!g_option_context_parse_strv(context, &copy, &error)) {
        *status = pta_client_report(error);
        return false;
    }
    if (help) {
        g_autofree char *text = g_option_context_get_help(context, TRUE, NULL);
        fputs(text, stdout);
        return false;
    }
    if (g_strv_length(copy) < 2) {
        fprintf(stderr, _("partita %s: expected the path of a monitor socket\n"), argv[0]);
        *status = PTA_CLIENT_STATUS_FAILED;
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
    if (!pta_client_options(
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
        pta_client_report(error);
        return PTA_CLIENT_STATUS_FAILED;
    }
    g_autoptr(PtaClientSchema) schema =
        one_shot && !words[2] ? NULL : fetch_schema(client); /* no arguments, no types */
    if (one_shot) {
        return pta_console_execute(client, schema, json, (const char *const *)words + 1);
    }
    return pta_console_run(console, client, schema);
}
