/* `partita run` and `partita check`: a description becomes a machine; signals, monitor sockets and
 * the machine's end become the life of the process. Main thread. */
#include "config.h"

#define G_LOG_DOMAIN "partita"

#include "src/commands.h"

#include "qmp/marshal.h"
#include "qmp/vm-monitor.h"
#include "src/machine/machine.h"
#include "src/util/i18n.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

typedef struct Run {
    MachineConfig *config;
    char *base_dir;
    PtaVm *vm;
    PtaVmMonitor *monitor;
    GMainLoop *loop;
    bool power_pressed; /* a first signal pressed the button */
    bool hangs;         /* a device did not come to rest in time */
    int status;
} Run;

/* How long the end of the process waits for requests in flight. */
#define REST_MS 10000

static void complain(const char *file, const GError *error)
{
    fprintf(stderr, "partita: %s: %s\n", file, error->message);
}

static int status_of(const GError *error)
{
    bool host = g_error_matches(error, PTA_ERROR, PTA_ERROR_HOST) ||
                g_error_matches(error, PTA_ERROR, PTA_ERROR_KVM_MISSING_CAP);
    return host ? PTA_EXIT_STATUS_HOST : PTA_EXIT_STATUS_DESCRIPTION;
}

static MachineConfig *read_description(const char *file)
{
    g_autoptr(GError) error = NULL;
    json_t *json = pta_json_load_file(file, &error);
    if (!json) {
        fprintf(stderr, "partita: %s\n", error->message);
        return NULL;
    }
    MachineConfig *config = machine_config_from_json(json, file, &error);
    json_decref(json);
    if (!config) {
        fprintf(stderr, "partita: %s\n", error->message);
    }
    return config;
}

/* One file name after the options; NULL after a complaint or --help (*status says which). */
static char *parse_words(int argc, char **argv, const char *summary, const GOptionEntry *entries,
                         int *status)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *usage = g_strdup_printf("%s MACHINE.json", argv[0]);
    g_autoptr(GOptionContext) context = g_option_context_new(_("MACHINE.json"));
    g_option_context_set_summary(context, summary);
    g_option_context_set_help_enabled(context, FALSE);
    gboolean help = FALSE;
    const GOptionEntry own[] = {
        { "help", 'h', 0, G_OPTION_ARG_NONE, &help, _("show this help"), NULL },
        G_OPTION_ENTRY_NULL,
    };
    g_option_context_add_main_entries(context, own, NULL);
    if (entries) {
        g_option_context_add_main_entries(context, entries, NULL);
    }
    g_autofree char *prgname = g_strdup_printf("partita %s", argv[0]);
    g_set_prgname(prgname);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "partita: %s\n", error->message);
        *status = PTA_EXIT_STATUS_DESCRIPTION;
        return NULL;
    }
    if (help) {
        g_autofree char *text = g_option_context_get_help(context, TRUE, NULL);
        fputs(text, stdout);
        *status = PTA_EXIT_STATUS_OK;
        return NULL;
    }
    if (argc != 2) {
        fprintf(stderr, _("partita %s: expected one machine description, found %d\n"), usage,
                argc - 1);
        *status = PTA_EXIT_STATUS_DESCRIPTION;
        return NULL;
    }
    return g_strdup(argv[1]);
}

#define SHOWN_QUIET (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING)

static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                  gpointer data)
{
    GLogLevelFlags shown = *(const GLogLevelFlags *)data;
    if (!(level & shown)) {
        return G_LOG_WRITER_HANDLED;
    }
    for (gsize i = 0; i < n_fields; i++) {
        if (g_str_equal(fields[i].key, "MESSAGE")) {
            const char *text = fields[i].value;
            fprintf(stderr, "partita: %s%s\n",
                    level & G_LOG_LEVEL_WARNING    ? "warning: "
                    : level & G_LOG_LEVEL_CRITICAL ? "critical: "
                                                   : "",
                    text);
        }
    }
    return G_LOG_WRITER_HANDLED;
}

