/* The command line of `partita`: picks the subcommand. Main thread only. */
#include "config.h"

#include "src/commands.h"
#include "src/util/i18n.h"
#include "src/util/util.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

typedef struct Command {
    const char *name;
    const char *usage;
    const char *summary;
    int (*run)(int argc, char **argv);
} Command;

static const Command commands[] = {
    { "run", N_("run [OPTION…] MACHINE.json"), N_("run a virtual machine"), pta_cmd_run },
    { "check", N_("check MACHINE.json"), N_("check a machine description"), pta_cmd_check },
    { "monitor", N_("monitor SOCKET [COMMAND [KEY=VALUE…]]"), N_("talk to a running machine"),
      pta_cmd_monitor },
    { "inspect", N_("inspect SOCKET [PATH]"), N_("print the device tree of a running machine"),
      pta_cmd_inspect },
};

static void print_help(FILE *out)
{
    fprintf(out, _("Usage: partita COMMAND [ARGUMENT…]\n\n"));
    fprintf(out, _("Runs virtual machines, one a process.\n\n"));
    fprintf(out, _("Commands:\n"));
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        fprintf(out, "  %-40s %s\n", _(commands[i].usage), _(commands[i].summary));
    }
    fprintf(out, _("\nOptions:\n"));
    fprintf(out, "  %-40s %s\n", "-h, --help", _("show this help"));
    fprintf(out, "  %-40s %s\n", "-V, --version", _("show the version"));
    fprintf(out, _("\n`partita COMMAND --help` says more. The manual is partita(1).\n"));
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    bindtextdomain(PACKAGE, PTA_LOCALEDIR);
    textdomain(PACKAGE);
    pta_thread_init_main();
    pta_trace_init();
    if (argc < 2) {
        print_help(stderr);
        return 1;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        print_help(stdout);
        return 0;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        printf("partita %s\n", PACKAGE_VERSION);
        return 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(word, commands[i].name)) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, _("partita: unknown command \"%s\"; try `partita --help`\n"), word);
    return 1;
}
