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

/* Aligned on a terminal, where a letter is one column, or two, and any number of bytes. */
static void print_row(FILE *out, const char *word, const char *summary)
{
    enum { COLUMNS = 46 };
    int width = 0;
    for (const char *p = word; *p; p = g_utf8_next_char(p)) {
        width += g_unichar_iswide(g_utf8_get_char(p)) ? 2 : 1;
    }
    fprintf(out, "  %s%*s%s\n", word, MAX(COLUMNS - width, 1), "", summary);
}

static void print_help(FILE *out)
{
    fprintf(out, _("Usage: partita COMMAND [ARGUMENT…]\n\n"));
    fprintf(out, _("Runs virtual machines, one a process.\n\n"));
    fprintf(out, _("Commands:\n"));
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        print_row(out, _(commands[i].usage), _(commands[i].summary));
    }
    fprintf(out, _("\nOptions:\n"));
    print_row(out, "-h, --help", _("show this help"));
    print_row(out, "-V, --version", _("show the version"));
    fprintf(out, _("\n`partita COMMAND --help` says more. The manual is partita(1).\n"));
}

int main(int argc, char **argv)
{
    /* Numbers and times in JSON, QMP and logs are everybody's; each category is a file to load. */
    setlocale(LC_CTYPE, "");
    setlocale(LC_MESSAGES, "");
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