int pta_cmd_check(int argc, char **argv)
{
    int status;
    g_autofree char *file =
        parse_words(argc, argv, _("Says whether a machine description is right."), NULL, &status);
    if (!file) {
        return status;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineConfig) config = read_description(file);
    if (!config) {
        return PTA_EXIT_STATUS_DESCRIPTION;
    }
    g_autofree char *base_dir = g_path_get_dirname(file);
    static const GLogLevelFlags shown = SHOWN_QUIET;
    g_log_set_writer_func(write_log, (gpointer)&shown, NULL);
    if (!pta_vm_check(config, base_dir, &error)) {
        complain(file, error);
        return status_of(error);
    }
    printf(_("%s: a valid description of machine \"%s\"\n"), file, config->name);
    return PTA_EXIT_STATUS_OK;
}

/* ---- run ---- */

static void on_quit(void *opaque, int status)
{
    Run *run = opaque;
    run->status = status;
    g_main_loop_quit(run->loop);
}

static const PtaVmObserver run_observer = { .quit = on_quit };

/* The first presses the power button, so that the guest may save its work; the second quits. */
static void on_signal(void *data)
{
    Run *run = data;
    if (!run->power_pressed && pta_vm_powerdown(run->vm, NULL)) {
        run->power_pressed = true;
        g_message("pressed the power button; another signal quits");
    } else {
        pta_vm_quit(run->vm, "host-signal", PTA_EXIT_STATUS_OK);
    }
}

static bool run_machine(Run *run, gboolean paused, GError **error)
{
    run->vm = pta_vm_new(run->config, run->base_dir, error);
    if (!run->vm) {
        return false;
    }
    run->monitor = pta_vm_monitor_new(run->vm, run->base_dir, error);
    if (!run->monitor) {
        return false;
    }
    pta_vm_add_observer(run->vm, &run_observer, run);
    static const int signums[] = { SIGTERM, SIGINT, SIGHUP };
    if (!pta_on_signals(signums, G_N_ELEMENTS(signums), on_signal, run, error)) {
        return false;
    }
    if (!paused) {
        pta_vm_cont(run->vm, NULL, NULL);
    }
    g_main_loop_run(run->loop);
    pta_vm_stop(run->vm, NULL, NULL);
    run->hangs = !pta_vm_wait(run->vm, REST_MS);
    return true;
}

int pta_cmd_run(int argc, char **argv)
{
    gboolean paused = FALSE, quiet = FALSE, verbose = FALSE;
    const GOptionEntry entries[] = {
        { "paused", 'S', 0, G_OPTION_ARG_NONE, &paused,
          _("do not start the machine: wait for `cont`"), NULL },
        { "quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, _("log warnings and errors only"), NULL },
        { "verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, _("log what a developer wants to know"),
          NULL },
        G_OPTION_ENTRY_NULL,
    };
    int status;
    g_autofree char *file =
        parse_words(argc, argv, _("Runs the virtual machine of a description."), entries, &status);
    if (!file) {
        return status;
    }
    static GLogLevelFlags shown;
    shown = SHOWN_QUIET;
    if (!quiet) {
        shown |= G_LOG_LEVEL_MESSAGE;
    }
    if (verbose) {
        shown |= G_LOG_LEVEL_INFO | G_LOG_LEVEL_DEBUG;
    }
    g_log_set_writer_func(write_log, &shown, NULL);

    Run run = { .config = read_description(file), .base_dir = g_path_get_dirname(file) };
    g_autoptr(GError) error = NULL;
    if (!run.config) {
        g_free(run.base_dir);
        return PTA_EXIT_STATUS_DESCRIPTION;
    }
    run.loop = g_main_loop_new(NULL, FALSE);
    if (!run_machine(&run, paused, &error)) {
        complain(file, error);
        run.status = status_of(error);
    }
    pta_vm_monitor_free(run.monitor); /* what was answered is still sent */
    if (run.hangs) {                  /* none of it was reported to the guest as done */
        g_warning("a device waits for I/O that does not end; ending without it");
        _exit(run.status);
    }
    pta_vm_free(run.vm);
    machine_config_free(run.config);
    g_main_loop_unref(run.loop);
    g_free(run.base_dir);
    return run.status;
}
